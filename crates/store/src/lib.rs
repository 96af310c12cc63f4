//! grantd's store: one SQL text on embedded SQLite and on PostgreSQL.
//!
//! `read` and `write` take synchronous closures, so no transaction can be held across the network. Two operations of the hot
//! path are asynchronous: [`Store::append`], which makes an event durable and confirms in the same write that what was decided
//! on still holds, and the lookups in [`hot`].
//!
//! Invariant: every lookup of an app's data takes the app's id.

pub mod apps;
pub mod audit;
pub mod credentials;
pub mod data_keys;
mod error;
pub mod grants;
pub mod hot;
pub mod installs;
pub mod keys;
mod migrate;
pub mod operators;
mod seam;
pub mod secrets;
pub mod signing_keys;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

pub use error::{Error, Result};
pub use hot::{Append, Appended, Confirm};
pub use migrate::Migrated;
pub use seam::Tx;

use grantd_domain::audit::Prepared;
use seam::postgres::{self, Postgres};
use seam::sqlite::{Job, Sqlite};
use seam::{Chains, Conn, Row, Value};

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    /// Events appended by this process.
    appended: Arc<AtomicU64>,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres { pools: Postgres, lane: Arc<Mutex<Chains>>, appends: mpsc::Sender<hot::Waiting> },
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In memory, gone with the process. For tests and `--ephemeral`.
    Memory,
    /// An embedded file.
    File(PathBuf),
    /// A PostgreSQL server.
    Postgres(String),
}

impl Location {
    /// Parses `sqlite:PATH`, `sqlite::memory:` or `postgres://…`.
    pub fn parse(url: &str) -> Option<Self> {
        match url.split_once(':') {
            Some(("sqlite", ":memory:")) => Some(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Some(Self::File(PathBuf::from(path))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Some(Self::Postgres(url.to_owned())),
            _ => None,
        }
    }
}

impl Store {
    /// Opens the database. `process` names this process among replicas; `pool_size` bounds PostgreSQL connections.
    pub async fn open(location: &Location, process: &str, pool_size: usize) -> Result<Self> {
        let appended = Arc::new(AtomicU64::new(0));
        let engine = match location {
            Location::Memory => Engine::Sqlite(Sqlite::open(None)?),
            Location::File(path) => Engine::Sqlite(Sqlite::open(Some(path))?),
            Location::Postgres(url) => {
                let pools = Postgres::open(url, pool_size)?;
                // Fail here, with words, and not at the first request.
                drop(postgres::connect(&pools.reads).await?);
                let (appends, queue) = mpsc::channel(grantd_wire::limits::AUDIT_QUEUE_MAX);
                let chains = Chains::new(format!("append:{process}"), false);
                tokio::spawn(hot::append_groups(pools.writes.clone(), chains, queue));
                let lane = Arc::new(Mutex::new(Chains::new(format!("lane:{process}"), false)));
                Engine::Postgres { pools, lane, appends }
            }
        };
        Ok(Self { inner: Arc::new(Inner { engine, appended }) })
    }

    /// `sqlite` or `postgres`.
    pub fn engine_name(&self) -> &'static str {
        match self.inner.engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres { .. } => "postgres",
        }
    }

    /// Reads in one snapshot.
    pub async fn read<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.inner.engine {
            Engine::Sqlite(sqlite) if sqlite.has_readers() => {
                let inner = Arc::clone(&self.inner);
                blocking(move || match &inner.engine {
                    Engine::Sqlite(sqlite) => sqlite.read(run),
                    Engine::Postgres { .. } => unreachable!("the engine does not change"),
                })
                .await
            }
            Engine::Sqlite(sqlite) => submit(sqlite, run).await,
            Engine::Postgres { pools, .. } => {
                let client = postgres::connect(&pools.reads).await?;
                let runtime = tokio::runtime::Handle::current();
                blocking(move || {
                    let mut no_chains = Chains::new(String::new(), false);
                    let mut run = run;
                    transaction(
                        &client,
                        &runtime,
                        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                        &mut no_chains,
                        &mut run,
                    )
                })
                .await
            }
        }
    }

    /// Writes in one transaction; writes of a process happen one after another. The closure may run again, so it touches
    /// nothing but `tx`; ids and times come from outside. When it answers an error, nothing of it stays.
    pub async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let written = match &self.inner.engine {
            Engine::Sqlite(sqlite) => submit(sqlite, run).await,
            Engine::Postgres { pools, lane, .. } => {
                let mut chains = Arc::clone(lane).lock_owned().await;
                let client = postgres::connect(&pools.writes).await?;
                let runtime = tokio::runtime::Handle::current();
                blocking(move || write_in_lane(&client, &runtime, &mut chains, run)).await
            }
        }?;
        self.inner.appended.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    /// Makes an event durable, confirming in the same write that what was decided on still holds and the nonce is new.
    pub async fn append(&self, append: Append) -> Result<Appended> {
        let appended = match &self.inner.engine {
            Engine::Sqlite(sqlite) => match submit(sqlite, move |tx| hot::append(tx, &append)).await {
                Err(Error::Replayed) => Ok(Appended::Replayed),
                other => other,
            },
            Engine::Postgres { appends, .. } => {
                let (reply, answer) = oneshot::channel();
                appends.try_send(hot::Waiting { append, reply }).map_err(|_| Error::Busy)?;
                answer.await.unwrap_or(Err(Error::Unavailable { what: "the append path has stopped".to_owned() }))
            }
        }?;
        self.inner.appended.fetch_add(1, Ordering::Relaxed);
        Ok(appended)
    }

    /// Writes and appends of this process so far: tells a job whether there is anything new.
    pub fn appended(&self) -> u64 {
        self.inner.appended.load(Ordering::Relaxed)
    }

    /// One statement outside any transaction.
    pub(crate) async fn fetch(&self, table: &'static str, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        match &self.inner.engine {
            Engine::Sqlite(_) => self.read(move |tx| tx.query(table, sql, &params)).await,
            Engine::Postgres { pools, .. } => {
                let client = postgres::connect(&pools.reads).await?;
                let rows = postgres::query(&client, sql, &params).await?;
                Ok(rows.into_iter().map(|values| Row::new(table, values)).collect())
            }
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.fetch("installs", "SELECT id FROM installs", Vec::new()).await.map(drop)
    }

    /// Applies what is missing of the schema, or says why it cannot.
    pub async fn migrate(&self, now: grantd_wire::TimeMs) -> Result<Migrated> {
        migrate::migrate(self, now).await
    }

    /// Refuses a schema that is older or newer than this program's.
    pub async fn check_schema(&self) -> Result<()> {
        migrate::check(self).await
    }

    /// Tables and columns as text, the same on both engines.
    pub async fn schema_fingerprint(&self) -> Result<String> {
        migrate::fingerprint(self).await
    }

    /// Waits until everything submitted is durable, and lets go of the database.
    pub async fn close(self) {
        if let Ok(Inner { engine: Engine::Sqlite(sqlite), .. }) = Arc::try_unwrap(self.inner) {
            drop(tokio::task::spawn_blocking(move || sqlite.close()).await);
        }
    }
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.unwrap_or(Err(Error::Panicked))
}

/// One transaction that is not retried.
fn transaction<T>(
    client: &deadpool_postgres::Client,
    runtime: &tokio::runtime::Handle,
    begin: &str,
    chains: &mut Chains,
    run: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    runtime.block_on(postgres::batch(client, begin))?;
    let mut tx = Tx { conn: Conn::Postgres { client, runtime }, chains };
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut tx))).unwrap_or(Err(Error::Panicked));
    match result {
        Ok(value) => match runtime.block_on(postgres::batch(client, "COMMIT")) {
            Ok(()) => {
                chains.committed();
                Ok(value)
            }
            Err(Error::Busy) => {
                chains.rolled_back();
                Err(Error::Busy)
            }
            Err(e) => {
                chains.fate_unknown();
                Err(e)
            }
        },
        Err(e) => {
            chains.rolled_back();
            // A connection that cannot even roll back is found broken when the pool looks at it again.
            drop(runtime.block_on(postgres::batch(client, "ROLLBACK")));
            Err(e)
        }
    }
}

fn write_in_lane<T>(
    client: &deadpool_postgres::Client,
    runtime: &tokio::runtime::Handle,
    chains: &mut Chains,
    mut run: impl FnMut(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    for attempt in 0..=postgres::RETRIES_MAX {
        match transaction(client, runtime, "BEGIN ISOLATION LEVEL SERIALIZABLE", chains, &mut run) {
            Err(Error::Busy) => {
                // Processes must not retry in step.
                let wait_ms = u64::from(attempt + 1) * (3 + u64::from(std::process::id() % 7));
                runtime.block_on(tokio::time::sleep(Duration::from_millis(wait_ms)));
            }
            other => return other,
        }
    }
    Err(Error::Busy)
}

struct Closure<F, T> {
    run: F,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<F: FnMut(&mut Tx<'_>) -> Result<T> + Send, T: Send> Job for Closure<F, T> {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result.insert((self.run)(tx)).is_ok()
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

async fn submit<T: Send + 'static>(
    sqlite: &Sqlite,
    run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    sqlite.submit(Box::new(Closure { run, result: None, reply }))?;
    answer.await.unwrap_or(Err(Error::Unavailable { what: "the writer has stopped".to_owned() }))
}

/// Appends an event to its chain, in the transaction of the change it tells of.
pub fn append_event(tx: &mut Tx<'_>, event: &Prepared) -> Result<()> {
    audit::append(tx, event)
}
