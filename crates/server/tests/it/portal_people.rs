//! Pages of the portal about people: identity providers and what they tell, users.

use grantd_store::operators::Role;
use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::world::text;
use crate::portal::{Browser, furnish, is_sound};
use crate::walk;

in_memory! {
    an_identity_provider_is_added_changed_switched_off_and_deleted,
    tokens_of_directories_and_webhooks_are_shown_once,
    users_are_found_suspended_and_ended,
}

async fn an_identity_provider_is_added_changed_switched_off_and_deleted(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/identity", world.app);
    let list = browser.page(&path).await;
    for preset in grantd_domain::identity::PRESETS {
        assert!(list.contains(&format!("{path}/new/{}\"", preset.id)));
        is_sound(preset.id, &browser.get(&format!("{path}/new/{}", preset.id)).await.text);
    }
    assert_eq!(browser.get(&format!("{path}/new/none")).await.status, 404);
    let clerk = browser.page(&format!("{path}/new/clerk")).await;
    assert!(clerk.contains("id=\"claims.audience\" name=\"claims.audience\" type=\"text\" value=\"azp\""), "{clerk}");
    let create = format!("{path}/new/oidc");
    let typed = "typed-and-never-drawn";
    let given = [
        ("setup", "yes"),
        ("name", "Staff"),
        ("issuer", "https://staff.example.com"),
        ("audiences", "app-1\r\napp-2\r\nc"),
        ("jwks_url", "https://staff.example.com/jwks"),
        ("client_id", "c"),
        ("client_secret", typed),
        ("algorithm", "RS256"),
        ("algorithm", "ES256"),
        ("claims.groups", "/realm/groups"),
    ];
    for (field, value, at) in [
        ("issuer", "http://staff.example.com", "issuer"),
        ("audiences", "", "audiences"),
        ("jwks_url", "ftp://x", "jwks_url"),
        ("algorithm", "none", "algorithms"),
        ("client_id", "other", "client_id"),
    ] {
        let mut wrong: Vec<(&str, &str)> = given.iter().filter(|(name, _)| *name != field).copied().collect();
        wrong.push((field, value));
        let refused = browser.post(&create, &wrong).await;
        assert_eq!(refused.status, 422, "{field}");
        is_sound(&create, &refused.text);
        assert!(refused.text.contains(&format!("id=\"{at}-error\"")), "{field}: {}", refused.text);
        assert!(refused.text.contains("value=\"Staff\"") && !refused.text.contains(typed));
    }
    let made = browser.post(&create, &given).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let here = made.header("location").split('?').next().unwrap().to_owned();
    let api = world.path(&format!("identity-providers/{}", here.rsplit('/').next().unwrap()));
    let stored = server.api("GET", &api, Value::Null).await.ok(200);
    assert_eq!(
        (&stored["audiences"], &stored["algorithms"]),
        (&json!(["app-1", "app-2", "c"]), &json!(["RS256", "ES256"]))
    );
    assert_eq!((&stored["claims"]["groups"], &stored["claims"]["email"]), (&json!("/realm/groups"), &json!("email")));
    assert_eq!(
        (&stored["scopes"], &stored["has_client_secret"]),
        (&json!(["openid", "profile", "email"]), &json!(true))
    );
    let page = browser.get(&here).await;
    is_sound(&here, &page.text);
    assert!(!page.text.contains(typed));
    // An empty claim takes it away; the secret stays.
    let changed = [
        ("setup", "yes"),
        ("name", "Staff"),
        ("audiences", "app-1\r\nc"),
        ("algorithm", "RS256"),
        ("claims.subject", "sub"),
        ("claims.audience", "aud"),
        ("claims.groups", ""),
        ("scopes", "openid"),
        ("client_id", "c"),
    ];
    assert_eq!(browser.post(&here, &changed).await.status, 303);
    let stored = server.api("GET", &api, Value::Null).await.ok(200);
    assert_eq!((&stored["claims"]["groups"], &stored["has_client_secret"]), (&Value::Null, &json!(true)));
    for (state, says) in [("inactive", "Switch on"), ("active", "Switch off")] {
        assert_eq!(browser.post(&here, &[("state", state)]).await.status, 303);
        assert_eq!(server.api("GET", &api, Value::Null).await.ok(200)["state"], state);
        assert!(browser.page(&here).await.contains(says));
    }
    assert_eq!(browser.post(&here, &[("state", "other")]).await.status, 422);
    assert_eq!(browser.get(&format!("{here}/delete")).await.status, 200);
    assert_eq!(browser.post(&format!("{here}/delete"), &[]).await.status, 303);
    assert_eq!(browser.get(&here).await.status, 404);
}

async fn tokens_of_directories_and_webhooks_are_shown_once(server: Server) {
    let world = server.world().await;
    let admin = Browser::of(&server, Role::Admin).await;
    let shown =
        |page: &str| page.split_once("id=\"shown-token\">").map(|(_, rest)| rest.split('<').next().unwrap().to_owned());
    let body = json!({"preset": "auth0", "issuer": "https://x.eu.auth0.com/", "audiences": ["a"], "jwks_url": "https://x.eu.auth0.com/jwks"});
    let idp = text(&server.api("POST", &world.path("identity-providers"), body).await.ok(201), "id");
    let here = format!("/portal/apps/{}/identity/{idp}", world.app);
    for of in ["scim", "webhook"] {
        let path = format!("{here}/{of}");
        let form = [("do", "enable"), ("once", of)];
        let enabled = admin.post(&path, &form).await;
        assert_eq!(enabled.status, 200, "{}", enabled.text);
        is_sound(&path, &enabled.text);
        let token = shown(&enabled.text).unwrap();
        assert!(!admin.page(&here).await.contains(&token), "not again");
        assert_eq!(shown(&admin.post(&path, &form).await.text), Some(token.clone()), "a double click");
        server.advance_ms(60_000);
        let resent = admin.post(&path, &form).await;
        assert_eq!((resent.status, shown(&resent.text)), (303, None), "the same form, long after");
        assert_eq!(admin.post(&path, &[("do", "enable")]).await.status, 409, "it is on");
        let other = shown(&admin.post(&path, &[("do", "rotate")]).await.text).unwrap();
        assert_ne!(token, other);
        assert_eq!(admin.post(&path, &[("do", "disable")]).await.status, 303);
        assert_eq!(admin.post(&path, &[("do", "disable")]).await.status, 404);
        assert_eq!(admin.post(&path, &[("do", "other")]).await.status, 400);
    }
    // A vendor that signs has a secret of its own, which is asked for.
    let body = json!({"preset": "clerk", "issuer": "https://x.clerk.accounts.dev", "jwks_url": "https://x.clerk.accounts.dev/jwks"});
    let idp = text(&server.api("POST", &world.path("identity-providers"), body).await.ok(201), "id");
    let path = format!("/portal/apps/{}/identity/{idp}/webhook", world.app);
    let refused = admin.post(&path, &[("do", "enable"), ("secret", "short-and-wrong")]).await;
    assert!(refused.status == 422 && refused.text.contains("secret-error"), "{}", refused.text);
    assert!(!refused.text.contains("short-and-wrong"));
}

async fn users_are_found_suspended_and_ended(server: Server) {
    let world = server.world().await;
    let (developer, admin) = (Browser::of(&server, Role::Developer).await, Browser::of(&server, Role::Admin).await);
    let path = format!("/portal/apps/{}/users", world.app);
    assert!(developer.page(&path).await.contains("No user yet"));
    furnish(&server, &world, "ann@example.com").await;
    let other = walk::user(&server, &world).await.to_string();
    let list = developer.page(&path).await;
    assert!(list.contains("ann@example.com") && list.contains(&other));
    let found = developer.page(&format!("{path}?search=ANN")).await;
    assert!(found.contains("ann@example.com") && !found.contains(&other), "{found}");
    assert!(developer.page(&format!("{path}?status=suspended")).await.contains("No user fits"));
    for odd in ["status=none", "idp=x", "offset=x"] {
        assert_eq!(developer.get(&format!("{path}?{odd}")).await.status, 200, "{odd}");
    }
    let here = format!("{path}/{other}");
    let status = async || {
        text(&server.api("GET", &world.path(&format!("users/{other}")), Value::Null).await.ok(200), "user_status")
    };
    assert_eq!(developer.post(&format!("{here}/suspend"), &[]).await.status, 303);
    assert_eq!(status().await, "suspended");
    assert!(developer.page(&here).await.contains("Resume"));
    assert_eq!(developer.post(&format!("{here}/resume"), &[]).await.status, 303);
    assert_eq!(status().await, "active");
    // What it will end is said before; only an admin may.
    assert!(!developer.page(&here).await.contains("/deprovision"));
    let asked = admin.page(&format!("{here}/deprovision")).await;
    assert!(asked.contains("<dt>Grants that end</dt><dd>0</dd>"), "{asked}");
    assert_eq!(admin.post(&format!("{here}/deprovision"), &[]).await.status, 303);
    assert_eq!(status().await, "deprovisioned");
    let page = admin.page(&here).await;
    assert!(page.contains("Deprovisioned on") && !page.contains("/suspend"), "{page}");
    assert_eq!(admin.post(&format!("{here}/resume"), &[]).await.status, 409);
    // The API finds what the page shows, and says what is no user.
    for list in ["grants", "groups"] {
        let of = async |user: &str| server.api("GET", &world.path(&format!("{list}?user={user}")), Value::Null).await;
        assert_eq!(of(&other).await.ok(200)["total"], 0, "{list}");
        assert!(of("x").await.status >= 400, "{list}");
    }
}
