//! What happened, counted by the hour: in an app, and in all of them.

use std::sync::Arc;

use grantd_server::jobs;
use grantd_store::operators::Role;
use grantd_wire::Code;
use grantd_wire::ids::AppId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, World};
use crate::portal::{Browser, is_sound};

on_every_engine! {
    calls_are_counted_once_with_why_they_were_denied,
}

on_kept_engines! {
    old_hours_go_with_the_trail,
}

in_memory! {
    a_range_ends_now_and_has_all_of_its_steps,
    the_page_shows_the_figures_in_words_and_in_a_table,
}

const HOUR_MS: i64 = 3_600_000;

/// Everything that jobs write down, as a stop does.
async fn settle(server: &Server) {
    let stop = CancellationToken::new();
    stop.cancel();
    jobs::run(Arc::clone(&server.vault), stop).await;
    server.store().index_all().await.unwrap();
}

async fn overview(server: &Server, world: &World, range: &str) -> Value {
    server.api("GET", &world.path(&format!("overview?range={range}")), Value::Null).await.ok(200)
}

async fn calls_are_counted_once_with_why_they_were_denied(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    for _ in 0..3 {
        server.token(&world).await.ok(200);
    }
    server.token(&world.with_grant("x")).await.refused(Code::GrantNotFound);
    server.token(&other).await.ok(200);
    settle(&server).await;
    settle(&server).await;
    let of_app = overview(&server, &world, "24h").await;
    let total = &of_app["total"];
    assert_eq!(
        [&total["calls"], &total["allowed"], &total["denied"], &total["failed"]],
        [4, 3, 1, 0].map(Value::from).each_ref()
    );
    assert_eq!(of_app["refusals"], json!([{"code": "grant_not_found", "calls": 1}]));
    let latency = &total["latency"];
    assert!(
        latency["p50_us"].as_u64().unwrap() > 0 && latency["p50_us"].as_u64() <= latency["p99_us"].as_u64(),
        "{latency}"
    );
    assert_eq!(of_app["steps"].as_array().unwrap().last().unwrap()["allowed"], 3);
    // The next hour is another step; the day is the same one, or the next.
    server.advance_ms(HOUR_MS);
    server.token(&world).await.ok(200);
    settle(&server).await;
    let steps = overview(&server, &world, "24h").await["steps"].clone();
    let allowed: Vec<&Value> = steps.as_array().unwrap().iter().rev().take(2).map(|step| &step["allowed"]).collect();
    assert_eq!(allowed, [&json!(1), &json!(3)]);
    assert_eq!(overview(&server, &world, "30d").await["total"]["allowed"], 4);
    let all = server.api("GET", "/api/v1/overview", Value::Null).await.ok(200);
    assert_eq!((&all["total"]["allowed"], &all["total"]["denied"]), (&json!(5), &json!(1)));
    let pat = server.new_pat(Role::Admin, Some(vec![AppId::parse(&world.app).unwrap()]), None).await;
    server.api_as(&pat, "GET", "/api/v1/overview", Value::Null).await.refused(Code::RoleRequired);
    server.api_as(&pat, "GET", &world.path("overview"), Value::Null).await.ok(200);
    server.api_as(&pat, "GET", &other.path("overview"), Value::Null).await.refused(Code::NotFound);
}

async fn a_range_ends_now_and_has_all_of_its_steps(server: Server) {
    let world = server.world().await;
    for (range, steps, step_ms) in [("24h", 24, HOUR_MS), ("30d", 30, 24 * HOUR_MS)] {
        let found = overview(&server, &world, range).await;
        let at = |text: &Value| grantd_wire::TimeMs::parse(text.as_str().unwrap()).unwrap().0;
        let begun: Vec<i64> = found["steps"].as_array().unwrap().iter().map(|step| at(&step["at"])).collect();
        assert_eq!((begun.len(), begun[0]), (steps, at(&found["from"])));
        assert!(begun.windows(2).all(|pair| pair[1] - pair[0] == step_ms) && begun[0] % step_ms == 0);
        let now = at(&found["to"]);
        assert!((begun[steps - 1]..begun[steps - 1] + step_ms).contains(&now));
        assert_eq!(found["total"]["latency"], Value::Null);
    }
    server.api("GET", &world.path("overview?range=1y"), Value::Null).await.names(Code::InvalidValue, "range");
    server.api("GET", &world.path("overview?since=1"), Value::Null).await.refused(Code::InvalidRequest);
}

async fn old_hours_go_with_the_trail(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    settle(&server).await;
    let count = "SELECT COUNT(*) FROM hourly";
    let prune = || async { jobs::prune_trails(&server.vault, &CancellationToken::new()).await.unwrap() };
    let all = server.database.number(count).await;
    assert!(all > 0);
    prune().await;
    assert_eq!(server.database.number(count).await, all);
    // An app that keeps its trail for a day keeps no counts for longer; the organization's are those of all apps, and stay.
    server.api("PUT", &world.path("retention"), json!({"retention": "1d"})).await.ok(200);
    server.advance_ms(26 * HOUR_MS);
    prune().await;
    assert_eq!(server.database.number(count).await, all / 2);
    server.advance_ms(32 * 24 * HOUR_MS);
    prune().await;
    assert_eq!(server.database.number(count).await, 0);
}

async fn the_page_shows_the_figures_in_words_and_in_a_table(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Viewer).await;
    let paths = ["/portal/overview".to_owned(), format!("/portal/apps/{}/overview", world.app)];
    for path in &paths {
        assert!(browser.page(path).await.contains("No call in this time"), "{path}");
    }
    server.token(&world).await.ok(200);
    server.token(&world.with_grant("x")).await.refused(Code::GrantNotFound);
    settle(&server).await;
    for path in &paths {
        for range in ["", "?range=30d", "?range=x"] {
            let page = browser.page(&format!("{path}{range}")).await;
            is_sound(path, &page);
            assert!(page.contains("1 allowed, 1 denied, 0 failed") && page.contains("grant_not_found"), "{page}");
            let steps = if range == "?range=30d" { 30 } else { 24 };
            assert_eq!(page.matches("<tr role=\"row\"><td").count(), steps, "{path}{range}");
            assert_eq!(page.matches("<rect class=\"f6\" x=").count(), 1, "{path}{range}");
            assert!(page.contains("<polyline class=\"l3\""), "{path}{range}");
        }
    }
}
