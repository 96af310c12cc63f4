//! Nonces: used once, on all replicas, and only together with the rest of their write.

use grantd_store::hot::{Nonce, use_nonce};
use grantd_store::{Append, Appended, Error, Store, append_event};
use grantd_wire::Code;

use crate::engine::{Database, NOW};
use crate::world::{World, refused, verified};

fn signed(world: &World, nonce: Nonce) -> Append {
    Append { event: world.release(NOW), confirm: None, nonce: Some(nonce) }
}

/// Sends all at once; how many were done. The others were replayed.
async fn send(stores: &[Store], appends: Vec<Append>) -> usize {
    let calls: Vec<_> = appends
        .into_iter()
        .zip(stores.iter().cycle())
        .map(|(append, store)| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        match call.await.unwrap() {
            Appended::Done => done += 1,
            Appended::Replayed => {}
            Appended::Moved => panic!("nothing moved"),
        }
    }
    done
}

async fn a_nonce_is_used_once_among_many_at_once(store: &Database) {
    let world = World::create(store).await;
    let appends = (0..60).map(|i| signed(&world, world.nonce(i % 3))).collect();
    assert_eq!(send(&[(*store).clone()], appends).await, 3);
    assert_eq!(store.append(signed(&world, world.nonce(1))).await.unwrap(), Appended::Replayed);
    assert_eq!(store.append(signed(&world, world.nonce(9))).await.unwrap(), Appended::Done);
    assert_eq!(verified(store, world.owner()).await.events, 4);
}

async fn a_nonce_is_used_once_on_all_replicas(store: &Database) {
    let world = World::create(store).await;
    let replica = store.open_again("replica").await;
    let appends = (0..80).map(|i| signed(&world, world.nonce(i % 10))).collect();
    assert_eq!(send(&[(*store).clone(), replica.clone()], appends).await, 10);
    for store in [&**store, &replica] {
        assert_eq!(store.append(signed(&world, world.nonce(1))).await.unwrap(), Appended::Replayed);
    }
    replica.close().await;
    assert_eq!(verified(store, world.owner()).await.events, 10);
}

async fn nonces_of_another_key_are_others(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    assert_eq!(store.append(signed(&world, world.nonce(1))).await.unwrap(), Appended::Done);
    assert_eq!(store.append(signed(&other, other.nonce(1))).await.unwrap(), Appended::Done);
}

async fn a_call_that_moved_keeps_its_nonce(store: &Database) {
    let world = World::create(store).await;
    let mut stale = world.confirm(store).await;
    stale.epochs.app -= 1;
    let moved = Append { confirm: Some(stale), ..signed(&world, world.nonce(1)) };
    assert_eq!(store.append(moved).await.unwrap(), Appended::Moved);
    assert_eq!(store.append(signed(&world, world.nonce(1))).await.unwrap(), Appended::Done);
}

async fn an_event_that_cannot_be_written_leaves_its_nonce(store: &Database) {
    let world = World::create(store).await;
    let first = signed(&world, world.nonce(1));
    let same_event = Append { nonce: Some(world.nonce(2)), ..first.clone() };
    assert_eq!(store.append(first).await.unwrap(), Appended::Done);
    let good = signed(&world, world.nonce(3));
    let (bad, good) = tokio::join!(store.append(same_event), store.append(good));
    assert!(matches!(bad, Err(Error::Duplicate)), "{bad:?}");
    assert_eq!(good.unwrap(), Appended::Done, "the others of its group do not suffer");
    assert_eq!(store.append(signed(&world, world.nonce(2))).await.unwrap(), Appended::Done);
    assert_eq!(verified(store, world.owner()).await.events, 3);
}

async fn a_refused_write_keeps_its_nonce(store: &Database) {
    let world = World::create(store).await;
    let nonce = world.nonce(1);
    let result: grantd_store::Result<()> = store
        .write(move |tx| {
            use_nonce(tx, &nonce)?;
            Err(Code::NameTaken.into())
        })
        .await;
    assert_eq!(refused(result), Code::NameTaken);
    let event = world.release(NOW);
    let write = move || {
        let event = event.clone();
        store.write(move |tx| {
            append_event(tx, &event)?;
            use_nonce(tx, &nonce)
        })
    };
    write().await.unwrap();
    let world_2 = world.clone();
    let again = store
        .write(move |tx| {
            append_event(tx, &world_2.release(NOW))?;
            use_nonce(tx, &nonce)
        })
        .await;
    assert!(matches!(again, Err(Error::Replayed)), "{again:?}");
    assert_eq!(store.append(signed(&world, nonce)).await.unwrap(), Appended::Replayed);
    assert_eq!(verified(store, world.owner()).await.events, 1);
}

async fn old_nonces_are_forgotten(store: &Database) {
    let world = World::create(store).await;
    let at = |n: u8, seconds| Nonce { signed_at: NOW.plus_seconds(seconds), ..world.nonce(n) };
    for nonce in [at(1, 0), at(2, 10)] {
        store.append(signed(&world, nonce)).await.unwrap();
    }
    assert_eq!(store.prune_nonces(NOW.plus_seconds(10)).await.unwrap(), 1);
    assert_eq!(store.append(signed(&world, at(2, 10))).await.unwrap(), Appended::Replayed);
    assert_eq!(store.append(signed(&world, at(1, 0))).await.unwrap(), Appended::Done);
}

/// More than a row of a group holds.
async fn nonces_outlive_the_process(store: &Database) {
    let world = World::create(store).await;
    let appends = (0..70).map(|n| signed(&world, world.nonce(n))).collect();
    assert_eq!(send(&[(*store).clone()], appends).await, 70);
    let next = store.open_again("next").await;
    for n in 0..70 {
        assert_eq!(next.append(signed(&world, world.nonce(n))).await.unwrap(), Appended::Replayed, "{n}");
    }
    assert_eq!(next.prune_nonces(NOW.plus_ms(1)).await.unwrap(), 70);
    next.close().await;
}

on_every_engine! {
    a_nonce_is_used_once_among_many_at_once,
    nonces_of_another_key_are_others,
    a_call_that_moved_keeps_its_nonce,
    an_event_that_cannot_be_written_leaves_its_nonce,
    a_refused_write_keeps_its_nonce,
    old_nonces_are_forgotten,
}

mod kept {
    use super::{a_nonce_is_used_once_on_all_replicas, nonces_outlive_the_process};
    on_kept_engines! {
        a_nonce_is_used_once_on_all_replicas,
        nonces_outlive_the_process,
    }
}
