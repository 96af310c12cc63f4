//! How long an app's trail is kept, and holds that forbid to remove anything of it.

use grantd_domain::audit::{Kind, Owner};
use grantd_domain::grant::{App, check_text};
use grantd_store::append_event;
use grantd_store::retention::{self, Hold, Override};
use grantd_wire::api::{AppRetention, AppRetentionSet, LegalHold, LegalHoldSet};
use grantd_wire::{Error, Retention, limits};

use super::Request;
use super::version::{of_app, shown_of_app};
use crate::answer::{Answer, of_store};
use crate::parse;
use crate::vault::Vault;

fn view(own: Option<Override>, install: Retention) -> AppRetention {
    AppRetention {
        retention: own.map_or(install, |own| own.retention).to_string(),
        is_default: own.is_none(),
        updated_at: own.map(|own| own.updated_at),
    }
}

pub async fn show(vault: &Vault, app: &App) -> Result<Answer, Error> {
    let app = app.id;
    let own = vault.store.read(move |tx| retention::find(tx, app)).await.map_err(of_store)?;
    Ok(shown_of_app(app, &view(own, vault.settings.retention)))
}

pub async fn set(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let AppRetentionSet { retention } = parse::json(&request.body)?;
    let wanted = Retention::parse(&retention)
        .map_err(|why| Error::impossible("retention", &format!("is not possible: {why}")))?;
    change(vault, request, app, Some(wanted)).await
}

pub async fn reset(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    change(vault, request, app, None).await
}

/// Writes what the app says, or that it says nothing, and tells it unless it is as before.
async fn change(vault: &Vault, request: &Request, app: &App, wanted: Option<Retention>) -> Result<Answer, Error> {
    let event = request.event(vault, Owner::App(app.id), Kind::RetentionUpdated);
    let (app, now, install) = (app.id, request.source.now, vault.settings.retention);
    let if_match = request.if_match.clone();
    let own = vault
        .store
        .write(move |tx| {
            let old = retention::find(tx, app)?;
            if_match.check(&of_app(app, &view(old, install)))?;
            if old.map(|own| own.retention) == wanted {
                return Ok(old);
            }
            match wanted {
                Some(wanted) => retention::set(tx, app, wanted, now)?,
                None => drop(retention::reset(tx, app)?),
            }
            let new = wanted.map(|retention| Override { retention, updated_at: now });
            let text = |own: Option<Override>| {
                own.map_or_else(|| format!("{install} (default)"), |own| own.retention.to_string())
            };
            append_event(tx, &event.clone().changed("retention", text(old), text(new)).prepare())?;
            Ok(new)
        })
        .await
        .map_err(of_store)?;
    Ok(shown_of_app(app, &view(own, install)))
}

fn view_hold(hold: Option<Hold>) -> LegalHold {
    let held = hold.is_some();
    let (reason, operator_id, held_at) = hold
        .map_or((None, None, None), |hold| (Some(hold.reason), Some(hold.operator_id.to_string()), Some(hold.held_at)));
    LegalHold { held, reason, operator_id, held_at }
}

pub async fn show_hold(vault: &Vault, app: &App) -> Result<Answer, Error> {
    let app = app.id;
    let hold = vault.store.read(move |tx| retention::find_hold(tx, app)).await.map_err(of_store)?;
    Ok(shown_of_app(app, &view_hold(hold)))
}

/// Puts the app under a hold. One that stands for the same reason stays as it is.
pub async fn hold(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let LegalHoldSet { reason } = parse::json(&request.body)?;
    check_text("reason", &reason, limits::REASON_CHARS_MAX)?;
    let event =
        request.event(vault, Owner::App(app.id), Kind::HoldSet).private("reason", Some(reason.clone())).prepare();
    let new = Hold { reason, operator_id: request.operator.id, held_at: request.source.now };
    let (app, if_match) = (app.id, request.if_match.clone());
    let hold = vault
        .store
        .write(move |tx| {
            let old = retention::find_hold(tx, app)?;
            if_match.check(&of_app(app, &view_hold(old.clone())))?;
            match old {
                Some(old) if old.reason == new.reason => Ok(old),
                _ => {
                    retention::hold(tx, app, &new)?;
                    append_event(tx, &event)?;
                    Ok(new.clone())
                }
            }
        })
        .await
        .map_err(of_store)?;
    Ok(shown_of_app(app, &view_hold(Some(hold))))
}

pub async fn release(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let event = request.event(vault, Owner::App(app.id), Kind::HoldReleased).prepare();
    let (app, if_match) = (app.id, request.if_match.clone());
    vault
        .store
        .write(move |tx| {
            if_match.check(&of_app(app, &view_hold(retention::find_hold(tx, app)?)))?;
            if retention::release(tx, app)? { append_event(tx, &event) } else { Ok(()) }
        })
        .await
        .map_err(of_store)?;
    Ok(shown_of_app(app, &view_hold(None)))
}
