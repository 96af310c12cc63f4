//! What a backup is: the file beside it that says whose database it is, and by which sum it is recognised.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use grantd_store::facts::{Counts, Facts, NewestCheckpoint};
use grantd_wire::TimeMs;
use grantd_wire::ids::OrganizationId;
use grantd_wire::sign::hex;
use serde::{Deserialize, Serialize};

/// The only format there is.
const FORMAT: u32 = 1;
const TYPE: &str = "grantd.backup";
/// Bytes of a manifest.
const BYTES_MAX: u64 = 1024 * 1024;
/// Bytes summed at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a backup's manifest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(rename = "type")]
    kind: String,
    format: u32,
    /// The version that wrote it.
    pub grantd: String,
    pub at: TimeMs,
    /// The organization's id; null when the database holds no install.
    pub install_id: Option<OrganizationId>,
    /// Root keys without which it cannot be opened.
    pub root_key_ids: Vec<String>,
    pub migration: i64,
    pub database: Copied,
    pub newest_checkpoint: Option<NewestCheckpoint>,
    pub counts: Counts,
}

/// The copy itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Copied {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Why a file is no backup that may be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no manifest {}: a copy without its manifest is not known to be whole", .0.display())]
    Missing(PathBuf),
    #[error("{} is no manifest of a grantd backup", .0.display())]
    Malformed(PathBuf),
    #[error("{} is of format {format}, which this grantd does not know: use a newer one", path.display())]
    Format { path: PathBuf, format: u32 },
    #[error("{} is {found} bytes long and its manifest says {said}: it was cut off or changed", path.display())]
    Length { path: PathBuf, found: u64, said: u64 },
    #[error("the sum of {} is not the one its manifest says: it was changed", .0.display())]
    Sum(PathBuf),
}

/// Where a backup's manifest is.
pub fn path_of(backup: &Path) -> PathBuf {
    let mut name = backup.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    backup.with_file_name(name)
}

impl Manifest {
    /// Of the copy at `copy`, which will be known as `backup`.
    pub fn of(copy: &Path, backup: &Path, facts: Facts, at: TimeMs) -> io::Result<Self> {
        let (bytes, sha256) = sum(copy)?;
        let file = backup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            kind: TYPE.to_owned(),
            format: FORMAT,
            grantd: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            install_id: facts.install_id,
            root_key_ids: facts.root_key_ids,
            migration: facts.migration,
            database: Copied { file, bytes, sha256 },
            newest_checkpoint: facts.newest_checkpoint,
            counts: facts.counts,
        })
    }

    /// As it is written.
    pub fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest is JSON");
        text.push(b'\n');
        text
    }

    /// The manifest of a backup, if the copy is the one it speaks of.
    pub fn check(backup: &Path) -> Result<Self, ManifestError> {
        let path = path_of(backup);
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ManifestError::Missing(path.clone()),
            _ => ManifestError::Unreadable { path: path.clone(), source },
        };
        // The copy first: without it, nothing else is worth saying.
        let found = |source| ManifestError::Unreadable { path: backup.to_owned(), source };
        File::open(backup).map_err(found)?;
        let mut text = Vec::new();
        File::open(&path).map_err(unreadable)?.take(BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
        let malformed = || ManifestError::Malformed(path.clone());
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| malformed())?;
        if value["type"] != TYPE {
            return Err(malformed());
        }
        let format = value["format"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        if format != FORMAT {
            return Err(ManifestError::Format { path, format });
        }
        let manifest: Self = serde_json::from_value(value).map_err(|_| malformed())?;
        let (bytes, sha256) = sum(backup).map_err(found)?;
        if bytes != manifest.database.bytes {
            let path = backup.to_owned();
            return Err(ManifestError::Length { path, found: bytes, said: manifest.database.bytes });
        }
        if sha256 != manifest.database.sha256 {
            return Err(ManifestError::Sum(backup.to_owned()));
        }
        Ok(manifest)
    }
}

/// Length and SHA-256 of a file.
pub fn sum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, hex(context.finish().as_ref())));
        }
        bytes += read as u64;
        context.update(&chunk[..read]);
    }
}
