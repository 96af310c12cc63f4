//! What a token endpoint answered: tokens, or why not.
//!
//! Never: an answer that is anything but a token makes a stored pair be replaced or given up, unless the provider itself says that
//! the grant is over. Nothing of an answer but a known error code is told on.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use grantd_wire::TimeMs;
use grantd_wire::limits::OAUTH_TOKEN_BYTES_MAX;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::{Provider, Quirk, Token};
use crate::secret::Secret;

/// Bytes of an answer that are looked at; more is [`Refusal::Unreadable`].
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Seconds a token can live at most; what is longer is cut.
const LIFETIME_S_MAX: i64 = 10 * 366 * 24 * 3600;
/// Characters of an error code that is told on.
const ERROR_CHARS_MAX: usize = 64;

/// What an answer gave.
#[derive(Debug)]
pub struct Tokens {
    pub access: Secret,
    /// None: the one before stays.
    pub refresh: Option<Secret>,
    pub expiry: Expiry,
    /// As granted; none: as asked for (RFC 6749 section 5.1).
    pub scopes: Option<Vec<String>>,
    pub id_token: Option<Secret>,
}

/// When an access token ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    At(TimeMs),
    Never,
    /// Nobody says; the provider's first 401 will.
    Unknown,
}

impl Expiry {
    /// The moment, if it is known.
    pub const fn at(self) -> Option<TimeMs> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// Why there are no tokens, and what that means for what is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The user's consent is over, once the row was read again and had not moved.
    Over(String),
    /// The provider configuration is wrong: no grant is to blame.
    Configuration(String),
    /// The provider is busy, down, or says something that is none of these. What is stored stays.
    Transient(String),
    /// It answered something else than OAuth: nothing, a page, garbage, too much. What is stored stays.
    Unreadable,
}

impl Refusal {
    /// Whether what was asked for may have happened all the same: something on the way answered in the endpoint's stead.
    pub fn may_have_counted(&self) -> bool {
        match self {
            Self::Transient(code) => code.starts_with("status_5"),
            Self::Unreadable => true,
            Self::Over(_) | Self::Configuration(_) => false,
        }
    }
}

/// Codes that end a grant: RFC 6749's, and those of providers that have their own.
const OVER: &[&str] = &["invalid_grant", "bad_refresh_token", "invalid_refresh_token", "token_revoked"];
/// What a revocation endpoint says of a token that it does not know, or has ended before.
const UNKNOWN: &str = "invalid_token";
/// Codes that blame the client.
const CONFIGURATION: &[&str] = &[
    "bad_client_id",
    "bad_client_secret",
    "bad_redirect_uri",
    "incorrect_client_credentials",
    "invalid_client",
    "invalid_client_id",
    "invalid_redirect_uri",
    "invalid_request",
    "invalid_scope",
    "redirect_uri_mismatch",
    "unauthorized_client",
    "unsupported_grant_type",
];

impl Provider {
    /// Whether an answer to [`Provider::revoke_call`] says that the token is over: a success, as for a token that is unknown there
    /// (RFC 7009 section 2.2), or those words. Any other refusal, of the client or by a wrong address, has ended nothing.
    pub fn has_ended(&self, status: u16, body: &[u8]) -> bool {
        let answer = fields(body);
        let code = answer.as_deref().and_then(error_code);
        if code.is_some_and(|code| code == UNKNOWN || OVER.contains(&&*code)) {
            return true;
        }
        let says_no = answer.is_some_and(|answer| answer.get("ok") == Some(&Value::Bool(false)));
        (200..300).contains(&status) && !(says_no && self.token.quirks.contains(&Quirk::OkFalse))
    }
}

impl Token {
    /// Reads an answer of the token endpoint.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] for everything that holds no access token, whatever its status.
    pub fn read(&self, status: u16, body: &[u8], now: TimeMs) -> Result<Tokens, Refusal> {
        let is_busy = status >= 500 || status == 429 || status == 408;
        let Some(answer) = fields(body) else {
            return Err(match status {
                _ if is_busy => Refusal::Transient(format!("status_{status}")),
                401 => Refusal::Configuration("status_401".to_owned()),
                _ => Refusal::Unreadable,
            });
        };
        match is_busy {
            true => Err(Refusal::Transient(format!("status_{status}"))),
            false => self.tokens(status, &answer, now),
        }
    }

    fn tokens(&self, status: u16, answer: &Map<String, Value>, now: TimeMs) -> Result<Tokens, Refusal> {
        let is_failed = self.quirks.contains(&Quirk::OkFalse) && answer.get("ok") == Some(&Value::Bool(false));
        let root = match self.root.as_deref() {
            Some(root) => pointer(answer, root).and_then(Value::as_object).unwrap_or(answer),
            None => answer,
        };
        let text = |name: &str| root.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let access = text("access_token").filter(|_| (200..300).contains(&status) && !is_failed);
        let Some(access) = access else { return Err(refusal(status, answer)) };
        let refresh = text("refresh_token");
        // What no request could carry is no token.
        if !is_token(access) || refresh.is_some_and(|refresh| !is_token(refresh)) {
            return Err(Refusal::Unreadable);
        }
        let ends_at = self.expires_at.as_deref().and_then(|at| moment(pointer(root, at)?, now));
        let mut expiry = ends_at.map_or_else(|| self.expiry(root.get("expires_in"), now), Expiry::At);
        if expiry == Expiry::Unknown {
            expiry = claimed_expiry(access).map_or(Expiry::Unknown, Expiry::At);
        }
        let secret = |text: &str| Secret::new(text.to_owned());
        Ok(Tokens {
            access: secret(access),
            refresh: refresh.map(secret),
            expiry,
            scopes: root.get("scope").or_else(|| root.get("scopes")).and_then(scopes),
            id_token: text("id_token").map(secret),
        })
    }

    fn expiry(&self, said: Option<&Value>, now: TimeMs) -> Expiry {
        let unsaid = match (self.never_expires, self.lifetime_s) {
            (true, _) => Expiry::Never,
            (false, Some(seconds)) => after(now, i64::from(seconds)),
            (false, None) => Expiry::Unknown,
        };
        match said.and_then(seconds) {
            Some(0) if self.quirks.contains(&Quirk::ZeroIsNever) => Expiry::Never,
            // Longer than any token lives: the moment itself, in place of how long it is until then.
            Some(seconds) if seconds > LIFETIME_S_MAX && is_ahead(TimeMs(seconds.saturating_mul(1000)), now) => {
                Expiry::At(TimeMs(seconds * 1000))
            }
            Some(seconds) if seconds > 0 => after(now, seconds),
            _ => unsaid,
        }
    }
}

/// Whether a text can be a token: visible ASCII, which every header and form can carry.
fn is_token(text: &str) -> bool {
    text.len() <= OAUTH_TOKEN_BYTES_MAX && text.bytes().all(|c| c.is_ascii_graphic())
}

fn after(now: TimeMs, seconds: i64) -> Expiry {
    Expiry::At(now.plus_ms(seconds.min(LIFETIME_S_MAX) * 1000))
}

/// A moment at which a token can end, said in RFC 3339 or in seconds since 1970.
fn moment(value: &Value, now: TimeMs) -> Option<TimeMs> {
    let said = value.as_str().and_then(TimeMs::parse);
    said.or_else(|| Some(TimeMs(seconds(value)?.saturating_mul(1000)))).filter(|at| is_ahead(*at, now))
}

fn is_ahead(at: TimeMs, now: TimeMs) -> bool {
    (1..=LIFETIME_S_MAX * 1000).contains(&at.since(now))
}

/// Seconds as a number or as its text.
fn seconds(value: &Value) -> Option<i64> {
    match value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a fraction of a second does not matter, and a float saturates"
        )]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Scopes with spaces or commas between them, or as a list.
fn scopes(value: &Value) -> Option<Vec<String>> {
    let found: Vec<String> = match value {
        Value::String(text) => text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => return None,
    };
    Some(found).filter(|scopes| !scopes.is_empty())
}

/// The `exp` of an access token that is a JWT. Nothing is decided by it but when to renew, so its signature is not looked at.
fn claimed_expiry(token: &str) -> Option<TimeMs> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    seconds(claims.get("exp")?).filter(|exp| (1..LIFETIME_S_MAX * 10).contains(exp)).map(|exp| TimeMs(exp * 1000))
}

/// What a provider said, by name. Wiped on drop, and prints as nothing: there may be tokens in it.
#[derive(Default)]
pub struct Fields(Map<String, Value>);

impl Deref for Fields {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(said: Map<String, Value>) -> Self {
        Self(said)
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fields(..)")
    }
}

/// A JSON object or a form, whatever the content type says; none, when it is neither.
pub fn fields(body: &[u8]) -> Option<Fields> {
    if body.len() > ANSWER_BYTES_MAX {
        return None;
    }
    let body = body.trim_ascii();
    if body.starts_with(b"{") {
        return serde_json::from_slice(body).ok().map(Fields);
    }
    if body.is_empty() || body.starts_with(b"<") || body.starts_with(b"[") || !body.contains(&b'=') {
        return None;
    }
    std::str::from_utf8(body).ok()?;
    let said = url::form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::from(value)));
    Some(Fields(said.collect()))
}

/// What an RFC 6901 pointer leads to.
pub(super) fn pointer<'a>(answer: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let (first, rest) =
        pointer.get(1..)?.split_once('/').map_or((pointer.get(1..)?, None), |(first, rest)| (first, Some(rest)));
    let value = answer.get(first)?;
    rest.map_or(Some(value), |rest| value.pointer(&format!("/{rest}")))
}

fn refusal(status: u16, answer: &Map<String, Value>) -> Refusal {
    let Some(code) = error_code(answer) else {
        return if status == 401 { Refusal::Configuration("status_401".to_owned()) } else { Refusal::Unreadable };
    };
    match code.as_str() {
        code if OVER.contains(&code) => Refusal::Over(code.to_owned()),
        code if CONFIGURATION.contains(&code) => Refusal::Configuration(code.to_owned()),
        _ => Refusal::Transient(code),
    }
}

/// The error's name, if it is one: lower-case words and nothing that could be somebody's secret.
fn error_code(answer: &Map<String, Value>) -> Option<String> {
    let error = answer.get("error")?;
    let named = |name: &str| error.get(name).and_then(Value::as_str);
    let code = error.as_str().or_else(|| named("code")).or_else(|| named("type"))?;
    let is_word = |c: u8| c.is_ascii_lowercase() || c == b'_';
    (!code.is_empty() && code.len() <= ERROR_CHARS_MAX && code.bytes().all(is_word)).then(|| code.to_owned())
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_said_is_wiped_to_its_last_text_and_never_printed() {
        let said = json!({"a": "canary", "b": ["canary", {"c": "canary"}], "d": 1, "e": null});
        let Value::Object(said) = said else { panic!("it is an object") };
        let mut said = Fields::from(said);
        assert_eq!(format!("{said:?}"), "Fields(..)");
        said.0.values_mut().for_each(wipe);
        assert_eq!(json!(said.0), json!({"a": "", "b": ["", {"c": ""}], "d": 1, "e": null}));
    }
}
