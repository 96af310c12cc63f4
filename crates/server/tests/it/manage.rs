//! The management API: fields named, apps and keys within their bounds, lists.

use grantd_store::keys;
use grantd_wire::Code;
use grantd_wire::ids::{AppId, GrantId, KeyId};
use serde_json::{Value, json};

use crate::harness::watch::clean;
use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};

in_memory! {
    unknown_fields_are_named,
    apps_keep_their_bounds,
    keys_keep_their_bounds,
    lists_page_filter_and_search,
    what_is_not_built_yet_says_so,
    the_scope_catalogue_is_told,
    the_text_of_a_key_is_shown_once,
    an_app_has_a_thousand_living_keys_at_most,
    what_is_printed_for_debugging_holds_no_secret,
}

async fn post(server: &Server, world: &World, rest: &str, body: Value) -> Answer {
    server.api("POST", &world.path(rest), body).await
}

async fn unknown_fields_are_named(server: Server) {
    let world = server.world().await;
    let (secret, grant) = (&world.secret, &world.grant);
    for (method, rest, body) in [
        ("POST", "keys".to_owned(), json!({"name": "n", "colour": "canary"})),
        ("POST", "managed-secrets".to_owned(), json!({"name": "n", "value": "canary", "colour": "canary"})),
        ("POST", format!("managed-secrets/{secret}/rotate"), json!({"value": "canary", "colour": 1})),
        ("PUT", format!("managed-secrets/{secret}/allowed-hosts"), json!({"allowed_hosts": [], "colour": 1})),
        ("POST", format!("managed-secrets/{secret}/grants"), json!({"principal_type": "system", "colour": 1})),
        ("PATCH", format!("grants/{grant}"), json!({"colour": 1})),
        ("POST", format!("grants/{grant}/revoke"), json!({"colour": 1})),
    ] {
        server.api(method, &world.path(&rest), body).await.names(Code::InvalidRequest, "colour");
    }
    server.api("POST", "/api/v1/apps", json!({"name": "n", "colour": 1})).await.names(Code::InvalidRequest, "colour");
    let injection = json!({"target": "header", "key": "K", "value_source": "token", "colour": 1});
    let body = json!({"name": "n", "value": "canary", "injections": [injection]});
    post(&server, &world, "managed-secrets", body).await.names(Code::InvalidRequest, "injections[0].colour");
    server.api("GET", "/api/v1/apps?colour=1", Value::Null).await.names(Code::InvalidRequest, "colour");
    for (body, field) in [
        (json!({"name": 1}), "name"),
        (json!({"name": "n", "scopes": "canary"}), "scopes"),
        (json!({"name": "n", "scopes": ["grants:read", 7]}), "scopes[1]"),
        (json!({"name": "n", "rate_limit_rpm": "canary"}), "rate_limit_rpm"),
        (json!({}), "name"),
    ] {
        post(&server, &world, "keys", body).await.names(Code::InvalidRequest, field);
    }
    for (body, field) in [
        (json!({"name": "n", "value": ["canary"]}), "value"),
        (json!({"name": "n", "value": "v", "fields": {"a": {"canary": 1}}}), "fields.a"),
        (json!({"name": "n", "value": "v", "credential_type": "canary"}), "credential_type"),
        (json!({"name": "n", "value": "v", "injections": [["header", "K", "token"]]}), "injections[0]"),
    ] {
        post(&server, &world, "managed-secrets", body).await.names(Code::InvalidRequest, field);
    }
}

async fn apps_keep_their_bounds(server: Server) {
    let create = |body: Value| server.api("POST", "/api/v1/apps", merged(json!({"name": "App"}), body));
    create(json!({"name": "é".repeat(100)})).await.ok(201);
    for bad in [
        json!("é".repeat(101)),
        json!(""),
        json!(" a"),
        json!("a "),
        json!("a\n"),
        json!("a\u{1b}[31m"),
        json!("\u{0}"),
    ] {
        create(json!({"name": bad})).await.names(Code::InvalidValue, "name");
    }
    create(json!({"description": "d".repeat(1_000), "website_url": "https://example.com"})).await.ok(201);
    create(json!({"description": "d".repeat(1_001)})).await.names(Code::InvalidValue, "description");
    for bad in ["example.com", "javascript:alert(1)", "ftp://x"] {
        create(json!({"website_url": bad})).await.names(Code::InvalidValue, "website_url");
    }
    let app = create(json!({})).await.ok(201);
    let path = format!("/api/v1/apps/{}", text(&app, "id"));
    assert_eq!((&app["state"], &app["version"], &app["tenant_mode"]), (&json!("active"), &json!(1), &json!("off")));
    let changed = server.api("PATCH", &path, json!({"description": "x", "name": "New"})).await.ok(200);
    assert_eq!((&changed["description"], &changed["version"]), (&json!("x"), &json!(2)));
    assert_eq!(server.api("PATCH", &path, json!({"description": ""})).await.ok(200)["description"], Value::Null);
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200)["name"], "New");
}

async fn keys_keep_their_bounds(server: Server) {
    let world = server.world().await;
    let mint = |more: Value| post(&server, &world, "keys", merged(json!({"name": "Key"}), more));
    let default = mint(json!({})).await.ok(201);
    assert_eq!(default["scopes"], json!(grantd_wire::scope::APP_KEY_DEFAULT));
    assert_eq!((&default["key_type"], &default["expires_at"]), (&json!("rk"), &Value::Null));
    let nets = |n: usize| json!({"cidr_allowlist": (0..n).map(|i| format!("10.0.{i}.0/24")).collect::<Vec<_>>()});
    let scopes = |n: usize| json!({"scopes": vec!["grants:read"; n]});
    for good in [
        nets(100),
        scopes(100),
        json!({"rate_limit_rpm": 1}),
        json!({"rate_limit_rpm": 1_000_000}),
        json!({"expires_in_seconds": 1}),
        json!({"expires_in_seconds": 316_224_000}),
        json!({"scopes": ["*"]}),
        json!({"scopes": [format!("tokens:retrieve:{}", world.grant)]}),
        json!({"cidr_allowlist": ["::1", "2001:db8::/32", "127.0.0.1"]}),
    ] {
        mint(good).await.ok(201);
    }
    for (bad, field) in [
        (json!({"name": "k".repeat(101)}), "name"),
        (nets(101), "cidr_allowlist"),
        (json!({"cidr_allowlist": ["10.0.0.0/33"]}), "cidr_allowlist"),
        (json!({"cidr_allowlist": ["host"]}), "cidr_allowlist"),
        (scopes(101), "scopes"),
        (scopes(0), "scopes"),
        (json!({"scopes": ["grants:read:x"]}), "scopes"),
        (json!({"scopes": ["tokens:*"]}), "scopes"),
        (json!({"rate_limit_rpm": 0}), "rate_limit_rpm"),
        (json!({"rate_limit_rpm": 1_000_001}), "rate_limit_rpm"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"expires_in_seconds": 316_224_001}), "expires_in_seconds"),
        (json!({"expires_in_seconds": i64::MAX}), "expires_in_seconds"),
        (json!({"key_type": "pk"}), "key_type"),
    ] {
        mint(bad).await.names(Code::InvalidValue, field);
    }
}

async fn lists_page_filter_and_search(server: Server) {
    let world = server.world().await;
    for n in 0..5 {
        server.key(&world.app, json!({"name": format!("Other {n}")})).await;
        server.grant(&world, json!({"label": format!("Label {n}")})).await;
    }
    let total = async |path: &str| server.api("GET", path, Value::Null).await;
    for (rest, wanted) in [
        ("keys", 6),
        ("keys?search=oth", 5),
        ("keys?search=OTHER%203", 1),
        ("keys?search=%25", 0),
        ("managed-secrets?search=str", 1),
        ("managed-secrets?search=tripe", 0),
        ("grants", 6),
        ("grants?search=label", 5),
        ("grants?status=active", 6),
        ("grants?status=revoked", 0),
        ("grants?provider=stripe", 6),
        ("grants?provider=other", 0),
        ("managed-secrets/stripe/grants", 6),
    ] {
        let page = total(&world.path(rest)).await.ok(200);
        assert_eq!((&page["total"], page["items"].as_array().unwrap().len()), (&json!(wanted), wanted), "{rest}");
        assert_eq!((&page["limit"], &page["offset"], &page["has_more"]), (&json!(100), &json!(0), &json!(false)));
    }
    let (mut seen, mut offset) = (Vec::new(), 0);
    loop {
        let page = total(&world.path(&format!("grants?limit=4&offset={offset}"))).await.ok(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|g| text(g, "grant_id")));
        offset += 4;
        if page["has_more"] == false {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
    for (rest, field) in [
        ("keys?limit=0", "limit"),
        ("keys?limit=1001", "limit"),
        ("grants?offset=-1", "offset"),
        ("grants?offset=10001", "offset"),
        ("grants?status=other", "status"),
        ("managed-secrets/stripe/grants?status=other", "status"),
        ("managed-secrets?limit=x", "limit"),
    ] {
        total(&world.path(rest)).await.names(Code::InvalidRequest, field);
    }
    total(&world.path("grants?limit=1000&offset=10000")).await.ok(200);
}

async fn what_is_not_built_yet_says_so(server: Server) {
    let world = server.world().await;
    let path = format!("managed-secrets/{}/grants", world.secret);
    post(&server, &world, &path, json!({"principal_type": "agent"})).await.refused(Code::FeatureUnavailable);
    for key_type in ["ak", "dk"] {
        let body = json!({"name": "k", "key_type": key_type});
        post(&server, &world, "keys", body).await.refused(Code::FeatureUnavailable);
    }
    let sdk = |principal: Value| {
        let body = json!({"principal": principal, "grant_policy": {}});
        server.send(server.sign_as(&world).post(&format!("/sdk/{path}"), &body))
    };
    sdk(json!({"type": "user", "user_token": "eyJ", "label": "l"})).await.refused(Code::JwtValidationError);
    sdk(json!({"type": "group", "external_group_id": "g", "idp_id": "i", "label": "l"}))
        .await
        .refused(Code::InvalidValue);
    sdk(json!({"type": "agent", "label": null})).await.refused(Code::InvalidValue);
    sdk(json!({"type": "robot"})).await.refused(Code::InvalidRequest);
    sdk(json!({})).await.refused(Code::InvalidRequest);
    let other = json!({"principal": {"type": "system"}, "credential_id": "0199c0de-0000-7000-8000-00000000beef"});
    server.send(server.sign_as(&world).post(&format!("/sdk/{path}"), &other)).await.refused(Code::GrantNotFound);
    let list = server.api("GET", &world.path("grants"), Value::Null).await.ok(200);
    assert_eq!(list["total"], 1, "none of this made a grant");
}

async fn the_scope_catalogue_is_told(server: Server) {
    let world = server.world().await;
    let catalogue = server.send(server.sign_as(&world).get("/sdk/scopes")).await.ok(200);
    assert_eq!((&catalogue["scope_version"], &catalogue["deprecated"]), (&json!(1), &json!([])));
    assert_eq!(catalogue["resources"]["grants"], json!({"verbs": ["read", "write", "admin"]}));
    assert_eq!(catalogue["resources"].as_object().unwrap().len(), 7);
    assert_eq!(catalogue["action_verbs"].as_array().unwrap().len(), 9);
}

async fn the_text_of_a_key_is_shown_once(server: Server) {
    let world = server.world().await;
    let shown = server.api("GET", &world.path(&format!("keys/{}", world.key_id)), Value::Null).await.ok(200);
    assert_eq!((&shown["key_prefix"], shown.get("api_key")), (&json!(world.key[..13]), None));
    assert!(world.key.contains("canary"), "so that the harness would see it anywhere else");
    assert_eq!(grantd_wire::key::check(&world.key), Ok(Some(grantd_wire::key::KeyType::Runtime)));
    server
        .api("GET", &world.path("keys/0199c0de-0000-7000-8000-00000000beef"), Value::Null)
        .await
        .refused(Code::NotFound);
}

async fn an_app_has_a_thousand_living_keys_at_most(server: Server) {
    let world = server.world().await;
    for _ in 1..1_000 {
        server.key(&world.app, json!({})).await;
    }
    post(&server, &world, "keys", json!({"name": "one more"})).await.refused(Code::TooMany);
    post(&server, &world, &format!("keys/{}/revoke", world.key_id), Value::Null).await.ok(200);
    post(&server, &world, "keys", json!({"name": "one more"})).await.ok(201);
}

async fn what_is_printed_for_debugging_holds_no_secret(server: Server) {
    let world = server.world().await;
    let (app, grant) = (AppId::parse(&world.app).unwrap(), GrantId::parse(&world.grant).unwrap());
    let key_id = KeyId::parse(&world.key_id).unwrap();
    let held = server.store().find_held(app, grant).await.unwrap().unwrap();
    let key = server.store().read(move |tx| keys::find(tx, app, key_id)).await.unwrap().unwrap();
    let value = server.vault.keys.open(&held.1.as_ref().unwrap().credential).await.unwrap();
    assert!(value.reveal().contains("canary"), "it would be seen");
    clean("Debug of what a call holds", &format!("{held:?} {key:?} {value:?}"));
}
