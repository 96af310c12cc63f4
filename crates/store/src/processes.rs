//! Processes that serve this database, as each tells of itself once a minute. For questions that all of them must agree on.

use grantd_wire::TimeMs;
use serde_json::Value as Json;

use crate::apps::json;
use crate::error::Result;
use crate::seam::Tx;

/// A process that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Made at its start.
    pub id: String,
    /// Root keys it was given.
    pub root_key_ids: Vec<String>,
    /// Of the program.
    pub version: String,
    /// When it last told of itself.
    pub seen_at: TimeMs,
}

/// A process tells of itself.
pub fn report(tx: &mut Tx<'_>, process: &Process) -> Result<()> {
    tx.execute(
        "INSERT INTO processes (id, root_key_ids, version, seen_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET root_key_ids = $2, version = $3, seen_at_ms = $4",
        &[(&process.id).into(), json(&process.root_key_ids), (&process.version).into(), process.seen_at.into()],
    )
    .map(drop)
}

/// A process ends; those that were not seen since `before` are forgotten with it.
pub fn leave(tx: &mut Tx<'_>, id: &str, before: TimeMs) -> Result<()> {
    tx.execute("DELETE FROM processes WHERE id = $1 OR seen_at_ms < $2", &[id.into(), before.into()]).map(drop)
}

/// Processes that told of themselves since then.
pub fn list(tx: &mut Tx<'_>, since: TimeMs) -> Result<Vec<Process>> {
    let sql = "SELECT id, root_key_ids, version, seen_at_ms FROM processes WHERE seen_at_ms >= $1 ORDER BY id";
    let rows = tx.query("processes", sql, &[since.into()])?;
    rows.into_iter()
        .map(|mut row| {
            let id = row.text("id")?;
            let ids: Json = row.json("root_key_ids")?;
            let root_key_ids = serde_json::from_value(ids).map_err(|_| row.inconsistent("root_key_ids"))?;
            Ok(Process { id, root_key_ids, version: row.text("version")?, seen_at: row.time("seen_at_ms")? })
        })
        .collect()
}
