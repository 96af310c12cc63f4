//! The cookie by which a browser is known, and the token that its forms carry.

use std::fmt::Display;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::env::new_token;
use grantd_domain::secret::Secret;
use grantd_wire::Error;
use grantd_wire::sign::sha256;
use http::HeaderMap;
use http::header;

use super::connect::field;
use crate::vault::Vault;

const NAME: &str = "grantd_browser";
/// Of a token without prefix.
const VALUE_CHARS: usize = 43;
/// How long a browser is known: longer than any session.
const AGE_S: i64 = 86_400;

/// The browser's own secret, if it sends one that could be ours.
pub fn read(headers: &HeaderMap) -> Option<String> {
    read_token(headers, NAME)
}

/// The token without prefix in the cookie of this name, if it holds one.
pub fn read_token(headers: &HeaderMap, name: &str) -> Option<String> {
    let is_ours = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    find(headers, name).filter(|value| value.len() == VALUE_CHARS && value.bytes().all(is_ours))
}

/// The first cookie of this name.
pub fn find(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let sent = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = sent.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// A secret for a browser that has none.
pub fn make(vault: &Vault) -> Secret {
    new_token(&*vault.env, "")
}

/// The header that gives it to the browser. A provider's redirect back is a navigation, which `Lax` lets the cookie go with.
pub fn set(vault: &Vault, value: &str) -> String {
    let secure = if vault.settings.public_url.starts_with("https://") { "; Secure" } else { "" };
    let base = &vault.settings.base_path;
    format!("{NAME}={value}; Path={base}/; Max-Age={AGE_S}; HttpOnly; SameSite=Lax{secure}")
}

/// What a form of this session carries when it comes from a page that this browser was shown.
pub fn form_token(browser: &str, session: impl Display) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(sha256(format!("grantd.form.1|{browser}|{session}").as_bytes()))
}

/// Refuses a form of a session that does not come from a page that this browser was shown.
pub fn check_form(form: &[u8], browser: &str, session: impl Display) -> Result<(), Error> {
    match is_form_token(&field(form, "csrf").unwrap_or_default(), browser, session) {
        true => Ok(()),
        false => Err(Error::invalid("csrf", "does not come from this page")),
    }
}

/// Whether it is what a form of this browser and this session carries.
pub fn is_form_token(sent: &str, browser: &str, session: impl Display) -> bool {
    // Both are hashed first, so that how long the comparison takes tells nothing.
    sha256(sent.as_bytes()) == sha256(form_token(browser, session).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantd_wire::ids::ConnectSessionId;

    #[test]
    fn only_a_value_of_our_form_is_read() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, text.parse().unwrap());
            read(&headers)
        };
        let good = "a".repeat(43);
        assert_eq!(of(&format!("x=1; {NAME}={good}; y=2")), Some(good.clone()));
        for bad in [
            format!("{NAME}={}", "a".repeat(42)),
            format!("{NAME}={good}a"),
            format!("other={good}"),
            format!("{NAME}={}<", "a".repeat(42)),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_form_token_is_of_one_browser_and_one_session() {
        let session = |n| ConnectSessionId::from_uuid(grantd_wire::ids::uuid_v7(n, [0; 10]));
        let token = form_token("b1", session(1));
        assert!(is_form_token(&token, "b1", session(1)));
        assert!(!is_form_token(&token, "b2", session(1)) && !is_form_token(&token, "b1", session(2)));
        assert!(!is_form_token("", "b1", session(1)));
    }
}
