//! An issuer's discovery document, fetched when somebody asks for it: when a provider is looked at, stored, or to be read anew.
//!
//! Never: anything of an answer in an error; a redirect followed, which could lead to another issuer's document.

use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::{OutboundAllow, Target};
use grantd_domain::identity::{Endpoints, check_url};
use grantd_domain::provider::{Discovery, discovery_url};
use grantd_wire::{Error, limits};
use http::{HeaderMap, HeaderValue, Method, header};
use zeroize::Zeroizing;

use super::Outbound;
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
    discover_through(&vault.outbound, &vault.settings.outbound, field, issuer).await
}

async fn discover_through(
    outbound: &Outbound,
    allow: &OutboundAllow,
    field: &str,
    issuer: &str,
) -> Result<Discovery, Error> {
    let body = fetch_through(outbound, allow, issuer).await.map_err(|none| {
        let error = Error::impossible(field, &none.why);
        none.hint.into_iter().fold(error, Error::hint)
    })?;
    Discovery::parse(&body, issuer).map_err(|wrong| Error::impossible(field, wrong.why))
}

/// Where an identity provider of this issuer is called, as the issuer says now.
pub async fn endpoints(vault: &Vault, issuer: &str) -> Result<Endpoints, Error> {
    endpoints_of(discover(vault, "issuer", issuer).await?)
        .ok_or_else(|| Error::impossible("issuer", "names no keys in its discovery document: give jwks_url"))
}

/// The same of the issuer of single sign-on, who must be able to sign somebody in.
pub async fn sso_endpoints(outbound: &Outbound, allow: &OutboundAllow, issuer: &str) -> Result<Endpoints, Error> {
    const FIELD: &str = "sso.issuer";
    let found = endpoints_of(discover_through(outbound, allow, FIELD, issuer).await?)
        .ok_or_else(|| Error::impossible(FIELD, "names no address of keys in its discovery document"))?;
    let holds = |url: &str| Target::parse(url).is_ok_and(|target| allow.holds(&target));
    for (a, what, url) in [
        ("an", "authorize endpoint", found.authorize_url.as_deref()),
        ("a", "token endpoint", found.token_url.as_deref()),
        ("an", "address of keys", Some(found.jwks_url.as_str())),
    ] {
        let url = url.ok_or_else(|| Error::impossible(FIELD, &format!("names no {what} in its discovery document")))?;
        check_url(url, holds).map_err(|why| Error::impossible(FIELD, &format!("names {a} {what} that {why}")))?;
    }
    Ok(found)
}

/// None: it says nowhere where its keys are.
fn endpoints_of(found: Discovery) -> Option<Endpoints> {
    let posts = |method: &str| found.token_endpoint_auth_methods_supported.iter().any(|known| known == method);
    Some(Endpoints {
        posts_secret: posts("client_secret_post") && !posts("client_secret_basic"),
        names_issuer: found.authorization_response_iss_parameter_supported,
        jwks_url: found.jwks_uri?,
        authorize_url: found.authorization_endpoint,
        token_url: found.token_endpoint,
        userinfo_url: found.userinfo_endpoint,
    })
}

/// Fetches a document as it is.
pub async fn fetch(vault: &Vault, issuer: &str) -> Result<Zeroizing<Vec<u8>>, NoDocument> {
    fetch_through(&vault.outbound, &vault.settings.outbound, issuer).await
}

async fn fetch_through(
    outbound: &Outbound,
    allow: &OutboundAllow,
    issuer: &str,
) -> Result<Zeroizing<Vec<u8>>, NoDocument> {
    let target = Target::parse(&discovery_url(issuer)).map_err(|why| format!("is no issuer. {why}"))?;
    if !target.is_https() && !allow.holds(&target) {
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
    let answered = exchange(outbound, allow, outgoing, deadline).await;
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
