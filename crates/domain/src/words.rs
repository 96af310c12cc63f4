//! Words around numbers.

use std::fmt::Display;

/// How many there are, as people say it: `1 key`, `2 keys`.
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(count: N, one: &str, other: &str) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { other })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_everything_else_is_many() {
        assert_eq!([0i64, 1, 2].map(|n| counted(n, "key", "keys")), ["0 keys", "1 key", "2 keys"]);
        assert_eq!(counted(1usize, "grant is", "grants are"), "1 grant is");
    }
}
