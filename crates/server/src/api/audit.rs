//! The audit trail: list, show, export.

use std::sync::Arc;

use axum::body::Body;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use grantd_domain::audit::{Kind, Owner, context_term, is_indexed, term};
use grantd_store::Tx;
use grantd_store::audit::{self, EventFilter, ShownEvent, TERMS_MAX};
use grantd_wire::api::{Checkpoint, CheckpointPage, CheckpointsQuery, CursorPage, Event, EventsQuery};
use grantd_wire::ids::{EventId, RequestId, made_at};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Map, Value};

use super::Request;
use crate::answer::{Answer, json as answer, of_store, raw};
use crate::flow::export;
use crate::parse;
use crate::vault::Vault;

/// What was asked for: what an index finds, and context pairs that have to be looked for.
pub struct Search {
    pub filter: EventFilter,
    pub scanned: Vec<(String, String)>,
    /// The request that events must be of; the filter is bounded to its time.
    pub request: Option<RequestId>,
}

impl Search {
    /// Whether an event has what no index knows.
    fn fits(&self, event: &Event) -> bool {
        let context = event.get("context").cloned().unwrap_or_default();
        let is_of_request =
            |id: &RequestId| event.get("request_id").and_then(Value::as_str).is_some_and(|text| text == id.to_string());
        self.scanned.iter().all(|(k, v)| context[k] == **v) && self.request.as_ref().is_none_or(is_of_request)
    }

    fn looks_through(&self) -> bool {
        !self.scanned.is_empty() || self.request.is_some()
    }
}

/// How long after a request began its last event is made, at most: a call for a credential and a page have less time.
const REQUEST_MS_MAX: i64 = 60_000;

pub fn search(query: &EventsQuery, index: &[String]) -> Result<Search, Error> {
    let (limit, _) = parse::page(query.limit, None)?;
    let fields = [
        ("grant_id", &query.grant),
        ("user_id", &query.user),
        ("agent_id", &query.agent),
        ("key_id", &query.key),
        ("provider_id", &query.provider),
        ("kind", &query.kind),
        ("outcome", &query.outcome),
    ];
    let (mut terms, mut compared) = (Vec::new(), Vec::new());
    for (field, value) in fields.iter().filter_map(|(field, value)| value.as_ref().map(|v| (field, v))) {
        match is_indexed(field, value) {
            true => terms.push(term(field, value)),
            false => compared.push(term(field, value)),
        }
    }
    let mut scanned = Vec::new();
    for pair in query.context.iter().flat_map(|c| c.split('\n')) {
        let (key, value) = pair.split_once('=').ok_or_else(|| Error::invalid("context", "must be name=value"))?;
        match index.iter().any(|k| k == key) {
            true => terms.push(context_term(key, value)),
            false => scanned.push((key.to_owned(), value.to_owned())),
        }
    }
    if terms.len() > TERMS_MAX {
        return Err(Error::invalid("query", &format!("must have at most {TERMS_MAX} filters")));
    }
    let before = match &query.cursor {
        Some(cursor) => {
            Some(EventId::parse(cursor).ok_or_else(|| Error::invalid("cursor", "is not one this list gave"))?)
        }
        None => None,
    };
    let (mut since, mut until) = (query.since, query.until);
    let request = match &query.request {
        None => None,
        Some(text) => {
            let id = RequestId::parse(text).ok_or_else(|| Error::invalid("request", "must be the id of a request"))?;
            let began = TimeMs(made_at(&id));
            since = Some(since.map_or(began, |since| since.max(began)));
            let end = began.plus_ms(REQUEST_MS_MAX);
            until = Some(until.map_or(end, |until| until.min(end)));
            Some(id)
        }
    };
    Ok(Search { filter: EventFilter { terms, compared, since, until, before, limit }, scanned, request })
}

fn view(event: &ShownEvent) -> Event {
    let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let mut shown = parse(&event.core);
    shown.extend(event.private.as_deref().map(parse).unwrap_or_default());
    shown.insert("hash".to_owned(), Value::from(event.hash.clone()));
    shown
}

/// Context keys with an index, for the owner's events.
pub async fn index(vault: &Vault, request: &Request, owner: Owner) -> Result<Vec<String>, Error> {
    match owner {
        Owner::Organization(_) => Ok(Vec::new()),
        Owner::App(_) => Ok(request.app(vault).await?.context_index().map(str::to_owned).collect()),
    }
}

pub async fn list(vault: &Vault, request: &Request, owner: Owner) -> Result<Answer, Error> {
    let query: EventsQuery = request.query()?;
    let search = search(&query, &index(vault, request, owner).await?)?;
    let wanted = usize::try_from(search.filter.limit).unwrap_or(1);
    // One more than asked for tells whether there are more.
    let look = if search.looks_through() { limits::AUDIT_SCAN_MAX } else { search.filter.limit + 1 };
    let filter = EventFilter { limit: look, ..search.filter.clone() };
    if !filter.terms.is_empty() {
        vault.store.catch_up(owner).await.map_err(of_store)?;
    }
    let found = vault.store.read(move |tx| audit::list(tx, &owner, &filter)).await.map_err(of_store)?;
    let mut items = Vec::new();
    let mut next = found.next.map(|id| id.to_string());
    for event in &found.events {
        let shown = view(event);
        if !search.fits(&shown) {
            continue;
        }
        if items.len() == wanted {
            next = items.last().map(|(id, _): &(EventId, Event)| id.to_string());
            break;
        }
        items.push((event.id, shown));
    }
    let partial_scan = !search.scanned.is_empty() || (next.is_some() && items.len() < wanted);
    let items = items.into_iter().map(|(_, event)| event).collect();
    Ok(answer(200, &CursorPage { items, has_more: next.is_some(), next_cursor: next, partial_scan }))
}

pub async fn show(vault: &Vault, owner: Owner, segment: &str) -> Result<Answer, Error> {
    let missing = || {
        Error::new(Code::NotFound)
            .message("There is no such event here.")
            .hint("`grantd audit list` shows the events of this app; those of the organization are shown with --organization.")
    };
    let id = parse::segment(segment).and_then(|text| EventId::parse(&text)).ok_or_else(missing)?;
    let found = vault.store.read(move |tx| audit::find(tx, &owner, id)).await.map_err(of_store)?;
    Ok(answer(200, &view(&found.ok_or_else(missing)?)))
}

pub async fn checkpoints(vault: &Vault, request: &Request, owner: Owner) -> Result<Answer, Error> {
    let query: CheckpointsQuery = request.query()?;
    let (limit, _) = parse::page(query.limit, None)?;
    let before = match &query.cursor {
        Some(cursor) => cursor.parse().map_err(|_| Error::invalid("cursor", "is not one this list gave"))?,
        None => i64::MAX,
    };
    // One more than asked for tells whether there are more.
    let look = move |tx: &mut Tx<'_>| audit::last_checkpoints(tx, &owner, before, limit + 1);
    let mut found = vault.store.read(look).await.map_err(of_store)?;
    let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if has_more {
        found.pop();
    }
    let next_cursor = found.last().filter(|_| has_more).map(|last| last.n.to_string());
    let items = found.into_iter().map(|stored| {
        let body = serde_json::from_str(&stored.body).map_err(|_| Code::Internal)?;
        Ok(Checkpoint { r#type: "checkpoint".to_owned(), body, kid: stored.key_id, signature: stored.signature })
    });
    Ok(answer(200, &CheckpointPage { items: items.collect::<Result<_, Code>>()?, next_cursor, has_more }))
}

pub async fn export(vault: &Arc<Vault>, request: &Request, owner: Owner) -> Result<Answer, Error> {
    let query: EventsQuery = request.query()?;
    let Search { filter, scanned, .. } = search(&query, &index(vault, request, owner).await?)?;
    if !scanned.is_empty() {
        return Err(Error::invalid("context", "an export filters by indexed context keys only")
            .hint("`grantd apps update --index KEY` indexes one from now on."));
    }
    let format = query.format.as_deref().unwrap_or("jsonl");
    if !["jsonl", "csv"].contains(&format) {
        return Err(Error::invalid("format", "must be jsonl or csv"));
    }
    let shown = shown_filter(&query);
    let exported = request.event(vault, owner, Kind::AuditExported).core("format", format);
    let lines = export::jsonl(Arc::clone(vault), owner, filter, shown, exported).await.map_err(of_store)?;
    let told = |e: grantd_store::Error| {
        tracing::error!(error = %e, "An export broke off");
        std::io::Error::other("the export broke off")
    };
    match format {
        "csv" => {
            let rows = lines.map_ok(|bytes| csv_rows(&bytes)).map_err(told);
            let head = stream::iter([Ok(bytes::Bytes::from(csv_head()))]);
            Ok(raw(200, "text/csv; charset=utf-8", Body::from_stream(head.chain(rows))))
        }
        _ => Ok(raw(200, "application/jsonl", Body::from_stream(lines.map_err(told)))),
    }
}

/// The filter as the header states it; empty for everything.
fn shown_filter(query: &EventsQuery) -> Value {
    let mut shown = serde_json::to_value(query).unwrap_or_default();
    if let Some(object) = shown.as_object_mut() {
        for not_a_filter in ["format", "limit", "cursor"] {
            object.remove(not_a_filter);
        }
    }
    shown
}

/// Columns of the CSV form.
const CSV_COLUMNS: [&str; 33] = [
    "id",
    "at",
    "kind",
    "outcome",
    "code",
    "actor",
    "key_id",
    "key_prefix",
    "grant_id",
    "provider_id",
    "credential_id",
    "credential_version",
    "mode",
    "method",
    "host",
    "path",
    "reason",
    "context",
    "caller",
    "ip",
    "user_agent",
    "request_id",
    "claim",
    "user_id",
    "agent_id",
    "principal_type",
    "query_names",
    "tenant",
    "identity",
    "any_host",
    "claimed",
    "trace_id",
    "changed",
];

fn csv_head() -> String {
    format!("{},more,chain_id,seq,hash\r\n", CSV_COLUMNS.join(","))
}

/// Events of export lines as CSV rows; other lines have no row.
fn csv_rows(lines: &[u8]) -> bytes::Bytes {
    let mut rows = String::new();
    for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
        if line["type"] != "event" {
            continue;
        }
        let cells = CSV_COLUMNS
            .iter()
            .map(|name| if line["core"][name].is_null() { &line["private"][name] } else { &line["core"][name] });
        let more = more(&line);
        let cells = cells.chain([&more]).chain(["chain_id", "seq", "hash"].iter().map(|name| &line[name]));
        rows.push_str(&cells.map(csv_cell).collect::<Vec<_>>().join(","));
        rows.push_str("\r\n");
    }
    bytes::Bytes::from(rows)
}

/// What an event has beside its columns; null for nothing.
fn more(line: &Value) -> Value {
    let parts = ["core", "private"].iter().filter_map(|part| line[part].as_object()).flatten();
    let rest: Map<String, Value> = parts
        .filter(|(name, _)| !CSV_COLUMNS.contains(&name.as_str()) && *name != "app_id")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if rest.is_empty() { Value::Null } else { rest.into() }
}

/// A cell that no spreadsheet takes for a formula.
fn csv_cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_cells_are_quoted_and_never_formulas() {
        let cell = |t: &str| csv_cell(&Value::from(t));
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@x"), "'@x");
        assert_eq!(cell("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(csv_cell(&Value::from(7)), "7");
    }
}
