//! API key text: `alter_{type}_{22 random}_{6 checksum}` (38 characters), and the older `alter_key_{40}`.
//!
//! The checksum catches typing errors; it proves nothing. Only a keyed hash of the whole text is ever stored.

use std::fmt;

/// Lower-case base32 (RFC 4648 letters), the alphabet of the random and checksum parts.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Length of the random part in characters: 110 bits.
pub const RANDOM_LEN: usize = 22;
/// Length of the checksum part in characters.
const CHECKSUM_LEN: usize = 6;
/// Characters of a key that are stored and shown: `alter_rk_` and four more.
pub const PREFIX_LEN: usize = 13;

/// What kind of caller a key stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyType {
    /// `rk`: an application's runtime key.
    Runtime,
    /// `ak`: bound to one agent.
    Agent,
    /// `dk`: derived from another key, narrower and short-lived.
    Derived,
    /// `pk`: reserved; never minted.
    Publishable,
}

impl KeyType {
    /// The two letters in the key text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "rk",
            Self::Agent => "ak",
            Self::Derived => "dk",
            Self::Publishable => "pk",
        }
    }

    /// The type of those two letters.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Runtime, Self::Agent, Self::Derived, Self::Publishable].into_iter().find(|t| t.as_str() == text)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes a new key of `key_type` from `random` bytes (five bits of each are used).
pub fn mint(key_type: KeyType, random: [u8; RANDOM_LEN]) -> String {
    let random: String = random.iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect();
    let checksum = checksum(key_type.as_str(), &random);
    format!("alter_{key_type}_{random}_{checksum}")
}

/// The type of a well-formed key, `None` for the older form.
///
/// `Err` when the text is no key at all: wrong shape, alphabet or checksum.
pub fn check(text: &str) -> Result<Option<KeyType>, NotAKey> {
    let rest = text.strip_prefix("alter_").ok_or(NotAKey)?;
    if let Some(old) = rest.strip_prefix("key_") {
        let good = old.len() == 40 && old.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        return if good { Ok(None) } else { Err(NotAKey) };
    }
    let mut parts = rest.split('_');
    let (Some(key_type), Some(random), Some(sum), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(NotAKey);
    };
    let key_type = KeyType::parse(key_type).ok_or(NotAKey)?;
    let in_alphabet = random.len() == RANDOM_LEN && random.bytes().all(|b| ALPHABET.contains(&b));
    if in_alphabet && sum == checksum(key_type.as_str(), random) { Ok(Some(key_type)) } else { Err(NotAKey) }
}

/// The text is not an API key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: its form or checksum is wrong")]
pub struct NotAKey;

/// CRC-32 over `type:random`, five bits a character, least significant first; the top two bits are dropped.
fn checksum(key_type: &str, random: &str) -> String {
    let crc = crc32fast::hash(format!("{key_type}:{random}").as_bytes());
    (0..CHECKSUM_LEN).map(|i| char::from(ALPHABET[(crc >> (5 * i) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_key_is_minted_and_accepted() {
        let key = mint(KeyType::Runtime, [0; RANDOM_LEN]);
        assert_eq!(key, "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl");
        assert_eq!(key.len(), 38);
        assert_eq!(check(&key), Ok(Some(KeyType::Runtime)));
    }

    #[test]
    fn core_11_every_type_and_the_older_form_pass() {
        for t in [KeyType::Runtime, KeyType::Agent, KeyType::Derived, KeyType::Publishable] {
            assert_eq!(check(&mint(t, [7; RANDOM_LEN])), Ok(Some(t)));
        }
        assert_eq!(check(&format!("alter_key_{}", "aZ9-_".repeat(8))), Ok(None));
    }

    #[test]
    fn core_10_one_wrong_character_is_refused() {
        let key = mint(KeyType::Runtime, [3; RANDOM_LEN]);
        for i in 0..key.len() {
            let mut bytes = key.clone().into_bytes();
            bytes[i] = if bytes[i] == b'b' { b'c' } else { b'b' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(check(&changed), Err(NotAKey), "{changed}");
        }
        for bad in ["", "alter_", "alter_rk_a_b", "alter_key_short", "alter_xx_aaaaaaaaaaaaaaaaaaaaaa_l77ykl"] {
            assert_eq!(check(bad), Err(NotAKey), "{bad}");
        }
    }
}
