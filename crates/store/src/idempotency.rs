//! Answers of calls that created something, kept for whoever sends the call again under the same key.
//!
//! Invariant: an answer is stored in the write that creates what it tells of, and only sealed: it may hold a key that is shown once.

use grantd_wire::TimeMs;

use crate::error::{Error, Result};
use crate::seam::Tx;

/// An answer that was given.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Names the call it answered, body and all.
    pub request_hash: [u8; 32],
    /// The sealed body.
    pub answer_sealed: Vec<u8>,
    /// From then on it is as if it had never been.
    pub expires_at: TimeMs,
}

/// The answer that is kept under `key_hash`, which names caller and key.
pub fn find(tx: &mut Tx<'_>, key_hash: &[u8; 32], now: TimeMs) -> Result<Option<Kept>> {
    let sql =
        "SELECT request_hash, answer_sealed, expires_at_ms FROM idempotency WHERE key_hash = $1 AND expires_at_ms > $2";
    let Some(mut row) = tx.query_opt("idempotency", sql, &[key_hash.as_slice().into(), now.into()])? else {
        return Ok(None);
    };
    Ok(Some(Kept {
        request_hash: row.array("request_hash")?,
        answer_sealed: row.bytes("answer_sealed")?,
        expires_at: row.time("expires_at_ms")?,
    }))
}

/// Keeps an answer, in the place of one that has expired; `Duplicate` when there is a living one.
pub fn insert(tx: &mut Tx<'_>, key_hash: &[u8; 32], kept: &Kept, now: TimeMs) -> Result<()> {
    let sql = "INSERT INTO idempotency (key_hash, request_hash, answer_sealed, expires_at_ms) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (key_hash) DO UPDATE SET request_hash = $2, answer_sealed = $3, expires_at_ms = $4 \
        WHERE idempotency.expires_at_ms <= $5";
    let params = [
        key_hash.as_slice().into(),
        kept.request_hash.as_slice().into(),
        kept.answer_sealed.as_slice().into(),
        kept.expires_at.into(),
        now.into(),
    ];
    if tx.change_one(sql, &params)? { Ok(()) } else { Err(Error::Duplicate) }
}

/// Deletes answers that have expired, the oldest first; answers how many.
pub fn prune(tx: &mut Tx<'_>, now: TimeMs, rows_max: i64) -> Result<u64> {
    let sql = "DELETE FROM idempotency WHERE key_hash IN \
        (SELECT key_hash FROM idempotency WHERE expires_at_ms <= $1 ORDER BY expires_at_ms LIMIT $2)";
    tx.execute(sql, &[now.into(), rows_max.into()])
}
