use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::signature::{Headers, Key, Unsigned, verify};
use super::*;

const NOW: TimeMs = TimeMs(1_790_000_000_000);
const MESSAGE: Message<'static> = Message { id: "msg_1", at: NOW };

fn told(vendor: Vendor, body: &Value) -> Vec<(String, String, Change)> {
    let read = read(vendor, SubjectFrom::Id, body.to_string().as_bytes(), &MESSAGE).unwrap();
    read.into_iter().map(|told| (told.id, told.subject, told.change)).collect()
}

fn one(id: &str, subject: &str, change: Change) -> Vec<(String, String, Change)> {
    vec![(id.to_owned(), subject.to_owned(), change)]
}

#[test]
fn what_auth0_streams_of_users() {
    let event = |kind: &str, object: Value| {
        json!({
            "id": "evt_1", "source": "urn:auth0:example", "specversion": "1.0", "type": kind,
            "time": "2026-11-29T10:00:00.123456Z", "data": {"object": object},
        })
    };
    let user = |more: Value| {
        let mut user = json!({"user_id": "auth0|1", "email": "a@example.com"});
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    let of = |event: Value| told(Vendor::Auth0, &event);
    assert_eq!(of(event("user.deleted", user(json!({})))), one("evt_1", "auth0|1", Change::Deleted));
    assert_eq!(of(event("com.auth0.user.deleted", user(json!({})))), one("evt_1", "auth0|1", Change::Deleted));
    assert_eq!(of(event("user.updated", user(json!({"blocked": true})))), one("evt_1", "auth0|1", Change::Blocked));
    assert_eq!(of(event("user.updated", user(json!({"blocked": false})))), one("evt_1", "auth0|1", Change::Unblocked));
    for silent in [
        event("user.updated", user(json!({}))),
        event("user.updated", user(json!({"blocked": "yes"}))),
        event("user.created", user(json!({"blocked": true}))),
        event("organization.deleted", user(json!({}))),
        event("user.deleted", json!({"email": "a@example.com"})),
        event("user.deleted", json!({"user_id": "x".repeat(256)})),
    ] {
        assert_eq!(of(silent.clone()), [], "{silent}");
    }
}

#[test]
fn what_auth0_logs_of_users() {
    let call = |method: &str, path: &str, body: Value, status: i64| {
        json!({"log_id": "900", "data": {
            "log_id": "900", "type": "sapi", "date": "2026-11-29T10:00:00.000Z", "user_id": "auth0|admin",
            "details": {"request": {"method": method, "path": path, "body": body}, "response": {"statusCode": status}},
        }})
    };
    let of = |record: Value| told(Vendor::Auth0, &record);
    let path = "/api/v2/users/auth0%7C1";
    assert_eq!(of(call("delete", path, json!({}), 204)), one("900", "auth0|1", Change::Deleted));
    assert_eq!(of(call("patch", path, json!({"blocked": true}), 200)), one("900", "auth0|1", Change::Blocked));
    assert_eq!(of(call("PATCH", path, json!({"blocked": false}), 200)), one("900", "auth0|1", Change::Unblocked));
    let deleted = json!({"log_id": "901", "type": "sdu", "date": "2026-11-29T10:00:00Z", "user_id": "auth0|2"});
    assert_eq!(of(deleted.clone()), one("901", "auth0|2", Change::Deleted));
    for silent in [
        call("delete", path, json!({}), 403),
        call("patch", path, json!({"name": "x"}), 200),
        call("get", path, json!({}), 200),
        call("delete", "/api/v2/users/auth0%7C1/sessions", json!({}), 204),
        call("delete", "/api/v2/users/auth0%7C1?x=1", json!({}), 204),
        call("delete", "/api/v2/users/", json!({}), 204),
        call("delete", "/api/v2/users/%FF", json!({}), 204),
        call("delete", "/api/v2/clients/auth0%7C1", json!({}), 204),
        json!({"log_id": "902", "type": "s", "date": "2026-11-29T10:00:00Z", "user_id": "auth0|2"}),
        json!({"type": "sdu", "date": "2026-11-29T10:00:00Z", "user_id": "auth0|2"}),
        json!({"log_id": "903", "type": "sdu", "date": "yesterday", "user_id": "auth0|2"}),
        json!(5),
    ] {
        assert_eq!(of(silent.clone()), [], "{silent}");
    }
    // Arrays, objects that hold them, and lines.
    let both = [call("delete", path, json!({}), 204), deleted];
    assert_eq!(of(json!(both)).len(), 2);
    assert_eq!(of(json!({"logs": both})).len(), 2);
    let lines = format!("{}\n\n{}\r\n", both[0], both[1]);
    assert_eq!(read(Vendor::Auth0, SubjectFrom::Id, lines.as_bytes(), &MESSAGE).unwrap().len(), 2);
    for bad in ["", "{", "{}\n{", "\u{0}"] {
        assert_eq!(read(Vendor::Auth0, SubjectFrom::Id, bad.as_bytes(), &MESSAGE), Err(NO_JSON), "{bad}");
    }
}

#[test]
fn what_clerk_tells_of_users() {
    let event = |kind: &str, data: Value| json!({"object": "event", "type": kind, "timestamp": 1_789_999_999_000_i64, "data": data});
    let of = |event: Value| told(Vendor::Clerk, &event);
    let deleted = event("user.deleted", json!({"id": "user_1", "object": "user", "deleted": true}));
    assert_eq!(of(deleted.clone()), one("msg_1", "user_1", Change::Deleted));
    assert_eq!(
        of(event("user.updated", json!({"id": "user_1", "banned": true}))),
        one("msg_1", "user_1", Change::Blocked)
    );
    assert_eq!(
        of(event("user.updated", json!({"id": "user_1", "banned": false}))),
        one("msg_1", "user_1", Change::Unblocked)
    );
    for silent in [
        event("user.updated", json!({"id": "user_1", "locked": true})),
        event("session.ended", json!({"id": "sess_1", "banned": true})),
        event("user.deleted", json!({"id": null})),
        json!([]),
    ] {
        assert_eq!(of(silent.clone()), [], "{silent}");
    }
    let at =
        |event: &Value| read(Vendor::Clerk, SubjectFrom::Id, event.to_string().as_bytes(), &MESSAGE).unwrap()[0].at;
    assert_eq!(at(&deleted), TimeMs(1_789_999_999_000));
    assert_eq!(at(&json!({"type": "user.deleted", "data": {"id": "user_1"}})), NOW);
}

fn okta(kind: &str, result: &str) -> Value {
    json!({
        "uuid": "u-1", "published": "2026-11-29T10:00:00.000Z", "eventType": kind, "outcome": {"result": result},
        "target": [
            {"id": "0oa1", "type": "AppInstance", "alternateId": "x"},
            {"id": "00u1", "type": "User", "alternateId": "ann@example.com"},
        ],
    })
}

#[test]
fn what_okta_tells_of_users() {
    let delivery =
        |events: &[Value]| json!({"eventType": "com.okta.event_hook", "eventId": "d-1", "data": {"events": events}});
    for (kind, change) in [
        ("suspend", Change::Blocked),
        ("deactivate", Change::Blocked),
        ("unsuspend", Change::Unblocked),
        ("activate", Change::Unblocked),
        ("reactivate", Change::Unblocked),
        ("delete.initiated", Change::Deleted),
        ("delete.completed", Change::Deleted),
    ] {
        let body = delivery(&[okta(&format!("user.lifecycle.{kind}"), "SUCCESS")]);
        assert_eq!(told(Vendor::Okta, &body), one("u-1", "00u1", change), "{kind}");
    }
    let body = delivery(&[
        okta("user.lifecycle.suspend", "SUCCESS"),
        okta("user.lifecycle.suspend", "FAILURE"),
        okta("x", "SUCCESS"),
    ]);
    assert_eq!(told(Vendor::Okta, &body).len(), 1);
    let by_login = read(Vendor::Okta, SubjectFrom::Login, body.to_string().as_bytes(), &MESSAGE).unwrap();
    assert_eq!(by_login[0].subject, "ann@example.com");
    for bad in [json!({}), json!({"data": {"events": {}}})] {
        assert!(read(Vendor::Okta, SubjectFrom::Id, bad.to_string().as_bytes(), &MESSAGE).is_err());
    }
    // As many as may come, and one more.
    let many = |count: usize| vec![okta("user.lifecycle.suspend", "SUCCESS"); count];
    assert_eq!(told(Vendor::Okta, &delivery(&many(limits::WEBHOOK_EVENTS_MAX))).len(), limits::WEBHOOK_EVENTS_MAX);
    let more = delivery(&many(limits::WEBHOOK_EVENTS_MAX + 1));
    assert_eq!(read(Vendor::Okta, SubjectFrom::Id, more.to_string().as_bytes(), &MESSAGE), Err(TOO_MANY));
}

fn user(status: UserStatus, told_at: Option<TimeMs>) -> User {
    User {
        id: UserId::from_uuid(Uuid::nil()),
        app_id: AppId::from_uuid(Uuid::nil()),
        idp_id: IdentityProviderId::from_uuid(Uuid::nil()),
        subject: "s".to_owned(),
        status,
        email: None,
        name: None,
        roles: BTreeSet::new(),
        told_at,
        told_hash: None,
        last_seen_at: None,
        created_at: NOW,
        updated_at: NOW,
        version: 1,
    }
}

#[test]
fn what_follows_from_an_event() {
    let active = user(UserStatus::Active, Some(NOW));
    let suspended = user(UserStatus::Suspended, Some(NOW));
    let gone = user(UserStatus::Deprovisioned { at: NOW }, Some(NOW));
    let ours = Mark { told_at: NOW, suspended_at: Some(NOW) };
    let theirs = Mark { told_at: NOW, suspended_at: None };
    let act = |user: Option<&User>, mark: Option<&Mark>, change: Change, at: TimeMs| {
        decide(user, mark, &Told { id: "e".to_owned(), at, subject: "s".to_owned(), change })
    };
    let later = NOW.plus_ms(1);
    for (user, mark, change, wanted) in [
        (Some(&active), None, Change::Blocked, Act::Suspend),
        (Some(&active), None, Change::Deleted, Act::Deprovision),
        (Some(&active), None, Change::Unblocked, Act::Remember),
        (Some(&active), Some(&theirs), Change::Blocked, Act::Suspend),
        (Some(&suspended), None, Change::Blocked, Act::Remember),
        (Some(&suspended), None, Change::Deleted, Act::Deprovision),
        // Only what the webhook did is taken back.
        (Some(&suspended), Some(&ours), Change::Unblocked, Act::Resume),
        (Some(&suspended), Some(&theirs), Change::Unblocked, Act::Remember),
        (Some(&suspended), None, Change::Unblocked, Act::Remember),
        (Some(&gone), Some(&ours), Change::Unblocked, Act::ForgetBlocked),
        (Some(&gone), Some(&ours), Change::Blocked, Act::RememberBlocked),
        // Tokens may be about that were never shown here.
        (Some(&gone), Some(&ours), Change::Deleted, Act::RememberGone),
        (None, None, Change::Deleted, Act::RememberGone),
        (None, None, Change::Blocked, Act::RememberBlocked),
        (None, None, Change::Unblocked, Act::ForgetBlocked),
    ] {
        assert_eq!(act(user, mark, change, later), wanted, "{user:?} {mark:?} {change:?}");
    }
    // What happened before the newest event that is known of does not count; what happened at the same moment does.
    for change in [Change::Blocked, Change::Unblocked, Change::Deleted] {
        assert_eq!(act(Some(&active), Some(&theirs), change, NOW.plus_ms(-1)), Act::Nothing);
        assert_ne!(act(Some(&active), Some(&theirs), change, NOW), Act::Nothing);
    }
    // A token from long after a deletion is of another user of that name; one from about then is not.
    assert_eq!(act(Some(&active), None, Change::Deleted, NOW.plus_ms(-REVIVED_AFTER_MS)), Act::Deprovision);
    assert_eq!(act(Some(&active), None, Change::Deleted, NOW.plus_ms(-REVIVED_AFTER_MS - 1)), Act::Nothing);
    assert_eq!(act(Some(&active), None, Change::Blocked, NOW.plus_ms(-REVIVED_AFTER_MS - 1)), Act::Suspend);
    // Of who was never seen the same holds, and a deletion says nothing of tokens that come after it was told.
    let told = Told { id: "e".to_owned(), at: NOW, subject: "s".to_owned(), change: Change::Deleted };
    for (later, until) in [(0, 0), (REVIVED_AFTER_MS, REVIVED_AFTER_MS), (REVIVED_AFTER_MS + 1, REVIVED_AFTER_MS)] {
        assert_eq!(gone_at(&told, NOW.plus_ms(later)), NOW.plus_ms(until));
    }
}

/// The key of Standard Webhooks' own examples.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_signature_known_from_elsewhere_holds() {
    // Computed with the reference library of Standard Webhooks.
    let key = Key::parse(SECRET).unwrap();
    let headers = Headers {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    let body = br#"{"test": 2432232314}"#;
    let now = TimeMs(1_614_265_330_000);
    assert_eq!(verify(&key, &headers, body, now).unwrap().id, headers.id);
    assert_eq!(verify(&key, &headers, br#"{"test": 2432232315}"#, now).unwrap_err(), Unsigned::Signature);
    // At either end of the window, and one millisecond past it.
    for (ms, holds) in [
        (limits::WEBHOOK_WINDOW_MS, true),
        (-limits::WEBHOOK_WINDOW_MS, true),
        (limits::WEBHOOK_WINDOW_MS + 1, false),
        (-limits::WEBHOOK_WINDOW_MS - 1, false),
    ] {
        assert_eq!(verify(&key, &headers, body, now.plus_ms(ms)).is_ok(), holds, "{ms}");
    }
}

#[test]
fn what_is_no_signature() {
    let key = Key::parse(SECRET).unwrap();
    let seconds = (NOW.0 / 1000).to_string();
    let good = format!("v1,{}", key.sign(format!("m.{seconds}.x").as_bytes()));
    let check = |id: &str, timestamp: &str, signature: &str| {
        verify(&key, &Headers { id, timestamp, signature }, b"x", NOW).map(|message| message.at)
    };
    assert_eq!(check("m", &seconds, &good), Ok(NOW));
    // Others beside it, as while a secret is replaced; of other versions; but no more than ten.
    assert_eq!(check("m", &seconds, &format!("v1,AAAA v2,{good} {good}")), Ok(NOW));
    let many = |count: usize| format!("{}{good}", "v1,AAAA ".repeat(count));
    assert_eq!(check("m", &seconds, &many(9)), Ok(NOW));
    assert_eq!(check("m", &seconds, &many(10)), Err(Unsigned::Signature));
    for signature in ["", "v1,", "v1", "v2,AAAA", &good[3..], &good[..good.len() - 2], &good.replace("v1,", "v1a,")] {
        assert_eq!(check("m", &seconds, signature), Err(Unsigned::Signature), "{signature}");
    }
    for (id, timestamp) in [
        ("", &*seconds),
        ("a b", &seconds),
        ("é", &seconds),
        ("m", ""),
        ("m", "-1"),
        ("m", "1e9"),
        ("m", "1790000000000"),
    ] {
        assert_eq!(check(id, timestamp, &good), Err(Unsigned::Form), "{id} {timestamp}");
    }
    assert_eq!(check(&"m".repeat(256), &seconds, &good), Err(Unsigned::Form));
    assert_eq!(check(&"m".repeat(255), &seconds, &good), Err(Unsigned::Signature));
    // What is signed is one text: a dot cannot be moved from one part to the next.
    let moved = format!("v1,{}", key.sign(format!("m.1.{seconds}.x").as_bytes()));
    assert_eq!(check("m", &seconds, &moved), Err(Unsigned::Signature));
}

#[test]
fn secrets_are_of_a_certain_length() {
    let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
    for (bytes, is_one) in [(23, false), (24, true), (64, true), (65, false)] {
        assert_eq!(Key::parse(&of(bytes)).is_some(), is_one, "{bytes}");
    }
    for bad in ["", "whsec_", "whsec_!", &of(32)[6..]] {
        assert!(Key::parse(bad).is_none(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_body_is_too_strange(body in proptest::collection::vec(any::<u8>(), 0..200), which in 0..3_usize) {
        let read = read(Vendor::ALL[which], SubjectFrom::Login, &body, &MESSAGE);
        prop_assert!(read.map_or(true, |told| told.len() <= limits::WEBHOOK_EVENTS_MAX));
    }
}
