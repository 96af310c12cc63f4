//! Signing a user in: from the link an app asked for to a token of the user's own identity provider.
//!
//! A sign-in belongs to the browser that opened it first, and the provider answers to a `state` that is good once. The token is kept
//! sealed, handed out to the app for a minute, and then erased.
//!
//! The user of a connect session signs in the same way where the app demands it. Then no token is kept: what counts is that it was theirs.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::new_token;
use grantd_domain::grant::App;
use grantd_domain::identity::{IdentityProvider, Invalid, ProviderState};
use grantd_domain::provider::{Call, Client, Link, Provider, new_verifier};
use grantd_domain::seal::Place;
use grantd_domain::secret::Secret;
use grantd_domain::sign_in::{Asked, Why, client_facts, other_than};
use grantd_store::auth_sessions::{self as rows, AuthSession, AuthState};
use grantd_store::{Tx, append_event, apps, crash, identity_providers, users};
use grantd_wire::ids::{AppId, AuthSessionId, ConnectSessionId, Id as _, UserId};
use grantd_wire::sdk::{AuthPoll, UserInfo};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use crate::answer::of_store;
use crate::caller::Source;
use crate::flow::callback::{self, Next, Returned};
use crate::flow::connect::{self, Carried, Claim, redirect_uri};
use crate::flow::identity::{self, Proved};
use crate::keyring::idp_secret_place;
use crate::vault::Vault;

/// A sign-in of ours.
pub type Session = AuthSession<Asked, Why>;

/// How often a poll that waits looks by itself: another process may have finished the sign-in.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Polls that wait.
pub struct Waiting {
    finished: Notify,
    room: Semaphore,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { finished: Notify::new(), room: Semaphore::new(limits::SIGN_IN_WAITS_MAX) }
    }
}

impl Waiting {
    /// Room for one more, for as long as what is answered is kept; `None`: there are [`limits::SIGN_IN_WAITS_MAX`].
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire().ok()
    }
}

/// What a sign-in brought, as it is sealed.
#[derive(Deserialize, Serialize)]
struct Brought {
    user_token: String,
    user_info: UserInfo,
}

fn place<'a>(session: &Session, field: &'static str, version: i64) -> Place<'a> {
    Place { table: "auth_sessions", app: Some(session.app_id), row: *session.id.as_bytes(), field, version }
}

/// An event of a sign-in. Nobody of ours acts: a user does, in a browser.
fn event(vault: &Vault, session: &Session, kind: Kind, outcome: Outcome, source: &Source) -> Event {
    Event::new(&*vault.env, source.now, Owner::App(session.app_id), kind, outcome, Actor::Nobody)
        .core_id("session_id", session.id)
        .core_id("idp_id", session.idp_id)
        .core_id("request_id", source.request_id)
        .private_text("ip", Some(&source.ip.to_string()))
        .private_text("user_agent", source.user_agent.as_deref())
}

/// How a sign-in stands, once there is something to say or `wait` is over. No connection to the database is held meanwhile.
pub async fn poll(
    vault: &Vault,
    app: AppId,
    token_hash: [u8; 32],
    wait: Duration,
) -> Result<(AuthPoll, Option<Session>), Error> {
    let until = tokio::time::Instant::now() + wait;
    // Without room it is answered at once, and asked again.
    let room = vault.sign_ins.enter();
    loop {
        let finished = vault.sign_ins.finished.notified();
        let find = move |tx: &mut Tx<'_>| rows::find_by_token::<Asked, Why>(tx, &token_hash);
        let found = vault.store.read(find).await.map_err(of_store)?.filter(|session| session.app_id == app);
        let Some(session) = found else { return Ok((AuthPoll::Expired, None)) };
        let stands = stands(vault, &session).await?;
        let now = tokio::time::Instant::now();
        if !matches!(stands, AuthPoll::Pending) || room.is_none() || now >= until {
            return Ok((stands, Some(session)));
        }
        let look = until.min(now + LOOK_EVERY);
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

async fn stands(vault: &Vault, session: &Session) -> Result<AuthPoll, Error> {
    let now = vault.env.now();
    let error = |why: &Why| AuthPoll::Error {
        error_code: why.code().to_owned(),
        error_message: why.message(),
        retry_after_seconds: (why.code() == "service_unavailable").then_some(RETRY_AFTER_S),
    };
    Ok(match session.state {
        AuthState::Completed => match (&session.result, session.result_until) {
            (Some(sealed), Some(until)) if until > now => {
                let place = place(session, "result", session.version);
                let text = vault.keys.open_of_app(session.app_id, place, sealed).await?;
                let mut brought: Brought = serde_json::from_str(text.reveal()).map_err(|_| Code::Internal)?;
                AuthPoll::Completed {
                    user_token: std::mem::take(&mut brought.user_token),
                    user_info: brought.user_info.clone(),
                }
            }
            _ => AuthPoll::Expired,
        },
        AuthState::Error => error(session.outcome.as_ref().unwrap_or(&Why::Internal)),
        AuthState::Exchanging if session.lease_until.is_none_or(|until| until <= now) => error(&Why::Interrupted),
        AuthState::Open if session.expires_at <= now => AuthPoll::Expired,
        AuthState::Open | AuthState::Exchanging => AuthPoll::Pending,
    })
}

/// When to ask again for what failed here or there.
const RETRY_AFTER_S: u32 = 5;

/// A sign-in with what its pages show.
pub struct Opened {
    pub session: Session,
    pub app: App,
    pub branding: grantd_wire::api::Branding,
    /// None: it was deleted meanwhile.
    pub provider: Option<IdentityProvider>,
}

/// The sign-in that this browser opened; none: it opened no such one.
pub async fn find(vault: &Vault, id: AuthSessionId, browser_hash: [u8; 32]) -> Result<Option<Opened>, Error> {
    let organization = vault.organization_id;
    let read = move |tx: &mut Tx<'_>| {
        let found = rows::find::<Asked, Why>(tx, id)?.filter(|found| found.browser_hash == Some(browser_hash));
        let Some(session) = found else { return Ok(None) };
        let Some(app) = apps::find(tx, organization, session.app_id)? else { return Ok(None) };
        let branding = grantd_store::organizations::find_branding(tx, session.app_id)?;
        let provider = identity_providers::find_row(tx, session.app_id, session.idp_id)?;
        Ok(Some(Opened { session, app, branding, provider: provider.filter(|provider| !provider.is_deleted) }))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// Opens a sign-in in a browser. `browser`: its cookie.
pub async fn open(vault: &Vault, token: &str, browser: &str, source: &Source) -> Result<Claim<AuthSessionId>, Error> {
    let (token_hash, browser_hash) = (sha256(token.as_bytes()), sha256(browser.as_bytes()));
    let find = move |tx: &mut Tx<'_>| {
        let Some(session) = rows::find_by_token::<Asked, Why>(tx, &token_hash)? else { return Ok(None) };
        let is_active = apps::is_active(tx, session.app_id)?;
        Ok(Some((session, is_active)))
    };
    let Some((session, is_active)) = vault.store.read(find).await.map_err(of_store)? else {
        return Ok(Claim::Unknown);
    };
    if !is_active {
        return Ok(Claim::Closed);
    }
    if session.browser_hash == Some(browser_hash) {
        return Ok(Claim::Ours(session.id));
    }
    if session.browser_hash.is_some() {
        return Ok(Claim::Elsewhere);
    }
    if session.state != AuthState::Open || session.expires_at <= source.now {
        return Ok(Claim::Unknown);
    }
    let id = session.id;
    let event = event(vault, &session, Kind::SignInOpened, Outcome::Allowed, source).prepare();
    let claimed = Session { browser_hash: Some(browser_hash), ..moved(session, source.now) };
    let write = move |tx: &mut Tx<'_>| {
        let is_first = rows::replace(tx, &claimed, claimed.version - 1)?;
        if is_first {
            append_event(tx, &event)?;
        }
        Ok(is_first)
    };
    let is_first = vault.store.write(write).await.map_err(of_store)?;
    Ok(if is_first { Claim::Ours(id) } else { Claim::Elsewhere })
}

/// The session as it comes next.
fn moved(session: Session, now: TimeMs) -> Session {
    Session { version: session.version + 1, updated_at: now, ..session }
}

/// Whether the user of this connect session signed in, in this browser.
pub fn is_proved(tx: &mut Tx<'_>, connect: ConnectSessionId, browser_hash: [u8; 32]) -> grantd_store::Result<bool> {
    let found = rows::find::<Asked, Why>(tx, id_for(connect))?;
    Ok(found.is_some_and(|session| {
        let is_for = session.request == Asked::Connect(connect) && session.browser_hash == Some(browser_hash);
        is_for && session.state == AuthState::Completed
    }))
}

/// Under which the user of a connect session signs in: so there is one sign-in for it, however often it is tried.
fn id_for(connect: ConnectSessionId) -> AuthSessionId {
    AuthSessionId::from_bytes(connect.bytes())
}

/// Where this user signs in; `None`: they are gone, or it is.
pub async fn provider_of(vault: &Vault, app: AppId, user: UserId) -> Result<Option<IdentityProvider>, Error> {
    let read = move |tx: &mut Tx<'_>| {
        let Some(user) = users::find(tx, app, user)? else { return Ok(None) };
        let provider = identity_providers::find_row(tx, app, user.idp_id)?;
        Ok(provider.filter(|provider| !provider.is_deleted))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// Begins the trip of a connect session's user to their identity provider: the link they follow.
pub async fn start_for(
    vault: &Vault,
    opened: &connect::Opened,
    provider: &IdentityProvider,
    now: TimeMs,
) -> Result<String, Error> {
    let connect::Session { id: connect, app_id: app, browser_hash, user_id, expires_at, .. } = opened.session;
    let id = id_for(connect);
    let found = vault.store.read(move |tx| rows::find::<Asked, Why>(tx, id)).await.map_err(of_store)?;
    let prompt = if found.is_some() { Prompt::Login } else { Prompt::AsItLikes };
    let session = match found {
        Some(session) => {
            let is_under_way =
                session.state == AuthState::Exchanging && session.lease_until.is_some_and(|until| until > now);
            if is_under_way || session.state == AuthState::Completed {
                return Err(Code::Conflict.into());
            }
            session
        }
        None => {
            let new = Session::new(id, (app, provider.id), Asked::Connect(connect), now, expires_at);
            // Nobody is given its token: it is reached through the connect session alone.
            let token_hash = sha256(new_token(&*vault.env, "").reveal().as_bytes());
            let stored = new.clone();
            match vault.store.write(move |tx| rows::insert(tx, &token_hash, &stored)).await {
                Err(grantd_store::Error::Duplicate) => return Err(Code::Conflict.into()),
                other => other.map_err(of_store)?,
            }
            new
        }
    };
    // As it is begun: whoever is deprovisioned meanwhile loses it.
    let session =
        Session { state: AuthState::Open, outcome: None, lease_until: None, browser_hash, user_id, ..session };
    start(vault, &session, provider, prompt, now).await
}

/// What the identity provider does with whoever is signed in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prompt {
    AsItLikes,
    /// It asks who they are all the same (OpenID Connect Core 3.1.2.1): who came as somebody else would else come as the same again.
    Login,
}

/// Begins the trip to the identity provider: the link the user follows. One that was begun before is good no more.
pub async fn start(
    vault: &Vault,
    session: &Session,
    provider: &IdentityProvider,
    prompt: Prompt,
    now: TimeMs,
) -> Result<String, Error> {
    let mut facts = client_facts(provider).ok_or(Code::NotFound)?;
    if prompt == Prompt::Login {
        facts.authorize.params.insert("prompt".to_owned(), "login".to_owned());
    }
    let client_id = provider.client_id.as_deref().ok_or(Code::NotFound)?;
    let env = &*vault.env;
    let (state, nonce, verifier) = (new_token(env, ""), new_token(env, ""), new_verifier(env));
    let carried = Carried::new(&verifier, &nonce);
    let next = moved(session.clone(), now);
    let text = Zeroizing::new(serde_json::to_vec(&carried).map_err(|_| Code::Internal)?);
    let sealed = vault.keys.seal_of_app(env, session.app_id, place(session, "sealed", next.version), &text).await?;
    let next = Session { state_hash: Some(sha256(state.reveal().as_bytes())), sealed: Some(sealed), ..next };
    let begun = vault.store.write(move |tx| rows::replace(tx, &next, next.version - 1)).await.map_err(of_store)?;
    if !begun {
        return Err(Code::Conflict.into());
    }
    let redirect_uri = redirect_uri(vault);
    Ok(facts.authorize_link(&Link {
        client_id,
        redirect_uri: &redirect_uri,
        scopes: &provider.scopes,
        state: state.reveal(),
        verifier: &verifier,
        nonce: nonce.reveal(),
        switches_account: false,
    }))
}

/// Ends a sign-in without a token.
pub async fn fail(vault: &Vault, session: Session, why: Why, source: &Source) -> Result<(), Error> {
    let kind = if why == Why::Declined { Kind::SignInDeclined } else { Kind::SignInFailed };
    let mut event = event(vault, &session, kind, Outcome::Denied, source).core("why", why.code());
    if let Some(code) = why.provider_code() {
        event = event.core("provider_code", code);
    }
    let event = event.prepare();
    let ended = Session {
        state: AuthState::Error,
        state_hash: None,
        sealed: None,
        lease_until: None,
        outcome: Some(why),
        ..moved(session, vault.env.now())
    };
    let write = move |tx: &mut Tx<'_>| {
        if rows::replace(tx, &ended, ended.version - 1)? {
            append_event(tx, &event)?;
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)?;
    vault.sign_ins.finished.notify_waiters();
    Ok(())
}

/// How long a sign-in is kept for whoever exchanges its code.
const LEASE_MS: i64 = 3 * limits::CONNECT_EXCHANGE_MS.cast_signed();

/// Takes an identity provider's answer. What follows goes on, whatever becomes of the browser.
pub async fn take(
    vault: &Arc<Vault>,
    returned: Returned,
    state_hash: [u8; 32],
    browser: Option<&str>,
    source: Source,
) -> Result<Next, Error> {
    let find = move |tx: &mut Tx<'_>| {
        let Some(session) = rows::find_by_state::<Asked, Why>(tx, &state_hash)? else { return Ok(None) };
        // Nobody signs in to an app that is archived: no token is asked for that nobody could fetch.
        let provider = match apps::is_active(tx, session.app_id)? {
            true => identity_providers::find_row(tx, session.app_id, session.idp_id)?,
            false => None,
        };
        Ok(Some((session, provider)))
    };
    let Some((session, provider)) = vault.store.read(find).await.map_err(of_store)? else {
        return Ok(Next::Unknown);
    };
    let browser_hash = browser.map(|browser| sha256(browser.as_bytes()));
    if browser_hash.is_none() || session.browser_hash != browser_hash {
        return Ok(Next::WrongBrowser);
    }
    if session.state != AuthState::Open || session.expires_at <= source.now {
        return Ok(Next::Unknown);
    }
    let (sealed, sealed_at) = (session.sealed.clone(), session.version);
    let taken = Session {
        state: AuthState::Exchanging,
        state_hash: None,
        sealed: None,
        lease_until: Some(source.now.plus_ms(LEASE_MS)),
        ..moved(session, source.now)
    };
    let next = taken.clone();
    // The `state` is good once: whoever takes it here is the only one.
    if !vault.store.write(move |tx| rows::replace(tx, &next, next.version - 1)).await.map_err(of_store)? {
        return Ok(Next::Unknown);
    }
    crash::step("sign_in.taken");
    let id = taken.id;
    let work = {
        let vault = Arc::clone(vault);
        async move {
            let deadline = Duration::from_millis(limits::CONNECT_EXCHANGE_MS);
            let carried = carried(&vault, &taken, sealed.as_deref(), sealed_at).await;
            let obtain = obtain(&vault, provider.as_ref(), carried, &returned);
            let obtained = tokio::time::timeout(deadline, obtain).await.unwrap_or(Err(Why::Unreachable));
            match (obtained, taken.request) {
                (Ok(brought), Asked::Connect(_)) => vouch(&vault, taken, &brought.proved, &source).await,
                (Ok(brought), Asked::KeyId(_)) => Box::pin(keep(&vault, taken, brought, &source)).await,
                (Err(why), _) => fail(&vault, taken, why, &source).await,
            }
        }
    };
    vault.tasks.spawn(work).await.map_err(|_| Error::new(Code::Internal))??;
    Ok(Next::SignIn(id))
}

async fn carried(vault: &Vault, session: &Session, sealed: Option<&[u8]>, version: i64) -> Option<Carried> {
    let text = vault.keys.open_of_app(session.app_id, place(session, "sealed", version), sealed?).await.ok()?;
    serde_json::from_str(text.reveal()).ok()
}

/// What the identity provider vouched for.
pub(super) struct Obtained {
    id_token: Secret,
    pub(super) proved: Proved,
}

async fn obtain(
    vault: &Arc<Vault>,
    provider: Option<&IdentityProvider>,
    carried: Option<Carried>,
    returned: &Returned,
) -> Result<Obtained, Why> {
    let provider = provider.filter(|p| !p.is_deleted && p.state == ProviderState::Active).ok_or(Why::Inactive)?;
    let code = code_of(provider, returned)?;
    let carried = carried.ok_or(Why::Internal)?;
    let facts = client_facts(provider).ok_or(Why::Inactive)?;
    let client = client(vault, provider).await.map_err(|_| Why::Internal)?;
    let call = facts.code_call(&client, &code, &redirect_uri(vault), &carried.verifier());
    redeem(vault, &Arc::new(provider.clone()), &facts, &call, &carried.nonce).await
}

/// The code that an identity provider sent the browser back with.
pub(super) fn code_of(provider: &IdentityProvider, returned: &Returned) -> Result<Secret, Why> {
    // RFC 9207: an answer of another issuer is not one to this question.
    match returned.text("iss") {
        Some(sent) if sent != provider.issuer => return Err(Why::Unclear),
        None if provider.endpoints.names_issuer => return Err(Why::Unclear),
        _ => {}
    }
    if let Some(error) = returned.text("error") {
        return Err(callback::refusal_of(error).into());
    }
    Ok(Secret::new(returned.text("code").ok_or(Why::Unclear)?.to_owned()))
}

/// Makes the call that turns the code into tokens, and proves the ID token, which must be of this very trip.
pub(super) async fn redeem(
    vault: &Arc<Vault>,
    provider: &Arc<IdentityProvider>,
    facts: &Provider,
    call: &Call,
    nonce: &str,
) -> Result<Obtained, Why> {
    let (tokens, _) = callback::tokens(vault, &provider.name, facts, call).await?;
    crash::step("sign_in.exchanged");
    let id_token = tokens.id_token.ok_or(Why::Unclear)?;
    let proved = identity::prove_of(vault, Arc::clone(provider), id_token.reveal()).await.map_err(|e| why_of(&e))?;
    crash::step("sign_in.proved");
    // What was issued for another sign-in is not proof of this one (OpenID Connect Core 3.1.3.7).
    match proved.claims.all.get("nonce").and_then(Value::as_str) == Some(nonce) {
        true => Ok(Obtained { id_token, proved }),
        false => Err(Why::Token(Invalid::Nonce.as_str().to_owned())),
    }
}

async fn client(vault: &Vault, provider: &IdentityProvider) -> Result<Client, Error> {
    let secret = match &provider.client_secret {
        Some(secret) => {
            let place = idp_secret_place(provider.app_id, provider.id, secret.version);
            vault.keys.open_of_app(provider.app_id, place, &secret.sealed).await?
        }
        None => Secret::new(String::new()),
    };
    Ok(Client { id: provider.client_id.clone().unwrap_or_default(), secret })
}

/// Why a token of the provider's own is refused here.
fn why_of(error: &Error) -> Why {
    let check = error.details.get("check").and_then(Value::as_str);
    match (error.code, check) {
        (Code::IdentityProviderInactive, _) => Why::Inactive,
        (_, Some(check)) if check == Invalid::Suspended.as_str() || check == Invalid::Deprovisioned.as_str() => {
            Why::Barred
        }
        (Code::JwtValidationError, check) => Why::Token(check.unwrap_or_default().to_owned()),
        (Code::ServiceUnavailable, _) => Why::NoKeys,
        (code, _) if code.status() == 503 => Why::Unreachable,
        _ => Why::Internal,
    }
}

/// Keeps what was obtained, sealed, until the app fetches it.
async fn keep(vault: &Arc<Vault>, session: Session, obtained: Obtained, source: &Source) -> Result<(), Error> {
    let Obtained { id_token, proved } = obtained;
    let draft = || event(vault, &session, Kind::SignInDone, Outcome::Allowed, source);
    let user = match identity::user(vault, &proved, &draft).await {
        Ok((_, user)) => user,
        Err(e) => return fail(vault, session, why_of(&e), source).await,
    };
    crash::step("sign_in.user_known");
    let brought = Brought {
        user_token: id_token.reveal().to_owned(),
        user_info: UserInfo { sub: user.subject.clone(), email: user.email.clone(), name: user.name.clone() },
    };
    let text = Zeroizing::new(serde_json::to_vec(&brought).map_err(|_| Code::Internal)?);
    let now = vault.env.now();
    let done = draft().user(user.id).prepare();
    let next = moved(session.clone(), now);
    let sealed = vault.keys.seal_of_app(&*vault.env, next.app_id, place(&next, "result", next.version), &text).await;
    let Ok(sealed) = sealed else { return fail(vault, session, Why::Internal, source).await };
    let next = Session {
        state: AuthState::Completed,
        lease_until: None,
        user_id: Some(user.id),
        result: Some(sealed),
        result_until: Some(now.plus_ms(limits::SIGN_IN_RESULT_MS)),
        ..next
    };
    let write = move |tx: &mut Tx<'_>| {
        if rows::replace(tx, &next, next.version - 1)? {
            crash::step("sign_in.written");
            append_event(tx, &done)?;
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)?;
    crash::step("sign_in.kept");
    vault.sign_ins.finished.notify_waiters();
    Ok(())
}

/// Notes that the user of a connect session has shown who they are, if it is they. Somebody else is no user of anything by it.
async fn vouch(vault: &Vault, session: Session, proved: &Proved, source: &Source) -> Result<(), Error> {
    let (app, user) = (session.app_id, session.user_id);
    let find = move |tx: &mut Tx<'_>| user.map(|user| users::find(tx, app, user)).transpose();
    let expected = vault.store.read(find).await.map_err(of_store)?.flatten();
    if let Some(why) = other_than(expected.as_ref(), proved.idp.id, &proved.claims.subject) {
        return fail(vault, session, why, source).await;
    }
    let done = event(vault, &session, Kind::SignInDone, Outcome::Allowed, source);
    let done = user.into_iter().fold(done, Event::user).prepare();
    let next = Session { state: AuthState::Completed, lease_until: None, ..moved(session, vault.env.now()) };
    let write = move |tx: &mut Tx<'_>| {
        if rows::replace(tx, &next, next.version - 1)? {
            crash::step("sign_in.written");
            append_event(tx, &done)?;
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)
}

impl Drop for Brought {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.user_token);
    }
}
