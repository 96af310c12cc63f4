//! Pages of the portal: the way to a first request, what is shown once, why a call was refused, lists.

use grantd_server::portal::routes::PORTAL;
use grantd_store::operators::Role;
use grantd_wire::{Code, limits};
use serde_json::json;

use crate::harness::world::text;
use crate::harness::{Raw, Server, World};
use crate::portal::{Browser, an_event, fields_of, furnish, is_sent_to_sign_in, is_sound, path_of, with_cookie};

in_memory! {
    the_way_to_the_first_request,
    a_key_is_shown_once_and_made_once_however_often_the_form_is_sent,
    a_refused_call_says_at_which_step,
    objects_of_another_app_are_missing,
    lists_are_paged_and_searched,
    a_page_that_follows_by_itself_keeps_nobody_signed_in,
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
    let world =
        World { app: app.clone(), key, grant, key_id: String::new(), secret: String::new(), secret_id: String::new() };
    server.token(&world).await.ok(200);
    let page = browser.page(&start).await;
    assert!(page.contains("data-arrived") && page.contains("It arrived, and was allowed"), "{page}");
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
    let event = an_event(&server, &world).await;
    furnish(&server, &world, "Plain").await;
    let browser = Browser::of(&server, Role::Admin).await;
    for row in PORTAL.iter().filter(|row| row.path.matches("{}").count() == 2) {
        if row.path.contains("/new/{}") {
            // What is named there is the catalogue's.
            continue;
        }
        let path = path_of(row, &World { app: other.app.clone(), ..world.clone() }, &event);
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
