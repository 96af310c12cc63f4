//! `grantd organization` and `grantd branding`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand};
use grantd_wire::api::{Branding, BrandingUpdate, Organization, OrganizationUpdate};
use grantd_wire::limits;
use reqwest::Method;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::http::NoQuery;
use super::input::{confirm, unreadable};

#[derive(Subcommand)]
pub enum OrganizationCommand {
    /// Show the organization
    #[command(after_help = "Example:\n  grantd organization show")]
    Show,
    /// Call it something else
    #[command(after_help = "Example:\n  grantd organization rename --name 'Example Ltd'")]
    Rename(RenameArgs),
    /// Change its settings
    #[command(after_help = "Example:\n  grantd organization update --token-days-max 30")]
    Update(UpdateArgs),
}

#[derive(Args)]
pub struct RenameArgs {
    /// What people call it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct UpdateArgs {
    /// What people call it
    #[arg(long, group = "change", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Days that a new personal access token lives at most, 1 to 3,660; 0: no bound. Tokens that there are live on
    #[arg(long, value_name = "DAYS", group = "change")]
    token_days_max: Option<i64>,
}

#[derive(Subcommand)]
pub enum BrandingCommand {
    /// Show how the app looks on pages for end users
    #[command(after_help = "Example:\n  grantd branding get")]
    Get,
    /// Change how it looks
    #[command(after_help = "Example:\n  grantd branding set --accent-color '#0a7cff' --logo shop.png")]
    Set(SetArgs),
    /// Back to grantd's own look
    #[command(after_help = "Example:\n  grantd branding reset")]
    Reset,
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// Shown in the place of the app's name; an empty one removes it
    #[arg(long, value_name = "NAME", group = "change")]
    display_name: Option<String>,
    /// Colour of buttons and links, as #rrggbb; an empty one removes it
    #[arg(long, value_name = "COLOR", group = "change")]
    accent_color: Option<String>,
    /// Colour behind everything, as #rrggbb; an empty one removes it
    #[arg(long, value_name = "COLOR", group = "change")]
    background_color: Option<String>,
    /// A PNG, JPEG or WebP picture of at most 256 KiB, best a square; an empty one removes it
    #[arg(long, value_name = "FILE", group = "change")]
    logo: Option<PathBuf>,
}

/// A picture as the API takes it.
fn picture(path: &Path) -> Result<String, Failure> {
    if path.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let said = |why: &dyn std::fmt::Display| unreadable(&format!("--logo {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|why| said(&why))?;
    // One more than it may have: the server says what the bound is.
    let (mut bytes, most) = (Vec::new(), limits::LOGO_BYTES_MAX as u64 + 1);
    file.take(most).read_to_end(&mut bytes).map_err(|why| said(&why))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

pub async fn run(command: OrganizationCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let organization: Organization = match command {
        OrganizationCommand::Show => api.get(&["organization"], &NoQuery {}).await?,
        OrganizationCommand::Rename(args) => {
            let body = OrganizationUpdate { name: Some(args.name), token_days_max: None };
            api.send(Method::PATCH, &["organization"], &body).await?
        }
        OrganizationCommand::Update(args) => {
            let body = OrganizationUpdate { name: args.name, token_days_max: args.token_days_max };
            api.send(Method::PATCH, &["organization"], &body).await?
        }
    };
    context.show(&organization)
}

pub async fn run_branding(command: BrandingCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let path = ["apps", app.as_str(), "branding"];
    let branding: Branding = match command {
        BrandingCommand::Get => api.get(&path, &NoQuery {}).await?,
        BrandingCommand::Set(args) => {
            let body = BrandingUpdate {
                display_name: args.display_name,
                accent_color: args.accent_color,
                background_color: args.background_color,
                logo: args.logo.as_deref().map(picture).transpose()?,
            };
            api.send(Method::PATCH, &path, &body).await?
        }
        BrandingCommand::Reset => {
            confirm("Forget how the app looks?", context.globals.yes, &mut context.term)?;
            api.send(Method::DELETE, &path, &json!({})).await?
        }
    };
    context.show(&branding)
}
