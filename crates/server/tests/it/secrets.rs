//! Managed secrets: what can be stored, where it may go, and what a rotation keeps.

use grantd_store::operators::Role;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::{VALUE, merged, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    secrets_keep_their_bounds,
    what_could_not_be_sent_is_not_stored,
    hosts_keep_their_rules,
    slugs_are_made_from_names_and_never_clash,
    rotation_keeps_every_grant,
    rotation_keeps_fields_unless_told,
    rotation_after_destruction_makes_a_new_credential,
    any_host_is_an_admins_choice,
}

async fn post(server: &Server, world: &World, rest: &str, body: Value) -> Answer {
    server.api("POST", &world.path(rest), body).await
}

async fn secrets_keep_their_bounds(server: Server) {
    let world = server.world().await;
    let base = json!({"name": "S", "value": VALUE, "allowed_hosts": ["api.example.com"]});
    let store = |more: Value| post(&server, &world, "managed-secrets", merged(base.clone(), more));
    let fields = |n: usize| (0..n).map(|i| (format!("f{i}"), "canary".into())).collect::<serde_json::Map<_, Value>>();
    let header = |n: usize| json!({"target": "header", "key": format!("K{n}"), "value_source": "token"});
    let injections = |n: usize| json!({"injections": (0..n).map(header).collect::<Vec<_>>()});
    let hosts = |n: usize| json!({"allowed_hosts": (0..n).map(|i| format!("h{i}.example.com")).collect::<Vec<_>>()});
    let long_rule = |chars: usize| json!({"allowed_hosts": [format!("api.example.com/{}", "a".repeat(chars - 16))]});
    for good in [
        json!({"value": "v".repeat(16 * 1024)}),
        json!({"fields": {"a": "v".repeat(8 * 1024)}}),
        json!({"fields": fields(10)}),
        json!({"fields": {"a".repeat(50): "canary"}}),
        injections(10),
        hosts(50),
        long_rule(300),
        json!({"injection_header": "K".repeat(60), "injection_format": format!("{}{{token}}", "f".repeat(193))}),
    ] {
        store(good).await.ok(201);
    }
    for (bad, field) in [
        (json!({"value": "v".repeat(16 * 1024 + 1)}), "value"),
        (json!({"value": ""}), "value"),
        (json!({"fields": {"a": "v".repeat(8 * 1024 + 1)}}), "fields.a"),
        (json!({"fields": fields(11)}), "fields"),
        (json!({"fields": {"a".repeat(51): "canary"}}), "fields"),
        (json!({"fields": {"A": "canary"}}), "fields"),
        (json!({"fields": {"a": " "}}), "fields.a"),
        (injections(11), "injections"),
        (hosts(51), "allowed_hosts"),
        (long_rule(301), "allowed_hosts[0]"),
        (json!({"allowed_hosts": []}), "allowed_hosts"),
        (json!({"injection_header": "K".repeat(61)}), "injection_header"),
        (json!({"injection_format": format!("{}{{token}}", "f".repeat(194))}), "injection_format"),
        (json!({"name": "日本"}), "name"),
        (json!({"name": "n".repeat(101)}), "name"),
    ] {
        store(bad).await.names(Code::InvalidValue, field);
    }
}

async fn what_could_not_be_sent_is_not_stored(server: Server) {
    let world = server.world().await;
    let base = json!({"name": "S", "value": VALUE, "allowed_hosts": ["api.example.com"]});
    let store = |more: Value| post(&server, &world, "managed-secrets", merged(base.clone(), more));
    let inject = |target: &str, key: &str, source: &str| json!({"injections": [{"target": target, "key": key, "value_source": source}], "fields": {"org": "canary"}});
    for (bad, field) in [
        (json!({"value": "canary\r\nX: y"}), "value"),
        (json!({"value": "canary\u{0}"}), "value"),
        (json!({"value": " canary"}), "value"),
        (json!({"value": "canaryé"}), "value"),
        (json!({"injection_header": "Cookie"}), "injection_header"),
        (json!({"injection_header": "host"}), "injection_header"),
        (json!({"injection_header": "X_Y"}), "injection_header"),
        (json!({"injection_format": "Bearer"}), "injection_format"),
        (json!({"injection_format": "{token}{token}"}), "injection_format"),
        (json!({"injection_format": "AWS4-HMAC-SHA256 {token}"}), "injection_format"),
        (inject("header", "Set-Cookie", "token"), "injections[0].key"),
        (inject("header", "authorization", "token"), "injections[0].key"),
        (inject("query_param", "a b", "token"), "injections[0].key"),
        (inject("header", "K", "additional_credentials.other"), "injections[0].value_source"),
        (inject("header", "K", "fields.org"), "injections[0].value_source"),
        (json!({"credential_type": "aws_sig_v4", "value": "AKIA"}), "fields.secret_key"),
        (json!({"credential_type": "basic_auth", "value": "nocolon"}), "value"),
    ] {
        store(bad).await.names(Code::InvalidValue, field);
    }
    // Nor by rotating.
    let path = format!("managed-secrets/{}/rotate", world.secret);
    for bad in ["canary\n", "", "canary\u{e9}"] {
        post(&server, &world, &path, json!({"value": bad})).await.names(Code::InvalidValue, "value");
    }
    assert_eq!(server.token(&world).await.ok(200)["access_token"], VALUE);
}

async fn hosts_keep_their_rules(server: Server) {
    let world = server.world().await;
    let path = world.path(&format!("managed-secrets/{}/allowed-hosts", world.secret));
    let set = |hosts: Value| server.api("PUT", &path, json!({"allowed_hosts": hosts}));
    let good = json!(["API.Example.com.", "*.example.org:8443/v1", "bücher.example", "127.0.0.1:9001"]);
    let stored = set(good).await.ok(200);
    let shown = json!(["api.example.com", "*.example.org:8443/v1", "xn--bcher-kva.example", "127.0.0.1:9001"]);
    assert_eq!((&stored["allowed_hosts"], &stored["version"]), (&shown, &json!(2)));
    for bad in ["*.com", "*.co.uk", "*", "https://x.com", "10.0.0.0/8", "", "a b", "x@y", "x?y", "0x7f.1", "a.*.com"] {
        set(json!(["good.example.com", bad])).await.names(Code::InvalidValue, "allowed_hosts[1]");
    }
    set(json!([])).await.names(Code::InvalidValue, "allowed_hosts");
    let now = server.api("GET", &world.path(&format!("managed-secrets/{}", world.secret)), Value::Null).await.ok(200);
    assert_eq!(now["allowed_hosts"], shown, "a refused change changes nothing");
    let missing = world.path("managed-secrets/nothing/allowed-hosts");
    server.api("PUT", &missing, json!({"allowed_hosts": ["x.example.com"]})).await.refused(Code::SecretNotFound);
}

async fn slugs_are_made_from_names_and_never_clash(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    assert_eq!((world.secret.as_str(), other.secret.as_str()), ("stripe", "stripe"), "unique in an app only");
    for (name, slug) in [
        ("Stripe", "stripe-2"),
        ("stripe!", "stripe-3"),
        ("Stripe (live) -- EU!", "stripe-live-eu"),
        ("日本 Tokyo", "tokyo"),
        (&"a".repeat(60), &"a".repeat(50)),
        (&"a".repeat(61), &format!("{}-2", "a".repeat(48))),
    ] {
        assert_eq!(text(&server.secret(&world.app, json!({"name": name})).await, "slug"), slug);
    }
    for by in ["stripe", &world.secret_id] {
        let shown = server.api("GET", &world.path(&format!("managed-secrets/{by}")), Value::Null).await.ok(200);
        assert_eq!(shown["id"], world.secret_id.as_str());
    }
}

async fn rotation_keeps_every_grant(server: Server) {
    let world = server.world().await;
    let second = world.with_grant(&server.grant(&world, json!({"label": "second"})).await);
    let before = server.token(&world).await.ok(200);
    server.advance_ms(1_000);
    let rotated = server.rotate(&world, "canary-2").await.ok(200);
    assert_ne!(rotated["token_generation"], before["token_generation"]);
    assert_eq!(rotated["rotated_at"], server.now().to_string());
    for world in [&world, &second] {
        let after = server.token(world).await.ok(200);
        assert_eq!(
            (&after["access_token"], &after["token_generation"]),
            (&json!("canary-2"), &rotated["token_generation"])
        );
    }
    let events = server.told(&world, "token.released").await;
    let versions: Vec<i64> = events.iter().map(|e| e["credential_version"].as_i64().unwrap()).collect();
    assert_eq!(versions, [1, 2, 2]);
    server.rotate(&World { secret: "nothing".to_owned(), ..world }, "canary").await.refused(Code::SecretNotFound);
}

async fn rotation_keeps_fields_unless_told(server: Server) {
    let world = server.world().await;
    let made = server.secret(&world.app, json!({"name": "F", "fields": {"org": "canary-org"}})).await;
    let world = World { secret: text(&made, "slug"), grant: text(&made, "grant_id"), ..world };
    let path = format!("managed-secrets/{}/rotate", world.secret);
    server.rotate(&world, "canary-2").await.ok(200);
    assert_eq!(server.token(&world).await.ok(200)["additional_credentials"], json!({"org": "canary-org"}));
    let new = json!({"value": "canary-3", "fields": {"org": "canary-x", "team": "canary-y"}});
    assert_eq!(post(&server, &world, &path, new).await.ok(200)["fields"], json!(["org", "team"]));
    let released = server.token(&world).await.ok(200);
    assert_eq!(released["additional_credentials"], json!({"org": "canary-x", "team": "canary-y"}));
    let none = json!({"value": "canary-4", "fields": {}});
    assert_eq!(post(&server, &world, &path, none).await.ok(200)["fields"], json!([]));
    assert_eq!(server.token(&world).await.ok(200)["additional_credentials"], Value::Null);
}

async fn rotation_after_destruction_makes_a_new_credential(server: Server) {
    let world = server.world().await;
    let secret = world.path(&format!("managed-secrets/{}", world.secret));
    let before = server.api("GET", &secret, Value::Null).await.ok(200);
    server.revoke(&world, &world.grant).await.ok(200);
    let grants = format!("managed-secrets/{}/grants", world.secret);
    let system = json!({"principal_type": "system"});
    post(&server, &world, &grants, system.clone()).await.refused(Code::CredentialDestroyed);
    let after = server.rotate(&world, "canary-new").await.ok(200);
    assert_ne!(after["credential_id"], before["credential_id"]);
    server.token(&world).await.refused(Code::GrantRevoked);
    let grant = text(&post(&server, &world, &grants, system).await.ok(201), "grant_id");
    assert_eq!(server.token(&world.with_grant(&grant)).await.ok(200)["access_token"], "canary-new");
}

async fn any_host_is_an_admins_choice(server: Server) {
    let world = server.world().await;
    let developer = server.new_pat(Role::Developer, None, None).await;
    let body = json!({"name": "Free", "value": VALUE, "allow_any_host": true});
    let path = world.path("managed-secrets");
    server.api_as(&developer, "POST", &path, body.clone()).await.refused(Code::RoleRequired);
    let made = server.api("POST", &path, body).await.ok(201);
    assert_eq!(made["allow_any_host"], true);
    let grant = world.path(&format!("grants/{}", text(&made, "grant_id")));
    assert_eq!(
        server.api("GET", &grant, Value::Null).await.ok(200)["allow_any_host"],
        true,
        "shown wherever it matters"
    );
    // Narrowing it is a developer's right.
    let hosts = world.path(&format!("managed-secrets/{}/allowed-hosts", text(&made, "slug")));
    let narrowed = server.api_as(&developer, "PUT", &hosts, json!({"allowed_hosts": ["x.example.com"]})).await.ok(200);
    assert_eq!(narrowed["allow_any_host"], false);
    assert_eq!(server.told(&world, "secret.updated").await[0]["changed"]["allow_any_host"], json!([true, false]));
}
