//! Sends one request, once, and reads a bounded answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use crate::error::Error;

/// Bytes read of an answer of the vault. The largest is a page of 1000 grants.
pub const VAULT_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes read of a provider's answer.
pub const PROVIDER_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(30);
/// How this client names itself.
const USER_AGENT: &str = concat!("grantd-sdk/", env!("CARGO_PKG_VERSION"));

/// Three ways out. What is added to one never travels on another.
pub struct Clients {
    pub vault: reqwest::Client,
    pub provider: reqwest::Client,
    /// Providers on this machine, by plain http: no proxy, no TLS.
    pub provider_on_loopback: reqwest::Client,
}

/// An answer read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Clients {
    pub fn new(timeout: Duration, vault_on_loopback: bool) -> Result<Self, Error> {
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| Error::Network {
                peer: "anybody: TLS cannot be set up".to_owned(),
                nothing_sent: true,
                source: e.into(),
            })
        };
        let vault = if vault_on_loopback { loopback(timeout) } else { any(timeout) };
        Ok(Self {
            vault: build(vault)?,
            provider: build(any(timeout))?,
            provider_on_loopback: build(loopback(timeout))?,
        })
    }
}

fn any(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .timeout(timeout)
        .pool_idle_timeout(IDLE)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
}

/// Plain http on this machine. No list of certificates is loaded, as none is needed.
fn loopback(timeout: Duration) -> reqwest::ClientBuilder {
    any(timeout).no_proxy().tls_certs_only(std::iter::empty())
}

/// Sends `request` and reads at most `bytes_max` of the answer. `peer` is what errors call the other side.
pub async fn exchange(
    client: &reqwest::Client,
    request: reqwest::RequestBuilder,
    peer: &str,
    timeout: Duration,
    bytes_max: usize,
) -> Result<Answer, Error> {
    // An error of this library may hold the URL, and the URL a credential.
    let failed = |e: reqwest::Error| {
        if e.is_timeout() {
            return Error::Timeout { peer: peer.to_owned(), after: timeout };
        }
        Error::Network { peer: peer.to_owned(), nothing_sent: e.is_connect(), source: Box::new(e.without_url()) }
    };
    let too_large = || Error::AnswerTooLarge { peer: peer.to_owned(), bytes_max };
    let request = request.build().map_err(failed)?;
    let mut response = client.execute(request).await.map_err(failed)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body: body.freeze() })
}
