//! Apps, keys, managed secrets, credentials and grants: what they are and in which states they can be.

use std::sync::Arc;

use grantd_wire::TimeMs;
use grantd_wire::api::{ConnectSignIn, CredentialType, Retrieve, TenantMode};
use grantd_wire::ids::{
    AppId, CredentialId, DataKeyId, GenerationId, GrantId, GroupId, KeyId, OrganizationId, SecretId, UserId,
};
use grantd_wire::key::KeyType;
use grantd_wire::limits::{LIFETIME_SECONDS_MAX, SUBJECT_CHARS_MAX};
use grantd_wire::scope::Scope;
use grantd_wire::sdk::{Injection, Lifetime};
use grantd_wire::{Code, Error};

use crate::account::{Account, AppProvider};
use crate::destination;

/// The state of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppState {
    Active,
    /// Every credential call is denied; reversible.
    Archived,
    /// Its data keys are destroyed; final.
    Deleted,
}

impl AppState {
    /// Whether an app in this state may be brought into another. Staying is no move, and always possible.
    pub fn check_move(self, to: Self) -> Result<(), Error> {
        let refused = |message: &str| Err(Error::new(Code::Conflict).message(message));
        match (self, to) {
            (Self::Deleted, Self::Active | Self::Archived) => {
                refused("The app is deleted, and stays so. Create a new one.")
            }
            (Self::Active, Self::Deleted) => refused("Only an archived app can be deleted: archive it first."),
            _ => Ok(()),
        }
    }
}

/// An app.
#[derive(Clone, Debug)]
pub struct App {
    pub id: AppId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub description: Option<String>,
    pub website_url: Option<String>,
    pub state: AppState,
    pub tenant_key: Option<String>,
    pub tenant_mode: TenantMode,
    pub retrieve: Retrieve,
    /// Context keys that audit queries find by index, the tenant key aside.
    pub indexed_context_keys: Vec<String>,
    pub connect_sign_in: ConnectSignIn,
    /// Origins that browsers may be sent back to, and that windows which are told may be of. Empty: any.
    pub return_origins: Vec<String>,
    pub created_at: TimeMs,
    pub version: i64,
}

impl App {
    /// Every context key whose values are indexed.
    pub fn context_index(&self) -> impl Iterator<Item = &str> {
        let tenant = self.tenant_key.iter().filter(|k| !self.indexed_context_keys.contains(k));
        self.indexed_context_keys.iter().chain(tenant).map(String::as_str)
    }
}

/// An API key as stored: never its text.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub app_id: AppId,
    pub key_type: KeyType,
    pub key_prefix: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub scope_version: i64,
    pub cidrs: Vec<ipnet::IpNet>,
    pub rate_limit_rpm: Option<u32>,
    pub allow_unsigned_identity: bool,
    pub parent_key_id: Option<KeyId>,
    pub created_at: TimeMs,
    pub expires_at: Option<TimeMs>,
    pub grace_until: Option<TimeMs>,
    pub deprecated_at: Option<TimeMs>,
    pub revoked_at: Option<TimeMs>,
}

impl ApiKey {
    /// `active`, `in_grace`, `rotated`, `expired` or `revoked` at `now`, whatever its app.
    pub fn status_at(&self, now: TimeMs) -> &'static str {
        match self.alive(AppState::Active, now) {
            Ok(()) if self.grace_until.is_some() => "in_grace",
            Ok(()) => "active",
            Err(Code::KeyRotatedGraceExpired) => "rotated",
            Err(Code::KeyExpired) => "expired",
            Err(_) => "revoked",
        }
    }

    /// Whether the key may be used at `now`, else the code that says why not.
    pub fn alive(&self, app: AppState, now: TimeMs) -> Result<(), Code> {
        if self.revoked_at.is_some() {
            return Err(Code::KeyRevoked);
        }
        if self.expires_at.is_some_and(|t| t <= now) {
            return Err(Code::KeyExpired);
        }
        if self.grace_until.is_some_and(|t| t <= now) {
            return Err(Code::KeyRotatedGraceExpired);
        }
        match app {
            AppState::Active => Ok(()),
            AppState::Archived | AppState::Deleted => Err(Code::KeyNotActive),
        }
    }
}

/// A secret the operator stores: how it is sent and where it may go. Its value is a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagedSecret {
    pub id: SecretId,
    pub app_id: AppId,
    pub slug: String,
    pub name: String,
    pub credential_type: CredentialType,
    pub header: String,
    pub format: String,
    pub injections: Vec<Injection>,
    pub field_names: Vec<String>,
    pub hosts: Vec<destination::Rule>,
    pub any_host: bool,
    pub created_at: TimeMs,
    pub version: i64,
}

/// The state of a credential. Only one that is `Ok` has a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialState {
    Ok {
        data_key_id: DataKeyId,
        sealed: Vec<u8>,
    },
    /// There is no value that could be used; a new one mends it, and the grants go on.
    Broken(Broken),
    /// Gone with the last grant; final.
    Destroyed,
}

/// Why there is no value that could be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// It was lost here; rotating puts a new one in its place.
    Lost,
    /// The provider said that the user's consent is over.
    Reconnect,
    /// A refresh token was spent, and the answer to that was never seen.
    RotationUnknown,
}

impl Broken {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Reconnect => "reconnect",
            Self::RotationUnknown => "rotation_unknown",
        }
    }

    /// Reads the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Lost, Self::Reconnect, Self::RotationUnknown].into_iter().find(|broken| broken.as_str() == text)
    }
}

/// What a credential holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialOf {
    /// The value of a managed secret.
    Secret(SecretId),
    /// The tokens of an account at a provider.
    Account(Box<Account>),
}

/// What stands behind a grant's credential. Many grants share one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Behind {
    Secret(Arc<ManagedSecret>),
    Provider(Arc<AppProvider>),
}

impl Behind {
    /// A managed secret's slug, or a provider's id.
    pub fn provider_id(&self) -> &str {
        match self {
            Self::Secret(secret) => &secret.slug,
            Self::Provider(provider) => &provider.provider_id,
        }
    }

    /// Whether a value may go anywhere.
    pub fn any_host(&self) -> bool {
        match self {
            Self::Secret(secret) => secret.any_host,
            Self::Provider(_) => false,
        }
    }
}

/// The sealed material behind grants.
#[derive(Clone, Debug)]
pub struct Credential {
    pub id: CredentialId,
    pub app_id: AppId,
    pub of: CredentialOf,
    /// The user it belongs to; none: the app's.
    pub user_id: Option<UserId>,
    pub generation: GenerationId,
    pub version: i64,
    pub state: CredentialState,
    pub updated_at: TimeMs,
}

/// Whether a grant was revoked. That it lapsed is computed from time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantStatus {
    Active,
    Revoked { at: TimeMs, reason: Option<String> },
}

/// Whose a grant is: who may have its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The app's own: whoever holds a key of it.
    System,
    /// One user's.
    User(UserId),
    /// Every member's.
    Group(GroupId),
}

impl Principal {
    /// The stable text of its kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User(_) => "user",
            Self::Group(_) => "group",
        }
    }
}

/// For whom an operator wants a grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    System,
    User(UserId),
    Group(GroupId),
    /// By the name that an identity provider has for it, which is named by its id or issuer. It may not be known yet.
    GroupOf {
        idp: String,
        external_id: String,
    },
}

impl Wanted {
    /// What the fields of a request say together.
    pub fn parse(kind: &str, user: Option<&str>, group: Option<&str>, idp: Option<&str>) -> Result<Self, Error> {
        let missing = |field, why: &str| Err(Error::impossible(field, why));
        match (kind, user, group, idp) {
            ("system", None, None, None) => Ok(Self::System),
            ("user", Some(user), None, None) => UserId::parse(user).map(Self::User).ok_or_else(no_such_user),
            ("group", None, Some(group), None) => GroupId::parse(group).map(Self::Group).ok_or_else(no_such_group),
            ("group", None, Some(group), Some(idp)) => {
                check_text("group", group, SUBJECT_CHARS_MAX)?;
                Ok(Self::GroupOf { idp: idp.to_owned(), external_id: group.to_owned() })
            }
            ("user", None, ..) => missing("user", "must be given: the id of one, as `grantd end-users list` shows it"),
            ("group", _, None, _) => {
                missing("group", "must be given: the id of one, or with idp what that identity provider calls it")
            }
            ("system" | "group", Some(_), ..) => missing("user", "goes with principal_type user"),
            ("system" | "user", _, Some(_), _) => missing("group", "goes with principal_type group"),
            ("system" | "user", .., Some(_)) => {
                missing("idp", "goes with principal_type group, and says whose group it is")
            }
            ("agent", ..) => Err(Error::new(Code::FeatureUnavailable)
                .message("Grants to agents need agents, which are not built yet. Use system, user or group.")),
            _ => missing("principal_type", "must be system, user or group"),
        }
    }
}

/// The app has no such user.
pub fn no_such_user() -> Error {
    Error::impossible("user", "is the id of no user of this app").hint("`grantd end-users list` shows them.")
}

/// The app has no such group.
pub fn no_such_group() -> Error {
    Error::impossible("group", "is the id of no group of this app")
        .hint("`grantd groups list` shows them; with idp, name it as that identity provider does.")
}

/// Whom the tenant guard lets a grant serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// The guard does not apply.
    Exempt,
    /// The first value it is used with, while the guard is on, is its own from then on.
    Unbound,
    /// Only this value of the app's tenant key.
    Bound(String),
}

/// The handle application code uses.
#[derive(Clone, Debug)]
pub struct Grant {
    pub id: GrantId,
    pub app_id: AppId,
    pub credential_id: CredentialId,
    pub principal: Principal,
    pub label: Option<String>,
    pub status: GrantStatus,
    pub tenant: Tenant,
    pub expires_at: Option<TimeMs>,
    pub created_at: TimeMs,
    pub last_used_at: Option<TimeMs>,
    pub version: i64,
}

impl Credential {
    /// What it is: `oauth`, or a managed secret's value, of the `developer` or of an `end_user`.
    pub const fn kind(&self) -> &'static str {
        match (&self.of, self.user_id) {
            (CredentialOf::Account(_), _) => "oauth",
            (CredentialOf::Secret(_), None) => "developer",
            (CredentialOf::Secret(_), Some(_)) => "end_user",
        }
    }

    /// Whether it is a value of this secret.
    pub fn is_of_secret(&self, id: SecretId) -> bool {
        matches!(self.of, CredentialOf::Secret(secret) if secret == id)
    }

    /// The account whose tokens it holds.
    pub fn account(&self) -> Option<&Account> {
        match &self.of {
            CredentialOf::Account(account) => Some(account),
            CredentialOf::Secret(_) => None,
        }
    }

    /// Whether nothing but the user, connecting again, makes an account's tokens usable at `now`.
    pub fn needs_reconnect(&self, now: TimeMs) -> bool {
        let Some(account) = self.account() else { return false };
        let ended = account.rejected_at.is_some() || account.expiry.at().is_some_and(|at| at <= now);
        match self.state {
            CredentialState::Broken(_) => true,
            CredentialState::Ok { .. } => ended && !account.is_refreshable,
            CredentialState::Destroyed => false,
        }
    }
}

impl Grant {
    /// `active`, `expired` or `revoked` at `now`.
    pub fn status_at(&self, now: TimeMs) -> &'static str {
        match &self.status {
            GrantStatus::Revoked { .. } => "revoked",
            GrantStatus::Active if self.lapsed(now) => "expired",
            GrantStatus::Active => "active",
        }
    }

    /// Whether its time is over.
    pub fn lapsed(&self, now: TimeMs) -> bool {
        self.expires_at.is_some_and(|t| t <= now)
    }
}

/// The moment a grant made at `now` with this lifetime ends.
///
/// `default_ttl_seconds` applies when no `expires_at` is given; `max_ttl_seconds` bounds either.
pub fn expires_at(lifetime: Lifetime, now: TimeMs) -> Result<Option<TimeMs>, Error> {
    for (field, seconds) in
        [("max_ttl_seconds", lifetime.max_ttl_seconds), ("default_ttl_seconds", lifetime.default_ttl_seconds)]
    {
        if seconds.is_some_and(|s| !(1..=LIFETIME_SECONDS_MAX).contains(&s)) {
            return Err(Error::impossible(field, "must be between 1 second and ten years"));
        }
    }
    if lifetime.expires_at.is_some_and(|t| t <= now) {
        return Err(Error::impossible("expires_at", "must be in the future"));
    }
    if lifetime.expires_at.is_some_and(|t| t > now.plus_seconds(LIFETIME_SECONDS_MAX)) {
        return Err(Error::impossible("expires_at", "must be within ten years"));
    }
    let wanted = lifetime.expires_at.or(lifetime.default_ttl_seconds.map(|s| now.plus_seconds(s)));
    let bound = lifetime.max_ttl_seconds.map(|s| now.plus_seconds(s));
    Ok(match (wanted, bound) {
        (Some(wanted), Some(bound)) => Some(wanted.min(bound)),
        (one, other) => one.or(other),
    })
}

/// A slug of a name: lower-case ASCII letters, digits and single dashes, at most 50 characters.
pub fn slug(name: &str) -> Option<String> {
    let mut slug = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.truncate(grantd_wire::limits::SLUG_CHARS_MAX);
    let slug = slug.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// The `n`th try for a slug: itself, then `-2`, `-3` …, still within the limit.
pub fn slug_variant(slug: &str, n: u32) -> String {
    if n < 2 {
        return slug.to_owned();
    }
    let suffix = format!("-{n}");
    let room = grantd_wire::limits::SLUG_CHARS_MAX - suffix.len();
    format!("{}{suffix}", slug[..slug.len().min(room)].trim_end_matches('-'))
}

/// A text field: bounded, without control characters or outer blanks.
pub fn check_text(field: &str, text: &str, chars_max: usize) -> Result<(), Error> {
    let count = text.chars().count();
    if count == 0 || count > chars_max {
        return Err(Error::impossible(field, &format!("must be 1-{chars_max} characters, is {count}")));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(Error::impossible(field, "must not hold control characters or blanks at its ends"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1_000_000);

    #[test]
    fn a_lifetime_is_the_tighter_of_what_is_asked_and_what_is_allowed() {
        let life = |at, max_ttl_seconds, default_ttl_seconds| {
            expires_at(Lifetime { expires_at: at, max_ttl_seconds, default_ttl_seconds }, NOW).map_err(|e| e.code)
        };
        assert_eq!(life(None, None, None), Ok(None));
        assert_eq!(life(None, Some(10), None), Ok(Some(NOW.plus_seconds(10))));
        assert_eq!(life(None, Some(10), Some(20)), Ok(Some(NOW.plus_seconds(10))));
        assert_eq!(life(Some(NOW.plus_seconds(5)), Some(10), Some(20)), Ok(Some(NOW.plus_seconds(5))));
        assert_eq!(life(Some(NOW), None, None), Err(Code::InvalidValue));
        assert_eq!(life(None, Some(0), None), Err(Code::InvalidValue));
        assert!(life(None, Some(LIFETIME_SECONDS_MAX), None).is_ok());
        assert_eq!(life(None, Some(LIFETIME_SECONDS_MAX + 1), None), Err(Code::InvalidValue));
    }

    #[test]
    fn slugs_are_plain_and_bounded() {
        assert_eq!(slug("  Stripe (live) -- EU! "), Some("stripe-live-eu".to_owned()));
        assert_eq!(slug("日本"), None);
        assert_eq!(slug(&"a".repeat(60)).unwrap().len(), 50);
        assert_eq!(slug_variant("stripe", 1), "stripe");
        assert_eq!(slug_variant("stripe", 2), "stripe-2");
        assert_eq!(slug_variant(&"a".repeat(50), 12).len(), 50);
    }

    #[test]
    fn texts_are_bounded_and_clean() {
        assert!(check_text("name", &"é".repeat(100), 100).is_ok());
        for bad in [&"é".repeat(101)[..], "", " a", "a\n", "a\u{1b}[31m"] {
            assert!(check_text("name", bad, 100).is_err(), "{bad:?}");
        }
    }
}
