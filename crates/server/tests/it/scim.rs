//! SCIM: what directories say of users and groups, in the forms that Okta and Entra ID document.

use grantd_domain::env::new_uuid;
use grantd_domain::identity::{ClaimMapping, Endpoints, IdentityProvider, Preset, ProviderState};
use grantd_store::{Location, identity_providers};
use grantd_wire::ids::{AppId, IdentityProviderId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::world::text;
use crate::harness::{Answer, Raw, Server, World};
use crate::sign_in::acme;

in_memory! {
    a_token_opens_its_own_identity_provider_and_nothing_else,
    a_token_is_shown_once_and_the_one_before_counts_no_more,
    what_grantd_tells_of_itself_is_what_it_does,
    refusals_have_the_form_of_the_rfc,
    a_page_is_bounded_and_counted_from_one,
    bodies_are_bounded,
}

on_every_engine! {
    a_user_is_created_found_changed_and_forgotten,
    okta_and_entra_suspend_and_let_in_again,
    groups_have_the_members_that_the_directory_says,
    a_deprovisioning_that_is_taken_back_makes_a_new_user,
    nobody_takes_anothers_name_or_subject,
}

on_kept_engines! {
    a_deprovisioned_users_grant_is_gone_at_the_next_call,
    what_was_issued_before_a_user_was_forgotten_speaks_for_nobody_after,
    a_group_has_fifty_thousand_members_and_no_more,
    a_page_of_groups_ends_with_fifty_thousand_members,
    a_filter_is_held_against_ten_thousand_resources_and_no_more,
}

const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// An identity provider of the app's: the one of this issuer, made if there is none.
pub async fn provider(server: &Server, app: &str, issuer: &str) -> String {
    let (app, issuer, now) = (AppId::parse(app).unwrap(), issuer.to_owned(), server.now());
    let id = IdentityProviderId::from_uuid(new_uuid(&*server.vault.env));
    let made = server.store().write(move |tx| {
        if let Some(known) = identity_providers::find(tx, app, &issuer)? {
            return Ok(known.id);
        }
        let preset = Preset::find("oidc").unwrap();
        let idp = IdentityProvider {
            id,
            app_id: app,
            name: "Directory".to_owned(),
            preset,
            issuer: issuer.clone(),
            audiences: vec!["app".to_owned()],
            algorithms: Vec::new(),
            claims: ClaimMapping {
                subject: "sub".to_owned(),
                audience: "aud".to_owned(),
                email: None,
                name: None,
                groups: None,
                roles: None,
            },
            endpoints: Endpoints::default(),
            client_id: None,
            client_secret: None,
            scopes: Vec::new(),
            state: ProviderState::Active,
            created_at: now,
            updated_at: now,
            is_deleted: false,
            version: 1,
        };
        identity_providers::insert(tx, &idp)?;
        Ok(id)
    });
    made.await.unwrap().to_string()
}

/// A directory that may call.
pub struct Directory<'s> {
    server: &'s Server,
    app: String,
    idp: String,
    token: String,
}

impl<'s> Directory<'s> {
    pub async fn of(server: &'s Server, world: &World, ask: Value) -> Self {
        Self::at(server, world, "https://id.example.com", ask).await
    }

    pub async fn at(server: &'s Server, world: &World, issuer: &str, ask: Value) -> Self {
        let idp = provider(server, &world.app, issuer).await;
        let made = server.api("POST", &world.path(&format!("identity-providers/{idp}/scim")), ask).await.ok(201);
        Self { server, app: world.app.clone(), idp, token: text(&made, "token") }
    }

    fn raw(&self, method: &str, path: &str, body: &Value) -> Raw {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Raw::new(method, &format!("/scim/v2/{}{path}", self.idp), body)
            .set("authorization", format!("Bearer {}", self.token))
            .set("content-type", "application/scim+json")
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.server.send(self.raw(method, path, &body)).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, Value::Null).await.ok(200)
    }

    pub async fn user(&self, external_id: &str, user_name: &str) -> Value {
        self.call("POST", "/Users", json!({"externalId": external_id, "userName": user_name})).await.ok(201)
    }

    pub async fn patch(&self, path: &str, operations: Value) -> Answer {
        self.call("PATCH", path, json!({"schemas": [PATCH], "Operations": operations})).await
    }

    /// The names that a filter finds.
    async fn found(&self, list: &str, filter: &str) -> Vec<String> {
        let filter: String = form(filter);
        let page = self.get(&format!("/{list}?filter={filter}")).await;
        let name = if list == "Users" { "userName" } else { "displayName" };
        page["Resources"].as_array().unwrap().iter().map(|found| text(found, name)).collect()
    }

    /// Kinds of this app's events, of users and groups, oldest first.
    pub async fn told(&self) -> Vec<String> {
        let path = format!("/api/v1/apps/{}/audit/events?limit=1000", self.app);
        let page = self.server.api("GET", &path, Value::Null).await.ok(200);
        let mut events = page["items"].as_array().unwrap().clone();
        events.sort_by_key(|event| (text(event, "at"), event["seq"].as_i64()));
        let kinds = events.iter().map(|event| text(event, "kind"));
        kinds.filter(|kind| kind.starts_with("user.") || kind.starts_with("group.")).collect()
    }
}

pub fn form(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, scim_type: &str) {
    let body = answer.json();
    assert_eq!((answer.status, body["scimType"].as_str().unwrap_or("")), (status, scim_type), "{body}");
}

async fn a_user_is_created_found_changed_and_forgotten(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ada@example.com", "externalId": "00uAda", "active": true,
        "name": {"givenName": "Ada", "familyName": "Lovelace"},
        "emails": [{"primary": true, "value": "ada@example.com", "type": "work"}],
        "password": "canary-password", "phoneNumbers": [],
    });
    let answer = directory.call("POST", "/Users", body).await;
    let user = answer.ok(201);
    assert_eq!(answer.header("content-type"), "application/scim+json");
    assert_eq!(answer.header("location"), user["meta"]["location"]);
    let path = format!("/Users/{}", text(&user, "id"));
    assert_eq!(directory.get(&path).await, user);
    for filter in
        ["userName eq \"ADA@example.com\"", "externalId eq \"00uAda\"", "name.givenName sw \"A\" and active eq true"]
    {
        assert_eq!(directory.found("Users", filter).await, ["ada@example.com"], "{filter}");
    }
    for filter in ["userName eq \"bob\"", "externalId eq \"00uada\"", "id eq \"x\""] {
        assert!(directory.found("Users", filter).await.is_empty(), "{filter}");
    }
    let put = json!({"userName": "ada@example.com", "externalId": "00uAda", "displayName": "Countess"});
    let put = directory.call("PUT", &path, put).await.ok(200);
    assert_eq!((&put["displayName"], &put["active"], &put["name"]), (&json!("Countess"), &json!(true), &Value::Null));
    let renamed = directory.patch(&path, json!([{"op": "replace", "value": {"externalId": "00uNew"}}])).await.ok(200);
    assert_eq!(renamed["externalId"], "00uNew");
    assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
    for method in ["GET", "PUT", "DELETE"] {
        refused(&directory.call(method, &path, json!({"userName": "ada"})).await, 404, "");
    }
    assert!(directory.found("Users", "userName pr").await.is_empty());
    assert_eq!(directory.told().await, ["user.created", "user.updated", "user.updated", "user.deprovisioned"]);
    let event = &server.told(&world, "user.deprovisioned").await[0];
    assert_eq!(event["actor"], json!({"type": "scim", "id": directory.idp}));
}

async fn okta_and_entra_suspend_and_let_in_again(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let path = format!("/Users/{}", text(&directory.user("e", "eve").await, "id"));
    for (off, on) in [
        (json!([{"op": "replace", "value": {"active": false}}]), json!([{"op": "replace", "value": {"active": true}}])),
        (
            json!([{"op": "Replace", "path": "active", "value": "False"}]),
            json!([{"op": "Add", "path": "active", "value": "True"}]),
        ),
    ] {
        for (operations, is_active) in [(off.clone(), false), (off, false), (on.clone(), true), (on, true)] {
            assert_eq!(directory.patch(&path, operations).await.ok(200)["active"], is_active);
        }
    }
    let (suspended, resumed) = ("user.suspended", "user.resumed");
    assert_eq!(directory.told().await, ["user.created", suspended, resumed, suspended, resumed]);
    // A document that does not say it lets nobody in again.
    directory.patch(&path, json!([{"op": "replace", "path": "active", "value": false}])).await.ok(200);
    let put = directory.call("PUT", &path, json!({"userName": "eve", "externalId": "e"})).await.ok(200);
    assert_eq!(put["active"], false);
}

async fn a_deprovisioned_users_grant_is_gone_at_the_next_call(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({"deactivation": "deprovision"})).await;
    let path = format!("/Users/{}", text(&directory.user("e", "eve").await, "id"));
    // As a connected account of the user's would be.
    let database = &server.database;
    database.behind_its_back("UPDATE credentials SET user_id = (SELECT user_id FROM scim_users)").await;
    let owner = "UPDATE grants SET principal_type = 'user', principal_id = (SELECT user_id FROM scim_users)";
    database.behind_its_back(owner).await;
    directory.patch(&path, json!([{"op": "replace", "value": {"active": false}}])).await.ok(200);
    let refused = server.token(&world).await;
    assert_eq!(refused.status, 410, "{}", refused.text);
    assert_eq!(
        database.number("SELECT COUNT(*) FROM credentials WHERE state = 'destroyed' AND sealed IS NULL").await,
        1
    );
    let told = server.told(&world, "user.deprovisioned").await;
    assert_eq!((told.len(), &told[0]["grants_revoked"]), (1, &json!(1)), "{told:?}");
    assert_eq!(server.told(&world, "grant.revoked").await.len(), 1);
    // Once is enough.
    assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(server.told(&world, "user.deprovisioned").await.len(), 1);
}

async fn a_deprovisioning_that_is_taken_back_makes_a_new_user(server: Server) {
    let world = server.world().await;
    let directory =
        Directory::of(&server, &world, json!({"deactivation": "deprovision", "subject_from": "userName"})).await;
    let user = directory.call("POST", "/Users", json!({"userName": "eve"})).await.ok(201);
    let path = format!("/Users/{}", text(&user, "id"));
    let set = |is: bool| json!([{"op": "replace", "value": {"active": is}}]);
    assert_eq!(directory.patch(&path, set(false)).await.ok(200)["active"], false);
    // The resource is still there, with its id.
    assert_eq!(directory.found("Users", "userName eq \"eve\" and active eq false").await, ["eve"]);
    assert_eq!(directory.patch(&path, set(true)).await.ok(200)["id"], user["id"]);
    assert_eq!(directory.told().await, ["user.created", "user.deprovisioned", "user.created"]);
    let users = server.told(&world, "user.created").await;
    assert_ne!(users[0]["user_id"], users[1]["user_id"]);
}

async fn what_was_issued_before_a_user_was_forgotten_speaks_for_nobody_after(server: Server) {
    let (server, world, idp) = acme(&server).await;
    let directory = Directory::at(&server, &world, &idp.url(), json!({})).await;
    let ask = async |token: &str| {
        let body = json!({"include_profile": false, "user_token": token});
        server.send(server.sign_as(&world).post("/sdk/identity/resolve", &body)).await
    };
    let living = "SELECT COUNT(*) FROM users WHERE deprovisioned_at_ms IS NULL";
    // One is seen by a token first, the other is only ever told of by the directory.
    for subject in ["seen", "untold"] {
        let token = idp.token(&server, json!({"sub": subject}));
        if subject == "seen" {
            ask(&token).await.ok(200);
        }
        let forget = async |user: &Value| {
            let path = format!("/Users/{}", text(user, "id"));
            assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
        };
        forget(&directory.user(subject, subject).await).await;
        let refused = ask(&token).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "user_deprovisioned");
        assert_eq!(server.database.number(living).await, 0);
        // Told of anew, in the same millisecond: a living user, for whom the token of before does not speak either.
        let again = directory.user(subject, subject).await;
        assert_eq!(server.database.number(living).await, 1);
        let refused = ask(&token).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "user_deprovisioned");
        server.advance_ms(1_000);
        ask(&idp.token(&server, json!({"sub": subject}))).await.ok(200);
        assert_eq!(server.database.number(living).await, 1);
        forget(&again).await;
    }
}

/// Puts rows in by one statement: `make` says what a row is of `n`, and of `blob(n)`, 16 bytes that are its own.
async fn fill(server: &Server, count: i64, make: impl Fn(&str) -> String) {
    let blob = match server.database.location {
        Location::Postgres(_) => "decode(lpad(to_hex(n), 32, '0'), 'hex')",
        // A cast turns the digits into their bytes.
        _ => "CAST(printf('%016d', n) AS BLOB)",
    };
    let (insert, select) = make(blob).split_once(" SELECT ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let numbers =
        format!("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})");
    server.database.behind_its_back(&format!("{insert} {numbers} SELECT {select}")).await;
    // As PostgreSQL does by itself in a while, where rows come one after the other.
    server.database.behind_its_back("ANALYZE").await;
}

/// Users that the directory told of, as Ada is stored: other ids and names.
async fn fill_users(server: &Server, count: i64) {
    fill(server, count, |blob| {
        format!(
            "INSERT INTO scim_users (app_id, id, idp_id, user_id, user_name_search, document, created_at_ms, updated_at_ms, version) \
             SELECT s.app_id, {blob}, s.idp_id, {blob}, 'filler' || n, s.document, 0, 0, 1 FROM scim_users s, numbers \
             WHERE s.user_name_search = 'ada'"
        )
    })
    .await;
}

async fn a_group_has_fifty_thousand_members_and_no_more(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let (ada, bob) = (text(&directory.user("a", "ada").await, "id"), text(&directory.user("b", "bob").await, "id"));
    let group = directory.call("POST", "/Groups", json!({"displayName": "Everybody"})).await.ok(201);
    let path = format!("/Groups/{}?excludedAttributes=members", text(&group, "id"));
    fill(&server, limits::GROUP_MEMBERS_MAX - 1, |blob| {
        format!(
            "INSERT INTO group_members (app_id, group_id, user_id, source, since_ms) \
             SELECT g.app_id, g.id, {blob}, 'directory', 0 FROM groups g, numbers"
        )
    })
    .await;
    let add = |user: &str| json!([{"op": "add", "path": "members", "value": [{"value": user}]}]);
    let members = "SELECT COUNT(*) FROM group_members";
    directory.patch(&path, add(&ada)).await.ok(200);
    assert_eq!(server.database.number(members).await, limits::GROUP_MEMBERS_MAX);
    refused(&directory.patch(&path, add(&bob)).await, 400, "tooMany");
    assert_eq!(server.database.number(members).await, limits::GROUP_MEMBERS_MAX);
    // Who is in it already makes it no larger.
    directory.patch(&path, add(&ada)).await.ok(200);
    let remove = json!([{"op": "remove", "path": format!("members[value eq \"{ada}\"]")}]);
    directory.patch(&path, remove).await.ok(200);
    directory.patch(&path, add(&bob)).await.ok(200);
}

async fn a_page_of_groups_ends_with_fifty_thousand_members(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    directory.user("a", "ada").await;
    for name in ["one", "two"] {
        directory.call("POST", "/Groups", json!({"displayName": name})).await.ok(201);
        // Ids of one millisecond are in no order.
        server.advance_ms(1);
    }
    let (many, most) = (limits::GROUP_MEMBERS_MAX - 1, i64::try_from(limits::SCIM_PAGE_MEMBERS_MAX).unwrap());
    assert_eq!(many + 1, most, "one member more fills the page");
    fill_users(&server, many).await;
    fill(&server, many, |blob| {
        format!(
            "INSERT INTO group_members (app_id, group_id, user_id, source, since_ms) \
             SELECT g.app_id, g.id, {blob}, 'directory', 0 FROM groups g, numbers WHERE g.name = 'one'"
        )
    })
    .await;
    let shown = async || directory.get("/Groups?attributes=displayName,members.value").await["itemsPerPage"].clone();
    assert_eq!(shown().await, 2);
    let ada = "INSERT INTO group_members SELECT g.app_id, g.id, s.user_id, 'directory', 0 FROM groups g, scim_users s \
               WHERE g.name = 'one' AND s.user_name_search = 'ada'";
    server.database.behind_its_back(ada).await;
    assert_eq!(shown().await, 1);
    // What was left out begins the next page; without members there is no such end.
    let next = directory.get("/Groups?startIndex=2&attributes=displayName").await;
    assert_eq!((&next["Resources"][0]["displayName"], &next["itemsPerPage"]), (&json!("two"), &json!(1)));
    assert_eq!(directory.get("/Groups?excludedAttributes=members").await["itemsPerPage"], 2);
}

async fn a_filter_is_held_against_ten_thousand_resources_and_no_more(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    directory.user("a", "ada").await;
    fill_users(&server, limits::SCIM_SCAN_MAX - 1).await;
    fill(&server, limits::SCIM_SCAN_MAX, |blob| {
        format!(
            "INSERT INTO groups (app_id, id, idp_id, external_id, name, name_search, created_at_ms, updated_at_ms, version) \
             SELECT s.app_id, {blob}, s.idp_id, 'g' || n, 'g' || n, 'g' || n, 0, 0, 1 FROM scim_users s, numbers \
             WHERE s.user_name_search = 'ada'"
        )
    })
    .await;
    let count = async |list: &str, filter: &str| {
        directory.call("GET", &format!("/{list}?count=1&filter={}", form(filter)), Value::Null).await
    };
    for (list, name) in [("Users", "userName"), ("Groups", "displayName")] {
        let scan = format!("{name} pr");
        assert_eq!(count(list, &scan).await.ok(200)["totalResults"], limits::SCIM_SCAN_MAX);
        match list {
            "Users" => drop(directory.user("b", "bob").await),
            _ => drop(directory.call("POST", "/Groups", json!({"displayName": "more"})).await.ok(201)),
        }
        refused(&count(list, &scan).await, 400, "tooMany");
    }
    // What an index finds is not held against all of them, and a list without a filter is read page by page.
    assert_eq!(count("Users", "userName eq \"bob\"").await.ok(200)["totalResults"], 1);
    assert_eq!(count("Groups", "displayName eq \"more\"").await.ok(200)["totalResults"], 1);
    assert_eq!(directory.get("/Users?count=1").await["totalResults"], limits::SCIM_SCAN_MAX + 1);
}

async fn groups_have_the_members_that_the_directory_says(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let (ada, bob) = (text(&directory.user("a", "ada").await, "id"), text(&directory.user("b", "bob").await, "id"));
    // Ids of one millisecond are in no order.
    let both = std::collections::BTreeSet::from([ada.clone(), bob.clone()]);
    let body = json!({"displayName": "Engineers", "members": [{"value": ada}]});
    let group = directory.call("POST", "/Groups", body.clone()).await.ok(201);
    refused(&directory.call("POST", "/Groups", body).await, 409, "uniqueness");
    let id = text(&group, "id");
    let path = format!("/Groups/{id}");
    let members = |group: Value| -> Vec<String> {
        group["members"].as_array().into_iter().flatten().map(|member| text(member, "value")).collect()
    };
    assert_eq!(members(group), std::slice::from_ref(&ada));
    assert_eq!(directory.get(&format!("/Users/{ada}")).await["groups"][0]["value"], id);
    // Entra ID.
    let added = directory.patch(&path, json!([{"op": "Add", "path": "members", "value": [{"value": bob}]}])).await;
    assert_eq!(members(added.ok(200)).into_iter().collect::<std::collections::BTreeSet<_>>(), both);
    let removed = directory.patch(&path, json!([{"op": "Remove", "path": "members", "value": [{"value": ada}]}])).await;
    assert_eq!(members(removed.ok(200)), std::slice::from_ref(&bob));
    for (filter, is_there) in [
        (format!("id eq \"{id}\" and members eq \"{bob}\""), true),
        (format!("id eq \"{id}\" and members eq \"{ada}\""), false),
        (format!("members[value eq \"{bob}\"]"), true),
        ("displayName eq \"engineers\"".to_owned(), true),
        ("externalId pr".to_owned(), false),
    ] {
        assert_eq!(!directory.found("Groups", &filter).await.is_empty(), is_there, "{filter}");
    }
    assert!(directory.get(&format!("{path}?excludedAttributes=members")).await.get("members").is_none());
    // Okta.
    let okta = json!([{"op": "replace", "value": {"id": id, "displayName": "Builders"}}]);
    assert_eq!(directory.patch(&path, okta).await.ok(200)["displayName"], "Builders");
    let okta = json!([{"op": "remove", "path": format!("members[value eq \"{bob}\"]")}, {"op": "add", "path": "members", "value": [{"value": ada}]}]);
    assert_eq!(members(directory.patch(&path, okta).await.ok(200)), std::slice::from_ref(&ada));
    let put = json!({"displayName": "Builders", "externalId": "g-1", "members": [{"value": ada}, {"value": bob}]});
    assert_eq!(members(directory.call("PUT", &path, put).await.ok(200)).len(), 2);
    // One that is unknown: all of the change is refused.
    let unknown = json!([{"op": "replace", "path": "displayName", "value": "X"}, {"op": "add", "path": "members", "value": [{"value": id}]}]);
    refused(&directory.patch(&path, unknown).await, 400, "invalidValue");
    assert_eq!(directory.get(&path).await["displayName"], "Builders");
    // Whoever is forgotten leaves every group.
    assert_eq!(directory.call("DELETE", &format!("/Users/{bob}"), Value::Null).await.status, 204);
    assert_eq!(members(directory.get(&path).await), std::slice::from_ref(&ada));
    assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
    refused(&directory.call("GET", &path, Value::Null).await, 404, "");
    assert!(directory.get(&format!("/Users/{ada}")).await.get("groups").is_none());
}

async fn nobody_takes_anothers_name_or_subject(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    directory.user("a", "ada").await;
    let bob = format!("/Users/{}", text(&directory.user("b", "bob").await, "id"));
    for body in [json!({"externalId": "c", "userName": "ADA"}), json!({"externalId": "a", "userName": "carl"})] {
        refused(&directory.call("POST", "/Users", body.clone()).await, 409, "uniqueness");
        refused(&directory.call("PUT", &bob, body).await, 409, "uniqueness");
    }
    refused(&directory.call("POST", "/Users", json!({"userName": "dora"})).await, 400, "invalidValue");
    assert_eq!(directory.told().await, ["user.created", "user.created"]);
    // Another identity provider of the app has users of its own.
    let other = Directory::at(&server, &world, "https://other.example.com", json!({})).await;
    other.user("a", "ada").await;
    refused(&other.call("GET", &bob, Value::Null).await, 404, "");
    assert_eq!(other.found("Users", "userName pr").await, ["ada"]);
}

async fn a_token_opens_its_own_identity_provider_and_nothing_else(server: Server) {
    let world = server.world().await;
    let directory = Directory::of(&server, &world, json!({})).await;
    let stranger = Directory::of(&server, &server.world_named("Second").await, json!({})).await;
    let user = text(&directory.user("a", "ada").await, "id");
    let group = text(&directory.call("POST", "/Groups", json!({"displayName": "G"})).await.ok(201), "id");
    let (user, group) = (format!("/Users/{user}"), format!("/Groups/{group}"));
    let routes = [
        ("GET", "/ServiceProviderConfig"),
        ("GET", "/ResourceTypes"),
        ("GET", "/Schemas"),
        ("GET", "/Users"),
        ("POST", "/Users"),
        ("GET", &user),
        ("PUT", &user),
        ("PATCH", &user),
        ("DELETE", &user),
        ("GET", "/Groups"),
        ("POST", "/Groups"),
        ("GET", &group),
        ("PUT", &group),
        ("PATCH", &group),
        ("DELETE", &group),
    ];
    let body = json!({"userName": "x", "externalId": "x", "displayName": "x", "Operations": [{"op": "add", "path": "externalId", "value": "y"}]});
    for (method, path) in routes {
        let raw = directory.raw(method, path, &body);
        let nobody = server.send(raw.clone().without("authorization")).await;
        assert_eq!(
            (nobody.status, nobody.header("www-authenticate")),
            (401, "Bearer realm=\"scim\""),
            "{method} {path}"
        );
        for wrong in [format!("Bearer {}", server.pat), format!("Bearer {}x", directory.token), directory.token.clone()]
        {
            refused(&server.send(raw.clone().set("authorization", wrong)).await, 401, "");
        }
        // Another app's: its own place has no such object, and the other's place is not there.
        let foreign = raw.clone().set("authorization", format!("Bearer {}", stranger.token));
        refused(&server.send(foreign).await, 404, "");
        if path.matches('/').count() == 2 {
            refused(&server.send(stranger.raw(method, path, &body)).await, 404, "");
        }
    }
    assert_eq!(directory.get("/Users").await["totalResults"], 1);
    assert_eq!(directory.told().await, ["user.created", "group.created"]);
    assert_eq!(server.told(&world, "user.deprovisioned").await.len(), 0);
}

async fn a_token_is_shown_once_and_the_one_before_counts_no_more(server: Server) {
    let world = server.world().await;
    let mut directory = Directory::of(&server, &world, json!({})).await;
    assert_eq!((directory.token.len(), &directory.token[..12]), (55, "grantd_scim_"));
    let place = world.path(&format!("identity-providers/{}/scim", directory.idp));
    let shown = server.api("GET", &place, Value::Null).await.ok(200);
    assert_eq!(
        (&shown["deactivation"], &shown["subject_from"], &shown["users"]),
        (&json!("suspend"), &json!("externalId"), &json!(0))
    );
    assert!(text(&shown, "base_url").ends_with(&format!("/scim/v2/{}", directory.idp)));
    server.api("POST", &place, json!({})).await.refused(Code::Conflict);
    let rotated = server.api("POST", &format!("{place}/rotate"), Value::Null).await.ok(201);
    refused(&directory.call("GET", "/Users", Value::Null).await, 401, "");
    directory.token = text(&rotated, "token");
    directory.get("/Users").await;
    for (field, value) in [("subject_from", "id"), ("deactivation", "delete")] {
        server.api("POST", &place, json!({field: value})).await.names(Code::InvalidValue, field);
    }
    server.api("DELETE", &place, Value::Null).await.ok(200);
    refused(&directory.call("GET", "/Users", Value::Null).await, 401, "");
    for (method, path) in [("GET", place.clone()), ("DELETE", place.clone()), ("POST", format!("{place}/rotate"))] {
        server.api(method, &path, Value::Null).await.refused(Code::NotFound);
    }
    server.api("POST", &place, json!({"deactivation": "deprovision"})).await.ok(201);
}

async fn what_grantd_tells_of_itself_is_what_it_does(server: Server) {
    let directory = Directory::of(&server, &server.world().await, json!({})).await;
    let config = directory.get("/ServiceProviderConfig").await;
    assert_eq!((&config["patch"]["supported"], &config["bulk"]["supported"]), (&json!(true), &json!(false)));
    for list in ["ResourceTypes", "Schemas"] {
        let page = directory.get(&format!("/{list}")).await;
        assert_eq!(page["totalResults"], 2);
        for told in page["Resources"].as_array().unwrap() {
            assert_eq!(directory.get(&format!("/{list}/{}", text(told, "id"))).await, *told);
        }
        refused(&directory.call("GET", &format!("/{list}/Other"), Value::Null).await, 404, "");
    }
}

async fn refusals_have_the_form_of_the_rfc(server: Server) {
    let directory = Directory::of(&server, &server.world().await, json!({})).await;
    let path = format!("/Users/{}", text(&directory.user("a", "ada").await, "id"));
    refused(&directory.call("GET", "/Users?filter=canary", Value::Null).await, 400, "invalidFilter");
    refused(&directory.call("GET", "/Users?filter=groups%20pr", Value::Null).await, 400, "invalidFilter");
    refused(&directory.call("GET", "/Groups?filter=members%20pr", Value::Null).await, 400, "invalidFilter");
    refused(&directory.call("GET", "/Users?count=x", Value::Null).await, 400, "invalidValue");
    refused(&directory.call("POST", "/Users", json!([])).await, 400, "invalidSyntax");
    refused(&directory.patch(&path, json!([{"op": "remove"}])).await, 400, "noTarget");
    refused(&directory.patch(&path, json!([{"op": "replace", "path": "id", "value": "x"}])).await, 400, "mutability");
    let answer = directory.call("PUT", "/Users", json!({})).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, POST"));
    for path in ["", "/", "/Users/", "/Users/a/b", "/Me", "/Bulk", "/users"] {
        refused(&directory.call("GET", path, Value::Null).await, 404, "");
    }
}

async fn a_page_is_bounded_and_counted_from_one(server: Server) {
    let directory = Directory::of(&server, &server.world().await, json!({})).await;
    for n in 0..205 {
        directory.user(&format!("e{n}"), &format!("user{n}")).await;
    }
    for (query, start, items) in [
        ("", 1, 100),
        ("?startIndex=1&count=2", 1, 2),
        ("?startIndex=204", 204, 2),
        ("?startIndex=206", 206, 0),
        ("?startIndex=-3&count=200", 1, 200),
        ("?count=201", 1, 200),
        ("?count=0", 1, 0),
        ("?count=-1", 1, 0),
        ("?startIndex=3&count=1&filter=userName%20sw%20%22user%22&attributes=userName", 3, 1),
    ] {
        let page = directory.get(&format!("/Users{query}")).await;
        assert_eq!(page["Resources"].as_array().unwrap().len(), items, "{query}");
        assert_eq!(
            (&page["totalResults"], &page["startIndex"], &page["itemsPerPage"]),
            (&json!(205), &json!(start), &json!(items))
        );
        if query.contains("attributes") {
            let names: Vec<_> = page["Resources"][0].as_object().unwrap().keys().cloned().collect();
            assert_eq!(names, ["id", "schemas", "userName"]);
        }
    }
}

async fn bodies_are_bounded(server: Server) {
    let directory = Directory::of(&server, &server.world().await, json!({})).await;
    let body = |bytes: usize| {
        let start = r#"{"userName":"u","externalId":"e","x":""#;
        format!("{start}{}\"}}", "y".repeat(bytes - start.len() - 2))
    };
    let raw = |bytes: usize| directory.raw("POST", "/Users", &json!({})).with_body(body(bytes));
    server.send(raw(limits::SCIM_BODY_BYTES_MAX)).await.ok(201);
    refused(&server.send(raw(limits::SCIM_BODY_BYTES_MAX + 1)).await, 413, "");
}
