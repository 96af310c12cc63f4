//! Identity providers: how many an app has, and how much each may say. At each bound, and one past it.

use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    an_app_has_fifty_identity_providers_and_no_more,
    an_identity_provider_has_twenty_audiences_and_no_more,
    each_text_has_a_bound,
}

/// Registers one; nothing is fetched for it.
async fn create(server: &Server, world: &World, more: Value) -> Answer {
    let usual =
        json!({"issuer": "https://id.example.com", "audiences": ["app"], "jwks_url": "https://id.example.com/jwks"});
    server.api("POST", &world.path("identity-providers"), merged(usual, more)).await
}

async fn an_app_has_fifty_identity_providers_and_no_more(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let issuer = |n: i64| json!({"issuer": format!("https://id{n}.example.com")});
    let mut made = Value::Null;
    for n in 0..limits::IDENTITY_PROVIDERS_MAX {
        made = create(&server, &world, issuer(n)).await.ok(201);
    }
    let refused = create(&server, &world, issuer(50)).await.refused(Code::TooMany);
    assert!(text(&refused, "message").contains("at most 50"), "{refused}");
    // Another app has its own, and one that is deleted makes room.
    create(&server, &other, issuer(50)).await.ok(201);
    let path = world.path(&format!("identity-providers/{}", text(&made, "id")));
    server.api("DELETE", &path, Value::Null).await.ok(200);
    create(&server, &world, issuer(50)).await.ok(201);
    create(&server, &world, issuer(51)).await.refused(Code::TooMany);
}

async fn an_identity_provider_has_twenty_audiences_and_no_more(server: Server) {
    let world = server.world().await;
    let of = |count: usize| json!({"audiences": (0..count).map(|n| format!("audience-{n}")).collect::<Vec<_>>()});
    create(&server, &world, of(limits::AUDIENCES_MAX + 1)).await.names(Code::InvalidValue, "audiences");
    let made = create(&server, &world, of(limits::AUDIENCES_MAX)).await.ok(201);
    assert_eq!(made["audiences"].as_array().unwrap().len(), limits::AUDIENCES_MAX);
    let path = world.path(&format!("identity-providers/{}", text(&made, "id")));
    let past_it = of(limits::AUDIENCES_MAX + 1);
    server.api("PATCH", &path, past_it).await.names(Code::InvalidValue, "audiences");
}

/// A URL of so many characters.
fn url(host: &str, chars: usize) -> String {
    let start = format!("https://{host}.example.com/");
    format!("{start}{}", plain(chars - start.len()))
}

fn plain(chars: usize) -> String {
    "x".repeat(chars)
}

async fn each_text_has_a_bound(server: Server) {
    type Says = fn(usize) -> Value;
    let world = server.world().await;
    let fields: [(&str, Says); 9] = [
        ("issuer", |chars| json!({"issuer": url("long", chars)})),
        ("jwks_url", |chars| json!({"jwks_url": url("keys", chars)})),
        ("audiences", |chars| json!({"audiences": [plain(chars)]})),
        ("claims", |chars| json!({"claims": {"subject": plain(chars)}})),
        ("claims", |chars| json!({"claims": {"audience": plain(chars)}})),
        ("claims", |chars| json!({"claims": {"email": plain(chars)}})),
        ("claims", |chars| json!({"claims": {"name": plain(chars)}})),
        ("claims", |chars| json!({"claims": {"groups": plain(chars)}})),
        ("claims", |chars| json!({"claims": {"roles": plain(chars)}})),
    ];
    for (n, (field, says)) in fields.into_iter().enumerate() {
        let usual = json!({"issuer": format!("https://id{n}.example.com")});
        let past_it = merged(usual.clone(), says(limits::ISSUER_CHARS_MAX + 1));
        create(&server, &world, past_it).await.names(Code::InvalidValue, field);
        create(&server, &world, merged(usual, says(limits::ISSUER_CHARS_MAX))).await.ok(201);
    }
}
