//! Events, chains and checkpoints.

use grantd_domain::audit::{Checkpoint, Head, HeadAt, Owner, Prepared, Signed, StoredEvent, Terms, ZERO_HASH, term};
use grantd_wire::ids::{AppId, ChainId, EventId, GenerationId, GrantId, KeyId};
use grantd_wire::sign::hex;
use grantd_wire::{TimeMs, limits};

use crate::error::Result;
use crate::seam::{Row, Tx, Value, after, id, owner_id, text_id};

pub(crate) const LATEST_CHECKPOINT_SQL: &str = "SELECT body FROM checkpoints WHERE app_id = $1 ORDER BY n DESC LIMIT 1";

/// The hash a chain begun now refers to.
pub(crate) fn checkpoint_hash(row: Option<Row>) -> Result<[u8; 32]> {
    row.map_or(Ok(ZERO_HASH), |mut row| Ok(Checkpoint::hash_of(&row.text("body")?)))
}

/// A chain that begins with `event`, and is named after it.
pub(crate) fn new_chain(event: &Prepared, first_previous: [u8; 32]) -> Head {
    let id = ChainId::parse(&event.id.to_string()).expect("an event's id is a UUID");
    Head::start(id, first_previous)
}

/// Appends an event to its owner's chain.
pub(crate) fn append(tx: &mut Tx<'_>, event: &Prepared) -> Result<()> {
    let owner = owner_id(&event.owner);
    if tx.chains.head(&event.owner).is_none() {
        let found = if tx.chains.resumes() { find_chain(tx, owner.clone())? } else { None };
        let head = if let Some(head) = found {
            head
        } else {
            let row = tx.query_opt("checkpoints", LATEST_CHECKPOINT_SQL, std::slice::from_ref(&owner))?;
            let head = new_chain(event, checkpoint_hash(row)?);
            let writer = tx.chains.writer().to_owned();
            tx.execute(
                "INSERT INTO chains (id, app_id, writer, first_previous, checkpointed_seq, indexed_seq) \
                 VALUES ($1, $2, $3, $4, 0, 0)",
                &[id(head.chain_id), owner.clone(), writer.into(), head.hash.as_slice().into()],
            )?;
            head
        };
        tx.chains.begin(event.owner, head);
    }
    let linked = tx.chains.link(event);
    tx.execute(
        INSERT_EVENT_SQL,
        &[
            owner,
            id(event.id),
            id(linked.chain_id),
            linked.seq.into(),
            linked.at.into(),
            linked.core.into(),
            event.private.as_ref().into(),
            event.salt.as_slice().into(),
            event.private_hash.as_slice().into(),
            linked.event_hash.as_slice().into(),
            linked.hash.as_slice().into(),
            event.terms.pack().into(),
        ],
    )?;
    Ok(())
}

const INSERT_EVENT_SQL: &str = "INSERT INTO events \
    (app_id, id, chain_id, seq, at_ms, core, private, salt, private_hash, event_hash, hash, terms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// The chain this only writer left behind.
fn find_chain(tx: &mut Tx<'_>, owner: Value) -> Result<Option<Head>> {
    let sql = "SELECT id, first_previous FROM chains WHERE app_id = $1 AND writer = $2 ORDER BY id DESC LIMIT 1";
    let writer = tx.chains.writer().to_owned();
    let Some(mut row) = tx.query_opt("chains", sql, &[owner, writer.into()])? else { return Ok(None) };
    let chain_id = row.id("id")?;
    let first_previous = row.array("first_previous")?;
    let sql = "SELECT seq, hash, at_ms FROM events WHERE chain_id = $1 ORDER BY seq DESC LIMIT 1";
    let Some(mut row) = tx.query_opt("events", sql, &[id(chain_id)])? else {
        return Ok(Some(Head::start(chain_id, first_previous)));
    };
    Ok(Some(Head { chain_id, seq: row.int("seq")?, hash: row.array("hash")?, at: row.time("at_ms")? }))
}

/// What events to list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Terms an event must have, all of them, and which are indexed ([`is_indexed`](grantd_domain::audit::is_indexed)).
    pub terms: Vec<i64>,
    /// Further terms it must have: compared on every event that is read.
    pub compared: Vec<i64>,
    /// Not before this millisecond.
    pub since: Option<TimeMs>,
    /// Not after this millisecond.
    pub until: Option<TimeMs>,
    /// Only events before this one: the cursor.
    pub before: Option<EventId>,
    /// How many, at least 1.
    pub limit: i64,
}

/// Events that were found, newest first.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// At most as many as were asked for.
    pub events: Vec<T>,
    /// Where to go on; `None` when there is nothing further. Looking also stops after `AUDIT_SCAN_MAX` events that did not fit.
    pub next: Option<EventId>,
}

/// An event to show: its id, core, private part, and hash.
#[derive(Clone, Debug)]
pub struct ShownEvent {
    /// Its id: the cursor of the next page.
    pub id: EventId,
    /// Canonical JSON, kept for ever.
    pub core: String,
    /// Canonical JSON, unless there was none or it was erased.
    pub private: Option<String>,
    /// Its link, in hex.
    pub hash: String,
}

fn shown(id: EventId, mut row: Row) -> Result<ShownEvent> {
    Ok(ShownEvent {
        id,
        core: row.text("core")?,
        private: row.opt_text("private")?,
        hash: hex(&row.array::<32>("hash")?),
    })
}

/// Terms one query can ask for.
pub const TERMS_MAX: usize = 8;

/// Whether the event `e` is behind the place where retention cut its chain. What is before it is gone for whoever looks, and is
/// deleted later; the last event of a chain stays in the database for those that follow it.
macro_rules! not_pruned {
    () => {
        "e.seq > (SELECT c.pruned_seq FROM chains c WHERE c.id = e.chain_id)"
    };
}

/// Whether the event `t` has one term more.
macro_rules! has_term {
    ($term:literal) => {
        concat!(
            " AND EXISTS (SELECT 1 FROM event_terms x WHERE x.app_id = $1 AND x.term = ",
            $term,
            " AND x.event_id = t.event_id)"
        )
    };
}

/// Events that have the term `$5` and `$further` ones.
macro_rules! found_sql {
    ($columns:literal, $further:expr) => {
        concat!(
            "SELECT e.id, e.terms, ",
            $columns,
            " FROM event_terms t JOIN events e ON e.app_id = t.app_id AND e.id = t.event_id \
             WHERE t.app_id = $1 AND t.term = $5 AND t.event_id < $2 AND t.event_id >= $3",
            $further,
            " AND ",
            not_pruned!(),
            " ORDER BY t.event_id DESC LIMIT $4"
        )
    };
}

/// Texts of a page of events for the columns that are wanted: without terms, with one, with two, and with [`TERMS_MAX`].
struct PageSql([&'static str; 4]);

macro_rules! page_sql {
    ($columns:literal) => {
        PageSql([
            concat!(
                "SELECT e.id, e.terms, ",
                $columns,
                " FROM events e WHERE e.app_id = $1 AND e.id < $2 AND e.id >= $3 AND ",
                not_pruned!(),
                " ORDER BY e.id DESC LIMIT $4"
            ),
            found_sql!($columns, ""),
            found_sql!($columns, has_term!("$6")),
            found_sql!(
                $columns,
                concat!(
                    has_term!("$6"),
                    has_term!("$7"),
                    has_term!("$8"),
                    has_term!("$9"),
                    has_term!("$10"),
                    has_term!("$11"),
                    has_term!("$12")
                )
            ),
        ])
    };
}

/// Rows of the first statement, when events are compared one by one. Each further one reads twice as many.
const COMPARED_ROWS: i64 = 16;
/// The most of one statement.
const COMPARED_ROWS_MAX: i64 = 512;

/// After every id that is made.
const LAST_ID: EventId = EventId::from_uuid(uuid::Uuid::max());

/// Events that fit, newest first, by one of the texts of `page_sql`.
fn page(tx: &mut Tx<'_>, owner: &Owner, filter: &EventFilter, sql: &PageSql) -> Result<Found<(EventId, Row)>> {
    debug_assert!(filter.terms.len() <= TERMS_MAX && filter.limit > 0);
    let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut rows_max = if filter.compared.is_empty() { filter.limit } else { filter.limit.max(COMPARED_ROWS) };
    let mut found = Found { events: Vec::new(), next: filter.before };
    let mut looked_at = 0;
    loop {
        let rows = statement(tx, owner, filter, found.next, rows_max, sql)?;
        let is_last = i64::try_from(rows.len()).is_ok_and(|n| n < rows_max);
        for mut row in rows {
            let id = row.id("id")?;
            let terms = Terms::unpack(&row.bytes("terms")?).ok_or_else(|| row.inconsistent("terms"))?;
            found.next = Some(id);
            looked_at += 1;
            if filter.compared.iter().all(|t| terms.contains(*t)) {
                found.events.push((id, row));
                if found.events.len() == wanted {
                    return Ok(found);
                }
            }
        }
        if is_last {
            found.next = None;
            return Ok(found);
        }
        if looked_at >= limits::AUDIT_SCAN_MAX {
            return Ok(found);
        }
        rows_max = rows_max.max((2 * rows_max).min(COMPARED_ROWS_MAX)).min(limits::AUDIT_SCAN_MAX - looked_at);
    }
}

fn statement(
    tx: &mut Tx<'_>,
    owner: &Owner,
    filter: &EventFilter,
    before: Option<EventId>,
    rows_max: i64,
    PageSql(texts): &PageSql,
) -> Result<Vec<Row>> {
    // Ids are ordered by time; the bounds of time are bounds of ids, to the millisecond.
    let upper = before.unwrap_or(LAST_ID);
    let until = filter.until.map_or(LAST_ID, |t| first_id(t.plus_ms(1)));
    let lower = after(filter.since.map(first_id));
    let mut params: Vec<Value> = vec![owner_id(owner), id(upper.min(until)), lower, rows_max.into()];
    // A fixed text for any number of terms: missing ones repeat the first.
    let (text, terms) = match filter.terms.len() {
        few @ 0..=2 => (texts[few], few),
        _ => (texts[3], TERMS_MAX),
    };
    params.extend((0..terms).map(|i| Value::Int(*filter.terms.get(i).unwrap_or(&filter.terms[0]))));
    tx.query("events", text, &params)
}

/// Lists events, newest first. Terms find what is indexed: [`Store::catch_up`](crate::Store::catch_up) first.
pub fn list(tx: &mut Tx<'_>, owner: &Owner, filter: &EventFilter) -> Result<Found<ShownEvent>> {
    let Found { events, next } = page(tx, owner, filter, &page_sql!("e.core, e.private, e.hash"))?;
    let events = events.into_iter().map(|(id, row)| shown(id, row)).collect::<Result<_>>()?;
    Ok(Found { events, next })
}

/// The lowest id an event of this millisecond can have.
fn first_id(at: TimeMs) -> EventId {
    EventId::from_uuid(grantd_wire::ids::uuid_v7(at.0, [0; 10]))
}

/// One event.
pub fn find(tx: &mut Tx<'_>, owner: &Owner, event: EventId) -> Result<Option<ShownEvent>> {
    let sql =
        concat!("SELECT e.core, e.private, e.hash FROM events e WHERE e.app_id = $1 AND e.id = $2 AND ", not_pruned!());
    tx.query_opt("events", sql, &[owner_id(owner), id(event)])?.map(|row| shown(event, row)).transpose()
}

/// Whether the app released this generation under this grant to this key since `since`. Of what is indexed, as [`list`].
pub fn has_release(
    tx: &mut Tx<'_>,
    app: AppId,
    grant: GrantId,
    key: KeyId,
    generation: GenerationId,
    since: TimeMs,
) -> Result<bool> {
    let mut filter = EventFilter {
        terms: vec![term("grant_id", &grant.to_string()), term("key_id", &key.to_string())],
        compared: vec![term("token_generation", &generation.to_string())],
        since: Some(since),
        limit: 1,
        ..EventFilter::default()
    };
    loop {
        let found = page(tx, &Owner::App(app), &filter, &page_sql!("e.seq"))?;
        match found.next {
            _ if !found.events.is_empty() => return Ok(true),
            None => return Ok(false),
            before => filter.before = before,
        }
    }
}

/// A stored checkpoint.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    /// 1, 2, 3 … per owner.
    pub n: i64,
    /// The canonical text that is signed.
    pub body: String,
    /// Who signed.
    pub key_id: String,
    /// Standard base64.
    pub signature: String,
}

/// Checkpoints of an owner after the `after`th, in order.
pub fn checkpoints(tx: &mut Tx<'_>, owner: &Owner, after: i64) -> Result<Vec<StoredCheckpoint>> {
    let sql = "SELECT body, n, key_id, signature FROM checkpoints WHERE app_id = $1 AND n > $2 ORDER BY n LIMIT $3";
    let rows = tx.query("checkpoints", sql, &[owner_id(owner), after.into(), limits::PAGE_MAX.into()])?;
    rows.into_iter().map(stored_checkpoint).collect()
}

/// The last `limit` checkpoints of an owner before the `before`th, newest first.
pub fn last_checkpoints(tx: &mut Tx<'_>, owner: &Owner, before: i64, limit: i64) -> Result<Vec<StoredCheckpoint>> {
    let sql =
        "SELECT body, n, key_id, signature FROM checkpoints WHERE app_id = $1 AND n < $2 ORDER BY n DESC LIMIT $3";
    let rows = tx.query("checkpoints", sql, &[owner_id(owner), before.into(), limit.into()])?;
    rows.into_iter().map(stored_checkpoint).collect()
}

/// Reads the columns `body, n, key_id, signature`.
pub(crate) fn stored_checkpoint(mut row: Row) -> Result<StoredCheckpoint> {
    Ok(StoredCheckpoint {
        body: row.text("body")?,
        n: row.int("n")?,
        key_id: row.id_text("key_id")?,
        signature: row.text("signature")?,
    })
}

/// The last checkpoint of an owner, and its text.
pub(crate) fn latest_checkpoint(tx: &mut Tx<'_>, owner: &Owner) -> Result<Option<(Checkpoint, String)>> {
    let row = tx.query_opt("checkpoints", LATEST_CHECKPOINT_SQL, &[owner_id(owner)])?;
    row.map(|mut row| {
        let text = row.text("body")?;
        let body = serde_json::from_str(&text).map_err(|_| row.inconsistent("body"))?;
        Ok((body, text))
    })
    .transpose()
}

/// The checkpoint to sign now, or `None` when no chain moved since the last one.
pub fn next_checkpoint(tx: &mut Tx<'_>, owner: &Owner, at: TimeMs) -> Result<Option<Checkpoint>> {
    let last = latest_checkpoint(tx, owner)?;
    let sql = "SELECT e.chain_id, e.seq, e.hash FROM chains c JOIN events e ON e.chain_id = c.id \
        AND e.seq = (SELECT MAX(m.seq) FROM events m WHERE m.chain_id = c.id) \
        WHERE c.app_id = $1 AND e.seq > c.checkpointed_seq ORDER BY e.chain_id";
    let mut heads = Vec::new();
    for mut row in tx.query("chains", sql, &[owner_id(owner)])? {
        heads.push(HeadAt {
            chain_id: row.id_text("chain_id")?,
            seq: row.int("seq")?,
            hash: hex(&row.array::<32>("hash")?),
        });
    }
    // Once the past is cut off, every later checkpoint says so.
    let (n, previous, pruned_to) = last
        .map_or((1, None, None), |(last, text)| (last.n + 1, Some(hex(&Checkpoint::hash_of(&text))), last.pruned_to));
    Ok((!heads.is_empty()).then(|| Checkpoint { app_id: owner.key(), n, previous, at, heads, pruned_to }))
}

/// Stores a signed checkpoint; `Duplicate` when another process was first.
pub fn insert_checkpoint(
    tx: &mut Tx<'_>,
    owner: &Owner,
    checkpoint: &Checkpoint,
    text: &str,
    signed: &Signed,
) -> Result<()> {
    tx.execute(
        "INSERT INTO checkpoints (app_id, n, body, key_id, signature) VALUES ($1, $2, $3, $4, $5)",
        &[owner_id(owner), checkpoint.n.into(), text.into(), id(signed.key_id), (&signed.signature).into()],
    )?;
    for head in &checkpoint.heads {
        let sql = "UPDATE chains SET checkpointed_seq = $2 WHERE id = $1 AND checkpointed_seq < $2";
        tx.execute(sql, &[text_id(&head.chain_id), head.seq.into()])?;
    }
    Ok(())
}

/// A page of an export: events of one chain after `after`, up to and including `to`.
pub fn export_chain(tx: &mut Tx<'_>, owner: &Owner, chain: &str, after: i64, to: i64) -> Result<Vec<StoredEvent>> {
    let sql = "SELECT chain_id, seq, core, private, salt, private_hash, event_hash, hash FROM events \
        WHERE chain_id = $1 AND seq > $2 AND seq <= $3 AND app_id = $4 ORDER BY seq LIMIT $5";
    let params = [text_id(chain), after.into(), to.into(), owner_id(owner), limits::PAGE_MAX.into()];
    tx.query("events", sql, &params)?.into_iter().map(stored).collect()
}

fn stored(mut row: Row) -> Result<StoredEvent> {
    Ok(StoredEvent {
        chain_id: row.id_text("chain_id")?,
        seq: row.int("seq")?,
        core: row.text("core")?,
        private: row.opt_text("private")?,
        salt: row.opt_bytes("salt")?.map(|s| s.try_into().map_err(|_| row.inconsistent("salt"))).transpose()?,
        private_hash: row.array("private_hash")?,
        event_hash: row.array("event_hash")?,
        hash: row.array("hash")?,
    })
}

/// Stored events of a filtered export, newest first, after the cursor of `filter`.
pub fn export_filtered(tx: &mut Tx<'_>, owner: &Owner, filter: &EventFilter) -> Result<Found<StoredEvent>> {
    let sql = page_sql!("e.chain_id, e.seq, e.core, e.private, e.salt, e.private_hash, e.event_hash, e.hash");
    let Found { events, next } = page(tx, owner, filter, &sql)?;
    let events = events.into_iter().map(|(_, row)| stored(row)).collect::<Result<_>>()?;
    Ok(Found { events, next })
}

/// What an export holds of a chain: the events after `after`, up to and including `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The chain.
    pub chain_id: String,
    /// Where retention cut it; 0 where nothing was.
    pub after: i64,
    /// Its last signed head.
    pub to: i64,
}

/// The stretch of each chain that is behind its cut and signed. Read it together with the last checkpoint, which tells of the cut.
pub fn stretches(tx: &mut Tx<'_>, owner: &Owner) -> Result<Vec<Stretch>> {
    let sql = "SELECT id, pruned_seq, checkpointed_seq FROM chains \
        WHERE app_id = $1 AND checkpointed_seq > pruned_seq ORDER BY id";
    let rows = tx.query("chains", sql, &[owner_id(owner)])?;
    rows.into_iter()
        .map(|mut row| {
            let chain_id = row.id_text("id")?;
            Ok(Stretch { chain_id, after: row.int("pruned_seq")?, to: row.int("checkpointed_seq")? })
        })
        .collect()
}

/// Owners with chains: every app that has events, and the organization.
pub fn owners(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let rows = tx.query("chains", "SELECT DISTINCT app_id FROM chains ORDER BY app_id", &[])?;
    rows.into_iter().map(|mut row| row.id_text("app_id")).collect()
}
