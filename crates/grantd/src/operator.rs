//! `grantd operator reset`: lets a locked-out operator in again, on the host of the database, and says so in the audit trail.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::boot::{self, PAT_FILE};
use crate::cli::{Context, Failure, confirm};
use crate::config::{Config, Flags};
use crate::host::Host;

/// What can be done to operators from the host.
#[derive(Subcommand)]
pub enum OperatorCommand {
    /// Revoke every token of the first admin and write a new one to the data directory
    ///
    /// For a token that is lost or has expired. It works beside a running server, needs no token and no root key, and leaves an
    /// event in the organization's audit trail.
    #[command(after_help = "Example:\n  grantd operator reset --data-dir /var/lib/grantd --yes")]
    Reset(ResetArgs),
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
        "{} tokens were revoked; the new one is in {} and ends in 90 days.",
        reset.revoked,
        path.display()
    ));
    context.show(&json!({
        "operator_id": reset.operator_id,
        "pat": reset.pat.reveal(),
        "pat_file": path.display().to_string(),
        "revoked": reset.revoked,
    }))
}
