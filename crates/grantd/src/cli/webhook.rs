//! `grantd idp webhook`.

use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{IdpWebhook, IdpWebhookDisabled, IdpWebhookEnable, IdpWebhookRotate, IdpWebhookWithToken};
use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::idp::IdpRef;
use super::input::{confirm, read_secret};

#[derive(Subcommand)]
pub enum WebhookCommand {
    /// Show its address, and when an event last came
    #[command(after_help = "Example:\n  grantd idp webhook status https://company.okta.com/oauth2/default")]
    Status(IdpRef),
    /// Switch it on: prints the address and, this once, the token to give to the vendor
    #[command(after_help = "Examples:
  grantd idp webhook enable https://tenant.eu.auth0.com/
  grantd idp webhook enable https://company.okta.com --subject-from login
  grantd idp webhook enable https://app.clerk.accounts.dev --secret @clerk.txt")]
    Enable(EnableArgs),
    /// Replace the token or secret; the one before counts no more from that moment
    #[command(after_help = "Examples:
  grantd idp webhook rotate https://tenant.eu.auth0.com/
  grantd idp webhook rotate https://app.clerk.accounts.dev --secret @clerk.txt")]
    Rotate(RotateArgs),
    /// Switch it off; users stay as they are
    #[command(after_help = "Example:\n  grantd idp webhook disable https://tenant.eu.auth0.com/")]
    Disable(IdpRef),
}

#[derive(Args)]
pub struct EnableArgs {
    #[command(flatten)]
    idp: IdpRef,
    /// The signing secret that Clerk shows: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// What of Okta's events holds users' sub [default: id]
    #[arg(long, value_name = "WHAT")]
    subject_from: Option<SubjectFrom>,
}

#[derive(Args)]
pub struct RotateArgs {
    #[command(flatten)]
    idp: IdpRef,
    /// The new signing secret that Clerk shows: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SubjectFrom {
    /// The user's id
    Id,
    /// The name the user signs in with
    Login,
}

/// Of the identity providers at `idps`.
pub async fn run(command: WebhookCommand, api: &Api, idps: &[&str], context: &mut Context) -> Result<(), Failure> {
    match command {
        WebhookCommand::Status(idp) => {
            let webhook: IdpWebhook = api.get(&[idps, &[&idp.name(), "webhook"]].concat(), &NoQuery {}).await?;
            context.show(&webhook)
        }
        WebhookCommand::Enable(args) => {
            let subject_from = args.subject_from.map(|from| match from {
                SubjectFrom::Id => "id".to_owned(),
                SubjectFrom::Login => "login".to_owned(),
            });
            let body = IdpWebhookEnable { secret: secret(args.secret.as_deref(), context)?, subject_from };
            let made = api.send_once(&[idps, &[&args.idp.name(), "webhook"]].concat(), &body).await?;
            show_token(&made, context)
        }
        WebhookCommand::Rotate(args) => {
            let body = IdpWebhookRotate { secret: secret(args.secret.as_deref(), context)? };
            let question = "Replace what the webhook is proved with? The one it has stops working at once.";
            confirm(question, context.globals.yes, &mut context.term)?;
            let made = api.send_once(&[idps, &[&args.idp.name(), "webhook", "rotate"]].concat(), &body).await?;
            show_token(&made, context)
        }
        WebhookCommand::Disable(idp) => {
            let question =
                "Switch the webhook off? The vendor tells nothing any more, also not of those who are blocked.";
            confirm(question, context.globals.yes, &mut context.term)?;
            let name = idp.name();
            let path = [idps, &[&name, "webhook"]].concat();
            let disabled: IdpWebhookDisabled = api.send(Method::DELETE, &path, &json!({})).await?;
            context.show(&disabled)
        }
    }
}

fn secret(text: Option<&str>, context: &mut Context) -> Result<Option<String>, Failure> {
    text.map(|text| Ok(read_secret("--secret", text, &mut context.term)?.to_string())).transpose()
}

fn show_token(made: &IdpWebhookWithToken, context: &mut Context) -> Result<(), Failure> {
    context.show_unfolded(made, &["webhook"])?;
    context.term.note(match made.token {
        Some(_) => "Give url and token to the vendor now: token is not shown again.",
        None => "Give url to the vendor, if it does not have it yet.",
    });
    Ok(())
}
