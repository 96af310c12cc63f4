//! Renewing the token of an account: one exchange for however many callers and processes.
//!
//! An attempt is a task of its own: a caller that hangs up ends nothing. It commits its intent (a lease) before the token endpoint is
//! asked, and the new pair before anybody sees it. Every write is guarded by the version the attempt began with, so that whatever else
//! happened to the row meanwhile wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grantd_domain::account::{Account, AppProvider, Lease, TokenPair};
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::breaker::Breaker;
use grantd_domain::env::{new_uuid, random};
use grantd_domain::grant::{Broken, Credential, CredentialOf, CredentialState};
use grantd_domain::provider::{Call, Client, Pair, Refusal, Tokens};
use grantd_domain::refresh::{self, Failure, Turn, Verdict};
use grantd_domain::secret::Secret;
use grantd_store::renewals::{self, Place};
use grantd_store::{append_event, crash, credentials, providers};
use grantd_wire::ids::{CredentialId, GenerationId, LeaseId};
use grantd_wire::{Code, Error, TimeMs, limits};
use tokio::sync::watch;

use crate::answer::of_store;
use crate::meters::Renewal;
use crate::outbound::oauth::{self, NoAnswer};
use crate::vault::Vault;

/// How long one waits before looking again whether another process has renewed a token.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the writing of a pair that has been received is tried, before it is given up for lost.
const WRITE_AGAIN_EVERY: Duration = Duration::from_millis(500);

/// What became of an attempt.
#[derive(Clone, Debug)]
pub enum Renewed {
    /// The row has moved: look at it again.
    Moved,
    /// It has not, and why.
    Not(Error),
}

/// Attempts under way in this process, and how the endpoints stand that it asks.
#[derive(Default)]
pub struct Renewals {
    flights: Mutex<HashMap<CredentialId, watch::Receiver<Option<Renewed>>>>,
    breakers: Mutex<HashMap<String, Breaker>>,
}

/// Token endpoints that are remembered.
const BREAKERS_MAX: usize = 1_000;

impl Renewals {
    fn breaker<T>(&self, endpoint: &str, run: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= BREAKERS_MAX && !breakers.contains_key(endpoint) {
            breakers.clear();
        }
        run(breakers.entry(endpoint.to_owned()).or_default())
    }
}

/// Renews the token of a credential as it was at `version`, or waits for whoever does; at most as long as a caller waits.
pub async fn renew(vault: &Arc<Vault>, place: Place, version: i64) -> Renewed {
    let mut flight = join(vault, place, version);
    let wait = Duration::from_millis(limits::REFRESH_DEADLINE_MS);
    let landed = async { flight.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone()) };
    match tokio::time::timeout(wait, landed).await {
        Ok(Some(renewed)) => renewed,
        // The task ended without a word: it panicked, and its lease will lapse.
        Ok(None) | Err(_) => Renewed::Not(Code::TokenRefreshInProgress.into()),
    }
}

/// Sees to it that a token is renewed, without waiting for it.
pub fn start(vault: &Arc<Vault>, place: Place, version: i64) {
    drop(join(vault, place, version));
}

fn join(vault: &Arc<Vault>, place: Place, version: i64) -> watch::Receiver<Option<Renewed>> {
    let mut flights = vault.renewals.flights.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(flight) = flights.get(&place.1).filter(|flight| flight.has_changed().is_ok()) {
        return flight.clone();
    }
    let (land, flight) = watch::channel(None);
    flights.insert(place.1, flight.clone());
    let vault_of_task = Arc::clone(vault);
    vault.tasks.spawn(async move {
        let renewed = Box::pin(attempt(&vault_of_task, place, version)).await.unwrap_or_else(Renewed::Not);
        vault_of_task.renewals.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.1);
        land.send_replace(Some(renewed));
    });
    flight
}

/// What an attempt works with.
struct Subject {
    credential: Credential,
    account: Account,
    provider: AppProvider,
}

async fn attempt(vault: &Arc<Vault>, place: Place, version: i64) -> Result<Renewed, Error> {
    let begun = vault.env.now();
    loop {
        let Some(subject) = read(vault, place, version).await? else { return Ok(Renewed::Moved) };
        let now = vault.env.now();
        match refresh::turn(&subject.account, now) {
            Turn::Theirs { .. } if now.since(begun) >= limits::REFRESH_DEADLINE_MS.cast_signed() => {
                return Err(Code::TokenRefreshInProgress.into());
            }
            Turn::Theirs { .. } => tokio::time::sleep(LOOK_EVERY).await,
            Turn::Later { at } => return Err(later(&subject.provider, at, now)),
            Turn::Mine { is_unconfirmed } => {
                let endpoint = endpoint(&subject.provider);
                if let Err(until) = vault.renewals.breaker(&endpoint, |breaker| breaker.enter(now)) {
                    let seconds = u32::try_from(until.since(now) / 1000 + 1).unwrap_or(60);
                    return Err(Error::new(Code::ProviderBreakerOpen).retry_after(seconds));
                }
                let lease = Lease {
                    id: LeaseId::from_uuid(new_uuid(&*vault.env)),
                    until: now.plus_ms(limits::REFRESH_LEASE_MS),
                };
                let claim = move |tx: &mut grantd_store::Tx<'_>| {
                    renewals::claim(tx, place, version, lease, is_unconfirmed, now)
                };
                if vault.store.write(claim).await.map_err(of_store)? {
                    crash::step("refresh.claimed");
                    return Box::pin(exchange(vault, &subject, lease, is_unconfirmed)).await;
                }
            }
        }
    }
}

/// The row as it is now; none, when it is no longer what is to be renewed.
async fn read(vault: &Vault, (app, id): Place, version: i64) -> Result<Option<Subject>, Error> {
    let read = move |tx: &mut grantd_store::Tx<'_>| {
        let Some(credential) = credentials::find(tx, app, id)? else { return Ok(None) };
        let is_same = credential.version == version && matches!(credential.state, CredentialState::Ok { .. });
        let Some(account) = credential.account().filter(|account| is_same && account.is_refreshable).cloned() else {
            return Ok(None);
        };
        let provider = providers::find_row(tx, app, account.provider)?;
        Ok(provider.map(|provider| Subject { credential, account, provider }))
    };
    vault.store.read(read).await.map_err(of_store)
}

fn later(provider: &AppProvider, at: TimeMs, now: TimeMs) -> Error {
    let seconds = u32::try_from(at.since(now) / 1000 + 1).unwrap_or(300);
    let error =
        Error::new(Code::TokenEndpointFailed).retry_after(seconds).with("provider_id", provider.provider_id.clone());
    match &provider.problem {
        Some((problem, _)) => error.message(format!(
            "The provider does not accept this app's registration ({problem}). No grant is lost: an operator mends it with `grantd providers update`."
        )),
        None => error,
    }
}

fn endpoint(provider: &AppProvider) -> String {
    provider.facts.refresh.url.clone().unwrap_or_else(|| provider.facts.token.url.clone())
}

/// The client that a provider knows this app as.
pub async fn client(vault: &Vault, provider: &AppProvider) -> Result<Client, Error> {
    let secret = match &provider.client_secret {
        Some(sealed) => vault.keys.open_client_secret(provider, sealed).await?,
        None => Secret::new(String::new()),
    };
    Ok(Client { id: provider.client_id.clone(), secret })
}

/// The call that spends the refresh token, and that token.
async fn prepare(vault: &Vault, subject: &Subject) -> Result<(Call, Option<Secret>), Error> {
    let Subject { credential, provider, .. } = subject;
    let damaged = || {
        tracing::error!(credential.id = %credential.id, "A credential does not hold a pair of tokens");
        Error::new(Code::Internal)
    };
    let sealed = vault.keys.open(credential).await?;
    let (access, refresh) = TokenPair::parse(&sealed).ok_or_else(damaged)?.secrets();
    let client = client(vault, provider).await?;
    let call = provider.facts.refresh_call(&client, Pair { access: &access, refresh: refresh.as_ref() });
    Ok((call.ok_or_else(damaged)?, refresh))
}

async fn exchange(vault: &Arc<Vault>, subject: &Subject, lease: Lease, is_unconfirmed: bool) -> Result<Renewed, Error> {
    let Subject { credential, provider, .. } = subject;
    let place = (credential.app_id, credential.id);
    let (call, refresh_token) = match prepare(vault, subject).await {
        Ok(prepared) => prepared,
        Err(e) => {
            // Nothing was sent: the next attempt need not wait for the lease to lapse.
            Box::pin(store_failure(vault, subject, &Failure::Unsent, lease, is_unconfirmed)).await?;
            return Err(e);
        }
    };
    crash::step("refresh.opened");
    // Once more, straight before the refresh token is spent: what took long may have cost the lease.
    let (version, now) = (credential.version, vault.env.now());
    if !vault.store.read(move |tx| renewals::is_mine(tx, place, version, lease, now)).await.map_err(of_store)? {
        return Ok(Renewed::Moved);
    }
    crash::step("refresh.confirmed");
    let deadline = Duration::from_millis(limits::REFRESH_DEADLINE_MS);
    let answered = oauth::send(vault, &call, deadline).await;
    crash::step("refresh.answered");
    let now = vault.env.now();
    let result = match &answered {
        Ok(answer) => match &answer.body {
            Some(body) => provider.facts.token.read(answer.status, body, now).map_err(Failure::Refused),
            None => Err(Failure::Refused(Refusal::Unreadable)),
        },
        Err(NoAnswer::Unsent(_)) => Err(Failure::Unsent),
        Err(NoAnswer::Lost(_)) => Err(Failure::Lost),
    };
    let endpoint = endpoint(provider);
    vault.renewals.breaker(&endpoint, |breaker| match &result {
        Ok(_) | Err(Failure::Refused(Refusal::Over(_) | Refusal::Configuration(_))) => breaker.answered(),
        Err(_) => breaker.failed(now),
    });
    match result {
        Ok(tokens) => Box::pin(store_pair(vault, subject, &tokens, refresh_token.as_ref(), lease)).await,
        Err(failure) => Box::pin(store_failure(vault, subject, &failure, lease, is_unconfirmed)).await,
    }
}

/// Makes the new pair durable. A database that cannot be written is tried again as long as the lease lasts: a spent refresh token makes
/// the new one the only one there is.
async fn store_pair(
    vault: &Arc<Vault>,
    subject: &Subject,
    tokens: &Tokens,
    old_refresh: Option<&Secret>,
    lease: Lease,
) -> Result<Renewed, Error> {
    let Subject { credential: old, account, provider } = subject;
    let now = vault.env.now();
    let env = &*vault.env;
    let pair = TokenPair::new(&tokens.access, tokens.refresh.as_ref().or(old_refresh));
    let renewed = Account {
        scopes: tokens.scopes.clone().unwrap_or_else(|| account.scopes.clone()),
        expiry: tokens.expiry,
        rejected_at: None,
        renewal: grantd_domain::account::Renewal::default(),
        ..account.clone()
    };
    let version = old.version;
    let (generation, event_of) = (GenerationId::from_uuid(new_uuid(env)), |kind, outcome| {
        Event::new(env, now, Owner::App(old.app_id), kind, outcome, Actor::Job)
            .provider(&provider.provider_id)
            .credential(old.id, version + 1)
    });
    let event = event_of(Kind::CredentialRefreshed, Outcome::Allowed).generation(generation).prepare();
    loop {
        let sealed = vault.keys.seal(env, old.app_id, old.id, version + 1, &pair.text()).await;
        let written = match sealed {
            Ok(state) => {
                crash::step("refresh.sealed");
                let new = Credential {
                    generation,
                    state,
                    of: CredentialOf::Account(Box::new(renewed.clone())),
                    version: version + 1,
                    updated_at: now,
                    ..old.clone()
                };
                let (event, place, row) = (event.clone(), (old.app_id, old.id), provider.id);
                let has_problem = provider.problem.is_some();
                let mismatch = account.scope_mismatch_at;
                vault
                    .store
                    .write(move |tx| {
                        if !credentials::replace(tx, &new, version)? {
                            return Ok(false);
                        }
                        crash::step("refresh.replaced");
                        if let Some(at) = mismatch {
                            renewals::mismatch(tx, place, at)?;
                        }
                        if has_problem {
                            providers::set_problem(tx, place.0, row, None, now)?;
                        }
                        append_event(tx, &event)?;
                        Ok(true)
                    })
                    .await
                    .map_err(of_store)
            }
            Err(e) => Err(e),
        };
        match written {
            Ok(true) => {
                crash::step("refresh.stored");
                vault.meters.renewed(Renewal::Renewed);
                return Ok(Renewed::Moved);
            }
            Ok(false) => {
                // The account was disconnected, or connected again, meanwhile. Nobody will use the new pair.
                tracing::info!(credential.id = %old.id, "A token was renewed for a credential that has moved; it is ended at its provider");
                end_unused(vault, subject, tokens).await;
                return Ok(Renewed::Moved);
            }
            Err(e) if vault.env.now() >= lease.until => {
                tracing::error!(credential.id = %old.id, code = e.code.as_str(), "A renewed token could not be written");
                return Err(e);
            }
            Err(_) => tokio::time::sleep(WRITE_AGAIN_EVERY).await,
        }
    }
}

/// Ends a pair that is no longer wanted, if the provider can.
async fn end_unused(vault: &Vault, subject: &Subject, tokens: &Tokens) {
    let Ok(client) = client(vault, &subject.provider).await else { return };
    let pair = Pair { access: &tokens.access, refresh: tokens.refresh.as_ref() };
    if let Some(call) = subject.provider.facts.revoke_call(&client, pair, &subject.account.identifier) {
        let _ = oauth::send(vault, &call, Duration::from_millis(limits::REFRESH_DEADLINE_MS)).await;
    }
}

async fn store_failure(
    vault: &Arc<Vault>,
    subject: &Subject,
    failure: &Failure,
    lease: Lease,
    is_unconfirmed: bool,
) -> Result<Renewed, Error> {
    let Subject { credential: old, account, provider } = subject;
    let (env, now) = (&*vault.env, vault.env.now());
    let (place, version) = ((old.app_id, old.id), old.version);
    let why = why(failure);
    let event = |kind, version| {
        Event::new(env, now, Owner::App(old.app_id), kind, Outcome::Error, Actor::Job)
            .provider(&provider.provider_id)
            .credential(old.id, version)
            .core("why", why.clone())
    };
    match refresh::on_failure(failure, account, is_unconfirmed, provider.facts.refresh.kind) {
        Verdict::Break(broken) => {
            let event = event(Kind::CredentialBroken, version + 1).core("reason", broken.as_str()).prepare();
            let new = Credential {
                state: CredentialState::Broken(broken),
                version: version + 1,
                updated_at: now,
                ..old.clone()
            };
            let store = move |tx: &mut grantd_store::Tx<'_>| {
                // A version that has moved is a race that was lost, not a consent that is over.
                let is_stored = credentials::replace(tx, &new, version)?;
                if is_stored {
                    append_event(tx, &event)?;
                }
                Ok(is_stored)
            };
            if vault.store.write(store).await.map_err(of_store)? {
                crash::step("refresh.broken");
                vault.meters.renewed(Renewal::Broken);
                let reconnect =
                    if broken == Broken::RotationUnknown { "a spent refresh token" } else { "a consent that is over" };
                tracing::warn!(credential.id = %old.id, provider = %provider.provider_id, why, "An account must be connected again: {reconnect}");
            }
            Ok(Renewed::Moved)
        }
        Verdict::Keep { pause_ms, is_unconfirmed } => {
            let pause_ms = refresh::spread(pause_ms, u16::from_le_bytes(random::<2>(env)));
            let not_before = now.plus_ms(pause_ms);
            let event = event(Kind::CredentialRefreshFailed, version).prepare();
            let problem = match failure {
                Failure::Refused(Refusal::Configuration(why)) => Some(why.clone()),
                _ => None,
            };
            let row = provider.id;
            let of_problem = problem.clone();
            let store = move |tx: &mut grantd_store::Tx<'_>| {
                if renewals::keep(tx, place, version, lease, is_unconfirmed, not_before, now)? {
                    append_event(tx, &event)?;
                }
                if let Some(problem) = &of_problem {
                    providers::set_problem(tx, place.0, row, Some(problem), now)?;
                }
                Ok(())
            };
            vault.store.write(store).await.map_err(of_store)?;
            crash::step("refresh.kept");
            vault.meters.renewed(Renewal::Failed);
            tracing::warn!(credential.id = %old.id, provider = %provider.provider_id, why, "A token could not be renewed; the old one stays");
            let problem = problem.map(|problem| (problem, now));
            Ok(Renewed::Not(later(&AppProvider { problem, ..provider.clone() }, not_before, now)))
        }
    }
}

/// What an event says of a failure: a code of the provider's, or what happened on the way.
fn why(failure: &Failure) -> String {
    match failure {
        Failure::Refused(Refusal::Over(code) | Refusal::Configuration(code) | Refusal::Transient(code)) => code.clone(),
        Failure::Refused(Refusal::Unreadable) => "unreadable".to_owned(),
        Failure::Unsent => "not_reached".to_owned(),
        Failure::Lost => "no_answer".to_owned(),
    }
}
