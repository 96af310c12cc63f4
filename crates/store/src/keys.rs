//! API keys: only a keyed hash and the first characters are here.

use grantd_domain::grant::ApiKey;
use grantd_wire::TimeMs;
use grantd_wire::ids::{ActorId, AppId, KeyId};
use grantd_wire::key::KeyType;
use grantd_wire::scope::Scope;

use crate::apps::{json, prefix_bounds, since};
use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// Reads the columns `id … revoked_at_ms`, as every statement lists them.
pub(crate) fn read(row: &mut Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.id("api_keys.id")?,
        app_id: row.id("api_keys.app_id")?,
        key_type: row.parsed("api_keys.key_type", KeyType::parse)?,
        key_prefix: row.text("api_keys.key_prefix")?,
        name: row.text("api_keys.name")?,
        scopes: row.parsed("api_keys.scopes", |text| {
            let texts: Vec<String> = serde_json::from_str(text).ok()?;
            texts.iter().map(|t| Scope::parse(t)).collect()
        })?,
        scope_version: row.int("api_keys.scope_version")?,
        cidrs: row.json("api_keys.cidrs")?,
        rate_limit_rpm: match row.opt_int("api_keys.rate_limit_rpm")? {
            None => None,
            Some(rpm) => Some(u32::try_from(rpm).map_err(|_| row.inconsistent("api_keys.rate_limit_rpm"))?),
        },
        allow_unsigned_identity: row.opt_time("api_keys.unsigned_identity_at_ms")?.is_some(),
        parent_key_id: row.opt_id("api_keys.parent_key_id")?,
        created_at: row.time("api_keys.created_at_ms")?,
        expires_at: row.opt_time("api_keys.expires_at_ms")?,
        grace_until: row.opt_time("api_keys.grace_until_ms")?,
        deprecated_at: row.opt_time("api_keys.deprecated_at_ms")?,
        revoked_at: row.opt_time("api_keys.revoked_at_ms")?,
    })
}

/// Stores a new key.
pub fn insert(tx: &mut Tx<'_>, key: &ApiKey, key_hash: &[u8; 32]) -> Result<()> {
    let scopes: Vec<String> = key.scopes.iter().map(ToString::to_string).collect();
    tx.execute(
        "INSERT INTO api_keys (id, app_id, key_type, key_hash, key_prefix, name, name_search, scopes, scope_version, cidrs, \
         rate_limit_rpm, unsigned_identity_at_ms, parent_key_id, created_at_ms, expires_at_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1)",
        &[
            id(key.id),
            id(key.app_id),
            key.key_type.as_str().into(),
            key_hash.as_slice().into(),
            (&key.key_prefix).into(),
            (&key.name).into(),
            key.name.to_lowercase().into(),
            json(&scopes),
            key.scope_version.into(),
            json(&key.cidrs),
            key.rate_limit_rpm.map(i64::from).into(),
            since(key.allow_unsigned_identity, key.created_at),
            key.parent_key_id.map(id).into(),
            key.created_at.into(),
            key.expires_at.into(),
        ],
    )?;
    Ok(())
}

/// Keys of the app that are not revoked.
pub fn count_living(tx: &mut Tx<'_>, app: AppId) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM api_keys WHERE app_id = $1 AND revoked_at_ms IS NULL", &[id(app)])
}

/// What became of a key; no call depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// When it was last used.
    pub last_used_at: Option<TimeMs>,
    /// The key that took its place.
    pub successor_id: Option<KeyId>,
}

/// A key, and what became of it.
pub type Listed = (ApiKey, Past);

/// A key of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, key: KeyId) -> Result<Option<Listed>> {
    let sql = "SELECT id, app_id, key_type, key_prefix, name, scopes, scope_version, cidrs, rate_limit_rpm, unsigned_identity_at_ms, \
        parent_key_id, created_at_ms, expires_at_ms, grace_until_ms, deprecated_at_ms, revoked_at_ms, last_used_at_ms, successor_id \
        FROM api_keys WHERE app_id = $1 AND id = $2";
    tx.query_opt("api_keys", sql, &[id(app), id(key)])?.map(with_use).transpose()
}

fn with_use(mut row: Row) -> Result<Listed> {
    let key = read(&mut row)?;
    let last_used_at = row.opt_time("api_keys.last_used_at_ms")?;
    Ok((key, Past { last_used_at, successor_id: row.opt_id("api_keys.successor_id")? }))
}

/// What keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Names that begin so, whatever the case.
    pub search: Option<String>,
    /// As [`ApiKey::status_at`] says it.
    pub status: Option<String>,
    /// How many.
    pub limit: i64,
    /// How many to leave out first.
    pub offset: i64,
}

/// The same as [`ApiKey::status_at`], in the database.
macro_rules! filtered {
    ($columns:literal, $tail:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM api_keys WHERE app_id = $1 AND name_search >= $2 AND name_search < $3 AND (CAST($4 AS TEXT) IS NULL OR $4 = \
             CASE WHEN revoked_at_ms IS NOT NULL THEN 'revoked' WHEN expires_at_ms <= $5 THEN 'expired' \
             WHEN grace_until_ms <= $5 THEN 'rotated' WHEN grace_until_ms IS NOT NULL THEN 'in_grace' ELSE 'active' END) ",
            $tail
        )
    };
}

/// Keys of the app, oldest first, and how many there are.
pub fn list(tx: &mut Tx<'_>, app: AppId, filter: &KeyFilter, now: TimeMs) -> Result<(Vec<Listed>, i64)> {
    let (low, high) = prefix_bounds(filter.search.as_deref());
    let status = filter.status.as_ref().into();
    let params = [id(app), low, high, status, now.into(), filter.limit.into(), filter.offset.into()];
    let total = tx.count(filtered!("COUNT(*)", ""), &params[..5])?;
    let sql = filtered!(
        "id, app_id, key_type, key_prefix, name, scopes, scope_version, cidrs, rate_limit_rpm, unsigned_identity_at_ms, \
         parent_key_id, created_at_ms, expires_at_ms, grace_until_ms, deprecated_at_ms, revoked_at_ms, last_used_at_ms, successor_id",
        "ORDER BY id LIMIT $6 OFFSET $7"
    );
    let rows = tx.query("api_keys", sql, &params)?;
    Ok((rows.into_iter().map(with_use).collect::<Result<_>>()?, total))
}

/// Calls a key something else.
pub fn rename(tx: &mut Tx<'_>, app: AppId, key: KeyId, name: &str) -> Result<bool> {
    tx.change_one(
        "UPDATE api_keys SET name = $3, name_search = $4, version = version + 1 WHERE app_id = $1 AND id = $2",
        &[id(app), id(key), name.into(), name.to_lowercase().into()],
    )
}

/// Ends a key at `grace_until`, since `successor` took its place; `false` when it was revoked or rotated before. The caller
/// raises the app's epoch.
pub fn end(tx: &mut Tx<'_>, app: AppId, key: KeyId, grace_until: TimeMs, successor: Option<KeyId>) -> Result<bool> {
    tx.change_one(
        "UPDATE api_keys SET grace_until_ms = $3, successor_id = $4, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND revoked_at_ms IS NULL AND grace_until_ms IS NULL",
        &[id(app), id(key), grace_until.into(), successor.map(id).into()],
    )
}

/// Revokes a living key; `false` when it already was. The caller raises the app's epoch.
pub fn revoke(tx: &mut Tx<'_>, app: AppId, key: KeyId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE api_keys SET revoked_at_ms = $3, version = version + 1 WHERE app_id = $1 AND id = $2 AND revoked_at_ms IS NULL",
        &[id(app), id(key), at.into()],
    )
}

pub(crate) const TOUCH_SQL: &str =
    "UPDATE api_keys SET last_used_at_ms = $2 WHERE id = $1 AND (last_used_at_ms IS NULL OR last_used_at_ms < $2)";

/// Remembers when a key was last used. Outside of a write of its own, [`Store::touch_keys`](crate::Store::touch_keys) is cheaper.
pub fn touch(tx: &mut Tx<'_>, key: KeyId, at: TimeMs) -> Result<()> {
    tx.execute(TOUCH_SQL, &[id(key), at.into()]).map(drop)
}

/// The id of a caller's label, registered now if it is new. `None` when the app has too many.
pub fn register_actor(
    tx: &mut Tx<'_>,
    app: AppId,
    label: &str,
    caller_type: &str,
    new: ActorId,
    at: TimeMs,
) -> Result<Option<ActorId>> {
    let sql = "SELECT actor_id FROM actors WHERE app_id = $1 AND label = $2 AND type = $3";
    let place = [id(app), label.into(), caller_type.into()];
    if let Some(mut row) = tx.query_opt("actors", sql, &place)? {
        return row.id("actor_id").map(Some);
    }
    if tx.count("SELECT COUNT(*) FROM actors WHERE app_id = $1", &[id(app)])? >= grantd_wire::limits::ACTORS_PER_APP_MAX
    {
        return Ok(None);
    }
    let [app, label, caller_type] = place;
    tx.execute(
        "INSERT INTO actors (app_id, label, type, actor_id, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
        &[app, label, caller_type, id(new), at.into()],
    )?;
    Ok(Some(new))
}
