//! End users of an app: who was seen, what they have, and who may call.

use grantd_wire::api::{self, CursorPage, DeprovisionedUser, Event, Grant, Group, IdentityProvider, User};
use grantd_wire::{Error, limits};
use serde::Serialize;
use serde_json::json;

use super::audit::Line;
use super::desk::{Desk, Pager, ROWS, Shown};
use crate::answer::Answer;
use crate::routes::Api;

#[derive(Serialize)]
struct List {
    users: Vec<User>,
    idps: Vec<IdentityProvider>,
    search: String,
    status: String,
    idp: String,
    pager: Pager,
}

/// `GET /portal/apps/{}/users`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, search, idp) = (desk.app().await?, desk.query.text("search"), desk.query.text("idp"));
    let status = match desk.query.raw("status") {
        status @ ("active" | "suspended" | "deprovisioned") => status.to_owned(),
        _ => String::new(),
    };
    let most = limits::IDENTITY_PROVIDERS_MAX.to_string();
    let idps: api::Page<IdentityProvider> = desk.load(Api::IdpsList, &[&app.id], &[("limit", &most)]).await?;
    // One that was deleted is no filter any more.
    let idp = idps.items.iter().find(|known| known.id == idp).map_or_else(String::new, |known| known.id.clone());
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query =
        [("limit", limit.as_str()), ("offset", &offset), ("search", &search), ("status", &status), ("idp", &idp)];
    let found: api::Page<User> = desk.load(Api::UsersList, &[&app.id], &query).await?;
    let page = List { pager: Pager::of(&found), users: found.items, idps: idps.items, search, status, idp };
    Ok(desk.page(&Shown::of("portal/users.html", "users", &app, &page)))
}

/// Events that a user's page shows.
const EVENTS: &str = "8";

#[derive(Serialize)]
struct Detail {
    user: User,
    /// The name of who knows them.
    idp: Option<String>,
    grants: Vec<Grant>,
    /// Of their grants.
    pager: Pager,
    /// How many of their own live, which end with the user.
    living: usize,
    /// There are more than were counted.
    is_more: bool,
    groups: Vec<Group>,
    events: Vec<Line>,
}

async fn detail(desk: &Desk<'_>, app: &api::App) -> Result<Detail, Error> {
    let user: User = desk.load(Api::UsersShow, &[&app.id, &desk.params[1]], &[]).await?;
    let idp = desk.load::<IdentityProvider>(Api::IdpsShow, &[&app.id, &user.idp_id], &[]).await;
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("limit", limit.as_str()), ("offset", &offset), ("user", &user.id)];
    let grants: api::Page<Grant> = desk.load(Api::GrantsList, &[&app.id], &query).await?;
    let most = limits::PAGE_MAX.to_string();
    let query = [("limit", most.as_str()), ("status", "active"), ("user", &user.id)];
    let living: api::Page<Grant> = desk.load(Api::GrantsList, &[&app.id], &query).await?;
    let groups: api::Page<Group> = desk.load(Api::GroupsList, &[&app.id], &[("user", user.id.as_str())]).await?;
    let query = [("limit", EVENTS), ("user", user.id.as_str())];
    let events: CursorPage<Event> = desk.load(Api::EventsList, &[&app.id], &query).await?;
    Ok(Detail {
        idp: idp.ok().map(|idp| idp.name),
        pager: Pager::of(&grants),
        grants: grants.items,
        living: living.items.iter().filter(|grant| grant.principal_type == "user").count(),
        is_more: living.has_more,
        groups: groups.items,
        events: events.items.iter().map(Line::of).collect(),
        user,
    })
}

/// `GET /portal/apps/{}/users/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/user.html", "users", &app, &page)))
}

/// `POST /portal/apps/{}/users/{}/suspend`, and `…/resume`.
pub async fn set(desk: &Desk<'_>, route: Api) -> Result<Answer, Error> {
    let app = desk.app().await?;
    match desk.send::<User>(route, &[&app.id, &desk.params[1]], &json!({})).await {
        Ok((user, _)) => {
            let done = if route == Api::UsersSuspend { "user_suspended" } else { "user_resumed" };
            Ok(desk.go(&format!("/portal/apps/{}/users/{}?done={done}", app.id, user.id)))
        }
        Err(error) => {
            let page = detail(desk, &app).await?;
            desk.again(error, &[], Shown::of("portal/user.html", "users", &app, &page))
        }
    }
}

/// `GET /portal/apps/{}/users/{}/deprovision`: what it will end.
pub async fn ask_deprovision(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let page = detail(desk, &app).await?;
    Ok(desk.page(&Shown::of("portal/user_end.html", "users", &app, &page)))
}

/// `POST /portal/apps/{}/users/{}/deprovision`.
pub async fn deprovision(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, user) = (&desk.params[0], &desk.params[1]);
    desk.send::<DeprovisionedUser>(Api::UsersDeprovision, &[app, user], &json!({})).await?;
    Ok(desk.go(&format!("/portal/apps/{app}/users/{user}?done=user_deprovisioned")))
}
