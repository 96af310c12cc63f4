//! Data keys, wrapped under the root key.

use grantd_domain::seal::{SEALS_BLOCK, WrappedKey};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, DataKeyId};

use crate::error::Result;
use crate::seam::{Row, Tx, after, id};

fn read(row: &mut Row) -> Result<WrappedKey> {
    Ok(WrappedKey {
        id: row.id("data_keys.id")?,
        app: row.opt_id("data_keys.app_id")?,
        wrapped: row.bytes("data_keys.wrapped")?,
        root_key_id: row.text("data_keys.root_key_id")?,
    })
}

/// Stores a new data key with its first block of seals reserved for the caller.
pub fn insert(tx: &mut Tx<'_>, key: &WrappedKey, at: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO data_keys (id, app_id, wrapped, root_key_id, seals_reserved, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            id(key.id),
            key.app.map(id).into(),
            key.wrapped.as_slice().into(),
            (&key.root_key_id).into(),
            SEALS_BLOCK.into(),
            at.into(),
        ],
    )?;
    Ok(())
}

/// A data key of the app, or of the install. Another app's key is not found.
pub fn find(tx: &mut Tx<'_>, app: Option<AppId>, key: DataKeyId) -> Result<Option<WrappedKey>> {
    let sql = "SELECT id, app_id, wrapped, root_key_id FROM data_keys WHERE id = $1";
    let found = tx.query_opt("data_keys", sql, &[id(key)])?.map(|mut row| read(&mut row)).transpose()?;
    Ok(found.filter(|found| found.app == app))
}

/// The key an app seals with now, unless it is too old or used up: then `None`, and a new one is to be made.
pub fn find_current(tx: &mut Tx<'_>, app: AppId, made_after: TimeMs, seals_max: i64) -> Result<Option<WrappedKey>> {
    let sql = "SELECT id, app_id, wrapped, root_key_id FROM data_keys WHERE app_id = $1 AND retired_at_ms IS NULL \
        AND created_at_ms > $2 AND seals_reserved <= $3 ORDER BY id DESC LIMIT 1";
    let params = [id(app), made_after.into(), (seals_max - SEALS_BLOCK).into()];
    tx.query_opt("data_keys", sql, &params)?.map(|mut row| read(&mut row)).transpose()
}

/// As [`find_current`], of the install.
pub fn find_current_of_install(tx: &mut Tx<'_>, made_after: TimeMs, seals_max: i64) -> Result<Option<WrappedKey>> {
    let sql = "SELECT id, app_id, wrapped, root_key_id FROM data_keys WHERE app_id IS NULL AND retired_at_ms IS NULL \
        AND created_at_ms > $1 AND seals_reserved <= $2 ORDER BY id DESC LIMIT 1";
    let params = [made_after.into(), (seals_max - SEALS_BLOCK).into()];
    tx.query_opt("data_keys", sql, &params)?.map(|mut row| read(&mut row)).transpose()
}

/// Reserves a block of seals; `false` when the key may seal no more.
pub fn reserve(tx: &mut Tx<'_>, key: DataKeyId, seals_max: i64) -> Result<bool> {
    tx.change_one(
        "UPDATE data_keys SET seals_reserved = seals_reserved + $2 WHERE id = $1 AND seals_reserved + $2 <= $3",
        &[id(key), SEALS_BLOCK.into(), seals_max.into()],
    )
}

/// Destroys the data keys of an app, and names them: what they sealed can never be opened again.
pub fn destroy(tx: &mut Tx<'_>, app: AppId) -> Result<Vec<DataKeyId>> {
    let rows = tx.query("data_keys", "SELECT id FROM data_keys WHERE app_id = $1", &[id(app)])?;
    tx.execute("DELETE FROM data_keys WHERE app_id = $1", &[id(app)])?;
    rows.into_iter().map(|mut row| row.id("data_keys.id")).collect()
}

/// How many data keys there are: with any, a root key must not be made anew.
pub fn count(tx: &mut Tx<'_>) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM data_keys", &[])
}

/// Data keys that are not wrapped under `root_key_id`, in the order of their ids, after `last`.
pub fn list_wrapped_otherwise(
    tx: &mut Tx<'_>,
    root_key_id: &str,
    last: Option<DataKeyId>,
    limit: i64,
) -> Result<Vec<WrappedKey>> {
    let sql = "SELECT id, app_id, wrapped, root_key_id FROM data_keys WHERE root_key_id <> $1 AND id > $2 ORDER BY id LIMIT $3";
    let rows = tx.query("data_keys", sql, &[root_key_id.into(), after(last), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Puts `new` in the place of the same key wrapped under `old_root_key_id`; `false` when somebody was first.
pub fn rewrap(tx: &mut Tx<'_>, new: &WrappedKey, old_root_key_id: &str) -> Result<bool> {
    tx.change_one(
        "UPDATE data_keys SET wrapped = $3, root_key_id = $4 WHERE id = $1 AND root_key_id = $2",
        &[id(new.id), old_root_key_id.into(), new.wrapped.as_slice().into(), (&new.root_key_id).into()],
    )
}

/// Data keys that are not wrapped under `root_key_id`.
pub fn count_wrapped_otherwise(tx: &mut Tx<'_>, root_key_id: &str) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM data_keys WHERE root_key_id <> $1", &[root_key_id.into()])
}
