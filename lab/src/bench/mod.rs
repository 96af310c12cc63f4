//! The benchmark: cases interleaved round by round, so that whatever the machine does meets all of them alike.

mod pages;
mod report;
mod scale;
mod soak;
mod standard;
mod storm;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grantd_domain::env::Clock as _;
use grantd_wire::ids::GrantId;

pub use pages::pages;
pub use report::{CaseResult, Output, Report, Sample, Spread, Target, Verdict};
pub use scale::scale;
pub use soak::soak;
pub use standard::standard;
pub use storm::storm;

use crate::grantd::{Access, Engine, Install, Server};
use crate::host::{Host, instant};
use crate::load::{Load, as_float, run};
use crate::machine::{self, Machine};
use crate::plan::{Pick, Plan, Retrieve};
use crate::{Error, Result, disk, fill};

/// Writes that one figure of fdatasync is the median of.
const FDATASYNC_ROUNDS: usize = 200;
/// The setting for memory that caches may use.
const CACHE_SETTING: &str = "GRANTD_CACHE_MB";
/// What a cached grant is said to take beside its sealed value: to size caches with, not to judge them.
const CACHE_BESIDE_BYTES: usize = 1_000;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The grantd that is measured.
    pub grantd: PathBuf,
    /// The same, built to write no event.
    pub unaudited: Option<PathBuf>,
    /// A PostgreSQL server on which databases may be made.
    pub postgres: Option<String>,
    /// OpenBao.
    pub openbao: Option<PathBuf>,
    /// nginx.
    pub nginx: Option<PathBuf>,
    /// Where everything of the run is put; on the disk that is to be measured.
    pub directory: PathBuf,
    /// Rounds.
    pub rounds: usize,
    /// Seconds that count, of each case in each round.
    pub seconds: f64,
    /// Seconds before them.
    pub warm: f64,
    /// Connections.
    pub connections: usize,
    /// Grants.
    pub grants: usize,
    /// Events; only of a scale run.
    pub events: u64,
    /// Callers of a refresh storm.
    pub callers: usize,
}

impl Options {
    fn load(&self, connections: usize) -> Load {
        Load {
            connections,
            threads: connections.min(2),
            warm_up: Duration::from_secs_f64(self.warm),
            measured: Duration::from_secs_f64(self.seconds),
        }
    }

    fn report(&self, kind: &'static str, method: String) -> Report {
        let machine = Machine::of(&self.directory);
        let date = Host.now().to_string();
        let (fdatasync_us, cases, verdicts, notes) = (None, Vec::new(), Vec::new(), Vec::new());
        Report { kind, date, machine, fdatasync_us, method, cases, verdicts, notes }
    }

    fn engines(&self) -> Vec<(&'static str, Option<&str>)> {
        let postgres = self.postgres.as_deref().map(|url| ("postgres", Some(url)));
        [Some(("sqlite", None)), postgres].into_iter().flatten().collect()
    }
}

/// An install with an app, a key and grants, whose server does not run.
struct Prepared {
    install: Install,
    access: Access,
    grants: Arc<[GrantId]>,
    sealed_bytes: usize,
}

impl Prepared {
    async fn make(options: &Options, name: &str, postgres: Option<&str>, binary: &Path, grants: usize) -> Result<Self> {
        let engine = match postgres {
            None => Engine::Sqlite,
            Some(url) => Engine::Postgres(disk::create_database(url, &format!("grantd_lab_{name}")).await?),
        };
        let directory = options.directory.join(name);
        let (binary, began) = (binary.to_owned(), instant());
        let (install, access) = blocking(move || {
            let install = Install::create(&binary, &directory, engine)?;
            let server = install.serve(&binary, &[])?;
            let access = install.make_access(&server)?;
            server.stop()?;
            Ok((install, access))
        })
        .await?;
        let filled = fill::grants(&install, access.app, grants).await?;
        progress(format_args!("{name}: {grants} grants made in {:.1} s", began.elapsed().as_secs_f64()));
        Ok(Self { install, access, grants: filled.grants.into(), sealed_bytes: filled.sealed_bytes })
    }

    fn plan(&self, pick: Pick) -> Plan {
        let (key, grants) = (Arc::clone(&self.access.key), Arc::clone(&self.grants));
        Plan::Retrieve(Retrieve { key, grants, pick, is_fixed: false })
    }

    /// The setting that lets a cache hold so many of the grants.
    fn cache_for(&self, grants: usize) -> String {
        let bytes = grants * (self.sealed_bytes + CACHE_BESIDE_BYTES);
        (bytes.div_ceil(1 << 20)).max(1).to_string()
    }
}

/// What one case runs against.
struct Case {
    result: CaseResult,
    address: std::net::SocketAddr,
    pid: u32,
    plan: Plan,
    load: Load,
}

impl Case {
    fn new(id: &'static str, title: impl Into<String>, server: &Server, plan: Plan, load: Load) -> Self {
        let result = CaseResult { id, title: title.into(), samples: Vec::new(), void: None };
        Self { result, address: server.address, pid: server.pid(), plan, load }
    }

    /// One round; the first one that does not count is the last.
    fn round(&mut self) {
        if self.result.void.is_some() {
            return;
        }
        match self.measure() {
            Ok(sample) => self.result.samples.push(sample),
            Err(error) => {
                progress(format_args!("{}: {error}", self.result.title));
                self.result.void = Some(error.to_string());
            }
        }
    }

    fn measure(&self) -> Result<Sample> {
        let before = machine::cpu(self.pid)?;
        let outcome = run(self.address, &self.plan, self.load)?;
        let spent = machine::cpu(self.pid)?.saturating_sub(before);
        // The warm-up's requests are answered, too, but not counted; they took the same share of the time.
        let whole = outcome.seconds + self.load.warm_up.as_secs_f64();
        let answered = as_float(outcome.requests) * whole / outcome.seconds;
        Ok(Sample { figures: outcome.figures(), server_cpu_us: spent.as_secs_f64() * 1e6 / answered })
    }
}

/// Runs something that waits for processes where it holds nobody up.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(run).await;
    done.unwrap_or_else(|e| Err(Error::because("a part of the lab ended", e)))
}

/// Tells whoever waits how far it is.
fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}

/// Lets `seconds` pass: memory and the like settle.
fn settle(seconds: f64) {
    let until = instant() + Duration::from_secs_f64(seconds);
    while let Some(left) = until.checked_duration_since(instant()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn fdatasync_us(directory: &Path) -> Result<f64> {
    Ok(machine::fdatasync(directory, FDATASYNC_ROUNDS)?.as_secs_f64() * 1e6)
}
