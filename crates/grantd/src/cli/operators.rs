//! `grantd operators`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use grantd_wire::api::{LoginLink, Operator, OperatorCreate, OperatorUpdate, Page};
use reqwest::Method;
use serde_json::json;

use super::apps::ListArgs;
use super::context::Context;
use super::failure::Failure;
use super::http::{Api, NoQuery};
use super::input::{confirm, parse_reference};
use super::table::{column, minor};

#[derive(Subcommand)]
pub enum OperatorsCommand {
    /// List the operators
    #[command(after_help = "Example:\n  grantd operators list")]
    List(ListArgs),
    /// Create an operator; `tokens create --operator` makes their first token
    #[command(after_help = "Example:\n  grantd operators create --email ann@example.com --role developer")]
    Create(CreateArgs),
    /// Show one operator
    #[command(after_help = "Example:\n  grantd operators show 0199c0de-0000-7000-8000-00000000beef")]
    Show(OperatorRef),
    /// Change the role of an operator
    #[command(after_help = "Example:
  grantd operators update 0199c0de-0000-7000-8000-00000000beef --role viewer")]
    Update(UpdateArgs),
    /// Lock an operator out: their tokens stop working
    #[command(after_help = "Example:\n  grantd operators disable 0199c0de-0000-7000-8000-00000000beef")]
    Disable(OperatorRef),
    /// Let a disabled operator in again
    #[command(after_help = "Example:\n  grantd operators enable 0199c0de-0000-7000-8000-00000000beef")]
    Enable(OperatorRef),
    /// Make a link that signs an operator in to the portal, once and within 15 minutes
    ///
    /// It signs in whoever opens it, so give it to its operator and nobody else. On the host of the database `grantd operator
    /// login-link` makes one without a token.
    #[command(after_help = "Example:\n  grantd operators login-link 0199c0de-0000-7000-8000-00000000beef")]
    LoginLink(OperatorRef),
}

/// What somebody may do.
#[derive(Clone, Copy, ValueEnum)]
pub enum RoleName {
    Viewer,
    Developer,
    Admin,
}

impl RoleName {
    /// As the server writes it.
    pub fn text(self) -> String {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
        .to_owned()
    }
}

#[derive(Args)]
pub struct CreateArgs {
    /// E-mail address; one operator's only
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    /// What they may do
    #[arg(long)]
    role: RoleName,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct OperatorRef {
    /// Id of the operator
    #[arg(value_name = "OPERATOR", value_parser = parse_reference)]
    position: Option<String>,
    /// The same as a flag
    #[arg(long = "operator", value_name = "OPERATOR", value_parser = parse_reference)]
    flag: Option<String>,
}

impl OperatorRef {
    fn id(self) -> String {
        self.position.or(self.flag).expect("clap requires one")
    }
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct UpdateArgs {
    #[command(flatten)]
    operator: OperatorRef,
    /// What they may do from now on
    #[arg(long, group = "change")]
    role: Option<RoleName>,
}

pub async fn run(command: OperatorsCommand, context: &mut Context) -> Result<(), Failure> {
    let api = context.api()?;
    match command {
        OperatorsCommand::List(args) => {
            let page: Page<Operator> = api.get(&["operators"], &args.query()).await?;
            let columns = [
                column("ID", "id"),
                column("E-MAIL", "email"),
                column("ROLE", "role"),
                minor("CREATED", "created_at"),
                minor("DISABLED", "disabled_at"),
            ];
            context.show_page(&page, &columns)
        }
        OperatorsCommand::Create(args) => {
            let body = OperatorCreate { email: args.email, role: args.role.text() };
            let operator: Operator = api.send_once(&["operators"], &body).await?;
            context.show(&operator)
        }
        OperatorsCommand::Show(operator) => {
            let operator: Operator = api.get(&["operators", &operator.id()], &NoQuery {}).await?;
            context.show(&operator)
        }
        OperatorsCommand::Update(args) => {
            let body = OperatorUpdate { role: args.role.map(RoleName::text), disabled: None };
            update(&api, &args.operator.id(), &body, context).await
        }
        OperatorsCommand::Disable(operator) => {
            let id = operator.id();
            let question = format!("Disable operator {id}? Their tokens stop working at once.");
            confirm(&question, context.globals.yes, &mut context.term)?;
            update(&api, &id, &OperatorUpdate { role: None, disabled: Some(true) }, context).await
        }
        OperatorsCommand::Enable(operator) => {
            update(&api, &operator.id(), &OperatorUpdate { role: None, disabled: Some(false) }, context).await
        }
        OperatorsCommand::LoginLink(operator) => {
            let id = operator.id();
            let link: LoginLink = api.send(Method::POST, &["operators", &id, "login-link"], &json!({})).await?;
            context.show(&link)
        }
    }
}

async fn update(api: &Api, id: &str, body: &OperatorUpdate, context: &mut Context) -> Result<(), Failure> {
    let operator: Operator = api.send(Method::PATCH, &["operators", id], body).await?;
    context.show(&operator)
}
