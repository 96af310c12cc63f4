//! Passkeys of operators: public keys, which open nothing by themselves; and challenges that were answered.

use grantd_domain::passkey::Made;
use grantd_wire::TimeMs;
use grantd_wire::ids::{OperatorId, PasskeyId};

use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// A passkey as it is kept.
#[derive(Clone, Debug)]
pub struct Passkey {
    /// Its id here.
    pub id: PasskeyId,
    /// Whose.
    pub operator_id: OperatorId,
    /// What its owner calls it.
    pub name: String,
    /// What the device made.
    pub made: Made,
    /// When it was added.
    pub created_at: TimeMs,
    /// When its owner last proved with it who they are.
    pub used_at: Option<TimeMs>,
}

fn read(mut row: Row) -> Result<Passkey> {
    let (id, operator_id) = (row.id("passkeys.id")?, row.id("passkeys.operator_id")?);
    let credential_id = row.bytes("passkeys.credential_id")?;
    let name = row.text("passkeys.name")?;
    let public_key = row.bytes("passkeys.public_key")?;
    let counter = row.int("passkeys.counter")?;
    let counter = u32::try_from(counter).map_err(|_| row.inconsistent("passkeys.counter"))?;
    Ok(Passkey {
        id,
        operator_id,
        name,
        made: Made { id: credential_id, public_key, counter },
        created_at: row.time("passkeys.created_at_ms")?,
        used_at: row.opt_time("passkeys.used_at_ms")?,
    })
}

/// Stores a new one; `false`: that device's key is there already.
pub fn insert(tx: &mut Tx<'_>, passkey: &Passkey) -> Result<bool> {
    tx.change_one(
        "INSERT INTO passkeys (id, operator_id, credential_id, name, public_key, counter, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING",
        &[
            id(passkey.id),
            id(passkey.operator_id),
            passkey.made.id.as_slice().into(),
            (&passkey.name).into(),
            passkey.made.public_key.as_slice().into(),
            i64::from(passkey.made.counter).into(),
            passkey.created_at.into(),
        ],
    )
}

/// The one that a device knows by this id.
pub fn find(tx: &mut Tx<'_>, credential_id: &[u8]) -> Result<Option<Passkey>> {
    let sql = "SELECT id, operator_id, credential_id, name, public_key, counter, created_at_ms, used_at_ms \
        FROM passkeys WHERE credential_id = $1";
    tx.query_opt("passkeys", sql, &[credential_id.into()])?.map(read).transpose()
}

/// Those of an operator, oldest first.
pub fn list(tx: &mut Tx<'_>, operator: OperatorId, limit: i64) -> Result<Vec<Passkey>> {
    let sql = "SELECT id, operator_id, credential_id, name, public_key, counter, created_at_ms, used_at_ms \
        FROM passkeys WHERE operator_id = $1 ORDER BY id LIMIT $2";
    tx.query("passkeys", sql, &[id(operator), limit.into()])?.into_iter().map(read).collect()
}

/// How many an operator has.
pub fn count(tx: &mut Tx<'_>, operator: OperatorId) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM passkeys WHERE operator_id = $1", &[id(operator)])
}

/// Notes that it was used, and how far its device has counted; `false`: it was removed, or used meanwhile.
pub fn use_up(tx: &mut Tx<'_>, passkey: &Passkey, counter: u32, at: TimeMs) -> Result<bool> {
    let sql = "UPDATE passkeys SET counter = $3, used_at_ms = $4 WHERE id = $1 AND counter = $2";
    tx.change_one(sql, &[id(passkey.id), i64::from(passkey.made.counter).into(), i64::from(counter).into(), at.into()])
}

/// Takes one of an operator's away; `false`: there is none with that id.
pub fn remove(tx: &mut Tx<'_>, operator: OperatorId, passkey: PasskeyId) -> Result<bool> {
    tx.change_one("DELETE FROM passkeys WHERE operator_id = $1 AND id = $2", &[id(operator), id(passkey)])
}

/// Takes all of an operator's away.
pub fn remove_all(tx: &mut Tx<'_>, operator: OperatorId) -> Result<()> {
    tx.execute("DELETE FROM passkeys WHERE operator_id = $1", &[id(operator)]).map(drop)
}

/// Notes that a challenge was answered; `false`: it was already.
pub fn answer(tx: &mut Tx<'_>, challenge_hash: &[u8; 32], expires_at: TimeMs) -> Result<bool> {
    let sql = "INSERT INTO answered_challenges (challenge_hash, expires_at_ms) VALUES ($1, $2) \
        ON CONFLICT (challenge_hash) DO NOTHING";
    tx.change_one(sql, &[challenge_hash.as_slice().into(), expires_at.into()])
}

/// Forgets challenges that nobody can answer any more.
pub fn prune_answered(tx: &mut Tx<'_>, now: TimeMs) -> Result<u64> {
    tx.execute("DELETE FROM answered_challenges WHERE expires_at_ms <= $1", &[now.into()])
}
