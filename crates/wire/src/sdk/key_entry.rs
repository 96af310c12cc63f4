//! Sessions in which a user gives their own key for a managed secret (wire-core 5.3).

use serde::{Deserialize, Serialize};

use super::{Lifetime, RequestedGrant};
use crate::TimeMs;

/// `POST /sdk/managed-secrets/connect/session`. No `Debug`: it carries a user token.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct KeySessionRequest {
    /// The managed secret's slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The template's id: the old way to name a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_slug: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_agent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_ttl_seconds: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Absent: they are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_user_policy_rules: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_grant: Option<RequestedGrant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_policy: Option<Lifetime>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_grant_id: Option<String>,
}

/// The answer. What is null is said to be: the client takes a missing `path` for an old server.
#[derive(Deserialize, Serialize)]
pub struct KeySession {
    pub session_token: String,
    pub connect_url: String,
    pub expires_in: i64,
    pub expires_at: TimeMs,
    /// `fast_path`, `key_entry` or `repair`.
    pub path: Option<String>,
    pub existing_grant_id: Option<String>,
    pub direct: bool,
    pub secret_slug: String,
    pub template_slug: Option<String>,
    pub agent_id: Option<String>,
    pub delegable_requested: bool,
}
