//! Grants of an app.

use grantd_wire::Error;
use grantd_wire::api::{self, CursorPage, Event, Grant, GrantRevoke, RevokedGrant};
use serde::Serialize;

use super::desk::{Desk, Pager, ROWS, Shown};
use crate::answer::Answer;
use crate::routes::Api;

/// Calls that a grant's page shows.
const CALLS: &str = "10";

#[derive(Serialize)]
struct List {
    grants: Vec<Grant>,
    search: String,
    status: String,
    /// A provider's id, or a secret's slug.
    provider: String,
    pager: Pager,
}

/// `GET /portal/apps/{}/grants`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, search) = (desk.app().await?, desk.query.text("search"));
    let status = match desk.query.raw("status") {
        status @ ("active" | "expired" | "revoked") => status.to_owned(),
        _ => String::new(),
    };
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let provider = desk.query.text("provider");
    let query = [
        ("limit", limit.as_str()),
        ("offset", &offset),
        ("search", &search),
        ("status", &status),
        ("provider", &provider),
    ];
    let found: api::Page<Grant> = desk.load(Api::GrantsList, &[&app.id], &query).await?;
    let page = List { pager: Pager::of(&found), grants: found.items, search, status, provider };
    Ok(desk.page(&Shown::of("portal/grants.html", "grants", &app, &page)))
}

#[derive(Serialize)]
struct Detail {
    grant: Grant,
    events: Vec<super::audit::Line>,
}

async fn detail(desk: &Desk<'_>, app: &api::App) -> Result<Detail, Error> {
    let grant: Grant = desk.load(Api::GrantsShow, &[&app.id, &desk.params[1]], &[]).await?;
    let query = [("limit", CALLS), ("grant", grant.grant_id.as_str())];
    let found: CursorPage<Event> = desk.load(Api::EventsList, &[&app.id], &query).await?;
    Ok(Detail { events: found.items.iter().map(super::audit::Line::of).collect(), grant })
}

/// `GET /portal/apps/{}/grants/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/grant.html", "grants", &app, &page)))
}

/// The page of a grant again, with what was wrong.
pub async fn again_with(desk: &Desk<'_>, app: &api::App, error: Error) -> Result<Answer, Error> {
    let page = detail(desk, app).await?;
    desk.again(error, &[], Shown::of("portal/grant.html", "grants", app, &page))
}

/// `GET /portal/apps/{}/grants/{}/revoke`: what will happen.
pub async fn ask_revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/grant_revoke.html", "grants", &app, &page)))
}

/// `POST /portal/apps/{}/grants/{}/revoke`.
pub async fn revoke(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let grant = &desk.params[1];
    let ask = GrantRevoke { reason: desk.form.filled("reason") };
    match desk.send::<RevokedGrant>(Api::GrantsRevoke, &[&app.id, grant], &ask).await {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/grants/{grant}?done=grant_revoked", app.id))),
        Err(error) => {
            let page = detail(desk, &app).await?;
            desk.again(error, &["reason"], Shown::of("portal/grant_revoke.html", "grants", &app, &page))
        }
    }
}
