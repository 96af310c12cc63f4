//! How operators sign in beside links, and what they are asked again.

use grantd_domain::env::new_uuid;
use grantd_server::jobs;
use grantd_store::Tx;
use grantd_store::operators::{self, Role};
use grantd_wire::ids::OperatorId;
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server};
use crate::portal::{Browser, csrf, form, is_sent_to_sign_in, is_sound, link, with_cookie};

in_memory! {
    a_password_signs_in_and_nothing_else_does,
    a_password_that_is_guessed_early_is_not_taken,
    attempts_from_one_address_are_bounded,
    a_form_waits_until_its_sender_has_proved_who_they_are,
    a_form_that_waits_is_of_one_session_one_address_and_one_time,
    a_form_that_waits_may_be_as_long_as_any,
}

on_kept_engines! {
    passwords_are_kept_hashed_and_told_of,
    wrong_attempts_wait_and_a_link_does_not,
    whoever_is_shut_out_has_no_password_left,
}

pub const PASSWORD: &str = "violet kettle moth";
const OTHER: &str = "seven quiet harbours";

/// An operator's browser, and their address.
pub async fn somebody(server: &Server, role: Role) -> (Browser, String) {
    let email = format!("{}@example.com", new_uuid(&*server.env));
    server.api("POST", "/api/v1/operators", json!({"email": email, "role": role.as_str()})).await.ok(201);
    (Browser::with_link(server, &link(server, Some(&email)).await).await, email)
}

pub async fn set(browser: &Browser, password: &str) -> Answer {
    browser.post("/portal/account/password", &[("password", password)]).await
}

pub async fn sign_in(server: &Server, email: &str, password: &str) -> Answer {
    let fields = [("email", email), ("password", password)];
    server.send(form("", "/portal/sign-in/password", &fields)).await
}

/// The browser that an answer signed in.
pub fn signed_in(server: &Server, answer: &Answer) -> Browser {
    assert_eq!(answer.status, 303, "{}", answer.text);
    let cookie = answer.header("set-cookie").strip_prefix("grantd_portal=").unwrap();
    Browser { server: server.clone(), cookie: cookie.split(';').next().unwrap().to_owned() }
}

pub fn is_wrong(answer: &Answer) -> bool {
    answer.status == 401 && answer.header("set-cookie").is_empty() && answer.text.contains("password is wrong")
}

async fn a_password_signs_in_and_nothing_else_does(server: Server) {
    let (first, email) = somebody(&server, Role::Developer).await;
    assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await), "there is none yet");
    assert!(first.page("/portal/apps").await.contains("You sign in by links alone"));
    let elsewhere = Browser::with_link(&server, &link(&server, Some(&email)).await).await;
    assert_eq!(set(&first, "Möwen über dem Hafen").await.header("location"), "/portal/account?done=password_set");
    assert!(!first.page("/portal/apps").await.contains("You sign in by links alone"));
    assert!(is_sent_to_sign_in(&elsewhere.get("/portal/apps").await), "other browsers are signed out");
    // As another keyboard writes it, and the address in another form.
    let decomposed = "Mo\u{308}wen u\u{308}ber dem Hafen";
    let browser = signed_in(&server, &sign_in(&server, &email.to_uppercase(), decomposed).await);
    assert!(browser.page("/portal/sessions").await.contains("data-label=\"By\">Password<"));
    for wrong in ["möwen über dem Hafen", "Möwen über dem Hafen ", "", "Möwen über dem Hafe"] {
        let answer = sign_in(&server, &email, wrong).await;
        assert!(is_wrong(&answer), "{wrong}: {}", answer.text);
        is_sound("wrong", &answer.text);
    }
    // Nobody learns who there is.
    let nobody = sign_in(&server, "nobody@example.com", "Möwen über dem Hafen").await;
    assert!(is_wrong(&nobody));
    assert!(is_wrong(&sign_in(&server, "no address", "Möwen über dem Hafen").await));
    // The other one counts, and the old one does not.
    assert_eq!(set(&browser, OTHER).await.status, 303);
    assert!(is_wrong(&sign_in(&server, &email, "Möwen über dem Hafen").await));
    let browser = signed_in(&server, &sign_in(&server, &email, OTHER).await);
    assert_eq!(browser.post("/portal/account/password/remove", &[]).await.status, 303);
    assert_eq!(browser.post("/portal/account/password/remove", &[]).await.status, 404);
    assert!(is_wrong(&sign_in(&server, &email, OTHER).await));
}

async fn a_password_that_is_guessed_early_is_not_taken(server: Server) {
    let (browser, email) = somebody(&server, Role::Viewer).await;
    for (bad, why) in [
        ("fourteen chars", "at least 15"),
        ("", "at least 15"),
        ("Password123456789", "guessed early"),
        (email.as_str(), "guessed early"),
        (&"vx9 ".repeat(33), "at most 128"),
    ] {
        let answer = set(&browser, bad).await;
        assert!(answer.status == 422 && answer.text.contains(why), "{bad}: {}", answer.text);
        assert!(answer.text.contains("password-error"), "{}", answer.text);
        is_sound("account", &answer.text);
    }
    assert!(is_wrong(&sign_in(&server, &email, "Password123456789").await));
}

async fn wrong_attempts_wait_and_a_link_does_not(server: Server) {
    let (browser, email) = somebody(&server, Role::Viewer).await;
    set(&browser, PASSWORD).await;
    for address in [email.as_str(), "nobody@example.com"] {
        for _ in 0..limits::SIGN_IN_ATTEMPTS_FREE {
            assert!(is_wrong(&sign_in(&server, address, OTHER).await), "{address}");
        }
        // Even the right one, whoever there is.
        let early = sign_in(&server, address, PASSWORD).await;
        assert_eq!((early.status, early.header("retry-after")), (429, "31"), "{address}: {}", early.text);
        assert!(early.text.contains("or use a link"), "{}", early.text);
        is_sound("early", &early.text);
        server.advance_ms(limits::SIGN_IN_WAIT_S * 1000 - 1);
        assert_eq!(sign_in(&server, address, PASSWORD).await.status, 429);
        server.advance_ms(1);
        assert!(is_wrong(&sign_in(&server, address, OTHER).await), "{address}");
        // Twice as long, and an attempt that comes too early makes it no longer.
        server.advance_ms(limits::SIGN_IN_WAIT_S * 2 * 1000 - 1);
        assert_eq!(sign_in(&server, address, PASSWORD).await.status, 429);
        server.advance_ms(60_000);
    }
    Browser::with_link(&server, &link(&server, Some(&email)).await).await;
    signed_in(&server, &sign_in(&server, &email, PASSWORD).await);
    // The right one was, so it begins anew.
    for _ in 0..limits::SIGN_IN_ATTEMPTS_FREE {
        assert!(is_wrong(&sign_in(&server, &email, OTHER).await));
    }
    assert_eq!(sign_in(&server, &email, PASSWORD).await.status, 429);
    // A new password does away with them.
    assert_eq!(set(&browser, OTHER).await.status, 303);
    signed_in(&server, &sign_in(&server, &email, OTHER).await);
    // And a day later nobody counts them any more.
    assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await));
    server.advance_ms(limits::SIGN_IN_MEMORY_S * 1000 + 1);
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM sign_in_attempts").await, 0);
}

async fn attempts_from_one_address_are_bounded(server: Server) {
    for n in 0..limits::SIGN_IN_ATTEMPTS_PER_MINUTE {
        assert!(is_wrong(&sign_in(&server, &format!("nobody-{n}@example.com"), OTHER).await), "{n}");
    }
    let one_more = sign_in(&server, "nobody@example.com", OTHER).await;
    assert_eq!((one_more.status, one_more.header("retry-after").is_empty()), (429, false));
    server.advance_ms(2_000);
    assert!(is_wrong(&sign_in(&server, "nobody@example.com", OTHER).await));
}

async fn whoever_is_shut_out_has_no_password_left(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    set(&browser, PASSWORD).await;
    let list = server.api("GET", "/api/v1/operators", Value::Null).await.ok(200);
    let found = list["items"].as_array().unwrap().iter().find(|item| item["email"] == email.as_str()).unwrap();
    let id = text(found, "id");
    let path = format!("/api/v1/operators/{id}");
    server.api("PATCH", &path, json!({"disabled": true})).await.ok(200);
    assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await));
    server.api("PATCH", &path, json!({"disabled": false})).await.ok(200);
    assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await));
    // Reset on the host, or disabled of a restore.
    let (operator, now) = (OperatorId::parse(&id).unwrap(), server.now());
    for is_reset in [true, false] {
        let browser = Browser::with_link(&server, &link(&server, Some(&email)).await).await;
        set(&browser, PASSWORD).await;
        signed_in(&server, &sign_in(&server, &email, PASSWORD).await);
        let shut_out = move |tx: &mut Tx<'_>| match is_reset {
            true => operators::reset(tx, operator, now).map(drop),
            false => operators::close(tx, operator, now),
        };
        server.store().write(shut_out).await.unwrap();
        assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));
        assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await));
        assert_eq!(server.database.number("SELECT COUNT(*) FROM operator_passwords").await, 0);
    }
}

/// What stands in the field that a form waits in.
pub fn held(page: &str) -> String {
    page.split_once("name=\"held\" value=\"").expect("the page asks").1.split('"').next().unwrap().to_owned()
}

async fn a_form_waits_until_its_sender_has_proved_who_they_are(server: Server) {
    let world = server.world().await;
    let (browser, email) = somebody(&server, Role::Developer).await;
    set(&browser, PASSWORD).await;
    let revoke = format!("/portal/apps/{}/grants/{}/revoke", world.app, world.grant);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    // What is not grave goes on.
    assert_eq!(browser.post("/portal/apps/new", &[("name", "Light")]).await.status, 303);
    let reason = "a reason that is kept";
    let asked = browser.post(&revoke, &[("reason", reason)]).await;
    assert_eq!(asked.status, 401);
    assert!(asked.text.contains("Is it still you?") && !asked.text.contains(reason), "{}", asked.text);
    is_sound("confirm", &asked.text);
    server.token(&world).await.ok(200);
    let waiting = held(&asked.text);
    // Wrong proofs do nothing, and the form still waits.
    let foreign = link(&server, None).await;
    for (field, wrong) in [("password", OTHER), ("link", "login_x"), ("link", &foreign), ("password", "")] {
        let again = browser.post(&revoke, &[("held", &waiting), (field, wrong)]).await;
        assert!(matches!(again.status, 401 | 422), "{}", again.text);
        assert_eq!(held(&again.text), waiting);
    }
    server.token(&world).await.ok(200);
    let done = browser.post(&revoke, &[("held", &waiting), ("password", PASSWORD)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    server.token(&world).await.refused(Code::GrantRevoked);
    let grant = format!("/portal/apps/{}/grants/{}", world.app, world.grant);
    assert!(browser.page(&grant).await.contains(reason));
    // For a while they are asked no more; then a new link does, too, pasted whole, and is used up.
    let key = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    server.advance_ms(limits::CONFIRMED_S * 1000 - 1);
    assert_eq!(browser.post("/portal/account/password", &[("password", PASSWORD)]).await.status, 303);
    server.advance_ms(1);
    let waiting = held(&browser.post(&key, &[]).await.text);
    let token = link(&server, Some(&email)).await;
    let pasted = format!(" http://127.0.0.1:8080/portal/sign-in?link={token} ");
    assert_eq!(browser.post(&key, &[("held", &waiting), ("link", &pasted)]).await.status, 303);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let again = browser.post(&key, &[("held", &waiting), ("link", &token)]).await;
    assert_eq!(again.status, 400, "it waited too long");
    // A way to sign in is grave by itself.
    let asked = browser.post("/portal/account/password", &[("password", "another good long one")]).await;
    assert!(asked.status == 401 && !asked.text.contains("another good long one"), "{}", asked.text);
    let fields = [("held", held(&asked.text)), ("password", PASSWORD.to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(browser.post("/portal/account/password", &fields).await.status, 303);
    signed_in(&server, &sign_in(&server, &email, "another good long one").await);
    let told = server.events("/api/v1/audit/export").await;
    let ways: Vec<&Value> =
        told.iter().filter(|e| e["core"]["kind"] == "operator.confirmed").map(|e| &e["core"]["sign_in"]).collect();
    assert_eq!(ways, ["password", "link", "password"]);
}

async fn a_form_that_waits_is_of_one_session_one_address_and_one_time(server: Server) {
    let world = server.world().await;
    let (ann, _) = somebody(&server, Role::Developer).await;
    let (ben, _) = somebody(&server, Role::Developer).await;
    set(&ann, PASSWORD).await;
    set(&ben, PASSWORD).await;
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let key = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    let grant = format!("/portal/apps/{}/grants/{}/revoke", world.app, world.grant);
    let of_ann = held(&ann.post(&key, &[]).await.text);
    let fields = |held: &str| [("held".to_owned(), held.to_owned()), ("password".to_owned(), PASSWORD.to_owned())];
    let post = async |browser: &Browser, path: &str, held: &str| {
        let fields = fields(held);
        let fields = fields.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        browser.post(path, &fields).await.status
    };
    assert_eq!(post(&ben, &key, &of_ann).await, 400);
    assert_eq!(post(&ann, &grant, &of_ann).await, 400);
    for changed in [&of_ann[1..], &format!("{of_ann}AA"), "AAAA", "?"] {
        assert_eq!(post(&ann, &key, changed).await, 400, "{changed}");
    }
    server.token(&world).await.ok(200);
    // Without the proof of a form of this browser it is nothing.
    let raw = form(&ann.cookie, &key, &[("held", &of_ann), ("password", PASSWORD)]);
    assert_eq!(server.send(raw).await.status, 403);
    server.advance_ms(limits::HELD_FORM_S * 1000 - 1);
    assert_eq!(post(&ann, &key, &of_ann).await, 303);
    server.token(&world).await.refused(Code::KeyRevoked);
    let of_ben = held(&ben.post(&key, &[]).await.text);
    server.advance_ms(limits::HELD_FORM_S * 1000);
    assert_eq!(post(&ben, &key, &of_ben).await, 400);
}

async fn a_form_that_waits_may_be_as_long_as_any(server: Server) {
    let world = server.world().await;
    let (browser, _) = somebody(&server, Role::Developer).await;
    set(&browser, PASSWORD).await;
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let path = format!("/portal/apps/{}/grants/{}/revoke", world.app, world.grant);
    let proof = csrf(&browser.get("/portal/sessions").await.text);
    let of_bytes = |bytes: usize| {
        let start = format!("csrf={proof}&reason=");
        let body = format!("{start}{}", "a".repeat(bytes - start.len()));
        with_cookie(Raw::new("POST", &path, body), &browser.cookie)
            .set("content-type", "application/x-www-form-urlencoded")
            .set("origin", "http://127.0.0.1:8080")
    };
    assert_eq!(server.send(of_bytes(limits::PAGE_BODY_BYTES_MAX + 1)).await.status, 413);
    let asked = server.send(of_bytes(limits::PAGE_BODY_BYTES_MAX)).await;
    assert_eq!(asked.status, 401);
    let waiting = held(&asked.text);
    assert!(waiting.len() < limits::HELD_FORM_BYTES_MAX, "{}", waiting.len());
    let fields = [("held", waiting.as_str()), ("password", PASSWORD)];
    let went_on = browser.post(&path, &fields).await;
    // The reason is too long for a grant, and that is what is said now.
    assert!(matches!(went_on.status, 400 | 422) && went_on.text.contains("reason"), "{}", went_on.status);
    server.token(&world).await.ok(200);
}

async fn passwords_are_kept_hashed_and_told_of(server: Server) {
    let (browser, email) = somebody(&server, Role::Admin).await;
    set(&browser, PASSWORD).await;
    set(&browser, OTHER).await;
    let stored = server.database.number("SELECT memory_kib FROM operator_passwords").await;
    assert_eq!(stored, i64::from(limits::PASSWORD_MEMORY_KIB));
    assert!(is_wrong(&sign_in(&server, &email, PASSWORD).await));
    let second = signed_in(&server, &sign_in(&server, &email, OTHER).await);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM sign_in_attempts").await, 0);
    second.post("/portal/account/password/remove", &[]).await;
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await), "other browsers are signed out");
    let told = server.events("/api/v1/audit/export").await;
    let kinds: Vec<&str> =
        told.iter().filter_map(|e| e["core"]["kind"].as_str()).filter(|k| k.starts_with("sign_in_method")).collect();
    assert_eq!(kinds, ["sign_in_method.added", "sign_in_method.changed", "sign_in_method.removed"]);
    let done = told.iter().filter(|e| e["core"]["kind"] == "operator.signed_in");
    assert_eq!(done.map(|e| &e["core"]["sign_in"]).collect::<Vec<_>>(), ["link", "password"]);
    assert!(told.iter().any(|e| e["core"]["kind"] == "auth.failed"));
    let text = serde_json::to_string(&told).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains(OTHER));
}
