//! What a provider tells of an account when it connects: whose it is, and which host belongs to it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::TimeMs;
use grantd_wire::limits;
use serde_json::{Map, Value};

use super::answer::pointer;
use super::{Fields, IdentitySource, Provider};
use crate::destination::{Rule, Target};
use crate::secret::Secret;
use crate::template::render;

/// How far the clocks of an issuer and of this host may be apart, in seconds.
const LEEWAY_S: i64 = limits::JWT_LEEWAY_S;

/// Whose account it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Stays the same for the account as long as it lives.
    pub identifier: String,
    /// What a human recognises.
    pub name: Option<String>,
}

/// Why it is not known whose account it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccountError {
    #[error("the provider's answer does not say whose account it is")]
    Unnamed,
    #[error("the provider's ID token is not one for this call")]
    IdToken,
    #[error("the account's own host is missing, or is none that the provider runs")]
    Host,
}

/// What was learnt while an account connected, by where it was learnt. Nothing of it outlives that.
#[derive(Debug, Default)]
pub struct Learnt {
    /// The answer of the token endpoint, whole.
    pub token: Fields,
    /// The claims of its ID token.
    pub id_token: Fields,
    /// The answer of the identity call.
    pub call: Fields,
    /// The parameters of the callback.
    pub callback: Fields,
}

impl Learnt {
    fn of(&self, source: IdentitySource) -> &Fields {
        match source {
            IdentitySource::Call => &self.call,
            IdentitySource::IdToken => &self.id_token,
            IdentitySource::Token => &self.token,
            IdentitySource::Callback => &self.callback,
        }
    }
}

impl Provider {
    /// Whose account it is.
    pub fn account(&self, learnt: &Learnt) -> Result<Account, AccountError> {
        let identity = &self.identity;
        let said = learnt.of(identity.source);
        let parts: Option<Vec<String>> = identity.id.iter().map(|at| text(pointer(said, at)?)).collect();
        let identifier = parts.map(|parts| parts.join(":")).ok_or(AccountError::Unnamed)?;
        if identifier.chars().count() > limits::ACCOUNT_CHARS_MAX || identifier.chars().any(char::is_control) {
            return Err(AccountError::Unnamed);
        }
        let mut names = identity.email.iter().chain(&identity.name);
        let name = names.find_map(|at| text(pointer(said, at)?));
        let name = name.map(|name| name.chars().filter(|c| !c.is_control()).take(limits::ACCOUNT_CHARS_MAX).collect());
        Ok(Account { identifier, name })
    }

    /// The host of the account's own; none, where the provider has no such thing.
    pub fn pinned_host(&self, learnt: &Learnt) -> Result<Option<String>, AccountError> {
        let Some(pin) = &self.hosts.pin else { return Ok(None) };
        let found = pointer(learnt.of(pin.source), &pin.pointer).and_then(text);
        let Some(found) = found else {
            return if pin.optional { Ok(None) } else { Err(AccountError::Host) };
        };
        let host = match Target::parse(&found) {
            Ok(target) if target.is_https() => target.host().into_owned(),
            _ => render(&pin.format, |_| Some(found.clone())).ok_or(AccountError::Host)?,
        };
        let target = Target::parse(&format!("https://{host}/")).map_err(|_| AccountError::Host)?;
        let is_theirs = |pattern: &String| Rule::parse(pattern).is_ok_and(|rule| rule.matches(&target));
        // Read back: what a parser would have mended is no host.
        match target.host() == host.as_str() && pin.patterns.iter().any(is_theirs) {
            true => Ok(Some(host)),
            false => Err(AccountError::Host),
        }
    }

    /// The claims of an ID token that came straight from the token endpoint, over TLS that was checked, so that its signature need
    /// not be (OpenID Connect Core 3.1.3.7, point 6).
    pub fn id_token_claims(
        &self,
        token: &Secret,
        client_id: &str,
        nonce: Option<&str>,
        now: TimeMs,
    ) -> Result<Fields, AccountError> {
        let claims = token.reveal().split('.').nth(1).ok_or(AccountError::IdToken)?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| AccountError::IdToken)?;
        let claims: Map<String, Value> = serde_json::from_slice(&claims).map_err(|_| AccountError::IdToken)?;
        let claims = Fields::from(claims);
        let is_text = |name: &str, text: &str| claims.get(name).and_then(Value::as_str) == Some(text);
        let is_ours = match claims.get("aud") {
            Some(Value::String(audience)) => audience == client_id,
            Some(Value::Array(audiences)) => {
                let named = audiences.iter().any(|audience| audience.as_str() == Some(client_id));
                named && (audiences.len() == 1 || is_text("azp", client_id))
            }
            _ => false,
        };
        let is_issuers = self.authorize.issuer.as_deref().is_none_or(|issuer| is_text("iss", issuer));
        let ends = claims.get("exp").and_then(Value::as_i64);
        let lives = ends.is_some_and(|exp| exp.saturating_add(LEEWAY_S).saturating_mul(1000) > now.0);
        let is_answer = nonce.is_none_or(|nonce| is_text("nonce", nonce));
        if is_ours && is_issuers && lives && is_answer { Ok(claims) } else { Err(AccountError::IdToken) }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
