//! The lab's clocks and randomness: a measuring tool reads the real ones.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use grantd_domain::env::{Clock, Entropy};
use grantd_wire::TimeMs;

/// This machine.
#[derive(Clone, Copy)]
pub struct Host;

impl Clock for Host {
    #[expect(clippy::disallowed_methods, reason = "requests are signed with the time of now")]
    fn now(&self) -> TimeMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Entropy for Host {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// The stopwatch.
#[expect(clippy::disallowed_methods, reason = "measuring time is what the lab is for")]
pub fn instant() -> Instant {
    Instant::now()
}
