//! What a caller says of itself: label, type, actor id, context, constraints, rule. It attributes, and can only narrow.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::Code;
use grantd_wire::ids::ActorId;
use serde_json::{Value, json};

use crate::harness::world::{ask, text};
use crate::harness::{Answer, Server, Sign, World};

in_memory! {
    a_caller_is_bounded_printable_and_typed,
    an_agents_uuid_names_no_agent_yet,
    a_context_is_taken_at_each_bound_and_refused_past_it,
    a_malformed_actor_id_is_refused,
    core_16_an_actor_id_is_answered_and_can_be_sent_back,
    core_17_an_actor_id_comes_with_a_refusal_too,
    an_old_client_is_sent_no_actor_id,
    identity_may_be_unsigned_where_the_key_says_so,
    constraints_narrow_and_never_widen,
    a_request_rule_is_refused_and_never_ignored,
    adding_a_caller_or_context_never_allows_more,
}

on_kept_engines! {
    an_app_has_ten_thousand_labels_at_most,
}

on_every_engine! {
    a_label_has_one_actor_id_per_app_and_type,
}

async fn token(server: &Server, world: &World, sign: Sign<'_>) -> Answer {
    server.send(sign.post("/sdk/token", &ask(&world.grant))).await
}

async fn a_caller_is_bounded_printable_and_typed(server: Server) {
    let world = server.world().await;
    let sign = server.sign_as(&world);
    let (longest, longer) = ("c".repeat(255), "c".repeat(256));
    for (caller, caller_type) in
        [("a", "service"), ("a", "agent"), ("a", ""), (" !~\"\\ a", "service"), (&longest, "service")]
    {
        token(&server, &world, sign.caller(caller, caller_type)).await.ok(200);
    }
    for (caller, caller_type) in
        [(&*longer, "service"), ("a\tb", "service"), ("a", "robot"), ("a", "Service"), ("a", "agent "), ("", "service")]
    {
        token(&server, &world, sign.caller(caller, caller_type)).await.refused(Code::InvalidCaller);
    }
    let raw = sign.caller("a", "").post("/sdk/token", &ask(&world.grant));
    server.send(raw.set("x-alter-caller", "é")).await.refused(Code::SignatureInvalid);
}

async fn an_agents_uuid_names_no_agent_yet(server: Server) {
    let world = server.world().await;
    for uuid in ["0199c0de-0000-7000-8000-00000000beef", "0199C0DE-0000-7000-8000-00000000BEEF"] {
        for caller_type in ["agent", "service", ""] {
            let sign = server.sign_as(&world).caller(uuid, caller_type);
            token(&server, &world, sign).await.refused(Code::CallerAgentUnresolved);
        }
    }
    // Whoever it names, a missing scope stays missing, and nothing was released.
    assert!(server.told(&world, "token.released").await.is_empty());
}

async fn a_context_is_taken_at_each_bound_and_refused_past_it(server: Server) {
    let world = server.world().await;
    let of = |keys: usize, key_chars: usize, value_chars: usize| {
        let map: BTreeMap<String, String> =
            (0..keys).map(|i| (format!("{i:0>key_chars$}"), "v".repeat(value_chars))).collect();
        serde_json::to_string(&map).unwrap()
    };
    let padded = |chars: usize| format!("{{\"a\":\"b\"{}}}", " ".repeat(chars - 9));
    for good in [
        of(20, 2, 2),
        of(1, 64, 2),
        of(1, 1, 512),
        padded(4096),
        "{}".to_owned(),
        r#"{"a":"\u00e9\ud83d\ude00"}"#.to_owned(),
    ] {
        token(&server, &world, server.sign_as(&world).context(&good)).await.ok(200);
    }
    let bad = [
        of(21, 2, 2),
        of(1, 65, 2),
        of(1, 1, 513),
        padded(4097),
        "[]".to_owned(),
        "{".to_owned(),
        "null".to_owned(),
        r#"{"a":1}"#.to_owned(),
        r#"{"a":null}"#.to_owned(),
        r#"{"":"x"}"#.to_owned(),
        r#"{"a":{"b":"c"}}"#.to_owned(),
    ];
    for bad in bad {
        token(&server, &world, server.sign_as(&world).context(&bad)).await.refused(Code::InvalidContext);
    }
}

async fn a_malformed_actor_id_is_refused(server: Server) {
    let world = server.world().await;
    for actor_id in ["0199c0de-0000-7000-8000-00000000beef", "0199C0DE-0000-7000-8000-00000000BEEF"] {
        token(&server, &world, Sign { actor_id, ..server.sign_as(&world) }).await.ok(200);
    }
    for actor_id in ["me", "0199c0de00007000800000000000beef"] {
        let sign = Sign { actor_id, ..server.sign_as(&world) };
        token(&server, &world, sign).await.names(Code::InvalidRequest, "X-Alter-Actor-ID");
    }
}

fn actor(answer: &Answer) -> Option<String> {
    let id = answer.header("x-alter-actor-id").to_owned();
    (!id.is_empty()).then(|| {
        assert!(ActorId::parse(&id).is_some(), "{id}");
        id
    })
}

async fn core_16_an_actor_id_is_answered_and_can_be_sent_back(server: Server) {
    let world = server.world().await;
    let sign = server.sign_as(&world);
    assert_eq!(actor(&token(&server, &world, sign).await), None, "nobody said who it is");
    let id = actor(&token(&server, &world, sign.caller("billing", "service")).await).unwrap();
    let again = Sign { actor_id: &id, ..sign.caller("billing", "service") };
    assert_eq!(actor(&token(&server, &world, again).await).as_ref(), Some(&id));
}

async fn core_17_an_actor_id_comes_with_a_refusal_too(server: Server) {
    let world = server.world().await;
    let key = server.key_with(&world.app, &["grants:read"]).await;
    let refused = token(&server, &world, server.sign(&key).caller("billing", "service")).await;
    refused.refused(Code::InsufficientScope);
    let id = actor(&refused).unwrap();
    let released = token(&server, &world, server.sign_as(&world).caller("billing", "service")).await;
    assert_eq!(actor(&released), Some(id));
    // But not before the caller proved the key.
    let raw = server.sign(&key).caller("other", "service").post("/sdk/token", &json!({}));
    assert_eq!(actor(&server.send(raw.set("x-alter-signature", "0".repeat(64))).await), None);
}

async fn an_old_client_is_sent_no_actor_id(server: Server) {
    let world = server.world().await;
    for (user_agent, is_sent) in [
        ("alter-sdk-python/0.29.0", true),
        ("alter-sdk-python/0.21.0", true),
        ("alter-sdk-python/0.20.1", false),
        ("alter-sdk-python/0.14.0", false),
        ("curl/8.5", true),
    ] {
        let sign = Sign { user_agent, ..server.sign_as(&world).caller("billing", "service") };
        assert_eq!(actor(&token(&server, &world, sign).await).is_some(), is_sent, "{user_agent}");
    }
}

async fn a_label_has_one_actor_id_per_app_and_type(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let replica = server.another("replica", |_| {}).await;
    let mut seen = Vec::new();
    for (world, caller, caller_type) in [
        (&world, "billing", "service"),
        (&world, "billing", "agent"),
        (&world, "Billing", "service"),
        (&other, "billing", "service"),
    ] {
        let sign = || server.sign_as(world).caller(caller, caller_type);
        let id = actor(&token(&server, world, sign()).await).unwrap();
        for server in [&server, &replica] {
            assert_eq!(actor(&token(server, world, sign()).await).as_ref(), Some(&id));
        }
        seen.push(id);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

async fn identity_may_be_unsigned_where_the_key_says_so(server: Server) {
    let world = server.world().await;
    let (_, old_key) = server.key(&world.app, json!({"allow_unsigned_identity": true})).await;
    let sign = |key| server.sign(key).caller("billing", "service").context(r#"{"user_id":"u1"}"#);
    token(&server, &world, sign(&world.key).old()).await.refused(Code::SignatureInvalid);
    assert_eq!(actor(&token(&server, &world, sign(&old_key).old()).await), None);
    token(&server, &world, sign(&old_key)).await.ok(200);
    // What is unsigned is honoured or refused like anything else.
    token(&server, &world, server.sign(&old_key).context("[]").old()).await.refused(Code::InvalidContext);
    let uuid = "0199c0de-0000-7000-8000-00000000beef";
    token(&server, &world, server.sign(&old_key).caller(uuid, "agent").old())
        .await
        .refused(Code::CallerAgentUnresolved);
    // A second signature means that the client signs: then it signs everything.
    let raw = sign(&old_key).old().post("/sdk/token", &ask(&world.grant));
    let signature = raw.header("x-alter-signature").to_owned();
    server.send(raw.set("x-alter-signature-v2", signature)).await.refused(Code::SignatureInvalid);
    // Constraints are no identity: they are signed by all.
    let raw = server.sign(&old_key).old().post("/sdk/token", &ask(&world.grant));
    server.send(raw.set("x-alter-scope-constraints", "grants:read")).await.refused(Code::SignatureInvalid);

    let events = server.told(&world, "token.released").await;
    let unsigned: Vec<&Value> = events.iter().map(|event| &event["identity"]).collect();
    assert_eq!(unsigned, [&json!("unsigned"), &Value::Null]);
    assert!(events.iter().all(|event| event["context"]["user_id"] == "u1" && event["caller"] == "billing"));
}

async fn constraints_narrow_and_never_widen(server: Server) {
    let world = server.world().await;
    let key = server.key_with(&world.app, &["grants:write", "tokens:retrieve"]).await;
    let own = format!("tokens:retrieve:{}", world.grant);
    let other = server.grant(&world, json!({})).await;
    let foreign = format!("tokens:retrieve:{other}");
    let with = |constraints| token(&server, &world, server.sign(&key).constraints(constraints));
    for good in ["tokens:retrieve", "grants:read,tokens:retrieve", &own, "grants:write,grants:read,tokens:retrieve"] {
        with(good).await.ok(200);
    }
    for (narrow, granted) in [("grants:read", json!(["grants:read"])), (&*foreign, json!([foreign]))] {
        let json = with(narrow).await.refused(Code::InsufficientScope);
        assert_eq!(json["granted"], granted, "{json}");
    }
    for bad in [
        "grants:admin",
        "keys:read",
        "*",
        "grants:*",
        "proxy:execute",
        "x:y",
        "grants:read,",
        ",",
        " tokens:retrieve",
        "tokens:retrieve, grants:read",
        "tokens:retrieve:x",
    ] {
        with(bad).await.refused(Code::ConstraintNotNarrowing);
    }
    // A key with an id cannot shed it.
    let narrow = server.key_with(&world.app, &[&own]).await;
    let sign = server.sign(&narrow).constraints("tokens:retrieve");
    token(&server, &world, sign).await.refused(Code::ConstraintNotNarrowing);
}

async fn a_request_rule_is_refused_and_never_ignored(server: Server) {
    let world = server.world().await;
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let rule = encode(r#"{"rule_type":"json_match","rule_body":{"when":{"method":"POST"},"effect":"deny"}}"#);
    token(&server, &world, server.sign_as(&world).rule(&rule)).await.refused(Code::FeatureUnavailable);
    let sized = |bytes: usize| {
        let empty = r#"{"rule_type":"t","rule_body":{"x":""}}"#.len();
        encode(&format!(r#"{{"rule_type":"t","rule_body":{{"x":"{}"}}}}"#, "x".repeat(bytes - empty)))
    };
    let (largest, larger) = (sized(3072), sized(3073));
    assert_eq!((largest.len(), larger.len()), (4096, 4098));
    token(&server, &world, server.sign_as(&world).rule(&largest)).await.refused(Code::FeatureUnavailable);
    let malformed = [
        larger,
        "!".to_owned(),
        format!("{rule}=="),
        encode("[]"),
        encode("{"),
        encode(r#"{"rule_type":"t"}"#),
        encode(r#"{"rule_body":{}}"#),
        encode(r#"{"rule_type":"","rule_body":{}}"#),
        encode(r#"{"rule_type":"t","rule_body":[]}"#),
        encode(r#"{"rule_type":"t","rule_body":{},"more":1}"#),
    ];
    for bad in &malformed {
        token(&server, &world, server.sign_as(&world).rule(bad)).await.refused(Code::InvalidRequestRule);
    }
    assert!(server.told(&world, "token.released").await.is_empty());
}

async fn adding_a_caller_or_context_never_allows_more(server: Server) {
    let world = server.world().await;
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": "acme"})).await);
    let lapsed = world.with_grant(&server.grant(&world, json!({"expires_in_seconds": 1})).await);
    let revoked = world.with_grant(&server.grant(&world, json!({})).await);
    let foreign = world.with_grant(&text(&json!({"grant": server.world_named("Other").await.grant}), "grant"));
    server.revoke(&world, &revoked.grant).await.ok(200);
    server.advance_ms(1_000);
    server.update_app(&world, json!({"tenant_key": "tenant", "tenant_mode": "enforce"})).await;
    let id = "0199c0de-0000-7000-8000-00000000beef";
    for world in [&world, &bound, &lapsed, &revoked, &foreign] {
        let bare = token(&server, world, server.sign_as(world)).await;
        for sign in [
            server.sign_as(world).caller("admin", "agent"),
            server.sign_as(world).caller("x", "service").context(r#"{"agent":"root","tenant":"other"}"#),
            Sign { actor_id: id, ..server.sign_as(world).context(r#"{"role":"admin"}"#) },
            server.sign_as(world).caller(id, "agent"),
        ] {
            let answer = token(&server, world, sign).await;
            assert!(answer.status >= bare.status, "{} became {}", bare.status, answer.status);
        }
    }
}

async fn an_app_has_ten_thousand_labels_at_most(server: Server) {
    let world = server.world().await;
    let fill = format!(
        "INSERT INTO actors (app_id, label, type, actor_id, created_at_ms) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
         SELECT '{}', 'label ' || i, 'service', '0199c0de-0000-7000-8000-00000000beef', 1 FROM n",
        world.app
    );
    server.database.behind_its_back(&fill).await;
    let of = async |label: &str| {
        let answer = token(&server, &world, server.sign_as(&world).caller(label, "service")).await;
        answer.ok(200);
        actor(&answer)
    };
    assert!(of("the last").await.is_some());
    assert_eq!(of("one too many").await, None);
    assert!(of("label 7").await.is_some(), "those that were registered stay");
    let events = server.told(&world, "token.released").await;
    assert_eq!(events[1]["caller"], "one too many", "it is written down all the same");
}
