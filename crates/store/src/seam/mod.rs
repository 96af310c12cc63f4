//! The seam between one SQL text and two engines.
//!
//! Statements are static text with `$1` parameters over TEXT, BIGINT and bytes. Rows are read column by column, in order; what a
//! column cannot hold is an `Inconsistent` error.
//!
//! Invariant: once a statement of a transaction failed, no later one runs and it is not committed, whatever its closure makes of
//! it. PostgreSQL would answer such a COMMIT with success and undo everything; SQLite would commit half of it.

pub(crate) mod chains;
pub(crate) mod copy;
pub(crate) mod lane;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use grantd_domain::audit::Owner;
use grantd_wire::TimeMs;
use grantd_wire::ids::{EventId, Id};
use serde::de::DeserializeOwned;

use crate::crash;
use crate::error::{Error, Result};
use crate::hot::Nonce;
use crate::stats::Stats;
pub use chains::Chains;
use sqlite::nonces::Nonces;

/// A parameter or a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// BIGINT.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB or BYTEA.
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<TimeMs> for Value {
    fn from(value: TimeMs) -> Self {
        Self::Int(value.0)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An id as a parameter: its 16 bytes.
pub(crate) fn id(id: impl Id) -> Value {
    Value::Bytes(id.bytes().to_vec())
}

/// Where a walk over ids goes on: nothing comes before every id.
pub(crate) fn after(last: Option<impl Id>) -> Value {
    last.map_or_else(|| Value::Bytes(Vec::new()), id)
}

/// Whose chains and events.
pub(crate) fn owner_id(owner: &Owner) -> Value {
    Value::Bytes(owner.bytes().to_vec())
}

/// An id that travels as text, of whatever kind. A text that is none, another spelling of one included, is the id of nothing.
pub(crate) fn text_id(text: &str) -> Value {
    EventId::parse(text).map_or_else(|| Value::Bytes(Vec::new()), id)
}

/// A row, read from left to right.
#[derive(Debug)]
pub struct Row {
    table: &'static str,
    values: std::vec::IntoIter<Value>,
    name: String,
}

impl Row {
    pub(crate) fn new(table: &'static str, values: Vec<Value>) -> Self {
        let name = values.iter().find_map(|value| match value {
            Value::Text(text) => Some(text.clone()),
            Value::Bytes(bytes) => as_id_text(bytes),
            _ => None,
        });
        Self { table, values: values.into_iter(), name: name.unwrap_or_default() }
    }

    /// The column does not hold what it must.
    pub(crate) fn inconsistent(&self, column: &'static str) -> Error {
        Error::Inconsistent { table: self.table, column, row: self.name.clone() }
    }

    /// Passes over `count` columns.
    pub(crate) fn skip(&mut self, count: usize) {
        self.values.by_ref().take(count).for_each(drop);
    }

    fn next(&mut self) -> Value {
        self.values.next().unwrap_or(Value::Null)
    }

    pub(crate) fn opt_text(&mut self, column: &'static str) -> Result<Option<String>> {
        match self.next() {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            _ => Err(self.inconsistent(column)),
        }
    }

    pub(crate) fn text(&mut self, column: &'static str) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| self.inconsistent(column))
    }

    pub(crate) fn opt_int(&mut self, column: &'static str) -> Result<Option<i64>> {
        match self.next() {
            Value::Int(int) => Ok(Some(int)),
            Value::Null => Ok(None),
            _ => Err(self.inconsistent(column)),
        }
    }

    pub(crate) fn int(&mut self, column: &'static str) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| self.inconsistent(column))
    }

    pub(crate) fn opt_time(&mut self, column: &'static str) -> Result<Option<TimeMs>> {
        Ok(self.opt_int(column)?.map(TimeMs))
    }

    pub(crate) fn time(&mut self, column: &'static str) -> Result<TimeMs> {
        self.int(column).map(TimeMs)
    }

    pub(crate) fn opt_bytes(&mut self, column: &'static str) -> Result<Option<Vec<u8>>> {
        match self.next() {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            _ => Err(self.inconsistent(column)),
        }
    }

    pub(crate) fn bytes(&mut self, column: &'static str) -> Result<Vec<u8>> {
        self.opt_bytes(column)?.ok_or_else(|| self.inconsistent(column))
    }

    pub(crate) fn array<const N: usize>(&mut self, column: &'static str) -> Result<[u8; N]> {
        self.bytes(column)?.try_into().map_err(|_| self.inconsistent(column))
    }

    /// An id.
    pub(crate) fn id<T: Id>(&mut self, column: &'static str) -> Result<T> {
        self.array(column).map(T::from_bytes)
    }

    pub(crate) fn opt_array<const N: usize>(&mut self, column: &'static str) -> Result<Option<[u8; N]>> {
        let bytes = self.opt_bytes(column)?;
        bytes.map(|bytes| bytes.try_into().map_err(|_| self.inconsistent(column))).transpose()
    }

    /// Null, or an id.
    pub(crate) fn opt_id<T: Id>(&mut self, column: &'static str) -> Result<Option<T>> {
        Ok(self.opt_array(column)?.map(T::from_bytes))
    }

    /// An id, as it travels.
    pub(crate) fn id_text(&mut self, column: &'static str) -> Result<String> {
        as_id_text(&self.bytes(column)?).ok_or_else(|| self.inconsistent(column))
    }

    /// A text that `parse` understands.
    pub(crate) fn parsed<T>(&mut self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| self.inconsistent(column))
    }

    /// Null, or a text that `parse` understands.
    pub(crate) fn opt_parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.opt_text(column)? {
            Some(text) => parse(&text).map(Some).ok_or_else(|| self.inconsistent(column)),
            None => Ok(None),
        }
    }

    /// JSON text.
    pub(crate) fn json<T: DeserializeOwned>(&mut self, column: &'static str) -> Result<T> {
        self.parsed(column, |text| serde_json::from_str(text).ok())
    }
}

fn as_id_text(bytes: &[u8]) -> Option<String> {
    uuid::Uuid::from_slice(bytes).ok().map(|id| id.as_hyphenated().to_string())
}

/// An open transaction.
pub struct Tx<'c> {
    conn: Conn<'c>,
    pub(crate) chains: &'c mut Chains,
    /// What SQLite's writer knows of the nonces of its file.
    nonces: Option<(&'c rusqlite::Connection, &'c mut Nonces)>,
    /// The first statement's failure.
    failed: Option<Error>,
}

pub(crate) enum Conn<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres { client: &'c postgres::Client, runtime: &'c tokio::runtime::Handle },
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: Conn<'c>, chains: &'c mut Chains) -> Self {
        Self { conn, chains, nonces: None, failed: None }
    }

    /// A transaction of SQLite's writer.
    pub(crate) fn of_writer(conn: &'c rusqlite::Connection, chains: &'c mut Chains, nonces: &'c mut Nonces) -> Self {
        Self { conn: Conn::Sqlite(conn), chains, nonces: Some((conn, nonces)), failed: None }
    }

    /// What the transaction comes to, when its closure answered `result`.
    pub(crate) fn settle<T>(self, result: Result<T>) -> Result<T> {
        match (result, self.failed) {
            (Ok(_), Some(failed)) => Err(failed),
            (Err(_), Some(failed)) if failed.is_of_the_engine() => Err(failed),
            (result, _) => result,
        }
    }

    fn run<T>(&mut self, params: &[Value], run: impl FnOnce(&Conn<'_>) -> Result<T>) -> Result<T> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        crash::step("store.before_statement");
        let result = check(params).and_then(|()| run(&self.conn));
        if let Err(e) = &result {
            self.failed = Some(e.clone());
        }
        result
    }

    /// Runs text without parameters: a migration.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        self.run(&[], |conn| match conn {
            Conn::Sqlite(conn) => sqlite::batch(conn, sql),
            Conn::Postgres { client, runtime } => runtime.block_on(postgres::batch(client, sql)),
        })
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.conn, Conn::Sqlite(_))
    }

    /// Runs a statement that changes rows; answers how many.
    pub(crate) fn execute(&mut self, sql: &'static str, params: &[Value]) -> Result<u64> {
        self.run(params, |conn| match conn {
            Conn::Sqlite(conn) => sqlite::execute(conn, sql, params),
            Conn::Postgres { client, runtime } => runtime.block_on(postgres::execute(client, sql, params)),
        })
    }

    /// Runs a query; `table` names the rows in errors.
    pub(crate) fn query(&mut self, table: &'static str, sql: &'static str, params: &[Value]) -> Result<Vec<Row>> {
        let rows = self.run(params, |conn| match conn {
            Conn::Sqlite(conn) => sqlite::query(conn, sql, params),
            Conn::Postgres { client, runtime } => runtime.block_on(postgres::query(client, sql, params)),
        })?;
        Ok(rows.into_iter().map(|values| Row::new(table, values)).collect())
    }

    /// Uses a nonce; `false` when it was used before.
    pub(crate) fn use_nonce(&mut self, nonce: &Nonce) -> Result<bool> {
        let Some((conn, nonces)) = self.nonces.take() else {
            let sql = "INSERT INTO nonces (signed_at_ms, key_id, nonce) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            return self.change_one(sql, &[nonce.signed_at.into(), id(nonce.key_id), nonce.nonce.as_slice().into()]);
        };
        let result = self.run(&[], |_| nonces.use_once(conn, nonce));
        self.nonces = Some((conn, nonces));
        result
    }

    /// Forgets the nonces that were signed before; answers how many.
    pub(crate) fn forget_nonces(&mut self, before: TimeMs) -> Result<u64> {
        let Some((conn, nonces)) = self.nonces.take() else {
            return self.execute("DELETE FROM nonces WHERE signed_at_ms < $1", &[before.into()]);
        };
        let result = self.run(&[], |_| nonces.forget_before(conn, before));
        self.nonces = Some((conn, nonces));
        result
    }

    /// Runs a guarded change of one row; `false` when the guard did not hold.
    pub(crate) fn change_one(&mut self, sql: &'static str, params: &[Value]) -> Result<bool> {
        let changed = self.execute(sql, params)?;
        debug_assert!(changed <= 1, "a guarded change touched {changed} rows");
        Ok(changed == 1)
    }

    /// Runs a query for at most one row.
    pub(crate) fn query_opt(
        &mut self,
        table: &'static str,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Option<Row>> {
        Ok(self.query(table, sql, params)?.into_iter().next())
    }

    /// Runs a query that counts.
    pub(crate) fn count(&mut self, sql: &'static str, params: &[Value]) -> Result<i64> {
        match self.query_opt("count", sql, params)? {
            Some(mut row) => row.int("count"),
            None => Ok(0),
        }
    }
}

/// What this process has committed.
#[derive(Debug, Default)]
pub struct Tally {
    groups: AtomicU64,
    calls: AtomicU64,
    events: AtomicU64,
    pub(crate) stats: Stats,
}

impl Tally {
    pub(crate) fn committed(&self, calls: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(calls as u64, Ordering::Relaxed);
        self.stats.group_size.observe(calls as u64);
    }

    pub(crate) fn appended(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// A stopwatch for waits and for metrics: no rule depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "measures how long a commit takes, to wait no longer than that for company, and to tell it"
)]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// PostgreSQL has no place for a NUL character in a text, so SQLite takes none either.
pub(crate) fn check(params: &[Value]) -> Result<()> {
    let has_nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
    if params.iter().any(has_nul) {
        let error = grantd_wire::Error::new(grantd_wire::Code::InvalidValue);
        return Err(error.message("A text must not hold a NUL character.").into());
    }
    Ok(())
}

/// SQLite numbers bare `$1` by first use, not by its number: it must read `?1`. Each text is written anew once.
pub(crate) fn numbered(sql: &'static str) -> &'static str {
    static WRITTEN: RwLock<BTreeMap<usize, &'static str>> = RwLock::new(BTreeMap::new());
    // Two texts may begin at one place: one can be the start of another.
    let place = sql.as_ptr().addr() ^ sql.len().rotate_left(48);
    let known = WRITTEN.read().unwrap_or_else(PoisonError::into_inner).get(&place).copied();
    known.unwrap_or_else(|| {
        // As many as there are statements in the program.
        let text: &'static str = Box::leak(with_numbers(sql).into_boxed_str());
        WRITTEN.write().unwrap_or_else(PoisonError::into_inner).insert(place, text);
        text
    })
}

fn with_numbers(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        let parameter = c == '$' && chars.peek().is_some_and(char::is_ascii_digit);
        out.push(if parameter { '?' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_numbers() {
        let text = "a = $2 AND b = $1 AND c = '$x'";
        for part in [text, &text[..6], text] {
            assert_eq!(numbered(part), &"a = ?2 AND b = ?1 AND c = '$x'"[..part.len()]);
        }
    }

    #[test]
    fn a_column_of_the_wrong_kind_is_named() {
        let mut row = Row::new("grants", vec![Value::Text("g1".to_owned()), Value::Int(3)]);
        row.text("id").unwrap();
        let error = row.text("label").unwrap_err().to_string();
        assert_eq!(error, "grants.label of row g1 is inconsistent");
    }
}
