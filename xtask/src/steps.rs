//! The steps of `check`, in order, each with the minutes it may take on two cores.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pair::Pair;
use crate::postgres::{Cluster, URL_VARIABLE};
use crate::{Result, bench, command, crash, edges, fuzz, openapi, repository, tools};

/// What the whole check may take on a bare machine with two cores.
const BUDGET_MINUTES: u64 = 60;

/// Where the binary of the conformance tests is kept, below the target directory.
const KEPT: &str = "check";

/// Tests of the official client that run side by side: they wait for disks and for each other's answers more than they compute.
const CONFORMANCE_WORKERS: &str = "3";

/// A host that neither answers nor refuses must not hold the check up.
const ADVISORY_FETCH_SECONDS_MAX: &str = "60";

pub struct Step {
    pub name: &'static str,
    /// Words after `--` go to the tool behind it.
    pub takes_words: bool,
    /// It reads flags of its own.
    pub takes_flags: bool,
    minutes: u64,
    run: fn(&mut Run, &[String]) -> Result,
}

/// What says no soonest comes first.
pub const STEPS: &[Step] = &[
    Step { name: "fmt", takes_words: false, takes_flags: false, minutes: 1, run: fmt },
    Step { name: "edges", takes_words: false, takes_flags: false, minutes: 1, run: |_, _| edges::check() },
    Step { name: "docs", takes_words: false, takes_flags: false, minutes: 3, run: docs },
    Step { name: "clippy", takes_words: false, takes_flags: false, minutes: 7, run: clippy },
    Step { name: "tools", takes_words: false, takes_flags: false, minutes: 4, run: install },
    Step { name: "deny", takes_words: false, takes_flags: false, minutes: 1, run: deny },
    Step { name: "test", takes_words: true, takes_flags: false, minutes: 12, run: test },
    Step { name: "build", takes_words: false, takes_flags: false, minutes: 1, run: build },
    Step { name: "replicas", takes_words: false, takes_flags: false, minutes: 5, run: replicas },
    Step { name: "promotion", takes_words: false, takes_flags: false, minutes: 1, run: promotion },
    Step { name: "conformance", takes_words: true, takes_flags: false, minutes: 12, run: conformance },
    Step { name: "openapi", takes_words: false, takes_flags: false, minutes: 2, run: openapi },
    Step { name: "crash", takes_words: false, takes_flags: true, minutes: 5, run: crash },
    Step { name: "faults", takes_words: false, takes_flags: true, minutes: 1, run: faults },
    Step { name: "fuzz", takes_words: false, takes_flags: true, minutes: 4, run: |_, words| fuzz::run(words) },
];

/// What the steps of one run share.
#[derive(Default)]
pub struct Run {
    /// What installs the tools beside the first steps, which need none.
    tools: Option<Beside>,
    postgres: Option<Cluster>,
    built: bool,
}

impl Run {
    fn postgres(&mut self) -> Result<&str> {
        if self.postgres.is_none() {
            let cluster = Cluster::start()?;
            println!("PostgreSQL for this run: {}", cluster.url());
            self.postgres = Some(cluster);
        }
        Ok(self.postgres.as_ref().ok_or("PostgreSQL is gone")?.url())
    }
}

/// A step in a process of its own, beside others: much of what it does is waiting for registries. It prints when it is waited for.
struct Beside {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Beside {
    fn start(name: &'static str) -> Result<Self> {
        fs::create_dir_all(repository::target())?;
        let log = repository::target().join(format!("{name}.log"));
        let file = fs::File::create(&log)?;
        let mut step = command::command(std::env::current_exe()?);
        step.arg(name).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        println!("beside the first steps: cargo xtask {name}, its output in {}", log.display());
        Ok(Self { name, child: step.spawn()?, log })
    }

    fn wait(mut self) -> Result {
        let status = self.child.wait()?;
        print!("{}", String::from_utf8_lossy(&fs::read(&self.log)?));
        if status.success() { Ok(()) } else { Err(format!("`cargo xtask {}` ended with {status}", self.name).into()) }
    }
}

impl Drop for Beside {
    /// What is installed halfway would be in the way of the next run.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            println!("waiting for `cargo xtask {}` to end", self.name);
            let _ = self.child.wait();
        }
    }
}

pub fn find(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

/// One step, as a verb.
pub fn alone(step: &Step, words: &[String]) -> Result {
    (step.run)(&mut Run::default(), words)
}

/// Every step, until one fails.
pub fn check() -> Result {
    tools::compilers()?;
    let mut run = Run { tools: Some(Beside::start("tools")?), ..Run::default() };
    let mut took = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        println!("\n=== {} of {}: {} ===", index + 1, STEPS.len(), step.name);
        let started = now();
        let result = (step.run)(&mut run, &[]);
        let duration = started.elapsed();
        took.push((step, duration));
        if let Err(error) = result {
            println!("\n{error}\n\n{}", table(&took));
            let name = step.name;
            return Err(format!("check failed in `{name}`; that step alone: cargo xtask {name}").into());
        }
        println!("--- {} passed in {}", step.name, clock(duration));
    }
    drop(run);
    println!("\n{}", table(&took));
    println!("check passed: all {} steps", STEPS.len());
    Ok(())
}

fn fmt(_: &mut Run, _: &[String]) -> Result {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))
}

fn install(run: &mut Run, _: &[String]) -> Result {
    match run.tools.take() {
        Some(tools) => tools.wait(),
        None => tools::install(),
    }
}

fn clippy(_: &mut Run, _: &[String]) -> Result {
    let mut cargo = command::cargo();
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command::run(&mut cargo)?;
    let mut cargo = command::cargo();
    cargo.args(["clippy", "--locked", "--package", "grantd", "--package", "grantd-server", "--all-targets"]);
    cargo.args(["--features", command::OPTIONAL, "--", "-D", "warnings"]);
    command::run(&mut cargo)?;
    bench::clippy_unaudited()
}

fn test(run: &mut Run, words: &[String]) -> Result {
    tools::for_rust_tests()?;
    let names_packages = words.iter().any(|word| word.starts_with("-p") || word.starts_with("--package"));
    let mut cargo = if names_packages { command::cargo() } else { command::workspace("test", &[]) };
    if names_packages {
        cargo.args(["test", "--locked"]);
    }
    cargo.args(words).env(URL_VARIABLE, run.postgres()?);
    command::run(&mut cargo)
}

/// The binary that the conformance tests drive. The tests' build made it, so after them this only copies.
fn build(run: &mut Run, _: &[String]) -> Result {
    command::run(&mut command::programs(&["grantd"], &[]))?;
    repository::keep("grantd", KEPT)?;
    run.built = true;
    Ok(())
}

/// The stories of several servers.
fn cluster(story: &str) -> Command {
    let mut cargo = command::workspace("test", &[]);
    cargo.args(["--test", "cluster", story, "--", "--nocapture"]);
    cargo
}

fn replicas(run: &mut Run, _: &[String]) -> Result {
    tools::for_rust_tests()?;
    command::run(cluster("replicas").env("GRANTD_TEST_REPLICAS_URL", run.postgres()?))
}

fn promotion(_: &mut Run, _: &[String]) -> Result {
    tools::for_rust_tests()?;
    let pair = Pair::start()?;
    let [primary, standby] = pair.urls();
    let mut story = cluster("promotion");
    story.env("GRANTD_TEST_PRIMARY_URL", primary).env("GRANTD_TEST_STANDBY_URL", standby);
    command::run(story.env("GRANTD_TEST_PRIMARY_PID", pair.primary_pid()))
}

fn conformance(run: &mut Run, words: &[String]) -> Result {
    tools::for_rust_tests()?;
    tools::for_conformance()?;
    if !run.built {
        build(run, &[])?;
    }
    if !words.is_empty() {
        return command::run(pytest(run, &tools::VENV_NEWEST)?.args(words));
    }
    let mut newest = pytest(run, &tools::VENV_NEWEST)?;
    newest.args(["--numprocesses", CONFORMANCE_WORKERS, "--dist", "worksteal", "conformance"]);
    command::run(&mut newest)?;
    command::run(pytest(run, &tools::VENV_OLDEST)?.arg("conformance/smoke"))
}

fn pytest(run: &mut Run, venv: &tools::Venv) -> Result<Command> {
    let mut python = command::command(venv.python());
    python.args(["-m", "pytest", "-p", "no:cacheprovider", "-ra", "--durations=5"]);
    python.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    python.env("GRANTD_BIN", binary()).env(URL_VARIABLE, run.postgres()?);
    python.env("GRANTD_TEST_NODE_MODULES", tools::node_modules());
    python.env("GRANTD_TEST_SCREENSHOTS", repository::target().join("screenshots"));
    Ok(python)
}

fn binary() -> PathBuf {
    repository::target().join(KEPT).join("grantd")
}

fn openapi(run: &mut Run, _: &[String]) -> Result {
    if !run.built {
        build(run, &[])?;
    }
    openapi::run(&binary())
}

fn crash(run: &mut Run, words: &[String]) -> Result {
    tools::for_rust_tests()?;
    crash::run(|| Ok(run.postgres()?.to_owned()), words)
}

fn faults(_: &mut Run, words: &[String]) -> Result {
    tools::for_rust_tests()?;
    tools::for_faults()?;
    crash::faults(words)
}

fn deny(_: &mut Run, _: &[String]) -> Result {
    let program = tools::cargo_deny()?;
    let deny = || {
        let mut command = command::command(&program);
        command.args(["--workspace", "--all-features", "--locked"]);
        command
    };
    command::run(deny().args(["check", "bans", "licenses", "sources"]))?;
    let mut fetch = command::command("timeout");
    fetch.arg(ADVISORY_FETCH_SECONDS_MAX).arg(&program).args(["fetch", "db"]);
    if command::succeeds(&mut fetch) {
        return command::run(deny().args(["check", "--disable-fetch", "advisories"]));
    }
    println!("advisories: not run (their database cannot be fetched from here; a release must run them)");
    Ok(())
}

fn docs(_: &mut Run, _: &[String]) -> Result {
    let mut cargo = command::cargo();
    cargo.args(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut cargo)
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people: no rule depends on it")]
fn now() -> Instant {
    Instant::now()
}

fn table(took: &[(&Step, Duration)]) -> String {
    let mut text = String::from("step           took   budget\n");
    for (step, duration) in took {
        let over = if *duration > Duration::from_mins(step.minutes) { "  over budget" } else { "" };
        let _ = writeln!(
            text,
            "{:<12}{:>7}{:>9}{over}",
            step.name,
            clock(*duration),
            clock(Duration::from_mins(step.minutes))
        );
    }
    let total: Duration = took.iter().map(|(_, duration)| *duration).sum();
    let over = if total > Duration::from_mins(BUDGET_MINUTES) { "  over budget" } else { "" };
    let _ = writeln!(text, "{:<12}{:>7}{:>9}{over}", "total", clock(total), clock(Duration::from_mins(BUDGET_MINUTES)));
    text
}

/// `3:07`: minutes and seconds, rounded up so that no step takes nothing.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_millis().div_ceil(1000);
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_fit_into_the_budget() {
        let sum: u64 = STEPS.iter().map(|step| step.minutes).sum();
        assert_eq!(sum, BUDGET_MINUTES);
    }

    #[test]
    fn durations_read_as_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(1)), "0:01");
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(clock(Duration::from_millis(59_001)), "1:00");
        assert_eq!(clock(Duration::from_hours(1)), "60:00");
    }

    #[test]
    fn the_table_says_what_is_over_its_budget() {
        let step = find("fmt").unwrap();
        let inside = table(&[(step, Duration::from_mins(1))]);
        assert!(!inside.contains("over"), "{inside}");
        let outside = table(&[(step, Duration::from_secs(61))]);
        let row = outside.lines().find(|line| line.starts_with("fmt")).unwrap();
        assert_eq!(row, "fmt            1:01     1:00  over budget");
    }
}
