//! What arrives malformed, too large, too slow, or in a form nobody takes: typed refusals, nothing released, no value shown.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use grantd_wire::Code;
use grantd_wire::sign::{SigningKey, hex, sha256};
use serde_json::{Value, json};

use crate::harness::world::ask;
use crate::harness::{Database, Engine, Raw, Server, World, api_request};

in_memory! {
    malformed_json_is_refused_without_showing_it,
    wrong_types_are_named_without_their_value,
    clients_may_send_more_than_we_know,
    a_reason_is_bounded,
    bodies_are_taken_at_their_bound_and_refused_past_it,
    a_body_without_an_announced_length_is_bounded_too,
    a_body_that_breaks_off_is_malformed,
    an_encoded_body_is_refused,
    control_characters_in_a_path_are_refused,
    a_path_that_is_no_text_is_nobodys,
    a_panic_shows_nothing_but_the_request_id,
    every_request_leaves_one_line,
}

fn post(server: &Server, world: &World, target: &str, body: impl Into<Bytes>) -> Raw {
    server.sign_as(world).request("POST", target, body)
}

const BODIES: [&str; 4] =
    ["/sdk/token", "/sdk/oauth/audit/api-call", "/sdk/grants/list", "/sdk/managed-secrets/stripe/grants"];

async fn malformed_json_is_refused_without_showing_it(server: Server) {
    let world = server.world().await;
    let whole = ask(&world.grant).to_string();
    for target in BODIES {
        for bad in [
            "",
            "canary",
            "{",
            "[]",
            "null",
            "\"canary\"",
            "{\"grant_id\":\"canary\"",
            "{'grant_id':'canary'}",
            "\u{feff}{}",
            &format!("{whole}canary"),
            &format!("{whole}{whole}"),
        ] {
            let answer = server.send(post(&server, &world, target, bad.to_owned())).await;
            answer.refused(Code::InvalidRequest);
        }
    }
    // Of what it does not know, it looks at no more than where it ends.
    for target in ["/sdk/token", "/sdk/oauth/audit/api-call"] {
        let deep = format!("{{\"grant_id\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
        for bad in [deep.as_bytes(), b"{\"grant_id\":\"\xff\xfe\"}", b"{\"grant_id\":\"canary\\ud800\"}"] {
            server.send(post(&server, &world, target, bad.to_vec())).await.refused(Code::InvalidRequest);
        }
    }
    let path = world.path("managed-secrets");
    for bad in ["{\"name\":\"x\",\"value\":\"canary", "canary", "{\"name\":\"x\",\"value\":{\"canary\":1}}"] {
        server.send(api_request(&server.pat, "POST", &path, bad)).await.refused(Code::InvalidRequest);
    }
}

async fn wrong_types_are_named_without_their_value(server: Server) {
    let world = server.world().await;
    let target = json!({"method": "GET", "url": "https://api.example.com/"});
    for (body, field) in [
        (json!({"grant_id": 7, "request": target}), "grant_id"),
        (json!({"grant_id": ["canary"], "request": target}), "grant_id"),
        (json!({"grant_id": world.grant}), "request"),
        (json!({"grant_id": world.grant, "request": "canary"}), "request"),
        (json!({"grant_id": world.grant, "request": {"method": "GET"}}), "url"),
        (json!({"grant_id": world.grant, "request": {"method": 1, "url": "canary"}}), "request.method"),
        (json!({"grant_id": world.grant, "request": target, "reason": {"x": "canary"}}), "reason"),
        (json!({"grant_id": world.grant, "request": target, "user_token": true}), "user_token"),
    ] {
        server.send(server.sign_as(&world).post("/sdk/token", &body)).await.names(Code::InvalidRequest, field);
    }
    for (body, field) in [
        (json!({"limit": "canary"}), "limit"),
        (json!({"limit": 1.5}), "limit"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1001}), "limit"),
        (json!({"offset": -1}), "offset"),
        (json!({"offset": 10_001}), "offset"),
        (json!({"label": 1}), "label"),
    ] {
        server.send(server.sign_as(&world).post("/sdk/grants/list", &body)).await.names(Code::InvalidRequest, field);
    }
    let twice = format!("{{\"grant_id\":\"{0}\",\"grant_id\":\"{0}\",\"request\":{target}}}", world.grant);
    server.send(post(&server, &world, "/sdk/token", twice)).await.names(Code::InvalidRequest, "grant_id");
}

async fn clients_may_send_more_than_we_know(server: Server) {
    let world = server.world().await;
    let mut body = ask(&world.grant);
    body["new_in_0_30"] = json!({"x": 1});
    body["request"]["new_in_0_30"] = json!([]);
    server.send(server.sign_as(&world).post("/sdk/token", &body)).await.ok(200);
    server.send(server.sign_as(&world).post("/sdk/grants/list", &json!({"new_in_0_30": 1}))).await.ok(200);
    // What would restrict a grant is never ignored.
    for policy in [json!({"max_uses": 1}), json!({"restrictions": {}}), json!([])] {
        let body = json!({"principal": {"type": "system"}, "grant_policy": policy});
        let answer = server.send(server.sign_as(&world).post("/sdk/managed-secrets/stripe/grants", &body)).await;
        answer.refused(Code::InvalidRequest);
    }
}

async fn a_reason_is_bounded(server: Server) {
    let world = server.world().await;
    let with = |chars: usize| {
        let mut body = ask(&world.grant);
        body["reason"] = json!("é".repeat(chars));
        server.send(server.sign_as(&world).post("/sdk/token", &body))
    };
    with(2_000).await.ok(200);
    with(2_001).await.names(Code::InvalidRequest, "reason");
    let revoke = |chars: usize| {
        let path = format!("/sdk/oauth/grants/{}/revoke", world.grant);
        server.send(server.sign_as(&world).post(&path, &json!({"reason": "é".repeat(chars)})))
    };
    revoke(2_001).await.names(Code::InvalidRequest, "reason");
    revoke(2_000).await.ok(200);
}

/// JSON of exactly this size, that fits the route.
fn sized(body: &Value, bytes: usize) -> String {
    let mut body = body.clone();
    body["padding"] = json!("");
    let empty = body.to_string().len();
    body["padding"] = json!("x".repeat(bytes - empty));
    let text = body.to_string();
    assert_eq!(text.len(), bytes);
    text
}

async fn bodies_are_taken_at_their_bound_and_refused_past_it(server: Server) {
    let world = server.world().await;
    let report = json!({"grant_id": world.grant, "method": "GET", "url": "https://x.test/", "response_status": 200});
    let kib = 1024;
    for (target, body, max) in [
        ("/sdk/token", ask(&world.grant), 64 * kib),
        ("/sdk/grants/list", json!({}), 64 * kib),
        ("/sdk/oauth/audit/api-call", report, 1024 * kib),
    ] {
        server.send(post(&server, &world, target, sized(&body, max))).await.ok(200);
        let json = server.send(post(&server, &world, target, sized(&body, max + 1))).await.refused(Code::BodyTooLarge);
        assert_eq!(json["details"]["bytes_max"], max);
    }
    // The longest URL is what fits into the body.
    let of = |chars: usize| {
        let mut body = ask(&world.grant);
        body["request"]["url"] = json!(format!("https://api.example.com/{}", "a".repeat(chars)));
        body.to_string()
    };
    let room = 64 * kib - of(0).len();
    server.send(post(&server, &world, "/sdk/token", of(room))).await.ok(200);
    server.send(post(&server, &world, "/sdk/token", of(room + 1))).await.refused(Code::BodyTooLarge);
    let told = server.told(&world, "token.released").await;
    assert_eq!(told[1]["path"].as_str().unwrap().len(), 2_048, "a long path is cut in the event");

    let secret = json!({"name": "x", "value": "canary", "allowed_hosts": ["api.example.com"]});
    let padded = |bytes: usize| {
        let text = secret.to_string();
        format!("{text}{}", " ".repeat(bytes - text.len()))
    };
    let path = world.path("managed-secrets");
    server.send(api_request(&server.pat, "POST", &path, padded(1024 * kib))).await.ok(201);
    server.send(api_request(&server.pat, "POST", &path, padded(1024 * kib + 1))).await.refused(Code::BodyTooLarge);
}

async fn a_body_without_an_announced_length_is_bounded_too(server: Server) {
    let world = server.world().await;
    let chunk = || Ok::<_, io::Error>(Bytes::from(vec![b' '; 1024]));
    let endless = || Body::from_stream(stream::repeat_with(chunk));
    let request = server.token_request(&world).streaming(endless());
    server.send_request("an endless body", request).await.refused(Code::BodyTooLarge);
    let request = api_request(&server.pat, "POST", "/api/v1/apps", "").streaming(endless());
    server.send_request("an endless body", request).await.refused(Code::BodyTooLarge);
    // A length that is a lie is no way around it.
    let request = server.token_request(&world).set("content-length", "2").streaming(endless());
    server.send_request("an endless body", request).await.refused(Code::BodyTooLarge);
}

async fn a_body_that_breaks_off_is_malformed(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    let pieces = [Ok(raw.body.slice(..10)), Err(io::Error::other("the peer went away, canary"))];
    let request = raw.clone().streaming(Body::from_stream(stream::iter(pieces)));
    server.send_request("a body that breaks off", request).await.refused(Code::InvalidRequest);
    // In pieces it is the same body.
    let pieces: Vec<_> = raw.body.iter().map(|byte| Ok::<_, io::Error>(Bytes::from(vec![*byte]))).collect();
    let request = raw.streaming(Body::from_stream(stream::iter(pieces)));
    server.send_request("a body in pieces", request).await.ok(200);
}

async fn an_encoded_body_is_refused(server: Server) {
    let world = server.world().await;
    for encoding in ["gzip", "identity", "br", ""] {
        let raw = server.token_request(&world).set("content-encoding", encoding);
        server.send(raw).await.refused(Code::EncodingUnsupported);
        let raw = api_request(&server.pat, "GET", "/api/v1/apps", "").set("content-encoding", encoding);
        server.send(raw).await.refused(Code::EncodingUnsupported);
    }
}

async fn control_characters_in_a_path_are_refused(server: Server) {
    let world = server.world().await;
    for bad in ["%0A", "%0d%0a", "%00", "%7F", "%C2%85", "%1b[31m"] {
        for path in [format!("/sdk/agents/{bad}"), format!("/sdk/grants/a{bad}b/mint"), format!("/sdk/{bad}")] {
            server.send(server.sign_as(&world).get(&path)).await.refused(Code::InvalidRequest);
        }
        let path = world.path(&format!("keys/{bad}"));
        server.send(api_request(&server.pat, "GET", &path, "")).await.refused(Code::InvalidRequest);
    }
    // Whatever a line end would have added to the signed text, it is refused before anything is signed over it.
    let text = "/sdk/grants/x/mint%0A1795510400";
    server.send(Raw::new("POST", text, "")).await.refused(Code::InvalidRequest);
}

async fn a_path_that_is_no_text_is_nobodys(server: Server) {
    let world = server.world().await;
    for id in ["%ff", "%c3%28", "%ed%a0%80", "..", "%2e%2e", "%2F", "a%2fb", "%25"] {
        let path = format!("/sdk/oauth/grants/{id}/revoke");
        server.send(server.sign_as(&world).post(&path, &json!({}))).await.refused(Code::GrantNotFound);
        let path = format!("/sdk/managed-secrets/{id}/grants");
        let body = json!({"principal": {"type": "system"}});
        server.send(server.sign_as(&world).post(&path, &body)).await.refused(Code::SecretNotFound);
        let path = world.path(&format!("managed-secrets/{id}"));
        server.send(api_request(&server.pat, "GET", &path, "")).await.refused(Code::SecretNotFound);
    }
    server.send(server.sign_as(&world).get("/sdk/agents/\u{e9}")).await.refused(Code::FeatureUnavailable);
}

async fn a_panic_shows_nothing_but_the_request_id(server: Server) {
    let world = server.world().await;
    let body = stream::once(async { panic!("{}", ["a body that panics: can", "ary"].concat()) });
    let body = Body::from_stream(body.map(|(): ()| Ok::<Bytes, io::Error>(Bytes::new())));
    let answer = server.send_request("a panic", server.token_request(&world).streaming(body)).await;
    let json = answer.refused(Code::Internal);
    assert_eq!(json["request_id"], answer.header("x-request-id"));
    let fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["error", "message", "request_id"]);
    server.token(&world).await.ok(200);
}

async fn every_request_leaves_one_line(server: Server) {
    let world = server.world().await;
    let mut body = ask(&world.grant);
    body["request"]["url"] = json!("https://api.example.com/v1?hidden=1");
    let released = server.send(server.sign_as(&world).post("/sdk/token?hidden=1", &body)).await;
    let refused = server.token(&world.with_grant("hidden-id")).await;
    let unknown = server.send(Raw::new("GET", "/sdk/hidden", "")).await;
    let shown = server.api("GET", &world.path("grants/hidden-id"), Value::Null).await;
    for (answer, wanted) in [
        (&released, vec!["POST /sdk/token 200", "http.status=200", &world.app, &world.key[..13]]),
        (&refused, vec!["POST /sdk/token 404", "code=\"grant_not_found\"", &world.app]),
        (&unknown, vec!["GET /sdk 501", "code=\"unknown_route\""]),
        (&shown, vec!["GET /api/v1/apps/{}/grants/{} 404", "code=\"grant_not_found\""]),
    ] {
        let id = answer.header("x-request-id");
        let lines = crate::harness::watch::logged(id);
        assert_eq!(lines.len(), 1, "{lines:?}");
        for wanted in wanted {
            assert!(lines[0].contains(wanted), "no {wanted} in {}", lines[0]);
        }
        for never in ["hidden", "203.0.113.7", &world.key, "api.example.com"] {
            assert!(!lines[0].contains(never), "{never} in {}", lines[0]);
        }
    }
}

/// Time is paused: twenty seconds pass at once.
#[test]
fn a_slow_body_is_not_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::create(Database::create(Engine::Memory).await.unwrap()).await;
        let world = server.world().await;
        let raw = server.token_request(&world);
        let slow = |raw: Raw| {
            let start = Bytes::from_static(b"{");
            raw.streaming(Body::from_stream(stream::iter([Ok::<_, io::Error>(start)]).chain(stream::pending())))
        };
        for request in [slow(raw), slow(api_request(&server.pat, "POST", "/api/v1/apps", ""))] {
            tokio::time::pause();
            let before = tokio::time::Instant::now();
            server.send_request("a slow body", request).await.refused(Code::RequestTimeout);
            assert!((Duration::from_secs(20)..Duration::from_secs(21)).contains(&before.elapsed()));
            tokio::time::resume();
        }
        server.token(&world).await.ok(200);
        server.database.remove().await;
    });
}

#[test]
fn the_test_signer_agrees_with_the_known_answer() {
    let key = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";
    let hash = hex(&sha256(br#"{"limit":100,"offset":0}"#));
    let text = format!("POST\n/sdk/grants/list\n1700000000\n00112233445566778899aabbccddeeff\n{hash}\n");
    let wanted = "be3956719e365d5c25c80edfafeb27e4611e91609a4dc6277af99078d757d736";
    assert_eq!(SigningKey::derive(key).sign(&text), wanted);
}
