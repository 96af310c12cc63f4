//! What runs beside requests: last use, old nonces, checkpoints, and the clock that was set back.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::Owner;
use grantd_server::jobs;
use grantd_store::audit;
use grantd_wire::Code;
use grantd_wire::ids::AppId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::world::ask;
use crate::harness::{Database, Engine, Raw, Server, World};

in_memory! {
    rollback_stops_credential_calls,
    a_clock_that_steps_back_a_little_harms_nothing,
}

on_every_engine! {
    last_use_is_written_down,
    a_stop_signs_a_last_checkpoint,
    a_start_below_the_floor_stops_credential_calls,
}

on_kept_engines! {
    old_nonces_are_forgotten_and_young_ones_are_not,
}

/// Starts every job and stops them at once, as a shutdown does: what has to be written is written.
async fn stop_jobs(server: &Server) {
    let stop = CancellationToken::new();
    stop.cancel();
    jobs::run(Arc::clone(&server.vault), stop).await;
}

async fn last_use(server: &Server, world: &World) -> [Value; 2] {
    let grant = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    let key = server.api("GET", &world.path(&format!("keys/{}", world.key_id)), Value::Null).await.ok(200);
    [grant["last_used_at"].clone(), key["last_used_at"].clone()]
}

async fn last_use_is_written_down(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    let used = json!(server.now().to_string());
    assert_eq!(last_use(&server, &world).await, [Value::Null, Value::Null]);
    server.advance_ms(1_000);
    stop_jobs(&server).await;
    assert_eq!(last_use(&server, &world).await, [used.clone(), used.clone()]);
    // A refusal is no use, and a replica that is behind moves no time back.
    let behind = server.another("behind", |_| {}).await;
    server.token(&world.with_grant("x")).await.refused(Code::GrantNotFound);
    server.advance_ms(-500);
    behind.token(&world).await.ok(200);
    server.advance_ms(-600);
    behind.token(&world).await.ok(200);
    stop_jobs(&behind).await;
    let latest = last_use(&server, &world).await;
    assert!(latest.iter().all(|at| at.as_str() >= used.as_str()), "{latest:?}");
    server.advance_ms(1_100);
}

const COUNT: &str = "SELECT (SELECT COUNT(*) FROM nonces) + (SELECT COUNT(*) FROM nonce_groups)";

async fn old_nonces_are_forgotten_and_young_ones_are_not(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    server.advance_ms(2_000);
    server.token(&world).await.ok(200);
    assert_eq!(server.database.number(COUNT).await, 2);
    // A nonce's life counts from the second that was signed with it.
    server.advance_ms(grantd_wire::limits::NONCE_KEPT_MS - 1_000);
    let stop = CancellationToken::new();
    let mut running = Box::pin(jobs::run(Arc::clone(&server.vault), stop.clone()));
    let pruned = async {
        while server.database.number(COUNT).await == 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = &mut running => panic!("jobs end when they are told to"),
        pruned = tokio::time::timeout(Duration::from_secs(30), pruned) => pruned.unwrap(),
    }
    stop.cancel();
    running.await;
    assert_eq!(server.database.number(COUNT).await, 1, "one is within its life");
}

async fn checkpoints(server: &Server, world: &World) -> usize {
    let owner = Owner::App(AppId::parse(&world.app).unwrap());
    server.store().read(move |tx| audit::checkpoints(tx, &owner, 0)).await.unwrap().len()
}

async fn a_stop_signs_a_last_checkpoint(server: Server) {
    let world = server.world().await;
    assert_eq!(checkpoints(&server, &world).await, 0);
    stop_jobs(&server).await;
    assert_eq!(checkpoints(&server, &world).await, 1);
    stop_jobs(&server).await;
    assert_eq!(checkpoints(&server, &world).await, 1, "nothing new, nothing signed");
    server.token(&world).await.ok(200);
    stop_jobs(&server).await;
    assert_eq!(checkpoints(&server, &world).await, 2);
}

/// Time is paused: a second of the job's own waiting passes at once, and the minute it measures passes when the test says so.
#[test]
fn a_checkpoint_is_signed_every_minute_with_new_events() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::create(Database::create(Engine::Memory).await.unwrap()).await;
        let world = server.world().await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(jobs::run(Arc::clone(&server.vault), stop.clone()));
        let mut signed = checkpoints(&server, &world).await;
        for _ in 0..3 {
            server.token(&world).await.ok(200);
            server.advance_ms(59_999);
            // While nothing waits for the writer's own thread: paused time runs ahead of it.
            tokio::time::pause();
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(checkpoints(&server, &world).await, signed, "not before the minute is over");
            server.advance_ms(1);
            while checkpoints(&server, &world).await == signed {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            signed += 1;
            tokio::time::resume();
        }
        server.advance_ms(600_000);
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(checkpoints(&server, &world).await, signed, "nothing new, nothing signed");
        stop.cancel();
        running.await.unwrap();
        tokio::time::resume();
        server.database.remove().await;
    });
}

async fn rollback_stops_credential_calls(server: Server) {
    let world = server.world().await;
    let tick = async || jobs::tick_clock(&server.vault).await.unwrap();
    tick().await;
    server.advance_ms(-300_000);
    tick().await;
    server.token(&world).await.ok(200);
    server.advance_ms(-1);
    for _ in 0..3 {
        tick().await;
        server.token(&world).await.refused(Code::ClockRollback);
        server.send(Raw::new("GET", "/readyz", "")).await.refused(Code::ClockRollback);
    }
    // Operators can still look, and revoke.
    let second = server.grant(&world, json!({})).await;
    server.revoke(&world, &second).await.ok(200);
    server.send(Raw::new("GET", "/healthz", "")).await.ok(200);
    server.advance_ms(1);
    tick().await;
    server.token(&world).await.ok(200);
    server.send(Raw::new("GET", "/readyz", "")).await.ok(200);
    let page = server.api("GET", "/api/v1/audit/events?kind=clock.regressed", Value::Null).await.ok(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "told once, however long it lasts");
    assert_eq!(page["items"][0]["behind_ms"], 300_001);
    assert_eq!(server.told(&world, "token.released").await.len(), 2);
    server.advance_ms(300_000);
}

async fn a_start_below_the_floor_stops_credential_calls(server: Server) {
    let world = server.world().await;
    jobs::tick_clock(&server.vault).await.unwrap();
    server.advance_ms(-3_600_000);
    let started = server.another("started", |_| {}).await;
    jobs::tick_clock(&started.vault).await.unwrap();
    started.token(&world).await.refused(Code::ClockRollback);
    // A grant that lapsed does not come back with the hour.
    server.advance_ms(3_600_000);
    jobs::tick_clock(&started.vault).await.unwrap();
    started.token(&world).await.ok(200);
}

async fn a_clock_that_steps_back_a_little_harms_nothing(server: Server) {
    let world = server.world().await;
    let raw = server.token_request(&world);
    server.send(raw.clone()).await.ok(200);
    server.advance_ms(-5_000);
    server.send(raw).await.refused(Code::NonceReplayed);
    server.send(server.sign_as(&world).post("/sdk/token", &ask(&world.grant))).await.ok(200);
    server.advance_ms(6_000);
    server.token(&world).await.ok(200);
    // Within a chain, time never falls.
    let trail = server.trail(&world).await;
    let times: Vec<&str> = trail.iter().map(|e| e["core"]["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}
