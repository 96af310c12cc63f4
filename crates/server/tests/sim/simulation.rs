//! One world: instances, callers and attempts on one account, and what must hold of it after every step.

use grantd_domain::account::Lease;
use grantd_domain::breaker::Breaker;
use grantd_domain::env::Clock as _;
use grantd_domain::grant::{Broken, Credential, CredentialState};
use grantd_domain::provider::{self as facts, Expiry};
use grantd_domain::refresh::{End, Stored};
use grantd_store::renewals::Place;
use grantd_store::{Tx, credentials};
use grantd_wire::TimeMs;

use crate::bugs::Bug;
use crate::callers::{Caller, Outcome};
use crate::chance::{Chance, NOW, World};
use crate::fixture::{Fixture, pair};
use crate::flight::{Flight, Looked, Unanswered};
use crate::provider::{Pair, Provider, Rotation, Temper};

/// The shortest pause after an attempt that failed.
const PAUSE_MS_MIN: i64 = 800;

/// What must not be.
#[derive(Debug)]
pub struct Violation(pub String);

fn violated<T>(what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation(what.into()))
}

/// A process: what it remembers is gone when it crashes.
#[derive(Default)]
pub struct Instance {
    pub breaker: Breaker,
}

/// A call that spent a refresh token, or tried to.
pub struct Sent {
    version: i64,
    at: TimeMs,
    /// The last look of whoever sent it.
    looked: Looked,
    has_left: bool,
    /// The answer was not seen.
    pub is_lost: bool,
    /// Whoever sent it died.
    pub has_crashed: bool,
    /// The database did not take what came of it.
    pub was_let_down: bool,
    /// When the attempt ended.
    pub done_at: Option<TimeMs>,
}

impl Sent {
    /// Why what came of it may be missing.
    fn excuse(&self, now: TimeMs) -> bool {
        self.is_lost || self.has_crashed || self.was_let_down || self.is_late(now)
    }

    /// It was under way when its lease ended, although there was time for it at the last look.
    fn is_late(&self, now: TimeMs) -> bool {
        self.done_at.unwrap_or(now) >= self.looked.lease_until && self.looked.is_in_time()
    }
}

/// How an attempt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    Flying,
    Landed(End),
    /// It ended in an error, or without a word.
    Failed,
}

/// How bad it may get.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a thousand transactions, those that the database does not answer.
    pub database_permille: usize,
    /// Of a thousand steps, those at which something happens that nobody asked for.
    pub events_permille: usize,
    /// Every write is made twice, as if the first had not been answered.
    pub is_twice: bool,
}

impl Weather {
    pub const FINE: Self = Self { database_permille: 0, events_permille: 0, is_twice: false };
}

pub struct Simulation {
    pub env: World,
    pub chance: Chance,
    pub fixture: Fixture,
    pub facts: facts::Provider,
    pub provider: Provider,
    pub weather: Weather,
    pub bug: Option<Bug>,
    /// The row as it is.
    pub row: Credential,
    pub instances: Vec<Instance>,
    pub callers: Vec<Caller>,
    pub flights: Vec<Flight>,
    pub landings: Vec<Landing>,
    pub sent: Vec<Sent>,
    pub outcomes: Vec<Outcome>,
    pub steps: usize,
    trace: Option<Vec<String>>,
}

impl Simulation {
    /// A world with an account that was just connected.
    pub async fn create(fixture: &Fixture, seed: u64, temper: Temper, chance: Chance, is_traced: bool) -> Self {
        let env = World::new(seed);
        let mut provider = Provider::new(temper);
        let consented = provider.consent(env.now());
        let row = fixture.account(&env, consented, Expiry::At(provider.access_ends(consented.access)));
        let stored = row.clone();
        fixture.store.write(move |tx| credentials::insert(tx, &stored)).await.unwrap();
        Self {
            env,
            chance,
            fixture: fixture.clone(),
            facts: fixture.facts(temper),
            provider,
            weather: Weather::FINE,
            bug: None,
            row,
            instances: Vec::new(),
            callers: Vec::new(),
            flights: Vec::new(),
            landings: Vec::new(),
            sent: Vec::new(),
            outcomes: Vec::new(),
            steps: 0,
            trace: is_traced.then(Vec::new),
        }
    }

    pub fn place(&self) -> Place {
        (self.row.app_id, self.row.id)
    }

    pub fn is_broken(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether something goes wrong that is rare even in bad weather.
    pub fn has_trouble(&self, permille: usize) -> bool {
        self.weather.events_permille > 0 && self.chance.is(permille)
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.env.now().since(NOW);
            trace.push(format!("{:>4} {at:>9} ms  {}", trace.len() + 1, text()));
        }
    }

    /// What happened, in numbered lines.
    pub fn told(&self) -> String {
        self.trace.as_ref().map_or_else(String::new, |trace| trace.join("\n") + "\n")
    }

    /// Reads the row.
    pub async fn load(&mut self) -> Result<Result<Credential, Unanswered>, Violation> {
        let read = self.read(|_| Ok(())).await?;
        Ok(read.map(|()| self.row.clone()))
    }

    pub async fn read<T: Send + 'static>(
        &mut self,
        mut run: impl FnMut(&mut Tx<'_>) -> grantd_store::Result<T> + Send + 'static,
    ) -> Result<Result<T, Unanswered>, Violation> {
        if self.chance.is(self.weather.database_permille) {
            self.note(|| "    the database does not answer".to_owned());
            return Ok(Err(Unanswered));
        }
        let (app, id) = self.place();
        let read = move |tx: &mut Tx<'_>| Ok((run(tx)?, credentials::find(tx, app, id)?));
        let (read, row) = self.fixture.store.read(read).await.unwrap();
        self.check_row(row.unwrap())?;
        Ok(Ok(read))
    }

    pub async fn write<T: Send + 'static>(
        &mut self,
        mut run: impl FnMut(&mut Tx<'_>) -> grantd_store::Result<T> + Send + 'static,
    ) -> Result<Result<T, Unanswered>, Violation> {
        let is_unanswered = self.chance.is(self.weather.database_permille);
        if is_unanswered && self.chance.is(500) {
            self.note(|| "    the database does not answer, and nothing is written".to_owned());
            return Ok(Err(Unanswered));
        }
        let (app, id) = self.place();
        let is_twice = self.weather.is_twice;
        let write = move |tx: &mut Tx<'_>| {
            if is_twice {
                run(tx)?;
            }
            Ok((run(tx)?, credentials::find(tx, app, id)?))
        };
        let (written, row) = self.fixture.store.write(write).await.unwrap();
        self.check_row(row.unwrap())?;
        if is_unanswered {
            self.note(|| "    it is written, and the database does not answer".to_owned());
            return Ok(Err(Unanswered));
        }
        Ok(Ok(written))
    }

    /// What must hold of a row and the one before it.
    fn check_row(&mut self, new: Credential) -> Result<(), Violation> {
        let now = self.env.now();
        let old = std::mem::replace(&mut self.row, new);
        let new = &self.row;
        let lease = |row: &Credential| row.account().and_then(|account| account.renewal.lease);
        if new.version < old.version {
            return violated("the version fell");
        }
        if new.version == old.version {
            if new.state != old.state || new.generation != old.generation {
                return violated("the value moved, and the version did not");
            }
            let is_taken_over = |(old, new): (Lease, Lease)| old.id != new.id && old.until > now;
            if lease(&old).zip(lease(new)).is_some_and(is_taken_over) {
                return violated("a lease that lasts was taken over");
            }
            return Ok(());
        }
        if lease(new).is_some() {
            return violated("a new version has the lease of the old one");
        }
        if matches!(old.state, CredentialState::Destroyed) {
            return violated("a destroyed credential came back");
        }
        if let (Some(was), Some(is)) = (pair(&old), pair(new))
            && (is.family, is.access) <= (was.family, was.access)
        {
            return violated(format!("an older pair was written over a newer one: {is:?} over {was:?}"));
        }
        Ok(())
    }

    /// A refresh token is about to be presented; the number of that call.
    pub fn check_sent(&mut self, flight: &Flight, presented: Pair, has_left: bool) -> Result<usize, Violation> {
        let (now, version) = (self.env.now(), flight.attempt.version());
        let Some(looked) = flight.looked else {
            return violated("a refresh token was sent under a lease that was not its own when it was looked at last");
        };
        // Between its last look and the sending nothing can be asked any more: a pause there is nobody's mistake.
        let is_late = looked.lease_until <= now && looked.is_in_time();
        let rival = |other: &&Flight| {
            let lasts = other.looked.is_some_and(|looked| looked.lease_until > now);
            other.is_sending() && other.attempt.version() == version && lasts
        };
        if !is_late && self.flights.iter().any(|other| rival(&other)) {
            return violated("two calls are under way under leases that last");
        }
        let spent_by = self.provider.spent_by(presented.refresh).map(|by| &self.sent[by]);
        if !is_late && spent_by.is_some_and(|by| !by.excuse(now)) {
            return violated("a spent refresh token was presented, and nothing excuses it");
        }
        // A pause follows an attempt that is over; whoever comes after a lease that ended need not know of its call.
        let in_time = |sent: &&Sent| sent.has_left && sent.version == version && !sent.is_late(now);
        let last = self.sent.iter().rfind(in_time);
        if !is_late && last.is_some_and(|last| now.since(last.at) < PAUSE_MS_MIN) {
            return violated("the token endpoint was asked again too soon");
        }
        self.sent.push(Sent {
            version,
            at: now,
            looked,
            has_left,
            is_lost: false,
            has_crashed: false,
            was_let_down: false,
            done_at: None,
        });
        Ok(self.sent.len() - 1)
    }

    /// A pair was written, or not.
    pub fn check_stored(&self, stored: Stored, received: Pair, had_moved: bool) -> Result<(), Violation> {
        let is_there = pair(&self.row) == Some(received);
        match stored {
            Stored::Yes if !is_there => violated("a pair was said to be written, and is not there"),
            Stored::Moved if is_there => violated("a pair that is there was taken for one that is not"),
            Stored::Moved if !had_moved => violated("a pair was thrown away although the row had not moved"),
            Stored::Yes | Stored::Moved | Stored::Failed => Ok(()),
        }
    }

    /// A row was given up by who holds a lease, or held it; it was this before.
    pub fn check_given_up(&self, was: &Credential, lease: Lease, reason: Broken) -> Result<(), Violation> {
        let held = was.account().and_then(|account| account.renewal.lease);
        if held.is_some_and(|held| held.id != lease.id && held.until > self.env.now()) {
            return violated("a pair was given up that is in somebody else's hands");
        }
        let Some(pair) = pair(was) else { return Ok(()) };
        if self.provider.is_good(pair) {
            return violated("a pair that is good was given up");
        }
        if self.provider.has_ended(pair.family) {
            return Ok(());
        }
        if self.provider.temper.rotation != Rotation::Strict {
            return violated("a pair was given up whose provider forgives");
        }
        if reason != Broken::RotationUnknown {
            return violated("the user is told that the consent is over, and it is not");
        }
        Ok(())
    }

    /// Whether what is stored can be renewed.
    pub fn is_good(&self) -> bool {
        pair(&self.row).is_some_and(|pair| self.provider.is_good(pair))
    }

    /// An attempt has ended; `None`: the database did not answer.
    pub fn land(&mut self, flight: &Flight, end: Option<End>) -> Result<(), Violation> {
        let now = self.env.now();
        self.landings[flight.id] = end.map_or(Landing::Failed, Landing::Landed);
        if matches!(end, None | Some(End::Unwritten)) {
            flight.was_let_down(self);
        }
        flight.is_over(self);
        let lease = self.row.account().and_then(|account| account.renewal.lease);
        if end.is_some() && lease.is_some_and(|lease| lease.id == flight.attempt.lease().id && lease.until > now) {
            return violated("an attempt is over, and its lease lasts");
        }
        Ok(())
    }

    /// A caller is given a token, as it was decided a moment ago.
    pub fn check_handed_out(&self, row: &Credential, decided_at: TimeMs) -> Result<Pair, Violation> {
        let Some(pair) = pair(row) else { return violated("a token was handed out, and there is none") };
        if self.provider.access_ends(pair.access) <= decided_at {
            return violated("a token was handed out that had ended");
        }
        Ok(pair)
    }
}
