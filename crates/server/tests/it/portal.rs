//! The portal: signing in and out, every row of its table as everybody, and what every page must be.

use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::identity::{User, UserStatus};
use grantd_server::jobs;
use grantd_server::login;
use grantd_server::portal::routes::{Access, PORTAL, Row, Screen};
use grantd_store::operators::{self, Operator, Role};
use grantd_store::users;
use grantd_wire::ids::{AppId, IdentityProviderId, OperatorId, OrganizationId, UserId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server, World};

in_memory! {
    a_link_signs_in_once_and_opening_it_uses_nothing_up,
    whoever_signs_in_gets_a_new_session,
    a_disabled_operator_is_signed_out_for_good,
    an_operator_has_so_many_links_and_browsers_and_no_more,
    every_row_as_nobody_and_as_each_role,
    a_form_of_another_page_or_origin_changes_nothing,
    every_page_is_sound_and_runs_nothing_that_stands_in_it,
    the_theme_is_kept_by_a_cookie_and_drawn_by_the_server,
    guessing_links_is_slowed,
}

on_kept_engines! {
    a_session_ends_by_itself_by_idling_and_by_age,
    an_operator_of_another_organization_finds_nothing,
    behind_tls_cookies_are_of_this_host_alone_and_never_go_unencrypted,
}

on_every_engine! {
    signing_in_out_and_elsewhere_is_in_the_trail,
}

/// A browser that is signed in.
pub struct Browser {
    pub server: Server,
    pub cookie: String,
}

impl Browser {
    /// As an operator with this role: a new one, unless it is the first admin.
    pub async fn of(server: &Server, role: Role) -> Self {
        let email = format!("{}@example.com", new_uuid(&*server.env));
        let body = json!({"email": email, "role": role.as_str()});
        server.api("POST", "/api/v1/operators", body).await.ok(201);
        Self::with_link(server, &link(server, Some(&email)).await).await
    }

    pub async fn with_link(server: &Server, link: &str) -> Self {
        let answer = post(server, "", "/portal/sign-in", &[("link", link)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/portal"), "{}", answer.text);
        Self { server: server.clone(), cookie: cookie_of(&answer) }
    }

    pub async fn get(&self, path: &str) -> Answer {
        get(&self.server, &self.cookie, path).await
    }

    /// The page as a browser reads its text.
    pub async fn page(&self, path: &str) -> String {
        self.get(path).await.text.replace("&#x2f;", "/").replace("&quot;", "\"")
    }

    /// Sends a form as a page that this browser was shown would.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = csrf(&self.get("/portal/sessions").await.text);
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        post(&self.server, &self.cookie, path, &all).await
    }
}

pub async fn link(server: &Server, email: Option<&str>) -> String {
    let made = login::make(server.store(), &*server.env, email).await.unwrap();
    let url = made.url(&server.vault.settings.public_url);
    url.split_once("?link=").unwrap().1.to_owned()
}

pub fn with_cookie(raw: Raw, cookie: &str) -> Raw {
    if cookie.is_empty() { raw } else { raw.set("cookie", format!("other=1; grantd_portal={cookie}")) }
}

async fn get(server: &Server, cookie: &str, path: &str) -> Answer {
    server.send(with_cookie(Raw::new("GET", path, ""), cookie)).await
}

async fn post(server: &Server, cookie: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    server.send(form(cookie, path, fields)).await
}

pub fn form(cookie: &str, path: &str, fields: &[(&str, &str)]) -> Raw {
    let field = |(name, value): &(&str, &str)| {
        let encoded = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        format!("{name}={encoded}")
    };
    let body = fields.iter().map(field).collect::<Vec<_>>().join("&");
    with_cookie(Raw::new("POST", path, body), cookie)
        .set("content-type", "application/x-www-form-urlencoded")
        .set("origin", "http://127.0.0.1:8080")
        .set("sec-fetch-site", "same-origin")
}

/// What a form of the page carries.
pub fn csrf(page: &str) -> String {
    let after = page.split_once("name=\"csrf\" value=\"").expect("the page has a form").1;
    after.split('"').next().unwrap().to_owned()
}

fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict"), "{cookie}");
    cookie.strip_prefix("grantd_portal=").unwrap().split(';').next().unwrap().to_owned()
}

pub fn is_sent_to_sign_in(answer: &Answer) -> bool {
    answer.status == 303 && answer.header("location").starts_with("/portal/sign-in")
}

async fn a_link_signs_in_once_and_opening_it_uses_nothing_up(server: Server) {
    let link = link(&server, None).await;
    for _ in 0..3 {
        let page = get(&server, "", &format!("/portal/sign-in?link={link}")).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains("operator@localhost") && page.header("set-cookie").is_empty(), "{}", page.text);
    }
    let browser = Browser::with_link(&server, &link).await;
    assert_eq!(browser.get("/portal/apps").await.status, 200);
    for _ in 0..2 {
        let again = post(&server, "", "/portal/sign-in", &[("link", &link)]).await;
        assert_eq!((again.status, again.header("set-cookie")), (410, ""));
    }
    assert_eq!(get(&server, "", &format!("/portal/sign-in?link={link}")).await.status, 410);
    // To its very end, and not beyond.
    let late = self::link(&server, None).await;
    server.advance_ms(limits::LOGIN_LINK_S * 1000 - 1);
    assert_eq!(get(&server, "", &format!("/portal/sign-in?link={late}")).await.status, 200);
    server.advance_ms(1);
    assert_eq!(get(&server, "", &format!("/portal/sign-in?link={late}")).await.status, 410);
    assert_eq!(post(&server, "", "/portal/sign-in", &[("link", &late)]).await.status, 410);
    // Back to where they wanted to go, if that is a page of ours.
    for (to, location) in
        [("/portal/sessions", "/portal/sessions"), ("https://evil.example/", "/portal"), ("//evil.example", "/portal")]
    {
        let link = self::link(&server, None).await;
        let answer = post(&server, "", "/portal/sign-in", &[("link", &link), ("to", to)]).await;
        assert_eq!((answer.status, answer.header("location")), (303, location));
    }
}

async fn whoever_signs_in_gets_a_new_session(server: Server) {
    // A cookie that somebody else put there opens nothing, before and after.
    let planted = "p".repeat(43);
    let signed_in = post(&server, &planted, "/portal/sign-in", &[("link", &link(&server, None).await)]).await;
    let cookie = cookie_of(&signed_in);
    assert_ne!(cookie, planted);
    assert!(is_sent_to_sign_in(&get(&server, &planted, "/portal/apps").await));
    // Signing in again ends what the browser was signed in with.
    let again = cookie_of(&post(&server, &cookie, "/portal/sign-in", &[("link", &link(&server, None).await)]).await);
    assert!(is_sent_to_sign_in(&get(&server, &cookie, "/portal/apps").await));
    assert_eq!(get(&server, &again, "/portal/apps").await.status, 200);
    for wrong in ["", "x", &again[..42], &format!("{again}a"), &again.to_lowercase()] {
        assert!(is_sent_to_sign_in(&get(&server, wrong, "/portal/apps").await), "{wrong}");
    }
}

async fn a_session_ends_by_itself_by_idling_and_by_age(server: Server) {
    let link = link(&server, None).await;
    let browser = Browser::with_link(&server, &link).await;
    let idle_ms = limits::WEB_SESSION_IDLE_S * 1000;
    server.advance_ms(idle_ms - 1);
    assert_eq!(browser.get("/portal/apps").await.status, 200);
    // That counted as being there.
    server.advance_ms(idle_ms - 1);
    assert_eq!(browser.get("/portal/apps").await.status, 200);
    server.advance_ms(idle_ms);
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));

    let link = self::link(&server, None).await;
    let browser = Browser::with_link(&server, &link).await;
    let (mut left_ms, step_ms) = (limits::WEB_SESSION_S * 1000, idle_ms / 2);
    while left_ms > step_ms {
        server.advance_ms(step_ms);
        left_ms -= step_ms;
        assert_eq!(browser.get("/portal/apps").await.status, 200, "{left_ms}");
    }
    server.advance_ms(left_ms - 1);
    assert_eq!(browser.get("/portal/apps").await.status, 200);
    server.advance_ms(1);
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM web_sessions").await, 0);
}

async fn a_disabled_operator_is_signed_out_for_good(server: Server) {
    let browser = Browser::of(&server, Role::Developer).await;
    let list = server.api("GET", "/api/v1/operators", Value::Null).await.ok(200);
    let found = list["items"].as_array().unwrap().iter().find(|item| item["role"] == "developer").unwrap();
    let (path, email) = (format!("/api/v1/operators/{}", text(found, "id")), text(found, "email"));
    // A smaller role counts at once.
    assert_eq!(browser.get("/portal/apps/new").await.status, 200);
    server.api("PATCH", &path, json!({"role": "viewer"})).await.ok(200);
    assert_eq!(browser.get("/portal/apps/new").await.status, 403);
    let waiting = link(&server, Some(&email)).await;
    server.api("PATCH", &path, json!({"disabled": true})).await.ok(200);
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));
    assert!(login::make(server.store(), &*server.env, Some(&email)).await.is_err());
    server.api("PATCH", &path, json!({"disabled": false})).await.ok(200);
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));
    assert_eq!(post(&server, "", "/portal/sign-in", &[("link", &waiting)]).await.status, 410);
    assert!(login::make(server.store(), &*server.env, Some("nobody@example.com")).await.is_err());
}

async fn an_operator_has_so_many_links_and_browsers_and_no_more(server: Server) {
    let mut links = Vec::new();
    for _ in 0..=limits::LOGIN_LINKS_MAX {
        links.push(link(&server, None).await);
        server.advance_ms(1);
    }
    let status = |link: String| {
        let server = server.clone();
        async move { get(&server, "", &format!("/portal/sign-in?link={link}")).await.status }
    };
    assert_eq!(status(links[0].clone()).await, 410);
    assert_eq!(status(links[1].clone()).await, 200);
    let mut browsers = Vec::new();
    for _ in 0..=limits::WEB_SESSIONS_MAX {
        let link = link(&server, None).await;
        browsers.push(Browser::with_link(&server, &link).await);
        server.advance_ms(1);
    }
    assert!(is_sent_to_sign_in(&browsers[0].get("/portal/apps").await));
    assert_eq!(browsers[1].get("/portal/apps").await.status, 200);
}

/// Objects beside those of the world's app.
pub struct Others {
    event: String,
    organization_event: String,
    operator: String,
    token: String,
}

/// The row's path, in the world's app.
pub fn path_of(row: &Row, world: &World, others: &Others) -> String {
    if matches!(row.screen, Screen::SessionEnd | Screen::PasskeyRemove) {
        return row.path.replacen("{}", NO_ID, 1);
    }
    if row.screen == Screen::OrganizationEvent {
        return row.path.replacen("{}", &others.organization_event, 1);
    }
    if row.path.starts_with("/portal/members/") {
        return row.path.replacen("{}", &others.operator, 1);
    }
    if row.path.starts_with("/portal/tokens/") {
        return row.path.replacen("{}", &others.token, 1);
    }
    let object = match row.screen {
        Screen::ProviderNew | Screen::ProviderCreate => "github",
        Screen::Provider
        | Screen::ProviderUpdate
        | Screen::ProviderAskDelete
        | Screen::ProviderDelete
        | Screen::ProviderConnect => "slack",
        Screen::IdpNew | Screen::IdpCreate => "oidc",
        Screen::Idp
        | Screen::IdpUpdate
        | Screen::IdpAskDelete
        | Screen::IdpDelete
        | Screen::IdpScim
        | Screen::IdpWebhook => IDP_SEGMENT,
        Screen::User
        | Screen::UserSuspend
        | Screen::UserResume
        | Screen::UserAskDeprovision
        | Screen::UserDeprovision => USER_ID,
        Screen::KeyAskRevoke | Screen::KeyRevoke => &world.key_id,
        Screen::Grant | Screen::GrantAskRevoke | Screen::GrantRevoke | Screen::GrantReconnect => &world.grant,
        Screen::SecretNew | Screen::SecretCreate => "stripe",
        Screen::Event => &others.event,
        _ => &world.secret_id,
    };
    row.path.replacen("{}", &world.app, 1).replacen("{}", object, 1)
}

const NO_ID: &str = "0199c0de-0000-7000-8000-00000000beef";
/// An identity provider goes by its issuer, too.
const IDP: &str = "https://people.example.com";
const IDP_SEGMENT: &str = "https%3A%2F%2Fpeople.example.com";
const USER_ID: &str = "0199c0de-0000-7000-8000-00000000cafe";

/// Sees to it that the world has what pages of the setup and of people are of, by this name, whatever was done to it before.
pub async fn furnish(server: &Server, world: &World, name: &str) {
    server.api("POST", &world.path("unarchive"), Value::Null).await.ok(200);
    for gone in ["providers/github", "identity-providers/https%3A%2F%2Fnew.example.com"] {
        server.api("DELETE", &world.path(gone), Value::Null).await;
    }
    let provider = json!({"provider": "slack", "client_id": "c", "name": name});
    server.api("POST", &world.path("providers"), provider).await;
    let idp = json!({"issuer": IDP, "audiences": ["app"], "jwks_url": "https://people.example.com/jwks", "name": name});
    server.api("POST", &world.path("identity-providers"), idp).await;
    server.api("DELETE", &world.path(&format!("identity-providers/{IDP_SEGMENT}/scim")), Value::Null).await;
    let found = server.api("GET", &world.path(&format!("identity-providers/{IDP_SEGMENT}")), Value::Null).await.ok(200);
    let idp_id = IdentityProviderId::parse(&text(&found, "id")).unwrap();
    let (app_id, id, now) = (AppId::parse(&world.app).unwrap(), UserId::parse(USER_ID).unwrap(), server.now());
    let user = User {
        id,
        app_id,
        idp_id,
        subject: name.to_owned(),
        status: UserStatus::Active,
        email: Some(name.to_owned()),
        name: Some(name.to_owned()),
        roles: std::collections::BTreeSet::from([name.to_owned()]),
        told_at: None,
        told_hash: None,
        last_seen_at: None,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let write = move |tx: &mut grantd_store::Tx<'_>| match users::find(tx, app_id, id)? {
        Some(_) => Ok(()),
        None => users::insert(tx, &user).map(drop),
    };
    server.store().write(write).await.unwrap();
}

/// The event of the app's creation, a new operator, and a token of the first admin.
pub async fn others(server: &Server, world: &World) -> Others {
    let body = json!({"email": format!("{}@example.com", new_uuid(&*server.env)), "role": "developer"});
    let operator = server.api("POST", "/api/v1/operators", body).await.ok(201);
    let token = server.api("POST", "/api/v1/tokens", json!({"name": world.app})).await.ok(201);
    let event = text(&server.told(world, "app.created").await[0], "id");
    let page = server.api("GET", "/api/v1/audit/events?kind=install.created", Value::Null).await.ok(200);
    let organization_event = text(&page["items"][0], "id");
    Others { event, organization_event, operator: text(&operator, "id"), token: text(&token, "id") }
}

/// What a form of the row sends beside its proof.
pub fn fields_of(row: &Row) -> Vec<(&'static str, &'static str)> {
    match row.screen {
        Screen::Theme => vec![("theme", "dark")],
        Screen::Language => vec![("lang", "de")],
        Screen::AppCreate | Screen::AppUpdate | Screen::KeyCreate | Screen::TokenCreate | Screen::SettingsSave => {
            vec![("name", "New")]
        }
        Screen::ProviderCreate | Screen::ProviderUpdate => vec![("name", "New"), ("client_id", "c")],
        Screen::IdpCreate => vec![
            ("issuer", "https://new.example.com"),
            ("jwks_url", "https://new.example.com/jwks"),
            ("audiences", "a"),
            ("algorithm", "RS256"),
        ],
        Screen::IdpUpdate => vec![("state", "active")],
        Screen::IdpScim | Screen::IdpWebhook => vec![("do", "enable")],
        Screen::SecretRotate => vec![("value", "sk_test_of_nobody")],
        Screen::SecretHosts => vec![("allowed_hosts", "api.example.com")],
        Screen::MemberCreate => vec![("email", "new@example.com"), ("role", "viewer")],
        Screen::MemberRole => vec![("role", "viewer")],
        Screen::AppHold => vec![("reason", "a case")],
        Screen::SecretCreate => vec![("name", "New"), ("value", "sk_test_of_nobody")],
        Screen::PasskeyAdd => vec![("name", "Phone")],
        Screen::PasswordSet => vec![("password", "violet kettle moth")],
        _ => Vec::new(),
    }
}

/// Whether the answer is what the row does: its page, or where it leads.
fn is_done(row: &Row, answer: &Answer) -> bool {
    match row.screen {
        // There is no such session, and neither password, app nor passkey yet, nor an issuer to sign in at.
        Screen::SessionEnd
        | Screen::PasskeyRemove
        | Screen::PasswordRemove
        | Screen::TotpCodes
        | Screen::TotpRemove
        | Screen::SsoConfirm
        | Screen::SsoRemove => answer.status == 404,
        // Nothing was typed to confirm it; a grant on a secret has no account.
        Screen::SecretDelete | Screen::AppDelete | Screen::GrantReconnect => answer.status == 400,
        // It is of no template; of a kind without webhooks; of no device.
        Screen::SecretTest | Screen::IdpWebhook | Screen::PasskeyAdd => answer.status == 422,
        // Nobody but an admin reaches a token of another.
        Screen::TokenAskRevoke | Screen::TokenRevoke => matches!(answer.status, 200 | 303 | 404),
        _ => matches!(answer.status, 200 | 303) && !is_sent_to_sign_in(answer),
    }
}

async fn every_row_as_nobody_and_as_each_role(server: Server) {
    let world = server.world().await;
    let others = others(&server, &world).await;
    let roles = [Role::Viewer, Role::Developer, Role::Admin];
    for row in PORTAL.iter().filter(|row| row.screen != Screen::SignOut) {
        let path = path_of(row, &world, &others);
        let Access::Role(needed) = row.access else { continue };
        let as_nobody = match row.method {
            "GET" => get(&server, "", &path).await,
            _ => post(&server, "", &path, &fields_of(row)).await,
        };
        assert!(is_sent_to_sign_in(&as_nobody), "{} {path}: {}", row.method, as_nobody.status);
        for role in roles {
            let browser = Browser::of(&server, role).await;
            furnish(&server, &world, "Plain").await;
            let answer = match row.method {
                "GET" => browser.get(&path).await,
                _ => browser.post(&path, &fields_of(row)).await,
            };
            match role < needed {
                true => assert_eq!(answer.status, 403, "{} {path} as {}", row.method, role.as_str()),
                false => assert!(is_done(row, &answer), "{} {path}: {} {}", row.method, answer.status, answer.text),
            }
        }
        let is_own = row.path.starts_with("/portal/s") || row.path.starts_with("/portal/account");
        let changes = !is_own && !row.path.ends_with("/audit/export");
        assert!(row.method == "GET" || needed > Role::Viewer || !changes, "{}", row.path);
    }
    let browser = Browser::of(&server, Role::Viewer).await;
    for (path, status) in
        [("/portal/nothing", 404), ("/portal/apps/0199c0de-0000-7000-8000-00000000beef", 404), ("/portal/apps/x", 404)]
    {
        assert_eq!(browser.get(path).await.status, status, "{path}");
    }
    let wrong = server.send(with_cookie(Raw::new("DELETE", "/portal/apps", ""), &browser.cookie)).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET"));
}

async fn a_form_of_another_page_or_origin_changes_nothing(server: Server) {
    let browser = Browser::of(&server, Role::Admin).await;
    let other = Browser::of(&server, Role::Admin).await;
    let (own, foreign) =
        (csrf(&browser.get("/portal/sessions").await.text), csrf(&other.get("/portal/sessions").await.text));
    for row in PORTAL.iter().filter(|row| row.method == "POST" && matches!(row.access, Access::Role(_))) {
        let path = row.path.replace("{}", NO_ID);
        for wrong in ["", "x", foreign.as_str()] {
            let mut fields = fields_of(row);
            fields.push(("csrf", wrong));
            let answer = post(&server, &browser.cookie, &path, &fields).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(answer.text.contains(Code::CsrfFailed.as_str()));
        }
    }
    for row in PORTAL.iter().filter(|row| row.method == "POST") {
        let path = row.path.replace("{}", NO_ID);
        let mut fields = fields_of(row);
        fields.push(("csrf", &own));
        let right = form(&browser.cookie, &path, &fields);
        for raw in [
            right.clone().set("origin", "https://evil.example"),
            right.clone().set("origin", "null"),
            right.clone().set("origin", "http://127.0.0.1:8081"),
            right.clone().set("origin", "http://127.0.0.1:8080.evil.example"),
            right.clone().set("sec-fetch-site", "cross-site"),
            right.clone().set("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(server.send(raw).await.status, 403, "{path}");
        }
    }
    assert!(server.apps().await.is_empty());
    assert_eq!(browser.get("/portal/apps").await.status, 200, "nobody was signed out");
}

async fn an_operator_of_another_organization_finds_nothing(server: Server) {
    let world = server.world().await;
    let others = others(&server, &world).await;
    let email = "stranger@example.com";
    let stranger = Operator {
        id: OperatorId::from_uuid(new_uuid(&*server.env)),
        organization_id: server.vault.organization_id,
        email: email.to_owned(),
        role: Role::Admin,
        disabled_at: None,
    };
    let (id, now) = (stranger.id, server.env.now());
    server.store().write(move |tx| operators::insert(tx, &stranger, now)).await.unwrap();
    let browser = Browser::with_link(&server, &link(&server, Some(email)).await).await;
    assert_eq!(browser.get(&format!("/portal/apps/{}", world.app)).await.status, 200);
    // There is one organization in an install; another is made behind its back.
    let elsewhere = OrganizationId::from_uuid(new_uuid(&*server.env));
    server
        .database
        .behind_its_back(&format!("UPDATE operators SET organization_id = '{elsewhere}' WHERE id = '{id}'"))
        .await;
    assert!(browser.get("/portal/apps").await.text.contains("No app yet"));
    for row in PORTAL.iter().filter(|row| row.path.contains("/apps/{}")) {
        let path = path_of(row, &world, &others);
        let answer = match row.method {
            "GET" => browser.get(&path).await,
            _ => browser.post(&path, &fields_of(row)).await,
        };
        assert_eq!(answer.status, 404, "{} {path}", row.method);
    }
}

/// Asserts that a page is whole and holds nothing that runs.
pub fn is_sound(path: &str, page: &str) {
    use html5gum::{Token, Tokenizer};
    let void = ["meta", "link", "input", "img", "br", "hr", "use", "wbr"];
    let (mut open, mut ids, mut headings) = (Vec::new(), Vec::new(), 0);
    for Ok(token) in Tokenizer::new(page) {
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                let attribute = |wanted: &str| {
                    let found = tag.attributes.iter().find(|(n, _)| n.as_slice() == wanted.as_bytes());
                    found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                };
                for (attribute, value) in &tag.attributes {
                    let attribute = String::from_utf8_lossy(attribute);
                    assert!(attribute != "style" && !attribute.starts_with("on"), "{path}: {attribute}={value:?}");
                }
                assert_ne!(name, "style", "{path}");
                if name == "script" {
                    assert!(
                        attribute("src").is_some_and(|src| src.starts_with("/assets/")),
                        "{path}: a script of the page"
                    );
                }
                if name == "form" && attribute("method").as_deref() == Some("post") {
                    assert!(attribute("action").is_some_and(|to| to.starts_with("/portal")), "{path}");
                }
                if name == "button" {
                    assert!(attribute("type").is_some(), "{path}: a button without a type");
                }
                headings += usize::from(name == "h1");
                ids.extend(attribute("id"));
                if !void.contains(&name.as_str()) && !tag.self_closing {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                assert_eq!(open.pop().as_ref(), Some(&name), "{path}");
            }
            Token::Error(error) => panic!("{path}: {error:?}"),
            Token::Comment(_) => panic!("{path}: a comment"),
            Token::String(_) | Token::Doctype(_) => {}
        }
    }
    assert!(open.is_empty(), "{path}: {open:?}");
    assert_eq!(headings, 1, "{path} has one h1");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "{path}: an id stands twice");
    assert!(page.len() < 150_000, "{path} has {} bytes", page.len());
}

pub const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u{202e}{{ base }}\u{200b}";

async fn every_page_is_sound_and_runs_nothing_that_stands_in_it(server: Server) {
    for name in ["Plain", HOSTILE, &"W".repeat(100)] {
        let world = server.world_named(name).await;
        furnish(&server, &world, name).await;
        let others = others(&server, &world).await;
        for role in [Role::Viewer, Role::Admin] {
            let browser = Browser::of(&server, role).await;
            for row in PORTAL.iter().filter(|row| row.method == "GET") {
                let path = path_of(row, &world, &others);
                let answer = browser.get(&path).await;
                assert!(answer.status < 500, "{path}: {}", answer.text);
                if answer.header("content-type").starts_with("text/html") {
                    is_sound(&path, &answer.text);
                    assert!(!answer.text.contains(['\u{202e}', '\u{200b}']), "{path}");
                }
            }
            is_sound("search", &browser.get(&format!("/portal/apps?search={}", "%3Cscript%3E%22")).await.text);
            is_sound("nothing", &browser.get("/portal/nothing").await.text);
        }
    }
    let browser = Browser::of(&server, Role::Admin).await;
    // What was wrong is said at its field, and what was typed is still there.
    let refused = browser.post("/portal/apps/new", &[("name", "Kept"), ("website_url", "gopher://x")]).await;
    assert_eq!(refused.status, 422);
    is_sound("refused", &refused.text);
    assert!(
        refused.text.contains("value=\"Kept\"") && refused.text.contains("aria-invalid=\"true\""),
        "{}",
        refused.text
    );
    for path in ["/portal/sign-in", "/portal/sign-in?link=login_x", &format!("/portal/sign-in?link={HOSTILE_LINK}")] {
        is_sound(path, &get(&server, "", path).await.text);
    }
}

const HOSTILE_LINK: &str = "%22%3E%3Cscript%3E";

async fn the_theme_is_kept_by_a_cookie_and_drawn_by_the_server(server: Server) {
    let browser = Browser::of(&server, Role::Viewer).await;
    let page = |cookies: &str| {
        let raw =
            Raw::new("GET", "/portal/apps", "").set("cookie", format!("grantd_portal={}; {cookies}", browser.cookie));
        let server = server.clone();
        async move { server.send(raw).await.text }
    };
    for (theme, cookie) in
        [("dark", "grantd_theme=dark; "), ("light", "grantd_theme=light; "), ("system", "grantd_theme=; ")]
    {
        let answer = browser.post("/portal/theme", &[("theme", theme), ("to", "/portal/apps?search=a")]).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/portal/apps?search=a"));
        assert!(answer.header("set-cookie").starts_with(cookie), "{}", answer.header("set-cookie"));
    }
    assert!(page("grantd_theme=dark").await.contains("<html lang=\"en\" data-theme=\"dark\">"));
    for other in ["", "grantd_theme=blue", "grantd_theme=\"><script>"] {
        assert!(page(other).await.contains("<html lang=\"en\">"), "{other}");
    }
    assert_eq!(browser.post("/portal/theme", &[("theme", "blue")]).await.status, 400);
}

async fn behind_tls_cookies_are_of_this_host_alone_and_never_go_unencrypted(server: Server) {
    let url = "https://vault.example.com";
    let server = server.another("behind-tls", |settings| url.clone_into(&mut settings.public_url)).await;
    let link = link(&server, None).await;
    let signed_in = server.send(form("", "/portal/sign-in", &[("link", &link)]).set("origin", url)).await;
    let cookie = signed_in.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let secret = cookie.strip_prefix("__Host-grantd_portal=").unwrap().split(';').next().unwrap();
    let with = async |name: &str| {
        server.send(Raw::new("GET", "/portal/sessions", "").set("cookie", format!("{name}={secret}"))).await
    };
    // Another host of the domain, or whoever answers without TLS, could have set one of the plain name.
    assert!(is_sent_to_sign_in(&with("grantd_portal").await));
    let page = with("__Host-grantd_portal").await;
    assert_eq!(page.status, 200);
    let csrf = csrf(&page.text);
    for (path, field, told) in [
        (
            "/portal/theme",
            ("theme", "dark"),
            "grantd_theme=dark; Path=/portal; Max-Age=31536000; HttpOnly; SameSite=Lax; Secure",
        ),
        ("/portal/sign-out", ("", ""), "__Host-grantd_portal=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"),
    ] {
        let raw = form("", path, &[("csrf", &csrf), field]).set("origin", url);
        let answer = server.send(raw.set("cookie", format!("__Host-grantd_portal={secret}"))).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (303, told), "{path}");
    }
}

async fn guessing_links_is_slowed(server: Server) {
    let wrong = format!("login_{}", "A".repeat(43));
    let most = server.vault.settings.auth_failures_per_minute;
    for _ in 0..most {
        assert_eq!(post(&server, "", "/portal/sign-in", &[("link", &wrong)]).await.status, 410);
    }
    let slowed = post(&server, "", "/portal/sign-in", &[("link", &wrong)]).await;
    assert_eq!(slowed.status, 429);
    assert!(!slowed.header("retry-after").is_empty());
}

async fn signing_in_out_and_elsewhere_is_in_the_trail(server: Server) {
    let first_link = link(&server, None).await;
    let first = Browser::with_link(&server, &first_link).await;
    let second_link = link(&server, None).await;
    let second = Browser::with_link(&server, &second_link).await;
    let page = first.get("/portal/sessions").await.text;
    let ids: Vec<&str> = page.split("action=\"/portal/sessions/").skip(1).map(|rest| &rest[..36]).collect();
    assert_eq!(ids.len(), 2);
    let own = page.split("<tr").find(|row| row.contains("This browser")).unwrap();
    let other = ids.iter().find(|id| !own.contains(**id)).unwrap();
    let ended = first.post(&format!("/portal/sessions/{other}/end"), &[]).await;
    assert_eq!((ended.status, ended.header("location")), (303, "/portal/sessions?done=session_ended"));
    assert!(is_sent_to_sign_in(&second.get("/portal/apps").await));
    assert_eq!(first.post(&format!("/portal/sessions/{other}/end"), &[]).await.status, 404);
    let out = first.post("/portal/sign-out", &[]).await;
    assert!(is_sent_to_sign_in(&out) && out.header("set-cookie").starts_with("grantd_portal=; Path=/; Max-Age=0"));
    assert!(is_sent_to_sign_in(&first.get("/portal/apps").await));
    // Another operator's session is none of theirs.
    let (ann, ben) = (Browser::of(&server, Role::Admin).await, Browser::of(&server, Role::Admin).await);
    let page = ann.get("/portal/sessions").await.text;
    let id = page.split_once("action=\"/portal/sessions/").unwrap().1[..36].to_owned();
    assert_eq!(ben.post(&format!("/portal/sessions/{id}/end"), &[]).await.status, 404);
    assert_eq!(ann.get("/portal/apps").await.status, 200);

    let events = server.events("/api/v1/audit/export").await;
    let count = |kind: &str| events.iter().filter(|event| event["core"]["kind"] == kind).count();
    assert_eq!(count("login_link.created"), 4);
    assert_eq!(count("operator.signed_in"), 4);
    assert_eq!(count("web_session.ended"), 1);
    assert_eq!(count("operator.signed_out"), 1);
    let done = events.iter().find(|event| event["core"]["kind"] == "operator.signed_in").unwrap();
    assert_eq!((&done["core"]["sign_in"], &done["core"]["actor"]["type"]), (&json!("link"), &json!("operator")));
    assert!(done["private"]["ip"].is_string() && done["core"]["session_id"].is_string());
}
