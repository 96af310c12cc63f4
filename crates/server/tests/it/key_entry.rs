//! Users' own keys for managed secrets: from the session an app asks for, over the hosted page, to a call with that key.

use grantd_domain::destination::OutboundAllow;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::browser::{Browser, between};
use crate::harness::world::{ask as call, merged, text};
use crate::harness::{Answer, Server, World};
use crate::probe::{Vendor, authorities_of_vendor};
use crate::sign_in::{Idp, acme};

on_kept_engines! {
    ext_74_a_user_gives_a_key_and_the_app_uses_it,
    a_key_that_was_given_is_used_again_or_replaced,
    the_vendor_says_whether_a_key_works,
    two_keys_at_once_are_one,
    a_secret_with_many_keys_is_deleted,
    what_cannot_be_a_key_is_not_tried,
    a_key_session_belongs_to_one_browser_and_one_user,
    sessions_end_with_their_user,
}

in_memory! {
    tries_are_counted,
    what_is_asked_for_must_be_possible,
    a_template_stands_for_its_one_secret,
}

/// A key that somebody enters. The harness looks for its first word in every answer, event and log line.
const KEY: &str = "canary-of-a-user";
const PATH: &str = "/sdk/managed-secrets/connect/session";

async fn ask(server: &Server, world: &World, token: &str, more: Value) -> Answer {
    let body = merged(json!({"provider": world.secret, "user_token": token}), more);
    server.send(server.sign_as(world).post(PATH, &body)).await
}

async fn poll(server: &Server, world: &World, session: &Value) -> Value {
    let body = json!({"session_token": session["session_token"]});
    server.send(server.sign_as(world).post("/sdk/oauth/connect/session/poll", &body)).await.ok(200)
}

/// Sends a form of the session's page.
async fn send(server: &Server, browser: &mut Browser, path: &str, action: &str, form: &[(&str, &str)]) -> Answer {
    browser.form(server, path, action, form).await
}

/// Enters a key that is kept; what the app is told.
async fn give(server: &Server, world: &World, session: &Value, key: &str) -> Value {
    let mut browser = Browser::default();
    let path = browser.open(server, session).await;
    let sent = send(server, &mut browser, &path, "key", &[("key", key)]).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    assert!(browser.get(server, &path).await.text.contains("is connected"));
    let told = poll(server, world, session).await;
    assert_eq!(told["status"], "completed", "{told}");
    told["grants"][0].clone()
}

/// What the app gets for this grant and user.
async fn released(server: &Server, world: &World, grant: &str, token: &str) -> Answer {
    let body = merged(call(grant), json!({"user_token": token}));
    server.send(server.sign_as(world).post("/sdk/token", &body)).await
}

async fn ext_74_a_user_gives_a_key_and_the_app_uses_it(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let session = ask(&server, &world, &token, json!({"requested_grant": {"label": "mine"}})).await.ok(201);
    assert_eq!((&session["path"], &session["existing_grant_id"]), (&json!("key_entry"), &Value::Null));
    assert_eq!((&session["secret_slug"], &session["template_slug"]), (&json!(world.secret), &Value::Null));
    assert_eq!((&session["delegable_requested"], &session["direct"]), (&json!(false), &json!(false)));
    assert_eq!((&session["agent_id"], &session["expires_in"]), (&Value::Null, &json!(limits::CONNECT_SESSION_S)));
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    let mut browser = Browser::default();
    let path = browser.open(&server, &session).await;
    let page = browser.get(&server, &path).await;
    for words in ["Add your", "a…@example.com", "api.example.com", "type=\"password\"", "autocomplete=\"off\""] {
        assert!(page.text.contains(words), "{words}: {}", page.text);
    }
    let sent = send(&server, &mut browser, &path, "key", &[("key", &format!("  {KEY}\n"))]).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let told = poll(&server, &world, &session).await;
    let grant = &told["grants"][0];
    assert_eq!((&grant["provider_id"], &grant["operation"]), (&json!(world.secret), &json!("creation")), "{told}");
    assert_eq!(grant["account_identifier"], "mine");
    let grant = text(grant, "grant_id");
    // The key itself, without the blanks around it, and for its user alone.
    let released = released(&server, &world, &grant, &token).await.ok(200);
    assert_eq!(released["access_token"], KEY);
    let other = idp.token(&server, json!({"sub": "user-2", "email": "bob@example.com"}));
    self::released(&server, &world, &grant, &other).await.refused(Code::GrantNotFound);
    let by_name =
        json!({"provider_id": world.secret, "user_token": token, "reason": null, "request": call(&grant)["request"]});
    let by_name = server.send(server.sign_as(&world).post("/sdk/token", &by_name)).await.ok(200);
    assert_eq!(by_name["grant_id"], grant);
    let listed = json!({"limit": 10, "offset": 0, "user_token": token});
    let listed = server.send(server.sign_as(&world).post("/sdk/grants/list", &listed)).await.ok(200);
    let listed = &listed["grants"][0];
    assert_eq!((&listed["grant_id"], &listed["credential_kind"]), (&json!(grant), &json!("end_user")));
    assert_eq!((&listed["principal_type"], &listed["label"]), (&json!("user"), &json!("mine")));
    // What the app stored itself is what it was, and others cannot be given the user's key.
    assert_eq!(server.token(&world).await.ok(200)["access_token"], crate::harness::world::VALUE);
    let body = json!({"principal": {"type": "system"}, "credential_id": listed["credential_id"]});
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    server.send(server.sign_as(&world).post(&path, &body)).await.refused(Code::EndUserCredentialNotAssignable);
    let access = world.path(&format!("managed-secrets/{}/access", world.secret));
    let access = server.api("GET", &access, Value::Null).await.ok(200);
    let access = access["items"].as_array().unwrap();
    assert!(access.iter().any(|item| item["grant_id"] == grant && item["principal_type"] == "user"), "{access:?}");
    let user = server.told(&world, "connect.done").await[0]["user_id"].clone();
    for kind in ["connect.created", "connect.opened", "connect.done", "grant.created"] {
        let told = server.told(&world, kind).await;
        assert_eq!(told.last().unwrap()["user_id"], user, "{kind}");
    }
    // Its page says so from now on, to that browser, and takes no further key.
    let page = browser.get(&server, path_of(&session, &mut browser.clone(), &server).await.as_str()).await;
    assert!(page.text.contains("can now use your"), "{}", page.text);
    // Revoking the last grant on it ends the key, as it does an account.
    server.revoke(&world, &grant).await.ok(200);
    self::released(&server, &world, &grant, &token).await.refused(Code::GrantRevoked);
    let left = "SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL AND sealed IS NOT NULL";
    assert_eq!(server.database.number(left).await, 0);
}

/// The page's path, from the same browser's link.
async fn path_of(session: &Value, browser: &mut Browser, server: &Server) -> String {
    browser.open(server, session).await
}

async fn a_key_that_was_given_is_used_again_or_replaced(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let first = ask(&server, &world, &token, json!({"grant_policy": {"max_ttl_seconds": 3600}})).await.ok(201);
    let grant = text(&give(&server, &world, &first, KEY).await, "grant_id");

    let again = ask(&server, &world, &token, json!({"requested_grant": {"label": "other"}})).await.ok(201);
    assert_eq!((&again["path"], &again["existing_grant_id"]), (&json!("fast_path"), &json!(grant)));
    let mut browser = Browser::default();
    let path = browser.open(&server, &again).await;
    let page = browser.get(&server, &path).await;
    assert!(page.text.contains("You gave this key before") && !page.text.contains("password"), "{}", page.text);
    // A key is not what is asked for.
    assert_eq!(send(&server, &mut browser, &path, "key", &[("key", "canary-2")]).await.status, 303);
    assert_eq!(poll(&server, &world, &again).await["status"], "pending");
    assert_eq!(send(&server, &mut browser, &path, "approve", &[]).await.status, 303);
    let told = poll(&server, &world, &again).await;
    assert_eq!((&told["grants"][0]["grant_id"], &told["grants"][0]["operation"]), (&json!(grant), &json!("reauth")));
    assert_eq!(released(&server, &world, &grant, &token).await.ok(200)["access_token"], KEY);

    let repair = ask(&server, &world, &token, json!({"repair_grant_id": grant})).await.ok(201);
    assert_eq!((&repair["path"], &repair["direct"]), (&json!("repair"), &json!(true)));
    assert_eq!(text(&give(&server, &world, &repair, "canary-2").await, "grant_id"), grant);
    assert_eq!(released(&server, &world, &grant, &token).await.ok(200)["access_token"], "canary-2");
    assert_eq!(server.told(&world, "credential.rotated").await.len(), 1);

    // One whose time is over is asked for again, and lives as long as the session says.
    server.advance_ms(3_600_000);
    let token = idp.token(&server, json!({}));
    released(&server, &world, &grant, &token).await.refused(Code::GrantExpired);
    let lapsed = ask(&server, &world, &token, json!({"requested_ttl_seconds": 60})).await.ok(201);
    assert_eq!((&lapsed["path"], &lapsed["existing_grant_id"]), (&json!("repair"), &json!(grant)));
    give(&server, &world, &lapsed, "canary-3").await;
    assert_eq!(released(&server, &world, &grant, &token).await.ok(200)["access_token"], "canary-3");
    server.advance_ms(60_000);
    released(&server, &world, &grant, &token).await.refused(Code::GrantExpired);
    // No value but the last is left, and there is one grant.
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 1);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM grants WHERE principal_type = 'user'").await, 1);
}

/// A server that may call a vendor, and an app with a secret of its template.
async fn with_vendor(server: &Server) -> (Server, World, Idp, Vendor) {
    let (server, mut world, idp) = acme(server).await;
    let vendor = Vendor::start().await;
    let (host, url) = (vendor.host(), idp.url());
    let reached = url.trim_start_matches("http://").to_owned();
    let server = server
        .another("checks", |settings| {
            settings.outbound = OutboundAllow::parse(&[host.clone(), reached]).unwrap();
            settings.outbound_roots = Some(authorities_of_vendor());
        })
        .await;
    let fields = json!({"host": host});
    let secret = json!({"name": "Git", "template": "gitlab", "fields": fields, "allowed_hosts": null});
    let secret = server.secret(&world.app, secret).await;
    world.secret = text(&secret, "slug");
    (server, world, idp, vendor)
}

async fn the_vendor_says_whether_a_key_works(server: Server) {
    let (server, world, idp, vendor) = with_vendor(&server).await;
    let token = idp.token(&server, json!({}));
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    let mut browser = Browser::default();
    let path = browser.open(&server, &session).await;
    let form = [("key", KEY), ("label", "My <b>key</b>"), ("unchecked", "yes")];

    vendor.says(401, "");
    let refused = send(&server, &mut browser, &path, "key", &form).await;
    assert_eq!(refused.status, 200, "{}", refused.text);
    assert!(refused.text.contains("did not accept this key") && refused.text.contains("401"), "{}", refused.text);
    // What is no secret is still there.
    assert!(refused.text.contains("value=\"My &lt;b&gt;key&lt;&#x2f;b&gt;\""), "{}", refused.text);
    assert!(!refused.text.contains("name=\"unchecked\""));
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    let failed = server.told(&world, "connect.failed").await;
    assert_eq!((&failed[0]["why"], &failed[0]["provider_code"]), (&json!("provider_refused"), &json!("401")));

    vendor.says(503, "");
    let unreachable = send(&server, &mut browser, &path, "key", &form).await;
    assert!(unreachable.text.contains("does not answer right now"), "{}", unreachable.text);
    // Only now it can be kept without a check, and only if its user says so.
    assert!(unreachable.text.contains("name=\"unchecked\""), "{}", unreachable.text);
    assert_eq!(vendor.seen().len(), 2);
    assert_eq!(send(&server, &mut browser, &path, "key", &form).await.status, 303);
    assert_eq!(vendor.seen().len(), 2);
    let kept = poll(&server, &world, &session).await;
    let kept = text(&kept["grants"][0], "grant_id");
    server.revoke(&world, &kept).await.ok(200);

    vendor.says(200, "");
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    give(&server, &world, &session, KEY).await;
    let seen = vendor.seen();
    assert!(seen[2].contains(&format!("private-token: {KEY}\r\n")), "{}", seen[2]);
    let (intended, answered) =
        (server.told(&world, "probe.intended").await, server.told(&world, "probe.answered").await);
    assert_eq!((intended.len(), answered.len()), (3, 3));
    for event in intended.iter().chain(&answered) {
        // Nothing is stored of what was tried.
        assert!(event["user_id"].is_string() && event["credential_id"].is_null(), "{event}");
    }
}

async fn two_keys_at_once_are_one(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let mut pages = Vec::new();
    for _ in 0..2 {
        let session = ask(&server, &world, &token, json!({})).await.ok(201);
        let mut browser = Browser::default();
        let path = browser.open(&server, &session).await;
        pages.push((browser, path));
    }
    let (mut one, mut two) = (pages[0].clone(), pages[1].clone());
    let form = [("key", KEY)];
    let (first, second) =
        tokio::join!(send(&server, &mut one.0, &one.1, "key", &form), send(&server, &mut two.0, &two.1, "key", &form));
    // Either both were kept, one over the other, or the second was told that it was no longer asked for.
    for answer in [&first, &second] {
        assert!([200, 303].contains(&answer.status), "{}", answer.text);
    }
    assert!(first.status == 303 || second.status == 303);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 1);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM grants WHERE principal_type = 'user'").await, 1);
}

async fn a_secret_with_many_keys_is_deleted(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let many = limits::SIBLINGS_MAX + 1;
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    for n in 0..many {
        let token = idp.token(&server, json!({"sub": format!("user-{n}")}));
        let body = json!({"principal": {"type": "user", "user_token": token, "label": "l"}});
        server.send(server.sign_as(&world).post(&path, &body)).await.ok(201);
    }
    let token = idp.token(&server, json!({"sub": "one-more"}));
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    let grant = text(&give(&server, &world, &session, KEY).await, "grant_id");
    let path = world.path(&format!("managed-secrets/{}", world.secret));
    let deleted = server.api("DELETE", &path, Value::Null).await.ok(200);
    assert_eq!(deleted["grants_revoked"], many + 2);
    released(&server, &world, &grant, &token).await.refused(Code::GrantRevoked);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE sealed IS NOT NULL").await, 0);
}

async fn what_cannot_be_a_key_is_not_tried(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    let mut browser = Browser::default();
    let path = browser.open(&server, &session).await;
    let long = "k".repeat(limits::SECRET_VALUE_BYTES_MAX + 1);
    let label = "l".repeat(limits::LABEL_CHARS_MAX + 1);
    for (form, words) in [
        (vec![], "Fill this in"),
        (vec![("key", "  ")], "Fill this in"),
        (vec![("key", "a\nb")], "does not fit"),
        (vec![("key", &long)], "does not fit"),
        (vec![("key", KEY), ("label", &label)], "does not fit"),
    ] {
        let answer = send(&server, &mut browser, &path, "key", &form).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.text.contains(words) && answer.text.contains("aria-invalid=\"true\""), "{}", answer.text);
    }
    let page_max = "x".repeat(limits::PAGE_BODY_BYTES_MAX);
    let answer = send(&server, &mut browser, &path, "key", &[("key", &page_max)]).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM connect_steps").await, 0, "nothing was tried");
    // At the bounds it fits.
    let (key, label) = (&long[1..], &label[1..]);
    let sent = send(&server, &mut browser, &path, "key", &[("key", key), ("label", label)]).await;
    assert_eq!(sent.status, 303, "{}", sent.text);
    let told = poll(&server, &world, &session).await;
    assert_eq!(told["grants"][0]["account_identifier"], label);
}

async fn tries_are_counted(server: Server) {
    let (server, world, idp, vendor) = with_vendor(&server).await;
    let token = idp.token(&server, json!({}));
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    let mut browser = Browser::default();
    let path = browser.open(&server, &session).await;
    vendor.says(401, "");
    for _ in 1..limits::KEY_TRIES_MAX {
        let answer = send(&server, &mut browser, &path, "key", &[("key", KEY)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    }
    let last = send(&server, &mut browser, &path, "key", &[("key", KEY)]).await;
    assert_eq!(last.status, 303, "{}", last.text);
    let told = poll(&server, &world, &session).await;
    assert_eq!((&told["status"], &told["error"]["error_code"]), (&json!("error"), &json!("provider_refused")));
    assert!(browser.get(&server, &path).await.text.contains("It did not work"));
    let tries = usize::try_from(limits::KEY_TRIES_MAX).unwrap();
    assert_eq!(vendor.seen().len(), tries);
    // Over is over, also for who still has the form.
    let sent = browser.post(&server, &format!("{path}/key"), &[("key", KEY)]).await;
    assert_eq!(sent.status, 400, "{}", sent.text);
    assert_eq!(vendor.seen().len(), tries);
}

async fn a_key_session_belongs_to_one_browser_and_one_user(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    ask(&server, &world, &token, json!({"user_token": null})).await.names(Code::InvalidRequest, "user_token");
    ask(&server, &world, "x", json!({})).await.refused(Code::JwtValidationError);
    let session = ask(&server, &world, &token, json!({})).await.ok(201);
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let path = browser.open(&server, &session).await;
    let link = text(&session, "connect_url");
    assert_eq!(other.post(&server, "/connect/open", &[("session", &link)]).await.status, 403);
    assert_eq!(other.get(&server, &path).await.status, 403);
    assert_eq!(other.post(&server, &format!("{path}/key"), &[("key", KEY)]).await.status, 403);
    // A form without the page's proof changes nothing, and an account is not what is asked for.
    assert_eq!(browser.post(&server, &format!("{path}/key"), &[("key", KEY), ("csrf", "x")]).await.status, 400);
    for action in ["start", "finish"] {
        let answer = send(&server, &mut browser, &path, action, &[("provider", &world.secret)]).await;
        assert_eq!(answer.status, 404, "{action}");
    }
    assert_eq!(send(&server, &mut browser, &path, "approve", &[]).await.status, 303);
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    let grant = text(&give_in(&server, &world, &mut browser, &session, &path).await, "grant_id");
    // Another user's key is one that nobody knows, and so is another app's session.
    let bob = idp.token(&server, json!({"sub": "user-2"}));
    ask(&server, &world, &bob, json!({"repair_grant_id": grant})).await.refused(Code::GrantNotFound);
    ask(&server, &world, &token, json!({"repair_grant_id": world.grant})).await.refused(Code::GrantNotFound);
    let stranger = server.world_named("Other").await;
    assert_eq!(poll(&server, &stranger, &session).await["status"], "expired");
    // The user says no; nothing comes of it.
    let declined = ask(&server, &world, &bob, json!({})).await.ok(201);
    let path = other.open(&server, &declined).await;
    send(&server, &mut other, &path, "decline", &[("provider", &world.secret)]).await;
    assert_eq!(poll(&server, &world, &declined).await["error"]["error_code"], "connect_denied");
    // One whose user was suspended, or whose app was archived, keeps nothing.
    let barred = ask(&server, &world, &bob, json!({})).await.ok(201);
    let path = other.open(&server, &barred).await;
    let user = server.told(&world, "connect.created").await.last().unwrap()["user_id"].clone();
    let user = world.path(&format!("users/{}", user.as_str().unwrap()));
    server.api("POST", &format!("{user}/suspend"), Value::Null).await.ok(200);
    send(&server, &mut other, &path, "key", &[("key", KEY)]).await;
    assert_eq!(poll(&server, &world, &barred).await["error"]["error_code"], "user_not_active");
    server.api("POST", &format!("{user}/resume"), Value::Null).await.ok(200);
    let closed = ask(&server, &world, &bob, json!({})).await.ok(201);
    let path = other.open(&server, &closed).await;
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    assert_eq!(other.get(&server, &path).await.status, 410);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 1);
}

async fn sessions_end_with_their_user(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let bob = idp.token(&server, json!({"sub": "user-2"}));
    let unopened = ask(&server, &world, &token, json!({})).await.ok(201);
    let opened = ask(&server, &world, &token, json!({})).await.ok(201);
    let of_bob = ask(&server, &world, &bob, json!({})).await.ok(201);
    let mut browser = Browser::default();
    let path = browser.open(&server, &opened).await;
    let page = browser.get(&server, &path).await;
    let csrf = between(&page.text, r#"name="csrf" value=""#, "\"");
    let users = server.api("GET", &world.path("users"), Value::Null).await.ok(200);
    let ann = users["items"].as_array().unwrap().iter().find(|user| user["subject"] == "user-1").unwrap();
    let gone = world.path(&format!("users/{}/deprovision", text(ann, "id")));
    server.api("POST", &gone, Value::Null).await.ok(200);
    for session in [&unopened, &opened] {
        let told = poll(&server, &world, session).await;
        assert_eq!((&told["status"], &told["error"]["error_code"]), (&json!("error"), &json!("user_not_active")));
    }
    // The page that was open takes nothing, and the link that was not opens nothing.
    let sent = browser.post(&server, &format!("{path}/key"), &[("key", KEY), ("csrf", &csrf)]).await;
    assert_eq!(sent.status, 303);
    assert!(browser.get(&server, &path).await.text.contains("It did not work"));
    let link = text(&unopened, "connect_url");
    assert_eq!(Browser::default().post(&server, "/connect/open", &[("session", &link)]).await.status, 410);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 0);
    assert_eq!(poll(&server, &world, &of_bob).await["status"], "pending");
    give(&server, &world, &of_bob, KEY).await;
}

async fn give_in(server: &Server, world: &World, browser: &mut Browser, session: &Value, path: &str) -> Value {
    assert_eq!(send(server, browser, path, "key", &[("key", KEY)]).await.status, 303);
    poll(server, world, session).await["grants"][0].clone()
}

async fn what_is_asked_for_must_be_possible(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let ask = |more: Value| {
        let (server, world, token) = (server.clone(), world.clone(), token.clone());
        async move { ask(&server, &world, &token, more).await }
    };
    ask(json!({"provider": "nothing"})).await.refused(Code::SecretNotFound);
    // By its slug alone, which the answer repeats.
    ask(json!({"provider": world.secret_id})).await.refused(Code::SecretNotFound);
    ask(json!({"provider": null})).await.names(Code::InvalidRequest, "provider");
    ask(json!({"template_slug": "stripe"})).await.refused(Code::SecretTemplateMismatch);
    for later in [json!({"agent": "a"}), json!({"delegated_agent_id": "a"}), json!({"delegable": true})] {
        ask(later).await.refused(Code::FeatureUnavailable);
    }
    ask(json!({"return_url": "http://evil.example/"})).await.names(Code::InvalidRedirectUri, "return_url");
    for origin in ["*", "", "app.example.com", "http://app.example.com", "https://app.example.com/x"] {
        ask(json!({"allowed_origin": origin})).await.names(Code::InvalidOrigin, "allowed_origin");
    }
    ask(json!({"allowed_origin": "https://app.example.com/", "return_url": "https://app.example.com/x"})).await.ok(201);
    let both = json!({"grant_policy": {"max_ttl_seconds": 60}, "requested_ttl_seconds": 60});
    ask(both).await.names(Code::InvalidRequest, "requested_ttl_seconds");
    ask(json!({"requested_ttl_seconds": 0})).await.refused(Code::InvalidValue);
    ask(json!({"grant_policy": {"expires_at": "2099-01-01T00:00:00Z"}})).await.refused(Code::InvalidValue);
    let label = "l".repeat(limits::LABEL_CHARS_MAX + 1);
    ask(json!({"requested_grant": {"label": label}})).await.refused(Code::InvalidValue);
    let both = json!({"requested_grant": {"label": "l"}, "repair_grant_id": world.grant});
    ask(both).await.names(Code::InvalidRequest, "repair_grant_id");
    // A user's key has a place to go to, or is not asked for.
    let anywhere = json!({"name": "Any", "allowed_hosts": null, "allow_any_host": true});
    let anywhere = server.secret(&world.app, anywhere).await;
    ask(json!({"provider": anywhere["slug"]})).await.refused(Code::BindingHostsRequired);
}

async fn a_template_stands_for_its_one_secret(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let by_template = json!({"provider": null, "template_slug": "stripe"});
    let refused = ask(&server, &world, &token, by_template.clone()).await.refused(Code::NoEligibleGrants);
    assert_eq!(refused["details"]["reason"], "no_grant");
    let stripe = |name: &str| json!({"name": name, "template": "stripe", "allowed_hosts": null});
    let one = server.secret(&world.app, stripe("Pay")).await;
    let session = ask(&server, &world, &token, by_template.clone()).await.ok(201);
    assert_eq!((&session["secret_slug"], &session["template_slug"]), (&one["slug"], &json!("stripe")));
    // Of two it is the one that the user holds something of.
    let two = server.secret(&world.app, stripe("Pay more")).await;
    ask(&server, &world, &token, by_template.clone()).await.refused(Code::NoEligibleGrants);
    let path = format!("/sdk/managed-secrets/{}/grants", text(&two, "slug"));
    let body = json!({"principal": {"type": "user", "user_token": token, "label": "given"}});
    let given = server.send(server.sign_as(&world).post(&path, &body)).await.ok(201);
    let session = ask(&server, &world, &token, by_template).await.ok(201);
    assert_eq!((&session["secret_slug"], &session["path"]), (&two["slug"], &json!("fast_path")));
    assert_eq!(session["existing_grant_id"], given["grant_id"]);
    let mut browser = Browser::default();
    let path = browser.open(&server, &session).await;
    assert!(browser.get(&server, &path).await.text.contains("You need no key of your own"));
}
