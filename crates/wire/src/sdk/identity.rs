//! Who a call is of: `/sdk/identity/resolve` and `/sdk/identity/assert`.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `POST /sdk/identity/resolve`. No `Debug`, here and below: it may carry a user's token.
#[derive(Deserialize, Serialize)]
pub struct IdentityRequest {
    /// With the user's name and e-mail address.
    #[serde(default)]
    pub include_profile: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
    /// A user who delegated to the agent that calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user_id: Option<String>,
}

/// `POST /sdk/identity/assert`.
#[derive(Deserialize, Serialize)]
pub struct AssertionRequest {
    #[serde(default)]
    pub include_profile: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user_id: Option<String>,
    /// Who will check the token: a URI.
    pub audience: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
}

/// Who a call is of.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct Identity {
    pub app_id: String,
    #[serde(default)]
    pub app_user_id: Option<String>,
    /// As the identity provider calls the user.
    #[serde(default)]
    pub external_subject_id: Option<String>,
    #[serde(default)]
    pub idp_id: Option<String>,
    /// `active` or `suspended`.
    #[serde(default)]
    pub user_status: Option<String>,
    #[serde(default)]
    pub group_ids: Vec<String>,
    #[serde(default)]
    pub agent_id: Option<String>,
    #[serde(default)]
    pub actor_id: Option<String>,
    /// Of the call's context, given back.
    #[serde(default)]
    pub trace: Option<Trace>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub display_name: Option<String>,
}

/// What the caller said its call belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct Trace {
    #[serde(default)]
    pub run_id: Option<String>,
    #[serde(default)]
    pub thread_id: Option<String>,
}

/// The answer to `POST /sdk/identity/assert`. No `Debug`: whoever holds the token is taken for the one it is of.
#[derive(Deserialize, Serialize)]
pub struct AssertionAnswer {
    /// A compact JWS, signed by ES256.
    pub token: String,
    pub expires_at: TimeMs,
    pub identity: Identity,
}
