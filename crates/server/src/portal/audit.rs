//! The audit trail of an app: the list, which a script may keep up to date, and one event with why it was decided so.

use grantd_domain::audit::Kind;
use grantd_domain::resolve::{self, STEPS};
use grantd_wire::api::{CursorPage, Event};
use grantd_wire::{Code, Error};
use serde::Serialize;
use serde_json::Value;

use super::desk::{Desk, ROWS, Shown};
use crate::answer::Answer;
use crate::routes::Api;

/// Filters of the list, by the names that the management API has for them.
const FILTERS: [&str; 6] = ["kind", "outcome", "grant", "user", "key", "context"];

/// A line of the list.
#[derive(Serialize)]
pub struct Line {
    id: String,
    at: String,
    kind: String,
    outcome: String,
    code: Option<String>,
    /// What was called, for a call.
    call: Option<String>,
    method: Option<String>,
    /// `key`, `operator`, …; `nobody` of an event without an actor.
    actor: String,
    /// By what it is known in a list.
    by: Option<String>,
}

impl Line {
    /// Of an event.
    pub fn of(event: &Event) -> Self {
        let text = |field: &str| event.get(field).and_then(Value::as_str).map(str::to_owned);
        let actor = event.get("actor");
        let actor_text = |field: &str| actor.and_then(|actor| actor[field].as_str()).map(str::to_owned);
        let call = text("host").map(|host| format!("{host}{}", text("path").unwrap_or_default()));
        Self {
            id: text("id").unwrap_or_default(),
            at: text("at").unwrap_or_default(),
            kind: text("kind").unwrap_or_default(),
            outcome: text("outcome").unwrap_or_default(),
            code: text("code"),
            method: call.as_ref().and_then(|_| text("method")),
            call,
            actor: actor_text("type").unwrap_or_else(|| "nobody".to_owned()),
            by: text("caller").or_else(|| text("key_prefix")).or_else(|| actor_text("id")),
        }
    }
}

#[derive(Serialize)]
struct Audit {
    events: Vec<Line>,
    filters: std::collections::BTreeMap<&'static str, String>,
    /// The filters, as the query of an address that one more is put behind.
    query: String,
    kinds: Vec<&'static str>,
    next: Option<String>,
    /// A page behind the first.
    is_older: bool,
    is_filtered: bool,
    is_partial: bool,
}

/// `GET /portal/apps/{}/audit`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let filters: std::collections::BTreeMap<_, _> = FILTERS.iter().map(|name| (*name, desk.query.text(name))).collect();
    let (limit, cursor) = (ROWS.to_string(), desk.query.text("cursor"));
    let mut query = vec![("limit", limit.as_str()), ("cursor", &cursor)];
    query.extend(filters.iter().map(|(name, value)| (*name, value.as_str())));
    let given: Vec<_> = filters.iter().filter(|(_, value)| !value.is_empty()).collect();
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(&given).finish();
    let is_filtered = !given.is_empty();
    let found = match desk.load::<CursorPage<Event>>(Api::EventsList, &[&app.id], &query).await {
        Ok(found) => found,
        Err(error) => {
            let page = Audit::empty(filters);
            return desk.again(error, &[], Shown::of("portal/audit.html", "audit", &app, &page));
        }
    };
    let page = Audit {
        events: found.items.iter().map(Line::of).collect(),
        query: if text.is_empty() { text } else { format!("{text}&") },
        next: found.next_cursor,
        is_older: !cursor.is_empty(),
        is_filtered,
        is_partial: found.partial_scan,
        ..Audit::empty(filters)
    };
    Ok(desk.page(&Shown::of("portal/audit.html", "audit", &app, &page)))
}

impl Audit {
    fn empty(filters: std::collections::BTreeMap<&'static str, String>) -> Self {
        Self {
            events: Vec::new(),
            filters,
            query: String::new(),
            kinds: Kind::ALL.iter().map(|kind| kind.as_str()).collect(),
            next: None,
            is_older: false,
            is_filtered: true,
            is_partial: false,
        }
    }
}

/// A step of a decision.
#[derive(Serialize)]
struct Step {
    key: &'static str,
    /// `ok`, `no`, or `off`: not reached.
    state: &'static str,
}

#[derive(Serialize)]
struct Shows {
    line: Line,
    grant_id: Option<String>,
    seq: Option<i64>,
    hash: String,
    /// For a credential call: the steps of its decision, in their order.
    steps: Vec<Step>,
    /// What the code means and what to do next.
    meaning: Option<&'static str>,
    /// Fields that the page shows nowhere else, as `name` and text.
    rest: Vec<(String, String)>,
    context: Vec<(String, String)>,
}

/// The steps of the decision that an event is of; empty when it is of none, or when its code is of no step.
fn steps(event: &Event) -> Vec<Step> {
    let text = |field: &str| event.get(field).and_then(Value::as_str);
    if !matches!(text("kind"), Some("token.released" | "token.denied")) {
        return Vec::new();
    }
    let refused = match (text("outcome"), text("code").and_then(Code::parse).and_then(resolve::step_of)) {
        (Some("allowed"), _) => None,
        (_, Some(refused)) => Some(refused),
        (_, None) => return Vec::new(),
    };
    let state = |at: usize| match refused {
        Some(refused) if at > refused => "off",
        Some(refused) if at == refused => "no",
        _ => "ok",
    };
    STEPS.iter().enumerate().map(|(at, (key, _))| Step { key, state: state(at) }).collect()
}

/// Fields with a place of their own on the page.
const PLACED: [&str; 10] = ["id", "at", "kind", "outcome", "code", "context", "hash", "chain_id", "seq", "app_id"];

/// `GET /portal/apps/{}/audit/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let event: Event = desk.load(Api::EventsShow, &[&app.id, &desk.params[1]], &[]).await?;
    let written = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = |fields: &Event| fields.iter().map(|(name, value)| (name.clone(), written(value))).collect::<Vec<_>>();
    let meaning = event.get("code").and_then(Value::as_str).and_then(Code::parse);
    let mut rest = pairs(&event);
    rest.retain(|(name, _)| !PLACED.contains(&name.as_str()));
    let page = Shows {
        line: Line::of(&event),
        steps: steps(&event),
        meaning: meaning.map(Code::message),
        rest,
        context: event.get("context").and_then(Value::as_object).map(pairs).unwrap_or_default(),
        grant_id: event.get("grant_id").and_then(Value::as_str).map(str::to_owned),
        seq: event.get("seq").and_then(Value::as_i64),
        hash: event.get("hash").map(written).unwrap_or_default(),
    };
    Ok(desk.page(&Shown::of("portal/event.html", "audit", &app, &page)))
}
