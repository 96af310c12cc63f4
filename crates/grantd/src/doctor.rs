//! `grantd doctor`: looks everything over that an install needs, and says how to mend what is wrong.
//!
//! Invariants: it changes nothing (but the clock floor, when it is told to), works beside a running server, and calls nobody but
//! whom the configuration names.

mod database;
mod host;
mod network;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::Clock as _;
use grantd_domain::seal::{RootKey, RootKeys};
use grantd_domain::words::counted;
use grantd_store::{append_event, installs};
use serde::Serialize;

use crate::boot;
use crate::cli::{Context, Exit, Failure, Format, chain, confirm, escape, settings};
use crate::config::{Config, Flags};
use crate::host::Host;
use crate::root_key;

/// Flags of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Leave out what takes long on a large database: its integrity, and opening every stored value
    #[arg(long)]
    pub quick: bool,
    /// Take the host's clock for right although it had been later; credential calls resume. In the audit trail
    #[arg(long)]
    pub accept_clock: bool,
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Flags,
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Not looked at, and why.
    Skipped,
    Warning,
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Stable, for scripts.
    pub id: &'static str,
    pub level: Level,
    pub what: String,
    /// What to do; null when there is nothing to do.
    pub fix: Option<String>,
}

/// What was found so far.
#[derive(Default, Debug, Serialize)]
pub struct Findings {
    ok: bool,
    findings: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, id: &'static str, level: Level, what: String, fix: Option<String>) {
        self.findings.push(Finding { id, level, what, fix });
    }

    pub fn ok(&mut self, id: &'static str, what: impl Into<String>) {
        self.add(id, Level::Ok, what.into(), None);
    }

    pub fn skipped(&mut self, id: &'static str, what: impl Into<String>) {
        self.add(id, Level::Skipped, what.into(), None);
    }

    pub fn warning(&mut self, id: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.add(id, Level::Warning, what.into(), Some(fix.into()));
    }

    pub fn failure(&mut self, id: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.add(id, Level::Failure, what.into(), Some(fix.into()));
    }

    fn sum_up(&mut self) {
        self.ok = self.findings.iter().all(|finding| finding.level != Level::Failure);
    }

    /// For people: one line each, and what to do below it.
    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let level = match finding.level {
                Level::Ok => "ok      ",
                Level::Skipped => "skipped ",
                Level::Warning => "WARNING ",
                Level::Failure => "FAILURE ",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{level} {}: {}", finding.id, escape(&finding.what));
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "         -> {}", escape(fix));
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let (failures, warnings) = (count(Level::Failure), count(Level::Warning));
        let (failures, warnings) = (counted(failures, "failure", "failures"), counted(warnings, "warning", "warnings"));
        text + &format!("{failures}, {warnings}\n")
    }
}

/// Looks, prints, and fails without a further word when something is wrong.
pub async fn run(args: DoctorArgs, context: &mut Context) -> Result<(), Failure> {
    let mut findings = Findings::default();
    match settings::load(&args.settings, args.config.as_deref(), context) {
        Err(failure) => findings.failure("configuration", failure.message, failure.hint.unwrap_or_default()),
        Ok(config) => {
            if args.accept_clock {
                accept_clock(&config, context).await?;
            }
            examine(&config, args.quick, context, &mut findings).await;
        }
    }
    findings.sum_up();
    if context.format() == Format::Table && context.globals.fields.is_none() {
        context.term.print(&findings.text())?;
    } else {
        context.show(&findings)?;
    }
    if findings.ok { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
}

async fn examine(config: &Config, quick: bool, context: &Context, findings: &mut Findings) {
    findings.ok("configuration", format!("it can be read; data directory {}", config.data_dir.display()));
    for warning in &config.warnings {
        findings.warning("configuration", warning.clone(), "Change the setting, or take the risk knowingly.");
    }
    let is_served = host::data_dir(config, findings);
    host::tls(config, findings);
    let root = root_keys(config, context, findings);
    database::examine(config, root.as_ref(), quick, is_served, findings).await;
    host::disk(config, findings);
    network::examine(config, findings).await;
}

/// The root keys, if all of them can be read.
fn root_keys(config: &Config, context: &Context, findings: &mut Findings) -> Option<RootKeys> {
    let mut loaded = Vec::new();
    let sources = std::iter::once(&config.root_key).chain(&config.root_key_also);
    for source in sources {
        match root_key::load(source, &context.env) {
            Ok(key) => loaded.push(RootKey::new(&key)),
            Err(error) => findings.failure(
                "root_key",
                chain(&error),
                "Put the key where the setting says, readable by the user that runs grantd alone. A lost key cannot be replaced.",
            ),
        }
    }
    if loaded.len() != 1 + config.root_key_also.len() {
        return None;
    }
    let current = loaded.remove(0);
    findings.ok("root_key", format!("{} has id {}", config.root_key, current.id()));
    Some(RootKeys::new(current, loaded))
}

/// Lowers the clock floor to now, in the write of the event that says so.
async fn accept_clock(config: &Config, context: &mut Context) -> Result<(), Failure> {
    boot::require_database(config)?;
    let question = "Calls that were recorded while the clock was ahead may work once more. Go on?";
    confirm(question, context.globals.yes, &mut context.term)?;
    let store = boot::open_store(config).await?;
    let now = Host.now();
    let accepted = store
        .write(move |tx| {
            let Some(organization) = installs::organization(tx)? else { return Ok(false) };
            let Some(floor) = installs::find(tx)?.map(|install| install.clock_floor) else { return Ok(false) };
            if floor <= now {
                return Ok(true);
            }
            installs::accept_clock(tx, now)?;
            let owner = Owner::Organization(organization);
            let event = Event::new(&Host, now, owner, Kind::ClockAccepted, Outcome::Allowed, Actor::Job)
                .core("behind_ms", floor.since(now));
            append_event(tx, &event.prepare())?;
            Ok(true)
        })
        .await;
    store.close().await;
    match accepted {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::local("the database holds no install").hint("Run `grantd init` first.")),
        Err(e) => Err(Failure::from_error(Exit::Error, &e)),
    }
}

#[test]
fn findings_for_people_are_as_they_were() {
    let mut findings = Findings::default();
    findings.ok("root_key", "file:/var/lib/grantd/root.key has id 7");
    findings.skipped("tls", "another program speaks TLS");
    findings.warning("backup", "none was ever made", "Run `grantd backup` every day.");
    findings.failure("clock", "it was later\u{1b}[2J before", "Set it right, or pass --accept-clock.");
    let wanted = "ok       root_key: file:/var/lib/grantd/root.key has id 7
skipped  tls: another program speaks TLS
WARNING  backup: none was ever made
         -> Run `grantd backup` every day.
FAILURE  clock: it was later\\u{1b}[2J before
         -> Set it right, or pass --accept-clock.
1 failure, 1 warning
";
    assert_eq!(findings.text(), wanted);
}
