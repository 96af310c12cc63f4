//! Connect sessions that operators begin, for an app.

use grantd_server::jobs::oauth as jobs;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::issuer::ID;
use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};
use crate::oauth::acme;

on_kept_engines! {
    an_operator_begins_a_session_and_sees_what_came_of_it,
}

in_memory! {
    a_session_of_an_operator_makes_the_grant_that_was_asked_for,
    what_an_operator_asks_for_must_be_possible,
    a_session_is_told_of_for_an_hour_after_its_time,
}

async fn begin(server: &Server, world: &World, more: Value) -> Answer {
    let body = merged(json!({"allowed_providers": [ID]}), more);
    server.api("POST", &world.path("connect-sessions"), body).await
}

async fn shown(server: &Server, world: &World, session: &Value) -> Value {
    let path = world.path(&format!("connect-sessions/{}", text(session, "id")));
    server.api("GET", &path, Value::Null).await.ok(200)
}

/// The user connects an account.
async fn connect(server: &Server, session: &Value) {
    let mut browser = Browser::default();
    let page = browser.open(server, session).await;
    let link = browser.start(server, &page, ID).await;
    let back = browser.back(server, &[("code", "code-1"), ("state", &link["state"])]).await;
    assert_eq!(back.status, 200, "{}", back.text);
}

async fn an_operator_begins_a_session_and_sees_what_came_of_it(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let other = server.world_named("Other").await;
    let begun = begin(&server, &world, json!({})).await.ok(201);
    let link = text(&begun, "connect_url");
    assert!(link.starts_with("http://127.0.0.1:8080/sdk/oauth/connect#session=sess_"), "{link}");
    assert_eq!(
        (&begun["status"], &begun["opened"], &begun["providers"]),
        (&json!("pending"), &json!(false), &json!([ID]))
    );
    let told = &server.told(&world, "connect.created").await[0];
    assert_eq!((&told["actor"]["type"], &told["session_id"]), (&json!("operator"), &begun["id"]), "{told}");

    // The link is shown once, and a session goes by its id, in its own app.
    let waiting = shown(&server, &world, &begun).await;
    assert!(waiting.get("connect_url").is_none() && !waiting.to_string().contains("sess_"), "{waiting}");
    let path = other.path(&format!("connect-sessions/{}", text(&begun, "id")));
    server.api("GET", &path, Value::Null).await.refused(Code::NotFound);

    let mut browser = Browser::default();
    let page = browser.open(&server, &begun).await;
    assert_eq!(shown(&server, &world, &begun).await["opened"], true);
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("code", "code-1"), ("state", &link["state"])]).await;
    let done = shown(&server, &world, &begun).await;
    assert_eq!(
        (&done["status"], &done["failed_grants"], &done["error"]),
        (&json!("completed"), &json!([]), &Value::Null)
    );
    let grant = &done["grants"][0];
    assert_eq!((&grant["provider_id"], &grant["operation"]), (&json!(ID), &json!("creation")), "{done}");
    assert_eq!(issuer.calls("/token").len(), 1);
    let listed = server.api("GET", &world.path("grants?status=active"), Value::Null).await.ok(200);
    assert!(listed["items"].as_array().unwrap().iter().any(|item| item["grant_id"] == grant["grant_id"]), "{listed}");
}

async fn a_session_of_an_operator_makes_the_grant_that_was_asked_for(server: Server) {
    let (server, world, _issuer) = acme(&server).await;
    let more = json!({"label": "nightly", "expires_in_seconds": 60, "required_scopes": {ID: ["read"]}, "direct": true});
    let begun = begin(&server, &world, more).await.ok(201);
    assert_eq!(begun["direct"], true);
    connect(&server, &begun).await;
    let grant = text(&shown(&server, &world, &begun).await["grants"][0], "grant_id");
    let path = world.path(&format!("grants/{grant}"));
    let shown_grant = server.api("GET", &path, Value::Null).await.ok(200);
    let ends = server.now().plus_seconds(60).to_string();
    assert_eq!((&shown_grant["label"], &shown_grant["expires_at"]), (&json!("nightly"), &json!(ends)), "{shown_grant}");
    // The account of that grant again, and no second one.
    let repair = begin(&server, &world, json!({"repair_grant_id": grant})).await.ok(201);
    connect(&server, &repair).await;
    let mended = shown(&server, &world, &repair).await;
    assert_eq!(
        (&mended["grants"][0]["grant_id"], &mended["grants"][0]["operation"]),
        (&json!(grant), &json!("reauth"))
    );
}

async fn what_an_operator_asks_for_must_be_possible(server: Server) {
    let (server, world, _issuer) = acme(&server).await;
    for (bad, field) in [
        (json!({"allowed_providers": ["google"]}), "allowed_providers"),
        (json!({"allowed_providers": []}), "allowed_providers"),
        (json!({"required_scopes": {"google": ["a"]}}), "required_scopes"),
        (json!({"repair_grant_id": world.grant, "switch_account": true}), "repair_grant_id"),
        (json!({"allowed_origin": "https://app.example.com/"}), "allowed_origin"),
        (json!({"session_token": "x"}), "session_token"),
        (json!({"user_token": "x"}), "user_token"),
    ] {
        begin(&server, &world, bad).await.names(Code::InvalidRequest, field);
    }
    for (bad, field) in [
        (json!({"label": ""}), "label"),
        (json!({"label": "x".repeat(256)}), "label"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"expires_in_seconds": 316_224_001}), "expires_in_seconds"),
    ] {
        begin(&server, &world, bad).await.names(Code::InvalidValue, field);
    }
    begin(&server, &world, json!({"label": "x".repeat(255), "expires_in_seconds": 316_224_000})).await.ok(201);
    begin(&server, &world, json!({"repair_grant_id": world.grant})).await.refused(Code::GrantNotFound);
    begin(&server, &world, json!({"return_url": "http://app.example.com/"})).await.refused(Code::InvalidRedirectUri);
    let before = server.told(&world, "connect.created").await.len();
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    begin(&server, &world, json!({})).await.refused(Code::Conflict);
    assert_eq!((before, server.told(&world, "connect.created").await.len()), (1, 1));
}

async fn a_session_is_told_of_for_an_hour_after_its_time(server: Server) {
    let (server, world, _issuer) = acme(&server).await;
    let begun = begin(&server, &world, json!({})).await.ok(201);
    server.advance_ms(599_999);
    assert_eq!(shown(&server, &world, &begun).await["status"], "pending");
    server.advance_ms(1);
    assert_eq!(shown(&server, &world, &begun).await["status"], "expired");
    server.advance_ms(3_600_000);
    jobs::prune_sessions(&server.vault).await.unwrap();
    assert_eq!(shown(&server, &world, &begun).await["status"], "expired");
    server.advance_ms(1);
    jobs::prune_sessions(&server.vault).await.unwrap();
    let path = world.path(&format!("connect-sessions/{}", text(&begun, "id")));
    server.api("GET", &path, Value::Null).await.refused(Code::NotFound);
}
