//! The portal: pages for operators.
//!
//! Invariants: every page but those of signing in needs a session, whose operator and role are read anew; every change is a POST of a
//! form that only a page of this browser's session could have sent; a page asks the management API, and no store.

mod account;
mod app_settings;
mod apps;
mod audit;
mod branding;
mod confirm;
mod connect;
mod cookie;
mod desk;
mod form;
mod grants;
mod identity;
mod keys;
mod members;
mod overview;
mod providers;
pub mod routes;
mod secrets;
mod settings;
mod sign_in;
mod sso;
mod start;
mod tokens;
mod users;

use std::sync::Arc;

use axum::body::Body;
use grantd_wire::{Code, Error, limits};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Serialize;

use crate::answer::Answer;
use crate::api::check_role;
use crate::caller::{Source, body};
use crate::flow::portal;
use crate::hosted::check_site;
use crate::pages::{self, Lang};
use crate::routes::{Api, Found, find};
use crate::sentence::Sentence;
use crate::vault::Vault;
use desk::{Desk, Shown};
use form::{Form, Refused};
use routes::{Access, PORTAL, Row, Screen};

pub use crate::login::PORTAL_PATH as PATH;
#[cfg(test)]
pub use sso::REFUSALS as SSO_REFUSALS;

/// Answers a browser. A failure is a page, too.
pub async fn answer(
    vault: &Arc<Vault>,
    parts: &Parts,
    content: Body,
    source: Source,
    seen: &mut &'static str,
) -> Answer {
    let mut desk = Desk {
        vault,
        parts,
        params: Vec::new(),
        query: Form::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        form: Form::default(),
        source,
        visitor: None,
        cookie: cookie::read(vault, &parts.headers).unwrap_or_default(),
    };
    let answered = async {
        let answer = match Box::pin(enter(&mut desk, content, seen)).await {
            Err(error) if confirm::is_asked(&desk, &error) => confirm::ask(&desk).await,
            answer => answer,
        };
        answer.unwrap_or_else(|error| trouble(&desk, &error))
    };
    pages::spoken(Lang::of(&parts.headers), answered).await
}

async fn enter(desk: &mut Desk<'_>, content: Body, seen: &mut &'static str) -> Result<Answer, Error> {
    if !desk.cookie.is_empty() {
        desk.visitor = portal::find(desk.vault, &desk.cookie, desk.source.now).await?;
        // A page that follows what happens by itself keeps nobody signed in.
        let is_script = desk.parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty");
        if let Some(visitor) = desk.visitor.as_ref().filter(|_| !is_script) {
            portal::touch(desk.vault, visitor, desk.source.now).await?;
        }
    }
    let method = if desk.parts.method == Method::HEAD { "GET" } else { desk.parts.method.as_str() };
    let row: Row = match find(PORTAL, |row| (row.method, row.path), method, desk.parts.uri.path()) {
        Found::Route(row, params) => {
            desk.params = params;
            row
        }
        Found::MethodNotAllowed(methods) => {
            return Err(Error::new(Code::MethodNotAllowed).detail("allow", methods.join(", ")));
        }
        Found::Unknown => return Err(Code::NotFound.into()),
    };
    *seen = row.path;
    let needs = match row.access {
        Access::Anybody => None,
        Access::Role(role) => Some(role),
    };
    if needs.is_some() && desk.visitor.is_none() {
        return Ok(to_sign_in(desk));
    }
    if row.method == "POST" {
        check_origin(desk.vault, &desk.parts.headers)?;
        let bytes_max = row.bytes_max().max(limits::HELD_FORM_BYTES_MAX);
        let sent = body(desk.parts, content, bytes_max).await.map_err(|error| too_large(row.screen, error))?;
        let bytes = sent.len();
        desk.form = Form::read(&desk.parts.headers, sent).await?;
        if bytes > row.bytes_max() && !confirm::is_answer(desk) {
            return Err(Error::new(Code::BodyTooLarge).detail("bytes_max", row.bytes_max()));
        }
        if needs.is_some() {
            desk.check_form()?;
            if let Some(asked_again) = confirm::answered(desk).await? {
                return Ok(asked_again);
            }
        }
    }
    if let Some(role) = needs {
        check_role(desk.visitor()?.operator.role, role)?;
    }
    dispatch(desk, row.screen).await
}

/// Says of a form with a picture which of the two is too large.
fn too_large(screen: Screen, error: Error) -> Error {
    match (screen, error.code) {
        (Screen::BrandingSet, Code::BodyTooLarge) => {
            Sentence::PictureTooLarge.of(error.code).detail("kib", limits::LOGO_BYTES_MAX / 1024)
        }
        _ => error,
    }
}

async fn dispatch(desk: &Desk<'_>, screen: Screen) -> Result<Answer, Error> {
    match screen {
        Screen::Start => Ok(desk.go("/portal/apps")),
        Screen::SignInShow => sign_in::show(desk).await,
        Screen::SignIn => sign_in::sign_in(desk).await,
        Screen::SignInPassword => sign_in::with_password(desk).await,
        Screen::SignInCode => sign_in::with_code(desk).await,
        Screen::SignInPasskey => sign_in::with_passkey(desk).await,
        Screen::SsoStart => sso::start(desk).await,
        Screen::SsoBack => sso::back(desk).await,
        Screen::SsoConfirm => sso::confirm(desk).await,
        Screen::SignOut => sign_in::sign_out(desk).await,
        Screen::Theme => theme(desk),
        Screen::Language => language(desk),
        Screen::Apps => apps::list(desk).await,
        Screen::AppNew => Ok(apps::new(desk)),
        Screen::AppCreate => apps::create(desk).await,
        Screen::AppHome => apps::home(desk).await,
        Screen::AppStart => start::show(desk).await,
        Screen::AppSettings => app_settings::show(desk).await,
        Screen::AppUpdate => app_settings::update(desk).await,
        Screen::AppArchive => app_settings::set_state(desk, Api::AppsArchive).await,
        Screen::AppUnarchive => app_settings::set_state(desk, Api::AppsUnarchive).await,
        Screen::AppAskDelete => app_settings::ask_delete(desk).await,
        Screen::AppDelete => app_settings::delete(desk).await,
        Screen::Branding => branding::show(desk).await,
        Screen::BrandingSet => branding::set(desk).await,
        Screen::BrandingPreview => branding::preview(desk).await,
        Screen::Keys => keys::list(desk).await,
        Screen::KeyNew => keys::new(desk).await,
        Screen::KeyCreate => keys::create(desk).await,
        Screen::KeyAskRevoke => keys::ask_revoke(desk).await,
        Screen::KeyRevoke => keys::revoke(desk).await,
        Screen::Providers => providers::list(desk).await,
        Screen::ProviderNew => providers::new(desk).await,
        Screen::ProviderCreate => providers::create(desk).await,
        Screen::Provider => providers::show(desk).await,
        Screen::ProviderUpdate => providers::update(desk).await,
        Screen::ProviderAskDelete => providers::ask_delete(desk).await,
        Screen::ProviderDelete => providers::delete(desk).await,
        Screen::ProviderConnect => connect::begin(desk).await,
        Screen::Connected => connect::finished(desk).await,
        Screen::Secrets => secrets::list(desk).await,
        Screen::SecretCatalogue => secrets::catalogue(desk).await,
        Screen::SecretNew => secrets::new(desk).await,
        Screen::SecretCreate => secrets::create(desk).await,
        Screen::Secret => secrets::show(desk).await,
        Screen::SecretGrant => secrets::grant(desk).await,
        Screen::SecretRotate => secrets::rotate(desk).await,
        Screen::SecretHosts => secrets::set_hosts(desk).await,
        Screen::SecretTest => secrets::test(desk).await,
        Screen::SecretAskDelete => secrets::ask_delete(desk).await,
        Screen::SecretDelete => secrets::delete(desk).await,
        Screen::Grants => grants::list(desk).await,
        Screen::Grant => grants::show(desk).await,
        Screen::GrantAskRevoke => grants::ask_revoke(desk).await,
        Screen::GrantRevoke => grants::revoke(desk).await,
        Screen::GrantReconnect => connect::repair(desk).await,
        Screen::Idps => identity::list(desk).await,
        Screen::IdpNew => identity::new(desk).await,
        Screen::IdpCreate => identity::create(desk).await,
        Screen::Idp => identity::show(desk).await,
        Screen::IdpUpdate => identity::update(desk).await,
        Screen::IdpAskDelete => identity::ask_delete(desk).await,
        Screen::IdpDelete => identity::delete(desk).await,
        Screen::IdpScim => identity::scim(desk).await,
        Screen::IdpWebhook => identity::webhook(desk).await,
        Screen::Users => users::list(desk).await,
        Screen::User => users::show(desk).await,
        Screen::UserSuspend => users::set(desk, Api::UsersSuspend).await,
        Screen::UserResume => users::set(desk, Api::UsersResume).await,
        Screen::UserAskDeprovision => users::ask_deprovision(desk).await,
        Screen::UserDeprovision => users::deprovision(desk).await,
        Screen::Audit | Screen::OrganizationAudit => audit::list(desk).await,
        Screen::AuditAskExport | Screen::OrganizationAskExport => audit::ask_export(desk).await,
        Screen::AuditExport | Screen::OrganizationExport => audit::export(desk).await,
        Screen::Event | Screen::OrganizationEvent => audit::show(desk).await,
        Screen::Overview => overview::of_organization(desk).await,
        Screen::AppOverview => overview::of_app(desk).await,
        Screen::Members => members::list(desk).await,
        Screen::MemberNew => Ok(members::new(desk)),
        Screen::MemberCreate => members::create(desk).await,
        Screen::Member => members::show(desk).await,
        Screen::MemberRole => members::change_role(desk).await,
        Screen::MemberLink => members::link(desk).await,
        Screen::MemberAskDisable => members::ask_disable(desk).await,
        Screen::MemberDisable => members::disable(desk).await,
        Screen::MemberEnable => members::enable(desk).await,
        Screen::Tokens => tokens::list(desk).await,
        Screen::TokenNew => tokens::new(desk).await,
        Screen::TokenCreate => tokens::create(desk).await,
        Screen::TokenAskRevoke => tokens::ask_revoke(desk).await,
        Screen::TokenRevoke => tokens::revoke(desk).await,
        Screen::Settings => settings::show(desk).await,
        Screen::SettingsSave => settings::save(desk).await,
        Screen::AppRetention => app_settings::save_retention(desk).await,
        Screen::AppHold => app_settings::hold(desk).await,
        Screen::AppRelease => app_settings::release(desk).await,
        Screen::Sessions => sign_in::sessions(desk).await,
        Screen::SessionEnd => sign_in::end_session(desk).await,
        Screen::Account => account::show(desk).await,
        Screen::PasswordSet => account::set_password(desk).await,
        Screen::PasswordRemove => account::remove_password(desk).await,
        Screen::TotpBegin => account::begin_totp(desk).await,
        Screen::TotpNew => account::new_totp(desk).await,
        Screen::TotpConfirm => account::confirm_totp(desk).await,
        Screen::TotpCodes => account::renew_codes(desk).await,
        Screen::TotpRemove => account::remove_totp(desk).await,
        Screen::PasskeyBegin => account::begin_passkey(desk).await,
        Screen::PasskeyNew => account::new_passkey(desk).await,
        Screen::PasskeyAdd => account::add_passkey(desk).await,
        Screen::PasskeyRemove => account::remove_passkey(desk).await,
        Screen::SsoRemove => sso::remove(desk).await,
    }
}

/// The page to sign in at, which leads back to where this one was asked for.
fn to_sign_in(desk: &Desk<'_>) -> Answer {
    let here = desk.parts.uri.path_and_query().map_or("", |target| target.as_str());
    let is_get = matches!(desk.parts.method, Method::GET | Method::HEAD);
    match local_path(here).filter(|here| is_get && *here != PATH) {
        Some(here) => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("to", here);
            desk.go(&format!("{PATH}/sign-in?{}", query.finish()))
        }
        None => desk.go(&format!("{PATH}/sign-in")),
    }
}

/// The address, if it is one of the portal and of nobody else.
fn local_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PATH)?;
    let is_ours = rest.is_empty() || rest.starts_with(['/', '?']);
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    (is_ours && is_plain && path.len() <= PATH_CHARS_MAX).then_some(path)
}

/// Characters of an address to come back to.
const PATH_CHARS_MAX: usize = 2_000;

/// Refuses a form that a page of another origin sent.
fn check_origin(vault: &Vault, headers: &HeaderMap) -> Result<(), Error> {
    let url = &vault.settings.public_url;
    let elsewhere = || {
        let portal = format!("{url}{PATH}");
        Sentence::OtherAddress.of(Code::CsrfFailed).detail("url", url.as_str()).detail("portal", portal)
    };
    check_site(headers).map_err(|_| elsewhere())?;
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if origin.as_bytes() == vault.settings.origin().as_bytes() { Ok(()) } else { Err(elsewhere()) }
}

/// `POST /portal/theme`.
fn theme(desk: &Desk<'_>) -> Result<Answer, Error> {
    let theme = match desk.form.raw("theme") {
        "system" => None,
        theme @ ("light" | "dark") => Some(theme),
        _ => return Err(Error::invalid("theme", "must be system, light or dark")),
    };
    let mut answer = desk.go(local_path(desk.form.raw("to")).unwrap_or(PATH));
    give_cookie(&mut answer, &cookie::set_theme(desk.vault, theme));
    Ok(answer)
}

/// `POST /portal/language`.
fn language(desk: &Desk<'_>) -> Result<Answer, Error> {
    let lang = Lang::find(desk.form.raw("lang"));
    let lang = lang.ok_or_else(|| Error::invalid("lang", "must be a language that the pages are there in"))?;
    let mut answer = desk.go(local_path(desk.form.raw("to")).unwrap_or(PATH));
    give_cookie(&mut answer, &cookie::set_lang(desk.vault, lang));
    Ok(answer)
}

fn give_cookie(answer: &mut Answer, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[derive(Serialize)]
struct Trouble {
    kind: &'static str,
    refused: Refused,
    request_id: String,
}

/// A failure as a page.
fn trouble(desk: &Desk<'_>, error: &Error) -> Answer {
    let kind = match error.code.status() {
        403 => "forbidden",
        404 | 405 => "not_found",
        429 => "too_many",
        503 => "busy",
        500 => "internal",
        _ => "form",
    };
    let page = Trouble { kind, refused: Refused::plain(error.clone()), request_id: desk.source.request_id.to_string() };
    let template = if desk.visitor.is_some() { "portal/trouble.html" } else { "portal/trouble_outside.html" };
    let mut answer = desk.page_with(error.code.status(), &Shown::new(template, "", &page));
    answer.extensions_mut().insert(error.code);
    let allow = error.details.get("allow").and_then(serde_json::Value::as_str);
    if let Some(allow) = allow.and_then(|allow| HeaderValue::from_str(allow).ok()) {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    if let Some(seconds) = error.retry_after_s {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_portal_are_gone_back_to() {
        for good in ["/portal", "/portal/apps", "/portal/apps?search=a%20b&offset=25", "/portal?x=1"] {
            assert_eq!(local_path(good), Some(good));
        }
        let long = format!("/portal/{}", "a".repeat(PATH_CHARS_MAX));
        for bad in [
            "",
            "/",
            "//evil.example",
            "/portals",
            "/portal\\evil",
            "https://evil.example/portal",
            "/portal/a b",
            "/portal/\r\nSet-Cookie: a",
            "portal",
            "/portal/<x>",
            &long,
        ] {
            assert_eq!(local_path(bad), None, "{bad}");
        }
        assert!(local_path(&long[..PATH_CHARS_MAX]).is_some());
    }
}
