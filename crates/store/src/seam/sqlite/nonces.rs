//! Nonces that were used: looked up in memory, and kept in the file, so that they outlive the process.
//!
//! A group of calls leaves a row for each second its nonces were signed in. A row for each nonce would cost a page of the file
//! each, for random bytes have no neighbours; that was half of all that was written.
//!
//! Invariant: what is here and not in the file is staged, and leaves with its savepoint or transaction. Nonces of calls that
//! commit together are told apart like any others.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use grantd_domain::replay::Prints;
use grantd_wire::TimeMs;
use rusqlite::{Connection, params};

use super::error;
use crate::error::{Error, Result};
use crate::hot::Nonce;

/// Bytes of a nonce in a row: its key's id, and itself.
const NONCE_BYTES: usize = 32;
/// Nonces in a row: what the tree holds in its own page, with room for two rows and more.
const ROW_NONCES_MAX: usize = 28;

/// The nonces of one file.
#[derive(Default)]
pub(crate) struct Nonces {
    /// Prints of what was used, by the second it was signed in. `None`: the file was not read yet.
    used: Option<BTreeMap<TimeMs, Prints>>,
    /// What this transaction uses.
    staged: Vec<Nonce>,
    /// What this transaction forgets: everything signed before.
    forgotten: Option<TimeMs>,
    print: RandomState,
}

impl Nonces {
    /// Uses it; `false` when it was used before.
    pub(crate) fn use_once(&mut self, conn: &Connection, nonce: &Nonce) -> Result<bool> {
        let print = print(&self.print, nonce.key_id.as_bytes(), &nonce.nonce);
        let is_new = self.read(conn)?.entry(nonce.signed_at).or_default().insert(print);
        if is_new {
            self.staged.push(*nonce);
        }
        Ok(is_new)
    }

    /// Forgets what was signed before; answers how many.
    pub(crate) fn forget_before(&mut self, conn: &Connection, before: TimeMs) -> Result<u64> {
        let count = self.read(conn)?.range(..before).map(|(_, prints)| prints.len() as u64).sum();
        let delete = || conn.prepare_cached("DELETE FROM nonce_groups WHERE signed_at_ms < ?1")?.execute([before.0]);
        delete().map_err(|e| error(&e))?;
        self.forgotten = self.forgotten.max(Some(before));
        Ok(count)
    }

    /// Writes what is staged. The last thing before the commit.
    pub(crate) fn write(&self, conn: &Connection) -> Result<()> {
        let mut rows: BTreeMap<TimeMs, Vec<u8>> = BTreeMap::new();
        for nonce in &self.staged {
            let row = rows.entry(nonce.signed_at).or_default();
            row.extend_from_slice(nonce.key_id.as_bytes());
            row.extend_from_slice(&nonce.nonce);
        }
        let insert = |signed_at: TimeMs, used: &[u8]| {
            let sql = "INSERT INTO nonce_groups (signed_at_ms, n, used) \
                SELECT ?1, COALESCE(MAX(n), 0) + 1, ?2 FROM nonce_groups WHERE signed_at_ms = ?1";
            conn.prepare_cached(sql)?.execute(params![signed_at.0, used]).map(drop)
        };
        for (signed_at, row) in &rows {
            for used in row.chunks(ROW_NONCES_MAX * NONCE_BYTES) {
                insert(*signed_at, used).map_err(|e| error(&e))?;
            }
        }
        Ok(())
    }

    /// A place to go back to within a transaction.
    pub(crate) fn mark(&self) -> usize {
        self.staged.len()
    }

    pub(crate) fn back_to(&mut self, mark: usize) {
        for nonce in self.staged.drain(mark..) {
            let print = print(&self.print, nonce.key_id.as_bytes(), &nonce.nonce);
            if let Some(prints) = self.used.as_mut().and_then(|used| used.get_mut(&nonce.signed_at)) {
                prints.remove(&print);
            }
        }
    }

    pub(crate) fn committed(&mut self) {
        self.staged.clear();
        if let (Some(before), Some(used)) = (self.forgotten.take(), &mut self.used) {
            *used = used.split_off(&before);
        }
    }

    /// The transaction was undone, or nobody knows, or somebody else may have written: the file is read again.
    pub(crate) fn forget(&mut self) {
        (self.used, self.forgotten) = (None, None);
        self.staged.clear();
    }

    fn read(&mut self, conn: &Connection) -> Result<&mut BTreeMap<TimeMs, Prints>> {
        let used = match self.used.take() {
            Some(used) => used,
            None => read(conn, &self.print)?,
        };
        Ok(self.used.insert(used))
    }
}

fn print(key: &RandomState, key_id: &[u8; 16], nonce: &[u8]) -> u64 {
    key.hash_one((key_id, nonce))
}

/// All of the file.
fn read(conn: &Connection, key: &RandomState) -> Result<BTreeMap<TimeMs, Prints>> {
    let mut used: BTreeMap<TimeMs, Prints> = BTreeMap::new();
    let mut groups = conn.prepare_cached("SELECT signed_at_ms, used FROM nonce_groups").map_err(|e| error(&e))?;
    let mut groups = groups.query([]).map_err(|e| error(&e))?;
    while let Some(row) = groups.next().map_err(|e| error(&e))? {
        let at: i64 = row.get(0).map_err(|e| error(&e))?;
        let bytes = row.get_ref(1).ok().and_then(|used| used.as_blob().ok());
        let (nonces, []) = bytes.unwrap_or(&[0]).as_chunks::<NONCE_BYTES>() else {
            return Err(Error::Inconsistent { table: "nonce_groups", column: "used", row: at.to_string() });
        };
        let prints = used.entry(TimeMs(at)).or_default();
        for nonce in nonces {
            let (key_id, nonce) = nonce.split_first_chunk::<16>().expect("a key's id is the first half");
            prints.insert(print(key, key_id, nonce));
        }
    }
    Ok(used)
}
