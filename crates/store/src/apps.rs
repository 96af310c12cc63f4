//! Apps and their epochs.

use grantd_domain::grant::{App, AppState};
use grantd_wire::TimeMs;
use grantd_wire::api::{ConnectSignIn, Retrieve, TenantMode};
use grantd_wire::ids::{AppId, OrganizationId};

use crate::error::{Error, Result};
use crate::seam::{Row, Tx, Value, id};

pub(crate) fn parse_state(text: &str) -> Option<AppState> {
    match text {
        "active" => Some(AppState::Active),
        "archived" => Some(AppState::Archived),
        "deleted" => Some(AppState::Deleted),
        _ => None,
    }
}

/// How a state is written.
pub fn state_text(state: AppState) -> &'static str {
    match state {
        AppState::Active => "active",
        AppState::Archived => "archived",
        AppState::Deleted => "deleted",
    }
}

fn tenant_mode_text(mode: TenantMode) -> &'static str {
    match mode {
        TenantMode::Off => "off",
        TenantMode::Observe => "observe",
        TenantMode::Enforce => "enforce",
    }
}

fn parse_tenant_mode(text: &str) -> Option<TenantMode> {
    [TenantMode::Off, TenantMode::Observe, TenantMode::Enforce].into_iter().find(|m| tenant_mode_text(*m) == text)
}

fn retrieve_text(retrieve: Retrieve) -> &'static str {
    match retrieve {
        Retrieve::On => "on",
        Retrieve::Off => "off",
    }
}

fn connect_sign_in_text(demand: ConnectSignIn) -> &'static str {
    match demand {
        ConnectSignIn::Off => "off",
        ConnectSignIn::Required => "required",
    }
}

/// Reads the columns `id … version`, as every statement here lists them.
pub(crate) fn read(row: &mut Row) -> Result<App> {
    Ok(App {
        id: row.id("apps.id")?,
        organization_id: row.id("apps.organization_id")?,
        name: row.text("apps.name")?,
        description: row.opt_text("apps.description")?,
        website_url: row.opt_text("apps.website_url")?,
        state: row.parsed("apps.state", parse_state)?,
        tenant_key: row.opt_text("apps.tenant_key")?,
        tenant_mode: row.parsed("apps.tenant_mode", parse_tenant_mode)?,
        retrieve: row.parsed("apps.retrieve", |t| match t {
            "on" => Some(Retrieve::On),
            "off" => Some(Retrieve::Off),
            _ => None,
        })?,
        indexed_context_keys: row.json("apps.indexed_context_keys")?,
        connect_sign_in: row.parsed("apps.connect_sign_in", |text| {
            [ConnectSignIn::Off, ConnectSignIn::Required]
                .into_iter()
                .find(|demand| connect_sign_in_text(*demand) == text)
        })?,
        return_origins: row.json("apps.return_origins")?,
        created_at: row.time("apps.created_at_ms")?,
        version: row.int("apps.version")?,
    })
}

/// Stores a new app at epoch 1.
pub fn insert(tx: &mut Tx<'_>, app: &App) -> Result<()> {
    tx.execute(
        "INSERT INTO apps (id, organization_id, name, name_search, description, website_url, state, epoch, policy_version, \
         tenant_key, tenant_mode, retrieve, indexed_context_keys, connect_sign_in, return_origins, created_at_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 1, $8, $9, $10, $11, $12, $13, $14, $15)",
        &[
            id(app.id),
            id(app.organization_id),
            (&app.name).into(),
            app.name.to_lowercase().into(),
            app.description.as_ref().into(),
            app.website_url.as_ref().into(),
            state_text(app.state).into(),
            app.tenant_key.as_ref().into(),
            tenant_mode_text(app.tenant_mode).into(),
            retrieve_text(app.retrieve).into(),
            json(&app.indexed_context_keys),
            connect_sign_in_text(app.connect_sign_in).into(),
            json(&app.return_origins),
            app.created_at.into(),
            app.version.into(),
        ],
    )?;
    Ok(())
}

/// JSON text of strings.
pub(crate) fn json(value: &impl serde::Serialize) -> Value {
    Value::Text(serde_json::to_string(value).expect("strings and numbers have a JSON form"))
}

/// Writes an app's settings, if it is still at `version`, and raises its epoch: any of them may turn an allow into a deny.
pub fn update(tx: &mut Tx<'_>, app: &App, version: i64) -> Result<()> {
    let changed = tx.change_one(
        "UPDATE apps SET name = $3, name_search = $4, description = $5, website_url = $6, tenant_key = $7, tenant_mode = $8, \
         retrieve = $9, indexed_context_keys = $10, connect_sign_in = $11, return_origins = $12, version = version + 1, epoch = epoch + 1 WHERE id = $1 AND version = $2",
        &[
            id(app.id),
            version.into(),
            (&app.name).into(),
            app.name.to_lowercase().into(),
            app.description.as_ref().into(),
            app.website_url.as_ref().into(),
            app.tenant_key.as_ref().into(),
            tenant_mode_text(app.tenant_mode).into(),
            retrieve_text(app.retrieve).into(),
            json(&app.indexed_context_keys),
            connect_sign_in_text(app.connect_sign_in).into(),
            json(&app.return_origins),
        ],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// Brings an app from one state into another and raises its epoch; `false` when it is in a third one by now.
pub fn set_state(tx: &mut Tx<'_>, app: AppId, from: AppState, to: AppState) -> Result<bool> {
    tx.change_one(
        "UPDATE apps SET state = $3, version = version + 1, epoch = epoch + 1 WHERE id = $1 AND state = $2",
        &[id(app), state_text(from).into(), state_text(to).into()],
    )
}

/// Whether the app's data keys are destroyed, for good.
pub fn is_deleted(tx: &mut Tx<'_>, app: AppId) -> Result<bool> {
    Ok(tx.count("SELECT COUNT(*) FROM apps WHERE id = $1 AND state = 'deleted'", &[id(app)])? > 0)
}

/// Whether the app is in use.
pub fn is_active(tx: &mut Tx<'_>, app: AppId) -> Result<bool> {
    Ok(tx.count("SELECT COUNT(*) FROM apps WHERE id = $1 AND state = 'active'", &[id(app)])? > 0)
}

/// Raises the app's epoch: every decision made before is made again.
pub fn raise_epoch(tx: &mut Tx<'_>, app: AppId) -> Result<()> {
    if tx.change_one("UPDATE apps SET epoch = epoch + 1 WHERE id = $1", &[id(app)])? {
        Ok(())
    } else {
        Err(Error::Inconsistent { table: "apps", column: "id", row: app.to_string() })
    }
}

/// An app of the organization.
pub fn find(tx: &mut Tx<'_>, organization: OrganizationId, app: AppId) -> Result<Option<App>> {
    let sql = "SELECT id, organization_id, name, description, website_url, state, tenant_key, tenant_mode, retrieve, \
        indexed_context_keys, connect_sign_in, return_origins, created_at_ms, version FROM apps WHERE organization_id = $1 AND id = $2";
    tx.query_opt("apps", sql, &[id(organization), id(app)])?.map(|mut row| read(&mut row)).transpose()
}

/// Apps of the organization whose name begins with `search`, oldest first, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    search: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<App>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM apps WHERE organization_id = $1 AND name_search >= $2 AND name_search < $3",
        &[id(organization), low.clone(), high.clone()],
    )?;
    let sql = "SELECT id, organization_id, name, description, website_url, state, tenant_key, tenant_mode, retrieve, \
        indexed_context_keys, connect_sign_in, return_origins, created_at_ms, version FROM apps \
        WHERE organization_id = $1 AND name_search >= $2 AND name_search < $3 ORDER BY id LIMIT $4 OFFSET $5";
    let rows = tx.query("apps", sql, &[id(organization), low, high, limit.into(), offset.into()])?;
    let apps = rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<_>>()?;
    Ok((apps, total))
}

/// The range of texts that begin with `search`, lower-cased. Everything, when there is none.
pub(crate) fn prefix_bounds(search: Option<&str>) -> (Value, Value) {
    exact_prefix_bounds(&search.unwrap_or_default().to_lowercase())
}

/// Bounds of what begins with `search` to the letter.
pub(crate) fn exact_prefix_bounds(search: &str) -> (Value, Value) {
    (search.into(), format!("{search}{}", '\u{10FFFF}').into())
}

/// When something was allowed, for columns that stand for a flag.
pub(crate) fn since(allowed: bool, at: TimeMs) -> Value {
    allowed.then_some(at).into()
}
