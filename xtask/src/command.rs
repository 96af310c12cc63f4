//! Running other programs so that a reader of the log sees what ran, and a failure says what failed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Result, repository};

/// Features that users may build with, and a plain build is without.
pub const OPTIONAL: &str = "grantd/otlp";

/// A command in the repository's root, without what cargo told this process about itself: build scripts
/// that watch those variables would rebuild their C code on every other run.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repository::root());
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// `cargo` of the toolchain that runs us.
pub fn cargo() -> Command {
    command("cargo")
}

/// `cargo VERB` for what is built of the whole workspace, with everything that users may build with. Every step builds with the same packages
/// chosen, so that cargo gives each dependency the same features and compiles it once for all steps.
pub fn workspace(verb: &str, features: &[&str]) -> Command {
    let mut cargo = cargo();
    cargo.args([verb, "--locked", "--workspace", "--features"]);
    cargo.arg([&[OPTIONAL], features].concat().join(","));
    cargo
}

/// What builds these programs for other programs to run. A test is named beside them because cargo then gives dependencies the features that
/// they have in tests, and compiles none anew.
pub fn programs(names: &[&str], features: &[&str]) -> Command {
    let mut cargo = workspace("build", features);
    cargo.args(["--test", "cluster"]);
    for name in names {
        cargo.args(["--bin", name]);
    }
    cargo
}

/// Prints the command, runs it with our output, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result {
    println!("$ {}", line(command));
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("cannot start `{}`: {error}", line(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{}` ended with {status}", line(command)).into())
}

/// Standard output of a command that must succeed; its complaints go into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start `{}`: {error}", line(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` ended with {}\n{complaint}", line(command), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether a command runs and succeeds; says nothing either way.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The first directory of PATH that holds an executable file of this name.
pub fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|candidate| is_executable(candidate))
}

pub fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let root = format!("{}/", repository::root().display());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().replace(&root, "")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_status() {
        let error = run(command("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 3` ended with exit status: 3");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut command("no-such-program-here")).unwrap_err().to_string();
        assert!(error.starts_with("cannot start `no-such-program-here`"), "{error}");
    }

    #[test]
    fn output_carries_the_complaint() {
        let error = output(command("sh").args(["-c", "echo why >&2; false"])).unwrap_err();
        assert!(error.to_string().ends_with("why\n"), "{error}");
    }

    #[test]
    fn path_lookup_finds_files_that_run() {
        assert!(on_path("sh").is_some());
        assert!(on_path("no-such-program-here").is_none());
    }
}
