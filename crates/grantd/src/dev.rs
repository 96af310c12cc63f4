//! `grantd dev`: a running grantd with everything to try it out, on loopback only.

use clap::Args;

use crate::cli::{Context, Failure};
use crate::config::{Config, Flags};

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

/// Runs until Ctrl-C.
#[expect(clippy::unused_async, reason = "until it is filled in")]
pub async fn run(_config: Config, _args: DevArgs, _context: &mut Context) -> Result<(), Failure> {
    Err(Failure::local("`grantd dev` is not built yet"))
}
