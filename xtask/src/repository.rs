//! Where things lie in this repository, and which of its files are ours.

use std::path::{Path, PathBuf};

use crate::Result;

/// The repository's root.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where installed tools go.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// Cargo's target directory, also when it was moved.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// Copies a program that was built into a room of its own below the target directory, where no later build replaces it.
pub fn keep(program: &str, room: &str) -> Result<PathBuf> {
    let directory = target().join(room);
    std::fs::create_dir_all(&directory)?;
    let (built, kept) = (target().join("debug").join(program), directory.join(program));
    if kept.exists() {
        std::fs::remove_file(&kept)?;
    }
    std::fs::copy(built, &kept)?;
    Ok(kept)
}

/// Every file that belongs to the project's own text, in a stable order.
pub fn files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in read_sorted(root())? {
        if entry.is_file() {
            found.push(entry);
        }
    }
    for room in ["crates", "conformance", "crash", "docs", "lab", "xtask", ".ci", ".cargo"] {
        let room = root().join(room);
        if room.is_dir() {
            walk(&room, &mut found)?;
        }
    }
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in read_sorted(directory)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let built = matches!(name.as_ref(), "target" | "__pycache__" | "node_modules");
        if entry.is_symlink() || built || (entry.is_dir() && name.starts_with('.')) {
            continue;
        }
        if entry.is_dir() {
            walk(&entry, found)?;
        } else {
            found.push(entry);
        }
    }
    Ok(())
}

fn read_sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        entries.push(entry?.path());
    }
    entries.sort();
    Ok(entries)
}
