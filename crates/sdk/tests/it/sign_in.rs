//! Signing a user in, and who a call is of, against a scripted vault.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantd_sdk::{
    App, AssertionRequest, AuthResult, AuthWait, ConnectRequest, Constraints, Error, GrantFilter, IdentityRequest,
};
use serde_json::{Value, json};

use crate::app;
use crate::connect::code;
use crate::server::{GRANT, KEY, Play, Server, release};

const SESSION: &str = "/sdk/auth/session";
const POLL: &str = "/sdk/auth/poll";
const VERIFY: &str = "/sdk/auth/verify-token";
const RESOLVE: &str = "/sdk/identity/resolve";
const ASSERT: &str = "/sdk/identity/assert";
const TOKEN: &str = "canary.user.token";

fn session() -> Value {
    json!({"session_token": "auth_canary", "auth_url": "http://127.0.0.1:1/sign-in#session=auth_canary",
        "expires_in": 600, "expires_at": "2026-11-24T10:10:00.000Z"})
}

fn pending() -> Play {
    Play::json(200, &json!({"status": "pending"}))
}

fn completed() -> Play {
    let user = json!({"sub": "alice", "email": "alice@example.test", "name": null});
    Play::json(200, &json!({"status": "completed", "user_token": TOKEN, "user_info": user}))
}

fn identity() -> Value {
    json!({"app_id": GRANT, "app_user_id": GRANT, "external_subject_id": "alice", "idp_id": GRANT,
        "user_status": "active", "group_ids": ["g"], "agent_id": null, "actor_id": null,
        "trace": {"run_id": "r", "thread_id": null}, "email": null, "display_name": null})
}

/// Answers creations with `created`, and polls with these in turn, the last again and again. All else is as it should be.
async fn vault(created: Play, polls: Vec<Play>) -> Server {
    let next = Mutex::new(0);
    let empty_page = json!({"grants": [], "total": 0, "limit": 1, "offset": 0, "has_more": false});
    let link = json!({"session_token": "sess_canary", "connect_url": "http://127.0.0.1:1/", "expires_in": 600,
        "expires_at": "2026-11-24T10:10:00.000Z"});
    let revoked = json!({"success": true, "message": "m", "grant_id": GRANT, "revoked_at": "2026-11-24T10:10:00.000Z"});
    let assertion = json!({"token": "canary.asserted.token", "expires_at": "2026-11-24T10:10:00.000Z",
        "identity": identity()});
    Server::start(move |seen| match &*seen.path {
        SESSION => Some(created.clone()),
        POLL => {
            let mut next = next.lock().unwrap();
            *next += 1;
            polls.get(*next - 1).or(polls.last()).cloned()
        }
        "/sdk/token" => Some(release(&json!({}))),
        "/sdk/grants/list" => Some(Play::json(200, &empty_page)),
        "/sdk/oauth/connect/session" => Some(Play::json(201, &link)),
        path if path.ends_with("/revoke") => Some(Play::json(200, &revoked)),
        RESOLVE => Some(Play::json(200, &identity())),
        ASSERT => Some(Play::json(200, &assertion)),
        _ => None,
    })
    .await
}

async fn polling(polls: Vec<Play>) -> Server {
    vault(Play::json(201, &session()), polls).await
}

fn quick() -> AuthWait {
    AuthWait::new().poll_interval(Duration::from_millis(1)).timeout(Duration::from_secs(30)).open_browser(false)
}

async fn poll(server: &Server) -> Result<AuthResult, Error> {
    app(server).poll_auth_session("auth_canary", quick()).await
}

#[tokio::test]
async fn core_94_a_user_who_signed_in_is_the_user_of_every_call() {
    let server = polling(vec![pending(), completed()]).await;
    let app = app(&server);
    let narrowed = app.with_constraints(&Constraints::new().scopes(["grants:read"])).unwrap();
    let links = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&links);
    let wait = quick().on_begun(move |session| log.lock().unwrap().push(session.auth_url));
    let signed_in = app.authenticate(wait).await.unwrap();
    assert_eq!(links.lock().unwrap()[..], [session()["auth_url"].as_str().unwrap().to_owned()]);
    let user = signed_in.user_info.as_ref().unwrap();
    assert_eq!((&*user.sub, user.email.as_deref(), user.name.as_deref()), ("alice", Some("alice@example.test"), None));
    assert!(!format!("{signed_in:?} {app:?}").contains("canary"), "{signed_in:?}");
    assert_eq!(server.at(SESSION)[0].json(), json!({}));

    app.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    app.list_grants(&GrantFilter::default()).await.unwrap();
    app.revoke_grant(GRANT, None).await.unwrap();
    app.create_connect_session(ConnectRequest::new()).await.unwrap();
    app.resolve_identity(IdentityRequest::new()).await.unwrap();
    app.assert_identity(AssertionRequest::new("urn:x")).await.unwrap();
    let revoke = format!("/sdk/oauth/grants/{GRANT}/revoke");
    for path in ["/sdk/token", "/sdk/grants/list", &*revoke, "/sdk/oauth/connect/session", RESOLVE, ASSERT] {
        assert_eq!(server.at(path)[0].json()["user_token"], TOKEN, "{path}");
    }
    // A call that names another user is that user's, and clients made from this one are signed in, too.
    app.list_grants(&GrantFilter { user_token: Some("another".to_owned()), ..GrantFilter::default() }).await.unwrap();
    narrowed.list_grants(&GrantFilter::default()).await.unwrap();
    let lists: Vec<Value> = server.at("/sdk/grants/list").iter().map(|s| s.json()["user_token"].clone()).collect();
    assert_eq!(lists, [json!(TOKEN), json!("another"), json!(TOKEN)]);
}

#[tokio::test]
async fn core_94_a_session_is_created_or_is_none() {
    let made = app(&polling(Vec::new()).await).create_auth_session().await.unwrap();
    assert_eq!((made.expires_in, &*made.session_token), (600, "auth_canary"));
    assert!(!format!("{made:?}").contains("canary"), "{made:?}");
    let server = vault(Play::json(200, &session()), vec![completed()]).await;
    let error = app(&server).authenticate(quick()).await.unwrap_err();
    assert!(matches!(error, Error::SignIn(_)) && error.classes() == ["AlterSDKError"], "{error:?}");
    assert_eq!(server.count(), 1);
    for (field, bad) in [
        ("expires_in", json!("600")),
        ("expires_in", json!(-1)),
        ("session_token", json!("")),
        ("auth_url", json!("")),
        ("expires_at", json!("")),
    ] {
        let mut answer = session();
        answer[field] = bad;
        let server = vault(Play::json(201, &answer), Vec::new()).await;
        let error = app(&server).create_auth_session().await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{field}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
    }
    let none = json!({"error": "invalid_request", "message": "no identity provider"});
    let error = app(&vault(Play::json(400, &none), Vec::new()).await).create_auth_session().await.unwrap_err();
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
}

#[tokio::test]
async fn core_94_what_is_let_go_leaves_nothing() {
    let (told, polled) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let server = Server::start(move |seen| match &*seen.path {
        SESSION => Some(Play::json(201, &session())),
        POLL => {
            let _ = told.lock().unwrap().take().map(|told| told.send(()));
            Some(pending())
        }
        _ => Some(Play::json(200, &identity())),
    })
    .await;
    let app = app(&server);
    tokio::select! {
        over = app.authenticate(quick()) => panic!("nobody signed in: {over:?}"),
        polled = polled => polled.unwrap(),
    }
    app.resolve_identity(IdentityRequest::new()).await.unwrap();
    assert_eq!(server.at(RESOLVE)[0].json(), json!({"include_profile": false}));
}

#[tokio::test]
async fn core_95_what_passes_is_waited_out() {
    let passing = [201, 204, 302, 410, 429, 500, 503].map(|status| Play::json(status, &json!({"error": "busy"})));
    let times = passing.len() + 2;
    let server = polling(passing.into_iter().chain([pending(), completed()]).collect()).await;
    assert_eq!(poll(&server).await.unwrap().user_token, TOKEN);
    let polls = server.at(POLL);
    assert_eq!(polls.len(), times);
    for poll in polls {
        let body = poll.json();
        assert_eq!((body["session_token"].as_str(), body.as_object().unwrap().len()), (Some("auth_canary"), 2));
        assert!((1..=25_000).contains(&body["wait_ms"].as_i64().unwrap()), "{body}");
    }
    // Nor does it matter that nobody listens, for as long as there is time.
    let nowhere = App::builder(KEY).base_url("http://127.0.0.1:1").build().unwrap();
    let late = nowhere.poll_auth_session("auth_canary", quick().timeout(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(&late, Error::ConnectTimeout { reason, .. } if reason == "poll_deadline_elapsed"), "{late:?}");
    assert!(late.is("ConnectTimeoutError"));
    let server = polling(vec![pending()]).await;
    let late = app(&server).poll_auth_session("auth_canary", quick().timeout(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(late, Error::ConnectTimeout { .. }), "{late:?}");
    assert_eq!(server.at(POLL)[0].json(), json!({"session_token": "auth_canary"}));
}

#[tokio::test]
async fn core_95_what_does_not_pass_ends_it() {
    for (status, wanted) in [
        (400, "BackendError"),
        (401, "BackendError"),
        (403, "PolicyViolationError"),
        (404, "GrantNotFoundError"),
        (422, "BackendError"),
    ] {
        let server = polling(vec![Play::json(status, &json!({"error": "zzz", "message": "m"})), completed()]).await;
        let error = poll(&server).await.unwrap_err();
        assert_eq!((error.classes()[0], error.status(), server.at(POLL).len()), (wanted, Some(status), 1), "{error:?}");
    }
    let error = app(&polling(Vec::new()).await).poll_auth_session("", quick()).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
}

#[tokio::test]
async fn core_95_what_went_wrong_is_told() {
    let failed = |code: &str| json!({"status": "error", "error_code": code, "error_message": "It was no.", "retry_after_seconds": 7});
    for (said, wanted, said_code, status) in [
        (failed("service_unavailable"), "BackendError", "service_unavailable", 503),
        (failed("identity_provider_inactive"), "BackendError", "identity_provider_inactive", 409),
        (failed("identity_group_name_ambiguous"), "BackendError", "identity_group_name_ambiguous", 409),
        (failed("access_denied"), "AlterSDKError", "access_denied", 200),
        (json!({"status": "error"}), "AlterSDKError", "sign_in_failed", 200),
        (json!({"status": "expired"}), "AlterSDKError", "session_expired", 200),
        (json!({"status": "dreaming"}), "AlterSDKError", "unknown_status", 200),
        (json!({"status": "completed"}), "AlterSDKError", "no_user_token", 200),
        (json!({"status": "completed", "user_token": ""}), "AlterSDKError", "no_user_token", 200),
    ] {
        let error = poll(&polling(vec![Play::json(200, &said)]).await).await.unwrap_err();
        assert_eq!((error.classes()[0], code(&error), error.status()), (wanted, said_code, Some(status)), "{error:?}");
    }
    let error = poll(&polling(vec![Play::json(200, &failed("service_unavailable"))]).await).await.unwrap_err();
    assert_eq!((error.retry_after(), &*error.refusal().unwrap().message), (Some(Duration::from_secs(7)), "It was no."));
    for garbage in [json!({}), json!([]), json!({"status": 7}), json!({"status": "completed", "user_token": 7})] {
        let error = poll(&polling(vec![Play::json(200, &garbage)]).await).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{garbage}: {error:?}");
    }
    // What is said of the user is not needed.
    for odd in [json!(null), json!(7), json!({"email": "a@b.c"})] {
        let odd = json!({"status": "completed", "user_token": TOKEN, "user_info": odd});
        assert_eq!(poll(&polling(vec![Play::json(200, &odd)]).await).await.unwrap().user_info, None);
    }
}

#[tokio::test]
async fn core_96_a_token_is_somebodys_or_nobodys() {
    let verified = async |play: Play, token: &str| {
        let server = Server::start(move |seen| (seen.path == VERIFY).then(|| play.clone())).await;
        let sub = app(&server).verify_user_token(token).await;
        (sub, server)
    };
    let alice = Play::json(200, &json!({"sub": "alice"}));
    let (sub, server) = verified(alice.clone(), TOKEN).await;
    assert_eq!((sub.as_deref(), server.at(VERIFY)[0].json()), (Some("alice"), json!({"token": TOKEN})));
    for play in [
        Play::json(201, &json!({"sub": "alice"})),
        Play::json(200, &json!({"sub": " "})),
        Play::json(200, &json!({"sub": null})),
        Play::json(200, &json!({})),
        Play { body: b"<html>".to_vec(), ..Play::empty(200) },
        Play::json(401, &json!({"error": "jwt_validation_error", "sub": "alice"})),
        Play::empty(500),
        Play::empty(302),
    ] {
        let status = play.status;
        assert_eq!(verified(play, TOKEN).await.0, None, "{status}");
    }
    let (sub, server) = verified(alice, " ").await;
    assert_eq!((sub, server.count()), (None, 0));
    let nowhere = App::builder(KEY).base_url("http://127.0.0.1:1").retries(grantd_sdk::Retries::NEVER).build().unwrap();
    assert_eq!(nowhere.verify_user_token(TOKEN).await, None);
}

#[tokio::test]
async fn core_97_who_a_call_is_of() {
    let server = polling(Vec::new()).await;
    let request = IdentityRequest::new().user_token(TOKEN).with_profile();
    assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    let identity = app(&server).resolve_identity(request).await.unwrap();
    assert_eq!((&*identity.app_id, identity.external_subject_id.as_deref()), (GRANT, Some("alice")));
    assert_eq!((identity.group_ids, identity.trace.unwrap().run_id.as_deref()), (vec!["g".to_owned()], Some("r")));
    assert_eq!(server.at(RESOLVE)[0].json(), json!({"include_profile": true, "user_token": TOKEN}));
    // Only the app is always there.
    let resolved = async |play: Play| {
        let server = Server::start(move |_| Some(play.clone())).await;
        app(&server).resolve_identity(IdentityRequest::new()).await
    };
    let least = resolved(Play::json(200, &json!({"app_id": "a", "new": 1}))).await.unwrap();
    assert_eq!((least.app_user_id, least.group_ids.len()), (None, 0));
    for bad in [json!({}), json!({"app_id": ""}), json!({"app_id": "a", "group_ids": null})] {
        assert!(matches!(resolved(Play::json(200, &bad)).await, Err(Error::Backend(_))), "{bad}");
    }
    let error = resolved(Play::json(401, &json!({"error": "jwt_validation_error"}))).await.unwrap_err();
    assert!(matches!(error, Error::ReAuthRequired(_)) && error.is("ReAuthRequiredError"), "{error:?}");
    // What can be no token is not sent.
    let app = app(&server);
    app.resolve_identity(IdentityRequest::new().user_token("x".repeat(8192))).await.unwrap();
    for bad in [String::new(), "x".repeat(8193)] {
        let error = app.resolve_identity(IdentityRequest::new().user_token(bad)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn core_100_a_token_for_somebody_else() {
    let server = polling(Vec::new()).await;
    let app = app(&server);
    let request = AssertionRequest::new("https://memory.example.com").ttl_seconds(60).user_token(TOKEN);
    assert!(!format!("{request:?}").contains("canary"), "{request:?}");
    let made = app.assert_identity(request).await.unwrap();
    assert_eq!((&*made.token, &*made.identity.app_id), ("canary.asserted.token", GRANT));
    assert_eq!(made.expires_at.to_string(), "2026-11-24T10:10:00.000Z");
    assert!(!format!("{made:?}").contains("canary"), "{made:?}");
    let wanted = json!({"include_profile": false, "user_token": TOKEN, "audience": "https://memory.example.com",
        "ttl_seconds": 60});
    assert_eq!(server.at(ASSERT)[0].json(), wanted);
    let to = |audience: &str| AssertionRequest::new(audience);
    let long = format!("urn:{}", "x".repeat(508));
    for good in [to(&long), to("urn:x").ttl_seconds(10), to("urn:x").ttl_seconds(300)] {
        app.assert_identity(good.with_profile()).await.unwrap();
    }
    assert_eq!(server.at(ASSERT)[1].json(), json!({"include_profile": true, "audience": long}));
    for bad in [
        to(""),
        to("memory"),
        to(&format!("{long}x")),
        to("urn:x").ttl_seconds(9),
        to("urn:x").ttl_seconds(301),
        to("urn:x").user_token(""),
    ] {
        let error = app.assert_identity(bad).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    }
    assert_eq!(server.count(), 4);
    for (field, bad) in [("token", json!("")), ("expires_at", json!("soon")), ("identity", json!({}))] {
        let mut answer = json!({"token": "canary", "expires_at": "2026-11-24T10:10:00Z", "identity": identity()});
        answer[field] = bad;
        let server = Server::start(move |_| Some(Play::json(200, &answer))).await;
        let error = crate::app(&server).assert_identity(to("urn:x")).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)) && !format!("{error:?}").contains("canary"), "{error:?}");
    }
}
