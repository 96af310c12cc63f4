//! An attempt of one instance, performed on the real store and the model of a provider: one action at a time.

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner, Prepared};
use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::grant::{Broken, Credential};
use grantd_domain::provider::{Expiry, Refusal, Tokens};
use grantd_domain::refresh::{self, Action, Attempt, End, Failure, Stored};
use grantd_domain::secret::Secret;
use grantd_store::{Tx, credentials, renewals};
use grantd_wire::TimeMs;
use grantd_wire::ids::GenerationId;
use grantd_wire::limits::REFRESH_DEADLINE_MS;

use crate::bugs::Bug;
use crate::fixture::{pair, sealed};
use crate::provider::{Fate, Pair};
use crate::simulation::{Simulation, Violation};

/// An attempt under way.
pub struct Flight {
    pub id: usize,
    pub instance: usize,
    pub attempt: Attempt,
    pub action: Action,
    /// Not performed before.
    pub due: TimeMs,
    /// The caller that began it.
    pub begun_by: usize,
    /// The row as it was read last.
    row: Option<Credential>,
    /// As the caller saw it who began it.
    seen: Credential,
    call: Option<Call>,
    received: Option<Received>,
    failure: Failure,
    /// What it saw when it looked last whether the lease is its own; none, if it was not, whatever it was told.
    pub looked: Option<Looked>,
}

/// The last look before a token is sent.
#[derive(Clone, Copy)]
pub struct Looked {
    pub at: TimeMs,
    /// As the row says it.
    pub lease_until: TimeMs,
}

impl Looked {
    /// There was time for the call: what happens later, until the lease is over, is nobody's mistake.
    pub fn is_in_time(self) -> bool {
        self.lease_until.since(self.at) >= REFRESH_DEADLINE_MS.cast_signed()
    }
}

/// A call that was sent, until its answer is there.
struct Call {
    number: usize,
    sent_at: TimeMs,
    /// None: it never comes.
    arrives_at: Option<TimeMs>,
    answer: Result<Pair, Failure>,
}

#[derive(Clone)]
struct Received {
    number: usize,
    pair: Pair,
    expiry: Expiry,
    generation: GenerationId,
    event: Prepared,
    at: TimeMs,
}

/// A database that does not say yes.
pub struct Unanswered;

impl Flight {
    pub fn begin(world: &Simulation, id: usize, instance: usize, begun_by: usize, seen: &Credential) -> Self {
        let (attempt, action) = Attempt::begin(seen.version, &world.env);
        Self {
            id,
            instance,
            attempt,
            action,
            due: world.env.now(),
            begun_by,
            row: None,
            seen: seen.clone(),
            call: None,
            received: None,
            failure: Failure::Unsent,
            looked: None,
        }
    }

    /// Performs one action. How the attempt ended, if it did; `None` within: the database did not answer.
    pub async fn step(&mut self, world: &mut Simulation) -> Result<Option<Option<End>>, Violation> {
        let action = self.action;
        match self.perform(action, world).await? {
            Ok(next) => self.action = next,
            Err(Unanswered) => return Ok(Some(None)),
        }
        let after_ms = match self.action {
            Action::Read { after_ms } | Action::Store { after_ms } => after_ms,
            Action::Done(end) => return Ok(Some(Some(end))),
            _ => 0,
        };
        self.due = self.due.max(world.env.now().plus_ms(after_ms));
        Ok(None)
    }

    async fn perform(
        &mut self,
        action: Action,
        world: &mut Simulation,
    ) -> Result<Result<Action, Unanswered>, Violation> {
        let (version, lease) = (self.attempt.version(), self.attempt.lease());
        let place = world.place();
        Ok(match action {
            Action::Read { .. } => {
                let row = match world.is_broken(Bug::NoReread) {
                    true => Ok(self.seen.clone()),
                    false => world.load().await?,
                };
                row.map(|row| {
                    let next = self.attempt.on_found(Some((&row, world.facts.refresh.kind)), world.env.now());
                    self.row = Some(row);
                    next
                })
            }
            Action::Enter => {
                let now = world.env.now();
                let entered = world.instances[self.instance].breaker.enter(now);
                Ok(self.attempt.on_entered(entered, now))
            }
            Action::Claim { is_unconfirmed, now } => {
                let claimed = self.claim(world, is_unconfirmed, now).await?;
                claimed.map(|is_claimed| self.attempt.on_claimed(is_claimed))
            }
            Action::Prepare => Ok(self.attempt.on_prepared(!world.has_trouble(20), &world.env)),
            Action::Confirm { now } => {
                let confirmed = self.confirm(world, now).await?;
                confirmed.map(|is_mine| match world.bug {
                    Some(Bug::NoReread) => self.attempt.on_confirmed(true, &world.env),
                    Some(Bug::ConfirmIsForEver) if is_mine => Action::Exchange,
                    _ => self.attempt.on_confirmed(is_mine, &world.env),
                })
            }
            Action::Exchange => Ok(self.exchange(world)?),
            Action::Store { .. } => {
                let stored = self.store(world).await?;
                Ok(self.attempt.on_stored(stored, world.env.now()))
            }
            Action::GiveUp(reason) => {
                let given_up = self.give_up(world, reason).await?;
                given_up.map(|_| self.attempt.on_given_up())
            }
            Action::Keep { is_unconfirmed, not_before, now } => {
                let keep =
                    move |tx: &mut Tx<'_>| renewals::keep(tx, place, version, lease, is_unconfirmed, not_before, now);
                let kept = world.write(keep).await?;
                kept.map(|is_kept| self.attempt.on_kept(is_kept, not_before))
            }
            Action::Discard => {
                self.discard(world).await?;
                Ok(self.attempt.on_discarded())
            }
            Action::Done(end) => Ok(Action::Done(end)),
        })
    }

    async fn claim(
        &self,
        world: &mut Simulation,
        is_unconfirmed: bool,
        now: TimeMs,
    ) -> Result<Result<bool, Unanswered>, Violation> {
        let (place, version, lease) = (world.place(), self.attempt.version(), self.attempt.lease());
        let (seen, is_unguarded) = (self.attempt.seen(), world.is_broken(Bug::ClaimWithoutVersion));
        let claim = move |tx: &mut Tx<'_>| {
            let (mut version, mut seen) = (version, seen);
            if let Some(row) = credentials::find(tx, place.0, place.1)?.filter(|_| is_unguarded) {
                (version, seen) = (row.version, row.account().unwrap().renewal);
            }
            renewals::claim(tx, place, version, lease, &seen, is_unconfirmed, now)
        };
        world.write(claim).await
    }

    async fn confirm(&mut self, world: &mut Simulation, now: TimeMs) -> Result<Result<bool, Unanswered>, Violation> {
        let (place, version, lease) = (world.place(), self.attempt.version(), self.attempt.lease());
        let confirmed = match world.is_broken(Bug::ConfirmIsALook) {
            true => world.load().await?.map(|row| {
                let held = row.account().and_then(|account| account.renewal.lease);
                row.version == version && held.is_some_and(|held| held.id == lease.id && held.until > world.env.now())
            }),
            false => world.write(move |tx| renewals::confirm(tx, place, version, lease, now)).await?,
        };
        let held = world.row.account().and_then(|account| account.renewal.lease);
        self.looked = held
            .filter(|held| held.id == lease.id && matches!(confirmed, Ok(true)))
            .map(|held| Looked { at: world.env.now(), lease_until: held.until });
        Ok(confirmed)
    }

    async fn give_up(&self, world: &mut Simulation, reason: Broken) -> Result<Result<bool, Unanswered>, Violation> {
        let (version, lease) = (self.attempt.version(), self.attempt.lease());
        let (row, was, bug) = (self.row.clone().unwrap(), world.row.clone(), world.bug);
        let broken = refresh::broken(&row, reason, world.env.now());
        let event = event(world, &row, Kind::CredentialBroken);
        let give_up = move |tx: &mut Tx<'_>| match bug {
            Some(Bug::GiveUpUnguarded) => force(tx, broken.clone()),
            Some(Bug::GiveUpWithoutLease) => credentials::replace(tx, &broken, version),
            _ => renewals::give_up(tx, &broken, version, lease, &event),
        };
        let given_up = world.write(give_up).await?;
        if world.row.version != was.version {
            world.check_given_up(&was, lease, reason)?;
        }
        Ok(given_up)
    }

    /// Sends the call, or takes its answer; until that is there the action stays the same.
    fn exchange(&mut self, world: &mut Simulation) -> Result<Action, Violation> {
        let now = world.env.now();
        let Some(call) = self.call.take() else {
            let call = self.send(world, now)?;
            let deadline = now.plus_ms(REFRESH_DEADLINE_MS.cast_signed());
            self.due = call.arrives_at.map_or(deadline, |at| at.min(deadline));
            self.call = Some(call);
            return Ok(Action::Exchange);
        };
        let answer = match call.arrives_at {
            Some(at) if at <= now => call.answer,
            _ => Err(Failure::Lost),
        };
        let breaker = &mut world.instances[self.instance].breaker;
        match &answer {
            Err(failure) if failure.is_of_endpoint() => breaker.failed(now),
            Ok(_) | Err(_) => breaker.answered(),
        }
        Ok(match answer {
            Ok(pair) => {
                // A life is told from when the call was sent: the provider's begins later than that.
                let from = if world.is_broken(Bug::LifeFromAnswer) { now } else { call.sent_at };
                let generation = GenerationId::from_uuid(new_uuid(&world.env));
                let row = self.row.as_ref().unwrap();
                self.received = Some(Received {
                    number: call.number,
                    pair,
                    expiry: Expiry::At(from.plus_ms(world.provider.temper.life_ms)),
                    generation,
                    event: event(world, row, Kind::CredentialRefreshed),
                    at: now,
                });
                self.attempt.on_answer(Ok(()), &world.env)
            }
            Err(failure) => {
                world.sent[call.number].is_lost = true;
                self.failure = failure;
                self.attempt.on_answer(Err(&self.failure), &world.env)
            }
        })
    }

    fn send(&self, world: &mut Simulation, now: TimeMs) -> Result<Call, Violation> {
        let presented = pair(self.row.as_ref().unwrap()).unwrap();
        let fate = world.provider.temper.fate(&world.chance);
        world.note(|| format!("    refresh token {} is presented; {fate:?}", presented.refresh));
        let number = world.check_sent(self, presented, fate != Fate::Unreached)?;
        let refused = |refusal| Err(Failure::Refused(refusal));
        let mut exchange = || {
            let exchanged = world.provider.exchange(presented.refresh, number, now);
            exchanged.ok_or(Failure::Refused(Refusal::Over("invalid_grant".to_owned())))
        };
        let (after_ms, answer) = match fate {
            Fate::Answered { after_ms } => (Some(after_ms), exchange()),
            Fate::AnswerLost => (None, exchange()),
            Fate::BadGateway => {
                drop(exchange());
                (Some(100), refused(Refusal::Transient("status_502".to_owned())))
            }
            Fate::Cut => (Some(5), Err(Failure::Lost)),
            Fate::Unreached => (Some(5), Err(Failure::Unsent)),
            Fate::Busy => (Some(50), refused(Refusal::Transient("status_503".to_owned()))),
            Fate::Garbage => (Some(50), refused(Refusal::Unreadable)),
            Fate::WrongClient => (Some(50), refused(Refusal::Configuration("invalid_client".to_owned()))),
        };
        Ok(Call { number, sent_at: now, arrives_at: after_ms.map(|ms| now.plus_ms(ms)), answer })
    }

    async fn store(&self, world: &mut Simulation) -> Result<Stored, Violation> {
        let (received, old) = (self.received.clone().unwrap(), self.row.clone().unwrap());
        let (version, lease, now) = (self.attempt.version(), self.attempt.lease(), world.env.now());
        let tokens = Tokens {
            access: Secret::new(String::new()),
            refresh: None,
            expiry: received.expiry,
            scopes: None,
            id_token: None,
        };
        let state = sealed(received.pair, &world.env);
        let account = old.account().unwrap();
        let new = refresh::renewed(&old, account, &tokens, (received.generation, state), received.at);
        let (place, bug) = (world.place(), world.bug);
        let event = received.event.clone();
        let had_moved = world.row.version != version;
        let write = move |tx: &mut Tx<'_>| match bug {
            Some(Bug::StoreUnguarded) => force(tx, new.clone()),
            Some(Bug::LeaseAsGuard) if !renewals::confirm(tx, place, version, lease, now)? => Ok(false),
            Some(Bug::StoreTwiceIsTwo) => credentials::replace(tx, &new, version),
            _ => renewals::renew(tx, &new, version, None, &event),
        };
        let stored = match world.write(write).await? {
            Ok(true) => Stored::Yes,
            Ok(false) => Stored::Moved,
            Err(Unanswered) => Stored::Failed,
        };
        world.check_stored(stored, received.pair, had_moved)?;
        Ok(stored)
    }

    async fn discard(&self, world: &mut Simulation) -> Result<(), Violation> {
        let (received, row) = (self.received.as_ref().unwrap(), self.row.as_ref().unwrap());
        let account = row.account().unwrap();
        let (app, provider, identifier) = (row.app_id, account.provider, account.identifier.clone());
        let own = row.id;
        let found =
            world.read(move |tx| credentials::find_living_of_account(tx, app, provider, &identifier, own)).await?;
        let Ok(living) = found else { return Ok(()) };
        let may = refresh::may_end(own, living, world.provider.temper.ends);
        if may || world.is_broken(Bug::DiscardWhateverLives) {
            let was_good = world.is_good();
            world.provider.revoke_pair(received.pair);
            if was_good && !world.is_good() {
                return Err(Violation("the pair that is stored was ended along with another".to_owned()));
            }
        }
        Ok(())
    }

    /// The calls it sent, by their numbers.
    pub fn calls(&self) -> impl Iterator<Item = usize> {
        self.call.iter().map(|call| call.number).chain(self.received.iter().map(|received| received.number))
    }

    /// It has a lease, or is about to have one, and has not stored what it is for.
    pub const fn is_spending(&self) -> bool {
        !matches!(self.action, Action::Read { .. } | Action::Enter | Action::Done(_))
    }

    /// It waits for an answer.
    pub const fn is_sending(&self) -> bool {
        self.call.is_some()
    }

    /// It has ended, with whatever it held.
    pub fn is_over(&self, world: &mut Simulation) {
        for number in self.calls() {
            world.sent[number].done_at = Some(world.env.now());
        }
    }

    /// The process it ran in is gone.
    pub fn dies(&self, world: &mut Simulation) {
        for number in self.calls() {
            world.sent[number].has_crashed = true;
        }
    }

    /// It ended because of the database.
    pub fn was_let_down(&self, world: &mut Simulation) {
        for number in self.calls() {
            world.sent[number].was_let_down = true;
        }
    }
}

fn event(world: &Simulation, row: &Credential, kind: Kind) -> Prepared {
    let owner = Owner::App(row.app_id);
    Event::new(&world.env, world.env.now(), owner, kind, Outcome::Allowed, Actor::Job)
        .credential(row.id, row.version + 1)
        .prepare()
}

/// A write without its guard.
fn force(tx: &mut Tx<'_>, mut new: Credential) -> grantd_store::Result<bool> {
    let Some(row) = credentials::find(tx, new.app_id, new.id)? else { return Ok(false) };
    new.version = row.version + 1;
    credentials::replace(tx, &new, row.version)
}
