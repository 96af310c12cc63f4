//! A value that must not be seen.
//!
//! Invariant: a `Secret` has no `Display`, no `Serialize`, no `Clone`; `Debug` prints `Secret(..)`; its memory is wiped when
//! it is dropped. `reveal` is called only where a secret is sealed, injected, hashed or shown once to its owner.

use std::fmt;

use zeroize::Zeroizing;

/// Text that is wiped on drop and prints as nothing.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. Every caller is a place a secret can leave by.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_it() {
        assert_eq!(format!("{:?}", Some(Secret::new("canary".to_owned()))), "Some(Secret(..))");
    }
}
