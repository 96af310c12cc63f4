//! Templates of managed secrets: the catalogue, and secrets made from it.

use grantd_store::operators::Role;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::world::{VALUE, text};

in_memory! {
    the_catalogue_is_listed_searched_and_shown,
    a_template_completes_what_is_left_out,
    what_a_template_needs_is_asked_for_by_name,
    a_rotation_stays_with_the_account,
}

on_kept_engines! {
    the_template_of_a_secret_is_kept,
}

async fn the_catalogue_is_listed_searched_and_shown(server: Server) {
    let viewer = server.new_pat(Role::Viewer, None, None).await;
    let get = async |path: &str| server.api_as(&viewer, "GET", path, Value::Null).await;
    let list = get("/api/v1/secret-templates").await.ok(200);
    assert_eq!((&list["total"], &list["has_more"], &list["limit"]), (&json!(71), &json!(false), &json!(100)));
    assert_eq!(list["items"].as_array().unwrap().len(), 71);
    let page = get("/api/v1/secret-templates?limit=2&offset=69").await.ok(200);
    assert_eq!((&page["items"][1]["id"], &page["has_more"]), (&json!("workos"), &json!(false)));
    assert_eq!(page["items"][0], list["items"][69]);
    for (search, ids) in
        [("SHOP", json!(["shopify"])), ("monitoring", json!(7)), ("google", json!(["google-ai"])), ("zzz", json!(0))]
    {
        let found = get(&format!("/api/v1/secret-templates?search={search}")).await.ok(200);
        match ids {
            Value::Number(total) => assert_eq!(found["total"], Value::Number(total), "{search}"),
            ids => {
                let items = found["items"].as_array().unwrap();
                assert_eq!(items.iter().map(|item| item["id"].clone()).collect::<Value>(), ids, "{search}");
            }
        }
    }
    get("/api/v1/secret-templates?limit=1001").await.refused(Code::InvalidRequest);
    let shopify = get("/api/v1/secret-templates/shopify").await.ok(200);
    assert_eq!(shopify["fields"][0]["required"], true);
    assert_eq!(shopify["allowed_hosts"], json!(["{store}.myshopify.com"]));
    assert_eq!((&shopify["verified"], &shopify["evidence"]["hosts"]["level"]), (&json!(true), &json!("vendor")));
    assert_eq!(get("/api/v1/secret-templates/coda").await.ok(200)["verified"], false);
    assert!(get("/api/v1/secret-templates/exa").await.ok(200)["no_probe"].is_string());
    for missing in ["Shopify", "custom", "%ff", "..%2fstripe"] {
        get(&format!("/api/v1/secret-templates/{missing}")).await.refused(Code::NotFound);
    }
}

async fn a_template_completes_what_is_left_out(server: Server) {
    let world = server.world().await;
    let create = async |body: Value| server.api("POST", &world.path("managed-secrets"), body).await;
    let made = create(json!({
        "name": "Search", "template": "algolia", "value": VALUE, "fields": {"application_id": "ABC123"},
    }));
    let made = made.await.ok(201);
    assert_eq!((&made["template"], &made["credential_type"]), (&json!("algolia"), &json!("header_key")));
    assert_eq!(
        (&made["injection_header"], &made["injection_format"]),
        (&json!("x-algolia-api-key"), &json!("{token}"))
    );
    assert_eq!(made["injections"][0]["value_source"], "additional_credentials.application_id");
    assert_eq!(made["allowed_hosts"][0], "abc123-dsn.algolia.net");
    assert_eq!(made["fields"], json!(["application_id"]));
    let created = server.told(&world, "secret.created").await;
    assert_eq!(created.last().unwrap()["changed"]["template"], json!([null, "algolia"]));

    let made = create(json!({
        "name": "Own", "template": "stripe", "value": VALUE, "allowed_hosts": ["stripe.example.com"], "injection_format": "Token {token}",
    }));
    let made = made.await.ok(201);
    assert_eq!(
        (&made["allowed_hosts"], &made["injection_format"]),
        (&json!(["stripe.example.com"]), &json!("Token {token}"))
    );
    // What is said of no template is not remembered as one.
    let made = create(json!({"name": "C", "template": "custom", "value": VALUE, "allowed_hosts": ["a.example.com"]}))
        .await
        .ok(201);
    assert_eq!((&made["template"], &made["injection_header"]), (&Value::Null, &json!("Authorization")));
}

async fn what_a_template_needs_is_asked_for_by_name(server: Server) {
    let world = server.world().await;
    let create = async |body: Value| server.api("POST", &world.path("managed-secrets"), body).await;
    for (template, fields, field) in [
        ("shopify", json!({}), "fields.store"),
        ("shopify", json!({"store": "a.example.com"}), "fields.store"),
        ("shopify", json!({"store": "acme", "shop": "acme"}), "fields.shop"),
        ("datadog", json!({"site": "datadoghq.eu"}), "fields.application_key"),
        ("grafana", json!({}), "fields.domain"),
        ("aws", json!({}), "fields.secret_key"),
        ("neon-sql", json!({}), "value"),
        ("nonsense", json!({}), "template"),
        ("custom", json!({}), "allowed_hosts"),
    ] {
        let answer = create(json!({"name": "x", "template": template, "value": VALUE, "fields": fields})).await;
        answer.names(Code::InvalidValue, field);
        assert!(
            answer.json()["hint"].is_string() || answer.json()["message"].as_str().unwrap().contains("must be"),
            "{}",
            answer.text
        );
    }
}

async fn a_rotation_stays_with_the_account(server: Server) {
    let world = server.world().await;
    let secret = server
        .secret(
            &world.app,
            json!({
                "name": "Shop", "template": "shopify", "fields": {"store": "acme"}, "allowed_hosts": null,
            }),
        )
        .await;
    assert_eq!(secret["allowed_hosts"], json!(["acme.myshopify.com"]));
    let rotate = async |body: Value| {
        server.api("POST", &world.path(&format!("managed-secrets/{}/rotate", text(&secret, "slug"))), body).await
    };
    rotate(json!({"value": VALUE})).await.ok(200);
    rotate(json!({"value": VALUE, "fields": {"store": "acme"}})).await.ok(200);
    rotate(json!({"value": VALUE, "fields": {"store": "other"}})).await.names(Code::InvalidValue, "fields.store");
    rotate(json!({"value": VALUE, "fields": {}})).await.ok(200);
    let hosts = json!({"allowed_hosts": ["acme.myshopify.com", "shop.example.com"]});
    let path = world.path(&format!("managed-secrets/{}/allowed-hosts", text(&secret, "slug")));
    assert_eq!(server.api("PUT", &path, hosts).await.ok(200)["template"], "shopify");
}

async fn the_template_of_a_secret_is_kept(server: Server) {
    let world = server.world().await;
    server.secret(&world.app, json!({"name": "Pay", "template": "stripe", "allowed_hosts": null})).await;
    let other = server.another("other", |_| {}).await;
    let list = other.api("GET", &world.path("managed-secrets"), Value::Null).await.ok(200);
    let items = list["items"].as_array().unwrap();
    let of = |slug: &str| items.iter().find(|item| item["slug"] == slug).unwrap()["template"].clone();
    assert_eq!((of("stripe"), of("pay")), (Value::Null, json!("stripe")));
    let shown = other.api("GET", &world.path("managed-secrets/pay"), Value::Null).await.ok(200);
    assert_eq!(
        (&shown["template"], &shown["allowed_hosts"]),
        (&json!("stripe"), &json!(["api.stripe.com", "files.stripe.com"]))
    );
}
