//! API keys of apps.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// An API key without its text.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Key {
    pub id: String,
    pub name: String,
    pub key_prefix: String,
    /// `rk`, `ak` or `dk`.
    pub key_type: String,
    pub scopes: Vec<String>,
    pub scope_version: i64,
    pub cidr_allowlist: Option<Vec<String>>,
    pub rate_limit_rpm: Option<i64>,
    pub effective_rate_limit_rpm: Option<i64>,
    pub rate_limit_source: Option<String>,
    /// True for a key that may send caller and context unsigned (clients before 0.21).
    pub allow_unsigned_identity: bool,
    pub created_at: TimeMs,
    pub expires_at: Option<TimeMs>,
    pub deprecated_at: Option<TimeMs>,
    pub revoked_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub parent_key_id: Option<String>,
    /// `active`, `in_grace` (rotated, and still good for a while), `rotated` (its grace is over), `expired` or `revoked`.
    #[serde(default)]
    pub status: String,
    /// Until when a rotated key still works.
    #[serde(default)]
    pub grace_until: Option<TimeMs>,
    /// The key that took its place.
    #[serde(default)]
    pub successor_id: Option<String>,
}

/// A key at the only moment its text is shown.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MintedKey {
    pub api_key: String,
    #[serde(flatten)]
    pub key: Key,
}

/// `POST /api/v1/apps/{app_id}/keys`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyMint {
    pub name: String,
    /// Absent: the default of an app key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Only `rk` can be minted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_allowlist: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_rpm: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    #[serde(default)]
    pub allow_unsigned_identity: bool,
}

/// `PATCH …/keys/{key_id}`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyUpdate {
    pub name: String,
}

/// `POST …/keys/{key_id}/rotate`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {
    /// How long the old key still works; absent: seven days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<i64>,
}

/// The answer to it: the new key, at the only moment its text is shown.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RotatedKey {
    #[serde(flatten)]
    pub minted: MintedKey,
    /// The key it takes the place of.
    pub predecessor_id: String,
    /// Until when that one still works.
    pub predecessor_grace_until: TimeMs,
}
