//! An app that is registered with a provider of its own, and what is done with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::browser::Browser;
use super::super::client::{Answer, ApiKey, Connection};
use super::super::database::Database;
use super::super::install::{Install, Program, Server, Start, expect};
use super::super::provider::{CANARY, CLIENT_ID, CLIENT_SECRET, Provider};
use super::super::random::Random;
use super::super::{AccountsArgs, Result, epoch_seconds, fault};
use super::{LEASE, database_name, files};

/// What the app calls the provider.
const ID: &str = "acme";
const SCOPES: &[&str] =
    &["tokens:retrieve", "connect:initiate", "grants:read", "idp_users:write", "secrets:write", "identity:resolve"];
/// How long something may take that is bound to happen, beside a lease.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at whether it happened.
pub const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What one death is prepared from.
pub struct Plan {
    pub args: AccountsArgs,
    pub number: usize,
    pub directory: PathBuf,
    pub turns: Arc<Semaphore>,
}

pub struct World {
    pub install: Install,
    pub provider: Provider,
    signer: ApiKey,
    random: Random,
    sent: u64,
    looks: u32,
    before: Option<PathBuf>,
    /// Held until all is ready to wait.
    turn: Option<OwnedSemaphorePermit>,
}

impl World {
    /// Makes it; its server dies at this step, or at none.
    pub async fn make(plan: Plan, step: Option<&str>) -> Result<(Self, Server)> {
        let turn = plan.turns.acquire_owned().await?;
        let database = match &plan.args.postgres {
            Some(server) => Some(Database::create(server, &database_name(plan.number)).await?),
            None => None,
        };
        let provider = Provider::start().await?;
        // The log tells all it can: no secret may be in it.
        let wrapper = ["env", "GRANTD_LOG=debug"].map(str::to_owned).into();
        let program = Program { path: plan.args.grantd.clone(), wrapper };
        let mut install = Install::make(program, plan.directory, database, None).await?;
        install.flags = vec!["--outbound-allow".to_owned(), format!("127.0.0.1:{}", provider.port)];
        let server = match install.serve(step).await? {
            Start::Listening(server) => *server,
            Start::Ended(status) => return fault(format!("the server did not start: {status}")),
        };
        install.make_app(&server).await?;
        let answer = install
            .ask(&server, "POST", &install.path("/keys"), Some(&json!({"name": "crash", "scopes": SCOPES})))
            .await?;
        let signer = ApiKey::new(expect(&answer, 201)?["api_key"].as_str().unwrap_or_default());
        let seed = epoch_seconds() ^ (u64::try_from(plan.number)? << 40);
        let random = Random::new(seed);
        let world = Self { install, provider, signer, random, sent: 0, looks: 0, before: None, turn: Some(turn) };
        world.register(&server).await?;
        Ok((world, server))
    }

    async fn register(&self, server: &Server) -> Result {
        let base = format!("http://127.0.0.1:{}", self.provider.port);
        let custom = json!({
            "authorize_url": format!("{base}/authorize"), "token_url": format!("{base}/token"),
            "revoke_url": format!("{base}/revoke"), "userinfo_url": format!("{base}/userinfo"),
            "client_auth": "post", "scopes": ["read"],
        });
        let body = json!({
            "provider": ID, "name": "Acme", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "allowed_hosts": ["api.acme.example.com"], "custom": custom,
        });
        let answer = self.install.ask(server, "POST", &self.install.path("/providers"), Some(&body)).await?;
        expect(&answer, 201).map(drop)
    }

    /// Registers the provider as the one that vouches for the app's users.
    pub async fn register_users(&self, server: &Server) -> Result {
        let body = json!({
            "issuer": self.provider.issuer(), "audiences": [CLIENT_ID], "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        });
        let answer = self.install.ask(server, "POST", &self.install.path("/identity-providers"), Some(&body)).await?;
        expect(&answer, 201).map(drop)
    }

    /// The provider sends the browser back, and the server dies of it. The next one runs, for which the answer is used up.
    pub async fn dies_of_answer(
        &mut self,
        server: Server,
        browser: &mut Browser,
        state: &str,
        step: &str,
    ) -> Result<Server> {
        if let Ok(answer) = browser.back(&server, "canary-code", state).await {
            return fault(format!("it lived to answer {}", answer.shown()));
        }
        server.died_at(step).await?;
        let server = self.install.server().await?;
        self.waits();
        // The browser reloads: the answer is good once.
        let again = browser.back(&server, "canary-code", state).await?;
        match again.status {
            410 => Ok(server),
            _ => fault(format!("the same answer again came to {}", again.shown())),
        }
    }

    /// From here on it is mostly waiting: others may be prepared.
    pub fn waits(&mut self) {
        self.turn = None;
    }

    pub async fn app(&mut self, server: &Server, path: &str, body: &Value) -> Result<Answer> {
        self.sent += 1;
        let nonce = self.random.bytes();
        let raw = self.signer.request(path, body, nonce, epoch_seconds(), &format!("account-{}", self.sent));
        Ok(Connection::open(server.address).await?.send(&raw).await?)
    }

    /// Asks for a session to connect an account in.
    pub async fn session(&mut self, server: &Server) -> Result<Value> {
        let body = json!({"allowed_providers": [ID], "return_url": null, "allowed_origin": null, "metadata": null});
        expect(&self.app(server, "/sdk/oauth/connect/session", &body).await?, 201)
    }

    /// How the session stands.
    pub async fn poll(&mut self, server: &Server, session: &Value) -> Result<Value> {
        let body = json!({"session_token": session["session_token"]});
        expect(&self.app(server, "/sdk/oauth/connect/session/poll", &body).await?, 200)
    }

    /// Opens the session in a browser and goes as far as the provider.
    pub async fn open(&mut self, server: &Server, session: &Value) -> Result<(Browser, String)> {
        let mut browser = Browser::open(server, session["connect_url"].as_str().unwrap_or_default()).await?;
        match browser.start(server, ID).await? {
            Some(state) => Ok((browser, state)),
            None => fault("a new session cannot be started"),
        }
    }

    /// Goes on in a session that this browser has open. None: not now.
    pub async fn start(&self, server: &Server, browser: &mut Browser) -> Result<Option<String>> {
        browser.start(server, ID).await
    }

    /// Comes back from the provider; what the app is told of the account.
    pub async fn finish(
        &mut self,
        server: &Server,
        session: &Value,
        browser: &mut Browser,
        state: &str,
    ) -> Result<Value> {
        let back = browser.back(server, "canary-code", state).await?;
        let polled = self.poll(server, session).await?;
        match polled["status"] == "completed" {
            true => Ok(polled["grants"][0].clone()),
            false => fault(format!("connecting came to {}, {}", back.shown(), polled["status"])),
        }
    }

    /// Connects the account from beginning to end.
    pub async fn connect(&mut self, server: &Server) -> Result<Value> {
        let session = self.session(server).await?;
        let (mut browser, state) = self.open(server, &session).await?;
        self.finish(server, &session, &mut browser, &state).await
    }

    /// A call for the token.
    pub async fn token(&mut self, server: &Server, grant: &str) -> Result<Answer> {
        let request = json!({"method": "GET", "url": "https://api.acme.example.com/v1/things"});
        self.app(server, "/sdk/token", &json!({"grant_id": grant, "request": request, "reason": null})).await
    }

    /// Whether the grant asks for its user.
    pub async fn needs_reconnect(&self, server: &Server, grant: &str) -> Result<bool> {
        let path = self.install.path(&format!("/grants/{grant}"));
        let shown = expect(&self.install.ask(server, "GET", &path, None).await?, 200)?;
        match shown["needs_reconnect"].as_bool() {
            Some(needs) if shown["status"] == "active" => Ok(needs),
            _ => fault(format!("the grant is {}", shown["status"])),
        }
    }

    /// Revokes the grant; how the ending of its tokens stands.
    pub async fn revoke(&self, server: &Server, grant: &str) -> Result<String> {
        let path = self.install.path(&format!("/grants/{grant}/revoke"));
        let answer = self.install.ask(server, "POST", &path, None).await?;
        expect(&answer, 200)?;
        Ok(answer.text("revoked_upstream"))
    }

    /// How many grants there are.
    pub async fn grants(&self, server: &Server) -> Result<usize> {
        Ok(self.install.list(server, "grants").await?.len())
    }

    /// The whole past: it verifies, and goes on from the look before. Events, the oldest first.
    pub async fn look(&mut self, server: &Server) -> Result<Vec<Value>> {
        let out = self.install.directory.join(format!("export-{}.jsonl", self.looks));
        let lines = self.install.export(server, &out, self.before.as_deref()).await?;
        self.looks += 1;
        self.before = Some(out);
        let events = lines.into_iter().filter(|line| line["type"] == "event");
        let mut events: Vec<Value> = events.map(|mut line| line["core"].take()).collect();
        // Their ids begin with the time.
        events.sort_by_key(|event| event["id"].as_str().unwrap_or_default().to_owned());
        Ok(events)
    }

    /// Ends it: its tokens, its secrets and its codes stand in no file.
    pub async fn end(self, server: Server) -> Result {
        server.kill().await?;
        for file in files(self.install.directory.clone())? {
            let bytes = std::fs::read(&file)?;
            let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            if holds(CANARY) || self.provider.id_tokens().iter().any(|token| holds(token)) {
                return fault(format!("{} holds a secret", file.display()));
            }
        }
        match &self.install.database {
            Some(database) => database.remove().await,
            None => Ok(()),
        }
    }
}

/// How many events are of this kind.
pub fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["kind"] == kind).count()
}

/// Events after the last one of this kind.
pub fn after<'e>(events: &'e [Value], kind: &str) -> &'e [Value] {
    let last = events.iter().rposition(|event| event["kind"] == kind);
    &events[last.map_or(0, |last| last + 1)..]
}

/// Whether a lease that was taken after `since` still holds.
pub fn is_leased(since: Instant) -> bool {
    since.elapsed() < LEASE
}

/// Gives up when what is bound to happen has not, a lease and some patience after `since`.
pub fn still(since: Instant, what: &str) -> Result {
    if since.elapsed() < LEASE + PATIENCE { Ok(()) } else { fault(format!("{what} did not happen")) }
}
