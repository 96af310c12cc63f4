//! `grantd auth`: who speaks.

use clap::Subcommand;
use grantd_wire::api::Whoami;
use serde::Serialize;
use serde_json::json;

use super::context::{Context, checked_token};
use super::failure::{Exit, Failure};
use super::http::{Api, NoQuery, Token};
use super::input::{read_secret, read_token};
use super::logins::Logins;

#[derive(Subcommand)]
pub enum AuthCommand {
    /// Save a personal access token for the server, so that no later command needs one
    #[command(after_help = "The token is asked for on a terminal, else read from stdin or --token-file. It
is tried, and then saved in ~/.config/grantd/auth.toml, which only you may read.

Examples:
  grantd auth login --server https://grantd.example.com
  grantd auth login --token-file operator.pat")]
    Login,
    /// Forget the saved token for the server. It stays valid: `grantd tokens revoke` ends it
    #[command(after_help = "Example:\n  grantd auth logout --server https://grantd.example.com")]
    Logout,
    /// Show where the token comes from that commands would use, and which servers one is saved for
    #[command(after_help = "Example:\n  grantd auth status --server https://grantd.example.com")]
    Status,
    /// Show operator, role and expiry of the token in use
    #[command(after_help = "Example:\n  grantd auth whoami --output json")]
    Whoami,
}

/// A login that was saved.
#[derive(Serialize)]
struct SignedIn {
    server: String,
    saved_in: String,
    #[serde(flatten)]
    whoami: Whoami,
}

/// What commands would use.
#[derive(Serialize)]
struct Status {
    server: String,
    /// Null: there is none.
    token_from: Option<String>,
    saved_in: Option<String>,
    saved_servers: Vec<String>,
}

pub async fn run(command: AuthCommand, context: &mut Context) -> Result<(), Failure> {
    match command {
        AuthCommand::Login => login(context).await,
        AuthCommand::Logout => logout(context),
        AuthCommand::Status => status(context),
        AuthCommand::Whoami => {
            let whoami = whoami(&context.api()?).await?;
            context.show(&whoami)
        }
    }
}

async fn whoami(api: &Api) -> Result<Whoami, Failure> {
    api.get(&["whoami"], &NoQuery {}).await
}

fn logins(context: &Context) -> Result<Logins, Failure> {
    Logins::of(&context.env).ok_or_else(|| {
        Failure::local("there is no place for a login: neither HOME nor XDG_CONFIG_HOME is set")
            .hint("Set one of them, or pass the token with GRANTD_PAT or --token-file.")
    })
}

async fn login(context: &mut Context) -> Result<(), Failure> {
    let (server, logins) = (context.server()?, logins(context)?);
    let (place, token) = match context.globals.token_file.clone() {
        Some(path) => ("--token-file", read_token(&path).map_err(Failure::usage)?),
        None => ("standard input", read_secret("Personal access token", "-", &mut context.term)?),
    };
    let token = checked_token(place, &token)?;
    let api = context.signed_in(server.clone(), &Token::new(token.clone(), place))?;
    let whoami = whoami(&api).await?;
    logins.save(&server, &token)?;
    if context.env.find_filled("GRANTD_PAT").is_some() {
        context.term.warn("GRANTD_PAT is set, and comes before what was saved here");
    }
    let (server, saved_in) = (server.to_string(), logins.path().display().to_string());
    context.show(&SignedIn { server, saved_in, whoami })
}

fn logout(context: &mut Context) -> Result<(), Failure> {
    let server = context.server()?;
    if logins(context)?.forget(&server)? {
        return context.show(&json!({ "server": server.as_str(), "forgotten": true }));
    }
    let message = format!("no token is saved for {server}");
    Err(Failure::new(Exit::NotFound, "not_found", message)
        .hint("`grantd auth status` shows for which servers there is one."))
}

fn status(context: &mut Context) -> Result<(), Failure> {
    let server = context.server()?;
    let token_from = match context.token(&server) {
        Ok(token) => Some(token.source().to_owned()),
        Err(failure) => {
            context.term.note(&failure.line());
            None
        }
    };
    let logins = Logins::of(&context.env);
    let status = Status {
        server: server.to_string(),
        token_from,
        saved_servers: logins.as_ref().map(Logins::servers).transpose()?.unwrap_or_default(),
        saved_in: logins.map(|logins| logins.path().display().to_string()),
    };
    context.show(&status)
}
