//! `POST /sdk/token`: the raw credential of a grant, for one call.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use grantd_domain::account::TokenPair;
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::Target;
use grantd_domain::grant::Behind;
use grantd_domain::inject;
use grantd_domain::resolve::Held;
use grantd_domain::secret::Secret;
use grantd_wire::ids::GrantId;
use grantd_wire::sdk::{Injection, TokenRequest};
use grantd_wire::{Code, Error, TimeMs, limits};
use http::HeaderValue;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::answer::{Answer, raw};
use crate::caller::Call;
use crate::flow::release::{self, Released, Wanted, Which};
use crate::parse;
use crate::vault::Vault;

/// Releases, or refuses and says so in the audit trail.
pub async fn retrieve(vault: &Arc<Vault>, call: &mut Call) -> Result<Answer, Error> {
    let wanted = match wanted(call) {
        Ok(wanted) => wanted,
        Err(error) => return Err(Box::pin(call.refuse(vault, error)).await),
    };
    let released = release::run(vault, call, &wanted).await?;
    render(&released, vault.env.now())
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
    let which = match (ask.grant_id, ask.provider_id) {
        (Some(grant_id), None) => {
            let further = [("app_user_id", &ask.app_user_id), ("account", &ask.account), ("label", &ask.label)];
            if let Some((field, _)) = further.into_iter().find(|(_, value)| value.is_some()) {
                return Err(Error::invalid(field, "goes with provider_id only"));
            }
            let grant_id = GrantId::parse(&grant_id).ok_or(Code::GrantNotFound)?;
            call.check_grant(grant_id)?;
            Which::Grant(grant_id)
        }
        (None, Some(provider_id)) => {
            if ask.app_user_id.is_some() {
                return Err(Error::invalid("app_user_id", "is for agents only: send the user's token as user_token"));
            }
            for (field, value, most) in [
                ("provider_id", Some(&provider_id), limits::ACCOUNT_CHARS_MAX),
                ("account", ask.account.as_ref(), limits::ACCOUNT_CHARS_MAX),
                ("label", ask.label.as_ref(), limits::LABEL_CHARS_MAX),
            ] {
                if value.is_some_and(|text| text.is_empty() || text.chars().count() > most) {
                    return Err(Error::invalid(field, &format!("must be 1-{most} characters")));
                }
            }
            Which::Fitting { provider_id, account: ask.account, label: ask.label }
        }
        _ => return Err(Error::invalid("grant_id", "give exactly one of grant_id and provider_id")),
    };
    let user_token = ask.user_token.map(Secret::new);
    Ok(Wanted { which, user_token, method, target: Target::parse(&ask.request.url), reason: ask.reason })
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
    expires_at: Option<TimeMs>,
    scopes: &'a [String],
    token_generation: String,
    scope_mismatch: bool,
    injection_header: &'a str,
    injection_format: &'a str,
    additional_credentials: Option<&'a BTreeMap<String, String>>,
    additional_injections: Option<&'a [Injection]>,
}

fn render(released: &Released, now: TimeMs) -> Result<Answer, Error> {
    let Held { credential, behind, .. } = &released.of.held;
    let damaged = |what: &'static str| {
        tracing::error!(credential.id = %credential.id, "A credential holds what its type cannot send: {what}");
        Error::new(Code::Internal)
    };
    match behind {
        Behind::Secret(secret) => {
            let value = SecretValue::parse(&released.value).ok_or_else(|| damaged("not a value with fields"))?;
            let token = inject::access_token(secret.credential_type, value.value(), value.fields())
                .map_err(|_| damaged("an unsendable value"))?;
            let body = TokenBody {
                injection_header: &secret.header,
                injection_format: &secret.format,
                additional_credentials: (!value.fields().is_empty()).then(|| value.fields()),
                additional_injections: (!secret.injections.is_empty()).then_some(&secret.injections),
                ..TokenBody::of(released, &token)
            };
            let fields: usize = value.fields().iter().map(|(k, v)| k.len() + v.len() + 8).sum();
            Ok(written(released, &body, token.len() + fields))
        }
        Behind::Provider(provider) => {
            let account = credential.account().ok_or_else(|| damaged("no account"))?;
            let pair = TokenPair::parse(&released.value).ok_or_else(|| damaged("not a pair of tokens"))?;
            let injection = &provider.facts.injection;
            let (further, injections) = injection.further(&provider.client_id);
            let ends = account.expiry.at();
            let body = TokenBody {
                expires_in: ends.map(|at| at.since(now).max(0) / 1000),
                expires_at: ends,
                scopes: &account.scopes,
                scope_mismatch: account.scope_mismatch_at.is_some(),
                injection_header: &injection.header,
                injection_format: &injection.format,
                additional_credentials: (!further.is_empty()).then_some(&further),
                additional_injections: (!injections.is_empty()).then_some(&injections),
                ..TokenBody::of(released, pair.access())
            };
            let scopes: usize = account.scopes.iter().map(|scope| scope.len() + 3).sum();
            Ok(written(released, &body, pair.access().len() + scopes))
        }
    }
}

impl<'a> TokenBody<'a> {
    fn of(released: &'a Released, token: &'a str) -> Self {
        let Held { grant, credential, behind, .. } = &released.of.held;
        Self {
            access_token: token,
            token_type: "Bearer",
            grant_id: grant.id,
            provider_id: behind.provider_id(),
            expires_in: None,
            expires_at: None,
            scopes: &[],
            token_generation: credential.generation.to_string(),
            scope_mismatch: false,
            injection_header: "",
            injection_format: "",
            additional_credentials: None,
            additional_injections: None,
        }
    }
}

/// One allocation, wiped when the answer has been written.
fn written(released: &Released, body: &TokenBody<'_>, variable: usize) -> Answer {
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * variable + 4096));
    serde_json::to_writer(&mut *bytes, body).expect("strings have a JSON form");
    let mut answer = raw(200, "application/json", Body::from(Bytes::from_owner(bytes)));
    let event_id = HeaderValue::from_str(&released.event_id.to_string()).expect("an id is ASCII");
    answer.headers_mut().insert("x-grantd-event-id", event_id);
    answer
}
