//! SQLite: one writer thread that commits whatever waits as one group, and readers beside it.
//!
//! Invariant: nobody is answered before COMMIT returned. A closure that fails or panics is undone to its savepoint alone; when
//! the transaction itself is lost, every member of the group learns that nothing was applied.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Chains, Conn, Tally, Tx, Value, lane, numbered};
use crate::error::{Error, Result};

/// Jobs in one commit.
const GROUP_MAX: usize = 512;
/// Jobs waiting; one more is `Busy`.
const QUEUE_MAX: usize = grantd_wire::limits::AUDIT_QUEUE_MAX;
/// Reads at one time, each on a connection that is kept; others wait. A point read takes microseconds, an opening a hundred.
const READERS_MAX: usize = 8;
/// How long another process that writes to the same file is waited for.
const BUSY_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

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

/// Work for the writer thread.
trait Job: Send {
    /// Runs inside its savepoint; `false` undoes what it did. May not be called twice.
    fn run(&mut self, tx: Tx<'_>) -> bool;
    /// It panicked inside `run`, and was undone.
    fn panicked(&mut self);
    /// The group's fate is known: answer the caller. `Err` means that nothing of the group was applied.
    fn answer(self: Box<Self>, fate: Result<()>);
}

enum Message {
    Job(Box<dyn Job>),
    /// Let nothing more in, and end after what waits.
    Stop,
}

struct Closure<F, T> {
    run: F,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F: FnMut(&mut Tx<'_>) -> Result<T> + Send, T: Send> Job for Closure<F, T> {
    fn run(&mut self, mut tx: Tx<'_>) -> bool {
        let result = (self.run)(&mut tx);
        self.result.insert(tx.settle(result)).is_ok()
    }

    fn panicked(&mut self) {
        self.result = Some(Err(Error::Panicked));
    }

    fn answer(self: Box<Self>, fate: Result<()>) {
        let result = fate.and(self.result.unwrap_or(Err(Error::Panicked)));
        // A caller that went away needs no answer.
        drop(self.reply.send(result));
    }
}

/// The embedded engine.
pub(crate) struct Sqlite {
    jobs: mpsc::Sender<Message>,
    /// `None` in memory: everything goes through the writer.
    readers: Option<Arc<Readers>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens (and creates) the file, or a database in memory.
    pub(crate) fn open(path: Option<&Path>, tally: Arc<Tally>) -> Result<Self> {
        let conn = match path {
            Some(path) => open_file(path),
            None => Connection::open_in_memory().map_err(|e| error(&e)),
        }?;
        prepare(&conn)?;
        // WAL: readers never wait for the writer. FULL: a commit is on disk before it is answered. What is deleted is overwritten.
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(|e| error(&e))?;
        if path.is_some() && mode != "wal" {
            let what = format!("this file system cannot hold a write-ahead log (journal mode {mode})");
            return Err(Error::Unavailable { what });
        }
        batch(&conn, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;")?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let chains = Chains::new("sqlite".to_owned(), true, Arc::clone(&tally));
        let mut writer = Writer { conn, chains, tally, version: None };
        let writer = std::thread::Builder::new()
            .name("grantd-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|e| Error::Unavailable { what: format!("cannot start the writer thread: {e}") })?;
        let readers = path.map(|path| Arc::new(Readers::new(path.to_owned())));
        Ok(Self { jobs, readers, writer: Mutex::new(Some(writer)) })
    }

    /// Runs the closure in the writer's next group.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::Unavailable { what: "the writer has stopped".to_owned() };
        let (reply, answer) = oneshot::channel();
        let job = Message::Job(Box::new(Closure { run, result: None, reply }));
        self.jobs.try_send(job).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
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
        // It fails only when the writer has stopped already.
        drop(self.jobs.send(Message::Stop).await);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has told its callers already: their channels closed.
            drop(tokio::task::spawn_blocking(move || writer.join()).await);
        }
        if let Some(readers) = &self.readers {
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
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

fn prepare(conn: &Connection) -> Result<()> {
    conn.busy_timeout(BUSY_WAIT).map_err(|e| error(&e))?;
    // A plan does not depend on the values it is asked with; else SQLite compiles a statement anew whenever they change.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(|e| error(&e))?;
    conn.set_prepared_statement_cache_capacity(256);
    batch(conn, "PRAGMA cache_size = -16000; PRAGMA mmap_size = 268435456; PRAGMA temp_store = MEMORY;")
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

struct Writer {
    conn: Connection,
    chains: Chains,
    tally: Arc<Tally>,
    /// Changes when another connection has written to the file.
    version: Option<i64>,
}

impl Writer {
    fn run(&mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.blocking_recv() {
            let mut group = Vec::new();
            let mut message = Some(first);
            while let Some(next) = message {
                match next {
                    Message::Job(job) => group.push(job),
                    Message::Stop => queue.close(),
                }
                message = if group.len() < GROUP_MAX { queue.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.run_group(group);
            }
        }
    }

    fn run_group(&mut self, mut group: Vec<Box<dyn Job>>) {
        let fate = self.commit(&mut group);
        match &fate {
            Ok(()) => self.tally.committed(group.len()),
            Err(e) => tracing::error!(error = %e, jobs = group.len(), "A group of writes was not applied"),
        }
        for job in group {
            job.answer(match &fate {
                Ok(()) => Ok(()),
                Err(e) => Err(Error::Unavailable { what: e.to_string() }),
            });
        }
    }

    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<()> {
        self.statement("BEGIN IMMEDIATE")?;
        let result = self.run_jobs(group).and_then(|()| self.statement("COMMIT"));
        if result.is_err() {
            // The log decides what was applied, should the disk have failed us half-way: read the heads again.
            self.chains.rolled_back();
            self.chains.forget();
            if !self.conn.is_autocommit() {
                // If even this fails the next BEGIN fails too, and says so.
                drop(self.conn.execute_batch("ROLLBACK"));
            }
        } else {
            self.chains.committed();
        }
        result
    }

    fn run_jobs(&mut self, group: &mut [Box<dyn Job>]) -> Result<()> {
        let version = self.conn.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |r| r.get(0)));
        let version = version.map_err(|e| error(&e))?;
        if self.version != Some(version) {
            // Another process (a command beside the server) extended the chains that we know the ends of.
            self.chains.forget();
            self.version = Some(version);
        }
        group.iter_mut().try_for_each(|job| self.run_job(job.as_mut()))
    }

    /// Runs one job in its savepoint. `Err` means that the whole transaction is lost.
    fn run_job(&mut self, job: &mut dyn Job) -> Result<()> {
        self.statement("SAVEPOINT job")?;
        let mark = self.chains.mark();
        let (conn, chains) = (&self.conn, &mut self.chains);
        let keep = catch_unwind(AssertUnwindSafe(|| job.run(Tx::new(Conn::Sqlite(conn), chains))));
        if self.conn.is_autocommit() {
            let what = "the database gave up the transaction (disk full or I/O error)".to_owned();
            return Err(Error::Unavailable { what });
        }
        if !matches!(keep, Ok(true)) {
            self.chains.back_to(mark);
            self.statement("ROLLBACK TO job")?;
        }
        if keep.is_err() {
            job.panicked();
        }
        self.statement("RELEASE job")
    }

    fn statement(&self, sql: &str) -> Result<()> {
        let run = || self.conn.prepare_cached(sql)?.execute([]);
        run().map(drop).map_err(|e| error(&e))
    }
}
