//! Authenticator apps of operators: their secrets, sealed; hashes of recovery codes; and who is between password and code.

use grantd_wire::TimeMs;
use grantd_wire::ids::OperatorId;

use crate::error::Result;
use crate::seam::{Tx, id};

/// What an operator's authenticator app and grantd share.
#[derive(Clone, Debug)]
pub struct Totp {
    /// Whose.
    pub operator_id: OperatorId,
    /// The secret, sealed at `version`.
    pub sealed: Vec<u8>,
    /// Another one for each secret.
    pub version: i64,
    /// Since when a code is asked for; `None`: it is being set up.
    pub confirmed_at: Option<TimeMs>,
    /// A code of this step, or of one before, does not count again.
    pub last_step: i64,
}

fn read(row: &mut crate::seam::Row) -> Result<Totp> {
    Ok(Totp {
        operator_id: row.id("operator_totps.operator_id")?,
        sealed: row.bytes("operator_totps.sealed")?,
        version: row.int("operator_totps.version")?,
        confirmed_at: row.opt_time("operator_totps.confirmed_at_ms")?,
        last_step: row.int("operator_totps.last_step")?,
    })
}

/// The operator's.
pub fn find(tx: &mut Tx<'_>, operator: OperatorId) -> Result<Option<Totp>> {
    let sql =
        "SELECT operator_id, sealed, version, confirmed_at_ms, last_step FROM operator_totps WHERE operator_id = $1";
    tx.query_opt("operator_totps", sql, &[id(operator)])?.map(|mut row| read(&mut row)).transpose()
}

/// The operator's, if a code of it is asked for.
pub fn find_confirmed(tx: &mut Tx<'_>, operator: OperatorId) -> Result<Option<Totp>> {
    Ok(find(tx, operator)?.filter(|totp| totp.confirmed_at.is_some()))
}

/// Secrets of every operator behind `after`, by operator.
pub fn list_all(tx: &mut Tx<'_>, after: Option<OperatorId>, limit: i64) -> Result<Vec<Totp>> {
    let rows = match after {
        None => {
            let sql = "SELECT operator_id, sealed, version, confirmed_at_ms, last_step FROM operator_totps \
                ORDER BY operator_id LIMIT $1";
            tx.query("operator_totps", sql, &[limit.into()])?
        }
        Some(after) => {
            let sql = "SELECT operator_id, sealed, version, confirmed_at_ms, last_step FROM operator_totps \
                WHERE operator_id > $1 ORDER BY operator_id LIMIT $2";
            tx.query("operator_totps", sql, &[id(after), limit.into()])?
        }
    };
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Begins to set one up, in place of another that was begun; `false`: there is one that is asked for.
pub fn begin(tx: &mut Tx<'_>, operator: OperatorId, sealed: &[u8], version: i64) -> Result<bool> {
    tx.execute("DELETE FROM operator_totps WHERE operator_id = $1 AND confirmed_at_ms IS NULL", &[id(operator)])?;
    if find(tx, operator)?.is_some() {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO operator_totps (operator_id, sealed, version, last_step) VALUES ($1, $2, $3, 0)",
        &[id(operator), sealed.into(), version.into()],
    )?;
    Ok(true)
}

/// From now on a code is asked for; `false`: it is already, or this is another secret.
pub fn confirm(tx: &mut Tx<'_>, operator: OperatorId, version: i64, step: i64, at: TimeMs) -> Result<bool> {
    let sql = "UPDATE operator_totps SET confirmed_at_ms = $4, last_step = $3 \
        WHERE operator_id = $1 AND version = $2 AND confirmed_at_ms IS NULL";
    tx.change_one(sql, &[id(operator), version.into(), step.into(), at.into()])
}

/// Uses the code of a step up; `false`: it was, or this is another secret.
pub fn take_step(tx: &mut Tx<'_>, operator: OperatorId, version: i64, step: i64) -> Result<bool> {
    let sql = "UPDATE operator_totps SET last_step = $3 \
        WHERE operator_id = $1 AND version = $2 AND confirmed_at_ms IS NOT NULL AND last_step < $3";
    tx.change_one(sql, &[id(operator), version.into(), step.into()])
}

/// Takes the operator's away, with the recovery codes; `false`: none was asked for.
pub fn remove(tx: &mut Tx<'_>, operator: OperatorId) -> Result<bool> {
    tx.execute("DELETE FROM operator_recovery_codes WHERE operator_id = $1", &[id(operator)])?;
    tx.execute("DELETE FROM operator_totps WHERE operator_id = $1 AND confirmed_at_ms IS NULL", &[id(operator)])?;
    tx.change_one("DELETE FROM operator_totps WHERE operator_id = $1", &[id(operator)])
}

/// Stores recovery codes, in place of those there were.
pub fn set_recovery_codes(tx: &mut Tx<'_>, operator: OperatorId, hashes: &[[u8; 32]]) -> Result<()> {
    tx.execute("DELETE FROM operator_recovery_codes WHERE operator_id = $1", &[id(operator)])?;
    for hash in hashes {
        let sql = "INSERT INTO operator_recovery_codes (operator_id, code_hash) VALUES ($1, $2)";
        tx.execute(sql, &[id(operator), hash.as_slice().into()])?;
    }
    Ok(())
}

/// How many of them were not used.
pub fn count_recovery_codes(tx: &mut Tx<'_>, operator: OperatorId) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM operator_recovery_codes WHERE operator_id = $1", &[id(operator)])
}

/// Uses a recovery code up; `false`: it was, or there is none.
pub fn take_recovery_code(tx: &mut Tx<'_>, operator: OperatorId, hash: &[u8; 32]) -> Result<bool> {
    let sql = "DELETE FROM operator_recovery_codes WHERE operator_id = $1 AND code_hash = $2";
    tx.change_one(sql, &[id(operator), hash.as_slice().into()])
}

/// Stores who has given the password, in place of older attempts of theirs, so that no more than `halves_max` are left.
pub fn insert_half(
    tx: &mut Tx<'_>,
    token_hash: &[u8; 32],
    operator: OperatorId,
    expires_at: TimeMs,
    halves_max: i64,
) -> Result<()> {
    let older =
        "SELECT token_hash FROM half_sign_ins WHERE operator_id = $1 ORDER BY expires_at_ms DESC LIMIT 1000 OFFSET $2";
    for mut row in tx.query("half_sign_ins", older, &[id(operator), (halves_max - 1).into()])? {
        let hash = row.bytes("half_sign_ins.token_hash")?;
        tx.execute("DELETE FROM half_sign_ins WHERE token_hash = $1", &[hash.into()])?;
    }
    let sql = "INSERT INTO half_sign_ins (token_hash, operator_id, expires_at_ms) VALUES ($1, $2, $3)";
    tx.execute(sql, &[token_hash.as_slice().into(), id(operator), expires_at.into()]).map(drop)
}

/// Who has given the password, while that counts.
pub fn find_half(tx: &mut Tx<'_>, token_hash: &[u8; 32], now: TimeMs) -> Result<Option<OperatorId>> {
    let sql = "SELECT operator_id FROM half_sign_ins WHERE token_hash = $1 AND expires_at_ms > $2";
    let row = tx.query_opt("half_sign_ins", sql, &[token_hash.as_slice().into(), now.into()])?;
    row.map(|mut row| row.id("half_sign_ins.operator_id")).transpose()
}

/// Uses it up; `false`: it was, or is too old.
pub fn take_half(tx: &mut Tx<'_>, token_hash: &[u8; 32], now: TimeMs) -> Result<bool> {
    let sql = "DELETE FROM half_sign_ins WHERE token_hash = $1 AND expires_at_ms > $2";
    tx.change_one(sql, &[token_hash.as_slice().into(), now.into()])
}

/// Whoever has given the operator's password gives it again.
pub fn end_halves(tx: &mut Tx<'_>, operator: OperatorId) -> Result<()> {
    tx.execute("DELETE FROM half_sign_ins WHERE operator_id = $1", &[id(operator)]).map(drop)
}

/// Forgets who did not give a code in time.
pub fn prune_halves(tx: &mut Tx<'_>, now: TimeMs) -> Result<u64> {
    tx.execute("DELETE FROM half_sign_ins WHERE expires_at_ms <= $1", &[now.into()])
}
