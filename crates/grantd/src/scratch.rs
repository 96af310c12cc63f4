//! Whole command lines on real files, for tests.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use grantd_domain::env::new_uuid;
use serde_json::Value;

use crate::cli::{run, testing};
use crate::host::Host;

/// A directory that goes away with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("grantd-scratch-{}", new_uuid(&Host)));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub fn names(&self, directory: &str) -> Vec<String> {
        let names = std::fs::read_dir(self.0.join(directory)).unwrap();
        let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Exit code, stdout as JSON, stderr.
pub async fn grantd(arguments: &[&str]) -> (u8, Value, String) {
    let (term, out, err) = testing::term("");
    let arguments = std::iter::once("grantd").chain(arguments.iter().copied()).map(OsString::from);
    let exit = run(arguments, [("GRANTD_LOG", "off")].into_iter().collect(), term).await;
    (exit as u8, serde_json::from_str(&out.text()).unwrap_or_default(), err.text())
}

pub async fn ok(arguments: &[&str]) -> Value {
    let (exit, answer, err) = grantd(arguments).await;
    assert_eq!(exit, 0, "{arguments:?}: {err}");
    answer
}
