//! Sessions for a user's own key, against a scripted vault.

use grantd_sdk::{Error, GrantPolicy, KeyPath, KeyRequest};
use serde_json::{Value, json};

use crate::app;
use crate::connect::code;
use crate::server::{GRANT, Play, Server};

const SESSION: &str = "/sdk/managed-secrets/connect/session";

fn session() -> Value {
    json!({
        "session_token": "sess_canary", "connect_url": "http://127.0.0.1:1/#session=sess_canary", "expires_in": 600,
        "expires_at": "2026-11-24T10:10:00.000Z", "path": "repair", "existing_grant_id": GRANT, "direct": true,
        "secret_slug": "deepgram", "template_slug": null, "agent_id": null, "delegable_requested": false,
    })
}

async fn vault(play: Play) -> Server {
    Server::start(move |seen| (seen.path == SESSION).then(|| play.clone())).await
}

fn request() -> KeyRequest {
    KeyRequest::new("deepgram").user_token("canary.user.token")
}

#[tokio::test]
async fn core_98_a_session_says_what_its_user_is_asked_for() {
    let server = vault(Play::json(201, &session())).await;
    let request = request()
        .repair_grant_id(GRANT)
        .grant_policy(GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() })
        .return_url("https://app.example.com/done")
        .allowed_origin("https://app.example.com");
    assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    let made = app(&server).create_managed_secret_connect_session(request).await.unwrap();
    assert_eq!((made.path, made.existing_grant_id.as_deref()), (Some(KeyPath::Repair), Some(GRANT)));
    assert!(!format!("{made:?}").contains("sess_"), "{made:?}");
    let wanted = json!({
        "provider": "deepgram", "user_token": "canary.user.token", "repair_grant_id": GRANT,
        "grant_policy": {"max_ttl_seconds": 60}, "return_url": "https://app.example.com/done",
        "allowed_origin": "https://app.example.com",
    });
    assert_eq!(server.at(SESSION)[0].json(), wanted);
}

#[tokio::test]
async fn core_98_an_answer_that_does_not_fit_is_none() {
    let mut untold = session();
    untold["path"] = Value::Null;
    let server = vault(Play::json(201, &untold)).await;
    let made = app(&server).create_managed_secret_connect_session(request()).await.unwrap();
    assert_eq!(made.path, None);
    let mut without = session();
    without.as_object_mut().unwrap().remove("path");
    let mut another = session();
    another["secret_slug"] = json!("stripe");
    let mut unknown = session();
    unknown["path"] = json!("elsewhere");
    for answer in [without, another, unknown] {
        let server = vault(Play::json(201, &answer)).await;
        let error = app(&server).create_managed_secret_connect_session(request()).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("sess_"), "{error:?}");
    }
    for (status, text) in [
        (404, "secret_not_found"),
        (422, "secret_template_mismatch"),
        (409, "binding_hosts_required"),
        (409, "no_eligible_grants"),
    ] {
        let server = vault(Play::json(status, &json!({"error": text, "message": "m"}))).await;
        let error = app(&server).create_managed_secret_connect_session(request()).await.unwrap_err();
        assert!(matches!(error, Error::ConnectConfig(_)), "{error:?}");
        assert_eq!(code(&error), text);
    }
}

#[tokio::test]
async fn a_key_without_a_user_is_asked_of_nobody() {
    let server = vault(Play::json(201, &session())).await;
    let app = app(&server);
    for bad in [
        KeyRequest::new("deepgram"),
        request().label(""),
        request().repair_grant_id("x"),
        request().repair_grant_id(GRANT).label("l"),
    ] {
        let error = app.create_managed_secret_connect_session(bad).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    assert!(server.at(SESSION).is_empty());
}
