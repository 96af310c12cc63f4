//! Templates of managed secrets: the catalogue, and secrets made from it.

use grantd_store::operators::Role;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::Server;

in_memory! {
    the_catalogue_is_listed_searched_and_shown,
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
