//! PostgreSQL: statements, and what its errors mean.

mod pipeline;
mod pool;
mod session;
mod tls;
pub(crate) mod url;

use std::error::Error as _;

use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{IsNull, ToSql, Type, WrongType, private::BytesMut, to_sql_checked};

use super::{Row, Value};
use crate::error::{Error, Result};
use pipeline::Pipeline;
use pool::Connector;
pub(crate) use pool::{Client, Pool, connect};
pub(crate) use session::Failure;
use session::Session;
use url::PostgresUrl;

/// Connections tried for what may be tried again: the pool may lend some that have ended, and hears of it only when they are used.
pub(crate) const CONNECTIONS_MAX: u32 = 16;
/// Connections that write: the lane's and the append path's.
const WRITES_MAX: usize = 2;
/// Oldest server promised, as `server_version_num`.
const VERSION_MIN: i64 = 140_000;

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(int) => int.to_sql_checked(ty, out),
            Self::Text(text) => text.to_sql_checked(ty, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

/// What the failure means for the caller.
pub(crate) fn error(failure: &Failure) -> Error {
    let Failure::Told(error) = failure else {
        return Error::Unavailable { what: "PostgreSQL does not answer".to_owned() };
    };
    let what = text(error);
    let Some(code) = error.as_db_error().map(|db| db.code().code()) else {
        // Not from the server: the connection, or a value that does not fit its column.
        return if is_ours(error) { Error::Statement { what } } else { Error::Unavailable { what } };
    };
    meaning(code, what)
}

fn is_ours(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(<dyn std::error::Error>::is::<WrongType>)
}

fn text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        |db| format!("{}: {}", db.code().code(), db.message()),
    )
}

fn meaning(code: &str, what: String) -> Error {
    // Connection, read-only standby, login, no such database, resources, a database that takes no connections, operator
    // intervention, system, configuration, internal.
    const UNAVAILABLE: [&str; 10] = ["08", "25", "28", "3D", "53", "55", "57", "58", "F0", "XX"];
    if code == SqlState::UNIQUE_VIOLATION.code() {
        return Error::Duplicate;
    }
    if code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN.code() {
        return Error::Unavailable { what };
    }
    if code.starts_with("40") || code == SqlState::LOCK_NOT_AVAILABLE.code() {
        return Error::Busy;
    }
    if UNAVAILABLE.iter().any(|class| code.starts_with(class)) {
        return Error::Unavailable { what };
    }
    Error::Statement { what }
}

/// Whether the server itself said that it undid the statement, or the COMMIT. After anything else (a lost connection, a server that
/// went down or does not answer) nobody knows.
pub(crate) fn was_undone(failure: &Failure) -> bool {
    let Failure::Told(error) = failure else { return false };
    error.as_db_error().is_some_and(|db| {
        db.parsed_severity() == Some(Severity::Error) && *db.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    })
}

/// Two pools: the lane and the append path never wait behind reads. Beside them a pipeline, where calls do not wait for each other.
pub(crate) struct Postgres {
    /// For the one row that a call needs.
    pub(crate) pipeline: Pipeline,
    /// For reads, and for single statements beside the lane.
    pub(crate) shared: Pool,
    pub(crate) writes: Pool,
    connector: Connector,
}

impl Postgres {
    /// Makes the pools, and looks whether the server is one we can work with.
    pub(crate) async fn open(url: &PostgresUrl, pool_size: usize) -> Result<Self> {
        let connector = Connector::new(url)?;
        let others = pool_size.saturating_sub(WRITES_MAX + pipeline::CONNECTIONS).max(1);
        let (shared, writes) = (connector.pool(others)?, connector.pool(WRITES_MAX)?);
        let pools = Self { pipeline: connector.pipeline(), shared, writes, connector };
        // Fail here, with words, and not at the first request.
        check_server(&connect(&pools.shared).await?).await?;
        Ok(pools)
    }

    /// A pool of one connection for what takes long: a migration.
    pub(crate) fn patient(&self) -> Result<Pool> {
        self.connector.patient_pool()
    }

    pub(crate) fn close(&self) {
        self.pipeline.close();
        self.shared.close();
        self.writes.close();
    }
}

async fn check_server(client: &Client) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::bigint, current_setting('server_version')::text, \
        current_setting('server_encoding')::text";
    let rows = query(client, sql, &[]).await?;
    let mut row = Row::new("server", rows.into_iter().next().unwrap_or_default());
    let (number, version, encoding) = (row.int("version")?, row.text("version")?, row.text("encoding")?);
    if number < VERSION_MIN {
        return Err(Error::Schema(format!("PostgreSQL {version} is too old: grantd needs 14 or newer")));
    }
    if encoding != "UTF8" {
        return Err(Error::Schema(format!(
            "the database's encoding is {encoding}: grantd needs UTF8. Create it with ENCODING 'UTF8'"
        )));
    }
    Ok(())
}

fn as_params(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

pub(crate) async fn execute(client: &Client, sql: &'static str, params: &[Value]) -> Result<u64> {
    let statement = client.prepare_cached(sql).await.map_err(|e| error(&e))?;
    client.execute(&statement, &as_params(params)).await.map_err(|e| error(&e))
}

pub(crate) async fn query(client: &Client, sql: &'static str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
    let statement = client.prepare_cached(sql).await.map_err(|e| error(&e))?;
    let rows = client.query(&statement, &as_params(params)).await.map_err(|e| error(&e))?;
    rows.iter().map(values).collect()
}

/// One reading statement outside of any transaction. A connection that has ended is replaced.
pub(crate) async fn fetch(pool: &Pool, sql: &'static str, params: &[Value]) -> Result<Vec<Vec<Value>>> {
    let mut tries = 1;
    loop {
        let client = connect(pool).await?;
        match ask(&client, sql, params).await {
            Ok(rows) => return rows.iter().map(values).collect(),
            Err(e) if tries == CONNECTIONS_MAX || is_final(&e) => return Err(error(&e)),
            Err(_) => drop(Client::take(client)),
        }
        tries += 1;
    }
}

/// The same in the pipeline. Answers the server's era, too.
pub(crate) async fn fetch_row(
    pipeline: &Pipeline,
    sql: &'static str,
    params: &[Value],
) -> Result<(u64, Option<Vec<Value>>)> {
    let mut tries = 1;
    loop {
        let session = pipeline.connect().await?;
        match ask(&session, sql, params).await {
            Ok(rows) => return Ok((session.era(), rows.first().map(values).transpose()?)),
            Err(e) if tries == CONNECTIONS_MAX || is_final(&e) => return Err(error(&e)),
            Err(_) => pipeline.leave(&session).await,
        }
        tries += 1;
    }
}

async fn ask(
    session: &Session,
    sql: &'static str,
    params: &[Value],
) -> std::result::Result<Vec<tokio_postgres::Row>, Failure> {
    let statement = session.prepare_cached(sql).await?;
    session.query(&statement, &as_params(params)).await
}

/// Whether another connection would fare no better, or nobody would wait for it.
pub(crate) fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::Silent => true,
        Failure::Told(e) => was_undone(failure) || is_ours(e),
    }
}

pub(crate) fn values(row: &tokio_postgres::Row) -> Result<Vec<Value>> {
    let cell = |(i, column): (usize, &tokio_postgres::Column)| {
        let value: std::result::Result<Value, tokio_postgres::Error> = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(i).map(Value::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(i).map(|v| Value::from(v.map(i64::from))),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(i).map(Value::from),
            _ => row.try_get::<_, Option<String>>(i).map(Value::from),
        };
        value.map_err(|e| error(&Failure::Told(e)))
    };
    row.columns().iter().enumerate().map(cell).collect()
}

/// Runs a batch without parameters: `BEGIN`, `ROLLBACK`, a migration.
pub(crate) async fn batch(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| error(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_server_say_what_a_caller_may_do() {
        let kind = |code: &str| match meaning(code, String::new()) {
            Error::Duplicate => "duplicate",
            Error::Busy => "busy",
            Error::Unavailable { .. } => "unavailable",
            _ => "bug",
        };
        let expected = [
            ("23505", "duplicate"),
            ("40001", "busy"),
            ("40P01", "busy"),
            ("55P03", "busy"),
            ("55000", "unavailable"),
            ("40003", "unavailable"),
            ("08006", "unavailable"),
            ("25006", "unavailable"),
            ("28P01", "unavailable"),
            ("53100", "unavailable"),
            ("57014", "unavailable"),
            ("57P01", "unavailable"),
            ("58030", "unavailable"),
            ("XX001", "unavailable"),
            ("23502", "bug"),
            ("23514", "bug"),
            ("42601", "bug"),
        ];
        for (code, meant) in expected {
            assert_eq!(kind(code), meant, "{code}");
        }
    }

    #[test]
    fn a_value_does_not_fit_a_column_of_another_kind() {
        let mut out = BytesMut::new();
        let refused = Value::Int(1).to_sql(&Type::TEXT, &mut out).err();
        assert!(refused.is_some_and(|e| e.is::<WrongType>()));
        assert!(matches!(Value::Null.to_sql(&Type::TEXT, &mut out), Ok(IsNull::Yes)));
    }
}
