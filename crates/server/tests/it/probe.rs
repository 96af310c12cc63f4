//! Tests of managed secrets: the harmless call, against a vendor with TLS on loopback.

use std::sync::{Arc, Mutex};

use grantd_domain::destination::OutboundAllow;
use grantd_server::outbound::authorities;
use grantd_store::operators::Role;
use grantd_wire::Code;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::world::{VALUE, text};
use crate::harness::{Answer, Server, World, watch};

on_kept_engines! {
    a_test_says_what_the_vendor_said_and_leaves_two_events,
    what_the_answer_says_is_never_told,
    nothing_leaves_where_the_secret_may_not_go,
}

in_memory! {
    what_cannot_be_tested_says_why,
    a_test_is_for_developers_of_an_active_app,
}

const CERT: &str = include_str!("../tls/localhost.pem");
const KEY: &str = include_str!("../tls/localhost.key");

/// Answers every request with its status and body, and keeps what came.
#[derive(Clone)]
pub struct Vendor {
    port: u16,
    answer: Arc<Mutex<(u16, String)>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    pub async fn start() -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERT.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vendor = Self {
            port: listener.local_addr().unwrap().port(),
            answer: Arc::new(Mutex::new((200, String::new()))),
            seen: Arc::default(),
        };
        let shared = vendor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                shared.seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                let (status, body) = shared.answer.lock().unwrap().clone();
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nx-echo: {VALUE}\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        vendor
    }

    pub fn says(&self, status: u16, body: &str) {
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The server, with the vendor allowed and trusted.
    async fn reached_by(&self, server: &Server) -> Server {
        let allow = OutboundAllow::parse(&[self.host()]).unwrap();
        let change = |settings: &mut grantd_server::Settings| {
            settings.outbound = allow;
            settings.outbound_roots = Some(authorities_of_vendor());
        };
        server.another("tester", change).await
    }
}

/// Who vouches for the vendor.
pub fn authorities_of_vendor() -> rustls::RootCertStore {
    authorities(CERT.as_bytes()).unwrap()
}

async fn test(server: &Server, world: &World, secret: &Value) -> Answer {
    let path = world.path(&format!("managed-secrets/{}/test", text(secret, "slug")));
    server.api("POST", &path, Value::Null).await
}

async fn gitlab(server: &Server, world: &World, vendor: &Vendor) -> Value {
    let fields = json!({"host": vendor.host()});
    server
        .secret(&world.app, json!({"name": "Git", "template": "gitlab", "fields": fields, "allowed_hosts": null}))
        .await
}

async fn a_test_says_what_the_vendor_said_and_leaves_two_events(server: Server) {
    let vendor = Vendor::start().await;
    let tester = vendor.reached_by(&server).await;
    let world = server.world().await;
    let secret = gitlab(&server, &world, &vendor).await;
    for (status, works, result, outcome) in [
        (200, json!(true), "works", "allowed"),
        (401, json!(false), "refused", "denied"),
        (403, Value::Null, "unclear", "unknown"),
        (429, Value::Null, "rate_limited", "unknown"),
        (503, Value::Null, "vendor_failed", "error"),
        (302, Value::Null, "unexpected", "unknown"),
    ] {
        vendor.says(status, "");
        server.advance_ms(1_000);
        let told = test(&tester, &world, &secret).await.ok(200);
        assert_eq!((&told["works"], &told["result"], &told["status"]), (&works, &json!(result), &json!(status)));
        assert_eq!(
            (&told["method"], &told["host"], &told["template"]),
            (&json!("GET"), &json!("localhost"), &json!("gitlab"))
        );
        assert!(told["message"].as_str().unwrap().ends_with('.'));
        let (intended, answered) =
            (server.told(&world, "probe.intended").await, server.told(&world, "probe.answered").await);
        let (intended, answered) = (intended.last().unwrap(), answered.last().unwrap());
        assert_eq!((&answered["id"], &answered["intent_id"]), (&told["event_id"], &intended["id"]));
        assert_eq!((&answered["outcome"], &answered["status"]), (&json!(outcome), &json!(status)));
        assert_eq!((&answered["path"], &answered["provider_id"]), (&json!("/api/v4/user"), &json!("git")));
        assert_eq!(intended["credential_id"], secret["credential_id"]);
        // Found by its outcome, and by no other.
        let path = world.path(&format!("audit/events?kind=probe.answered&outcome={outcome}&limit=1"));
        assert_eq!(server.api("GET", &path, Value::Null).await.ok(200)["items"][0]["id"], answered["id"]);
    }
    let seen = vendor.seen();
    assert_eq!(seen.len(), 6);
    assert!(seen[0].starts_with("GET /api/v4/user HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains(&format!("private-token: {VALUE}\r\n")), "{}", seen[0]);
    // Trust and name are checked before the credential leaves.
    let distrusting = server.another("distrusting", |settings| {
        settings.outbound = OutboundAllow::parse(&[vendor.host()]).unwrap();
        settings.outbound_roots = Some(rustls::RootCertStore::empty());
    });
    let told = test(&distrusting.await, &world, &secret).await.ok(200);
    assert_eq!((&told["result"], &told["works"], &told["status"]), (&json!("tls_failed"), &Value::Null, &Value::Null));
    assert_eq!(vendor.seen().len(), 6);
}

async fn what_the_answer_says_is_never_told(server: Server) {
    let vendor = Vendor::start().await;
    let tester = vendor.reached_by(&server).await;
    let world = server.world().await;
    let fields = json!({"host": vendor.host(), "username": "admin"});
    let secret = json!({"name": "Couch", "template": "couchdb", "fields": fields, "allowed_hosts": null});
    let secret = server.secret(&world.app, secret).await;
    let body = |name: &str| format!("{{\"userCtx\":{{\"name\":{name}}},\"echo\":\"{VALUE}\"}}");
    for (answer, result) in
        [(body("\"admin\""), "works"), (body("null"), "refused"), (format!("<html>{VALUE}"), "unexpected")]
    {
        vendor.says(200, &answer);
        let answer = test(&tester, &world, &secret).await;
        assert_eq!(answer.ok(200)["result"], result);
        // The harness looks for the value in every answer, event and log line as well.
        watch::clean("the answer to a test", &answer.text);
    }
    let basic = vendor.seen().pop().unwrap();
    assert!(basic.contains("authorization: Basic "), "{basic}");
}

async fn nothing_leaves_where_the_secret_may_not_go(server: Server) {
    let vendor = Vendor::start().await;
    let tester = vendor.reached_by(&server).await;
    let world = server.world().await;
    let secret = gitlab(&server, &world, &vendor).await;
    // The server of the harness does not allow the vendor's port.
    let refused = test(&server, &world, &secret).await.refused(Code::BlockedDestination);
    assert_eq!(refused["details"]["reason"], "not_public");
    let hosts = world.path(&format!("managed-secrets/{}/allowed-hosts", text(&secret, "slug")));
    server.api("PUT", &hosts, json!({"allowed_hosts": ["git.example.com"]})).await.ok(200);
    let refused = test(&tester, &world, &secret).await.refused(Code::BlockedDestination);
    assert_eq!(refused["details"]["reason"], "no_rule");
    assert!(vendor.seen().is_empty());
    let denied = server.told(&world, "probe.denied").await;
    assert_eq!(denied.len(), 2);
    assert!(denied.iter().all(|event| event["outcome"] == "denied" && event["code"] == "blocked_destination"));
    assert!(server.told(&world, "probe.intended").await.is_empty(), "nothing was about to leave");
}

async fn what_cannot_be_tested_says_why(server: Server) {
    let world = server.world().await;
    let made = async |body: Value| server.secret(&world.app, body).await;
    // Of no template; of a template without a call; without the field its call needs.
    let none = made(json!({"name": "None"})).await;
    let exa = made(json!({"name": "Exa", "template": "exa", "allowed_hosts": null})).await;
    let shop = made(json!({"name": "Shop", "template": "shopify", "allowed_hosts": ["shop.example.com"]})).await;
    for (secret, words) in [(&none, "no template"), (&exa, "Exa documents no call"), (&shop, "fields.store")] {
        let refused = test(&server, &world, secret).await.refused(Code::InvalidValue);
        assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
        assert!(refused["hint"].as_str().unwrap().contains("grantd "), "{refused}");
    }
    let path = world.path("managed-secrets/nothing/test");
    server.api("POST", &path, Value::Null).await.refused(Code::SecretNotFound);
    let stripe = made(json!({"name": "Pay", "template": "stripe", "allowed_hosts": null})).await;
    server.revoke(&world, &text(&stripe, "grant_id")).await.ok(200);
    test(&server, &world, &stripe).await.refused(Code::CredentialDestroyed);
    assert!(server.told(&world, "probe.intended").await.is_empty());
}

async fn a_test_is_for_developers_of_an_active_app(server: Server) {
    let world = server.world().await;
    let viewer = server.new_pat(Role::Viewer, None, None).await;
    let path = world.path(&format!("managed-secrets/{}/test", world.secret));
    server.api_as(&viewer, "POST", &path, Value::Null).await.refused(Code::RoleRequired);
}
