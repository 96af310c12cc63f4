//! Connections that any number of callers share: each sends its statement at once, and the server answers them in their order.
//!
//! For reads of one row that every call makes. Nobody waits for another's connection, so a burst of calls costs round trips that
//! overlap, and not its turn at a pool. Never: a transaction, or a statement that takes long, which those behind it would wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use deadpool::managed::Manager as _;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::pool::{Eras, Manager, WAIT};
use super::session::Session;
use crate::error::{Error, Result};

/// Connections. The server works on the statements of one at a time, so two let it use two cores.
pub(crate) const CONNECTIONS: usize = 2;

/// The connections, made when they are first needed and again when they have ended.
pub(crate) struct Pipeline {
    manager: Manager,
    eras: Arc<Eras>,
    connections: [Mutex<Option<Arc<Session>>>; CONNECTIONS],
    next: AtomicUsize,
    is_closed: AtomicBool,
}

impl Pipeline {
    pub(super) fn new(manager: Manager, eras: Arc<Eras>) -> Self {
        let (next, is_closed) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { manager, eras, connections: std::array::from_fn(|_| Mutex::default()), next, is_closed }
    }

    /// A connection to the server that is the one now.
    pub(super) async fn connect(&self) -> Result<Arc<Session>> {
        let place = &self.connections[self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS];
        // Whoever comes while it is made waits for that, as long as for a connection of a pool.
        let waited =
            || Error::Unavailable { what: "no connection to PostgreSQL: it takes too long to make".to_owned() };
        let mut connection = timeout(WAIT, place.lock()).await.map_err(|_| waited())?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable { what: "the store is closed".to_owned() });
        }
        match &*connection {
            Some(session) if session.is_fit() && session.era() == self.eras.current() => Ok(Arc::clone(session)),
            _ => {
                let session = Arc::new(self.manager.create().await?);
                *connection = Some(Arc::clone(&session));
                Ok(session)
            }
        }
    }

    /// Lets go of a connection that failed; the next caller makes another.
    pub(super) async fn leave(&self, failed: &Arc<Session>) {
        for place in &self.connections {
            let mut connection = place.lock().await;
            if connection.as_ref().is_some_and(|session| Arc::ptr_eq(session, failed)) {
                *connection = None;
            }
        }
    }

    /// Makes no more of them, and ends those on which nobody waits for an answer.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for place in &self.connections {
            if let Ok(mut connection) = place.try_lock() {
                *connection = None;
            }
        }
    }
}
