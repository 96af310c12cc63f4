//! `grantd connect` against a scripted server.

use super::*;

const LINK: &str =
    "https://grantd.example.com/sdk/oauth/connect#session=sess_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn session(status: &str, more: Value) -> Value {
    let mut session = json!({
        "id": ID, "app_id": APP, "status": status, "opened": false, "providers": ["github", "google"], "direct": false,
        "declined_providers": [], "grants": [], "failed_grants": [], "error": null,
        "created_at": "2025-11-24T10:00:00.000Z", "expires_at": "2025-11-24T10:10:00.000Z",
    });
    let Value::Object(more) = more else { return session };
    session.as_object_mut().unwrap().extend(more);
    session
}

fn begun() -> (u16, Value) {
    (201, session("pending", json!({"connect_url": LINK})))
}

fn completed() -> (u16, Value) {
    let grant = json!({
        "grant_id": ID, "provider_id": "google", "account_identifier": "1234", "account_display_name": "ann@example.com",
        "scopes": ["openid", "email"], "api_base_url": null, "operation": "creation", "grant_policy": null, "delegation": null,
    });
    let failed = json!({"provider_id": "github", "reason": "not_selected", "message": "The user did not connect it."});
    (200, session("completed", json!({"opened": true, "grants": [grant], "failed_grants": [failed]})))
}

#[tokio::test]
async fn a_link_is_shown_and_what_came_of_it_is_one_object() {
    let declined =
        json!({"provider_id": "github", "error_code": "connect_denied", "declined_at": "2025-11-24T10:01:00.000Z"});
    let pending = session("pending", json!({"opened": true, "declined_providers": [declined]}));
    let server = Server::start(&[
        begun(),
        (200, session("pending", Value::Null)),
        (200, pending.clone()),
        (200, pending),
        completed(),
    ])
    .await;
    let done = server.run(&["connect", "github", "google", "--label", "ci", "--expires-in", "90d"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let (json, lines) = (done.json(), done.out.lines().count());
    assert_eq!((lines, &json["status"], &json["grants"][0]["grant_id"]), (1, &json!("completed"), &json!(ID)));
    assert!(done.err.lines().any(|line| line.trim() == LINK), "{}", done.err);
    assert_eq!(done.err.matches("github was declined").count(), 1, "told once: {}", done.err);
    assert!(done.err.contains("github is not connected: The user did not connect it."), "{}", done.err);
    let seen = server.seen();
    assert_eq!((&*seen[0].method, &*seen[0].target), ("POST", &*format!("/api/v1/apps/{APP}/connect-sessions")));
    let asked = json!({"allowed_providers": ["github", "google"], "label": "ci", "expires_in_seconds": 7_776_000});
    assert_eq!(seen[0].body, asked);
    // No token of a link is in a URL that a server logs.
    let polls = &seen[1..];
    assert!(polls.iter().all(|poll| poll.target == format!("/api/v1/apps/{APP}/connect-sessions/{ID}")));
    assert_eq!(polls.len(), 4);
}

#[tokio::test]
async fn on_a_terminal_there_is_a_table_and_a_code_where_it_fits() {
    let run = async |err_width: Option<u16>, color_is_wanted: bool| {
        let server = Server::start(&[begun(), completed()]).await;
        let (mut term, out, err) = testing::term("");
        term.stdout_is_terminal = true;
        term.width = err_width;
        term.stderr_is_terminal = err_width.is_some();
        (term.err_width, term.color_is_wanted) = (err_width, color_is_wanted);
        let arguments = ["grantd", "connect", "--server", &server.url].map(OsString::from);
        let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)].into_iter().collect();
        let exit = super::run(arguments, env, term).await;
        assert_eq!(exit, Exit::Ok, "{}", err.text());
        (out.text(), err.text())
    };
    let (out, err) = run(Some(100), true).await;
    assert!(out.contains("google") && out.contains("ann@example.com") && !out.contains('{'), "{out}");
    assert!(err.contains(LINK) && err.contains('█') && err.contains("\x1b[38;5;16;48;5;231m"), "{err}");
    let (_, err) = run(Some(80), false).await;
    assert!(err.contains('█') && !err.contains('\x1b'), "{err}");
    // Too narrow, or no terminal: the link alone, whole.
    for width in [Some(40), None] {
        let (_, err) = run(width, true).await;
        assert!(err.contains(LINK) && !err.contains('█') && !err.contains('\x1b'), "{err}");
    }
}

#[tokio::test]
async fn what_did_not_come_about_is_an_error_that_says_what_to_do() {
    let error = |code: &str| json!({"error": {"error_code": code, "error_message": "It was no."}});
    for (last, code, needle) in [
        (session("error", error("connect_denied")), "connect_denied", "another link"),
        (session("error", error("invalid_client")), "invalid_client", "grantd providers show"),
        (session("expired", Value::Null), "session_expired", "another link"),
    ] {
        let server = Server::start(&[begun(), (200, last)]).await;
        let done = server.run(&["connect", "--output", "json"]).await;
        assert_eq!((done.exit, &*done.out), (Exit::Error, ""), "{}", done.err);
        let said: Value = serde_json::from_str(done.err.lines().last().unwrap()).unwrap();
        assert_eq!(said["error"], code, "{said}");
        assert!(said["hint"].as_str().unwrap().contains(needle), "{said}");
    }
    // Whoever does not want to wait any longer is told that the link goes on.
    let server = Server::start(&[begun(), (200, session("pending", Value::Null))]).await;
    let done = server.run(&["connect", "--timeout", "1s"]).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(
        done.err.contains("--timeout") && done.err.contains("works until 2025-11-24T10:10:00.000Z"),
        "{}",
        done.err
    );
}

#[tokio::test]
async fn a_server_that_restarts_is_waited_for_and_one_that_refuses_is_not() {
    let server = Server::start(&[begun(), (503, refusal("draining")), (503, refusal("draining")), completed()]).await;
    let done = server.run(&["connect"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    assert_eq!(
        (done.err.matches("waiting for it").count(), done.err.matches("is back").count()),
        (1, 1),
        "{}",
        done.err
    );
    let server = Server::start(&[begun(), (404, refusal("not_found"))]).await;
    assert_eq!(server.run(&["connect"]).await.exit, Exit::NotFound);
}

#[tokio::test]
async fn what_is_for_one_provider_wants_one() {
    let server = Server::start(&[begun(), completed()]).await;
    for (arguments, needle) in [
        (&["connect", "--direct"][..], "--direct"),
        (&["connect", "github", "google", "--scopes", "a"], "--scopes"),
        (&["connect", "--repair", ID], "--repair"),
        (&["connect", "google", "--repair", ID, "--label", "x"], "cannot be used with"),
        (&["connect", "a/b"], "PROVIDER"),
    ] {
        let done = server.run(arguments).await;
        assert!(done.exit == Exit::Usage && done.err.contains(needle), "{arguments:?}: {}", done.err);
    }
    assert!(server.seen().is_empty());
    let done = server.run(&["connect", "google", "--direct", "--scopes", "a,b", "--switch-account"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let asked = json!({"allowed_providers": ["google"], "required_scopes": {"google": ["a", "b"]}, "switch_account": true, "direct": true});
    assert_eq!(server.seen()[0].body, asked);
    // A link that is none is neither shown as one nor opened.
    let odd = session("pending", json!({"connect_url": "file:///etc/passwd"}));
    let server = Server::start(&[(201, odd)]).await;
    let done = server.run(&["connect"]).await;
    assert!(done.exit == Exit::Error && done.err.contains("public_url"), "{}", done.err);
}
