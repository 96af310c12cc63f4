//! What can go wrong, by the names the other clients use.
//!
//! Invariant: no error holds a credential or a key.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

/// Characters kept of a message the vault sent.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// No vault asks for more patience than this when a rate is exceeded, nor than that when a quota is.
const RETRY_AFTER_RATE_MAX_S: u64 = 3_600;
const RETRY_AFTER_QUOTA_MAX_S: u64 = 2_678_400;

/// Why a call did not go through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call was refused here, before anything was sent.
    #[error("{0}")]
    Invalid(String),
    /// The text given as a key is none.
    #[error("the API key is malformed: its form or checksum is wrong. Copy it again, or mint a new one")]
    MalformedKey,

    /// The vault does not know the key.
    #[error("{0}")]
    InvalidKey(Box<Refusal>),
    #[error("{0}")]
    KeyRevoked(Box<Refusal>),
    #[error("{0}")]
    KeyExpired(Box<Refusal>),
    /// The key was rotated and its overlap is over.
    #[error("{0}")]
    KeyRotationExpired(Box<Refusal>),
    /// The key's app is archived or deleted.
    #[error("{0}")]
    KeyInactive(Box<Refusal>),
    /// The app of the key cannot be found.
    #[error("{0}")]
    KeyAppNotFound(Box<Refusal>),
    #[error("{0}")]
    AgentInactive(Box<Refusal>),
    #[error("{0}")]
    AgentRevoked(Box<Refusal>),
    /// The caller names no agent of the app.
    #[error("{0}")]
    AgentNotFound(Box<Refusal>),
    /// The caller is another agent than the key's.
    #[error("{0}")]
    CallerAgentMismatch(Box<Refusal>),
    /// The vault could not look the caller up just now.
    #[error("{0}")]
    CallerAgentResolution(Box<Refusal>),

    /// The key lacks a scope.
    #[error("{refusal}")]
    InsufficientScope { required: Vec<String>, granted: Vec<String>, missing: Vec<String>, refusal: Box<Refusal> },
    /// A rule denies the call; the refusal's code names it.
    #[error("{0}")]
    PolicyViolation(Box<Refusal>),
    /// The user must sign in again for this.
    #[error("{0}")]
    StepUpRequired(Box<Refusal>),
    /// The credential may not go to that URL.
    #[error("{0}")]
    BlockedDestination(Box<Refusal>),
    /// The grant hands out no credential: its calls go through the vault.
    #[error("{0}")]
    RestrictedGrantRequiresProxy(Box<Refusal>),

    #[error("{0}")]
    GrantNotFound(Box<Refusal>),
    #[error("{0}")]
    GrantRevoked(Box<Refusal>),
    #[error("{0}")]
    GrantExpired(Box<Refusal>),
    #[error("{0}")]
    GrantDeleted(Box<Refusal>),
    #[error("{0}")]
    GrantNotDelegable(Box<Refusal>),
    #[error("{0}")]
    NoDelegatedGrant(Box<Refusal>),
    /// Several grants fit.
    #[error("{0}")]
    AmbiguousGrant(Box<Refusal>),
    /// The credential behind the grant no longer works.
    #[error("{0}")]
    CredentialRevoked(Box<Refusal>),
    /// The connection lacks a scope of the provider.
    #[error("{0}")]
    ScopeReauthRequired(Box<Refusal>),
    /// The user must sign in again.
    #[error("{0}")]
    ReAuthRequired(Box<Refusal>),
    /// The credential is being renewed; try again in a moment.
    #[error("{0}")]
    TokenRefreshInProgress(Box<Refusal>),

    #[error("{refusal}")]
    RateLimit { retry_after: Option<Duration>, refusal: Box<Refusal> },
    #[error("{refusal}")]
    QuotaExceeded { retry_after: Option<Duration>, refusal: Box<Refusal> },

    /// Any other refusal of the vault, or an answer that cannot be used.
    #[error("{0}")]
    Backend(Box<Refusal>),

    /// Nobody could be reached, or the connection broke.
    #[error("cannot reach {peer}")]
    Network {
        peer: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {} s", after.as_secs_f64())]
    Timeout { peer: String, after: Duration },
    /// More than this client reads.
    #[error("{peer} answered more than {bytes_max} bytes")]
    AnswerTooLarge { peer: String, bytes_max: usize },
}

impl Error {
    /// What the vault said, if it was the vault that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Invalid(_)
            | Self::MalformedKey
            | Self::Network { .. }
            | Self::Timeout { .. }
            | Self::AnswerTooLarge { .. } => None,
            Self::InvalidKey(refusal)
            | Self::KeyRevoked(refusal)
            | Self::KeyExpired(refusal)
            | Self::KeyRotationExpired(refusal)
            | Self::KeyInactive(refusal)
            | Self::KeyAppNotFound(refusal)
            | Self::AgentInactive(refusal)
            | Self::AgentRevoked(refusal)
            | Self::AgentNotFound(refusal)
            | Self::CallerAgentMismatch(refusal)
            | Self::CallerAgentResolution(refusal)
            | Self::InsufficientScope { refusal, .. }
            | Self::PolicyViolation(refusal)
            | Self::StepUpRequired(refusal)
            | Self::BlockedDestination(refusal)
            | Self::RestrictedGrantRequiresProxy(refusal)
            | Self::GrantNotFound(refusal)
            | Self::GrantRevoked(refusal)
            | Self::GrantExpired(refusal)
            | Self::GrantDeleted(refusal)
            | Self::GrantNotDelegable(refusal)
            | Self::NoDelegatedGrant(refusal)
            | Self::AmbiguousGrant(refusal)
            | Self::CredentialRevoked(refusal)
            | Self::ScopeReauthRequired(refusal)
            | Self::ReAuthRequired(refusal)
            | Self::TokenRefreshInProgress(refusal)
            | Self::RateLimit { refusal, .. }
            | Self::QuotaExceeded { refusal, .. }
            | Self::Backend(refusal) => Some(refusal),
        }
    }

    /// An answer that is no error but breaks the contract. `why` may quote nothing of it.
    pub(crate) fn unusable(status: u16, why: &str) -> Self {
        Self::Backend(Box::new(Refusal {
            status,
            code: None,
            message: format!("the vault's answer cannot be used: {why}"),
            hint: None,
            request_id: None,
            details: Map::new(),
        }))
    }
}

/// A refusal as the vault sent it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, such as `grant_revoked`.
    pub code: Option<String>,
    pub message: String,
    /// What to do next, if the vault knows.
    pub hint: Option<String>,
    /// For the vault's operator.
    pub request_id: Option<String>,
    /// The other fields of the answer.
    pub details: Map<String, Value>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.code {
            Some(code) => write!(f, " ({code}, HTTP {})", self.status),
            None => write!(f, " (HTTP {})", self.status),
        }
    }
}

impl std::error::Error for Refusal {}

/// The error of an answer that is not 2xx. `api_key` is taken out, should anything on the way echo it.
pub(crate) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], api_key: &str) -> Error {
    let text = String::from_utf8_lossy(body).replace(api_key, crate::scrub::MARK);
    let json = match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Some(map),
        Ok(_) | Err(_) => None,
    };
    let structured = json.is_some();
    let mut fields = json.unwrap_or_default();
    if let Some(Value::Object(inner)) = fields.get_mut("detail") {
        fields = std::mem::take(inner);
    }
    let mut text_field = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(clean(&text)),
        _ => None,
    };
    let code = text_field("error");
    let message = text_field("message").unwrap_or_else(|| default_message(status));
    let hint = text_field("hint");
    if let Some(Value::Object(inner)) = fields.remove("details") {
        for (name, value) in inner {
            fields.entry(name).or_insert(value);
        }
    }
    let request_id = headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(clean);
    let retry_after_s = header_seconds(headers).or_else(|| fields.get("retry_after").and_then(Value::as_u64));
    let refusal = Refusal { status: status.as_u16(), code, message, hint, request_id, details: fields };
    classify(refusal, structured, retry_after_s)
}

/// The table of statuses and codes.
fn classify(refusal: Refusal, structured: bool, retry_after_s: Option<u64>) -> Error {
    let code = refusal.code.clone().unwrap_or_default();
    let retry_after = |max: u64| retry_after_s.map(|s| Duration::from_secs(s.min(max)));
    let list = |name: &str| {
        let items = refusal.details.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(clean).collect::<Vec<_>>()
    };
    let (required, granted, missing) = (list("required"), list("granted"), list("missing"));
    let refusal = Box::new(refusal);
    match (refusal.status, &*code) {
        (401, "invalid_key") => Error::InvalidKey(refusal),
        (401, "key_revoked") => Error::KeyRevoked(refusal),
        (401, "key_expired") => Error::KeyExpired(refusal),
        (401, "key_rotated_grace_expired") => Error::KeyRotationExpired(refusal),
        (401, "key_not_active") => Error::KeyInactive(refusal),
        (401, "agent_inactive") => Error::AgentInactive(refusal),
        (401, "agent_revoked") => Error::AgentRevoked(refusal),
        (401, "jwt_validation_error") => Error::ReAuthRequired(refusal),
        (403 | 400 | 502, "grant_revoked") => Error::GrantRevoked(refusal),
        (403 | 400 | 502, "credential_revoked") => Error::CredentialRevoked(refusal),
        (403 | 400 | 502, "restricted_grant_requires_proxy")
        | (400 | 502, "delegated_grant_requires_proxy" | "hitl_grant_requires_proxy" | "user_limits_require_proxy") => {
            Error::RestrictedGrantRequiresProxy(refusal)
        }
        (403, "insufficient_scope") => Error::InsufficientScope { required, granted, missing, refusal },
        (403, "grant_expired") => Error::GrantExpired(refusal),
        (403, "grant_not_delegable") => Error::GrantNotDelegable(refusal),
        (403, "scope_mismatch") => Error::ScopeReauthRequired(refusal),
        (403, "step_up_required") => Error::StepUpRequired(refusal),
        (403, _) => Error::PolicyViolation(refusal),
        (404 | 409, "no_delegated_grant") => Error::NoDelegatedGrant(refusal),
        (404, "caller_agent_unresolved" | "agent_not_found") => Error::AgentNotFound(refusal),
        (404, "secret_not_found") => Error::Backend(refusal),
        (404, _) => Error::GrantNotFound(refusal),
        (409, "ambiguous_grant") => Error::AmbiguousGrant(refusal),
        (409, "token_refresh_in_progress") => Error::TokenRefreshInProgress(refusal),
        (410, _) => Error::GrantDeleted(refusal),
        (400, "caller_agent_mismatch") => Error::CallerAgentMismatch(refusal),
        (429, "rate_limit_exceeded") => Error::RateLimit { retry_after: retry_after(RETRY_AFTER_RATE_MAX_S), refusal },
        (429, _) if !structured => Error::RateLimit { retry_after: retry_after(RETRY_AFTER_RATE_MAX_S), refusal },
        (429, "quota_exceeded") => Error::QuotaExceeded { retry_after: retry_after(RETRY_AFTER_QUOTA_MAX_S), refusal },
        (402 | 405 | 413 | 422 | 429 | 504, "blocked_destination") => Error::BlockedDestination(refusal),
        (500 | 503, "app_not_found_for_key") => Error::KeyAppNotFound(refusal),
        (500 | 503, "caller_agent_resolution_error") => Error::CallerAgentResolution(refusal),
        _ => Error::Backend(refusal),
    }
}

/// `Retry-After` in whole seconds; dates are ignored.
fn header_seconds(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Only too many digits are left to fail.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Bounded, and without anything a terminal would act on.
fn clean(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn default_message(status: StatusCode) -> String {
    match status.as_u16() {
        300..400 => "the vault answered a redirect, which is never followed: check the base URL".to_owned(),
        404 => "there is no such grant in this app".to_owned(),
        429 => "too many requests: slow down".to_owned(),
        _ => "the vault refused without saying why: check the base URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";

    fn error(status: u16, body: &str) -> Error {
        from_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes(), KEY)
    }

    fn name(error: &Error) -> String {
        let debug = format!("{error:?}");
        debug.split(['(', ' ']).next().unwrap().to_owned()
    }

    #[test]
    fn core_9_2_status_and_code_choose_the_error() {
        for (status, code, wanted) in [
            (401, "invalid_key", "InvalidKey"),
            (401, "key_revoked", "KeyRevoked"),
            (401, "key_expired", "KeyExpired"),
            (401, "key_rotated_grace_expired", "KeyRotationExpired"),
            (401, "key_not_active", "KeyInactive"),
            (401, "agent_inactive", "AgentInactive"),
            (401, "agent_revoked", "AgentRevoked"),
            (401, "jwt_validation_error", "ReAuthRequired"),
            (401, "signature_invalid", "Backend"),
            (403, "insufficient_scope", "InsufficientScope"),
            (403, "grant_expired", "GrantExpired"),
            (403, "grant_revoked", "GrantRevoked"),
            (400, "grant_revoked", "GrantRevoked"),
            (502, "grant_revoked", "GrantRevoked"),
            (409, "grant_revoked", "Backend"),
            (403, "credential_revoked", "CredentialRevoked"),
            (400, "restricted_grant_requires_proxy", "RestrictedGrantRequiresProxy"),
            (403, "restricted_grant_requires_proxy", "RestrictedGrantRequiresProxy"),
            (400, "delegated_grant_requires_proxy", "RestrictedGrantRequiresProxy"),
            (403, "delegated_grant_requires_proxy", "PolicyViolation"),
            (403, "grant_not_delegable", "GrantNotDelegable"),
            (403, "scope_mismatch", "ScopeReauthRequired"),
            (403, "step_up_required", "StepUpRequired"),
            (403, "tenant_mismatch", "PolicyViolation"),
            (403, "", "PolicyViolation"),
            (404, "no_delegated_grant", "NoDelegatedGrant"),
            (409, "no_delegated_grant", "NoDelegatedGrant"),
            (404, "caller_agent_unresolved", "AgentNotFound"),
            (404, "secret_not_found", "Backend"),
            (404, "grant_not_found", "GrantNotFound"),
            (404, "", "GrantNotFound"),
            (409, "ambiguous_grant", "AmbiguousGrant"),
            (409, "token_refresh_in_progress", "TokenRefreshInProgress"),
            (409, "conflict", "Backend"),
            (410, "grant_deleted", "GrantDeleted"),
            (410, "", "GrantDeleted"),
            (400, "caller_agent_mismatch", "CallerAgentMismatch"),
            (400, "invalid_request", "Backend"),
            (422, "blocked_destination", "BlockedDestination"),
            (400, "blocked_destination", "Backend"),
            (422, "invalid_value", "Backend"),
            (429, "rate_limit_exceeded", "RateLimit"),
            (429, "quota_exceeded", "QuotaExceeded"),
            (429, "too_many_pending_approvals", "Backend"),
            (503, "app_not_found_for_key", "KeyAppNotFound"),
            (500, "caller_agent_resolution_error", "CallerAgentResolution"),
            (503, "audit_unavailable", "Backend"),
            (302, "", "Backend"),
            (504, "", "Backend"),
        ] {
            let flat = error(status, &format!(r#"{{"error":"{code}","message":"m"}}"#));
            assert_eq!(name(&flat), wanted, "{status} {code}");
            let nested = error(status, &format!(r#"{{"detail":{{"error":"{code}","message":"m"}}}}"#));
            assert_eq!(name(&nested), wanted, "{status} {code} under detail");
            let refusal = flat.refusal().unwrap();
            assert_eq!((refusal.status, &*refusal.message), (status, "m"));
        }
        assert_eq!(name(&error(429, "slow down")), "RateLimit");
        assert_eq!(name(&error(502, "<html>")), "Backend");
    }

    #[test]
    fn scopes_hints_and_details_are_read() {
        let body = r#"{"error":"insufficient_scope","message":"m","hint":"h","required":["a:b"],"granted":[],
            "missing":["a:b"],"details":{"field":"x"}}"#;
        let Error::InsufficientScope { required, granted, missing, refusal } = error(403, body) else { panic!() };
        assert_eq!((required.len(), granted.len(), &*missing), (1, 0, &["a:b".to_owned()][..]));
        assert_eq!((refusal.hint.as_deref(), &refusal.details["field"]), (Some("h"), &Value::from("x")));
        assert_eq!(error(403, body).to_string(), "m (insufficient_scope, HTTP 403)");
    }

    #[test]
    fn the_header_beats_the_body_and_both_are_bounded() {
        let body = br#"{"error":"rate_limit_exceeded","retry_after":7}"#;
        let mut headers = HeaderMap::new();
        let seconds = |headers: &HeaderMap| match from_answer(StatusCode::TOO_MANY_REQUESTS, headers, body, KEY) {
            Error::RateLimit { retry_after, .. } => retry_after.unwrap().as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(seconds(&headers), 7);
        for (value, wanted) in [("0009", 9), ("99999999999999999999999", 3600), ("Wed, 21 Oct 2026 07:28:00 GMT", 7)] {
            headers.insert("retry-after", value.parse().unwrap());
            assert_eq!(seconds(&headers), wanted, "{value}");
        }
    }

    #[test]
    fn an_echoed_key_and_control_characters_are_taken_out() {
        let error = error(500, &format!(r#"{{"message":"bad \u001b[31m{KEY}","x":"{KEY}"}}"#));
        assert_eq!(error.to_string(), "bad  [31m[redacted] (HTTP 500)");
        assert!(!format!("{error:?}").contains(KEY));
    }
}
