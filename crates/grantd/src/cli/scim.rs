//! `grantd idp scim`.

use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{Scim, ScimDisabled, ScimEnable, ScimWithToken};
use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::idp::IdpRef;
use super::input::confirm;

#[derive(Subcommand)]
pub enum ScimCommand {
    /// Show its settings, and how many users the directory told of
    #[command(after_help = "Example:\n  grantd idp scim show https://company.okta.com/oauth2/default")]
    Show(IdpRef),
    /// Switch it on: prints the address and, this once, the token to give to the directory
    #[command(after_help = "Examples:
  grantd idp scim enable https://company.okta.com/oauth2/default
  grantd idp scim enable https://company.okta.com/oauth2/default \\
      --subject-from user-name --deactivation deprovision")]
    Enable(EnableArgs),
    /// Make another token; the one before counts no more from that moment
    #[command(after_help = "Example:\n  grantd idp scim rotate https://company.okta.com/oauth2/default")]
    Rotate(IdpRef),
    /// Switch it off; users stay as they are
    #[command(after_help = "Example:\n  grantd idp scim disable https://company.okta.com/oauth2/default")]
    Disable(IdpRef),
}

#[derive(Args)]
pub struct EnableArgs {
    #[command(flatten)]
    idp: IdpRef,
    /// Attribute that holds what users' tokens call sub [default: external-id]
    #[arg(long, value_name = "ATTRIBUTE")]
    subject_from: Option<SubjectFrom>,
    /// What it does when the directory deactivates a user [default: suspend]
    #[arg(long, value_name = "HOW")]
    deactivation: Option<Deactivation>,
}

/// Also as SCIM spells them.
#[derive(Clone, Copy, ValueEnum)]
enum SubjectFrom {
    #[value(alias = "externalId")]
    ExternalId,
    #[value(alias = "userName")]
    UserName,
}

#[derive(Clone, Copy, ValueEnum)]
enum Deactivation {
    /// Until the directory activates the user again
    Suspend,
    /// For good
    Deprovision,
}

/// Of the identity providers at `idps`.
pub async fn run(command: ScimCommand, api: &Api, idps: &[&str], context: &mut Context) -> Result<(), Failure> {
    let at = |idp: &str, last: &[&str]| -> Vec<String> {
        idps.iter().chain(&[idp, "scim"]).chain(last).map(|part| (*part).to_owned()).collect()
    };
    match command {
        ScimCommand::Show(idp) => {
            let path = at(&idp.name(), &[]);
            let scim: Scim = api.get(&parts(&path), &NoQuery {}).await?;
            context.show(&scim)
        }
        ScimCommand::Enable(args) => {
            let body = ScimEnable {
                subject_from: args.subject_from.map(|from| match from {
                    SubjectFrom::ExternalId => "externalId".to_owned(),
                    SubjectFrom::UserName => "userName".to_owned(),
                }),
                deactivation: args.deactivation.map(|how| match how {
                    Deactivation::Suspend => "suspend".to_owned(),
                    Deactivation::Deprovision => "deprovision".to_owned(),
                }),
            };
            let path = at(&args.idp.name(), &[]);
            let made: ScimWithToken = api.send_once(&parts(&path), &body).await?;
            show_token(&made, context)
        }
        ScimCommand::Rotate(idp) => {
            let path = at(&idp.name(), &["rotate"]);
            let question = "Replace the directory's token? The one it has stops working at once.";
            confirm(question, context.globals.yes, &mut context.term)?;
            let made: ScimWithToken = api.send_once(&parts(&path), &json!({})).await?;
            show_token(&made, context)
        }
        ScimCommand::Disable(idp) => {
            let path = at(&idp.name(), &[]);
            let question = "Switch SCIM off? The directory tells nothing any more, also not of those who leave.";
            confirm(question, context.globals.yes, &mut context.term)?;
            let disabled: ScimDisabled = api.send(Method::DELETE, &parts(&path), &json!({})).await?;
            context.show(&disabled)
        }
    }
}

fn parts(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

fn show_token(made: &ScimWithToken, context: &mut Context) -> Result<(), Failure> {
    context.show_unfolded(made, &["scim"])?;
    context.term.note("Give base_url and token to the directory now: token is not shown again.");
    Ok(())
}
