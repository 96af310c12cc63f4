//! `grantd keys`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{Key, KeyMint, KeyRotate, KeyUpdate, ListQuery, MintedKey, Page, RotatedKey};
use reqwest::Method;
use serde_json::json;

use super::apps::ListArgs;
use super::context::Context;
use super::failure::Failure;
use super::http::NoQuery;
use super::input::{check_scopes, confirm, parse_cidr, parse_reference, parse_span, rate_range};
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Mint a key; its text is shown once
    #[command(after_help = "Examples:
  grantd keys mint --name web
  grantd keys mint --name batch --scopes tokens:retrieve,audit:emit \\
      --cidr 10.0.0.0/8 --expires-in 90d")]
    Mint(MintArgs),
    /// List the app's keys
    #[command(after_help = "Example:\n  grantd keys list --status in_grace")]
    List(KeysListArgs),
    /// Show one key, without its text
    #[command(after_help = "Example:\n  grantd keys show 0199c0de-0000-7000-8000-00000000beef")]
    Show(KeyRef),
    /// Call a key something else
    #[command(after_help = "Example:\n  grantd keys rename 0199c0de-0000-7000-8000-00000000beef --name web")]
    Rename(RenameArgs),
    /// Make a key that takes the place of another, which works for a while yet
    #[command(after_help = "Examples:
  grantd keys rotate 0199c0de-0000-7000-8000-00000000beef
  grantd keys rotate 0199c0de-0000-7000-8000-00000000beef --grace 1h")]
    Rotate(RotateArgs),
    /// Revoke a key: calls with it fail from now on
    #[command(after_help = "Example:\n  grantd keys revoke 0199c0de-0000-7000-8000-00000000beef --yes")]
    Revoke(KeyRef),
}

#[derive(Args)]
pub struct MintArgs {
    /// What people call it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// What the key may do [default: what an application needs]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scopes: Option<Vec<String>>,
    /// rk: the runtime key of an application
    #[arg(long, value_name = "TYPE")]
    key_type: Option<KeyKind>,
    /// Addresses it may be used from
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_cidr)]
    cidr: Option<Vec<String>>,
    /// Requests a minute
    #[arg(long, value_name = "N", value_parser = rate_range())]
    rate_limit_rpm: Option<i64>,
    /// When it ends, such as 90d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<i64>,
    /// For clients before alter-sdk 0.21: caller and context of its calls may be unsigned. A risk
    #[arg(long)]
    allow_unsigned_identity: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KeyKind {
    Rk,
}

#[derive(Args)]
pub struct KeysListArgs {
    /// Only keys that are so
    #[arg(long)]
    status: Option<Status>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Status {
    Active,
    #[value(name = "in_grace")]
    InGrace,
    Rotated,
    Expired,
    Revoked,
}

#[derive(Args)]
pub struct RenameArgs {
    #[command(flatten)]
    key: KeyRef,
    /// What people call it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Args)]
pub struct RotateArgs {
    #[command(flatten)]
    key: KeyRef,
    /// How long the old key still works, at most 30d; 0s ends it at once [default: 7d]
    #[arg(long, value_name = "SPAN", value_parser = parse_grace)]
    grace: Option<i64>,
}

/// A span, or none at all.
fn parse_grace(text: &str) -> Result<i64, String> {
    if text == "0s" { Ok(0) } else { parse_span(text) }
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct KeyRef {
    /// Id of the key
    #[arg(value_name = "KEY", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "key", value_name = "KEY", value_parser = parse_reference)]
    flag: Option<String>,
}

impl KeyRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

pub async fn run(command: KeysCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let keys = ["apps", app.as_str(), "keys"];
    match command {
        KeysCommand::Mint(args) => {
            check_scopes(args.scopes.as_deref().unwrap_or_default())?;
            let body = KeyMint {
                name: args.name,
                scopes: args.scopes,
                key_type: args.key_type.map(|KeyKind::Rk| "rk".to_owned()),
                cidr_allowlist: args.cidr,
                rate_limit_rpm: args.rate_limit_rpm,
                expires_in_seconds: args.expires_in,
                allow_unsigned_identity: args.allow_unsigned_identity,
            };
            let key: MintedKey = api.send_once(&keys, &body).await?;
            context.show(&key)?;
            context.term.note("Keep api_key now: it is not shown again.");
            Ok(())
        }
        KeysCommand::List(args) => {
            let status = args.status.map(|status| match status {
                Status::Active => "active".to_owned(),
                Status::InGrace => "in_grace".to_owned(),
                Status::Rotated => "rotated".to_owned(),
                Status::Expired => "expired".to_owned(),
                Status::Revoked => "revoked".to_owned(),
            });
            let page: Page<Key> = api.get(&keys, &ListQuery { status, ..args.list.query() }).await?;
            let columns = [
                column("ID", "id"),
                column("NAME", "name"),
                column("KEY", "key_prefix"),
                column("STATUS", "status"),
                minor("CREATED", "created_at"),
                minor("EXPIRES", "expires_at"),
                minor("LAST USED", "last_used_at"),
                minor("UNSIGNED", "allow_unsigned_identity"),
            ];
            context.show_page(&page, &columns)
        }
        KeysCommand::Show(key) => {
            let key: Key = api.get(&[&keys[..], &[&key.id()]].concat(), &NoQuery {}).await?;
            context.show(&key)
        }
        KeysCommand::Rename(args) => {
            let id = args.key.id();
            let body = KeyUpdate { name: args.name };
            let key: Key = api.send(Method::PATCH, &[&keys[..], &[&id]].concat(), &body).await?;
            context.show(&key)
        }
        KeysCommand::Rotate(args) => {
            let id = args.key.id();
            let path = [&keys[..], &[&id, "rotate"]].concat();
            let key: RotatedKey = api.send_once(&path, &KeyRotate { grace_seconds: args.grace }).await?;
            context.show(&key)?;
            context.term.note("Keep api_key now: it is not shown again.");
            Ok(())
        }
        KeysCommand::Revoke(key) => {
            let id = key.id();
            confirm(&format!("Revoke key {id}? Calls with it fail at once."), context.globals.yes, &mut context.term)?;
            let key: Key = api.send(Method::POST, &[&keys[..], &[&id, "revoke"]].concat(), &json!({})).await?;
            context.show(&key)
        }
    }
}
