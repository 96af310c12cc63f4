//! Whole command lines on real files: every finding once good and once bad.

use std::os::unix::fs::PermissionsExt as _;

use grantd_store::{Location, Store};
use serde_json::Value;

use crate::scratch::{Scratch, grantd, ok};

/// Exit code, and level, text and fix of the worst finding of this id.
async fn doctor(data: &str, more: &[&str], id: &str) -> (u8, String, String, String) {
    let (exit, answer, err) = grantd(&[&["doctor", "--data-dir", data, "--output", "json"], more].concat()).await;
    let findings = answer["findings"].as_array().unwrap_or_else(|| panic!("{err}")).clone();
    assert_eq!(answer["ok"], exit == 0);
    let rank = |f: &&Value| ["ok", "skipped", "warning", "failure"].iter().position(|l| f["level"] == *l);
    let found =
        findings.iter().filter(|f| f["id"] == id).max_by_key(rank).unwrap_or_else(|| panic!("no {id}: {answer}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (exit, text("level"), text("what"), text("fix"))
}

async fn open(scratch: &Scratch) -> Store {
    Store::open(&Location::File(scratch.0.join("data/grantd.db")), "test", 1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_install_is_sound_and_every_finding_that_is_none_says_what_to_do() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    ok(&["init", "--data-dir", &data]).await;
    let (exit, level, what, fix) = doctor(&data, &[], "backup").await;
    assert!(exit == 0 && level == "warning" && what.contains("never") && fix.contains("grantd backup"), "{what}");
    ok(&["backup", "--data-dir", &data, "--out", &scratch.path("b.db")]).await;
    let (exit, level, what, _) = doctor(&data, &[], "backup").await;
    assert!(exit == 0 && level == "ok" && what.contains("0 days"), "{what}");
    for id in [
        "configuration",
        "data_dir",
        "root_key",
        "root_keys_needed",
        "database",
        "integrity",
        "schema",
        "install",
        "writable",
        "clock",
        "credentials",
        "identity_keys",
        "processes",
        "disk_sync",
    ] {
        assert_eq!(doctor(&data, &[], id).await.1, "ok", "{id}");
    }
    for id in ["tls", "public_url", "outbound", "sso"] {
        assert_eq!(doctor(&data, &[], id).await.1, "skipped", "{id}");
    }
    for id in ["integrity", "credentials", "identity_keys"] {
        assert_eq!(doctor(&data, &["--quick"], id).await.1, "skipped", "{id}");
    }
    // It is looked at beside a process that has it, and nothing stays behind.
    let taken = crate::boot::DataDir::take(std::path::Path::new(&data)).unwrap();
    assert!(doctor(&data, &[], "data_dir").await.2.contains("process has it"));
    drop(taken);
    assert!(scratch.names("data").iter().all(|name| !name.starts_with("doctor")));
    let (exit, _, err) = grantd(&["doctor", "--data-dir", &data, "--output", "table"]).await;
    assert_eq!(exit, 0, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_named_and_the_rest_is_looked_at_all_the_same() {
    let scratch = Scratch::new();
    let (data, key) = (scratch.path("data"), scratch.path("data/root.key"));
    let (exit, level, _, fix) = doctor(&data, &[], "data_dir").await;
    assert!(exit == 1 && level == "failure" && fix.contains("grantd init"));
    ok(&["init", "--data-dir", &data]).await;
    let right = std::fs::read(&key).unwrap();

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, level, what, _) = doctor(&data, &[], "root_key").await;
    assert!(exit == 1 && level == "failure" && what.contains("chmod 600"), "{what}");
    assert_eq!(doctor(&data, &[], "writable").await.1, "ok");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    std::fs::write(&key, "ab".repeat(31) + "cd").unwrap();
    let (exit, level, what, _) = doctor(&data, &[], "root_key").await;
    assert!(exit == 1 && level == "failure" && what.contains("not the one"), "{what}");
    let (_, level, what, fix) = doctor(&data, &[], "root_keys_needed").await;
    assert!(level == "failure" && what.contains("not given") && fix.contains("root_key_also"), "{what}");
    std::fs::write(&key, &right).unwrap();

    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(doctor(&data, &[], "data_dir").await.1, "warning");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();

    let (exit, level, _, _) = doctor(&data, &["--listen", "nowhere"], "configuration").await;
    assert!(exit == 1 && level == "failure");
    let none = scratch.path("none.pem");
    let (exit, level, what, _) = doctor(&data, &["--tls-cert-file", &none, "--tls-key-file", &none], "tls").await;
    assert!(exit == 1 && level == "failure" && what.contains("cannot read"), "{what}");
    let postgres = ["--database-url", "postgres://u@127.0.0.1:1/x"];
    let (exit, level, _, _) = doctor(&data, &postgres, "database").await;
    assert!(exit == 1 && level == "failure");

    std::fs::remove_file(scratch.path("data/grantd.db")).unwrap();
    let (exit, level, what, _) = doctor(&data, &[], "database").await;
    assert!(exit == 1 && level == "failure" && what.contains("no database"), "{what}");
    std::fs::write(scratch.path("data/grantd.db"), vec![7; 8192]).unwrap();
    assert_eq!(doctor(&data, &[], "integrity").await.1, "failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_went_back_is_a_failure_until_it_is_accepted_and_the_trail_says_so() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    ok(&["init", "--data-dir", &data]).await;
    let now = grantd_domain::env::Clock::now(&crate::host::Host);
    let store = open(&scratch).await;
    store.raise_clock_floor(now.plus_seconds(3_600)).await.unwrap();
    store.close().await;
    let (exit, level, what, fix) = doctor(&data, &[], "clock").await;
    assert!(exit == 1 && level == "failure" && what.contains("behind") && fix.contains("--accept-clock"), "{what}");
    let (exit, level, ..) = doctor(&data, &["--accept-clock"], "clock").await;
    assert!(exit == 0 && level == "ok");
    // Accepting what needs no accepting tells nothing.
    doctor(&data, &["--accept-clock"], "clock").await;
    let store = open(&scratch).await;
    let told = store
        .read(|tx| {
            let owner = grantd_domain::audit::Owner::Organization(grantd_store::installs::organization(tx)?.unwrap());
            let filter = grantd_store::audit::EventFilter { limit: 100, ..Default::default() };
            grantd_store::audit::list(tx, &owner, &filter)
        })
        .await
        .unwrap();
    assert_eq!(told.events.iter().filter(|event| event.core.contains("clock.accepted")).count(), 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_is_called() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    ok(&["init", "--data-dir", &data]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap().to_string();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (exit, level, what, _) = doctor(&data, &["--outbound-allow", &there], "outbound").await;
    assert!(exit == 0 && level == "ok" && what.contains("takes connections"), "{what}");
    let (exit, level, _, fix) = doctor(&data, &["--outbound-allow", &closed], "outbound").await;
    assert!(exit == 0 && level == "warning" && !fix.is_empty());
    let (_, level, what, _) = doctor(&data, &["--outbound-allow", "10.0.0.0/8"], "outbound").await;
    assert!(level == "skipped" && what.contains("nothing was tried"), "{what}");
    let (_, level, what, _) = doctor(&data, &["--public-url", &format!("http://{closed}")], "public_url").await;
    assert!(level == "warning" && what.contains("does not answer"), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_is_rotated_from_the_command_line() {
    let scratch = Scratch::new();
    let (data, new) = (scratch.path("data"), scratch.path("new.key"));
    ok(&["init", "--data-dir", &data]).await;
    let to = format!("file:{new}");
    let rotate = ["rotate-root-key", "--data-dir", &data, "--to", &to];
    let (exit, _, err) = grantd(&rotate).await;
    assert!(exit == 1 && err.contains("openssl rand"), "{err}");
    std::fs::write(&new, "ab".repeat(31) + "cd").unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    let answer = ok(&rotate).await;
    assert!(answer["rewrapped"] == 1 && answer["remaining"] == 0, "{answer}");
    assert_eq!(ok(&rotate).await["rewrapped"], 0);
    // The old key is needed no more, and the new one alone opens everything.
    let (exit, level, what, _) = doctor(&data, &["--root-key-also", &to], "root_keys_needed").await;
    assert!(exit == 0 && level == "ok" && what.contains("not needed"), "{what}");
    assert_eq!(doctor(&data, &["--root-key", &to], "install").await.1, "ok");
    assert_eq!(doctor(&data, &[], "root_key").await.1, "failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_an_authenticator_app_that_does_not_open_is_found() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    ok(&["init", "--data-dir", &data]).await;
    let operator = grantd_wire::ids::OperatorId::from_uuid(grantd_wire::ids::uuid_v7(1, [0; 10]));
    let store = open(&scratch).await;
    store.write(move |tx| grantd_store::totps::begin(tx, operator, &[1, 2, 3], 1)).await.unwrap();
    store.close().await;
    let (exit, level, what, _) = doctor(&data, &[], "credentials").await;
    assert!(
        exit == 1 && level == "failure" && what.contains(&format!("authenticator app of operator {operator}")),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_signs_assertions_and_does_not_open_is_found() {
    let scratch = Scratch::new();
    let data = scratch.path("data");
    ok(&["init", "--data-dir", &data]).await;
    let id = |n| grantd_wire::ids::uuid_v7(n, [0; 10]);
    let key = grantd_store::signing_keys::SigningKey {
        id: grantd_wire::ids::SigningKeyId::from_uuid(id(1)),
        public_jwk: serde_json::json!({}),
        data_key_id: grantd_wire::ids::DataKeyId::from_uuid(id(2)),
        private_sealed: vec![1, 2, 3],
    };
    let named = key.id.to_string();
    let store = open(&scratch).await;
    let insert = move |tx: &mut grantd_store::Tx<'_>| {
        grantd_store::signing_keys::insert_for_identity(tx, &key, grantd_wire::TimeMs(0))
    };
    store.write(insert).await.unwrap();
    store.close().await;
    let (exit, level, what, fix) = doctor(&data, &[], "identity_keys").await;
    assert!(exit == 1 && level == "failure" && what.contains(&named) && fix.contains("identity-keys rotate"), "{what}");
    assert_eq!(doctor(&data, &[], "credentials").await.1, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_sign_on_is_tried_as_the_server_would() {
    let scratch = Scratch::new();
    let (data, secret) = (scratch.path("data"), scratch.path("secret"));
    ok(&["init", "--data-dir", &data]).await;
    let set = ["--sso-issuer", "http://127.0.0.1:1", "--sso-client-id", "c", "--sso-client-secret-file", &secret];
    let (exit, level, what, fix) = doctor(&data, &set, "sso").await;
    assert!(
        exit == 1 && level == "failure" && what.contains("cannot be read") && fix.contains("client secret"),
        "{what}"
    );
    std::fs::write(&secret, "canary\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (exit, level, what, fix) = doctor(&data, &set, "sso").await;
    assert!(exit == 0 && level == "warning" && what.contains("outbound.allow"), "{what}");
    assert!(fix.contains("sso.issuer") && fix.contains("other ways to sign in work"), "{fix}");
    let required = [&set[..], &["--sso-required", "true"]].concat();
    let (_, _, _, fix) = doctor(&data, &required, "sso").await;
    assert!(fix.contains("nobody signs in but by a link"), "{fix}");
    // The port of nobody.
    let named = [&set[..], &["--outbound-allow", "127.0.0.1:1"]].concat();
    let (_, level, what, _) = doctor(&data, &named, "sso").await;
    assert!(level == "warning" && what.contains("cannot be connected to"), "{what}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, answer, err) = grantd(&[&["doctor", "--data-dir", &data, "--output", "json"], &set[..]].concat()).await;
    assert!(exit == 0 && answer.to_string().contains("chmod 600"), "{answer}");
    assert!(!answer.to_string().contains("canary") && !err.contains("canary"));
}
