//! `grantd serve`: the server until SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use grantd_server::{Vault, entry, http, jobs};
use grantd_store::crash;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::boot::{self, DataDir};
use crate::cli::{Context, Exit, Failure};
use crate::config::{Config, Flags, TlsFiles};

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
    let tls = config.tls.as_ref().map(load_tls).transpose()?;
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
    let base_path = config.public_url.as_ref().map_or("", |url| url.path()).to_owned();
    let vault = boot::open_vault(&config, &context.env, store, &base_path, &[]).await?;
    let (listener, bound) = bind(config.listen).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = Server::start(vault, listener, tls).await?;
    context.term.note(&format!("listening on {scheme}://{bound}"));
    if let Some(url) = &config.public_url {
        tracing::info!(public_url = %url, "Clients use {url}");
    }
    stop_signal().await?;
    context.term.note("draining: requests under way are finished first");
    server.stop().await
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

fn load_tls(files: &TlsFiles) -> Result<Arc<ServerConfig>, Failure> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map(zeroize::Zeroizing::new).map_err(|e| {
            Failure::local(format!("cannot read {}: {e}", path.display()))
                .hint("tls_cert_file and tls_key_file name PEM files that the user that runs grantd may read.")
        })
    };
    http::tls_config(&read(&files.cert)?, &read(&files.key)?).map_err(|e| Failure::from_error(Exit::Error, &e))
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::local(format!("cannot wait for signals: {e}"));
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A running server with its jobs.
pub struct Server {
    vault: Arc<Vault>,
    stop_http: CancellationToken,
    stop_jobs: CancellationToken,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    jobs: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts serving on the listener.
    pub async fn start(
        vault: Arc<Vault>,
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, Failure> {
        // Before the first request: a clock that was set back must not serve even one.
        jobs::tick_clock(&vault).await.map_err(|e| Failure::local(format!("cannot write to the database: {e}")))?;
        let (stop_http, stop_jobs) = (CancellationToken::new(), CancellationToken::new());
        let router = entry::router(Arc::clone(&vault));
        let http = tokio::spawn(http::serve(listener, tls, router, stop_http.clone()));
        let jobs = tokio::spawn(jobs::run(Arc::clone(&vault), stop_jobs.clone()));
        Ok(Self { vault, stop_http, stop_jobs, http, jobs })
    }

    /// Finishes what is under way, signs the last checkpoints, lets go of the database.
    pub async fn stop(self) -> Result<(), Failure> {
        self.vault.start_draining();
        self.stop_http.cancel();
        let served = self.http.await;
        crash::step("stop.drained");
        self.stop_jobs.cancel();
        let ended = self.jobs.await;
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
