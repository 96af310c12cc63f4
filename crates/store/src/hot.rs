//! The hot path: who calls, what the grant is, and the append that confirms.

use std::collections::BTreeMap;

use grantd_domain::audit::Prepared;
use grantd_domain::grant::{ApiKey, App, Principal};
use grantd_domain::resolve::{Held, Owner};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, CredentialId, GrantId, KeyId, OrganizationId};
use tokio_postgres::types::ToSql;

use crate::behind::behind_columns;
use crate::error::{Error, Result};
use crate::grants::grant_columns;
use crate::seam::{Row, Tx, id, postgres};
use crate::{Engine, Store, apps, behind, grants, keys};

/// Times a single statement is run again after a deadlock with another process.
const RETRIES_MAX: u32 = 5;

/// Numbers that every change which can turn an allow into a deny raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Which run of which server they are numbers of: another one may have given the same numbers to other states, after a
    /// promotion or a recovery to an earlier time. Always 0 where the database is a file of ours.
    pub era: u64,
    /// `organizations.epoch`.
    pub organization: i64,
    /// `apps.epoch`.
    pub app: i64,
}

/// A key with its app, read in one statement.
#[derive(Clone, Debug)]
pub struct Known {
    /// The key.
    pub key: ApiKey,
    /// Its app.
    pub app: App,
    /// The epochs of that moment.
    pub epochs: Epochs,
}

/// What must still hold when the event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// Whose epoch is compared.
    pub organization_id: OrganizationId,
    /// Whose epoch is compared.
    pub app_id: AppId,
    /// What the decision was made at.
    pub epochs: Epochs,
    /// What is released.
    pub credential_id: CredentialId,
    /// The version that was opened.
    pub credential_version: i64,
}

/// An event to make durable.
#[derive(Clone, Debug)]
pub struct Append {
    /// The event.
    pub event: Prepared,
    /// What the decision rested on; nothing, when it was a refusal.
    pub confirm: Option<Confirm>,
    /// Used once, on all replicas.
    pub nonce: Option<Nonce>,
}

/// A key's nonce and the time that was signed with it: a copy of the call brings both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// Whose.
    pub key_id: KeyId,
    /// The bytes the caller sent.
    pub nonce: [u8; 16],
    /// To the second, as it travels.
    pub signed_at: TimeMs,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Durable, and everything still held.
    Done,
    /// Something moved: nothing was written; decide again.
    Moved,
    /// The nonce was used before: nothing was written.
    Replayed,
}

impl Store {
    /// The key with this hash.
    pub async fn find_key(&self, key_hash: [u8; 32]) -> Result<Option<Known>> {
        let sql = "SELECT o.epoch, a.epoch, k.id, k.app_id, k.key_type, k.key_prefix, k.name, k.scopes, k.scope_version, k.cidrs, \
            k.rate_limit_rpm, k.unsigned_identity_at_ms, k.parent_key_id, k.created_at_ms, k.expires_at_ms, k.grace_until_ms, \
            k.deprecated_at_ms, k.revoked_at_ms, \
            a.id, a.organization_id, a.name, a.description, a.website_url, a.state, a.tenant_key, a.tenant_mode, a.retrieve, \
            a.indexed_context_keys, a.connect_sign_in, a.return_origins, a.created_at_ms, a.version \
            FROM api_keys k JOIN apps a ON a.id = k.app_id JOIN organizations o ON o.id = a.organization_id WHERE k.key_hash = $1";
        let (era, row) = self.fetch_row("api_keys", sql, vec![key_hash.as_slice().into()]).await?;
        row.map(|row| known(era, row)).transpose()
    }

    /// A grant of the app with what stands behind it, and the epochs of that moment. `None`: the app is gone.
    pub async fn find_held(&self, app: AppId, grant: GrantId) -> Result<Option<(Epochs, Option<Held>)>> {
        let sql = concat!(
            "SELECT o.epoch, a.epoch, ",
            grant_columns!(),
            ", ",
            behind_columns!(),
            ", u.status FROM apps a JOIN organizations o ON o.id = a.organization_id \
             LEFT JOIN grants g ON g.app_id = a.id AND g.id = $2 \
             LEFT JOIN credentials c ON c.app_id = a.id AND c.id = g.credential_id \
             LEFT JOIN managed_secrets s ON s.app_id = a.id AND s.id = c.secret_id \
             LEFT JOIN providers p ON p.app_id = a.id AND p.id = c.provider_row \
             LEFT JOIN users u ON g.principal_type = 'user' AND u.app_id = a.id AND u.id = g.principal_id WHERE a.id = $1"
        );
        let (era, row) = self.fetch_row("grants", sql, vec![id(app), id(grant)]).await?;
        let Some(mut row) = row else { return Ok(None) };
        let epochs = epochs(era, &mut row)?;
        let held = match grants::read_opt(&mut row)? {
            Some(grant) => {
                let (credential, behind) = behind::read(&mut row)?;
                let owner = row.opt_parsed("users.status", owner)?;
                if owner.is_some() != matches!(grant.principal, Principal::User(_)) {
                    return Err(row.inconsistent("grants.principal_id"));
                }
                Some(Held { grant, credential, behind, owner })
            }
            None => None,
        };
        Ok(Some((epochs, held)))
    }

    /// Remembers when grants were last used. Never moves a time back.
    pub async fn touch_grants(&self, used: Vec<(AppId, GrantId, TimeMs)>) -> Result<()> {
        let mut latest: BTreeMap<(AppId, GrantId), i64> = BTreeMap::new();
        for (app, grant, at) in used {
            let last = latest.entry((app, grant)).or_insert(at.0);
            *last = at.0.max(*last);
        }
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => {
                let sql = "UPDATE grants SET last_used_at_ms = $3 WHERE app_id = $1 AND id = $2 \
                    AND (last_used_at_ms IS NULL OR last_used_at_ms < $3)";
                let touch = move |tx: &mut Tx<'_>| {
                    latest.iter().try_for_each(|((app, grant), at)| {
                        tx.execute(sql, &[id(*app), id(*grant), (*at).into()]).map(drop)
                    })
                };
                sqlite.write(touch).await
            }
            Engine::Postgres { pools, .. } => {
                let sql = "UPDATE grants g SET last_used_at_ms = t.at \
                    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS t(app_id, id, at) \
                    WHERE g.app_id = t.app_id AND g.id = t.id \
                    AND (g.last_used_at_ms IS NULL OR g.last_used_at_ms < t.at)";
                let apps: Vec<&[u8]> = latest.keys().map(|(app, _)| app.as_bytes().as_slice()).collect();
                let grants: Vec<&[u8]> = latest.keys().map(|(_, grant)| grant.as_bytes().as_slice()).collect();
                let times: Vec<i64> = latest.values().copied().collect();
                alone(&pools.shared, sql, &[&apps, &grants, &times]).await.map(drop)
            }
        }
    }

    /// Remembers when keys were last used. Never moves a time back.
    pub async fn touch_keys(&self, used: Vec<(KeyId, TimeMs)>) -> Result<()> {
        let mut latest: BTreeMap<KeyId, i64> = BTreeMap::new();
        for (key, at) in used {
            let last = latest.entry(key).or_insert(at.0);
            *last = at.0.max(*last);
        }
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => {
                let touch = move |tx: &mut Tx<'_>| {
                    latest
                        .iter()
                        .try_for_each(|(key, at)| tx.execute(keys::TOUCH_SQL, &[id(*key), (*at).into()]).map(drop))
                };
                sqlite.write(touch).await
            }
            Engine::Postgres { pools, .. } => {
                let sql = "UPDATE api_keys k SET last_used_at_ms = t.at FROM unnest($1::bytea[], $2::bigint[]) AS t(id, at) \
                    WHERE k.id = t.id AND (k.last_used_at_ms IS NULL OR k.last_used_at_ms < t.at)";
                let keys: Vec<&[u8]> = latest.keys().map(|key| key.as_bytes().as_slice()).collect();
                let times: Vec<i64> = latest.values().copied().collect();
                alone(&pools.shared, sql, &[&keys, &times]).await.map(drop)
            }
        }
    }

    /// Forgets nonces that were signed before: the signature is too old by now.
    pub async fn prune_nonces(&self, before: TimeMs) -> Result<u64> {
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => sqlite.write(move |tx| tx.forget_nonces(before)).await,
            Engine::Postgres { pools, .. } => {
                alone(&pools.shared, "DELETE FROM nonces WHERE signed_at_ms < $1", &[&before.0]).await
            }
        }
    }
}

/// One statement on PostgreSQL, at READ COMMITTED and beside the lane.
pub(crate) async fn alone(pool: &postgres::Pool, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
    let client = postgres::connect(pool).await?;
    let mut retries = 0;
    loop {
        let run = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, params).await
        };
        match run.await.map_err(|e| postgres::error(&e)) {
            Err(Error::Busy) if retries < RETRIES_MAX => retries += 1,
            other => return other,
        }
    }
}

pub(crate) fn epochs(era: u64, row: &mut Row) -> Result<Epochs> {
    Ok(Epochs { era, organization: row.int("organizations.epoch")?, app: row.int("apps.epoch")? })
}

fn owner(status: &str) -> Option<Owner> {
    match status {
        "active" => Some(Owner::Active),
        "suspended" => Some(Owner::Suspended),
        "deprovisioned" => Some(Owner::Deprovisioned),
        _ => None,
    }
}

fn known(era: u64, mut row: Row) -> Result<Known> {
    let epochs = epochs(era, &mut row)?;
    Ok(Known { key: keys::read(&mut row)?, app: apps::read(&mut row)?, epochs })
}

/// Uses a nonce once, in the write of the change it belongs to.
pub fn use_nonce(tx: &mut Tx<'_>, nonce: &Nonce) -> Result<()> {
    if tx.use_nonce(nonce)? { Ok(()) } else { Err(Error::Replayed) }
}

/// What a confirmation compares, of an app.
pub(crate) fn find_epochs(tx: &mut Tx<'_>, organization: OrganizationId, app: AppId) -> Result<Option<Epochs>> {
    let sql = "SELECT o.epoch, a.epoch FROM apps a JOIN organizations o ON o.id = a.organization_id WHERE a.id = $1 AND o.id = $2";
    tx.query_opt("apps", sql, &[id(app), id(organization)])?.as_mut().map(|row| epochs(0, row)).transpose()
}

/// What a confirmation compares, of a credential.
pub(crate) fn find_version(tx: &mut Tx<'_>, app: AppId, credential: CredentialId) -> Result<Option<i64>> {
    let sql = "SELECT version FROM credentials WHERE app_id = $1 AND id = $2";
    let row = tx.query_opt("credentials", sql, &[id(app), id(credential)])?;
    row.map(|mut row| row.int("version")).transpose()
}
