//! `grantd operator`: lets operators in, on the host of the database, and says so in the audit trail.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use grantd_domain::words::counted;
use grantd_server::login::{self, LinkError};
use serde_json::json;

use crate::boot::{self, PAT_FILE};
use crate::cli::{Context, Exit, Failure, Format, confirm};
use crate::config::{Config, Flags};
use crate::host::Host;
use crate::serve;

/// What can be done to operators from the host.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Revoke every token of the first admin and write a new one to the data directory
    ///
    /// For a token that is lost or has expired. It works beside a running server, needs no token and no root key, and leaves an
    /// event in the organization's audit trail.
    #[command(after_help = "Example:\n  grantd operator reset --data-dir /var/lib/grantd --yes")]
    Reset(ResetArgs),
    /// Print a link that signs an operator in to the portal, once
    ///
    /// The link works for 15 minutes. It signs in whoever opens it, so give it to its operator and nobody else. It works beside a
    /// running server, needs no token and no root key, and leaves an event in the organization's audit trail.
    #[command(after_help = "Examples:
  grantd operator login-link --data-dir /var/lib/grantd
  grantd operator login-link --email jane@example.com \\
      --public-url https://grantd.example.com")]
    LoginLink(LinkArgs),
}

/// Flags of `operator login-link`.
#[derive(Args)]
pub struct LinkArgs {
    /// The operator's address [default: the first admin's]
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// sqlite:PATH or postgres://… [default: sqlite:<data_dir>/grantd.db] [env: GRANTD_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the server is reached [default: from listen] [env: GRANTD_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
}

impl LinkArgs {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default().with("database_url", self.database_url.clone()).with("public_url", self.public_url.clone())
    }
}

/// Makes a link, and prints it.
pub async fn login_link(config: Config, args: LinkArgs, context: &mut Context) -> Result<(), Failure> {
    boot::require_database(&config)?;
    let store = boot::open_store(&config).await?;
    store.check_schema().await.map_err(|e| boot::schema_failure(&e))?;
    let made = login::make(&store, &Host, args.email.as_deref()).await;
    store.close().await;
    let link = made.map_err(|e| match e {
        LinkError::Install(e) => boot::install_failure(&e),
        e => Failure::from_error(Exit::NotFound, &e),
    })?;
    let public_url = config.public_url.clone().unwrap_or_else(|| serve::url_of(config.listen, config.tls.is_some()));
    let url = link.url(public_url.as_str());
    if context.format() == Format::Table {
        context.term.note(&format!("Signs {} in once, within 15 minutes:", link.email));
        return context.term.print(&format!("{url}\n"));
    }
    context.show(&json!({
        "operator_id": link.operator_id,
        "email": link.email,
        "login_url": url,
        "expires_at": link.expires_at,
    }))
}

/// Flags of `operator reset`.
#[derive(Args)]
pub struct ResetArgs {
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// sqlite:PATH or postgres://… [default: sqlite:<data_dir>/grantd.db] [env: GRANTD_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

impl ResetArgs {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default().with("database_url", self.database_url.clone())
    }
}

/// Resets the first admin.
pub async fn reset(config: Config, context: &mut Context) -> Result<(), Failure> {
    boot::require_database(&config)?;
    let question = "Every token of the first admin stops working. Go on?";
    confirm(question, context.globals.yes, &mut context.term)?;
    let store = boot::open_store(&config).await?;
    store.check_schema().await.map_err(|e| boot::schema_failure(&e))?;
    let reset = grantd_server::install::reset_operator(&store, &Host).await.map_err(|e| boot::install_failure(&e))?;
    store.close().await;
    let path = config.data_dir.join(PAT_FILE);
    boot::write_over(&path, format!("{}\n", reset.pat.reveal()).as_bytes())
        .map_err(|e| Failure::local(format!("cannot write {}: {e}", path.display())))?;
    context.term.note(&format!(
        "{} revoked; the new one is in {} and ends in 90 days.",
        counted(reset.revoked, "token was", "tokens were"),
        path.display()
    ));
    context.show(&json!({
        "operator_id": reset.operator_id,
        "pat": reset.pat.reveal(),
        "pat_file": path.display().to_string(),
        "revoked": reset.revoked,
    }))
}
