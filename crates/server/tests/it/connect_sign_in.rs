//! Apps that demand that whoever connects signs in first, and that name the origins which users come back to.

use grantd_store::operators::Role;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::issuer::ID;
use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};
use crate::oauth;
use crate::sign_in::{Idp, acme};

on_kept_engines! {
    whoever_connects_signs_in_first_as_the_user_of_the_session,
    a_key_is_taken_from_the_user_of_the_session_alone,
    users_are_sent_back_to_listed_origins_only,
    a_session_that_nobody_could_sign_in_for_is_not_made,
    the_demand_counts_for_sessions_that_are_under_way,
}

in_memory! {
    what_the_user_answers_instead_of_signing_in_is_told,
    the_settings_are_checked_and_an_admins,
}

const FIRST: &str = "First, who are you?";

/// An app that demands sign-in, registered with an OAuth provider beside the identity provider.
async fn demanding(server: &Server) -> (Server, World, Idp) {
    let (server, world, idp) = acme(server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    server.update_app(&world, json!({"connect_sign_in": "required"})).await;
    (server, world, idp)
}

fn of(server: &Server, idp: &Idp, user: &str) -> Value {
    json!({"user_token": idp.token(server, json!({"sub": user}))})
}

/// Signs in as this user, from the page of a session; the page that follows.
async fn signs_in(server: &Server, idp: &Idp, browser: &mut Browser, page: &str, user: &str) -> Answer {
    let asked = browser.sign_in(server, page).await;
    idp.issues(&idp.token(server, json!({"sub": user, "nonce": asked["nonce"]})));
    let back = browser.back(server, &[("code", "c"), ("state", &asked["state"])]).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    back
}

async fn poll(server: &Server, world: &World, session: &Value) -> Value {
    let body = json!({"session_token": session["session_token"]});
    server.send(server.sign_as(world).post("/sdk/oauth/connect/session/poll", &body)).await.ok(200)
}

async fn whoever_connects_signs_in_first_as_the_user_of_the_session(server: Server) {
    let (server, world, idp) = demanding(&server).await;
    let session = oauth::session(&server, &world, of(&server, &idp, "user-1")).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    let shown = browser.get(&server, &page).await;
    assert!(shown.text.contains(FIRST) && shown.text.contains("a…@example.com"), "{}", shown.text);
    // Nothing begins by a form that this page does not show.
    let pushed = browser.form(&server, &page, "start", &[("provider", ID)]).await;
    assert_eq!((pushed.status, pushed.header("location")), (303, &*page));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM connect_steps").await, 0);

    let asked = browser.sign_in(&server, &page).await;
    assert_eq!((&*asked["client_id"], &*asked["code_challenge_method"]), ("client-1", "S256"));
    assert!(!asked.contains_key("prompt"));
    // Another browser brings the answer: nobody's.
    let stolen = Browser::default().back(&server, &[("code", "c"), ("state", &asked["state"])]).await;
    assert_eq!(stolen.status, 403);
    // Somebody else signs in, and is no user of the app by it.
    let wrong = signs_in(&server, &idp, &mut browser, &page, "user-2").await;
    assert!(wrong.text.contains("This link is for somebody else"), "{}", wrong.text);
    assert!(wrong.text.contains(&format!("href=\"{}\"", page.replace('/', "&#x2f;"))), "{}", wrong.text);
    assert!(browser.get(&server, &page).await.text.contains(FIRST));
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    let failed = server.told(&world, "sign_in.failed").await;
    assert_eq!((failed.len(), &failed[0]["why"]), (1, &json!("other_user")));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM users").await, 1);

    // Whoever is signed in there is asked again. The user is let on.
    let asked = browser.sign_in(&server, &page).await;
    assert_eq!(asked["prompt"], "login");
    let right = signs_in(&server, &idp, &mut browser, &page, "user-1").await;
    assert!(right.text.contains("account?") && !right.text.contains(FIRST), "{}", right.text);
    let again = browser.form(&server, &page, "sign-in", &[]).await;
    assert_eq!((again.status, again.header("location")), (303, &*page));
    let link = browser.start(&server, &page, ID).await;
    browser.back(&server, &[("code", "code-1"), ("state", &link["state"])]).await;
    let told = poll(&server, &world, &session).await;
    assert_eq!(told["status"], "completed", "{told}");
    let done = server.told(&world, "sign_in.done").await;
    let connected = server.told(&world, "connect.done").await;
    assert_eq!((done.len(), &done[0]["user_id"]), (1, &connected[0]["user_id"]));
    assert_eq!(done[0]["session_id"], connected[0]["session_id"]);
    // It was for this session and nobody's token: the next one asks again.
    assert_eq!(server.database.number("SELECT COUNT(*) FROM auth_sessions WHERE result IS NOT NULL").await, 0);
    let next = oauth::session(&server, &world, of(&server, &idp, "user-1")).await;
    let page = browser.open(&server, &next).await;
    assert!(browser.get(&server, &page).await.text.contains(FIRST));
}

async fn key_session(server: &Server, world: &World, more: Value) -> Answer {
    let body = merged(json!({"provider": world.secret}), more);
    server.send(server.sign_as(world).post("/sdk/managed-secrets/connect/session", &body)).await
}

async fn a_key_is_taken_from_the_user_of_the_session_alone(server: Server) {
    let (server, world, idp) = demanding(&server).await;
    let session = key_session(&server, &world, of(&server, &idp, "user-1")).await.ok(201);
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    let key = [("key", "canary-of-a-user")];
    for action in ["key", "approve"] {
        assert_eq!(browser.form(&server, &page, action, &key).await.status, 303);
    }
    let wrong = signs_in(&server, &idp, &mut browser, &page, "user-2").await;
    assert!(wrong.text.contains("This link is for somebody else"), "{}", wrong.text);
    assert_eq!(browser.form(&server, &page, "key", &key).await.status, 303);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 0);
    signs_in(&server, &idp, &mut browser, &page, "user-1").await;
    browser.form(&server, &page, "key", &key).await;
    assert_eq!(poll(&server, &world, &session).await["status"], "completed");
    assert_eq!(server.database.number("SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL").await, 1);
}

async fn a_session_that_nobody_could_sign_in_for_is_not_made(server: Server) {
    let (server, world, idp) = acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    let ann = of(&server, &idp, "user-1");
    let (theirs, ours) =
        (oauth::connect(&server, &world, ann.clone()).await, oauth::connect(&server, &world, json!({})).await);
    server.update_app(&world, json!({"connect_sign_in": "required"})).await;
    // Nobody knows whom to hold against it.
    oauth::ask(&server, &world, json!({})).await.names(Code::InvalidRequest, "user_token");
    // What is mended is the same account as before; an operator speaks for the app.
    let repair = |grant: &Value| json!({"repair_grant_id": grant["grant_id"]});
    oauth::ask(&server, &world, repair(&ours)).await.ok(201);
    let path = world.path("connect-sessions");
    server.api("POST", &path, json!({"allowed_providers": [ID]})).await.ok(201);
    // A user's grant is mended by that user, whoever asked.
    for ask in [oauth::ask(&server, &world, repair(&theirs)).await, server.api("POST", &path, repair(&theirs)).await] {
        let mut browser = Browser::default();
        let page = browser.open(&server, &ask.ok(201)).await;
        assert!(browser.get(&server, &page).await.text.contains(FIRST));
    }
    let session = oauth::session(&server, &world, ann.clone()).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    for (change, reason) in [
        ("UPDATE identity_providers SET client_id = NULL", "missing_client_id"),
        (
            "UPDATE identity_providers SET client_id = 'client-1', endpoints = '{\"jwks_url\":\"x\"}'",
            "issuer_cannot_sign_in",
        ),
    ] {
        server.database.behind_its_back(change).await;
        for answer in [
            oauth::ask(&server, &world, repair(&theirs)).await,
            oauth::ask(&server, &world, ann.clone()).await,
            key_session(&server, &world, ann.clone()).await,
        ] {
            assert_eq!(answer.refused(Code::IdpSigninNotConfigured)["details"]["reason"], reason);
        }
        // A page of before says so, too, and lets nobody by.
        let shown = browser.get(&server, &page).await;
        assert!(shown.text.contains("Nobody can sign in to"), "{}", shown.text);
    }
}

async fn the_demand_counts_for_sessions_that_are_under_way(server: Server) {
    let (server, world, idp) = demanding(&server).await;
    server.update_app(&world, json!({"connect_sign_in": "off"})).await;
    let session = oauth::session(&server, &world, of(&server, &idp, "user-1")).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    assert!(!browser.get(&server, &page).await.text.contains(FIRST));
    server.update_app(&world, json!({"connect_sign_in": "required"})).await;
    assert!(browser.get(&server, &page).await.text.contains(FIRST));
    signs_in(&server, &idp, &mut browser, &page, "user-1").await;
    assert!(!browser.get(&server, &page).await.text.contains(FIRST));
    // Deprovisioned in between: session and proof end with the user.
    let users = server.api("GET", &world.path("users"), Value::Null).await.ok(200);
    let path = world.path(&format!("users/{}/deprovision", text(&users["items"][0], "id")));
    server.api("POST", &path, Value::Null).await.ok(200);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM auth_sessions").await, 0);
    assert_eq!(poll(&server, &world, &session).await["error"]["error_code"], "user_not_active");
}

async fn what_the_user_answers_instead_of_signing_in_is_told(server: Server) {
    let (server, world, idp) = demanding(&server).await;
    let begin = async |more: Value| {
        let session = oauth::session(&server, &world, merged(of(&server, &idp, "user-1"), more)).await;
        let mut browser = Browser::default();
        let page = browser.open(&server, &session).await;
        (session, browser, page)
    };
    // They refuse here.
    let (session, mut browser, page) = begin(json!({})).await;
    browser.decline(&server, &page, ID).await;
    assert_eq!(poll(&server, &world, &session).await["error"]["error_code"], "connect_denied");
    // They refuse there, and may try again.
    let (session, mut browser, page) = begin(json!({})).await;
    let asked = browser.sign_in(&server, &page).await;
    let back = browser.back(&server, &[("error", "access_denied"), ("state", &asked["state"])]).await;
    assert!(back.text.contains("You did not sign in") && back.text.contains("Try again"), "{}", back.text);
    signs_in(&server, &idp, &mut browser, &page, "user-1").await;
    assert!(!browser.get(&server, &page).await.text.contains(FIRST));
    // A sign-in that lapsed with its session opens nothing; nor does its page begin one by itself.
    let id = page.strip_prefix("/connect/").unwrap();
    assert_eq!(browser.get(&server, &format!("/sign-in/{id}")).await.header("location"), page);
    for action in ["start", "decline"] {
        let answer = browser.post(&server, &format!("/sign-in/{id}/{action}"), &[("csrf", "x")]).await;
        assert_eq!(answer.status, 400);
    }
    server.advance_ms(limits::CONNECT_SESSION_S * 1000);
    assert_eq!(browser.get(&server, &page).await.status, 410);
    assert_eq!(poll(&server, &world, &session).await["status"], "expired");
}

async fn users_are_sent_back_to_listed_origins_only(server: Server) {
    let (server, world, idp) = acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    server.update_app(&world, json!({"return_origins": ["https://app.example.com", "http://localhost:3000"]})).await;
    let ann = of(&server, &idp, "user-1");
    let good = json!({"return_url": "https://app.example.com/done", "allowed_origin": "http://localhost:3000"});
    for (bad, code) in [
        (json!({"return_url": "https://evil.example/"}), Code::InvalidRedirectUri),
        (json!({"return_url": "https://app.example.com.evil.example/"}), Code::InvalidRedirectUri),
        (json!({"allowed_origin": "https://evil.example"}), Code::InvalidOrigin),
    ] {
        let field = bad.as_object().unwrap().keys().next().unwrap().clone();
        oauth::ask(&server, &world, bad.clone()).await.names(code, &field);
        key_session(&server, &world, merged(ann.clone(), bad.clone())).await.names(code, &field);
        let by_operator = merged(json!({"allowed_providers": [ID]}), bad);
        server.api("POST", &world.path("connect-sessions"), by_operator).await.names(code, &field);
    }
    key_session(&server, &world, merged(ann, good.clone())).await.ok(201);
    let session = oauth::session(&server, &world, good).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    let link = browser.start(&server, &page, ID).await;
    let done = browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    assert!(done.text.contains("https:&#x2f;&#x2f;app.example.com&#x2f;done?alter_connect_success"), "{}", done.text);
    // One that is taken from the app counts no more, for the page of before either.
    server.update_app(&world, json!({"return_origins": ["https://other.example.com"]})).await;
    let done = browser.get(&server, &page).await;
    assert!(!done.text.contains("app.example.com") && !done.text.contains("localhost:3000"), "{}", done.text);
}

async fn the_settings_are_checked_and_an_admins(server: Server) {
    let world = server.world().await;
    let shown = server.api("GET", &world.path(""), Value::Null).await.ok(200);
    assert_eq!((&shown["connect_sign_in"], &shown["return_origins"]), (&json!("off"), &json!([])));
    let change = async |change: Value| server.api("PATCH", &world.path(""), change).await;
    let origins = |count: usize| {
        let origins: Vec<_> = (0..count).map(|n| format!("https://a{n}.example.com")).collect();
        json!({"return_origins": origins})
    };
    change(origins(limits::RETURN_ORIGINS_MAX)).await.ok(200);
    change(origins(limits::RETURN_ORIGINS_MAX + 1)).await.names(Code::InvalidValue, "return_origins");
    for bad in ["https://a.example.com/", "http://a.example.com", "*", "", "https://A.example.com"] {
        change(json!({"return_origins": [bad]})).await.names(Code::InvalidValue, "return_origins");
    }
    change(json!({"connect_sign_in": "sometimes"})).await.refused(Code::InvalidRequest);
    let set = change(json!({"connect_sign_in": "required", "return_origins": []})).await.ok(200);
    assert_eq!((&set["connect_sign_in"], &set["return_origins"]), (&json!("required"), &json!([])));
    let told = server.told(&world, "app.updated").await;
    assert_eq!(told.last().unwrap()["changed"]["connect_sign_in"], json!(["off", "required"]));
    let developer = server.new_pat(Role::Developer, None, None).await;
    for change in [json!({"connect_sign_in": "off"}), json!({"return_origins": ["https://evil.example"]})] {
        server.api_as(&developer, "PATCH", &world.path(""), change).await.refused(Code::RoleRequired);
    }
}
