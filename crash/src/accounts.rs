//! Deaths on the way to an OAuth provider and back: between every two steps of a renewal, of a callback, of ending tokens, of a sign-in,
//! and of taking a user's own key.
//!
//! Each death has an install and a provider of its own, and real time passes: most of it is waiting for a lease to lapse, which all of
//! them do together.

mod callback;
mod ending;
mod key_entry;
mod renewal;
mod sign_in;
mod world;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::install::STEP_VARIABLE;
use super::{AccountsArgs, Result, epoch_seconds, fault, now};
use world::Plan;

/// The stories that these steps belong to.
pub const STORIES: [&str; 5] = ["callback.", "refresh.", "ending.", "sign_in.", "key_entry."];
/// How long an attempt of a process that died keeps others from trying (`REFRESH_LEASE_MS` and its like), less a little for clocks
/// that are read at different moments.
const LEASE: Duration = Duration::from_millis(59_900);
/// Deaths that are prepared at the same time; any number waits.
const PREPARED: usize = 3;

/// One death, and what must come of it.
#[derive(Clone, Copy)]
enum Death {
    Renewal(&'static renewal::Death),
    Callback(&'static callback::Death),
    Ending(&'static ending::Death),
    SignIn(&'static sign_in::Death),
    KeyEntry(&'static key_entry::Death),
}

impl Death {
    fn all() -> Vec<Self> {
        let renewals = renewal::DEATHS.iter().map(Self::Renewal);
        let callbacks = callback::DEATHS.iter().map(Self::Callback);
        let users = sign_in::DEATHS.iter().map(Self::SignIn).chain(key_entry::DEATHS.iter().map(Self::KeyEntry));
        renewals.chain(callbacks).chain(ending::DEATHS.iter().map(Self::Ending)).chain(users).collect()
    }

    fn step(self) -> Option<&'static str> {
        match self {
            Self::Renewal(death) => death.step,
            Self::Callback(death) => Some(death.step),
            Self::Ending(death) => Some(death.step),
            Self::SignIn(death) => Some(death.step),
            Self::KeyEntry(death) => Some(death.step),
        }
    }

    /// What came of it, in words.
    async fn die(self, plan: Plan) -> Result<String> {
        match self {
            Self::Renewal(death) => renewal::die(plan, death).await,
            Self::Callback(death) => callback::die(plan, death).await,
            Self::Ending(death) => ending::die(plan, death).await,
            Self::SignIn(death) => sign_in::die(plan, death).await,
            Self::KeyEntry(death) => key_entry::die(plan, death).await,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Renewal(death) => death.name(),
            _ => self.step().unwrap_or_default().to_owned(),
        }
    }
}

pub async fn run(args: &AccountsArgs) -> Result {
    let engine = if args.postgres.is_some() { "postgres" } else { "sqlite" };
    let deaths: Vec<Death> =
        Death::all().into_iter().filter(|death| args.step.is_none() || death.step() == args.step.as_deref()).collect();
    covered(args).await?;
    let (started, turns) = (now(), Arc::new(Semaphore::new(PREPARED)));
    let mut running = JoinSet::new();
    for (number, death) in deaths.into_iter().enumerate() {
        let directory = args.directory.join(format!("{engine}-account-{number}"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        let plan = Plan { args: args.clone(), number, directory: directory.clone(), turns: Arc::clone(&turns) };
        running.spawn(async move { (number, death, directory, death.die(plan).await) });
    }
    let mut told = Vec::new();
    while let Some(ended) = running.join_next().await {
        let (number, death, directory, outcome) = ended?;
        let name = death.name();
        match outcome {
            Ok(outcome) => {
                std::fs::remove_dir_all(&directory)?;
                told.push((number, format!("{engine}: {name:<34}{outcome}")));
            }
            Err(error) => return Err(kept(&name, death.step(), engine, &directory, &error).into()),
        }
    }
    told.sort();
    for (_, line) in &told {
        println!("{line}");
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{engine}: {} deaths on the way to a provider in {seconds:.1} s; no half state", told.len());
    Ok(())
}

fn kept(name: &str, step: Option<&str>, engine: &str, directory: &std::path::Path, error: &super::Error) -> String {
    let again = step.map_or_else(String::new, |step| format!(" --step {step}"));
    format!("{name}: {error}\n  kept: {}\n  again: cargo xtask crash --engine {engine}{again}", directory.display())
}

/// Every step of these stories that the program has is died at.
async fn covered(args: &AccountsArgs) -> Result {
    let listed = Command::new(&args.grantd).env(STEP_VARIABLE, "list").output().await?;
    let text = String::from_utf8(listed.stdout)?;
    let there: BTreeSet<&str> =
        text.lines().filter(|step| STORIES.iter().any(|story| step.starts_with(story))).collect();
    let died_at: BTreeSet<&str> = Death::all().into_iter().filter_map(Death::step).collect();
    if !listed.status.success() || there.is_empty() {
        return fault(format!("{} was not built with the feature crash-steps", args.grantd.display()));
    }
    if there != died_at {
        let differ: Vec<_> = there.symmetric_difference(&died_at).collect();
        return fault(format!("of steps and deaths only one has {differ:?}"));
    }
    match &args.step {
        Some(step) if !there.contains(step.as_str()) => fault(format!("no step `{step}`")),
        _ => Ok(()),
    }
}

/// What tells apart the databases of runs on one server.
fn database_name(number: usize) -> String {
    format!("crash_account_{}_{}_{number}", epoch_seconds(), std::process::id())
}

/// Every file below this directory.
fn files(directory: PathBuf) -> Result<Vec<PathBuf>> {
    let (mut open, mut found) = (vec![directory], Vec::new());
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
