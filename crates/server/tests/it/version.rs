//! `ETag` and `If-Match`: a change is made to the state its author has seen, or not at all.

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Server, World, api_request};

on_every_engine! {
    of_two_writers_with_one_tag_one_is_refused,
}

use crate::walk;

in_memory! {
    every_change_can_be_bound_to_what_was_read,
    what_was_made_has_the_tag_it_is_shown_with,
    a_header_that_cannot_be_checked_is_refused,
}

/// Writers at once with the same tag.
const WRITERS: usize = 6;
const ORGANIZATION: &str = "/api/v1/organization";

async fn change(server: &Server, method: &str, path: &str, body: &Value, tag: &str) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.send(api_request(&server.pat, method, path, body).set("if-match", tag)).await
}

async fn tag_of(server: &Server, path: &str) -> String {
    let answer = server.api("GET", path, Value::Null).await;
    answer.ok(200);
    let tag = answer.header("etag").to_owned();
    assert!(tag.len() == 34 && tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag}");
    tag
}

/// A change that looks at `If-Match`.
struct Change {
    method: &'static str,
    /// What is changed, where it is shown.
    object: String,
    /// What the change's path has behind that.
    action: &'static str,
    body: Value,
    /// Whether it only is possible of an archived app.
    of_archived: bool,
}

impl Change {
    fn path(&self) -> String {
        format!("{}{}", self.object, self.action)
    }

    /// Makes it possible, and reads the object's tag.
    async fn prepare(&self, server: &Server) -> String {
        if self.of_archived {
            server.api("POST", &format!("{}/archive", self.object), Value::Null).await.ok(200);
        }
        tag_of(server, &self.object).await
    }
}

/// What a deletion leaves nothing of to be shown.
const GONE: [&str; 3] = ["/managed-secrets/", "/providers/", "/identity-providers/"];

/// Every change there is, in an order in which each of them can be made.
async fn changes(server: &Server, world: &World) -> Vec<Change> {
    let (key, _) = server.key(&world.app, json!({})).await;
    let operator = server.api("POST", "/api/v1/operators", json!({"email": "a@example.com", "role": "viewer"})).await;
    let operator = format!("/api/v1/operators/{}", text(&operator.ok(201), "id"));
    let token = text(&server.api("POST", "/api/v1/tokens", json!({"name": "t"})).await.ok(201), "id");
    let token = format!("/api/v1/tokens/{token}");
    let (app, branding) = (world.path(""), world.path("branding"));
    let (retention, hold) = (world.path("retention"), world.path("hold"));
    let (key, grant) = (world.path(&format!("keys/{key}")), world.path(&format!("grants/{}", world.grant)));
    let secret = world.path(&format!("managed-secrets/{}", world.secret));
    let provider = json!({"provider": "slack", "client_id": "c"});
    server.api("POST", &world.path("providers"), provider).await.ok(201);
    let provider = world.path("providers/slack");
    let idp = world.path(&format!("identity-providers/{}", walk::idp(server, world).await));
    let user = world.path(&format!("users/{}", walk::user(server, world).await));
    let organization = ORGANIZATION.to_owned();
    let hosts = json!({"allowed_hosts": ["api.example.org"]});
    let changes = [
        ("PATCH", &organization, "", json!({"name": "Other"})),
        ("PATCH", &operator, "", json!({"role": "developer"})),
        ("POST", &token, "/revoke", Value::Null),
        ("PATCH", &branding, "", json!({"display_name": "Shop"})),
        ("DELETE", &branding, "", Value::Null),
        ("PUT", &retention, "", json!({"retention": "90d"})),
        ("DELETE", &retention, "", Value::Null),
        ("PUT", &hold, "", json!({"reason": "Case 2026/17"})),
        ("DELETE", &hold, "", Value::Null),
        ("PATCH", &key, "", json!({"name": "other"})),
        ("POST", &key, "/rotate", Value::Null),
        ("POST", &key, "/revoke", Value::Null),
        ("PATCH", &grant, "", json!({"label": "other"})),
        ("PATCH", &provider, "", json!({"scopes": ["chat:write"]})),
        ("DELETE", &provider, "", Value::Null),
        ("POST", &user, "/suspend", Value::Null),
        ("POST", &user, "/resume", Value::Null),
        ("POST", &user, "/deprovision", Value::Null),
        ("PATCH", &idp, "", json!({"name": "Other"})),
        ("DELETE", &idp, "", Value::Null),
        ("PUT", &secret, "/allowed-hosts", hosts),
        ("POST", &secret, "/rotate", json!({"value": "new"})),
        ("POST", &grant, "/revoke", Value::Null),
        ("DELETE", &secret, "", Value::Null),
        ("PATCH", &app, "", json!({"name": "other"})),
        ("POST", &app, "/archive", Value::Null),
        ("POST", &app, "/unarchive", Value::Null),
        ("DELETE", &app, "", Value::Null),
    ];
    let checked = grantd_server::openapi::document()["paths"].to_string().matches("\"If-Match\"").count();
    assert_eq!(changes.len(), checked, "every change that the document says to look at If-Match is here");
    let change = |(method, object, action, body): (&'static str, &String, &'static str, Value)| {
        let of_archived = method == "DELETE" && *object == app;
        Change { method, object: object.clone(), action, body, of_archived }
    };
    changes.map(change).into()
}

async fn every_change_can_be_bound_to_what_was_read(server: Server) {
    let world = server.world().await;
    let foreign = tag_of(&server, ORGANIZATION).await;
    let revoke = world.path(&format!("grants/{}/revoke", world.grant));
    for made in changes(&server, &world).await {
        let Change { method, object, action, body, .. } = &made;
        let (path, tag) = (made.path(), made.prepare(&server).await);
        if object != ORGANIZATION {
            let refused = change(&server, method, &path, body, &foreign).await.refused(Code::VersionConflict);
            assert!(text(&refused, "hint").contains("Read the object again"), "{path}");
        }
        let weak = format!("W/{tag}");
        change(&server, method, &path, body, &weak).await.refused(Code::VersionConflict);
        assert_eq!(tag_of(&server, object).await, tag, "{path}: what is refused changes nothing");
        let answer = change(&server, method, &path, body, &format!("\"other\", {tag}")).await;
        assert!(answer.status < 300, "{method} {path}: {}", answer.text);
        if *method == "DELETE" && GONE.iter().any(|part| object.contains(part)) {
            continue;
        }
        let now = tag_of(&server, object).await;
        assert_ne!(now, tag, "{method} {path}");
        // The rotation of a key answers the new one, a revoke of a grant what it did.
        if !matches!(*action, "/rotate" | "/deprovision") && path != revoke {
            assert_eq!(answer.header("etag"), now, "{method} {path}");
        }
        change(&server, method, &path, body, &tag).await.refused(Code::VersionConflict);
    }
}

async fn what_was_made_has_the_tag_it_is_shown_with(server: Server) {
    let world = server.world().await;
    let (keys, secrets, grants) = (world.path("keys"), world.path("managed-secrets"), world.path("grants"));
    let rotation = world.path(&format!("keys/{}/rotate", world.key_id));
    let secret_grants = world.path(&format!("managed-secrets/{}/grants", world.secret));
    let secret = json!({"name": "Other", "value": "canary-other", "allowed_hosts": ["api.example.com"]});
    let (providers, idps) = (world.path("providers"), world.path("identity-providers"));
    let sessions = world.path("connect-sessions");
    let idp =
        json!({"issuer": "https://id.example.com", "audiences": ["a"], "jwks_url": "https://id.example.com/keys"});
    let provider = json!({"provider": "slack", "client_id": "c", "client_secret": "canary"});
    let made = [
        (&*providers, &*providers, "provider_id", provider),
        (&*idps, &*idps, "id", idp),
        ("/api/v1/apps", "/api/v1/apps", "id", json!({"name": "Made"})),
        ("/api/v1/operators", "/api/v1/operators", "id", json!({"email": "made@example.com", "role": "viewer"})),
        ("/api/v1/tokens", "/api/v1/tokens", "id", json!({"name": "made"})),
        (&keys, &keys, "id", json!({"name": "made"})),
        (&rotation, &keys, "id", json!({})),
        (&secrets, &secrets, "slug", secret),
        (&sessions, &sessions, "id", json!({"allowed_providers": ["slack"]})),
        (&secret_grants, &grants, "grant_id", json!({"principal_type": "system", "label": "made"})),
    ];
    let document = grantd_server::openapi::document();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let creations = operations.filter(|operation| operation["responses"]["201"]["headers"].get("ETag").is_some());
    assert_eq!(made.len(), creations.count(), "every creation that the document knows is here");
    for (n, (path, list, id, body)) in made.iter().enumerate() {
        let send = async |key: Option<String>| {
            let request = api_request(&server.pat, "POST", path, body.to_string());
            let request = key.map_or(request.clone(), |key| request.set("idempotency-key", key));
            server.send(request).await
        };
        let first = send(Some(format!("made-{n}"))).await;
        let object = format!("{list}/{}", text(&first.ok(201), id));
        let tag = tag_of(&server, &object).await;
        assert_eq!(first.header("etag"), tag, "{path}");
        assert_eq!(send(Some(format!("made-{n}"))).await.header("etag"), tag, "{path}: the same answer again");
        if ["/api/v1/apps", "/api/v1/tokens"].contains(path) {
            let unkeyed = send(None).await;
            let object = format!("{list}/{}", text(&unkeyed.ok(201), id));
            assert_eq!(unkeyed.header("etag"), tag_of(&server, &object).await, "{path}");
        }
    }
}

async fn a_header_that_cannot_be_checked_is_refused(server: Server) {
    let world = server.world().await;
    let (path, body) = (world.path(""), json!({"description": "d"}));
    for malformed in ["", ",", "1", "\"open", "*, \"a\"", "\"a\" \"b\"", "w/\"a\""] {
        change(&server, "PATCH", &path, &body, malformed).await.names(Code::InvalidRequest, "If-Match");
    }
    change(&server, "GET", &path, &Value::Null, "*").await.names(Code::InvalidRequest, "If-Match");
    change(&server, "POST", "/api/v1/apps", &json!({"name": "n"}), "*").await.names(Code::InvalidRequest, "If-Match");
    let test = world.path(&format!("managed-secrets/{}/test", world.secret));
    change(&server, "POST", &test, &Value::Null, "*").await.names(Code::InvalidRequest, "If-Match");
    change(&server, "PATCH", &path, &body, "*").await.ok(200);
    let tag = tag_of(&server, &path).await;
    let lines = api_request(&server.pat, "PATCH", &path, body.to_string()).add("if-match", "\"a\"");
    server.send(lines.clone()).await.refused(Code::VersionConflict);
    server.send(lines.add("if-match", tag)).await.ok(200);
}

async fn of_two_writers_with_one_tag_one_is_refused(server: Server) {
    let world = server.world().await;
    let replica = server.another("replica", |_| {}).await;
    for made in changes(&server, &world).await {
        let (method, path, tag) = (made.method, made.path(), made.prepare(&server).await);
        let sent: Vec<_> = (0..WRITERS)
            .map(|n| {
                let server = if n % 2 == 0 { server.clone() } else { replica.clone() };
                let (path, body, tag) = (path.clone(), made.body.clone(), tag.clone());
                tokio::spawn(async move { change(&server, method, &path, &body, &tag).await })
            })
            .collect();
        let mut changed = 0;
        for answer in sent {
            let answer = answer.await.unwrap();
            match answer.status {
                200 | 201 => changed += 1,
                // Lost to another replica at the same moment, or behind too many.
                503 => drop(answer.refused(Code::Busy)),
                // What was deleted meanwhile is not there to be compared.
                404 => assert_eq!(method, "DELETE", "{path}: {}", answer.text),
                409 if made.of_archived => {
                    assert!(answer.text.contains("deleted") || answer.text.contains("version_conflict"));
                }
                _ => drop(answer.refused(Code::VersionConflict)),
            }
        }
        assert_eq!(changed, 1, "{method} {path}: {changed} writers have changed one state");
    }
}
