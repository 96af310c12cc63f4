//! `grantd providers`.

use std::collections::BTreeMap;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{
    CatalogProvider, CustomProvider, DeletedProvider, Page, Provider, ProviderCreate, ProviderUpdate,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::apps::ListArgs;
use super::context::{Context, Format};
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::input::{Pair, confirm_name, parse_host, parse_pair, parse_reference, read_secret};
use super::secrets::about_field;
use super::table::{column, minor};

/// The form of a destination rule.
const DESTINATION_HELP: &str = "Where its tokens may go beside the known hosts: [*.]host[:port][/prefix]";

const HELP: &str = "Run the command with --help to see what it takes.";

#[derive(Subcommand)]
pub enum ProvidersCommand {
    /// List the OAuth providers that are known, or show one
    #[command(after_help = "Examples:
  grantd providers list-catalog
  grantd providers list-catalog --search crm
  grantd providers list-catalog google")]
    ListCatalog(CatalogArgs),
    /// Register the app with a provider, so that its users can connect their accounts
    #[command(after_help = "Examples:
  grantd providers create google --client-id 1234.apps.example.com \\
      --client-secret @secret.txt
  grantd providers create github --client-id Iv1.1234 --client-secret - \\
      --scopes repo,read:user < secret.txt
  grantd providers create microsoft --field tenant=contoso.example \\
      --client-id 1234 --client-secret @secret.txt
  grantd providers create acme --custom --name Acme \\
      --issuer https://id.acme.example --allowed-host api.acme.example \\
      --client-id 1234 --client-secret @secret.txt")]
    Create(Box<CreateArgs>),
    /// List the app's providers
    #[command(after_help = "Example:\n  grantd providers list")]
    List(ListArgs),
    /// Show one provider, without its client secret
    #[command(after_help = "Example:\n  grantd providers show google")]
    Show(ProviderRef),
    /// Change a provider; what is not named stays
    #[command(after_help = "Examples:
  grantd providers update google --client-secret @new.txt
  grantd providers update google --scopes openid,email
  grantd providers update acme --issuer https://id.acme.example")]
    Update(Box<UpdateArgs>),
    /// Delete a provider that no accounts are connected with
    #[command(after_help = "Example:\n  grantd providers delete google --confirm google")]
    Delete(DeleteArgs),
}

#[derive(Args)]
pub struct CatalogArgs {
    /// Show this one
    #[arg(value_name = "PROVIDER", value_parser = parse_reference, conflicts_with_all = ["search", "limit", "offset"])]
    provider: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct ProviderRef {
    /// Id of the provider, or of its row
    #[arg(value_name = "PROVIDER", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "provider", value_name = "PROVIDER", value_parser = parse_reference)]
    flag: Option<String>,
}

impl ProviderRef {
    fn name(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
pub struct CreateArgs {
    #[command(flatten)]
    provider: ProviderRef,
    /// What users see [default: the catalogue's name]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Client id that the provider gave the app
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client_id: String,
    /// Its client secret, if there is one: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    client_secret: Option<String>,
    /// What users are asked for [default: the provider's default]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(help = DESTINATION_HELP, long = "allowed-host", visible_alias = "api-host", value_name = "HOST", value_delimiter = ',', value_parser = parse_host)]
    allowed_hosts: Vec<String>,
    /// Another installation of the provider, such as its sandbox
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: Option<String>,
    /// What the catalogue's entry asks for, such as tenant=contoso.example
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    field: Vec<Pair>,
    /// It is not in the catalogue: what follows says what it is
    #[arg(long)]
    custom: bool,
    #[command(flatten)]
    said: CustomArgs,
}

#[derive(Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    provider: ProviderRef,
    /// What users see
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Client id that the provider gave the app
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client_id: Option<String>,
    /// The new client secret: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    client_secret: Option<String>,
    /// The client has no secret any more
    #[arg(long, conflicts_with = "client_secret")]
    no_client_secret: bool,
    /// What users are asked for, all of it anew
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Users are asked for the provider's default
    #[arg(long, conflicts_with = "scopes")]
    default_scopes: bool,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(help = DESTINATION_HELP, long = "allowed-host", visible_alias = "api-host", value_name = "HOST", value_delimiter = ',', value_parser = parse_host)]
    allowed_hosts: Vec<String>,
    /// No hosts beside the known ones
    #[arg(long, conflicts_with = "allowed_hosts")]
    no_allowed_hosts: bool,
    /// Another installation of the provider; an empty one is the usual one
    #[arg(long, value_name = "ENVIRONMENT")]
    environment: Option<String>,
    /// What the catalogue's entry asks for, all of it anew
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    field: Vec<Pair>,
    /// The entry's fields are as usual
    #[arg(long, conflicts_with = "field")]
    default_fields: bool,
    #[command(flatten)]
    said: CustomArgs,
}

/// What is said of a provider that is not in the catalogue.
#[derive(Args)]
#[group(multiple = true)]
#[command(next_help_heading = "Of a provider that is not in the catalogue")]
pub struct CustomArgs {
    /// Its issuer, whose discovery document is read now and says what else is not said here
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Where users consent
    #[arg(long, value_name = "URL")]
    authorize_url: Option<String>,
    /// Where a code becomes a token
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// Where tokens are ended
    #[arg(long, value_name = "URL")]
    revoke_url: Option<String>,
    /// Where it says whose account it is [default: the ID token does]
    #[arg(long, value_name = "URL")]
    userinfo_url: Option<String>,
    /// How the client says who it is [default: basic]
    #[arg(long, value_name = "HOW")]
    client_auth: Option<ClientAuth>,
    /// Without PKCE, for a server that fails when it is sent
    #[arg(long)]
    no_pkce: bool,
    /// What stands between scopes: a space or a comma [default: a space]
    #[arg(long, value_name = "TEXT")]
    scope_separator: Option<String>,
    /// What a scope opens, for users to read when they are asked, such as files.read='Read your files'
    #[arg(long, value_name = "SCOPE=TEXT", value_parser = parse_pair)]
    scope_text: Vec<Pair>,
    /// A further parameter of the link to consent, such as prompt=consent
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    authorize_param: Vec<Pair>,
    /// JSON pointer to what identifies the account; several are joined [default: /sub]
    #[arg(long, value_name = "POINTER")]
    account_id: Vec<String>,
    /// JSON pointer to what a human recognises it by, the first that is there
    #[arg(long, value_name = "POINTER")]
    account_name: Vec<String>,
    /// Header a token is sent in [default: Authorization]
    #[arg(long, value_name = "HEADER")]
    header: Option<String>,
    /// Text of the header [default: 'Bearer {token}']
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ClientAuth {
    Basic,
    Post,
}

impl CustomArgs {
    /// Whether nothing is said.
    fn is_empty(&self) -> bool {
        let texts = [
            &self.issuer,
            &self.authorize_url,
            &self.token_url,
            &self.revoke_url,
            &self.userinfo_url,
            &self.scope_separator,
            &self.header,
            &self.format,
        ];
        let pairs = [&self.scope_text, &self.authorize_param];
        let pointers = [&self.account_id, &self.account_name];
        let has_lists = !(pairs.iter().all(|said| said.is_empty()) && pointers.iter().all(|said| said.is_empty()));
        texts.iter().all(|text| text.is_none()) && self.client_auth.is_none() && !self.no_pkce && !has_lists
    }

    /// Says it over what was said before.
    fn say(self, said: &mut CustomProvider) {
        if self.issuer.is_some() {
            // It is asked again.
            said.authorize_url = None;
            said.token_url = None;
            said.revoke_url = None;
            said.userinfo_url = None;
            said.client_auth = None;
        }
        let put = |field: &mut Option<String>, value: Option<String>| {
            if value.is_some() {
                *field = value;
            }
        };
        put(&mut said.issuer, self.issuer);
        put(&mut said.authorize_url, self.authorize_url);
        put(&mut said.token_url, self.token_url);
        put(&mut said.revoke_url, self.revoke_url);
        put(&mut said.userinfo_url, self.userinfo_url);
        let auth = self.client_auth.map(|auth| match auth {
            ClientAuth::Basic => "basic".to_owned(),
            ClientAuth::Post => "post".to_owned(),
        });
        put(&mut said.client_auth, auth);
        put(&mut said.scope_separator, self.scope_separator);
        put(&mut said.header, self.header);
        put(&mut said.format, self.format);
        said.no_pkce |= self.no_pkce;
        let put = |field: &mut BTreeMap<String, String>, pairs: Vec<Pair>| {
            if !pairs.is_empty() {
                *field = pairs.into_iter().map(|pair| (pair.name, pair.value)).collect();
            }
        };
        put(&mut said.scope_texts, self.scope_text);
        put(&mut said.authorize_params, self.authorize_param);
        if !self.account_id.is_empty() {
            said.account_id = self.account_id;
        }
        if !self.account_name.is_empty() {
            said.account_name = self.account_name;
        }
    }
}

#[derive(Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    provider: ProviderRef,
    /// Id of the provider, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "PROVIDER")]
    confirm: Option<String>,
}

pub async fn run(command: ProvidersCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let command = match command {
        ProvidersCommand::ListCatalog(args) => return catalog(args, &api, context).await,
        command => command,
    };
    let app = context.app(&api).await?;
    let providers = ["apps", app.as_str(), "providers"];
    match command {
        ProvidersCommand::ListCatalog(args) => catalog(args, &api, context).await,
        ProvidersCommand::Create(args) => create(*args, &api, &providers, context).await,
        ProvidersCommand::List(args) => {
            let page: Page<Provider> = api.get(&providers, &args.query()).await?;
            let columns = [
                column("PROVIDER", "provider_id"),
                column("NAME", "name"),
                column("ACCOUNTS", "accounts"),
                column("PROBLEM", "problem"),
                minor("CLIENT ID", "client_id"),
                minor("VERIFIED", "verified"),
                minor("CREATED", "created_at"),
            ];
            context.show_page(&page, &columns)
        }
        ProvidersCommand::Show(provider) => {
            let provider: Provider = api.get(&[&providers[..], &[&provider.name()]].concat(), &NoQuery {}).await?;
            context.show_unfolded(&provider, &["custom", "fields"])
        }
        ProvidersCommand::Update(args) => update(*args, &api, &providers, context).await,
        ProvidersCommand::Delete(args) => {
            let name = args.provider.name();
            let path = [&providers[..], &[&name]].concat();
            let read = api.read_to_change::<Provider>(&path).await?;
            let question = "Delete the provider and the client secret?";
            confirm_name(question, &read.object.provider_id, args.confirm.as_deref(), &mut context.term)?;
            let deleted: DeletedProvider = api.send_if(Method::DELETE, &path, &json!({}), &read).await?;
            context.show(&deleted)
        }
    }
}

async fn create(args: CreateArgs, api: &Api, providers: &[&str], context: &mut Context) -> Result<(), Failure> {
    let is_custom = args.custom || !args.said.is_empty();
    let mut said = CustomProvider::default();
    args.said.say(&mut said);
    let secret = match &args.client_secret {
        Some(text) => Some(read_secret("--client-secret", text, &mut context.term)?),
        None => None,
    };
    let body = ProviderCreate {
        provider: args.provider.name(),
        name: args.name,
        custom: is_custom.then_some(said),
        environment: args.environment,
        fields: fields(args.field)?,
        client_id: args.client_id,
        client_secret: secret.map(|secret| secret.to_string()),
        scopes: args.scopes,
        allowed_hosts: args.allowed_hosts,
    };
    let provider: Provider = api.send_once(providers, &body).await?;
    let (uri, setup) = (provider.redirect_uri.clone(), provider.setup.clone());
    let is_doubtful = !provider.verified && provider.custom.is_none();
    context.show_unfolded(&provider, &["custom", "fields"])?;
    context.term.note(&format!("Register this redirect URI at the provider: {uri}"));
    if let Some(setup) = setup {
        context.term.note(&setup);
    }
    if is_doubtful {
        let text = "some facts of this provider are not confirmed: connect an account of your own before users do; \
                    `grantd providers list-catalog` with its id says which";
        context.term.warn(text);
    }
    Ok(())
}

async fn update(args: UpdateArgs, api: &Api, providers: &[&str], context: &mut Context) -> Result<(), Failure> {
    let name = args.provider.name();
    let path = [providers, &[&name]].concat();
    let secret = match &args.client_secret {
        Some(text) => Some(read_secret("--client-secret", text, &mut context.term)?.to_string()),
        None => args.no_client_secret.then(String::new),
    };
    let read = if args.said.is_empty() { None } else { Some(api.read_to_change::<Provider>(&path).await?) };
    let custom = read.as_ref().map(|read| described(args.said, &read.object)).transpose()?;
    let body = ProviderUpdate {
        name: args.name,
        custom,
        environment: args.environment,
        fields: (args.default_fields || !args.field.is_empty()).then(|| fields(args.field)).transpose()?,
        client_id: args.client_id,
        client_secret: secret,
        scopes: (args.default_scopes || !args.scopes.is_empty()).then_some(args.scopes),
        allowed_hosts: (args.no_allowed_hosts || !args.allowed_hosts.is_empty()).then_some(args.allowed_hosts),
    };
    if body == ProviderUpdate::default() {
        return Err(Failure::usage("nothing to change: name what shall be otherwise, such as --scopes").hint(HELP));
    }
    let provider: Provider = match &read {
        Some(read) => api.send_if(Method::PATCH, &path, &body, read).await?,
        None => api.send(Method::PATCH, &path, &body).await?,
    };
    context.show_unfolded(&provider, &["custom", "fields"])
}

fn fields(pairs: Vec<Pair>) -> Result<BTreeMap<String, String>, Failure> {
    let mut fields = BTreeMap::new();
    for Pair { name, value } in pairs {
        if fields.contains_key(&name) {
            return Err(Failure::usage(format!("--field: `{name}` is given twice")).hint("Give each field once."));
        }
        fields.insert(name, value);
    }
    Ok(fields)
}

/// What is known of it, with what is said now: all of it is sent anew.
fn described(args: CustomArgs, stored: &Provider) -> Result<CustomProvider, Failure> {
    let Some(mut said) = stored.custom.clone() else {
        let id = &stored.provider_id;
        return Err(Failure::usage(format!("{id} is in the catalogue, which says what this flag would")).hint(HELP));
    };
    args.say(&mut said);
    Ok(said)
}

async fn catalog(args: CatalogArgs, api: &Api, context: &mut Context) -> Result<(), Failure> {
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
    for field in provider.fields {
        put(&format!("field {}", field.name), about_field(&field).into());
    }
    put("authorize_url", provider.authorize_url.into());
    put("token_url", provider.token_url.into());
    put("revoke_url", provider.revoke_url.into());
    put("pkce", provider.pkce.into());
    put("refresh", provider.refresh.into());
    put("behaviours", json!(provider.behaviours));
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
