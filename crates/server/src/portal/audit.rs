//! The audit trail of an app, and of the organization: the list, which a script may keep up to date, one event with why it was decided so,
//! and the export.

use std::collections::BTreeMap;

use grantd_domain::audit::Kind;
use grantd_domain::resolve::{self, STEPS};
use grantd_wire::api::{self, CursorPage, Event};
use grantd_wire::{Code, Error, TimeMs};
use serde::Serialize;
use serde_json::Value;

use super::desk::{Desk, ROWS, Shown};
use super::form::Form;
use crate::answer::Answer;
use crate::routes::Api;

/// Filters of the list and of an export, by the names that the management API has for them.
const FILTERS: [&str; 11] =
    ["kind", "outcome", "grant", "user", "agent", "key", "provider", "request", "context", "since", "until"];
/// Outcomes that events have.
const OUTCOMES: [&str; 4] = ["allowed", "denied", "error", "unknown"];

/// Characters of a call, its host and path, in a list. The page of its event has it whole.
const CALL_CHARS_SHOWN: usize = 200;

type Filters = BTreeMap<&'static str, String>;

/// A line of the list.
#[derive(Serialize)]
pub struct Line {
    id: String,
    at: String,
    kind: String,
    outcome: String,
    code: Option<String>,
    /// What was called, for a call; of a long one the beginning.
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
        let call = text("host").map(|host| cut(host + text("path").as_deref().unwrap_or_default()));
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

/// The text, if it is not too long for a list; else its beginning.
fn cut(text: String) -> String {
    match text.char_indices().nth(CALL_CHARS_SHOWN) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Whose trail a page is of.
struct Trail {
    /// `None`: the organization.
    app: Option<api::App>,
}

impl Trail {
    async fn of(desk: &Desk<'_>) -> Result<Self, Error> {
        let is_apps = desk.parts.uri.path().starts_with("/portal/apps/");
        Ok(Self { app: if is_apps { Some(desk.app().await?) } else { None } })
    }

    /// What the management API has for it, and for the organization.
    fn route(&self, of_app: Api, of_organization: Api) -> Api {
        if self.app.is_some() { of_app } else { of_organization }
    }

    /// The app, and what else an address of the management API names.
    fn params<'p>(&'p self, more: &[&'p str]) -> Vec<&'p str> {
        self.app.iter().map(|app| app.id.as_str()).chain(more.iter().copied()).collect()
    }

    fn shown<'s, P>(&'s self, template: &'static str, page: &'s P) -> Shown<'s, P> {
        match &self.app {
            Some(app) => Shown::of(template, "audit", app, page),
            None => Shown::new(template, "organization_audit", page),
        }
    }
}

#[derive(Serialize)]
struct Audit {
    events: Vec<Line>,
    filters: Filters,
    /// The filters, as the query of an address that one more is put behind.
    query: String,
    kinds: Vec<&'static str>,
    outcomes: [&'static str; 4],
    next: Option<String>,
    /// A page behind the first.
    is_older: bool,
    is_filtered: bool,
    /// A filter is set that is not always in sight.
    is_narrow: bool,
    is_partial: bool,
}

fn filters(form: &Form) -> Filters {
    FILTERS.iter().map(|name| (*name, form.text(name))).collect()
}

/// The filters that are set, as the management API takes them. Browsers send moments without their zone; those of pages are UTC.
fn given(filters: &Filters) -> Vec<(&'static str, String)> {
    let written = |(name, value): (&&'static str, &String)| match *name {
        "since" | "until" if TimeMs::parse(value).is_none() => {
            (*name, format!("{value}{}Z", if value.len() == "2026-11-24T10:00".len() { ":00" } else { "" }))
        }
        name => (name, value.clone()),
    };
    filters.iter().filter(|(_, value)| !value.is_empty()).map(written).collect()
}

/// `GET …/audit`.
pub async fn list(desk: &Desk<'_>) -> Result<Answer, Error> {
    let trail = Trail::of(desk).await?;
    let filters = filters(&desk.query);
    let (limit, cursor) = (ROWS.to_string(), desk.query.text("cursor"));
    let given = given(&filters);
    let mut query = vec![("limit", limit.as_str()), ("cursor", &cursor)];
    query.extend(given.iter().map(|(name, value)| (*name, value.as_str())));
    let set = filters.iter().filter(|(_, value)| !value.is_empty());
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(set).finish();
    let route = trail.route(Api::EventsList, Api::OrganizationEventsList);
    let found = match desk.load::<CursorPage<Event>>(route, &trail.params(&[]), &query).await {
        Ok(found) => found,
        Err(error) => {
            let page = Audit::empty(filters);
            return desk.again(error, &[], trail.shown("portal/audit.html", &page));
        }
    };
    let page = Audit {
        events: found.items.iter().map(Line::of).collect(),
        query: if text.is_empty() { text } else { format!("{text}&") },
        next: found.next_cursor,
        is_older: !cursor.is_empty(),
        is_filtered: !given.is_empty(),
        is_partial: found.partial_scan,
        ..Audit::empty(filters)
    };
    Ok(desk.page(&trail.shown("portal/audit.html", &page)))
}

impl Audit {
    fn empty(filters: Filters) -> Self {
        let in_sight = ["kind", "outcome", "context"];
        Self {
            events: Vec::new(),
            query: String::new(),
            kinds: Kind::ALL.iter().map(|kind| kind.as_str()).collect(),
            outcomes: OUTCOMES,
            next: None,
            is_older: false,
            is_filtered: true,
            is_narrow: filters.iter().any(|(name, value)| !value.is_empty() && !in_sight.contains(name)),
            is_partial: false,
            filters,
        }
    }
}

#[derive(Serialize)]
struct Export {
    filters: Filters,
    kinds: Vec<&'static str>,
    outcomes: [&'static str; 4],
}

impl Export {
    fn of(form: &Form) -> Self {
        let kinds = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        Self { filters: filters(form), kinds, outcomes: OUTCOMES }
    }
}

/// `GET …/audit/export`: what is to be in it?
pub async fn ask_export(desk: &Desk<'_>) -> Result<Answer, Error> {
    let trail = Trail::of(desk).await?;
    Ok(desk.page(&trail.shown("portal/audit_export.html", &Export::of(&desk.query))))
}

/// `POST …/audit/export`: a file. That it was made is an event, so it is the answer to a form.
pub async fn export(desk: &Desk<'_>) -> Result<Answer, Error> {
    let trail = Trail::of(desk).await?;
    let page = Export::of(&desk.form);
    let format = if desk.form.raw("format") == "csv" { "csv" } else { "jsonl" };
    let given = given(&page.filters);
    let mut query = vec![("format", format)];
    query.extend(given.iter().map(|(name, value)| (*name, value.as_str())));
    let route = trail.route(Api::EventsExport, Api::OrganizationEventsExport);
    let day = desk.source.now.to_string();
    let whose = trail.app.as_ref().map_or("organization", |app| app.id.as_str());
    let name = format!("audit-{whose}-{}.{format}", day.get(..10).unwrap_or("export"));
    match desk.file(route, &trail.params(&[]), &query, &name).await {
        Ok(answer) => Ok(answer),
        Err(error) => desk.again(error, &["format"], trail.shown("portal/audit_export.html", &page)),
    }
}

/// A step of a decision.
#[derive(Serialize)]
struct Step {
    key: &'static str,
    /// `ok`, `no`, or `off`: not reached.
    state: &'static str,
}

/// A field of an event.
#[derive(Serialize)]
struct Field {
    name: String,
    text: String,
    /// The filter that finds other events with the same.
    filter: Option<&'static str>,
}

/// What a change did to a field.
#[derive(Serialize)]
struct Change {
    field: String,
    old: Option<String>,
    new: Option<String>,
}

#[derive(Serialize)]
struct Shows {
    line: Line,
    grant_id: Option<String>,
    seq: Option<i64>,
    hash: String,
    chain_id: Option<String>,
    /// For a credential call: the steps of its decision, in their order.
    steps: Vec<Step>,
    /// What the code means and what to do next.
    meaning: Option<&'static str>,
    changes: Vec<Change>,
    /// Fields that the page shows nowhere else.
    rest: Vec<Field>,
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
const PLACED: [&str; 11] =
    ["id", "at", "kind", "outcome", "code", "context", "hash", "chain_id", "seq", "app_id", "changed"];

/// Fields that other events are found by.
fn filter_of(field: &str) -> Option<&'static str> {
    match field {
        "user_id" => Some("user"),
        "agent_id" => Some("agent"),
        "key_id" => Some("key"),
        "provider_id" => Some("provider"),
        "request_id" => Some("request"),
        _ => None,
    }
}

/// A value as a page shows it.
fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A field as rows; one that has fields of its own, as an actor has, is a row for each of them.
fn fields(name: &str, value: &Value) -> Vec<Field> {
    match value {
        Value::Object(parts) if !parts.is_empty() => {
            let part = |(part, value): (&String, &Value)| fields(&format!("{name}.{part}"), value);
            parts.iter().flat_map(part).collect()
        }
        value => vec![Field { name: name.to_owned(), text: written(value), filter: filter_of(name) }],
    }
}

/// `{field: [old, new]}` as rows.
fn changes(event: &Event) -> Vec<Change> {
    let changed = event.get("changed").and_then(Value::as_object);
    let side = |value: &Value| (!value.is_null()).then(|| written(value));
    let change =
        |(field, sides): (&String, &Value)| Change { field: field.clone(), old: side(&sides[0]), new: side(&sides[1]) };
    changed.into_iter().flatten().map(change).collect()
}

/// `GET …/audit/{}`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let trail = Trail::of(desk).await?;
    let id = desk.params.last().map_or("", String::as_str);
    let route = trail.route(Api::EventsShow, Api::OrganizationEventsShow);
    let event: Event = desk.load(route, &trail.params(&[id]), &[]).await?;
    let text = |field: &str| event.get(field).and_then(Value::as_str).map(str::to_owned);
    let context = event.get("context").and_then(Value::as_object);
    let rest = event.iter().filter(|(name, _)| !PLACED.contains(&name.as_str()));
    let rest = rest.flat_map(|(name, value)| fields(name, value));
    let page = Shows {
        line: Line::of(&event),
        steps: steps(&event),
        meaning: text("code").as_deref().and_then(Code::parse).map(Code::message),
        changes: changes(&event),
        rest: rest.collect(),
        context: context.into_iter().flatten().map(|(name, value)| (name.clone(), written(value))).collect(),
        grant_id: text("grant_id"),
        seq: event.get("seq").and_then(Value::as_i64),
        hash: text("hash").unwrap_or_default(),
        chain_id: text("chain_id"),
    };
    Ok(desk.page(&trail.shown("portal/event.html", &page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cut_in_lists() {
        let whole = "é".repeat(CALL_CHARS_SHOWN);
        assert_eq!(cut(whole.clone()), whole);
        assert_eq!(cut(format!("{whole}x")), format!("{whole}…"));
    }

    #[test]
    fn moments_are_taken_as_browsers_send_them() {
        let of = |text: &str| given(&BTreeMap::from([("since", text.to_owned())])).pop().map(|(_, value)| value);
        assert_eq!(of(""), None);
        assert_eq!(of("2026-11-24T10:00").as_deref(), Some("2026-11-24T10:00:00Z"));
        assert_eq!(of("2026-11-24T10:00:30").as_deref(), Some("2026-11-24T10:00:30Z"));
        assert_eq!(of("2026-11-24T10:00:00+01:00").as_deref(), Some("2026-11-24T10:00:00+01:00"));
        // What is none is said by whoever reads it.
        assert_eq!(of("soon").as_deref(), Some("soonZ"));
    }
}
