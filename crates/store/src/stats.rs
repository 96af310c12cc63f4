//! Numbers of what the store does, for whoever watches it. Counting takes no lock and no memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::hot::Appended;

/// How often values fell below which bound.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds: &'static [u64; BOUNDS],
    counts: [AtomicU64; BOUNDS],
    above: AtomicU64,
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Each bound, and how many values were at most that.
    pub at_most: Vec<(u64, u64)>,
    /// Values in all.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// An empty histogram; the bounds must rise.
    pub const fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; BOUNDS], above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value: two additions.
    pub fn observe(&self, value: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        place.map_or(&self.above, |place| &self.counts[place]).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time, in microseconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        let mut count = 0;
        let at_most = self.bounds.iter().zip(&self.counts).map(|(bound, n)| {
            count += n.load(Ordering::Relaxed);
            (*bound, count)
        });
        let at_most = at_most.collect();
        Counted { at_most, count: count + self.above.load(Ordering::Relaxed), sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// Bounds of times within a process and on a disk, in microseconds.
pub const TIMES_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];
/// Bounds of the number of calls in one commit.
pub const GROUPS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// What became of appends.
pub const APPEND_OUTCOMES: [&str; 5] = ["done", "moved", "replayed", "busy", "failed"];

/// Counters of one store.
#[derive(Debug)]
pub struct Stats {
    waiting: AtomicU64,
    appends: [AtomicU64; APPEND_OUTCOMES.len()],
    /// From handing an event in until it is durable, in microseconds.
    pub append_time: Histogram<14>,
    /// Calls in one commit.
    pub group_size: Histogram<10>,
    /// What a commit of the embedded database, or a statement of events on PostgreSQL, takes, in microseconds.
    pub commit_time: Histogram<14>,
    /// How long writes wait for the lane of PostgreSQL, in microseconds.
    pub lane_wait: Histogram<14>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            waiting: AtomicU64::new(0),
            appends: [const { AtomicU64::new(0) }; APPEND_OUTCOMES.len()],
            append_time: Histogram::new(&TIMES_US),
            group_size: Histogram::new(&GROUPS),
            commit_time: Histogram::new(&TIMES_US),
            lane_wait: Histogram::new(&TIMES_US),
        }
    }
}

/// A write that waits, until this is dropped.
pub(crate) struct Waiting<'s>(&'s Stats);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stats {
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    pub(crate) fn appended(&self, result: &Result<Appended>, took: Duration) {
        let outcome = match result {
            Ok(Appended::Done) => 0,
            Ok(Appended::Moved) => 1,
            Ok(Appended::Replayed) => 2,
            Err(Error::Busy) => 3,
            Err(_) => 4,
        };
        self.appends[outcome].fetch_add(1, Ordering::Relaxed);
        self.append_time.observe_time(took);
    }

    /// Writes and appends that were handed in and are not durable yet.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Appends so far, by what became of them.
    pub fn appends(&self) -> [(&'static str, u64); APPEND_OUTCOMES.len()] {
        std::array::from_fn(|n| (APPEND_OUTCOMES[n], self.appends[n].load(Ordering::Relaxed)))
    }
}

/// Connections of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// `shared` (reads) or `writes`.
    pub pool: &'static str,
    /// Connections it may have.
    pub size_max: usize,
    /// Those that are in use.
    pub in_use: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

/// What the database takes of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The database.
    pub database_bytes: u64,
    /// The write-ahead log of the embedded database.
    pub wal_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_at_their_bound_and_above_it() {
        static BOUNDS: [u64; 2] = [10, 20];
        let histogram = Histogram::new(&BOUNDS);
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counted(), Counted { at_most: vec![(10, 2), (20, 4)], count: 6, sum: 1062 });
    }

    #[test]
    fn bounds_rise() {
        assert!(TIMES_US.is_sorted() && GROUPS.is_sorted());
    }

    #[test]
    fn what_waits_is_counted_until_it_is_answered_or_given_up() {
        let stats = Stats::default();
        let waiting = (stats.wait(), stats.wait());
        assert_eq!(stats.waiting(), 2);
        drop(waiting.0);
        assert_eq!(stats.waiting(), 1);
    }
}
