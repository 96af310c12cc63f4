//! `grantd tokens`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use grantd_wire::api::{MintedToken, Page, Token, TokenCreate, TokensQuery};
use reqwest::Method;
use serde_json::json;

use super::apps::PageArgs;
use super::context::Context;
use super::failure::Failure;
use super::http::NoQuery;
use super::input::{confirm, parse_reference, parse_span};
use super::operators::RoleName;
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum TokensCommand {
    /// Make a personal access token; its text is shown once
    #[command(after_help = "Examples:
  grantd tokens create --name laptop
  grantd tokens create --name ci --role viewer --expires-in 30d \\
      --for-app 0199c0de-0000-7000-8000-00000000beef")]
    Create(CreateArgs),
    /// List your tokens, or those of an operator
    #[command(after_help = "Example:\n  grantd tokens list")]
    List(TokensListArgs),
    /// Show one token, without its text
    #[command(after_help = "Example:\n  grantd tokens show 0199c0de-0000-7000-8000-00000000beef")]
    Show(TokenRef),
    /// Revoke a token: it stops working
    #[command(after_help = "Example:\n  grantd tokens revoke 0199c0de-0000-7000-8000-00000000beef")]
    Revoke(TokenRef),
}

#[derive(Args)]
pub struct CreateArgs {
    /// What people call it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// What it may do, at most what you and its owner may [default: as much]
    #[arg(long)]
    role: Option<RoleName>,
    /// Only this app, by id; may be repeated [default: every app]
    #[arg(long = "for-app", value_name = "APP", value_delimiter = ',', value_parser = parse_reference)]
    app_ids: Option<Vec<String>>,
    /// When it ends, such as 30d [default: 90d]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<i64>,
    /// For this operator; as an admin [default: yourself]
    #[arg(long, value_name = "OPERATOR", value_parser = parse_reference)]
    operator: Option<String>,
}

#[derive(Args)]
pub struct TokensListArgs {
    /// Of this operator; as an admin [default: yourself]
    #[arg(long, value_name = "OPERATOR", value_parser = parse_reference)]
    operator: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct TokenRef {
    /// Id of the token
    #[arg(value_name = "TOKEN", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "token", value_name = "TOKEN", value_parser = parse_reference)]
    flag: Option<String>,
}

impl TokenRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

pub async fn run(command: TokensCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        TokensCommand::Create(args) => {
            let body = TokenCreate {
                name: args.name,
                role: args.role.map(RoleName::text),
                app_ids: args.app_ids,
                expires_in_seconds: args.expires_in,
                operator_id: args.operator,
            };
            let token: MintedToken = api.send_once(&["tokens"], &body).await?;
            context.show(&token)?;
            context.term.note("Keep token now: it is not shown again.");
            Ok(())
        }
        TokensCommand::List(args) => {
            let query = TokensQuery { operator: args.operator, limit: args.page.limit, offset: args.page.offset };
            let page: Page<Token> = api.get(&["tokens"], &query).await?;
            let columns = [
                column("ID", "id"),
                column("NAME", "name"),
                column("ROLE", "role"),
                column("STATUS", "status"),
                minor("APPS", "app_ids"),
                minor("CREATED", "created_at"),
                minor("EXPIRES", "expires_at"),
            ];
            context.show_page(&page, &columns)
        }
        TokensCommand::Show(token) => {
            let token: Token = api.get(&["tokens", &token.id()], &NoQuery {}).await?;
            context.show(&token)
        }
        TokensCommand::Revoke(token) => {
            let id = token.id();
            confirm(&format!("Revoke token {id}? It stops working at once."), context.globals.yes, &mut context.term)?;
            let token: Token = api.send(Method::POST, &["tokens", &id, "revoke"], &json!({})).await?;
            context.show(&token)
        }
    }
}
