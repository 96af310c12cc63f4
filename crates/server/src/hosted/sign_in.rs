//! The pages of signing in.

use std::sync::Arc;

use grantd_domain::grant::AppState;
use grantd_domain::sign_in::{Asked, Why};
use grantd_store::auth_sessions::AuthState;
use grantd_wire::ids::AuthSessionId;
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error};
use http::request::Parts;

use super::connect::{elsewhere, page, redirect, shown};
use super::cookie;
use crate::answer::Answer;
use crate::caller::Source;
use crate::flow::sign_in::{self, Opened, Prompt};
use crate::pages::{self, Leaving, Open, Page, Provider, Session, SignIn, SignInEnd, SignedIn, Stale, Support};
use crate::vault::Vault;

/// `GET /sign-in`.
pub fn first_page(vault: &Vault) -> Answer {
    page(vault, 200, &Page::Open(Open { not_a_link: false, signs_in: true }))
}

/// The sign-in of this browser; else the page that says that there is none.
async fn opened(vault: &Arc<Vault>, parts: &Parts, id: &str) -> Result<Result<(Opened, String), Answer>, Error> {
    let id = AuthSessionId::parse(id).ok_or(Code::NotFound)?;
    let Some(browser) = cookie::read(&parts.headers) else { return Ok(Err(elsewhere(vault))) };
    Ok(match sign_in::find(vault, id, sha256(browser.as_bytes())).await? {
        // Nobody signs in to an app that is archived; what came of it before is told.
        Some(opened) if opened.app.state != AppState::Active && opened.session.state == AuthState::Open => {
            let href = pages::brand_href(&opened.app.id.to_string(), &opened.branding);
            let app = shown(&opened.app, &opened.branding, href.as_deref());
            Err(page(vault, 410, &Page::Closed(Stale { app: Some(app) })))
        }
        Some(opened) => Ok((opened, browser)),
        None => Err(elsewhere(vault)),
    })
}

/// `GET /sign-in/{id}`.
pub async fn show(vault: &Arc<Vault>, parts: &Parts, id: &str, source: &Source) -> Result<Answer, Error> {
    let (opened, browser) = match opened(vault, parts, id).await? {
        Ok(found) => found,
        Err(answer) => return Ok(answer),
    };
    let session = &opened.session;
    let href = pages::brand_href(&opened.app.id.to_string(), &opened.branding);
    let app = shown(&opened.app, &opened.branding, href.as_deref());
    let request_id = source.request_id.to_string();
    // A connect session has a page of its own, where the user goes on or tries again.
    let connect = match session.request {
        Asked::Connect(connect) => Some(format!("/connect/{connect}")),
        Asked::KeyId(_) => None,
    };
    let ended = |end, code| {
        let support = Support { code, request_id: &request_id };
        page(vault, 200, &Page::SignedIn(SignedIn { app, end, again: connect.as_deref(), support }))
    };
    let is_cut = session.state == AuthState::Exchanging && session.lease_until.is_none_or(|until| until <= source.now);
    if let Some(connect) = &connect
        && session.state != AuthState::Error
        && !is_cut
    {
        return Ok(redirect(vault, connect));
    }
    let is_over = session.expires_at <= source.now;
    Ok(match (session.state, &opened.provider) {
        (AuthState::Completed, _) => ended(SignInEnd::Done, "done"),
        (AuthState::Error, _) => {
            let why = session.outcome.as_ref().unwrap_or(&Why::Internal);
            ended(end(why), why.code())
        }
        (AuthState::Exchanging, _) => ended(SignInEnd::Interrupted, "interrupted"),
        (AuthState::Open, _) if is_over => page(vault, 410, &Page::Expired(Stale { app: Some(app) })),
        (AuthState::Open, None) => ended(SignInEnd::Setup, "identity_provider_inactive"),
        (AuthState::Open, Some(provider)) => {
            let (id, csrf) = (session.id.to_string(), cookie::form_token(&browser, session.id));
            let session = Session { id: &id, csrf: &csrf, user: None, several: false };
            let provider = Provider { id: "", name: &provider.name };
            page(vault, 200, &Page::SignIn(SignIn { app, session, provider }))
        }
    })
}

const fn end(why: &Why) -> SignInEnd {
    match why {
        Why::Declined => SignInEnd::Declined,
        Why::Unreachable | Why::NoKeys => SignInEnd::Unreachable,
        Why::Refused(_) | Why::Unclear => SignInEnd::Refused,
        Why::Configuration(_) | Why::Token(_) | Why::Inactive => SignInEnd::Setup,
        Why::Interrupted => SignInEnd::Interrupted,
        Why::Barred => SignInEnd::Barred,
        Why::OtherUser => SignInEnd::OtherUser,
        Why::Internal => SignInEnd::Internal,
    }
}

/// `POST /sign-in/{id}/{start,decline}`.
pub async fn change(
    vault: &Arc<Vault>,
    parts: &Parts,
    (id, action): (&str, &str),
    form: &[u8],
    source: &Source,
) -> Result<Answer, Error> {
    let (opened, browser) = match opened(vault, parts, id).await? {
        Ok(found) => found,
        Err(answer) => return Ok(answer),
    };
    let session = &opened.session;
    cookie::check_form(form, &browser, session.id)?;
    let here = format!("/sign-in/{}", session.id);
    if let Asked::Connect(connect) = session.request {
        return Ok(redirect(vault, &format!("/connect/{connect}")));
    }
    if session.state != AuthState::Open || session.expires_at <= source.now {
        return Ok(redirect(vault, &here));
    }
    if action == "decline" {
        sign_in::fail(vault, session.clone(), Why::Declined, source).await?;
        return Ok(redirect(vault, &here));
    }
    let Some(provider) = &opened.provider else { return Ok(redirect(vault, &here)) };
    let link = match sign_in::start(vault, session, provider, Prompt::AsItLikes, source.now).await {
        Ok(link) => link,
        // It was begun twice at once, or its provider is gone by now: its page says which.
        Err(e) if matches!(e.code, Code::Conflict | Code::NotFound) => return Ok(redirect(vault, &here)),
        Err(e) => return Err(e),
    };
    let href = pages::brand_href(&opened.app.id.to_string(), &opened.branding);
    let app = shown(&opened.app, &opened.branding, href.as_deref());
    let provider = Provider { id: "", name: &provider.name };
    Ok(page(vault, 200, &Page::Leaving(Leaving { app, provider, url: &link })))
}
