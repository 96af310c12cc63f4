//! PostgreSQL: one write lane a process, SERIALIZABLE and retried; appends as single statements beside it; pooled reads.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{Config, NoTls};

use super::Value;
use crate::error::{Error, Result};

/// Times a write closure is run again after a serialization failure.
pub(crate) const RETRIES_MAX: u32 = 10;
/// How long a call waits for a connection.
const WAIT: Duration = Duration::from_secs(2);

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(int) => int.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT | Type::VARCHAR | Type::BYTEA)
    }

    to_sql_checked!();
}

/// What the error means for the caller. A lost connection while committing leaves the fate unknown.
pub(crate) fn error(error: &tokio_postgres::Error) -> Error {
    let text = error.as_db_error().map_or_else(
        || error.source().map_or_else(|| error.to_string(), ToString::to_string),
        |db| format!("{}: {}", db.code().code(), db.message()),
    );
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Error::Duplicate,
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => Error::Busy,
        Some(code) if ["53", "57", "58", "25", "XX"].iter().any(|class| code.code().starts_with(class)) => {
            Error::Unavailable { what: text }
        }
        Some(_) => Error::Statement { what: text },
        None => Error::Unavailable { what: text },
    }
}

/// Two pools: the lane and the append path never wait behind reads.
pub(crate) struct Postgres {
    pub(crate) reads: Pool,
    pub(crate) writes: Pool,
}

impl Postgres {
    pub(crate) fn open(url: &str, pool_size: usize) -> Result<Self> {
        let mut config: Config = url.parse().map_err(|_| {
            Error::Schema(
                "database_url is not a PostgreSQL URL such as postgres://user:password@host:5432/database".to_owned(),
            )
        })?;
        config.application_name("grantd").connect_timeout(Duration::from_secs(5));
        let pool = |size: usize| {
            let manager =
                Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
            Pool::builder(manager)
                .max_size(size)
                .wait_timeout(Some(WAIT))
                .create_timeout(Some(Duration::from_secs(5)))
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|e| Error::Schema(e.to_string()))
        };
        Ok(Self { reads: pool(pool_size.saturating_sub(2).max(1))?, writes: pool(2)? })
    }
}

/// A connection, within a bounded wait.
pub(crate) async fn connect(pool: &Pool) -> Result<Client> {
    pool.get().await.map_err(|e| match e {
        deadpool_postgres::PoolError::Backend(e) => error(&e),
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

/// Runs a batch without parameters: `BEGIN`, `COMMIT`, a migration.
pub(crate) async fn batch(client: &Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| error(&e))
}
