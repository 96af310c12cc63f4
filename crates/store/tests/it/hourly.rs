//! What is counted for each hour: of every event once, whoever counts.

use grantd_domain::audit::{Kind, Owner};
use grantd_domain::hourly::{Bucket, HOUR_MS, What, hour_of};
use grantd_store::hourly::{self, Counted};
use grantd_wire::{Code, TimeMs};

use crate::engine::{Database, NOW};
use crate::world::{World, only};

on_every_engine! {
    each_event_counts_once_and_for_its_organization_too,
    processes_that_count_the_same_events_count_them_once,
    what_is_counted_beside_events_is_added,
    steps_are_put_together_and_old_hours_forgotten,
}

async fn counted(store: &Database, owner: Owner) -> Vec<(i64, What, i64)> {
    let (from, to) = (TimeMs(0), NOW.plus_ms(1_000 * HOUR_MS));
    let found = store.read(move |tx| hourly::list(tx, &owner, from, to, HOUR_MS)).await.unwrap();
    found.into_iter().map(|Counted { from, what, times }| (from.0, what, times)).collect()
}

async fn append(store: &Database, world: &World, after_ms: i64, kind: Kind) {
    let event = world.event(NOW.plus_ms(after_ms), kind);
    let event = if kind == Kind::TokenDenied { event.code(Code::GrantRevoked) } else { event };
    store.append(only(event.prepare())).await.unwrap();
}

async fn each_event_counts_once_and_for_its_organization_too(store: &Database) {
    let world = World::create(store).await;
    for kind in
        [Kind::TokenReleased, Kind::TokenReleased, Kind::TokenDenied, Kind::KeyRenamed, Kind::CredentialRefreshed]
    {
        append(store, &world, 0, kind).await;
    }
    append(store, &world, HOUR_MS, Kind::TokenReleased).await;
    assert_eq!(counted(store, world.owner()).await, []);
    for _ in 0..2 {
        store.index_own().await.unwrap();
        store.index_all().await.unwrap();
        store.catch_up(world.owner()).await.unwrap();
        let hour = hour_of(NOW).0;
        let mut expected = vec![
            (hour, What::Allowed, 2),
            (hour, What::Refreshed, 1),
            (hour, What::Refused(Some(Code::GrantRevoked)), 1),
            (hour + HOUR_MS, What::Allowed, 1),
        ];
        assert_eq!(counted(store, world.owner()).await, expected);
        let organization = Owner::Organization(world.app.organization_id);
        let mut found = counted(store, organization).await;
        found.sort_by_key(|(hour, what, _)| (*hour, what.text()));
        expected.sort_by_key(|(hour, what, _)| (*hour, what.text()));
        assert_eq!(found, expected);
    }
}

async fn processes_that_count_the_same_events_count_them_once(store: &Database) {
    let world = World::create(store).await;
    for round in 1..=5 {
        for _ in 0..20 {
            append(store, &world, 0, Kind::TokenReleased).await;
        }
        let (a, b, c) = tokio::join!(store.index_all(), store.index_own(), store.index_all());
        a.and(b).and(c).unwrap();
        assert_eq!(counted(store, world.owner()).await, [(hour_of(NOW).0, What::Allowed, 20 * round)]);
    }
}

async fn what_is_counted_beside_events_is_added(store: &Database) {
    let world = World::create(store).await;
    let took = |us: u64| What::Took(Bucket::of_us(us));
    let hour = hour_of(NOW);
    // More than one write takes.
    let mut counts: Vec<_> =
        (0..1_200).map(|n| (world.app.id, hour.plus_ms(n % 40 * HOUR_MS), took(1_000), 1)).collect();
    counts.push((world.app.id, hour, took(9_000), 3));
    store.count(counts).await.unwrap();
    store.count(vec![(world.app.id, hour, took(9_000), 2)]).await.unwrap();
    store.count(Vec::new()).await.unwrap();
    for owner in [world.owner(), Owner::Organization(world.app.organization_id)] {
        let found = counted(store, owner).await;
        assert_eq!(found.len(), 41);
        assert!(found.contains(&(hour.0, took(9_000), 5)) && found.contains(&(hour.0, took(1_000), 30)), "{found:?}");
    }
}

async fn steps_are_put_together_and_old_hours_forgotten(store: &Database) {
    let world = World::create(store).await;
    let day = TimeMs(NOW.0.div_euclid(24 * HOUR_MS) * 24 * HOUR_MS);
    let counts = (0..48).map(|hour| (world.app.id, day.plus_ms(hour * HOUR_MS), What::Allowed, 1)).collect();
    store.count(counts).await.unwrap();
    let owner = world.owner();
    let list = move |from: TimeMs, to: TimeMs, step: i64| async move {
        let found = store.read(move |tx| hourly::list(tx, &owner, from, to, step)).await.unwrap();
        found.into_iter().map(|counted| (counted.from, counted.times)).collect::<Vec<_>>()
    };
    let next = day.plus_ms(24 * HOUR_MS);
    assert_eq!(list(day, next.plus_ms(24 * HOUR_MS), 24 * HOUR_MS).await, [(day, 24), (next, 24)]);
    assert_eq!(list(day.plus_ms(1), next, 24 * HOUR_MS).await, [(day, 23)], "an hour counts from its beginning on");
    assert_eq!(list(day, day.plus_ms(1), HOUR_MS).await, [(day, 1)]);
    assert_eq!(list(day, day, HOUR_MS).await, []);
    assert_eq!(store.write(move |tx| hourly::prune(tx, &owner, next)).await.unwrap(), 24);
    assert_eq!(list(day, next.plus_ms(24 * HOUR_MS), 24 * HOUR_MS).await, [(next, 24)]);
}
