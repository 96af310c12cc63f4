//! The client against a real server on loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic, in its helpers too")]

mod blocking;
mod cases;
mod conformance;
mod connect;
mod key_entry;
mod retries;
mod server;
mod sign_in;

use std::time::Duration;

use grantd_sdk::{App, Error, GrantFilter, Retries};
use serde_json::{Value, json};
use server::{EVENT, GRANT, KEY, Play, Server, release};

const ACTOR: &str = "0199c0de-0000-7000-8000-0000000ac702";
const REPORT: &str = "/sdk/oauth/audit/api-call";

/// Scripted refusals are looked at one by one.
fn app(server: &Server) -> App {
    App::builder(KEY).base_url(server.base_url()).retries(Retries::NEVER).build().unwrap()
}

/// Releases `fields`; all else is echoed.
async fn releasing(fields: Value) -> Server {
    Server::start(move |seen| (seen.path == "/sdk/token").then(|| release(&fields))).await
}

fn body(response: &grantd_sdk::Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[tokio::test]
async fn core_08_a_call_is_released_made_and_reported() {
    let server = releasing(json!({"token_generation": GRANT})).await;
    let app = App::builder(KEY).base_url(format!("{}/", server.base_url())).caller("billing").build().unwrap();
    let response = app
        .request("post", &server.url("/v1/{id}?fixed=1"))
        .grant_id(GRANT)
        .path_param("id", "a/b")
        .query("q", "x y")
        .json(&json!({"a": 1}))
        .header("X-Mine", "m")
        .reason("because")
        .context("run_id", "r\u{e9}")
        .send()
        .await
        .unwrap();
    assert_eq!((response.status, response.event_id.as_deref()), (200, Some(EVENT)));
    assert_eq!(body(&response)["query"], "fixed=1&q=x%20y");

    let asked = &server.at("/sdk/token")[0];
    let url = server.url("/v1/a%2Fb?fixed=1");
    let wanted = json!({"grant_id": GRANT, "reason": "because", "request": {"method": "POST", "url": url}});
    assert_eq!(asked.json(), wanted);
    assert_eq!(asked.headers["x-alter-caller"], "billing");
    assert_eq!(asked.headers["x-alter-caller-type"], "service");
    assert_eq!(asked.headers["x-alter-context"], r#"{"run_id":"r\u00e9"}"#);

    let called = &server.at("/v1/a%2Fb")[0];
    assert_eq!((&*called.method, &*called.body), ("POST", &br#"{"a":1}"#[..]));
    assert_eq!(called.headers["authorization"], "Bearer tok-secret-1");
    assert_eq!((&*called.headers["content-type"], &*called.headers["x-mine"]), ("application/json", "m"));
    assert!(called.headers.keys().all(|name| name != "x-api-key" && !name.starts_with("x-alter-")));

    app.close().await;
    let report = server.at(REPORT)[0].json();
    for (field, wanted) in [
        ("grant_id", json!(GRANT)),
        ("provider_id", json!("demo")),
        ("token_generation", json!(GRANT)),
        ("method", json!("POST")),
        ("url", json!(url)),
        ("request_headers", json!({"x-mine": "m", "content-type": "application/json"})),
        ("request_body", json!({"a": 1})),
        ("response_status", json!(200)),
        ("reason", json!("because")),
        ("context", json!({"run_id": "r\u{e9}"})),
    ] {
        assert_eq!(report[field], wanted, "{field}");
    }
    assert_eq!(report.as_object().unwrap().len(), 13);
    let text = report.to_string();
    assert!(text.contains("Bearer [redacted]") && !text.contains("tok-secret-1"), "{text}");
}

#[tokio::test]
async fn an_echoed_credential_is_redacted_only_when_asked() {
    let server = releasing(json!({})).await;
    let app = app(&server);
    let kept = app.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    assert_eq!(body(&kept)["headers"]["authorization"], "Bearer tok-secret-1");
    let redacted = app.request("GET", &server.url("/x")).grant_id(GRANT).redact_echo().send().await.unwrap();
    assert_eq!(body(&redacted)["headers"]["authorization"], "Bearer [redacted]");
}

#[tokio::test]
async fn every_kind_of_injection_reaches_the_provider() {
    let server = releasing(json!({
        "injection_header": "X-Token",
        "injection_format": "token={token}",
        "additional_credentials": {"account": "acct-secret-7"},
        "additional_injections": [
            {"target": "header", "key": "X-Account", "value_source": "additional_credentials.account"},
            {"target": "query_param", "key": "api_key", "value_source": "token"},
        ],
    }))
    .await;
    let app = app(&server);
    app.request("GET", &server.url("/x?api_key=mine&a=1")).grant_id(GRANT).send().await.unwrap();
    app.close().await;
    let called = &server.at("/x")[0];
    assert_eq!(called.headers["x-token"], "token=tok-secret-1");
    assert_eq!(called.headers["x-account"], "acct-secret-7");
    assert_eq!(called.query, "a=1&api_key=tok-secret-1");
    let report = server.at(REPORT)[0].json();
    assert_eq!(report["url"], server.url("/x?api_key=mine&a=1"));
    assert_eq!(report["request_headers"], json!({}));
    assert!(!report.to_string().contains("secret"), "{report}");
}

#[tokio::test]
async fn core_101_an_aws_call_is_signed_for_what_arrives() {
    let server = releasing(json!({
        "access_token": "AKIDEXAMPLE",
        "injection_format": "AWS4-HMAC-SHA256",
        "additional_credentials": {"secret_key": "aws-secret", "region": "eu-west-1", "service": "s3"},
    }))
    .await;
    let app = app(&server);
    app.request("PUT", &server.url("/bucket/key")).grant_id(GRANT).query("x", "1 2").body("data").send().await.unwrap();
    app.close().await;
    let called = &server.at("/bucket/key")[0];
    let header = |name: &str| called.headers[name].clone();
    assert_eq!(header("x-amz-content-sha256"), grantd_wire::sign::hex(&grantd_wire::sign::sha256(b"data")));
    assert_eq!(header("host"), server.address);
    // Signed again from what arrived, by the published recipe.
    let canonical = format!(
        "PUT\n/bucket/key\nx=1%202\nhost:{}\nx-amz-content-sha256:{}\nx-amz-date:{}\n\nhost;x-amz-content-sha256;x-amz-date\n{}",
        header("host"),
        header("x-amz-content-sha256"),
        header("x-amz-date"),
        header("x-amz-content-sha256")
    );
    let day = &header("x-amz-date")[..8];
    let scope = format!("{day}/eu-west-1/s3/aws4_request");
    let hash = grantd_wire::sign::hex(&grantd_wire::sign::sha256(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", header("x-amz-date"));
    let hmac = |key: &[u8], text: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let key =
        [day, "eu-west-1", "s3", "aws4_request"].iter().fold(b"AWS4aws-secret".to_vec(), |k, part| hmac(&k, part));
    let signature = grantd_wire::sign::hex(&hmac(&key, &text));
    assert_eq!(
        header("authorization"),
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature={signature}"
        )
    );
    let report = server.at(REPORT)[0].json();
    assert_eq!(report["request_headers"], json!({}));
}

#[tokio::test]
async fn the_actor_id_is_learnt_echoed_and_left_out_for_another_caller() {
    let other = "0199c0de-0000-7000-8000-00000000ffff";
    let server = Server::start(move |seen| {
        let play = match &*seen.path {
            "/sdk/token" => release(&json!({})),
            "/sdk/grants/list" => Play::json(403, &json!({"error": "insufficient_scope"})),
            _ => return None,
        };
        let answered = match seen.headers.get("x-alter-caller").map(String::as_str) {
            Some("one-off") => other,
            _ => ACTOR,
        };
        Some(play.header("x-alter-actor-id", answered))
    })
    .await;
    let app = app(&server);
    let call = || app.request("GET", &server.url("/x")).grant_id(GRANT);
    call().caller("one-off").send().await.unwrap();
    assert!(matches!(app.list_grants(&GrantFilter::default()).await, Err(Error::InsufficientScope { .. })));
    call().send().await.unwrap();
    call().caller("one-off").send().await.unwrap();
    app.close().await;
    let sent: Vec<_> = server.at("/sdk/token").iter().map(|s| s.headers.get("x-alter-actor-id").cloned()).collect();
    assert_eq!(sent, [None, Some(ACTOR.to_owned()), None]);
    assert!(!server.at("/sdk/grants/list")[0].headers.contains_key("x-alter-actor-id"));
}

#[tokio::test]
async fn a_refusal_is_typed_and_nothing_reaches_the_provider() {
    let server = Server::start(|seen| {
        let refusal = json!({"error": "blocked_destination", "message": "not there", "hint": "allow it"});
        (seen.path == "/sdk/token").then(|| Play::json(422, &refusal).header("x-request-id", "r-1"))
    })
    .await;
    let app = app(&server);
    let error = app.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
    let Error::BlockedDestination(refusal) = error else { panic!("{error:?}") };
    assert_eq!((refusal.hint.as_deref(), refusal.request_id.as_deref()), (Some("allow it"), Some("r-1")));
    app.close().await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn another_key_is_refused_by_its_signature() {
    let server = releasing(json!({})).await;
    let other = "alter_key_".to_owned() + &"x".repeat(40);
    let app = App::builder(other).base_url(server.base_url()).build().unwrap();
    let error = app.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code.as_deref(), Some("signature_invalid"));
}

#[tokio::test]
async fn an_answer_that_breaks_the_contract_is_not_used_nor_quoted() {
    for fields in [
        json!({"grant_id": GRANT.to_uppercase()}),
        json!({"access_token": {"tok-secret-1": 1}}),
        json!({"injection_header": "Cookie"}),
        json!({"additional_credentials": "tok-secret-1"}),
        json!({"injection_format": "AWS4-HMAC-SHA256"}),
    ] {
        let server = releasing(fields.clone()).await;
        let error = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("secret-1"), "{error:?}");
        assert_eq!(server.count(), 1, "{fields}");
    }
}

#[tokio::test]
async fn redirects_are_answers_of_a_provider_and_errors_of_a_vault() {
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        "/moved" | "/sdk/grants/list" => Some(Play::json(307, &json!({})).header("location", "/elsewhere")),
        _ => None,
    })
    .await;
    let app = app(&server);
    let response = app.request("GET", &server.url("/moved")).grant_id(GRANT).send().await.unwrap();
    assert_eq!((response.status, &response.headers["location"]), (307, &"/elsewhere".parse().unwrap()));
    let error = app.list_grants(&GrantFilter::default()).await.unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");
    assert!(server.at("/elsewhere").is_empty());
}

#[tokio::test]
async fn a_failed_provider_call_is_reported_and_quotes_no_credential() {
    let injections = json!([{"target": "query_param", "key": "key", "value_source": "token"}]);
    let server = releasing(json!({"additional_injections": injections})).await;
    let app = App::builder(KEY).base_url(server.base_url()).timeout(Duration::from_millis(300)).build().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = app.request("GET", &format!("http://{closed}/x")).grant_id(GRANT).send().await.unwrap_err();
    assert!(matches!(unreachable, Error::Network { .. }), "{unreachable:?}");
    let late = app.request("GET", &server.url("/never")).grant_id(GRANT).send().await.unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
    assert!(!format!("{unreachable:?} {late:?}").contains("tok-secret-1"));
    app.close().await;
    let mut said: Vec<_> =
        server.at(REPORT).iter().map(|s| s.json()["response_body"].as_str().unwrap().to_owned()).collect();
    said.sort();
    assert_eq!(said[0], "<transport error: network>");
    assert!(said[1].starts_with("<transport error: timeout after "), "{}", said[1]);
    assert!(server.at(REPORT).iter().all(|s| s.json()["response_status"] == 0));
}

#[tokio::test]
async fn what_can_be_checked_here_is_never_sent() {
    let server = releasing(json!({})).await;
    let (app, url) = (app(&server), server.url("/x"));
    let call = || app.request("GET", &url).grant_id(GRANT);
    for request in [
        app.request("GET", &url),
        call().provider("stripe"),
        call().account("a@example.com"),
        app.request("GET", &url).provider("stripe").label(""),
        app.request("G T", &url).grant_id(GRANT),
        app.request("CONNECT", &url).grant_id(GRANT),
        app.request("GET", "http://10.0.0.1/x").grant_id(GRANT),
        app.request("GET", &server.url("/{id}")).grant_id(GRANT),
        call().json(&1).body("2"),
        call().header("Host", "other"),
        call().header("X-A", "a\nb"),
        call().header("X A", "a"),
        call().caller(""),
        call().context("k".repeat(65), "v"),
        call().query("q", "x".repeat(65_536)),
    ] {
        let error = request.send().await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    assert!(matches!(app.revoke_grant("nonsense", None).await, Err(Error::Invalid(_))));
    assert!(matches!(App::new("alter_rk_nonsense"), Err(Error::MalformedKey)));
    assert!(App::builder(KEY).base_url("http://vault").build().is_err());
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn grants_are_listed_and_revoked() {
    let at = "2026-11-24T10:00:00.000Z";
    let server = Server::start(move |seen| {
        let grant = json!({"grant_kind": "managed_secret", "grant_id": GRANT, "status": "active",
            "principal_type": "system", "created_at": at, "managed_secret_slug": "stripe",
            "managed_secret_id": GRANT, "managed_secret_name": "Stripe", "credential_kind": "developer"});
        let page = json!({"grants": [grant], "total": 1, "limit": 5, "offset": 0, "has_more": false});
        let revoked = json!({"success": true, "message": "Revoked.", "grant_id": GRANT, "revoked_at": at});
        match &*seen.path {
            "/sdk/grants/list" => Some(Play::json(200, &page)),
            _ => Some(Play::json(200, &revoked)),
        }
    })
    .await;
    let app = app(&server);
    let filter = GrantFilter { limit: 5, status: Some("active".to_owned()), ..GrantFilter::default() };
    let page = app.list_grants(&filter).await.unwrap();
    let grant = &page.grants[0];
    assert_eq!((&*grant.grant_id, grant.managed_secret_slug.as_deref()), (GRANT, Some("stripe")));
    assert_eq!(grant.more["credential_kind"], "developer");
    assert_eq!(server.at("/sdk/grants/list")[0].json(), json!({"limit": 5, "offset": 0, "status": "active"}));
    let answer = app.revoke_grant(GRANT, Some("left")).await.unwrap();
    assert!(answer.success);
    let revoked = &server.at(&format!("/sdk/oauth/grants/{GRANT}/revoke"))[0];
    assert_eq!(revoked.json(), json!({"reason": "left"}));
}

#[tokio::test]
async fn nothing_shows_the_key() {
    let server = releasing(json!({})).await;
    let builder = App::builder(KEY);
    assert!(!format!("{builder:?}").contains("alter_rk"));
    let app = app(&server);
    let request = app.request("GET", &server.url("/x?token=t0k")).grant_id(GRANT).header("X", "h34der");
    let shown = format!("{app:?} {request:?}");
    assert!(!shown.contains("alter_rk") && !shown.contains("t0k") && !shown.contains("h34der"), "{shown}");
}

/// The example against this server: `cargo test` builds the examples beside the tests.
async fn first_call(server: &Server) -> std::process::Output {
    let directory = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples");
    let mut example = std::process::Command::new(directory.join("first_call"));
    example.env("ALTER_API_KEY", KEY).env("ALTER_BASE_URL", server.base_url());
    example.env("DEMO_URL", server.url("")).env("GRANT_ID", GRANT);
    tokio::task::spawn_blocking(move || example.output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_example_makes_its_call() {
    let server = releasing(json!({})).await;
    let output = first_call(&server).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("200 {") && output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((server.at("/hello").len(), server.at(REPORT).len()), (1, 1));
}

#[tokio::test]
async fn the_example_leaves_a_report_of_a_call_that_failed() {
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        "/hello" => Some(Play::json(500, &json!({"error": "theirs"}))),
        _ => None,
    })
    .await;
    assert!(!first_call(&server).await.status.success());
    let statuses: Vec<Value> = server.at(REPORT).iter().map(|seen| seen.json()["response_status"].clone()).collect();
    assert_eq!(statuses, [json!(500)]);
}
