//! The listener: accepts connections, speaks TLS, HTTP/1.1 and HTTP/2, bounds heads, and drains.
//!
//! HTTP/2 is offered by ALPN under TLS only; a plain connection is HTTP/1.1, so no time is spent guessing. Heads a little over
//! our bounds are read and refused with a typed 431; floods meet hyper's own bounds and its bare 431. A connection that neither
//! sends a head nor has a request in flight is closed after the head timeout, whatever it speaks.
//!
//! Never: a request in flight is cut before the drain's end; a task outlives [`serve`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use grantd_wire::limits::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT_MS, HEADER_BYTES_MAX, HEADERS_MAX};
use grantd_wire::{Code, Error};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// Requests in flight may finish for this long after shutdown began.
pub const DRAIN: Duration = Duration::from_secs(25);

const HEAD_TIMEOUT: Duration = Duration::from_millis(HEAD_TIMEOUT_MS);
/// How much more than our own bounds hyper reads, so that our typed answer comes first.
const HEAD_BYTES_SLACK: usize = 16 * 1024;
const HEADERS_SLACK: usize = 28;
/// HTTP/2 counts this for each header beside its bytes (RFC 9113, 6.5.2).
const H2_HEADER_OVERHEAD: usize = 32;
const H2_STREAMS_MAX: u32 = 250;
/// A peer that does not answer pings while a request is in flight is gone.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system refused a new connection (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `router` on `listener` until `shutdown`, then drains. Each request carries `ConnectInfo<SocketAddr>`.
///
/// At `CONNECTIONS_MAX` open connections accepting waits; the system's backlog holds the rest.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    serve_bounded(listener, tls, router, shutdown, CONNECTIONS_MAX).await
}

async fn serve_bounded(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    shutdown: CancellationToken,
    connections_max: usize,
) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(connections_max));
    let tasks = Tasks { tracker: TaskTracker::new(), cut: CancellationToken::new() };
    let acceptor = tls.map(TlsAcceptor::from);
    let accept = async {
        loop {
            // Never closed, so an error cannot happen; it would end accepting.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        acceptor: acceptor.clone(),
                        router: router.clone(),
                        peer,
                        shutdown: shutdown.clone(),
                        tasks: tasks.clone(),
                    };
                    tasks.execute(async move {
                        connection.run(stream).await;
                        drop(permit);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {
                    debug!("A connection was gone before it was accepted: {error}");
                }
                Err(error) => {
                    warn!(error = %error, "Cannot accept connections at the moment: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = accept => {}
    }
    drop(listener);

    tasks.tracker.close();
    if timeout(DRAIN, tasks.tracker.wait()).await.is_err() {
        warn!(tasks = tasks.tracker.len(), "Requests still in flight at the end of the drain are cut");
        tasks.cut.cancel();
        tasks.tracker.wait().await;
    }
    Ok(())
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Runs connections and HTTP/2 streams so that shutdown can wait for them, and cut them in the end.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled(task).await.map(drop) });
    }
}

struct Connection {
    acceptor: Option<TlsAcceptor>,
    router: Router,
    peer: SocketAddr,
    shutdown: CancellationToken,
    tasks: Tasks,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Answers are small: without it the last packet of each would wait for an acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("Cannot set TCP_NODELAY: {error}");
        }
        let Some(acceptor) = &self.acceptor else { return self.http1(TokioIo::new(stream)).await };
        let handshake = self.shutdown.run_until_cancelled(timeout(HEAD_TIMEOUT, acceptor.accept(stream)));
        match handshake.await {
            Some(Ok(Ok(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(TokioIo::new(stream)).await;
            }
            Some(Ok(Ok(stream))) => self.http1(TokioIo::new(stream)).await,
            Some(Ok(Err(error))) => debug!("A TLS handshake failed: {error}"),
            Some(Err(_)) => debug!("A TLS handshake took longer than {HEAD_TIMEOUT_MS} ms"),
            None => {}
        }
    }

    async fn http1(self, io: impl Read + Write + Unpin + Send + 'static) {
        let Self { router, peer, shutdown, .. } = self;
        let service = service_fn(move |request| answer(router.clone(), peer, None, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX + HEADERS_SLACK)
            .max_buf_size(HEAD_BYTES_MAX + HEAD_BYTES_SLACK)
            .serve_connection(io, service);
        drive(connection, http1::Connection::graceful_shutdown, &shutdown, None).await;
    }

    async fn http2(self, io: impl Read + Write + Unpin + Send + 'static) {
        let Self { router, peer, shutdown, tasks, .. } = self;
        let (flights, seen) = watch::channel(0);
        let service = service_fn(move |request| answer(router.clone(), peer, Some(Flight::begin(&flights)), request));
        let header_list_max = HEAD_BYTES_MAX + HEAD_BYTES_SLACK + (HEADERS_MAX + HEADERS_SLACK) * H2_HEADER_OVERHEAD;
        let connection = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(header_list_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(H2_STREAMS_MAX)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT)
            .serve_connection(io, service);
        drive(connection, http2::Connection::graceful_shutdown, &shutdown, Some(seen)).await;
    }
}

/// Drives a connection to its end. On shutdown, or when idle, it is asked to finish; idle a second time, it is dropped.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    finish: impl Fn(Pin<&mut C>),
    shutdown: &CancellationToken,
    flights: Option<watch::Receiver<usize>>,
) {
    let mut connection = pin!(connection);
    let mut is_finishing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!("A connection ended early: {error}");
                }
                return;
            }
            () = shutdown.cancelled(), if !is_finishing => {}
            () = idle(flights.clone()) => {
                if is_finishing {
                    return;
                }
            }
        }
        is_finishing = true;
        finish(connection.as_mut());
    }
}

/// Returns when no request has been in flight for the head timeout. hyper does this itself for HTTP/1.
async fn idle(flights: Option<watch::Receiver<usize>>) {
    let Some(mut flights) = flights else { return std::future::pending().await };
    loop {
        if flights.wait_for(|count| *count == 0).await.is_err() {
            return std::future::pending().await;
        }
        match timeout(HEAD_TIMEOUT, flights.changed()).await {
            Err(_) => return,
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
        }
    }
}

/// One request in flight, until its answer's body is sent or dropped.
struct Flight(watch::Sender<usize>);

impl Flight {
    fn begin(flights: &watch::Sender<usize>) -> Self {
        flights.send_modify(|count| *count += 1);
        Self(flights.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    flight: Option<Flight>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let response = if is_head_too_large(&request) {
        headers_too_large()
    } else {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.oneshot(request.map(Body::new)).await?
    };
    Ok(response.map(|body| Answer { body, _flight: flight }))
}

/// Counted as HTTP/1 writes a head, whatever it came in.
fn is_head_too_large<B>(request: &Request<B>) -> bool {
    let mut bytes = request.method().as_str().len() + uri_len(request.uri()) + " ".len() + " HTTP/1.1\r\n\r\n".len();
    for (name, value) in request.headers() {
        let header_bytes = name.as_str().len() + value.len();
        if header_bytes > HEADER_BYTES_MAX {
            return true;
        }
        bytes += header_bytes + ": \r\n".len();
    }
    request.headers().len() > HEADERS_MAX || bytes > HEAD_BYTES_MAX
}

fn uri_len(uri: &http::Uri) -> usize {
    let scheme_len = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority_len = uri.authority().map_or(0, |authority| authority.as_str().len());
    scheme_len + authority_len + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

fn headers_too_large() -> Response<Body> {
    // An object of two strings always serialises.
    let json = serde_json::to_vec(&Error::new(Code::HeadersTooLarge)).unwrap_or_default();
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer's body that keeps its connection busy.
struct Answer {
    body: Body,
    _flight: Option<Flight>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a certificate or key cannot be used. No text of either.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate file cannot be read as PEM")]
    CertificatePem(#[source] PemError),
    #[error("the certificate file holds no certificate: it needs the server's certificate, then its chain, as PEM")]
    NoCertificate,
    #[error("the key file cannot be read as PEM")]
    KeyPem(#[source] PemError),
    #[error("the key file holds no private key: it needs one as PEM (PKCS#8, PKCS#1 or SEC1), not encrypted")]
    NoKey,
    #[error("the private key does not belong to the first certificate of the certificate file")]
    KeyMismatch,
    #[error("the certificate and key cannot be used for TLS")]
    Unusable(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 with this certificate chain, offering HTTP/2 and HTTP/1.1.
pub fn tls_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(cert_pem).collect::<Result<_, _>>().map_err(TlsError::CertificatePem)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey,
        error => TlsError::KeyPem(error),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            error => TlsError::Unusable(error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
