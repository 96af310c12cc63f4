//! Bodies of `/sdk`.

mod identity;
mod key_entry;
mod sign_in;

pub use identity::{AssertionAnswer, AssertionRequest, Identity, IdentityRequest, Trace};
pub use key_entry::{KeySession, KeySessionRequest};
pub use sign_in::{AuthPoll, AuthPollRequest, AuthSession, UserInfo, VerifiedToken, VerifyTokenRequest};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::TimeMs;
use crate::object::object;

/// `POST /sdk/token`: what is asked for. No `Debug`, here and below: it may carry a user's token.
#[derive(Deserialize, Serialize)]
pub struct TokenRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(deserialize_with = "object")]
    pub request: Target,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// The call the credential is for. The URL has no query unless the caller wrote it there.
#[derive(Debug, Deserialize, Serialize)]
pub struct Target {
    pub method: String,
    pub url: String,
}

/// Where a further value goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InjectionTarget {
    Header,
    QueryParam,
}

/// Stands for `access_token` in an injection format. Only the first one is replaced.
pub const INJECTION_TOKEN: &str = "{token}";
/// The injection format that makes the client sign with AWS Signature Version 4.
pub const INJECTION_SIGV4: &str = "AWS4-HMAC-SHA256";
/// Headers no injection may set, in lower case.
pub const INJECTION_HEADERS_FORBIDDEN: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "cookie",
    "set-cookie",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-http-method-override",
    "x-method-override",
    "www-authenticate",
    "strict-transport-security",
    "content-security-policy",
];

/// One further injection: exactly these three keys.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Injection {
    pub target: InjectionTarget,
    pub key: String,
    /// `token`, or `additional_credentials.` and a field's name.
    pub value_source: String,
}

/// `POST /sdk/token`: the answer, as the client reads it. Written by the server field by field, without a copy of the token.
#[derive(Deserialize)]
pub struct TokenAnswer {
    pub access_token: String,
    pub grant_id: String,
    #[serde(default)]
    pub provider_id: String,
    #[serde(default = "default_type")]
    pub token_type: String,
    #[serde(default)]
    pub expires_in: Option<u64>,
    /// RFC 3339 with an offset.
    #[serde(default)]
    pub expires_at: Option<TimeMs>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub token_generation: Option<String>,
    #[serde(default = "default_header")]
    pub injection_header: String,
    #[serde(default = "default_format")]
    pub injection_format: String,
    #[serde(default)]
    pub additional_credentials: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub additional_injections: Option<Vec<Injection>>,
    #[serde(default)]
    pub scope_mismatch: bool,
    /// How the credential was renewed. Nobody relies on it, so a malformed one is no reason to refuse the answer.
    #[serde(default)]
    pub retry_info: Option<Value>,
}

fn default_type() -> String {
    "Bearer".to_owned()
}

fn default_header() -> String {
    "Authorization".to_owned()
}

fn default_format() -> String {
    "Bearer {token}".to_owned()
}

/// `POST /sdk/oauth/audit/api-call`: what the caller says happened. A claim, never an observation.
#[derive(Debug, Deserialize, Serialize)]
pub struct CallReport {
    pub grant_id: String,
    #[serde(default)]
    pub provider_id: Option<String>,
    #[serde(default)]
    pub token_generation: Option<String>,
    pub method: String,
    pub url: String,
    #[serde(default)]
    pub request_headers: Option<Value>,
    #[serde(default)]
    pub request_body: Option<Value>,
    /// 0 when the call never got an answer.
    pub response_status: i64,
    #[serde(default)]
    pub response_headers: Option<Value>,
    #[serde(default)]
    pub response_body: Option<String>,
    #[serde(default)]
    pub latency_ms: Option<i64>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub context: Option<Value>,
}

/// `POST /sdk/grants/{id}/report-scope-mismatch`.
#[derive(Debug, Deserialize, Serialize)]
pub struct ScopeMismatchReport {
    pub provider_status_code: i64,
    pub provider_error_code: String,
    #[serde(default)]
    pub missing_scopes: Option<Vec<String>>,
    #[serde(default)]
    pub raw_www_authenticate: Option<String>,
    #[serde(default)]
    pub api_endpoint: Option<String>,
    #[serde(default)]
    pub detection_source: Option<String>,
    #[serde(default)]
    pub sdk_correlation_id: Option<String>,
}

/// `POST /sdk/grants/list`.
#[derive(Deserialize, Serialize)]
pub struct GrantsListRequest {
    #[serde(default = "default_limit")]
    pub limit: i64,
    #[serde(default)]
    pub offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
}

fn default_limit() -> i64 {
    crate::limits::PAGE_DEFAULT
}

/// A page counted by offset.
#[derive(Debug, Deserialize, Serialize)]
pub struct GrantsPage<T> {
    pub grants: Vec<T>,
    pub total: i64,
    pub limit: i64,
    pub offset: i64,
    pub has_more: bool,
}

/// A managed-secret grant in a list.
#[derive(Debug, Deserialize, Serialize)]
pub struct ManagedSecretGrant {
    /// Always `managed_secret`.
    pub grant_kind: String,
    pub grant_id: String,
    pub managed_secret_id: String,
    pub managed_secret_slug: String,
    pub managed_secret_name: String,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    pub principal_type: String,
    pub label: Option<String>,
    pub account_identifier: Option<String>,
    pub grant_policy: Option<Value>,
    pub expires_at: Option<TimeMs>,
    pub grant_expires_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub access_via: String,
    pub depth: i64,
    pub delegable: bool,
    pub credential_id: String,
    pub credential_kind: String,
}

/// A grant of a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ListedGrant {
    ManagedSecret(ManagedSecretGrant),
    Oauth(OauthGrant),
}

/// A grant of a connected account in a list (wire-core 4.1).
#[derive(Debug, Serialize)]
pub struct OauthGrant {
    /// Always `oauth`.
    pub grant_kind: String,
    pub grant_id: String,
    pub provider_id: String,
    /// `active`, `expired` or `revoked`.
    pub status: String,
    pub principal_type: String,
    pub scopes: Vec<String>,
    pub account_identifier: Option<String>,
    pub account_display_name: Option<String>,
    pub label: Option<String>,
    pub credential_id: String,
    /// The origin that belongs to the account, where the provider has such.
    pub api_base_url: Option<String>,
    pub scope_mismatch: bool,
    /// The user must connect again before it can be used.
    pub needs_reconnect: bool,
    /// The end of the access token.
    pub expires_at: Option<TimeMs>,
    pub grant_expires_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub grant_policy: Option<Value>,
    pub access_via: String,
    pub depth: i64,
    pub delegable: bool,
}

/// `POST /sdk/oauth/grants/{id}/revoke`.
#[derive(Default, Deserialize, Serialize)]
pub struct RevokeRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
}

/// All four are required, `message` and `revoked_at` not empty.
#[derive(Debug, Deserialize, Serialize)]
pub struct RevokeAnswer {
    pub success: bool,
    pub message: String,
    pub grant_id: String,
    pub revoked_at: TimeMs,
}

/// `POST /sdk/managed-secrets/{id or slug}/grants`.
#[derive(Deserialize, Serialize)]
pub struct SecretGrantRequest {
    #[serde(deserialize_with = "object")]
    pub principal: Principal,
    #[serde(default, deserialize_with = "object")]
    pub grant_policy: Lifetime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<String>,
}

/// Whom a grant is for.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Principal {
    /// The user whose token it is.
    User { user_token: String, label: String },
    /// A group of an identity provider.
    Group { external_group_id: String, idp_id: String, label: String },
    /// The app itself.
    System {
        #[serde(default)]
        label: Option<String>,
    },
    /// No agent can be given a grant this way; the vault says so.
    Agent {
        #[serde(default)]
        label: Option<String>,
    },
}

/// How long a grant lives. Unknown keys are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<TimeMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl_seconds: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ttl_seconds: Option<i64>,
}

/// The answer to it.
#[derive(Debug, Deserialize, Serialize)]
pub struct SecretGrantAnswer {
    pub grant_id: String,
    pub principal_type: String,
    pub label: Option<String>,
    pub created_at: TimeMs,
    pub credential_id: String,
}

/// `GET /sdk/scopes`.
#[derive(Debug, Deserialize, Serialize)]
pub struct ScopeCatalogue {
    pub scope_version: i64,
    pub resources: BTreeMap<String, ResourceVerbs>,
    pub action_verbs: Vec<String>,
    pub deprecated: Vec<String>,
}

/// `GET /sdk/oauth/provider-catalog` (`wire-extended` section 7): OAuth providers by id.
#[derive(Debug, Deserialize, Serialize)]
pub struct ProviderCatalogue {
    pub providers: BTreeMap<String, CatalogueProvider>,
}

/// One OAuth provider of the catalogue.
#[derive(Debug, Deserialize, Serialize)]
pub struct CatalogueProvider {
    pub id: String,
    pub name: String,
    pub display_name: String,
    /// Always `active`: only such are listed.
    pub status: String,
    pub supports_refresh: bool,
    pub supports_pkce: bool,
    /// Known scopes; others may be asked for, too.
    pub available_scopes: BTreeMap<String, CatalogueScope>,
    pub default_scopes: Vec<String>,
    pub required_scopes: Vec<String>,
    pub category: String,
    pub description: String,
}

/// One scope of a provider.
#[derive(Debug, Deserialize, Serialize)]
pub struct CatalogueScope {
    pub description: String,
    pub required: bool,
    pub is_default: bool,
    /// Scopes it does not work without.
    pub requires: Vec<String>,
}

/// CRUD verbs of one resource.
#[derive(Debug, Deserialize, Serialize)]
pub struct ResourceVerbs {
    pub verbs: Vec<String>,
}

/// `POST /sdk/grants/{id}/mint` (wire-core 4.5). What is in the policy is looked at key by key: it may only make the grant tighter.
#[derive(Debug, Deserialize, Serialize)]
pub struct MintRequest {
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_policy: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_tags: Option<Vec<String>>,
}

/// The answer to it.
#[derive(Debug, Serialize)]
pub struct MintedGrant {
    pub grant_id: String,
    pub provider_id: String,
    pub status: String,
    pub created_at: TimeMs,
    pub principal_type: String,
    pub scopes: Vec<String>,
    pub account_identifier: Option<String>,
    pub account_display_name: Option<String>,
    pub api_base_url: Option<String>,
    pub scope_mismatch: bool,
    /// The end of the access token.
    pub expires_at: Option<TimeMs>,
    pub last_used_at: Option<TimeMs>,
    pub label: Option<String>,
    pub credential_id: String,
    pub grant_policy: Option<StoredPolicy>,
}

/// `POST /sdk/oauth/connect/session` (wire-core 5.1). No `Debug`: it may carry a user's token.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct ConnectSessionRequest {
    #[serde(default)]
    pub allowed_providers: Option<Vec<String>>,
    #[serde(default)]
    pub return_url: Option<String>,
    #[serde(default)]
    pub allowed_origin: Option<String>,
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switch_account: bool,
    /// Absent: they are allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_user_policy_rules: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_policy: Option<Lifetime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_scopes: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_grant: Option<RequestedGrant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_grant_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_constraint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_token: Option<String>,
}

/// The grant that is wanted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RequestedGrant {
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restrictions: Option<Value>,
}

/// The answer to it. No `Debug`: it carries the session's token.
#[derive(Deserialize, Serialize)]
pub struct ConnectSession {
    pub session_token: String,
    pub connect_url: String,
    /// Seconds.
    pub expires_in: i64,
    pub expires_at: TimeMs,
    pub single_provider: bool,
    pub direct: bool,
}

/// `POST /sdk/oauth/connect/session/poll`. No `Debug`: it carries the session's token.
#[derive(Deserialize, Serialize)]
pub struct ConnectPollRequest {
    pub session_token: String,
}

/// The answer to it (wire-core 5.2).
#[derive(Debug, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ConnectPoll {
    Pending { declined_providers: Vec<DeclinedProvider> },
    Completed { grants: Vec<ConnectedGrant>, failed_grants: Vec<FailedGrant> },
    Error { error: ConnectError },
    Expired,
}

/// A provider that the user did not want to connect, or that refused.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeclinedProvider {
    pub provider_id: String,
    pub error_code: String,
    pub declined_at: TimeMs,
}

/// A grant that a session made, or mended.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectedGrant {
    pub grant_id: String,
    pub provider_id: String,
    pub account_identifier: String,
    pub account_display_name: Option<String>,
    pub scopes: Vec<String>,
    pub api_base_url: Option<String>,
    /// `creation` or `reauth`.
    pub operation: String,
    pub grant_policy: Option<StoredPolicy>,
    pub delegation: Option<Value>,
}

/// How long a grant lives, and who said so.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoredPolicy {
    pub expires_at: Option<TimeMs>,
    pub created_by: String,
    pub created_at: TimeMs,
}

impl StoredPolicy {
    /// Of a grant that ends, as the app asked for it; none for one that does not end.
    pub fn of_developer(expires_at: Option<TimeMs>, created_at: TimeMs) -> Option<Self> {
        expires_at.map(|end| Self { expires_at: Some(end), created_by: "developer".to_owned(), created_at })
    }
}

/// A provider of which nothing came. All three are not empty.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailedGrant {
    pub provider_id: String,
    /// `not_selected`, `activation_failed`.
    pub reason: String,
    pub message: String,
}

/// Why a session ended without a grant.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectError {
    pub error_code: String,
    pub error_message: String,
}
