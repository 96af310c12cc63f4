//! From a seed to what came of it: who is there, whose turn it is, what befalls them, and what must hold once all is quiet.

use grantd_domain::env::Clock as _;
use grantd_domain::grant::CredentialState;
use grantd_domain::provider::Ends;
use grantd_wire::TimeMs;
use grantd_wire::limits::{REFRESH_LEASE_MS, REFRESH_PAUSE_MS_MAX};

use crate::bugs::Bug;
use crate::callers::{Caller, Outcome, Wish};
use crate::chance::{Chance, NOW};
use crate::fixture::{Fixture, pair};
use crate::flight::Flight;
use crate::provider::{Rotation, Temper};
use crate::simulation::{Instance, Landing, Simulation, Violation, Weather};

/// A world that takes more steps does not come to rest.
const STEPS_MAX: usize = 5_000;

/// What came of a world.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Report {
    pub steps: usize,
    pub exchanges: usize,
    pub tokens: usize,
    pub crashes: usize,
    pub broken: usize,
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.exchanges += other.exchanges;
        self.tokens += other.tokens;
        self.crashes += other.crashes;
        self.broken += other.broken;
    }
}

/// Plays the world of a seed; what must not be, with all that led there, if it is traced.
pub async fn play(fixture: &Fixture, seed: u64, bug: Option<Bug>, is_traced: bool) -> Result<Report, String> {
    let chance = Chance::new(seed);
    let temper = Temper::draw(&chance);
    let mut world = Simulation::create(fixture, seed, temper, chance, is_traced).await;
    world.bug = bug;
    world.note(|| format!("seed {seed}, {bug:?}: {temper:?}"));
    let mut report = Report::default();
    let played = play_through(&mut world, &mut report).await;
    report.steps = world.steps;
    report.exchanges = world.sent.len();
    report.tokens = world.outcomes.iter().filter(|outcome| **outcome == Outcome::Token).count();
    report.broken = usize::from(matches!(world.row.state, CredentialState::Broken(_)));
    match played {
        Ok(()) => Ok(report),
        Err(Violation(what)) => Err(format!("{}seed {seed}, {bug:?}: {what}", world.told())),
    }
}

async fn play_through(world: &mut Simulation, report: &mut Report) -> Result<(), Violation> {
    populate(world);
    while !world.is_quiet() {
        // What befalls a world while a token is being spent tells most.
        let is_spending = world.flights.iter().any(Flight::is_spending);
        let events_permille = world.weather.events_permille * if is_spending { 4 } else { 1 };
        if world.chance.is(events_permille) {
            befall(world, report);
        }
        world.step_one().await?;
        let pace_ms = if world.chance.is(10) { world.chance.within(100, 20_000) } else { world.chance.within(0, 3) };
        world.env.advance_ms(pace_ms);
    }
    rest(world).await
}

/// Instances, callers over three lives of a token, and the weather.
fn populate(world: &mut Simulation) {
    let chance = &world.chance;
    let instances = 1 + chance.below(3);
    let span_ms = world.provider.temper.life_ms * 3;
    let callers = 3 + chance.below(10);
    // Many come when a token ends: that is when it matters.
    let due = || match chance.is(500) {
        true => NOW.plus_ms(span_ms / 3 + chance.within(-50, 100)),
        false => NOW.plus_ms(chance.within(0, span_ms)),
    };
    let wish = || match chance.below(100) {
        0..8 => Wish::Renewal,
        8..12 => Wish::Rejection,
        _ => Wish::Token,
    };
    let mut callers: Vec<_> = (0..callers).map(|id| Caller::new(id, chance.below(instances), wish(), due())).collect();
    if chance.is(60) {
        callers.push(Caller::new(callers.len(), 0, Wish::Disconnection, due()));
    }
    world.weather = Weather {
        database_permille: chance.one_of(&[0, 0, 0, 20, 100]),
        events_permille: chance.one_of(&[0, 15, 60]),
        is_twice: chance.is(150),
    };
    (world.callers, world.instances) = (callers, (0..instances).map(|_| Instance::default()).collect());
}

/// Something that nobody asked for.
fn befall(world: &mut Simulation, report: &mut Report) {
    match world.chance.below(100) {
        0..25 => {
            let instance = world.chance.below(world.instances.len());
            world.crash(instance);
            report.crashes += 1;
        }
        25..45 => world.cancel(),
        45..60 => {
            // One at a time: who consents twice at once is nobody this is about.
            if world.callers.iter().all(|caller| caller.wish != Wish::Reconnection) {
                let (id, now) = (world.landings.len() + 1_000, world.env.now());
                world.callers.push(Caller::new(id, 0, Wish::Reconnection, now));
            }
        }
        60..85 => {
            if !world.flights.is_empty() {
                stop(world, world.chance.below(world.flights.len()));
            }
        }
        85..92 => {
            if let Some(pair) = pair(&world.row) {
                world.note(|| "the consent is withdrawn at the provider".to_owned());
                world.provider.revoke(pair.family);
            }
        }
        _ => world.env.advance_ms(world.chance.within(1_000, 90_000)),
    }
}

/// An attempt is stopped in the middle of what it does, often until its lease is about to end or beyond, and others find that.
fn stop(world: &mut Simulation, nth: usize) {
    let (now, flight) = (world.env.now(), &world.flights[nth]);
    let (id, lapses_at) = (flight.id, flight.attempt.lease().until);
    let chance = &world.chance;
    let until = match chance.below(10) {
        0..4 if lapses_at > now => lapses_at.plus_ms(-chance.within(1, 400)),
        4..7 if lapses_at > now => lapses_at.plus_ms(chance.within(0, 10_000)),
        _ => now.plus_ms(chance.within(5_000, 2 * REFRESH_LEASE_MS)),
    };
    world.note(|| format!("attempt {id} is stopped until {}", until.since(NOW)));
    world.flights[nth].due = until.max(world.flights[nth].due);
    let instance = world.chance.below(world.instances.len());
    let soon_ms = world.chance.one_of(&[20, 20, 3_000]);
    let comes_at = lapses_at.max(now).plus_ms(world.chance.within(0, soon_ms));
    world.callers.push(Caller::new(2_000 + world.landings.len(), instance, Wish::Token, comes_at));
}

/// With everything in order, an account that can be renewed is, with one call; and one that cannot says so.
async fn rest(world: &mut Simulation) -> Result<(), Violation> {
    world.weather = Weather::FINE;
    world.provider.temper.heal();
    let long_ms = REFRESH_LEASE_MS + 2 * REFRESH_PAUSE_MS_MAX + world.provider.temper.life_ms;
    world.env.advance_ms(long_ms);
    let (was_good, was_sent) = (world.is_good(), world.sent.len());
    world.note(|| "all is quiet; one more caller".to_owned());
    world.callers.push(Caller::new(usize::MAX, 0, Wish::Token, world.env.now()));
    while !world.is_quiet() {
        world.step_one().await?;
        world.env.advance_ms(1);
    }
    let is_ok = matches!(world.row.state, CredentialState::Ok { .. });
    let (last, calls) = (world.outcomes.last().copied(), world.sent.len() - was_sent);
    match (last, was_good) {
        (Some(Outcome::Token), true) if calls == 1 => Ok(()),
        (Some(Outcome::Refused(_)), false) if !is_ok && calls <= 1 => Ok(()),
        _ => Err(Violation(format!("at rest: {last:?} after {calls} calls, of a pair that was good: {was_good}"))),
    }
}

impl Simulation {
    pub fn is_quiet(&self) -> bool {
        self.callers.is_empty() && self.flights.is_empty()
    }

    /// One step of somebody who can take one; if nobody can, time passes until somebody does.
    pub async fn step_one(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Violation("it does not come to rest".to_owned()));
        }
        let now = self.env.now();
        let ready = |at: TimeMs| at <= now;
        let flights: Vec<usize> = (0..self.flights.len()).filter(|n| ready(self.flights[*n].due)).collect();
        let callers: Vec<usize> = (0..self.callers.len()).filter(|n| ready(self.callers[*n].ready_at(self))).collect();
        if flights.is_empty() && callers.is_empty() {
            let times = self.flights.iter().map(|flight| flight.due);
            let next = times.chain(self.callers.iter().map(|caller| caller.ready_at(self))).min();
            self.env.advance_ms(next.map_or(0, |next| next.since(now)));
            return Ok(());
        }
        let chosen = self.chance.below(flights.len() + callers.len());
        match flights.get(chosen) {
            Some(nth) => self.step_flight(*nth).await,
            None => self.step_caller(callers[chosen - flights.len()]).await,
        }
    }

    async fn step_flight(&mut self, nth: usize) -> Result<(), Violation> {
        let mut flight = self.flights.swap_remove(nth);
        let (id, instance, action) = (flight.id, flight.instance, flight.action);
        self.note(|| format!("instance {instance}, attempt {id}: {action:?}"));
        match flight.step(self).await? {
            None => self.flights.push(flight),
            Some(end) => {
                self.note(|| format!("    it is over: {end:?}"));
                self.land(&flight, end)?;
            }
        }
        Ok(())
    }

    async fn step_caller(&mut self, nth: usize) -> Result<(), Violation> {
        let mut caller = self.callers.swap_remove(nth);
        let (id, instance, wish) = (caller.id, caller.instance, caller.wish);
        self.note(|| format!("instance {instance}, caller {id}: {wish:?}"));
        match caller.step(self).await? {
            None => self.callers.push(caller),
            Some(outcome) => {
                self.note(|| format!("    it is over: {outcome:?}"));
                self.outcomes.push(outcome);
            }
        }
        Ok(())
    }

    /// A process dies, with everything in it, and is there again at once.
    pub fn crash(&mut self, instance: usize) {
        self.note(|| format!("instance {instance} crashes"));
        self.instances[instance] = Instance::default();
        self.drop_flights(|flight| flight.instance == instance);
        self.callers.retain(|caller| caller.instance != instance || !caller.has_begun());
    }

    /// Somebody hangs up.
    fn cancel(&mut self) {
        let begun: Vec<usize> = (0..self.callers.len()).filter(|nth| self.callers[*nth].has_begun()).collect();
        if begun.is_empty() {
            return;
        }
        let caller = self.callers.swap_remove(begun[self.chance.below(begun.len())]);
        self.note(|| format!("caller {} hangs up", caller.id));
        if self.is_broken(Bug::CancelWithCaller) {
            for flight in std::mem::take(&mut self.flights) {
                if flight.begun_by == caller.id {
                    // Nobody excuses it: no process died.
                    flight.is_over(self);
                    self.landings[flight.id] = Landing::Failed;
                } else {
                    self.flights.push(flight);
                }
            }
        }
    }

    fn drop_flights(&mut self, is_gone: impl Fn(&Flight) -> bool) {
        for flight in std::mem::take(&mut self.flights) {
            if is_gone(&flight) {
                flight.dies(self);
                self.landings[flight.id] = Landing::Failed;
            } else {
                self.flights.push(flight);
            }
        }
    }
}

/// A world of one process and one caller who finds that the token has ended; nothing goes wrong by chance.
pub async fn alone(fixture: &Fixture, seed: u64, rotation: Rotation) -> Simulation {
    let temper = Temper {
        rotation,
        reuse_ends_family: rotation == Rotation::Strict,
        one_consent: false,
        ends: Ends::Grant,
        life_ms: 3_600_000,
        trouble_permille: 0,
        late_permille: 0,
        is_slow: false,
    };
    let mut world = Simulation::create(fixture, seed, temper, Chance::new(seed), true).await;
    world.instances = vec![Instance::default()];
    world.env.advance_ms(3_600_000);
    world.callers.push(Caller::new(0, 0, Wish::Token, world.env.now()));
    world
}

/// Runs it to rest, and one more caller after that.
pub async fn settle(world: &mut Simulation) -> Result<(), String> {
    let mut run = async || {
        while !world.is_quiet() {
            world.step_one().await?;
        }
        rest(world).await
    };
    let settled = run().await;
    settled.map_err(|Violation(what)| format!("{}{what}", world.told()))
}
