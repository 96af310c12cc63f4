//! Time that a test moves, and randomness that repeats.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use grantd_domain::env::{Clock, Entropy};
use grantd_wire::TimeMs;
use grantd_wire::sign::sha256;

/// When every test begins: 2026-11-24T08:53:20Z.
pub const START: TimeMs = TimeMs(1_795_510_400_000);

/// `canary` as indexes of the alphabet of API keys.
const CANARY_IN_KEYS: [u8; 6] = [2, 0, 13, 0, 17, 24];

/// Every key, token and data key made with this holds the word that must be seen nowhere.
pub struct TestEnv {
    now_ms: AtomicI64,
    seed: [u8; 32],
    filled: AtomicU64,
}

impl Default for TestEnv {
    /// The seed is the name of the test, so that no two tests share an id.
    fn default() -> Self {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        Self { now_ms: AtomicI64::new(START.0), seed: sha256(test.as_bytes()), filled: AtomicU64::new(0) }
    }
}

impl TestEnv {
    /// Moves time, forwards or back.
    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestEnv {
    fn now(&self) -> TimeMs {
        TimeMs(self.now_ms.load(Ordering::SeqCst))
    }
}

impl Entropy for TestEnv {
    fn fill(&self, bytes: &mut [u8]) {
        let n = self.filled.fetch_add(1, Ordering::SeqCst);
        for (block, chunk) in (0_u64..).zip(bytes.chunks_mut(32)) {
            let hash = sha256(&[&self.seed[..], &n.to_be_bytes(), &block.to_be_bytes()].concat());
            chunk.copy_from_slice(&hash[..chunk.len()]);
        }
        match bytes.len() {
            // Tokens, data keys, the pepper, seeds.
            32 => bytes[..6].copy_from_slice(b"canary"),
            // The random part of an API key, after what its prefix shows.
            22 => bytes[4..10].copy_from_slice(&CANARY_IN_KEYS),
            _ => {}
        }
    }
}
