//! From status and code to the error.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal::RETRY_AFTER_SECONDS;
use super::{Error, Refusal};

/// Characters kept of a message the vault sent.
const MESSAGE_CHARS_MAX: usize = 1_000;
/// No vault asks for more patience than this when a rate is exceeded, nor than that when a quota is.
const RETRY_AFTER_RATE_MAX_S: u64 = 3_600;
const RETRY_AFTER_QUOTA_MAX_S: u64 = 2_678_400;

/// The error of an answer that is not 2xx. `api_key` is taken out, should anything on the way echo it.
pub fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], api_key: &str) -> Error {
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
    let from_header_s = header_seconds(headers);
    if let (500 | 502 | 503, Some(seconds)) = (status.as_u16(), from_header_s) {
        fields.insert(RETRY_AFTER_SECONDS.to_owned(), seconds.min(RETRY_AFTER_RATE_MAX_S).into());
    }
    let retry_after_s = from_header_s.or_else(|| fields.get("retry_after").and_then(Value::as_u64));
    let refusal = Refusal { status: status.as_u16(), code, message, hint, request_id, details: fields };
    let body = if structured { Body::Structured } else { Body::Opaque };
    classify(Fields(refusal), body, retry_after_s)
}

/// Whether the answer was a JSON object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Structured,
    Opaque,
}

/// The table of statuses and codes.
fn classify(fields: Fields, body: Body, retry_after_s: Option<u64>) -> Error {
    let code = fields.0.code.clone().unwrap_or_default();
    let retry_after = |max: u64| retry_after_s.map(|s| Duration::from_secs(s.min(max)));
    match (fields.0.status, &*code) {
        (401, code) => unauthorized(code, fields),
        (403 | 400 | 502, "grant_revoked") => {
            Error::GrantRevoked { grant_id: fields.text("grant_id"), refusal: fields.into() }
        }
        (403 | 400 | 502, "credential_revoked") => Error::CredentialRevoked {
            grant_id: fields.text("grant_id"),
            provider_id: fields.text("provider_id"),
            app_user_id: fields.text("app_user_id"),
            refusal: fields.into(),
        },
        (403 | 400 | 502, "restricted_grant_requires_proxy")
        | (400 | 502, "delegated_grant_requires_proxy" | "hitl_grant_requires_proxy" | "user_limits_require_proxy") => {
            Error::RestrictedGrantRequiresProxy(fields.into())
        }
        (403, code) => forbidden(code, fields),
        (404 | 409, "no_delegated_grant") => Error::NoDelegatedGrant {
            provider_id: fields.text("provider_id"),
            agent_id: fields.text("agent_id"),
            app_user_id: fields.text("app_user_id"),
            refusal: fields.into(),
        },
        (404, "caller_agent_unresolved" | "agent_not_found") => Error::AgentNotFound(fields.into()),
        (404, "secret_not_found") | (422, "secret_template_mismatch") => Error::ConnectConfig(fields.into()),
        (404, _) => Error::GrantNotFound {
            provider_id: fields.text("provider_id"),
            agent_id: fields.text("agent_id"),
            app_user_id: fields.text("app_user_id"),
            refusal: fields.into(),
        },
        (409, code) => conflict(code, fields),
        (410, _) => Error::GrantDeleted(fields.into()),
        (400 | 502, "caller_agent_mismatch") => Error::CallerAgentMismatch(fields.into()),
        (429, "rate_limit_exceeded") => rate_limit(retry_after(RETRY_AFTER_RATE_MAX_S), fields),
        (429, _) if body == Body::Opaque => rate_limit(retry_after(RETRY_AFTER_RATE_MAX_S), fields),
        (429, "quota_exceeded") => {
            Error::QuotaExceeded { retry_after: retry_after(RETRY_AFTER_QUOTA_MAX_S), refusal: fields.into() }
        }
        (402 | 405 | 413 | 422 | 429 | 504, "blocked_destination") => Error::BlockedDestination(fields.into()),
        (500 | 503, "app_not_found_for_key") => Error::KeyAppNotFound(fields.into()),
        (500 | 503, "caller_agent_resolution_error") => Error::CallerAgentResolution(fields.into()),
        _ => Error::Backend(fields.into()),
    }
}

fn unauthorized(code: &str, fields: Fields) -> Error {
    let refusal: Box<Refusal> = fields.into();
    match code {
        "invalid_key" => Error::InvalidKey(refusal),
        "key_revoked" => Error::KeyRevoked(refusal),
        "key_expired" => Error::KeyExpired(refusal),
        "key_rotated_grace_expired" => Error::KeyRotationExpired(refusal),
        "key_not_active" => Error::KeyInactive(refusal),
        "agent_inactive" => Error::AgentInactive(refusal),
        "agent_revoked" => Error::AgentRevoked(refusal),
        "jwt_validation_error" => Error::ReAuthRequired(refusal),
        _ => Error::Backend(refusal),
    }
}

fn forbidden(code: &str, fields: Fields) -> Error {
    match code {
        "insufficient_scope" => Error::InsufficientScope {
            required: fields.list("required"),
            granted: fields.list("granted"),
            missing: fields.list("missing"),
            required_any_of: fields.flag("required_any_of"),
            scope_version_mismatch: fields.flag("scope_version_mismatch"),
            scope_version: fields.number("scope_version"),
            current_scope_version: fields.number("current_scope_version"),
            refusal: fields.into(),
        },
        "grant_expired" => Error::GrantExpired {
            provider_id: fields.text("provider_id"),
            agent_id: fields.text("agent_id"),
            app_user_id: fields.text("app_user_id"),
            refusal: fields.into(),
        },
        "grant_not_delegable" => {
            Error::GrantNotDelegable { detail_reason: fields.text("detail_reason"), refusal: fields.into() }
        }
        "scope_mismatch" => Error::ScopeReauthRequired {
            grant_id: fields.text("grant_id"),
            provider_id: fields.text("provider_id"),
            missing_scopes: None,
            refusal: Some(fields.into()),
            response: None,
        },
        "step_up_required" => Error::StepUpRequired {
            max_session_age_seconds: fields.number("max_session_age_seconds"),
            refusal: fields.into(),
        },
        "redact_discharge_failed" => Error::RedactDischargeFailed(fields.into()),
        _ => Error::PolicyViolation { policy_error: fields.0.code.clone(), refusal: fields.into() },
    }
}

fn conflict(code: &str, fields: Fields) -> Error {
    match code {
        "ambiguous_grant" => Error::AmbiguousGrant {
            provider_id: fields.text("provider_id"),
            account_identifiers: fields.list("account_identifiers"),
            account_was_provided: fields.flag("account_was_provided"),
            app_user_ids: fields.list("app_user_ids"),
            grant_ids: fields.list("grant_ids"),
            candidates: fields.objects("candidates"),
            candidates_truncated: fields.flag("candidates_truncated"),
            refusal: fields.into(),
        },
        "token_refresh_in_progress" => {
            Error::TokenRefreshInProgress { grant_id: fields.text("grant_id"), refusal: fields.into() }
        }
        "sibling_label_conflict" => Error::SiblingLabelConflict { label: fields.text("label"), refusal: fields.into() },
        "credential_id_required" => {
            Error::CredentialIdRequired { credentials: fields.objects("credentials"), refusal: fields.into() }
        }
        "end_user_credential_not_assignable" => Error::EndUserCredentialNotAssignable(fields.into()),
        "managed_oauth_scope_approval_required"
        | "idp_signin_not_configured"
        | "no_eligible_grants"
        | "binding_hosts_required"
        | "provider_contract_repair_required" => Error::ConnectConfig(fields.into()),
        _ => Error::Backend(fields.into()),
    }
}

fn rate_limit(retry_after: Option<Duration>, fields: Fields) -> Error {
    Error::RateLimit {
        retry_after,
        scope: fields.text("scope"),
        limit: fields.number("limit"),
        window_seconds: fields.number("window_seconds"),
        refusal: fields.into(),
    }
}

/// A refusal whose fields are read one by one. What is of another type counts as absent.
struct Fields(Refusal);

impl Fields {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.details.get(name)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Value::as_str).map(clean)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    /// Only a real `true` counts.
    fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.items(name).filter_map(Value::as_str).map(clean).collect()
    }

    /// Malformed entries are left out.
    fn objects<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        self.items(name).filter_map(|item| T::deserialize(item).ok()).collect()
    }

    fn items(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.get(name).and_then(Value::as_array).into_iter().flatten()
    }
}

impl From<Fields> for Box<Refusal> {
    fn from(fields: Fields) -> Self {
        Box::new(fields.0)
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
            (403, "redact_discharge_failed", "RedactDischargeFailed"),
            (403, "tenant_mismatch", "PolicyViolation"),
            (403, "", "PolicyViolation"),
            (404, "no_delegated_grant", "NoDelegatedGrant"),
            (409, "no_delegated_grant", "NoDelegatedGrant"),
            (404, "caller_agent_unresolved", "AgentNotFound"),
            (404, "secret_not_found", "ConnectConfig"),
            (404, "grant_not_found", "GrantNotFound"),
            (404, "", "GrantNotFound"),
            (409, "ambiguous_grant", "AmbiguousGrant"),
            (409, "token_refresh_in_progress", "TokenRefreshInProgress"),
            (409, "sibling_label_conflict", "SiblingLabelConflict"),
            (409, "credential_id_required", "CredentialIdRequired"),
            (409, "end_user_credential_not_assignable", "EndUserCredentialNotAssignable"),
            (409, "no_eligible_grants", "ConnectConfig"),
            (422, "secret_template_mismatch", "ConnectConfig"),
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
            assert!(flat.classes()[0].starts_with(wanted), "{:?} is not {wanted}", flat.classes());
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
        let Error::InsufficientScope { required, granted, missing, refusal, .. } = error(403, body) else { panic!() };
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
