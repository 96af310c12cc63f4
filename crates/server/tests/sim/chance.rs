//! Time and chance of a simulated world: both follow from its seed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use grantd_domain::env::{Clock, Entropy};
use grantd_wire::TimeMs;

/// When every world begins.
pub const NOW: TimeMs = TimeMs(1_790_000_000_000);

/// Numbers that follow from a seed: SplitMix64.
pub struct Chance(AtomicU64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        // Seeds are small and follow each other; streams must not.
        Self(AtomicU64::new(mix(seed ^ 0x6772_616e_7464_7369)))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// Below `end`.
    pub fn below(&self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Within both.
    pub fn within(&self, from_ms: i64, to_ms: i64) -> i64 {
        from_ms + i64::try_from(self.next() % u64::try_from(to_ms - from_ms + 1).unwrap()).unwrap()
    }

    /// Happens `permille` times in a thousand.
    pub fn is(&self, permille: usize) -> bool {
        self.below(1_000) < permille
    }

    pub fn one_of<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the code under test takes for its clock and its entropy.
pub struct World {
    now: AtomicI64,
    chance: Chance,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { now: AtomicI64::new(NOW.0), chance: Chance::new(!seed) }
    }

    pub fn advance_ms(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for World {
    fn now(&self) -> TimeMs {
        TimeMs(self.now.load(Ordering::Relaxed))
    }
}

impl Entropy for World {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.chance.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
