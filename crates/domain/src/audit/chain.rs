//! The hash chain.
//!
//! `event_hash = SHA-256("grantd.event.1" | core | private_hash)`, `private_hash = SHA-256("grantd.private.1" | salt | private)`,
//! `hash = SHA-256("grantd.link.1" | previous hash | event_hash)`; core and private are RFC 8785 text, the core with its
//! `chain_id` and `seq`.

use grantd_wire::TimeMs;
use grantd_wire::ids::ChainId;
use grantd_wire::sign::sha256_of;

use super::Prepared;

/// The previous hash of a first link when its owner has no checkpoint yet.
pub const ZERO_HASH: [u8; 32] = [0; 32];

/// The last link of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub chain_id: ChainId,
    /// 0 before the first event.
    pub seq: i64,
    /// The last link's hash, or the previous hash of the first.
    pub hash: [u8; 32],
    pub at: TimeMs,
}

/// An event in its place.
#[derive(Clone, Debug)]
pub struct Linked {
    pub chain_id: ChainId,
    pub seq: i64,
    pub at: TimeMs,
    pub core: String,
    pub event_hash: [u8; 32],
    pub hash: [u8; 32],
}

impl Head {
    /// A chain without events.
    pub fn start(chain_id: ChainId, first_previous: [u8; 32]) -> Self {
        Self { chain_id, seq: 0, hash: first_previous, at: TimeMs(0) }
    }

    /// Appends the event and moves the head. Within a chain `at` never falls.
    pub fn link(&mut self, event: &Prepared) -> Linked {
        let seq = self.seq + 1;
        let at = event.at.max(self.at);
        let core = event.core_at(at, self.chain_id, seq);
        let event_hash = event_hash(&core, &event.private_hash);
        let hash = link_hash(&self.hash, &event_hash);
        *self = Self { chain_id: self.chain_id, seq, hash, at };
        Linked { chain_id: self.chain_id, seq, at, core, event_hash, hash }
    }
}

/// Hash of an event's content.
pub fn event_hash(core: &str, private_hash: &[u8; 32]) -> [u8; 32] {
    sha256_of(&[b"grantd.event.1", core.as_bytes(), private_hash])
}

/// Hash of an event's private part.
pub fn private_hash(salt: &[u8; 16], private: &str) -> [u8; 32] {
    sha256_of(&[b"grantd.private.1", salt, private.as_bytes()])
}

/// Hash of a link.
pub fn link_hash(previous: &[u8; 32], event_hash: &[u8; 32]) -> [u8; 32] {
    sha256_of(&[b"grantd.link.1", previous, event_hash])
}
