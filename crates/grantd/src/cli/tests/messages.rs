//! What people read when something does not go as they meant.

use super::*;

#[tokio::test]
async fn a_token_that_the_server_does_not_know_is_named_by_its_source() {
    let directory = std::env::temp_dir().join(format!("grantd-token-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("operator.pat");
    std::fs::write(&file, format!("{PAT}\n")).unwrap();
    let (directory, file) = (directory.to_str().unwrap(), file.to_str().unwrap());
    let server = Server::start(&[(401, refusal("session_required"))]).await;
    for (arguments, env, source) in [
        (&[][..], &[("GRANTD_PAT", PAT)][..], "GRANTD_PAT"),
        (&[], &[("GRANTD_PAT_FILE", file)], "GRANTD_PAT_FILE"),
        (&["--token-file", file], &[], "--token-file"),
        (&["--data-dir", directory], &[], file),
    ] {
        let done = server.run_with(&[&["apps", "list"], arguments].concat(), "", env).await;
        assert_eq!(done.exit, Exit::NotSignedIn);
        assert!(done.err.contains(&format!("token from {source}")), "{}", done.err);
        assert!(
            done.err.contains("none of this server's") && done.err.contains("grantd operator reset"),
            "{}",
            done.err
        );
    }
    let expired = json!({"error": "session_required", "message": "The personal access token has expired."});
    let server = Server::start(&[(401, expired)]).await;
    let done = server.run(&["apps", "list"]).await;
    assert!(done.err.contains("GRANTD_PAT: The personal access token has expired."), "{}", done.err);
}

#[tokio::test]
async fn what_is_not_found_is_answered_with_where_to_look() {
    for (arguments, error, needle) in [
        (&["grants", "show", ID][..], "grant_not_found", "grantd grants list"),
        (&["managed-secrets", "show", "x"], "secret_not_found", "grantd managed-secrets list"),
    ] {
        let server = Server::start(&[(404, json!({"error": error, "message": "No."}))]).await;
        let done = server.run(arguments).await;
        assert_eq!(done.exit, Exit::NotFound);
        assert!(done.err.contains(needle) && done.err.lines().count() == 1, "{}", done.err);
    }
}

#[tokio::test]
async fn fields_of_the_server_are_told_as_flags() {
    let invalid = |error: &str, field: &str| json!({"error": error, "message": format!("`{field}`: is wrong"), "details": {"field": field}});
    let server = Server::start(&[(400, invalid("invalid_request", "cursor"))]).await;
    let done = server.run(&["audit", "list", "--cursor", "x"]).await;
    assert_eq!((done.exit, done.err.as_str()), (Exit::Usage, "error: --cursor: is wrong\n"));
    let server = Server::start(&[(422, invalid("invalid_value", "injection_header"))]).await;
    let create = ["managed-secrets", "create", "--name", "x", "--value", "-", "--allowed-host", "a.example"];
    let done = server.run_with(&create, "v", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await;
    assert_eq!((done.exit, done.err.as_str()), (Exit::Error, "error: --header: is wrong\n"));
}

#[tokio::test]
async fn what_can_be_known_here_to_be_mistyped_is_never_sent() {
    let server = Server::start(&[(200, page(&[]))]).await;
    for (arguments, needle) in [
        (&["audit", "list", "--kind", "token.release"][..], "did you mean `token.released`?"),
        (&["audit", "list", "--outcome", "parked"], "invalid value 'parked'"),
        (&["audit", "list", "--grant", "stripe"], "this is no id"),
        (&["audit", "list", "--key", "alter_rk_aaaa"], "this is no id"),
        (&["audit", "list", "--limit", "0"], "1..=1000"),
        (&["grants", "list", "--offset", "10001"], "0..=10000"),
        (&["keys", "mint", "--name", "x", "--rate-limit-rpm", "0"], "rate-limit-rpm"),
        (&["managed-secrets", "set-allowed-hosts", "x", "--host", "http://"], "--host"),
        (&["apps", "create", "--name", "x", "--website-url", "shop"], "write an http or https URL"),
        (&["managed-secrets", "create", "--name", "x", "--value", "-"], "--allow-any-host"),
        (&["keys", "mint", "--name", ""], "a value is required for '--name"),
        (&["audit", "show", "--organization", "--app", APP, ID], "cannot be used with"),
    ] {
        let done = server.run(arguments).await;
        assert_eq!(done.exit, Exit::Usage, "{arguments:?}: {}", done.err);
        assert!(done.err.contains(needle), "{arguments:?}: {}", done.err);
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn fields_do_not_depend_on_what_happened() {
    let event = json!({"id": ID, "at": "2025-11-24T10:00:00.000Z", "kind": "app.created", "actor": {"type": "job"}});
    let events = |items: &[Value]| json!({"items": items, "next_cursor": null, "has_more": false});
    let server = Server::start(&[(200, events(std::slice::from_ref(&event)))]).await;
    let done = server.run(&["audit", "list", "--fields", "at,kind,code,host", "--output", "jsonl"]).await;
    assert_eq!((done.exit, done.json()["code"].clone()), (Exit::Ok, Value::Null), "{}", done.err);
    for field in ["actor.nope", "cod"] {
        assert_eq!(server.run(&["audit", "list", "--fields", field]).await.exit, Exit::Usage, "{field}");
    }
    let server = Server::start(&[(200, event)]).await;
    let shown = server.run(&["audit", "show", ID, "--fields", "code,context.user_id"]).await;
    assert_eq!(shown.json(), json!({"code": null, "context.user_id": null}));
    let server = Server::start(&[(200, page(&[]))]).await;
    assert_eq!(server.run(&["grants", "list", "--fields", "status"]).await.exit, Exit::Ok);
    assert_eq!(server.run(&["grants", "list", "--fields", "stauts"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn an_event_of_the_organization_can_be_shown() {
    let server = Server::start(&[(200, json!({"id": ID, "kind": "pat.created"}))]).await;
    let done = server.run_with(&["audit", "show", "--organization", ID], "", &[("GRANTD_PAT", PAT)]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    assert_eq!(server.seen()[0].target, format!("/api/v1/audit/events/{ID}"));
}

#[tokio::test]
async fn a_usage_error_in_json_keeps_its_parts_apart() {
    let message = async |arguments: &[&str]| {
        let done = grantd(&[arguments, &["--output", "json"]].concat(), "", &[]).await;
        serde_json::from_str::<Value>(&done.err).unwrap()["message"].as_str().unwrap().to_owned()
    };
    let missing = message(&["managed-secrets", "create"]).await;
    let start = "the following required arguments were not provided: --name <NAME>; --value <VALUE>; <--template";
    assert!(missing.starts_with(start), "{missing}");
    let valueless = message(&["grants", "show", "--grant"]).await;
    assert_eq!(valueless, "a value is required for '--grant <GRANT>' but none was supplied");
    let mistyped = message(&["audit", "lst"]).await;
    assert_eq!(mistyped, "unrecognized subcommand 'lst'; tip: a similar subcommand exists: 'list'");
}

#[tokio::test]
async fn a_grant_that_is_not_there_leaves_no_key_behind() {
    let server = Server::start(&[(404, json!({"error": "grant_not_found", "message": "No."}))]).await;
    let done = server.run(&["request", "GET", "https://api.example.com/v1", "--grant", ID]).await;
    assert_eq!((done.exit, server.seen().len()), (Exit::NotFound, 1), "{}", done.err);
    assert!(done.err.contains("grantd grants list"), "{}", done.err);
}

#[tokio::test]
async fn an_export_into_a_missing_directory_names_the_file_that_was_asked_for() {
    let server = Server::start_raw(vec![(200, "{}\n".to_owned())]).await;
    let done = server.run(&["audit", "export", "--out", "/nowhere/audit.jsonl"]).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(done.err.contains("cannot write /nowhere/audit.jsonl: ") && done.err.contains("--out"), "{}", done.err);
}

#[tokio::test]
async fn an_app_id_that_is_no_text_is_refused() {
    let root = std::env::temp_dir().join(format!("grantd-no-text-{}", std::process::id()));
    std::fs::create_dir_all(root.join(".grantd")).unwrap();
    std::fs::write(root.join(".grantd/config.toml"), "app_id = 3\n").unwrap();
    let (term, _, _) = term("");
    let context = Context { globals: Globals::default(), env: Env::default(), term, directory: root };
    let failure = context.named_app().unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.line().contains("in quotes"), "{}", failure.line());
}

#[tokio::test]
async fn a_trusted_key_that_cannot_be_read_is_not_called_an_export() {
    let path = std::env::temp_dir().join(format!("grantd-trust-{}.jsonl", std::process::id()));
    std::fs::write(&path, "{}\n").unwrap();
    for flag in ["--trust", "--checkpoint"] {
        let done = grantd(&["audit", "verify", path.to_str().unwrap(), flag, "xx"], "", &[]).await;
        assert!(done.err.contains(&format!("{flag} takes")), "{}", done.err);
    }
}

#[tokio::test]
async fn a_file_that_is_no_export_is_said_to_be_none() {
    let path = std::env::temp_dir().join(format!("grantd-csv-{}.csv", std::process::id()));
    std::fs::write(&path, "id,at,kind\r\n1,2,3\r\n").unwrap();
    let file = path.to_str().unwrap();
    let done = grantd(&["audit", "verify", file, "--output", "table"], "", &[]).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Error, ""));
    assert!(done.err.contains(&format!("{file} is no export")) && done.err.contains("CSV"), "{}", done.err);
    let done = grantd(&["audit", "verify", file, "--output", "json"], "", &[]).await;
    assert_eq!((done.exit, done.json()["problems"].as_array().unwrap().len()), (Exit::Error, 1));
}

#[test]
fn every_flag_has_a_help_and_no_example_is_wrapped() {
    fn walk(command: &clap::Command) {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let long = help.lines().find(|line| line.chars().count() > 80);
        assert!(long.is_none(), "{}: {long:?}", command.get_name());
        command.get_subcommands().filter(|c| c.get_name() != "help").for_each(walk);
    }
    walk(&Cli::command());
}

#[tokio::test]
async fn what_is_deleted_for_good_must_be_named() {
    let deleted = json!({"id": ID, "slug": "stripe", "deleted_at": "2025-11-24T10:00:00.000Z", "grants_revoked": 1, "credential_destroyed": true});
    let server =
        Server::start(&[(200, super::secret()), (200, super::secret()), (200, super::secret()), (200, deleted)]).await;
    // Nobody is there to be asked.
    let silent = server.run(&["managed-secrets", "delete", "stripe"]).await;
    assert_eq!(silent.exit, Exit::Usage, "{}", silent.err);
    assert!(silent.err.contains("--confirm 'stripe'"), "{}", silent.err);
    let wrong = server.run(&["managed-secrets", "delete", "stripe", "--confirm", "strip", "--yes"]).await;
    assert_eq!(wrong.exit, Exit::Usage, "{}", wrong.err);
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
    let done = server.run(&["managed-secrets", "delete", "stripe", "--confirm", "stripe"]).await;
    assert_eq!((done.exit, &done.json()["grants_revoked"]), (Exit::Ok, &json!(1)));
    assert_eq!(server.seen()[3].method, "DELETE");
    assert_eq!(server.seen()[3].target, format!("/api/v1/apps/{APP}/managed-secrets/stripe"));
}

#[tokio::test]
async fn a_key_is_rotated_with_a_grace() {
    let key = json!({
        "api_key": "alter_rk_x", "id": ID, "name": "k", "key_prefix": "alter_rk_aaaa", "key_type": "rk", "scopes": [], "scope_version": 1,
        "cidr_allowlist": null, "rate_limit_rpm": null, "effective_rate_limit_rpm": null, "rate_limit_source": null,
        "allow_unsigned_identity": false, "created_at": "2025-11-01T10:00:00.000Z", "expires_at": null, "deprecated_at": null,
        "revoked_at": null, "last_used_at": null, "parent_key_id": null, "status": "active", "grace_until": null, "successor_id": null,
        "predecessor_id": ID, "predecessor_grace_until": "2025-11-01T11:00:00.000Z",
    });
    let server = Server::start(&[(201, key)]).await;
    let done = server.run(&["keys", "rotate", ID, "--grace", "1h"]).await;
    assert_eq!((done.exit, &done.json()["api_key"]), (Exit::Ok, &json!("alter_rk_x")), "{}", done.err);
    assert_eq!(server.seen()[0].body, json!({"grace_seconds": 3600}));
    assert_eq!(server.seen()[0].target, format!("/api/v1/apps/{APP}/keys/{ID}/rotate"));
    server.run(&["keys", "rotate", ID, "--grace", "0s"]).await;
    assert_eq!(server.seen()[1].body, json!({"grace_seconds": 0}));
}

#[tokio::test]
async fn a_token_is_made_as_it_was_asked_for() {
    let token = json!({
        "token": "grantd_pat_x", "id": ID, "operator_id": ID, "name": "ci", "role": "viewer", "app_ids": [APP], "status": "active",
        "created_at": "2025-11-01T10:00:00.000Z", "expires_at": "2025-11-02T10:00:00.000Z", "revoked_at": null,
    });
    let server = Server::start(&[(201, token), (200, page(&[]))]).await;
    let arguments = ["tokens", "create", "--name", "ci", "--role", "viewer", "--for-app", APP, "--expires-in", "1d"];
    let done = server.run(&arguments).await;
    assert_eq!((done.exit, &done.json()["token"]), (Exit::Ok, &json!("grantd_pat_x")), "{}", done.err);
    assert!(done.err.contains("not shown again"), "{}", done.err);
    let seen = &server.seen()[0];
    assert_eq!(seen.target, "/api/v1/tokens");
    assert_eq!(seen.body, json!({"name": "ci", "role": "viewer", "app_ids": [APP], "expires_in_seconds": 86_400}));
    assert_eq!(server.run(&["tokens", "list", "--operator", ID]).await.exit, Exit::Ok);
    assert_eq!(server.seen()[1].target, format!("/api/v1/tokens?operator={ID}"));
}

#[tokio::test]
async fn a_line_of_checkpoints_is_one_to_verify_with() {
    let body = json!({"app_id": ID, "n": 2, "previous": "aa", "at": "2026-11-24T10:00:00.000Z", "heads": [], "pruned_to": null});
    let checkpoint = json!({"type": "checkpoint", "body": body, "kid": ID, "signature": "c2ln"});
    let page = json!({"items": [checkpoint], "next_cursor": "2", "has_more": true});
    let server = Server::start(&[(200, page)]).await;
    let list = ["audit", "checkpoints", "--limit", "1", "--cursor", "3"];
    let done = server.run(&[&list[..], &["--output", "jsonl"]].concat()).await;
    assert!(server.seen()[0].target.ends_with("/audit/checkpoints?cursor=3&limit=1"), "{}", server.seen()[0].target);
    assert_eq!((done.out.lines().count(), serde_json::from_str::<Value>(&done.out).unwrap()), (1, checkpoint));
    let done = server.run(&[&list[..], &["--output", "table"]].concat()).await;
    assert_eq!(
        done.out,
        format!("N  SIGNED                    PRUNED TO  KEY\n2  2026-11-24T10:00:00.000Z  -          {ID}\n")
    );
    assert_eq!(done.err, "older checkpoints: --cursor 2\n");
    let outside = server.run(&["audit", "checkpoints", "--organization"]).await;
    assert_eq!((outside.exit, &*server.seen()[2].target), (Exit::Ok, "/api/v1/audit/checkpoints"));
}
