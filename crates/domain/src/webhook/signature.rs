//! Signed webhooks, as Standard Webhooks (and Svix before it) sign them: `{id}.{timestamp}.{body}`, HMAC with SHA-256.
//!
//! Invariant: nothing of a message is looked into before a signature over all of it holds, and its time is near.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grantd_wire::{TimeMs, limits};
use zeroize::Zeroizing;

use super::Message;

/// How a secret begins.
pub const SECRET_START: &str = "whsec_";
/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Signatures of one message: of the secret in use, and of those before it.
const SIGNATURES_MAX: usize = 10;

/// The key that a secret holds.
pub struct Key(hmac::Key);

impl Key {
    /// Of a secret as the vendor shows it; `None`: it is none.
    pub fn parse(secret: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(secret.strip_prefix(SECRET_START)?).ok()?);
        SECRET_BYTES.contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    #[cfg(test)]
    pub fn sign(&self, text: &[u8]) -> String {
        BASE64_STANDARD.encode(hmac::sign(&self.0, text))
    }
}

/// The headers of a signed message.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    pub id: &'a str,
    /// Seconds.
    pub timestamp: &'a str,
    /// `v1,` and the signature in base64; several with spaces between.
    pub signature: &'a str,
}

/// Why a message is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsigned {
    #[error("The message's id, timestamp or signature is missing, or is none.")]
    Form,
    #[error("The message is older or newer than five minutes. Look at this server's clock.")]
    Time,
    #[error(
        "No signature of the message holds. Give grantd the secret that the vendor shows: `grantd idp webhook rotate`."
    )]
    Signature,
}

impl Unsigned {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Time => "time",
            Self::Signature => "signature",
        }
    }
}

/// Proves a message.
pub fn verify<'a>(key: &Key, headers: &Headers<'a>, body: &[u8], now: TimeMs) -> Result<Message<'a>, Unsigned> {
    let Headers { id, timestamp, signature } = *headers;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if id.is_empty() || id.len() > limits::SUBJECT_CHARS_MAX || !is_plain(id) {
        return Err(Unsigned::Form);
    }
    if timestamp.is_empty() || timestamp.len() > 12 || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unsigned::Form);
    }
    let seconds: i64 = timestamp.parse().map_err(|_| Unsigned::Form)?;
    let at = TimeMs(seconds * 1000);
    let mut text = Zeroizing::new(Vec::with_capacity(id.len() + timestamp.len() + body.len() + 2));
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        text.extend_from_slice(part);
    }
    let signatures = signature.split(' ').filter_map(|each| each.strip_prefix("v1,")).take(SIGNATURES_MAX);
    let mut signatures = signatures.filter_map(|each| BASE64_STANDARD.decode(each).ok());
    if !signatures.any(|signature| hmac::verify(&key.0, &text, &signature).is_ok()) {
        return Err(Unsigned::Signature);
    }
    match now.since(at).abs() <= limits::WEBHOOK_WINDOW_MS {
        true => Ok(Message { id, at }),
        false => Err(Unsigned::Time),
    }
}
