//! Migrations: one numbered list for both engines, forward only. A released migration is never edited; its checksum says so.

use grantd_domain::words::counted;
use grantd_wire::TimeMs;
use grantd_wire::sign::{hex, sha256};

use crate::crash;
use crate::error::{Error, Result};
use crate::seam::{Tx, Value};
use crate::{Engine, Store};

struct Migration {
    number: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "foundation", sql: include_str!("migrations/0001_foundation.sql") },
    Migration { number: 2, name: "processes", sql: include_str!("migrations/0002_processes.sql") },
    Migration { number: 3, name: "templates", sql: include_str!("migrations/0003_templates.sql") },
    Migration { number: 4, name: "deleted_secrets", sql: include_str!("migrations/0004_deleted_secrets.sql") },
    Migration { number: 5, name: "branding", sql: include_str!("migrations/0005_branding.sql") },
    Migration { number: 6, name: "nonce_groups", sql: include_str!("migrations/0006_nonce_groups.sql") },
    Migration { number: 7, name: "retention", sql: include_str!("migrations/0007_retention.sql") },
    Migration { number: 8, name: "idempotency", sql: include_str!("migrations/0008_idempotency.sql") },
    Migration { number: 9, name: "statistics", sql: include_str!("migrations/0009_statistics.sql") },
    Migration { number: 10, name: "oauth", sql: include_str!("migrations/0010_oauth.sql") },
    Migration { number: 11, name: "identity", sql: include_str!("migrations/0011_identity.sql") },
    Migration { number: 12, name: "scim", sql: include_str!("migrations/0012_scim.sql") },
    Migration { number: 13, name: "ended_rows", sql: include_str!("migrations/0013_ended_rows.sql") },
    Migration { number: 14, name: "provider_fields", sql: include_str!("migrations/0014_provider_fields.sql") },
    Migration { number: 15, name: "logo", sql: include_str!("migrations/0015_logo.sql") },
    Migration { number: 16, name: "user_keys", sql: include_str!("migrations/0016_user_keys.sql") },
    Migration { number: 17, name: "web_sessions", sql: include_str!("migrations/0017_web_sessions.sql") },
    Migration { number: 18, name: "idp_webhooks", sql: include_str!("migrations/0018_idp_webhooks.sql") },
    Migration { number: 19, name: "connect_sign_in", sql: include_str!("migrations/0019_connect_sign_in.sql") },
    Migration { number: 20, name: "passwords", sql: include_str!("migrations/0020_passwords.sql") },
    Migration { number: 21, name: "authenticator_apps", sql: include_str!("migrations/0021_authenticator_apps.sql") },
    Migration { number: 22, name: "hourly", sql: include_str!("migrations/0022_hourly.sql") },
    Migration { number: 23, name: "gone_subjects", sql: include_str!("migrations/0023_gone_subjects.sql") },
    Migration { number: 24, name: "user_names", sql: include_str!("migrations/0024_user_names.sql") },
    Migration { number: 25, name: "large_apps", sql: include_str!("migrations/0025_large_apps.sql") },
    Migration { number: 26, name: "blocked_subjects", sql: include_str!("migrations/0026_blocked_subjects.sql") },
    Migration { number: 27, name: "passkeys", sql: include_str!("migrations/0027_passkeys.sql") },
    Migration { number: 28, name: "sso", sql: include_str!("migrations/0028_sso.sql") },
    Migration { number: 29, name: "group_leavers", sql: include_str!("migrations/0029_group_leavers.sql") },
];

/// Begins a line of a migration that PostgreSQL does not see.
const SQLITE_ONLY: &str = "-- sqlite: ";

/// Replicas that start together race for the same migration; the loser looks again.
const ATTEMPTS_MAX: u32 = 5;

/// What `migrate` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The schema was complete.
    Nothing,
    /// This many migrations were applied.
    Applied(usize),
}

impl Migration {
    fn checksum(&self) -> String {
        hex(&sha256(self.sql.as_bytes()))
    }

    /// The text for an engine. A line that begins with [`SQLITE_ONLY`] is for that engine alone; other comments are left out.
    fn text(&self, sqlite: bool) -> String {
        let code = self.sql.lines().filter_map(|line| match line.strip_prefix(SQLITE_ONLY) {
            Some(line) => sqlite.then_some(line),
            None => (!line.starts_with("--")).then_some(line),
        });
        let code: Vec<&str> = code.collect();
        translated(&code.join("\n"), sqlite)
    }
}

/// Types for an engine. Text is ordered by its bytes on both, whatever the collation of the database: prefixes are ranges. A column
/// takes only what is of its type on both; on SQLite only a strict table does so.
fn translated(sql: &str, sqlite: bool) -> String {
    if sqlite {
        let typed = sql.replace("BYTES", "BLOB").replace("BIGINT", "INTEGER");
        typed.replace("\n);", "\n) STRICT;").replace("\n) CLUSTERED;", "\n) STRICT, WITHOUT ROWID;")
    } else {
        sql.replace("BYTES", "BYTEA").replace(" TEXT", " TEXT COLLATE \"C\"").replace(" CLUSTERED", "")
    }
}

pub(crate) async fn migrate(store: &Store, now: TimeMs) -> Result<Migrated> {
    let mut last = Ok(Migrated::Nothing);
    for _ in 0..ATTEMPTS_MAX {
        last = store.write_schema(move |tx| apply(tx, now)).await;
        match last {
            Err(Error::Duplicate | Error::Statement { .. } | Error::Busy) => {}
            _ => break,
        }
    }
    last
}

fn apply(tx: &mut Tx<'_>, now: TimeMs) -> Result<Migrated> {
    let sqlite = tx.is_sqlite();
    if !sqlite {
        // A long migration is no runaway query.
        tx.batch("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")?;
    }
    tx.batch(&translated(
        "CREATE TABLE IF NOT EXISTS schema_migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, \
         applied_at_ms BIGINT NOT NULL\n);",
        sqlite,
    ))?;
    let pending = pending(tx)?;
    for migration in &pending {
        tx.batch(&migration.text(sqlite))?;
        tx.execute(
            "INSERT INTO schema_migrations (number, name, checksum, applied_at_ms) VALUES ($1, $2, $3, $4)",
            &[migration.number.into(), migration.name.into(), migration.checksum().into(), now.into()],
        )?;
        crash::step("init.migration_applied");
    }
    Ok(if pending.is_empty() { Migrated::Nothing } else { Migrated::Applied(pending.len()) })
}

fn pending(tx: &mut Tx<'_>) -> Result<Vec<&'static Migration>> {
    let rows = tx.query("schema_migrations", "SELECT number, checksum FROM schema_migrations ORDER BY number", &[])?;
    let mut applied = Vec::new();
    for mut row in rows {
        let number = row.int("number")?;
        let checksum = row.text("checksum")?;
        match MIGRATIONS.iter().find(|m| m.number == number) {
            None => {
                return Err(Error::Schema(format!(
                    "the database has migration {number}, which this grantd does not know: it was written by a newer version. Run that version, or restore a backup"
                )));
            }
            Some(known) if known.checksum() != checksum => {
                return Err(Error::Schema(format!(
                    "migration {number} ({}) of this database is not the one this grantd knows: it was edited. Run the grantd that wrote it",
                    known.name
                )));
            }
            Some(_) => applied.push(number),
        }
    }
    Ok(MIGRATIONS.iter().filter(|m| !applied.contains(&m.number)).collect())
}

pub(crate) async fn check(store: &Store) -> Result<()> {
    let missing = store.read(|tx| Ok(pending(tx)?.len())).await.map_err(|e| match e {
        Error::Statement { .. } => Error::Schema(
            "the database has no schema. Run `grantd init`, or `grantd serve` without --no-migrate".to_owned(),
        ),
        other => other,
    })?;
    match missing {
        0 => Ok(()),
        n => Err(Error::Schema(format!(
            "{} missing. Run `grantd serve` without --no-migrate to apply them",
            counted(n, "migration is", "migrations are")
        ))),
    }
}

pub(crate) async fn fingerprint(store: &Store) -> Result<String> {
    let sql = match store.inner.engine {
        Engine::Sqlite(_) => {
            "SELECT m.name, p.name, CASE p.type WHEN 'BLOB' THEN 'bytes' WHEN 'INTEGER' THEN 'bigint' ELSE 'text' END, \
             CASE WHEN p.\"notnull\" = 1 OR p.pk > 0 THEN 1 ELSE 0 END \
             FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' \
             ORDER BY 1, 2"
        }
        Engine::Postgres { .. } => {
            "SELECT table_name::text, column_name::text, \
             CASE data_type WHEN 'bytea' THEN 'bytes' WHEN 'bigint' THEN 'bigint' ELSE 'text' END, \
             CASE is_nullable WHEN 'NO' THEN 1::bigint ELSE 0::bigint END \
             FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY table_name COLLATE \"C\", column_name COLLATE \"C\""
        }
    };
    let mut lines = Vec::new();
    for mut row in store.fetch("columns", sql, Vec::<Value>::new()).await? {
        let (table, column, kind) = (row.text("table")?, row.text("column")?, row.text("type")?);
        lines.push(format!("{table}.{column} {kind} {}", if row.int("notnull")? == 1 { "not null" } else { "null" }));
    }
    lines.sort();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Released migrations are pinned. A new one adds its line; an old line never changes.
    #[test]
    fn released_migrations_are_never_edited() {
        let pinned = include_str!("migrations/checksums.txt");
        let line = |m: &Migration| format!("{} {} {}", m.number, m.name, m.checksum());
        let now: Vec<String> = MIGRATIONS.iter().map(line).collect();
        assert_eq!(
            now,
            pinned.lines().collect::<Vec<_>>(),
            "an applied migration was edited, or a new one is not pinned yet"
        );
    }

    /// The engine that has no statistics of its own finds a credential's grants by their index, not among all of the app's.
    #[tokio::test]
    async fn the_grants_of_a_credential_are_found_by_their_index() {
        let store = Store::open(&crate::Location::Memory, "test", 1).await.unwrap();
        migrate(&store, TimeMs(0)).await.unwrap();
        for sql in [
            "SELECT COUNT(*) FROM grants WHERE app_id = $1 AND credential_id = $2 AND status = 'active'",
            "SELECT id FROM grants WHERE app_id = $1 AND credential_id = $2 AND label = 'x'",
        ] {
            let plan = store.plan(sql, 2).await;
            assert!(plan.contains("INDEX grants_credential"), "{plan}: {sql}");
        }
    }

    #[test]
    fn numbers_rise_by_one() {
        assert!(MIGRATIONS.iter().zip(1..).all(|(m, n)| m.number == n));
    }
}
