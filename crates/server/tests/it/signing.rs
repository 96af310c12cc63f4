//! What a signature, its headers and its nonce prove: each piece edited, left out, doubled, or sent again.

use aws_lc_rs::hmac;
use grantd_wire::Code;
use grantd_wire::sign::{hex, sha256};
use serde_json::{Value, json};

use crate::harness::world::ask;
use crate::harness::{Raw, Server, Sign, World};

in_memory! {
    the_signature_is_over_the_documented_text,
    core_08_a_path_prefix_is_not_signed,
    core_13_an_encoded_path_and_a_query_verify,
    core_19_an_id_is_decoded_once,
    core_21_an_altered_body_is_refused,
    core_22_a_nonce_is_used_once,
    core_23_a_clock_may_be_sixty_seconds_off,
    core_24_identity_cannot_be_added_or_taken_away,
    core_25_an_unknown_key_is_told_with_a_hint,
    method_path_and_query_are_signed,
    each_signing_header_is_needed_once_and_well_formed,
    the_second_signature_is_there_exactly_with_identity,
    a_signature_is_of_its_own_key,
    a_replay_of_a_read_is_refused_for_its_whole_life,
    a_read_may_be_told_again_after_its_life,
}

on_every_engine! {
    a_release_is_not_replayed_after_a_restart,
    a_change_is_not_replayed_after_a_restart,
}

fn list(server: &Server, world: &World) -> Raw {
    server.sign_as(world).post("/sdk/grants/list", &json!({"limit": 100, "offset": 0}))
}

/// Everything a client can say of itself, beside a body and a query.
fn everything<'a>(server: &Server, world: &'a World) -> Sign<'a> {
    Sign { actor_id: "0199c0de-0000-7000-8000-00000000beef", ..server.sign_as(world) }
        .caller("billing", "service")
        .context(r#"{"run_id":"r1"}"#)
        .constraints("grants:read,tokens:retrieve")
}

async fn the_signature_is_over_the_documented_text(server: Server) {
    let world = server.world().await;
    let (timestamp, nonce) = (server.now().0 / 1000, "00112233445566778899aabbccddeeff");
    let body = r#"{"limit":100,"offset":0}"#;
    let text = format!(
        "POST\n/sdk/grants/list?a=1&b=x+y\n{timestamp}\n{nonce}\n{}\ngrants:read\ncaller:me\ncaller-type:agent\nactor-context:{{\"a\":\"b\"}}",
        hex(&sha256(body.as_bytes()))
    );
    let outer = hmac::Key::new(hmac::HMAC_SHA256, world.key.as_bytes());
    let signing = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&outer, b"alter-signing-v1").as_ref());
    let signature = hex(hmac::sign(&signing, text.as_bytes()).as_ref());
    let raw = Raw::new("POST", "/sdk/grants/list?b=x%20y&&a=1", body)
        .set("x-api-key", &world.key)
        .set("x-alter-timestamp", timestamp.to_string())
        .set("x-alter-nonce", nonce)
        .set("x-alter-content-sha256", hex(&sha256(body.as_bytes())))
        .set("x-alter-signature", &signature)
        .set("x-alter-signature-v2", &signature)
        .set("x-alter-scope-constraints", "grants:read")
        .set("x-alter-caller", "me")
        .set("x-alter-caller-type", "agent")
        .set("x-alter-context", r#"{"a":"b"}"#);
    server.send(raw).await.ok(200);
}

async fn core_08_a_path_prefix_is_not_signed(server: Server) {
    let world = server.world().await;
    let behind = server.another("behind", |settings| "/alter".clone_into(&mut settings.base_path)).await;
    // A proxy in front took the prefix off, or did not.
    behind.send(list(&server, &world)).await.ok(200);
    behind.send(list(&server, &world).at("/alter/sdk/grants/list")).await.ok(200);
    for other in ["/alternative/sdk/grants/list", "/x/sdk/grants/list", "/alter/alter/sdk/grants/list", "/alter"] {
        behind.send(list(&server, &world).at(other)).await.refused(Code::UnknownRoute);
    }
    server.send(list(&server, &world).at("/alter/sdk/grants/list")).await.refused(Code::UnknownRoute);
}

async fn core_13_an_encoded_path_and_a_query_verify(server: Server) {
    let world = server.world().await;
    let target = "/sdk/provider-specs/oauth/a%2Fb%20c/operations?limit=5&offset=0&search=x+y~%2A%C3%A9%2F";
    let raw = server.sign_as(&world).get(target);
    server.send(raw.clone()).await.refused(Code::FeatureUnavailable);
    // The same query in another order and spelling is the same query; a decoded slash is another path.
    let again = server.sign_as(&world).get(target);
    let respelled = "/sdk/provider-specs/oauth/a%2fb%20c/operations?search=x%20y~*%c3%a9/&offset=0&limit=5";
    server.send(again.at(respelled)).await.refused(Code::FeatureUnavailable);
}

async fn core_19_an_id_is_decoded_once(server: Server) {
    let world = server.world().await;
    server.send(server.sign_as(&world).get("/sdk/agents/a%20b%2Fc%252F")).await.refused(Code::FeatureUnavailable);
    // `%2F` and `/` verify alike, so an id with a slash is nobody's.
    let path = format!("/sdk/oauth/grants/x%2F{}/revoke", world.grant);
    server.send(server.sign_as(&world).post(&path, &json!({}))).await.refused(Code::GrantNotFound);
    let raw = server.sign_as(&world).post("/sdk/grants/%ff%fe/report-scope-mismatch", &json!({}));
    server.send(raw).await.refused(Code::GrantNotFound);
    server.token(&world).await.ok(200);
}

async fn core_21_an_altered_body_is_refused(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    let altered = String::from_utf8(raw.body.to_vec()).unwrap().replace("things", "thangs");
    server.send(raw.clone().with_body(altered.clone())).await.refused(Code::ContentHashMismatch);
    server.send(raw.clone().with_body("")).await.refused(Code::ContentHashMismatch);
    server.send(raw.clone().with_body(format!("{} ", world.grant))).await.refused(Code::ContentHashMismatch);
    let hash = hex(&sha256(altered.as_bytes()));
    server
        .send(raw.clone().with_body(altered).set("x-alter-content-sha256", hash))
        .await
        .refused(Code::SignatureInvalid);
    // None of this used its nonce up.
    server.send(raw).await.ok(200);
}

async fn core_22_a_nonce_is_used_once(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    server.send(raw.clone()).await.ok(200);
    server.send(raw.clone()).await.refused(Code::NonceReplayed);
    // Signed anew, on another route, with the same nonce.
    let other = resigned(&server, &world, raw.header("x-alter-nonce"));
    server.send(other).await.refused(Code::NonceReplayed);
    // Another key's nonces are its own.
    let key = server.key_with(&world.app, &["grants:read"]).await;
    server.send(resigned(&server, &world.with_key(&key), raw.header("x-alter-nonce"))).await.ok(200);
    assert_eq!(server.told(&world, "token.released").await.len(), 1);
}

/// A list call signed with this very nonce.
fn resigned(server: &Server, world: &World, nonce: &str) -> Raw {
    let raw = list(server, world);
    let text = format!(
        "POST\n/sdk/grants/list\n{}\n{nonce}\n{}\n",
        raw.header("x-alter-timestamp"),
        raw.header("x-alter-content-sha256")
    );
    let signature = grantd_wire::sign::SigningKey::derive(&world.key).sign(&text);
    raw.set("x-alter-nonce", nonce).set("x-alter-signature", signature)
}

async fn core_23_a_clock_may_be_sixty_seconds_off(server: Server) {
    let world = server.world().await;
    for good in [-60, -1, 0, 1, 60] {
        let sign = server.sign_as(&world).shifted_s(good);
        server.send(sign.post("/sdk/token", &ask(&world.grant))).await.ok(200);
    }
    for bad in [-600, -61, 61, 600, i64::from(u32::MAX)] {
        let sign = server.sign_as(&world).shifted_s(bad);
        server.send(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::TimestampOutOfRange);
    }
}

const IDENTITY: [(&str, &str); 6] = [
    ("x-alter-caller", "other"),
    ("x-alter-caller-type", "agent"),
    ("x-alter-actor-id", "0199c0de-0000-7000-8000-00000000cafe"),
    ("x-alter-context", r#"{"run_id":"r2"}"#),
    ("x-alter-scope-constraints", "grants:read"),
    ("x-alter-request-rule", "eyJydWxlX3R5cGUiOiJ0IiwicnVsZV9ib2R5Ijp7fX0"),
];

async fn core_24_identity_cannot_be_added_or_taken_away(server: Server) {
    let world = server.world().await;
    let full = Sign { rule: IDENTITY[5].1, ..everything(&server, &world) };
    let full = full.post("/sdk/grants/list", &json!({}));
    let bare = list(&server, &world);
    for (name, value) in IDENTITY {
        let other = if name == "x-alter-request-rule" { "e30" } else { value };
        server.send(full.clone().without(name)).await.refused(Code::SignatureInvalid);
        server.send(full.clone().set(name, "")).await.refused(Code::SignatureInvalid);
        server.send(full.clone().set(name, other)).await.refused(Code::SignatureInvalid);
        server.send(full.clone().add(name, value)).await.refused(Code::SignatureInvalid);
        server.send(bare.clone().set(name, value)).await.refused(Code::SignatureInvalid);
        let signature = bare.header("x-alter-signature").to_owned();
        server
            .send(bare.clone().set(name, value).set("x-alter-signature-v2", signature))
            .await
            .refused(Code::SignatureInvalid);
    }
    let stripped =
        full.clone().without("x-alter-caller").without("x-alter-caller-type").without("x-alter-signature-v2");
    server.send(stripped).await.refused(Code::SignatureInvalid);
    server.send(full).await.ok(200);
    server.send(bare).await.ok(200);
}

async fn core_25_an_unknown_key_is_told_with_a_hint(server: Server) {
    let world = server.world().await;
    let unknown = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";
    let old_form = format!("alter_key_{}", "aZ9-_".repeat(8));
    let publishable = grantd_wire::key::mint(grantd_wire::key::KeyType::Publishable, [7; 22]);
    let cut = &world.key[..world.key.len() - 1];
    for key in [unknown, &old_form, &publishable, cut, "x", &world.key.to_uppercase()] {
        let json = server.send(server.sign(key).post("/sdk/token", &ask(&world.grant))).await.refused(Code::InvalidKey);
        assert!(json["hint"].as_str().is_some_and(|hint| !hint.contains(key)), "{json}");
    }
}

async fn method_path_and_query_are_signed(server: Server) {
    let world = server.world().await;
    let raw = server.sign_as(&world).post("/sdk/grants/list?a=1", &json!({}));
    for other in ["/sdk/grants/list", "/sdk/grants/list?a=2", "/sdk/grants/list?a=1&b", "/sdk/token?a=1"] {
        server.send(raw.clone().at(other)).await.refused(Code::SignatureInvalid);
    }
    // An encoded path is not another spelling of a route.
    server.send(raw.clone().at("/sdk/grants/%6Cist?a=1")).await.refused(Code::UnknownRoute);
    server.send(raw.at("/sdk/grants/list?&a=1&")).await.ok(200);
    let get = server.sign_as(&world).request("GET", "/sdk/agents", "");
    let mut post = get.clone();
    "POST".clone_into(&mut post.method);
    server.send(post).await.refused(Code::SignatureInvalid);
    server.send(get).await.refused(Code::FeatureUnavailable);
}

async fn each_signing_header_is_needed_once_and_well_formed(server: Server) {
    let world = server.world().await;
    let raw = list(&server, &world);
    let own = |name: &str| raw.header(name).to_owned();
    let (time, nonce, hash, signature) =
        (own("x-alter-timestamp"), own("x-alter-nonce"), own("x-alter-content-sha256"), own("x-alter-signature"));
    let malformed = [
        (
            "x-alter-timestamp",
            vec![
                String::new(),
                "now".into(),
                format!("+{time}"),
                format!("-{time}"),
                format!("{time}.0"),
                format!("{time} "),
                "9".repeat(13),
                "0x1".into(),
            ],
        ),
        (
            "x-alter-nonce",
            vec![String::new(), nonce.to_uppercase(), nonce[1..].to_owned(), format!("{nonce}0"), "g".repeat(32)],
        ),
        ("x-alter-content-sha256", vec![String::new(), hash.to_uppercase(), hash[1..].to_owned(), format!("{hash}0")]),
        (
            "x-alter-signature",
            vec![
                String::new(),
                signature.to_uppercase(),
                signature[..63].to_owned(),
                "0".repeat(64),
                format!("{signature}00"),
            ],
        ),
    ];
    for (name, values) in malformed {
        server.send(raw.clone().without(name)).await.refused(Code::SignatureInvalid);
        server.send(raw.clone().add(name, own(name))).await.refused(Code::SignatureInvalid);
        server.send(raw.clone().set(name, [0xff, 0xfe])).await.refused(Code::SignatureInvalid);
        for value in values {
            // A digit in hexadecimal has no case.
            if value != own(name) {
                server.send(raw.clone().set(name, &value)).await.refused(Code::SignatureInvalid);
            }
        }
    }
    server.send(raw.clone().add("x-api-key", &world.key)).await.refused(Code::SignatureInvalid);
    server.send(raw).await.ok(200);
}

async fn the_second_signature_is_there_exactly_with_identity(server: Server) {
    let world = server.world().await;
    let raw = everything(&server, &world).post("/sdk/grants/list", &json!({}));
    let v2 = "x-alter-signature-v2";
    server.send(raw.clone().without(v2)).await.refused(Code::SignatureInvalid);
    server.send(raw.clone().set(v2, "0".repeat(64))).await.refused(Code::SignatureInvalid);
    let upper = raw.header(v2).to_uppercase();
    server.send(raw.clone().set(v2, upper)).await.refused(Code::SignatureInvalid);
    server.send(raw).await.ok(200);
    let bare = list(&server, &world);
    let signature = bare.header("x-alter-signature").to_owned();
    server.send(bare.clone().set(v2, signature)).await.refused(Code::SignatureInvalid);
    server.send(bare).await.ok(200);
}

async fn a_signature_is_of_its_own_key(server: Server) {
    let world = server.world().await;
    let (_, other) = server.key(&world.app, json!({})).await;
    server.send(list(&server, &world).set("x-api-key", other)).await.refused(Code::SignatureInvalid);
}

async fn a_replay_of_a_read_is_refused_for_its_whole_life(server: Server) {
    let world = server.world().await;
    let raw = server.sign_as(&world).shifted_s(60).post("/sdk/grants/list", &json!({}));
    server.send(raw.clone()).await.ok(200);
    // The longest a timestamp can live: sixty seconds early, sixty seconds late.
    for _ in 0..12 {
        server.advance_ms(10_000);
        server.send(raw.clone()).await.refused(Code::NonceReplayed);
    }
    server.advance_ms(1_000);
    server.send(raw).await.refused(Code::TimestampOutOfRange);
}

async fn a_read_may_be_told_again_after_its_life(server: Server) {
    let world = server.world().await;
    let nonce = "00112233445566778899aabbccddeeff";
    server.send(resigned(&server, &world, nonce)).await.ok(200);
    server.advance_ms(150_000);
    server.send(resigned(&server, &world, nonce)).await.refused(Code::NonceReplayed);
    // It is remembered in pieces of thirty seconds, never for less than its life.
    server.advance_ms(60_000);
    server.send(list(&server, &world)).await.ok(200);
    server.send(resigned(&server, &world, nonce)).await.ok(200);
}

async fn a_release_is_not_replayed_after_a_restart(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    server.send(raw.clone()).await.ok(200);
    let restarted = server.another("restarted", |_| {}).await;
    restarted.send(raw).await.refused(Code::NonceReplayed);
    restarted.token(&world).await.ok(200);
    assert_eq!(server.told(&world, "token.released").await.len(), 2);
}

async fn a_change_is_not_replayed_after_a_restart(server: Server) {
    let world = server.world().await;
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    let made = server.sign_as(&world).post(&path, &json!({"principal": {"type": "system"}}));
    server.send(made.clone()).await.ok(201);
    let report = json!({"grant_id": world.grant, "method": "GET", "url": "https://x.test/", "response_status": 200});
    let report = server.sign_as(&world).post("/sdk/oauth/audit/api-call", &report);
    server.send(report.clone()).await.ok(200);
    let revoke = server.sign_as(&world).post(&format!("/sdk/oauth/grants/{}/revoke", world.grant), &json!({}));
    server.send(revoke.clone()).await.ok(200);
    let restarted = server.another("restarted", |_| {}).await;
    for raw in [made, report, revoke] {
        restarted.send(raw).await.refused(Code::NonceReplayed);
    }
    let list = server.api("GET", &world.path("grants"), Value::Null).await.ok(200);
    assert_eq!(list["total"], 2, "no second grant came of it");
    assert_eq!(server.told(&world, "call.claimed").await.len(), 1);
}
