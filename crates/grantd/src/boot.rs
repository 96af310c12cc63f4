//! What `init`, `serve` and `dev` share: the data directory and its lock, the database, the root keys.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::seal::{RootKey, RootKeys};
use grantd_server::install::{self, Created, InstallError};
use grantd_server::outbound::authorities;
use grantd_server::{Settings, SsoSettings, Vault};
use grantd_store::{Location, Store, crash, facts};
use rustls::RootCertStore;
use url::Url;

use crate::cli::{Exit, Failure};
use crate::config::{Config, DatabaseUrl, Sso, sso};
use crate::env::Env;
use crate::host::Host;
use crate::root_key::{self, Database, RootKeyError};

/// The name of the first operator's token in the data directory.
pub const PAT_FILE: &str = "operator.pat";

/// A data directory that no other process uses.
pub struct DataDir {
    pub path: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

impl DataDir {
    /// Makes the directory (0700) where there is none, and takes it for this process.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        make(path)?;
        let failed = |what: &str, e: &std::io::Error| {
            Failure::local(format!("cannot {what} in the data directory {}: {e}", path.display()))
                .hint("Give the directory to the user that runs grantd, or name another with --data-dir.")
        };
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| failed("write", &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::local(format!(
                    "the data directory {} is in use by another grantd",
                    path.display()
                ))
                .hint("Stop the other one, or give this one a directory of its own with --data-dir."));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", &e)),
        }
        // Nothing in here belongs into a repository.
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            write_over(&ignore, b"*\n").map_err(|e| failed("write", &e))?;
        }
        crash::step("init.directory_made");
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

fn make(path: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| {
        Failure::local(format!("cannot make the data directory {}: {e}", path.display()))
            .hint("Name another with --data-dir, or give its parent to the user that runs grantd.")
    })
}

/// Writes a file for its owner alone, in place of what was there. Whatever happens on the way, there is the old file or the whole
/// new one.
pub fn write_over(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = write_beside(path, bytes)?;
    std::fs::rename(&beside, path)?;
    sync_directory_of(path)
}

/// Writes and syncs the file under a name of its own, to be moved in place. What an attempt before left there is overwritten.
pub fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // A new file, so that its mode is ours and no link leads elsewhere.
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The error that counts is the first one.
        let _ = std::fs::remove_file(&beside);
    }
    written.map(|()| beside)
}

/// Makes a new name in the file's directory durable.
pub fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Nothing of this process's memory ends in a core file, and (on Linux) no other process of the user may look into it.
pub fn keep_memory_private() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(e) = setrlimit(Resource::Core, no_core) {
        tracing::warn!(error = %e, "Core files could not be switched off");
    }
    #[cfg(target_os = "linux")]
    if let Err(e) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(error = %e, "This process could not be closed to debuggers");
    }
}

/// A panic is told by its place; its text may hold what must not be seen, unless it is a literal of ours.
pub fn tell_panics_without_their_text() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic.place = place, "A panic: {}", literal(info.payload()));
    }));
}

/// A panic's text if it is a literal of the code; one that was put together may hold anything.
fn literal(payload: &dyn std::any::Any) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(text not shown)")
}

/// Refuses to make an embedded database by looking for one.
pub fn require_database(config: &Config) -> Result<(), Failure> {
    match &config.database_url {
        DatabaseUrl::Sqlite(path) if !path.exists() => {
            Err(Failure::local(format!("there is no database {}", path.display()))
                .hint("Name the data directory with --data-dir, or run `grantd init` to make one."))
        }
        _ => Ok(()),
    }
}

/// Opens the database the configuration names.
pub async fn open_store(config: &Config) -> Result<Store, Failure> {
    let location = match &config.database_url {
        DatabaseUrl::Sqlite(path) => Location::File(path.clone()),
        DatabaseUrl::Postgres(url) => Location::Postgres(url.clone()),
    };
    let process = new_uuid(&Host).to_string();
    let pool_size = usize::try_from(config.pool_size).unwrap_or(usize::MAX);
    Store::open(&location, &process, pool_size).await.map_err(|e| {
        Failure::local(format!("cannot open the database {}: {e}", config.database_url))
            .hint("Check database_url, and that the user that runs grantd may read and write there.")
    })
}

/// The root keys the configuration names.
pub fn load_root_keys(config: &Config, env: &Env) -> Result<RootKeys, Failure> {
    let load = |source| {
        root_key::load(source, env).map(|key| RootKey::new(&key)).map_err(|e| Failure::from_error(Exit::Error, &e))
    };
    let also = config.root_key_also.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    Ok(RootKeys::new(load(&config.root_key)?, also))
}

/// Applies the schema and makes the install, with a new root key where there is neither key nor database.
pub async fn create_install(config: &Config, data_dir: &DataDir, env: &Env, store: &Store) -> Result<Created, Failure> {
    store.migrate(Host.now()).await.map_err(|e| schema_failure(&e))?;
    crash::step("init.migrated");
    let root = match load_root_keys(config, env) {
        Ok(root) => root,
        // There is no key: make one, unless there is a database that needs its own.
        Err(missing) => {
            let database = match install::exists(store).await.map_err(|e| install_failure(&e))? {
                true => Database::Present,
                false => Database::Absent,
            };
            let made = root_key::create(&config.root_key, database, env, &Host);
            match (database, made) {
                (_, Ok(key)) => RootKeys::new(RootKey::new(&key), Vec::new()),
                // A database needs its own key; a file that is there was found wrong when it was read.
                (Database::Present, Err(_)) | (_, Err(RootKeyError::Exists(_))) => return Err(missing),
                (Database::Absent, Err(e)) => return Err(Failure::from_error(Exit::Error, &e)),
            }
        }
    };
    crash::step("init.root_key_made");
    // The token is in its file before the install is: a crash between the two leaves a file that the next attempt replaces, and
    // not an install that nobody can enter.
    let is_present = install::exists(store).await.map_err(|e| install_failure(&e))?;
    let token = install::new_first_token(&Host);
    let path = data_dir.path.join(PAT_FILE);
    let unwritable = |e| Failure::local(format!("cannot write {}: {e}", path.display()));
    if !is_present {
        write_over(&path, format!("{}\n", token.reveal()).as_bytes()).map_err(unwritable)?;
        crash::step("init.token_written");
    }
    let created = install::create(store, &root, &Host, token).await.map_err(|e| install_failure(&e))?;
    crash::step("init.install_made");
    // Fails now, with words, when the key is another one.
    install::open(store, &root).await.map_err(|e| install_failure(&e))?;
    if !is_present && created.pat.is_none() {
        // Another process made the install between our look and our write: this token opens nothing.
        std::fs::remove_file(&path).map_err(unwritable)?;
    }
    Ok(created)
}

/// The authorities of a file of PEM certificates.
pub fn read_authorities(file: &Path) -> Result<RootCertStore, Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("outbound.ca_file: {} {why}", file.display()))
            .hint("Name a file of PEM certificates, or leave it out to trust what the system trusts.")
    };
    let pem = std::fs::read(file).map_err(|e| refuse(&format_args!("cannot be read: {e}")))?;
    authorities(&pem).map_err(|e| refuse(&e))
}

/// The issuer of single sign-on, with the client secret that its file holds.
fn sso_settings(sso: &Sso) -> Result<SsoSettings, Failure> {
    let read = |file: &PathBuf| {
        sso::read_secret(file).map_err(|why| {
            Failure::usage(format!("sso.client_secret_file: {} {why}", file.display()))
                .hint("Put the client secret that the issuer gave into that file, or leave the setting out for a public client.")
        })
    };
    Ok(SsoSettings {
        issuer: sso.issuer.clone(),
        client_id: sso.client_id.clone(),
        client_secret: sso.client_secret_file.as_ref().map(read).transpose()?.map(Arc::new),
        name: sso.name.clone(),
        domains: sso.domains.clone(),
        is_required: sso.is_required,
    })
}

/// Opens the install for serving. `public_url`: where browsers and providers reach it.
pub async fn open_vault(
    config: &Config,
    env: &Env,
    store: Store,
    public_url: &Url,
    also_outbound: &[String],
) -> Result<Arc<Vault>, Failure> {
    let root = load_root_keys(config, env)?;
    let settings = Settings {
        base_path: public_url.path().trim_end_matches('/').to_owned(),
        public_url: public_url.as_str().trim_end_matches('/').to_owned(),
        trusted_proxies: config.trusted_proxies.clone(),
        replicas: config.replicas,
        cache_bytes: u64::from(config.cache_mb) << 20,
        auth_failures_per_minute: config.auth_failures_per_minute,
        retention: config.retention,
        sso: config.sso.as_ref().map(sso_settings).transpose()?,
        outbound: config.outbound(also_outbound).map_err(|e| Failure::from_error(Exit::Usage, &e))?,
        outbound_roots: config.outbound_ca_file.as_deref().map(read_authorities).transpose()?,
    };
    let vault = Vault::open(store, root, Arc::new(Host), settings).await.map_err(|e| install_failure(&e))?;
    // What needs another key is refused; everything else is served.
    match vault.store.read(facts::root_key_ids).await {
        Ok(needed) => {
            for id in needed.iter().filter(|id| !vault.keys.root().holds(id)) {
                tracing::error!(
                    root_key.id = id,
                    "Something is wrapped under root key {id}, which was not given: name it in root_key_also"
                );
            }
        }
        Err(e) => tracing::warn!(error = %e, "It could not be looked up which root keys are needed"),
    }
    Ok(vault)
}

pub fn schema_failure(error: &grantd_store::Error) -> Failure {
    Failure::local(format!("the database's schema: {error}"))
}

pub fn install_failure(error: &InstallError) -> Failure {
    Failure::from_error(Exit::Error, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_carries_a_secret_shows_nothing_of_it() {
        let made = std::panic::catch_unwind(|| panic!("token is {}", String::from("canary"))).unwrap_err();
        assert_eq!(literal(&*made), "(text not shown)");
        let fixed = std::panic::catch_unwind(|| panic!("the chain has begun")).unwrap_err();
        assert_eq!(literal(&*fixed), "the chain has begun");
    }

    #[test]
    fn a_data_directory_is_for_its_owner_and_for_one_process() {
        let place = std::env::temp_dir().join(format!("grantd-boot-{}", new_uuid(&Host)));
        let taken = DataDir::take(&place).unwrap();
        let mode = |path: &Path| {
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
        };
        assert_eq!(mode(&place), 0o700);
        assert_eq!(std::fs::read_to_string(place.join(".gitignore")).unwrap(), "*\n");
        let second = DataDir::take(&place).err().expect("it is taken");
        assert!(second.message.contains("in use by another grantd"), "{}", second.message);
        drop(taken);
        assert!(DataDir::take(&place).is_ok());
        write_over(&place.join("operator.pat"), b"x").unwrap();
        assert_eq!(mode(&place.join("operator.pat")), 0o600);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
