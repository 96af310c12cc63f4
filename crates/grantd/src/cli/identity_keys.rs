//! `grantd identity-keys`.

use clap::{Args, Subcommand};
use grantd_wire::api::{IdentityKey, IdentityKeysRotate, ListQuery, Page};

use super::apps::PageArgs;
use super::context::Context;
use super::failure::Failure;
use super::input::confirm;
use super::table::column;

#[derive(Subcommand)]
pub enum IdentityKeysCommand {
    /// List the published keys: the one that signs, the next, and those whose tokens may still be about
    #[command(after_help = "Example:\n  grantd identity-keys list")]
    List(PageArgs),
    /// Publish another key, which signs after an hour; keys rotate by themselves every 90 days
    #[command(after_help = "Examples:\n  grantd identity-keys rotate\n  grantd identity-keys rotate --leaked")]
    Rotate(RotateArgs),
}

#[derive(Args)]
pub struct RotateArgs {
    /// A key is known to others: the new one signs at once, and tokens of the old ones are good no more
    #[arg(long)]
    leaked: bool,
}

pub async fn run(command: IdentityKeysCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        IdentityKeysCommand::List(args) => {
            let page: Page<IdentityKey> = api
                .get(&["identity-keys"], &ListQuery { limit: args.limit, offset: args.offset, ..ListQuery::default() })
                .await?;
            context
                .show_page(&page, &[column("ID", "id"), column("STATUS", "status"), column("SIGNS FROM", "signs_from")])
        }
        IdentityKeysCommand::Rotate(RotateArgs { leaked }) => {
            if leaked {
                let question = "Withdraw every key that signs assertions? The tokens they signed are good no more.";
                confirm(question, context.globals.yes, &mut context.term)?;
            }
            let body = IdentityKeysRotate { leaked };
            let key: IdentityKey = api.send_once(&["identity-keys", "rotate"], &body).await?;
            context.show(&key)
        }
    }
}
