//! Trails whose past is cut off, events that lose their private part, and holds that forbid both.

use std::io::BufReader;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner, Trust, verify};
use grantd_server::jobs;
use grantd_store::{append_event, retention};
use grantd_wire::ids::{AppId, GrantId};
use grantd_wire::{Code, limits};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::world::{ask, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    an_erasure_says_exactly_which_events,
    one_call_erases_some_and_says_that_there_are_more,
    what_an_app_says_of_its_retention_keeps_its_bounds,
    a_hold_keeps_the_trail_and_the_app,
    without_a_retention_nothing_goes,
    while_the_clock_is_in_doubt_nothing_goes,
}

on_every_engine! {
    what_was_erased_is_gone_and_the_chain_is_whole,
    nothing_younger_than_the_retention_goes,
    a_pruned_trail_is_whole_at_every_stage,
}

on_kept_engines! {
    another_process_deletes_what_was_cut_off_by_one_that_died,
    a_revoked_grant_is_told_of_for_thirty_days,
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

async fn a_revoked_grant_is_told_of_for_thirty_days(server: Server) {
    let world = server.world().await;
    let path = world.path(&format!("grants/{}", world.grant));
    let shown = || server.api("GET", &path, Value::Null);
    let forget = || async { jobs::prune_ended(&server.vault, &CancellationToken::new()).await.unwrap() };
    release(&server, &world).await;
    server.revoke(&world, &world.grant).await.ok(200);
    let at_the_end = limits::ENDED_KEPT_MS - HOUR_MS;
    server.advance_ms(at_the_end);
    jobs::tick_clock(&server.vault).await.unwrap();
    server.advance_ms(HOUR_MS);
    forget().await;
    server.token(&world).await.refused(Code::GrantRevoked);
    assert_eq!(shown().await.ok(200)["status"], "revoked");
    // While the time is in doubt nothing goes.
    server.advance_ms(1 - 2 * HOUR_MS);
    jobs::tick_clock(&server.vault).await.unwrap();
    forget().await;
    server.advance_ms(2 * HOUR_MS);
    jobs::tick_clock(&server.vault).await.unwrap();
    assert_eq!(shown().await.ok(200)["status"], "revoked");
    forget().await;
    server.token(&world).await.refused(Code::GrantNotFound);
    shown().await.refused(Code::GrantNotFound);
    server.revoke(&world, &world.grant).await.refused(Code::GrantNotFound);
    for kind in ["token.released", "grant.revoked", "credential.destroyed"] {
        assert_eq!(server.told(&world, kind).await.len(), 1, "{kind}");
    }
    // The secret takes a new value and a new grant.
    let list = server.api("GET", &world.path("grants"), Value::Null).await.ok(200);
    assert_eq!(list["total"], 0, "{list}");
}

async fn erase(server: &Server, world: &World, mut which: Value) -> Answer {
    which["reason"] = json!("Request 42");
    server.api("POST", &world.path("audit/erase"), which).await
}

async fn call(server: &Server, world: &World, context: &str) -> String {
    let request = server.sign(&world.key).caller("cron", "service").context(context);
    let answer = server.send(request.post("/sdk/token", &ask(&world.grant))).await;
    answer.ok(200);
    answer.header("x-grantd-event-id").to_owned()
}

async fn what_was_erased_is_gone_and_the_chain_is_whole(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let alice = call(&server, &world, r#"{"user_id":"alice","run_id":"r"}"#).await;
    let bob = call(&server, &world, r#"{"user_id":"bob","run_id":"r"}"#).await;
    call(&server, &other, r#"{"user_id":"alice"}"#).await;
    let (report, before) = server.export(&world.path("audit/export")).await;
    assert_eq!((report.ok, report.erased), (true, 0));
    assert!(before.contains("alice"));
    let which = json!({"context": "user_id=alice"});
    assert_eq!(erase(&server, &world, which.clone()).await.ok(200), json!({"erased": 1, "has_more": false}));
    let (report, after) = server.export(&world.path("audit/export")).await;
    assert_eq!((report.ok, report.erased), (true, 1), "{:?}", report.problems);
    assert!(!after.contains("alice") && after.contains("bob"), "{after}");
    let shown = server.api("GET", &world.path(&format!("audit/events/{alice}")), Value::Null).await.ok(200);
    assert!(shown["context"].is_null() && shown["caller"].is_null() && shown["ip"].is_null(), "{shown}");
    assert_eq!((&shown["grant_id"], &shown["kind"]), (&json!(world.grant), &json!("token.released")));
    // No value of its context finds it any more.
    for (context, wanted) in [("user_id%3Dalice", vec![]), ("run_id%3Dr", vec![json!(bob)])] {
        let page = server.api("GET", &world.path(&format!("audit/events?context={context}")), Value::Null).await;
        let found: Vec<Value> = page.ok(200)["items"].as_array().unwrap().iter().map(|e| e["id"].clone()).collect();
        assert_eq!(found, wanted, "{context}");
    }
    assert_eq!(server.told(&other, "token.released").await[0]["context"]["user_id"], "alice", "another app's stays");
    // Again there is nothing to erase, and nothing to tell.
    assert_eq!(erase(&server, &world, which).await.ok(200), json!({"erased": 0, "has_more": false}));
    let told = server.told(&world, "audit.erased").await;
    assert_eq!((told.len(), &told[0]["erased"], &told[0]["by"]), (1, &json!(1), &json!({"context": "user_id"})));
    assert_eq!(told[0]["reason"], "Request 42");
    // A hold forbids it, whatever there is.
    server.api("PUT", &world.path("hold"), json!({"reason": "a case"})).await.ok(200);
    erase(&server, &world, json!({"event": bob})).await.refused(Code::LegalHold);
    assert_eq!(server.told(&world, "token.released").await[1]["context"]["user_id"], "bob");
    server.api("DELETE", &world.path("hold"), Value::Null).await.ok(200);
    assert_eq!(erase(&server, &world, json!({"event": bob})).await.ok(200)["erased"], 1);
    // The organization's own trail says who did what, until it is erased.
    let path = "/api/v1/audit/events?kind=audit.exported";
    server.export("/api/v1/audit/export").await;
    let page = server.api("GET", path, Value::Null).await.ok(200);
    assert!(page["items"][0]["ip"].is_string());
    let which = json!({"event": page["items"][0]["id"], "reason": "Request 43"});
    assert_eq!(server.api("POST", "/api/v1/audit/erase", which).await.ok(200)["erased"], 1);
    assert!(server.api("GET", path, Value::Null).await.ok(200)["items"][0]["ip"].is_null());
}

async fn an_erasure_says_exactly_which_events(server: Server) {
    let world = server.world().await;
    let second = world.with_grant(&server.grant(&world, json!({})).await);
    call(&server, &world, "{}").await;
    call(&server, &second, "{}").await;
    let event = "0199c0de-0000-7000-8000-00000000beef";
    for (which, field) in [
        (json!({}), "event"),
        (json!({"event": event, "grant": second.grant}), "event"),
        (json!({"context": "color=red"}), "context"),
        (json!({"context": "red"}), "context"),
        (json!({"kind": "token.released"}), "kind"),
    ] {
        erase(&server, &world, which).await.names(Code::InvalidRequest, field);
    }
    erase(&server, &world, json!({"event": event})).await.refused(Code::NotFound);
    for reason in ["", &"é".repeat(2_001)] {
        let ask = json!({"grant": second.grant, "reason": reason});
        server.api("POST", &world.path("audit/erase"), ask).await.names(Code::InvalidValue, "reason");
    }
    // Every filter must match.
    let none = json!({"grant": second.grant, "context": "user_id=x"});
    assert_eq!(erase(&server, &world, none).await.ok(200)["erased"], 0);
    // Its making and its use.
    assert_eq!(erase(&server, &world, json!({"grant": second.grant})).await.ok(200)["erased"], 2);
    let told = server.told(&world, "token.released").await;
    let with_ip: Vec<bool> = told.iter().map(|event| event["ip"].is_string()).collect();
    assert_eq!((told[0]["grant_id"].as_str(), with_ip), (Some(world.grant.as_str()), vec![true, false]));
    assert_eq!(server.told(&world, "audit.erased").await[0]["by"], json!({"grant": second.grant}));
    // What tells of it is not found by what it is about.
    assert_eq!(erase(&server, &world, json!({"grant": second.grant})).await.ok(200)["erased"], 0);
}

async fn one_call_erases_some_and_says_that_there_are_more(server: Server) {
    let world = server.world().await;
    let most = limits::ERASED_EVENTS_MAX;
    let owner = Owner::App(AppId::parse(&world.app).unwrap());
    let grant = GrantId::parse(&world.grant).unwrap();
    for _ in 0..=most / 500 {
        let release = |_| {
            let event =
                Event::new(&*server.env, server.now(), owner, Kind::TokenReleased, Outcome::Allowed, Actor::Job);
            event.grant(grant).private("reason", Some("r")).prepare()
        };
        let events: Vec<_> = (0..500).map(release).collect();
        let append = move |tx: &mut grantd_store::Tx<'_>| events.iter().try_for_each(|e| append_event(tx, e));
        server.store().write(append).await.unwrap();
    }
    let which = json!({"grant": world.grant});
    let first = erase(&server, &world, which.clone()).await.ok(200);
    assert_eq!(first, json!({"erased": most, "has_more": true}));
    let second = erase(&server, &world, which).await.ok(200);
    assert_eq!(second["has_more"], false);
    assert!(second["erased"].as_i64().unwrap() >= 500, "{second}");
}
