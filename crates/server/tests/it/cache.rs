//! What is remembered between calls never outlives what another process changed.

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::{Server, World};

on_every_engine! {
    a_grant_revoked_elsewhere_is_revoked_here,
    a_key_revoked_elsewhere_is_dead_here_whatever_it_sends,
    a_value_rotated_elsewhere_is_the_one_that_is_released,
    hosts_narrowed_and_widened_elsewhere_count_at_once,
    an_app_that_stops_retrieving_elsewhere_stops_here,
    a_grant_made_after_it_was_missed_is_found,
}

in_memory! {
    a_cache_of_nothing_serves_all_the_same,
    a_grants_end_counts_at_its_very_millisecond,
}

/// A server that remembers the world's key and grant, beside the one that changes them.
async fn warm(server: &Server) -> (Server, World) {
    let world = server.world().await;
    let replica = server.another("replica", |_| {}).await;
    for _ in 0..2 {
        replica.token(&world).await.ok(200);
    }
    (replica, world)
}

async fn a_grant_revoked_elsewhere_is_revoked_here(server: Server) {
    let (replica, world) = warm(&server).await;
    server.revoke(&world, &world.grant).await.ok(200);
    replica.token(&world).await.refused(Code::GrantRevoked);
    let told = server.told(&world, "token.denied").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["code"], "grant_revoked");
}

async fn a_key_revoked_elsewhere_is_dead_here_whatever_it_sends(server: Server) {
    let (replica, world) = warm(&server).await;
    server.api("POST", &world.path(&format!("keys/{}/revoke", world.key_id)), Value::Null).await.ok(200);
    replica.send(replica.sign_as(&world).post("/sdk/token", &json!({"no": "body"}))).await.refused(Code::KeyRevoked);
    let told = server.told(&world, "auth.failed").await;
    assert_eq!(told.iter().map(|e| e["code"].as_str().unwrap()).collect::<Vec<_>>(), ["key_revoked"]);
    let (replica, world) = warm(&server).await;
    server.api("POST", &world.path(&format!("keys/{}/revoke", world.key_id)), Value::Null).await.ok(200);
    replica.token(&world).await.refused(Code::KeyRevoked);
    assert_eq!(server.told(&world, "auth.failed").await.len(), 1, "its last call is told, too");
    let (replica, world) = warm(&server).await;
    let unsigned = replica.token_request(&world).set("x-alter-signature", "0".repeat(64));
    server.api("POST", &world.path(&format!("keys/{}/revoke", world.key_id)), Value::Null).await.ok(200);
    replica.send(unsigned).await.refused(Code::KeyRevoked);
}

async fn a_value_rotated_elsewhere_is_the_one_that_is_released(server: Server) {
    let (replica, world) = warm(&server).await;
    server.rotate(&world, "canary-second").await.ok(200);
    assert_eq!(replica.token(&world).await.ok(200)["access_token"], "canary-second");
}

async fn hosts_narrowed_and_widened_elsewhere_count_at_once(server: Server) {
    let (replica, world) = warm(&server).await;
    let path = world.path(&format!("managed-secrets/{}/allowed-hosts", world.secret));
    server.api("PUT", &path, json!({"allowed_hosts": ["api.example.org"]})).await.ok(200);
    assert_eq!(replica.token(&world).await.status, 422);
    server.api("PUT", &path, json!({"allowed_hosts": ["api.example.org", "api.example.com"]})).await.ok(200);
    replica.token(&world).await.ok(200);
}

async fn an_app_that_stops_retrieving_elsewhere_stops_here(server: Server) {
    let (replica, world) = warm(&server).await;
    server.update_app(&world, json!({"retrieve": "off"})).await;
    replica.token(&world).await.refused(Code::RestrictedGrantRequiresProxy);
    server.update_app(&world, json!({"retrieve": "on"})).await;
    replica.token(&world).await.ok(200);
}

async fn a_grant_made_after_it_was_missed_is_found(server: Server) {
    let (replica, world) = warm(&server).await;
    replica.token(&world.with_grant("0199c0de-0000-7000-8000-00000000beef")).await.refused(Code::GrantNotFound);
    let grant = server.grant(&world, json!({})).await;
    replica.token(&world.with_grant(&grant)).await.ok(200);
}

async fn a_cache_of_nothing_serves_all_the_same(server: Server) {
    let world = server.world().await;
    let bare = server.another("bare", |settings| settings.cache_bytes = 0).await;
    for _ in 0..3 {
        bare.token(&world).await.ok(200);
    }
}

async fn a_grants_end_counts_at_its_very_millisecond(server: Server) {
    let world = server.world().await;
    let racing = world.with_grant(&server.grant(&world, json!({"expires_in_seconds": 60})).await);
    server.token(&racing).await.ok(200);
    server.advance_ms(59_999);
    server.token(&racing).await.ok(200);
    server.advance_ms(1);
    server.token(&racing).await.refused(Code::GrantExpired);
}
