//! The provider sends the user back: with a code, which becomes an account with its tokens and a grant, or with a refusal.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::account::{Account, AppProvider, Renewal, TokenPair};
use grantd_domain::audit::{Event, Kind, Outcome as EventOutcome};
use grantd_domain::connect::{Asked, Outcome, Wanted, Why, missing};
use grantd_domain::env::{Env, new_uuid};
use grantd_domain::grant::{
    Credential, CredentialOf, CredentialState, Grant, GrantStatus, Principal, Tenant, expires_at,
};
use grantd_domain::identity::UserStatus;
use grantd_domain::provider::{self, AccountError, Call, Fields, IdentitySource, Learnt, Quirk, Refusal, Tokens};
use grantd_domain::secret::Secret;
use grantd_store::connect::{self as rows, SessionState, StepState};
use grantd_store::{Tx, append_event, apps, crash, credentials, grants, providers, users};
use grantd_wire::ids::{AuthSessionId, ConnectSessionId, CredentialId, GenerationId, GrantId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Map, Value};

use crate::answer::of_store;
use crate::caller::Source;
use crate::flow::connect::{self, Carried, Session, Step};
use crate::flow::{refresh, sign_in};
use crate::outbound::oauth;
use crate::vault::Vault;

/// Times an account is looked up again because it changed between looking and keeping.
const TRIES: usize = 5;

/// What a provider sent along, by name.
pub struct Returned {
    pub params: Fields,
}

impl Returned {
    /// A parameter that is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

/// Where the user's browser goes on.
pub enum Next {
    /// To the page of this session that says what came of this provider.
    Page { session: ConnectSessionId, provider: String },
    /// To the page of this sign-in.
    SignIn(AuthSessionId),
    /// Another browser opened the session.
    WrongBrowser,
    /// Nobody waits for this answer: it was used, or its time is over.
    Unknown,
}

/// Takes a provider's answer. What follows goes on, whatever becomes of the browser.
pub async fn take(
    vault: &Arc<Vault>,
    returned: Returned,
    browser: Option<&str>,
    source: Source,
) -> Result<Next, Error> {
    let Some(state_hash) = returned.text("state").map(|state| sha256(state.as_bytes())) else {
        return Ok(Next::Unknown);
    };
    let browser_hash = browser.map(|browser| sha256(browser.as_bytes()));
    let read = move |tx: &mut Tx<'_>| {
        let Some(step) = rows::find_step::<Outcome>(tx, &state_hash)? else { return Ok(None) };
        let session = match &browser_hash {
            Some(hash) => rows::find_of_browser::<Asked>(tx, step.session_id, hash)?,
            None => None,
        };
        let provider = providers::find(tx, step.app_id, &step.provider_id)?;
        let is_active = apps::is_active(tx, step.app_id)?;
        Ok(Some((step, session, provider, is_active)))
    };
    let Some((step, session, provider, is_active)) = vault.store.read(read).await.map_err(of_store)? else {
        // Both kinds of providers send users back to one address, so that an operator registers one.
        return Box::pin(sign_in::take(vault, returned, state_hash, browser, source)).await;
    };
    let Some(session) = session else { return Ok(Next::WrongBrowser) };
    let is_open = session.state == SessionState::Claimed && session.expires_at > source.now;
    let Some(provider) = provider.filter(|_| is_open) else { return Ok(Next::Unknown) };
    let (until, now) = (source.now.plus_ms(connect::STEP_LEASE_MS), source.now);
    // The `state` is good once: whoever takes it here is the only one.
    if !vault.store.write(move |tx| rows::take_step(tx, &state_hash, until, now)).await.map_err(of_store)? {
        return Ok(Next::Unknown);
    }
    crash::step("callback.taken");
    let next = Next::Page { session: session.id, provider: step.provider_id.clone() };
    let work = {
        let vault = Arc::clone(vault);
        async move {
            match is_active {
                true => Box::pin(settle(&vault, session, step, provider, returned, source)).await,
                // No tokens are asked for that nobody could use.
                false => fail(&vault, &session, &step, Outcome::Failed { why: Why::AppClosed }, &source).await,
            }
        }
    };
    vault.tasks.spawn(work).await.map_err(|_| Error::new(Code::Internal))??;
    Ok(next)
}

async fn settle(
    vault: &Arc<Vault>,
    session: Session,
    step: Step,
    provider: AppProvider,
    returned: Returned,
    source: Source,
) -> Result<(), Error> {
    let Some(wanted) = session.request.wanted(&step.provider_id) else {
        return Err(Code::Internal.into());
    };
    let deadline = Duration::from_millis(limits::CONNECT_EXCHANGE_MS);
    let obtained = tokio::time::timeout(deadline, obtain(vault, &step, &provider, wanted, returned)).await;
    let obtained = obtained.unwrap_or(Err(Outcome::Failed { why: Why::Unreachable }));
    let kept = match obtained {
        Ok(obtained) => Box::pin(keep(vault, &session, &step, &provider, obtained, &source)).await,
        Err(outcome) => Err(outcome),
    };
    match kept {
        Ok(()) => Ok(()),
        Err(outcome) => fail(vault, &session, &step, outcome, &source).await,
    }
}

async fn fail(
    vault: &Arc<Vault>,
    session: &Session,
    step: &Step,
    outcome: Outcome,
    source: &Source,
) -> Result<(), Error> {
    let place = (step.provider_id.as_str(), step.attempt, StepState::Exchanging);
    connect::fail(vault, session, place, outcome, source).await
}

/// What the provider gave.
struct Obtained {
    tokens: Tokens,
    account: provider::Account,
    pinned_host: Option<String>,
    scopes: Vec<String>,
}

async fn obtain(
    vault: &Arc<Vault>,
    step: &Step,
    provider: &AppProvider,
    wanted: &Wanted,
    returned: Returned,
) -> Result<Obtained, Outcome> {
    let failed = |why| Outcome::Failed { why };
    let facts = &provider.facts;
    // RFC 9207: an answer of another issuer is not one to this question.
    if let (Some(sent), Some(issuer)) = (returned.text("iss"), facts.authorize.issuer.as_deref())
        && sent != issuer
    {
        return Err(failed(Why::Unclear));
    }
    if let Some(error) = returned.text("error") {
        return Err(refusal_of(error));
    }
    let code = returned.text("code").ok_or_else(|| failed(Why::Unclear))?;
    let code = if facts.token.quirks.contains(&Quirk::CodeSuffix) { code.trim_end_matches("#_") } else { code };
    let carried = carried(vault, step).await.map_err(|_| failed(Why::Internal))?;
    let client = refresh::client(vault, provider).await.map_err(|_| failed(Why::Internal))?;
    let ours = connect::redirect_uri(vault);
    let code = Secret::new(code.to_owned());
    let call = facts.code_call(&client, &code, facts.redirect_uri(&ours), &carried.verifier());
    let mut learnt = Learnt { callback: returned.params, ..Learnt::default() };
    let (mut tokens, answer) = tokens(vault, &provider.provider_id, facts, &call).await?;
    crash::step("callback.exchanged");
    learnt.token = answer;
    if let Some(call) = facts.exchange_call(&client, &tokens.access) {
        let (longer, _) = self::tokens(vault, &provider.provider_id, facts, &call).await?;
        tokens = Tokens {
            refresh: longer.refresh.or(tokens.refresh),
            scopes: longer.scopes.or(tokens.scopes),
            id_token: longer.id_token.or(tokens.id_token),
            access: longer.access,
            expiry: longer.expiry,
        };
    }
    let now = vault.env.now();
    let asks_for_nonce = wanted.scopes.iter().any(|scope| scope == "openid");
    if let Some(token) = &tokens.id_token {
        let nonce = asks_for_nonce.then_some(carried.nonce.as_str());
        let claims = facts.id_token_claims(token, &provider.client_id, nonce, now);
        // One that nothing rests on need not be good.
        let is_needed = facts.identity.source == IdentitySource::IdToken;
        match claims {
            Ok(claims) => learnt.id_token = claims,
            Err(_) if !is_needed => {}
            Err(_) => return Err(failed(Why::NoAccount)),
        }
    }
    if let Some(call) = facts.identity_call(&tokens.access) {
        learnt.call = identity(vault, &call).await?;
    }
    let account = facts.account(&learnt).map_err(why_of)?;
    let pinned_host = facts.pinned_host(&learnt).map_err(why_of)?;
    crash::step("callback.identified");
    let missing = missing(tokens.scopes.as_deref(), &wanted.required);
    if !missing.is_empty() {
        return Err(Outcome::Partial { missing });
    }
    let scopes = tokens.scopes.clone().unwrap_or_else(|| wanted.scopes.clone());
    Ok(Obtained { tokens, account, pinned_host, scopes })
}

fn why_of(error: AccountError) -> Outcome {
    Outcome::Failed {
        why: match error {
            AccountError::Unnamed | AccountError::IdToken => Why::NoAccount,
            AccountError::Host => Why::Unclear,
        },
    }
}

/// A refusal in the callback (RFC 6749 section 4.1.2.1). What else a provider says there is nobody's to see.
pub fn refusal_of(error: &str) -> Outcome {
    let is_word = error.len() <= 64 && error.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
    match error {
        "access_denied"
        | "user_denied"
        | "consent_required"
        | "login_required"
        | "user_cancelled_login"
        | "user_cancelled_authorize" => Outcome::Declined,
        "server_error" | "temporarily_unavailable" => Outcome::Failed { why: Why::Unreachable },
        "invalid_request"
        | "invalid_scope"
        | "unauthorized_client"
        | "invalid_client"
        | "unsupported_response_type"
        | "redirect_uri_mismatch" => Outcome::Failed { why: Why::Configuration(error.to_owned()) },
        other => Outcome::Failed { why: Why::Refused(if is_word { other } else { "other" }.to_owned()) },
    }
}

async fn carried(vault: &Vault, step: &Step) -> Result<Carried, Error> {
    let sealed = step.sealed.as_ref().ok_or(Code::Internal)?;
    let place = connect::place(step.app_id, step.session_id, &step.provider_id, step.attempt);
    let text = vault.keys.open_of_app(step.app_id, place, sealed).await?;
    serde_json::from_str(text.reveal()).map_err(|_| Code::Internal.into())
}

/// Asks the token endpoint; its answer as tokens, and as it was.
pub async fn tokens(
    vault: &Vault,
    id: &str,
    facts: &provider::Provider,
    call: &Call,
) -> Result<(Tokens, Fields), Outcome> {
    let failed = |why| Outcome::Failed { why };
    let deadline = Duration::from_millis(limits::REFRESH_DEADLINE_MS);
    let answered = oauth::send(vault, call, deadline).await.map_err(|no_answer| {
        tracing::warn!(provider = %id, why = %no_answer.why(), "A token endpoint was not reached");
        failed(Why::Unreachable)
    })?;
    let body = answered.body.ok_or_else(|| failed(Why::Unclear))?;
    match facts.token.read(answered.status, &body, vault.env.now()) {
        Ok(tokens) => Ok((tokens, provider::fields(&body).unwrap_or_default())),
        Err(refusal) => {
            tracing::warn!(provider = %id, status = answered.status, refusal = ?refusal, "A token endpoint refused a code");
            Err(failed(match refusal {
                Refusal::Over(code) => Why::Refused(code),
                Refusal::Configuration(code) => Why::Configuration(code),
                Refusal::Transient(_) => Why::Unreachable,
                Refusal::Unreadable => Why::Unclear,
            }))
        }
    }
}

async fn identity(vault: &Vault, call: &Call) -> Result<Fields, Outcome> {
    let failed = |why| Outcome::Failed { why };
    let deadline = Duration::from_millis(limits::REFRESH_DEADLINE_MS);
    let answered = oauth::send(vault, call, deadline).await.map_err(|_| failed(Why::Unreachable))?;
    let body = answered.body.filter(|_| (200..300).contains(&answered.status));
    let body = body.ok_or_else(|| failed(if answered.status >= 500 { Why::Unreachable } else { Why::NoAccount }))?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(said)) => Ok(Fields::from(said)),
        // A list of accounts, numbered from 0.
        Ok(Value::Array(items)) => {
            let numbered = items.into_iter().enumerate().map(|(n, item)| (n.to_string(), item));
            Ok(Fields::from(numbered.collect::<Map<_, _>>()))
        }
        _ => Err(failed(Why::NoAccount)),
    }
}

/// Keeps what was obtained: the account's credential, a grant on it, the step's end and the events, in one write.
async fn keep(
    vault: &Arc<Vault>,
    session: &Session,
    step: &Step,
    provider: &AppProvider,
    obtained: Obtained,
    source: &Source,
) -> Result<(), Outcome> {
    let failed = |why| Outcome::Failed { why };
    let internal = |e: Error| {
        tracing::error!(session.id = %session.id, code = e.code.as_str(), "A connected account could not be kept");
        failed(if e.code == Code::TooMany { Why::Full } else { Why::Internal })
    };
    let env = &*vault.env;
    let Obtained { tokens, account, pinned_host, scopes } = obtained;
    let pair = TokenPair::new(&tokens.access, tokens.refresh.as_ref());
    let is_refreshable = match provider.facts.refresh.kind {
        provider::RefreshKind::None => false,
        provider::RefreshKind::Exchange => true,
        _ => tokens.refresh.is_some(),
    };
    let of = Account {
        provider: provider.id,
        identifier: account.identifier.clone(),
        name: account.name.clone(),
        scopes: scopes.clone(),
        pinned_host,
        expiry: tokens.expiry,
        is_refreshable,
        rejected_at: None,
        scope_mismatch_at: None,
        renewal: Renewal::default(),
    };
    for _ in 0..TRIES {
        let (app, row, identifier, user) = (session.app_id, provider.id, of.identifier.clone(), session.user_id);
        let old = vault.store.read(move |tx| credentials::find_account(tx, app, row, &identifier, user)).await;
        let old = old.map_err(|e| internal(of_store(e)))?;
        if let Some(repair) = &session.request.repair
            && old.as_ref().map(|old| old.id) != Some(repair.credential_id)
        {
            return Err(failed(Why::OtherAccount));
        }
        let id = old.as_ref().map_or_else(|| CredentialId::from_uuid(new_uuid(env)), |old| old.id);
        let version = old.as_ref().map_or(1, |old| old.version + 1);
        let now = vault.env.now();
        let credential = Credential {
            id,
            app_id: app,
            of: CredentialOf::Account(Box::new(of.clone())),
            user_id: user,
            generation: GenerationId::from_uuid(new_uuid(env)),
            version,
            state: vault.keys.seal(env, app, id, version, &pair.text()).await.map_err(&internal)?,
            updated_at: now,
        };
        let keeping = Keeping {
            session: session.clone(),
            place: (step.provider_id.clone(), step.attempt),
            new_grant: new_grant(env, session, &credential, now).map_err(&internal)?,
            done: connect::event(vault, session, Kind::ConnectDone, EventOutcome::Allowed, source)
                .provider(&provider.provider_id)
                .credential(id, version)
                .generation(credential.generation),
            created: connect::event(vault, session, Kind::GrantCreated, EventOutcome::Allowed, source)
                .provider(&provider.provider_id)
                .credential(id, version),
            was: old.as_ref().map(|old| old.version),
            credential,
            now,
        };
        match vault.store.write(move |tx| keeping.write(tx)).await {
            Ok(Kept::Yes) => {
                crash::step("callback.kept");
                return Ok(());
            }
            Ok(Kept::Barred) => return Err(failed(Why::Barred)),
            // Somebody connected, renewed or disconnected the account meanwhile: as it is now.
            Ok(Kept::Moved) | Err(grantd_store::Error::Duplicate) => {}
            Ok(Kept::Closed) => return Err(failed(Why::AppClosed)),
            Err(e) => match of_store(e) {
                e if e.code == Code::Conflict => return Err(failed(Why::Interrupted)),
                e => return Err(internal(e)),
            },
        }
    }
    Err(failed(Why::Internal))
}

fn new_grant(env: &dyn Env, session: &Session, credential: &Credential, now: TimeMs) -> Result<Grant, Error> {
    Ok(Grant {
        id: GrantId::from_uuid(new_uuid(env)),
        app_id: session.app_id,
        credential_id: credential.id,
        principal: session.user_id.map_or(Principal::System, Principal::User),
        label: session.request.label.clone(),
        status: GrantStatus::Active,
        tenant: Tenant::Unbound,
        expires_at: expires_at(session.request.lifetime, now)?,
        created_at: now,
        last_used_at: None,
        version: 1,
    })
}

/// What is kept, if everything is still as it was.
struct Keeping {
    session: Session,
    /// Provider and attempt of the step.
    place: (String, i64),
    credential: Credential,
    /// The version that is replaced; none: the account is new.
    was: Option<i64>,
    new_grant: Grant,
    done: Event,
    created: Event,
    now: TimeMs,
}

enum Kept {
    Yes,
    /// The account is another by now.
    Moved,
    /// The app is no longer in use.
    Closed,
    /// The user it is for may not have it any more.
    Barred,
}

impl Keeping {
    fn write(&self, tx: &mut Tx<'_>) -> grantd_store::Result<Kept> {
        let Self { session, credential, .. } = self;
        if !apps::is_active(tx, credential.app_id)? {
            return Ok(Kept::Closed);
        }
        if let Some(user) = session.user_id
            && !users::find(tx, session.app_id, user)?.is_some_and(|user| user.status == UserStatus::Active)
        {
            return Ok(Kept::Barred);
        }
        match self.was {
            Some(version) => {
                if !credentials::replace(tx, credential, version)? {
                    return Ok(Kept::Moved);
                }
            }
            None => credentials::insert(tx, credential)?,
        }
        crash::step("callback.credential_written");
        let living = grants::list_living(tx, credential.app_id, credential.id, self.now)?;
        let grant = match session.request.meant(&living) {
            Some(grant) => grant.clone(),
            None => {
                grants::insert(tx, &self.new_grant)?;
                append_event(
                    tx,
                    &self
                        .created
                        .clone()
                        .grant(self.new_grant.id)
                        .core("principal_type", self.new_grant.principal.kind())
                        .prepare(),
                )?;
                self.new_grant.clone()
            }
        };
        let CredentialOf::Account(account) = &credential.of else { return Ok(Kept::Moved) };
        let outcome = Outcome::Done {
            grant_id: grant.id,
            is_new: self.was.is_none(),
            account: account.identifier.clone(),
            account_name: account.name.clone(),
            scopes: account.scopes.clone(),
            pinned_host: account.pinned_host.clone(),
            expires_at: grant.expires_at,
            created_at: grant.created_at,
        };
        let (provider, attempt) = &self.place;
        let place = (session.id, provider.as_str(), *attempt);
        if !rows::end_step(tx, place, StepState::Exchanging, StepState::Done, &outcome, self.now)? {
            // Undoes all of it: the write is not committed.
            return Err(Code::Conflict.into());
        }
        let steps = rows::list_steps::<Outcome>(tx, session.id)?;
        if steps.iter().filter(|step| step.state == StepState::Done).count() == session.request.providers.len() {
            rows::finish(tx, session.id, SessionState::Completed)?;
        }
        apps::raise_epoch(tx, credential.app_id)?;
        append_event(
            tx,
            &self
                .done
                .clone()
                .grant(grant.id)
                .core("operation", if self.was.is_none() { "creation" } else { "reauth" })
                .prepare(),
        )?;
        debug_assert!(matches!(credential.state, CredentialState::Ok { .. }));
        Ok(Kept::Yes)
    }
}
