//! How operators sign in, beside links that are made on the host: no secret is here in a form that opens anything.

use grantd_wire::TimeMs;
use grantd_wire::ids::OperatorId;

use crate::error::Result;
use crate::seam::{Tx, id};
use crate::{passkeys, sso, totps};

/// What is stored of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// Memory that it was hashed with.
    pub memory_kib: u32,
    /// How often that was gone through.
    pub passes: u32,
    /// Of this password alone.
    pub salt: [u8; 16],
    /// What came of it.
    pub hash: [u8; 32],
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// Stores the operator's password; `true`: it takes the place of another.
pub fn set_password(tx: &mut Tx<'_>, operator: OperatorId, password: &PasswordHash, at: TimeMs) -> Result<bool> {
    let was_there = remove_password(tx, operator)?;
    tx.execute(
        "INSERT INTO operator_passwords (operator_id, memory_kib, passes, salt, hash, set_at_ms) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            id(operator),
            i64::from(password.memory_kib).into(),
            i64::from(password.passes).into(),
            password.salt.as_slice().into(),
            password.hash.as_slice().into(),
            at.into(),
        ],
    )?;
    Ok(was_there)
}

/// The operator's password, and since when.
pub fn find_password(tx: &mut Tx<'_>, operator: OperatorId) -> Result<Option<(PasswordHash, TimeMs)>> {
    let sql = "SELECT memory_kib, passes, salt, hash, set_at_ms FROM operator_passwords WHERE operator_id = $1";
    let Some(mut row) = tx.query_opt("operator_passwords", sql, &[id(operator)])? else { return Ok(None) };
    let mut number = |column| row.int(column).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let (memory_kib, passes) = (number("operator_passwords.memory_kib")?, number("operator_passwords.passes")?);
    let (salt, hash) = (row.array("operator_passwords.salt")?, row.array("operator_passwords.hash")?);
    let password = PasswordHash { memory_kib, passes, salt, hash };
    Ok(Some((password, row.time("operator_passwords.set_at_ms")?)))
}

/// Takes the operator's password away, and whoever has just given it begins anew; `false`: there was none.
pub fn remove_password(tx: &mut Tx<'_>, operator: OperatorId) -> Result<bool> {
    totps::end_halves(tx, operator)?;
    tx.change_one("DELETE FROM operator_passwords WHERE operator_id = $1", &[id(operator)])
}

/// Takes every way to sign in from an operator but links.
pub fn forget(tx: &mut Tx<'_>, operator: OperatorId) -> Result<()> {
    totps::remove(tx, operator)?;
    passkeys::remove_all(tx, operator)?;
    sso::unbind(tx, operator)?;
    remove_password(tx, operator).map(drop)
}

/// Attempts in a row of one account that were not right, and when the last of them was.
pub fn find_attempts(tx: &mut Tx<'_>, bucket: u16) -> Result<Option<(i64, TimeMs)>> {
    let sql = "SELECT attempts, last_at_ms FROM sign_in_attempts WHERE bucket = $1";
    let Some(mut row) = tx.query_opt("sign_in_attempts", sql, &[i64::from(bucket).into()])? else { return Ok(None) };
    Ok(Some((row.int("sign_in_attempts.attempts")?, row.time("sign_in_attempts.last_at_ms")?)))
}

/// Notes how many there are now.
pub fn note_attempts(tx: &mut Tx<'_>, bucket: u16, attempts: i64, at: TimeMs) -> Result<()> {
    let sql = "INSERT INTO sign_in_attempts (bucket, attempts, last_at_ms) VALUES ($1, $2, $3) \
        ON CONFLICT (bucket) DO UPDATE SET attempts = excluded.attempts, last_at_ms = excluded.last_at_ms";
    tx.execute(sql, &[i64::from(bucket).into(), attempts.into(), at.into()]).map(drop)
}

/// Forgets them: somebody proved who they are.
pub fn forget_attempts(tx: &mut Tx<'_>, bucket: u16) -> Result<()> {
    tx.execute("DELETE FROM sign_in_attempts WHERE bucket = $1", &[i64::from(bucket).into()]).map(drop)
}

/// Forgets attempts of which the last was before.
pub fn prune_attempts(tx: &mut Tx<'_>, before: TimeMs) -> Result<u64> {
    tx.execute("DELETE FROM sign_in_attempts WHERE last_at_ms < $1", &[before.into()])
}
