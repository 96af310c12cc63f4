//! `grantd end-users` and `grantd groups`: those that identity providers tell of.

use clap::{Args, Subcommand, ValueEnum};
use grantd_wire::api::{DeprovisionedUser, Group, Page, User};
use reqwest::Method;
use serde_json::json;

use super::apps::{ListArgs, PageArgs};
use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::idp::parse_idp;
use super::input::{confirm, confirm_name, parse_reference};
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum EndUsersCommand {
    /// List the app's users
    #[command(after_help = "Examples:
  grantd end-users list --search ada@
  grantd end-users list --status suspended")]
    List(UsersListArgs),
    /// Show one user
    #[command(after_help = "Example:\n  grantd end-users show 0199c0de-0000-7000-8000-00000000beef")]
    Show(UserRef),
    /// Refuse tokens and grants of a user from now on, until the user is resumed
    #[command(after_help = "Example:\n  grantd end-users suspend 0199c0de-0000-7000-8000-00000000beef")]
    Suspend(UserRef),
    /// Let a suspended user in again
    #[command(after_help = "Example:\n  grantd end-users resume 0199c0de-0000-7000-8000-00000000beef")]
    Resume(UserRef),
    /// End a user for good: every grant is revoked. Who signs in again later is a new user. Cannot be undone
    #[command(after_help = "Example:
  grantd end-users deprovision 0199c0de-0000-7000-8000-00000000beef \\
      --confirm 00u1abcd")]
    Deprovision(DeprovisionArgs),
}

#[derive(Subcommand)]
pub enum GroupsCommand {
    /// List the app's groups
    #[command(after_help = "Example:\n  grantd groups list --search eng")]
    List(ListArgs),
    /// Show one group
    #[command(after_help = "Example:\n  grantd groups show 0199c0de-0000-7000-8000-00000000beef")]
    Show(GroupRef),
}

#[derive(Args)]
pub struct UsersListArgs {
    /// Only users that are so
    #[arg(long)]
    status: Option<Status>,
    /// E-mail addresses and names that begin with this, in any case, and external ids (`sub`) that do
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only users of this identity provider: its id or issuer
    #[arg(long, value_name = "IDP", value_parser = parse_idp)]
    idp: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Status {
    Active,
    Suspended,
    Deprovisioned,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct UserRef {
    /// Id of the user
    #[arg(value_name = "USER", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "user", value_name = "USER", value_parser = parse_reference)]
    flag: Option<String>,
}

impl UserRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct GroupRef {
    /// Id of the group
    #[arg(value_name = "GROUP", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "group", value_name = "GROUP", value_parser = parse_reference)]
    flag: Option<String>,
}

impl GroupRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
pub struct DeprovisionArgs {
    #[command(flatten)]
    user: UserRef,
    /// Subject of the user, so that it is the right one [default: asked for on a terminal]
    #[arg(long, value_name = "SUBJECT")]
    confirm: Option<String>,
}

pub async fn run(command: EndUsersCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let users = ["apps", app.as_str(), "users"];
    match command {
        EndUsersCommand::List(args) => {
            let status = args.status.map(|status| match status {
                Status::Active => "active".to_owned(),
                Status::Suspended => "suspended".to_owned(),
                Status::Deprovisioned => "deprovisioned".to_owned(),
            });
            let list = ListArgs { search: args.search, page: args.page };
            let mut query = list.query();
            (query.status, query.idp) = (status, args.idp);
            let page: Page<User> = api.get(&users, &query).await?;
            let columns = [
                column("ID", "id"),
                column("SUBJECT", "subject"),
                column("STATUS", "user_status"),
                minor("EMAIL", "email"),
                minor("NAME", "name"),
                minor("LAST SEEN", "last_seen_at"),
                minor("IDP", "idp_id"),
                minor("ROLES", "roles"),
                minor("CREATED", "created_at"),
            ];
            context.show_page(&page, &columns)
        }
        EndUsersCommand::Show(user) => {
            let user: User = api.get(&[&users[..], &[&user.id()]].concat(), &NoQuery {}).await?;
            context.show(&user)
        }
        EndUsersCommand::Suspend(user) => {
            let id = user.id();
            let question = format!("Suspend user {id}? Tokens and grants of the user are refused at once.");
            confirm(&question, context.globals.yes, &mut context.term)?;
            set(&api, &[&users[..], &[&id, "suspend"]].concat(), context).await
        }
        EndUsersCommand::Resume(user) => set(&api, &[&users[..], &[&user.id(), "resume"]].concat(), context).await,
        EndUsersCommand::Deprovision(args) => {
            let id = args.user.id();
            let path = [&users[..], &[&id]].concat();
            let read = api.read_to_change::<User>(&path).await?;
            let question = "Deprovision the user for good, and revoke every grant of theirs?";
            confirm_name(question, &read.object.subject, args.confirm.as_deref(), &mut context.term)?;
            let path = [&path[..], &["deprovision"]].concat();
            let ended: DeprovisionedUser = api.send_if(Method::POST, &path, &json!({}), &read).await?;
            context.show(&ended)
        }
    }
}

async fn set(api: &Api, path: &[&str], context: &mut Context) -> Result<(), Failure> {
    let user: User = api.send(Method::POST, path, &json!({})).await?;
    context.show(&user)
}

pub async fn run_groups(command: GroupsCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    let app = context.app(&api).await?;
    let groups = ["apps", app.as_str(), "groups"];
    match command {
        GroupsCommand::List(args) => {
            let page: Page<Group> = api.get(&groups, &args.query()).await?;
            let columns = [
                column("ID", "id"),
                column("NAME", "name"),
                column("MEMBERS", "members"),
                minor("EXTERNAL ID", "external_group_id"),
                minor("IDP", "idp_id"),
                minor("CREATED", "created_at"),
            ];
            context.show_page(&page, &columns)
        }
        GroupsCommand::Show(group) => {
            let group: Group = api.get(&[&groups[..], &[&group.id()]].concat(), &NoQuery {}).await?;
            context.show(&group)
        }
    }
}
