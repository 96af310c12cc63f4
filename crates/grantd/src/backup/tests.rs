//! Whole command lines on real files.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::scratch::{Scratch, grantd, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_whole_private_and_told_and_is_made_beside_a_process_that_has_the_database_open() {
    let scratch = Scratch::new();
    let (data, out) = (scratch.path("data"), scratch.path("out"));
    let made = ok(&["init", "--data-dir", &data]).await;
    std::fs::create_dir(&out).unwrap();
    let other = grantd_store::Store::open(&grantd_store::Location::File(scratch.0.join("data/grantd.db")), "other", 1)
        .await
        .unwrap();
    other.raise_clock_floor(TimeMs(1)).await.unwrap();

    let first = ok(&["backup", "--data-dir", &data, "--out", &out]).await;
    let path = PathBuf::from(first["path"].as_str().unwrap());
    let manifest = Manifest::check(&path).unwrap();
    assert_eq!(manifest.install_id.map(|id| id.to_string()).as_deref(), made["organization_id"].as_str());
    assert_eq!((manifest.root_key_ids.len(), manifest.counts.events), (1, 3));
    assert_eq!(first["bytes"].as_u64(), Some(std::fs::metadata(&path).unwrap().len()));
    for file in [&path, &manifest::path_of(&path)] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(scratch.names("out").len(), 2, "{:?}", scratch.names("out"));

    // The trail has told of it, so the next one holds one event more; and of no key is there a byte.
    let named = scratch.path("out/second.db");
    let second = ok(&["backup", "--data-dir", &data, "--out", &named]).await;
    assert_eq!(second["events"], 4);
    let key = std::fs::read_to_string(scratch.path("data/root.key")).unwrap();
    let copy = std::fs::read(&named).unwrap();
    let raw: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert!(!copy.windows(32).any(|w| w == raw) && !copy.windows(64).any(|w| w == &key.as_bytes()[..64]));
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_overwritten_and_a_killed_run_stands_in_nobodys_way() {
    let scratch = Scratch::new();
    let (data, file) = (scratch.path("data"), scratch.path("copy.db"));
    ok(&["init", "--data-dir", &data]).await;
    std::fs::write(&file, "mine").unwrap();
    let (exit, _, err) = grantd(&["backup", "--data-dir", &data, "--out", &file]).await;
    assert!(exit == 5 && err.contains("is there already"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    std::fs::remove_file(&file).unwrap();

    // What a run that was killed leaves: half a copy, and a manifest without its copy.
    std::fs::write(scratch.path("copy.db.partial"), vec![7; 100_000]).unwrap();
    std::fs::write(scratch.path("copy.db.json"), "{}").unwrap();
    ok(&["backup", "--data-dir", &data, "--out", &file]).await;
    Manifest::check(Path::new(&file)).unwrap();
    assert_eq!(scratch.names(""), ["copy.db", "copy.db.json", "data"]);

    // A run that lives is left alone.
    let other = scratch.path("other.db");
    let lives = Partial::create(Path::new(&other)).unwrap();
    let (exit, _, err) = grantd(&["backup", "--data-dir", &data, "--out", &other]).await;
    assert!(exit == 5 && err.contains("another run"), "{err}");
    drop(lives);
    assert!(!Path::new(&other).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_said() {
    let scratch = Scratch::new();
    let (data, none) = (scratch.path("data"), scratch.path("none"));
    let (exit, _, err) = grantd(&["backup", "--data-dir", &none]).await;
    assert!(exit == 1 && err.contains("there is no database"), "{err}");
    let url = "postgres://u@127.0.0.1:1/x";
    let (exit, _, err) = grantd(&["backup", "--data-dir", &none, "--database-url", url, "--output", "json"]).await;
    assert!(exit == 1 && err.contains("feature_unavailable") && err.contains("pg_dump"), "{err}");
    ok(&["init", "--data-dir", &data]).await;
    let nowhere = scratch.path("no/such/directory/copy.db");
    let (exit, _, err) = grantd(&["backup", "--data-dir", &data, "--out", &nowhere]).await;
    assert!(exit == 1 && err.contains("cannot write") && err.contains("--out"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_cut_or_bare_copy_is_no_backup() {
    let scratch = Scratch::new();
    let (data, file) = (scratch.path("data"), scratch.path("copy.db"));
    ok(&["init", "--data-dir", &data]).await;
    ok(&["backup", "--data-dir", &data, "--out", &file]).await;
    let (copy, list) = (PathBuf::from(&file), manifest::path_of(Path::new(&file)));
    let (whole, told) = (std::fs::read(&copy).unwrap(), std::fs::read_to_string(&list).unwrap());

    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&copy, &changed).unwrap();
    assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Sum(_))));
    std::fs::write(&copy, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Length { .. })));
    std::fs::write(&copy, &whole).unwrap();
    std::fs::write(&list, told.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Format { format: 2, .. })));
    for text in ["", "{}", "{\"type\":\"grantd.backup\",\"format\":1}"] {
        std::fs::write(&list, text).unwrap();
        assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Malformed(_))), "{text}");
    }
    std::fs::remove_file(&list).unwrap();
    assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Missing(_))));
    std::fs::remove_file(&copy).unwrap();
    assert!(matches!(Manifest::check(&copy), Err(manifest::ManifestError::Unreadable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (data, small) = (scratch.path("data"), scratch.path("small"));
    ok(&["init", "--data-dir", &data]).await;
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", &small]).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        // Only root may mount; CI is root.
        return;
    }
    let (exit, _, err) = grantd(&["backup", "--data-dir", &data, "--out", &small]).await;
    let left = scratch.names("small");
    drop(Command::new("umount").arg("-l").arg(&small).output());
    assert!(exit == 1 && err.contains("cannot copy") && err.contains("full"), "{err}");
    assert!(left.is_empty(), "{left:?}");
}
