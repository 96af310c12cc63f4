//! `cargo xtask fuzz`: every target of `fuzz/` for some seconds, two at a time.
//!
//! Nothing but Rust and a C++ compiler is needed. Only this workspace is instrumented (`fuzz/rustc-instrumented`): what it depends on is
//! compiled once, for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Result, command, repository};

pub const HELP: &str = "\
cargo xtask fuzz [--seconds N] [--target NAME]

  --seconds N    how long each target runs [default: 20]
  --target NAME  this one only

Inputs that found something new are kept in target/fuzz/corpus and used again. An input that ended a run is kept in
target/fuzz/failures, and the error says how to repeat it.
";

const SECONDS: u64 = 20;
const SECONDS_MAX: u64 = 7 * 86_400;
/// Targets that run side by side.
const TOGETHER: usize = 2;
/// Memory of one run in MiB; a target that needs more has failed.
const MEMORY_MB: u32 = 2_048;

struct Options {
    seconds: u64,
    target: Option<String>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { seconds: SECONDS, target: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value\n\n{HELP}"))?;
            match word.as_str() {
                "--seconds" => {
                    let seconds = value.parse().ok().filter(|n| (1..=SECONDS_MAX).contains(n));
                    options.seconds = seconds.ok_or("`--seconds` is a number from 1 to a week's")?;
                }
                "--target" => options.target = Some(value.clone()),
                _ => return Err(format!("`{word}` is no option\n\n{HELP}").into()),
            }
        }
        Ok(options)
    }
}

pub fn run(words: &[String]) -> Result {
    let options = Options::parse(words)?;
    let names = targets()?;
    let wanted: Vec<&String> = names.iter().filter(|n| options.target.as_ref().is_none_or(|t| t == *n)).collect();
    if wanted.is_empty() {
        return Err(format!("there is no such target: it is one of {}", names.join(", ")).into());
    }
    let program = build()?;
    for pair in wanted.chunks(TOGETHER) {
        let running = pair.iter().map(|name| start(&program, name, options.seconds)).collect::<Result<Vec<_>>>()?;
        // All of them are waited for, whatever the first one says.
        let ended: Vec<Result> = running.into_iter().map(Running::wait).collect();
        ended.into_iter().collect::<Result>()?;
    }
    Ok(())
}

/// One directory of inputs a target.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(repository::root().join("fuzz/corpus"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Copied, so that the next plain build of the workspace does not replace it.
fn build() -> Result<PathBuf> {
    let mut cargo = command::workspace("build", &["grantd-fuzz/libfuzzer"]);
    cargo.args(["--bin", "grantd-fuzz"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", repository::root().join("fuzz/rustc-instrumented"));
    command::run(&mut cargo)?;
    repository::keep("grantd-fuzz", "fuzz")
}

struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    failures: PathBuf,
}

fn start(program: &Path, name: &str, seconds: u64) -> Result<Running> {
    let place = repository::target().join("fuzz");
    let (found, failures) = (place.join("corpus").join(name), place.join("failures").join(name));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failures)?;
    let log = place.join(format!("{name}.log"));
    let mut command: Command = command::command(program);
    command.env("GRANTD_FUZZ_TARGET", name);
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-rss_limit_mb={MEMORY_MB}"));
    command.args(["-timeout=20", "-max_len=4096", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.arg(&found).arg(repository::root().join("fuzz/corpus").join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    println!("fuzzing {name} for {seconds} s");
    let child = command.spawn()?;
    Ok(Running { name: name.to_owned(), child, log, failures })
}

impl Running {
    fn wait(mut self) -> Result {
        let status = self.child.wait()?;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if status.success() {
            let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units: "));
            println!("{:<12} {} inputs, nothing found", self.name, runs.unwrap_or("?").trim());
            return Ok(());
        }
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(format!(
            "fuzzing `{}` ended with {status}:\n{}\n\nthe input is in {}; to repeat it:\n  GRANTD_FUZZ_TARGET={} \
             cargo run --package grantd-fuzz FILE",
            self.name,
            tail.join("\n"),
            self.failures.display(),
            self.name
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_bad_ones_named() {
        let options = parsed("--seconds 5 --target head").unwrap();
        assert_eq!((options.seconds, options.target.as_deref()), (5, Some("head")));
        for bad in ["--seconds", "--seconds 0", "--seconds x", "--time 5"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
