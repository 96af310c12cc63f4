//! The index of events by their terms: it follows behind the appends, so that no call waits for it.
//!
//! Invariants: a chain's `indexed_seq` is raised only after the terms of every event up to it are stored. Storing a term twice
//! changes nothing, so two processes may do the same work. What is counted of events is stored in the write that raises
//! `indexed_seq` from where they began: each event counts once, whoever was killed or did the same work meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use grantd_domain::audit::{Owner, Terms};
use grantd_domain::hourly::{What, hour_of};
use grantd_wire::ids::{ChainId, EventId};

use crate::crash;
use crate::error::Result;
use crate::hot::alone;
use crate::hourly::{self, Counts};
use crate::seam::{Tx, id, owner_id};
use crate::{Engine, Store};

/// Events in one step. Their terms are sorted together: the more there are, the more of them share a page of the index, and a page
/// that is written once for twenty events costs a twentieth.
const STEP_EVENTS: i64 = 8_192;
/// Terms in one write; on SQLite each is one stay in the writer, which appends wait for.
const SLICE_ENTRIES: usize = 1_024;

/// Whose chains.
enum Scope {
    /// This process writes them.
    Own,
    /// Everything this owner has, whoever writes it.
    Of(Owner),
    All,
}

/// A chain that is ahead of its index.
struct Pending {
    chain_id: ChainId,
    owner: Vec<u8>,
    indexed: i64,
    head: i64,
}

/// Terms of a chain's events, in the order of the index.
type Entries = Vec<(i64, EventId)>;

/// What is known of the next events of a chain.
struct Step {
    entries: Entries,
    counts: Counts,
    /// The last of them.
    last: i64,
}

/// Those who want an owner's index up to date join the pass that begins next.
#[derive(Default)]
pub(crate) struct CatchUp(Mutex<HashMap<Owner, Arc<tokio::sync::Mutex<u64>>>>, std::sync::atomic::AtomicU64);

impl Store {
    /// Indexes what this process has written; answers how many events.
    pub async fn index_own(&self) -> Result<u64> {
        self.index(&Scope::Own).await
    }

    /// Indexes what any process has written: one may have ended before it got to it.
    pub async fn index_all(&self) -> Result<u64> {
        self.index(&Scope::All).await
    }

    /// Returns when everything of the owner that was committed before this call is indexed.
    pub async fn catch_up(&self, owner: Owner) -> Result<()> {
        use std::sync::atomic::Ordering::SeqCst;
        let CatchUp(passes, clock) = &self.inner.catch_up;
        let asked = clock.fetch_add(1, SeqCst);
        let pass = Arc::clone(passes.lock().unwrap_or_else(PoisonError::into_inner).entry(owner).or_default());
        let mut begun = pass.lock().await;
        if *begun > asked {
            // A pass that began after this call is over.
            return Ok(());
        }
        let beginning = clock.fetch_add(1, SeqCst);
        self.index(&Scope::Of(owner)).await?;
        *begun = beginning;
        Ok(())
    }

    async fn index(&self, scope: &Scope) -> Result<u64> {
        let mut events = 0;
        for chain in self.pending(scope).await? {
            let mut indexed = chain.indexed;
            while indexed < chain.head {
                let Some(step) = self.step(&chain, indexed).await? else { break };
                let last = step.last;
                self.store_step(&chain, indexed, step).await?;
                events += last.abs_diff(indexed);
                indexed = last;
            }
        }
        Ok(events)
    }

    async fn pending(&self, scope: &Scope) -> Result<Vec<Pending>> {
        macro_rules! pending_sql {
            ($which:literal) => {
                concat!(
                    "SELECT c.id, c.app_id, c.indexed_seq, (SELECT MAX(e.seq) FROM events e WHERE e.chain_id = c.id) FROM chains c WHERE ",
                    $which,
                    " AND EXISTS (SELECT 1 FROM events e WHERE e.chain_id = c.id AND e.seq > c.indexed_seq)"
                )
            };
        }
        let rows = match scope {
            Scope::Own => {
                let [a, b] = self.writers();
                self.fetch("chains", pending_sql!("c.writer IN ($1, $2)"), vec![a.into(), b.into()]).await?
            }
            Scope::Of(owner) => self.fetch("chains", pending_sql!("c.app_id = $1"), vec![owner_id(owner)]).await?,
            Scope::All => self.fetch("chains", pending_sql!("1 = 1"), Vec::new()).await?,
        };
        rows.into_iter()
            .map(|mut row| {
                Ok(Pending {
                    chain_id: row.id("id")?,
                    owner: row.bytes("app_id")?,
                    indexed: row.int("indexed_seq")?,
                    head: row.int("seq")?,
                })
            })
            .collect()
    }

    /// The next events after `indexed`, if there are any.
    async fn step(&self, chain: &Pending, indexed: i64) -> Result<Option<Step>> {
        let sql = "SELECT id, seq, at_ms, terms FROM events WHERE chain_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let params = vec![id(chain.chain_id), indexed.into(), STEP_EVENTS.into()];
        let (mut entries, mut counts, mut last) = (Entries::new(), Counts::default(), None);
        for mut row in self.fetch("events", sql, params).await? {
            let (event, seq, at): (EventId, _, _) = (row.id("id")?, row.int("seq")?, row.time("at_ms")?);
            let terms = Terms::unpack(&row.bytes("terms")?).ok_or_else(|| row.inconsistent("terms"))?;
            entries.extend(terms.indexed().iter().map(|term| (*term, event)));
            if let Some(what) = What::of(&terms) {
                counts.add(hour_of(at), what, 1);
            }
            last = Some(seq);
        }
        // In the order of the index, neighbours go into one page; and two processes with the same terms cannot deadlock.
        entries.sort_unstable();
        Ok(last.map(|last| Step { entries, counts, last }))
    }

    async fn store_step(&self, chain: &Pending, indexed: i64, step: Step) -> Result<()> {
        let Step { entries, counts, last } = step;
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => {
                let insert =
                    "INSERT INTO event_terms (app_id, term, event_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
                let entries: Arc<[(i64, EventId)]> = entries.into();
                for from in (0..entries.len()).step_by(SLICE_ENTRIES) {
                    let (entries, owner) = (Arc::clone(&entries), chain.owner.clone());
                    let store = move |tx: &mut Tx<'_>| {
                        let mut slice = entries.iter().skip(from).take(SLICE_ENTRIES);
                        slice.try_for_each(|(term, event)| {
                            tx.execute(insert, &[owner.as_slice().into(), (*term).into(), id(*event)]).map(drop)
                        })
                    };
                    sqlite.write(store).await?;
                }
                crash::step("job.terms_stored");
                let (chain, owner) = (id(chain.chain_id), chain.owner.clone());
                let raise = move |tx: &mut Tx<'_>| {
                    let sql = "UPDATE chains SET indexed_seq = $2 WHERE id = $1 AND indexed_seq = $3";
                    if tx.change_one(sql, &[chain.clone(), last.into(), indexed.into()])? {
                        hourly::add(tx, &owner, &counts)?;
                        crash::step("job.events_counted");
                    }
                    Ok(())
                };
                sqlite.write(raise).await
            }
            Engine::Postgres { pools, .. } => {
                let insert = "INSERT INTO event_terms (app_id, term, event_id) \
                    SELECT $1, * FROM unnest($2::bigint[], $3::bytea[]) ON CONFLICT DO NOTHING";
                for slice in entries.chunks(SLICE_ENTRIES) {
                    let terms: Vec<i64> = slice.iter().map(|(term, _)| *term).collect();
                    let events: Vec<&[u8]> = slice.iter().map(|(_, event)| event.as_bytes().as_slice()).collect();
                    alone(&pools.shared, insert, &[&chain.owner, &terms, &events]).await?;
                }
                crash::step("job.terms_stored");
                let (hours, whats, times) = counts.columns();
                let raise = concat!(
                    "WITH raised AS (UPDATE chains SET indexed_seq = $2 WHERE id = $1 AND indexed_seq = $3 RETURNING app_id), \
                     counted AS (SELECT r.app_id, t.* FROM raised r CROSS JOIN unnest($4::bigint[], $5::text[], $6::bigint[]) \
                       AS t(hour_ms, what, times)) ",
                    hourly::add_counted!()
                );
                let place = chain.chain_id.as_bytes().as_slice();
                alone(&pools.shared, raise, &[&place, &last, &indexed, &hours, &whats, &times]).await?;
                crash::step("job.events_counted");
                Ok(())
            }
        }
    }
}
