//! The one place that looks at the machine's clock. A client library has no caller to take the time from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "signatures carry the real time; everything else takes it as an argument"
)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds since 1970.
pub fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Measures how long something takes.
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measures a duration; nothing is decided by it")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
