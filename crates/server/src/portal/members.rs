//! Members of the organization: operators, whom an admin lets in, out, and into another role.

use grantd_wire::api::{self, LoginLink, Operator, OperatorCreate, OperatorUpdate, Token};
use grantd_wire::{Error, limits};
use serde::Serialize;
use serde_json::json;

use super::desk::{Desk, Pager, ROWS, Shown};
use super::sso;
use crate::answer::Answer;
use crate::routes::Api;

#[derive(Serialize)]
struct List {
    operators: Vec<Operator>,
    search: String,
    pager: Pager,
}

/// `GET /portal/members`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let search = desk.query.text("search");
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("limit", limit.as_str()), ("offset", &offset), ("search", &search)];
    let found: api::Page<Operator> = desk.load(Api::OperatorsList, &[], &query).await?;
    let page = List { pager: Pager::of(&found), operators: found.items, search };
    Ok(desk.page(&Shown::new("portal/members.html", "members", &page)))
}

#[derive(Serialize)]
struct New<'a> {
    /// Where they sign in, if that is the only way.
    sso: Option<&'a str>,
}

fn form<'a>(desk: &'a Desk<'_>) -> New<'a> {
    New { sso: sso::name(desk).filter(|_| sso::is_required(desk)) }
}

/// `GET /portal/members/new`.
pub fn new(desk: &Desk<'_>) -> Answer {
    desk.page(&Shown::new("portal/member_new.html", "members", &form(desk)))
}

/// `POST /portal/members/new`: the page that follows shows the link that lets them in, once. Where they sign in without, it is theirs.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let ask = OperatorCreate { email: desk.form.text("email"), role: desk.form.text("role") };
    match desk.send::<Operator>(Api::OperatorsCreate, &[], &ask).await {
        Ok((operator, _)) if sso::is_required(desk) => {
            Ok(desk.go(&format!("/portal/members/{}?done=member_invited", operator.id)))
        }
        Ok((operator, _)) => show_link(desk, &operator.id).await,
        Err(error) => {
            desk.again(error, &["email", "role"], Shown::new("portal/member_new.html", "members", &form(desk)))
        }
    }
}

/// Makes a link and shows it: it is not to be had again.
async fn show_link(desk: &Desk<'_>, operator: &str) -> Result<Answer, Error> {
    #[derive(Serialize)]
    struct Made<'a> {
        link: &'a LoginLink,
        minutes: i64,
    }
    let link: LoginLink = desk.send_again(Api::OperatorsLoginLink, &[operator], &json!({})).await?;
    let page = Made { link: &link, minutes: limits::LOGIN_LINK_S / 60 };
    Ok(desk.page(&Shown::new("portal/member_link.html", "members", &page)))
}

#[derive(Serialize)]
struct Detail {
    operator: Operator,
    tokens: Vec<Token>,
    pager: Pager,
    is_self: bool,
    /// They need no link.
    sso_only: bool,
}

async fn detail(desk: &Desk<'_>) -> Result<Detail, Error> {
    let operator: Operator = desk.load(Api::OperatorsShow, &[&desk.params[0]], &[]).await?;
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("operator", operator.id.as_str()), ("limit", &limit), ("offset", &offset)];
    let tokens: api::Page<Token> = desk.load(Api::TokensList, &[], &query).await?;
    let is_self = operator.id == desk.visitor()?.operator.id.to_string();
    Ok(Detail { operator, pager: Pager::of(&tokens), tokens: tokens.items, is_self, sso_only: sso::is_required(desk) })
}

/// `GET /portal/members/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let page = detail(desk).await?;
    Ok(desk.page(&Shown::new("portal/member.html", "members", &page)))
}

/// `GET /portal/members/{}/disable`: what will happen.
pub async fn ask_disable(desk: &Desk<'_>) -> Result<Answer, Error> {
    let page = detail(desk).await?;
    Ok(desk.page(&Shown::new("portal/member_disable.html", "members", &page)))
}

/// `POST /portal/members/{}/link`.
pub async fn link(desk: &Desk<'_>) -> Result<Answer, Error> {
    match show_link(desk, &desk.params[0]).await {
        Err(error) => again(desk, error).await,
        shown => shown,
    }
}

/// `POST /portal/members/{}`: another role.
pub async fn change_role(desk: &Desk<'_>) -> Result<Answer, Error> {
    let ask = OperatorUpdate { role: Some(desk.form.text("role")), disabled: None };
    change(desk, &ask, "role_changed").await
}

/// `POST /portal/members/{}/disable`.
pub async fn disable(desk: &Desk<'_>) -> Result<Answer, Error> {
    change(desk, &OperatorUpdate { role: None, disabled: Some(true) }, "member_disabled").await
}

/// `POST /portal/members/{}/enable`.
pub async fn enable(desk: &Desk<'_>) -> Result<Answer, Error> {
    change(desk, &OperatorUpdate { role: None, disabled: Some(false) }, "member_enabled").await
}

async fn change(desk: &Desk<'_>, ask: &OperatorUpdate, done: &str) -> Result<Answer, Error> {
    match desk.send::<Operator>(Api::OperatorsUpdate, &[&desk.params[0]], ask).await {
        Ok((operator, _)) => Ok(desk.go(&format!("/portal/members/{}?done={done}", operator.id))),
        Err(error) => again(desk, error).await,
    }
}

async fn again(desk: &Desk<'_>, error: Error) -> Result<Answer, Error> {
    let page = detail(desk).await?;
    desk.again(error, &["role"], Shown::new("portal/member.html", "members", &page))
}
