//! The same client for programs without an async runtime. It runs one of its own, on a thread of its own.
//!
//! ```no_run
//! # fn main() -> Result<(), grantd_sdk::Error> {
//! let app = grantd_sdk::blocking::App::from_env()?;
//! let called = app
//!     .request("GET", "https://api.example.com/v1/invoices")
//!     .grant_id("0199c0de-0000-7000-8000-00000000beef")
//!     .send();
//! app.close()?; // waits for the audit reports under way; before `?`, for a call that failed has one, too
//! let answer = called?;
//! println!("{} {}", answer.status, answer.text());
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: nothing here panics inside an async runtime, nor stops one: a call there is an error that says what to do.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, mpsc as answers};

use bytes::Bytes;
use grantd_wire::sdk::{
    CatalogueProvider, GrantsPage, Identity, RevokeAnswer, ScopeCatalogue, SecretGrantAnswer, SecretGrantRequest,
};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::app::AppBuilder;
use crate::connect::{ConnectRequest, ConnectSession, ConnectWait, Connected, KeyRequest, KeySession};
use crate::constraints::Constraints;
use crate::error::Error;
use crate::grants::{Grant, GrantFilter, MintRequest, MintedGrant};
use crate::identity::{AssertionRequest, IdentityAssertion, IdentityRequest};
use crate::rate::RateLimitState;
use crate::response::Response;
use crate::sign_in::{AuthResult, AuthSession, AuthWait};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A blocking client of one vault with one key. Cheap to clone; the last clone that goes ends its thread, once the audit reports
/// under way are sent. The end of the program does not wait for that: [`close`](Self::close) does.
#[derive(Clone)]
pub struct App {
    app: crate::App,
    thread: Arc<Thread>,
}

/// The thread that makes the calls.
struct Thread {
    jobs: mpsc::UnboundedSender<Job>,
}

impl App {
    /// A client of the vault at `ALTER_BASE_URL`, or else [`DEFAULT_BASE_URL`](crate::DEFAULT_BASE_URL).
    pub fn new(api_key: impl Into<String>) -> Result<Self, Error> {
        Self::start(crate::App::new(api_key)?)
    }

    /// A client with the key in `ALTER_API_KEY` of the vault at `ALTER_BASE_URL`.
    pub fn from_env() -> Result<Self, Error> {
        Self::start(crate::App::from_env()?)
    }

    fn start(app: crate::App) -> Result<Self, Error> {
        Ok(Self { thread: Arc::new(Thread::start(app.clone())?), app })
    }

    /// The same client for async code.
    pub fn as_async(&self) -> &crate::App {
        &self.app
    }

    /// The vault's address, without trailing slashes.
    pub fn base_url(&self) -> &str {
        self.app.base_url()
    }

    /// The rate of the key, as the last answer that told it had it.
    pub fn last_rate_limit(&self) -> Option<RateLimitState> {
        self.app.last_rate_limit()
    }

    /// Starts a call of `method` to a provider's `url`, which may hold `{name}` placeholders.
    pub fn request(&self, method: &str, url: &str) -> RequestBuilder {
        RequestBuilder { request: self.app.request(method, url), thread: Arc::clone(&self.thread) }
    }

    /// See [`App::with_constraints`](crate::App::with_constraints).
    pub fn with_constraints(&self, constraints: &Constraints) -> Result<Self, Error> {
        Ok(Self { app: self.app.with_constraints(constraints)?, thread: Arc::clone(&self.thread) })
    }

    /// See [`App::list_grants`](crate::App::list_grants).
    pub fn list_grants(&self, filter: &GrantFilter) -> Result<GrantsPage<Grant>, Error> {
        let (app, filter) = (self.app.clone(), filter.clone());
        self.thread.run(async move { app.list_grants(&filter).await })?
    }

    /// See [`App::revoke_grant`](crate::App::revoke_grant).
    pub fn revoke_grant(&self, grant_id: &str, reason: Option<&str>) -> Result<RevokeAnswer, Error> {
        let (app, grant_id, reason) = (self.app.clone(), grant_id.to_owned(), reason.map(str::to_owned));
        self.thread.run(async move { app.revoke_grant(&grant_id, reason.as_deref()).await })?
    }

    /// See [`App::create_managed_secret_grant`](crate::App::create_managed_secret_grant).
    pub fn create_managed_secret_grant(
        &self,
        secret: &str,
        grant: SecretGrantRequest,
    ) -> Result<SecretGrantAnswer, Error> {
        let (app, secret) = (self.app.clone(), secret.to_owned());
        self.thread.run(async move { app.create_managed_secret_grant(&secret, &grant).await })?
    }

    /// See [`App::mint_grant`](crate::App::mint_grant).
    pub fn mint_grant(&self, source_grant_id: &str, grant: MintRequest) -> Result<MintedGrant, Error> {
        let (app, source) = (self.app.clone(), source_grant_id.to_owned());
        self.thread.run(async move { app.mint_grant(&source, &grant).await })?
    }

    /// See [`App::create_connect_session`](crate::App::create_connect_session).
    pub fn create_connect_session(&self, request: ConnectRequest) -> Result<ConnectSession, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.create_connect_session(request).await })?
    }

    /// See [`App::create_managed_secret_connect_session`](crate::App::create_managed_secret_connect_session).
    pub fn create_managed_secret_connect_session(&self, request: KeyRequest) -> Result<KeySession, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.create_managed_secret_connect_session(request).await })?
    }

    /// See [`App::create_connect_session_for_error`](crate::App::create_connect_session_for_error).
    pub fn create_connect_session_for_error(
        &self,
        error: &Error,
        request: ConnectRequest,
    ) -> Result<ConnectSession, Error> {
        let (app, (request, repair)) = (self.app.clone(), request.mending(error)?);
        self.thread.run(async move { app.create_mending_session(request, repair).await })?
    }

    /// See [`App::poll_connect_session`](crate::App::poll_connect_session).
    pub fn poll_connect_session(&self, session_token: &str, wait: ConnectWait) -> Result<Connected, Error> {
        let (app, token) = (self.app.clone(), session_token.to_owned());
        self.thread.run(async move { app.poll_connect_session(&token, wait).await })?
    }

    /// See [`App::connect`](crate::App::connect).
    pub fn connect(&self, request: ConnectRequest, wait: ConnectWait) -> Result<Connected, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.connect(request, wait).await })?
    }

    /// See [`App::create_auth_session`](crate::App::create_auth_session).
    pub fn create_auth_session(&self) -> Result<AuthSession, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.create_auth_session().await })?
    }

    /// See [`App::poll_auth_session`](crate::App::poll_auth_session).
    pub fn poll_auth_session(&self, session_token: &str, wait: AuthWait) -> Result<AuthResult, Error> {
        let (app, token) = (self.app.clone(), session_token.to_owned());
        self.thread.run(async move { app.poll_auth_session(&token, wait).await })?
    }

    /// See [`App::authenticate`](crate::App::authenticate).
    pub fn authenticate(&self, wait: AuthWait) -> Result<AuthResult, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.authenticate(wait).await })?
    }

    /// See [`App::verify_user_token`](crate::App::verify_user_token). An error is that the call cannot be made here.
    pub fn verify_user_token(&self, token: &str) -> Result<Option<String>, Error> {
        let (app, token) = (self.app.clone(), token.to_owned());
        self.thread.run(async move { app.verify_user_token(&token).await })
    }

    /// See [`App::resolve_identity`](crate::App::resolve_identity).
    pub fn resolve_identity(&self, request: IdentityRequest) -> Result<Identity, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.resolve_identity(request).await })?
    }

    /// See [`App::assert_identity`](crate::App::assert_identity).
    pub fn assert_identity(&self, request: AssertionRequest) -> Result<IdentityAssertion, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.assert_identity(request).await })?
    }

    /// See [`App::list_oauth_providers`](crate::App::list_oauth_providers).
    pub fn list_oauth_providers(&self) -> Result<Vec<CatalogueProvider>, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.list_oauth_providers().await })?
    }

    /// See [`App::list_scopes`](crate::App::list_scopes).
    pub fn list_scopes(&self) -> Result<ScopeCatalogue, Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.list_scopes().await })?
    }

    /// Waits for the audit reports under way. The client stays usable.
    pub fn close(&self) -> Result<(), Error> {
        let app = self.app.clone();
        self.thread.run(async move { app.close().await })
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("blocking::App").field(&self.app).finish()
    }
}

impl AppBuilder {
    /// Checks the settings and starts the thread of a blocking client. Nothing is sent.
    pub fn build_blocking(self) -> Result<App, Error> {
        App::start(self.build()?)
    }
}

impl Thread {
    fn start(app: crate::App) -> Result<Self, Error> {
        let unstarted = |e: std::io::Error| Error::Invalid(format!("the thread of the client cannot be started: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unstarted)?;
        let (jobs, mut waiting) = mpsc::unbounded_channel::<Job>();
        let work = move || {
            runtime.block_on(async {
                while let Some(job) = waiting.recv().await {
                    tokio::spawn(job);
                }
                // Nobody is left to call, and whoever called has the answer.
                app.close().await;
            });
        };
        std::thread::Builder::new().name("grantd-sdk".to_owned()).spawn(work).map_err(unstarted)?;
        Ok(Self { jobs })
    }

    /// Has the thread run it, and waits.
    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        if tokio::runtime::Handle::try_current().is_ok() {
            let why = "a blocking call inside an async runtime would stop it: use grantd_sdk::App there, or \
                       blocking::App::as_async, or call from a thread of std::thread";
            return Err(Error::Invalid(why.to_owned()));
        }
        let ended = || Error::Invalid("the client's own thread has ended: make a new client".to_owned());
        let (answer, waiting) = answers::channel();
        let job = async move {
            // Whoever asked waits below.
            let _ = answer.send(future.await);
        };
        self.jobs.send(Box::pin(job)).map_err(|_| ended())?;
        waiting.recv().map_err(|_| ended())
    }
}

/// A call that is being described. [`send`](Self::send) makes it.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    request: crate::RequestBuilder,
    thread: Arc<Thread>,
}

impl RequestBuilder {
    fn map(mut self, change: impl FnOnce(crate::RequestBuilder) -> crate::RequestBuilder) -> Self {
        self.request = change(self.request);
        self
    }

    /// The grant whose credential the call needs. Either this, or [`provider`](Self::provider).
    pub fn grant_id(self, grant_id: impl Into<String>) -> Self {
        self.map(|request| request.grant_id(grant_id))
    }

    /// The provider, or the managed secret's slug, of which the user has one grant.
    pub fn provider(self, provider: impl Into<String>) -> Self {
        self.map(|request| request.provider(provider))
    }

    /// With a provider: which account of the user's.
    pub fn account(self, account: impl Into<String>) -> Self {
        self.map(|request| request.account(account))
    }

    /// With a provider: which grant, by its label.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.map(|request| request.label(label))
    }

    /// With a provider: which of the users who trust this agent.
    pub fn app_user_id(self, app_user_id: impl Into<String>) -> Self {
        self.map(|request| request.app_user_id(app_user_id))
    }

    /// The token of the user on whose behalf the call is made, in place of the app's getter.
    pub fn user_token(self, user_token: impl Into<String>) -> Self {
        self.map(|request| request.user_token(user_token))
    }

    /// Sends `value` as JSON.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        self.map(|request| request.json(value))
    }

    /// Sends these bytes. Say what they are with a `content-type` header.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.map(|request| request.body(body))
    }

    /// Adds a header.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|request| request.header(name, value))
    }

    /// Adds headers.
    pub fn headers<N: Into<String>, V: Into<String>>(self, headers: impl IntoIterator<Item = (N, V)>) -> Self {
        self.map(|request| request.headers(headers))
    }

    /// Adds a query parameter. The vault sees and judges the URL without these.
    pub fn query(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|request| request.query(name, value))
    }

    /// Fills `{name}` in the URL with `value`, percent-encoded, slashes too.
    pub fn path_param(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|request| request.path_param(name, value))
    }

    /// Fills several placeholders.
    pub fn path_params<N: Into<String>, V: Into<String>>(self, params: impl IntoIterator<Item = (N, V)>) -> Self {
        self.map(|request| request.path_params(params))
    }

    /// Why the call is made, for the audit log.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.map(|request| request.reason(reason))
    }

    /// Adds a key to the call's context, such as `run_id`.
    pub fn context(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.map(|request| request.context(key, value))
    }

    /// Who calls, this once, in place of the client's own caller.
    pub fn caller(self, caller: impl Into<String>) -> Self {
        self.map(|request| request.caller(caller))
    }

    /// Writes `[redacted]` where the provider's answer repeats the credential.
    pub fn redact_echo(self) -> Self {
        self.map(crate::RequestBuilder::redact_echo)
    }

    /// Answers whatever status the provider answered; without this, 400 and more are errors.
    pub fn any_status(self) -> Self {
        self.map(crate::RequestBuilder::any_status)
    }

    /// See [`RequestBuilder::send`](crate::RequestBuilder::send).
    pub fn send(self) -> Result<Response, Error> {
        self.thread.run(self.request.send())?
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}
