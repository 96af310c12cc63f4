//! Who an app's users are: identity providers that vouch for them, the tokens they issue, and what is known of users and groups.
//!
//! Invariant: a token counts only after [`Token::verify`]; what it says before that picks a provider and a key, and nothing else.

pub mod examine;
mod jwk;
mod preset;
mod strict;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeSet;

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, GroupId, IdentityProviderId, UserId};
use grantd_wire::limits::{SUBJECT_CHARS_MAX, USER_GROUPS_MAX, USER_ROLES_MAX};
use grantd_wire::sign::sha256;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

pub use jwk::{Jwk, KeySet, KeySetError};
pub use preset::{PRESETS, Preset, check_url};
pub use token::{Algorithm, Claims, Invalid, KEYS_UNAVAILABLE, Token};

use crate::account::SealedSecret;

/// An identity provider of an app.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityProvider {
    pub id: IdentityProviderId,
    pub app_id: AppId,
    pub name: String,
    pub preset: &'static Preset,
    /// Exactly as `iss` has it.
    pub issuer: String,
    /// One of them must be in a token; none: the issuer belongs to this application alone.
    pub audiences: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    pub claims: ClaimMapping,
    pub endpoints: Endpoints,
    /// What the provider issued to whoever registered there; only sign-in needs it.
    pub client_id: Option<String>,
    pub client_secret: Option<SealedSecret>,
    /// Asked for when a user signs in.
    pub scopes: Vec<String>,
    pub state: ProviderState,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub is_deleted: bool,
    pub version: i64,
}

/// Whether an identity provider's tokens count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProviderState {
    Active,
    /// Every token of it is refused; reversible.
    Inactive,
}

impl ProviderState {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// Reads the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Inactive].into_iter().find(|state| state.as_str() == text)
    }
}

/// Where an identity provider is called, as its discovery document or the operator says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub struct Endpoints {
    /// Of the keys its tokens are signed with.
    pub jwks_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_url: Option<String>,
    /// The token endpoint takes the client's secret in the body, not in a header.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub posts_secret: bool,
    /// Every callback names the issuer (RFC 9207).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub names_issuer: bool,
}

impl Endpoints {
    /// Whether a client secret would be sent to another server than `before`.
    pub fn takes_secret_elsewhere(&self, before: &Self) -> bool {
        let origin = |url: Option<&String>| url.and_then(|url| Url::parse(url).ok()).map(|url| url.origin());
        self.token_url.is_some() && origin(self.token_url.as_ref()) != origin(before.token_url.as_ref())
    }
}

/// Which claims say what. A name is that of a claim; one that begins with `/` is a JSON pointer into nested ones.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct ClaimMapping {
    pub subject: String,
    pub audience: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<String>,
}

/// The value of a claim.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    match name.strip_prefix('/') {
        None => claims.get(name),
        Some(rest) => {
            // The map is no `Value`, so the first step is taken here (RFC 6901).
            let (first, below) = rest.split_once('/').map_or((rest, ""), |(first, _)| (first, &rest[first.len()..]));
            claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(below)
        }
    }
}

/// Texts of a claim: one, or a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether a text can stand for a user, a group or a name of one.
pub fn is_name(text: &str) -> bool {
    (1..=SUBJECT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

impl ClaimMapping {
    /// What a user is called and belongs to, of claims that are verified. What cannot be kept is left out: it gives no rights.
    pub fn profile(&self, claims: &Map<String, Value>) -> Profile {
        let one = |name: &Option<String>| {
            let text = claim(claims, name.as_deref()?)?.as_str()?;
            is_name(text).then(|| text.to_owned())
        };
        let some = |name: &Option<String>, most: usize| {
            let named = texts(claim(claims, name.as_deref()?)).into_iter().filter(|text| is_name(text));
            Some(named.take(most).map(str::to_owned).collect::<BTreeSet<_>>())
        };
        Profile {
            email: one(&self.email),
            name: one(&self.name),
            roles: some(&self.roles, USER_ROLES_MAX).unwrap_or_default(),
            groups: some(&self.groups, USER_GROUPS_MAX),
        }
    }
}

/// What a token says of its user.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Profile {
    pub email: Option<String>,
    pub name: Option<String>,
    pub roles: BTreeSet<String>,
    /// By the ids the provider gives them; `None`: tokens of this provider do not tell.
    pub groups: Option<BTreeSet<String>>,
}

impl Profile {
    /// What two profiles that say the same have in common.
    pub fn hash(&self) -> [u8; 32] {
        let text = serde_json::to_vec(&(&self.email, &self.name, &self.roles, &self.groups));
        sha256(&text.expect("texts have a JSON form"))
    }
}

/// How a user stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserStatus {
    Active,
    /// Every call of the user's is refused; reversible.
    Suspended,
    /// Gone, with every grant; final for this row.
    Deprovisioned {
        at: TimeMs,
    },
}

impl UserStatus {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deprovisioned { .. } => "deprovisioned",
        }
    }
}

/// An end user of an app: one subject of one identity provider, never merged with another.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    pub subject: String,
    pub status: UserStatus,
    pub email: Option<String>,
    pub name: Option<String>,
    pub roles: BTreeSet<String>,
    /// When the token was issued that what is known of the user comes from.
    pub told_at: Option<TimeMs>,
    /// [`Profile::hash`] of what that token said.
    pub told_hash: Option<[u8; 32]>,
    pub last_seen_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub version: i64,
}

impl std::fmt::Debug for User {
    /// Without what is personal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// Several users of one identity provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub id: GroupId,
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    /// As its provider names it.
    pub external_id: String,
    pub name: String,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub version: i64,
}

/// Why a user who is known may not call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    Suspended,
    /// The token was issued before the user was deprovisioned.
    Deprovisioned,
}

/// What becomes of a verified token, given the newest row of its subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen<'a> {
    /// A subject that was never seen, or is back after its deprovisioning: a new row.
    New,
    Known(&'a User),
}

/// Whom a verified token speaks for. `known`: the subject's row that is not deprovisioned, else the newest one. `gone_at`: when the
/// subject was deprovisioned last.
pub fn seen<'a>(known: Option<&'a User>, gone_at: Option<TimeMs>, claims: &Claims) -> Result<Seen<'a>, Refused> {
    // A token that was in somebody's hands before proves nothing of what came after, whoever made the row that is there now.
    if gone_at.is_some_and(|at| claims.issued_at.is_none_or(|issued| issued <= at)) {
        return Err(Refused::Deprovisioned);
    }
    match known.map(|user| (user, user.status)) {
        None | Some((_, UserStatus::Deprovisioned { .. })) => Ok(Seen::New),
        Some((_, UserStatus::Suspended)) => Err(Refused::Suspended),
        Some((user, UserStatus::Active)) => Ok(Seen::Known(user)),
    }
}
