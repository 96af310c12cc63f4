//! Keys that sign checkpoints and exports. The private half is sealed.

use grantd_wire::TimeMs;
use grantd_wire::ids::{DataKeyId, SigningKeyId};
use serde_json::Value as Json;

use crate::apps::json;
use crate::error::Result;
use crate::seam::{Tx, id};

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
    rows.into_iter()
        .map(|mut row| {
            Ok(SigningKey {
                id: row.id("id")?,
                public_jwk: row.json("public_jwk")?,
                data_key_id: row.id("data_key_id")?,
                private_sealed: row.bytes("private_sealed")?,
            })
        })
        .collect()
}
