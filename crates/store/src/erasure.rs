//! Erasure: events lose their private part, and keep their place in the chain.

use grantd_domain::audit::{Owner, Terms, context_term};
use grantd_wire::ids::EventId;
use serde_json::{Map, Value as Json};

use crate::error::Result;
use crate::seam::{Tx, id, owner_id};

/// Erases the private part of each of these events, and with it the terms that stand for the values of its context; answers how
/// many had one.
pub fn erase(tx: &mut Tx<'_>, owner: &Owner, events: &[EventId]) -> Result<i64> {
    let mut erased = 0;
    for event in events {
        let params = [owner_id(owner), id(*event)];
        let sql = "SELECT private, terms FROM events WHERE app_id = $1 AND id = $2 AND private IS NOT NULL";
        let Some(mut row) = tx.query_opt("events", sql, &params)? else { continue };
        let private: Map<String, Json> = row.json("private")?;
        let mut terms = Terms::unpack(&row.bytes("terms")?).ok_or_else(|| row.inconsistent("terms"))?;
        for (key, value) in private.get("context").and_then(Json::as_object).into_iter().flatten() {
            let term = context_term(key, value.as_str().unwrap_or_default());
            terms.remove(term);
            let sql = "DELETE FROM event_terms WHERE app_id = $1 AND term = $3 AND event_id = $2";
            tx.execute(sql, &[owner_id(owner), id(*event), term.into()])?;
        }
        let sql = "UPDATE events SET private = NULL, salt = NULL, terms = $3 WHERE app_id = $1 AND id = $2";
        tx.execute(sql, &[owner_id(owner), id(*event), terms.pack().into()])?;
        erased += 1;
    }
    Ok(erased)
}
