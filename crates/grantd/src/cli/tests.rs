//! Whole command lines against a scripted management API.

mod auth;
mod completion;
mod confirm;
mod connect;
mod golden;
mod identity;
mod import;
mod messages;
mod once;
mod overview;
mod revocation;
mod templates;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::term::testing::{person, term};
use super::*;

const APP: &str = "0199c0de-0000-7000-8000-0000000000a1";
const ID: &str = "0199c0de-0000-7000-8000-00000000beef";
const PAT: &str = "grantd_pat_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What one request was, and what it is answered with.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    target: String,
    authorization: String,
    if_match: Option<String>,
    body: Value,
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<Vec<(u16, String)>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Server {
    url: String,
    script: Script,
}

impl Server {
    /// Answers in this order; the last answer again and again.
    async fn start(answers: &[(u16, Value)]) -> Self {
        let answers = answers.iter().map(|(status, body)| (*status, body.to_string())).collect();
        Self::start_raw(answers).await
    }

    async fn start_raw(answers: Vec<(u16, String)>) -> Self {
        let script = Script { answers: Arc::new(Mutex::new(answers)), ..Script::default() };
        let shared = script.clone();
        let app = Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
            shared.seen.lock().unwrap().push(Seen {
                method: method.to_string(),
                target: uri.to_string(),
                authorization: headers.get("authorization").map(text).unwrap_or_default(),
                if_match: headers.get("if-match").map(text),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            });
            let mut answers = shared.answers.lock().unwrap();
            let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            (
                StatusCode::from_u16(status).unwrap(),
                [("location", "https://else.example/"), ("etag", "\"as read\"")],
                body,
            )
                .into_response()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, script }
    }

    async fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await
    }

    async fn run_with(&self, arguments: &[&str], stdin: &str, env: &[(&str, &str)]) -> Done {
        let arguments = [arguments, &["--server", &self.url]].concat();
        grantd(&arguments, stdin, env).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }
}

struct Done {
    exit: Exit,
    out: String,
    err: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}\n{}", self.out, self.err))
    }
}

async fn grantd(arguments: &[&str], stdin: &str, env: &[(&str, &str)]) -> Done {
    let (term, out, err) = term(stdin);
    let arguments = std::iter::once("grantd").chain(arguments.iter().copied()).map(OsString::from);
    let exit = run(arguments, env.iter().copied().collect(), term).await;
    Done { exit, out: out.text(), err: err.text() }
}

fn grant() -> Value {
    json!({
        "grant_id": ID, "app_id": APP, "grant_kind": "managed_secret", "provider_id": "stripe",
        "managed_secret_id": ID, "managed_secret_name": "Stripe", "credential_id": ID, "principal_type": "system",
        "label": null, "status": "active", "reason": null, "tenant": null, "tenant_exempt": false,
        "allow_any_host": true, "expires_at": null, "last_used_at": null,
        "created_at": "2025-11-24T10:00:00.000Z", "revoked_at": null, "version": 1,
    })
}

fn secret() -> Value {
    json!({
        "id": ID, "slug": "stripe", "name": "Stripe", "template": null, "credential_type": "bearer_token",
        "injection_header": "Authorization", "injection_format": "Bearer {token}", "injections": [], "fields": [],
        "allowed_hosts": ["api.stripe.com"], "allow_any_host": false, "credential_id": ID, "token_generation": ID,
        "created_at": "2025-11-24T10:00:00.000Z", "rotated_at": null, "version": 1, "grant_id": ID,
    })
}

fn page(items: &[Value]) -> Value {
    json!({"items": items, "total": items.len(), "limit": 100, "offset": 0, "has_more": false})
}

fn refusal(error: &str) -> Value {
    json!({"error": error, "message": "No.", "hint": "Do this."})
}

#[test]
fn the_tree_is_sound_and_every_help_has_an_example() {
    fn walk(command: &clap::Command) {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(examples.contains("Example"), "{} --help has no example", command.get_name());
        assert!(examples.contains("grantd "), "{}", command.get_name());
        // clap would mix up the values of two arguments of one id.
        let is_global = |id: &str| Cli::command().get_arguments().any(|a| a.is_global_set() && a.get_id() == id);
        let clash = command.get_arguments().find(|a| !a.is_global_set() && is_global(a.get_id().as_str()));
        assert!(clash.is_none(), "{} {clash:?}", command.get_name());
        command.get_subcommands().filter(|c| c.get_name() != "help").for_each(walk);
    }
    Cli::command().debug_assert();
    walk(&Cli::command());
}

/// The words of a command line, as a shell would pass them on; a variable is an id.
fn words(line: &str) -> Vec<String> {
    let line = line.split("   ").next().unwrap().split(['<', '>', '|']).next().unwrap();
    let (mut words, mut word, mut quote, mut is_there) = (Vec::new(), String::new(), None, false);
    for c in line.trim().chars().chain([' ']) {
        match quote {
            None if c == ' ' => words.extend(std::mem::take(&mut is_there).then(|| std::mem::take(&mut word))),
            // An empty one is a word, too.
            None if matches!(c, '\'' | '"') => (quote, is_there) = (Some(c), true),
            Some(open) if open == c => quote = None,
            _ => {
                word.push(c);
                is_there = true;
            }
        }
    }
    words.iter().map(|word| if word.starts_with('$') { ID.to_owned() } else { word.clone() }).collect()
}

#[track_caller]
fn assert_parses(line: &str) {
    if let Err(error) = Cli::try_parse_from(words(line)) {
        panic!("{line}\n{error}");
    }
}

#[test]
fn every_example_is_a_command_line_that_parses() {
    fn walk(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.replace("\\\n      ", "").lines().map(str::trim).filter(|line| line.starts_with("grantd ")) {
            assert_parses(line);
        }
        command.get_subcommands().filter(|c| c.get_name() != "help").for_each(walk);
    }
    walk(&Cli::command());
}

#[test]
fn every_command_line_of_the_pages_parses() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for page in pages.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        let text = text.split("\\\n").map(str::trim_start).collect::<String>();
        for block in text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            for line in block.lines().flat_map(|line| line.split(" | ")).map(str::trim) {
                if line.starts_with("grantd ") {
                    assert_parses(line);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 20, "only {seen} command lines were found: are the pages where they were?");
}

#[tokio::test]
async fn refusals_have_their_exit_codes_and_one_line() {
    for (status, error, exit) in [
        (400, "invalid_request", Exit::Error),
        (403, "role_required", Exit::Forbidden),
        (404, "grant_not_found", Exit::NotFound),
        (409, "conflict", Exit::Conflict),
        (422, "invalid_value", Exit::Error),
        (429, "rate_limit_exceeded", Exit::RateLimited),
        (503, "storage_unavailable", Exit::Error),
    ] {
        let server = Server::start(&[(status, refusal(error))]).await;
        let done = server.run(&["grants", "show", ID]).await;
        assert_eq!((done.exit, done.out.as_str(), done.err.as_str()), (exit, "", "error: No. Do this.\n"), "{status}");
        let done = server.run(&["grants", "show", ID, "--output", "json"]).await;
        let answer: Value = serde_json::from_str(&done.err).unwrap();
        assert_eq!(answer, json!({"error": error, "message": "No.", "hint": "Do this."}));
    }
}

#[tokio::test]
async fn mistyped_command_lines_are_usage_errors() {
    for arguments in [
        &["nonsense"][..],
        &["grants"],
        &["apps", "create"],
        &["keys", "revoke"],
        &["keys", "revoke", ID, "--key", ID],
        &["keys", "show", ".."],
        &["keys", "mint", "--name", "x", "--expires-in", "90"],
        &["grants", "update", ID],
        &["grants", "update", ID, "--tenant", "x", "--clear-tenant"],
        &["apps", "update", "--tenant-mode", "sometimes"],
        &["audit", "list", "--since", "yesterday"],
        &["audit", "list", "--context", "user_id"],
        &["apps", "list", "--server", "ftp://x"],
    ] {
        let done = grantd(arguments, "", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await;
        assert_eq!(done.exit, Exit::Usage, "{arguments:?}: {}", done.err);
        assert!(done.out.is_empty(), "{arguments:?}");
        let json = [arguments, &["--output", "json"]].concat();
        let done = grantd(&json, "", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await;
        let answer: Value = serde_json::from_str(&done.err).unwrap_or_else(|_| panic!("{}", done.err));
        assert_eq!(answer["error"], "usage", "{arguments:?}");
    }
    let done = grantd(&["keys", "mint", "--name", "x", "--expires-in", "90"], "", &[]).await;
    assert!(done.err.contains("such as 90d"), "{}", done.err);
}

#[tokio::test]
async fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["--version"], &["keys", "mint", "--help"]] {
        let done = grantd(arguments, "", &[]).await;
        assert_eq!((done.exit, done.err.as_str()), (Exit::Ok, ""), "{arguments:?}");
        assert!(!done.out.is_empty() && !done.out.contains('\u{1b}'));
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(grantd(&["completion", shell], "", &[]).await.out.contains("managed-secrets"), "{shell}");
    }
}

#[tokio::test]
async fn without_a_token_one_is_told_how_to_get_one() {
    let server = Server::start(&[(200, page(&[]))]).await;
    for env in [
        &[("GRANTD_DATA_DIR", "/nowhere")][..],
        &[("GRANTD_PAT", ""), ("GRANTD_DATA_DIR", "/nowhere")],
        &[("GRANTD_PAT", "nonsense")],
        &[("GRANTD_PAT", "alter_rk_x")],
    ] {
        let done = server.run_with(&["apps", "list"], "", env).await;
        assert_eq!(done.exit, Exit::NotSignedIn, "{env:?}");
        assert!(done.err.contains("GRANTD_PAT") && done.err.lines().count() == 1, "{}", done.err);
    }
    assert!(server.seen().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_what_to_do() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let done = grantd(&["apps", "list", "--server", &url], "", &[("GRANTD_PAT", PAT)]).await;
    assert_eq!(done.exit, Exit::Error);
    assert_eq!(
        done.err,
        format!(
            "error: cannot reach grantd at {url}: is it running? \
             Start it with `grantd serve`, or `grantd dev` to try things out, or set --server.\n"
        )
    );
}

#[tokio::test]
async fn answers_that_are_not_grantds_are_refused() {
    let html = || "<html>".to_owned();
    for (status, needle) in
        [(200, "does not understand"), (502, "not as grantd does"), (302, "redirect to https://else")]
    {
        let server = Server::start_raw(vec![(status, html())]).await;
        let done = server.run(&["apps", "list"]).await;
        assert_eq!(done.exit, Exit::Error, "{status}");
        assert!(done.err.contains(needle) && done.err.contains("--server"), "{}", done.err);
        assert_eq!(server.seen().len(), 1, "no redirect is followed");
    }
}

#[tokio::test]
async fn a_list_keeps_the_servers_shape_and_fields_choose() {
    let server = Server::start(&[(200, page(&[grant(), grant()]))]).await;
    let done = server.run(&["grants", "list", "--status", "active", "--search", "a b&c"]).await;
    assert_eq!(done.exit, Exit::Ok);
    assert_eq!(done.json()["items"][0]["grant_id"], ID);
    assert_eq!(done.json()["total"], 2);
    assert!(done.err.contains("warning: allow_any_host is on, ") && !done.out.contains("warning"), "{}", done.err);
    let seen = &server.seen()[0];
    assert_eq!(seen.target, format!("/api/v1/apps/{APP}/grants?search=a+b%26c&status=active"));
    assert_eq!(seen.authorization, format!("Bearer {PAT}"));

    let done = server.run(&["grants", "list", "--fields", "status,grant_id", "--output", "jsonl"]).await;
    let line = format!("{{\"status\":\"active\",\"grant_id\":\"{ID}\"}}\n");
    assert_eq!(done.out, line.repeat(2));
    let done = server.run(&["grants", "list", "--fields", "stauts"]).await;
    assert_eq!(done.exit, Exit::Usage);
    assert!(done.err.contains("there is no `stauts`; there are: grant_id app_id"), "{}", done.err);
    let done = server.run(&["grants", "list", "--output", "table"]).await;
    assert!(done.out.starts_with("GRANT") && done.out.contains("WARNING"), "{}", done.out);
    let done = server.run(&["grants", "list", "--output", "table", "--fields", "grant_id,provider_id"]).await;
    assert!(done.out.starts_with("GRANT_ID"), "{}", done.out);
}

#[tokio::test]
async fn hostile_text_from_the_server_does_not_reach_the_terminal() {
    let mut hostile = grant();
    hostile["label"] = json!("\u{1b}]0;x\u{7}\u{202e}");
    let server = Server::start(&[(200, page(&[hostile]))]).await;
    for output in ["table", "json", "jsonl"] {
        let done = server.run(&["grants", "list", "--output", output]).await;
        assert!(done.out.chars().all(|c| c == '\n' || !table::is_deceptive(c)), "{output}: {:?}", done.out);
    }
}

#[tokio::test]
async fn the_only_app_is_chosen_and_several_are_listed() {
    let app = |id: &str, name: &str| {
        json!({"id": id, "name": name, "description": null, "website_url": null, "state": "active", "tenant_key": null,
            "tenant_mode": "off", "retrieve": "on", "indexed_context_keys": [], "connect_sign_in": "off", "return_origins": [],
            "created_at": "2025-11-24T10:00:00.000Z", "version": 1})
    };
    let env = [("GRANTD_PAT", PAT)];
    let one = Server::start(&[(200, page(&[app(APP, "shop")])), (200, page(&[]))]).await;
    assert_eq!(one.run_with(&["grants", "list"], "", &env).await.exit, Exit::Ok);
    assert_eq!(one.seen()[1].target, format!("/api/v1/apps/{APP}/grants"));

    let two = Server::start(&[(200, page(&[app(APP, "shop"), app(ID, "blog")]))]).await;
    let done = two.run_with(&["grants", "list"], "", &env).await;
    assert_eq!(done.exit, Exit::Usage);
    assert!(done.err.contains("(shop)") && done.err.contains("(blog)") && done.err.contains("--app"), "{}", done.err);

    let none = Server::start(&[(200, page(&[]))]).await;
    assert!(none.run_with(&["grants", "list"], "", &env).await.err.contains("grantd apps create"));
}

#[tokio::test]
async fn the_directory_may_name_the_app() {
    let root = std::env::temp_dir().join(format!("grantd-link-{}", std::process::id()));
    let below = root.join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::create_dir_all(root.join(".grantd")).unwrap();
    std::fs::write(root.join(".grantd/config.toml"), format!("app_id = \"{APP}\"\nother = 1\n")).unwrap();
    let (term, _, _) = term("");
    let context = Context { globals: Globals::default(), env: Env::default(), term, directory: below };
    assert_eq!(context.named_app().unwrap().as_deref(), Some(APP));
}

#[tokio::test]
async fn a_secret_comes_from_stdin_a_file_or_with_a_warning() {
    let server = Server::start(&[(200, secret())]).await;
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)];
    let create = ["managed-secrets", "create", "--name", "Stripe", "--allowed-host", "a.example,b.example", "--value"];
    let path = std::env::temp_dir().join(format!("grantd-value-{}", std::process::id()));
    std::fs::write(&path, "from file\n").unwrap();
    let at_path = format!("@{}", path.display());
    for (value, sent, warned) in
        [("-", "from stdin", false), (at_path.as_str(), "from file", false), ("-inline", "-inline", true)]
    {
        let done = server.run_with(&[&create[..], &[value]].concat(), "from stdin\n", &env).await;
        assert_eq!(done.exit, Exit::Ok, "{}", done.err);
        assert_eq!(done.err.contains("warning: --value on the command line"), warned, "{}", done.err);
        let body = server.seen().pop().unwrap().body;
        assert_eq!((&body["value"], &body["allowed_hosts"]), (&json!(sent), &json!(["a.example", "b.example"])));
        assert_eq!(done.json()["grant_id"], ID);
    }
    let done = server.run_with(&[&create[..], &["-", "--field", "k=-"]].concat(), "x", &env).await;
    assert_eq!(done.exit, Exit::Usage);
    assert!(done.err.contains("stdin was read already"), "{}", done.err);
    let done = server.run_with(&[&create[..], &["@/nowhere/x"]].concat(), "", &env).await;
    assert!(done.err.contains("cannot read /nowhere/x"), "{}", done.err);
}

#[tokio::test]
async fn a_field_that_may_be_secret_is_warned_about() {
    let server = Server::start(&[(200, secret())]).await;
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)];
    let create = ["managed-secrets", "create", "--name", "S", "--allowed-host", "a.example", "--value", "-", "--field"];
    for (field, warned) in [
        ("secret_key=k", true),
        ("application_key=k", true),
        ("of_nobody=k", true),
        ("region=eu", false),
        ("store=acme", false),
    ] {
        let done = server.run_with(&[&create[..], &[field]].concat(), "x", &env).await;
        let name = field.split('=').next().unwrap();
        let warning = format!("warning: --field {name}= on the command line");
        assert_eq!((done.exit, done.err.contains(&warning)), (Exit::Ok, warned), "{}", done.err);
        assert!(!warned || done.err.contains(&format!("`--field {name}=@FILE`")), "{}", done.err);
    }
}

#[tokio::test]
async fn objects_are_named_by_position_or_flag() {
    let server = Server::start(&[(200, secret())]).await;
    for arguments in [&["managed-secrets", "show", "stripe"][..], &["managed-secrets", "show", "--secret", "stripe"]] {
        assert_eq!(server.run(arguments).await.exit, Exit::Ok);
        assert_eq!(server.seen().pop().unwrap().target, format!("/api/v1/apps/{APP}/managed-secrets/stripe"));
    }
    let done = server.run(&["managed-secrets", "set-allowed-hosts", "stripe", "--host", "a.example"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.body), ("PUT", json!({"allowed_hosts": ["a.example"]})));
}

#[tokio::test]
async fn an_export_appears_when_it_is_complete() {
    let directory = std::env::temp_dir().join(format!("grantd-export-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let out = directory.join("audit.jsonl");
    let text = "{\"type\":\"header\"}\n".to_owned();
    let server = Server::start_raw(vec![(200, text.clone()), (200, text.clone()), (403, "{}".to_owned())]).await;
    let done = server.run(&["audit", "export", "--format", "csv", "--out", out.to_str().unwrap()]).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Ok, ""), "{}", done.err);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
    assert_eq!(server.seen()[0].target, format!("/api/v1/apps/{APP}/audit/export?format=csv"));
    assert_eq!(server.run(&["audit", "export", "--organization", "--app", APP]).await.exit, Exit::Usage);

    let env = [("GRANTD_PAT", PAT)];
    let done =
        server.run_with(&["audit", "export", "--organization", "--context", "a=b", "--context", "c=d"], "", &env).await;
    assert_eq!((done.exit, done.out), (Exit::Ok, text));
    assert_eq!(server.seen()[1].target, "/api/v1/audit/export?context=a%3Db%0Ac%3Dd&format=jsonl");

    let failed = directory.join("failed.jsonl");
    let done = server.run(&["audit", "export", "--out", failed.to_str().unwrap()]).await;
    assert_eq!(done.exit, Exit::Forbidden);
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["audit.jsonl"], "nothing half-made is left");
}

#[tokio::test]
async fn config_show_says_where_values_come_from() {
    let env = [("GRANTD_DATABASE_URL", "postgres://u:CANARY@h/x"), ("GRANTD_LOG", "warn")];
    let done = grantd(&["config", "show", "--data-dir", "/d", "--replicas", "2", "--output", "json"], "", &env).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let shown = done.json();
    assert_eq!(shown["data_dir"], json!({"value": "/d", "source": "--data-dir"}));
    assert_eq!(shown["replicas"], json!({"value": 2, "source": "--replicas"}));
    assert_eq!(shown["root_key"], json!({"value": "file:/d/root.key", "source": "default"}));
    assert_eq!(shown["database_url"]["value"], "postgres://u:***@h:5432/x?sslmode=verify-full");
    let table = grantd(&["config", "show", "--output", "table"], "", &env).await.out;
    assert!(table.contains("GRANTD_LOG") && !table.contains("CANARY"), "{table}");
    let done = grantd(&["config", "show", "--output", "json"], "", &[("GRANTD_LISTN", "x")]).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(done.err.contains("GRANTD_LISTEN"), "{}", done.err);
}

#[tokio::test]
async fn verify_is_offline_and_its_exit_code_is_the_verdict() {
    let path = std::env::temp_dir().join(format!("grantd-verify-{}.jsonl", std::process::id()));
    std::fs::write(&path, "{\"type\":\"event\"}\n").unwrap();
    let done = grantd(&["audit", "verify", path.to_str().unwrap(), "--output", "json"], "", &[]).await;
    assert_eq!(done.exit, Exit::Error);
    assert_eq!(done.json()["ok"], false);
    assert_eq!(done.err, "", "the report says it all");
    let done = grantd(&["audit", "verify", "/nowhere", "--output", "json"], "", &[]).await;
    assert!(done.err.contains("cannot read /nowhere"), "{}", done.err);
}

#[tokio::test]
async fn a_request_without_a_key_mints_one_for_the_grant_and_revokes_it() {
    let key = json!({
        "api_key": "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl", "id": ID, "name": "grantd request",
        "key_prefix": "alter_rk_aaaa", "key_type": "rk", "scopes": [], "scope_version": 1, "cidr_allowlist": null,
        "rate_limit_rpm": null, "effective_rate_limit_rpm": null, "rate_limit_source": null,
        "allow_unsigned_identity": false, "created_at": "2025-11-24T10:00:00.000Z", "expires_at": null,
        "deprecated_at": null, "revoked_at": null, "last_used_at": null, "parent_key_id": null,
    });
    let server =
        Server::start(&[(200, grant()), (200, key.clone()), (403, refusal("grant_revoked")), (200, key)]).await;
    let done = server.run(&["request", "GET", "https://api.example.com/v1", "--grant", ID]).await;
    assert_eq!((done.exit, done.err.as_str()), (Exit::Forbidden, "error: No. Do this.\n"));
    let targets: Vec<String> = server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let keys = format!("POST /api/v1/apps/{APP}/keys");
    let grant = format!("GET /api/v1/apps/{APP}/grants/{ID}");
    assert_eq!(targets, [grant, keys.clone(), "POST /sdk/token".to_owned(), format!("{keys}/{ID}/revoke")]);
    let minted = &server.seen()[1].body;
    assert_eq!(minted["scopes"], json!([format!("tokens:retrieve:{ID}"), "audit:emit"]));
    assert_eq!(minted["expires_in_seconds"], 300);

    let env = [("ALTER_API_KEY", "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl"), ("ALTER_BASE_URL", "http://127.0.0.1:1")];
    let server = Server::start(&[(403, refusal("grant_revoked"))]).await;
    let done = server.run_with(&["request", "GET", "https://api.example.com/v1", "--grant", ID], "", &env).await;
    assert_eq!((done.exit, server.seen().len()), (Exit::Forbidden, 1), "--server counts: {}", done.err);
}

#[tokio::test]
async fn an_export_that_breaks_off_leaves_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    });
    let out = std::env::temp_dir().join(format!("grantd-broken-{}.jsonl", std::process::id()));
    let arguments = ["audit", "export", "--server", &url, "--out", out.to_str().unwrap()];
    let done = grantd(&arguments, "", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(done.err.contains("broke off") && !out.exists(), "{}", done.err);
}
