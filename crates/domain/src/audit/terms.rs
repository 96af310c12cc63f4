//! The terms an event is found by.
//!
//! A term is eight bytes of a hash, so an index over terms says nothing of what was said. What nearly every event has in common
//! is not worth an index: it is compared on the events that are read anyway.

use grantd_wire::sign::sha256_of;

const TERM_LEN: usize = 8;

/// Terms of one event: those that are indexed, then the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    terms: Vec<i64>,
    indexed: usize,
}

impl Terms {
    pub(super) fn with_capacity(terms: usize) -> Self {
        Self { terms: Vec::with_capacity(terms), indexed: 0 }
    }

    pub(super) fn push(&mut self, term: i64, is_indexed: bool) {
        self.terms.push(term);
        if is_indexed {
            let last = self.terms.len() - 1;
            self.terms.swap(self.indexed, last);
            self.indexed += 1;
        }
    }

    /// Without this term.
    pub fn remove(&mut self, term: i64) {
        if let Some(i) = self.terms.iter().position(|t| *t == term) {
            self.terms.remove(i);
            if i < self.indexed {
                self.indexed -= 1;
            }
        }
    }

    /// As stored: how many are indexed, in one byte, then all of them, eight bytes each.
    pub fn pack(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(1 + self.terms.len() * TERM_LEN);
        packed.push(u8::try_from(self.indexed).expect("an event has few terms"));
        for term in &self.terms {
            packed.extend_from_slice(&term.to_be_bytes());
        }
        packed
    }

    /// Whether the event has this term, indexed or not.
    pub fn contains(&self, term: i64) -> bool {
        self.terms.contains(&term)
    }

    /// All of them.
    pub fn all(&self) -> &[i64] {
        &self.terms
    }

    /// The ones an index holds.
    pub fn indexed(&self) -> &[i64] {
        &self.terms[..self.indexed]
    }

    /// Reads what [`pack`](Self::pack) wrote. `None`: it is not one of ours.
    pub fn unpack(packed: &[u8]) -> Option<Self> {
        let (indexed, terms) = packed.split_first()?;
        let chunks = terms.chunks_exact(TERM_LEN);
        let whole = chunks.remainder().is_empty();
        let terms: Vec<i64> = chunks.map(|t| i64::from_be_bytes(t.try_into().expect("eight bytes"))).collect();
        let indexed = usize::from(*indexed);
        (whole && indexed <= terms.len()).then_some(Self { terms, indexed })
    }
}

/// The term of a core field: the first eight bytes of SHA-256(`field=value`).
pub fn term(field: &str, value: &str) -> i64 {
    term_of(&[field.as_bytes(), b"=", value.as_bytes()])
}

/// The term of a context value.
pub fn context_term(key: &str, value: &str) -> i64 {
    term_of(&[b"context.", key.as_bytes(), b"=", value.as_bytes()])
}

fn term_of(parts: &[&[u8]]) -> i64 {
    i64::from_be_bytes(sha256_of(parts)[..TERM_LEN].try_into().expect("a hash has eight bytes"))
}

/// Whether an index finds events by this field and value.
pub fn is_indexed(field: &str, value: &str) -> bool {
    match field {
        "kind" => !matches!(value, "token.released" | "call.claimed"),
        "outcome" => value != "allowed",
        // Asked for only together with its grant and key; counted by the hour.
        "token_generation" | "code" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_terms_are_read_back() {
        let mut terms = Terms::default();
        for (term, is_indexed) in [(1, false), (2, true), (3, false), (-4, true)] {
            terms.push(term, is_indexed);
        }
        assert_eq!(terms.indexed(), [2, -4]);
        assert_eq!(Terms::unpack(&terms.pack()), Some(terms.clone()));
        terms.remove(2);
        terms.remove(3);
        assert_eq!(terms.indexed(), [-4]);
        assert!(terms.contains(1) && !terms.contains(3));
        assert_eq!(Terms::unpack(&Terms::default().pack()), Some(Terms::default()));
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        for bad in [&[][..], &[1], &[0, 1, 2], &[2, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(Terms::unpack(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_term_is_the_hash_of_field_and_value() {
        let hash = grantd_wire::sign::sha256(b"kind=token.released");
        assert_eq!(term("kind", "token.released").to_be_bytes(), hash[..8]);
        assert_eq!(context_term("user_id", "u"), term("context.user_id", "u"));
    }
}
