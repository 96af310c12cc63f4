//! Renewals of tokens: who is at it, what came of it, and which tokens are due; and tokens that are to be ended at their provider.
//!
//! Every write is guarded by the version the attempt was made with. A lease keeps others from trying; it never lets a write through.

use grantd_domain::account::{Lease, Renewal};
use grantd_domain::audit::Prepared;
use grantd_domain::grant::Credential;
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, AppProviderId, CredentialId};

use crate::error::Result;
use crate::seam::{Tx, Value, id};
use crate::{append_event, crash, credentials};

/// A credential by what names it.
pub type Place = (AppId, CredentialId);

/// Begins an attempt: the committed intent to use the refresh token. `false`: somebody else is at it, or has been since the row was read
/// with `seen`, or it has moved. Twice is once: the answer to the first may have been lost.
pub fn claim(
    tx: &mut Tx<'_>,
    (app, credential): Place,
    version: i64,
    lease: Lease,
    seen: &Renewal,
    is_unconfirmed: bool,
    now: TimeMs,
) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET lease_until_ms = $4, lease_by = $5, unconfirmed_at_ms = COALESCE(unconfirmed_at_ms, $6) \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND state = 'ok' \
         AND COALESCE(refresh_failures, 0) = $8 \
         AND (lease_by = $5 OR (lease_until_ms <= $7 AND lease_by = $9) OR (lease_by IS NULL AND $9 IS NULL))",
        &[
            id(app),
            id(credential),
            version.into(),
            lease.until.into(),
            id(lease.id),
            is_unconfirmed.then_some(now).into(),
            now.into(),
            seen.failures.into(),
            seen.lease.map_or(Value::Null, |lease| id(lease.id)),
        ],
    )
}

/// Begins the lease of an attempt anew, just before the refresh token is sent. `false`: it has run out, is somebody else's, or the row has
/// moved. Twice is once.
pub fn confirm(tx: &mut Tx<'_>, (app, credential): Place, version: i64, lease: Lease, now: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET lease_until_ms = $5 WHERE app_id = $1 AND id = $2 AND version = $3 AND state = 'ok' AND lease_by = $4 \
         AND lease_until_ms > $6",
        &[id(app), id(credential), version.into(), id(lease.id), lease.until.into(), now.into()],
    )
}

/// Ends an attempt that brought tokens, with the event that tells of it. `mismatch`: what is known of the account's scopes stays known.
/// `false`: the row is no longer at `version`. Twice is once, so that nobody takes the pair that is stored for one that is not.
pub fn renew(
    tx: &mut Tx<'_>,
    new: &Credential,
    version: i64,
    mismatch: Option<TimeMs>,
    event: &Prepared,
) -> Result<bool> {
    let place = (new.app_id, new.id);
    if !credentials::replace(tx, new, version)? {
        let now = credentials::find(tx, new.app_id, new.id)?;
        return Ok(now.is_some_and(|now| now.version == new.version && now.generation == new.generation));
    }
    crash::step("refresh.replaced");
    if let Some(at) = mismatch {
        self::mismatch(tx, place, at)?;
    }
    append_event(tx, event)?;
    Ok(true)
}

/// Ends an attempt after which the user must connect again, with the event that tells of it. `false`: the row is no longer at `version`,
/// or another attempt is under way with it, which may know better.
pub fn give_up(tx: &mut Tx<'_>, broken: &Credential, version: i64, lease: Lease, event: &Prepared) -> Result<bool> {
    let held = tx.count(
        "SELECT COUNT(*) FROM credentials WHERE app_id = $1 AND id = $2 AND version = $3 AND lease_by = $4",
        &[id(broken.app_id), id(broken.id), version.into(), id(lease.id)],
    )?;
    if held == 0 || !credentials::replace(tx, broken, version)? {
        return Ok(false);
    }
    append_event(tx, event)?;
    Ok(true)
}

/// Ends an attempt that failed: the pair stays.
pub fn keep(
    tx: &mut Tx<'_>,
    (app, credential): Place,
    version: i64,
    lease: Lease,
    is_unconfirmed: bool,
    not_before: TimeMs,
    now: TimeMs,
) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET lease_until_ms = NULL, lease_by = NULL, refresh_failures = COALESCE(refresh_failures, 0) + 1, \
         refresh_after_ms = $6, unconfirmed_at_ms = COALESCE(unconfirmed_at_ms, $5) \
         WHERE app_id = $1 AND id = $2 AND version = $3 AND lease_by = $4",
        &[
            id(app),
            id(credential),
            version.into(),
            id(lease.id),
            is_unconfirmed.then_some(now).into(),
            not_before.into(),
        ],
    )
}

/// Notes that a caller saw the provider refuse this very version of a token; `false`: it is another one by now, or was noted before.
pub fn reject(tx: &mut Tx<'_>, (app, credential): Place, version: i64, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET rejected_at_ms = $4 WHERE app_id = $1 AND id = $2 AND version = $3 AND provider_row IS NOT NULL \
         AND rejected_at_ms IS NULL",
        &[id(app), id(credential), version.into(), at.into()],
    )
}

/// Notes that a caller saw the provider ask for more than was granted.
pub fn mismatch(tx: &mut Tx<'_>, (app, credential): Place, at: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET scope_mismatch_at_ms = $3 WHERE app_id = $1 AND id = $2 AND provider_row IS NOT NULL \
         AND scope_mismatch_at_ms IS NULL",
        &[id(app), id(credential), at.into()],
    )
}

/// Tokens that end before `until`, can be renewed, and are in nobody's hands, the first to end first.
pub fn due(tx: &mut Tx<'_>, until: TimeMs, now: TimeMs, limit: i64) -> Result<Vec<Place>> {
    let sql = "SELECT app_id, id FROM credentials WHERE refreshable_at_ms IS NOT NULL AND state = 'ok' AND expires_at_ms < $1 \
        AND (lease_until_ms IS NULL OR lease_until_ms <= $2) AND (refresh_after_ms IS NULL OR refresh_after_ms <= $2) \
        AND EXISTS (SELECT 1 FROM apps WHERE apps.id = credentials.app_id AND apps.state = 'active') \
        ORDER BY expires_at_ms LIMIT $3";
    let rows = tx.query("credentials", sql, &[until.into(), now.into(), limit.into()])?;
    rows.into_iter().map(|mut row| Ok((row.id("credentials.app_id")?, row.id("credentials.id")?))).collect()
}

/// A pair that is to be ended at its provider.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Whose.
    pub place: Place,
    /// The registration that got it.
    pub provider: AppProviderId,
    /// The account, as the provider names it.
    pub account: String,
    /// As it was sealed.
    pub sealed: Vec<u8>,
    /// At which version of the row.
    pub sealed_at_version: i64,
    /// Attempts before this one.
    pub attempts: i64,
}

/// Pairs whose turn it is, at most `limit`, taken until `until` so that no other process takes them meanwhile.
pub fn take_endings(tx: &mut Tx<'_>, now: TimeMs, until: TimeMs, limit: i64) -> Result<Vec<Ending>> {
    let sql = "SELECT app_id, id, provider_row, account_identifier, revoke_sealed, revoke_version, COALESCE(revoke_attempts, 0) \
        FROM credentials WHERE revoke_upstream = 'pending' AND revoke_after_ms <= $1 ORDER BY revoke_after_ms LIMIT $2";
    let mut found = Vec::new();
    for mut row in tx.query("credentials", sql, &[now.into(), limit.into()])? {
        found.push(Ending {
            place: (row.id("credentials.app_id")?, row.id("credentials.id")?),
            provider: row.id("credentials.provider_row")?,
            account: row.text("credentials.account_identifier")?,
            sealed: row.bytes("credentials.revoke_sealed")?,
            sealed_at_version: row.int("credentials.revoke_version")?,
            attempts: row.int("credentials.revoke_attempts")?,
        });
    }
    for ending in &found {
        let (app, credential) = ending.place;
        tx.execute(
            "UPDATE credentials SET revoke_after_ms = $3, revoke_attempts = COALESCE(revoke_attempts, 0) + 1 WHERE app_id = $1 AND id = $2",
            &[id(app), id(credential), until.into()],
        )?;
    }
    Ok(found)
}

/// What became of a pair that was to be ended. Nothing of it is kept.
pub fn ended(tx: &mut Tx<'_>, (app, credential): Place, outcome: &'static str) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET revoke_upstream = $3, revoke_sealed = NULL, revoke_after_ms = NULL \
         WHERE app_id = $1 AND id = $2 AND revoke_upstream = 'pending'",
        &[id(app), id(credential), outcome.into()],
    )
}

/// Not yet: the next attempt is at `after`.
pub fn ended_not(tx: &mut Tx<'_>, (app, credential): Place, after: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE credentials SET revoke_after_ms = $3 WHERE app_id = $1 AND id = $2 AND revoke_upstream = 'pending'",
        &[id(app), id(credential), after.into()],
    )
}

/// How the ending of a credential's tokens at their provider stands: `pending`, `done`, `unsupported`, `failed`, or none of it.
pub fn upstream(tx: &mut Tx<'_>, (app, credential): Place) -> Result<Option<String>> {
    let sql = "SELECT revoke_upstream FROM credentials WHERE app_id = $1 AND id = $2";
    let row = tx.query_opt("credentials", sql, &[id(app), id(credential)])?;
    row.map_or(Ok(None), |mut row| row.opt_text("credentials.revoke_upstream"))
}
