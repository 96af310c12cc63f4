//! A real grantd in a directory of its own: `init`, `serve`, what a case needs made through its API, and its end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use grantd_wire::api::{App, AppCreate, KeyMint, MintedKey};
use grantd_wire::ids::{AppId, KeyId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Connection;
use crate::host::instant;
use crate::{Error, Result};

/// A server that is not there after this long is not coming.
const START_MAX: Duration = Duration::from_mins(1);
/// grantd finishes what it has within 25 s.
const STOP_MAX: Duration = Duration::from_secs(40);
/// How often the lab asks whether a server is there, or gone.
const POLL_EVERY: Duration = Duration::from_millis(1);
/// Lines of a log that are shown when a server did not start.
const LOG_LINES_MAX: usize = 15;

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded one, in the data directory.
    Sqlite,
    /// A database of this PostgreSQL URL, which the install has for itself.
    Postgres(String),
}

/// An install: data directory and database.
#[derive(Clone)]
pub struct Install {
    directory: PathBuf,
    engine: Engine,
    pat: Arc<str>,
}

/// What cases call with.
#[derive(Clone)]
pub struct Access {
    /// The app.
    pub app: AppId,
    /// Its key.
    pub key_id: KeyId,
    /// The key's first characters.
    pub key_prefix: Arc<str>,
    /// The key's text.
    pub key: Arc<str>,
}

impl Install {
    /// Runs `grantd init` in `directory`, which must be new.
    pub fn create(binary: &Path, directory: &Path, engine: Engine) -> Result<Self> {
        let mut init = command(binary);
        init.arg("init").arg("--data-dir").arg(directory);
        if let Engine::Postgres(url) = &engine {
            init.arg("--database-url").arg(url);
        }
        let output = init.output().map_err(|e| Error::because(format_args!("cannot run {}", binary.display()), e))?;
        if !output.status.success() {
            return Err(Error(format!("grantd init failed: {}", String::from_utf8_lossy(&output.stderr))));
        }
        let pat = directory.join("operator.pat");
        let pat = fs::read_to_string(&pat).map_err(|e| Error::because("cannot read the operator's token", e))?;
        Ok(Self { directory: directory.to_owned(), engine, pat: pat.trim().into() })
    }

    /// Its data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its database.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The URL the store opens it with.
    pub fn database_url(&self) -> String {
        match &self.engine {
            Engine::Sqlite => format!("sqlite:{}", self.directory.join("grantd.db").display()),
            Engine::Postgres(url) => url.clone(),
        }
    }

    /// Serves it on a free port of loopback with further settings, and waits until it answers.
    pub fn serve(&self, binary: &Path, settings: &[(&str, &str)]) -> Result<Server> {
        let address = free_address()?;
        let mut serve = command(binary);
        serve.arg("serve").arg("--data-dir").arg(&self.directory).arg("--listen").arg(address.to_string());
        if let Engine::Postgres(url) = &self.engine {
            serve.arg("--database-url").arg(url);
        }
        serve.envs(settings.iter().copied());
        Server::start(serve, address, &self.directory.join("serve.log"), "/readyz")
    }

    /// Serves it by one more process, which has a data directory of its own. Only on PostgreSQL.
    pub fn serve_beside(&self, binary: &Path, settings: &[(&str, &str)], number: usize) -> Result<Server> {
        let directory = self.directory.join(format!("process-{number}"));
        fs::create_dir(&directory)
            .map_err(|e| Error::because(format_args!("cannot make {}", directory.display()), e))?;
        let root_key = format!("file:{}", self.directory.join("root.key").display());
        let settings = [settings, &[("GRANTD_ROOT_KEY", &root_key)]].concat();
        Self { directory, ..self.clone() }.serve(binary, &settings)
    }

    /// Makes an app and a key for it.
    pub fn make_access(&self, server: &Server) -> Result<Access> {
        let app: App =
            self.post(server, "/api/v1/apps", &AppCreate { name: "lab".to_owned(), ..AppCreate::default() })?;
        let mint =
            KeyMint { name: "lab".to_owned(), scopes: Some(vec!["tokens:retrieve".to_owned()]), ..KeyMint::default() };
        let minted: MintedKey = self.post(server, &format!("/api/v1/apps/{}/keys", app.id), &mint)?;
        let unknown = || Error("the server named an id that is none".to_owned());
        Ok(Access {
            app: AppId::parse(&app.id).ok_or_else(unknown)?,
            key_id: KeyId::parse(&minted.key.id).ok_or_else(unknown)?,
            key_prefix: minted.key.key_prefix.as_str().into(),
            key: minted.api_key.as_str().into(),
        })
    }

    fn post<T: DeserializeOwned>(&self, server: &Server, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|e| Error::because("cannot write a body", e))?;
        let answer = call(server.address, "POST", path, &[("authorization", &format!("Bearer {}", self.pat))], &body)?;
        serde_json::from_slice(&answer).map_err(|e| Error::because(format_args!("cannot read the answer of {path}"), e))
    }

    /// A `GET` of the management API, as the first operator.
    pub fn get(&self, server: &Server, path: &str) -> Result<Vec<u8>> {
        call(server.address, "GET", path, &[("authorization", &format!("Bearer {}", self.pat))], b"")
    }

    /// A whole `GET` of the management API, for a case to repeat.
    pub fn get_request(&self, path: &str) -> Vec<u8> {
        request("GET", path, &[("authorization", &format!("Bearer {}", self.pat))], b"")
    }
}

/// A server of a case, ours or a peer's. Stopped when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// When its process began.
    pub began: Instant,
    /// How long it took to its first answer.
    pub started_in: Duration,
}

impl Server {
    /// Starts `command`, whose output goes to `log`, and waits until it answers to `probe` with a status below 500.
    pub fn start(mut command: Command, address: SocketAddr, log: &Path, probe: &str) -> Result<Self> {
        let failed = |e| Error::because(format_args!("cannot write {}", log.display()), e);
        let file = File::create(log).map_err(failed)?;
        let errors = file.try_clone().map_err(failed)?;
        let program = command.get_program().to_string_lossy().into_owned();
        let began = instant();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        let child = child.map_err(|e| Error::because(format_args!("cannot start {program}"), e))?;
        let mut server = Self { child, address, began, started_in: Duration::ZERO };
        let asked = request("GET", probe, &[], b"");
        while began.elapsed() < START_MAX {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(Error(format!("{program} ended with {status}:\n{}", tail(log))));
            }
            if block_on(exchange_once(address, &asked)).is_ok_and(|(status, _)| status < 500) {
                server.started_in = began.elapsed();
                return Ok(server);
            }
            pause();
        }
        Err(Error(format!("{program} did not answer within {} s:\n{}", START_MAX.as_secs(), tail(log))))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result {
        self.end().map_err(|e| Error::because("cannot stop a server", e))
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let asked = instant();
        while asked.elapsed() < STOP_MAX {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            pause();
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("warning: a server of the lab could not be stopped: {error}");
        }
    }
}

/// Waits a moment for another process; no result depends on how long.
fn pause() {
    std::thread::park_timeout(POLL_EVERY);
}

/// A program without settings from the environment of whoever runs the lab.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GRANTD_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A port of loopback that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    let failed = |e| Error::because("cannot find a free port", e);
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).map_err(failed)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
}

/// A whole request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("content-type: application/json\r\n\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// One call that must succeed; answers the body.
pub fn call(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>> {
    let (status, answer) = block_on(exchange_once(address, &request(method, path, headers, body)))?;
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    Err(Error(format!("{method} {path} was answered {status}: {}", String::from_utf8_lossy(&answer))))
}

async fn exchange_once(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut connection = Connection::open(address).await?;
    let answer = connection.exchange(request).await?;
    Ok((answer.status, answer.body.to_vec()))
}

/// Runs a future where nothing else is going on.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::because("cannot start a runtime", e))?.block_on(future)
}
