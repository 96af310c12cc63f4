//! Calls out against real servers on loopback, most of them with TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::{OutboundAllow, Target};
use grantd_wire::limits::PROBE_ANSWER_BYTES_MAX;
use http::{HeaderMap, HeaderValue, Method};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::client::{Answered, Outgoing, exchange};
use super::*;

/// Self-signed for `localhost`. Its key is public: for tests only.
const CERT: &str = include_str!("../../tests/tls/localhost.pem");
const KEY: &str = include_str!("../../tests/tls/localhost.key");
/// Longer than any of these calls takes on a busy machine.
const LONG: Duration = Duration::from_mins(1);

struct Server {
    port: u16,
    accepted: Arc<AtomicUsize>,
    /// Every request as it came.
    seen: mpsc::UnboundedReceiver<String>,
}

fn acceptor() -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERT.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8], seen: &mpsc::UnboundedSender<String>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
    let _ = seen.send(String::from_utf8(request).unwrap());
    if bytes.is_empty() {
        // Never answers: waits until the caller has gone.
        let _ = stream.read(&mut [0]).await;
        return;
    }
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
}

impl Server {
    async fn start(tls: bool, bytes: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (tell, seen) = mpsc::unbounded_channel();
        let (counted, bytes) = (Arc::clone(&accepted), bytes.into());
        tokio::spawn(async move {
            let acceptor = acceptor();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                if !tls {
                    answer(stream, &bytes, &tell).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, &bytes, &tell).await;
                }
            }
        });
        Self { port, accepted, seen }
    }

    fn allow(&self, hosts: &[&str]) -> OutboundAllow {
        let entries: Vec<String> = hosts.iter().map(|host| format!("{host}:{}", self.port)).collect();
        OutboundAllow::parse(&entries).unwrap()
    }
}

fn trusting() -> Outbound {
    Outbound::new(Some(authorities(CERT.as_bytes()).unwrap()))
}

async fn get(outbound: &Outbound, allow: &OutboundAllow, url: &str, max: Option<usize>) -> Result<Answered, Failed> {
    get_within(outbound, allow, url, max, LONG).await
}

async fn get_within(
    outbound: &Outbound,
    allow: &OutboundAllow,
    url: &str,
    answer_bytes_max: Option<usize>,
    deadline: Duration,
) -> Result<Answered, Failed> {
    let target = Target::parse(url).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer value"));
    let outgoing = Outgoing { method: Method::GET, target: &target, headers, body: Bytes::new(), answer_bytes_max };
    exchange(outbound, allow, outgoing, deadline).await
}

fn failed(result: Result<Answered, Failed>) -> Failed {
    result.map(|answered| answered.status).unwrap_err()
}

#[tokio::test]
async fn nothing_that_is_not_public_is_dialled_unless_it_is_allowed() {
    let server = Server::start(true, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let none = OutboundAllow::default();
    for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "0.0.0.0"] {
        let url = format!("https://{host}:{}/", server.port);
        assert_eq!(failed(get(&trusting(), &none, &url, None).await), Failed::NotPublic, "{host}");
    }
    // A range does not open a cloud's metadata service, and another port opens nothing here.
    let range = OutboundAllow::parse(&["169.254.0.0/16"]).unwrap();
    assert_eq!(failed(get(&trusting(), &range, "https://169.254.169.254/", None).await), Failed::NotPublic);
    let other = OutboundAllow::parse(&["localhost:1"]).unwrap();
    let url = format!("https://localhost:{}/", server.port);
    assert_eq!(failed(get(&trusting(), &other, &url, None).await), Failed::NotPublic);
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0, "nobody was connected to");
    assert_eq!(get(&trusting(), &server.allow(&["localhost"]), &url, None).await.unwrap().status, 200);
}

#[tokio::test]
async fn without_tls_only_the_very_host_and_port_that_are_allowed() {
    let mut server = Server::start(false, "HTTP/1.1 204 No Content\r\n\r\n").await;
    let url = format!("http://127.0.0.1:{}/a?b=c", server.port);
    for allow in [OutboundAllow::default(), OutboundAllow::parse(&["127.0.0.0/8", "127.0.0.1"]).unwrap()] {
        assert_eq!(failed(get(&trusting(), &allow, &url, None).await), Failed::NotPublic);
    }
    assert_eq!(server.accepted.load(Ordering::SeqCst), 0);
    assert_eq!(get(&trusting(), &server.allow(&["127.0.0.1"]), &url, None).await.unwrap().status, 204);
    let seen = server.seen.recv().await.unwrap();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    for line in [
        &format!("host: 127.0.0.1:{}", server.port),
        "authorization: Bearer value",
        "accept-encoding: identity",
        "connection: close",
        &format!("user-agent: grantd/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(seen.lines().any(|l| l == line), "{line}\n{seen}");
    }
}

#[tokio::test]
async fn chain_and_name_of_a_certificate_are_checked_before_anything_is_sent() {
    let mut server = Server::start(true, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let allow = server.allow(&["localhost", "127.0.0.1"]);
    let of = |host: &str| format!("https://{host}:{}/", server.port);
    // Its certificate is for the name, not for the address.
    assert_eq!(failed(get(&trusting(), &allow, &of("127.0.0.1"), None).await), Failed::Tls);
    let others = Outbound::new(Some(RootCertStore::empty()));
    assert_eq!(failed(get(&others, &allow, &of("localhost"), None).await), Failed::Tls);
    assert!(server.seen.try_recv().is_err(), "no request was sent");
    assert_eq!(get(&trusting(), &allow, &of("localhost"), None).await.unwrap().status, 200);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let elsewhere = Server::start(false, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n", elsewhere.port);
    let server = Server::start(true, redirect).await;
    let allow = OutboundAllow::parse(&[format!("localhost:{}", server.port), format!("127.0.0.1:{}", elsewhere.port)]);
    let url = format!("https://localhost:{}/", server.port);
    assert_eq!(get(&trusting(), &allow.unwrap(), &url, None).await.unwrap().status, 302);
    assert_eq!(elsewhere.accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound_and_only_when_it_is_wanted() {
    for (bytes, body) in [(PROBE_ANSWER_BYTES_MAX, true), (PROBE_ANSWER_BYTES_MAX + 1, false)] {
        for chunked in [false, true] {
            let content = "x".repeat(bytes);
            let answer = match chunked {
                true => {
                    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{content}\r\n0\r\n\r\n")
                }
                false => format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{content}"),
            };
            let server = Server::start(true, answer).await;
            let (allow, url) = (server.allow(&["localhost"]), format!("https://localhost:{}/", server.port));
            let answered = get(&trusting(), &allow, &url, Some(PROBE_ANSWER_BYTES_MAX)).await.unwrap();
            assert_eq!((answered.status, answered.body.is_some()), (200, body), "{bytes} {chunked}");
            let answered = get(&trusting(), &allow, &url, None).await.unwrap();
            assert!(answered.status == 200 && answered.body.is_none());
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_fails_in_its_own_way() {
    let silent = Server::start(true, "").await;
    let url = |server: &Server| format!("https://localhost:{}/", server.port);
    let short = Duration::from_millis(200);
    let result = get_within(&trusting(), &silent.allow(&["localhost"]), &url(&silent), None, short).await;
    assert_eq!(failed(result), Failed::TimedOut);
    let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200 * 1024));
    for broken in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200", &long_head] {
        let server = Server::start(true, broken).await;
        let result = get(&trusting(), &server.allow(&["localhost"]), &url(&server), None).await;
        assert_eq!(failed(result), Failed::Broken, "{}", &broken[..12]);
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let allow = OutboundAllow::parse(&[closed.to_string()]).unwrap();
    assert_eq!(failed(get(&trusting(), &allow, &format!("http://{closed}/"), None).await), Failed::Connect);
    // Reserved never to exist (RFC 6761).
    let result = get(&trusting(), &OutboundAllow::default(), "https://nothing.invalid/", None).await;
    assert_eq!(failed(result), Failed::Name);
}

#[test]
fn authorities_are_certificates() {
    assert_eq!(authorities(CERT.as_bytes()).unwrap().len(), 1);
    assert_eq!(authorities(b"").unwrap_err(), AuthoritiesError::Empty);
    assert_eq!(authorities(KEY.as_bytes()).unwrap_err(), AuthoritiesError::Empty);
    assert_eq!(
        authorities(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err(),
        AuthoritiesError::Certificate
    );
}
