//! OAuth accounts: connecting them in a browser, and their tokens from then on, against a provider on loopback.

use std::sync::Arc;

use base64::Engine as _;
use grantd_server::jobs::oauth as jobs;
use grantd_wire::Code;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::browser::{Browser, between};
use crate::harness::issuer::{CLIENT_SECRET, ID, Issuer, Play};
use crate::harness::world::text;
use crate::harness::{Answer, Server, World};

on_kept_engines! {
    a_user_connects_and_the_grant_gets_tokens,
    connecting_the_same_account_again_keeps_the_grant,
    many_callers_and_two_processes_renew_once,
    what_the_token_endpoint_says_decides_over_the_grant,
    a_lost_answer_is_told_from_a_consent_that_is_over,
    revoking_ends_the_tokens_at_the_provider,
    an_ending_that_is_refused_is_tried_again,
    revoking_all_of_a_provider_ends_all_its_tokens,
}

in_memory! {
    a_sibling_is_only_ever_tighter,
    a_session_belongs_to_one_browser_and_one_answer,
    an_archived_app_connects_nobody,
    refusing_and_granting_less_leave_nothing_behind,
    what_is_asked_for_must_be_possible,
    a_claimed_401_renews_once_and_holds_nobody_up,
    tokens_are_renewed_before_they_end,
    a_grant_takes_the_tenant_of_its_first_use,
}

/// Where the tokens of a test may go.
const URL: &str = "https://api.acme.example.com/v1/things";

/// An app that is registered with a provider, and a process that reaches it.
pub async fn acme(server: &Server) -> (Server, World, Issuer) {
    let issuer = Issuer::start().await;
    let reaching = issuer.reached_by(server, "reaching").await;
    let world = reaching.world().await;
    issuer.register(&reaching, &world).await;
    (reaching, world, issuer)
}

pub async fn session(server: &Server, world: &World, more: Value) -> Value {
    ask(server, world, more).await.ok(201)
}

pub async fn ask(server: &Server, world: &World, more: Value) -> Answer {
    let mut body = json!({"allowed_providers": [ID], "return_url": null, "allowed_origin": null, "metadata": null});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    server.send(server.sign(&world.key).post("/sdk/oauth/connect/session", &body)).await
}

async fn poll(server: &Server, world: &World, session: &Value) -> Value {
    let body = json!({"session_token": session["session_token"]});
    server.send(server.sign(&world.key).post("/sdk/oauth/connect/session/poll", &body)).await.ok(200)
}

/// Connects an account from beginning to end; what the app is told.
pub async fn connect(server: &Server, world: &World, more: Value) -> Value {
    let session = session(server, world, more).await;
    let mut browser = Browser::default();
    let page = browser.open(server, &session).await;
    let link = browser.start(server, &page, ID).await;
    let back = browser.back(server, &[("code", "code-1"), ("state", &link["state"])]).await;
    assert_eq!(back.status, 200, "{}", back.text);
    let polled = poll(server, world, &session).await;
    assert_eq!(polled["status"], "completed", "{polled} {}", back.text);
    polled["grants"][0].clone()
}

async fn token(server: &Server, world: &World, grant: &str) -> Answer {
    let body = json!({"grant_id": grant, "request": {"method": "GET", "url": URL}, "reason": null});
    server.send(server.sign(&world.key).post("/sdk/token", &body)).await
}

async fn shown(server: &Server, world: &World, grant: &str) -> Value {
    server.api("GET", &world.path(&format!("grants/{grant}")), Value::Null).await.ok(200)
}

async fn a_user_connects_and_the_grant_gets_tokens(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let session = session(&server, &world, json!({"return_url": "https://app.example.com/done"})).await;
    assert_eq!(poll(&server, &world, &session).await, json!({"status": "pending", "declined_providers": []}));
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    let link = browser.start(&server, &page, ID).await;
    assert_eq!((&*link["response_type"], &*link["client_id"], &*link["scope"]), ("code", "client-1", "read write"));
    assert_eq!((&*link["code_challenge_method"], link["code_challenge"].len()), ("S256", 43));
    assert_eq!(link["redirect_uri"], "http://127.0.0.1:8080/oauth/callback");
    let done = browser.back(&server, &[("code", "code-1"), ("state", &link["state"])]).await;
    assert!(done.text.contains("alter_connect_success"), "{}", done.text);
    // People know their account by its name; the app is told what stays.
    let seen = between(&done.text, "<h1>", "</div>");
    assert!(seen.contains("someone@example.com") && !seen.contains("user-1"), "{seen}");

    let exchange = &issuer.calls("/token")[0];
    assert_eq!((&*exchange["code"], &*exchange["client_secret"]), ("code-1", CLIENT_SECRET));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, exchange["code_verifier"].as_bytes());
    assert_eq!(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(hash), link["code_challenge"]);

    let polled = poll(&server, &world, &session).await;
    let grant = &polled["grants"][0];
    assert_eq!((&polled["status"], &grant["operation"]), (&json!("completed"), &json!("creation")), "{polled}");
    assert_eq!((&grant["provider_id"], &grant["account_identifier"]), (&json!(ID), &json!("user-1")));
    let id = text(grant, "grant_id");
    let token = token(&server, &world, &id).await.ok(200);
    assert_eq!(token["access_token"], "canary-access-1");
    assert_eq!((&token["expires_in"], &token["scopes"]), (&json!(3600), &json!(["read", "write"])));
    assert_eq!(
        (&token["injection_header"], &token["injection_format"]),
        (&json!("Authorization"), &json!("Bearer {token}"))
    );
    let list =
        server.send(server.sign(&world.key).post("/sdk/grants/list", &json!({"account": "user-1"}))).await.ok(200);
    assert_eq!((&list["total"], &list["grants"][0]["grant_kind"]), (&json!(1), &json!("oauth")), "{list}");
    assert_eq!(list["grants"][0]["account_display_name"], "someone@example.com");
    let elsewhere =
        json!({"grant_id": id, "request": {"method": "GET", "url": "https://evil.example.com/"}, "reason": null});
    server.send(server.sign(&world.key).post("/sdk/token", &elsewhere)).await.refused(Code::BlockedDestination);
    for kind in ["connect.created", "connect.opened", "connect.done", "grant.created"] {
        assert!(!server.told(&world, kind).await.is_empty(), "{kind}");
    }
}

async fn connecting_the_same_account_again_keeps_the_grant(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let first = connect(&server, &world, Value::Null).await;
    let again = connect(&server, &world, Value::Null).await;
    assert_eq!((&again["grant_id"], &again["operation"]), (&first["grant_id"], &json!("reauth")));
    assert_eq!(token(&server, &world, &text(&first, "grant_id")).await.ok(200)["access_token"], "canary-access-2");
    // A label is a grant of its own on the same account, and the same one the next time.
    let labelled = connect(&server, &world, json!({"requested_grant": {"label": "nightly"}})).await;
    assert_ne!(labelled["grant_id"], first["grant_id"]);
    let relabelled = connect(&server, &world, json!({"requested_grant": {"label": "nightly"}})).await;
    assert_eq!(relabelled["grant_id"], labelled["grant_id"]);
    // Another account is another grant, and none that mends this one.
    issuer.is_account("user-2");
    let other = connect(&server, &world, Value::Null).await;
    assert!(other["operation"] == "creation" && other["grant_id"] != first["grant_id"]);
    let repair = session(&server, &world, json!({"repair_grant_id": first["grant_id"]})).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &repair).await;
    let link = browser.start(&server, &page, ID).await;
    let back = browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert!(back.text.contains("account_mismatch"), "{}", back.text);
    assert_eq!(poll(&server, &world, &repair).await["status"], "pending");
    issuer.is_account("user-1");
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    let mended = poll(&server, &world, &repair).await;
    assert_eq!(mended["grants"][0]["grant_id"], first["grant_id"], "{mended}");
    let unknown = json!({"repair_grant_id": world.grant});
    ask(&server, &world, unknown).await.refused(Code::GrantNotFound);
}

async fn a_session_belongs_to_one_browser_and_one_answer(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let session = session(&server, &world, Value::Null).await;
    let (mut mine, mut theirs) = (Browser::default(), Browser::default());
    let page = mine.open(&server, &session).await;
    let stolen = theirs.post(&server, "/connect/open", &[("session", &text(&session, "session_token"))]).await;
    assert_eq!(stolen.status, 403, "{}", stolen.text);
    assert_eq!(theirs.get(&server, &page).await.status, 403);
    assert_eq!(mine.post(&server, &format!("{page}/start"), &[("provider", ID), ("csrf", "x")]).await.status, 400);
    let link = mine.start(&server, &page, ID).await;
    let answer = [("code", "code-1"), ("state", link["state"].as_str())];
    assert_eq!(theirs.back(&server, &answer).await.status, 403);
    assert_eq!(Browser::default().back(&server, &answer).await.status, 403);
    assert!(issuer.calls("/token").is_empty(), "nothing is exchanged for a stranger");
    assert_eq!(mine.back(&server, &answer).await.status, 200);
    assert_eq!(mine.back(&server, &answer).await.status, 410, "a state is good once");
    assert_eq!(issuer.calls("/token").len(), 1);
    // The browser that opened it may open it again; a session that is over makes nothing more.
    assert_eq!(mine.open(&server, &session).await, page);
    assert!(mine.get(&server, &page).await.text.contains("alter_connect_success"));
    // Another app does not know it, and nobody knows a made-up one.
    let stranger = server.world_named("Second").await;
    assert_eq!(poll(&server, &stranger, &session).await, json!({"status": "expired"}));
    assert_eq!(poll(&server, &world, &json!({"session_token": "sess_x"})).await, json!({"status": "expired"}));
    // Ten minutes, and not a millisecond more.
    let late = self::session(&server, &world, Value::Null).await;
    let page = mine.open(&server, &late).await;
    let link = mine.start(&server, &page, ID).await;
    server.advance_ms(599_999);
    assert_eq!(poll(&server, &world, &late).await["status"], "pending");
    server.advance_ms(1);
    assert_eq!(poll(&server, &world, &late).await["status"], "expired");
    assert_eq!(mine.back(&server, &[("code", "c"), ("state", &link["state"])]).await.status, 410);
    jobs::prune_sessions(&server.vault).await.unwrap();
    server.advance_ms(3_600_001);
    jobs::prune_sessions(&server.vault).await.unwrap();
    assert_eq!(mine.get(&server, &page).await.status, 403);
}

async fn an_archived_app_connects_nobody(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let set = |to: &'static str| {
        let path = world.path(to);
        let server = server.clone();
        async move { server.api("POST", &path, Value::Null).await.ok(200) }
    };
    let poll_raw = |session: &Value| {
        let body = json!({"session_token": session["session_token"]});
        server.send(server.sign(&world.key).post("/sdk/oauth/connect/session/poll", &body))
    };
    // One that nobody opened yet, one that is on its way, one whose code is being exchanged, and one that is done.
    let unopened = session(&server, &world, Value::Null).await;
    let under_way = session(&server, &world, Value::Null).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &under_way).await;
    let csrf = between(&browser.get(&server, &page).await.text, r#"name="csrf" value=""#, "\"");
    let link = browser.start(&server, &page, ID).await;
    let late = session(&server, &world, Value::Null).await;
    let mut other = Browser::default();
    let late_page = other.open(&server, &late).await;
    let late_link = other.start(&server, &late_page, ID).await;
    let go_on = Arc::new(Notify::new());
    issuer.plays([Play::Wait(Arc::clone(&go_on))]);
    let of_task = server.clone();
    let exchanging = tokio::spawn(async move {
        other.back(&of_task, &[("code", "c"), ("state", &late_link["state"])]).await;
        other
    });
    while issuer.calls("/token").is_empty() {
        tokio::task::yield_now().await;
    }
    set("archive").await;
    go_on.notify_one();
    let mut other = exchanging.await.unwrap();

    let closed = browser.get(&server, &page).await;
    assert!(closed.status == 410 && closed.text.contains("cannot be connected to"), "{}", closed.text);
    let form = [("provider", ID), ("csrf", csrf.as_str())];
    for action in ["start", "decline", "finish"] {
        assert_eq!(browser.post(&server, &format!("{page}/{action}"), &form).await.status, 410, "{action}");
    }
    let opened =
        Browser::default().post(&server, "/connect/open", &[("session", &text(&unopened, "connect_url"))]).await;
    assert!(opened.status == 410 && opened.text.contains("cannot be connected to"), "{}", opened.text);
    assert_eq!(browser.get(&server, "/connect/closed").await.status, 410);
    browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert_eq!(issuer.calls("/token").len(), 1, "no code is exchanged any more");
    assert!(issuer.calls("/userinfo").len() <= 1);
    poll_raw(&under_way).await.refused(Code::KeyNotActive);

    // Nothing came of either, and that is told.
    set("unarchive").await;
    for over in [&under_way, &late] {
        let told = poll(&server, &world, over).await;
        assert_eq!(
            (&told["status"], &told["error"]["error_code"]),
            (&json!("error"), &json!("connect_config_error")),
            "{told}"
        );
    }
    assert!(other.get(&server, &late_page).await.text.contains("connect_config_error"));
    let list = server.api("GET", &world.path("grants?provider=acme"), Value::Null).await.ok(200);
    assert_eq!(list["total"], 0, "{list}");
    // One that was not touched goes on.
    let mut third = Browser::default();
    let page = third.open(&server, &unopened).await;
    let link = third.start(&server, &page, ID).await;
    third.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert_eq!(poll(&server, &world, &unopened).await["status"], "completed");
}

async fn refusing_and_granting_less_leave_nothing_behind(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let mut browser = Browser::default();
    // At the provider.
    let refused = session(&server, &world, Value::Null).await;
    let page = browser.open(&server, &refused).await;
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("error", "access_denied"), ("state", &link["state"])]).await;
    assert_eq!(poll(&server, &world, &refused).await["error"]["error_code"], "connect_denied");
    // Here.
    let declined = session(&server, &world, Value::Null).await;
    let page = browser.open(&server, &declined).await;
    let csrf = between(&browser.get(&server, &page).await.text, r#"name="csrf" value=""#, "\"");
    browser.post(&server, &format!("{page}/decline"), &[("provider", ID), ("csrf", &csrf)]).await;
    assert_eq!(poll(&server, &world, &declined).await["error"]["error_code"], "connect_denied");
    // Less than was needed; then all of it.
    issuer.says(json!({"expires_in": 3600, "scope": "read"}));
    let partial = session(&server, &world, json!({"required_scopes": {ID: ["read", "admin"]}})).await;
    let page = browser.open(&server, &partial).await;
    let link = browser.start(&server, &page, ID).await;
    assert_eq!(link["scope"], "read write admin");
    let back = browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert!(back.text.contains("admin"), "{}", back.text);
    assert_eq!(poll(&server, &world, &partial).await["status"], "pending");
    issuer.says(json!({"expires_in": 3600, "scope": "read admin"}));
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    let polled = poll(&server, &world, &partial).await;
    assert_eq!(polled["grants"][0]["scopes"], json!(["read", "admin"]), "{polled}");
    // How the app is registered is nothing a user can mend.
    issuer.plays([Play::Answer(401, json!({"error": "invalid_client"}).to_string())]);
    let wrong = session(&server, &world, Value::Null).await;
    let page = browser.open(&server, &wrong).await;
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert_eq!(poll(&server, &world, &wrong).await["error"]["error_code"], "invalid_client");
    let list = server.api("GET", &world.path("grants?provider=acme"), Value::Null).await.ok(200);
    assert_eq!(list["total"], 1, "{list}");
}

async fn what_is_asked_for_must_be_possible(server: Server) {
    let (server, world, _) = acme(&server).await;
    for (more, code) in [
        (json!({"allowed_providers": ["github"]}), Code::InvalidRequest),
        (json!({"allowed_providers": []}), Code::InvalidRequest),
        (json!({"return_url": "http://app.example.com/"}), Code::InvalidRedirectUri),
        (json!({"return_url": "javascript:alert(1)"}), Code::InvalidRedirectUri),
        (json!({"allowed_origin": "https://app.example.com/path"}), Code::InvalidRequest),
        (json!({"required_scopes": {"acme": ["a b"]}}), Code::ScopeNotAllowed),
        (json!({"required_scopes": {"other": ["a"]}}), Code::InvalidRequest),
        (json!({"user_token": "x"}), Code::JwtValidationError),
        (json!({"agent": "x"}), Code::FeatureUnavailable),
        (json!({"grant_policy": {"expires_at": "2030-01-01T00:00:00Z"}}), Code::InvalidValue),
        (json!({"metadata": {"user_agent": "x".repeat(2048)}}), Code::InvalidRequest),
        (json!({"requested_grant": {"label": "x".repeat(256)}}), Code::InvalidValue),
    ] {
        let answer = ask(&server, &world, more.clone()).await;
        assert_eq!(answer.code(), code.as_str(), "{more}: {}", answer.text);
    }
    let bound =
        json!({"metadata": {"user_agent": "x".repeat(2048 - 17)}, "requested_grant": {"label": "x".repeat(255)}});
    assert_eq!(json!({"user_agent": "x".repeat(2048 - 17)}).to_string().len(), 2048);
    ask(&server, &world, bound).await.ok(201);
    let narrow = server.key_with(&world.app, &["tokens:retrieve"]).await;
    let narrow = World { key: narrow, ..world };
    ask(&server, &narrow, Value::Null).await.refused(Code::InsufficientScope);
}

async fn many_callers_and_two_processes_renew_once(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let other = issuer.reached_by(&server, "other").await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    token(&other, &world, &grant).await.ok(200);
    server.advance_ms(3_600_000);
    let go_on = Arc::new(Notify::new());
    issuer.plays([Play::Wait(Arc::clone(&go_on))]);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (server, world, grant) =
            (if n % 2 == 0 { server.clone() } else { other.clone() }, world.clone(), grant.clone());
        calls.spawn(async move { token(&server, &world, &grant).await.ok(200) });
    }
    // One that hangs up ends nothing.
    let (hasty, of, id) = (server.clone(), world.clone(), grant.clone());
    let hasty = tokio::spawn(async move { token(&hasty, &of, &id).await });
    while issuer.renewals() == 0 {
        tokio::task::yield_now().await;
    }
    hasty.abort();
    go_on.notify_one();
    while let Some(token) = calls.join_next().await {
        assert_eq!(token.unwrap()["access_token"], "canary-access-2");
    }
    assert_eq!(issuer.renewals(), 1);
    assert_eq!(server.told(&world, "credential.refreshed").await.len(), 1);
}

async fn what_the_token_endpoint_says_decides_over_the_grant(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    server.advance_ms(3_600_000);
    // Down: the pair stays, and nobody asks again before the pause is over.
    issuer.plays([Play::Answer(503, "<html>busy</html>".to_owned())]);
    let down = token(&server, &world, &grant).await;
    assert_eq!(down.code(), Code::TokenEndpointFailed.as_str(), "{}", down.text);
    assert!(down.headers.contains_key("retry-after"));
    token(&server, &world, &grant).await.refused(Code::TokenEndpointFailed);
    assert_eq!(issuer.renewals(), 1);
    server.advance_ms(2_000);
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    // Wrongly registered: no grant is to blame, and the operator is told.
    server.advance_ms(3_600_000);
    issuer.plays([Play::Answer(401, json!({"error": "invalid_client"}).to_string())]);
    let wrong = token(&server, &world, &grant).await;
    assert!(
        wrong.code() == Code::TokenEndpointFailed.as_str() && wrong.text.contains("invalid_client"),
        "{}",
        wrong.text
    );
    assert_eq!(shown(&server, &world, &grant).await["needs_reconnect"], false);
    server.advance_ms(60_000);
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-3");
    // Over.
    server.advance_ms(3_600_000);
    issuer.withdraws();
    let over = token(&server, &world, &grant).await;
    assert_eq!(over.code(), Code::CredentialRevoked.as_str(), "{}", over.text);
    assert_eq!(shown(&server, &world, &grant).await["needs_reconnect"], true);
    let broken = server.told(&world, "credential.broken").await;
    assert_eq!((broken.len(), &broken[0]["reason"]), (1, &json!("reconnect")), "{broken:?}");
    let asked = issuer.renewals();
    token(&server, &world, &grant).await.refused(Code::CredentialRevoked);
    assert_eq!(issuer.renewals(), asked);
    // The same grant goes on when the user connects again.
    let again = connect(&server, &world, json!({"repair_grant_id": grant})).await;
    assert_eq!(again["grant_id"], grant.as_str());
    token(&server, &world, &grant).await.ok(200);
}

async fn a_lost_answer_is_told_from_a_consent_that_is_over(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    // Nothing happened there: the old pair is still good.
    server.advance_ms(3_600_000);
    issuer.plays([Play::Cut]);
    token(&server, &world, &grant).await.refused(Code::TokenEndpointFailed);
    server.advance_ms(2_000);
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    // The refresh token was spent, and what it was spent for is gone.
    server.advance_ms(3_600_000);
    issuer.plays([Play::Lose]);
    token(&server, &world, &grant).await.refused(Code::TokenEndpointFailed);
    server.advance_ms(2_000);
    token(&server, &world, &grant).await.refused(Code::CredentialRevoked);
    let broken = server.told(&world, "credential.broken").await;
    assert_eq!((broken.len(), &broken[0]["reason"]), (1, &json!("rotation_unknown")), "{broken:?}");
}

async fn revoking_ends_the_tokens_at_the_provider(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    let sibling = text(&connect(&server, &world, json!({"requested_grant": {"label": "two"}})).await, "grant_id");
    let first = server.revoke(&world, &sibling).await.ok(200);
    assert_eq!((&first["revoked_upstream"], &first["credential_destroyed"]), (&json!("no"), &json!(false)));
    let last = server.revoke(&world, &grant).await.ok(200);
    assert_eq!((&last["revoked_upstream"], &last["credential_destroyed"]), (&json!("pending"), &json!(true)));
    token(&server, &world, &grant).await.refused(Code::GrantRevoked);
    jobs::end_revoked(&server.vault).await.unwrap();
    let calls = issuer.calls("/revoke");
    assert_eq!((calls.len(), &*calls[0]["token"]), (1, "canary-refresh-2"));
    let told = server.told(&world, "credential.revoked_upstream").await;
    assert_eq!(told[0]["revoked_upstream"], "done");
    assert_eq!(server.revoke(&world, &grant).await.ok(200)["revoked_upstream"], "yes");
    jobs::end_revoked(&server.vault).await.unwrap();
    assert_eq!(issuer.calls("/revoke").len(), 1);
    // A new connection of the account is a new grant.
    assert_eq!(connect(&server, &world, Value::Null).await["operation"], "creation");
}

async fn an_ending_that_is_refused_is_tried_again(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let connected = async || text(&connect(&server, &world, Value::Null).await, "grant_id");
    let upstream = async |grant: &str| shown(&server, &world, grant).await["revoked_upstream"].clone();
    let refused = |status: u16, error: &str| (status, json!({"error": error}).to_string());

    // Who refuses the client, or cannot answer, has ended nothing.
    let grant = connected().await;
    issuer.answers_revocations([refused(401, "invalid_client"), (404, String::new()), (503, String::new())]);
    server.revoke(&world, &grant).await.ok(200);
    for attempts in 1..=3 {
        jobs::end_revoked(&server.vault).await.unwrap();
        jobs::end_revoked(&server.vault).await.unwrap();
        assert_eq!((issuer.calls("/revoke").len(), upstream(&grant).await), (attempts, json!("pending")));
        server.advance_ms(3_600_000);
    }
    jobs::end_revoked(&server.vault).await.unwrap();
    assert_eq!((issuer.calls("/revoke").len(), upstream(&grant).await), (4, json!("yes")));

    // A token that is unknown there is over.
    let grant = connected().await;
    issuer.answers_revocations([refused(400, "invalid_token")]);
    server.revoke(&world, &grant).await.ok(200);
    jobs::end_revoked(&server.vault).await.unwrap();
    assert_eq!((issuer.calls("/revoke").len(), upstream(&grant).await), (5, json!("yes")));

    // Nobody tries for ever, and the trail says so.
    let grant = connected().await;
    issuer.answers_revocations(vec![refused(400, "unauthorized_client"); 8]);
    server.revoke(&world, &grant).await.ok(200);
    for _ in 0..8 {
        assert_eq!(upstream(&grant).await, "pending");
        jobs::end_revoked(&server.vault).await.unwrap();
        server.advance_ms(24 * 3_600_000);
    }
    assert_eq!(upstream(&grant).await, "failed");
    jobs::end_revoked(&server.vault).await.unwrap();
    assert_eq!(issuer.calls("/revoke").len(), 13);
    let told = server.told(&world, "credential.revoked_upstream").await;
    let failed = told.iter().find(|event| event["revoked_upstream"] == "failed").unwrap();
    assert_eq!((&failed["attempts"], &failed["outcome"]), (&json!(8), &json!("error")), "{told:?}");
}

async fn revoking_all_of_a_provider_ends_all_its_tokens(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let mut connected = Vec::new();
    for account in ["user-1", "user-2"] {
        issuer.is_account(account);
        connected.push(text(&connect(&server, &world, Value::Null).await, "grant_id"));
    }
    connected.push(text(&connect(&server, &world, json!({"requested_grant": {"label": "two"}})).await, "grant_id"));
    let body = json!({"provider": ID, "reason": "the client secret leaked"});
    let many = server.api("POST", &world.path("grants/revoke"), body).await.ok(200);
    assert_eq!((&many["total"], &many["done"], &many["credentials_destroyed"]), (&json!(3), &json!(3), &json!(2)));
    for grant in &connected {
        token(&server, &world, grant).await.refused(Code::GrantRevoked);
    }
    server.token(&world).await.ok(200);
    let listed = async |upstream: &str| {
        let path = world.path(&format!("grants?provider={ID}&upstream={upstream}"));
        server.api("GET", &path, Value::Null).await.ok(200)["total"].as_i64()
    };
    assert_eq!((listed("pending").await, listed("yes").await), (Some(3), Some(0)));
    assert_eq!(shown(&server, &world, &connected[0]).await["revoked_upstream"], "pending");
    jobs::end_revoked(&server.vault).await.unwrap();
    assert_eq!(issuer.calls("/revoke").len(), 2);
    assert_eq!((listed("pending").await, listed("yes").await, listed("failed").await), (Some(0), Some(3), Some(0)));
    assert_eq!(shown(&server, &world, &connected[2]).await["revoked_upstream"], "yes");
}

async fn a_claimed_401_renews_once_and_holds_nobody_up(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    let released = token(&server, &world, &grant).await.ok(200);
    let report = |generation: &Value| {
        json!({"grant_id": grant, "provider_id": ID, "token_generation": generation, "method": "GET", "url": URL,
            "response_status": 401, "latency_ms": 1, "reason": null, "context": null})
    };
    for _ in 0..2 {
        let raw = server.sign(&world.key).post("/sdk/oauth/audit/api-call", &report(&released["token_generation"]));
        server.send(raw).await.ok(200);
    }
    while server.told(&world, "credential.refreshed").await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    // A generation that is gone renews nothing.
    let raw = server.sign(&world.key).post("/sdk/oauth/audit/api-call", &report(&released["token_generation"]));
    server.send(raw).await.ok(200);
    assert_eq!(issuer.renewals(), 1);
    // A claim alone keeps nobody from a token that has not ended, even when no new one is to be had.
    let released = token(&server, &world, &grant).await.ok(200);
    issuer.plays([Play::Answer(500, String::new())]);
    let raw = server.sign(&world.key).post("/sdk/oauth/audit/api-call", &report(&released["token_generation"]));
    server.send(raw).await.ok(200);
    while server.told(&world, "credential.refresh_failed").await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    // When the pause is over whoever asks next begins another attempt: this process remembers the row as it was before the claim.
    server.advance_ms(2_000);
    while server.told(&world, "credential.refreshed").await.len() < 2 {
        token(&server, &world, &grant).await.ok(200);
    }
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-3");
}

async fn tokens_are_renewed_before_they_end(server: Server) {
    let (server, world, issuer) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    jobs::renew_due(&server.vault).await.unwrap();
    assert_eq!(issuer.renewals(), 0);
    // Within every process's own part of the margin.
    server.advance_ms(3_600_000 - 180_000);
    jobs::renew_due(&server.vault).await.unwrap();
    assert_eq!(issuer.renewals(), 1);
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    assert_eq!(issuer.renewals(), 1);
    // A caller within the margin gets what there is, and a new one is asked for beside it.
    server.advance_ms(3_600_000 - 200_000);
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-2");
    while issuer.renewals() < 2 {
        tokio::task::yield_now().await;
    }
    while server.told(&world, "credential.refreshed").await.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(token(&server, &world, &grant).await.ok(200)["access_token"], "canary-access-3");
}

async fn a_sibling_is_only_ever_tighter(server: Server) {
    let (server, world, _) = acme(&server).await;
    let source = connect(&server, &world, json!({"grant_policy": {"max_ttl_seconds": 1000}})).await;
    let path = format!("/sdk/grants/{}/mint", text(&source, "grant_id"));
    let end = source["grant_policy"]["expires_at"].clone();
    let mint = |body: Value| server.send(server.sign(&world.key).post(&path, &body));
    let minted = mint(json!({"label": "nightly"})).await.ok(201);
    assert_eq!((&minted["grant_policy"]["expires_at"], &minted["account_identifier"]), (&end, &json!("user-1")));
    token(&server, &world, &text(&minted, "grant_id")).await.ok(200);
    let longer = mint(json!({"label": "longer", "grant_policy": {"max_ttl_seconds": 100_000}})).await.ok(201);
    assert_eq!(longer["grant_policy"]["expires_at"], end);
    let shorter = mint(json!({"label": "shorter", "grant_policy": {"max_ttl_seconds": 10}})).await.ok(201);
    assert!(text(&shorter["grant_policy"], "expires_at").as_str() < end.as_str().unwrap());
    mint(json!({"label": "nightly"})).await.refused(Code::SiblingLabelConflict);
    mint(json!({"label": "x", "grant_policy": {"unknown": 1}})).await.refused(Code::InvalidGrantPolicy);
    mint(json!({"label": "x", "grant_policy": {"max_ttl_seconds": 0}})).await.refused(Code::InvalidGrantPolicy);
    mint(json!({"label": "x", "grant_policy": {"default_ttl_seconds": 5}})).await.refused(Code::InvalidGrantPolicy);
    mint(json!({"label": "x", "grant_policy": {"restrictions": {}}})).await.refused(Code::FeatureUnavailable);
    mint(json!({"label": ""})).await.refused(Code::InvalidValue);
    // Also beside a grant on a managed secret.
    let path = format!("/sdk/grants/{}/mint", world.grant);
    let of_secret = server.send(server.sign(&world.key).post(&path, &json!({"label": "two"}))).await.ok(201);
    assert_eq!(of_secret["provider_id"], world.secret.as_str());
    // A source that is over has none.
    server.revoke(&world, &world.grant).await.ok(200);
    server.send(server.sign(&world.key).post(&path, &json!({"label": "three"}))).await.refused(Code::GrantRevoked);
    server.advance_ms(1_000_000);
    mint(json!({"label": "late"})).await.refused(Code::GrantExpired);
}

async fn a_grant_takes_the_tenant_of_its_first_use(server: Server) {
    let (server, world, _) = acme(&server).await;
    let grant = text(&connect(&server, &world, Value::Null).await, "grant_id");
    token(&server, &world, &grant).await.ok(200);
    assert_eq!(shown(&server, &world, &grant).await["tenant"], Value::Null);
    server.update_app(&world, json!({"tenant_key": "user_id", "tenant_mode": "enforce"})).await;
    let body = json!({"grant_id": grant, "request": {"method": "GET", "url": URL}, "reason": null});
    let of = |user: &str| {
        let context = json!({"user_id": user}).to_string();
        server.sign(&world.key).context(&context).post("/sdk/token", &body)
    };
    token(&server, &world, &grant).await.refused(Code::TenantMismatch);
    server.send(of("ann")).await.ok(200);
    assert_eq!(shown(&server, &world, &grant).await["tenant"], "ann");
    server.send(of("bob")).await.refused(Code::TenantMismatch);
    server.send(of("ann")).await.ok(200);
}
