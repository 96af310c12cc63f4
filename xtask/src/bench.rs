//! The verb `bench`: builds grantd, its variant without events and the lab, finds the peers, and lets the lab measure.
//!
//! Invariant: the variant without events lies under another name and is never where a grantd is looked for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::postgres::{Cluster, Durability};
use crate::{Result, command, repository};

/// Profile of every measured program, unless `--profile` names another.
const PROFILE: &str = "release";
/// Without it the variant without events does not compile.
const BENCH_BUILD_VARIABLE: &str = "GRANTD_BENCH_BUILD";

const HELP: &str = "\
cargo xtask bench [OPTIONS]

Measures a signing client against grantd on SQLite and PostgreSQL, a bare axum server,
grantd without events, and OpenBao and nginx where they are installed. Everything runs on this machine, on loopback.

  --quick              one short round: to see that it works, not to report
  --scale              a million grants and ten million events, or as many as the disk has room for
  --soak MINUTES       load for so long, and whether memory grows
  --pages              only pages of the portal, with 100,000 grants and 1,000,000 events behind them
  --storm              only the refresh storm: callers at once for one account whose token has ended
  --callers N          callers of a storm [default: 10000]
  --bao FILE           OpenBao's program [default: `bao` on PATH]
  --nginx FILE         nginx's program [default: `nginx` on PATH]
  --postgres URL       a PostgreSQL server to use [default: a throwaway one on the same disk, fsync on]
  --dir DIR            where the run puts its files, on the disk to be measured [default: target/bench]
  --tokens             only what proving a user token costs, which the usual run tells first
  --rounds N           rounds of every case [default: 5]
  --seconds S          seconds of a case in a round [default: 2]
  --grants N           grants [default: 20000; scale: 1000000]
  --events N           events of a run on a full database [default: 10000000; pages: 1000000]
  --connections N      connections [default: 64]
  --output FORM        table, markdown (for docs/benchmarks.md) or json
  --profile NAME       cargo profile to build with [default: release]; figures of another one are no results
  --help               this text

What the figures mean: docs/benchmarks.md
";

/// What the words ask for: ours, and those that are passed on to the lab.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    profile: String,
    /// Only what proving a user token costs.
    only_tokens: bool,
    has_postgres: bool,
    has_directory: bool,
    rest: Vec<String>,
}

pub fn run(words: &[String]) -> Result {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let asked = parse(words)?;
    if asked.only_tokens {
        return tokens(&build_lab(&asked.profile)?);
    }
    let programs = build(&asked.profile, compares_with_unaudited(&asked.rest))?;
    let home = repository::target().join("bench");
    let cluster = match asked.has_postgres {
        true => None,
        false => durable_cluster(&home)?,
    };
    let mut lab = command::command(&programs.lab);
    lab.arg("bench").arg("--grantd").arg(&programs.grantd);
    if let Some(unaudited) = &programs.unaudited {
        tokens(&programs.lab)?;
        lab.arg("--unaudited").arg(unaudited);
    }
    if let Some(cluster) = &cluster {
        lab.arg("--postgres").arg(cluster.url());
    }
    if !asked.has_directory {
        lab.arg("--dir").arg(&home);
    }
    command::run(lab.args(&asked.rest))
}

fn parse(words: &[String]) -> Result<Asked> {
    let mut asked = Asked {
        profile: PROFILE.to_owned(),
        only_tokens: false,
        has_postgres: false,
        has_directory: false,
        rest: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        match name {
            "--profile" => {
                let value = value.map(str::to_owned).or_else(|| words.next().cloned());
                asked.profile = value.ok_or("--profile needs a name, such as `release`")?;
                continue;
            }
            "--tokens" => {
                asked.only_tokens = true;
                continue;
            }
            "--postgres" => asked.has_postgres = true,
            "--dir" => asked.has_directory = true,
            _ => {}
        }
        asked.rest.push(word.clone());
    }
    Ok(asked)
}

struct Programs {
    grantd: PathBuf,
    /// Only for the usual run: it takes as long to build as the real one.
    unaudited: Option<PathBuf>,
    lab: PathBuf,
}

/// Whether it is the usual run, with every case: the others look at one thing of the real program.
fn compares_with_unaudited(rest: &[String]) -> bool {
    let is_of_another =
        |word: &String| ["--scale", "--soak", "--storm", "--pages"].iter().any(|flag| word.starts_with(flag));
    !rest.iter().any(is_of_another)
}

/// What proving a user token costs, whose keys are at hand: it fails past its budget.
fn tokens(lab: &Path) -> Result {
    command::run(command::command(lab).arg("tokens"))
}

fn build_lab(profile: &str) -> Result<PathBuf> {
    let mut cargo = command::cargo();
    command::run(cargo.args(["build", "--locked", "--profile", profile, "--package", "grantd-lab"]))?;
    Ok(built(profile).join("grantd-lab"))
}

/// Where this profile's programs are.
fn built(profile: &str) -> PathBuf {
    repository::target().join(if profile == "dev" { "debug" } else { profile })
}

/// The variant first: it is built under grantd's name, and the real one must be what is left there.
fn build(profile: &str, with_unaudited: bool) -> Result<Programs> {
    let built = built(profile);
    let cargo = |package: &str| {
        let mut cargo = command::cargo();
        cargo.args(["build", "--locked", "--profile", profile, "--package", package]);
        cargo
    };
    let mut unaudited = None;
    if with_unaudited {
        command::run(cargo("grantd").args(["--features", "bench-unaudited"]).env(BENCH_BUILD_VARIABLE, "1"))?;
        std::fs::rename(built.join("grantd"), unaudited.insert(built.join("grantd-bench-unaudited")))?;
    }
    command::run(&mut cargo("grantd"))?;
    let lab = build_lab(profile)?;
    Ok(Programs { grantd: built.join("grantd"), unaudited, lab })
}

/// The same lints for the variant without events, which no other step compiles.
pub fn clippy_unaudited() -> Result {
    let mut cargo = command::cargo();
    cargo.args(["clippy", "--locked", "--package", "grantd", "--features", "bench-unaudited", "--", "-D", "warnings"]);
    command::run(cargo.env(BENCH_BUILD_VARIABLE, "1"))
}

/// A PostgreSQL that syncs as it does by default; its directory is on the measured disk.
fn durable_cluster(home: &Path) -> Result<Option<Cluster>> {
    if crate::postgres::programs().is_none() {
        return Ok(None);
    }
    // The server runs as a user of its own, who must be able to make its directory there.
    let below = home.join("postgres");
    std::fs::create_dir_all(&below)?;
    std::fs::set_permissions(&below, std::fs::Permissions::from_mode(0o1777))?;
    Cluster::start_with(Durability::Full { below: &below }).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn our_own_words_are_taken_out_and_the_rest_is_passed_on() {
        let asked = parse(&words("--quick --profile quick --dir=/x --bao /y")).unwrap();
        assert_eq!((asked.profile.as_str(), asked.has_postgres, asked.has_directory), ("quick", false, true));
        assert_eq!(asked.rest, words("--quick --dir=/x --bao /y"));
        let asked = parse(&words("--profile=dev --postgres postgres://x")).unwrap();
        assert_eq!((asked.profile.as_str(), asked.has_postgres), ("dev", true));
        assert_eq!(asked.rest, words("--postgres postgres://x"));
        assert_eq!(parse(&[]).unwrap().profile, PROFILE);
        let tokens = parse(&words("--tokens --profile quick")).unwrap();
        assert!(tokens.only_tokens && tokens.rest.is_empty() && !asked.only_tokens);
    }

    #[test]
    fn only_the_usual_run_is_compared_with_one_without_events() {
        for (line, compares) in
            [("", true), ("--quick --rounds 3", true), ("--pages --quick", false), ("--soak=5", false)]
        {
            assert_eq!(compares_with_unaudited(&words(line)), compares, "{line}");
        }
    }

    #[test]
    fn a_profile_without_a_name_is_refused() {
        let error = parse(&words("--profile")).unwrap_err().to_string();
        assert_eq!(error, "--profile needs a name, such as `release`");
    }
}
