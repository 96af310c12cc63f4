//! The server that the story is told to, what stands between it and the command line, and the three ways to ask.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::{Clock, Entropy, new_uuid};
use grantd_server::http::Bounds;
use grantd_server::{Settings, Vault};
use grantd_wire::TimeMs;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::super::term::testing::terminal;
use super::super::super::{Context, Exit, Globals, run_in, settings};
use super::super::words;
use super::story::Step;
use crate::boot::{self, DataDir};
use crate::config::Flags;
use crate::host::Host;
use crate::serve::Server;

/// What no command line needs, on the slowest machine.
const STEP_MAX: Duration = Duration::from_mins(1);

/// A way to ask.
pub struct Form {
    pub name: &'static str,
    pub output: &'static str,
    pub width: u16,
    /// Its own directory, below that of the scene.
    directory: &'static str,
}

/// The first one asks the server; the others are given its answers.
pub const FORMS: &[Form] = &[
    Form { name: "json", output: "json", width: 100, directory: "j" },
    Form { name: "table, 100 columns", output: "table", width: 100, directory: "w" },
    Form { name: "table, 40 columns", output: "table", width: 40, directory: "n" },
];

/// The story's time all but stands still, while calls are signed with the real one, which may be a minute off. So the story begins
/// that much ahead, and the real one has longer to get to its last call. What the host's clock made before is some seconds old then, of
/// two digits whatever it took.
const AHEAD_MS: i64 = 40_000;

/// What a command line said.
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

/// A clock that nobody waits for: each look is a millisecond after the one before, so that events have an order.
#[derive(Clone)]
struct Ticking(Arc<AtomicI64>);

impl Clock for Ticking {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Entropy for Ticking {
    fn fill(&self, bytes: &mut [u8]) {
        Host.fill(bytes);
    }
}

/// An answer of the server, and to what.
#[derive(Clone)]
struct Answer {
    asked: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Passes on and keeps, or gives again what was kept.
#[derive(Default)]
struct Tape {
    is_replaying: bool,
    answers: Vec<Answer>,
    /// Of the answers, which were given again.
    given: Vec<bool>,
}

impl Tape {
    /// The next answer to this; where there is none left, the last one, for what asks until it is stopped.
    fn next(&mut self, asked: &str) -> Answer {
        let fits = |index: &usize| self.answers[*index].asked == asked;
        let next = (0..self.answers.len()).filter(fits).find(|index| !self.given[*index]);
        let last = || (0..self.answers.len()).rev().find(fits);
        let index = next.or_else(last).unwrap_or_else(|| panic!("asked only in another form: {asked}"));
        self.given[index] = true;
        self.answers[index].clone()
    }
}

/// Everything the story happens in. All of it ends with the test.
pub struct Scene {
    root: PathBuf,
    clock: Ticking,
    tape: Arc<Mutex<Tape>>,
    _server: Server,
    variables: BTreeMap<String, String>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.root));
    }
}

impl Scene {
    pub async fn set() -> Self {
        // Its length counts in tables, so it is not where the system would put it.
        let id = new_uuid(&Host).simple().to_string();
        let root = Path::new("/tmp").join(format!("grantd-golden-{}", &id[id.len() - 8..]));
        for form in FORMS {
            std::fs::create_dir_all(root.join(form.directory)).unwrap();
        }
        let provider = listen(Router::new().fallback(provider)).await;
        let clock = Ticking(Arc::new(AtomicI64::new(Host.now().0 + AHEAD_MS)));
        let (server, url) = serve(&root.join("data"), clock.clone(), &provider).await;
        let tape = Arc::new(Mutex::new(Tape::default()));
        let kept = Arc::clone(&tape);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let between = listen(Router::new().fallback(move |method, uri, headers, body| {
            pass(client.clone(), url.clone(), Arc::clone(&kept), method, uri, headers, body)
        }))
        .await;
        let variables = [
            ("SERVER", format!("http://{between}")),
            ("DATA", root.join("data").display().to_string()),
            ("PROVIDER", provider),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { root, clock, tape, _server: server, variables }
    }

    /// The words of a line, with what its variables stand for.
    pub fn words(&self, step: &Step) -> Vec<String> {
        let mut line = step.line.to_owned();
        for (name, value) in self.variables.iter().rev() {
            line = line.replace(&format!("${name}"), value);
        }
        words(&line)
    }

    pub async fn run(&mut self, step: &Step, form: &Form) -> Said {
        let directory = self.root.join(form.directory);
        self.variables.insert("DIR".to_owned(), directory.display().to_string());
        for (name, text) in step.files {
            boot::write_over(&directory.join(name), text.as_bytes()).unwrap();
        }
        let is_first = form.directory == FORMS[0].directory;
        if is_first {
            self.tell(step.told).await;
        }
        {
            let mut tape = self.tape.lock().unwrap();
            if is_first {
                tape.answers.clear();
            }
            tape.is_replaying = !is_first;
            tape.given = vec![false; tape.answers.len()];
        }
        let mut arguments = vec!["grantd".to_owned()];
        arguments.extend(self.words(step));
        arguments.extend(["--output".to_owned(), form.output.to_owned()]);
        let config = directory.join("config").display().to_string();
        let env = [
            ("GRANTD_SERVER", &*self.variables["SERVER"]),
            ("XDG_CONFIG_HOME", &config),
            ("GRANTD_LOG", "off"),
            ("BAO_TOKEN", "s.golden"),
        ];
        let clock: Box<dyn Clock> = if step.is_local { Box::new(Host) } else { Box::new(self.clock.clone()) };
        let (term, out, err) = terminal(step.stdin, form.width, clock);
        let ends = run_in(directory, arguments.into_iter().map(Into::into), env.into_iter().collect(), term);
        let has_begun = async {
            while !step.is_endless || out.text().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let exit = tokio::select! {
            exit = ends => exit,
            () = has_begun => Exit::Ok,
            () = tokio::time::sleep(STEP_MAX) => panic!("{}: it does not end:\n{}{}", step.line, out.text(), err.text()),
        };
        let said = Said { exit, out: out.text(), err: err.text() };
        if is_first {
            self.keep(step, &said.out);
        }
        said
    }

    /// What the directory of an identity provider tells.
    async fn tell(&self, told: &[(&str, &str)]) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        self.tape.lock().unwrap().is_replaying = false;
        for (resource, body) in told {
            let url = format!("{}/scim/v2/{}/{resource}", self.variables["SERVER"], self.variables["IDP"]);
            let request = client.post(url).bearer_auth(&self.variables["SCIM"]);
            let answer = request.header("content-type", "application/scim+json").body((*body).to_owned()).send().await;
            let answer = answer.unwrap();
            assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap_or_default());
        }
    }

    /// What later lines name.
    fn keep(&mut self, step: &Step, out: &str) {
        for (name, path) in step.saves {
            let answer: Value = out.lines().next().map_or(Value::Null, |line| {
                serde_json::from_str(out).or_else(|_| serde_json::from_str(line)).unwrap_or_default()
            });
            let value = answer.pointer(path).and_then(Value::as_str);
            let value = value.unwrap_or_else(|| panic!("{}: no {path} in {out}", step.line));
            self.variables.insert((*name).to_owned(), value.to_owned());
        }
    }
}

/// Serves an install in this directory, by this clock.
async fn serve(directory: &Path, clock: Ticking, provider: &str) -> (Server, String) {
    let (term, _, _) = terminal("", 80, Box::new(Host));
    let env = [("GRANTD_DATA_DIR", directory.display().to_string())].into_iter().collect();
    let context = Context { globals: Globals::default(), env, term, directory: directory.to_owned() };
    let config =
        settings::load(&Flags::default(), None, &context).unwrap_or_else(|failure| panic!("{}", failure.line()));
    let opened = async {
        let data_dir = DataDir::take(&config.data_dir)?;
        let store = boot::open_store(&config).await?;
        boot::create_install(&config, &data_dir, &context.env, &store).await?;
        let settings = Settings {
            base_path: String::new(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            trusted_proxies: Vec::new(),
            replicas: 1,
            outbound: OutboundAllow::parse(&[provider.to_owned()]).expect("it is a host and a port"),
            outbound_roots: None,
            cache_bytes: 1 << 20,
            auth_failures_per_minute: config.auth_failures_per_minute,
            retention: config.retention,
            sso: None,
        };
        // The install was made by the host's clock: what the story does comes after it, however long that took.
        clock.0.fetch_max(Host.now().0 + 1, Ordering::Relaxed);
        let keys = boot::load_root_keys(&config, &context.env)?;
        let vault = Vault::open(store, keys, Arc::new(clock), settings).await;
        let vault = vault.map_err(|error| boot::install_failure(&error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Ok::<_, crate::cli::Failure>((Server::start(vault, listener, None, Bounds::default()).await?, url))
    };
    opened.await.unwrap_or_else(|failure| panic!("{}", failure.line()))
}

/// What is asked, whenever it is: a time back from now is another one in each form.
fn asked(method: &Method, uri: &Uri) -> String {
    let query = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.starts_with("since="));
    format!("{method} {} {}", uri.path(), query.collect::<Vec<_>>().join("&"))
}

/// Between the command line and the server.
async fn pass(
    client: reqwest::Client,
    url: String,
    tape: Arc<Mutex<Tape>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let asked = asked(&method, &uri);
    let is_replaying = tape.lock().unwrap().is_replaying;
    if !is_replaying {
        let mut request = client.request(method, format!("{url}{uri}")).body(body);
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host" && *name != "content-length") {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove("transfer-encoding");
        let body = answer.bytes().await.unwrap();
        let mut tape = tape.lock().unwrap();
        tape.answers.push(Answer { asked, status, headers, body });
        tape.given.push(false);
        let answer = tape.answers.last().cloned().expect("it was just put there");
        return (answer.status, answer.headers, answer.body).into_response();
    }
    let answer = tape.lock().unwrap().next(&asked);
    (answer.status, answer.headers, answer.body).into_response()
}

/// The API that credentials are for, and the KV engine that secrets are imported from.
async fn provider(uri: Uri) -> axum::response::Response {
    let secret = |data: Value, custom: Value| json!({"data": {"data": data, "metadata": {"custom_metadata": custom}}});
    let (mut status, mut body) = (StatusCode::OK, json!({"hello": "shop"}));
    match uri.path() {
        "/v1/secret/metadata/apps" => body = json!({"data": {"keys": ["mail", "maps"]}}),
        "/v1/secret/data/apps/mail" => body = secret(json!({"username": "shop", "password": "example"}), Value::Null),
        "/v1/secret/data/apps/maps" => {
            body = secret(json!({"api_key": "example"}), json!({"allowed_hosts": "maps.example.com"}));
        }
        "/missing" => (status, body) = (StatusCode::NOT_FOUND, json!({"no": "such thing"})),
        _ => {}
    }
    // The time would be another one each run.
    let headers = [("content-type", "application/json"), ("date", "Mon, 24 Nov 2025 10:00:00 GMT")];
    (status, headers, body.to_string()).into_response()
}

/// Serves this, and answers where.
async fn listen(router: Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}
