//! What devices write: CBOR (RFC 8949), read within bounds.
//!
//! Invariant: nothing nests deeper than `DEPTH_MAX`, whatever was sent. How long it is, the caller bounds before.

use std::convert::Infallible;

pub(super) use cbor4ii::core::Value;
use cbor4ii::core::dec::{Decode as _, Read, Reference};

/// Lists and maps inside of one another: as many as CTAP lets a device write.
pub(super) const DEPTH_MAX: usize = 4;
/// The decoder steps twice into each of them, and once into what stands in the innermost.
const STEPS_MAX: usize = 2 * DEPTH_MAX + 1;

struct Bounded<'d> {
    rest: &'d [u8],
    steps: usize,
}

impl<'d> Read<'d> for Bounded<'d> {
    type Error = Infallible;

    fn fill<'s>(&'s mut self, want: usize) -> Result<Reference<'d, 's>, Infallible> {
        Ok(Reference::Long(&self.rest[..want.min(self.rest.len())]))
    }

    fn advance(&mut self, n: usize) {
        self.rest = &self.rest[n.min(self.rest.len())..];
    }

    fn step_in(&mut self) -> bool {
        let is_left = self.steps > 0;
        self.steps -= usize::from(is_left);
        is_left
    }

    fn step_out(&mut self) {
        self.steps += 1;
    }
}

/// The value that the data begins with, and what stands behind it.
pub(super) fn read(data: &[u8]) -> Option<(Value, &[u8])> {
    let mut reader = Bounded { rest: data, steps: STEPS_MAX };
    let value = Value::decode(&mut reader).ok()?;
    Some((value, reader.rest))
}

/// The value that the data is.
pub(super) fn read_whole(data: &[u8]) -> Option<Value> {
    read(data).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// What stands under this key of a map.
fn entry(map: &Value, is_key: impl Fn(&Value) -> bool) -> Option<&Value> {
    let Value::Map(entries) = map else { return None };
    entries.iter().find(|(key, _)| is_key(key)).map(|(_, value)| value)
}

/// What stands under a key that is a text.
pub(super) fn named<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    entry(map, |key| matches!(key, Value::Text(text) if text == name))
}

/// What stands under a key that is a number.
pub(super) fn numbered(map: &Value, number: i128) -> Option<&Value> {
    entry(map, |key| *key == Value::Integer(number))
}

/// The bytes, if that is what it is.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

/// The number, if that is what it is.
pub(super) fn number(value: &Value) -> Option<i128> {
    if let Value::Integer(number) = value { Some(*number) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_nests_too_deep_and_no_length_is_believed() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();
        assert!(read_whole(&nested(DEPTH_MAX)).is_some());
        assert!(read_whole(&nested(DEPTH_MAX + 1)).is_none());
        // In maps, and behind tags.
        let maps = |depth: usize| [[0xa1, 0x00].repeat(depth), vec![0x00]].concat();
        assert!(read_whole(&maps(DEPTH_MAX)).is_some() && read_whole(&maps(DEPTH_MAX + 1)).is_none());
        assert!(read_whole(&[vec![0xc1; 10_000], vec![0x00]].concat()).is_none());
        assert!(read_whole(&vec![0x81; 10_000]).is_none() && read_whole(&vec![0x9f; 10_000]).is_none());
        // Bytes, a text, a list and a map that are said to be longer than anything.
        for head in [0x5b, 0x7b, 0x9b, 0xbb] {
            assert!(read_whole(&[vec![head], vec![0xff; 8]].concat()).is_none());
            assert!(read_whole(&[vec![head], vec![0x7f; 8], vec![0x00; 32]].concat()).is_none());
        }
        assert!(read_whole(b"").is_none() && read_whole(&[0x00, 0x00]).is_none());
        assert_eq!(read(&[0x00, 0x07]), Some((Value::Integer(0), &[0x07][..])));
    }
}
