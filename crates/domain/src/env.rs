//! Where time and randomness come from.

use grantd_wire::TimeMs;
use grantd_wire::ids::uuid_v7;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, by the host's clock.
    fn now(&self) -> TimeMs;
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

/// A new UUID v7 of this moment.
pub fn new_uuid(env: &(impl Clock + Entropy + ?Sized)) -> uuid::Uuid {
    uuid_v7(env.now().0, random(env))
}

/// A new token: `prefix` and 43 base64url characters (256 bits).
pub fn new_token(entropy: &(impl Entropy + ?Sized), prefix: &str) -> crate::secret::Secret {
    use base64::Engine as _;
    let bytes = zeroize::Zeroizing::new(random::<32>(entropy));
    let mut text = prefix.to_owned();
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
    crate::secret::Secret::new(text)
}
