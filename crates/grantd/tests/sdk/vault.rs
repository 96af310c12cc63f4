//! The binary as a process of its own, a provider beside it, and what an operator sets up.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use grantd_sdk::{App, AppBuilder};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_grantd");
pub const CERTIFICATE: &str = include_str!("../../src/tls/test-cert.pem");
pub const CERTIFICATE_KEY: &str = include_str!("../../src/tls/test-key.pem");
/// What the secret of a world holds.
pub const VALUE: &str = "value-of-the-secret-1";

/// A provider on loopback: answers what it was told to say, the status in `/status/N`, else 200, and remembers the credentials it
/// saw.
pub struct Provider {
    pub authority: String,
    pages: Arc<Mutex<BTreeMap<&'static str, String>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let pages = Arc::new(Mutex::new(BTreeMap::from([
            // What an OAuth provider answers: tokens of the one account there is, and whose it is.
            (
                "/token",
                r#"{"access_token": "tokens-of-user-1", "token_type": "Bearer", "expires_in": 3600}"#.to_owned(),
            ),
            ("/me", r#"{"sub": "user-1"}"#.to_owned()),
        ])));
        let said = Arc::clone(&pages);
        let router = Router::new().fallback(move |request: Request| {
            let credential = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
            assert!(request.headers().keys().all(|name| name != "x-api-key" && !name.as_str().starts_with("x-alter-")));
            log.lock().unwrap().push(credential.unwrap_or_default());
            let path = request.uri().path().to_owned();
            let status = path.strip_prefix("/status/").and_then(|text| text.parse::<u16>().ok()).unwrap_or(200);
            let page = said.lock().unwrap().get(&*path).cloned();
            async move {
                match page {
                    Some(page) => ([("content-type", "application/json")], page).into_response(),
                    None => {
                        let status = axum::http::StatusCode::from_u16(status).unwrap();
                        (status, Bytes::from_static(b"theirs")).into_response()
                    }
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { authority, pages, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }

    /// From now on this is at `path`.
    pub fn says(&self, path: &'static str, page: &Value) {
        self.pages.lock().unwrap().insert(path, page.to_string());
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// A serving process in a directory that goes away.
pub struct Vault {
    directory: PathBuf,
    child: Child,
    pub base_url: String,
    pub provider: Provider,
    pat: String,
    http: reqwest::Client,
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// An app with a key of every scope, and a bearer token that may go to the provider.
pub struct World {
    pub app_id: String,
    pub key_id: String,
    pub key: String,
    pub slug: String,
    pub grant: String,
}

impl Vault {
    /// A new install that serves.
    pub async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("grantd-sdk-{}-{n}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let provider = Provider::start().await;
        let mut init = command(&directory);
        let output =
            init.args(["init", "--output", "json", "--data-dir"]).arg(directory.join("data")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pat = std::fs::read_to_string(directory.join("data/operator.pat")).unwrap().trim().to_owned();
        let (child, base_url) = serve(&directory, &provider, &[]);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { directory, child, base_url, provider, pat, http }
    }

    /// The same install again, by TLS under the name `localhost`. Answers the file whom to trust.
    pub fn restart_with_tls(&mut self) -> PathBuf {
        self.kill();
        let (certificate, key) = (self.directory.join("cert.pem"), self.directory.join("key.pem"));
        std::fs::write(&certificate, CERTIFICATE).unwrap();
        std::fs::write(&key, CERTIFICATE_KEY).unwrap();
        let files = [("GRANTD_TLS_CERT_FILE", &certificate), ("GRANTD_TLS_KEY_FILE", &key)];
        (self.child, self.base_url) = serve(&self.directory, &self.provider, &files);
        self.base_url = self.base_url.replace("127.0.0.1", "localhost");
        certificate
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// The command line, which makes its calls with this client.
    pub fn cli(&self) -> Command {
        command(&self.directory)
    }

    /// A call of the operator that must succeed.
    pub async fn api(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/api/v1/{path}", self.base_url);
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(&self.pat);
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub async fn world(&self) -> World {
        let app_id = text(&self.api("POST", "apps", json!({"name": "App"})).await, "id");
        let (key_id, key) = self.mint(&app_id, json!({"scopes": grantd_wire::scope::all()})).await;
        let secret = json!({"name": "Stripe", "value": VALUE, "allowed_hosts": [&self.provider.authority]});
        let secret = self.api("POST", &format!("apps/{app_id}/managed-secrets"), secret).await;
        World { slug: text(&secret, "slug"), grant: text(&secret, "grant_id"), app_id, key_id, key }
    }

    /// A key: its id and its text.
    pub async fn mint(&self, app_id: &str, mut fields: Value) -> (String, String) {
        fields["name"] = json!("key");
        let minted = self.api("POST", &format!("apps/{app_id}/keys"), fields).await;
        (text(&minted, "id"), text(&minted, "api_key"))
    }

    /// Events of this kind, newest first.
    pub async fn events(&self, world: &World, kind: &str) -> Vec<Value> {
        let page = self.api("GET", &format!("apps/{}/audit/events?kind={kind}", world.app_id), Value::Null).await;
        page["items"].as_array().unwrap().clone()
    }

    pub fn builder(&self, key: &str) -> AppBuilder {
        App::builder(key).base_url(&*self.base_url)
    }

    /// A client with the world's key.
    pub fn app(&self, world: &World) -> App {
        self.builder(&world.key).build().unwrap()
    }
}

fn command(directory: &PathBuf) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(directory).env_clear().env("HOME", directory).env("GRANTD_LOG", "warn").stdin(Stdio::null());
    command
}

/// Starts it, and waits until it listens.
fn serve(directory: &PathBuf, provider: &Provider, files: &[(&str, &PathBuf)]) -> (Child, String) {
    let mut serve = command(directory);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.join("data"));
    serve.env("GRANTD_OUTBOUND_ALLOW", &provider.authority).envs(files.iter().copied());
    let mut child = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    let base_url = loop {
        let line = said.next().unwrap_or_else(|| panic!("grantd did not start:\n{}", told.join("\n"))).unwrap();
        if let Some((_, base_url)) = line.split_once("listening on ") {
            break base_url.trim().to_owned();
        }
        told.push(line);
    };
    // Shown, so that a failure has its causes beside it.
    std::thread::spawn(move || said.map_while(Result::ok).for_each(|line| eprintln!("grantd: {line}")));
    (child, base_url)
}

#[track_caller]
pub fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object}")).to_owned()
}
