//! Answers: JSON, or a stream; and how an error becomes one.

use axum::body::Body;
use grantd_wire::{Code, Error};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A finished answer.
pub type Answer = Response<Body>;

/// A JSON answer.
pub fn json(status: u16, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).expect("bodies of ours have a JSON form");
    raw(status, "application/json", Body::from(bytes))
}

/// An answer without a body.
pub fn empty(status: u16) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::from_u16(status).expect("statuses of ours are valid");
    answer
}

/// An answer of this type.
pub fn raw(status: u16, content_type: &'static str, body: Body) -> Answer {
    let mut answer = empty(status);
    *answer.body_mut() = body;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The answer to a refusal.
pub fn refusal(error: &Error) -> Answer {
    let mut answer = json(error.code.status(), error);
    if let Some(seconds) = error.retry_after_s {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = error.details.get("allow").and_then(serde_json::Value::as_str) {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_str(allow).expect("methods are ASCII"));
    }
    // RFC 9110 wants the methods in a header, too.
    if let Some(allow) = error.details.get("allow").and_then(|a| HeaderValue::from_str(a.as_str()?).ok()) {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    // So that the log line can name it without reading the body.
    answer.extensions_mut().insert(error.code);
    answer
}

/// What a store error is to a caller. What nobody outside needs to know is logged here, once.
pub fn of_store(error: grantd_store::Error) -> Error {
    use grantd_store::Error as Store;
    match error {
        Store::Refused(error) => *error,
        Store::Replayed => Error::new(Code::NonceReplayed),
        Store::Busy => Error::new(Code::Busy),
        Store::Duplicate => Error::new(Code::Conflict),
        Store::Unavailable { .. } => {
            tracing::error!(error = %error, "The database is unavailable");
            Error::new(Code::StorageUnavailable)
        }
        Store::Statement { .. } | Store::Inconsistent { .. } | Store::Panicked | Store::Schema(_) => {
            tracing::error!(error = %error, "The store failed");
            Error::new(Code::Internal)
        }
    }
}
