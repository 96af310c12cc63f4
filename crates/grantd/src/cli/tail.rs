//! `grantd audit tail`: events as they happen.
//!
//! Events of several servers become visible a little out of order, so each look goes back some seconds behind the newest event,
//! and what was shown already is dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use grantd_wire::TimeMs;
use grantd_wire::api::{CursorPage, Event, EventsQuery};
use serde_json::Value;

use super::context::{Context, Format};
use super::failure::Failure;
use super::http::Api;
use super::node::Node;
use super::table::escape;

/// How often is looked. Tests do not wait.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });
/// How far behind the newest event a later one may still appear.
const LATE_MS: i64 = 5_000;
/// Events of one page.
const PAGE: i64 = 1_000;
/// What a line says where no fields are asked for.
const FIELDS: [&str; 7] = ["at", "outcome", "kind", "provider_id", "method", "host", "code"];

pub async fn run(api: &Api, path: &[&str], query: EventsQuery, context: &mut Context) -> Result<(), Failure> {
    context.check_event_fields()?;
    let mut tail = Tail { newest: query.since, seen: BTreeMap::new(), query };
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    if tail.newest.is_none() {
        tail.begin(api, path).await?;
    }
    let mut is_away = false;
    loop {
        let look = tokio::select! {
            look = tail.look(api, path) => look,
            _ = &mut interrupt => return Ok(()),
        };
        let pause = match look {
            Ok(events) => {
                if std::mem::take(&mut is_away) {
                    context.term.note("the server is back");
                }
                let lines: String = events.iter().map(|event| line(event, context)).collect();
                context.term.print(&lines)?;
                EVERY
            }
            // What happens meanwhile is shown afterwards.
            Err(failure) => {
                let Some(pause) = passes(&failure) else { return Err(failure) };
                if !std::mem::replace(&mut is_away, true) {
                    context.term.note(&format!("{}; waiting for it", failure.message));
                }
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut interrupt => return Ok(()),
        }
    }
}

/// How long to wait where it will do: the server restarts, or is busy, or was asked too often. Nothing else gets better by itself.
fn passes(failure: &Failure) -> Option<Duration> {
    match failure.status {
        Some(429) => Some(failure.retry_after.unwrap_or_default().max(EVERY)),
        Some(500..) => Some(EVERY),
        Some(_) => None,
        None => failure.is_lost().then_some(EVERY),
    }
}

struct Tail {
    query: EventsQuery,
    /// When the newest event was that is known; everything before it by [`LATE_MS`] was shown.
    newest: Option<TimeMs>,
    /// Events since then that were shown.
    seen: BTreeMap<String, TimeMs>,
}

impl Tail {
    /// From now on, by the server's clock: what is there counts as shown.
    async fn begin(&mut self, api: &Api, path: &[&str]) -> Result<(), Failure> {
        let query = EventsQuery { limit: Some(1), ..self.query.clone() };
        let page: CursorPage<Event> = api.get(path, &query).await?;
        self.newest = page.items.first().and_then(at);
        if self.newest.is_some() {
            self.look(api, path).await?;
        }
        Ok(())
    }

    /// What is new, oldest first.
    async fn look(&mut self, api: &Api, path: &[&str]) -> Result<Vec<Event>, Failure> {
        let since = self.newest.map(|newest| newest.plus_ms(-LATE_MS)).max(self.query.since);
        let mut query = EventsQuery { since, limit: Some(PAGE), ..self.query.clone() };
        let mut new = Vec::new();
        loop {
            let page: CursorPage<Event> = api.get(path, &query).await?;
            new.extend(page.items.into_iter().filter(|event| !self.seen.contains_key(id(event))));
            match page.next_cursor {
                Some(cursor) if page.has_more => query.cursor = Some(cursor),
                _ => break,
            }
        }
        // The list is ordered by time and id, and ids of one moment are in no order.
        new.sort_by_key(|event| (at(event), event.get("seq").and_then(Value::as_i64)));
        for event in &new {
            let Some(at) = at(event) else { continue };
            self.seen.insert(id(event).to_owned(), at);
            self.newest = self.newest.max(Some(at));
        }
        let late = self.newest.map(|newest| newest.plus_ms(-LATE_MS));
        self.seen.retain(|_, at| Some(*at) >= late);
        Ok(new)
    }
}

fn id(event: &Event) -> &str {
    event.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn at(event: &Event) -> Option<TimeMs> {
    event.get("at").and_then(Value::as_str).and_then(TimeMs::parse)
}

fn line(event: &Event, context: &Context) -> String {
    let node = Node::of(event);
    let fields = context.globals.fields.as_deref();
    if context.format() != Format::Table {
        return fields.map_or_else(|| node.json(), |fields| node.select(fields).json()) + "\n";
    }
    let text = |field: &str| match event.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => escape(text),
        Some(other) => escape(&other.to_string()),
    };
    let words: Vec<String> = match fields {
        Some(fields) => fields.iter().map(|field| text(field)).collect(),
        None => {
            let [at, outcome, kind, rest @ ..] = FIELDS;
            let rest = rest.into_iter().map(text).filter(|word| !word.is_empty());
            [text(at), format!("{:<7}", text(outcome)), format!("{:<18}", text(kind))].into_iter().chain(rest).collect()
        }
    };
    words.join("  ").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::{BROKEN_OFF, Exit, UNREACHABLE};

    #[test]
    fn only_what_passes_is_waited_for() {
        let lost = |error| Failure::new(Exit::Error, error, "No.");
        let said = |status, seconds: Option<u64>| Failure {
            status: Some(status),
            retry_after: seconds.map(Duration::from_secs),
            ..lost("refused")
        };
        for (failure, wanted) in [
            (lost(UNREACHABLE), Some(EVERY)),
            (lost(BROKEN_OFF), Some(EVERY)),
            (lost("unexpected_answer"), None),
            (lost("redirected"), None),
            (said(500, None), Some(EVERY)),
            (said(502, None), Some(EVERY)),
            (said(503, Some(30)), Some(EVERY)),
            (said(429, None), Some(EVERY)),
            (said(429, Some(0)), Some(EVERY)),
            (said(429, Some(7)), Some(Duration::from_secs(7))),
            (said(400, None), None),
            (said(401, None), None),
            (said(403, None), None),
            (said(404, None), None),
            (said(409, None), None),
            (said(410, None), None),
            (said(422, Some(7)), None),
        ] {
            assert_eq!(passes(&failure), wanted, "{failure:?}");
        }
    }
}
