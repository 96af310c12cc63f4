//! A refresh storm: so many callers at once for one account whose token has ended, and the token endpoint that they all wait for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use grantd_domain::account::{Account, AppProvider, Facts, Renewal, TokenPair};
use grantd_domain::destination::Rule;
use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::grant::{Credential, CredentialOf, CredentialState, Grant};
use grantd_domain::provider::{Expiry, of_custom};
use grantd_domain::seal::DataKey;
use grantd_domain::secret::Secret;
use grantd_store::{Store, Tx, credentials, data_keys, grants, providers};
use grantd_wire::api::CustomProvider;
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, DataKeyId};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::fill;
use crate::grantd::Install;
use crate::host::{Host, instant};
use crate::plan::Plan;
use crate::{Error, Result};

/// How long the token endpoint takes: longer than all callers need to come in.
pub const ENDPOINT_TIME: Duration = Duration::from_millis(500);
/// How long the lives of its tokens are, in seconds.
const LIFE_S: u32 = 3_600;

/// A token endpoint on loopback.
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    answers: Arc<Mutex<Vec<Instant>>>,
}

impl Endpoint {
    /// Starts one, on the runtime of whoever calls.
    pub async fn start() -> Result<Self> {
        let failed = |e| Error::because("cannot start a token endpoint", e);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let (address, answers) = (listener.local_addr().map_err(failed)?, Arc::default());
        let routes = Router::new().route("/token", post(exchanged)).with_state(Arc::clone(&answers));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("warning: the token endpoint ended: {error}");
            }
        });
        Ok(Self { address, answers })
    }

    /// When it answered since this was asked last.
    pub fn answers(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn exchanged(State(answers): State<Arc<Mutex<Vec<Instant>>>>) -> ([(&'static str, &'static str); 1], String) {
    tokio::time::sleep(ENDPOINT_TIME).await;
    let answer = format!(
        r#"{{"access_token":"{}","refresh_token":"{}","token_type":"Bearer","expires_in":{LIFE_S}}}"#,
        "n".repeat(fill::TOKEN_CHARS),
        new_uuid(&Host)
    );
    answers.lock().unwrap_or_else(PoisonError::into_inner).push(instant());
    ([("content-type", "application/json")], answer)
}

/// What accounts are made with in an install.
pub struct Accounts {
    app: AppId,
    provider: AppProviderId,
    data_key: DataKey,
    store: Store,
}

impl Accounts {
    /// Registers the app with the endpoint's provider.
    pub async fn open(install: &Install, app: AppId, endpoint: SocketAddr) -> Result<Self> {
        let registered = provider_of(app, endpoint)?;
        let store = fill::open(install).await?;
        let id = DataKeyId::from_uuid(new_uuid(&Host));
        let (data_key, wrapped) = fill::root_keys(install)?.new_data_key(&Host, id, Some(app));
        let (provider, now) = (registered.id, Host.now());
        let write = move |tx: &mut Tx<'_>| {
            data_keys::insert(tx, &wrapped, now)?;
            providers::insert(tx, &registered)
        };
        store.write(write).await.map_err(|e| Error::because("cannot register the lab's provider", e))?;
        Ok(Self { app, provider, data_key, store })
    }

    /// An account whose token has ended, and the grant on it. Nobody knows of it yet.
    pub fn next(&self) -> (Credential, Grant) {
        let id = CredentialId::from_uuid(new_uuid(&Host));
        let [access, refresh] = ["t".repeat(fill::TOKEN_CHARS), "r".repeat(64)].map(Secret::new);
        let sealed =
            fill::sealed(&self.data_key, self.app, id, TokenPair::new(&access, Some(&refresh)).text().reveal());
        let account = Account {
            provider: self.provider,
            identifier: id.to_string(),
            name: None,
            scopes: Vec::new(),
            pinned_host: None,
            expiry: Expiry::At(Host.now()),
            is_refreshable: true,
            rejected_at: None,
            scope_mismatch_at: None,
            renewal: Renewal::default(),
        };
        let state = CredentialState::Ok { data_key_id: self.data_key.id(), sealed };
        fill::pair(self.app, id, CredentialOf::Account(Box::new(account)), state)
    }

    /// Writes it beside the servers that run: a job of theirs renews ended tokens, too, and it shall not come first.
    pub async fn write(&self, (credential, grant): (Credential, Grant)) -> Result {
        let write = move |tx: &mut Tx<'_>| {
            credentials::insert(tx, &credential)?;
            grants::insert(tx, &grant)
        };
        self.store.write(write).await.map_err(|e| Error::because("cannot write an account", e))
    }

    /// Lets go of the database.
    pub async fn close(self) {
        self.store.close().await;
    }
}

fn provider_of(app: AppId, endpoint: SocketAddr) -> Result<AppProvider> {
    let said = CustomProvider {
        authorize_url: Some(format!("http://{endpoint}/authorize")),
        token_url: Some(format!("http://{endpoint}/token")),
        userinfo_url: Some(format!("http://{endpoint}/userinfo")),
        client_auth: Some("post".to_owned()),
        ..CustomProvider::default()
    };
    let facts = of_custom("lab", "Lab", &said, |_| true).map_err(|e| Error::because("the lab's provider", e))?;
    let now = Host.now();
    Ok(AppProvider {
        id: AppProviderId::from_uuid(new_uuid(&Host)),
        app_id: app,
        provider_id: "lab".to_owned(),
        name: "Lab".to_owned(),
        facts: Facts::Custom { facts: Arc::new(facts), said: Arc::new(said) },
        environment: None,
        fields: BTreeMap::new(),
        client_id: "lab".to_owned(),
        client_secret: None,
        scopes: Vec::new(),
        hosts: vec![Rule::parse("api.example.com").expect("a host is a rule")],
        problem: None,
        created_at: now,
        updated_at: now,
        is_deleted: false,
        version: 1,
    })
}

/// When the callers of one storm began, and when the last of them had its answer.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// The first request was sent.
    pub began: Instant,
    /// The last answer was whole.
    pub ended: Instant,
}

/// Callers that are connected, and wait for a word.
pub struct Crowd {
    together: Arc<Barrier>,
    calls: JoinSet<Result<Called>>,
}

impl Crowd {
    /// Connects so many, shared out over the servers; each has one request ready.
    pub async fn gather(servers: &[SocketAddr], plan: &Plan, callers: usize) -> Result<Self> {
        let (together, mut calls) = (Arc::new(Barrier::new(callers + 1)), JoinSet::new());
        for (index, server) in servers.iter().copied().cycle().take(callers).enumerate() {
            let mut connection = Connection::open(server).await?;
            let (mut asker, together) = (plan.asker(index, callers), Arc::clone(&together));
            let mut request = Vec::new();
            asker.write(&mut request);
            calls.spawn(async move {
                together.wait().await;
                let began = instant();
                let answer = connection.exchange(&request).await?;
                let ended = instant();
                asker.check(&answer)?;
                Ok(Called { began, ended })
            });
        }
        Ok(Self { together, calls })
    }

    /// All of them call at once. Every answer is looked at.
    pub async fn call(mut self) -> Result<Called> {
        self.together.wait().await;
        let mut whole: Option<Called> = None;
        while let Some(called) = self.calls.join_next().await {
            let called = called.map_err(|e| Error::because("a caller ended", e))??;
            let so_far = whole.unwrap_or(called);
            whole = Some(Called { began: so_far.began.min(called.began), ended: so_far.ended.max(called.ended) });
        }
        whole.ok_or_else(|| Error("a storm without callers".to_owned()))
    }
}
