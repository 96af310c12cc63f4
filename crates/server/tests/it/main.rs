//! The whole router in process, on the real store. Tests run on SQLite in memory; those that depend on the engine also on a
//! SQLite file, and on PostgreSQL when `GRANTD_TEST_POSTGRES_URL` names a server's administrator (`cargo xtask postgres`
//! starts one); in CI it must.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Tests that need no more than a database in memory: `async fn test(server: Server)`.
macro_rules! in_memory {
    ($($test:ident,)*) => {
        mod memory { $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::Memory, super::$test); })* }
    };
}

/// Tests that look behind the store, or whose data must outlive it.
macro_rules! on_kept_engines {
    ($($test:ident,)*) => {
        mod kept_in_file { $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::File, super::$test); })* }
        mod kept_in_postgres {
            $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::Postgres, super::$test); })*
        }
    };
}

/// Tests of what an engine could do differently.
macro_rules! on_every_engine {
    ($($test:ident,)*) => {
        mod on_memory { $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::Memory, super::$test); })* }
        mod on_file { $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::File, super::$test); })* }
        mod on_postgres {
            $(#[test] fn $test() { crate::harness::run(crate::harness::Engine::Postgres, super::$test); })*
        }
    };
}

mod assertion;
mod audit;
mod cache;
mod connect_sessions;
mod connect_sign_in;
mod deprovision;
mod failure;
mod foreign_user;
mod grants;
mod harness;
mod idempotency;
mod identity;
mod idp_bounds;
mod idp_discover;
mod input;
mod jobs;
mod jwks;
mod key_entry;
mod keys;
mod lab;
mod manage;
mod metrics;
mod oauth;
mod objects;
mod openapi;
mod operators;
mod organization;
mod overview;
mod portal;
mod portal_account;
mod portal_asked;
mod portal_german;
mod portal_pages;
mod portal_passkey;
mod portal_people;
mod portal_setup;
mod portal_sso;
mod portal_sso_bounds;
mod portal_totp;
mod portal_weight;
mod probe;
mod providers;
mod race;
mod recovery;
mod report;
mod resolution;
mod retention;
mod rewrap;
mod schema;
mod scim;
mod scim_tokens;
mod scim_vendors;
mod secrets;
mod sign_in;
mod signing;
mod templates;
mod tenant;
mod token;
mod users;
mod version;
mod walk;
mod webhook;
