//! A copy of a database that is being written to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use grantd_store::{Location, Store, apps, copy_database, facts};

use crate::engine::{self, Database, NOW};
use crate::world::{World, only, verified};

/// Every write raises the epoch and leaves an event, so in any one snapshot the two numbers belong together.
async fn keep_writing(store: Store, world: World, stop: Arc<AtomicBool>) {
    let app = world.app.id;
    while !stop.load(Ordering::Relaxed) {
        let event = world.release(NOW);
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            apps::raise_epoch(tx, app)?;
            grantd_store::append_event(tx, &event)
        };
        store.write(write).await.unwrap();
    }
}

#[test]
fn a_copy_is_one_snapshot_whatever_is_written_meanwhile() {
    engine::on_file(|db: Arc<Database>| async move {
        let Location::File(path) = db.location.clone() else { panic!("a file") };
        let world = World::create(&db).await;
        // More than one step of copying.
        for _ in 0..2 {
            let big = world.event(NOW, grantd_domain::audit::Kind::TokenReleased);
            let big = big.private("reason", Some("x".repeat(900_000))).prepare();
            db.append(only(big)).await.unwrap();
        }
        let before = world.epochs(&db).await.app;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = db.open_again("writer").await;
        let writing = tokio::spawn(keep_writing(writer.clone(), world.clone(), Arc::clone(&stop)));
        for n in 0..3 {
            let to = path.with_file_name(format!("copy-{n}.db"));
            std::fs::File::create(&to).unwrap();
            let (from, copied) = (path.clone(), to.clone());
            let (facts, steps) = tokio::task::spawn_blocking(move || {
                let mut steps = Vec::new();
                let facts = copy_database(&from, &copied, facts::read, &mut |p| steps.push(p));
                (facts.unwrap(), steps)
            })
            .await
            .unwrap();
            assert!(steps.len() > 1 && steps.windows(2).all(|w| w[0].done < w[1].done && w[0].total == w[1].total));
            assert_eq!(steps.last().map(|p| p.done), Some(std::fs::metadata(&to).unwrap().len()));
            let copy = Store::open(&Location::File(to), "copy", 1).await.unwrap();
            let seen = copy.read(facts::read).await.unwrap();
            assert_eq!(seen, facts, "what was read is what was copied");
            assert_eq!(world.epochs(&copy).await.app - before, seen.counts.events - 2);
            assert_eq!(verified(&copy, world.owner()).await.events, u64::try_from(seen.counts.events).unwrap());
            copy.close().await;
        }
        stop.store(true, Ordering::Relaxed);
        writing.await.unwrap();
        writer.close().await;
    });
}

#[test]
fn damage_is_found_and_no_copy_is_answered() {
    engine::on_file(|db: Arc<Database>| async move {
        let Location::File(path) = db.location.clone() else { panic!("a file") };
        World::create(&db).await;
        db.raise_clock_floor(NOW).await.unwrap();
        let whole = path.with_file_name("whole.db");
        std::fs::File::create(&whole).unwrap();
        copy_database(&path, &whole, |_| Ok(()), &mut |_| {}).unwrap();
        assert_eq!(grantd_store::check_database(&whole).unwrap(), None);
        // The second page is some table's or index's root: without its head it is none.
        let mut bytes = std::fs::read(&whole).unwrap();
        bytes[4096..4196].fill(0xee);
        std::fs::write(&whole, &bytes).unwrap();
        let again = path.with_file_name("again.db");
        std::fs::File::create(&again).unwrap();
        assert!(!matches!(grantd_store::check_database(&whole), Ok(None)));
        assert!(copy_database(&whole, &again, |_| Ok(()), &mut |_| {}).is_err());
    });
}
