//! The closed loop: so many connections, each of which sends its next request when it has its answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::Connection;
use crate::host::instant;
use crate::plan::{Asker, Pick, Plan, Retrieve};
use crate::{Error, Result};

/// Longest latency that is told apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// A server that no longer answers ends the case this long after its time.
const OVERTIME: Duration = Duration::from_mins(1);
/// And one that is asked for every grant has this long for each: many times what it needs.
const GRANT_TIME: Duration = Duration::from_millis(1);

/// How hard, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections that stay open.
    pub connections: usize,
    /// Threads of the client.
    pub threads: usize,
    /// Not counted.
    pub warm_up: Duration,
    /// Counted. Without an end for [`Pick::Each`], which ends with its last grant.
    pub measured: Duration,
}

/// What a case measured.
pub struct Outcome {
    /// Answered as they should be, within the time measured.
    pub requests: u64,
    /// How long that was.
    pub seconds: f64,
    latencies: Histogram<u64>,
}

/// The same, to be printed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Requests a second.
    pub per_second: f64,
    /// Median latency.
    pub p50_us: f64,
    /// Latency of the slowest twentieth.
    pub p95_us: f64,
    /// Latency of the slowest hundredth.
    pub p99_us: f64,
    /// Latency of the slowest thousandth.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Outcome {
    /// The figures.
    pub fn figures(&self) -> Figures {
        let us = |quantile| as_float(self.latencies.value_at_quantile(quantile)) / 1e3;
        Figures {
            per_second: as_float(self.requests) / self.seconds,
            p50_us: us(0.5),
            p95_us: us(0.95),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: as_float(self.latencies.max()) / 1e3,
        }
    }
}

/// Counts are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a run are far below 2^53")]
pub fn as_float(count: u64) -> f64 {
    count as f64
}

/// What the connections of all threads share.
struct Common<'a> {
    address: SocketAddr,
    plan: &'a Plan,
    load: Load,
    start: Barrier,
    is_void: Arc<AtomicBool>,
}

/// Runs a case. The first answer that is not as it should be ends it, and is the error.
pub fn run(address: SocketAddr, plan: &Plan, load: Load) -> Result<Outcome> {
    let threads = load.threads.clamp(1, load.connections.max(1));
    let common = Common { address, plan, load, start: Barrier::new(threads), is_void: Arc::default() };
    let common = &common;
    let parts: Vec<Result<Outcome>> = std::thread::scope(|scope| {
        let part = |thread| scope.spawn(move || run_thread(common, thread, threads));
        let started: Vec<_> = (0..threads).map(part).collect();
        let joined = |part: std::thread::ScopedJoinHandle<'_, Result<Outcome>>| {
            part.join().unwrap_or_else(|_| Err(Error("a thread of the client panicked".to_owned())))
        };
        started.into_iter().map(joined).collect()
    });
    let mut whole: Option<Outcome> = None;
    for part in parts {
        let part = part?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.requests += part.requests;
                whole.seconds = whole.seconds.max(part.seconds);
                whole.latencies.add(&part.latencies).map_err(|e| Error::because("cannot add latencies", e))?;
            }
        }
    }
    let whole = whole.ok_or_else(|| Error("a case without connections".to_owned()))?;
    if whole.requests == 0 {
        return Err(Error("void: not one request was answered in the time measured".to_owned()));
    }
    Ok(whole)
}

/// A thread has a small runtime of its own: nothing of the client is shared between threads while it measures.
fn run_thread(common: &Common<'_>, thread: usize, threads: usize) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::because("cannot start the client", e));
    let mine = (thread..common.load.connections).step_by(threads);
    let opened = runtime.and_then(|runtime| {
        let opened = runtime.block_on(open_all(common, mine))?;
        Ok((runtime, opened))
    });
    // Every thread waits here, whatever became of it, or the others would wait for ever.
    if opened.is_err() {
        common.is_void.store(true, Ordering::Relaxed);
    }
    common.start.wait();
    let (runtime, opened) = opened?;
    runtime.block_on(async {
        let load = common.load;
        let time = match &common.plan {
            Plan::Retrieve(Retrieve { pick: Pick::Each, grants, .. }) => {
                GRANT_TIME.saturating_mul(u32::try_from(grants.len()).unwrap_or(u32::MAX))
            }
            _ => load.warm_up + load.measured,
        };
        let end = time.saturating_add(OVERTIME);
        tokio::time::timeout(end, drive_all(common, opened))
            .await
            .unwrap_or_else(|_| Err(Error("void: the server no longer answers".to_owned())))
    })
}

async fn open_all(common: &Common<'_>, mine: impl Iterator<Item = usize>) -> Result<Vec<(Connection, Asker)>> {
    let mut opened = Vec::new();
    for index in mine {
        let connection = Connection::open(common.address).await?;
        opened.push((connection, common.plan.asker(index, common.load.connections)));
    }
    Ok(opened)
}

/// When a case counts.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    until: Option<Instant>,
}

async fn drive_all(common: &Common<'_>, opened: Vec<(Connection, Asker)>) -> Result<Outcome> {
    let is_each = matches!(common.plan, Plan::Retrieve(Retrieve { pick: Pick::Each, .. }));
    let from = instant() + if is_each { Duration::ZERO } else { common.load.warm_up };
    let until = (!is_each).then(|| from + common.load.measured);
    let window = Window { from, until };
    let local = tokio::task::LocalSet::new();
    let drive = async {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(|e| Error::because("cannot make a histogram", e))
        };
        let latencies = Rc::new(RefCell::new(histogram()?));
        let mut tasks = Vec::new();
        for (connection, asker) in opened {
            let (latencies, is_void) = (Rc::clone(&latencies), Arc::clone(&common.is_void));
            tasks.push(tokio::task::spawn_local(async move {
                let driven = drive(connection, asker, window, &latencies, &is_void).await;
                if driven.is_err() {
                    is_void.store(true, Ordering::Relaxed);
                }
                driven
            }));
        }
        let mut failure = None;
        for task in tasks {
            let driven = task.await.unwrap_or_else(|e| Err(Error::because("a connection of the client ended", e)));
            if let Err(error) = driven {
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(latencies.borrow().clone()),
        }
    };
    let latencies = local.run_until(drive).await?;
    let end = until.unwrap_or_else(instant);
    let seconds = end.saturating_duration_since(from).as_secs_f64();
    Ok(Outcome { requests: latencies.len(), seconds, latencies })
}

async fn drive(
    mut connection: Connection,
    mut asker: Asker,
    window: Window,
    latencies: &RefCell<Histogram<u64>>,
    is_void: &AtomicBool,
) -> Result {
    let mut request = Vec::with_capacity(1024);
    let mut before = instant();
    while window.until.is_none_or(|until| before < until) && !is_void.load(Ordering::Relaxed) {
        if !asker.write(&mut request) {
            break;
        }
        let sent = instant();
        let answer = connection.exchange(&request).await?;
        let after = instant();
        asker.check(&answer)?;
        if after >= window.from && window.until.is_none_or(|until| after <= until) {
            let took = u64::try_from((after - sent).as_nanos()).unwrap_or(LATENCY_NS_MAX);
            latencies.borrow_mut().saturating_record(took);
        }
        before = after;
    }
    Ok(())
}
