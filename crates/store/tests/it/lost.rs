//! What only a server can do to us: conflicts found by COMMIT, connections that end, commits nobody knows the fate of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use grantd_store::{Appended, Error, append_event, apps};
use tokio::sync::oneshot;

use crate::engine::{Database, NOW};
use crate::world::{World, only, verified};

/// Runs `action` in the COMMIT of each of the first `times` transactions that change an app.
async fn at_commit(store: &Database, times: u32, action: &str) {
    let sql = format!(
        "CREATE SEQUENCE commits; \
         CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('commits') <= {times} THEN {action}; END IF; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON apps DEFERRABLE INITIALLY DEFERRED \
           FOR EACH ROW EXECUTE FUNCTION at_commit()"
    );
    store.behind_its_back(&sql).await;
}

const CONFLICT: &str = "RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'";
const END: &str = "PERFORM pg_terminate_backend(pg_backend_pid())";

/// Raises the app's epoch and leaves an event; how it ended, and how often the closure ran.
async fn change(store: &Database, world: &World) -> (grantd_store::Result<()>, u32) {
    let (app, event) = (world.app.id, world.release(NOW));
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        counted.fetch_add(1, Ordering::Relaxed);
        apps::raise_epoch(tx, app)?;
        append_event(tx, &event)
    };
    let result = store.write(write).await;
    (result, runs.load(Ordering::Relaxed))
}

async fn a_conflict_found_by_commit_is_tried_again(store: &Database) {
    let world = World::create(store).await;
    at_commit(store, 3, CONFLICT).await;
    let (result, runs) = change(store, &world).await;
    assert!(result.is_ok() && runs == 4, "{result:?} {runs}");
    let report = verified(store, world.owner()).await;
    assert_eq!((report.events, report.chains), (1, 1));
}

async fn conflicts_without_end_are_busy(store: &Database) {
    let world = World::create(store).await;
    at_commit(store, 11, CONFLICT).await;
    let (result, runs) = change(store, &world).await;
    assert!(matches!(result, Err(Error::Busy)) && runs == 11, "{result:?} {runs}");
    assert!(change(store, &world).await.0.is_ok());
    assert_eq!(verified(store, world.owner()).await.events, 1);
}

async fn after_a_commit_of_unknown_fate_a_new_chain_begins(store: &Database) {
    let world = World::create(store).await;
    assert!(change(store, &world).await.0.is_ok());
    at_commit(store, 1, END).await;
    let (result, runs) = change(store, &world).await;
    assert!(matches!(result, Err(Error::Unavailable { .. })) && runs == 1, "{result:?} {runs}");
    assert!(change(store, &world).await.0.is_ok());
    let report = verified(store, world.owner()).await;
    assert_eq!((report.events, report.chains), (2, 2));
}

async fn a_connection_that_ends_within_a_write_undoes_it(store: &Database) {
    let world = World::create(store).await;
    let (entered, inside) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (mut entered, released) = (Some(entered), std::sync::Mutex::new(released));
    let (app, event) = (world.app.id, world.release(NOW));
    let writer = (*store).clone();
    let call = tokio::spawn(async move {
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            append_event(tx, &event)?;
            if let Some(entered) = entered.take() {
                entered.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
            apps::raise_epoch(tx, app)
        };
        writer.write(write).await
    });
    inside.await.unwrap();
    store.end_connections().await;
    release.send(()).unwrap();
    let result = call.await.unwrap();
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    assert!(change(store, &world).await.0.is_ok());
    let report = verified(store, world.owner()).await;
    assert_eq!((report.events, report.chains), (1, 1), "what certainly was undone costs no chain");
}

async fn reads_and_writes_do_not_notice_connections_that_ended(store: &Database) {
    let world = World::create(store).await;
    for epoch in 2..5 {
        store.end_connections().await;
        let (result, runs) = change(store, &world).await;
        assert!(result.is_ok() && runs == 1, "{result:?} {runs}");
        store.end_connections().await;
        let (organization, id) = (world.organization, world.app.id);
        assert!(store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().is_some());
        store.end_connections().await;
        assert_eq!(world.epochs(store).await.app, i64::try_from(epoch).unwrap());
        let report = verified(store, world.owner()).await;
        assert_eq!((report.events, report.chains), (epoch - 1, 1));
    }
}

async fn appends_go_on_after_their_connection_ended(store: &Database) {
    let world = World::create(store).await;
    let mut durable = 0;
    for _ in 0..3 {
        store.end_connections().await;
        // The pool may lend a connection whose end it has not heard of: that call is told so, and it is not lent again.
        let mut failures = 0;
        loop {
            match store.append(only(world.release(NOW))).await {
                Ok(fate) => {
                    assert_eq!(fate, Appended::Done);
                    durable += 1;
                    break;
                }
                Err(e) => assert!(matches!(e, Error::Unavailable { .. }), "{e:?}"),
            }
            failures += 1;
            assert!(failures < 10, "the path does not recover");
        }
    }
    assert_eq!(verified(store, world.owner()).await.events, durable, "what was not sent was not written");
}

on_postgres! {
    a_conflict_found_by_commit_is_tried_again,
    conflicts_without_end_are_busy,
    after_a_commit_of_unknown_fate_a_new_chain_begins,
    a_connection_that_ends_within_a_write_undoes_it,
    reads_and_writes_do_not_notice_connections_that_ended,
    appends_go_on_after_their_connection_ended,
}
