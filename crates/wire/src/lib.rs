//! grantd's public contract: what applications, operators' scripts and other SDKs rely on.
//!
//! Types of `/sdk` and `/api/v1`, ids, API key forms, request signing, error codes, scopes and limits. Data and pure
//! functions only; nothing here decides anything.

pub mod api;
pub mod error;
pub mod ids;
pub mod key;
pub mod limits;
pub mod object;
pub mod retention;
pub mod scope;
pub mod sdk;
pub mod sign;
pub mod time;

pub use error::{Code, Error};
pub use retention::Retention;
pub use time::TimeMs;
