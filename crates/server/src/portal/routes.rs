//! Every page and form of the portal, and the role it needs; and what the navigation shows. A further page is a row here, an arm in
//! `super::dispatch`, a handler, a context and a template. What it asks of the management API needs the role that says there, too.

use grantd_store::operators::Role;
use grantd_wire::limits;
use serde::Serialize;

/// A page, or what a form does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    Start,
    SignInShow,
    SignIn,
    SignInPassword,
    SignInCode,
    SignInPasskey,
    SsoStart,
    SsoBack,
    SsoConfirm,
    SignOut,
    Theme,
    Language,
    Apps,
    AppNew,
    AppCreate,
    AppHome,
    AppStart,
    AppSettings,
    AppUpdate,
    AppArchive,
    AppUnarchive,
    AppAskDelete,
    AppDelete,
    Branding,
    BrandingSet,
    BrandingPreview,
    Keys,
    KeyNew,
    KeyCreate,
    KeyAskRevoke,
    KeyRevoke,
    Providers,
    ProviderNew,
    ProviderCreate,
    Provider,
    ProviderUpdate,
    ProviderAskDelete,
    ProviderDelete,
    ProviderConnect,
    Connected,
    Secrets,
    SecretCatalogue,
    SecretNew,
    SecretCreate,
    Secret,
    SecretGrant,
    SecretRotate,
    SecretHosts,
    SecretTest,
    SecretAskDelete,
    SecretDelete,
    Grants,
    Grant,
    GrantAskRevoke,
    GrantRevoke,
    GrantReconnect,
    Idps,
    IdpNew,
    IdpCreate,
    Idp,
    IdpUpdate,
    IdpAskDelete,
    IdpDelete,
    IdpScim,
    IdpWebhook,
    Users,
    User,
    UserSuspend,
    UserResume,
    UserAskDeprovision,
    UserDeprovision,
    Audit,
    AuditAskExport,
    AuditExport,
    Event,
    OrganizationAudit,
    OrganizationAskExport,
    OrganizationExport,
    OrganizationEvent,
    AppOverview,
    AppRetention,
    AppHold,
    AppRelease,
    Overview,
    Members,
    MemberNew,
    MemberCreate,
    Member,
    MemberRole,
    MemberLink,
    MemberAskDisable,
    MemberDisable,
    MemberEnable,
    Tokens,
    TokenNew,
    TokenCreate,
    TokenAskRevoke,
    TokenRevoke,
    Settings,
    SettingsSave,
    Sessions,
    SessionEnd,
    Account,
    PasswordSet,
    PasswordRemove,
    TotpBegin,
    TotpNew,
    TotpConfirm,
    TotpCodes,
    TotpRemove,
    PasskeyBegin,
    PasskeyNew,
    PasskeyAdd,
    PasskeyRemove,
    SsoRemove,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Whoever comes, signed in or not.
    Anybody,
    /// Whoever is signed in and has this role, or a greater one.
    Role(Role),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub screen: Screen,
    pub method: &'static str,
    /// `{}` stands for one segment. The first one behind `/portal/apps/` is an app's id.
    pub path: &'static str,
    pub access: Access,
}

impl Row {
    /// Bytes of its form.
    pub const fn bytes_max(&self) -> usize {
        match self.screen {
            // It holds a picture.
            Screen::BrandingSet => limits::LOGO_BYTES_MAX + limits::PAGE_BODY_BYTES_MAX,
            _ => limits::PAGE_BODY_BYTES_MAX,
        }
    }
}

const fn row(screen: Screen, method: &'static str, path: &'static str, access: Access) -> Row {
    Row { screen, method, path, access }
}

const VIEWER: Access = Access::Role(Role::Viewer);
const DEVELOPER: Access = Access::Role(Role::Developer);
const ADMIN: Access = Access::Role(Role::Admin);

/// Every page and form.
pub const PORTAL: &[Row] = &[
    row(Screen::Start, "GET", "/portal", VIEWER),
    row(Screen::SignInShow, "GET", "/portal/sign-in", Access::Anybody),
    row(Screen::SignIn, "POST", "/portal/sign-in", Access::Anybody),
    row(Screen::SignInPassword, "POST", "/portal/sign-in/password", Access::Anybody),
    row(Screen::SignInCode, "POST", "/portal/sign-in/code", Access::Anybody),
    row(Screen::SignInPasskey, "POST", "/portal/sign-in/passkey", Access::Anybody),
    row(Screen::SsoStart, "POST", "/portal/sign-in/sso", Access::Anybody),
    row(Screen::SsoBack, "GET", "/portal/sign-in/sso", Access::Anybody),
    row(Screen::SsoConfirm, "POST", "/portal/sign-in/sso/confirm", VIEWER),
    row(Screen::SignOut, "POST", "/portal/sign-out", VIEWER),
    row(Screen::Theme, "POST", "/portal/theme", Access::Anybody),
    row(Screen::Language, "POST", "/portal/language", Access::Anybody),
    row(Screen::Apps, "GET", "/portal/apps", VIEWER),
    row(Screen::AppNew, "GET", "/portal/apps/new", DEVELOPER),
    row(Screen::AppCreate, "POST", "/portal/apps/new", DEVELOPER),
    row(Screen::AppHome, "GET", "/portal/apps/{}", VIEWER),
    row(Screen::AppStart, "GET", "/portal/apps/{}/start", VIEWER),
    row(Screen::AppSettings, "GET", "/portal/apps/{}/settings", VIEWER),
    row(Screen::AppUpdate, "POST", "/portal/apps/{}/settings", DEVELOPER),
    row(Screen::AppArchive, "POST", "/portal/apps/{}/archive", DEVELOPER),
    row(Screen::AppUnarchive, "POST", "/portal/apps/{}/unarchive", DEVELOPER),
    row(Screen::AppAskDelete, "GET", "/portal/apps/{}/delete", ADMIN),
    row(Screen::AppDelete, "POST", "/portal/apps/{}/delete", ADMIN),
    row(Screen::Branding, "GET", "/portal/apps/{}/branding", VIEWER),
    row(Screen::BrandingSet, "POST", "/portal/apps/{}/branding", DEVELOPER),
    row(Screen::BrandingPreview, "GET", "/portal/apps/{}/branding/preview", VIEWER),
    row(Screen::Keys, "GET", "/portal/apps/{}/keys", VIEWER),
    row(Screen::KeyNew, "GET", "/portal/apps/{}/keys/new", DEVELOPER),
    row(Screen::KeyCreate, "POST", "/portal/apps/{}/keys/new", DEVELOPER),
    row(Screen::KeyAskRevoke, "GET", "/portal/apps/{}/keys/{}/revoke", DEVELOPER),
    row(Screen::KeyRevoke, "POST", "/portal/apps/{}/keys/{}/revoke", DEVELOPER),
    row(Screen::Providers, "GET", "/portal/apps/{}/providers", VIEWER),
    row(Screen::ProviderNew, "GET", "/portal/apps/{}/providers/new/{}", DEVELOPER),
    row(Screen::ProviderCreate, "POST", "/portal/apps/{}/providers/new/{}", DEVELOPER),
    row(Screen::Provider, "GET", "/portal/apps/{}/providers/{}", VIEWER),
    row(Screen::ProviderUpdate, "POST", "/portal/apps/{}/providers/{}", DEVELOPER),
    row(Screen::ProviderAskDelete, "GET", "/portal/apps/{}/providers/{}/delete", DEVELOPER),
    row(Screen::ProviderDelete, "POST", "/portal/apps/{}/providers/{}/delete", DEVELOPER),
    row(Screen::ProviderConnect, "POST", "/portal/apps/{}/providers/{}/connect", DEVELOPER),
    row(Screen::Connected, "GET", "/portal/apps/{}/connected", VIEWER),
    row(Screen::Secrets, "GET", "/portal/apps/{}/secrets", VIEWER),
    row(Screen::SecretCatalogue, "GET", "/portal/apps/{}/secrets/new", DEVELOPER),
    row(Screen::SecretNew, "GET", "/portal/apps/{}/secrets/new/{}", DEVELOPER),
    row(Screen::SecretCreate, "POST", "/portal/apps/{}/secrets/new/{}", DEVELOPER),
    row(Screen::Secret, "GET", "/portal/apps/{}/secrets/{}", VIEWER),
    row(Screen::SecretGrant, "POST", "/portal/apps/{}/secrets/{}/grants", DEVELOPER),
    row(Screen::SecretRotate, "POST", "/portal/apps/{}/secrets/{}/rotate", DEVELOPER),
    row(Screen::SecretHosts, "POST", "/portal/apps/{}/secrets/{}/hosts", DEVELOPER),
    row(Screen::SecretTest, "POST", "/portal/apps/{}/secrets/{}/test", DEVELOPER),
    row(Screen::SecretAskDelete, "GET", "/portal/apps/{}/secrets/{}/delete", DEVELOPER),
    row(Screen::SecretDelete, "POST", "/portal/apps/{}/secrets/{}/delete", DEVELOPER),
    row(Screen::Grants, "GET", "/portal/apps/{}/grants", VIEWER),
    row(Screen::Grant, "GET", "/portal/apps/{}/grants/{}", VIEWER),
    row(Screen::GrantAskRevoke, "GET", "/portal/apps/{}/grants/{}/revoke", DEVELOPER),
    row(Screen::GrantRevoke, "POST", "/portal/apps/{}/grants/{}/revoke", DEVELOPER),
    row(Screen::GrantReconnect, "POST", "/portal/apps/{}/grants/{}/reconnect", DEVELOPER),
    row(Screen::Idps, "GET", "/portal/apps/{}/identity", VIEWER),
    row(Screen::IdpNew, "GET", "/portal/apps/{}/identity/new/{}", DEVELOPER),
    row(Screen::IdpCreate, "POST", "/portal/apps/{}/identity/new/{}", DEVELOPER),
    row(Screen::Idp, "GET", "/portal/apps/{}/identity/{}", VIEWER),
    row(Screen::IdpUpdate, "POST", "/portal/apps/{}/identity/{}", DEVELOPER),
    row(Screen::IdpAskDelete, "GET", "/portal/apps/{}/identity/{}/delete", DEVELOPER),
    row(Screen::IdpDelete, "POST", "/portal/apps/{}/identity/{}/delete", DEVELOPER),
    row(Screen::IdpScim, "POST", "/portal/apps/{}/identity/{}/scim", ADMIN),
    row(Screen::IdpWebhook, "POST", "/portal/apps/{}/identity/{}/webhook", ADMIN),
    row(Screen::Users, "GET", "/portal/apps/{}/users", VIEWER),
    row(Screen::User, "GET", "/portal/apps/{}/users/{}", VIEWER),
    row(Screen::UserSuspend, "POST", "/portal/apps/{}/users/{}/suspend", DEVELOPER),
    row(Screen::UserResume, "POST", "/portal/apps/{}/users/{}/resume", DEVELOPER),
    row(Screen::UserAskDeprovision, "GET", "/portal/apps/{}/users/{}/deprovision", ADMIN),
    row(Screen::UserDeprovision, "POST", "/portal/apps/{}/users/{}/deprovision", ADMIN),
    row(Screen::Audit, "GET", "/portal/apps/{}/audit", VIEWER),
    row(Screen::AuditAskExport, "GET", "/portal/apps/{}/audit/export", VIEWER),
    row(Screen::AuditExport, "POST", "/portal/apps/{}/audit/export", VIEWER),
    row(Screen::Event, "GET", "/portal/apps/{}/audit/{}", VIEWER),
    row(Screen::OrganizationAudit, "GET", "/portal/audit", VIEWER),
    row(Screen::OrganizationAskExport, "GET", "/portal/audit/export", VIEWER),
    row(Screen::OrganizationExport, "POST", "/portal/audit/export", VIEWER),
    row(Screen::OrganizationEvent, "GET", "/portal/audit/{}", VIEWER),
    row(Screen::AppOverview, "GET", "/portal/apps/{}/overview", VIEWER),
    row(Screen::AppRetention, "POST", "/portal/apps/{}/settings/retention", ADMIN),
    row(Screen::AppHold, "POST", "/portal/apps/{}/settings/hold", ADMIN),
    row(Screen::AppRelease, "POST", "/portal/apps/{}/settings/release", ADMIN),
    row(Screen::Overview, "GET", "/portal/overview", VIEWER),
    row(Screen::Members, "GET", "/portal/members", ADMIN),
    row(Screen::MemberNew, "GET", "/portal/members/new", ADMIN),
    row(Screen::MemberCreate, "POST", "/portal/members/new", ADMIN),
    row(Screen::Member, "GET", "/portal/members/{}", ADMIN),
    row(Screen::MemberRole, "POST", "/portal/members/{}", ADMIN),
    row(Screen::MemberLink, "POST", "/portal/members/{}/link", ADMIN),
    row(Screen::MemberAskDisable, "GET", "/portal/members/{}/disable", ADMIN),
    row(Screen::MemberDisable, "POST", "/portal/members/{}/disable", ADMIN),
    row(Screen::MemberEnable, "POST", "/portal/members/{}/enable", ADMIN),
    row(Screen::Tokens, "GET", "/portal/tokens", VIEWER),
    row(Screen::TokenNew, "GET", "/portal/tokens/new", DEVELOPER),
    row(Screen::TokenCreate, "POST", "/portal/tokens/new", DEVELOPER),
    row(Screen::TokenAskRevoke, "GET", "/portal/tokens/{}/revoke", DEVELOPER),
    row(Screen::TokenRevoke, "POST", "/portal/tokens/{}/revoke", DEVELOPER),
    row(Screen::Settings, "GET", "/portal/settings", VIEWER),
    row(Screen::SettingsSave, "POST", "/portal/settings", ADMIN),
    row(Screen::Sessions, "GET", "/portal/sessions", VIEWER),
    row(Screen::SessionEnd, "POST", "/portal/sessions/{}/end", VIEWER),
    row(Screen::Account, "GET", "/portal/account", VIEWER),
    row(Screen::PasswordSet, "POST", "/portal/account/password", VIEWER),
    row(Screen::PasswordRemove, "POST", "/portal/account/password/remove", VIEWER),
    row(Screen::TotpBegin, "POST", "/portal/account/authenticator/new", VIEWER),
    row(Screen::TotpNew, "GET", "/portal/account/authenticator", VIEWER),
    row(Screen::TotpConfirm, "POST", "/portal/account/authenticator", VIEWER),
    row(Screen::TotpCodes, "POST", "/portal/account/authenticator/codes", VIEWER),
    row(Screen::TotpRemove, "POST", "/portal/account/authenticator/remove", VIEWER),
    row(Screen::PasskeyBegin, "POST", "/portal/account/passkeys/new", VIEWER),
    row(Screen::PasskeyNew, "GET", "/portal/account/passkeys/new", VIEWER),
    row(Screen::PasskeyAdd, "POST", "/portal/account/passkeys", VIEWER),
    row(Screen::PasskeyRemove, "POST", "/portal/account/passkeys/{}/remove", VIEWER),
    row(Screen::SsoRemove, "POST", "/portal/account/sso/remove", VIEWER),
];

/// A place in the navigation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Place {
    /// Names it; its label is the sentence `portal.nav.KEY`.
    pub key: &'static str,
    pub icon: &'static str,
    /// Under the base; of an app, behind its address.
    pub path: &'static str,
    /// Only an admin gets there.
    pub is_for_admins: bool,
}

const fn place(key: &'static str, icon: &'static str, path: &'static str) -> Place {
    Place { key, icon, path, is_for_admins: false }
}

/// Places of the organization.
pub const PLACES: &[Place] = &[
    place("overview", "chart", "/portal/overview"),
    place("apps", "apps", "/portal/apps"),
    Place { is_for_admins: true, ..place("members", "users", "/portal/members") },
    place("tokens", "key", "/portal/tokens"),
    place("organization_audit", "audit", "/portal/audit"),
    place("settings", "gear", "/portal/settings"),
    place("sessions", "terminal", "/portal/sessions"),
];

/// Places of an app.
pub const APP_PLACES: &[Place] = &[
    place("home", "home", ""),
    place("app_overview", "chart", "/overview"),
    place("start", "book", "/start"),
    place("keys", "key", "/keys"),
    place("providers", "plug", "/providers"),
    place("secrets", "lock", "/secrets"),
    place("grants", "grant", "/grants"),
    place("users", "users", "/users"),
    place("identity", "id", "/identity"),
    place("audit", "audit", "/audit"),
    place("branding", "brush", "/branding"),
    place("app_settings", "gear", "/settings"),
];

/// What a page says at its top when a form of another one has just been done: names of sentences in `portal.done`.
pub const DONE: &[&str] = &[
    "app_created",
    "session_ended",
    "key_revoked",
    "secret_created",
    "grant_created",
    "grant_revoked",
    "password_set",
    "password_removed",
    "provider_created",
    "provider_updated",
    "provider_deleted",
    "connected",
    "idp_created",
    "idp_updated",
    "idp_deleted",
    "scim_disabled",
    "webhook_enabled",
    "webhook_disabled",
    "user_suspended",
    "user_resumed",
    "user_deprovisioned",
    "app_updated",
    "app_archived",
    "app_unarchived",
    "app_deleted",
    "branding_set",
    "secret_rotated",
    "secret_hosts_set",
    "secret_deleted",
    "totp_removed",
    "passkey_added",
    "passkey_removed",
    "sso_removed",
    "role_changed",
    "member_invited",
    "member_disabled",
    "member_enabled",
    "token_revoked",
    "settings_saved",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_navigation_is_a_page() {
        let is_page = |path: &str| PORTAL.iter().any(|row| row.method == "GET" && row.path == path);
        assert!(PLACES.iter().all(|place| is_page(place.path)));
        let admins = |row: &Row| row.method == "GET" && row.access == ADMIN;
        let is_admins = |place: &Place| PORTAL.iter().any(|row| row.path == place.path && admins(row));
        assert!(
            PLACES.iter().all(|place| place.is_for_admins == is_admins(place)),
            "who may not go there is not led there"
        );
        assert!(APP_PLACES.iter().all(|place| is_page(&format!("/portal/apps/{{}}{}", place.path))));
    }

    #[test]
    fn rows_are_told_apart_and_only_signing_in_is_open() {
        let pairs: std::collections::BTreeSet<_> = PORTAL.iter().map(|row| (row.method, row.path)).collect();
        assert_eq!(pairs.len(), PORTAL.len());
        let mut open = PORTAL.iter().filter(|row| row.access == Access::Anybody).map(|row| row.path);
        assert!(open.all(|path| {
            path.starts_with("/portal/sign-in") || ["/portal/theme", "/portal/language"].contains(&path)
        }));
        assert!(PORTAL.iter().all(|row| matches!(row.method, "GET" | "POST")), "browsers send nothing else");
    }
}
