//! The append that confirms: what a decision rested on still holds, or nothing is written.

use grantd_domain::grant::CredentialState;
use grantd_store::{Append, Appended, Confirm, apps, credentials, grants};

use crate::engine::{Database, NOW};
use crate::world::{World, app_id, credential_id, data_key_id, generation_id, organization_id, verified};

fn release(world: &World, confirm: Confirm) -> Append {
    Append { event: world.release(NOW), confirm: Some(confirm), nonce: None }
}

async fn what_still_holds_is_confirmed(store: &Database) {
    let world = World::create(store).await;
    let confirm = world.confirm(store).await;
    assert_eq!(store.append(release(&world, confirm)).await.unwrap(), Appended::Done);
    assert_eq!(verified(store, world.owner()).await.events, 1);
}

async fn a_revoke_in_between_moves(store: &Database) {
    let world = World::create(store).await;
    let stale = world.confirm(store).await;
    let (app, grant) = (world.app.id, world.grant.id);
    store
        .write(move |tx| {
            grants::revoke(tx, app, grant, None, NOW)?;
            apps::raise_epoch(tx, app)
        })
        .await
        .unwrap();
    assert_eq!(store.append(release(&world, stale)).await.unwrap(), Appended::Moved);
    let fresh = world.confirm(store).await;
    assert_eq!(store.append(release(&world, fresh)).await.unwrap(), Appended::Done);
    assert_eq!(verified(store, world.owner()).await.events, 1);
}

async fn a_rotation_in_between_moves(store: &Database) {
    let world = World::create(store).await;
    let stale = world.confirm(store).await;
    let mut rotated = world.credential.clone();
    rotated.version = 2;
    rotated.generation = generation_id();
    rotated.state = CredentialState::Ok { data_key_id: data_key_id(), sealed: vec![8; 64] };
    store.write(move |tx| credentials::update(tx, &rotated, 1)).await.unwrap();
    assert_eq!(store.append(release(&world, stale)).await.unwrap(), Appended::Moved);
    let fresh = world.confirm(store).await;
    assert_eq!((stale.credential_version, fresh.credential_version), (1, 2));
    assert_eq!(store.append(release(&world, fresh)).await.unwrap(), Appended::Done);
}

async fn every_part_of_a_confirmation_counts(store: &Database) {
    let world = World::create(store).await;
    let right = world.confirm(store).await;
    let mut epochs = right.epochs;
    epochs.organization += 1;
    let wrong = [
        Confirm { epochs, ..right },
        Confirm { organization_id: organization_id(), ..right },
        Confirm { app_id: app_id(), ..right },
        Confirm { credential_id: credential_id(), ..right },
        Confirm { credential_version: 7, ..right },
    ];
    for confirm in wrong {
        assert_eq!(store.append(release(&world, confirm)).await.unwrap(), Appended::Moved, "{confirm:?}");
    }
    assert_eq!(store.append(release(&world, right)).await.unwrap(), Appended::Done);
}

async fn the_others_of_a_group_are_not_moved(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    let (right, mut wrong) = (world.confirm(store).await, other.confirm(store).await);
    wrong.epochs.app += 1;
    let calls = (0..40).map(|i| {
        let append = if i % 4 == 0 { release(&other, wrong) } else { release(&world, right) };
        let store = (*store).clone();
        tokio::spawn(async move { (i % 4 == 0, store.append(append).await.unwrap()) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (moved, fate) = call.await.unwrap();
        assert_eq!(fate, if moved { Appended::Moved } else { Appended::Done });
    }
    assert_eq!(verified(store, world.owner()).await.events, 30);
    assert_eq!(verified(store, other.owner()).await.events, 0);
}

on_every_engine! {
    what_still_holds_is_confirmed,
    a_revoke_in_between_moves,
    a_rotation_in_between_moves,
    every_part_of_a_confirmation_counts,
    the_others_of_a_group_are_not_moved,
}
