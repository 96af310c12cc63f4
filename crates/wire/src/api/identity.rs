//! Identity providers, users and groups.

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::object::opt_object;

/// Which claims say what. A name is that of a claim; one that begins with `/` is a JSON pointer into nested ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// `sub`, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `aud`, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Empty, here and below: tokens do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
}

/// An identity provider of an app.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityProvider {
    pub id: String,
    pub name: String,
    pub preset: String,
    pub issuer: String,
    pub audiences: Vec<String>,
    pub algorithms: Vec<String>,
    pub claims: Claims,
    pub jwks_url: String,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub userinfo_url: Option<String>,
    pub client_id: Option<String>,
    pub has_client_secret: bool,
    /// Asked for when a user signs in.
    pub scopes: Vec<String>,
    /// `active`, or `inactive`: its tokens are refused.
    pub state: String,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub version: i64,
}

/// Registers an identity provider. Without `jwks_url` the issuer's discovery document is fetched once, now.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderCreate {
    /// `auth0`, `clerk`, `okta`, `workos`, `keycloak`, `entra`, `cognito`, `google`, `firebase`, `supabase`, or `oidc`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Exactly as in `iss` of its tokens.
    pub issuer: String,
    /// One of them must be in a token. Only `clerk` and `workos`, whose issuers are of one application alone, may leave it empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA; the preset's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<String>>,
    #[serde(default, deserialize_with = "opt_object", skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Only sign-in needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// Looks at an issuer, and registers nothing.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderDiscover {
    /// Exactly as in `iss` of its tokens.
    pub issuer: String,
    /// What it would be registered as; `oidc` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
}

/// What an issuer says of itself, and what is to be said of that.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiscoveredIdentityProvider {
    /// Nothing was found that would keep its tokens from counting.
    pub ok: bool,
    pub issuer: String,
    pub preset: String,
    pub jwks_url: Option<String>,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub userinfo_url: Option<String>,
    /// Keys that can prove a token.
    pub keys: Option<i64>,
    pub findings: Vec<IdentityProviderFinding>,
}

/// Something that was found.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityProviderFinding {
    pub id: String,
    /// `ok`, `warning` or `failure`.
    pub level: String,
    pub what: String,
    /// What to do; null when there is nothing to do.
    pub fix: Option<String>,
}

/// Changes an identity provider. Absent fields stay. The issuer stays, too: users are known by it.
#[derive(Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityProviderUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<String>>,
    #[serde(default, deserialize_with = "opt_object", skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Empty: none from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// `active` or `inactive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Reads the issuer's discovery document anew: where its keys are, and where users sign in. Not with `jwks_url`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rediscover: bool,
}

/// What became of a deletion.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeletedIdentityProvider {
    pub id: String,
    pub issuer: String,
    pub deleted_at: TimeMs,
}

/// An end user of an app.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    pub id: String,
    pub idp_id: String,
    /// As the identity provider names the user.
    pub subject: String,
    /// `active`, `suspended` or `deprovisioned`.
    pub user_status: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub roles: Vec<String>,
    pub created_at: TimeMs,
    /// To the hour.
    pub last_seen_at: Option<TimeMs>,
    pub deprovisioned_at: Option<TimeMs>,
    pub version: i64,
}

/// What a deprovisioning ended.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeprovisionedUser {
    pub id: String,
    pub deprovisioned_at: TimeMs,
    pub grants_revoked: i64,
}

/// A group of users.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Group {
    pub id: String,
    pub idp_id: String,
    /// As the identity provider names it.
    pub external_group_id: String,
    pub name: String,
    pub members: i64,
    pub created_at: TimeMs,
    pub version: i64,
}
