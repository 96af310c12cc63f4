//! `grantd-crash`: kills grantd at random moments and at every named step, on its way to a provider and back too, starves it and cuts it off, and looks at what is left.
//!
//! It judges grantd from the outside: through its program, its HTTP and its command line, with nothing of its code but the wire
//! contract.

mod accounts;
mod browser;
mod client;
mod database;
mod faults;
mod install;
mod load;
mod look;
mod model;
mod provider;
mod proxy;
mod random;
mod rounds;
mod scene;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T = ()> = std::result::Result<T, Error>;

/// Breaks grantd on purpose and looks at what is left.
#[derive(Parser)]
#[command(name = "grantd-crash")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Kill it at random moments under load, and at every named step
    Rounds(RoundsArgs),
    /// Kill it at every step of connecting an account, renewing its token and ending it
    Accounts(AccountsArgs),
    /// Break what is around it: disk, clock, limits, PostgreSQL
    Faults(FaultsArgs),
}

#[derive(Args)]
struct RoundsArgs {
    /// A grantd that was built with the feature crash-steps
    #[arg(long)]
    grantd: PathBuf,
    /// Kills at random moments; every named step comes once for each 50 of them, and at least once
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Where installs are made; a failed one is left there
    #[arg(long)]
    directory: PathBuf,
    /// Of a PostgreSQL server that databases may be made on; without it the engine is SQLite
    #[arg(long)]
    postgres: Option<String>,
    /// Only this step, that often
    #[arg(long)]
    step: Option<String>,
}

#[derive(Args, Clone)]
struct AccountsArgs {
    /// A grantd that was built with the feature crash-steps
    #[arg(long)]
    grantd: PathBuf,
    /// Where installs are made; a failed one is left there
    #[arg(long)]
    directory: PathBuf,
    /// Of a PostgreSQL server that databases may be made on; without it the engine is SQLite
    #[arg(long)]
    postgres: Option<String>,
    /// Only the deaths at this step
    #[arg(long)]
    step: Option<String>,
}

#[derive(Args)]
struct FaultsArgs {
    #[arg(long)]
    grantd: PathBuf,
    /// Where installs are made; a failed one is left there
    #[arg(long)]
    directory: PathBuf,
    /// Of a PostgreSQL server that databases may be made on
    #[arg(long)]
    postgres: Option<String>,
    /// Where that server's `data` is, so that it can be restarted
    #[arg(long)]
    postgres_home: Option<PathBuf>,
    /// Where its programs are
    #[arg(long)]
    postgres_programs: Option<PathBuf>,
    /// Only this story
    #[arg(long)]
    only: Option<String>,
}

/// How far the servers' clock is from the host's; their callers share it.
static CLOCK_OFFSET_S: AtomicI64 = AtomicI64::new(0);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let done = match cli.verb {
        Verb::Rounds(args) => runtime.block_on(rounds::run(&args)),
        Verb::Accounts(args) => runtime.block_on(accounts::run(&args)),
        Verb::Faults(args) => runtime.block_on(faults::run(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Something is not as it must be.
fn fault<T>(what: impl Into<String>) -> Result<T> {
    Err(what.into().into())
}

/// A lock whose holder panicked is taken all the same: its panic is told elsewhere.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "requests are signed with the time of the host, as every client does it")]
fn epoch_seconds() -> u64 {
    let host = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    host.saturating_add_signed(CLOCK_OFFSET_S.load(Ordering::SeqCst))
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people: no rule depends on it")]
fn now() -> Instant {
    Instant::now()
}
