//! The public key of a passkey, as the device writes it: a `COSE_Key` (RFC 9052, section 7).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};

use super::Wrong;
use super::cbor::{self, Value};

/// How a passkey signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Es256,
    EdDsa,
    Rs256,
}

impl Algorithm {
    /// Those that are asked for, the best first.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// Its number at IANA.
    pub const fn number(self) -> i16 {
        match self {
            Self::Es256 => -7,
            Self::EdDsa => -8,
            Self::Rs256 => -257,
        }
    }
}

// Labels of a `COSE_Key`; what the negative ones mean depends on its type.
const TYPE: i128 = 1;
const ALGORITHM: i128 = 3;
const CURVE: i128 = -1;
const X: i128 = -2;
const Y: i128 = -3;
const MODULUS: i128 = -1;
const EXPONENT: i128 = -2;

const TYPE_OKP: i128 = 1;
const TYPE_EC2: i128 = 2;
const TYPE_RSA: i128 = 3;
const CURVE_P256: i128 = 1;
const CURVE_ED25519: i128 = 6;

/// Bytes of a coordinate of either curve.
const COORDINATE_BYTES: usize = 32;
/// Bytes of a modulus of 2,048 and of 8,192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// The key, if it is whole and of an algorithm that was asked for.
pub(super) fn parse(key: &Value) -> Result<(Algorithm, ParsedPublicKey), Wrong> {
    read(key).ok_or(Wrong::Key)
}

fn read(key: &Value) -> Option<(Algorithm, ParsedPublicKey)> {
    let number = |label| cbor::numbered(key, label).and_then(cbor::number);
    let bytes = |label| cbor::numbered(key, label).and_then(cbor::bytes);
    let coordinate = |label| bytes(label).filter(|bytes| bytes.len() == COORDINATE_BYTES);
    let said = number(ALGORITHM)?;
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| i128::from(algorithm.number()) == said)?;
    let parsed = match (algorithm, number(TYPE)?) {
        (Algorithm::Es256, TYPE_EC2) if number(CURVE)? == CURVE_P256 => {
            // Not compressed. That the point is on the curve is looked at there.
            let point = [&[0x04], coordinate(X)?, coordinate(Y)?].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).ok()?
        }
        (Algorithm::EdDsa, TYPE_OKP) if number(CURVE)? == CURVE_ED25519 => {
            ParsedPublicKey::new(&ED25519, coordinate(X)?).ok()?
        }
        (Algorithm::Rs256, TYPE_RSA) => {
            let n = bytes(MODULUS).filter(|n| MODULUS_BYTES.contains(&n.len()))?;
            // A key that begins with fewer bits than that is refused when it verifies: here it would be one that never signs in.
            if n.len() == *MODULUS_BYTES.start() && n[0] < 0x80 {
                return None;
            }
            let components = RsaPublicKeyComponents { n, e: bytes(EXPONENT)? };
            components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?
        }
        _ => return None,
    };
    Some((algorithm, parsed))
}
