//! The key that signs ID tokens: RS256, which every client of OpenID Connect understands.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::sign::sha256;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::boot::write_over;

/// Bytes of the modulus.
const MODULUS_BYTES: usize = 256;
/// What is before and after the modulus in the DER of every public key of this size with the usual exponent, 65537.
const DER_BEFORE: [u8; 9] = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
const DER_AFTER: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];

/// A key with its name.
pub struct SigningKey {
    pair: RsaKeyPair,
    /// Base64url of the public modulus.
    modulus: String,
    id: String,
}

impl SigningKey {
    /// The key in the file, or a new one that is put there.
    pub fn load(file: &Path) -> Result<Self> {
        let kept = match std::fs::read(file) {
            Ok(bytes) => RsaKeyPair::from_pkcs8(&Zeroizing::new(bytes)).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(key) = kept.and_then(Self::of) {
            return Ok(key);
        }
        let failed = |_| Error::other("no key could be made");
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        write_over(file, der.as_ref())?;
        Self::of(pair).ok_or_else(|| Error::other("the new key has a form of its own"))
    }

    fn of(pair: RsaKeyPair) -> Option<Self> {
        let modulus = pair.public_key().as_ref().strip_prefix(&DER_BEFORE)?.strip_suffix(&DER_AFTER)?;
        if modulus.len() != MODULUS_BYTES {
            return None;
        }
        let modulus = BASE64_URL_SAFE_NO_PAD.encode(modulus);
        // RFC 7638: members in the order of their names, without blanks.
        let thumbprint = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{modulus}"}}"#);
        let id = BASE64_URL_SAFE_NO_PAD.encode(sha256(thumbprint.as_bytes()));
        Some(Self { pair, modulus, id })
    }

    /// Its public part, as in a JWK set.
    pub fn public(&self) -> Value {
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "e": "AQAB", "n": self.modulus})
    }

    /// A signed JWT.
    pub fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let text = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("a key that was accepted signs");
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_public_part_verifies_what_is_signed_and_the_key_is_found_again() {
        let scratch = Scratch::new();
        let file = scratch.0.join("key");
        let key = SigningKey::load(&file).unwrap();
        let jwt = key.sign(&json!({"sub": "x"}));
        let (text, signature) = jwt.rsplit_once('.').unwrap();
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let public = key.public();
        let part = |name: &str| bytes(public[name].as_str().unwrap());
        let components = RsaPublicKeyComponents { n: part("n"), e: part("e") };
        let verify =
            |text: &str| components.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &bytes(signature)).is_ok();
        assert!(verify(text) && !verify("x"));
        assert_eq!(SigningKey::load(&file).unwrap().public(), public);
        std::fs::write(&file, "no key").unwrap();
        assert_ne!(SigningKey::load(&file).unwrap().public(), public);
    }
}
