//! `grantd serve`: the server until SIGTERM.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Context, Failure};
use crate::config::{Config, Flags};

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
#[expect(clippy::unused_async, reason = "until it is filled in")]
pub async fn run(_config: Config, _args: ServeArgs, _context: &mut Context) -> Result<(), Failure> {
    Err(Failure::local("`grantd serve` is not built yet"))
}
