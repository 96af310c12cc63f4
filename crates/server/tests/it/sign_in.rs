//! Signing in: from the link an app asked for, through an identity provider on loopback, to the user's token.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::env::new_uuid;
use grantd_domain::identity::{Algorithm, Endpoints, IdentityProvider, PRESETS, ProviderState, UserStatus};
use grantd_store::{apps, identity_providers, users};
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::issuer::{ID, Issuer, Play};
use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server, World};
use crate::oauth;

on_kept_engines! {
    core_94_a_user_signs_in_and_the_app_gets_their_token,
    core_86_a_session_for_a_user_connects_accounts_for_them_alone,
    the_token_is_handed_out_for_a_minute_and_to_its_app,
}

in_memory! {
    where_users_sign_in_is_never_guessed,
    a_sign_in_belongs_to_one_browser_and_one_answer,
    what_the_identity_provider_says_decides,
    a_token_that_is_not_of_this_sign_in_ends_it,
    a_poll_waits_for_the_end_and_no_longer_than_it_may,
    a_thousand_polls_wait_and_those_beyond_are_answered_at_once,
    an_exchange_that_was_cut_off_is_told,
    nobody_signs_in_to_an_archived_app,
    core_96_whose_a_token_is,
    a_user_is_told_and_asserted_while_they_are_active,
}

/// An identity provider and the key it signs with.
pub struct Idp {
    pub issuer: Issuer,
    key: EcdsaKeyPair,
}

const CLIENT: &str = "client-1";

impl Idp {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.issuer.port)
    }

    /// A token of this provider; `more` over what it usually says.
    pub fn token(&self, server: &Server, more: Value) -> String {
        let now_s = server.now().0.div_euclid(1000);
        let claims = json!({
            "iss": self.url(), "aud": CLIENT, "sub": "user-1", "iat": now_s, "exp": now_s + 3600,
            "email": "ann@example.com", "name": "Ann",
        });
        let claims = crate::harness::world::merged(claims, more);
        self.signed(&json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}).to_string(), &claims.to_string())
    }

    /// What is signed with its key, whatever it says.
    pub fn signed(&self, header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Its public key, as it publishes it.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": coordinate(x), "y": coordinate(y)})
    }

    /// What the next code is exchanged for.
    pub fn issues(&self, id_token: &str) {
        self.issuer.says(json!({"expires_in": 3600, "id_token": id_token}));
    }

    /// Registers an app with it under this name.
    async fn register(&self, server: &Server, world: &World, name: &str) -> IdentityProviderId {
        let id = IdentityProviderId::from_uuid(new_uuid(&*server.env));
        let (app, now, url) = (AppId::parse(&world.app).unwrap(), server.now(), self.url());
        let preset = PRESETS.iter().find(|preset| preset.id == "oidc").unwrap();
        let endpoints = Endpoints {
            jwks_url: format!("{url}/jwks"),
            authorize_url: Some("https://id.example.com/authorize".to_owned()),
            token_url: Some(format!("{url}/token")),
            ..Endpoints::default()
        };
        let idp = IdentityProvider {
            id,
            app_id: app,
            name: name.to_owned(),
            preset,
            issuer: url,
            audiences: vec![CLIENT.to_owned()],
            algorithms: vec![Algorithm::Es256],
            claims: preset.claims(),
            endpoints,
            client_id: Some(CLIENT.to_owned()),
            client_secret: None,
            scopes: vec!["openid".to_owned(), "email".to_owned()],
            state: ProviderState::Active,
            created_at: now,
            updated_at: now,
            is_deleted: false,
            version: 1,
        };
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            identity_providers::insert(tx, &idp)?;
            apps::raise_epoch(tx, app)
        };
        server.store().write(write).await.unwrap();
        id
    }
}

pub async fn started() -> Idp {
    let issuer = Issuer::start().await;
    let idp = Idp { issuer, key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() };
    idp.issuer.publish("/jwks", json!({"keys": [idp.jwk()]}).to_string());
    idp
}

/// A server that may call the provider, and an app registered with it.
pub async fn acme(server: &Server) -> (Server, World, Idp) {
    let idp = started().await;
    let server = idp.issuer.reached_by(server, "signs-in").await;
    let world = server.world().await;
    idp.register(&server, &world, "Acme ID").await;
    (server, world, idp)
}

pub async fn session(server: &Server, world: &World) -> Value {
    server.send(server.sign_as(world).post("/sdk/auth/session", &json!({}))).await.ok(201)
}

async fn poll_with(server: &Server, world: &World, session: &Value, wait_ms: i64) -> Answer {
    let body = json!({"session_token": session["session_token"], "wait_ms": wait_ms});
    server.send(server.sign_as(world).post("/sdk/auth/poll", &body)).await
}

pub async fn poll(server: &Server, world: &World, session: &Value) -> Value {
    poll_with(server, world, session, 0).await.ok(200)
}

/// Opens the link and goes to the provider; the page's path and what the provider is asked.
pub async fn leave(server: &Server, browser: &mut Browser, session: &Value) -> (String, BTreeMap<String, String>) {
    let opened = browser.post(server, "/connect/open", &[("session", &text(session, "auth_url"))]).await;
    assert_eq!(opened.status, 303, "{}", opened.text);
    let path = opened.headers["location"].to_str().unwrap().to_owned();
    let asked = browser.start(server, &path, ID).await;
    (path, asked)
}

/// Signs a user in, with what the provider's token says beside the nonce.
async fn sign_in(server: &Server, world: &World, idp: &Idp, more: Value) -> (Value, String) {
    let (session, mut browser) = (session(server, world).await, Browser::default());
    let (_, asked) = leave(server, &mut browser, &session).await;
    let token = idp.token(server, crate::harness::world::merged(json!({"nonce": asked["nonce"]}), more));
    idp.issues(&token);
    let back = browser.back(server, &[("code", "c"), ("state", &asked["state"])]).await;
    assert_eq!(back.status, 200, "{}", back.text);
    (session, token)
}

async fn core_94_a_user_signs_in_and_the_app_gets_their_token(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let session = session(&server, &world).await;
    assert_eq!(session["expires_in"], limits::AUTH_SESSION_S);
    let url = format!("http://127.0.0.1:8080/sign-in#session={}", text(&session, "session_token"));
    assert_eq!(session["auth_url"], url);
    assert_eq!(poll(&server, &world, &session).await, json!({"status": "pending"}));
    let mut browser = Browser::default();
    assert!(browser.get(&server, "/sign-in").await.text.contains("<h1>Sign in</h1>"));
    let (path, asked) = leave(&server, &mut browser, &session).await;
    for (name, value) in [
        ("client_id", CLIENT),
        ("response_type", "code"),
        ("redirect_uri", "http://127.0.0.1:8080/oauth/callback"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value);
    }
    let token = idp.token(&server, json!({"nonce": asked["nonce"]}));
    idp.issues(&token);
    let back = browser.back(&server, &[("code", "the-code"), ("state", &asked["state"])]).await;
    assert!(back.text.contains("You are signed in"), "{}", back.text);
    assert!(browser.get(&server, &path).await.text.contains("You are signed in"));
    let sent = &idp.issuer.calls("/token")[0];
    assert_eq!((sent["code"].as_str(), sent["client_id"].as_str()), ("the-code", CLIENT));
    assert!(sent.contains_key("code_verifier") && !sent.contains_key("client_secret"));
    let done = poll(&server, &world, &session).await;
    assert_eq!(
        done,
        json!({
            "status": "completed", "user_token": token,
            "user_info": {"sub": "user-1", "email": "ann@example.com", "name": "Ann"},
        })
    );
    // The token speaks for the user from now on.
    let body = json!({"include_profile": true, "user_token": token});
    let told = server.send(server.sign_as(&world).post("/sdk/identity/resolve", &body)).await.ok(200);
    assert_eq!((&told["external_subject_id"], &told["user_status"]), (&json!("user-1"), &json!("active")));
    for kind in ["sign_in.created", "sign_in.opened", "sign_in.done", "sign_in.released"] {
        assert_eq!(server.told(&world, kind).await.len(), 1, "{kind}");
    }
    assert_eq!(server.told(&world, "sign_in.done").await[0]["user_id"], told["app_user_id"]);
    assert!(!server.export(&world.path("audit/export")).await.1.contains(&token));
}

async fn where_users_sign_in_is_never_guessed(server: Server) {
    let world = server.world().await;
    let ask = || async { server.send(server.sign_as(&world).post("/sdk/auth/session", &json!({}))).await };
    let refused = ask().await.refused(Code::InvalidRequest);
    assert_eq!(refused["details"]["reason"], "no_identity_provider");
    let (one, two) = (started().await, started().await);
    one.register(&server, &world, "One").await;
    ask().await.ok(201);
    two.register(&server, &world, "Two").await;
    let refused = ask().await.refused(Code::InvalidRequest);
    assert_eq!(refused["details"]["reason"], "several_identity_providers");
    started().await.register(&server, &world, "default").await;
    ask().await.ok(201);
    for bad in [json!([]), json!("x")] {
        server.send(server.sign_as(&world).post("/sdk/auth/session", &bad)).await.refused(Code::InvalidRequest);
    }
}

async fn a_sign_in_belongs_to_one_browser_and_one_answer(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let session = session(&server, &world).await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let (path, first) = leave(&server, &mut browser, &session).await;
    let link = text(&session, "auth_url");
    assert_eq!(other.post(&server, "/connect/open", &[("session", &link)]).await.status, 403);
    assert_eq!(other.get(&server, &path).await.status, 403);
    // Its own may open the link again, and leave again; then only the last answer counts.
    let (again, second) = leave(&server, &mut browser, &session).await;
    assert_eq!(again, path);
    idp.issues(&idp.token(&server, json!({"nonce": second["nonce"]})));
    let code = |state: &str| [("code".to_owned(), "c".to_owned()), ("state".to_owned(), state.to_owned())];
    let back = |params: [(String, String); 2]| {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        Raw::new("GET", &format!("/oauth/callback?{query}"), "")
    };
    assert_eq!(browser.send(&server, back(code(&first["state"]))).await.status, 410);
    // A form without the page's proof changes nothing.
    let forged = browser.post(&server, &format!("{path}/decline"), &[("csrf", "x")]).await;
    assert_eq!(forged.status, 400);
    other.get(&server, "/sign-in").await;
    assert_eq!(other.send(&server, back(code(&second["state"]))).await.status, 403);
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    assert_eq!(browser.send(&server, back(code(&second["state"]))).await.status, 303);
    assert_eq!(browser.send(&server, back(code(&second["state"]))).await.status, 410);
    assert_eq!(poll(&server, &world, &session).await["status"], "completed");
    // One that nobody opened in time is over.
    let late = self::session(&server, &world).await;
    server.advance_ms(limits::AUTH_SESSION_S * 1000);
    assert_eq!(poll(&server, &world, &late).await, json!({"status": "expired"}));
    let opened = browser.post(&server, "/connect/open", &[("session", &text(&late, "auth_url"))]).await;
    assert_eq!(opened.status, 410);
}

async fn what_the_identity_provider_says_decides(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let cases = [
        (vec![("error", "access_denied")], None, "access_denied", "You did not sign in"),
        (vec![("error", "temporarily_unavailable")], None, "service_unavailable", "does not work right now"),
        (vec![("error", "invalid_scope")], None, "invalid_client", "Nobody can sign in"),
        (vec![("code", "c"), ("iss", "https://evil.example")], None, "invalid_response", "You were not signed in"),
        (vec![], None, "invalid_response", "You were not signed in"),
        (
            vec![("code", "c")],
            Some(Play::Answer(400, json!({"error": "invalid_grant"}).to_string())),
            "provider_refused",
            "You were not signed in",
        ),
        (
            vec![("code", "c")],
            Some(Play::Answer(401, json!({"error": "invalid_client"}).to_string())),
            "invalid_client",
            "Nobody can sign in",
        ),
        (vec![("code", "c")], Some(Play::Cut), "service_unavailable", "does not work right now"),
        // Without an ID token.
        (
            vec![("code", "c")],
            Some(Play::Answer(200, json!({"access_token": "canary-a", "token_type": "Bearer"}).to_string())),
            "invalid_response",
            "You were not signed in",
        ),
    ];
    for (mut params, play, code, page) in cases {
        let (session, mut browser) = (session(&server, &world).await, Browser::default());
        let (path, asked) = leave(&server, &mut browser, &session).await;
        params.push(("state", &asked["state"]));
        idp.issuer.plays(play);
        browser.back(&server, &params).await;
        let shown = browser.get(&server, &path).await;
        assert!(shown.text.contains(page), "{code}: {}", shown.text);
        let told = poll(&server, &world, &session).await;
        assert_eq!((&told["status"], &told["error_code"]), (&json!("error"), &json!(code)));
        assert_eq!(told["retry_after_seconds"].is_u64(), code == "service_unavailable", "{told}");
    }
    let (session, mut browser) = (session(&server, &world).await, Browser::default());
    let opened = browser.post(&server, "/connect/open", &[("session", &text(&session, "auth_url"))]).await;
    let path = opened.headers["location"].to_str().unwrap().to_owned();
    browser.decline(&server, &path, ID).await;
    assert_eq!(poll(&server, &world, &session).await["error_code"], "access_denied");
    assert_eq!(server.told(&world, "sign_in.declined").await.len(), 2);
}

async fn a_token_that_is_not_of_this_sign_in_ends_it(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let now_s = server.now().0.div_euclid(1000);
    for (more, check) in [
        (json!({"nonce": "another"}), "nonce"),
        (json!({"nonce": null}), "nonce"),
        (json!({"aud": "another"}), "audience"),
        (json!({"exp": now_s - 120}), "expired"),
    ] {
        let (session, _) = sign_in(&server, &world, &idp, more).await;
        let told = poll(&server, &world, &session).await;
        assert_eq!((&told["status"], &told["error_code"]), (&json!("error"), &json!("invalid_token")), "{check}");
        assert!(text(&told, "error_message").contains(&format!("({check})")), "{told}");
    }
    // Who is suspended is not signed in.
    let (session, _) = sign_in(&server, &world, &idp, json!({})).await;
    assert_eq!(poll(&server, &world, &session).await["status"], "completed");
    let done = server.told(&world, "sign_in.done").await;
    suspend(&server, &world, &text(&done[0], "user_id")).await;
    let (session, _) = sign_in(&server, &world, &idp, json!({})).await;
    assert_eq!(poll(&server, &world, &session).await["error_code"], "user_not_active");
}

async fn the_token_is_handed_out_for_a_minute_and_to_its_app(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let other = server.world_named("Other").await;
    let (session, token) = sign_in(&server, &world, &idp, json!({})).await;
    assert_eq!(poll(&server, &other, &session).await, json!({"status": "expired"}));
    server.advance_ms(limits::SIGN_IN_RESULT_MS - 1);
    // As often as it is asked for: an answer may be lost.
    for _ in 0..2 {
        assert_eq!(poll(&server, &world, &session).await["user_token"], json!(token));
    }
    server.advance_ms(1);
    assert_eq!(poll(&server, &world, &session).await, json!({"status": "expired"}));
    grantd_server::jobs::prune_sign_ins(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM auth_sessions WHERE result IS NOT NULL").await, 0);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM auth_sessions").await, 1);
    server.advance_ms(limits::AUTH_SESSION_S * 1000 + 3_600_000);
    grantd_server::jobs::prune_sign_ins(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM auth_sessions").await, 0);
}

async fn a_poll_waits_for_the_end_and_no_longer_than_it_may(server: Server) {
    let (server, world, idp) = acme(&server).await;
    for (wait_ms, fits) in [(0, true), (1, true), (-1, false), (30_001, false)] {
        let session = session(&server, &world).await;
        let answer = poll_with(&server, &world, &session, wait_ms).await;
        match fits {
            true => assert_eq!(answer.ok(200)["status"], "pending"),
            false => drop(answer.refused(Code::InvalidRequest)),
        }
    }
    let (session, mut browser) = (session(&server, &world).await, Browser::default());
    let (_, asked) = leave(&server, &mut browser, &session).await;
    idp.issues(&idp.token(&server, json!({"nonce": asked["nonce"]})));
    let params = [("code", "c"), ("state", asked["state"].as_str())];
    let (polled, _) = tokio::join!(poll_with(&server, &world, &session, 30_000), browser.back(&server, &params));
    assert_eq!(polled.ok(200)["status"], "completed");
    assert_eq!(poll(&server, &world, &json!({"session_token": "auth_x"})).await, json!({"status": "expired"}));
}

async fn a_thousand_polls_wait_and_those_beyond_are_answered_at_once(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let (session, mut browser) = (session(&server, &world).await, Browser::default());
    let (_, asked) = leave(&server, &mut browser, &session).await;
    idp.issues(&idp.token(&server, json!({"nonce": asked["nonce"]})));
    let mut others: Vec<_> = (0..limits::SIGN_IN_WAITS_MAX).map(|_| server.vault.sign_ins.enter().unwrap()).collect();
    assert!(server.vault.sign_ins.enter().is_none());
    // Nothing has happened, and nothing is going to: had it waited, it would have done so for as long as it may.
    let at_once = poll_with(&server, &world, &session, 30_000);
    let at_once = tokio::time::timeout(std::time::Duration::from_secs(25), at_once).await;
    assert_eq!(at_once.expect("it was answered at once").ok(200)["status"], "pending");
    // The thousandth waits until there is something to say.
    others.pop();
    let params = [("code", "c"), ("state", asked["state"].as_str())];
    let (polled, _) = tokio::join!(poll_with(&server, &world, &session, 30_000), browser.back(&server, &params));
    assert_eq!(polled.ok(200)["status"], "completed");
}

async fn an_exchange_that_was_cut_off_is_told(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let (session, mut browser) = (session(&server, &world).await, Browser::default());
    let (path, asked) = leave(&server, &mut browser, &session).await;
    let go_on = std::sync::Arc::new(tokio::sync::Notify::new());
    idp.issuer.plays(Some(Play::Wait(std::sync::Arc::clone(&go_on))));
    let mut waiting = browser.clone();
    let (slow, asked_state) = (server.clone(), asked["state"].clone());
    let exchange = tokio::spawn(async move { waiting.back(&slow, &[("code", "c"), ("state", &asked_state)]).await });
    while idp.issuer.calls("/token").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(poll(&server, &world, &session).await["status"], "pending");
    // Whoever exchanges has had its time.
    server.advance_ms(3 * i64::try_from(limits::CONNECT_EXCHANGE_MS).unwrap());
    assert_eq!(poll(&server, &world, &session).await["error_code"], "interrupted");
    assert!(browser.get(&server, &path).await.text.contains("Signing in was interrupted"));
    go_on.notify_one();
    exchange.await.unwrap();
}

async fn nobody_signs_in_to_an_archived_app(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let (unopened, opened) = (session(&server, &world).await, session(&server, &world).await);
    let mut browser = Browser::default();
    let (path, asked) = leave(&server, &mut browser, &opened).await;
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    let link = text(&unopened, "auth_url");
    assert_eq!(browser.post(&server, "/connect/open", &[("session", &link)]).await.status, 410);
    assert_eq!(browser.get(&server, &path).await.status, 410);
    // What the identity provider sends back is not exchanged.
    idp.issues(&idp.token(&server, json!({"nonce": asked["nonce"]})));
    let back = browser.back(&server, &[("code", "c"), ("state", &asked["state"])]).await;
    assert!(back.text.contains("Nobody can sign in"), "{}", back.text);
    assert!(idp.issuer.calls("/token").is_empty());
    server.api("POST", &world.path("unarchive"), Value::Null).await.ok(200);
    assert_eq!(poll(&server, &world, &opened).await["status"], "error");
    assert_eq!(poll(&server, &world, &unopened).await["status"], "pending");
}

async fn core_96_whose_a_token_is(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let verify = |token: String| {
        let raw = server.sign_as(&world).post("/sdk/auth/verify-token", &json!({"token": token}));
        let server = server.clone();
        async move { server.send(raw).await }
    };
    let good = idp.token(&server, json!({}));
    assert_eq!(verify(good.clone()).await.ok(200), json!({"sub": "user-1"}));
    let other = server.world_named("Other").await;
    let raw = server.sign_as(&other).post("/sdk/auth/verify-token", &json!({"token": good}));
    server.send(raw).await.refused(Code::JwtValidationError);
    let now_s = server.now().0.div_euclid(1000);
    for bad in [
        idp.token(&server, json!({"exp": now_s - 61})),
        idp.token(&server, json!({"aud": "x"})),
        format!("{}x", idp.token(&server, json!({}))),
        "x".to_owned(),
        String::new(),
    ] {
        verify(bad).await.refused(Code::JwtValidationError);
    }
}

/// Suspends a user behind the API.
async fn suspend(server: &Server, world: &World, user: &str) {
    let (app, user, now) = (AppId::parse(&world.app).unwrap(), UserId::parse(user).unwrap(), server.now());
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        users::set_suspended(tx, app, user, UserStatus::Suspended, now)?;
        apps::raise_epoch(tx, app)
    };
    server.store().write(write).await.unwrap();
}

async fn a_user_is_told_and_asserted_while_they_are_active(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let token = idp.token(&server, json!({}));
    let call = |path: &str, more: Value| {
        let body = crate::harness::world::merged(json!({"include_profile": false, "user_token": token}), more);
        let (server, raw) = (server.clone(), server.sign_as(&world).post(path, &body));
        async move { server.send(raw).await }
    };
    let told = call("/sdk/identity/resolve", json!({})).await.ok(200);
    assert_eq!((&told["external_subject_id"], &told["email"]), (&json!("user-1"), &Value::Null));
    let told = call("/sdk/identity/resolve", json!({"include_profile": true})).await.ok(200);
    assert_eq!((&told["email"], &told["display_name"]), (&json!("ann@example.com"), &json!("Ann")));
    let audience = json!({"audience": "https://memory.example.com"});
    let made = call("/sdk/identity/assert", audience.clone()).await.ok(200);
    let claims =
        text(&made, "token").split('.').nth(1).map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], json!(format!("alter:user:{}", text(&told, "app_user_id"))));
    assert_eq!((&claims["alter"]["user_status"], &claims["alter"]["idp_id"]), (&json!("active"), &told["idp_id"]));
    assert_eq!(server.told(&world, "identity.asserted").await[0]["user_id"], told["app_user_id"]);
    suspend(&server, &world, &text(&told, "app_user_id")).await;
    for path in ["/sdk/identity/resolve", "/sdk/identity/assert"] {
        let refused = call(path, audience.clone()).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "user_suspended");
    }
    assert_eq!(server.told(&world, "identity.asserted").await.len(), 1);
}

async fn core_86_a_session_for_a_user_connects_accounts_for_them_alone(server: Server) {
    let (server, world, idp) = acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    let of = |user: &str| json!({"user_token": idp.token(&server, json!({"sub": user}))});
    let (ann, ben) = (of("user-1"), of("user-2"));
    // The page says whom it is for, and no more of them than they know.
    let session = oauth::session(&server, &world, ann.clone()).await;
    let mut browser = Browser::default();
    let page = browser.open(&server, &session).await;
    let shown = browser.get(&server, &page).await;
    assert!(shown.text.contains("a…@example.com") && !shown.text.contains("ann@example.com"), "{}", shown.text);
    let grant = |answer: &Value| text(answer, "grant_id");
    let first = oauth::connect(&server, &world, ann.clone()).await;
    let again = oauth::connect(&server, &world, ann.clone()).await;
    assert_eq!((grant(&again), &again["operation"]), (grant(&first), &json!("reauth")));
    // The same account, for another user and for the app itself: each has their own.
    let others = [oauth::connect(&server, &world, ben.clone()).await, oauth::connect(&server, &world, json!({})).await];
    for other in &others {
        assert_eq!(other["operation"], "creation");
        assert_ne!(grant(other), grant(&first));
    }
    let owned = "SELECT COUNT(*) FROM grants g JOIN users u ON u.id = g.principal_id WHERE g.principal_type = 'user'";
    assert_eq!(server.database.number(owned).await, 2);
    let theirs = "SELECT COUNT(*) FROM credentials WHERE user_id IS NOT NULL AND state = 'ok'";
    assert_eq!(server.database.number(theirs).await, 2);
    let created = server.told(&world, "grant.created").await;
    let users: Vec<_> = created.iter().filter(|event| event["principal_type"] == "user").collect();
    assert_eq!(users.len(), 2);
    assert!(users.iter().all(|event| event["user_id"].is_string()));
    // Another user's grant is one that nobody knows.
    let repair = |of: &Value| crate::harness::world::merged(of.clone(), json!({"repair_grant_id": grant(&first)}));
    oauth::ask(&server, &world, repair(&ben)).await.refused(Code::GrantNotFound);
    let mended = oauth::connect(&server, &world, repair(&ann)).await;
    assert_eq!(grant(&mended), grant(&first));
    // Nor is it the app's own: mended for the user it belongs to.
    let mended = oauth::connect(&server, &world, repair(&json!({}))).await;
    assert_eq!(grant(&mended), grant(&first));
    oauth::ask(&server, &world, json!({"user_token": "x.y.z"})).await.refused(Code::JwtValidationError);
    // Who is suspended between the link and the answer gets nothing.
    let session = oauth::session(&server, &world, ann.clone()).await;
    let page = browser.open(&server, &session).await;
    let link = browser.start(&server, &page, ID).await;
    let first_user = server.told(&world, "connect.done").await[0]["user_id"].clone();
    suspend(&server, &world, first_user.as_str().unwrap()).await;
    browser.back(&server, &[("code", "c"), ("state", &link["state"])]).await;
    let failed = server.told(&world, "connect.failed").await;
    assert_eq!(failed[0]["why"], "user_not_active");
    oauth::ask(&server, &world, ann).await.refused(Code::JwtValidationError);
}
