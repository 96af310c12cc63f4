//! Keys that an identity provider publishes (RFC 7517), as far as they can prove a token: what else stands in a set is passed over.
//!
//! Never: a symmetric key, a private one, or one that is for encryption.

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};
use serde::Deserialize;
use serde_json::Value;

use super::Algorithm;

/// Bytes of an RSA modulus: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of an RSA exponent.
const EXPONENT_BYTES_MAX: usize = 8;

/// One key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jwk {
    /// What tokens name it by: an opaque text that is compared, and never looked up anywhere else.
    pub id: Option<String>,
    /// The one algorithm it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point, uncompressed.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a document is no set of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("is larger than {} KiB", JWKS_BYTES_MAX / 1024)]
    TooLarge,
    #[error("is no JSON object with a list of `keys`")]
    NoSet,
    #[error("has more than {JWKS_KEYS_MAX} keys")]
    TooMany,
    #[error("has no key that can prove a signature: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519")]
    Empty,
}

/// The usable keys of a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySet(Vec<Jwk>);

impl KeySet {
    /// Reads a document.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if json.len() > JWKS_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| KeySetError::NoSet)?;
        if set.keys.len() > JWKS_KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Jwk> = set.keys.iter().filter_map(Jwk::read).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a set without keys is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a token could be signed with one of them by this algorithm.
    pub fn has_for(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|key| key.fits(algorithm))
    }

    /// Keys that a token can be signed with. One that names no key can only mean the only one there is.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>, algorithm: Algorithm) -> Vec<&'a Jwk> {
        let fits = |key: &&Jwk| key.fits(algorithm) && (id.is_none() || key.id.as_deref() == id);
        let found: Vec<&Jwk> = self.0.iter().filter(fits).collect();
        if id.is_none() && found.len() > 1 { Vec::new() } else { found }
    }

    /// Whether a token of this key can be proved or refuted with this set; else a newer one may have it.
    pub fn has(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        !self.candidates(id, algorithm).is_empty()
    }
}

impl Jwk {
    /// `None`: it cannot prove a token.
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let is_private = ["d", "k", "p", "q"].iter().any(|name| value.get(name).is_some());
        let verifies = match value.get("key_ops") {
            None => true,
            Some(ops) => ops.as_array()?.iter().any(|op| op == "verify"),
        };
        if is_private || !verifies || text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let point = |len: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == len && y.len() == len).then(|| [&[4], &x[..], &y[..]].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let trimmed = |name| bytes(name).map(|b| b.into_iter().skip_while(|b| *b == 0).collect::<Vec<_>>());
                let (modulus, exponent) = (trimmed("n")?, trimmed("e")?);
                let is_bounded = MODULUS_BYTES.contains(&modulus.len());
                let is_key = is_bounded && (1..=EXPONENT_BYTES_MAX).contains(&exponent.len());
                is_key.then_some(Material::Rsa { modulus, exponent })?
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(text) => Some(Algorithm::parse(text)?),
        };
        let key = Self { id: text("kid").map(str::to_owned), algorithm, material };
        algorithm.is_none_or(|algorithm| key.fits(algorithm)).then_some(key)
    }

    /// Whether it is one for this algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let is_kind = match self.material {
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(_) => algorithm == Es256,
            Material::P384(_) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        };
        is_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is of the message.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let plain = |by: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(by, key).verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Rsa { modulus, exponent } => rsa(algorithm).is_some_and(|parameters| {
                let key = RsaPublicKeyComponents { n: &modulus[..], e: &exponent[..] };
                key.verify(parameters, message, signature).is_ok()
            }),
            Material::P256(point) => algorithm == Algorithm::Es256 && plain(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => algorithm == Algorithm::Es384 && plain(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(key) => algorithm == Algorithm::EdDsa && plain(&signature::ED25519, key),
        }
    }
}

const fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => None,
    }
}
