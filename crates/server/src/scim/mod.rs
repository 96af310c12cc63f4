//! `/scim/v2/{identity provider}`: where a directory tells what became of its users and groups (RFC 7644).
//!
//! The token says whose directory calls; an identity provider that is not its own is as unknown as one that is not there.

mod discovery;
mod groups;
mod users;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::scim::path::Resource;
use grantd_domain::scim::user::project;
use grantd_domain::scim::{Refused, Wrong};
use grantd_store::scim::{self as rows, Endpoint};
use grantd_wire::ids::IdentityProviderId;
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, limits};
use http::request::Parts;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, empty, of_store, raw};
use crate::caller::{Source, body, failed};
use crate::flow::directory::{Telling, refused};
use crate::parse;
use crate::vault::Vault;

/// How a token begins.
pub(crate) const TOKEN_START: &str = "grantd_scim_";
/// The prefix of every route.
pub const PREFIX: &str = "/scim/v2/";
const CONTENT_TYPE: &str = "application/scim+json";

/// What a path names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Config,
    ResourceTypes(Option<String>),
    Schemas(Option<String>),
    Users,
    User(String),
    Groups,
    Group(String),
}

/// The identity provider a path names, the place there, and the pattern for the log.
fn find(path: &str) -> Option<(&str, Place, &'static str)> {
    let mut segments = path.strip_prefix(PREFIX)?.split('/');
    let (idp, kind, one) = (segments.next()?, segments.next()?, segments.next());
    if segments.next().is_some() {
        return None;
    }
    let one = match one {
        None => None,
        Some(raw) => Some(parse::segment(raw).filter(|one| !one.is_empty())?),
    };
    let (place, pattern) = match (kind, one) {
        ("ServiceProviderConfig", None) => (Place::Config, "/scim/v2/{}/ServiceProviderConfig"),
        ("ResourceTypes", one) => (Place::ResourceTypes(one), "/scim/v2/{}/ResourceTypes"),
        ("Schemas", one) => (Place::Schemas(one), "/scim/v2/{}/Schemas"),
        ("Users", None) => (Place::Users, "/scim/v2/{}/Users"),
        ("Users", Some(id)) => (Place::User(id), "/scim/v2/{}/Users/{}"),
        ("Groups", None) => (Place::Groups, "/scim/v2/{}/Groups"),
        ("Groups", Some(id)) => (Place::Group(id), "/scim/v2/{}/Groups/{}"),
        _ => return None,
    };
    Some((idp, place, pattern))
}

/// The pattern of a path, for the log and the metrics.
pub fn pattern(path: &str) -> &'static str {
    find(path).map_or("/scim/v2", |(_, _, pattern)| pattern)
}

/// A call of a directory.
struct Call {
    endpoint: Endpoint,
    /// Where its resources are, without a slash at the end.
    base: String,
    uri: http::Uri,
    body: Bytes,
    source: Source,
}

/// Answers a call. Refusals have the form of RFC 7644, 3.12.
pub async fn answer(vault: &Arc<Vault>, parts: &Parts, content: Body, source: Source) -> Answer {
    match dispatch(vault, parts, content, source).await {
        Ok(answer) => answer,
        Err(error) => refusal(&error),
    }
}

async fn dispatch(vault: &Arc<Vault>, parts: &Parts, content: Body, source: Source) -> Result<Answer, Error> {
    let endpoint = match authenticate(vault, parts).await {
        Ok(endpoint) => endpoint,
        Err(error) => return Err(failed(vault, &source, None, error).await),
    };
    let (idp, place, _) = find(parts.uri.path()).ok_or_else(missing)?;
    if IdentityProviderId::parse(idp) != Some(endpoint.idp_id) {
        return Err(missing());
    }
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::EncodingUnsupported.into());
    }
    let base = format!("{}{}", base_url(vault), endpoint.idp_id);
    let body = body(parts, content, limits::SCIM_BODY_BYTES_MAX).await?;
    let call = Call { endpoint, base, uri: parts.uri.clone(), body, source };
    match (parts.method.as_str(), place) {
        ("GET", Place::Config) => Ok(scim(200, &discovery::config(&call.base))),
        ("GET", Place::ResourceTypes(one)) => discovery::resource_types(&call, one.as_deref()),
        ("GET", Place::Schemas(one)) => discovery::schemas(&call, one.as_deref()),
        ("GET", Place::Users) => users::list(vault, &call).await,
        ("POST", Place::Users) => users::create(vault, &call).await,
        ("GET", Place::User(id)) => users::show(vault, &call, &id).await,
        ("PUT", Place::User(id)) => users::replace(vault, &call, &id).await,
        ("PATCH", Place::User(id)) => users::patch(vault, &call, &id).await,
        ("DELETE", Place::User(id)) => users::delete(vault, &call, &id).await,
        ("GET", Place::Groups) => groups::list(vault, &call).await,
        ("POST", Place::Groups) => groups::create(vault, &call).await,
        ("GET", Place::Group(id)) => groups::show(vault, &call, &id).await,
        ("PUT", Place::Group(id)) => groups::replace(vault, &call, &id).await,
        ("PATCH", Place::Group(id)) => groups::patch(vault, &call, &id).await,
        ("DELETE", Place::Group(id)) => groups::delete(vault, &call, &id).await,
        (_, place) => Err(Error::new(Code::MethodNotAllowed).detail("allow", allowed(&place))),
    }
}

const fn allowed(place: &Place) -> &'static str {
    match place {
        Place::Config | Place::ResourceTypes(_) | Place::Schemas(_) => "GET",
        Place::Users | Place::Groups => "GET, POST",
        Place::User(_) | Place::Group(_) => "GET, PUT, PATCH, DELETE",
    }
}

async fn authenticate(vault: &Vault, parts: &Parts) -> Result<Endpoint, Error> {
    let refused = || {
        Error::new(Code::SessionRequired).message(
            "The bearer token is missing, or is not the one of this directory. `grantd idp scim rotate` makes another.",
        )
    };
    let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(refused)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(refused)?;
    let token = Some(token).filter(|token| scheme.eq_ignore_ascii_case("Bearer") && token.starts_with(TOKEN_START));
    // The hash is looked up, so nothing of a token is compared.
    let hash = sha256(token.ok_or_else(refused)?.as_bytes());
    let found = vault.store.read(move |tx| rows::find_by_token(tx, &hash)).await.map_err(of_store)?;
    found.ok_or_else(refused)
}

/// Where directories call, up to the id of the identity provider.
pub(crate) fn base_url(vault: &Vault) -> String {
    format!("{}{PREFIX}", vault.settings.public_url.trim_end_matches('/'))
}

fn missing() -> Error {
    Error::new(Code::NotFound).message("There is no such resource here.")
}

/// An answer in SCIM's type.
fn scim(status: u16, document: &Value) -> Answer {
    raw(status, CONTENT_TYPE, Body::from(document.to_string()))
}

fn refusal(error: &Error) -> Answer {
    let status = error.code.status();
    let mut document = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": status.to_string(),
        "detail": error.message,
    });
    if let Some(kind) = error.details.get("scim_type") {
        document["scimType"] = kind.clone();
    }
    let mut answer = scim(status, &document);
    let headers = answer.headers_mut();
    if status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"scim\""));
    }
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = error.details.get("allow").and_then(|a| HeaderValue::from_str(a.as_str()?).ok()) {
        headers.insert(header::ALLOW, allow);
    }
    answer.extensions_mut().insert(error.code);
    answer
}

/// A refusal of the pure half.
fn of_refused(why: Refused) -> Error {
    of_store(refused(why))
}

/// What a list, and what a single answer, can be asked for.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    filter: Option<String>,
    start_index: Option<i64>,
    count: Option<i64>,
    attributes: Option<String>,
    excluded_attributes: Option<String>,
}

/// The part of a list that was asked for.
#[derive(Clone, Copy, Debug)]
struct Window {
    offset: i64,
    limit: i64,
}

impl Query {
    /// Out of bounds is the nearest bound: so says RFC 7644, 3.4.2.4.
    fn window(&self) -> Window {
        let limit = self.count.unwrap_or(limits::PAGE_DEFAULT).clamp(0, limits::SCIM_PAGE_MAX);
        Window { offset: self.start_index.unwrap_or(1).max(1).saturating_sub(1), limit }
    }

    fn project(&self, resource: Resource, document: &mut Map<String, Value>) {
        project(document, resource, self.attributes.as_deref(), self.excluded_attributes.as_deref());
    }
}

impl Call {
    fn query(&self) -> Result<Query, Error> {
        parse::query(&self.uri).map_err(|e| e.detail("scim_type", Wrong::InvalidValue.as_str()))
    }

    fn document(&self) -> Result<Map<String, Value>, Error> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(document)) => Ok(document),
            _ => Err(of_refused(Refused::new(Wrong::InvalidSyntax, "The body must be one JSON object."))),
        }
    }

    /// What is told by this call. `grants`: how many may end with it.
    fn telling(&self, vault: &Vault, grants: usize) -> Telling {
        let (owner, actor) = (Owner::App(self.endpoint.app_id), Actor::Scim(self.endpoint.idp_id));
        let event = Event::new(&*vault.env, self.source.now, owner, Kind::UserUpdated, Outcome::Allowed, actor)
            .core("request_id", self.source.request_id.to_string())
            .private("ip", Some(self.source.ip.to_string()))
            .private("user_agent", self.source.user_agent.clone());
        Telling::new(&*vault.env, self.endpoint.clone(), self.source.now, &event, grants)
    }
}

/// A page of resources.
fn page(resources: &[Value], total: i64, window: Window) -> Answer {
    scim(
        200,
        &json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
            "totalResults": total,
            "startIndex": window.offset + 1,
            "itemsPerPage": resources.len(),
            "Resources": resources,
        }),
    )
}

/// A new resource, and where it is.
fn created(document: &Map<String, Value>) -> Answer {
    let location = document.get("meta").and_then(|meta| meta["location"].as_str()).map(HeaderValue::from_str);
    let mut answer = scim(201, &Value::Object(document.clone()));
    if let Some(Ok(location)) = location {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    answer
}

/// The answer to a deletion.
fn gone() -> Answer {
    empty(204)
}

/// Too many resources for a filter that no index helps with.
fn scanned_too_many() -> Error {
    let detail = format!(
        "The filter would be held against more than {} resources. Ask with userName eq, externalId eq, displayName eq or id eq.",
        limits::SCIM_SCAN_MAX
    );
    of_refused(Refused::new(Wrong::TooMany, detail))
}
