//! Single sign-on: an operator goes to the issuer that the configuration names, and comes back signed in, or as still the same.
//!
//! Invariants: an answer counts once, in the browser that left for it, and for the trip it is of; an ID token is proved as every other
//! one is; whom it speaks for is decided again in the write that rests on it; nobody becomes an operator by it.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::new_token;
use grantd_domain::identity::{Algorithm, IdentityProvider, Preset, ProviderState};
use grantd_domain::provider::{Client, Link, Provider, new_verifier};
use grantd_domain::seal::Place;
use grantd_domain::secret::Secret;
use grantd_domain::sign_in::{self, facts};
use grantd_domain::sso::{Candidate, SCOPES, Said, Who, Why, proved_at, said, was_asked, who};
use grantd_store::operators::{self, Operator};
use grantd_store::sso::{self as rows, Binding, Purpose, Trip};
use grantd_store::web_sessions::{self, SignedInBy};
use grantd_store::{Tx, append_event};
use grantd_wire::ids::{AppId, IdentityProviderId, OperatorId, OrganizationId, WebSessionId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::account::{check_pace, check_signed_in, tell_changed};
use super::callback::Returned;
use super::connect::Carried;
use super::portal::{Beginning, Visitor, event};
use super::sign_in::{code_of, redeem};
use crate::answer::of_store;
use crate::caller::{Source, count_failure};
use crate::login::PORTAL_PATH;
use crate::outbound::discovery::sso_endpoints;
use crate::sentence::Sentence;
use crate::vault::{SsoSettings, Vault};

/// What an audit event calls it.
const METHOD: &str = SignedInBy::Sso.as_str();

/// What is remembered of the issuer.
#[derive(Default)]
pub struct Issuer(Mutex<Known>);

#[derive(Default)]
struct Known {
    found: Option<(Arc<IdentityProvider>, TimeMs)>,
    failed_at: Option<TimeMs>,
}

/// Why a trip came to nothing, or did not begin.
#[derive(Debug)]
pub enum Stop {
    /// What the person at it is told.
    Refused(Why),
    Failed(Error),
}

impl From<Why> for Stop {
    fn from(why: Why) -> Self {
        Self::Refused(why)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A trip that begins.
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// By what it is known when it comes back.
    pub browser: Secret,
}

/// What a trip came to.
pub enum Done {
    /// The new session's cookie, and where they wanted to go.
    SignedIn { cookie: Secret, to: Option<String> },
    /// Whoever is signed in is still there.
    Confirmed,
}

/// What the way back needs, as it is sealed.
#[derive(Deserialize, Serialize)]
struct Luggage {
    #[serde(flatten)]
    carried: Carried,
    to: Option<String>,
}

/// Where it is sealed, under a key of the install. Nobody looks whether trips open, as `sealed` does with what is kept: a trip is over in
/// minutes, and one that does not open is begun anew. Another root key changes nothing of what was sealed (`rewrap`).
fn place<'a>(state_hash: &[u8; 32]) -> Place<'a> {
    let row = std::array::from_fn(|i| state_hash[i]);
    Place { table: "sso_trips", app: None, row, field: "sealed", version: 0 }
}

/// Where the issuer sends browsers back to.
pub fn redirect_uri(public_url: &str) -> String {
    format!("{}{PORTAL_PATH}/sign-in/sso", public_url.trim_end_matches('/'))
}

fn settings(vault: &Vault) -> Result<&SsoSettings, Error> {
    vault.settings.sso.as_ref().ok_or_else(|| Code::NotFound.into())
}

/// The issuer as its discovery document has it: the one that was read an hour ago at most, or the last one that could be had, for as long
/// as keys of identity providers prove something.
async fn issuer(vault: &Vault, settings: &SsoSettings) -> Result<Arc<IdentityProvider>, Why> {
    // One at a time: who waits finds what another brought, or that it brought nothing.
    let mut known = vault.sso.0.lock().await;
    let now = vault.env.now();
    let is_within = |at: TimeMs, ms: i64| (0..ms).contains(&now.since(at));
    let is_fresh = known.found.as_ref().is_some_and(|(_, at)| is_within(*at, limits::SSO_DISCOVERY_FRESH_MS));
    let just_failed = known.failed_at.is_some_and(|at| is_within(at, limits::SSO_DISCOVERY_PAUSE_MS));
    if !is_fresh && !just_failed {
        match sso_endpoints(&vault.outbound, &vault.settings.outbound, &settings.issuer).await {
            Ok(endpoints) => {
                let preset = Preset::find("oidc").ok_or(Why::Issuer(sign_in::Why::Internal))?;
                let found = IdentityProvider {
                    // Of no app: what is kept of apps' providers knows nothing of it.
                    id: IdentityProviderId::from_uuid(Uuid::nil()),
                    app_id: AppId::from_uuid(Uuid::nil()),
                    name: settings.name.clone(),
                    preset,
                    issuer: settings.issuer.clone(),
                    audiences: vec![settings.client_id.clone()],
                    algorithms: Algorithm::ALL.to_vec(),
                    claims: preset.claims(),
                    endpoints,
                    client_id: Some(settings.client_id.clone()),
                    client_secret: None,
                    scopes: SCOPES.iter().map(|scope| (*scope).to_owned()).collect(),
                    state: ProviderState::Active,
                    created_at: now,
                    updated_at: now,
                    is_deleted: false,
                    version: 1,
                };
                *known = Known { found: Some((Arc::new(found), now)), failed_at: None };
            }
            Err(error) => {
                tracing::warn!(why = %error.message, "What the issuer of single sign-on says of itself was not read");
                known.failed_at = Some(now);
            }
        }
    }
    let usable = known.found.as_ref().filter(|(_, at)| is_within(*at, limits::SSO_DISCOVERY_STALE_MS));
    usable.map(|(found, _)| Arc::clone(found)).ok_or(Why::Issuer(sign_in::Why::Unreachable))
}

/// How it is called, by who this server is there.
fn client(settings: &SsoSettings, issuer: &IdentityProvider) -> Option<(Provider, Client)> {
    let (secret, kind) = match &settings.client_secret {
        Some(secret) => (secret.reveal(), sign_in::Client::WithSecret),
        None => ("", sign_in::Client::Public),
    };
    let client = Client { id: settings.client_id.clone(), secret: Secret::new(secret.to_owned()) };
    Some((facts(issuer, kind)?, client))
}

/// Begins a trip. `to`: where they want to go when they are signed in; `browser`: by what this one is known already.
pub async fn start(
    vault: &Vault,
    purpose: Purpose,
    to: Option<&str>,
    browser: Option<&str>,
    source: &Source,
) -> Result<Begun, Stop> {
    let settings = settings(vault)?;
    check_pace(vault, source)?;
    let found = issuer(vault, settings).await.and_then(|issuer| {
        let (facts, _) = client(settings, &issuer).ok_or(Why::Issuer(sign_in::Why::Unreachable))?;
        Ok((issuer, facts))
    });
    let (issuer, mut facts) = match found {
        Ok(found) => found,
        Err(why) => return refused(vault, why, None, source).await,
    };
    if matches!(purpose, Purpose::Confirm(..)) {
        // OpenID Connect Core 3.1.2.1: it asks who they are, whoever is signed in there, and says when that was.
        for (name, value) in [("prompt", "login"), ("max_age", "0")] {
            facts.authorize.params.insert(name.to_owned(), value.to_owned());
        }
    }
    let env = &*vault.env;
    let (state, nonce, verifier) = (new_token(env, ""), new_token(env, ""), new_verifier(env));
    let browser = browser.map_or_else(|| new_token(env, ""), |known| Secret::new(known.to_owned()));
    let state_hash = sha256(state.reveal().as_bytes());
    let luggage = Luggage { carried: Carried::new(&verifier, &nonce), to: to.map(str::to_owned) };
    let text = Zeroizing::new(serde_json::to_vec(&luggage).map_err(|_| Error::new(Code::Internal))?);
    let key = vault.keys.take_seal(env, None).await?;
    let trip = Trip {
        state_hash,
        browser_hash: sha256(browser.reveal().as_bytes()),
        purpose,
        sealed: key.seal(env, place(&state_hash), &text),
        begun_at: source.now,
    };
    let insert = move |tx: &mut Tx<'_>| rows::insert_trip(tx, &trip, limits::SSO_TRIPS_MAX);
    vault.store.write(insert).await.map_err(of_store)?;
    let url = facts.authorize_link(&Link {
        client_id: &settings.client_id,
        redirect_uri: &redirect_uri(&vault.settings.public_url),
        scopes: &issuer.scopes,
        state: state.reveal(),
        verifier: &verifier,
        nonce: nonce.reveal(),
        switches_account: false,
    });
    Ok(Begun { url, browser })
}

/// Takes the issuer's answer.
pub async fn take(
    vault: &Arc<Vault>,
    returned: &Returned,
    browser: Option<&str>,
    source: &Source,
) -> Result<Done, Stop> {
    let settings = settings(vault)?;
    let trip = match find_trip(vault, returned, browser, source.now).await? {
        Ok(trip) => trip,
        Err(why) => return refused(vault, why, None, source).await,
    };
    let state_hash = trip.state_hash;
    if !vault.store.write(move |tx| rows::take_trip(tx, state_hash)).await.map_err(of_store)? {
        return refused(vault, Why::Stale, None, source).await;
    }
    let text = vault.keys.open_of_install(place(&state_hash), &trip.sealed).await?;
    let luggage: Luggage = serde_json::from_slice(&text).map_err(|_| Error::new(Code::Internal))?;
    let deadline = Duration::from_millis(limits::CONNECT_EXCHANGE_MS);
    let obtain = Box::pin(obtain(vault, settings, returned, &luggage.carried));
    let told = tokio::time::timeout(deadline, obtain).await.unwrap_or(Err(sign_in::Why::Unreachable));
    let told = match told {
        Ok(told) => told,
        Err(why) => return refused(vault, Why::Issuer(why), None, source).await,
    };
    let done = match trip.purpose {
        Purpose::SignIn(old) => {
            let signed_in = sign_in(vault, settings, &told, old, source).await;
            signed_in.map(|cookie| Done::SignedIn { cookie, to: luggage.to })
        }
        Purpose::Confirm(operator, session) => {
            let who = (operator, session);
            confirm(vault, settings, &told, who, trip.begun_at, source).await.map(|()| Done::Confirmed)
        }
    };
    match done {
        Err(Stop::Refused(why)) => refused(vault, why, told.email.as_deref(), source).await,
        done => done,
    }
}

/// The trip that the answer is of, if this browser left for it and its time is not over.
async fn find_trip(
    vault: &Vault,
    returned: &Returned,
    browser: Option<&str>,
    now: TimeMs,
) -> Result<Result<Trip, Why>, Error> {
    let Some(state) = returned.text("state") else { return Ok(Err(Why::Stale)) };
    let state_hash = sha256(state.as_bytes());
    let found = vault.store.read(move |tx| rows::find_trip(tx, state_hash)).await.map_err(of_store)?;
    let is_good = |trip: &Trip| now.since(trip.begun_at) < limits::SSO_TRIP_S * 1000;
    let Some(trip) = found.filter(is_good) else { return Ok(Err(Why::Stale)) };
    let is_same = browser.is_some_and(|browser| sha256(browser.as_bytes()) == trip.browser_hash);
    Ok(if is_same { Ok(trip) } else { Err(Why::Elsewhere) })
}

async fn obtain(
    vault: &Arc<Vault>,
    settings: &SsoSettings,
    returned: &Returned,
    carried: &Carried,
) -> Result<Said, sign_in::Why> {
    use sign_in::Why;
    let issuer = issuer(vault, settings).await.map_err(|_| Why::Unreachable)?;
    let code = code_of(&issuer, returned)?;
    let (facts, client) = client(settings, &issuer).ok_or(Why::Unreachable)?;
    let redirect_uri = redirect_uri(&vault.settings.public_url);
    let call = facts.code_call(&client, &code, &redirect_uri, &carried.verifier());
    let obtained = redeem(vault, &issuer, &facts, &call, &carried.nonce).await?;
    said(&obtained.proved.claims, &settings.client_id).map_err(|check| Why::Token(check.as_str().to_owned()))
}

/// Counts what was refused, and leaves an event of it: one per source, minute and reason, so that a stranger cannot fill the trail.
async fn refused<T>(vault: &Vault, why: Why, email: Option<&str>, source: &Source) -> Result<T, Stop> {
    let owner = Owner::Organization(vault.organization_id);
    let event = || {
        let kind = Kind::OperatorSignInRefused;
        let event = Event::new(&*vault.env, source.now, owner, kind, Outcome::Denied, Actor::Nobody)
            .core("sign_in", METHOD)
            .core("why", why.code())
            .core_id("request_id", source.request_id)
            .private_text("account", email)
            .private_text("ip", Some(&source.ip.to_string()))
            .private_text("user_agent", source.user_agent.as_deref());
        why.provider_code().into_iter().fold(event, |event, code| event.core("provider_code", code))
    };
    count_failure(vault, source, owner, why.code(), event).await?;
    Err(why.into())
}

/// Whom the token speaks for, as the database has it now.
fn decide(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    settings: &SsoSettings,
    told: &Said,
) -> grantd_store::Result<Result<(Operator, Who), Why>> {
    let bound = rows::find_bound(tx, organization, &settings.issuer, &told.subject)?;
    let named = match &told.email {
        Some(email) => operators::find_by_email(tx, organization, email)?,
        None => None,
    };
    let is_bound = match &named {
        Some(named) => rows::find_binding(tx, named.id)?.is_some_and(|binding| binding.issuer == settings.issuer),
        None => false,
    };
    let decided = who(
        told,
        bound.as_ref().map(|operator| of(operator, true)),
        named.as_ref().map(|operator| of(operator, is_bound)),
        &settings.domains,
    );
    let operator = if matches!(decided, Ok(Who::Known(_))) { bound } else { named };
    Ok(decided.and_then(|who| Ok((operator.ok_or(Why::Unknown)?, who))))
}

fn of(operator: &Operator, is_bound: bool) -> Candidate<'_> {
    Candidate { id: operator.id, email: &operator.email, is_disabled: operator.disabled_at.is_some(), is_bound }
}

/// What was decided, to be written if it still is so.
struct Decided {
    organization: OrganizationId,
    settings: SsoSettings,
    told: Said,
    operator: Operator,
    who: Who,
    now: TimeMs,
}

impl Decided {
    async fn of(vault: &Vault, settings: &SsoSettings, told: &Said, now: TimeMs) -> Result<Self, Stop> {
        let organization = vault.organization_id;
        let (of_read, said) = (settings.clone(), told.clone());
        let find = move |tx: &mut Tx<'_>| decide(tx, organization, &of_read, &said);
        let (operator, who) = vault.store.read(find).await.map_err(of_store)??;
        Ok(Self { organization, settings: settings.clone(), told: told.clone(), operator, who, now })
    }

    /// Refuses what is decided otherwise by now, and binds who is seen first.
    fn write(&self, tx: &mut Tx<'_>, session: WebSessionId, added: &Event) -> grantd_store::Result<Result<(), Why>> {
        match decide(tx, self.organization, &self.settings, &self.told)? {
            Ok((_, who)) if who == self.who => {}
            Ok(_) => {
                return Err(Sentence::ChangedMeanwhile.of(Code::Conflict).into());
            }
            Err(why) => return Ok(Err(why)),
        }
        if let Who::New(operator) = self.who {
            let (issuer, subject) = (self.settings.issuer.clone(), self.told.subject.clone());
            rows::bind(tx, operator, &Binding { issuer, subject, bound_at: self.now })?;
            tell_changed(tx, operator, session, added)?;
        }
        Ok(Ok(()))
    }

    /// The event of who is seen first.
    fn added(&self, vault: &Vault, session: WebSessionId, source: &Source) -> Event {
        event(vault, &self.operator, Kind::SignInMethodAdded, session, source)
            .core("method", METHOD)
            .private_text("subject", Some(&self.told.subject))
    }
}

/// Begins a session for whom the token speaks; its cookie.
async fn sign_in(
    vault: &Vault,
    settings: &SsoSettings,
    told: &Said,
    old: Option<(OperatorId, WebSessionId)>,
    source: &Source,
) -> Result<Secret, Stop> {
    let decided = Decided::of(vault, settings, told, source.now).await?;
    let (cookie, beginning) = Beginning::new(vault, &decided.operator, SignedInBy::Sso, None, source);
    let beginning = beginning.with(proved_at(told, source.now), old);
    let session = beginning.session_id();
    let added = decided.added(vault, session, source);
    let write = move |tx: &mut Tx<'_>| {
        let written = decided.write(tx, session, &added)?;
        if written.is_ok() {
            beginning.write(tx)?;
        }
        Ok(written)
    };
    vault.store.write(write).await.map_err(of_store)??;
    Ok(cookie)
}

/// Notes that whoever is signed in has proved again who they are.
async fn confirm(
    vault: &Vault,
    settings: &SsoSettings,
    told: &Said,
    (operator, session): (OperatorId, WebSessionId),
    begun_at: TimeMs,
    source: &Source,
) -> Result<(), Stop> {
    let decided = Decided::of(vault, settings, told, source.now).await?;
    if decided.who.id() != operator {
        return Err(Why::OtherPerson.into());
    }
    if !was_asked(told, begun_at) {
        return Err(Why::NotAsked.into());
    }
    let at = proved_at(told, source.now);
    let added = decided.added(vault, session, source);
    let confirmed = event(vault, &decided.operator, Kind::OperatorConfirmed, session, source);
    let confirmed = confirmed.core("sign_in", METHOD).prepare();
    let write = move |tx: &mut Tx<'_>| {
        if !web_sessions::is_there(tx, operator, session)? {
            return Ok(Err(Why::SignedOut));
        }
        let written = decided.write(tx, session, &added)?;
        if written.is_ok() {
            web_sessions::confirm(tx, operator, session, at)?;
            append_event(tx, &confirmed)?;
        }
        Ok(written)
    };
    Ok(vault.store.write(write).await.map_err(of_store)??)
}

/// Whom the visitor is bound to, at the issuer that the configuration names; `None`: to nobody there.
pub async fn binding(vault: &Vault, visitor: &Visitor) -> Result<Option<Binding>, Error> {
    let Some(settings) = &vault.settings.sso else { return Ok(None) };
    let operator = visitor.operator.id;
    let found = vault.store.read(move |tx| rows::find_binding(tx, operator)).await.map_err(of_store)?;
    Ok(found.filter(|binding| binding.issuer == settings.issuer))
}

/// Takes the visitor's binding away: the next one who comes from the issuer with their address is bound. `false`: there was none.
pub async fn unbind(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<bool, Error> {
    settings(vault)?;
    visitor.check_confirmed(source.now)?;
    let (operator, session) = (visitor.operator.id, visitor.session.id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodRemoved, session, source).core("method", METHOD);
    let unbind = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, operator, session)?;
        let was_there = rows::unbind(tx, operator)?;
        if was_there {
            tell_changed(tx, operator, session, &event)?;
        }
        Ok(was_there)
    };
    vault.store.write(unbind).await.map_err(of_store)
}
