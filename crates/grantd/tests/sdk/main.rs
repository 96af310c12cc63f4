//! The Rust client against the real program: the cases of the protocol's checklist that need a vault.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic, in its helpers too")]

mod connect;
mod sign_in;
mod tls;
mod vault;

use grantd_sdk::{Constraints, Error, GrantFilter, GrantPolicy, Principal, Retries, SecretGrantRequest};
use grantd_wire::key::{KeyType, RANDOM_LEN, mint};
use serde_json::{Value, json};
use vault::{VALUE, Vault, World};

/// What a call of the world's grant ends with.
async fn refused(vault: &Vault, app: &grantd_sdk::App, world: &World) -> Error {
    app.request("GET", &vault.provider.url("/x")).grant_id(&world.grant).send().await.unwrap_err()
}

fn code(error: &Error) -> &str {
    error.refusal().unwrap().code.as_deref().unwrap()
}

#[tokio::test]
async fn core_12_core_26_core_44_a_call_is_released_made_and_claimed() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.builder(&world.key).caller("billing").build().unwrap();
    let call = app.request("POST", &vault.provider.url("/v1/{id}")).grant_id(&world.grant).path_param("id", "a b");
    let answer = call.query("page", "2").json(&json!({"a": 1})).reason("why").context("run_id", "r-1").send().await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "theirs".to_owned()));
    assert_eq!(vault.provider.seen(), [format!("Bearer {VALUE}")]);
    app.close().await;

    let released = &vault.events(&world, "token.released").await[0];
    assert_eq!(released["id"], answer.event_id.unwrap());
    assert_eq!((&released["caller"], &released["reason"]), (&json!("billing"), &json!("why")));
    assert_eq!((&released["context"], &released["path"]), (&json!({"run_id": "r-1"}), &json!("/v1/a%20b")));
    let claimed = &vault.events(&world, "call.claimed").await[0];
    assert_eq!((&claimed["claim"], &claimed["claimed"]["status"]), (&json!(true), &json!(200)));
}

// A thread for the provider: this one waits for other programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn core_05_core_06_core_07_private_certificates() {
    let mut vault = Vault::start().await;
    let world = vault.world().await;
    let certificate = vault.restart_with_tls();
    let app = vault.builder(&world.key).retries(Retries::NEVER).build().unwrap();
    let error = refused(&vault, &app, &world).await;
    assert!(matches!(error, Error::Network { nothing_sent: true, .. }), "{error:?}");

    // Whom to trust is the process's own, so the command line is asked, which makes its calls with this client.
    let request = |base_url: &str| {
        let mut request = vault.cli();
        request.args(["request", "GET", &vault.provider.url("/x"), "--grant", &world.grant]);
        request.env("ALTER_API_KEY", &world.key).env("ALTER_BASE_URL", base_url).env("SSL_CERT_FILE", &certificate);
        request.output().unwrap()
    };
    let output = request(&vault.base_url);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = request(&vault.base_url.replace("localhost", "127.0.0.1"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("certificate"), "{said}");
    assert_eq!(vault.provider.seen().len(), 1);

    // A listener that has the same certificate and looks at what is spoken: HTTP/2 where it is offered, and else what is left.
    for (offered, spoken) in [(&["h2", "http/1.1"][..], "h2"), (&["http/1.1"], "http/1.1")] {
        let (base_url, seen) = tls::listener(offered);
        let output = tokio::task::block_in_place(|| request(&base_url));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert_eq!(seen.await.unwrap(), tls::Seen { agreed: spoken.to_owned(), is_preface: spoken == "h2" }, "{said}");
    }
}

#[tokio::test]
async fn core_11_core_25_core_48_keys() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    // What is minted passes the client's check; what is not, in every form, is unknown to the vault.
    vault.app(&world).list_grants(&GrantFilter::default()).await.unwrap();
    let mut unknown = vec![format!("alter_key_{}", "x".repeat(40))];
    for key_type in [KeyType::Runtime, KeyType::Agent, KeyType::Derived, KeyType::Publishable] {
        unknown.push(mint(key_type, [1; RANDOM_LEN]));
    }
    for key in unknown {
        let error = refused(&vault, &vault.builder(&key).build().unwrap(), &world).await;
        assert!(matches!(&error, Error::InvalidKey(refusal) if refusal.hint.is_some()), "{key}: {error:?}");
    }
    let app = vault.app(&world);
    vault.api("POST", &format!("apps/{}/keys/{}/revoke", world.app_id, world.key_id), Value::Null).await;
    let error = refused(&vault, &app, &world).await;
    assert!(matches!(error, Error::KeyRevoked(_)), "{error:?}");
    assert!(vault.provider.seen().is_empty());
}

#[tokio::test]
async fn core_16_core_18_actor_ids() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.builder(&world.key).caller("billing").build().unwrap();
    app.list_grants(&GrantFilter::default()).await.unwrap();
    let id = app.actor_id().unwrap().to_owned();
    // Echoed, signed; left out for another caller; the same for another client of that caller.
    app.list_grants(&GrantFilter::default()).await.unwrap();
    let call = || app.request("GET", &vault.provider.url("/x")).grant_id(&world.grant);
    call().caller("one-off").send().await.unwrap();
    call().send().await.unwrap();
    assert_eq!(app.actor_id(), Some(&*id));
    let again = vault.builder(&world.key).caller("billing").build().unwrap();
    again.list_grants(&GrantFilter::default()).await.unwrap();
    assert_eq!(again.actor_id(), Some(&*id));
    let error = vault.builder(&world.key).caller("0199c0de-0000-7000-8000-00000000beef");
    let error = refused(&vault, &error.caller_type(grantd_sdk::CallerType::Agent).build().unwrap(), &world).await;
    assert!(matches!(error, Error::AgentNotFound(_)), "core_53: {error:?}");
}

#[tokio::test]
async fn core_33_core_36_core_49_grants_that_cannot_be_had() {
    let vault = Vault::start().await;
    let (world, foreign) = (vault.world().await, vault.world().await);
    let app = vault.app(&world);
    let call = || app.request("GET", &vault.provider.url("/x"));
    for grant in ["0199c0de-0000-7000-8000-00000000beef", &foreign.grant] {
        let error = call().grant_id(grant).send().await.unwrap_err();
        assert!(matches!(error, Error::GrantNotFound { .. }), "{error:?}");
        assert_eq!((error.status(), code(&error)), (Some(404), "grant_not_found"));
    }
    let error = call().grant_id(&world.grant).user_token("a.b.c").send().await.unwrap_err();
    assert!(matches!(error, Error::ReAuthRequired(_)), "{error:?}");
    let error = call().provider(&world.slug).account("a@b.c").label("work").send().await.unwrap_err();
    assert!(matches!(error, Error::GrantNotFound { .. }), "{error:?}");
    // Only agents name a user; an app sends the user's token.
    let error = call().provider(&world.slug).app_user_id("u").send().await.unwrap_err();
    assert_eq!((error.status(), code(&error)), (Some(400), "invalid_request"));
    assert!(vault.provider.seen().is_empty());
}

#[tokio::test]
async fn core_37_core_41_core_42_what_the_provider_answers_is_claimed() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.app(&world);
    let call = |path: &str| app.request("GET", &vault.provider.url(path)).grant_id(&world.grant).send();
    assert!(matches!(call("/status/401").await, Err(Error::ProviderUnauthorized { .. })));
    assert!(matches!(call("/status/500").await, Err(Error::ProviderApi { .. })));
    assert_eq!(call("/status/302").await.unwrap().status, 302);
    app.close().await;
    let claims = vault.events(&world, "call.claimed").await;
    let mut statuses: Vec<_> = claims.iter().map(|event| event["claimed"]["status"].as_i64().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [302, 401, 500]);
    assert_eq!(vault.provider.seen().len(), 3);
}

#[tokio::test]
async fn core_50_core_51_core_57_core_58_core_59_what_keys_and_apps_may_do() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let with = |key: String| vault.builder(&key).retries(Retries::NEVER).build().unwrap();

    let (_, key) = vault.mint(&world.app_id, json!({"scopes": ["grants:read"]})).await;
    let error = refused(&vault, &with(key), &world).await;
    assert!(matches!(&error, Error::InsufficientScope { missing, .. } if missing == &["tokens:retrieve"]), "{error:?}");

    let scopes = grantd_wire::scope::all();
    let (_, key) = vault.mint(&world.app_id, json!({"scopes": &scopes, "cidr_allowlist": ["10.0.0.0/8"]})).await;
    let error = refused(&vault, &with(key), &world).await;
    assert!(matches!(&error, Error::PolicyViolation { policy_error: Some(code), .. } if code == "ip_not_allowed"));

    let (_, key) = vault.mint(&world.app_id, json!({"scopes": &scopes, "rate_limit_rpm": 20})).await;
    let limited = with(key);
    let mut outcome = Ok(());
    for _ in 0..21 {
        outcome = outcome.and(limited.list_grants(&GrantFilter::default()).await.map(drop));
    }
    let Err(Error::RateLimit { retry_after, limit, scope, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((limit, scope.as_deref()), (Some(20), Some("api_key")));
    assert!((1..=60).contains(&retry_after.unwrap().as_secs()));
    assert_eq!(limited.last_rate_limit().unwrap().limit, 20);

    let app = vault.app(&world);
    let error = app.request("GET", "https://elsewhere.example/x").grant_id(&world.grant).send().await.unwrap_err();
    assert!(matches!(&error, Error::BlockedDestination(refusal) if refusal.request_id.is_some()), "{error:?}");
    vault.api("PATCH", &format!("apps/{}", world.app_id), json!({"retrieve": "off"})).await;
    let error = refused(&vault, &app, &world).await;
    assert!(matches!(error, Error::RestrictedGrantRequiresProxy(_)), "{error:?}");
    assert!(vault.provider.seen().is_empty());
}

#[tokio::test]
async fn core_14_ext_46_constraints_narrow_and_never_widen() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let (_, key) = vault.mint(&world.app_id, json!({"scopes": ["tokens:retrieve", "grants:read"]})).await;
    let app = vault.builder(&key).caller("billing").build().unwrap();
    let narrow = |scope: &str| app.with_constraints(&Constraints::new().scopes([scope])).unwrap();
    let reader = narrow("grants:read");
    reader.list_grants(&GrantFilter::default()).await.unwrap();
    let error = refused(&vault, &reader, &world).await;
    assert!(matches!(&error, Error::InsufficientScope { missing, .. } if missing == &["tokens:retrieve"]), "{error:?}");
    let one = narrow(&format!("tokens:retrieve:{}", world.grant));
    one.request("GET", &vault.provider.url("/x")).grant_id(&world.grant).send().await.unwrap();
    let error = narrow("grants:write").list_grants(&GrantFilter::default()).await.unwrap_err();
    assert_eq!((error.status(), code(&error)), (Some(400), "constraint_not_narrowing"));
    app.request("GET", &vault.provider.url("/x")).grant_id(&world.grant).send().await.unwrap();
}

#[tokio::test]
async fn core_47_core_79_core_81_core_83_the_life_of_a_grant() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let app = vault.app(&world);
    let ask = || SecretGrantRequest {
        principal: Principal::System { label: Some("nightly".to_owned()) },
        grant_policy: GrantPolicy { max_ttl_seconds: Some(3600), ..GrantPolicy::default() },
        credential_id: None,
    };
    let made = app.create_managed_secret_grant(&world.slug, &ask()).await.unwrap();
    assert_eq!((&*made.principal_type, made.label.as_deref()), ("system", Some("nightly")));
    let error = app.create_managed_secret_grant(&world.slug, &ask()).await.unwrap_err();
    assert!(
        matches!(&error, Error::SiblingLabelConflict { label: Some(label), .. } if label == "nightly"),
        "{error:?}"
    );
    let error = app.create_managed_secret_grant("no-such-secret", &ask()).await.unwrap_err();
    assert!(matches!(error, Error::ConnectConfig(_) | Error::GrantNotFound { .. }), "{error:?}");

    let page =
        app.list_grants(&GrantFilter { label: Some("nightly".to_owned()), ..GrantFilter::default() }).await.unwrap();
    let [grant] = &page.grants[..] else { panic!("{page:?}") };
    assert_eq!((&grant.grant_id, grant.managed_secret_slug.as_deref()), (&made.grant_id, Some(&*world.slug)));
    assert!(grant.grant_expires_at.is_some());

    let call = || app.request("GET", &vault.provider.url("/x")).grant_id(&made.grant_id).send();
    call().await.unwrap();
    let revoked = app.revoke_grant(&made.grant_id, Some("over")).await.unwrap();
    assert!(revoked.success);
    assert_eq!(app.revoke_grant(&made.grant_id, None).await.unwrap().revoked_at, revoked.revoked_at);
    let error = call().await.unwrap_err();
    assert!(matches!(&error, Error::GrantRevoked { grant_id: Some(id), .. } if *id == made.grant_id), "{error:?}");
    assert_eq!(vault.provider.seen().len(), 1);
    assert!(!app.list_scopes().await.unwrap().action_verbs.is_empty());
}

#[tokio::test]
async fn the_blocking_client_makes_the_same_calls() {
    let vault = Vault::start().await;
    let world = vault.world().await;
    let (builder, url, grant) = (vault.builder(&world.key), vault.provider.url("/x"), world.grant.clone());
    let blocking = move || {
        let app = builder.build_blocking()?;
        let answer = app.request("GET", &url).grant_id(grant).send()?;
        app.close()?;
        Ok::<_, Error>(answer.status)
    };
    let (told, outcome) = tokio::sync::oneshot::channel();
    // Not a thread of the runtime: those may not block.
    std::thread::spawn(move || told.send(blocking()));
    assert_eq!(outcome.await.unwrap().unwrap(), 200);
    assert_eq!(vault.events(&world, "call.claimed").await.len(), 1);
}
