//! Calls that speak for a user: whose token counts, what it reaches, and what ends it.

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::identity::{Algorithm, Endpoints, IdentityProvider, Preset, ProviderState, User, UserStatus};
use grantd_store::{apps, identity_providers, users};
use grantd_wire::Code;
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};
use grantd_wire::limits::{JWKS_BYTES_MAX, JWKS_FRESH_MS, JWKS_PAUSE_MS, JWKS_STALE_MS};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::world::{URL, merged, text};
use crate::harness::{Answer, Server, World};

on_kept_engines! {
    a_user_reaches_what_is_the_users_and_nothing_else,
    a_group_grant_is_for_those_whose_tokens_name_the_group,
    a_suspended_user_is_stopped_at_once_with_and_without_a_token,
    a_deprovisioned_user_is_gone_with_every_grant,
    users_are_found_by_address_name_and_subject,
}

in_memory! {
    a_token_that_proves_nothing_is_refused_and_told_of,
    keys_are_fetched_within_their_budget_and_kept,
    a_set_of_keys_that_is_none_is_never_taken_for_one,
    an_issuer_that_hangs_holds_up_nobody_else,
    users_are_listed_by_their_identity_provider,
}

/// What is played by who takes a request and never answers.
const HANGS: &str = "hangs";

/// An identity provider on loopback.
#[derive(Clone)]
struct Idp {
    port: u16,
    id: IdentityProviderId,
    key: Arc<Mutex<(String, Arc<EcdsaKeyPair>)>>,
    /// What stands before the body of every answer, and the body; none: the keys.
    plays: Arc<Mutex<Option<(String, String)>>>,
    calls: Arc<Mutex<usize>>,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn new_key() -> Arc<EcdsaKeyPair> {
    Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
}

impl Idp {
    /// One that the world's app is registered with, and a process that reaches it.
    async fn start(server: &Server) -> (Server, World, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let idp = Self {
            port,
            id: IdentityProviderId::from_uuid(new_uuid(&*server.env)),
            key: Arc::new(Mutex::new(("k1".to_owned(), new_key()))),
            plays: Arc::default(),
            calls: Arc::default(),
        };
        let shared = idp.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                *shared.calls.lock().unwrap() += 1;
                let played = shared.plays.lock().unwrap().clone();
                let (head, body) = played.unwrap_or_else(|| ("HTTP/1.1 200 OK".to_owned(), shared.keys()));
                if head == HANGS {
                    held.push(stream);
                    continue;
                }
                let answer = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let allow = OutboundAllow::parse(&[format!("127.0.0.1:{port}")]).unwrap();
        let reaching = server.another("reaching", |settings| settings.outbound = allow).await;
        let world = reaching.world().await;
        idp.register(&reaching, &world).await;
        (reaching, world, idp)
    }

    async fn register(&self, server: &Server, world: &World) {
        let preset = Preset::find("oidc").unwrap();
        let now = server.now();
        let app = AppId::parse(&world.app).unwrap();
        let idp = IdentityProvider {
            id: self.id,
            app_id: app,
            name: "Test".to_owned(),
            preset,
            issuer: self.issuer(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::Es256],
            claims: preset.claims(),
            endpoints: Endpoints { jwks_url: format!("{}/jwks", self.issuer()), ..Endpoints::default() },
            client_id: None,
            client_secret: None,
            scopes: Vec::new(),
            state: ProviderState::Active,
            created_at: now,
            updated_at: now,
            is_deleted: false,
            version: 1,
        };
        let insert = move |tx: &mut grantd_store::Tx<'_>| {
            identity_providers::insert(tx, &idp)?;
            apps::raise_epoch(tx, app)
        };
        server.store().write(insert).await.unwrap();
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn keys(&self) -> String {
        let (kid, key) = self.key.lock().unwrap().clone();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(x), "y": b64(y)}]}).to_string()
    }

    /// From now on it signs with another key, and publishes that alone.
    fn rotate(&self, kid: &str) {
        *self.key.lock().unwrap() = (kid.to_owned(), new_key());
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    fn play(&self, head: &str, body: &str) {
        *self.plays.lock().unwrap() = Some((head.to_owned(), body.to_owned()));
    }

    fn token(&self, server: &Server, subject: &str) -> String {
        self.token_with(server, subject, json!({}))
    }

    fn token_with(&self, server: &Server, subject: &str, more: Value) -> String {
        let (kid, key) = self.key.lock().unwrap().clone();
        let now = server.env.now().0 / 1000;
        let claims = json!({"iss": self.issuer(), "sub": subject, "aud": "app", "iat": now, "exp": now + 3600});
        let header = json!({"alg": "ES256", "kid": kid});
        let signed = format!("{}.{}", b64(header.to_string()), b64(merged(claims, more).to_string()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }
}

/// Asks for a credential.
async fn ask(server: &Server, world: &World, more: Value) -> Answer {
    let body = merged(json!({"reason": null, "request": {"method": "GET", "url": URL}}), more);
    server.send(server.sign_as(world).post("/sdk/token", &body)).await
}

/// A grant on the world's secret for a principal.
async fn grant_to(server: &Server, world: &World, principal: Value) -> Answer {
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    server.send(server.sign_as(world).post(&path, &json!({"principal": principal, "grant_policy": {}}))).await
}

async fn user_grant(server: &Server, world: &World, token: &str, label: &str) -> String {
    let principal = json!({"type": "user", "user_token": token, "label": label});
    text(&grant_to(server, world, principal).await.ok(201), "grant_id")
}

async fn a_user_reaches_what_is_the_users_and_nothing_else(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let (ann, bob) = (idp.token(&server, "ann"), idp.token(&server, "bob"));
    let mine = user_grant(&server, &world, &ann, "mine").await;
    let theirs = user_grant(&server, &world, &bob, "mine").await;
    // By id: the user's own, not another's, not the app's.
    let direct = |grant: &str, token: &str| json!({"grant_id": grant, "user_token": token});
    assert_eq!(text(&ask(&server, &world, direct(&mine, &ann)).await.ok(200), "grant_id"), mine);
    ask(&server, &world, direct(&theirs, &ann)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&world.grant, &ann)).await.refused(Code::SystemGrantUserTokenMismatch);
    // By provider: the one that is the user's, and the app's own without a user.
    let by = |token: &str, more: Value| merged(json!({"provider_id": world.secret, "user_token": token}), more);
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({}))).await.ok(200), "grant_id"), mine);
    assert_eq!(text(&ask(&server, &world, by(&bob, json!({}))).await.ok(200), "grant_id"), theirs);
    assert_eq!(
        text(&ask(&server, &world, json!({"provider_id": world.secret})).await.ok(200), "grant_id"),
        world.grant
    );
    let eve = idp.token(&server, "eve");
    let none = ask(&server, &world, by(&eve, json!({}))).await.refused(Code::GrantNotFound);
    assert_eq!(none["provider_id"], world.secret);
    assert!(UserId::parse(none["app_user_id"].as_str().unwrap()).is_some());
    ask(&server, &world, by(&ann, json!({"provider_id": "other"}))).await.refused(Code::GrantNotFound);
    ask(&server, &world, by(&ann, json!({"app_user_id": "x"}))).await.refused(Code::InvalidRequest);
    ask(&server, &world, by(&ann, json!({"label": ""}))).await.refused(Code::InvalidRequest);
    // Several: never a guess, and never another's among them.
    server.env.advance_ms(1);
    let second = user_grant(&server, &world, &ann, "second").await;
    let several = ask(&server, &world, by(&ann, json!({}))).await.refused(Code::AmbiguousGrant);
    let named: Vec<&str> =
        several["candidates"].as_array().unwrap().iter().map(|c| c["grant_id"].as_str().unwrap()).collect();
    assert_eq!(named, [second.as_str(), mine.as_str()]);
    assert_eq!(several["candidates"][0]["label"], "second");
    assert_eq!(several["grant_ids"], json!([second, mine]));
    assert_eq!((&several["candidates_truncated"], &several["account_was_provided"]), (&json!(false), &json!(false)));
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({"label": "second"}))).await.ok(200), "grant_id"), second);
    let unknown = json!({"account": "nobody@example.com"});
    ask(&server, &world, by(&ann, unknown)).await.refused(Code::GrantNotFound);
    // What a user lists and revokes is the user's.
    let list =
        |token: &str| server.send(server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": token})));
    let listed = list(&ann).await.ok(200);
    let ids: Vec<&str> = listed["grants"].as_array().unwrap().iter().map(|g| g["grant_id"].as_str().unwrap()).collect();
    assert_eq!((ids, &listed["total"]), (vec![second.as_str(), mine.as_str()], &json!(2)));
    assert_eq!(listed["grants"][0]["principal_type"], "user");
    assert_eq!(list(&eve).await.ok(200)["total"], 0);
    let revoke = |grant: &str, token: &str| {
        let path = format!("/sdk/oauth/grants/{grant}/revoke");
        server.send(server.sign_as(&world).post(&path, &json!({"user_token": token})))
    };
    revoke(&theirs, &ann).await.refused(Code::GrantNotFound);
    revoke(&world.grant, &ann).await.refused(Code::GrantNotFound);
    revoke(&mine, &ann).await.ok(200);
    ask(&server, &world, direct(&mine, &ann)).await.refused(Code::GrantRevoked);
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({}))).await.ok(200), "grant_id"), second);
    // Another app knows neither the issuer nor the user.
    let other = server.world_named("Other").await;
    let refused = ask(&server, &other, json!({"grant_id": other.grant, "user_token": ann})).await;
    assert_eq!(refused.refused(Code::JwtValidationError)["details"]["check"], "issuer");
    // Every release tells whose it was.
    let released = server.told(&world, "token.released").await;
    assert!(
        released.iter().filter(|event| event["principal_type"] == "user").all(|event| event["user_id"].is_string())
    );
    assert_eq!(server.told(&world, "user.created").await.len(), 3);
}

async fn a_group_grant_is_for_those_whose_tokens_name_the_group(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let group = |id: &str| json!({"type": "group", "external_group_id": id, "idp_id": idp.id, "label": "ops"});
    let grant = text(&grant_to(&server, &world, group("ops")).await.ok(201), "grant_id");
    let unknown = json!({"type": "group", "external_group_id": "x", "idp_id": world.app, "label": "l"});
    grant_to(&server, &world, unknown).await.refused(Code::InvalidValue);
    let by = |token: &str| json!({"provider_id": world.secret, "user_token": token});
    let member = idp.token_with(&server, "ann", json!({"groups": ["dev", "ops"]}));
    assert_eq!(text(&ask(&server, &world, by(&member)).await.ok(200), "grant_id"), grant);
    let outside = idp.token_with(&server, "bob", json!({"groups": ["dev"]}));
    ask(&server, &world, by(&outside)).await.refused(Code::GrantNotFound);
    let direct = |token: &str| json!({"grant_id": grant, "user_token": token});
    ask(&server, &world, direct(&outside)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&member)).await.ok(200);
    // A newer token without the group takes it away, also from the older token.
    server.env.advance_ms(60_000);
    let newer = idp.token_with(&server, "ann", json!({"groups": ["dev"]}));
    ask(&server, &world, direct(&newer)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&member)).await.refused(Code::GrantNotFound);
    let updated = server.told(&world, "user.updated").await;
    assert_eq!((updated.len(), &updated[0]["groups_left"]), (1, &json!(1)));
}

async fn a_suspended_user_is_stopped_at_once_with_and_without_a_token(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let token = idp.token(&server, "ann");
    let grant = user_grant(&server, &world, &token, "mine").await;
    let with = json!({"grant_id": grant, "user_token": token});
    let without = json!({"grant_id": grant});
    ask(&server, &world, with.clone()).await.ok(200);
    ask(&server, &world, without.clone()).await.ok(200);
    let created = server.told(&world, "user.created").await;
    let user = UserId::parse(created[0]["user_id"].as_str().unwrap()).unwrap();
    let app = AppId::parse(&world.app).unwrap();
    let now = server.now();
    let set = |to: UserStatus| {
        let change = move |tx: &mut grantd_store::Tx<'_>| {
            users::set_suspended(tx, app, user, to, now)?;
            apps::raise_epoch(tx, app)
        };
        server.store().write(change)
    };
    set(UserStatus::Suspended).await.unwrap();
    let refused = ask(&server, &world, with.clone()).await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], "user_suspended");
    ask(&server, &world, without.clone()).await.refused(Code::PolicyDenied);
    set(UserStatus::Active).await.unwrap();
    ask(&server, &world, with).await.ok(200);
    ask(&server, &world, without).await.ok(200);
}

async fn a_token_that_proves_nothing_is_refused_and_told_of(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let now = server.env.now().0 / 1000;
    let good = idp.token(&server, "ann");
    let (body, _) = good.rsplit_once('.').unwrap();
    let none = format!("{}.{}.", b64(r#"{"alg":"none"}"#), body.split('.').nth(1).unwrap());
    for (token, check) in [
        (none, "alg"),
        (format!("{body}.{}", b64([7; 64])), "signature"),
        ("x".repeat(8193), "size"),
        ("a.b.c".to_owned(), "form"),
        (format!("{good}.a.b"), "encrypted"),
        (idp.token_with(&server, "ann", json!({"iss": "https://other.example"})), "issuer"),
        (idp.token_with(&server, "ann", json!({"aud": "other"})), "audience"),
        (idp.token_with(&server, "ann", json!({"exp": now - 60})), "expired"),
        (idp.token_with(&server, "ann", json!({"nbf": now + 61})), "not_yet_valid"),
        (idp.token_with(&server, "ann", json!({"sub": null})), "subject"),
    ] {
        let ask = ask(&server, &world, json!({"grant_id": world.grant, "user_token": token})).await;
        let refused = ask.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], check);
        assert!(!refused.to_string().contains(&token[..token.len().min(12)]), "{refused}");
        let told = server.told(&world, "token.denied").await;
        assert_eq!(told.last().unwrap()["check"], check);
    }
    let list = server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": "a.b.c"}));
    server.send(list).await.refused(Code::JwtValidationError);
    assert_eq!(server.told(&world, "user_token.refused").await[0]["check"], "form");
    assert!(server.told(&world, "user.created").await.is_empty());
}

async fn keys_are_fetched_within_their_budget_and_kept(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let by = |token: String| json!({"provider_id": world.secret, "user_token": token});
    let missing = async |token| drop(ask(&server, &world, by(token)).await.refused(Code::GrantNotFound));
    assert_eq!(idp.calls(), 0);
    for _ in 0..3 {
        missing(idp.token(&server, "ann")).await;
    }
    assert_eq!(idp.calls(), 1, "one fetch, however many calls");
    // A key that is new: not before the pause is over, then at once, and the old one is gone with it.
    let old = idp.token(&server, "ann");
    idp.rotate("k2");
    for _ in 0..3 {
        let refused = ask(&server, &world, by(idp.token(&server, "ann"))).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "key");
    }
    assert_eq!(idp.calls(), 1);
    server.env.advance_ms(JWKS_PAUSE_MS);
    missing(idp.token(&server, "ann")).await;
    assert_eq!(idp.calls(), 2);
    assert_eq!(ask(&server, &world, by(old)).await.refused(Code::JwtValidationError)["details"]["check"], "key");
    // Kept for the next process, which asks nobody while they are good.
    let next = server.another("next", |_| {}).await;
    idp.play("HTTP/1.1 500 x", "");
    next.env.advance_ms(JWKS_FRESH_MS - 1);
    ask(&next, &world, by(idp.token(&server, "ann"))).await.refused(Code::GrantNotFound);
    // Old ones prove for a day, and not a moment longer.
    server.env.advance_ms(JWKS_STALE_MS - JWKS_FRESH_MS);
    missing(idp.token(&server, "ann")).await;
    server.env.advance_ms(1);
    ask(&server, &world, by(idp.token(&server, "ann"))).await.refused(Code::ServiceUnavailable);
}

async fn a_set_of_keys_that_is_none_is_never_taken_for_one(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let by = |token: String| json!({"provider_id": world.secret, "user_token": token});
    let padded = format!("{}{}", idp.keys(), " ".repeat(JWKS_BYTES_MAX));
    let elsewhere = format!("HTTP/1.1 302 x\r\nlocation: {}/other", idp.issuer());
    let keys = idp.keys();
    for (head, body) in [
        ("HTTP/1.1 500 x", ""),
        (elsewhere.as_str(), keys.as_str()),
        ("HTTP/1.1 200 x", "no json"),
        ("HTTP/1.1 200 x", r#"{"keys":[]}"#),
        ("HTTP/1.1 200 x", r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}"#),
        ("HTTP/1.1 200 x", padded.as_str()),
    ] {
        idp.play(head, body);
        server.env.advance_ms(JWKS_PAUSE_MS);
        let refused = ask(&server, &world, by(idp.token(&server, "ann"))).await;
        assert!(refused.headers.contains_key("retry-after"), "{head}");
        refused.refused(Code::ServiceUnavailable);
    }
    assert_eq!(idp.calls(), 6, "no redirect was followed");
    // Where the address guard does not let it, nobody is called.
    let shut = server.another("shut", |settings| settings.outbound = OutboundAllow::default()).await;
    ask(&shut, &world, by(idp.token(&server, "ann"))).await.refused(Code::ServiceUnavailable);
    assert_eq!(idp.calls(), 6);
    *idp.plays.lock().unwrap() = None;
    server.env.advance_ms(JWKS_PAUSE_MS);
    ask(&server, &world, by(idp.token(&server, "ann"))).await.refused(Code::GrantNotFound);
}

async fn an_issuer_that_hangs_holds_up_nobody_else(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    idp.play(HANGS, "");
    let by_user = json!({"provider_id": world.secret, "user_token": idp.token(&server, "ann")});
    let mut waits = Box::pin(ask(&server, &world, by_user));
    let without = async {
        while idp.calls() == 0 {
            tokio::task::yield_now().await;
        }
        ask(&server, &world, json!({"grant_id": world.grant})).await
    };
    tokio::select! {
        early = &mut waits => panic!("there are no keys yet: {}", early.text),
        released = without => assert_eq!(released.status, 200, "{}", released.text),
    }
    let refused = waits.await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.refused(Code::ServiceUnavailable);
}

async fn a_deprovisioned_user_is_gone_with_every_grant(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let token = idp.token(&server, "ann");
    let grants = [user_grant(&server, &world, &token, "a").await, user_grant(&server, &world, &token, "b").await];
    let users = server.api("GET", &world.path("users"), Value::Null).await.ok(200);
    assert_eq!((&users["total"], &users["items"][0]["subject"]), (&json!(1), &json!("ann")));
    let path = world.path(&format!("users/{}", text(&users["items"][0], "id")));
    let suspended = server.api("POST", &format!("{path}/suspend"), Value::Null).await.ok(200);
    assert_eq!(suspended["user_status"], "suspended");
    let direct = json!({"grant_id": grants[0]});
    ask(&server, &world, direct.clone()).await.refused(Code::PolicyDenied);
    server.api("POST", &format!("{path}/resume"), Value::Null).await.ok(200);
    ask(&server, &world, direct.clone()).await.ok(200);
    let gone = server.api("POST", &format!("{path}/deprovision"), Value::Null).await.ok(200);
    assert_eq!(gone["grants_revoked"], 2);
    for grant in &grants {
        ask(&server, &world, json!({"grant_id": grant})).await.refused(Code::GrantDeleted);
    }
    let again = server.api("POST", &format!("{path}/deprovision"), Value::Null).await.ok(200);
    assert_eq!((&again["grants_revoked"], &again["deprovisioned_at"]), (&json!(0), &gone["deprovisioned_at"]));
    server.api("POST", &format!("{path}/resume"), Value::Null).await.refused(Code::Conflict);
    // The token that was out proves nothing any more; a new sign-in is a new user, who has nothing.
    let by = |token: &str| json!({"provider_id": world.secret, "user_token": token});
    let refused = ask(&server, &world, by(&token)).await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], "user_deprovisioned");
    server.env.advance_ms(2_000);
    ask(&server, &world, by(&idp.token(&server, "ann"))).await.refused(Code::GrantNotFound);
    assert_eq!(server.api("GET", &world.path("users"), Value::Null).await.ok(200)["total"], 2);
    // The app's own grant is untouched.
    ask(&server, &world, json!({"grant_id": world.grant})).await.ok(200);
}

async fn users_are_found_by_address_name_and_subject(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let one = crate::webhook::Vendor::of(&server, &world, "auth0", json!({})).await;
    let two = crate::webhook::Vendor::of(&server, &world, "okta", json!({})).await;
    let elsewhere = crate::webhook::Vendor::of(&server, &other, "okta", json!({})).await;
    let app = AppId::parse(&world.app).unwrap();
    let known = async |id: UserId, email: Option<&'static str>, name: Option<&'static str>| {
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            let user = users::find(tx, app, id)?.unwrap();
            let (email, name) = (email.map(str::to_owned), name.map(str::to_owned));
            users::update(tx, &User { email, name, ..user }, 1)
        };
        assert!(server.store().write(write).await.unwrap());
        // Ids of one moment have no order.
        server.advance_ms(1);
        id.to_string()
    };
    let ann = known(one.user("auth0|17", None).await, Some("Ann@Example.com"), Some("Ärmel, Ann")).await;
    let bob = known(two.user("00uBob", None).await, Some("bob@example.com"), None).await;
    let cid = known(two.user("00uCid", None).await, None, Some("Ann Cid")).await;
    elsewhere.user("auth0|18", None).await;
    let nobody: [&String; 0] = [];
    for (search, found) in [
        ("ann", &[&cid, &ann][..]),
        ("ANN@", &[&ann]),
        ("\u{e4}rm", &[&ann]),
        ("auth0|1", &[&ann]),
        ("00u", &[&cid, &bob]),
        ("00uB", &[&bob]),
        // A subject is an id: its case counts.
        ("00UB", &nobody),
        ("example", &nobody),
        ("%", &nobody),
        ("", &[&cid, &bob, &ann]),
    ] {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("search", search).finish();
        let page = server.api("GET", &world.path(&format!("users?{query}")), Value::Null).await.ok(200);
        let ids: Vec<&str> = page["items"].as_array().unwrap().iter().map(|u| u["id"].as_str().unwrap()).collect();
        let found: Vec<&str> = found.iter().map(|id| id.as_str()).collect();
        assert_eq!((page["total"].as_u64(), &ids), (Some(found.len() as u64), &found), "{search}");
    }
    for (narrowed, found) in
        [("search=ann&idp=https%3A%2F%2Fokta.example.com%2F", 1), ("search=ann&status=suspended", 0)]
    {
        let page = server.api("GET", &world.path(&format!("users?{narrowed}")), Value::Null).await.ok(200);
        assert_eq!(page["total"], found, "{narrowed}");
    }
    let page = server.api("GET", &world.path("users?search=ann&limit=1&offset=1"), Value::Null).await.ok(200);
    assert_eq!((&page["total"], &page["items"][0]["id"]), (&json!(2), &json!(ann)));
}

async fn users_are_listed_by_their_identity_provider(server: Server) {
    let world = server.world().await;
    let one = crate::webhook::Vendor::of(&server, &world, "auth0", json!({})).await;
    let two = crate::webhook::Vendor::of(&server, &world, "okta", json!({})).await;
    let (ann, bob) = (one.user("ann", None).await, two.user("bob", None).await);
    for (idp, user) in [
        (&*one.idp, ann),
        (&*two.idp, bob),
        ("https%3A%2F%2Fokta.example.com%2F", bob),
        ("https://auth0.example.com/&limit=1", ann),
    ] {
        let page = server.api("GET", &world.path(&format!("users?idp={idp}")), Value::Null).await.ok(200);
        assert_eq!((page["total"].as_i64(), &page["items"][0]["id"]), (Some(1), &json!(user.to_string())), "{idp}");
    }
    server.api("GET", &world.path("users?idp=https://nobody.example.com"), Value::Null).await.refused(Code::NotFound);
}
