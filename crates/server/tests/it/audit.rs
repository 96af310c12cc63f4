//! The trail: found by every filter, paged without loss, exported so that it verifies.

use std::io::BufReader;

use grantd_domain::audit::{Kind, Trust, verify};
use grantd_wire::Code;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::world::{ask, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    every_filter_finds_its_events_and_no_others,
    an_unindexed_context_key_is_searched_in_part,
    an_index_covers_what_came_after_it,
    wrong_queries_are_named,
    an_event_is_shown_in_its_app_only,
    csv_cells_are_no_formulas,
    a_wrong_format_leaves_no_event,
    an_edited_export_is_found_out,
    the_organizations_trail_is_its_own,
    a_secrets_life_is_told,
}

on_every_engine! {
    pages_lose_and_double_nothing,
    an_export_verifies_and_says_what_it_is,
    an_export_that_is_overtaken_by_a_checkpoint_verifies,
    checkpoints_are_listed_newest_first_as_an_export_has_them,
    a_filtered_export_says_that_it_is_partial,
}

async fn call(server: &Server, world: &World, context: &str, reason: &str) -> Answer {
    let mut body = ask(&world.grant);
    body["reason"] = json!(reason);
    server.send(server.sign(&world.key).caller("c", "service").context(context).post("/sdk/token", &body)).await
}

async fn found(server: &Server, world: &World, query: &str) -> Vec<String> {
    let page = server.api("GET", &world.path(&format!("audit/events?{query}")), Value::Null).await.ok(200);
    assert_eq!((&page["has_more"], &page["next_cursor"]), (&json!(false), &Value::Null), "{query}");
    let mut reasons: Vec<String> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["reason"].as_str().unwrap_or(e["kind"].as_str().unwrap()).to_owned())
        .collect();
    reasons.sort();
    reasons
}

async fn every_filter_finds_its_events_and_no_others(server: Server) {
    let world = server.world().await;
    let second = world.with_grant(&server.grant(&world, json!({})).await);
    let (key_id, key) = server.key(&world.app, json!({})).await;
    call(&server, &world, r#"{"user_id":"u1","run_id":"r1"}"#, "one").await.ok(200);
    server.advance_ms(1_000);
    let between = server.now().to_string();
    call(&server, &second.with_key(&key), r#"{"user_id":"u2","run_id":"r1"}"#, "two").await.ok(200);
    server.advance_ms(1_000);
    server.revoke(&world, &second.grant).await.ok(200);
    call(&server, &second, r#"{"user_id":"u1"}"#, "three").await.refused(Code::GrantRevoked);
    let released = "kind=token.released";
    for (query, wanted) in [
        (released.to_owned(), vec!["one", "two"]),
        ("kind=token.denied".to_owned(), vec!["three"]),
        ("outcome=denied".to_owned(), vec!["three"]),
        (format!("grant={}", second.grant), vec!["grant.created", "grant.revoked", "three", "two"]),
        (format!("key={key_id}"), vec!["key.minted", "two"]),
        (format!("key={key_id}&{released}"), vec!["two"]),
        (format!("provider={}&{released}&outcome=allowed", world.secret), vec!["one", "two"]),
        ("provider=other".to_owned(), vec![]),
        ("context=user_id%3Du1".to_owned(), vec!["one", "three"]),
        (format!("context=user_id%3Du1&{released}"), vec!["one"]),
        ("context=user_id%3Du1%0Arun_id%3Dr1".to_owned(), vec!["one"]),
        ("context=run_id%3Dr1".to_owned(), vec!["one", "two"]),
        ("context=user_id%3D".to_owned(), vec![]),
        (format!("since={between}&{released}"), vec!["two"]),
        (format!("until={between}&{released}"), vec!["one", "two"]),
        (format!("since={between}&until={between}"), vec!["two"]),
        (format!("since={}", server.now()), vec!["grant.revoked", "three"]),
        ("user=x".to_owned(), vec![]),
        ("agent=x".to_owned(), vec![]),
    ] {
        assert_eq!(found(&server, &world, &query).await, wanted, "{query}");
    }
}

async fn an_unindexed_context_key_is_searched_in_part(server: Server) {
    let world = server.world().await;
    for n in 0..6 {
        let context = format!(r#"{{"color":"{}","user_id":"u"}}"#, if n % 2 == 0 { "red" } else { "blue" });
        call(&server, &world, &context, &format!("{n}")).await.ok(200);
        server.advance_ms(1);
    }
    let path = world.path("audit/events?context=color%3Dred");
    let page = server.api("GET", &path, Value::Null).await.ok(200);
    assert_eq!((&page["partial_scan"], &page["has_more"]), (&json!(true), &json!(false)));
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    let first = server.api("GET", &format!("{path}&limit=2"), Value::Null).await.ok(200);
    assert_eq!((first["items"].as_array().unwrap().len(), &first["has_more"]), (2, &json!(true)));
    let next = format!("{path}&limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = server.api("GET", &next, Value::Null).await.ok(200);
    assert_eq!((second["items"][0]["reason"].as_str(), &second["has_more"]), (Some("0"), &json!(false)));
    // An indexed key needs no search.
    let indexed = server.api("GET", &world.path("audit/events?context=user_id%3Du"), Value::Null).await.ok(200);
    assert_eq!(indexed.get("partial_scan"), None);
    server
        .api("GET", &world.path("audit/export?context=color%3Dred"), Value::Null)
        .await
        .names(Code::InvalidRequest, "context");
}

async fn an_index_covers_what_came_after_it(server: Server) {
    let world = server.world().await;
    call(&server, &world, r#"{"tenant":"acme"}"#, "before").await.ok(200);
    server.update_app(&world, json!({"tenant_key": "tenant", "tenant_mode": "observe"})).await;
    call(&server, &world, r#"{"tenant":"acme"}"#, "after").await.ok(200);
    assert_eq!(found(&server, &world, "context=tenant%3Dacme").await, ["after"]);
    let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    server.update_app(&world, json!({"indexed_context_keys": keys})).await;
    let path = world.path("");
    let keys: Vec<String> = (0..9).map(|n| format!("k{n}")).collect();
    let answer = server.api("PATCH", &path, json!({"indexed_context_keys": keys})).await;
    answer.names(Code::InvalidValue, "indexed_context_keys");
    call(&server, &world, r#"{"k7":"v"}"#, "eighth").await.ok(200);
    assert_eq!(found(&server, &world, "context=k7%3Dv").await, ["eighth"]);
}

async fn wrong_queries_are_named(server: Server) {
    let world = server.world().await;
    for (query, field) in [
        ("colour=red", "colour"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=x", "cursor"),
        ("context=novalue", "context"),
        (
            "context=a%3D1%0Ab%3D2%0Auser_id%3D3%0Auser_id%3D4%0Auser_id%3D5%0Auser_id%3D6%0Auser_id%3D7%0Auser_id%3D8%0Auser_id%3D9%0Auser_id%3D10%0Auser_id%3D11",
            "query",
        ),
    ] {
        let answer = server.api("GET", &world.path(&format!("audit/events?{query}")), Value::Null).await;
        answer.names(Code::InvalidRequest, field);
    }
    for query in ["limit=x", "since=yesterday", "since=2026-11-24T00:00:00", "limit=1&limit=2"] {
        let answer = server.api("GET", &world.path(&format!("audit/events?{query}")), Value::Null).await;
        answer.names(Code::InvalidRequest, query.split('=').next().unwrap());
    }
}

async fn an_event_is_shown_in_its_app_only(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let answer = server.token(&world).await;
    let id = answer.header("x-grantd-event-id").to_owned();
    let shown = server.api("GET", &world.path(&format!("audit/events/{id}")), Value::Null).await.ok(200);
    assert_eq!(shown["id"], id.as_str());
    assert_eq!(shown["hash"].as_str().unwrap().len(), 64);
    for path in [other.path(&format!("audit/events/{id}")), world.path(&format!("audit/events/{}", id.to_uppercase()))]
    {
        server.api("GET", &path, Value::Null).await.refused(Code::NotFound);
    }
}

async fn pages_lose_and_double_nothing(server: Server) {
    let world = server.world().await;
    for n in 0..23 {
        call(&server, &world, "{}", &format!("{n:02}")).await.ok(200);
        // Some in the same millisecond.
        server.advance_ms(i64::from(n % 3 == 0));
    }
    let all = server.api("GET", &world.path("audit/events?limit=1000"), Value::Null).await.ok(200);
    let all: Vec<String> = all["items"].as_array().unwrap().iter().map(|e| text(e, "id")).collect();
    assert_eq!(all.len(), 23 + 4, "app, key, secret, grant");
    let mut sorted = all.clone();
    sorted.sort();
    sorted.reverse();
    assert_eq!(sorted, all, "newest first");
    for (limit, query) in
        [(1, ""), (5, ""), (9, ""), (27, ""), (28, ""), (4, "&kind=token.released"), (23, "&kind=token.released")]
    {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = world.path(&format!("audit/events?limit={limit}{query}{cursor}"));
            let page = server.api("GET", &path, Value::Null).await.ok(200);
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|e| text(e, "id")));
            assert_eq!(page["has_more"], json!(!page["next_cursor"].is_null()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert_eq!(items.len(), limit, "a page that goes on is full");
            cursor = format!("&cursor={next}");
            // What happens meanwhile is not in the way.
            if seen.len() == limit {
                server.advance_ms(1);
                call(&server, &world, "{}", "meanwhile").await.ok(200);
            }
        }
        let wanted: Vec<String> = all.iter().filter(|id| seen.contains(id)).cloned().collect();
        let old: Vec<String> = seen.iter().filter(|id| all.contains(id)).cloned().collect();
        assert_eq!(old, wanted, "{limit}");
        assert!(query.is_empty() && old.len() == all.len() || old.len() == 23, "{limit} {query}: {}", old.len());
    }
}

async fn an_export_verifies_and_says_what_it_is(server: Server) {
    let world = server.world().await;
    for n in 0..5 {
        call(&server, &world, r#"{"user_id":"\u00fc\u0001"}"#, &format!("{n} \" \u{1f600}")).await.ok(200);
    }
    let path = world.path("audit/export");
    let (report, first) = server.export(&path).await;
    assert!(report.ok && !report.partial, "{:?}", report.problems);
    assert_eq!(report.events, 5 + 4 + 1, "the export itself is the last event");
    assert!(report.checkpoints == 1 && report.chains >= 1);
    server.advance_ms(1_000);
    let (report, second) = server.export(&path).await;
    assert!(report.ok, "{:?}", report.problems);
    assert_eq!((report.events, report.checkpoints), (11, 2));
    // History is the same in both, line by line.
    let events =
        |text: &str| text.lines().filter(|l| l.contains("\"type\":\"event\"")).map(str::to_owned).collect::<Vec<_>>();
    assert!(events(&first).iter().all(|line| events(&second).contains(line)));
    // The key and the checkpoint of before, kept elsewhere, still fit.
    let line = |kind: &str| {
        let found = first.lines().find(|l| l.contains(&format!("\"type\":\"{kind}\""))).unwrap();
        serde_json::from_str::<Value>(found).unwrap()
    };
    let trust = Trust { key: Some(line("header")["keys"][0].clone()), checkpoint: Some(line("checkpoint")) };
    let report = verify(BufReader::new(second.as_bytes()), &trust).unwrap();
    assert!(report.ok, "{:?}", report.problems);
}

async fn checkpoints_are_listed_newest_first_as_an_export_has_them(server: Server) {
    let world = server.world().await;
    let list = async |query: &str| {
        server.api("GET", &world.path(&format!("audit/checkpoints{query}")), Value::Null).await.ok(200)
    };
    assert_eq!(list("").await, json!({"items": [], "next_cursor": null, "has_more": false}));
    for _ in 0..3 {
        server.export(&world.path("audit/export")).await;
    }
    let (_, export) = server.export(&world.path("audit/export")).await;
    let is_signed = |line: &&str| line.contains(r#""type":"checkpoint""#);
    let mut signed: Vec<Value> = export.lines().filter(is_signed).map(|l| serde_json::from_str(l).unwrap()).collect();
    signed.reverse();
    assert_eq!(list("").await, json!({"items": signed, "next_cursor": null, "has_more": false}));
    let (mut paged, mut query) = (Vec::new(), "?limit=1".to_owned());
    loop {
        let page = list(&query).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    assert_eq!((paged.len(), &paged), (4, &signed));
    server
        .api("GET", &world.path("audit/checkpoints?cursor=x"), Value::Null)
        .await
        .names(Code::InvalidRequest, "cursor");
    let outside = server.api("GET", "/api/v1/audit/checkpoints", Value::Null).await.ok(200);
    assert_eq!(outside["items"], json!([]), "those of the organization are its own");
}

async fn an_export_that_is_overtaken_by_a_checkpoint_verifies(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    let path = world.path("audit/export");
    let slow = server.begin(&path).await;
    server.token(&world).await.ok(200);
    let (report, _) = server.export(&path).await;
    assert_eq!((report.ok, report.checkpoints), (true, 2), "{:?}", report.problems);
    let text = slow.collect().await.unwrap().to_bytes();
    let report = verify(BufReader::new(&*text), &Trust::default()).unwrap();
    assert_eq!((report.ok, report.checkpoints), (true, 1), "{:?}", report.problems);
}

async fn a_filtered_export_says_that_it_is_partial(server: Server) {
    let world = server.world().await;
    for n in 0..3 {
        call(&server, &world, r#"{"user_id":"u1"}"#, &format!("{n}")).await.ok(200);
    }
    for query in ["kind=token.released", "context=user_id%3Du1", "since=2026-11-24T00:00:00Z&kind=token.released"] {
        let (report, text) = server.export(&world.path(&format!("audit/export?{query}"))).await;
        assert!(report.ok && report.partial, "{query}: {:?}", report.problems);
        assert_eq!(report.events, 3, "{query}");
        assert!(!text.lines().next().unwrap().contains("\"filter\":{}"));
    }
}

async fn an_edited_export_is_found_out(server: Server) {
    let world = server.world().await;
    for n in 0..3 {
        call(&server, &world, r#"{"user_id":"u1"}"#, &format!("{n}")).await.ok(200);
    }
    let (_, whole) = server.export(&world.path("audit/export")).await;
    let lines: Vec<&str> = whole.lines().collect();
    let check = |lines: &[&str]| {
        let text = lines.join("\n") + "\n";
        verify(BufReader::new(text.as_bytes()), &Trust { key: None, checkpoint: None }).unwrap().ok
    };
    assert!(check(&lines));
    for index in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(index);
        assert!(!check(&removed), "line {index} is missing");
        let edited = lines[index].replacen('0', "1", 1);
        let mut changed = lines.clone();
        changed[index] = &edited;
        assert!(edited == lines[index] || !check(&changed), "line {index} was edited");
    }
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert!(!check(&swapped) && !check(&lines[..lines.len() - 1]));
}

async fn csv_cells_are_no_formulas(server: Server) {
    let world = server.world().await;
    for reason in ["=1+1", "+1", "-1", "@x", "\t=1", "a,b", "say \"hi\"", "two\nlines\r", "plain"] {
        call(&server, &world, "{}", reason).await.ok(200);
        server.advance_ms(1);
    }
    let answer = server.api("GET", &world.path("audit/export?format=csv&kind=token.released"), Value::Null).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/csv; charset=utf-8"));
    let text = &answer.text;
    for cell in [
        ",'=1+1,",
        ",'+1,",
        ",'-1,",
        ",'@x,",
        ",'\t=1,",
        ",\"a,b\",",
        ",\"say \"\"hi\"\"\",",
        ",\"two\nlines\r\",",
        ",plain,",
    ] {
        assert!(text.contains(cell), "{cell:?} in {text}");
    }
    let head = text.split("\r\n").next().unwrap();
    assert!(head.starts_with("id,at,kind,outcome,") && head.ends_with(",more,chain_id,seq,hash"), "{head}");
    let whole = server.api("GET", &world.path("audit/export?format=csv"), Value::Null).await;
    let told = whole.text.split("\r\n").find(|row| row.contains(",audit.exported,")).unwrap();
    assert!(told.contains("\"\"format\"\":\"\"csv\"\""), "what has no column of its own is there, too: {told}");
}

async fn a_wrong_format_leaves_no_event(server: Server) {
    let world = server.world().await;
    server.api("GET", &world.path("audit/export?format=xml"), Value::Null).await.names(Code::InvalidRequest, "format");
    assert!(server.told(&world, "audit.exported").await.is_empty());
    server.export(&world.path("audit/export")).await;
    assert_eq!(server.told(&world, "audit.exported").await.len(), 1, "an export is an event");
}

async fn the_organizations_trail_is_its_own(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    let events = server.events("/api/v1/audit/export").await;
    let kinds: Vec<&str> = events.iter().map(|e| e["core"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["install.created", "operator.created", "pat.created", "audit.exported"]);
    assert!(events.iter().all(|e| e["core"].get("app_id").is_none()));
    let page = server.api("GET", "/api/v1/audit/events?kind=install.created", Value::Null).await.ok(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

async fn a_secrets_life_is_told(server: Server) {
    let world = server.world().await;
    server.rotate(&world, "canary-2").await.ok(200);
    let path = world.path(&format!("managed-secrets/{}/allowed-hosts", world.secret));
    server.api("PUT", &path, json!({"allowed_hosts": ["*.example.com"]})).await.ok(200);
    let grant = server.grant(&world, json!({"label": "second", "expires_in_seconds": 60})).await;
    server.api("PATCH", &world.path(&format!("grants/{grant}")), json!({"label": "renamed"})).await.ok(200);
    server.revoke(&world, &grant).await.ok(200);
    server.api("POST", &world.path(&format!("grants/{}/revoke", world.grant)), json!({"reason": "gone"})).await.ok(200);
    server.update_app(&world, json!({"name": "Renamed", "retrieve": "off"})).await;
    server.api("POST", &world.path(&format!("keys/{}/revoke", world.key_id)), Value::Null).await.ok(200);
    let trail = server.trail(&world).await;
    let kinds: Vec<&str> = trail.iter().map(|e| e["core"]["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "app.created",
            "key.minted",
            "secret.created",
            "grant.created",
            "credential.rotated",
            "secret.updated",
            "grant.created",
            "grant.updated",
            "grant.revoked",
            "grant.revoked",
            "credential.destroyed",
            "app.updated",
            "key.revoked",
            "audit.exported",
        ]
    );
    assert!(kinds.iter().all(|kind| Kind::ALL.iter().any(|k| k.as_str() == *kind)));
    let changed = |n: usize| &trail[n]["core"]["changed"];
    assert_eq!(changed(5)["allowed_hosts"], json!([["api.example.com"], ["*.example.com"]]));
    assert_eq!(changed(7)["label"], json!(["second", "renamed"]));
    assert_eq!(changed(11), &json!({"name": ["First", "Renamed"], "retrieve": ["on", "off"]}));
    assert_eq!(trail[9]["private"]["reason"], "gone");
    assert!(trail.iter().all(|e| e["core"]["actor"]["type"] == "operator" && e["core"]["request_id"].is_string()));
}
