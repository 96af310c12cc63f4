//! What an app is called and does, how long its trail is kept, and its end.

use grantd_wire::api::{
    App, AppRetention, AppRetentionSet, AppUpdate, ConnectSignIn, LegalHold, LegalHoldSet, Retrieve, TenantMode,
};
use grantd_wire::{Code, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::confirm::loosens;
use super::desk::{Desk, Shown};
use crate::answer::Answer;
use crate::routes::Api;
use crate::sentence::Sentence;

/// Fields of the forms.
const KEPT: [&str; 11] = [
    "name",
    "description",
    "website_url",
    "retrieve",
    "indexed_context_keys",
    "tenant_key",
    "tenant_mode",
    "connect_sign_in",
    "return_origins",
    "retention",
    "reason",
];

#[derive(Serialize)]
struct Settings {
    names: [&'static str; KEPT.len()],
    retention: AppRetention,
    hold: LegalHold,
}

async fn settings(desk: &Desk<'_>, app: &App) -> Result<Settings, Error> {
    Ok(Settings {
        names: KEPT,
        retention: desk.load(Api::RetentionShow, &[&app.id], &[]).await?,
        hold: desk.load(Api::HoldShow, &[&app.id], &[]).await?,
    })
}

fn page<'a>(app: &'a App, page: &'a Settings) -> Shown<'a, Settings> {
    Shown::of("portal/app_settings.html", "app_settings", app, page)
}

/// `GET /portal/apps/{}/settings`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    Ok(desk.page(&page(&app, &settings(desk, &app).await?)))
}

/// Back to the page, with what was done or what was wrong.
async fn saved<T>(desk: &Desk<'_>, app: &App, saved: Result<T, Error>, done: &str) -> Result<Answer, Error> {
    match saved {
        Ok(_) => Ok(desk.go(&format!("/portal/apps/{}/settings?done={done}", app.id))),
        Err(error) => desk.again(error, &KEPT, page(app, &settings(desk, app).await?)),
    }
}

/// `POST /portal/apps/{}/settings`.
pub async fn update(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let ask = asked(desk, &app);
    desk.check_grave(loosens(&ask, &app))?;
    let sent = desk.send::<App>(Api::AppsUpdate, &[&app.id], &ask).await;
    saved(desk, &app, sent, "app_updated").await
}

/// `POST /portal/apps/{}/settings/retention`: an empty field goes by the install.
pub async fn save_retention(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let sent = match desk.form.filled("retention") {
        Some(retention) => desk.send::<Value>(Api::RetentionSet, &[&app.id], &AppRetentionSet { retention }).await,
        None => desk.send::<Value>(Api::RetentionReset, &[&app.id], &json!({})).await,
    };
    saved(desk, &app, sent, "settings_saved").await
}

/// `POST /portal/apps/{}/settings/hold`.
pub async fn hold(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let ask = LegalHoldSet { reason: desk.form.text("reason") };
    let sent = desk.send::<Value>(Api::HoldSet, &[&app.id], &ask).await;
    saved(desk, &app, sent, "settings_saved").await
}

/// `POST /portal/apps/{}/settings/release`: ends the hold.
pub async fn release(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let sent = desk.send::<Value>(Api::HoldRelease, &[&app.id], &json!({})).await;
    saved(desk, &app, sent, "settings_saved").await
}

/// What the form asks for. Only what differs is said of what an admin alone may change.
fn asked(desk: &Desk<'_>, app: &App) -> AppUpdate {
    let form = &desk.form;
    let tenant_key = Some(form.text("tenant_key")).filter(|_| form.is_sent("tenant_key"));
    let return_origins = Some(form.words("return_origins")).filter(|_| form.is_sent("return_origins"));
    AppUpdate {
        name: Some(form.text("name")),
        description: Some(form.text("description")),
        website_url: Some(form.text("website_url")),
        retrieve: chosen::<Retrieve>(form.raw("retrieve")),
        indexed_context_keys: Some(form.words("indexed_context_keys")),
        tenant_key: tenant_key.filter(|key| *key != app.tenant_key.clone().unwrap_or_default()),
        tenant_mode: chosen::<TenantMode>(form.raw("tenant_mode")).filter(|mode| *mode != app.tenant_mode),
        connect_sign_in: chosen::<ConnectSignIn>(form.raw("connect_sign_in"))
            .filter(|chosen| *chosen != app.connect_sign_in),
        return_origins: return_origins.filter(|origins| *origins != app.return_origins),
    }
}

/// One of several that were offered.
fn chosen<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(json!(text)).ok()
}

/// `POST /portal/apps/{}/archive`, and `…/unarchive`.
pub async fn set_state(desk: &Desk<'_>, route: Api) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let sent = desk.send::<App>(route, &[&app.id], &json!({})).await;
    let done = if route == Api::AppsArchive { "app_archived" } else { "app_unarchived" };
    saved(desk, &app, sent, done).await
}

/// `GET /portal/apps/{}/delete`: what will happen.
pub async fn ask_delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    Ok(desk.page(&Shown::of("portal/app_delete.html", "app_settings", &app, &())))
}

/// `POST /portal/apps/{}/delete`: with the app's name, or its id, typed.
pub async fn delete(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let typed = desk.form.text("confirm");
    let deleted = match typed == app.name.trim() || typed == app.id {
        true => desk.send::<Value>(Api::AppsDelete, &[&app.id], &json!({})).await.map(drop),
        false => Err(Sentence::TypeAppName.at("confirm", Code::InvalidRequest)),
    };
    match deleted {
        Ok(()) => Ok(desk.go("/portal/apps?done=app_deleted")),
        Err(error) => desk.again(error, &["confirm"], Shown::of("portal/app_delete.html", "app_settings", &app, &())),
    }
}
