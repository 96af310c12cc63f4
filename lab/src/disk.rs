//! What rows cost on disk, as the engines themselves account for it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use tokio_postgres::NoTls;

use crate::grantd::{Engine, Install};
use crate::{Error, Result};

/// Tables a grant lives in.
const GRANT_TABLES: [&str; 2] = ["grants", "credentials"];

/// Space that grants take, with all their indexes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GrantsOnDisk {
    /// Bytes of tables and indexes.
    pub bytes: u64,
    /// Bytes of sealed values therein.
    pub payload_bytes: u64,
    /// Grants.
    pub grants: u64,
}

impl GrantsOnDisk {
    /// Bytes a grant beside its payload.
    pub fn beside_payload(&self) -> f64 {
        let beside = self.bytes.saturating_sub(self.payload_bytes);
        crate::load::as_float(beside) / crate::load::as_float(self.grants.max(1))
    }
}

/// Of an install whose server may run or not.
pub async fn grants(install: &Install) -> Result<GrantsOnDisk> {
    match install.engine() {
        Engine::Sqlite => sqlite(&install.directory().join("grantd.db")),
        Engine::Postgres(url) => postgres(url).await,
    }
}

/// By pages, which `dbstat` counts for every table and index.
fn sqlite(path: &Path) -> Result<GrantsOnDisk> {
    let failed = |e: rusqlite::Error| Error::because("cannot ask SQLite for its sizes", e);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(failed)?;
    let one = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let [grants, credentials] = GRANT_TABLES;
    let bytes = one(&format!(
        "SELECT SUM(pgsize) FROM dbstat WHERE aggregate = TRUE \
         AND name IN (SELECT name FROM sqlite_schema WHERE tbl_name IN ('{grants}', '{credentials}'))"
    ))?;
    let payload = one("SELECT COALESCE(SUM(LENGTH(sealed)), 0) FROM credentials")?;
    Ok(counted(bytes, payload, one("SELECT COUNT(*) FROM grants")?))
}

async fn postgres(url: &str) -> Result<GrantsOnDisk> {
    let failed = |e| Error::because("cannot ask PostgreSQL for its sizes", told(&e));
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    // Pages that only an old version of a row fills would be counted as well.
    for table in GRANT_TABLES {
        client.batch_execute(&format!("VACUUM {table}")).await.map_err(failed)?;
    }
    let [grants, credentials] = GRANT_TABLES;
    let sql = format!(
        "SELECT pg_total_relation_size('{grants}') + pg_total_relation_size('{credentials}'), \
         (SELECT COALESCE(SUM(LENGTH(sealed)), 0)::bigint FROM credentials), (SELECT COUNT(*) FROM grants)"
    );
    let row = client.query_one(&sql, &[]).await.map_err(failed)?;
    drop(client);
    // The connection ends when its client is gone.
    drop(driver.await);
    Ok(counted(row.get(0), row.get(1), row.get(2)))
}

/// The driver's errors say what the server said only when they are asked.
fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

fn counted(bytes: i64, payload: i64, grants: i64) -> GrantsOnDisk {
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    GrantsOnDisk { bytes: count(bytes), payload_bytes: count(payload), grants: count(grants) }
}

/// A new database on the server of `url`; answers its URL. One of that name is dropped first.
pub async fn create_database(url: &str, name: &str) -> Result<String> {
    let failed = |e| Error::because(format_args!("cannot create the database {name}"), told(&e));
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.map_err(failed)?;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.map_err(failed)?;
    drop(client);
    drop(driver.await);
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let server = base.rsplit_once('/').map_or(base, |(server, _)| server);
    Ok(format!("{server}/{name}{query}"))
}
