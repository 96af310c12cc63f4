use axum::routing::get;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use grantd_wire::limits::{HEAD_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::connection::{HEAD_BYTES_SLACK, HEAD_TIMEOUT, HEADERS_SLACK, WRITE_STALL};
use super::*;

mod slow;

/// Self-signed for `localhost`, 2020 to 2120. Its key is public: for these tests only.
const CERT: &str = "-----BEGIN CERTIFICATE-----
MIIBXzCCAQSgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABB9rNClKuEDo5GVc
Ff1TO8rEkyDwtAEH3/16C13VQfyjnrVoq3cfwIOCPtlJTbv+Wr4jrumZ2xwYtjf5
OHu4326jRTBDMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAMBgNVHRMBAf8EAjAAMB0G
A1UdDgQWBBSaF8RYrU56NDejZc1JP4M0j/1uTTAKBggqhkjOPQQDAgNJADBGAiEA
6XfRIIW/3uvxUYZlN0llOGZ7PNJBGi7tRBdt9fYO2TQCIQCwzCOTJnMGmOpq/2PV
ncYJvEjNYe8UJtj5qfbXAAMzCw==
-----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGu2OUG3ZjUMc0jst
G5L0x/xugREv5ICErR+jDYtkjA6hRANCAAQfazQpSrhA6ORlXBX9UzvKxJMg8LQB
B9/9egtd1UH8o561aKt3H8CDgj7ZSU27/lq+I67pmdscGLY3+Th7uN9u
-----END PRIVATE KEY-----";
const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJ/jAsdsCU48rMjYk
o3Co74Mtu9lIfWhtQIav0O7WCsOhRANCAATsa9sv7zn+tQt/NXTo3ZAwuNCkPulv
/rYMmLznx35qxpwzGWQFCTbC5uxvSSrJQInC3pBMvhP2YvMtApFKgy+O
-----END PRIVATE KEY-----";

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<std::io::Result<()>>,
    /// A request to `/slow` has arrived; it is answered on `release`.
    arrived: Arc<Notify>,
    release: Arc<Notify>,
    /// The answer to a request to `/endless` was given up.
    given_up: Arc<Notify>,
    meters: Arc<Meters>,
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Server {
    async fn start(tls: Option<Arc<ServerConfig>>, connections_max: usize) -> Self {
        Self::start_with(tls.map(TlsSlot::new), connections_max).await
    }

    async fn start_with(tls: Option<TlsSlot>, connections_max: usize) -> Self {
        let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (arrived, release) = (Arc::clone(&arrived), Arc::clone(&release));
            move || async move {
                arrived.notify_one();
                release.notified().await;
                "slow"
            }
        };
        let router = Router::new()
            .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
            .route("/slow", get(slow))
            .fallback(|| async { "any" });
        let given_up = Arc::new(Notify::new());
        let endless = {
            let given_up = Arc::clone(&given_up);
            move || async move {
                let dropped = Dropped(given_up);
                Body::from_stream(futures_util::stream::repeat_with(move || {
                    let _held = &dropped;
                    Ok::<_, io::Error>(Bytes::from_static(&[0; 16 * 1024]))
                }))
            }
        };
        let router = router.route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let bounds = Bounds { connections_max, ..Bounds::default() };
        let meters = Arc::new(Meters::default());
        let serving = tokio::spawn(serve(listener, tls, router, bounds, Arc::clone(&meters), shutdown.clone()));
        Self { address, shutdown, serving, arrived, release, given_up, meters }
    }

    async fn plain() -> Self {
        Self::start(None, CONNECTIONS_MAX).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_tls(&self, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CERT.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.connect().await).await.unwrap()
    }

    /// Connections that were dropped for this.
    fn dropped(&self, reason: &str) -> bool {
        let mut text = crate::metrics::Text::default();
        self.meters.write(&mut text);
        text.into_string().contains(&format!("grantd_http_connections_dropped_total{{reason=\"{reason}\"}} 1\n"))
    }

    async fn stop(self) {
        self.shutdown.drain.cancel();
        self.serving.await.unwrap().unwrap();
    }

    /// The whole answer to a request that asks for the connection to be closed.
    async fn ask(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }
}

/// Until the other side closes; a reset counts, since it refuses heads it has not read to their end.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).ends_with(end) {
        let byte = stream.read_u8().await.unwrap();
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

/// A request of `headers` headers, all in all `bytes` long if given.
fn request(headers: usize, bytes: Option<usize>) -> String {
    let mut head = "GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n".to_owned();
    let padding = headers - 2;
    for n in 0..padding {
        let rest = bytes.map_or(0, |bytes| (bytes - head.len() - 2) / (padding - n) - format!("p{n}: \r\n").len());
        head.push_str(&["p", &n.to_string(), ": ", &"v".repeat(rest), "\r\n"].concat());
    }
    head.push_str("\r\n");
    assert!(bytes.is_none_or(|bytes| head.len() == bytes));
    head
}

fn is_typed_431(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 431 ")
        && answer.contains("content-type: application/json")
        && answer.contains(r#"{"error":"headers_too_large","message":"#)
}

#[tokio::test]
async fn requests_carry_the_peers_address_and_connections_are_kept() {
    let server = Server::plain().await;
    let mut stream = server.connect().await;
    let peer = stream.local_addr().unwrap().to_string();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, &peer).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    server.stop().await;
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn headers_are_counted() {
    let server = Server::plain().await;
    assert!(server.ask(&request(HEADERS_MAX, None)).await.starts_with("HTTP/1.1 200 "));
    assert!(is_typed_431(&server.ask(&request(HEADERS_MAX + 1, None)).await));
    assert!(is_typed_431(&server.ask(&request(HEADERS_MAX + HEADERS_SLACK, None)).await));
    let flood = server.ask(&request(HEADERS_MAX + HEADERS_SLACK + 1, None)).await;
    assert!(flood.starts_with("HTTP/1.1 431 ") && !is_typed_431(&flood), "{flood}");
    server.stop().await;
}

#[tokio::test]
async fn one_header_is_bounded() {
    let server = Server::plain().await;
    let with = |bytes: usize| {
        let value = "v".repeat(bytes - "name".len());
        format!("GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\nname: {value}\r\n\r\n")
    };
    assert!(server.ask(&with(HEADER_BYTES_MAX)).await.starts_with("HTTP/1.1 200 "));
    assert!(is_typed_431(&server.ask(&with(HEADER_BYTES_MAX + 1)).await));
    server.stop().await;
}

#[tokio::test]
async fn the_head_is_bounded() {
    let server = Server::plain().await;
    assert!(server.ask(&request(50, Some(HEAD_BYTES_MAX))).await.starts_with("HTTP/1.1 200 "));
    assert!(is_typed_431(&server.ask(&request(50, Some(HEAD_BYTES_MAX + 1))).await));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n", "p".repeat(65_533));
    assert!(is_typed_431(&server.ask(&long_path).await));
    let flood = server.ask(&request(50, Some(HEAD_BYTES_MAX + 4 * HEAD_BYTES_SLACK))).await;
    assert!(!flood.contains("200 OK") && !is_typed_431(&flood), "{flood}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_slow_and_idle_connections_are_closed_after_the_head_timeout() {
    let server = Server::plain().await;
    for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: h\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let begun = Instant::now();
        assert!(!read_all(&mut stream).await.contains("200 OK"));
        assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&begun.elapsed()), "{sent:?}: {:?}", begun.elapsed());
    }

    let mut stream = server.connect().await;
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    read_until(&mut stream, "any").await;
    let begun = Instant::now();
    assert!(!read_all(&mut stream).await.contains("200 OK"));
    assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_is_bounded() {
    let server = Server::start(Some(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()), CONNECTIONS_MAX).await;
    let mut stream = server.connect().await;
    let begun = Instant::now();
    assert_eq!(read_all(&mut stream).await, "");
    assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_drain_lets_the_request_in_flight_finish() {
    let server = Server::plain().await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    server.arrived.notified().await;

    server.shutdown.drain.cancel();
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed at once");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody is accepted any more");
    assert!(!server.serving.is_finished());

    server.release.notify_one();
    let answer = read_all(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("slow"), "{answer}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_after_its_time() {
    let server = Server::plain().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    let begun = Instant::now();
    server.stop().await;
    assert!((DRAIN..DRAIN * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(read_all(&mut busy).await, "");
}

#[tokio::test]
async fn at_the_connection_limit_accepting_waits() {
    let server = Server::start(None, 1).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /slow HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    let mut second = server.connect().await;
    second.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(second.try_read(&mut [0; 1]).is_err(), "nothing is answered while the first one lives");
    server.release.notify_one();
    assert!(read_all(&mut first).await.ends_with("slow"));
    assert!(read_all(&mut second).await.ends_with("any"));
    server.stop().await;
}

#[tokio::test]
async fn tls_negotiates_http1_or_http2() {
    let server = Server::start(Some(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()), CONNECTIONS_MAX).await;
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let mut stream = server.connect_tls(alpn).await;
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(read_all(&mut stream).await.ends_with("any"));
    }
    let mut h2 = H2::connect(&server).await;
    assert_eq!(h2.get(&[]).await, (vec![0x88], "any".to_owned()));
    drop(h2);
    server.stop().await;
}

#[tokio::test]
async fn http2_heads_have_the_same_bounds() {
    let server = Server::start(Some(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()), CONNECTIONS_MAX).await;
    let mut h2 = H2::connect(&server).await;
    let headers = |count: usize| (0..count).map(|n| (format!("p{n}"), String::new())).collect::<Vec<_>>();
    assert_eq!(h2.get(&headers(HEADERS_MAX)).await.1, "any");
    assert!(h2.get(&headers(HEADERS_MAX + 1)).await.1.starts_with(r#"{"error":"headers_too_large""#));
    let one = |bytes: usize| vec![("name".to_owned(), "v".repeat(bytes - "name".len()))];
    assert_eq!(h2.get(&one(HEADER_BYTES_MAX)).await.1, "any");
    assert!(h2.get(&one(HEADER_BYTES_MAX + 1)).await.1.starts_with(r#"{"error":"headers_too_large""#));
    drop(h2);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_after_the_head_timeout_and_a_busy_one_is_not() {
    let server = Server::start(Some(tls_config(CERT.as_bytes(), KEY.as_bytes()).unwrap()), CONNECTIONS_MAX).await;
    let mut h2 = H2::connect(&server).await;
    h2.send_get("/slow", &[]).await;
    server.arrived.notified().await;
    tokio::time::sleep(HEAD_TIMEOUT * 3 / 2).await;
    server.release.notify_one();
    assert_eq!(h2.answer().await.1, "slow");

    let begun = Instant::now();
    h2.until_closed().await;
    assert!((HEAD_TIMEOUT..HEAD_TIMEOUT * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.stop().await;
}

#[test]
fn the_end_of_a_certificate_is_found() {
    // 2120-01-01T00:00:00Z
    assert_eq!(expires_at_s(CERT.as_bytes()), Some(4_733_510_400));
    assert_eq!(expires_at_s(b""), None);
    assert_eq!(expires_at_s(b"-----BEGIN CERTIFICATE-----\nMIIBXzCCAQQ=\n-----END CERTIFICATE-----"), None);
}

#[test]
fn tls_errors_name_what_is_wrong() {
    let wrong = |cert: &str, key: &str| tls_config(cert.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(wrong("", KEY), TlsError::NoCertificate));
    assert!(matches!(wrong(KEY, KEY), TlsError::NoCertificate));
    assert!(matches!(
        wrong("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", KEY),
        TlsError::CertificatePem(_)
    ));
    assert!(matches!(wrong(CERT, ""), TlsError::NoKey));
    assert!(matches!(wrong(CERT, CERT), TlsError::NoKey));
    assert!(matches!(wrong(CERT, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----"), TlsError::KeyPem(_)));
    assert!(matches!(
        wrong(CERT, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        TlsError::Unusable(_)
    ));
    assert!(matches!(wrong(CERT, OTHER_KEY), TlsError::KeyMismatch));
}

/// Just enough of an HTTP/2 client: literal headers, one request at a time.
struct H2 {
    stream: TlsStream<TcpStream>,
    next_stream: u32,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const ACK_OR_END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_BYTES_MAX: usize = 16_384;

impl H2 {
    async fn connect(server: &Server) -> Self {
        let mut stream = server.connect_tls(&[b"h2", b"http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut h2 = Self { stream, next_stream: 1 };
        h2.send(SETTINGS, 0, 0, &[]).await;
        h2
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn send_get(&mut self, path: &str, headers: &[(String, String)]) {
        // :method GET and :scheme https from the static table, the others literal.
        let mut block = vec![0x82, 0x87, 0x04];
        push_text(&mut block, path);
        block.push(0x01);
        push_text(&mut block, "localhost");
        for (name, value) in headers {
            block.push(0x00);
            push_text(&mut block, name);
            push_text(&mut block, value);
        }
        let parts: Vec<&[u8]> = block.chunks(FRAME_BYTES_MAX).collect();
        for (n, part) in parts.iter().enumerate() {
            let end = if n + 1 == parts.len() { END_HEADERS } else { 0 };
            let (kind, flags) = if n == 0 { (HEADERS, end | ACK_OR_END_STREAM) } else { (CONTINUATION, end) };
            self.send(kind, flags, self.next_stream, part).await;
        }
    }

    async fn get(&mut self, headers: &[(String, String)]) -> (Vec<u8>, String) {
        self.send_get("/x", headers).await;
        self.answer().await
    }

    /// The first byte of the header block, and the body.
    async fn answer(&mut self) -> (Vec<u8>, String) {
        let (mut status, mut body) = (Vec::new(), Vec::new());
        loop {
            let (kind, flags, id, payload) = self.frame().await.unwrap();
            if id != self.next_stream {
                continue;
            }
            match kind {
                HEADERS => status = payload[..1].to_vec(),
                DATA => body.extend(payload),
                other => panic!("frame {other}"),
            }
            if flags & ACK_OR_END_STREAM != 0 {
                self.next_stream += 2;
                return (status, String::from_utf8(body).unwrap());
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, SETTINGS | PING) && flags & ACK_OR_END_STREAM == 0 {
            self.send(kind, ACK_OR_END_STREAM, 0, if kind == PING { &payload } else { &[] }).await;
        }
        Some((kind, flags, u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    async fn until_closed(&mut self) {
        let mut went_away = false;
        while let Some((kind, ..)) = self.frame().await {
            went_away |= kind == GOAWAY;
        }
        assert!(went_away);
    }
}

/// A string literal without Huffman code; its length with a 7-bit prefix.
fn push_text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend(text.as_bytes());
}
