//! Signing in and out, and where else one is signed in.

use grantd_domain::env::new_token;
use grantd_domain::secret::Secret;
use grantd_wire::ids::WebSessionId;
use grantd_wire::{Code, Error, TimeMs};
use serde::Serialize;

use super::desk::{Desk, Shown};
use super::{PATH, cookie, give_cookie, local_path, sso};
use crate::answer::Answer;
use crate::flow::account::{self, SignedIn};
use crate::flow::passkey::{self, Purpose, Question};
use crate::flow::portal;
use crate::flow::totp::{self, Finished};
use crate::sentence::Sentence;

#[derive(Serialize)]
struct SignIn<'a> {
    /// The link that was opened, for the form to send back.
    link: Option<&'a str>,
    /// Whom it signs in.
    email: Option<String>,
    to: Option<&'a str>,
    /// Somebody is signed in here already.
    is_signed_in: bool,
    /// What a device is asked; `None`: browsers have no passkeys for pages here, or none counts.
    passkey: Option<Question>,
    /// What the issuer of single sign-on is called.
    sso: Option<&'a str>,
    /// Nobody signs in by password or passkey.
    sso_only: bool,
}

fn draw(desk: &Desk<'_>, status: u16, link: &str, email: Option<String>) -> Answer {
    let browser = asked_browser(desk);
    let page = page(desk, link, email, &browser);
    let answer = desk.page_with(status, &Shown::new("portal/sign_in.html", "", &page));
    asked(desk, answer, &page, &browser)
}

/// The secret of this browser, which what it is asked holds for alone: its own, or a new one.
fn asked_browser(desk: &Desk<'_>) -> Secret {
    let known = cookie::read_asked(desk.vault, &desk.parts.headers);
    known.map_or_else(|| new_token(&*desk.vault.env, ""), Secret::new)
}

/// The page, with the browser's secret if it asks for a passkey.
fn asked(desk: &Desk<'_>, mut answer: Answer, page: &SignIn<'_>, browser: &Secret) -> Answer {
    if page.passkey.is_some() {
        give_cookie(&mut answer, &cookie::set_asked(desk.vault, browser.reveal()));
    }
    answer
}

fn page<'a>(desk: &'a Desk<'_>, link: &'a str, email: Option<String>, browser: &Secret) -> SignIn<'a> {
    let to = [desk.query.raw("to"), desk.form.raw("to")].into_iter().find_map(local_path);
    let question = || passkey::question(desk.vault, Purpose::SignIn(browser.reveal()), &[], desk.source.now);
    let sso_only = sso::is_required(desk);
    SignIn {
        link: Some(link).filter(|link| !link.is_empty()),
        email,
        to,
        is_signed_in: desk.visitor.is_some(),
        passkey: if sso_only { None } else { question() },
        sso: sso::name(desk),
        sso_only,
    }
}

/// `GET /portal/sign-in`. Opening a link changes nothing.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let link = desk.query.raw("link");
    if link.is_empty() {
        return Ok(match desk.visitor {
            Some(_) => desk.go(PATH),
            None => draw(desk, 200, "", None),
        });
    }
    let found = portal::find_link(desk.vault, link, desk.source.now).await?;
    let status = if found.is_some() { 200 } else { 410 };
    Ok(draw(desk, status, link, found.map(|operator| operator.email)))
}

/// `POST /portal/sign-in`: uses the link up.
pub async fn sign_in(desk: &Desk<'_>) -> Result<Answer, Error> {
    let link = desk.form.raw("link");
    let Some(made) = portal::sign_in(desk.vault, link, desk.visitor.as_ref(), &desk.source).await? else {
        return Ok(draw(desk, 410, link, None));
    };
    Ok(signed_in(desk, &made))
}

/// Where they wanted to go, with the new session's cookie.
fn signed_in(desk: &Desk<'_>, cookie: &Secret) -> Answer {
    let mut answer = desk.go(local_path(desk.form.raw("to")).unwrap_or(PATH));
    sso::give_session(desk, &mut answer, cookie);
    answer
}

/// `POST /portal/sign-in/password`.
pub async fn with_password(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (email, password) = (desk.form.text("email"), Secret::new(desk.form.raw("password").to_owned()));
    let made = account::sign_in(desk.vault, &email, &password, desk.visitor.as_ref(), &desk.source).await;
    let error = match made {
        Ok(SignedIn::Done(cookie)) => return Ok(signed_in(desk, &cookie)),
        Ok(SignedIn::Half(half)) => return Ok(code_page(desk, half.reveal(), None)),
        Ok(SignedIn::Wrong) => Sentence::WrongPassword.of(Code::NotProved),
        Err(error) if error.code == Code::RateLimitExceeded => error,
        Err(error) => return Err(error),
    };
    Ok(password_page(desk, error))
}

/// The page again, with what was wrong.
fn password_page(desk: &Desk<'_>, error: Error) -> Answer {
    let browser = asked_browser(desk);
    let page = page(desk, "", None, &browser);
    let shown = Shown::new("portal/sign_in.html", "", &page);
    let answer = desk.refused_page(error, Shown { values: desk.form.kept(&["email"]), ..shown });
    asked(desk, answer, &page, &browser)
}

/// `POST /portal/sign-in/passkey`.
pub async fn with_passkey(desk: &Desk<'_>) -> Result<Answer, Error> {
    let browser = cookie::read_asked(desk.vault, &desk.parts.headers).unwrap_or_default();
    let said = desk.form.said();
    let made = passkey::sign_in(desk.vault, &browser, said, desk.visitor.as_ref(), &desk.source).await;
    let error = match made {
        Ok(Some(cookie)) => return Ok(signed_in(desk, &cookie)),
        Ok(None) => Sentence::WrongPasskey.of(Code::NotProved),
        Err(error) if error.code == Code::RateLimitExceeded => error,
        Err(error) => return Err(error),
    };
    Ok(password_page(desk, error))
}

#[derive(Serialize)]
struct SignInCode<'a> {
    half: &'a str,
    to: Option<&'a str>,
}

/// The page that asks for a code.
fn code_page(desk: &Desk<'_>, half: &str, refused: Option<Error>) -> Answer {
    let page = SignInCode { half, to: local_path(desk.form.raw("to")) };
    let shown = Shown::new("portal/sign_in_code.html", "", &page);
    match refused {
        None => desk.page(&shown),
        Some(error) => desk.refused_page(error, shown),
    }
}

/// `POST /portal/sign-in/code`: after the password.
pub async fn with_code(desk: &Desk<'_>) -> Result<Answer, Error> {
    let (half, code) = (desk.form.raw("half"), desk.form.raw("code"));
    Ok(match totp::finish(desk.vault, half, code, desk.visitor.as_ref(), &desk.source).await {
        Ok(Finished::Done(cookie)) => signed_in(desk, &cookie),
        Ok(Finished::Wrong) => code_page(desk, half, Some(Sentence::WrongCode.of(Code::NotProved))),
        Ok(Finished::Stale) => password_page(desk, Sentence::TookTooLong.of(Code::NotProved)),
        Err(error) if error.code == Code::RateLimitExceeded => code_page(desk, half, Some(error)),
        Err(error) => return Err(error),
    })
}

/// `POST /portal/sign-out`.
pub async fn sign_out(desk: &Desk<'_>) -> Result<Answer, Error> {
    portal::sign_out(desk.vault, desk.visitor()?, &desk.source).await?;
    let mut answer = desk.go(&format!("{PATH}/sign-in"));
    give_cookie(&mut answer, &cookie::clear(desk.vault));
    Ok(answer)
}

#[derive(Serialize)]
struct Session {
    id: String,
    is_this: bool,
    auth_at: TimeMs,
    seen_at: TimeMs,
    /// When it ends, if nothing is asked for.
    ends_at: TimeMs,
    ip: String,
    browser: Option<String>,
    /// How they signed in.
    by: &'static str,
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Session>,
}

/// `GET /portal/sessions`.
pub async fn sessions(desk: &Desk<'_>) -> Result<Answer, Error> {
    let visitor = desk.visitor()?;
    let found = portal::list(desk.vault, visitor, desk.source.now).await?;
    let sessions = found.into_iter().map(|session| Session {
        id: session.id.to_string(),
        is_this: session.id == visitor.session.id,
        auth_at: session.auth_at,
        seen_at: session.seen_at,
        ends_at: portal::ends_at(&session),
        ip: session.ip,
        browser: session.user_agent.as_deref().and_then(browser).map(str::to_owned),
        by: session.signed_in_by.as_str(),
    });
    let page = Sessions { sessions: sessions.collect() };
    Ok(desk.page(&Shown::new("portal/sessions.html", "sessions", &page)))
}

/// The browser that a user agent is of, as far as it is one of the common ones. Later ones call themselves by earlier names, too.
fn browser(user_agent: &str) -> Option<&'static str> {
    let known =
        [("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari")];
    known.into_iter().find(|(sign, _)| user_agent.contains(sign)).map(|(_, name)| name)
}

/// `POST /portal/sessions/{}/end`.
pub async fn end_session(desk: &Desk<'_>) -> Result<Answer, Error> {
    let visitor = desk.visitor()?;
    let id = WebSessionId::parse(&desk.params[0]).ok_or(Code::NotFound)?;
    if id == visitor.session.id {
        return sign_out(desk).await;
    }
    match portal::end(desk.vault, visitor, id, &desk.source).await? {
        true => Ok(desk.go("/portal/sessions?done=session_ended")),
        false => Err(Code::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_browsers_are_named() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        assert_eq!(browser(chrome), Some("Chrome"));
        assert_eq!(browser(&format!("{chrome} Edg/140.0.0.0")), Some("Edge"));
        assert_eq!(browser("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"), Some("Firefox"));
        assert_eq!(browser("curl/8.5.0"), None);
    }
}
