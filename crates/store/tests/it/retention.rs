//! What of a trail is cut off, and what is deleted of it.

use grantd_store::retention::{self, Cut};
use grantd_store::{append_event, audit};
use grantd_wire::TimeMs;

use crate::engine::{Database, NOW};
use crate::world::{World, checkpoint_key, operator_id, sign_checkpoint, verified};

on_every_engine! {
    a_cut_takes_whole_checkpoints_of_old_events_only,
    an_event_that_is_younger_than_its_checkpoint_says_stays,
    what_was_cut_off_is_deleted_when_its_time_has_come_but_for_the_last_event,
    nothing_of_a_held_app_is_deleted,
}

async fn append(store: &Database, world: &World, at: TimeMs, events: usize) {
    for _ in 0..events {
        let event = world.release(at);
        store.write(move |tx| append_event(tx, &event)).await.unwrap();
    }
}

async fn sign(store: &Database, world: &World, at: TimeMs) {
    let owner = world.owner();
    assert!(store.write(move |tx| sign_checkpoint(tx, &owner, at)).await.unwrap());
}

async fn find(store: &Database, world: &World, before: TimeMs) -> Option<Cut> {
    let owner = world.owner();
    store.read(move |tx| retention::find_cut(tx, &owner, before)).await.unwrap()
}

/// Cuts and signs as the server does, to be deleted from `at` on; how many events that were.
async fn cut(store: &Database, world: &World, found: &Cut, at: TimeMs) -> Option<i64> {
    let (owner, found, told) = (world.owner(), found.clone(), world.release(at));
    store
        .write(move |tx| {
            let Some(events) = retention::cut(tx, &owner, &found, at)? else { return Ok(None) };
            append_event(tx, &told)?;
            let mut checkpoint = audit::next_checkpoint(tx, &owner, at)?.unwrap();
            checkpoint.pruned_to = Some(found.pruned_to);
            let text = checkpoint.text();
            audit::insert_checkpoint(tx, &owner, &checkpoint, &text, &checkpoint_key().sign_checkpoint(&text))?;
            Ok(Some(events))
        })
        .await
        .unwrap()
}

/// Rows of events, and of what finds them.
async fn rows(store: &Database, world: &World) -> (i64, i64) {
    let owner = world.owner();
    store.read(move |tx| retention::rows(tx, &owner)).await.unwrap()
}

async fn delete_all(store: &Database, now: TimeMs) -> u64 {
    let mut deleted = 0;
    loop {
        match store.delete_pruned(now).await.unwrap() {
            0 => return deleted,
            some => deleted += some,
        }
    }
}

async fn a_cut_takes_whole_checkpoints_of_old_events_only(store: &Database) {
    let world = World::create(store).await;
    assert_eq!(find(store, &world, NOW).await, None, "there is no trail yet");
    for n in 0..3 {
        append(store, &world, NOW.plus_ms(n * 10), 2).await;
        sign(store, &world, NOW.plus_ms(n * 10)).await;
    }
    let chain = |seq| {
        let world = world.clone();
        async move {
            let owner = world.owner();
            let stretches = store.read(move |tx| audit::stretches(tx, &owner)).await.unwrap();
            vec![(stretches[0].chain_id.clone(), seq)]
        }
    };
    assert_eq!(find(store, &world, NOW).await, None);
    let first = Cut { pruned_to: 1, chains: chain(2).await };
    assert_eq!(find(store, &world, NOW.plus_ms(1)).await.as_ref(), Some(&first));
    assert_eq!(find(store, &world, NOW.plus_ms(10)).await.as_ref(), Some(&first));
    let second = Cut { pruned_to: 2, chains: chain(4).await };
    assert_eq!(find(store, &world, NOW.plus_ms(11)).await.as_ref(), Some(&second));
    assert_eq!(cut(store, &world, &second, NOW.plus_ms(40)).await, Some(4));
    // Another process found the same, or less, before: nothing is cut twice, and no cut goes back.
    for found in [&first, &second] {
        assert_eq!(cut(store, &world, found, NOW.plus_ms(40)).await, None);
    }
    let third = find(store, &world, NOW.plus_ms(21)).await.unwrap();
    assert_eq!(third, Cut { pruned_to: 3, chains: chain(6).await });
    let report = verified(store, world.owner()).await;
    assert_eq!((report.pruned_to, report.events), (Some(2), 3), "two and what tells of the cut");
    // What is signed later still says so.
    append(store, &world, NOW.plus_ms(50), 1).await;
    assert_eq!(verified(store, world.owner()).await.pruned_to, Some(2));
}

async fn an_event_that_is_younger_than_its_checkpoint_says_stays(store: &Database) {
    let world = World::create(store).await;
    // The clock of the process that wrote it was ahead of the one that signed.
    append(store, &world, NOW.plus_ms(100), 1).await;
    sign(store, &world, NOW).await;
    assert_eq!(find(store, &world, NOW.plus_ms(100)).await, None);
    assert!(find(store, &world, NOW.plus_ms(101)).await.is_some());
}

async fn what_was_cut_off_is_deleted_when_its_time_has_come_but_for_the_last_event(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Other").await;
    for each in [&world, &other] {
        append(store, each, NOW, 450).await;
        sign(store, each, NOW).await;
    }
    let later = NOW.plus_ms(1_000);
    let found = find(store, &world, later).await.unwrap();
    // Nobody else writes on: the chain's last event is one that goes.
    let owner = world.owner();
    let cut_silently = move |tx: &mut grantd_store::Tx<'_>| retention::cut(tx, &owner, &found, later);
    assert_eq!(store.write(cut_silently).await.unwrap(), Some(450));
    assert_eq!(delete_all(store, later).await, 0, "what is not indexed yet stays");
    store.index_all().await.unwrap();
    let (events, terms) = rows(store, &world).await;
    assert!(events == 450 && terms >= 450, "{events} {terms}");
    assert_eq!(delete_all(store, later.plus_ms(-1)).await, 0, "its time has not come");
    assert_eq!(store.delete_pruned(later).await.unwrap(), 200, "some at a time");
    assert_eq!(delete_all(store, later).await, 249);
    assert_eq!(rows(store, &world).await, (1, terms / 450));
    assert_eq!(delete_all(store, later).await, 0);
    assert_eq!(rows(store, &other).await, (450, terms));
    // Whoever writes on goes on from the end that was left.
    if store.is_kept() {
        let again = store.open_again("again").await;
        let (owner, event) = (world.owner(), world.release(later));
        again.write(move |tx| append_event(tx, &event)).await.unwrap();
        let heads = again.read(grantd_store::recovery::heads).await.unwrap();
        let last: Vec<i64> = heads[&owner.key()].iter().map(|head| head.seq).collect();
        assert_eq!(last, if store.engine_name() == "sqlite" { vec![451] } else { vec![450, 1] });
        again.close().await;
    }
}

async fn nothing_of_a_held_app_is_deleted(store: &Database) {
    let world = World::create(store).await;
    append(store, &world, NOW, 3).await;
    sign(store, &world, NOW).await;
    store.index_all().await.unwrap();
    let later = NOW.plus_ms(1_000);
    let found = find(store, &world, later).await.unwrap();
    assert_eq!(cut(store, &world, &found, later).await, Some(3));
    let app = world.app.id;
    let hold = retention::Hold { reason: "a case".to_owned(), operator_id: operator_id(), held_at: later };
    store.write(move |tx| retention::hold(tx, app, &hold)).await.unwrap();
    assert_eq!(delete_all(store, later).await, 0);
    assert_eq!(rows(store, &world).await.0, 4);
    assert!(store.write(move |tx| retention::release(tx, app)).await.unwrap());
    assert_eq!(delete_all(store, later).await, 3);
    assert_eq!(rows(store, &world).await.0, 1);
    verified(store, world.owner()).await;
}
