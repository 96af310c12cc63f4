//! How long trails are kept: what of them is cut off, and what was cut off long enough to be deleted.
//!
//! Invariants: nothing is deleted that no signed checkpoint names as pruned. Each chain keeps its last event, so that its end never
//! vanishes. What an app's legal hold protects is neither cut off nor deleted.

use std::collections::BTreeMap;

use grantd_domain::audit::{Checkpoint, Owner, Terms};
use grantd_wire::ids::{AppId, ChainId, EventId, OperatorId};
use grantd_wire::{Code, Retention, TimeMs};

use crate::audit::{checkpoints, latest_checkpoint};
use crate::error::Result;
use crate::hot::alone;
use crate::seam::{Row, Tx, Value, after, id, owner_id, text_id};
use crate::{Engine, Store, crash};

/// Chains that are cut in one write.
const CHAINS_MAX: usize = 500;
/// Events that are deleted in one write, each with its terms. Appends wait for it on SQLite.
const EVENTS_MAX: i64 = 200;

/// What an app itself says of its trail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// How long it is kept.
    pub retention: Retention,
    /// Since when that holds.
    pub updated_at: TimeMs,
}

/// What the app says; `None` where it goes by the install.
pub fn find(tx: &mut Tx<'_>, app: AppId) -> Result<Option<Override>> {
    let sql = "SELECT app_id, days, updated_at_ms FROM retention WHERE app_id = $1";
    let Some(mut row) = tx.query_opt("retention", sql, &[id(app)])? else { return Ok(None) };
    row.id::<AppId>("app_id")?;
    let retention = match row.opt_int("days")? {
        None => Retention::Forever,
        Some(days) => {
            let days = u32::try_from(days).ok().and_then(Retention::of_days);
            days.ok_or_else(|| row.inconsistent("days"))?
        }
    };
    Ok(Some(Override { retention, updated_at: row.time("updated_at_ms")? }))
}

/// Says how long the app's trail is kept.
pub fn set(tx: &mut Tx<'_>, app: AppId, retention: Retention, at: TimeMs) -> Result<()> {
    let sql = "INSERT INTO retention (app_id, days, updated_at_ms) VALUES ($1, $2, $3) \
        ON CONFLICT (app_id) DO UPDATE SET days = $2, updated_at_ms = $3";
    let days = retention.days().map_or(Value::Null, |days| Value::Int(days.into()));
    tx.execute(sql, &[id(app), days, at.into()]).map(drop)
}

/// From now on the app goes by the install; `false` when it did.
pub fn reset(tx: &mut Tx<'_>, app: AppId) -> Result<bool> {
    tx.change_one("DELETE FROM retention WHERE app_id = $1", &[id(app)])
}

/// How long the owner's trail is kept: an app's own word, else the install's.
pub fn effective(tx: &mut Tx<'_>, owner: &Owner, install: Retention) -> Result<Retention> {
    match owner {
        Owner::App(app) => Ok(find(tx, *app)?.map_or(install, |own| own.retention)),
        Owner::Organization(_) => Ok(install),
    }
}

/// A place to cut a trail at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The checkpoint up to which events go.
    pub pruned_to: i64,
    /// The last event of each chain that goes.
    pub chains: Vec<(String, i64)>,
}

/// The furthest place to cut the trail at so that every event from `before` on stays; `None` when there is nothing to cut off. It
/// looks at a page of checkpoints: further places are found once this one was cut at.
pub fn find_cut(tx: &mut Tx<'_>, owner: &Owner, before: TimeMs) -> Result<Option<Cut>> {
    let pruned_to = latest_checkpoint(tx, owner)?.and_then(|(last, _)| last.pruned_to).unwrap_or(0);
    let (mut to, mut chains) = (pruned_to, BTreeMap::new());
    'checkpoints: for stored in checkpoints(tx, owner, pruned_to)? {
        let checkpoint: Checkpoint = serde_json::from_str(&stored.body)
            .map_err(|_| Row::new("checkpoints", vec![owner_id(owner)]).inconsistent("body"))?;
        if checkpoint.at >= before {
            break;
        }
        for head in &checkpoint.heads {
            // The clock of another process may be ahead of that of the one which signed. Within a chain no event is later than its head.
            let sql = "SELECT at_ms FROM events WHERE chain_id = $1 AND seq = $2";
            if let Some(mut row) = tx.query_opt("events", sql, &[text_id(&head.chain_id), head.seq.into()])?
                && row.time("at_ms")? >= before
            {
                break 'checkpoints;
            }
        }
        if to > pruned_to && chains.len() + checkpoint.heads.len() > CHAINS_MAX {
            break;
        }
        chains.extend(checkpoint.heads.into_iter().map(|head| (head.chain_id, head.seq)));
        to = checkpoint.n;
    }
    Ok((to > pruned_to).then(|| Cut { pruned_to: to, chains: chains.into_iter().collect() }))
}

/// Cuts the trail off, to be deleted from `delete_after` on; answers how many events that are, or `None` when it is cut there
/// already. The checkpoint that says so is to be signed in the same write.
pub fn cut(tx: &mut Tx<'_>, owner: &Owner, cut: &Cut, delete_after: TimeMs) -> Result<Option<i64>> {
    let last = latest_checkpoint(tx, owner)?.map(|(last, _)| last);
    if last.is_none_or(|last| last.pruned_to >= Some(cut.pruned_to) || last.n < cut.pruned_to) {
        return Ok(None);
    }
    let mut events = 0;
    for (chain, seq) in &cut.chains {
        let sql = "SELECT pruned_seq FROM chains WHERE id = $1 AND app_id = $2 AND pruned_seq < $3";
        let params = [text_id(chain), owner_id(owner), (*seq).into()];
        let Some(mut row) = tx.query_opt("chains", sql, &params)? else { continue };
        events += seq - row.int("pruned_seq")?;
        let sql = "UPDATE chains SET pruned_seq = $2, delete_after_ms = $3 WHERE id = $1";
        tx.execute(sql, &[text_id(chain), (*seq).into(), delete_after.into()])?;
    }
    crash::step("retention.cut");
    Ok(Some(events))
}

/// Events of a chain that can be deleted, oldest first.
struct Slice {
    chain_id: ChainId,
    owner: Vec<u8>,
    /// Where the chain was cut when this was read.
    cut: i64,
    events: Vec<(EventId, i64, Terms)>,
    /// Nothing before the cut waits for its place in the index.
    is_last: bool,
}

impl Store {
    /// Deletes some of what was cut off and whose time has come; answers how many events. None: nothing is left to delete now.
    pub async fn delete_pruned(&self, now: TimeMs) -> Result<u64> {
        let mut last_chain = None;
        while let Some(slice) = self.next_slice(last_chain, now).await? {
            let deleted = slice.events.len() as u64;
            match slice.events.last().map(|(_, seq, _)| *seq) {
                Some(last) => {
                    self.delete_slice(slice, last).await?;
                    crash::step("retention.events_deleted");
                    return Ok(deleted);
                }
                None if slice.is_last => {
                    self.end_deletion(&slice).await?;
                    crash::step("retention.ended");
                }
                None => {}
            }
            last_chain = Some(slice.chain_id);
        }
        Ok(0)
    }

    /// What can be deleted of the first chain after `last_chain`.
    async fn next_slice(&self, last_chain: Option<ChainId>, now: TimeMs) -> Result<Option<Slice>> {
        self.read(move |tx| {
            let sql = "SELECT c.id, c.app_id, c.pruned_seq, c.indexed_seq, \
                (SELECT MAX(e.seq) FROM events e WHERE e.chain_id = c.id) FROM chains c \
                WHERE c.delete_after_ms <= $1 AND c.id > $2 AND c.app_id NOT IN (SELECT h.app_id FROM holds h) \
                ORDER BY c.id LIMIT 1";
            let Some(mut row) = tx.query_opt("chains", sql, &[now.into(), after(last_chain)])? else { return Ok(None) };
            let (chain_id, owner, cut) = (row.id("id")?, row.bytes("app_id")?, row.int("pruned_seq")?);
            let (indexed, last) = (row.int("indexed_seq")?, row.opt_int("seq")?.unwrap_or(0));
            let to = cut.min(indexed).min(last - 1);
            let sql = "SELECT id, seq, terms FROM events WHERE chain_id = $1 AND seq <= $2 ORDER BY seq LIMIT $3";
            let rows = tx.query("events", sql, &[id(chain_id), to.into(), EVENTS_MAX.into()])?;
            let event = |mut row: Row| {
                let (id, seq) = (row.id("id")?, row.int("seq")?);
                let terms = Terms::unpack(&row.bytes("terms")?).ok_or_else(|| row.inconsistent("terms"))?;
                Ok((id, seq, terms))
            };
            let events = rows.into_iter().map(event).collect::<Result<_>>()?;
            Ok(Some(Slice { chain_id, owner, cut, events, is_last: to == cut.min(last - 1) }))
        })
        .await
    }

    /// Terms first: an event without them is found by none, and by the next run.
    async fn delete_slice(&self, slice: Slice, last: i64) -> Result<()> {
        let mut terms: Vec<(i64, EventId)> = Vec::new();
        for (event, _, its) in &slice.events {
            terms.extend(its.indexed().iter().map(|term| (*term, *event)));
        }
        // In the order of the index, as they were stored.
        terms.sort_unstable();
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => {
                let delete = move |tx: &mut Tx<'_>| {
                    if tx.count(HELD_SQL, &[slice.owner.as_slice().into()])? > 0 {
                        return Ok(());
                    }
                    for (term, event) in &terms {
                        let sql = "DELETE FROM event_terms WHERE app_id = $1 AND term = $2 AND event_id = $3";
                        tx.execute(sql, &[slice.owner.as_slice().into(), (*term).into(), id(*event)])?;
                    }
                    crash::step("retention.terms_deleted");
                    let sql = "DELETE FROM events WHERE chain_id = $1 AND seq <= $2";
                    tx.execute(sql, &[id(slice.chain_id), last.into()]).map(drop)
                };
                sqlite.write(delete).await
            }
            Engine::Postgres { pools, .. } => {
                let (numbers, events): (Vec<i64>, Vec<&[u8]>) =
                    terms.iter().map(|(t, e)| (*t, e.as_bytes().as_slice())).unzip();
                let sql = "DELETE FROM event_terms t USING unnest($2::bigint[], $3::bytea[]) AS gone(term, event_id) \
                    WHERE t.app_id = $1 AND t.term = gone.term AND t.event_id = gone.event_id \
                    AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.app_id = $1)";
                alone(&pools.shared, sql, &[&slice.owner, &numbers, &events]).await?;
                crash::step("retention.terms_deleted");
                let sql = "DELETE FROM events WHERE chain_id = $1 AND seq <= $2 \
                    AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.app_id = $3)";
                alone(&pools.shared, sql, &[&slice.chain_id.as_bytes().as_slice(), &last, &slice.owner]).await.map(drop)
            }
        }
    }

    /// Nothing is left before the cut but the end of a chain, whose hash is all that is needed of it; unless the cut was moved on
    /// meanwhile.
    async fn end_deletion(&self, slice: &Slice) -> Result<()> {
        let (chain, owner, cut) = (slice.chain_id, slice.owner.clone(), slice.cut);
        self.write(move |tx| {
            if tx.count(HELD_SQL, &[owner.as_slice().into()])? > 0 {
                return Ok(());
            }
            let sql = "UPDATE events SET private = NULL, salt = NULL WHERE chain_id = $1 AND seq <= $2";
            tx.execute(sql, &[id(chain), cut.into()])?;
            let sql = "UPDATE chains SET delete_after_ms = NULL WHERE id = $1 AND pruned_seq = $2";
            tx.execute(sql, &[id(chain), cut.into()]).map(drop)
        })
        .await
    }
}

/// How many events of the owner the database holds, and how many terms that find them. For stories of what is left.
#[doc(hidden)]
pub fn rows(tx: &mut Tx<'_>, owner: &Owner) -> Result<(i64, i64)> {
    let params = [owner_id(owner)];
    let events = tx.count("SELECT COUNT(*) FROM events WHERE app_id = $1", &params)?;
    Ok((events, tx.count("SELECT COUNT(*) FROM event_terms WHERE app_id = $1", &params)?))
}

/// That nothing of an app may be removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Who said so.
    pub operator_id: OperatorId,
    /// Since when.
    pub held_at: TimeMs,
}

/// The app's legal hold, if there is one.
pub fn find_hold(tx: &mut Tx<'_>, app: AppId) -> Result<Option<Hold>> {
    let sql = "SELECT app_id, reason, operator_id, held_at_ms FROM holds WHERE app_id = $1";
    let Some(mut row) = tx.query_opt("holds", sql, &[id(app)])? else { return Ok(None) };
    row.id::<AppId>("app_id")?;
    let reason = row.text("reason")?;
    let operator_id = row.id("operator_id")?;
    Ok(Some(Hold { reason, operator_id, held_at: row.time("held_at_ms")? }))
}

/// Puts the app under a hold, in the place of the one it is under.
pub fn hold(tx: &mut Tx<'_>, app: AppId, hold: &Hold) -> Result<()> {
    let sql = "INSERT INTO holds (app_id, reason, operator_id, held_at_ms) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (app_id) DO UPDATE SET reason = $2, operator_id = $3, held_at_ms = $4";
    tx.execute(sql, &[id(app), (&hold.reason).into(), id(hold.operator_id), hold.held_at.into()]).map(drop)
}

/// Ends the app's hold; `false` when there is none.
pub fn release(tx: &mut Tx<'_>, app: AppId) -> Result<bool> {
    tx.change_one("DELETE FROM holds WHERE app_id = $1", &[id(app)])
}

const HELD_SQL: &str = "SELECT COUNT(*) FROM holds WHERE app_id = $1";

/// Whether a legal hold forbids that anything of the owner is removed.
pub fn is_held(tx: &mut Tx<'_>, owner: &Owner) -> Result<bool> {
    Ok(tx.count(HELD_SQL, &[owner_id(owner)])? > 0)
}

/// Refuses while the app is under a legal hold.
pub fn check_not_held(tx: &mut Tx<'_>, app: AppId) -> Result<()> {
    if is_held(tx, &Owner::App(app))? { Err(Code::LegalHold.into()) } else { Ok(()) }
}
