//! The organization, and how its apps look.

use grantd_store::operators::Role;
use grantd_wire::ids::AppId;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::Server;

on_kept_engines! {
    an_organization_is_called_something_else,
    branding_is_set_field_by_field_and_reset,
}

in_memory! {
    branding_keeps_its_bounds,
}

async fn an_organization_is_called_something_else(server: Server) {
    let path = "/api/v1/organization";
    let before = server.api("GET", path, Value::Null).await.ok(200);
    let renamed = server.api("PATCH", path, json!({"name": "Example Ltd"})).await.ok(200);
    assert_eq!((&renamed["name"], &renamed["id"]), (&json!("Example Ltd"), &before["id"]));
    assert_eq!(server.api("GET", path, Value::Null).await.ok(200), renamed);
    server.api("PATCH", path, json!({"name": "Example Ltd"})).await.ok(200);
    let told = server.api("GET", "/api/v1/audit/events?kind=organization.updated", Value::Null).await.ok(200);
    let told = told["items"].as_array().unwrap();
    assert_eq!((told.len(), &told[0]["changed"]["name"]), (1, &json!([before["name"], "Example Ltd"])));
    for name in [String::new(), "n".repeat(limits::NAME_CHARS_MAX + 1)] {
        server.api("PATCH", path, json!({"name": name})).await.names(Code::InvalidValue, "name");
    }
    server.api("PATCH", path, json!({"name": "n".repeat(limits::NAME_CHARS_MAX)})).await.ok(200);
    let world = server.world().await;
    let pat = server.new_pat(Role::Admin, Some(vec![AppId::parse(&world.app).unwrap()]), None).await;
    server.api_as(&pat, "GET", path, Value::Null).await.refused(Code::RoleRequired);
    server.api_as(&pat, "PATCH", path, json!({"name": "n"})).await.refused(Code::RoleRequired);
}

async fn branding_is_set_field_by_field_and_reset(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = world.path("branding");
    let none = json!({"display_name": null, "accent_color": null, "background_color": null, "updated_at": null});
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), none);
    server.api("PATCH", &path, json!({"display_name": "Shop", "accent_color": "#0A7CFF"})).await.ok(200);
    let set = server.api("PATCH", &path, json!({"background_color": "#ffffff"})).await.ok(200);
    assert_eq!((&set["display_name"], &set["accent_color"]), (&json!("Shop"), &json!("#0a7cff")));
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), set);
    assert_eq!(server.api("GET", &other.path("branding"), Value::Null).await.ok(200), none);
    let cleared = server.api("PATCH", &path, json!({"accent_color": ""})).await.ok(200);
    assert_eq!((&cleared["accent_color"], &cleared["display_name"]), (&Value::Null, &json!("Shop")));
    server.api("PATCH", &path, json!({"accent_color": ""})).await.ok(200);
    for _ in 0..2 {
        assert_eq!(server.api("DELETE", &path, Value::Null).await.ok(200), none);
    }
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), none);
    let told = server.told(&world, "branding.updated").await;
    assert_eq!(told.len(), 4, "what changes nothing is no event");
    assert_eq!(told[2]["changed"], json!({"accent_color": ["#0a7cff", null]}));
    assert_eq!(told[3]["changed"], json!({"display_name": ["Shop", null], "background_color": ["#ffffff", null]}));
    server.token(&world).await.ok(200);
}

async fn branding_keeps_its_bounds(server: Server) {
    let world = server.world().await;
    let path = world.path("branding");
    for bad in ["0a7cff", "#0a7cf", "#0a7cfff", "#0a7cfg", "red", "#0a7cff;", "url(x)"] {
        for field in ["accent_color", "background_color"] {
            server.api("PATCH", &path, json!({field: bad})).await.names(Code::InvalidValue, field);
        }
    }
    let name = "é".repeat(limits::NAME_CHARS_MAX);
    server.api("PATCH", &path, json!({"display_name": name})).await.ok(200);
    for bad in [format!("{name}é"), " a".to_owned(), "a\u{1b}[31m".to_owned()] {
        server.api("PATCH", &path, json!({"display_name": bad})).await.names(Code::InvalidValue, "display_name");
    }
}
