//! The webhook of an identity provider: where its vendor tells what became of users.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `POST /api/v1/apps/{app_id}/identity-providers/{idp_id}/webhook`. No `Debug`: it may carry a secret.
#[derive(Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdpWebhookEnable {
    /// The signing secret that Clerk shows. The others have none: a token is made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What holds users' `sub`: `id`, the default, or, of Okta alone, `login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_from: Option<String>,
}

/// `POST /api/v1/apps/{app_id}/identity-providers/{idp_id}/webhook/rotate`. No `Debug`: it may carry a secret.
#[derive(Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdpWebhookRotate {
    /// The new signing secret that Clerk shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The webhook of an identity provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdpWebhook {
    pub identity_provider_id: String,
    /// What the vendor is given as the address.
    pub url: String,
    /// `auth0`, `clerk` or `okta`.
    pub vendor: String,
    /// How what comes is proved: `token` or `signature`.
    pub proof: String,
    pub subject_from: String,
    pub created_at: TimeMs,
    /// When the token or secret was last replaced.
    pub rotated_at: Option<TimeMs>,
    /// When an event last came that named a user of the app.
    pub last_event_at: Option<TimeMs>,
}

/// A webhook with its token, which is shown this once. No `Debug`: it carries the token.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdpWebhookWithToken {
    /// Null, where the vendor has a secret of its own.
    pub token: Option<String>,
    pub webhook: IdpWebhook,
}

/// The answer to `DELETE /api/v1/apps/{app_id}/identity-providers/{idp_id}/webhook`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdpWebhookDisabled {
    pub identity_provider_id: String,
    pub disabled_at: TimeMs,
}
