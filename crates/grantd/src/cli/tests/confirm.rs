//! What is asked before something ends, and what follows from the answer.

use super::*;

/// The command line of a person at a terminal who types this.
async fn typed(server: &Server, arguments: &[&str], line: &str) -> Done {
    let (term, out, err) = person(line);
    let arguments = [&["grantd"], arguments, &["--server", &server.url]].concat();
    let arguments = arguments.into_iter().map(OsString::from);
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)];
    let exit = run(arguments, env.into_iter().collect(), term).await;
    Done { exit, out: out.text(), err: err.text() }
}

fn methods(server: &Server) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.method).collect()
}

fn user() -> Value {
    json!({
        "id": ID, "app_id": APP, "idp_id": ID, "subject": "ada", "user_status": "suspended", "email": null, "name": null,
        "roles": [], "last_seen_at": null, "created_at": "2025-11-24T10:00:00.000Z", "updated_at": "2025-11-24T10:00:00.000Z",
        "version": 1,
    })
}

fn deleted() -> Value {
    json!({"id": ID, "slug": "stripe", "deleted_at": "2025-11-24T10:00:00.000Z", "grants_revoked": 1, "credential_destroyed": true})
}

const CANCELLED: &str = "Cancelled: nothing was changed.";

#[tokio::test]
async fn what_can_be_undone_is_asked_for_with_a_word() {
    let suspend = ["end-users", "suspend", ID];
    for yes in ["y\n", "Y\n", "yes\n", " yes \r\n", "YES"] {
        let server = Server::start(&[(200, user())]).await;
        let done = typed(&server, &suspend, yes).await;
        assert!(done.exit == Exit::Ok && done.err.starts_with(&format!("Suspend user {ID}?")), "{yes:?}: {}", done.err);
        assert_eq!(methods(&server), ["POST"], "{yes:?}");
    }
    for no in ["n\n", "\n", "", "yep\n", "no\ny\n"] {
        let server = Server::start(&[(200, user())]).await;
        let done = typed(&server, &suspend, no).await;
        assert_eq!((done.exit, done.exit as u8, &*done.out), (Exit::Cancelled, 8, ""), "{no:?}");
        assert!(done.err.contains("[y/N] ") && done.err.ends_with(&format!("{CANCELLED}\n")), "{no:?}: {}", done.err);
        assert!(server.seen().is_empty(), "{no:?}");
    }
    // A program hears it in JSON, and one that says --yes is not asked. Neither is one without a terminal.
    let server = Server::start(&[(200, user())]).await;
    let done = typed(&server, &[&suspend[..], &["--output", "json"]].concat(), "n\n").await;
    let (_, said) = done.err.split_once("[y/N] ").unwrap();
    let wanted = json!({"error": "cancelled", "message": CANCELLED, "hint": null});
    assert_eq!(serde_json::from_str::<Value>(said).unwrap(), wanted);
    let done = typed(&server, &[&suspend[..], &["--yes"]].concat(), "n\n").await;
    assert!(done.exit == Exit::Ok && !done.err.contains("[y/N]"), "{}", done.err);
    assert_eq!(server.run(&suspend).await.exit, Exit::Ok);
    assert_eq!(methods(&server), ["POST", "POST"]);
}

#[tokio::test]
async fn what_cannot_be_undone_is_asked_for_by_its_name() {
    let delete = ["managed-secrets", "delete", "stripe"];
    let server = Server::start(&[(200, secret()), (200, deleted())]).await;
    let done = typed(&server, &delete, "stripe\n").await;
    assert!(done.exit == Exit::Ok && done.err.contains("Type its name, stripe: "), "{}", done.err);
    assert_eq!(methods(&server), ["GET", "DELETE"]);
    for wrong in ["strip\n", "Stripe\n", "y\n", "\n", "", "other\nstripe\n"] {
        let server = Server::start(&[(200, secret()), (200, deleted())]).await;
        let done = typed(&server, &delete, wrong).await;
        assert_eq!((done.exit, done.exit as u8, &*done.out), (Exit::Cancelled, 8, ""), "{wrong:?}");
        assert!(done.err.ends_with(&format!("{CANCELLED}\n")), "{wrong:?}: {}", done.err);
        assert_eq!(methods(&server), ["GET"], "{wrong:?}");
    }
    // --yes is no name, and a flag that names something else is a mistake.
    let server = Server::start(&[(200, secret())]).await;
    assert_eq!(typed(&server, &[&delete[..], &["--yes"]].concat(), "n\n").await.exit, Exit::Cancelled);
    let done = typed(&server, &[&delete[..], &["--confirm", "strip"]].concat(), "stripe\n").await;
    assert!(done.exit == Exit::Usage && done.err.contains("repeat it with --confirm 'stripe'"), "{}", done.err);
    assert!(!methods(&server).contains(&"DELETE".to_owned()));
    let server = Server::start(&[(200, secret()), (200, deleted())]).await;
    let done = server.run(&delete).await;
    assert!(done.exit == Exit::Usage && done.err.contains("repeat it with --confirm 'stripe'"), "{}", done.err);
    assert_eq!(methods(&server), ["GET"], "without a terminal nobody can be asked");
}
