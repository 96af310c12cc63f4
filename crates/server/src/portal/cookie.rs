//! The cookie by which a browser is known that is signed in, those by which it is known that is asked for a passkey, or is on its way to
//! the issuer of single sign-on and back, and those that say in which colours and which language.

use http::HeaderMap;

use crate::hosted::cookie::{find, read_token};
use crate::pages::{LANG_COOKIE, Lang};
use crate::vault::Vault;
use grantd_wire::limits;

const THEME: &str = "grantd_theme";
const CHOICE_AGE_S: i64 = 365 * 86_400;

/// The names of a cookie that holds a secret. Behind TLS the browser itself sees to it that no other host, and nothing unencrypted, has
/// set it.
struct Name {
    secure: &'static str,
    plain: &'static str,
    /// Which requests it goes along with, as `SameSite` has it.
    goes_with: &'static str,
}

const SESSION: Name = Name { secure: "__Host-grantd_portal", plain: "grantd_portal", goes_with: "Strict" };
const ASKED: Name = Name { secure: "__Host-grantd_asked", plain: "grantd_asked", goes_with: "Strict" };
/// The issuer sends the browser back by a navigation of its own.
const SSO: Name = Name { secure: "__Host-grantd_sso", plain: "grantd_sso", goes_with: "Lax" };

impl Name {
    fn of(&self, vault: &Vault) -> &'static str {
        if is_secure(vault) { self.secure } else { self.plain }
    }
}

fn is_secure(vault: &Vault) -> bool {
    vault.settings.public_url.starts_with("https://")
}

/// The session's secret, if the browser sends one that could be ours.
pub fn read(vault: &Vault, headers: &HeaderMap) -> Option<String> {
    read_token(headers, SESSION.of(vault))
}

/// The secret of a browser that was asked for a passkey, as `read`.
pub fn read_asked(vault: &Vault, headers: &HeaderMap) -> Option<String> {
    read_token(headers, ASKED.of(vault))
}

/// The header that gives it to the browser; no other site's request takes it along.
pub fn set(vault: &Vault, value: &str) -> String {
    header(vault, &SESSION, value, limits::WEB_SESSION_S)
}

/// The header that gives it to a browser that is asked for a passkey.
pub fn set_asked(vault: &Vault, value: &str) -> String {
    header(vault, &ASKED, value, limits::PASSKEY_CHALLENGE_S)
}

/// The header that takes it from the browser.
pub fn clear(vault: &Vault) -> String {
    header(vault, &SESSION, "", 0)
}

/// By what the browser is known that left for the issuer of single sign-on, as `read`.
pub fn read_sso(vault: &Vault, headers: &HeaderMap) -> Option<String> {
    read_token(headers, SSO.of(vault))
}

/// The header that gives it to the browser.
pub fn set_sso(vault: &Vault, value: &str) -> String {
    header(vault, &SSO, value, limits::SSO_TRIP_S)
}

/// The header that takes it from the browser.
pub fn clear_sso(vault: &Vault) -> String {
    header(vault, &SSO, "", 0)
}

fn header(vault: &Vault, name: &Name, value: &str, age_s: i64) -> String {
    let secure = if is_secure(vault) { "; Secure" } else { "" };
    let Name { goes_with, .. } = name;
    format!("{}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite={goes_with}{secure}", name.of(vault))
}

/// The theme that was chosen.
pub fn theme(headers: &HeaderMap) -> Option<&'static str> {
    let chosen = find(headers, THEME)?;
    ["light", "dark"].into_iter().find(|theme| *theme == chosen)
}

/// The header that keeps it; without one, the system's is taken again.
pub fn set_theme(vault: &Vault, theme: Option<&str>) -> String {
    chosen(vault, THEME, theme, &format!("{}{}", vault.settings.base_path, super::PATH))
}

/// The header that keeps the language. Pages for end users go by it, too.
pub fn set_lang(vault: &Vault, lang: Lang) -> String {
    chosen(vault, LANG_COOKIE, Some(lang.code()), &format!("{}/", vault.settings.base_path))
}

fn chosen(vault: &Vault, name: &str, value: Option<&str>, path: &str) -> String {
    let secure = if is_secure(vault) { "; Secure" } else { "" };
    let (value, age_s) = value.map_or(("", 0), |value| (value, CHOICE_AGE_S));
    format!("{name}={value}; Path={path}; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}")
}
