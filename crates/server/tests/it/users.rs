//! Calls that speak for a user: whose token counts, what it reaches, and what ends it.

use grantd_domain::env::Clock as _;
use grantd_domain::identity::{User, UserStatus};
use grantd_store::{apps, users};
use grantd_wire::Code;
use grantd_wire::ids::{AppId, UserId};
use serde_json::{Value, json};

use crate::harness::idp::{Idp, b64};
use crate::harness::world::{URL, merged, text};
use crate::harness::{Answer, Server, World};

on_kept_engines! {
    a_user_reaches_what_is_the_users_and_nothing_else,
    a_group_grant_is_for_those_whose_tokens_name_the_group,
    a_suspended_user_is_stopped_at_once_with_and_without_a_token,
    a_deprovisioned_user_is_gone_with_every_grant,
    users_are_found_by_address_name_and_subject,
}

in_memory! {
    a_token_that_proves_nothing_is_refused_and_told_of,
    users_are_listed_by_their_identity_provider,
}

/// Asks for a credential.
pub async fn ask(server: &Server, world: &World, more: Value) -> Answer {
    let body = merged(json!({"reason": null, "request": {"method": "GET", "url": URL}}), more);
    server.send(server.sign_as(world).post("/sdk/token", &body)).await
}

/// A grant on the world's secret for a principal.
pub async fn grant_to(server: &Server, world: &World, principal: Value) -> Answer {
    let path = format!("/sdk/managed-secrets/{}/grants", world.secret);
    server.send(server.sign_as(world).post(&path, &json!({"principal": principal, "grant_policy": {}}))).await
}

pub async fn user_grant(server: &Server, world: &World, token: &str, label: &str) -> String {
    let principal = json!({"type": "user", "user_token": token, "label": label});
    text(&grant_to(server, world, principal).await.ok(201), "grant_id")
}

async fn a_user_reaches_what_is_the_users_and_nothing_else(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let (ann, bob) = (idp.token(&server, "ann"), idp.token(&server, "bob"));
    let mine = user_grant(&server, &world, &ann, "mine").await;
    let theirs = user_grant(&server, &world, &bob, "mine").await;
    // By id: the user's own, not another's, not the app's.
    let direct = |grant: &str, token: &str| json!({"grant_id": grant, "user_token": token});
    assert_eq!(text(&ask(&server, &world, direct(&mine, &ann)).await.ok(200), "grant_id"), mine);
    ask(&server, &world, direct(&theirs, &ann)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&world.grant, &ann)).await.refused(Code::SystemGrantUserTokenMismatch);
    // By provider: the one that is the user's, and the app's own without a user.
    let by = |token: &str, more: Value| merged(json!({"provider_id": world.secret, "user_token": token}), more);
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({}))).await.ok(200), "grant_id"), mine);
    assert_eq!(text(&ask(&server, &world, by(&bob, json!({}))).await.ok(200), "grant_id"), theirs);
    assert_eq!(
        text(&ask(&server, &world, json!({"provider_id": world.secret})).await.ok(200), "grant_id"),
        world.grant
    );
    let eve = idp.token(&server, "eve");
    let none = ask(&server, &world, by(&eve, json!({}))).await.refused(Code::GrantNotFound);
    assert_eq!(none["provider_id"], world.secret);
    assert!(UserId::parse(none["app_user_id"].as_str().unwrap()).is_some());
    ask(&server, &world, by(&ann, json!({"provider_id": "other"}))).await.refused(Code::GrantNotFound);
    ask(&server, &world, by(&ann, json!({"app_user_id": "x"}))).await.refused(Code::InvalidRequest);
    ask(&server, &world, by(&ann, json!({"label": ""}))).await.refused(Code::InvalidRequest);
    // Several: never a guess, and never another's among them.
    server.env.advance_ms(1);
    let second = user_grant(&server, &world, &ann, "second").await;
    let several = ask(&server, &world, by(&ann, json!({}))).await.refused(Code::AmbiguousGrant);
    let named: Vec<&str> =
        several["candidates"].as_array().unwrap().iter().map(|c| c["grant_id"].as_str().unwrap()).collect();
    assert_eq!(named, [second.as_str(), mine.as_str()]);
    assert_eq!(several["candidates"][0]["label"], "second");
    assert_eq!(several["grant_ids"], json!([second, mine]));
    assert_eq!((&several["candidates_truncated"], &several["account_was_provided"]), (&json!(false), &json!(false)));
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({"label": "second"}))).await.ok(200), "grant_id"), second);
    let unknown = json!({"account": "nobody@example.com"});
    ask(&server, &world, by(&ann, unknown)).await.refused(Code::GrantNotFound);
    // What a user lists and revokes is the user's.
    let list =
        |token: &str| server.send(server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": token})));
    let listed = list(&ann).await.ok(200);
    let ids: Vec<&str> = listed["grants"].as_array().unwrap().iter().map(|g| g["grant_id"].as_str().unwrap()).collect();
    assert_eq!((ids, &listed["total"]), (vec![second.as_str(), mine.as_str()], &json!(2)));
    assert_eq!(listed["grants"][0]["principal_type"], "user");
    assert_eq!(list(&eve).await.ok(200)["total"], 0);
    let revoke = |grant: &str, token: &str| {
        let path = format!("/sdk/oauth/grants/{grant}/revoke");
        server.send(server.sign_as(&world).post(&path, &json!({"user_token": token})))
    };
    revoke(&theirs, &ann).await.refused(Code::GrantNotFound);
    revoke(&world.grant, &ann).await.refused(Code::GrantNotFound);
    revoke(&mine, &ann).await.ok(200);
    ask(&server, &world, direct(&mine, &ann)).await.refused(Code::GrantRevoked);
    assert_eq!(text(&ask(&server, &world, by(&ann, json!({}))).await.ok(200), "grant_id"), second);
    // Another app knows neither the issuer nor the user.
    let other = server.world_named("Other").await;
    let refused = ask(&server, &other, json!({"grant_id": other.grant, "user_token": ann})).await;
    assert_eq!(refused.refused(Code::JwtValidationError)["details"]["check"], "issuer");
    // Every release tells whose it was.
    let released = server.told(&world, "token.released").await;
    assert!(
        released.iter().filter(|event| event["principal_type"] == "user").all(|event| event["user_id"].is_string())
    );
    assert_eq!(server.told(&world, "user.created").await.len(), 3);
}

async fn a_group_grant_is_for_those_whose_tokens_name_the_group(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let group = |id: &str| json!({"type": "group", "external_group_id": id, "idp_id": idp.id, "label": "ops"});
    let grant = text(&grant_to(&server, &world, group("ops")).await.ok(201), "grant_id");
    let unknown = json!({"type": "group", "external_group_id": "x", "idp_id": world.app, "label": "l"});
    grant_to(&server, &world, unknown).await.refused(Code::InvalidValue);
    let by = |token: &str| json!({"provider_id": world.secret, "user_token": token});
    let member = idp.token_with(&server, "ann", json!({"groups": ["dev", "ops"]}));
    assert_eq!(text(&ask(&server, &world, by(&member)).await.ok(200), "grant_id"), grant);
    let outside = idp.token_with(&server, "bob", json!({"groups": ["dev"]}));
    ask(&server, &world, by(&outside)).await.refused(Code::GrantNotFound);
    let direct = |token: &str| json!({"grant_id": grant, "user_token": token});
    ask(&server, &world, direct(&outside)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&member)).await.ok(200);
    // A newer token without the group takes it away, also from the older token.
    server.env.advance_ms(60_000);
    let newer = idp.token_with(&server, "ann", json!({"groups": ["dev"]}));
    ask(&server, &world, direct(&newer)).await.refused(Code::GrantNotFound);
    ask(&server, &world, direct(&member)).await.refused(Code::GrantNotFound);
    let updated = server.told(&world, "user.updated").await;
    assert_eq!((updated.len(), &updated[0]["groups_left"]), (1, &json!(1)));
}

async fn a_suspended_user_is_stopped_at_once_with_and_without_a_token(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let token = idp.token(&server, "ann");
    let grant = user_grant(&server, &world, &token, "mine").await;
    let with = json!({"grant_id": grant, "user_token": token});
    let without = json!({"grant_id": grant});
    ask(&server, &world, with.clone()).await.ok(200);
    ask(&server, &world, without.clone()).await.ok(200);
    let created = server.told(&world, "user.created").await;
    let user = UserId::parse(created[0]["user_id"].as_str().unwrap()).unwrap();
    let app = AppId::parse(&world.app).unwrap();
    let now = server.now();
    let set = |to: UserStatus| {
        let change = move |tx: &mut grantd_store::Tx<'_>| {
            users::set_suspended(tx, app, user, to, now)?;
            apps::raise_epoch(tx, app)
        };
        server.store().write(change)
    };
    set(UserStatus::Suspended).await.unwrap();
    let refused = ask(&server, &world, with.clone()).await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], "user_suspended");
    ask(&server, &world, without.clone()).await.refused(Code::PolicyDenied);
    set(UserStatus::Active).await.unwrap();
    ask(&server, &world, with).await.ok(200);
    ask(&server, &world, without).await.ok(200);
}

async fn a_token_that_proves_nothing_is_refused_and_told_of(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let now = server.env.now().0 / 1000;
    let good = idp.token(&server, "ann");
    let (body, _) = good.rsplit_once('.').unwrap();
    let none = format!("{}.{}.", b64(r#"{"alg":"none"}"#), body.split('.').nth(1).unwrap());
    for (token, check) in [
        (none, "alg"),
        (format!("{body}.{}", b64([7; 64])), "signature"),
        ("x".repeat(8193), "size"),
        ("a.b.c".to_owned(), "form"),
        (format!("{good}.a.b"), "encrypted"),
        (idp.token_with(&server, "ann", json!({"iss": "https://other.example"})), "issuer"),
        (idp.token_with(&server, "ann", json!({"aud": "other"})), "audience"),
        (idp.token_with(&server, "ann", json!({"exp": now - 60})), "expired"),
        (idp.token_with(&server, "ann", json!({"nbf": now + 61})), "not_yet_valid"),
        (idp.token_with(&server, "ann", json!({"sub": null})), "subject"),
    ] {
        let ask = ask(&server, &world, json!({"grant_id": world.grant, "user_token": token})).await;
        let refused = ask.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], check);
        assert!(!refused.to_string().contains(&token[..token.len().min(12)]), "{refused}");
        let told = server.told(&world, "token.denied").await;
        assert_eq!(told.last().unwrap()["check"], check);
    }
    let list = server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": "a.b.c"}));
    server.send(list).await.refused(Code::JwtValidationError);
    assert_eq!(server.told(&world, "user_token.refused").await[0]["check"], "form");
    assert!(server.told(&world, "user.created").await.is_empty());
}

async fn a_deprovisioned_user_is_gone_with_every_grant(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let token = idp.token(&server, "ann");
    let grants = [user_grant(&server, &world, &token, "a").await, user_grant(&server, &world, &token, "b").await];
    let users = server.api("GET", &world.path("users"), Value::Null).await.ok(200);
    assert_eq!((&users["total"], &users["items"][0]["subject"]), (&json!(1), &json!("ann")));
    let path = world.path(&format!("users/{}", text(&users["items"][0], "id")));
    let suspended = server.api("POST", &format!("{path}/suspend"), Value::Null).await.ok(200);
    assert_eq!(suspended["user_status"], "suspended");
    let direct = json!({"grant_id": grants[0]});
    ask(&server, &world, direct.clone()).await.refused(Code::PolicyDenied);
    server.api("POST", &format!("{path}/resume"), Value::Null).await.ok(200);
    ask(&server, &world, direct.clone()).await.ok(200);
    let gone = server.api("POST", &format!("{path}/deprovision"), Value::Null).await.ok(200);
    assert_eq!(gone["grants_revoked"], 2);
    for grant in &grants {
        ask(&server, &world, json!({"grant_id": grant})).await.refused(Code::GrantDeleted);
    }
    let again = server.api("POST", &format!("{path}/deprovision"), Value::Null).await.ok(200);
    assert_eq!((&again["grants_revoked"], &again["deprovisioned_at"]), (&json!(0), &gone["deprovisioned_at"]));
    server.api("POST", &format!("{path}/resume"), Value::Null).await.refused(Code::Conflict);
    // The token that was out proves nothing any more; a new sign-in is a new user, who has nothing.
    let by = |token: &str| json!({"provider_id": world.secret, "user_token": token});
    let refused = ask(&server, &world, by(&token)).await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], "user_deprovisioned");
    server.env.advance_ms(2_000);
    ask(&server, &world, by(&idp.token(&server, "ann"))).await.refused(Code::GrantNotFound);
    assert_eq!(server.api("GET", &world.path("users"), Value::Null).await.ok(200)["total"], 2);
    // The app's own grant is untouched.
    ask(&server, &world, json!({"grant_id": world.grant})).await.ok(200);
}

async fn users_are_found_by_address_name_and_subject(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let one = crate::webhook::Vendor::of(&server, &world, "auth0", json!({})).await;
    let two = crate::webhook::Vendor::of(&server, &world, "okta", json!({})).await;
    let elsewhere = crate::webhook::Vendor::of(&server, &other, "okta", json!({})).await;
    let app = AppId::parse(&world.app).unwrap();
    let known = async |id: UserId, email: Option<&'static str>, name: Option<&'static str>| {
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            let user = users::find(tx, app, id)?.unwrap();
            let (email, name) = (email.map(str::to_owned), name.map(str::to_owned));
            users::update(tx, &User { email, name, ..user }, 1)
        };
        assert!(server.store().write(write).await.unwrap());
        // Ids of one moment have no order.
        server.advance_ms(1);
        id.to_string()
    };
    let ann = known(one.user("auth0|17", None).await, Some("Ann@Example.com"), Some("Ärmel, Ann")).await;
    let bob = known(two.user("00uBob", None).await, Some("bob@example.com"), None).await;
    let cid = known(two.user("00uCid", None).await, None, Some("Ann Cid")).await;
    elsewhere.user("auth0|18", None).await;
    let nobody: [&String; 0] = [];
    for (search, found) in [
        ("ann", &[&cid, &ann][..]),
        ("ANN@", &[&ann]),
        ("\u{e4}rm", &[&ann]),
        ("auth0|1", &[&ann]),
        ("00u", &[&cid, &bob]),
        ("00uB", &[&bob]),
        // A subject is an id: its case counts.
        ("00UB", &nobody),
        ("example", &nobody),
        ("%", &nobody),
        ("", &[&cid, &bob, &ann]),
    ] {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("search", search).finish();
        let page = server.api("GET", &world.path(&format!("users?{query}")), Value::Null).await.ok(200);
        let ids: Vec<&str> = page["items"].as_array().unwrap().iter().map(|u| u["id"].as_str().unwrap()).collect();
        let found: Vec<&str> = found.iter().map(|id| id.as_str()).collect();
        assert_eq!((page["total"].as_u64(), &ids), (Some(found.len() as u64), &found), "{search}");
    }
    for (narrowed, found) in
        [("search=ann&idp=https%3A%2F%2Fokta.example.com%2F", 1), ("search=ann&status=suspended", 0)]
    {
        let page = server.api("GET", &world.path(&format!("users?{narrowed}")), Value::Null).await.ok(200);
        assert_eq!(page["total"], found, "{narrowed}");
    }
    let page = server.api("GET", &world.path("users?search=ann&limit=1&offset=1"), Value::Null).await.ok(200);
    assert_eq!((&page["total"], &page["items"][0]["id"]), (&json!(2), &json!(ann)));
}

async fn users_are_listed_by_their_identity_provider(server: Server) {
    let world = server.world().await;
    let one = crate::webhook::Vendor::of(&server, &world, "auth0", json!({})).await;
    let two = crate::webhook::Vendor::of(&server, &world, "okta", json!({})).await;
    let (ann, bob) = (one.user("ann", None).await, two.user("bob", None).await);
    for (idp, user) in [
        (&*one.idp, ann),
        (&*two.idp, bob),
        ("https%3A%2F%2Fokta.example.com%2F", bob),
        ("https://auth0.example.com/&limit=1", ann),
    ] {
        let page = server.api("GET", &world.path(&format!("users?idp={idp}")), Value::Null).await.ok(200);
        assert_eq!((page["total"].as_i64(), &page["items"][0]["id"]), (Some(1), &json!(user.to_string())), "{idp}");
    }
    server.api("GET", &world.path("users?idp=https://nobody.example.com"), Value::Null).await.refused(Code::NotFound);
}
