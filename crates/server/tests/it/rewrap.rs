//! Another root key, while servers go on.

use grantd_domain::seal::RootKeys;
use grantd_server::install::InstallError;
use grantd_server::rewrap::{self, RewrapError};
use grantd_server::{jobs, sealed};
use grantd_wire::Code;
use serde_json::json;

use crate::harness::{Server, World, root, root_key};

on_kept_engines! {
    a_rotation_that_is_cut_off_anywhere_leaves_everything_open_and_is_finished_later,
    a_process_without_the_new_key_is_waited_for,
}

in_memory! {
    a_missing_key_and_a_changed_row_are_told_apart_and_others_go_on,
}

fn old_and_new() -> RootKeys {
    RootKeys::new(root_key(7), vec![root_key(8)])
}

fn new_alone() -> RootKeys {
    RootKeys::new(root_key(8), Vec::new())
}

async fn worlds(server: &Server) -> Vec<World> {
    let mut worlds = Vec::new();
    for n in 0..4 {
        worlds.push(server.world_named(&format!("App {n}")).await);
    }
    worlds
}

async fn a_rotation_that_is_cut_off_anywhere_leaves_everything_open_and_is_finished_later(server: Server) {
    let worlds = worlds(&server).await;
    let to = root_key(8).id().to_owned();
    let keys = old_and_new();
    // One install key and four of apps, one by one: after each the run may end, and a server is started anew.
    let mut after = None;
    for n in 0..5 {
        let done = rewrap::batch(server.store(), &keys, &to, &*server.env, after, 1).await.unwrap();
        let (last, changed) = done.unwrap();
        assert_eq!(changed, 1);
        after = Some(last);
        let started = server.with_root_keys(&format!("half-{n}"), old_and_new()).await.unwrap();
        for world in &worlds {
            server.token(world).await.ok(200);
            started.token(world).await.ok(200);
        }
        started.vault.close().await;
    }
    assert!(rewrap::batch(server.store(), &keys, &to, &*server.env, after, 1).await.unwrap().is_none());
    // The whole run finds nothing but the check value left to do; then there is nothing.
    let done = rewrap::run(server.store(), &keys, &to, &*server.env, &mut |_, _| {}).await.unwrap();
    assert_eq!((done.rewrapped, done.remaining), (0, 0));
    let told = server.events("/api/v1/audit/export").await;
    let told: Vec<_> = told.iter().filter(|event| event["core"]["kind"] == "root_key.rotated").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["core"]["changed"]["root_key_ids"][1], json!([to]));
    let again = rewrap::run(server.store(), &keys, &to, &*server.env, &mut |_, _| {}).await.unwrap();
    assert_eq!(again, done);
    // A server that still wraps under the old key makes a data key; the next run takes it along.
    server.world_named("Meanwhile").await;
    let mut steps = Vec::new();
    let late = rewrap::run(server.store(), &keys, &to, &*server.env, &mut |d, l| steps.push((d, l))).await.unwrap();
    assert_eq!((late.rewrapped, late.remaining), (1, 0));
    assert_eq!(steps, [(1, 0)]);
    // Now the new key alone is enough, and the old one alone is not.
    let started = server.with_root_keys("new", new_alone()).await.unwrap();
    for world in &worlds {
        started.token(world).await.ok(200);
    }
    started.vault.close().await;
    let old = server.with_root_keys("old", root()).await;
    assert!(matches!(old.err(), Some(InstallError::WrongRootKey)));
}

async fn a_process_without_the_new_key_is_waited_for(server: Server) {
    let world = server.world().await;
    let to = root_key(8).id().to_owned();
    let run = async || rewrap::run(server.store(), &old_and_new(), &to, &*server.env, &mut |_, _| {}).await;
    let replica = server.with_root_keys("replica", old_and_new()).await.unwrap();
    jobs::report_process(&server.vault, "first").await.unwrap();
    jobs::report_process(&replica.vault, "second").await.unwrap();
    let waiting = run().await.unwrap_err();
    assert!(matches!(&waiting, RewrapError::ProcessWithout { id, .. } if id == "first"), "{waiting}");
    assert_eq!(server.database.number("SELECT COUNT(DISTINCT root_key_id) FROM data_keys").await, 1);
    // Silent for exactly as long as is allowed, it counts; a millisecond longer, and it is gone.
    server.advance_ms(grantd_wire::limits::PROCESS_SILENT_MS);
    jobs::report_process(&replica.vault, "second").await.unwrap();
    assert!(run().await.is_err());
    server.advance_ms(1);
    assert_eq!(run().await.unwrap().remaining, 0);
    replica.token(&world).await.ok(200);
    replica.vault.close().await;
}

async fn a_missing_key_and_a_changed_row_are_told_apart_and_others_go_on(server: Server) {
    let worlds = worlds(&server).await;
    let found = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((found.opened, found.closed.count, found.broken.count), (4, 0, 0));
    let without = sealed::check(server.store(), &new_alone()).await.unwrap();
    assert_eq!((without.opened, without.closed.count), (0, 4));
    assert_eq!(without.missing_root_keys, [root_key(7).id()]);
    let to = root_key(8).id().to_owned();
    let missing = rewrap::run(server.store(), &new_alone(), &to, &*server.env, &mut |_, _| {}).await;
    assert!(matches!(missing, Err(RewrapError::Install(InstallError::WrongRootKey))));

    // Another app's value in its place: it is refused, and nobody else notices.
    let app = grantd_wire::ids::AppId::parse(&worlds[0].app).unwrap();
    let grant = grantd_wire::ids::GrantId::parse(&worlds[0].grant).unwrap();
    server
        .store()
        .write(move |tx| {
            let mut credential = grantd_store::grants::find(tx, app, grant)?.unwrap().credential;
            if let grantd_domain::grant::CredentialState::Ok { sealed, .. } = &mut credential.state {
                sealed[40] ^= 1;
            }
            let version = credential.version;
            credential.version += 1;
            grantd_store::credentials::update(tx, &credential, version)
        })
        .await
        .unwrap();
    server.token(&worlds[0]).await.refused(Code::KeyUnavailable);
    server.token(&worlds[1]).await.ok(200);
    let found = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((found.opened, found.closed.count), (3, 1));
    assert_eq!(found.closed.first[0].0, Some(app));
    assert!(found.missing_root_keys.is_empty());
    // Storing it again mends it.
    server.rotate(&worlds[0], "canary-of-the-second-value").await.ok(200);
    server.token(&worlds[0]).await.ok(200);
}
