//! What a user reaches of another's, on every route, and what a token that proves nothing comes to, in calls and in signing in.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_server::routes::{self, Sdk};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::issuer::ID;
use crate::harness::world::{ask, merged, text};
use crate::harness::{Answer, Server, World};
use crate::oauth;
use crate::sign_in::{self, Idp, acme};

on_kept_engines! {
    every_route_with_another_users_token,
}

in_memory! {
    a_token_that_proves_nothing_is_refused_in_calls_and_in_signing_in,
}

/// What Ann has.
struct Anns {
    user_id: String,
    account: String,
    key: String,
    /// Of a group that she is in.
    group: String,
}

impl Anns {
    fn grants(&self) -> [&String; 3] {
        [&self.account, &self.key, &self.group]
    }
}

async fn post(server: &Server, world: &World, path: &str, body: &Value) -> Answer {
    server.send(server.sign_as(world).post(path, body)).await
}

/// An account that Ann connected, a grant of hers on the world's secret, and one of her group's.
async fn anns(server: &Server, world: &World, token: &str) -> Anns {
    let account = text(&oauth::connect(server, world, json!({"user_token": token})).await, "grant_id");
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    let principal = json!({"type": "user", "user_token": token, "label": "hers"});
    let made = post(server, world, &path, &json!({"principal": principal, "grant_policy": {}})).await.ok(201);
    let idps = server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200);
    let idp_id = &idps["items"][0]["id"];
    let principal = json!({"type": "group", "external_group_id": "ops", "idp_id": idp_id, "label": "theirs"});
    let group = post(server, world, &path, &json!({"principal": principal, "grant_policy": {}})).await.ok(201);
    let resolved = json!({"include_profile": true, "user_token": token});
    let resolved = post(server, world, "/sdk/identity/resolve", &resolved).await.ok(200);
    Anns {
        user_id: text(&resolved, "app_user_id"),
        account,
        key: text(&made, "grant_id"),
        group: text(&group, "grant_id"),
    }
}

/// What a call of Ben's could change: Ann's rows, how many grants there are, and who is in which group.
async fn standing(server: &Server, hers: &Anns) -> Vec<i64> {
    let ids: Vec<String> = hers.grants().iter().map(|id| format!("'{id}'")).collect();
    let hers = format!("grants WHERE id IN ({})", ids.join(", "));
    let counts = [
        format!("SELECT COUNT(*) FROM {hers} AND status = 'active'"),
        format!("SELECT SUM(version) FROM {hers}"),
        format!("SELECT SUM(version) FROM credentials WHERE id IN (SELECT credential_id FROM {hers})"),
        "SELECT COUNT(*) FROM grants WHERE status = 'active'".to_owned(),
        "SELECT COUNT(*) FROM group_members".to_owned(),
    ];
    let mut found = Vec::new();
    for count in &counts {
        found.push(server.database.number(&format!("SELECT CAST(({count}) AS BIGINT)")).await);
    }
    found
}

async fn every_route_with_another_users_token(server: Server) {
    let (server, world, idp) = acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    let ann = idp.token(&server, json!({"groups": ["ops"]}));
    let ben = idp.token(&server, json!({"sub": "user-2", "email": "ben@example.com", "groups": ["dev"]}));
    let hers = anns(&server, &world, &ann).await;
    // Ben is seen, so that what he is and is in does not count as a change.
    post(&server, &world, "/sdk/grants/list", &json!({"user_token": ben})).await.ok(200);
    let before = standing(&server, &hers).await;
    let as_ben = |more: Value| merged(json!({"user_token": ben}), more);
    for route in routes::SDK {
        let path = |id: &str| route.path.replace("{}", id);
        match route.route {
            Sdk::Token => {
                for grant in hers.grants() {
                    let body = merged(ask(grant), as_ben(json!({})));
                    post(&server, &world, route.path, &body).await.refused(Code::GrantNotFound);
                }
                for provider in [ID, &world.secret] {
                    let by = json!({"grant_id": null, "provider_id": provider, "user_token": ben});
                    let body = merged(ask(""), by);
                    let refused = post(&server, &world, route.path, &body).await.refused(Code::GrantNotFound);
                    assert_ne!(refused["app_user_id"], hers.user_id);
                }
            }
            Sdk::GrantsList => {
                let listed = post(&server, &world, route.path, &as_ben(json!({}))).await.ok(200);
                assert_eq!((&listed["total"], &listed["grants"]), (&json!(0), &json!([])));
            }
            Sdk::GrantRevoke => {
                for grant in hers.grants() {
                    let answer = post(&server, &world, &path(grant), &as_ben(json!({}))).await;
                    answer.refused(Code::GrantNotFound);
                }
            }
            Sdk::ConnectSession => {
                oauth::ask(&server, &world, as_ben(json!({"repair_grant_id": hers.account}))).await.refused(Code::GrantNotFound);
            }
            Sdk::KeySession => {
                let body = as_ben(json!({"provider": world.secret, "repair_grant_id": hers.key}));
                post(&server, &world, route.path, &body).await.refused(Code::GrantNotFound);
                // What Ann holds is not what Ben is asked about.
                let begun = post(&server, &world, route.path, &as_ben(json!({"provider": world.secret}))).await.ok(201);
                assert_eq!((&begun["path"], &begun["existing_grant_id"]), (&json!("key_entry"), &Value::Null));
            }
            Sdk::IdentityResolve | Sdk::IdentityAssert => {
                let body = as_ben(json!({"include_profile": true, "audience": "https://memory.example.com"}));
                let told = post(&server, &world, route.path, &body).await.ok(200).to_string();
                assert!(!told.contains(&hers.user_id) && !told.contains("ann@"), "{told}");
            }
            Sdk::VerifyToken => {
                let told = post(&server, &world, route.path, &json!({"token": ben})).await.ok(200);
                assert_eq!(told, json!({"sub": "user-2"}));
            }
            Sdk::SecretGrant => {
                // Ben gets a grant of his own on the app's secret, under the same label: Ann's stays hers.
                let principal = json!({"type": "user", "user_token": ben, "label": "hers"});
                let body = json!({"principal": principal, "grant_policy": {}});
                let made = post(&server, &world, &path(&world.secret), &body).await.ok(201);
                assert_ne!(made["grant_id"], hers.key);
                server.revoke(&world, &text(&made, "grant_id")).await.ok(200);
            }
            // They take no user token: an app's own key answers for all of its users there, and what they ask about is the app's.
            Sdk::CallReport
            | Sdk::ScopeMismatch
            | Sdk::GrantMint
            | Sdk::ConnectPoll
            | Sdk::AuthSession
            | Sdk::AuthPoll
            | Sdk::Scopes
            | Sdk::ProviderCatalogue
            // Not built: refused before a body is looked at.
            | Sdk::Later => {}
        }
    }
    // Ben's own grant came and went; nothing of Ann's moved.
    assert_eq!(standing(&server, &hers).await, before);
    for grant in hers.grants() {
        let url = URLS[usize::from(*grant != hers.account)];
        let body = json!({"user_token": ann, "request": {"method": "GET", "url": url}});
        post(&server, &world, "/sdk/token", &merged(ask(grant), body)).await.ok(200);
    }
    // What the trail tells of Ann's grants, Ann did; that Ben was refused them, it tells of Ben.
    let of = |events: Vec<Value>| {
        let is_hers = |event: &Value| hers.grants().iter().any(|grant| event["grant_id"] == **grant);
        events.into_iter().filter(is_hers).collect::<Vec<_>>()
    };
    assert!(of(server.told(&world, "grant.revoked").await).is_empty());
    let released = of(server.told(&world, "token.released").await);
    assert_eq!(released.len(), hers.grants().len());
    assert!(released.iter().all(|event| event["user_id"] == hers.user_id), "{released:?}");
    let denied = of(server.told(&world, "token.denied").await);
    assert_eq!(denied.len(), hers.grants().len());
    assert!(denied.iter().all(|event| event["user_id"] != hers.user_id && event["user_id"].is_string()), "{denied:?}");
}

/// What this route is asked with a user's token; `None`: it takes none.
fn with_token(route: Sdk, world: &World, token: &str) -> Option<Value> {
    let with = |more: Value| Some(merged(json!({"user_token": token}), more));
    match route {
        Sdk::Token => with(ask(&world.grant)),
        Sdk::GrantsList | Sdk::GrantRevoke => with(json!({})),
        Sdk::SecretGrant => {
            let principal = json!({"type": "user", "user_token": token, "label": "mine"});
            Some(json!({"principal": principal, "grant_policy": {}}))
        }
        Sdk::ConnectSession => {
            with(json!({"allowed_providers": [ID], "return_url": null, "allowed_origin": null, "metadata": null}))
        }
        Sdk::KeySession => with(json!({"provider": world.secret})),
        Sdk::VerifyToken => Some(json!({"token": token})),
        Sdk::IdentityResolve => with(json!({"include_profile": true})),
        Sdk::IdentityAssert => with(json!({"include_profile": true, "audience": "https://memory.example.com"})),
        Sdk::CallReport
        | Sdk::ScopeMismatch
        | Sdk::GrantMint
        | Sdk::ProviderCatalogue
        | Sdk::ConnectPoll
        | Sdk::AuthSession
        | Sdk::AuthPoll
        | Sdk::Scopes
        // Not built: refused before a body is looked at.
        | Sdk::Later => None,
    }
}

/// Where the account's token may go, and the secret.
const URLS: [&str; 2] = ["https://api.acme.example.com/v1/things", crate::harness::world::URL];

/// Tokens that prove nothing, with the check that each fails. `nonce`: of a sign-in, so that nothing else is wrong with them.
fn bad_tokens(server: &Server, idp: &Idp, evil: &Idp, nonce: Option<&str>) -> Vec<(String, &'static str)> {
    let now_s = server.now().0.div_euclid(1000);
    let claims = |more: Value| {
        let claims = json!({
            "iss": idp.url(), "aud": "client-1", "sub": "user-1", "iat": now_s, "exp": now_s + 3600, "nonce": nonce,
        });
        merged(claims, more).to_string()
    };
    let good = claims(json!({}));
    let header = |more: Value| merged(json!({"alg": "ES256", "kid": "k1"}), more).to_string();
    let with = |more: Value| idp.signed(&header(more), &good);
    let says = |more: Value| idp.signed(&header(json!({})), &claims(more));
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let body = b64(good.as_bytes());
    let shared = {
        let signed = format!("{}.{body}", b64(br#"{"alg":"HS256","kid":"k1"}"#));
        let key = hmac::Key::new(hmac::HMAC_SHA256, idp.jwk().to_string().as_bytes());
        format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let elsewhere = format!("{}/jwks", evil.url());
    let huge = says(json!({"pad": "x".repeat(limits::USER_TOKEN_BYTES_MAX)}));
    let twice = good.replacen('{', r#"{"sub":"user-2","#, 1);
    vec![
        (format!("{}.{body}.", b64(br#"{"alg":"none"}"#)), "alg"),
        (shared, "alg"),
        (with(json!({"kid": "../../k1"})), "key"),
        (with(json!({"kid": "k1\u{0}"})), "key"),
        (with(json!({"kid": ["k1"]})), "form"),
        (evil.signed(&header(json!({"jku": elsewhere})), &good), "signature"),
        (evil.signed(&header(json!({"x5u": elsewhere, "x5c": ["AAAA"]})), &good), "signature"),
        (evil.signed(&header(json!({"jwk": evil.jwk()})), &good), "signature"),
        (says(json!({"iss": "https://other.example"})), "issuer"),
        (says(json!({"aud": "other"})), "audience"),
        (says(json!({"exp": now_s - 60})), "expired"),
        (says(json!({"nbf": now_s + 61})), "not_yet_valid"),
        (huge, "size"),
        (idp.signed(&header(json!({})), &twice), "duplicate"),
        (with(json!({"cty": "JWT"})), "encrypted"),
        (format!("{}.a.b.c.d", b64(br#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)), "encrypted"),
    ]
}

async fn a_token_that_proves_nothing_is_refused_in_calls_and_in_signing_in(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let evil = sign_in::started().await;
    let first = |token: &str| token[..token.len().min(12)].to_owned();
    // Events of the two kinds that a refusal is.
    let (mut denied, mut refusals) = (0, 0);
    for (token, check) in bad_tokens(&server, &idp, &evil, None) {
        // Every route that takes one says the same of it, and tells of it.
        let mut asked = 0;
        for route in routes::SDK {
            let Some(body) = with_token(route.route, &world, &token) else { continue };
            let path =
                route.path.replace("{}", if route.route == Sdk::SecretGrant { &world.secret } else { &world.grant });
            let kind = if route.route == Sdk::Token { "token.denied" } else { "user_token.refused" };
            let refused = post(&server, &world, &path, &body).await.refused(Code::JwtValidationError);
            assert_eq!(refused["details"]["check"], check, "{path}");
            assert!(!refused.to_string().contains(&first(&token)), "{path}: {refused}");
            let count = if route.route == Sdk::Token { &mut denied } else { &mut refusals };
            *count += 1;
            let told = server.told(&world, kind).await;
            let last = told.last().unwrap();
            assert_eq!((told.len(), &last["check"]), (*count, &json!(check)), "{path}");
            assert_eq!(last["code"], "jwt_validation_error", "{path}");
            asked += 1;
        }
        assert_eq!(asked, 9);
    }
    assert!(server.told(&world, "connect.created").await.is_empty());
    assert!(server.told(&world, "grant.revoked").await.is_empty());
    let count = bad_tokens(&server, &idp, &evil, None).len();
    for index in 0..count {
        let (session, mut browser) = (sign_in::session(&server, &world).await, Browser::default());
        let (path, asked) = sign_in::leave(&server, &mut browser, &session).await;
        let (token, check) = bad_tokens(&server, &idp, &evil, Some(&asked["nonce"])).swap_remove(index);
        idp.issues(&token);
        browser.back(&server, &[("code", "c"), ("state", &asked["state"])]).await;
        let told = sign_in::poll(&server, &world, &session).await;
        assert_eq!(
            (&told["status"], &told["error_code"]),
            (&json!("error"), &json!("invalid_token")),
            "{check}: {told}"
        );
        assert!(text(&told, "error_message").contains(&format!("({check})")), "{told}");
        assert!(!told.to_string().contains(&first(&token)), "{told}");
        assert!(!browser.get(&server, &path).await.text.contains(&first(&token)));
        let failed = server.told(&world, "sign_in.failed").await;
        let last = failed.last().unwrap();
        assert_eq!((&last["why"], &last["provider_code"]), (&json!("invalid_token"), &json!(check)));
    }
    // Nobody was made a user by it, and whoever a token names as the owner of its keys was not asked.
    assert!(server.told(&world, "user.created").await.is_empty());
    assert!(evil.issuer.calls("/jwks").is_empty());
}
