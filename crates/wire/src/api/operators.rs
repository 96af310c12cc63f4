//! Operators and their personal access tokens.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

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
