//! The demo API of `grantd dev`: on loopback, it shows the developer what arrived, and 401 without a credential.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Bytes of a body that is echoed; more is 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A running demo API; it ends when this is dropped.
pub struct Demo {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Demo {
    /// Starts on an address of loopback.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let app = Router::new().fallback(echo).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "The demo API ended");
            }
        });
        Ok(Self { address, task })
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Serialize)]
struct Echo {
    method: String,
    path: String,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// Instead of `body` when it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_b64: Option<String>,
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    if !has("authorization") && !has("x-api-key") {
        let refusal = r#"{"error":"unauthorized","message":"Send a credential as Authorization or X-API-Key."}"#;
        return json(StatusCode::UNAUTHORIZED, refusal.to_owned());
    }
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        shown
            .entry(name.to_string())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    let (text, encoded) = match std::str::from_utf8(&body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64::prelude::BASE64_STANDARD.encode(&body))),
    };
    let echo = Echo {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        headers: shown,
        body: text,
        body_b64: encoded,
    };
    json(StatusCode::OK, serde_json::to_string_pretty(&echo).expect("an echo is JSON"))
}

fn json(status: StatusCode, text: String) -> Response {
    let challenge = (header::WWW_AUTHENTICATE, "Bearer");
    let content_type = (header::CONTENT_TYPE, "application/json");
    match status {
        StatusCode::UNAUTHORIZED => (status, [content_type, challenge], text).into_response(),
        _ => (status, [content_type], text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn it_echoes_what_arrived_and_refuses_without_a_credential() {
        let demo = Demo::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/v1/things?a=1", demo.url());
        let refused = client.post(&url).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");

        let answer = client.post(&url).header("X-API-Key", "k").body("{\"x\":1}").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let echo: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(echo["method"], "POST");
        assert_eq!(echo["path"], "/v1/things");
        assert_eq!(echo["query"], "a=1");
        assert_eq!(echo["headers"]["x-api-key"], "k");
        assert_eq!(echo["body"], "{\"x\":1}");

        let binary = client.put(&url).header("Authorization", "Bearer t").body(vec![0xff]).send().await.unwrap();
        assert_eq!(binary.json::<serde_json::Value>().await.unwrap()["body_b64"], "/w==");
    }
}
