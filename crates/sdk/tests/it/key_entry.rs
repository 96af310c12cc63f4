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
    let mut another = session();
    another["secret_slug"] = json!("stripe");
    let mut unknown = session();
    unknown["path"] = json!("elsewhere");
    let mut handed_on = session();
    handed_on["delegable_requested"] = json!(true);
    for answer in [another, unknown, handed_on, json!({})] {
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
async fn core_98_a_vault_that_ignores_a_part_is_too_old() {
    let asked = async |answer: Play, request: KeyRequest| {
        let server = vault(answer).await;
        let outcome = app(&server).create_managed_secret_connect_session(request).await;
        (outcome, server.at(SESSION)[0].json())
    };
    let too_old = |outcome: Result<grantd_sdk::KeySession, Error>, wanted: &str| {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, Error::ServerFeatureUnsupported { feature, .. } if feature == wanted), "{error:?}");
        assert_eq!(error.classes(), ["ServerFeatureUnsupportedError", "BackendError", "AlterSDKError"]);
        assert_eq!(error.refusal().unwrap().details["feature"], wanted);
        assert!(!format!("{error:?} {error}").contains("sess_"), "{error:?}");
    };
    let mut without = session();
    without.as_object_mut().unwrap().remove("path");
    too_old(asked(Play::json(201, &without), request()).await.0, "managed_secret_connect_provider");
    let for_an_agent = || request().agent("robot").delegable();
    let (outcome, sent) = asked(Play::json(201, &session()), for_an_agent()).await;
    too_old(outcome, "managed_secret_connect_delegable");
    let wanted =
        json!({"provider": "deepgram", "user_token": "canary.user.token", "agent": "robot", "delegable": true});
    assert_eq!(sent, wanted);
    let mut echoed = session();
    (echoed["delegable_requested"], echoed["agent_id"]) = (json!(true), json!(GRANT));
    let made = asked(Play::json(201, &echoed), for_an_agent()).await.0.unwrap();
    assert_eq!((made.delegable_requested, made.agent_id.as_deref()), (true, Some(GRANT)));
    // Or it says that it does not know a field, or misses the one that stood in its place.
    for (kind, field) in [("extra_forbidden", "provider"), ("missing", "template_slug")] {
        let list = json!({"detail": [{"type": kind, "loc": ["body", field], "msg": "m"}]});
        let wanted = format!("managed_secret_connect_{field}");
        too_old(asked(Play::json(422, &list), request()).await.0, &wanted);
    }
    let old_name = json!({"error": "delegated_agent_id_required", "message": "m"});
    too_old(asked(Play::json(422, &old_name), for_an_agent()).await.0, "managed_secret_connect_agent");
    // Another list is not of that kind.
    for (kind, place) in [("value_error", "body"), ("missing", "query")] {
        let list = json!({"detail": [{"type": kind, "loc": [place, "provider"], "msg": "m"}]});
        let error = asked(Play::json(422, &list), request()).await.0.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
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
