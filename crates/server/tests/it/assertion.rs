//! Who a call is of, and assertions of it: what is told, what is signed, and the keys that sign.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::assertion::{KEPT_MS, LEAD_MS, LIFE_MS};
use grantd_server::flow::assertion;
use grantd_server::sealed;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::{merged, text};
use crate::harness::{Answer, Raw, Server, World, api_request, root};

in_memory! {
    without_a_user_the_app_alone_is_told,
    an_assertion_verifies_with_a_published_key,
    an_assertion_is_refused_past_each_bound,
    what_speaks_for_no_user_is_refused,
    keys_are_published_for_everybody,
}

on_every_engine! {
    a_key_is_published_before_it_signs_and_until_its_tokens_are_over,
    a_leaked_key_is_over_at_once,
    a_rotation_sent_again_withdraws_nothing,
    two_processes_make_one_first_key,
}

async fn resolve(server: &Server, world: &World, body: Value) -> Answer {
    server.send(server.sign_as(world).post("/sdk/identity/resolve", &body)).await
}

async fn assert(server: &Server, world: &World, more: Value) -> Answer {
    let body = merged(json!({"include_profile": false, "audience": "https://memory.example.com"}), more);
    server.send(server.sign_as(world).post("/sdk/identity/assert", &body)).await
}

async fn jwks(server: &Server) -> Vec<Value> {
    let set = server.send(Raw::new("GET", "/.well-known/jwks.json", "")).await.ok(200);
    set["keys"].as_array().unwrap().clone()
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Header and claims of a token, if one of these keys signed it.
fn verified(token: &str, keys: &[Value]) -> Option<(Value, Value)> {
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let key = keys.iter().find(|key| key["kid"] == decoded(header)["kid"])?;
    let coordinate = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    public.verify(format!("{header}.{claims}").as_bytes(), &signature).ok()?;
    Some((decoded(header), decoded(claims)))
}

async fn without_a_user_the_app_alone_is_told(server: Server) {
    let world = server.world().await;
    let nobody = json!({
        "app_id": world.app, "app_user_id": null, "external_subject_id": null, "idp_id": null, "user_status": null,
        "group_ids": [], "agent_id": null, "actor_id": null, "trace": null, "email": null, "display_name": null,
    });
    assert_eq!(resolve(&server, &world, json!({"include_profile": true})).await.ok(200), nobody);
    // The context comes back, and the id of the caller's label.
    let sign = server.sign_as(&world).caller("nightly", "service").context(r#"{"run_id":"r1","tool":"t"}"#);
    let answer = server.send(sign.post("/sdk/identity/resolve", &json!({"include_profile": false}))).await;
    let actor = answer.header("x-alter-actor-id").to_owned();
    let told = answer.ok(200);
    assert_eq!((&told["trace"], &told["actor_id"]), (&json!({"run_id": "r1", "thread_id": null}), &json!(actor)));
    let events = server.told(&world, "identity.resolved").await;
    assert_eq!(events.len(), 2);
    assert_eq!((&events[1]["caller"], &events[1]["outcome"]), (&json!("nightly"), &json!("allowed")));
}

async fn an_assertion_verifies_with_a_published_key(server: Server) {
    let world = server.world().await;
    let made = assert(&server, &world, json!({})).await.ok(200);
    let token = text(&made, "token");
    let keys = jwks(&server).await;
    let (header, claims) = verified(&token, &keys).unwrap();
    assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("alter-identity+jwt")));
    let issued_s = server.now().0.div_euclid(1000);
    let app = &world.app;
    assert_eq!(
        claims,
        json!({
            "iss": "http://127.0.0.1:8080", "aud": "https://memory.example.com", "sub": format!("alter:app:{app}"),
            "iat": issued_s, "exp": issued_s + 120, "jti": claims["jti"], "azp": app, "alter": {"app_id": app},
        })
    );
    assert_eq!(made["expires_at"], server.now().plus_seconds(120).to_string());
    assert_eq!(made["identity"]["app_id"], json!(app));
    let short = assert(&server, &world, json!({"ttl_seconds": 10})).await.ok(200);
    let (_, shorter) = verified(&text(&short, "token"), &keys).unwrap();
    assert_eq!(shorter["exp"], issued_s + 10);
    assert_ne!(shorter["jti"], claims["jti"]);
    let events = server.told(&world, "identity.asserted").await;
    assert_eq!((&events[0]["assertion_id"], &events[0]["audience"]), (&claims["jti"], &claims["aud"]));
    assert!(!server.export(&world.path("audit/export")).await.1.contains(&token));
    // Sent again it is refused, and signs nothing.
    let raw = server.sign_as(&world).post("/sdk/identity/assert", &json!({"audience": "urn:x:y"}));
    server.send(raw.clone()).await.ok(200);
    server.another("replica", |_| {}).await.send(raw).await.refused(Code::NonceReplayed);
    assert_eq!(server.told(&world, "identity.asserted").await.len(), 3);
    // The doctor opens what signs.
    let checked = sealed::check(server.store(), &root()).await.unwrap();
    assert!(checked.identity_keys > 0 && checked.closed_identity_keys.is_empty());
}

async fn an_assertion_is_refused_past_each_bound(server: Server) {
    let world = server.world().await;
    let long = |n: usize| format!("https://a.example/{}", "x".repeat(n - 18));
    for good in [json!({"audience": long(512)}), json!({"ttl_seconds": 10}), json!({"ttl_seconds": 300})] {
        assert(&server, &world, good).await.ok(200);
    }
    for bad in [json!(long(513)), json!("memory"), json!(""), json!("https://a b")] {
        assert(&server, &world, json!({"audience": bad})).await.refused(Code::InvalidAudience);
    }
    for bad in [9, 301, -1] {
        assert(&server, &world, json!({"ttl_seconds": bad})).await.refused(Code::InvalidValue);
    }
    for bad in [json!({"ttl_seconds": "60"}), json!({"ttl_seconds": 60.5}), json!({"audience": null})] {
        assert(&server, &world, bad).await.refused(Code::InvalidRequest);
    }
    assert_eq!(server.told(&world, "identity.asserted").await.len(), 3);
    // The doctor opens what signs.
    let checked = sealed::check(server.store(), &root()).await.unwrap();
    assert!(checked.identity_keys > 0 && checked.closed_identity_keys.is_empty());
}

async fn what_speaks_for_no_user_is_refused(server: Server) {
    let world = server.world().await;
    let user = json!({"app_user_id": "0199c0de-0000-7000-8000-00000000beef"});
    let refused = resolve(&server, &world, user.clone()).await.refused(Code::InvalidRequest);
    assert_eq!(refused["details"]["field"], "app_user_id");
    assert(&server, &world, user).await.refused(Code::InvalidRequest);
    // A token that no identity provider of the app issued.
    resolve(&server, &world, json!({"user_token": "x.y.z"})).await.refused(Code::JwtValidationError);
    assert(&server, &world, json!({"user_token": "x.y.z"})).await.refused(Code::JwtValidationError);
    assert!(server.told(&world, "identity.asserted").await.is_empty());
}

async fn keys_are_published_for_everybody(server: Server) {
    assert!(jwks(&server).await.is_empty());
    assertion::keep_up(&server.vault).await.unwrap();
    for path in ["/.well-known/jwks.json", "/.well-known/alter-identity-jwks.json"] {
        let answer = server.send(Raw::new("GET", path, "")).await;
        assert_eq!(answer.header("cache-control"), format!("public, max-age={}", limits::JWKS_MAX_AGE_S));
        assert_eq!(answer.header("content-type"), "application/jwk-set+json");
        let set = answer.ok(200);
        let key = set["keys"][0].as_object().unwrap();
        let names: Vec<&String> = key.keys().collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing private");
        server.send(Raw::new("POST", path, "")).await.refused(Code::MethodNotAllowed);
    }
}

async fn standings(server: &Server) -> Vec<String> {
    let page = server.api("GET", "/api/v1/identity-keys", Value::Null).await.ok(200);
    page["items"].as_array().unwrap().iter().map(|key| text(key, "status")).collect()
}

async fn signed_by(server: &Server, world: &World) -> Value {
    let token = text(&assert(server, world, json!({})).await.ok(200), "token");
    verified(&token, &jwks(server).await).unwrap().0["kid"].clone()
}

async fn a_key_is_published_before_it_signs_and_until_its_tokens_are_over(server: Server) {
    let world = server.world().await;
    let first = signed_by(&server, &world).await;
    server.advance_ms(LIFE_MS - LEAD_MS);
    assertion::keep_up(&server.vault).await.unwrap();
    assertion::keep_up(&server.another("replica", |_| {}).await.vault).await.unwrap();
    assert_eq!(standings(&server).await, ["signs", "next"]);
    server.advance_ms(LEAD_MS - 1);
    assert_eq!(signed_by(&server, &world).await, first);
    let last = text(&assert(&server, &world, json!({"ttl_seconds": 300})).await.ok(200), "token");
    server.advance_ms(1);
    let second = signed_by(&server, &world).await;
    assert_ne!(second, first);
    server.advance_ms(KEPT_MS - 1);
    assertion::keep_up(&server.vault).await.unwrap();
    assert!(verified(&last, &jwks(&server).await).is_some());
    server.advance_ms(1);
    assertion::keep_up(&server.vault).await.unwrap();
    assert_eq!(standings(&server).await, ["signs"]);
    assert_eq!(jwks(&server).await[0]["kid"], second);
    // An operator may want another one sooner, once.
    let made = server.api("POST", "/api/v1/identity-keys/rotate", Value::Null).await.ok(200);
    assert_eq!(
        (&made["status"], &made["signs_from"]),
        (&json!("next"), &json!(server.now().plus_ms(LEAD_MS).to_string()))
    );
    server.api("POST", "/api/v1/identity-keys/rotate", Value::Null).await.refused(Code::InUse);
    assert_eq!(standings(&server).await, ["signs", "next"]);
    let made = |events: Vec<Value>| events.iter().filter(|event| event["core"]["kind"] == "identity_key.made").count();
    assert_eq!(made(server.events("/api/v1/audit/export").await), 3);
}

async fn a_leaked_key_is_over_at_once(server: Server) {
    let world = server.world().await;
    let token = text(&assert(&server, &world, json!({})).await.ok(200), "token");
    let first = signed_by(&server, &world).await;
    server.api("POST", "/api/v1/identity-keys/rotate", Value::Null).await.ok(200);
    let replica = server.another("replica", |_| {}).await;
    assert_eq!(signed_by(&replica, &world).await, first);
    let made = server.api("POST", "/api/v1/identity-keys/rotate", json!({"leaked": true})).await.ok(200);
    assert_eq!(made["status"], "signs");
    assert_eq!(signed_by(&replica, &world).await, made["id"]);
    assert!(verified(&token, &jwks(&replica).await).is_none());
    assert_eq!(standings(&server).await, ["signs"]);
    let events = server.events("/api/v1/audit/export").await;
    let withdrawn = events.iter().filter(|event| event["core"]["kind"] == "identity_key.withdrawn");
    let ids: Vec<_> = withdrawn.map(|event| event["core"]["signing_key_id"].clone()).collect();
    assert_eq!((ids.len(), ids.contains(&first)), (2, true));
}

/// After a leak a second rotation would withdraw the key that the first one made.
async fn a_rotation_sent_again_withdraws_nothing(server: Server) {
    server.world().await;
    let send = async |key: &str| {
        let body = json!({"leaked": true}).to_string();
        let request = api_request(&server.pat, "POST", "/api/v1/identity-keys/rotate", body);
        server.send(request.set("idempotency-key", key)).await
    };
    let first = send("lost").await;
    first.ok(200);
    let published = jwks(&server).await;
    let again = send("lost").await;
    assert_eq!((again.status, &again.text), (200, &first.text));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(jwks(&server).await, published);
    send("another").await.ok(200);
    assert_ne!(jwks(&server).await, published);
}

async fn two_processes_make_one_first_key(server: Server) {
    let replica = server.another("replica", |_| {}).await;
    let (one, two) = tokio::join!(assertion::keep_up(&server.vault), assertion::keep_up(&replica.vault));
    one.unwrap();
    two.unwrap();
    assert_eq!(standings(&server).await, ["signs"]);
}
