//! Grants: bounds, labels, lifetimes, siblings, lists of both APIs, and revocation that can be repeated.

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::{ask, merged, text};
use crate::harness::{Answer, Server, World};
use crate::sign_in::acme;
use crate::walk::{group, idp, user};

on_kept_engines! {
    every_grant_is_revoked_page_by_page,
    one_that_cannot_be_revoked_holds_up_no_other,
}

in_memory! {
    what_is_revoked_in_bulk_must_be_said,
    grants_keep_their_bounds,
    operators_grant_to_users_and_groups,
    a_grant_is_for_somebody_who_is_there,
    a_credential_has_fifty_siblings_at_most,
    a_label_is_unique_among_the_living,
    lifetimes_are_the_tighter_one,
    revoking_again_changes_nothing,
    a_revoked_grant_stays_so,
    grants_of_the_sdk_are_those_of_the_app,
    a_key_narrowed_to_grants_lists_those,
}

async fn post(server: &Server, world: &World, rest: &str, body: Value) -> Answer {
    server.api("POST", &world.path(rest), body).await
}

async fn sdk_list(server: &Server, world: &World, body: Value) -> Value {
    server.send(server.sign_as(world).post("/sdk/grants/list", &body)).await.ok(200)
}

async fn grants_keep_their_bounds(server: Server) {
    let world = server.world().await;
    let path = format!("managed-secrets/{}/grants", world.secret);
    let create = |more: Value| post(&server, &world, &path, merged(json!({"principal_type": "system"}), more));
    for good in [
        json!({"label": "é".repeat(255)}),
        json!({"expires_in_seconds": 1}),
        json!({"expires_in_seconds": 316_224_000}),
        json!({"tenant": "é".repeat(512)}),
    ] {
        create(good).await.ok(201);
    }
    for (bad, field) in [
        (json!({"label": "é".repeat(256)}), "label"),
        (json!({"label": ""}), "label"),
        (json!({"label": " x"}), "label"),
        (json!({"label": "a\tb"}), "label"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"expires_in_seconds": 316_224_001}), "expires_in_seconds"),
        (json!({"tenant": ""}), "tenant"),
        (json!({"tenant": "é".repeat(513)}), "tenant"),
        (json!({"principal_type": "robot"}), "principal_type"),
    ] {
        create(bad).await.names(Code::InvalidValue, field);
    }
    let update = async |body: Value| server.api("PATCH", &world.path(&format!("grants/{}", world.grant)), body).await;
    update(json!({"label": "x".repeat(256)})).await.names(Code::InvalidValue, "label");
    update(json!({"expires_in_seconds": -1})).await.names(Code::InvalidValue, "expires_in_seconds");
    update(json!({"tenant": {"value": ""}})).await.names(Code::InvalidValue, "tenant");
    update(json!({"tenant": "other"})).await.names(Code::InvalidRequest, "tenant");
    let labelled = update(json!({"label": "mine"})).await.ok(200);
    assert_eq!((&labelled["label"], &labelled["version"]), (&json!("mine"), &json!(2)));
    assert_eq!(update(json!({"label": ""})).await.ok(200)["label"], Value::Null);
}

/// The grant is theirs: found by their token, shown with whose it is, told of with their id.
async fn operators_grant_to_users_and_groups(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let path = format!("managed-secrets/{}/grants", world.secret);
    let create = |body: Value| post(&server, &world, &path, body);
    let token = idp.token(&server, json!({"groups": ["eng"]}));
    let identity = json!({"include_profile": false, "user_token": token});
    let known = server.send(server.sign_as(&world).post("/sdk/identity/resolve", &identity)).await.ok(200);
    let (user, group) = (text(&known, "app_user_id"), known["group_ids"][0].as_str().unwrap().to_owned());
    let released = async || {
        let mut ask = ask(&world.grant);
        ask.as_object_mut().unwrap().remove("grant_id");
        let ask = merged(ask, json!({"provider_id": world.secret, "user_token": token}));
        server.send(server.sign_as(&world).post("/sdk/token", &ask)).await
    };
    released().await.refused(Code::GrantNotFound);

    let own = create(json!({"principal_type": "user", "user": user, "label": "own"})).await.ok(201);
    assert_eq!(
        (&own["principal_type"], &own["user_id"], &own["group_id"]),
        (&json!("user"), &json!(user), &Value::Null)
    );
    assert_eq!(released().await.ok(200)["grant_id"], own["grant_id"]);
    assert_eq!(server.told(&world, "grant.created").await.last().unwrap()["user_id"], json!(user));
    let theirs = server.api("GET", &world.path(&format!("grants?user={user}")), Value::Null).await.ok(200);
    assert_eq!((&theirs["total"], &theirs["items"][0]["grant_id"]), (&json!(1), &own["grant_id"]));
    server.revoke(&world, &text(&own, "grant_id")).await.ok(200);

    // The same group by its id, and by the name and either name of its identity provider.
    let page = server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200);
    let (idp_id, issuer) = (&page["items"][0]["id"], &page["items"][0]["issuer"]);
    for named in
        [json!({"group": group}), json!({"group": "eng", "idp": idp_id}), json!({"group": "eng", "idp": issuer})]
    {
        let made = create(merged(json!({"principal_type": "group"}), named)).await.ok(201);
        assert_eq!((&made["group_id"], &made["user_id"]), (&json!(group), &Value::Null));
        assert_eq!(server.told(&world, "grant.created").await.last().unwrap()["group_id"], json!(group));
        assert_eq!(released().await.ok(200)["grant_id"], made["grant_id"]);
        server.revoke(&world, &text(&made, "grant_id")).await.ok(200);
    }
    // One that nobody is known to be in yet: the next token says who is.
    create(json!({"principal_type": "group", "group": "ops", "idp": idp_id})).await.ok(201);
    released().await.refused(Code::GrantNotFound);
    let groups = server.api("GET", &world.path("groups"), Value::Null).await.ok(200);
    assert_eq!(groups["total"], 2, "{groups}");
}

async fn a_grant_is_for_somebody_who_is_there(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = format!("managed-secrets/{}/grants", world.secret);
    let create = |body: Value| post(&server, &world, &path, body);
    let (user, foreign) = (user(&server, &world).await.to_string(), user(&server, &other).await.to_string());
    let (idp, foreign_idp) = (idp(&server, &world).await, idp(&server, &other).await);
    let foreign_group = group(&server, &other).await.to_string();
    for (bad, field) in [
        (json!({"principal_type": "user"}), "user"),
        (json!({"principal_type": "user", "user": "ann"}), "user"),
        (json!({"principal_type": "user", "user": foreign}), "user"),
        (json!({"principal_type": "user", "user": user, "group": "eng"}), "group"),
        (json!({"principal_type": "user", "user": user, "idp": idp}), "idp"),
        (json!({"principal_type": "group"}), "group"),
        (json!({"principal_type": "group", "idp": idp}), "group"),
        (json!({"principal_type": "group", "group": "eng"}), "group"),
        (json!({"principal_type": "group", "group": foreign_group}), "group"),
        (json!({"principal_type": "group", "group": "", "idp": idp}), "group"),
        (json!({"principal_type": "group", "group": "x".repeat(256), "idp": idp}), "group"),
        (json!({"principal_type": "group", "group": "eng", "idp": foreign_idp}), "idp"),
        (json!({"principal_type": "group", "group": "eng", "user": user}), "user"),
        (json!({"principal_type": "system", "user": user}), "user"),
        (json!({"principal_type": "system", "group": "eng"}), "group"),
        (json!({"principal_type": "system", "idp": idp}), "idp"),
    ] {
        create(bad).await.names(Code::InvalidValue, field);
    }
    create(json!({"principal_type": "group", "group": "x".repeat(255), "idp": idp})).await.ok(201);
    let claims = json!({"claims": {"groups": ""}});
    server.api("PATCH", &world.path(&format!("identity-providers/{idp}")), claims).await.ok(200);
    let ask = json!({"principal_type": "group", "group": "eng", "idp": idp});
    create(ask).await.refused(Code::GroupPrincipalUnsupported);
    let of_user = || create(json!({"principal_type": "user", "user": user}));
    for (change, what) in [("suspend", "suspended"), ("deprovision", "deprovisioned")] {
        server.api("POST", &world.path(&format!("users/{user}/{change}")), Value::Null).await.ok(200);
        let refused = of_user().await;
        refused.refused(Code::Conflict);
        assert!(refused.text.contains(what), "{}", refused.text);
    }
    assert_eq!(server.told(&world, "grant.created").await.len(), 2, "the secret's own, and one");
}

async fn a_credential_has_fifty_siblings_at_most(server: Server) {
    let world = server.world().await;
    let mut last = String::new();
    for _ in 1..50 {
        last = server.grant(&world, json!({})).await;
    }
    let path = format!("managed-secrets/{}/grants", world.secret);
    post(&server, &world, &path, json!({"principal_type": "system"})).await.refused(Code::TooMany);
    let by_key = json!({"principal": {"type": "system"}});
    let raw = server.sign_as(&world).post(&format!("/sdk/{path}"), &by_key);
    server.send(raw).await.refused(Code::TooMany);
    server.revoke(&world, &last).await.ok(200);
    server.send(server.sign_as(&world).post(&format!("/sdk/{path}"), &by_key)).await.ok(201);
}

async fn a_label_is_unique_among_the_living(server: Server) {
    let world = server.world().await;
    let path = format!("managed-secrets/{}/grants", world.secret);
    let create = |label: &str| post(&server, &world, &path, json!({"principal_type": "system", "label": label}));
    let first = text(&create("one").await.ok(201), "grant_id");
    let json = create("one").await.refused(Code::SiblingLabelConflict);
    assert_eq!(json["label"], "one");
    let body = json!({"principal": {"type": "system", "label": "one"}});
    let sdk = server.send(server.sign_as(&world).post(&format!("/sdk/{path}"), &body)).await;
    assert_eq!(sdk.refused(Code::SiblingLabelConflict)["label"], "one");
    create("One").await.ok(201);
    let rename = world.path(&format!("grants/{}", world.grant));
    server.api("PATCH", &rename, json!({"label": "one"})).await.refused(Code::SiblingLabelConflict);
    server.revoke(&world, &first).await.ok(200);
    create("one").await.ok(201);
    // Another secret's labels are its own.
    let other = server.secret(&world.app, json!({"name": "Other"})).await;
    let path = format!("managed-secrets/{}/grants", text(&other, "slug"));
    post(&server, &world, &path, json!({"principal_type": "system", "label": "one"})).await.ok(201);
}

async fn lifetimes_are_the_tighter_one(server: Server) {
    let world = server.world().await;
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    let now = server.now();
    let create = |policy: Value| {
        let body = json!({"principal": {"type": "system"}, "grant_policy": policy});
        server.send(server.sign_as(&world).post(&path, &body))
    };
    for (policy, ends) in [
        (json!({}), None),
        (json!({"max_ttl_seconds": 10}), Some(10)),
        (json!({"default_ttl_seconds": 20}), Some(20)),
        (json!({"max_ttl_seconds": 10, "default_ttl_seconds": 20}), Some(10)),
        (json!({"expires_at": now.plus_seconds(5).to_string(), "max_ttl_seconds": 10}), Some(5)),
        (json!({"expires_at": now.plus_seconds(15).to_string(), "max_ttl_seconds": 10}), Some(10)),
        (json!({"max_ttl_seconds": 316_224_000}), Some(316_224_000)),
    ] {
        let made = create(policy).await.ok(201);
        let shown =
            server.api("GET", &world.path(&format!("grants/{}", text(&made, "grant_id"))), Value::Null).await.ok(200);
        assert_eq!(shown["expires_at"], json!(ends.map(|s| now.plus_seconds(s).to_string())));
        assert_eq!((&made["principal_type"], &made["label"]), (&json!("system"), &Value::Null));
    }
    for (policy, field) in [
        (json!({"max_ttl_seconds": 0}), "max_ttl_seconds"),
        (json!({"default_ttl_seconds": 316_224_001}), "default_ttl_seconds"),
        (json!({"expires_at": now.to_string()}), "expires_at"),
        (json!({"expires_at": now.plus_seconds(316_224_001).to_string()}), "expires_at"),
    ] {
        create(policy).await.names(Code::InvalidValue, field);
    }
    for bad in [json!({"expires_at": "2027-01-01"}), json!({"max_ttl_seconds": 1.5}), json!({"max_ttl_seconds": "10"})]
    {
        create(bad).await.refused(Code::InvalidRequest);
    }
}

async fn revoking_again_changes_nothing(server: Server) {
    let world = server.world().await;
    server.grant(&world, json!({})).await;
    let path = world.path(&format!("grants/{}/revoke", world.grant));
    let first = server.api("POST", &path, json!({"reason": "first"})).await.ok(200);
    assert_eq!(
        (&first["revoked_upstream"], &first["revoked_at"]),
        (&json!("unsupported"), &json!(server.now().to_string()))
    );
    server.advance_ms(5_000);
    assert_eq!(server.api("POST", &path, json!({"reason": "second"})).await.ok(200), first);
    let sdk = format!("/sdk/oauth/grants/{}/revoke", world.grant);
    let again = server.send(server.sign_as(&world).post(&sdk, &json!({}))).await.ok(200);
    assert_eq!((&again["success"], &again["revoked_at"]), (&json!(true), &first["revoked_at"]));
    assert!(again["message"].as_str().is_some_and(|m| !m.is_empty()) && again["grant_id"] == world.grant.as_str());
    let shown = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    assert_eq!((&shown["reason"], &shown["status"]), (&json!("first"), &json!("revoked")));
    assert_eq!(server.told(&world, "grant.revoked").await.len(), 1);
    let raw = server.sign_as(&world).post(&sdk, &json!({"user_token": "eyJ"}));
    server.send(raw).await.refused(Code::JwtValidationError);
}

async fn a_revoked_grant_stays_so(server: Server) {
    let world = server.world().await;
    server.grant(&world, json!({})).await;
    server.revoke(&world, &world.grant).await.ok(200);
    let path = world.path(&format!("grants/{}", world.grant));
    for change in [json!({"label": "x"}), json!({"expires_in_seconds": 60}), json!({"tenant": "exempt"})] {
        server.api("PATCH", &path, change).await.refused(Code::Conflict);
    }
    server.token(&world).await.refused(Code::GrantRevoked);
}

async fn grants_of_the_sdk_are_those_of_the_app(server: Server) {
    let (world, _) = (server.world().await, server.world_named("Other").await);
    let short = server.grant(&world, json!({"label": "short", "expires_in_seconds": 1})).await;
    let gone = server.grant(&world, json!({"label": "gone"})).await;
    server.revoke(&world, &gone).await.ok(200);
    server.advance_ms(1_000);
    for (filter, wanted) in [
        (json!({}), 3),
        (json!({"status": "active"}), 1),
        (json!({"status": "expired"}), 1),
        (json!({"status": "revoked"}), 1),
        (json!({"label": "short"}), 1),
        (json!({"label": "Short"}), 0),
        (json!({"provider_id": "stripe"}), 3),
        (json!({"provider_id": "google"}), 0),
        (json!({"account": "a@example.com"}), 0),
        (json!({"limit": 1, "offset": 2}), 1),
    ] {
        let page = sdk_list(&server, &world, filter.clone()).await;
        assert_eq!(page["grants"].as_array().unwrap().len(), wanted, "{filter}");
        for field in ["total", "limit", "offset"] {
            assert!(page[field].is_u64(), "{field}");
        }
        assert!(page["has_more"].is_boolean());
    }
    let page = sdk_list(&server, &world, json!({"label": "short"})).await;
    let item = &page["grants"][0];
    for (field, value) in [
        ("grant_kind", json!("managed_secret")),
        ("grant_id", json!(short)),
        ("managed_secret_id", json!(world.secret_id)),
        ("managed_secret_slug", json!("stripe")),
        ("managed_secret_name", json!("Stripe")),
        ("status", json!("expired")),
        ("principal_type", json!("system")),
        ("label", json!("short")),
        ("access_via", json!("ownership")),
        ("depth", json!(0)),
        ("delegable", json!(false)),
        ("credential_kind", json!("developer")),
    ] {
        assert_eq!(item[field], value, "{field}");
    }
    assert!(item["created_at"].is_string() && item["grant_expires_at"].is_string());
    let raw = server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": "eyJ"}));
    server.send(raw).await.refused(Code::JwtValidationError);
}

async fn a_key_narrowed_to_grants_lists_those(server: Server) {
    let world = server.world().await;
    let (second, third) =
        (server.grant(&world, json!({})).await, server.grant(&world, json!({"label": "third"})).await);
    let scopes = [format!("grants:read:{}", world.grant), format!("grants:write:{third}")];
    let (_, key) = server.key(&world.app, json!({"scopes": scopes})).await;
    let narrow = world.with_key(&key);
    let ids = |page: &Value| page["grants"].as_array().unwrap().iter().map(|g| text(g, "grant_id")).collect::<Vec<_>>();
    let page = sdk_list(&server, &narrow, json!({})).await;
    assert_eq!((ids(&page).len(), &page["total"]), (2, &json!(2)));
    assert!(!ids(&page).contains(&second));
    let one = sdk_list(&server, &narrow, json!({"limit": 1, "offset": 0})).await;
    assert_eq!((ids(&one).len(), &one["total"], &one["has_more"]), (1, &json!(2), &json!(true)));
    assert_eq!(ids(&sdk_list(&server, &narrow, json!({"label": "third"})).await), std::slice::from_ref(&third));
    let revoke =
        |grant: &str| server.send(server.sign(&key).post(&format!("/sdk/oauth/grants/{grant}/revoke"), &json!({})));
    revoke(&second).await.refused(Code::InsufficientScope);
    revoke(&world.grant).await.refused(Code::InsufficientScope);
    revoke(&third).await.ok(200);
}

async fn revoke_many(server: &Server, world: &World, body: Value) -> Answer {
    post(server, world, "grants/revoke", body).await
}

async fn every_grant_is_revoked_page_by_page(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    // With those of `more` one page and one grant; the last of them is over already.
    for _ in 1..49 {
        server.grant(&world, json!({})).await;
    }
    server.grant(&world, json!({"expires_in_seconds": 1})).await;
    // The moment orders ids, and so says what the second page is.
    server.advance_ms(1_000);
    let more = server.secret(&world.app, json!({"name": "More"})).await;
    let first = revoke_many(&server, &world, json!({"all": true, "reason": "a drill"})).await.ok(200);
    assert_eq!((&first["total"], &first["done"], &first["failed"]), (&json!(51), &json!(50), &json!([])), "{first}");
    assert_eq!((&first["has_more"], &first["credentials_destroyed"]), (&json!(true), &json!(1)));
    server.token(&world).await.refused(Code::GrantRevoked);
    server.token(&world.with_grant(&text(&more, "grant_id"))).await.ok(200);
    let cursor = json!({"all": true, "reason": "a drill", "cursor": first["next_cursor"]});
    let last = revoke_many(&server, &world, cursor).await.ok(200);
    assert_eq!((&last["total"], &last["done"]), (&Value::Null, &json!(1)), "{last}");
    assert_eq!((&last["has_more"], &last["next_cursor"]), (&json!(false), &Value::Null));
    // Each as a single revoke would have it, with an event of its own.
    let told = server.told(&world, "grant.revoked").await;
    assert_eq!((told.len(), server.told(&world, "credential.destroyed").await.len()), (51, 2));
    assert!(told.iter().all(|event| event["reason"] == "a drill" && event["changed"]["status"][1] == "revoked"));
    let shown = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    assert_eq!((&shown["reason"], &shown["revoked_upstream"]), (&json!("a drill"), &json!("unsupported")));
    // Again from the beginning there is nothing left.
    let again = revoke_many(&server, &world, json!({"all": true})).await.ok(200);
    assert_eq!((&again["total"], &again["done"], &again["has_more"]), (&json!(0), &json!(0), &json!(false)));
    assert_eq!(server.told(&world, "grant.revoked").await.len(), 51);
    server.token(&other).await.ok(200);
    // Exactly one page is all of it.
    for _ in 1..50 {
        server.grant(&other, json!({})).await;
    }
    let full = revoke_many(&server, &other, json!({"managed_secret": other.secret})).await.ok(200);
    assert_eq!((&full["done"], &full["has_more"]), (&json!(50), &json!(false)), "{full}");
}

async fn one_that_cannot_be_revoked_holds_up_no_other(server: Server) {
    let world = server.world().await;
    let broken = server.secret(&world.app, json!({"name": "Broken"})).await;
    let whole = server.secret(&world.app, json!({"name": "Whole"})).await;
    let set = async |state: &str| {
        let sql = format!("UPDATE credentials SET state = '{state}' WHERE secret_id = '{}'", text(&broken, "id"));
        server.database.behind_its_back(&sql).await;
    };
    set("odd").await;
    let many = revoke_many(&server, &world, json!({"all": true})).await.ok(200);
    assert_eq!((&many["total"], &many["done"], &many["has_more"]), (&json!(3), &json!(2), &json!(false)), "{many}");
    assert_eq!(many["failed"].as_array().unwrap().len(), 1);
    let failed = &many["failed"][0];
    assert_eq!((&failed["grant_id"], &failed["error"]), (&broken["grant_id"], &json!("internal")), "{many}");
    for revoked in [&world.grant, &text(&whole, "grant_id")] {
        server.token(&world.with_grant(revoked)).await.refused(Code::GrantRevoked);
    }
    assert_eq!(server.told(&world, "grant.revoked").await.len(), 2);
    set("ok").await;
    let rest = revoke_many(&server, &world, json!({"all": true})).await.ok(200);
    assert_eq!((&rest["total"], &rest["done"], &rest["failed"]), (&json!(1), &json!(1), &json!([])), "{rest}");
}

async fn what_is_revoked_in_bulk_must_be_said(server: Server) {
    let world = server.world().await;
    let secret = server.secret(&world.app, json!({"name": "Kept"})).await;
    for nothing in [json!({}), json!({"all": false}), json!({"all": true, "managed_secret": "stripe"})] {
        revoke_many(&server, &world, nothing).await.names(Code::InvalidRequest, "provider");
    }
    let all = |more: Value| revoke_many(&server, &world, merged(json!({"all": true}), more));
    all(json!({"cursor": "x"})).await.names(Code::InvalidRequest, "cursor");
    all(json!({"reason": "x".repeat(2_001)})).await.names(Code::InvalidRequest, "reason");
    all(json!({"user": "u"})).await.names(Code::InvalidRequest, "user");
    revoke_many(&server, &world, json!({"provider": "google"})).await.refused(Code::NotFound);
    revoke_many(&server, &world, json!({"managed_secret": "nothing"})).await.refused(Code::SecretNotFound);
    let done = revoke_many(&server, &world, json!({"managed_secret": world.secret, "reason": "x".repeat(2_000)})).await;
    assert_eq!(done.ok(200)["done"], 1);
    server.token(&world.with_grant(&text(&secret, "grant_id"))).await.ok(200);
    let list = server.api("GET", &world.path("grants?upstream=odd"), Value::Null).await;
    list.names(Code::InvalidRequest, "upstream");
}
