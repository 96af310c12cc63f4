//! An issuer's discovery document, fetched once: when a provider is stored.
//!
//! Never: anything of an answer in an error; a redirect followed, which could lead to another issuer's document.

use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::Target;
use grantd_domain::provider::{Discovery, discovery_url};
use grantd_wire::{Error, limits};
use http::{HeaderMap, HeaderValue, Method, header};

use super::client::{Answered, Outgoing, exchange};
use crate::vault::Vault;

/// Fetches what the issuer says of itself. `field`: where the issuer was named.
pub async fn discover(vault: &Vault, field: &str, issuer: &str) -> Result<Discovery, Error> {
    let refused = |why: &str| Error::impossible(field, why);
    let target = Target::parse(&discovery_url(issuer)).map_err(|why| refused(&format!("is no issuer. {why}")))?;
    if !target.is_https() && !vault.settings.outbound.holds(&target) {
        return Err(refused("must be https, or a host and port that outbound.allow names"));
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let outgoing = Outgoing {
        method: Method::GET,
        target: &target,
        headers,
        body: Bytes::new(),
        answer_bytes_max: Some(limits::DISCOVERY_BYTES_MAX),
    };
    let deadline = Duration::from_millis(limits::DISCOVERY_DEADLINE_MS);
    let answered = exchange(&vault.outbound, &vault.settings.outbound, outgoing, deadline).await;
    let Answered { status, body } = answered.map_err(|why| {
        refused(&format!("its discovery document cannot be fetched: {why}"))
            .hint("Without a document to fetch, say what it would: the addresses of its endpoints.")
    })?;
    match status {
        200 => {}
        300..=399 => {
            return Err(refused("answers with a redirect, which is not followed: give the issuer that it leads to"));
        }
        status => return Err(refused(&format!("has no discovery document: it answers {status}"))),
    }
    let body = body.ok_or_else(|| {
        let most = limits::DISCOVERY_BYTES_MAX / 1024;
        refused(&format!("has a discovery document that breaks off, or is larger than {most} KiB"))
    })?;
    Discovery::parse(&body, issuer).map_err(|why| refused(why.why))
}
