//! Reports of callers: claims, kept apart from what was observed.

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    a_claim_joins_its_release_for_fifteen_minutes,
    claim_changes_no_decision,
    a_claim_holds_no_secret_of_the_call,
    claimed_texts_and_numbers_are_bounded,
    a_report_of_another_apps_grant_is_missing,
    a_key_for_one_grant_reports_on_no_other,
    a_scope_mismatch_is_noted,
}

fn report(world: &World, more: Value) -> Value {
    let body = json!({
        "grant_id": world.grant, "provider_id": world.secret, "token_generation": null,
        "method": "GET", "url": "https://api.example.com/v1/things", "request_headers": {"accept": "*/*"},
        "request_body": {"x": 1}, "response_status": 200, "response_headers": null, "response_body": "",
        "latency_ms": 12, "reason": "why", "context": {"user_id": "u1"},
    });
    merged(body, more)
}

async fn send(server: &Server, world: &World, more: Value) -> Answer {
    let raw = server.sign_as(world).post("/sdk/oauth/audit/api-call", &report(world, more));
    server.send(raw).await
}

async fn a_claim_joins_its_release_for_fifteen_minutes(server: Server) {
    let world = server.world().await;
    let generation = json!({"token_generation": text(&server.token(&world).await.ok(200), "token_generation")});
    let (_, other_key) = server.key(&world.app, json!({})).await;
    let other_grant = world.with_grant(&server.grant(&world, json!({})).await);
    let never = json!({"token_generation": "0199c0de-0000-7000-8000-00000000beef"});
    send(&server, &world, generation.clone()).await.ok(200);
    send(&server, &world, json!({})).await.ok(200);
    send(&server, &world, never).await.ok(200);
    send(&server, &world.with_key(&other_key), generation.clone()).await.ok(200);
    send(&server, &other_grant, generation.clone()).await.ok(200);
    server.advance_ms(15 * 60_000);
    send(&server, &world, generation.clone()).await.ok(200);
    server.advance_ms(1);
    send(&server, &world, generation).await.ok(200);
    let told = server.told(&world, "call.claimed").await;
    let claims: Vec<&Value> = told.iter().map(|event| &event["claim"]).collect();
    let no = json!("unmatched");
    assert_eq!(claims, [&json!(true), &no, &no, &no, &no, &json!(true), &no]);
    let first = &told[0];
    assert_eq!(
        first["claimed"],
        json!({
            "method": "GET", "host": "api.example.com", "path": "/v1/things", "status": 200, "latency_ms": 12,
        })
    );
    assert_eq!((&first["reason"], &first["context"]["user_id"]), (&json!("why"), &json!("u1")));
    assert_eq!((&first["outcome"], &first["provider_id"]), (&json!("unknown"), &json!(world.secret)));
    for observed in ["status", "host", "method", "path"] {
        assert_eq!(first[observed], Value::Null, "{observed} was claimed, not observed");
    }
}

async fn claim_changes_no_decision(server: Server) {
    let world = server.world().await;
    let before = server.token(&world).await.ok(200);
    let generation = json!(before["token_generation"]);
    for status in [401, 403, 500, 0, -1] {
        let more = json!({"token_generation": generation, "response_status": status});
        send(&server, &world, more).await.ok(200);
        let mismatch =
            json!({"provider_status_code": 403, "provider_error_code": "insufficient_scope", "missing_scopes": ["x"]});
        let path = format!("/sdk/grants/{}/report-scope-mismatch", world.grant);
        server.send(server.sign_as(&world).post(&path, &mismatch)).await.ok(204);
    }
    assert_eq!(server.token(&world).await.ok(200), before);
    let shown = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    assert_eq!((&shown["status"], &shown["version"]), (&json!("active"), &json!(1)));
    // A revoked grant's late reports are still taken: they happened.
    server.revoke(&world, &world.grant).await.ok(200);
    send(&server, &world, json!({})).await.ok(200);
    server.token(&world).await.refused(Code::GrantRevoked);
}

async fn a_claim_holds_no_secret_of_the_call(server: Server) {
    let world = server.world().await;
    // What a client should have taken out, and did not. The canary must be in no event.
    let more = json!({
        "url": "https://api.example.com/v1?key=canary",
        "request_headers": {"authorization": "Bearer canary"},
        "request_body": {"password": "canary"},
        "response_headers": {"set-cookie": "canary"},
        "response_body": "canary",
        "unknown": "canary",
    });
    send(&server, &world, more).await.ok(200);
    for url in ["https://user:canary@api.example.com/", "not a url canary", "https://api.example.com/#canary"] {
        send(&server, &world, json!({"url": url})).await.ok(200);
    }
    let path = format!("/sdk/grants/{}/report-scope-mismatch", world.grant);
    let body = json!({
        "provider_status_code": 403, "provider_error_code": "insufficient_scope", "missing_scopes": null,
        "raw_www_authenticate": "Bearer realm=\"canary\"", "api_endpoint": "https://api.example.com/v1?key=canary",
        "detection_source": "www_authenticate_rfc6750", "sdk_correlation_id": "abcdefghijklmnopqrstuv",
    });
    server.send(server.sign_as(&world).post(&path, &body)).await.ok(204);
    assert_eq!(server.told(&world, "call.claimed").await.len(), 4);
}

async fn claimed_texts_and_numbers_are_bounded(server: Server) {
    let world = server.world().await;
    let more = json!({
        "method": "M".repeat(5_000), "url": format!("https://api.example.com/{}", "é".repeat(3_000)), "reason": "é".repeat(3_000),
        "latency_ms": i64::MAX, "response_status": i64::MIN, "context": {"a": 1},
    });
    send(&server, &world, more).await.ok(200);
    let event = &server.told(&world, "call.claimed").await[0];
    let claimed = &event["claimed"];
    assert_eq!(claimed["method"].as_str().unwrap().len(), 500);
    assert!(claimed["path"].as_str().unwrap().len() <= 2_048);
    assert_eq!((&claimed["latency_ms"], &claimed["status"]), (&Value::Null, &Value::Null));
    assert_eq!(event["reason"].as_str().unwrap().chars().count(), 2_000);
    assert_eq!(event["context"], Value::Null, "a context outside of the limits is not kept");
    for bad in [json!({"latency_ms": 1.5}), json!({"response_status": "200"}), json!({"response_status": 1e300})] {
        send(&server, &world, bad).await.refused(Code::InvalidRequest);
    }
}

async fn a_report_of_another_apps_grant_is_missing(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    for grant in [&other.grant, &world.grant.to_uppercase(), &"x".to_owned()] {
        send(&server, &world.with_grant(grant), json!({})).await.refused(Code::GrantNotFound);
    }
    assert!(server.told(&other, "call.claimed").await.is_empty());
}

async fn a_key_for_one_grant_reports_on_no_other(server: Server) {
    let world = server.world().await;
    let other = world.with_grant(&server.grant(&world, json!({})).await);
    let scope = format!("tokens:retrieve:{}", world.grant);
    let key = server.key_with(&world.app, &[&scope]).await;
    send(&server, &world.with_key(&key), json!({})).await.ok(200);
    let json = send(&server, &other.with_key(&key), json!({})).await.refused(Code::InsufficientScope);
    assert_eq!(json["required"], json!(["audit:emit", format!("tokens:retrieve:{}", other.grant)]));
    assert_eq!(json["required_any_of"], true);
    let path = format!("/sdk/grants/{}/report-scope-mismatch", other.grant);
    let body = json!({"provider_status_code": 403, "provider_error_code": "x"});
    server.send(server.sign(&key).post(&path, &body)).await.refused(Code::InsufficientScope);
    // Whether a grant exists is not to be learnt this way.
    let unknown = world.with_grant("0199c0de-0000-7000-8000-00000000beef").with_key(&key);
    send(&server, &unknown, json!({})).await.refused(Code::InsufficientScope);
}

async fn a_scope_mismatch_is_noted(server: Server) {
    let world = server.world().await;
    let path = format!("/sdk/grants/{}/report-scope-mismatch", world.grant);
    let with = |missing: Value| {
        let body = json!({
            "provider_status_code": 403, "provider_error_code": "insufficient_scope", "missing_scopes": missing,
            "api_endpoint": "https://api.example.com/v1/x", "sdk_correlation_id": "abcdefghijklmnopqrstuv",
        });
        server.send(server.sign_as(&world).post(&path, &body))
    };
    let answer = with(json!(vec!["scope"; 50])).await;
    assert_eq!((answer.ok(204), answer.text.as_str()), (Value::Null, ""));
    with(json!(vec!["scope"; 51])).await.names(Code::InvalidRequest, "missing_scopes");
    with(json!([1])).await.refused(Code::InvalidRequest);
    let told = server.told(&world, "scope_mismatch.claimed").await;
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["claim"], &told[0]["claimed"]["host"]), (&json!(true), &json!("api.example.com")));
    assert_eq!(told[0]["claimed"]["missing_scopes"].as_array().unwrap().len(), 50);
}
