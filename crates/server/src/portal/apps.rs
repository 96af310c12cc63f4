//! Apps: the list, a new one, and an app's home.

use grantd_wire::Error;
use grantd_wire::api::{App, AppCreate, CursorPage, Event, Page};
use serde::Serialize;

use super::audit::Line;
use super::desk::{Desk, Pager, ROWS, Shown};
use super::sso;
use crate::answer::Answer;
use crate::flow::account;
use crate::routes::Api;

#[derive(Serialize)]
struct List {
    apps: Vec<App>,
    search: String,
    pager: Pager,
    /// Whoever is here signs in by links alone.
    has_links_only: bool,
}

/// `GET /portal/apps`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let search = desk.query.text("search");
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("limit", limit.as_str()), ("offset", &offset), ("search", &search)];
    let found: Page<App> = desk.load(Api::AppsList, &[], &query).await?;
    let methods = account::methods(desk.vault, &desk.visitor()?.operator).await?;
    let has_no_way = methods.password_set_at.is_none() && methods.passkeys == 0;
    let has_links_only = has_no_way && !sso::is_required(desk) && !sso::is_way_of(desk).await?;
    let page = List { pager: Pager::of(&found), apps: found.items, search, has_links_only };
    Ok(desk.page(&Shown::new("portal/apps.html", "apps", &page)))
}

/// `GET /portal/apps/new`.
pub fn new(desk: &Desk<'_>) -> Answer {
    desk.page(&Shown::new("portal/app_new.html", "apps", &()))
}

/// `POST /portal/apps/new`.
pub async fn create(desk: &Desk<'_>) -> Result<Answer, Error> {
    let form = &desk.form;
    let ask = AppCreate {
        name: form.text("name"),
        description: form.filled("description"),
        website_url: form.filled("website_url"),
    };
    match desk.send::<App>(Api::AppsCreate, &[], &ask).await {
        Ok((app, _)) => Ok(desk.go(&format!("/portal/apps/{}/start?done=app_created", app.id))),
        Err(error) => {
            let keep = ["name", "description", "website_url"];
            desk.again(error, &keep, Shown::new("portal/app_new.html", "apps", &()))
        }
    }
}

/// Events that an app's home shows.
const EVENTS: &str = "8";

#[derive(Serialize)]
struct Home {
    events: Vec<Line>,
}

/// `GET /portal/apps/{}`.
pub async fn home(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let found: CursorPage<Event> = desk.load(Api::EventsList, &[&app.id], &[("limit", EVENTS)]).await?;
    let page = Home { events: found.items.iter().map(Line::of).collect() };
    Ok(desk.page(&Shown::of("portal/app_home.html", "home", &app, &page)))
}
