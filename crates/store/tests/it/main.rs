//! Stories of the store. Each runs on SQLite in memory, on a SQLite file, and on PostgreSQL when `GRANTD_TEST_POSTGRES_URL` names a
//! server's administrator (`cargo xtask postgres` starts one); in CI it must.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

/// Runs stories on every engine: `async fn story(store: &Database)`.
macro_rules! on_every_engine {
    ($($story:ident,)*) => {
        mod memory { $(#[test] fn $story() { crate::engine::on_memory(|db| async move { super::$story(&db).await }); })* }
        on_kept_engines! { $($story,)* }
    };
}

/// Runs stories on the engines whose data outlives the store that wrote it.
macro_rules! on_kept_engines {
    ($($story:ident,)*) => {
        mod file { $(#[test] fn $story() { crate::engine::on_file(|db| async move { super::$story(&db).await }); })* }
        on_postgres! { $($story,)* }
    };
}

/// Runs stories of what only a server can do to us.
macro_rules! on_postgres {
    ($($story:ident,)*) => {
        mod postgres { $(#[test] fn $story() { crate::engine::on_postgres(|db| async move { super::$story(&db).await }); })* }
    };
}

mod chain;
mod confirm;
mod copy;
mod disk;
mod ended;
mod engine;
mod events;
mod group;
mod hourly;
mod link;
mod lost;
mod nonce;
mod race;
mod renewals;
mod retention;
mod rows;
mod schema;
mod wire;
mod world;
