//! Writes: whole or not at all, grouped where that is free, answered when they are durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grantd_store::{Appended, Error, append_event, apps, keys};
use grantd_wire::Code;
use tokio::sync::oneshot;

use crate::engine::{Database, NOW};
use crate::world::{World, app, key, only, refused, verified};

async fn a_refused_write_leaves_nothing(store: &Database) {
    let world = World::create(store).await;
    let (organization, event) = (world.organization, world.release(NOW));
    let new = app(organization, "New");
    let id = new.id;
    let result: grantd_store::Result<()> = store
        .write(move |tx| {
            apps::insert(tx, &new)?;
            append_event(tx, &event)?;
            Err(Code::NameTaken.into())
        })
        .await;
    assert_eq!(refused(result), Code::NameTaken);
    assert!(store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().is_none());
    assert_eq!(verified(store, world.owner()).await.events, 0);
}

/// PostgreSQL answers the COMMIT of a failed transaction with success; SQLite would keep the other half.
async fn a_failure_that_a_closure_overlooks_still_undoes_it(store: &Database) {
    let world = World::create(store).await;
    let (organization, hash, app_id) = (world.organization, world.key_hash, world.app.id);
    let new = app(organization, "New");
    let late = app(organization, "Late");
    let (id, late_id) = (new.id, late.id);
    let result = store
        .write(move |tx| {
            apps::insert(tx, &new)?;
            drop(keys::insert(tx, &key(app_id, "Twin"), &hash));
            drop(apps::insert(tx, &late));
            Ok(())
        })
        .await;
    assert!(matches!(result, Err(Error::Duplicate)), "{result:?}");
    for id in [id, late_id] {
        assert!(store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().is_none());
    }
}

async fn a_failure_may_be_given_another_name(store: &Database) {
    let world = World::create(store).await;
    let (hash, app) = (world.key_hash, world.app.id);
    let result = store
        .write(move |tx| keys::insert(tx, &key(app, "Twin"), &hash).map_err(|_| Error::from(Code::NameTaken)))
        .await;
    assert_eq!(refused(result), Code::NameTaken);
}

async fn a_panic_is_its_callers_alone(store: &Database) {
    let world = World::create(store).await;
    let (organization, id) = (world.organization, world.app.id);
    let write = |panics: bool| {
        let store = (*store).clone();
        tokio::spawn(async move {
            let update = move |tx: &mut grantd_store::Tx<'_>| {
                apps::raise_epoch(tx, id)?;
                if panics {
                    std::panic::resume_unwind(Box::new("a bug in a closure"));
                }
                Ok(())
            };
            store.write(update).await
        })
    };
    let calls: Vec<_> = (0..20).map(|i| (i % 2 == 0, write(i % 2 == 0))).collect();
    for (panics, call) in calls {
        let result = call.await.unwrap();
        assert_eq!(matches!(result, Err(Error::Panicked)), panics, "{result:?}");
    }
    assert_eq!(world.epochs(store).await.app, 11);
    let read = store
        .read(move |tx| {
            apps::find(tx, organization, id)?;
            std::panic::resume_unwind(Box::new("a bug in a closure"));
            #[expect(unreachable_code, reason = "says what the closure would answer")]
            Ok(())
        })
        .await;
    assert!(matches!(read, Err(Error::Panicked)), "{read:?}");
    store.ping().await.unwrap();
}

async fn many_appends_share_a_commit(store: &Database) {
    let world = World::create(store).await;
    store.append(only(world.release(NOW))).await.unwrap();
    let before = store.commits();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let (store, append) = ((*store).clone(), only(world.release(NOW)));
            tokio::spawn(async move { store.append(append).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Appended::Done);
    }
    let after = store.commits();
    assert_eq!(after.calls - before.calls, 200);
    assert!(after.groups - before.groups < 200, "{before:?} {after:?}");
    assert_eq!(store.appended(), 201);
}

/// The writer is held inside one closure; whatever comes meanwhile waits for one commit.
async fn what_waits_for_the_writer_is_one_group(store: &Database) {
    let is_sqlite = store.engine_name() == "sqlite";
    let world = World::create(store).await;
    let (entered, inside) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (mut entered, released) = (Some(entered), std::sync::Mutex::new(released));
    let holder = (*store).clone();
    let hold = tokio::spawn(async move {
        let wait = move |_: &mut grantd_store::Tx<'_>| {
            if let Some(entered) = entered.take() {
                entered.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
            Ok(())
        };
        holder.write(wait).await
    });
    inside.await.unwrap();
    let before = store.commits();
    let id = world.app.id;
    let waiting = futures(30, || {
        let store = (*store).clone();
        async move { store.write(move |tx| apps::raise_epoch(tx, id)).await }
    });
    let mut waiting = std::pin::pin!(waiting);
    // Polled once, so that all of them stand in the queue.
    assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err());
    assert_eq!(store.commits(), before, "nobody is answered before the commit");
    release.send(()).unwrap();
    hold.await.unwrap().unwrap();
    waiting.await;
    let after = store.commits();
    assert_eq!(after.calls - before.calls, 31);
    // The holder's own, and the rest: on PostgreSQL a closure is a transaction.
    assert_eq!(after.groups - before.groups, if is_sqlite { 2 } else { 31 });
    assert_eq!(world.epochs(store).await.app, 31);
}

/// Runs `n` futures of one kind in this task; all are polled before any is waited for.
async fn futures<F: Future<Output = grantd_store::Result<()>>>(n: usize, make: impl Fn() -> F) {
    let mut waiting: Vec<_> = (0..n).map(|_| Box::pin(make())).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                result.unwrap();
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn a_caller_that_goes_away_does_not_stop_its_write(store: &Database) {
    let world = World::create(store).await;
    let (entered, inside) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (mut entered, released) = (Some(entered), std::sync::Mutex::new(released));
    let event = world.release(NOW);
    let caller = (*store).clone();
    let call = tokio::spawn(async move {
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            if let Some(entered) = entered.take() {
                entered.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
            append_event(tx, &event)
        };
        caller.write(write).await
    });
    inside.await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    // The next write comes after it.
    store.write(|_| Ok(())).await.unwrap();
    assert_eq!(store.appended(), 1, "a checkpoint job hears of it");
    assert_eq!(verified(store, world.owner()).await.events, 1);
}

async fn closing_waits_for_what_was_submitted(store: &Database) {
    let world = World::create(store).await;
    let closing = store.open_again("closing").await;
    let id = world.app.id;
    let all_in = Arc::new(AtomicBool::new(false));
    let closer = (Arc::clone(&all_in), closing.clone());
    let calls = futures(40, || {
        let (store, append) = (closing.clone(), only(world.release(NOW)));
        async move {
            store.append(append).await.map(drop)?;
            Ok(())
        }
    });
    let writes = futures(20, || {
        let store = closing.clone();
        async move { store.write(move |tx| apps::raise_epoch(tx, id)).await }
    });
    let close = async move {
        // `join!` polls in order: by now every call above stands in a queue.
        closer.0.store(true, Ordering::Relaxed);
        closer.1.close().await;
    };
    tokio::join!(biased; calls, writes, close);
    assert!(all_in.load(Ordering::Relaxed));
    let late = closing.append(only(world.release(NOW))).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");
    let late = closing.write(move |tx| apps::raise_epoch(tx, id)).await;
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");
    let late = closing.ping().await;
    assert!(matches!(late, Err(Error::Unavailable { .. })), "{late:?}");
    assert_eq!(verified(store, world.owner()).await.events, 40);
    assert_eq!(world.epochs(store).await.app, 21);
}

on_every_engine! {
    a_refused_write_leaves_nothing,
    a_failure_that_a_closure_overlooks_still_undoes_it,
    a_failure_may_be_given_another_name,
    a_panic_is_its_callers_alone,
    many_appends_share_a_commit,
    what_waits_for_the_writer_is_one_group,
    a_caller_that_goes_away_does_not_stop_its_write,
}

mod kept {
    use super::closing_waits_for_what_was_submitted;
    on_kept_engines! { closing_waits_for_what_was_submitted, }
}
