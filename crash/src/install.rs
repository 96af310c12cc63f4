//! A real install: made by `grantd init`, served by `grantd serve`, looked at through its own command line.
//!
//! Invariant: no process outlives its handle.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::{Answer, Connection, managed};
use super::{Result, fault};

/// How long a process may take to start or to end on a machine that is busy with other things.
const PROCESS_WAIT: Duration = Duration::from_secs(90);
/// Questions asked again while the server says that it is busy.
const ASKS_MAX: u32 = 100;
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The variable that arms a crash step.
pub const STEP_VARIABLE: &str = "GRANTD_CRASH_STEP";

/// The program, and what it is started with.
#[derive(Clone)]
pub struct Program {
    pub path: PathBuf,
    /// Run by this instead, with the program as its first argument: `prlimit …`, `faketime …`.
    pub wrapper: Vec<String>,
}

/// A data directory and its database.
pub struct Install {
    pub program: Program,
    pub directory: PathBuf,
    pub database: Option<super::database::Database>,
    pub token: String,
    pub app_id: String,
    /// What `serve` is told beside where everything is.
    pub flags: Vec<String>,
}

impl Install {
    /// Makes the install; `crash_at` is a step of `init` at which the first attempt must die.
    pub async fn make(
        program: Program,
        directory: PathBuf,
        database: Option<super::database::Database>,
        crash_at: Option<&str>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let mut install =
            Self { program, directory, database, token: String::new(), app_id: String::new(), flags: Vec::new() };
        if let Some(step) = crash_at {
            let died = install.run(install.init().env(STEP_VARIABLE, step)).await?;
            if !died_at_step(died.status) {
                return fault(format!("init did not die at {step} but ended with {}", died.status));
            }
        }
        install.check_init().await?;
        // A second run changes nothing.
        install.check_init().await?;
        Ok(install)
    }

    async fn check_init(&mut self) -> Result {
        let made = self.run(&mut self.init()).await?;
        if !made.status.success() {
            return fault(format!("init: {}\n{}", made.status, String::from_utf8_lossy(&made.stderr)));
        }
        let files = std::fs::read_dir(self.data_dir())?.collect::<std::io::Result<Vec<_>>>()?;
        let left = files.iter().find(|file| file.file_name().to_string_lossy().ends_with(".new"));
        if let Some(left) = left {
            return fault(format!("init left {} behind", left.path().display()));
        }
        let token = std::fs::read_to_string(self.data_dir().join("operator.pat"))?;
        if !self.token.is_empty() && self.token != token.trim() {
            return fault("a second init changed the operator's token");
        }
        token.trim().clone_into(&mut self.token);
        Ok(())
    }

    fn init(&self) -> Command {
        let mut init = self.command(&["init", "--data-dir"]);
        init.arg(self.data_dir());
        self.on_database(&mut init);
        init
    }

    fn on_database(&self, command: &mut Command) {
        if let Some(database) = &self.database {
            command.args(["--database-url", &database.url]);
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The program with nothing of our environment that it would take for its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.program.wrapper.split_first() {
            None => Command::new(&self.program.path),
            Some((wrapper, rest)) => {
                let mut command = Command::new(wrapper);
                command.args(rest).arg(&self.program.path);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("GRANTD_") || text.starts_with("ALTER_") {
                command.env_remove(name);
            }
        }
        command.args(arguments).env("GRANTD_LOG", "warn").env("HOME", &self.directory);
        command.current_dir(&self.directory).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn run(&self, command: &mut Command) -> Result<Output> {
        match timeout(PROCESS_WAIT, command.output()).await {
            Ok(output) => Ok(output?),
            Err(_) => fault("a command did not end"),
        }
    }

    /// Starts the server; `step` is armed in it.
    pub async fn serve(&self, step: Option<&str>) -> Result<Start> {
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(self.data_dir()).args(&self.flags);
        self.on_database(&mut command);
        if let Some(step) = step {
            command.env(STEP_VARIABLE, step);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let Some(said) = child.stderr.take() else { return fault("the server has no standard error") };
        let mut lines = BufReader::new(said).lines();
        let path = self.directory.join("server.log");
        let mut log = tokio::fs::OpenOptions::new().append(true).create(true).open(path).await?;
        let listening = async {
            while let Some(line) = lines.next_line().await? {
                log.write_all(format!("{line}\n").as_bytes()).await?;
                if let Some(address) = line.strip_prefix("listening on http://") {
                    return Ok(address.trim().parse::<SocketAddr>().ok());
                }
            }
            Ok::<_, std::io::Error>(None)
        };
        let Ok(address) = timeout(PROCESS_WAIT, listening).await else { return fault("the server did not start") };
        let Some(address) = address? else {
            let status = ended(&mut child).await?;
            return Ok(Start::Ended(status));
        };
        let drain = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if log.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        Ok(Start::Listening(Box::new(Server { child, address, drain })))
    }

    /// Starts the server, which must listen.
    pub async fn server(&self) -> Result<Server> {
        match self.serve(None).await? {
            Start::Listening(server) => Ok(*server),
            Start::Ended(status) => fault(format!("the server did not start: {status}")),
        }
    }

    /// Starts the server, which must die at a step that nobody has to bring it to.
    pub async fn die_at(&self, step: &str) -> Result {
        match self.serve(Some(step)).await? {
            Start::Listening(server) => server.died_at(step).await,
            Start::Ended(status) => Server::is_death(step, status),
        }
    }

    /// The same install for another process on the same database, which has a directory of its own.
    pub fn beside(&self) -> Result<Self> {
        let beside = Self {
            program: self.program.clone(),
            directory: self.directory.join("beside"),
            database: self.database.clone(),
            token: self.token.clone(),
            app_id: self.app_id.clone(),
            flags: self.flags.clone(),
        };
        std::fs::create_dir_all(beside.data_dir())?;
        std::fs::copy(self.data_dir().join("root.key"), beside.data_dir().join("root.key"))?;
        Ok(beside)
    }

    /// Makes the app that the load works in.
    pub async fn make_app(&mut self, server: &Server) -> Result {
        let answer = self.ask(server, "POST", "/api/v1/apps", Some(&json!({"name": "crash"}))).await?;
        expect(&answer, 201)?["id"].as_str().unwrap_or_default().clone_into(&mut self.app_id);
        Ok(())
    }

    /// One question to the management API, asked again while the server is busy.
    pub async fn ask(&self, server: &Server, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        server.ask(&managed(&self.token, method, path, body)).await
    }

    /// A path of the app.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/apps/{}{rest}", self.app_id)
    }

    /// All items of a list.
    pub async fn list(&self, server: &Server, what: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        loop {
            let path = self.path(&format!("/{what}?limit=1000&offset={}", items.len()));
            let page = expect(&self.ask(server, "GET", &path, None).await?, 200)?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            if page["has_more"] != true {
                return Ok(items);
            }
        }
    }

    /// `grantd audit export`, checked by `grantd audit verify`; the lines of the export. The export before must be its past.
    pub async fn export(&self, server: &Server, out: &Path, before: Option<&Path>) -> Result<Vec<Value>> {
        let address = format!("http://{}", server.address);
        let mut export = self.command(&["audit", "export", "--format", "jsonl", "--server", &address, "--app"]);
        export.args([self.app_id.as_str(), "--output", "json", "--out"]).arg(out).env("GRANTD_PAT", &self.token);
        let done = self.run(&mut export).await?;
        if !done.status.success() {
            return fault(format!("audit export: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)));
        }
        let mut verify = self.command(&["audit", "verify", "--output", "json"]);
        verify.arg(out);
        if let Some(before) = before {
            verify.arg("--checkpoint").arg(before);
        }
        let done = self.run(&mut verify).await?;
        let verdict: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        if !done.status.success() || verdict["ok"] != true {
            let said = String::from_utf8_lossy(&done.stderr);
            return fault(format!("audit verify finds: {} {said}", verdict["problems"]));
        }
        let text = std::fs::read_to_string(out)?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// What became of a start.
pub enum Start {
    Listening(Box<Server>),
    Ended(ExitStatus),
}

/// A server that runs.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    drain: tokio::task::JoinHandle<()>,
}

impl Server {
    /// `kill -9`.
    pub async fn kill(mut self) -> Result<ExitStatus> {
        self.child.start_kill()?;
        self.end().await
    }

    /// Sends a signal by name.
    pub async fn signal(&self, name: &str) -> Result {
        let Some(id) = self.child.id() else { return fault("the server has ended") };
        // The shell's own: a program of this name is not on every machine.
        let words = ["-c", "kill -s \"$0\" \"$1\"", name, &id.to_string()];
        let status = Command::new("sh").args(words).status().await?;
        if status.success() { Ok(()) } else { fault(format!("kill -{name} failed")) }
    }

    /// Changes a limit of the process, in the words of `prlimit`.
    pub async fn limit(&self, limit: &str) -> Result {
        let Some(id) = self.child.id() else { return fault("the server has ended") };
        let status = Command::new("prlimit").args(["--pid", &id.to_string(), limit]).status().await?;
        if status.success() { Ok(()) } else { fault(format!("prlimit {limit} failed")) }
    }

    /// Waits for the end.
    pub async fn end(mut self) -> Result<ExitStatus> {
        let status = ended(&mut self.child).await?;
        // The log is whole when the pipe has closed.
        drop(self.drain.await);
        Ok(status)
    }

    /// Waits until it has died at its step.
    pub async fn died_at(self, step: &str) -> Result {
        Self::is_death(step, self.end().await?)
    }

    fn is_death(step: &str, status: ExitStatus) -> Result {
        if died_at_step(status) { Ok(()) } else { fault(format!("it did not die at {step} but ended with {status}")) }
    }

    /// Sends a request on a connection of its own, again while the server is busy.
    pub async fn ask(&self, request: &[u8]) -> Result<Answer> {
        let mut last = None;
        for _ in 0..ASKS_MAX {
            let answer = Connection::open(self.address).await?.send(request).await?;
            if answer.status != 503 {
                return Ok(answer);
            }
            last = Some(answer.shown());
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
        fault(format!("still unavailable: {}", last.unwrap_or_default()))
    }
}

async fn ended(child: &mut Child) -> Result<ExitStatus> {
    match timeout(PROCESS_WAIT, child.wait()).await {
        Ok(status) => Ok(status?),
        Err(_) => fault("the server did not end"),
    }
}

/// A step ends the process by SIGABRT, which nothing else here sends.
pub fn died_at_step(status: ExitStatus) -> bool {
    const SIGABRT: i32 = 6;
    status.signal() == Some(SIGABRT)
}

/// The body of an answer that must have this status.
pub fn expect(answer: &Answer, status: u16) -> Result<Value> {
    if answer.status == status {
        Ok(answer.json())
    } else {
        fault(format!("expected {status}, got {}", answer.shown()))
    }
}
