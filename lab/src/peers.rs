//! What grantd is measured against: a bare axum server in the lab itself, and OpenBao and nginx where they are installed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::grantd::{Server, call, free_address, request};
use crate::host::instant;
use crate::plan::{FIXED_GRANT, Plan};
use crate::{Error, Result};

/// A peer that is not ready after this long is left out.
const PEER_READY_MAX: Duration = Duration::from_secs(30);
/// How often it is asked.
const PEER_POLL_EVERY: Duration = Duration::from_millis(200);

/// The same framing as a retrieve, and nothing of its work: takes the body in, answers `bytes` bytes of JSON.
pub async fn serve_axum(listener: TcpListener, bytes: usize) -> Result {
    let answer = fixed_answer(bytes);
    let router = Router::new()
        .route(
            "/sdk/token",
            post(|State(answer): State<Bytes>, _: Bytes| async { ([(CONTENT_TYPE, "application/json")], answer) }),
        )
        .route("/readyz", axum::routing::get(|| async { "ready" }))
        .with_state(answer);
    axum::serve(listener, router).await.map_err(|e| Error::because("the bare server ended", e))
}

fn fixed_answer(bytes: usize) -> Bytes {
    let filled = |filling: &str| format!(r#"{{"access_token":"{filling}","grant_id":"{FIXED_GRANT}"}}"#);
    Bytes::from(filled(&"t".repeat(bytes.saturating_sub(filled("").len()))))
}

/// The lab's own program, serving the bare answer.
pub fn start_axum(directory: &Path, bytes: usize) -> Result<Server> {
    let lab = std::env::current_exe().map_err(|e| Error::because("cannot find the lab's own program", e))?;
    let address = free_address()?;
    let mut command = Command::new(lab);
    command.arg("axum").arg("--listen").arg(address.to_string()).arg("--bytes").arg(bytes.to_string());
    Server::start(command, address, &directory.join("axum.log"), "/readyz")
}

/// OpenBao as it is run for real: raft storage, sealed and unsealed, a token with a policy, and its file audit device, which it
/// does not sync. Answers the server and a plan that reads one of its secrets, of as many characters as grantd's.
pub fn start_openbao(program: &Path, directory: &Path, secrets: usize) -> Result<(Server, Plan)> {
    let home = directory.join("openbao");
    let (address, cluster) = (free_address()?, free_address()?);
    let failed = |e| Error::because("cannot write OpenBao's configuration", e);
    fs::create_dir_all(home.join("raft")).map_err(failed)?;
    let configuration = home.join("bao.hcl");
    let text = format!(
        "disable_mlock = true\napi_addr = \"http://{address}\"\ncluster_addr = \"http://{cluster}\"\n\
         storage \"raft\" {{\n  path = \"{home}/raft\"\n  node_id = \"lab\"\n}}\n\
         listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n}}\n\
         audit \"file\" \"lab\" {{\n  options {{\n    file_path = \"{home}/audit.log\"\n  }}\n}}\n",
        home = home.display()
    );
    fs::write(&configuration, text).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("server").arg("-config").arg(&configuration);
    let server = Server::start(command, address, &home.join("bao.log"), "/v1/sys/seal-status")?;
    let open = |method: &str, path: &str, token: &str, body: &Value| -> Result<Value> {
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("x-vault-token", token)] };
        let answer = call(address, method, path, headers, body.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    };
    let opened = open("PUT", "/v1/sys/init", "", &json!({"secret_shares": 1, "secret_threshold": 1}))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = text(&opened["root_token"]);
    open("PUT", "/v1/sys/unseal", "", &json!({"key": opened["keys"][0]}))?;
    // It elects itself leader first, and upgrades the new mount after.
    eventually(|| open("POST", "/v1/sys/mounts/kv", &root, &json!({"type": "kv", "options": {"version": "2"}})))?;
    let value = json!({"data": {"access_token": "t".repeat(crate::fill::TOKEN_CHARS)}});
    eventually(|| open("POST", "/v1/kv/data/g0", &root, &value))?;
    for number in 1..secrets {
        open("POST", &format!("/v1/kv/data/g{number}"), &root, &value)?;
    }
    let policy = json!({"policy": "path \"kv/data/*\" { capabilities = [\"read\"] }"});
    open("PUT", "/v1/sys/policies/acl/lab", &root, &policy)?;
    let made = open("POST", "/v1/auth/token/create", &root, &json!({"policies": ["lab"], "no_parent": true}))?;
    let token = text(&made["auth"]["client_token"]);
    let read = |number| request("GET", &format!("/v1/kv/data/g{number}"), &[("x-vault-token", &token)], b"");
    let requests: Vec<Vec<u8>> = (0..secrets).map(read).collect();
    Ok((server, Plan::Plain { requests: requests.into(), needle: Arc::from(&b"\"access_token\":\"ttt"[..]) }))
}

/// Tries again for half a minute.
fn eventually<T>(run: impl Fn() -> Result<T>) -> Result<T> {
    let began = instant();
    loop {
        match run() {
            Err(_) if began.elapsed() < PEER_READY_MAX => std::thread::park_timeout(PEER_POLL_EVERY),
            other => return other,
        }
    }
}

/// nginx answering a fixed body of `bytes` bytes: what a server that does nothing at all reaches with the same client.
pub fn start_nginx(program: &Path, directory: &Path, bytes: usize) -> Result<Server> {
    let home = directory.join("nginx");
    let address = free_address()?;
    let failed = |e| Error::because("cannot write nginx's configuration", e);
    fs::create_dir_all(&home).map_err(failed)?;
    let answer = String::from_utf8_lossy(&fixed_answer(bytes)).into_owned();
    let configuration = home.join("nginx.conf");
    let text = format!(
        "daemon off;\nworker_processes auto;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\n\
         events {{}}\nhttp {{\n  access_log off;\n  keepalive_requests 100000000;\n  client_body_temp_path {home}/body;\n\
         proxy_temp_path {home}/proxy;\n  fastcgi_temp_path {home}/fastcgi;\n  uwsgi_temp_path {home}/uwsgi;\n  scgi_temp_path {home}/scgi;\n\
         server {{\n    listen {address};\n    location / {{\n      default_type application/json;\n      return 200 '{answer}';\n    }}\n  }}\n}}\n",
        home = home.display()
    );
    fs::write(&configuration, text).map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("-e").arg(home.join("error.log")).arg("-c").arg(&configuration).arg("-p").arg(&home);
    Server::start(command, address, &home.join("nginx.log"), "/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Load, run};
    use crate::plan::{Pick, Retrieve};

    /// A bare server on its own thread, which ends with the test's process.
    fn server(bytes: usize) -> std::net::SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            crate::grantd::block_on(async { serve_axum(TcpListener::from_std(listener).unwrap(), bytes).await })
        });
        address
    }

    fn plan(is_fixed: bool) -> Plan {
        let grants =
            (0..7).map(|_| grantd_wire::ids::GrantId::from_uuid(grantd_domain::env::new_uuid(&crate::host::Host)));
        Plan::Retrieve(Retrieve { key: "k".into(), grants: grants.collect(), pick: Pick::Each, is_fixed })
    }

    const LOAD: Load = Load { connections: 3, threads: 2, warm_up: Duration::ZERO, measured: Duration::from_millis(1) };

    #[test]
    fn every_request_is_counted_once() {
        let outcome = run(server(2_000), &plan(true), LOAD).unwrap();
        assert_eq!(outcome.requests, 7);
        let figures = outcome.figures();
        assert!(figures.per_second > 0.0 && figures.p50_us <= figures.p99_us && figures.p99_us <= figures.max_us);
    }

    #[test]
    fn an_answer_of_another_grant_makes_the_case_void() {
        let error = run(server(2_000), &plan(false), LOAD).err().unwrap().to_string();
        assert!(error.starts_with("void: status 200"), "{error}");
    }

    #[test]
    fn a_refusal_makes_the_case_void() {
        let requests = Arc::from([crate::grantd::request("POST", "/elsewhere", &[], b"{}")]);
        let plan = Plan::Plain { requests, needle: Arc::from(&b"x"[..]) };
        // The first answer ends it; how long that may take is not the point.
        let load = Load { measured: Duration::from_mins(1), ..LOAD };
        let error = run(server(2_000), &plan, load).err().unwrap().to_string();
        assert!(error.starts_with("void: status 404"), "{error}");
    }

    #[test]
    fn the_fixed_answer_has_the_size_that_was_asked_for() {
        assert_eq!(fixed_answer(2_000).len(), 2_000);
    }
}
