//! Bodies of `/api/v1`: the management API behind the CLI, the portal and automation.
//!
//! Requests refuse unknown fields by name. Lists are `{"items","total","limit","offset","has_more"}`; audit lists page by
//! cursor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::TimeMs;
use crate::object::objects;
use crate::sdk::Injection;

/// A page counted by offset.
#[derive(Debug, Deserialize, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: i64,
    pub limit: i64,
    pub offset: i64,
    pub has_more: bool,
}

/// A page that continues at a cursor.
#[derive(Debug, Deserialize, Serialize)]
pub struct CursorPage<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
    pub has_more: bool,
    /// True when a filter could not use an index and only the newest events were searched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial_scan: bool,
}

/// An app's tenant guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantMode {
    Off,
    Observe,
    Enforce,
}

/// Whether `/sdk/token` hands out raw credentials of an app.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retrieve {
    On,
    Off,
}

/// An app.
#[derive(Debug, Deserialize, Serialize)]
pub struct App {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub website_url: Option<String>,
    /// `active`, `archived` or `deleted`.
    pub state: String,
    pub tenant_key: Option<String>,
    pub tenant_mode: TenantMode,
    pub retrieve: Retrieve,
    pub indexed_context_keys: Vec<String>,
    pub created_at: TimeMs,
    pub version: i64,
}

/// `POST /api/v1/apps`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppCreate {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
}

/// `PATCH /api/v1/apps/{app_id}`: absent fields stay.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_mode: Option<TenantMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<Retrieve>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexed_context_keys: Option<Vec<String>>,
}

/// An API key without its text.
#[derive(Debug, Deserialize, Serialize)]
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
}

/// A key at the only moment its text is shown.
#[derive(Deserialize, Serialize)]
pub struct MintedKey {
    pub api_key: String,
    #[serde(flatten)]
    pub key: Key,
}

/// `POST /api/v1/apps/{app_id}/keys`.
#[derive(Debug, Default, Deserialize, Serialize)]
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

/// How a managed secret is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialType {
    BearerToken,
    HeaderKey,
    BasicAuth,
    AwsSigV4,
}

/// A managed secret without its value.
#[derive(Debug, Deserialize, Serialize)]
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
pub struct CreatedSecret {
    #[serde(flatten)]
    pub secret: Secret,
    /// The base grant: principal `system`.
    pub grant_id: String,
}

/// `POST /api/v1/apps/{app_id}/managed-secrets`. No `Debug`: it carries the value.
#[derive(Deserialize, Serialize)]
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
#[serde(deny_unknown_fields)]
pub struct SecretRotate {
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
}

/// `POST …/managed-secrets/{id or slug}/test`: what the vendor said to the template's harmless call.
#[derive(Debug, Deserialize, Serialize)]
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

/// `GET /api/v1/secret-templates/{id}`, and an item of the list: what one vendor's credential needs.
#[derive(Debug, Deserialize, Serialize)]
pub struct SecretTemplate {
    pub id: String,
    pub name: String,
    pub category: String,
    pub credential_type: CredentialType,
    /// What the value is, in the vendor's words.
    pub value: String,
    /// Fields beside the value.
    pub fields: Vec<TemplateField>,
    pub injection_header: String,
    pub injection_format: String,
    pub injections: Vec<Injection>,
    /// Destination rules; `{field}` stands for what the field, or the value, says.
    pub allowed_hosts: Vec<String>,
    /// The harmless call that tests the credential, such as `GET https://api.example.com/me`; null when there is none.
    pub probe: Option<String>,
    /// Why there is no probe.
    pub no_probe: Option<String>,
    pub notes: Option<String>,
    /// The vendor's page about authentication.
    pub docs_url: String,
    /// False when a fact of it was not read where it is made: see `evidence`.
    pub verified: bool,
    pub evidence: TemplateEvidence,
}

/// A field of a template.
#[derive(Debug, Deserialize, Serialize)]
pub struct TemplateField {
    pub name: String,
    pub label: String,
    /// Where to find it.
    pub find: String,
    pub required: bool,
    pub secret: bool,
    pub default: Option<String>,
    /// All that is possible; empty: any.
    pub choices: Vec<String>,
}

/// Where the facts of a template are from, by group.
#[derive(Debug, Deserialize, Serialize)]
pub struct TemplateEvidence {
    pub injection: Evidence,
    pub hosts: Evidence,
    pub probe: Option<Evidence>,
}

/// Where a group of facts is from.
#[derive(Debug, Deserialize, Serialize)]
pub struct Evidence {
    /// `vendor`, `client`, `third_party` or `unconfirmed`.
    pub level: String,
    pub source: String,
    /// `YYYY-MM-DD`.
    pub checked: String,
}

/// `PUT …/managed-secrets/{id or slug}/allowed-hosts`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedHosts {
    pub allowed_hosts: Vec<String>,
}

/// `POST …/managed-secrets/{id or slug}/grants`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GrantCreate {
    /// `system`; `user`, `group` and `agent` need parts that are not built yet.
    pub principal_type: String,
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
pub struct Grant {
    pub grant_id: String,
    pub app_id: String,
    /// `managed_secret`.
    pub grant_kind: String,
    /// The secret's slug.
    pub provider_id: String,
    pub managed_secret_id: String,
    pub managed_secret_name: String,
    pub credential_id: String,
    pub principal_type: String,
    pub label: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    /// Why it was revoked, as given.
    pub reason: Option<String>,
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
#[serde(deny_unknown_fields)]
pub struct GrantUpdate {
    /// An empty label removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// From now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantBinding>,
}

/// A change of a grant's tenant. Admin only.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
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
#[serde(deny_unknown_fields)]
pub struct GrantRevoke {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to it.
#[derive(Debug, Deserialize, Serialize)]
pub struct RevokedGrant {
    pub grant_id: String,
    pub revoked_at: TimeMs,
    /// `yes`, `no`, `unsupported` or `failed`. A managed secret has no revocation endpoint: `unsupported`.
    pub revoked_upstream: String,
    /// True when this was the last living grant, so that the stored value was destroyed.
    pub credential_destroyed: bool,
}

/// An audit event: core and private fields, flat, plus `hash`.
pub type Event = Map<String, Value>;

/// Query of `GET …/audit/events`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// `name=value`; several are separated by newlines in one parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `jsonl` or `csv`; only on the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Query of lists counted by offset.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Grants: `active`, `expired` or `revoked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Grants: a secret's slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Case-insensitive prefix of name, slug or label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// `GET /api/v1/whoami`: who the personal access token speaks for.
#[derive(Debug, Deserialize, Serialize)]
pub struct Whoami {
    pub operator_id: String,
    pub organization_id: String,
    pub email: String,
    pub role: String,
    pub pat_id: String,
    pub expires_at: Option<TimeMs>,
}
