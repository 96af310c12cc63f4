//! `grantd grants`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_wire::api::{Grant, GrantRevoke, GrantUpdate, ListQuery, Page, RevokedGrant, TenantBinding};
use reqwest::Method;

use super::apps::PageArgs;
use super::context::Context;
use super::failure::Failure;
use super::http::NoQuery;
use super::input::{confirm, parse_reference, parse_span};
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
    #[command(after_help = "Example:
  grantd grants revoke --grant 0199c0de-0000-7000-8000-00000000beef \\
      --reason 'left the team'")]
    Revoke(RevokeArgs),
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
    /// Slug of the secret
    #[arg(long, value_name = "SLUG")]
    provider: Option<String>,
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
            let query = ListQuery {
                status,
                provider: args.provider,
                search: args.search,
                limit: args.page.limit,
                offset: args.page.offset,
            };
            let page: Page<Grant> = api.get(&grants, &query).await?;
            context.show_page(&page, GRANT_COLUMNS)
        }
        GrantsCommand::Show(grant) => {
            let grant: Grant = api.get(&[&grants[..], &[&grant.id()]].concat(), &NoQuery {}).await?;
            context.show(&grant)
        }
        GrantsCommand::Revoke(args) => {
            let id = args.grant.id();
            let question = format!("Revoke grant {id}? Calls through it fail at once.");
            confirm(&question, context.globals.yes, &mut context.term)?;
            let path = [&grants[..], &[&id, "revoke"]].concat();
            let revoked: RevokedGrant = api.send(Method::POST, &path, &GrantRevoke { reason: args.reason }).await?;
            context.show(&revoked)?;
            if revoked.credential_destroyed {
                context.term.warn("this was the last living grant, so the stored value was destroyed");
            }
            Ok(())
        }
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
