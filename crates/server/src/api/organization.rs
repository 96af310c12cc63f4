//! The organization, and how its apps look to end users.

use base64::Engine as _;
use grantd_domain::audit::{Event, Kind, Owner};
use grantd_domain::grant::{App, check_text};
use grantd_store::append_event;
use grantd_store::organizations::{self, Logo, Organization};
use grantd_wire::api::{self, Branding, BrandingUpdate, OrganizationUpdate};
use grantd_wire::{Code, Error, limits};
use serde_json::Value;

use super::Request;
use super::version::{of_app, shown, shown_of_app};
use crate::answer::{Answer, of_store};
use crate::pages::picture;
use crate::parse;
use crate::vault::Vault;

fn view(organization: &Organization) -> api::Organization {
    api::Organization {
        id: organization.id.to_string(),
        slug: organization.slug.clone(),
        name: organization.name.clone(),
        token_days_max: organization.settings.token_days_max,
        created_at: organization.created_at,
    }
}

pub async fn show(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see the organization")?;
    let id = request.operator.organization_id;
    let found = vault.store.read(move |tx| organizations::find(tx, id)).await.map_err(of_store)?;
    Ok(shown(200, &view(&found.ok_or(Code::Internal)?)))
}

pub async fn update(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let owner = request.organization_wide("change the organization")?;
    let OrganizationUpdate { name, token_days_max } = parse::json(&request.body)?;
    if let Some(name) = &name {
        check_text("name", name, limits::NAME_CHARS_MAX)?;
    }
    if token_days_max.is_some_and(|days| !(0..=limits::PAT_DAYS_MAX).contains(&days)) {
        let why = format!("must be from 1 to {} days, or 0 for no bound", limits::PAT_DAYS_MAX);
        return Err(Error::impossible("token_days_max", &why));
    }
    let (id, if_match) = (request.operator.organization_id, request.if_match.clone());
    let event = request.event(vault, owner, Kind::OrganizationUpdated);
    let organization = vault
        .store
        .write(move |tx| {
            let old = organizations::find(tx, id)?.ok_or(Code::Internal)?;
            if_match.check(&view(&old))?;
            let mut new = old.clone();
            new.name = name.clone().unwrap_or(new.name);
            if let Some(days) = token_days_max {
                new.settings.token_days_max = Some(days).filter(|days| *days > 0);
            }
            let mut event = event.clone();
            if old.name != new.name {
                event = event.changed("name", old.name.clone(), new.name.clone());
            }
            if old.settings != new.settings {
                event = event.changed("token_days_max", old.settings.token_days_max, new.settings.token_days_max);
            }
            if old.name != new.name || old.settings != new.settings {
                organizations::update(tx, &new)?;
                append_event(tx, &event.prepare())?;
            }
            Ok(new)
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&organization)))
}

pub async fn show_branding(vault: &Vault, app: &App) -> Result<Answer, Error> {
    let app = app.id;
    let branding = vault.store.read(move |tx| organizations::find_branding(tx, app)).await.map_err(of_store)?;
    Ok(shown_of_app(app, &branding))
}

pub async fn set_branding(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: BrandingUpdate = parse::json(&request.body)?;
    if let Some(name) = ask.display_name.as_deref().filter(|name| !name.is_empty()) {
        check_text("display_name", name, limits::NAME_CHARS_MAX)?;
    }
    let accent_color = ask.accent_color.as_deref().map(|text| color("accent_color", text)).transpose()?;
    let background_color = ask.background_color.as_deref().map(|text| color("background_color", text)).transpose()?;
    let logo = match ask.logo.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(logo(text).await?)),
    };
    let event = request.event(vault, Owner::App(app.id), Kind::BrandingUpdated);
    let (app, now, if_match) = (app.id, request.source.now, request.if_match.clone());
    let branding = vault
        .store
        .write(move |tx| {
            let old = organizations::find_branding(tx, app)?;
            if_match.check(&of_app(app, &old))?;
            let mut new = old.clone();
            if let Some(name) = &ask.display_name {
                new.display_name = Some(name.clone()).filter(|name| !name.is_empty());
            }
            new.accent_color = accent_color.clone().unwrap_or(new.accent_color);
            new.background_color = background_color.clone().unwrap_or(new.background_color);
            if let Some(logo) = &logo {
                new.logo = logo.as_ref().map(|logo| logo.path(app));
            }
            if new == old {
                return Ok(old);
            }
            new.updated_at = Some(now);
            organizations::set_branding(tx, app, &new, now)?;
            if let Some(logo) = &logo {
                organizations::set_logo(tx, app, logo.as_ref())?;
            }
            append_event(tx, &changed(event.clone(), &old, &new).prepare())?;
            Ok(new)
        })
        .await
        .map_err(of_store)?;
    Ok(shown_of_app(app, &branding))
}

/// A colour in its one form; none, where the text is empty.
fn color(field: &str, text: &str) -> Result<Option<String>, Error> {
    let digits = text.strip_prefix('#').unwrap_or_default();
    match digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(Some(text.to_ascii_lowercase())),
        false if text.is_empty() => Ok(None),
        false => Err(Error::impossible(field, "must be a colour such as #0a7cff")),
    }
}

/// The logo that a text in base64 is.
async fn logo(text: &str) -> Result<Logo, Error> {
    // Characters that no picture within the bound has are not decoded.
    let picture = match text.len() <= limits::LOGO_BYTES_MAX.div_ceil(3) * 4 {
        true => {
            base64::prelude::BASE64_STANDARD.decode(text).map_err(|_| Error::impossible("logo", "must be base64"))?
        }
        false => return Err(too_large()),
    };
    if picture.len() > limits::LOGO_BYTES_MAX {
        return Err(too_large());
    }
    // Of the size that is allowed, a picture takes a while.
    let drawn = tokio::task::spawn_blocking(move || picture::drawn_anew(&picture)).await.map_err(|_| Code::Internal)?;
    drawn.map(Logo::new).map_err(|why| Error::impossible("logo", why.says()))
}

fn too_large() -> Error {
    Error::impossible("logo", &format!("must be a picture of at most {} KiB", limits::LOGO_BYTES_MAX / 1024))
}

fn changed(event: Event, old: &Branding, new: &Branding) -> Event {
    let pairs = [
        ("display_name", &old.display_name, &new.display_name),
        ("accent_color", &old.accent_color, &new.accent_color),
        ("background_color", &old.background_color, &new.background_color),
        ("logo", &old.logo, &new.logo),
    ];
    pairs.into_iter().filter(|(_, old, new)| old != new).fold(event, |event, (field, old, new)| {
        event.changed(field, Value::from(old.clone()), Value::from(new.clone()))
    })
}

pub async fn reset_branding(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let event = request.event(vault, Owner::App(app.id), Kind::BrandingUpdated);
    let (app, if_match) = (app.id, request.if_match.clone());
    vault
        .store
        .write(move |tx| {
            let old = organizations::find_branding(tx, app)?;
            if_match.check(&of_app(app, &old))?;
            if organizations::reset_branding(tx, app)? {
                append_event(tx, &changed(event.clone(), &old, &Branding::default()).prepare())?;
            }
            Ok(())
        })
        .await
        .map_err(of_store)?;
    Ok(shown_of_app(app, &Branding::default()))
}
