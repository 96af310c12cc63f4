//! What browsers of end users ask for: the pages of Connect, what they are made of, and the way back from a provider.
//!
//! A browser is known by its cookie alone: it opened a session, and no other browser can go on with that. Every change is a POST that
//! carries a token made of that cookie.

mod connect;
pub(crate) mod cookie;
mod key_entry;
mod sign_in;

pub(crate) use connect::returned;

use std::sync::Arc;

use axum::body::Body;
use grantd_wire::{Code, Error};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::answer::Answer;
use crate::caller::{Source, body};
use crate::pages::{self, Lang};
use crate::vault::Vault;

/// Bytes of a form.
const FORM_BYTES_MAX: usize = grantd_wire::limits::PAGE_BODY_BYTES_MAX;

/// A way in for browsers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hosted<'p> {
    /// The first page of Connect; knows nothing of its session yet.
    Open,
    /// Takes the session's token.
    Claim,
    /// A page of a session, or a form of it.
    Session {
        id: &'p str,
        action: &'p str,
    },
    /// The first page of a sign-in; knows nothing of it yet.
    SignInOpen,
    /// A page of a sign-in, or a form of it.
    SignIn {
        id: &'p str,
        action: &'p str,
    },
    Callback,
    Asset(&'p str),
    Brand(&'p str),
}

/// What a path leads to, and the pattern it is counted and logged under.
pub fn find(path: &str) -> Option<(Hosted<'_>, &'static str)> {
    // The browser's library appends to a base URL as it is, with a slash at its end or not (wire-core 5.5).
    match path {
        "/sdk/oauth/connect" | "//sdk/oauth/connect" => return Some((Hosted::Open, "/sdk/oauth/connect")),
        "/sign-in" => return Some((Hosted::SignInOpen, "/sign-in")),
        "/connect/open" => return Some((Hosted::Claim, "/connect/open")),
        "/oauth/callback" => return Some((Hosted::Callback, "/oauth/callback")),
        _ => {}
    }
    if path.starts_with("/assets/") {
        return Some((Hosted::Asset(path), "/assets/{}"));
    }
    if let Some(name) = path.strip_prefix("/brand/") {
        return Some((Hosted::Brand(name), "/brand/{}"));
    }
    if let Some(rest) = path.strip_prefix("/sign-in/") {
        let (id, action) = id_and_action(rest);
        return Some((Hosted::SignIn { id, action }, "/sign-in/{}"));
    }
    let (id, action) = id_and_action(path.strip_prefix("/connect/")?);
    Some((Hosted::Session { id, action }, "/connect/{}"))
}

fn id_and_action(rest: &str) -> (&str, &str) {
    rest.split_once('/').unwrap_or((rest, ""))
}

/// Answers a browser. A failure is a page, too.
pub async fn answer(vault: &Arc<Vault>, hosted: Hosted<'_>, parts: &Parts, content: Body, source: Source) -> Answer {
    let request_id = source.request_id;
    let answered = async {
        let answered = Box::pin(dispatch(vault, hosted, parts, content, source)).await;
        answered.unwrap_or_else(|error| connect::trouble(vault, &error, &request_id.to_string(), None))
    };
    pages::spoken(Lang::of(&parts.headers), answered).await
}

fn not_allowed(methods: &'static str) -> Error {
    Error::new(Code::MethodNotAllowed).detail("allow", methods)
}

/// Browsers say where a form comes from; a page of somebody else's has no business sending one here.
pub(crate) fn check_site(headers: &HeaderMap) -> Result<(), Error> {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Error::invalid("Sec-Fetch-Site", "says that the form is not of this site"));
    }
    Ok(())
}

async fn dispatch(
    vault: &Arc<Vault>,
    hosted: Hosted<'_>,
    parts: &Parts,
    content: Body,
    source: Source,
) -> Result<Answer, Error> {
    let is_get = parts.method == Method::GET || parts.method == Method::HEAD;
    let is_post = parts.method == Method::POST;
    if is_post {
        check_site(&parts.headers)?;
    }
    match hosted {
        Hosted::Open if is_get => Ok(connect::first_page(vault)),
        Hosted::SignInOpen if is_get => Ok(sign_in::first_page(vault)),
        Hosted::SignIn { id, action: "" } if is_get => sign_in::show(vault, parts, id, &source).await,
        Hosted::SignIn { id, action: action @ ("start" | "decline") } if is_post => {
            let form = body(parts, content, FORM_BYTES_MAX).await?;
            sign_in::change(vault, parts, (id, action), &form, &source).await
        }
        Hosted::Asset(path) if is_get => pages::asset(path).ok_or_else(|| Code::NotFound.into()),
        Hosted::Brand(name) if is_get => connect::brand(vault, name).await,
        Hosted::Callback if is_get => connect::callback(vault, parts, source).await,
        Hosted::Session { id, action: action @ ("" | "outcome") } if is_get => {
            connect::show(vault, parts, id, action == "outcome", &source).await
        }
        Hosted::Claim if is_post => {
            let form = body(parts, content, FORM_BYTES_MAX).await?;
            connect::claim(vault, parts, &form, &source).await
        }
        Hosted::Session { id, action: action @ ("sign-in" | "start" | "decline" | "finish" | "key" | "approve") }
            if is_post =>
        {
            let form = body(parts, content, FORM_BYTES_MAX).await?;
            connect::change(vault, parts, (id, action), &form, &source).await
        }
        Hosted::Session { action: "sign-in" | "start" | "decline" | "finish" | "key" | "approve", .. }
        | Hosted::SignIn { action: "start" | "decline", .. }
        | Hosted::Claim => Err(not_allowed("POST")),
        Hosted::Session { action: "" | "outcome", .. }
        | Hosted::SignIn { action: "", .. }
        | Hosted::SignInOpen
        | Hosted::Open
        | Hosted::Asset(_)
        | Hosted::Brand(_)
        | Hosted::Callback => Err(not_allowed("GET, HEAD")),
        Hosted::Session { .. } | Hosted::SignIn { .. } => Err(Code::NotFound.into()),
    }
}
