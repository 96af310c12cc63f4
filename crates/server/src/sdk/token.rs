//! `POST /sdk/token`: the raw credential of a grant, for one call.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::Target;
use grantd_domain::inject;
use grantd_domain::resolve::Held;
use grantd_wire::ids::GrantId;
use grantd_wire::sdk::{Injection, TokenRequest};
use grantd_wire::{Code, Error, limits};
use http::HeaderValue;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::answer::{Answer, raw};
use crate::caller::Call;
use crate::flow::release::{self, Released, Wanted};
use crate::parse;
use crate::sdk::refuse_user_token;
use crate::vault::Vault;

/// Releases, or refuses and says so in the audit trail.
pub async fn retrieve(vault: &Vault, call: &mut Call) -> Result<Answer, Error> {
    let wanted = match wanted(call) {
        Ok(wanted) => wanted,
        Err(error) => return Err(Box::pin(call.refuse(vault, error)).await),
    };
    let released = release::run(vault, call, &wanted).await?;
    render(&released)
}

fn wanted(call: &Call) -> Result<Wanted, Error> {
    let ask: TokenRequest = parse::json(&call.body)?;
    parse::check_chars("reason", ask.reason.as_deref(), limits::REASON_CHARS_MAX)?;
    let method = ask.request.method;
    if !(1..=METHOD_CHARS_MAX).contains(&method.len()) || !method.bytes().all(is_token_char) {
        return Err(Error::invalid("request.method", "must be an HTTP method"));
    }
    if call.has_request_rule {
        return Err(Error::new(Code::FeatureUnavailable).message(
            "Rules are not built yet, so a call that carries one is refused. Leave X-Alter-Request-Rule out.",
        ));
    }
    let grant_id = match (ask.grant_id, ask.provider_id) {
        (Some(grant_id), None) => grant_id,
        (None, Some(_)) => {
            return Err(Error::new(Code::FeatureUnavailable)
                .message("Resolving a grant from provider and user is not built yet. Name a grant_id."));
        }
        _ => return Err(Error::invalid("grant_id", "give exactly one of grant_id and provider_id")),
    };
    refuse_user_token(ask.user_token.as_deref())?;
    for (field, value) in [("app_user_id", &ask.app_user_id), ("account", &ask.account), ("label", &ask.label)] {
        if value.is_some() {
            return Err(Error::invalid(field, "goes with provider_id only"));
        }
    }
    let missing = || Error::new(Code::GrantNotFound);
    let grant_id = GrantId::parse(&grant_id).ok_or_else(missing)?;
    call.check_grant(grant_id)?;
    Ok(Wanted { grant_id, method, target: Target::parse(&ask.request.url), reason: ask.reason })
}

/// Characters of an HTTP method.
const METHOD_CHARS_MAX: usize = 32;

fn is_token_char(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Every field the client knows, so that no default of another version of it decides.
#[derive(Serialize)]
struct TokenBody<'a> {
    access_token: &'a str,
    token_type: &'static str,
    grant_id: GrantId,
    provider_id: &'a str,
    expires_in: Option<i64>,
    expires_at: Option<&'static str>,
    scopes: [&'static str; 0],
    token_generation: String,
    scope_mismatch: bool,
    injection_header: &'a str,
    injection_format: &'a str,
    additional_credentials: Option<&'a BTreeMap<String, String>>,
    additional_injections: Option<&'a [Injection]>,
}

fn render(released: &Released) -> Result<Answer, Error> {
    let Held { grant, credential, secret } = &released.of.held;
    let damaged = |what: &'static str| {
        tracing::error!(credential.id = %credential.id, "A credential holds what its type cannot send: {what}");
        Error::new(Code::Internal)
    };
    let value = SecretValue::parse(&released.value).ok_or_else(|| damaged("not a value with fields"))?;
    let token = inject::access_token(secret.credential_type, value.value(), value.fields())
        .map_err(|_| damaged("an unsendable value"))?;
    let body = TokenBody {
        access_token: &token,
        token_type: "Bearer",
        grant_id: grant.id,
        provider_id: &secret.slug,
        expires_in: None,
        expires_at: None,
        scopes: [],
        token_generation: credential.generation.to_string(),
        scope_mismatch: false,
        injection_header: &secret.header,
        injection_format: &secret.format,
        additional_credentials: (!value.fields().is_empty()).then(|| value.fields()),
        additional_injections: (!secret.injections.is_empty()).then_some(&secret.injections),
    };
    // One allocation, wiped when the answer has been written.
    let fields: usize = value.fields().iter().map(|(k, v)| k.len() + v.len() + 8).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * (token.len() + fields) + 4096));
    serde_json::to_writer(&mut *bytes, &body).expect("strings have a JSON form");
    let mut answer = raw(200, "application/json", Body::from(Bytes::from_owner(bytes)));
    let event_id = HeaderValue::from_str(&released.event_id.to_string()).expect("an id is ASCII");
    answer.headers_mut().insert("x-grantd-event-id", event_id);
    Ok(answer)
}
