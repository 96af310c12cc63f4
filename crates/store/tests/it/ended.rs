//! Rows of what has ended: when they go, and what keeps them.

use grantd_store::retention::{self, Hold};
use grantd_store::{Store, Tx, credentials, grants, renewals};
use grantd_wire::TimeMs;
use grantd_wire::limits::ENDED_KEPT_MS;

use crate::engine::{Database, NOW};
use crate::world::{World, account, grant, operator_id};

/// The grant is revoked and its credential destroyed.
async fn end(store: &Store, world: &World) {
    let (app, grant, credential) = (world.app.id, world.grant.id, world.credential.id);
    store
        .write(move |tx| {
            assert!(grants::revoke(tx, app, grant, None, NOW)?);
            assert!(credentials::destroy_if_unused(tx, app, credential, NOW)?);
            Ok(())
        })
        .await
        .unwrap();
}

/// How many grants and credentials go at this moment, at most `limit` of each.
async fn prune(store: &Store, now: TimeMs, limit: i64) -> (u64, u64) {
    let before = now.plus_ms(-ENDED_KEPT_MS);
    let prune = move |tx: &mut Tx<'_>| Ok((grants::prune(tx, before, limit)?, credentials::prune(tx, before, limit)?));
    store.write(prune).await.unwrap()
}

const KEPT_UNTIL: TimeMs = TimeMs(NOW.0 + ENDED_KEPT_MS);

async fn what_ended_long_enough_ago_goes_and_nothing_else(store: &Database) {
    let ended = World::create(store).await;
    let living = World::app_of(store, ended.organization, "Second").await;
    end(store, &ended).await;
    assert_eq!(prune(store, KEPT_UNTIL, 100).await, (0, 0));
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 100).await, (1, 1));
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(ENDED_KEPT_MS), 100).await, (0, 0), "what lives stays");
    for (world, is_there) in [(ended, false), (living, true)] {
        let (app, grant, credential) = (world.app.id, world.grant.id, world.credential.id);
        let found = store.read(move |tx| Ok((grants::find(tx, app, grant)?, credentials::find(tx, app, credential)?)));
        let (grant, credential) = found.await.unwrap();
        assert_eq!((grant.is_some(), credential.is_some()), (is_there, is_there));
    }
}

async fn a_grant_that_was_used_later_stays_longer_and_keeps_its_credential(store: &Database) {
    let world = World::create(store).await;
    store.touch_grants(vec![(world.app.id, world.grant.id, NOW.plus_ms(5))]).await.unwrap();
    end(store, &world).await;
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(5), 100).await, (0, 0));
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(6), 100).await, (1, 1));
}

async fn tokens_that_are_still_to_be_ended_keep_their_credential(store: &Database) {
    let world = World::create(store).await;
    for over in ["done", "unsupported", "failed"] {
        let credential = account(world.app.id);
        let of_account = World { grant: grant(&credential, None), credential, ..world.clone() };
        let made = of_account.clone();
        let insert = move |tx: &mut Tx<'_>| {
            credentials::insert(tx, &made.credential)?;
            grants::insert(tx, &made.grant)
        };
        store.write(insert).await.unwrap();
        end(store, &of_account).await;
        assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 100).await, (1, 0), "{over}");
        let place = (world.app.id, of_account.credential.id);
        assert!(store.write(move |tx| renewals::ended(tx, place, over)).await.unwrap());
        assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 100).await, (0, 1), "{over}");
    }
}

async fn a_legal_hold_keeps_them(store: &Database) {
    let world = World::create(store).await;
    let app = world.app.id;
    end(store, &world).await;
    let hold = Hold { reason: "Case 7".to_owned(), operator_id: operator_id(), held_at: NOW };
    store.write(move |tx| retention::hold(tx, app, &hold)).await.unwrap();
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 100).await, (0, 0));
    store.write(move |tx| retention::release(tx, app)).await.unwrap();
    assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 100).await, (1, 1));
}

async fn each_step_is_bounded(store: &Database) {
    let first = World::create(store).await;
    end(store, &first).await;
    for name in ["Second", "Third"] {
        end(store, &World::app_of(store, first.organization, name).await).await;
    }
    for expected in [(2, 2), (1, 1), (0, 0)] {
        assert_eq!(prune(store, KEPT_UNTIL.plus_ms(1), 2).await, expected);
    }
}

on_every_engine! {
    what_ended_long_enough_ago_goes_and_nothing_else,
    a_grant_that_was_used_later_stays_longer_and_keeps_its_credential,
    tokens_that_are_still_to_be_ended_keep_their_credential,
    a_legal_hold_keeps_them,
    each_step_is_bounded,
}
