//! The binary, as processes in directories of their own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::NoTls;

use crate::client::Replica;

const BINARY: &str = env!("CARGO_BIN_EXE_grantd");

/// A directory that goes away.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("grantd-cluster-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A serving process.
pub struct Server {
    child: Child,
    pub replica: Replica,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Ends it as an operator would; whether it said that all was well.
    pub fn stop(mut self) -> bool {
        signal("TERM", &self.child.id().to_string());
        self.child.wait().unwrap().success()
    }
}

/// Sends a signal by name. By the shell's own command: a program for it is not on every machine.
pub fn signal(name: &str, pid: &str) {
    assert!(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, pid]).status().unwrap().success());
}

fn command(database_url: &str, data_dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).arg("--data-dir").arg(data_dir).current_dir(data_dir.parent().unwrap());
    // What xtask tells this program is no setting of that one.
    command.env_clear().env("GRANTD_DATABASE_URL", database_url).env("GRANTD_LOG", "warn");
    command.stdin(Stdio::null());
    command
}

/// One install, and this many processes that serve it.
pub fn serve(place: &Place, database_url: &str, replicas: usize) -> Vec<Server> {
    let first = place.0.join("replica-0");
    let init = command(database_url, &first, &["init", "--output", "json"]).output().unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let pat = std::fs::read_to_string(first.join("operator.pat")).unwrap().trim().to_owned();
    let root_key = first.join("root.key");
    let start = |n: usize| {
        let directory = place.0.join(format!("replica-{n}"));
        let mut serve = command(database_url, &directory, &["serve", "--listen", "127.0.0.1:0"]);
        serve.env("GRANTD_ROOT_KEY", format!("file:{}", root_key.display()));
        serve.env("GRANTD_REPLICAS", replicas.to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = Vec::new();
        let base = loop {
            let line = said.next().unwrap_or_else(|| panic!("grantd did not start:\n{}", told.join("\n"))).unwrap();
            if let Some((_, base)) = line.split_once("listening on ") {
                break base.trim().to_owned();
            }
            told.push(line);
        };
        // What it says later is shown, so that a failure has its causes beside it.
        std::thread::spawn(move || said.map_while(Result::ok).for_each(|line| eprintln!("replica {n}: {line}")));
        Server { child, replica: Replica::new(base, pat.clone()) }
    };
    (0..replicas).map(start).collect()
}

/// Verifies an export as anybody could: with the binary, and no server.
pub fn verify(place: &Place, export: &str) -> serde_json::Value {
    let file = place.0.join("export.jsonl");
    std::fs::write(&file, export).unwrap();
    let output = Command::new(BINARY).args(["audit", "verify", "--output", "json"]).arg(&file).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success() && report["ok"] == true, "{report}");
    report
}

/// A way into the database beside the servers.
pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database of this run alone.
pub async fn new_database(admin_url: &str, name: &str) -> String {
    let admin = connect(admin_url).await;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")).await.unwrap();
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}
