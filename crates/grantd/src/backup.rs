//! `grantd backup`: a consistent copy of the embedded database while others use it, and a manifest that says what it is.
//!
//! Invariants: there is never a file under a backup's name that is not a whole backup, nothing is overwritten, and no root key is
//! copied.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::Clock as _;
use grantd_store::{append_event, copy_database, facts};
use grantd_wire::TimeMs;
use serde_json::json;

use crate::boot;
use crate::cli::{Context, Exit, Failure, Progress, Watched};
use crate::config::{Config, DatabaseUrl, Flags};
use crate::host::Host;
use crate::manifest::{self, Manifest};

/// Flags of `backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// The copy's name, or a directory for one that is named after the time [default: the current directory]
    #[arg(long, value_name = "FILE|DIR")]
    pub out: Option<PathBuf>,
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// sqlite:PATH [default: sqlite:<data_dir>/grantd.db] [env: GRANTD_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
}

impl BackupArgs {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default().with("database_url", self.database_url.clone())
    }
}

/// Copies the database, and tells the audit trail.
pub async fn run(config: Config, args: BackupArgs, context: &mut Context) -> Result<(), Failure> {
    let DatabaseUrl::Sqlite(database) = &config.database_url else {
        return Err(Failure::new(Exit::Error, "feature_unavailable", "`grantd backup` copies the embedded database only")
            .hint("Back PostgreSQL up with its own tools (pg_dump, or base backups with WAL archiving); see docs/backup-and-recovery.md."));
    };
    boot::require_database(&config)?;
    let at = Host.now();
    let path = target(args.out.as_deref().unwrap_or(Path::new(".")), &context.directory, at)?;
    let manifest_path = manifest::path_of(&path);
    let copy = Partial::create(&path)?;
    let on_terminal = context.term.stderr_is_terminal;
    let facts = {
        let mut progress: Option<Progress> = None;
        let mut told = 0;
        let copied = copy_database(database, copy.unfinished(), facts::read, &mut |so_far| {
            let bar = progress.get_or_insert_with(|| Progress::new(on_terminal, Some(so_far.total)));
            bar.add(usize::try_from(so_far.done - told).unwrap_or(0));
            told = so_far.done;
        });
        if let Some(bar) = progress {
            bar.finish();
        }
        copied.map_err(|e| cannot_copy(database, &e))?
    };
    let written = Manifest::of(copy.unfinished(), &path, facts, at).map_err(|e| cannot_write(copy.unfinished(), &e))?;
    let mut list = Partial::create(&manifest_path)?;
    list.write(&written.text()).map_err(|e| cannot_write(list.unfinished(), &e))?;
    copy.sync().map_err(|e| cannot_write(copy.unfinished(), &e))?;
    // The manifest first: a copy under its own name is a whole backup.
    list.publish()?;
    copy.publish().inspect_err(|_| drop(std::fs::remove_file(&manifest_path)))?;
    // As a restore would find it.
    Manifest::check(&path).map_err(|e| Failure::from_error(Exit::Error, &e))?;
    tell(&config, &written, context).await?;
    context.show(&json!({
        "path": path.display().to_string(),
        "bytes": written.database.bytes,
        "events": written.counts.events,
        "at": at,
        "manifest": manifest_path.display().to_string(),
        "sha256": written.database.sha256,
    }))
}

/// Where the copy goes: a name that is given, or one made from the time in a directory that is given.
fn target(out: &Path, directory: &Path, at: TimeMs) -> Result<PathBuf, Failure> {
    let out = directory.join(out);
    let path = if out.is_dir() { out.join(format!("grantd-{}.db", stamp(at))) } else { out };
    // A manifest without its copy is what a crash between the two leaves; it says nothing of any use.
    if path.symlink_metadata().is_ok() {
        return Err(exists(&path));
    }
    drop(std::fs::remove_file(manifest::path_of(&path)));
    Ok(path)
}

/// A moment as part of a file's name: `20251128T084027Z`.
pub fn stamp(at: TimeMs) -> String {
    let text = at.to_string();
    let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
    format!("{}Z", whole.replace(['-', ':'], ""))
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, "conflict", format!("{} is there already, and is left as it is", path.display()))
        .hint("Name another file with --out, or a directory.")
}

fn cannot_copy(database: &Path, error: &grantd_store::Error) -> Failure {
    Failure::local(format!("cannot copy {}: {error}", database.display()))
        .hint("Nothing was left behind. Make room where --out points, or name another place; `grantd doctor` looks at the database.")
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot write {}: {error}", path.display()))
        .hint("Name a directory with --out that the user that runs this may write to and that has room.")
}

/// The trail says that there is a copy, and which.
async fn tell(config: &Config, manifest: &Manifest, context: &mut Context) -> Result<(), Failure> {
    let Some(organization) = manifest.install_id else {
        context.term.warn("the database holds no install yet, so no audit trail was told of this backup");
        return Ok(());
    };
    let store = boot::open_store(config).await?;
    if store.check_schema().await.is_err() {
        context.term.warn("the database needs a migration first, so its audit trail was not told of this backup");
        store.close().await;
        return Ok(());
    }
    let owner = Owner::Organization(organization);
    let event = Event::new(&Host, manifest.at, owner, Kind::BackupMade, Outcome::Allowed, Actor::Job)
        .core("sha256", manifest.database.sha256.clone())
        .core("bytes", manifest.database.bytes)
        .prepare();
    let told = store.write(move |tx| append_event(tx, &event)).await;
    store.close().await;
    told.map_err(|e| {
        Failure::local(format!("the backup is whole, but the audit trail could not be told of it: {e}"))
            .hint("Run `grantd doctor`.")
    })
}

/// A file that becomes visible only when it is complete; until then it goes away with this value.
pub struct Partial {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Partial {
    /// An empty file beside `path`, for its owner alone.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let mut options = OpenOptions::new();
        // What a killed run left behind is written over, unless that run lives.
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&partial).map_err(|e| cannot_write(&partial, &e))?;
        if file.try_lock().is_err() {
            return Err(Failure::new(
                Exit::Conflict,
                "conflict",
                format!("{} is being written by another run", path.display()),
            )
            .hint("Wait for it, or name another place."));
        }
        let this = Self { file, unfinished: partial, path: path.to_owned(), published: false };
        this.file.set_len(0).map_err(|e| cannot_write(&this.unfinished, &e))?;
        Ok(this)
    }

    /// Where it is until it is complete.
    pub fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Writes all of it, durably.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Copies all of `from` into it, durably.
    pub fn fill(&mut self, from: &Path, on_terminal: bool) -> io::Result<()> {
        let reader = File::open(from)?;
        let mut progress = Progress::new(on_terminal, Some(reader.metadata()?.len()));
        let copied = io::copy(&mut Watched { reader, progress: &mut progress }, &mut self.file);
        progress.finish();
        copied?;
        self.file.sync_all()
    }

    /// Makes what others wrote into it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, unless there is such a file by now, durably.
    pub fn publish(mut self) -> Result<(), Failure> {
        match std::fs::hard_link(&self.unfinished, &self.path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(exists(&self.path)),
            // A file system without links: looking first is the best there is.
            Err(_) if self.path.symlink_metadata().is_ok() => return Err(exists(&self.path)),
            Err(_) => {
                std::fs::rename(&self.unfinished, &self.path).map_err(|e| cannot_write(&self.path, &e))?;
                self.published = true;
            }
        }
        sync_directory(&self.path).map_err(|e| cannot_write(&self.path, &e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            for beside in ["partial", "partial-journal", "partial-wal", "partial-shm"] {
                drop(std::fs::remove_file(self.unfinished.with_extension(beside)));
            }
        }
    }
}

/// Makes the names in the directory of `path` durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
