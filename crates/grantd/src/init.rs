//! `grantd init`: data directory, root key, schema, first organization and operator.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Context, Failure};
use crate::config::{Config, Flags};

/// Flags of `init`.
#[derive(Args)]
pub struct InitArgs {
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// sqlite:PATH or postgres://… [default: sqlite:<data_dir>/grantd.db] [env: GRANTD_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the root key is: env:NAME or file:PATH [default: file:<data_dir>/root.key] [env: GRANTD_ROOT_KEY]
    #[arg(long, value_name = "KEY")]
    pub root_key: Option<String>,
}

impl InitArgs {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default().with("database_url", self.database_url.clone()).with("root_key", self.root_key.clone())
    }
}

/// Creates what `serve` needs; changes nothing where it is there already.
#[expect(clippy::unused_async, reason = "until it is filled in")]
pub async fn run(_config: Config, _args: InitArgs, _context: &mut Context) -> Result<(), Failure> {
    Err(Failure::local("`grantd init` is not built yet"))
}
