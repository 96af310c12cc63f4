//! The load: applications that retrieve, and operators that create, rotate and revoke, until the server is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Answer, ApiKey, Connection, managed};
use super::model::{Answered, Asks, Call, Change, Grant, Key, Model, Secret};
use super::random::Random;
use super::{epoch_seconds, locked};

/// Applications that call at the same time.
const CALLERS: usize = 6;
/// Operators that change things at the same time.
const OPERATORS: usize = 2;
/// Secrets that one load makes: what is looked at after each death must not grow for ever, and the next load must have some to make.
const SECRETS_MAX: usize = 36;
/// Grants of a secret after which no more are made.
const GRANTS_MAX: usize = 12;

/// Before a caller who was told to come later does.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// What every worker has.
#[derive(Clone)]
struct Work {
    address: SocketAddr,
    token: String,
    app_id: String,
    api_key: Arc<ApiKey>,
    model: Arc<Mutex<Model>>,
    /// Places of the model's list at which no more secrets are made.
    secrets_end: usize,
    stop: watch::Receiver<bool>,
}

/// A load that runs.
pub struct Load {
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Whom the load works as.
pub struct Identity {
    pub address: SocketAddr,
    pub token: String,
    pub app_id: String,
    pub api_key: String,
}

impl Load {
    pub fn start(identity: &Identity, model: &Arc<Mutex<Model>>, random: &mut Random) -> Self {
        let (stop, stopped) = watch::channel(false);
        let work = Work {
            address: identity.address,
            token: identity.token.clone(),
            app_id: identity.app_id.clone(),
            api_key: Arc::new(ApiKey::new(&identity.api_key)),
            model: Arc::clone(model),
            secrets_end: locked(model).secrets.len() + SECRETS_MAX,
            stop: stopped,
        };
        let mut workers = JoinSet::new();
        for _ in 0..CALLERS {
            workers.spawn(until_gone(work.clone(), random.fork(), Worker::Caller));
        }
        for number in 0..OPERATORS {
            workers.spawn(until_gone(work.clone(), random.fork(), Worker::Operator(number)));
        }
        workers.spawn(until_gone(work, random.fork(), Worker::Auditor));
        Self { workers, stop }
    }

    /// Ends when every worker has lost the server, or was told to stop and got its last answer.
    pub async fn end(mut self) {
        let _ = self.stop.send(true);
        while self.workers.join_next().await.is_some() {}
    }
}

#[derive(Clone, Copy)]
enum Worker {
    Caller,
    Operator(usize),
    Auditor,
}

/// A worker whose connection ended has seen the server die: what it waited for stays unanswered.
async fn until_gone(work: Work, mut random: Random, worker: Worker) {
    let Ok(mut connection) = Connection::open(work.address).await else { return };
    while !*work.stop.borrow() {
        let went = match worker {
            Worker::Caller => call(&work, &mut random, &mut connection).await,
            Worker::Operator(number) => change(&work, number, &mut random, &mut connection).await,
            Worker::Auditor => audit(&work, &mut connection).await,
        };
        if went.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The server may say that it is busy, or going; nothing of such a call happened, or its event tells.
fn is_unavailable(answer: &Answer) -> bool {
    matches!(answer.status, 429 | 503)
}

/// What a caller knew when it sent its call.
struct Known {
    secret: usize,
    grant: usize,
    grant_id: String,
    confirmed: usize,
    is_revoked: bool,
}

fn pick(model: &Model, random: &mut Random) -> Option<Known> {
    // Mostly what can be released; of what was revoked, any.
    let wants_living = random.below(8) != 0;
    let places = model.secrets.iter().enumerate().flat_map(|(secret, of)| {
        let known = of.grants.iter().enumerate().filter(|(_, grant)| !grant.id.is_empty());
        known.filter(|(_, grant)| (grant.revoked == Change::No) == wants_living).map(move |(grant, _)| (secret, grant))
    });
    let places: Vec<(usize, usize)> = places.collect();
    let (secret, grant) = *random.one_of(&places)?;
    let of = &model.secrets[secret];
    let it = &of.grants[grant];
    let (grant_id, is_revoked) = (it.id.clone(), it.revoked == Change::Done);
    Some(Known { secret, grant, grant_id, confirmed: of.confirmed, is_revoked })
}

async fn call(work: &Work, random: &mut Random, connection: &mut Connection) -> io::Result<()> {
    let known = if random.below(16) == 0 { None } else { pick(&locked(&work.model), random) };
    let nobody = "01890a5d-ac96-7740-9b5b-000000000000";
    let grant_id = known.as_ref().map_or(nobody, |known| &known.grant_id);
    let body = json!({"grant_id": grant_id, "request": {"method": "GET", "url": "https://api.example.com/v1/x"}});
    let asks = if known.is_some() { Asks::Token } else { Asks::TokenOfNobody };
    let (place, raw) = sent(work, random, (asks, grant_id), "/sdk/token", &body);
    let answer = connection.send(&raw).await?;
    {
        let mut model = locked(&work.model);
        let event_id = answer.header("x-grantd-event-id").map(str::to_owned);
        model.calls[place].answer = Some(Answered { status: answer.status, event_id });
        model.releases += usize::from(answer.status == 200);
        if let Some(what) = wrong(&model, known.as_ref(), &answer) {
            model.problem(what);
        }
    }
    if is_unavailable(&answer) {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Keeps a call before it goes out; its place and its bytes.
fn sent(work: &Work, random: &mut Random, (asks, grant): (Asks, &str), path: &str, body: &Value) -> (usize, Vec<u8>) {
    let mut model = locked(&work.model);
    let run = format!("run-{}", model.number());
    let raw = work.api_key.request(path, body, random.bytes(), epoch_seconds(), &run);
    model.calls.push(Call { raw: raw.clone(), run, asks, grant: grant.to_owned(), answer: None });
    (model.calls.len() - 1, raw)
}

/// Why this answer must not be.
fn wrong(model: &Model, known: Option<&Known>, answer: &Answer) -> Option<String> {
    if is_unavailable(answer) {
        return None;
    }
    let Some(known) = known else {
        return (answer.status != 404).then(|| format!("a grant that there is not: {}", answer.shown()));
    };
    let secret = &model.secrets[known.secret];
    let grant = &secret.grants[known.grant];
    if answer.status == 200 {
        if known.is_revoked {
            return Some(format!("grant {} was released after its revoke was answered", known.grant_id));
        }
        let value = answer.text("access_token");
        return match secret.value.iter().position(|known| *known == value) {
            None => Some(format!("a release of {} holds a value that was never stored", secret.slug)),
            Some(at) if at < known.confirmed => Some(format!("a release of {} holds an old value", secret.slug)),
            Some(_) => None,
        };
    }
    let is_expected = matches!(answer.error().as_str(), "grant_revoked" | "grant_deleted");
    (grant.revoked == Change::No || !is_expected).then(|| format!("grant {}: {}", known.grant_id, answer.shown()))
}

/// An operator works on secrets of its own, one change after another.
async fn change(work: &Work, number: usize, random: &mut Random, connection: &mut Connection) -> io::Result<()> {
    let mine: Vec<usize> = {
        let model = locked(&work.model);
        (0..model.secrets.len()).filter(|at| at % OPERATORS == number && !model.secrets[*at].slug.is_empty()).collect()
    };
    let Some(at) = random.one_of(&mine).copied() else { return create_secret(work, number, connection).await };
    match random.below(10) {
        0 => create_secret(work, number, connection).await,
        1 | 2 => rotate(work, at, connection).await,
        3 | 4 => create_grant(work, at, random, connection).await,
        5 | 6 => revoke_grant(work, at, random, connection).await,
        7 => mint(work, connection).await,
        8 => revoke_key(work, number, connection).await,
        _ => give_up(work, at, connection).await,
    }
}

impl Work {
    fn path(&self, rest: &str) -> String {
        format!("/api/v1/apps/{}{rest}", self.app_id)
    }

    async fn manage(&self, connection: &mut Connection, path: &str, body: &Value) -> io::Result<Answer> {
        connection.send(&managed(&self.token, "POST", &self.path(path), Some(body))).await
    }

    /// A change that was answered must have been made, unless the server was busy.
    fn changed(&self, what: &str, answer: &Answer) -> bool {
        let is_made = matches!(answer.status, 200 | 201);
        if !is_made && !is_unavailable(answer) {
            locked(&self.model).problem(format!("{what}: {}", answer.shown()));
        }
        is_made
    }
}

/// Each operator makes every OPERATORSth place of the list, so that the place says whose it is.
async fn create_secret(work: &Work, number: usize, connection: &mut Connection) -> io::Result<()> {
    let (at, name, value) = {
        let mut model = locked(&work.model);
        let n = model.number();
        if model.secrets.len() >= work.secrets_end {
            return Ok(());
        }
        while model.secrets.len() % OPERATORS != number {
            model.secrets.push(unused());
        }
        let (name, value) = (format!("secret {n}"), format!("value-{n}-0"));
        let grant = Grant { id: String::new(), label: String::new(), created: Change::Asked, revoked: Change::No };
        let secret = Secret {
            name: name.clone(),
            value: vec![value.clone()],
            confirmed: 0,
            unavailable: 0,
            created: Change::Asked,
            slug: String::new(),
            grants: vec![grant],
        };
        model.secrets.push(secret);
        (model.secrets.len() - 1, name, value)
    };
    let body = json!({"name": name, "value": value, "allowed_hosts": ["api.example.com"]});
    let answer = work.manage(connection, "/managed-secrets", &body).await?;
    if work.changed("creating a secret", &answer) {
        let mut model = locked(&work.model);
        let secret = &mut model.secrets[at];
        secret.created = Change::Done;
        secret.slug = answer.text("slug");
        secret.grants[0].id = answer.text("grant_id");
        secret.grants[0].created = Change::Done;
    }
    Ok(())
}

/// A place that stays empty.
fn unused() -> Secret {
    let (name, slug) = (String::new(), String::new());
    Secret { name, value: Vec::new(), confirmed: 0, unavailable: 0, created: Change::No, slug, grants: Vec::new() }
}

async fn rotate(work: &Work, at: usize, connection: &mut Connection) -> io::Result<()> {
    let (slug, value) = {
        let mut model = locked(&work.model);
        let n = model.number();
        let secret = &mut model.secrets[at];
        // One whose grants are all revoked, or may be, has no value to rotate.
        if secret.grants.first().is_none_or(|base| base.revoked != Change::No) {
            return Ok(());
        }
        let value = format!("value-{n}-{}", secret.value.len());
        secret.value.push(value.clone());
        (secret.slug.clone(), value)
    };
    let answer = work.manage(connection, &format!("/managed-secrets/{slug}/rotate"), &json!({"value": value})).await?;
    let is_made = work.changed("rotating", &answer);
    let mut model = locked(&work.model);
    let secret = &mut model.secrets[at];
    match is_made {
        true => secret.confirmed = secret.value.len() - 1,
        false => secret.unavailable += 1,
    }
    Ok(())
}

async fn create_grant(work: &Work, at: usize, random: &mut Random, connection: &mut Connection) -> io::Result<()> {
    let (slug, label, place) = {
        let mut model = locked(&work.model);
        let n = model.number();
        let secret = &mut model.secrets[at];
        let is_dead = secret.grants.first().is_none_or(|base| base.revoked != Change::No);
        if is_dead || secret.grants.len() >= GRANTS_MAX {
            return Ok(());
        }
        let label = format!("label {n}");
        let grant = Grant { id: String::new(), label: label.clone(), created: Change::Asked, revoked: Change::No };
        secret.grants.push(grant);
        (secret.slug.clone(), label, secret.grants.len() - 1)
    };
    // Half of them as an application, whose nonce is used in the same write.
    let answer = if random.below(2) == 0 {
        let body = json!({"principal_type": "system", "label": label});
        work.manage(connection, &format!("/managed-secrets/{slug}/grants"), &body).await?
    } else {
        let body = json!({"principal": {"type": "system", "label": label}});
        signed_change(work, random, connection, &format!("/sdk/managed-secrets/{slug}/grants"), &body).await?
    };
    if work.changed("creating a grant", &answer) {
        let mut model = locked(&work.model);
        let grant = &mut model.secrets[at].grants[place];
        grant.id = answer.text("grant_id");
        grant.created = Change::Done;
    }
    Ok(())
}

async fn signed_change(
    work: &Work,
    random: &mut Random,
    connection: &mut Connection,
    path: &str,
    body: &Value,
) -> io::Result<Answer> {
    let (place, raw) = sent(work, random, (Asks::Change, ""), path, body);
    let answer = connection.send(&raw).await?;
    locked(&work.model).calls[place].answer = Some(Answered { status: answer.status, event_id: None });
    Ok(answer)
}

/// Not the base grant: that one keeps the value alive.
async fn revoke_grant(work: &Work, at: usize, random: &mut Random, connection: &mut Connection) -> io::Result<()> {
    let (place, id) = {
        let mut model = locked(&work.model);
        let secret = &mut model.secrets[at];
        let living = |grant: &Grant| !grant.id.is_empty() && grant.revoked == Change::No;
        let Some(place) = (1..secret.grants.len()).find(|place| living(&secret.grants[*place])) else { return Ok(()) };
        secret.grants[place].revoked = Change::Asked;
        (place, secret.grants[place].id.clone())
    };
    let answer = if random.below(2) == 0 {
        work.manage(connection, &format!("/grants/{id}/revoke"), &json!({})).await?
    } else {
        signed_change(work, random, connection, &format!("/sdk/oauth/grants/{id}/revoke"), &json!({})).await?
    };
    if work.changed("revoking a grant", &answer) {
        locked(&work.model).secrets[at].grants[place].revoked = Change::Done;
    }
    Ok(())
}

/// Revokes what is left of a secret, so that its value is destroyed, when there are many.
async fn give_up(work: &Work, at: usize, connection: &mut Connection) -> io::Result<()> {
    let ids: Vec<(usize, String)> = {
        let mut model = locked(&work.model);
        let living = |secret: &&Secret| secret.grants.first().is_some_and(|base| base.revoked == Change::No);
        if model.secrets.iter().filter(living).count() < 4 {
            return Ok(());
        }
        let secret = &mut model.secrets[at];
        // One whose grants are not all known cannot be given up.
        if secret.grants.iter().any(|grant| grant.id.is_empty()) {
            return Ok(());
        }
        let grants = secret.grants.iter_mut().enumerate().filter(|(_, grant)| grant.revoked == Change::No);
        grants
            .map(|(place, grant)| {
                grant.revoked = Change::Asked;
                (place, grant.id.clone())
            })
            .collect()
    };
    for (place, id) in ids {
        let answer = work.manage(connection, &format!("/grants/{id}/revoke"), &json!({"reason": "given up"})).await?;
        if work.changed("revoking a grant", &answer) {
            locked(&work.model).secrets[at].grants[place].revoked = Change::Done;
        }
    }
    Ok(())
}

async fn mint(work: &Work, connection: &mut Connection) -> io::Result<()> {
    let (place, name) = {
        let mut model = locked(&work.model);
        let name = format!("key {}", model.number());
        let (id, text) = (String::new(), String::new());
        model.keys.push(Key { name: name.clone(), id, text, created: Change::Asked, revoked: Change::No });
        (model.keys.len() - 1, name)
    };
    let answer = work.manage(connection, "/keys", &json!({"name": name})).await?;
    if work.changed("minting a key", &answer) {
        let mut model = locked(&work.model);
        let key = &mut model.keys[place];
        (key.id, key.text, key.created) = (answer.text("id"), answer.text("api_key"), Change::Done);
    }
    Ok(())
}

async fn revoke_key(work: &Work, number: usize, connection: &mut Connection) -> io::Result<()> {
    let (place, id) = {
        let mut model = locked(&work.model);
        let living = |key: &Key| !key.id.is_empty() && key.revoked == Change::No;
        let mut places = (0..model.keys.len()).filter(|at| at % OPERATORS == number);
        let Some(place) = places.find(|place| living(&model.keys[*place])) else { return Ok(()) };
        model.keys[place].revoked = Change::Asked;
        (place, model.keys[place].id.clone())
    };
    let answer = work.manage(connection, &format!("/keys/{id}/revoke"), &json!({})).await?;
    if work.changed("revoking a key", &answer) {
        locked(&work.model).keys[place].revoked = Change::Done;
    }
    Ok(())
}

/// Exports while everything moves: each signs a checkpoint.
async fn audit(work: &Work, connection: &mut Connection) -> io::Result<()> {
    tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    let path = work.path("/audit/export?format=jsonl&kind=key.minted");
    let answer = connection.send(&managed(&work.token, "GET", &path, None)).await?;
    if answer.status != 200 && !is_unavailable(&answer) {
        locked(&work.model).problem(format!("exporting: {}", answer.shown()));
    }
    Ok(())
}
