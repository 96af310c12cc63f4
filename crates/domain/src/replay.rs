//! The in-memory window of nonces of one process.
//!
//! Invariant: a nonce is never forgotten before its life is over; when the window is full, new calls are refused. Calls that
//! release or change anything are held apart by the database as well.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use grantd_wire::TimeMs;
use grantd_wire::limits::{NONCE_LIFE_MS, NONCES_MAX};

const BUCKET_MS: i64 = 30_000;

/// Nonces by key, in buckets that are dropped whole.
///
/// What is kept of a nonce is a 64-bit print under a key of this process. Two nonces with one print would refuse a good call, once
/// in a million years of full windows; they cannot let a bad one in.
pub struct Window {
    buckets: VecDeque<(i64, Prints)>,
    count: usize,
    max: usize,
    print: RandomState,
}

/// Prints of nonces: hashes already.
pub type Prints = HashSet<u64, BuildHasherDefault<AsIs>>;

/// Hashes a print to itself.
#[derive(Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "only prints are hashed");
    }

    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new(NONCES_MAX)
    }
}

/// What the window says of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    Replayed,
    Full,
}

impl Window {
    /// A window of at most `max` nonces.
    pub fn new(max: usize) -> Self {
        Self { buckets: VecDeque::new(), count: 0, max, print: RandomState::new() }
    }

    /// Remembers the nonce, or says that it was seen.
    pub fn insert(&mut self, key: [u8; 16], nonce: [u8; 16], now: TimeMs) -> Seen {
        let print = self.print.hash_one((key, nonce));
        if self.buckets.iter().any(|(_, seen)| seen.contains(&print)) {
            return Seen::Replayed;
        }
        // The newest bucket counts: time may step back, and then a bucket only lives longer.
        let bucket = now.0.div_euclid(BUCKET_MS).max(self.buckets.back().map_or(i64::MIN, |(b, _)| *b));
        while let Some((oldest, seen)) = self.buckets.front() {
            if (bucket - oldest) * BUCKET_MS <= NONCE_LIFE_MS + BUCKET_MS {
                break;
            }
            self.count -= seen.len();
            self.buckets.pop_front();
        }
        if self.count >= self.max {
            return Seen::Full;
        }
        if self.buckets.back().is_none_or(|(b, _)| *b != bucket) {
            self.buckets.push_back((bucket, Prints::default()));
        }
        self.buckets.back_mut().expect("one was just pushed").1.insert(print);
        self.count += 1;
        Seen::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_seen_once_per_key_for_its_whole_life() {
        let mut window = Window::default();
        assert_eq!(window.insert([1; 16], [1; 16], TimeMs(5)), Seen::New);
        assert_eq!(window.insert([2; 16], [1; 16], TimeMs(5)), Seen::New);
        for ms in [5, 10_000, NONCE_LIFE_MS - 1, NONCE_LIFE_MS] {
            assert_eq!(window.insert([1; 16], [1; 16], TimeMs(ms)), Seen::Replayed, "{ms}");
        }
        window.insert([3; 16], [3; 16], TimeMs(NONCE_LIFE_MS + 3 * BUCKET_MS));
        assert_eq!(window.insert([1; 16], [1; 16], TimeMs(NONCE_LIFE_MS + 3 * BUCKET_MS)), Seen::New);
        assert_eq!(window.count, 2);
    }

    #[test]
    fn a_full_window_refuses_and_forgets_nothing_until_its_time() {
        let mut window = Window::new(2);
        assert_eq!(window.insert([1; 16], [1; 16], TimeMs(0)), Seen::New);
        assert_eq!(window.insert([1; 16], [2; 16], TimeMs(0)), Seen::New);
        for ms in [0, NONCE_LIFE_MS] {
            assert_eq!(window.insert([1; 16], [3; 16], TimeMs(ms)), Seen::Full);
            assert_eq!(window.insert([1; 16], [1; 16], TimeMs(ms)), Seen::Replayed);
        }
        assert_eq!(window.insert([1; 16], [3; 16], TimeMs(NONCE_LIFE_MS + 3 * BUCKET_MS)), Seen::New);
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let mut window = Window::default();
        window.insert([1; 16], [1; 16], TimeMs(1_000_000));
        assert_eq!(window.insert([1; 16], [2; 16], TimeMs(0)), Seen::New);
        assert_eq!(window.insert([1; 16], [1; 16], TimeMs(0)), Seen::Replayed);
        assert_eq!(window.insert([1; 16], [2; 16], TimeMs(1_000_000)), Seen::Replayed);
    }
}
