//! A consistent copy of an embedded database, taken while others read and write it.
//!
//! Invariant: what is read beside the copy and the copy itself are of one snapshot, however long the copying takes.

use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::sqlite::{batch, error, prepare};
use super::{Chains, Conn, Tx};
use crate::error::{Error, Result};

/// Pages of one step: 1 MiB. Between steps the progress is told.
const PAGES_PER_STEP: i32 = 256;

/// How far a copy is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    /// Copied so far.
    pub done: u64,
    /// To copy in all.
    pub total: u64,
}

/// Copies the database file at `from` into the empty file at `to`, and answers what `read` saw of the same snapshot. The copy is
/// looked through for damage, and is a single file; the caller makes it durable.
pub fn copy_database<T>(
    from: &Path,
    to: &Path,
    read: impl FnOnce(&mut Tx<'_>) -> Result<T>,
    progress: &mut dyn FnMut(CopyProgress),
) -> Result<T> {
    let source = open(from)?;
    batch(&source, "BEGIN")?;
    let mut no_chains = Chains::none();
    let mut tx = Tx::new(Conn::Sqlite(&source), &mut no_chains);
    let seen = read(&mut tx);
    let seen = tx.settle(seen)?;
    let mut copy = open(to)?;
    // Durable is made by whoever asked for the copy; what fails half-way is thrown away, so nothing need be undone.
    batch(&copy, "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")?;
    copy_pages(&source, &mut copy, progress)?;
    batch(&source, "COMMIT")?;
    // Without a write-ahead log beside it, the copy is one file that can be moved.
    let mode: String = copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).map_err(|e| error(&e))?;
    if mode != "delete" {
        return Err(Error::Unavailable { what: format!("the copy cannot leave journal mode {mode}") });
    }
    let found = quick_check(&copy)?;
    copy.close().map_err(|(_, e)| error(&e))?;
    match found {
        None => Ok(seen),
        Some(damage) => Err(Error::Unavailable { what: format!("the database is damaged: {damage}") }),
    }
}

/// Looks an embedded database through for damage: the first that is found. Nobody is kept from writing meanwhile.
pub fn check_database(path: &Path) -> Result<Option<String>> {
    quick_check(&open(path)?)
}

fn quick_check(conn: &Connection) -> Result<Option<String>> {
    let first: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| error(&e))?;
    Ok((first != "ok").then_some(first))
}

fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| error(&e))?;
    prepare(&conn)?;
    Ok(conn)
}

fn copy_pages(source: &Connection, copy: &mut Connection, progress: &mut dyn FnMut(CopyProgress)) -> Result<()> {
    let page: u32 = source.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(|e| error(&e))?;
    let backup = Backup::new(source, copy).map_err(|e| error(&e))?;
    loop {
        // The source's transaction is open all the time, so no writer makes it begin again.
        let step = backup.step(PAGES_PER_STEP).map_err(|e| error(&e))?;
        let pages = backup.progress();
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * u64::from(page);
        progress(CopyProgress { done: bytes(pages.pagecount - pages.remaining), total: bytes(pages.pagecount) });
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => return Err(Error::Busy),
        }
    }
}
