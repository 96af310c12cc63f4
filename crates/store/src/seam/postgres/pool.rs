//! Connections lent out, and how they are made: to the first host that takes writes, within bounded waits.
//!
//! Invariant: a connection is lent only while the server it leads to is the one that was met last. After a promotion, a recovery
//! or a restart no old one is used again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult};
use tokio_postgres::config::{SslMode as DriverSslMode, TargetSessionAttrs};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls_improved::MakeRustlsConnect;

use super::pipeline::Pipeline;
use super::session::{Failure, Session};
use super::url::{Host, PostgresUrl, SslMode};
use super::{error, text, tls};
use crate::error::{Error, Result};

/// How long a call waits for somebody to give a connection back.
pub(super) const WAIT: Duration = Duration::from_secs(2);
/// How long each host has to become a connection: name, TCP, TLS, login, settings.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long each address of a host has to take the TCP connection.
const ADDRESS_WAIT: Duration = Duration::from_secs(3);
/// How long an answer may take: a little longer than the server itself lets a statement take.
const PATIENCE: Duration = Duration::from_secs(12);
/// A peer that acknowledges nothing for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// An idle connection is probed after this long, as often, and with as long in between.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// What every connection is set to, whatever its role or database says. Nothing waits without end; single statements are READ
/// COMMITTED; what is answered after a commit is on disk. Statements go by indexes, and from table to table as they are written (the
/// embedded engine is told so by CROSS JOIN): where the server has not looked at a table since it grew, it would walk through all of it, or
/// through all of the app's rows, for each row of another. The last row names this run of the server.
const SETUP: &str = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
    SET enable_seqscan = off; SET join_collapse_limit = 1; SET jit = off; \
    SET idle_in_transaction_session_timeout = '30s'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT extract(epoch FROM pg_postmaster_start_time())::text";

pub(crate) type Pool = managed::Pool<Manager>;
pub(crate) type Client = managed::Object<Manager>;

/// Which run of which server is the current one. Numbers of different servers may repeat after a promotion or a recovery to an
/// earlier time, so what was read in one era is not compared with what is found in another.
#[derive(Debug, Default)]
pub(crate) struct Eras {
    /// The era, and when its server was started: no two servers were within the same microsecond.
    current: Mutex<(u64, String)>,
}

impl Eras {
    pub(crate) fn current(&self) -> u64 {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The era of a connection that was just made.
    fn meet(&self, started: &str, host: &Host) -> u64 {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 != started {
            if current.0 > 0 {
                tracing::warn!(server.address = %host, "PostgreSQL was restarted, or another server took over");
            }
            *current = (current.0 + 1, started.to_owned());
        }
        current.0
    }
}

/// Makes connections.
pub(crate) struct Manager {
    hosts: Arc<[(Host, Config)]>,
    tls: Option<MakeRustlsConnect>,
    patience: Option<Duration>,
    eras: Arc<Eras>,
    /// The host that worked last is asked first.
    preferred: AtomicUsize,
}

/// What pools are made from.
pub(crate) struct Connector {
    hosts: Arc<[(Host, Config)]>,
    tls: Option<MakeRustlsConnect>,
    pub(crate) eras: Arc<Eras>,
}

impl Connector {
    pub(crate) fn new(url: &PostgresUrl) -> Result<Self> {
        let tls = match url.ssl_mode {
            SslMode::Disable => None,
            SslMode::VerifyFull => Some(tls::connector(url.ssl_root_cert.as_deref())?),
        };
        let hosts = url.hosts.iter().map(|host| (host.clone(), config(url, host))).collect();
        Ok(Self { hosts, tls, eras: Arc::default() })
    }

    /// A pool whose statements are answered in time, or fail.
    pub(crate) fn pool(&self, size: usize) -> Result<Pool> {
        self.build(size, Some(PATIENCE))
    }

    /// A pool whose statements take what they need: for what is done once, with nobody waiting.
    pub(crate) fn patient_pool(&self) -> Result<Pool> {
        self.build(1, None)
    }

    /// Connections that callers share; their statements are answered in time, or fail.
    pub(crate) fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.manager(Some(PATIENCE)), Arc::clone(&self.eras))
    }

    fn manager(&self, patience: Option<Duration>) -> Manager {
        Manager {
            hosts: Arc::clone(&self.hosts),
            tls: self.tls.clone(),
            patience,
            eras: Arc::clone(&self.eras),
            preferred: AtomicUsize::new(0),
        }
    }

    fn build(&self, size: usize, patience: Option<Duration>) -> Result<Pool> {
        let pool = Pool::builder(self.manager(patience))
            .max_size(size)
            .wait_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .build();
        pool.map_err(|e| Error::Schema(e.to_string()))
    }
}

fn config(url: &PostgresUrl, host: &Host) -> Config {
    let mut config = Config::new();
    match host {
        Host::Tcp(name, port) => config.host(name).port(*port),
        Host::Unix(directory, port) => config.host_path(directory).port(*port),
    };
    if let Some(user) = &url.user {
        config.user(user);
    }
    if let Some(password) = &url.password {
        config.password(password);
    }
    if let Some(database) = &url.database {
        config.dbname(database);
    }
    config
        .application_name(&url.application_name)
        .ssl_mode(if url.ssl_mode == SslMode::Disable { DriverSslMode::Disable } else { DriverSslMode::Require })
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(ADDRESS_WAIT)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    config
}

impl Manager {
    async fn connect(&self, host: &Host, config: &Config) -> std::result::Result<Session, Failure> {
        let (client, driver) = match &self.tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                (client, spawn(connection))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, spawn(connection))
            }
        };
        // From here on the session closes its connection, also when this call is given up.
        let unready = Session::new(client, driver, None, 0);
        let messages = unready.simple_query(SETUP).await?;
        let started = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let era = self.eras.meet(started.unwrap_or_default(), host);
        Ok(unready.ready(self.patience, era))
    }
}

fn spawn<S, T>(connection: tokio_postgres::Connection<S, T>) -> tokio::task::JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::warn!(error = %text(&e), "A connection to PostgreSQL ended");
        }
    })
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session> {
        let count = self.hosts.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut whys = Vec::new();
        let mut last = None;
        for i in (0..count).map(|i| (first + i) % count) {
            let (host, config) = &self.hosts[i];
            // Boxed: login and TLS are a big future, and every future that may connect would carry it.
            match tokio::time::timeout(CONNECT_WAIT, Box::pin(self.connect(host, config))).await {
                Ok(Ok(session)) => {
                    self.preferred.store(i, Ordering::Relaxed);
                    return Ok(session);
                }
                Ok(Err(failure)) => {
                    let e = error(&failure);
                    whys.push(format!("{host}: {}", why(&e)));
                    last = Some(e);
                }
                Err(_) => whys.push(format!("{host}: no connection within {} s", CONNECT_WAIT.as_secs())),
            }
        }
        // What the server refuses for good is told as such.
        match last {
            Some(e @ Error::Statement { .. }) if count == 1 => Err(e),
            _ => Err(Error::Unavailable { what: whys.join("; ") }),
        }
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        if !session.is_fit() {
            return Err(RecycleError::message("the connection has ended"));
        }
        if session.era() != self.eras.current() {
            return Err(RecycleError::message("the connection leads to a server that is no longer the one"));
        }
        Ok(())
    }
}

fn why(e: &Error) -> String {
    match e {
        Error::Unavailable { what } | Error::Statement { what } => what.clone(),
        other => other.to_string(),
    }
}

/// A connection, within a bounded wait.
pub(crate) async fn connect(pool: &Pool) -> Result<Client> {
    pool.get().await.map_err(|e| match e {
        PoolError::Backend(e) => e,
        other => Error::Unavailable { what: format!("no connection to PostgreSQL: {other}") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_run_of_a_server_is_another_era() {
        let (eras, host) = (Eras::default(), Host::Unix("/run".into(), 1));
        assert_eq!(eras.meet("1", &host), 1);
        assert_eq!(eras.meet("1", &host), 1);
        assert_eq!(eras.meet("2", &host), 2);
        assert_eq!(eras.meet("1", &host), 3, "going back is going on");
        assert_eq!(eras.current(), 3);
    }
}
