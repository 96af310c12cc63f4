//! Passkeys (WebAuthn Level 3): what a browser says of a key that a device made, and of a challenge that it signed.
//!
//! Invariants: what counts was signed for this very challenge, on a page of this origin, for this host, by a device that has seen that
//! it is its owner; a counter that does not go on is a key that was copied; nothing that was sent is longer or nests deeper than the
//! limits. Which make a device is of is not asked, so it is not known. Whether a key is backed up is not kept: nothing here depends on
//! it, and only what contradicts itself is refused.

mod cbor;
mod key;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::limits;
use grantd_wire::sign::sha256;
use serde::Deserialize;
use serde::de::IgnoredAny;

use cbor::Value;
pub use key::Algorithm;

/// What both are expected to be of.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub challenge: &'a [u8],
    /// Where pages of ours are: `https://vault.example.com`.
    pub origin: &'a str,
    /// Their host.
    pub host: &'a str,
}

/// A key that a device made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// What the device knows it by.
    pub id: Vec<u8>,
    /// As the device wrote it: a `COSE_Key`.
    pub public_key: Vec<u8>,
    /// How often the device says it has signed. Many do not count, and say 0.
    pub counter: u32,
}

/// Why it does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    #[error("the browser's answer is malformed")]
    Malformed,
    #[error("it answers another question than the one that was asked")]
    Challenge,
    #[error("it was made on a page of another address than public_url, or inside of one")]
    Origin,
    #[error("the device did not check that it is you")]
    Unverified,
    #[error("its key is none of ES256, EdDSA and RS256, or broken")]
    Key,
    #[error("it says which make the device is of in a way that was not asked for, or that is wrong")]
    Attestation,
    #[error("it is not signed with this passkey")]
    Signature,
    #[error("the device has counted less than it had before: the passkey was copied")]
    Counter,
}

/// The key that was made for `expected` (section 7.1).
pub fn made(expected: Expected<'_>, client_data: &[u8], attestation: &[u8]) -> Result<Made, Wrong> {
    check_client(expected, client_data, "webauthn.create")?;
    check_length(attestation)?;
    let object = cbor::read_whole(attestation).ok_or(Wrong::Malformed)?;
    let written = cbor::named(&object, "authData").and_then(cbor::bytes).ok_or(Wrong::Malformed)?;
    let device = DeviceData::read(written)?;
    device.check(expected)?;
    let Attested { id, key, parsed_key } = device.attested.ok_or(Wrong::Malformed)?;
    let (algorithm, parsed) = key::parse(&parsed_key)?;
    check_attestation(&object, &signed_message(written, client_data), (algorithm, &parsed))?;
    Ok(Made { id: id.to_vec(), public_key: key.to_vec(), counter: device.counter })
}

/// The counter of the device that signed `expected` with this passkey (section 7.2).
pub fn signed(
    expected: Expected<'_>,
    client_data: &[u8],
    device_data: &[u8],
    signature: &[u8],
    passkey: &Made,
) -> Result<u32, Wrong> {
    check_client(expected, client_data, "webauthn.get")?;
    check_length(device_data)?;
    check_length(signature)?;
    let device = DeviceData::read(device_data)?;
    device.check(expected)?;
    let key = cbor::read_whole(&passkey.public_key).ok_or(Wrong::Key)?;
    let (_, key) = key::parse(&key)?;
    verify(&key, &signed_message(device_data, client_data), signature)?;
    // A device that does not count says 0, always.
    if (device.counter, passkey.counter) != (0, 0) && device.counter <= passkey.counter {
        return Err(Wrong::Counter);
    }
    Ok(device.counter)
}

fn verify(key: &ParsedPublicKey, message: &[u8], signature: &[u8]) -> Result<(), Wrong> {
    key.verify_sig(message, signature).map_err(|_| Wrong::Signature)
}

/// What a device signs.
fn signed_message(device_data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [device_data, &sha256(client_data)].concat()
}

fn check_length(sent: &[u8]) -> Result<(), Wrong> {
    if sent.len() <= limits::PASSKEY_DATA_BYTES_MAX { Ok(()) } else { Err(Wrong::Malformed) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    r#type: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    /// The page that ours is inside of.
    top_origin: Option<IgnoredAny>,
}

fn check_client(expected: Expected<'_>, client_data: &[u8], kind: &str) -> Result<(), Wrong> {
    check_length(client_data)?;
    let said: ClientData = serde_json::from_slice(client_data).map_err(|_| Wrong::Malformed)?;
    if said.r#type != kind {
        return Err(Wrong::Malformed);
    }
    let challenge = BASE64_URL_SAFE_NO_PAD.decode(&said.challenge).map_err(|_| Wrong::Malformed)?;
    if challenge.is_empty() || challenge != expected.challenge {
        return Err(Wrong::Challenge);
    }
    if said.origin != expected.origin || said.cross_origin || said.top_origin.is_some() {
        return Err(Wrong::Origin);
    }
    Ok(())
}

/// Somebody was there.
const PRESENT: u8 = 0x01;
/// The device has seen that they are its owner: by a finger, a face or a PIN.
const VERIFIED: u8 = 0x04;
/// The key may be backed up, and is.
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
/// A key stands behind, and what extensions say.
const ATTESTED: u8 = 0x40;
const EXTENDED: u8 = 0x80;

/// What a device says (section 6.1).
struct DeviceData<'d> {
    host_hash: &'d [u8],
    flags: u8,
    counter: u32,
    attested: Option<Attested<'d>>,
}

/// A key that it has made.
struct Attested<'d> {
    id: &'d [u8],
    key: &'d [u8],
    parsed_key: Value,
}

impl<'d> DeviceData<'d> {
    /// All of it, and nothing behind.
    fn read(data: &'d [u8]) -> Result<Self, Wrong> {
        Self::read_parts(data).ok_or(Wrong::Malformed)
    }

    fn read_parts(data: &'d [u8]) -> Option<Self> {
        let (host_hash, rest) = data.split_at_checked(32)?;
        let (&flags, rest) = rest.split_first()?;
        let (counter, mut rest) = rest.split_first_chunk()?;
        let mut attested = None;
        if flags & ATTESTED != 0 {
            let (found, behind) = Attested::read(rest)?;
            (attested, rest) = (Some(found), behind);
        }
        // None are asked for. Devices say some all the same, and may.
        if flags & EXTENDED != 0 {
            let (extensions, behind) = cbor::read(rest)?;
            if !matches!(extensions, Value::Map(_)) {
                return None;
            }
            rest = behind;
        }
        rest.is_empty().then_some(Self { host_hash, flags, counter: u32::from_be_bytes(*counter), attested })
    }

    fn check(&self, expected: Expected<'_>) -> Result<(), Wrong> {
        if self.host_hash != sha256(expected.host.as_bytes()) {
            return Err(Wrong::Origin);
        }
        let has = |flags: u8| self.flags & flags == flags;
        if has(BACKED_UP) && !has(BACKUP_ELIGIBLE) {
            return Err(Wrong::Malformed);
        }
        if has(PRESENT | VERIFIED) { Ok(()) } else { Err(Wrong::Unverified) }
    }
}

impl<'d> Attested<'d> {
    fn read(data: &'d [u8]) -> Option<(Self, &'d [u8])> {
        // 16 bytes that say which make it is, then the length of the id.
        let (_, rest) = data.split_at_checked(16)?;
        let (len, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let (parsed_key, behind) = cbor::read(rest)?;
        let key = &rest[..rest.len() - behind.len()];
        let fits = (1..=limits::PASSKEY_ID_BYTES_MAX).contains(&id.len()) && key.len() <= limits::PASSKEY_KEY_BYTES_MAX;
        fits.then_some((Self { id, key, parsed_key }, behind))
    }
}

/// Takes what a browser leaves of an attestation that was not asked for: nothing, or the new key's own signature, which must be right.
fn check_attestation(
    object: &Value,
    message: &[u8],
    (algorithm, key): (Algorithm, &ParsedPublicKey),
) -> Result<(), Wrong> {
    let (Some(Value::Text(format)), Some(Value::Map(statement))) =
        (cbor::named(object, "fmt"), cbor::named(object, "attStmt"))
    else {
        return Err(Wrong::Malformed);
    };
    let said = |name| cbor::named(object, "attStmt").and_then(|statement| cbor::named(statement, name));
    match format.as_str() {
        "none" if statement.is_empty() => Ok(()),
        // With a third entry, certificates, another key would have signed it.
        "packed" if statement.len() == 2 => {
            let (number, signature) = (said("alg").and_then(cbor::number), said("sig").and_then(cbor::bytes));
            let signature = signature.filter(|_| number == Some(i128::from(algorithm.number())));
            verify(key, message, signature.ok_or(Wrong::Attestation)?).map_err(|_| Wrong::Attestation)
        }
        _ => Err(Wrong::Attestation),
    }
}
