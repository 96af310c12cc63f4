//! The real clock and the real randomness; everything else gets them as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use grantd_domain::env::{Clock, Entropy};
use grantd_wire::TimeMs;

/// This machine.
#[derive(Clone, Copy)]
pub struct Host;

impl Clock for Host {
    fn now(&self) -> TimeMs {
        self.now_fine().0
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where the time comes from")]
    fn now_fine(&self) -> (TimeMs, Option<u16>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let part = u64::from(since.subsec_nanos() % 1_000_000) * 4_096 / 1_000_000;
        (TimeMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)), u16::try_from(part).ok())
    }
}

impl Entropy for Host {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
    }
}
