//! A Connect session at the demo provider, asked for as any backend does: by a signed call with the app's key.

use std::time::Duration;

use grantd_domain::env::{Clock as _, random};
use grantd_wire::sign::{
    HEADER_CONTENT_SHA256, HEADER_KEY, HEADER_NONCE, HEADER_SIGNATURE, HEADER_TIMESTAMP, SigningKey, ToSign, hex,
    sha256,
};
use reqwest::redirect;
use serde_json::{Value, json};

use super::provider::PROVIDER;
use crate::cli::{Exit, Failure};
use crate::host::Host;

const PATH: &str = "/sdk/oauth/connect/session";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The link to click. An app may be set so that it gets none: a note says why, and everything else goes on.
pub async fn session(base_url: &str, api_key: &str, notes: &mut Vec<String>) -> Result<Option<String>, Failure> {
    let failed = |e: reqwest::Error| Failure::from_error(Exit::Error, &e);
    let body = json!({"allowed_providers": [PROVIDER]}).to_string();
    let to_sign = ToSign {
        method: "POST",
        target: PATH,
        timestamp: &(Host.now().0 / 1000).to_string(),
        nonce: &hex(&random::<16>(&Host)),
        content_sha256: &hex(&sha256(body.as_bytes())),
        ..ToSign::default()
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(failed)?;
    let request = client
        .post(format!("{base_url}{PATH}"))
        .header("content-type", "application/json")
        .header(HEADER_KEY, api_key)
        .header(HEADER_TIMESTAMP, to_sign.timestamp)
        .header(HEADER_NONCE, to_sign.nonce)
        .header(HEADER_CONTENT_SHA256, to_sign.content_sha256)
        .header(HEADER_SIGNATURE, SigningKey::derive(api_key).sign(&to_sign.text()))
        .body(body);
    let answer: Value = request.send().await.map_err(failed)?.json().await.map_err(failed)?;
    if let Some(url) = answer["connect_url"].as_str() {
        return Ok(Some(url.to_owned()));
    }
    let why = answer["message"].as_str().unwrap_or("the answer makes no sense");
    notes.push(format!("There is no link to connect an account: {why}"));
    Ok(None)
}
