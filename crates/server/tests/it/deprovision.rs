//! The end of a user: every grant in one write, however many there may be, and the tokens at the provider after it.

use std::collections::BTreeSet;

use grantd_domain::env::new_uuid;
use grantd_domain::grant::{Grant, Principal};
use grantd_server::jobs::oauth as jobs;
use grantd_store::grants;
use grantd_wire::ids::{AppId, GrantId, UserId};
use grantd_wire::{Code, limits};
use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::idp::Idp;
use crate::harness::world::{ask, merged, text};
use crate::oauth;
use crate::scim::Directory;
use crate::sign_in;
use crate::users::{grant_to, user_grant};
use crate::webhook::{Vendor, auth0};

on_kept_engines! {
    whoever_ends_a_user_ends_the_tokens_at_the_provider,
    five_hundred_grants_end_with_their_user_and_there_are_no_more,
}

async fn whoever_ends_a_user_ends_the_tokens_at_the_provider(server: Server) {
    let (server, world, idp) = sign_in::acme(&server).await;
    idp.issuer.register(&server, &world).await;
    idp.issuer.says(json!({"expires_in": 3600}));
    // One of a vendor that has webhooks; a directory may tell of its users as well.
    server.database.behind_its_back("UPDATE identity_providers SET preset = 'auth0'").await;
    let idps = server.api("GET", &world.path("identity-providers"), Value::Null).await.ok(200);
    let vendor = Vendor::at(&server, &world, text(&idps["items"][0], "id"), json!({})).await;
    let directory = Directory::at(&server, &world, &idp.url(), json!({})).await;
    let mut refresh_tokens = BTreeSet::new();
    for (n, ended_by) in ["operator", "directory", "webhook"].into_iter().enumerate() {
        let token = idp.token(&server, json!({"sub": ended_by}));
        idp.issuer.is_account(&format!("account-{n}"));
        let grant = text(&oauth::connect(&server, &world, json!({"user_token": token})).await, "grant_id");
        refresh_tokens.insert(format!("canary-refresh-{}", n + 1));
        let url = json!({"request": {"method": "GET", "url": "https://api.acme.example.com/v1/things"}});
        let of_grant = server.sign_as(&world).post("/sdk/token", &merged(ask(&grant), url.clone()));
        server.send(of_grant).await.ok(200);
        let found = server.api("GET", &world.path(&format!("users?search={ended_by}")), Value::Null).await.ok(200);
        let path = world.path(&format!("users/{}", text(&found["items"][0], "id")));
        // So that no event is older than what is known of the user.
        server.advance_ms(2_000);
        match ended_by {
            "operator" => {
                let gone = server.api("POST", &format!("{path}/deprovision"), Value::Null).await.ok(200);
                assert_eq!(gone["grants_revoked"], 1);
            }
            "directory" => {
                let user = directory.user(ended_by, "ann@example.com").await;
                let gone = directory.call("DELETE", &format!("/Users/{}", text(&user, "id")), Value::Null).await;
                assert_eq!(gone.status, 204, "{}", gone.text);
            }
            _ => vendor.heard(auth0(&server, "e1", "user.deleted", ended_by, None, 0)).await,
        }
        let user = server.api("GET", &path, Value::Null).await.ok(200);
        assert_eq!(user["user_status"], "deprovisioned", "{ended_by}");
        // Here at once, at the provider soon.
        let of_grant = server.sign_as(&world).post("/sdk/token", &merged(ask(&grant), url));
        server.send(of_grant).await.refused(Code::GrantDeleted);
        let shown = server.api("GET", &world.path(&format!("grants/{grant}")), Value::Null).await.ok(200);
        assert_eq!(shown["revoked_upstream"], "pending", "{ended_by}: {shown}");
        assert_eq!(idp.issuer.calls("/revoke").len(), n, "{ended_by}");
        jobs::end_revoked(&server.vault).await.unwrap();
        let shown = server.api("GET", &world.path(&format!("grants/{grant}")), Value::Null).await.ok(200);
        assert_eq!(shown["revoked_upstream"], "yes", "{ended_by}: {shown}");
    }
    let ended: BTreeSet<String> = idp.issuer.calls("/revoke").iter().map(|form| form["token"].clone()).collect();
    assert_eq!(ended, refresh_tokens);
    let told = server.told(&world, "credential.revoked_upstream").await;
    assert!(told.len() == 3 && told.iter().all(|event| event["revoked_upstream"] == "done"), "{told:?}");
    let gone = server.told(&world, "user.deprovisioned").await;
    let actors: Vec<&Value> = gone.iter().map(|event| &event["actor"]["type"]).collect();
    assert_eq!(actors, ["operator", "scim", "webhook"]);
    assert!(gone.iter().all(|event| event["grants_revoked"] == 1), "{gone:?}");
}

async fn five_hundred_grants_end_with_their_user_and_there_are_no_more(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let ann = idp.token(&server, "ann");
    server.send(server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": ann}))).await.ok(200);
    let user = server.api("GET", &world.path("users"), Value::Null).await.ok(200)["items"][0].clone();
    let (app, owner) = (AppId::parse(&world.app).unwrap(), UserId::parse(&text(&user, "id")).unwrap());
    // All but one through the store: as many on each secret as there may be.
    let mut missing = limits::USER_GRANTS_MAX - 1;
    while missing > 0 {
        let secret = server.secret(&world.app, json!({"name": format!("Secret {missing}")})).await;
        let beside = GrantId::parse(&text(&secret, "grant_id")).unwrap();
        let few = missing.min(limits::SIBLINGS_MAX);
        let ids: Vec<GrantId> = (0..few).map(|_| GrantId::from_uuid(new_uuid(&*server.env))).collect();
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            let base = grants::find(tx, app, beside)?.unwrap().grant;
            let of_user = |id: &GrantId| Grant { id: *id, principal: Principal::User(owner), ..base.clone() };
            ids.iter().try_for_each(|id| grants::insert(tx, &of_user(id)))
        };
        server.store().write(write).await.unwrap();
        missing -= few;
    }
    let at_the_bound = user_grant(&server, &world, &ann, "the last").await;
    let one_more = json!({"type": "user", "user_token": ann, "label": "one more"});
    let refused = grant_to(&server, &world, one_more.clone()).await.refused(Code::TooMany);
    assert!(text(&refused, "message").contains("This user has 500 living grants"), "{refused}");
    // The app's own, and another user's, do not count.
    server.grant(&world, json!({"label": "own"})).await;
    user_grant(&server, &world, &idp.token(&server, "ben"), "his").await;
    // One that is revoked makes room.
    server.revoke(&world, &at_the_bound).await.ok(200);
    let last = text(&grant_to(&server, &world, one_more).await.ok(201), "grant_id");
    let path = world.path(&format!("users/{owner}/deprovision"));
    assert_eq!(server.api("POST", &path, Value::Null).await.ok(200)["grants_revoked"], limits::USER_GRANTS_MAX);
    let left = server.api("GET", &world.path(&format!("grants?user={owner}&status=active")), Value::Null).await.ok(200);
    assert_eq!(left["total"], 0);
    server.send(server.sign_as(&world).post("/sdk/token", &ask(&last))).await.refused(Code::GrantDeleted);
    let revoked = i64::try_from(server.told(&world, "grant.revoked").await.len()).unwrap();
    assert_eq!(revoked, limits::USER_GRANTS_MAX + 1, "an event each, and that of the one before");
}
