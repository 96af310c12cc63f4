//! Providers that apps are registered with.

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::account::{AppProvider, Facts, SealedSecret};
use grantd_domain::destination::Rule;
use grantd_domain::provider;
use grantd_wire::ids::{AppId, AppProviderId};
use grantd_wire::{Code, TimeMs};

use crate::apps::{json, prefix_bounds};
use crate::error::{Error, Result};
use crate::seam::{Row, Tx, Value, after, id, text_id};

/// The columns that [`read`] reads, of the table or alias `p`.
macro_rules! provider_columns {
    () => {
        "p.id, p.app_id, p.provider_id, p.name, p.custom, p.environment, p.fields, p.client_id, p.client_secret, p.secret_version, p.scopes, \
         p.hosts, p.problem, p.problem_at_ms, p.created_at_ms, p.updated_at_ms, p.deleted_at_ms, p.version"
    };
}
pub(crate) use provider_columns;

/// Reads the columns of [`provider_columns`].
pub(crate) fn read(row: &mut Row) -> Result<AppProvider> {
    let row_id = row.id("providers.id")?;
    let app_id = row.id("providers.app_id")?;
    let provider_id = row.text("providers.provider_id")?;
    let name = row.text("providers.name")?;
    let custom = row.opt_text("providers.custom")?;
    let environment = row.opt_text("providers.environment")?;
    let fields = match row.opt_text("providers.fields")? {
        Some(text) => serde_json::from_str(&text).map_err(|_| row.inconsistent("providers.fields"))?,
        None => BTreeMap::new(),
    };
    let facts = facts(&provider_id, &name, custom.as_deref(), environment.as_deref(), &fields);
    let facts = facts.ok_or_else(|| row.inconsistent("providers.custom"))?;
    let client_id = row.text("providers.client_id")?;
    let sealed = row.opt_bytes("providers.client_secret")?;
    let secret_version = row.int("providers.secret_version")?;
    let scopes = row.json("providers.scopes")?;
    let hosts = row.parsed("providers.hosts", |text| {
        let texts: Vec<String> = serde_json::from_str(text).ok()?;
        texts.iter().map(|t| Rule::parse(t).ok()).collect()
    })?;
    let problem = row.opt_text("providers.problem")?;
    let problem_at = row.opt_time("providers.problem_at_ms")?;
    Ok(AppProvider {
        id: row_id,
        app_id,
        provider_id,
        name,
        facts,
        environment,
        fields,
        client_id,
        client_secret: sealed.map(|sealed| SealedSecret { sealed, version: secret_version }),
        scopes,
        hosts,
        problem: problem.zip(problem_at),
        created_at: row.time("providers.created_at_ms")?,
        updated_at: row.time("providers.updated_at_ms")?,
        is_deleted: row.opt_time("providers.deleted_at_ms")?.is_some(),
        version: row.int("providers.version")?,
    })
}

/// What is known of it. A URL that is not `https` was allowed when it was written, and is held against the address guard whenever it is
/// called.
fn facts(
    provider_id: &str,
    name: &str,
    custom: Option<&str>,
    environment: Option<&str>,
    fields: &BTreeMap<String, String>,
) -> Option<Facts> {
    if let Some(text) = custom {
        let said: grantd_wire::api::CustomProvider = serde_json::from_str(text).ok()?;
        let facts = provider::of_custom(provider_id, name, &said, |_| true).ok()?;
        return Some(Facts::Custom { facts: Arc::new(facts), said: Arc::new(said) });
    }
    Facts::of_stored(provider_id, environment, fields).ok()
}

/// What is stored as JSON of a provider's own description, of its fields, and of its hosts.
fn texts(provider: &AppProvider) -> [Value; 3] {
    let custom = match &provider.facts {
        Facts::Custom { said, .. } => json(&**said),
        Facts::Catalogue(_) | Facts::Changed(_) => Value::Null,
    };
    let hosts: Vec<String> = provider.hosts.iter().map(ToString::to_string).collect();
    let fields = if provider.fields.is_empty() { Value::Null } else { json(&provider.fields) };
    [custom, fields, json(&hosts)]
}

/// Stores a new provider.
pub fn insert(tx: &mut Tx<'_>, provider: &AppProvider) -> Result<()> {
    let taken = tx.count(
        "SELECT COUNT(*) FROM providers WHERE app_id = $1 AND provider_id = $2 AND deleted_at_ms IS NULL",
        &[id(provider.app_id), (&provider.provider_id).into()],
    )?;
    if taken > 0 {
        let error = grantd_wire::Error::new(Code::NameTaken);
        return Err(error
            .message("The app has this provider already. Change it with `grantd providers update`.")
            .into());
    }
    let [custom, fields, hosts] = texts(provider);
    tx.execute(
        "INSERT INTO providers (app_id, id, provider_id, name, custom, environment, client_id, client_secret, secret_version, scopes, \
         hosts, created_at_ms, updated_at_ms, version, fields) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14)",
        &[
            id(provider.app_id),
            id(provider.id),
            (&provider.provider_id).into(),
            (&provider.name).into(),
            custom,
            provider.environment.as_ref().into(),
            (&provider.client_id).into(),
            provider.client_secret.as_ref().map(|secret| secret.sealed.as_slice()).into(),
            provider.client_secret.as_ref().map_or(0, |secret| secret.version).into(),
            json(&provider.scopes),
            hosts,
            provider.created_at.into(),
            provider.version.into(),
            fields,
        ],
    )?;
    Ok(())
}

/// Writes what can be changed of a provider that is at `version`; what its token endpoint blamed it for is forgotten.
pub fn update(tx: &mut Tx<'_>, provider: &AppProvider, version: i64) -> Result<()> {
    let [custom, fields, hosts] = texts(provider);
    let changed = tx.change_one(
        "UPDATE providers SET name = $4, custom = $5, environment = $6, client_id = $7, client_secret = $8, secret_version = $9, \
         scopes = $10, hosts = $11, updated_at_ms = $12, fields = $13, problem = NULL, problem_at_ms = NULL, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND deleted_at_ms IS NULL",
        &[
            id(provider.app_id),
            id(provider.id),
            version.into(),
            (&provider.name).into(),
            custom,
            provider.environment.as_ref().into(),
            (&provider.client_id).into(),
            provider.client_secret.as_ref().map(|secret| secret.sealed.as_slice()).into(),
            provider.client_secret.as_ref().map_or(0, |secret| secret.version).into(),
            json(&provider.scopes),
            hosts,
            provider.updated_at.into(),
            fields,
        ],
    )?;
    if changed { Ok(()) } else { Err(Error::from(Code::Conflict)) }
}

/// A provider of the app that is not deleted, by its id or the provider's.
pub fn find(tx: &mut Tx<'_>, app: AppId, id_or_provider: &str) -> Result<Option<AppProvider>> {
    let sql = concat!(
        "SELECT ",
        provider_columns!(),
        " FROM providers p WHERE p.app_id = $1 AND (p.id = $3 OR p.provider_id = $2) AND p.deleted_at_ms IS NULL"
    );
    let row = tx.query_opt("providers", sql, &[id(app), id_or_provider.into(), text_id(id_or_provider)])?;
    row.map(|mut row| read(&mut row)).transpose()
}

/// A provider of the app, deleted or not.
pub fn find_row(tx: &mut Tx<'_>, app: AppId, provider: AppProviderId) -> Result<Option<AppProvider>> {
    let sql = concat!("SELECT ", provider_columns!(), " FROM providers p WHERE p.app_id = $1 AND p.id = $2");
    tx.query_opt("providers", sql, &[id(app), id(provider)])?.map(|mut row| read(&mut row)).transpose()
}

/// Providers of the app whose id or name begins with `search`, by their id, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    app: AppId,
    search: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<AppProvider>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM providers WHERE app_id = $1 AND provider_id >= $2 AND provider_id < $3 AND deleted_at_ms IS NULL",
        &[id(app), low.clone(), high.clone()],
    )?;
    let sql = concat!(
        "SELECT ",
        provider_columns!(),
        " FROM providers p WHERE p.app_id = $1 AND p.provider_id >= $2 AND p.provider_id < $3 AND p.deleted_at_ms IS NULL \
         ORDER BY p.provider_id LIMIT $4 OFFSET $5"
    );
    let rows = tx.query("providers", sql, &[id(app), low, high, limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<_>>()?, total))
}

/// Deletes a provider; `false` when it was already. Its row stays, because revoked grants and events name it.
pub fn delete(tx: &mut Tx<'_>, app: AppId, provider: AppProviderId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE providers SET deleted_at_ms = $3, updated_at_ms = $3, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL",
        &[id(app), id(provider), at.into()],
    )
}

/// Notes what the token endpoint blamed the registration for, or that it does not any more; `false` when that was noted before.
pub fn set_problem(
    tx: &mut Tx<'_>,
    app: AppId,
    provider: AppProviderId,
    problem: Option<&str>,
    at: TimeMs,
) -> Result<bool> {
    tx.change_one(
        "UPDATE providers SET problem = $3, problem_at_ms = CASE WHEN CAST($3 AS TEXT) IS NULL THEN NULL ELSE CAST($4 AS BIGINT) END \
         WHERE app_id = $1 AND id = $2 AND COALESCE(problem, '') <> COALESCE($3, '')",
        &[id(app), id(provider), problem.map(str::to_owned).into(), at.into()],
    )
}

/// Providers of every app whose secret is kept, and whose app is not deleted, after `last`, in a fixed order.
pub fn list_all(tx: &mut Tx<'_>, last: Option<(AppId, AppProviderId)>, limit: i64) -> Result<Vec<AppProvider>> {
    let sql = concat!(
        "SELECT ",
        provider_columns!(),
        " FROM providers p WHERE p.client_secret IS NOT NULL AND (p.app_id > $1 OR (p.app_id = $1 AND p.id > $2)) \
         AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.id = p.app_id AND apps.state = 'deleted') \
         ORDER BY p.app_id, p.id LIMIT $3"
    );
    let rows = tx.query("providers", sql, &[after(last.map(|l| l.0)), after(last.map(|l| l.1)), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}
