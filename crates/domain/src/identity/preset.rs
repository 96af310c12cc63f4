//! What is known of the usual identity providers: how their tokens are signed, and which claims say what. Anything of it can be said
//! otherwise when one is registered.

use grantd_wire::limits::ISSUER_CHARS_MAX;
use url::Url;

use super::{Algorithm, ClaimMapping};

/// A kind of identity provider.
#[derive(PartialEq, Eq, Debug)]
pub struct Preset {
    pub id: &'static str,
    pub name: &'static str,
    /// What its issuers look like.
    pub issuer: &'static str,
    /// What a token's audience is there.
    pub audience_help: &'static str,
    /// Its issuer is of one application alone, so a token need name no audience.
    pub owns_issuer: bool,
    pub algorithms: &'static [Algorithm],
    subject: &'static str,
    audience: &'static str,
    email: Option<&'static str>,
    display_name: Option<&'static str>,
    groups: Option<&'static str>,
    roles: Option<&'static str>,
    /// Asked for when a user signs in.
    pub scopes: &'static [&'static str],
}

/// What most of them have in common.
const OIDC: Preset = Preset {
    id: "oidc",
    name: "OpenID Connect",
    issuer: "https://id.example.com",
    audience_help: "the client id of the application that signs users in, for ID tokens; the API's identifier, for access tokens",
    owns_issuer: false,
    algorithms: &[Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
    subject: "sub",
    audience: "aud",
    email: Some("email"),
    display_name: Some("name"),
    groups: Some("groups"),
    roles: Some("roles"),
    scopes: &["openid", "profile", "email"],
};

/// Those that can be named.
pub const PRESETS: &[Preset] = &[
    OIDC,
    Preset {
        id: "auth0",
        name: "Auth0",
        issuer: "https://TENANT.eu.auth0.com/",
        audience_help: "the application's client id, for ID tokens; the API's identifier, for access tokens",
        algorithms: &[Algorithm::Rs256, Algorithm::Ps256],
        groups: None,
        roles: None,
        ..OIDC
    },
    Preset {
        id: "clerk",
        name: "Clerk",
        issuer: "https://INSTANCE.clerk.accounts.dev",
        audience_help: "the origins that sessions are made at, such as https://app.example.com; none is needed",
        owns_issuer: true,
        algorithms: &[Algorithm::Rs256],
        audience: "azp",
        groups: Some("/o/id"),
        roles: Some("/o/rol"),
        ..OIDC
    },
    Preset {
        id: "okta",
        name: "Okta",
        issuer: "https://COMPANY.okta.com/oauth2/default",
        audience_help: "the application's client id, for ID tokens; the authorization server's audience, for access tokens",
        algorithms: &[Algorithm::Rs256],
        roles: None,
        ..OIDC
    },
    Preset {
        id: "workos",
        name: "WorkOS",
        issuer: "https://api.workos.com/user_management/CLIENT_ID",
        audience_help: "none is needed: the issuer holds the client id",
        owns_issuer: true,
        algorithms: &[Algorithm::Rs256],
        groups: Some("org_id"),
        roles: Some("role"),
        ..OIDC
    },
    Preset {
        id: "keycloak",
        name: "Keycloak",
        issuer: "https://HOST/realms/REALM",
        audience_help: "the client's id, for ID tokens; for access tokens what an audience mapper adds",
        roles: Some("/realm_access/roles"),
        ..OIDC
    },
    Preset {
        id: "entra",
        name: "Microsoft Entra ID",
        issuer: "https://login.microsoftonline.com/TENANT_ID/v2.0",
        audience_help: "the application (client) id",
        algorithms: &[Algorithm::Rs256],
        ..OIDC
    },
    Preset {
        id: "cognito",
        name: "Amazon Cognito",
        issuer: "https://cognito-idp.REGION.amazonaws.com/POOL_ID",
        audience_help: "the app client's id; for access tokens say `client_id` as the claim of the audience",
        algorithms: &[Algorithm::Rs256],
        groups: Some("cognito:groups"),
        roles: Some("cognito:roles"),
        ..OIDC
    },
    Preset {
        id: "google",
        name: "Google",
        issuer: "https://accounts.google.com",
        audience_help: "the OAuth client's id, which ends with .apps.googleusercontent.com",
        algorithms: &[Algorithm::Rs256],
        groups: None,
        roles: None,
        ..OIDC
    },
    Preset {
        id: "firebase",
        name: "Firebase Authentication",
        issuer: "https://securetoken.google.com/PROJECT_ID",
        audience_help: "the project's id",
        algorithms: &[Algorithm::Rs256],
        groups: None,
        roles: None,
        ..OIDC
    },
    Preset {
        id: "supabase",
        name: "Supabase Auth",
        issuer: "https://PROJECT.supabase.co/auth/v1",
        audience_help: "authenticated",
        algorithms: &[Algorithm::Es256, Algorithm::Rs256],
        display_name: Some("/user_metadata/full_name"),
        groups: None,
        roles: Some("role"),
        ..OIDC
    },
];

impl Preset {
    /// The one with this id.
    pub fn find(id: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.id == id)
    }

    /// Which claims say what there.
    pub fn claims(&self) -> ClaimMapping {
        let text = |name: Option<&str>| name.map(str::to_owned);
        ClaimMapping {
            subject: self.subject.to_owned(),
            audience: self.audience.to_owned(),
            email: text(self.email),
            name: text(self.display_name),
            groups: text(self.groups),
            roles: text(self.roles),
        }
    }
}

/// Why a text is no issuer, or no endpoint. Words that follow its name.
pub fn check_url(text: &str, is_allowed: impl Fn(&str) -> bool) -> Result<(), &'static str> {
    if text.chars().count() > ISSUER_CHARS_MAX {
        return Err("has more than 2048 characters");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    match url.scheme() {
        _ if !is_plain => Err("must have neither user info nor a fragment"),
        "https" => Ok(()),
        "http" if is_allowed(text) => Ok(()),
        _ => Err("must be https, or a host and port that outbound.allow names"),
    }
}
