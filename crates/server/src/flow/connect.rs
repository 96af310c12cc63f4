//! Connecting an account: from the link the user opened to a grant.
//!
//! A session belongs to the browser that opened it first. A provider answers to a `state` that is good once. What it answers is exchanged
//! between two writes: the first takes the step, the second keeps what came of it, or nothing does.

use std::sync::Arc;

use grantd_domain::account::origin_of;
use grantd_domain::audit::{Actor, Event, Kind, Outcome as EventOutcome, Owner};
use grantd_domain::connect::{Asked, Outcome, Why};
use grantd_domain::env::new_token;
use grantd_domain::grant::App;
use grantd_domain::provider::{Link, new_verifier};
use grantd_domain::seal::Place;
use grantd_domain::secret::Secret;
use grantd_store::connect::{self as rows, SessionState, StepState};
use grantd_store::{Tx, append_event, apps, providers};
use grantd_wire::api::ConnectSignIn;
use grantd_wire::ids::{AppId, ConnectSessionId};
use grantd_wire::sdk::{ConnectError, ConnectPoll, ConnectedGrant, DeclinedProvider, FailedGrant, StoredPolicy};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::{Deserialize, Serialize};

use crate::answer::of_store;
use crate::caller::Source;
use crate::flow::sign_in;
use crate::vault::Vault;

/// A session of ours.
pub type Session = rows::Session<Asked>;
/// A step of one.
pub type Step = rows::Step<Outcome>;

/// What the user takes along to the provider and back, sealed here.
#[derive(Deserialize, Serialize)]
pub struct Carried {
    verifier: String,
    pub nonce: String,
}

impl Carried {
    /// What goes along to a provider.
    pub fn new(verifier: &Secret, nonce: &Secret) -> Self {
        Self { verifier: verifier.reveal().to_owned(), nonce: nonce.reveal().to_owned() }
    }

    /// The PKCE verifier.
    pub fn verifier(&self) -> Secret {
        Secret::new(self.verifier.clone())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.verifier);
    }
}

/// Where they are sealed.
pub fn place(app: AppId, session: ConnectSessionId, provider: &str, attempt: i64) -> Place<'_> {
    Place { table: "connect_steps", app: Some(app), row: *session.as_bytes(), field: provider, version: attempt }
}

/// The session with this token, and its steps.
pub async fn find_by_token(vault: &Vault, token_hash: [u8; 32]) -> Result<Option<(Session, Vec<Step>)>, Error> {
    let read = move |tx: &mut Tx<'_>| {
        let Some(session) = rows::find_by_token::<Asked>(tx, &token_hash)? else { return Ok(None) };
        let steps = rows::list_steps(tx, session.id)?;
        Ok(Some((session, steps)))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// A session of the app, and its steps.
pub async fn find_of_app(
    vault: &Vault,
    app: AppId,
    id: ConnectSessionId,
) -> Result<Option<(Session, Vec<Step>)>, Error> {
    let read = move |tx: &mut Tx<'_>| {
        let Some(session) = rows::find::<Asked>(tx, app, id)? else { return Ok(None) };
        let steps = rows::list_steps(tx, session.id)?;
        Ok(Some((session, steps)))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// A session with what its pages show.
pub struct Opened {
    pub session: Session,
    pub steps: Vec<Step>,
    pub app: App,
    pub branding: grantd_wire::api::Branding,
    /// Before anything is connected, its user must prove who they are.
    pub owes_sign_in: bool,
}

impl Opened {
    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.session.state, SessionState::Completed | SessionState::Refused | SessionState::Barred)
    }
}

/// The session that this browser opened; none: it opened no such one.
pub async fn find(vault: &Vault, id: ConnectSessionId, browser_hash: [u8; 32]) -> Result<Option<Opened>, Error> {
    let organization = vault.organization_id;
    let read = move |tx: &mut Tx<'_>| {
        let Some(session) = rows::find_of_browser::<Asked>(tx, id, &browser_hash)? else { return Ok(None) };
        let steps = rows::list_steps(tx, session.id)?;
        let Some(app) = apps::find(tx, organization, session.app_id)? else { return Ok(None) };
        let branding = grantd_store::organizations::find_branding(tx, session.app_id)?;
        let demands = app.connect_sign_in == ConnectSignIn::Required && session.user_id.is_some();
        let owes_sign_in = demands && !sign_in::is_proved(tx, id, browser_hash)?;
        Ok(Some(Opened { session, steps, app, branding, owes_sign_in }))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// How a session stands, for the app (wire-core 5.2).
pub fn stands(session: &Session, steps: &[Step], now: TimeMs) -> ConnectPoll {
    let grants: Vec<ConnectedGrant> = steps.iter().filter_map(connected).collect();
    let is_lapsed = session.expires_at <= now;
    match session.state {
        SessionState::Completed => ConnectPoll::Completed { grants, failed_grants: failed(session, steps) },
        SessionState::Refused => ConnectPoll::Error { error: error(steps) },
        // What was connected before was revoked with everything else.
        SessionState::Barred => ConnectPoll::Error { error: told(&Why::Barred) },
        // What was connected before the time was over is connected.
        SessionState::Open | SessionState::Claimed if is_lapsed && !grants.is_empty() => {
            ConnectPoll::Completed { grants, failed_grants: failed(session, steps) }
        }
        SessionState::Open | SessionState::Claimed if is_lapsed => ConnectPoll::Expired,
        SessionState::Open | SessionState::Claimed => {
            let declined = |step: &&Step| step.state == StepState::Declined;
            let view = |step: &Step| DeclinedProvider {
                provider_id: step.provider_id.clone(),
                error_code: "connect_denied".to_owned(),
                declined_at: step.updated_at,
            };
            ConnectPoll::Pending { declined_providers: steps.iter().filter(declined).map(view).collect() }
        }
    }
}

fn connected(step: &Step) -> Option<ConnectedGrant> {
    let Some(Outcome::Done { grant_id, is_new, account, account_name, scopes, pinned_host, expires_at, created_at }) =
        &step.outcome
    else {
        return None;
    };
    Some(ConnectedGrant {
        grant_id: grant_id.to_string(),
        provider_id: step.provider_id.clone(),
        account_identifier: account.clone(),
        account_display_name: account_name.clone(),
        scopes: scopes.clone(),
        api_base_url: pinned_host.as_deref().map(origin_of),
        operation: if *is_new { "creation" } else { "reauth" }.to_owned(),
        grant_policy: StoredPolicy::of_developer(*expires_at, *created_at),
        delegation: None,
    })
}

/// Providers of a session that is over of which nothing came.
fn failed(session: &Session, steps: &[Step]) -> Vec<FailedGrant> {
    let of = |id: &str| steps.iter().find(|step| step.provider_id == id);
    let failed = |wanted: &grantd_domain::connect::Wanted| {
        let (reason, message) = match of(&wanted.provider_id).and_then(|step| step.outcome.as_ref()) {
            Some(Outcome::Done { .. }) => return None,
            None | Some(Outcome::Declined) => ("not_selected", "The user did not connect it.".to_owned()),
            Some(Outcome::Failed { why }) => ("activation_failed", why.message()),
            Some(Outcome::Partial { .. }) => {
                ("activation_failed", "The user granted less than the app needs.".to_owned())
            }
        };
        Some(FailedGrant { provider_id: wanted.provider_id.clone(), reason: reason.to_owned(), message })
    };
    session.request.providers.iter().filter_map(failed).collect()
}

/// Why a session ended without a grant: what failed last, else that the user did not want to.
fn error(steps: &[Step]) -> ConnectError {
    let last = steps.iter().filter(|step| step.state == StepState::Failed).max_by_key(|step| step.updated_at);
    match last.and_then(|step| step.outcome.as_ref()) {
        Some(Outcome::Failed { why }) => told(why),
        _ => ConnectError {
            error_code: "connect_denied".to_owned(),
            error_message: "The user did not want to connect.".to_owned(),
        },
    }
}

fn told(why: &Why) -> ConnectError {
    ConnectError { error_code: why.code().to_owned(), error_message: why.message() }
}

/// Opens a session in a browser. `browser`: its cookie. A session that another browser opened is [`Claim::Elsewhere`].
pub async fn open(
    vault: &Vault,
    token: &str,
    browser: &str,
    source: &Source,
) -> Result<Claim<ConnectSessionId>, Error> {
    let (token_hash, browser_hash) = (sha256(token.as_bytes()), sha256(browser.as_bytes()));
    let now = source.now;
    let Some((session, _)) = find_by_token(vault, token_hash).await? else { return Ok(Claim::Unknown) };
    let app = session.app_id;
    if !vault.store.read(move |tx| apps::is_active(tx, app)).await.map_err(of_store)? {
        return Ok(Claim::Closed);
    }
    let is_lapsed = session.state == SessionState::Open && session.expires_at <= now;
    if is_lapsed || session.state == SessionState::Barred && session.browser_hash.is_none() {
        return Ok(Claim::Unknown);
    }
    let id = session.id;
    let event = event(vault, &session, Kind::ConnectOpened, EventOutcome::Allowed, source).prepare();
    let write = move |tx: &mut Tx<'_>| {
        if rows::claim(tx, id, &browser_hash)? {
            append_event(tx, &event)?;
            return Ok(true);
        }
        Ok(rows::find_of_browser::<Asked>(tx, id, &browser_hash)?.is_some())
    };
    let is_ours = vault.store.write(write).await.map_err(of_store)?;
    Ok(if is_ours { Claim::Ours(id) } else { Claim::Elsewhere })
}

/// What opening a session came to.
pub enum Claim<T> {
    /// This browser's, from now on or before.
    Ours(T),
    /// Another browser's.
    Elsewhere,
    /// There is none, or it lapsed before anybody opened it.
    Unknown,
    /// Its app connects nobody.
    Closed,
}

impl<T> Claim<T> {
    /// With something made of what was claimed.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Claim<U> {
        match self {
            Self::Ours(of) => Claim::Ours(make(of)),
            Self::Elsewhere => Claim::Elsewhere,
            Self::Unknown => Claim::Unknown,
            Self::Closed => Claim::Closed,
        }
    }
}

/// An event of a session. Nobody of ours acts: a user does, in a browser.
pub fn event(vault: &Vault, session: &Session, kind: Kind, outcome: EventOutcome, source: &Source) -> Event {
    let event = Event::new(&*vault.env, source.now, Owner::App(session.app_id), kind, outcome, Actor::Nobody)
        .core_id("session_id", session.id)
        .core_id("request_id", source.request_id)
        .private_text("ip", Some(&source.ip.to_string()))
        .private_text("user_agent", source.user_agent.as_deref());
    session.user_id.into_iter().fold(event, Event::user)
}

/// Begins a consent: the link the user follows to the provider. `redirect_uri` is this server's.
pub async fn start(vault: &Vault, opened: &Opened, provider_id: &str, now: TimeMs) -> Result<String, Error> {
    let Opened { session, steps, .. } = opened;
    let wanted = session.request.wanted(provider_id).ok_or(Code::NotFound)?;
    let (app, id) = (session.app_id, provider_id.to_owned());
    let provider = vault.store.read(move |tx| providers::find(tx, app, &id)).await.map_err(of_store)?;
    let provider = provider.ok_or(Code::NotFound)?;
    let env = &*vault.env;
    let (state, nonce, verifier) = (new_token(env, ""), new_token(env, ""), new_verifier(env));
    let attempt = steps.iter().find(|step| step.provider_id == provider_id).map_or(0, |step| step.attempt) + 1;
    let carried = Carried::new(&verifier, &nonce);
    let text = zeroize::Zeroizing::new(serde_json::to_vec(&carried).map_err(|_| Code::Internal)?);
    let place = place(app, session.id, provider_id, attempt);
    let sealed = vault.keys.seal_of_app(env, app, place, &text).await?;
    let step = Step {
        session_id: session.id,
        provider_id: provider_id.to_owned(),
        app_id: app,
        attempt,
        state: StepState::Waiting,
        state_hash: Some(sha256(state.reveal().as_bytes())),
        sealed: Some(sealed),
        lease_until: None,
        outcome: None,
        updated_at: now,
    };
    let begun = vault.store.write(move |tx| rows::begin_step(tx, &step)).await.map_err(of_store)?;
    if !begun {
        return Err(Code::Conflict.into());
    }
    let ours = redirect_uri(vault);
    let link = Link {
        client_id: &provider.client_id,
        redirect_uri: provider.facts.redirect_uri(&ours),
        scopes: &wanted.scopes,
        state: state.reveal(),
        verifier: &verifier,
        nonce: nonce.reveal(),
        switches_account: session.request.switches_account,
    };
    Ok(provider.facts.authorize_link(&link))
}

/// Where providers send users back to.
pub fn redirect_uri(vault: &Vault) -> String {
    format!("{}/oauth/callback", vault.settings.public_url)
}

/// Notes that the user does not want to connect a provider; a session of that one only is over with it.
pub async fn decline(vault: &Vault, opened: &Opened, provider_id: &str, source: &Source) -> Result<(), Error> {
    let session = &opened.session;
    session.request.wanted(provider_id).ok_or(Code::NotFound)?;
    let event =
        event(vault, session, Kind::ConnectDeclined, EventOutcome::Denied, source).provider(provider_id).prepare();
    let (id, app, provider, now) = (session.id, session.app_id, provider_id.to_owned(), source.now);
    let is_single = session.request.is_single();
    let write = move |tx: &mut Tx<'_>| {
        if rows::decline(tx, (id, app, &provider), &Outcome::Declined, now)? {
            append_event(tx, &event)?;
            if is_single {
                rows::finish(tx, id, SessionState::Refused)?;
            }
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)
}

/// Ends a session as the user leaves it: with what is connected, or without anything.
pub async fn finish(vault: &Vault, opened: &Opened) -> Result<(), Error> {
    let id = opened.session.id;
    let write = move |tx: &mut Tx<'_>| {
        // As it is now: an account may have been connected since the page was shown.
        let has_any = rows::list_steps::<Outcome>(tx, id)?.iter().any(|step| step.state == StepState::Done);
        rows::finish(tx, id, if has_any { SessionState::Completed } else { SessionState::Refused })
    };
    vault.store.write(write).await.map(drop).map_err(of_store)
}

/// Ends a step without an account.
pub async fn fail(
    vault: &Arc<Vault>,
    session: &Session,
    (provider, attempt, from): (&str, i64, StepState),
    outcome: Outcome,
    source: &Source,
) -> Result<(), Error> {
    let kind = if matches!(outcome, Outcome::Declined) { Kind::ConnectDeclined } else { Kind::ConnectFailed };
    let mut event = event(vault, session, kind, EventOutcome::Denied, source).provider(provider);
    match &outcome {
        Outcome::Failed { why } => {
            event = event.core("why", why.code());
            if let Why::Refused(code) | Why::Configuration(code) = why {
                event = event.core("provider_code", code.clone());
            }
        }
        Outcome::Partial { missing } => {
            event = event.core("why", "partial_consent").core("missing_scopes", missing.clone());
        }
        Outcome::Declined | Outcome::Done { .. } => {}
    }
    let event = event.prepare();
    let to = if matches!(outcome, Outcome::Declined) { StepState::Declined } else { StepState::Failed };
    // Nothing the user can do mends how the app is registered, or that it is archived: a session for that alone is over.
    let is_hopeless =
        matches!(&outcome, Outcome::Declined | Outcome::Failed { why: Why::Configuration(_) | Why::AppClosed });
    let is_barred = matches!(&outcome, Outcome::Failed { why: Why::Barred });
    let takes_no_more = session.request.key.is_some() && (is_barred || attempt >= limits::KEY_TRIES_MAX);
    let is_over = session.request.is_single() && (is_hopeless || takes_no_more);
    let (id, provider, now) = (session.id, provider.to_owned(), vault.env.now());
    let write = move |tx: &mut Tx<'_>| {
        if rows::end_step(tx, (id, &provider, attempt), from, to, &outcome, now)? {
            append_event(tx, &event)?;
            if is_over {
                rows::finish(tx, id, SessionState::Refused)?;
            }
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)
}

/// How long a step is kept for whoever exchanges its code: what the calls may take, and twice that to store what they brought.
pub const STEP_LEASE_MS: i64 = 3 * limits::CONNECT_EXCHANGE_MS.cast_signed();
