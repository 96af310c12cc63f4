//! Pages of the portal on which an app is set up: providers and connecting, secrets, how it looks, what it is called, its end.

use grantd_store::operators::Role;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server, World};
use crate::organization::picture;
use crate::portal::{Browser, csrf, is_sound, with_cookie};
use crate::walk;

in_memory! {
    a_provider_of_the_catalogue_is_set_up_changed_and_removed,
    a_provider_is_described_and_what_is_wrong_stands_at_its_field,
    an_account_is_connected_by_a_link_that_is_opened_or_shown,
    a_secret_is_replaced_confined_and_deleted_by_its_slug,
    a_grant_is_issued_to_a_user_and_to_a_group,
    an_app_is_changed_archived_and_deleted_by_its_name,
    a_look_is_tried_on_and_kept,
    pages_are_in_the_language_of_the_browser_or_the_one_that_was_chosen,
}

async fn provider(server: &Server, world: &World, id: &str) -> Value {
    server.api("GET", &world.path(&format!("providers/{id}")), Value::Null).await.ok(200)
}

async fn a_provider_of_the_catalogue_is_set_up_changed_and_removed(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/providers", world.app);
    let all = browser.page(&path).await;
    let entries = grantd_domain::provider::all();
    assert!(entries.iter().all(|entry| all.contains(&format!("{path}/new/{}\"", entry.id))), "each is offered");
    let unverified = entries.iter().filter(|entry| !entry.is_verified()).count();
    assert_eq!(all.matches("<span class=\"badge badge--text\">Unverified</span>").count(), unverified);
    let found = browser.page(&format!("{path}?search=GITH")).await;
    assert!(found.contains("/new/github\"") && !found.contains("/new/slack\""), "{found}");
    assert!(browser.page(&format!("{path}?search=nothing-like-it")).await.contains("No provider of the catalogue"));
    // The address to register stands beside the fields, and scopes say what they open.
    let form = browser.page(&format!("{path}/new/slack")).await;
    assert!(form.contains("value=\"http://127.0.0.1:8080/oauth/callback\""), "{form}");
    assert!(form.contains("See people in your workspace") && form.contains("Tokens of users"), "{form}");
    assert_eq!(browser.get(&format!("{path}/new/none")).await.status, 404);
    // What is wrong is said at its field; a secret that was typed is not drawn.
    let typed = "typed-and-never-drawn";
    let create = format!("{path}/new/slack");
    let wrong =
        [("setup", "yes"), ("name", "Our Slack"), ("client_id", ""), ("client_secret", typed), ("scope", "users:read")];
    let refused = browser.post(&create, &wrong).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    is_sound(&create, &refused.text);
    assert!(
        refused.text.contains("client_id-error") && refused.text.contains("value=\"Our Slack\""),
        "{}",
        refused.text
    );
    assert!(!refused.text.contains(typed));
    assert!(
        refused.text.contains("value=\"users:read\" checked") && !refused.text.contains("value=\"team:read\" checked")
    );
    let right = [
        ("setup", "yes"),
        ("name", "Our Slack"),
        ("client_id", "c-1"),
        ("client_secret", typed),
        ("scope", "users:read"),
        ("scopes", "files:read chat:write"),
        ("environment", "user"),
    ];
    let made = browser.post(&create, &right).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let stored = provider(&server, &world, "slack").await;
    assert_eq!(stored["scopes"], json!(["chat:write", "files:read", "users:read"]));
    assert_eq!((&stored["name"], &stored["environment"]), (&json!("Our Slack"), &json!("user")));
    assert_eq!(stored["has_client_secret"], true);
    assert_eq!(browser.post(&create, &right).await.status, 409, "once");
    let page = browser.page(made.header("location")).await;
    assert!(page.contains("The provider is registered") && page.contains("chat:write files:read"), "{page}");
    // A change keeps what is not said; the usual scopes are stored as the provider's default.
    let here = format!("{path}/{}", text(&stored, "id"));
    let changed =
        [("setup", "yes"), ("name", "Slack"), ("client_id", "c-2"), ("scope", "team:read"), ("environment", "user")];
    assert_eq!(browser.post(&here, &changed).await.status, 303);
    let stored = provider(&server, &world, "slack").await;
    assert_eq!((&stored["scopes"], &stored["client_id"]), (&json!([]), &json!("c-2")));
    assert_eq!((&stored["has_client_secret"], &stored["environment"]), (&json!(true), &json!("user")));
    let without = [&changed[..], &[("no_client_secret", "yes")]].concat();
    assert_eq!(browser.post(&here, &without).await.status, 303);
    assert_eq!(provider(&server, &world, "slack").await["has_client_secret"], false);
    assert!(browser.page(&path).await.contains("Set up in this app"));
    assert_eq!(browser.get(&format!("{here}/delete")).await.status, 200);
    assert_eq!(browser.post(&format!("{here}/delete"), &[]).await.status, 303);
    assert_eq!(browser.get(&here).await.status, 404);
    // Who may only look sees facts and no form.
    let viewer = Browser::of(&server, Role::Viewer).await;
    assert_eq!(browser.post(&create, &right).await.status, 303);
    let page = viewer.page(&format!("{path}/slack")).await;
    assert!(page.contains("c-1") && !page.contains("action=\"/portal/apps/"), "{page}");
}

async fn a_provider_is_described_and_what_is_wrong_stands_at_its_field(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/providers/new/custom", world.app);
    is_sound(&path, &browser.get(&path).await.text);
    let given = [
        ("setup", "yes"),
        ("provider", "acme"),
        ("name", "Acme"),
        ("client_id", "c"),
        ("allowed_hosts", "api.acme.example"),
        ("custom.authorize_url", "https://acme.example/authorize"),
        ("custom.token_url", "https://acme.example/token"),
        ("custom.userinfo_url", "https://acme.example/me"),
        ("custom.authorize_params", "prompt=consent\r\naccess_type = offline"),
        ("custom.scope_texts", "read = Read your files\r\nwrite=Change <your> files"),
        ("custom.scope_separator", ","),
        ("custom.account_id", "/id"),
    ];
    for (field, value, at) in [
        ("provider", "Not An Id", "provider"),
        ("allowed_hosts", "", "allowed_hosts"),
        ("custom.token_url", "ftp://acme.example", "custom.token_url"),
        ("custom.authorize_params", "no pair", "custom.authorize_params"),
        ("custom.scope_texts", "no pair", "custom.scope_texts"),
        ("custom.scope_texts", "two words=x", "custom.scope_texts"),
        ("custom.issuer", "http://acme.example", "custom.issuer"),
    ] {
        let mut wrong: Vec<(&str, &str)> = given.iter().filter(|(name, _)| *name != field).copied().collect();
        wrong.push((field, value));
        if field == "custom.issuer" {
            // It is asked only when the addresses are not all given.
            wrong.retain(|(name, _)| *name != "custom.token_url");
        }
        let refused = browser.post(&path, &wrong).await;
        assert!(matches!(refused.status, 400 | 422), "{field}: {}", refused.status);
        is_sound(&path, &refused.text);
        assert!(refused.text.contains(&format!("id=\"{at}-error\"")), "{field}: {}", refused.text);
    }
    let made = browser.post(&path, &given).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let stored = provider(&server, &world, "acme").await;
    assert_eq!(stored["custom"]["authorize_params"], json!({"prompt": "consent", "access_type": "offline"}));
    let texts = json!({"read": "Read your files", "write": "Change <your> files"});
    assert_eq!(stored["custom"]["scope_texts"], texts);
    let page = browser.get(made.header("location")).await;
    is_sound("custom", &page.text);
    assert!(page.text.contains("read=Read your files\nwrite=Change &lt;your&gt; files</textarea>"), "{}", page.text);
    assert!(page.text.contains("access_type=offline\nprompt=consent</textarea>"), "{}", page.text);
    // What is sent as it stands there changes nothing of it.
    let here = made.header("location").split('?').next().unwrap();
    assert_eq!(browser.post(here, &given).await.status, 303);
    let after = provider(&server, &world, "acme").await;
    assert_eq!(after["custom"], stored["custom"]);
}

async fn an_account_is_connected_by_a_link_that_is_opened_or_shown(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    server.api("POST", &world.path("providers"), json!({"provider": "slack", "client_id": "c"})).await.ok(201);
    let path = format!("/portal/apps/{}/providers/slack/connect", world.app);
    let opened = browser.post(&path, &[("then", "open"), ("label", "mine")]).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    is_sound(&path, &opened.text);
    let start = "http://127.0.0.1:8080/sdk/oauth/connect#session=sess_";
    let leads_on = format!("<meta http-equiv=\"refresh\" content=\"0;url={start}");
    assert!(opened.text.replace("&#x2f;", "/").contains(&leads_on), "{}", opened.text);
    let shown = browser.post(&path, &[("then", "link")]).await;
    is_sound(&path, &shown.text);
    assert!(shown.text.replace("&#x2f;", "/").contains(start), "{}", shown.text);
    let long = "x".repeat(limits::LABEL_CHARS_MAX + 1);
    let refused = browser.post(&path, &[("then", "open"), ("label", &long)]).await;
    assert!(refused.status == 422 && refused.text.contains("label-error"), "{}", refused.text);
    // Where the browser comes back to: a grant is shown as it is here, and nothing else of what it says.
    let back = format!("/portal/apps/{}/connected", world.app);
    let found = browser.get(&format!("{back}?alter_connect_success=true&grant_id={}", world.grant)).await;
    let grant = format!("/portal/apps/{}/grants/{}?done=connected", world.app, world.grant);
    assert_eq!((found.status, found.header("location")), (303, grant.as_str()));
    let nothing =
        browser.page(&format!("{back}?alter_connect_error=true&error_code=connect_denied&error_description=Buy")).await;
    assert!(nothing.contains("Nothing was connected") && nothing.contains(">connect_denied<"), "{nothing}");
    // Forms of the menu lead back to the address as it is.
    assert_eq!(nothing.matches("Buy").count(), nothing.matches("error_description=Buy\"").count(), "{nothing}");
    for odd in ["error_code=%3Cscript%3E", "grant_id=x", "", "error_code=Send+us+money"] {
        let page = browser.page(&format!("{back}?{odd}")).await;
        is_sound(odd, &page);
        assert!(!page.contains("<dt>Code</dt>"), "{odd}");
    }
    server.api("POST", &world.path("archive"), Value::Null).await.ok(200);
    assert_eq!(browser.post(&path, &[("then", "open")]).await.status, 409);
}

async fn a_secret_is_replaced_confined_and_deleted_by_its_slug(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/secrets/{}", world.app, world.secret_id);
    let refused = browser.post(&format!("{path}/rotate"), &[("value", "")]).await;
    assert!(refused.status == 422 && refused.text.contains("value-error"), "{}", refused.text);
    let typed = "the-second-value";
    let done = browser.post(&format!("{path}/rotate"), &[("value", &format!("{typed}\r\n"))]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(server.token(&world).await.ok(200)["access_token"], typed);
    assert!(!browser.page(done.header("location")).await.contains(typed));
    let refused = browser.post(&format!("{path}/hosts"), &[("allowed_hosts", "not a host")]).await;
    assert!(refused.status >= 400 && refused.text.contains("not a host</textarea>"), "{}", refused.text);
    assert_eq!(browser.post(&format!("{path}/hosts"), &[("allowed_hosts", "other.example.com")]).await.status, 303);
    server.token(&world).await.refused(Code::BlockedDestination);
    for wrong in ["", "Stripe", "stripe2"] {
        let refused = browser.post(&format!("{path}/delete"), &[("confirm", wrong)]).await;
        assert!(refused.status == 400 && refused.text.contains("confirm-error"), "{wrong}: {}", refused.text);
    }
    let done = browser.post(&format!("{path}/delete"), &[("confirm", &world.secret)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(browser.get(&path).await.status, 404);
    server.token(&world).await.refused(Code::GrantRevoked);
}

async fn a_grant_is_issued_to_a_user_and_to_a_group(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let (user, group) = (walk::user(&server, &world).await.to_string(), walk::group(&server, &world).await.to_string());
    let foreign = walk::user(&server, &other).await.to_string();
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/secrets/{}", world.app, world.secret_id);
    let issue = async |kind: &str, id: &str| {
        let fields = [("principal_type", kind), ("principal_id", id), ("label", "L"), ("expires_in_days", "30")];
        browser.post(&format!("{path}/grants"), &fields).await
    };
    for (kind, id) in [("user", user.as_str()), ("group", group.as_str()), ("system", "")] {
        let made = issue(kind, &format!(" {id} ")).await;
        assert_eq!(made.status, 303, "{kind}: {}", made.text);
        let page = browser.page(made.header("location")).await;
        assert!(page.contains("The grant is issued"), "{kind}: {page}");
        assert_eq!(page.contains(&format!("/users/{id}\"")), kind == "user", "{kind}: {page}");
        assert!(id.is_empty() || page.contains(&format!("title=\"{id}\"")), "{kind}: {page}");
        let told = server.told(&world, "grant.created").await.pop().unwrap();
        let owner = |field: &str| told[field].as_str().unwrap_or_default().to_owned();
        let expected = (if kind == "user" { id } else { "" }, if kind == "group" { id } else { "" });
        assert_eq!((owner("user_id").as_str(), owner("group_id").as_str()), expected, "{kind}");
    }
    let issued = server.told(&world, "grant.created").await.len();
    // What is wrong stands at the field, and what was typed and chosen is still there.
    for (kind, id, says) in [
        ("user", "", "Must be the id of the user or the group."),
        ("group", " ", "Must be the id of the user or the group."),
        ("user", group.as_str(), "Is the id of no user of this app."),
        ("user", foreign.as_str(), "Is the id of no user of this app."),
        ("group", user.as_str(), "Is the id of no group of this app."),
        ("group", "eng", "Is the id of no group of this app."),
        ("system", user.as_str(), "Must be empty for the app itself."),
    ] {
        let refused = issue(kind, id).await;
        assert!(matches!(refused.status, 400 | 422), "{kind} {id}: {}", refused.status);
        is_sound(&path, &refused.text);
        let error = refused.text.split_once("id=\"principal_id-error\"").unwrap().1;
        assert!(error.split("</p>").next().unwrap().contains(says), "{kind} {id}: {}", refused.text);
        let kept = [format!("value=\"{kind}\" selected"), format!("value=\"{id}\""), "value=\"L\"".to_owned()];
        assert!(kept.iter().all(|kept| refused.text.contains(kept)), "{kind} {id}: {}", refused.text);
    }
    // Who may not call is said at the top.
    server.api("POST", &world.path(&format!("users/{user}/suspend")), json!({})).await.ok(200);
    let refused = issue("user", &user).await;
    assert!(refused.status == 409 && refused.text.contains("The user is suspended."), "{}", refused.text);
    assert_eq!(server.told(&world, "grant.created").await.len(), issued);
    // The page of a user has the id to be copied, and that of each group.
    assert!(browser.page(&format!("/portal/apps/{}/users/{user}", world.app)).await.contains(&user));
}

async fn an_app_is_changed_archived_and_deleted_by_its_name(server: Server) {
    let world = server.world().await;
    let (developer, admin) = (Browser::of(&server, Role::Developer).await, Browser::of(&server, Role::Admin).await);
    let path = format!("/portal/apps/{}", world.app);
    let settings = format!("{path}/settings");
    let refused = developer.post(&settings, &[("name", ""), ("website_url", "https://kept.example")]).await;
    assert!(refused.status == 422 && refused.text.contains("name-error"), "{}", refused.text);
    assert!(refused.text.replace("&#x2f;", "/").contains("value=\"https://kept.example\""));
    let fields = [("name", "Renamed"), ("retrieve", "on"), ("indexed_context_keys", "order_id\r\ntenant")];
    assert_eq!(developer.post(&settings, &fields).await.status, 303);
    // Only an admin is shown the tenant guard, and only an admin may change it.
    assert!(!developer.page(&settings).await.contains("tenant_key"));
    let guard = [&fields[..], &[("tenant_key", "tenant"), ("tenant_mode", "observe")]].concat();
    assert_eq!(developer.post(&settings, &guard).await.status, 403);
    assert_eq!(admin.post(&settings, &guard).await.status, 303);
    assert_eq!(developer.post(&settings, &fields).await.status, 303, "what the form does not have stays");
    let app = server.api("GET", &world.path(""), Value::Null).await.ok(200);
    assert_eq!((&app["name"], &app["tenant_mode"]), (&json!("Renamed"), &json!("observe")));
    assert_eq!(app["indexed_context_keys"], json!(["order_id", "tenant"]));
    // Only an archived one is deleted.
    let delete = format!("{path}/delete");
    assert_eq!(admin.post(&delete, &[("confirm", "Renamed")]).await.status, 409);
    assert_eq!(developer.post(&format!("{path}/archive"), &[]).await.status, 303);
    server.token(&world).await.refused(Code::KeyNotActive);
    assert_eq!(developer.post(&format!("{path}/unarchive"), &[]).await.status, 303);
    assert_eq!(developer.post(&format!("{path}/archive"), &[]).await.status, 303);
    for wrong in ["", "renamed", "First"] {
        let refused = admin.post(&delete, &[("confirm", wrong)]).await;
        assert!(refused.status == 400 && refused.text.contains("confirm-error"), "{wrong}: {}", refused.text);
    }
    assert_eq!(admin.post(&delete, &[("confirm", "Renamed")]).await.status, 303);
    let page = admin.page(&settings).await;
    assert!(page.contains("Deleted") && !page.contains("/delete\""), "{page}");
}

/// Sends a form with a file, as a browser would.
pub async fn with_file(browser: &Browser, path: &str, fields: &[(&str, &str)], file: &[u8]) -> Answer {
    let token = csrf(&browser.get("/portal/sessions").await.text);
    let mut body = Vec::new();
    for (name, value) in fields.iter().chain(&[("csrf", token.as_str())]) {
        body.extend_from_slice(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    let head = "--edge\r\nContent-Disposition: form-data; name=\"logo\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n";
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    let raw = with_cookie(Raw::new("POST", path, body), &browser.cookie)
        .set("content-type", "multipart/form-data; boundary=edge")
        .set("origin", "http://127.0.0.1:8080")
        .set("sec-fetch-site", "same-origin");
    browser.server.send(raw).await
}

async fn a_look_is_tried_on_and_kept(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/branding", world.app);
    let look = async || server.api("GET", &world.path("branding"), Value::Null).await.ok(200);
    let typed = [("display_name", "Tried"), ("accent_color", "#0a7cff"), ("background_color", "")];
    let tried = browser.post(&path, &[&typed[..], &[("do", "preview")]].concat()).await;
    is_sound(&path, &tried.text);
    assert!(tried.text.contains("accent_color=%230a7cff") && tried.text.contains("<bdi>Tried</bdi>"), "{}", tried.text);
    assert_eq!(look().await["accent_color"], Value::Null, "trying keeps nothing");
    let style = browser.get(&format!("{path}/preview?accent_color=%230a7cff")).await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert!(
        style.text.contains("--brand-accent") && style.header("cache-control").contains("no-store"),
        "{}",
        style.text
    );
    let odd = browser.get(&format!("{path}/preview?accent_color=red%7D*%7B&background_color=%3C")).await;
    assert_eq!(odd.text, browser.get(&format!("{path}/preview")).await.text, "what is no colour sets nothing");
    let refused = browser.post(&path, &[("display_name", "Kept"), ("accent_color", "red")]).await;
    assert!(refused.status == 422 && refused.text.contains("accent_color-error"), "{}", refused.text);
    assert!(refused.text.contains("value=\"Kept\""));
    let saved = with_file(&browser, &path, &[&typed[..], &[("do", "save")]].concat(), &picture(8)).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let kept = look().await;
    assert_eq!((&kept["display_name"], &kept["accent_color"]), (&json!("Tried"), &json!("#0a7cff")));
    assert!(kept["logo"].is_string());
    // Without another file the logo stays.
    assert_eq!(with_file(&browser, &path, &typed, b"").await.status, 303);
    assert_eq!(look().await["logo"], kept["logo"]);
    let largest = vec![0; limits::LOGO_BYTES_MAX + 1];
    for wrong in [b"no picture".as_slice(), &largest] {
        let refused = with_file(&browser, &path, &typed, wrong).await;
        assert!(refused.status == 422 && refused.text.contains("logo-error"), "{} {}", refused.status, refused.text);
        is_sound(&path, &refused.text);
    }
    let beyond = vec![0; limits::LOGO_BYTES_MAX + limits::PAGE_BODY_BYTES_MAX];
    assert_eq!(with_file(&browser, &path, &typed, &beyond).await.status, 413);
    assert_eq!(with_file(&browser, &format!("/portal/apps/{}/settings", world.app), &[], &largest).await.status, 413);
    assert_eq!(browser.post(&path, &[("do", "remove_logo")]).await.status, 303);
    assert_eq!(look().await["logo"], Value::Null);
    assert_eq!(browser.post(&path, &[("do", "reset")]).await.status, 303);
    assert_eq!(look().await["updated_at"], Value::Null);
}

async fn pages_are_in_the_language_of_the_browser_or_the_one_that_was_chosen(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Viewer).await;
    let page = async |path: &str, accepted: &str, cookie: &str| {
        let raw = Raw::new("GET", path, "").set("accept-language", accepted);
        server.send(raw.set("cookie", format!("grantd_portal={}; {cookie}", browser.cookie))).await.text
    };
    let keys = format!("/portal/apps/{}/keys", world.app);
    assert!(page(&keys, "de-DE,de;q=0.9,en;q=0.8", "").await.contains("<html lang=\"de\">"));
    assert!(
        page(&keys, "de", "").await.contains("Schlüssel erzeugen")
            || page(&keys, "de", "").await.contains("API-Schlüssel")
    );
    assert!(page(&keys, "de", "grantd_lang=en").await.contains("<html lang=\"en\">"));
    assert!(page(&keys, "en", "grantd_lang=de").await.contains("<html lang=\"de\">"));
    assert!(page("/sdk/oauth/connect", "de", "").await.contains("Ihr Konto verbinden"));
    assert!(page("/sdk/oauth/connect", "fr", "").await.contains("<html lang=\"en\">"));
    let nothing = page("/portal/nothing", "de", "").await;
    assert!(nothing.contains("Hier ist nichts"), "{nothing}");
    let chosen = browser.post("/portal/language", &[("lang", "de"), ("to", &keys)]).await;
    assert_eq!((chosen.status, chosen.header("location")), (303, keys.as_str()));
    assert!(chosen.header("set-cookie").starts_with("grantd_lang=de; Path=/; "), "{}", chosen.header("set-cookie"));
    assert_eq!(browser.post("/portal/language", &[("lang", "xx")]).await.status, 400);
}
