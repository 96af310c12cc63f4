//! The audit trail.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::TimeMs;

/// An audit event: core and private fields, flat, plus `hash`.
pub type Event = Map<String, Value>;

/// Query of `GET …/audit/events`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The id of a request, which stands in answers and logs; what happened in it is looked for in the minute after it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `name=value`; several are separated by newlines in one parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `jsonl` or `csv`; only on the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Query of `GET …/audit/checkpoints`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckpointsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `GET …/audit/checkpoints`: newest first.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckpointPage {
    pub items: Vec<Checkpoint>,
    pub next_cursor: Option<String>,
    pub has_more: bool,
}

/// A signed checkpoint of a trail, as a line of an export has it: kept elsewhere, later exports can be held against it.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checkpoint {
    /// `checkpoint`.
    pub r#type: String,
    /// What is signed, in its canonical form: `app_id`, `n`, `previous`, `at`, `heads`, `pruned_to`.
    pub body: Map<String, Value>,
    /// The key that signed it.
    pub kid: String,
    /// Ed25519, in standard base64.
    pub signature: String,
}

/// `POST …/audit/erase`: whose private part goes. Every filter given must match; `event` stands alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Erase {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `name=value` of an indexed context key; several are separated by newlines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Why; kept in the trail, so it names nobody who is to be forgotten.
    pub reason: String,
}

/// What an erasure did.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Erased {
    /// Events that lost their private part in this call.
    pub erased: i64,
    /// True: there are more. Ask again.
    pub has_more: bool,
}
