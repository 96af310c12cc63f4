//! `managed-secrets templates`, and what is made from one.

use super::*;

fn template() -> Value {
    let evidence = json!({"level": "vendor", "source": "https://example.com/src", "checked": "2026-11-23"});
    json!({
        "id": "shopify", "name": "Shopify", "category": "E-Commerce", "credential_type": "header_key",
        "value": "Admin API access token",
        "fields": [
            {"name": "store", "label": "Store subdomain", "find": "the part before .myshopify.com", "required": true,
                "secret": false, "default": null, "choices": []},
            {"name": "region", "label": "Region", "find": "in the settings", "required": false, "secret": false,
                "default": "us", "choices": ["eu", "us"]},
        ],
        "injection_header": "X-Shopify-Access-Token", "injection_format": "{token}",
        "injections": [{"target": "header", "key": "X-Region", "value_source": "additional_credentials.region"}],
        "allowed_hosts": ["{store}.myshopify.com"], "probe": "GET https://{store}.myshopify.com/shop.json",
        "no_probe": null, "notes": null, "docs_url": "https://shopify.dev/docs/api/admin", "verified": true,
        "evidence": {"injection": evidence, "hosts": evidence, "probe": null},
    })
}

#[tokio::test]
async fn the_catalogue_is_listed_without_an_app() {
    let server = Server::start(&[(200, page(&[template()]))]).await;
    let env = [("GRANTD_PAT", PAT)];
    let list = ["managed-secrets", "templates", "--search", "shop"];
    let done = server.run_with(&list, "", &env).await;
    assert_eq!((done.exit, &done.json()["items"][0]["id"]), (Exit::Ok, &json!("shopify")), "{}", done.err);
    assert_eq!(server.seen()[0].target, "/api/v1/secret-templates?search=shop");
    let done = server.run_with(&[&list[..], &["--output", "table"]].concat(), "", &env).await;
    assert_eq!(
        done.out,
        "ID       NAME     CATEGORY    TYPE        VERIFIED  DOCS\n\
         shopify  Shopify  E-Commerce  header_key  yes       https://shopify.dev/docs/api/admin\n"
    );
    let done =
        server.run_with(&[&list[..], &["--output", "jsonl", "--fields", "id,verified"]].concat(), "", &env).await;
    assert_eq!(done.out, "{\"id\":\"shopify\",\"verified\":true}\n");
}

#[tokio::test]
async fn one_template_is_told_in_lines() {
    let server = Server::start(&[(200, template())]).await;
    let env = [("GRANTD_PAT", PAT)];
    let show = ["managed-secrets", "templates", "shopify"];
    let done = server.run_with(&[&show[..], &["--output", "table"]].concat(), "", &env).await;
    assert_eq!(server.seen()[0].target, "/api/v1/secret-templates/shopify");
    for line in [
        "field store      required: Store subdomain, the part before .myshopify.com",
        "field region     default us: Region, in the settings (eu, us)",
        "sent_as          X-Shopify-Access-Token: {token}",
        "also X-Region    additional_credentials.region",
        "probe            GET https://{store}.myshopify.com/shop.json",
        "hosts facts      vendor, 2026-11-23, https://example.com/src",
    ] {
        assert!(done.out.lines().any(|l| l == line), "{line}\n{}", done.out);
    }
    assert_eq!(server.run_with(&show, "", &env).await.json(), template());
    let done = server.run_with(&[&show[..], &["--search", "x"]].concat(), "", &env).await;
    assert_eq!(done.exit, Exit::Usage);
}

#[tokio::test]
async fn a_secret_from_a_template_needs_no_hosts_on_the_command_line() {
    let refused = json!({
        "error": "invalid_value", "message": "`fields.store`: is missing: Store subdomain, in the address",
        "hint": "grantd managed-secrets create … --template shopify --field store=…", "details": {"field": "fields.store"},
    });
    let server = Server::start(&[(201, secret()), (422, refused)]).await;
    let create = ["managed-secrets", "create", "--name", "Shop", "--template", "shopify", "--value", "-"];
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP)];
    let done = server.run_with(&[&create[..], &["--field", "store=acme"]].concat(), "v", &env).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    assert_eq!(
        server.seen()[0].body,
        json!({"name": "Shop", "template": "shopify", "value": "v", "fields": {"store": "acme"}})
    );
    let done = server.run_with(&create, "v", &env).await;
    assert_eq!(done.exit, Exit::Error);
    assert!(done.err.starts_with("error: --field store: is missing: Store subdomain, in the address"), "{}", done.err);
    assert!(done.err.contains("--template shopify --field store=…"), "{}", done.err);
}

#[tokio::test]
async fn a_test_says_in_words_whether_the_credential_works_and_exits_accordingly() {
    for (works, result, exit) in [
        (json!(true), "works", Exit::Ok),
        (json!(false), "refused", Exit::Error),
        (Value::Null, "unclear", Exit::Error),
    ] {
        let answer = json!({
            "slug": "stripe", "template": "stripe", "works": works, "result": result, "message": "In words.", "method": "GET",
            "host": "api.stripe.com", "status": 200, "duration_ms": 12, "event_id": ID,
        });
        let server = Server::start(&[(200, answer.clone())]).await;
        let done = server.run(&["managed-secrets", "test", "stripe"]).await;
        assert_eq!((done.exit, done.json(), done.err.as_str()), (exit, answer, ""));
        let seen = &server.seen()[0];
        assert_eq!(
            (seen.method.as_str(), &*seen.target),
            ("POST", &*format!("/api/v1/apps/{APP}/managed-secrets/stripe/test"))
        );
        let done = server.run(&["managed-secrets", "test", "stripe", "--output", "table"]).await;
        assert!(done.out.contains("message      In words."), "{}", done.out);
    }
    let refused = json!({"error": "blocked_destination", "message": "No.", "hint": "Do this."});
    let done = Server::start(&[(422, refused)]).await.run(&["managed-secrets", "test", "stripe"]).await;
    assert_eq!((done.exit, done.err.as_str()), (Exit::Error, "error: No. Do this.\n"));
}
