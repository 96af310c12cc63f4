//! `grantd dev`: a running grantd with everything to try it out, on loopback only.
//!
//! What it makes it makes through the management API, and its first call goes through the Rust client: the same ways everybody
//! else goes.

mod made;
mod provider;
mod welcome;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use grantd_server::http::Bounds;
use grantd_server::login::{self, PORTAL_PATH};
use grantd_store::Store;
use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use crate::boot::{self, DataDir, PAT_FILE};
use crate::cli::{Api, Context, Exit, Failure, Format, Token};
use crate::config::{Config, DatabaseUrl, Flags, KeySource};
use crate::demo::issuer::Issuer;
use crate::demo::{Service, start_api};
use crate::host::Host;
use crate::serve::{self, Server, Signals};
use crate::telemetry::Logging;

/// The demo API's port, if it is free.
const DEMO_PORT: u16 = 8401;
/// What is logged until everything is ready, unless a level was asked for: `dev`'s own calls are no news.
pub const LOG_BEFORE_READY: &str = "warn";

/// Flags of `dev`.
#[derive(Args)]
pub struct DevArgs {
    /// Forget everything at the end, instead of keeping it in the data directory
    #[arg(long)]
    pub ephemeral: bool,
    /// Loopback address and port to listen on [default: 127.0.0.1:8400] [env: GRANTD_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// error, warn, info, debug, trace, or a filter [default: info] [env: GRANTD_LOG]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// text or json [default: text on a terminal, else json] [env: GRANTD_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl DevArgs {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default()
            .with("listen", self.listen.clone())
            .with("log", self.log.clone())
            .with("log_format", self.log_format.clone())
    }
}

/// The one line of `--output json`.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    portal_url: &'a str,
    login_url: &'a str,
    app_id: &'a str,
    api_key: &'a str,
    grant_id: &'a str,
    demo_url: &'a str,
    demo_provider: Option<&'a str>,
    pat: &'a str,
    data_dir: &'a str,
}

/// Runs until Ctrl-C.
pub async fn run(config: Config, args: DevArgs, logging: &Logging, context: &mut Context) -> Result<(), Failure> {
    assert!(config.listen.ip().is_loopback(), "the configuration refuses anything else for `dev`");
    boot::keep_memory_private();
    boot::tell_panics_without_their_text();
    let throwaway = args.ephemeral.then(Throwaway::make).transpose()?;
    let config = match &throwaway {
        Some(place) => at(config, &place.0),
        None => config,
    };
    let data_dir = DataDir::take(&config.data_dir)?;
    let (listener, bound) = serve::bind(config.listen).await?;
    let store = boot::open_store(&config).await?;
    boot::create_install(&config, &data_dir, &context.env, &store).await?;
    let links = store.clone();
    let (issuer, provider) = Issuer::start(&data_dir.path, Arc::new(Host)).await?;
    let demo = start_demo(Arc::clone(&issuer)).await?;
    let demo_hosts = [demo.address.to_string(), issuer.authority().to_owned()];
    let vault = boot::open_vault(&config, &context.env, store, &serve::url_of(bound, false), &demo_hosts).await?;
    // On loopback, for one developer.
    vault.meters.open();
    vault.meters.add_process(crate::process::write);
    let mut signals = Signals::new()?;
    let server = Server::start(vault, listener, None, Bounds::default()).await?;
    let base_url = format!("http://{bound}");
    let stopped = tokio::select! {
        () = signals.next() => Ok(()),
        ready = show(context, &links, &base_url, &demo, &issuer, &data_dir) => match ready {
            Ok(()) => {
                logging.set(&config.log);
                signals.next().await;
                Ok(())
            }
            Err(e) => Err(e),
        },
    };
    context.term.note("stopping");
    let served = server.stop(Duration::ZERO, &mut signals).await;
    // The vault ends tokens at the provider until it has stopped.
    drop((demo, provider));
    stopped.and(served)
}

/// The configuration in another data directory, with nothing outside it.
fn at(config: Config, directory: &Path) -> Config {
    Config {
        data_dir: directory.to_owned(),
        database_url: DatabaseUrl::Sqlite(directory.join("grantd.db")),
        root_key: KeySource::File(directory.join("root.key")),
        root_key_also: Vec::new(),
        ..config
    }
}

/// A directory that is gone when this is dropped.
struct Throwaway(PathBuf);

impl Throwaway {
    fn make() -> Result<Self, Failure> {
        let name = format!("grantd-dev-{}", grantd_domain::env::new_uuid(&Host));
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|e| Failure::local(format!("cannot make {}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary directory, for its owner alone.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn start_demo(issuer: Arc<Issuer>) -> Result<Service, Failure> {
    let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, DEMO_PORT));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let demo = match start_api(preferred, Arc::clone(&issuer)).await {
        Ok(demo) => Ok(demo),
        Err(_) => start_api(any, issuer).await,
    };
    demo.map_err(|e| Failure::local(format!("cannot start the demo API: {e}")))
}

/// Makes what is missing, makes one real call, and tells the developer how to go on.
async fn show(
    context: &mut Context,
    store: &Store,
    base_url: &str,
    demo: &Service,
    issuer: &Issuer,
    data_dir: &DataDir,
) -> Result<(), Failure> {
    // The lines to paste shall work in any directory.
    let directory = std::path::absolute(&data_dir.path).unwrap_or_else(|_| data_dir.path.clone());
    let pat = read_pat(&directory)?;
    let server = Url::parse(base_url).map_err(|e| Failure::local(e.to_string()))?;
    let token = Token::of_data_dir(pat.clone(), &directory);
    let api = Api::new(server, &token)?;
    let (demo_url, demo_host) = (demo.url(), demo.address.to_string());
    let (made, mut notes) = made::make(&api, &directory, &demo_host).await?;
    let connect_url = match provider::register(&api, &made.app_id, issuer, &demo_host, &mut notes).await? {
        true => provider::link(base_url, &made.api_key, &mut notes).await?,
        false => None,
    };
    let sample = welcome::sample(&api, base_url, &made, &demo_url, &demo_host).await?;
    let shown = directory.display().to_string();
    let link = login::make(store, &Host, None).await.map_err(|e| Failure::from_error(Exit::Error, &e))?;
    let (portal_url, login_url) = (format!("{base_url}{PORTAL_PATH}"), link.url(base_url));
    let place = welcome::Place { base_url, login_url: &login_url, demo_url: &demo_url, data_dir: &shown };
    let text = welcome::text(&place, &made, &notes, &sample, connect_url.as_deref());
    if context.format() == Format::Table {
        return context.term.print(&text);
    }
    text.lines().for_each(|line| context.term.note(line));
    let ready = Ready {
        base_url,
        portal_url: &portal_url,
        login_url: &login_url,
        app_id: &made.app_id,
        api_key: &made.api_key,
        grant_id: &made.grant_id,
        demo_url: &demo_url,
        demo_provider: Some(issuer.url()),
        pat: &pat,
        data_dir: &shown,
    };
    let line = serde_json::to_string(&ready).expect("texts have a JSON form");
    context.term.print(&format!("{line}\n"))
}

fn read_pat(data_dir: &Path) -> Result<Zeroizing<String>, Failure> {
    let path = data_dir.join(PAT_FILE);
    let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|e| {
        Failure::local(format!("cannot read {}: {e}", path.display())).hint(format!(
            "`grantd dev` works with the token in it; `grantd operator reset --data-dir {}` writes a new one.",
            welcome::word(&data_dir.display().to_string())
        ))
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
