//! Credentials: sealed values behind grants. A destroyed one holds none.

use grantd_domain::grant::{Credential, CredentialState};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, CredentialId, SecretId};

use crate::error::{Error, Result};
use crate::seam::{Row, Tx, Value, after, id};

/// Reads the columns `id … version`, as every statement lists them.
pub(crate) fn read(row: &mut Row) -> Result<Credential> {
    let credential_id = row.id("credentials.id")?;
    let app_id = row.id("credentials.app_id")?;
    let secret_id = row.id("credentials.secret_id")?;
    let generation = row.id("credentials.generation")?;
    let state = row.text("credentials.state")?;
    let data_key_id = row.opt_id("credentials.data_key_id")?;
    let sealed = row.opt_bytes("credentials.sealed")?;
    let state = match (state.as_str(), data_key_id, sealed) {
        ("ok", Some(data_key_id), Some(sealed)) => CredentialState::Ok { data_key_id, sealed },
        ("broken", None, None) => CredentialState::Broken,
        ("destroyed", None, None) => CredentialState::Destroyed,
        _ => return Err(row.inconsistent("credentials.state")),
    };
    Ok(Credential {
        id: credential_id,
        app_id,
        secret_id,
        generation,
        state,
        updated_at: row.time("credentials.updated_at_ms")?,
        version: row.int("credentials.version")?,
    })
}

fn state_columns(state: &CredentialState) -> [Value; 3] {
    match state {
        CredentialState::Ok { data_key_id, sealed } => ["ok".into(), id(*data_key_id), sealed.as_slice().into()],
        CredentialState::Broken => ["broken".into(), Value::Null, Value::Null],
        CredentialState::Destroyed => ["destroyed".into(), Value::Null, Value::Null],
    }
}

/// Stores a new credential of a managed secret.
pub fn insert(tx: &mut Tx<'_>, credential: &Credential) -> Result<()> {
    let [state, data_key, sealed] = state_columns(&credential.state);
    tx.execute(
        "INSERT INTO credentials (app_id, id, kind, secret_id, generation, state, data_key_id, sealed, created_at_ms, updated_at_ms, version) \
         VALUES ($1, $2, 'developer', $3, $4, $5, $6, $7, $8, $8, $9)",
        &[
            id(credential.app_id),
            id(credential.id),
            id(credential.secret_id),
            id(credential.generation),
            state,
            data_key,
            sealed,
            credential.updated_at.into(),
            credential.version.into(),
        ],
    )?;
    Ok(())
}

/// Writes a credential's new value or state over the row at `version`.
pub fn update(tx: &mut Tx<'_>, credential: &Credential, version: i64) -> Result<()> {
    debug_assert!(credential.version == version + 1);
    let [state, data_key, sealed] = state_columns(&credential.state);
    let changed = tx.change_one(
        "UPDATE credentials SET generation = $4, state = $5, data_key_id = $6, sealed = $7, updated_at_ms = $8, version = $3 + 1 \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND state <> 'destroyed'",
        &[
            id(credential.app_id),
            id(credential.id),
            version.into(),
            id(credential.generation),
            state,
            data_key,
            sealed,
            credential.updated_at.into(),
        ],
    )?;
    if changed { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// A credential of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, credential: CredentialId) -> Result<Option<Credential>> {
    let sql = "SELECT id, app_id, secret_id, generation, state, data_key_id, sealed, updated_at_ms, version FROM credentials \
        WHERE app_id = $1 AND id = $2";
    tx.query_opt("credentials", sql, &[id(app), id(credential)])?.map(|mut row| read(&mut row)).transpose()
}

/// The living credential of a secret; `None` when the last one was destroyed.
pub fn find_living(tx: &mut Tx<'_>, app: AppId, secret: SecretId) -> Result<Option<Credential>> {
    let sql = "SELECT id, app_id, secret_id, generation, state, data_key_id, sealed, updated_at_ms, version FROM credentials \
        WHERE app_id = $1 AND secret_id = $2 AND state <> 'destroyed' ORDER BY id DESC LIMIT 1";
    tx.query_opt("credentials", sql, &[id(app), id(secret)])?.map(|mut row| read(&mut row)).transpose()
}

/// Destroys the value of a credential that has no living grant any more; answers whether it did.
pub fn destroy_if_unused(tx: &mut Tx<'_>, app: AppId, credential: CredentialId, at: TimeMs) -> Result<bool> {
    let living = tx.count(
        "SELECT COUNT(*) FROM grants WHERE app_id = $1 AND credential_id = $2 AND status = 'active'",
        &[id(app), id(credential)],
    )?;
    if living > 0 {
        return Ok(false);
    }
    tx.change_one(
        "UPDATE credentials SET state = 'destroyed', data_key_id = NULL, sealed = NULL, updated_at_ms = $3, version = version + 1 \
         WHERE app_id = $1 AND id = $2 AND state <> 'destroyed'",
        &[id(app), id(credential), at.into()],
    )
}

/// Credentials of every app that are not destroyed, and whose app is not deleted, after `last`, in a fixed order.
pub fn list_all(tx: &mut Tx<'_>, last: Option<(AppId, CredentialId)>, limit: i64) -> Result<Vec<Credential>> {
    let sql = "SELECT id, app_id, secret_id, generation, state, data_key_id, sealed, updated_at_ms, version FROM credentials \
        WHERE state <> 'destroyed' AND (app_id > $1 OR (app_id = $1 AND id > $2)) \
        AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.id = credentials.app_id AND apps.state = 'deleted') \
        ORDER BY app_id, id LIMIT $3";
    let rows = tx.query("credentials", sql, &[after(last.map(|l| l.0)), after(last.map(|l| l.1)), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}
