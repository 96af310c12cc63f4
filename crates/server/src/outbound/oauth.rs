//! Calls to OAuth providers: token endpoints, revocation, identity and discovery.
//!
//! Never: anything of a request or of an answer in a log or an error.

use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::Target;
use grantd_domain::provider::{ANSWER_BYTES_MAX, Call, Method};
use grantd_domain::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::Failed;
use super::client::{Answered, Outgoing, exchange};
use crate::vault::Vault;

/// Why a call brought no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// Nothing was sent.
    Unsent(Failed),
    /// It was sent, or may have been.
    Lost(Failed),
}

impl NoAnswer {
    /// What happened, in words that tell nothing of the call.
    pub const fn why(self) -> Failed {
        match self {
            Self::Unsent(why) | Self::Lost(why) => why,
        }
    }
}

/// Sends a call and waits for its answer, at most as long as `deadline`.
pub async fn send(vault: &Vault, call: &Call, deadline: Duration) -> Result<Answered, NoAnswer> {
    let unsendable = NoAnswer::Unsent(Failed::Broken);
    let target = Target::parse(call.url.reveal()).map_err(|_| unsendable)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable)?;
        headers.insert(name, sensitive(value).ok_or(unsendable)?);
    }
    let body = call.body.as_ref().map_or_else(Bytes::new, wiped);
    let outgoing = Outgoing {
        method: match call.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Delete => http::Method::DELETE,
        },
        target: &target,
        headers,
        body,
        answer_bytes_max: Some(ANSWER_BYTES_MAX),
    };
    let sent = exchange(&vault.outbound, &vault.settings.outbound, outgoing, deadline).await;
    sent.map_err(|why| match why {
        Failed::NotPublic | Failed::Name | Failed::Connect | Failed::Tls | Failed::NoRoots => NoAnswer::Unsent(why),
        Failed::TimedOut | Failed::Broken => NoAnswer::Lost(why),
    })
}

fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(wiped(value)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Wiped when the last part of the HTTP client that holds it lets go. What that client and TLS copy into buffers of their own is not.
fn wiped(secret: &Secret) -> Bytes {
    Bytes::from_owner(Zeroizing::new(secret.reveal().as_bytes().to_vec()))
}
