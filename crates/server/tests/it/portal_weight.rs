//! How much pages weigh, whatever is behind them; and where their links lead.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grantd_domain::env::new_uuid;
use grantd_domain::identity::{User, UserStatus};
use grantd_server::portal::routes::PORTAL;
use grantd_store::operators::Role;
use grantd_store::{Tx, credentials, grants, users};
use grantd_wire::ids::{AppId, CredentialId, GrantId, IdentityProviderId, UserId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Engine, Server, World};
use crate::portal::{Browser, furnish, others, path_of};

in_memory! {
    every_link_of_the_portal_leads_somewhere,
}

// Figures of hours that are over are written behind the store's back.
mod kept_in_file {
    #[test]
    fn no_page_weighs_too_much_however_much_is_behind_it() {
        crate::harness::run(super::Engine::File, super::no_page_weighs_too_much_however_much_is_behind_it);
    }
}

/// Bytes of a page with everything that it loads, as they go over the wire: nothing is compressed here.
const PAGE_BYTES_MAX: usize = 150_000;

/// Ten thousand grants, each with a label as long as one may be.
async fn many_grants(server: &Server, world: &World) {
    let (app, grant) = (AppId::parse(&world.app).unwrap(), GrantId::parse(&world.grant).unwrap());
    let one = server.store().read(move |tx| grants::find(tx, app, grant)).await.unwrap().unwrap();
    for from in (0..10_000).step_by(500) {
        let rows = (from..from + 500).map(|n| {
            let (mut credential, mut grant) = (one.credential.clone(), one.grant.clone());
            credential.id = CredentialId::from_uuid(new_uuid(&*server.env));
            (grant.id, grant.credential_id) = (GrantId::from_uuid(new_uuid(&*server.env)), credential.id);
            grant.label = Some(format!("{n:05}{}", "é".repeat(limits::LABEL_CHARS_MAX - 5)));
            (credential, grant)
        });
        let rows: Vec<_> = rows.collect();
        let insert = move |tx: &mut Tx<'_>| {
            rows.iter().try_for_each(|(credential, grant)| {
                credentials::insert(tx, credential)?;
                grants::insert(tx, grant)
            })
        };
        server.store().write(insert).await.unwrap();
    }
}

/// More of everything else than one page shows, with texts that are as long as they may be and that HTML makes longer.
async fn many_others(server: &Server, world: &World) {
    let name = |n: usize| format!("{n:02}{}", "'".repeat(limits::NAME_CHARS_MAX - 2));
    for n in 0..30 {
        server.key(&world.app, json!({"name": name(n)})).await;
        server.api("POST", "/api/v1/apps", json!({"name": name(n), "description": "'".repeat(1_000)})).await.ok(201);
        server.api("POST", "/api/v1/tokens", json!({"name": name(n)})).await.ok(201);
        let email = format!("{n:02}{}@{}.example.com", "'".repeat(60), "a".repeat(60));
        server.api("POST", "/api/v1/operators", json!({"email": email, "role": "viewer"})).await.ok(201);
        server.secret(&world.app, json!({"name": name(n)})).await;
        server.token(&world.with_grant("x")).await.refused(Code::GrantNotFound);
        let url = format!("https://api.example.com{}", "/".repeat(limits::EVENT_PATH_BYTES_MAX + 1));
        let ask =
            json!({"grant_id": world.grant, "reason": "'".repeat(2_000), "request": {"method": "GET", "url": url}});
        server.send(server.sign(&world.key).post("/sdk/token", &ask)).await.ok(200);
    }
    let idp = server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200);
    let idp_id = IdentityProviderId::parse(&text(&idp["items"][0], "id")).unwrap();
    let (app_id, now) = (AppId::parse(&world.app).unwrap(), server.now());
    let user = |n: usize| User {
        id: UserId::from_uuid(new_uuid(&*server.env)),
        app_id,
        idp_id,
        subject: format!("{n:03}{}", "'".repeat(252)),
        status: UserStatus::Active,
        email: Some(format!("{}@example.com", "'".repeat(200))),
        name: Some("'".repeat(255)),
        roles: std::collections::BTreeSet::new(),
        told_at: None,
        told_hash: None,
        last_seen_at: Some(now),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let rows: Vec<User> = (0..30).map(user).collect();
    server
        .store()
        .write(move |tx: &mut Tx<'_>| rows.iter().try_for_each(|user| users::insert(tx, user).map(drop)))
        .await
        .unwrap();
    let logo =
        json!({"logo": BASE64_STANDARD.encode(crate::organization::noise(250)), "display_name": "'".repeat(100)});
    server.api("PATCH", &world.path("branding"), logo).await.ok(200);
    for owner in [world.app.clone(), server.vault.organization_id.to_string()] {
        let (whats, hour) = (hourly_whats(), server.now().0 / 3_600_000 * 3_600_000);
        let sql = format!(
            "WITH RECURSIVE hours(h) AS (SELECT {hour} UNION ALL SELECT h - 3600000 FROM hours LIMIT 720) \
             INSERT OR REPLACE INTO hourly (app_id, hour_ms, what, times) \
             SELECT '{owner}', h, w.column1, 123456789 + h % 1000 FROM hours, (VALUES {whats}) AS w"
        );
        server.database.behind_its_back(&sql).await;
    }
}

/// Everything that is counted: refusals with every code, renewals, and how long calls took.
fn hourly_whats() -> String {
    let refused = Code::ALL.iter().map(|code| format!("('refused.{}')", code.as_str()));
    let took = (10..30).map(|bucket| format!("('took.{bucket}')"));
    let more = ["allowed", "refreshed", "refresh_failed"].map(|what| format!("('{what}')"));
    more.into_iter().chain(refused).chain(took).collect::<Vec<_>>().join(", ")
}

/// Bytes of the page and of all that it loads.
async fn weight(browser: &Browser, page: &str, loaded: &mut BTreeMap<String, usize>) -> usize {
    let page = page.replace("&#x2f;", "/").replace("&amp;", "&");
    let is_loaded = |text: &&str| {
        text.starts_with("/assets/") || text.starts_with("/brand/") || text.contains("/branding/preview?")
    };
    let mut weight = page.len();
    for address in page.split('"').filter(is_loaded) {
        if !loaded.contains_key(address) {
            let asset = browser.get(address).await;
            assert_eq!(asset.status, 200, "{address}");
            loaded.insert(address.to_owned(), asset.bytes);
        }
        weight += loaded[address];
    }
    weight
}

async fn no_page_weighs_too_much_however_much_is_behind_it(server: Server) {
    let world = server.world_named(&"W".repeat(limits::NAME_CHARS_MAX)).await;
    furnish(&server, &world, &"W".repeat(limits::NAME_CHARS_MAX)).await;
    many_grants(&server, &world).await;
    many_others(&server, &world).await;
    let others = others(&server, &world).await;
    let browser = Browser::of(&server, Role::Admin).await;
    let (mut loaded, mut weights) = (BTreeMap::new(), Vec::new());
    let pages = PORTAL.iter().filter(|row| row.method == "GET").map(|row| path_of(row, &world, &others));
    let app = format!("/portal/apps/{}", world.app);
    let value = "%27".repeat(120);
    let filters =
        ["kind", "outcome", "grant", "user", "agent", "key", "provider", "request", "context", "since", "until"];
    let all = filters.map(|name| format!("{name}={value}")).join("&");
    let more = [
        format!("{app}/audit?{all}"),
        format!("{app}/audit?context=a%3D{value}"),
        format!("{app}/audit/export?{all}"),
        format!("/portal/audit?{all}"),
        format!("{app}/overview?range=30d"),
        "/portal/overview?range=30d".to_owned(),
        format!("{app}/grants?search={value}&status=active"),
        format!("{app}/grants?offset=9975"),
        format!("{app}/users?search={value}"),
    ];
    for path in pages.chain(more) {
        let page = browser.get(&path).await;
        weights.push((weight(&browser, &page.text, &mut loaded).await, path));
    }
    // Pages that are drawn again, with what was typed and what was wrong with it.
    let long = "'".repeat(2_000);
    for (path, fields) in [
        ("apps/new".to_owned(), ["name", "website_url", "description"].as_slice()),
        (format!("apps/{}/settings", world.app), &["name", "website_url", "description", "indexed_context_keys"]),
        (format!("apps/{}/providers/new/custom", world.app), &["name", "custom.issuer", "custom.scope_texts"]),
        (format!("apps/{}/identity/new/oidc", world.app), &["name", "issuer", "audiences", "jwks_url"]),
        (format!("apps/{}/secrets/new/custom", world.app), &["name", "allowed_hosts"]),
        (format!("apps/{}/secrets/{}/hosts", world.app, world.secret_id), &["allowed_hosts"]),
        (format!("apps/{}/branding", world.app), &["display_name", "accent_color"]),
        ("members/new".to_owned(), &["email"]),
        ("tokens/new".to_owned(), &["name", "app_ids"]),
        ("settings".to_owned(), &["name", "token_days_max"]),
    ] {
        let fields: Vec<(&str, &str)> = fields.iter().map(|name| (*name, long.as_str())).collect();
        let page = browser.post(&format!("/portal/{path}"), &fields).await;
        assert!(matches!(page.status, 400 | 409 | 422), "{path}: {}", page.status);
        weights.push((weight(&browser, &page.text, &mut loaded).await, path));
    }
    weights.sort();
    assert!(loaded.len() >= 7, "style, script and pictures were counted: {loaded:?}");
    let logo = loaded.iter().find(|(address, _)| address.starts_with("/brand/")).unwrap();
    assert!((20_000..=limits::LOGO_KEPT_BYTES_MAX).contains(logo.1), "{logo:?}");
    let heaviest = &weights[weights.len() - 3..];
    assert!(heaviest[2].0 <= PAGE_BYTES_MAX, "{heaviest:?} with {loaded:?}");
    let list = browser.page(&format!("{app}/grants")).await;
    assert!(list.contains("of more than <bdi>10,000</bdi>"), "nobody counts further: {list}");
    // A list shows the beginning of a long call, its event all that was kept of it.
    let slashes = |page: &str| page.split('"').map(|part| part.matches("//").count()).max().unwrap_or_default();
    let audit = browser.page(&format!("{app}/audit?kind=token.released")).await;
    let event = audit.split_once("data-id=\"").unwrap().1[..36].to_owned();
    let event = browser.page(&format!("{app}/audit/{event}")).await;
    assert!(
        audit.contains(&format!("{}…", "/".repeat(100))) && !audit.contains(&"/".repeat(201)),
        "{}",
        slashes(&audit)
    );
    assert!(event.contains(&"/".repeat(limits::EVENT_PATH_BYTES_MAX)), "{}", slashes(&event));
}

/// How many addresses that differ only by ids and values are followed.
const ALIKE: usize = 2;

/// What an address is like: without ids, and without values of its query.
fn pattern(address: &str) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let segment =
        |part: &str| if part.len() == 36 && part.matches('-').count() == 4 { "{}".to_owned() } else { part.to_owned() };
    let path: Vec<String> = path.split('/').map(segment).collect();
    let names: Vec<&str> = query.split('&').filter_map(|pair| pair.split('=').next()).collect();
    format!("{}?{}", path.join("/"), names.join("&"))
}

async fn every_link_of_the_portal_leads_somewhere(server: Server) {
    use html5gum::{Token, Tokenizer};
    let world = server.world().await;
    furnish(&server, &world, "Plain").await;
    others(&server, &world).await;
    server.token(&world).await.ok(200);
    server.token(&world.with_grant("x")).await.refused(Code::GrantNotFound);
    for n in 0..30 {
        server.grant(&world, json!({"label": format!("label-{n:02}")})).await;
    }
    let browser = Browser::of(&server, Role::Admin).await;
    let (mut seen, mut followed) = (BTreeMap::<String, usize>::new(), 0);
    let mut waiting = VecDeque::from(["/portal/overview".to_owned()]);
    while let Some(address) = waiting.pop_front() {
        let answer = browser.get(&address).await;
        let leads =
            matches!(answer.status, 200) || (answer.status == 303 && !crate::portal::is_sent_to_sign_in(&answer));
        assert!(leads, "{address}: {}", answer.status);
        followed += 1;
        let (mut ids, mut inside) = (Vec::new(), Vec::new());
        for Ok(token) in Tokenizer::new(&answer.text) {
            let Token::StartTag(tag) = token else { continue };
            let attribute = |wanted: &[u8]| {
                let found = tag.attributes.iter().find(|(name, _)| name.as_slice() == wanted);
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            ids.extend(attribute(b"id"));
            let is_get = tag.name.as_slice() == b"form" && attribute(b"method").as_deref() == Some("get");
            let action = attribute(b"action").filter(|_| is_get);
            for link in [attribute(b"href"), attribute(b"src"), attribute(b"data-live"), action].into_iter().flatten() {
                match link.strip_prefix('#') {
                    Some(id) => inside.push(id.to_owned()),
                    None if link.starts_with('/') => {
                        let times = seen.entry(pattern(&link)).or_default();
                        *times += 1;
                        if *times <= ALIKE {
                            waiting.push_back(link);
                        }
                    }
                    None => assert!(link.starts_with("https://") || link.starts_with("http://"), "{address}: {link}"),
                }
            }
        }
        assert!(inside.iter().all(|id| ids.contains(id)), "{address}: {inside:?} in {ids:?}");
    }
    // Every page that no form leads to is linked from somewhere.
    let linked = |path: &str| seen.keys().any(|known| pattern(path) == *known || known.starts_with(&pattern(path)));
    assert!(linked("/portal/audit") && linked("/portal/account") && followed > 60, "{followed}: {seen:?}");
}
