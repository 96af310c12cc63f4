//! What happened in an app, or in all apps, counted by the hour.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// Query of `GET …/overview`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OverviewQuery {
    /// `24h`, in steps of an hour, or `30d`, in steps of a day of UTC. Absent: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
}

/// How long calls took that were allowed, from their arrival to their answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Latency {
    /// Microseconds that half of them did not exceed.
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Calls for a credential: the sum of the next three.
    pub calls: i64,
    pub allowed: i64,
    /// Refused by a rule, or because something is revoked, missing or over.
    pub denied: i64,
    /// Not answered, and nobody decided against it: a provider, or grantd itself, could not.
    pub failed: i64,
    /// Tokens that a provider renewed.
    pub refreshed: i64,
    /// And those that it did not.
    pub refresh_failed: i64,
    /// Null: no call was timed.
    pub latency: Option<Latency>,
}

/// A step of the range.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OverviewStep {
    /// When it begins.
    pub at: TimeMs,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Calls that were refused with one code.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusals {
    /// Null: a code that this version does not know.
    pub code: Option<String>,
    pub calls: i64,
}

/// `GET …/overview`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overview {
    /// `24h` or `30d`.
    pub range: String,
    /// The first moment that counts.
    pub from: TimeMs,
    /// Now.
    pub to: TimeMs,
    /// Of the whole range.
    pub total: Counts,
    /// Every step, the first one first. The last one is not over.
    pub steps: Vec<OverviewStep>,
    /// Most frequent first.
    pub refusals: Vec<Refusals>,
}
