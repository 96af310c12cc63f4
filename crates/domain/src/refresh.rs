//! When a token is renewed, by whom, and what an answer means for what is stored. No side effects.
//!
//! Invariants: a token that has ended is never handed out; of all callers and processes one at a time asks the token endpoint; what is
//! stored is given up only when the provider said so about this very version of it.

mod attempt;
#[cfg(test)]
mod tests;

use grantd_wire::TimeMs;
use grantd_wire::ids::{CredentialId, GenerationId};
use grantd_wire::limits::{REFRESH_MARGIN_MS, REFRESH_PAUSE_MS_MAX};

pub use attempt::{Action, Attempt, End, Stored};

use crate::account::{Account, Renewal};
use crate::grant::{Broken, Credential, CredentialOf, CredentialState};
use crate::provider::{Ends, Provider, RefreshKind, Refusal, Tokens};

/// The first pause after a failed attempt.
const PAUSE_MS: i64 = 1_000;

/// What a read of an account's token asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It can be used as it is.
    Nothing,
    /// It can be used, and should be renewed now; if that fails, it is still good.
    Soon,
    /// It cannot be used before it is renewed.
    Now,
    /// It has ended, and cannot be renewed.
    Reconnect,
}

/// What a token asks for at `now`. `updated_at`: when it was stored.
pub fn on_read(account: &Account, facts: &Provider, updated_at: TimeMs, now: TimeMs) -> Need {
    let ended = has_ended(account, now);
    if !account.is_refreshable {
        return if ended { Need::Reconnect } else { Need::Nothing };
    }
    if ended {
        return Need::Now;
    }
    let is_near_its_end = account.expiry.at().is_some_and(|end| {
        let margin_ms = REFRESH_MARGIN_MS.min(end.since(updated_at) / 4);
        now >= end.plus_ms(-margin_ms) && is_of_age(facts, updated_at, now)
    });
    // That a token was refused is only a claim: it makes a new one be asked for, and never keeps a call from the old one.
    let is_due = is_near_its_end || account.rejected_at.is_some();
    if is_due && account.renewal.not_before.is_none_or(|at| at <= now) { Need::Soon } else { Need::Nothing }
}

/// Whether a call that was given a token which has not ended begins an attempt at `now`. `next_at`: when that may be, where one failed on
/// this very version of the token. It says more than `need`, which may come of a row that was read before.
pub fn begins(need: Need, next_at: Option<TimeMs>, now: TimeMs) -> bool {
    next_at.map_or(need == Need::Soon, |at| at <= now)
}

/// Whether a token that is near its end may be renewed at `now` though nobody asked for it: the provider refuses one that is too young.
pub fn may_be_renewed_early(account: &Account, facts: &Provider, updated_at: TimeMs, now: TimeMs) -> bool {
    has_ended(account, now) || is_of_age(facts, updated_at, now)
}

fn has_ended(account: &Account, now: TimeMs) -> bool {
    account.expiry.at().is_some_and(|at| at <= now)
}

fn is_of_age(facts: &Provider, updated_at: TimeMs, now: TimeMs) -> bool {
    let min_age_ms = facts.refresh.min_age_s.map_or(0, |seconds| i64::from(seconds) * 1000);
    now.since(updated_at) >= min_age_ms
}

/// Whether somebody may begin an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Begin. `is_unconfirmed`: an earlier attempt's end was not seen.
    Mine { is_unconfirmed: bool },
    /// Somebody else is at it until then.
    Theirs { until: TimeMs },
    /// The last attempt failed; not before then.
    Later { at: TimeMs },
}

/// Whose turn it is at `now`.
pub fn turn(account: &Account, now: TimeMs) -> Turn {
    let renewal = &account.renewal;
    match (renewal.lease, renewal.not_before) {
        (Some(lease), _) if lease.until > now => Turn::Theirs { until: lease.until },
        (_, Some(at)) if at > now => Turn::Later { at },
        // A lease that ran out without a new version: nobody knows what became of it.
        (lease, _) => Turn::Mine { is_unconfirmed: lease.is_some() || renewal.unconfirmed_at.is_some() },
    }
}

/// Why an attempt brought no tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The endpoint answered, and this is what it meant.
    Refused(Refusal),
    /// Nothing was sent.
    Unsent,
    /// It was sent, and no answer came: it may have counted.
    Lost,
}

impl Failure {
    /// Whether it is the endpoint that failed, and not what it was asked for.
    pub const fn is_of_endpoint(&self) -> bool {
        !matches!(self, Self::Refused(Refusal::Over(_) | Refusal::Configuration(_)))
    }
}

/// What a failed attempt does to what is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The pair stays; the next attempt waits this long, and a fifth of it more or less.
    Keep { pause_ms: i64, is_unconfirmed: bool },
    /// The user must connect again.
    Break(Broken),
}

/// Judges a failed attempt, made after `failures` others. What it says is done only to the row that the attempt was made with.
pub fn on_failure(failure: &Failure, failures: i64, was_unconfirmed: bool, kind: RefreshKind) -> Verdict {
    let pause_ms = pause_ms(failures);
    let keep = |is_unconfirmed| Verdict::Keep { pause_ms, is_unconfirmed };
    match failure {
        // A refresh token that was spent in an attempt nobody saw the end of is refused just as one that was revoked.
        Failure::Refused(Refusal::Over(_)) if was_unconfirmed && is_spent_by_use(kind) => {
            Verdict::Break(Broken::RotationUnknown)
        }
        Failure::Refused(Refusal::Over(_)) => Verdict::Break(Broken::Reconnect),
        // The registration is wrong, and no account is to blame; it is not asked more often than a slow one.
        Failure::Refused(Refusal::Configuration(_)) => {
            Verdict::Keep { pause_ms: pause_ms.max(30_000), is_unconfirmed: was_unconfirmed }
        }
        Failure::Refused(refusal) => keep(was_unconfirmed || refusal.may_have_counted()),
        Failure::Unsent => keep(was_unconfirmed),
        Failure::Lost => keep(true),
    }
}

/// Whether a refresh token ends when it is used.
pub const fn is_spent_by_use(kind: RefreshKind) -> bool {
    matches!(kind, RefreshKind::Rotates | RefreshKind::Unknown)
}

/// The pause after `failures` failed attempts and one more.
fn pause_ms(failures: i64) -> i64 {
    let doubled = u32::try_from(failures.clamp(0, 20)).unwrap_or(0);
    (PAUSE_MS << doubled).min(REFRESH_PAUSE_MS_MAX)
}

/// A pause with up to a fifth more or less, so that what failed together does not come back together.
pub fn spread(pause_ms: i64, random: u16) -> i64 {
    let part = i64::from(random) * pause_ms * 2 / (5 * i64::from(u16::MAX));
    pause_ms - pause_ms / 5 + part
}

/// A credential as it is with the tokens that were received for the ones it has; `state` holds them sealed.
pub fn renewed(
    old: &Credential,
    account: &Account,
    tokens: &Tokens,
    (generation, state): (GenerationId, CredentialState),
    now: TimeMs,
) -> Credential {
    let account = Account {
        scopes: tokens.scopes.clone().unwrap_or_else(|| account.scopes.clone()),
        expiry: tokens.expiry,
        rejected_at: None,
        renewal: Renewal::default(),
        ..account.clone()
    };
    let of = CredentialOf::Account(Box::new(account));
    Credential { generation, state, of, version: old.version + 1, updated_at: now, ..old.clone() }
}

/// A credential whose pair is given up.
pub fn broken(old: &Credential, why: Broken, now: TimeMs) -> Credential {
    Credential { state: CredentialState::Broken(why), version: old.version + 1, updated_at: now, ..old.clone() }
}

/// Whether a pair that `own` got, and has no use for, may be ended at its provider while `living` is what its account is connected
/// with. Tokens of one consent often end together: as long as `own` has others of it, none is ended; nor where one ends the account's all.
pub fn may_end(own: CredentialId, living: Option<CredentialId>, ends: Ends) -> bool {
    living.is_none_or(|living| living != own && ends == Ends::Token)
}
