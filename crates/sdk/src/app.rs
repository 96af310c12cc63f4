//! The client: a key, a vault, and what is remembered between calls.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use grantd_wire::key;
use grantd_wire::sign::{HEADER_ACTOR_ID, HEADER_KEY, SigningKey};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::constraints::{ConstraintHeaders, Constraints};
use crate::destination::BaseUrl;
use crate::error::{self, Error, Source};
use crate::outgoing::{self, Answer, Clients};
use crate::rate::RateLimitState;
use crate::request::RequestBuilder;
use crate::response::RetryInfo;
use crate::retry::{self, Repeat, Retries};
use crate::signing::{self, CallerType, Identity, Outline};

/// Where a vault listens unless said otherwise.
pub const DEFAULT_BASE_URL: &str = "http://127.0.0.1:8400";
/// How long one exchange may take, with the vault or with a provider.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The vault says so when the key is to be replaced soon.
const HEADER_KEY_DEPRECATED: &str = "x-alter-key-deprecated";

type TokenFuture = Pin<Box<dyn Future<Output = Result<String, Source>> + Send>>;
type TokenGetter = Arc<dyn Fn() -> TokenFuture + Send + Sync>;

/// A client of one vault with one key. Cheap to clone; clones share connections and what is remembered.
#[derive(Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
    constraints: Arc<ConstraintHeaders>,
}

pub(crate) struct Inner {
    api_key: String,
    key_header: HeaderValue,
    signing_key: SigningKey,
    base_url: BaseUrl,
    caller: Option<String>,
    caller_type: CallerType,
    /// Given with the settings, or what `authenticate` left.
    user_token: Mutex<Option<TokenGetter>>,
    retries: Retries,
    /// The first id the vault gave this client's own caller.
    actor_id: OnceLock<String>,
    key_deprecated: AtomicBool,
    last: Mutex<Last>,
    pub(crate) clients: Clients,
    pub(crate) timeout: Duration,
    pub(crate) reports: TaskTracker,
}

/// What the last answers told.
#[derive(Default)]
struct Last {
    rate_limit: Option<RateLimitState>,
    retry_info: Option<RetryInfo>,
}

impl App {
    /// A client of the vault at `ALTER_BASE_URL`, or else [`DEFAULT_BASE_URL`].
    pub fn new(api_key: impl Into<String>) -> Result<Self, Error> {
        AppBuilder::at_env(api_key.into()).build()
    }

    /// A client with the key in `ALTER_API_KEY` of the vault at `ALTER_BASE_URL`, or else [`DEFAULT_BASE_URL`].
    pub fn from_env() -> Result<Self, Error> {
        AppBuilder::from_env()?.build()
    }

    /// A client with settings of its own. The environment is not looked at: without [`AppBuilder::base_url`] the vault is at
    /// [`DEFAULT_BASE_URL`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// let app = grantd_sdk::App::builder("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl")
    ///     .base_url("https://vault.example.com")
    ///     .caller("billing-worker")
    ///     .timeout(Duration::from_secs(10))
    ///     .build()?;
    /// assert_eq!(app.base_url(), "https://vault.example.com");
    /// # Ok::<(), grantd_sdk::Error>(())
    /// ```
    pub fn builder(api_key: impl Into<String>) -> AppBuilder {
        AppBuilder {
            api_key: api_key.into(),
            base_url: DEFAULT_BASE_URL.to_owned(),
            caller: None,
            caller_type: CallerType::Service,
            user_token: None,
            timeout: DEFAULT_TIMEOUT,
            retries: Retries::default(),
        }
    }

    /// The vault's address, without trailing slashes.
    pub fn base_url(&self) -> &str {
        self.inner.base_url.as_str()
    }

    /// The id the vault gave this client's caller, once it gave one.
    pub fn actor_id(&self) -> Option<&str> {
        self.inner.actor_id.get().map(String::as_str)
    }

    /// The rate of the key, as the last answer that told it had it.
    pub fn last_rate_limit(&self) -> Option<RateLimitState> {
        self.inner.last.lock().unwrap_or_else(PoisonError::into_inner).rate_limit
    }

    /// How the credential of the last release was renewed, if the vault told.
    pub fn last_retry_info(&self) -> Option<RetryInfo> {
        self.inner.last.lock().unwrap_or_else(PoisonError::into_inner).retry_info.clone()
    }

    /// Whether an answer said that the key is to be replaced soon.
    pub fn is_key_deprecated(&self) -> bool {
        self.inner.key_deprecated.load(Ordering::Relaxed)
    }

    /// Starts a call of `method` to a provider's `url`, which may hold `{name}` placeholders.
    pub fn request(&self, method: &str, url: &str) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url)
    }

    /// This client with less power, on every call it makes: see [`Constraints`]. It shares connections, actor id and reports
    /// with this one. A narrowed client cannot be narrowed again: name everything at once.
    pub fn with_constraints(&self, constraints: &Constraints) -> Result<Self, Error> {
        if !self.constraints.is_empty() {
            let why = "this client has constraints already: narrow the one it was made from, with all of them";
            return Err(Error::Invalid(why.to_owned()));
        }
        Ok(Self { inner: Arc::clone(&self.inner), constraints: Arc::new(constraints.headers()?) })
    }

    /// Waits for the audit reports under way. The client stays usable.
    pub async fn close(&self) {
        self.inner.reports.close();
        self.inner.reports.wait().await;
    }

    /// Who calls: the client's own caller with its id, or another for this call.
    pub(crate) fn identity(&self, caller: Option<String>, context: Option<String>) -> Identity {
        let inner = &self.inner;
        let is_own = caller.is_none();
        Identity {
            caller: caller.or_else(|| inner.caller.clone()),
            caller_type: inner.caller_type,
            actor_id: if is_own { inner.actor_id.get().cloned() } else { None },
            context,
            constraints: Arc::clone(&self.constraints),
            is_own,
        }
    }

    /// The token given, or else that of the app's getter.
    pub(crate) async fn user_token(&self, given: Option<String>) -> Result<Option<String>, Error> {
        if given.is_some() {
            return Ok(given);
        }
        let getter = self.inner.user_token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(getter) = getter else { return Ok(None) };
        match getter().await {
            Ok(token) if !token.is_empty() => Ok(Some(token)),
            Ok(_) => Err(Error::UserToken { source: "it answered an empty text".into() }),
            Err(source) => Err(Error::UserToken { source }),
        }
    }

    /// From now on the getter gives this.
    pub(crate) fn set_user_token(&self, token: String) {
        let getter: TokenGetter = Arc::new(move || {
            let token = token.clone();
            Box::pin(async move { Ok(token) })
        });
        *self.inner.user_token.lock().unwrap_or_else(PoisonError::into_inner) = Some(getter);
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("base_url", &self.base_url())
            .field("caller", &self.inner.caller)
            .field("scope_constraints", &self.constraints.scopes)
            .finish_non_exhaustive()
    }
}

/// Settings of an [`App`].
#[must_use = "settings do nothing until an app is built"]
pub struct AppBuilder {
    api_key: String,
    base_url: String,
    caller: Option<String>,
    caller_type: CallerType,
    user_token: Option<TokenGetter>,
    timeout: Duration,
    retries: Retries,
}

impl AppBuilder {
    /// Settings with the key in `ALTER_API_KEY` and the vault at `ALTER_BASE_URL`, or else [`DEFAULT_BASE_URL`].
    pub fn from_env() -> Result<Self, Error> {
        let api_key = variable("ALTER_API_KEY")
            .ok_or_else(|| Error::Invalid("ALTER_API_KEY is not set: export the API key of your app".to_owned()))?;
        Ok(Self::at_env(api_key))
    }

    fn at_env(api_key: String) -> Self {
        let builder = App::builder(api_key);
        match variable("ALTER_BASE_URL") {
            Some(base_url) => builder.base_url(base_url),
            None => builder,
        }
    }

    /// The vault's address: https, or http on `localhost`, `127.0.0.1` or `[::1]`; a path prefix is fine.
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// How long one exchange may take, with the vault or with a provider: [`DEFAULT_TIMEOUT`] unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often calls to the vault are made again: see [`Retries`].
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Who calls, for the audit log: a label such as `billing-worker`, or an agent's id.
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// What kind of caller that is: a service unless set.
    pub fn caller_type(mut self, caller_type: CallerType) -> Self {
        self.caller_type = caller_type;
        self
    }

    /// Where the token of the user comes from on whose behalf calls are made. It is asked once a call, and its token goes with
    /// each release, list and revoke. If it fails, nothing is sent.
    ///
    /// ```
    /// # use grantd_sdk::App;
    /// let app = App::builder("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl")
    ///     .user_token_getter(|| async { Ok("the token of the session at hand".to_owned()) })
    ///     .build()?;
    /// # Ok::<(), grantd_sdk::Error>(())
    /// ```
    pub fn user_token_getter<F, T>(mut self, getter: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<String, Source>> + Send + 'static,
    {
        self.user_token = Some(Arc::new(move || Box::pin(getter())));
        self
    }

    /// Checks the settings. Nothing is sent.
    pub fn build(self) -> Result<App, Error> {
        key::check(&self.api_key).map_err(|_| Error::MalformedKey)?;
        let base_url = BaseUrl::parse(&self.base_url)?;
        if let Some(caller) = &self.caller {
            signing::check_caller(caller)?;
        }
        let mut key_header = HeaderValue::from_str(&self.api_key).map_err(|_| Error::MalformedKey)?;
        key_header.set_sensitive(true);
        let inner = Arc::new(Inner {
            key_header,
            signing_key: SigningKey::derive(&self.api_key),
            clients: Clients::new(self.timeout, base_url.is_loopback())?,
            api_key: self.api_key,
            base_url,
            caller: self.caller,
            caller_type: self.caller_type,
            user_token: Mutex::new(self.user_token),
            retries: self.retries,
            actor_id: OnceLock::new(),
            key_deprecated: AtomicBool::new(false),
            last: Mutex::default(),
            timeout: self.timeout,
            reports: TaskTracker::new(),
        });
        Ok(App { inner, constraints: Arc::default() })
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder")
            .field("base_url", &self.base_url)
            .field("caller", &self.caller)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "the client's documented variables, read where an app is made from them")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A request to the vault.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    /// Empty for none.
    pub body: Bytes,
    pub repeat: Repeat,
}

impl<'a> Ask<'a> {
    /// A POST of `body` as JSON.
    pub fn post(path: &'a str, body: &impl serde::Serialize, repeat: Repeat) -> Self {
        let body = serde_json::to_vec(body).expect("a struct of strings and JSON values is JSON").into();
        Self { method: Method::POST, path, body, repeat }
    }
}

impl Inner {
    /// Signs and sends; an answer that is not 2xx is an error. Tries again where that is safe, signed anew.
    pub async fn ask(&self, ask: &Ask<'_>, identity: &Identity) -> Result<Answer, Error> {
        let (mut retries, mut waited) = (0, Duration::ZERO);
        loop {
            let error = match self.attempt(ask, identity, self.timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let [random] = random()?;
            let Some(pause) = retry::decide(self.retries, ask.repeat, retries, waited, &error, random) else {
                return Err(error);
            };
            tracing::debug!(pause_ms = pause.as_millis(), "Trying {} again: {error}", ask.path);
            tokio::time::sleep(pause).await;
            retries += 1;
            waited += pause;
        }
    }

    /// Signs and sends once. `timeout` is that of this exchange.
    pub async fn attempt(&self, ask: &Ask<'_>, identity: &Identity, timeout: Duration) -> Result<Answer, Error> {
        let unix_s = clock::unix_s(clock::now());
        let outline = Outline {
            method: ask.method.as_str(),
            path: ask.path,
            body: &ask.body,
            unix_s,
            nonce: random()?,
            identity,
        };
        let mut request = self
            .clients
            .vault
            .request(ask.method.clone(), self.base_url.join(ask.path))
            .timeout(timeout)
            .headers(signing::headers(&self.signing_key, &outline))
            .header(HEADER_KEY, self.key_header.clone());
        if !ask.body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(ask.body.clone());
        }
        let peer = format!("the vault at {}", self.base_url.as_str());
        let answer =
            outgoing::exchange(&self.clients.vault, request, &peer, timeout, outgoing::VAULT_ANSWER_BYTES_MAX).await?;
        self.learn(&answer, identity);
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(error::from_answer(answer.status, &answer.headers, &answer.body, &self.api_key))
    }

    /// Keeps the first id the vault gives this client's own caller, refusals included (another caller's id would be echoed as
    /// this one's, so that is not kept), what it says of the rate, and that the key is to be replaced.
    fn learn(&self, answer: &Answer, identity: &Identity) {
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(actor_id) = text(HEADER_ACTOR_ID).filter(|id| identity.is_own && signing::is_actor_id(id)) {
            self.actor_id.get_or_init(|| actor_id.to_owned());
        }
        if let Some(state) = RateLimitState::of(&answer.headers, clock::now()) {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).rate_limit = Some(state);
        }
        let deprecated = text(HEADER_KEY_DEPRECATED) == Some("true");
        if deprecated && !self.key_deprecated.swap(true, Ordering::Relaxed) {
            tracing::warn!("The API key is deprecated: mint a new one and put it in the place of this one");
        }
    }

    pub fn learn_retry_info(&self, info: Option<&RetryInfo>) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retry_info = info.cloned();
    }
}

/// Random bytes of the machine.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::Invalid("this machine gives no random bytes, so nothing can be signed".to_owned()))?;
    Ok(bytes)
}

/// Reads the body of a good answer. What does not fit is not quoted: it may hold a credential.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Error::unusable(answer.status.as_u16(), "it is not the JSON the contract promises"))
}
