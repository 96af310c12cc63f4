//! What a directory and users' tokens say of the same people: whoever is there by either ends with the directory, and the later word counts.

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::idp::Idp;
use crate::harness::world::text;
use crate::harness::{Server, World};
use crate::scim::Directory;
use crate::users::{ask, user_grant};

on_kept_engines! {
    whoever_came_back_after_an_operator_ended_them_ends_with_the_directory,
    whom_the_directory_says_is_inactive_begins_no_new_user,
    another_subject_is_chosen_and_the_directory_ends_whoever_signs_in,
    who_is_in_a_group_by_token_and_directory,
    a_removal_from_a_group_is_undone_by_no_token_of_before,
    whose_a_subject_is_after_a_rebind_no_token_of_before_says,
}

const LIVING: &str = "SELECT COUNT(*) FROM users WHERE deprovisioned_at_ms IS NULL";
const USERS: &str = "SELECT COUNT(*) FROM users";

async fn who(server: &Server, world: &World, token: &str) -> crate::harness::Answer {
    let body = json!({"include_profile": false, "user_token": token});
    server.send(server.sign_as(world).post("/sdk/identity/resolve", &body)).await
}

/// The token proves nothing, and this is why.
async fn is_refused(server: &Server, world: &World, token: &str, check: &str) {
    let refused = who(server, world, token).await.refused(Code::JwtValidationError);
    assert_eq!(refused["details"]["check"], check);
}

/// The next token is of later than everything that was said before.
fn later(server: &Server) {
    server.advance_ms(2_000);
}

fn active(is: bool) -> Value {
    json!([{"op": "replace", "value": {"active": is}}])
}

async fn created(directory: &Directory<'_>, external_id: &str, user_name: &str) -> String {
    format!("/Users/{}", text(&directory.user(external_id, user_name).await, "id"))
}

/// An operator ends the user of this subject.
async fn ended_by_an_operator(server: &Server, world: &World, subject: &str) {
    let found = server.api("GET", &world.path(&format!("users?search={subject}&status=active")), Value::Null).await;
    let user = text(&found.ok(200)["items"][0], "id");
    server.api("POST", &world.path(&format!("users/{user}/deprovision")), Value::Null).await.ok(200);
}

async fn whoever_came_back_after_an_operator_ended_them_ends_with_the_directory(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({})).await;
    for (method, is_of_before, subject) in
        [("PATCH", false, "ann"), ("DELETE", false, "bob"), ("PATCH", true, "cid"), ("DELETE", true, "dan")]
    {
        let path = created(&directory, subject, subject).await;
        ended_by_an_operator(&server, &world, subject).await;
        later(&server);
        let token = idp.token(&server, subject);
        let grant = user_grant(&server, &world, &token, "own").await;
        if is_of_before {
            // As it was stored until 0.1: what the directory told stays with the row that is gone.
            let sql = format!(
                "UPDATE scim_users SET user_id = (SELECT id FROM users WHERE subject = '{subject}' AND deprovisioned_at_ms IS NOT NULL) \
                 WHERE external_id = '{subject}'"
            );
            server.database.behind_its_back(&sql).await;
        }
        ask(&server, &world, json!({"grant_id": grant})).await.ok(200);
        if method == "DELETE" {
            assert_eq!(directory.call("DELETE", &path, Value::Null).await.status, 204);
            ask(&server, &world, json!({"grant_id": grant})).await.refused(Code::GrantDeleted);
            is_refused(&server, &world, &token, "user_deprovisioned").await;
            continue;
        }
        directory.patch(&path, active(false)).await.ok(200);
        ask(&server, &world, json!({"grant_id": grant})).await.refused(Code::PolicyDenied);
        is_refused(&server, &world, &token, "user_suspended").await;
        directory.patch(&path, active(true)).await.ok(200);
        who(&server, &world, &token).await.ok(200);
        // The row is theirs in a group, too.
        let member = json!([{"value": path.trim_start_matches("/Users/")}]);
        directory.call("POST", "/Groups", json!({"displayName": subject, "members": member})).await.ok(201);
        assert_eq!(directory.get(&path).await["groups"][0]["display"], subject);
        directory.patch(&path, active(false)).await.ok(200);
    }
    let active = "SELECT COUNT(*) FROM users WHERE status = 'active'";
    assert_eq!(server.database.number(active).await, 0);
}

async fn whom_the_directory_says_is_inactive_begins_no_new_user(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    for (subject_from, name) in [("externalId", "ann"), ("userName", "Bob")] {
        let ask = json!({"deactivation": "deprovision", "subject_from": subject_from});
        let directory = Directory::at(&server, &world, &idp.issuer(), ask).await;
        for how in ["PATCH", "POST"] {
            let subject = format!("{name}-{how}");
            let body = json!({"externalId": subject, "userName": subject, "active": how == "PATCH"});
            let path = format!("/Users/{}", text(&directory.call("POST", "/Users", body).await.ok(201), "id"));
            if how == "PATCH" {
                directory.patch(&path, active(false)).await.ok(200);
            }
            let living = server.database.number(LIVING).await;
            later(&server);
            for _ in 0..2 {
                is_refused(&server, &world, &idp.token(&server, &subject), "user_deprovisioned").await;
            }
            assert_eq!(server.database.number(LIVING).await, living, "{subject}");
            // Somebody of whom the directory says nothing is nobody's affair of its.
            who(&server, &world, &idp.token(&server, &format!("{subject}-other"))).await.ok(200);
            assert_eq!(server.database.number(LIVING).await, living + 1);
            directory.patch(&path, active(true)).await.ok(200);
            later(&server);
            who(&server, &world, &idp.token(&server, &subject)).await.ok(200);
            assert_eq!(server.database.number(LIVING).await, living + 2, "the one that the directory began anew");
        }
        server.api("DELETE", &world.path(&format!("identity-providers/{}/scim", idp.id)), Value::Null).await.ok(200);
    }
    // A directory that is not asked any more keeps nobody out.
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({"deactivation": "deprovision"})).await;
    directory.patch(&created(&directory, "eve", "eve").await, active(false)).await.ok(200);
    server.api("DELETE", &world.path(&format!("identity-providers/{}/scim", idp.id)), Value::Null).await.ok(200);
    later(&server);
    who(&server, &world, &idp.token(&server, "eve")).await.ok(200);
}

async fn another_subject_is_chosen_and_the_directory_ends_whoever_signs_in(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    // Tokens call users as the directory's userName does; the attribute that was chosen is the other one.
    let wrong = Directory::at(&server, &world, &idp.issuer(), json!({})).await;
    let mut paths = Vec::new();
    for name in ["ann", "bob", "cid", "dan", "eve"] {
        paths.push(created(&wrong, &format!("00u-{name}"), name).await);
    }
    let [ann, bob, cid, dan, eve] = &paths[..] else { panic!("{paths:?}") };
    wrong.patch(eve, active(false)).await.ok(200);
    let sign_in = async |name: &str| user_grant(&server, &world, &idp.token(&server, name), "own").await;
    let (anns, dans, eves) = (sign_in("ann").await, sign_in("dan").await, sign_in("eve").await);
    server.api("DELETE", &world.path(&format!("identity-providers/{}/scim", idp.id)), Value::Null).await.ok(200);
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({"subject_from": "userName"})).await;
    later(&server);
    // Whoever signs in before the directory says a word, is whom it told of.
    let cids = sign_in("cid").await;
    let resync = async |path: &str, name: &str, is_active: bool| {
        let body = json!({"externalId": format!("00u-{name}"), "userName": name, "active": is_active});
        directory.call("PUT", path, body).await.ok(200);
    };
    resync(ann, "ann", true).await;
    resync(bob, "bob", true).await;
    // What the directory said of eve before, it says of whoever signs in now.
    resync(eve, "eve", false).await;
    ask(&server, &world, json!({"grant_id": eves})).await.refused(Code::PolicyDenied);
    // Nobody signed in as bob: the row that was made for him has his subject now, and no other is made.
    let users = server.database.number(USERS).await;
    later(&server);
    let bobs = sign_in("bob").await;
    assert_eq!(server.database.number(USERS).await, users);
    for (path, grant, name) in [(ann, &anns, "ann"), (bob, &bobs, "bob"), (cid, &cids, "cid")] {
        let token = idp.token(&server, name);
        ask(&server, &world, json!({"grant_id": grant})).await.ok(200);
        directory.patch(path, active(false)).await.ok(200);
        ask(&server, &world, json!({"grant_id": grant})).await.refused(Code::PolicyDenied);
        is_refused(&server, &world, &token, "user_suspended").await;
        directory.patch(path, active(true)).await.ok(200);
        who(&server, &world, &token).await.ok(200);
    }
    // The first that it says of somebody may be the last.
    assert_eq!(directory.call("DELETE", dan, Value::Null).await.status, 204);
    ask(&server, &world, json!({"grant_id": dans})).await.refused(Code::GrantDeleted);
}

/// Who says that somebody is in the group: how many by tokens, and how many by the directory.
async fn members(server: &Server) -> (i64, i64) {
    let of = async |source: &str| {
        server.database.number(&format!("SELECT COUNT(*) FROM group_members WHERE source = '{source}'")).await
    };
    (of("token").await, of("directory").await)
}

fn set(op: &str, path: &str) -> Value {
    json!([{"op": op, "path": "members", "value": [{"value": path.trim_start_matches("/Users/")}]}])
}

async fn who_is_in_a_group_by_token_and_directory(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({})).await;
    let ann = created(&directory, "ann", "ann").await;
    let group = directory.call("POST", "/Groups", json!({"displayName": "ops"})).await.ok(201);
    let ops = format!("/Groups/{}", text(&group, "id"));
    let says = async |groups: Value| {
        later(&server);
        who(&server, &world, &idp.token_with(&server, "ann", json!({"groups": groups}))).await.ok(200);
        members(&server).await
    };
    let tells = async |op: &str| {
        later(&server);
        directory.patch(&ops, set(op, &ann)).await.ok(200);
        members(&server).await
    };
    // By token alone, a token takes out whom one put in, and so does the directory.
    assert_eq!(says(json!(["ops"])).await, (1, 0));
    assert_eq!(says(json!(["dev"])).await, (1, 0), "dev, and no more ops");
    assert_eq!(says(json!([])).await, (0, 0));
    assert_eq!(says(json!(["ops"])).await, (1, 0));
    assert_eq!(tells("remove").await, (0, 0));
    // A token of later counts, also one that says what the last one did.
    assert_eq!(says(json!(["ops"])).await, (1, 0));
    // By the directory, too: no token takes out.
    assert_eq!(tells("add").await, (0, 1));
    assert_eq!(says(json!([])).await, (0, 1));
    assert_eq!(tells("remove").await, (0, 0));
    // The other way round.
    assert_eq!(tells("add").await, (0, 1));
    assert_eq!(says(json!(["ops"])).await, (0, 1));
    assert_eq!(says(json!([])).await, (0, 1));
    assert_eq!(tells("add").await, (0, 1));
    assert_eq!(tells("remove").await, (0, 0));
    assert_eq!(says(json!(["ops"])).await, (1, 0));
}

async fn a_removal_from_a_group_is_undone_by_no_token_of_before(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({})).await;
    let (ann, bob) = (created(&directory, "ann", "ann").await, created(&directory, "bob", "bob").await);
    let body = json!({"displayName": "ops", "members": [{"value": ann.trim_start_matches("/Users/")}]});
    let ops = format!("/Groups/{}", text(&directory.call("POST", "/Groups", body).await.ok(201), "id"));
    let token = |name: &str| idp.token_with(&server, name, json!({"groups": ["ops"]}));
    // Ann is in it, and bob is not: both are out from now on.
    let (anns, bobs) = (token("ann"), token("bob"));
    later(&server);
    directory.patch(&ops, set("remove", &ann)).await.ok(200);
    directory.patch(&ops, set("remove", &bob)).await.ok(200);
    for token in [&anns, &bobs, &anns] {
        who(&server, &world, token).await.ok(200);
        assert_eq!(members(&server).await, (0, 0));
    }
    // Also by a list of who is in it, and by tokens that were seen before.
    later(&server);
    who(&server, &world, &token("ann")).await.ok(200);
    assert_eq!(members(&server).await, (1, 0));
    later(&server);
    let unseen = token("ann");
    directory.call("PUT", &ops, json!({"displayName": "ops", "members": []})).await.ok(200);
    who(&server, &world, &unseen).await.ok(200);
    assert_eq!(members(&server).await, (0, 0));
    later(&server);
    who(&server, &world, &token("ann")).await.ok(200);
    assert_eq!(members(&server).await, (1, 0));
    // It is not known for ever.
    let known = "SELECT COUNT(*) FROM group_leavers";
    assert_eq!(server.database.number(known).await, 2);
    server.advance_ms(grantd_wire::limits::WEBHOOK_GONE_MS + 1);
    directory.patch(&ops, set("remove", &bob)).await.ok(200);
    assert_eq!(server.database.number(known).await, 1);
}

async fn whose_a_subject_is_after_a_rebind_no_token_of_before_says(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let directory = Directory::at(&server, &world, &idp.issuer(), json!({})).await;
    let path = created(&directory, "old", "ann").await;
    let (old, new) = (idp.token(&server, "old"), idp.token(&server, "new"));
    let grant = user_grant(&server, &world, &old, "own").await;
    later(&server);
    directory.patch(&path, json!([{"op": "replace", "value": {"externalId": "new"}}])).await.ok(200);
    for token in [&old, &new] {
        is_refused(&server, &world, token, "user_deprovisioned").await;
    }
    assert_eq!(server.database.number(USERS).await, 1);
    later(&server);
    let with = |token: String| json!({"grant_id": grant, "user_token": token});
    ask(&server, &world, with(idp.token(&server, "new"))).await.ok(200);
    assert_eq!(server.database.number(USERS).await, 1);
    // Somebody else has the old one now.
    ask(&server, &world, with(idp.token(&server, "old"))).await.refused(Code::GrantNotFound);
    assert_eq!(server.database.number(USERS).await, 2);
}
