//! Finding events again.

use grantd_domain::audit::{Kind, Owner, term};
use grantd_store::audit::{self, EventFilter};
use grantd_wire::TimeMs;
use grantd_wire::ids::EventId;

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
    let (shown, exported) = store
        .read(move |tx| Ok((audit::list(tx, &owner, &filter)?, audit::export_filtered(tx, &owner, &filter)?)))
        .await
        .unwrap();
    let ids: Vec<_> = shown.into_iter().map(|e| e.id).collect();
    assert_eq!(exported.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids, "an export finds what a list finds");
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
        since: Some(NOW.plus_ms(1)),
        until: Some(NOW.plus_ms(3)),
        before: Some(denied[7]),
        limit: 100,
    };
    assert_eq!(page(store, world.owner(), window).await, newest_first(&denied[2..7]));
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
    let app = world.app.id;
    let terms = [
        term("key_id", &world.key.id.to_string()),
        term("grant_id", &world.grant.id.to_string()),
        term("token_generation", &generation.to_string()),
    ];
    let has = |terms: [i64; 3], since: TimeMs| store.read(move |tx| audit::has_release(tx, app, &terms, since));
    assert!(has(terms, at).await.unwrap());
    assert!(!has(terms, at.plus_ms(1)).await.unwrap());
    let other = term("token_generation", &generation_id().to_string());
    assert!(!has([terms[0], terms[1], other], NOW).await.unwrap());
    let elsewhere = app_id();
    assert!(!store.read(move |tx| audit::has_release(tx, elsewhere, &terms, NOW)).await.unwrap());
}

on_every_engine! {
    pages_follow_each_other_exactly,
    times_bound_a_page_to_the_millisecond,
    terms_are_all_required,
    one_event_is_found_in_its_app,
    a_release_is_remembered_for_its_claim,
}
