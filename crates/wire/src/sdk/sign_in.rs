//! Signing users in: `/sdk/auth/session`, `/sdk/auth/poll` and `/sdk/auth/verify-token`.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// The answer to `POST /sdk/auth/session`. No `Debug`, here and below: whoever holds the token, or the link, may go on with it.
#[derive(Deserialize, Serialize)]
pub struct AuthSession {
    pub session_token: String,
    /// Where the user signs in.
    pub auth_url: String,
    pub expires_in: i64,
    pub expires_at: TimeMs,
}

/// `POST /sdk/auth/poll`.
#[derive(Deserialize, Serialize)]
pub struct AuthPollRequest {
    pub session_token: String,
    /// How long to wait for the end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<i64>,
}

/// How a sign-in stands.
#[derive(Deserialize, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum AuthPoll {
    Pending,
    Completed {
        user_token: String,
        user_info: UserInfo,
    },
    Error {
        error_code: String,
        error_message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    Expired,
}

/// Who signed in.
#[derive(Clone, Deserialize, Serialize)]
pub struct UserInfo {
    pub sub: String,
    pub email: Option<String>,
    pub name: Option<String>,
}

/// `POST /sdk/auth/verify-token`.
#[derive(Deserialize, Serialize)]
pub struct VerifyTokenRequest {
    pub token: String,
}

/// Its answer: whose token it is, and nothing else.
#[derive(Deserialize, Serialize)]
pub struct VerifiedToken {
    pub sub: String,
}
