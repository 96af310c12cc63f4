//! The cookie by which a browser is known that is signed in, the one by which it is known that is asked for a passkey, and those that
//! say in which colours and which language.

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
}

const SESSION: Name = Name { secure: "__Host-grantd_portal", plain: "grantd_portal" };
const ASKED: Name = Name { secure: "__Host-grantd_asked", plain: "grantd_asked" };

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

fn header(vault: &Vault, name: &Name, value: &str, age_s: i64) -> String {
    let secure = if is_secure(vault) { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}", name.of(vault))
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
