//! Single sign-on of operators: at a scripted issuer on loopback, from the button to a session, and every way that it comes to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::destination::OutboundAllow;
use grantd_domain::secret::Secret;
use grantd_server::{Settings, SsoSettings};
use grantd_wire::limits;
use serde_json::{Value, json};

use crate::harness::browser::between;
use crate::harness::issuer::CLIENT_SECRET;
use crate::harness::world::{merged, text};
use crate::harness::{Answer, Raw, Server};
use crate::portal::{Browser, form, is_sent_to_sign_in, is_sound};
use crate::portal_account::held;
use crate::sign_in::{Idp, started};

in_memory! {
    what_the_issuer_says_decides,
    a_public_client_and_the_names_of_the_issuer,
    an_answer_is_of_one_browser_and_counts_once,
    an_issuer_that_is_away_is_told_and_asked_again_later,
    only_a_new_proof_confirms,
}

on_kept_engines! {
    whoever_the_issuer_vouches_for_is_known_by_their_subject,
}

/// What the tests' issuer gave this server.
const CLIENT: &str = "client-1";
const DOCUMENT: &str = "/.well-known/openid-configuration";
pub const CALLBACK: &str = "/portal/sign-in/sso";
const MINUTE_MS: i64 = 60_000;

fn document(idp: &Idp, more: Value) -> String {
    let url = idp.url();
    let said = json!({
        "issuer": url, "authorization_endpoint": "https://id.example.com/authorize", "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"), "token_endpoint_auth_methods_supported": ["client_secret_post"],
    });
    merged(said, more).to_string()
}

/// A server at which operators sign in at the issuer.
pub async fn acme(server: &Server) -> (Server, Idp) {
    let idp = started().await;
    idp.issuer.publish(DOCUMENT, document(&idp, json!({})));
    let server = process(server, &idp, "sso", |_| {}).await;
    (server, idp)
}

pub async fn process(server: &Server, idp: &Idp, name: &str, change: impl FnOnce(&mut SsoSettings)) -> Server {
    server.another(name, |settings| set_up(settings, idp, change)).await
}

pub fn set_up(settings: &mut Settings, idp: &Idp, change: impl FnOnce(&mut SsoSettings)) {
    let mut sso = SsoSettings {
        issuer: idp.url(),
        client_id: CLIENT.to_owned(),
        client_secret: Some(Arc::new(Secret::new(CLIENT_SECRET.to_owned()))),
        name: "Acme ID".to_owned(),
        domains: Vec::new(),
        is_required: false,
    };
    change(&mut sso);
    settings.outbound = OutboundAllow::parse(&[format!("127.0.0.1:{}", idp.issuer.port)]).unwrap();
    settings.sso = Some(sso);
}

/// A browser on its way: what it is known by, and what the issuer was asked.
pub struct Away {
    pub cookie: String,
    pub asked: BTreeMap<String, String>,
}

pub fn away(left: &Answer) -> Away {
    assert_eq!(left.status, 200, "{}", left.text);
    is_sound("leaving", &left.text);
    let cookie = left.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"), "{cookie}");
    let link = between(&left.text, "url=", "\"").replace("&#x2f;", "/").replace("&amp;", "&");
    let (at, query) = link.split_once('?').unwrap();
    assert_eq!(at, "https://id.example.com/authorize");
    Away {
        cookie: cookie.split(';').next().unwrap().to_owned(),
        asked: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
    }
}

pub async fn leave(server: &Server) -> Away {
    away(&server.send(form("", CALLBACK, &[])).await)
}

pub async fn come_back(server: &Server, cookie: &str, params: &[(&str, &str)]) -> Answer {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    server.send(Raw::new("GET", &format!("{CALLBACK}?{query}"), "").set("cookie", cookie)).await
}

/// What the token says of Ann beside the nonce.
pub fn ann(nonce: &str) -> Value {
    json!({"nonce": nonce, "email_verified": true})
}

/// Comes back with a token that says `more` than that it is Ann, whose address is verified; of what is null there, nothing.
pub async fn back_with(server: &Server, idp: &Idp, away: &Away, more: Value) -> Answer {
    let mut said = ann(&away.asked["nonce"]);
    for (name, value) in more.as_object().unwrap() {
        said[name] = value.clone();
    }
    idp.issues(&idp.token(server, said));
    come_back(server, &away.cookie, &[("code", "canary-code"), ("state", &away.asked["state"])]).await
}

/// There and back.
pub async fn trip(server: &Server, idp: &Idp, more: Value) -> Answer {
    let away = leave(server).await;
    back_with(server, idp, &away, more).await
}

/// The browser that came back signed in.
#[track_caller]
pub fn signed_in(server: &Server, back: &Answer) -> Browser {
    assert_eq!(back.status, 200, "{}", back.text);
    is_sound("back", &back.text);
    let cookie = back.header("set-cookie").strip_prefix("grantd_portal=").unwrap_or_else(|| panic!("{}", back.text));
    Browser { server: server.clone(), cookie: cookie.split(';').next().unwrap().to_owned() }
}

#[track_caller]
pub fn is_refused(back: &Answer, status: u16, code: &str, title: &str) {
    assert_eq!(back.status, status, "{}", back.text);
    assert!(back.text.contains(title) && back.text.contains(code), "{code}: {}", back.text);
    assert!(!back.header("set-cookie").contains("grantd_portal="), "nobody is signed in");
    is_sound(code, &back.text);
}

pub async fn operator(server: &Server, email: &str) -> String {
    let made = server.api("POST", "/api/v1/operators", json!({"email": email, "role": "developer"})).await.ok(201);
    text(&made, "id")
}

/// The page's sentences: what is put into them stands by itself.
pub fn sentences(page: &str) -> String {
    page.replace("<bdi>", "").replace("</bdi>", "")
}

async fn told_of(server: &Server, kind: &str) -> Vec<Value> {
    let events = server.events("/api/v1/audit/export").await;
    events.into_iter().filter(|event| event["core"]["kind"] == kind).collect()
}

async fn whoever_the_issuer_vouches_for_is_known_by_their_subject(server: Server) {
    let (server, idp) = acme(&server).await;
    let id = operator(&server, "ann@example.com").await;
    let page = server.send(Raw::new("GET", "/portal/sign-in?to=/portal/tokens", "")).await;
    is_sound("sign-in", &page.text);
    assert!(sentences(&page.text).contains("Sign in with Acme ID"), "{}", page.text);

    let away = away(&server.send(form("", CALLBACK, &[("to", "/portal/tokens")])).await);
    for (name, value) in [
        ("client_id", CLIENT),
        ("response_type", "code"),
        ("redirect_uri", "http://127.0.0.1:8080/portal/sign-in/sso"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(away.asked[name], value);
    }
    assert!(!away.asked.contains_key("prompt"), "whoever is signed in there is asked nothing");
    let back = back_with(&server, &idp, &away, json!({"email": "Ann@Example.com"})).await;
    assert!(back.text.contains("0;url=&#x2f;portal&#x2f;tokens\""), "{}", back.text);
    let browser = signed_in(&server, &back);
    let sent = &idp.issuer.calls("/token")[0];
    assert_eq!((&*sent["code"], &*sent["client_secret"]), ("canary-code", CLIENT_SECRET));
    assert!(sent["code_verifier"].len() == 43 && sent["redirect_uri"].ends_with(CALLBACK));
    assert!(browser.page("/portal/sessions").await.contains("data-label=\"By\">Single sign-on<"));
    let account = sentences(&browser.page("/portal/account").await);
    assert!(
        account.contains("You sign in with Acme ID; the first time was") && account.contains("user-1"),
        "{account}"
    );

    assert!(!browser.page("/portal/apps").await.contains("You sign in by links alone"));

    // Another address there is no other person, and somebody else with the address is not this one.
    signed_in(&server, &trip(&server, &idp, json!({"email": "new@example.com"})).await);
    signed_in(&server, &trip(&server, &idp, json!({"email": null, "email_verified": null})).await);
    let other = json!({"sub": "user-2"});
    let refused = trip(&server, &idp, other.clone()).await;
    is_refused(&refused, 403, "other_account", "Another account there is known as you");
    assert_eq!(server.database.number("SELECT COUNT(*) FROM operator_identities").await, 1);

    // Until the binding is removed, by who has just proved who they are.
    assert_eq!(browser.post("/portal/account/sso/remove", &[]).await.status, 401, "nobody told when they did");
    let at = server.now().0.div_euclid(1000);
    let browser = signed_in(&server, &trip(&server, &idp, json!({"auth_time": at})).await);
    let removed = browser.post("/portal/account/sso/remove", &[]).await;
    assert_eq!(removed.header("location"), "/portal/account?done=sso_removed", "{}", removed.text);
    assert!(sentences(&browser.page("/portal/account").await).contains("You have not signed in with Acme ID yet"));
    assert_eq!(browser.post("/portal/account/sso/remove", &[]).await.status, 404);
    signed_in(&server, &trip(&server, &idp, other).await);
    is_refused(&trip(&server, &idp, json!({})).await, 403, "other_account", "Another account");

    let ways: Vec<Value> =
        told_of(&server, "operator.signed_in").await.iter().map(|e| e["core"]["sign_in"].clone()).collect();
    assert_eq!(ways, vec!["sso"; 5]);
    let methods =
        async |kind| told_of(&server, kind).await.iter().map(|e| e["core"]["method"].clone()).collect::<Vec<_>>();
    assert_eq!(methods("sign_in_method.added").await, ["sso", "sso"]);
    assert_eq!(methods("sign_in_method.removed").await, ["sso"]);
    let refused = told_of(&server, "operator.sign_in_refused").await;
    assert_eq!(refused.len(), 1, "of one source in one minute");
    assert_eq!(refused[0]["core"]["why"], "other_account");
    assert_eq!(refused[0]["private"]["account"], "ann@example.com");
    // Who has a way of their own to sign in needs no link of an admin's.
    let link = server.api("POST", &format!("/api/v1/operators/{id}/login-link"), json!({})).await;
    assert_eq!(link.status, 409, "{}", link.text);
}

async fn what_the_issuer_says_decides(server: Server) {
    let (server, idp) = acme(&server).await;
    let limited = process(&server, &idp, "sso-limited", |sso| sso.domains = vec!["example.org".to_owned()]).await;
    operator(&server, "ann@example.com").await;
    let ben = operator(&server, "ben@example.com").await;
    server.api("PATCH", &format!("/api/v1/operators/{ben}"), json!({"disabled": true})).await.ok(200);
    let now_s = server.now().0.div_euclid(1000);
    let mut whys = Vec::new();
    for (of, more, status, code, title) in [
        (&server, json!({"iss": "https://evil.example"}), 403, "invalid_token (issuer)", "does not count here"),
        (&server, json!({"aud": "another"}), 403, "invalid_token (audience)", "does not count here"),
        (&server, json!({"azp": "another"}), 403, "invalid_token (audience)", "does not count here"),
        (&server, json!({"aud": [CLIENT, "another"]}), 403, "invalid_token (audience)", "does not count here"),
        (&server, json!({"exp": now_s - 61}), 403, "invalid_token (expired)", "does not count here"),
        (&server, json!({"exp": null}), 403, "invalid_token (exp_missing)", "does not count here"),
        (&server, json!({"nonce": "another"}), 403, "invalid_token (nonce)", "does not count here"),
        (&server, json!({"nonce": null}), 403, "invalid_token (nonce)", "does not count here"),
        (&server, json!({"sub": ""}), 403, "invalid_token (subject)", "does not count here"),
        (&server, json!({"email_verified": false}), 403, "email_not_verified", "is not verified"),
        (&server, json!({"email_verified": "true"}), 403, "email_not_verified", "is not verified"),
        (&server, json!({"email_verified": null}), 403, "email_not_verified", "is not verified"),
        (&server, json!({"email": null}), 403, "email_not_verified", "is not verified"),
        (&server, json!({"email": "eve@example.com"}), 403, "unknown_operator", "You are not an operator here"),
        (&server, json!({"email": "ben@example.com"}), 403, "operator_disabled", "You are locked out here"),
        (&limited, json!({}), 403, "email_domain", "may not sign in so"),
    ] {
        is_refused(&trip(of, &idp, more).await, status, code, title);
        whys.push(code.split(' ').next().unwrap().to_owned());
        server.advance_ms(MINUTE_MS);
    }
    // A signature of somebody else's, and no token at all.
    let away = leave(&server).await;
    let token = idp.token(&server, ann(&away.asked["nonce"]));
    let (signed, _) = token.rsplit_once('.').unwrap();
    idp.issues(&format!("{signed}.{}", "A".repeat(86)));
    let params = [("code", "c"), ("state", away.asked["state"].as_str())];
    is_refused(&come_back(&server, &away.cookie, &params).await, 403, "invalid_token (signature)", "does not count");
    let away = leave(&server).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    let params = [("code", "c"), ("state", away.asked["state"].as_str())];
    is_refused(&come_back(&server, &away.cookie, &params).await, 403, "invalid_response", "does not count here");
    server.advance_ms(MINUTE_MS);
    whys.extend(["invalid_token", "invalid_response"].map(str::to_owned));
    // What the issuer says instead of a code.
    for (params, status, code, title) in [
        (vec![("error", "access_denied")], 403, "access_denied", "You did not sign in"),
        (vec![("error", "temporarily_unavailable")], 503, "service_unavailable", "It cannot be reached"),
        (vec![("error", "unauthorized_client")], 503, "invalid_client (unauthorized_client)", "is not set up right"),
        (vec![("error", "interaction_required")], 403, "provider_refused (interaction_required)", "It refused"),
        (vec![("error", "<b>Evil</b>")], 403, "provider_refused (other)", "It refused"),
        (vec![("code", "c"), ("iss", "https://evil.example")], 403, "invalid_response", "does not count here"),
        (vec![], 403, "invalid_response", "does not count here"),
    ] {
        let away = leave(&server).await;
        let params: Vec<_> = params.into_iter().chain([("state", away.asked["state"].as_str())]).collect();
        is_refused(&come_back(&server, &away.cookie, &params).await, status, code, title);
        whys.push(code.split(' ').next().unwrap().to_owned());
        server.advance_ms(MINUTE_MS);
    }
    let refused = told_of(&server, "operator.sign_in_refused").await;
    let refused: Vec<String> = refused.iter().map(|event| text(&event["core"], "why")).collect();
    assert_eq!(refused, whys, "each is in the trail");
    // From one source once in a minute, so that nobody fills it; of another reason, from another source, and a minute later again.
    let declined = async |ip: &str| {
        let away = leave(&server).await;
        let query = format!("{CALLBACK}?error=access_denied&state={}", away.asked["state"]);
        let back = server.send(Raw::new("GET", &query, "").set("cookie", &away.cookie).from(ip)).await;
        is_refused(&back, 403, "access_denied", "You did not sign in");
    };
    for ip in ["198.51.100.1", "198.51.100.1", "198.51.100.2", "198.51.100.1"] {
        declined(ip).await;
    }
    server.advance_ms(MINUTE_MS);
    declined("198.51.100.1").await;
    assert_eq!(told_of(&server, "operator.sign_in_refused").await.len(), refused.len() + 3);
    for kind in ["operator.signed_in", "sign_in_method.added"] {
        assert!(told_of(&server, kind).await.is_empty(), "{kind}");
    }
    // In German, too.
    let away = leave(&server).await;
    let query = format!("{CALLBACK}?error=access_denied&state={}", away.asked["state"]);
    let raw = Raw::new("GET", &query, "").set("cookie", &away.cookie).set("accept-language", "de");
    assert!(server.send(raw).await.text.contains("Sie haben sich nicht angemeldet"));
}

async fn a_public_client_and_the_names_of_the_issuer(server: Server) {
    let (server, idp) = acme(&server).await;
    operator(&server, "ann@example.com").await;
    // It says that each answer names it (RFC 9207).
    let named = json!({"authorization_response_iss_parameter_supported": true});
    idp.issuer.publish(DOCUMENT, document(&idp, named));
    let public = process(&server, &idp, "sso-public", |sso| sso.client_secret = None).await;
    is_refused(&trip(&public, &idp, json!({})).await, 403, "invalid_response", "does not count here");
    let away = leave(&public).await;
    idp.issues(&idp.token(&public, ann(&away.asked["nonce"])));
    let url = idp.url();
    let params = [("code", "c"), ("state", away.asked["state"].as_str()), ("iss", url.as_str())];
    signed_in(&public, &come_back(&public, &away.cookie, &params).await);
    let calls = idp.issuer.calls("/token");
    assert_eq!(calls.len(), 1, "the code of an answer that counts for nothing goes nowhere");
    assert!(calls[0]["client_id"] == CLIENT && !calls[0].contains_key("client_secret"));
    // Where it takes the secret in a header it stands in no form.
    idp.issuer.publish(DOCUMENT, document(&idp, json!({"token_endpoint_auth_methods_supported": null})));
    let basic = process(&server, &idp, "sso-basic", |_| {}).await;
    signed_in(&basic, &trip(&basic, &idp, json!({})).await);
    assert!(!idp.issuer.calls("/token")[1].contains_key("client_secret"));
}

async fn an_answer_is_of_one_browser_and_counts_once(server: Server) {
    let (server, idp) = acme(&server).await;
    operator(&server, "ann@example.com").await;
    let first = leave(&server).await;
    let other = leave(&server).await;
    assert_ne!(first.cookie, other.cookie);
    for cookie in [other.cookie.as_str(), "other=1", "grantd_sso=x"] {
        let params = [("code", "c"), ("state", first.asked["state"].as_str())];
        is_refused(&come_back(&server, cookie, &params).await, 403, "other_browser", "This browser did not begin that");
    }
    // That used nothing up.
    signed_in(&server, &back_with(&server, &idp, &first, json!({})).await);
    let again = back_with(&server, &idp, &first, json!({})).await;
    is_refused(&again, 410, "stale", "does not count any more");
    assert_eq!(idp.issuer.calls("/token").len(), 1);
    for state in ["", "x", &"s".repeat(43)] {
        let params = [("code", "c"), ("state", state)];
        is_refused(&come_back(&server, &first.cookie, &params).await, 410, "stale", "does not count any more");
    }
    let nothing = server.send(Raw::new("GET", CALLBACK, "")).await;
    is_refused(&nothing, 410, "stale", "does not count any more");
    // To the very end of its time, and not beyond. A browser may be on two ways at once.
    let in_browser = || form("", CALLBACK, &[]).set("cookie", &first.cookie);
    let (late, later) = (away(&server.send(in_browser()).await), away(&server.send(in_browser()).await));
    assert_eq!((&late.cookie, &later.cookie), (&first.cookie, &first.cookie));
    server.advance_ms(limits::SSO_TRIP_S * 1000 - 1);
    signed_in(&server, &back_with(&server, &idp, &late, json!({})).await);
    server.advance_ms(1);
    is_refused(&back_with(&server, &idp, &later, json!({})).await, 410, "stale", "does not count any more");
    let refused = told_of(&server, "operator.sign_in_refused").await;
    let whys: Vec<String> = refused.iter().map(|event| text(&event["core"], "why")).collect();
    assert_eq!(whys, ["other_browser", "stale", "stale"], "of each minute one of each");
    // Whoever signs in gets a new session in place of the one the browser had.
    let before = signed_in(&server, &trip(&server, &idp, json!({})).await);
    let away = away(&server.send(form(&before.cookie, CALLBACK, &[])).await);
    let after = signed_in(&server, &back_with(&server, &idp, &away, json!({})).await);
    assert!(is_sent_to_sign_in(&before.get("/portal/apps").await));
    assert_eq!(after.get("/portal/apps").await.status, 200);
}

async fn an_issuer_that_is_away_is_told_and_asked_again_later(server: Server) {
    let (server, idp) = acme(&server).await;
    operator(&server, "ann@example.com").await;
    for wrong in [
        String::new(),
        document(&idp, json!({"issuer": "https://evil.example"})),
        document(&idp, json!({"token_endpoint": null})),
        document(&idp, json!({"authorization_endpoint": "javascript:alert(1)"})),
        document(&idp, json!({"token_endpoint": "http://169.254.169.254/token"})),
    ] {
        idp.issuer.publish(DOCUMENT, wrong);
        let calls = idp.issuer.calls(DOCUMENT).len();
        for _ in 0..2 {
            let left = server.send(form("", CALLBACK, &[])).await;
            is_refused(&left, 503, "service_unavailable", "It cannot be reached");
        }
        assert_eq!(idp.issuer.calls(DOCUMENT).len(), calls + 1, "it is not asked at each attempt");
        server.advance_ms(limits::SSO_DISCOVERY_PAUSE_MS);
    }
    idp.issuer.publish(DOCUMENT, document(&idp, json!({})));
    signed_in(&server, &trip(&server, &idp, json!({})).await);
    // What it said is good for an hour, and longer when it says nothing any more.
    let calls = idp.issuer.calls(DOCUMENT).len();
    idp.issuer.publish(DOCUMENT, String::new());
    server.advance_ms(limits::SSO_DISCOVERY_FRESH_MS - 1);
    leave(&server).await;
    assert_eq!(idp.issuer.calls(DOCUMENT).len(), calls);
    server.advance_ms(1);
    leave(&server).await;
    assert_eq!(idp.issuer.calls(DOCUMENT).len(), calls + 1);
    // But not for ever.
    server.advance_ms(limits::SSO_DISCOVERY_STALE_MS - limits::SSO_DISCOVERY_FRESH_MS - 1);
    leave(&server).await;
    server.advance_ms(1);
    let left = server.send(form("", CALLBACK, &[])).await;
    is_refused(&left, 503, "service_unavailable", "It cannot be reached");
    let refused = told_of(&server, "operator.sign_in_refused").await;
    assert!(!refused.is_empty() && refused.iter().all(|event| event["core"]["why"] == "service_unavailable"));
}

async fn only_a_new_proof_confirms(server: Server) {
    let (server, idp) = acme(&server).await;
    let world = server.world().await;
    operator(&server, "ann@example.com").await;
    operator(&server, "ben@example.com").await;
    let browser = signed_in(&server, &trip(&server, &idp, json!({})).await);
    let path = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    // The issuer did not say when it last asked them.
    let asked = browser.post(&path, &[]).await;
    assert_eq!(asked.status, 401, "{}", asked.text);
    is_sound("confirm", &asked.text);
    assert!(sentences(&asked.text).contains("Prove it with Acme ID"), "{}", asked.text);
    let waiting = held(&asked.text);
    assert_eq!(browser.post(&path, &[("held", &waiting)]).await.status, 422, "nothing was proved");

    let now_s = server.now().0.div_euclid(1000);
    let leave = async || away(&browser.post("/portal/sign-in/sso/confirm", &[]).await);
    for (more, code, title) in [
        (json!({}), "not_asked_again", "You were not asked again"),
        (json!({"auth_time": now_s - 61}), "not_asked_again", "You were not asked again"),
        (json!({"auth_time": now_s, "sub": "user-2", "email": "ben@example.com"}), "other_person", "somebody else"),
        (json!({"auth_time": now_s, "sub": "user-3"}), "other_account", "Another account"),
    ] {
        let away = leave().await;
        assert_eq!((&*away.asked["prompt"], &*away.asked["max_age"]), ("login", "0"));
        is_refused(&back_with(&server, &idp, &away, more).await, 403, code, title);
        assert_eq!(browser.post(&path, &[("held", &waiting)]).await.status, 422, "{code}");
    }
    server.token(&world).await.ok(200);
    let away = leave().await;
    let back = back_with(&server, &idp, &away, json!({"auth_time": now_s})).await;
    assert!(back.status == 200 && back.text.contains("It is still you"), "{}", back.text);
    assert!(back.header("set-cookie").is_empty(), "it signs nobody in");
    is_sound("confirmed", &back.text);
    assert_eq!(browser.post(&path, &[("held", &waiting)]).await.status, 303);
    let confirmed = told_of(&server, "operator.confirmed").await;
    assert_eq!(confirmed.iter().map(|e| &e["core"]["sign_in"]).collect::<Vec<_>>(), ["sso"]);
    // For as long as any proof counts.
    server.advance_ms(limits::CONFIRMED_S * 1000);
    assert_eq!(browser.post("/portal/account/sso/remove", &[]).await.status, 401);
    // Whoever was signed out meanwhile confirms nothing.
    let away = away_of(&browser).await;
    assert_eq!(browser.post("/portal/sign-out", &[]).await.status, 303);
    let at = server.now().0.div_euclid(1000);
    let back = back_with(&server, &idp, &away, json!({"auth_time": at})).await;
    is_refused(&back, 401, "signed_out", "You are signed out");
}

async fn away_of(browser: &Browser) -> Away {
    away(&browser.post("/portal/sign-in/sso/confirm", &[]).await)
}
