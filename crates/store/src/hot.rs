//! The hot path: who calls, what the grant is, and the append that confirms.

use grantd_domain::audit::{Linked, Owner, Prepared};
use grantd_domain::grant::{ApiKey, App};
use grantd_domain::resolve::Held;
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, CredentialId, GrantId, KeyId, OrganizationId};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::seam::postgres::{self, error};
use crate::seam::{Chains, Row, Tx, id};
use crate::{Store, apps, audit, credentials, grants, keys, secrets};

/// Events in one statement.
const GROUP_MAX: usize = 512;

/// Numbers that every change which can turn an allow into a deny raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub organization: i64,
    pub app: i64,
}

/// A key with its app, read in one statement.
#[derive(Clone, Debug)]
pub struct Known {
    pub key: ApiKey,
    pub app: App,
    pub epochs: Epochs,
}

/// What must still hold when the event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    pub organization_id: OrganizationId,
    pub app_id: AppId,
    pub epochs: Epochs,
    pub credential_id: CredentialId,
    pub credential_version: i64,
}

/// An event to make durable.
#[derive(Clone, Debug)]
pub struct Append {
    pub event: Prepared,
    pub confirm: Option<Confirm>,
    /// Used once, on all replicas.
    pub nonce: Option<Nonce>,
}

/// A key's nonce and when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    pub key_id: KeyId,
    pub nonce: [u8; 16],
    pub seen_at: TimeMs,
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
            a.indexed_context_keys, a.created_at_ms, a.version \
            FROM api_keys k JOIN apps a ON a.id = k.app_id JOIN organizations o ON o.id = a.organization_id WHERE k.key_hash = $1";
        let rows = self.fetch("api_keys", sql, vec![key_hash.as_slice().into()]).await?;
        rows.into_iter().next().map(known).transpose()
    }

    /// A grant of the app with what stands behind it, and the epochs of that moment. `None`: the app is gone.
    pub async fn find_held(&self, app: AppId, grant: GrantId) -> Result<Option<(Epochs, Option<Held>)>> {
        let sql = "SELECT o.epoch, a.epoch, \
            g.id, g.app_id, g.credential_id, g.label, g.status, g.reason, g.tenant_value, g.tenant_exempt_at_ms, g.expires_at_ms, \
            g.created_at_ms, g.revoked_at_ms, g.last_used_at_ms, g.version, \
            c.id, c.app_id, c.secret_id, c.generation, c.state, c.data_key_id, c.sealed, c.updated_at_ms, c.version, \
            s.id, s.app_id, s.slug, s.name, s.credential_type, s.header, s.format, s.injections, s.field_names, s.hosts, \
            s.any_host_at_ms, s.created_at_ms, s.version \
            FROM apps a JOIN organizations o ON o.id = a.organization_id \
            LEFT JOIN grants g ON g.app_id = a.id AND g.id = $2 \
            LEFT JOIN credentials c ON c.app_id = a.id AND c.id = g.credential_id \
            LEFT JOIN managed_secrets s ON s.app_id = a.id AND s.id = c.secret_id WHERE a.id = $1";
        let rows = self.fetch("grants", sql, vec![id(app), id(grant)]).await?;
        let Some(mut row) = rows.into_iter().next() else { return Ok(None) };
        let epochs = epochs(&mut row)?;
        let held = match grants::read_opt(&mut row)? {
            Some(grant) => {
                Some(Held { grant, credential: credentials::read(&mut row)?, secret: secrets::read(&mut row)? })
            }
            None => None,
        };
        Ok(Some((epochs, held)))
    }

    /// Remembers when grants were last used. Never moves a time back.
    pub async fn touch_grants(&self, used: Vec<(AppId, GrantId, TimeMs)>) -> Result<()> {
        self.write(move |tx| {
            for (app, grant, at) in &used {
                tx.execute(
                    "UPDATE grants SET last_used_at_ms = $3 WHERE app_id = $1 AND id = $2 \
                     AND (last_used_at_ms IS NULL OR last_used_at_ms < $3)",
                    &[id(app), id(grant), (*at).into()],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets nonces whose life is over.
    pub async fn prune_nonces(&self, before: TimeMs) -> Result<u64> {
        self.write(move |tx| tx.execute("DELETE FROM nonces WHERE seen_at_ms < $1", &[before.into()])).await
    }
}

fn epochs(row: &mut Row) -> Result<Epochs> {
    Ok(Epochs { organization: row.int("organizations.epoch")?, app: row.int("apps.epoch")? })
}

fn known(mut row: Row) -> Result<Known> {
    let epochs = epochs(&mut row)?;
    Ok(Known { key: keys::read(&mut row)?, app: apps::read(&mut row)?, epochs })
}

/// Uses a nonce once, in the write of the change it belongs to.
pub fn use_nonce(tx: &mut Tx<'_>, nonce: &Nonce) -> Result<()> {
    let new = tx.execute(
        "INSERT INTO nonces (key_id, nonce, seen_at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        &[id(nonce.key_id), nonce.nonce.as_slice().into(), nonce.seen_at.into()],
    )?;
    if new == 1 { Ok(()) } else { Err(Error::Replayed) }
}

/// The append inside a transaction: what SQLite's writer runs for each waiting call.
pub(crate) fn append(tx: &mut Tx<'_>, append: &Append) -> Result<Appended> {
    if let Some(c) = &append.confirm {
        let held = tx.count(
            "SELECT COUNT(*) FROM apps a JOIN organizations o ON o.id = a.organization_id JOIN credentials c ON c.app_id = a.id \
             WHERE a.id = $1 AND a.epoch = $2 AND o.id = $3 AND o.epoch = $4 AND c.id = $5 AND c.version = $6",
            &[
                id(c.app_id),
                c.epochs.app.into(),
                id(c.organization_id),
                c.epochs.organization.into(),
                id(c.credential_id),
                c.credential_version.into(),
            ],
        )?;
        if held != 1 {
            return Ok(Appended::Moved);
        }
    }
    if let Some(nonce) = &append.nonce {
        use_nonce(tx, nonce)?;
    }
    audit::append(tx, &append.event)?;
    Ok(Appended::Done)
}

/// A call that waits for its append on PostgreSQL.
pub(crate) struct Waiting {
    pub append: Append,
    pub reply: oneshot::Sender<Result<Appended>>,
}

/// The append path of one process on PostgreSQL: whatever waits is written by one statement.
pub(crate) async fn append_groups(
    pool: deadpool_postgres::Pool,
    mut chains: Chains,
    mut queue: mpsc::Receiver<Waiting>,
) {
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match queue.try_recv() {
                Ok(waiting) => group.push(waiting),
                Err(_) => break,
            }
        }
        append_group(&pool, &mut chains, group).await;
    }
}

/// Writes a group. Calls that do not hold are answered and taken out until the rest goes in whole.
async fn append_group(pool: &deadpool_postgres::Pool, chains: &mut Chains, mut group: Vec<Waiting>) {
    let fail = |group: Vec<Waiting>, e: &Error| {
        tracing::error!(error = %e, calls = group.len(), "A group of events was not written");
        for waiting in group {
            drop(waiting.reply.send(Err(Error::Unavailable { what: e.to_string() })));
        }
    };
    let client = match postgres::connect(pool).await {
        Ok(client) => client,
        Err(e) => return fail(group, &e),
    };
    group = answer_doubles(group);
    while !group.is_empty() {
        match write_group(&client, chains, &group).await {
            Ok(Written::All) => {
                for waiting in group {
                    drop(waiting.reply.send(Ok(Appended::Done)));
                }
                return;
            }
            Ok(Written::Nothing { out, why }) if !out.is_empty() => {
                let mut i = 0;
                let (gone, rest) = group.into_iter().partition(|_| {
                    i += 1;
                    out.contains(&(i - 1))
                });
                group = rest;
                for waiting in gone {
                    drop(waiting.reply.send(Ok(why)));
                }
            }
            Ok(Written::Nothing { .. }) => {
                // A duplicate that no nonce explains: our idea of the chains is wrong. Begin new ones.
                chains.fate_unknown();
                return fail(group, &Error::Unavailable { what: "an event's place was taken".to_owned() });
            }
            Err(e) => {
                chains.fate_unknown();
                return fail(group, &e);
            }
        }
    }
}

/// Two calls of one group with the same nonce: only the first goes on.
fn answer_doubles(group: Vec<Waiting>) -> Vec<Waiting> {
    let mut seen = std::collections::HashSet::new();
    let (first, again): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|w| w.append.nonce.is_none_or(|n| seen.insert((n.key_id, n.nonce))));
    for waiting in again {
        drop(waiting.reply.send(Ok(Appended::Replayed)));
    }
    first
}

enum Written {
    All,
    /// These members of the group stand in the way.
    Nothing {
        out: Vec<usize>,
        why: Appended,
    },
}

const APPEND_SQL: &str = "WITH asked AS ( \
      SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[]) \
        AS t(i, organization_id, organization_epoch, app_id, app_epoch, credential_id, credential_version) \
    ), moved AS ( \
      SELECT i FROM asked q WHERE NOT EXISTS ( \
        SELECT 1 FROM apps a JOIN organizations o ON o.id = a.organization_id JOIN credentials c ON c.app_id = a.id \
        WHERE a.id = q.app_id AND a.epoch = q.app_epoch AND o.id = q.organization_id AND o.epoch = q.organization_epoch \
          AND c.id = q.credential_id AND c.version = q.credential_version) \
    ), new_nonces AS ( \
      INSERT INTO nonces (key_id, nonce, seen_at_ms) \
      SELECT * FROM unnest($8::text[], $9::bytea[], $10::bigint[]) WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ), new_chains AS ( \
      INSERT INTO chains (id, app_id, writer, first_previous, checkpointed_seq) \
      SELECT t.*, 0 FROM unnest($11::text[], $12::text[], $13::text[], $14::bytea[]) AS t WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ), new_events AS ( \
      INSERT INTO events (id, app_id, chain_id, seq, at_ms, core, private, salt, private_hash, event_hash, hash) \
      SELECT * FROM unnest($15::text[], $16::text[], $17::text[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], \
        $22::bytea[], $23::bytea[], $24::bytea[], $25::bytea[]) WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ), new_terms AS ( \
      INSERT INTO event_terms (app_id, term, event_id) \
      SELECT * FROM unnest($26::text[], $27::bigint[], $28::text[]) WHERE NOT EXISTS (SELECT 1 FROM moved) ON CONFLICT DO NOTHING \
    ) SELECT i FROM moved";

async fn write_group(client: &deadpool_postgres::Client, chains: &mut Chains, group: &[Waiting]) -> Result<Written> {
    let mut new_chains: Vec<(String, String, String, Vec<u8>)> = Vec::new();
    for waiting in group {
        let event = &waiting.append.event;
        if chains.head(&event.owner).is_none() {
            let first_previous = latest_checkpoint(client, event.owner).await?;
            let head = audit::new_chain(event, first_previous);
            new_chains.push((
                head.chain_id.to_string(),
                event.owner.key(),
                chains.writer().to_owned(),
                first_previous.to_vec(),
            ));
            chains.begin(event.owner, head);
        }
    }
    let linked: Vec<(&Prepared, Linked)> =
        group.iter().map(|w| (&w.append.event, chains.link(&w.append.event))).collect();
    let asked: Vec<(i64, Confirm)> =
        group.iter().zip(0..).filter_map(|(w, i)| w.append.confirm.map(|c| (i, c))).collect();
    let nonces: Vec<Nonce> = group.iter().filter_map(|w| w.append.nonce).collect();
    let terms: Vec<(String, i64, String)> =
        linked.iter().flat_map(|(e, _)| e.terms.iter().map(|t| (e.owner.key(), *t, e.id.to_string()))).collect();
    macro_rules! column {
        ($items:expr, |$x:pat_param| $value:expr) => {
            $items.iter().map(|$x| $value).collect::<Vec<_>>()
        };
    }
    let statement = client.prepare_cached(APPEND_SQL).await.map_err(|e| error(&e))?;
    let rows = client
        .query(
            &statement,
            &[
                &column!(asked, |(i, _)| *i),
                &column!(asked, |(_, c)| c.organization_id.to_string()),
                &column!(asked, |(_, c)| c.epochs.organization),
                &column!(asked, |(_, c)| c.app_id.to_string()),
                &column!(asked, |(_, c)| c.epochs.app),
                &column!(asked, |(_, c)| c.credential_id.to_string()),
                &column!(asked, |(_, c)| c.credential_version),
                &column!(nonces, |n| n.key_id.to_string()),
                &column!(nonces, |n| n.nonce.to_vec()),
                &column!(nonces, |n| n.seen_at.0),
                &column!(new_chains, |(chain, _, _, _)| chain),
                &column!(new_chains, |(_, owner, _, _)| owner),
                &column!(new_chains, |(_, _, writer, _)| writer),
                &column!(new_chains, |(_, _, _, previous)| previous),
                &column!(linked, |(e, _)| e.id.to_string()),
                &column!(linked, |(e, _)| e.owner.key()),
                &column!(linked, |(_, l)| l.chain_id.to_string()),
                &column!(linked, |(_, l)| l.seq),
                &column!(linked, |(_, l)| l.at.0),
                &column!(linked, |(_, l)| l.core.as_str()),
                &column!(linked, |(e, _)| e.private.as_deref()),
                &column!(linked, |(e, _)| e.salt.to_vec()),
                &column!(linked, |(e, _)| e.private_hash.to_vec()),
                &column!(linked, |(_, l)| l.event_hash.to_vec()),
                &column!(linked, |(_, l)| l.hash.to_vec()),
                &column!(terms, |(owner, _, _)| owner),
                &column!(terms, |(_, term, _)| *term),
                &column!(terms, |(_, _, event)| event),
            ],
        )
        .await;
    match rows {
        Ok(rows) if rows.is_empty() => {
            chains.committed();
            Ok(Written::All)
        }
        Ok(rows) => {
            chains.rolled_back();
            let out = rows.iter().map(|r| usize::try_from(r.get::<_, i64>(0)).unwrap_or(usize::MAX)).collect();
            Ok(Written::Nothing { out, why: Appended::Moved })
        }
        Err(e) => match error(&e) {
            Error::Duplicate => {
                chains.rolled_back();
                let used = used_nonces(client, &nonces).await?;
                let out = (0..group.len())
                    .filter(|i| {
                        group[*i].append.nonce.is_some_and(|n| used.contains(&(n.key_id.to_string(), n.nonce.to_vec())))
                    })
                    .collect();
                Ok(Written::Nothing { out, why: Appended::Replayed })
            }
            other => Err(other),
        },
    }
}

async fn used_nonces(client: &deadpool_postgres::Client, nonces: &[Nonce]) -> Result<Vec<(String, Vec<u8>)>> {
    let keys: Vec<String> = nonces.iter().map(|n| n.key_id.to_string()).collect();
    let bytes: Vec<Vec<u8>> = nonces.iter().map(|n| n.nonce.to_vec()).collect();
    let sql = "SELECT n.key_id, n.nonce FROM nonces n JOIN unnest($1::text[], $2::bytea[]) AS t(key_id, nonce) \
        ON n.key_id = t.key_id AND n.nonce = t.nonce";
    let statement = client.prepare_cached(sql).await.map_err(|e| error(&e))?;
    let rows = client.query(&statement, &[&keys, &bytes]).await.map_err(|e| error(&e))?;
    Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
}

async fn latest_checkpoint(client: &deadpool_postgres::Client, owner: Owner) -> Result<[u8; 32]> {
    let rows = postgres::query(client, audit::LATEST_CHECKPOINT_SQL, &[owner.key().into()]).await?;
    audit::checkpoint_hash(rows.into_iter().next().map(|values| Row::new("checkpoints", values)))
}
