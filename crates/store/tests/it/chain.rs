//! The audit chain stays whole, whatever happens around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use grantd_domain::audit::{Kind, Owner};
use grantd_store::{Append, Appended, Error, Store, append_event, apps, audit};
use grantd_wire::Code;
use tokio::sync::Barrier;

use crate::engine::{Database, NOW, owners};
use crate::world::{World, only, sign_checkpoint, verified};

/// What one of many callers does, and how many events it leaves.
async fn act(store: Store, world: World, i: u32) -> u64 {
    let event = world.release(NOW.plus_ms(i64::from(i % 7)));
    match i % 8 {
        0 | 1 => {
            let append = only(event);
            assert_eq!(store.append(append).await.unwrap(), Appended::Done);
            1
        }
        2 => {
            // Its app's epoch moves all the time: either way is right.
            let confirm = world.confirm(&store).await;
            let append = Append { event, confirm: Some(confirm), nonce: Some(world.nonce(u8::try_from(i).unwrap())) };
            u64::from(store.append(append).await.unwrap() == Appended::Done)
        }
        3 => {
            let mut stale = world.confirm(&store).await;
            stale.epochs.organization += 1;
            let append = Append { event, confirm: Some(stale), nonce: None };
            assert_eq!(store.append(append).await.unwrap(), Appended::Moved);
            0
        }
        4 | 5 => {
            let app = world.app.id;
            let again = world.release(NOW);
            store
                .write(move |tx| {
                    apps::raise_epoch(tx, app)?;
                    append_event(tx, &event)?;
                    append_event(tx, &again)
                })
                .await
                .unwrap();
            2
        }
        6 => {
            let refused = store
                .write(move |tx| {
                    append_event(tx, &event)?;
                    Err::<(), _>(Code::NameTaken.into())
                })
                .await;
            assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
            0
        }
        _ => {
            let panicked = store
                .write(move |tx| {
                    append_event(tx, &event)?;
                    if i > 0 {
                        std::panic::resume_unwind(Box::new("a bug in a closure"));
                    }
                    Ok(())
                })
                .await;
            assert!(matches!(panicked, Err(Error::Panicked)), "{panicked:?}");
            0
        }
    }
}

async fn crowd(stores: &[Store], world: &World, other: &World) -> [u64; 2] {
    let calls: Vec<_> = (0..96u32)
        .map(|i| {
            let world = if i % 3 == 0 { other } else { world };
            tokio::spawn(act(stores[i as usize % stores.len()].clone(), world.clone(), i))
        })
        .collect();
    let mut events = [0, 0];
    for (i, call) in calls.into_iter().enumerate() {
        events[usize::from(i % 3 == 0)] += call.await.unwrap();
    }
    events
}

async fn a_crowd_of_calls_leaves_it_whole(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    let mut expected = [0, 0];
    for _ in 0..3 {
        let events = crowd(&[(*store).clone()], &world, &other).await;
        expected = [expected[0] + events[0], expected[1] + events[1]];
        // Not only at the end: a chain also goes on after a checkpoint.
        verified(store, world.owner()).await;
    }
    for (world, expected) in [(&world, expected[0]), (&other, expected[1])] {
        let report = verified(store, world.owner()).await;
        assert_eq!(report.events, expected);
        let chains = if store.engine_name() == "sqlite" { 1 } else { 2 };
        assert_eq!(report.chains, chains, "one writer has one chain, retries and refusals aside");
    }
    assert_eq!(store.appended(), expected[0] + expected[1]);
    assert_eq!(owners(store).await.len(), 2);
}

async fn two_processes_leave_it_whole(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    let replica = store.open_again("replica").await;
    let mut expected = [0, 0];
    for _ in 0..2 {
        let events = crowd(&[(*store).clone(), replica.clone()], &world, &other).await;
        expected = [expected[0] + events[0], expected[1] + events[1]];
    }
    replica.close().await;
    for (world, expected) in [(&world, expected[0]), (&other, expected[1])] {
        let report = verified(store, world.owner()).await;
        assert_eq!(report.events, expected);
        assert_eq!(report.chains, if store.engine_name() == "sqlite" { 1 } else { 4 });
    }
}

async fn a_reopened_store_goes_on(store: &Database) {
    let world = World::create(store).await;
    let is_sqlite = store.engine_name() == "sqlite";
    for process in 1..=3 {
        let again = store.open_again(&format!("start {process}")).await;
        for _ in 0..2 {
            again.append(only(world.release(NOW))).await.unwrap();
        }
        let report = verified(&again, world.owner()).await;
        assert_eq!((report.events, report.checkpoints), (2 * process, process));
        assert_eq!(report.chains, if is_sqlite { 1 } else { process }, "where others write too, a process begins anew");
        again.close().await;
    }
}

async fn time_never_falls_within_a_chain(store: &Database) {
    let world = World::create(store).await;
    for at in [5, 3, 9, 1] {
        store.append(only(world.release(NOW.plus_ms(at)))).await.unwrap();
    }
    let owner = world.owner();
    let filter = audit::EventFilter { limit: 10, ..Default::default() };
    let found = store.read(move |tx| audit::list(tx, &owner, &filter)).await.unwrap();
    let mut places: Vec<(i64, String)> = found
        .events
        .iter()
        .map(|event| {
            let core: serde_json::Value = serde_json::from_str(&event.core).unwrap();
            (core["seq"].as_i64().unwrap(), core["at"].as_str().unwrap().to_owned())
        })
        .collect();
    places.sort();
    let times: Vec<_> = [5, 5, 9, 9].iter().map(|ms| NOW.plus_ms(*ms).to_string()).collect();
    assert_eq!(places.into_iter().map(|(_, at)| at).collect::<Vec<_>>(), times);
    verified(store, world.owner()).await;
}

async fn a_checkpoint_is_signed_only_when_something_moved(store: &Database) {
    let world = World::create(store).await;
    let owner = world.owner();
    let sign = || store.write(move |tx| sign_checkpoint(tx, &owner, NOW));
    assert!(!sign().await.unwrap(), "nothing happened yet");
    store.append(only(world.release(NOW))).await.unwrap();
    assert!(sign().await.unwrap());
    assert!(!sign().await.unwrap());
    store.append(only(world.release(NOW))).await.unwrap();
    assert!(sign().await.unwrap());
    let signed = store.read(move |tx| audit::checkpoints(tx, &owner, 1)).await.unwrap();
    assert_eq!(signed.iter().map(|c| c.n).collect::<Vec<_>>(), [2]);
    assert_eq!(verified(store, owner).await.checkpoints, 2);
}

async fn a_checkpoint_has_one_number(store: &Database) {
    let world = World::create(store).await;
    let owner = world.owner();
    store.append(only(world.release(NOW))).await.unwrap();
    let checkpoint = store.read(move |tx| audit::next_checkpoint(tx, &owner, NOW)).await.unwrap().unwrap();
    let text = checkpoint.text();
    let signed = crate::world::checkpoint_key().sign_checkpoint(&text);
    let insert = || {
        let (checkpoint, text, signed) = (checkpoint.clone(), text.clone(), signed.clone());
        store.write(move |tx| audit::insert_checkpoint(tx, &owner, &checkpoint, &text, &signed))
    };
    insert().await.unwrap();
    let again = insert().await;
    assert!(matches!(again, Err(Error::Duplicate)), "{again:?}");
    verified(store, owner).await;
}

async fn processes_that_sign_together_make_one_row_of_checkpoints(store: &Database) {
    let world = World::create(store).await;
    let owner = world.owner();
    let replica = store.open_again("replica").await;
    for _ in 0..5 {
        store.append(only(world.release(NOW))).await.unwrap();
        let sign = |store: &Store| {
            let store = store.clone();
            async move { store.write(move |tx| sign_checkpoint(tx, &owner, NOW)).await.unwrap() }
        };
        let (a, b) = tokio::join!(sign(store), sign(&replica));
        assert!(a != b, "one of them had nothing left to sign");
    }
    replica.close().await;
    assert_eq!(verified(store, owner).await.checkpoints, 5);
}

/// Two processes read the same row and change it: the later one has to look again.
async fn a_closure_that_met_another_runs_again(store: &Database) {
    let world = World::create(store).await;
    let replica = store.open_again("replica").await;
    let together = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicU32::new(0));
    let calls = [(*store).clone(), replica.clone()].map(|store| {
        let (world, together, runs) = (world.clone(), Arc::clone(&together), Arc::clone(&runs));
        let event = world.event(NOW, Kind::AppUpdated).prepare();
        let runtime = tokio::runtime::Handle::current();
        tokio::spawn(async move {
            let mut first = true;
            let update = move |tx: &mut grantd_store::Tx<'_>| {
                runs.fetch_add(1, Ordering::Relaxed);
                let app = apps::find(tx, world.organization, world.app.id)?.unwrap();
                if std::mem::take(&mut first) {
                    runtime.block_on(together.wait());
                }
                append_event(tx, &event)?;
                apps::update(tx, &app, app.version)
            };
            store.write(update).await.unwrap();
        })
    });
    for call in calls {
        call.await.unwrap();
    }
    assert!(runs.load(Ordering::Relaxed) > 2, "one of them lost and ran again");
    let (organization, id) = (world.organization, world.app.id);
    let app = store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().unwrap();
    assert_eq!(app.version, 3);
    replica.close().await;
    let report = verified(store, Owner::App(id)).await;
    assert_eq!((report.events, report.chains), (2, 2));
}

/// However many processes want the same row at once, none is sent away.
async fn processes_that_change_one_row_all_get_through(store: &Database) {
    const PROCESSES: u32 = 8;
    const CHANGES: u32 = 25;
    let world = World::create(store).await;
    let (organization, id) = (world.organization, world.app.id);
    let mut at_work = Vec::new();
    for n in 0..PROCESSES {
        let process = store.open_again(&format!("replica {n}")).await;
        let world = world.clone();
        at_work.push(tokio::spawn(async move {
            for _ in 0..CHANGES {
                let event = world.event(NOW, Kind::AppUpdated).prepare();
                let update = move |tx: &mut grantd_store::Tx<'_>| {
                    let app = apps::find(tx, organization, id)?.unwrap();
                    append_event(tx, &event)?;
                    apps::update(tx, &app, app.version)
                };
                process.write(update).await.unwrap();
            }
            process.close().await;
        }));
    }
    for process in at_work {
        process.await.unwrap();
    }
    let app = store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().unwrap();
    assert_eq!(app.version, i64::from(1 + PROCESSES * CHANGES));
}

on_every_engine! {
    a_crowd_of_calls_leaves_it_whole,
    time_never_falls_within_a_chain,
    a_checkpoint_is_signed_only_when_something_moved,
    a_checkpoint_has_one_number,
}

mod kept {
    use super::{
        a_reopened_store_goes_on, processes_that_sign_together_make_one_row_of_checkpoints,
        two_processes_leave_it_whole,
    };
    on_kept_engines! {
        a_reopened_store_goes_on,
        two_processes_leave_it_whole,
        processes_that_sign_together_make_one_row_of_checkpoints,
    }
}

mod server {
    use super::{a_closure_that_met_another_runs_again, processes_that_change_one_row_all_get_through};
    on_postgres! {
        a_closure_that_met_another_runs_again,
        processes_that_change_one_row_all_get_through,
    }
}
