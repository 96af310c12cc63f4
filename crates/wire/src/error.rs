//! What a caller sees when a request is refused: one flat object with a stable code.

use serde::Serialize;
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $what:literal, $next:literal;)*) => {
        /// Every code grantd answers. The text and status of a code never change.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for documents and tests.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The stable text.
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => $text,)* } }
            /// The HTTP status it is answered with.
            pub const fn status(self) -> u16 { match self { $(Code::$name => $status,)* } }
            /// What happened, and what to do next.
            pub const fn message(self) -> &'static str { match self { $(Code::$name => concat!($what, " ", $next),)* } }
            /// What to do next.
            pub const fn next(self) -> &'static str { match self { $(Code::$name => $next,)* } }
        }
    };
}

codes! {
    // 400
    InvalidRequest = "invalid_request", 400, "The request is malformed.", "Compare it with the API's description.";
    InvalidContext = "invalid_context", 400, "X-Alter-Context is no JSON object of at most 20 strings.", "Keys have up to 64 characters, values up to 512, and all together 4096.";
    InvalidCaller = "invalid_caller", 400, "X-Alter-Caller or X-Alter-Caller-Type is malformed.", "A caller has 1-255 printable ASCII characters; its type is `agent` or `service`.";
    InvalidRequestRule = "invalid_request_rule", 400, "X-Alter-Request-Rule is malformed.", "Send base64url of {\"rule_type\",\"rule_body\"}, at most 4096 characters.";
    ConstraintNotNarrowing = "constraint_not_narrowing", 400, "X-Alter-Scope-Constraints names a scope that the key lacks.", "Name only scopes of the key, or leave the header out.";
    RestrictedGrantRequiresProxy = "restricted_grant_requires_proxy", 400, "This grant cannot hand out its credential: its app has retrieve mode switched off.", "An operator switches it on with `grantd apps update --retrieve on`.";
    // 401
    InvalidKey = "invalid_key", 401, "The API key is unknown.", "Check ALTER_API_KEY and ALTER_BASE_URL, or mint a new key.";
    KeyRevoked = "key_revoked", 401, "The API key was revoked.", "Mint a new one.";
    KeyExpired = "key_expired", 401, "The API key has expired.", "Mint a new one.";
    KeyRotatedGraceExpired = "key_rotated_grace_expired", 401, "The API key was rotated and its overlap is over.", "Use its successor.";
    KeyNotActive = "key_not_active", 401, "The API key's app is archived or deleted.", "Use a key of another app, or have an admin make this one active with `grantd apps unarchive`.";
    SignatureInvalid = "signature_invalid", 401, "The request signature is missing, malformed or does not match.", "Sign with the same key as is sent, over the path and body as they arrive: a proxy in between must not change them.";
    TimestampOutOfRange = "timestamp_out_of_range", 401, "X-Alter-Timestamp is more than 60 s off this server's clock.", "Set the caller's clock.";
    NonceReplayed = "nonce_replayed", 401, "X-Alter-Nonce was used before.", "Sign each request anew.";
    ContentHashMismatch = "content_hash_mismatch", 401, "The body does not match X-Alter-Content-SHA256.", "Hash the very bytes that are sent.";
    JwtValidationError = "jwt_validation_error", 401, "The user token proves nothing: `details.check` says which check it failed.", "Sign the user in again, or leave the token out.";
    SessionRequired = "session_required", 401, "Sign in first.", "Send a personal access token as `Authorization: Bearer grantd_pat_…`.";
    NotProved = "not_proved", 401, "That does not prove who you are.", "Try again, or prove it another way.";
    // 403
    InsufficientScope = "insufficient_scope", 403, "The API key lacks a scope this call needs.", "Mint a key that has it.";
    IpNotAllowed = "ip_not_allowed", 403, "The API key may not be used from this address.", "Call from one of its networks, or mint a key with this one.";
    GrantExpired = "grant_expired", 403, "The grant has lapsed.", "Issue a new one, or extend it.";
    GrantRevoked = "grant_revoked", 403, "The grant was revoked.", "Issue a new one.";
    CredentialRevoked = "credential_revoked", 403, "The credential behind this grant no longer works.", "Connect it again.";
    TenantMismatch = "tenant_mismatch", 403, "The call's context does not carry the tenant this grant is bound to.", "Use the grant of this tenant, or have an admin bind it anew with `grantd grants update --tenant`.";
    PolicyDenied = "policy_denied", 403, "A rule denies this call.", "`grantd audit show` with the event's id says which.";
    AppKeyRequired = "app_key_required", 403, "This call needs an app key.", "Use one of the app's own keys.";
    AgentKeyRequired = "agent_key_required", 403, "This call needs an agent key.", "Use a key of the agent it is for.";
    AgentsCannotMint = "agents_cannot_mint", 403, "An agent key cannot make grants.", "Make it with a key of the app.";
    SystemGrantUserTokenMismatch = "system_grant_user_token_mismatch", 403, "The grant is the app's own, and the call speaks for a user.", "Leave the user token out, or use a grant of the user's.";
    CsrfFailed = "csrf_failed", 403, "The form is not of a page that this browser was shown since it was signed in.", "Open the page again, and send the form from there.";
    RoleRequired = "role_required", 403, "Your role does not allow this.", "Ask an admin.";
    // 404
    NotFound = "not_found", 404, "There is no such object here.", "List what there is; what belongs to others is not shown.";
    GrantNotFound = "grant_not_found", 404, "There is no such grant in this app.", "Check the id, and that the key is of its app.";
    SecretNotFound = "secret_not_found", 404, "There is no such managed secret in this app.", "Check its slug or id.";
    CallerAgentUnresolved = "caller_agent_unresolved", 404, "X-Alter-Caller names no active agent of this app.", "Name an active agent, or send a label that is no UUID.";
    // 405 and on
    MethodNotAllowed = "method_not_allowed", 405, "This path does not take that method.", "Use one of those in Allow.";
    ScopeNotAllowed = "scope_not_allowed", 400, "A scope cannot be asked for.", "Name scopes of the provider, without blanks.";
    InvalidRedirectUri = "invalid_redirect_uri", 400, "Users cannot be sent back there.", "Use https, or http on loopback, and nothing behind a #.";
    InvalidOrigin = "invalid_origin", 400, "The window that is told cannot be of that origin.", "Use scheme, host and port alone, such as https://app.example.com; http only on loopback.";
    RequestTimeout = "request_timeout", 408, "The request body did not arrive in time.", "Send it again, faster.";
    Conflict = "conflict", 409, "Somebody else changed this at the same time.", "Read it again and retry.";
    VersionConflict = "version_conflict", 409, "The object is no longer in the state that If-Match names.", "Read it again, and decide again whether to change it.";
    NameTaken = "name_taken", 409, "The name is taken.", "Choose another.";
    InUse = "in_use", 409, "Something else still needs this.", "Remove that first.";
    LegalHold = "legal_hold", 409, "The app is under a legal hold: nothing of it may be removed.", "An admin ends it with `grantd apps hold release`.";
    SiblingLabelConflict = "sibling_label_conflict", 409, "Another living grant on this credential has that label.", "Choose another label, or revoke that grant.";
    CredentialIdRequired = "credential_id_required", 409, "The secret has several credentials.", "Name one as credential_id.";
    EndUserCredentialNotAssignable = "end_user_credential_not_assignable", 409, "The credential is a user's own key.", "Leave credential_id out: only the app's own value can be given to others.";
    BindingHostsRequired = "binding_hosts_required", 409, "The secret may go to any host, and a user's own key may not.", "An operator names its hosts with `grantd managed-secrets set-allowed-hosts`.";
    NoEligibleGrants = "no_eligible_grants", 409, "The template names no single secret of the app, and the user holds none that it could mean.", "Name the secret by its slug as `provider`.";
    AmbiguousGrant = "ambiguous_grant", 409, "Several grants fit.", "Name one by `account`, by `label` or as `grant_id`: `candidates` lists them.";
    IdentityProviderInactive = "identity_provider_inactive", 409, "The identity provider of this user is switched off.", "An operator switches it on with `grantd idp update --state active`.";
    IdpSigninNotConfigured = "idp_signin_not_configured", 409, "The app demands that users sign in before they connect, and this user's identity provider cannot sign them in.", "`details.reason` says what is missing, and docs/sign-in.md what to do about it.";
    CredentialDestroyed = "credential_destroyed", 409, "The stored value was destroyed with its last grant.", "Store a new one with `grantd managed-secrets rotate`.";
    TokenRefreshInProgress = "token_refresh_in_progress", 409, "The access token is being renewed.", "Retry in a second.";
    GrantDeleted = "grant_deleted", 410, "What this grant stood on is gone.", "Issue a new one.";
    BodyTooLarge = "body_too_large", 413, "The request body is too large.", "Send less at once: docs/limits.md has the bounds.";
    EncodingUnsupported = "encoding_unsupported", 415, "The body is encoded.", "Send it without Content-Encoding.";
    InvalidAudience = "invalid_audience", 422, "An identity assertion cannot be for this audience.", "Name who will check it by a URI with a scheme, of at most 512 ASCII characters.";
    SecretTemplateMismatch = "secret_template_mismatch", 422, "The secret was not made from that template.", "Leave template_slug out, or name a secret of that template.";
    InvalidGrantPolicy = "invalid_grant_policy", 422, "The policy of the grant is none.", "It holds expires_at and max_ttl_seconds, and may only make the grant tighter than its source.";
    GroupPrincipalUnsupported = "group_principal_unsupported", 422, "Tokens of this identity provider say nothing of groups.", "Say which claim does as `claims.groups` of the identity provider.";
    InvalidValue = "invalid_value", 422, "A value is not possible.", "Correct it and send the request again.";
    TooMany = "too_many", 422, "A limit of this server is reached.", "Remove what is no longer needed: docs/limits.md has the bounds.";
    BlockedDestination = "blocked_destination", 422, "The credential may not go to this URL.", "Its allowed hosts are set with `grantd managed-secrets set-allowed-hosts`.";
    RateLimitExceeded = "rate_limit_exceeded", 429, "Too many requests.", "Wait for Retry-After, then go on more slowly.";
    HeadersTooLarge = "headers_too_large", 431, "The request has too many or too large headers.", "Send at most 100, of 16 KiB each and 64 KiB together.";
    // 5xx
    TokenEndpointFailed = "token_endpoint_failed", 502, "The access token has ended, and the provider did not renew it.", "Retry after Retry-After; the grant is not lost.";
    Internal = "internal", 500, "Something went wrong here.", "Give the operator the request id.";
    UnknownRoute = "unknown_route", 501, "This server has no such route.", "Check the path and the server's version.";
    FeatureUnavailable = "feature_unavailable", 501, "This part is not built yet.", "CHANGELOG.md says what is.";
    ProviderBreakerOpen = "provider_breaker_open", 503, "The provider's token endpoint has failed repeatedly, so it is left alone for a while.", "Retry after Retry-After; no grant is lost.";
    ServiceUnavailable = "service_unavailable", 503, "The identity provider's keys cannot be fetched.", "Retry; if it stays so, have an operator look at the jwks_url it is registered with.";
    StorageUnavailable = "storage_unavailable", 503, "The database cannot be reached or written.", "Retry; of a change, look first whether it was made, or repeat its Idempotency-Key.";
    AuditUnavailable = "audit_unavailable", 503, "The audit event could not be written, so nothing was released.", "Retry.";
    Busy = "busy", 503, "Too much is happening at once.", "Retry.";
    Draining = "draining", 503, "This server is shutting down.", "Retry.";
    ClockRollback = "clock_rollback", 503, "This server's clock runs behind the time it has already seen.", "Set the server's clock; calls resume by themselves.";
    KeyUnavailable = "key_unavailable", 503, "The key that opens this credential is not available.", "Retry; if it stays so, `grantd doctor` on the server says why.";
}

impl Code {
    /// The code whose text is `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str() == text)
    }
}

/// A refusal as it travels: `{"error", "message", "hint"?, "details"?, …}`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Error {
    #[serde(skip)]
    pub code: Code,
    #[serde(rename = "error")]
    text: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// Fields beside those above, flat.
    #[serde(flatten)]
    pub more: Map<String, Value>,
    /// Seconds for `Retry-After`.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

impl Error {
    /// A refusal with the code's own message.
    pub fn new(code: Code) -> Self {
        let retry_after_s = if code.status() == 503 { Some(1) } else { None };
        Self {
            code,
            text: code.as_str(),
            message: code.message().to_owned(),
            hint: None,
            details: Map::new(),
            more: Map::new(),
            retry_after_s,
        }
    }

    /// 400 `invalid_request` that names the field.
    pub fn invalid(field: &str, why: &str) -> Self {
        Self::field(Code::InvalidRequest, field, why)
    }

    /// 422 `invalid_value` that names the field.
    pub fn impossible(field: &str, why: &str) -> Self {
        Self::field(Code::InvalidValue, field, why)
    }

    /// Why a field is refused says what to write instead.
    fn field(code: Code, field: &str, why: &str) -> Self {
        let error = Self { message: format!("`{field}`: {why}"), ..Self::new(code) };
        error.detail("field", field)
    }

    /// With this message instead. It, or a hint, says what to do next.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With a hint: what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With `details.{name}`.
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// With a field beside the standard ones.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// With `Retry-After`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()), "{code:?}");
            let what = code.message().strip_suffix(code.next()).unwrap();
            assert!(
                what.len() > 10 && what.ends_with(". ") && code.next().len() > 5 && code.next().ends_with('.'),
                "{code:?}"
            );
        }
    }

    #[test]
    fn every_code_stands_in_the_documents_beside_its_status() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wire.md");
        let page = std::fs::read_to_string(path).unwrap();
        let errors = page.split_once("\n## Errors").unwrap().1;
        let (table, management) = errors.split_once("The management API").unwrap();
        for code in Code::ALL {
            let (text, status) = (format!("`{}`", code.as_str()), code.status().to_string());
            let is_row = |row: &str| {
                let mut cells = row.split('|').map(str::trim);
                cells.nth(1).is_some_and(|statuses| statuses.split(' ').any(|s| s == status))
                    && cells.next().is_some_and(|codes| codes.contains(&text))
            };
            assert!(table.lines().any(is_row) || management.contains(&text), "{text} {status}");
        }
    }

    #[test]
    fn an_error_is_one_flat_object() {
        let error = Error::new(Code::GrantRevoked).with("grant_id", "g").detail("field", "x").hint("do");
        let json = serde_json::to_value(&error).unwrap();
        assert_eq!(json["error"], "grant_revoked");
        assert_eq!(json["grant_id"], "g");
        assert_eq!(json["details"]["field"], "x");
        assert_eq!(json["hint"], "do");
    }
}
