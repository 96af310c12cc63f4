//! The way to the server: what protects it, how long anything on it may take, and what is known after it broke.

use std::path::PathBuf;
use std::time::Duration;

use grantd_store::{Append, Appended, Error, Location, Store, append_event, apps};

use crate::engine::{Database, NOW, directory};
use crate::wire::{Mode, Wire};
use crate::world::{World, only, verified};

/// Longer than anything may take, on a machine that is short of everything.
const LONG: Duration = Duration::from_mins(1);

fn url(database: &Database, host: &str, parameters: &str) -> Location {
    Location::parse(&database.url_at(host, parameters)).unwrap()
}

async fn open(database: &Database, hosts: &str, parameters: &str) -> Result<Store, Error> {
    Store::open(&url(database, hosts, parameters), "link", 4).await
}

async fn refusal(database: &Database, hosts: &str, parameters: &str) -> String {
    match open(database, hosts, parameters).await {
        Ok(_) => panic!("{hosts} {parameters} was connected to"),
        Err(e) => e.to_string(),
    }
}

async fn raise(store: &Store, world: &World) -> Result<(), Error> {
    let (app, event) = (world.app.id, world.release(NOW));
    store
        .write(move |tx| {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event)
        })
        .await
}

async fn tls_is_verified_or_there_is_no_connection(database: &Database) {
    let wire = Wire::with_tls(database.server()).await;
    let place = directory();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = place.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ours = file("ours.pem", include_str!("tls/server.pem"));
    let other = file("other.pem", include_str!("tls/other.pem"));
    let roots = |path: &PathBuf| format!("?sslmode=verify-full&sslrootcert={}", path.display());
    let named = format!("localhost:{}", wire.address.port());

    let store = open(database, &named, &roots(&ours)).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;

    // Another name, another authority, and those that the system trusts.
    for (hosts, parameters) in [
        (wire.address.to_string(), roots(&ours)),
        (named.clone(), roots(&other)),
        (named.clone(), "?sslmode=verify-full".to_owned()),
    ] {
        let refusal = refusal(database, &hosts, &parameters).await;
        assert!(refusal.contains("certificate"), "{hosts} {parameters}: {refusal}");
    }
    // A server without TLS is not talked to in the clear.
    let plain = database.server().to_string();
    let refusal = refusal(database, &plain, "?sslmode=verify-full").await;
    assert!(refusal.contains("TLS"), "{refusal}");

    for (path, why) in [
        (place.join("missing.pem"), "cannot be read"),
        (file("empty.pem", ""), "holds no certificate"),
        (file("bad.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "is no PEM"),
        (file("odd.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be used"),
    ] {
        let error = open(database, &named, &roots(&path)).await.err().unwrap().to_string();
        assert!(error.contains("sslrootcert") && error.contains(why), "{error}");
    }
    std::fs::remove_dir_all(place).unwrap();
}

async fn a_server_that_says_nothing_is_given_up(database: &Database) {
    let world = World::create(database).await;
    let wire = Wire::to(database.server()).await;
    let store = open(database, &wire.address.to_string(), "").await.unwrap();
    assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
    raise(&store, &world).await.unwrap();
    wire.set(Mode::Holds);
    let all = async {
        let held = store.find_held(world.app.id, world.grant.id);
        tokio::join!(store.append(only(world.release(NOW))), raise(&store, &world), held)
    };
    let (append, write, read) = tokio::time::timeout(LONG, all).await.expect("each of them has an end");
    for result in [append.map(drop), write, read.map(drop)] {
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    }
    // Who had to wait may have been carried out all the same. Nothing of it is doubled, and no chain is torn.
    wire.set(Mode::Passes);
    assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
    raise(&store, &world).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;
    let events = verified(database, world.owner()).await.events;
    assert!((4..=6).contains(&events), "{events}");
}

async fn an_append_that_was_not_answered_is_never_doubled(database: &Database) {
    let world = World::create(database).await;
    let wire = Wire::to(database.server()).await;
    let store = open(database, &wire.address.to_string(), "").await.unwrap();
    assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
    let mut events = 1;
    for (n, mode) in [(1, Mode::CutsAnswer), (2, Mode::CutsQuestion), (3, Mode::CutsAnswer)] {
        let append = Append {
            event: world.release(NOW),
            confirm: Some(world.confirm(database).await),
            nonce: Some(world.nonce(n)),
        };
        wire.set(mode);
        let result = store.append(append.clone()).await;
        assert!(matches!(result, Err(Error::Unavailable { .. })), "{mode:?}: {result:?}");
        // The caller tries again with the same nonce, and another event.
        let again = store.append(Append { event: world.release(NOW), ..append }).await.unwrap();
        assert_eq!(again, if mode == Mode::CutsAnswer { Appended::Replayed } else { Appended::Done }, "{mode:?}");
        events += 1;
        assert_eq!(verified(database, world.owner()).await.events, events, "{mode:?}");
    }
    store.close().await;
}

async fn a_commit_that_was_not_answered_is_no_success(database: &Database) {
    let world = World::create(database).await;
    let wire = Wire::to(database.server()).await;
    let store = open(database, &wire.address.to_string(), "").await.unwrap();
    raise(&store, &world).await.unwrap();
    let (app, event) = (world.app.id, world.release(NOW));
    let wire = std::sync::Arc::new(wire);
    let cutting = std::sync::Arc::clone(&wire);
    let result = store
        .write(move |tx| {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event)?;
            // What comes next is COMMIT.
            cutting.set(Mode::CutsAnswer);
            Ok(())
        })
        .await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    assert_eq!(world.epochs(database).await.app, 3, "it was committed, and nobody was told");
    raise(&store, &world).await.unwrap();
    let report = verified(database, world.owner()).await;
    assert_eq!((report.events, report.chains), (3, 2), "the fate was unknown: a new chain");
    store.close().await;
}

async fn a_server_that_is_down_is_unavailable_until_it_is_back(database: &Database) {
    let world = World::create(database).await;
    let wire = Wire::to(database.server()).await;
    let store = open(database, &wire.address.to_string(), "").await.unwrap();
    for round in 1..=3 {
        wire.set(Mode::Down);
        for _ in 0..3 {
            let append = store.append(only(world.release(NOW))).await;
            assert!(matches!(append, Err(Error::Unavailable { .. })), "{append:?}");
            let write = raise(&store, &world).await;
            assert!(matches!(write, Err(Error::Unavailable { .. })), "{write:?}");
            let read = store.find_held(world.app.id, world.grant.id).await;
            assert!(matches!(read, Err(Error::Unavailable { .. })), "{:?}", read.err());
        }
        wire.set(Mode::Passes);
        raise(&store, &world).await.unwrap();
        store.ping().await.unwrap();
        assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
        assert_eq!(verified(database, world.owner()).await.events, 2 * round);
    }
    store.close().await;
}

async fn of_many_hosts_the_first_that_takes_writes_is_used(database: &Database) {
    let world = World::create(database).await;
    let (one, two) = (Wire::to(database.server()).await, Wire::to(database.server()).await);
    one.set(Mode::Down);
    let hosts = format!("{},{}", one.address, two.address);
    let store = open(database, &hosts, "").await.unwrap();
    assert!(one.accepted() > 0 && two.accepted() > 0);
    for (up, down) in [(&one, &two), (&two, &one)] {
        up.set(Mode::Passes);
        down.set(Mode::Down);
        raise(&store, &world).await.unwrap();
        store.ping().await.unwrap();
        // A connection may have ended unheard; then this one call is told so.
        drop(store.append(only(world.release(NOW))).await);
        assert_eq!(store.append(only(world.release(NOW))).await.unwrap(), Appended::Done);
    }
    // What worked last is asked first.
    two.set(Mode::Passes);
    let asked = one.accepted();
    database.end_connections().await;
    raise(&store, &world).await.unwrap();
    assert_eq!(one.accepted(), asked);
    one.set(Mode::Down);
    two.set(Mode::Down);
    let error = raise(&store, &world).await.unwrap_err().to_string();
    assert!(error.contains(&one.address.to_string()) && error.contains(&two.address.to_string()), "{error}");
    store.close().await;
}

async fn a_server_that_takes_no_writes_is_left(database: &Database) {
    let world = World::create(database).await;
    let name = database.name();
    database.beside(&format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = on")).await;
    database.end_connections().await;
    let result = raise(database, &world).await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    // Not even for reads: what it has may be old.
    let read = database.find_held(world.app.id, world.grant.id).await;
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{:?}", read.err());
    database.beside(&format!("ALTER DATABASE \"{name}\" RESET default_transaction_read_only")).await;
    raise(database, &world).await.unwrap();
    database.ping().await.unwrap();
}

async fn any_number_of_calls_share_two_connections(database: &Database) {
    const CALLS: usize = 2_000;
    let world = World::create(database).await;
    let wire = Wire::to(database.server()).await;
    let store = open(database, &wire.address.to_string(), "").await.unwrap();
    let before = wire.accepted();
    let burst = || async {
        let calls = (0..CALLS).map(|_| {
            let (store, app, grant) = (store.clone(), world.app.id, world.grant.id);
            tokio::spawn(async move { store.find_held(app, grant).await })
        });
        for call in calls.collect::<Vec<_>>() {
            let held = call.await.unwrap().unwrap().unwrap().1.unwrap();
            assert_eq!(held.grant.id, world.grant.id);
        }
    };
    burst().await;
    assert_eq!(wire.accepted() - before, 2);
    // What has ended is made again, and nobody is told of it.
    database.end_connections().await;
    burst().await;
    assert_eq!(wire.accepted() - before, 4);
    store.clone().close().await;
    let closed = store.find_held(world.app.id, world.grant.id).await;
    assert!(matches!(closed, Err(Error::Unavailable { .. })), "{:?}", closed.err());
}

async fn what_another_run_of_the_server_had_is_not_confirmed(database: &Database) {
    let world = World::create(database).await;
    let confirm = world.confirm(database).await;
    let append = |confirm| Append { event: world.release(NOW), confirm: Some(confirm), nonce: None };
    assert_eq!(database.append(append(confirm)).await.unwrap(), Appended::Done);
    // The same numbers, as another server would have given them.
    let mut other = confirm;
    other.epochs.era += 1;
    assert_eq!(database.append(append(other)).await.unwrap(), Appended::Moved);
    assert_eq!(database.append(append(confirm)).await.unwrap(), Appended::Done);
    assert_eq!(verified(database, world.owner()).await.events, 2);
}

async fn no_password_is_in_an_error(database: &Database) {
    for hosts in ["127.0.0.1:1".to_owned(), database.server().to_string()] {
        let url = format!("postgres://nobody:canary@{hosts}/nothing");
        let Err(error) = Store::open(&Location::parse(&url).unwrap(), "link", 4).await else { panic!("it opened") };
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
        assert!(!format!("{:?}", Location::parse(&url)).contains("canary"));
    }
}

on_postgres! {
    tls_is_verified_or_there_is_no_connection,
    a_server_that_says_nothing_is_given_up,
    an_append_that_was_not_answered_is_never_doubled,
    a_commit_that_was_not_answered_is_no_success,
    a_server_that_is_down_is_unavailable_until_it_is_back,
    of_many_hosts_the_first_that_takes_writes_is_used,
    a_server_that_takes_no_writes_is_left,
    any_number_of_calls_share_two_connections,
    what_another_run_of_the_server_had_is_not_confirmed,
    no_password_is_in_an_error,
}
