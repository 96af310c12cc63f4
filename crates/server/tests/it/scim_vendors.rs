//! Whole exchanges with the directories of Okta and Entra ID, as their vendors document them: every request of a user's life, in order.

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::world::text;
use crate::scim::{Directory, form};

in_memory! {
    okta_tells_of_a_user_from_the_first_probe_to_the_end,
    entra_tells_of_a_user_from_the_first_probe_to_the_end,
}

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// An answer to a search that found so many.
fn is_list(page: &Value, total: usize) {
    assert_eq!(page["schemas"], json!([LIST]), "{page}");
    assert_eq!((&page["totalResults"], &page["startIndex"]), (&json!(total), &json!(1)), "{page}");
    assert!(page["itemsPerPage"].is_u64() && page["Resources"].as_array().is_some_and(|all| all.len() == total));
}

async fn status(server: &Server, app: &str) -> String {
    let users = server.api("GET", &format!("/api/v1/apps/{app}/users"), Value::Null).await.ok(200);
    text(&users["items"][0], "user_status")
}

/// <https://developer.okta.com/docs/api/openapi/okta-scim/guides/scim-20>, read on 2026-11-30.
async fn okta_tells_of_a_user_from_the_first_probe_to_the_end(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    // Whether there is anybody, and whether there is this one.
    is_list(&directory.get("/Users?startIndex=1&count=2").await, 0);
    let probe = format!("/Users?filter={}&startIndex=1&count=100", form("userName eq \"tess@okta.example\""));
    is_list(&directory.get(&probe).await, 0);
    // Created, with a password that means nothing.
    let body = json!({
        "schemas": [USER],
        "userName": "tess@okta.example",
        "name": {"givenName": "Tess", "familyName": "Lind"},
        "emails": [{"primary": true, "value": "tess@okta.example", "type": "work"}],
        "displayName": "Tess Lind",
        "locale": "en-US",
        "externalId": "00uTess",
        "groups": [],
        "password": "canary-1mz0",
        "active": true,
    });
    let made = directory.call("POST", "/Users", body.clone()).await.ok(201);
    let path = format!("/Users/{}", text(&made, "id"));
    assert_eq!((&made["userName"], &made["active"]), (&json!("tess@okta.example"), &json!(true)));
    assert_eq!(made["meta"]["resourceType"], "User");
    // Whoever is there already stops the job.
    assert_eq!(directory.call("POST", "/Users", body).await.status, 409);
    is_list(&directory.get(&probe).await, 1);
    is_list(&directory.get("/Users?startIndex=1&count=100").await, 1);
    // An update: what it read, changed, and put back whole, with what is not the directory's to set.
    let mut whole = directory.get(&path).await;
    whole["name"] = json!({"givenName": "Tessa", "middleName": "Ida", "familyName": "Lind"});
    whole["emails"] =
        json!([{"primary": true, "value": "tess@okta.example", "type": "work", "display": "tess@okta.example"}]);
    whole["groups"] = json!([]);
    whole["meta"] = json!({"resourceType": "User"});
    let put = directory.call("PUT", &path, whole.clone()).await.ok(200);
    assert_eq!((&put["name"]["givenName"], &put["externalId"]), (&json!("Tessa"), &json!("00uTess")));
    // Unassigned and assigned again: integrations of the catalogue send a PATCH, those of the wizard a PUT.
    for is_active in [false, true] {
        let patched = directory.patch(&path, json!([{"op": "replace", "value": {"active": is_active}}])).await;
        assert_eq!(patched.ok(200)["active"], is_active);
        assert_eq!(status(&server, &world.app).await, if is_active { "active" } else { "suspended" });
    }
    // A group is pushed empty; its name comes along with each change of its members.
    let group = json!({"schemas": [GROUP], "displayName": "Pilots", "members": []});
    let group = directory.call("POST", "/Groups", group).await.ok(201);
    let (at, id) = (format!("/Groups/{}", text(&group, "id")), text(&made, "id"));
    is_list(&directory.get("/Groups?startIndex=1&count=100").await, 1);
    directory
        .patch(&at, json!([{"op": "replace", "value": {"id": group["id"], "displayName": "Aviators"}}]))
        .await
        .ok(200);
    let gone = "89bb1940-b905-4575-9e7f-6f887cfb368e";
    let change = json!([
        {"op": "remove", "path": format!("members[value eq \"{gone}\"]")},
        {"op": "add", "path": "members", "value": [{"value": id, "display": "tess@okta.example"}]},
    ]);
    directory.patch(&at, change).await.ok(200);
    let shown = directory.get(&at).await;
    assert_eq!((&shown["displayName"], &shown["members"][0]["value"]), (&json!("Aviators"), &json!(id)));
    let none = json!({"schemas": [GROUP], "displayName": "Aviators", "members": []});
    assert!(directory.call("PUT", &at, none).await.ok(200)["members"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(directory.call("DELETE", &at, Value::Null).await.status, 204);
    // Users are never deleted.
    whole["active"] = json!(false);
    assert_eq!(directory.call("PUT", &path, whole).await.ok(200)["active"], false);
    assert_eq!(status(&server, &world.app).await, "suspended");
    assert_eq!(directory.told().await.last().unwrap(), "user.suspended");
}

/// <https://learn.microsoft.com/en-us/entra/identity/app-provisioning/use-scim-to-provision-users-and-groups>, and for booleans that come
/// as texts …/application-provisioning-config-problem-scim-compatibility, read on 2026-11-30.
async fn entra_tells_of_a_user_from_the_first_probe_to_the_end(server: Server) {
    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let find = async |list: &str, filter: &str| directory.get(&format!("/{list}filter={}", form(filter))).await;
    // The test of the connection asks for somebody who cannot be: a list that is empty, not a 404.
    is_list(&find("Users?", "userName eq \"1f0f6a9e-3f2b-4c57-8a53-2d1b1c7d2f10\"").await, 0);
    assert_eq!(directory.get("/Schemas").await["schemas"], json!([LIST]));
    let body = json!({
        "schemas": [USER, ENTERPRISE],
        "externalId": "8f2b2a0e",
        "userName": "ursula@entra.example",
        "active": true,
        "emails": [{"primary": true, "type": "work", "value": "ursula@entra.example"}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Ursula Berg", "familyName": "Berg", "givenName": "Ursula"},
        "roles": [],
        ENTERPRISE: {"department": "Sales", "employeeNumber": "17", "manager": {"value": "x"}},
    });
    let made = directory.call("POST", "/Users", body).await.ok(201);
    let (id, path) = (text(&made, "id"), format!("/Users/{}", text(&made, "id")));
    assert_eq!((&made["externalId"], &made["active"]), (&json!("8f2b2a0e"), &json!(true)));
    for filter in [
        "userName eq \"ursula@entra.example\"",
        "externalId eq \"8f2b2a0e\"",
        "emails[type eq \"work\"].value eq \"ursula@entra.example\"",
    ] {
        is_list(&find("Users?", filter).await, 1);
    }
    // Several attributes at once, with a filter in a path, and of the extension, which is not kept.
    let change = json!([
        {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "u.berg@entra.example"},
        {"op": "Replace", "path": "name.familyName", "value": "Berg-Lind"},
        {"op": "Add", "path": format!("{ENTERPRISE}:department"), "value": "Support"},
    ]);
    directory.patch(&path, change).await.ok(200);
    let shown = directory.get(&path).await;
    let (email, family) = (&shown["emails"][0]["value"], &shown["name"]["familyName"]);
    assert_eq!((email, family), (&json!("u.berg@entra.example"), &json!("Berg-Lind")));
    directory
        .patch(&path, json!([{"op": "Replace", "path": "userName", "value": "u.berg@entra.example"}]))
        .await
        .ok(200);
    // Unassigned, and assigned again: a boolean, or a text that says one.
    for (value, is_active) in
        [(json!(false), false), (json!("True"), true), (json!("False"), false), (json!(true), true)]
    {
        let patched = directory.patch(&path, json!([{"op": "Replace", "path": "active", "value": value}])).await;
        assert_eq!(patched.ok(200)["active"], is_active, "{value}");
        assert_eq!(status(&server, &world.app).await, if is_active { "active" } else { "suspended" }, "{value}");
    }
    // A group begins without members, and is asked for without them.
    let group = json!({
        "schemas": [GROUP, "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"],
        "externalId": "5c1d", "displayName": "Pilots", "meta": {"resourceType": "Group"},
    });
    let group = text(&directory.call("POST", "/Groups", group).await.ok(201), "id");
    let at = format!("/Groups/{group}");
    is_list(&find("Groups?excludedAttributes=members&", "displayName eq \"Pilots\"").await, 1);
    let members = async || directory.get(&at).await["members"].as_array().map_or(0, Vec::len);
    let operation = |op: &str| json!([{"op": op, "path": "members", "value": [{"$ref": null, "value": id}]}]);
    directory.patch(&at, operation("Add")).await.ok(200);
    assert_eq!(members().await, 1);
    is_list(
        &find("Groups?excludedAttributes=members&", &format!("id eq \"{group}\" and members eq \"{id}\"")).await,
        1,
    );
    directory.patch(&at, operation("Remove")).await.ok(200);
    assert_eq!(members().await, 0);
    directory.patch(&at, json!([{"op": "Replace", "path": "displayName", "value": "Aviators"}])).await.ok(200);
    let shown = directory.get(&format!("{at}?excludedAttributes=members")).await;
    assert_eq!((&shown["displayName"], &shown["members"]), (&json!("Aviators"), &Value::Null));
    assert_eq!(directory.call("DELETE", &at, Value::Null).await.status, 204);
    // Final, thirty days after the first.
    assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(status(&server, &world.app).await, "deprovisioned");
    assert_eq!(directory.call("GET", &path, Value::Null).await.status, 404);
}
