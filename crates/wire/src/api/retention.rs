//! How long an app's trail is kept, and holds that forbid to remove anything of it.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `GET /api/v1/apps/{app_id}/retention`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppRetention {
    /// Days such as `90d`, or `forever`.
    pub retention: String,
    /// True: the app goes by the setting of the install.
    pub is_default: bool,
    /// Since when the app says otherwise; null while it does not.
    pub updated_at: Option<TimeMs>,
}

/// `PUT …/retention`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppRetentionSet {
    /// From `1d` to `36500d`, or `forever`.
    pub retention: String,
}

/// `GET /api/v1/apps/{app_id}/hold`: whether anything of the app may be removed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LegalHold {
    /// True: nothing may.
    pub held: bool,
    /// Why; null without a hold, as are the others.
    pub reason: Option<String>,
    /// The operator who said so.
    pub operator_id: Option<String>,
    /// Since when.
    pub held_at: Option<TimeMs>,
}

/// `PUT …/hold`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LegalHoldSet {
    /// Why, in at most 2,000 characters.
    pub reason: String,
}
