//! An OAuth provider that plays what a test tells it to: real HTTP on loopback, tokens that rotate strictly unless it is told otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use grantd_domain::account::{AppProvider, Facts, SealedSecret};
use grantd_domain::destination::{OutboundAllow, Rule};
use grantd_domain::env::new_uuid;
use grantd_domain::provider;
use grantd_domain::seal::Place;
use grantd_store::providers;
use grantd_wire::api::CustomProvider;
use grantd_wire::ids::{AppId, AppProviderId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{Server, World};

/// The id tests register it under.
pub const ID: &str = "acme";
/// What it issued the app.
pub const CLIENT_SECRET: &str = "canary-of-the-client-secret";

/// What it does instead of answering as it should.
#[derive(Clone, Debug)]
pub enum Play {
    Answer(u16, String),
    /// The connection is cut; nothing happened.
    Cut,
    /// What was asked for happens, and the answer is lost.
    Lose,
    /// It answers as it should once it is let go on.
    Wait(Arc<Notify>),
}

#[derive(Default)]
struct State {
    issued: u64,
    /// The one refresh token that is good.
    refresh: Option<String>,
    plays: VecDeque<Play>,
    /// What the next revocations are answered with.
    revocations: VecDeque<(u16, String)>,
    calls: Vec<(String, BTreeMap<String, String>)>,
    more: Value,
    account: String,
    /// What stands at further paths.
    published: BTreeMap<String, String>,
}

/// The provider.
#[derive(Clone)]
pub struct Issuer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { more: json!({"expires_in": 3600}), account: "user-1".to_owned(), ..State::default() };
        let issuer = Self { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        let shared = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(stream));
            }
        });
        issuer
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut request = Vec::new();
        let (head, length) = loop {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if request.len() >= end + 4 + length {
                break (String::from_utf8_lossy(&request[..end]).into_owned(), length);
            }
        };
        let form = form_urlencoded::parse(&request[request.len() - length..]).into_owned().collect();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let play = {
            let mut state = self.state.lock().unwrap();
            state.calls.push((path.clone(), form));
            if path == "/token" { state.plays.pop_front() } else { None }
        };
        let (status, body) = match play {
            Some(Play::Cut) => return,
            Some(Play::Lose) => {
                self.answer(&path);
                return;
            }
            Some(Play::Answer(status, body)) => (status, body),
            Some(Play::Wait(go_on)) => {
                go_on.notified().await;
                self.answer(&path)
            }
            None => self.answer(&path),
        };
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    fn answer(&self, path: &str) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        let form = state.calls.last().map(|(_, form)| form.clone()).unwrap_or_default();
        match path {
            "/token" if form.get("grant_type").is_some_and(|kind| kind == "refresh_token") => {
                if state.refresh.is_none() || form.get("refresh_token") != state.refresh.as_ref() {
                    return (400, json!({"error": "invalid_grant"}).to_string());
                }
                (200, Self::issue(&mut state))
            }
            "/token" => (200, Self::issue(&mut state)),
            "/userinfo" => (200, json!({"sub": state.account, "email": "someone@example.com"}).to_string()),
            "/revoke" => state.revocations.pop_front().unwrap_or((200, String::new())),
            other => state.published.get(other).map_or((404, String::new()), |text| (200, text.clone())),
        }
    }

    fn issue(state: &mut State) -> String {
        state.issued += 1;
        let n = state.issued;
        let refresh = format!("canary-refresh-{n}");
        state.refresh = Some(refresh.clone());
        let mut answer =
            json!({"access_token": format!("canary-access-{n}"), "refresh_token": refresh, "token_type": "Bearer"});
        let more = state.more.as_object().cloned().unwrap_or_default();
        answer.as_object_mut().unwrap().extend(more);
        answer.to_string()
    }

    /// What the next calls of the token endpoint come to.
    pub fn plays(&self, plays: impl IntoIterator<Item = Play>) {
        self.state.lock().unwrap().plays.extend(plays);
    }

    /// What the next calls of the revocation endpoint are answered with; then 200.
    pub fn answers_revocations(&self, answers: impl IntoIterator<Item = (u16, String)>) {
        self.state.lock().unwrap().revocations.extend(answers);
    }

    /// What stands in token answers beside the tokens.
    pub fn says(&self, more: Value) {
        self.state.lock().unwrap().more = more;
    }

    /// Puts a text at a path.
    pub fn publish(&self, path: &str, text: String) {
        self.state.lock().unwrap().published.insert(path.to_owned(), text);
    }

    /// Whose account it is from now on.
    pub fn is_account(&self, account: &str) {
        account.clone_into(&mut self.state.lock().unwrap().account);
    }

    /// From now on no refresh token is good.
    pub fn withdraws(&self) {
        self.state.lock().unwrap().refresh = None;
    }

    /// Forms that were sent to this path.
    pub fn calls(&self, path: &str) -> Vec<BTreeMap<String, String>> {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|(called, _)| called == path).map(|(_, form)| form.clone()).collect()
    }

    /// Times a refresh token was sent.
    pub fn renewals(&self) -> usize {
        self.calls("/token").iter().filter(|form| form["grant_type"] == "refresh_token").count()
    }

    /// A process that may reach it.
    pub async fn reached_by(&self, server: &Server, process: &str) -> Server {
        let allow = OutboundAllow::parse(&[format!("127.0.0.1:{}", self.port)]).unwrap();
        server.another(process, |settings| settings.outbound = allow).await
    }

    /// Registers the world's app with it.
    pub async fn register(&self, server: &Server, world: &World) {
        let base = format!("http://127.0.0.1:{}", self.port);
        let said = CustomProvider {
            authorize_url: Some(format!("{base}/authorize")),
            token_url: Some(format!("{base}/token")),
            revoke_url: Some(format!("{base}/revoke")),
            userinfo_url: Some(format!("{base}/userinfo")),
            client_auth: Some("post".to_owned()),
            scopes: vec!["read".to_owned(), "write".to_owned()],
            ..CustomProvider::default()
        };
        let facts = provider::of_custom(ID, "Acme", &said, |_| true).unwrap();
        let app = AppId::parse(&world.app).unwrap();
        let id = AppProviderId::from_uuid(new_uuid(&*server.env));
        let place =
            Place { table: "providers", app: Some(app), row: *id.as_bytes(), field: "client_secret", version: 1 };
        let sealed = server.vault.keys.seal_of_app(&*server.env, app, place, CLIENT_SECRET.as_bytes()).await.unwrap();
        let now = server.now();
        let provider = AppProvider {
            id,
            app_id: app,
            provider_id: ID.to_owned(),
            name: "Acme".to_owned(),
            facts: Facts::Custom { facts: Arc::new(facts), said: Arc::new(said) },
            environment: None,
            fields: BTreeMap::new(),
            client_id: "client-1".to_owned(),
            client_secret: Some(SealedSecret { sealed, version: 1 }),
            scopes: Vec::new(),
            hosts: vec![Rule::parse("api.acme.example.com").unwrap()],
            problem: None,
            created_at: now,
            updated_at: now,
            is_deleted: false,
            version: 1,
        };
        server.store().write(move |tx| providers::insert(tx, &provider)).await.unwrap();
    }
}
