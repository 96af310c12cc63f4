//! One's own personal access tokens; an admin reaches those of others by the pages of members.

use grantd_wire::Error;
use grantd_wire::api::{self, MintedToken, Organization, Token, TokenCreate};
use serde::Serialize;
use serde_json::json;

use super::desk::{Desk, Pager, ROWS, Shown, in_days, number};
use crate::answer::Answer;
use crate::api::tokens::days_default;
use crate::routes::Api;

/// Roles that a token can have.
const ROLES: [&str; 3] = ["viewer", "developer", "admin"];

#[derive(Serialize)]
struct List {
    tokens: Vec<Token>,
    pager: Pager,
}

/// `GET /portal/tokens`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let found: api::Page<Token> = desk.load(Api::TokensList, &[], &[("limit", &limit), ("offset", &offset)]).await?;
    let page = List { pager: Pager::of(&found), tokens: found.items };
    Ok(desk.page(&Shown::new("portal/tokens.html", "tokens", &page)))
}

#[derive(Serialize)]
struct New {
    /// Those that the operator may give, their own last.
    roles: Vec<&'static str>,
    /// Days that it lives if nothing is said.
    days: i64,
    /// Days that it may live at most, if the organization says so.
    days_max: Option<i64>,
}

async fn form(desk: &Desk<'_>) -> Result<New, Error> {
    let organization: Organization = desk.load(Api::OrganizationShow, &[], &[]).await?;
    let days_max = organization.token_days_max;
    let own = desk.visitor()?.operator.role.as_str();
    let mut roles: Vec<&str> = ROLES.to_vec();
    roles.truncate(ROLES.iter().position(|role| *role == own).map_or(0, |at| at + 1));
    Ok(New { roles, days: days_default(days_max), days_max })
}

/// `GET /portal/tokens/new`.
pub async fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    let page = form(desk).await?;
    Ok(desk.page(&Shown::new("portal/token_new.html", "tokens", &page)))
}

/// `POST /portal/tokens/new`: the page that follows shows the token, once.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let ask = match ask(desk) {
        Ok(ask) => ask,
        Err(error) => return again(desk, error).await,
    };
    match desk.send::<MintedToken>(Api::TokensCreate, &[], &ask).await {
        Ok((minted, was_made)) if desk.may_show(was_made, minted.pat.created_at) => {
            Ok(desk.page(&Shown::new("portal/token_minted.html", "tokens", &minted)))
        }
        Ok(_) => Ok(desk.go("/portal/tokens")),
        Err(error) => again(desk, error).await,
    }
}

fn ask(desk: &Desk<'_>) -> Result<TokenCreate, Error> {
    let form = &desk.form;
    let apps = form.list("app_ids");
    Ok(TokenCreate {
        name: form.text("name"),
        role: form.filled("role"),
        app_ids: (!apps.is_empty()).then_some(apps),
        expires_in_seconds: number(form, "expires_in_days")?.map(|days| days.saturating_mul(86_400)),
        operator_id: None,
    })
}

async fn again(desk: &Desk<'_>, error: Error) -> Result<Answer, Error> {
    let page = form(desk).await?;
    let keep = ["name", "role", "app_ids", "expires_in_days"];
    desk.again(in_days(error), &keep, Shown::new("portal/token_new.html", "tokens", &page))
}

/// `GET /portal/tokens/{}/revoke`: what will happen.
pub async fn ask_revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let token: Token = desk.load(Api::TokensShow, &[&desk.params[0]], &[]).await?;
    Ok(desk.page(&Shown::new("portal/token_revoke.html", "tokens", &token)))
}

/// `POST /portal/tokens/{}/revoke`.
pub async fn revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (token, _): (Token, _) = desk.send(Api::TokensRevoke, &[&desk.params[0]], &json!({})).await?;
    let is_own = token.operator_id == desk.visitor()?.operator.id.to_string();
    let place = if is_own { "/portal/tokens".to_owned() } else { format!("/portal/members/{}", token.operator_id) };
    Ok(desk.go(&format!("{place}?done=token_revoked")))
}
