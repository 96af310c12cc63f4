//! A throwaway PostgreSQL for one run.
//!
//! Invariant: whatever ends this process, a signal included, the server stops and its directory goes away. So it
//! is not this process that cleans up but a small shell that does so as soon as the pipe to it closes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Result, command};

/// Where the tests look for the server.
pub const URL_VARIABLE: &str = "GRANTD_TEST_POSTGRES_URL";

/// What a server must have to be started by us.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Oldest release that grantd promises to run on.
const VERSION_MIN: u32 = 14;

/// Somebody may take the port between our asking for it and the server's.
const START_TRIES_MAX: usize = 3;

/// For tests: the cluster lives for one run, so nothing of it needs to reach the disk.
const OPTIONS_FAST: &str = "-c fsync=off -c full_page_writes=off -c max_connections=300";

/// For the benchmark: durable as it is out of the box, with room for its data, and no checkpoint in the middle of a case.
const OPTIONS_DURABLE: &str =
    "-c max_connections=100 -c shared_buffers=512MB -c max_wal_size=8GB -c checkpoint_timeout=30min";

/// Whether what a server has committed survives the machine.
#[derive(Clone, Copy)]
pub enum Durability<'a> {
    /// It need not.
    Off,
    /// It does, on the disk of this directory where the server's user may write to it.
    Full { below: &'a Path },
}

/// `$1` programs, `$2` port, `$3` further options. It prints `ready` and its directory,
/// or else an explanation.
const KEEPER: &str = r#"
set -u
trap '' INT TERM HUP PIPE
home=$(mktemp -d "${TMPDIR:-/tmp}/grantd-postgres.XXXXXX" 2>/dev/null) ||
  home=$(mktemp -d /tmp/grantd-postgres.XXXXXX) || exit 1
remove() { "$1/pg_ctl" -D "$home/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$home"; }
if "$1/initdb" -D "$home/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$home/log" 2>&1 &&
   "$1/pg_ctl" -D "$home/data" -l "$home/log" -w -t 60 -o "-p $2 -k $home -c listen_addresses=127.0.0.1 \
     $3 -c log_min_messages=warning" start >>"$home/log" 2>&1
then
  echo "ready $home"
  cat >/dev/null
  remove "$1"
else
  tail -n 20 "$home/log"
  remove "$1"
  exit 1
fi
"#;

/// The shell that holds servers and cleans up after them.
pub struct Keeper(Child);

impl Keeper {
    /// Starts a script, and answers what it says after `ready`, or else its explanation.
    pub fn start(script: &mut Command) -> Result<std::result::Result<(Self, String), String>> {
        let mut keeper = script
            .current_dir("/")
            // Ctrl-C in a terminal goes to the whole process group; the keeper must outlive it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(keeper.stdout.take().ok_or("the keeper has no output")?);
        let mut first = String::new();
        said.read_line(&mut first)?;
        if let Some(ready) = first.trim_end().strip_prefix("ready ") {
            return Ok(Ok((Self(keeper), ready.to_owned())));
        }
        said.read_to_string(&mut first)?;
        keeper.wait()?;
        Ok(Err(first))
    }

    /// Returns when everything has stopped.
    fn end(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("warning: cannot wait for PostgreSQL to stop: {error}");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

pub struct Cluster {
    keeper: Keeper,
    url: String,
    home: PathBuf,
}

impl Cluster {
    /// A server for tests. Returns when it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(Durability::Off)
    }

    /// Returns when the server answers.
    pub fn start_with(durability: Durability<'_>) -> Result<Self> {
        let programs = programs().ok_or("no PostgreSQL found: run `cargo xtask tools`")?;
        let mut explanation = String::new();
        for _ in 0..START_TRIES_MAX {
            match Self::try_start(&programs, durability)? {
                Ok(cluster) => return Ok(cluster),
                Err(why) => explanation = why,
            }
        }
        Err(format!("PostgreSQL did not start:\n{explanation}").into())
    }

    fn try_start(programs: &Path, durability: Durability<'_>) -> Result<std::result::Result<Self, String>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut script = unprivileged("sh")?;
        let options = match durability {
            Durability::Off => OPTIONS_FAST,
            Durability::Full { below } => {
                script.env("TMPDIR", below);
                OPTIONS_DURABLE
            }
        };
        script.args(["-c", KEEPER, "grantd-postgres"]).arg(programs).arg(port.to_string()).arg(options);
        Ok(Keeper::start(&mut script)?.map(|(keeper, home)| {
            let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
            Self { keeper, url, home: home.into() }
        }))
    }

    /// The superuser's way in.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Cluster {
    /// Where its `data` is.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.end();
        if self.home.exists() {
            eprintln!("warning: {} is left over", self.home.display());
        }
    }
}

/// The verb `postgres`: a server for as long as somebody watches.
pub fn hold() -> Result {
    let cluster = Cluster::start()?;
    println!("{}", cluster.url());
    eprintln!("export {URL_VARIABLE}={}", cluster.url());
    eprintln!("It and all its data go away with Ctrl-C.");
    loop {
        std::thread::park();
    }
}

/// The newest complete set of server programs on this machine.
pub fn programs() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<(u32, PathBuf)> = debian
        .chain(std::env::split_paths(&path))
        .filter(|directory| PROGRAMS.iter().all(|name| command::is_executable(&directory.join(name))))
        .filter_map(|directory| Some((version_of(&directory)?, directory)))
        .filter(|(version, _)| *version >= VERSION_MIN)
        .collect();
    // Stable: of equal versions, the first one found.
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().next().map(|(_, directory)| directory)
}

fn version_of(directory: &Path) -> Option<u32> {
    let said = command::output(command::command(directory.join("postgres")).arg("--version")).ok()?;
    parse_version(&said)
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or `… 19beta1`.
fn parse_version(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// PostgreSQL refuses to run as root, so root hands it to a user who owns nothing.
pub fn unprivileged(program: &str) -> Result<Command> {
    if !is_root() {
        return Ok(command::command(program));
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find(|user| command::succeeds(command::command("id").arg(user)))
        .ok_or("root may not run PostgreSQL, and there is no user `postgres` or `nobody` to run it")?;
    let group = command::output(command::command("id").args(["-gn", user]))?;
    let mut command = command::command("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={}", group.trim_end()));
    command.args(["--clear-groups", "--", program]);
    Ok(command)
}

pub fn is_root() -> bool {
    command::output(command::command("id").arg("-u")).is_ok_and(|id| id.trim_end() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_server_says() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(debian), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_version("postgres 9"), None);
        assert_eq!(parse_version("postgres (PostgreSQL) devel"), None);
    }

    #[test]
    fn a_dropped_cluster_leaves_nothing() {
        // `check` installs a server before it runs this; without one there is nothing to drop.
        let Some(programs) = programs() else { return };
        let cluster = Cluster::try_start(&programs, Durability::Off).unwrap().unwrap();
        let home = cluster.home.clone();
        assert!(home.exists(), "{}", home.display());
        drop(cluster);
        assert!(!home.exists(), "{}", home.display());
    }
}
