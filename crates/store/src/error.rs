//! What can go wrong in the store.

/// A store error: what we were doing; `source` says why.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, written or committed; nothing of this call was applied, or its commit's fate is unknown.
    #[error("the database is unavailable: {what}")]
    Unavailable {
        /// What the engine said.
        what: String,
    },
    /// Too much is waiting, or conflicts did not end.
    #[error("the database is busy")]
    Busy,
    /// A statement is wrong: a bug.
    #[error("a statement failed: {what}")]
    Statement {
        /// What the engine said.
        what: String,
    },
    /// A row holds what no code of ours writes.
    #[error("{table}.{column} of row {row} is inconsistent")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id, as far as it is known.
        row: String,
    },
    /// A unique value exists already.
    #[error("a unique value exists already")]
    Duplicate,
    /// The nonce was used before.
    #[error("the nonce was used before")]
    Replayed,
    /// The closure refused, and everything it did was undone.
    #[error("refused: {}", .0.message)]
    Refused(Box<grantd_wire::Error>),
    /// The closure panicked, and everything it did was undone.
    #[error("a write panicked")]
    Panicked,
    /// The schema is not one this program knows.
    #[error("{0}")]
    Schema(String),
}

impl Error {
    /// The engine's fault and not the closure's: it goes before whatever the closure made of it.
    pub(crate) fn is_of_the_engine(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable { .. })
    }
}

impl From<grantd_wire::Error> for Error {
    fn from(error: grantd_wire::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl From<grantd_wire::Code> for Error {
    fn from(code: grantd_wire::Code) -> Self {
        Self::from(grantd_wire::Error::new(code))
    }
}

/// Result of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;
