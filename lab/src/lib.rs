//! grantd's lab: a client that signs fast enough to measure a server with, and the benchmark built on it.
//!
//! Invariant: every answer is looked at. One that is not what it should be makes the whole case void; there is no figure for it.

pub mod bench;
pub mod client;
pub mod disk;
pub mod fill;
pub mod grantd;
pub mod host;
pub mod load;
pub mod machine;
pub mod peers;
pub mod plan;
pub mod storm;
pub mod tokens;

/// What went wrong, in a sentence for whoever runs the lab.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// What the lab's functions answer.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    /// `what`, and why.
    pub fn because(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}
