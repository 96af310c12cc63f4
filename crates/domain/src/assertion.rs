//! Identity assertions: short JWTs in which this server says whose app, agent or user something is, and the keys that sign them.
//!
//! Invariants: a key is published for [`LEAD_MS`] before it signs, and for [`KEPT_MS`] after the next one began to, which is longer
//! than any token lives. Two keys break the first rule and say why: the first of an install, of which nobody can hold an older set,
//! and one that takes the place of a key that leaked.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::ids::{AppId, SigningKeyId, UserId};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Map, Value, json};
use url::Url;
use zeroize::Zeroizing;

use crate::env::{Entropy, random};
use crate::secret::Secret;

/// How long a key signs: 90 days.
pub const LIFE_MS: i64 = 90 * 86_400_000;
/// How long before it signs a key is published: longer than anybody may keep the set, by far.
pub const LEAD_MS: i64 = 3_600_000;
/// How long a key stays published after the next one began to sign.
pub const KEPT_MS: i64 = 3_600_000;

/// What stands before the 32 bytes of a private key of P-256 in PKCS #8 (RFC 5208, RFC 5915).
const PKCS8_HEAD: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];

/// A key that signs assertions, by ES256.
pub struct AssertionKey {
    id: SigningKeyId,
    pair: EcdsaKeyPair,
}

impl AssertionKey {
    /// Makes a key; its private half is to be sealed.
    pub fn generate(entropy: &dyn Entropy, id: SigningKeyId) -> (Self, Zeroizing<[u8; 32]>) {
        loop {
            let private = Zeroizing::new(random::<32>(entropy));
            // Of 2^32 texts of 32 bytes one is no number below the order of the curve.
            if let Some(key) = Self::from_private(id, &*private) {
                return (key, private);
            }
        }
    }

    /// The key of a stored private half; `None` if it is none.
    pub fn from_private(id: SigningKeyId, private: &[u8]) -> Option<Self> {
        if private.len() != 32 {
            return None;
        }
        let pkcs8 = Zeroizing::new([&PKCS8_HEAD[..], private].concat());
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).ok()?;
        Some(Self { id, pair })
    }

    /// The public half as JWK (RFC 7518 section 6.2).
    pub fn jwk(&self) -> Value {
        // 0x04, then both coordinates.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": self.id,
            "x": BASE64_URL_SAFE_NO_PAD.encode(x),
            "y": BASE64_URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// Signs an assertion: a compact JWS. The number that ECDSA needs for each signature comes from the library and not from a caller:
    /// one that could be foretold would give the key away.
    pub fn sign(&self, assertion: &Assertion<'_>) -> Secret {
        let header = json!({"alg": "ES256", "kid": self.id, "typ": "alter-identity+jwt"});
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(&assertion.claims()));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).expect("a P-256 key signs any text");
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Secret::new(token)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({})", self.id)
    }
}

/// What is asserted, for one audience and a short time.
#[derive(Clone, Debug)]
pub struct Assertion<'a> {
    /// This server's public URL.
    pub issuer: &'a str,
    pub audience: &'a str,
    /// Names this token among all.
    pub id: String,
    pub app: AppId,
    pub user: Option<AssertedUser<'a>>,
    pub issued_at: TimeMs,
    pub ttl_seconds: i64,
}

/// The user an assertion is of. They are active, or there is none.
#[derive(Clone, Copy, Debug)]
pub struct AssertedUser<'a> {
    pub id: UserId,
    /// As their identity provider calls them.
    pub subject: &'a str,
    /// That provider's id.
    pub idp_id: &'a str,
}

impl Assertion<'_> {
    /// The first moment at which the token is not good any more, in whole seconds.
    pub fn expires_at(&self) -> TimeMs {
        TimeMs(0).plus_seconds(self.issued_s() + self.ttl_seconds)
    }

    fn issued_s(&self) -> i64 {
        self.issued_at.0.div_euclid(1000)
    }

    fn claims(&self) -> Value {
        let app = self.app.to_string();
        let mut alter = Map::from_iter([("app_id".to_owned(), json!(app))]);
        let sub = match self.user {
            Some(user) => {
                alter.insert("app_user_id".to_owned(), json!(user.id));
                alter.insert("external_subject_id".to_owned(), json!(user.subject));
                alter.insert("idp_id".to_owned(), json!(user.idp_id));
                alter.insert("user_status".to_owned(), json!("active"));
                format!("alter:user:{}", user.id)
            }
            None => format!("alter:app:{app}"),
        };
        json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": sub,
            "iat": self.issued_s(),
            "exp": self.issued_s() + self.ttl_seconds,
            "jti": self.id,
            "azp": app,
            "alter": alter,
        })
    }
}

/// Whom a token may be for: a URI with a scheme, as RFC 7519 section 4.1.3 wants it, in visible ASCII.
pub fn check_audience(text: &str) -> Result<(), Error> {
    let is_short = text.len() <= limits::AUDIENCE_CHARS_MAX;
    match is_short && text.bytes().all(|b| b.is_ascii_graphic()) && Url::parse(text).is_ok() {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidAudience).detail("field", "audience")),
    }
}

/// How long a token lives, in seconds.
pub fn check_ttl(asked: Option<i64>) -> Result<i64, Error> {
    let ttl = asked.unwrap_or(limits::ASSERTION_TTL_S_DEFAULT);
    match (limits::ASSERTION_TTL_S_MIN..=limits::ASSERTION_TTL_S_MAX).contains(&ttl) {
        true => Ok(ttl),
        false => Err(Error::impossible(
            "ttl_seconds",
            &format!("must be {}-{}", limits::ASSERTION_TTL_S_MIN, limits::ASSERTION_TTL_S_MAX),
        )),
    }
}

/// A published key: which, and since when or from when on it signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    pub id: SigningKeyId,
    pub signs_from: TimeMs,
}

/// How a published key stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is published ahead of its time.
    Next,
    Signs,
    /// Tokens of it may still be about.
    Kept,
}

impl Standing {
    /// As it travels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signs => "signs",
            Self::Kept => "kept",
        }
    }
}

/// The key that signs now: the newest whose time has come.
pub fn signer(keys: &[Published], now: TimeMs) -> Option<SigningKeyId> {
    let begun = keys.iter().filter(|key| key.signs_from <= now);
    begun.max_by_key(|key| (key.signs_from, key.id)).map(|key| key.id)
}

/// How a key of `keys` stands.
pub fn standing(keys: &[Published], key: Published, now: TimeMs) -> Standing {
    match signer(keys, now) {
        _ if key.signs_from > now => Standing::Next,
        Some(id) if id == key.id => Standing::Signs,
        _ => Standing::Kept,
    }
}

/// What is to be done with the keys by now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Upkeep {
    /// A new key is due, which signs from then on.
    pub make: Option<TimeMs>,
    /// These need not be published any more, and can sign nothing again.
    pub withdraw: Vec<SigningKeyId>,
}

/// What age makes due.
pub fn upkeep(keys: &[Published], now: TimeMs) -> Upkeep {
    let newest = keys.iter().map(|key| key.signs_from).max();
    let make = match newest {
        None => Some(now),
        Some(newest) if newest.plus_ms(LIFE_MS - LEAD_MS) <= now => Some(now.plus_ms(LEAD_MS)),
        Some(_) => None,
    };
    let has_gone = |key: &&Published| {
        let next = keys.iter().filter(|other| (other.signs_from, other.id) > (key.signs_from, key.id));
        next.map(|next| next.signs_from).min().is_some_and(|from| from.plus_ms(KEPT_MS) <= now)
    };
    Upkeep { make, withdraw: keys.iter().filter(has_gone).map(|key| key.id).collect() }
}

/// What an operator's wish for another key comes to. `has_leaked`: the old ones are withdrawn at once, and every token of theirs with them.
pub fn rotation(keys: &[Published], has_leaked: bool, now: TimeMs) -> Result<Upkeep, Error> {
    if has_leaked {
        return Ok(Upkeep { make: Some(now), withdraw: keys.iter().map(|key| key.id).collect() });
    }
    match keys.iter().find(|key| key.signs_from > now) {
        Some(next) => Err(Error::new(Code::InUse)
            .message(format!("The next key is published already, and signs from {}.", next.signs_from))
            .hint("Wait until then. If a key has leaked, rotate with `grantd identity-keys rotate --leaked`.")),
        None if keys.is_empty() => Ok(Upkeep { make: Some(now), withdraw: Vec::new() }),
        None => Ok(Upkeep { make: Some(now.plus_ms(LEAD_MS)), withdraw: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use grantd_wire::ids::uuid_v7;
    use std::sync::atomic::{AtomicU8, Ordering};

    struct Counting(AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn key_id(n: i64) -> SigningKeyId {
        SigningKeyId::from_uuid(uuid_v7(n, [0; 10]))
    }

    fn app() -> AppId {
        AppId::from_uuid(uuid_v7(5, [5; 10]))
    }

    #[test]
    fn a_text_that_is_no_private_key_is_drawn_again() {
        // All zeros are no key; all ones are one.
        let (key, private) = AssertionKey::generate(&Counting(AtomicU8::new(0)), key_id(1));
        assert_eq!(*private, [1; 32]);
        assert_eq!(AssertionKey::from_private(key_id(1), &*private).unwrap().jwk(), key.jwk());
        for bad in [&[0xff; 32][..], &[1; 31], &[1; 33], &[]] {
            assert!(AssertionKey::from_private(key_id(1), bad).is_none());
        }
        assert!(!format!("{key:?}").contains("01010101"));
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_what_is_asserted_and_verifies() {
        let key = AssertionKey::from_private(key_id(1), &[7; 32]).unwrap();
        let mut assertion = Assertion {
            issuer: "https://grantd.example.com",
            audience: "https://memory.example.com",
            id: "0199c0de-0000-7000-8000-00000000beef".to_owned(),
            app: app(),
            user: None,
            issued_at: TimeMs(1_700_000_000_999),
            ttl_seconds: 120,
        };
        let token = key.sign(&assertion);
        let parts: Vec<&str> = token.reveal().split('.').collect();
        assert_eq!(decoded(parts[0]), json!({"alg": "ES256", "typ": "alter-identity+jwt", "kid": key_id(1)}));
        assert_eq!(
            decoded(parts[1]),
            json!({
                "iss": "https://grantd.example.com", "aud": "https://memory.example.com",
                "sub": format!("alter:app:{}", app()), "iat": 1_700_000_000, "exp": 1_700_000_120,
                "jti": "0199c0de-0000-7000-8000-00000000beef", "azp": app(), "alter": {"app_id": app()},
            })
        );
        assert_eq!(assertion.expires_at(), TimeMs(1_700_000_120_000));
        let jwk = key.jwk();
        assert!(jwk.get("d").is_none());
        let coordinate = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let public = [vec![4], coordinate("x"), coordinate("y")].concat();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        verifier.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).unwrap();
        let user = UserId::from_uuid(uuid_v7(6, [6; 10]));
        assertion.user = Some(AssertedUser { id: user, subject: "auth0|1", idp_id: "p" });
        let claims = assertion.claims();
        assert_eq!(claims["sub"], json!(format!("alter:user:{user}")));
        assert_eq!(
            claims["alter"],
            json!({"app_id": app(), "app_user_id": user, "external_subject_id": "auth0|1", "idp_id": "p", "user_status": "active"})
        );
    }

    #[test]
    fn audiences_are_uris_within_their_bound() {
        let long = |n: usize| format!("https://a.example/{}", "x".repeat(n - 18));
        for good in ["https://memory.example.com", "urn:service:memory", "api://memory", &long(512)] {
            assert!(check_audience(good).is_ok(), "{good}");
        }
        for bad in ["", "memory", "/memory", "//memory", "https://", "https://a b/", "urn:é", "urn:a\n", &long(513)] {
            assert_eq!(check_audience(bad).unwrap_err().code, Code::InvalidAudience, "{bad}");
        }
    }

    #[test]
    fn lives_hold_at_the_bounds_and_not_past_them() {
        assert_eq!(check_ttl(None).unwrap(), 120);
        assert!(check_ttl(Some(10)).is_ok() && check_ttl(Some(300)).is_ok());
        for bad in [9, 301, 0, -1, i64::MAX] {
            assert_eq!(check_ttl(Some(bad)).unwrap_err().code, Code::InvalidValue, "{bad}");
        }
    }

    fn at(n: i64, signs_from: i64) -> Published {
        Published { id: key_id(n), signs_from: TimeMs(signs_from) }
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_until_its_tokens_are_over() {
        assert_eq!(upkeep(&[], TimeMs(5)), Upkeep { make: Some(TimeMs(5)), withdraw: vec![] });
        let first = [at(1, 0)];
        assert_eq!(upkeep(&first, TimeMs(LIFE_MS - LEAD_MS - 1)), Upkeep::default());
        let due = TimeMs(LIFE_MS - LEAD_MS);
        assert_eq!(upkeep(&first, due), Upkeep { make: Some(TimeMs(LIFE_MS)), withdraw: vec![] });
        let both = [at(1, 0), at(2, LIFE_MS)];
        assert_eq!(upkeep(&both, due), Upkeep::default());
        assert_eq!(signer(&both, TimeMs(LIFE_MS - 1)), Some(key_id(1)));
        assert_eq!(signer(&both, TimeMs(LIFE_MS)), Some(key_id(2)));
        let over = TimeMs(LIFE_MS + KEPT_MS);
        assert_eq!(upkeep(&both, over.plus_ms(-1)), Upkeep::default());
        assert_eq!(upkeep(&both, over), Upkeep { make: None, withdraw: vec![key_id(1)] });
        let standings = |now| both.map(|key| standing(&both, key, now));
        assert_eq!(standings(due), [Standing::Signs, Standing::Next]);
        assert_eq!(standings(over), [Standing::Kept, Standing::Signs]);
        const { assert!(KEPT_MS > limits::ASSERTION_TTL_S_MAX * 1000 + limits::JWKS_MAX_AGE_S * 1000) };
        const { assert!(LEAD_MS > limits::JWKS_MAX_AGE_S * 1000) };
    }

    #[test]
    fn an_operator_rotates_ahead_of_time_or_at_once() {
        let (first, now) = ([at(1, 0)], TimeMs(50));
        assert_eq!(
            rotation(&first, false, now).unwrap(),
            Upkeep { make: Some(now.plus_ms(LEAD_MS)), withdraw: vec![] }
        );
        let both = [at(1, 0), at(2, 60)];
        assert_eq!(rotation(&both, false, now).unwrap_err().code, Code::InUse);
        let leaked = rotation(&both, true, now).unwrap();
        assert_eq!(leaked, Upkeep { make: Some(now), withdraw: vec![key_id(1), key_id(2)] });
    }
}
