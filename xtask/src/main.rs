//! `cargo xtask`: everything that builds, tests and checks grantd, with nothing to install first but Rust.
//!
//! Invariant: a verb run alone does exactly what the same step does inside `check`.

mod bench;
mod command;
mod crash;
mod dev;
mod edges;
mod fuzz;
mod openapi;
mod overhead;
mod pair;
mod postgres;
mod repository;
mod steps;
mod tools;

use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;
type Result<T = ()> = std::result::Result<T, Error>;

const HELP: &str = "\
cargo xtask VERB

  check        everything CI runs: installs what is missing, then every step below, in order

  tools        install what the tests need (Debian packages, Python and npm packages, cargo-deny), if missing
  fmt          rustfmt, check only
  clippy       clippy on every target, warnings are errors
  edges        who may depend on whom, how long a file may be, no path that leaves the repository
  test         cargo test --workspace on SQLite and PostgreSQL; words after `--` go to cargo test
  build        the binary the conformance tests run: target/check/grantd
  replicas     three servers on one PostgreSQL: what one revokes, none releases; 10,000 interleavings
  promotion    the primary dies under load, its standby is promoted: what was answered is there
  conformance  the official clients, Python and browser, against that binary; words after `--` go to pytest
  openapi      the document before a validator, the API before schemathesis, against `grantd dev`
  crash        kill -9 at random moments and at every named step, both engines; --help for its flags
  faults       disk full, disk errors, clock moved, no descriptors, little memory, PostgreSQL cut off; --only NAME
  fuzz         every target of fuzz/ for 20 s, two at a time; --help for its flags
  deny         dependencies: bans, licences, sources and, where it can be fetched, the advisory database
  docs         rustdoc, warnings are errors

  bench        measure grantd against its peers and its targets; `cargo xtask bench --help` has its options
  overhead     what a call costs in the Rust client and in the Python one, against `grantd dev`
  postgres     start a throwaway PostgreSQL, print its URL, remove it on Ctrl-C
  help         this text
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result {
    // It has options of its own.
    if let Some((verb, rest)) = words.split_first()
        && verb == "bench"
    {
        return bench::run(rest);
    }
    let (verb, rest) = split(words)?;
    match verb {
        "help" => {
            print!("{HELP}");
            Ok(())
        }
        "check" => steps::check(),
        "overhead" => overhead::run(),
        "postgres" => postgres::hold(),
        name => match steps::find(name) {
            Some(step) => steps::alone(step, rest),
            None => Err(format!("no verb `{name}`\n\n{HELP}").into()),
        },
    }
}

/// The verb, and the words after `--` that are meant for the tool behind it.
fn split(words: &[String]) -> Result<(&str, &[String])> {
    let Some((verb, rest)) = words.split_first() else {
        return Ok(("help", &[]));
    };
    if matches!(verb.as_str(), "--help" | "-h") {
        return Ok(("help", &[]));
    }
    if steps::find(verb).is_some_and(|step| step.takes_flags) {
        return Ok((verb, rest));
    }
    let takes_words = steps::find(verb).is_some_and(|step| step.takes_words);
    match rest.split_first() {
        None => Ok((verb, &[])),
        Some((dashes, words)) if dashes == "--" && takes_words => Ok((verb, words)),
        Some((word, _)) if takes_words => Err(format!("put `--` before `{word}`: cargo xtask {verb} -- {word}").into()),
        Some((word, _)) => Err(format!("`{verb}` takes no arguments, and `{word}` is one").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn nothing_and_help_flags_show_the_help() {
        for line in ["", "-h", "--help", "help"] {
            assert_eq!(split(&words(line)).unwrap().0, "help", "{line}");
        }
    }

    #[test]
    fn words_after_two_dashes_go_to_the_tool() {
        let line = words("test -- -p grantd-wire -- --nocapture");
        let (verb, rest) = split(&line).unwrap();
        assert_eq!(verb, "test");
        assert_eq!(rest, words("-p grantd-wire -- --nocapture"));
    }

    #[test]
    fn a_verb_with_flags_of_its_own_gets_them() {
        let line = words("crash --rounds 5");
        assert_eq!(split(&line).unwrap(), ("crash", &words("--rounds 5")[..]));
    }

    #[test]
    fn a_forgotten_double_dash_is_named() {
        let error = split(&words("test audit")).unwrap_err().to_string();
        assert_eq!(error, "put `--` before `audit`: cargo xtask test -- audit");
    }

    #[test]
    fn a_verb_without_arguments_refuses_them() {
        assert!(split(&words("check --fast")).is_err());
        assert!(split(&words("fmt -- x")).is_err());
    }

    #[test]
    fn every_step_is_in_the_help() {
        for step in super::steps::STEPS {
            let shown = format!("  {} ", step.name);
            assert!(super::HELP.contains(&shown), "{}", step.name);
        }
    }
}
