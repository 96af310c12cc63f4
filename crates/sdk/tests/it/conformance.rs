//! Cases of the protocol's checklist that a server decides: a scripted one gives each answer, and the client must make of it what
//! every client makes. `crates/grantd/tests/sdk` asks the real vault.

use std::sync::atomic::{AtomicUsize, Ordering};

use grantd_sdk::{App, Constraints, Error, GrantFilter, GrantPolicy, Principal, SecretGrantRequest};
use serde_json::{Value, json};

use crate::server::{GRANT, KEY, Play, Server, release};
use crate::{REPORT, app, body, releasing};

const ACTOR: &str = "0199c0de-0000-7000-8000-0000000ac702";
const OTHER: &str = "0199c0de-0000-7000-8000-00000000ffff";

/// What a call ends with when the release is answered like this. Nothing reaches the provider, and nothing is asked twice.
async fn refused(play: Play) -> Error {
    let server = Server::start(move |seen| (seen.path == "/sdk/token").then(|| play.clone())).await;
    let app = app(&server);
    let error = app.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
    app.close().await;
    assert_eq!(server.count(), 1);
    error
}

async fn refusal(status: u16, fields: Value) -> Error {
    refused(Play::json(status, &fields)).await
}

/// What a call ends with when the provider answers like this, and the server that saw it.
async fn provider_says(play: Play, released: Value) -> (Result<grantd_sdk::Response, Error>, Server) {
    let server = Server::start(move |seen| match &*seen.path {
        "/sdk/token" => Some(release(&released)),
        "/provider" => Some(play.clone()),
        path if path.ends_with("/report-scope-mismatch") => Some(Play::empty(204)),
        _ => None,
    })
    .await;
    let app = app(&server);
    let outcome = app.request("GET", &server.url("/provider?page=2")).grant_id(GRANT).send().await;
    app.close().await;
    (outcome, server)
}

fn challenge(text: &str, status: u16) -> Play {
    Play::json(status, &json!({"error": "theirs"})).header("www-authenticate", text)
}

const INSUFFICIENT: &str = r#"Bearer realm="x", error="insufficient_scope", scope="mail:read mail:send""#;

#[test]
fn core_01_loopback_http_is_accepted() {
    for url in ["http://127.0.0.1:8400", "http://localhost:8400", "http://[::1]:8400"] {
        let app = App::builder(KEY).base_url(format!("{url}/")).build().unwrap();
        assert_eq!(app.base_url(), url);
    }
}

#[test]
fn core_03_core_04_plain_http_beyond_loopback_is_refused() {
    for url in ["http://10.0.0.5", "http://x.localhost", "http://127.0.0.2", "http://vault.internal"] {
        let error = App::builder(KEY).base_url(url).build().unwrap_err();
        assert!(error.is("AlterSDKError"), "{url}: {error:?}");
    }
}

#[test]
fn core_10_a_mistyped_key_is_refused_before_any_traffic() {
    let error = App::builder(KEY.replace("l77ykl", "l77ykm")).build().unwrap_err();
    assert!(matches!(error, Error::MalformedKey), "{error:?}");
}

#[tokio::test]
async fn core_16_core_17_core_18_actor_ids() {
    let told = [("first-form", "not-a-uuid"), ("refusal", ACTOR), ("another", OTHER), ("override", OTHER)];
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        if seen.path != "/sdk/grants/list" {
            return None;
        }
        let (what, id) = told[turn.fetch_add(1, Ordering::SeqCst) % told.len()];
        let play = match what {
            "refusal" => Play::json(403, &json!({"error": "insufficient_scope"})),
            _ => Play::json(200, &json!({"grants": [], "total": 0, "limit": 100, "offset": 0, "has_more": false})),
        };
        Some(play.header("x-alter-actor-id", id))
    })
    .await;
    let app = App::builder(KEY).base_url(server.base_url()).caller("billing").build().unwrap();
    for _ in 0..4 {
        let _either = app.list_grants(&GrantFilter::default()).await;
    }
    let sent: Vec<_> =
        server.at("/sdk/grants/list").iter().map(|s| s.headers.get("x-alter-actor-id").cloned()).collect();
    assert_eq!(sent, [None, None, Some(ACTOR.to_owned()), Some(ACTOR.to_owned())]);
    assert_eq!(app.actor_id(), Some(ACTOR));
}

#[tokio::test]
async fn core_20_a_call_without_a_body_is_signed_for_none() {
    let catalogue = json!({"scope_version": 1, "resources": {}, "action_verbs": ["tokens:retrieve"], "deprecated": []});
    let server = Server::start(move |_| Some(Play::json(200, &catalogue))).await;
    let scopes = app(&server).list_scopes().await.unwrap();
    assert_eq!(scopes.action_verbs, ["tokens:retrieve"]);
    let seen = &server.at("/sdk/scopes")[0];
    assert_eq!((&*seen.method, &*seen.body), ("GET", &b""[..]));
    assert!(!seen.headers.contains_key("content-type"));
}

#[tokio::test]
async fn core_21_core_23_refused_signatures_and_times_are_backend_errors() {
    for code in ["signature_invalid", "content_hash_mismatch", "timestamp_out_of_range", "nonce_replayed"] {
        let error = refusal(401, json!({"error": code, "message": "m"})).await;
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
        assert_eq!((error.status(), error.refusal().unwrap().code.as_deref()), (Some(401), Some(code)));
    }
}

#[tokio::test]
async fn core_25_an_unknown_key_keeps_its_hint() {
    let error = refusal(401, json!({"error": "invalid_key", "message": "m", "hint": "mint one"})).await;
    assert!(matches!(&error, Error::InvalidKey(refusal) if refusal.hint.as_deref() == Some("mint one")), "{error:?}");
    assert!(error.is("AgentError") && error.is("BackendError"));
}

#[tokio::test]
async fn core_26_core_27_the_least_answer_is_enough() {
    let least = json!({"access_token": "tok-secret-1", "grant_id": GRANT});
    let server = Server::start(move |seen| (seen.path == "/sdk/token").then(|| Play::json(200, &least))).await;
    let response = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    let headers = &body(&response)["headers"];
    assert_eq!(headers["authorization"], "Bearer tok-secret-1");
    assert!(headers["x-api-key"].is_null());
}

#[tokio::test]
async fn core_28_core_29_core_31_core_102_answers_that_break_the_contract() {
    let injection = |key: &str, target: &str| json!([{"target": target, "key": key, "value_source": "token"}]);
    for fields in [
        json!({"provider_id": null}),
        json!({"scopes": null}),
        json!({"token_type": null}),
        json!({"scope_mismatch": null}),
        json!({"injection_header": null}),
        json!({"injection_format": null}),
        json!({"expires_in": 3600.0}),
        json!({"expires_in": true}),
        json!({"expires_in": -1}),
        json!({"expires_at": "2026-11-24T10:00:00"}),
        json!({"grant_id": GRANT.to_uppercase()}),
        json!({"additional_injections":
            [{"target": "header", "key": "X-A", "value_source": "token", "more": 1}]}),
        json!({"additional_injections": injection("Cookie", "header")}),
        json!({"additional_injections": injection("X-A", "body")}),
        json!({"injection_format": "Bearer"}),
        json!({"additional_credentials": {"account": " "}}),
        json!({"injection_format": "AWS4-HMAC-SHA256", "additional_credentials": {"region": "r", "service": "s"}}),
    ] {
        let error = refused(release(&fields)).await;
        assert!(matches!(error, Error::Backend(_)), "{fields}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("tok-secret-1"));
    }
}

#[tokio::test]
async fn core_102_a_host_that_names_no_region_is_the_callers_matter() {
    let fields = |fields| json!({"injection_format": "AWS4-HMAC-SHA256", "additional_credentials": fields});
    for (given, wanted) in [
        (json!({"secret_key": "aws-secret", "service": "s3"}), "region"),
        (json!({"secret_key": "aws-secret", "region": "eu-west-1"}), "service"),
    ] {
        let server = releasing(fields(given)).await;
        let error = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
        assert!(matches!(&error, Error::Invalid(why) if why.contains(wanted)), "{error:?}");
        assert_eq!(error.classes(), ["AlterValueError", "AlterSDKError"]);
        assert!(server.at("/x").is_empty());
    }
    // Without a secret there is nothing to sign with, whatever else is missing: that is the vault's.
    let error = refused(release(&fields(json!({"session_token": "x"})))).await;
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
}

#[tokio::test]
async fn core_30_core_32_all_injections_and_unknown_fields() {
    let server = releasing(json!({
        "injection_header": "X-Token",
        "injection_format": "token={token}",
        "expires_in": 0,
        "expires_at": "2126-11-24T10:00:00.5+01:00",
        "scopes": ["a"],
        "something_new": {"a": [1]},
        "additional_injections": [
            {"target": "header", "key": "X-Again", "value_source": "token"},
            {"target": "query_param", "key": "key", "value_source": "token"},
        ],
    }))
    .await;
    let response = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    let seen = body(&response);
    assert_eq!(seen["headers"]["x-token"], "token=tok-secret-1");
    assert_eq!((&seen["headers"]["x-again"], &seen["query"]), (&json!("tok-secret-1"), &json!("key=tok-secret-1")));
}

#[tokio::test]
async fn core_33_a_grant_named_by_its_provider() {
    let server = releasing(json!({})).await;
    let app = app(&server);
    let request = app.request("GET", &server.url("/x")).provider("google").account("a@example.com").label("work");
    request.user_token("jwt").app_user_id("u-1").send().await.unwrap();
    let wanted = json!({
        "provider_id": "google", "account": "a@example.com", "label": "work", "user_token": "jwt", "app_user_id": "u-1",
        "reason": null, "request": {"method": "GET", "url": server.url("/x")},
    });
    assert_eq!(server.at("/sdk/token")[0].json(), wanted);
}

#[tokio::test]
async fn core_34_answers_without_json_and_redirects() {
    let html = Play { body: b"<html>".to_vec(), ..Play::empty(200) };
    for play in [html, Play::empty(204), Play::empty(307).header("location", "/elsewhere")] {
        let error = refused(play).await;
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
    }
}

#[tokio::test]
async fn core_35_retry_info_is_shown_or_ignored() {
    let good = json!({"total_attempts": 2, "successful_attempt": 2, "errors": []});
    let server = releasing(json!({"retry_info": good})).await;
    let client = app(&server);
    let response = client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    assert_eq!(response.retry_info.as_ref().unwrap().total_attempts, 2);
    assert_eq!(client.last_retry_info(), response.retry_info);
    let server = releasing(json!({"retry_info": ["malformed"]})).await;
    let response = app(&server).request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    assert_eq!(response.retry_info, None);
}

#[tokio::test]
async fn core_36_an_unknown_grant() {
    let fields = json!({"error": "grant_not_found", "message": "m", "provider_id": "google", "app_user_id": "u"});
    let Error::GrantNotFound { provider_id, agent_id, app_user_id, .. } = refusal(404, fields).await else { panic!() };
    assert_eq!((provider_id.as_deref(), agent_id, app_user_id.as_deref()), (Some("google"), None, Some("u")));
}

#[tokio::test]
async fn core_37_core_39_a_401_of_the_provider() {
    let (outcome, server) = provider_says(challenge("Bearer error=\"invalid_token\"", 401), json!({})).await;
    let Err(Error::ProviderUnauthorized { grant_id, provider_id, response }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*grant_id, &*provider_id, response.status), (GRANT, "demo", 401));
    assert_eq!(response.text(), r#"{"error":"theirs"}"#);
    assert_eq!((server.at("/provider").len(), server.at("/sdk/token").len()), (1, 1));
    let (outcome, _) = provider_says(challenge(INSUFFICIENT, 401), json!({})).await;
    assert!(matches!(outcome, Err(Error::ProviderApi { .. })), "{outcome:?}");
}

#[tokio::test]
async fn core_38_a_provider_that_misses_a_scope_is_reported() {
    let (outcome, server) = provider_says(challenge(INSUFFICIENT, 403), json!({})).await;
    let Err(Error::ScopeReauthRequired { grant_id, missing_scopes, response, .. }) = outcome else { panic!() };
    assert_eq!(grant_id.as_deref(), Some(GRANT));
    assert_eq!(missing_scopes.unwrap(), ["mail:read", "mail:send"]);
    assert_eq!(response.unwrap().status, 403);
    let mut report = server.at(&format!("/sdk/grants/{GRANT}/report-scope-mismatch"))[0].json();
    let correlation = report.as_object_mut().unwrap().remove("sdk_correlation_id").unwrap();
    assert_eq!(correlation.as_str().unwrap().len(), 22);
    let wanted = json!({
        "provider_status_code": 403, "provider_error_code": "insufficient_scope",
        "missing_scopes": ["mail:read", "mail:send"], "raw_www_authenticate": INSUFFICIENT,
        "api_endpoint": server.url("/provider"), "detection_source": "www_authenticate_rfc6750",
    });
    assert_eq!(report, wanted);
    assert_eq!(server.at(REPORT).len(), 1);
}

#[tokio::test]
async fn core_40_core_41_other_answers_of_the_provider() {
    let (outcome, server) = provider_says(Play::json(403, &json!({})), json!({"scope_mismatch": true})).await;
    let Err(Error::ScopeReauthRequired { missing_scopes: None, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(server.at(&format!("/sdk/grants/{GRANT}/report-scope-mismatch")).is_empty());
    for status in [400, 403, 404, 500, 503] {
        let (outcome, server) = provider_says(Play::json(status, &json!({"why": "theirs"})), json!({})).await;
        let Err(Error::ProviderApi { response }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((response.status, response.text()), (status, r#"{"why":"theirs"}"#.to_owned()));
        assert_eq!(
            (server.at("/provider").len(), server.at(REPORT)[0].json()["response_status"].as_u64()),
            (1, Some(status.into()))
        );
    }
    let (outcome, server) = provider_says(Play::empty(302).header("location", "/elsewhere"), json!({})).await;
    assert_eq!(outcome.unwrap().status, 302);
    assert!(server.at("/elsewhere").is_empty());
}

#[tokio::test]
async fn core_41_any_status_is_an_answer_when_asked_for() {
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        "/provider" => Some(Play::json(418, &json!({}))),
        _ => None,
    })
    .await;
    let response = app(&server).request("GET", &server.url("/provider")).grant_id(GRANT).any_status().send().await;
    assert_eq!(response.unwrap().status, 418);
}

#[tokio::test]
async fn core_42_an_unreachable_provider_is_reported_with_status_0() {
    let server = releasing(json!({})).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = app(&server);
    let outcome = client.request("GET", &format!("http://{closed}/x")).grant_id(GRANT).send().await;
    assert!(matches!(&outcome, Err(Error::Network { nothing_sent: true, .. })), "{outcome:?}");
    client.close().await;
    assert_eq!((server.at("/sdk/token").len(), &server.at(REPORT)[0].json()["response_status"]), (1, &json!(0)));
}

#[tokio::test]
async fn core_43_a_report_that_is_not_taken_harms_nothing() {
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        REPORT => Some(Play::json(500, &json!({"error": "internal"}))),
        _ => None,
    })
    .await;
    let client = app(&server);
    client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    client.close().await;
    assert_eq!(server.at(REPORT).len(), 1);
}

#[tokio::test]
async fn core_44_the_report_holds_the_call_and_no_credential() {
    let server = releasing(json!({"token_generation": GRANT})).await;
    let client = app(&server);
    let request = client.request("GET", &server.url("/x")).grant_id(GRANT).reason("why").context("run_id", "r-1");
    request.header("cookie", "c").send().await.unwrap();
    client.close().await;
    let report = server.at(REPORT)[0].json();
    assert_eq!((&report["token_generation"], &report["request_headers"]), (&json!(GRANT), &json!({})));
    assert_eq!((&report["reason"], &report["context"]), (&json!("why"), &json!({"run_id": "r-1"})));
    assert!(!report.to_string().contains("tok-secret-1"), "{report}");
}

#[tokio::test]
async fn core_45_core_46_what_is_refused_here_is_never_sent() {
    let server = releasing(json!({})).await;
    let client = app(&server);
    let error = client.request("GET", "http://example.com/x").grant_id(GRANT).send().await.unwrap_err();
    assert!(error.is("AlterValueError"), "{error:?}");
    let builder = || App::builder(KEY).base_url(server.base_url());
    let failing = builder().user_token_getter(|| async { Err("no session".into()) }).build().unwrap();
    let empty = builder().user_token_getter(|| async { Ok(String::new()) }).build().unwrap();
    for client in [failing, empty] {
        let error = client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap_err();
        assert!(matches!(error, Error::UserToken { .. }), "{error:?}");
        assert!(matches!(client.list_grants(&GrantFilter::default()).await, Err(Error::UserToken { .. })));
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn core_47_core_48_core_49_core_51_core_53_core_56_core_57_classes_by_status_and_code() {
    for (status, code, class) in [
        (400, "grant_revoked", "GrantRevokedError"),
        (403, "grant_revoked", "GrantRevokedError"),
        (401, "key_revoked", "KeyRevokedError"),
        (401, "key_expired", "KeyExpiredError"),
        (401, "key_rotated_grace_expired", "KeyRotationExpiredError"),
        (401, "key_not_active", "KeyInactiveError"),
        (401, "agent_inactive", "AgentInactiveError"),
        (401, "agent_revoked", "AgentRevokedError"),
        (401, "jwt_validation_error", "ReAuthRequiredError"),
        (404, "caller_agent_unresolved", "AgentNotFoundError"),
        (404, "agent_not_found", "AgentNotFoundError"),
        (410, "whatever", "GrantDeletedError"),
        (400, "restricted_grant_requires_proxy", "RestrictedGrantRequiresProxyError"),
        (400, "delegated_grant_requires_proxy", "RestrictedGrantRequiresProxyError"),
        (400, "hitl_grant_requires_proxy", "RestrictedGrantRequiresProxyError"),
        (400, "user_limits_require_proxy", "RestrictedGrantRequiresProxyError"),
    ] {
        let error = refusal(status, json!({"error": code, "message": "m"})).await;
        assert_eq!(error.classes()[0], class, "{status} {code}: {error:?}");
    }
    let error = refusal(403, json!({"error": "tenant_mismatch", "message": "m"})).await;
    assert!(matches!(&error, Error::PolicyViolation { policy_error: Some(code), .. } if code == "tenant_mismatch"));
    let error = refused(Play { body: b"<html>".to_vec(), ..Play::empty(403) }).await;
    assert!(matches!(error, Error::PolicyViolation { policy_error: None, .. }), "{error:?}");
}

#[tokio::test]
async fn core_50_missing_scopes() {
    let fields = json!({"error": "insufficient_scope", "required": ["a:b"], "granted": ["c:d"], "missing": ["a:b"],
        "scope_version": 1, "current_scope_version": 2, "scope_version_mismatch": true, "required_any_of": "yes"});
    let Error::InsufficientScope {
        missing,
        granted,
        current_scope_version,
        scope_version_mismatch,
        required_any_of,
        ..
    } = refusal(403, fields).await
    else {
        panic!()
    };
    assert_eq!((&*missing[0], &*granted[0], current_scope_version), ("a:b", "c:d", Some(2)));
    assert_eq!((scope_version_mismatch, required_any_of), (true, false));
}

#[tokio::test]
async fn core_52_fields_of_403() {
    let error = refusal(403, json!({"error": "grant_expired", "provider_id": "p", "app_user_id": "u"})).await;
    assert!(matches!(&error, Error::GrantExpired { provider_id: Some(p), app_user_id: Some(u), agent_id: None, .. }
        if p == "p" && u == "u"));
    assert!(error.is("ReAuthRequiredError"));
    let error = refusal(403, json!({"error": "credential_revoked", "grant_id": "g", "provider_id": "p"})).await;
    assert!(matches!(&error, Error::CredentialRevoked { grant_id: Some(g), .. } if g == "g"), "{error:?}");
    let error =
        refusal(403, json!({"error": "scope_mismatch", "details": {"grant_id": "g", "provider_id": "p"}})).await;
    assert!(matches!(&error, Error::ScopeReauthRequired { grant_id: Some(g), provider_id: Some(p), .. }
        if g == "g" && p == "p"));
    let error = refusal(403, json!({"error": "step_up_required", "max_session_age_seconds": 300})).await;
    assert!(matches!(error, Error::StepUpRequired { max_session_age_seconds: Some(300), .. }), "{error:?}");
    assert!(error.is("PolicyViolationError"));
    let error = refusal(403, json!({"error": "redact_discharge_failed"})).await;
    assert!(matches!(error, Error::RedactDischargeFailed(_)) && error.is("PolicyViolationError"));
    let error = refusal(403, json!({"error": "grant_not_delegable", "detail_reason": "ceiling_off"})).await;
    assert!(matches!(&error, Error::GrantNotDelegable { detail_reason: Some(r), .. } if r == "ceiling_off"));
}

#[tokio::test]
async fn core_53_core_54_core_55_grants_that_are_not_one() {
    let error = refusal(404, json!({"error": "no_delegated_grant", "provider_id": "p", "agent_id": "a"})).await;
    assert!(
        matches!(&error, Error::NoDelegatedGrant { provider_id: Some(p), agent_id: Some(a), .. } if p == "p" && a == "a")
    );
    let fields = json!({"error": "ambiguous_grant", "provider_id": "p", "account_identifiers": ["a", "b"],
        "account_was_provided": true, "grant_ids": [GRANT], "candidates_truncated": 1,
        "candidates": [{"grant_id": GRANT, "label": "work"}, {"label": "no id"}, "x"]});
    let Error::AmbiguousGrant {
        account_identifiers,
        account_was_provided,
        grant_ids,
        candidates,
        candidates_truncated,
        ..
    } = refusal(409, fields).await
    else {
        panic!()
    };
    assert_eq!((account_identifiers.len(), account_was_provided, &*grant_ids[0]), (2, true, GRANT));
    assert_eq!((candidates.len(), candidates[0].label.as_deref(), candidates_truncated), (1, Some("work"), false));
    let error = refusal(409, json!({"error": "token_refresh_in_progress", "grant_id": "g"})).await;
    assert!(matches!(&error, Error::TokenRefreshInProgress { grant_id: Some(g), .. } if g == "g"));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn core_58_a_destination_that_is_not_allowed() {
    for fields in [
        json!({"error": "blocked_destination", "message": "m"}),
        json!({"detail": {"error": "blocked_destination", "message": "m"}}),
    ] {
        let error = refused(Play::json(422, &fields).header("x-request-id", "r-1")).await;
        assert!(matches!(&error, Error::BlockedDestination(refusal) if refusal.request_id.as_deref() == Some("r-1")));
    }
}

#[tokio::test]
async fn core_59_core_60_core_61_rates_and_quotas() {
    let limited = |code: &str| {
        Play::json(
            429,
            &json!({"error": code, "retry_after": 7, "scope": "api_key", "limit": 60, "window_seconds": 60}),
        )
    };
    let seconds = |error: &Error| error.retry_after().map(|after| after.as_secs());
    let error = refused(limited("rate_limit_exceeded").header("retry-after", "00011")).await;
    assert_eq!(seconds(&error), Some(11));
    assert!(
        matches!(&error, Error::RateLimit { scope: Some(s), limit: Some(60), window_seconds: Some(60), .. } if s == "api_key")
    );
    for (play, wanted) in [
        (limited("rate_limit_exceeded").header("retry-after", "9999999"), Some(3_600)),
        (limited("quota_exceeded").header("retry-after", "9999999"), Some(2_678_400)),
        (
            Play::json(429, &json!({"error": "rate_limit_exceeded"}))
                .header("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
            None,
        ),
        (Play { body: b"<html>".to_vec(), ..Play::empty(429) }, None),
    ] {
        let error = refused(play).await;
        assert!(matches!(error, Error::RateLimit { .. } | Error::QuotaExceeded { .. }), "{error:?}");
        assert_eq!(seconds(&error), wanted);
    }
    let error = refusal(429, json!({"error": "too_many_pending_approvals"})).await;
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
}

#[tokio::test]
async fn core_62_a_busy_vault_and_a_slow_one() {
    let error = refused(Play::json(503, &json!({"error": "busy"})).header("retry-after", "2")).await;
    assert_eq!(error.refusal().unwrap().details["retry_after_seconds"], 2);
    assert!(error.is_retryable());
    let error = refusal(504, json!({"error": "upstream_timeout", "timeout_reason": "upstream_timeout"})).await;
    assert!(matches!(&error, Error::Backend(refusal) if refusal.details["timeout_reason"] == "upstream_timeout"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn core_63_codes_of_configuration_are_backend_errors_of_a_release() {
    for (status, code) in [(409, "managed_oauth_scope_approval_required"), (404, "secret_not_found")] {
        let error = refusal(status, json!({"error": code, "message": "m"})).await;
        assert!(matches!(error, Error::Backend(_)), "{code}: {error:?}");
    }
}

/// One page of grants, as `change` leaves it.
async fn listed(change: impl FnOnce(&mut Value)) -> Result<Vec<grantd_sdk::Grant>, Error> {
    let at = "2026-11-24T10:00:00.000Z";
    let mut page = json!({"total": 2, "limit": 100, "offset": 0, "has_more": false, "grants": [
        {"grant_kind": "managed_secret", "grant_id": GRANT, "managed_secret_id": OTHER, "managed_secret_slug": "stripe",
         "managed_secret_name": "Stripe", "status": "active", "created_at": at, "principal_type": "group"},
        {"grant_kind": "oauth", "grant_id": OTHER, "provider_id": "google", "status": "revoked", "created_at": at,
         "principal_type": "user", "needs_reconnect": true},
    ]});
    change(&mut page);
    let server = Server::start(move |_| Some(Play::json(200, &page))).await;
    Ok(app(&server).list_grants(&GrantFilter::default()).await?.grants)
}

#[tokio::test]
async fn core_79_pages_of_grants() {
    let grants = listed(|_| {}).await.unwrap();
    assert_eq!((&*grants[0].grant_kind, grants[0].managed_secret_name.as_deref()), ("managed_secret", Some("Stripe")));
    assert_eq!((grants[1].provider_id.as_deref(), &grants[1].more["needs_reconnect"]), (Some("google"), &json!(true)));
    let changes: [fn(&mut Value); 5] = [
        |page| drop(page["grants"][0].as_object_mut().unwrap().remove("grant_kind")),
        |page| page["grants"][0]["grant_kind"] = json!("of-the-future"),
        |page| page["grants"][1]["principal_type"] = json!("group"),
        |page| drop(page["grants"][0].as_object_mut().unwrap().remove("managed_secret_slug")),
        |page| drop(page.as_object_mut().unwrap().remove("has_more")),
    ];
    for change in changes {
        let error = listed(change).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{error:?}");
    }
}

#[tokio::test]
async fn core_80_the_getters_token_goes_along() {
    let server = Server::start(|seen| match &*seen.path {
        "/sdk/token" => Some(release(&json!({}))),
        "/sdk/grants/list" => {
            Some(Play::json(200, &json!({"grants": [], "total": 0, "limit": 1, "offset": 0, "has_more": false})))
        }
        _ => None,
    })
    .await;
    let builder = App::builder(KEY).base_url(server.base_url());
    let client = builder.user_token_getter(|| async { Ok("jwt-1".to_owned()) }).build().unwrap();
    client.list_grants(&GrantFilter::default()).await.unwrap();
    let filter = GrantFilter { user_token: Some("jwt-2".to_owned()), ..GrantFilter::default() };
    client.list_grants(&filter).await.unwrap();
    assert!(!format!("{filter:?}").contains("jwt-2"));
    client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    let _refused = client.revoke_grant(GRANT, None).await;
    let tokens = |path: &str| server.at(path).iter().map(|s| s.json()["user_token"].clone()).collect::<Vec<_>>();
    assert_eq!(tokens("/sdk/grants/list"), ["jwt-1", "jwt-2"]);
    assert_eq!(tokens("/sdk/token"), ["jwt-1"]);
    assert_eq!(tokens(&format!("/sdk/oauth/grants/{GRANT}/revoke")), ["jwt-1"]);
}

#[tokio::test]
async fn core_81_answers_of_a_revoke() {
    let good = json!({"success": true, "message": "Revoked.", "grant_id": GRANT, "revoked_at": "2026-11-24T10:00:00Z"});
    let answers = |play: Play| async move {
        let server = Server::start(move |_| Some(play.clone())).await;
        app(&server).revoke_grant(GRANT, Some("left")).await
    };
    assert_eq!(answers(Play::json(200, &good)).await.unwrap().grant_id, GRANT);
    for field in ["success", "message", "grant_id", "revoked_at"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(field);
        let error = answers(Play::json(200, &bad)).await.unwrap_err();
        assert!(matches!(error, Error::Backend(_)), "{field}: {error:?}");
    }
    assert!(matches!(answers(Play::empty(204)).await, Err(Error::Backend(_))));
}

#[tokio::test]
async fn core_83_core_84_a_grant_on_a_managed_secret() {
    let made = json!({"grant_id": GRANT, "principal_type": "system", "label": null,
        "created_at": "2026-11-24T10:00:00Z", "credential_id": OTHER});
    let server = Server::start(move |_| Some(Play::json(201, &made))).await;
    let client = app(&server);
    let policy = GrantPolicy { max_ttl_seconds: Some(60), ..GrantPolicy::default() };
    let named = |text: &str| text.to_owned();
    for (principal, grant_policy, credential_id, wanted) in [
        (
            Principal::System { label: None },
            GrantPolicy::default(),
            None,
            json!({"principal": {"type": "system", "label": null}, "grant_policy": {}}),
        ),
        (
            Principal::User { user_token: named("jwt"), label: named("l") },
            policy,
            Some(named(OTHER)),
            json!({"principal": {"type": "user", "user_token": "jwt", "label": "l"},
                "grant_policy": {"max_ttl_seconds": 60}, "credential_id": OTHER}),
        ),
        (
            Principal::Group { external_group_id: named("g"), idp_id: named("i"), label: named("l") },
            policy,
            None,
            json!({"principal": {"type": "group", "external_group_id": "g", "idp_id": "i", "label": "l"},
                "grant_policy": {"max_ttl_seconds": 60}}),
        ),
    ] {
        let ask = SecretGrantRequest { principal, grant_policy, credential_id };
        assert_eq!(client.create_managed_secret_grant("stripe", &ask).await.unwrap().grant_id, GRANT);
        assert_eq!(server.at("/sdk/managed-secrets/stripe/grants").last().unwrap().json(), wanted);
    }

    let ask = || SecretGrantRequest {
        principal: Principal::System { label: Some("nightly".to_owned()) },
        grant_policy: GrantPolicy::default(),
        credential_id: None,
    };
    let answers = |status: u16, fields: Value| async move {
        let server = Server::start(move |_| Some(Play::json(status, &fields))).await;
        app(&server).create_managed_secret_grant("stripe", &ask()).await.unwrap_err()
    };
    let choices = json!({"error": "credential_id_required", "details": {"credentials": [{"id": "c", "label": "l"}]}});
    let Error::CredentialIdRequired { credentials, .. } = answers(409, choices).await else { panic!() };
    assert_eq!((&*credentials[0].id, credentials[0].label.as_deref()), ("c", Some("l")));
    let error = answers(409, json!({"error": "sibling_label_conflict"})).await;
    assert!(matches!(&error, Error::SiblingLabelConflict { label: Some(l), .. } if l == "nightly"), "{error:?}");
    let error = answers(404, json!({"error": "secret_not_found"})).await;
    assert!(error.is("ConnectConfigError") && !error.is("BackendError"), "{error:?}");
    for bad in ["", "a/b", "..", "a b", &"x".repeat(256)] {
        assert!(matches!(client.create_managed_secret_grant(bad, &ask()).await, Err(Error::Invalid(_))), "{bad}");
    }
}

#[tokio::test]
async fn ext_46_constraints_ride_on_every_call_signed() {
    let server = releasing(json!({})).await;
    let constraints = Constraints::new().scopes(["tokens:retrieve"]).rule("json_match", &json!({"effect": "deny"}));
    let whole = App::builder(KEY).base_url(server.base_url()).caller("billing").build().unwrap();
    let narrow = whole.with_constraints(&constraints).unwrap();
    narrow.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    narrow.close().await;
    for path in ["/sdk/token", REPORT] {
        let headers = &server.at(path)[0].headers;
        assert_eq!(headers["x-alter-scope-constraints"], "tokens:retrieve");
        assert!(headers.contains_key("x-alter-request-rule"));
    }
    whole.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    assert!(!server.at("/sdk/token")[1].headers.contains_key("x-alter-scope-constraints"));
    let again = narrow.with_constraints(&constraints).unwrap_err();
    assert!(again.to_string().contains("constraints already"), "{again}");
}

#[tokio::test]
async fn ext_35_ext_51_what_every_answer_may_tell() {
    let server = Server::start(|seen| {
        let play = (seen.path == "/sdk/token").then(|| release(&json!({})))?;
        let play = play.header("x-alter-key-deprecated", "true").header("x-ratelimit-limit", "60");
        Some(play.header("x-ratelimit-remaining", "59").header("x-ratelimit-reset", "1700000000"))
    })
    .await;
    let client = app(&server);
    assert!(client.last_rate_limit().is_none() && !client.is_key_deprecated());
    client.request("GET", &server.url("/x")).grant_id(GRANT).send().await.unwrap();
    let state = client.last_rate_limit().unwrap();
    assert_eq!((state.limit, state.remaining), (60, 59));
    assert!(client.is_key_deprecated());
}
