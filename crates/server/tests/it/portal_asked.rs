//! What whoever proved long ago who they are is asked again for: every form of the portal is grave, or is named here as not.

use grantd_server::portal::routes::{Access, PORTAL, Row, Screen};
use grantd_store::operators::Role;
use grantd_wire::limits;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, World};
use crate::organization::picture;
use crate::portal::{Browser, fields_of, furnish, others, path_of};
use crate::portal_account::{PASSWORD, held, set, somebody};

in_memory! {
    every_form_asks_again_or_is_named_as_not_grave,
    a_change_is_grave_by_what_it_changes,
    a_look_is_taken_back_although_a_logo_was_chosen,
}

/// Forms that ask nobody again, with why.
const LIGHT: &[(Screen, &str)] = &[
    (Screen::SsoConfirm, "it is the proof"),
    (Screen::SignOut, "it only takes from oneself"),
    (Screen::SessionEnd, "it only takes from oneself"),
    (Screen::AppCreate, "it makes something new that nothing rests on"),
    (Screen::KeyCreate, "the key reaches what is stored or granted with it, and is on the list of keys"),
    (Screen::ProviderCreate, "no account is connected by it yet"),
    (Screen::ProviderConnect, "the account's owner is asked by their provider"),
    (Screen::SecretCreate, "it makes something new that nothing rests on"),
    (Screen::SecretGrant, "it opens what is stored to keys of this app alone, and can be revoked"),
    (Screen::SecretTest, "it makes the harmless call of the catalogue"),
    (Screen::GrantReconnect, "the account's owner is asked by their provider"),
    (Screen::IdpCreate, "nothing is granted to users of it yet"),
    (Screen::UserResume, "it gives back what somebody had"),
    (Screen::AppUnarchive, "it gives back what was there"),
    (Screen::BrandingSet, "looks; what is taken back is grave"),
    (Screen::AppHold, "it keeps more than was kept"),
    (Screen::AuditExport, "it reads"),
    (Screen::OrganizationExport, "it reads"),
    (Screen::SettingsSave, "a name, and how long tokens live that are made from then on, which is asked for itself"),
    // There is no issuer in this test; `portal_sso` shows that it asks.
    (Screen::SsoRemove, "there is nothing to remove"),
];

/// What the form sends so that it is grave, if it ever is.
fn grave_fields<'w>(row: &Row, world: &'w World) -> Vec<(&'static str, &'w str)> {
    match row.screen {
        Screen::AppUpdate => vec![("name", "New"), ("retrieve", "on")],
        Screen::ProviderUpdate => vec![("name", "New"), ("client_id", "c"), ("client_secret", "another")],
        Screen::IdpUpdate => vec![("state", "inactive")],
        Screen::SecretDelete => vec![("confirm", world.secret.as_str())],
        Screen::AppDelete => vec![("confirm", world.app.as_str())],
        Screen::BrandingSet => vec![("do", "save")],
        _ => fields_of(row),
    }
}

fn is_asked(answer: &Answer) -> bool {
    answer.status == 401 && answer.text.contains("Is it still you?")
}

async fn every_form_asks_again_or_is_named_as_not_grave(server: Server) {
    let world = server.world().await;
    server.update_app(&world, json!({"retrieve": "off"})).await;
    furnish(&server, &world, "Plain").await;
    let others = others(&server, &world).await;
    let mut browser = Browser::of(&server, Role::Admin).await;
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let forms = PORTAL.iter().filter(|row| row.method == "POST" && matches!(row.access, Access::Role(_)));
    for row in forms.clone() {
        let path = path_of(row, &world, &others);
        let answer = browser.post(&path, &grave_fields(row, &world)).await;
        let light = LIGHT.iter().find(|(screen, _)| *screen == row.screen);
        assert_eq!(is_asked(&answer), light.is_none(), "{path}: {} {}", answer.status, answer.text);
        if row.screen == Screen::SignOut {
            browser = Browser::of(&server, Role::Admin).await;
            server.advance_ms(limits::CONFIRMED_S * 1000);
        }
    }
    assert!(LIGHT.iter().all(|(screen, _)| forms.clone().any(|row| row.screen == *screen)), "a form that is gone");
    // Whatever was asked for, none of it was done.
    server.update_app(&world, json!({"retrieve": "on"})).await;
    server.token(&world).await.ok(200);
}

async fn a_change_is_grave_by_what_it_changes(server: Server) {
    let world = server.world().await;
    furnish(&server, &world, "Plain").await;
    let guarded = json!({
        "retrieve": "off", "tenant_key": "tenant", "tenant_mode": "observe", "connect_sign_in": "required",
        "return_origins": ["https://a.example", "https://b.example"],
    });
    server.update_app(&world, guarded).await;
    let browser = Browser::of(&server, Role::Admin).await;
    server.advance_ms(limits::CONFIRMED_S * 1000);
    // Each on top of what stands there.
    let app = [
        ("name", "First"),
        ("retrieve", "off"),
        ("tenant_key", "tenant"),
        ("tenant_mode", "observe"),
        ("connect_sign_in", "required"),
        ("return_origins", "https://a.example\r\nhttps://b.example"),
    ];
    let provider = [("setup", "yes"), ("name", "Plain"), ("client_id", "c"), ("allowed_hosts", "")];
    let stored = server
        .api("GET", &world.path("identity-providers/https%3A%2F%2Fpeople.example.com"), Value::Null)
        .await
        .ok(200);
    let claim = |name: &str| stored["claims"][name].as_str().unwrap_or_default().to_owned();
    let claims: Vec<(String, String)> = ["subject", "audience", "email", "name", "groups", "roles"]
        .into_iter()
        .map(|name| (format!("claims.{name}"), claim(name)))
        .collect();
    let mut idp = vec![("name", "Plain"), ("audiences", "app"), ("jwks_url", "https://people.example.com/jwks")];
    idp.extend(claims.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    idp.extend(stored["algorithms"].as_array().unwrap().iter().map(|name| ("algorithm", name.as_str().unwrap())));
    let people = "identity/https%3A%2F%2Fpeople.example.com";
    for (page, stands, field, value, is_grave) in [
        ("settings", &app[..], "name", "Other", false),
        ("settings", &app, "retrieve", "on", true),
        ("settings", &app, "tenant_mode", "off", true),
        ("settings", &app, "tenant_key", "other", true),
        ("settings", &app, "connect_sign_in", "off", true),
        ("settings", &app, "return_origins", "", true),
        ("settings", &app, "return_origins", "https://a.example https://evil.example", true),
        ("settings", &app, "return_origins", "https://a.example", false),
        ("providers/slack", &provider, "name", "Other", false),
        ("providers/slack", &provider, "scopes", "chat:write", false),
        ("providers/slack", &provider, "client_id", "other", true),
        ("providers/slack", &provider, "client_secret", "other", true),
        ("providers/slack", &provider, "allowed_hosts", "evil.example", true),
        (people, &idp, "name", "Other", false),
        (people, &idp, "scopes", "openid", false),
        (people, &idp, "audiences", "app, other", true),
        (people, &idp, "jwks_url", "https://evil.example/jwks", true),
        (people, &idp, "client_id", "other", true),
        (people, &idp, "client_secret", "other", true),
        (people, &idp, "claims.subject", "email", true),
        (people, &idp, "algorithm", "ES512", true),
        (people, &[][..], "rediscover", "yes", true),
        (people, &[], "state", "inactive", true),
        (people, &[], "state", "active", false),
    ] {
        let mut fields: Vec<(&str, &str)> = stands.iter().filter(|(name, _)| *name != field).copied().collect();
        fields.push((field, value));
        let answer = browser.post(&format!("/portal/apps/{}/{page}", world.app), &fields).await;
        assert_eq!(is_asked(&answer), is_grave, "{page} {field}={value}: {} {}", answer.status, answer.text);
        if !is_grave {
            assert!(answer.status == 303, "{page} {field}={value}: {} {}", answer.status, answer.text);
        }
    }
    // To keep more in check is not grave; of the origins one was taken away above.
    let stricter = |(name, value): &(&'static str, &'static str)| match *name {
        "tenant_mode" => (*name, "enforce"),
        "return_origins" => (*name, "https://a.example"),
        name => (name, *value),
    };
    let stricter: Vec<(&str, &str)> = app.iter().map(stricter).collect();
    assert_eq!(browser.post(&format!("/portal/apps/{}/settings", world.app), &stricter).await.status, 303);
}

async fn a_look_is_taken_back_although_a_logo_was_chosen(server: Server) {
    let world = server.world().await;
    let (browser, _) = somebody(&server, Role::Developer).await;
    set(&browser, PASSWORD).await;
    let path = format!("/portal/apps/{}/branding", world.app);
    let saved = crate::portal_setup::with_file(&browser, &path, &[("display_name", "Shop")], &picture(8)).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    // Buttons that take back are of a form of their own, without what was chosen in the other one.
    let page = browser.page(&path).await;
    let form = page.split_once("<form id=\"take-back\"").unwrap().1.split_once("</form>").unwrap().0;
    assert!(!form.contains("multipart") && !form.contains("type=\"file\""), "{form}");
    for button in ["value=\"reset\"", "value=\"remove_logo\""] {
        let before = page.split_once(button).unwrap().0;
        assert!(before[before.rfind("<button").unwrap()..].contains("form=\"take-back\""), "{button}");
    }
    let asked = browser.post(&path, &[("do", "reset")]).await;
    assert!(is_asked(&asked), "{} {}", asked.status, asked.text);
    let done = browser.post(&path, &[("held", &held(&asked.text)), ("password", PASSWORD)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    let look = server.api("GET", &world.path("branding"), Value::Null).await.ok(200);
    assert_eq!((&look["logo"], &look["display_name"]), (&Value::Null, &Value::Null));
}
