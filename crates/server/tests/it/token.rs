//! `POST /sdk/token`: what a release answers, and what is refused with which code.

use grantd_wire::Code;
use grantd_wire::ids::GrantId;
use serde_json::{Value, json};

use crate::harness::world::{URL, VALUE, ask, text};
use crate::harness::{Answer, Server, World};
use crate::schema::check_token_answer;

in_memory! {
    a_bearer_token_is_released_with_its_event,
    every_credential_type_answers_what_the_client_accepts,
    further_injections_and_fields_travel,
    grant_states_are_told_in_their_order,
    a_grant_lapses_at_its_very_millisecond,
    foreign_grant_is_missing,
    another_form_of_a_uuid_is_unknown,
    exactly_one_of_grant_and_provider,
    a_user_token_is_never_ignored,
    what_goes_with_a_provider_only_is_refused,
    an_app_that_hands_out_nothing,
    destinations_are_judged_as_parsed,
    any_host_lifts_rules_and_never_the_address_guard,
    a_destroyed_credential_is_gone,
    a_key_narrowed_to_one_grant_gets_no_other,
    a_refusal_is_an_event_with_its_code,
    methods_are_tokens,
}

async fn a_bearer_token_is_released_with_its_event(server: Server) {
    let world = server.world().await;
    let context = r#"{"user_id":"u-1","note":"x"}"#;
    let body = json!({
        "grant_id": world.grant, "reason": "monthly report",
        "request": {"method": "GET", "url": format!("{URL}?token=hidden&page=2")},
    });
    let raw = server.sign_as(&world).caller("billing", "service").context(context).post("/sdk/token", &body);
    let answer = server.send(raw.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).await;
    let json = answer.ok(200);
    check_token_answer(&json);
    assert_eq!(json["access_token"], VALUE);
    assert_eq!(json["grant_id"], world.grant.as_str());
    assert_eq!(json["provider_id"], world.secret.as_str());
    assert_eq!(
        (&json["injection_header"], &json["injection_format"]),
        (&json!("Authorization"), &json!("Bearer {token}"))
    );
    assert_eq!((&json["scope_mismatch"], &json["scopes"]), (&json!(false), &json!([])));
    for absent in ["expires_in", "expires_at", "additional_credentials", "additional_injections"] {
        assert_eq!(json[absent], Value::Null, "{absent}");
    }

    let events = server.told(&world, "token.released").await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["id"], answer.header("x-grantd-event-id"));
    for (field, value) in [
        ("app_id", json!(world.app)),
        ("outcome", json!("allowed")),
        ("actor", json!({"type": "key", "id": world.key_id})),
        ("key_id", json!(world.key_id)),
        ("key_prefix", json!(&world.key[..13])),
        ("grant_id", json!(world.grant)),
        ("provider_id", json!(world.secret)),
        ("credential_version", json!(1)),
        ("principal_type", json!("system")),
        ("mode", json!("retrieve")),
        ("method", json!("GET")),
        ("host", json!("api.example.com")),
        ("path", json!("/v1/things")),
        ("query_names", json!(["token", "page"])),
        ("reason", json!("monthly report")),
        ("context", json!({"user_id": "u-1", "note": "x"})),
        ("caller", json!("billing")),
        ("ip", json!("203.0.113.7")),
        ("user_agent", json!("alter-sdk-python/0.29.0")),
        ("request_id", json!(answer.header("x-request-id"))),
        ("trace_id", json!("0af7651916cd43dd8448eb211c80319c")),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    assert!(!event.to_string().contains("hidden"), "a query's value is in the event");
}

/// A secret of its own for each type, and a token of it.
async fn release(server: &Server, world: &World, secret: Value) -> Value {
    let made = server.secret(&world.app, secret).await;
    let answer = server.token(&world.with_grant(&text(&made, "grant_id"))).await.ok(200);
    check_token_answer(&answer);
    answer
}

async fn every_credential_type_answers_what_the_client_accepts(server: Server) {
    let world = server.world().await;
    let made = |kind: &str, value: &str, fields: Value| json!({"name": kind, "credential_type": kind, "value": value, "fields": fields});
    let header = release(&server, &world, made("header_key", "canary-h", json!({}))).await;
    assert_eq!((&header["access_token"], &header["injection_header"]), (&json!("canary-h"), &json!("X-API-Key")));
    assert_eq!(header["injection_format"], "{token}");

    // base64 of `user:canary-p`, however it was stored.
    let basic = [
        ("user:canary-p", json!({})),
        ("canary-p", json!({"username": "user"})),
        ("user", json!({"password": "canary-p"})),
    ];
    for (value, fields) in basic {
        let answer = release(&server, &world, made("basic_auth", value, fields)).await;
        assert_eq!(answer["access_token"], "dXNlcjpjYW5hcnktcA==");
        assert_eq!(answer["injection_format"], "Basic {token}");
    }
    let encoded = release(&server, &world, made("basic_auth", "dXNlcjpjYW5hcnktcA==", json!({}))).await;
    assert_eq!(encoded["access_token"], "dXNlcjpjYW5hcnktcA==");

    let fields = json!({"secret_key": "canary/secret+key", "region": "eu-central-1", "service": "s3"});
    let aws = release(&server, &world, made("aws_sig_v4", "AKIACANARYcanary", fields.clone())).await;
    assert_eq!(
        (&aws["access_token"], &aws["injection_format"]),
        (&json!("AKIACANARYcanary"), &json!("AWS4-HMAC-SHA256"))
    );
    assert_eq!(aws["additional_credentials"], fields);
    assert_eq!(aws["additional_injections"], Value::Null);
}

async fn further_injections_and_fields_travel(server: Server) {
    let world = server.world().await;
    let injections = json!([
        {"target": "header", "key": "X-Org", "value_source": "additional_credentials.org"},
        {"target": "query_param", "key": "key", "value_source": "token"},
    ]);
    let secret = json!({
        "name": "Custom", "credential_type": "header_key", "injection_header": "X-Custom",
        "injection_format": "Key {token}", "fields": {"org": "canary-org"}, "injections": injections,
    });
    let answer = release(&server, &world, secret).await;
    assert_eq!((&answer["injection_header"], &answer["injection_format"]), (&json!("X-Custom"), &json!("Key {token}")));
    assert_eq!(answer["additional_credentials"], json!({"org": "canary-org"}));
    assert_eq!(answer["additional_injections"], injections);
}

fn is_about(json: &Value, world: &World) {
    assert_eq!((&json["grant_id"], &json["provider_id"]), (&json!(world.grant), &json!(world.secret)), "{json}");
}

async fn grant_states_are_told_in_their_order(server: Server) {
    let world = server.world().await;
    let blocked = json!({"grant_id": world.grant, "request": {"method": "GET", "url": "https://elsewhere.test/"}});
    let ask_blocked = |world: &World| {
        let mut body = blocked.clone();
        body["grant_id"] = json!(world.grant);
        server.sign(&world.key).post("/sdk/token", &body)
    };
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": "acme", "expires_in_seconds": 60})).await);
    server.update_app(&world, json!({"tenant_key": "user_id", "tenant_mode": "enforce"})).await;
    // Destination last; the tenant before it.
    server.send(ask_blocked(&world)).await.refused(Code::BlockedDestination);
    server.send(ask_blocked(&bound)).await.refused(Code::TenantMismatch);
    // Before the tenant: an app that hands nothing out.
    server.update_app(&world, json!({"retrieve": "off"})).await;
    server.send(ask_blocked(&bound)).await.refused(Code::RestrictedGrantRequiresProxy);
    // Before that: the grant lapsed, and before that: it was revoked.
    server.advance_ms(60_000);
    let json = server.send(ask_blocked(&bound)).await.refused(Code::GrantExpired);
    is_about(&json, &bound);
    server.revoke(&world, &bound.grant).await.ok(200);
    let json = server.send(ask_blocked(&bound)).await.refused(Code::GrantRevoked);
    is_about(&json, &bound);
}

async fn a_grant_lapses_at_its_very_millisecond(server: Server) {
    let world = server.world().await;
    let short = world.with_grant(&server.grant(&world, json!({"expires_in_seconds": 10})).await);
    server.advance_ms(9_999);
    server.token(&short).await.ok(200);
    server.advance_ms(1);
    server.token(&short).await.refused(Code::GrantExpired);
    // Extending it brings it back.
    server
        .api("PATCH", &world.path(&format!("grants/{}", short.grant)), json!({"expires_in_seconds": 1}))
        .await
        .ok(200);
    server.token(&short).await.ok(200);
}

async fn foreign_grant_is_missing(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let unknown = GrantId::from_uuid(grantd_wire::ids::uuid_v7(server.now().0, [9; 10])).to_string();
    let shown = |answer: &Answer| {
        let mut json = answer.refused(Code::GrantNotFound);
        json.as_object_mut().unwrap().remove("request_id");
        json.to_string()
    };
    let foreign = shown(&server.token(&world.with_grant(&other.grant)).await);
    assert_eq!(foreign, shown(&server.token(&world.with_grant(&unknown)).await), "foreign and unknown look alike");
    server.revoke(&other, &other.grant).await.ok(200);
    assert_eq!(foreign, shown(&server.token(&world.with_grant(&other.grant)).await), "whatever became of it");
    // The other app's trail knows nothing of it.
    assert!(server.told(&other, "token.denied").await.is_empty());
}

async fn another_form_of_a_uuid_is_unknown(server: Server) {
    let world = server.world().await;
    let plain = world.grant.replace('-', "");
    for form in
        [world.grant.to_uppercase(), plain, format!("{{{}}}", world.grant), format!(" {}", world.grant), String::new()]
    {
        server.token(&world.with_grant(&form)).await.refused(Code::GrantNotFound);
    }
}

async fn post(server: &Server, world: &World, body: &Value) -> Answer {
    server.send(server.sign(&world.key).post("/sdk/token", body)).await
}

async fn exactly_one_of_grant_and_provider(server: Server) {
    let world = server.world().await;
    let mut both = ask(&world.grant);
    both["provider_id"] = json!("google");
    post(&server, &world, &both).await.names(Code::InvalidRequest, "grant_id");
    let mut neither = ask(&world.grant);
    neither.as_object_mut().unwrap().remove("grant_id");
    post(&server, &world, &neither).await.names(Code::InvalidRequest, "grant_id");
    neither["provider_id"] = json!("google");
    post(&server, &world, &neither).await.refused(Code::GrantNotFound);
}

async fn a_user_token_is_never_ignored(server: Server) {
    let world = server.world().await;
    for token in ["eyJhbGciOiJub25lIn0.e30.", ""] {
        let mut body = ask(&world.grant);
        body["user_token"] = json!(token);
        post(&server, &world, &body).await.refused(Code::JwtValidationError);
    }
}

async fn what_goes_with_a_provider_only_is_refused(server: Server) {
    let world = server.world().await;
    for field in ["app_user_id", "account", "label"] {
        let mut body = ask(&world.grant);
        body[field] = json!("x");
        post(&server, &world, &body).await.names(Code::InvalidRequest, field);
    }
}

async fn an_app_that_hands_out_nothing(server: Server) {
    let world = server.world().await;
    server.update_app(&world, json!({"retrieve": "off"})).await;
    server.token(&world).await.refused(Code::RestrictedGrantRequiresProxy);
    server.update_app(&world, json!({"retrieve": "on"})).await;
    server.token(&world).await.ok(200);
}

async fn to(server: &Server, world: &World, url: &str) -> Answer {
    post(server, world, &json!({"grant_id": world.grant, "request": {"method": "GET", "url": url}})).await
}

async fn destinations_are_judged_as_parsed(server: Server) {
    let world = server.world().await;
    for good in [URL, "https://API.example.com./v1", "https://api.example.com:443/"] {
        to(&server, &world, good).await.ok(200);
    }
    for (bad, reason) in [
        ("http://api.example.com/", "plain_http"),
        ("https://api.example.com:8443/", "no_rule"),
        ("https://api.example.com.evil.net/", "no_rule"),
        ("https://x@api.example.com/", "user_info"),
        ("https://api.example.com/#f", "fragment"),
        ("https://api.example.com\\@evil.net/", "backslash"),
        ("https://api.example.com/\n", "control_character"),
        ("ftp://api.example.com/", "scheme"),
        ("//api.example.com/", "not_absolute"),
        ("https:///path", "empty_host"),
        ("", "not_absolute"),
    ] {
        let json = to(&server, &world, bad).await.refused(Code::BlockedDestination);
        assert_eq!(json["details"]["reason"], reason, "{bad}: {json}");
    }
    let events = server.told(&world, "token.denied").await;
    assert_eq!(events.len(), 11);
    assert!(events.iter().all(|e| e["code"] == "blocked_destination" && e["grant_id"] == world.grant.as_str()));
}

async fn any_host_lifts_rules_and_never_the_address_guard(server: Server) {
    let world = server.world().await;
    let made = server.secret(&world.app, json!({"name": "Free", "allow_any_host": true, "allowed_hosts": []})).await;
    let free = world.with_grant(&text(&made, "grant_id"));
    to(&server, &free, "https://anywhere.example.net/x").await.ok(200);
    to(&server, &free, "http://127.0.0.1:9001/").await.ok(200);
    for (bad, reason) in [
        ("http://anywhere.example.net/", "plain_http"),
        ("https://127.0.0.1/", "not_public"),
        ("http://127.0.0.1:9002/", "plain_http"),
        ("https://localhost/", "not_public"),
        ("https://169.254.169.254/latest", "not_public"),
        ("https://[::ffff:10.0.0.1]/", "not_public"),
        ("https://2130706433/", "not_public"),
        ("https://0/", "not_public"),
    ] {
        let json = to(&server, &free, bad).await.refused(Code::BlockedDestination);
        assert_eq!(json["details"]["reason"], reason, "{bad}: {json}");
    }
    let events = server.told(&world, "token.released").await;
    assert!(events.iter().all(|e| e["any_host"] == true), "the warning is in every event");
}

async fn a_destroyed_credential_is_gone(server: Server) {
    let world = server.world().await;
    let sibling = world.with_grant(&server.grant(&world, json!({})).await);
    assert_eq!(server.revoke(&world, &world.grant).await.ok(200)["credential_destroyed"], false);
    server.token(&sibling).await.ok(200);
    assert_eq!(server.revoke(&world, &sibling.grant).await.ok(200)["credential_destroyed"], true);
    server.token(&sibling).await.refused(Code::GrantRevoked);
    let shown = server.api("GET", &world.path(&format!("managed-secrets/{}", world.secret)), Value::Null).await.ok(200);
    assert_eq!((&shown["credential_id"], &shown["token_generation"]), (&Value::Null, &Value::Null));
}

async fn a_key_narrowed_to_one_grant_gets_no_other(server: Server) {
    let world = server.world().await;
    let other = world.with_grant(&server.grant(&world, json!({})).await);
    let scope = format!("tokens:retrieve:{}", world.grant);
    let key = server.key_with(&world.app, &[&scope]).await;
    server.token(&world.with_key(&key)).await.ok(200);
    let json = server.token(&other.with_key(&key)).await.refused(Code::InsufficientScope);
    assert_eq!(json["missing"], json!([format!("tokens:retrieve:{}", other.grant)]));
    assert_eq!(json["granted"], json!([scope]));
    // Another app's grant looks the same: nothing is told before the scope.
    let foreign = server.world_named("Other").await;
    server.token(&foreign.with_key(&key)).await.refused(Code::InsufficientScope);
}

async fn a_refusal_is_an_event_with_its_code(server: Server) {
    let world = server.world().await;
    let key = server.key_with(&world.app, &["grants:read"]).await;
    server.token(&world.with_key(&key)).await.refused(Code::InsufficientScope);
    post(&server, &world, &json!({"grant_id": 7})).await.refused(Code::InvalidRequest);
    server
        .send(server.sign_as(&world).context("[]").post("/sdk/token", &ask(&world.grant)))
        .await
        .refused(Code::InvalidContext);
    let sign = server.sign(&key).constraints("tokens:retrieve");
    server.send(sign.post("/sdk/token", &ask(&world.grant))).await.refused(Code::ConstraintNotNarrowing);
    server.revoke(&world, &world.grant).await.ok(200);
    server.token(&world).await.refused(Code::GrantRevoked);
    let events = server.told(&world, "token.denied").await;
    let codes: Vec<_> = events.iter().map(|e| e["code"].as_str().unwrap()).collect();
    let wanted =
        ["insufficient_scope", "invalid_request", "invalid_context", "constraint_not_narrowing", "grant_revoked"];
    assert_eq!(codes, wanted);
    assert!(events.iter().all(|e| e["outcome"] == "denied" && e["mode"] == "retrieve"));
}

async fn methods_are_tokens(server: Server) {
    let world = server.world().await;
    let with = |method: &str| json!({"grant_id": world.grant, "request": {"method": method, "url": URL}});
    for good in ["GET", "PATCH", "PROPFIND", &"A".repeat(32)] {
        post(&server, &world, &with(good)).await.ok(200);
    }
    for bad in ["", "G ET", "GET\n", "GÉT", &"A".repeat(33)] {
        post(&server, &world, &with(bad)).await.names(Code::InvalidRequest, "request.method");
    }
}
