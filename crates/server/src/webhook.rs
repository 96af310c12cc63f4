//! `/webhooks/idp/{identity provider}`: where an identity provider tells what became of its users.
//!
//! Invariants: nothing of a body is looked into before it is proved to be the vendor's, and nothing but what it says is believed.
//! Whom it does not know it is silent about: whether a user is one of the app's cannot be asked here.

use std::sync::Arc;

use axum::body::Body;
use grantd_domain::account::SealedSecret;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::webhook::signature::{Headers, Key, SECRET_START, verify};
use grantd_domain::webhook::{Message, Told, read};
use grantd_store::idp_webhooks::{self as rows, Proof, Webhook};
use grantd_wire::ids::IdentityProviderId;
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, limits};
use http::HeaderMap;
use http::header::{self, HeaderName};
use http::request::Parts;
use serde_json::json;

use crate::answer::{Answer, empty, json, of_store};
use crate::caller::{Source, body, failed};
use crate::flow;
use crate::keyring::webhook_secret_place;
use crate::vault::Vault;

/// The prefix of every route.
pub const PREFIX: &str = "/webhooks/idp/";
/// What stands in the log for a path.
pub const PATTERN: &str = "/webhooks/idp/{}";
/// How a token begins.
pub(crate) const TOKEN_START: &str = "grantd_hook_";
/// Of Okta, which asks once whether it may call.
const CHALLENGE: HeaderName = HeaderName::from_static("x-okta-verification-challenge");

/// Answers a call.
pub async fn answer(vault: &Arc<Vault>, parts: &Parts, content: Body, source: Source) -> Result<Answer, Error> {
    // Which identity providers have a webhook is nobody's business.
    let Some(webhook) = called(vault, parts).await? else {
        return Err(Box::pin(failed(vault, &source, None, refused())).await);
    };
    if let Proof::Token(hash) = &webhook.proof
        && !is_token(&parts.headers, hash)
    {
        return Err(Box::pin(failed(vault, &source, None, refused())).await);
    }
    match parts.method.as_str() {
        "GET" if matches!(webhook.proof, Proof::Token(_)) => challenged(&parts.headers),
        "POST" => Box::pin(take(vault, parts, content, source, webhook)).await,
        _ => Err(Error::new(Code::MethodNotAllowed).message("This path takes POST.").detail("allow", "POST")),
    }
}

async fn take(
    vault: &Arc<Vault>,
    parts: &Parts,
    content: Body,
    source: Source,
    webhook: Webhook,
) -> Result<Answer, Error> {
    if parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::EncodingUnsupported.into());
    }
    let body = body(parts, content, limits::WEBHOOK_BODY_BYTES_MAX).await?;
    let message = match &webhook.proof {
        // Proved before; a vendor that does not sign says in each event when it happened.
        Proof::Token(_) => Message { id: "", at: source.now },
        Proof::Secret(secret) => match proved(vault, &webhook, secret, &parts.headers, &body, &source).await {
            Ok(message) => message,
            Err(error) => return Err(Box::pin(failed(vault, &source, None, error)).await),
        },
    };
    let told = read(webhook.vendor, webhook.subject_from, &body, &message)
        .map_err(|why| Error::new(Code::InvalidRequest).message(why.to_string()))?;
    for each in told {
        tell(vault, &webhook, each, &source).await?;
    }
    Ok(empty(204))
}

async fn tell(vault: &Vault, webhook: &Webhook, told: Told, source: &Source) -> Result<(), Error> {
    let (owner, actor) = (Owner::App(webhook.app_id), Actor::Webhook(webhook.idp_id));
    let draft = Event::new(&*vault.env, source.now, owner, Kind::UserSuspended, Outcome::Allowed, actor)
        .core("request_id", source.request_id.to_string())
        .private("ip", Some(source.ip.to_string()))
        .private("user_agent", source.user_agent.clone());
    flow::webhook::tell(vault, webhook, told, source.now, &draft).await
}

/// The webhook that a path names.
async fn called(vault: &Vault, parts: &Parts) -> Result<Option<Webhook>, Error> {
    let Some(idp) = parts.uri.path().strip_prefix(PREFIX).and_then(IdentityProviderId::parse) else { return Ok(None) };
    vault.store.read(move |tx| rows::find_called(tx, idp)).await.map_err(of_store)
}

/// Whether `Authorization` holds the token, by itself or as a bearer token. Hashes are compared, so nothing of it can be guessed by time.
fn is_token(headers: &HeaderMap, hash: &[u8; 32]) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => token,
        _ => value,
    };
    token.starts_with(TOKEN_START) && sha256(token.as_bytes()) == *hash
}

async fn proved<'h>(
    vault: &Vault,
    webhook: &Webhook,
    secret: &SealedSecret,
    headers: &'h HeaderMap,
    body: &[u8],
    source: &Source,
) -> Result<Message<'h>, Error> {
    let place = webhook_secret_place(webhook.app_id, webhook.idp_id, secret.version);
    let secret = vault.keys.open_of_app(webhook.app_id, place, &secret.sealed).await?;
    let key = Key::parse(secret.reveal()).ok_or(Code::Internal)?;
    let text = |names: [&str; 2]| {
        let found = names.into_iter().find_map(|name| headers.get(name));
        found.and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let headers = Headers {
        id: text(["svix-id", "webhook-id"]),
        timestamp: text(["svix-timestamp", "webhook-timestamp"]),
        signature: text(["svix-signature", "webhook-signature"]),
    };
    verify(&key, &headers, body, source.now)
        .map_err(|why| Error::new(Code::SessionRequired).message(why.to_string()).detail("check", why.as_str()))
}

fn refused() -> Error {
    Error::new(Code::SessionRequired).message(format!(
        "There is no webhook here, or `Authorization` is not its token. `grantd idp webhook enable` switches one on; a vendor that \
         signs has a secret that begins with {SECRET_START}."
    ))
}

/// Says back what Okta asked, as it does once before it sends events.
fn challenged(headers: &HeaderMap) -> Result<Answer, Error> {
    let challenge = headers.get(CHALLENGE).and_then(|value| value.to_str().ok());
    match challenge.filter(|text| !text.is_empty() && text.len() <= limits::WEBHOOK_CHALLENGE_CHARS_MAX) {
        Some(challenge) => Ok(json(200, &json!({"verification": challenge}))),
        None => Err(Error::new(Code::InvalidRequest).message(format!(
            "A GET must carry `{CHALLENGE}`, of at most {} characters.",
            limits::WEBHOOK_CHALLENGE_CHARS_MAX
        ))),
    }
}

/// Where vendors call.
pub(crate) fn url(vault: &Vault, idp: IdentityProviderId) -> String {
    format!("{}{PREFIX}{idp}", vault.settings.public_url.trim_end_matches('/'))
}
