//! What the compiler does not hold us to: which crate may use which, how long a file may grow, and that no text
//! of ours points outside of the repository.
//!
//! Invariant: every crate of the workspace has a row in `MAY_USE`. A new crate needs an edge worth enforcing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::{Result, command, repository};

/// Longest Rust file. Past it, a file holds two things.
const LINES_MAX: usize = 700;

/// Direct edges that may exist, in any kind of dependency: normal, build or dev.
const MAY_USE: &[(&str, &[&str])] = &[
    ("grantd-wire", &[]),
    ("grantd-sdk", &["grantd-wire"]),
    ("grantd-domain", &["grantd-wire"]),
    ("grantd-store", &["grantd-domain", "grantd-wire"]),
    ("grantd-server", &["grantd-domain", "grantd-store", "grantd-wire"]),
    ("grantd", &["grantd-domain", "grantd-sdk", "grantd-server", "grantd-store", "grantd-wire"]),
    // Judges grantd from the outside.
    ("grantd-crash", &["grantd-wire"]),
    ("grantd-fuzz", &["grantd-domain", "grantd-server", "grantd-store", "grantd-wire"]),
    ("grantd-lab", &["grantd-domain", "grantd-store", "grantd-wire"]),
    ("xtask", &[]),
];

/// Crates of others that would bring into a room what never belongs there. Tests may use them.
const NEVER: &[(&str, &[&str])] = &[
    ("grantd-wire", &["axum", "hyper", "reqwest", "rusqlite", "tokio", "tokio-postgres"]),
    ("grantd-domain", &["axum", "http", "hyper", "reqwest", "rusqlite", "tokio", "tokio-postgres"]),
    ("grantd-store", &["axum", "hyper", "reqwest"]),
    ("grantd-server", &["deadpool", "rusqlite", "tokio-postgres"]),
];

/// Looks at the whole repository and lists everything wrong with it.
pub fn check() -> Result {
    let metadata =
        command::output(command::cargo().args(["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    let mut problems = wrong_edges(&serde_json::from_str(&metadata)?)?;
    let machine = machine_directories();
    let mut files = 0;
    for file in repository::files()? {
        // A file may vanish under us, or be no text: neither is a finding.
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        files += 1;
        let shown = file.strip_prefix(repository::root()).unwrap_or(&file);
        problems.extend(too_long(shown, &text));
        problems.extend(stray_paths(shown, &text, &machine));
    }
    if problems.is_empty() {
        println!("{} crates and {files} files keep the rules", MAY_USE.len());
        return Ok(());
    }
    for problem in &problems {
        println!("  {problem}");
    }
    Err(format!("{} of the rules in ARCHITECTURE.md broken, listed above", problems.len()).into())
}

fn wrong_edges(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let never: BTreeMap<&str, &[&str]> = NEVER.iter().copied().collect();
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().ok_or("a package without a name")?;
        let Some(may_use) = rules.get(name) else {
            problems.push(format!("crate `{name}` has no row in xtask/src/edges.rs: what may it use?"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().ok_or("a package without dependencies")?;
        for dependency in dependencies {
            let other = dependency["name"].as_str().ok_or("a dependency without a name")?;
            let is_ours = members.contains(other);
            let is_normal = dependency["kind"].is_null();
            let is_never = never.get(name).is_some_and(|never| never.contains(&other));
            if is_ours && !may_use.contains(&other) || is_normal && is_never {
                problems.push(format!("`{name}` must not depend on `{other}`"));
            }
            if !is_ours && dependency["path"].is_string() {
                problems.push(format!("`{name}` depends on `{other}`, which is not in this repository"));
            }
        }
    }
    Ok(problems)
}

fn too_long(file: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    (is_rust && lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", file.display()))
}

/// The directories of this machine that no text may name: the checkout, and where it stands.
fn machine_directories() -> Vec<String> {
    let shared = ["/", "/tmp", "/home", "/root", "/usr", "/opt", "/srv", "/src", "/var"];
    let root = repository::root();
    [Some(root), root.parent()]
        .into_iter()
        .flatten()
        .map(|directory| directory.display().to_string())
        .filter(|directory| !shared.contains(&directory.as_str()))
        .collect()
}

/// Relative mentions that lead out of the repository or to nothing, and of this machine's own directories.
fn stray_paths(file: &Path, text: &str, machine: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{}:{}", file.display(), index + 1);
        if is_prose(file, line) {
            for mention in words_from(line, "../") {
                if !leads_somewhere(file, mention) {
                    problems.push(format!("{}: `{mention}` is not in this repository", place()));
                }
            }
        }
        for directory in machine {
            for mention in words_from(line, directory) {
                let rest = &mention[directory.len()..];
                if rest.is_empty() || rest.starts_with('/') {
                    problems.push(format!("{}: `{mention}` is a path of one machine", place()));
                }
            }
        }
    }
    problems
}

/// Rust and Python hold hostile paths in their tests, so only their comments and includes count.
fn is_prose(file: &Path, line: &str) -> bool {
    let line = line.trim_start();
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("rs") => line.starts_with("//") || line.contains("include") || line.starts_with("#[path"),
        Some("py") => line.starts_with('#'),
        _ => true,
    }
}

/// The words of a line that start with `start`, up to the first character that no path of ours has.
fn words_from<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(start).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|character| character.is_alphanumeric() || "/._-~%*".contains(character)) {
            return None;
        }
        let word = &line[at..];
        let is_outside = |character: char| !character.is_alphanumeric() && !"/._-".contains(character);
        let end = word.find(is_outside).unwrap_or(word.len());
        Some(word[..end].trim_end_matches('.'))
    })
}

/// A path below `target` leads somewhere once something was built.
fn leads_somewhere(file: &Path, mention: &str) -> bool {
    let bases = [file.parent().unwrap_or(Path::new("")), crate_of(file)];
    bases
        .iter()
        .filter_map(|base| inside(&base.join(mention)))
        .any(|path| path.starts_with("target") || repository::root().join(path).exists())
}

/// `crates/wire` of `crates/wire/src/lib.rs`; `xtask` of `xtask/src/main.rs`.
fn crate_of(file: &Path) -> &Path {
    file.ancestors()
        .find(|directory| repository::root().join(directory).join("Cargo.toml").is_file())
        .unwrap_or(Path::new(""))
}

/// The path without its `..`, unless they climb above the repository.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        let goes_up = component == Component::ParentDir;
        if goes_up && !plain.pop() {
            return None;
        }
        if let Component::Normal(name) = component {
            plain.push(name);
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, uses: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> = uses.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "name": name, "dependencies": dependencies })
    }

    fn edges(packages: &[Value]) -> Vec<String> {
        wrong_edges(&json!({ "packages": packages })).unwrap()
    }

    #[test]
    fn the_drawn_edges_are_allowed() {
        let all: Vec<Value> = MAY_USE
            .iter()
            .map(|(name, uses)| {
                let uses: Vec<_> = uses.iter().map(|name| (*name, None)).collect();
                package(name, &uses)
            })
            .collect();
        assert_eq!(edges(&all), Vec::<String>::new());
    }

    #[test]
    fn any_other_edge_is_named_whatever_its_kind() {
        for kind in [None, Some("dev"), Some("build")] {
            let found = edges(&[
                package("grantd-domain", &[("grantd-store", kind), ("serde", None)]),
                package("grantd-store", &[("grantd-domain", None)]),
            ]);
            assert_eq!(found, ["`grantd-domain` must not depend on `grantd-store`"]);
        }
    }

    #[test]
    fn sdk_stands_on_wire_alone() {
        let found = edges(&[
            package("grantd-sdk", &[("grantd-wire", None), ("grantd-domain", None)]),
            package("grantd-wire", &[]),
            package("grantd-domain", &[]),
        ]);
        assert_eq!(found, ["`grantd-sdk` must not depend on `grantd-domain`"]);
    }

    #[test]
    fn what_never_belongs_into_a_room_is_refused_except_in_its_tests() {
        let found = edges(&[package("grantd-domain", &[("tokio", None)])]);
        assert_eq!(found, ["`grantd-domain` must not depend on `tokio`"]);
        assert_eq!(edges(&[package("grantd-domain", &[("tokio", Some("dev"))])]), Vec::<String>::new());
    }

    #[test]
    fn a_crate_beside_the_repository_is_refused() {
        let dependency = json!({ "name": "lib", "kind": null, "path": "/somewhere/lib" });
        let found = edges(&[json!({ "name": "grantd-wire", "dependencies": [dependency] })]);
        assert_eq!(found, ["`grantd-wire` depends on `lib`, which is not in this repository"]);
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        let found = edges(&[package("grantd-utils", &[])]);
        assert_eq!(found, ["crate `grantd-utils` has no row in xtask/src/edges.rs: what may it use?"]);
    }

    #[test]
    fn the_bound_of_a_rust_file_is_exact() {
        let file = Path::new("crates/wire/src/lib.rs");
        assert_eq!(too_long(file, &"x\n".repeat(LINES_MAX)), None);
        assert!(too_long(file, &"x\n".repeat(LINES_MAX + 1)).is_some());
        assert_eq!(too_long(Path::new("docs/cli.md"), &"x\n".repeat(LINES_MAX + 1)), None);
    }

    #[test]
    fn prose_that_leaves_the_repository_is_found() {
        let up = ["..", "elsewhere", "x.md"].join("/");
        for (file, line) in [
            ("docs/cli.md", format!("see `{up}`.")),
            ("README.md", format!("[x]({up})")),
            ("crates/wire/src/lib.rs", format!("//! see {up}")),
            ("crates/wire/src/lib.rs", format!("include_str!(\"{up}\")")),
        ] {
            assert_eq!(stray_paths(Path::new(file), &line, &[]).len(), 1, "{file}: {line}");
        }
    }

    #[test]
    fn links_inside_and_hostile_paths_in_tests_are_left_alone() {
        for (file, line) in [
            ("docs/cli.md", "see [the readme](../Cargo.toml), or `/v1/../admin`"),
            ("docs/cli.md", "run `../target/debug/not-built-yet`"),
            ("crates/wire/src/lib.rs", "include_str!(\"../Cargo.toml\")"),
            ("crates/wire/src/lib.rs", "refuse(\"../../etc/passwd\");"),
            ("crates/wire/src/lib.rs", "// `/v1/../admin` does not match"),
        ] {
            assert_eq!(stray_paths(Path::new(file), line, &[]), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn directories_of_this_machine_are_found_and_lookalikes_are_not() {
        let machine = ["/machine/here".to_owned()];
        let file = Path::new("crates/wire/src/lib.rs");
        let found = |line: &str| stray_paths(file, line, &machine).len();
        assert_eq!(found("let x = \"/machine/here/target\";"), 1);
        assert_eq!(found("cd /machine/here"), 1);
        assert_eq!(found("cd /machine/hereafter"), 0);
        assert_eq!(found("https://example.com/machine/here/x"), 0);
    }
}
