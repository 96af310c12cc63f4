//! Identifiers: UUIDs, lower case and dashed. grantd mints version 7 (time-ordered).
//!
//! Another spelling of a UUID (upper case, braces, no dashes) is *unknown*, not malformed: `parse` answers `None` and the
//! caller answers 404.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The canonical text form: 36 characters, lower case, dashed.
pub(crate) fn parse_canonical(text: &str) -> Option<Uuid> {
    let canonical =
        text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if canonical { Uuid::try_parse(text).ok() } else { None }
}

/// A UUID v7 of `unix_ms` and ten random bytes (RFC 9562).
pub fn uuid_v7(unix_ms: i64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(unix_ms).unwrap_or(0), &random).into_uuid()
}

/// The millisecond that an id made by [`uuid_v7`] says.
pub fn made_at(id: &impl Id) -> i64 {
    let bytes = id.bytes();
    bytes[..6].iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte))
}

/// Any of the ids here, for whoever stores them.
pub trait Id: Copy {
    /// The id of these 16 bytes.
    fn from_bytes(bytes: [u8; 16]) -> Self;
    /// Its 16 bytes.
    fn bytes(&self) -> [u8; 16];
}

macro_rules! id_types {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was made for this kind of thing.
            pub const fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }
            /// The id written canonically in `text`, else `None`.
            pub fn parse(text: &str) -> Option<Self> { parse_canonical(text).map(Self) }
            /// The 16 bytes, as bound into sealed values.
            pub fn as_bytes(&self) -> &[u8; 16] { self.0.as_bytes() }
        }

        impl Id for $name {
            fn from_bytes(bytes: [u8; 16]) -> Self { Self(Uuid::from_bytes(bytes)) }
            fn bytes(&self) -> [u8; 16] { *self.0.as_bytes() }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.as_hyphenated().fmt(f) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.as_hyphenated().fmt(f) }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> { serializer.collect_str(self) }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a lower-case dashed UUID"))
            }
        }
    )*};
}

id_types! {
    /// Holds apps and operators.
    OrganizationId,
    /// A person who administers.
    OperatorId,
    /// A personal access token.
    PatId,
    /// A browser in which an operator is signed in.
    WebSessionId,
    /// A passkey of an operator.
    PasskeyId,
    /// The hard border: everything of one app is invisible from another.
    AppId,
    /// An API key (not its text).
    KeyId,
    /// A caller's label, registered once per app, label and type.
    ActorId,
    /// A named workload.
    AgentId,
    /// An end user.
    UserId,
    /// Whoever vouches for an app's users.
    IdentityProviderId,
    /// Several users of one identity provider.
    GroupId,
    /// A user as a directory tells of it.
    ScimUserId,
    /// A short-lived flow in which an end user signs in.
    AuthSessionId,
    /// A secret the operator stores.
    SecretId,
    /// A provider as an app is registered with it.
    AppProviderId,
    /// The sealed material behind grants.
    CredentialId,
    /// Names one value of a credential; changes when the value does.
    GenerationId,
    /// The handle application code uses.
    GrantId,
    /// An audit event.
    EventId,
    /// A hash chain of audit events.
    ChainId,
    /// A key that seals values of one app.
    DataKeyId,
    /// A key that signs checkpoints.
    SigningKeyId,
    /// A short-lived flow in which an end user authorizes providers.
    ConnectSessionId,
    /// One attempt to renew a token, by one process.
    LeaseId,
    /// One HTTP request, for support.
    RequestId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_id() {
        let text = "0199c0de-0000-7000-8000-00000000beef";
        assert_eq!(GrantId::parse(text).unwrap().to_string(), text);
        for other in [
            "0199C0DE-0000-7000-8000-00000000BEEF",
            "0199c0de00007000800000000000beef",
            "{0199c0de-0000-7000-8000-00000000beef}",
            "0199c0de-0000-7000-8000-00000000bee",
            "0199c0de-0000-7000-8000-00000000beef ",
            "0199c0d-e0000-7000-8000-00000000beef",
            "",
        ] {
            assert_eq!(GrantId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn minted_ids_are_version_7_and_sort_by_time() {
        let early = GrantId::from_uuid(uuid_v7(1_700_000_000_000, [0xff; 10]));
        let late = GrantId::from_uuid(uuid_v7(1_700_000_000_001, [0; 10]));
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().as_bytes()[14], b'7');
    }
}
