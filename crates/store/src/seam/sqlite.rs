//! SQLite: one writer thread that commits whatever waits as one group, and readers beside it.
//!
//! Invariant: nobody is answered before COMMIT returned. A closure that fails or panics is undone to its savepoint alone; when
//! the transaction itself is lost, every member of the group learns that nothing was applied.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::mpsc;

use super::{Chains, Conn, Tx, Value, numbered};
use crate::error::{Error, Result};

/// Jobs in one commit.
const GROUP_MAX: usize = 512;
/// Jobs waiting; one more is `Busy`.
pub(crate) const QUEUE_MAX: usize = grantd_wire::limits::AUDIT_QUEUE_MAX;
/// Idle reader connections kept.
const READERS_MAX: usize = 4;

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn error(error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Error::Duplicate,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => Error::Unavailable { what: error.to_string() },
        _ => Error::Statement { what: error.to_string() },
    }
}

pub(crate) fn execute(conn: &Connection, sql: &'static str, params: &[Value]) -> Result<u64> {
    let run = || {
        let mut statement = conn.prepare_cached(&numbered(sql))?;
        statement.execute(rusqlite::params_from_iter(params))
    };
    run().map(|n| n as u64).map_err(|e| error(&e))
}

pub(crate) fn query(conn: &Connection, sql: &'static str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
    let run = || {
        let mut statement = conn.prepare_cached(&numbered(sql))?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            out.push((0..columns).map(|i| row.get_ref(i).map(value)).collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(out)
    };
    run().map_err(|e: rusqlite::Error| error(&e))
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}

/// Work for the writer thread.
pub(crate) trait Job: Send {
    /// Runs inside its savepoint; `false` undoes what it did. May not be called twice.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// It panicked inside `run`, and was undone.
    fn panicked(&mut self);
    /// The group's fate is known: answer the caller. `Err` means that nothing of the group was applied.
    fn answer(self: Box<Self>, fate: Result<()>);
}

/// The embedded engine.
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// `None` in memory: everything goes through the writer.
    readers: Option<Readers>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Readers {
    path: std::path::PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Sqlite {
    /// Opens (and creates) the file, or a database in memory.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let conn = match path {
            Some(path) => Connection::open(path),
            None => Connection::open_in_memory(),
        };
        let conn = conn.map_err(|e| error(&e))?;
        // WAL: readers never wait for the writer. FULL: a commit is on disk before it is answered.
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(|e| error(&e))?;
        prepare(&conn)?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let writer = std::thread::Builder::new()
            .name("grantd-writer".to_owned())
            .spawn(move || write_groups(&conn, queue))
            .map_err(|e| Error::Unavailable { what: format!("cannot start the writer thread: {e}") })?;
        let readers = path.map(|path| Readers { path: path.to_owned(), idle: Mutex::new(Vec::new()) });
        Ok(Self { jobs, readers, writer: Mutex::new(Some(writer)) })
    }

    /// Hands a job to the writer.
    pub(crate) fn submit(&self, job: Box<dyn Job>) -> Result<()> {
        self.jobs.try_send(job).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable { what: "the writer has stopped".to_owned() },
        })
    }

    /// Whether reads have connections of their own.
    pub(crate) fn has_readers(&self) -> bool {
        self.readers.is_some()
    }

    /// Runs a read on this thread, in one snapshot.
    pub(crate) fn read<T>(&self, run: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let readers = self.readers.as_ref().expect("the caller has looked");
        let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let conn = Connection::open_with_flags(&readers.path, flags).map_err(|e| error(&e))?;
                prepare(&conn)?;
                conn
            }
        };
        conn.execute_batch("BEGIN").map_err(|e| error(&e))?;
        let mut no_chains = Chains::new(String::new(), false);
        let result = run(&mut Tx { conn: Conn::Sqlite(&conn), chains: &mut no_chains });
        // A connection whose snapshot cannot be closed is dropped, not kept.
        if conn.execute_batch("COMMIT").is_ok() {
            let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < READERS_MAX {
                idle.push(conn);
            }
        }
        result
    }

    /// Stops the writer after everything that waits.
    pub(crate) fn close(self) {
        let Self { jobs, writer, .. } = self;
        drop(jobs);
        let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has told its callers already: their channels closed.
            drop(writer.join());
        }
    }
}

fn prepare(conn: &Connection) -> Result<()> {
    conn.busy_timeout(std::time::Duration::from_secs(5)).map_err(|e| error(&e))?;
    conn.set_prepared_statement_cache_capacity(256);
    conn.execute_batch("PRAGMA cache_size = -16000; PRAGMA mmap_size = 268435456; PRAGMA temp_store = MEMORY;")
        .map_err(|e| error(&e))
}

fn write_groups(conn: &Connection, mut queue: mpsc::Receiver<Box<dyn Job>>) {
    let mut chains = Chains::new("sqlite".to_owned(), true);
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match queue.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let fate = commit_group(conn, &mut chains, &mut group);
        if let Err(e) = &fate {
            tracing::error!(error = %e, jobs = group.len(), "A group of writes was not applied");
        }
        for job in group {
            job.answer(match &fate {
                Ok(()) => Ok(()),
                Err(e) => Err(Error::Unavailable { what: e.to_string() }),
            });
        }
    }
}

fn commit_group(conn: &Connection, chains: &mut Chains, group: &mut [Box<dyn Job>]) -> Result<()> {
    let batch = |sql| conn.execute_batch(sql).map_err(|e| error(&e));
    let abandon = |chains: &mut Chains, e: Error| {
        chains.rolled_back();
        if !conn.is_autocommit() {
            // If even this fails the next BEGIN fails too, and says so.
            drop(conn.execute_batch("ROLLBACK"));
        }
        Err(e)
    };
    batch("BEGIN IMMEDIATE")?;
    for job in group {
        if let Err(e) = run_job(conn, chains, job.as_mut()) {
            return abandon(chains, e);
        }
    }
    if let Err(e) = batch("COMMIT") {
        return abandon(chains, e);
    }
    chains.committed();
    Ok(())
}

/// Runs one job in its savepoint. `Err` means that the whole transaction is lost.
fn run_job(conn: &Connection, chains: &mut Chains, job: &mut dyn Job) -> Result<()> {
    let batch = |sql| conn.execute_batch(sql).map_err(|e| error(&e));
    batch("SAVEPOINT job")?;
    let mark = chains.mark();
    let keep = catch_unwind(AssertUnwindSafe(|| job.run(&mut Tx { conn: Conn::Sqlite(conn), chains: &mut *chains })));
    if conn.is_autocommit() {
        return Err(Error::Unavailable {
            what: "the database gave up the transaction (disk full or I/O error)".to_owned(),
        });
    }
    if !matches!(keep, Ok(true)) {
        chains.back_to(mark);
        batch("ROLLBACK TO job")?;
    }
    if keep.is_err() {
        job.panicked();
    }
    batch("RELEASE job")
}
