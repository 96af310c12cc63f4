//! Webhooks of identity providers: what Auth0, Clerk and Okta say of users, and who may say it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grantd_domain::env::new_uuid;
use grantd_domain::identity::{User, UserStatus};
use grantd_server::sealed;
use grantd_store::{Location, identity_providers, users};
use grantd_wire::ids::{AppId, IdentityProviderId, UserId};
use grantd_wire::sign::hex;
use grantd_wire::{Code, TimeMs, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server, World, root};

in_memory! {
    a_token_opens_its_own_webhook_and_nothing_else,
    okta_asks_once_whether_it_may_call,
    only_vendors_with_webhooks_have_one,
    bodies_are_bounded_and_those_that_are_none_refused,
}

on_kept_engines! {
    who_is_blocked_is_suspended_and_let_in_again,
    who_is_deleted_is_deprovisioned_with_every_grant,
    an_event_counts_once_and_never_after_a_newer_one,
    what_clerk_signs_counts_and_nothing_else_does,
    what_an_operator_did_is_not_taken_back,
    a_directory_that_suspends_as_well_lets_in_again_itself,
    a_deleted_identity_provider_and_an_archived_app_hear_nothing,
    a_secret_that_does_not_open_is_found,
    deliveries_at_once_count_as_their_events_happened,
    what_was_issued_before_a_user_was_deleted_speaks_for_nobody_after,
    who_was_blocked_before_they_were_seen_is_suspended_from_the_first_sight_on,
    who_was_deleted_before_they_were_seen_is_not_let_in_by_a_token_of_before,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An identity provider of the app's with this preset, made if there is none.
pub async fn provider(server: &Server, app: &str, preset: &str) -> String {
    let (name, parsed) = (format!("https://{preset}.example.com/"), AppId::parse(app).unwrap());
    let issuer = name.clone();
    let known = server.store().read(move |tx| identity_providers::find(tx, parsed, &issuer)).await.unwrap();
    if let Some(known) = known {
        return known.id.to_string();
    }
    let body = json!({"preset": preset, "issuer": name, "audiences": ["a"], "jwks_url": format!("{name}keys")});
    text(&server.api("POST", &format!("/api/v1/apps/{app}/identity-providers"), body).await.ok(201), "id")
}

/// A vendor that may call.
pub struct Vendor<'s> {
    server: &'s Server,
    world: &'s World,
    pub idp: String,
    pub token: String,
}

impl<'s> Vendor<'s> {
    pub async fn of(server: &'s Server, world: &'s World, preset: &str, ask: Value) -> Self {
        Self::at(server, world, provider(server, &world.app, preset).await, ask).await
    }

    /// The vendor of this identity provider.
    pub async fn at(server: &'s Server, world: &'s World, idp: String, ask: Value) -> Self {
        let made = server.api("POST", &world.path(&format!("identity-providers/{idp}/webhook")), ask).await.ok(201);
        assert_eq!(made["webhook"]["url"], format!("http://127.0.0.1:8080/webhooks/idp/{idp}"));
        Self { server, world, idp, token: made["token"].as_str().unwrap_or_default().to_owned() }
    }

    pub fn raw(&self, method: &str, body: impl Into<String>) -> Raw {
        Raw::new(method, &format!("/webhooks/idp/{}", self.idp), body.into())
            .set("content-type", "application/json")
            .set("authorization", &*self.token)
    }

    async fn says(&self, body: &Value) -> Answer {
        self.server.send(self.raw("POST", body.to_string())).await
    }

    pub async fn heard(&self, body: Value) {
        let answer = self.says(&body).await;
        assert_eq!((answer.status, &*answer.text), (204, ""), "{body}");
    }

    /// A user of this identity provider.
    pub async fn user(&self, subject: &str, told_at: Option<TimeMs>) -> UserId {
        let id = UserId::from_uuid(new_uuid(&*self.server.env));
        let now = self.server.now();
        let user = User {
            id,
            app_id: AppId::parse(&self.world.app).unwrap(),
            idp_id: IdentityProviderId::parse(&self.idp).unwrap(),
            subject: subject.to_owned(),
            status: UserStatus::Active,
            email: None,
            name: None,
            roles: std::collections::BTreeSet::new(),
            told_at,
            told_hash: None,
            last_seen_at: None,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.server.store().write(move |tx| users::insert(tx, &user)).await.unwrap();
        id
    }

    async fn status(&self, user: UserId) -> String {
        let path = self.world.path(&format!("users/{user}"));
        text(&self.server.api("GET", &path, Value::Null).await.ok(200), "user_status")
    }

    /// How many events of this kind the trail has, all told by this webhook.
    async fn told(&self, kind: &str) -> usize {
        let told = self.server.told(self.world, kind).await;
        for event in &told {
            assert_eq!(event["actor"], json!({"type": "webhook", "id": self.idp}), "{event}");
        }
        told.len()
    }
}

/// Auth0's event that a user was changed or deleted, so many milliseconds after now.
pub fn auth0(server: &Server, id: &str, kind: &str, subject: &str, blocked: Option<bool>, later_ms: i64) -> Value {
    let at = server.now().plus_ms(later_ms).to_string();
    let mut user = json!({"user_id": subject});
    if let Some(blocked) = blocked {
        user["blocked"] = json!(blocked);
    }
    json!({"id": id, "specversion": "1.0", "type": kind, "time": at, "data": {"object": user}})
}

async fn who_is_blocked_is_suspended_and_let_in_again(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let user = vendor.user("auth0|1", None).await;
    let owner = format!("UPDATE grants SET principal_type = 'user', principal_id = {}", blob(&server, user));
    server.database.behind_its_back(&owner).await;
    server.token(&world).await.ok(200);
    vendor.heard(auth0(&server, "e1", "user.updated", "auth0|1", Some(true), 0)).await;
    assert_eq!(vendor.status(user).await, "suspended");
    assert_ne!(server.token(&world).await.status, 200);
    server.advance_ms(1);
    vendor.heard(auth0(&server, "e2", "user.updated", "auth0|1", Some(false), 0)).await;
    assert_eq!(vendor.status(user).await, "active");
    server.token(&world).await.ok(200);
    assert_eq!((vendor.told("user.suspended").await, vendor.told("user.resumed").await), (1, 1));
    // Users of nobody's are passed over in silence.
    vendor.heard(auth0(&server, "e3", "user.deleted", "auth0|9", None, 0)).await;
    assert_eq!(vendor.told("user.deprovisioned").await, 0);
    let shown =
        server.api("GET", &world.path(&format!("identity-providers/{}/webhook", vendor.idp)), Value::Null).await;
    assert_eq!(shown.ok(200)["last_event_at"], server.now().to_string());
}

fn blob(server: &Server, user: UserId) -> String {
    let hex = hex(user.as_bytes());
    if matches!(server.database.location, Location::Postgres(_)) {
        format!("'\\x{hex}'::bytea")
    } else {
        format!("X'{hex}'")
    }
}

async fn who_is_deleted_is_deprovisioned_with_every_grant(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "okta", json!({"subject_from": "login"})).await;
    let user = vendor.user("ann@example.com", None).await;
    let blob = blob(&server, user);
    server.database.behind_its_back(&format!("UPDATE credentials SET user_id = {blob}")).await;
    let owner = format!("UPDATE grants SET principal_type = 'user', principal_id = {blob}");
    server.database.behind_its_back(&owner).await;
    let event = |kind: &str| {
        json!({"data": {"events": [{
            "uuid": kind, "published": server.now().to_string(), "eventType": format!("user.lifecycle.{kind}"),
            "outcome": {"result": "SUCCESS"},
            "target": [{"id": "00u1", "type": "User", "alternateId": "ann@example.com"}],
        }]}})
    };
    vendor.heard(event("deactivate")).await;
    assert_eq!(vendor.status(user).await, "suspended");
    vendor.heard(event("delete.initiated")).await;
    assert_eq!((vendor.status(user).await, server.token(&world).await.status), ("deprovisioned".to_owned(), 410));
    let told = server.told(&world, "user.deprovisioned").await;
    assert_eq!((told.len(), &told[0]["grants_revoked"]), (1, &json!(1)), "{told:?}");
    let destroyed = "SELECT COUNT(*) FROM credentials WHERE state = 'destroyed' AND sealed IS NULL";
    assert_eq!(server.database.number(destroyed).await, 1);
    // Once is enough, and for good.
    vendor.heard(event("delete.completed")).await;
    vendor.heard(event("activate")).await;
    assert_eq!((vendor.told("user.deprovisioned").await, vendor.told("user.resumed").await), (1, 0));
}

async fn an_event_counts_once_and_never_after_a_newer_one(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let user = vendor.user("u", None).await;
    let block = auth0(&server, "block", "user.updated", "u", Some(true), 0);
    let unblock = auth0(&server, "unblock", "user.updated", "u", Some(false), 0);
    vendor.heard(block.clone()).await;
    vendor.heard(unblock).await;
    assert_eq!(vendor.status(user).await, "active");
    // The same event again, of the same moment as the newest.
    vendor.heard(block).await;
    assert_eq!(vendor.status(user).await, "active");
    // Another of before it, which came late.
    vendor.heard(auth0(&server, "late", "user.updated", "u", Some(true), -1)).await;
    assert_eq!(vendor.status(user).await, "active");
    // One from the future is of now, and does not make what follows look old.
    vendor.heard(auth0(&server, "future", "user.updated", "u", Some(true), 86_400_000)).await;
    assert_eq!(vendor.status(user).await, "suspended");
    server.advance_ms(1);
    vendor.heard(auth0(&server, "after", "user.updated", "u", Some(false), 0)).await;
    assert_eq!(vendor.status(user).await, "active");
    // A token from hours after a deletion is of another user of that name.
    let again = vendor.user("again", Some(server.now())).await;
    vendor.heard(auth0(&server, "old", "user.deleted", "again", None, -7_200_000)).await;
    assert_eq!(vendor.status(again).await, "active");
    vendor.heard(auth0(&server, "new", "user.deleted", "again", None, -1_000)).await;
    assert_eq!(vendor.status(again).await, "deprovisioned");
    // What is remembered of events is forgotten in time.
    assert_eq!(server.database.number("SELECT COUNT(*) FROM idp_webhook_events").await, 7);
    server.advance_ms(limits::WEBHOOK_MEMORY_MS + 1);
    vendor.heard(auth0(&server, "later", "user.updated", "u", Some(false), 0)).await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM idp_webhook_events").await, 1);
}

async fn what_an_operator_did_is_not_taken_back(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let user = vendor.user("u", None).await;
    let by_operator = |what: &str| world.path(&format!("users/{user}/{what}"));
    server.api("POST", &by_operator("suspend"), Value::Null).await.ok(200);
    for (id, blocked) in [("1", true), ("2", false)] {
        server.advance_ms(1);
        vendor.heard(auth0(&server, id, "user.updated", "u", Some(blocked), 0)).await;
    }
    assert_eq!(vendor.status(user).await, "suspended");
    server.api("POST", &by_operator("resume"), Value::Null).await.ok(200);
    server.advance_ms(1);
    vendor.heard(auth0(&server, "3", "user.updated", "u", Some(true), 0)).await;
    server.api("POST", &by_operator("resume"), Value::Null).await.ok(200);
    server.api("POST", &by_operator("suspend"), Value::Null).await.ok(200);
    // Who resumed and suspended since then has the last word.
    server.advance_ms(1);
    vendor.heard(auth0(&server, "4", "user.updated", "u", Some(false), 0)).await;
    assert_eq!(vendor.status(user).await, "suspended");
    // So has who suspended a user whom the webhook had suspended before.
    let other = vendor.user("o", None).await;
    vendor.heard(auth0(&server, "5", "user.updated", "o", Some(true), 0)).await;
    server.api("POST", &world.path(&format!("users/{other}/suspend")), Value::Null).await.ok(200);
    server.advance_ms(1);
    vendor.heard(auth0(&server, "6", "user.updated", "o", Some(false), 0)).await;
    assert_eq!(vendor.status(other).await, "suspended");
}

async fn a_directory_that_suspends_as_well_lets_in_again_itself(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let user = vendor.user("u", None).await;
    let path = world.path(&format!("identity-providers/{}/scim", vendor.idp));
    let token = text(&server.api("POST", &path, json!({})).await.ok(201), "token");
    let users = format!("/scim/v2/{}/Users", vendor.idp);
    let call = async |method: &str, path: &str, body: Value| {
        let raw = Raw::new(method, path, body.to_string()).set("content-type", "application/scim+json");
        server.send(raw.set("authorization", format!("Bearer {token}"))).await
    };
    let made = call("POST", &users, json!({"userName": "u", "externalId": "u"})).await.ok(201);
    let one = format!("{users}/{}", text(&made, "id"));
    let active = |is: bool| json!({"userName": "u", "externalId": "u", "active": is});
    vendor.heard(auth0(&server, "1", "user.updated", "u", Some(true), 0)).await;
    call("PUT", &one, active(false)).await.ok(200);
    server.advance_ms(1);
    vendor.heard(auth0(&server, "2", "user.updated", "u", Some(false), 0)).await;
    assert_eq!(vendor.status(user).await, "suspended");
    call("PUT", &one, active(true)).await.ok(200);
    assert_eq!(vendor.status(user).await, "active");
}

/// What Clerk sends, signed with this secret, so many seconds after now.
fn clerk(vendor: &Vendor<'_>, secret: &str, id: &str, body: &Value, later_s: i64) -> Raw {
    let bytes = BASE64_STANDARD.decode(&secret[6..]).unwrap();
    let seconds = vendor.server.now().0.div_euclid(1000) + later_s;
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(signed));
    let raw = vendor.raw("POST", body.to_string());
    raw.set("svix-id", id).set("svix-timestamp", seconds.to_string()).set("svix-signature", signature)
}

async fn what_clerk_signs_counts_and_nothing_else_does(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "clerk", json!({"secret": SECRET})).await;
    assert_eq!(vendor.token, "");
    let user = vendor.user("user_1", None).await;
    let event = |banned: bool| json!({"type": "user.updated", "timestamp": server.now().0, "data": {"id": "user_1", "banned": banned}});
    let refused = async |raw: Raw, check: &str| {
        let refused = server.send(raw).await.refused(Code::SessionRequired);
        assert_eq!(refused["details"]["check"], check, "{refused}");
        assert_eq!(vendor.status(user).await, "active");
    };
    let other = format!("whsec_{}", BASE64_STANDARD.encode([9; 32]));
    refused(clerk(&vendor, &other, "m1", &event(true), 0), "signature").await;
    refused(clerk(&vendor, SECRET, "m1", &event(true), 0).set("svix-id", "m2"), "signature").await;
    refused(clerk(&vendor, SECRET, "m1", &event(true), -301), "time").await;
    refused(clerk(&vendor, SECRET, "m1", &event(true), 301), "time").await;
    refused(vendor.raw("POST", event(true).to_string()), "form").await;
    assert_eq!(server.send(clerk(&vendor, SECRET, "m1", &event(true), 0)).await.status, 204);
    assert_eq!(vendor.status(user).await, "suspended");
    server.advance_ms(1);
    let back = event(false);
    assert_eq!(server.send(clerk(&vendor, SECRET, "m2", &back, 0)).await.status, 204);
    assert_eq!(vendor.status(user).await, "active");
    // Sent again, with a time and a signature of now.
    assert_eq!(server.send(clerk(&vendor, SECRET, "m1", &event(true), 0)).await.status, 204);
    assert_eq!(vendor.status(user).await, "active");
    // Another secret: from then on that one counts, and the first no more.
    let path = world.path(&format!("identity-providers/{}/webhook/rotate", vendor.idp));
    server.api("POST", &path, json!({})).await.names(Code::InvalidValue, "secret");
    server.api("POST", &path, json!({"secret": "whsec_x"})).await.names(Code::InvalidValue, "secret");
    server.api("POST", &path, json!({"secret": other})).await.ok(201);
    server.advance_ms(1);
    refused(clerk(&vendor, SECRET, "m3", &event(true), 0), "signature").await;
    assert_eq!(server.send(clerk(&vendor, &other, "m3", &event(true), 0)).await.status, 204);
    assert_eq!(vendor.status(user).await, "suspended");
    // A GET is for vendors that ask first.
    server.send(vendor.raw("GET", "")).await.refused(Code::MethodNotAllowed);
    // Neither the trail nor an answer holds a secret.
    assert!(!server.export(&world.path("audit/export")).await.1.contains(SECRET));
}

async fn a_token_opens_its_own_webhook_and_nothing_else(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let (vendor, foreign) =
        (Vendor::of(&server, &world, "auth0", json!({})).await, Vendor::of(&server, &other, "auth0", json!({})).await);
    let user = vendor.user("u", None).await;
    let event = auth0(&server, "e", "user.deleted", "u", None, 0);
    let unknown = new_uuid(&*server.env).to_string();
    for raw in [
        vendor.raw("POST", event.to_string()).set("authorization", &*foreign.token),
        vendor.raw("POST", event.to_string()).set("authorization", ""),
        vendor.raw("POST", event.to_string()).set("authorization", &vendor.token[..vendor.token.len() - 1]),
        vendor.raw("POST", event.to_string()).set("authorization", format!("Basic {}", vendor.token)),
        Raw::new("POST", &format!("/webhooks/idp/{unknown}"), event.to_string()).set("authorization", &*vendor.token),
        Raw::new("POST", "/webhooks/idp/x", event.to_string()).set("authorization", &*vendor.token),
        Raw::new("POST", &format!("/webhooks/idp/{}/x", vendor.idp), "").set("authorization", &*vendor.token),
    ] {
        server.send(raw).await.refused(Code::SessionRequired);
    }
    // Another app's user of that name is not meant.
    foreign.heard(event.clone()).await;
    assert_eq!(vendor.status(user).await, "active");
    let path = world.path(&format!("identity-providers/{}/webhook", vendor.idp));
    server.api("POST", &path, json!({})).await.refused(Code::Conflict);
    let rotated = server.api("POST", &format!("{path}/rotate"), Value::Null).await.ok(201);
    server.send(vendor.raw("POST", event.to_string())).await.refused(Code::SessionRequired);
    // Also as a bearer token, as event streams of Auth0 send it.
    let bearer = format!("bearer {}", text(&rotated, "token"));
    let raw = vendor.raw("POST", event.to_string()).set("authorization", &*bearer);
    assert_eq!(server.send(raw).await.status, 204);
    assert_eq!(vendor.status(user).await, "deprovisioned");
    server.api("DELETE", &path, Value::Null).await.ok(200);
    server
        .send(vendor.raw("POST", event.to_string()).set("authorization", bearer))
        .await
        .refused(Code::SessionRequired);
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/rotate"))] {
        server.api(method, &path, Value::Null).await.refused(Code::NotFound);
    }
    for kind in ["idp_webhook.enabled", "idp_webhook.rotated", "idp_webhook.disabled"] {
        assert_eq!(server.told(&world, kind).await.len(), 1, "{kind}");
    }
    assert!(!server.export(&world.path("audit/export")).await.1.contains("grantd_hook_"));
}

async fn okta_asks_once_whether_it_may_call(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "okta", json!({})).await;
    let ask = |challenge: &str| vendor.raw("GET", "").set("x-okta-verification-challenge", challenge);
    let longest = "c".repeat(limits::WEBHOOK_CHALLENGE_CHARS_MAX);
    for challenge in ["Me_rShK8", &longest] {
        assert_eq!(server.send(ask(challenge)).await.ok(200), json!({"verification": challenge}));
    }
    server.send(ask(&format!("{longest}c"))).await.refused(Code::InvalidRequest);
    server.send(ask("")).await.refused(Code::InvalidRequest);
    server.send(vendor.raw("GET", "")).await.refused(Code::InvalidRequest);
    server.send(ask("x").set("authorization", "x")).await.refused(Code::SessionRequired);
    server.send(vendor.raw("PUT", "{}")).await.refused(Code::MethodNotAllowed);
}

async fn only_vendors_with_webhooks_have_one(server: Server) {
    let world = server.world().await;
    let path = async |preset: &str| {
        world.path(&format!("identity-providers/{}/webhook", provider(&server, &world.app, preset).await))
    };
    server.api("POST", &path("oidc").await, json!({})).await.names(Code::InvalidValue, "preset");
    for (preset, ask, field) in [
        ("auth0", json!({"secret": SECRET}), "secret"),
        ("auth0", json!({"subject_from": "login"}), "subject_from"),
        ("okta", json!({"subject_from": "email"}), "subject_from"),
        ("clerk", json!({}), "secret"),
        ("clerk", json!({"secret": "x"}), "secret"),
    ] {
        server.api("POST", &path(preset).await, ask.clone()).await.names(Code::InvalidValue, field);
    }
    server.api("POST", &path("okta").await, json!({"vendor": "okta"})).await.refused(Code::InvalidRequest);
}

async fn bodies_are_bounded_and_those_that_are_none_refused(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let sized = |bytes: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(bytes - 8));
    assert_eq!(server.send(vendor.raw("POST", sized(limits::WEBHOOK_BODY_BYTES_MAX))).await.status, 204);
    let larger = server.send(vendor.raw("POST", sized(limits::WEBHOOK_BODY_BYTES_MAX + 1))).await;
    assert_eq!(larger.status, 413, "{}", larger.text);
    for bad in ["", "{", "x"] {
        server.send(vendor.raw("POST", bad)).await.refused(Code::InvalidRequest);
    }
    let zipped = vendor.raw("POST", "{}").set("content-encoding", "gzip");
    server.send(zipped).await.refused(Code::EncodingUnsupported);
    let many = |count: usize| json!(vec![json!({"type": "s"}); count]);
    vendor.heard(many(limits::WEBHOOK_EVENTS_MAX)).await;
    vendor.says(&many(limits::WEBHOOK_EVENTS_MAX + 1)).await.refused(Code::InvalidRequest);
}

async fn a_deleted_identity_provider_and_an_archived_app_hear_nothing(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    let event = auth0(&server, "e", "user.deleted", "u", None, 0);
    server.api("POST", &format!("/api/v1/apps/{}/archive", world.app), Value::Null).await.ok(200);
    vendor.says(&event).await.refused(Code::SessionRequired);
    server.api("POST", &format!("/api/v1/apps/{}/unarchive", world.app), Value::Null).await.ok(200);
    vendor.heard(event.clone()).await;
    server.api("DELETE", &world.path(&format!("identity-providers/{}", vendor.idp)), Value::Null).await.ok(200);
    vendor.says(&event).await.refused(Code::SessionRequired);
    assert_eq!(server.database.number("SELECT COUNT(*) FROM idp_webhooks").await, 0);
}

async fn a_secret_that_does_not_open_is_found(server: Server) {
    let world = server.world().await;
    let vendor = Vendor::of(&server, &world, "clerk", json!({"secret": SECRET})).await;
    let checked = sealed::check(server.store(), &root()).await.unwrap();
    assert_eq!((checked.closed.count, checked.opened), (0, 2));
    server.database.behind_its_back("UPDATE idp_webhooks SET secret_version = secret_version + 1").await;
    let checked = sealed::check(server.store(), &root()).await.unwrap();
    let named = checked.closed.first[0].1.to_string();
    assert_eq!(named, format!("webhook secret of identity provider {}", vendor.idp));
    let event = json!({"type": "user.deleted", "data": {"id": "u"}});
    server.send(clerk(&vendor, SECRET, "m", &event, 0)).await.refused(Code::KeyUnavailable);
}

/// Users over whom two deliveries race, for each kind of race.
const ROUNDS: usize = 10;

/// Delivers it as a vendor does: again, if the server had no time for it.
async fn delivered(server: Server, raw: Raw) {
    loop {
        match server.send(raw.clone()).await.status {
            204 => return,
            status => assert_eq!(status, 503),
        }
    }
}

async fn deliveries_at_once_count_as_their_events_happened(server: Server) {
    let world = server.world().await;
    let replica = server.another("replica", |_| {}).await;
    let vendor = Vendor::of(&server, &world, "auth0", json!({})).await;
    server.advance_ms(1_000);
    let at = |user: &str, id: &str, blocked: bool, ms: i64| {
        auth0(&server, &format!("{user}-{id}"), "user.updated", user, Some(blocked), ms)
    };
    let (mut suspended, mut resumed) = (0, 0);
    for round in 0..ROUNDS {
        for (race, ends) in [("same", "suspended"), ("let-in-last", "active"), ("blocked-last", "suspended")] {
            let subject = format!("{race}-{round}");
            let user = vendor.user(&subject, None).await;
            let events = match race {
                "same" => [at(&subject, "1", true, -2), at(&subject, "1", true, -2)],
                "let-in-last" => [at(&subject, "1", true, -2), at(&subject, "2", false, -1)],
                _ => [at(&subject, "1", false, -2), at(&subject, "2", true, -1)],
            };
            let racing = [&server, &replica].into_iter().zip(&events);
            let racing: Vec<_> = racing
                .map(|(server, event)| tokio::spawn(delivered(server.clone(), vendor.raw("POST", event.to_string()))))
                .collect();
            for delivery in racing {
                delivery.await.unwrap();
            }
            assert_eq!(vendor.status(user).await, ends, "{subject}");
            // Delivered once more, late: nothing changes.
            for event in events {
                vendor.heard(event).await;
            }
            assert_eq!(vendor.status(user).await, ends, "{subject}");
            let told = async |kind: &str| {
                let told = server.told(&world, kind).await;
                told.iter().filter(|event| event["user_id"] == user.to_string()).count()
            };
            let (off, on) = (told("user.suspended").await, told("user.resumed").await);
            // Whoever was let in last was suspended before, or not at all.
            assert_eq!((off - on, off <= 1), (usize::from(ends == "suspended"), true), "{subject}");
            suspended += off;
            resumed += on;
        }
    }
    assert_eq!((vendor.told("user.suspended").await, vendor.told("user.resumed").await), (suspended, resumed));
}

/// The webhook of the identity provider that signs tokens, as if it were Auth0.
async fn of_acme<'s>(server: &'s Server, world: &'s World) -> Vendor<'s> {
    server.database.behind_its_back("UPDATE identity_providers SET preset = 'auth0'").await;
    let idps = server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200);
    let idp = text(&idps["items"][0], "id");
    let made = server.api("POST", &world.path(&format!("identity-providers/{idp}/webhook")), json!({})).await.ok(201);
    Vendor { server, world, idp, token: text(&made, "token") }
}

/// Who this token is of.
async fn resolved(server: &Server, world: &World, token: &str) -> Answer {
    let body = json!({"include_profile": false, "user_token": token});
    server.send(server.sign_as(world).post("/sdk/identity/resolve", &body)).await
}

async fn who_was_deleted_before_they_were_seen_is_not_let_in_by_a_token_of_before(server: Server) {
    let (server, world, idp) = crate::sign_in::acme(&server).await;
    let vendor = of_acme(&server, &world).await;
    let seconds = |later_ms: i64| server.now().plus_ms(later_ms).0.div_euclid(1000);
    let issued = |subject: &str, later_ms: i64| {
        idp.token(&server, json!({"sub": subject, "iat": seconds(later_ms), "exp": seconds(3_600_000)}))
    };
    let is_refused = async |token: &str| {
        let refused = resolved(&server, &world, token).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "user_deprovisioned");
    };
    let (before, timeless) = (issued("new", -60_000), idp.token(&server, json!({"sub": "new", "iat": null})));
    let gone = auth0(&server, "gone", "user.deleted", "new", None, 0);
    vendor.heard(gone.clone()).await;
    is_refused(&before).await;
    is_refused(&timeless).await;
    assert_eq!(server.database.number("SELECT COUNT(*) FROM users").await, 0);
    // Nobody of the app's was named: neither the trail nor the webhook's page says so.
    assert_eq!(vendor.told("user.deprovisioned").await, 0);
    let path = world.path(&format!("identity-providers/{}/webhook", vendor.idp));
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200)["last_event_at"], Value::Null);
    // Another of that name is let in, and the event that comes again changes nothing for them.
    server.advance_ms(2_000);
    let after = issued("new", 0);
    resolved(&server, &world, &after).await.ok(200);
    vendor.heard(gone).await;
    resolved(&server, &world, &after).await.ok(200);
    is_refused(&before).await;
    // Of a deletion that is told late, tokens from more than an hour after it are not.
    vendor.heard(auth0(&server, "late", "user.deleted", "other", None, -7_200_000)).await;
    is_refused(&issued("other", -3_700_000)).await;
    resolved(&server, &world, &issued("other", -3_500_000)).await.ok(200);
    // It is forgotten in time, at the bound and not before.
    let kept = async || server.database.number("SELECT COUNT(*) FROM gone_subjects").await;
    server.advance_ms(limits::WEBHOOK_GONE_MS - 2_000);
    vendor.heard(auth0(&server, "later", "user.deleted", "x", None, 0)).await;
    assert_eq!(kept().await, 2);
    server.advance_ms(1);
    vendor.heard(auth0(&server, "last", "user.deleted", "y", None, 0)).await;
    assert_eq!(kept().await, 2);
}

async fn who_was_blocked_before_they_were_seen_is_suspended_from_the_first_sight_on(server: Server) {
    let (server, world, idp) = crate::sign_in::acme(&server).await;
    let vendor = of_acme(&server, &world).await;
    let ask = async |subject: &str| resolved(&server, &world, &idp.token(&server, json!({"sub": subject}))).await;
    let is_refused = async |subject: &str| {
        let refused = ask(subject).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "user_suspended", "{subject}");
    };
    let blocked =
        |id: &str, subject: &str, is_blocked, ms| auth0(&server, id, "user.updated", subject, Some(is_blocked), ms);
    let kept = async || server.database.number("SELECT COUNT(*) FROM blocked_subjects").await;
    let told = async |kind: &str| server.told(&world, kind).await;
    // Nothing is kept of the many who are changed and not blocked.
    vendor.heard(blocked("1", "passer-by", false, 0)).await;
    assert_eq!((kept().await, server.database.number("SELECT COUNT(*) FROM idp_webhook_events").await), (0, 0));
    for subject in ["blocked", "let-in", "told-late"] {
        vendor.heard(blocked(&format!("2-{subject}"), subject, true, -1_000)).await;
    }
    assert_eq!((kept().await, told("user.suspended").await.len()), (3, 0));
    vendor.heard(blocked("3", "let-in", false, 0)).await;
    // What happened before the block takes nothing back.
    vendor.heard(blocked("4", "told-late", false, -1_001)).await;
    ask("let-in").await.ok(200);
    ask("passer-by").await.ok(200);
    is_refused("blocked").await;
    is_refused("told-late").await;
    is_refused("blocked").await;
    assert_eq!(kept().await, 0);
    // As if the webhook had told of it at that moment: once in the trail, and its to take back.
    let suspended = told("user.suspended").await;
    assert_eq!(suspended.len(), 2);
    assert!(suspended.iter().all(|event| event["webhook_event_at"].is_string()), "{suspended:?}");
    assert_eq!(told("user.created").await.len(), 4);
    vendor.heard(blocked("5", "blocked", false, 0)).await;
    ask("blocked").await.ok(200);
    // It is forgotten in time, at the bound and not before.
    vendor.heard(blocked("6", "never-seen", true, 0)).await;
    server.advance_ms(limits::WEBHOOK_GONE_MS);
    vendor.heard(blocked("7", "another", true, 0)).await;
    assert_eq!(kept().await, 2);
    server.advance_ms(1);
    vendor.heard(blocked("8", "a-third", true, 0)).await;
    assert_eq!(kept().await, 2);
}

async fn what_was_issued_before_a_user_was_deleted_speaks_for_nobody_after(server: Server) {
    let (server, world, idp) = crate::sign_in::acme(&server).await;
    let token = idp.token(&server, json!({}));
    let ask = async || resolved(&server, &world, &token).await;
    ask().await.ok(200);
    let vendor = of_acme(&server, &world).await;
    vendor.heard(auth0(&server, "gone", "user.deleted", "user-1", None, 0)).await;
    let refused = ask().await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], "user_deprovisioned");
    assert_eq!(server.database.number("SELECT COUNT(*) FROM users WHERE deprovisioned_at_ms IS NULL").await, 0);
}
