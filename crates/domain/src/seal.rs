//! Sealing: AES-256-GCM with the place of the value bound in.
//!
//! A sealed value is `0x01 | key id (16) | nonce (12) | ciphertext | tag (16)`. Its associated data names table, app, row,
//! field and the row's version, so that a value moved to another row, swapped between fields or put back after a rotation
//! does not open. Data keys are wrapped under the root key in the same format.
//!
//! Invariant: there is no other cipher and no way to store a credential unsealed.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use grantd_wire::ids::{AppId, DataKeyId};
use grantd_wire::sign::{hex, sha256};
use zeroize::Zeroizing;

use crate::env::{Entropy, random};
use crate::secret::Secret;

const FORMAT: u8 = 1;
const HEAD_LEN: usize = 1 + 16 + 12;
const TAG_LEN: usize = 16;
/// A shorter value cannot be one of ours.
pub const SEALED_LEN_MIN: usize = HEAD_LEN + TAG_LEN;
/// Values one data key may seal: 2^31.
pub const SEALS_MAX: i64 = 1 << 31;
/// Seals are reserved in blocks, so that a crash loses numbers and never repeats them.
pub const SEALS_BLOCK: i64 = 1 << 16;
/// A data key seals for this long; it opens for ever.
pub const DATA_KEY_LIFE_MS: i64 = 90 * 86_400_000;

/// Why a value did not open. Says nothing about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the sealed value is too short or of an unknown format")]
    Format,
    #[error("the sealed value names another key")]
    OtherKey,
    #[error("the sealed value does not open here: it was changed, moved, or sealed under another key")]
    Opening,
}

/// Where a value lives. Bound into the seal.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub table: &'a str,
    /// `None` for values of the install.
    pub app: Option<AppId>,
    pub row: [u8; 16],
    pub field: &'a str,
    /// The row's version when the value was sealed.
    pub version: i64,
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut data = b"grantd.seal.1".to_vec();
        let app = self.app.map_or([0; 16], |app| *app.as_bytes());
        for part in [self.table.as_bytes(), &app, &self.row, self.field.as_bytes()] {
            let len = u32::try_from(part.len()).expect("names are short");
            data.extend_from_slice(&len.to_be_bytes());
            data.extend_from_slice(part);
        }
        data.extend_from_slice(&self.version.to_be_bytes());
        data
    }
}

struct Cipher(LessSafeKey);

impl Cipher {
    fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key is 32 bytes")))
    }

    fn seal(&self, id: [u8; 16], place: Place<'_>, plain: &[u8], nonce: [u8; 12]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(SEALED_LEN_MIN + plain.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&id);
        sealed.extend_from_slice(&nonce);
        // Encrypted in place, so that no second copy of the plain text stays behind.
        sealed.extend_from_slice(plain);
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.associated_data()),
                &mut sealed[HEAD_LEN..],
            )
            .expect("the value is shorter than AES-GCM's bound");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn open(&self, id: [u8; 16], place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if key_id(sealed)? != id {
            return Err(SealError::OtherKey);
        }
        let nonce: [u8; 12] = sealed[17..HEAD_LEN].try_into().expect("length was checked");
        let mut plain = Zeroizing::new(sealed[HEAD_LEN..].to_vec());
        let len = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(place.associated_data()), &mut plain)
            .map_err(|_| SealError::Opening)?
            .len();
        plain.truncate(len);
        Ok(plain)
    }
}

/// The id of the key a value was sealed with.
pub fn key_id(sealed: &[u8]) -> Result<[u8; 16], SealError> {
    if sealed.len() < SEALED_LEN_MIN || sealed[0] != FORMAT {
        return Err(SealError::Format);
    }
    Ok(sealed[1..17].try_into().expect("length was checked"))
}

/// The id of the root key that a check value, or a data key, is sealed with.
pub fn root_key_id(sealed: &[u8]) -> Result<String, SealError> {
    Ok(hex(&key_id(sealed)?[..8]))
}

/// A key of one app (or of the install) that seals values.
pub struct DataKey {
    id: DataKeyId,
    cipher: Cipher,
}

impl DataKey {
    /// The key's id, which every value it sealed carries.
    pub fn id(&self) -> DataKeyId {
        self.id
    }

    /// Seals `plain` for `place`. The caller has reserved this seal.
    pub fn seal(&self, entropy: &dyn Entropy, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.cipher.seal(*self.id.as_bytes(), place, plain, random(entropy))
    }

    /// Opens a value that was sealed for exactly `place`.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.cipher.open(*self.id.as_bytes(), place, sealed)
    }

    /// Opens a text value.
    pub fn open_text(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let plain = self.open(place, sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| SealError::Format)?;
        Ok(Secret::new(text.to_owned()))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

/// A data key as stored: wrapped under a root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    pub id: DataKeyId,
    pub app: Option<AppId>,
    pub wrapped: Vec<u8>,
    pub root_key_id: String,
}

/// The key everything hangs on: 32 bytes that are never stored beside the database's rows.
pub struct RootKey {
    id: String,
    cipher: Cipher,
}

impl RootKey {
    /// Takes 32 bytes of key material.
    pub fn new(material: &[u8; 32]) -> Self {
        let mut named = Zeroizing::new(b"grantd.root.1".to_vec());
        named.extend_from_slice(material);
        Self { id: hex(&sha256(&named)[..8]), cipher: Cipher::new(material) }
    }

    /// Public name of the key: 16 hex characters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What stands in a sealed value's key id: the eight bytes of the id and eight zeros.
    fn id_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&grantd_wire::sign::unhex::<8>(&self.id).expect("made by hex"));
        bytes
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({})", self.id)
    }
}

/// The root key that wraps, and others that may only open.
#[derive(Debug)]
pub struct RootKeys {
    current: RootKey,
    also: Vec<RootKey>,
}

/// A stored key names a root key this process was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no root key with id {0} was given")]
pub struct RootKeyMissing(pub String);

const CHECK_PLAIN: &[u8] = b"grantd root key check";

impl RootKeys {
    /// `current` wraps and opens; `also` may open.
    pub fn new(current: RootKey, also: Vec<RootKey>) -> Self {
        Self { current, also }
    }

    /// The id of the key that wraps.
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    fn find(&self, id: &str) -> Result<&RootKey, RootKeyMissing> {
        std::iter::once(&self.current)
            .chain(&self.also)
            .find(|k| k.id == id)
            .ok_or_else(|| RootKeyMissing(id.to_owned()))
    }

    /// Makes a data key and its wrapped form.
    pub fn new_data_key(&self, entropy: &dyn Entropy, id: DataKeyId, app: Option<AppId>) -> (DataKey, WrappedKey) {
        let material = Zeroizing::new(random::<32>(entropy));
        let place = Self::wrap_place(id, app);
        let wrapped = self.current.cipher.seal(self.current.id_bytes(), place, &*material, random(entropy));
        let key = DataKey { id, cipher: Cipher::new(&material) };
        (key, WrappedKey { id, app, wrapped, root_key_id: self.current.id.clone() })
    }

    /// Opens a stored data key.
    pub fn unwrap(&self, stored: &WrappedKey) -> Result<DataKey, UnwrapError> {
        let root = self.find(&stored.root_key_id)?;
        let plain = root.cipher.open(root.id_bytes(), Self::wrap_place(stored.id, stored.app), &stored.wrapped)?;
        let material: &[u8; 32] = plain.as_slice().try_into().map_err(|_| SealError::Format)?;
        Ok(DataKey { id: stored.id, cipher: Cipher::new(material) })
    }

    /// Whether this process was given the key of that id.
    pub fn holds(&self, id: &str) -> bool {
        self.find(id).is_ok()
    }

    /// Ids of every key, the one that wraps first.
    pub fn ids(&self) -> Vec<String> {
        std::iter::once(&self.current).chain(&self.also).map(|key| key.id.clone()).collect()
    }

    /// The same data key, wrapped under the root key `to`.
    pub fn rewrap(&self, entropy: &dyn Entropy, stored: &WrappedKey, to: &str) -> Result<WrappedKey, UnwrapError> {
        let (from, to) = (self.find(&stored.root_key_id)?, self.find(to)?);
        let place = Self::wrap_place(stored.id, stored.app);
        let plain = from.cipher.open(from.id_bytes(), place, &stored.wrapped)?;
        if plain.len() != 32 {
            return Err(SealError::Format.into());
        }
        let wrapped = to.cipher.seal(to.id_bytes(), place, &plain, random(entropy));
        Ok(WrappedKey { id: stored.id, app: stored.app, wrapped, root_key_id: to.id.clone() })
    }

    /// A check value that the root key `to` opens.
    pub fn make_check_under(&self, entropy: &dyn Entropy, to: &str) -> Result<Vec<u8>, RootKeyMissing> {
        let to = self.find(to)?;
        Ok(to.cipher.seal(to.id_bytes(), Self::check_place(), CHECK_PLAIN, random(entropy)))
    }

    fn wrap_place<'a>(id: DataKeyId, app: Option<AppId>) -> Place<'a> {
        Place { table: "data_keys", app, row: *id.as_bytes(), field: "wrapped", version: 1 }
    }

    /// A value only this root key opens, stored to recognise a wrong one at start.
    pub fn make_check(&self, entropy: &dyn Entropy) -> Vec<u8> {
        self.current.cipher.seal(self.current.id_bytes(), Self::check_place(), CHECK_PLAIN, random(entropy))
    }

    /// Whether one of the keys opens the stored check.
    pub fn opens_check(&self, check: &[u8]) -> bool {
        std::iter::once(&self.current)
            .chain(&self.also)
            .any(|k| k.cipher.open(k.id_bytes(), Self::check_place(), check).is_ok_and(|p| *p == CHECK_PLAIN))
    }

    fn check_place<'a>() -> Place<'a> {
        Place { table: "installs", app: None, row: [0; 16], field: "root_check", version: 1 }
    }
}

/// Why a stored data key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    #[error(transparent)]
    Missing(#[from] RootKeyMissing),
    #[error("the stored data key cannot be unwrapped")]
    Seal(#[from] SealError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantd_wire::ids::uuid_v7;
    use proptest::prelude::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for b in bytes {
                *b = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    fn app(n: u8) -> AppId {
        AppId::from_uuid(uuid_v7(i64::from(n), [n; 10]))
    }

    fn keys() -> (RootKeys, DataKey, WrappedKey, Counting) {
        let entropy = Counting(1.into());
        let root = RootKeys::new(RootKey::new(&[7; 32]), Vec::new());
        let (key, wrapped) = root.new_data_key(&entropy, DataKeyId::from_uuid(uuid_v7(1, [9; 10])), Some(app(1)));
        (root, key, wrapped, entropy)
    }

    fn place<'a>() -> Place<'a> {
        Place { table: "credentials", app: Some(app(1)), row: [5; 16], field: "sealed", version: 3 }
    }

    #[test]
    fn a_value_opens_only_in_its_place() {
        let (root, key, wrapped, entropy) = keys();
        let sealed = key.seal(&entropy, place(), b"canary");
        assert_eq!(*root.unwrap(&wrapped).unwrap().open(place(), &sealed).unwrap(), b"canary");
        let elsewhere = [
            Place { table: "credential", ..place() },
            Place { app: Some(app(2)), ..place() },
            Place { app: None, ..place() },
            Place { row: [6; 16], ..place() },
            Place { field: "sealed2", ..place() },
            Place { version: 4, ..place() },
        ];
        for other in elsewhere {
            assert_eq!(key.open(other, &sealed).unwrap_err(), SealError::Opening, "{other:?}");
        }
    }

    #[test]
    fn short_and_foreign_values_are_refused_without_slicing_past_the_end() {
        let (_, key, _, entropy) = keys();
        let sealed = key.seal(&entropy, place(), b"");
        assert_eq!(sealed.len(), SEALED_LEN_MIN);
        assert!(key.open(place(), &sealed).is_ok());
        for len in 0..SEALED_LEN_MIN {
            assert_eq!(key.open(place(), &sealed[..len]).unwrap_err(), SealError::Format);
        }
        let mut other_key = sealed.clone();
        other_key[1] ^= 1;
        assert_eq!(key.open(place(), &other_key).unwrap_err(), SealError::OtherKey);
    }

    #[test]
    fn a_wrong_root_key_is_recognised() {
        let (root, _, wrapped, entropy) = keys();
        let check = root.make_check(&entropy);
        assert!(root.opens_check(&check));
        let wrong = RootKeys::new(RootKey::new(&[8; 32]), Vec::new());
        assert!(!wrong.opens_check(&check));
        assert!(matches!(wrong.unwrap(&wrapped), Err(UnwrapError::Missing(_))));
        let rotating = RootKeys::new(RootKey::new(&[8; 32]), vec![RootKey::new(&[7; 32])]);
        assert!(rotating.opens_check(&check) && rotating.unwrap(&wrapped).is_ok());
    }

    #[test]
    fn a_rewrapped_key_opens_what_it_sealed_under_the_new_root_key_alone() {
        let (_, key, wrapped, entropy) = keys();
        let sealed = key.seal(&entropy, place(), b"canary");
        let both = RootKeys::new(RootKey::new(&[7; 32]), vec![RootKey::new(&[8; 32])]);
        let new = RootKey::new(&[8; 32]).id().to_owned();
        let again = both.rewrap(&entropy, &wrapped, &new).unwrap();
        assert_eq!((again.id, again.app, &again.root_key_id), (wrapped.id, wrapped.app, &new));
        let alone = RootKeys::new(RootKey::new(&[8; 32]), Vec::new());
        assert_eq!(*alone.unwrap(&again).unwrap().open(place(), &sealed).unwrap(), b"canary");
        assert!(matches!(alone.unwrap(&wrapped), Err(UnwrapError::Missing(_))));
        assert!(matches!(both.rewrap(&entropy, &wrapped, "0000000000000000"), Err(UnwrapError::Missing(_))));
        assert!(matches!(alone.rewrap(&entropy, &wrapped, &new), Err(UnwrapError::Missing(_))));
        let check = both.make_check_under(&entropy, &new).unwrap();
        assert!(alone.opens_check(&check) && root_key_id(&check).unwrap() == new);
        // Another app's wrapped key in its place does not pass.
        let moved = WrappedKey { app: Some(app(2)), ..wrapped };
        assert!(matches!(both.rewrap(&entropy, &moved, &new), Err(UnwrapError::Seal(SealError::Opening))));
    }

    #[test]
    fn no_key_shows_itself() {
        let (root, key, _, _) = keys();
        assert!(!format!("{root:?} {key:?}").contains('7') || format!("{root:?}").contains(root.current_id()));
        assert_eq!(format!("{:?}", RootKey::new(&[7; 32])), format!("RootKey({})", root.current_id()));
    }

    proptest! {
        #[test]
        fn whatever_is_sealed_opens_and_no_changed_byte_does(plain in proptest::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let (_, key, _, entropy) = keys();
            let mut sealed = key.seal(&entropy, place(), &plain);
            prop_assert_eq!(&*key.open(place(), &sealed).unwrap(), &plain);
            if plain.len() >= 8 {
                prop_assert!(!sealed.windows(plain.len()).any(|w| w == plain));
            }
            let i = at.index(sealed.len());
            sealed[i] ^= flip;
            prop_assert!(key.open(place(), &sealed).is_err());
        }
    }
}
