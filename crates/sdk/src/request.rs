//! One call to a provider: ask the vault, put the credential in, send, report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use grantd_wire::ids::EventId;
use grantd_wire::sdk::{CallReport, Target, TokenAnswer, TokenRequest};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::app::{App, Ask, Inner, read};
use crate::challenge::Bearer;
use crate::clock::{self, Stopwatch};
use crate::destination;
use crate::error::Error;
use crate::inject::{self, Call};
use crate::outgoing::{self, Answer};
use crate::report;
use crate::response::{Response, RetryInfo};
use crate::retry::Repeat;
use crate::scrub::Scrubber;
use crate::signing::{self, Identity};

/// The vault's answer header that names the audit event of a release.
const HEADER_EVENT_ID: &str = "x-grantd-event-id";
/// Headers the HTTP client itself writes; another `host` would carry the credential to another server's name.
const REFUSED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "proxy-authorization",
    "proxy-connection",
];

/// A call that is being described. [`send`](Self::send) makes it.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    app: App,
    method: String,
    url: String,
    grant_id: Option<String>,
    provider: Option<String>,
    account: Option<String>,
    label: Option<String>,
    app_user_id: Option<String>,
    user_token: Option<String>,
    json: Option<Result<Bytes, ()>>,
    body: Option<Bytes>,
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
    path_params: Vec<(String, String)>,
    reason: Option<String>,
    context: BTreeMap<String, String>,
    caller: Option<String>,
    echo: Echo,
    refusals: Refusals,
}

/// What a provider's answer of 400 or more becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusals {
    Errors,
    Responses,
}

/// What happens to a credential the provider sends back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Kept,
    Redacted,
}

impl RequestBuilder {
    pub(crate) fn new(app: App, method: &str, url: &str) -> Self {
        Self {
            app,
            method: method.to_ascii_uppercase(),
            url: url.to_owned(),
            grant_id: None,
            provider: None,
            account: None,
            label: None,
            app_user_id: None,
            user_token: None,
            json: None,
            body: None,
            headers: Vec::new(),
            query: Vec::new(),
            path_params: Vec::new(),
            reason: None,
            context: BTreeMap::new(),
            caller: None,
            echo: Echo::Kept,
            refusals: Refusals::Errors,
        }
    }

    /// The grant whose credential the call needs. Either this, or [`provider`](Self::provider).
    pub fn grant_id(mut self, grant_id: impl Into<String>) -> Self {
        self.grant_id = Some(grant_id.into());
        self
    }

    /// The provider, or the managed secret's slug, of which the user has one grant.
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// With a provider: which account of the user's.
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// With a provider: which grant, by its label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With a provider: which of the users who trust this agent.
    pub fn app_user_id(mut self, app_user_id: impl Into<String>) -> Self {
        self.app_user_id = Some(app_user_id.into());
        self
    }

    /// The token of the user on whose behalf the call is made, in place of the app's getter.
    pub fn user_token(mut self, user_token: impl Into<String>) -> Self {
        self.user_token = Some(user_token.into());
        self
    }

    /// Sends `value` as JSON.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.json = Some(serde_json::to_vec(value).map(Bytes::from).map_err(|_| ()));
        self
    }

    /// Sends these bytes. Say what they are with a `content-type` header.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds headers.
    pub fn headers<N: Into<String>, V: Into<String>>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self {
        self.headers.extend(headers.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Adds a query parameter. The vault sees and judges the URL without these.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Fills `{name}` in the URL with `value`, percent-encoded, slashes too.
    pub fn path_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.path_params.push((name.into(), value.into()));
        self
    }

    /// Fills several placeholders.
    pub fn path_params<N: Into<String>, V: Into<String>>(mut self, params: impl IntoIterator<Item = (N, V)>) -> Self {
        self.path_params.extend(params.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Why the call is made, for the audit log.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds a key to the call's context, such as `run_id`. It is signed and audited; rules may look at it.
    pub fn context(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(key.into(), value.into());
        self
    }

    /// Who calls, this once, in place of the client's own caller.
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// Writes `[redacted]` where the provider's answer repeats the credential: for answers that are shown or stored.
    pub fn redact_echo(mut self) -> Self {
        self.echo = Echo::Redacted;
        self
    }

    /// Answers whatever status the provider answered; without this, 400 and more are errors.
    pub fn any_status(mut self) -> Self {
        self.refusals = Refusals::Responses;
        self
    }

    /// Makes the call: one release and one provider call. The provider is never called twice.
    ///
    /// An answer below 400 is the [`Response`], redirects too: none is followed. 400 and more is an error unless
    /// [`any_status`](Self::any_status) was said.
    pub async fn send(mut self) -> Result<Response, Error> {
        let (echo, refusals) = (self.echo, self.refusals);
        let app = self.app.clone();
        let given = self.user_token.take();
        let mut prepared = self.prepare()?;
        prepared.ask.user_token = app.user_token(given).await?;
        let app = Arc::clone(&app.inner);
        // A second release is one more event and the same credential.
        let ask = Ask::post("/sdk/token", &prepared.ask, Repeat::Harmless);
        let released = app.ask(&ask, &prepared.identity).await.map_err(garbled)?;
        let status = released.status.as_u16();
        let event_id = event_id(&released.headers);
        let mut credential: TokenAnswer = read(&released)?;
        drop(released);
        inject::check(&credential).map_err(|why| Error::unusable(status, why))?;
        let retry_info = credential.retry_info.take().and_then(RetryInfo::of);
        app.learn_retry_info(retry_info.as_ref());

        let plain_headers = prepared.call.headers.clone();
        let injected = inject::inject(&mut prepared.call, &credential, clock::now()).map_err(|why| match why {
            inject::Refused::Answer(why) => Error::unusable(status, why),
            inject::Refused::Url(why) => Error::Invalid(why.to_owned()),
        })?;
        let scrubber = Scrubber::new(inject::secrets(&credential));
        let mut report = prepared.report;
        report.grant_id.clone_from(&credential.grant_id);
        report.provider_id = Some(credential.provider_id.clone());
        report.token_generation = credential.token_generation.take();
        report.request_headers = Some(report::headers(&plain_headers, &injected, &scrubber));

        let stopwatch = Stopwatch::start();
        let outcome = call_provider(&app, prepared.call).await;
        let duration = stopwatch.elapsed();
        report::complete(&mut report, outcome.as_ref(), duration, &scrubber);
        let challenge = outcome.as_ref().ok().and_then(|answer| Bearer::of(&answer.headers));
        let lacks_scope = challenge.filter(Bearer::is_insufficient_scope);
        if let (Ok(answer), Some(challenge)) = (&outcome, &lacks_scope)
            && answer.status == 403
        {
            let mismatch = report::scope_mismatch(&report, answer, challenge, &scrubber)?;
            let path = format!("/sdk/grants/{}/report-scope-mismatch", credential.grant_id);
            app.reports.spawn(report::send_mismatch(Arc::clone(&app), path, mismatch, prepared.identity.clone()));
        }
        app.reports.spawn(report::send(Arc::clone(&app), report, prepared.identity));

        let mut answer = outcome?;
        if echo == Echo::Redacted {
            redact(&mut answer, &scrubber);
        }
        let Answer { status, headers, body } = answer;
        let response = Response { status: status.as_u16(), headers, body, event_id, duration, retry_info };
        match refusals {
            Refusals::Errors if status.as_u16() >= 400 => Err(refused(response, &credential, lacks_scope)),
            Refusals::Errors | Refusals::Responses => Ok(response),
        }
    }

    /// Checks everything that can be checked here, before anything is sent.
    fn prepare(self) -> Result<Prepared, Error> {
        let invalid = |why: String| Err(Error::Invalid(why));
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (grant_id, provider_id) = (filled(self.grant_id), filled(self.provider));
        match (&grant_id, &provider_id) {
            (None, None) => return invalid("name the grant the call needs: grant_id, or provider".to_owned()),
            (Some(_), Some(_)) => return invalid("name the grant by grant_id or by provider, not both".to_owned()),
            (Some(_), None) => {
                if self.account.is_some() || self.label.is_some() || self.app_user_id.is_some() {
                    return invalid(
                        "account, label and app_user_id go with provider: a grant_id needs none".to_owned(),
                    );
                }
            }
            (None, Some(_)) => {
                if [&self.account, &self.label, &self.app_user_id].iter().any(|f| f.as_deref() == Some("")) {
                    return invalid("account, label and app_user_id may not be empty: leave them out".to_owned());
                }
            }
        }
        let method = match Method::from_bytes(self.method.as_bytes()) {
            Ok(method) if method != Method::CONNECT => method,
            Ok(_) | Err(_) => return invalid("the method must be an HTTP method such as GET or POST".to_owned()),
        };
        let url = destination::parse_target(&self.url, &self.path_params)?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                return invalid(format!("`{}` is no header name", name.escape_debug()));
            };
            if REFUSED_HEADERS.contains(&header.as_str()) {
                return invalid(format!("the header `{header}` is set by the client itself"));
            }
            let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else {
                return invalid(format!("the value of header `{header}` holds a character no header can carry"));
            };
            headers.append(header, value);
        }
        let (body, reported_body) = match (self.json, self.body) {
            (Some(_), Some(_)) => return invalid("give a JSON body or a raw body, not both".to_owned()),
            (Some(Err(())), None) => return invalid("the JSON body cannot be written as JSON".to_owned()),
            (Some(Ok(body)), None) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                let reported = report::json_body(&body);
                (body, Some(reported))
            }
            (None, Some(body)) => {
                let reported = report::raw_body(&body);
                (body, Some(reported))
            }
            (None, None) => (Bytes::new(), None),
        };
        if let Some(caller) = &self.caller {
            signing::check_caller(caller)?;
        }
        let context_header = signing::context_header(&self.context)?;
        let identity = self.app.identity(self.caller, context_header);

        let target = Target { method: method.as_str().to_owned(), url: url.as_str().to_owned() };
        let context = (!self.context.is_empty()).then(|| self.context.into_iter().collect::<Value>());
        let report = report_of(&target, reported_body, self.reason.clone(), context);
        let ask = TokenRequest {
            grant_id,
            provider_id,
            reason: self.reason,
            request: target,
            user_token: None,
            app_user_id: self.app_user_id,
            account: self.account,
            label: self.label,
        };
        let mut call = Call { method, url, headers, body };
        for (name, value) in &self.query {
            call.add_query(name, value);
        }
        destination::check_length(&call.url)?;
        Ok(Prepared { call, ask, identity, report })
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("method", &self.method)
            .field("url", &self.url.split(['?', '#']).next())
            .field("grant_id", &self.grant_id)
            .finish_non_exhaustive()
    }
}

/// A checked call, with what the vault is asked and will be told.
struct Prepared {
    call: Call,
    ask: TokenRequest,
    identity: Identity,
    report: CallReport,
}

/// A report that knows nothing yet of the release and its outcome.
fn report_of(
    target: &Target,
    request_body: Option<Value>,
    reason: Option<String>,
    context: Option<Value>,
) -> CallReport {
    CallReport {
        grant_id: String::new(),
        provider_id: None,
        token_generation: None,
        method: target.method.clone(),
        url: target.url.clone(),
        request_headers: None,
        request_body,
        response_status: 0,
        response_headers: None,
        response_body: None,
        latency_ms: None,
        reason,
        context,
    }
}

async fn call_provider(app: &Inner, call: Call) -> Result<Answer, Error> {
    let client = client_for(app, &call.url);
    let peer = call.url.host_str().unwrap_or_default().to_owned();
    let request = client.request(call.method, call.url).headers(call.headers).body(call.body);
    outgoing::exchange(client, request, &peer, app.timeout, outgoing::PROVIDER_ANSWER_BYTES_MAX).await
}

fn client_for<'a>(app: &'a Inner, url: &Url) -> &'a reqwest::Client {
    if destination::is_plain_loopback(url) { &app.clients.provider_on_loopback } else { &app.clients.provider }
}

/// Codes that say how a secret is set up have no meaning for a release: no vault uses them there.
fn garbled(error: Error) -> Error {
    match error {
        Error::ConnectConfig(refusal) => Error::Backend(refusal),
        other => other,
    }
}

/// What the provider's refusal means.
fn refused(response: Response, credential: &TokenAnswer, lacks_scope: Option<Bearer>) -> Error {
    let (grant_id, provider_id) = (credential.grant_id.clone(), credential.provider_id.clone());
    let response = Box::new(response);
    let lacks = |missing_scopes, response| Error::ScopeReauthRequired {
        grant_id: Some(credential.grant_id.clone()),
        provider_id: Some(credential.provider_id.clone()),
        missing_scopes,
        refusal: None,
        response: Some(response),
    };
    match (response.status, lacks_scope) {
        (403, Some(challenge)) => lacks(challenge.missing_scopes(), response),
        (403, None) if credential.scope_mismatch => lacks(None, response),
        (401, None) => Error::ProviderUnauthorized { grant_id, provider_id, response },
        _ => Error::ProviderApi { response },
    }
}

fn redact(answer: &mut Answer, scrubber: &Scrubber) {
    answer.body = scrubber.bytes(&answer.body).into();
    for value in answer.headers.values_mut() {
        let redacted = scrubber.bytes(value.as_bytes());
        *value = HeaderValue::from_bytes(&redacted).expect("a header value stays one with a plain mark in it");
    }
}

fn event_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER_EVENT_ID)?.to_str().ok()?;
    EventId::parse(text).map(|id| id.to_string())
}
