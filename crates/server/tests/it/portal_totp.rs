//! Authenticator apps of operators: setting up, signing in with a code, codes for when the app is lost.

use grantd_domain::totp::{self, STEP_S};
use grantd_server::{jobs, sealed};
use grantd_store::operators::Role;
use grantd_wire::limits;

use crate::harness::{Answer, Server, root};
use crate::portal::{Browser, form, is_sent_to_sign_in, is_sound, link};
use crate::portal_account::{PASSWORD, held, is_wrong, set, sign_in, signed_in, somebody};

in_memory! {
    an_app_is_asked_for_only_when_it_has_shown_that_it_knows_the_secret,
    a_code_signs_in_after_the_password_and_once,
    a_recovery_code_signs_in_once,
    wrong_codes_wait_like_wrong_passwords,
    whoever_has_an_app_is_asked_again_for_its_code,
}

on_kept_engines! {
    an_app_is_told_of_and_taken_away,
    the_password_waits_for_the_code_for_a_while,
    the_secret_is_sealed_and_the_doctor_sees_it,
}

/// An authenticator app.
struct App(Vec<u8>);

impl App {
    fn of(page: &str) -> Self {
        let text = page.split_once("id=\"secret\">").expect("the page shows the secret").1.split('<').next().unwrap();
        let mut bytes = Vec::new();
        let (mut bits, mut count) = (0_u32, 0);
        for c in text.bytes() {
            let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == c).unwrap();
            (bits, count) = (bits << 5 | u32::try_from(value).unwrap(), count + 5);
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
            }
        }
        Self(bytes)
    }

    fn code(&self, server: &Server) -> String {
        totp::code(&self.0, server.now().0.div_euclid(STEP_S * 1000))
    }
}

const AT: &str = "/portal/account/authenticator";

/// What stands on the page that shows recovery codes.
fn recovery_codes(page: &str) -> Vec<String> {
    let text = page.split_once("id=\"codes\">").expect("the page shows codes").1.split('<').next().unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Sets a password and an app up; answers the app and its recovery codes. The next code counts again.
async fn set_up(server: &Server, browser: &Browser) -> (App, Vec<String>) {
    assert_eq!(set(browser, PASSWORD).await.status, 303);
    assert_eq!(browser.post(&format!("{AT}/new"), &[]).await.header("location"), AT);
    let app = App::of(&browser.get(AT).await.text);
    let done = browser.post(AT, &[("code", &app.code(server))]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    is_sound("codes", &done.text);
    server.advance_ms(STEP_S * 1000);
    (app, recovery_codes(&done.text))
}

/// What the page that asks for a code sends along.
fn half(answer: &Answer) -> String {
    assert!(answer.status == 200 && answer.header("set-cookie").is_empty(), "{}", answer.text);
    answer
        .text
        .split_once("name=\"half\" value=\"")
        .expect("a code is asked for")
        .1
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

async fn send_code(server: &Server, half: &str, code: &str) -> Answer {
    server.send(form("", "/portal/sign-in/code", &[("half", half), ("code", code)])).await
}

fn is_refused(answer: &Answer, why: &str) -> bool {
    answer.status == 401 && answer.header("set-cookie").is_empty() && answer.text.contains(why)
}

async fn an_app_is_asked_for_only_when_it_has_shown_that_it_knows_the_secret(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    set(&browser, PASSWORD).await;
    let elsewhere = signed_in(&server, &sign_in(&server, &email, PASSWORD).await);
    assert_eq!(browser.get(AT).await.header("location"), "/portal/account", "nothing is being set up");
    browser.post(&format!("{AT}/new"), &[]).await;
    let page = browser.get(AT).await.text;
    is_sound("authenticator", &page);
    assert!(page.contains("<svg viewBox=\"0 0 "), "{page}");
    let first = App::of(&page);
    signed_in(&server, &sign_in(&server, &email, PASSWORD).await);
    let wrong = browser.post(AT, &[("code", "12345")]).await;
    assert!(wrong.status == 422 && wrong.text.contains("code-error"), "{}", wrong.text);
    is_sound("refused", &wrong.text);
    // Begun anew it is another secret.
    browser.post(&format!("{AT}/new"), &[]).await;
    assert_eq!(browser.post(AT, &[("code", &first.code(&server))]).await.status, 422);
    // Somebody who comes to the browser later does not see it.
    let app = App::of(&browser.get(AT).await.text);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    assert_eq!(browser.get(AT).await.header("location"), "/portal/account");
    let asked = browser.post(AT, &[("code", &app.code(&server))]).await.text;
    assert!(asked.contains("Is it still you?"), "{asked}");
    assert_eq!(elsewhere.get(AT).await.status, 303, "nothing has changed yet, and it is still signed in");
    assert_eq!(elsewhere.get("/portal/apps").await.status, 200);
    let done = browser.post(AT, &[("held", &held(&asked)), ("password", PASSWORD)]).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(is_sent_to_sign_in(&elsewhere.get("/portal/apps").await), "whoever was in without a code is out");
    half(&sign_in(&server, &email, PASSWORD).await);
}

async fn a_code_signs_in_after_the_password_and_once(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    let (app, _) = set_up(&server, &browser).await;
    assert_eq!(browser.post(&format!("{AT}/new"), &[]).await.status, 409, "there is one");
    assert_eq!(browser.get(AT).await.header("location"), "/portal/account", "the secret is not shown again");
    let answer = sign_in(&server, &email, PASSWORD).await;
    is_sound("code", &answer.text);
    let waiting = half(&answer);
    let wrong = send_code(&server, &waiting, "12345").await;
    assert!(is_refused(&wrong, "That code is wrong"), "{}", wrong.text);
    let code = app.code(&server);
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let browser = signed_in(&server, &send_code(&server, &waiting, &spaced).await);
    assert!(browser.page("/portal/sessions").await.contains("Password and code"));
    // Neither the code nor what it was sent with counts twice.
    assert!(is_refused(&send_code(&server, &waiting, &code).await, "took too long"));
    let again = half(&sign_in(&server, &email, PASSWORD).await);
    assert!(is_refused(&send_code(&server, &again, &code).await, "was used already"));
    server.advance_ms(STEP_S * 1000);
    signed_in(&server, &send_code(&server, &again, &app.code(&server)).await);
    assert!(is_wrong(&sign_in(&server, &email, "not the password at all").await), "the app alone does not sign in");
    // A link does not ask for it.
    Browser::with_link(&server, &link(&server, Some(&email)).await).await;
}

async fn a_recovery_code_signs_in_once(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    let (_, codes) = set_up(&server, &browser).await;
    assert_eq!(codes.len(), limits::RECOVERY_CODES);
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    let typed = codes[3].to_uppercase().replace('-', "");
    let browser = signed_in(&server, &send_code(&server, &waiting, &typed).await);
    let page = browser.page("/portal/account").await.replace("<bdi>", "").replace("</bdi>", "");
    assert!(page.contains("9 recovery codes are left"), "{page}");
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    assert!(is_refused(&send_code(&server, &waiting, &codes[3]).await, "was used already"));
    // Another operator's are none of theirs.
    let (ben, ben_email) = somebody(&server, Role::Developer).await;
    set_up(&server, &ben).await;
    let of_ben = half(&sign_in(&server, &ben_email, PASSWORD).await);
    assert!(is_refused(&send_code(&server, &of_ben, &codes[4]).await, "wrong"));
    // New ones make the old ones useless.
    let renewed = browser.post(&format!("{AT}/codes"), &[]).await;
    let renewed = recovery_codes(&renewed.text);
    assert!(renewed.len() == limits::RECOVERY_CODES && !renewed.contains(&codes[4]));
    assert!(is_refused(&send_code(&server, &waiting, &codes[4]).await, "wrong"));
    signed_in(&server, &send_code(&server, &waiting, &renewed[0]).await);
}

async fn the_password_waits_for_the_code_for_a_while(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    let (app, _) = set_up(&server, &browser).await;
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    server.advance_ms(limits::HALF_SIGN_IN_S * 1000 - 1);
    signed_in(&server, &send_code(&server, &waiting, &app.code(&server)).await);
    let late = half(&sign_in(&server, &email, PASSWORD).await);
    server.advance_ms(limits::HALF_SIGN_IN_S * 1000);
    assert!(is_refused(&send_code(&server, &late, &app.code(&server)).await, "took too long"));
    // So many wait, and no more.
    let mut waiting = Vec::new();
    for _ in 0..=limits::HALF_SIGN_INS_MAX {
        waiting.push(half(&sign_in(&server, &email, PASSWORD).await));
        // Long enough that none has to wait for the others.
        server.advance_ms(1_000);
        server.database.behind_its_back("DELETE FROM sign_in_attempts").await;
    }
    assert!(is_refused(&send_code(&server, &waiting[0], &app.code(&server)).await, "took too long"));
    // Another password ends those that wait for a code.
    let page = half(&sign_in(&server, &email, PASSWORD).await);
    assert_eq!(set(&browser, "seven quiet harbours").await.status, 303);
    assert!(is_refused(&send_code(&server, &page, &app.code(&server)).await, "took too long"));
    server.advance_ms(limits::HALF_SIGN_IN_S * 1000);
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM half_sign_ins").await, 0);
}

async fn wrong_codes_wait_like_wrong_passwords(server: Server) {
    let (browser, email) = somebody(&server, Role::Developer).await;
    let (app, codes) = set_up(&server, &browser).await;
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    // The password was an attempt that is not through yet.
    for _ in 1..limits::SIGN_IN_ATTEMPTS_FREE {
        assert!(is_refused(&send_code(&server, &waiting, "12345").await, "wrong"));
    }
    for right in [app.code(&server), codes[0].clone()] {
        let early = send_code(&server, &waiting, &right).await;
        assert_eq!((early.status, early.header("retry-after")), (429, "31"), "{}", early.text);
        assert_eq!(half_of(&early), waiting);
    }
    server.advance_ms(limits::SIGN_IN_WAIT_S * 1000);
    signed_in(&server, &send_code(&server, &waiting, &app.code(&server)).await);
}

fn half_of(answer: &Answer) -> String {
    answer.text.split_once("name=\"half\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
}

async fn whoever_has_an_app_is_asked_again_for_its_code(server: Server) {
    let world = server.world().await;
    let (browser, _) = somebody(&server, Role::Developer).await;
    let (app, codes) = set_up(&server, &browser).await;
    let path = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let asked = browser.post(&path, &[]).await;
    assert!(asked.text.contains("name=\"code\"") && !asked.text.contains("name=\"password\""), "{}", asked.text);
    let waiting = held(&asked.text);
    let code = app.code(&server);
    for (field, wrong) in [("password", PASSWORD), ("code", "12345")] {
        let again = browser.post(&path, &[("held", &waiting), (field, wrong)]).await;
        assert_eq!(again.status, 401, "{field}");
    }
    server.token(&world).await.ok(200);
    assert_eq!(browser.post(&path, &[("held", &waiting), ("code", &code)]).await.status, 303);
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let asked = browser.post(&format!("{AT}/remove"), &[]).await;
    let waiting = held(&asked.text);
    let removed = browser.post(&format!("{AT}/remove"), &[("held", &waiting), ("code", &codes[0])]).await;
    assert_eq!(removed.header("location"), "/portal/account?done=totp_removed");
}

async fn the_secret_is_sealed_and_the_doctor_sees_it(server: Server) {
    let (browser, _) = somebody(&server, Role::Developer).await;
    let before = sealed::check(server.store(), &root()).await.unwrap().opened;
    set_up(&server, &browser).await;
    let found = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((found.opened, found.closed.count), (before + 1, 0));
    server.database.behind_its_back("UPDATE operator_totps SET version = version + 1").await;
    let found = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((found.opened, found.closed.count), (before, 1));
    assert!(found.closed.first[0].1.to_string().starts_with("authenticator app of operator "));
}

async fn an_app_is_told_of_and_taken_away(server: Server) {
    let (browser, email) = somebody(&server, Role::Admin).await;
    let (app, codes) = set_up(&server, &browser).await;
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    let second = signed_in(&server, &send_code(&server, &waiting, &codes[0]).await);
    let waiting = half(&sign_in(&server, &email, PASSWORD).await);
    let first = send_code(&server, &waiting, &app.code(&server)).await;
    signed_in(&server, &first);
    assert_eq!(second.post(&format!("{AT}/codes"), &[]).await.status, 200);
    assert!(is_sent_to_sign_in(&browser.get(AT).await), "other browsers are signed out");
    let third = Browser::with_link(&server, &link(&server, Some(&email)).await).await;
    assert_eq!(second.post(&format!("{AT}/remove"), &[]).await.status, 303);
    assert_eq!(second.post(&format!("{AT}/remove"), &[]).await.status, 404);
    assert!(is_sent_to_sign_in(&third.get(AT).await));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM operator_recovery_codes").await, 0);
    signed_in(&server, &sign_in(&server, &email, PASSWORD).await);
    let told = server.events("/api/v1/audit/export").await;
    let of = |kind: &str, field: &str| {
        let events = told.iter().filter(|event| event["core"]["kind"] == kind);
        events.map(|event| event["core"][field].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("sign_in_method.added", "method"), ["password", "totp"]);
    assert_eq!(of("sign_in_method.changed", "method"), ["recovery_codes"]);
    assert_eq!(of("sign_in_method.removed", "method"), ["totp"]);
    let ended = told.iter().filter_map(|event| event["core"]["sessions_ended"].as_u64());
    assert_eq!(ended.collect::<Vec<_>>(), [0, 0, 2, 1]);
    let ways = ["link", "password_recovery_code", "password_totp", "link", "password"];
    assert_eq!(of("operator.signed_in", "sign_in"), ways);
    let text = serde_json::to_string(&told).unwrap();
    assert!(!codes.iter().any(|code| text.contains(code)));
}
