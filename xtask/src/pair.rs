//! A throwaway primary with a synchronous standby, for one run.
//!
//! Invariant: as for the single server, a small shell cleans up as soon as the pipe to it closes, whatever ended this process.

use std::net::TcpListener;

use crate::postgres::{Keeper, programs, unprivileged};
use crate::{Result, command};

/// Somebody may take a port between our asking for it and the server's.
const START_TRIES_MAX: usize = 3;

/// `$1` programs, `$2` and `$3` ports. What is killed is a process and never the machine, so nothing needs `fsync`. The primary waits
/// for its standby from the moment that one follows it. It prints `ready`, the primary's process, or else an explanation.
const KEEPER: &str = r#"
set -u
trap '' INT TERM HUP PIPE
home=$(mktemp -d "${TMPDIR:-/tmp}/grantd-pair.XXXXXX" 2>/dev/null) ||
  home=$(mktemp -d /tmp/grantd-pair.XXXXXX) || exit 1
remove() {
  for one in one two; do "$1/pg_ctl" -D "$home/$one" -m immediate -w stop >/dev/null 2>&1; done
  rm -rf "$home"
}
if "$1/initdb" -D "$home/one" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$home/log" 2>&1 &&
   printf '%s\n' "unix_socket_directories = '$home'" "listen_addresses = '127.0.0.1'" "fsync = off" \
     "max_connections = 100" "log_min_messages = warning" >>"$home/one/postgresql.conf" &&
   "$1/pg_ctl" -D "$home/one" -l "$home/log" -w -t 60 -o "-p $2" start >>"$home/log" 2>&1 &&
   "$1/pg_basebackup" -D "$home/two" -h "$home" -p "$2" -U postgres -R -X stream -c fast --no-sync >>"$home/log" 2>&1 &&
   printf '%s\n' "cluster_name = 'two'" >>"$home/two/postgresql.conf" &&
   "$1/pg_ctl" -D "$home/two" -l "$home/log" -w -t 60 -o "-p $3" start >>"$home/log" 2>&1 &&
   printf '%s\n' "synchronous_standby_names = 'two'" >>"$home/one/postgresql.conf" &&
   "$1/pg_ctl" -D "$home/one" reload >>"$home/log" 2>&1
then
  echo "ready $(head -n 1 "$home/one/postmaster.pid")"
  cat >/dev/null
  remove "$1"
else
  tail -n 20 "$home/log"
  remove "$1"
  exit 1
fi
"#;

/// The pair, until it is dropped.
pub struct Pair {
    _keeper: Keeper,
    ports: [u16; 2],
    primary_pid: String,
}

impl Pair {
    /// Returns when both answer.
    pub fn start() -> Result<Self> {
        let programs = programs().ok_or("no PostgreSQL found: run `cargo xtask tools`")?;
        if !command::is_executable(&programs.join("pg_basebackup")) {
            return Err(format!("{} has no pg_basebackup: install PostgreSQL's client", programs.display()).into());
        }
        let mut explanation = String::new();
        for _ in 0..START_TRIES_MAX {
            let ports = free_ports()?;
            let mut script = unprivileged("sh")?;
            script.args(["-c", KEEPER, "grantd-pair"]).arg(&programs).args(ports.map(|port| port.to_string()));
            match Keeper::start(&mut script)? {
                Ok((keeper, primary_pid)) => return Ok(Self { _keeper: keeper, ports, primary_pid }),
                Err(why) => explanation = why,
            }
        }
        Err(format!("PostgreSQL did not start as a pair:\n{explanation}").into())
    }

    /// The superuser's ways in: primary and standby.
    pub fn urls(&self) -> [String; 2] {
        self.ports.map(|port| format!("postgres://postgres@127.0.0.1:{port}/postgres"))
    }

    /// The primary's first process.
    pub fn primary_pid(&self) -> &str {
        &self.primary_pid
    }
}

/// Two ports, both free at the same time.
fn free_ports() -> Result<[u16; 2]> {
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}
