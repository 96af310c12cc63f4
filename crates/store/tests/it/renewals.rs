//! The lease of an attempt to renew a token: who has it, until when, and what it takes to begin it anew.

use grantd_domain::account::{Lease, Renewal};
use grantd_domain::env::random;
use grantd_domain::grant::Credential;
use grantd_store::renewals::{self, Place};
use grantd_store::{Store, credentials};
use grantd_wire::TimeMs;
use grantd_wire::ids::{LeaseId, uuid_v7};
use grantd_wire::limits::REFRESH_LEASE_MS;

use crate::engine::{Database, NOW};
use crate::world::{Counter, World, account};

/// An account, stored.
async fn stored_account(store: &Store) -> Credential {
    let row = account(World::create(store).await.app.id);
    let stored = row.clone();
    store.write(move |tx| credentials::insert(tx, &stored)).await.unwrap();
    row
}

fn lease(begun: TimeMs) -> Lease {
    Lease { id: LeaseId::from_uuid(uuid_v7(NOW.0, random(&Counter))), until: begun.plus_ms(REFRESH_LEASE_MS) }
}

async fn held(store: &Store, (app, id): Place) -> Renewal {
    let row = store.read(move |tx| credentials::find(tx, app, id)).await.unwrap().unwrap();
    row.account().unwrap().renewal
}

async fn claim(store: &Store, place: Place, lease: Lease, now: TimeMs) -> bool {
    let seen = held(store, place).await;
    store.write(move |tx| renewals::claim(tx, place, 1, lease, &seen, false, now)).await.unwrap()
}

async fn confirm(store: &Store, place: Place, version: i64, lease: Lease, now: TimeMs) -> bool {
    store.write(move |tx| renewals::confirm(tx, place, version, lease, now)).await.unwrap()
}

async fn a_lease_begins_anew_as_long_as_it_lasts(store: &Database) {
    let row = stored_account(store).await;
    let place = (row.app_id, row.id);
    let first = lease(NOW);
    assert!(claim(store, place, first, NOW).await);
    let last = first.until.plus_ms(-1);
    let anew = Lease { until: last.plus_ms(REFRESH_LEASE_MS), ..first };
    // Not for another version of the row, and not for somebody else.
    assert!(!confirm(store, place, 2, anew, last).await);
    assert!(!confirm(store, place, 1, Lease { until: anew.until, ..lease(NOW) }, last).await);
    assert_eq!(held(store, place).await.lease, Some(first));
    // Twice is once: the answer to the first may have been lost.
    assert!(confirm(store, place, 1, anew, last).await);
    assert!(confirm(store, place, 1, anew, last).await);
    assert_eq!(held(store, place).await.lease, Some(anew));
    // Whoever waited for the end that it had before waits on.
    assert!(!claim(store, place, lease(first.until), first.until).await);
    // One that has run out is nobody's to begin anew.
    let beyond = Lease { until: anew.until.plus_ms(REFRESH_LEASE_MS), ..first };
    assert!(!confirm(store, place, 1, beyond, anew.until).await);
    let second = lease(anew.until);
    assert!(claim(store, place, second, anew.until).await);
    assert!(!confirm(store, place, 1, beyond, anew.until).await);
    assert_eq!(held(store, place).await.lease, Some(second));
}

on_every_engine! {
    a_lease_begins_anew_as_long_as_it_lasts,
}
