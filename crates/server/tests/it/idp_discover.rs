//! Looking at an issuer before it is registered, and reading it anew afterwards.

use grantd_store::operators::Role;
use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::{merged, text};
use crate::harness::{Answer, Server, World};
use crate::portal::{Browser, is_sound};
use crate::sign_in::{Idp, started};

in_memory! {
    an_issuer_is_looked_at_and_nothing_is_registered,
    an_issuer_that_would_not_do_is_told_of_in_words,
    a_page_of_the_portal_says_what_was_found,
}

on_kept_engines! {
    an_issuer_is_read_anew_and_a_kept_secret_goes_to_no_other_server,
    a_client_whose_tokens_would_not_count_is_refused,
}

const DOCUMENT: &str = "/.well-known/openid-configuration";

/// What the issuer says of itself from now on, changed by `more`.
fn says(idp: &Idp, more: Value) {
    let url = idp.url();
    let document = json!({
        "issuer": url, "jwks_uri": format!("{url}/jwks"), "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"), "userinfo_endpoint": format!("{url}/userinfo"),
        "id_token_signing_alg_values_supported": ["ES256"], "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    idp.issuer.publish(DOCUMENT, merged(document, more).to_string());
}

async fn reaching(server: &Server) -> (Server, World, Idp) {
    let idp = started().await;
    let server = idp.issuer.reached_by(server, "looks").await;
    let world = server.world().await;
    (server, world, idp)
}

async fn look(server: &Server, world: &World, body: Value) -> Answer {
    server.api("POST", &world.path("identity-providers/discover"), body).await
}

/// The finding of this id.
fn of<'f>(found: &'f Value, id: &str) -> &'f Value {
    let findings = found["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["id"] == id).unwrap_or_else(|| panic!("no {id} in {found}"))
}

async fn an_issuer_is_looked_at_and_nothing_is_registered(server: Server) {
    let (server, world, idp) = reaching(&server).await;
    says(&idp, json!({}));
    let found = look(&server, &world, json!({"issuer": idp.url()})).await.ok(200);
    assert_eq!((&found["ok"], &found["preset"], &found["keys"]), (&json!(true), &json!("oidc"), &json!(1)), "{found}");
    assert_eq!(found["token_url"], format!("{}/token", idp.url()));
    for id in ["preset", "issuer", "keys", "sign_in", "audience"] {
        assert_eq!(of(&found, id)["level"], "ok", "{found}");
    }
    assert!(text(of(&found, "preset"), "what").contains("https://openid.net/"));
    let list = world.path("identity-providers");
    assert_eq!(server.api("GET", &list, Value::Null).await.ok(200)["total"], 0);
    assert!(server.told(&world, "identity_provider.created").await.is_empty());
    // One that is there is told of.
    let create = json!({"issuer": idp.url(), "audiences": ["app"], "name": "Halden"});
    server.api("POST", &list, create).await.ok(201);
    let found = look(&server, &world, json!({"issuer": idp.url()})).await.ok(200);
    assert!(text(of(&found, "registered"), "what").contains("as Halden"), "{found}");
}

async fn a_page_of_the_portal_says_what_was_found(server: Server) {
    let (server, world, idp) = reaching(&server).await;
    let browser = Browser::of(&server, Role::Developer).await;
    let path = format!("/portal/apps/{}/identity", world.app);
    let create = format!("{path}/new/oidc");
    let looked = async |at: &str, form: &[(&str, &str)]| {
        let answer = browser.post(at, &[&[("look", "1")], form].concat()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        is_sound(at, &answer.text);
        answer.text
    };
    // What was typed stays, but for the secret; the page says what would not work, in words of its own form.
    let url = idp.url();
    let typed = [("setup", "yes"), ("name", "Staff"), ("issuer", &*url), ("client_secret", "typed-secret")];
    let page = looked(&create, &typed).await;
    assert!(page.contains("its tokens would not count") && page.contains("it answers 404"), "{page}");
    assert!(page.contains("value=\"Staff\"") && !page.contains("typed-secret") && !page.contains("--jwks-url"));
    says(&idp, json!({"authorization_endpoint": null}));
    let page = looked(&create, &typed).await;
    assert!(
        page.contains("Nothing was found that would keep") && page.contains("names no authorize endpoint"),
        "{page}"
    );
    assert_eq!(server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200)["total"], 0);
    let refused = browser.post(&create, &[("look", "1"), ("issuer", "http://x")]).await;
    assert!(refused.status == 422 && refused.text.contains("issuer-error"), "{}", refused.text);
    // One that is registered: its page does not say so once more.
    let body = json!({"issuer": idp.url(), "audiences": ["app"], "name": "Halden"});
    let made = server.api("POST", &world.path("identity-providers"), body).await.ok(201);
    let here = format!("{path}/{}", text(&made, "id"));
    let page = looked(&here, &[]).await;
    assert!(page.contains("What the issuer says") && !page.contains("has this issuer already"), "{page}");
    assert!(!browser.page(&here).await.contains("What the issuer says"));
    assert!(looked(&create, &typed).await.contains("has this issuer already, as Halden"));
    let changed = server.told(&world, "identity_provider.updated").await;
    assert!(changed.is_empty(), "{changed:?}");
}

async fn an_issuer_that_would_not_do_is_told_of_in_words(server: Server) {
    let (reaching, world, idp) = reaching(&server).await;
    let failed = async |issuer: String, id: &str, part: &str| {
        let found = look(&reaching, &world, json!({"issuer": issuer})).await.ok(200);
        assert_eq!(found["ok"], false, "{found}");
        let finding = of(&found, id);
        assert!(finding["level"] == "failure" && text(finding, "what").contains(part), "{finding}");
        assert!(finding["fix"].is_string(), "{finding}");
    };
    failed(idp.url(), "document", "it answers 404").await;
    idp.issuer.publish(DOCUMENT, "no json".to_owned());
    failed(idp.url(), "document", "no discovery document that can be read").await;
    says(&idp, json!({}));
    // The slash at the end counts: the document names it without.
    failed(format!("{}/", idp.url()), "issuer", "otherwise").await;
    says(&idp, json!({"issuer": "https://id.acme.example"}));
    failed(idp.url(), "issuer", "calls itself https://id.acme.example in").await;
    for (more, id, part) in [
        (json!({"jwks_uri": null}), "keys", "names no keys"),
        (json!({"jwks_uri": format!("{}/none", idp.url())}), "keys", "answers 404"),
        (json!({"jwks_uri": "http://id.acme.example/keys"}), "keys", "not https"),
        (json!({"jwks_uri": "https://127.0.0.1:1/keys"}), "keys", "cannot be had"),
        (json!({"id_token_signing_alg_values_supported": ["HS256"]}), "algorithms", "no way"),
        (json!({"token_endpoint": "http://id.acme.example/token"}), "sign_in", "token endpoint is not https"),
        (json!({"authorization_endpoint": "http://id.acme.example/a"}), "sign_in", "authorize endpoint is not https"),
    ] {
        says(&idp, more);
        failed(idp.url(), id, part).await;
    }
    // Nobody is called where the address guard lets nothing go, and what is no issuer is refused as when it is registered.
    says(&idp, json!({}));
    let before = idp.issuer.calls(DOCUMENT).len();
    failed("https://127.0.0.1:1".to_owned(), "document", "can be fetched").await;
    let here = look(&server, &world, json!({"issuer": idp.url()})).await;
    here.names(Code::InvalidValue, "issuer");
    look(&reaching, &world, json!({"issuer": "acme"})).await.names(Code::InvalidValue, "issuer");
    look(&reaching, &world, json!({"issuer": idp.url(), "preset": "acme"})).await.names(Code::InvalidValue, "preset");
    assert_eq!(idp.issuer.calls(DOCUMENT).len(), before);
}

async fn an_issuer_is_read_anew_and_a_kept_secret_goes_to_no_other_server(server: Server) {
    let (server, world, idp) = reaching(&server).await;
    let list = world.path("identity-providers");
    let create = json!({
        "issuer": idp.url(), "audiences": ["app"], "jwks_url": format!("{}/jwks", idp.url()), "client_id": "app",
        "client_secret": "canary-of-a-client",
    });
    let made = server.api("POST", &list, create).await.ok(201);
    assert_eq!(made["token_url"], Value::Null);
    let path = format!("{list}/{}", text(&made, "id"));
    let update = async |body: Value| server.api("PATCH", &path, body).await;
    let again = json!({"rediscover": true});
    // It says nothing of itself: what is registered stays.
    update(again.clone()).await.names(Code::InvalidValue, "issuer");
    says(&idp, json!({}));
    let both = json!({"rediscover": true, "jwks_url": "https://id.acme.example/keys"});
    update(both).await.names(Code::InvalidValue, "jwks_url");
    // Nobody said that the secret is for the server that it names now.
    update(again.clone()).await.names(Code::InvalidValue, "client_secret");
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200)["token_url"], Value::Null);
    let given = json!({"rediscover": true, "client_secret": "canary-of-a-client"});
    let found = update(given).await.ok(200);
    assert_eq!((&found["token_url"], &found["version"]), (&json!(format!("{}/token", idp.url())), &json!(2)));
    let told = server.told(&world, "identity_provider.updated").await;
    assert_eq!(told[0]["changed"]["token_url"], json!([null, format!("{}/token", idp.url())]));
    // Elsewhere on the same server it is kept; at another one it is not.
    says(&idp, json!({"token_endpoint": format!("{}/v2/token", idp.url())}));
    assert_eq!(update(again.clone()).await.ok(200)["token_url"], format!("{}/v2/token", idp.url()));
    // What could never be called is registered in no way.
    for (field, said) in [("authorize_url", "authorization_endpoint"), ("token_url", "token_endpoint")] {
        says(&idp, json!({said: "http://id.acme.example/here"}));
        let refused = update(again.clone()).await;
        refused.names(Code::InvalidValue, field);
        assert!(text(&refused.json(), "hint").contains("jwks_url"), "{}", refused.text);
        let create = json!({"issuer": idp.url(), "audiences": ["app"]});
        server.api("POST", &list, create).await.names(Code::InvalidValue, field);
    }
    says(&idp, json!({"token_endpoint": "https://evil.example/token"}));
    update(again.clone()).await.names(Code::InvalidValue, "client_secret");
    // Without a secret there is none to give away.
    update(json!({"client_secret": ""})).await.ok(200);
    assert_eq!(update(again).await.ok(200)["token_url"], "https://evil.example/token");
}

async fn a_client_whose_tokens_would_not_count_is_refused(server: Server) {
    let world = server.world().await;
    let list = world.path("identity-providers");
    let create = |issuer: &str, more: Value| {
        let body = json!({"issuer": issuer, "jwks_url": "https://id.example.com/keys", "audiences": ["api"], "client_id": "c"});
        server.api("POST", &list, merged(body, more))
    };
    let issuer = "https://id.example.com";
    let refused = create(issuer, json!({})).await;
    refused.names(Code::InvalidValue, "client_id");
    assert!(text(&refused.json(), "hint").contains("one of the audiences"), "{}", refused.text);
    // Where another claim names the audience, `aud` is not held against them.
    create("https://other.example.com", json!({"claims": {"audience": "client_id"}})).await.ok(201);
    let made = create(issuer, json!({"audiences": ["api", "c"]})).await.ok(201);
    let path = format!("{list}/{}", text(&made, "id"));
    let update = async |body: Value| server.api("PATCH", &path, body).await;
    for change in [json!({"client_id": "d"}), json!({"audiences": ["api"]})] {
        update(change).await.names(Code::InvalidValue, "client_id");
    }
    update(json!({"client_id": "d", "audiences": ["api", "d"]})).await.ok(200);
    // One that was stored before can be changed elsewhere, and switched off above all.
    server.database.behind_its_back("UPDATE identity_providers SET client_id = 'e' WHERE client_id = 'd'").await;
    update(json!({"state": "inactive", "name": "Staff"})).await.ok(200);
    update(json!({"client_id": "f"})).await.names(Code::InvalidValue, "client_id");
}
