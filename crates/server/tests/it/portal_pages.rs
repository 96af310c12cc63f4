//! Pages of the portal: the way to a first request, what is shown once, why a call was refused, lists.

use grantd_server::portal::routes::PORTAL;
use grantd_store::operators::Role;
use grantd_wire::{Code, limits, scope};
use serde_json::json;

use crate::harness::world::text;
use crate::harness::{Raw, Server, Sign, World};
use crate::portal::{Browser, HOSTILE, fields_of, furnish, is_sent_to_sign_in, is_sound, others, path_of, with_cookie};

in_memory! {
    the_way_to_the_first_request,
    a_key_is_shown_once_and_made_once_however_often_the_form_is_sent,
    a_refused_call_says_at_which_step,
    objects_of_another_app_are_missing,
    lists_are_paged_and_searched,
    a_page_that_follows_by_itself_keeps_nobody_signed_in,
    an_operator_is_invited_by_a_link_that_is_shown_once,
    the_last_admin_stays_and_the_page_says_so,
    a_token_is_shown_once_and_revoked,
    settings_are_saved_and_kept_within_bounds,
    events_are_found_by_everything_they_are_of,
    an_export_is_a_file_and_an_event,
    what_a_call_says_of_itself_is_inert_on_every_page,
}

async fn the_way_to_the_first_request(server: Server) {
    let browser = Browser::of(&server, Role::Developer).await;
    let made = browser.post("/portal/apps/new", &[("name", "Shop")]).await;
    let start = made.header("location").split('?').next().unwrap().to_owned();
    let app = start.split('/').nth(3).unwrap().to_owned();
    assert_eq!(start, format!("/portal/apps/{app}/start"));
    assert!(browser.page(&start).await.contains("Your program signs its calls with it"));
    let minted = browser.post(&format!("/portal/apps/{app}/keys/new"), &[("name", "Web")]).await;
    let key = minted.text.split_once("id=\"api-key\">").unwrap().1.split('<').next().unwrap().to_owned();
    assert!(key.starts_with("alter_rk_"), "{key}");
    // What a terminal is given is whole.
    let exports = format!("export ALTER_BASE_URL=http://127.0.0.1:8080\nexport ALTER_API_KEY={key}\n");
    assert_eq!(shown(&minted.text, "exports"), Some(exports));
    let catalogue = browser.page(&format!("/portal/apps/{app}/secrets/new?search=str")).await;
    assert!(catalogue.contains("/secrets/new/stripe\"") && !catalogue.contains("/secrets/new/github\""));
    // A value that is missing is said at its field; one that was typed is not drawn.
    let path = format!("/portal/apps/{app}/secrets/new/custom");
    let typed = "never-drawn-again";
    let refused = browser.post(&path, &[("name", "Mine"), ("value", typed), ("allowed_hosts", "not a host")]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("not a host</textarea>") && !refused.text.contains(typed), "{}", refused.text);
    let stored = browser.post(&path, &[("name", "Mine"), ("value", typed), ("allowed_hosts", "api.example.com")]).await;
    assert_eq!(stored.status, 303, "{}", stored.text);
    let page = browser.page(stored.header("location")).await;
    let grant = page.split_once("grant_id=\"").unwrap().1[..36].to_owned();
    assert!(page.contains("https://api.example.com/") && page.contains("No call yet"), "{page}");
    assert!(page.contains(&format!("it has <bdi>{}</bdi> characters", key.len())), "{page}");
    let run = "pip install alter-sdk\nexport ALTER_BASE_URL=http://127.0.0.1:8080\npython first.py\n";
    assert_eq!(shown(&page, "snippet-shell").as_deref(), Some(run));
    let world = World {
        app: app.clone(),
        key,
        grant: grant.clone(),
        key_id: String::new(),
        secret: String::new(),
        secret_id: String::new(),
    };
    // A call with another grant ticks nothing here.
    let elsewhere = server.secret(&app, json!({"name": "Other", "allowed_hosts": ["other.example.com"]})).await;
    let other = text(&elsewhere, "grant_id");
    let (other, host) = (world.with_grant(&other), "https://other.example.com/");
    let to =
        |grant: &str, url: &str| json!({"grant_id": grant, "reason": null, "request": {"method": "GET", "url": url}});
    server.send(server.sign(&world.key).post("/sdk/token", &to(&other.grant, host))).await.ok(200);
    let page = browser.page(&format!("{start}?grant={grant}")).await;
    assert!(page.contains("No call yet") && !page.contains("It arrived"), "{page}");
    // One that is refused is shown with why, and the page still waits.
    let denied =
        server.send(server.sign(&world.key).post("/sdk/token", &to(&world.grant, "https://evil.example/x"))).await;
    denied.refused(Code::BlockedDestination);
    let page = browser.page(&format!("{start}?grant={grant}")).await;
    assert!(page.contains("It arrived, and was refused") && page.contains("evil.example/x"), "{page}");
    assert!(page.contains("blocked_destination") && page.contains(Code::BlockedDestination.message()), "{page}");
    assert!(page.contains("Listening") && !page.contains("and was allowed"), "{page}");
    server.token(&world).await.ok(200);
    let page = browser.page(&start).await;
    assert!(page.contains("data-arrived>") && page.contains("It arrived, and was allowed"), "{page}");
    let event = page.split_once(&format!("/portal/apps/{app}/audit/")).unwrap().1[..36].to_owned();
    let page = browser.page(&format!("/portal/apps/{app}/audit/{event}")).await;
    assert_eq!(page.matches("<li class=\"ok\">").count(), grantd_domain::resolve::STEPS.len(), "{page}");
}

async fn a_key_is_shown_once_and_made_once_however_often_the_form_is_sent(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/keys", world.app);
    let fields = [("name", "Twice"), ("once", "0199c0de-0000-7000-8000-000000000001")];
    let first = browser.post(&format!("{path}/new"), &fields).await;
    let shown =
        |page: &str| page.split_once("id=\"api-key\">").map(|(_, rest)| rest.split('<').next().unwrap().to_owned());
    let key = shown(&first.text).unwrap();
    // A double click is answered twice, and made once.
    assert_eq!(shown(&browser.post(&format!("{path}/new"), &fields).await.text), Some(key.clone()));
    server.advance_ms(60_000);
    let late = browser.post(&format!("{path}/new"), &fields).await;
    assert_eq!((late.status, late.header("location")), (303, path.as_str()));
    let list = browser.page(&path).await;
    assert_eq!((list.matches(">Twice</span>").count(), list.contains(&key)), (1, false));
    // What is no number is said at its field, which asks in days.
    for (days, rate) in [("soon", ""), ("99999999", ""), ("", "many")] {
        let fields = [("name", "x"), ("expires_in_days", days), ("rate_limit_rpm", rate)];
        let refused = browser.post(&format!("{path}/new"), &fields).await;
        let field = if rate.is_empty() { "expires_in_days-error" } else { "rate_limit_rpm-error" };
        assert!(refused.status >= 400 && refused.text.contains(field), "{days} {rate}: {}", refused.text);
    }
    let grants = format!("/portal/apps/{}/secrets/{}/grants", world.app, world.secret_id);
    for days in ["soon", "99999999"] {
        let refused = browser.post(&grants, &[("label", "x"), ("expires_in_days", days)]).await;
        assert!(refused.status >= 400 && refused.text.contains("expires_in_days-error"), "{days}: {}", refused.text);
    }
    let revoke = format!("{path}/{}/revoke", world.key_id);
    assert_eq!(browser.get(&revoke).await.status, 200);
    server.token(&world).await.ok(200);
    assert_eq!(browser.post(&revoke, &[]).await.status, 303);
    server.token(&world).await.refused(Code::KeyRevoked);
}

async fn a_refused_call_says_at_which_step(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Developer).await;
    let grant = format!("/portal/apps/{}/grants/{}", world.app, world.grant);
    let revoked = browser.post(&format!("{grant}/revoke"), &[("reason", "leaked")]).await;
    assert_eq!(revoked.status, 303, "{}", revoked.text);
    let page = browser.page(&grant).await;
    assert!(page.contains("leaked") && page.contains("Revoked") && !page.contains(&format!("{grant}/revoke")));
    server.token(&world).await.refused(Code::GrantRevoked);
    let denied = server.told(&world, "token.denied").await;
    let list = browser.page(&format!("/portal/apps/{}/audit?outcome=denied", world.app)).await;
    let id = text(&denied[0], "id");
    assert!(list.contains(&id) && list.contains("grant_revoked"), "{list}");
    let page = browser.page(&format!("/portal/apps/{}/audit/{id}", world.app)).await;
    let count = |class: &str| page.matches(&format!("<li class=\"{class}\">")).count();
    assert_eq!((count("ok"), count("no"), count("off")), (2, 1, 5), "{page}");
}

async fn objects_of_another_app_are_missing(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let others = others(&server, &world).await;
    furnish(&server, &world, "Plain").await;
    let browser = Browser::of(&server, Role::Admin).await;
    for row in PORTAL.iter().filter(|row| row.path.matches("{}").count() == 2) {
        if row.path.contains("/new/{}") {
            // What is named there is the catalogue's.
            continue;
        }
        let path = path_of(row, &World { app: other.app.clone(), ..world.clone() }, &others);
        let answer = match row.method {
            "GET" => browser.get(&path).await,
            _ => browser.post(&path, &fields_of(row)).await,
        };
        assert_eq!(answer.status, 404, "{} {path}", row.method);
    }
    server.token(&world).await.ok(200);
}

async fn lists_are_paged_and_searched(server: Server) {
    let world = server.world().await;
    for n in 0..30 {
        server.grant(&world, json!({"label": format!("label-{n:02}")})).await;
    }
    let browser = Browser::of(&server, Role::Viewer).await;
    let path = format!("/portal/apps/{}/grants", world.app);
    let rows = |page: &str| page.matches("<tr role=\"row\"><td").count();
    let first = browser.page(&path).await;
    assert!(first.contains("<bdi>31</bdi>") && first.contains("offset=25"), "{first}");
    let second = browser.page(&format!("{path}?offset=25")).await;
    assert_eq!((rows(&first), rows(&second)), (25, 6));
    assert_eq!(rows(&browser.page(&format!("{path}?search=label-07")).await), 1);
    assert!(browser.page(&format!("{path}?search=nothing")).await.contains("No grant fits"));
    for odd in ["offset=-1", "offset=x", "offset=99999999", "status=none"] {
        assert_eq!(browser.get(&format!("{path}?{odd}")).await.status, 200, "{odd}");
    }
    assert_eq!(browser.get(&format!("{path}?search=%00")).await.status, 422);
    let audit = format!("/portal/apps/{}/audit", world.app);
    let page = browser.page(&audit).await;
    let older = page.split_once("cursor=").unwrap().1[..36].to_owned();
    assert!(browser.page(&format!("{audit}?cursor={older}")).await.contains("Newest"));
    for odd in ["cursor=x", "context=x", "kind=none&outcome=none"] {
        is_sound(odd, &browser.get(&format!("{audit}?{odd}")).await.text);
    }
}

async fn a_page_that_follows_by_itself_keeps_nobody_signed_in(server: Server) {
    let browser = Browser::of(&server, Role::Viewer).await;
    let poll = || {
        let raw = with_cookie(Raw::new("GET", "/portal/apps", ""), &browser.cookie).set("sec-fetch-dest", "empty");
        server.send(raw)
    };
    for _ in 0..limits::WEB_SESSION_IDLE_S / 3_600 - 1 {
        server.advance_ms(3_600_000);
        assert_eq!(poll().await.status, 200);
    }
    server.advance_ms(3_600_000);
    assert!(is_sent_to_sign_in(&poll().await));
}

/// What stands in the element with this id.
fn shown(page: &str, id: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("id=\"{id}\">"))?;
    Some(rest.split('<').next()?.replace("&#x2f;", "/"))
}

async fn an_operator_is_invited_by_a_link_that_is_shown_once(server: Server) {
    let admin = Browser::of(&server, Role::Admin).await;
    let fields = [("email", "Ann@example.com"), ("role", "developer")];
    let invited = admin.post("/portal/members/new", &fields).await;
    let url = shown(&invited.text, "login-link").unwrap();
    let link = url.split_once("?link=").unwrap().1;
    assert_eq!(invited.status, 200);
    let list = admin.page("/portal/members?search=ann").await;
    assert!(list.contains("ann@example.com") && !list.contains(link), "{list}");
    let member = list.split_once("/portal/members/").unwrap().1;
    let member = format!("/portal/members/{}", &member.split_once("/portal/members/").unwrap().1[..36]);
    assert!(!admin.page(&member).await.contains(link));
    let ann = Browser::with_link(&server, link).await;
    assert_eq!(ann.get("/portal/apps/new").await.status, 200);
    assert_eq!(ann.get("/portal/members").await.status, 403);
    assert!(!ann.page("/portal/apps").await.contains("/portal/members"), "who may not go there is not led there");
    let twice = admin.post("/portal/members/new", &fields).await;
    assert_eq!((twice.status, twice.text.contains("id=\"login-link\"")), (409, false), "{}", twice.text);
    let refused = admin.post("/portal/members/new", &[("email", "no address"), ("role", "viewer")]).await;
    assert!(refused.status == 422 && refused.text.contains("email-error"), "{}", refused.text);
    // A smaller role counts at once; a disabled operator is out, until they are let in anew.
    assert_eq!(admin.post(&member, &[("role", "viewer")]).await.status, 303);
    assert_eq!(ann.get("/portal/apps/new").await.status, 403);
    assert_eq!(admin.get(&format!("{member}/disable")).await.status, 200);
    let again = shown(&admin.post(&format!("{member}/link"), &[]).await.text, "login-link").unwrap();
    // A link asks for no password, so nobody makes one past somebody's, and none that was made before is good any more.
    assert_eq!(crate::portal_account::set(&ann, crate::portal_account::PASSWORD).await.status, 303);
    let stale = format!("/portal/sign-in?{}", again.split_once('?').unwrap().1);
    assert_eq!(server.send(Raw::new("GET", &stale, "")).await.status, 410);
    let past = admin.post(&format!("{member}/link"), &[]).await;
    assert_eq!((past.status, past.text.contains("set up how they sign in")), (409, true), "{}", past.text);
    assert_eq!(admin.post(&format!("{member}/disable"), &[]).await.status, 303);
    assert!(is_sent_to_sign_in(&ann.get("/portal/apps").await));
    let none = admin.post(&format!("{member}/link"), &[]).await;
    assert_eq!((none.status, none.text.contains("Enable them first")), (409, true), "{}", none.text);
    assert_eq!(admin.post(&format!("{member}/enable"), &[]).await.status, 303);
    let anew = shown(&admin.post(&format!("{member}/link"), &[]).await.text, "login-link").unwrap();
    let anew = format!("/portal/sign-in?{}", anew.split_once('?').unwrap().1);
    assert_eq!(server.send(Raw::new("GET", &anew, "")).await.status, 200);
    // Whoever is disabled takes their links along.
    assert_eq!(admin.post(&format!("{member}/disable"), &[]).await.status, 303);
    assert_eq!(admin.post(&format!("{member}/enable"), &[]).await.status, 303);
    assert_eq!(server.send(Raw::new("GET", &anew, "")).await.status, 410);
    let made = server.api("GET", "/api/v1/audit/events?kind=login_link.created", serde_json::Value::Null).await.ok(200);
    let made = made["items"].as_array().unwrap().iter().filter(|event| event["actor"]["type"] == "operator");
    let made: Vec<_> = made.collect();
    assert!(made.len() == 3 && made[0]["account"] == "ann@example.com", "{made:?}");
    assert!(!serde_json::to_string(&made).unwrap().contains(link));
}

async fn the_last_admin_stays_and_the_page_says_so(server: Server) {
    let link = crate::portal::link(&server, None).await;
    let browser = Browser::with_link(&server, &link).await;
    let page = format!("/portal/members/{}", server.operator);
    assert!(browser.page(&page).await.contains("operator@localhost"));
    for answer in
        [browser.post(&page, &[("role", "viewer")]).await, browser.post(&format!("{page}/disable"), &[]).await]
    {
        assert_eq!((answer.status, answer.text.contains("This is the last admin")), (409, true), "{}", answer.text);
        is_sound(&page, &answer.text);
    }
    assert_eq!(browser.get("/portal/members").await.status, 200);
}

async fn a_token_is_shown_once_and_revoked(server: Server) {
    let browser = Browser::of(&server, Role::Developer).await;
    let fields = [
        ("name", "CI"),
        ("role", "viewer"),
        ("expires_in_days", "7"),
        ("once", "0199c0de-0000-7000-8000-000000000002"),
    ];
    let token = shown(&browser.post("/portal/tokens/new", &fields).await.text, "token").unwrap();
    assert_eq!(shown(&browser.post("/portal/tokens/new", &fields).await.text, "token"), Some(token.clone()));
    let me = server.api_as(&token, "GET", "/api/v1/whoami", serde_json::Value::Null).await.ok(200);
    assert_eq!(me["role"], "viewer");
    server.advance_ms(60_000);
    let late = browser.post("/portal/tokens/new", &fields).await;
    assert_eq!((late.status, late.header("location")), (303, "/portal/tokens"));
    let list = browser.page("/portal/tokens").await;
    assert!(list.contains(">CI</span>") && !list.contains(&token), "{list}");
    for (name, value, field) in [
        ("expires_in_days", "soon", "expires_in_days-error"),
        ("expires_in_days", "99999999", "expires_in_days-error"),
        ("role", "admin", "role-error"),
        ("app_ids", "0199c0de-0000-7000-8000-00000000beef", "app_ids-error"),
    ] {
        let refused = browser.post("/portal/tokens/new", &[("name", "x"), (name, value)]).await;
        assert!(refused.status >= 400 && refused.text.contains(field), "{name}: {}", refused.text);
    }
    let id = list.split_once("/portal/tokens/").unwrap().1;
    let id = id.split("/portal/tokens/").find(|rest| rest[36..].starts_with("/revoke")).unwrap()[..36].to_owned();
    assert_eq!(browser.get(&format!("/portal/tokens/{id}/revoke")).await.status, 200);
    assert_eq!(browser.post(&format!("/portal/tokens/{id}/revoke"), &[]).await.status, 303);
    server.api_as(&token, "GET", "/api/v1/whoami", serde_json::Value::Null).await.refused(Code::SessionRequired);
}

async fn settings_are_saved_and_kept_within_bounds(server: Server) {
    let world = server.world().await;
    let admin = Browser::of(&server, Role::Admin).await;
    let saved = admin.post("/portal/settings", &[("name", "Example Ltd"), ("token_days_max", "30")]).await;
    assert_eq!(saved.status, 303, "{}", saved.text);
    let page = admin.page("/portal/settings").await;
    assert!(page.contains("value=\"Example Ltd\"") && page.contains("value=\"30\""), "{page}");
    for days in ["-1", "3661", "x"] {
        let refused = admin.post("/portal/settings", &[("name", "Example Ltd"), ("token_days_max", days)]).await;
        assert!(refused.status >= 400 && refused.text.contains("token_days_max-error"), "{days}: {}", refused.text);
    }
    assert!(admin.page("/portal/tokens/new").await.contains("Empty: 30."));
    assert!(
        !Browser::of(&server, Role::Viewer)
            .await
            .page("/portal/settings")
            .await
            .contains("action=\"/portal/settings\"")
    );

    let at = format!("/portal/apps/{}/settings", world.app);
    let fields = [("name", "Shop"), ("website_url", "https://shop.example"), ("retrieve", "off")];
    assert_eq!(admin.post(&at, &fields).await.status, 303);
    let app = server.api("GET", &world.path(""), serde_json::Value::Null).await.ok(200);
    assert_eq!((&app["name"], &app["retrieve"], &app["description"]), (&json!("Shop"), &json!("off"), &json!(null)));
    let refused = admin.post(&at, &[("name", ""), ("website_url", "x")]).await;
    assert!(refused.status == 422 && refused.text.contains("name-error"), "{}", refused.text);
    let guarded = |key: &'static str, mode: &'static str| {
        [("name", "Shop"), ("retrieve", "off"), ("tenant_key", key), ("tenant_mode", mode)]
    };
    let refused = admin.post(&at, &guarded("", "enforce")).await;
    assert!(refused.status == 422 && refused.text.contains("tenant_key-error"), "{}", refused.text);
    assert_eq!(admin.post(&at, &guarded("tenant_id", "observe")).await.status, 303);
    for (retention, kept) in [("90d", "90d"), ("forever", "forever"), ("", "365d")] {
        assert_eq!(admin.post(&format!("{at}/retention"), &[("retention", retention)]).await.status, 303);
        let found = server.api("GET", &world.path("retention"), serde_json::Value::Null).await.ok(200);
        assert_eq!((&found["retention"], &found["is_default"]), (&json!(kept), &json!(retention.is_empty())));
    }
    let refused = admin.post(&format!("{at}/retention"), &[("retention", "soon")]).await;
    assert!(refused.status == 422 && refused.text.contains("retention-error"), "{}", refused.text);
    assert_eq!(admin.post(&format!("{at}/hold"), &[("reason", "Case 17")]).await.status, 303);
    assert!(admin.page(&at).await.contains("Case 17"));
    assert_eq!(admin.post(&format!("{at}/release"), &[]).await.status, 303);
    assert!(!admin.page(&at).await.contains("Case 17"));
}

async fn events_are_found_by_everything_they_are_of(server: Server) {
    let world = server.world().await;
    let browser = Browser::of(&server, Role::Viewer).await;
    let call = server.token(&world).await;
    let (released, request) = (call.header("x-grantd-event-id").to_owned(), call.header("x-request-id").to_owned());
    server.advance_ms(2_000);
    let other = server.token(&world).await.header("x-grantd-event-id").to_owned();
    let audit = format!("/portal/apps/{}/audit", world.app);
    let now = server.now().plus_ms(-1_000).to_string();
    let second = now.split('.').next().unwrap().trim_end_matches('Z').to_owned();
    for (query, finds) in [
        (format!("request={request}"), (true, false)),
        (format!("key={}", world.key_id), (true, true)),
        (format!("grant={}", world.grant), (true, true)),
        (format!("since={second}"), (false, true)),
        (format!("until={second}"), (true, false)),
        ("user=0199c0de-0000-7000-8000-00000000beef".to_owned(), (false, false)),
    ] {
        let page = browser.page(&format!("{audit}?{query}")).await;
        is_sound(&query, &page);
        assert_eq!((page.contains(&released), page.contains(&other)), finds, "{query}");
        // What is set is in sight, and goes along with the pages behind it.
        assert!(page.contains("<details class=\"more\" open>"), "{query}");
    }
    for odd in ["request=x", "since=soon", "key="] {
        is_sound(odd, &browser.get(&format!("{audit}?{odd}")).await.text);
    }
    let page = browser.page(&format!("{audit}/{released}")).await;
    assert!(page.contains(&format!("{audit}?request={request}")), "{page}");
    server.api("PATCH", &world.path(""), json!({"name": "Renamed"})).await.ok(200);
    let updated = text(&server.told(&world, "app.updated").await[0], "id");
    let page = browser.page(&format!("{audit}/{updated}")).await;
    assert!(page.contains("What changed") && page.contains(">Renamed</td>"), "{page}");
    // The organization's own trail has the same pages.
    let page = browser.page("/portal/audit?kind=install.created").await;
    let event = page.split_once("data-id=\"").unwrap().1[..36].to_owned();
    assert!(
        page.contains("install.created") && browser.page(&format!("/portal/audit/{event}")).await.contains("Proof")
    );
    assert_eq!(browser.get(&format!("/portal/audit/{released}")).await.status, 404);
}

async fn an_export_is_a_file_and_an_event(server: Server) {
    let world = server.world().await;
    server.token(&world).await.ok(200);
    let browser = Browser::of(&server, Role::Viewer).await;
    let path = format!("/portal/apps/{}/audit/export", world.app);
    assert!(browser.page(&format!("{path}?kind=token.released")).await.contains("value=\"token.released\" selected"));
    assert!(server.told(&world, "audit.exported").await.is_empty(), "asking for the page exports nothing");
    let jsonl = browser.post(&path, &[("format", "jsonl")]).await;
    assert_eq!((jsonl.status, jsonl.header("content-type")), (200, "application/jsonl"));
    let disposition = jsonl.header("content-disposition");
    assert!(disposition.starts_with(&format!("attachment; filename=\"audit-{}-", world.app)), "{disposition}");
    let last: serde_json::Value = serde_json::from_str(jsonl.text.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "footer");
    let csv = browser.post(&path, &[("format", "csv"), ("kind", "token.released")]).await;
    assert_eq!((csv.header("content-type"), csv.text.lines().count()), ("text/csv; charset=utf-8", 2), "{}", csv.text);
    let refused = browser.post(&path, &[("context", "unindexed=1")]).await;
    assert_eq!((refused.status, refused.header("content-disposition")), (400, ""));
    is_sound(&path, &refused.text);
    // What a list is narrowed by and an export cannot be is never left out in silence.
    let request = "0199c0de-0000-7000-8000-000000000003";
    let list = browser.page(&format!("/portal/apps/{}/audit?request={request}", world.app)).await;
    assert!(list.contains(request) && !list.contains("/audit/export"), "{list}");
    let refused = browser.post(&path, &[("request", request)]).await;
    assert!(refused.status == 400 && refused.text.contains("There is no such field here"), "{}", refused.text);
    assert!(refused.text.contains(&format!("value=\"{request}\"")), "it can be taken out: {}", refused.text);
    assert!(!browser.page(&path).await.contains("name=\"request\""));
    assert!(browser.post("/portal/audit/export", &[]).await.text.contains("install.created"));
    assert_eq!(server.told(&world, "audit.exported").await.len(), 2);
}

async fn what_a_call_says_of_itself_is_inert_on_every_page(server: Server) {
    let world = server.world_named(HOSTILE).await;
    server.api("PATCH", "/api/v1/organization", json!({"name": HOSTILE})).await.ok(200);
    server.api("POST", "/api/v1/tokens", json!({"name": HOSTILE})).await.ok(201);
    let key = server.key(&world.app, json!({"name": HOSTILE, "scopes": scope::all()})).await.1;
    let secret = server.secret(&world.app, json!({"name": HOSTILE})).await;
    let world = World { secret: text(&secret, "slug"), secret_id: text(&secret, "id"), ..world };
    let grant = server.grant(&world, json!({"label": HOSTILE})).await;
    // A header is of ASCII; the context's JSON has an escape for what is not.
    let ascii = HOSTILE.replace(['\u{202e}', '\u{200b}'], "");
    let context = json!({"<img src=x onerror=alert(1)>": HOSTILE, "user_id": "\u{202e}<b>"}).to_string();
    let context = context.replace('\u{202e}', "\\u202e").replace('\u{200b}', "\\u200b");
    let call = async |host: &str| {
        let url = format!("https://{host}/<script>alert(1)</script>\"'><img/src=x/onerror=alert(1)>");
        let body = json!({"grant_id": grant, "reason": HOSTILE, "request": {"method": "GET", "url": url}});
        let signed = Sign { user_agent: &ascii, ..server.sign(&key).caller(&ascii, "service").context(&context) };
        server.send(signed.post("/sdk/token", &body)).await
    };
    call("api.example.com").await.ok(200);
    call("evil.example").await.refused(Code::BlockedDestination);
    let revoke = world.path(&format!("grants/{grant}/revoke"));
    server.api("POST", &revoke, json!({"reason": HOSTILE})).await.ok(200);
    call("api.example.com").await.refused(Code::GrantRevoked);

    let browser = Browser::of(&server, Role::Admin).await;
    let app = format!("/portal/apps/{}", world.app);
    let (start, detail) = (format!("{app}/start?grant={grant}"), format!("{app}/grants/{grant}"));
    let mut pages = vec![app.clone(), start, detail.clone(), format!("{detail}/revoke")];
    pages.extend(["/overview", "/audit", "/grants", "/keys", "/secrets"].map(|page| format!("{app}{page}")));
    pages.push(format!("{app}/secrets/{}", world.secret_id));
    pages.extend(
        ["/portal/overview", "/portal/apps", "/portal/audit", "/portal/tokens", "/portal/settings"].map(str::to_owned),
    );
    for (kind, said) in [("token.released", 1), ("token.denied", 2), ("grant.revoked", 1)] {
        let events = server.told(&world, kind).await;
        assert_eq!(events.len(), said, "{kind}");
        for event in &events {
            assert_eq!(event["reason"], HOSTILE, "{kind}");
            let path = format!("{app}/audit/{}", text(event, "id"));
            assert!(browser.get(&path).await.text.contains("&lt;script&gt;alert(1)"), "{path}");
            pages.push(path);
        }
    }
    for path in &pages {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        is_sound(path, &answer.text);
        assert!(!answer.text.contains(['\u{202e}', '\u{200b}']), "{path}");
    }
    for shows in [&detail, &format!("{app}/keys"), &format!("{app}/grants"), &format!("{app}/audit")] {
        assert!(browser.get(shows).await.text.contains("&lt;img src=x onerror=alert(1)&gt;"), "{shows}");
    }
}
