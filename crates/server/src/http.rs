//! The listener: accepts connections, bounds what they may hold, and drains.
//!
//! HTTP/2 is offered by ALPN under TLS only; a plain connection is HTTP/1.1, so no time is spent guessing. Heads a little over
//! our bounds are read and refused with a typed 431; floods meet hyper's own bounds and its bare 431. A connection that neither
//! sends a head nor has a request in flight is closed after the head timeout, whatever it speaks, and so is one that does not
//! take its answers.
//!
//! Never: a request in flight is cut before the drain's end; a task outlives [`serve`]; a refusal of the system ends the listener.

mod connection;
mod head;
mod stall;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use grantd_wire::limits::CONNECTIONS_MAX;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

pub use tls::{TlsError, TlsSlot, expires_at_s, tls_config};

use crate::meters::Meters;
use connection::{Connection, Tasks};

/// Requests in flight may finish for this long after shutdown began, unless the operator says otherwise.
pub const DRAIN: Duration = Duration::from_secs(25);

/// First pause after the system refused a new connection (no file descriptors, no memory). It doubles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before it is asked again.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a listener may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; at this number accepting waits, and the system's backlog holds the rest.
    pub connections_max: usize,
    /// How long requests in flight may take to finish after shutdown began.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, drain: DRAIN }
    }
}

/// How a listener is told to end.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// Nobody new comes in; requests in flight may finish.
    pub drain: CancellationToken,
    /// Nothing is waited for any more.
    pub cut: CancellationToken,
}

/// Serves `router` on `listener` until it is told to end, then drains. Each request carries `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsSlot>,
    router: Router,
    bounds: Bounds,
    meters: Arc<Meters>,
    shutdown: Shutdown,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(bounds.connections_max));
    let tasks = Tasks { tracker: TaskTracker::new(), cut: CancellationToken::new() };
    let accept = async {
        loop {
            // Never closed, so an error cannot happen; it would end accepting.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let (stream, peer) = next(|| listener.accept(), &meters).await;
            let connection = Connection {
                acceptor: tls.as_ref().map(TlsSlot::acceptor),
                meters: Arc::clone(&meters),
                router: router.clone(),
                peer,
                drain: shutdown.drain.clone(),
                tasks: tasks.clone(),
            };
            tasks.spawn(async move {
                connection.run(stream).await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        biased;
        () = shutdown.drain.cancelled() => {}
        () = shutdown.cut.cancelled() => shutdown.drain.cancel(),
        () = accept => {}
    }
    drop(listener);

    tasks.tracker.close();
    let is_drained = tokio::select! {
        () = tasks.tracker.wait() => true,
        () = sleep(bounds.drain) => false,
        () = shutdown.cut.cancelled() => false,
    };
    if !is_drained {
        warn!(tasks = tasks.tracker.len(), "Requests still in flight at the end of the drain are cut");
        tasks.cut.cancel();
        tasks.tracker.wait().await;
    }
    Ok(())
}

/// The next connection, however long the system refuses one: whoever holds the descriptors lets go of them some day.
async fn next<T, F: Future<Output = io::Result<T>>>(mut accept: impl FnMut() -> F, meters: &Meters) -> T {
    let (mut pause, mut refusals) = (ACCEPT_PAUSE, 0_u64);
    loop {
        match accept().await {
            Ok(accepted) => {
                if refusals > 0 {
                    info!(refusals, "Connections are accepted again");
                }
                return accepted;
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!("A connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                // Once, not at every try: a log that fills the disk would be the next failure.
                if refusals == 0 {
                    warn!(error = %error, "Cannot accept connections at the moment: {error}");
                }
                refusals += 1;
                meters.accept_failed();
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
