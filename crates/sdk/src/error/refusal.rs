//! What the vault said.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Where `Retry-After` is kept in the details of a 500 or 503.
pub const RETRY_AFTER_SECONDS: &str = "retry_after_seconds";

/// A refusal as the vault sent it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, such as `grant_revoked`.
    pub code: Option<String>,
    /// For people.
    pub message: String,
    /// What to do next, if the vault knows.
    pub hint: Option<String>,
    /// For the vault's operator.
    pub request_id: Option<String>,
    /// The other fields of the answer.
    pub details: Map<String, Value>,
}

impl Refusal {
    /// Words of our own about an answer that says nothing usable.
    pub(crate) fn of_client(status: u16, message: String) -> Self {
        Self { status, code: None, message, hint: None, request_id: None, details: Map::new() }
    }
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

/// One of several grants that fit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct GrantCandidate {
    pub grant_id: String,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub account_identifier: Option<String>,
    #[serde(default)]
    pub account_display_name: Option<String>,
}

/// One of several credentials of a managed secret.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct CredentialChoice {
    pub id: String,
    #[serde(default)]
    pub label: Option<String>,
}
