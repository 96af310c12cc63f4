//! `grantd restore`: a backup becomes the database, and nothing that was revoked since comes back with it.
//!
//! Invariants: the database gets its name only when everything is done to it; until then what was there is untouched. What is
//! replaced is kept aside. A database's file and its write-ahead log never part.

#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use grantd_domain::env::Clock as _;
use grantd_server::recovery::{self, Ask, RecoveryError, Restored};
use grantd_store::{Location, Store, facts};
use serde_json::json;

use crate::backup::{Partial, stamp, sync_directory};
use crate::boot::{self, DataDir, PAT_FILE};
use crate::cli::{Context, Exit, Failure, Turning, confirm};
use crate::config::{Config, DatabaseUrl, InstallFlags};
use crate::host::Host;
use crate::manifest::{self, Manifest};

/// What stands beside a database's file while it is open, or was left by a process that was killed.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// What takes its time once the database is there.
const MAKING_READY: &str = "doing again what was revoked since";

/// Flags of `restore`.
#[derive(Args)]
pub struct RestoreArgs {
    /// The backup. Without one, the database in place is made ready, after it was restored with other tools
    pub backup: Option<PathBuf>,
    /// Replace the database that is there; it is kept aside
    #[arg(long)]
    pub in_place: bool,
    /// An app's audit export made after the backup: what it revoked, narrowed or rotated is done again. Give one for each app
    #[arg(long, value_name = "EXPORT")]
    pub replay: Vec<PathBuf>,
    /// Give up what was revoked since the backup, in apps without an export: it comes back
    #[arg(long)]
    pub accept_lost_revocations: bool,
    #[command(flatten)]
    pub install: InstallFlags,
}

/// Restores, or makes ready what was restored with other tools.
pub async fn run(config: Config, args: RestoreArgs, context: &mut Context) -> Result<(), Failure> {
    let done = match (&config.database_url, &args.backup) {
        (DatabaseUrl::Postgres(_), Some(_)) => {
            return Err(Failure::usage("a backup of the embedded database cannot be put into PostgreSQL").hint(
                "Restore PostgreSQL with its own tools, then run `grantd restore --in-place` without a backup.",
            ));
        }
        (_, None) if !args.in_place => {
            return Err(Failure::usage("there is no backup named").hint(
                "Name the file that `grantd backup` wrote, or pass --in-place for a database that was restored with other tools.",
            ));
        }
        (_, None) => in_place(&config, args, context).await?,
        (DatabaseUrl::Sqlite(database), Some(backup)) => {
            let (database, backup) = (database.clone(), context.directory.join(backup));
            from_backup(&config, &database, &backup, args, context).await?
        }
    };
    let Done { restored, events, kept } = done;
    let path = config.data_dir.join(PAT_FILE);
    boot::write_over(&path, format!("{}\n", restored.pat.reveal()).as_bytes()).map_err(|e| {
        Failure::local(format!("the database is restored, but {} cannot be written: {e}", path.display()))
            .hint("`grantd operator reset` writes a new token.")
    })?;
    for lost in &restored.lost {
        context.term.warn(&format!("{} {}: {}", lost.kind, lost.id, lost.what));
    }
    context.term.note(&format!(
        "Restored; {} s lie between the backup and now. Every operator's token was revoked; the new one is in {}.",
        restored.gap_seconds,
        path.display()
    ));
    context.show(&json!({
        "events": events,
        "gap_seconds": restored.gap_seconds,
        "replayed": restored.replayed,
        "lost": restored.lost,
        "pat_file": path.display().to_string(),
        "kept": kept.map(|path| path.display().to_string()),
    }))
}

struct Done {
    restored: Restored,
    events: i64,
    /// Where the replaced database is.
    kept: Option<PathBuf>,
}

/// The database is there already; only what follows is to be done.
async fn in_place(config: &Config, args: RestoreArgs, context: &mut Context) -> Result<Done, Failure> {
    boot::require_database(config)?;
    let _data_dir = DataDir::take(&config.data_dir)?;
    ask_first(&args, context)?;
    let root = boot::load_root_keys(config, &context.env)?;
    let store = boot::open_store(config).await?;
    let ask = ask(&args, context);
    let turning = Turning::new(context.term.stderr_is_terminal, MAKING_READY);
    let made = make_ready(&store, &root, &ask).await;
    store.close().await;
    drop(turning);
    let (restored, events) = made?;
    Ok(Done { restored, events, kept: None })
}

async fn from_backup(
    config: &Config,
    database: &Path,
    backup: &Path,
    args: RestoreArgs,
    context: &mut Context,
) -> Result<Done, Failure> {
    if database.exists() && !args.in_place {
        return Err(Failure::new(
            Exit::Conflict,
            "conflict",
            format!("there is a database {} already", database.display()),
        )
        .hint("Pass --in-place to replace it (it is kept aside), or name another data directory with --data-dir."));
    }
    let data_dir = DataDir::take(&config.data_dir)?;
    let on_terminal = context.term.stderr_is_terminal;
    let turning = Turning::new(on_terminal, "looking over the backup");
    let manifest = Manifest::check(backup).map_err(|e| not_a_backup(&e));
    drop(turning);
    let manifest = manifest?;
    ask_first(&args, context)?;
    let root = boot::load_root_keys(config, &context.env)?;
    let mut copy = Partial::create(database)?;
    // The sum of what was read, not of what the file may have become meanwhile.
    copy.fill(backup, on_terminal).map_err(|e| Failure::local(format!("cannot copy {}: {e}", backup.display())))?;
    let turning = Turning::new(on_terminal, MAKING_READY);
    let (_, sum) = manifest::sum(copy.unfinished()).map_err(|e| Failure::from_error(Exit::Error, &e))?;
    if sum != manifest.database.sha256 {
        return Err(not_a_backup(&manifest::ManifestError::Sum(backup.to_owned())));
    }
    let mut ask = ask(&args, context);
    ask.backup_at = Some(manifest.at);
    ask.backup_sha256 = Some(sum);
    let store = open(copy.unfinished()).await?;
    if database.exists() {
        ask.nothing_happened = compare(database, &store).await?;
    }
    let made = make_ready(&store, &root, &ask).await;
    store.close().await;
    let (restored, events) = made?;
    copy.sync().map_err(|e| Failure::from_error(Exit::Error, &e))?;
    drop(turning);
    let kept = put_aside(database, &data_dir.path)
        .map_err(|e| Failure::local(format!("cannot put {} aside: {e}", database.display())))?;
    copy.publish()?;
    Ok(Done { restored, events, kept })
}

fn ask_first(args: &RestoreArgs, context: &mut Context) -> Result<(), Failure> {
    if args.accept_lost_revocations {
        let question = "What was revoked since the backup comes back, in every app without an export. Go on?";
        confirm(question, context.globals.yes, &mut context.term)?;
    }
    Ok(())
}

fn ask(args: &RestoreArgs, context: &Context) -> Ask {
    Ask {
        replay: args.replay.iter().map(|path| context.directory.join(path)).collect(),
        accept_lost_revocations: args.accept_lost_revocations,
        ..Ask::default()
    }
}

fn not_a_backup(error: &manifest::ManifestError) -> Failure {
    Failure { error: "invalid_backup".to_owned(), ..Failure::from_error(Exit::Error, error) }
        .hint("Name a file that `grantd backup` wrote, with its .json beside it, or an older one.")
}

async fn open(path: &Path) -> Result<Store, Failure> {
    let opened = Store::open(&Location::File(path.to_owned()), "restore", 1).await;
    opened.map_err(|e| Failure::local(format!("cannot open {}: {e}", path.display())))
}

/// Brings the schema up to date, and does what a restored database needs.
async fn make_ready(
    store: &Store,
    root: &grantd_domain::seal::RootKeys,
    ask: &Ask,
) -> Result<(Restored, i64), Failure> {
    store.migrate(Host.now()).await.map_err(|e| boot::schema_failure(&e))?;
    let restored = recovery::run(store, root, &Host, ask).await.map_err(|e| {
        let code = match &e {
            RecoveryError::Uncovered(_) => "lost_revocations",
            RecoveryError::Tampered(_) => "invalid_backup",
            RecoveryError::Unverified { .. }
            | RecoveryError::Partial(_)
            | RecoveryError::Unfit { .. }
            | RecoveryError::Foreign { .. } => "invalid_export",
            _ => "failed",
        };
        Failure { error: code.to_owned(), ..Failure::from_error(Exit::Error, &e) }
    })?;
    let facts = store.read(facts::read).await.map_err(|e| Failure::from_error(Exit::Error, &e))?;
    Ok((restored, facts.counts.events))
}

/// Whether the database that is replaced shows that nothing happened in any app since the backup. One that cannot be read shows
/// nothing; one of another install ends the restore.
async fn compare(database: &Path, restored: &Store) -> Result<bool, Failure> {
    let Ok(store) = open(database).await else { return Ok(false) };
    let seen = |tx: &mut grantd_store::Tx<'_>| {
        let install = grantd_store::installs::organization(tx)?;
        Ok((install, grantd_store::recovery::heads(tx)?))
    };
    let old = store.read(seen).await;
    // Closing folds the write-ahead log into the file.
    store.close().await;
    let Ok((old_install, mut old_heads)) = old else { return Ok(false) };
    let (install, mut heads) = restored.read(seen).await.map_err(|e| Failure::from_error(Exit::Error, &e))?;
    if old_install.is_some() && old_install != install {
        return Err(Failure::new(
            Exit::Conflict,
            "conflict",
            "the backup is of another install than the database it would replace",
        )
        .hint("Name the data directory it belongs to with --data-dir, or an empty one."));
    }
    // Of the organization's own trail nothing is revoked but operators' tokens, and a restore revokes them all.
    if let Some(organization) = install {
        old_heads.remove(&organization.to_string());
        heads.remove(&organization.to_string());
    }
    Ok(old_install.is_some() && old_heads == heads)
}

/// Moves what is there into a directory of its own; the file first, for a log without its file is ignored, and a file without its
/// log is not the newest.
fn put_aside(database: &Path, data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let name = database.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let there: Vec<String> = BESIDE.iter().map(|suffix| format!("{name}{suffix}")).collect();
    let there: Vec<&String> = there.iter().filter(|name| database.with_file_name(name).exists()).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let aside = data_dir.join(format!("replaced-{}", stamp(Host.now())));
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&aside)?;
    for name in there {
        move_file(&database.with_file_name(name), &aside.join(name))?;
    }
    File::open(&aside)?.sync_all()?;
    sync_directory(database)?;
    Ok(Some(aside.join(name_of(database))))
}

fn name_of(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

/// Renames, or copies where the database lies on another file system than the data directory.
fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::rename(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    std::fs::remove_file(from)
}
