//! Renewing the token of an account: one exchange for however many callers and processes.
//!
//! An attempt is a task of its own: a caller that hangs up ends nothing. It commits its intent (a lease) before the token endpoint is
//! asked, and the new pair before anybody sees it. Every write is guarded by the version the attempt began with, so that whatever else
//! happened to the row meanwhile wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grantd_domain::account::{Account, AppProvider, TokenPair};
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner, Prepared};
use grantd_domain::breaker::Breaker;
use grantd_domain::env::{Env, new_uuid};
use grantd_domain::grant::{Broken, Credential};
use grantd_domain::provider::{Call, Client, Pair, Refusal, Tokens};
use grantd_domain::refresh::{self, Action, Attempt, End, Failure, Need, Stored};
use grantd_domain::secret::Secret;
use grantd_store::renewals::{self, Place};
use grantd_store::{Tx, append_event, crash, credentials, providers};
use grantd_wire::ids::{CredentialId, GenerationId};
use grantd_wire::{Code, Error, TimeMs, limits};
use tokio::sync::watch;

use crate::answer::of_store;
use crate::flow::connect::redirect_uri;
use crate::meters::Renewal;
use crate::outbound::oauth::{self, NoAnswer};
use crate::vault::Vault;

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
    failed: Mutex<HashMap<CredentialId, Failed>>,
}

/// An attempt that failed in this process: of which version of a token, and when the next may be made.
struct Failed {
    version: i64,
    next_at: TimeMs,
}

/// Token endpoints that are remembered.
const BREAKERS_MAX: usize = 1_000;
/// Tokens whose last attempt is remembered.
const FAILED_MAX: usize = 10_000;

impl Renewals {
    fn breaker<T>(&self, endpoint: &str, run: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= BREAKERS_MAX && !breakers.contains_key(endpoint) {
            breakers.clear();
        }
        run(breakers.entry(endpoint.to_owned()).or_default())
    }

    fn next_at(&self, credential: CredentialId, version: i64) -> Option<TimeMs> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(&credential).filter(|failed| failed.version == version).map(|failed| failed.next_at)
    }

    /// Remembers how an attempt ended, as far as it says when the next may be made.
    fn ended(&self, credential: CredentialId, version: i64, end: End) {
        let next_at = match end {
            End::Later { at } => Some(at),
            End::Closed { until } => Some(until),
            End::Moved => None,
            End::Busy | End::Unwritten => return,
        };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next_at) = next_at else {
            failed.remove(&credential);
            return;
        };
        if failed.len() >= FAILED_MAX {
            failed.clear();
        }
        failed.insert(credential, Failed { version, next_at });
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

/// Sees to it that a token which was handed out is renewed when that is due, without waiting for it.
pub fn keep_fresh(vault: &Arc<Vault>, need: Need, credential: &Credential) {
    if credential.account().is_none() {
        return;
    }
    let next_at = vault.renewals.next_at(credential.id, credential.version);
    if refresh::begins(need, next_at, vault.env.now()) {
        start(vault, (credential.app_id, credential.id), credential.version);
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

/// Somebody who performs an attempt, and what they have in hand.
struct Performer<'a> {
    vault: &'a Arc<Vault>,
    place: Place,
    attempt: Attempt,
    /// The row as it was read last.
    subject: Option<Subject>,
    /// The call that spends the refresh token, and that token.
    call: Option<(Call, Option<Secret>)>,
    received: Option<Received>,
    /// Why no tokens were received.
    failure: Failure,
    /// What kept the call from being made, or the pair from being written.
    error: Option<Error>,
}

/// What an attempt works with.
struct Subject {
    credential: Credential,
    account: Account,
    provider: AppProvider,
}

/// Tokens that were received, and the event that tells of them. Made once: the same, however often they are written.
struct Received {
    tokens: Tokens,
    pair: TokenPair,
    generation: GenerationId,
    event: Prepared,
    at: TimeMs,
}

async fn attempt(vault: &Arc<Vault>, place: Place, version: i64) -> Result<Renewed, Error> {
    let (attempt, mut action) = Attempt::begin(version, &*vault.env);
    let mut performer = Performer {
        vault,
        place,
        attempt,
        subject: None,
        call: None,
        received: None,
        failure: Failure::Unsent,
        error: None,
    };
    loop {
        action = match action {
            Action::Done(end) => return performer.end(end),
            action => Box::pin(performer.perform(action)).await?,
        };
    }
}

impl Performer<'_> {
    /// Performs one action; the next.
    async fn perform(&mut self, action: Action) -> Result<Action, Error> {
        let env = &*self.vault.env;
        Ok(match action {
            Action::Read { after_ms } => {
                sleep(after_ms).await;
                self.subject = read(self.vault, self.place).await?;
                let row = self.subject.as_ref().map(|s| (&s.credential, s.provider.facts.refresh.kind));
                self.attempt.on_found(row, env.now())
            }
            Action::Enter => {
                let now = env.now();
                let endpoint = endpoint(&self.subject()?.provider);
                let entered = self.vault.renewals.breaker(&endpoint, |breaker| breaker.enter(now));
                self.attempt.on_entered(entered, now)
            }
            Action::Claim { is_unconfirmed, now } => {
                let (place, version) = (self.place, self.attempt.version());
                let (lease, seen) = (self.attempt.lease(), self.attempt.seen());
                let claim =
                    move |tx: &mut Tx<'_>| renewals::claim(tx, place, version, lease, &seen, is_unconfirmed, now);
                let is_claimed = self.vault.store.write(claim).await.map_err(of_store)?;
                crash::step("refresh.claimed");
                self.attempt.on_claimed(is_claimed)
            }
            Action::Prepare => {
                let prepared = prepare(self.vault, self.subject()?).await;
                crash::step("refresh.opened");
                let is_prepared = prepared.is_ok();
                match prepared {
                    Ok(call) => self.call = Some(call),
                    Err(e) => self.error = Some(e),
                }
                self.attempt.on_prepared(is_prepared, env)
            }
            Action::Confirm { now } => {
                let (place, version, lease) = (self.place, self.attempt.version(), self.attempt.lease());
                let confirm = move |tx: &mut Tx<'_>| renewals::confirm(tx, place, version, lease, now);
                let is_mine = self.vault.store.write(confirm).await.map_err(of_store)?;
                crash::step("refresh.confirmed");
                self.attempt.on_confirmed(is_mine, env)
            }
            Action::Exchange => match self.exchange().await? {
                Ok(received) => {
                    self.received = Some(received);
                    self.attempt.on_answer(Ok(()), env)
                }
                Err(failure) => {
                    self.failure = failure;
                    self.attempt.on_answer(Err(&self.failure), env)
                }
            },
            Action::Store { after_ms } => {
                sleep(after_ms).await;
                let stored = self.store().await?;
                self.attempt.on_stored(stored, env.now())
            }
            Action::GiveUp(why) => {
                self.give_up(why).await?;
                self.attempt.on_given_up()
            }
            Action::Keep { is_unconfirmed, not_before, now } => {
                let is_kept = self.keep(is_unconfirmed, not_before, now).await?;
                self.attempt.on_kept(is_kept, not_before)
            }
            Action::Discard => {
                self.discard().await;
                self.attempt.on_discarded()
            }
            Action::Done(end) => Action::Done(end),
        })
    }

    /// What an attempt works with from its first reading on.
    fn subject(&self) -> Result<&Subject, Error> {
        self.subject.as_ref().ok_or_else(|| Code::Internal.into())
    }

    /// What the callers who wait for it are told.
    fn end(self, end: End) -> Result<Renewed, Error> {
        self.vault.renewals.ended(self.place.1, self.attempt.version(), end);
        if let Some(e) = self.error {
            return Err(e);
        }
        let now = self.vault.env.now();
        match end {
            End::Moved => Ok(Renewed::Moved),
            End::Busy => Err(Code::TokenRefreshInProgress.into()),
            End::Later { at } => Err(later(&self.subject()?.provider, at, now)),
            End::Closed { until } => {
                let seconds = u32::try_from(until.since(now) / 1000 + 1).unwrap_or(60);
                Err(Error::new(Code::ProviderBreakerOpen).retry_after(seconds))
            }
            End::Unwritten => Err(Code::Busy.into()),
        }
    }

    /// Sends the call that spends the refresh token.
    async fn exchange(&mut self) -> Result<Result<Received, Failure>, Error> {
        let (call, old_refresh) = self.call.take().ok_or(Code::Internal)?;
        let Subject { credential, provider, .. } = self.subject()?;
        let (vault, env) = (self.vault, &*self.vault.env);
        // A life is told from when it began, and that was before the answer came.
        let sent_at = env.now();
        let answered = oauth::send(vault, &call, Duration::from_millis(limits::REFRESH_DEADLINE_MS)).await;
        crash::step("refresh.answered");
        let now = env.now();
        let result = match &answered {
            Ok(answer) => match &answer.body {
                Some(body) => provider.facts.token.read(answer.status, body, sent_at).map_err(Failure::Refused),
                None => Err(Failure::Refused(Refusal::Unreadable)),
            },
            Err(NoAnswer::Unsent(_)) => Err(Failure::Unsent),
            Err(NoAnswer::Lost(_)) => Err(Failure::Lost),
        };
        vault.renewals.breaker(&endpoint(provider), |breaker| match &result {
            Err(failure) if failure.is_of_endpoint() => breaker.failed(now),
            Ok(_) | Err(_) => breaker.answered(),
        });
        Ok(result.map(|tokens| {
            let generation = GenerationId::from_uuid(new_uuid(env));
            let event = event(env, (credential, provider), Kind::CredentialRefreshed, Outcome::Allowed)
                .credential(credential.id, credential.version + 1)
                .generation(generation);
            let pair = TokenPair::new(&tokens.access, tokens.refresh.as_ref().or(old_refresh.as_ref()));
            Received { tokens, pair, generation, event: event.prepare(), at: now }
        }))
    }

    /// Makes the new pair durable.
    async fn store(&mut self) -> Result<Stored, Error> {
        let Subject { credential: old, account, provider } = self.subject()?;
        let received = self.received.as_ref().ok_or(Code::Internal)?;
        let (vault, at, version) = (self.vault, received.at, self.attempt.version());
        let sealed = vault.keys.seal(&*vault.env, old.app_id, old.id, version + 1, &received.pair.text()).await;
        let written = match sealed {
            Ok(state) => {
                crash::step("refresh.sealed");
                let new = refresh::renewed(old, account, &received.tokens, (received.generation, state), at);
                let (event, mismatch, row) = (received.event.clone(), account.scope_mismatch_at, provider.id);
                let has_problem = provider.problem.is_some();
                let write = move |tx: &mut Tx<'_>| {
                    let is_stored = renewals::renew(tx, &new, version, mismatch, &event)?;
                    if is_stored && has_problem {
                        providers::set_problem(tx, new.app_id, row, None, at)?;
                    }
                    Ok(is_stored)
                };
                vault.store.write(write).await.map_err(of_store)
            }
            Err(e) => Err(e),
        };
        let (stored, error) = match written {
            Ok(true) => {
                crash::step("refresh.stored");
                vault.meters.renewed(Renewal::Renewed);
                (Stored::Yes, None)
            }
            Ok(false) => {
                tracing::info!(credential.id = %old.id, "A token was renewed for a credential that has moved");
                (Stored::Moved, None)
            }
            Err(e) => {
                tracing::error!(credential.id = %old.id, code = e.code.as_str(), "A renewed token could not be written");
                (Stored::Failed, Some(e))
            }
        };
        self.error = error;
        Ok(stored)
    }

    /// Ends a pair that is no longer wanted, if the provider can and nothing else ends with it.
    async fn discard(&self) {
        let (Some(Subject { credential, account, provider }), Some(received)) = (&self.subject, &self.received) else {
            return;
        };
        let Some(revoke) = &provider.facts.revoke else { return };
        let (app, row, identifier) = (credential.app_id, provider.id, account.identifier.clone());
        let own = credential.id;
        let find = move |tx: &mut Tx<'_>| credentials::find_living_of_account(tx, app, row, &identifier, own);
        let Ok(living) = self.vault.store.read(find).await else { return };
        if !refresh::may_end(own, living, revoke.ends) {
            return;
        }
        let Ok(client) = client(self.vault, provider).await else { return };
        let pair = Pair { access: &received.tokens.access, refresh: received.tokens.refresh.as_ref() };
        if let Some(call) = provider.facts.revoke_call(&client, pair, &account.identifier) {
            let _ = oauth::send(self.vault, &call, Duration::from_millis(limits::REFRESH_DEADLINE_MS)).await;
        }
    }

    /// The user must connect again.
    async fn give_up(&self, reason: Broken) -> Result<(), Error> {
        let Subject { credential: old, provider, .. } = self.subject()?;
        let (vault, version, lease) = (self.vault, self.attempt.version(), self.attempt.lease());
        let (why, broken) = (why(&self.failure), refresh::broken(old, reason, vault.env.now()));
        let event = event(&*vault.env, (old, provider), Kind::CredentialBroken, Outcome::Error)
            .credential(old.id, broken.version)
            .core("why", why.clone())
            .core("reason", reason.as_str())
            .prepare();
        let write = move |tx: &mut Tx<'_>| renewals::give_up(tx, &broken, version, lease, &event);
        if vault.store.write(write).await.map_err(of_store)? {
            crash::step("refresh.broken");
            vault.meters.renewed(Renewal::Broken);
            let reconnect =
                if reason == Broken::RotationUnknown { "a spent refresh token" } else { "a consent that is over" };
            tracing::warn!(credential.id = %old.id, provider = %provider.provider_id, why, "An account must be connected again: {reconnect}");
        }
        Ok(())
    }

    /// The old pair stays, and the next attempt waits.
    async fn keep(&mut self, is_unconfirmed: bool, not_before: TimeMs, now: TimeMs) -> Result<bool, Error> {
        let Subject { credential: old, provider, .. } = self.subject()?;
        let (vault, place, row) = (self.vault, self.place, provider.id);
        let (version, lease) = (self.attempt.version(), self.attempt.lease());
        let why = why(&self.failure);
        let event = event(&*vault.env, (old, provider), Kind::CredentialRefreshFailed, Outcome::Error)
            .credential(old.id, old.version)
            .core("why", why.clone())
            .prepare();
        let problem = match &self.failure {
            Failure::Refused(Refusal::Configuration(why)) => Some(why.clone()),
            _ => None,
        };
        let of_problem = problem.clone();
        let write = move |tx: &mut Tx<'_>| {
            let is_kept = renewals::keep(tx, place, version, lease, is_unconfirmed, not_before, now)?;
            if is_kept {
                append_event(tx, &event)?;
            }
            if let Some(problem) = &of_problem {
                providers::set_problem(tx, place.0, row, Some(problem), now)?;
            }
            Ok(is_kept)
        };
        let is_kept = vault.store.write(write).await.map_err(of_store)?;
        crash::step("refresh.kept");
        vault.meters.renewed(Renewal::Failed);
        tracing::warn!(credential.id = %old.id, provider = %provider.provider_id, why, "A token could not be renewed; the old one stays");
        if let Some(subject) = self.subject.as_mut() {
            subject.provider.problem = problem.map(|problem| (problem, now));
        }
        Ok(is_kept)
    }
}

fn event(env: &dyn Env, (credential, provider): (&Credential, &AppProvider), kind: Kind, outcome: Outcome) -> Event {
    Event::new(env, env.now(), Owner::App(credential.app_id), kind, outcome, Actor::Job).provider(&provider.provider_id)
}

async fn sleep(after_ms: i64) {
    if let Ok(after_ms @ 1..) = u64::try_from(after_ms) {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
    }
}

/// The row as it is now; none, when it is nothing that could be renewed.
async fn read(vault: &Vault, (app, id): Place) -> Result<Option<Subject>, Error> {
    let read = move |tx: &mut Tx<'_>| {
        let Some(credential) = credentials::find(tx, app, id)? else { return Ok(None) };
        let Some(account) = credential.account().cloned() else { return Ok(None) };
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
    let (ours, pair) = (redirect_uri(vault), Pair { access: &access, refresh: refresh.as_ref() });
    let call = provider.facts.refresh_call(&client, pair, provider.facts.redirect_uri(&ours));
    Ok((call.ok_or_else(damaged)?, refresh))
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const AT: TimeMs = TimeMs(1_000);

    fn credential(n: usize) -> CredentialId {
        CredentialId::from_uuid(Uuid::from_u128(n as u128))
    }

    #[test]
    fn an_attempt_that_failed_is_remembered_of_its_version_until_one_does_not_fail() {
        let renewals = Renewals::default();
        let id = credential(1);
        for end in [End::Later { at: AT }, End::Closed { until: AT }] {
            renewals.ended(id, 7, end);
            assert_eq!((renewals.next_at(id, 7), renewals.next_at(id, 8)), (Some(AT), None));
            // Those that say nothing of it change nothing.
            renewals.ended(id, 7, End::Busy);
            renewals.ended(id, 7, End::Unwritten);
            assert_eq!(renewals.next_at(id, 7), Some(AT));
            renewals.ended(id, 7, End::Moved);
            assert_eq!(renewals.next_at(id, 7), None);
        }
    }

    #[test]
    fn what_is_remembered_of_failed_attempts_is_bounded() {
        let renewals = Renewals::default();
        for n in 0..FAILED_MAX {
            renewals.ended(credential(n), 1, End::Later { at: AT });
        }
        assert_eq!(renewals.next_at(credential(0), 1), Some(AT));
        renewals.ended(credential(FAILED_MAX), 1, End::Later { at: AT });
        assert_eq!((renewals.next_at(credential(0), 1), renewals.next_at(credential(FAILED_MAX), 1)), (None, Some(AT)));
    }
}
