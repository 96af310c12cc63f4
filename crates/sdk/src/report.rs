//! What the vault's audit log is told about a call it did not see.
//!
//! Invariant: no credential is in a report, not even one the provider echoed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantd_wire::sdk::{CallReport, ScopeMismatchReport};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};

use crate::app::{Ask, Inner, random};
use crate::challenge::Bearer;
use crate::error::Error;
use crate::outgoing::Answer;
use crate::retry::Repeat;
use crate::scrub::Scrubber;
use crate::signing::Identity;

/// Bytes of a body that is reported as text.
const TEXT_BYTES_MAX: usize = 10_000;
/// Bytes of a JSON body that is reported: the whole report must stay below 1 MiB.
const JSON_BYTES_MAX: usize = 256 * 1024;
/// Scopes of a report, and characters of one, of the challenge and of the URL.
const MISSING_SCOPES_MAX: usize = 50;
const SCOPE_CHARS_MAX: usize = 256;
const CHALLENGE_CHARS_MAX: usize = 4_096;
const ENDPOINT_CHARS_MAX: usize = 2_048;
/// A report of a missing scope is given up after this.
const MISMATCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Headers that are credentials, or say something about one.
const PRIVATE_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
];

/// Headers as an object, without private ones and without those in `injected`. A repeated one is joined with commas.
pub fn headers(headers: &HeaderMap, injected: &[HeaderName], scrubber: &Scrubber) -> Value {
    let mut map = Map::new();
    for name in headers.keys() {
        if PRIVATE_HEADERS.contains(&name.as_str()) || injected.contains(name) {
            continue;
        }
        let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        map.insert(name.as_str().to_owned(), scrubber.text(&values.join(", ")).into());
    }
    Value::Object(map)
}

/// A raw body: its text, or how large it is.
pub fn raw_body(body: &[u8]) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) if body.len() <= TEXT_BYTES_MAX => text.into(),
        Ok(_) | Err(_) => format!("<binary body: {} bytes>", body.len()).into(),
    }
}

/// A JSON body: its value, or how large it is.
pub fn json_body(body: &[u8]) -> Value {
    let small = (body.len() <= JSON_BYTES_MAX).then(|| serde_json::from_slice(body).ok()).flatten();
    small.unwrap_or_else(|| format!("<JSON body: {} bytes>", body.len()).into())
}

/// Completes the report with what came of the call.
pub fn complete(report: &mut CallReport, outcome: Result<&Answer, &Error>, latency: Duration, scrubber: &Scrubber) {
    let latency_ms = i64::try_from(latency.as_millis()).unwrap_or(i64::MAX);
    report.latency_ms = Some(latency_ms);
    match outcome {
        Ok(answer) => {
            report.response_status = answer.status.as_u16().into();
            report.response_headers = Some(headers(&answer.headers, &[], scrubber));
            report.response_body = Some(response_body(&answer.body, scrubber));
        }
        Err(Error::Timeout { .. }) => {
            report.response_body = Some(format!("<transport error: timeout after {latency_ms}ms>"));
        }
        Err(_) => report.response_body = Some("<transport error: network>".to_owned()),
    }
}

/// Tells the vault. A report that is not taken is only logged: the call has been made.
pub async fn send(app: Arc<Inner>, report: CallReport, identity: Identity) {
    let ask = Ask::post("/sdk/oauth/audit/api-call", &report, Repeat::MakesAnother);
    if let Err(error) = app.ask(&ask, &identity).await {
        tracing::warn!(grant.id = %report.grant_id, "The audit report of a call was not taken: {error}");
    }
}

/// What the vault is told of a scope that the provider misses.
pub fn scope_mismatch(
    report: &CallReport,
    answer: &Answer,
    challenge: &Bearer,
    scrubber: &Scrubber,
) -> Result<ScopeMismatchReport, Error> {
    let raw = answer.headers.get(WWW_AUTHENTICATE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let cut = |text: &str, chars_max: usize| text.chars().take(chars_max).collect::<String>();
    let missing = challenge.missing_scopes().map(|scopes| {
        let scopes = scopes.iter().take(MISSING_SCOPES_MAX);
        scopes.map(|scope| cut(&scrubber.text(scope), SCOPE_CHARS_MAX)).collect()
    });
    Ok(ScopeMismatchReport {
        provider_status_code: answer.status.as_u16().into(),
        provider_error_code: "insufficient_scope".to_owned(),
        missing_scopes: missing,
        raw_www_authenticate: raw.map(|raw| cut(&scrubber.text(&raw), CHALLENGE_CHARS_MAX)),
        api_endpoint: Some(cut(report.url.split('?').next().unwrap_or_default(), ENDPOINT_CHARS_MAX)),
        detection_source: Some("www_authenticate_rfc6750".to_owned()),
        sdk_correlation_id: Some(URL_SAFE_NO_PAD.encode(random::<16>()?)),
    })
}

/// Sends it, once, within [`MISMATCH_TIMEOUT`].
pub async fn send_mismatch(app: Arc<Inner>, path: String, report: ScopeMismatchReport, identity: Identity) {
    let ask = Ask::post(&path, &report, Repeat::MakesAnother);
    match tokio::time::timeout(MISMATCH_TIMEOUT, app.ask(&ask, &identity)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!("The report of a missing scope was not taken: {error}"),
        Err(_) => tracing::warn!("The report of a missing scope was not taken in time"),
    }
}

fn response_body(body: &[u8], scrubber: &Scrubber) -> String {
    if body.len() > TEXT_BYTES_MAX {
        return format!("<response too large: {} bytes>", body.len());
    }
    match std::str::from_utf8(body) {
        Ok(text) => scrubber.text(text).into_owned(),
        Err(_) => format!("<binary response: {} bytes>", body.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_injected_headers_stay_out() {
        let mut map = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("cookie", "c"), ("x-key", "k"), ("x-echo", "is secret-1!")] {
            map.append(name, value.parse().unwrap());
        }
        let scrubber = Scrubber::new(["secret-1"]);
        let reported = headers(&map, &[HeaderName::from_static("x-key")], &scrubber);
        assert_eq!(reported, serde_json::json!({"x-a": "1, 2", "x-echo": "is [redacted]!"}));
    }

    #[test]
    fn bodies_are_reported_as_text_or_by_their_size() {
        let none = Scrubber::new([]);
        assert_eq!(raw_body(b"a=1"), "a=1");
        assert_eq!(raw_body(b"\xff\xfe"), "<binary body: 2 bytes>");
        assert_eq!(json_body(b"{\"a\":1}"), serde_json::json!({"a": 1}));
        assert_eq!(json_body(&vec![b'1'; JSON_BYTES_MAX + 1]), format!("<JSON body: {} bytes>", JSON_BYTES_MAX + 1));
        assert_eq!(response_body(b"\xff", &none), "<binary response: 1 bytes>");
        assert_eq!(response_body(&vec![b'x'; TEXT_BYTES_MAX + 1], &none), "<response too large: 10001 bytes>");
        assert_eq!(response_body(b"", &none), "");
    }
}
