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
    /// Whether its issuers are of one application alone, so that a token need name no audience.
    owned: Owned,
    /// Hosts of its issuers; a `*` stands for any text. None: it runs anywhere.
    hosts: &'static [&'static str],
    /// Where its maker says what is said of it here, and the day that was read.
    pub source: &'static str,
    pub read_on: &'static str,
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

/// Which issuers are of one application alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owned {
    None,
    All,
    /// Those with something behind this path: without it, one issuer serves everybody.
    Below(&'static str),
}

/// When the pages were read that the facts below come from.
const READ_ON: &str = "2026-11-29";

/// What most of them have in common.
const OIDC: Preset = Preset {
    id: "oidc",
    name: "OpenID Connect",
    issuer: "https://id.example.com",
    audience_help: "the client id of the application that signs users in, for ID tokens; the API's identifier, for access tokens",
    owned: Owned::None,
    hosts: &[],
    source: "https://openid.net/specs/openid-connect-core-1_0.html",
    read_on: READ_ON,
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
        hosts: &["*.auth0.com"],
        source: "https://auth0.com/docs/get-started/applications/signing-algorithms",
        ..OIDC
    },
    Preset {
        id: "clerk",
        name: "Clerk",
        issuer: "https://INSTANCE.clerk.accounts.dev",
        audience_help: "the origins that sessions are made at, such as https://app.example.com; none is needed",
        owned: Owned::All,
        algorithms: &[Algorithm::Rs256],
        audience: "azp",
        groups: Some("/o/id"),
        roles: Some("/o/rol"),
        hosts: &["*.clerk.accounts.dev"],
        source: "https://clerk.com/docs/guides/sessions/session-tokens",
        ..OIDC
    },
    Preset {
        id: "okta",
        name: "Okta",
        issuer: "https://COMPANY.okta.com/oauth2/default",
        audience_help: "the application's client id, for ID tokens; the authorization server's audience, for access tokens",
        algorithms: &[Algorithm::Rs256],
        roles: None,
        hosts: &["*.okta.com", "*.oktapreview.com", "*.okta-emea.com"],
        source: "https://developer.okta.com/docs/guides/customize-tokens-groups-claim/",
        ..OIDC
    },
    Preset {
        id: "workos",
        name: "WorkOS",
        issuer: "https://api.workos.com/user_management/CLIENT_ID",
        audience_help: "none is needed: the issuer holds the client id",
        owned: Owned::Below("/user_management/"),
        algorithms: &[Algorithm::Rs256],
        groups: Some("org_id"),
        roles: Some("role"),
        hosts: &["api.workos.com"],
        source: "https://workos.com/docs/reference/authkit/session-tokens",
        ..OIDC
    },
    Preset {
        id: "keycloak",
        name: "Keycloak",
        issuer: "https://HOST/realms/REALM",
        audience_help: "the client's id, for ID tokens; for access tokens what an audience mapper adds",
        roles: Some("/realm_access/roles"),
        source: "https://www.keycloak.org/nightly/admin-api/protocol-mappers",
        ..OIDC
    },
    Preset {
        id: "entra",
        name: "Microsoft Entra ID",
        issuer: "https://login.microsoftonline.com/TENANT_ID/v2.0",
        audience_help: "the application (client) id",
        algorithms: &[Algorithm::Rs256],
        hosts: &["login.microsoftonline.com"],
        source: "https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference",
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
        hosts: &["cognito-idp.*.amazonaws.com"],
        source: "https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-id-token.html",
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
        hosts: &["accounts.google.com"],
        source: "https://developers.google.com/identity/openid-connect/reference",
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
        hosts: &["securetoken.google.com"],
        source: "https://firebase.google.com/docs/auth/admin/verify-id-tokens",
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
        hosts: &["*.supabase.co"],
        source: "https://supabase.com/docs/guides/auth/jwt-fields",
        ..OIDC
    },
];

impl Preset {
    /// The one that this issuer looks like; none: one cannot tell.
    pub fn of_issuer(issuer: &str) -> Option<&'static Self> {
        let url = Url::parse(issuer).ok()?;
        let host = url.host_str()?;
        let is_of = |pattern: &str| match pattern.split_once('*') {
            Some((start, end)) => {
                host.len() > start.len() + end.len() && host.starts_with(start) && host.ends_with(end)
            }
            None => host == pattern,
        };
        let by_host = PRESETS.iter().find(|preset| preset.hosts.iter().any(|pattern| is_of(pattern)));
        by_host.or_else(|| Self::find("keycloak").filter(|_| url.path().contains("/realms/")))
    }

    /// Whether there are issuers of one application alone.
    pub fn may_own(&self) -> bool {
        self.owned != Owned::None
    }

    /// Whether this issuer is of one application alone, so that a token need name no audience.
    pub fn owns(&self, issuer: &str) -> bool {
        match self.owned {
            Owned::None => false,
            Owned::All => true,
            Owned::Below(path) => {
                Url::parse(issuer).is_ok_and(|url| url.path().strip_prefix(path).is_some_and(|rest| !rest.is_empty()))
            }
        }
    }

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
