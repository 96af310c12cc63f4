//! PostgreSQL transactions: the lane in which a process writes, one closure after another, and reads beside it.
//!
//! Invariant: a connection whose transaction may still be open is not given back to its pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};

use super::postgres::{Client, Pool};
use super::{Chains, Conn, Tally, Tx, postgres};
use crate::crash;
use crate::error::{Error, Result};

/// Times a write closure is run again because it met others.
const RETRIES_MAX: u32 = 10;
/// Closures that wait for the lane; one more is `Busy`.
const QUEUE_MAX: u32 = 8_192;
/// Times a write closure runs beside those of other processes, before it runs alone.
const TRIES_BESIDE_OTHERS: u32 = 2;
/// Begins beside the lanes of other processes. The lock comes before the snapshot. Its table is one that is always there and that
/// nothing else locks.
const BEGIN_BESIDE_OTHERS: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE installs IN ROW SHARE MODE";
/// Begins while no other lane is at work: a closure that kept meeting others gets through, however many replicas there are. Others
/// wait behind this one, so it does not wait long for a process that hangs.
const BEGIN_ALONE: &str =
    "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL lock_timeout = '1s'; LOCK TABLE installs IN EXCLUSIVE MODE";

/// The write lane of this process.
pub(crate) struct Lane {
    pool: Pool,
    chains: Arc<Mutex<Chains>>,
    places: Arc<Semaphore>,
    closed: AtomicBool,
    tally: Arc<Tally>,
}

impl Lane {
    pub(crate) fn new(pool: Pool, chains: Chains, tally: Arc<Tally>) -> Self {
        let places = Arc::new(Semaphore::new(QUEUE_MAX as usize));
        Self { pool, chains: Arc::new(Mutex::new(chains)), places, closed: AtomicBool::new(false), tally }
    }

    /// Runs the closure alone and SERIALIZABLE, again when it met others.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable { what: "the store is closed".to_owned() });
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::Busy)?;
        let waiting = super::now();
        let mut chains = Arc::clone(&self.chains).lock_owned().await;
        self.tally.stats.lane_wait.observe_time(waiting.elapsed());
        let (runtime, pool, tally) = (Handle::current(), self.pool.clone(), Arc::clone(&self.tally));
        blocking(move || {
            let result = retried(&pool, &runtime, &mut chains, run);
            if result.is_ok() {
                crash::step("postgres.lane_committed");
                tally.committed(1);
            }
            // Held until the commit, even when the caller has gone: closing waits for it.
            drop(place);
            result
        })
        .await
    }

    /// Lets nothing more in and waits for what is inside.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // The semaphore is never closed, so this ends when every place is free.
        drop(self.places.acquire_many(QUEUE_MAX).await);
    }
}

/// Reads in one snapshot.
pub(crate) async fn read<T: Send + 'static>(
    pool: &Pool,
    run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    once(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", run).await
}

/// Writes before there is a lane, because its tables may be missing. What met others is `Busy`.
pub(crate) async fn migrate<T: Send + 'static>(
    pool: &Pool,
    run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    once(pool, "BEGIN ISOLATION LEVEL SERIALIZABLE", run).await
}

async fn once<T: Send + 'static>(
    pool: &Pool,
    sql: &str,
    mut run: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let client = begin(pool, sql).await?;
    let runtime = Handle::current();
    blocking(move || transaction(client, &runtime, &mut Chains::none(), &mut run)).await
}

/// Runs on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(run).await.unwrap_or(Err(Error::Panicked))
}

fn retried<T>(
    pool: &Pool,
    runtime: &Handle,
    chains: &mut Chains,
    mut run: impl FnMut(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    let (mut retries, mut duplicates) = (0, 0);
    loop {
        let sql = if retries < TRIES_BESIDE_OTHERS { BEGIN_BESIDE_OTHERS } else { BEGIN_ALONE };
        let result = runtime.block_on(begin(pool, sql)).and_then(|client| {
            crash::step("postgres.lane_begun");
            transaction(client, runtime, chains, &mut run)
        });
        match result {
            Err(Error::Busy) if retries < RETRIES_MAX => retries += 1,
            // PostgreSQL may report a race for a unique value as its violation. The closure that looks first sees it now.
            Err(Error::Duplicate) if duplicates == 0 => duplicates = 1,
            other => return other,
        }
    }
}

/// A connection with an open transaction. Nothing has happened yet, so a connection that has ended is simply replaced.
async fn begin(pool: &Pool, sql: &str) -> Result<Client> {
    let mut tries = 1;
    loop {
        let client = postgres::connect(pool).await?;
        let Err(e) = client.batch_execute(sql).await else { return Ok(client) };
        discard(client);
        if tries == postgres::CONNECTIONS_MAX || postgres::is_final(&e) {
            return Err(postgres::error(&e));
        }
        tries += 1;
    }
}

/// Runs the closure in the transaction that is open, and ends it.
fn transaction<T>(
    client: Client,
    runtime: &Handle,
    chains: &mut Chains,
    run: &mut impl FnMut(&mut Tx<'_>) -> Result<T>,
) -> Result<T> {
    // Only a bug between two transactions could have left something staged.
    chains.rolled_back();
    let mut tx = Tx::new(Conn::Postgres { client: &client, runtime }, chains);
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut tx))).unwrap_or(Err(Error::Panicked));
    crash::step("postgres.lane_before_commit");
    match tx.settle(result) {
        Ok(value) => match runtime.block_on(client.batch_execute("COMMIT")) {
            Ok(()) => {
                chains.committed();
                Ok(value)
            }
            Err(e) => {
                if postgres::was_undone(&e) {
                    chains.rolled_back();
                } else {
                    chains.fate_unknown();
                    discard(client);
                }
                Err(postgres::error(&e))
            }
        },
        Err(e) => {
            chains.rolled_back();
            if runtime.block_on(postgres::batch(&client, "ROLLBACK")).is_err() {
                discard(client);
            }
            Err(e)
        }
    }
}

/// Closes the connection instead of giving it back.
fn discard(client: Client) {
    drop(Client::take(client));
}
