//! Every route of both tables: as nobody, as a stranger, with each scope or role too small.

use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::identity::{Group, User, UserStatus};
use grantd_server::routes::{self, Api, ApiRoute, Needs, Sdk, SdkRoute};
use grantd_store::operators::Role;
use grantd_store::{groups, users};
use grantd_wire::Code;
use grantd_wire::ids::{AppId, GroupId, IdentityProviderId, UserId};
use grantd_wire::scope::{self, Scope};
use http::Method;
use serde_json::{Value, json};

use crate::harness::world::{ask, text};
use crate::harness::{Answer, Raw, Server, World, api_request};
use crate::openapi::{operations, pattern};

in_memory! {
    nobody_reaches_a_route_of_the_sdk,
    each_missing_scope_closes_its_route,
    a_wildcard_opens_no_action,
    what_is_not_built_says_so_after_authentication_only,
    every_route_as_another_app,
    unknown_routes_and_methods_are_told_apart,
    nobody_reaches_a_route_of_the_management_api,
    each_role_too_small_is_refused,
    a_token_for_some_apps_sees_no_other,
    objects_of_another_app_are_missing,
    a_token_ends_at_its_very_millisecond,
    an_etag_is_where_the_document_says,
}

on_kept_engines! {
    a_revoked_token_and_a_disabled_operator_are_nobody,
    every_change_of_the_management_api_leaves_an_event,
}

/// The route's path with the world's ids in it.
fn path_of(pattern: &str, world: &World) -> String {
    let id = if pattern.contains("/managed-secrets/") { &world.secret } else { &world.grant };
    pattern.replace("{}", id)
}

fn call(server: &Server, key: &str, route: &SdkRoute, world: &World) -> Raw {
    let body = match route.route {
        Sdk::Token => ask(&world.grant),
        Sdk::CallReport => {
            json!({"grant_id": world.grant, "method": "GET", "url": "https://x.test/", "response_status": 200})
        }
        Sdk::ScopeMismatch => json!({"provider_status_code": 403, "provider_error_code": "insufficient_scope"}),
        Sdk::SecretGrant => json!({"principal": {"type": "system"}}),
        Sdk::GrantMint => json!({"label": "sibling"}),
        Sdk::ConnectPoll => json!({"session_token": "sess_x"}),
        Sdk::AuthPoll => json!({"session_token": "auth_x"}),
        Sdk::VerifyToken => json!({"token": "x"}),
        Sdk::IdentityAssert => json!({"audience": "https://memory.example.com"}),
        _ => json!({}),
    };
    let body = if route.method == "GET" { String::new() } else { body.to_string() };
    server.sign(key).request(route.method, &path_of(route.path, world), body)
}

async fn nobody_reaches_a_route_of_the_sdk(server: Server) {
    let world = server.world().await;
    for route in routes::SDK {
        let raw = call(&server, &world.key, route, &world);
        let answer = server.send(raw.clone().without("x-api-key")).await;
        answer.refused(Code::InvalidKey);
        server.send(raw.without("x-alter-signature")).await.refused(Code::SignatureInvalid);
        // A token of the management API opens nothing here.
        let raw = api_request(&server.pat, route.method, &path_of(route.path, &world), "");
        server.send(raw).await.refused(Code::InvalidKey);
    }
    assert!(server.told(&world, "token.released").await.is_empty());
}

/// Every scope by name but those that cover one of these.
fn all_but(removed: &[&str]) -> Vec<String> {
    let removed: Vec<Scope> = removed.iter().map(|scope| Scope::parse(scope).unwrap()).collect();
    let keeps = |scope: &String| removed.iter().all(|removed| !Scope::parse(scope).unwrap().covers(*removed));
    scope::all().into_iter().filter(keeps).collect()
}

async fn each_missing_scope_closes_its_route(server: Server) {
    let world = server.world().await;
    for route in routes::SDK {
        let (required, any) = match route.needs {
            Needs::Nothing => continue,
            Needs::All(required) => (required, false),
            Needs::Any(required) => (required, true),
        };
        let removals: Vec<Vec<&str>> = match any {
            true => vec![required.to_vec()],
            false => required.iter().map(|scope| vec![*scope]).collect(),
        };
        for removed in removals {
            let have = all_but(&removed);
            let (_, key) = server.key(&world.app, json!({"scopes": have})).await;
            let json = server.send(call(&server, &key, route, &world)).await.refused(Code::InsufficientScope);
            let covered = |wanted: &&str| {
                let wanted = Scope::parse(wanted).unwrap();
                have.iter().any(|scope| Scope::parse(scope).unwrap().covers(wanted))
            };
            let missing: Vec<&str> = required.iter().copied().filter(|scope| !covered(scope)).collect();
            assert_eq!(json["required"], json!(required), "{}", route.path);
            assert_eq!(json["missing"], json!(missing), "{}", route.path);
            assert_eq!(json["granted"], json!(have), "{}", route.path);
            assert_eq!(json["required_any_of"], any, "{}", route.path);
            assert_eq!((&json["scope_version"], &json["current_scope_version"]), (&json!(1), &json!(1)));
            assert_eq!(json["scope_version_mismatch"], false);
            assert!(json["documentation_url"].is_string());
        }
        // With what it names, and nothing else, it opens: for `any`, with each alone.
        let enough: Vec<Vec<&str>> = match any {
            true => required.iter().map(|scope| vec![*scope]).collect(),
            false => vec![required.to_vec()],
        };
        for scopes in enough {
            let key = server.key_with(&world.app, &scopes).await;
            let fresh = World { grant: server.grant(&world, json!({})).await, ..world.clone() };
            let answer = server.send(call(&server, &key, route, &fresh)).await;
            assert_ne!(answer.code(), "insufficient_scope", "{} with {scopes:?}", route.path);
            server.revoke(&world, &fresh.grant).await.ok(200);
        }
    }
}

fn is_action(scope: &&str) -> bool {
    scope::ACTION_VERBS.contains(scope)
}

async fn a_wildcard_opens_no_action(server: Server) {
    let world = server.world().await;
    let wildcards: Vec<String> = scope::RESOURCES.iter().map(|r| format!("{r}:*")).chain(["*".to_owned()]).collect();
    let (_, key) = server.key(&world.app, json!({"scopes": wildcards})).await;
    for route in routes::SDK {
        let closed = match route.needs {
            Needs::Nothing => false,
            Needs::All(scopes) => scopes.iter().any(is_action),
            Needs::Any(scopes) => scopes.iter().all(is_action),
        };
        let answer = server.send(call(&server, &key, route, &world)).await;
        assert_eq!(answer.code() == "insufficient_scope", closed, "{} {}", route.method, route.path);
    }
}

async fn what_is_not_built_says_so_after_authentication_only(server: Server) {
    let world = server.world().await;
    for route in routes::SDK.iter().filter(|route| route.route == Sdk::Later) {
        let raw = call(&server, &world.key, route, &world);
        server.send(raw.clone()).await.refused(Code::FeatureUnavailable);
        server.send(raw.set("x-alter-signature", "0".repeat(64))).await.refused(Code::SignatureInvalid);
    }
}

async fn every_route_as_another_app(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let before = server.trail(&world).await.len();
    for route in routes::SDK {
        // The stranger's own key, the world's ids.
        let answer = server.send(call(&server, &other.key, route, &world)).await;
        match route.route {
            Sdk::Token | Sdk::CallReport | Sdk::ScopeMismatch | Sdk::GrantRevoke | Sdk::GrantMint => {
                answer.refused(Code::GrantNotFound);
            }
            // Slugs are the same in both apps, so this one is asked for by id.
            Sdk::SecretGrant => {
                let path = format!("/sdk/managed-secrets/{}/grants", world.secret_id);
                let raw = server.sign(&other.key).post(&path, &json!({"principal": {"type": "system"}}));
                server.send(raw).await.refused(Code::SecretNotFound);
            }
            Sdk::GrantsList => {
                let list = answer.ok(200);
                assert!(
                    list["grants"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|g| g["managed_secret_id"] != world.secret_id.as_str())
                );
            }
            // Of the stranger's own app, which is registered with no provider.
            Sdk::ConnectSession | Sdk::KeySession | Sdk::AuthSession => drop(answer.refused(Code::InvalidRequest)),
            Sdk::ConnectPoll | Sdk::AuthPoll => assert_eq!(answer.ok(200)["status"], "expired"),
            // As its session.
            Sdk::VerifyToken => drop(answer.refused(Code::JwtValidationError)),
            // It tells of the stranger's own app.
            Sdk::IdentityResolve => assert_eq!(answer.ok(200)["app_id"], other.app),
            Sdk::IdentityAssert => assert_eq!(answer.ok(200)["identity"]["app_id"], other.app),
            Sdk::Scopes | Sdk::ProviderCatalogue => drop(answer.ok(200)),
            Sdk::Later => drop(answer.refused(Code::FeatureUnavailable)),
        }
    }
    server.token(&world).await.ok(200);
    // One release and the export of before: nothing of the stranger's.
    assert_eq!(server.trail(&world).await.len(), before + 2);
}

async fn unknown_routes_and_methods_are_told_apart(server: Server) {
    let world = server.world().await;
    for unknown in [
        "/sdk",
        "/sdk/",
        "/sdk/token/",
        "/sdk//token",
        "/SDK/token",
        "/sdk/nothing",
        "/sdk/agents/a/b/c",
        "/sdk/grants//mint",
        "/",
        "/sdkx",
        "/api",
        "/api/v1",
        "/api/v2/apps",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            server.send(Raw::new(method, unknown, "")).await.refused(Code::UnknownRoute);
        }
        // Whoever asks.
        server.send(server.sign(&world.key).get(unknown)).await.refused(Code::UnknownRoute);
    }
    for unknown in ["/api/v1/", "/api/v1/nothing", "/api/v1/apps/", "/api/v1/apps//keys"] {
        server.send(Raw::new("GET", unknown, "")).await.refused(Code::NotFound);
    }
    let all = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let paths = routes::SDK.iter().map(|r| r.path).chain(routes::API.iter().map(|r| r.path));
    for pattern in paths {
        let taken: Vec<&str> = routes::SDK
            .iter()
            .map(|r| (r.path, r.method))
            .chain(routes::API.iter().map(|r| (r.path, r.method)))
            .filter(|(path, _)| *path == pattern)
            .map(|(_, method)| method)
            .collect();
        let path = path_of(pattern, &world);
        for method in all.iter().filter(|method| !taken.contains(&method.as_str())) {
            // `/sdk/agents/{}` stands for `/sdk/agents/me` as well, and so on: another row may take the method.
            let raw = Raw::new(method.as_str(), &path, "");
            let answer = server.send(raw).await;
            if answer.status != 401 {
                answer.refused(Code::MethodNotAllowed);
                assert!(taken.iter().all(|method| answer.header("allow").contains(method)), "{method} {path}");
            }
        }
    }
}

fn api_body(route: Api) -> Value {
    match route {
        Api::AppsCreate | Api::OrganizationUpdate | Api::KeysMint | Api::KeysRename | Api::TokensCreate => {
            json!({"name": "New"})
        }
        Api::AppsUpdate | Api::BrandingSet | Api::GrantsUpdate | Api::OperatorsUpdate => json!({}),
        Api::OperatorsCreate => json!({"email": "new@example.com", "role": "viewer"}),
        Api::ProvidersCreate => json!({"provider": "github", "client_id": "c", "client_secret": "canary"}),
        Api::ProvidersUpdate | Api::IdpsUpdate => json!({"name": "Other"}),
        Api::IdpsCreate => json!({
            "issuer": "https://id.example.com", "audiences": ["app"], "jwks_url": "https://id.example.com/jwks", "client_secret": "canary",
        }),
        // The address guard lets nothing go there.
        Api::IdpsDiscover => json!({"issuer": "https://127.0.0.1:1"}),
        Api::SecretsCreate => json!({"name": "New", "value": "canary", "allowed_hosts": ["api.example.com"]}),
        Api::ConnectSessionsCreate => json!({"allowed_providers": ["slack"]}),
        Api::RetentionSet => json!({"retention": "90d"}),
        Api::EventsErase | Api::OrganizationEventsErase => {
            json!({"grant": "0199c0de-0000-7000-8000-00000000beef", "reason": "asked for"})
        }
        Api::HoldSet => json!({"reason": "a case"}),
        Api::SecretsRotate => json!({"value": "canary"}),
        Api::SecretsSetHosts => json!({"allowed_hosts": ["api.example.com"]}),
        Api::SecretGrantsCreate => json!({"principal_type": "system"}),
        // Behind the last one: the others are still needed.
        Api::GrantsRevokeMany => json!({"all": true, "cursor": "ffffffff-ffff-7fff-bfff-ffffffffffff"}),
        _ => Value::Null,
    }
}

/// The path of a route: the app, and an object of `objects`.
async fn api_path(server: &Server, route: &ApiRoute, app: &str, objects: &World) -> String {
    if route.route == Api::OrganizationEventsShow {
        let page = server.api("GET", "/api/v1/audit/events?kind=install.created", Value::Null).await.ok(200);
        return route.path.replacen("{}", &text(&page["items"][0], "id"), 1);
    }
    if route.route == Api::CatalogShow {
        return route.path.replacen("{}", "google", 1);
    }
    if route.route == Api::TemplatesShow {
        return route.path.replacen("{}", "stripe", 1);
    }
    match route.route {
        Api::OperatorsShow | Api::OperatorsUpdate | Api::OperatorsLoginLink => {
            return route.path.replacen("{}", &server.operator.to_string(), 1);
        }
        Api::TokensShow | Api::TokensRevoke => {
            let made = server.api("POST", "/api/v1/tokens", json!({"name": "New"})).await.ok(201);
            return route.path.replacen("{}", &text(&made, "id"), 1);
        }
        _ => {}
    }
    let object = match route.route {
        Api::KeysShow | Api::KeysRename | Api::KeysRotate | Api::KeysRevoke => objects.key_id.clone(),
        Api::GrantsShow | Api::GrantsUpdate | Api::GrantsRevoke => objects.grant.clone(),
        Api::ProvidersShow | Api::ProvidersUpdate | Api::ProvidersDelete => provider(server, objects).await,
        Api::ConnectSessionsShow => {
            provider(server, objects).await;
            let body = api_body(Api::ConnectSessionsCreate);
            text(&server.api("POST", &objects.path("connect-sessions"), body).await.ok(201), "id")
        }
        Api::ScimShow | Api::ScimEnable | Api::ScimRotate | Api::ScimDisable => {
            let idp = crate::scim::provider(server, &objects.app, "https://id.example.com").await;
            // On, or to be switched on.
            let method = if route.route == Api::ScimEnable { "DELETE" } else { "POST" };
            server.api(method, &objects.path(&format!("identity-providers/{idp}/scim")), Value::Null).await;
            idp
        }
        Api::WebhookShow | Api::WebhookEnable | Api::WebhookRotate | Api::WebhookDisable => {
            let idp = crate::webhook::provider(server, &objects.app, "auth0").await;
            let method = if route.route == Api::WebhookEnable { "DELETE" } else { "POST" };
            server.api(method, &objects.path(&format!("identity-providers/{idp}/webhook")), Value::Null).await;
            idp
        }
        Api::IdpsShow | Api::IdpsUpdate | Api::IdpsDelete => idp(server, objects).await,
        Api::UsersShow | Api::UsersSuspend | Api::UsersResume | Api::UsersDeprovision => {
            user(server, objects).await.to_string()
        }
        Api::GroupsShow => group(server, objects).await.to_string(),
        Api::EventsShow => text(&server.told(objects, "app.created").await[0], "id"),
        _ => objects.secret_id.clone(),
    };
    if route.route == Api::ConnectSessionsCreate {
        provider(server, objects).await;
    }
    let with_app = route.path.replacen("{}", app, 1);
    with_app.replacen("{}", &object, 1)
}

/// An identity provider of the app's.
pub async fn idp(server: &Server, objects: &World) -> String {
    let issuer = "https://walk.example.com";
    let body = json!({"issuer": issuer, "audiences": ["app"], "jwks_url": "https://walk.example.com/jwks"});
    let made = server.api("POST", &objects.path("identity-providers"), body).await;
    match made.status {
        409 => {
            let page = server.api("GET", &objects.path("identity-providers"), Value::Null).await.ok(200);
            let found = page["items"].as_array().unwrap().iter().find(|item| item["issuer"] == issuer);
            text(found.unwrap(), "id")
        }
        _ => text(&made.ok(201), "id"),
    }
}

/// A user of it, as a first token makes one.
pub async fn user(server: &Server, objects: &World) -> UserId {
    let idp = IdentityProviderId::parse(&idp(server, objects).await).unwrap();
    let (app, now) = (AppId::parse(&objects.app).unwrap(), server.now());
    let id = UserId::from_uuid(new_uuid(&*server.env));
    let user = User {
        id,
        app_id: app,
        idp_id: idp,
        subject: id.to_string(),
        status: UserStatus::Active,
        email: None,
        name: None,
        roles: std::collections::BTreeSet::new(),
        told_at: None,
        told_hash: None,
        last_seen_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    server.store().write(move |tx| users::insert(tx, &user)).await.unwrap();
    id
}

/// A group of it.
pub async fn group(server: &Server, objects: &World) -> GroupId {
    let idp = IdentityProviderId::parse(&idp(server, objects).await).unwrap();
    let (app, now) = (AppId::parse(&objects.app).unwrap(), server.now());
    let id = GroupId::from_uuid(new_uuid(&*server.env));
    let (external_id, name) = (id.to_string(), id.to_string());
    let group = Group { id, app_id: app, idp_id: idp, external_id, name, created_at: now, updated_at: now, version: 1 };
    server.store().write(move |tx| groups::insert(tx, &group)).await.unwrap();
    id
}

/// A provider of the app's.
async fn provider(server: &Server, objects: &World) -> String {
    let body = json!({"provider": "slack", "client_id": "c"});
    let made = server.api("POST", &objects.path("providers"), body).await;
    match made.status {
        409 => text(&server.api("GET", &objects.path("providers/slack"), Value::Null).await.ok(200), "id"),
        _ => text(&made.ok(201), "id"),
    }
}

/// Whether the call was done. The world's secret is of no template, so that a test of it ends with that; its app is not archived,
/// and its key is rotated once only.
fn is_let_in(route: Api, answer: &Answer) -> bool {
    let ends_with = match route {
        Api::SecretsTest => "invalid_value",
        Api::AppsDelete | Api::KeysRotate => "conflict",
        // It comes after the hold.
        Api::EventsErase => "legal_hold",
        _ => "",
    };
    answer.status < 300 || answer.code() == ends_with
}

/// Every route of the management API; what takes an object away comes last.
fn api_routes() -> impl Iterator<Item = &'static ApiRoute> {
    let takes_away = |route: &&ApiRoute| route.method == "DELETE";
    routes::API.iter().filter(move |r| !takes_away(r)).chain(routes::API.iter().filter(takes_away))
}

/// Calls that are no GET and change nothing, with why they leave no event.
const LEAVES_NONE: &[(Api, &str)] = &[
    (Api::IdpsDiscover, "it looks at an issuer, which nothing is sent to but a GET of its public document"),
    (Api::SecretsTest, "the secret of this test is of no template, so nothing is sent; `probe` shows its event"),
];

/// What the call changes, where `api_body` asks for nothing that differs.
fn changing(route: Api, objects: &World) -> Value {
    match route {
        Api::AppsUpdate => json!({"name": "Other"}),
        Api::BrandingSet => json!({"display_name": "Other"}),
        Api::GrantsUpdate => json!({"label": "other"}),
        Api::OperatorsUpdate => json!({"role": "viewer"}),
        Api::GrantsRevokeMany => json!({"all": true}),
        Api::EventsErase => json!({"grant": objects.grant, "reason": "asked for"}),
        Api::SecretsSetHosts => json!({"allowed_hosts": ["other.example.com"]}),
        _ => api_body(route),
    }
}

/// Sees to it that there is something to take back.
async fn prepare(server: &Server, route: Api, objects: &World) {
    let (method, path, body) = match route {
        Api::AppsDelete | Api::AppsUnarchive => ("POST", "archive", Value::Null),
        Api::BrandingReset => ("PATCH", "branding", json!({"display_name": "Other"})),
        Api::RetentionReset => ("PUT", "retention", json!({"retention": "90d"})),
        Api::HoldRelease => ("PUT", "hold", json!({"reason": "a case"})),
        _ => return,
    };
    let answer = server.api(method, &objects.path(path), body).await;
    assert!(answer.status < 300, "{method} {path}: {}", answer.text);
}

async fn every_change_of_the_management_api_leaves_an_event(server: Server) {
    let events = async || server.database.number("SELECT COUNT(*) FROM events").await;
    for route in routes::API.iter().filter(|route| route.method != "GET") {
        let world = server.world().await;
        let mut path = api_path(&server, route, &world.app, &world).await;
        if route.route == Api::OperatorsUpdate {
            let body = json!({"email": "other@example.com", "role": "developer"});
            let made = server.api("POST", "/api/v1/operators", body).await.ok(201);
            path = route.path.replacen("{}", &text(&made, "id"), 1);
        }
        if route.route == Api::UsersResume {
            server.api("POST", &path.replace("/resume", "/suspend"), Value::Null).await.ok(200);
        }
        prepare(&server, route.route, &world).await;
        let mut body = changing(route.route, &world);
        if route.route == Api::OrganizationEventsErase {
            let told = server.api("GET", "/api/v1/audit/events?limit=100", Value::Null).await.ok(200);
            let of_somebody = told["items"].as_array().unwrap().iter().find(|event| event["ip"].is_string());
            body = json!({"event": of_somebody.unwrap()["id"], "reason": "asked for"});
        }
        let before = events().await;
        let answer = server.api(route.method, &path, body).await;
        let after = events().await;
        match LEAVES_NONE.iter().find(|(known, _)| *known == route.route) {
            Some(_) => assert_eq!(after, before, "{} {path}", route.method),
            None => {
                assert!(answer.status < 300, "{} {path}: {} {}", route.method, answer.status, answer.text);
                assert!(after > before, "{} {path} left no event", route.method);
            }
        }
    }
}

async fn an_etag_is_where_the_document_says(server: Server) {
    let document = grantd_server::openapi::document();
    let (mut with, mut without) = (0, 0);
    for route in routes::API {
        let world = server.world().await;
        let path = api_path(&server, route, &world.app, &world).await;
        prepare(&server, route.route, &world).await;
        let answer = server.api(route.method, &path, api_body(route.route)).await;
        if LEAVES_NONE.iter().any(|(known, _)| *known == route.route) && answer.status >= 300 {
            continue;
        }
        assert!(answer.status < 300, "{} {path}: {}", route.method, answer.text);
        let mut told = operations(&document).into_iter();
        let told = told.find(|(method, path, _)| method == route.method && pattern(path) == route.path).unwrap().2;
        let says_so = told["responses"][answer.status.to_string()]["headers"].get("ETag").is_some();
        assert_eq!(answer.headers.get("etag").is_some(), says_so, "{} {}", route.method, route.path);
        (with, without) = (with + i32::from(says_so), without + i32::from(!says_so));
    }
    assert!(with > 40 && without > 30, "{with} with, {without} without");
}

async fn nobody_reaches_a_route_of_the_management_api(server: Server) {
    let world = server.world().await;
    for route in api_routes() {
        let path = api_path(&server, route, &world.app, &world).await;
        let raw = Raw::new(route.method, &path, api_body(route.route).to_string());
        // So many failures in one minute would slow their source down.
        server.advance_ms(1_000);
        server.send(raw.clone()).await.refused(Code::SessionRequired);
        let unknown = format!("grantd_pat_{}", "A".repeat(43));
        for wrong in [
            format!("Bearer {unknown}"),
            format!("Bearer {}", &server.pat[..server.pat.len() - 1]),
            format!("bearer {}", server.pat),
            format!("Bearer  {}", server.pat),
            server.pat.clone(),
            format!("Basic {}", server.pat),
            format!("Bearer {}", world.key),
        ] {
            server.send(raw.clone().set("authorization", wrong)).await.refused(Code::SessionRequired);
        }
        server.send(raw.set("x-api-key", &world.key)).await.refused(Code::SessionRequired);
    }
}

async fn each_role_too_small_is_refused(server: Server) {
    let world = server.world().await;
    let viewer = server.new_pat(Role::Viewer, None, None).await;
    let developer = server.new_pat(Role::Developer, None, None).await;
    for route in api_routes() {
        let path = api_path(&server, route, &world.app, &world).await;
        let body = api_body(route.route);
        for (pat, role) in [(&viewer, Role::Viewer), (&developer, Role::Developer)] {
            let answer = server.api_as(pat, route.method, &path, body.clone()).await;
            match role < route.role {
                true => drop(answer.refused(Code::RoleRequired)),
                false => assert!(is_let_in(route.route, &answer), "{} {path}: {}", route.method, answer.text),
            }
        }
        assert!(route.method == "GET" || route.role > Role::Viewer, "a viewer changes nothing: {}", route.path);
    }
    let who = server.api_as(&viewer, "GET", "/api/v1/whoami", Value::Null).await.ok(200);
    assert_eq!(who["role"], "viewer", "the lower of operator and token");
}

async fn a_token_for_some_apps_sees_no_other(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let only = vec![AppId::parse(&other.app).unwrap()];
    let pat = server.new_pat(Role::Admin, Some(only), None).await;
    for route in api_routes().filter(|route| route.path.starts_with("/api/v1/apps/{}")) {
        let path = api_path(&server, route, &world.app, &world).await;
        server.api_as(&pat, route.method, &path, api_body(route.route)).await.refused(Code::NotFound);
        let path = api_path(&server, route, &other.app, &other).await;
        let answer = server.api_as(&pat, route.method, &path, api_body(route.route)).await;
        assert!(is_let_in(route.route, &answer), "{} {path}: {}", route.method, answer.text);
    }
    let list = async |pat: &str, query: &str| {
        let page = server.api_as(pat, "GET", &format!("/api/v1/apps{query}"), Value::Null).await.ok(200);
        let ids: Vec<String> = page["items"].as_array().unwrap().iter().map(|app| text(app, "id")).collect();
        (page["total"].as_i64().unwrap(), ids)
    };
    assert_eq!(list(&pat, "").await, (1, vec![other.app.clone()]));
    assert_eq!(list(&pat, "?search=oTH").await, (1, vec![other.app.clone()]));
    let name = text(&server.api("GET", &world.path(""), Value::Null).await.ok(200), "name");
    assert_eq!(list(&pat, &format!("?search={name}")).await, (0, vec![]), "there is one, of no business of this token");
    // Several come in the order of the list of all, whatever order the token names them in, and are searched as all are.
    let all = list(&server.pat, "?limit=1000").await.1;
    let turned = all.iter().rev().map(|id| AppId::parse(id).unwrap()).collect();
    let of_each = server.new_pat(Role::Admin, Some(turned), None).await;
    for query in ["?limit=1000", "?search=o", "?search=OTHER", "?limit=1", "?limit=1&offset=1", "?search=nothing"] {
        assert_eq!(list(&of_each, query).await, list(&server.pat, query).await, "{query}");
    }
    server.api_as(&pat, "POST", "/api/v1/apps", json!({"name": "Third"})).await.refused(Code::RoleRequired);
    // What happened outside of its apps is not its business.
    let id = "0199c0de-0000-7000-8000-00000000beef";
    for path in ["/api/v1/audit/events", "/api/v1/audit/export", &format!("/api/v1/audit/events/{id}")] {
        server.api_as(&pat, "GET", path, Value::Null).await.refused(Code::RoleRequired);
    }
}

async fn objects_of_another_app_are_missing(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    for route in routes::API.iter().filter(|route| route.path.matches("{}").count() == 2) {
        let path = api_path(&server, route, &other.app, &world).await;
        let answer = server.api(route.method, &path, api_body(route.route)).await;
        assert_eq!(answer.status, 404, "{} {path}: {}", route.method, answer.text);
        for not_an_id in [world.app.to_uppercase(), "%ff".to_owned(), "a%2Fb".to_owned(), "nothing".to_owned()] {
            let path = route.path.replacen("{}", &other.app, 1).replacen("{}", &not_an_id, 1);
            let answer = server.api(route.method, &path, api_body(route.route)).await;
            assert_eq!(answer.status, 404, "{} {path}: {}", route.method, answer.text);
        }
    }
    server.token(&world).await.ok(200);
}

async fn a_token_ends_at_its_very_millisecond(server: Server) {
    let ends = server.env.now().plus_ms(1_000);
    let pat = server.new_pat(Role::Viewer, None, Some(ends)).await;
    server.advance_ms(999);
    server.api_as(&pat, "GET", "/api/v1/whoami", Value::Null).await.ok(200);
    server.advance_ms(1);
    server.api_as(&pat, "GET", "/api/v1/whoami", Value::Null).await.refused(Code::SessionRequired);
}

async fn a_revoked_token_and_a_disabled_operator_are_nobody(server: Server) {
    let pat = server.new_pat(Role::Viewer, None, None).await;
    let who = || server.api_as(&pat, "GET", "/api/v1/whoami", Value::Null);
    let id = text(&who().await.ok(200), "pat_id");
    server.database.behind_its_back(&format!("UPDATE pats SET revoked_at_ms = 1 WHERE id = '{id}'")).await;
    who().await.refused(Code::SessionRequired);
    server.database.behind_its_back(&format!("UPDATE pats SET revoked_at_ms = NULL WHERE id = '{id}'")).await;
    who().await.ok(200);
    server.database.behind_its_back("UPDATE operators SET disabled_at_ms = 1").await;
    who().await.refused(Code::SessionRequired);
    // A token is never more than its operator.
    server.database.behind_its_back("UPDATE operators SET disabled_at_ms = NULL, role = 'viewer'").await;
    server.api("POST", "/api/v1/apps", json!({"name": "x"})).await.refused(Code::RoleRequired);
    server.database.behind_its_back("UPDATE operators SET role = 'admin'").await;
}
