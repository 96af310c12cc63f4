//! SQLite on a full disk: nothing of the group is applied, everybody is told, and no restart is needed afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;

use grantd_domain::audit::Prepared;
use grantd_store::{Appended, Error, Location, Store, append_event, apps};

use crate::engine::{self, Database, NOW};
use crate::world::{World, only, verified};

/// A small file system of its own; `None` where we may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let at = engine::directory();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&at).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        std::fs::remove_dir(&at).unwrap();
        None
    }

    /// Leaves no free byte; the file that does it.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let block = vec![0; 4096];
        let mut file = std::fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
        drop(std::fs::remove_dir(&self.0));
    }
}

fn is_unavailable<T>(result: &grantd_store::Result<T>) -> bool {
    matches!(result, Err(Error::Unavailable { .. }))
}

/// An event too big for what is left, whatever that is.
fn big(world: &World) -> Prepared {
    world.event(NOW, grantd_domain::audit::Kind::TokenReleased).private("reason", Some("x".repeat(600_000))).prepare()
}

/// Fills the disk, sees every caller told, makes room, and sees everything go on.
async fn run_full(store: &Store, world: &World, fill: impl AsyncFnOnce(), make_room: impl AsyncFnOnce()) {
    let before = world.epochs(store).await;
    store.append(only(world.release(NOW))).await.unwrap();
    fill().await;
    let app = world.app.id;
    let calls: Vec<_> = (0..12)
        .map(|i| {
            let (store, world) = (store.clone(), world.clone());
            tokio::spawn(async move {
                let event = big(&world);
                match i % 3 {
                    0 => is_unavailable(&store.append(only(event)).await),
                    1 => {
                        let write = move |tx: &mut grantd_store::Tx<'_>| {
                            apps::raise_epoch(tx, app)?;
                            append_event(tx, &event)
                        };
                        is_unavailable(&store.write(write).await)
                    }
                    _ => {
                        // It overlooks the failure and goes on: not even then does anything of it stay.
                        let write = move |tx: &mut grantd_store::Tx<'_>| {
                            drop(append_event(tx, &event));
                            drop(apps::raise_epoch(tx, app));
                            Ok(())
                        };
                        is_unavailable(&store.write(write).await)
                    }
                }
            })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap(), "everybody is told that the database is unavailable");
    }
    assert_eq!(world.epochs(store).await, before, "nothing was applied, and reads go on");
    make_room().await;
    assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
    store.write(move |tx| apps::raise_epoch(tx, app)).await.unwrap();
    assert_eq!(world.epochs(store).await.app, before.app + 1);
    assert_eq!(verified(store, world.owner()).await.events, 2);
}

async fn open(path: &Path) -> (Store, World) {
    let store = Store::open(&Location::File(path.to_owned()), "story", 1).await.unwrap();
    store.migrate(NOW).await.unwrap();
    let world = World::create(&store).await;
    (store, world)
}

#[tokio::test]
async fn a_full_disk_applies_nothing_and_is_recovered_from() {
    // Only root may mount; the story below needs nobody's permission.
    let Some(disk) = SmallDisk::mount() else { return };
    let (store, world) = open(&disk.0.join("grantd.db")).await;
    let mut ballast = None;
    let filled = &mut ballast;
    let fill = async || *filled = Some(disk.fill());
    run_full(&store, &world, fill, async || std::fs::remove_file(disk.0.join("ballast")).unwrap()).await;
    store.close().await;
    assert!(ballast.is_some());
}

async fn a_database_that_may_not_grow_applies_nothing_and_is_recovered_from(store: &Database) {
    if store.engine_name() != "sqlite" {
        return;
    }
    let world = World::create(store).await;
    let fill = async || store.limit_growth(true).await.unwrap();
    run_full(store, &world, fill, async || store.limit_growth(false).await.unwrap()).await;
}

on_every_engine! { a_database_that_may_not_grow_applies_nothing_and_is_recovered_from, }
