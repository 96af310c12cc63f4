//! A server in process: the whole router on a real store, with time and randomness of the test's own.
//!
//! When a test is over, [`run`] asserts what must hold after every one: the trail of each app exports and verifies; the canary,
//! which every key, token, data key and stored value holds, was in no log line, no event, no answer but the two that hand a
//! secret out, and no `Debug` output.

pub mod browser;
pub mod database;
pub mod env;
pub mod idp;
pub mod issuer;
pub mod lab;
pub mod request;
pub mod watch;
pub mod world;

use std::future::Future;
use std::io::BufReader;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use grantd_domain::audit::{Report, Trust, verify};
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::{Clock as _, new_token, new_uuid};
use grantd_domain::seal::{RootKey, RootKeys};
use grantd_server::outbound::Outbound;
use grantd_server::{Settings, Vault, entry, install};
use grantd_store::Store;
use grantd_store::operators::{self, Pat, Role};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, OperatorId, PatId};
use grantd_wire::sign::sha256;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

pub use database::{Database, Engine};
pub use env::TestEnv;
pub use request::{Answer, Raw, Sign};
pub use world::World;

/// A running server. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub vault: Arc<Vault>,
    pub env: Arc<TestEnv>,
    pub database: Arc<Database>,
    pub operator: OperatorId,
    /// An admin's token for every app, without an end.
    pub pat: String,
    router: Router,
}

impl Server {
    /// A new install on a new database.
    pub async fn create(database: Database) -> Self {
        watch::start();
        let env = Arc::new(TestEnv::default());
        let created = install::create(&database.store, &root(), &*env, install::new_first_token(&*env)).await.unwrap();
        let store = database.store.clone();
        let vault = open(store, &env, settings()).await;
        let router = entry::router(Arc::clone(&vault));
        let (database, operator) = (Arc::new(database), created.operator_id);
        let server = Self { vault, env, database, operator, pat: String::new(), router };
        let pat = server.new_pat(Role::Admin, None, None).await;
        Self { pat, ..server }
    }

    /// Another process on the same database, with nothing in memory yet.
    pub async fn another(&self, process: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let vault = open(self.database.open_again(process).await, &self.env, settings).await;
        let router = entry::router(Arc::clone(&vault));
        Self { vault, router, ..self.clone() }
    }

    /// Another process with other ways out.
    pub async fn another_through(&self, process: &str, outbound: Outbound, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        let (store, env) = (self.database.open_again(process).await, Arc::<TestEnv>::clone(&self.env));
        let vault = Vault::open_with(store, root(), env, settings, outbound).await.unwrap();
        let router = entry::router(Arc::clone(&vault));
        Self { vault, router, ..self.clone() }
    }

    /// The server of a copy of the database, once it was restored; its operator signs in with `pat`.
    pub async fn restored(&self, database: Database, pat: &str) -> Self {
        let vault = open(database.store.clone(), &self.env, settings()).await;
        let router = entry::router(Arc::clone(&vault));
        Self { vault, router, database: Arc::new(database), pat: pat.to_owned(), ..self.clone() }
    }

    /// Another process on the same database, which was given these root keys.
    pub async fn with_root_keys(&self, process: &str, root: RootKeys) -> Result<Self, install::InstallError> {
        self.another_with_root_keys(process, root, |_| {}).await
    }

    /// The same, set otherwise.
    pub async fn another_with_root_keys(
        &self,
        process: &str,
        root: RootKeys,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self, install::InstallError> {
        let mut settings = settings();
        change(&mut settings);
        let store = self.database.open_again(process).await;
        let vault = Vault::open(store, root, Arc::<TestEnv>::clone(&self.env), settings).await?;
        let router = entry::router(Arc::clone(&vault));
        Ok(Self { vault, router, ..self.clone() })
    }

    pub fn now(&self) -> TimeMs {
        self.env.now()
    }

    pub fn advance_ms(&self, ms: i64) {
        self.env.advance_ms(ms);
    }

    pub fn store(&self) -> &Store {
        &self.vault.store
    }

    /// Mints a token behind the API, which has no route for it yet.
    pub async fn new_pat(&self, role: Role, apps: Option<Vec<AppId>>, expires_at: Option<TimeMs>) -> String {
        let token = new_token(&*self.env, "grantd_pat_");
        let hash = sha256(token.reveal().as_bytes());
        let pat = Pat {
            id: PatId::from_uuid(new_uuid(&*self.env)),
            operator_id: self.operator,
            name: "test".to_owned(),
            role,
            app_ids: apps,
            expires_at,
            revoked_at: None,
        };
        let at = self.now();
        self.store().write(move |tx| operators::insert_pat(tx, &pat, &hash, at)).await.unwrap();
        token.reveal().to_owned()
    }

    /// Signs with the key, at the server's time.
    pub fn sign<'a>(&self, key: &'a str) -> Sign<'a> {
        Sign::new(key, self.now().0.div_euclid(1000))
    }

    /// Sends a request and looks the answer over.
    pub async fn send(&self, raw: Raw) -> Answer {
        let what = format!("{} {}", raw.method, raw.target);
        self.send_request(&what, raw.into_request()).await
    }

    pub async fn send_request(&self, what: &str, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let status = parts.status.as_u16();
        let mints = path.ends_with("/keys")
            || (path.contains("/keys/") && path.ends_with("/rotate"))
            || path.ends_with("/scim")
            || path.ends_with("/scim/rotate")
            || path.ends_with("/webhook")
            || path.ends_with("/webhook/rotate");
        let hands_out = (path.ends_with("/sdk/token") && status == 200)
            || (path == "/api/v1/tokens" && method == "POST" && status == 201)
            || (path.starts_with("/api/v1/") && mints && method == "POST" && status == 201)
            // A session's token, a browser's cookie, and the state that goes along to the provider.
            || (path.starts_with("/sdk/") && path.ends_with("/connect/session") && status == 201)
            || (path.starts_with("/sdk/auth/") && status < 300)
            || (path.starts_with("/sign-in/") && method == "POST")
            // The page that shows a new key.
            || (path.starts_with("/portal/apps/") && path.ends_with("/keys/new") && method == "POST")
            // A connect link, and the token of a directory or a webhook.
            || (path.starts_with("/portal/apps/")
                && ["/connect", "/reconnect", "/scim", "/webhook"].iter().any(|end| path.ends_with(end))
                && method == "POST")
            || (path.starts_with("/portal/members/") && (path.ends_with("/new") || path.ends_with("/link")) && method == "POST")
            || (path == "/portal/tokens/new" && method == "POST")
            || (path.starts_with("/api/v1/operators/") && path.ends_with("/login-link"))
            // A link that is opened is sent back by the form of its page.
            || path.starts_with("/portal/sign-in")
            || (path.starts_with("/api/v1/") && path.ends_with("/connect-sessions") && status == 201)
            // Not one to a form that brings a user's own key.
            || (path.starts_with("/connect/") && method == "POST" && !path.ends_with("/key"));
        let is_browsers = ["/connect/", "/sign-in", "/oauth/", "/assets/", "/brand/", "/portal"]
            .iter()
            .any(|start| path.starts_with(start));
        if is_browsers || path == "/sdk/oauth/connect" {
            return Answer::of_browser(what, hands_out, status, parts.headers, &body);
        }
        Answer::checked(what, hands_out, status, parts.headers, &body)
    }

    /// Begins a call of the management API: nothing of the answer's body is taken yet.
    pub async fn begin(&self, path: &str) -> Body {
        let request = api_request(&self.pat, "GET", path, String::new()).into_request();
        self.router.clone().oneshot(request).await.unwrap().into_body()
    }

    /// Calls the management API with the admin's token.
    pub async fn api(&self, method: &str, path: &str, body: Value) -> Answer {
        self.api_as(&self.pat, method, path, body).await
    }

    pub async fn api_as(&self, pat: &str, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(api_request(pat, method, path, body)).await
    }

    /// Every event of the owner, oldest first, from an export that verifies.
    pub async fn events(&self, path: &str) -> Vec<Value> {
        let (report, text) = self.export(path).await;
        assert!(report.ok, "{path}: {:?}\n{text}", report.problems);
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["type"] == "event").collect()
    }

    pub async fn export(&self, path: &str) -> (Report, String) {
        let answer = self.api("GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let trust = Trust { key: None, checkpoint: None };
        (verify(BufReader::new(answer.text.as_bytes()), &trust).unwrap(), answer.text)
    }

    /// Ids of every app there is.
    pub async fn apps(&self) -> Vec<String> {
        let page = self.api("GET", "/api/v1/apps?limit=1000", Value::Null).await.ok(200);
        page["items"].as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect()
    }

    /// What must hold after every test.
    async fn assert_invariants(&self) {
        let organization = self.events("/api/v1/audit/export").await;
        assert!(!organization.is_empty());
        for app in self.apps().await {
            self.events(&format!("/api/v1/apps/{app}/audit/export")).await;
            for list in ["keys", "managed-secrets", "grants", "audit/events"] {
                let answer = self.api("GET", &format!("/api/v1/apps/{app}/{list}?limit=1000"), Value::Null).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
        }
        watch::clean("Debug of the settings", &format!("{:?}", self.vault.settings));
        watch::logs_are_clean();
    }
}

pub fn api_request(pat: &str, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> Raw {
    Raw::new(method, path, body).set("authorization", format!("Bearer {pat}"))
}

pub fn root() -> RootKeys {
    RootKeys::new(root_key(7), Vec::new())
}

/// A root key; 7 is the one every install is made with.
pub fn root_key(n: u8) -> RootKey {
    let mut material = [n; 32];
    material[..6].copy_from_slice(b"canary");
    RootKey::new(&material)
}

fn settings() -> Settings {
    Settings {
        base_path: String::new(),
        public_url: "http://127.0.0.1:8080".to_owned(),
        trusted_proxies: Vec::new(),
        replicas: 1,
        outbound: OutboundAllow::parse(&["127.0.0.1:9001"]).unwrap(),
        outbound_roots: None,
        cache_bytes: 1 << 20,
        auth_failures_per_minute: grantd_wire::limits::AUTH_FAILURES_PER_MINUTE,
        retention: grantd_wire::Retention::default(),
        sso: None,
    }
}

async fn open(store: Store, env: &Arc<TestEnv>, settings: Settings) -> Arc<Vault> {
    Vault::open(store, root(), Arc::<TestEnv>::clone(env), settings).await.unwrap()
}

/// Longer than any test takes on a machine that does much else.
const TEST_TIME_MAX: std::time::Duration = std::time::Duration::from_mins(3);

/// Runs a test on a server of its own, then asserts what must hold after every one.
pub fn run<F: Future<Output = ()> + Send + 'static>(engine: Engine, test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(database) = Database::create(engine).await else { return };
        let server = Server::create(database).await;
        // A task of its own, so that the database goes away when the test panics.
        let test = test(server.clone());
        let checked = server.clone();
        let ended = tokio::spawn(async move {
            tokio::time::timeout(TEST_TIME_MAX, test).await.expect("a test that hangs has failed");
            checked.assert_invariants().await;
        });
        let ended = ended.await;
        server.database.remove().await;
        if let Err(e) = ended {
            // Of whatever test: lines do not say.
            for line in watch::logged("ERROR").iter().rev().take(10) {
                eprint!("{line}");
            }
            std::panic::resume_unwind(e.into_panic());
        }
    });
}
