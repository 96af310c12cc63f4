//! Identity providers with their SCIM, users and groups, as somebody at a terminal manages them.

use super::*;

const ISSUER: &str = "https://company.okta.com/oauth2/default";

fn idp() -> Value {
    json!({
        "id": ID, "name": "Okta", "preset": "okta", "issuer": ISSUER, "audiences": ["api://default"],
        "algorithms": ["RS256"],
        "claims": {"subject": "sub", "audience": "aud", "email": "email", "groups": "groups"},
        "jwks_url": "https://company.okta.com/keys", "authorize_url": null, "token_url": null, "userinfo_url": null,
        "client_id": null, "has_client_secret": false, "scopes": ["openid"], "state": "active",
        "created_at": "2025-11-24T10:00:00.000Z", "updated_at": "2025-11-24T10:00:00.000Z", "version": 1,
    })
}

fn user() -> Value {
    json!({
        "id": ID, "idp_id": ID, "subject": "00u1abcd", "user_status": "active", "email": "ada@example.com",
        "name": "Ada", "roles": [], "created_at": "2025-11-24T10:00:00.000Z", "last_seen_at": null,
        "deprovisioned_at": null, "version": 1,
    })
}

fn group() -> Value {
    json!({
        "id": ID, "idp_id": ID, "external_group_id": "eng", "name": "Engineering", "members": 3,
        "created_at": "2025-11-24T10:00:00.000Z", "version": 1,
    })
}

fn with_token() -> Value {
    let scim = json!({
        "identity_provider_id": ID, "base_url": "https://vault.example.com/scim/v2/x", "subject_from": "externalId",
        "deactivation": "suspend", "users": 0, "created_at": "2025-11-24T10:00:00.000Z", "rotated_at": null,
    });
    json!({"token": "grantd_scim_abc", "scim": scim})
}

fn of_app(path: &str) -> String {
    format!("/api/v1/apps/{APP}/{path}")
}

#[tokio::test]
async fn what_is_said_of_an_identity_provider_is_sent_and_nothing_else() {
    let server = Server::start(&[(201, idp())]).await;
    let least = ["idp", "create", "--issuer", ISSUER, "--preset", "okta", "--audience", "api://default"];
    assert_eq!(server.run(&least).await.exit, Exit::Ok);
    let whole = [
        &least[..],
        &["--audience", "a,b", "--name", "Company", "--client-id", "c", "--client-secret", "-"],
        &["--jwks-url", "https://company.okta.com/keys", "--algorithm", "RS256,ES256", "--scopes", "openid,email"],
        &["--user-claim", "uid", "--audience-claim", "client_id", "--email-claim", "", "--name-claim", "nick"],
        &["--groups-claim", "groups", "--roles-claim", "/realm_access/roles"],
    ]
    .concat();
    let done = server.run_with(&whole, "its-secret\n", &[("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let seen = server.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", of_app("identity-providers").as_str()));
    let least = json!({"preset": "okta", "issuer": ISSUER, "audiences": ["api://default"]});
    assert_eq!(seen[0].body, least);
    let whole = json!({
        "preset": "okta", "issuer": ISSUER, "audiences": ["api://default", "a", "b"], "name": "Company",
        "client_id": "c", "client_secret": "its-secret", "jwks_url": "https://company.okta.com/keys",
        "algorithms": ["RS256", "ES256"], "scopes": ["openid", "email"],
        "claims": {
            "subject": "uid", "audience": "client_id", "email": "", "name": "nick", "groups": "groups",
            "roles": "/realm_access/roles",
        },
    });
    assert_eq!(seen[1].body, whole);
    assert!(!done.out.contains("its-secret") && !done.err.contains("its-secret"));
}

#[tokio::test]
async fn an_identity_provider_is_named_by_its_issuer_too_and_its_claims_are_lines() {
    let server = Server::start(&[(200, idp())]).await;
    let done = server.run(&["identity-providers", "show", ISSUER, "--output", "table"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let encoded = "https:%2F%2Fcompany.okta.com%2Foauth2%2Fdefault";
    assert_eq!(server.seen()[0].target, of_app(&format!("identity-providers/{encoded}")));
    assert!(done.out.lines().any(|line| line.starts_with("claims subject") && line.ends_with("sub")), "{}", done.out);
    assert!(!done.out.contains('{'), "{}", done.out);
    let done = server.run(&["idp", "show", "--idp", ID, "--fields", "claims.subject"]).await;
    assert_eq!(done.json(), json!({"claims.subject": "sub"}));
    for wrong in ["company okta", "ftp://company.okta.com", ".."] {
        let done = server.run(&["idp", "show", wrong]).await;
        assert_eq!(done.exit, Exit::Usage, "{wrong}");
        assert!(done.err.contains("grantd idp list"), "{}", done.err);
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn an_update_changes_what_is_named() {
    let server = Server::start(&[(200, idp())]).await;
    for (flags, body) in [
        (&["--state", "inactive"][..], json!({"state": "inactive"})),
        (&["--no-client-secret"], json!({"client_secret": ""})),
        (&["--groups-claim", ""], json!({"claims": {"groups": ""}})),
        (&["--audience", "a,b"], json!({"audiences": ["a", "b"]})),
        (&["--name", "default", "--client-id", "c"], json!({"name": "default", "client_id": "c"})),
    ] {
        let done = server.run(&[&["idp", "update", ID], flags].concat()).await;
        assert_eq!(done.exit, Exit::Ok, "{}", done.err);
        let seen = server.seen();
        let last = seen.last().unwrap();
        assert_eq!((last.method.as_str(), &last.body), ("PATCH", &body));
    }
    let done = server.run(&["idp", "update", ID]).await;
    assert_eq!(done.exit, Exit::Usage);
    assert!(done.err.contains("nothing to change") && done.err.contains("--help"), "{}", done.err);
    for wrong in [&["--state", "off"][..], &["--client-secret", "x", "--no-client-secret"]] {
        assert_eq!(server.run(&[&["idp", "update", ID], wrong].concat()).await.exit, Exit::Usage);
    }
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn what_the_server_complains_of_is_told_as_the_flag() {
    for (field, flag) in [("audiences", "--audience"), ("algorithms", "--algorithm"), ("jwks_url", "--jwks-url")] {
        let wrong = json!({"error": "invalid_value", "message": format!("`{field}`: no"), "details": {"field": field}});
        let server = Server::start(&[(422, wrong)]).await;
        let done = server.run(&["idp", "create", "--issuer", ISSUER]).await;
        assert_eq!((done.exit, done.err), (Exit::Error, format!("error: {flag}: no\n")));
    }
}

#[tokio::test]
async fn an_identity_provider_is_deleted_by_its_name_as_it_was_read() {
    let deleted = json!({"id": ID, "issuer": ISSUER, "deleted_at": "2025-11-24T10:00:00.000Z"});
    let server = Server::start(&[(200, idp()), (200, idp()), (200, idp()), (200, deleted)]).await;
    for wrong in [&[][..], &["--confirm", "Auth0"]] {
        let done = server.run(&[&["idp", "delete", ID], wrong].concat()).await;
        assert_eq!(done.exit, Exit::Usage);
        assert!(done.err.contains("Okta"), "{}", done.err);
    }
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
    let done = server.run(&["idp", "delete", ID, "--confirm", "Okta"]).await;
    assert_eq!((done.exit, done.json()["issuer"].as_str()), (Exit::Ok, Some(ISSUER)), "{}", done.err);
    let seen = server.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.method.as_str(), last.if_match.as_deref()), ("DELETE", Some("\"as read\"")));
}

#[tokio::test]
async fn scim_is_switched_on_with_a_token_that_is_shown_once() {
    let server = Server::start(&[(201, with_token())]).await;
    for (flags, body) in [
        (&[][..], json!({})),
        (&["--subject-from", "user-name"], json!({"subject_from": "userName"})),
        (
            &["--subject-from", "externalId", "--deactivation", "deprovision"],
            json!({"subject_from": "externalId", "deactivation": "deprovision"}),
        ),
    ] {
        let done = server.run(&[&["idp", "scim", "enable", ID], flags].concat()).await;
        assert_eq!((done.exit, done.json()["token"].as_str()), (Exit::Ok, Some("grantd_scim_abc")), "{}", done.err);
        assert!(done.err.contains("not shown again"), "{}", done.err);
        assert_eq!(server.seen().last().unwrap().body, body);
    }
    let done = server.run(&["idp", "scim", "rotate", ID, "--output", "table"]).await;
    assert!(done.out.contains("grantd_scim_abc") && done.out.contains("scim base_url"), "{}", done.out);
    assert_eq!(server.run(&["idp", "scim", "enable", ID, "--deactivation", "never"]).await.exit, Exit::Usage);
    let targets: Vec<String> =
        server.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let scim = of_app(&format!("identity-providers/{ID}/scim"));
    assert_eq!(targets[2..], [format!("POST {scim}"), format!("POST {scim}/rotate")]);
}

#[tokio::test]
async fn scim_is_shown_and_switched_off() {
    let disabled = json!({"identity_provider_id": ID, "disabled_at": "2025-11-24T10:00:00.000Z"});
    let server = Server::start(&[(200, with_token()["scim"].clone()), (200, disabled)]).await;
    let done = server.run(&["idp", "scim", "show", ID]).await;
    assert_eq!((done.exit, done.json()["users"].clone()), (Exit::Ok, json!(0)), "{}", done.err);
    let done = server.run(&["idp", "scim", "disable", ID]).await;
    assert_eq!((done.exit, done.json()["identity_provider_id"].as_str()), (Exit::Ok, Some(ID)), "{}", done.err);
    assert_eq!(server.seen()[1].method, "DELETE");
}

#[tokio::test]
async fn a_webhook_is_switched_on_shown_and_switched_off() {
    let webhook = json!({
        "identity_provider_id": ID, "url": "https://vault.example.com/webhooks/idp/x", "vendor": "okta", "proof": "token",
        "subject_from": "id", "created_at": "2025-11-24T10:00:00.000Z", "rotated_at": null, "last_event_at": null,
    });
    let made = |token: Value| json!({"token": token, "webhook": webhook});
    let disabled = json!({"identity_provider_id": ID, "disabled_at": "2025-11-24T10:00:00.000Z"});
    let server = Server::start(&[
        (201, made(json!("grantd_hook_abc"))),
        (201, made(Value::Null)),
        (200, webhook.clone()),
        (200, disabled),
    ])
    .await;
    let done = server.run(&["idp", "webhook", "enable", ID, "--subject-from", "login"]).await;
    assert_eq!((done.exit, done.json()["token"].as_str()), (Exit::Ok, Some("grantd_hook_abc")), "{}", done.err);
    assert!(done.err.contains("not shown again"), "{}", done.err);
    let done = server.run(&["idp", "webhook", "rotate", ID, "--secret", "whsec_abc"]).await;
    assert_eq!((done.exit, done.json()["token"].clone()), (Exit::Ok, Value::Null), "{}", done.err);
    assert!(!done.err.contains("not shown again") && !done.out.contains("whsec_abc"), "{}", done.err);
    let done = server.run(&["idp", "webhook", "status", ID]).await;
    assert_eq!((done.exit, done.json()["vendor"].as_str()), (Exit::Ok, Some("okta")), "{}", done.err);
    assert_eq!(server.run(&["idp", "webhook", "disable", ID]).await.exit, Exit::Ok);
    assert_eq!(server.run(&["idp", "webhook", "enable", ID, "--subject-from", "mail"]).await.exit, Exit::Usage);
    let seen = server.seen();
    let targets: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let at = of_app(&format!("identity-providers/{ID}/webhook"));
    assert_eq!(
        targets,
        [format!("POST {at}"), format!("POST {at}/rotate"), format!("GET {at}"), format!("DELETE {at}")]
    );
    assert_eq!((&seen[0].body, &seen[1].body), (&json!({"subject_from": "login"}), &json!({"secret": "whsec_abc"})));
}

#[tokio::test]
async fn users_are_listed_suspended_and_resumed() {
    let server = Server::start(&[(200, page(&[user()])), (200, user())]).await;
    let list = [
        "end-users",
        "list",
        "--status",
        "suspended",
        "--search",
        "ada@",
        "--limit",
        "5",
        "--offset",
        "10",
        "--idp",
        ID,
    ];
    assert_eq!(server.run(&list).await.json()["items"][0]["subject"], "00u1abcd");
    for arguments in [["end-users", "show", ID], ["end-users", "suspend", ID], ["end-user", "resume", ID]] {
        let done = server.run(&arguments).await;
        assert_eq!((done.exit, done.json()["id"].as_str()), (Exit::Ok, Some(ID)), "{}", done.err);
    }
    let seen: Vec<String> = server.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    let users = of_app("users");
    assert_eq!(
        seen,
        [
            format!("GET {users}?idp={ID}&limit=5&offset=10&search=ada%40&status=suspended"),
            format!("GET {users}/{ID}"),
            format!("POST {users}/{ID}/suspend"),
            format!("POST {users}/{ID}/resume"),
        ]
    );
    assert_eq!(server.run(&["end-users", "list", "--status", "away"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn a_user_is_deprovisioned_by_the_subject_as_they_were_read() {
    let ended = json!({"id": ID, "deprovisioned_at": "2025-11-24T10:00:00.000Z", "grants_revoked": 2});
    let server = Server::start(&[(200, user()), (200, user()), (200, user()), (200, ended)]).await;
    for wrong in [&[][..], &["--confirm", "ada@example.com"]] {
        // --yes answers no question that wants a name.
        let done = server.run(&[&["end-users", "deprovision", ID, "--yes"], wrong].concat()).await;
        assert_eq!(done.exit, Exit::Usage);
        assert!(done.err.contains("00u1abcd"), "{}", done.err);
    }
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
    let done = server.run(&["end-users", "deprovision", "--user", ID, "--confirm", "00u1abcd"]).await;
    assert_eq!((done.exit, done.json()["grants_revoked"].clone()), (Exit::Ok, json!(2)), "{}", done.err);
    let seen = server.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.target, of_app(&format!("users/{ID}/deprovision")));
    assert_eq!(last.if_match.as_deref(), Some("\"as read\""));
}

#[tokio::test]
async fn groups_are_listed_and_shown() {
    let server = Server::start(&[(200, page(&[group()])), (200, group())]).await;
    let done = server.run(&["groups", "list", "--search", "eng", "--output", "table"]).await;
    assert!(done.out.contains("Engineering") && done.out.contains("MEMBERS"), "{}", done.out);
    assert_eq!(server.run(&["group", "show", ID]).await.json()["external_group_id"], "eng");
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, [of_app("groups?search=eng"), of_app(&format!("groups/{ID}"))]);
}

#[tokio::test]
async fn an_issuer_is_looked_at_and_what_was_found_are_lines() {
    let found = |ok: bool| {
        json!({
            "ok": ok, "issuer": ISSUER, "preset": "okta", "jwks_url": null, "authorize_url": null, "token_url": null,
            "userinfo_url": null, "keys": null,
            "findings": [
                {"id": "preset", "level": "ok", "what": "Okta", "fix": null},
                {"id": "keys", "level": if ok { "warning" } else { "failure" }, "what": "None\u{202e}", "fix": "Try again"},
            ],
        })
    };
    for ok in [true, false] {
        let server = Server::start(&[(200, found(ok))]).await;
        let words = ["idp", "discover", "--issuer", ISSUER, "--preset", "okta", "--output", "table"];
        let done = server.run(&words).await;
        assert_eq!(done.exit, if ok { Exit::Ok } else { Exit::Error });
        let level = if ok { "WARNING " } else { "FAILURE " };
        let lines = format!("ok       preset: Okta\n{level} keys: None\\u{{202e}}\n         -> Try again\n");
        assert_eq!(done.out, lines);
        let seen = server.seen();
        assert_eq!(
            (seen[0].method.as_str(), seen[0].target.as_str()),
            ("POST", of_app("identity-providers/discover").as_str())
        );
        assert_eq!(seen[0].body, json!({"issuer": ISSUER, "preset": "okta"}));
    }
    let server = Server::start(&[(200, idp())]).await;
    assert_eq!(server.run(&["idp", "update", ISSUER, "--rediscover"]).await.exit, Exit::Ok);
    assert_eq!(server.seen()[0].body, json!({"rediscover": true}));
    let both = ["idp", "update", ISSUER, "--rediscover", "--jwks-url", "https://company.okta.com/keys"];
    assert_eq!(server.run(&both).await.exit, Exit::Usage);
}

#[tokio::test]
async fn a_grant_is_asked_for_whoever_it_is_for() {
    let create = ["managed-secrets", "grants", "create", "--secret", "stripe"];
    for (flags, wanted) in [
        (&["--principal-type", "system"][..], json!({"principal_type": "system"})),
        (
            &["--principal-type", "user", "--user", ID, "--label", "own"],
            json!({"principal_type": "user", "user": ID, "label": "own"}),
        ),
        (&["--principal-type", "group", "--group", ID], json!({"principal_type": "group", "group": ID})),
        (
            &["--principal-type", "group", "--group", "eng/ops", "--idp", "https://id.example.com/"],
            json!({"principal_type": "group", "group": "eng/ops", "idp": "https://id.example.com/"}),
        ),
    ] {
        let mut theirs = grant();
        theirs["user_id"] = json!(ID);
        let server = Server::start(&[(201, theirs)]).await;
        let done = server.run(&[&create[..], flags].concat()).await;
        assert_eq!((done.exit, &done.json()["user_id"]), (Exit::Ok, &json!(ID)), "{}", done.err);
        assert_eq!(server.seen()[0].body, wanted);
    }
    let server = Server::start(&[(201, grant())]).await;
    for wrong in [
        &["--principal-type", "agent"][..],
        &["--principal-type", "user", "--user", ".."],
        &["--principal-type", "group", "--group", ""],
    ] {
        assert_eq!(server.run(&[&create[..], wrong].concat()).await.exit, Exit::Usage, "{wrong:?}");
    }
    assert!(server.seen().is_empty());
}
