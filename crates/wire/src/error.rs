//! What a caller sees when a request is refused: one flat object with a stable code.

use serde::Serialize;
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $message:literal;)*) => {
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
            /// A sentence that says what happened and what to do next.
            pub const fn message(self) -> &'static str { match self { $(Code::$name => $message,)* } }
        }
    };
}

codes! {
    // 400
    InvalidRequest = "invalid_request", 400, "The request is malformed.";
    InvalidContext = "invalid_context", 400, "X-Alter-Context must be a JSON object of at most 20 strings: keys up to 64 characters, values up to 512, 4096 in all.";
    InvalidCaller = "invalid_caller", 400, "X-Alter-Caller must be 1-255 printable ASCII characters, and X-Alter-Caller-Type `agent` or `service`.";
    InvalidRequestRule = "invalid_request_rule", 400, "X-Alter-Request-Rule must be base64url of {\"rule_type\",\"rule_body\"}, at most 4096 characters.";
    ConstraintNotNarrowing = "constraint_not_narrowing", 400, "X-Alter-Scope-Constraints may only name scopes that the key has.";
    RestrictedGrantRequiresProxy = "restricted_grant_requires_proxy", 400, "This grant cannot hand out its credential: its app has retrieve mode switched off (`grantd apps update --retrieve on`).";
    // 401
    InvalidKey = "invalid_key", 401, "The API key is unknown. Check ALTER_API_KEY and ALTER_BASE_URL, or mint a new key.";
    KeyRevoked = "key_revoked", 401, "The API key was revoked. Mint a new one.";
    KeyExpired = "key_expired", 401, "The API key has expired. Mint a new one.";
    KeyRotatedGraceExpired = "key_rotated_grace_expired", 401, "The API key was rotated and its overlap is over. Use its successor.";
    KeyNotActive = "key_not_active", 401, "The API key's app is archived or deleted.";
    SignatureInvalid = "signature_invalid", 401, "The request signature is missing, malformed or does not match.";
    TimestampOutOfRange = "timestamp_out_of_range", 401, "X-Alter-Timestamp is more than 60 s off this server's clock. Set the caller's clock.";
    NonceReplayed = "nonce_replayed", 401, "X-Alter-Nonce was used before. Sign each request anew.";
    ContentHashMismatch = "content_hash_mismatch", 401, "The body does not match X-Alter-Content-SHA256.";
    JwtValidationError = "jwt_validation_error", 401, "The user token was not issued by an identity provider of this app.";
    SessionRequired = "session_required", 401, "Sign in: send a personal access token as `Authorization: Bearer grantd_pat_…`.";
    // 403
    InsufficientScope = "insufficient_scope", 403, "The API key lacks a scope this call needs. Mint a key that has it.";
    IpNotAllowed = "ip_not_allowed", 403, "The API key may not be used from this address.";
    GrantExpired = "grant_expired", 403, "The grant has lapsed. Issue a new one, or extend it.";
    GrantRevoked = "grant_revoked", 403, "The grant was revoked. Issue a new one.";
    CredentialRevoked = "credential_revoked", 403, "The credential behind this grant no longer works. Connect it again.";
    TenantMismatch = "tenant_mismatch", 403, "The call's context does not carry the tenant this grant is bound to.";
    PolicyDenied = "policy_denied", 403, "A rule denies this call.";
    AppKeyRequired = "app_key_required", 403, "This call needs an app key.";
    AgentKeyRequired = "agent_key_required", 403, "This call needs an agent key.";
    AgentsCannotMint = "agents_cannot_mint", 403, "An agent key cannot make grants.";
    RoleRequired = "role_required", 403, "Your role does not allow this. Ask an admin.";
    // 404
    NotFound = "not_found", 404, "There is no such object here.";
    GrantNotFound = "grant_not_found", 404, "There is no such grant in this app.";
    SecretNotFound = "secret_not_found", 404, "There is no such managed secret in this app.";
    CallerAgentUnresolved = "caller_agent_unresolved", 404, "X-Alter-Caller names no active agent of this app.";
    // 405 and on
    MethodNotAllowed = "method_not_allowed", 405, "This path does not take that method.";
    RequestTimeout = "request_timeout", 408, "The request body did not arrive in time.";
    Conflict = "conflict", 409, "Somebody else changed this at the same time. Read it again and retry.";
    VersionConflict = "version_conflict", 409, "The object is no longer in the state that If-Match names.";
    NameTaken = "name_taken", 409, "The name is taken.";
    InUse = "in_use", 409, "Something else still needs this.";
    LegalHold = "legal_hold", 409, "The app is under a legal hold: nothing of it may be removed. An admin ends it with `grantd apps hold release`.";
    SiblingLabelConflict = "sibling_label_conflict", 409, "Another living grant on this credential has that label.";
    CredentialIdRequired = "credential_id_required", 409, "The secret has several credentials: name one as credential_id.";
    CredentialDestroyed = "credential_destroyed", 409, "The stored value was destroyed with its last grant. Store a new one with `grantd managed-secrets rotate`.";
    GrantDeleted = "grant_deleted", 410, "What this grant stood on is gone. Issue a new one.";
    BodyTooLarge = "body_too_large", 413, "The request body is too large.";
    EncodingUnsupported = "encoding_unsupported", 415, "Send the body without Content-Encoding.";
    InvalidValue = "invalid_value", 422, "A value is not possible.";
    TooMany = "too_many", 422, "A limit of this server is reached.";
    BlockedDestination = "blocked_destination", 422, "The credential may not go to this URL. Its allowed hosts are set with `grantd managed-secrets set-allowed-hosts`.";
    RateLimitExceeded = "rate_limit_exceeded", 429, "Too many requests. Slow down.";
    HeadersTooLarge = "headers_too_large", 431, "The request has too many or too large headers.";
    // 5xx
    Internal = "internal", 500, "Something went wrong here. Give the operator the request id.";
    UnknownRoute = "unknown_route", 501, "This server has no such route.";
    FeatureUnavailable = "feature_unavailable", 501, "This part is not built yet.";
    StorageUnavailable = "storage_unavailable", 503, "The database cannot be reached or written. Nothing was changed; retry.";
    AuditUnavailable = "audit_unavailable", 503, "The audit event could not be written, so nothing was released. Retry.";
    Busy = "busy", 503, "Too much is happening at once. Retry.";
    Draining = "draining", 503, "This server is shutting down. Retry.";
    ClockRollback = "clock_rollback", 503, "This server's clock runs behind the time it has already seen. Set the clock; calls resume by themselves.";
    KeyUnavailable = "key_unavailable", 503, "The key that opens this credential is not available.";
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
        Self::new(Code::InvalidRequest).message(format!("`{field}`: {why}")).detail("field", field)
    }

    /// 422 `invalid_value` that names the field.
    pub fn impossible(field: &str, why: &str) -> Self {
        Self::new(Code::InvalidValue).message(format!("`{field}`: {why}")).detail("field", field)
    }

    /// With this message instead.
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
            assert!(code.message().ends_with('.') && (400..600).contains(&code.status()), "{code:?}");
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
