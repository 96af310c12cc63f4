//! Managed secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::object::objects;
use crate::sdk::Injection;

/// How a managed secret is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CredentialType {
    BearerToken,
    HeaderKey,
    BasicAuth,
    AwsSigV4,
}

/// A managed secret without its value.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Secret {
    pub id: String,
    pub slug: String,
    pub name: String,
    /// The template it was made from.
    #[serde(default)]
    pub template: Option<String>,
    pub credential_type: CredentialType,
    pub injection_header: String,
    pub injection_format: String,
    pub injections: Vec<Injection>,
    /// Names of the stored fields beside the value.
    pub fields: Vec<String>,
    pub allowed_hosts: Vec<String>,
    /// True means: the credential may go anywhere. A warning.
    pub allow_any_host: bool,
    /// The living credential; null when it was destroyed with its last grant.
    pub credential_id: Option<String>,
    pub token_generation: Option<String>,
    pub created_at: TimeMs,
    pub rotated_at: Option<TimeMs>,
    pub version: i64,
}

/// A secret just made, with its base grant.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatedSecret {
    #[serde(flatten)]
    pub secret: Secret,
    /// The base grant: principal `system`.
    pub grant_id: String,
}

/// `POST /api/v1/apps/{app_id}/managed-secrets`. No `Debug`: it carries the value.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretCreate {
    pub name: String,
    /// Completes what is left out here: type, header, format, injections, fields, hosts. `custom` is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Absent: the template's, else `bearer_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_type: Option<CredentialType>,
    pub value: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection_format: Option<String>,
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub injections: Vec<Injection>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_any_host: bool,
}

/// `POST …/managed-secrets/{id or slug}/rotate`. Absent `fields` keep the stored ones. No `Debug`: it carries the value.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretRotate {
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
}

/// `POST …/managed-secrets/{id or slug}/test`: what the vendor said to the template's harmless call.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretTest {
    pub slug: String,
    pub template: String,
    /// Null when the answer does not tell.
    pub works: Option<bool>,
    /// `works`, `refused`, `unclear`, `rate_limited`, `vendor_failed`, `unexpected`, `unreachable`, `tls_failed` or `timed_out`.
    pub result: String,
    /// The result in words.
    pub message: String,
    pub method: String,
    pub host: String,
    /// The vendor's status; null when there was no answer.
    pub status: Option<u16>,
    pub duration_ms: i64,
    pub event_id: String,
}

/// `PUT …/managed-secrets/{id or slug}/allowed-hosts`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AllowedHosts {
    pub allowed_hosts: Vec<String>,
}

/// The answer to `DELETE …/managed-secrets/{id or slug}`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeletedSecret {
    pub id: String,
    pub slug: String,
    pub deleted_at: TimeMs,
    /// Grants that were living until then.
    pub grants_revoked: i64,
    /// True when a stored value was destroyed; false when there was none any more.
    pub credential_destroyed: bool,
}

/// An item of `GET …/managed-secrets/{id or slug}/access`: who can use the secret now.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretAccess {
    pub grant_id: String,
    pub principal_type: String,
    pub label: Option<String>,
    pub tenant: Option<String>,
    pub expires_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub created_at: TimeMs,
}
