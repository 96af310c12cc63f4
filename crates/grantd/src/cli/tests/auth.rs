//! `auth login` and what it saves; `link`; manual pages.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::scratch::Scratch;

const OTHER: &str = "grantd_pat_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn whoami() -> Value {
    json!({"operator_id": ID, "organization_id": ID, "email": "ops@example.com", "role": "admin", "pat_id": ID, "expires_at": null})
}

/// With the home directory of a user who never signed in.
async fn at_home(server: &Server, home: &Scratch, arguments: &[&str], stdin: &str) -> Done {
    server.run_with(arguments, stdin, &[("HOME", &home.path(""))]).await
}

fn last_authorization(server: &Server) -> String {
    server.seen().last().unwrap().authorization.clone()
}

#[tokio::test]
async fn a_login_is_tried_saved_for_its_server_and_used() {
    let (home, server) = (Scratch::new(), Server::start(&[(200, whoami())]).await);
    let done = at_home(&server, &home, &["auth", "whoami"], "").await;
    assert_eq!(done.exit, Exit::NotSignedIn, "{}", done.err);

    let done = at_home(&server, &home, &["auth", "login"], &format!("{PAT}\n")).await;
    assert_eq!((done.exit, &done.json()["email"]), (Exit::Ok, &json!("ops@example.com")), "{}", done.err);
    assert!(!done.out.contains(PAT) && !done.err.contains(PAT));
    let file = home.0.join(".config/grantd/auth.toml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(at_home(&server, &home, &["auth", "whoami"], "").await.exit, Exit::Ok);
    assert_eq!(last_authorization(&server), format!("Bearer {PAT}"));

    // Another server gets nothing of it.
    let other = Server::start(&[(200, whoami())]).await;
    let done = at_home(&other, &home, &["auth", "whoami"], "").await;
    assert_eq!((done.exit, other.seen().len()), (Exit::NotSignedIn, 0));
    assert_eq!(at_home(&other, &home, &["auth", "login"], OTHER).await.exit, Exit::Ok);
    let done = at_home(&server, &home, &["auth", "status"], "").await.json();
    assert_eq!(done["saved_servers"].as_array().unwrap().len(), 2);
    assert_eq!(at_home(&server, &home, &["auth", "whoami"], "").await.exit, Exit::Ok);
    assert_eq!(last_authorization(&server), format!("Bearer {PAT}"));

    assert_eq!(at_home(&server, &home, &["auth", "logout"], "").await.exit, Exit::Ok);
    assert_eq!(at_home(&server, &home, &["auth", "logout"], "").await.exit, Exit::NotFound);
    assert_eq!(at_home(&server, &home, &["auth", "whoami"], "").await.exit, Exit::NotSignedIn);
    assert_eq!(at_home(&other, &home, &["auth", "whoami"], "").await.exit, Exit::Ok);
}

#[tokio::test]
async fn a_token_that_the_server_does_not_know_is_not_saved() {
    let refusal = json!({"error": "session_required", "message": "no", "details": {}});
    let (home, server) = (Scratch::new(), Server::start(&[(401, refusal)]).await);
    let done = at_home(&server, &home, &["auth", "login"], PAT).await;
    assert_eq!((done.exit, home.names("")), (Exit::NotSignedIn, Vec::new()), "{}", done.err);
    let done = at_home(&server, &home, &["auth", "login"], "alter_rk_something").await;
    assert!(done.exit == Exit::NotSignedIn && done.err.contains("API key"), "{}", done.err);
    assert_eq!(server.seen().len(), 1, "what is no token is not even tried");
}

#[tokio::test]
async fn a_file_of_tokens_that_others_can_read_is_refused() {
    let (home, server) = (Scratch::new(), Server::start(&[(200, whoami())]).await);
    assert_eq!(at_home(&server, &home, &["auth", "login"], PAT).await.exit, Exit::Ok);
    let file = home.0.join(".config/grantd/auth.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let done = at_home(&server, &home, &["auth", "whoami"], "").await;
    assert!(done.exit == Exit::Error && done.err.contains("chmod 600"), "{}", done.err);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, format!("token = \"{PAT}\"")).unwrap();
    let done = at_home(&server, &home, &["auth", "whoami"], "").await;
    assert!(done.exit == Exit::Error && done.err.contains("auth login") && !done.err.contains(PAT), "{}", done.err);
}

#[tokio::test]
async fn a_directory_is_linked_to_an_app() {
    let app = json!({
        "id": APP, "name": "shop", "description": null, "website_url": null, "state": "active", "tenant_key": null,
        "tenant_mode": "off", "retrieve": "on", "indexed_context_keys": [], "connect_sign_in": "off", "return_origins": [], "created_at": "2025-11-24T10:00:00.000Z",
        "version": 1,
    });
    let (directory, server) = (Scratch::new(), Server::start(&[(200, app)]).await);
    std::fs::create_dir_all(directory.0.join(".grantd")).unwrap();
    std::fs::write(directory.0.join(".grantd/config.toml"), "other = 1\n").unwrap();
    std::fs::create_dir_all(directory.0.join("a/b")).unwrap();
    let context = |inner: &str| Context {
        globals: Globals { server: Some(server.url.clone()), ..Globals::default() },
        env: [("GRANTD_PAT", PAT)].into_iter().collect(),
        term: term("").0,
        directory: directory.0.join(inner),
    };
    let link = |words: &[&str]| match Cli::parse_from([&["grantd", "link"], words].concat()).command {
        Command::Link(args) => args,
        _ => unreachable!("it is a link"),
    };
    assert_eq!(context("a/b").named_app().unwrap(), None);
    link::link(link(&[APP]), &mut context("")).await.unwrap();
    assert_eq!(context("a/b").named_app().unwrap().as_deref(), Some(APP));
    assert_eq!(link::unlink(&mut context("a")).unwrap_err().exit, Exit::NotFound, "not of this directory");
    link::unlink(&mut context("")).unwrap();
    assert_eq!(context("a/b").named_app().unwrap(), None);
    assert_eq!(std::fs::read_to_string(directory.0.join(".grantd/config.toml")).unwrap(), "other = 1\n");
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let pages = Scratch::new();
    let done = grantd(&["man", "--out", &pages.path("man1")], "", &[]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let names = pages.names("man1");
    for name in ["grantd.1", "grantd-audit-tail.1", "grantd-managed-secrets-grants-create.1"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    let done = grantd(&["man"], "", &[]).await;
    assert!(done.out.starts_with(".ie") && done.out.contains("grantd"), "{}", &done.out[..100]);
}

#[tokio::test]
async fn a_tail_shows_each_event_once_in_their_order() {
    let event =
        |seq: i64| json!({"id": format!("e{seq}"), "at": "2025-11-24T10:00:00.000Z", "seq": seq, "kind": "key.minted"});
    let page = |events: &[i64]| {
        let items: Vec<Value> = events.iter().map(|seq| event(*seq)).collect();
        (200, json!({"items": items, "next_cursor": null, "has_more": false}))
    };
    let gone = (403, json!({"error": "role_required", "message": "no", "details": {}}));
    let away = (503, json!({"error": "draining", "message": "It is going.", "details": {}}));
    // What was there; nothing new; two new ones, in no order; the server goes and comes back; the tail has to end somehow.
    let answers = [page(&[2]), page(&[2, 1]), page(&[2, 1]), page(&[3, 4, 2, 1]), away, page(&[5, 4, 3]), gone];
    let server = Server::start(&answers).await;
    let done = server.run(&["audit", "tail", "--output", "jsonl", "--fields", "seq"]).await;
    assert_eq!(done.out, "{\"seq\":3}\n{\"seq\":4}\n{\"seq\":5}\n");
    assert!(done.err.contains("It is going.; waiting for it\nthe server is back\n"), "{}", done.err);
    assert_eq!(done.exit, Exit::Forbidden);
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert!(targets[0].contains("limit=1") && !targets[0].contains("since="), "{targets:?}");
    assert!(targets[2].contains("since=2025-11-24T09%3A59%3A55"), "{targets:?}");
}
