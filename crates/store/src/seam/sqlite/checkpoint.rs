//! Checkpoints: what was committed moves from the write-ahead log into the database file, on a connection and a thread of its own,
//! so that no commit waits for it.
//!
//! The log is bounded all the same: when the thread cannot keep up, the writer does it itself, and nothing is written meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::{batch, error, open_file, prepare};
use crate::crash;
use crate::error::{Error, Result};

/// Pages in the log that are worth a checkpoint: 16 MB. A page that was written many times since the last one is moved once.
const PAGES_WORTH: i32 = 4_000;
/// Pages in the log at which the writer stops for it: 64 MB.
const PAGES_MAX: i32 = 16_000;

/// The writer's end.
pub(super) struct Checkpointer {
    /// Pages in the log after the last commit.
    pages: Arc<AtomicI32>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread beside `writer`, which has this file open.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> Result<Self> {
        let conn = open_file(path)?;
        prepare(&conn)?;
        batch(&conn, "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")?;
        let pages = Arc::new(AtomicI32::new(0));
        let counted = Arc::clone(&pages);
        let count = move |_: &mut rusqlite::hooks::Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(count)).map_err(|e| error(&e))?;
        // One place: a wish that waits already is enough.
        let (wake, wishes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("grantd-checkpoint".to_owned())
            .spawn(move || run(&conn, &wishes))
            .map_err(|e| Error::Unavailable { what: format!("cannot start the checkpoint thread: {e}") })?;
        Ok(Self { pages, wake: Some(wake), thread: Some(thread) })
    }

    /// What the writer does after each commit, its callers answered already.
    pub(super) fn after_commit(&self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages >= PAGES_MAX {
            checkpoint(writer);
        } else if pages >= PAGES_WORTH
            && let Some(wake) = &self.wake
        {
            // Full: it knows.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(conn: &Connection, wishes: &Receiver<()>) {
    while wishes.recv().is_ok() {
        checkpoint(conn);
    }
}

/// As far as readers allow, waiting for none of them.
fn checkpoint(conn: &Connection) {
    let done = conn
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .and_then(|mut statement| statement.query_row([], |_| Ok(())));
    crash::step("sqlite.log_moved");
    if let Err(e) = done {
        tracing::warn!(error = %error(&e), "A checkpoint of the write-ahead log failed and will be tried again");
    }
}
