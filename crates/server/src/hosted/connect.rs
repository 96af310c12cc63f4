//! The pages of Connect.

use std::sync::Arc;

use axum::body::Body;
use grantd_domain::connect::{Outcome, Why};
use grantd_domain::grant::AppState;
use grantd_domain::identity::IdentityProvider;
use grantd_domain::sign_in::can_sign_in;
use grantd_store::connect::{SessionState, StepState};
use grantd_store::organizations;
use grantd_wire::ids::{AppId, ConnectSessionId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use http::request::Parts;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use super::cookie;
use super::key_entry::{self, Typed};
use crate::answer::{Answer, json as answer, of_store, raw};
use crate::caller::Source;
use crate::flow::callback::{Next, Returned, take};
use crate::flow::connect::{self, Claim, Opened, Step};
use crate::flow::sign_in;
use crate::pages::{
    self, App, ConnectSignIn, Consent, Declined, Ending, Failed, Finished, Granted, Leaving, Offer, OfferState, Open,
    Operation, Page, Partial, Picker, Provider, Reason, ScopeLine, Session, SignInEnd, SignedIn, Site, Stale, Support,
    Trouble, TroubleKind,
};
use crate::vault::Vault;

/// Parameters that a provider sends back.
const PARAMS_MAX: usize = 50;

fn site(vault: &Vault) -> Site<'_> {
    let url = &vault.settings.public_url;
    let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    Site { base: &vault.settings.base_path, host: host.split('/').next().unwrap_or(host) }
}

pub(super) fn page(vault: &Vault, status: u16, page: &Page<'_>) -> Answer {
    pages::answer(status, &site(vault), page)
}

/// A failure as a page.
pub fn trouble(vault: &Vault, error: &Error, request_id: &str, again_href: Option<&str>) -> Answer {
    let kind = match error.code {
        Code::NotFound | Code::MethodNotAllowed => TroubleKind::NotFound,
        Code::InvalidRequest | Code::BodyTooLarge | Code::RequestTimeout | Code::EncodingUnsupported => {
            TroubleKind::Form
        }
        Code::RateLimitExceeded => TroubleKind::TooMany,
        code if code.status() == 503 || code == Code::Conflict => TroubleKind::Busy,
        _ => TroubleKind::Internal,
    };
    let support = Support { code: error.code.as_str(), request_id };
    let shown = Page::Trouble(Trouble { app: None, kind, again_href, support });
    let mut answer = page(vault, error.code.status(), &shown);
    answer.extensions_mut().insert(error.code);
    let allow = error.details.get("allow").and_then(Value::as_str).and_then(|allow| HeaderValue::from_str(allow).ok());
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    if let Some(seconds) = error.retry_after_s {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

pub(super) fn redirect(vault: &Vault, path: &str) -> Answer {
    let mut answer = raw(303, "text/plain; charset=utf-8", Body::empty());
    let location = format!("{}{path}", vault.settings.base_path);
    let location = HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

/// `GET /sdk/oauth/connect`.
pub fn first_page(vault: &Vault) -> Answer {
    page(vault, 200, &Page::Open(Open { not_a_link: false, signs_in: false }))
}

/// `GET /brand/{app}.css` and `GET /brand/{app}.png`.
pub async fn brand(vault: &Vault, name: &str) -> Result<Answer, Error> {
    if let Some(app) = name.strip_suffix(".png") {
        let app = AppId::parse(app).ok_or(Code::NotFound)?;
        let logo = vault.store.read(move |tx| organizations::find_logo(tx, app)).await.map_err(of_store)?;
        return Ok(pages::logo_answer(logo.ok_or(Code::NotFound)?));
    }
    let app = name.strip_suffix(".css").and_then(AppId::parse).ok_or(Code::NotFound)?;
    let branding = vault.store.read(move |tx| organizations::find_branding(tx, app)).await.map_err(of_store)?;
    Ok(pages::brand_answer(&branding))
}

fn fields(form: &[u8]) -> impl Iterator<Item = (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
    form_urlencoded::parse(form)
}

pub(super) fn field(form: &[u8], name: &str) -> Option<String> {
    fields(form).find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// `POST /connect/open`: binds the session to this browser. The script asks for JSON; a form is sent on.
pub async fn claim(vault: &Arc<Vault>, parts: &Parts, form: &[u8], source: &Source) -> Result<Answer, Error> {
    let wants_json = parts.headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/json");
    let pasted = field(form, "session").unwrap_or_default();
    // A whole link, or what is in it.
    let token = pasted.trim().rsplit_once("session=").map_or(pasted.trim(), |(_, token)| token);
    let signs_in = token.starts_with(crate::sdk::SIGN_IN_PREFIX);
    if !signs_in && !token.starts_with(crate::flow::session::TOKEN_PREFIX) {
        return Ok(match wants_json {
            true => answer(400, &json!({"error": "not_a_link", "message": "This is no link that works here."})),
            false => page(vault, 400, &Page::Open(Open { not_a_link: true, signs_in: false })),
        });
    }
    let (browser, is_new) = match cookie::read(&parts.headers) {
        Some(browser) => (browser, false),
        None => (cookie::make(vault).reveal().to_owned(), true),
    };
    let stale = |status, shown: Page<'_>, path: &str| match wants_json {
        // The page says why; the script only goes there.
        true => answer(200, &json!({"location": format!("{}{path}", vault.settings.base_path)})),
        false => page(vault, status, &shown),
    };
    let claimed = match signs_in {
        true => sign_in::open(vault, token, &browser, source).await?.map(|id| format!("/sign-in/{id}")),
        false => connect::open(vault, token, &browser, source).await?.map(|id| format!("/connect/{id}")),
    };
    let mut answered = match claimed {
        Claim::Ours(path) if wants_json => {
            answer(200, &json!({"location": format!("{}{path}", vault.settings.base_path)}))
        }
        Claim::Ours(path) => redirect(vault, &path),
        Claim::Elsewhere => stale(403, Page::WrongBrowser(Stale { app: None }), "/connect/elsewhere"),
        Claim::Unknown => stale(410, Page::Expired(Stale { app: None }), "/connect/expired"),
        Claim::Closed => stale(410, Page::Closed(Stale { app: None }), "/connect/closed"),
    };
    if is_new && let Ok(value) = HeaderValue::from_str(&cookie::set(vault, &browser)) {
        answered.headers_mut().insert(header::SET_COOKIE, value);
    }
    Ok(answered)
}

/// Says that another browser opened it.
pub(super) fn elsewhere(vault: &Vault) -> Answer {
    page(vault, 403, &Page::WrongBrowser(Stale { app: None }))
}

/// An app as pages show it.
pub(super) fn shown<'a>(
    app: &'a grantd_domain::grant::App,
    branding: &'a grantd_wire::api::Branding,
    brand_css_href: Option<&'a str>,
) -> App<'a> {
    App {
        name: branding.display_name.as_deref().unwrap_or(&app.name),
        website: app.website_url.as_deref(),
        brand_css_href,
        logo: branding.logo.as_deref(),
    }
}

/// The session of this browser; else the page that says why there is none.
async fn opened(vault: &Arc<Vault>, parts: &Parts, id: &str) -> Result<Result<(Opened, String), Answer>, Error> {
    match id {
        "elsewhere" => return Ok(Err(page(vault, 403, &Page::WrongBrowser(Stale { app: None })))),
        "expired" => return Ok(Err(page(vault, 410, &Page::Expired(Stale { app: None })))),
        "closed" => return Ok(Err(page(vault, 410, &Page::Closed(Stale { app: None })))),
        _ => {}
    }
    let id = ConnectSessionId::parse(id).ok_or(Code::NotFound)?;
    // Whether there is such a session is nobody's but the browser's that opened it.
    let Some(browser) = cookie::read(&parts.headers) else { return Ok(Err(elsewhere(vault))) };
    match connect::find(vault, id, sha256(browser.as_bytes())).await? {
        // An app that is archived connects nobody; what is connected is told.
        Some(opened) if opened.app.state != AppState::Active && !opened.is_over() => {
            let view = View::new(&opened, &browser);
            Ok(Err(page(vault, 410, &Page::Closed(Stale { app: Some(view.app()) }))))
        }
        Some(opened) => Ok(Ok((opened, browser))),
        None => Ok(Err(elsewhere(vault))),
    }
}

/// What the pages of one session have in common.
pub(super) struct View<'o> {
    pub opened: &'o Opened,
    id: String,
    csrf: String,
    brand_href: Option<String>,
}

impl<'o> View<'o> {
    pub fn new(opened: &'o Opened, browser: &str) -> Self {
        Self {
            opened,
            id: opened.session.id.to_string(),
            csrf: cookie::form_token(browser, opened.session.id),
            brand_href: pages::brand_href(&opened.app.id.to_string(), &opened.branding),
        }
    }

    pub fn app(&self) -> App<'_> {
        let Opened { app, branding, .. } = self.opened;
        shown(app, branding, self.brand_href.as_deref())
    }

    pub fn session(&self) -> Session<'_> {
        let several = !self.opened.session.request.is_single();
        let user = self.opened.session.request.user.as_deref();
        Session { id: &self.id, csrf: &self.csrf, user, several }
    }

    /// A provider of the session, by what it is called there.
    pub fn provider<'a>(&self, id: &'a str) -> Provider<'a>
    where
        'o: 'a,
    {
        Provider { id, name: self.opened.session.request.wanted(id).map_or(id, |wanted| &wanted.name) }
    }

    pub fn step(&self, provider: &str) -> Option<&'o Step> {
        self.opened.steps.iter().find(|step| step.provider_id == provider)
    }
}

/// `GET /connect/{id}` and `GET /connect/{id}/outcome`.
pub async fn show(
    vault: &Arc<Vault>,
    parts: &Parts,
    id: &str,
    is_outcome: bool,
    source: &Source,
) -> Result<Answer, Error> {
    let (opened, browser) = match opened(vault, parts, id).await? {
        Ok(found) => found,
        Err(answer) => return Ok(answer),
    };
    let view = View::new(&opened, &browser);
    let session = &opened.session;
    match session.state {
        SessionState::Completed | SessionState::Refused | SessionState::Barred => return Ok(finished(vault, &view)),
        SessionState::Open | SessionState::Claimed if session.expires_at <= source.now => {
            let has_any = opened.steps.iter().any(|step| step.state == StepState::Done);
            return Ok(match has_any {
                true => finished(vault, &view),
                false => page(vault, 410, &Page::Expired(Stale { app: Some(view.app()) })),
            });
        }
        SessionState::Open | SessionState::Claimed => {}
    }
    if opened.owes_sign_in {
        return sign_in_first(vault, &view, source).await;
    }
    if session.request.key.is_some() {
        return key_entry::show(vault, &view, &Typed::default(), source).await;
    }
    let chosen = parts.uri.query().and_then(|query| field(query.as_bytes(), "provider"));
    let chosen = match &session.request.providers[..] {
        [only] => Some(only.provider_id.clone()),
        _ => chosen,
    };
    let Some(wanted) = chosen.and_then(|id| session.request.wanted(&id)) else {
        return Ok(picker(vault, &view));
    };
    let step = view.step(&wanted.provider_id);
    let is_done = step.is_some_and(|step| step.state == StepState::Done);
    if is_done {
        return Ok(picker(vault, &view));
    }
    match step.filter(|_| is_outcome) {
        Some(step) => Ok(outcome(vault, &view, step, source)),
        None => consent(vault, &view, &wanted.provider_id).await,
    }
}

/// Asks the user to prove who they are, before they are asked for anything else.
async fn sign_in_first(vault: &Vault, view: &View<'_>, source: &Source) -> Result<Answer, Error> {
    let Some(provider) = idp_of(vault, view.opened).await? else {
        return Ok(cannot_sign_in(vault, view, source));
    };
    let only = match &view.opened.session.request.providers[..] {
        [only] => Some(Provider { id: &only.provider_id, name: &only.name }),
        _ => None,
    };
    let provider = Provider { id: "", name: &provider.name };
    let shown = ConnectSignIn { app: view.app(), session: view.session(), provider, only };
    Ok(page(vault, 200, &Page::ConnectSignIn(shown)))
}

/// Where the session's user can sign in, as it is now.
async fn idp_of(vault: &Vault, opened: &Opened) -> Result<Option<IdentityProvider>, Error> {
    let Some(user) = opened.session.user_id else { return Ok(None) };
    let provider = sign_in::provider_of(vault, opened.app.id, user).await?;
    Ok(provider.filter(|provider| can_sign_in(provider).is_ok()))
}

fn cannot_sign_in(vault: &Vault, view: &View<'_>, source: &Source) -> Answer {
    let request_id = source.request_id.to_string();
    let support = Support { code: Code::IdpSigninNotConfigured.as_str(), request_id: &request_id };
    let shown = SignedIn { app: view.app(), end: SignInEnd::Setup, again: None, support };
    page(vault, 200, &Page::SignedIn(shown))
}

/// `POST /connect/{id}/sign-in`.
async fn sign_in(vault: &Vault, opened: &Opened, browser: &str, source: &Source) -> Result<Answer, Error> {
    let here = format!("/connect/{}", opened.session.id);
    let Some(provider) = idp_of(vault, opened).await?.filter(|_| opened.owes_sign_in) else {
        return Ok(redirect(vault, &here));
    };
    let link = match sign_in::start_for(vault, opened, &provider, source.now).await {
        Ok(link) => link,
        // It was begun twice at once, or is done by now: its page says which.
        Err(e) if matches!(e.code, Code::Conflict | Code::NotFound) => return Ok(redirect(vault, &here)),
        Err(e) => return Err(e),
    };
    let view = View::new(opened, browser);
    let provider = Provider { id: "", name: &provider.name };
    Ok(page(vault, 200, &Page::Leaving(Leaving { app: view.app(), provider, url: &link })))
}

fn picker(vault: &Vault, view: &View<'_>) -> Answer {
    let providers = &view.opened.session.request.providers;
    let offer = |wanted: &'_ grantd_domain::connect::Wanted| {
        let step = view.step(&wanted.provider_id);
        let (state, note) = match step.and_then(|step| step.outcome.as_ref()) {
            Some(Outcome::Done { account_name, account, .. }) => {
                (OfferState::Connected, Some(account_name.clone().unwrap_or_else(|| account.clone())))
            }
            Some(Outcome::Declined) => (OfferState::Declined, None),
            _ => (OfferState::ToDo, None),
        };
        (wanted.provider_id.clone(), wanted.name.clone(), note, state)
    };
    let texts: Vec<_> = providers.iter().map(offer).collect();
    let offers: Vec<Offer<'_>> = texts
        .iter()
        .map(|(id, name, note, state)| Offer { provider: Provider { id, name }, note: note.as_deref(), state: *state })
        .collect();
    page(vault, 200, &Page::Picker(Picker { app: view.app(), session: view.session(), offers: &offers }))
}

async fn consent(vault: &Arc<Vault>, view: &View<'_>, provider_id: &str) -> Result<Answer, Error> {
    let session = &view.opened.session;
    let (app, id) = (session.app_id, provider_id.to_owned());
    let read = move |tx: &mut grantd_store::Tx<'_>| grantd_store::providers::find(tx, app, &id);
    let provider = vault.store.read(read).await.map_err(of_store)?.ok_or(Code::NotFound)?;
    let wanted = session.request.wanted(provider_id).ok_or(Code::NotFound)?;
    let known = &provider.facts.scopes.known;
    let lines: Vec<ScopeLine<'_>> = wanted.scopes.iter().filter_map(|scope| line(scope, known)).collect();
    let lifetime = session.request.lifetime;
    let until = grantd_domain::grant::expires_at(lifetime, vault.env.now()).ok().flatten();
    let repair = session.request.repair.as_ref();
    let shown = Consent {
        app: view.app(),
        session: view.session(),
        provider: view.provider(provider_id),
        scopes: &lines,
        repair: repair.map(|repair| repair.account_name.as_deref().unwrap_or(&repair.account)),
        until,
        direct: session.request.is_direct && view.step(provider_id).is_none(),
    };
    Ok(page(vault, 200, &Page::Consent(shown)))
}

/// What a scope opens, in words where they are known. Those that only make the protocol work open nothing.
fn line<'a>(scope: &'a str, known: &'a std::collections::BTreeMap<String, String>) -> Option<ScopeLine<'a>> {
    if matches!(scope, "openid" | "offline_access" | "offline" | "offline.access" | "refresh_token") {
        return None;
    }
    Some(match known.get(scope) {
        Some(text) => ScopeLine { text, known: true },
        None => ScopeLine { text: scope, known: false },
    })
}

/// What came of one provider, when it is no account.
fn outcome(vault: &Vault, view: &View<'_>, step: &Step, source: &Source) -> Answer {
    let request_id = source.request_id.to_string();
    let provider = view.provider(&step.provider_id);
    let failed = |reason, code| {
        let repair = view.opened.session.request.repair.as_ref();
        let account = repair.map(|repair| repair.account_name.as_deref().unwrap_or(&repair.account));
        let support = Support { code, request_id: &request_id };
        page(
            vault,
            200,
            &Page::Failed(Failed { app: view.app(), session: view.session(), provider, reason, account, support }),
        )
    };
    match (&step.outcome, step.state) {
        (Some(Outcome::Partial { missing }), _) => {
            let lines: Vec<ScopeLine<'_>> =
                missing.iter().map(|scope| ScopeLine { text: scope, known: false }).collect();
            let shown = Partial { app: view.app(), session: view.session(), provider, missing: &lines };
            page(vault, 200, &Page::Partial(shown))
        }
        (Some(Outcome::Declined), _) => {
            page(vault, 200, &Page::Declined(Declined { app: view.app(), session: view.session(), provider }))
        }
        (Some(Outcome::Failed { why }), _) => failed(reason(why), why.code()),
        // Taken, and no word since: whoever exchanged it was stopped.
        (None, StepState::Exchanging) if step.lease_until.is_none_or(|until| until <= source.now) => {
            failed(Reason::Interrupted, "interrupted")
        }
        _ => picker(vault, view),
    }
}

const fn reason(why: &Why) -> Reason {
    match why {
        Why::Unreachable => Reason::Unreachable,
        Why::Refused(_) => Reason::Refused,
        Why::Configuration(_) => Reason::Setup,
        Why::Interrupted | Why::AppClosed => Reason::Interrupted,
        Why::OtherAccount => Reason::OtherAccount,
        Why::Barred => Reason::NotAllowed,
        Why::NoAccount => Reason::NoAccount,
        Why::Unclear => Reason::Unclear,
        Why::Full => Reason::Full,
        Why::Internal => Reason::Internal,
    }
}

/// The last page: tells the app.
fn finished(vault: &Vault, view: &View<'_>) -> Answer {
    let Opened { session, steps, .. } = view.opened;
    let is_barred = session.state == SessionState::Barred;
    let texts: Vec<_> = steps.iter().filter(|_| !is_barred).filter_map(granted).collect();
    let scopes: Vec<Vec<&str>> = texts.iter().map(|made| made.scopes.iter().map(String::as_str).collect()).collect();
    let grants: Vec<Granted<'_>> = texts
        .iter()
        .zip(&scopes)
        .map(|(made, scopes)| Granted {
            grant_id: &made.grant_id,
            provider: made.provider,
            provider_name: view.provider(made.provider).name,
            account_identifier: made.account,
            account_name: made.account_name,
            timestamp: made.at,
            operation: if made.is_new { Operation::Creation } else { Operation::Reauth },
            scopes,
        })
        .collect();
    let is_left_out = |id: &str| !texts.iter().any(|made| made.provider == id);
    let left_out: Vec<&str> = session
        .request
        .providers
        .iter()
        .filter(|wanted| is_left_out(&wanted.provider_id))
        .map(|wanted| &*wanted.name)
        .collect();
    let poll = connect::stands(session, steps, session.expires_at);
    let (code, description) = match &poll {
        grantd_wire::sdk::ConnectPoll::Error { error } => (error.error_code.as_str(), error.error_message.as_str()),
        _ => ("connect_denied", "The user did not want to connect."),
    };
    let ending = match code {
        _ if !grants.is_empty() => Ending::Connected(&grants),
        "connect_denied" => Ending::Declined { code, description },
        _ => Ending::Failed { code, description },
    };
    // An origin that was taken from the app meanwhile is told nothing.
    let of_app = |address: &&String| grantd_domain::connect::is_of(address, &view.opened.app.return_origins);
    let shown = Finished {
        app: view.app(),
        ending,
        is_key: session.request.key.is_some(),
        left_out: &left_out,
        target_origin: session.request.allowed_origin.as_ref().filter(of_app).map(String::as_str),
        return_url: session.request.return_url.as_ref().filter(of_app).map(String::as_str),
    };
    page(vault, 200, &Page::Finished(shown))
}

struct Made<'s> {
    grant_id: String,
    provider: &'s str,
    /// None: it is no account but a key without a name.
    account: Option<&'s str>,
    account_name: Option<&'s str>,
    is_new: bool,
    scopes: &'s [String],
    at: TimeMs,
}

fn granted(step: &Step) -> Option<Made<'_>> {
    let Some(Outcome::Done { grant_id, is_new, account, account_name, scopes, .. }) = &step.outcome else {
        return None;
    };
    Some(Made {
        grant_id: grant_id.to_string(),
        provider: &step.provider_id,
        account: Some(account.as_str()).filter(|account| *account != step.provider_id),
        account_name: account_name.as_deref(),
        is_new: *is_new,
        scopes,
        at: step.updated_at,
    })
}

/// `POST /connect/{id}/{sign-in,start,decline,finish,key,approve}`.
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
    let here = format!("/connect/{}", session.id);
    let is_over = session.state != SessionState::Claimed || session.expires_at <= source.now;
    if is_over {
        return Ok(redirect(vault, &here));
    }
    let provider = field(form, "provider").unwrap_or_default();
    match action {
        "start" | "finish" if session.request.key.is_some() => Err(Code::NotFound.into()),
        "sign-in" => sign_in(vault, &opened, &browser, source).await,
        // Nothing is connected by somebody who has not shown who they are.
        "start" | "key" | "approve" if opened.owes_sign_in => Ok(redirect(vault, &here)),
        "key" | "approve" => {
            let typed = key_entry::change(vault, &View::new(&opened, &browser), action, form, source).await?;
            let again = key_entry::again(vault, &opened).await?.filter(|opened| !opened.is_over());
            match typed.zip(again) {
                Some((typed, opened)) => key_entry::show(vault, &View::new(&opened, &browser), &typed, source).await,
                None => Ok(redirect(vault, &here)),
            }
        }
        "start" => start(vault, &opened, &browser, &provider, source).await,
        "decline" => {
            connect::decline(vault, &opened, &provider, source).await?;
            Ok(redirect(vault, &here))
        }
        _ => {
            connect::finish(vault, &opened).await?;
            Ok(redirect(vault, &here))
        }
    }
}

async fn start(
    vault: &Arc<Vault>,
    opened: &Opened,
    browser: &str,
    provider: &str,
    source: &Source,
) -> Result<Answer, Error> {
    let link = match connect::start(vault, opened, provider, source.now).await {
        Ok(link) => link,
        // It was begun twice at once, or is connected by now: its page says which.
        Err(e) if e.code == Code::Conflict => return Ok(redirect(vault, &format!("/connect/{}", opened.session.id))),
        Err(e) => return Err(e),
    };
    let view = View::new(opened, browser);
    let provider = view.provider(provider);
    Ok(page(vault, 200, &Page::Leaving(Leaving { app: view.app(), provider, url: &link })))
}

/// What a provider sent the browser back with.
pub(crate) fn returned(parts: &Parts) -> Result<Returned, Error> {
    let query = parts.uri.query().unwrap_or_default();
    let mut params = Map::new();
    for (name, value) in fields(query.as_bytes()) {
        // One that comes twice could be read as either.
        let is_twice = params.contains_key(&*name);
        if is_twice || params.len() >= PARAMS_MAX || value.chars().count() > limits::CALLBACK_CHARS_MAX {
            return Err(Error::invalid("query", "is not one that a provider sends"));
        }
        params.insert(name.into_owned(), Value::from(value.into_owned()));
    }
    Ok(Returned { params: params.into() })
}

/// `GET /oauth/callback`.
pub async fn callback(vault: &Arc<Vault>, parts: &Parts, source: Source) -> Result<Answer, Error> {
    let browser = cookie::read(&parts.headers);
    Ok(match take(vault, returned(parts)?, browser.as_deref(), source).await? {
        Next::Page { session, provider } => {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("provider", &provider).finish();
            redirect(vault, &format!("/connect/{session}/outcome?{query}"))
        }
        Next::SignIn(id) => redirect(vault, &format!("/sign-in/{id}")),
        Next::WrongBrowser => elsewhere(vault),
        Next::Unknown => page(vault, 410, &Page::Expired(Stale { app: None })),
    })
}
