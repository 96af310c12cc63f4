//! An old copy of the database is made ready: what was taken away since stays away.

use std::collections::BTreeSet;
use std::path::PathBuf;

use grantd_server::recovery::{self, Ask, RecoveryError, Restored};
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::database::{Database, directory};
use crate::harness::world::text;
use crate::harness::{Raw, Server, World, root};
use crate::webhook::{Vendor, auth0};

on_kept_engines! {
    restore_replays_revocations,
    restore_replays_what_was_rotated_archived_and_deleted,
    restore_replays_what_became_of_users_and_closes_what_told_of_them,
    restore_locks_out_every_other_operator,
    what_is_given_up_comes_back_and_the_trail_says_so,
    a_changed_database_and_a_wrong_export_are_refused_before_anything_is_done,
    a_restore_that_was_cut_off_is_run_again,
    an_old_process_finds_nothing_it_remembers,
}

/// Files that go away with the test.
struct Exports(PathBuf);

impl Exports {
    fn new() -> Self {
        Self(directory())
    }

    async fn of(&self, server: &Server, path: &str, name: &str) -> PathBuf {
        let (report, lines) = server.export(path).await;
        assert!(report.ok, "{:?}", report.problems);
        self.write(name, &lines)
    }

    fn write(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, lines).unwrap();
        path
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn restore(server: &Server, copy: &Database, ask: Ask) -> Result<Restored, RecoveryError> {
    recovery::run(&copy.store, &root(), &*server.env, &ask).await
}

fn replay(exports: &[&PathBuf]) -> Ask {
    Ask { replay: exports.iter().map(|path| (*path).clone()).collect(), ..Ask::default() }
}

async fn refused(server: &Server, copy: &Database, ask: Ask) -> RecoveryError {
    match restore(server, copy, ask).await {
        Err(e) => e,
        Ok(_) => panic!("not refused"),
    }
}

/// Another secret of the world's app: its slug and the world that uses its grant.
async fn further(server: &Server, world: &World, name: &str) -> World {
    let made = server.secret(&world.app, json!({"name": name})).await;
    World { secret: text(&made, "slug"), secret_id: text(&made, "id"), ..world.with_grant(&text(&made, "grant_id")) }
}

async fn restore_replays_revocations(server: Server) {
    let world = server.world().await;
    let revoked = world.with_grant(&server.grant(&world, json!({"label": "revoked"})).await);
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": "acme"})).await);
    let ending = world.with_grant(&server.grant(&world, json!({"label": "ending"})).await);
    let (key_id, key) = server.key(&world.app, json!({})).await;
    let revoked_key = world.with_key(&key);
    let rotated = further(&server, &world, "Rotated").await;
    let narrowed = further(&server, &world, "Narrowed").await;
    let copy = server.database.copy().await;

    server.revoke(&world, &revoked.grant).await.ok(200);
    server.api("POST", &world.path(&format!("keys/{key_id}/revoke")), Value::Null).await.ok(200);
    server.rotate(&rotated, "canary-of-the-second-value").await.ok(200);
    let hosts = world.path(&format!("managed-secrets/{}/allowed-hosts", narrowed.secret));
    server.api("PUT", &hosts, json!({"allowed_hosts": ["other.example.com"]})).await.ok(200);
    let grant = |grant: &str| world.path(&format!("grants/{grant}"));
    server.api("PATCH", &grant(&bound.grant), json!({"tenant": {"value": "other"}})).await.ok(200);
    server.api("PATCH", &grant(&ending.grant), json!({"expires_in_seconds": 60})).await.ok(200);
    let issued = server.grant(&world, json!({"label": "issued since"})).await;
    server.token(&world).await.ok(200);
    let exports = Exports::new();
    let export = exports.of(&server, &world.path("audit/export"), "app.jsonl").await;
    server.advance_ms(120_000);

    let without = refused(&server, &copy, Ask::default()).await;
    assert!(matches!(&without, RecoveryError::Uncovered(apps) if apps.len() == 1 && apps[0].contains(&world.app)));
    let restored = restore(&server, &copy, replay(&[&export])).await.unwrap();
    assert_eq!(restored.replayed, 6, "{:?}", restored.lost);
    assert!(restored.gap_seconds >= 120, "{}", restored.gap_seconds);
    let lost: Vec<&str> = restored.lost.iter().map(|lost| lost.id.as_str()).collect();
    assert_eq!(lost, [&rotated.secret, &bound.grant, &issued]);

    let old_pat = server.pat.clone();
    let after = server.restored(copy, restored.pat.reveal()).await;
    after.token(&world).await.ok(200);
    after.token(&revoked).await.refused(Code::GrantRevoked);
    after.token(&bound).await.refused(Code::GrantRevoked);
    after.token(&revoked_key).await.refused(Code::KeyRevoked);
    after.token(&narrowed).await.refused(Code::BlockedDestination);
    after.token(&ending).await.refused(Code::GrantExpired);
    after.token(&world.with_grant(&issued)).await.refused(Code::GrantNotFound);
    after.token(&rotated).await.refused(Code::CredentialRevoked);
    after.api_as(&old_pat, "GET", "/api/v1/whoami", Value::Null).await.refused(Code::SessionRequired);
    // A new value mends what was rotated, and its grants go on.
    after.rotate(&rotated, "canary-of-the-third-value").await.ok(200);
    after.token(&rotated).await.ok(200);
    // Both trails verify, and say what happened.
    for path in [world.path("audit/export"), "/api/v1/audit/export".to_owned()] {
        let told = after.events(&path).await;
        let restored = told.iter().filter(|event| event["core"]["kind"] == "database.restored");
        assert_eq!(restored.map(|event| &event["core"]["rests_on"]).collect::<Vec<_>>(), ["replayed exports"]);
    }
    let broken = after.told(&world, "credential.broken").await;
    assert!(broken.len() == 1 && broken[0]["replayed"] == true && broken[0]["actor"]["type"] == "job");
    after.database.remove().await;
}

async fn what_is_given_up_comes_back_and_the_trail_says_so(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let copy = server.database.copy().await;
    for world in [&world, &other] {
        server.revoke(world, &world.grant).await.ok(200);
    }
    let exports = Exports::new();
    let export = exports.of(&server, &other.path("audit/export"), "other.jsonl").await;
    // One app's trail does not speak for another's.
    let half = refused(&server, &copy, replay(&[&export])).await;
    assert!(matches!(&half, RecoveryError::Uncovered(apps) if apps.len() == 1 && apps[0].contains(&world.app)));
    let ask = Ask { accept_lost_revocations: true, ..replay(&[&export]) };
    let restored = restore(&server, &copy, ask).await.unwrap();
    assert_eq!(restored.replayed, 1);
    let after = server.restored(copy, restored.pat.reveal()).await;
    after.token(&world).await.ok(200);
    after.token(&other).await.refused(Code::GrantRevoked);
    after.database.remove().await;

    let copy = server.database.copy().await;
    let accepted = Ask { accept_lost_revocations: true, ..Ask::default() };
    let restored = restore(&server, &copy, accepted).await.unwrap();
    let after = server.restored(copy, restored.pat.reveal()).await;
    let told = after.told(&world, "database.restored").await;
    assert!(told.len() == 1 && told[0]["rests_on"] == "revocations given up", "{told:?}");
    after.database.remove().await;
}

async fn a_changed_database_and_a_wrong_export_are_refused_before_anything_is_done(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let exports = Exports::new();
    let older = exports.of(&server, &world.path("audit/export"), "older.jsonl").await;
    server.token(&world).await.ok(200);
    let copy = server.database.copy().await;
    let foreign_app = server.world_named("Made since").await;
    server.revoke(&world, &world.grant).await.ok(200);
    let whole = exports.of(&server, &world.path("audit/export"), "whole.jsonl").await;
    let others = exports.of(&server, &other.path("audit/export"), "others.jsonl").await;
    let foreign = exports.of(&server, &foreign_app.path("audit/export"), "foreign.jsonl").await;
    let partial = exports.of(&server, &world.path("audit/export?kind=grant.revoked"), "partial.jsonl").await;
    let lines = std::fs::read_to_string(&whole).unwrap();
    let edited = exports.write("edited.jsonl", &lines.replace("grant.revoked", "grant.updated"));
    let cut = exports.write("cut.jsonl", &lines[..lines.len() / 2]);
    let none = exports.write("none.jsonl", "{}");

    let epochs = "SELECT CAST(SUM(epoch) AS BIGINT) FROM apps";
    let before = copy.number(epochs).await;
    let with = |export: &PathBuf| replay(&[&others, export]);
    assert!(matches!(refused(&server, &copy, with(&older)).await, RecoveryError::Unfit { .. }));
    assert!(matches!(refused(&server, &copy, with(&foreign)).await, RecoveryError::Foreign { .. }));
    assert!(matches!(refused(&server, &copy, with(&partial)).await, RecoveryError::Partial(_)));
    for bad in [&edited, &cut, &none] {
        let e = refused(&server, &copy, with(bad)).await;
        assert!(matches!(e, RecoveryError::Unverified { .. }), "{e}");
    }
    let gone = exports.0.join("gone.jsonl");
    assert!(matches!(refused(&server, &copy, with(&gone)).await, RecoveryError::Unreadable { .. }));
    let wrong_key = grantd_domain::seal::RootKeys::new(crate::harness::root_key(9), Vec::new());
    let wrong = recovery::run(&copy.store, &wrong_key, &*server.env, &with(&whole)).await;
    assert!(matches!(wrong, Err(RecoveryError::Install(_))));
    assert_eq!(copy.number(epochs).await, before, "nothing was done");

    // Whoever can write to the copy, and holds no key, cannot make it pass.
    let shorter = format!("UPDATE events SET hash = event_hash WHERE app_id = '{}'", world.app);
    copy.behind_its_back(&shorter).await;
    let ask = Ask { accept_lost_revocations: true, ..Ask::default() };
    let tampered = refused(&server, &copy, ask).await;
    assert!(matches!(tampered, RecoveryError::Tampered(_)), "{tampered}");
    assert_eq!(copy.number(epochs).await, before, "nothing was done");
    copy.remove().await;
}

async fn a_restore_that_was_cut_off_is_run_again(server: Server) {
    let world = server.world().await;
    let further = world.with_grant(&server.grant(&world, json!({"label": "further"})).await);
    let copy = server.database.copy().await;
    server.revoke(&world, &further.grant).await.ok(200);
    let exports = Exports::new();
    let export = exports.of(&server, &world.path("audit/export"), "app.jsonl").await;
    assert_eq!(restore(&server, &copy, replay(&[&export])).await.unwrap().replayed, 1);
    // The last thing a restore writes is that it is done: as if it had been cut off before.
    copy.behind_its_back("DELETE FROM events WHERE core LIKE '%database.restored%'").await;
    let again = copy.open_again("again").await;
    let ask = replay(&[&export]);
    let restored = recovery::run(&again, &root(), &*server.env, &ask).await.unwrap();
    assert_eq!(restored.replayed, 0, "it was done already");
    // Once it is complete, its own trail is longer than the export.
    let late = recovery::run(&again, &root(), &*server.env, &ask).await;
    assert!(matches!(late, Err(RecoveryError::Unfit { .. })));
    again.close().await;
    let after = server.restored(copy, restored.pat.reveal()).await;
    after.token(&further).await.refused(Code::GrantRevoked);
    after.token(&world).await.ok(200);
    after.database.remove().await;
}

async fn an_old_process_finds_nothing_it_remembers(server: Server) {
    let world = server.world().await;
    let copy = server.database.copy().await;
    let read = |store: grantd_store::Store, world: World| async move {
        let app = grantd_wire::ids::AppId::parse(&world.app).unwrap();
        let grant = grantd_wire::ids::GrantId::parse(&world.grant).unwrap();
        store.find_held(app, grant).await.unwrap().unwrap().0
    };
    let old = read(server.store().clone(), world.clone()).await;
    let ask = Ask { accept_lost_revocations: true, ..Ask::default() };
    restore(&server, &copy, ask).await.unwrap();
    let new = read(copy.store.clone(), world.clone()).await;
    assert!(new.app - old.app >= 1 << 32 && new.organization - old.organization >= 1 << 32);
    let chains = "SELECT COUNT(DISTINCT chain_id) FROM events WHERE app_id = ";
    assert_eq!(
        copy.number(&format!("{chains}'{}'", world.app)).await,
        2,
        "a chain of its own: no place is taken twice"
    );
    let sealing = "SELECT COUNT(*) FROM data_keys WHERE app_id IS NOT NULL AND retired_at_ms IS NULL";
    assert_eq!(copy.number(sealing).await, 0, "old data keys open, and seal no more");
    copy.remove().await;
}

async fn restore_replays_what_became_of_users_and_closes_what_told_of_them(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let [suspended, deleted, other] =
        [vendor.user("suspended", None).await, vendor.user("deleted", None).await, vendor.user("other", None).await];
    let scim = world.path(&format!("identity-providers/{}/scim", vendor.idp));
    let directory = server.api("POST", &scim, json!({})).await.ok(201);
    let copy = server.database.copy().await;

    vendor.heard(auth0(&server, "1", "user.updated", "suspended", Some(true), 0)).await;
    vendor.heard(auth0(&server, "2", "user.deleted", "deleted", None, 0)).await;
    server.api("POST", &world.path(&format!("users/{other}/suspend")), Value::Null).await.ok(200);
    server.api("POST", &world.path(&format!("users/{other}/resume")), Value::Null).await.ok(200);
    let webhook = world.path(&format!("identity-providers/{}/webhook", vendor.idp));
    let rotated = server.api("POST", &format!("{webhook}/rotate"), Value::Null).await.ok(201);
    server.api("POST", &format!("{scim}/rotate"), Value::Null).await.ok(201);
    let exports = Exports::new();
    let export = exports.of(&server, &world.path("audit/export"), "app.jsonl").await;

    let restored = restore(&server, &copy, replay(&[&export])).await.unwrap();
    let lost: BTreeSet<&str> = restored.lost.iter().map(|lost| lost.kind).collect();
    assert_eq!(lost, BTreeSet::from(["scim", "webhook"]), "{:?}", restored.lost);
    let after = server.restored(copy, restored.pat.reveal()).await;
    for (user, status) in [(suspended, "suspended"), (deleted, "deprovisioned"), (other, "active")] {
        let shown = after.api("GET", &world.path(&format!("users/{user}")), Value::Null).await.ok(200);
        assert_eq!(shown["user_status"], status);
    }
    // Neither the tokens that were in the backup nor those made since then open anything.
    let event = auth0(&after, "3", "user.deleted", "other", None, 0).to_string();
    for token in [&vendor.token, &text(&rotated, "token")] {
        let raw = vendor.raw("POST", event.clone()).set("authorization", &**token);
        after.send(raw).await.refused(Code::SessionRequired);
    }
    let users = Raw::new("GET", &format!("/scim/v2/{}/Users", vendor.idp), "");
    let bearer = format!("Bearer {}", text(&directory, "token"));
    assert_eq!(after.send(users.set("authorization", bearer)).await.status, 401);
    for path in [&scim, &webhook] {
        after.api("GET", path, Value::Null).await.refused(Code::NotFound);
        after.api("POST", path, json!({})).await.ok(201);
    }
}

async fn restore_replays_what_was_rotated_archived_and_deleted(server: Server) {
    let (world, archived, gone) =
        (server.world().await, server.world_named("Archived").await, server.world_named("Gone").await);
    let (key_id, key) = server.key(&world.app, json!({})).await;
    let deleted = further(&server, &world, "Deleted").await;
    let copy = server.database.copy().await;

    let rotate = world.path(&format!("keys/{key_id}/rotate"));
    let successor = server.api("POST", &rotate, json!({"grace_seconds": 60})).await.ok(201);
    let secret = world.path(&format!("managed-secrets/{}", deleted.secret));
    server.api("DELETE", &secret, Value::Null).await.ok(200);
    server.api("POST", &archived.path("archive"), Value::Null).await.ok(200);
    server.api("POST", &gone.path("archive"), Value::Null).await.ok(200);
    server.api("DELETE", &gone.path(""), Value::Null).await.ok(200);
    let exports = Exports::new();
    let mut all = Vec::new();
    for (world, name) in [(&world, "1"), (&archived, "2"), (&gone, "3")] {
        all.push(exports.of(&server, &world.path("audit/export"), name).await);
    }
    let restored = restore(&server, &copy, replay(&all.iter().collect::<Vec<_>>())).await.unwrap();
    let lost: Vec<&str> = restored.lost.iter().map(|lost| lost.id.as_str()).collect();
    assert_eq!(lost, [&text(&successor, "id")]);
    let server = server.restored(copy, restored.pat.reveal()).await;
    server.token(&archived).await.refused(Code::KeyNotActive);
    server.token(&gone).await.refused(Code::KeyNotActive);
    let keys = format!("SELECT COUNT(*) FROM data_keys WHERE app_id = '{}'", gone.app);
    assert_eq!(server.database.number(&keys).await, 0);
    server.token(&deleted).await.refused(Code::GrantRevoked);
    server.api("GET", &secret, Value::Null).await.refused(Code::SecretNotFound);
    server.token(&world.with_key(&key)).await.ok(200);
    server.advance_ms(60_000);
    server.token(&world.with_key(&key)).await.refused(Code::KeyRotatedGraceExpired);
    server.token(&world).await.ok(200);
}

async fn restore_locks_out_every_other_operator(server: Server) {
    // Ids of one millisecond are in no order, and the first operator is the one who is let in.
    server.advance_ms(1);
    let made = json!({"email": "ann@example.com", "role": "admin"});
    let ann = text(&server.api("POST", "/api/v1/operators", made).await.ok(201), "id");
    let ask = json!({"name": "hers", "operator_id": ann});
    let hers = text(&server.api("POST", "/api/v1/tokens", ask).await.ok(201), "token");
    let copy = server.database.copy().await;
    let path = format!("/api/v1/operators/{ann}");
    server.api("PATCH", &path, json!({"role": "viewer"})).await.ok(200);
    let nothing = Ask { nothing_happened: true, ..Ask::default() };
    let restored = restore(&server, &copy, nothing).await.unwrap();
    let server = server.restored(copy, restored.pat.reveal()).await;
    server.api_as(&hers, "GET", "/api/v1/whoami", Value::Null).await.refused(Code::SessionRequired);
    assert!(server.api("GET", &path, Value::Null).await.ok(200)["disabled_at"].is_string());
    server.api("PATCH", &path, json!({"disabled": false, "role": "viewer"})).await.ok(200);
    server.api_as(&hers, "GET", "/api/v1/whoami", Value::Null).await.refused(Code::SessionRequired);
    let told = server.api("GET", "/api/v1/audit/events?kind=operator.updated", Value::Null).await.ok(200);
    let replayed = told["items"].as_array().unwrap().iter().filter(|event| event["replayed"] == true).count();
    assert_eq!(replayed, 1);
}
