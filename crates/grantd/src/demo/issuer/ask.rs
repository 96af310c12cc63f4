//! What arrives at the demo provider: parameters, authorization requests, and who a client says it is.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::book::{Ask, PEOPLE};
use super::{CLIENT_ID, Refused, SCOPES};

/// Bytes of base64url that a SHA-256 is.
const CHALLENGE_CHARS: usize = 43;

/// Parameters of a query or of a form.
pub struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A parameter that is there twice.
pub struct Twice;

impl<'a> Params<'a> {
    pub fn parse(text: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(text).collect())
    }

    /// The form in a body that says to be one.
    pub fn of_form(headers: &HeaderMap, body: &'a [u8]) -> Result<Self, Refused> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            true => Ok(Self::parse(body)),
            false => Err(Refused::InvalidRequest("Send the parameters as application/x-www-form-urlencoded.")),
        }
    }

    /// A parameter; an empty one is none.
    pub fn find(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut found = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| &**value);
        let first = found.next();
        match found.next() {
            None => Ok(first.filter(|value| !value.is_empty())),
            Some(_) => Err(Twice),
        }
    }
}

impl From<Twice> for Refused {
    fn from(_: Twice) -> Self {
        Self::InvalidRequest("A parameter is there twice.")
    }
}

/// Why somebody cannot be asked.
pub enum Wrong {
    /// Nobody can say where to go back to: the person is told.
    Page(&'static str),
    /// The client is told.
    Back { redirect_uri: String, state: Option<String>, error: &'static str, why: &'static str },
}

/// Reads an authorization request of the client that may have people sent back to `redirect_uri`.
pub fn authorization(params: &Params<'_>, redirect_uri: Option<&str>) -> Result<Ask, Wrong> {
    let twice = |_| Wrong::Page("The link has a parameter twice.");
    if params.find("client_id").map_err(twice)? != Some(CLIENT_ID) {
        return Err(Wrong::Page("The application that sent you here is not known."));
    }
    let given = params.find("redirect_uri").map_err(twice)?;
    let Some(redirect_uri) = redirect_uri.filter(|known| given == Some(*known)) else {
        return Err(Wrong::Page(
            "The application that sent you here wants you back at an address that it did not register.",
        ));
    };
    let state = params.find("state").map_err(twice)?.map(str::to_owned);
    let back = |error, why| Wrong::Back { redirect_uri: redirect_uri.to_owned(), state: state.clone(), error, why };
    let find = |name| params.find(name).map_err(|_| back("invalid_request", "A parameter is there twice."));
    if find("request")?.is_some() {
        return Err(back("request_not_supported", "Request objects are not taken."));
    }
    if find("request_uri")?.is_some() {
        return Err(back("request_uri_not_supported", "Request objects are not taken."));
    }
    match find("response_type")? {
        Some("code") => {}
        Some(_) => return Err(back("unsupported_response_type", "The only response_type is code.")),
        None => return Err(back("invalid_request", "response_type is missing.")),
    }
    if find("response_mode")?.is_some_and(|mode| mode != "query") {
        return Err(back("invalid_request", "The only response_mode is query."));
    }
    let is_challenge = |text: &&str| {
        text.len() == CHALLENGE_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let Some(challenge) = find("code_challenge")?.filter(is_challenge) else {
        return Err(back("invalid_request", "PKCE is required: code_challenge is missing or no SHA-256."));
    };
    if find("code_challenge_method")? != Some("S256") {
        return Err(back("invalid_request", "The only code_challenge_method is S256."));
    }
    let scopes = scopes(find("scope")?.unwrap_or_default());
    if scopes.is_empty() {
        return Err(back("invalid_scope", "None of the scopes is known here."));
    }
    // Nobody stays signed in here, so nobody can be let through without being asked.
    let prompt: Vec<&str> = find("prompt")?.unwrap_or_default().split_ascii_whitespace().collect();
    match prompt.as_slice() {
        ["none"] => return Err(back("login_required", "Nobody is signed in.")),
        several if several.contains(&"none") => return Err(back("invalid_request", "prompt has none and more.")),
        _ => {}
    }
    let hint = find("login_hint")?;
    Ok(Ask {
        redirect_uri: redirect_uri.to_owned(),
        scopes,
        nonce: find("nonce")?.map(str::to_owned),
        challenge: challenge.to_owned(),
        hint: PEOPLE.iter().find(|person| hint == Some(person.id) || hint == Some(person.email)),
        state,
    })
}

/// Those that are known, each once, in our order.
fn scopes(text: &str) -> Vec<String> {
    let asked: Vec<&str> = text.split_ascii_whitespace().collect();
    SCOPES.iter().map(|(scope, _)| *scope).filter(|scope| asked.contains(scope)).map(str::to_owned).collect()
}

/// The id and secret that a client says it has, in its header or in the form.
pub fn client<'a>(headers: &HeaderMap, params: &'a Params<'_>) -> Result<(Cow<'a, str>, Cow<'a, str>), Refused> {
    let (id, secret) = (params.find("client_id")?, params.find("client_secret")?);
    let Some(basic) = headers.get(header::AUTHORIZATION) else {
        return match (id, secret) {
            (Some(id), Some(secret)) => Ok((id.into(), secret.into())),
            _ => Err(Refused::InvalidClient),
        };
    };
    if secret.is_some() {
        return Err(Refused::InvalidRequest("The client says in two ways who it is."));
    }
    let (user, password) = basic.to_str().ok().and_then(decode_basic).ok_or(Refused::InvalidClient)?;
    match id.is_none_or(|id| id == user) {
        true => Ok((user.into(), password.into())),
        false => Err(Refused::InvalidRequest("client_id is not that of the Authorization header.")),
    }
}

fn decode_basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    // RFC 6749 section 2.3.1: each was encoded as in a form.
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(Cow::into_owned);
    Some((decoded(user)?, decoded(password)?))
}

/// The token in `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
