//! `grantd serve`: the server until SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use grantd_server::http::{Bounds, Shutdown, TlsSlot};
use grantd_server::{Vault, entry, http, jobs, metrics};
use grantd_store::crash;
use grantd_wire::limits;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::boot::{self, DataDir};
use crate::cli::{Context, Failure};
use crate::config::{Config, Flags};
use crate::tls::{self, Certificate};
use crate::{notify, process};

/// Flags of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuse to start on a database that needs a migration
    #[arg(long)]
    pub no_migrate: bool,
    #[command(flatten)]
    pub settings: Flags,
}

/// Serves until it is told to stop.
pub async fn run(config: Config, args: ServeArgs, context: &mut Context) -> Result<(), Failure> {
    boot::keep_memory_private();
    boot::tell_panics_without_their_text();
    let _data_dir = DataDir::take(&config.data_dir)?;
    let certificate = config.tls.as_ref().map(Certificate::load).transpose()?;
    let store = boot::open_store(&config).await?;
    match args.no_migrate {
        true => store.check_schema().await.map_err(|e| boot::schema_failure(&e))?,
        false => {
            store
                .migrate(grantd_domain::env::Clock::now(&crate::host::Host))
                .await
                .map_err(|e| boot::schema_failure(&e))?;
        }
    }
    let (listener, bound) = bind(config.listen).await?;
    let public_url = config.public_url.clone().unwrap_or_else(|| url_of(bound, certificate.is_some()));
    let vault = boot::open_vault(&config, &context.env, store, &public_url, &[]).await?;
    vault.meters.add_process(process::write);
    let certificate = certificate.map(|certificate| certificate.counted_in(&vault.meters));
    let metrics = match config.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let bounds = Bounds { connections_max: connections_max(&config)?, drain: config.drain_timeout };
    let mut signals = Signals::new()?;
    let hangup = signal(SignalKind::hangup()).map_err(|e| Failure::local(format!("cannot wait for signals: {e}")))?;
    let (scheme, tls) = match &certificate {
        Some(certificate) => ("https", Some(certificate.slot())),
        None => ("http", None),
    };
    let mut server = Server::start(vault, listener, tls, bounds).await?;
    if let Some((listener, bound)) = metrics {
        server.tell_metrics(listener);
        tracing::info!(address = %bound, "Metrics are at http://{bound}/metrics");
    }
    notify::tell(&context.env, "READY=1");
    context.term.note(&format!("listening on {scheme}://{bound}"));
    if let Some(url) = &config.public_url {
        tracing::info!(public_url = %url, "Clients use {url}");
    }
    tokio::select! {
        () = signals.next() => {}
        () = tls::watch(certificate, hangup) => {}
    }
    notify::tell(&context.env, "STOPPING=1");
    // Logged, not printed: a reader of stderr that stands still must not hold up the end.
    tracing::info!("Draining: requests under way are finished first; a second signal cuts them");
    server.stop(config.drain_delay, &mut signals).await
}

/// The URL of a bound address.
pub fn url_of(bound: SocketAddr, has_tls: bool) -> Url {
    let scheme = if has_tls { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{bound}")).expect("an address has a URL")
}

/// Binds, or says what to do.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => "Another program has that port. Stop it, or choose another with --listen.",
            std::io::ErrorKind::PermissionDenied => "Ports below 1024 need a privilege. Choose another with --listen.",
            _ => "Choose another address with --listen.",
        };
        Failure::local(format!("cannot listen on {address}: {e}")).hint(hint)
    })?;
    let bound = listener.local_addr().map_err(|e| Failure::local(format!("cannot listen on {address}: {e}")))?;
    Ok((listener, bound))
}

/// SIGTERM and Ctrl-C.
pub struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub fn new() -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::local(format!("cannot wait for signals: {e}"));
        let term = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { term, interrupt: signal(SignalKind::interrupt()).map_err(failed)? })
    }

    /// Waits for the next one of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Open connections of the metrics listener; one more waits.
const METRICS_CONNECTIONS_MAX: usize = 32;

/// Open files that are kept for databases, logs, and calls out, beside the pool's connections.
const FILES_KEPT: u64 = 128;

/// How many connections this process can hold: what the operator says, or what fits.
fn connections_max(config: &Config) -> Result<usize, Failure> {
    connections_within(config.connections_max, raise_files_max(), config.pool_size)
}

/// Raises the limit of open files as far as this process may, and answers it. Services are often started with 1024.
fn raise_files_max() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// `files_max` is `None` where there is no limit.
fn connections_within(wanted: Option<u32>, files_max: Option<u64>, pool_size: u32) -> Result<usize, Failure> {
    let kept = FILES_KEPT + u64::from(pool_size);
    let room = usize::try_from(files_max.unwrap_or(u64::MAX).saturating_sub(kept)).unwrap_or(usize::MAX);
    let connections_max =
        wanted.map_or(room.min(limits::CONNECTIONS_MAX), |n| usize::try_from(n).unwrap_or(usize::MAX));
    if connections_max == 0 || connections_max > room {
        let may_open = files_max.unwrap_or(u64::MAX);
        return Err(Failure::local(format!(
            "connections_max is {connections_max}, but this process may open {may_open} files and keeps {kept} of them for itself"
        ))
        .hint("Raise the limit of open files (`ulimit -n`, LimitNOFILE= of systemd), or lower connections_max."));
    }
    Ok(connections_max)
}

/// A running server with its jobs.
pub struct Server {
    vault: Arc<Vault>,
    stop_http: Shutdown,
    stop_jobs: CancellationToken,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    metrics: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    stop_metrics: Shutdown,
    jobs: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts serving on the listener.
    pub async fn start(
        vault: Arc<Vault>,
        listener: TcpListener,
        tls: Option<TlsSlot>,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        // Before the first request: a clock that was set back must not serve even one.
        jobs::tick_clock(&vault).await.map_err(|e| Failure::local(format!("cannot write to the database: {e}")))?;
        let (stop_http, stop_jobs) = (Shutdown::default(), CancellationToken::new());
        let router = entry::router(Arc::clone(&vault));
        let meters = Arc::clone(&vault.meters);
        let http = tokio::spawn(http::serve(listener, tls, router, bounds, meters, stop_http.clone()));
        let jobs = tokio::spawn(jobs::run(Arc::clone(&vault), stop_jobs.clone()));
        Ok(Self { vault, stop_http, stop_jobs, http, metrics: None, stop_metrics: Shutdown::default(), jobs })
    }

    /// Tells metrics to whoever reaches this listener, until everything else has ended.
    pub fn tell_metrics(&mut self, listener: TcpListener) {
        let router = metrics::router(Arc::clone(&self.vault));
        let bounds = Bounds { connections_max: METRICS_CONNECTIONS_MAX, ..Bounds::default() };
        // Connections of this listener are not those that are counted.
        let serving = http::serve(listener, None, router, bounds, Arc::default(), self.stop_metrics.clone());
        self.metrics = Some(tokio::spawn(serving));
    }

    /// Says to `/readyz` that it is going away, serves on for `delay` so that load balancers hear of it, finishes what is
    /// under way, signs the last checkpoints, lets go of the database. A signal meanwhile means: now.
    pub async fn stop(mut self, delay: Duration, signals: &mut Signals) -> Result<(), Failure> {
        self.vault.start_draining();
        let served = async {
            // A listener that failed needs no delay.
            if let Ok(served) = tokio::time::timeout(delay, &mut self.http).await {
                return served;
            }
            self.stop_http.drain.cancel();
            (&mut self.http).await
        };
        let mut served = std::pin::pin!(served);
        let served = tokio::select! {
            served = &mut served => served,
            () = signals.next() => {
                self.stop_http.cut.cancel();
                served.await
            }
        };
        crash::step("stop.drained");
        self.stop_jobs.cancel();
        let ended = self.jobs.await;
        if let Some(metrics) = self.metrics {
            self.stop_metrics.cut.cancel();
            // Whatever became of it, the rest ends in order.
            drop(metrics.await);
        }
        crash::step("stop.jobs_ended");
        match (served, ended) {
            (Ok(Ok(())), Ok(())) => {}
            (Ok(Err(e)), _) => return Err(Failure::local(format!("the listener failed: {e}"))),
            _ => return Err(Failure::local("a part of the server ended unexpectedly")),
        }
        self.vault.close().await;
        crash::step("stop.closed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_limit_of_open_files() {
        let within = |wanted, files| connections_within(wanted, files, 10).map_err(|failure| failure.message);
        assert_eq!(within(None, None).unwrap(), limits::CONNECTIONS_MAX);
        assert_eq!(within(None, Some(1_000_000)).unwrap(), limits::CONNECTIONS_MAX);
        assert_eq!(within(None, Some(1024)).unwrap(), 1024 - 138);
        assert_eq!(within(Some(886), Some(1024)).unwrap(), 886);
        assert_eq!(within(Some(20_000), Some(1_000_000)).unwrap(), 20_000);
        let error = within(Some(887), Some(1024)).unwrap_err();
        assert!(error.contains("connections_max is 887") && error.contains("1024 files"), "{error}");
        assert!(within(None, Some(138)).is_err());
    }
}
