//! OAuth providers that an app is registered with.

use std::sync::{Arc, Mutex};

use grantd_domain::account::{Account, Renewal, TokenPair};
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{Credential, CredentialOf, Grant, GrantStatus, Principal, Tenant};
use grantd_domain::provider::Expiry;
use grantd_domain::secret::Secret;
use grantd_server::sealed;
use grantd_store::{Tx, credentials, grants, providers};
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, GenerationId, GrantId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World, api_request, root, watch};

on_kept_engines! {
    a_provider_is_registered_shown_changed_and_deleted,
    a_provider_with_accounts_stays,
    fewer_hosts_hold_for_the_next_call_everywhere,
    a_client_secret_opens_for_its_row_alone,
    a_field_stands_in_the_urls_and_leads_to_no_other_server,
    another_kind_of_tokens_is_for_new_accounts_alone,
    a_client_secret_that_does_not_open_is_found,
}

in_memory! {
    what_is_registered_is_told_without_the_secret,
    what_cannot_be_a_provider_is_refused,
    bounds_hold_at_them_and_one_past,
    another_installation_has_its_own_urls_and_hosts,
    an_issuer_is_asked_once_and_its_answer_kept,
    an_issuer_that_cannot_be_trusted_is_refused,
    the_same_creation_again_asks_no_issuer,
    a_kept_secret_goes_to_no_other_server,
}

const CLIENT_SECRET: &str = "canary-of-the-client-secret";

async fn create(server: &Server, world: &World, body: Value) -> Answer {
    server.api("POST", &world.path("providers"), body).await
}

async fn show(server: &Server, world: &World, id: &str) -> Answer {
    server.api("GET", &world.path(&format!("providers/{id}")), Value::Null).await
}

async fn update(server: &Server, world: &World, id: &str, body: Value) -> Answer {
    server.api("PATCH", &world.path(&format!("providers/{id}")), body).await
}

async fn delete(server: &Server, world: &World, id: &str) -> Answer {
    server.api("DELETE", &world.path(&format!("providers/{id}")), Value::Null).await
}

fn google() -> Value {
    json!({"provider": "google", "client_id": "1234.apps.example.com", "client_secret": CLIENT_SECRET})
}

fn acme(more: Value) -> Value {
    let custom =
        json!({"authorize_url": "https://id.acme.example/authorize", "token_url": "https://id.acme.example/token"});
    let body = json!({
        "provider": "acme", "name": "Acme", "client_id": "c", "allowed_hosts": ["api.acme.example"], "custom": custom,
    });
    merged(body, more)
}

/// A grant on an account at the provider, as connecting one leaves it.
async fn connect(server: &Server, world: &World, provider: &Value) -> String {
    let env = &*server.vault.env;
    let id = CredentialId::from_uuid(new_uuid(env));
    let row = AppProviderId::parse(&text(provider, "id")).unwrap();
    let app = AppId::parse(&world.app).unwrap();
    let account = Account {
        provider: row,
        identifier: "user-1".to_owned(),
        name: None,
        scopes: Vec::new(),
        pinned_host: None,
        expiry: Expiry::Never,
        is_refreshable: false,
        rejected_at: None,
        scope_mismatch_at: None,
        renewal: Renewal::default(),
    };
    let pair = TokenPair::new(&Secret::new("canary-access".to_owned()), None).text();
    let credential = Credential {
        id,
        app_id: app,
        of: CredentialOf::Account(Box::new(account)),
        user_id: None,
        generation: GenerationId::from_uuid(new_uuid(env)),
        version: 1,
        state: server.vault.keys.seal(env, app, id, 1, &pair).await.unwrap(),
        updated_at: server.now(),
    };
    let grant = Grant {
        id: GrantId::from_uuid(new_uuid(env)),
        app_id: app,
        credential_id: id,
        principal: Principal::System,
        label: None,
        status: GrantStatus::Active,
        tenant: Tenant::Exempt,
        expires_at: None,
        created_at: server.now(),
        last_used_at: None,
        version: 1,
    };
    let grant_id = grant.id.to_string();
    let insert = move |tx: &mut Tx<'_>| {
        credentials::insert(tx, &credential)?;
        grants::insert(tx, &grant)
    };
    server.store().write(insert).await.unwrap();
    grant_id
}

async fn a_provider_is_registered_shown_changed_and_deleted(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let made = create(&server, &world, google()).await.ok(201);
    assert_eq!(
        (&made["provider_id"], &made["name"], &made["version"]),
        (&json!("google"), &json!("Google"), &json!(1))
    );
    assert_eq!(made["redirect_uri"], "http://127.0.0.1:8080/oauth/callback");
    assert_eq!(
        (&made["has_client_secret"], &made["accounts"], &made["custom"]),
        (&json!(true), &json!(0), &Value::Null)
    );
    assert_eq!((&made["scopes"], &made["allowed_hosts"]), (&json!([]), &json!([])));
    let catalogue = server.api("GET", "/api/v1/provider-catalog/google", Value::Null).await.ok(200);
    assert_eq!(
        (&made["effective_scopes"], &made["effective_hosts"]),
        (&catalogue["default_scopes"], &catalogue["allowed_hosts"])
    );
    assert_eq!(
        (&made["setup"], &made["verified"], &made["docs_url"]),
        (&catalogue["setup"], &catalogue["verified"], &catalogue["docs_url"])
    );
    // By either id, for viewers too, and only in its app.
    for id in ["google", &text(&made, "id")] {
        assert_eq!(show(&server, &world, id).await.ok(200), made);
        show(&server, &other, id).await.refused(Code::NotFound);
    }
    create(&server, &world, google()).await.refused(Code::NameTaken);
    create(&server, &other, google()).await.ok(201);
    create(&server, &world, acme(json!({}))).await.ok(201);
    let list = server.api("GET", &world.path("providers"), Value::Null).await.ok(200);
    assert_eq!((&list["total"], &list["items"][1]), (&json!(2), &made), "by their ids");
    let found = server.api("GET", &world.path("providers?search=GOO"), Value::Null).await.ok(200);
    assert_eq!((&found["total"], &found["items"][0]), (&json!(1), &made));

    server.advance_ms(1_000);
    let change = json!({"name": "Mail", "client_id": "5678", "scopes": ["openid", "email"], "allowed_hosts": ["mail.example.com"]});
    let changed = update(&server, &world, "google", change).await.ok(200);
    assert_eq!(
        (&changed["name"], &changed["client_id"], &changed["version"]),
        (&json!("Mail"), &json!("5678"), &json!(2))
    );
    assert_eq!(changed["scopes"], json!(["openid", "email"]));
    let hosts = changed["effective_hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), catalogue["allowed_hosts"].as_array().unwrap().len() + 1);
    assert!(hosts.contains(&json!("mail.example.com")) && changed["has_client_secret"] == true);
    assert_ne!(changed["updated_at"], changed["created_at"]);
    assert_eq!(show(&server, &world, "google").await.ok(200), changed);
    let bare = json!({"client_secret": "", "scopes": [], "allowed_hosts": []});
    let bare = update(&server, &world, "google", bare).await.ok(200);
    assert_eq!((&bare["has_client_secret"], &bare["effective_hosts"]), (&json!(false), &catalogue["allowed_hosts"]));

    let id = text(&made, "id");
    let deleted = delete(&server, &world, "google").await.ok(200);
    assert_eq!((&deleted["id"], &deleted["provider_id"]), (&json!(id), &json!("google")));
    for gone in ["google", &id] {
        show(&server, &world, gone).await.refused(Code::NotFound);
        update(&server, &world, gone, json!({})).await.refused(Code::NotFound);
        delete(&server, &world, gone).await.refused(Code::NotFound);
    }
    // Its place is free for another, which is not the same.
    assert_ne!(create(&server, &world, google()).await.ok(201)["id"], json!(id));
    assert_eq!(server.api("GET", &world.path("providers"), Value::Null).await.ok(200)["total"], 2);
}

async fn what_is_registered_is_told_without_the_secret(server: Server) {
    let world = server.world().await;
    create(&server, &world, google()).await.ok(201);
    let [created] = &server.told(&world, "provider.created").await[..] else { panic!("one event") };
    assert_eq!(
        (&created["provider_id"], &created["changed"]["client_id"]),
        (&json!("google"), &json!([null, "1234.apps.example.com"]))
    );
    assert_eq!(created["changed"]["has_client_secret"], json!([null, true]));
    assert!(created["changed"].get("client_secret").is_none() && created["changed"].get("setup").is_none());
    let change = json!({"client_secret": format!("{CLIENT_SECRET}-2"), "allowed_hosts": ["mail.example.com"]});
    update(&server, &world, "google", change).await.ok(200);
    let [updated] = &server.told(&world, "provider.updated").await[..] else { panic!("one event") };
    assert_eq!(updated["changed"]["client_secret"], json!(["the old one", "a new one"]));
    assert_eq!(updated["changed"]["allowed_hosts"], json!([[], ["mail.example.com"]]));
    assert!(updated["changed"].get("client_id").is_none(), "what stayed is not told: {updated}");
    update(&server, &world, "google", json!({"client_secret": ""})).await.ok(200);
    let removed = server.told(&world, "provider.updated").await.pop().unwrap();
    assert_eq!(removed["changed"], json!({"has_client_secret": [true, false]}));
    delete(&server, &world, "google").await.ok(200);
    let [deleted] = &server.told(&world, "provider.deleted").await[..] else { panic!("one event") };
    assert_eq!((&deleted["provider_id"], &deleted["outcome"]), (&json!("google"), &json!("allowed")));
}

async fn a_provider_with_accounts_stays(server: Server) {
    let world = server.world().await;
    let made = create(&server, &world, google()).await.ok(201);
    let grant = connect(&server, &world, &made).await;
    let shown = show(&server, &world, "google").await;
    assert_eq!(shown.ok(200)["accounts"], 1);
    // Accounts come and go without a change of the provider.
    let tag = shown.header("etag").to_owned();
    assert_eq!(server.api("GET", &world.path("providers"), Value::Null).await.ok(200)["items"][0]["accounts"], 1);
    let refused = delete(&server, &world, "google").await.refused(Code::InUse);
    assert_eq!(refused["details"]["accounts"], 1);
    assert!(text(&refused, "hint").contains("grantd grants list --provider google"), "{refused}");
    assert!(server.told(&world, "provider.deleted").await.is_empty());
    server.revoke(&world, &grant).await.ok(200);
    let shown = show(&server, &world, "google").await;
    assert_eq!((&shown.ok(200)["accounts"], shown.header("etag")), (&json!(0), &*tag));
    delete(&server, &world, "google").await.ok(200);
}

async fn fewer_hosts_hold_for_the_next_call_everywhere(server: Server) {
    let world = server.world().await;
    let replica = server.another("replica", |_| {}).await;
    let made = create(&server, &world, acme(json!({}))).await.ok(201);
    let grant = connect(&server, &world, &made).await;
    let ask = async |process: &Server, host: &str| {
        let request = json!({"method": "GET", "url": format!("https://{host}/v1/things")});
        let body = json!({"grant_id": grant, "reason": null, "request": request});
        process.send(server.sign(&world.key).post("/sdk/token", &body)).await
    };
    for process in [&server, &replica] {
        assert_eq!(ask(process, "api.acme.example").await.ok(200)["access_token"], "canary-access");
        ask(process, "files.acme.example").await.refused(Code::BlockedDestination);
    }
    update(&server, &world, "acme", json!({"allowed_hosts": ["files.acme.example"]})).await.ok(200);
    for process in [&server, &replica] {
        ask(process, "api.acme.example").await.refused(Code::BlockedDestination);
        ask(process, "files.acme.example").await.ok(200);
    }
}

async fn a_kept_secret_goes_to_no_other_server(server: Server) {
    let world = server.world().await;
    let made = create(&server, &world, acme(json!({"client_secret": CLIENT_SECRET}))).await.ok(201);
    let custom = |host: &str, path: &str| json!({"custom": {"authorize_url": "https://id.acme.example/authorize", "token_url": format!("https://{host}/{path}")}});
    // Another path of the same server is the same server.
    update(&server, &world, "acme", custom("id.acme.example", "v2/token")).await.ok(200);
    let refused = update(&server, &world, "acme", custom("evil.example", "token")).await.refused(Code::InvalidValue);
    assert_eq!(refused["details"]["field"], "client_secret");
    let again = merged(custom("id2.acme.example", "token"), json!({"client_secret": "canary-again"}));
    update(&server, &world, "acme", again.clone()).await.ok(200);
    connect(&server, &world, &made).await;
    let elsewhere = merged(custom("evil.example", "token"), json!({"client_secret": "canary-again"}));
    let refused = update(&server, &world, "acme", elsewhere).await.refused(Code::InUse);
    assert!(text(&refused, "message").contains("did not issue them"), "{refused}");
    // All else can be changed while accounts are connected.
    update(&server, &world, "acme", json!({"client_secret": "canary-new", "scopes": ["a"]})).await.ok(200);
    assert_eq!(show(&server, &world, "acme").await.ok(200)["custom"]["token_url"], "https://id2.acme.example/token");
}

async fn a_client_secret_opens_for_its_row_alone(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    for world in [&world, &other] {
        create(&server, world, google()).await.ok(201);
    }
    update(&server, &world, "google", json!({"name": "Mail"})).await.ok(200);
    update(&server, &world, "google", json!({"client_secret": "canary-new"})).await.ok(200);
    update(&server, &world, "google", json!({"name": "Mail 2"})).await.ok(200);
    let find = async |world: &World| {
        let app = AppId::parse(&world.app).unwrap();
        server.store().read(move |tx| providers::find(tx, app, "google")).await.unwrap().unwrap()
    };
    let (mine, theirs) = (find(&world).await, find(&other).await);
    let open = async |provider, secret: &Option<_>| {
        server.vault.keys.open_client_secret(provider, secret.as_ref().unwrap()).await
    };
    assert_eq!(open(&mine, &mine.client_secret).await.unwrap().reveal(), "canary-new");
    assert_eq!(open(&theirs, &theirs.client_secret).await.unwrap().reveal(), CLIENT_SECRET);
    assert_eq!(open(&mine, &theirs.client_secret).await.unwrap_err().code, Code::KeyUnavailable);
    watch::clean("Debug of a provider", &format!("{mine:?}"));
}

async fn a_client_secret_that_does_not_open_is_found(server: Server) {
    let world = server.world().await;
    create(&server, &world, acme(json!({}))).await.ok(201);
    let before = sealed::check(server.store(), &root()).await.unwrap();
    let made = create(&server, &world, google()).await.ok(201);
    let found = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((found.opened, found.closed.count), (before.opened + 1, 0));
    let app = AppId::parse(&world.app).unwrap();
    let damage = move |tx: &mut Tx<'_>| {
        let mut provider = providers::find(tx, app, "google")?.unwrap();
        provider.client_secret.as_mut().unwrap().sealed[40] ^= 1;
        providers::update(tx, &provider, provider.version)
    };
    server.store().write(damage).await.unwrap();
    let found = sealed::check(server.store(), &root()).await.unwrap();
    let row = AppProviderId::parse(&text(&made, "id")).unwrap();
    assert_eq!((found.opened, found.closed.count), (before.opened, 1));
    assert_eq!(found.closed.first, [(Some(app), sealed::Value::ClientSecret(row))]);
    // Storing it again mends it.
    update(&server, &world, "google", json!({"client_secret": CLIENT_SECRET})).await.ok(200);
    assert_eq!(sealed::check(server.store(), &root()).await.unwrap().closed.count, 0);
}

async fn what_cannot_be_a_provider_is_refused(server: Server) {
    let world = server.world().await;
    let refused = async |body: Value, field: &str| {
        let refused = create(&server, &world, body).await.refused(Code::InvalidValue);
        assert_eq!(refused["details"]["field"], field, "{refused}");
        refused
    };
    let unknown = refused(json!({"provider": "nobody", "client_id": "c"}), "provider").await;
    assert!(text(&unknown, "hint").contains("list-catalog"));
    refused(json!({"provider": "custom", "client_id": "c"}), "provider").await;
    refused(acme(json!({"provider": "google"})), "provider").await;
    refused(acme(json!({"provider": "Acme Inc"})), "provider").await;
    refused(acme(json!({"name": null})), "name").await;
    refused(acme(json!({"allowed_hosts": []})), "allowed_hosts").await;
    refused(acme(json!({"allowed_hosts": ["https://api.acme.example"]})), "allowed_hosts[0]").await;
    refused(acme(json!({"environment": "sandbox"})), "environment").await;
    refused(acme(json!({"custom": {}})), "custom.authorize_url").await;
    let urls = |token: &str| json!({"custom": {"authorize_url": "https://id.acme.example/a", "token_url": token}});
    refused(acme(urls("http://id.acme.example/token")), "custom.token_url").await;
    refused(acme(urls("https://id.acme.example/token#x")), "custom.token_url").await;
    refused(acme(urls("id.acme.example/token")), "custom.token_url").await;
    // Plain http is for what the operator of the server named.
    create(&server, &world, acme(urls("http://127.0.0.1:9001/token"))).await.ok(201);
    refused(merged(google(), json!({"environment": "moon"})), "environment").await;
    refused(merged(google(), json!({"scopes": ["a b"]})), "scopes[0]").await;
    refused(merged(google(), json!({"client_id": ""})), "client_id").await;
    refused(merged(google(), json!({"client_secret": "canary\n"})), "client_secret").await;
    refused(merged(google(), json!({"client_secret": ""})), "client_secret").await;
    for malformed in [json!({"custom": []}), json!({"custom": {"colour": "red"}}), json!({"secret": "canary"})] {
        create(&server, &world, merged(google(), malformed)).await.refused(Code::InvalidRequest);
    }
    create(&server, &world, google()).await.ok(201);
    let custom = json!({"custom": {"authorize_url": "https://a.example/", "token_url": "https://a.example/t"}});
    update(&server, &world, "google", custom).await.refused(Code::InvalidValue);
    update(&server, &world, "acme", json!({"environment": "sandbox"})).await.refused(Code::InvalidValue);
    update(&server, &world, "acme", json!({"allowed_hosts": []})).await.refused(Code::InvalidValue);
    assert_eq!(server.told(&world, "provider.created").await.len(), 2);
    assert!(server.told(&world, "provider.updated").await.is_empty());
}

async fn bounds_hold_at_them_and_one_past(server: Server) {
    let world = server.world().await;
    let long = |chars: usize| "c".repeat(chars);
    let scopes = |count: usize, chars: usize| vec![long(chars); count];
    let hosts = |count: usize| (0..count).map(|n| format!("h{n}.example.com")).collect::<Vec<_>>();
    create(&server, &world, google()).await.ok(201);
    for (at, past) in [
        (
            json!({"client_id": long(limits::CLIENT_CHARS_MAX)}),
            json!({"client_id": long(limits::CLIENT_CHARS_MAX + 1)}),
        ),
        (
            json!({"client_secret": long(limits::CLIENT_CHARS_MAX)}),
            json!({"client_secret": long(limits::CLIENT_CHARS_MAX + 1)}),
        ),
        (
            json!({"scopes": scopes(limits::OAUTH_SCOPES_MAX, limits::OAUTH_SCOPE_CHARS_MAX)}),
            json!({"scopes": scopes(limits::OAUTH_SCOPES_MAX + 1, 1)}),
        ),
        (json!({"scopes": ["a"]}), json!({"scopes": scopes(1, limits::OAUTH_SCOPE_CHARS_MAX + 1)})),
        (json!({"name": long(limits::NAME_CHARS_MAX)}), json!({"name": long(limits::NAME_CHARS_MAX + 1)})),
        (
            json!({"allowed_hosts": hosts(limits::DESTINATION_RULES_MAX)}),
            json!({"allowed_hosts": hosts(limits::DESTINATION_RULES_MAX + 1)}),
        ),
    ] {
        update(&server, &world, "google", at).await.ok(200);
        update(&server, &world, "google", past).await.refused(Code::InvalidValue);
    }
    for n in 1..limits::PROVIDERS_MAX {
        create(&server, &world, acme(json!({"provider": format!("acme-{n}")}))).await.ok(201);
    }
    create(&server, &world, acme(json!({"provider": "one-more"}))).await.refused(Code::TooMany);
    delete(&server, &world, "acme-1").await.ok(200);
    create(&server, &world, acme(json!({"provider": "one-more"}))).await.ok(201);
}

async fn another_installation_has_its_own_urls_and_hosts(server: Server) {
    let world = server.world().await;
    let brex = json!({"provider": "brex", "client_id": "c", "client_secret": CLIENT_SECRET, "environment": "sandbox"});
    let made = create(&server, &world, brex).await.ok(201);
    assert_eq!(made["environment"], "sandbox");
    let refused = update(&server, &world, "brex", json!({"environment": "moon"})).await.refused(Code::InvalidValue);
    assert!(text(&refused, "message").contains("sandbox"), "{refused}");
    // The sandbox's secret is not the other installation's business.
    update(&server, &world, "brex", json!({"environment": ""})).await.refused(Code::InvalidValue);
    let usual = update(&server, &world, "brex", json!({"environment": "", "client_secret": "canary-2"})).await.ok(200);
    assert_eq!(usual["environment"], Value::Null);
    assert_ne!(usual["effective_hosts"], made["effective_hosts"]);
}

async fn a_field_stands_in_the_urls_and_leads_to_no_other_server(server: Server) {
    let world = server.world().await;
    let of = |id: &str, fields: Value| json!({"provider": id, "client_id": "c", "client_secret": CLIENT_SECRET, "fields": fields});
    let refused = async |body: Value, field: &str| {
        let refused = create(&server, &world, body).await.refused(Code::InvalidValue);
        assert_eq!(refused["details"]["field"], field, "{refused}");
        refused
    };
    // Missing, unknown, and what would lead elsewhere.
    let missing = refused(of("ebay", json!({})), "fields.ru_name").await;
    assert!(text(&missing, "message").contains("User Tokens") && text(&missing, "hint").contains("--field ru_name="));
    refused(of("google", json!({"tenant": "a"})), "fields.tenant").await;
    refused(acme(json!({"fields": {"tenant": "a"}})), "fields").await;
    for hostile in
        ["evil.example/", "evil.example#", "evil.example?", "me@evil.example", "..", "", "a b", "a\n", "\u{e4}"]
    {
        refused(of("salesforce", json!({"domain": hostile})), "fields.domain").await;
    }
    for hostile in ["..", "a b", "a\n", ""] {
        refused(of("rippling", json!({"app_name": hostile})), "fields.app_name").await;
    }
    create(&server, &world, of("salesforce", json!({"domain": 1}))).await.refused(Code::InvalidRequest);
    assert!(server.told(&world, "provider.created").await.is_empty());
    // At the bound, and one past it.
    let long = |chars: usize| json!({"app_name": "n".repeat(chars)});
    refused(of("rippling", long(limits::PROVIDER_FIELD_CHARS_MAX + 1)), "fields.app_name").await;
    create(&server, &world, of("rippling", long(limits::PROVIDER_FIELD_CHARS_MAX))).await.ok(201);

    let made = create(&server, &world, of("salesforce", json!({"domain": "acme.my"}))).await.ok(201);
    assert_eq!(made["fields"], json!({"domain": "acme.my"}));
    assert_eq!(server.told(&world, "provider.created").await.len(), 2);
    let token_url = async || {
        let app = AppId::parse(&world.app).unwrap();
        let find = move |tx: &mut Tx<'_>| providers::find(tx, app, "salesforce");
        server.store().read(find).await.unwrap().unwrap().facts.token.url.clone()
    };
    assert_eq!(token_url().await, "https://acme.my.salesforce.com/services/oauth2/token");
    // The kept secret was given for that server.
    let other = json!({"fields": {"domain": "other.my"}});
    for elsewhere in [&other, &json!({"fields": {}})] {
        let refused = update(&server, &world, "salesforce", elsewhere.clone()).await.refused(Code::InvalidValue);
        assert_eq!(refused["details"]["field"], "client_secret");
    }
    update(&server, &world, "salesforce", json!({"fields": {"domain": "a/b"}})).await.refused(Code::InvalidValue);
    update(&server, &world, "salesforce", json!({"scopes": ["api"]})).await.ok(200);
    assert_eq!(show(&server, &world, "salesforce").await.ok(200)["fields"], json!({"domain": "acme.my"}));
    let again = merged(other, json!({"client_secret": "canary-2"}));
    let changed = update(&server, &world, "salesforce", again).await.ok(200);
    assert_eq!(changed["fields"], json!({"domain": "other.my"}));
    assert_eq!(token_url().await, "https://other.my.salesforce.com/services/oauth2/token");
    // With accounts it stays where it is, whatever is given.
    connect(&server, &world, &changed).await;
    let usual = json!({"fields": {}, "client_secret": "canary-3"});
    update(&server, &world, "salesforce", usual).await.refused(Code::InUse);
    assert_eq!(token_url().await, "https://other.my.salesforce.com/services/oauth2/token");

    // A tenant is a path of the same server.
    create(&server, &world, of("microsoft", json!({}))).await.ok(201);
    let tenant = update(&server, &world, "microsoft", json!({"fields": {"tenant": "contoso.example"}})).await.ok(200);
    assert_eq!(tenant["fields"], json!({"tenant": "contoso.example"}));
    let usual = update(&server, &world, "microsoft", json!({"fields": {}})).await.ok(200);
    assert_eq!(usual["fields"], json!({}));
    create(&server, &world, acme(json!({}))).await.ok(201);
    update(&server, &world, "acme", json!({"fields": {"tenant": "a"}})).await.refused(Code::InvalidValue);
}

async fn another_kind_of_tokens_is_for_new_accounts_alone(server: Server) {
    let world = server.world().await;
    let slack = create(&server, &world, json!({"provider": "slack", "client_id": "c"})).await.ok(201);
    update(&server, &world, "slack", json!({"environment": "user"})).await.ok(200);
    connect(&server, &world, &slack).await;
    let refused = update(&server, &world, "slack", json!({"environment": ""})).await.refused(Code::InUse);
    assert!(text(&refused, "message").contains("another kind"), "{refused}");
    assert_eq!(show(&server, &world, "slack").await.ok(200)["environment"], "user");
}

/// Answers every request as it is told to, and counts them.
#[derive(Clone)]
struct Issuer {
    port: u16,
    answer: Arc<Mutex<String>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self { port: listener.local_addr().unwrap().port(), answer: Arc::default(), seen: Arc::default() };
        let shared = issuer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                shared.seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                let answer = shared.answer.lock().unwrap().clone();
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        issuer
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn answers(&self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\n\r\n{body}");
        *self.answer.lock().unwrap() = answer;
    }

    /// Its discovery document, changed by `more`.
    fn says(&self, more: Value) {
        let url = self.url();
        let document = json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "userinfo_endpoint": format!("{url}/me"),
            "revocation_endpoint": format!("{url}/revoke"),
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "jwks_uri": format!("{url}/keys"),
        });
        self.answers(200, "", &merged(document, more).to_string());
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn reached_by(&self, server: &Server) -> Server {
        let allow = OutboundAllow::parse(&[format!("127.0.0.1:{}", self.port)]).unwrap();
        server.another("reaching", |settings| settings.outbound = allow).await
    }

    fn acme(&self, more: Value) -> Value {
        merged(acme(json!({"custom": {"issuer": self.url()}})), more)
    }
}

async fn an_issuer_is_asked_once_and_its_answer_kept(server: Server) {
    let issuer = Issuer::start().await;
    let reaching = issuer.reached_by(&server).await;
    let world = server.world().await;
    issuer.says(json!({}));
    let made = create(&reaching, &world, issuer.acme(json!({"client_secret": CLIENT_SECRET}))).await.ok(201);
    let url = issuer.url();
    let completed = json!({
        "issuer": url, "authorize_url": format!("{url}/authorize"), "token_url": format!("{url}/token"),
        "userinfo_url": format!("{url}/me"), "revoke_url": format!("{url}/revoke"), "client_auth": "post",
    });
    assert_eq!(made["custom"], completed);
    assert_eq!((&made["effective_scopes"], &made["verified"]), (&json!(["openid"]), &json!(false)));
    assert_eq!(made["effective_hosts"], json!(["api.acme.example"]));
    let asked = issuer.seen.lock().unwrap()[0].clone();
    assert!(asked.starts_with("GET /.well-known/openid-configuration HTTP/1.1\r\n"), "{asked}");
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
    // What it says from now on changes nothing, nor does a change that leaves it out or gives it all.
    issuer.says(json!({"token_endpoint": "https://evil.example/token"}));
    assert_eq!(show(&reaching, &world, "acme").await.ok(200)["custom"], completed);
    update(&reaching, &world, "acme", json!({"name": "Acme 2"})).await.ok(200);
    update(&reaching, &world, "acme", json!({"custom": completed})).await.ok(200);
    assert_eq!(issuer.seen(), 1);
    // The issuer alone asks it again; what is said counts more than what it says.
    let again =
        json!({"custom": {"issuer": url, "token_url": format!("{url}/v2/token"), "scopes": ["openid", "email"]}});
    let changed = update(&reaching, &world, "acme", again).await.ok(200);
    assert_eq!((&changed["custom"]["token_url"], issuer.seen()), (&json!(format!("{url}/v2/token")), 2));
    assert_eq!(changed["effective_scopes"], json!(["openid", "email"]));
}

async fn an_issuer_that_cannot_be_trusted_is_refused(server: Server) {
    let issuer = Issuer::start().await;
    let reaching = issuer.reached_by(&server).await;
    let world = server.world().await;
    let refused = async |server: &Server, body: Value, field: &str, why: &str| {
        let refused = create(server, &world, body).await.refused(Code::InvalidValue);
        assert_eq!(refused["details"]["field"], field, "{refused}");
        assert!(text(&refused, "message").contains(why), "{why}: {refused}");
    };
    issuer.says(json!({}));
    // Without leave, nothing of this machine is asked.
    refused(&server, issuer.acme(json!({})), "custom.issuer", "outbound.allow").await;
    let https = json!({"custom": {"issuer": format!("https://127.0.0.1:{}", issuer.port)}});
    refused(&server, acme(https), "custom.issuer", "outbound.allow").await;
    for no_url in ["acme", "ftp://127.0.0.1", "https://user@127.0.0.1"] {
        refused(&reaching, acme(json!({"custom": {"issuer": no_url}})), "custom.issuer", "is no").await;
    }
    assert_eq!(issuer.seen(), 0);
    let ask = |why| refused(&reaching, issuer.acme(json!({})), "custom.issuer", why);
    issuer.says(json!({"issuer": format!("{}/", issuer.url())}));
    ask("calls itself otherwise").await;
    issuer.answers(302, &format!("location: {}/canary\r\n", issuer.url()), "canary");
    ask("a redirect").await;
    issuer.answers(404, "", "canary");
    ask("it answers 404").await;
    issuer.answers(200, "", "<html>canary");
    ask("can be read").await;
    issuer.answers(200, "content-type: application/json\r\n", "[\"canary\"]");
    ask("can be read").await;
    issuer.says(json!({"padding": "x".repeat(limits::DISCOVERY_BYTES_MAX)}));
    ask("256 KiB").await;
    "canary".clone_into(&mut issuer.answer.lock().unwrap());
    ask("no HTTP").await;
    assert_eq!(issuer.seen(), 7, "no redirect was followed, nothing was asked twice");
    // What the document says is held against the same rules as what an operator says.
    issuer.says(json!({"token_endpoint": "http://192.0.2.1/token"}));
    refused(&reaching, issuer.acme(json!({})), "custom.token_url", "must be https").await;
    issuer.says(json!({"token_endpoint": null}));
    refused(&reaching, issuer.acme(json!({})), "custom.token_url", "is missing").await;
    let long = format!("{}/{}", issuer.url(), "a".repeat(limits::CUSTOM_URL_CHARS_MAX));
    issuer.says(json!({"userinfo_endpoint": long}));
    refused(&reaching, issuer.acme(json!({})), "custom.userinfo_url", "at most").await;
    assert!(server.told(&world, "provider.created").await.is_empty());
    // As large as it may be.
    issuer.says(json!({"padding": ""}));
    let empty = issuer.answer.lock().unwrap().split_once("\r\n\r\n").unwrap().1.len();
    issuer.says(json!({"padding": "x".repeat(limits::DISCOVERY_BYTES_MAX - empty)}));
    create(&reaching, &world, issuer.acme(json!({}))).await.ok(201);
}

async fn the_same_creation_again_asks_no_issuer(server: Server) {
    let issuer = Issuer::start().await;
    let reaching = issuer.reached_by(&server).await;
    let world = server.world().await;
    issuer.says(json!({}));
    let send = async || {
        let body = issuer.acme(json!({"client_secret": CLIENT_SECRET})).to_string();
        let raw = api_request(&server.pat, "POST", &world.path("providers"), body).set("idempotency-key", "acme-1");
        reaching.send(raw).await
    };
    let first = send().await;
    first.ok(201);
    issuer.answers(503, "", "");
    let again = send().await;
    assert_eq!((again.ok(201), again.header("idempotency-replayed")), (first.ok(201), "true"));
    assert_eq!((again.header("etag"), issuer.seen()), (first.header("etag"), 1));
}
