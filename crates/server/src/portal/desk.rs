//! What a handler works with: whoever is signed in, what was sent, the management API, and the frame that every page stands in.
//!
//! Invariants: a page learns and changes nothing but through the calls of the management API, of which each looks at the role; what
//! was typed as a secret is never drawn again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use grantd_domain::env::new_uuid;
use grantd_store::operators::Role;
use grantd_wire::{Code, Error, TimeMs, api, limits};
use http::request::Parts;
use http::{HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::confirm::is_grave;
use super::form::{Form, Refused};
pub use super::form::{in_days, number};
use super::routes::{APP_PLACES, DONE, PLACES, Place};
use super::{cookie, local_path};
use crate::answer::{Answer, raw};
use crate::api::{PageCall, call_of_page};
use crate::caller::Source;
use crate::flow::portal::Visitor;
use crate::pages::{self, Lang};
use crate::routes::{self, Api};
use crate::vault::Vault;

/// Bytes of an answer of the management API that a page is made of: more than its largest list.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long after it was made a secret is still shown to whoever sends the same form again: a double click shows the second answer.
const SHOWN_AGAIN_MS: i64 = 60_000;
/// Rows of a list on a page.
pub const ROWS: i64 = 25;

/// One request of the portal.
pub struct Desk<'a> {
    pub vault: &'a Arc<Vault>,
    pub parts: &'a Parts,
    /// Segments where the path of the row says `{}`, still encoded.
    pub params: Vec<String>,
    /// What stands behind the `?`.
    pub query: Form,
    /// What a form sent.
    pub form: Form,
    pub source: Source,
    /// Who is signed in. Behind a row with a role there always is somebody.
    pub visitor: Option<Visitor>,
    /// The cookie they are known by.
    pub cookie: String,
}

/// A page to be drawn.
pub struct Shown<'a, P> {
    pub template: &'static str,
    /// The key of its place in the navigation.
    pub place: &'static str,
    /// The app that it is of.
    pub app: Option<&'a api::App>,
    pub page: &'a P,
    /// What stands in its fields.
    pub values: BTreeMap<String, String>,
    /// Why it is drawn again.
    pub refused: Option<Refused>,
}

/// What every template gets.
#[derive(Serialize)]
struct Frame<'a, P> {
    base: &'a str,
    host: &'a str,
    public_url: &'a str,
    version: &'static str,
    /// What this page is drawn by: tests know by it which they have seen.
    template: &'static str,
    now: TimeMs,
    /// `light` or `dark`; `None`: as the system has it.
    theme: Option<&'static str>,
    /// The languages there are, and which of them was chosen.
    languages: Vec<Language>,
    /// Proves that a form is of a page that this browser was shown.
    csrf: String,
    /// Names this drawing of a form, which does what it does once.
    once: String,
    /// Where we are, under the base.
    here: &'a str,
    operator: Option<FrameOperator<'a>>,
    places: &'a [Place],
    app_places: &'a [Place],
    place: &'a str,
    app: Option<&'a api::App>,
    done: Option<&'a str>,
    form: FrameForm,
    page: &'a P,
}

#[derive(Serialize)]
struct Language {
    code: &'static str,
    name: &'static str,
    is_current: bool,
}

#[derive(Serialize)]
struct FrameOperator<'a> {
    email: &'a str,
    role: &'static str,
    /// May change what is in apps.
    develops: bool,
    administers: bool,
}

#[derive(Serialize)]
struct FrameForm {
    values: BTreeMap<String, String>,
    refused: Option<Refused>,
}

impl<'a, P> Shown<'a, P> {
    /// A page without an app.
    pub fn new(template: &'static str, place: &'static str, page: &'a P) -> Self {
        Self { template, place, app: None, page, values: BTreeMap::new(), refused: None }
    }

    /// A page of an app.
    pub fn of(template: &'static str, place: &'static str, app: &'a api::App, page: &'a P) -> Self {
        Self { app: Some(app), ..Self::new(template, place, page) }
    }

    /// The page with what was typed.
    pub fn with(self, values: BTreeMap<String, String>) -> Self {
        Self { values, ..self }
    }

    /// The page with what was wrong, and what was typed.
    fn refused(self, refused: Refused, values: BTreeMap<String, String>) -> Self {
        Self { refused: Some(refused), values, ..self }
    }
}

impl Desk<'_> {
    /// Whoever is signed in.
    pub fn visitor(&self) -> Result<&Visitor, Error> {
        self.visitor.as_ref().ok_or_else(|| Code::SessionRequired.into())
    }

    /// What the management API answers to a GET.
    pub async fn load<T: DeserializeOwned>(
        &self,
        route: Api,
        params: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        let given = query.iter().filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish();
        self.call(route, params, query, Bytes::new(), None).await.map(|(found, _)| found)
    }

    /// What it answers to a GET, as a file that a browser keeps.
    pub async fn file(&self, route: Api, params: &[&str], query: &[(&str, &str)], name: &str) -> Result<Answer, Error> {
        let visitor = self.visitor()?;
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let params = params.iter().map(|param| (*param).to_owned()).collect();
        let call = PageCall { route, params, query, body: Bytes::new(), once: None };
        let who = (visitor.session.id, &visitor.operator);
        let mut answer = call_of_page(self.vault, who, call, self.source.clone()).await?;
        let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, disposition.map_err(|_| Code::Internal)?);
        Ok(answer)
    }

    /// What it answers to a change, which the same form makes once only. Also: whether this form had made it before.
    pub async fn send<T: DeserializeOwned>(
        &self,
        route: Api,
        params: &[&str],
        body: &impl Serialize,
    ) -> Result<(T, bool), Error> {
        // It may hold a secret.
        let body = Zeroizing::new(serde_json::to_vec(body).map_err(|_| Code::Internal)?);
        let once = self.form.raw("once");
        let fits = !once.is_empty() && once.len() <= limits::IDEMPOTENCY_KEY_CHARS_MAX;
        self.call(route, params, String::new(), Bytes::from_owner(body), fits.then_some(once)).await
    }

    /// What it answers to a change that is made each time it is asked for, also by the same form.
    pub async fn send_again<T: DeserializeOwned>(
        &self,
        route: Api,
        params: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|_| Code::Internal)?;
        self.call(route, params, String::new(), Bytes::from(body), None).await.map(|(found, _)| found)
    }

    /// Whether a secret may be shown: it was made now, or by this form a moment ago.
    pub fn may_show(&self, was_made: bool, made: TimeMs) -> bool {
        !was_made || self.source.now.since(made) < SHOWN_AGAIN_MS
    }

    async fn call<T: DeserializeOwned>(
        &self,
        route: Api,
        params: &[&str],
        query: String,
        body: Bytes,
        once: Option<&str>,
    ) -> Result<(T, bool), Error> {
        let visitor = self.visitor()?;
        if routes::API.iter().any(|row| row.route == route && is_grave(row)) {
            visitor.check_confirmed(self.source.now)?;
        }
        let params = params.iter().map(|param| (*param).to_owned()).collect();
        let call = PageCall { route, params, query, body, once };
        let who = (visitor.session.id, &visitor.operator);
        let answer = call_of_page(self.vault, who, call, self.source.clone()).await?;
        let was_made = answer.headers().contains_key(crate::api::idempotency::REPLAYED);
        let bytes = to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.map_err(|_| Code::Internal)?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        let found = serde_json::from_slice(text).map_err(|e| {
            tracing::error!(error = %e, "A page cannot read what the management API answered to {route:?}");
            Error::new(Code::Internal)
        })?;
        Ok((found, was_made))
    }

    /// Refuses what is grave of whoever proved too long ago who they are, where only a look at what is changed says whether it is.
    /// They are asked, and the form goes on.
    pub fn check_grave(&self, is_grave: bool) -> Result<(), Error> {
        if is_grave { self.visitor()?.check_confirmed(self.source.now) } else { Ok(()) }
    }

    /// The app that the path names.
    pub async fn app(&self) -> Result<api::App, Error> {
        self.load(Api::AppsShow, &[&self.params[0]], &[]).await
    }

    /// Draws the page.
    pub fn page(&self, page: &Shown<'_, impl Serialize>) -> Answer {
        self.page_with(200, page)
    }

    /// Draws the page that was asked for again, with what was wrong; what the person at it cannot mend is an error.
    pub fn again<P: Serialize>(&self, error: Error, keep: &[&str], shown: Shown<'_, P>) -> Result<Answer, Error> {
        let status = error.code.status();
        let shown = shown.refused(Refused::of(error)?, self.form.kept(keep));
        Ok(self.page_with(status, &shown))
    }

    /// Draws the page with why what it asked for was not done, whatever that was.
    pub fn refused_page<P: Serialize>(&self, error: Error, shown: Shown<'_, P>) -> Answer {
        let (status, retry) = (error.code.status(), error.retry_after_s);
        let mut answer = self.page_with(status, &Shown { refused: Some(Refused::plain(error)), ..shown });
        if let Some(seconds) = retry {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }

    pub(super) fn page_with<P: Serialize>(&self, status: u16, shown: &Shown<'_, P>) -> Answer {
        let settings = &self.vault.settings;
        let operator = self.visitor.as_ref().map(|visitor| FrameOperator {
            email: &visitor.operator.email,
            role: visitor.operator.role.as_str(),
            develops: visitor.operator.role >= Role::Developer,
            administers: visitor.operator.role >= Role::Admin,
        });
        let public_url = settings.public_url.as_str();
        let done = self.query.raw("done");
        let here = self.parts.uri.path_and_query().map_or("", |target| target.as_str());
        let frame = Frame {
            base: &settings.base_path,
            host: self.host(),
            public_url,
            version: env!("CARGO_PKG_VERSION"),
            template: shown.template,
            now: self.source.now,
            theme: cookie::theme(&self.parts.headers),
            languages: self.languages(),
            csrf: self.csrf(),
            once: new_uuid(&*self.vault.env).to_string(),
            here: local_path(here).unwrap_or(super::PATH),
            operator,
            places: PLACES,
            app_places: APP_PLACES,
            place: shown.place,
            app: shown.app,
            done: DONE.contains(&done).then_some(done),
            form: FrameForm { values: shown.values.clone(), refused: shown.refused.clone() },
            page: shown.page,
        };
        pages::portal(status, shown.template, &frame)
    }

    fn languages(&self) -> Vec<Language> {
        let current = Lang::of(&self.parts.headers);
        let language = |lang: Lang| Language { code: lang.code(), name: lang.name(), is_current: lang == current };
        Lang::ALL.into_iter().map(language).collect()
    }

    /// Host, and port, of the public URL.
    pub fn host(&self) -> &str {
        let public_url = self.vault.settings.public_url.as_str();
        let host = public_url.split_once("://").map_or(public_url, |(_, rest)| rest);
        host.split('/').next().unwrap_or(host)
    }

    /// What a form of this browser's session carries.
    fn csrf(&self) -> String {
        let session = self.visitor.as_ref().map(|visitor| visitor.session.id);
        session.map_or_else(String::new, |id| crate::hosted::cookie::form_token(&self.cookie, id))
    }

    /// Refuses a form that is not of a page that this browser was shown.
    pub(super) fn check_form(&self) -> Result<(), Error> {
        let sent = self.form.raw("csrf");
        let visitor = self.visitor()?;
        match crate::hosted::cookie::is_form_token(sent, &self.cookie, visitor.session.id) {
            true => Ok(()),
            false => Err(Code::CsrfFailed.into()),
        }
    }

    /// Sends the browser on, to a path under the base.
    pub fn go(&self, path: &str) -> Answer {
        let mut answer = raw(303, "text/plain; charset=utf-8", Body::empty());
        let location = format!("{}{path}", self.vault.settings.base_path);
        let location = HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/portal"));
        answer.headers_mut().insert(header::LOCATION, location);
        answer
    }

    /// Where the list begins that is asked for, and how many rows it shows: as the management API takes them.
    pub fn offset(&self) -> String {
        let offset = self.query.text("offset").parse::<i64>().unwrap_or(0).clamp(0, limits::OFFSET_MAX);
        offset.to_string()
    }
}

/// The pager of a list: where it stands and where the pages beside it begin.
#[derive(Clone, Debug, Serialize)]
pub struct Pager {
    pub from: i64,
    pub to: i64,
    pub total: i64,
    /// There are more than `total`, and nobody counted how many.
    pub has_uncounted: bool,
    pub previous: Option<i64>,
    pub next: Option<i64>,
}

impl Pager {
    /// Of a page that the management API answered.
    pub fn of<T>(page: &api::Page<T>) -> Self {
        let shown = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
        let next = page.offset + page.limit;
        let is_uncounted = page.total == limits::TOTAL_MAX;
        Self {
            from: if shown == 0 { 0 } else { page.offset + 1 },
            to: page.offset + shown,
            total: if is_uncounted { limits::OFFSET_MAX } else { page.total },
            has_uncounted: is_uncounted,
            previous: (page.offset > 0).then(|| (page.offset - page.limit).max(0)),
            next: (page.has_more && next <= limits::OFFSET_MAX).then_some(next),
        }
    }
}
