//! Apps: the list, a new one, and an app's home.

use grantd_wire::Error;
use grantd_wire::api::{App, AppCreate, Page};
use serde::Serialize;

use super::desk::{Desk, Pager, ROWS, Shown};
use crate::answer::Answer;
use crate::routes::Api;

#[derive(Serialize)]
struct Apps {
    apps: Vec<App>,
    search: String,
    pager: Pager,
}

/// `GET /portal/apps`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let search = desk.query.text("search");
    let (limit, offset) = (ROWS.to_string(), desk.offset());
    let query = [("limit", limit.as_str()), ("offset", &offset), ("search", &search)];
    let found: Page<App> = desk.load(Api::AppsList, &[], &query).await?;
    let page = Apps { pager: Pager::of(&found), apps: found.items, search };
    Ok(desk.page(&Shown::new("portal/apps.html", "apps", &page)))
}

/// `GET /portal/apps/new`.
#[expect(clippy::unnecessary_wraps, reason = "handlers have one form")]
pub fn new(desk: &Desk<'_>) -> Result<Answer, Error> {
    Ok(desk.page(&Shown::new("portal/app_new.html", "apps", &())))
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
        Ok((app, _)) => Ok(desk.go(&format!("/portal/apps/{}?done=app_created", app.id))),
        Err(error) => {
            let keep = ["name", "description", "website_url"];
            desk.again(error, &keep, Shown::new("portal/app_new.html", "apps", &()))
        }
    }
}

/// `GET /portal/apps/{}`.
pub async fn home(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    Ok(desk.page(&Shown::of("portal/app_home.html", "home", &app, &())))
}
