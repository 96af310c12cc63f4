//! `grantd providers`.

use clap::{Args, Subcommand};
use grantd_wire::api::{CatalogProvider, Page};
use serde_json::{Value, json};

use super::apps::ListArgs;
use super::context::{Context, Format};
use super::failure::Failure;
use super::http::NoQuery;
use super::input::parse_reference;
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum ProvidersCommand {
    /// List the OAuth providers that are known, or show one
    #[command(after_help = "Examples:
  grantd providers list-catalog
  grantd providers list-catalog --search crm
  grantd providers list-catalog google")]
    ListCatalog(CatalogArgs),
}

#[derive(Args)]
pub struct CatalogArgs {
    /// Show this one
    #[arg(value_name = "PROVIDER", value_parser = parse_reference, conflicts_with_all = ["search", "limit", "offset"])]
    provider: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

pub async fn run(command: ProvidersCommand, context: &mut Context) -> Result<(), Failure> {
    let ProvidersCommand::ListCatalog(args) = command;
    let api = context.api()?;
    let path = ["provider-catalog"];
    let Some(id) = args.provider else {
        let page: Page<CatalogProvider> = api.get(&path, &args.list.query()).await?;
        let columns = [
            column("ID", "id"),
            column("NAME", "name"),
            minor("CATEGORY", "category"),
            minor("REFRESH", "refresh"),
            minor("PKCE", "pkce"),
            minor("VERIFIED", "verified"),
            minor("DOCS", "docs_url"),
        ];
        return context.show_page(&page, &columns);
    };
    let provider: CatalogProvider = api.get(&[&path[..], &[&id]].concat(), &NoQuery {}).await?;
    if context.format() != Format::Table || context.globals.fields.is_some() {
        return context.show(&provider);
    }
    context.show(&for_people(provider))
}

/// A provider in lines: what is of an environment or a group of facts becomes a line of its own.
fn for_people(provider: CatalogProvider) -> serde_json::Map<String, Value> {
    let mut lines = serde_json::Map::new();
    let mut put = |name: &str, value: Value| drop(lines.insert(name.to_owned(), value));
    put("id", provider.id.into());
    put("name", provider.name.into());
    put("category", provider.category.into());
    put("description", provider.description.into());
    if let Some(setup) = provider.setup {
        put("setup", setup.into());
    }
    put("authorize_url", provider.authorize_url.into());
    put("token_url", provider.token_url.into());
    put("revoke_url", provider.revoke_url.into());
    put("pkce", provider.pkce.into());
    put("refresh", provider.refresh.into());
    put("default_scopes", json!(provider.default_scopes));
    put("required_scopes", json!(provider.required_scopes));
    let scopes: Vec<String> = provider.scopes.iter().map(|(scope, means)| format!("{scope} ({means})")).collect();
    put("scopes", json!(scopes));
    put("allowed_hosts", json!(provider.allowed_hosts));
    if !provider.account_hosts.is_empty() {
        put("account_hosts", json!(provider.account_hosts));
    }
    for (id, name) in provider.environments {
        put(&format!("environment {id}"), name.into());
    }
    put("docs_url", provider.docs_url.into());
    put("verified", provider.verified.into());
    for (group, facts) in provider.evidence {
        put(&format!("{group} facts"), format!("{}, {}, {}", facts.level, facts.checked, facts.source).into());
    }
    lines
}
