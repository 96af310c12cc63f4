//! Every URL, and what calling it needs. One table; nothing else grants access.

use grantd_store::operators::Role;
use grantd_wire::limits;

/// Where apps ask for credentials.
pub const TOKEN_PATH: &str = "/sdk/token";

/// A route of `/sdk`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sdk {
    Token,
    CallReport,
    ScopeMismatch,
    GrantsList,
    GrantRevoke,
    GrantMint,
    SecretGrant,
    ProviderCatalogue,
    ConnectSession,
    ConnectPoll,
    KeySession,
    AuthSession,
    AuthPoll,
    VerifyToken,
    IdentityResolve,
    IdentityAssert,
    Scopes,
    /// Known to the protocol; its part is not built yet.
    Later,
}

/// A route of `/api/v1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    Whoami,
    OrganizationShow,
    OrganizationUpdate,
    OperatorsList,
    OperatorsCreate,
    OperatorsShow,
    OperatorsUpdate,
    OperatorsLoginLink,
    TokensList,
    TokensCreate,
    TokensShow,
    TokensRevoke,
    IdentityKeysList,
    IdentityKeysRotate,
    AppsList,
    AppsCreate,
    AppsShow,
    AppsUpdate,
    AppsArchive,
    AppsUnarchive,
    AppsDelete,
    AppOverview,
    BrandingShow,
    BrandingSet,
    BrandingReset,
    RetentionShow,
    RetentionSet,
    RetentionReset,
    HoldShow,
    HoldSet,
    HoldRelease,
    KeysList,
    KeysMint,
    KeysShow,
    KeysRename,
    KeysRotate,
    KeysRevoke,
    CatalogList,
    CatalogShow,
    TemplatesList,
    TemplatesShow,
    ProvidersList,
    ProvidersCreate,
    ProvidersShow,
    ProvidersUpdate,
    ProvidersDelete,
    IdpsList,
    IdpsCreate,
    IdpsDiscover,
    IdpsShow,
    IdpsUpdate,
    IdpsDelete,
    UsersList,
    UsersShow,
    UsersSuspend,
    UsersResume,
    UsersDeprovision,
    GroupsList,
    GroupsShow,
    ScimShow,
    ScimEnable,
    ScimRotate,
    ScimDisable,
    WebhookShow,
    WebhookEnable,
    WebhookRotate,
    WebhookDisable,
    SecretsList,
    SecretsCreate,
    SecretsShow,
    SecretsRotate,
    SecretsSetHosts,
    SecretsAccess,
    SecretsDelete,
    SecretsTest,
    SecretGrantsList,
    SecretGrantsCreate,
    GrantsList,
    GrantsShow,
    GrantsUpdate,
    GrantsRevoke,
    GrantsRevokeMany,
    ConnectSessionsCreate,
    ConnectSessionsShow,
    EventsList,
    EventsShow,
    EventsExport,
    EventsErase,
    CheckpointsList,
    Overview,
    OrganizationEventsList,
    OrganizationEventsShow,
    OrganizationEventsExport,
    OrganizationEventsErase,
    OrganizationCheckpointsList,
}

/// Which scopes open a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    Nothing,
    All(&'static [&'static str]),
    Any(&'static [&'static str]),
}

/// One row of the `/sdk` table.
#[derive(Clone, Copy, Debug)]
pub struct SdkRoute {
    pub route: Sdk,
    pub method: &'static str,
    /// `{}` stands for one segment.
    pub path: &'static str,
    pub needs: Needs,
    pub body_bytes_max: usize,
    /// A refusal of this route is an event of its own.
    pub releases: bool,
}

const fn sdk(route: Sdk, method: &'static str, path: &'static str, needs: Needs) -> SdkRoute {
    SdkRoute { route, method, path, needs, body_bytes_max: limits::SDK_BODY_BYTES_MAX, releases: false }
}

const AGENTS_READ: Needs = Needs::All(&["agents:read"]);
const AGENT_KEYS: Needs = Needs::Any(&["keys:admin", "agents:admin"]);
const GRANTS_WRITE: Needs = Needs::All(&["grants:write"]);
const PROVIDERS_READ: Needs = Needs::All(&["providers:read"]);
const REPORT: Needs = Needs::Any(&["audit:emit", "tokens:retrieve"]);
const APPROVALS: Needs = Needs::Any(&["approvals:read", "proxy:execute"]);

/// Every method and path of the protocol.
pub const SDK: &[SdkRoute] = &[
    SdkRoute { releases: true, ..sdk(Sdk::Token, "POST", TOKEN_PATH, Needs::All(&["tokens:retrieve"])) },
    SdkRoute {
        body_bytes_max: limits::PROXY_BODY_BYTES_MAX,
        ..sdk(Sdk::Later, "POST", "/sdk/proxy", Needs::All(&["proxy:execute"]))
    },
    SdkRoute {
        body_bytes_max: limits::REPORT_BODY_BYTES_MAX,
        ..sdk(Sdk::CallReport, "POST", "/sdk/oauth/audit/api-call", REPORT)
    },
    sdk(Sdk::ScopeMismatch, "POST", "/sdk/grants/{}/report-scope-mismatch", REPORT),
    sdk(Sdk::GrantsList, "POST", "/sdk/grants/list", Needs::All(&["grants:read"])),
    sdk(Sdk::GrantRevoke, "POST", "/sdk/oauth/grants/{}/revoke", GRANTS_WRITE),
    sdk(Sdk::GrantMint, "POST", "/sdk/grants/{}/mint", GRANTS_WRITE),
    sdk(Sdk::Later, "POST", "/sdk/grants/{}/delegate", GRANTS_WRITE),
    sdk(Sdk::Later, "DELETE", "/sdk/grants/{}/delegations/me", Needs::Nothing),
    sdk(Sdk::Later, "DELETE", "/sdk/grants/{}/delegations/{}", GRANTS_WRITE),
    sdk(Sdk::SecretGrant, "POST", "/sdk/managed-secrets/{}/grants", GRANTS_WRITE),
    sdk(Sdk::ConnectSession, "POST", "/sdk/oauth/connect/session", Needs::All(&["connect:initiate"])),
    sdk(Sdk::ConnectPoll, "POST", "/sdk/oauth/connect/session/poll", Needs::All(&["connect:initiate"])),
    sdk(
        Sdk::KeySession,
        "POST",
        "/sdk/managed-secrets/connect/session",
        Needs::All(&["connect:initiate", "secrets:write"]),
    ),
    sdk(Sdk::AuthSession, "POST", "/sdk/auth/session", Needs::All(&["idp_users:write"])),
    sdk(Sdk::AuthPoll, "POST", "/sdk/auth/poll", Needs::All(&["idp_users:read"])),
    sdk(Sdk::VerifyToken, "POST", "/sdk/auth/verify-token", Needs::All(&["idp_users:read"])),
    sdk(Sdk::IdentityResolve, "POST", "/sdk/identity/resolve", Needs::All(&["identity:resolve"])),
    sdk(Sdk::IdentityAssert, "POST", "/sdk/identity/assert", Needs::All(&["identity:assert"])),
    sdk(Sdk::Later, "GET", "/sdk/approvals/{}", APPROVALS),
    sdk(Sdk::Later, "GET", "/sdk/approvals/{}/result", APPROVALS),
    sdk(Sdk::Later, "POST", "/sdk/agents", Needs::All(&["agents:write"])),
    sdk(Sdk::Later, "GET", "/sdk/agents", AGENTS_READ),
    sdk(Sdk::Later, "GET", "/sdk/agents/me", Needs::Nothing),
    sdk(Sdk::Later, "GET", "/sdk/agents/{}", AGENTS_READ),
    sdk(Sdk::Later, "PATCH", "/sdk/agents/{}", Needs::All(&["agents:write"])),
    sdk(Sdk::Later, "DELETE", "/sdk/agents/{}", Needs::All(&["agents:admin"])),
    sdk(Sdk::Later, "GET", "/sdk/agents/{}/keys", Needs::Any(&["keys:read", "agents:read"])),
    sdk(Sdk::Later, "POST", "/sdk/agents/{}/keys", AGENT_KEYS),
    sdk(Sdk::Later, "PATCH", "/sdk/agents/{}/keys/{}/deprecate", AGENT_KEYS),
    sdk(Sdk::Later, "PATCH", "/sdk/agents/{}/keys/{}/undeprecate", AGENT_KEYS),
    sdk(Sdk::Later, "DELETE", "/sdk/agents/{}/keys/{}", AGENT_KEYS),
    sdk(Sdk::Later, "POST", "/sdk/keys/derive", Needs::All(&["keys:derive"])),
    sdk(Sdk::Later, "POST", "/sdk/keys/{}/rotate", Needs::All(&["keys:admin"])),
    sdk(Sdk::Later, "DELETE", "/sdk/keys/{}", Needs::All(&["keys:admin"])),
    sdk(Sdk::Scopes, "GET", "/sdk/scopes", Needs::Nothing),
    sdk(Sdk::ProviderCatalogue, "GET", "/sdk/oauth/provider-catalog", PROVIDERS_READ),
    sdk(Sdk::Later, "GET", "/sdk/provider-specs", PROVIDERS_READ),
    sdk(Sdk::Later, "GET", "/sdk/provider-specs/{}/{}", PROVIDERS_READ),
    sdk(Sdk::Later, "GET", "/sdk/provider-specs/{}/{}/operations", PROVIDERS_READ),
    sdk(Sdk::Later, "GET", "/sdk/provider-specs/{}/{}/operation", PROVIDERS_READ),
    sdk(Sdk::Later, "POST", "/sdk/spans", Needs::All(&["spans:emit"])),
];

/// One row of the `/api/v1` table.
#[derive(Clone, Copy, Debug)]
pub struct ApiRoute {
    pub route: Api,
    pub method: &'static str,
    pub path: &'static str,
    pub role: Role,
}

const fn api(route: Api, method: &'static str, path: &'static str, role: Role) -> ApiRoute {
    ApiRoute { route, method, path, role }
}

use Role::{Admin, Developer, Viewer};

/// Every route of the management API. What only an admin may set inside a route says so itself.
pub const API: &[ApiRoute] = &[
    api(Api::Whoami, "GET", "/api/v1/whoami", Viewer),
    api(Api::OrganizationShow, "GET", "/api/v1/organization", Viewer),
    api(Api::OrganizationUpdate, "PATCH", "/api/v1/organization", Admin),
    api(Api::OperatorsList, "GET", "/api/v1/operators", Admin),
    api(Api::OperatorsCreate, "POST", "/api/v1/operators", Admin),
    api(Api::OperatorsShow, "GET", "/api/v1/operators/{}", Admin),
    api(Api::OperatorsUpdate, "PATCH", "/api/v1/operators/{}", Admin),
    api(Api::OperatorsLoginLink, "POST", "/api/v1/operators/{}/login-link", Admin),
    api(Api::TokensList, "GET", "/api/v1/tokens", Viewer),
    api(Api::TokensCreate, "POST", "/api/v1/tokens", Developer),
    api(Api::TokensShow, "GET", "/api/v1/tokens/{}", Viewer),
    api(Api::TokensRevoke, "POST", "/api/v1/tokens/{}/revoke", Developer),
    api(Api::IdentityKeysList, "GET", "/api/v1/identity-keys", Viewer),
    api(Api::IdentityKeysRotate, "POST", "/api/v1/identity-keys/rotate", Admin),
    api(Api::AppsList, "GET", "/api/v1/apps", Viewer),
    api(Api::AppsCreate, "POST", "/api/v1/apps", Developer),
    api(Api::AppsShow, "GET", "/api/v1/apps/{}", Viewer),
    api(Api::AppsUpdate, "PATCH", "/api/v1/apps/{}", Developer),
    api(Api::AppsArchive, "POST", "/api/v1/apps/{}/archive", Developer),
    api(Api::AppsUnarchive, "POST", "/api/v1/apps/{}/unarchive", Developer),
    api(Api::AppsDelete, "DELETE", "/api/v1/apps/{}", Admin),
    api(Api::AppOverview, "GET", "/api/v1/apps/{}/overview", Viewer),
    api(Api::BrandingShow, "GET", "/api/v1/apps/{}/branding", Viewer),
    api(Api::BrandingSet, "PATCH", "/api/v1/apps/{}/branding", Developer),
    api(Api::BrandingReset, "DELETE", "/api/v1/apps/{}/branding", Developer),
    api(Api::RetentionShow, "GET", "/api/v1/apps/{}/retention", Viewer),
    api(Api::RetentionSet, "PUT", "/api/v1/apps/{}/retention", Admin),
    api(Api::RetentionReset, "DELETE", "/api/v1/apps/{}/retention", Admin),
    api(Api::HoldShow, "GET", "/api/v1/apps/{}/hold", Viewer),
    api(Api::HoldSet, "PUT", "/api/v1/apps/{}/hold", Admin),
    api(Api::HoldRelease, "DELETE", "/api/v1/apps/{}/hold", Admin),
    api(Api::KeysList, "GET", "/api/v1/apps/{}/keys", Viewer),
    api(Api::KeysMint, "POST", "/api/v1/apps/{}/keys", Developer),
    api(Api::KeysShow, "GET", "/api/v1/apps/{}/keys/{}", Viewer),
    api(Api::KeysRename, "PATCH", "/api/v1/apps/{}/keys/{}", Developer),
    api(Api::KeysRotate, "POST", "/api/v1/apps/{}/keys/{}/rotate", Developer),
    api(Api::KeysRevoke, "POST", "/api/v1/apps/{}/keys/{}/revoke", Developer),
    api(Api::CatalogList, "GET", "/api/v1/provider-catalog", Viewer),
    api(Api::CatalogShow, "GET", "/api/v1/provider-catalog/{}", Viewer),
    api(Api::TemplatesList, "GET", "/api/v1/secret-templates", Viewer),
    api(Api::TemplatesShow, "GET", "/api/v1/secret-templates/{}", Viewer),
    api(Api::ProvidersList, "GET", "/api/v1/apps/{}/providers", Viewer),
    api(Api::ProvidersCreate, "POST", "/api/v1/apps/{}/providers", Developer),
    api(Api::ProvidersShow, "GET", "/api/v1/apps/{}/providers/{}", Viewer),
    api(Api::ProvidersUpdate, "PATCH", "/api/v1/apps/{}/providers/{}", Developer),
    api(Api::ProvidersDelete, "DELETE", "/api/v1/apps/{}/providers/{}", Developer),
    api(Api::IdpsList, "GET", "/api/v1/apps/{}/identity-providers", Viewer),
    api(Api::IdpsCreate, "POST", "/api/v1/apps/{}/identity-providers", Developer),
    api(Api::IdpsDiscover, "POST", "/api/v1/apps/{}/identity-providers/discover", Developer),
    api(Api::IdpsShow, "GET", "/api/v1/apps/{}/identity-providers/{}", Viewer),
    api(Api::IdpsUpdate, "PATCH", "/api/v1/apps/{}/identity-providers/{}", Developer),
    api(Api::IdpsDelete, "DELETE", "/api/v1/apps/{}/identity-providers/{}", Developer),
    api(Api::UsersList, "GET", "/api/v1/apps/{}/users", Viewer),
    api(Api::UsersShow, "GET", "/api/v1/apps/{}/users/{}", Viewer),
    api(Api::UsersSuspend, "POST", "/api/v1/apps/{}/users/{}/suspend", Developer),
    api(Api::UsersResume, "POST", "/api/v1/apps/{}/users/{}/resume", Developer),
    api(Api::UsersDeprovision, "POST", "/api/v1/apps/{}/users/{}/deprovision", Admin),
    api(Api::GroupsList, "GET", "/api/v1/apps/{}/groups", Viewer),
    api(Api::GroupsShow, "GET", "/api/v1/apps/{}/groups/{}", Viewer),
    api(Api::ScimShow, "GET", "/api/v1/apps/{}/identity-providers/{}/scim", Viewer),
    api(Api::ScimEnable, "POST", "/api/v1/apps/{}/identity-providers/{}/scim", Admin),
    api(Api::ScimRotate, "POST", "/api/v1/apps/{}/identity-providers/{}/scim/rotate", Admin),
    api(Api::ScimDisable, "DELETE", "/api/v1/apps/{}/identity-providers/{}/scim", Admin),
    api(Api::WebhookShow, "GET", "/api/v1/apps/{}/identity-providers/{}/webhook", Viewer),
    api(Api::WebhookEnable, "POST", "/api/v1/apps/{}/identity-providers/{}/webhook", Admin),
    api(Api::WebhookRotate, "POST", "/api/v1/apps/{}/identity-providers/{}/webhook/rotate", Admin),
    api(Api::WebhookDisable, "DELETE", "/api/v1/apps/{}/identity-providers/{}/webhook", Admin),
    api(Api::SecretsList, "GET", "/api/v1/apps/{}/managed-secrets", Viewer),
    api(Api::SecretsCreate, "POST", "/api/v1/apps/{}/managed-secrets", Developer),
    api(Api::SecretsShow, "GET", "/api/v1/apps/{}/managed-secrets/{}", Viewer),
    api(Api::SecretsRotate, "POST", "/api/v1/apps/{}/managed-secrets/{}/rotate", Developer),
    api(Api::SecretsSetHosts, "PUT", "/api/v1/apps/{}/managed-secrets/{}/allowed-hosts", Developer),
    api(Api::SecretsTest, "POST", "/api/v1/apps/{}/managed-secrets/{}/test", Developer),
    api(Api::SecretsAccess, "GET", "/api/v1/apps/{}/managed-secrets/{}/access", Viewer),
    api(Api::SecretsDelete, "DELETE", "/api/v1/apps/{}/managed-secrets/{}", Developer),
    api(Api::SecretGrantsList, "GET", "/api/v1/apps/{}/managed-secrets/{}/grants", Viewer),
    api(Api::SecretGrantsCreate, "POST", "/api/v1/apps/{}/managed-secrets/{}/grants", Developer),
    api(Api::GrantsList, "GET", "/api/v1/apps/{}/grants", Viewer),
    api(Api::GrantsShow, "GET", "/api/v1/apps/{}/grants/{}", Viewer),
    api(Api::GrantsUpdate, "PATCH", "/api/v1/apps/{}/grants/{}", Developer),
    api(Api::GrantsRevokeMany, "POST", "/api/v1/apps/{}/grants/revoke", Developer),
    api(Api::GrantsRevoke, "POST", "/api/v1/apps/{}/grants/{}/revoke", Developer),
    api(Api::ConnectSessionsCreate, "POST", "/api/v1/apps/{}/connect-sessions", Developer),
    api(Api::ConnectSessionsShow, "GET", "/api/v1/apps/{}/connect-sessions/{}", Viewer),
    api(Api::EventsList, "GET", "/api/v1/apps/{}/audit/events", Viewer),
    api(Api::EventsShow, "GET", "/api/v1/apps/{}/audit/events/{}", Viewer),
    api(Api::EventsExport, "GET", "/api/v1/apps/{}/audit/export", Viewer),
    api(Api::EventsErase, "POST", "/api/v1/apps/{}/audit/erase", Admin),
    api(Api::CheckpointsList, "GET", "/api/v1/apps/{}/audit/checkpoints", Viewer),
    api(Api::Overview, "GET", "/api/v1/overview", Viewer),
    api(Api::OrganizationEventsList, "GET", "/api/v1/audit/events", Viewer),
    api(Api::OrganizationEventsShow, "GET", "/api/v1/audit/events/{}", Viewer),
    api(Api::OrganizationEventsExport, "GET", "/api/v1/audit/export", Viewer),
    api(Api::OrganizationEventsErase, "POST", "/api/v1/audit/erase", Admin),
    api(Api::OrganizationCheckpointsList, "GET", "/api/v1/audit/checkpoints", Viewer),
];

/// What a method and path lead to.
pub enum Found<R> {
    /// The row, and the segments that stand where its path says `{}`, still encoded.
    Route(R, Vec<String>),
    /// The path is known, the method is another.
    MethodNotAllowed(Vec<&'static str>),
    Unknown,
}

/// Finds the row of a table. Literal segments win over `{}`.
pub fn find<R: Copy>(
    table: &[R],
    parts: impl Fn(&R) -> (&'static str, &'static str),
    method: &str,
    path: &str,
) -> Found<R> {
    let mut best: Option<(usize, R, Vec<String>)> = None;
    let mut methods = Vec::new();
    for row in table {
        let (row_method, row_path) = parts(row);
        let Some(params) = matches(row_path, path) else { continue };
        methods.push(row_method);
        if row_method == method && best.as_ref().is_none_or(|(n, ..)| params.len() < *n) {
            best = Some((params.len(), *row, params));
        }
    }
    match best {
        Some((_, row, params)) => Found::Route(row, params),
        None if methods.is_empty() => Found::Unknown,
        None => Found::MethodNotAllowed(methods),
    }
}

fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    // Every request is held against every row: most fall here, without a look at their segments.
    let Some(literal) = pattern.find('{') else { return (pattern == path).then(Vec::new) };
    if !path.starts_with(&pattern[..literal]) {
        return None;
    }
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    let mut params = Vec::new();
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(params),
            (Some("{}"), Some(segment)) if !segment.is_empty() => params.push(segment.to_owned()),
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdk_route(method: &str, path: &str) -> Found<SdkRoute> {
        find(SDK, |r| (r.method, r.path), method, path)
    }

    #[test]
    fn the_protocol_has_forty_two_routes() {
        let pairs: std::collections::BTreeSet<_> = SDK.iter().map(|r| (r.method, r.path)).collect();
        assert_eq!((SDK.len(), pairs.len()), (42, 42));
    }

    #[test]
    fn every_scope_of_the_tables_is_in_the_catalogue() {
        for route in SDK {
            if let Needs::All(scopes) | Needs::Any(scopes) = route.needs {
                assert!(scopes.iter().all(|s| grantd_wire::scope::Scope::parse(s).is_some()), "{}", route.path);
            }
        }
    }

    #[test]
    fn literal_segments_win_and_unknown_paths_are_told_from_methods() {
        assert!(
            matches!(sdk_route("DELETE", "/sdk/grants/g/delegations/me"), Found::Route(r, p) if r.needs == Needs::Nothing && p == ["g"])
        );
        assert!(
            matches!(sdk_route("DELETE", "/sdk/grants/g/delegations/a"), Found::Route(r, p) if r.needs == GRANTS_WRITE && p == ["g", "a"])
        );
        assert!(
            matches!(sdk_route("POST", "/sdk/managed-secrets/connect/session"), Found::Route(r, _) if r.route == Sdk::KeySession)
        );
        assert!(matches!(sdk_route("GET", "/sdk/token"), Found::MethodNotAllowed(m) if m == ["POST"]));
        for unknown in ["/sdk/token/", "/sdk", "/sdk/", "/sdk/grants//mint", "/SDK/token", "/sdk/agents/a/b"] {
            assert!(matches!(sdk_route("POST", unknown), Found::Unknown), "{unknown}");
        }
    }
}
