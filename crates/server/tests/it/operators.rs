//! Operators and their tokens: nobody gets more than they may give, and an admin is always left.

use grantd_store::operators::Role;
use grantd_wire::ids::AppId;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Server};

on_kept_engines! {
    the_last_admin_stays,
    a_new_operator_gets_in_with_a_token_and_out_again,
    two_admins_cannot_lock_each_other_out,
}

in_memory! {
    addresses_are_lower_case_and_one_operators_only,
    a_token_can_do_no_more_than_its_maker_and_its_owner,
    tokens_of_others_are_an_admins_business,
    a_token_for_some_apps_has_no_say_in_operators_and_tokens,
    tokens_keep_their_bounds,
}

async fn make(server: &Server, email: &str, role: &str) -> String {
    let body = json!({"email": email, "role": role});
    text(&server.api("POST", "/api/v1/operators", body).await.ok(201), "id")
}

async fn change(server: &Server, id: &str, body: Value) -> Answer {
    // Events of one millisecond are listed in no order.
    server.advance_ms(1);
    server.api("PATCH", &format!("/api/v1/operators/{id}"), body).await
}

/// A token of this operator, made by the admin: its text and its id.
async fn token_of(server: &Server, operator: &str, more: Value) -> (String, String) {
    server.advance_ms(1);
    let body = crate::harness::world::merged(json!({"name": "t", "operator_id": operator}), more);
    let made = server.api("POST", "/api/v1/tokens", body).await.ok(201);
    (text(&made, "token"), text(&made, "id"))
}

async fn whoami(server: &Server, pat: &str) -> Answer {
    server.api_as(pat, "GET", "/api/v1/whoami", Value::Null).await
}

async fn organization_events(server: &Server, kind: &str) -> Vec<Value> {
    let page = server.api("GET", &format!("/api/v1/audit/events?kind={kind}"), Value::Null).await.ok(200);
    page["items"].as_array().unwrap().clone()
}

async fn the_last_admin_stays(server: Server) {
    let first = server.operator.to_string();
    for body in [json!({"role": "developer"}), json!({"role": "viewer"}), json!({"disabled": true})] {
        change(&server, &first, body).await.refused(Code::InUse);
    }
    let second = make(&server, "second@example.com", "admin").await;
    change(&server, &second, json!({"disabled": true})).await.ok(200);
    change(&server, &first, json!({"role": "viewer"})).await.refused(Code::InUse);
    assert_eq!(whoami(&server, &server.pat).await.ok(200)["role"], "admin", "what is refused changes nothing");
    change(&server, &second, json!({"disabled": false})).await.ok(200);
    change(&server, &first, json!({"role": "viewer"})).await.ok(200);
    assert_eq!(whoami(&server, &server.pat).await.ok(200)["role"], "viewer", "its token is an admin's still");
    // The test looks the trail over as an admin.
    server.database.behind_its_back(&format!("UPDATE operators SET role = 'admin' WHERE id = '{first}'")).await;
}

async fn two_admins_cannot_lock_each_other_out(server: Server) {
    let second = make(&server, "second@example.com", "admin").await;
    let replica = server.another("replica", |_| {}).await;
    let (theirs, _) = token_of(&server, &second, json!({})).await;
    let (one, other) = (format!("/api/v1/operators/{}", server.operator), format!("/api/v1/operators/{second}"));
    let off = json!({"disabled": true});
    let (a, b) =
        tokio::join!(server.api("PATCH", &other, off.clone()), replica.api_as(&theirs, "PATCH", &one, off.clone()));
    // One wins; the other is told that an admin must stay, or is out already.
    let done = [&a, &b].iter().filter(|answer| answer.status == 200).count();
    assert_eq!(done, 1, "{} {}", a.text, b.text);
    let sql = "SELECT COUNT(*) FROM operators WHERE role = 'admin' AND disabled_at_ms IS NULL";
    assert_eq!(server.database.number(sql).await, 1);
    server.database.behind_its_back("UPDATE operators SET disabled_at_ms = NULL").await;
}

async fn a_new_operator_gets_in_with_a_token_and_out_again(server: Server) {
    let id = make(&server, "Ann@Example.com", "developer").await;
    let shown = server.api("GET", &format!("/api/v1/operators/{id}"), Value::Null).await.ok(200);
    assert_eq!((&shown["email"], &shown["role"]), (&json!("ann@example.com"), &json!("developer")));
    let (pat, pat_id) = token_of(&server, &id, json!({})).await;
    let who = whoami(&server, &pat).await.ok(200);
    assert_eq!(
        (&who["email"], &who["role"], &who["pat_id"]),
        (&json!("ann@example.com"), &json!("developer"), &json!(pat_id))
    );
    server.api_as(&pat, "POST", "/api/v1/apps", json!({"name": "Hers"})).await.ok(201);
    change(&server, &id, json!({"disabled": true})).await.ok(200);
    whoami(&server, &pat).await.refused(Code::SessionRequired);
    change(&server, &id, json!({"disabled": true})).await.ok(200);
    change(&server, &id, json!({"disabled": false, "role": "viewer"})).await.ok(200);
    assert_eq!(whoami(&server, &pat).await.ok(200)["role"], "viewer");
    let revoked =
        server.api_as(&server.pat, "POST", &format!("/api/v1/tokens/{pat_id}/revoke"), Value::Null).await.ok(200);
    assert_eq!(revoked["status"], "revoked");
    whoami(&server, &pat).await.refused(Code::SessionRequired);
    server.api("POST", &format!("/api/v1/tokens/{pat_id}/revoke"), Value::Null).await.ok(200);
    let told = organization_events(&server, "operator.updated").await;
    assert_eq!(told.len(), 2, "what changes nothing is no event");
    assert_eq!(told[0]["changed"], json!({"disabled": [true, false], "role": ["developer", "viewer"]}));
    assert_eq!((&told[0]["operator_id"], &told[0]["account"]), (&json!(id), &json!("ann@example.com")));
    let revoked = organization_events(&server, "pat.revoked").await;
    assert_eq!((revoked.len(), &revoked[0]["pat_id"]), (1, &json!(pat_id)));
    let made = organization_events(&server, "pat.created").await;
    assert_eq!(made[0]["changed"]["role"], json!([null, "developer"]));
}

async fn addresses_are_lower_case_and_one_operators_only(server: Server) {
    make(&server, "ann@example.com", "viewer").await;
    let again = json!({"email": "ANN@example.COM", "role": "viewer"});
    server.api("POST", "/api/v1/operators", again).await.refused(Code::NameTaken);
    for (body, field) in [
        (json!({"email": "ann", "role": "viewer"}), "email"),
        (json!({"email": "bob@example.com", "role": "owner"}), "role"),
    ] {
        server.api("POST", "/api/v1/operators", body).await.names(Code::InvalidValue, field);
    }
    let found = server.api("GET", "/api/v1/operators?search=ANN", Value::Null).await.ok(200);
    assert_eq!((&found["total"], &found["items"][0]["email"]), (&json!(1), &json!("ann@example.com")));
    for unknown in ["nothing", "0199c0de-0000-7000-8000-00000000beef"] {
        let path = format!("/api/v1/operators/{unknown}");
        server.api("GET", &path, Value::Null).await.refused(Code::NotFound);
        server.api("PATCH", &path, json!({"role": "viewer"})).await.refused(Code::NotFound);
    }
}

async fn a_token_can_do_no_more_than_its_maker_and_its_owner(server: Server) {
    // An admin with a developer's token makes developers' tokens.
    let developer = server.new_pat(Role::Developer, None, None).await;
    let ask = |role: &str| json!({"name": "t", "role": role});
    server.api_as(&developer, "POST", "/api/v1/tokens", ask("admin")).await.names(Code::InvalidValue, "role");
    let made = server.api_as(&developer, "POST", "/api/v1/tokens", json!({"name": "t"})).await.ok(201);
    assert_eq!(made["role"], "developer");
    let viewer = server.api_as(&developer, "POST", "/api/v1/tokens", ask("viewer")).await.ok(201);
    assert_eq!(whoami(&server, &text(&viewer, "token")).await.ok(200)["role"], "viewer");
    // The owner's role bounds it, whoever makes it.
    let ann = make(&server, "ann@example.com", "viewer").await;
    let more = json!({"name": "t", "role": "developer", "operator_id": ann});
    server.api("POST", "/api/v1/tokens", more).await.names(Code::InvalidValue, "role");
    let (hers, _) = token_of(&server, &ann, json!({})).await;
    assert_eq!(whoami(&server, &hers).await.ok(200)["role"], "viewer");
}

async fn tokens_of_others_are_an_admins_business(server: Server) {
    let (ann, bob) =
        (make(&server, "ann@example.com", "developer").await, make(&server, "bob@example.com", "developer").await);
    let ((hers, her_id), (_, his_id)) =
        (token_of(&server, &ann, json!({})).await, token_of(&server, &bob, json!({})).await);
    let list = server.api_as(&hers, "GET", "/api/v1/tokens", Value::Null).await.ok(200);
    assert_eq!((&list["total"], &list["items"][0]["id"]), (&json!(1), &json!(her_id)));
    server
        .api_as(&hers, "GET", &format!("/api/v1/tokens?operator={bob}"), Value::Null)
        .await
        .refused(Code::RoleRequired);
    let his = format!("/api/v1/tokens/{his_id}");
    server.api_as(&hers, "GET", &his, Value::Null).await.refused(Code::NotFound);
    server.api_as(&hers, "POST", &format!("{his}/revoke"), Value::Null).await.refused(Code::NotFound);
    let ask = json!({"name": "t", "operator_id": bob});
    server.api_as(&hers, "POST", "/api/v1/tokens", ask).await.refused(Code::RoleRequired);
    server.api("GET", &his, Value::Null).await.ok(200);
    let list = server.api("GET", &format!("/api/v1/tokens?operator={bob}"), Value::Null).await.ok(200);
    assert_eq!((&list["total"], &list["items"][0]["id"]), (&json!(1), &json!(his_id)));
    let unknown = "/api/v1/tokens?operator=0199c0de-0000-7000-8000-00000000beef";
    server.api("GET", unknown, Value::Null).await.refused(Code::NotFound);
    // Her own she can end herself.
    server.api_as(&hers, "POST", &format!("/api/v1/tokens/{her_id}/revoke"), Value::Null).await.ok(200);
    whoami(&server, &hers).await.refused(Code::SessionRequired);
}

async fn a_token_for_some_apps_has_no_say_in_operators_and_tokens(server: Server) {
    let world = server.world().await;
    let pat = server.new_pat(Role::Admin, Some(vec![AppId::parse(&world.app).unwrap()]), None).await;
    for (method, path, body) in [
        ("GET", "/api/v1/operators".to_owned(), Value::Null),
        ("POST", "/api/v1/operators".to_owned(), json!({"email": "a@example.com", "role": "admin"})),
        ("GET", format!("/api/v1/operators/{}", server.operator), Value::Null),
        ("PATCH", format!("/api/v1/operators/{}", server.operator), json!({})),
        ("GET", "/api/v1/tokens".to_owned(), Value::Null),
        ("POST", "/api/v1/tokens".to_owned(), json!({"name": "t"})),
        ("GET", format!("/api/v1/tokens/{}", server.operator), Value::Null),
        ("POST", format!("/api/v1/tokens/{}/revoke", server.operator), Value::Null),
    ] {
        server.api_as(&pat, method, &path, body).await.refused(Code::RoleRequired);
    }
}

async fn tokens_keep_their_bounds(server: Server) {
    let world = server.world().await;
    let ask = async |more: Value| {
        server.api("POST", "/api/v1/tokens", crate::harness::world::merged(json!({"name": "t"}), more)).await
    };
    for (more, field) in [
        (json!({"name": ""}), "name"),
        (json!({"app_ids": []}), "app_ids"),
        (json!({"app_ids": ["nothing"]}), "app_ids"),
        (json!({"app_ids": ["0199c0de-0000-7000-8000-00000000beef"]}), "app_ids"),
        (json!({"app_ids": vec![world.app.as_str(); limits::PAT_APPS_MAX + 1]}), "app_ids"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"expires_in_seconds": limits::LIFETIME_SECONDS_MAX + 1}), "expires_in_seconds"),
    ] {
        ask(more).await.names(Code::InvalidValue, field);
    }
    ask(json!({"app_ids": vec![world.app.as_str(); limits::PAT_APPS_MAX]})).await.ok(201);
    ask(json!({"expires_in_seconds": limits::LIFETIME_SECONDS_MAX})).await.ok(201);
    let usual = ask(json!({})).await.ok(201);
    let ends = grantd_wire::TimeMs::parse(&text(&usual, "expires_at")).unwrap();
    assert_eq!(ends.since(server.now()), limits::PAT_DAYS_DEFAULT * 86_400_000);
    let short = ask(json!({"expires_in_seconds": 1})).await.ok(201);
    let living = server.api("GET", "/api/v1/tokens", Value::Null).await.ok(200)["total"].as_i64().unwrap();
    for _ in living..limits::PATS_PER_OPERATOR_MAX {
        ask(json!({"expires_in_seconds": 60})).await.ok(201);
    }
    ask(json!({})).await.refused(Code::TooMany);
    // One that ended makes room.
    server.advance_ms(1_000);
    assert_eq!(
        server.api("GET", &format!("/api/v1/tokens/{}", text(&short, "id")), Value::Null).await.ok(200)["status"],
        "expired"
    );
    ask(json!({})).await.ok(201);
}
