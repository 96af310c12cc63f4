//! A breaker in front of an endpoint that fails: it keeps callers from waiting for what will not answer, and the endpoint from being
//! asked by all of them at once.

use grantd_wire::TimeMs;

/// Failures in a row that open it.
pub const FAILURES: u32 = 5;
/// How long it stays open at first, in milliseconds.
const OPEN_MS: i64 = 5_000;
/// And at most.
const OPEN_MS_MAX: i64 = 60_000;

/// How an endpoint stands.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Breaker {
    failures: u32,
    open_until: Option<TimeMs>,
}

impl Breaker {
    /// Lets a call through, or says when to come back. When its time is over, one call goes through at a time: whoever asks next within
    /// the first pause is told to wait for what becomes of it.
    pub fn enter(&mut self, now: TimeMs) -> Result<(), TimeMs> {
        match self.open_until {
            Some(until) if until > now => Err(until),
            Some(_) => {
                self.open_until = Some(now.plus_ms(OPEN_MS));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The endpoint answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not, or said that it cannot.
    pub fn failed(&mut self, now: TimeMs) {
        self.failures = self.failures.saturating_add(1);
        if let Some(more) = self.failures.checked_sub(FAILURES) {
            self.open_until = Some(now.plus_ms((OPEN_MS << more.min(4)).min(OPEN_MS_MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_000_000);

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES {
            breaker.failed(NOW);
            assert_eq!(breaker.enter(NOW), Ok(()));
        }
        breaker.answered();
        breaker.failed(NOW);
        assert_eq!(breaker.enter(NOW), Ok(()));
        for _ in 1..FAILURES {
            breaker.failed(NOW);
        }
        assert_eq!(breaker.enter(NOW), Err(NOW.plus_ms(OPEN_MS)));
    }

    #[test]
    fn one_call_at_a_time_tries_again_and_the_pause_grows_to_its_bound() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(NOW);
        }
        let later = NOW.plus_ms(OPEN_MS);
        assert_eq!(breaker.enter(later), Ok(()));
        assert_eq!(breaker.enter(later), Err(later.plus_ms(OPEN_MS)));
        breaker.failed(later);
        assert_eq!(breaker.enter(later), Err(later.plus_ms(2 * OPEN_MS)));
        for _ in 0..20 {
            breaker.failed(later);
        }
        assert_eq!(breaker.enter(later), Err(later.plus_ms(OPEN_MS_MAX)));
        breaker.answered();
        assert_eq!(breaker.enter(later), Ok(()));
    }
}
