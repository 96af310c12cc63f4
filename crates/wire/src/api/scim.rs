//! SCIM of an identity provider: where its directory tells what became of users.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `POST /api/v1/apps/{app_id}/identity-providers/{idp_id}/scim`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ScimEnable {
    /// Which attribute holds what users' tokens call `sub`: `externalId` or `userName`. Absent: `externalId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_from: Option<String>,
    /// What `active: false` does: `suspend`, until `active: true`, or `deprovision`, for good. Absent: `suspend`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivation: Option<String>,
}

/// SCIM of an identity provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scim {
    pub identity_provider_id: String,
    /// What the directory is given as the address.
    pub base_url: String,
    pub subject_from: String,
    pub deactivation: String,
    /// Users the directory told of.
    pub users: i64,
    pub created_at: TimeMs,
    /// When the token was last replaced.
    pub rotated_at: Option<TimeMs>,
}

/// SCIM with its token, which is shown this once. No `Debug`: it carries the token.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScimWithToken {
    pub token: String,
    pub scim: Scim,
}

/// The answer to `DELETE /api/v1/apps/{app_id}/identity-providers/{idp_id}/scim`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScimDisabled {
    pub identity_provider_id: String,
    pub disabled_at: TimeMs,
}
