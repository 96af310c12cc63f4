//! The verbs `crash` and `faults`: a grantd that can die at named steps, and the program that kills it, breaks what is around it, and
//! looks at what is left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::postgres::{self, Cluster};
use crate::{Result, command, repository};

const HELP: &str = "\
cargo xtask crash [--rounds N] [--engine sqlite|postgres] [--seed S] [--step NAME]

  --rounds N   kills at random moments, for each engine; every named step comes once for each 50 of them, and at least once [10]
               The steps of accounts and users (callback., refresh., ending., sign_in., key_entry.) come once, with a provider
               of their own.
  --engine E   only this one
  --seed S     the choices of an earlier run
  --step NAME  only this step, --rounds times; a step of accounts or users once
               The steps of a trail that comes of age (retention.) need another clock: cargo xtask faults --only trail
";

/// Steps that are passed on the way to an OAuth provider and back; the same ones as in `crash/src/accounts.rs`.
const OF_ACCOUNTS: [&str; 5] = ["callback.", "refresh.", "ending.", "sign_in.", "key_entry."];
const ENGINES: [&str; 2] = ["sqlite", "postgres"];

/// What the words ask for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    engines: Vec<&'static str>,
    passed_on: Vec<String>,
}

/// Everything at the same time: much of a round is waiting for a disk, and nearly all of what has to do with accounts for a lease.
pub fn run(postgres: impl FnOnce() -> Result<String>, words: &[String]) -> Result {
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        print!("{HELP}");
        return Ok(());
    }
    let asked = parse(words)?;
    let programs = Programs::build()?;
    let url = if asked.engines.contains(&"postgres") { Some(postgres()?) } else { None };
    let mut running = Vec::new();
    if let Some(words) = asked.of_accounts() {
        running.extend(asked.start(&programs, url.as_deref(), "accounts", &words)?);
    }
    if asked.has_rounds() {
        running.extend(asked.start(&programs, url.as_deref(), "rounds", &asked.passed_on)?);
    }
    all_survived(running)
}

impl Asked {
    /// The step that is asked for, if it is one only.
    fn step(&self) -> Option<&String> {
        let at = self.passed_on.iter().position(|word| word == "--step")?;
        self.passed_on.get(at + 1)
    }

    fn is_of_accounts(&self) -> bool {
        self.step().is_some_and(|step| OF_ACCOUNTS.iter().any(|story| step.starts_with(story)))
    }

    fn has_rounds(&self) -> bool {
        !self.is_of_accounts()
    }

    /// What the deaths on the way to a provider are asked with; none: they are not asked for.
    fn of_accounts(&self) -> Option<Vec<String>> {
        match self.step() {
            None => Some(Vec::new()),
            Some(step) => self.is_of_accounts().then(|| vec!["--step".to_owned(), step.clone()]),
        }
    }

    /// One verb, for every engine at the same time.
    fn start(&self, programs: &Programs, url: Option<&str>, verb: &str, words: &[String]) -> Result<Vec<Running>> {
        let mut running = Vec::new();
        for engine in &self.engines {
            let mut command = programs.command(verb);
            command.args(words);
            if let Some(url) = url.filter(|_| *engine == "postgres") {
                command.args(["--postgres", url]);
            }
            running.push(Running { engine, child: command.spawn()? });
        }
        Ok(running)
    }
}

fn all_survived(mut running: Vec<Running>) -> Result {
    let mut failed = BTreeSet::new();
    for running in &mut running {
        if !running.child.wait()?.success() {
            failed.insert(running.engine);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let engines: Vec<_> = failed.into_iter().collect();
    Err(format!("a crash was not survived on {}", engines.join(" and ")).into())
}

/// The verb `faults`: `--only NAME`, or every story.
pub fn faults(words: &[String]) -> Result {
    let only = match words {
        [] => None,
        [flag, name] if flag == "--only" => Some(name),
        _ => return Err("cargo xtask faults [--only NAME]; a wrong name lists the stories".into()),
    };
    let programs = Programs::build()?;
    // Its own: one of the stories restarts it.
    let cluster = Cluster::start()?;
    let mut faults = programs.command("faults");
    faults.args(["--postgres", cluster.url()]).arg("--postgres-home").arg(cluster.home());
    if let Some(binaries) = postgres::programs() {
        faults.arg("--postgres-programs").arg(binaries);
    }
    if let Some(name) = only {
        faults.args(["--only", name]);
    }
    command::run(&mut faults)
}

/// Ends with its handle.
struct Running {
    engine: &'static str,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or we end before it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What breaks and what is broken.
pub struct Programs {
    crash: PathBuf,
    pub grantd: PathBuf,
    directory: PathBuf,
}

impl Programs {
    /// Builds both; copies, so that no later build replaces what runs.
    pub fn build() -> Result<Self> {
        command::run(&mut command::programs(&["grantd", "grantd-crash"], &["grantd/crash-steps"]))?;
        let directory = repository::target().join("crash");
        Ok(Self {
            crash: repository::keep("grantd-crash", "crash")?,
            grantd: repository::keep("grantd", "crash")?,
            directory,
        })
    }

    /// A verb of the program that breaks, told where the other one is and where to work.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = command::command(&self.crash);
        command.arg(verb).arg("--grantd").arg(&self.grantd).arg("--directory").arg(&self.directory);
        command
    }
}

fn parse(words: &[String]) -> Result<Asked> {
    let mut asked = Asked { engines: ENGINES.to_vec(), passed_on: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` needs a value\n\n{HELP}"))?;
        match word.as_str() {
            "--engine" => {
                asked.engines.retain(|engine| engine == value);
                if asked.engines.is_empty() {
                    return Err(format!("`--engine {value}`: write sqlite or postgres").into());
                }
            }
            "--rounds" | "--seed" if value.parse::<u64>().is_err() => {
                return Err(format!("`{word} {value}`: write a number").into());
            }
            "--rounds" | "--seed" | "--step" => asked.passed_on.extend([word.clone(), value.clone()]),
            _ => return Err(format!("no flag `{word}`\n\n{HELP}").into()),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn both_engines_unless_one_is_named() {
        assert_eq!(asked("").unwrap().engines, ENGINES);
        let one = asked("--engine postgres --rounds 1000 --seed 7").unwrap();
        assert_eq!(one.engines, ["postgres"]);
        assert_eq!(one.passed_on, ["--rounds", "1000", "--seed", "7"]);
    }

    #[test]
    fn one_step_is_of_one_story() {
        let all = asked("--rounds 5").unwrap();
        assert!(all.has_rounds() && all.of_accounts() == Some(Vec::new()));
        let rounds = asked("--step token.durable").unwrap();
        assert!(rounds.has_rounds() && rounds.of_accounts().is_none());
        let account = asked("--rounds 5 --step refresh.stored").unwrap();
        assert!(!account.has_rounds());
        assert_eq!(account.of_accounts().unwrap(), ["--step", "refresh.stored"]);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for line in ["--engine mysql", "--rounds many", "--seed", "--fast 1", "--rounds -1"] {
            assert!(asked(line).is_err(), "{line}");
        }
    }
}
