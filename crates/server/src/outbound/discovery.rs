//! An issuer's discovery document, fetched when somebody asks for it: when a provider is looked at, stored, or to be read anew.
//!
//! Never: anything of an answer in an error; a redirect followed, which could lead to another issuer's document.

use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::Target;
use grantd_domain::provider::{Discovery, discovery_url};
use grantd_wire::{Error, limits};
use http::{HeaderMap, HeaderValue, Method, header};
use zeroize::Zeroizing;

use super::client::{Answered, Outgoing, exchange};
use crate::vault::Vault;

/// Why there is no document: words that follow the issuer's name, and what else to do.
pub struct NoDocument {
    pub why: String,
    hint: Option<&'static str>,
}

impl From<String> for NoDocument {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

/// Fetches what the issuer says of itself, which must be of this very issuer. `field`: where the issuer was named.
pub async fn discover(vault: &Vault, field: &str, issuer: &str) -> Result<Discovery, Error> {
    let body = fetch(vault, issuer).await.map_err(|none| {
        let error = Error::impossible(field, &none.why);
        none.hint.into_iter().fold(error, Error::hint)
    })?;
    Discovery::parse(&body, issuer).map_err(|wrong| Error::impossible(field, wrong.why))
}

/// Fetches a document as it is.
pub async fn fetch(vault: &Vault, issuer: &str) -> Result<Zeroizing<Vec<u8>>, NoDocument> {
    let target = Target::parse(&discovery_url(issuer)).map_err(|why| format!("is no issuer. {why}"))?;
    if !target.is_https() && !vault.settings.outbound.holds(&target) {
        return Err("must be https, or a host and port that outbound.allow names".to_owned().into());
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
    let Answered { status, body } = answered.map_err(|why| NoDocument {
        why: format!("has no discovery document that can be fetched: {why}"),
        hint: Some("Without a document to fetch, say what it would: the addresses of its endpoints."),
    })?;
    match status {
        200 => {}
        300..=399 => {
            let why = "answers with a redirect, which is not followed: give the issuer that it leads to";
            return Err(why.to_owned().into());
        }
        status => return Err(format!("has no discovery document: it answers {status}").into()),
    }
    body.ok_or_else(|| {
        let most = limits::DISCOVERY_BYTES_MAX / 1024;
        format!("has a discovery document that breaks off, or is larger than {most} KiB").into()
    })
}
