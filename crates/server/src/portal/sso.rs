//! Single sign-on: the way to the issuer, the way back, and what of it one sees of oneself.
//!
//! The session's cookie goes along with no navigation that another site began: whoever comes back is shown a page, which goes on by itself.

use grantd_domain::secret::Secret;
use grantd_domain::sign_in;
use grantd_domain::sso::Why;
use grantd_store::sso::Purpose;
use grantd_wire::{Code, Error, TimeMs};
use serde::Serialize;

use super::desk::{Desk, Shown};
use super::{PATH, cookie, give_cookie, local_path};
use crate::answer::Answer;
use crate::flow::sso::{self, Done, Stop};
use crate::hosted::returned;

/// Gives the browser its new session. Whatever way to the issuer it is still on comes to nothing by that: an answer that comes late must
/// not put somebody else in the place of who is signed in by then.
pub fn give_session(desk: &Desk<'_>, answer: &mut Answer, session: &Secret) {
    give_cookie(answer, &cookie::set(desk.vault, session.reveal()));
    if desk.vault.settings.sso.is_some() {
        give_cookie(answer, &cookie::clear_sso(desk.vault));
    }
}

/// What the issuer is called; `None`: there is no single sign-on.
pub fn name<'a>(desk: &'a Desk<'_>) -> Option<&'a str> {
    desk.vault.settings.sso.as_ref().map(|settings| settings.name.as_str())
}

/// Whether operators sign in in no other way.
pub fn is_required(desk: &Desk<'_>) -> bool {
    desk.vault.check_other_ways().is_err()
}

/// What whoever is signed in sees of theirs.
#[derive(Serialize)]
pub struct Sso {
    name: String,
    /// Since when they are known there; `None`: they are not yet.
    bound_at: Option<TimeMs>,
    subject: Option<String>,
}

/// On the page Your account.
pub async fn of_account(desk: &Desk<'_>) -> Result<Option<Sso>, Error> {
    let Some(name) = name(desk) else { return Ok(None) };
    let binding = sso::binding(desk.vault, desk.visitor()?).await?;
    let bound_at = binding.as_ref().map(|binding| binding.bound_at);
    Ok(Some(Sso { name: name.to_owned(), bound_at, subject: binding.map(|binding| binding.subject) }))
}

/// Whether whoever is signed in has it for a way to sign in.
pub async fn is_way_of(desk: &Desk<'_>) -> Result<bool, Error> {
    Ok(sso::binding(desk.vault, desk.visitor()?).await?.is_some())
}

/// `POST /portal/sign-in/sso`.
pub async fn start(desk: &Desk<'_>) -> Result<Answer, Error> {
    let old = desk.visitor.as_ref().map(|visitor| (visitor.operator.id, visitor.session.id));
    leave(desk, Purpose::SignIn(old), local_path(desk.form.raw("to"))).await
}

/// `POST /portal/sign-in/sso/confirm`: in a window of its own, beside the page that asks.
pub async fn confirm(desk: &Desk<'_>) -> Result<Answer, Error> {
    let visitor = desk.visitor()?;
    leave(desk, Purpose::Confirm(visitor.operator.id, visitor.session.id), None).await
}

#[derive(Serialize)]
struct Page<'a> {
    /// The issuer.
    name: &'a str,
    /// Where the browser goes.
    url: &'a str,
}

async fn leave(desk: &Desk<'_>, purpose: Purpose, to: Option<&str>) -> Result<Answer, Error> {
    let known = cookie::read_sso(desk.vault, &desk.parts.headers);
    let begun = match sso::start(desk.vault, purpose, to, known.as_deref(), &desk.source).await {
        Ok(begun) => begun,
        Err(Stop::Refused(why)) => return Ok(refused(desk, &why)),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let page = Page { name: name(desk).unwrap_or_default(), url: &begun.url };
    let mut answer = desk.page(&Shown::new("portal/sso_leave.html", "", &page));
    give_cookie(&mut answer, &cookie::set_sso(desk.vault, begun.browser.reveal()));
    Ok(answer)
}

/// `GET /portal/sign-in/sso`: the issuer sends the browser back.
pub async fn back(desk: &Desk<'_>) -> Result<Answer, Error> {
    let browser = cookie::read_sso(desk.vault, &desk.parts.headers);
    let returned = returned(desk.parts)?;
    Ok(match sso::take(desk.vault, &returned, browser.as_deref(), &desk.source).await {
        Ok(Done::SignedIn { cookie, to }) => {
            let to = to.as_deref().and_then(local_path).unwrap_or(PATH);
            let url = format!("{}{to}", desk.vault.settings.base_path);
            let page = Page { name: name(desk).unwrap_or_default(), url: &url };
            let mut answer = desk.page(&Shown::new("portal/sso_back.html", "", &page));
            give_session(desk, &mut answer, &cookie);
            answer
        }
        Ok(Done::Confirmed) => {
            let page = Page { name: name(desk).unwrap_or_default(), url: "" };
            desk.page(&Shown::new("portal/sso_confirmed.html", "", &page))
        }
        Err(Stop::Refused(why)) => refused(desk, &why),
        Err(Stop::Failed(error)) => return Err(error),
    })
}

/// `POST /portal/account/sso/remove`.
pub async fn remove(desk: &Desk<'_>) -> Result<Answer, Error> {
    match sso::unbind(desk.vault, desk.visitor()?, &desk.source).await? {
        true => Ok(desk.go("/portal/account?done=sso_removed")),
        false => Err(Code::NotFound.into()),
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    name: &'a str,
    /// Which sentences tell it.
    kind: &'static str,
    /// For whoever looks for it in the trail.
    code: &'static str,
    /// What the issuer said, or which check its token failed.
    said: Option<&'a str>,
    request_id: String,
}

/// The page that says why nobody was signed in, and what to do.
fn refused(desk: &Desk<'_>, why: &Why) -> Answer {
    let (status, kind) = told(why);
    let page = Refused {
        name: name(desk).unwrap_or_default(),
        kind,
        code: why.code(),
        said: why.provider_code(),
        request_id: desk.source.request_id.to_string(),
    };
    desk.page_with(status, &Shown::new("portal/sso_refused.html", "", &page))
}

/// The status of the page, and the sentences on it.
const fn told(why: &Why) -> (u16, &'static str) {
    use sign_in::Why as Of;
    match why {
        Why::Stale => (410, "stale"),
        Why::Elsewhere => (403, "elsewhere"),
        Why::Unverified => (403, "unverified"),
        Why::Domain => (403, "domain"),
        Why::Unknown => (403, "unknown"),
        Why::OtherAccount => (403, "other_account"),
        Why::Disabled => (403, "disabled"),
        Why::OtherPerson => (403, "other_person"),
        Why::NotAsked => (403, "not_asked"),
        Why::SignedOut => (401, "signed_out"),
        Why::Issuer(Of::Declined) => (403, "declined"),
        Why::Issuer(Of::Unreachable | Of::NoKeys) => (503, "unreachable"),
        Why::Issuer(Of::Refused(_)) => (403, "refused"),
        Why::Issuer(Of::Configuration(_)) => (503, "setup"),
        Why::Issuer(Of::Token(_) | Of::Unclear) => (403, "token"),
        // None of these comes of an issuer that no app is registered with.
        Why::Issuer(Of::Interrupted | Of::Barred | Of::OtherUser | Of::Inactive | Of::Internal) => (500, "unreachable"),
    }
}

/// Every kind of refusal, for those who look whether each has its sentences.
#[cfg(test)]
pub const REFUSALS: &[&str] = &[
    "stale",
    "elsewhere",
    "unverified",
    "domain",
    "unknown",
    "other_account",
    "disabled",
    "other_person",
    "not_asked",
    "signed_out",
    "declined",
    "unreachable",
    "refused",
    "setup",
    "token",
];
