//! User tokens: JSON Web Tokens in compact form (RFC 7519, RFC 8725), read once and then proved.
//!
//! Never: a token's own word for how it is to be verified. Its algorithm must be one of the provider's asymmetric ones, its key one of
//! those that were fetched from where the operator said; `jku`, `x5u`, `x5c` and `jwk` are not looked at. [`Invalid`] carries nothing of a
//! token.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_wire::TimeMs;
use grantd_wire::limits::{JWT_LEEWAY_S, USER_TOKEN_BYTES_MAX};
use serde_json::{Map, Value};

use super::strict::{NotStrict, object};
use super::{IdentityProvider, KeySet, ProviderState, claim, is_name, texts};

macro_rules! algorithms {
    ($($name:ident = $text:literal,)*) => {
        /// How a token may be signed: asymmetric ways only.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Algorithm { $($name,)* }

        impl Algorithm {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// As in `alg`.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The one that `alg` names, unless it is none of these.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

algorithms! {
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Es256 = "ES256",
    Es384 = "ES384",
    EdDsa = "EdDSA",
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $why:literal;)*) => {
        /// Which check a token failed.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        pub enum Invalid { $($(#[$doc])* #[error($why)] $name,)* }

        impl Invalid {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// Stable text, for `details.check` and the audit trail.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

checks! {
    TooLong = "size", "The user token is larger than 8 KiB.";
    Malformed = "form", "The user token is no JSON Web Token: it must be three base64url parts of JSON with dots between them.";
    Encrypted = "encrypted", "The user token is encrypted.";
    Duplicate = "duplicate", "The user token names a claim or a header parameter twice.";
    Critical = "crit", "The user token has header parameters that must be understood, and are not (`crit` or `b64`).";
    Algorithm = "alg", "The user token is signed in a way that its identity provider is not registered with.";
    Type = "typ", "The token is of a kind that speaks for no user.";
    UnknownIssuer = "issuer", "The user token is of an issuer that no identity provider of this app has.";
    Audience = "audience", "The user token is for another audience than those its identity provider is registered with.";
    UnknownKey = "key", "The user token is signed with a key that its issuer does not publish.";
    Signature = "signature", "The user token's signature is wrong.";
    NoExpiry = "exp_missing", "The user token has no end (`exp`).";
    Expired = "expired", "The user token has expired.";
    NotYet = "not_yet_valid", "The user token is not valid yet.";
    Subject = "subject", "The user token names no user, or not with 1-255 plain characters.";
    Suspended = "user_suspended", "The user is suspended.";
    Deprovisioned = "user_deprovisioned", "The user token was issued before the user was deprovisioned.";
    /// Only of a token that a sign-in brought.
    Nonce = "nonce", "The token was not issued for this sign-in.";
}

/// Instead of a check where none was made: the keys of the token's issuer cannot be had.
pub const KEYS_UNAVAILABLE: &str = "keys_unavailable";

/// Header parameters of kinds of tokens that speak for a user.
const TYPES: &[&str] = &["jwt", "at+jwt", "application/at+jwt", "application/jwt"];

/// A token that was read, and is not proved. No `Debug`: it holds what is personal.
pub struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// What a token says, proved.
#[derive(Clone)]
pub struct Claims {
    pub subject: String,
    pub issued_at: Option<TimeMs>,
    /// When the user last proved who they are.
    pub authenticated_at: Option<TimeMs>,
    pub expires_at: TimeMs,
    /// All of them.
    pub all: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Reads a token, within its bounds.
    pub fn parse(text: &'a str) -> Result<Self, Invalid> {
        if text.len() > USER_TOKEN_BYTES_MAX {
            return Err(Invalid::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Invalid::Malformed);
        };
        match parts.count() {
            0 => {}
            2 => return Err(Invalid::Encrypted),
            _ => return Err(Invalid::Malformed),
        }
        let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Malformed);
        let read = |part: &str| {
            object(&bytes(part)?).map_err(|why| match why {
                NotStrict::Json => Invalid::Malformed,
                NotStrict::Duplicate => Invalid::Duplicate,
            })
        };
        let parameters = read(header)?;
        let parameter = |name: &str| match parameters.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Invalid::Malformed),
        };
        if parameters.contains_key("crit") || parameters.contains_key("b64") {
            return Err(Invalid::Critical);
        }
        if parameters.contains_key("enc") || parameters.contains_key("zip") || parameter("cty")?.is_some() {
            return Err(Invalid::Encrypted);
        }
        if parameter("typ")?.is_some_and(|kind| !TYPES.contains(&kind.to_ascii_lowercase().as_str())) {
            return Err(Invalid::Type);
        }
        let algorithm = Algorithm::parse(parameter("alg")?.ok_or(Invalid::Malformed)?).ok_or(Invalid::Algorithm)?;
        Ok(Self {
            algorithm,
            key_id: parameter("kid")?.map(str::to_owned),
            claims: read(claims)?,
            signed: &text.as_bytes()[..header.len() + 1 + claims.len()],
            signature: bytes(signature)?,
        })
    }

    /// Who it says issued it: picks a provider, and proves nothing.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Whether the set has a key it can be signed with.
    pub fn has_key(&self, keys: &KeySet) -> bool {
        keys.has(self.key_id.as_deref(), self.algorithm)
    }

    /// Whether it is worth to fetch keys for: everything about it but the signature is as it must be.
    pub fn check(&self, provider: &IdentityProvider, now: TimeMs) -> Result<(), Invalid> {
        debug_assert!(provider.state == ProviderState::Active, "an inactive provider is not asked");
        if self.issuer() != Some(provider.issuer.as_str()) {
            return Err(Invalid::UnknownIssuer);
        }
        if !provider.algorithms.contains(&self.algorithm) {
            return Err(Invalid::Algorithm);
        }
        let named = texts(claim(&self.claims, &provider.claims.audience));
        let is_named = named.iter().any(|name| provider.audiences.iter().any(|audience| audience == name));
        let is_for_us_alone = provider.audiences.is_empty() && provider.preset.owns(&provider.issuer);
        if !is_named && !is_for_us_alone {
            return Err(Invalid::Audience);
        }
        // Of a sign-out (OpenID Connect Back-Channel Logout 2.4) or of another security event (RFC 8417).
        if self.claims.contains_key("events") {
            return Err(Invalid::Type);
        }
        let expires = self.time("exp")?.ok_or(Invalid::NoExpiry)?;
        if now.since(expires) >= JWT_LEEWAY_S * 1000 {
            return Err(Invalid::Expired);
        }
        for name in ["nbf", "iat"] {
            if self.time(name)?.is_some_and(|from| from.since(now) > JWT_LEEWAY_S * 1000) {
                return Err(Invalid::NotYet);
            }
        }
        self.subject(provider).map(drop)
    }

    /// Proves it.
    pub fn verify(self, provider: &IdentityProvider, keys: &KeySet, now: TimeMs) -> Result<Claims, Invalid> {
        self.check(provider, now)?;
        let candidates = keys.candidates(self.key_id.as_deref(), self.algorithm);
        if candidates.is_empty() {
            return Err(Invalid::UnknownKey);
        }
        if !candidates.iter().any(|key| key.verify(self.algorithm, self.signed, &self.signature)) {
            return Err(Invalid::Signature);
        }
        Ok(Claims {
            subject: self.subject(provider)?.to_owned(),
            issued_at: self.time("iat")?,
            authenticated_at: self.time("auth_time")?,
            expires_at: self.time("exp")?.ok_or(Invalid::NoExpiry)?,
            all: self.claims,
        })
    }

    fn subject(&self, provider: &IdentityProvider) -> Result<&str, Invalid> {
        let subject = claim(&self.claims, &provider.claims.subject).and_then(Value::as_str);
        subject.filter(|subject| is_name(subject)).ok_or(Invalid::Subject)
    }

    /// A moment, in seconds, whole or not (RFC 7519 section 2).
    fn time(&self, name: &str) -> Result<Option<TimeMs>, Invalid> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().filter(|s| (0.0..SECONDS_MAX).contains(s)).ok_or(Invalid::Malformed)?;
                #[expect(clippy::cast_possible_truncation, reason = "it is within its bound")]
                Ok(Some(TimeMs((seconds * 1000.0) as i64)))
            }
        }
    }
}

/// The year 9999: no moment after it can be written.
const SECONDS_MAX: f64 = 253_402_300_800.0;
