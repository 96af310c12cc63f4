//! The append path on PostgreSQL: whatever waits is written by one statement, at READ COMMITTED, beside the write lane.
//!
//! Invariant: nobody is answered before the statement that holds his event, his confirmation and his nonce was committed. One
//! call that cannot be written costs the others of its group nothing but time.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};

use grantd_domain::audit::{Linked, Owner, Prepared};
use grantd_wire::TimeMs;
use grantd_wire::ids::{ChainId, KeyId};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::audit;
use crate::crash;
use crate::error::{Error, Result};
use crate::hot::{Append, Appended, Confirm, Nonce};
use crate::seam::postgres::{self, Client, Failure, Pool, error};
use crate::seam::{Chains, Row, Tally, now, owner_id};

/// Events in one statement.
const GROUP_MAX: usize = 512;
/// Times a group is written again after a deadlock with another process.
const RETRIES_MAX: u32 = 5;

/// A call that waits for its append.
struct Waiting {
    append: Append,
    reply: oneshot::Sender<Result<Appended>>,
}

impl Waiting {
    fn used(&self) -> Option<Used> {
        self.append.nonce.map(|n| (n.signed_at, n.key_id, n.nonce))
    }
}

type Used = (TimeMs, KeyId, [u8; 16]);

enum Message {
    Append(Box<Waiting>),
    /// Let nothing more in, and end after what waits.
    Stop,
}

/// The way in.
pub(crate) struct AppendPath {
    queue: mpsc::Sender<Message>,
    task: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl AppendPath {
    /// Starts the path; `writer` names its chains.
    pub(crate) fn start(pool: Pool, writer: String, tally: Arc<Tally>) -> Self {
        let (sender, queue) = mpsc::channel(grantd_wire::limits::AUDIT_QUEUE_MAX);
        let task = tokio::spawn(supervise(pool, writer, tally, Arc::new(Mutex::new(queue))));
        Self { queue: sender, task: std::sync::Mutex::new(Some(task)) }
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Appended> {
        let stopped = || Error::Unavailable { what: "the append path has stopped".to_owned() };
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Message::Append(Box::new(Waiting { append, reply }))).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Ends after everything that waits.
    pub(crate) async fn close(&self) {
        // It fails only when the path has stopped already.
        drop(self.queue.send(Message::Stop).await);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A path that panicked has told its callers already: their channels closed.
            drop(task.await);
        }
    }
}

/// A bug in one group must not end the path: its callers learn that it failed, and new chains begin.
async fn supervise(pool: Pool, writer: String, tally: Arc<Tally>, queue: Arc<Mutex<mpsc::Receiver<Message>>>) {
    loop {
        let chains = Chains::new(writer.clone(), false, Arc::clone(&tally));
        let appender = Appender { pool: pool.clone(), chains, tally: Arc::clone(&tally) };
        match tokio::spawn(append_groups(appender, Arc::clone(&queue))).await {
            Err(e) if e.is_panic() => tracing::error!("The append path panicked and begins anew"),
            _ => return,
        }
    }
}

async fn append_groups(mut appender: Appender, queue: Arc<Mutex<mpsc::Receiver<Message>>>) {
    let mut queue = queue.lock().await;
    while let Some(first) = queue.recv().await {
        let mut group = Vec::new();
        let mut message = Some(first);
        while let Some(next) = message {
            match next {
                Message::Append(waiting) => group.push(*waiting),
                Message::Stop => queue.close(),
            }
            message = if group.len() < GROUP_MAX { queue.try_recv().ok() } else { None };
        }
        appender.append(group).await;
    }
}

fn answer(calls: Vec<Waiting>, result: &Result<Appended>) {
    for waiting in calls {
        // A caller that went away needs no answer.
        drop(waiting.reply.send(result.clone()));
    }
}

/// Splits off calls whose nonce an earlier one of the group brings too: whether it is used is known only when that one is written.
fn split_doubles(group: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut seen = HashSet::new();
    group.into_iter().partition(|w| w.used().is_none_or(|nonce| seen.insert(nonce)))
}

/// What became of one statement.
enum Written {
    All,
    /// Nothing was written: these members of the group stand in the way.
    Without {
        out: Vec<usize>,
        why: Appended,
    },
}

struct Appender {
    pool: Pool,
    chains: Chains,
    tally: Arc<Tally>,
}

impl Appender {
    /// Writes a group, in as many statements as it takes, and answers every member.
    async fn append(&mut self, group: Vec<Waiting>) {
        let mut rounds = VecDeque::from([group]);
        while let Some(round) = rounds.pop_front() {
            let (round, doubles) = split_doubles(round);
            match self.append_round(round, &mut rounds).await {
                Ok(used) => {
                    let is_used = |w: &Waiting| w.used().is_some_and(|nonce| used.contains(&nonce));
                    let (replayed, rest) = doubles.into_iter().partition(is_used);
                    answer(replayed, &Ok(Appended::Replayed));
                    if !rest.is_empty() {
                        rounds.push_back(rest);
                    }
                }
                Err(e) => answer(doubles, &Err(e)),
            }
        }
    }

    /// Calls that do not hold are answered and taken out until the rest goes in whole. Answers the nonces that are used now.
    async fn append_round(
        &mut self,
        mut round: Vec<Waiting>,
        rounds: &mut VecDeque<Vec<Waiting>>,
    ) -> Result<HashSet<Used>> {
        let mut used = HashSet::new();
        let mut retries = 0;
        while !round.is_empty() {
            let started = now();
            match self.write(&round).await {
                Ok(Written::All) => {
                    self.tally.stats.commit_time.observe_time(started.elapsed());
                    self.tally.committed(round.len());
                    used.extend(round.iter().filter_map(Waiting::used));
                    answer(std::mem::take(&mut round), &Ok(Appended::Done));
                }
                Ok(Written::Without { out, why }) => {
                    let (gone, rest): (Vec<_>, Vec<_>) =
                        round.into_iter().enumerate().partition(|(i, _)| out.contains(i));
                    round = rest.into_iter().map(|(_, w)| w).collect();
                    let gone: Vec<_> = gone.into_iter().map(|(_, w)| w).collect();
                    if why == Appended::Replayed {
                        used.extend(gone.iter().filter_map(Waiting::used));
                    }
                    answer(gone, &Ok(why));
                }
                Err(Error::Busy) if retries < RETRIES_MAX => retries += 1,
                // One of them cannot be written. Each on its own, so that only that one fails.
                Err(Error::Duplicate | Error::Statement { .. }) if round.len() > 1 => {
                    rounds.extend(std::mem::take(&mut round).into_iter().map(|w| vec![w]));
                }
                Err(e) => {
                    tracing::error!(error = %e, calls = round.len(), "A group of events was not written");
                    answer(round, &Err(e.clone()));
                    return Err(e);
                }
            }
        }
        Ok(used)
    }

    async fn write(&mut self, group: &[Waiting]) -> Result<Written> {
        // Only a bug or a cancelled task could have left something staged.
        self.chains.rolled_back();
        let client = postgres::connect(&self.pool).await?;
        let out = of_other_eras(group, client.era());
        if !out.is_empty() {
            return Ok(Written::Without { out, why: Appended::Moved });
        }
        let linked = match Group::link(&client, &mut self.chains, group).await {
            Ok(linked) => linked,
            Err(e) => {
                self.chains.rolled_back();
                return Err(e);
            }
        };
        crash::step("postgres.append_linked");
        match linked.insert(&client).await {
            Ok(rows) if rows.is_empty() => {
                crash::step("postgres.append_written");
                self.chains.committed();
                Ok(Written::All)
            }
            Ok(rows) => {
                self.chains.rolled_back();
                let out = rows.iter().map(|r| usize::try_from(r.get::<_, i64>(0)).unwrap_or(usize::MAX)).collect();
                Ok(Written::Without { out, why: Appended::Moved })
            }
            Err(e) => {
                if postgres::was_undone(&e) {
                    self.chains.rolled_back();
                } else {
                    self.chains.fate_unknown();
                }
                match error(&e) {
                    Error::Duplicate => find_replayed(&client, group).await,
                    other => Err(other),
                }
            }
        }
    }
}

/// Calls that were decided on what another server, or an earlier run of this one, had: its epochs say nothing here.
fn of_other_eras(group: &[Waiting], era: u64) -> Vec<usize> {
    let is_of_other = |w: &Waiting| w.append.confirm.is_some_and(|c| c.epochs.era != era);
    (0..group.len()).filter(|i| is_of_other(&group[*i])).collect()
}

/// The nonces that are used already, or the duplicate that no nonce explains.
async fn find_replayed(client: &Client, group: &[Waiting]) -> Result<Written> {
    let nonces: Vec<Nonce> = group.iter().filter_map(|w| w.append.nonce).collect();
    let used = used_nonces(client, &nonces).await?;
    let is_used = |w: &Waiting| w.append.nonce.is_some_and(|n| used.contains(&stored(&n)));
    let out: Vec<usize> = (0..group.len()).filter(|i| is_used(&group[*i])).collect();
    if out.is_empty() { Err(Error::Duplicate) } else { Ok(Written::Without { out, why: Appended::Replayed }) }
}

/// A nonce as its row has it.
type StoredNonce = (i64, Vec<u8>, Vec<u8>);

fn stored(nonce: &Nonce) -> StoredNonce {
    (nonce.signed_at.0, nonce.key_id.as_bytes().to_vec(), nonce.nonce.to_vec())
}

const APPEND_SQL: &str = "WITH asked AS ( \
      SELECT * \
      FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bigint[]) \
        AS t(i, organization_id, organization_epoch, app_id, app_epoch, credential_id, credential_version) \
    ), moved AS ( \
      SELECT i FROM asked q WHERE NOT EXISTS ( \
        SELECT 1 FROM apps a JOIN organizations o ON o.id = a.organization_id JOIN credentials c ON c.app_id = a.id \
        WHERE a.id = q.app_id AND a.epoch = q.app_epoch AND o.id = q.organization_id AND o.epoch = q.organization_epoch \
          AND c.id = q.credential_id AND c.version = q.credential_version) \
    ), new_nonces AS ( \
      INSERT INTO nonces (signed_at_ms, key_id, nonce) \
      SELECT * FROM unnest($8::bigint[], $9::bytea[], $10::bytea[]) WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ), new_chains AS ( \
      INSERT INTO chains (id, app_id, writer, first_previous, checkpointed_seq, indexed_seq) \
      SELECT t.*, 0, 0 FROM unnest($11::bytea[], $12::bytea[], $13::text[], $14::bytea[]) AS t WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ), new_events AS ( \
      INSERT INTO events (app_id, id, chain_id, seq, at_ms, core, private, salt, private_hash, event_hash, hash, terms) \
      SELECT * FROM unnest($15::bytea[], $16::bytea[], $17::bytea[], $18::bigint[], $19::bigint[], $20::text[], $21::text[], \
        $22::bytea[], $23::bytea[], $24::bytea[], $25::bytea[], $26::bytea[]) WHERE NOT EXISTS (SELECT 1 FROM moved) \
    ) SELECT i FROM moved";

/// A group in its places.
struct Group<'g> {
    asked: Vec<(i64, Confirm)>,
    nonces: Vec<Nonce>,
    new_chains: Vec<NewChain>,
    linked: Vec<(&'g Prepared, Linked)>,
}

struct NewChain {
    id: ChainId,
    owner: Owner,
    writer: String,
    first_previous: [u8; 32],
}

impl<'g> Group<'g> {
    /// Gives every event its place, and every owner that has none a chain.
    async fn link(client: &Client, chains: &mut Chains, calls: &'g [Waiting]) -> Result<Self> {
        let mut new_chains = Vec::new();
        let mut linked = Vec::with_capacity(calls.len());
        for Waiting { append: Append { event, .. }, .. } in calls {
            if chains.head(&event.owner).is_none() {
                let first_previous = latest_checkpoint(client, event.owner).await?;
                let head = audit::new_chain(event, first_previous);
                new_chains.push(NewChain {
                    id: head.chain_id,
                    owner: event.owner,
                    writer: chains.writer().to_owned(),
                    first_previous,
                });
                chains.begin(event.owner, head);
            }
            linked.push((event, chains.link(event)));
        }
        let asked = calls.iter().zip(0..).filter_map(|(w, i)| w.append.confirm.map(|c| (i, c))).collect();
        let mut nonces: Vec<Nonce> = calls.iter().filter_map(|w| w.append.nonce).collect();
        // In one order everywhere, so that two processes with the same nonces wait for each other and do not deadlock.
        nonces.sort_by_key(|n| (n.signed_at, n.key_id, n.nonce));
        Ok(Self { asked, nonces, new_chains, linked })
    }

    /// The rows that moved. The statement writes either all of the group or, when a row moved, nothing.
    async fn insert(&self, client: &Client) -> std::result::Result<Vec<tokio_postgres::Row>, Failure> {
        macro_rules! column {
            ($items:ident, |$x:pat_param| $value:expr) => {
                self.$items.iter().map(|$x| $value).collect::<Vec<_>>()
            };
        }
        let statement = client.prepare_cached(APPEND_SQL).await?;
        client
            .query(
                &statement,
                &[
                    &column!(asked, |(i, _)| *i),
                    &column!(asked, |(_, c)| c.organization_id.as_bytes().as_slice()),
                    &column!(asked, |(_, c)| c.epochs.organization),
                    &column!(asked, |(_, c)| c.app_id.as_bytes().as_slice()),
                    &column!(asked, |(_, c)| c.epochs.app),
                    &column!(asked, |(_, c)| c.credential_id.as_bytes().as_slice()),
                    &column!(asked, |(_, c)| c.credential_version),
                    &column!(nonces, |n| n.signed_at.0),
                    &column!(nonces, |n| n.key_id.as_bytes().as_slice()),
                    &column!(nonces, |n| n.nonce.as_slice()),
                    &column!(new_chains, |c| c.id.as_bytes().as_slice()),
                    &column!(new_chains, |c| c.owner.bytes().as_slice()),
                    &column!(new_chains, |c| c.writer.as_str()),
                    &column!(new_chains, |c| c.first_previous.as_slice()),
                    &column!(linked, |(e, _)| e.owner.bytes().as_slice()),
                    &column!(linked, |(e, _)| e.id.as_bytes().as_slice()),
                    &column!(linked, |(_, l)| l.chain_id.as_bytes().as_slice()),
                    &column!(linked, |(_, l)| l.seq),
                    &column!(linked, |(_, l)| l.at.0),
                    &column!(linked, |(_, l)| l.core.as_str()),
                    &column!(linked, |(e, _)| e.private.as_deref()),
                    &column!(linked, |(e, _)| e.salt.as_slice()),
                    &column!(linked, |(e, _)| e.private_hash.as_slice()),
                    &column!(linked, |(_, l)| l.event_hash.as_slice()),
                    &column!(linked, |(_, l)| l.hash.as_slice()),
                    &column!(linked, |(e, _)| e.terms.pack()),
                ],
            )
            .await
    }
}

async fn used_nonces(client: &Client, nonces: &[Nonce]) -> Result<HashSet<StoredNonce>> {
    let times: Vec<i64> = nonces.iter().map(|n| n.signed_at.0).collect();
    let keys: Vec<&[u8]> = nonces.iter().map(|n| n.key_id.as_bytes().as_slice()).collect();
    let bytes: Vec<&[u8]> = nonces.iter().map(|n| n.nonce.as_slice()).collect();
    let sql = "SELECT n.signed_at_ms, n.key_id, n.nonce FROM nonces n \
        JOIN unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS t(signed_at_ms, key_id, nonce) \
        ON n.signed_at_ms = t.signed_at_ms AND n.key_id = t.key_id AND n.nonce = t.nonce";
    let statement = client.prepare_cached(sql).await.map_err(|e| error(&e))?;
    let rows = client.query(&statement, &[&times, &keys, &bytes]).await.map_err(|e| error(&e))?;
    Ok(rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect())
}

async fn latest_checkpoint(client: &Client, owner: Owner) -> Result<[u8; 32]> {
    let rows = postgres::query(client, audit::LATEST_CHECKPOINT_SQL, &[owner_id(&owner)]).await?;
    audit::checkpoint_hash(rows.into_iter().next().map(|values| Row::new("checkpoints", values)))
}
