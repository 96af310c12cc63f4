//! The cookie by which a browser is known that is signed in, and those that say in which colours and which language.

use http::HeaderMap;

use crate::hosted::cookie::{find, read_token};
use crate::pages::{LANG_COOKIE, Lang};
use crate::vault::Vault;
use grantd_wire::limits;

const THEME: &str = "grantd_theme";
const CHOICE_AGE_S: i64 = 365 * 86_400;

/// Behind TLS the browser itself sees to it that no other host, and nothing unencrypted, has set it.
fn name(vault: &Vault) -> &'static str {
    if is_secure(vault) { "__Host-grantd_portal" } else { "grantd_portal" }
}

fn is_secure(vault: &Vault) -> bool {
    vault.settings.public_url.starts_with("https://")
}

/// The session's secret, if the browser sends one that could be ours.
pub fn read(vault: &Vault, headers: &HeaderMap) -> Option<String> {
    read_token(headers, name(vault))
}

/// The header that gives it to the browser; no other site's request takes it along.
pub fn set(vault: &Vault, value: &str) -> String {
    header(vault, value, limits::WEB_SESSION_S)
}

/// The header that takes it from the browser.
pub fn clear(vault: &Vault) -> String {
    header(vault, "", 0)
}

fn header(vault: &Vault, value: &str, age_s: i64) -> String {
    let secure = if is_secure(vault) { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}", name(vault))
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
