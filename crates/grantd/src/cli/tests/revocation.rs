//! `grants revoke --all` against a scripted server.

use super::*;

fn provider() -> Value {
    json!({
        "id": ID, "provider_id": "google", "name": "Google", "custom": null, "environment": null, "fields": {}, "client_id": "c",
        "has_client_secret": true, "redirect_uri": "https://grantd.example.com/oauth/callback", "scopes": [],
        "effective_scopes": [], "allowed_hosts": [], "effective_hosts": [], "account_hosts": [], "setup": null,
        "verified": true, "docs_url": null, "problem": null, "problem_at": null, "accounts": 3,
        "created_at": "2025-11-24T10:00:00.000Z", "updated_at": "2025-11-24T10:00:00.000Z", "version": 1,
    })
}

fn revoked(total: Option<i64>, done: i64, failed: &[Value], next: Option<&str>) -> Value {
    let has_more = next.is_some();
    json!({"total": total, "done": done, "failed": failed, "credentials_destroyed": done, "next_cursor": next, "has_more": has_more})
}

fn counted(total: i64) -> Value {
    json!({"items": [], "total": total, "limit": 1, "offset": 0, "has_more": total > 0})
}

const REVOKE: &[&str] = &["grants", "revoke", "--provider", "google", "--all", "--reason", "leaked"];

async fn run(server: &Server, more: &[&str]) -> Done {
    server.run(&[REVOKE, more].concat()).await
}

#[tokio::test]
async fn all_of_a_provider_is_revoked_page_by_page_and_reported() {
    let script = [
        (200, provider()),
        (200, revoked(Some(53), 50, &[], Some(ID))),
        (200, revoked(None, 3, &[], None)),
        (200, counted(2)),
        (200, counted(0)),
    ];
    let server = Server::start(&script).await;
    let done = run(&server, &["--confirm", "google"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    assert_eq!(
        done.json(),
        json!({"total": 53, "done": 53, "failed": [], "credentials_destroyed": 53, "upstream_pending": 2, "upstream_failed": 0})
    );
    assert!(done.err.contains("tokens of 2 grants are still to be ended"), "{}", done.err);
    let seen = server.seen();
    let revoke = format!("/api/v1/apps/{APP}/grants/revoke");
    assert_eq!((&seen[1].target, &seen[1].body), (&revoke, &json!({"provider": "google", "reason": "leaked"})));
    assert_eq!(seen[2].body, json!({"provider": "google", "reason": "leaked", "cursor": ID}));
    assert_eq!(seen[3].target, format!("/api/v1/apps/{APP}/grants?limit=1&provider=google&upstream=pending"));
}

#[tokio::test]
async fn whoever_wants_to_know_waits_for_the_provider() {
    let pages = [(200, provider()), (200, revoked(Some(2), 2, &[], None))];
    let ended = [pages.to_vec(), vec![(200, counted(2)), (200, counted(1)), (200, counted(0))]].concat();
    let server = Server::start(&ended).await;
    let done = run(&server, &["--upstream", "--confirm", "google"]).await;
    assert_eq!((done.exit, &done.json()["upstream_pending"]), (Exit::Ok, &json!(0)), "{}", done.err);
    assert_eq!(server.seen().len(), 6, "pending until it is none, then what failed");
    // What cannot be ended is said, and by the exit code, too.
    let failed = [pages.to_vec(), vec![(200, counted(0)), (200, counted(1))]].concat();
    let server = Server::start(&failed).await;
    let done = run(&server, &["--upstream", "--confirm", "google"]).await;
    assert_eq!((done.exit, &done.json()["upstream_failed"]), (Exit::Error, &json!(1)), "{}", done.err);
    assert!(done.err.contains("grantd grants list --upstream failed"), "{}", done.err);
}

#[tokio::test]
async fn one_that_fails_is_named_and_holds_up_no_other() {
    let failure = json!({"grant_id": ID, "error": "internal", "message": "No."});
    let script =
        [(200, provider()), (200, revoked(Some(3), 2, std::slice::from_ref(&failure), None)), (200, counted(0))];
    let server = Server::start(&script).await;
    let done = run(&server, &["--confirm", "google"]).await;
    assert_eq!((done.exit, &done.json()["failed"]), (Exit::Error, &json!([failure])), "{}", done.err);
    assert!(done.err.contains("1 of 3 grants could not be revoked"), "{}", done.err);
}

#[tokio::test]
async fn what_breaks_off_says_how_to_go_on() {
    let script = [(200, provider()), (200, revoked(Some(53), 50, &[], Some(ID))), (503, refusal("busy"))];
    let server = Server::start(&script).await;
    let done = run(&server, &["--confirm", "google"]).await;
    assert_eq!((done.exit, &*done.out), (Exit::Error, ""), "{}", done.err);
    assert!(done.err.contains("50 of 53 grants are revoked") && done.err.contains("again"), "{}", done.err);
}

#[tokio::test]
async fn what_is_meant_must_be_said_and_named() {
    let server = Server::start(&[(200, provider())]).await;
    // Nobody is there to be asked.
    let silent = run(&server, &[]).await;
    assert!(silent.exit == Exit::Usage && silent.err.contains("--confirm 'google'"), "{}", silent.err);
    assert_eq!(run(&server, &["--confirm", "googel", "--yes"]).await.exit, Exit::Usage);
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
    for wrong in [
        &["grants", "revoke"][..],
        &["grants", "revoke", "--provider", "google"],
        &["grants", "revoke", ID, "--all"],
        &["grants", "revoke", ID, "--upstream"],
        &["grants", "revoke", "--all", "--provider", "google", "--managed-secret", "stripe"],
    ] {
        assert_eq!(server.run(wrong).await.exit, Exit::Usage, "{wrong:?}");
    }
    // A secret has no tokens at a provider that anybody would have to wait for.
    let server = Server::start(&[(200, secret()), (200, revoked(Some(1), 1, &[], None))]).await;
    let done = server.run(&["grants", "revoke", "--all", "--managed-secret", "stripe", "--confirm", "stripe"]).await;
    assert_eq!((done.exit, server.seen().len()), (Exit::Ok, 2), "{}", done.err);
    assert_eq!(server.seen()[1].body, json!({"managed_secret": "stripe"}));
    let app = json!({
        "id": APP, "name": "shop", "description": null, "website_url": null, "state": "active", "tenant_key": null,
        "tenant_mode": "off", "retrieve": "on", "indexed_context_keys": [], "connect_sign_in": "off", "return_origins": [], "created_at": "2025-11-24T10:00:00.000Z", "version": 1,
    });
    let server = Server::start(&[(200, app)]).await;
    let done = server.run(&["grants", "revoke", "--all"]).await;
    assert!(done.exit == Exit::Usage && done.err.contains("--confirm 'shop'"), "{}", done.err);
}
