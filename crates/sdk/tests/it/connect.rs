//! Connect: sessions, waiting for a user, and what comes of it, against a scripted vault.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantd_sdk::{
    App, ConnectEvent, ConnectOperation, ConnectRequest, ConnectWait, Connected, Error, GrantPolicy, MintRequest,
};
use serde_json::{Value, json};

use crate::app;
use crate::server::{GRANT, Play, Server};

const SESSION: &str = "/sdk/oauth/connect/session";
const POLL: &str = "/sdk/oauth/connect/session/poll";
const MINT: &str = "/sdk/grants/0199c0de-0000-7000-8000-00000000beef/mint";

fn session() -> Value {
    json!({"session_token": "sess_canary", "connect_url": "http://127.0.0.1:1/#session=sess_canary", "expires_in": 600,
        "expires_at": "2026-11-24T10:10:00.000Z", "single_provider": true, "direct": "yes"})
}

/// Answers creations with `created`, and polls with these in turn, the last again and again.
async fn vault(created: Play, polls: Vec<Play>) -> Server {
    let next = Mutex::new(0);
    Server::start(move |seen| match &*seen.path {
        SESSION => Some(created.clone()),
        POLL => {
            let mut next = next.lock().unwrap();
            *next += 1;
            polls.get(*next - 1).or(polls.last()).cloned()
        }
        _ => None,
    })
    .await
}

async fn polling(polls: &[Value]) -> Server {
    vault(Play::json(201, &session()), polls.iter().map(|poll| Play::json(200, poll)).collect()).await
}

fn quick() -> ConnectWait {
    ConnectWait::new().poll_interval(Duration::from_millis(1)).timeout(Duration::from_secs(30)).open_browser(false)
}

async fn poll(server: &Server) -> Result<Connected, Error> {
    app(server).poll_connect_session("sess_canary", quick()).await
}

fn grant(more: &Value) -> Value {
    let mut grant = json!({"grant_id": GRANT, "provider_id": "google"});
    grant.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    grant
}

fn completed(grants: &[Value], failed: &[Value]) -> Value {
    json!({"status": "completed", "grants": grants, "failed_grants": failed})
}

pub fn code(error: &Error) -> &str {
    error.refusal().unwrap().code.as_deref().unwrap()
}

#[tokio::test]
async fn core_85_a_session_is_asked_for_with_four_fields() {
    for status in [200, 201] {
        let server = vault(Play::json(status, &session()), Vec::new()).await;
        let made = app(&server).create_connect_session(ConnectRequest::new()).await.unwrap();
        let four = json!({"allowed_providers": null, "return_url": null, "allowed_origin": null, "metadata": null});
        assert_eq!(server.at(SESSION)[0].json(), four);
        assert_eq!((made.expires_in, &*made.session_token), (600, "sess_canary"));
        assert!(made.single_provider && !made.direct, "only a real true counts");
        assert!(!format!("{made:?}").contains("sess_"), "{made:?}");
    }
    for (field, bad) in [
        ("expires_in", json!("600")),
        ("expires_in", json!(-1)),
        ("expires_in", json!(600.5)),
        ("session_token", json!("")),
        ("connect_url", json!("")),
        ("expires_at", json!("")),
        ("expires_at", Value::Null),
    ] {
        let mut answer = session();
        answer[field] = bad;
        let server = vault(Play::json(201, &answer), Vec::new()).await;
        let error = app(&server).create_connect_session(ConnectRequest::new()).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{field}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("sess_"), "{error:?}");
    }
}

#[tokio::test]
async fn core_86_every_option_has_its_field() {
    let server = vault(Play::json(201, &session()), Vec::new()).await;
    let app = app(&server);
    let request = ConnectRequest::new()
        .providers(["google"])
        .return_url("https://app.example.com/done")
        .allowed_origin("https://app.example.com")
        .metadata("ip_address", "192.0.2.1")
        .direct()
        .switch_account()
        .without_user_policy_rules()
        .grant_policy(GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() })
        .required_scopes("google", ["a", "b"])
        .label("ci")
        .restrictions(Some(&["GET"]), None)
        .agent("robot")
        .delegable(false)
        .scope_constraint(["x:y"])
        .user_token("canary.user.token");
    assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    app.create_connect_session(request).await.unwrap();
    let wanted = json!({
        "allowed_providers": ["google"], "return_url": "https://app.example.com/done",
        "allowed_origin": "https://app.example.com", "metadata": {"ip_address": "192.0.2.1"}, "direct": true,
        "switch_account": true, "allow_user_policy_rules": false, "grant_policy": {"max_ttl_seconds": 60},
        "required_scopes": {"google": ["a", "b"]},
        "requested_grant": {"label": "ci", "restrictions": {"allowed_methods": ["GET"]}}, "agent": "robot",
        "delegable": false, "scope_constraint": ["x:y"], "user_token": "canary.user.token",
    });
    assert_eq!(server.at(SESSION)[0].json(), wanted);
    app.create_connect_session(ConnectRequest::new().providers([" Google", "google"]).repair_grant_id(GRANT))
        .await
        .unwrap();
    assert_eq!(server.at(SESSION)[1].json()["repair_grant_id"], GRANT);
    // What cannot be is not sent.
    let one = || ConnectRequest::new().providers(["google"]);
    for impossible in [
        ConnectRequest::new().direct(),
        ConnectRequest::new().providers(["google", "github"]).direct(),
        ConnectRequest::new().repair_grant_id(GRANT),
        one().repair_grant_id("x"),
        one().repair_grant_id(GRANT.to_uppercase()),
        one().repair_grant_id(GRANT).switch_account(),
        one().repair_grant_id(GRANT).label("x"),
        one().repair_grant_id(GRANT).agent("x"),
        one().label(""),
        one().label("x".repeat(256)),
    ] {
        let error = app.create_connect_session(impossible).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    app.create_connect_session(one().label("é".repeat(255))).await.unwrap();
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn core_87_a_user_is_waited_for_and_told_of() {
    let declined =
        json!({"provider_id": "github", "error_code": "connect_denied", "declined_at": "2026-11-24T10:00:00.000Z"});
    let pending = json!({"status": "pending", "declined_providers": [declined]});
    let full = grant(&json!({"account_identifier": "1", "account_display_name": "ann@example.com", "scopes": ["a"],
        "operation": "reauth", "api_base_url": "https://x.example.com",
        "grant_policy": {"expires_at": "2027-11-24T10:00:00.000Z", "created_by": "developer", "created_at": null},
        "delegation": {"agent_id": GRANT, "delegable": true}}));
    let server =
        polling(&[json!({"status": "pending"}), pending.clone(), pending, completed(&[grant(&json!({})), full], &[])])
            .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let wait = quick().on_event(move |event| log.lock().unwrap().push(event));
    let done = app(&server).poll_connect_session("sess_canary", wait).await.unwrap();
    let [first, second] = &done.grants[..] else { panic!("{done:?}") };
    assert_eq!((&*first.grant_id, first.operation, first.scopes.len()), (GRANT, ConnectOperation::Creation, 0));
    assert_eq!((second.operation, second.account_identifier.as_deref()), (ConnectOperation::Reauth, Some("1")));
    assert!(second.delegation.as_ref().unwrap().delegable && second.grant_policy.is_some());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let [ConnectEvent::Declined(told)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((&*told.provider_id, &*told.error_code), ("github", "connect_denied"));
    assert!(server.at(POLL).iter().all(|poll| poll.json() == json!({"session_token": "sess_canary"})));
    assert_eq!(server.at(POLL).len(), 4);
    // What breaks the contract is no grant.
    for bad in [
        json!({"operation": "copy"}),
        json!({"scopes": null}),
        json!({"grant_id": null}),
        json!({"delegation": {"agent_id": "x", "delegable": true}}),
    ] {
        let server = polling(&[completed(&[grant(&bad)], &[])]).await;
        let error = poll(&server).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{bad}: {error:?}");
    }
}

#[tokio::test]
async fn core_88_time_that_is_over() {
    let (pending, expired) = (json!({"status": "pending"}), json!({"status": "expired"}));
    let error = poll(&polling(std::slice::from_ref(&expired)).await).await.unwrap_err();
    assert!(matches!(error, Error::ConnectFlow(_)) && error.is("ConnectFlowError"), "{error:?}");
    let error = poll(&polling(&[pending.clone(), expired]).await).await.unwrap_err();
    assert!(matches!(&error, Error::ConnectTimeout { reason, .. } if reason == "session_expired"), "{error:?}");
    let server = polling(&[pending]).await;
    let wait = quick().timeout(Duration::ZERO);
    let error = app(&server).poll_connect_session("sess_canary", wait).await.unwrap_err();
    assert!(matches!(&error, Error::ConnectTimeout { reason, .. } if reason == "poll_deadline_elapsed"), "{error:?}");
    assert!(error.classes().starts_with(&["ConnectTimeoutError", "ConnectFlowError"]));
    assert_eq!(server.at(POLL).len(), 1);
}

#[tokio::test]
async fn core_89_codes_of_a_session_choose_the_error() {
    for (said, wanted, status) in [
        ("connect_denied", "ConnectDeniedError", 200),
        ("connect_config_error", "ConnectConfigError", 200),
        ("invalid_redirect_uri", "ConnectConfigError", 200),
        ("invalid_client", "ConnectConfigError", 200),
        ("unauthorized_client", "ConnectConfigError", 200),
        ("provider_configuration_unavailable", "ConnectConfigError", 200),
        ("shared_dev_credential_unavailable", "ConnectConfigError", 200),
        ("managed_oauth_scope_approval_required", "ConnectConfigError", 200),
        ("service_unavailable", "BackendError", 503),
        ("identity_provider_inactive", "BackendError", 409),
        ("identity_group_name_ambiguous", "BackendError", 409),
        ("account_mismatch", "ConnectFlowError", 200),
    ] {
        let why = json!({"error_code": said, "error_message": "It was no.", "retry_after_seconds": 7});
        let error = poll(&polling(&[json!({"status": "error", "error": why})]).await).await.unwrap_err();
        assert_eq!((error.classes()[0], code(&error), error.status()), (wanted, said, Some(status)), "{error:?}");
        assert_eq!(
            (error.retry_after(), error.refusal().unwrap().message.as_str()),
            (Some(Duration::from_secs(7)), "It was no.")
        );
    }
    for bad in [
        json!({"status": "error", "error": {"error_code": " ", "error_message": "x"}}),
        json!({"status": "error"}),
        json!({"status": 7}),
        json!({}),
    ] {
        let error = poll(&polling(&[bad]).await).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
    }
    let error = poll(&polling(&[json!({"status": "dreaming"})]).await).await.unwrap_err();
    assert!(matches!(error, Error::ConnectFlow(_)), "{error:?}");
}

#[tokio::test]
async fn core_90_a_session_of_which_nothing_came() {
    let failed = |reason: &str| json!({"provider_id": "google", "reason": reason, "message": "No."});
    for (reasons, wanted) in [
        (&["not_selected", "activation_failed"][..], "grant_activation_failed"),
        (&["not_selected", "grant_limit"], "grant_policy_application_failed"),
    ] {
        let failed: Vec<Value> = reasons.iter().map(|reason| failed(reason)).collect();
        let error = poll(&polling(&[completed(&[], &failed)]).await).await.unwrap_err();
        assert!(matches!(&error, Error::ConnectFlow(refusal) if refusal.details["error_code"] == wanted), "{error:?}");
    }
    let none = poll(&polling(&[completed(&[], &[])]).await).await.unwrap();
    assert!(none.grants.is_empty() && none.failed.is_empty());
    let some = poll(&polling(&[completed(&[grant(&json!({}))], &[failed("not_selected")])]).await).await.unwrap();
    assert_eq!((some.grants.len(), &*some.failed[0].reason), (1, "not_selected"));
    let error = poll(&polling(&[completed(&[grant(&json!({}))], &[failed("")])]).await).await.unwrap_err();
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
}

#[tokio::test]
async fn core_91_a_rate_is_waited_out_and_all_else_ends_it() {
    let done = Play::json(200, &completed(&[grant(&json!({}))], &[]));
    let limited = Play::json(429, &json!({"error": "rate_limit_exceeded", "message": "m", "retry_after": 0}));
    let html = Play { status: 429, headers: Vec::new(), body: b"<html>".to_vec() };
    let server = vault(Play::empty(500), vec![limited, html, done]).await;
    assert_eq!(poll(&server).await.unwrap().grants.len(), 1);
    assert_eq!(server.at(POLL).len(), 3);
    for (status, code, wanted) in
        [(503, "busy", "BackendError"), (404, "", "GrantNotFoundError"), (429, "quota_exceeded", "QuotaExceededError")]
    {
        let server = vault(Play::empty(500), vec![Play::json(status, &json!({"error": code, "message": "m"}))]).await;
        let error = poll(&server).await.unwrap_err();
        assert_eq!((error.classes()[0], server.at(POLL).len()), (wanted, 1), "{error:?}");
    }
}

/// The error of a call that the vault refuses with this.
async fn refused(status: u16, body: Value) -> Error {
    let server = Server::start(move |_| Some(Play::json(status, &body))).await;
    app(&server).request("GET", "https://api.example.com/").grant_id(GRANT).send().await.unwrap_err()
}

#[tokio::test]
async fn core_92_an_error_is_mended_by_a_session_of_its_own() {
    let revoked = refused(
        403,
        json!({"error": "credential_revoked", "message": "m", "grant_id": GRANT, "provider_id": "google"}),
    )
    .await;
    let server = vault(Play::json(201, &session()), Vec::new()).await;
    let again = ConnectRequest::new().return_url("https://app.example.com/");
    app(&server).create_connect_session_for_error(&revoked, again.clone()).await.unwrap();
    let asked = server.at(SESSION)[0].json();
    assert_eq!((&asked["allowed_providers"], &asked["repair_grant_id"]), (&json!(["google"]), &json!(GRANT)));
    assert_eq!(asked["return_url"], "https://app.example.com/");
    // A grant that is gone is not mended, but made.
    let server = Server::start(|seen| {
        let is_repair = seen.json().get("repair_grant_id").is_some();
        Some(match is_repair {
            true => Play::json(404, &json!({"error": "grant_not_found", "message": "m"})),
            false => Play::json(201, &session()),
        })
    })
    .await;
    app(&server).create_connect_session_for_error(&revoked, again).await.unwrap();
    let asked: Vec<bool> = server.at(SESSION).iter().map(|s| s.json().get("repair_grant_id").is_some()).collect();
    assert_eq!(asked, [true, false]);
    let agentless = json!({"error": "no_delegated_grant", "message": "m", "provider_id": "google"});
    let mut with_agent = agentless.clone();
    with_agent["agent_id"] = json!(GRANT);
    let server = vault(Play::json(201, &session()), Vec::new()).await;
    let mend = async |error: &Error| app(&server).create_connect_session_for_error(error, ConnectRequest::new()).await;
    mend(&refused(404, with_agent).await).await.unwrap();
    assert_eq!(server.at(SESSION)[0].json()["agent"], GRANT);
    for error in [
        refused(404, agentless).await,
        refused(404, json!({"error": "grant_not_found", "message": "m"})).await,
        refused(401, json!({"error": "invalid_key", "message": "m"})).await,
    ] {
        assert!(matches!(mend(&error).await.unwrap_err(), Error::Invalid(_)), "{error:?}");
    }
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn core_93_connect_hands_out_the_link_and_waits() {
    let server = polling(&[json!({"status": "pending"}), completed(&[grant(&json!({}))], &[])]).await;
    let links = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&links);
    let wait = quick().on_event(move |event| {
        if let ConnectEvent::Begun(session) = event {
            log.lock().unwrap().push(session.connect_url);
        }
    });
    let done = app(&server).connect(ConnectRequest::new().providers(["google"]), wait).await.unwrap();
    assert_eq!(
        (&*done.grants[0].grant_id, &links.lock().unwrap()[..]),
        (GRANT, &[session()["connect_url"].as_str().unwrap().to_owned()][..])
    );
    assert_eq!(server.at(POLL)[0].json(), json!({"session_token": "sess_canary"}));
}

#[tokio::test]
async fn a_getter_gives_the_user_of_a_session_too() {
    let server = vault(Play::json(201, &session()), Vec::new()).await;
    let builder = App::builder(crate::server::KEY).base_url(server.base_url());
    let app = builder.user_token_getter(|| async { Ok("of.the.getter".to_owned()) }).build().unwrap();
    app.create_connect_session(ConnectRequest::new()).await.unwrap();
    app.create_connect_session(ConnectRequest::new().user_token("of.this.call")).await.unwrap();
    let tokens: Vec<Value> = server.at(SESSION).iter().map(|seen| seen.json()["user_token"].clone()).collect();
    assert_eq!(tokens, [json!("of.the.getter"), json!("of.this.call")]);
}

#[tokio::test]
async fn a_sibling_is_minted_and_a_conflict_names_its_label() {
    let minted = json!({"grant_id": GRANT, "provider_id": "google", "status": "active",
        "created_at": "2026-11-24T10:00:00.000Z", "principal_type": "system"});
    let server = Server::start(move |seen| (seen.path == MINT).then(|| Play::json(200, &minted))).await;
    let ask = MintRequest {
        grant_policy: Some(GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() }),
        ..MintRequest::labelled("ci")
    };
    let made = app(&server).mint_grant(GRANT, &ask).await.unwrap();
    assert_eq!((&*made.grant_id, made.label), (GRANT, None));
    assert_eq!(server.at(MINT)[0].json(), json!({"label": "ci", "grant_policy": {"max_ttl_seconds": 60}}));
    assert!(matches!(app(&server).mint_grant("../x", &ask).await, Err(Error::Invalid(_))));
    let taken = json!({"error": "sibling_label_conflict", "message": "m"});
    let server = Server::start(move |_| Some(Play::json(409, &taken))).await;
    let error = app(&server).mint_grant(GRANT, &ask).await.unwrap_err();
    assert!(matches!(&error, Error::SiblingLabelConflict { label: Some(label), .. } if label == "ci"), "{error:?}");
}
