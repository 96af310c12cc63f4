//! `grantd idp`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{
    Claims, DeletedIdentityProvider, DiscoveredIdentityProvider, IdentityProvider, IdentityProviderCreate,
    IdentityProviderDiscover, IdentityProviderFinding, IdentityProviderUpdate, Page,
};
use reqwest::Method;
use serde_json::json;
use url::Url;

use super::apps::ListArgs;
use super::context::{Context, Format};
use super::failure::{Exit, Failure};
use super::http::{Api, NoQuery};
use super::input::{confirm_name, parse_reference, read_secret};
use super::scim::{self, ScimCommand};
use super::table::{column, escape, minor};
use super::webhook::{self, WebhookCommand};

#[derive(Subcommand)]
pub enum IdpCommand {
    /// Look at an issuer, and register nothing: what would not work, in plain words. Fails if its tokens would not count
    #[command(after_help = "Example:
  grantd idp discover --preset okta \\
      --issuer https://company.okta.com/oauth2/default")]
    Discover(DiscoverArgs),
    /// Register an identity provider: from now on its tokens say whom a call is of
    #[command(after_help = "Examples:
  grantd idp create --preset okta --audience api://default \\
      --issuer https://company.okta.com/oauth2/default
  grantd idp create --preset google --issuer https://accounts.google.com \\
      --audience 1234.apps.example.com --client-id 1234.apps.example.com \\
      --client-secret @secret.txt
  grantd idp create --issuer https://id.acme.example --audience shop \\
      --groups-claim groups --roles-claim /realm_access/roles")]
    Create(Box<CreateArgs>),
    /// List the app's identity providers
    #[command(after_help = "Example:\n  grantd idp list")]
    List(ListArgs),
    /// Show one identity provider, without its client secret
    #[command(after_help = "Examples:
  grantd idp show 0199c0de-0000-7000-8000-00000000beef
  grantd idp show https://accounts.google.com")]
    Show(IdpRef),
    /// Change an identity provider; what is not named stays
    #[command(after_help = "Examples:
  grantd idp update https://accounts.google.com --client-secret @new.txt
  grantd idp update https://accounts.google.com --state inactive
  grantd idp update https://id.acme.example --groups-claim ''")]
    Update(Box<UpdateArgs>),
    /// Delete an identity provider: none of its tokens counts any more. Its users and their grants stay
    #[command(after_help = "Example:
  grantd idp delete https://accounts.google.com --confirm Google")]
    Delete(DeleteArgs),
    /// SCIM: where its directory tells what became of users
    #[command(subcommand, after_help = "Example:\n  grantd idp scim enable https://company.okta.com/oauth2/default")]
    Scim(ScimCommand),
    /// Webhook: where Auth0, Clerk or Okta tell what became of users
    #[command(subcommand, after_help = "Example:\n  grantd idp webhook enable https://tenant.eu.auth0.com/")]
    Webhook(WebhookCommand),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct IdpRef {
    /// Id of the identity provider, or its issuer
    #[arg(value_name = "IDP", value_parser = parse_idp)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "idp", value_name = "IDP", value_parser = parse_idp)]
    flag: Option<String>,
}

impl IdpRef {
    pub fn name(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

/// An id, or an issuer as it stands in tokens.
pub fn parse_idp(text: &str) -> Result<String, String> {
    let is_issuer = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_issuer || parse_reference(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write the id or the issuer that `grantd idp list` shows".to_owned())
}

#[derive(Args)]
pub struct DiscoverArgs {
    /// Exactly as in `iss` of its tokens
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    issuer: String,
    /// What it would be registered as [default: oidc]
    #[arg(long)]
    preset: Option<String>,
}

#[derive(Args)]
pub struct CreateArgs {
    /// Exactly as in `iss` of its tokens. Its discovery document is read once, now
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    issuer: String,
    /// Whom its tokens are for; one of them must be in a token
    #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
    audience: Vec<String>,
    /// What is known of its kind, such as okta, entra or google [default: oidc]
    #[arg(long)]
    preset: Option<String>,
    /// What people call it [default: the preset's name]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Client that users sign in with; only sign-in needs one
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client_id: Option<String>,
    /// Its client secret, if there is one: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    client_secret: Option<String>,
    /// Where its keys are: nothing else is read, and nobody signs in there
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// Algorithms that its tokens may be signed with [default: the preset's]
    #[arg(long, value_name = "ALGORITHM", value_delimiter = ',')]
    algorithm: Vec<String>,
    /// Asked for when a user signs in [default: the preset's]
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    #[command(flatten)]
    claims: ClaimArgs,
}

#[derive(Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    idp: IdpRef,
    /// Whom its tokens are for, all of them anew
    #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
    audience: Vec<String>,
    /// What people call it; sign-in takes the one named default where there are several
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Client that users sign in with
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client_id: Option<String>,
    /// The new client secret: - for stdin, @FILE, or the secret itself
    #[arg(long, value_name = "SECRET", allow_hyphen_values = true)]
    client_secret: Option<String>,
    /// The client has no secret any more
    #[arg(long, conflicts_with = "client_secret")]
    no_client_secret: bool,
    /// Where its keys are
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// Algorithms that its tokens may be signed with, all of them anew
    #[arg(long, value_name = "ALGORITHM", value_delimiter = ',')]
    algorithm: Vec<String>,
    /// Asked for when a user signs in, all of it anew
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<String>,
    /// Inactive: its tokens are refused, until it is active again
    #[arg(long)]
    state: Option<State>,
    /// Read its discovery document anew: where its keys are, and where users sign in
    #[arg(long, conflicts_with = "jwks_url")]
    rediscover: bool,
    #[command(flatten)]
    claims: ClaimArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Active,
    Inactive,
}

/// Which claims say what.
#[derive(Args)]
#[group(multiple = true)]
#[expect(clippy::struct_field_names, reason = "flags are named by them, and `name` and `audience` are others")]
#[command(next_help_heading = "What its tokens say: names of claims, or JSON pointers such as /realm_access/roles")]
pub struct ClaimArgs {
    /// Who the user is [default: sub]
    #[arg(long, value_name = "CLAIM")]
    user_claim: Option<String>,
    /// Whom the token is for [default: aud]
    #[arg(long, value_name = "CLAIM")]
    audience_claim: Option<String>,
    /// The e-mail address; an empty text, here and below: tokens do not tell
    #[arg(long, value_name = "CLAIM")]
    email_claim: Option<String>,
    /// The user's name
    #[arg(long, value_name = "CLAIM")]
    name_claim: Option<String>,
    /// Groups the user is in
    #[arg(long, value_name = "CLAIM")]
    groups_claim: Option<String>,
    /// Roles the user has
    #[arg(long, value_name = "CLAIM")]
    roles_claim: Option<String>,
}

impl ClaimArgs {
    /// What is said, if anything is.
    fn said(self) -> Option<Claims> {
        let claims = Claims {
            subject: self.user_claim,
            audience: self.audience_claim,
            email: self.email_claim,
            name: self.name_claim,
            groups: self.groups_claim,
            roles: self.roles_claim,
        };
        (claims != Claims::default()).then_some(claims)
    }
}

#[derive(Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    idp: IdpRef,
    /// Name of the identity provider, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

pub async fn run(command: IdpCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let idps = ["apps", app.as_str(), "identity-providers"];
    match command {
        IdpCommand::Discover(args) => discover(args, &api, &idps, context).await,
        IdpCommand::Create(args) => create(*args, &api, &idps, context).await,
        IdpCommand::List(args) => {
            let page: Page<IdentityProvider> = api.get(&idps, &args.query()).await?;
            let columns = [
                column("ID", "id"),
                column("NAME", "name"),
                column("ISSUER", "issuer"),
                minor("STATE", "state"),
                minor("PRESET", "preset"),
                minor("AUDIENCES", "audiences"),
                minor("CLIENT ID", "client_id"),
                minor("CREATED", "created_at"),
            ];
            context.show_page(&page, &columns)
        }
        IdpCommand::Show(idp) => {
            let idp: IdentityProvider = api.get(&[&idps[..], &[&idp.name()]].concat(), &NoQuery {}).await?;
            context.show_unfolded(&idp, &["claims"])
        }
        IdpCommand::Update(args) => update(*args, &api, &idps, context).await,
        IdpCommand::Delete(args) => {
            let name = args.idp.name();
            let path = [&idps[..], &[&name]].concat();
            let read = api.read_to_change::<IdentityProvider>(&path).await?;
            let question = "Delete the identity provider? None of its tokens counts any more.";
            confirm_name(question, &read.object.name, args.confirm.as_deref(), &mut context.term)?;
            let deleted: DeletedIdentityProvider = api.send_if(Method::DELETE, &path, &json!({}), &read).await?;
            context.show(&deleted)
        }
        IdpCommand::Scim(command) => scim::run(command, &api, &idps, context).await,
        IdpCommand::Webhook(command) => webhook::run(command, &api, &idps, context).await,
    }
}

async fn discover(args: DiscoverArgs, api: &Api, idps: &[&str], context: &mut Context) -> Result<(), Failure> {
    let body = IdentityProviderDiscover { issuer: args.issuer, preset: args.preset };
    let path = [idps, &["discover"]].concat();
    let found: DiscoveredIdentityProvider = api.send(Method::POST, &path, &body).await?;
    if context.format() == Format::Table && context.globals.fields.is_none() {
        let text = found.findings.iter().map(line).collect::<String>();
        context.term.print(&text)?;
    } else {
        context.show(&found)?;
    }
    if found.ok { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
}

/// A finding for people: one line, and what to do below it.
fn line(finding: &IdentityProviderFinding) -> String {
    let level = match finding.level.as_str() {
        "ok" => "ok      ",
        "warning" => "WARNING ",
        _ => "FAILURE ",
    };
    let fix = finding.fix.as_ref().map_or_else(String::new, |fix| format!("         -> {}\n", escape(fix)));
    format!("{level} {}: {}\n{fix}", escape(&finding.id), escape(&finding.what))
}

async fn create(args: CreateArgs, api: &Api, idps: &[&str], context: &mut Context) -> Result<(), Failure> {
    let secret = match &args.client_secret {
        Some(text) => Some(read_secret("--client-secret", text, &mut context.term)?.to_string()),
        None => None,
    };
    let body = IdentityProviderCreate {
        preset: args.preset,
        name: args.name,
        issuer: args.issuer,
        audiences: args.audience,
        algorithms: named(args.algorithm),
        claims: args.claims.said(),
        jwks_url: args.jwks_url,
        client_id: args.client_id,
        client_secret: secret,
        scopes: named(args.scopes),
    };
    let idp: IdentityProvider = api.send_once(idps, &body).await?;
    context.show_unfolded(&idp, &["claims"])
}

async fn update(args: UpdateArgs, api: &Api, idps: &[&str], context: &mut Context) -> Result<(), Failure> {
    let secret = match &args.client_secret {
        Some(text) => Some(read_secret("--client-secret", text, &mut context.term)?.to_string()),
        None => args.no_client_secret.then(String::new),
    };
    let body = IdentityProviderUpdate {
        name: args.name,
        audiences: named(args.audience),
        algorithms: named(args.algorithm),
        claims: args.claims.said(),
        jwks_url: args.jwks_url,
        client_id: args.client_id,
        client_secret: secret,
        scopes: named(args.scopes),
        state: args.state.map(|state| match state {
            State::Active => "active".to_owned(),
            State::Inactive => "inactive".to_owned(),
        }),
        rediscover: args.rediscover,
    };
    if body == IdentityProviderUpdate::default() {
        return Err(Failure::usage("nothing to change: name what shall be otherwise, such as --audience")
            .hint("Run the command with --help to see what it takes."));
    }
    let idp: IdentityProvider = api.send(Method::PATCH, &[idps, &[&args.idp.name()]].concat(), &body).await?;
    context.show_unfolded(&idp, &["claims"])
}

/// A list, if it was given.
fn named(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}
