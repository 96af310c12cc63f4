//! `grantd grants`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_wire::api::{Grant, GrantRevoke, GrantUpdate, ListQuery, Page, RevokedGrant, TenantBinding};
use reqwest::Method;

use super::apps::PageArgs;
use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::input::{confirm, parse_reference, parse_span};
use super::revocation;
use super::table::{Column, column, minor};

/// Columns of a list of grants.
pub const GRANT_COLUMNS: &[Column] = &[
    column("GRANT", "grant_id"),
    column("SECRET", "provider_id"),
    column("LABEL", "label"),
    column("STATUS", "status"),
    minor("FOR", "principal_type"),
    minor("TENANT", "tenant"),
    minor("EXPIRES", "expires_at"),
    minor("LAST USED", "last_used_at"),
    minor("ANY HOST", "allow_any_host"),
];

#[derive(Subcommand)]
pub enum GrantsCommand {
    /// List the app's grants
    #[command(after_help = "Example:\n  grantd grants list --status active --provider stripe")]
    List(GrantsListArgs),
    /// Show one grant
    #[command(after_help = "Example:\n  grantd grants show 0199c0de-0000-7000-8000-00000000beef")]
    Show(GrantRef),
    /// Revoke a grant: calls through it fail from now on
    #[command(after_help = "Examples:
  grantd grants revoke --grant 0199c0de-0000-7000-8000-00000000beef \\
      --reason 'left the team'
  grantd grants revoke --provider google --all --upstream \\
      --reason 'the client secret leaked'
  grantd grants revoke --all

With --all it can be interrupted and run again for the rest.")]
    Revoke(RevokeAllArgs),
    /// Change label, end or tenant of a grant
    #[command(after_help = "Example:
  grantd grants update 0199c0de-0000-7000-8000-00000000beef --expires-in 30d")]
    Update(UpdateArgs),
}

#[derive(Args)]
pub struct GrantsListArgs {
    /// Only grants that are so
    #[arg(long)]
    status: Option<Status>,
    /// Slug of the secret, or the provider
    #[arg(long, value_name = "SLUG")]
    provider: Option<String>,
    /// Revoked grants, by what became of their tokens at the provider
    #[arg(long)]
    upstream: Option<Upstream>,
    /// Id of a user: their grants, and those of groups they are in
    #[arg(long, value_name = "USER", value_parser = parse_reference)]
    user: Option<String>,
    /// Labels or slugs that begin with this, in any case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Status {
    Active,
    Expired,
    Revoked,
}

#[derive(Clone, Copy, ValueEnum)]
enum Upstream {
    /// Still to be ended
    Pending,
    /// Ended
    Yes,
    /// Somebody has to end them there by hand
    Failed,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct GrantRef {
    /// Id of the grant
    #[arg(value_name = "GRANT", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "grant", value_name = "GRANT", value_parser = parse_reference)]
    flag: Option<String>,
}

impl GrantRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    grant: GrantRef,
    /// Kept with the grant and in the audit event
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Flags that say nothing of a single grant.
const OF_ALL: [&str; 4] = ["provider", "managed_secret", "upstream", "confirm"];

#[derive(Args, Default)]
#[command(group = ArgGroup::new("which").required(true).multiple(false))]
pub struct RevokeAllArgs {
    /// Id of the grant
    #[arg(value_name = "GRANT", value_parser = parse_reference, group = "which", conflicts_with_all = OF_ALL)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "grant", value_name = "GRANT", value_parser = parse_reference, group = "which", conflicts_with_all = OF_ALL)]
    flag: Option<String>,
    /// Every grant: of --provider, of --managed-secret, or of the app
    #[arg(long, group = "which")]
    all: bool,
    /// With --all: those on accounts at this provider
    #[arg(long, value_name = "PROVIDER", value_parser = parse_reference, requires = "all", conflicts_with = "managed_secret")]
    pub provider: Option<String>,
    /// With --all: those on this secret
    #[arg(long, value_name = "SECRET", value_parser = parse_reference, requires = "all")]
    pub managed_secret: Option<String>,
    /// With --all: wait until their tokens are ended at the provider, for at most ten minutes
    #[arg(long, requires = "all")]
    pub upstream: bool,
    /// With --all: provider, slug of the secret, or name of the app, so that it is the right one [default: asked for on
    /// a terminal]
    #[arg(long, value_name = "NAME", requires = "all")]
    pub confirm: Option<String>,
    /// Kept with the grant and in the audit event
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl From<RevokeArgs> for RevokeAllArgs {
    fn from(one: RevokeArgs) -> Self {
        Self { position: Some(one.grant.id()), reason: one.reason, ..Self::default() }
    }
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
#[command(group = ArgGroup::new("binding").multiple(false))]
pub struct UpdateArgs {
    #[command(flatten)]
    grant: GrantRef,
    /// A new label; an empty one removes it
    #[arg(long, group = "change")]
    label: Option<String>,
    /// When it ends from now, such as 90d
    #[arg(long, value_name = "SPAN", value_parser = parse_span, group = "change")]
    expires_in: Option<i64>,
    /// Take its end away
    #[arg(long, group = "change", conflicts_with = "expires_in")]
    no_expiry: bool,
    /// Bind it to this tenant
    #[arg(long, groups = ["change", "binding"])]
    tenant: Option<String>,
    /// Unbind it from its tenant
    #[arg(long, groups = ["change", "binding"])]
    clear_tenant: bool,
    /// The tenant guard does not apply to it
    #[arg(long, groups = ["change", "binding"])]
    tenant_exempt: bool,
}

pub async fn run(command: GrantsCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let grants = ["apps", app.as_str(), "grants"];
    match command {
        GrantsCommand::List(args) => {
            let status = args.status.map(|status| match status {
                Status::Active => "active".to_owned(),
                Status::Expired => "expired".to_owned(),
                Status::Revoked => "revoked".to_owned(),
            });
            let upstream = args.upstream.map(|upstream| match upstream {
                Upstream::Pending => "pending".to_owned(),
                Upstream::Yes => "yes".to_owned(),
                Upstream::Failed => "failed".to_owned(),
            });
            let query = ListQuery {
                status,
                upstream,
                user: args.user,
                provider: args.provider,
                search: args.search,
                limit: args.page.limit,
                offset: args.page.offset,
                ..ListQuery::default()
            };
            let page: Page<Grant> = api.get(&grants, &query).await?;
            context.show_page(&page, GRANT_COLUMNS)
        }
        GrantsCommand::Show(grant) => {
            let grant: Grant = api.get(&[&grants[..], &[&grant.id()]].concat(), &NoQuery {}).await?;
            context.show(&grant)
        }
        GrantsCommand::Revoke(args) => match args.position.as_ref().or(args.flag.as_ref()).cloned() {
            Some(id) => revoke(id, args.reason, &api, &grants, context).await,
            None => revocation::run(args, &api, &app, context).await,
        },
        GrantsCommand::Update(args) => {
            let tenant = match (args.tenant, args.clear_tenant, args.tenant_exempt) {
                (Some(value), _, _) => Some(TenantBinding::Value(value)),
                (None, true, _) => Some(TenantBinding::Clear),
                (None, false, true) => Some(TenantBinding::Exempt),
                (None, false, false) => None,
            };
            let body = GrantUpdate {
                label: args.label,
                expires_in_seconds: args.expires_in,
                no_expiry: args.no_expiry,
                tenant,
            };
            let id = args.grant.id();
            let path = [&grants[..], &[&id]].concat();
            let grant: Grant = api.send(Method::PATCH, &path, &body).await?;
            context.show(&grant)
        }
    }
}

async fn revoke(
    id: String,
    reason: Option<String>,
    api: &Api,
    grants: &[&str],
    context: &mut Context,
) -> Result<(), Failure> {
    let question = format!("Revoke grant {id}? Calls through it fail at once.");
    confirm(&question, context.globals.yes, &mut context.term)?;
    let path = [grants, &[&id, "revoke"]].concat();
    let revoked: RevokedGrant = api.send(Method::POST, &path, &GrantRevoke { reason }).await?;
    context.show(&revoked)?;
    if revoked.credential_destroyed {
        context.term.warn("this was the last living grant, so the stored value was destroyed");
    }
    Ok(())
}
