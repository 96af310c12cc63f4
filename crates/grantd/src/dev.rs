//! `grantd dev`: a running grantd with everything to try it out, on loopback only.
//!
//! What it makes it makes through the management API, and its first call goes through the Rust client: the same ways everybody
//! else goes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use grantd_domain::env::new_token;
use grantd_wire::api::{
    AllowedHosts, App, AppCreate, CreatedSecret, Event, Grant, KeyMint, ListQuery, MintedKey, Page, Secret,
    SecretCreate,
};
use grantd_wire::scope;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use crate::boot::{self, DataDir, PAT_FILE};
use crate::cli::{Api, Context, Failure, Format, NoQuery};
use crate::config::{Config, DatabaseUrl, Flags, KeySource};
use crate::demo::Demo;
use crate::host::Host;
use crate::serve::{self, Server};

/// The demo API's port, if it is free.
const DEMO_PORT: u16 = 8401;
const SECRET_NAME: &str = "Demo API";
const SECRET_SLUG: &str = "demo-api";
const STATE_FILE: &str = "dev.json";

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

/// What `dev` made and finds again at its next start. Mode 0600: it holds the key.
#[derive(Deserialize, Serialize)]
struct Made {
    app_id: String,
    api_key: String,
    grant_id: String,
}

/// The one line of `--output json`. What is not built yet is null.
#[derive(Serialize)]
struct Ready<'a> {
    base_url: &'a str,
    portal_url: Option<&'a str>,
    login_url: Option<&'a str>,
    app_id: &'a str,
    api_key: &'a str,
    grant_id: &'a str,
    demo_url: &'a str,
    demo_provider: Option<&'a str>,
    pat: &'a str,
    data_dir: &'a str,
}

/// Runs until Ctrl-C.
pub async fn run(config: Config, args: DevArgs, context: &mut Context) -> Result<(), Failure> {
    if !config.listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "`grantd dev` is for this machine alone and does not listen on {}; use a loopback address, or `grantd serve`",
            config.listen
        )));
    }
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
    let demo = start_demo().await?;
    let demo_host = demo.address.to_string();
    let vault = boot::open_vault(&config, &context.env, store, "", std::slice::from_ref(&demo_host)).await?;
    let server = Server::start(vault, listener, None).await?;
    let base_url = format!("http://{bound}");
    let stopped = tokio::select! {
        stopped = serve::stop_signal() => stopped,
        ready = show(context, &base_url, &demo, &demo_host, &data_dir) => match ready {
            Ok(()) => serve::stop_signal().await,
            Err(e) => Err(e),
        },
    };
    context.term.note("stopping");
    let served = server.stop().await;
    drop(demo);
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

async fn start_demo() -> Result<Demo, Failure> {
    let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, DEMO_PORT));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let demo = match Demo::start(preferred).await {
        Ok(demo) => Ok(demo),
        Err(_) => Demo::start(any).await,
    };
    demo.map_err(|e| Failure::local(format!("cannot start the demo API: {e}")))
}

/// Makes what is missing, makes one real call, and tells the developer how to go on.
async fn show(
    context: &mut Context,
    base_url: &str,
    demo: &Demo,
    demo_host: &str,
    data_dir: &DataDir,
) -> Result<(), Failure> {
    let pat = read_pat(&data_dir.path)?;
    let server = Url::parse(base_url).map_err(|e| Failure::local(e.to_string()))?;
    let api = Api::new(server, &pat)?;
    let made = make(&api, &data_dir.path, demo_host).await?;
    let demo_url = demo.url();
    let call = first_call(&api, base_url, &made, &demo_url).await?;
    let text = help(base_url, &made, &demo_url, &data_dir.path, &call);
    if context.format() == Format::Table {
        return context.term.print(&text);
    }
    text.lines().for_each(|line| context.term.note(line));
    let shown = data_dir.path.display().to_string();
    let ready = Ready {
        base_url,
        portal_url: None,
        login_url: None,
        app_id: &made.app_id,
        api_key: &made.api_key,
        grant_id: &made.grant_id,
        demo_url: &demo_url,
        demo_provider: None,
        pat: &pat,
        data_dir: &shown,
    };
    let line = serde_json::to_string(&ready).expect("texts have a JSON form");
    context.term.print(&format!("{line}\n"))
}

fn read_pat(data_dir: &Path) -> Result<Zeroizing<String>, Failure> {
    let path = data_dir.join(PAT_FILE);
    let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|e| {
        Failure::local(format!("cannot read {}: {e}", path.display())).hint(
            "`grantd dev` works with the token it made. Start afresh with another --data-dir, or with --ephemeral.",
        )
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// What an earlier run made, if it is still there and works; else new.
async fn make(api: &Api, data_dir: &Path, demo_host: &str) -> Result<Made, Failure> {
    let state = data_dir.join(STATE_FILE);
    let earlier = std::fs::read(&state).ok().and_then(|bytes| serde_json::from_slice::<Made>(&bytes).ok());
    if let Some(made) = earlier
        && is_alive(api, &made).await
    {
        let hosts = AllowedHosts { allowed_hosts: vec![demo_host.to_owned()] };
        let path = ["apps", &made.app_id, "managed-secrets", SECRET_SLUG];
        let secret: Secret = api.get(&path, &NoQuery {}).await?;
        if secret.allowed_hosts != hosts.allowed_hosts {
            let path = ["apps", &made.app_id, "managed-secrets", SECRET_SLUG, "allowed-hosts"];
            let _: Secret = api.send(Method::PUT, &path, &hosts).await?;
        }
        return Ok(made);
    }
    let apps: Page<App> = api.get(&["apps"], &ListQuery { limit: Some(1), ..ListQuery::default() }).await?;
    let app_id = match apps.items.into_iter().next() {
        Some(app) => app.id,
        None => {
            let ask = AppCreate { name: "My first app".to_owned(), ..AppCreate::default() };
            let app: App = api.send(Method::POST, &["apps"], &ask).await?;
            app.id
        }
    };
    let mint = KeyMint { name: "dev".to_owned(), scopes: Some(scope::all()), ..KeyMint::default() };
    let key: MintedKey = api.send(Method::POST, &["apps", &app_id, "keys"], &mint).await?;
    let secret = demo_secret(demo_host);
    let secret: CreatedSecret = api.send(Method::POST, &["apps", &app_id, "managed-secrets"], &secret).await?;
    let made = Made { app_id, api_key: key.api_key, grant_id: secret.grant_id };
    let bytes = Zeroizing::new(serde_json::to_vec(&made).expect("texts have a JSON form"));
    boot::write_over(&state, &bytes).map_err(|e| Failure::local(format!("cannot write {}: {e}", state.display())))?;
    Ok(made)
}

fn demo_secret(demo_host: &str) -> SecretCreate {
    SecretCreate {
        name: SECRET_NAME.to_owned(),
        credential_type: None,
        value: new_token(&Host, "demo_").reveal().to_owned(),
        fields: std::collections::BTreeMap::new(),
        injection_header: None,
        injection_format: None,
        injections: Vec::new(),
        allowed_hosts: vec![demo_host.to_owned()],
        allow_any_host: false,
    }
}

/// Whether the grant still stands on the demo secret.
async fn is_alive(api: &Api, made: &Made) -> bool {
    let grant: Result<Grant, Failure> = api.get(&["apps", &made.app_id, "grants", &made.grant_id], &NoQuery {}).await;
    grant.is_ok_and(|g| g.status == "active" && g.provider_id == SECRET_SLUG)
}

/// One real call through the vault, and the event it left.
struct FirstCall {
    status: u16,
    answer: String,
    event: Event,
}

async fn first_call(api: &Api, base_url: &str, made: &Made, demo_url: &str) -> Result<FirstCall, Failure> {
    let failed = |e: grantd_sdk::Error| Failure::local(format!("the first call failed: {e}"));
    let app = grantd_sdk::App::builder(made.api_key.clone()).base_url(base_url).build().map_err(failed)?;
    let answer = app
        .request("GET", &format!("{demo_url}/hello"))
        .grant_id(&made.grant_id)
        .reason("first call of grantd dev")
        .context("user_id", "demo-user")
        .redact_echo()
        .send()
        .await
        .map_err(failed)?;
    app.close().await;
    let event_id = answer.event_id.clone().ok_or_else(|| Failure::local("the first call left no event"))?;
    let event = api.get(&["apps", &made.app_id, "audit", "events", &event_id], &NoQuery {}).await?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(FirstCall { status: answer.status, answer: body, event })
}

fn help(base_url: &str, made: &Made, demo_url: &str, data_dir: &Path, call: &FirstCall) -> String {
    let event = json!({
        "id": call.event.get("id"),
        "kind": call.event.get("kind"),
        "outcome": call.event.get("outcome"),
        "host": call.event.get("host"),
        "context": call.event.get("context"),
        "hash": call.event.get("hash"),
    });
    let Made { app_id, api_key, grant_id } = made;
    let data_dir = data_dir.display();
    format!(
        "\
grantd is running on {base_url}, with everything in {data_dir}. Ctrl-C stops it.

One real call went through it: GET {demo_url}/hello answered {}, with the credential injected
  {}
and left this event in the audit trail
  {event}

Paste this where your program runs:

  export ALTER_BASE_URL={base_url}
  export ALTER_API_KEY={api_key}
  export GRANT_ID={grant_id}
  export DEMO_URL={demo_url}
  export GRANTD_DATA_DIR={data_dir}

and run it (pip install alter-sdk):

  import asyncio, os
  from alter_sdk import App

  async def main():
      async with App(api_key=os.environ[\"ALTER_API_KEY\"]) as vault:
          answer = await vault.request(
              \"GET\", os.environ[\"DEMO_URL\"] + \"/hello\",
              grant_id=os.environ[\"GRANT_ID\"],
              reason=\"trying grantd\", context={{\"user_id\": \"u-1\"}},
          )
          print(answer.json())

  asyncio.run(main())

What the demo API says without a credential:   curl -i {demo_url}/hello
The same call from the command line:           grantd request GET {demo_url}/hello --grant {grant_id}
Who did what:                                  grantd audit list --context user_id=u-1
Store a key of your own:                       grantd managed-secrets create --name Stripe --value - --allowed-host api.stripe.com
The app is {app_id}. Not built yet: portal, OAuth connections, proxy mode.
",
        call.status,
        call.answer.trim(),
    )
}
