//! What the webhooks of identity providers tell of users, and what follows from it.
//!
//! Invariants: only what the vendor says happened counts, and nothing of it names another identity provider's users; what is older than
//! what is known of a user changes nothing, so an event that comes twice, late or out of order does no harm.

mod auth0;
mod clerk;
mod okta;
pub mod signature;
#[cfg(test)]
mod tests;

use grantd_wire::{TimeMs, limits};
use serde_json::Value;

use crate::identity::{User, UserStatus};

/// Whose webhooks they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    Auth0,
    Clerk,
    Okta,
}

impl Vendor {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Auth0, Self::Clerk, Self::Okta];

    /// The stable text, which is that of the preset.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth0 => "auth0",
            Self::Clerk => "clerk",
            Self::Okta => "okta",
        }
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == text)
    }

    /// Whether it signs what it sends, with a secret of its own making. The others send a token that is made here.
    pub const fn signs(self) -> bool {
        matches!(self, Self::Clerk)
    }
}

/// What of an event holds what users' tokens call `sub`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubjectFrom {
    Id,
    /// The name that users sign in with, which only Okta tells.
    Login,
}

impl SubjectFrom {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Login => "login",
        }
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Id, Self::Login].into_iter().find(|from| from.as_str() == text)
    }
}

/// What became of a user at the vendor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Until the vendor says otherwise.
    Blocked,
    Unblocked,
    Deleted,
}

/// One event of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// What the vendor calls the event.
    pub id: String,
    /// When it happened, by the vendor's clock.
    pub at: TimeMs,
    pub subject: String,
    pub change: Change,
}

/// A body that is not what the vendor sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const NO_JSON: Malformed = Malformed("The body must be JSON, as the vendor sends it.");
const TOO_MANY: Malformed = Malformed("The body holds too many events. Have the vendor send smaller batches.");

/// The events of users in an authenticated body, as they came. What is of something else is passed over, and so is what does not
/// name its user, its time and itself.
pub fn read(
    vendor: Vendor,
    subject_from: SubjectFrom,
    body: &[u8],
    message: &Message<'_>,
) -> Result<Vec<Told>, Malformed> {
    match vendor {
        Vendor::Auth0 => auth0::read(body),
        Vendor::Clerk => clerk::read(body, message),
        Vendor::Okta => okta::read(body, subject_from),
    }
}

/// What the headers of a signed message say, once its signature is proved.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub id: &'a str,
    pub at: TimeMs,
}

/// A text of an event: there, and neither empty nor longer than what is kept of it.
fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    let text = value.pointer(pointer)?.as_str()?;
    (!text.is_empty() && text.chars().count() <= limits::SUBJECT_CHARS_MAX).then_some(text)
}

fn time(value: &Value, pointer: &str) -> Option<TimeMs> {
    TimeMs::parse(value.pointer(pointer)?.as_str()?)
}

fn json(body: &[u8]) -> Result<Value, Malformed> {
    serde_json::from_slice(body).map_err(|_| NO_JSON)
}

fn bounded(events: &[Value]) -> Result<&[Value], Malformed> {
    if events.len() > limits::WEBHOOK_EVENTS_MAX { Err(TOO_MANY) } else { Ok(events) }
}

/// What is known of a user by webhook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// When the newest event happened that counted.
    pub told_at: TimeMs,
    /// The webhook suspended the user, and nobody else.
    pub suspended_at: Option<TimeMs>,
}

/// What follows from an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Suspend,
    /// Takes back what the webhook did, and nothing that somebody else did.
    Resume,
    Deprovision,
    /// There is nobody to end. Who had a token before, and comes with it now, is not let in: see [`gone_at`].
    RememberGone,
    /// There is nobody to suspend yet: who is seen from now on is suspended at once.
    RememberBlocked,
    ForgetBlocked,
    /// It changes nothing, but older ones do not count after it.
    Remember,
    Nothing,
}

/// A token that was issued so much later than its user was deleted is of another user of that name. Less may be the same moment,
/// told by two clocks of the vendor.
const REVIVED_AFTER_MS: i64 = 60 * 60 * 1000;

/// Until when tokens are of somebody who was deleted: those that were issued later are of another user of that name.
pub fn gone_at(told: &Told, now: TimeMs) -> TimeMs {
    told.at.plus_ms(REVIVED_AFTER_MS).min(now)
}

/// What to do with the user that an event names, if there is one.
pub fn decide(user: Option<&User>, mark: Option<&Mark>, told: &Told) -> Act {
    let Some(user) = user.filter(|user| !matches!(user.status, UserStatus::Deprovisioned { .. })) else {
        return match told.change {
            Change::Deleted => Act::RememberGone,
            Change::Blocked => Act::RememberBlocked,
            Change::Unblocked => Act::ForgetBlocked,
        };
    };
    if mark.is_some_and(|mark| told.at < mark.told_at) {
        return Act::Nothing;
    }
    match told.change {
        Change::Deleted if user.told_at.is_some_and(|token| token.since(told.at) > REVIVED_AFTER_MS) => Act::Nothing,
        Change::Deleted => Act::Deprovision,
        Change::Blocked if user.status == UserStatus::Active => Act::Suspend,
        Change::Unblocked if mark.is_some_and(|mark| mark.suspended_at.is_some()) => Act::Resume,
        Change::Blocked | Change::Unblocked => Act::Remember,
    }
}
