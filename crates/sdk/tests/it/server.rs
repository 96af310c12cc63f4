//! A loopback server that plays vault and provider: checks every signature, answers by script, remembers what it saw.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use grantd_wire::sign::{
    HEADER_ACTOR_ID, HEADER_CALLER, HEADER_CALLER_TYPE, HEADER_CONTENT_SHA256, HEADER_CONTEXT, HEADER_KEY,
    HEADER_NONCE, HEADER_REQUEST_RULE, HEADER_SCOPE_CONSTRAINTS, HEADER_SIGNATURE, HEADER_SIGNATURE_V2,
    HEADER_TIMESTAMP, SigningKey, ToSign, canonical_target, hex, sha256, unhex,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const KEY: &str = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";
pub const GRANT: &str = "0199c0de-0000-7000-8000-00000000beef";
pub const EVENT: &str = "0199c0de-0000-7000-8000-00000000e0e0";
/// The base URL's path, which is sent and not signed.
const PREFIX: &str = "/alter";

/// What arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What is answered.
#[derive(Clone)]
pub struct Play {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Play {
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A release of `fields` on top of the least an answer must have.
pub fn release(fields: &Value) -> Play {
    let mut all = json!({"access_token": "tok-secret-1", "grant_id": GRANT, "provider_id": "demo"});
    all.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
    Play::json(200, &all).header("x-grantd-event-id", EVENT)
}

type Script = Box<dyn Fn(&Seen) -> Option<Play> + Send + Sync>;

pub struct Server {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers by `script`; what it leaves out is echoed, and `/never` is never answered.
    pub async fn start(script: impl Fn(&Seen) -> Option<Play> + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same on a listener that is there already.
    pub fn on(listener: TcpListener, script: impl Fn(&Seen) -> Option<Play> + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(Box::new(script));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                let service = service_fn(move |request| serve(request, Arc::clone(&script), Arc::clone(&log)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}{PREFIX}", self.address)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that arrived at `path`, in order.
    pub fn at(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|s| s.path == path).cloned().collect()
    }

    /// How many requests arrived.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn serve(
    request: Request<Incoming>,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let whole = parts.uri.path();
    let for_vault = whole.strip_prefix(PREFIX);
    let headers = parts.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
    let seen = Seen {
        method: parts.method.to_string(),
        path: for_vault.unwrap_or(whole).to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    };
    log.lock().unwrap().push(seen.clone());
    if seen.path == "/never" {
        std::future::pending::<()>().await;
    }
    let play = if for_vault.is_some() && !is_signed(&seen) {
        Play::json(401, &json!({"error": "signature_invalid", "message": "not signed"}))
    } else {
        script(&seen).unwrap_or_else(|| echo(&seen))
    };
    let mut response = Response::builder().status(play.status);
    for (name, value) in play.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(play.body)).unwrap())
}

/// What arrived, as JSON.
fn echo(seen: &Seen) -> Play {
    let body = String::from_utf8_lossy(&seen.body);
    Play::json(200, &json!({"path": seen.path, "query": seen.query, "headers": seen.headers, "body": body}))
}

/// The contract's checks of a signed request (but for its time and nonce being new).
fn is_signed(seen: &Seen) -> bool {
    let header = |name: &str| seen.headers.get(name).map(String::as_str).unwrap_or_default();
    let to_sign = ToSign {
        method: &seen.method,
        target: &canonical_target(&seen.path, Some(&seen.query)),
        timestamp: header(HEADER_TIMESTAMP),
        nonce: header(HEADER_NONCE),
        content_sha256: header(HEADER_CONTENT_SHA256),
        scope_constraints: header(HEADER_SCOPE_CONSTRAINTS),
        request_rule: header(HEADER_REQUEST_RULE),
        caller: header(HEADER_CALLER),
        caller_type: header(HEADER_CALLER_TYPE),
        actor_id: header(HEADER_ACTOR_ID),
        context: header(HEADER_CONTEXT),
    };
    let signature = unhex::<32>(header(HEADER_SIGNATURE));
    let second = if to_sign.has_identity() { header(HEADER_SIGNATURE) } else { "" };
    header(HEADER_KEY) == KEY
        && unhex::<16>(to_sign.nonce).is_some()
        && to_sign.timestamp.bytes().all(|b| b.is_ascii_digit())
        && to_sign.content_sha256 == hex(&sha256(&seen.body))
        && header(HEADER_SIGNATURE_V2) == second
        && signature.is_some_and(|s| SigningKey::derive(KEY).verify(&to_sign.text(), &s))
}
