//! Passkeys of operators, with a device made here: adding, signing in, being asked again, and what does not count.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_server::jobs;
use grantd_store::Tx;
use grantd_store::operators::{self, Role};
use grantd_wire::ids::OperatorId;
use grantd_wire::limits;
use grantd_wire::sign::sha256;
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server};
use crate::portal::{Browser, csrf, form, is_sent_to_sign_in, is_sound, link};
use crate::portal_account::{PASSWORD, held};

in_memory! {
    what_the_device_did_not_say_for_this_page_is_refused,
    an_operator_has_so_many_passkeys_and_names_each,
    whoever_tries_too_often_waits,
    an_admin_makes_no_link_for_who_has_a_passkey,
    a_page_without_a_host_name_offers_none,
}

on_kept_engines! {
    a_passkey_signs_in_alone,
    an_answer_counts_once_for_its_purpose_its_browser_and_a_while,
    a_passkey_that_was_copied_is_refused_and_told,
    whoever_has_a_passkey_is_asked_again_for_it,
    whoever_is_shut_out_has_no_passkey_left,
    wrong_answers_at_one_account_wait_and_other_ways_do_not,
}

const ORIGIN: &str = "http://localhost:8080";
const ACCOUNT: &str = "/portal/account";
const NEW: &str = "/portal/account/passkeys/new";
const ADD: &str = "/portal/account/passkeys";
const SIGN_IN: &str = "/portal/sign-in/passkey";

type Fields = Vec<(&'static str, String)>;

/// What keeps one passkey, and the browser before it.
struct Device {
    key: EcdsaKeyPair,
    id: Vec<u8>,
    /// By what it knows its owner.
    user: String,
    counter: u32,
    /// By how much it counts on with each signature; many devices do not.
    step: u32,
    origin: &'static str,
    host: &'static str,
    flags: u8,
}

impl Device {
    fn new(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let (id, user) = (id.as_bytes().to_vec(), String::new());
        Self { key, id, user, counter: 0, step: 1, origin: ORIGIN, host: "localhost", flags: 0x05 }
    }

    fn client_data(&self, kind: &str, challenge: &str) -> Vec<u8> {
        json!({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false})
            .to_string()
            .into_bytes()
    }

    fn device_data(&self, flags: u8) -> Vec<u8> {
        [&sha256(self.host.as_bytes())[..], &[flags], &self.counter.to_be_bytes()].concat()
    }

    /// The fields with which it is added.
    fn made(&mut self, page: &str) -> Fields {
        self.user = attribute(page, "user");
        let challenge = attribute(page, "challenge");
        let point = self.key.public_key().as_ref();
        // As CBOR: a key of ES256, and an attestation that says nothing of the make.
        let key = [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", &point[1..33], b"\x22\x58\x20", &point[33..]].concat();
        let len = u16::try_from(self.id.len()).unwrap().to_be_bytes();
        let data = [&self.device_data(self.flags | 0x40), &[0; 16][..], &len, &self.id, &key].concat();
        let len = u16::try_from(data.len()).unwrap().to_be_bytes();
        let attestation = [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59", &len[..], &data].concat();
        vec![
            ("client_data", encoded(self.client_data("webauthn.create", &challenge))),
            ("challenge", challenge),
            ("attestation", encoded(attestation)),
        ]
    }

    /// The fields with which it signs in.
    fn signed(&mut self, challenge: &str) -> Fields {
        self.counter += self.step;
        let (client, device) = (self.client_data("webauthn.get", challenge), self.device_data(self.flags));
        let message = [&device[..], &sha256(&client)].concat();
        let signature = self.key.sign(&SystemRandom::new(), &message).unwrap();
        vec![
            ("challenge", challenge.to_owned()),
            ("id", encoded(&self.id)),
            ("user", self.user.clone()),
            ("client_data", encoded(client)),
            ("device_data", encoded(device)),
            ("signature", encoded(signature.as_ref())),
        ]
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// What the button says that asks the device.
fn attribute(page: &str, name: &str) -> String {
    let begin = format!("data-{name}=\"");
    page.split_once(&begin)
        .unwrap_or_else(|| panic!("the page asks no device: {page}"))
        .1
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

/// The server where browsers have passkeys.
async fn named(server: &Server) -> Server {
    server.another("named", |settings| ORIGIN.clone_into(&mut settings.public_url)).await
}

async fn somebody(server: &Server, email: &str) -> Browser {
    server.api("POST", "/api/v1/operators", json!({"email": email, "role": Role::Developer.as_str()})).await.ok(201);
    by_link(server, email).await
}

async fn by_link(server: &Server, email: &str) -> Browser {
    let link = link(server, Some(email)).await;
    signed_in(server, &send(server, "", "/portal/sign-in", vec![("link", link)]).await)
}

/// The id of the operator with this address.
async fn id_of(server: &Server, email: &str) -> String {
    let listed = server.api("GET", "/api/v1/operators", Value::Null).await.ok(200);
    let found = listed["items"].as_array().unwrap().iter().find(|operator| operator["email"] == email);
    text(found.expect("the operator is there"), "id")
}

/// The value of the cookie that the answer sets.
fn set_cookie(answer: &Answer, name: &str) -> Option<String> {
    let set = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let value = set.filter_map(|set| set.split_once('=')).find(|(known, _)| *known == name)?.1;
    Some(value.split(';').next().unwrap().to_owned())
}

fn signed_in(server: &Server, answer: &Answer) -> Browser {
    assert_eq!(answer.status, 303, "{}", answer.text);
    Browser { server: server.clone(), cookie: set_cookie(answer, "grantd_portal").unwrap() }
}

async fn send(server: &Server, cookies: &str, path: &str, fields: Fields) -> Answer {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let raw = form("", path, &fields).set("origin", ORIGIN);
    server.send(if cookies.is_empty() { raw } else { raw.set("cookie", cookies) }).await
}

async fn post(browser: &Browser, path: &str, mut fields: Fields) -> Answer {
    fields.push(("csrf", csrf(&browser.get("/portal/sessions").await.text)));
    send(&browser.server, &format!("grantd_portal={}", browser.cookie), path, fields).await
}

async fn add(browser: &Browser, device: &mut Device, name: &str) -> Answer {
    let mut fields = device.made(&browser.get(NEW).await.text);
    fields.push(("name", name.to_owned()));
    post(browser, ADD, fields).await
}

/// What the page where one signs in asks a browser, and the cookie by which it knows this browser.
async fn asked(server: &Server) -> (String, String) {
    let page = server.send(Raw::new("GET", "/portal/sign-in", "")).await;
    (attribute(&page.text, "challenge"), format!("grantd_asked={}", set_cookie(&page, "grantd_asked").unwrap()))
}

async fn sign_in(server: &Server, device: &mut Device) -> Answer {
    let (challenge, cookie) = asked(server).await;
    send(server, &cookie, SIGN_IN, device.signed(&challenge)).await
}

fn is_refused(answer: &Answer) -> bool {
    let is_out = set_cookie(answer, "grantd_portal").is_none();
    answer.status == 401 && is_out && answer.text.contains("does not sign in here")
}

/// Where the first passkey of this page is removed.
fn remove_path(page: &str) -> String {
    let id = page.split_once("/portal/account/passkeys/").unwrap().1.split('"').next().unwrap();
    format!("{ADD}/{id}")
}

async fn a_passkey_signs_in_alone(server: Server) {
    let server = named(&server).await;
    let browser = somebody(&server, "ann@example.com").await;
    let mut device = Device::new("phone");
    assert!(is_refused(&sign_in(&server, &mut device).await), "nobody knows it yet");
    assert_eq!(post(&browser, NEW, vec![]).await.header("location"), NEW);
    is_sound("passkey_new", &browser.get(NEW).await.text);
    let added = add(&browser, &mut device, "Phone").await;
    assert_eq!(added.header("location"), "/portal/account?done=passkey_added", "{}", added.text);
    let page = browser.page(ACCOUNT).await;
    is_sound("account", &browser.get(ACCOUNT).await.text);
    assert!(page.contains("<b>Phone</b>") && page.contains("not used yet"), "{page}");
    assert_eq!(attribute(&browser.get(NEW).await.text, "known"), encoded("phone"));
    let second = signed_in(&server, &sign_in(&server, &mut device).await);
    assert!(browser.page(ACCOUNT).await.contains("last used"));
    assert!(second.page("/portal/sessions").await.contains("data-label=\"By\">Passkey<"));
    assert!(!second.page("/portal/apps").await.contains("You sign in by links alone"));
    // Removed it signs in no more, and the other browser is signed out; only its owner removes it.
    let path = remove_path(&second.page(ACCOUNT).await);
    let ben = somebody(&server, "ben@example.com").await;
    assert_eq!(post(&ben, &path, vec![]).await.status, 404);
    assert_eq!(post(&second, &path, vec![]).await.header("location"), "/portal/account?done=passkey_removed");
    assert!(is_sent_to_sign_in(&browser.get(ACCOUNT).await) && second.get(ACCOUNT).await.status == 200);
    assert_eq!(post(&second, &path, vec![]).await.status, 404);
    assert!(is_refused(&sign_in(&server, &mut device).await));
    // Added again, it is one more, and the other browser is signed out as well.
    let third = by_link(&server, "ann@example.com").await;
    assert_eq!(add(&second, &mut device, "Phone").await.status, 303);
    assert!(is_sent_to_sign_in(&third.get(ACCOUNT).await) && second.get(ACCOUNT).await.status == 200);
    signed_in(&server, &sign_in(&server, &mut device).await);
    let told = server.events("/api/v1/audit/export").await;
    let of = |kind: &str, field: &str| {
        let events = told.iter().filter(|event| event["core"]["kind"] == kind);
        events.map(|event| event["core"][field].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of("sign_in_method.added", "method"), ["\"passkey\"", "\"passkey\""]);
    assert_eq!(of("sign_in_method.removed", "method"), ["\"passkey\""]);
    assert_eq!(of("sign_in_method.added", "sessions_ended"), ["0", "1"]);
    assert_eq!(of("sign_in_method.removed", "sessions_ended"), ["1"]);
    assert_eq!(of("sign_in_method.removed", "passkey_id"), of("sign_in_method.added", "passkey_id")[..1]);
    let ways = ["\"link\"", "\"passkey\"", "\"link\"", "\"link\"", "\"passkey\""];
    assert_eq!(of("operator.signed_in", "sign_in"), ways);
}

async fn an_answer_counts_once_for_its_purpose_its_browser_and_a_while(server: Server) {
    let server = named(&server).await;
    let (ann, ben) = (somebody(&server, "ann@example.com").await, somebody(&server, "ben@example.com").await);
    // One that does not count: that it has counted on does not show who answers twice.
    let mut device = Device { step: 0, ..Device::new("phone") };
    // A challenge of another session.
    let mut fields = device.made(&ben.get(NEW).await.text);
    fields.push(("name", "Phone".to_owned()));
    let answer = post(&ann, ADD, fields).await;
    assert!(answer.status == 422 && answer.text.contains("took too long"), "{}", answer.text);
    let mut fields = device.made(&ann.get(NEW).await.text);
    fields.push(("name", "Phone".to_owned()));
    assert_eq!(post(&ann, ADD, fields.clone()).await.status, 303);
    assert_eq!(post(&ann, ADD, fields).await.status, 422, "it was answered");
    // Of another purpose; of another browser; of none.
    let (challenge, cookie) = asked(&server).await;
    let of_account = attribute(&ann.get(NEW).await.text, "challenge");
    let (_, of_another) = asked(&server).await;
    for (challenge, cookie) in [(&of_account, &cookie), (&challenge, &of_another), (&challenge, &String::new())] {
        let fields = device.signed(challenge);
        assert!(is_refused(&send(&server, cookie, SIGN_IN, fields).await));
    }
    // A browser that is known is asked under the same name again, in as many windows as it has.
    let again = server.send(Raw::new("GET", "/portal/sign-in", "").set("cookie", cookie.clone())).await;
    assert_eq!(format!("grantd_asked={}", set_cookie(&again, "grantd_asked").unwrap()), cookie);
    // Once.
    let fields = device.signed(&challenge);
    signed_in(&server, &send(&server, &cookie, SIGN_IN, fields.clone()).await);
    assert!(is_refused(&send(&server, &cookie, SIGN_IN, fields).await));
    // For a while.
    let (early, cookie) = asked(&server).await;
    server.advance_ms(limits::PASSKEY_CHALLENGE_S * 1000 - 1);
    let fields = device.signed(&early);
    signed_in(&server, &send(&server, &cookie, SIGN_IN, fields).await);
    let (late, cookie) = asked(&server).await;
    server.advance_ms(limits::PASSKEY_CHALLENGE_S * 1000);
    let fields = device.signed(&late);
    assert!(is_refused(&send(&server, &cookie, SIGN_IN, fields).await));
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM answered_challenges").await, 0);
    // One that was never asked.
    for made_up in ["", "AAAA", "?", &encoded([7; 56])] {
        let fields = device.signed(made_up);
        assert!(is_refused(&send(&server, &cookie, SIGN_IN, fields).await));
    }
}

async fn what_the_device_did_not_say_for_this_page_is_refused(server: Server) {
    let server = named(&server).await;
    let browser = somebody(&server, "ann@example.com").await;
    let mut device = Device::new("phone");
    let wrong: [fn(&mut Device); 4] = [
        |device| device.origin = "http://localhost:8081",
        |device| device.origin = "https://evil.example",
        |device| device.host = "evil.example",
        |device| device.flags = 0x01,
    ];
    for change in wrong {
        let mut other = Device::new("phone");
        change(&mut other);
        let answer = add(&browser, &mut other, "Phone").await;
        assert!(answer.status == 422 && answer.text.contains("was not added"), "{}", answer.text);
    }
    let mut garbage = device.made(&browser.get(NEW).await.text);
    garbage[2].1 = encoded([0x9f; 5_000]);
    garbage.push(("name", "Phone".to_owned()));
    let answer = post(&browser, ADD, garbage).await;
    assert!(answer.status == 422 && answer.text.contains("malformed"), "{}", answer.text);
    assert_eq!(add(&browser, &mut device, "Phone").await.status, 303);
    // The right one in between, or the next would have to wait.
    for change in wrong {
        change(&mut device);
        assert!(is_refused(&sign_in(&server, &mut device).await));
        (device.origin, device.host, device.flags) = (ORIGIN, "localhost", 0x05);
        signed_in(&server, &sign_in(&server, &mut device).await);
    }
    // Another device that calls itself the same.
    let mut other = Device::new("phone");
    other.user.clone_from(&device.user);
    assert!(is_refused(&sign_in(&server, &mut other).await));
    assert_eq!(add(&browser, &mut other, "Other").await.status, 409);
    let nobody = encoded([7; 16]);
    for (name, value) in [
        ("signature", ""),
        ("signature", "?"),
        ("id", "?"),
        ("id", ""),
        ("user", ""),
        ("user", &nobody),
        ("client_data", "e30"),
        ("device_data", ""),
    ] {
        let (challenge, cookie) = asked(&server).await;
        let mut fields = device.signed(&challenge);
        fields.iter_mut().filter(|(field, _)| *field == name).for_each(|(_, field)| value.clone_into(field));
        assert!(is_refused(&send(&server, &cookie, SIGN_IN, fields).await), "{name}");
        server.advance_ms(60_000);
        signed_in(&server, &sign_in(&server, &mut device).await);
    }
}

async fn a_passkey_that_was_copied_is_refused_and_told(server: Server) {
    let server = named(&server).await;
    let browser = somebody(&server, "ann@example.com").await;
    let mut device = Device::new("phone");
    add(&browser, &mut device, "Phone").await;
    for _ in 0..3 {
        signed_in(&server, &sign_in(&server, &mut device).await);
    }
    device.counter = 2;
    let (challenge, cookie) = asked(&server).await;
    let fields = device.signed(&challenge);
    for _ in 0..2 {
        assert!(is_refused(&send(&server, &cookie, SIGN_IN, fields.clone()).await), "it is at 3 again");
    }
    signed_in(&server, &sign_in(&server, &mut device).await);
    let told = server.events("/api/v1/audit/export").await;
    let told: Vec<_> = told.iter().filter(|event| event["core"]["kind"] == "passkey.refused").collect();
    assert_eq!(told.len(), 1, "once for a challenge: {told:?}");
    let path = remove_path(&browser.page(ACCOUNT).await);
    assert!(path.contains(told[0]["core"]["passkey_id"].as_str().unwrap()));
    assert_eq!((&told[0]["core"]["why"], &told[0]["core"]["outcome"]), (&json!("counter"), &json!("denied")));
}

async fn an_operator_has_so_many_passkeys_and_names_each(server: Server) {
    let server = named(&server).await;
    let browser = somebody(&server, "ann@example.com").await;
    for n in 0..limits::PASSKEYS_MAX {
        assert_eq!(post(&browser, NEW, vec![]).await.status, 303);
        let mut device = Device::new(&format!("device {n}"));
        assert_eq!(add(&browser, &mut device, &format!("Device {n}")).await.status, 303);
    }
    let full = format!("at most {} passkeys", limits::PASSKEYS_MAX);
    for more in [post(&browser, NEW, vec![]).await, add(&browser, &mut Device::new("one more"), "More").await] {
        assert!(more.status == 422 && more.text.contains(&full), "{}", more.text);
    }
    let long = "n".repeat(limits::NAME_CHARS_MAX);
    for bad in ["", "  ", &format!("{long}n"), "a\u{7}"] {
        let answer = add(&browser, &mut Device::new("named"), bad).await;
        assert!(answer.status == 422 && answer.text.contains("name-error"), "{bad}: {}", answer.text);
    }
    let other = somebody(&server, "ben@example.com").await;
    assert_eq!(add(&other, &mut Device::new("long"), &long).await.status, 303);
    assert_eq!(add(&other, &mut Device::new("<b>"), "<b>hostile</b>").await.status, 303);
    is_sound("account", &other.get(ACCOUNT).await.text);
    assert!(!other.get(ACCOUNT).await.text.contains("<b>hostile"));
}

async fn whoever_tries_too_often_waits(server: Server) {
    let server = named(&server).await;
    let mut device = Device::new("phone");
    for _ in 0..limits::SIGN_IN_ATTEMPTS_PER_MINUTE {
        assert!(is_refused(&sign_in(&server, &mut device).await));
    }
    let answer = sign_in(&server, &mut device).await;
    assert!(answer.status == 429 && !answer.header("retry-after").is_empty(), "{}", answer.text);
    server.advance_ms(2_000);
    assert!(is_refused(&sign_in(&server, &mut device).await));
}

async fn wrong_answers_at_one_account_wait_and_other_ways_do_not(server: Server) {
    let server = named(&server).await;
    let world = server.world().await;
    let (ann, ben) = (somebody(&server, "ann@example.com").await, somebody(&server, "ben@example.com").await);
    let (mut device, mut of_ben) = (Device::new("phone"), Device::new("of ben"));
    let password = |password: &str| vec![("email", "ann@example.com".to_owned()), ("password", password.to_owned())];
    assert_eq!(post(&ann, "/portal/account/password", password(PASSWORD)).await.status, 303);
    assert_eq!(add(&ann, &mut device, "Phone").await.status, 303);
    assert_eq!(add(&ben, &mut of_ben, "Phone").await.status, 303);
    let mut forged = Device { user: device.user.clone(), ..Device::new("phone") };
    for _ in 0..limits::SIGN_IN_ATTEMPTS_FREE {
        assert!(is_refused(&sign_in(&server, &mut forged).await));
    }
    let is_early = |answer: &Answer| {
        let waits = (answer.status, answer.header("retry-after")) == (429, "31");
        waits && answer.text.contains("or use a link") && set_cookie(answer, "grantd_portal").is_none()
    };
    for device in [&mut forged, &mut device] {
        let answer = sign_in(&server, device).await;
        assert!(is_early(&answer), "{}", answer.text);
        is_sound("early", &answer.text);
    }
    // Others do not wait, and what else signs in does not.
    signed_in(&server, &sign_in(&server, &mut of_ben).await);
    signed_in(&server, &send(&server, "", "/portal/sign-in/password", password(PASSWORD)).await);
    by_link(&server, "ann@example.com").await;
    server.advance_ms(limits::SIGN_IN_WAIT_S * 1000 - 1);
    assert_eq!(sign_in(&server, &mut device).await.status, 429);
    server.advance_ms(1);
    signed_in(&server, &sign_in(&server, &mut device).await);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM sign_in_attempts").await, 0, "the right one was");
    // Nor does a passkey wait for who guesses passwords.
    for _ in 0..limits::SIGN_IN_ATTEMPTS_FREE {
        assert_eq!(send(&server, "", "/portal/sign-in/password", password("not this one at all")).await.status, 401);
    }
    assert_eq!(send(&server, "", "/portal/sign-in/password", password(PASSWORD)).await.status, 429);
    signed_in(&server, &sign_in(&server, &mut device).await);
    // Who is asked again waits as well, and whoever's passkey is sent, it is an attempt at the account that asks.
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let failed = async || {
        let told = server.events("/api/v1/audit/export").await;
        told.iter().filter(|event| event["core"]["kind"] == "auth.failed").count()
    };
    let before = failed().await;
    let path = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    let page = post(&ann, &path, vec![]).await.text;
    let (waiting, question) = (held(&page), attribute(&page, "challenge"));
    let with_form = |fields: Fields| [fields, vec![("held", waiting.clone())]].concat();
    for n in 0..limits::SIGN_IN_ATTEMPTS_FREE {
        let fields = if n % 2 == 0 { forged.signed(&question) } else { of_ben.signed(&question) };
        let answer = post(&ann, &path, with_form(fields)).await;
        assert!(answer.status == 401 && answer.text.contains("That is not right"), "{n}: {}", answer.text);
    }
    assert_eq!(failed().await, before + 1, "one for each source and minute");
    let early = post(&ann, &path, with_form(device.signed(&question))).await;
    assert!(is_early(&early) && held(&early.text) == waiting, "{}", early.text);
    server.token(&world).await.ok(200);
    signed_in(&server, &sign_in(&server, &mut of_ben).await);
    server.advance_ms(limits::SIGN_IN_WAIT_S * 1000);
    assert_eq!(post(&ann, &path, with_form(device.signed(&question))).await.status, 303);
    server.token(&world).await.refused(grantd_wire::Code::KeyRevoked);
}

async fn whoever_is_shut_out_has_no_passkey_left(server: Server) {
    let server = named(&server).await;
    let email = "ann@example.com";
    somebody(&server, email).await;
    let id = id_of(&server, email).await;
    let (operator, path) = (OperatorId::parse(&id).unwrap(), format!("/api/v1/operators/{id}"));
    let mut device = Device::new("phone");
    // Disabled by an admin, reset on the host, disabled of a restore.
    for way in ["disabled", "reset", "closed"] {
        let browser = by_link(&server, email).await;
        assert_eq!(add(&browser, &mut device, "Phone").await.status, 303, "{way}");
        let elsewhere = signed_in(&server, &sign_in(&server, &mut device).await);
        // What was asked before is answered behind it.
        let (challenge, cookie) = asked(&server).await;
        let answer = device.signed(&challenge);
        let mut made = Device::new("another").made(&browser.get(NEW).await.text);
        made.extend([("name", "Another".to_owned()), ("csrf", csrf(&browser.get("/portal/sessions").await.text))]);
        let now = server.now();
        let shut_out = move |tx: &mut Tx<'_>| match way {
            "reset" => operators::reset(tx, operator, now).map(drop),
            _ => operators::close(tx, operator, now),
        };
        match way {
            "disabled" => drop(server.api("PATCH", &path, json!({"disabled": true})).await.ok(200)),
            _ => server.store().write(shut_out).await.unwrap(),
        }
        assert!(is_refused(&send(&server, &cookie, SIGN_IN, answer).await), "{way}");
        let cookie = format!("grantd_portal={}", browser.cookie);
        assert!(is_sent_to_sign_in(&send(&server, &cookie, ADD, made).await), "{way}");
        for gone in [&browser, &elsewhere] {
            assert!(is_sent_to_sign_in(&gone.get(ACCOUNT).await), "{way}");
        }
        if way == "disabled" {
            server.api("PATCH", &path, json!({"disabled": false})).await.ok(200);
        }
        assert!(is_refused(&sign_in(&server, &mut device).await), "{way}");
        assert_eq!(server.database.number("SELECT COUNT(*) FROM passkeys").await, 0, "{way}");
        assert_eq!(server.database.number("SELECT COUNT(*) FROM web_sessions").await, 0, "{way}");
    }
}

async fn an_admin_makes_no_link_for_who_has_a_passkey(server: Server) {
    let server = named(&server).await;
    let browser = somebody(&server, "ann@example.com").await;
    let path = format!("/api/v1/operators/{}/login-link", id_of(&server, "ann@example.com").await);
    server.api("POST", &path, json!({})).await.ok(200);
    assert_eq!(add(&browser, &mut Device::new("phone"), "Phone").await.status, 303);
    server.api("POST", &path, json!({})).await.refused(grantd_wire::Code::Conflict);
}

async fn whoever_has_a_passkey_is_asked_again_for_it(server: Server) {
    let server = named(&server).await;
    let world = server.world().await;
    let (browser, ben) = (somebody(&server, "ann@example.com").await, somebody(&server, "ben@example.com").await);
    let (mut device, mut of_ben) = (Device::new("phone"), Device::new("of ben"));
    add(&browser, &mut device, "Phone").await;
    add(&ben, &mut of_ben, "Phone").await;
    server.advance_ms(limits::CONFIRMED_S * 1000);
    // Adding another, and removing one, is grave itself.
    let remove = remove_path(&browser.page(ACCOUNT).await);
    let made = Device::new("another").made(&browser.get(NEW).await.text);
    for (path, fields) in [(NEW, vec![]), (ADD, made), (&remove, vec![])] {
        let answer = post(&browser, path, fields).await;
        assert!(answer.status == 401 && !held(&answer.text).is_empty(), "{path}: {}", answer.text);
    }
    let path = format!("/portal/apps/{}/keys/{}/revoke", world.app, world.key_id);
    let page = post(&browser, &path, vec![]).await.text;
    is_sound("confirm", &page);
    assert_eq!(attribute(&page, "known"), encoded("phone"));
    let (waiting, question) = (held(&page), attribute(&page, "challenge"));
    // Another's passkey, and an answer to the page where one signs in, prove nothing.
    let (at_sign_in, _) = asked(&server).await;
    of_ben.user.clone_from(&device.user);
    for fields in [of_ben.signed(&question), device.signed(&at_sign_in)] {
        let fields = [fields, vec![("held", waiting.clone())]].concat();
        assert_eq!(post(&browser, &path, fields).await.status, 401);
    }
    server.token(&world).await.ok(200);
    // Who is signed in need not be named. What a browser fills in by itself does not matter.
    device.user.clear();
    let more = vec![("held", waiting), ("password", "filled in".to_owned())];
    let fields = [device.signed(&question), more].concat();
    assert_eq!(post(&browser, &path, fields).await.status, 303);
    server.token(&world).await.refused(grantd_wire::Code::KeyRevoked);
    let told = server.events("/api/v1/audit/export").await;
    let told: Vec<_> = told.iter().filter(|event| event["core"]["kind"] == "operator.confirmed").collect();
    assert!(told.len() == 1 && told[0]["core"]["sign_in"] == "passkey", "{told:?}");
}

async fn a_page_without_a_host_name_offers_none(server: Server) {
    for (public_url, offers) in [
        ("http://127.0.0.1:8080", false),
        ("https://127.0.0.1:8443", false),
        ("https://[::1]:8443", false),
        ("http://vault.example.com", false),
        ("https://vault.example.com/under", true),
        ("https://vault.example.com:8443", true),
        ("http://localhost:8080", true),
        ("http://vault.localhost:8080", true),
        ("http://localhost.example.com", false),
    ] {
        let server = server.another(public_url, |settings| public_url.clone_into(&mut settings.public_url)).await;
        let page = server.send(Raw::new("GET", "/portal/sign-in", "")).await;
        assert_eq!(page.text.contains("data-passkey=\"ask\""), offers, "{public_url}");
        assert_eq!(page.text.contains("Passkeys work only where"), !offers, "{public_url}");
        assert_eq!(page.headers.contains_key("set-cookie"), offers, "{public_url}");
        is_sound("sign-in", &page.text);
    }
}
