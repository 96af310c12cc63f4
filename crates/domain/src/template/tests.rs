use std::collections::BTreeSet;
use std::path::Path;

use grantd_wire::api::SecretCreate;
use grantd_wire::{Code, Error};

use super::catalog::FILES;
use super::*;
use crate::destination::{OutboundAllow, Rules, Target, allow};
use crate::inject;

/// The hosted product's templates.
const THEIRS: &str = "assemblyai deepgram elevenlabs huggingface milvus pinecone qdrant replicate weaviate aws brevo discord \
    resend sendgrid twilio whatsapp-business astra clickhouse couchdb druid influxdb neo4j neon-sql neon snowflake turso upstash \
    browserbase clerk cloudflare cursor github gitlab posthog shortcut supabase terraform vercel workos recharge shopify braze \
    klaviyo axiom datadog grafana incident-io pagerduty rootly sentry stripe airtable coda granola algolia elasticsearch exa \
    firecrawl meilisearch opensearch tavily typesense";
/// Ours.
const OURS: &str = "openai anthropic mistral google-ai perplexity notion linear slack-bot hubspot-private-app";

fn ask(value: &str, fields: &[(&str, &str)]) -> SecretCreate {
    SecretCreate {
        name: "Test".to_owned(),
        template: None,
        credential_type: None,
        value: value.to_owned(),
        fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        injection_header: None,
        injection_format: None,
        injections: Vec::new(),
        allowed_hosts: Vec::new(),
        allow_any_host: false,
    }
}

/// What an operator could give for a field.
fn sample(field: &Field) -> String {
    match (field.form, field.patterns.first()) {
        (Form::Host | Form::HostPort, Some(pattern)) => pattern.replace('*', "sample-1"),
        (Form::Host, None) => "sample.example.com".to_owned(),
        (Form::HostPort, None) => "https://sample.example.com:8443/".to_owned(),
        (Form::Choice, _) => field.choices.keys().next_back().unwrap().clone(),
        (Form::Label | Form::Name | Form::Text, _) => "Sample-1".to_owned(),
    }
}

fn sample_value(template: &Template) -> &'static str {
    match template.id.as_str() {
        "neon-sql" => "postgresql://user:p%40ss@ep-cool-1.us-east-2.aws.neon.tech/shop?sslmode=require",
        _ if template.credential_type == CredentialType::BasicAuth && template.field("username").is_none() => {
            "user:pass"
        }
        _ => "sample-value",
    }
}

fn filled(id: &str, value: &str, fields: &[(&str, &str)]) -> Result<SecretCreate, Error> {
    let mut ask = ask(value, fields);
    find(id).unwrap().fill(&mut ask).map(|()| ask)
}

#[track_caller]
fn refused(result: Result<SecretCreate, Error>, field: &str) -> Error {
    let Err(error) = result else { panic!("not refused") };
    assert_eq!((error.code, error.details["field"].as_str()), (Code::InvalidValue, Some(field)), "{}", error.message);
    error
}

#[test]
fn the_catalogue_holds_every_template_and_no_other() {
    let expected: BTreeSet<&str> = THEIRS.split_whitespace().chain(OURS.split_whitespace()).collect();
    assert_eq!((THEIRS.split_whitespace().count(), OURS.split_whitespace().count(), expected.len()), (62, 9, 71));
    let ids: Vec<&str> = FILES.iter().map(|(id, _)| *id).collect();
    assert!(ids.is_sorted());
    assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), expected);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/secrets");
    let files: BTreeSet<String> =
        std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, ids.iter().map(|id| format!("{id}.toml")).collect());
    for (template, id) in all().iter().zip(ids) {
        assert_eq!(template.id, id);
        assert!(std::ptr::eq(find(id).unwrap(), template));
    }
    assert!(find(CUSTOM).is_none() && find("").is_none() && find("Stripe").is_none());
}

#[test]
fn every_template_makes_a_secret_that_its_probe_may_be_sent_with() {
    for template in all() {
        for every_field in [false, true] {
            let given = template.fields.iter().filter(|field| every_field || field.required);
            let given = given.map(|field| (field.name.as_str(), sample(field))).collect::<Vec<_>>();
            let given: Vec<(&str, &str)> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut value = sample_value(template);
            if template.credential_type == CredentialType::BasicAuth && !every_field && template.id != "twilio" {
                value = "user:pass";
            }
            let mut ask = ask(value, &given);
            template.fill(&mut ask).unwrap_or_else(|e| panic!("{}: {}", template.id, e.message));
            let plan = inject::plan(&ask).unwrap_or_else(|e| panic!("{}: {}", template.id, e.message));
            assert_eq!(plan.header, template.injection.header, "{}", template.id);
            let rules = Rules::parse_all(&ask.allowed_hosts).unwrap_or_else(|e| panic!("{}: {e}", template.id));
            assert!(!rules.0.is_empty(), "{}", template.id);
            let names: Vec<&str> = ask.fields.keys().map(String::as_str).collect();
            inject::check_signable(template.credential_type, &names, &rules.0, false).unwrap();
            let Some(probe) = &template.probe else { continue };
            let call = template.call(&ask.value, &ask.fields).unwrap_or_else(|e| panic!("{}: {e}", template.id));
            let target = Target::parse(&call.url).unwrap_or_else(|e| panic!("{}: {e}", template.id));
            allow(&target, &rules.0, false, &OutboundAllow::default()).unwrap_or_else(|e| panic!("{}: {e}", call.url));
            assert_eq!(call.wants_body, probe.expect.is_some());
            if let Some(body) = call.body.as_deref().filter(|body| body.starts_with(['{', '['])) {
                serde_json::from_str::<serde_json::Value>(body).unwrap();
            }
        }
    }
}

#[test]
fn no_template_is_as_wide_as_a_vendor_whose_hosts_belong_to_accounts() {
    for template in all() {
        for rule in template.hosts.allow.iter().filter(|rule| rule.contains('*')) {
            assert_eq!((template.id.as_str(), rule.as_str()), ("aws", "*.amazonaws.com"));
        }
    }
}

#[test]
fn hosts_are_pinned_to_the_account_the_fields_name() {
    for (id, fields, hosts) in [
        ("shopify", &[("store", "Acme-2")][..], &["acme-2.myshopify.com"][..]),
        ("braze", &[("instance_url", "https://rest.iad-01.braze.com/")], &["rest.iad-01.braze.com"]),
        ("datadog", &[("site", "datadoghq.eu"), ("application_key", "k")], &["api.datadoghq.eu"]),
        ("datadog", &[("application_key", "k")], &["api.datadoghq.com"]),
        ("gitlab", &[], &["gitlab.com"]),
        ("gitlab", &[("host", "git.example.com:8443")], &["git.example.com:8443"]),
        ("couchdb", &[("host", "http://10.0.0.1:5984")], &["10.0.0.1:5984"]),
        ("snowflake", &[("account", "acme-prod.eu-west-1")], &["acme-prod.eu-west-1.snowflakecomputing.com"]),
        ("pinecone", &[], &["api.pinecone.io"]),
        (
            "pinecone",
            &[("index_host", "shop-1a.svc.eu1.pinecone.io")],
            &["api.pinecone.io", "shop-1a.svc.eu1.pinecone.io"],
        ),
        ("turso", &[("host", "shop-acme.aws-eu-west-1.turso.io")], &["shop-acme.aws-eu-west-1.turso.io"]),
        ("elevenlabs", &[("region", "eu")], &["api.eu.residency.elevenlabs.io"]),
    ] {
        assert_eq!(filled(id, "user:value", fields).unwrap().allowed_hosts, hosts, "{id}");
    }
    let value = "postgresql://u:p@ep-cool-1.us-east-2.aws.neon.tech:5432/shop";
    let hosts = ["ep-cool-1.us-east-2.aws.neon.tech", "api.us-east-2.aws.neon.tech"];
    assert_eq!(filled("neon-sql", value, &[]).unwrap().allowed_hosts, hosts);
    assert_eq!(
        find("couchdb").unwrap().call("u:p", &ask("", &[("host", "http://10.0.0.1:5984")]).fields).unwrap().url,
        "http://10.0.0.1:5984/_session"
    );
}

#[test]
fn a_wrong_or_missing_field_is_named_and_says_where_to_find_it() {
    let missing = refused(filled("shopify", "v", &[]), "fields.store");
    assert!(
        missing.message.contains("is missing") && missing.message.contains(".myshopify.com"),
        "{}",
        missing.message
    );
    assert!(missing.hint.unwrap().contains("--template shopify --field store="));
    for (id, field, value) in [
        ("shopify", "store", "acme.myshopify.com"),
        ("shopify", "store", "-acme"),
        ("shopify", "store", ""),
        ("shopify", "store", "evil.example/"),
        ("shopify", "store", "evil.example#"),
        ("shopify", "store", "a@b"),
        ("snowflake", "account", "acme..x"),
        ("braze", "instance_url", "rest.evil.example"),
        ("braze", "instance_url", "rest.a.b.braze.com"),
        ("braze", "instance_url", "rest.iad-01.braze.com.evil.example"),
        ("braze", "instance_url", "http://rest.iad-01.braze.com"),
        ("braze", "instance_url", "rest.iad-01.braze.com:8443"),
        ("upstash", "endpoint", "*.upstash.io"),
        ("upstash", "endpoint", "a.b.upstash.io"),
        ("gitlab", "host", "git.example.com/path"),
        ("gitlab", "host", "*.example.com"),
        ("gitlab", "host", "git.example.com:0"),
        ("gitlab", "host", "user@git.example.com"),
        ("gitlab", "host", "{host}"),
        ("datadog", "site", "evil.example"),
        ("elevenlabs", "region", "EU"),
    ] {
        let error = refused(filled(id, "v", &[(field, value)]), &format!("fields.{field}"));
        assert!(error.message.contains("must be"), "{id} {field}: {}", error.message);
    }
    let unknown = refused(filled("shopify", "v", &[("store", "a"), ("stoer", "b")]), "fields.stoer");
    assert!(unknown.message.contains("it takes store"), "{}", unknown.message);
    let unknown = refused(filled("stripe", "v", &[("account", "b")]), "fields.account");
    assert!(unknown.message.contains("takes no fields"), "{}", unknown.message);
    for value in [
        "npg_x",
        "postgresql://",
        "postgresql://u:p@localhost/db",
        "https://u:p@a.neon.tech/",
        "postgresql://u:p@a%2eb.c/d",
    ] {
        let error = refused(filled("neon-sql", value, &[]), "value");
        assert!(!error.message.contains("npg_x"));
    }
}

#[test]
fn what_is_said_explicitly_stays() {
    let mut explicit = ask("v", &[("trace", "t")]);
    explicit.injection_header = Some("apikey".to_owned());
    explicit.injection_format = Some("{token}".to_owned());
    explicit.allowed_hosts = vec!["db.example.com".to_owned()];
    explicit.fields = ask("", &[]).fields;
    find("supabase").unwrap().fill(&mut explicit).unwrap();
    // The hosts are said, so the field that only fixes them need not be; and no header is sent twice.
    assert_eq!((explicit.allowed_hosts, explicit.injections.len()), (vec!["db.example.com".to_owned()], 0));
    assert_eq!(explicit.injection_header.as_deref(), Some("apikey"));

    let mut other_type = ask("key:", &[]);
    other_type.credential_type = Some(CredentialType::BasicAuth);
    find("cursor").unwrap().fill(&mut other_type).unwrap();
    assert_eq!(
        (&other_type.injection_format, &other_type.allowed_hosts[..]),
        (&None, &["api.cursor.com".to_owned()][..])
    );

    let mut further = ask("v", &[("org", "o")]);
    let source = format!("{}org", inject::FIELD_SOURCE);
    further.injections = vec![grantd_wire::sdk::Injection {
        target: InjectionTarget::Header,
        key: "X-Axiom-Org-Id".to_owned(),
        value_source: source,
    }];
    find("axiom").unwrap().fill(&mut further).unwrap();
    assert_eq!((further.injections.len(), further.fields["org"].as_str()), (1, "o"));
}

#[test]
fn defaults_may_name_other_fields() {
    let twilio = filled("twilio", "token", &[("account_sid", "AC1")]).unwrap();
    assert_eq!(twilio.fields["username"], "AC1");
    let call = find("twilio").unwrap().call("token", &twilio.fields).unwrap();
    assert_eq!(call.url, "https://api.twilio.com/2010-04-01/Accounts/AC1.json");
    let odd = filled("twilio", "token", &[("account_sid", "../A?#\u{e9}")]).unwrap();
    let call = find("twilio").unwrap().call("token", &odd.fields).unwrap();
    assert_eq!(call.url, "https://api.twilio.com/2010-04-01/Accounts/..%2FA%3F%23%C3%A9.json");
    let by_key = filled("twilio", "secret", &[("account_sid", "AC1"), ("username", "SK1")]).unwrap();
    assert_eq!(by_key.fields["username"], "SK1");
}

#[test]
fn a_rotation_keeps_the_hosts_it_was_pinned_to() {
    let shopify = find("shopify").unwrap();
    let old = filled("shopify", "v", &[("store", "acme")]).unwrap();
    let pinned = Rules::parse_all(&old.allowed_hosts).unwrap();
    let refill =
        |template: &Template, value: &str, fields: &[(&str, &str)], old: Option<&SecretCreate>, hosts: &Rules| {
            let mut fields = ask("", fields).fields;
            template
                .refill(value, &mut fields, old.map(|old| (old.value.as_str(), &old.fields)), hosts)
                .map(|()| fields)
        };
    assert_eq!(refill(shopify, "w", &[("store", "acme")], Some(&old), &pinned).unwrap()["store"], "acme");
    let error = refill(shopify, "w", &[("store", "other")], Some(&old), &pinned).unwrap_err();
    assert_eq!(error.details["field"], "fields.store");
    assert_eq!(refill(shopify, "w", &[], Some(&old), &pinned).unwrap()["store"], "acme", "it need not be said again");
    // Hosts the operator chose are not the field's to change, so they do not bind it.
    let chosen = Rules::parse_all(&["shop.example.com".to_owned()]).unwrap();
    refill(shopify, "w", &[("store", "other")], Some(&old), &chosen).unwrap();
    refill(shopify, "w", &[("store", "other")], None, &pinned).unwrap();

    let neon = find("neon-sql").unwrap();
    let old = filled("neon-sql", "postgresql://u:p@ep-1.eu.aws.neon.tech/d", &[]).unwrap();
    let pinned = Rules::parse_all(&old.allowed_hosts).unwrap();
    refill(neon, "postgresql://u:q@ep-1.eu.aws.neon.tech/d", &[], Some(&old), &pinned).unwrap();
    let error = refill(neon, "postgresql://u:q@ep-2.eu.aws.neon.tech/d", &[], Some(&old), &pinned).unwrap_err();
    assert_eq!(error.details["field"], "value");
    let aws = find("aws").unwrap();
    let error = refill(aws, "AKIA", &[], None, &pinned).unwrap_err();
    assert_eq!(error.details["field"], "fields.secret_key");
}

#[test]
fn an_answer_means_what_the_template_says() {
    let judge = |id: &str, status: u16, body: Option<&str>| {
        find(id).unwrap().judge(Seen { status, body: body.map(str::as_bytes) })
    };
    for (id, status, body, verdict) in [
        ("stripe", 200, None, Verdict::Works),
        ("stripe", 204, None, Verdict::Works),
        ("stripe", 401, None, Verdict::Refused),
        ("stripe", 403, None, Verdict::Unclear),
        ("stripe", 429, None, Verdict::RateLimited),
        ("stripe", 500, None, Verdict::VendorFailed),
        ("stripe", 503, None, Verdict::VendorFailed),
        ("stripe", 302, None, Verdict::Unexpected),
        ("stripe", 404, None, Verdict::Unexpected),
        ("clerk", 403, None, Verdict::Refused),
        ("resend", 401, None, Verdict::Unclear),
        ("google-ai", 400, None, Verdict::Refused),
        ("slack-bot", 200, Some("{\"ok\":true}"), Verdict::Works),
        ("slack-bot", 200, Some("{\"ok\":false,\"error\":\"invalid_auth\"}"), Verdict::Refused),
        ("slack-bot", 200, Some("{\"ok\":\"true\"}"), Verdict::Refused),
        ("slack-bot", 200, Some("<html>"), Verdict::Unexpected),
        ("slack-bot", 200, None, Verdict::Unexpected),
        ("couchdb", 200, Some("{\"userCtx\":{\"name\":\"admin\"}}"), Verdict::Works),
        ("couchdb", 200, Some("{\"userCtx\":{\"name\":null}}"), Verdict::Refused),
        ("linear", 200, Some("{\"data\":{\"viewer\":{\"id\":\"x\"}}}"), Verdict::Works),
        ("linear", 200, Some("{\"errors\":[]}"), Verdict::Refused),
        ("exa", 200, None, Verdict::Unexpected),
    ] {
        assert_eq!(judge(id, status, body), verdict, "{id} {status} {body:?}");
    }
    assert!(
        matches!(find("exa").unwrap().call("v", &BTreeMap::new()), Err(NoCall::NoProbe(why)) if why.contains("Exa"))
    );
    let missing = find("shopify").unwrap().call("v", &BTreeMap::new());
    assert_eq!(missing, Err(NoCall::MissingField("store".to_owned())));
}

#[test]
fn a_file_that_is_no_template_is_refused() {
    let good = FILES.iter().find(|(id, _)| *id == "shopify").unwrap().1;
    Template::parse(good).unwrap();
    for (from, to, wrong) in [
        ("id = \"shopify\"", "id = \"Shopify\"", "id"),
        ("id = \"shopify\"", "id = \"custom\"", "id"),
        ("name = \"Shopify\"", "name = \"\"", "name"),
        ("docs = \"https://", "docs = \"http://", "docs"),
        ("format = \"{token}\"", "format = \"x\"", "format"),
        ("form = \"label\"", "form = \"text\"", "field in a host"),
        ("form = \"label\"", "form = \"choice\"", "field"),
        ("{store}.myshopify.com\"]", "{shop}.myshopify.com\"]", "field in a host"),
        ("[\"{store}.myshopify.com\"]", "[]", "list of hosts"),
        ("[\"{store}.myshopify.com\"]", "[\"https://x.example\"]", "host"),
        ("required = true", "required = true\ndefault = \"x\"", "field"),
        ("url = \"https://{store}", "url = \"http://{store}", "URL of the probe"),
        ("/shop.json\"", "/{token}.json\"", "path of the probe"),
        ("unclear = [403]", "unclear = [200]", "status of the probe"),
        ("checked = \"2026-11-23\"", "checked = \"yesterday\"", "evidence"),
        ("source = \"https://", "source = \"", "evidence"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Template::parse(&good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(wrong), "{to}: {error}");
    }
    for (from, to) in [
        ("required = true", "needed = true"),
        ("level = \"vendor\"", "level = \"certain\""),
        ("method = \"GET\"", "method = \"DELETE\""),
        ("category = \"E-Commerce\"", ""),
        ("credential_type = \"header_key\"", "credential_type = \"magic\""),
    ] {
        assert!(matches!(Template::parse(&good.replacen(from, to, 1)), Err(TemplateError::Form(_))), "{to}");
    }
    let none = good.split("[probe]").next().unwrap();
    assert!(Template::parse(none).unwrap_err().to_string().contains("probe"));
}
