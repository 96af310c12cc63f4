//! What `grantd dev` has to call: the demo API, which shows the developer what arrived, and 401 without a credential; and the
//! [provider](issuer) whose tokens it takes.

pub mod issuer;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use grantd_server::http::{self, Bounds, Shutdown};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use issuer::Issuer;

/// Bytes of a body that is echoed; more is 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Open connections of a demo service; one more waits.
const CONNECTIONS_MAX: usize = 64;

/// Something that listens on loopback; it ends when this is dropped.
pub struct Service {
    pub address: SocketAddr,
    stop: Shutdown,
    _task: JoinHandle<io::Result<()>>,
}

impl Service {
    fn start(listener: TcpListener, router: Router) -> io::Result<Self> {
        let (address, stop) = (listener.local_addr()?, Shutdown::default());
        let bounds = Bounds { connections_max: CONNECTIONS_MAX, ..Bounds::default() };
        // Its connections are not those that the vault counts.
        let serving = http::serve(listener, None, router, bounds, Arc::default(), stop.clone());
        Ok(Self { address, stop, _task: tokio::spawn(serving) })
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cut.cancel();
    }
}

/// Starts the demo API on an address of loopback. It takes the provider's tokens while they are good, and everything that is none.
pub async fn start_api(address: SocketAddr, issuer: Arc<Issuer>) -> io::Result<Service> {
    let router = Router::new().fallback(echo).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(issuer);
    Service::start(TcpListener::bind(address).await?, router)
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

async fn echo(
    State(issuer): State<Arc<Issuer>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let has = |name: &str| headers.get(name).is_some_and(|value| !value.is_empty());
    if !has("authorization") && !has("x-api-key") {
        let refusal = r#"{"error":"unauthorized","message":"Send a credential as Authorization or X-API-Key."}"#;
        return json(StatusCode::UNAUTHORIZED, refusal.to_owned());
    }
    if issuer::bearer(&headers).and_then(|token| issuer.accepts(token)) == Some(false) {
        let refusal = r#"{"error":"invalid_token","message":"The access token has ended, or was revoked."}"#;
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
    use crate::host::Host;
    use crate::scratch::Scratch;

    #[tokio::test]
    async fn it_echoes_what_arrived_and_refuses_without_a_credential() {
        let scratch = Scratch::new();
        let (issuer, _provider) = Issuer::start(&scratch.0, Arc::new(Host)).await.unwrap();
        let demo = start_api(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), issuer).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/v1/things?a=1", demo.url());
        let refused = client.post(&url).send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        let ended = client.post(&url).header("Authorization", "bearer demo_at_x.y").send().await.unwrap();
        assert_eq!(ended.status(), 401);

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
