//! `grantd init`: data directory, root key, schema, first organization and operator.

use clap::Args;
use serde_json::json;

use crate::boot::{self, DataDir, PAT_FILE};
use crate::cli::{Context, Failure, Format};
use crate::config::{Config, InstallFlags};

/// Flags of `init`.
#[derive(Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub install: InstallFlags,
}

/// Creates what `serve` needs; changes nothing where it is there already.
pub async fn run(config: Config, _args: InitArgs, context: &mut Context) -> Result<(), Failure> {
    let data_dir = DataDir::take(&config.data_dir)?;
    let store = boot::open_store(&config).await?;
    let created = boot::create_install(&config, &data_dir, &context.env, &store).await?;
    store.close().await;
    let shown = data_dir.path.display().to_string();
    let next = match &created.pat {
        Some(_) => format!(
            "Made an install in {shown}: the first operator's token is in {}, the root key is {}.\n\
             Keep a copy of the root key elsewhere: without it nothing here can be opened again.\n\
             Next: grantd serve --data-dir {shown}\n\
             Then, for a link to sign in to the portal: grantd operator login-link --data-dir {shown}",
            data_dir.path.join(PAT_FILE).display(),
            config.root_key,
        ),
        None => format!("There is an install in {shown} already; nothing was changed."),
    };
    next.lines().for_each(|line| context.term.note(line));
    if context.format() == Format::Table {
        return Ok(());
    }
    let pat = created.pat.as_ref().map(grantd_domain::secret::Secret::reveal);
    context.show(&json!({
        "data_dir": shown,
        "organization_id": created.organization_id,
        "operator_id": created.operator_id,
        "pat": pat,
    }))
}
