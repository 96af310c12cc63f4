//! Targets that call a whole vault in memory, as its HTTP surface is called. Asserted of every answer: it is one of ours (a status
//! that is no 500, JSON where there is a body), and it does not hold the sealed value unless it is a release.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::{Clock, Entropy};
use grantd_domain::seal::{RootKey, RootKeys};
use grantd_server::{Settings, Vault, entry, install, routes};
use grantd_store::{Location, Store};
use grantd_wire::TimeMs;
use grantd_wire::sign::{self, SigningKey, ToSign, hex, sha256};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const NOW: TimeMs = TimeMs(1_795_510_400_000);
/// What nobody may see but by a release.
const VALUE: &str = "canary-in-a-fuzzer";

/// A clock that stands still, and numbers that never repeat.
struct Steady;

impl Clock for Steady {
    fn now(&self) -> TimeMs {
        NOW
    }
}

impl Entropy for Steady {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        for chunk in bytes.chunks_mut(32) {
            let hash = sha256(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            chunk.copy_from_slice(&hash[..chunk.len()]);
        }
    }
}

struct World {
    runtime: tokio::runtime::Runtime,
    router: axum::Router,
    pat: String,
    app: String,
    key: String,
    grant: String,
}

thread_local! {
    static WORLD: OnceCell<World> = const { OnceCell::new() };
}

fn with_world(run: impl FnOnce(&World)) {
    WORLD.with(|world| run(world.get_or_init(World::create)));
}

impl World {
    fn create() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (router, pat) = runtime.block_on(async {
            let store = Store::open(&Location::Memory, "fuzz", 1).await.expect("a store in memory");
            store.migrate(NOW).await.expect("a new schema");
            let root = || RootKeys::new(RootKey::new(&[7; 32]), Vec::new());
            let created = install::create(&store, &root(), &Steady, install::new_first_token(&Steady)).await;
            let pat = created.expect("a new install").pat.expect("its first token").reveal().to_owned();
            let settings = Settings {
                base_path: String::new(),
                public_url: "http://127.0.0.1:8080".to_owned(),
                trusted_proxies: Vec::new(),
                replicas: 1,
                outbound: OutboundAllow::parse(&[] as &[&str]).expect("an empty list is one"),
                outbound_roots: None,
                cache_bytes: 1 << 20,
                auth_failures_per_minute: grantd_wire::limits::AUTH_FAILURES_PER_MINUTE,
                retention: grantd_wire::Retention::default(),
                sso: None,
            };
            let vault = Vault::open(store, root(), Arc::new(Steady), settings).await.expect("the install opens");
            (entry::router(vault), pat)
        });
        let mut world = Self { runtime, router, pat, app: String::new(), key: String::new(), grant: String::new() };
        world.app = world.made("/api/v1/apps", &json!({"name": "Fuzz"}), "id");
        let app = format!("/api/v1/apps/{}", world.app);
        let secret = json!({"name": "Fuzz", "credential_type": "bearer_token", "value": VALUE,
            "allowed_hosts": ["api.example.com"]});
        world.grant = world.made(&format!("{app}/managed-secrets"), &secret, "grant_id");
        let key = json!({"name": "fuzz", "scopes": grantd_wire::scope::all()});
        world.key = world.made(&format!("{app}/keys"), &key, "api_key");
        world
    }

    fn made(&self, path: &str, body: &Value, field: &str) -> String {
        let request = self.as_operator("POST", path, body.to_string().into_bytes());
        let (status, answer) = self.send(request);
        let answer: Value = serde_json::from_slice(&answer).expect("answers are JSON");
        assert_eq!(status, 201, "{answer}");
        answer[field].as_str().expect("it names what it made").to_owned()
    }

    fn as_operator(&self, method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", self.pat));
        request.body(Body::from(body)).expect("routes are paths")
    }

    /// Signed as the official client does.
    fn signed(
        &self,
        method: &str,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Option<Request<Body>> {
        static NONCES: AtomicU64 = AtomicU64::new(1);
        let mut request = Request::builder().method(method).uri(path).body(()).ok()?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let text =
            |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (caller, caller_type, actor, context) = (
            text(sign::HEADER_CALLER),
            text(sign::HEADER_CALLER_TYPE),
            text(sign::HEADER_ACTOR_ID),
            text(sign::HEADER_CONTEXT),
        );
        let (constraints, rule) = (text(sign::HEADER_SCOPE_CONSTRAINTS), text(sign::HEADER_REQUEST_RULE));
        let nonce = hex(&sha256(&NONCES.fetch_add(1, Ordering::Relaxed).to_be_bytes())[..16]);
        let (timestamp, hash) = (NOW.0.div_euclid(1000).to_string(), hex(&sha256(&body)));
        let target = sign::canonical_target(request.uri().path(), request.uri().query());
        let to_sign = ToSign {
            method,
            target: &target,
            timestamp: &timestamp,
            nonce: &nonce,
            content_sha256: &hash,
            scope_constraints: &constraints,
            request_rule: &rule,
            caller: &caller,
            caller_type: &caller_type,
            actor_id: &actor,
            context: &context,
        };
        let signature = SigningKey::derive(&self.key).sign(&to_sign.text());
        let mut own = vec![
            (sign::HEADER_KEY, self.key.as_str()),
            (sign::HEADER_TIMESTAMP, &timestamp),
            (sign::HEADER_NONCE, &nonce),
            (sign::HEADER_CONTENT_SHA256, &hash),
            (sign::HEADER_SIGNATURE, &signature),
        ];
        if to_sign.has_identity() {
            own.push((sign::HEADER_SIGNATURE_V2, &signature));
        }
        for (name, value) in own {
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("ASCII"));
        }
        Some(request.map(|()| Body::from(body)))
    }

    /// Sends it, and looks the answer over.
    fn send(&self, request: Request<Body>) -> (u16, Vec<u8>) {
        let what = format!("{} {}", request.method(), request.uri().path());
        self.runtime.block_on(async {
            let answer = self.router.clone().oneshot(request).await.expect("the router always answers");
            let status = answer.status().as_u16();
            let is_json = answer.headers().get("content-type").is_some_and(|t| t == "application/json");
            let body = answer.into_body().collect().await.expect("a body in memory").to_bytes();
            assert_ne!(status, 500, "{what}: {}", String::from_utf8_lossy(&body));
            assert!(!is_json || serde_json::from_slice::<Value>(&body).is_ok(), "{what}: {status} with no JSON");
            let is_release = what == "POST /sdk/token" && status == 200;
            let shows = body.windows(VALUE.len()).any(|window| window == VALUE.as_bytes());
            assert!(is_release || !shows, "{what} shows a value");
            (status, body.to_vec())
        })
    }
}

/// Splits off the first line.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|b| *b == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// A path in the pattern's place, its open segments filled with something that exists.
fn filled(pattern: &str, world: &World) -> String {
    let first = if pattern.starts_with("/api/v1/apps/") { &world.app } else { &world.grant };
    pattern.replacen("{}", first, 1).replace("{}", &world.grant)
}

/// First byte: the route; a line of headers as `name:value|name:value`; the rest is the body. Signed, so that it reaches the handler.
pub fn sdk(data: &[u8]) {
    let Some((route, rest)) = data.split_first() else { return };
    let (headers, body) = line(rest);
    let headers: Vec<_> = headers.split(|b| *b == b'|').filter_map(header).take(16).collect();
    with_world(|world| {
        let route = &routes::SDK[usize::from(*route) % routes::SDK.len()];
        // Bodies name the grant by `G`, so that the fuzzer finds the way in.
        let body = replaced(body, b"GGGG", world.grant.as_bytes());
        let request = world.signed(route.method, &filled(route.path, world), &headers, body);
        if let Some(request) = request {
            world.send(request);
        }
    });
}

/// First byte: the route; a line of query; the rest is the body.
pub fn management(data: &[u8]) {
    let Some((route, rest)) = data.split_first() else { return };
    let (query, body) = line(rest);
    with_world(|world| {
        let route = &routes::API[usize::from(*route) % routes::API.len()];
        let mut path = filled(route.path, world);
        if !query.is_empty() {
            path.push('?');
            path.push_str(&String::from_utf8_lossy(query));
        }
        if path.parse::<http::Uri>().is_ok() {
            world.send(world.as_operator(route.method, &path, body.to_vec()));
        }
    });
}

/// A head as it comes, with nothing right about it: method, target, then a header a line.
pub fn head(data: &[u8]) {
    let (method, rest) = line(data);
    let (target, mut rest) = line(rest);
    let Ok(method) = Method::from_bytes(method) else { return };
    let Ok(request) = Request::builder().method(method).uri(target).body(Body::empty()) else { return };
    let mut request = request;
    while !rest.is_empty() && request.headers().len() < 64 {
        let (one, others) = line(rest);
        if let Some((name, value)) = header(one) {
            request.headers_mut().append(name, value);
        }
        rest = others;
    }
    with_world(|world| drop(world.send(request)));
}

fn header(text: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = text.iter().position(|b| *b == b':')?;
    Some((HeaderName::from_bytes(&text[..colon]).ok()?, HeaderValue::from_bytes(&text[colon + 1..]).ok()?))
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
