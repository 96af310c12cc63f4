//! `/api/v1`: the management API. A personal access token says who; the route table says which role. Pages of the portal make the
//! same calls, of whoever is signed in.

pub(crate) mod apps;
mod audit;
mod catalog;
mod connect;
mod erasure;
mod grants;
pub(crate) mod idempotency;
mod identity;
mod identity_keys;
mod keys;
mod operators;
mod organization;
mod overview;
mod probe;
mod providers;
mod retention;
mod scim;
mod secrets;
mod templates;
pub(crate) mod tokens;
mod users;
pub(crate) mod version;
mod webhooks;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::grant::{App, AppState};
use grantd_domain::identity::UserStatus;
use grantd_store::operators::{self as operator_rows, Operator, Pat, Role};
use grantd_wire::api::Whoami;
use grantd_wire::ids::{AppId, WebSessionId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, limits};
use http::header;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::answer::{Answer, json, of_store};
use crate::caller::{Source, body, failed};
use crate::flow::Drafts;
use crate::openapi;
use crate::parse;
use crate::routes::{self, Api, ApiRoute};
use crate::vault::Vault;
use idempotency::Attempt;
use version::IfMatch;

/// How it is known who calls.
pub enum Who {
    /// By a personal access token.
    Token(Pat),
    /// They are signed in to the portal.
    Session(WebSessionId),
}

impl Who {
    /// The apps that the call may be about; `None`: every one of the organization.
    fn app_ids(&self) -> Option<&Vec<AppId>> {
        match self {
            Self::Token(pat) => pat.app_ids.as_ref(),
            Self::Session(_) => None,
        }
    }

    /// The bytes of its id.
    fn id(&self) -> &[u8; 16] {
        match self {
            Self::Token(pat) => pat.id.as_bytes(),
            Self::Session(id) => id.as_bytes(),
        }
    }
}

/// An authenticated call of the management API.
pub struct Request {
    route: Api,
    pub operator: Operator,
    pub who: Who,
    /// What this call may do: the lower of the operator's role and the token's.
    pub role: Role,
    pub uri: http::Uri,
    pub params: Vec<String>,
    pub if_match: IfMatch,
    pub body: Bytes,
    /// The call it is, if it may be sent again.
    attempt: Option<Attempt>,
    pub source: Source,
}

/// Answers a call to a route of the table.
pub async fn answer(
    vault: &Arc<Vault>,
    route: &ApiRoute,
    params: Vec<String>,
    parts: &Parts,
    content: Body,
    source: Source,
) -> Result<Answer, Error> {
    let (pat, operator, role) = match authenticate(vault, parts, &source).await {
        Ok(found) => found,
        Err(e) => return Err(failed(vault, &source, None, e).await),
    };
    check_role(role, route.role)?;
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::EncodingUnsupported.into());
    }
    let if_match = IfMatch::parse(&parts.headers, route.route)?;
    let body = body(parts, content, limits::API_BODY_BYTES_MAX).await?;
    let who = Who::Token(pat);
    let attempt = if route.method == "POST" { Attempt::parse(&vault.pepper, parts, &who, role, &body)? } else { None };
    let uri = parts.uri.clone();
    let request = Request { route: route.route, operator, who, role, uri, params, if_match, body, attempt, source };
    run(vault, route, request).await
}

/// What a page of the portal asks for.
pub struct PageCall<'a> {
    pub route: Api,
    /// Segments of the path, as they came: still encoded.
    pub params: Vec<String>,
    pub query: String,
    pub body: Bytes,
    /// Names the form, so that it does what it does once however often it is sent.
    pub once: Option<&'a str>,
}

/// A call that a page makes for whoever is signed in: the same table, the same handler, the same events as for a token.
pub async fn call_of_page(
    vault: &Arc<Vault>,
    (session, operator): (WebSessionId, &Operator),
    call: PageCall<'_>,
    source: Source,
) -> Result<Answer, Error> {
    let route = routes::API.iter().find(|row| row.route == call.route).ok_or(Code::Internal)?;
    check_role(operator.role, route.role)?;
    let path = call.params.iter().fold(route.path.to_owned(), |path, param| path.replacen("{}", param, 1));
    let target = if call.query.is_empty() { path } else { format!("{path}?{}", call.query) };
    let uri: http::Uri = target.parse().map_err(|_| Error::new(Code::NotFound))?;
    let who = Who::Session(session);
    let attempt = call.once.map(|once| {
        Attempt::new(&vault.pepper, once.as_bytes(), &who, operator.role, (route.method, &target), &call.body)
    });
    let request = Request {
        route: call.route,
        operator: operator.clone(),
        who,
        role: operator.role,
        uri,
        params: call.params,
        if_match: IfMatch::Absent,
        body: call.body,
        attempt,
        source,
    };
    Box::pin(run(vault, route, request)).await
}

/// Refuses a role that is too small.
pub fn check_role(role: Role, needed: Role) -> Result<(), Error> {
    if role >= needed {
        return Ok(());
    }
    let message = format!("This needs the role {}; yours is {}. Ask an admin.", needed.as_str(), role.as_str());
    Err(Error::new(Code::RoleRequired).message(message))
}

async fn run(vault: &Arc<Vault>, route: &ApiRoute, request: Request) -> Result<Answer, Error> {
    // An answer that was given stays the answer, whatever has changed since: before anything is looked at.
    if let Some(before) = request.replayed(vault).await? {
        return Ok(before);
    }
    let changes = route.method != "GET";
    match route.route {
        Api::Whoami => Ok(json(200, &request.whoami()?)),
        Api::OrganizationShow => organization::show(vault, &request).await,
        Api::OrganizationUpdate => organization::update(vault, &request).await,
        Api::OperatorsList => operators::list(vault, &request).await,
        Api::OperatorsCreate => operators::create(vault, &request).await,
        Api::OperatorsShow => operators::show(vault, &request).await,
        Api::OperatorsUpdate => operators::update(vault, &request).await,
        Api::OperatorsLoginLink => operators::login_link(vault, &request).await,
        Api::TokensList => tokens::list(vault, &request).await,
        Api::TokensCreate => tokens::create(vault, &request).await,
        Api::TokensShow => tokens::show(vault, &request).await,
        Api::TokensRevoke => tokens::revoke(vault, &request).await,
        Api::IdentityKeysList => identity_keys::list(vault, &request).await,
        Api::IdentityKeysRotate => identity_keys::rotate(vault, &request).await,
        Api::AppsList => apps::list(vault, &request).await,
        Api::AppsCreate => apps::create(vault, &request).await,
        Api::CatalogList => catalog::list(&request),
        Api::CatalogShow => catalog::show(&request),
        Api::TemplatesList => templates::list(&request),
        Api::TemplatesShow => templates::show(&request),
        Api::Overview => {
            let owner = request.organization_wide("see what happens in others")?;
            overview::show(vault, &request, owner).await
        }
        Api::OrganizationEventsList => audit::list(vault, &request, request.organization()?).await,
        Api::OrganizationEventsShow => audit::show(vault, request.organization()?, &request.params[0]).await,
        Api::OrganizationEventsExport => audit::export(vault, &request, request.organization()?).await,
        Api::OrganizationCheckpointsList => audit::checkpoints(vault, &request, request.organization()?).await,
        Api::OrganizationEventsErase => {
            let owner = request.organization_wide("erase what happened outside of them")?;
            erasure::erase(vault, &request, owner).await
        }
        route => {
            let app = request.app(vault).await?;
            if app.state == AppState::Deleted && changes && !outlives_the_app(route) {
                let message = "The app is deleted: what it had and did can be read, and nothing else.";
                return Err(Error::new(Code::Conflict).message(message));
            }
            let answer = in_app(vault, route, &request, &app).await;
            grantd_store::crash::step("change.durable");
            answer
        }
    }
}

/// Refuses whoever may not see what the whole process does.
pub async fn may_see_metrics(vault: &Vault, parts: &Parts, source: &Source) -> Result<(), Error> {
    let (pat, ..) = match authenticate(vault, parts, source).await {
        Ok(found) => found,
        Err(e) => return Err(failed(vault, source, None, e).await),
    };
    every_app(&Who::Token(pat), "see metrics")
}

/// A token for some apps cannot do `what`.
fn every_app(who: &Who, what: &str) -> Result<(), Error> {
    match who.app_ids() {
        None => Ok(()),
        Some(_) => Err(Error::new(Code::RoleRequired)
            .message(format!("This token is for some apps only, and cannot {what}. Use one for all of them."))),
    }
}

/// Whether it is for a deleted app, too: its trail is still there.
fn outlives_the_app(route: Api) -> bool {
    matches!(
        route,
        Api::AppsDelete | Api::RetentionSet | Api::RetentionReset | Api::HoldSet | Api::HoldRelease | Api::EventsErase
    )
}

async fn in_app(vault: &Arc<Vault>, route: Api, request: &Request, app: &App) -> Result<Answer, Error> {
    match route {
        Api::AppsShow => Ok(version::shown(200, &apps::view(app))),
        Api::AppsUpdate => apps::update(vault, request, app).await,
        Api::AppsArchive => apps::set_state(vault, request, app, AppState::Archived).await,
        Api::AppsUnarchive => apps::set_state(vault, request, app, AppState::Active).await,
        Api::AppsDelete => apps::set_state(vault, request, app, AppState::Deleted).await,
        Api::AppOverview => overview::show(vault, request, Owner::App(app.id)).await,
        Api::BrandingShow => organization::show_branding(vault, app).await,
        Api::BrandingSet => organization::set_branding(vault, request, app).await,
        Api::BrandingReset => organization::reset_branding(vault, request, app).await,
        Api::RetentionShow => retention::show(vault, app).await,
        Api::RetentionSet => retention::set(vault, request, app).await,
        Api::RetentionReset => retention::reset(vault, request, app).await,
        Api::HoldShow => retention::show_hold(vault, app).await,
        Api::HoldSet => retention::hold(vault, request, app).await,
        Api::HoldRelease => retention::release(vault, request, app).await,
        Api::KeysList => keys::list(vault, request, app).await,
        Api::KeysMint => keys::mint(vault, request, app).await,
        Api::KeysShow => keys::show(vault, request, app).await,
        Api::KeysRename => keys::rename(vault, request, app).await,
        Api::KeysRotate => keys::rotate(vault, request, app).await,
        Api::KeysRevoke => keys::revoke(vault, request, app).await,
        Api::ProvidersList => providers::list(vault, request, app).await,
        Api::ProvidersCreate => providers::create(vault, request, app).await,
        Api::ProvidersShow => providers::show(vault, request, app).await,
        Api::ProvidersUpdate => providers::update(vault, request, app).await,
        Api::ProvidersDelete => providers::delete(vault, request, app).await,
        Api::ScimShow => scim::show(vault, request, app).await,
        Api::ScimEnable => scim::enable(vault, request, app).await,
        Api::ScimRotate => scim::rotate(vault, request, app).await,
        Api::ScimDisable => scim::disable(vault, request, app).await,
        Api::WebhookShow => webhooks::show(vault, request, app).await,
        Api::WebhookEnable => webhooks::enable(vault, request, app).await,
        Api::WebhookRotate => webhooks::rotate(vault, request, app).await,
        Api::WebhookDisable => webhooks::disable(vault, request, app).await,
        Api::IdpsList => identity::list(vault, request, app).await,
        Api::IdpsCreate => identity::create(vault, request, app).await,
        Api::IdpsDiscover => identity::look(vault, request, app).await,
        Api::IdpsShow => identity::show(vault, request, app).await,
        Api::IdpsUpdate => identity::update(vault, request, app).await,
        Api::IdpsDelete => identity::delete(vault, request, app).await,
        Api::UsersList => users::list(vault, request, app).await,
        Api::UsersShow => users::show(vault, request, app).await,
        Api::UsersSuspend => users::set(vault, request, app, UserStatus::Suspended).await,
        Api::UsersResume => users::set(vault, request, app, UserStatus::Active).await,
        Api::UsersDeprovision => users::deprovision(vault, request, app).await,
        Api::GroupsList => users::list_groups(vault, request, app).await,
        Api::GroupsShow => users::show_group(vault, request, app).await,
        Api::SecretsList => secrets::list(vault, request, app).await,
        Api::SecretsCreate => secrets::create(vault, request, app).await,
        Api::SecretsShow => secrets::show(vault, request, app).await,
        Api::SecretsRotate => secrets::rotate(vault, request, app).await,
        Api::SecretsTest => probe::test(vault, request, app).await,
        Api::SecretsSetHosts => secrets::set_hosts(vault, request, app).await,
        Api::SecretsAccess => secrets::access(vault, request, app).await,
        Api::SecretsDelete => secrets::delete(vault, request, app).await,
        Api::SecretGrantsList => grants::list_of_secret(vault, request, app).await,
        Api::SecretGrantsCreate => grants::create(vault, request, app).await,
        Api::GrantsList => grants::list(vault, request, app).await,
        Api::GrantsShow => grants::show(vault, request, app).await,
        Api::GrantsUpdate => grants::update(vault, request, app).await,
        Api::GrantsRevoke => grants::revoke(vault, request, app).await,
        Api::GrantsRevokeMany => grants::revoke_many(vault, request, app).await,
        Api::ConnectSessionsCreate => connect::create(vault, request, app).await,
        Api::ConnectSessionsShow => connect::show(vault, request, app).await,
        Api::EventsList => audit::list(vault, request, Owner::App(app.id)).await,
        Api::EventsShow => audit::show(vault, Owner::App(app.id), &request.params[1]).await,
        Api::EventsExport => audit::export(vault, request, Owner::App(app.id)).await,
        Api::CheckpointsList => audit::checkpoints(vault, request, Owner::App(app.id)).await,
        Api::EventsErase => erasure::erase(vault, request, Owner::App(app.id)).await,
        Api::Whoami
        | Api::OrganizationShow
        | Api::OrganizationUpdate
        | Api::OperatorsList
        | Api::OperatorsCreate
        | Api::OperatorsShow
        | Api::OperatorsUpdate
        | Api::OperatorsLoginLink
        | Api::TokensList
        | Api::TokensCreate
        | Api::TokensShow
        | Api::TokensRevoke
        | Api::IdentityKeysList
        | Api::IdentityKeysRotate
        | Api::AppsList
        | Api::AppsCreate
        | Api::CatalogList
        | Api::CatalogShow
        | Api::TemplatesList
        | Api::TemplatesShow
        | Api::Overview
        | Api::OrganizationEventsList
        | Api::OrganizationEventsShow
        | Api::OrganizationEventsExport
        | Api::OrganizationEventsErase
        | Api::OrganizationCheckpointsList => Err(Code::Internal.into()),
    }
}

async fn authenticate(vault: &Vault, parts: &Parts, source: &Source) -> Result<(Pat, Operator, Role), Error> {
    let refused = || Error::new(Code::SessionRequired);
    let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(refused)?;
    let token = value.strip_prefix("Bearer ").filter(|t| t.starts_with("grantd_pat_")).ok_or_else(refused)?;
    let hash = sha256(token.as_bytes());
    let found = vault.store.read(move |tx| operator_rows::find_pat(tx, &hash)).await.map_err(of_store)?;
    let (pat, operator) = found.ok_or_else(refused)?;
    if pat.revoked_at.is_some() || operator.disabled_at.is_some() {
        return Err(refused().message("The personal access token was revoked, or its operator disabled. Use another."));
    }
    if pat.expires_at.is_some_and(|t| t <= source.now) {
        return Err(refused().message("The personal access token has expired. Use another."));
    }
    let role = pat.role.min(operator.role);
    Ok((pat, operator, role))
}

impl Request {
    fn organization(&self) -> Result<Owner, Error> {
        self.organization_wide("see what happened outside of them")
    }

    /// The organization's own trail, for what a token for some apps cannot do.
    fn organization_wide(&self, what: &str) -> Result<Owner, Error> {
        self.every_app(what)?;
        Ok(Owner::Organization(self.operator.organization_id))
    }

    fn every_app(&self, what: &str) -> Result<(), Error> {
        every_app(&self.who, what)
    }

    fn whoami(&self) -> Result<Whoami, Error> {
        // The answer is about a token.
        let Who::Token(pat) = &self.who else { return Err(Code::SessionRequired.into()) };
        Ok(Whoami {
            operator_id: self.operator.id.to_string(),
            organization_id: self.operator.organization_id.to_string(),
            email: self.operator.email.clone(),
            role: self.role.as_str().to_owned(),
            pat_id: pat.id.to_string(),
            expires_at: pat.expires_at,
        })
    }

    /// The app the path names, if this token may see it.
    async fn app(&self, vault: &Vault) -> Result<App, Error> {
        let missing = || {
            Error::new(Code::NotFound)
                .message("There is no such app.")
                .hint("Apps go by their id, which `grantd apps list` shows.")
        };
        let id = AppId::parse(&self.params[0]).ok_or_else(missing)?;
        if self.who.app_ids().is_some_and(|ids| !ids.contains(&id)) {
            return Err(missing());
        }
        let organization = self.operator.organization_id;
        let found = vault.store.read(move |tx| grantd_store::apps::find(tx, organization, id)).await;
        found.map_err(of_store)?.ok_or_else(missing)
    }

    /// Only an admin may set `what`.
    fn admin_only(&self, what: &str) -> Result<(), Error> {
        match self.role {
            Role::Admin => Ok(()),
            _ => Err(Error::new(Code::RoleRequired).message(format!("Only an admin may {what}. Ask one."))),
        }
    }

    /// An event of this call.
    fn event(&self, vault: &Vault, owner: Owner, kind: Kind) -> Event {
        let actor = Actor::Operator(self.operator.id);
        Event::new(&*vault.env, self.source.now, owner, kind, Outcome::Allowed, actor)
            .core("request_id", self.source.request_id.to_string())
            .private("ip", Some(self.source.ip.to_string()))
            .private("user_agent", self.source.user_agent.clone())
    }

    /// Events of this call in an app's chain.
    fn drafts(&self, vault: &Vault, app: &App, kinds: &[Kind]) -> Drafts {
        Drafts::new(&*vault.env, &self.event(vault, Owner::App(app.id), kinds[0]), kinds)
    }

    /// The query. What its type knows and this route does not is refused as what nobody knows: a filter that is not looked at would
    /// widen the answer.
    fn query<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let query = parse::query(&self.uri)?;
        let given: Vec<(String, String)> = parse::query(&self.uri)?;
        match given.iter().find(|(name, _)| !openapi::takes(self.route, name)) {
            Some((name, _)) => Err(Error::invalid(name, "there is no such field here")),
            None => Ok(query),
        }
    }

    /// The path segment that names an object of the app, decoded; what is not UTF-8 names nothing.
    fn object(&self) -> String {
        parse::segment(&self.params[1]).unwrap_or_default()
    }
}

/// Nothing new is made in an app that is archived.
fn active(app: &App) -> Result<(), Error> {
    match app.state {
        AppState::Active => Ok(()),
        AppState::Archived | AppState::Deleted => Err(Error::new(Code::Conflict)
            .message("The app is not active. `grantd apps unarchive` takes an archived one back.")),
    }
}

/// A page of items.
fn page<T: serde::Serialize>(items: Vec<T>, total: i64, limit: i64, offset: i64) -> Answer {
    let has_more = offset + i64::try_from(items.len()).unwrap_or(i64::MAX) < total;
    json(200, &grantd_wire::api::Page { items, total, limit, offset, has_more })
}
