//! SQLite: one writer thread ([`writer`]), checkpoints beside it ([`checkpoint`]), and readers that never wait for either.

mod checkpoint;
pub(crate) mod nonces;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::{Semaphore, oneshot};

use super::{Chains, Conn, Tally, Tx, Value, lane, numbered};
use crate::error::{Error, Result};
use crate::hot::{Append, Appended};
use checkpoint::Checkpointer;
use writer::{AppendJob, Closure, Message, Writer};

/// Names the chains of the one writer.
pub(crate) const WRITER: &str = "sqlite";
/// Jobs waiting; one more is `Busy`.
const QUEUE_MAX: usize = grantd_wire::limits::AUDIT_QUEUE_MAX;
/// Reads at one time, each on a connection that is kept; others wait. A point read takes microseconds, an opening a hundred.
const READERS_MAX: usize = 8;
/// How long another process that writes to the same file is waited for.
const BUSY_WAIT: Duration = Duration::from_secs(5);

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

pub(super) fn error(error: &rusqlite::Error) -> Error {
    let what = error.to_string();
    if let Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID) =
        error.sqlite_error().map(|e| e.extended_code)
    {
        return Error::Duplicate;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy,
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => Error::Unavailable { what },
        _ => Error::Statement { what },
    }
}

pub(crate) fn batch(conn: &Connection, sql: &str) -> Result<()> {
    conn.execute_batch(sql).map_err(|e| error(&e))
}

pub(crate) fn execute(conn: &Connection, sql: &'static str, params: &[Value]) -> Result<u64> {
    let run = || {
        let mut statement = conn.prepare_cached(numbered(sql))?;
        statement.execute(rusqlite::params_from_iter(params))
    };
    run().map(|n| n as u64).map_err(|e| error(&e))
}

pub(crate) fn query(conn: &Connection, sql: &'static str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
    let run = || {
        let mut statement = conn.prepare_cached(numbered(sql))?;
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

/// What no column of ours holds becomes a value of a kind that its reader refuses.
fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(real) => Value::Text(real.to_string()),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

/// The embedded engine.
pub(crate) struct Sqlite {
    jobs: SyncSender<Message>,
    /// `None` in memory: everything goes through the writer.
    readers: Option<Arc<Readers>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens (and creates) the file, or a database in memory.
    pub(crate) fn open(path: Option<&Path>, tally: Arc<Tally>) -> Result<Self> {
        let mut conn = match path {
            Some(path) => open_file(path),
            None => Connection::open_in_memory().map_err(|e| error(&e)),
        }?;
        prepare(&conn)?;
        // WAL: readers never wait for the writer. FULL: a commit is on disk before it is answered. What is deleted is overwritten.
        // Checkpoints have their own thread.
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(|e| error(&e))?;
        if path.is_some() && mode != "wal" {
            let what = format!("this file system cannot hold a write-ahead log (journal mode {mode})");
            return Err(Error::Unavailable { what });
        }
        batch(
            &conn,
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 0; \
             PRAGMA cache_size = -16000;",
        )?;
        let checkpointer = path.map(|path| Checkpointer::start(path, &mut conn)).transpose()?;
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let chains = Chains::new(WRITER.to_owned(), true, Arc::clone(&tally));
        // No bound of its own: what waits there was let in by the queue, and is answered without waiting.
        let (answers, decided) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(writer::answer(decided));
        let writer = Writer::new(conn, chains, tally, checkpointer, answers);
        let writer = std::thread::Builder::new()
            .name("grantd-writer".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|e| Error::Unavailable { what: format!("cannot start the writer thread: {e}") })?;
        let readers = path.map(|path| Arc::new(Readers::new(path.to_owned())));
        Ok(Self { jobs, readers, writer: Mutex::new(Some(writer)) })
    }

    /// The file; `None` in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.readers.as_ref().map(|readers| readers.path.as_path())
    }

    /// Runs the closure in the writer's next group.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.submit(Message::Job(Box::new(Closure { run, result: None, reply })), answer).await
    }

    /// Appends in the writer's next group.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        let (reply, answer) = oneshot::channel();
        self.submit(Message::Append(Box::new(AppendJob { append, result: Err(Error::Panicked), reply })), answer).await
    }

    async fn submit<T>(&self, message: Message, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let stopped = || Error::Unavailable { what: "the writer has stopped".to_owned() };
        self.jobs.try_send(message).map_err(|e| match e {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Reads in one snapshot, beside the writer.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(readers) = &self.readers else { return self.write(run).await };
        let readers = Arc::clone(readers);
        let place = Arc::clone(&readers.places).acquire_owned().await;
        let place = place.map_err(|_| Error::Unavailable { what: "the store is closed".to_owned() })?;
        lane::blocking(move || {
            let result = readers.read(run);
            drop(place);
            result
        })
        .await
    }

    /// Stops the writer after everything that waits.
    pub(crate) async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.places.close();
            // Before the writer: the last connection to close empties the WAL, and readers may not write.
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let jobs = self.jobs.clone();
            let stop = move || {
                // It fails only when the writer has stopped already.
                drop(jobs.send(Message::Stop));
                writer.join()
            };
            // A writer that panicked has told its callers already: their channels closed.
            drop(tokio::task::spawn_blocking(stop).await);
        }
        if let Some(readers) = &self.readers {
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// Pauses this thread.
fn wait(time: Duration) {
    // Nobody unparks it; should it wake early, no harm is done.
    std::thread::park_timeout(time);
}

/// Opens the file for writing; a new one only for its owner.
fn open_file(path: &Path) -> Result<Connection> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if let Err(e) = options.open(path) {
        return Err(Error::Unavailable { what: format!("cannot open {}: {e}", path.display()) });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|e| error(&e))
}

/// What every connection to a file needs.
pub(super) fn prepare(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY_WAIT).map_err(|e| error(&e))?;
    // A plan does not depend on the values it is asked with; else SQLite compiles a statement anew whenever they change.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(|e| error(&e))?;
    conn.set_prepared_statement_cache_capacity(256);
    // 256 MB of the file are read where the system has them. What lies behind, and in the log, goes through 2 MB of the connection's own.
    batch(conn, "PRAGMA cache_size = -2000; PRAGMA mmap_size = 268435456; PRAGMA temp_store = MEMORY;")
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

impl Readers {
    fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()), places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    fn connection(&self) -> Result<Connection> {
        if let Some(conn) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(conn);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags).map_err(|e| error(&e))?;
        prepare(&conn)?;
        Ok(conn)
    }

    fn read<T>(&self, mut run: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let conn = self.connection()?;
        batch(&conn, "BEGIN")?;
        let mut no_chains = Chains::none();
        let mut tx = Tx::new(Conn::Sqlite(&conn), &mut no_chains);
        let result = run(&mut tx);
        let result = tx.settle(result);
        // A connection whose snapshot cannot be closed is dropped, not kept.
        if conn.execute_batch("COMMIT").is_ok() && !self.places.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
        result
    }
}
