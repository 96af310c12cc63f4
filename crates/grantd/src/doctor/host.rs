//! This machine: the data directory, certificates, room and speed of the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grantd_domain::env::new_uuid;
use grantd_server::http;
use tokio::time::Instant;

use super::Findings;
use crate::cli::chain;
use crate::config::{Config, DatabaseUrl};
use crate::host::Host;

/// Less than this much room is a failure soon.
const FREE_BYTES_WARN: u64 = 1024 * 1024 * 1024;
/// Less than this much, and a checkpoint of the log may not fit.
const FREE_BYTES_MIN: u64 = 100 * 1024 * 1024;
/// Every call waits for one; slower than this, and calls are slow.
const SYNC_WARN: Duration = Duration::from_millis(20);
/// Times the disk is asked; the middle one counts.
const SYNCS: usize = 5;

/// Whether it is there and private. Answers whether a server has it.
pub fn data_dir(config: &Config, findings: &mut Findings) -> bool {
    let path = &config.data_dir;
    let Ok(metadata) = std::fs::metadata(path) else {
        findings.failure(
            "data_dir",
            format!("there is no data directory {}", path.display()),
            "Name it with --data-dir, or run `grantd init` to make one.",
        );
        return false;
    };
    let mode = mode(&metadata);
    if mode & 0o077 != 0 {
        findings.warning(
            "data_dir",
            format!("{} can be read by others (mode {mode:03o})", path.display()),
            format!("Run `chmod 700 {}`.", path.display()),
        );
    }
    let lock = OpenOptions::new().write(true).open(path.join("lock"));
    let is_served = lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    findings.ok("data_dir", if is_served { "a grantd process has it" } else { "no grantd process has it" });
    is_served
}

/// Whether the file is anybody's to read but its owner's and group's.
pub fn others_may_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| mode(&metadata) & 0o007 != 0)
}

#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o777
}

#[cfg(not(unix))]
fn mode(_metadata: &std::fs::Metadata) -> u32 {
    0
}

/// Certificate and key, if there are any.
pub fn tls(config: &Config, findings: &mut Findings) {
    let Some(files) = &config.tls else {
        findings.skipped("tls", "tls_cert_file is not set: nothing to look at");
        return;
    };
    let fix = "tls_cert_file and tls_key_file name PEM files that belong together and that the user that runs grantd may read.";
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    match (read(&files.cert), read(&files.key).map(zeroize::Zeroizing::new)) {
        (Ok(cert), Ok(key)) => match http::tls_config(&cert, &key) {
            Ok(_) => findings.ok("tls", "certificate and key belong together; when it ends was not looked at"),
            Err(e) => findings.failure("tls", chain(&e), fix),
        },
        (Err(e), _) | (_, Err(e)) => findings.failure("tls", e, fix),
    }
}

/// Room, and how long the disk takes to keep something.
pub fn disk(config: &Config, findings: &mut Findings) {
    let directory = match &config.database_url {
        DatabaseUrl::Sqlite(path) => match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        },
        DatabaseUrl::Postgres(_) => {
            findings.skipped("disk", "the database is on a server of its own: look at its disk there");
            return;
        }
    };
    match rustix::fs::statvfs(directory) {
        Ok(stat) => free(directory, stat.f_bavail.saturating_mul(stat.f_frsize), findings),
        Err(e) => findings.warning(
            "disk",
            format!("cannot ask for the room in {}: {e}", directory.display()),
            "Look with `df`.",
        ),
    }
    match sync_time(directory) {
        Ok(took) if took > SYNC_WARN => findings.warning(
            "disk_sync",
            format!("the disk of {} takes {} ms to keep a write", directory.display(), took.as_millis()),
            "Every call waits for one. Use a local disk, best one with a battery or power-loss protection.",
        ),
        Ok(took) => findings.ok("disk_sync", format!("a write is kept within {} µs", took.as_micros())),
        Err(e) => findings.failure(
            "disk_sync",
            format!("cannot write in {}: {e}", directory.display()),
            "Give the directory to the user that runs grantd, and make room.",
        ),
    }
}

fn free(directory: &Path, bytes: u64, findings: &mut Findings) {
    let mib = bytes / (1024 * 1024);
    let what = format!("{mib} MiB are free where {} is", directory.display());
    let fix = "Make room: when the disk is full, calls are refused.";
    match bytes {
        bytes if bytes < FREE_BYTES_MIN => findings.failure("disk", what, fix),
        bytes if bytes < FREE_BYTES_WARN => findings.warning("disk", what, fix),
        _ => findings.ok("disk", what),
    }
}

fn sync_time(directory: &Path) -> std::io::Result<Duration> {
    let path = directory.join(format!("doctor-{}", new_uuid(&Host)));
    let measured = measure(&path);
    let removed = std::fs::remove_file(&path);
    let measured = measured?;
    removed.map(|()| measured)
}

fn measure(path: &Path) -> std::io::Result<Duration> {
    let mut file = File::create_new(path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
