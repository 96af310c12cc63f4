//! Apps.

use grantd_domain::audit::{Kind, Owner};
use grantd_domain::connect;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{App, AppState, check_text};
use grantd_domain::seal::WrappedKey;
use grantd_store::{Tx, append_event, apps, data_keys, retention};
use grantd_wire::api::{AppCreate, AppUpdate, ConnectSignIn, ListQuery, Retrieve, TenantMode};
use grantd_wire::ids::{AppId, DataKeyId};
use grantd_wire::{Code, Error, api, limits};
use serde_json::json;

use super::version::{IfMatch, shown};
use super::{Request, page};
use crate::answer::{Answer, of_store};
use crate::flow;
use crate::parse;
use crate::vault::Vault;

/// Context keys that are indexed from the start.
const INDEXED_DEFAULT: [&str; 3] = ["user_id", "run_id", "thread_id"];

/// An app as operators see it.
pub fn view(app: &App) -> api::App {
    api::App {
        id: app.id.to_string(),
        name: app.name.clone(),
        description: app.description.clone(),
        website_url: app.website_url.clone(),
        state: apps::state_text(app.state).to_owned(),
        tenant_key: app.tenant_key.clone(),
        tenant_mode: app.tenant_mode,
        retrieve: app.retrieve,
        indexed_context_keys: app.indexed_context_keys.clone(),
        connect_sign_in: app.connect_sign_in,
        return_origins: app.return_origins.clone(),
        created_at: app.created_at,
        version: app.version,
    }
}

pub async fn list(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let organization = request.operator.organization_id;
    if let Some(mut ids) = request.who.app_ids().cloned() {
        // A token for some apps sees those, in the order of all of them, and counts no others.
        ids.sort_unstable();
        let mut found: Vec<App> = vault
            .store
            .read(move |tx| ids.iter().filter_map(|id| apps::find(tx, organization, *id).transpose()).collect())
            .await
            .map_err(of_store)?;
        let search = query.search.unwrap_or_default().to_lowercase();
        found.retain(|app| app.name.to_lowercase().starts_with(&search));
        let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let (skip, take) = (usize::try_from(offset).unwrap_or(0), usize::try_from(limit).unwrap_or(0));
        return Ok(page(found.iter().skip(skip).take(take).map(view).collect(), total, limit, offset));
    }
    let (found, total) = vault
        .store
        .read(move |tx| apps::list(tx, organization, query.search.as_deref(), limit, offset))
        .await
        .map_err(of_store)?;
    Ok(page(found.iter().map(view).collect(), total, limit, offset))
}

pub async fn create(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let ask: AppCreate = parse::json(&request.body)?;
    request.every_app("create another")?;
    check(Some(&ask.name), ask.description.as_deref(), ask.website_url.as_deref())?;
    let env = &*vault.env;
    let app = App {
        id: AppId::from_uuid(new_uuid(env)),
        organization_id: request.operator.organization_id,
        name: ask.name,
        description: ask.description.filter(|d| !d.is_empty()),
        website_url: ask.website_url.filter(|u| !u.is_empty()),
        state: AppState::Active,
        tenant_key: None,
        tenant_mode: TenantMode::Off,
        retrieve: Retrieve::On,
        indexed_context_keys: INDEXED_DEFAULT.map(str::to_owned).to_vec(),
        connect_sign_in: ConnectSignIn::Off,
        return_origins: Vec::new(),
        created_at: request.source.now,
        version: 1,
    };
    let (_, key): (_, WrappedKey) =
        vault.keys.root().new_data_key(env, DataKeyId::from_uuid(new_uuid(env)), Some(app.id));
    let event = request
        .event(vault, Owner::App(app.id), Kind::AppCreated)
        .changed("name", serde_json::Value::Null, app.name.clone())
        .prepare();
    let now = request.source.now;
    let insert = move |tx: &mut Tx<'_>| {
        apps::insert(tx, &app)?;
        data_keys::insert(tx, &key, now)?;
        append_event(tx, &event)?;
        Ok(view(&app))
    };
    request.once(vault, insert).await
}

fn check(name: Option<&str>, description: Option<&str>, website_url: Option<&str>) -> Result<(), Error> {
    if let Some(name) = name {
        check_text("name", name, limits::NAME_CHARS_MAX)?;
    }
    if let Some(text) = description.filter(|d| !d.is_empty()) {
        check_text("description", text, limits::DESCRIPTION_CHARS_MAX)?;
    }
    if let Some(text) = website_url.filter(|u| !u.is_empty()) {
        check_text("website_url", text, limits::DESCRIPTION_CHARS_MAX)?;
        if !text.starts_with("https://") && !text.starts_with("http://") {
            return Err(Error::impossible("website_url", "must be an http or https URL"));
        }
    }
    Ok(())
}

pub async fn update(vault: &Vault, request: &Request, old: &App) -> Result<Answer, Error> {
    let ask: AppUpdate = parse::json(&request.body)?;
    let app = updated(request, old, ask)?;
    let mut event = request.event(vault, Owner::App(app.id), Kind::AppUpdated);
    let before = serde_json::to_value(view(old)).unwrap_or_default();
    let after = serde_json::to_value(view(&app)).unwrap_or_default();
    for (field, new) in after.as_object().into_iter().flatten().filter(|(field, new)| before[*field] != **new) {
        event = event.changed(field, before[field].clone(), new.clone());
    }
    let event = event.prepare();
    let (stored, version, if_match) = (app.clone(), old.version, request.if_match.clone());
    vault
        .store
        .write(move |tx| {
            load(tx, &stored, &if_match)?;
            apps::update(tx, &stored, version)?;
            append_event(tx, &event)
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&App { version: version + 1, ..app })))
}

/// The app as it is now, if it is in the state the caller asks for.
fn load(tx: &mut Tx<'_>, app: &App, if_match: &IfMatch) -> grantd_store::Result<App> {
    let now = apps::find(tx, app.organization_id, app.id)?.ok_or(Code::NotFound)?;
    if_match.check(&view(&now))?;
    Ok(now)
}

/// Archives an app, takes it back, or deletes it. Where it is already, nothing happens.
pub async fn set_state(vault: &Vault, request: &Request, app: &App, to: AppState) -> Result<Answer, Error> {
    app.state.check_move(to)?;
    if app.state == to {
        request.if_match.check(&view(app))?;
        return Ok(shown(200, &view(app)));
    }
    let drafts = request.drafts(vault, app, flow::apps::KINDS);
    let (old, if_match) = (app.clone(), request.if_match.clone());
    let (app, destroyed) = vault
        .store
        .write(move |tx| {
            load(tx, &old, &if_match)?;
            if to == AppState::Deleted {
                retention::check_not_held(tx, old.id)?;
            }
            let destroyed = flow::apps::set_state(tx, &old, to, &drafts)?;
            Ok((load(tx, &old, &IfMatch::Absent)?, destroyed))
        })
        .await
        .map_err(of_store)?;
    vault.keys.forget(app.id, &destroyed);
    Ok(shown(200, &view(&app)))
}

fn return_origins(origins: Vec<String>) -> Result<Vec<String>, Error> {
    if origins.len() > limits::RETURN_ORIGINS_MAX {
        return Err(Error::impossible("return_origins", &format!("must be at most {}", limits::RETURN_ORIGINS_MAX)));
    }
    if let Some(bad) = origins.iter().find(|origin| !connect::is_origin(origin)) {
        let why =
            "must each be an origin such as https://app.example.com, without a slash at its end; http only on loopback";
        return Err(Error::impossible("return_origins", why).detail("value", bad.clone()));
    }
    Ok(origins)
}

fn updated(request: &Request, old: &App, ask: AppUpdate) -> Result<App, Error> {
    check(ask.name.as_deref(), ask.description.as_deref(), ask.website_url.as_deref())?;
    let mut app = old.clone();
    if ask.tenant_mode.is_some() || ask.tenant_key.is_some() {
        request.admin_only("change the tenant guard")?;
    }
    if ask.connect_sign_in.is_some() || ask.return_origins.is_some() {
        request.admin_only("change who may connect, and where they are sent back to")?;
    }
    if let Some(name) = ask.name {
        app.name = name;
    }
    if let Some(text) = ask.description {
        app.description = Some(text).filter(|t| !t.is_empty());
    }
    if let Some(text) = ask.website_url {
        app.website_url = Some(text).filter(|t| !t.is_empty());
    }
    if let Some(key) = ask.tenant_key {
        if !key.is_empty() {
            check_text("tenant_key", &key, limits::CONTEXT_KEY_CHARS_MAX)?;
        }
        app.tenant_key = Some(key).filter(|k| !k.is_empty());
    }
    app.tenant_mode = ask.tenant_mode.unwrap_or(app.tenant_mode);
    app.retrieve = ask.retrieve.unwrap_or(app.retrieve);
    if let Some(keys) = ask.indexed_context_keys {
        if keys.len() > limits::INDEXED_CONTEXT_KEYS_MAX {
            let most = limits::INDEXED_CONTEXT_KEYS_MAX;
            return Err(Error::impossible("indexed_context_keys", &format!("must be at most {most}")));
        }
        for key in &keys {
            check_text("indexed_context_keys", key, limits::CONTEXT_KEY_CHARS_MAX)?;
        }
        app.indexed_context_keys = keys;
    }
    app.connect_sign_in = ask.connect_sign_in.unwrap_or(app.connect_sign_in);
    if let Some(origins) = ask.return_origins {
        app.return_origins = return_origins(origins)?;
    }
    if app.tenant_key.is_none() && app.tenant_mode != TenantMode::Off {
        return Err(Error::impossible("tenant_key", "is needed while tenant_mode is not off")
            .detail("tenant_mode", json!(app.tenant_mode)));
    }
    Ok(app)
}
