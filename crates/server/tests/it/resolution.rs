//! Which grant a provider's name means: the one that fits, none, or several to choose from. Never a guess, never another's.

use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::idp::Idp;
use crate::harness::issuer::ID;
use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server};
use crate::oauth;
use crate::sign_in;
use crate::users::{ask, grant_to, user_grant};

on_kept_engines! {
    an_account_or_a_label_narrows_what_a_user_connected,
    a_users_own_grant_and_a_groups_are_both_named,
    twenty_candidates_are_named_and_no_more,
}

/// The ids of those to choose from, newest first, each with what tells it from the others.
fn candidates(several: &Value) -> Vec<(String, Value, Value)> {
    let each = several["candidates"].as_array().unwrap().iter();
    let found: Vec<_> = each
        .map(|one| {
            assert_eq!(one.as_object().unwrap().len(), 4, "{one}");
            (text(one, "grant_id"), one["label"].clone(), one["account_identifier"].clone())
        })
        .collect();
    let ids: Vec<&String> = found.iter().map(|(id, ..)| id).collect();
    assert_eq!(several["grant_ids"], json!(ids));
    found
}

async fn an_account_or_a_label_narrows_what_a_user_connected(server: Server) {
    let (server, world, idp) = sign_in::acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    let ann = idp.token(&server, json!({}));
    let connected = async |account: &str, label: Value| {
        // Ids of one moment have no order.
        server.advance_ms(1);
        idp.issuer.is_account(account);
        let mut more = json!({"user_token": ann});
        if !label.is_null() {
            more["requested_grant"] = json!({"label": label});
        }
        text(&oauth::connect(&server, &world, more).await, "grant_id")
    };
    let (work, home) = (connected("work-1", Value::Null).await, connected("home-1", Value::Null).await);
    let url = json!({"method": "GET", "url": "https://api.acme.example.com/v1/things"});
    let by = async |more: Value| {
        let body = json!({"provider_id": ID, "user_token": ann, "request": url});
        ask(&server, &world, merged(body, more)).await
    };
    let resolved = |answer: Answer| text(&answer.ok(200), "grant_id");
    let who = json!({"include_profile": false, "user_token": ann});
    let who = server.send(server.sign_as(&world).post("/sdk/identity/resolve", &who)).await.ok(200);
    let several = by(json!({})).await.refused(Code::AmbiguousGrant);
    let expected = [(home.clone(), Value::Null, json!("home-1")), (work.clone(), Value::Null, json!("work-1"))];
    assert_eq!(candidates(&several), expected);
    assert_eq!(several["candidates"][0]["account_display_name"], "someone@example.com");
    assert_eq!(several["account_identifiers"], json!(["home-1", "work-1"]));
    assert_eq!((&several["provider_id"], &several["app_user_ids"]), (&json!(ID), &json!([who["app_user_id"]])));
    assert_eq!((&several["account_was_provided"], &several["candidates_truncated"]), (&json!(false), &json!(false)));
    assert_eq!(resolved(by(json!({"account": "work-1"})).await), work);
    assert_eq!(resolved(by(json!({"account": "home-1"})).await), home);
    // Exactly, and by what stays: not by the name that people know it by.
    for account in ["Work-1", "work", "work-1 ", "someone@example.com"] {
        by(json!({"account": account})).await.refused(Code::GrantNotFound);
    }
    // A second grant on one account: now the account is not enough.
    let nightly = connected("work-1", json!("nightly")).await;
    let several = by(json!({"account": "work-1"})).await.refused(Code::AmbiguousGrant);
    let expected = [(nightly.clone(), json!("nightly"), json!("work-1")), (work.clone(), Value::Null, json!("work-1"))];
    assert_eq!(candidates(&several), expected);
    assert_eq!(several["account_identifiers"], json!(["work-1"]));
    assert_eq!(several["account_was_provided"], true);
    assert_eq!(resolved(by(json!({"account": "work-1", "label": "nightly"})).await), nightly);
    assert_eq!(resolved(by(json!({"label": "nightly"})).await), nightly);
    by(json!({"account": "home-1", "label": "nightly"})).await.refused(Code::GrantNotFound);
    // Somebody else, and the app itself, are told of none of it.
    let ben = idp.token(&server, json!({"sub": "user-2"}));
    for user_token in [json!(ben), Value::Null] {
        let none = by(json!({"user_token": user_token, "account": "work-1"})).await.refused(Code::GrantNotFound);
        assert!(!none.to_string().contains(&work) && none["candidates"].is_null(), "{none}");
    }
}

async fn a_users_own_grant_and_a_groups_are_both_named(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let ann = idp.token_with(&server, "ann", json!({"groups": ["ops"]}));
    let own = user_grant(&server, &world, &ann, "mine").await;
    server.advance_ms(1);
    let group = json!({"type": "group", "external_group_id": "ops", "idp_id": idp.id, "label": "shared"});
    let shared = text(&grant_to(&server, &world, group).await.ok(201), "grant_id");
    let by = async |token: &str, more: Value| {
        let body = json!({"provider_id": world.secret, "user_token": token});
        ask(&server, &world, merged(body, more)).await
    };
    let several = by(&ann, json!({})).await.refused(Code::AmbiguousGrant);
    let expected = [(shared.clone(), json!("shared"), Value::Null), (own.clone(), json!("mine"), Value::Null)];
    assert_eq!(candidates(&several), expected);
    // A managed secret has no accounts; the one user is whoever calls.
    let users = server.api("GET", &world.path("users"), Value::Null).await.ok(200);
    assert_eq!(several["app_user_ids"], json!([users["items"][0]["id"]]));
    assert_eq!((&users["total"], &several["account_identifiers"]), (&json!(1), &json!([])));
    for (label, grant) in [("mine", &own), ("shared", &shared)] {
        assert_eq!(text(&by(&ann, json!({"label": label})).await.ok(200), "grant_id"), *grant);
    }
    // Another member has the group's alone; whoever is in no group has none.
    let ben = idp.token_with(&server, "ben", json!({"groups": ["ops"]}));
    assert_eq!(text(&by(&ben, json!({})).await.ok(200), "grant_id"), shared);
    by(&idp.token(&server, "eve"), json!({})).await.refused(Code::GrantNotFound);
    // Without a user one of the app's own is meant, and of several none: no user is named.
    assert_eq!(
        text(&ask(&server, &world, json!({"provider_id": world.secret})).await.ok(200), "grant_id"),
        world.grant
    );
    let second = server.grant(&world, json!({"label": "second"})).await;
    let several = ask(&server, &world, json!({"provider_id": world.secret})).await.refused(Code::AmbiguousGrant);
    let mut ids: Vec<String> = candidates(&several).into_iter().map(|(id, ..)| id).collect();
    let mut own = vec![world.grant.clone(), second];
    ids.sort();
    own.sort();
    assert_eq!((ids, &several["app_user_ids"]), (own, &json!([])));
    assert!(several["app_user_id"].is_null());
}

async fn twenty_candidates_are_named_and_no_more(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let ann = idp.token(&server, "ann");
    let mut newest_first = Vec::new();
    let several = async || {
        let by = json!({"provider_id": world.secret, "user_token": ann});
        ask(&server, &world, by).await.refused(Code::AmbiguousGrant)
    };
    for n in 0..limits::CANDIDATES_MAX {
        server.advance_ms(1);
        newest_first.insert(0, user_grant(&server, &world, &ann, &format!("label {n}")).await);
    }
    let at_the_bound = several().await;
    let ids = |several: &Value| candidates(several).into_iter().map(|(id, ..)| id).collect::<Vec<_>>();
    assert_eq!(ids(&at_the_bound), newest_first);
    assert_eq!(at_the_bound["candidates_truncated"], false);
    server.advance_ms(1);
    newest_first.insert(0, user_grant(&server, &world, &ann, "one more").await);
    let past_it = several().await;
    assert_eq!(ids(&past_it), newest_first[..limits::CANDIDATES_MAX]);
    assert_eq!(past_it["candidates_truncated"], true);
    // Those that are not named can be meant all the same.
    let oldest = json!({"provider_id": world.secret, "user_token": ann, "label": "label 0"});
    assert_eq!(&text(&ask(&server, &world, oldest).await.ok(200), "grant_id"), newest_first.last().unwrap());
}
