//! Creations that are sent again under the same `Idempotency-Key`.

use std::collections::BTreeSet;

use grantd_domain::seal::RootKeys;
use grantd_server::{jobs, rewrap};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, api_request, root_key};

in_memory! {
    a_key_keeps_its_bounds,
    a_refused_call_leaves_its_key_free,
    what_takes_a_key_is_what_the_document_says,
}

on_every_engine! {
    every_creation_is_answered_again_byte_for_byte,
    a_rotation_that_is_sent_again_rotates_nothing,
    whatever_has_changed_since_the_first_answer_is_given_again,
    another_request_or_token_gets_nothing_of_it,
    after_a_day_the_key_is_new,
}

on_kept_engines! {
    a_kept_answer_is_sealed_under_a_key_of_the_install,
    many_at_once_on_two_servers_make_one,
    a_changed_answer_is_an_error_and_creates_nothing,
    nobody_finds_a_value_by_trying_what_hashes_to_its_request,
}

async fn send(server: &Server, pat: &str, path: &str, body: &Value, key: &str) -> Answer {
    let request = api_request(pat, "POST", path, body.to_string());
    server.send(request.set("idempotency-key", key)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

async fn count(server: &Server, path: &str) -> i64 {
    server.api("GET", path, Value::Null).await.ok(200)["total"].as_i64().unwrap()
}

async fn every_creation_is_answered_again_byte_for_byte(server: Server) {
    let world = server.world().await;
    let keys = world.path("keys");
    let secrets = world.path("managed-secrets");
    let grants = world.path(&format!("managed-secrets/{}/grants", world.secret));
    let rotation = world.path(&format!("keys/{}/rotate", world.key_id));
    let secret = json!({"name": "Other", "value": "canary-other", "allowed_hosts": ["api.example.com"]});
    let calls = [
        ("/api/v1/apps", "/api/v1/apps", json!({"name": "Once"})),
        ("/api/v1/operators", "/api/v1/operators", json!({"email": "once@example.com", "role": "viewer"})),
        ("/api/v1/tokens", "/api/v1/tokens", json!({"name": "once"})),
        (&keys, &keys, json!({"name": "once"})),
        (&rotation, &keys, json!({})),
        (&secrets, &secrets, secret),
        (&grants, &grants, json!({"principal_type": "system"})),
    ];
    for (n, (path, list, body)) in calls.iter().enumerate() {
        let key = format!("creation-{n}");
        let before = count(&server, list).await;
        let first = send(&server, &server.pat, path, body, &key).await;
        first.ok(201);
        assert!(!is_replayed(&first), "{path}");
        for _ in 0..2 {
            let again = send(&server, &server.pat, path, body, &key).await;
            assert_eq!((again.status, &again.text), (201, &first.text), "{path}");
            assert!(is_replayed(&again), "{path}");
        }
        assert_eq!(count(&server, list).await, before + 1, "{path}");
    }
}

async fn a_rotation_that_is_sent_again_rotates_nothing(server: Server) {
    let world = server.world().await;
    let secret = world.path(&format!("managed-secrets/{}", world.secret));
    let (rotate, body) = (format!("{secret}/rotate"), json!({"value": "canary-new"}));
    let shown = async || server.api("GET", &secret, Value::Null).await;
    let before = shown().await.header("etag").to_owned();
    let bound = |key: &str| {
        let request = api_request(&server.pat, "POST", &rotate, body.to_string());
        request.set("idempotency-key", key).set("if-match", before.clone())
    };
    let first = server.send(bound("rotation")).await;
    first.ok(200);
    let rotated = shown().await;
    assert_eq!(first.header("etag"), rotated.header("etag"));
    for _ in 0..2 {
        let again = server.send(bound("rotation")).await;
        assert_eq!((again.status, &again.text), (200, &first.text));
        assert!(is_replayed(&again), "although the secret is in another state by now");
        assert_eq!(again.header("etag"), first.header("etag"));
    }
    assert_eq!(shown().await.text, rotated.text, "one rotation");
    server.send(bound("another")).await.refused(Code::VersionConflict);
    let other = json!({"value": "canary-other"});
    send(&server, &server.pat, &rotate, &other, "rotation").await.refused(Code::Conflict);
    assert_eq!(shown().await.text, rotated.text);
    // Also when the secret is gone.
    server.api("DELETE", &secret, Value::Null).await.ok(200);
    assert_eq!(server.send(bound("rotation")).await.text, first.text);
}

/// Each operation that takes a key is sent again when what it was about has ended, and what it asked for would be refused.
async fn whatever_has_changed_since_the_first_answer_is_given_again(server: Server) {
    let world = server.world().await;
    let mut sent: Vec<(&str, String, Value, Answer)> = Vec::new();
    let mut call = async |operation: &'static str, path: String, body: Value| {
        let first = send(&server, &server.pat, &path, &body, operation).await;
        assert!(!is_replayed(&first), "{operation}");
        let makes = !["rotateSecret", "rotateIdentityKeys"].contains(&operation);
        let made = first.ok(if makes { 201 } else { 200 });
        sent.push((operation, path, body, first));
        made
    };
    let app = call("createApp", "/api/v1/apps".to_owned(), json!({"name": "Once"})).await;
    let operator = json!({"email": "once@example.com", "role": "viewer"});
    let operator = call("createOperator", "/api/v1/operators".to_owned(), operator).await;
    let token = json!({"name": "once", "expires_in_seconds": 30 * 86_400, "operator_id": operator["id"]});
    call("createToken", "/api/v1/tokens".to_owned(), token).await;
    let key = call("mintKey", world.path("keys"), json!({"name": "once"})).await;
    let key = world.path(&format!("keys/{}", key["id"].as_str().unwrap()));
    call("rotateKey", format!("{key}/rotate"), json!({})).await;
    let secret = json!({"name": "Other", "value": "canary-other", "allowed_hosts": ["api.example.com"]});
    let secret = call("createSecret", world.path("managed-secrets"), secret).await;
    let secret = world.path(&format!("managed-secrets/{}", secret["slug"].as_str().unwrap()));
    call("rotateSecret", format!("{secret}/rotate"), json!({"value": "canary-new"})).await;
    call("createGrant", format!("{secret}/grants"), json!({"principal_type": "system", "label": "once"})).await;
    let provider = json!({"provider": "github", "client_id": "c", "client_secret": "canary"});
    call("createProvider", world.path("providers"), provider).await;
    call("beginConnectSession", world.path("connect-sessions"), json!({"allowed_providers": ["github"]})).await;
    let idp = json!({
        "preset": "okta", "issuer": "https://okta.example.com", "audiences": ["c"],
        "jwks_url": "https://okta.example.com/keys",
    });
    let idp = call("createIdentityProvider", world.path("identity-providers"), idp).await;
    let idp = world.path(&format!("identity-providers/{}", idp["id"].as_str().unwrap()));
    call("enableScim", format!("{idp}/scim"), json!({})).await;
    call("rotateScim", format!("{idp}/scim/rotate"), json!({})).await;
    call("enableIdpWebhook", format!("{idp}/webhook"), json!({})).await;
    call("rotateIdpWebhook", format!("{idp}/webhook/rotate"), json!({})).await;
    call("rotateIdentityKeys", "/api/v1/identity-keys/rotate".to_owned(), json!({"leaked": true})).await;
    let taking: BTreeSet<String> = taking_a_key().into_iter().collect();
    assert_eq!(sent.iter().map(|(operation, ..)| (*operation).to_owned()).collect::<BTreeSet<_>>(), taking);

    let all_again = async |when: &str| {
        for (operation, path, body, first) in &sent {
            let again = send(&server, &server.pat, path, body, operation).await;
            assert!(is_replayed(&again), "{operation} {when}: {} {}", again.status, again.text);
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{operation} {when}");
            assert_eq!(again.headers.get("etag"), first.headers.get("etag"), "{operation} {when}");
        }
    };
    all_again("at once").await;
    server.api("DELETE", &format!("{idp}/webhook"), Value::Null).await.ok(200);
    server.api("DELETE", &format!("{idp}/scim"), Value::Null).await.ok(200);
    all_again("switched off").await;
    server.api("DELETE", &idp, Value::Null).await.ok(200);
    server.api("DELETE", &world.path("providers/github"), Value::Null).await.ok(200);
    server.api("DELETE", &secret, Value::Null).await.ok(200);
    server.api("POST", &format!("{key}/revoke"), Value::Null).await.ok(200);
    let operator = format!("/api/v1/operators/{}", operator["id"].as_str().unwrap());
    server.api("PATCH", &operator, json!({"disabled": true})).await.ok(200);
    server.api("PATCH", "/api/v1/organization", json!({"token_days_max": 1})).await.ok(200);
    all_again("deleted").await;
    for app in [world.app.as_str(), app["id"].as_str().unwrap()] {
        let app = format!("/api/v1/apps/{app}");
        server.api("POST", &format!("{app}/archive"), Value::Null).await.ok(200);
        server.api("DELETE", &app, Value::Null).await.ok(200);
    }
    all_again("in a deleted app").await;
}

/// Operations of the document that take a key.
fn taking_a_key() -> Vec<String> {
    let document = grantd_server::openapi::document();
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    let takes = |operation: &&Value| operation["parameters"].to_string().contains("\"Idempotency-Key\"");
    operations.filter(takes).map(|operation| operation["operationId"].as_str().unwrap().to_owned()).collect()
}

/// Every creation, and the rotations.
async fn what_takes_a_key_is_what_the_document_says(_: Server) {
    let document = grantd_server::openapi::document();
    let taking = taking_a_key();
    for operation in document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        let creates = operation["responses"].get("201").is_some();
        let id = operation["operationId"].as_str().unwrap();
        let has_key = taking.iter().any(|taking| taking == id);
        assert_eq!(has_key, creates || id.starts_with("rotate"), "{id}");
    }
    assert!(taking.len() > 10, "{taking:?}");
}

async fn another_request_or_token_gets_nothing_of_it(server: Server) {
    let world = server.world().await;
    let (keys, body) = (world.path("keys"), json!({"name": "once"}));
    let first = send(&server, &server.pat, &keys, &body, "same").await;
    first.ok(201);
    let others = [(keys.as_str(), json!({"name": "twice"})), ("/api/v1/apps", body.clone())];
    for (path, body) in others {
        let other = send(&server, &server.pat, path, &body, "same").await;
        other.refused(Code::Conflict);
        assert!(other.text.contains("Use a new key for a new request."), "{}", other.text);
    }
    let pat = server.new_pat(grantd_store::operators::Role::Admin, None, None).await;
    let other = send(&server, &pat, &keys, &body, "same").await;
    assert!(!is_replayed(&other) && other.text != first.text);
    other.ok(201);
    send(&server, "grantd_pat_nobody", &keys, &body, "same").await.refused(Code::SessionRequired);
    let viewer = server.new_pat(grantd_store::operators::Role::Viewer, None, None).await;
    send(&server, &viewer, &keys, &body, "same").await.refused(Code::RoleRequired);
}

async fn after_a_day_the_key_is_new(server: Server) {
    let body = json!({"name": "Daily"});
    let again = async || send(&server, &server.pat, "/api/v1/apps", &body, "daily").await;
    let first = again().await;
    first.ok(201);
    server.advance_ms(limits::IDEMPOTENCY_KEPT_MS - 1);
    jobs::prune_answers(&server.vault).await.unwrap();
    assert_eq!(again().await.text, first.text);
    server.advance_ms(1);
    // Expired and not deleted yet, then deleted.
    let second = again().await;
    assert!(!is_replayed(&second) && second.text != first.text);
    assert_eq!(again().await.text, second.text);
    server.advance_ms(limits::IDEMPOTENCY_KEPT_MS);
    jobs::prune_answers(&server.vault).await.unwrap();
    assert!(!is_replayed(&again().await));
}

async fn many_at_once_on_two_servers_make_one(server: Server) {
    let world = server.world().await;
    let (path, before) = (world.path("keys"), count(&server, &world.path("keys")).await);
    let replica = server.another("second", |_| ()).await;
    let mut texts = Vec::new();
    let calls: Vec<_> = (0..32)
        .map(|n| {
            let (server, path) = ([&server, &replica][n % 2].clone(), path.clone());
            tokio::spawn(async move { send(&server, &server.pat, &path, &json!({"name": "once"}), "at-once").await })
        })
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        // A starved machine may answer 503 instead.
        if answer.status != 503 {
            answer.ok(201);
            texts.push((is_replayed(&answer), answer.text));
        }
    }
    assert!(texts.iter().filter(|(replayed, _)| !replayed).count() <= 1);
    assert!(texts.windows(2).all(|pair| pair[0].1 == pair[1].1));
    assert_eq!(count(&server, &path).await, before + 1);
    replica.vault.close().await;
}

async fn a_changed_answer_is_an_error_and_creates_nothing(server: Server) {
    let body = json!({"name": "Sealed"});
    let again = async || send(&server, &server.pat, "/api/v1/apps", &body, "sealed").await;
    again().await.ok(201);
    let before = count(&server, "/api/v1/apps").await;
    server.database.behind_its_back("UPDATE idempotency SET expires_at_ms = expires_at_ms + 1").await;
    again().await.refused(Code::KeyUnavailable);
    assert_eq!(count(&server, "/api/v1/apps").await, before);
}

async fn a_kept_answer_is_sealed_under_a_key_of_the_install(server: Server) {
    let world = server.world().await;
    let minted = send(&server, &server.pat, &world.path("keys"), &json!({"name": "sealed"}), "in-the-clear").await;
    minted.ok(201);
    let clear = |needle: &str| {
        let hex = grantd_wire::sign::hex(needle.as_bytes());
        match server.database.location {
            grantd_store::Location::File(_) => {
                format!("SELECT COUNT(*) FROM idempotency WHERE instr(hex(answer_sealed), upper('{hex}')) > 0")
            }
            _ => format!("SELECT COUNT(*) FROM idempotency WHERE strpos(encode(answer_sealed, 'hex'), '{hex}') > 0"),
        }
    };
    for needle in ["canary", "alter_rk_", "api_key", "in-the-clear"] {
        assert_eq!(server.database.number(&clear(needle)).await, 0, "{needle}");
    }
    assert_eq!(server.database.number("SELECT COUNT(*) FROM idempotency").await, 1);
    if let grantd_store::Location::File(path) = &server.database.location {
        let text = minted.ok(201)["api_key"].as_str().unwrap().to_owned();
        for name in ["grantd.db", "grantd.db-wal"] {
            let bytes = std::fs::read(path.with_file_name(name)).unwrap_or_default();
            assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{name}");
        }
    }
    // Another root key: what was sealed stays as it is, and opens.
    let both = || RootKeys::new(root_key(7), vec![root_key(8)]);
    let rotated = rewrap::run(server.store(), &both(), root_key(8).id(), &*server.env, &mut |_, _| {}).await.unwrap();
    assert_eq!(rotated.remaining, 0);
    let started = server.with_root_keys("new", RootKeys::new(root_key(8), Vec::new())).await.unwrap();
    let again = send(&started, &server.pat, &world.path("keys"), &json!({"name": "sealed"}), "in-the-clear").await;
    assert_eq!((is_replayed(&again), again.text), (true, minted.text));
    started.vault.close().await;
}

async fn nobody_finds_a_value_by_trying_what_hashes_to_its_request(server: Server) {
    let world = server.world().await;
    let (path, body) = (world.path("managed-secrets"), json!({"name": "Pin", "value": "1234", "allow_any_host": true}));
    send(&server, &server.pat, &path, &body, "guess").await.ok(201);
    // All that the hash is made of, but for what only the install knows.
    let mut text = b"grantd.idempotency.1".to_vec();
    for part in ["admin", "POST", path.as_str(), &body.to_string()] {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let guess = grantd_wire::sign::hex(&grantd_wire::sign::sha256(&text));
    let literal = match server.database.location {
        grantd_store::Location::File(_) => format!("x'{guess}'"),
        _ => format!("'\\x{guess}'"),
    };
    let found = |hash: &str| format!("SELECT COUNT(*) FROM idempotency WHERE request_hash {hash}");
    assert_eq!(server.database.number(&found(&format!("= {literal}"))).await, 0);
    assert_eq!(server.database.number(&found("IS NOT NULL")).await, 1);
}

async fn a_key_keeps_its_bounds(server: Server) {
    let body = json!({"name": "Bounds"});
    let most = "k".repeat(limits::IDEMPOTENCY_KEY_CHARS_MAX);
    for good in ["!", "~", most.as_str()] {
        send(&server, &server.pat, "/api/v1/apps", &body, good).await.ok(201);
    }
    let past = format!("{most}k");
    for bad in ["", "a b", "caf\u{e9}", past.as_str()] {
        send(&server, &server.pat, "/api/v1/apps", &body, bad).await.refused(Code::InvalidValue);
    }
    let twice = api_request(&server.pat, "POST", "/api/v1/apps", body.to_string());
    let twice = twice.add("idempotency-key", "a").add("idempotency-key", "b");
    server.send(twice).await.refused(Code::InvalidValue);
    assert_eq!(count(&server, "/api/v1/apps").await, 3);
}

async fn a_refused_call_leaves_its_key_free(server: Server) {
    let path = "/api/v1/operators";
    let body = json!({"email": "taken@example.com", "role": "viewer"});
    server.api("POST", path, body.clone()).await.ok(201);
    send(&server, &server.pat, path, &body, "free").await.refused(Code::NameTaken);
    let other = json!({"email": "free@example.com", "role": "viewer"});
    send(&server, &server.pat, path, &other, "free").await.ok(201);
}
