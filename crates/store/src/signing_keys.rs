//! Keys that sign: checkpoints and exports, and assertions of identity. The private half is sealed.
//!
//! Invariant: what a key is for never changes, and no read gives keys for both.

use grantd_wire::TimeMs;
use grantd_wire::ids::{DataKeyId, SigningKeyId};
use serde_json::Value as Json;

use crate::apps::json;
use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// A signing key as stored.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Its id: the `kid` of what it signs.
    pub id: SigningKeyId,
    /// The public half.
    pub public_jwk: Json,
    /// What the private half is sealed under.
    pub data_key_id: DataKeyId,
    /// The sealed seed.
    pub private_sealed: Vec<u8>,
}

/// Stores a new key for checkpoints.
pub fn insert(tx: &mut Tx<'_>, key: &SigningKey, at: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO signing_keys (id, purpose, public_jwk, data_key_id, private_sealed, not_before_ms) \
         VALUES ($1, 'checkpoint', $2, $3, $4, $5)",
        &[id(key.id), json(&key.public_jwk), id(key.data_key_id), key.private_sealed.as_slice().into(), at.into()],
    )?;
    Ok(())
}

/// Every key that ever signed checkpoints, newest first; the first one signs.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<SigningKey>> {
    let sql = "SELECT id, public_jwk, data_key_id, private_sealed FROM signing_keys WHERE purpose = 'checkpoint' ORDER BY id DESC";
    let rows = tx.query("signing_keys", sql, &[])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

fn read(row: &mut Row) -> Result<SigningKey> {
    Ok(SigningKey {
        id: row.id("id")?,
        public_jwk: row.json("public_jwk")?,
        data_key_id: row.id("data_key_id")?,
        private_sealed: row.bytes("private_sealed")?,
    })
}

/// Stores a new key for assertions, which signs from then on.
pub fn insert_for_identity(tx: &mut Tx<'_>, key: &SigningKey, signs_from: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO signing_keys (id, purpose, public_jwk, data_key_id, private_sealed, not_before_ms) \
         VALUES ($1, 'identity', $2, $3, $4, $5)",
        &[
            id(key.id),
            json(&key.public_jwk),
            id(key.data_key_id),
            key.private_sealed.as_slice().into(),
            signs_from.into(),
        ],
    )?;
    Ok(())
}

/// Keys for assertions that are published, and from when on each signs; the one that signs last comes last.
pub fn list_for_identity(tx: &mut Tx<'_>) -> Result<Vec<(SigningKey, TimeMs)>> {
    let sql = "SELECT id, public_jwk, data_key_id, private_sealed, not_before_ms FROM signing_keys \
        WHERE purpose = 'identity' AND retired_at_ms IS NULL ORDER BY not_before_ms, id";
    let rows = tx.query("signing_keys", sql, &[])?;
    rows.into_iter().map(|mut row| Ok((read(&mut row)?, row.time("not_before_ms")?))).collect()
}

/// Ends a key for assertions: it is published no more, and its private half is gone. `false`: it was withdrawn before.
pub fn withdraw_for_identity(tx: &mut Tx<'_>, key: SigningKeyId, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE signing_keys SET retired_at_ms = $2, private_sealed = $3 \
         WHERE id = $1 AND purpose = 'identity' AND retired_at_ms IS NULL",
        &[id(key), at.into(), Vec::<u8>::new().as_slice().into()],
    )
}
