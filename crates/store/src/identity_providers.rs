//! Identity providers of apps, and the keys they were last seen to publish.

use grantd_domain::account::SealedSecret;
use grantd_domain::identity::{Algorithm, IdentityProvider, Preset, ProviderState};
use grantd_wire::ids::{AppId, IdentityProviderId};
use grantd_wire::{Code, TimeMs};

use crate::apps::{json, prefix_bounds};
use crate::error::{Error, Result};
use crate::hot::Epochs;
use crate::seam::{Row, Tx, Value, after, id, text_id};
use crate::{Store, hot};

/// The columns that [`read`] reads, of the table or alias `i`.
macro_rules! idp_columns {
    () => {
        "i.id, i.app_id, i.name, i.preset, i.issuer, i.audiences, i.algorithms, i.claims, i.endpoints, i.client_id, i.client_secret, \
         i.secret_version, i.scopes, i.state, i.created_at_ms, i.updated_at_ms, i.deleted_at_ms, i.version"
    };
}

fn read(row: &mut Row) -> Result<IdentityProvider> {
    let idp = read_opt(row)?;
    idp.ok_or_else(|| row.inconsistent("identity_providers.id"))
}

/// `None`: an outer join found nothing.
fn read_opt(row: &mut Row) -> Result<Option<IdentityProvider>> {
    let Some(idp) = row.opt_id("identity_providers.id")? else { return Ok(None) };
    let app_id = row.id("identity_providers.app_id")?;
    let name = row.text("identity_providers.name")?;
    let preset = row.parsed("identity_providers.preset", Preset::find)?;
    let issuer = row.text("identity_providers.issuer")?;
    let audiences = row.json("identity_providers.audiences")?;
    let algorithms = row.parsed("identity_providers.algorithms", |text| {
        let texts: Vec<String> = serde_json::from_str(text).ok()?;
        texts.iter().map(|text| Algorithm::parse(text)).collect()
    })?;
    let claims = row.json("identity_providers.claims")?;
    let endpoints = row.json("identity_providers.endpoints")?;
    let client_id = row.opt_text("identity_providers.client_id")?;
    let sealed = row.opt_bytes("identity_providers.client_secret")?;
    let version = row.int("identity_providers.secret_version")?;
    Ok(Some(IdentityProvider {
        id: idp,
        app_id,
        name,
        preset,
        issuer,
        audiences,
        algorithms,
        claims,
        endpoints,
        client_id,
        client_secret: sealed.map(|sealed| SealedSecret { sealed, version }),
        scopes: row.json("identity_providers.scopes")?,
        state: row.parsed("identity_providers.state", ProviderState::parse)?,
        created_at: row.time("identity_providers.created_at_ms")?,
        updated_at: row.time("identity_providers.updated_at_ms")?,
        is_deleted: row.opt_time("identity_providers.deleted_at_ms")?.is_some(),
        version: row.int("identity_providers.version")?,
    }))
}

/// What is stored of one, from its name to its state.
fn columns(idp: &IdentityProvider) -> [Value; 13] {
    let algorithms: Vec<&str> = idp.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    let secret = idp.client_secret.as_ref();
    [
        (&idp.name).into(),
        idp.name.to_lowercase().into(),
        idp.preset.id.into(),
        (&idp.issuer).into(),
        json(&idp.audiences),
        json(&algorithms),
        json(&idp.claims),
        json(&idp.endpoints),
        idp.client_id.as_ref().into(),
        secret.map(|secret| secret.sealed.as_slice()).into(),
        secret.map_or(0, |secret| secret.version).into(),
        json(&idp.scopes),
        idp.state.as_str().into(),
    ]
}

/// Stores a new identity provider, unless the app has one of that issuer.
pub fn insert(tx: &mut Tx<'_>, idp: &IdentityProvider) -> Result<()> {
    check_issuer(tx, idp)?;
    let mut params = vec![id(idp.app_id), id(idp.id)];
    params.extend(columns(idp));
    params.extend([idp.created_at.into(), idp.version.into()]);
    tx.execute(
        "INSERT INTO identity_providers (app_id, id, name, name_search, preset, issuer, audiences, algorithms, claims, endpoints, \
         client_id, client_secret, secret_version, scopes, state, created_at_ms, updated_at_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17)",
        &params,
    )?;
    Ok(())
}

fn check_issuer(tx: &mut Tx<'_>, idp: &IdentityProvider) -> Result<()> {
    let taken = tx.count(
        "SELECT COUNT(*) FROM identity_providers WHERE app_id = $1 AND issuer = $2 AND id <> $3 AND deleted_at_ms IS NULL",
        &[id(idp.app_id), (&idp.issuer).into(), id(idp.id)],
    )?;
    if taken == 0 {
        return Ok(());
    }
    let error = grantd_wire::Error::new(Code::NameTaken);
    Err(error
        .message("The app has an identity provider of this issuer already. Change it with `grantd idp update`.")
        .into())
}

/// Writes one that is at `version`. The caller raises the app's epoch.
pub fn update(tx: &mut Tx<'_>, idp: &IdentityProvider, version: i64) -> Result<()> {
    check_issuer(tx, idp)?;
    let mut params = vec![id(idp.app_id), id(idp.id)];
    params.extend(columns(idp));
    params.extend([idp.updated_at.into(), version.into()]);
    let changed = tx.change_one(
        "UPDATE identity_providers SET name = $3, name_search = $4, preset = $5, issuer = $6, audiences = $7, algorithms = $8, \
         claims = $9, endpoints = $10, client_id = $11, client_secret = $12, secret_version = $13, scopes = $14, state = $15, \
         updated_at_ms = $16, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND version = $17 AND deleted_at_ms IS NULL",
        &params,
    )?;
    if changed { Ok(()) } else { Err(Error::from(Code::Conflict)) }
}

/// An identity provider of the app that is not deleted, by its id or its issuer.
pub fn find(tx: &mut Tx<'_>, app: AppId, id_or_issuer: &str) -> Result<Option<IdentityProvider>> {
    let sql = concat!(
        "SELECT ",
        idp_columns!(),
        " FROM identity_providers i WHERE i.app_id = $1 AND (i.id = $3 OR i.issuer = $2) AND i.deleted_at_ms IS NULL"
    );
    let row = tx.query_opt("identity_providers", sql, &[id(app), id_or_issuer.into(), text_id(id_or_issuer)])?;
    row.map(|mut row| read(&mut row)).transpose()
}

/// An identity provider of the app, deleted or not.
pub fn find_row(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<Option<IdentityProvider>> {
    let sql = concat!("SELECT ", idp_columns!(), " FROM identity_providers i WHERE i.app_id = $1 AND i.id = $2");
    let row = tx.query_opt("identity_providers", sql, &[id(app), id(idp)])?;
    row.map(|mut row| read(&mut row)).transpose()
}

/// Identity providers of the app whose name begins with `search`, oldest first, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    app: AppId,
    search: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<IdentityProvider>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM identity_providers WHERE app_id = $1 AND name_search >= $2 AND name_search < $3 \
         AND deleted_at_ms IS NULL",
        &[id(app), low.clone(), high.clone()],
    )?;
    let sql = concat!(
        "SELECT ",
        idp_columns!(),
        " FROM identity_providers i WHERE i.app_id = $1 AND i.name_search >= $2 AND i.name_search < $3 AND i.deleted_at_ms IS NULL \
         ORDER BY i.id LIMIT $4 OFFSET $5"
    );
    let rows = tx.query("identity_providers", sql, &[id(app), low, high, limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(|mut row| read(&mut row)).collect::<Result<_>>()?, total))
}

/// Deletes one; `false` when it was already. Its row stays, because users, groups and events name it. The caller raises the app's epoch.
pub fn delete(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE identity_providers SET deleted_at_ms = $3, updated_at_ms = $3, client_secret = NULL, jwks = NULL, \
         version = version + 1 WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL",
        &[id(app), id(idp), at.into()],
    )
}

/// Identity providers of every app whose secret is kept, and whose app is not deleted, after `last`, in a fixed order.
pub fn list_all(
    tx: &mut Tx<'_>,
    last: Option<(AppId, IdentityProviderId)>,
    limit: i64,
) -> Result<Vec<IdentityProvider>> {
    let sql = concat!(
        "SELECT ",
        idp_columns!(),
        " FROM identity_providers i WHERE i.client_secret IS NOT NULL AND (i.app_id > $1 OR (i.app_id = $1 AND i.id > $2)) \
         AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.id = i.app_id AND apps.state = 'deleted') \
         ORDER BY i.app_id, i.id LIMIT $3"
    );
    let params = [after(last.map(|l| l.0)), after(last.map(|l| l.1)), limit.into()];
    let rows = tx.query("identity_providers", sql, &params)?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Keys as they were fetched, from where and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    pub url: String,
    pub at: TimeMs,
    pub text: String,
}

/// The keys that were fetched last.
pub fn find_keys(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<Option<Fetched>> {
    let sql = "SELECT jwks, jwks_url, jwks_fetched_at_ms FROM identity_providers WHERE app_id = $1 AND id = $2";
    let Some(mut row) = tx.query_opt("identity_providers", sql, &[id(app), id(idp)])? else { return Ok(None) };
    let (text, url) = (row.opt_text("identity_providers.jwks")?, row.opt_text("identity_providers.jwks_url")?);
    let at = row.opt_time("identity_providers.jwks_fetched_at_ms")?;
    Ok(text.zip(url).zip(at).map(|((text, url), at)| Fetched { url, at, text }))
}

/// Keeps keys that were fetched, unless newer ones are kept. It moves no version: what is registered is the same.
pub fn keep_keys(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, fetched: &Fetched) -> Result<bool> {
    tx.change_one(
        "UPDATE identity_providers SET jwks = $3, jwks_url = $4, jwks_fetched_at_ms = $5 \
         WHERE app_id = $1 AND id = $2 AND deleted_at_ms IS NULL AND (jwks_fetched_at_ms IS NULL OR jwks_fetched_at_ms < $5)",
        &[id(app), id(idp), (&fetched.text).into(), (&fetched.url).into(), fetched.at.into()],
    )
}

impl Store {
    /// The app's identity provider of an issuer, and the epochs of that moment. `None`: the app is gone.
    pub async fn find_issuer(&self, app: AppId, issuer: &str) -> Result<Option<(Epochs, Option<IdentityProvider>)>> {
        let sql = concat!(
            "SELECT o.epoch, a.epoch, ",
            idp_columns!(),
            " FROM apps a JOIN organizations o ON o.id = a.organization_id \
             LEFT JOIN identity_providers i ON i.app_id = a.id AND i.issuer = $2 AND i.deleted_at_ms IS NULL WHERE a.id = $1"
        );
        let (era, row) = self.fetch_row("identity_providers", sql, vec![id(app), issuer.into()]).await?;
        let Some(mut row) = row else { return Ok(None) };
        let epochs = hot::epochs(era, &mut row)?;
        Ok(Some((epochs, read_opt(&mut row)?)))
    }
}
