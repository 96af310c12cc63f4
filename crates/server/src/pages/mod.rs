//! Pages for people. What they are told and how it looks; who may see them, and what they change, is decided elsewhere.
//!
//! Invariants: what others named is text, never markup and never an address that runs; every page carries the same security
//! headers; no page holds a secret.
#![expect(clippy::ref_option_ref, reason = "serde hands over fields by reference")]

mod assets;
mod brand;
mod codes;
mod ending;
mod key;
mod lang;
pub mod picture;
pub mod qr;
mod render;
mod shown;
#[cfg(test)]
mod tests;
mod texts;

use axum::body::Body;
use grantd_wire::TimeMs;
use http::{HeaderValue, header};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use crate::answer::{Answer, raw};

pub use assets::asset;
pub use brand::{brand_answer, brand_css, brand_href, logo_answer};
pub use codes::refusal;
pub use ending::{Ending, Granted, Operation};
pub use key::{Input, InputKind, InputWrong, KeyEntry, KeyKnown, KeyTrouble};
pub use lang::{LANG_COOKIE, Lang, spoken};

/// Where the pages are served.
#[derive(Clone, Copy, Serialize)]
pub struct Site<'a> {
    /// The path part of the public URL, without a slash at its end; empty when there is none.
    pub base: &'a str,
    /// Host, and port, of the public URL: who keeps what is connected.
    pub host: &'a str,
}

/// The app that asks.
#[derive(Clone, Copy, Serialize)]
pub struct App<'a> {
    /// Its display name, or else its name.
    #[serde(serialize_with = "shown::as_name")]
    pub name: &'a str,
    #[serde(serialize_with = "shown::as_link")]
    pub website: Option<&'a str>,
    /// From [`brand_href`].
    pub brand_css_href: Option<&'a str>,
    /// Where its logo is, under the base.
    pub logo: Option<&'a str>,
}

/// The session that a page belongs to.
#[derive(Clone, Copy, Serialize)]
pub struct Session<'a> {
    /// As in its addresses, `{base}/connect/{id}`. Not what opens it.
    pub id: &'a str,
    pub csrf: &'a str,
    /// The user it is for, masked.
    #[serde(serialize_with = "shown::as_name_opt")]
    pub user: Option<&'a str>,
    /// It offers more than one provider, so there is a list to go back to.
    pub several: bool,
}

/// A provider.
#[derive(Clone, Copy, Serialize)]
pub struct Provider<'a> {
    pub id: &'a str,
    #[serde(serialize_with = "shown::as_name")]
    pub name: &'a str,
}

/// Something that the app will be able to do.
#[derive(Clone, Copy, Serialize)]
pub struct ScopeLine<'a> {
    /// In words when it is known, else as the provider calls it.
    #[serde(serialize_with = "shown::as_name")]
    pub text: &'a str,
    pub known: bool,
}

/// A page. Each is one template.
#[derive(Clone, Copy)]
pub enum Page<'a> {
    /// `GET /sdk/oauth/connect` and `GET /sign-in`: reads what opens the session from the fragment.
    Open(Open),
    Picker(Picker<'a>),
    Consent(Consent<'a>),
    /// The answer to the start form: takes the browser to the provider.
    Leaving(Leaving<'a>),
    Partial(Partial<'a>),
    Declined(Declined<'a>),
    Failed(Failed<'a>),
    Finished(Finished<'a>),
    /// Asks for a key of the user's own.
    KeyEntry(&'a KeyEntry<'a>),
    /// Asks whether the one they have may be used.
    KeyKnown(KeyKnown<'a>),
    /// Before the user proves to an identity provider who they are.
    SignIn(SignIn<'a>),
    /// The same, before the user connects anything.
    ConnectSignIn(ConnectSignIn<'a>),
    /// What came of that.
    SignedIn(SignedIn<'a>),
    /// The link is too old, used, or unknown.
    Expired(Stale<'a>),
    /// The session belongs to another browser.
    WrongBrowser(Stale<'a>),
    /// The app connects nobody any more.
    Closed(Stale<'a>),
    Trouble(Trouble<'a>),
}

/// The first page of a session. It knows nothing of it yet.
#[derive(Clone, Copy, Serialize)]
pub struct Open {
    /// What was pasted into the field is no link.
    pub not_a_link: bool,
    /// The link is to sign in, and not to connect an account.
    pub signs_in: bool,
}

/// Whom the user is about to prove who they are to, and for which app.
#[derive(Clone, Copy, Serialize)]
pub struct SignIn<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
}

/// Whom the user of a connect session proves who they are to, before they are asked for anything else.
#[derive(Clone, Copy, Serialize)]
pub struct ConnectSignIn<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    /// The identity provider.
    pub provider: Provider<'a>,
    /// The only thing that is asked for, if there is no choice.
    pub only: Option<Provider<'a>>,
}

/// The end of a sign-in.
#[derive(Clone, Copy, Serialize)]
pub struct SignedIn<'a> {
    pub app: App<'a>,
    pub end: SignInEnd,
    /// Where it can be tried again, under the base; none: in the app.
    pub again: Option<&'a str>,
    pub support: Support<'a>,
}

/// What came of a sign-in, as far as it matters to the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignInEnd {
    Done,
    Declined,
    /// The identity provider does not answer.
    Unreachable,
    /// It said no, or something that makes no sense.
    Refused,
    /// How the app is registered there is wrong.
    Setup,
    /// We were stopped before it was done.
    Interrupted,
    /// The user may not sign in.
    Barred,
    /// Somebody else than the user whom the link is for.
    OtherUser,
    Internal,
}

impl SignInEnd {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Declined,
        Self::Unreachable,
        Self::Refused,
        Self::Setup,
        Self::Interrupted,
        Self::Barred,
        Self::OtherUser,
        Self::Internal,
    ];
}

/// The providers to choose from.
#[derive(Clone, Copy, Serialize)]
pub struct Picker<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub offers: &'a [Offer<'a>],
}

/// A provider in the list.
#[derive(Clone, Copy, Serialize)]
pub struct Offer<'a> {
    pub provider: Provider<'a>,
    /// What it is for; or which account is connected.
    #[serde(serialize_with = "shown::as_name_opt")]
    pub note: Option<&'a str>,
    pub state: OfferState,
}

/// How far a provider of the list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    ToDo,
    Connected,
    Declined,
}

/// What the user is asked before the provider asks.
#[derive(Clone, Copy, Serialize)]
pub struct Consent<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
    pub scopes: &'a [ScopeLine<'a>],
    /// The account whose connection is renewed.
    #[serde(serialize_with = "shown::as_name_opt")]
    pub repair: Option<&'a str>,
    /// When the app's access ends by itself.
    pub until: Option<TimeMs>,
    /// Goes on to the provider without waiting for the user.
    pub direct: bool,
}

/// On the way to the provider. An answer of its own and not a redirect: browsers hold every redirect that follows a form against
/// `form-action`, also those that the provider makes among its own hosts, which nobody can list.
#[derive(Clone, Copy, Serialize)]
pub struct Leaving<'a> {
    pub app: App<'a>,
    pub provider: Provider<'a>,
    /// Where to, from the provider's settings. One that is not `https`, or `http` on this machine, is not followed.
    #[serde(serialize_with = "leaving_url")]
    pub url: &'a str,
}

/// The user granted less than the app cannot do without.
#[derive(Clone, Copy, Serialize)]
pub struct Partial<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
    pub missing: &'a [ScopeLine<'a>],
}

/// The user did not want to connect this provider.
#[derive(Clone, Copy, Serialize)]
pub struct Declined<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
}

/// Connecting this provider did not work.
#[derive(Clone, Copy, Serialize)]
pub struct Failed<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
    pub reason: Reason,
    /// The account that it is about, with [`Reason::OtherAccount`].
    #[serde(serialize_with = "shown::as_name_opt")]
    pub account: Option<&'a str>,
    pub support: Support<'a>,
}

/// What a user can tell whoever helps them.
#[derive(Clone, Copy, Serialize)]
pub struct Support<'a> {
    #[serde(serialize_with = "shown::as_name")]
    pub code: &'a str,
    #[serde(serialize_with = "shown::as_name")]
    pub request_id: &'a str,
}

/// Why connecting did not work, as far as it matters to the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The provider does not answer, or says that it cannot now.
    Unreachable,
    /// The provider said no.
    Refused,
    /// What the app says about itself to the provider is wrong.
    Setup,
    /// We were stopped between the provider's yes and keeping it.
    Interrupted,
    /// Another account than the one to renew.
    OtherAccount,
    /// The provider does not say whose account it is.
    NoAccount,
    /// The provider's answer makes no sense.
    Unclear,
    /// The provider's answer came a second time.
    Used,
    /// A rule of the app or of the organization says no.
    NotAllowed,
    /// The app has as many as it may have.
    Full,
    Internal,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Unreachable,
        Self::Refused,
        Self::Setup,
        Self::Interrupted,
        Self::OtherAccount,
        Self::NoAccount,
        Self::Unclear,
        Self::Used,
        Self::NotAllowed,
        Self::Full,
        Self::Internal,
    ];
}

/// The end of a session; tells the app.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    pub app: App<'a>,
    pub ending: Ending<'a>,
    /// What was given is a key, and no account.
    pub is_key: bool,
    /// Names of providers that were offered and not connected.
    pub left_out: &'a [&'a str],
    /// The origin of the window that may be told.
    pub target_origin: Option<&'a str>,
    /// Where to go when no window opened this one.
    pub return_url: Option<&'a str>,
}

/// A link that does not work, or not here. The app is named if it is known.
#[derive(Clone, Copy, Serialize)]
pub struct Stale<'a> {
    pub app: Option<App<'a>>,
}

/// Something is wrong on our side, or with the form that was sent.
#[derive(Clone, Copy, Serialize)]
pub struct Trouble<'a> {
    pub app: Option<App<'a>>,
    pub kind: TroubleKind,
    /// The way back to the session's page, under the base.
    pub again_href: Option<&'a str>,
    pub support: Support<'a>,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// The form is older than the session's cookie, or came from elsewhere.
    Form,
    /// There is no such page.
    NotFound,
    TooMany,
    Busy,
    Internal,
}

impl TroubleKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Form, Self::NotFound, Self::TooMany, Self::Busy, Self::Internal];
}

/// What pages may load, and where their forms may lead: our own origin and nothing else, on all of them. The way to a provider is
/// [`Leaving`], and no form.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The answer that shows this page.
pub fn answer(status: u16, site: &Site<'_>, page: &Page<'_>) -> Answer {
    let html = html(site, page);
    let mut answer = raw(status, "text/html; charset=utf-8", Body::from(html));
    secure(&mut answer, Window::TellsItsOpener);
    answer
}

/// The security headers of pages. `raw` has set `Cache-Control` and `X-Content-Type-Options`.
fn secure(answer: &mut Answer, window: Window) {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // For browsers that do not know `frame-ancestors`.
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    let (referrer, opener) = match window {
        Window::TellsItsOpener => ("no-referrer", "unsafe-none"),
        Window::StandsAlone => ("same-origin", "same-origin"),
    };
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static(referrer));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static(opener));
}

/// How a page stands to other windows.
#[derive(Clone, Copy)]
enum Window {
    /// The window that opened it is told how it ended. Another value cuts the two apart.
    TellsItsOpener,
    /// It has to do with no other. Its own forms say where they come from, which without a referrer they would not.
    StandsAlone,
}

/// The answer that shows a page of the portal. Every text in it is made inert here, so that no page can forget to.
pub fn portal(status: u16, template: &str, context: &impl Serialize) -> Answer {
    let mut context = serde_json::to_value(context).expect("contexts of ours have a JSON form");
    shown::make_inert(&mut context);
    let html = render::render(template, Value::from(Serde(&context)));
    let mut answer = raw(status, "text/html; charset=utf-8", Body::from(html));
    secure(&mut answer, Window::StandsAlone);
    answer
}

/// The page's text.
fn html(site: &Site<'_>, page: &Page<'_>) -> String {
    match page {
        Page::Open(page) => draw("open.html", site, None, None, page),
        Page::Picker(page) => draw("picker.html", site, Some(page.app), Some(page.session), page),
        Page::Consent(page) => draw("consent.html", site, Some(page.app), Some(page.session), page),
        Page::Leaving(page) => draw("leaving.html", site, Some(page.app), None, page),
        Page::Partial(page) => draw("partial.html", site, Some(page.app), Some(page.session), page),
        Page::Declined(page) => draw("declined.html", site, Some(page.app), Some(page.session), page),
        Page::Failed(page) => draw("failed.html", site, Some(page.app), Some(page.session), page),
        Page::Finished(page) => draw("finished.html", site, Some(page.app), None, &Told::of(page)),
        Page::KeyEntry(page) => draw("key_entry.html", site, Some(page.app), Some(page.session), *page),
        Page::KeyKnown(page) => draw("key_known.html", site, Some(page.app), Some(page.session), page),
        Page::SignIn(page) => draw("sign_in.html", site, Some(page.app), Some(page.session), page),
        Page::ConnectSignIn(page) => draw("connect_sign_in.html", site, Some(page.app), Some(page.session), page),
        Page::SignedIn(page) => draw("signed_in.html", site, Some(page.app), None, page),
        Page::Expired(page) => draw("expired.html", site, page.app, None, page),
        Page::WrongBrowser(page) => draw("wrong_browser.html", site, page.app, None, page),
        Page::Closed(page) => draw("closed.html", site, page.app, None, page),
        Page::Trouble(page) => draw("trouble.html", site, page.app, None, page),
    }
}

/// What every template gets.
#[derive(Serialize)]
struct Context<'a, P> {
    base: &'a str,
    host: &'a str,
    app: Option<App<'a>>,
    session: Option<Session<'a>>,
    page: &'a P,
}

fn draw<'a, P: Serialize>(
    template: &str,
    site: &Site<'a>,
    app: Option<App<'a>>,
    session: Option<Session<'a>>,
    page: &'a P,
) -> String {
    let context = Context { base: site.base, host: site.host, app, session, page };
    render::render(template, Value::from(Serde(&context)))
}

/// [`Finished`] as its template takes it.
#[derive(Serialize)]
struct Told<'a> {
    how: &'static str,
    is_key: bool,
    grants: Vec<ToldGrant>,
    #[serde(serialize_with = "shown::as_names")]
    left_out: &'a [&'a str],
    message: String,
    target_origin: Option<&'a str>,
    return_url: Option<String>,
}

#[derive(Serialize)]
struct ToldGrant {
    provider: String,
    account: Option<String>,
    again: bool,
}

impl<'a> Told<'a> {
    fn of(page: &Finished<'a>) -> Self {
        let grants: &[Granted<'_>] = match page.ending {
            Ending::Connected(grants) => grants,
            Ending::Declined { .. } | Ending::Failed { .. } => &[],
        };
        let grant = |grant: &Granted<'_>| ToldGrant {
            provider: shown::name(grant.provider_name),
            account: grant.account_name.or(grant.account_identifier).map(shown::name),
            again: grant.operation == Operation::Reauth,
        };
        Self {
            how: match page.ending {
                // Reads as an error at the app's side, too.
                Ending::Connected([]) | Ending::Failed { .. } => "failed",
                Ending::Connected(_) => "connected",
                Ending::Declined { .. } => "declined",
            },
            is_key: page.is_key,
            grants: grants.iter().map(grant).collect(),
            left_out: page.left_out,
            message: page.ending.message().to_string(),
            target_origin: page.target_origin.and_then(shown::origin),
            return_url: page.return_url.and_then(|url| page.ending.return_url(url)),
        }
    }
}

fn leaving_url<S: serde::Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    shown::url(url).serialize(serializer)
}
