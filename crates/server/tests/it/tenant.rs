//! The tenant guard: a table of modes, bindings and contexts; and who may change it.

use grantd_store::operators::Role;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::ask;
use crate::harness::{Answer, Server, World};

in_memory! {
    the_guard_keeps_its_table,
    a_binding_can_be_moved_and_lifted_by_an_admin_only,
    the_guard_is_byte_exact,
    a_guard_without_a_key_is_refused,
}

async fn token(server: &Server, world: &World, context: &str) -> Answer {
    server.send(server.sign_as(world).context(context).post("/sdk/token", &ask(&world.grant))).await
}

async fn guard(server: &Server, world: &World, mode: &str) {
    server.update_app(world, json!({"tenant_key": "tenant", "tenant_mode": mode})).await;
}

async fn the_guard_keeps_its_table(server: Server) {
    let world = server.world().await;
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": "acme"})).await);
    // A managed secret's grant without a binding serves all tenants.
    let (right, wrong, none) = (r#"{"tenant":"acme"}"#, r#"{"tenant":"other"}"#, "");
    for (mode, context, wanted) in [
        ("off", right, Ok(None)),
        ("off", wrong, Ok(None)),
        ("observe", right, Ok(Some("match"))),
        ("observe", wrong, Ok(Some("would_deny"))),
        ("observe", none, Ok(Some("would_deny"))),
        ("enforce", right, Ok(Some("match"))),
        ("enforce", wrong, Err(())),
        ("enforce", none, Err(())),
    ] {
        guard(&server, &world, mode).await;
        token(&server, &world, context).await.ok(200);
        let answer = token(&server, &bound, context).await;
        match wanted {
            Ok(verdict) => {
                answer.ok(200);
                let id = answer.header("x-grantd-event-id");
                let event = server.api("GET", &world.path(&format!("audit/events/{id}")), Value::Null).await.ok(200);
                assert_eq!(event["tenant"], json!(verdict), "{mode} {context}");
            }
            Err(()) => {
                let json = answer.refused(Code::TenantMismatch);
                assert_eq!(json["details"], json!({"tenant_key": "tenant"}), "the key's name, and no value");
            }
        }
    }
    let denied = server.told(&world, "token.denied").await;
    assert_eq!(denied.len(), 2);
    assert!(denied.iter().all(|event| event["code"] == "tenant_mismatch"));
}

async fn a_binding_can_be_moved_and_lifted_by_an_admin_only(server: Server) {
    let world = server.world().await;
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": "acme"})).await);
    guard(&server, &world, "enforce").await;
    let path = world.path(&format!("grants/{}", bound.grant));
    let developer = server.new_pat(Role::Developer, None, None).await;
    for change in [json!({"value": "other"}), json!("clear"), json!("exempt")] {
        let body = json!({"tenant": change});
        server.api_as(&developer, "PATCH", &path, body).await.refused(Code::RoleRequired);
    }
    let app = world.path("");
    for change in [json!({"tenant_mode": "off"}), json!({"tenant_key": "x"}), json!({"tenant_key": ""})] {
        server.api_as(&developer, "PATCH", &app, change).await.refused(Code::RoleRequired);
    }
    token(&server, &bound, r#"{"tenant":"other"}"#).await.refused(Code::TenantMismatch);
    let moved = server.api("PATCH", &path, json!({"tenant": {"value": "other"}})).await.ok(200);
    assert_eq!((&moved["tenant"], &moved["tenant_exempt"]), (&json!("other"), &json!(false)));
    token(&server, &bound, r#"{"tenant":"other"}"#).await.ok(200);
    token(&server, &bound, r#"{"tenant":"acme"}"#).await.refused(Code::TenantMismatch);
    let lifted = server.api("PATCH", &path, json!({"tenant": "exempt"})).await.ok(200);
    assert_eq!((&lifted["tenant"], &lifted["tenant_exempt"]), (&Value::Null, &json!(true)));
    token(&server, &bound, "").await.ok(200);
    let updates = server.told(&world, "grant.updated").await;
    let told = |event: &Value| event["changed"]["tenant"].clone();
    assert_eq!(updates.iter().map(told).collect::<Vec<_>>(), [json!(["bound", "bound"]), json!(["bound", "exempt"])]);
    assert!(updates.iter().all(|event| !event.to_string().contains("acme")), "a value may be personal");
}

async fn the_guard_is_byte_exact(server: Server) {
    let world = server.world().await;
    guard(&server, &world, "enforce").await;
    let value = "Acmé \u{1f600}";
    let bound = world.with_grant(&server.grant(&world, json!({"tenant": value})).await);
    token(&server, &bound, "{\"tenant\":\"Acm\\u00e9 \\ud83d\\ude00\"}").await.ok(200);
    for other in
        ["acm\\u00e9 \\ud83d\\ude00", "Acme\\u0301 \\ud83d\\ude00", " Acm\\u00e9 \\ud83d\\ude00", "Acm\\u00e9", ""]
    {
        token(&server, &bound, &format!("{{\"tenant\":\"{other}\"}}")).await.refused(Code::TenantMismatch);
    }
}

async fn a_guard_without_a_key_is_refused(server: Server) {
    let world = server.world().await;
    let path = world.path("");
    let patch = |body: Value| server.api("PATCH", &path, body);
    for mode in ["observe", "enforce"] {
        patch(json!({"tenant_mode": mode})).await.names(Code::InvalidValue, "tenant_key");
    }
    patch(json!({"tenant_mode": "sometimes"})).await.names(Code::InvalidRequest, "tenant_mode");
    patch(json!({"tenant_mode": "enforce", "tenant_key": "t".repeat(64)})).await.ok(200);
    patch(json!({"tenant_key": "t".repeat(65)})).await.names(Code::InvalidValue, "tenant_key");
    patch(json!({"tenant_key": ""})).await.names(Code::InvalidValue, "tenant_key");
    patch(json!({"tenant_key": "", "tenant_mode": "off"})).await.ok(200);
}
