//! `import`: what is planned, what is made, and that no value is shown.

use super::*;
use crate::scratch::Scratch;

const VALUE: &str = "sk_live_canary_value";
/// Bounds of docs/limits.md.
const FILE_BYTES_MAX: usize = 1024 * 1024;
const KV_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

fn template(id: &str, required: Option<&str>) -> Value {
    let evidence = json!({"level": "vendor", "source": "https://example.com/src", "checked": "2026-11-23"});
    let fields: Vec<Value> = required
        .map(|name| {
            json!({"name": name, "label": "Store", "find": "there", "required": true, "secret": false, "default": null,
                "choices": []})
        })
        .into_iter()
        .collect();
    json!({
        "id": id, "name": id, "category": "x", "credential_type": "bearer_token", "value": "key", "fields": fields,
        "injection_header": "Authorization", "injection_format": "Bearer {token}", "injections": [],
        "allowed_hosts": [format!("api.{id}.com")], "probe": null, "no_probe": "none", "notes": null,
        "docs_url": "https://example.com", "verified": true,
        "evidence": {"injection": evidence, "hosts": evidence, "probe": null},
    })
}

fn templates() -> Value {
    page(&[template("stripe", None), template("shopify", Some("store"))])
}

fn file(scratch: &Scratch, name: &str, text: &str) -> String {
    std::fs::write(scratch.0.join(name), text).unwrap();
    scratch.path(name)
}

fn variables(count: usize) -> String {
    (0..count).fold(String::new(), |text, n| text + &format!("A{n}=x\n"))
}

/// Name and outcome of each, in order.
fn outcomes(done: &Done) -> Vec<(String, String)> {
    let text = |item: &Value, field: &str| item[field].as_str().unwrap().to_owned();
    done.json()["items"].as_array().unwrap().iter().map(|i| (text(i, "name"), text(i, "outcome"))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// A file of one variable with this many bytes.
fn filling(bytes: usize) -> String {
    format!("A={}", "x".repeat(bytes - 2))
}

/// What is said of each, in order: its outcome, its hosts, and a word of why.
fn said(done: &Done) -> Vec<(String, String, String)> {
    let item = |item: &Value| {
        let hosts: Vec<&str> = item["allowed_hosts"].as_array().unwrap().iter().map(|h| h.as_str().unwrap()).collect();
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        (text("outcome"), hosts.join(" "), text("why"))
    };
    done.json()["items"].as_array().unwrap().iter().map(item).collect()
}

/// What the server would refuse is known before it is asked, and what is planned is what would be stored.
#[tokio::test]
async fn a_dry_run_of_a_table_knows_what_the_server_would_say() {
    let scratch = Scratch::new();
    let rows = format!(
        "name,value,template,allowed_hosts,field.store,credential_type,header\n\
         Shop,{VALUE},shopify,,acme,,\n\
         Elsewhere,{VALUE},shopify,proxy.example.com,,,\n\
         Nameless,{VALUE},shopify,,,,\n\
         Wrong,{VALUE},shopify,,acme.example.com/x,,\n\
         Odd,{VALUE},stripe,,acme,,\n\
         Plain,{VALUE},custom,api.example.com,,header_key,X-Key\n\
         Far,{VALUE},,https://api.example.com/?x,,,\n\
         Cloud,{VALUE},,minio.example.com,,aws_sig_v4,\n\
         Cookie,{VALUE},,api.example.com,,header_key,Cookie\n\
         Lines,\"a\nb\",,api.example.com,,,\n\
         Newer,{VALUE},fromtomorrow,,,,\n\
         Unheard,{VALUE},nonesuch,,,,\n"
    );
    let csv = file(&scratch, "secrets.csv", &rows);
    let known = page(&[template("stripe", None), template("shopify", Some("store")), template("fromtomorrow", None)]);
    let server = Server::start(&[(200, known), (200, page(&[]))]).await;
    let done = server.run(&["import", "csv", &csv, "--dry-run"]).await;
    let wanted = [
        ("would_create", "acme.myshopify.com", ""),
        ("would_create", "proxy.example.com", ""),
        ("failed", "", "`fields.store`"),
        ("failed", "", "`fields.store`"),
        ("failed", "", "`fields.store`"),
        ("would_create", "api.example.com", ""),
        ("failed", "", "allowed_hosts"),
        ("failed", "minio.example.com", "`fields."),
        ("failed", "api.example.com", "`injection_header`"),
        ("failed", "api.example.com", "`value`"),
        ("would_create", "api.fromtomorrow.com", ""),
        ("failed", "", "there is no template `nonesuch`"),
    ];
    let said = said(&done);
    assert_eq!(said.len(), wanted.len(), "{}{}", done.out, done.err);
    for ((outcome, hosts, why), wanted) in said.iter().zip(wanted) {
        assert_eq!((&**outcome, &**hosts), (wanted.0, wanted.1), "{why}");
        assert!(why.contains(wanted.2), "{why}");
    }
    assert!(done.exit == Exit::Error && !done.out.contains(VALUE) && !done.err.contains(VALUE), "{}", done.err);
    let kinds: Vec<Value> =
        done.json()["items"].as_array().unwrap().iter().map(|i| i["credential_type"].clone()).collect();
    assert_eq!((&kinds[0], &kinds[5]), (&json!("header_key"), &json!("header_key")), "the template's, and its own");
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
}

#[tokio::test]
async fn a_dry_run_of_a_kv_engine_makes_nothing() {
    let version = |data: Value, metadata: Value| {
        (200, json!({"data": {"data": data, "metadata": {"custom_metadata": metadata}}}))
    };
    let kv = Server::start(&[
        (200, json!({"data": {"keys": ["a", "b", "c", "d"]}})),
        version(json!({"token": VALUE, "store": "acme"}), json!({"template": "shopify"})),
        version(json!({"token": VALUE, "shop": "acme"}), json!({"template": "shopify"})),
        version(json!({"one": VALUE, "two": VALUE}), json!({"allowed_hosts": "api.example.com"})),
        version(json!({"token": VALUE}), json!({})),
    ])
    .await;
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP), ("VAULT_TOKEN", "s.token"), ("VAULT_ADDR", &kv.url)];
    let done = server.run_with(&["import", "kv", "--dry-run"], "", &env).await;
    let said = said(&done);
    assert_eq!(said[0], ("would_create".to_owned(), "acme.myshopify.com".to_owned(), String::new()));
    for ((outcome, _, why), wanted) in said[1..].iter().zip(["`fields.", "which of its keys", "nothing says where"]) {
        assert!(outcome == "failed" && why.contains(wanted), "{why}");
    }
    assert!(done.exit == Exit::Error && !done.out.contains(VALUE) && !done.err.contains(VALUE), "{}", done.err);
    assert!(server.seen().iter().chain(&kv.seen()).all(|seen| seen.method == "GET"));
}

#[tokio::test]
async fn an_answer_of_a_kv_engine_has_a_bound() {
    for (bytes, exit, said) in [
        (KV_ANSWER_BYTES_MAX, Exit::NotFound, "no secret"),
        (KV_ANSWER_BYTES_MAX + 1, Exit::Usage, "more than 4194304 bytes"),
    ] {
        let start = r#"{"data": {"keys": []}, "pad": ""#;
        let answer = format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2));
        assert_eq!(answer.len(), bytes);
        let kv = Server::start_raw(vec![(200, answer)]).await;
        let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP), ("BAO_TOKEN", "s.token"), ("BAO_ADDR", &kv.url)];
        let done = grantd(&["import", "kv", "--dry-run"], "", &env).await;
        assert!(done.exit == exit && done.err.contains(said), "{}", done.err);
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_made_and_makes_nothing() {
    let scratch = Scratch::new();
    let text =
        format!("PORT=80\nSTRIPE_API_KEY={VALUE}\nSHOPIFY_TOKEN='{VALUE}'\nPAY=\"{VALUE}\"\nSTRIPE_API_KEY={VALUE}2\n");
    let env = file(&scratch, ".env", &text);
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &env, "--dry-run", "--map", "PAY=stripe"]).await;
    assert_eq!(
        outcomes(&done),
        pairs(&[
            ("PORT", "skipped"),
            ("SHOPIFY_TOKEN", "failed"),
            ("PAY", "would_create"),
            ("STRIPE_API_KEY", "would_create")
        ]),
    );
    assert_eq!(done.exit, Exit::Error, "one of them cannot be taken: {}", done.err);
    assert!(!done.out.contains(VALUE) && !done.err.contains(VALUE));
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));

    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &env, "--dry-run", "--only", "PORT"]).await;
    assert_eq!(
        (done.exit, outcomes(&done)),
        (Exit::Error, pairs(&[("PORT", "failed")])),
        "what is named is no accident"
    );
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done =
        server.run(&["import", "env", &env, "--dry-run", "--only", "PORT", "--allowed-host", "api.example.com"]).await;
    assert_eq!((done.exit, outcomes(&done)), (Exit::Ok, pairs(&[("PORT", "would_create")])));
}

/// What the file does not hold is not made up: not from this process's variables, and not from nothing.
#[tokio::test]
async fn a_value_is_taken_as_it_is_written_or_not_at_all() {
    let scratch = Scratch::new();
    let lines = [
        "\u{feff}AT=api",
        "A=p4$sword",
        "B=\"x${AT}y\"",
        "C='p4$sword'",
        "D=p4\\$sword",
        "E=\"p4\\$sword\"",
        "F='a\\$b'",
        "G=$HOME/x",
        "H=cash$",
    ];
    let env = file(&scratch, ".env", &lines.join("\n"));
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &env, "--dry-run", "--allowed-host", "api.example.com"]).await;
    let taken = outcomes(&done).into_iter().filter(|(_, outcome)| outcome == "would_create").map(|(name, _)| name);
    assert_eq!(taken.collect::<Vec<_>>(), ["AT", "C", "D", "E", "F"], "{}", done.out);
    let why = &said(&done)[1].2;
    assert!(why.contains("in single quotes") && !why.contains("sword"), "{why}");
    // What is no secret anyway does not make it a failure.
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &env, "--dry-run"]).await;
    assert!(done.exit == Exit::Ok && outcomes(&done).iter().all(|(_, outcome)| outcome == "skipped"), "{}", done.out);
}

#[tokio::test]
async fn numbers_of_a_kv_engine_are_whole_or_refused() {
    let version = |number: &str| {
        (200, format!(r#"{{"data": {{"data": {{"token": {number}}}, "metadata": {{"custom_metadata": null}}}}}}"#))
    };
    let keys = (200, r#"{"data": {"keys": ["a", "b", "c", "d"]}}"#.to_owned());
    let numbers = ["18446744073709551615", "-7", "18446744073709551616", "1.10"].map(version);
    let kv = Server::start_raw([keys].into_iter().chain(numbers).collect()).await;
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP), ("VAULT_TOKEN", "s.token"), ("VAULT_ADDR", &kv.url)];
    let done = server.run_with(&["import", "kv", "--dry-run", "--allowed-host", "api.example.com"], "", &env).await;
    let outcomes: Vec<_> = outcomes(&done).into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, ["would_create", "would_create", "failed", "failed"], "{}", done.out);
    assert!(said(&done)[2].2.contains("no whole number of 64 bits"), "{}", done.out);
}

#[tokio::test]
async fn what_is_named_is_there_and_counts_alone() {
    let scratch = Scratch::new();
    let rows = (0..1_001).fold("name,value,allowed_hosts\n".to_owned(), |rows, n| {
        rows + &format!("Partner API {n},{VALUE},api.example.com\n")
    });
    let csv = file(&scratch, "many.csv", &rows);
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "csv", &csv, "--dry-run", "--only", "Partner API 7,Partner API 1000"]).await;
    let wanted = pairs(&[("Partner API 7", "would_create"), ("Partner API 1000", "would_create")]);
    assert_eq!((done.exit, outcomes(&done)), (Exit::Ok, wanted), "{}", done.err);
    let env = file(&scratch, ".env", "STRIPE_KEY=x\n");
    for (flag, name) in [("--only", "STRPE_KEY"), ("--map", "STRPE_KEY=stripe")] {
        let done = server.run(&["import", "env", &env, "--dry-run", flag, name]).await;
        let wanted = format!("{flag}: there is no `STRPE_KEY` there");
        assert!(done.exit == Exit::Usage && done.err.contains(&wanted), "{}", done.err);
        assert!(done.err.contains("Did you mean `STRIPE_KEY`?"), "{}", done.err);
    }
}

#[tokio::test]
async fn a_variable_named_after_a_template_belongs_to_it() {
    let scratch = Scratch::new();
    let ids = grantd_domain::template::all().iter().map(|template| template.id.as_str()).filter(|id| *id != "custom");
    let wanted: Vec<(String, &str)> = ids
        .flat_map(|id| {
            let vendor = id.to_uppercase().replace('-', "_");
            ["_TOKEN", "_API_KEY"].map(|ending| (vendor.clone() + ending, id))
        })
        .chain([("SLACK_BOT_TOKEN".to_owned(), "slack-bot"), ("STRIPE_SECRET_KEY".to_owned(), "stripe")])
        .collect();
    let known: Vec<Value> = wanted.iter().map(|(_, id)| template(id, None)).collect();
    let text = wanted.iter().fold(String::new(), |text, (name, _)| text + name + "=x\n");
    let server = Server::start(&[(200, page(&known)), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &file(&scratch, ".env", &text), "--dry-run"]).await;
    let found = done.json();
    for (name, id) in wanted {
        let item = found["items"].as_array().unwrap().iter().find(|item| item["name"] == name);
        assert_eq!(item.unwrap()["template"], id, "{name}");
    }
}

/// Whatever number its slug has: names tell what is there.
#[tokio::test]
async fn what_is_there_under_another_slug_stays() {
    let scratch = Scratch::new();
    let csv = file(&scratch, "s.csv", &format!("name,value,template\nStripe,{VALUE},stripe\n"));
    let mut living = secret();
    living["slug"] = json!("stripe-2");
    let server = Server::start(&[(200, templates()), (200, page(&[living]))]).await;
    let done = server.run(&["import", "csv", &csv]).await;
    assert_eq!((done.exit, outcomes(&done)), (Exit::Ok, pairs(&[("Stripe", "exists")])), "{}", done.err);
    assert_eq!(done.json()["items"][0]["slug"], "stripe-2");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn what_is_there_stays_and_one_refusal_does_not_stop_the_others() {
    let scratch = Scratch::new();
    let rows = format!(
        "name,value,template,allowed_hosts,field.region,credential_type\n\
         Stripe,{VALUE},stripe,,,\n\
         Maps,{VALUE},,api.example.com files.example.com:8443/v1,eu,header_key\n\
         maps!,{VALUE},,api.example.com,,\n\
         Nowhere,{VALUE},,,,\n\
         Wrong,{VALUE},,api.example.com,,password\n\
         Mail,{VALUE},,api.example.com,,\n"
    );
    let csv = file(&scratch, "secrets.csv", &rows);
    let mut made = secret();
    made["slug"] = json!("mail");
    let refused = json!({"error": "invalid_value", "message": "`allowed_hosts`: no", "details": {}});
    let server = Server::start(&[(200, templates()), (200, page(&[secret()])), (422, refused), (201, made)]).await;
    let done = server.run(&["import", "csv", &csv]).await;
    assert_eq!(
        outcomes(&done),
        pairs(&[
            ("Stripe", "exists"),
            ("Maps", "failed"),
            ("maps!", "failed"),
            ("Nowhere", "failed"),
            ("Wrong", "failed"),
            ("Mail", "created")
        ]),
        "{}",
        done.err
    );
    assert_eq!(done.exit, Exit::Error);
    assert!(!done.out.contains(VALUE) && !done.err.contains(VALUE));
    let sent = &server.seen()[2];
    assert_eq!((&*sent.method, &sent.body["name"], &sent.body["value"]), ("POST", &json!("Maps"), &json!(VALUE)));
    assert_eq!(sent.body["fields"], json!({"region": "eu"}));
    assert_eq!(sent.body["allowed_hosts"], json!(["api.example.com", "files.example.com:8443/v1"]));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn an_import_ends_when_the_server_refuses_the_caller() {
    let scratch = Scratch::new();
    let csv = file(&scratch, "s.csv", "name,value,template\nA,a,stripe\nB,b,stripe\n");
    let refused = json!({"error": "role_required", "message": "This needs the role developer.", "details": {}});
    let server = Server::start(&[(200, templates()), (200, page(&[])), (403, refused)]).await;
    let done = server.run(&["import", "csv", &csv]).await;
    assert!(done.exit == Exit::Forbidden && done.err.contains("run the same command again"), "{}", done.err);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_says_so_without_its_text() {
    let scratch = Scratch::new();
    for (kind, text, said) in [
        ("csv", format!("name,secret\nA,{VALUE}\n"), "no column `secret`"),
        ("csv", "name\nA\n".to_owned(), "column `value` is missing"),
        ("csv", format!("name,value\nA,{VALUE},more\n"), "row 2"),
        ("env", format!("A=b\n{VALUE} is no line\n"), "after A"),
        ("env", String::new(), "is empty"),
        ("env", filling(FILE_BYTES_MAX + 1), "holds more than 1048576 bytes"),
    ] {
        let path = file(&scratch, "file", &text);
        let done = grantd(&["import", kind, &path], "", &[("GRANTD_PAT", PAT)]).await;
        assert!(done.exit == Exit::Usage && done.err.contains(said), "{said}: {}", done.err);
        assert!(!done.err.contains(VALUE), "{}", done.err);
    }
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let full = file(&scratch, "full", &filling(FILE_BYTES_MAX));
    let done = server.run(&["import", "env", &full, "--dry-run"]).await;
    assert_eq!((done.exit, outcomes(&done)), (Exit::Ok, pairs(&[("A", "skipped")])), "{}", done.err);
    let most = variables(1_000);
    let server = Server::start(&[(200, templates()), (200, page(&[]))]).await;
    let done = server.run(&["import", "env", &file(&scratch, "most", &most), "--dry-run"]).await;
    assert_eq!((done.exit, done.json()["total"].as_i64()), (Exit::Ok, Some(1_000)), "{}", done.err);
    let many = variables(1_001);
    let done = grantd(&["import", "env", &file(&scratch, "many", &many)], "", &[("GRANTD_PAT", PAT)]).await;
    assert!(done.exit == Exit::Usage && done.err.contains("takes at most 1000"), "{}", done.err);
}

#[tokio::test]
async fn a_kv_engine_is_walked_and_its_metadata_counts() {
    let version = |data: Value, metadata: Value| {
        (200, json!({"data": {"data": data, "metadata": {"custom_metadata": metadata}}}))
    };
    let kv = Server::start(&[
        (200, json!({"data": {"keys": ["b/", "a"]}})),
        version(json!({"api_key": VALUE, "region": "eu"}), json!({"allowed_hosts": "api.example.com"})),
        (200, json!({"data": {"keys": ["deleted", "two"]}})),
        (404, json!({"data": {"data": null}})),
        version(json!({"username": "u", "password": VALUE}), json!({"allowed_hosts": "two.example.com"})),
    ])
    .await;
    let server = Server::start(&[(200, templates()), (200, page(&[])), (201, secret())]).await;
    let env = [("GRANTD_PAT", PAT), ("GRANTD_APP_ID", APP), ("BAO_TOKEN", "s.token"), ("BAO_ADDR", &kv.url)];
    let done = server.run_with(&["import", "kv", "--path", "apps/"], "", &env).await;
    assert_eq!(
        (done.exit, outcomes(&done)),
        (Exit::Ok, pairs(&[("apps a", "created"), ("apps b two", "created")])),
        "{}",
        done.err
    );
    assert!(!done.out.contains(VALUE) && !done.err.contains(VALUE));
    let asked: Vec<String> = kv.seen().into_iter().map(|seen| seen.target).collect();
    let (list, data) = ("/v1/secret/metadata/apps", "/v1/secret/data/apps");
    assert_eq!(
        asked,
        [
            format!("{list}?list=true"),
            format!("{data}/a"),
            format!("{list}/b?list=true"),
            format!("{data}/b/deleted"),
            format!("{data}/b/two")
        ]
    );
    let (one, two) = (&server.seen()[2].body, &server.seen()[3].body);
    assert_eq!((&one["value"], &one["fields"]), (&json!(VALUE), &json!({"region": "eu"})));
    assert_eq!((&two["credential_type"], &two["fields"]), (&json!("basic_auth"), &json!({"username": "u"})));

    let kv = Server::start(&[(404, json!({"errors": []}))]).await;
    let done = server.run_with(&["import", "kv", "--address", &kv.url, "--mount", "wrong"], "", &env).await;
    assert!(done.exit == Exit::NotFound && done.err.contains("no secret below wrong/"), "{}", done.err);

    let kv = Server::start(&[(403, json!({"errors": ["permission denied"]}))]).await;
    let done = server.run_with(&["import", "kv", "--address", &kv.url], "", &env).await;
    assert!(done.exit == Exit::Forbidden && done.err.contains("list on metadata/"), "{}", done.err);
}
