//! Migrations and what they leave.

use grantd_store::{Error, Location, Migrated, Store};

use crate::engine::{self, Database, NOW};

/// How many migrations there are.
fn every_migration() -> usize {
    include_str!("../../src/migrations/checksums.txt").lines().count()
}

fn schema_error<T: std::fmt::Debug>(result: grantd_store::Result<T>) -> String {
    match result {
        Err(Error::Schema(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_empty_database_is_migrated_once() {
    engine::on_empty(|location| async move {
        let store = Store::open(&location, "first", 4).await.unwrap();
        assert!(schema_error(store.check_schema().await).contains("no schema"));
        assert_eq!(store.migrate(NOW).await.unwrap(), Migrated::Applied(every_migration()));
        store.check_schema().await.unwrap();
        store.ping().await.unwrap();
        assert_eq!(store.migrate(NOW).await.unwrap(), Migrated::Nothing);
        store.close().await;
    });
}

#[test]
fn replicas_that_start_together_migrate_once() {
    engine::on_empty(|location| async move {
        let start = |n: u32| {
            let location = location.clone();
            async move {
                let store = Store::open(&location, &format!("replica {n}"), 4).await.unwrap();
                let migrated = store.migrate(NOW).await.unwrap();
                store.check_schema().await.unwrap();
                store.close().await;
                migrated
            }
        };
        let (a, b, c) = tokio::join!(start(1), start(2), start(3));
        let applied = [a, b, c].iter().filter(|m| **m == Migrated::Applied(every_migration())).count();
        assert_eq!(applied, 1, "{a:?} {b:?} {c:?}");
    });
}

async fn a_newer_schema_is_refused(store: &Database) {
    store.behind_its_back("INSERT INTO schema_migrations VALUES (9999, 'later', 'x', 1)").await;
    assert!(schema_error(store.check_schema().await).contains("newer version"));
    assert!(schema_error(store.migrate(NOW).await).contains("newer version"));
}

async fn an_edited_migration_is_refused(store: &Database) {
    store.behind_its_back("UPDATE schema_migrations SET checksum = 'other' WHERE number = 1").await;
    assert!(schema_error(store.check_schema().await).contains("edited"));
    assert!(schema_error(store.migrate(NOW).await).contains("edited"));
}

async fn every_engine_has_the_same_tables(store: &Database) {
    let memory = Store::open(&Location::Memory, "other", 1).await.unwrap();
    memory.migrate(NOW).await.unwrap();
    let expected = memory.schema_fingerprint().await.unwrap();
    assert!(expected.contains("grants.version bigint not null"), "{expected}");
    assert_eq!(store.schema_fingerprint().await.unwrap(), expected);
}

async fn a_file_is_its_owners_alone(store: &Database) {
    use std::os::unix::fs::PermissionsExt as _;
    let Location::File(path) = &store.location else { return };
    store.ping().await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", path.display());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}

on_every_engine! { every_engine_has_the_same_tables, }

mod kept {
    use super::{a_file_is_its_owners_alone, a_newer_schema_is_refused, an_edited_migration_is_refused};
    on_kept_engines! { a_newer_schema_is_refused, an_edited_migration_is_refused, a_file_is_its_owners_alone, }
}
