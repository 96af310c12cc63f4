//! Which keys are alive, from where, and how often: on every route alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use grantd_domain::env::Clock as _;
use grantd_server::routes;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::ask;
use crate::harness::{Raw, Server, World};

in_memory! {
    revoked_key_is_dead_everywhere,
    a_key_expires_at_its_very_millisecond,
    a_key_works_from_its_networks_only,
    a_proxy_is_believed_only_if_trusted,
    unknown_key_body_is_not_read,
    the_steps_of_authentication_keep_their_order,
    failed_authentications_slow_their_source_only,
    the_bound_of_failed_authentications_is_a_setting,
    one_event_per_source_and_minute,
    failures_of_a_known_key_are_told_in_its_app,
    a_rate_limit_is_kept_and_told,
    replicas_share_a_rate_limit,
    without_a_limit_nothing_is_told,
}

on_kept_engines! {
    liveness_codes_come_in_their_order,
    a_deprecated_key_works_and_says_so,
}

async fn every_route(server: &Server, key: &str) -> Vec<String> {
    let mut codes = Vec::new();
    for route in routes::SDK {
        let path = route.path.replace("{}", "0199c0de-0000-7000-8000-00000000beef");
        codes.push(server.send(server.sign(key).request(route.method, &path, "{}")).await.code());
    }
    codes.sort();
    codes.dedup();
    codes
}

async fn revoked_key_is_dead_everywhere(server: Server) {
    let world = server.world().await;
    let (id, key) = server.key(&world.app, json!({"scopes": grantd_wire::scope::all()})).await;
    assert!(every_route(&server, &key).await.len() > 1);
    let replica = server.another("replica", |_| {}).await;
    replica.token(&world.with_key(&key)).await.ok(200);
    let path = world.path(&format!("keys/{id}/revoke"));
    let first = server.api("POST", &path, Value::Null).await.ok(200);
    assert_eq!(every_route(&server, &key).await, ["key_revoked"]);
    assert_eq!(every_route(&replica, &key).await, ["key_revoked"], "on every replica");
    // Once more changes nothing, and says when.
    server.advance_ms(1_000);
    assert_eq!(server.api("POST", &path, Value::Null).await.ok(200), first);
    assert_eq!(server.told(&world, "key.revoked").await.len(), 1);
    server.token(&world).await.ok(200);
}

async fn a_key_expires_at_its_very_millisecond(server: Server) {
    let world = server.world().await;
    let (_, key) = server.key(&world.app, json!({"scopes": ["tokens:retrieve"], "expires_in_seconds": 60})).await;
    server.advance_ms(59_999);
    server.token(&world.with_key(&key)).await.ok(200);
    server.advance_ms(1);
    assert_eq!(every_route(&server, &key).await, ["key_expired"]);
}

async fn liveness_codes_come_in_their_order(server: Server) {
    let world = server.world().await;
    let (now, id) = (server.now().0, &world.key_id);
    let set = async |sql: String| server.database.behind_its_back(&sql).await;
    set(format!("UPDATE apps SET state = 'archived' WHERE id = '{}'", world.app)).await;
    server.token(&world).await.refused(Code::KeyNotActive);
    set(format!("UPDATE api_keys SET grace_until_ms = {now} WHERE id = '{id}'")).await;
    server.token(&world).await.refused(Code::KeyRotatedGraceExpired);
    set(format!("UPDATE api_keys SET expires_at_ms = {now} WHERE id = '{id}'")).await;
    server.token(&world).await.refused(Code::KeyExpired);
    set(format!("UPDATE api_keys SET revoked_at_ms = {now} WHERE id = '{id}'")).await;
    server.token(&world).await.refused(Code::KeyRevoked);
    // In grace it works.
    set(format!("UPDATE apps SET state = 'active' WHERE id = '{}'", world.app)).await;
    set(format!(
        "UPDATE api_keys SET revoked_at_ms = NULL, expires_at_ms = NULL, grace_until_ms = {} WHERE id = '{id}'",
        now + 1
    ))
    .await;
    server.token(&world).await.ok(200);
    server.advance_ms(1);
    server.token(&world).await.refused(Code::KeyRotatedGraceExpired);
}

async fn a_deprecated_key_works_and_says_so(server: Server) {
    let world = server.world().await;
    assert_eq!(server.token(&world).await.header("x-alter-key-deprecated"), "");
    server
        .database
        .behind_its_back(&format!("UPDATE api_keys SET deprecated_at_ms = 1 WHERE id = '{}'", world.key_id))
        .await;
    // It changes no decision, so a remembered key may be silent for five seconds.
    server.advance_ms(5_000);
    let answer = server.token(&world).await;
    answer.ok(200);
    assert_eq!(answer.header("x-alter-key-deprecated"), "true");
    let refused = server.token(&world.with_grant("x")).await;
    assert_eq!((refused.status, refused.header("x-alter-key-deprecated")), (404, "true"));
}

async fn a_key_works_from_its_networks_only(server: Server) {
    let world = server.world().await;
    let nets = json!(["198.51.100.0/24", "192.0.2.9", "2001:db8:7::/48"]);
    let (_, key) = server.key(&world.app, json!({"scopes": ["tokens:retrieve"], "cidr_allowlist": nets})).await;
    let from = |ip: &str| server.send(server.token_request(&world.with_key(&key)).from(ip));
    for good in ["198.51.100.0", "198.51.100.255", "192.0.2.9", "2001:db8:7:ffff::1", "::ffff:198.51.100.7"] {
        from(good).await.ok(200);
    }
    for bad in ["198.51.101.0", "192.0.2.8", "2001:db8:8::1", "::1", "::ffff:192.0.2.8", "203.0.113.7"] {
        from(bad).await.refused(Code::IpNotAllowed);
    }
    // A stolen key shows: where from, and which.
    let events = server.told(&world, "auth.failed").await;
    assert!(events.iter().all(|event| event["code"] == "ip_not_allowed" && event["key_prefix"] == key[..13]));
    assert_eq!(events.len(), 5, "an IPv4 address is the same however it is written");
    // Headers of a stranger change nothing.
    let raw = server.token_request(&world.with_key(&key)).set("x-forwarded-for", "198.51.100.1");
    server
        .send(raw.set("forwarded", "for=198.51.100.1").set("x-real-ip", "198.51.100.1"))
        .await
        .refused(Code::IpNotAllowed);
}

async fn a_proxy_is_believed_only_if_trusted(server: Server) {
    let world = server.world().await;
    let (_, key) =
        server.key(&world.app, json!({"scopes": ["tokens:retrieve"], "cidr_allowlist": ["198.51.100.0/24"]})).await;
    let behind = server.another("behind", |s| s.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    let request = |peer: &str, forwarded: &[&str]| {
        let raw = server.token_request(&world.with_key(&key)).from(peer);
        forwarded.iter().fold(raw, |raw, value| raw.add("x-forwarded-for", value))
    };
    for good in [
        &["198.51.100.1"][..],
        &["6.6.6.6, 198.51.100.1"],
        &["6.6.6.6", "198.51.100.1, 10.9.9.9"],
        &["198.51.100.1,10.0.0.3"],
    ] {
        behind.send(request("10.0.0.1", good)).await.ok(200);
    }
    for bad in [&["198.51.100.1, 6.6.6.6"][..], &["198.51.100.1", "6.6.6.6"], &["198.51.100.1, unknown"], &[], &[""]] {
        behind.send(request("10.0.0.1", bad)).await.refused(Code::IpNotAllowed);
    }
    behind.send(request("203.0.113.7", &["198.51.100.1"])).await.refused(Code::IpNotAllowed);
    behind.send(request("198.51.100.1", &["6.6.6.6"])).await.ok(200);
    let told = server.told(&world, "token.released").await;
    assert!(told.iter().all(|event| event["ip"] == "198.51.100.1"), "the client's own address is in the event");
}

/// Sends the request with a body that tells whether it was asked for.
async fn body_is_read(server: &Server, raw: Raw) -> (u16, bool) {
    let read = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&read);
    let mut body = Some(raw.body.clone());
    let body = stream::poll_fn(move |_| {
        flag.store(true, Ordering::SeqCst);
        Poll::Ready(body.take().map(Ok::<Bytes, std::io::Error>))
    });
    let answer = server.send_request("a body that is watched", raw.streaming(Body::from_stream(body))).await;
    (answer.status, read.load(Ordering::SeqCst))
}

async fn unknown_key_body_is_not_read(server: Server) {
    let world = server.world().await;
    let (id, revoked) = server.key(&world.app, json!({})).await;
    server.api("POST", &world.path(&format!("keys/{id}/revoke")), Value::Null).await.ok(200);
    let (_, elsewhere) = server.key(&world.app, json!({"cidr_allowlist": ["192.0.2.0/24"]})).await;
    let good = || server.token_request(&world);
    let of = |key: &str| server.token_request(&world.with_key(key));
    for (raw, status) in [
        (of("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl"), 401),
        (of("nonsense"), 401),
        (good().without("x-api-key"), 401),
        (of(&revoked), 401),
        (of(&elsewhere), 403),
        (good().without("x-alter-nonce"), 401),
        (good().set("x-alter-timestamp", "1"), 401),
        (good().set("content-encoding", "gzip"), 415),
        (good().set("content-length", "65537"), 413),
        (good().at("/sdk/nothing"), 501),
        (good().at("/api/v1/apps"), 401),
    ] {
        assert_eq!(body_is_read(&server, raw).await, (status, false));
    }
    assert_eq!(body_is_read(&server, good().set("x-alter-signature", "0".repeat(64))).await, (401, true));
    assert_eq!(body_is_read(&server, good()).await, (200, true));
}

async fn the_steps_of_authentication_keep_their_order(server: Server) {
    let world = server.world().await;
    let nets = json!({"scopes": ["grants:read"], "cidr_allowlist": ["192.0.2.0/24"], "expires_in_seconds": 60, "rate_limit_rpm": 1});
    let (_, key) = server.key(&world.app, nets).await;
    let sign = server.sign(&key).caller("x", "robot").context("[]").constraints("x:y").rule("!");
    // Everything is wrong with it; each repair shows the next step.
    let wrong = sign.shifted_s(61).post("/sdk/token", &ask(&world.grant)).set("content-encoding", "gzip");
    let wrong = wrong.with_body("another body").set("x-alter-nonce", "malformed");
    server.send(wrong.clone()).await.refused(Code::IpNotAllowed);
    let wrong = wrong.from("192.0.2.1");
    server.send(wrong.clone()).await.refused(Code::EncodingUnsupported);
    let wrong = wrong.without("content-encoding");
    server.send(wrong.clone()).await.refused(Code::SignatureInvalid);
    let wrong = wrong.set("x-alter-nonce", "0".repeat(32));
    server.send(wrong.clone()).await.refused(Code::TimestampOutOfRange);
    server.advance_ms(1_000);
    server.send(wrong).await.refused(Code::ContentHashMismatch);
    let edited = sign.post("/sdk/token", &ask(&world.grant)).from("192.0.2.1").at("/sdk/token?x");
    server.send(edited).await.refused(Code::SignatureInvalid);
    let from = |raw: Raw| server.send(raw.from("192.0.2.1"));
    from(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::InvalidCaller);
    let sign = sign.caller("x", "service");
    from(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::InvalidContext);
    let sign = sign.context("{}");
    let replayed = sign.post("/sdk/token", &ask(&world.grant));
    from(replayed.clone()).await.refused(Code::ConstraintNotNarrowing);
    // The nonce comes before the rate, the rate before everything the key may do.
    from(replayed).await.refused(Code::NonceReplayed);
    from(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::RateLimitExceeded);
    // Liveness before the address.
    server.advance_ms(60_000);
    server.send(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::KeyExpired);
}

async fn failed_authentications_slow_their_source_only(server: Server) {
    let world = server.world().await;
    let bad = |ip: &str| server.sign("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl").get("/sdk/scopes").from(ip);
    for i in 0..600 {
        // Tokens that are wrong count as well.
        match i % 2 {
            0 => server.send(bad("2001:db8::1")).await.refused(Code::InvalidKey),
            _ => server
                .send(Raw::new("GET", "/api/v1/apps", "").from("2001:db8::ffff"))
                .await
                .refused(Code::SessionRequired),
        };
    }
    let slowed = server.send(bad("2001:db8::2")).await;
    let json = slowed.refused(Code::RateLimitExceeded);
    assert_eq!((&json["scope"], &json["limit"], &json["window_seconds"]), (&json!("ip"), &json!(600), &json!(60)));
    assert_eq!(slowed.header("retry-after"), json["retry_after"].to_string());
    // Good keys and tokens from there, and others from elsewhere, are untouched.
    server.send(server.token_request(&world).from("2001:db8::1")).await.ok(200);
    let whoami = crate::harness::api_request(&server.pat, "GET", "/api/v1/whoami", "");
    server.send(whoami.from("2001:db8::1")).await.ok(200);
    server.send(bad("2001:db8:0:1::1")).await.refused(Code::InvalidKey);
    server.send(bad("192.0.2.1")).await.refused(Code::InvalidKey);
    server.advance_ms(100);
    server.send(bad("2001:db8::1")).await.refused(Code::InvalidKey);
    server.send(bad("2001:db8::1")).await.refused(Code::RateLimitExceeded);
}

async fn failures(server: &Server, path: &str) -> Vec<Value> {
    let page = server.api("GET", &format!("{path}?kind=auth.failed&limit=1000"), Value::Null).await.ok(200);
    page["items"].as_array().unwrap().clone()
}

async fn the_bound_of_failed_authentications_is_a_setting(server: Server) {
    let world = server.world().await;
    let strict = server.another("strict", |settings| settings.auth_failures_per_minute = 2).await;
    let unknown = world.with_key("alter_rk_unknown");
    for _ in 0..2 {
        strict.token(&unknown).await.refused(Code::InvalidKey);
    }
    let refused = strict.token(&unknown).await.refused(Code::RateLimitExceeded);
    assert_eq!(refused["scope"], "ip");
    strict.token(&world).await.ok(200);
    server.token(&unknown).await.refused(Code::InvalidKey);
}

async fn one_event_per_source_and_minute(server: Server) {
    let at = "/api/v1/audit/events";
    let bad = |ip: &str| server.sign("alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl").get("/sdk/scopes").from(ip);
    for ip in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"] {
        server.send(bad(ip)).await.refused(Code::InvalidKey);
    }
    let events = failures(&server, at).await;
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|e| e["code"] == "invalid_key" && e["outcome"] == "denied" && e.get("actor").is_none()));
    let to_next_minute = 60_000 - server.env.now().0.rem_euclid(60_000);
    server.advance_ms(to_next_minute - 1);
    server.send(bad("192.0.2.1")).await.refused(Code::InvalidKey);
    assert_eq!(failures(&server, at).await.len(), 3);
    server.advance_ms(1);
    server.send(bad("192.0.2.1")).await.refused(Code::InvalidKey);
    assert_eq!(failures(&server, at).await.len(), 4);
}

async fn failures_of_a_known_key_are_told_in_its_app(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    server
        .send(raw.clone().set("x-alter-signature", "0".repeat(64)).from("192.0.2.1"))
        .await
        .refused(Code::SignatureInvalid);
    server.send(raw.clone().from("192.0.2.2")).await.ok(200);
    server.send(raw.from("192.0.2.2")).await.refused(Code::NonceReplayed);
    server.api("POST", &world.path(&format!("keys/{}/revoke", world.key_id)), Value::Null).await.ok(200);
    server.send(server.token_request(&world).from("192.0.2.3")).await.refused(Code::KeyRevoked);
    let events = server.told(&world, "auth.failed").await;
    let codes: Vec<_> = events.iter().map(|e| (e["code"].as_str().unwrap(), e["ip"].as_str().unwrap())).collect();
    assert_eq!(
        codes,
        [("signature_invalid", "192.0.2.1"), ("nonce_replayed", "192.0.2.2"), ("key_revoked", "192.0.2.3")]
    );
    assert!(events.iter().all(|e| e["key_id"] == world.key_id.as_str()));
}

async fn limited(server: &Server, rpm: u32) -> World {
    let world = server.world().await;
    let (_, key) = server.key(&world.app, json!({"scopes": ["tokens:retrieve"], "rate_limit_rpm": rpm})).await;
    world.with_key(&key)
}

async fn a_rate_limit_is_kept_and_told(server: Server) {
    let world = limited(&server, 60).await;
    for remaining in (0..6).rev() {
        let answer = server.token(&world).await;
        answer.ok(200);
        assert_eq!(answer.header("x-ratelimit-limit"), "60");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining.to_string());
        let reset: i64 = answer.header("x-ratelimit-reset").parse().unwrap();
        assert!((0..=60).contains(&(reset - server.now().0 / 1000)), "{reset}");
    }
    let refused = server.token(&world).await;
    let json = refused.refused(Code::RateLimitExceeded);
    let fields =
        [("scope", json!("api_key")), ("limit", json!(60)), ("window_seconds", json!(60)), ("retry_after", json!(2))];
    for (field, value) in fields {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!((refused.header("retry-after"), refused.header("x-ratelimit-remaining")), ("2", "0"));
    // Waiting that long is enough.
    server.advance_ms(2_000);
    server.token(&world).await.ok(200);
    // What it refused is in no trail: six releases and one.
    assert_eq!(server.told(&world, "token.released").await.len(), 7);
    assert!(server.told(&world, "token.denied").await.is_empty());
}

async fn replicas_share_a_rate_limit(server: Server) {
    let world = limited(&server, 60).await;
    let mut passed = 0;
    for name in ["one", "two", "three"] {
        let replica = server.another(name, |s| s.replicas = 3).await;
        while replica.token(&world).await.status == 200 {
            passed += 1;
        }
    }
    assert_eq!(passed, 6, "as many as one alone would let through");
}

async fn without_a_limit_nothing_is_told(server: Server) {
    let world = server.world().await;
    let answer = server.token(&world).await;
    for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"] {
        assert_eq!(answer.header(header), "");
    }
    let key = server.api("GET", &world.path(&format!("keys/{}", world.key_id)), Value::Null).await.ok(200);
    assert_eq!((&key["effective_rate_limit_rpm"], &key["rate_limit_source"]), (&Value::Null, &Value::Null));
}
