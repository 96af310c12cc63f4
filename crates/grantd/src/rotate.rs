//! `grantd rotate-root-key`: wraps everything under another root key, while others serve.

use clap::Args;
use grantd_domain::seal::{RootKey, RootKeys};
use grantd_domain::words::counted;
use grantd_server::rewrap::{self, RewrapError};
use serde_json::json;

use crate::boot;
use crate::cli::{Context, Exit, Failure, Progress};
use crate::config::{Config, InstallFlags, KeySource};
use crate::host::Host;
use crate::root_key;

/// Flags of `rotate-root-key`.
#[derive(Args)]
pub struct RotateArgs {
    /// Where the new root key is: env:NAME or file:PATH
    #[arg(long, value_name = "KEY")]
    pub to: String,
    #[command(flatten)]
    pub install: InstallFlags,
}

/// Wraps everything under the new key.
pub async fn run(config: Config, args: RotateArgs, context: &mut Context) -> Result<(), Failure> {
    boot::require_database(&config)?;
    let source = KeySource::parse(&args.to).map_err(|why| Failure::usage(format!("--to: {why}")))?;
    let load = |source: &KeySource| {
        root_key::load(source, &context.env)
            .map(|key| RootKey::new(&key))
            .map_err(|e| Failure::from_error(Exit::Error, &e))
    };
    let new = load(&source).map_err(|failure| {
        failure.hint("Make the new key first, such as with `openssl rand -hex 32 > FILE; chmod 600 FILE`.")
    })?;
    let to = new.id().to_owned();
    let mut also = config.root_key_also.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    also.push(new);
    let root = RootKeys::new(load(&config.root_key)?, also);
    let store = boot::open_store(&config).await?;
    store.check_schema().await.map_err(|e| boot::schema_failure(&e))?;
    let on_terminal = context.term.stderr_is_terminal;
    let mut bar: Option<Progress> = None;
    let mut told = 0;
    let result = rewrap::run(&store, &root, &to, &Host, &mut |done, left| {
        let all = done + u64::try_from(left).unwrap_or(0);
        bar.get_or_insert_with(|| Progress::of_things(on_terminal, all, "data keys"))
            .add(usize::try_from(done - told).unwrap_or(0));
        told = done;
    })
    .await;
    if let Some(bar) = bar {
        bar.finish();
    }
    store.close().await;
    let done = result.map_err(|e| match &e {
        RewrapError::ProcessWithout { .. } => {
            Failure { error: "conflict".to_owned(), ..Failure::from_error(Exit::Conflict, &e) }
        }
        _ => Failure::from_error(Exit::Error, &e),
    })?;
    let next = match done.remaining {
        0 => format!(
            "Everything is wrapped under root key {to}. Now set root_key to {source} and root_key_also to the old key on every process, \
             restart them, run this once more (a process may have made a key meanwhile), and only then take the old key away."
        ),
        n => format!(
            "{} still under another root key: processes make new ones. Run this again.",
            counted(n, "data key is", "data keys are")
        ),
    };
    context.term.note(&next);
    context.show(&json!({"rewrapped": done.rewrapped, "remaining": done.remaining, "root_key_id": to}))
}
