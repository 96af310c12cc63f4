//! The database and what is in it: schema, install, clock, trail, stored values, processes, backups.

use grantd_domain::env::Clock as _;
use grantd_domain::seal::RootKeys;
use grantd_domain::words::counted;
use grantd_server::install::{self, InstallError};
use grantd_server::sealed::{self, Named};
use grantd_store::{Store, check_database, facts, installs, processes, recovery};
use grantd_wire::TimeMs;
use grantd_wire::ids::OrganizationId;
use grantd_wire::limits::{CLOCK_ROLLBACK_MS, PROCESS_SILENT_MS};
use tokio::time::Instant;

use super::Findings;
use crate::boot;
use crate::config::{Config, DatabaseUrl};
use crate::host::Host;

/// A backup that is older than this is worth a word.
const BACKUP_OLD_MS: i64 = 7 * 86_400_000;
/// Events are signed within a minute; this much later, nobody signs.
const UNSIGNED_OLD_MS: i64 = 5 * 60_000;
const DAY_MS: i64 = 86_400_000;

pub async fn examine(config: &Config, root: Option<&RootKeys>, quick: bool, is_served: bool, findings: &mut Findings) {
    if let Err(failure) = boot::require_database(config) {
        return findings.failure("database", failure.message, failure.hint.unwrap_or_default());
    }
    integrity(config, quick, findings);
    let store = match boot::open_store(config).await {
        Ok(store) => store,
        Err(failure) => return findings.failure("database", failure.message, failure.hint.unwrap_or_default()),
    };
    findings.ok("database", format!("{} answers", store.engine_name()));
    match store.check_schema().await {
        Ok(()) => {
            findings.ok("schema", "it is this version's");
            inside(config, &store, root, quick, is_served, findings).await;
        }
        Err(e) => findings.failure("schema", e.to_string(), "Make a backup, then run this version's `grantd serve`."),
    }
    store.close().await;
}

fn integrity(config: &Config, quick: bool, findings: &mut Findings) {
    let DatabaseUrl::Sqlite(path) = &config.database_url else {
        return findings.skipped("integrity", "PostgreSQL looks after its own; see its checksums and amcheck");
    };
    if quick {
        return findings.skipped("integrity", "--quick leaves it out");
    }
    let fix = "Stop the server, keep the file, and restore a backup: docs/backup-and-recovery.md.";
    match check_database(path) {
        Ok(None) => findings.ok("integrity", "the file is whole"),
        Ok(Some(damage)) => findings.failure("integrity", format!("the file is damaged: {damage}"), fix),
        Err(e) => findings.failure("integrity", e.to_string(), fix),
    }
}

async fn inside(
    config: &Config,
    store: &Store,
    root: Option<&RootKeys>,
    quick: bool,
    is_served: bool,
    findings: &mut Findings,
) {
    let organization = match store.read(installs::organization).await {
        Ok(Some(organization)) => organization,
        Ok(None) => {
            return findings.failure(
                "install",
                "the database holds no install",
                "Run `grantd init`, or restore a backup.",
            );
        }
        Err(e) => return findings.failure("install", e.to_string(), "Look at the database's own log."),
    };
    writable(store, findings).await;
    clock(store, findings).await;
    if let Some(root) = root {
        opened(store, root, findings).await;
        needed(store, root, findings).await;
        if quick {
            findings.skipped("credentials", "--quick leaves them out");
            findings.skipped("identity_keys", "--quick leaves them out");
        } else {
            credentials(store, root, findings).await;
        }
    } else {
        findings.skipped("credentials", "without its root keys nothing can be opened");
    }
    trail(store, is_served, findings).await;
    backups(config, store, organization, findings).await;
}

async fn writable(store: &Store, findings: &mut Findings) {
    let begun = Instant::now();
    match store.write(installs::touch).await {
        Ok(_) => findings.ok("writable", format!("a commit takes {} ms", begun.elapsed().as_millis())),
        Err(e) => findings.failure("writable", e.to_string(), "Give the database room and the right to write."),
    }
}

async fn clock(store: &Store, findings: &mut Findings) {
    let floor = match store.read(installs::find).await {
        Ok(install) => install.map_or(TimeMs(0), |install| install.clock_floor),
        Err(e) => return findings.failure("clock", e.to_string(), "Look at the database's own log."),
    };
    let behind = floor.since(Host.now());
    if behind > CLOCK_ROLLBACK_MS {
        findings.failure(
            "clock",
            format!("this machine's clock is {} s behind a time that was seen before: credential calls are refused", behind / 1000),
            "Set the clock (time synchronisation). If the clock is right and was wrong before, run `grantd doctor --accept-clock`.",
        );
    } else {
        findings.ok("clock", "it has not gone back");
    }
}

/// Root key, pepper and checkpoint key.
async fn opened(store: &Store, root: &RootKeys, findings: &mut Findings) {
    match install::open(store, root).await {
        Ok(_) => findings.ok("install", "root key, key hashes and checkpoint key open"),
        Err(e @ InstallError::WrongRootKey) => {
            findings.failure("root_key", e.to_string(), "Point root_key at the key this database was made with.");
        }
        Err(e) => findings.failure("install", e.to_string(), "Restore a backup: docs/backup-and-recovery.md."),
    }
}

/// Root keys that something is still wrapped under, and whether every process holds them.
async fn needed(store: &Store, root: &RootKeys, findings: &mut Findings) {
    let since = Host.now().plus_ms(-PROCESS_SILENT_MS);
    let read = store.read(move |tx| Ok((facts::root_key_ids(tx)?, processes::list(tx, since)?))).await;
    let (needed, living) = match read {
        Ok(read) => read,
        Err(e) => return findings.failure("root_keys_needed", e.to_string(), "Look at the database's own log."),
    };
    for id in needed.iter().filter(|id| !root.holds(id)) {
        findings.failure(
            "root_keys_needed",
            format!("something is wrapped under root key {id}, which was not given: it cannot be opened"),
            "Name that key in root_key_also, then finish with `grantd rotate-root-key`.",
        );
    }
    let spare: Vec<String> = root.ids().into_iter().filter(|id| !needed.contains(id)).collect();
    let spare = if spare.is_empty() { String::new() } else { format!("; given and not needed: {}", spare.join(", ")) };
    findings.ok("root_keys_needed", format!("{}{spare}", needed.join(", ")));
    for process in &living {
        let lacks: Vec<&String> = needed.iter().filter(|id| !process.root_key_ids.contains(id)).collect();
        if !lacks.is_empty() {
            findings.failure(
                "processes",
                format!("process {} was not given root key {}", process.id, lacks[0]),
                "Give every process the same root_key and root_key_also, and restart it.",
            );
        }
        if process.version != env!("CARGO_PKG_VERSION") {
            findings.warning(
                "processes",
                format!(
                    "process {} is of version {}, this is {}",
                    process.id,
                    process.version,
                    env!("CARGO_PKG_VERSION")
                ),
                "Fine while an upgrade is under way; else bring all to one version.",
            );
        }
    }
    findings.ok("processes", format!("{} serve this database", living.len()));
}

async fn credentials(store: &Store, root: &RootKeys, findings: &mut Findings) {
    let found = match sealed::check(store, root).await {
        Ok(found) => found,
        Err(e) => {
            return findings.failure("credentials", e.to_string(), "Restore a backup: docs/backup-and-recovery.md.");
        }
    };
    if found.closed.count > 0 {
        findings.failure(
            "credentials",
            format!("{} stored values do not open: {}", found.closed.count, named(&found.closed)),
            "Give the missing root key, or store the values again: `grantd managed-secrets rotate`, `grantd providers update --client-secret`. \
             The others are served.",
        );
    }
    if found.broken.count > 0 {
        findings.warning(
            "credentials",
            format!("{} wait for a new value since a restore: {}", found.broken.count, named(&found.broken)),
            "Store the values again with `grantd managed-secrets rotate`; their grants go on.",
        );
    }
    findings.ok("credentials", counted(found.opened, "stored value opens", "stored values open"));
    if found.closed_identity_keys.is_empty() {
        let open = counted(found.identity_keys, "key that signs assertions opens", "keys that sign assertions open");
        return findings.ok("identity_keys", open);
    }
    let ids: Vec<String> = found.closed_identity_keys.iter().map(ToString::to_string).collect();
    findings.failure(
        "identity_keys",
        format!(
            "{}: {}",
            counted(ids.len(), "key that signs assertions does not open", "keys that sign assertions do not open"),
            ids.join(", ")
        ),
        "Give the missing root key, or have another made with `grantd identity-keys rotate`: until then no user can be asserted.",
    );
}

fn named(values: &Named) -> String {
    let names: Vec<String> = values
        .first
        .iter()
        .map(|(app, value)| app.map_or_else(|| value.to_string(), |app| format!("{value} of app {app}")))
        .collect();
    let more = if values.count > names.len() as u64 { ", …" } else { "" };
    names.join(", ") + more
}

async fn trail(store: &Store, is_served: bool, findings: &mut Findings) {
    let read = store.read(|tx| Ok((facts::newest_checkpoint(tx)?, recovery::newest_event(tx)?))).await;
    match read {
        Err(e) => findings.failure("checkpoints", e.to_string(), "Look at the database's own log."),
        Ok((None, _)) => {
            findings.warning("checkpoints", "nothing was signed yet", "Start the server: it signs within a minute.");
        }
        Ok((Some(newest), event)) => {
            let unsigned = event.is_some_and(|at| at.since(newest.at) > UNSIGNED_OLD_MS);
            let what = format!("the last one was signed at {}", newest.at);
            if unsigned && is_served {
                findings.warning(
                    "checkpoints",
                    format!("{what}, and there are later events"),
                    "Look at the server's log for `checkpoint`.",
                );
            } else {
                findings.ok("checkpoints", what);
            }
        }
    }
}

async fn backups(config: &Config, store: &Store, organization: OrganizationId, findings: &mut Findings) {
    if matches!(config.database_url, DatabaseUrl::Postgres(_)) {
        return findings
            .skipped("backup", "PostgreSQL is backed up with its own tools: look there how old the newest one is");
    }
    let owner = grantd_domain::audit::Owner::Organization(organization);
    let read = match store.catch_up(owner).await {
        Ok(()) => store.read(move |tx| facts::last_backup(tx, organization)).await,
        Err(e) => Err(e),
    };
    let fix =
        "Run `grantd backup --out DIR` from a timer, and keep the root key elsewhere: docs/backup-and-recovery.md.";
    match read {
        Err(e) => findings.failure("backup", e.to_string(), "Look at the database's own log."),
        Ok(None) => findings.warning("backup", "there was never a backup", fix),
        Ok(Some(at)) => {
            let age = Host.now().since(at);
            let what = format!("the newest is {} old ({at})", counted(age / DAY_MS, "day", "days"));
            if age > BACKUP_OLD_MS { findings.warning("backup", what, fix) } else { findings.ok("backup", what) }
        }
    }
}
