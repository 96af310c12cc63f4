//! How an app looks to end users, with a preview that its colours are tried on before they are kept.

use axum::body::Body;
use grantd_wire::api::{App, Branding, BrandingUpdate};
use grantd_wire::{Error, limits};
use serde::Serialize;
use serde_json::{Value, json};

use super::desk::{Desk, Shown};
use super::form::Form;
use crate::answer::{Answer, raw};
use crate::pages::brand_css;
use crate::routes::Api;

/// Fields of the form that are kept when it is drawn again.
const KEPT: [&str; 3] = ["display_name", "accent_color", "background_color"];

#[derive(Serialize)]
struct Look {
    branding: Branding,
    /// What the preview shows: what is stored, or what was typed.
    name: String,
    accent_color: String,
    background_color: String,
}

async fn look(desk: &Desk<'_>, app: &App) -> Result<Look, Error> {
    let branding: Branding = desk.load(Api::BrandingShow, &[&app.id], &[]).await?;
    let typed = desk.parts.method == http::Method::POST;
    // What is refused because it is too long is not tried on.
    let shown = |name: &str, stored: &Option<String>| match typed {
        true => desk.form.text(name).chars().take(limits::NAME_CHARS_MAX).collect(),
        false => stored.clone().unwrap_or_default(),
    };
    let name = shown("display_name", &branding.display_name);
    Ok(Look {
        name: if name.is_empty() { app.name.clone() } else { name },
        accent_color: shown("accent_color", &branding.accent_color),
        background_color: shown("background_color", &branding.background_color),
        branding,
    })
}

fn page<'a>(app: &'a App, page: &'a Look) -> Shown<'a, Look> {
    Shown::of("portal/branding.html", "branding", app, page)
}

/// `GET /portal/apps/{}/branding`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let shown = look(desk, &app).await?;
    Ok(desk.page(&page(&app, &shown)))
}

/// `POST /portal/apps/{}/branding`: keeps it, tries it, or takes it back.
pub async fn set(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (app, form) = (desk.app().await?, &desk.form);
    let done = match form.raw("do") {
        "preview" => {
            let shown = look(desk, &app).await?;
            return Ok(desk.page(&page(&app, &shown).with(form.kept(&KEPT))));
        }
        "reset" => desk.send::<Value>(Api::BrandingReset, &[&app.id], &json!({})).await.map(drop),
        "remove_logo" => {
            let ask = BrandingUpdate { logo: Some(String::new()), ..BrandingUpdate::default() };
            desk.send::<Branding>(Api::BrandingSet, &[&app.id], &ask).await.map(drop)
        }
        _ => desk.send::<Branding>(Api::BrandingSet, &[&app.id], &asked(form)).await.map(drop),
    };
    match done {
        Ok(()) => Ok(desk.go(&format!("/portal/apps/{}/branding?done=branding_set", app.id))),
        Err(error) => {
            let shown = look(desk, &app).await?;
            desk.again(error, &KEPT, page(&app, &shown))
        }
    }
}

fn asked(form: &Form) -> BrandingUpdate {
    BrandingUpdate {
        display_name: Some(form.text("display_name")),
        accent_color: Some(form.text("accent_color")),
        background_color: Some(form.text("background_color")),
        // None was chosen: the one there is stays.
        logo: Some(form.raw("logo").to_owned()).filter(|logo| !logo.is_empty()),
    }
}

/// `GET /portal/apps/{}/branding/preview`: the style sheet that an app would have with these colours.
pub async fn preview(desk: &Desk<'_>) -> Result<Answer, Error> {
    desk.app().await?;
    let query = &desk.query;
    let branding = Branding {
        accent_color: query.filled("accent_color"),
        background_color: query.filled("background_color"),
        ..Branding::default()
    };
    Ok(raw(200, "text/css; charset=utf-8", Body::from(brand_css(&branding))))
}
