//! Where time and randomness come from.

use grantd_wire::TimeMs;
use grantd_wire::ids::uuid_v7;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, by the host's clock.
    fn now(&self) -> TimeMs;

    /// Now, and the 4,096th part of the millisecond (0 to 4,095) where the clock tells one.
    fn now_fine(&self) -> (TimeMs, Option<u16>) {
        (self.now(), None)
    }
}

/// Makes unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` from a cryptographic source.
    fn fill(&self, bytes: &mut [u8]);
}

/// Both, as one argument.
pub trait Env: Clock + Entropy {}

impl<T: Clock + Entropy> Env for T {}

/// `N` random bytes.
pub fn random<const N: usize>(entropy: &(impl Entropy + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// A new UUID v7 of this moment. Of two that one process makes one after the other the later sorts behind also within a
/// millisecond, if the clock is fine enough (RFC 9562 6.2, method 3): lists by id show events as they happened.
pub fn new_uuid(env: &(impl Clock + Entropy + ?Sized)) -> uuid::Uuid {
    let (now, part) = env.now_fine();
    let mut bytes = random::<10>(env);
    if let Some(part) = part {
        bytes[..2].copy_from_slice(&part.to_be_bytes());
    }
    uuid_v7(now.0, bytes)
}

/// A new token: `prefix` and 43 base64url characters (256 bits).
pub fn new_token(entropy: &(impl Entropy + ?Sized), prefix: &str) -> crate::secret::Secret {
    use base64::Engine as _;
    let bytes = zeroize::Zeroizing::new(random::<32>(entropy));
    let mut text = prefix.to_owned();
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
    crate::secret::Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands in one millisecond, with the part given.
    struct Fine(Option<u16>);

    impl Clock for Fine {
        fn now(&self) -> TimeMs {
            TimeMs(1_700_000_000_000)
        }

        fn now_fine(&self) -> (TimeMs, Option<u16>) {
            (self.now(), self.0)
        }
    }

    impl Entropy for Fine {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    #[test]
    fn ids_of_one_millisecond_sort_by_its_parts() {
        let ids = [0, 1, 2_047, 4_095].map(|part| new_uuid(&Fine(Some(part))));
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(ids[1].to_string(), "018bcfe5-6800-7001-bfff-ffffffffffff");
        assert_eq!(new_uuid(&Fine(None)).to_string(), "018bcfe5-6800-7fff-bfff-ffffffffffff");
    }
}
