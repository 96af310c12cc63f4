//! PostgreSQL: pools, statements, and what its errors mean.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{
    Client, ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime,
};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{IsNull, ToSql, Type, WrongType, private::BytesMut, to_sql_checked};
use tokio_postgres::{Config, NoTls};

use super::{Row, Value};
use crate::error::{Error, Result};

/// How long a call waits for a connection.
const WAIT: Duration = Duration::from_secs(2);
/// A peer that is silent for this long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Connections tried for what may be tried again: the pool may lend some that have ended, and hears of it only when they are used.
pub(crate) const CONNECTIONS_MAX: u32 = 16;
/// Oldest server promised, as `server_version_num`.
const VERSION_MIN: i64 = 140_000;

/// What every connection is set to, whatever its role or database says. Nothing waits without end; single statements are READ
/// COMMITTED; what is answered after a commit is on disk.
const SETUP: &str = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '30s'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

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

/// What the error means for the caller.
pub(crate) fn error(error: &tokio_postgres::Error) -> Error {
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
    // Connection, read-only standby, login, no such database, resources, operator intervention, system, configuration, internal.
    const UNAVAILABLE: [&str; 9] = ["08", "25", "28", "3D", "53", "57", "58", "F0", "XX"];
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
/// went down) nobody knows.
pub(crate) fn was_undone(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        db.parsed_severity() == Some(Severity::Error) && *db.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    })
}

/// Two pools: the lane and the append path never wait behind reads.
pub(crate) struct Postgres {
    /// For reads, and for single statements beside the lane.
    pub(crate) shared: Pool,
    pub(crate) writes: Pool,
}

impl Postgres {
    /// Makes the pools, and looks whether the server is one we can work with.
    pub(crate) async fn open(url: &str, pool_size: usize) -> Result<Self> {
        let mut config: Config = url.parse().map_err(|_| {
            Error::Schema(
                "database_url is not a PostgreSQL URL such as postgres://user:password@host:5432/database".to_owned(),
            )
        })?;
        config
            .application_name("grantd")
            .connect_timeout(Duration::from_secs(5))
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE)
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3);
        let pool = |size: usize| {
            let manager =
                Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
            Pool::builder(manager)
                .max_size(size)
                .wait_timeout(Some(WAIT))
                .create_timeout(Some(Duration::from_secs(5)))
                .post_create(Hook::async_fn(|client: &mut ClientWrapper, _| {
                    Box::pin(async move { client.batch_execute(SETUP).await.map_err(HookError::Backend) })
                }))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|e| Error::Schema(e.to_string()))
        };
        let pools = Self { shared: pool(pool_size.saturating_sub(2).max(1))?, writes: pool(2)? };
        // Fail here, with words, and not at the first request.
        check_server(&connect(&pools.shared).await?).await?;
        Ok(pools)
    }

    pub(crate) fn close(&self) {
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

/// A connection, within a bounded wait.
pub(crate) async fn connect(pool: &Pool) -> Result<Client> {
    use deadpool_postgres::PoolError;
    pool.get().await.map_err(|e| match e {
        PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => {
            Error::Unavailable { what: text(&e) }
        }
        other => Error::Unavailable { what: format!("no connection to PostgreSQL: {other}") },
    })
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
        let rows = match client.prepare_cached(sql).await {
            Ok(statement) => client.query(&statement, &as_params(params)).await,
            Err(e) => Err(e),
        };
        match rows {
            Ok(rows) => return rows.iter().map(values).collect(),
            Err(e) if tries == CONNECTIONS_MAX || was_undone(&e) || is_ours(&e) => return Err(error(&e)),
            Err(_) => drop(Client::take(client)),
        }
        tries += 1;
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
        value.map_err(|e| error(&e))
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
