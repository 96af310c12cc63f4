//! The client: a key, a vault, and what is remembered between calls.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use grantd_wire::ids::GrantId;
use grantd_wire::limits::PAGE_DEFAULT;
use grantd_wire::sdk::{GrantsListRequest, GrantsPage, RevokeAnswer, RevokeRequest};
use grantd_wire::sign::{HEADER_ACTOR_ID, HEADER_KEY, SigningKey};
use grantd_wire::{TimeMs, key};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::destination::BaseUrl;
use crate::error::{self, Error};
use crate::outgoing::{self, Answer, Clients};
use crate::request::RequestBuilder;
use crate::signing::{self, Identity, Outline};

/// Where a vault listens unless said otherwise.
pub const DEFAULT_BASE_URL: &str = "http://127.0.0.1:8400";
/// How long one exchange may take, with the vault or with a provider.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one vault with one key. Cheap to clone; clones share connections and what is remembered.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    api_key: String,
    key_header: HeaderValue,
    signing_key: SigningKey,
    base_url: BaseUrl,
    caller: Option<String>,
    /// The first id the vault gave this client's own caller.
    actor_id: OnceLock<String>,
    pub(crate) clients: Clients,
    pub(crate) timeout: Duration,
    pub(crate) reports: TaskTracker,
}

impl App {
    /// A client of the vault at [`DEFAULT_BASE_URL`].
    pub fn new(api_key: impl Into<String>) -> Result<Self, Error> {
        Self::builder(api_key).build()
    }

    /// A client with settings of its own.
    pub fn builder(api_key: impl Into<String>) -> AppBuilder {
        AppBuilder {
            api_key: api_key.into(),
            base_url: DEFAULT_BASE_URL.to_owned(),
            caller: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// A client with the key in `ALTER_API_KEY` of the vault at `ALTER_BASE_URL`, or else [`DEFAULT_BASE_URL`].
    #[expect(clippy::disallowed_methods, reason = "the one function of this crate whose purpose is the environment")]
    pub fn from_env() -> Result<Self, Error> {
        let api_key = std::env::var("ALTER_API_KEY")
            .map_err(|_| Error::Invalid("ALTER_API_KEY is not set: export the API key of your app".to_owned()))?;
        let builder = Self::builder(api_key);
        match std::env::var("ALTER_BASE_URL") {
            Ok(base_url) => builder.base_url(base_url).build(),
            Err(_) => builder.build(),
        }
    }

    /// Starts a call of `method` to a provider's `url`, which may hold `{name}` placeholders.
    pub fn request(&self, method: &str, url: &str) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url)
    }

    /// A page of the grants this key can see.
    pub async fn list_grants(&self, filter: &GrantFilter) -> Result<GrantsPage<Grant>, Error> {
        let body = GrantsListRequest {
            limit: filter.limit,
            offset: filter.offset,
            provider_id: filter.provider_id.clone(),
            status: filter.status.clone(),
            account: filter.account.clone(),
            label: filter.label.clone(),
            user_token: None,
        };
        let answer = self.0.post("/sdk/grants/list", json(&body), &self.0.identity(None, None)).await?;
        read(&answer)
    }

    /// Ends a grant for good.
    pub async fn revoke_grant(&self, grant_id: &str, reason: Option<&str>) -> Result<RevokeAnswer, Error> {
        let Some(grant_id) = GrantId::parse(grant_id) else {
            return Err(Error::Invalid("a grant id is a lower-case dashed UUID".to_owned()));
        };
        let path = format!("/sdk/oauth/grants/{grant_id}/revoke");
        let body = RevokeRequest { reason: reason.map(str::to_owned), user_token: None };
        let answer = self.0.post(&path, json(&body), &self.0.identity(None, None)).await?;
        read(&answer)
    }

    /// Waits for the audit reports under way. The client stays usable.
    pub async fn close(&self) {
        self.0.reports.close();
        self.0.reports.wait().await;
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("base_url", &self.0.base_url.as_str())
            .field("caller", &self.0.caller)
            .finish_non_exhaustive()
    }
}

/// Settings of an [`App`].
pub struct AppBuilder {
    api_key: String,
    base_url: String,
    caller: Option<String>,
    timeout: Duration,
}

impl AppBuilder {
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

    /// Who calls, for the audit log: a label such as `billing-worker`, or an agent's id.
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
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
        Ok(App(Arc::new(Inner {
            key_header,
            signing_key: SigningKey::derive(&self.api_key),
            clients: Clients::new(self.timeout, base_url.is_loopback())?,
            api_key: self.api_key,
            base_url,
            caller: self.caller,
            actor_id: OnceLock::new(),
            timeout: self.timeout,
            reports: TaskTracker::new(),
        })))
    }
}

impl fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppBuilder")
            .field("base_url", &self.base_url)
            .field("caller", &self.caller)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Which grants to list: all of them, the first page, unless set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantFilter {
    /// A provider's id, or a managed secret's slug.
    pub provider_id: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub status: Option<String>,
    pub account: Option<String>,
    pub label: Option<String>,
    /// Grants a page, 1 to 1000.
    pub limit: i64,
    pub offset: i64,
}

impl Default for GrantFilter {
    fn default() -> Self {
        Self { provider_id: None, status: None, account: None, label: None, limit: PAGE_DEFAULT, offset: 0 }
    }
}

/// A grant in a list: what every kind has, and the rest as it came.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Grant {
    /// `managed_secret` or `oauth`.
    pub grant_kind: String,
    pub grant_id: String,
    pub status: String,
    pub principal_type: String,
    pub created_at: TimeMs,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub account_identifier: Option<String>,
    /// When the grant itself lapses.
    #[serde(default)]
    pub grant_expires_at: Option<TimeMs>,
    #[serde(default)]
    pub last_used_at: Option<TimeMs>,
    /// The fields of its kind.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Inner {
    /// Who calls: the client's own caller with its id, or another for this call.
    pub fn identity(&self, caller: Option<String>, context: Option<String>) -> Identity {
        if caller.is_some() {
            return Identity { caller, actor_id: None, context, is_own: false };
        }
        Identity { caller: self.caller.clone(), actor_id: self.actor_id.get().cloned(), context, is_own: true }
    }

    /// Signs and posts `body`; an answer that is not 2xx is an error.
    pub async fn post(&self, path: &str, body: Bytes, identity: &Identity) -> Result<Answer, Error> {
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| Error::Invalid("this machine gives no random bytes, so nothing can be signed".to_owned()))?;
        let unix_s = clock::unix_s(clock::now());
        let outline = Outline { method: "POST", path, body: &body, unix_s, nonce, identity };
        let request = self
            .clients
            .vault
            .post(self.base_url.join(path))
            .headers(signing::headers(&self.signing_key, &outline))
            .header(HEADER_KEY, self.key_header.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.clone());
        let peer = format!("the vault at {}", self.base_url.as_str());
        let answer =
            outgoing::exchange(&self.clients.vault, request, &peer, self.timeout, outgoing::VAULT_ANSWER_BYTES_MAX)
                .await?;
        self.learn_actor_id(&answer, identity);
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(error::from_answer(answer.status, &answer.headers, &answer.body, &self.api_key))
    }

    /// Keeps the first id the vault gives this client's own caller, refusals included. Another caller's id would be
    /// echoed as this one's, so that is not kept.
    fn learn_actor_id(&self, answer: &Answer, identity: &Identity) {
        let Some(actor_id) = answer.headers.get(HEADER_ACTOR_ID).and_then(|v| v.to_str().ok()) else { return };
        if identity.is_own && signing::is_actor_id(actor_id) {
            self.actor_id.get_or_init(|| actor_id.to_owned());
        }
    }
}

/// Reads the body of a good answer. What does not fit is not quoted: it may hold a credential.
pub fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Error::unusable(answer.status.as_u16(), "it is not the JSON the contract promises"))
}

/// The bytes of a body that is always JSON.
pub fn json(body: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(body).expect("a struct of strings and JSON values is JSON").into()
}
