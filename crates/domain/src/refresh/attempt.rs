//! One attempt to renew a token, as a machine without store, network and clock: it says what is to be done next, and is told what came
//! of it. The server performs it, and so does the simulator that looks for an order of things in which a token is lost.
//!
//! Every [`Action`] is one transaction of the store, one call of the provider, or one look at what this process remembers. Whatever
//! else can happen, a crash included, may happen between any two of them.

use grantd_wire::TimeMs;
use grantd_wire::ids::LeaseId;
use grantd_wire::limits::{REFRESH_DEADLINE_MS, REFRESH_LEASE_MS};

use super::{Failure, Turn, Verdict, on_failure, spread, turn};
use crate::account::{Lease, Renewal};
use crate::env::{Env, new_uuid, random};
use crate::grant::{Broken, Credential, CredentialState};
use crate::provider::RefreshKind;

/// How long one waits before looking again whether somebody else has renewed a token.
const LOOK_EVERY_MS: i64 = 50;
/// How long one waits before the writing of a pair that has been received is tried again.
const WRITE_EVERY_MS: i64 = 500;

/// An attempt under way.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Of the row it began with. Every write is guarded by it.
    version: i64,
    begun: TimeMs,
    /// The same id for the whole attempt, so that a claim that is made twice is one claim.
    lease: Lease,
    kind: RefreshKind,
    /// How the renewal stood when the row was read.
    seen: Renewal,
    is_unconfirmed: bool,
}

/// What is to be done next. Each says which method of [`Attempt`] is told the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// After this long, read the row as it is then: [`Attempt::on_found`].
    Read { after_ms: i64 },
    /// Ask this process's breaker for the token endpoint: [`Attempt::on_entered`].
    Enter,
    /// Commit the intent to use the refresh token: [`Attempt::on_claimed`].
    Claim { is_unconfirmed: bool, now: TimeMs },
    /// Make the call that spends the refresh token, and send nothing: [`Attempt::on_prepared`].
    Prepare,
    /// Begin the lease anew, straight before the call is sent, if the attempt is still this one's: [`Attempt::on_confirmed`].
    Confirm { now: TimeMs },
    /// Send the call: [`Attempt::on_answer`].
    Exchange,
    /// After this long, make the new pair durable: [`Attempt::on_stored`].
    Store { after_ms: i64 },
    /// Give the stored pair up: [`Attempt::on_given_up`].
    GiveUp(Broken),
    /// End the attempt, and leave the stored pair as it is: [`Attempt::on_kept`].
    Keep { is_unconfirmed: bool, not_before: TimeMs, now: TimeMs },
    /// End the new pair at its provider, if [`super::may_end`]: [`Attempt::on_discarded`].
    Discard,
    /// Nothing.
    Done(End),
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The row has moved: look at it again.
    Moved,
    /// Somebody else is at it, for longer than a caller waits.
    Busy,
    /// It failed now or a while ago; not before then.
    Later { at: TimeMs },
    /// The token endpoint is left alone until then.
    Closed { until: TimeMs },
    /// A pair was received, and could not be written as long as the lease lasted.
    Unwritten,
}

/// What became of the writing of a new pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    Yes,
    /// The row is no longer what the attempt began with.
    Moved,
    /// The database did not say yes; it may have happened all the same.
    Failed,
}

impl Attempt {
    /// Begins one for a row as it was at `version`.
    pub fn begin(version: i64, env: &dyn Env) -> (Self, Action) {
        let begun = env.now();
        let lease = Lease { id: LeaseId::from_uuid(new_uuid(env)), until: begun };
        let attempt =
            Self { version, begun, lease, kind: RefreshKind::Unknown, seen: Renewal::default(), is_unconfirmed: false };
        (attempt, Action::Read { after_ms: 0 })
    }

    /// The version of the row that it began with.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// What it claims, and holds then.
    pub const fn lease(&self) -> Lease {
        self.lease
    }

    /// How the renewal stood when the row was read. A claim holds for that only: whoever was at it since may have spent the refresh token.
    pub const fn seen(&self) -> Renewal {
        self.seen
    }

    /// The row as it is now, and what becomes of its provider's refresh tokens.
    pub fn on_found(&mut self, found: Option<(&Credential, RefreshKind)>, now: TimeMs) -> Action {
        let same = found.filter(|(credential, _)| {
            credential.version == self.version && matches!(credential.state, CredentialState::Ok { .. })
        });
        let account = same.and_then(|(credential, kind)| Some((credential.account()?, kind)));
        let Some((account, kind)) = account.filter(|(account, _)| account.is_refreshable) else {
            return Action::Done(End::Moved);
        };
        match turn(account, now) {
            Turn::Theirs { .. } if now.since(self.begun) >= REFRESH_DEADLINE_MS.cast_signed() => {
                Action::Done(End::Busy)
            }
            Turn::Theirs { .. } => Action::Read { after_ms: LOOK_EVERY_MS },
            Turn::Later { at } => Action::Done(End::Later { at }),
            Turn::Mine { is_unconfirmed } => {
                (self.kind, self.seen, self.is_unconfirmed) = (kind, account.renewal, is_unconfirmed);
                Action::Enter
            }
        }
    }

    /// Whether the breaker lets a call through, or when it will.
    pub fn on_entered(&mut self, entered: Result<(), TimeMs>, now: TimeMs) -> Action {
        if let Err(until) = entered {
            return Action::Done(End::Closed { until });
        }
        self.lease.until = now.plus_ms(REFRESH_LEASE_MS);
        Action::Claim { is_unconfirmed: self.is_unconfirmed, now }
    }

    /// Whether the intent is committed; if not, the row has moved, or is in somebody's hands.
    pub const fn on_claimed(&mut self, is_claimed: bool) -> Action {
        if is_claimed { Action::Prepare } else { Action::Read { after_ms: 0 } }
    }

    /// Whether there is a call to send.
    pub fn on_prepared(&mut self, is_prepared: bool, env: &dyn Env) -> Action {
        if !is_prepared {
            // Nothing was sent: the next attempt need not wait for the lease to lapse.
            return self.failed(&Failure::Unsent, env);
        }
        let now = env.now();
        self.lease.until = now.plus_ms(REFRESH_LEASE_MS);
        Action::Confirm { now }
    }

    /// Whether the attempt is still this one's, and its lease begun anew: what took long before may have cost it. That write may have taken
    /// long, too, and a call that is answered after the lease is one that others make again.
    pub fn on_confirmed(&mut self, is_mine: bool, env: &dyn Env) -> Action {
        if !is_mine {
            return Action::Done(End::Moved);
        }
        let is_long_enough = self.lease.until.since(env.now()) >= REFRESH_DEADLINE_MS.cast_signed();
        if is_long_enough { Action::Exchange } else { self.failed(&Failure::Unsent, env) }
    }

    /// What the provider answered.
    pub fn on_answer(&mut self, answer: Result<(), &Failure>, env: &dyn Env) -> Action {
        match answer {
            Ok(()) => Action::Store { after_ms: 0 },
            Err(failure) => self.failed(failure, env),
        }
    }

    fn failed(&self, failure: &Failure, env: &dyn Env) -> Action {
        match on_failure(failure, self.seen.failures, self.is_unconfirmed, self.kind) {
            Verdict::Break(broken) => Action::GiveUp(broken),
            Verdict::Keep { pause_ms, is_unconfirmed } => {
                let (now, pause_ms) = (env.now(), spread(pause_ms, u16::from_le_bytes(random::<2>(env))));
                Action::Keep { is_unconfirmed, not_before: now.plus_ms(pause_ms), now }
            }
        }
    }

    /// What became of the new pair. A database that cannot be written is tried again as long as the lease lasts: a spent refresh token
    /// makes the new one the only one there is.
    pub fn on_stored(&mut self, stored: Stored, now: TimeMs) -> Action {
        match stored {
            Stored::Yes => Action::Done(End::Moved),
            // The account was disconnected, or connected again, meanwhile. Nobody will use the new pair.
            Stored::Moved => Action::Discard,
            Stored::Failed if now >= self.lease.until => Action::Done(End::Unwritten),
            Stored::Failed => Action::Store { after_ms: WRITE_EVERY_MS },
        }
    }

    /// Given up or not, the row has moved: one that had moved before was a race that was lost, not a consent that is over.
    pub const fn on_given_up(&mut self) -> Action {
        Action::Done(End::Moved)
    }

    /// Whether the row was still this attempt's.
    pub const fn on_kept(&mut self, is_kept: bool, not_before: TimeMs) -> Action {
        Action::Done(if is_kept { End::Later { at: not_before } } else { End::Moved })
    }

    /// The pair that was in nobody's hands is ended, or left to itself.
    pub const fn on_discarded(&mut self) -> Action {
        Action::Done(End::Moved)
    }
}
