//! Webhooks of identity providers: how each is proved, which events came, and what is known of users by them.

use grantd_domain::account::SealedSecret;
use grantd_domain::webhook::{Mark, SubjectFrom, Vendor};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};
use grantd_wire::sign::sha256;

use crate::error::Result;
use crate::seam::{Row, Tx, Value, after, id};

/// How what a webhook sends is proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// A token that was made here; this is its hash.
    Token([u8; 32]),
    /// The secret of a vendor that signs.
    Secret(SealedSecret),
}

/// The webhook of an identity provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    pub vendor: Vendor,
    pub subject_from: SubjectFrom,
    pub proof: Proof,
    pub created_at: TimeMs,
    pub rotated_at: Option<TimeMs>,
    /// When an event last came that named a user of the app.
    pub last_event_at: Option<TimeMs>,
}

macro_rules! columns {
    () => {
        "w.app_id, w.idp_id, w.vendor, w.subject_from, w.token_hash, w.sealed_secret, w.secret_version, w.created_at_ms, \
         w.rotated_at_ms, w.last_event_at_ms"
    };
}

fn read(mut row: Row) -> Result<Webhook> {
    let app_id = row.id("idp_webhooks.app_id")?;
    let idp_id = row.id("idp_webhooks.idp_id")?;
    let vendor = row.parsed("idp_webhooks.vendor", Vendor::parse)?;
    let subject_from = row.parsed("idp_webhooks.subject_from", SubjectFrom::parse)?;
    let hash = row.opt_array("idp_webhooks.token_hash")?;
    let sealed = row.opt_bytes("idp_webhooks.sealed_secret")?;
    let version = row.int("idp_webhooks.secret_version")?;
    let proof = match (hash, sealed, vendor.signs()) {
        (Some(hash), None, false) => Proof::Token(hash),
        (None, Some(sealed), true) => Proof::Secret(SealedSecret { sealed, version }),
        _ => return Err(row.inconsistent("idp_webhooks.token_hash")),
    };
    Ok(Webhook {
        app_id,
        idp_id,
        vendor,
        subject_from,
        proof,
        created_at: row.time("idp_webhooks.created_at_ms")?,
        rotated_at: row.opt_time("idp_webhooks.rotated_at_ms")?,
        last_event_at: row.opt_time("idp_webhooks.last_event_at_ms")?,
    })
}

impl Proof {
    fn params(&self) -> [Value; 3] {
        match self {
            Self::Token(hash) => [hash.as_slice().into(), Value::Null, 0.into()],
            Self::Secret(secret) => [Value::Null, secret.sealed.as_slice().into(), secret.version.into()],
        }
    }
}

/// Switches one on; `false`: it is.
pub fn enable(tx: &mut Tx<'_>, webhook: &Webhook) -> Result<bool> {
    debug_assert!(webhook.vendor.signs() == matches!(webhook.proof, Proof::Secret(_)));
    let [hash, sealed, version] = webhook.proof.params();
    let inserted = tx.execute(
        "INSERT INTO idp_webhooks (app_id, idp_id, vendor, subject_from, token_hash, sealed_secret, secret_version, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (app_id, idp_id) DO NOTHING",
        &[
            id(webhook.app_id),
            id(webhook.idp_id),
            webhook.vendor.as_str().into(),
            webhook.subject_from.as_str().into(),
            hash,
            sealed,
            version,
            webhook.created_at.into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// Gives one another proof; the one before counts no more.
pub fn rotate(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, proof: &Proof, at: TimeMs) -> Result<bool> {
    let [hash, sealed, version] = proof.params();
    tx.change_one(
        "UPDATE idp_webhooks SET token_hash = $3, sealed_secret = $4, secret_version = $5, rotated_at_ms = $6 \
         WHERE app_id = $1 AND idp_id = $2",
        &[id(app), id(idp), hash, sealed, version, at.into()],
    )
}

/// Switches one off; `false`: it was. Which events came, and what is known of users, stays.
pub fn disable(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<bool> {
    tx.change_one("DELETE FROM idp_webhooks WHERE app_id = $1 AND idp_id = $2", &[id(app), id(idp)])
}

/// The webhook of an identity provider of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId) -> Result<Option<Webhook>> {
    let sql = concat!("SELECT ", columns!(), " FROM idp_webhooks w WHERE w.app_id = $1 AND w.idp_id = $2");
    tx.query_opt("idp_webhooks", sql, &[id(app), id(idp)])?.map(read).transpose()
}

/// The webhook at an address: of an identity provider that is not deleted, in an app that is active.
pub fn find_called(tx: &mut Tx<'_>, idp: IdentityProviderId) -> Result<Option<Webhook>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM idp_webhooks w JOIN apps a ON a.id = w.app_id \
         JOIN identity_providers i ON i.app_id = w.app_id AND i.id = w.idp_id \
         WHERE w.idp_id = $1 AND a.state = 'active' AND i.deleted_at_ms IS NULL"
    );
    tx.query_opt("idp_webhooks", sql, &[id(idp)])?.map(read).transpose()
}

/// Webhooks of every app whose secret is sealed, and whose app is not deleted, after `last`, in a fixed order.
pub fn list_sealed(
    tx: &mut Tx<'_>,
    last: Option<(AppId, IdentityProviderId)>,
    limit: i64,
) -> Result<Vec<(AppId, IdentityProviderId, SealedSecret)>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM idp_webhooks w WHERE w.sealed_secret IS NOT NULL AND (w.app_id > $1 OR (w.app_id = $1 AND w.idp_id > $2)) \
         AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.id = w.app_id AND apps.state = 'deleted') \
         ORDER BY w.app_id, w.idp_id LIMIT $3"
    );
    let params = [after(last.map(|l| l.0)), after(last.map(|l| l.1)), limit.into()];
    let sealed = |row| {
        let Webhook { app_id, idp_id, proof, .. } = read(row)?;
        Ok(match proof {
            Proof::Secret(secret) => Some((app_id, idp_id, secret)),
            Proof::Token(_) => None,
        })
    };
    tx.query("idp_webhooks", sql, &params)?.into_iter().filter_map(|row| sealed(row).transpose()).collect()
}

/// Takes note of an event; `false`: it came before. Those that came before `since` are forgotten.
pub fn remember(tx: &mut Tx<'_>, webhook: &Webhook, event: &str, at: TimeMs, since: TimeMs) -> Result<bool> {
    let (app, idp) = (id(webhook.app_id), id(webhook.idp_id));
    let new = tx.execute(
        "INSERT INTO idp_webhook_events (app_id, idp_id, event_id, seen_at_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        &[app.clone(), idp.clone(), event.into(), at.into()],
    )?;
    if new == 1 {
        tx.execute(
            "DELETE FROM idp_webhook_events WHERE app_id = $1 AND idp_id = $2 AND seen_at_ms < $3",
            &[app, idp, since.into()],
        )?;
    }
    Ok(new == 1)
}

/// Takes note of when an event came that named a user of the app.
pub fn set_last_event(tx: &mut Tx<'_>, webhook: &Webhook, at: TimeMs) -> Result<()> {
    let sql = "UPDATE idp_webhooks SET last_event_at_ms = $3 WHERE app_id = $1 AND idp_id = $2";
    tx.execute(sql, &[id(webhook.app_id), id(webhook.idp_id), at.into()]).map(drop)
}

/// Takes note that tokens of a subject which were issued until `gone_at` prove nothing: they are of somebody who was deleted and whom the
/// app does not have, or from before the subject became another user's. What is older than `since` is forgotten.
pub fn remember_gone(
    tx: &mut Tx<'_>,
    app: AppId,
    idp: IdentityProviderId,
    subject: &str,
    gone_at: TimeMs,
    since: TimeMs,
) -> Result<()> {
    let (app, idp) = (id(app), id(idp));
    tx.execute(
        "INSERT INTO gone_subjects (app_id, idp_id, subject_hash, gone_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app_id, idp_id, subject_hash) DO UPDATE SET gone_at_ms = $4 WHERE gone_subjects.gone_at_ms < $4",
        &[app.clone(), idp.clone(), subject_hash(subject), gone_at.into()],
    )?;
    let sql = "DELETE FROM gone_subjects WHERE app_id = $1 AND idp_id = $2 AND gone_at_ms < $3";
    tx.execute(sql, &[app, idp, since.into()]).map(drop)
}

/// Takes note that somebody was blocked whom the app does not have. What is older than `since` is forgotten.
pub fn remember_blocked(tx: &mut Tx<'_>, webhook: &Webhook, subject: &str, at: TimeMs, since: TimeMs) -> Result<()> {
    let (app, idp) = (id(webhook.app_id), id(webhook.idp_id));
    tx.execute(
        "INSERT INTO blocked_subjects (app_id, idp_id, subject_hash, blocked_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app_id, idp_id, subject_hash) DO UPDATE SET blocked_at_ms = $4 WHERE blocked_subjects.blocked_at_ms < $4",
        &[app.clone(), idp.clone(), subject_hash(subject), at.into()],
    )?;
    let sql = "DELETE FROM blocked_subjects WHERE app_id = $1 AND idp_id = $2 AND blocked_at_ms < $3";
    tx.execute(sql, &[app, idp, since.into()]).map(drop)
}

/// When somebody was blocked whom the app does not have; `None`: nothing is known of it.
pub fn blocked_at(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, subject: &str) -> Result<Option<TimeMs>> {
    let sql = "SELECT blocked_at_ms FROM blocked_subjects WHERE app_id = $1 AND idp_id = $2 AND subject_hash = $3";
    let row = tx.query_opt("blocked_subjects", sql, &[id(app), id(idp), subject_hash(subject)])?;
    row.map(|mut row| row.time("blocked_subjects.blocked_at_ms")).transpose()
}

/// Somebody who was blocked was let in again, or is a user of the app by now.
pub fn forget_blocked(tx: &mut Tx<'_>, app: AppId, idp: IdentityProviderId, subject: &str) -> Result<()> {
    let sql = "DELETE FROM blocked_subjects WHERE app_id = $1 AND idp_id = $2 AND subject_hash = $3";
    tx.execute(sql, &[id(app), id(idp), subject_hash(subject)]).map(drop)
}

/// Whose row it is in `gone_subjects` and `blocked_subjects`: nobody's name is kept who was never here.
pub(crate) fn subject_hash(subject: &str) -> Value {
    sha256(subject.as_bytes()).as_slice().into()
}

/// What is known of a user by webhook.
pub fn find_mark(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<Option<Mark>> {
    let sql = "SELECT told_at_ms, suspended_at_ms FROM idp_webhook_users WHERE app_id = $1 AND user_id = $2";
    let read = |mut row: Row| {
        let told_at = row.time("idp_webhook_users.told_at_ms")?;
        Ok(Mark { told_at, suspended_at: row.opt_time("idp_webhook_users.suspended_at_ms")? })
    };
    tx.query_opt("idp_webhook_users", sql, &[id(app), id(user)])?.map(read).transpose()
}

/// Somebody else decides of a user now: what the webhook did is no longer its to take back. `false`: it had not suspended them.
pub fn unmark(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<bool> {
    tx.change_one(
        "UPDATE idp_webhook_users SET suspended_at_ms = NULL WHERE app_id = $1 AND user_id = $2 AND suspended_at_ms IS NOT NULL",
        &[id(app), id(user)],
    )
}

/// Keeps what is known of a user from now on.
pub fn set_mark(tx: &mut Tx<'_>, app: AppId, user: UserId, mark: &Mark) -> Result<()> {
    tx.execute(
        "INSERT INTO idp_webhook_users (app_id, user_id, told_at_ms, suspended_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (app_id, user_id) DO UPDATE SET told_at_ms = $3, suspended_at_ms = $4",
        &[id(app), id(user), mark.told_at.into(), mark.suspended_at.into()],
    )
    .map(drop)
}
