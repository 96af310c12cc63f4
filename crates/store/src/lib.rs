//! grantd's store: one SQL text on embedded SQLite and on PostgreSQL.
//!
//! `read` and `write` take synchronous closures, so no transaction can be held across the network. Two operations of the hot
//! path are asynchronous: [`Store::append`], which makes an event durable and confirms in the same write that what was decided
//! on still holds, and the lookups in [`hot`].
//!
//! Invariant: every lookup of an app's data takes the app's id.

mod append;
pub mod apps;
pub mod audit;
pub mod auth_sessions;
mod behind;
pub mod connect;
pub mod crash;
pub mod credentials;
pub mod data_keys;
pub mod erasure;
mod error;
pub mod facts;
pub mod grants;
pub mod groups;
pub mod hot;
pub mod hourly;
pub mod idempotency;
pub mod identity_providers;
pub mod idp_webhooks;
mod index;
pub mod installs;
pub mod keys;
mod migrate;
pub mod operators;
pub mod organizations;
pub mod passkeys;
pub mod processes;
pub mod providers;
pub mod recovery;
pub mod renewals;
pub mod retention;
pub mod scim;
mod seam;
pub mod secrets;
pub mod sign_in_methods;
pub mod signing_keys;
pub mod sso;
pub mod stats;
pub mod totps;
pub mod users;
pub mod web_sessions;

use std::path::PathBuf;
use std::sync::Arc;

pub use error::{Error, Result};
pub use hot::{Append, Appended, Confirm};
pub use migrate::Migrated;
pub use seam::Tx;
pub use seam::copy::{CopyProgress, check_database, copy_database};
pub use seam::postgres::url::{HOSTS_MAX, PostgresUrl};

use append::AppendPath;
use grantd_domain::audit::Prepared;
use seam::lane::{self, Lane};
use seam::postgres::{self, Postgres};
use seam::sqlite::{self, Sqlite};
use seam::{Chains, Row, Tally, Value};

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    tally: Arc<Tally>,
    catch_up: index::CatchUp,
    /// Names the chains of this process on PostgreSQL.
    process: String,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres { pools: Box<Postgres>, lane: Lane, appends: AppendPath },
}

/// What this process has committed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commits {
    /// Transactions.
    pub groups: u64,
    /// Calls they were for, refused ones included: more calls than groups is what grouping saves.
    pub calls: u64,
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In memory, gone with the process. For tests and `--ephemeral`.
    Memory,
    /// An embedded file.
    File(PathBuf),
    /// A PostgreSQL server.
    Postgres(PostgresUrl),
}

impl Location {
    /// Parses `sqlite:PATH`, `sqlite::memory:` or `postgres://…`. The error is words that follow a colon, without the URL.
    pub fn parse(url: &str) -> std::result::Result<Self, String> {
        match url.split_once(':') {
            Some(("sqlite", ":memory:")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                PostgresUrl::parse(url).map(Self::Postgres)
            }
            _ => Err("write sqlite:PATH or postgres://user@host/database".to_owned()),
        }
    }
}

impl Store {
    /// Opens the database. `process` names this process among replicas; `pool_size` bounds PostgreSQL connections.
    pub async fn open(location: &Location, process: &str, pool_size: usize) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let engine = match location {
            Location::Memory => Engine::Sqlite(Sqlite::open(None, Arc::clone(&tally))?),
            Location::File(path) => Engine::Sqlite(Sqlite::open(Some(path), Arc::clone(&tally))?),
            Location::Postgres(url) => {
                let pools = Box::new(Postgres::open(url, pool_size).await?);
                let [append, lane] = pg_writers(process);
                let appends = AppendPath::start(pools.writes.clone(), append, Arc::clone(&tally));
                let chains = Chains::new(lane, false, Arc::clone(&tally));
                let lane = Lane::new(pools.writes.clone(), chains, Arc::clone(&tally));
                Engine::Postgres { pools, lane, appends }
            }
        };
        let (catch_up, process) = (index::CatchUp::default(), process.to_owned());
        Ok(Self { inner: Arc::new(Inner { engine, tally, catch_up, process }) })
    }

    /// Who writes this process's chains.
    pub(crate) fn writers(&self) -> [String; 2] {
        match self.inner.engine {
            Engine::Sqlite(_) => [sqlite::WRITER.to_owned(), sqlite::WRITER.to_owned()],
            Engine::Postgres { .. } => pg_writers(&self.inner.process),
        }
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
            Engine::Sqlite(sqlite) => sqlite.read(run).await,
            Engine::Postgres { pools, .. } => lane::read(&pools.shared, run).await,
        }
    }

    /// Writes in one transaction; writes of a process happen one after another. The closure may run again, so it touches
    /// nothing but `tx`; ids and times come from outside. When it answers an error, nothing of it stays. A statement that
    /// failed ends the transaction: the closure cannot go on after it.
    pub async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _waiting = self.stats().wait();
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => sqlite.write(run).await,
            Engine::Postgres { lane, .. } => lane.write(run).await,
        }
    }

    /// Makes an event durable, confirming in the same write that what was decided on still holds and the nonce is new.
    pub async fn append(&self, append: Append) -> Result<Appended> {
        let (_waiting, started) = (self.stats().wait(), seam::now());
        let appended = match &self.inner.engine {
            Engine::Sqlite(sqlite) => sqlite.append(append).await,
            Engine::Postgres { appends, .. } => appends.append(append).await,
        };
        self.stats().appended(&appended, started.elapsed());
        appended
    }

    /// Numbers of what this store does.
    pub fn stats(&self) -> &stats::Stats {
        &self.inner.tally.stats
    }

    /// The pools of PostgreSQL connections.
    pub fn pools(&self) -> Vec<stats::PoolStats> {
        let Engine::Postgres { pools, .. } = &self.inner.engine else { return Vec::new() };
        let pools = [("shared", &pools.shared), ("writes", &pools.writes)];
        let told = pools.map(|(name, pool)| {
            let status = pool.status();
            let in_use = status.size.saturating_sub(status.available);
            stats::PoolStats { pool: name, size_max: status.max_size, in_use, waiting: status.waiting }
        });
        told.to_vec()
    }

    /// What the database takes of its disk.
    pub async fn sizes(&self) -> Result<stats::Sizes> {
        if let Engine::Sqlite(sqlite) = &self.inner.engine
            && let Some(path) = sqlite.path()
        {
            let bytes = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let wal = path.with_file_name(format!("{}-wal", path.file_name().unwrap_or_default().display()));
            return Ok(stats::Sizes { database_bytes: bytes(path), wal_bytes: Some(bytes(&wal)) });
        }
        let sql = match &self.inner.engine {
            Engine::Sqlite(_) => "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            Engine::Postgres { .. } => "SELECT pg_database_size(current_database())",
        };
        let row = self.fetch("sizes", sql, Vec::new()).await?.into_iter().next();
        let bytes = row.map_or(Ok(0), |mut row| row.int("bytes"))?;
        Ok(stats::Sizes { database_bytes: u64::try_from(bytes).unwrap_or(0), wal_bytes: None })
    }

    /// Events committed by this process so far, by writes and appends: tells a job whether there is anything new.
    pub fn appended(&self) -> u64 {
        self.inner.tally.events()
    }

    /// Transactions this process has committed, and for how many calls.
    pub fn commits(&self) -> Commits {
        Commits { groups: self.inner.tally.groups(), calls: self.inner.tally.calls() }
    }

    /// The write of a migration: it may take longer than a caller would wait, and finds no tables.
    pub(crate) async fn write_schema<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => sqlite.write(run).await,
            Engine::Postgres { pools, .. } => lane::migrate(&pools.patient()?, run).await,
        }
    }

    /// One statement outside any transaction.
    pub(crate) async fn fetch(&self, table: &'static str, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>> {
        match &self.inner.engine {
            Engine::Sqlite(_) => self.read(move |tx| tx.query(table, sql, &params)).await,
            Engine::Postgres { pools, .. } => {
                let rows = postgres::fetch(&pools.shared, sql, &params).await?;
                Ok(rows.into_iter().map(|values| Row::new(table, values)).collect())
            }
        }
    }

    /// The row that a call needs, with the era of the server that answered.
    pub(crate) async fn fetch_row(
        &self,
        table: &'static str,
        sql: &'static str,
        params: Vec<Value>,
    ) -> Result<(u64, Option<Row>)> {
        match &self.inner.engine {
            Engine::Sqlite(_) => Ok((0, self.read(move |tx| tx.query_opt(table, sql, &params)).await?)),
            Engine::Postgres { pools, .. } => {
                let (era, values) = postgres::fetch_row(&pools.pipeline, sql, &params).await?;
                Ok((era, values.map(|values| Row::new(table, values))))
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

    /// Lets an embedded database grow no further than it is, or again without bound. For stories of a full disk.
    #[doc(hidden)]
    pub async fn limit_growth(&self, stop: bool) -> Result<()> {
        let Engine::Sqlite(sqlite) = &self.inner.engine else { return Ok(()) };
        // The engine takes the current size where less is asked for, and has room for 2^32 - 2 pages.
        let sql = if stop { "PRAGMA max_page_count = 1" } else { "PRAGMA max_page_count = 4294967294" };
        sqlite.write(move |tx| tx.query("pages", sql, &[]).map(drop)).await
    }

    /// Lets nothing more in, waits until everything submitted is durable, and lets go of the database. Other clones of this store
    /// answer `Unavailable` from now on.
    pub async fn close(self) {
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => sqlite.close().await,
            Engine::Postgres { pools, lane, appends } => {
                appends.close().await;
                lane.close().await;
                pools.close();
            }
        }
    }
}

/// The append path and the lane each have chains of their own.
fn pg_writers(process: &str) -> [String; 2] {
    [format!("append:{process}"), format!("lane:{process}")]
}

/// Appends an event to its chain, in the transaction of the change it tells of.
pub fn append_event(tx: &mut Tx<'_>, event: &Prepared) -> Result<()> {
    audit::append(tx, event)
}

#[cfg(test)]
impl Store {
    /// How the embedded engine, which has no statistics of its own, would run a statement of so many parameters: a line for each step.
    pub(crate) async fn plan(&self, sql: &str, params: usize) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let mut plan = String::new();
        for mut row in self.fetch("plan", explain.leak(), vec![Value::Null; params]).await.unwrap() {
            for column in ["id", "parent", "unused"] {
                row.int(column).unwrap();
            }
            plan.push_str(&row.text("detail").unwrap());
            plan.push('\n');
        }
        plan
    }
}
