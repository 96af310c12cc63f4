//! The way to an app's first request, step by step. Each step ticks itself when it is done.

use grantd_wire::api::{self, CursorPage, Event, Grant, Key, Secret};
use grantd_wire::key::{self, KeyType};
use grantd_wire::{Code, Error};
use serde::Serialize;

use super::audit::Line;
use super::desk::{Desk, Shown};
use crate::answer::Answer;
use crate::routes::Api;

#[derive(Serialize)]
struct Start {
    /// The newest key that works.
    key: Option<Key>,
    /// How long a whole key is, for whoever copied a part of one.
    key_chars: usize,
    /// The grant to be called with: the one that was just issued, else the app's own newest that works.
    grant: Option<Grant>,
    /// What the snippet calls.
    url: String,
    /// The newest call with the grant that was allowed.
    call: Option<Line>,
    /// The newest one that was refused, as long as none was allowed; and what its code means.
    denied: Option<Line>,
    meaning: Option<&'static str>,
}

/// `GET /portal/apps/{}/start`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let app = desk.app().await?;
    let id = app.id.as_str();
    let one = ("limit", "1");
    let keys: api::Page<Key> = desk.load(Api::KeysList, &[id], &[one, ("status", "active")]).await?;
    let wanted = desk.query.text("grant");
    let grant = match wanted.is_empty() {
        true => None,
        // An id that leads nowhere is no reason to show nothing.
        false => desk.load::<Grant>(Api::GrantsShow, &[id, &wanted], &[]).await.ok(),
    };
    let grant = match grant {
        Some(grant) => Some(grant),
        None => {
            let newest = [("limit", "25"), ("status", "active")];
            let found: api::Page<Grant> = desk.load(Api::GrantsList, &[id], &newest).await?;
            // The snippet sends no user's token, without which a grant of a user or a group is refused.
            found.items.into_iter().find(|grant| grant.principal_type == "system")
        }
    };
    let call = newest(desk, id, grant.as_ref(), "token.released").await?;
    let denied = match &call {
        Some(_) => None,
        None => newest(desk, id, grant.as_ref(), "token.denied").await?,
    };
    let code = denied.as_ref().and_then(|event| event.get("code")?.as_str()).and_then(Code::parse);
    let page = Start {
        key: keys.items.into_iter().next(),
        key_chars: key::mint(KeyType::Runtime, [0; key::RANDOM_LEN]).len(),
        url: url(desk, id, grant.as_ref()).await?,
        grant,
        call: call.as_ref().map(Line::of),
        denied: denied.as_ref().map(Line::of),
        meaning: code.map(Code::message),
    };
    Ok(desk.page(&Shown::of("portal/start.html", "start", &app, &page)))
}

/// The newest event of this kind that is of the grant.
async fn newest(desk: &Desk<'_>, app: &str, grant: Option<&Grant>, kind: &str) -> Result<Option<Event>, Error> {
    let Some(grant) = grant else { return Ok(None) };
    let query = [("limit", "1"), ("kind", kind), ("grant", &grant.grant_id)];
    let found: CursorPage<Event> = desk.load(Api::EventsList, &[app], &query).await?;
    Ok(found.items.into_iter().next())
}

/// An address that the credential may go to: its template's harmless call, else its first host.
async fn url(desk: &Desk<'_>, app: &str, grant: Option<&Grant>) -> Result<String, Error> {
    let example = || "https://api.example.com/".to_owned();
    let Some(slug) = grant.and_then(|grant| grant.managed_secret_id.as_deref()) else { return Ok(example()) };
    let secret: Secret = desk.load(Api::SecretsShow, &[app, slug], &[]).await?;
    if let Some(template) = &secret.template {
        let template: api::SecretTemplate = desk.load(Api::TemplatesShow, &[template], &[]).await?;
        let get = template.probe.as_deref().and_then(|probe| probe.strip_prefix("GET "));
        if let Some(url) = get.filter(|url| !url.contains('{')) {
            return Ok(url.to_owned());
        }
    }
    let host = secret.allowed_hosts.first().map_or("api.example.com", |host| host.trim_start_matches("*."));
    let is_local = host.starts_with("127.0.0.1") || host.starts_with("localhost");
    Ok(format!("{}://{host}/", if is_local { "http" } else { "https" }))
}
