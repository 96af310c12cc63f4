#![doc = include_str!("../README.md")]
//!
//! # Invariants
//!
//! A credential or a key is never in a `Debug`, a `Display`, an error, a log line or a report; the vault's key never travels to a
//! provider; nothing follows a redirect; nothing that may have happened is done again.

mod app;
#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(feature = "browser")]
mod browser;
mod challenge;
mod clock;
mod connect;
mod constraints;
mod destination;
mod error;
mod grants;
mod identity;
mod inject;
mod outgoing;
mod rate;
mod report;
mod request;
mod response;
mod retry;
mod scrub;
mod sign_in;
mod signing;
mod sigv4;

pub use app::{App, AppBuilder, DEFAULT_BASE_URL, DEFAULT_TIMEOUT};
#[cfg(feature = "browser")]
pub use browser::open_browser;
pub use connect::{
    CONNECT_POLL_INTERVAL, CONNECT_TIMEOUT, ConnectEvent, ConnectOperation, ConnectRequest, ConnectSession,
    ConnectWait, Connected, ConnectedDelegation, ConnectedGrant, ConnectedPolicy, DeclinedProvider, FailedGrant,
    KeyPath, KeyRequest, KeySession,
};
pub use constraints::Constraints;
pub use error::{CredentialChoice, Error, GrantCandidate, Refusal, Source};
pub use grantd_wire::TimeMs;
pub use grantd_wire::sdk::{
    CatalogueProvider, CatalogueScope, GrantsPage, Identity, Lifetime as GrantPolicy, Principal, ResourceVerbs,
    RevokeAnswer, ScopeCatalogue, SecretGrantAnswer, SecretGrantRequest, Trace,
};
pub use grants::{Grant, GrantFilter, MintRequest, MintedGrant};
pub use identity::{AssertionRequest, IdentityAssertion, IdentityRequest};
pub use rate::RateLimitState;
pub use request::RequestBuilder;
pub use response::{Response, RetryError, RetryInfo};
pub use retry::{RETRIES_MAX, RETRY_WAIT_MAX, Retries};
pub use sign_in::{AuthResult, AuthSession, AuthWait, UserInfo};
pub use signing::CallerType;
