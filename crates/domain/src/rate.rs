//! Rate limits: GCRA (the generic cell rate algorithm) as a pure step.
//!
//! State is one number, the theoretical arrival time; a limit of `per_minute` has a burst of its own size or a tenth.

use grantd_wire::TimeMs;

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls a minute, at least 1.
    pub per_minute: u32,
    /// Calls at once, at least 1.
    pub burst: u32,
}

impl Limit {
    /// A key's or a rule's limit: the burst is one tenth of the minute; each of `replicas` enforces its share.
    pub fn shared(per_minute: u32, replicas: u32) -> Self {
        let share = (per_minute / replicas.max(1)).max(1);
        Self { per_minute: share, burst: (share / 10).max(1) }
    }
}

/// What one call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on. `arrival_us` is the new state.
    Pass { arrival_us: i64, remaining: u32, reset: TimeMs },
    /// Refused; the state stays. Try again after `retry_after_ms`.
    Refuse { retry_after_ms: i64, reset: TimeMs },
}

/// Takes one call at `now`. `arrival_us` is the state after the last passed call, or 0.
pub fn take(limit: Limit, arrival_us: i64, now: TimeMs) -> Verdict {
    let interval_us = 60_000_000 / i64::from(limit.per_minute.max(1));
    let tolerance_us = interval_us * (i64::from(limit.burst.max(1)) - 1);
    let now_us = now.0.saturating_mul(1000);
    let arrival_us = arrival_us.max(now_us);
    let early_us = arrival_us - now_us - tolerance_us;
    if early_us > 0 {
        return Verdict::Refuse { retry_after_ms: early_us.div_euclid(1000) + 1, reset: TimeMs(arrival_us / 1000) };
    }
    let next_us = arrival_us + interval_us;
    let remaining = (tolerance_us - (next_us - now_us) + interval_us).max(0) / interval_us.max(1);
    Verdict::Pass {
        arrival_us: next_us,
        remaining: u32::try_from(remaining).unwrap_or(0),
        reset: TimeMs(next_us / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limit: Limit, calls_ms: &[i64]) -> Vec<bool> {
        let mut arrival = 0;
        calls_ms
            .iter()
            .map(|ms| match take(limit, arrival, TimeMs(1_000_000 + ms)) {
                Verdict::Pass { arrival_us, .. } => {
                    arrival = arrival_us;
                    true
                }
                Verdict::Refuse { .. } => false,
            })
            .collect()
    }

    #[test]
    fn a_burst_passes_and_one_more_does_not() {
        let limit = Limit::shared(600, 1);
        assert_eq!(limit.burst, 60);
        let passed = run(limit, &[0; 61]);
        assert_eq!(passed.iter().filter(|p| **p).count(), 60);
        assert!(!passed[60]);
    }

    #[test]
    fn the_rate_holds_over_a_minute() {
        let limit = Limit { per_minute: 60, burst: 1 };
        let calls: Vec<i64> = (0..600).map(|i| i * 100).collect();
        assert_eq!(run(limit, &calls).iter().filter(|p| **p).count(), 60);
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_that_works() {
        let limit = Limit { per_minute: 6, burst: 1 };
        let Verdict::Pass { arrival_us, remaining: 0, .. } = take(limit, 0, TimeMs(0)) else {
            panic!("first call passes")
        };
        let Verdict::Refuse { retry_after_ms, .. } = take(limit, arrival_us, TimeMs(1)) else {
            panic!("second is refused")
        };
        assert!(matches!(take(limit, arrival_us, TimeMs(1 + retry_after_ms)), Verdict::Pass { .. }));
    }

    #[test]
    fn replicas_share_a_limit() {
        assert_eq!(Limit::shared(100, 3), Limit { per_minute: 33, burst: 3 });
        assert_eq!(Limit::shared(1, 8), Limit { per_minute: 1, burst: 1 });
    }
}
