//! `grantd apps retention` and `grantd apps hold`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use grantd_wire::Retention;
use grantd_wire::api::{AppRetention, AppRetentionSet, LegalHold, LegalHoldSet};
use reqwest::Method;
use serde_json::json;

use super::apps::{AppRef, find};
use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::input::confirm;

#[derive(Subcommand)]
pub enum RetentionCommand {
    /// Show it
    #[command(after_help = "Example:\n  grantd apps retention show")]
    Show(AppRef),
    /// Keep the trail for another time than the install does. What is older is removed for good
    #[command(after_help = "Examples:
  grantd apps retention set --for 90d
  grantd apps retention set --for forever")]
    Set(RetentionArgs),
    /// Keep it for as long as the install does
    #[command(after_help = "Example:\n  grantd apps retention reset")]
    Reset(AppRef),
}

#[derive(Args)]
pub struct RetentionArgs {
    #[command(flatten)]
    app: AppRef,
    /// Days such as 90d, at least 1d, or forever
    #[arg(long = "for", value_name = "DAYS", value_parser = Retention::parse)]
    retention: Retention,
}

#[derive(Subcommand)]
pub enum HoldCommand {
    /// Show whether the app is under a hold
    #[command(after_help = "Example:\n  grantd apps hold show")]
    Show(AppRef),
    /// Put the app under a hold
    #[command(after_help = "Example:\n  grantd apps hold set --reason 'Case 2026/17'")]
    Set(HoldArgs),
    /// End the hold
    #[command(after_help = "Example:\n  grantd apps hold release")]
    Release(AppRef),
}

#[derive(Args)]
pub struct HoldArgs {
    #[command(flatten)]
    app: AppRef,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

pub async fn run(command: RetentionCommand, api: &Api, context: &mut Context) -> Result<(), Failure> {
    let retention: AppRetention = match command {
        RetentionCommand::Show(app) => {
            let id = find(app, api, context).await?;
            api.get(&["apps", &id, "retention"], &NoQuery {}).await?
        }
        RetentionCommand::Set(args) => {
            let id = find(args.app, api, context).await?;
            let wanted = args.retention.to_string();
            if args.retention != Retention::Forever {
                let question = format!("Remove what is older than {wanted} from the app's trail, now and from now on?");
                confirm(&question, context.globals.yes, &mut context.term)?;
            }
            api.send(Method::PUT, &["apps", &id, "retention"], &AppRetentionSet { retention: wanted }).await?
        }
        RetentionCommand::Reset(app) => {
            let id = find(app, api, context).await?;
            let question = "Keep the app's trail for as long as the install does, and remove what is older?";
            confirm(question, context.globals.yes, &mut context.term)?;
            api.send(Method::DELETE, &["apps", &id, "retention"], &json!({})).await?
        }
    };
    context.show(&retention)
}

pub async fn run_hold(command: HoldCommand, api: &Api, context: &mut Context) -> Result<(), Failure> {
    let hold: LegalHold = match command {
        HoldCommand::Show(app) => {
            let id = find(app, api, context).await?;
            api.get(&["apps", &id, "hold"], &NoQuery {}).await?
        }
        HoldCommand::Set(args) => {
            let id = find(args.app, api, context).await?;
            api.send(Method::PUT, &["apps", &id, "hold"], &LegalHoldSet { reason: args.reason }).await?
        }
        HoldCommand::Release(app) => {
            let id = find(app, api, context).await?;
            let question = "End the legal hold? What retention says is then removed from the app's trail.";
            confirm(question, context.globals.yes, &mut context.term)?;
            api.send(Method::DELETE, &["apps", &id, "hold"], &json!({})).await?
        }
    };
    context.show(&hold)
}
