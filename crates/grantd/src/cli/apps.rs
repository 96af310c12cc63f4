//! `grantd apps`.

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_wire::api::{App, AppCreate, AppUpdate, ConnectSignIn, ListQuery, Page, Retrieve, TenantMode};
use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::http::NoQuery;
use super::input::{confirm, confirm_name, limit_range, offset_range, parse_reference, parse_website};
use super::retention::{self, HoldCommand, RetentionCommand};
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum AppsCommand {
    /// Create an app
    #[command(after_help = "Example:\n  grantd apps create --name shop --website-url https://shop.example")]
    Create(CreateArgs),
    /// List the apps
    #[command(after_help = "Example:\n  grantd apps list --search shop")]
    List(ListArgs),
    /// Show one app
    #[command(after_help = "Examples:\n  grantd apps show\n  grantd apps show 0199c0de-0000-7000-8000-00000000beef")]
    Show(AppRef),
    /// Change an app
    #[command(after_help = "Examples:
  grantd apps update --tenant-key user_id --tenant-mode observe
  grantd apps update --retrieve off
  grantd apps update --connect-sign-in required
  grantd apps update --return-origin https://shop.example")]
    Update(UpdateArgs),
    /// Switch an app off: every call with its keys fails, until it is taken back
    #[command(after_help = "Example:\n  grantd apps archive 0199c0de-0000-7000-8000-00000000beef")]
    Archive(AppRef),
    /// Switch an archived app on again
    #[command(after_help = "Example:\n  grantd apps unarchive 0199c0de-0000-7000-8000-00000000beef")]
    Unarchive(AppRef),
    /// Delete an archived app: its data keys are destroyed, its audit trail stays. Cannot be undone
    #[command(after_help = "Example:
  grantd apps delete 0199c0de-0000-7000-8000-00000000beef --confirm shop")]
    Delete(DeleteArgs),
    /// How long the app's audit trail is kept
    #[command(subcommand, after_help = "Example:\n  grantd apps retention show")]
    Retention(RetentionCommand),
    /// Legal holds: while one stands, nothing of the app's audit trail is removed, and the app cannot be deleted
    #[command(subcommand, after_help = "Example:\n  grantd apps hold show")]
    Hold(HoldCommand),
}

#[derive(Args)]
pub struct CreateArgs {
    /// What people call it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Shown to end users on consent pages
    #[arg(long, value_name = "URL", value_parser = parse_website)]
    website_url: Option<String>,
}

/// A page of a list.
#[derive(Args)]
pub struct PageArgs {
    /// Items of a page, at most 1000 [default: 100]
    #[arg(long, value_name = "N", value_parser = limit_range())]
    pub limit: Option<i64>,
    /// Items to skip
    #[arg(long, value_name = "N", value_parser = offset_range())]
    pub offset: Option<i64>,
}

#[derive(Args)]
pub struct ListArgs {
    /// Names that begin with this, in any case
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    #[command(flatten)]
    pub page: PageArgs,
}

impl ListArgs {
    pub fn query(self) -> ListQuery {
        ListQuery { search: self.search, limit: self.page.limit, offset: self.page.offset, ..ListQuery::default() }
    }
}

#[derive(Args)]
pub struct AppRef {
    /// Id of the app [default: as for --app]
    #[arg(value_name = "APP", value_parser = parse_reference, conflicts_with = "app")]
    position: Option<String>,
}

#[derive(Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    app: AppRef,
    /// Name of the app, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct UpdateArgs {
    #[command(flatten)]
    app: AppRef,
    /// What people call it
    #[arg(long, group = "change", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// What it is for; an empty one removes it
    #[arg(long, value_name = "TEXT", group = "change")]
    description: Option<String>,
    /// Shown to end users on consent pages; an empty one removes it
    #[arg(long, value_name = "URL", group = "change", value_parser = parse_website)]
    website_url: Option<String>,
    /// Context key that names the tenant, such as user_id; an empty one removes it
    #[arg(long, value_name = "KEY", group = "change")]
    tenant_key: Option<String>,
    /// Whether a call must carry the tenant its grant is bound to
    #[arg(long, value_name = "MODE", group = "change")]
    tenant_mode: Option<Mode>,
    /// Whether raw credentials may be handed out; off leaves proxy mode only
    #[arg(long, value_name = "ON|OFF", group = "change")]
    retrieve: Option<Switch>,
    /// Context keys that audit finds by index, at most 8; replaces the present ones
    #[arg(
        long = "index",
        visible_alias = "indexed-context-key",
        value_name = "KEY",
        group = "change",
        value_delimiter = ','
    )]
    indexed_context_keys: Option<Vec<String>>,
    /// Whether a user must sign in at their identity provider before they connect an account or give a key
    #[arg(long, value_name = "OFF|REQUIRED", group = "change")]
    connect_sign_in: Option<Demand>,
    /// Origin that browsers may be sent back to when they have connected; give it again for each, at most 20. Replaces the present
    /// ones; an empty one removes all: then any will do
    #[arg(long = "return-origin", value_name = "ORIGIN", group = "change")]
    return_origins: Option<Vec<String>>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Off,
    Observe,
    Enforce,
}

#[derive(Clone, Copy, ValueEnum)]
enum Demand {
    Off,
    Required,
}

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub async fn run(command: AppsCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        AppsCommand::Create(args) => {
            let body = AppCreate { name: args.name, description: args.description, website_url: args.website_url };
            let app: App = api.send_once(&["apps"], &body).await?;
            context.show(&app)
        }
        AppsCommand::List(args) => {
            let page: Page<App> = api.get(&["apps"], &args.query()).await?;
            let columns = [
                column("ID", "id"),
                column("NAME", "name"),
                column("STATE", "state"),
                minor("TENANT MODE", "tenant_mode"),
                minor("RETRIEVE", "retrieve"),
                minor("CREATED", "created_at"),
            ];
            context.show_page(&page, &columns)
        }
        AppsCommand::Show(app) => {
            let id = find(app, &api, context).await?;
            let app: App = api.get(&["apps", &id], &NoQuery {}).await?;
            context.show(&app)
        }
        AppsCommand::Archive(app) => {
            let id = find(app, &api, context).await?;
            confirm(
                &format!("Archive app {id}? Every call of it fails at once."),
                context.globals.yes,
                &mut context.term,
            )?;
            let app: App = api.send(Method::POST, &["apps", &id, "archive"], &json!({})).await?;
            context.show(&app)
        }
        AppsCommand::Unarchive(app) => {
            let id = find(app, &api, context).await?;
            let app: App = api.send(Method::POST, &["apps", &id, "unarchive"], &json!({})).await?;
            context.show(&app)
        }
        AppsCommand::Delete(args) => {
            let id = find(args.app, &api, context).await?;
            let read = api.read_to_change::<App>(&["apps", &id]).await?;
            let question = "Delete the app and destroy every value that is stored in it?";
            confirm_name(question, &read.object.name, args.confirm.as_deref(), &mut context.term)?;
            let app: App = api.send_if(Method::DELETE, &["apps", &id], &json!({}), &read).await?;
            context.show(&app)
        }
        AppsCommand::Retention(command) => retention::run(command, &api, context).await,
        AppsCommand::Hold(command) => retention::run_hold(command, &api, context).await,
        AppsCommand::Update(args) => {
            let id = find(args.app, &api, context).await?;
            let body = AppUpdate {
                name: args.name,
                description: args.description,
                website_url: args.website_url,
                tenant_key: args.tenant_key,
                tenant_mode: args.tenant_mode.map(|mode| match mode {
                    Mode::Off => TenantMode::Off,
                    Mode::Observe => TenantMode::Observe,
                    Mode::Enforce => TenantMode::Enforce,
                }),
                retrieve: args.retrieve.map(|switch| match switch {
                    Switch::On => Retrieve::On,
                    Switch::Off => Retrieve::Off,
                }),
                indexed_context_keys: args.indexed_context_keys,
                connect_sign_in: args.connect_sign_in.map(|demand| match demand {
                    Demand::Off => ConnectSignIn::Off,
                    Demand::Required => ConnectSignIn::Required,
                }),
                return_origins: args.return_origins.map(|origins| match &origins[..] {
                    [only] if only.is_empty() => Vec::new(),
                    _ => origins,
                }),
            };
            let app: App = api.send(Method::PATCH, &["apps", &id], &body).await?;
            context.show(&app)
        }
    }
}

pub async fn find(app: AppRef, api: &super::http::Api, context: &Context) -> Result<String, Failure> {
    match app.position {
        Some(id) => Ok(id),
        None => context.app(api).await,
    }
}
