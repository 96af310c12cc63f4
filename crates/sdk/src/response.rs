//! What comes back from a provider.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// Characters of one error in a [`RetryInfo`].
const RETRY_ERROR_CHARS_MAX: usize = 500;

/// What the provider answered.
#[derive(Clone)]
#[non_exhaustive]
pub struct Response {
    /// The provider's HTTP status.
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The vault's audit event of the release, if it named one.
    pub event_id: Option<String>,
    /// How long the provider took.
    pub duration: Duration,
    /// How the vault renewed the credential for this call, if it told.
    pub retry_info: Option<RetryInfo>,
}

impl Response {
    /// The body as text; what is no UTF-8 becomes U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        // The cause quotes no more than a place in the body.
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::Invalid(format!("the provider's answer is not the JSON that was expected: {e}")))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("event_id", &self.event_id)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

/// How the vault renewed a credential before it released it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct RetryInfo {
    pub total_attempts: u32,
    pub successful_attempt: u32,
    #[serde(default)]
    pub errors: Vec<RetryError>,
}

/// One attempt that failed.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct RetryError {
    pub attempt: u32,
    pub error: String,
    pub error_type: String,
    pub delay_s: f64,
    pub permanent: bool,
}

impl RetryInfo {
    /// `None` where it is malformed: nobody relies on it.
    pub(crate) fn of(value: Value) -> Option<Self> {
        let info: Self = serde_json::from_value(value).ok()?;
        let possible = |error: &RetryError| {
            error.attempt >= 1 && error.delay_s >= 0.0 && error.error.chars().count() <= RETRY_ERROR_CHARS_MAX
        };
        let fits = info.total_attempts >= 1 && info.successful_attempt <= info.total_attempts;
        (fits && info.errors.iter().all(possible)).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn retry_info_is_read_or_left_out() {
        let error = json!({"attempt": 1, "error": "e", "error_type": "t", "delay_s": 0.5, "permanent": false});
        let good = json!({"total_attempts": 2, "successful_attempt": 2, "errors": [error]});
        let info = RetryInfo::of(good.clone()).unwrap();
        assert_eq!((info.total_attempts, info.errors[0].attempt), (2, 1));
        for (field, value) in [
            ("total_attempts", json!(0)),
            ("total_attempts", json!(1)),
            ("total_attempts", json!("2")),
            ("successful_attempt", json!(-1)),
            ("errors", json!([{"attempt": 1}])),
            ("errors", json!(null)),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            assert_eq!(RetryInfo::of(bad.clone()), None, "{bad}");
        }
    }
}
