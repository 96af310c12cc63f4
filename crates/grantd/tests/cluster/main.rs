//! Several real servers on one real PostgreSQL: what one replica revokes, none releases; what was answered outlives the primary.
//!
//! `cargo xtask replicas` and `cargo xtask promotion` start what these stories need, and say so in the environment. Without that
//! they return at once.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod client;
mod grantd;
mod promotion;
mod replicas;

/// What xtask says.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their servers are")]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn run(story: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story);
}

/// How long it took, for people to read.
#[expect(clippy::disallowed_methods, reason = "a stopwatch for people: nothing depends on it")]
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}
