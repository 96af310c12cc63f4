//! Finding events again.

use grantd_domain::audit::{Kind, Owner, term};
use grantd_store::audit::{self, EventFilter};
use grantd_wire::ids::EventId;
use grantd_wire::{TimeMs, limits};

use crate::engine::{Database, NOW};
use crate::world::{World, app_id, generation_id, grant_id, only};

/// Fifty events, ten a millisecond, every fifth a denial; their ids, oldest first.
async fn fifty(store: &Database, world: &World) -> Vec<EventId> {
    let mut ids = Vec::new();
    for i in 0..50 {
        let kind = if i % 5 == 0 { Kind::TokenDenied } else { Kind::TokenReleased };
        let event = world.event(NOW.plus_ms(i / 10), kind).grant(world.grant.id);
        ids.push(event.id());
        store.append(only(event.prepare())).await.unwrap();
    }
    ids
}

async fn page(store: &Database, owner: Owner, filter: EventFilter) -> Vec<EventId> {
    store.catch_up(owner).await.unwrap();
    let (shown, exported) = store
        .read(move |tx| Ok((audit::list(tx, &owner, &filter)?, audit::export_filtered(tx, &owner, &filter)?)))
        .await
        .unwrap();
    let ids: Vec<_> = shown.events.iter().map(|e| e.id).collect();
    let id_of = |core: &str| serde_json::from_str::<serde_json::Value>(core).unwrap()["id"].clone();
    let exported_ids: Vec<_> = exported.events.iter().map(|e| id_of(&e.core)).collect();
    assert_eq!(
        exported_ids,
        ids.iter().map(|id| serde_json::json!(id)).collect::<Vec<_>>(),
        "an export finds the same"
    );
    assert_eq!(shown.next, exported.next);
    ids
}

fn newest_first(ids: &[EventId]) -> Vec<EventId> {
    ids.iter().rev().copied().collect()
}

async fn pages_follow_each_other_exactly(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let filter = EventFilter { before, limit: 7, ..Default::default() };
        let found = page(store, world.owner(), filter).await;
        before = found.last().copied();
        seen.extend(found);
        if before.is_none() || seen.len() > 60 {
            break;
        }
    }
    assert_eq!(seen, newest_first(&ids));
    let elsewhere = Owner::App(app_id());
    assert_eq!(page(store, elsewhere, EventFilter { limit: 9, ..Default::default() }).await, []);
}

async fn times_bound_a_page_to_the_millisecond(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let between = |since: Option<i64>, until: Option<i64>| {
        let (since, until) = (since.map(|ms| NOW.plus_ms(ms)), until.map(|ms| NOW.plus_ms(ms)));
        page(store, world.owner(), EventFilter { since, until, limit: 100, ..Default::default() })
    };
    assert_eq!(between(Some(1), Some(2)).await, newest_first(&ids[10..30]));
    assert_eq!(between(Some(4), None).await, newest_first(&ids[40..]));
    assert_eq!(between(None, Some(0)).await, newest_first(&ids[..10]));
    assert_eq!(between(Some(5), None).await, []);
    assert_eq!(between(None, Some(-1)).await, []);
    let both = EventFilter { until: Some(NOW.plus_ms(3)), before: Some(ids[22]), limit: 100, ..Default::default() };
    assert_eq!(page(store, world.owner(), both).await, newest_first(&ids[..22]));
}

async fn terms_are_all_required(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let denied: Vec<_> = ids.iter().step_by(5).copied().collect();
    let kind = term("kind", Kind::TokenDenied.as_str());
    let grant = term("grant_id", &world.grant.id.to_string());
    let key = term("key_id", &world.key.id.to_string());
    let with = |terms: Vec<i64>, limit| page(store, world.owner(), EventFilter { terms, limit, ..Default::default() });
    assert_eq!(with(vec![kind], 100).await, newest_first(&denied));
    assert_eq!(with(vec![grant, kind, key], 3).await, newest_first(&denied[7..]));
    assert_eq!(with(vec![grant, term("grant_id", &grant_id().to_string())], 100).await, []);
    let window = EventFilter {
        terms: vec![grant, kind],
        compared: Vec::new(),
        since: Some(NOW.plus_ms(1)),
        until: Some(NOW.plus_ms(3)),
        before: Some(denied[7]),
        limit: 100,
    };
    assert_eq!(page(store, world.owner(), window).await, newest_first(&denied[2..7]));
}

async fn what_is_common_is_compared_and_not_indexed(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let released: Vec<_> = ids.iter().enumerate().filter(|(i, _)| i % 5 != 0).map(|(_, id)| *id).collect();
    let kind = term("kind", Kind::TokenReleased.as_str());
    let with = |terms: Vec<i64>, limit, before| {
        let filter = EventFilter { terms, compared: vec![kind], limit, before, ..Default::default() };
        page(store, world.owner(), filter)
    };
    assert_eq!(with(Vec::new(), 100, None).await, newest_first(&released));
    let grant = term("grant_id", &world.grant.id.to_string());
    assert_eq!(with(vec![grant], 3, None).await, newest_first(&released[37..]));
    assert_eq!(with(vec![grant], 3, Some(released[37])).await, newest_first(&released[34..37]));
    assert_eq!(with(vec![kind], 100, None).await, [], "no index holds what nearly every event has");
}

async fn looking_for_what_is_rare_stops_and_says_where(store: &Database) {
    let world = World::create(store).await;
    let rare = world.event(NOW, Kind::AppUpdated);
    let rare_id = rare.id();
    store.append(only(rare.prepare())).await.unwrap();
    let events: Vec<_> =
        (0..limits::AUDIT_SCAN_MAX).map(|_| world.event(NOW.plus_ms(1), Kind::TokenReleased)).collect();
    let ids: Vec<_> = events.iter().map(grantd_domain::audit::Event::id).collect();
    let events: Vec<_> = events.into_iter().map(grantd_domain::audit::Event::prepare).collect();
    let write = move |tx: &mut grantd_store::Tx<'_>| events.iter().try_for_each(|e| grantd_store::append_event(tx, e));
    store.write(write).await.unwrap();
    let compared = vec![term("kind", Kind::AppUpdated.as_str())];
    let list = |before| {
        let (owner, filter) =
            (world.owner(), EventFilter { compared: compared.clone(), limit: 1, before, ..Default::default() });
        store.read(move |tx| audit::list(tx, &owner, &filter))
    };
    let found = list(None).await.unwrap();
    let oldest = ids.iter().min().copied();
    assert_eq!((found.events.len(), found.next), (0, oldest), "exactly as many were looked at as may be");
    let found = list(found.next).await.unwrap();
    assert_eq!(found.events.iter().map(|e| e.id).collect::<Vec<_>>(), [rare_id]);
}

async fn the_index_follows_once_and_for_any_process(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let (owner, key) = (world.owner(), term("key_id", &world.key.id.to_string()));
    let filter = EventFilter { terms: vec![key], limit: 100, ..Default::default() };
    let find = || {
        let filter = filter.clone();
        store.read(move |tx| audit::list(tx, &owner, &filter))
    };
    assert_eq!(find().await.unwrap().events.len(), 0, "nothing was indexed yet");
    let (first, second, third) = tokio::join!(store.catch_up(owner), store.catch_up(owner), store.catch_up(owner));
    first.and(second).and(third).unwrap();
    assert_eq!(find().await.unwrap().events.len(), ids.len());
    assert_eq!(store.index_own().await.unwrap(), 0);
    store.append(only(world.release(NOW))).await.unwrap();
    assert_eq!(store.index_own().await.unwrap(), 1);
    store.append(only(world.release(NOW))).await.unwrap();
    assert_eq!(store.index_all().await.unwrap(), 1);
    assert_eq!(find().await.unwrap().events.len(), ids.len() + 2);
}

async fn one_event_is_found_in_its_app(store: &Database) {
    let world = World::create(store).await;
    let ids = fifty(store, &world).await;
    let (owner, id) = (world.owner(), ids[17]);
    let find = move |owner| store.read(move |tx| audit::find(tx, &owner, id));
    let found = find(owner).await.unwrap().unwrap();
    assert!(found.core.contains("\"seq\":18") && found.private.is_none() && found.hash.len() == 64, "{found:?}");
    assert!(find(Owner::App(app_id())).await.unwrap().is_none());
}

async fn a_release_is_remembered_for_its_claim(store: &Database) {
    let world = World::create(store).await;
    let generation = generation_id();
    let at = NOW.plus_ms(1_000);
    let event = world.event(at, Kind::TokenReleased).grant(world.grant.id).generation(generation);
    store.append(only(event.prepare())).await.unwrap();
    store.catch_up(world.owner()).await.unwrap();
    let has = |app, generation, since: TimeMs| {
        let (grant, key) = (world.grant.id, world.key.id);
        store.read(move |tx| audit::has_release(tx, app, grant, key, generation, since))
    };
    assert!(has(world.app.id, generation, at).await.unwrap());
    assert!(!has(world.app.id, generation, at.plus_ms(1)).await.unwrap());
    assert!(!has(world.app.id, generation_id(), NOW).await.unwrap());
    assert!(!has(app_id(), generation, NOW).await.unwrap());
}

on_every_engine! {
    pages_follow_each_other_exactly,
    times_bound_a_page_to_the_millisecond,
    terms_are_all_required,
    what_is_common_is_compared_and_not_indexed,
    looking_for_what_is_rare_stops_and_says_where,
    the_index_follows_once_and_for_any_process,
    one_event_is_found_in_its_app,
    a_release_is_remembered_for_its_claim,
}
