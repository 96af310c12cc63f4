//! What a restored database needs before it may be served.
//!
//! Invariant: nothing here ever opens what was closed. Each change is guarded, so that a run that was cut off is simply run again.

use std::collections::{BTreeMap, HashMap};

use grantd_domain::audit::{HeadAt, Owner};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, CredentialId, OrganizationId};
use grantd_wire::sign::hex;

use crate::apps;
use crate::audit::{StoredCheckpoint, stored_checkpoint};
use crate::error::Result;
use crate::seam::{Tx, id, owner_id, text_id};

/// How far epochs jump: more changes than any install makes between a backup and its restore. So an epoch that a process or a
/// cache remembers from before never comes again.
const EPOCH_JUMP: i64 = 1 << 32;

/// Ends of every chain, by owner.
pub type Heads = BTreeMap<String, Vec<HeadAt>>;

/// The last link of every chain there is.
pub fn heads(tx: &mut Tx<'_>) -> Result<Heads> {
    let sql = "SELECT c.app_id, e.chain_id, e.seq, e.hash FROM chains c JOIN events e ON e.chain_id = c.id \
        AND e.seq = (SELECT MAX(m.seq) FROM events m WHERE m.chain_id = c.id) ORDER BY c.app_id, e.chain_id";
    let mut heads = Heads::new();
    for mut row in tx.query("chains", sql, &[])? {
        let owner = row.id_text("app_id")?;
        let head =
            HeadAt { chain_id: row.id_text("chain_id")?, seq: row.int("seq")?, hash: hex(&row.array::<32>("hash")?) };
        heads.entry(owner).or_default().push(head);
    }
    Ok(heads)
}

/// First and last event that a chain still has: their cores.
pub fn ends(tx: &mut Tx<'_>, head: &HeadAt) -> Result<Vec<String>> {
    let sql = "SELECT core FROM events WHERE chain_id = $1 \
        AND seq IN ((SELECT MIN(m.seq) FROM events m WHERE m.chain_id = $1), $2) ORDER BY seq";
    let rows = tx.query("events", sql, &[text_id(&head.chain_id), head.seq.into()])?;
    rows.into_iter().map(|mut row| row.text("core")).collect()
}

/// The last checkpoint of an owner.
pub fn last_checkpoint(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<StoredCheckpoint>> {
    let sql = "SELECT body, n, key_id, signature FROM checkpoints WHERE app_id = $1 ORDER BY n DESC LIMIT 1";
    tx.query_opt("checkpoints", sql, &[owner_id(owner)])?.map(stored_checkpoint).transpose()
}

/// The hashes of these links, in hex, as far as there are such links.
pub fn link_hashes(tx: &mut Tx<'_>, links: &[HeadAt]) -> Result<HashMap<String, String>> {
    let mut hashes = HashMap::new();
    for link in links {
        let sql = "SELECT hash FROM events WHERE chain_id = $1 AND seq = $2";
        if let Some(mut row) = tx.query_opt("events", sql, &[text_id(&link.chain_id), link.seq.into()])? {
            hashes.insert(link.chain_id.clone(), hex(&row.array::<32>("hash")?));
        }
    }
    Ok(hashes)
}

/// The largest `at` of any event.
pub fn newest_event(tx: &mut Tx<'_>) -> Result<Option<TimeMs>> {
    let sql = "SELECT MAX(e.at_ms) FROM chains c JOIN events e ON e.chain_id = c.id \
        AND e.seq = (SELECT MAX(m.seq) FROM events m WHERE m.chain_id = c.id)";
    tx.query_opt("events", sql, &[])?.map_or(Ok(None), |mut row| row.opt_time("at_ms"))
}

/// Every app of the organization: id and name.
pub fn apps(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Vec<(AppId, String)>> {
    let sql = "SELECT id, name FROM apps WHERE organization_id = $1 ORDER BY id";
    let rows = tx.query("apps", sql, &[id(organization)])?;
    rows.into_iter().map(|mut row| Ok((row.id("id")?, row.text("name")?))).collect()
}

/// Sets the database apart from everything that was before the restore: epochs that were never used, chains that begin anew
/// (so that no place in a chain is taken twice), data keys that seal no more (their count of seals is of the past), and a clock
/// floor of now.
pub fn fence(tx: &mut Tx<'_>, at: TimeMs) -> Result<()> {
    tx.execute(
        "UPDATE organizations SET epoch = epoch + $1, policy_version = policy_version + 1",
        &[EPOCH_JUMP.into()],
    )?;
    tx.execute("UPDATE apps SET epoch = epoch + $1, policy_version = policy_version + 1", &[EPOCH_JUMP.into()])?;
    tx.execute("UPDATE chains SET writer = 'before a restore'", &[])?;
    tx.execute(
        "UPDATE data_keys SET retired_at_ms = $1 WHERE app_id IS NOT NULL AND retired_at_ms IS NULL",
        &[at.into()],
    )?;
    tx.execute("UPDATE installs SET clock_floor_ms = $1 WHERE id = 1 AND clock_floor_ms < $1", &[at.into()])?;
    Ok(())
}

/// Takes away a value that was replaced by version `replaced_by`; `false` when it is that version already, or has none. The
/// version goes past every one that was used.
pub fn break_credential(
    tx: &mut Tx<'_>,
    app: AppId,
    credential: CredentialId,
    replaced_by: i64,
    at: TimeMs,
) -> Result<bool> {
    let broken = tx.change_one(
        "UPDATE credentials SET state = 'broken', data_key_id = NULL, sealed = NULL, updated_at_ms = $4, version = $3 + 1, \
         reason = CASE WHEN provider_row IS NULL THEN NULL ELSE 'reconnect' END, lease_until_ms = NULL, lease_by = NULL \
         WHERE app_id = $1 AND id = $2 AND version < $3 AND state = 'ok'",
        &[id(app), id(credential), replaced_by.into(), at.into()],
    )?;
    if broken {
        apps::raise_epoch(tx, app)?;
    }
    Ok(broken)
}
