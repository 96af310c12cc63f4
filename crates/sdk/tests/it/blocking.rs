//! The blocking client: the same calls from threads without a runtime.

use std::sync::mpsc;
use std::time::Duration;

use grantd_sdk::{App, AssertionRequest, AuthWait, Constraints, Error, GrantFilter, IdentityRequest};
use serde_json::json;

use crate::REPORT;
use crate::server::{GRANT, KEY, Play, Server, release};

/// A server on a thread of its own, which lives as long as the test.
fn serve() -> Server {
    let (started, waiting) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(|seen| match &*seen.path {
                "/sdk/token" => Some(release(&json!({}))),
                "/sdk/grants/list" => Some(Play::json(
                    200,
                    &json!({"grants": [], "total": 0, "limit": 1, "offset": 0, "has_more": false}),
                )),
                "/sdk/auth/session" => Some(Play::json(
                    201,
                    &json!({"session_token": "s", "auth_url": "u", "expires_in": 1, "expires_at": "2026-11-24T10:10:00Z"}),
                )),
                "/sdk/auth/poll" => Some(Play::json(200, &json!({"status": "completed", "user_token": "jwt"}))),
                "/sdk/auth/verify-token" => Some(Play::json(200, &json!({"sub": "alice"}))),
                "/sdk/identity/resolve" => Some(Play::json(200, &json!({"app_id": "a"}))),
                "/sdk/identity/assert" => Some(Play::json(
                    200,
                    &json!({"token": "t", "expires_at": "2026-11-24T10:10:00Z", "identity": {"app_id": "a"}}),
                )),
                _ => None,
            })
            .await;
            started.send(server).unwrap();
            std::future::pending::<()>().await;
        });
    });
    waiting.recv_timeout(Duration::from_mins(1)).unwrap()
}

#[test]
fn calls_are_made_and_reported_without_a_runtime() {
    let server = serve();
    let app = App::builder(KEY).base_url(server.base_url()).build_blocking().unwrap();
    let response =
        app.request("post", &server.url("/{id}")).grant_id(GRANT).path_param("id", "7").body("b").send().unwrap();
    assert_eq!(response.json::<serde_json::Value>().unwrap()["headers"]["authorization"], "Bearer tok-secret-1");
    assert_eq!(app.list_grants(&GrantFilter::default()).unwrap().total, 0);
    app.close().unwrap();
    assert_eq!(server.at(REPORT).len(), 1);
    let narrow = app.with_constraints(&Constraints::new().scopes(["grants:read"])).unwrap();
    narrow.list_grants(&GrantFilter::default()).unwrap();
    assert_eq!(server.at("/sdk/grants/list")[1].headers["x-alter-scope-constraints"], "grants:read");
}

#[test]
fn core_94_core_96_core_97_core_100_a_user_signs_in_without_a_runtime() {
    let server = serve();
    let app = App::builder(KEY).base_url(server.base_url()).build_blocking().unwrap();
    let begun = app.create_auth_session().unwrap();
    assert_eq!(app.poll_auth_session(&begun.session_token, AuthWait::new()).unwrap().user_token, "jwt");
    app.authenticate(AuthWait::new().open_browser(false).on_begun(drop)).unwrap();
    assert_eq!(app.resolve_identity(IdentityRequest::new()).unwrap().app_id, "a");
    assert_eq!(app.assert_identity(AssertionRequest::new("urn:x")).unwrap().token, "t");
    assert_eq!(server.at("/sdk/identity/resolve")[0].json()["user_token"], "jwt");
    assert_eq!(app.verify_user_token("jwt").unwrap().as_deref(), Some("alice"));
}

#[test]
fn many_threads_share_one_client() {
    let server = serve();
    let app = App::builder(KEY).base_url(server.base_url()).build_blocking().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| app.request("GET", &server.url("/x")).grant_id(GRANT).send().unwrap());
        }
    });
    app.close().unwrap();
    assert_eq!((server.at("/x").len(), server.at(REPORT).len()), (8, 8));
}

#[tokio::test]
async fn inside_a_runtime_a_blocking_call_says_what_to_do() {
    let server = Server::start(|_| Some(release(&json!({})))).await;
    let app = App::builder(KEY).base_url(server.base_url()).build_blocking().unwrap();
    for outcome in [
        app.verify_user_token("jwt").map(drop),
        app.request("GET", &server.url("/x")).grant_id(GRANT).send().map(drop),
        app.list_grants(&GrantFilter::default()).map(drop),
        app.close(),
    ] {
        let Err(Error::Invalid(why)) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("grantd_sdk::App") && why.contains("std::thread"), "{why}");
    }
    assert_eq!(server.count(), 0);
    // What it is made from works here, and letting it go does not panic.
    app.as_async().request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    drop(app);
}

#[test]
fn no_token_and_no_key_is_shown() {
    let app = App::builder(KEY).build_blocking().unwrap();
    let request = app.request("GET", "https://a.example/?token=t0k").grant_id(GRANT).user_token("jwt");
    let shown = format!("{app:?} {request:?}");
    assert!(!shown.contains("alter_rk") && !shown.contains("t0k") && !shown.contains("jwt"), "{shown}");
}
