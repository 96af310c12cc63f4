//! Those who want a token, and those who change what there is.

use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::grant::{Credential, CredentialState};
use grantd_domain::provider::Expiry;
use grantd_domain::refresh::{self, End, Need};
use grantd_store::{Tx, credentials, renewals};
use grantd_wire::TimeMs;
use grantd_wire::ids::GenerationId;
use grantd_wire::limits::{DECISIONS_MAX, REFRESH_DEADLINE_MS};

use crate::fixture::sealed;
use crate::flight::{Flight, Unanswered};
use crate::provider::Pair;
use crate::simulation::{Landing, Simulation, Violation};

/// What somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// A token, for a call.
    Token,
    /// That the token is renewed before it ends: the job.
    Renewal,
    /// To say that the provider refused the token.
    Rejection,
    /// To connect the account again.
    Reconnection,
    /// To disconnect it.
    Disconnection,
}

/// Somebody, and how far they are.
pub struct Caller {
    pub id: usize,
    pub instance: usize,
    pub wish: Wish,
    /// Does nothing before.
    pub due: TimeMs,
    at: Step,
    rounds: usize,
}

enum Step {
    Begin,
    /// For an attempt, since then.
    Waiting {
        flight: usize,
        since: TimeMs,
    },
    /// It was decided that this row's token may be used.
    Deciding {
        row: Box<Credential>,
        decided_at: TimeMs,
    },
    /// The provider issued this; the row was read at that version.
    Consented {
        pair: Pair,
        expiry: Expiry,
        row: Option<Box<Credential>>,
    },
}

/// What somebody got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Token,
    Done,
    Refused(&'static str),
}

impl Caller {
    pub const fn new(id: usize, instance: usize, wish: Wish, due: TimeMs) -> Self {
        Self { id, instance, wish, due, at: Step::Begin, rounds: 0 }
    }

    pub const fn has_begun(&self) -> bool {
        !matches!(self.at, Step::Begin)
    }

    /// Whether there is something to do now, and if not, when.
    pub fn ready_at(&self, world: &Simulation) -> TimeMs {
        match self.at {
            Step::Waiting { flight, since } if world.landings[flight] == Landing::Flying => {
                since.plus_ms(REFRESH_DEADLINE_MS.cast_signed())
            }
            _ => self.due,
        }
    }

    /// One step; the outcome, at the end.
    pub async fn step(&mut self, world: &mut Simulation) -> Result<Option<Outcome>, Violation> {
        let now = world.env.now();
        match std::mem::replace(&mut self.at, Step::Begin) {
            Step::Waiting { flight, .. } => Ok(match world.landings[flight] {
                Landing::Flying | Landing::Landed(End::Busy) => Some(Outcome::Refused("in_progress")),
                Landing::Landed(End::Moved) => None,
                Landing::Landed(End::Later { .. } | End::Closed { .. } | End::Unwritten) | Landing::Failed => {
                    Some(Outcome::Refused("not_now"))
                }
            }),
            Step::Deciding { row, decided_at } => self.hand_out(world, *row, decided_at).await,
            Step::Consented { pair, expiry, row } => self.keep_consent(world, pair, expiry, row).await,
            Step::Begin => match self.wish {
                Wish::Token => self.decide(world).await,
                Wish::Renewal => {
                    let Ok(row) = world.load().await? else { return Ok(Some(Outcome::Refused("database"))) };
                    let ends = row.account().and_then(|account| account.expiry.at());
                    let is_due = ends.is_some_and(|ends| ends < now.plus_ms(240_000));
                    if is_due && matches!(row.state, CredentialState::Ok { .. }) {
                        self.join(world, &row);
                    }
                    Ok(Some(Outcome::Done))
                }
                Wish::Rejection => {
                    let (place, version) = (world.place(), world.row.version);
                    let rejected = world.write(move |tx| renewals::reject(tx, place, version, now)).await?;
                    if rejected.is_ok_and(|is_new| is_new || world.weather.is_twice) {
                        let row = world.row.clone();
                        self.join(world, &row);
                    }
                    Ok(Some(Outcome::Done))
                }
                Wish::Reconnection => {
                    let pair = world.provider.consent(now);
                    world.note(|| format!("    the user consents again: {pair:?}"));
                    let expiry = Expiry::At(now.plus_ms(world.provider.temper.life_ms));
                    self.at = Step::Consented { pair, expiry, row: None };
                    Ok(None)
                }
                Wish::Disconnection => {
                    let (app, id) = world.place();
                    let destroy = move |tx: &mut Tx<'_>| credentials::destroy_if_unused(tx, app, id, now);
                    let _ = world.write(destroy).await?;
                    Ok(Some(Outcome::Done))
                }
            },
        }
    }

    /// As a release does: read, decide, and hand out only what is confirmed in a write of its own.
    async fn decide(&mut self, world: &mut Simulation) -> Result<Option<Outcome>, Violation> {
        self.rounds += 1;
        if self.rounds > DECISIONS_MAX {
            return Ok(Some(Outcome::Refused("busy")));
        }
        let Ok(row) = world.load().await? else { return Ok(Some(Outcome::Refused("database"))) };
        let now = world.env.now();
        match row.state {
            CredentialState::Ok { .. } => {}
            CredentialState::Broken(_) => return Ok(Some(Outcome::Refused("broken"))),
            CredentialState::Destroyed => return Ok(Some(Outcome::Refused("destroyed"))),
        }
        let need = refresh::on_read(row.account().unwrap(), &world.facts, row.updated_at, now);
        world.note(|| format!("    at version {} it needs: {need:?}", row.version));
        match need {
            Need::Reconnect => return Ok(Some(Outcome::Refused("ended"))),
            Need::Now => {
                self.at = Step::Waiting { flight: self.join(world, &row), since: now };
                return Ok(None);
            }
            Need::Soon => drop(self.join(world, &row)),
            Need::Nothing => {}
        }
        self.at = Step::Deciding { row: Box::new(row), decided_at: now };
        Ok(None)
    }

    async fn hand_out(
        &mut self,
        world: &mut Simulation,
        row: Credential,
        decided_at: TimeMs,
    ) -> Result<Option<Outcome>, Violation> {
        let Ok(now) = world.load().await? else { return Ok(Some(Outcome::Refused("database"))) };
        if now.version != row.version {
            return Ok(None);
        }
        let pair = world.check_handed_out(&row, decided_at)?;
        world.note(|| format!("    access token {} is handed out", pair.access));
        Ok(Some(Outcome::Token))
    }

    /// Joins the attempt of its instance, or begins one.
    fn join(&self, world: &mut Simulation, row: &Credential) -> usize {
        if let Some(flight) = world.flights.iter().find(|flight| flight.instance == self.instance) {
            return flight.id;
        }
        let id = world.landings.len();
        let flight = Flight::begin(world, id, self.instance, self.id, row);
        world.landings.push(Landing::Flying);
        world.flights.push(flight);
        id
    }

    async fn keep_consent(
        &mut self,
        world: &mut Simulation,
        pair: Pair,
        expiry: Expiry,
        row: Option<Box<Credential>>,
    ) -> Result<Option<Outcome>, Violation> {
        let Some(row) = row else {
            let row = world.load().await?;
            let is_there = |row: &Credential| !matches!(row.state, CredentialState::Destroyed);
            self.rounds += 1;
            let Some(row) = row.ok().filter(is_there).filter(|_| self.rounds <= DECISIONS_MAX) else {
                return Ok(Some(Outcome::Refused("not_connected")));
            };
            self.at = Step::Consented { pair, expiry, row: Some(Box::new(row)) };
            return Ok(None);
        };
        let env = &world.env;
        let mut new = (*row).clone();
        let version = row.version;
        (new.version, new.state, new.updated_at) = (version + 1, sealed(pair, env), env.now());
        new.generation = GenerationId::from_uuid(new_uuid(env));
        if let grantd_domain::grant::CredentialOf::Account(account) = &mut new.of {
            account.expiry = expiry;
        }
        let is_twice = std::mem::take(&mut world.weather.is_twice);
        let kept = world.write(move |tx| credentials::replace(tx, &new, version)).await;
        world.weather.is_twice = is_twice;
        match kept? {
            Ok(true) => Ok(Some(Outcome::Done)),
            Ok(false) => {
                self.at = Step::Consented { pair, expiry, row: None };
                Ok(None)
            }
            Err(Unanswered) => Ok(Some(Outcome::Refused("database"))),
        }
    }
}
