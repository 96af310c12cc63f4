//! One connection: TLS, HTTP/1.1 or HTTP/2, and what of it may take how long.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use grantd_wire::limits::{
    H2_RESETS_MAX, H2_STREAMS_MAX, HEAD_BYTES_MAX, HEAD_TIMEOUT_MS, HEADERS_MAX, WRITE_STALL_MS,
};
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Executor, Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::debug;

use super::head;
use super::stall::Stallable;
use crate::meters::{Dropped, Meters};

pub(super) const HEAD_TIMEOUT: Duration = Duration::from_millis(HEAD_TIMEOUT_MS);
pub(super) const WRITE_STALL: Duration = Duration::from_millis(WRITE_STALL_MS);
/// How much more than our own bounds hyper reads, so that our typed answer comes first.
pub(super) const HEAD_BYTES_SLACK: usize = 16 * 1024;
pub(super) const HEADERS_SLACK: usize = 28;
/// HTTP/2 counts this for each header beside its bytes (RFC 9113, 6.5.2).
const H2_HEADER_OVERHEAD: usize = 32;
/// Bytes of one stream's answer that wait for a slow peer; the rest is not made yet.
const H2_SEND_BYTES_MAX: usize = 64 * 1024;
/// A peer that does not answer pings while a request is in flight is gone.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs connections and HTTP/2 streams so that shutdown can wait for them, and cut them in the end.
#[derive(Clone)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl Tasks {
    pub(super) fn spawn<F: Future<Output: Send> + Send + 'static>(&self, task: F) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled(task).await.map(drop) });
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

pub(super) struct Connection {
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) router: Router,
    pub(super) peer: SocketAddr,
    pub(super) drain: CancellationToken,
    pub(super) tasks: Tasks,
    pub(super) meters: Arc<Meters>,
}

impl Connection {
    pub(super) async fn run(self, stream: TcpStream) {
        // Answers are small: without it the last packet of each would wait for an acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            debug!("Cannot set TCP_NODELAY: {error}");
        }
        let meters = Arc::clone(&self.meters);
        let _open = meters.connection();
        let stream = Stallable::new(stream, WRITE_STALL);
        let Some(acceptor) = &self.acceptor else { return self.http1(TokioIo::new(stream)).await };
        let handshake = self.drain.run_until_cancelled(timeout(HEAD_TIMEOUT, acceptor.accept(stream)));
        match handshake.await {
            Some(Ok(Ok(stream))) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(TokioIo::new(stream)).await;
            }
            Some(Ok(Ok(stream))) => self.http1(TokioIo::new(stream)).await,
            Some(Ok(Err(error))) => {
                meters.dropped(Dropped::Handshake);
                debug!("A TLS handshake failed: {error}");
            }
            Some(Err(_)) => {
                meters.dropped(Dropped::Idle);
                debug!("A TLS handshake took longer than {HEAD_TIMEOUT_MS} ms");
            }
            None => {}
        }
    }

    async fn http1(self, io: impl Read + Write + Unpin + Send + 'static) {
        let Self { router, peer, drain, meters, .. } = self;
        let service = service_fn(move |request| answer(router.clone(), peer, None, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX + HEADERS_SLACK)
            .max_buf_size(HEAD_BYTES_MAX + HEAD_BYTES_SLACK)
            .serve_connection(io, service);
        drive(connection, http1::Connection::graceful_shutdown, &drain, &meters, None).await;
    }

    async fn http2(self, io: impl Read + Write + Unpin + Send + 'static) {
        let Self { router, peer, drain, tasks, meters, .. } = self;
        let (flights, seen) = watch::channel(Flights::default());
        let service = service_fn(move |request| answer(router.clone(), peer, Some(Flight::begin(&flights)), request));
        let header_list_max = HEAD_BYTES_MAX + HEAD_BYTES_SLACK + (HEADERS_MAX + HEADERS_SLACK) * H2_HEADER_OVERHEAD;
        let connection = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(header_list_max).unwrap_or(u32::MAX))
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_send_buf_size(H2_SEND_BYTES_MAX)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT)
            .serve_connection(io, service);
        drive(connection, http2::Connection::graceful_shutdown, &drain, &meters, Some(seen)).await;
    }
}

/// Drives a connection to its end. On shutdown, or when idle, it is asked to finish; idle a second time, or abused, it is dropped.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    finish: impl Fn(Pin<&mut C>),
    drain: &CancellationToken,
    meters: &Meters,
    flights: Option<watch::Receiver<Flights>>,
) {
    let mut connection = pin!(connection);
    let mut is_finishing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    if is_stall(&error) {
                        meters.dropped(Dropped::Stalled);
                    }
                    debug!("A connection ended early: {error}");
                }
                return;
            }
            () = drain.cancelled(), if !is_finishing => {}
            why = out_of_bounds(flights.clone()) => match why {
                Dropped::Idle if !is_finishing => {}
                why => {
                    meters.dropped(why);
                    debug!(?why, "A connection is dropped");
                    return;
                }
            }
        }
        is_finishing = true;
        finish(connection.as_mut());
    }
}

/// Whether [`Stallable`] gave the peer up.
fn is_stall(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// Returns when the connection went past a bound. hyper and [`Stallable`] do this for HTTP/1.
async fn out_of_bounds(flights: Option<watch::Receiver<Flights>>) -> Dropped {
    let Some(mut flights) = flights else { return std::future::pending().await };
    loop {
        let now = *flights.borrow_and_update();
        if now.taken_back > now.answered.saturating_add(H2_RESETS_MAX) {
            return Dropped::Resets;
        }
        let changed = match (now.begun, now.answering) {
            (0, _) => timeout(HEAD_TIMEOUT, flights.changed()).await.map_err(|_| Dropped::Idle),
            (begun, answering) if begun == answering => {
                timeout(WRITE_STALL, flights.changed()).await.map_err(|_| Dropped::Stalled)
            }
            _ => Ok(flights.changed().await),
        };
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return std::future::pending().await,
            Err(why) => return why,
        }
    }
}

/// What goes on in a connection. Every change is told, so a frame that the peer takes counts as a sign of life.
#[derive(Clone, Copy, Default)]
struct Flights {
    /// Requests that have begun and not ended.
    begun: usize,
    /// Those of them that are being answered.
    answering: usize,
    /// Requests whose answer was sent whole.
    answered: u64,
    /// Requests that the peer gave up.
    taken_back: u64,
}

/// One request in flight, until its answer's body is sent or dropped.
struct Flight {
    flights: watch::Sender<Flights>,
    is_answering: bool,
    is_answered: bool,
}

impl Flight {
    fn begin(flights: &watch::Sender<Flights>) -> Self {
        flights.send_modify(|now| now.begun += 1);
        Self { flights: flights.clone(), is_answering: false, is_answered: false }
    }

    /// Its answer has begun; an answer without a body is whole already.
    fn answering(mut self, body: &Body) -> Self {
        self.flights.send_modify(|now| now.answering += 1);
        self.is_answering = true;
        self.is_answered = hyper::body::Body::is_end_stream(body);
        self
    }

    fn moved(&self) {
        self.flights.send_modify(|_| {});
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.send_modify(|now| {
            now.begun -= 1;
            now.answering -= usize::from(self.is_answering);
            match self.is_answered {
                true => now.answered += 1,
                false => now.taken_back += 1,
            }
        });
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    flight: Option<Flight>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let response = if head::is_head_too_large(&request) {
        head::headers_too_large()
    } else {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.oneshot(request.map(Body::new)).await?
    };
    let flight = flight.map(|flight| flight.answering(response.body()));
    Ok(response.map(|body| Answer { body, flight }))
}

/// An answer's body that keeps its connection busy.
struct Answer {
    body: Body,
    flight: Option<Flight>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let is_whole = matches!(frame, Poll::Ready(None)) || self.body.is_end_stream();
        if let (Poll::Ready(_), Some(flight)) = (&frame, &mut self.flight) {
            flight.is_answered = is_whole;
            flight.moved();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
