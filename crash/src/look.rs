//! The look at what a crash left: the whole past of the install, every object, every nonce, every revoke.
//!
//! Invariant: state and events agree. What there is was made by exactly one event, what is revoked by exactly one, and nothing is
//! there in part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::client::{ApiKey, Connection};
use super::install::{Install, Server, expect};
use super::model::{Asks, Call, Change, Counts, Fate, Grant, Model, Secret};
use super::random::Random;
use super::{Result, epoch_seconds, fault, locked};

/// Calls of a round that are sent again. Failed authentications are limited to 600 a minute and address.
const REPLAYS_MAX: usize = 300;

/// Events, by what they tell of.
#[derive(Default)]
struct Past {
    /// (run, kind) to ids.
    runs: BTreeMap<String, Vec<(String, String)>>,
    created: BTreeMap<&'static str, Vec<String>>,
    events: u64,
    /// Per grant.
    of_grant: BTreeMap<String, BTreeSet<String>>,
}

const KINDS: &[(&str, &str)] = &[
    ("secret.created", "provider_id"),
    ("grant.created", "grant_id"),
    ("grant.revoked", "grant_id"),
    ("key.minted", "key_id"),
    ("key.revoked", "key_id"),
    ("credential.rotated", "provider_id"),
    ("credential.destroyed", "provider_id"),
];

impl Past {
    fn read(lines: &[Value]) -> Self {
        let mut past = Self::default();
        for line in lines.iter().filter(|line| line["type"] == "event") {
            past.events += 1;
            let (core, private) = (&line["core"], &line["private"]);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (id, kind) = (text(&core["id"]), text(&core["kind"]));
            // A revoke of the last grant tells of the value's end, too.
            if let Some(run) = private["context"]["run_id"].as_str().filter(|_| kind != "credential.destroyed") {
                past.runs.entry(run.to_owned()).or_default().push((kind.clone(), id.clone()));
            }
            if let Some(grant) = core["grant_id"].as_str() {
                past.of_grant.entry(grant.to_owned()).or_default().insert(id);
            }
            if let Some((kind, names)) = KINDS.iter().find(|(known, _)| *known == kind) {
                past.created.entry(kind).or_default().push(text(&core[*names]));
            }
        }
        past
    }

    /// What the events of a kind name, sorted.
    fn named(&self, kind: &str) -> Vec<String> {
        let mut names = self.created.get(kind).cloned().unwrap_or_default();
        names.sort();
        names
    }

    fn count(&self, kind: &str, name: &str) -> usize {
        self.created.get(kind).map_or(0, |names| names.iter().filter(|found| *found == name).count())
    }
}

/// Looks at everything. `before` is the export of the look before, whose past must still hold.
pub async fn look(
    install: &Install,
    server: &Server,
    model: &Mutex<Model>,
    key: &ApiKey,
    random: &mut Random,
    (out, before): (&Path, Option<&Path>),
) -> Result<Counts> {
    let lines = install.export(server, out, before).await?;
    let past = Past::read(&lines);
    let calls = {
        let mut model = locked(model);
        model.releases = 0;
        std::mem::take(&mut model.calls)
    };
    let mut counts = Counts { events: past.events, ..Counts::default() };
    judge_calls(&mut locked(model), &past, &calls, &mut counts)?;
    judge_objects(install, server, model, &past).await?;
    judge_values(server, model, &past, key, random).await?;
    judge_revokes(server, model, key, random).await?;
    judge_index(install, server, &past, random).await?;
    counts.replays_refused = judge_nonces(server, model, &past, &calls, random).await?;
    Ok(counts)
}

/// Every answered call has exactly one event; none has two; none comes later.
fn judge_calls(model: &mut Model, past: &Past, calls: &[Call], counts: &mut Counts) -> Result {
    for call in calls {
        let found = past.runs.get(&call.run);
        let fate = match &call.answer {
            Some(answer) if answer.status == 200 || answer.status == 201 => {
                counts.answered += 1;
                match call.asks {
                    Asks::Change => {
                        counts.changes += 1;
                        // A second revoke of the same grant changes nothing; a first one has its event.
                        let Some([(kind, _)]) = found.map(Vec::as_slice) else {
                            return fault(format!("{}: an answered change has {found:?} events", call.run));
                        };
                        once(kind, None)
                    }
                    _ => once("token.released", answer.event_id.clone()),
                }
            }
            Some(answer) if matches!(answer.status, 403 | 404 | 410) && call.asks != Asks::Change => {
                counts.answered += 1;
                once("token.denied", None)
            }
            // Busy, or cut off: it happened, or it did not. From now on that stands.
            other => {
                counts.cut_off += u64::from(other.is_none());
                match found.map(Vec::as_slice) {
                    None => Fate::Never,
                    Some([(kind, id)]) => once(kind, Some(id.clone())),
                    Some(more) => return fault(format!("{}: an unanswered call has {} events", call.run, more.len())),
                }
            }
        };
        model.fates.insert(call.run.clone(), fate);
    }
    for (run, fate) in &mut model.fates {
        let found = past.runs.get(run).map_or(&[][..], Vec::as_slice);
        if *fate == Fate::Open {
            *fate = match found {
                [] => Fate::Never,
                [(kind, id), ..] => once(kind, Some(id.clone())),
            };
        }
        let holds = match (&*fate, found) {
            (Fate::Never, []) => true,
            (Fate::Once { kind, event_id }, [(found, id)]) => {
                kind == found && event_id.as_ref().is_none_or(|told| told == id)
            }
            _ => false,
        };
        if !holds {
            return fault(format!("{run}: expected {fate:?}, found {found:?}"));
        }
    }
    match past.runs.keys().find(|run| !model.fates.contains_key(*run)) {
        Some(run) => fault(format!("{run}: an event of a call that nobody made")),
        None => Ok(()),
    }
}

fn once(kind: &str, event_id: Option<String>) -> Fate {
    let known = ["token.released", "token.denied", "grant.created", "grant.revoked"];
    let kind = known.into_iter().find(|known| *known == kind).unwrap_or("another kind");
    Fate::Once { kind, event_id }
}

fn names(items: &[Value], field: &str) -> Vec<String> {
    let mut names: Vec<String> = items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

fn same(what: &str, there: &[String], told: &[String]) -> Result {
    if there == told {
        return Ok(());
    }
    let without_event: Vec<_> = there.iter().filter(|name| !told.contains(name)).collect();
    let without_object: Vec<_> = told.iter().filter(|name| !there.contains(name)).collect();
    fault(format!(
        "{what}: {} there, {} told by events; without an event {without_event:?}, without an object {without_object:?}",
        there.len(),
        told.len()
    ))
}

/// Lists and events agree, and so does what was answered.
async fn judge_objects(install: &Install, server: &Server, model: &Mutex<Model>, past: &Past) -> Result {
    let secrets = install.list(server, "managed-secrets").await?;
    let grants = install.list(server, "grants").await?;
    let keys = install.list(server, "keys").await?;
    same("secrets", &names(&secrets, "slug"), &past.named("secret.created"))?;
    same("grants", &names(&grants, "grant_id"), &past.named("grant.created"))?;
    same("keys", &names(&keys, "id"), &past.named("key.minted"))?;
    let revoked = |items: &[Value]| -> Vec<Value> {
        items.iter().filter(|item| !item["revoked_at"].is_null()).cloned().collect()
    };
    same("revoked grants", &names(&revoked(&grants), "grant_id"), &past.named("grant.revoked"))?;
    same("revoked keys", &names(&revoked(&keys), "id"), &past.named("key.revoked"))?;
    let destroyed: Vec<Value> = secrets.iter().filter(|secret| secret["credential_id"].is_null()).cloned().collect();
    same("destroyed credentials", &names(&destroyed, "slug"), &past.named("credential.destroyed"))?;

    let mut model = locked(model);
    for secret in model.secrets.iter_mut().filter(|secret| secret.created != Change::No) {
        settle_secret(secret, &secrets, &grants, past)?;
    }
    for key in &mut model.keys {
        let found = keys.iter().find(|item| item["name"] == key.name.as_str());
        settle(&mut key.created, found.is_some(), &format!("key {}", key.name))?;
        let Some(found) = found else { continue };
        found["id"].as_str().unwrap_or_default().clone_into(&mut key.id);
        settle(&mut key.revoked, !found["revoked_at"].is_null(), &format!("revoke of key {}", key.id))?;
    }
    model.keys.retain(|key| key.created == Change::Done);
    Ok(())
}

/// What was answered must be there; what was asked for is there or not, and that is settled now.
fn settle(change: &mut Change, is_there: bool, what: &str) -> Result {
    match (*change, is_there) {
        (Change::Done, false) => return fault(format!("{what} was answered and is not there")),
        (Change::No, true) => return fault(format!("{what} is there and nobody asked for it")),
        (Change::Asked, false) => *change = Change::No,
        (Change::Asked, true) => *change = Change::Done,
        (Change::Done, true) | (Change::No, false) => {}
    }
    Ok(())
}

fn settle_secret(secret: &mut Secret, secrets: &[Value], grants: &[Value], past: &Past) -> Result {
    let found = secrets.iter().find(|item| item["name"] == secret.name.as_str());
    settle(&mut secret.created, found.is_some(), &format!("secret {}", secret.name))?;
    let Some(found) = found else {
        secret.grants.clear();
        return Ok(());
    };
    found["slug"].as_str().unwrap_or_default().clone_into(&mut secret.slug);
    let of_secret: Vec<&Value> = grants.iter().filter(|grant| grant["provider_id"] == secret.slug.as_str()).collect();
    for (place, grant) in secret.grants.iter_mut().enumerate() {
        let is_it = |item: &&&Value| match place {
            0 => item["label"].is_null(),
            _ => item["label"] == grant.label.as_str(),
        };
        let found: Vec<&&Value> = of_secret.iter().filter(is_it).collect();
        let what = format!("grant {} {} of {}", grant.id, grant.label, secret.slug);
        if place == 0 && found.len() != 1 {
            return fault(format!("{what}: a secret without its base grant is half made"));
        }
        settle_grant(grant, found.first().map(|item| **item), &what)?;
    }
    secret.grants.retain(|grant| grant.created == Change::Done);
    if of_secret.len() != secret.grants.len() {
        return fault(format!("{}: {} grants, {} asked for", secret.slug, of_secret.len(), secret.grants.len()));
    }
    let rotated = past.count("credential.rotated", &secret.slug);
    if rotated + secret.unavailable < secret.confirmed || rotated >= secret.value.len() {
        return fault(format!(
            "{}: rotated {rotated} times by its events, {} times by its answers",
            secret.slug, secret.confirmed
        ));
    }
    Ok(())
}

fn settle_grant(grant: &mut Grant, found: Option<&Value>, what: &str) -> Result {
    settle(&mut grant.created, found.is_some(), what)?;
    let Some(found) = found else { return Ok(()) };
    let id = found["grant_id"].as_str().unwrap_or_default();
    if !grant.id.is_empty() && grant.id != id {
        return fault(format!("{what}: its id is {id} now"));
    }
    id.clone_into(&mut grant.id);
    settle(&mut grant.revoked, found["status"] == "revoked", &format!("revoke of {what}"))
}

fn ask_token(key: &ApiKey, grant: &str, random: &mut Random, model: &Mutex<Model>) -> (String, Vec<u8>) {
    let run = format!("look-{}", locked(model).number());
    let body = json!({"grant_id": grant, "request": {"method": "GET", "url": "https://api.example.com/look"}});
    (run.clone(), key.request("/sdk/token", &body, random.bytes(), epoch_seconds(), &run))
}

/// Every living secret opens, and holds the newest value that was confirmed or one asked for later.
async fn judge_values(server: &Server, model: &Mutex<Model>, past: &Past, key: &ApiKey, random: &mut Random) -> Result {
    let asked: Vec<(usize, String)> = {
        let model = locked(model);
        let living = |secret: &Secret| {
            let of = secret.grants.iter().find(|grant| grant.revoked == Change::No);
            of.map(|grant| grant.id.clone())
        };
        model.secrets.iter().enumerate().filter_map(|(at, secret)| living(secret).map(|id| (at, id))).collect()
    };
    for (at, grant) in asked {
        let (run, raw) = ask_token(key, &grant, random, model);
        let answer = server.ask(&raw).await?;
        expect(&answer, 200)?;
        let value = answer.text("access_token");
        let event_id = answer.header("x-grantd-event-id").map(str::to_owned);
        let mut model = locked(model);
        model.fates.insert(run, Fate::Once { kind: "token.released", event_id });
        let secret = &mut model.secrets[at];
        let Some(place) = secret.value.iter().position(|known| *known == value) else {
            return fault(format!("{} holds a value that was never stored", secret.slug));
        };
        if place < secret.confirmed {
            return fault(format!("{} holds an old value: {place} of {}", secret.slug, secret.confirmed));
        }
        let rotated = past.count("credential.rotated", &secret.slug);
        if rotated > place || rotated + secret.unavailable < place {
            return fault(format!(
                "{} holds value {place}, and was rotated {rotated} times by its events",
                secret.slug
            ));
        }
        // Values that never took hold are forgotten; so are old ones that must not come back.
        secret.value.drain(place + 1..);
        secret.value.drain(..place - rotated);
        (secret.confirmed, secret.unavailable) = (rotated, 0);
    }
    Ok(())
}

/// What was revoked stays so.
async fn judge_revokes(server: &Server, model: &Mutex<Model>, key: &ApiKey, random: &mut Random) -> Result {
    let (grants, keys): (Vec<String>, Vec<String>) = {
        let model = locked(model);
        let grants = model.secrets.iter().flat_map(|secret| &secret.grants);
        let grants = grants.filter(|grant| grant.revoked == Change::Done).map(|grant| grant.id.clone()).collect();
        let dead = |key: &&super::model::Key| key.revoked == Change::Done && !key.text.is_empty();
        (grants, model.keys.iter().filter(dead).map(|key| key.text.clone()).collect())
    };
    // The newest are the ones that a crash could have lost.
    for grant in grants.iter().rev().take(20) {
        let (run, raw) = ask_token(key, grant, random, model);
        let answer = server.ask(&raw).await?;
        if !matches!(answer.status, 403 | 410) {
            return fault(format!("the revoked grant {grant}: {}", answer.shown()));
        }
        locked(model).fates.insert(run, Fate::Once { kind: "token.denied", event_id: None });
    }
    for text in keys.iter().rev().take(5) {
        let nobody = format!("look-{}", locked(model).number());
        let raw = ApiKey::new(text).request("/sdk/grants/list", &json!({}), random.bytes(), epoch_seconds(), &nobody);
        let answer = server.ask(&raw).await?;
        if answer.error() != "key_revoked" {
            return fault(format!("a revoked key: {}", answer.shown()));
        }
    }
    Ok(())
}

/// A filter by grant, which an index answers, finds what the export holds.
async fn judge_index(install: &Install, server: &Server, past: &Past, random: &mut Random) -> Result {
    let grants: Vec<&String> = past.of_grant.keys().collect();
    let Some(grant) = random.one_of(&grants) else { return Ok(()) };
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = install.path(&format!("/audit/events?grant={grant}&limit=1000{cursor}"));
        let page = expect(&install.ask(server, "GET", &path, None).await?, 200)?;
        for item in page["items"].as_array().into_iter().flatten() {
            found.insert(item["id"].as_str().unwrap_or_default().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let lost: Vec<&String> = past.of_grant[*grant].difference(&found).collect();
    if lost.is_empty() { Ok(()) } else { fault(format!("the index of grant {grant} lacks {lost:?}")) }
}

/// The very same bytes again: no nonce is taken twice.
async fn judge_nonces(
    server: &Server,
    model: &Mutex<Model>,
    past: &Past,
    calls: &[Call],
    random: &mut Random,
) -> Result<u64> {
    // A grant that was revoked since is refused for that, before anything is written.
    let revoked: BTreeSet<String> = {
        let model = locked(model);
        let grants = model.secrets.iter().flat_map(|secret| &secret.grants);
        grants.filter(|grant| grant.revoked == Change::Done).map(|grant| grant.id.clone()).collect()
    };

    let was_accepted = |call: &&Call| {
        let kinds = past.runs.get(&call.run).map_or(&[][..], Vec::as_slice);
        kinds.iter().any(|(kind, _)| kind != "token.denied") && !revoked.contains(&call.grant)
    };
    let accepted: Vec<&Call> = calls.iter().filter(was_accepted).collect();
    // The last ones were nearest to the crash; of the others, any.
    let (older, newest) = accepted.split_at(accepted.len().saturating_sub(REPLAYS_MAX / 2));
    let mut older = older.to_vec();
    random.shuffle(&mut older);
    let again = newest.iter().chain(older.iter().take(REPLAYS_MAX / 2));
    let mut connection = Connection::open(server.address).await?;
    let mut refused = 0;
    for call in again {
        let answer = connection.send(&call.raw).await?;
        if answer.status != 401 || answer.error() != "nonce_replayed" {
            return fault(format!("{}: its nonce was taken again: {}", call.run, answer.shown()));
        }
        refused += 1;
    }
    Ok(refused)
}
