//! Operators and their personal access tokens.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `GET /api/v1/whoami`: who the personal access token speaks for.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Whoami {
    pub operator_id: String,
    pub organization_id: String,
    pub email: String,
    pub role: String,
    pub pat_id: String,
    pub expires_at: Option<TimeMs>,
}

/// An operator: who administers.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Operator {
    pub id: String,
    pub email: String,
    /// `viewer`, `developer` or `admin`.
    pub role: String,
    pub created_at: TimeMs,
    /// Since when nothing can be done with their tokens.
    pub disabled_at: Option<TimeMs>,
}

/// `POST /api/v1/operators`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OperatorCreate {
    /// Stored in lower case, and one operator's only.
    pub email: String,
    pub role: String,
}

/// `PATCH /api/v1/operators/{operator_id}`: absent fields stay.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OperatorUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// `POST /api/v1/operators/{operator_id}/login-link`: signs the operator in to the portal, once. Whoever opens it is them.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginLink {
    pub operator_id: String,
    pub email: String,
    pub url: String,
    pub expires_at: TimeMs,
}

/// A personal access token without its text.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Token {
    pub id: String,
    pub operator_id: String,
    pub name: String,
    /// What it may do at most; its owner's role bounds it, too.
    pub role: String,
    /// The apps it is for; null: all of the organization.
    pub app_ids: Option<Vec<String>>,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    pub created_at: TimeMs,
    pub expires_at: Option<TimeMs>,
    pub revoked_at: Option<TimeMs>,
}

/// A token at the only moment its text is shown.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MintedToken {
    pub token: String,
    #[serde(flatten)]
    pub pat: Token,
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    pub name: String,
    /// Absent: as much as owner and maker may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Absent: every app of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_ids: Option<Vec<String>>,
    /// Absent: 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Whose; absent: the caller's own. Of others: admin only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_id: Option<String>,
}

/// Query of `GET /api/v1/tokens`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokensQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Whose; absent: the caller's own. Of others: admin only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}
