//! What is created or rotated once, however often it is sent; what is changed only as it was read.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;

/// A server that takes a request and hangs up, `lost` times; then it answers. What it gives back: the key of each request.
async fn hanging_up(lost: usize, answer: &Value) -> (String, JoinHandle<Vec<Option<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = answer.to_string();
    let keys = tokio::spawn(async move {
        let mut keys = Vec::new();
        for n in 0..=lost {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // Bodies of ours end with the object's brace.
            while !request.ends_with(b"}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let text = String::from_utf8(request).unwrap();
            keys.push(text.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).map(str::to_owned));
            if n == lost {
                let head =
                    format!("HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        }
        keys
    });
    (url, keys)
}

fn token() -> Value {
    json!({
        "token": "grantd_pat_x", "id": ID, "operator_id": ID, "name": "ci", "role": "admin", "app_ids": null,
        "created_at": "2026-11-24T10:00:00Z", "expires_at": null, "revoked_at": null, "status": "active",
    })
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_sent_again_under_the_same_key() {
    let (url, keys) = hanging_up(1, &token()).await;
    let create = ["tokens", "create", "--name", "ci", "--server", &url];
    let done = grantd(&create, "", &[("GRANTD_PAT", PAT)]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let keys = keys.await.unwrap();
    assert!(keys[0].as_ref().is_some_and(|key| key.len() == 36), "{keys:?}");
    assert_eq!(keys[0], keys[1]);

    // Every run is a request of its own.
    let (url, more) = hanging_up(0, &token()).await;
    let create = ["tokens", "create", "--name", "ci", "--server", &url];
    assert_eq!(grantd(&create, "", &[("GRANTD_PAT", PAT)]).await.exit, Exit::Ok);
    assert_ne!(more.await.unwrap()[0], keys[0]);
}

#[tokio::test]
async fn what_is_no_creation_is_not_sent_again() {
    let (url, keys) = hanging_up(1, &token()).await;
    let revoke = ["tokens", "revoke", ID, "--yes", "--server", &url];
    let done = grantd(&revoke, "", &[("GRANTD_PAT", PAT)]).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(!keys.is_finished(), "it waits for a second request");
    keys.abort();
}

#[tokio::test]
async fn what_is_confirmed_is_deleted_only_as_it_was_read() {
    let app = json!({
        "id": APP, "name": "shop", "description": null, "website_url": null, "state": "archived", "tenant_key": null,
        "tenant_mode": "off", "retrieve": "on", "indexed_context_keys": [], "connect_sign_in": "off", "return_origins": [], "created_at": "2026-11-24T10:00:00Z", "version": 1,
    });
    let server = Server::start(&[(200, app)]).await;
    let done = server.run(&["apps", "delete", APP, "--confirm", "shop"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let seen = server.seen();
    assert_eq!((&*seen[1].method, seen[1].if_match.as_deref()), ("DELETE", Some("\"as read\"")));
    assert_eq!(seen[0].if_match, None);
}
