//! Who calls too often: GCRA states by subject, bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use grantd_domain::rate::{Limit, Verdict, take};
use grantd_wire::TimeMs;

/// Subjects remembered; when more come, those whose limit is whole again are forgotten.
const SUBJECTS_MAX: usize = 100_000;

/// Limits by subject.
pub struct Limiter<K> {
    arrivals_us: Mutex<HashMap<K, i64>>,
}

impl<K: Hash + Eq> Default for Limiter<K> {
    fn default() -> Self {
        Self { arrivals_us: Mutex::new(HashMap::new()) }
    }
}

impl<K: Hash + Eq> Limiter<K> {
    /// Takes one call of `subject`.
    pub fn take(&self, subject: K, limit: Limit, now: TimeMs) -> Verdict {
        let mut arrivals = self.arrivals_us.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() >= SUBJECTS_MAX && !arrivals.contains_key(&subject) {
            arrivals.retain(|_, arrival| *arrival > now.0.saturating_mul(1000));
        }
        let verdict = take(limit, arrivals.get(&subject).copied().unwrap_or(0), now);
        if let Verdict::Pass { arrival_us, .. } = verdict {
            arrivals.insert(subject, arrival_us);
        }
        verdict
    }
}
