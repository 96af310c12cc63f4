//! One connection. Whatever it is asked, it answers within a bound, or it is not used again.
//!
//! The server bounds its statements itself, but a server that was stopped, or whose disk hangs, bounds nothing: its kernel goes on
//! acknowledging what we send. So there is a bound on our side, too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, Statement};

/// What became of a statement that did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the connection to it, said so.
    Told(tokio_postgres::Error),
    /// There was no answer in time: nobody knows what the server makes of the statement.
    Silent,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Told(error)
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// A connection to a server.
pub(crate) struct Session {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
    statements: Mutex<HashMap<&'static str, Statement>>,
    /// Each statement is prepared once, however many callers come with it at the same time.
    preparing: tokio::sync::Mutex<()>,
    /// How long an answer may take; nothing where a statement may take what it needs.
    patience: Option<Duration>,
    /// Not to be lent again: it was silent, or its server takes no writes.
    is_unfit: AtomicBool,
    era: u64,
}

impl Session {
    pub(crate) fn new(
        client: tokio_postgres::Client,
        driver: JoinHandle<()>,
        patience: Option<Duration>,
        era: u64,
    ) -> Self {
        Self {
            client,
            driver,
            statements: Mutex::default(),
            preparing: tokio::sync::Mutex::default(),
            patience,
            is_unfit: AtomicBool::new(false),
            era,
        }
    }

    /// Runs text without parameters, and answers its rows as text.
    pub(crate) async fn simple_query(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        self.within(self.client.simple_query(sql)).await
    }

    /// The session, set up.
    pub(crate) fn ready(mut self, patience: Option<Duration>, era: u64) -> Self {
        (self.patience, self.era) = (patience, era);
        self
    }

    /// Which run of which server this is a connection to; see [`super::pool::Eras`].
    pub(crate) fn era(&self) -> u64 {
        self.era
    }

    /// Whether it may be used again, as far as one can know without asking.
    pub(crate) fn is_fit(&self) -> bool {
        !self.is_unfit.load(Ordering::Acquire) && !self.client.is_closed()
    }

    pub(crate) async fn prepare_cached(&self, sql: &'static str) -> Result<Statement> {
        if let Some(statement) = self.prepared(sql) {
            return Ok(statement);
        }
        let _one_at_a_time = self.preparing.lock().await;
        if let Some(statement) = self.prepared(sql) {
            return Ok(statement);
        }
        let statement = self.within(self.client.prepare(sql)).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    fn prepared(&self, sql: &'static str) -> Option<Statement> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    pub(crate) async fn query(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.within(self.client.query(statement, params)).await
    }

    pub(crate) async fn execute(&self, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        self.within(self.client.execute(statement, params)).await
    }

    /// Runs text without parameters: `BEGIN`, `COMMIT`, a migration.
    pub(crate) async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.within(self.client.batch_execute(sql)).await
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        if self.is_unfit.load(Ordering::Acquire) {
            return Err(Failure::Silent);
        }
        let result = match self.patience {
            Some(patience) => tokio::time::timeout(patience, answer).await.map_err(|_| Failure::Silent),
            None => Ok(answer.await),
        };
        let result = result.and_then(|result| result.map_err(Failure::Told));
        if result.as_ref().is_err_and(is_to_be_left) {
            self.is_unfit.store(true, Ordering::Release);
        }
        result
    }
}

/// A server that is silent, or that has become a standby, is left at once: another one may be the primary now.
fn is_to_be_left(failure: &Failure) -> bool {
    match failure {
        Failure::Silent => true,
        Failure::Told(e) => e.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION),
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket now: nothing may wait for what is still on its way.
        self.driver.abort();
    }
}
