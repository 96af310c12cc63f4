//! Grants.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `POST …/managed-secrets/{id or slug}/grants`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantCreate {
    /// `system`: the app's own; `user`; or `group`. `agent` needs agents, which are not built yet.
    pub principal_type: String,
    /// With `user`: the id of a user of the app who is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With `group`: the id of a group of the app, or with `idp` what that identity provider calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// With `group`: the identity provider whose group it is, by id or issuer. A group that is not known yet becomes known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Binds the grant to one tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A grant.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grant {
    pub grant_id: String,
    pub app_id: String,
    /// `managed_secret` or `oauth`.
    pub grant_kind: String,
    /// The secret's slug, or the provider's id.
    pub provider_id: String,
    /// Of a managed secret.
    pub managed_secret_id: Option<String>,
    /// Of a managed secret.
    pub managed_secret_name: Option<String>,
    /// Of a connected account: how its provider names it.
    pub account_identifier: Option<String>,
    /// What a human recognises the account by.
    pub account_name: Option<String>,
    /// What its user granted.
    pub scopes: Option<Vec<String>>,
    /// When the access token ends; it is renewed before.
    pub token_expires_at: Option<TimeMs>,
    /// True: only the user, connecting again, makes it usable.
    #[serde(default)]
    pub needs_reconnect: bool,
    pub credential_id: String,
    pub principal_type: String,
    /// Of a user's grant: whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Of a group's grant: whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    pub label: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    /// Why it was revoked, as given.
    pub reason: Option<String>,
    /// Of a revoked grant: what became of its tokens at their provider, as in the answer to a revoke.
    #[serde(default)]
    pub revoked_upstream: Option<String>,
    pub tenant: Option<String>,
    /// True when the tenant guard does not apply to this grant.
    pub tenant_exempt: bool,
    pub allow_any_host: bool,
    pub expires_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub revoked_at: Option<TimeMs>,
    pub version: i64,
}

/// `PATCH /api/v1/apps/{app_id}/grants/{grant_id}`: absent fields stay.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantUpdate {
    /// An empty label removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// From now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// True: its end is taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_expiry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantBinding>,
}

/// A change of a grant's tenant. Admin only.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TenantBinding {
    /// Bind to this value.
    Value(String),
    /// Unbind: the next call binds, or the secret's kind exempts.
    Clear,
    /// The guard does not apply.
    Exempt,
}

/// `POST …/grants/{grant_id}/revoke`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantRevoke {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to it.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevokedGrant {
    pub grant_id: String,
    pub revoked_at: TimeMs,
    /// What becomes of its tokens at their provider: `pending` until they are ended there, then `yes`, or `failed`; `unsupported` where
    /// there is nothing to end, as with managed secrets; `no` while other grants need them.
    pub revoked_upstream: String,
    /// True when this was the last living grant, so that the stored value was destroyed.
    pub credential_destroyed: bool,
}

/// `POST …/grants/revoke`: every grant on what it names, a page at a time. Exactly one of `provider`, `managed_secret` and `all`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GrantsRevoke {
    /// Id of a provider the app is registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Id or slug of a managed secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_secret: Option<String>,
    /// True: every grant of the app.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Kept with each grant and in its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `next_cursor` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The answer to it.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevokedGrants {
    /// How many there were before this call. Null with a cursor: it is counted once.
    pub total: Option<i64>,
    /// How many of this page are revoked.
    pub done: i64,
    /// Those of this page that could not be. They do not hold up the others.
    pub failed: Vec<RevokeFailure>,
    /// How many stored values went with their last grant.
    pub credentials_destroyed: i64,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
    pub has_more: bool,
}

/// A grant that could not be revoked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RevokeFailure {
    pub grant_id: String,
    pub error: String,
    pub message: String,
}
