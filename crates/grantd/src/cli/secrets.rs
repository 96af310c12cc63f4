//! `grantd managed-secrets`.

use std::collections::BTreeMap;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_domain::template;
use grantd_wire::api::{
    AllowedHosts, CreatedSecret, CredentialType, DeletedSecret, Grant, GrantCreate, Page, Secret, SecretAccess,
    SecretCreate, SecretRotate, SecretTemplate, SecretTest, TemplateField,
};
use grantd_wire::sdk::Injection;
use reqwest::Method;
use serde_json::{Value, json};

use super::apps::{ListArgs, PageArgs};
use super::context::{Context, Format};
use super::failure::{Exit, Failure};
use super::grants::{self, GRANT_COLUMNS};
use super::http::{Api, NoQuery};
use super::idp::parse_idp;
use super::input::{
    Pair, confirm_name, parse_host, parse_injection, parse_pair, parse_reference, parse_span, read_secret,
};
use super::table::{column, minor};
use super::term::Term;

/// The form of a destination rule.
const DESTINATION_HELP: &str = "Where the credential may go: [*.]host[:port][/prefix]";

#[derive(Subcommand)]
pub enum SecretsCommand {
    /// List what is known of vendors' credentials, or show one
    #[command(after_help = "Examples:
  grantd managed-secrets templates
  grantd managed-secrets templates --search monitoring
  grantd managed-secrets templates shopify")]
    Templates(TemplatesArgs),
    /// Store a secret and issue its first grant
    #[command(after_help = "Examples:
  grantd managed-secrets create --name stripe --value @key.txt \\
      --allowed-host api.stripe.com
  grantd managed-secrets create --name shop --template shopify \\
      --field store=acme --value @key.txt
  grantd managed-secrets create --name maps --credential-type header_key \\
      --header X-API-Key --format '{token}' --value @key.txt \\
      --allowed-host maps.example.com
  grantd managed-secrets create --name s3 --credential-type aws_sig_v4 \\
      --value AKIAIOSFODNN7EXAMPLE --field secret_key=@secret.txt \\
      --allowed-host '*.amazonaws.com'")]
    Create(CreateArgs),
    /// List the app's secrets
    #[command(after_help = "Example:\n  grantd managed-secrets list")]
    List(ListArgs),
    /// Show one secret, without its value
    #[command(after_help = "Example:\n  grantd managed-secrets show stripe")]
    Show(SecretRef),
    /// Replace the value; every grant stays
    #[command(after_help = "Example:\n  grantd managed-secrets rotate stripe --value - < new-key.txt")]
    Rotate(RotateArgs),
    /// Make the harmless call of the secret's template, and say whether the credential works
    #[command(after_help = "The exit code is 0 when the vendor accepted it, else 1.

Example:\n  grantd managed-secrets test stripe")]
    Test(SecretRef),
    /// Say where the credential may go; replaces the present hosts
    #[command(after_help = "Example:
  grantd managed-secrets set-allowed-hosts stripe \\
      --host api.stripe.com --host files.stripe.com/v1")]
    SetAllowedHosts(HostsArgs),
    /// Who can use the secret now
    #[command(after_help = "Example:\n  grantd managed-secrets access stripe")]
    Access(AccessArgs),
    /// Revoke every grant on a secret, destroy its value and delete it. Cannot be undone
    #[command(after_help = "Example:\n  grantd managed-secrets delete stripe --confirm stripe")]
    Delete(DeleteArgs),
    /// Issue, list, change and revoke grants on a secret
    #[command(
        subcommand,
        after_help = "Example:
  grantd managed-secrets grants create --secret stripe --principal-type system"
    )]
    Grants(SecretGrantsCommand),
}

#[derive(Subcommand)]
pub enum SecretGrantsCommand {
    /// Issue a further grant
    #[command(after_help = "Example:
  grantd managed-secrets grants create --secret stripe \\
      --principal-type system --label nightly --expires-in 30d
  grantd managed-secrets grants create --secret stripe \\
      --principal-type user --user 0199c0de-0000-7000-8000-00000000beef
  grantd managed-secrets grants create --secret stripe \\
      --principal-type group --group engineering \\
      --idp https://company.okta.com/oauth2/default")]
    Create(GrantCreateArgs),
    /// List the grants on a secret
    #[command(after_help = "Example:\n  grantd managed-secrets grants list --secret stripe")]
    List(GrantListArgs),
    /// Change label, end or tenant of a grant, as `grants update` does
    #[command(after_help = "Example:
  grantd managed-secrets grants update 0199c0de-0000-7000-8000-00000000beef \\
      --no-expiry")]
    Update(grants::UpdateArgs),
    /// Revoke a grant, as `grants revoke` does
    #[command(after_help = "Example:
  grantd managed-secrets grants revoke 0199c0de-0000-7000-8000-00000000beef")]
    Revoke(grants::RevokeArgs),
}

#[derive(Args)]
pub struct TemplatesArgs {
    /// Show this one
    #[arg(value_name = "TEMPLATE", value_parser = parse_reference, conflicts_with_all = ["search", "limit", "offset"])]
    template: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args)]
#[command(group = ArgGroup::new("destination").required(true).multiple(true))]
pub struct CreateArgs {
    /// What people call it; the slug is made from it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// What is known of the vendor's credentials: type, header, fields and hosts are taken from it
    #[arg(long, value_name = "TEMPLATE", value_parser = parse_reference, group = "destination")]
    template: Option<String>,
    /// How the credential is sent [default: the template's, else bearer_token]
    #[arg(long, value_name = "TYPE")]
    credential_type: Option<Kind>,
    /// The secret: - for stdin, @FILE, or the value itself
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// A further value, such as username=… or secret_key=@FILE
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    field: Vec<Pair>,
    /// Header the credential goes into [default: the template's, else of the credential type]
    #[arg(long, value_name = "HEADER")]
    header: Option<String>,
    /// Text of the header, {token} being the value [default: the template's, else of the credential type]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// A further injection: header:NAME:SOURCE or query_param:NAME:SOURCE
    #[arg(long = "injection", value_name = "TARGET:NAME:SOURCE", value_parser = parse_injection)]
    injections: Vec<Injection>,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(help = DESTINATION_HELP, long = "allowed-host", value_name = "HOST", value_delimiter = ',', value_parser = parse_host, group = "destination")]
    allowed_hosts: Vec<String>,
    /// The credential may go anywhere. A risk
    #[arg(long, group = "destination")]
    allow_any_host: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    #[value(name = "bearer_token")]
    BearerToken,
    #[value(name = "header_key")]
    HeaderKey,
    #[value(name = "basic_auth")]
    BasicAuth,
    #[value(name = "aws_sig_v4")]
    AwsSigV4,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct SecretRef {
    /// Id or slug of the secret
    #[arg(value_name = "SECRET", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "secret", value_name = "SECRET", value_parser = parse_reference)]
    flag: Option<String>,
}

impl SecretRef {
    fn name(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
pub struct AccessArgs {
    #[command(flatten)]
    secret: SecretRef,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    secret: SecretRef,
    /// Slug of the secret, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "SLUG")]
    confirm: Option<String>,
}

#[derive(Args)]
pub struct RotateArgs {
    #[command(flatten)]
    secret: SecretRef,
    /// The new secret: - for stdin, @FILE, or the value itself
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// Further values; none keeps the present ones
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    field: Vec<Pair>,
}

#[derive(Args)]
pub struct HostsArgs {
    #[command(flatten)]
    secret: SecretRef,
    // Not a doc comment: rustdoc would take the brackets for links.
    #[arg(help = DESTINATION_HELP, long = "host", value_name = "HOST", required = true, value_delimiter = ',', value_parser = parse_host)]
    hosts: Vec<String>,
}

#[derive(Args)]
pub struct GrantCreateArgs {
    #[command(flatten)]
    secret: SecretRef,
    /// Whom the grant is for
    #[arg(long, value_name = "TYPE")]
    principal_type: PrincipalType,
    /// With user: the id that `grantd end-users list` shows
    #[arg(long, value_name = "USER", value_parser = parse_reference)]
    user: Option<String>,
    /// With group: the id that `grantd groups list` shows, or with --idp what the identity provider calls it
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// With group: the identity provider whose group it is, by id or issuer
    #[arg(long, value_name = "IDP", value_parser = parse_idp)]
    idp: Option<String>,
    /// Tells it from the other grants on the secret
    #[arg(long)]
    label: Option<String>,
    /// When it ends, such as 90d [default: never]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    expires_in: Option<i64>,
    /// Binds the grant to this tenant
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrincipalType {
    System,
    User,
    Group,
}

#[derive(Args)]
pub struct GrantListArgs {
    #[command(flatten)]
    secret: SecretRef,
    #[command(flatten)]
    page: PageArgs,
}

pub async fn run(command: SecretsCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    if let SecretsCommand::Templates(args) = command {
        return templates(args, &api, context).await;
    }
    let app = context.app(&api).await?;
    let secrets = ["apps", app.as_str(), "managed-secrets"];
    match command {
        SecretsCommand::Templates(args) => templates(args, &api, context).await,
        SecretsCommand::Create(args) => create(args, &api, &secrets, context).await,
        SecretsCommand::List(args) => {
            let page: Page<Secret> = api.get(&secrets, &args.query()).await?;
            let columns = [
                column("SLUG", "slug"),
                minor("NAME", "name"),
                minor("TEMPLATE", "template"),
                column("TYPE", "credential_type"),
                column("HOSTS", "allowed_hosts"),
                minor("ANY HOST", "allow_any_host"),
                minor("CREATED", "created_at"),
                minor("ROTATED", "rotated_at"),
            ];
            context.show_page(&page, &columns)
        }
        SecretsCommand::Show(secret) => {
            let secret: Secret = api.get(&[&secrets[..], &[&secret.name()]].concat(), &NoQuery {}).await?;
            context.show(&secret)
        }
        SecretsCommand::Rotate(args) => {
            let fields = read_fields(args.field, &mut context.term)?;
            let value = read_secret("--value", &args.value, &mut context.term)?;
            let body = SecretRotate { value: value.to_string(), fields: (!fields.is_empty()).then_some(fields) };
            let name = args.secret.name();
            let path = [&secrets[..], &[&name, "rotate"]].concat();
            let secret: Secret = api.send_once(&path, &body).await?;
            context.show(&secret)
        }
        SecretsCommand::Test(secret) => {
            let name = secret.name();
            let path = [&secrets[..], &[&name, "test"]].concat();
            let test: SecretTest = api.send(Method::POST, &path, &json!({})).await?;
            context.show(&test)?;
            if test.works == Some(true) { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
        }
        SecretsCommand::SetAllowedHosts(args) => {
            let name = args.secret.name();
            let path = [&secrets[..], &[&name, "allowed-hosts"]].concat();
            let secret: Secret = api.send(Method::PUT, &path, &AllowedHosts { allowed_hosts: args.hosts }).await?;
            context.show(&secret)
        }
        SecretsCommand::Access(args) => {
            let name = args.secret.name();
            let path = [&secrets[..], &[&name, "access"]].concat();
            let query = ListArgs { search: None, page: args.page }.query();
            let page: Page<SecretAccess> = api.get(&path, &query).await?;
            let columns = [
                column("GRANT", "grant_id"),
                column("FOR", "principal_type"),
                column("LABEL", "label"),
                minor("TENANT", "tenant"),
                minor("EXPIRES", "expires_at"),
                minor("LAST USED", "last_used_at"),
            ];
            context.show_page(&page, &columns)
        }
        SecretsCommand::Delete(args) => {
            let name = args.secret.name();
            let path = [&secrets[..], &[&name]].concat();
            let read = api.read_to_change::<Secret>(&path).await?;
            let question = "Delete the secret, its value and every grant on it?";
            confirm_name(question, &read.object.slug, args.confirm.as_deref(), &mut context.term)?;
            let deleted: DeletedSecret = api.send_if(Method::DELETE, &path, &json!({}), &read).await?;
            context.show(&deleted)
        }
        SecretsCommand::Grants(SecretGrantsCommand::Update(args)) => {
            grants::run(grants::GrantsCommand::Update(args), context).await
        }
        SecretsCommand::Grants(SecretGrantsCommand::Revoke(args)) => {
            grants::run(grants::GrantsCommand::Revoke(args.into()), context).await
        }
        SecretsCommand::Grants(SecretGrantsCommand::Create(args)) => {
            let name = args.secret.name();
            let path = [&secrets[..], &[&name, "grants"]].concat();
            let principal_type = match args.principal_type {
                PrincipalType::System => "system",
                PrincipalType::User => "user",
                PrincipalType::Group => "group",
            };
            let body = GrantCreate {
                principal_type: principal_type.to_owned(),
                user: args.user,
                group: args.group,
                idp: args.idp,
                label: args.label,
                expires_in_seconds: args.expires_in,
                tenant: args.tenant,
            };
            let grant: Grant = api.send_once(&path, &body).await?;
            context.show(&grant)
        }
        SecretsCommand::Grants(SecretGrantsCommand::List(args)) => {
            let name = args.secret.name();
            let path = [&secrets[..], &[&name, "grants"]].concat();
            let query = ListArgs { search: None, page: args.page }.query();
            let page: Page<Grant> = api.get(&path, &query).await?;
            context.show_page(&page, GRANT_COLUMNS)
        }
    }
}

async fn templates(args: TemplatesArgs, api: &Api, context: &mut Context) -> Result<(), Failure> {
    let path = ["secret-templates"];
    let Some(id) = args.template else {
        let page: Page<SecretTemplate> = api.get(&path, &args.list.query()).await?;
        let columns = [
            column("ID", "id"),
            column("NAME", "name"),
            minor("CATEGORY", "category"),
            minor("TYPE", "credential_type"),
            minor("VERIFIED", "verified"),
            minor("DOCS", "docs_url"),
        ];
        return context.show_page(&page, &columns);
    };
    let template: SecretTemplate = api.get(&[&path[..], &[&id]].concat(), &NoQuery {}).await?;
    if context.format() != Format::Table || context.globals.fields.is_some() {
        return context.show(&template);
    }
    context.show(&for_people(template))
}

/// A template in lines: objects inside of it become one line each.
fn for_people(template: SecretTemplate) -> serde_json::Map<String, Value> {
    let mut lines = serde_json::Map::new();
    let mut put = |name: &str, value: Value| drop(lines.insert(name.to_owned(), value));
    put("id", template.id.into());
    put("name", template.name.into());
    put("category", template.category.into());
    put("credential_type", json!(template.credential_type));
    put("value", template.value.into());
    for field in template.fields {
        put(&format!("field {}", field.name), about_field(&field).into());
    }
    put("sent_as", format!("{}: {}", template.injection_header, template.injection_format).into());
    for injection in template.injections {
        put(&format!("also {}", injection.key), injection.value_source.into());
    }
    put("allowed_hosts", json!(template.allowed_hosts));
    put("probe", template.probe.or(template.no_probe).into());
    if let Some(notes) = template.notes {
        put("notes", notes.into());
    }
    put("docs_url", template.docs_url.into());
    let evidence = template.evidence;
    let groups = [("injection", Some(evidence.injection)), ("hosts", Some(evidence.hosts)), ("probe", evidence.probe)];
    for (group, facts) in groups {
        if let Some(facts) = facts {
            put(&format!("{group} facts"), format!("{}, {}, {}", facts.level, facts.checked, facts.source).into());
        }
    }
    lines
}

/// What a catalogue asks for in a field.
pub(super) fn about_field(field: &TemplateField) -> String {
    let needed = match (field.required, &field.default) {
        (true, _) => "required".to_owned(),
        (false, Some(default)) => format!("default {default}"),
        (false, None) => "optional".to_owned(),
    };
    let choices = if field.choices.is_empty() { String::new() } else { format!(" ({})", field.choices.join(", ")) };
    format!("{needed}: {}, {}{choices}", field.label, field.find)
}

async fn create(args: CreateArgs, api: &Api, secrets: &[&str], context: &mut Context) -> Result<(), Failure> {
    let fields = read_fields(args.field, &mut context.term)?;
    let value = read_secret("--value", &args.value, &mut context.term)?;
    let body = SecretCreate {
        name: args.name,
        template: args.template,
        credential_type: args.credential_type.map(|kind| match kind {
            Kind::BearerToken => CredentialType::BearerToken,
            Kind::HeaderKey => CredentialType::HeaderKey,
            Kind::BasicAuth => CredentialType::BasicAuth,
            Kind::AwsSigV4 => CredentialType::AwsSigV4,
        }),
        value: value.to_string(),
        fields,
        injection_header: args.header,
        injection_format: args.format,
        injections: args.injections,
        allowed_hosts: args.allowed_hosts,
        allow_any_host: args.allow_any_host,
    };
    let secret: CreatedSecret = api.send_once(secrets, &body).await?;
    context.show(&secret)
}

/// Fields are read like the value; those that any program may see are given in place without a warning.
fn read_fields(fields: Vec<Pair>, term: &mut Term) -> Result<BTreeMap<String, String>, Failure> {
    let mut read = BTreeMap::new();
    for Pair { name, value } in fields {
        let from_elsewhere = value == "-" || value.starts_with('@');
        let value = if from_elsewhere || may_be_secret(&name) {
            read_secret(&format!("--field {name}="), &value, term)?.to_string()
        } else {
            value
        };
        if read.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("--field: `{name}` is given twice")).hint("Give each field once."));
        }
    }
    Ok(read)
}

/// Whether a field of this name is one, as the templates say; of a name that none has, nobody knows.
fn may_be_secret(name: &str) -> bool {
    let mut fields = template::all().iter().filter_map(|template| template.field(name)).peekable();
    fields.peek().is_none() || fields.any(|field| field.secret)
}
