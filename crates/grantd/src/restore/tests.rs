//! Whole command lines on real files. That nothing revoked comes back is tested where the server is.

use std::os::unix::fs::PermissionsExt as _;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::grant::{App, AppState};
use grantd_store::{append_event, apps};
use grantd_wire::api::{ConnectSignIn, Retrieve, TenantMode};
use grantd_wire::ids::AppId;
use serde_json::Value;

use super::*;
use crate::scratch::{Scratch, grantd, ok};

/// An install with one app, and a backup of it.
struct Install {
    scratch: Scratch,
    data: String,
    backup: String,
    app: AppId,
}

impl Install {
    async fn new() -> Self {
        let scratch = Scratch::new();
        let (data, backup) = (scratch.path("data"), scratch.path("backup.db"));
        ok(&["init", "--data-dir", &data]).await;
        let app = AppId::from_uuid(grantd_domain::env::new_uuid(&Host));
        let this = Self { scratch, data, backup, app };
        this.write(true).await;
        ok(&["backup", "--data-dir", &this.data, "--out", &this.backup]).await;
        this
    }

    /// An event of the app; with the app itself, when it is new.
    async fn write(&self, is_new: bool) {
        let store = open(&self.scratch.0.join("data/grantd.db")).await.unwrap();
        let id = self.app;
        let event =
            Event::new(&Host, Host.now(), Owner::App(id), Kind::AppCreated, Outcome::Allowed, Actor::Job).prepare();
        store
            .write(move |tx| {
                let organization = grantd_store::installs::organization(tx)?.unwrap();
                if is_new {
                    apps::insert(tx, &app(id, organization))?;
                }
                append_event(tx, &event)
            })
            .await
            .unwrap();
        store.close().await;
    }

    async fn restore(&self, more: &[&str]) -> (u8, Value, String) {
        let base = ["restore", &self.backup, "--data-dir", &self.data, "--output", "json"];
        grantd(&[&base[..], more].concat()).await
    }

    fn pat(&self) -> String {
        std::fs::read_to_string(self.scratch.path("data/operator.pat")).unwrap()
    }
}

fn app(id: AppId, organization_id: grantd_wire::ids::OrganizationId) -> App {
    App {
        id,
        organization_id,
        name: "shop".to_owned(),
        description: None,
        website_url: None,
        state: AppState::Active,
        tenant_key: None,
        tenant_mode: TenantMode::Off,
        retrieve: Retrieve::On,
        indexed_context_keys: Vec::new(),
        connect_sign_in: ConnectSignIn::Off,
        return_origins: Vec::new(),
        created_at: Host.now(),
        version: 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_with_the_root_key_becomes_the_install_again() {
    let install = Install::new().await;
    let (old, pat) = (install.scratch.path("old"), install.pat());
    std::fs::rename(&install.data, &old).unwrap();
    // Without the root key, nothing is made.
    let (exit, _, err) = install.restore(&["--accept-lost-revocations"]).await;
    assert!(exit == 1 && err.contains("there is no root key file"), "{err}");
    assert!(!install.scratch.0.join("data/grantd.db").exists());
    std::fs::copy(install.scratch.path("old/root.key"), install.scratch.path("data/root.key")).unwrap();
    // Without a word about what was revoked, neither.
    let (exit, _, err) = install.restore(&[]).await;
    assert!(exit == 1 && err.contains("lost_revocations") && err.contains("app shop"), "{err}");
    assert!(!install.scratch.0.join("data/grantd.db").exists());

    let (exit, answer, err) = install.restore(&["--accept-lost-revocations"]).await;
    assert_eq!(exit, 0, "{err}");
    assert!(answer["replayed"] == 0 && answer["gap_seconds"].is_i64() && answer["kept"].is_null(), "{answer}");
    // What the backup held, and what the restore told.
    assert_eq!(answer["events"], 4 + 3);
    assert_ne!(install.pat(), pat, "old tokens are revoked");
    let names = install.scratch.names("data");
    assert!(!names.iter().any(|name| name.contains("partial") || name.contains("wal")), "{names:?}");
    let mode = std::fs::metadata(install.scratch.path("data/grantd.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // There is a database now.
    let (exit, _, err) = install.restore(&["--accept-lost-revocations"]).await;
    assert!(exit == 5 && err.contains("--in-place"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_place_keeps_the_old_one_and_asks_for_nothing_when_nothing_happened() {
    let install = Install::new().await;
    let (exit, answer, err) = install.restore(&["--in-place"]).await;
    assert_eq!(exit, 0, "{err}");
    let kept = PathBuf::from(answer["kept"].as_str().unwrap());
    assert_eq!(std::fs::metadata(kept.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let old = open(&kept).await.unwrap();
    assert!(old.read(facts::read).await.unwrap().install_id.is_some());
    old.close().await;
    // Now something has: the restore itself.
    let (exit, _, err) = install.restore(&["--in-place"]).await;
    assert!(exit == 1 && err.contains("lost_revocations"), "{err}");
    // The same after a change that the backup does not know.
    let other = Install::new().await;
    other.write(false).await;
    let (exit, _, err) = other.restore(&["--in-place"]).await;
    assert!(exit == 1 && err.contains("lost_revocations"), "{err}");
    // A database that cannot be read says nothing; it is kept all the same.
    std::fs::write(other.scratch.path("data/grantd.db"), vec![7; 8192]).unwrap();
    let (exit, _, err) = other.restore(&["--in-place"]).await;
    assert!(exit == 1 && err.contains("lost_revocations"), "{err}");
    let (exit, answer, err) = other.restore(&["--in-place", "--accept-lost-revocations"]).await;
    assert_eq!(exit, 0, "{err}");
    assert_eq!(std::fs::read(answer["kept"].as_str().unwrap()).unwrap(), vec![7; 8192]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_backup_changes_nothing() {
    let (install, other) = (Install::new().await, Install::new().await);
    let before = std::fs::read(install.scratch.path("data/grantd.db")).unwrap();
    let mut changed = std::fs::read(&install.backup).unwrap();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let bad = install.scratch.path("bad.db");
    std::fs::write(&bad, &changed).unwrap();
    std::fs::copy(format!("{}.json", install.backup), format!("{bad}.json")).unwrap();
    let none = install.scratch.path("none.db");
    let base = |backup: &str| {
        ["restore", backup, "--data-dir", &install.data, "--in-place", "--accept-lost-revocations", "--output", "json"]
            .map(str::to_owned)
    };
    // Another install's, with its own key even.
    for (backup, said) in [(&bad, "invalid_backup"), (&none, "invalid_backup"), (&other.backup, "another install")] {
        let arguments = base(backup);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (exit, _, err) = grantd(&arguments).await;
        assert!(exit != 0 && err.contains(said), "{err}");
    }
    // The right backup and a wrong key.
    let key = std::fs::read(other.scratch.path("data/root.key")).unwrap();
    std::fs::write(install.scratch.path("data/root.key"), key).unwrap();
    let (exit, _, err) = install.restore(&["--in-place", "--accept-lost-revocations"]).await;
    assert!(exit == 1 && err.contains("the root key is not the one"), "{err}");
    assert_eq!(std::fs::read(install.scratch.path("data/grantd.db")).unwrap(), before);
    assert!(install.scratch.names("data").iter().all(|name| !name.contains("partial") && !name.contains("replaced")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_the_way_and_flags_that_do_not_go_together_are_said() {
    let install = Install::new().await;
    let taken = DataDir::take(Path::new(&install.data)).unwrap();
    let (exit, _, err) = install.restore(&["--in-place", "--accept-lost-revocations"]).await;
    assert!(exit == 1 && err.contains("in use by another grantd"), "{err}");
    drop(taken);
    let (exit, _, err) = grantd(&["restore", "--data-dir", &install.data]).await;
    assert!(exit == 2 && err.contains("no backup named"), "{err}");
    let url = "postgres://u@127.0.0.1:1/x";
    let (exit, _, err) = install.restore(&["--database-url", url]).await;
    assert!(exit == 2 && err.contains("cannot be put into PostgreSQL"), "{err}");
    // Restored with other tools: only what follows is done, and that once.
    let base = ["restore", "--in-place", "--data-dir", &install.data];
    let (exit, _, err) = grantd(&base).await;
    assert!(exit == 1 && err.contains("--accept-lost-revocations"), "{err}");
    let answer = ok(&[&base[..], &["--accept-lost-revocations"]].concat()).await;
    assert!(answer["kept"].is_null() && answer["pat_file"].as_str().unwrap().ends_with("operator.pat"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_database_does_not_mix_with_the_restored_one() {
    let install = Install::new().await;
    // What a crash between putting the file and its log aside leaves.
    std::fs::remove_file(install.scratch.path("data/grantd.db")).unwrap();
    std::fs::write(install.scratch.path("data/grantd.db-wal"), vec![1; 4096]).unwrap();
    let (exit, answer, err) = install.restore(&["--accept-lost-revocations"]).await;
    assert_eq!(exit, 0, "{err}");
    assert!(answer["kept"].as_str().unwrap().contains("replaced-"));
    assert!(!install.scratch.0.join("data/grantd.db-wal").exists());
}
