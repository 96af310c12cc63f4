//! What is tried again, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grantd_sdk::{App, Error, GrantFilter, GrantPolicy, Principal, Retries, SecretGrantRequest};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::REPORT;
use crate::server::{GRANT, KEY, Play, Server, release};

fn app(server: &Server) -> App {
    App::builder(KEY).base_url(server.base_url()).build().unwrap()
}

fn page() -> Value {
    json!({"grants": [], "total": 0, "limit": 100, "offset": 0, "has_more": false})
}

/// Answers `refusal` to the first call of each kind and then `good`.
async fn first_refused(path: &'static str, refusal: Play, good: Play) -> Server {
    let asked = AtomicUsize::new(0);
    Server::start(move |seen| match seen.path == path {
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => Some(refusal.clone()),
        true => Some(good.clone()),
        false => None,
    })
    .await
}

fn busy(status: u16, code: &str, after: &str) -> Play {
    Play::json(status, &json!({"error": code, "message": "m"})).header("retry-after", after)
}

#[tokio::test]
async fn a_refused_release_is_asked_for_again_with_another_nonce() {
    for refusal in [busy(503, "busy", "0"), busy(429, "rate_limit_exceeded", "0")] {
        let server = first_refused("/sdk/token", refusal, release(&json!({}))).await;
        let response = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
        assert_eq!(response.status, 200);
        let asked = server.at("/sdk/token");
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0].body, asked[1].body);
        assert_ne!(asked[0].headers["x-alter-nonce"], asked[1].headers["x-alter-nonce"]);
        assert_eq!(server.at("/x").len(), 1);
    }
}

#[tokio::test]
async fn attempts_end() {
    let server = Server::start(|_| Some(busy(503, "draining", "0"))).await;
    let error = app(&server).list_grants(&GrantFilter::default()).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn a_pause_that_is_too_long_is_left_to_the_caller() {
    let server = Server::start(|_| Some(busy(429, "rate_limit_exceeded", "6"))).await;
    let error = app(&server).list_grants(&GrantFilter::default()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(6)));
    assert!(error.is_retryable());
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn what_would_make_a_second_one_is_not_repeated_after_503() {
    let ask = SecretGrantRequest {
        principal: Principal::System { label: None },
        grant_policy: GrantPolicy::default(),
        credential_id: None,
    };
    let server = Server::start(|_| Some(busy(503, "storage_unavailable", "0"))).await;
    assert!(app(&server).create_managed_secret_grant("stripe", &ask).await.is_err());
    assert_eq!(server.count(), 1);

    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        REPORT => Some(busy(503, "audit_unavailable", "0")),
        _ => None,
    })
    .await;
    let client = app(&server);
    client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    client.close().await;
    assert_eq!(server.at(REPORT).len(), 1);
}

#[tokio::test]
async fn nothing_else_is_repeated() {
    for play in [
        busy(500, "internal", "0"),
        busy(409, "token_refresh_in_progress", "0"),
        busy(401, "nonce_replayed", "0"),
        busy(429, "quota_exceeded", "0"),
        Play::json(503, &json!({"error": "busy"})),
    ] {
        let server = first_refused("/sdk/token", play, release(&json!({}))).await;
        assert!(app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.is_err());
        assert_eq!(server.count(), 1);
    }
    // The provider's refusals are the provider's.
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        "/x" => Some(busy(503, "busy", "0")),
        _ => None,
    })
    .await;
    let error = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
    assert!(matches!(error, Error::ProviderApi { .. }) && !error.is_retryable(), "{error:?}");
    assert_eq!((server.at("/x").len(), server.at("/sdk/token").len()), (1, 1));
}

#[tokio::test]
async fn a_vault_that_is_being_restarted_is_waited_for() {
    // Bound, so that nobody else takes the port, and not listening, so that connections are refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let base_url = format!("http://{}", socket.local_addr().unwrap());
    let once = App::builder(KEY).base_url(&base_url).retries(Retries::NEVER).build().unwrap();
    let error = once.list_grants(&GrantFilter::default()).await.unwrap_err();
    assert!(matches!(error, Error::Network { nothing_sent: true, .. }) && error.is_retryable(), "{error:?}");

    let retries = Retries { retries_max: 5, wait_max: Duration::from_mins(1) };
    let patient = App::builder(KEY).base_url(&base_url).retries(retries).build().unwrap();
    let call = tokio::spawn(async move { patient.list_grants(&GrantFilter::default()).await });
    // However long this takes, the call goes through.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let server = Server::on(socket.listen(16).unwrap(), |_| Some(Play::json(200, &page())));
    let answer = call.await.unwrap();
    assert_eq!(answer.unwrap().total, 0);
    assert_eq!(server.count(), 1);
}
