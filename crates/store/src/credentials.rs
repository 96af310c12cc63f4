//! Credentials: sealed values behind grants. A destroyed one holds none.
//!
//! A change of the value or of the state moves `version`, which guards every write and is bound into the seal. What only tells of the
//! value (a renewal under way, a claim that it was refused) moves no version.

use grantd_domain::account::{Account, Lease, Renewal};
use grantd_domain::grant::{Broken, Credential, CredentialOf, CredentialState};
use grantd_domain::provider::Expiry;
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, SecretId, UserId};

use crate::apps::{json, since};
use crate::error::{Error, Result};
use crate::seam::{Row, Tx, Value, after, id};

/// The columns that [`read`] reads, of the table or alias `c`.
macro_rules! credential_columns {
    () => {
        "c.id, c.app_id, c.user_id, c.secret_id, c.generation, c.state, c.data_key_id, c.sealed, c.reason, c.updated_at_ms, c.version, \
         c.provider_row, c.account_identifier, c.account_name, c.scopes, c.pinned_host, c.expires_at_ms, c.never_expires_at_ms, \
         c.refreshable_at_ms, c.rejected_at_ms, c.scope_mismatch_at_ms, c.lease_until_ms, c.lease_by, c.unconfirmed_at_ms, \
         c.refresh_failures, c.refresh_after_ms"
    };
}
pub(crate) use credential_columns;

/// Reads the columns of [`credential_columns`].
pub(crate) fn read(row: &mut Row) -> Result<Credential> {
    let credential_id = row.id("credentials.id")?;
    let app_id = row.id("credentials.app_id")?;
    let user_id = row.opt_id("credentials.user_id")?;
    let secret_id: Option<SecretId> = row.opt_id("credentials.secret_id")?;
    let generation = row.id("credentials.generation")?;
    let state = row.text("credentials.state")?;
    let data_key_id = row.opt_id("credentials.data_key_id")?;
    let sealed = row.opt_bytes("credentials.sealed")?;
    let reason = row.opt_parsed("credentials.reason", Broken::parse)?;
    let state = match (state.as_str(), data_key_id, sealed) {
        ("ok", Some(data_key_id), Some(sealed)) => CredentialState::Ok { data_key_id, sealed },
        ("broken", None, None) => CredentialState::Broken(reason.unwrap_or(Broken::Lost)),
        ("destroyed", None, None) => CredentialState::Destroyed,
        _ => return Err(row.inconsistent("credentials.state")),
    };
    let updated_at = row.time("credentials.updated_at_ms")?;
    let version = row.int("credentials.version")?;
    let of = match (secret_id, row.opt_id("credentials.provider_row")?) {
        (Some(secret), None) => {
            row.skip(ACCOUNT_COLUMNS);
            CredentialOf::Secret(secret)
        }
        (None, Some(provider)) => CredentialOf::Account(Box::new(read_account(row, provider)?)),
        _ => return Err(row.inconsistent("credentials.provider_row")),
    };
    Ok(Credential { id: credential_id, app_id, of, user_id, generation, state, updated_at, version })
}

/// Columns that only an account's credential has, its provider aside.
const ACCOUNT_COLUMNS: usize = 14;

fn read_account(row: &mut Row, provider: AppProviderId) -> Result<Account> {
    let identifier = row.text("credentials.account_identifier")?;
    let name = row.opt_text("credentials.account_name")?;
    let scopes = row.json("credentials.scopes")?;
    let pinned_host = row.opt_text("credentials.pinned_host")?;
    let expires_at = row.opt_time("credentials.expires_at_ms")?;
    let expiry = match (expires_at, row.opt_time("credentials.never_expires_at_ms")?) {
        (Some(at), None) => Expiry::At(at),
        (None, Some(_)) => Expiry::Never,
        (None, None) => Expiry::Unknown,
        (Some(_), Some(_)) => return Err(row.inconsistent("credentials.never_expires_at_ms")),
    };
    let is_refreshable = row.opt_time("credentials.refreshable_at_ms")?.is_some();
    let rejected_at = row.opt_time("credentials.rejected_at_ms")?;
    let scope_mismatch_at = row.opt_time("credentials.scope_mismatch_at_ms")?;
    let lease_until = row.opt_time("credentials.lease_until_ms")?;
    let lease = match (lease_until, row.opt_id("credentials.lease_by")?) {
        (Some(until), Some(id)) => Some(Lease { id, until }),
        (None, None) => None,
        _ => return Err(row.inconsistent("credentials.lease_by")),
    };
    let renewal = Renewal {
        lease,
        unconfirmed_at: row.opt_time("credentials.unconfirmed_at_ms")?,
        failures: row.opt_int("credentials.refresh_failures")?.unwrap_or(0),
        not_before: row.opt_time("credentials.refresh_after_ms")?,
    };
    Ok(Account {
        provider,
        identifier,
        name,
        scopes,
        pinned_host,
        expiry,
        is_refreshable,
        rejected_at,
        scope_mismatch_at,
        renewal,
    })
}

fn state_columns(state: &CredentialState) -> [Value; 4] {
    match state {
        CredentialState::Ok { data_key_id, sealed } => {
            ["ok".into(), id(*data_key_id), sealed.as_slice().into(), Value::Null]
        }
        CredentialState::Broken(why) => ["broken".into(), Value::Null, Value::Null, why.as_str().into()],
        CredentialState::Destroyed => ["destroyed".into(), Value::Null, Value::Null, Value::Null],
    }
}

/// Provider, identifier, name, scopes, pinned host, end, never, refreshable: what a new value brings with it.
fn account_columns(account: Option<&Account>, at: TimeMs) -> [Value; 8] {
    let Some(account) = account else { return [const { Value::Null }; 8] };
    let (ends, never) = match account.expiry {
        Expiry::At(end) => (end.into(), Value::Null),
        Expiry::Never => (Value::Null, at.into()),
        Expiry::Unknown => (Value::Null, Value::Null),
    };
    [
        id(account.provider),
        (&account.identifier).into(),
        account.name.as_ref().into(),
        json(&account.scopes),
        account.pinned_host.as_ref().into(),
        ends,
        never,
        since(account.is_refreshable, at),
    ]
}

/// Stores a new credential.
pub fn insert(tx: &mut Tx<'_>, credential: &Credential) -> Result<()> {
    let [state, data_key, sealed, reason] = state_columns(&credential.state);
    let secret: Value = match &credential.of {
        CredentialOf::Secret(secret) => id(*secret),
        CredentialOf::Account(_) => Value::Null,
    };
    let [provider, identifier, name, scopes, host, ends, never, refreshable] =
        account_columns(credential.account(), credential.updated_at);
    tx.execute(
        "INSERT INTO credentials (app_id, id, kind, secret_id, generation, state, data_key_id, sealed, created_at_ms, updated_at_ms, \
         version, reason, provider_row, account_identifier, account_name, scopes, pinned_host, expires_at_ms, never_expires_at_ms, \
         refreshable_at_ms, user_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        &[
            id(credential.app_id),
            id(credential.id),
            credential.kind().into(),
            secret,
            id(credential.generation),
            state,
            data_key,
            sealed,
            credential.updated_at.into(),
            credential.version.into(),
            reason,
            provider,
            identifier,
            name,
            scopes,
            host,
            ends,
            never,
            refreshable,
            credential.user_id.map(id).into(),
        ],
    )?;
    Ok(())
}

/// Writes a credential's new value or state over the row at `version`. What was told of the old value is forgotten with it.
pub fn update(tx: &mut Tx<'_>, credential: &Credential, version: i64) -> Result<()> {
    if replace(tx, credential, version)? { Ok(()) } else { Err(Error::from(grantd_wire::Code::Conflict)) }
}

/// The same; `false` when the row is no longer at `version`.
pub fn replace(tx: &mut Tx<'_>, credential: &Credential, version: i64) -> Result<bool> {
    debug_assert!(credential.version == version + 1);
    let [state, data_key, sealed, reason] = state_columns(&credential.state);
    let [_, _, name, scopes, host, ends, never, refreshable] =
        account_columns(credential.account(), credential.updated_at);
    let changed = tx.change_one(
        "UPDATE credentials SET generation = $4, state = $5, data_key_id = $6, sealed = $7, updated_at_ms = $8, version = $3 + 1, \
         reason = $9, account_name = $10, scopes = $11, pinned_host = $12, expires_at_ms = $13, never_expires_at_ms = $14, \
         refreshable_at_ms = $15, rejected_at_ms = NULL, scope_mismatch_at_ms = NULL, lease_until_ms = NULL, lease_by = NULL, \
         unconfirmed_at_ms = NULL, refresh_failures = NULL, refresh_after_ms = NULL \
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
            reason,
            name,
            scopes,
            host,
            ends,
            never,
            refreshable,
        ],
    )?;
    Ok(changed)
}

/// A credential of the app.
pub fn find(tx: &mut Tx<'_>, app: AppId, credential: CredentialId) -> Result<Option<Credential>> {
    let sql = concat!("SELECT ", credential_columns!(), " FROM credentials c WHERE c.app_id = $1 AND c.id = $2");
    tx.query_opt("credentials", sql, &[id(app), id(credential)])?.map(|mut row| read(&mut row)).transpose()
}

/// The living credential that a secret has of the app's; `None` when the last one was destroyed.
pub fn find_living(tx: &mut Tx<'_>, app: AppId, secret: SecretId) -> Result<Option<Credential>> {
    let sql = concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.app_id = $1 AND c.secret_id = $2 AND c.secret_id IS NOT NULL AND c.user_id IS NULL \
         AND c.state <> 'destroyed' ORDER BY c.id DESC LIMIT 1"
    );
    tx.query_opt("credentials", sql, &[id(app), id(secret)])?.map(|mut row| read(&mut row)).transpose()
}

/// The living key that a user has of their own for a secret.
pub fn find_own(tx: &mut Tx<'_>, app: AppId, secret: SecretId, user: UserId) -> Result<Option<Credential>> {
    let sql = concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.app_id = $1 AND c.secret_id = $2 AND c.user_id = $3 AND c.secret_id IS NOT NULL \
         AND c.user_id IS NOT NULL AND c.state <> 'destroyed'"
    );
    tx.query_opt("credentials", sql, &[id(app), id(secret), id(user)])?.map(|mut row| read(&mut row)).transpose()
}

/// An account is connected once by the app, and once by each user: two indexes.
macro_rules! account_sql {
    ($whose:literal) => {
        concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.app_id = $1 AND c.provider_row = $2 AND c.account_identifier = $3 \
             AND c.provider_row IS NOT NULL AND c.state <> 'destroyed' AND ",
            $whose
        )
    };
}
/// The living credential of an account at a provider: of the user's, or of the app's own.
pub fn find_account(
    tx: &mut Tx<'_>,
    app: AppId,
    provider: AppProviderId,
    identifier: &str,
    user: Option<UserId>,
) -> Result<Option<Credential>> {
    let row = match user {
        None => {
            let sql = account_sql!("c.user_id IS NULL");
            tx.query_opt("credentials", sql, &[id(app), id(provider), identifier.into()])?
        }
        Some(user) => {
            let sql = account_sql!("c.user_id = $4");
            tx.query_opt("credentials", sql, &[id(app), id(provider), identifier.into(), id(user)])?
        }
    };
    row.map(|mut row| read(&mut row)).transpose()
}

/// A living credential of an account, whoever connected it; `own` before another's.
pub fn find_living_of_account(
    tx: &mut Tx<'_>,
    app: AppId,
    provider: AppProviderId,
    identifier: &str,
    own: CredentialId,
) -> Result<Option<CredentialId>> {
    let sql = "SELECT id FROM (\
        SELECT id FROM credentials WHERE app_id = $1 AND provider_row = $2 AND account_identifier = $3 \
        AND provider_row IS NOT NULL AND user_id IS NULL AND state <> 'destroyed' UNION ALL \
        SELECT id FROM credentials WHERE app_id = $1 AND provider_row = $2 AND account_identifier = $3 \
        AND provider_row IS NOT NULL AND user_id IS NOT NULL AND state <> 'destroyed') living \
        ORDER BY CASE WHEN id = $4 THEN 0 ELSE 1 END, id DESC LIMIT 1";
    let row = tx.query_opt("credentials", sql, &[id(app), id(provider), identifier.into(), id(own)])?;
    row.map(|mut row| row.id("credentials.id")).transpose()
}

/// Living credentials of accounts at a provider.
pub fn count_accounts(tx: &mut Tx<'_>, app: AppId, provider: AppProviderId) -> Result<i64> {
    tx.count(
        "SELECT COUNT(*) FROM credentials WHERE app_id = $1 AND provider_row = $2 AND provider_row IS NOT NULL AND state <> 'destroyed'",
        &[id(app), id(provider)],
    )
}

/// Destroys the value of a credential that has no living grant any more; answers whether it did. Tokens of an account are put aside
/// to be ended at their provider, where no call can reach them.
pub fn destroy_if_unused(tx: &mut Tx<'_>, app: AppId, credential: CredentialId, at: TimeMs) -> Result<bool> {
    let living = tx.count(
        "SELECT COUNT(*) FROM grants WHERE app_id = $1 AND credential_id = $2 AND status = 'active'",
        &[id(app), id(credential)],
    )?;
    if living > 0 {
        return Ok(false);
    }
    tx.change_one(
        "UPDATE credentials SET state = 'destroyed', data_key_id = NULL, sealed = NULL, reason = NULL, updated_at_ms = $3, \
         version = version + 1, lease_until_ms = NULL, lease_by = NULL, \
         revoke_upstream = CASE WHEN provider_row IS NULL THEN NULL WHEN sealed IS NULL THEN 'unsupported' ELSE 'pending' END, \
         revoke_sealed = CASE WHEN provider_row IS NULL THEN NULL ELSE sealed END, \
         revoke_version = CASE WHEN provider_row IS NULL OR sealed IS NULL THEN NULL ELSE version END, \
         revoke_after_ms = CASE WHEN provider_row IS NULL OR sealed IS NULL THEN NULL ELSE CAST($3 AS BIGINT) END \
         WHERE app_id = $1 AND id = $2 AND state <> 'destroyed'",
        &[id(app), id(credential), at.into()],
    )
}

/// Forgets credentials that were destroyed before this moment and that no grant names, at most `limit` of them; answers how many. One
/// whose tokens are still to be ended at their provider stays, and so does one of an app under a legal hold.
pub fn prune(tx: &mut Tx<'_>, before: TimeMs, limit: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM credentials WHERE (app_id, id) IN (SELECT c.app_id, c.id FROM credentials c \
         WHERE c.state = 'destroyed' AND c.updated_at_ms < $1 AND (c.revoke_upstream IS NULL OR c.revoke_upstream <> 'pending') \
         AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.app_id = c.app_id AND g.credential_id = c.id) \
         AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.app_id = c.app_id) ORDER BY c.updated_at_ms LIMIT $2)",
        &[before.into(), limit.into()],
    )
}

/// Credentials of every app that are not destroyed, and whose app is not deleted, after `last`, in a fixed order.
pub fn list_all(tx: &mut Tx<'_>, last: Option<(AppId, CredentialId)>, limit: i64) -> Result<Vec<Credential>> {
    let sql = concat!(
        "SELECT ",
        credential_columns!(),
        " FROM credentials c WHERE c.state <> 'destroyed' AND (c.app_id > $1 OR (c.app_id = $1 AND c.id > $2)) \
         AND NOT EXISTS (SELECT 1 FROM apps WHERE apps.id = c.app_id AND apps.state = 'deleted') \
         ORDER BY c.app_id, c.id LIMIT $3"
    );
    let rows = tx.query("credentials", sql, &[after(last.map(|l| l.0)), after(last.map(|l| l.1)), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}
