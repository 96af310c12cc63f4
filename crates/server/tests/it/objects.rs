//! Apps, keys and secrets come to an end: at once, everywhere, and with their events.

use grantd_domain::seal::DATA_KEY_LIFE_MS;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Server, World};

on_kept_engines! {
    an_archived_app_answers_nobody_until_it_is_taken_back,
    a_deleted_app_leaves_its_trail_and_nothing_else,
    a_rotated_key_ends_with_its_grace,
    a_deleted_secret_takes_its_grants_and_its_value_with_it,
}

in_memory! {
    moves_that_no_app_can_make_are_refused,
    a_key_is_rotated_once_and_within_bounds,
    keys_are_listed_by_what_became_of_them,
    a_key_is_called_something_else,
    access_tells_who_can_use_a_secret_now,
    the_end_of_a_grant_can_be_taken_away,
    a_secret_without_a_grant_can_be_deleted_with_its_value,
}

async fn post(server: &Server, world: &World, rest: &str, body: Value) -> Answer {
    server.api("POST", &world.path(rest), body).await
}

async fn delete(server: &Server, path: &str) -> Answer {
    server.api("DELETE", path, Value::Null).await
}

async fn an_archived_app_answers_nobody_until_it_is_taken_back(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let replica = server.another("replica", |_| {}).await;
    // Both remember the key and the grant.
    server.token(&world).await.ok(200);
    replica.token(&world).await.ok(200);
    let archived = post(&server, &world, "archive", Value::Null).await.ok(200);
    assert_eq!(archived["state"], "archived");
    for process in [&server, &replica] {
        process.token(&world).await.refused(Code::KeyNotActive);
        process.token(&other).await.ok(200);
    }
    assert_eq!(post(&server, &world, "archive", Value::Null).await.ok(200), archived, "once more changes nothing");
    post(&server, &world, "keys", json!({"name": "n"})).await.refused(Code::Conflict);
    assert_eq!(post(&server, &world, "unarchive", Value::Null).await.ok(200)["state"], "active");
    for process in [&server, &replica] {
        process.token(&world).await.ok(200);
    }
    for (kind, states) in [("app.archived", ["active", "archived"]), ("app.unarchived", ["archived", "active"])] {
        let told = server.told(&world, kind).await;
        assert_eq!(told.len(), 1, "{kind}");
        assert_eq!(told[0]["changed"]["state"], json!(states));
        assert_eq!(told[0]["actor"]["type"], "operator");
    }
}

async fn data_keys(server: &Server, app: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM data_keys WHERE app_id = '{app}'");
    server.database.number(&sql).await
}

async fn a_deleted_app_leaves_its_trail_and_nothing_else(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let replica = server.another("replica", |_| {}).await;
    replica.token(&world).await.ok(200);
    assert!(data_keys(&server, &world.app).await > 0);
    post(&server, &world, "archive", Value::Null).await.ok(200);
    let deleted = delete(&server, &world.path("")).await.ok(200);
    assert_eq!(deleted["state"], "deleted");
    assert_eq!((data_keys(&server, &world.app).await, data_keys(&server, &other.app).await), (0, 1));
    for process in [&server, &replica] {
        process.token(&world).await.refused(Code::KeyNotActive);
        process.token(&other).await.ok(200);
        // Nothing is sealed for it again, in whichever process, however long ago its key was made.
        let secret = json!({"name": "New", "value": "canary", "allowed_hosts": ["api.example.com"]});
        process.api("POST", &world.path("managed-secrets"), secret).await.refused(Code::Conflict);
    }
    server.advance_ms(DATA_KEY_LIFE_MS);
    server.rotate(&world, "canary").await.refused(Code::Conflict);
    post(&server, &world, "unarchive", Value::Null).await.refused(Code::Conflict);
    server.api("PATCH", &world.path(""), json!({"name": "New"})).await.refused(Code::Conflict);
    assert_eq!(delete(&server, &world.path("")).await.ok(200), deleted, "once more changes nothing");
    assert_eq!(data_keys(&server, &world.app).await, 0);
    // Its past can be read, listed and exported.
    assert_eq!(server.told(&world, "app.deleted").await.len(), 1);
    assert!(server.trail(&world).await.len() > 3);
    server.api("GET", &world.path("managed-secrets"), Value::Null).await.ok(200);
    // What cannot be opened any more is no finding of `doctor`.
    let sealed = grantd_server::sealed::check(server.store(), &crate::harness::root()).await.unwrap();
    assert_eq!((sealed.opened, sealed.closed.count), (1, 0));
}

async fn moves_that_no_app_can_make_are_refused(server: Server) {
    let world = server.world().await;
    delete(&server, &world.path("")).await.refused(Code::Conflict);
    server.token(&world).await.ok(200);
    assert_eq!(post(&server, &world, "unarchive", Value::Null).await.ok(200)["version"], 1);
    assert!(server.told(&world, "app.unarchived").await.is_empty());
    let developer = server.new_pat(grantd_store::operators::Role::Developer, None, None).await;
    server.api_as(&developer, "POST", &world.path("archive"), Value::Null).await.ok(200);
    server.api_as(&developer, "DELETE", &world.path(""), Value::Null).await.refused(Code::RoleRequired);
}

async fn a_rotated_key_ends_with_its_grace(server: Server) {
    let world = server.world().await;
    let nets = json!(["198.51.100.0/24", "203.0.113.0/24"]);
    let more = json!({"scopes": ["tokens:retrieve"], "cidr_allowlist": nets, "expires_in_seconds": 864_000});
    let (id, key) = server.key(&world.app, more).await;
    let replica = server.another("replica", |_| {}).await;
    let old = world.with_key(&key);
    let ask = |process: Server, world: World| async move {
        process.send(process.token_request(&world).from("198.51.100.7")).await
    };
    ask(replica.clone(), old.clone()).await.ok(200);
    server.advance_ms(1_000);
    let path = format!("keys/{id}/rotate");
    let rotated = post(&server, &world, &path, json!({"grace_seconds": 60})).await.ok(201);
    let new = world.with_key(&text(&rotated, "api_key"));
    assert_ne!(new.key, old.key);
    assert_eq!((&rotated["predecessor_id"], &rotated["name"]), (&json!(id), &json!("Backend")));
    assert_eq!((&rotated["scopes"], &rotated["cidr_allowlist"]), (&json!(["tokens:retrieve"]), &nets));
    let shown = server.api("GET", &world.path(&format!("keys/{id}")), Value::Null).await.ok(200);
    assert_eq!((&shown["status"], &shown["successor_id"]), (&json!("in_grace"), &rotated["id"]));
    assert_eq!(shown["grace_until"], rotated["predecessor_grace_until"]);
    assert!(shown.get("api_key").is_none());
    let ends = |key: &Value| grantd_wire::TimeMs::parse(key["expires_at"].as_str().unwrap()).unwrap();
    assert_eq!(ends(&rotated).since(ends(&shown)), 1_000, "it lives as long as the old one would have");
    for process in [&server, &replica] {
        ask(process.clone(), old.clone()).await.ok(200);
        ask(process.clone(), new.clone()).await.ok(200);
    }
    server.advance_ms(59_999);
    ask(replica.clone(), old.clone()).await.ok(200);
    server.advance_ms(1);
    for process in [&server, &replica] {
        ask(process.clone(), old.clone()).await.refused(Code::KeyRotatedGraceExpired);
        ask(process.clone(), new.clone()).await.ok(200);
    }
    // Without grace it ends at once, also where it is remembered.
    let second = text(&rotated, "id");
    let body = json!({"grace_seconds": 0});
    let third = post(&server, &world, &format!("keys/{second}/rotate"), body).await.ok(201);
    for process in [&server, &replica] {
        ask(process.clone(), new.clone()).await.refused(Code::KeyRotatedGraceExpired);
        ask(process.clone(), world.with_key(&text(&third, "api_key"))).await.ok(200);
    }
    let told = server.told(&world, "key.rotated").await;
    assert_eq!((told.len(), &told[0]["key_id"]), (2, &json!(id)));
    assert_eq!(told[0]["changed"]["successor_id"], json!([null, second]));
    assert_eq!(server.told(&world, "key.minted").await.len(), 4);
}

async fn a_key_is_rotated_once_and_within_bounds(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = format!("keys/{}/rotate", world.key_id);
    for seconds in [-1, limits::KEY_GRACE_SECONDS_MAX + 1] {
        let answer = post(&server, &world, &path, json!({"grace_seconds": seconds})).await;
        answer.names(Code::InvalidValue, "grace_seconds");
    }
    post(&server, &other, &path, Value::Null).await.refused(Code::NotFound);
    server.token(&world).await.ok(200);
    let rotated = post(&server, &world, &path, json!({"grace_seconds": limits::KEY_GRACE_SECONDS_MAX})).await.ok(201);
    let ends = grantd_wire::TimeMs::parse(&text(&rotated, "predecessor_grace_until")).unwrap();
    assert_eq!(ends.since(server.now()), limits::KEY_GRACE_SECONDS_MAX * 1000);
    post(&server, &world, &path, Value::Null).await.refused(Code::Conflict);
    // Seven days, when nothing is said.
    let again = post(&server, &world, &format!("keys/{}/rotate", text(&rotated, "id")), Value::Null).await.ok(201);
    let ends = grantd_wire::TimeMs::parse(&text(&again, "predecessor_grace_until")).unwrap();
    assert_eq!(ends.since(server.now()), 7 * 86_400_000);
    let last = text(&again, "id");
    post(&server, &world, &format!("keys/{last}/revoke"), Value::Null).await.ok(200);
    post(&server, &world, &format!("keys/{last}/rotate"), Value::Null).await.refused(Code::Conflict);
}

async fn keys_are_listed_by_what_became_of_them(server: Server) {
    let world = server.world().await;
    let mut ids = Vec::new();
    for (name, more) in [
        ("graced", json!({})),
        ("gone", json!({})),
        ("lapsed", json!({"expires_in_seconds": 1})),
        ("revoked", json!({})),
    ] {
        let body = crate::harness::world::merged(json!({"name": name}), more);
        ids.push(text(&post(&server, &world, "keys", body).await.ok(201), "id"));
    }
    post(&server, &world, &format!("keys/{}/rotate", ids[0]), Value::Null).await.ok(201);
    post(&server, &world, &format!("keys/{}/rotate", ids[1]), json!({"grace_seconds": 1})).await.ok(201);
    post(&server, &world, &format!("keys/{}/revoke", ids[3]), Value::Null).await.ok(200);
    server.advance_ms(1_000);
    let named = async |status: &str| {
        let page = server.api("GET", &world.path(&format!("keys?status={status}")), Value::Null).await.ok(200);
        let items = page["items"].as_array().unwrap().clone();
        assert!(items.iter().all(|key| key["status"] == status), "{page}");
        assert_eq!(page["total"], items.len());
        items.iter().map(|key| text(key, "name")).collect::<Vec<_>>()
    };
    assert_eq!(named("active").await, ["Backend", "graced", "gone"]);
    assert_eq!(named("in_grace").await, ["graced"]);
    assert_eq!(named("rotated").await, ["gone"]);
    assert_eq!(named("expired").await, ["lapsed"]);
    assert_eq!(named("revoked").await, ["revoked"]);
    let answer = server.api("GET", &world.path("keys?status=dead"), Value::Null).await;
    answer.names(Code::InvalidRequest, "status");
}

async fn a_key_is_called_something_else(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = format!("keys/{}", world.key_id);
    let renamed = server.api("PATCH", &world.path(&path), json!({"name": "Nightly"})).await.ok(200);
    assert_eq!(renamed["name"], "Nightly");
    server.api("PATCH", &world.path(&path), json!({"name": "Nightly"})).await.ok(200);
    let told = server.told(&world, "key.renamed").await;
    assert_eq!((told.len(), &told[0]["changed"]["name"]), (1, &json!(["Backend", "Nightly"])));
    let found = server.api("GET", &world.path("keys?search=night"), Value::Null).await.ok(200);
    assert_eq!(found["items"][0]["id"], json!(world.key_id));
    server.token(&world).await.ok(200);
    server.api("PATCH", &other.path(&path), json!({"name": "n"})).await.refused(Code::NotFound);
    for name in [String::new(), "n".repeat(limits::NAME_CHARS_MAX + 1)] {
        server.api("PATCH", &world.path(&path), json!({"name": name})).await.names(Code::InvalidValue, "name");
    }
    server.api("PATCH", &world.path(&path), json!({"name": "n".repeat(limits::NAME_CHARS_MAX)})).await.ok(200);
}

async fn a_deleted_secret_takes_its_grants_and_its_value_with_it(server: Server) {
    let world = server.world().await;
    let mut grants = vec![world.grant.clone(), server.grant(&world, json!({"label": "second"})).await];
    grants.push(server.grant(&world, json!({"label": "lapsed", "expires_in_seconds": 1})).await);
    let before = server.grant(&world, json!({"label": "revoked before"})).await;
    server.revoke(&world, &before).await.ok(200);
    let kept = server.secret(&world.app, json!({"name": "Kept"})).await;
    let kept = world.with_grant(&text(&kept, "grant_id"));
    let replica = server.another("replica", |_| {}).await;
    replica.token(&world).await.ok(200);
    server.advance_ms(1_000);
    let path = world.path(&format!("managed-secrets/{}", world.secret));
    let deleted = delete(&server, &path).await.ok(200);
    assert_eq!((&deleted["slug"], &deleted["grants_revoked"]), (&json!(world.secret), &json!(3)));
    assert_eq!(deleted["credential_destroyed"], true);
    for process in [&server, &replica] {
        for grant in &grants {
            process.token(&world.with_grant(grant)).await.refused(Code::GrantRevoked);
        }
        process.token(&kept).await.ok(200);
    }
    let sealed =
        format!("SELECT COUNT(*) FROM credentials WHERE secret_id = '{}' AND sealed IS NOT NULL", world.secret_id);
    assert_eq!(server.database.number(&sealed).await, 0);
    // It is missing, by slug and by id, for everything.
    for name in [&world.secret, &world.secret_id] {
        let path = world.path(&format!("managed-secrets/{name}"));
        server.api("GET", &path, Value::Null).await.refused(Code::SecretNotFound);
        delete(&server, &path).await.refused(Code::SecretNotFound);
        server.api("POST", &format!("{path}/rotate"), json!({"value": "canary"})).await.refused(Code::SecretNotFound);
        server.api("GET", &format!("{path}/access"), Value::Null).await.refused(Code::SecretNotFound);
        let body = json!({"principal_type": "system"});
        server.api("POST", &format!("{path}/grants"), body).await.refused(Code::SecretNotFound);
    }
    let list = server.api("GET", &world.path("managed-secrets"), Value::Null).await.ok(200);
    assert_eq!((&list["total"], &list["items"][0]["slug"]), (&json!(1), &json!("kept")));
    // What it was is still told, and its slug is never another secret's.
    let grant = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    assert_eq!((&grant["status"], &grant["reason"]), (&json!("revoked"), &json!("its secret was deleted")));
    let second = server.secret(&world.app, json!({})).await;
    assert_eq!(second["slug"], "stripe-2");
    let revoked = server.told(&world, "grant.revoked").await;
    assert_eq!(revoked.len(), 4);
    let ids: std::collections::BTreeSet<String> = revoked.iter().map(|event| text(event, "id")).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(server.told(&world, "credential.destroyed").await.len(), 1);
    assert_eq!(server.told(&world, "secret.deleted").await[0]["provider_id"], json!(world.secret));
}

async fn a_secret_without_a_grant_can_be_deleted_with_its_value(server: Server) {
    let world = server.world().await;
    server.revoke(&world, &world.grant).await.ok(200);
    let path = world.path(&format!("managed-secrets/{}", world.secret));
    server.rotate(&world, "canary-of-the-second-value").await.ok(200);
    let deleted = delete(&server, &path).await.ok(200);
    assert_eq!((&deleted["grants_revoked"], &deleted["credential_destroyed"]), (&json!(0), &json!(true)));
    assert_eq!(server.told(&world, "credential.destroyed").await.len(), 2);
    let second = server.secret(&world.app, json!({"name": "Second"})).await;
    server.revoke(&world, &text(&second, "grant_id")).await.ok(200);
    let deleted = delete(&server, &world.path("managed-secrets/second")).await.ok(200);
    assert_eq!((&deleted["grants_revoked"], &deleted["credential_destroyed"]), (&json!(0), &json!(false)));
}

async fn access_tells_who_can_use_a_secret_now(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    server.grant(&world, json!({"label": "lapsing", "expires_in_seconds": 1})).await;
    let bound = server.grant(&world, json!({"label": "bound", "tenant": "acme"})).await;
    let revoked = server.grant(&world, json!({"label": "revoked"})).await;
    server.revoke(&world, &revoked).await.ok(200);
    server.secret(&world.app, json!({"name": "Another"})).await;
    server.advance_ms(1_000);
    let path = format!("managed-secrets/{}/access", world.secret);
    let page = server.api("GET", &world.path(&path), Value::Null).await.ok(200);
    let items = page["items"].as_array().unwrap();
    let seen: Vec<_> = items.iter().map(|i| (&i["grant_id"], &i["label"], &i["tenant"])).collect();
    let (null, base) = (json!(null), json!(world.grant));
    assert_eq!(seen, [(&json!(bound), &json!("bound"), &json!("acme")), (&base, &null, &null)]);
    assert!(items.iter().all(|item| item["principal_type"] == "system"));
    assert_eq!(page["total"], 2);
    let path = format!("managed-secrets/{}/access", world.secret_id);
    server.api("GET", &other.path(&path), Value::Null).await.refused(Code::SecretNotFound);
}

async fn the_end_of_a_grant_can_be_taken_away(server: Server) {
    let world = server.world().await;
    let grant = server.grant(&world, json!({"expires_in_seconds": 60})).await;
    let path = world.path(&format!("grants/{grant}"));
    let both = json!({"no_expiry": true, "expires_in_seconds": 60});
    server.api("PATCH", &path, both).await.names(Code::InvalidValue, "no_expiry");
    // Another change leaves it as it is.
    let labelled = server.api("PATCH", &path, json!({"label": "l", "no_expiry": false})).await.ok(200);
    assert!(labelled["expires_at"].is_string());
    let endless = server.api("PATCH", &path, json!({"no_expiry": true})).await.ok(200);
    assert_eq!(endless["expires_at"], Value::Null);
    server.advance_ms(60_000);
    server.token(&world.with_grant(&grant)).await.ok(200);
    let told = server.told(&world, "grant.updated").await;
    assert_eq!(told[1]["changed"]["expires_at"], json!([labelled["expires_at"], null]));
}
