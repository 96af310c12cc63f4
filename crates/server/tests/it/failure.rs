//! What fails: the database, the disk, a connection, a sealed value. Nothing is released that is not written down, and nothing
//! has to be started again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::database::directory;
use crate::harness::world::ask;
use crate::harness::{Database, Raw, Server, World};

on_kept_engines! {
    without_a_database_nothing_is_released,
    a_value_whose_data_key_is_gone_stays_closed,
    a_value_moved_to_another_row_stays_closed,
    a_row_that_no_code_of_ours_writes_is_an_error,
    connections_that_end_lose_no_event,
    a_writer_that_hangs_releases_nothing,
}

in_memory! {
    a_server_that_goes_away_says_so,
}

/// Every call that needs the database is 503 and says when to come back; nobody is told more.
async fn all_unavailable(server: &Server, world: &World) {
    let grants = format!("/sdk/managed-secrets/{}/grants", world.secret);
    for raw in [
        server.token_request(world),
        server.sign_as(world).post("/sdk/grants/list", &json!({})),
        server.sign_as(world).post(&grants, &json!({"principal": {"type": "system"}})),
        server.sign_as(world).get("/sdk/scopes"),
        crate::harness::api_request(&server.pat, "GET", "/api/v1/apps", ""),
        Raw::new("GET", "/readyz", ""),
    ] {
        let answer = server.send(raw).await;
        answer.refused(Code::StorageUnavailable);
        assert!(!answer.text.to_lowercase().contains("sql"), "{}", answer.text);
    }
    server.send(Raw::new("GET", "/healthz", "")).await.ok(200);
}

async fn without_a_database_nothing_is_released(server: Server) {
    let world = server.world().await;
    let dying = server.another("dying", |_| {}).await;
    dying.token(&world).await.ok(200);
    dying.store().clone().close().await;
    all_unavailable(&dying, &world).await;
    server.token(&world).await.ok(200);
    assert_eq!(server.told(&world, "token.released").await.len(), 2);
    assert!(server.told(&world, "token.denied").await.is_empty());
}

async fn a_value_whose_data_key_is_gone_stays_closed(server: Server) {
    let world = server.world().await;
    server
        .database
        .behind_its_back(&format!("UPDATE data_keys SET wrapped = pepper FROM installs WHERE app_id = '{}'", world.app))
        .await;
    // Another process has nothing unwrapped yet.
    let other = server.another("other", |_| {}).await;
    other.token(&world).await.refused(Code::KeyUnavailable);
    server.database.behind_its_back(&format!("DELETE FROM data_keys WHERE app_id = '{}'", world.app)).await;
    other.token(&world).await.refused(Code::KeyUnavailable);
    assert!(server.told(&world, "token.released").await.is_empty());
}

async fn a_value_moved_to_another_row_stays_closed(server: Server) {
    let world = server.world().await;
    server.secret(&world.app, json!({"name": "Other", "value": "canary-of-another"})).await;
    // A writer in the database gives one secret's value to the other's grants, or rolls a version back.
    let swap = format!(
        "UPDATE credentials SET sealed = (SELECT c.sealed FROM credentials c WHERE c.secret_id <> '{0}') WHERE secret_id = '{0}'",
        world.secret_id
    );
    server.database.behind_its_back(&swap).await;
    server.token(&world).await.refused(Code::KeyUnavailable);
    server.rotate(&world, "canary-new").await.ok(200);
    server.token(&world).await.ok(200);
    server.database.behind_its_back("UPDATE credentials SET version = version + 1").await;
    server.token(&world).await.refused(Code::KeyUnavailable);
    assert_eq!(server.told(&world, "token.released").await.len(), 1);
}

async fn a_row_that_no_code_of_ours_writes_is_an_error(server: Server) {
    let world = server.world().await;
    let broken = server.grant(&world, json!({})).await;
    let path = world.path(&format!("grants/{broken}"));
    let break_it = format!("UPDATE grants SET status = 'odd' WHERE id = '{broken}'");
    server.database.behind_its_back(&break_it).await;
    let answer = server.api("GET", &path, Value::Null).await;
    let json = answer.refused(Code::Internal);
    assert_eq!(json["request_id"], answer.header("x-request-id"));
    assert!(!answer.text.contains("odd") && !answer.text.contains("status"), "{}", answer.text);
    server.token(&world.with_grant(&broken)).await.refused(Code::Internal);
    server.token(&world).await.ok(200);
    server.database.behind_its_back(&format!("UPDATE grants SET status = 'active' WHERE id = '{broken}'")).await;
}

async fn connections_that_end_lose_no_event(server: Server) {
    let world = server.world().await;
    if server.store().engine_name() != "postgres" {
        return;
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut released = 0;
    for _ in 0..5 {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let (server, world) = (server.clone(), world.clone());
                tokio::spawn(async move { server.token(&world).await })
            })
            .collect();
        server.database.behind_its_back(end).await;
        for call in calls {
            let answer = call.await.unwrap();
            match answer.status {
                200 => released += 1,
                503 => {}
                status => panic!("{status}: {}", answer.text),
            }
        }
    }
    // Nobody had to start anything again.
    let recovered = async {
        while server.token(&world).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered).await.unwrap();
    let told = server.told(&world, "token.released").await.len();
    assert!(told > released, "{released} released, {told} written down");
}

/// An event waits two seconds for its turn, and its credential with it.
async fn a_writer_that_hangs_releases_nothing(server: Server) {
    let world = server.world().await;
    if server.store().engine_name() != "sqlite" {
        return;
    }
    let (entered, inside) = tokio::sync::oneshot::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (store, mut entered) = (server.store().clone(), Some(entered));
    let hanging = tokio::spawn(async move {
        let hang = move |_: &mut grantd_store::Tx<'_>| {
            entered.take().unwrap().send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        };
        store.write(hang).await
    });
    inside.await.unwrap();
    let answer = server.token(&world).await;
    answer.refused(Code::AuditUnavailable);
    go_on.send(()).unwrap();
    hanging.await.unwrap().unwrap();
    server.token(&world).await.ok(200);
}

async fn a_server_that_goes_away_says_so(server: Server) {
    let world = server.world().await;
    server.send(Raw::new("GET", "/readyz", "")).await.ok(200);
    server.vault.start_draining();
    server.send(Raw::new("GET", "/readyz", "")).await.refused(Code::Draining);
    server.send(Raw::new("GET", "/healthz", "")).await.ok(200);
    // What still comes is still served.
    server.token(&world).await.ok(200);
}

/// A small file system of its own; `None` where we may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let at = directory();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&at).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        std::fs::remove_dir(&at).unwrap();
        None
    }

    /// Leaves no free byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        Path::new(&self.0).join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
        drop(std::fs::remove_dir(&self.0));
    }
}

/// Only root may mount; the store's own story of a database that may not grow needs nobody's permission.
#[test]
fn a_full_disk_releases_nothing_and_is_recovered_from() {
    let Some(disk) = SmallDisk::mount() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::create(Database::in_directory(&disk.0).await).await;
        let world = server.world().await;
        server.token(&world).await.ok(200);
        disk.fill();
        // The write-ahead log still has a little room: calls are released until it has none.
        let mut released = 1;
        let mut body = ask(&world.grant);
        body["reason"] = json!("x".repeat(2_000));
        let mut answer = server.send(server.sign_as(&world).post("/sdk/token", &body)).await;
        while answer.status == 200 {
            released += 1;
            answer = server.send(server.sign_as(&world).post("/sdk/token", &body)).await;
        }
        answer.refused(Code::StorageUnavailable);
        for _ in 0..5 {
            server.send(server.sign_as(&world).post("/sdk/token", &body)).await.refused(Code::StorageUnavailable);
        }
        // Reads go on; changes are refused, and none of them is half done.
        let list = server.send(server.sign_as(&world).post("/sdk/grants/list", &json!({}))).await.ok(200);
        assert_eq!(list["total"], 1);
        server.revoke(&world, &world.grant).await.refused(Code::StorageUnavailable);
        disk.make_room();
        server.token(&world).await.ok(200);
        assert_eq!(server.told(&world, "token.released").await.len(), released + 1);
        assert!(server.told(&world, "grant.revoked").await.is_empty());
        assert!(!server.trail(&world).await.is_empty());
        server.database.remove().await;
    });
}
