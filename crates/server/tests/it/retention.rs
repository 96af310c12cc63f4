//! Trails whose past is cut off, and holds that forbid it.

use std::io::BufReader;

use grantd_domain::audit::{Owner, Trust, verify};
use grantd_server::jobs;
use grantd_store::retention;
use grantd_wire::Code;
use grantd_wire::ids::AppId;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::world::text;
use crate::harness::{Server, World};

in_memory! {
    what_an_app_says_of_its_retention_keeps_its_bounds,
    a_hold_keeps_the_trail_and_the_app,
    without_a_retention_nothing_goes,
    while_the_clock_is_in_doubt_nothing_goes,
}

on_every_engine! {
    nothing_younger_than_the_retention_goes,
    a_pruned_trail_is_whole_at_every_stage,
}

on_kept_engines! {
    another_process_deletes_what_was_cut_off_by_one_that_died,
}

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

async fn prune(server: &Server) {
    jobs::prune_trails(&server.vault, &CancellationToken::new()).await.unwrap();
}

async fn keep(server: &Server, world: &World, retention: &str) -> Value {
    server.api("PUT", &world.path("retention"), json!({"retention": retention})).await.ok(200)
}

/// To the moment `ms` after the beginning of the next day but `days`.
fn to_day(server: &Server, days: i64, ms: i64) {
    let now = server.now().0;
    server.advance_ms((now.div_euclid(DAY_MS) + 1 + days) * DAY_MS + ms - now);
}

/// Events that are listed.
async fn listed(server: &Server, world: &World) -> Vec<String> {
    let page = server.api("GET", &world.path("audit/events?limit=1000"), Value::Null).await.ok(200);
    page["items"].as_array().unwrap().iter().map(|event| text(event, "id")).collect()
}

/// Events in the database, listed or not.
async fn stored(server: &Server, world: &World) -> i64 {
    let owner = Owner::App(AppId::parse(&world.app).unwrap());
    server.store().read(move |tx| retention::rows(tx, &owner)).await.unwrap().0
}

/// A release whose event a checkpoint of its own covers.
async fn release(server: &Server, world: &World) -> String {
    let answer = server.token(world).await;
    answer.ok(200);
    server.trail(world).await;
    answer.header("x-grantd-event-id").to_owned()
}

async fn nothing_younger_than_the_retention_goes(server: Server) {
    let world = server.world().await;
    keep(&server, &world, "2d").await;
    to_day(&server, 0, -1);
    let old = release(&server, &world).await;
    server.advance_ms(1);
    let young = release(&server, &world).await;
    let is_there = async |id: &String| listed(&server, &world).await.contains(id);
    server.advance_ms(2 * DAY_MS - 1);
    prune(&server).await;
    assert!(is_there(&old).await, "a millisecond is missing");
    server.advance_ms(1);
    prune(&server).await;
    assert!(!is_there(&old).await && is_there(&young).await);
    server.api("GET", &world.path(&format!("audit/events/{old}")), Value::Null).await.refused(Code::NotFound);
    // A day goes as a whole, so that this is told once a day.
    server.advance_ms(DAY_MS - 1);
    prune(&server).await;
    assert!(is_there(&young).await);
    server.advance_ms(1);
    prune(&server).await;
    assert!(!is_there(&young).await);
    let told = server.told(&world, "audit.pruned").await;
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0]["actor"], &told[0]["retention"]), (&json!({"type": "job"}), &json!("2d")));
    assert!(told[0]["events"].as_i64().unwrap() > 0 && told[0]["pruned_to"].as_i64() < told[1]["pruned_to"].as_i64());
}

async fn a_pruned_trail_is_whole_at_every_stage(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    keep(&server, &world, "1d").await;
    for _ in 0..3 {
        release(&server, &world).await;
        release(&server, &other).await;
    }
    let (report, before) = server.export(&world.path("audit/export")).await;
    assert_eq!((report.ok, report.pruned_to), (true, None));
    let kept: Value = before
        .lines()
        .rfind(|l| l.contains("\"type\":\"checkpoint\""))
        .map(|l| serde_json::from_str(l).unwrap())
        .unwrap();
    let (stored_before, others) = (stored(&server, &world).await, stored(&server, &other).await);
    to_day(&server, 1, 0);
    let young = release(&server, &world).await;
    // Begun before the cut, read after it.
    let under_way = server.begin(&world.path("audit/export")).await;
    prune(&server).await;
    let under_way = under_way.collect().await.unwrap().to_bytes();
    let report = verify(BufReader::new(&*under_way), &Trust::default()).unwrap();
    assert_eq!((report.ok, report.pruned_to), (true, None), "{:?}", report.problems);
    assert!(report.events > u64::try_from(stored_before).unwrap());

    let verified = async || {
        let (report, text) = server.export(&world.path("audit/export")).await;
        assert!(report.ok && report.pruned_to.is_some(), "{:?}\n{text}", report.problems);
        assert!(text.contains(&young));
        let trust = Trust { key: None, checkpoint: Some(kept.clone()) };
        assert!(verify(BufReader::new(text.as_bytes()), &trust).unwrap().ok, "a checkpoint of before still fits");
        // One that was filtered, too, and the spreadsheet.
        let (report, text) = server.export(&world.path("audit/export?kind=token.released")).await;
        assert_eq!((report.ok, report.events), (true, 1), "{text}");
        let csv = server.api("GET", &world.path("audit/export?format=csv&kind=token.released"), Value::Null).await;
        assert_eq!(csv.text.lines().count(), 2);
        assert_eq!(server.told(&world, "token.released").await.len(), 1);
        report.events
    };
    verified().await;
    let hidden = stored(&server, &world).await;
    assert!(hidden > stored_before, "it is there as long as exports may need it");
    server.store().index_all().await.unwrap();
    server.advance_ms(HOUR_MS - 1);
    prune(&server).await;
    assert!(stored(&server, &world).await >= hidden);
    server.advance_ms(1);
    prune(&server).await;
    assert!(stored(&server, &world).await < hidden - stored_before + 10, "all but the ends of chains are gone");
    verified().await;
    server.token(&world).await.ok(200);
    assert_eq!(server.told(&world, "token.released").await.len(), 2);
    assert!(server.export(&world.path("audit/export")).await.0.ok);
    assert!(stored(&server, &other).await >= others, "another app keeps its own as it says");
    assert_eq!(server.told(&other, "token.released").await.len(), 3);
}

async fn another_process_deletes_what_was_cut_off_by_one_that_died(server: Server) {
    let world = server.world().await;
    keep(&server, &world, "1d").await;
    release(&server, &world).await;
    to_day(&server, 1, 0);
    prune(&server).await;
    let hidden = stored(&server, &world).await;
    server.advance_ms(HOUR_MS);
    let other = server.another("other", |_| {}).await;
    other.store().index_all().await.unwrap();
    prune(&other).await;
    assert!(stored(&other, &world).await < hidden);
    // Both look for something to cut off, and there is nothing more.
    prune(&server).await;
    assert_eq!(server.told(&world, "audit.pruned").await.len(), 1);
    release(&other, &world).await;
    release(&server, &world).await;
}

async fn what_an_app_says_of_its_retention_keeps_its_bounds(server: Server) {
    let world = server.world().await;
    let path = world.path("retention");
    let default = json!({"retention": "365d", "is_default": true, "updated_at": null});
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), default);
    let install = server.another("longer", |settings| settings.retention = grantd_wire::Retention::Forever).await;
    assert_eq!(install.api("GET", &path, Value::Null).await.ok(200)["retention"], "forever");
    for good in ["1d", "36500d", "forever", "forever"] {
        let set = keep(&server, &world, good).await;
        assert_eq!((&set["retention"], &set["is_default"]), (&json!(good), &json!(false)));
        assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), set);
    }
    for bad in ["0d", "36501d", "12h", "", "-1d"] {
        server.api("PUT", &path, json!({"retention": bad})).await.names(Code::InvalidValue, "retention");
    }
    for _ in 0..2 {
        assert_eq!(server.api("DELETE", &path, Value::Null).await.ok(200), default);
    }
    let told = server.told(&world, "retention.updated").await;
    assert_eq!(told.len(), 4, "what changes nothing is no event");
    assert_eq!(told[0]["changed"], json!({"retention": ["365d (default)", "1d"]}));
    assert_eq!(told[3]["changed"], json!({"retention": ["forever", "365d (default)"]}));
    // A trail outlives its app.
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    server.api("DELETE", &world.path(""), Value::Null).await.ok(200);
    keep(&server, &world, "1d").await;
}

async fn a_hold_keeps_the_trail_and_the_app(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = world.path("hold");
    let none = json!({"held": false, "reason": null, "operator_id": null, "held_at": null});
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), none);
    for each in [&world, &other] {
        keep(&server, each, "1d").await;
        release(&server, each).await;
    }
    for (reason, is_one) in [("", false), (&"é".repeat(2_001), false), (&"é".repeat(2_000), true), ("a case", true)] {
        let answer = server.api("PUT", &path, json!({"reason": reason})).await;
        if is_one { drop(answer.ok(200)) } else { answer.names(Code::InvalidValue, "reason") }
    }
    let held = server.api("PUT", &path, json!({"reason": "a case"})).await.ok(200);
    assert_eq!((&held["held"], &held["reason"]), (&json!(true), &json!("a case")));
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), held);
    assert_eq!(server.told(&world, "hold.set").await.len(), 2, "the same again is no event");
    assert_eq!(server.told(&world, "hold.set").await[1]["reason"], "a case");
    to_day(&server, 5, 0);
    prune(&server).await;
    assert_eq!(server.told(&world, "token.released").await.len(), 1);
    assert_eq!(server.told(&other, "token.released").await.len(), 0, "only the app that is held");
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    let refusal = server.api("DELETE", &world.path(""), Value::Null).await.refused(Code::LegalHold);
    assert!(refusal.to_string().contains("grantd apps hold release"), "{refusal}");
    for _ in 0..2 {
        assert_eq!(server.api("DELETE", &path, Value::Null).await.ok(200), none);
    }
    assert_eq!(server.told(&world, "hold.released").await.len(), 1);
    prune(&server).await;
    assert_eq!(server.told(&world, "token.released").await.len(), 0);
    server.api("DELETE", &world.path(""), Value::Null).await.ok(200);
}

async fn without_a_retention_nothing_goes(server: Server) {
    let world = server.world().await;
    keep(&server, &world, "forever").await;
    release(&server, &world).await;
    to_day(&server, 4_000, 0);
    prune(&server).await;
    assert_eq!(server.told(&world, "token.released").await.len(), 1);
    // The organization's own trail goes by the install.
    let (report, _) = server.export("/api/v1/audit/export").await;
    assert!(report.ok && report.pruned_to.is_none(), "no checkpoint had covered it");
    to_day(&server, 366, 0);
    prune(&server).await;
    let (report, text) = server.export("/api/v1/audit/export").await;
    assert!(report.ok && report.pruned_to.is_some(), "{:?}\n{text}", report.problems);
    assert!(!text.contains("install.created"));
}

async fn while_the_clock_is_in_doubt_nothing_goes(server: Server) {
    let world = server.world().await;
    keep(&server, &world, "1d").await;
    release(&server, &world).await;
    to_day(&server, 3, 0);
    jobs::tick_clock(&server.vault).await.unwrap();
    server.advance_ms(-HOUR_MS);
    jobs::tick_clock(&server.vault).await.unwrap();
    prune(&server).await;
    assert_eq!(server.told(&world, "token.released").await.len(), 1);
    server.advance_ms(HOUR_MS);
    jobs::tick_clock(&server.vault).await.unwrap();
    prune(&server).await;
    assert_eq!(server.told(&world, "token.released").await.len(), 0);
}
