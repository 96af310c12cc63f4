//! Single sign-on beside the other ways to sign in, and in its bounds.

use grantd_domain::seal::RootKeys;
use grantd_server::{Settings, jobs, rewrap};
use grantd_store::operators::{self, Role};
use grantd_store::sso::{self, Purpose, Trip};
use grantd_wire::ids::OperatorId;
use grantd_wire::limits;
use serde_json::json;

use crate::harness::{Raw, Server, root_key};
use crate::portal::{Browser, form, is_sent_to_sign_in, is_sound, link};
use crate::portal_account::{
    PASSWORD, held, set, sign_in as sign_in_by_password, signed_in as signed_in_by_form, somebody,
};
use crate::portal_sso::{
    CALLBACK, acme, ann, away, back_with, come_back, is_refused, leave, operator, process, sentences, set_up,
    signed_in, trip,
};

in_memory! {
    there_is_no_single_sign_on_unless_it_is_configured,
    trips_from_one_address_are_bounded,
    where_it_is_required_nothing_else_signs_in,
    another_root_key_ends_no_trip,
}

on_kept_engines! {
    who_is_shut_out_is_bound_no_more,
    trips_are_bounded_and_forgotten,
    whoever_signs_in_another_way_meanwhile_stays,
}

async fn there_is_no_single_sign_on_unless_it_is_configured(server: Server) {
    let (browser, _) = somebody(&server, Role::Admin).await;
    assert_eq!(server.send(form("", CALLBACK, &[])).await.status, 404);
    assert_eq!(server.send(Raw::new("GET", &format!("{CALLBACK}?state=x&code=y"), "")).await.status, 404);
    assert_eq!(browser.post("/portal/sign-in/sso/confirm", &[]).await.status, 404);
    assert_eq!(browser.post("/portal/account/sso/remove", &[]).await.status, 404);
    for path in ["/portal/account", "/portal/sign-in"] {
        assert!(!browser.get(path).await.text.contains("/sso"), "{path}");
    }
}

async fn trips_from_one_address_are_bounded(server: Server) {
    let (server, _idp) = acme(&server).await;
    for _ in 0..limits::SIGN_IN_ATTEMPTS_PER_MINUTE {
        leave(&server).await;
    }
    let one_more = server.send(form("", CALLBACK, &[])).await;
    assert_eq!((one_more.status, one_more.header("retry-after").is_empty()), (429, false));
    is_sound("too many", &one_more.text);
    away(&server.send(form("", CALLBACK, &[]).from("203.0.113.8")).await);
}

async fn where_it_is_required_nothing_else_signs_in(server: Server) {
    let (server, idp) = acme(&server).await;
    let (before, email) = somebody(&server, Role::Admin).await;
    assert_eq!(set(&before, PASSWORD).await.status, 303);
    let id = operator(&server, "ann@example.com").await;
    let server = process(&server, &idp, "sso-required", |sso| sso.is_required = true).await;
    let page = server.send(Raw::new("GET", "/portal/sign-in", "")).await;
    is_sound("sign-in", &page.text);
    let offers = sentences(&page.text);
    assert!(offers.contains("Sign in with Acme ID") && !offers.contains("type=\"password\""), "{offers}");
    let refused = "Operators sign in with Acme ID alone here.";
    let by_password = sign_in_by_password(&server, &email, PASSWORD).await;
    assert!(by_password.status == 409 && by_password.text.contains(refused), "{}", by_password.text);
    let link_of_an_admin = server.api("POST", &format!("/api/v1/operators/{id}/login-link"), json!({})).await;
    assert!(link_of_an_admin.status == 409 && link_of_an_admin.text.contains(refused), "{}", link_of_an_admin.text);
    // From the machine itself somebody always gets in.
    let browser = Browser::with_link(&server, &link(&server, Some(&email)).await).await;
    for (path, absent) in [
        ("/portal/account", "account/password"),
        ("/portal/apps", "You sign in by links alone"),
        ("/portal/members/new", "You get a link"),
        (&format!("/portal/members/{id}"), "/link"),
    ] {
        let page = browser.page(path).await;
        is_sound(path, &page);
        assert!(!page.contains(absent), "{path}: {page}");
    }
    for path in [
        "/portal/account/password",
        "/portal/account/authenticator/new",
        "/portal/account/authenticator",
        "/portal/account/authenticator/codes",
        "/portal/account/passkeys/new",
        "/portal/account/passkeys",
        "/portal/sign-in/passkey",
        "/portal/sign-in/code",
    ] {
        let answer = browser.post(path, &[("password", "another good long one"), ("name", "Phone")]).await;
        assert!(answer.status == 409 && answer.text.contains(refused), "{path}: {}", answer.text);
    }
    let invited = browser.post("/portal/members/new", &[("email", "new@example.com"), ("role", "viewer")]).await;
    assert!(invited.header("location").ends_with("?done=member_invited"), "{}", invited.text);
    // Nor does a password confirm anything.
    server.advance_ms(limits::CONFIRMED_S * 1000);
    let other = operator(&server, "ben@example.com").await;
    let path = format!("/portal/members/{other}/disable");
    let asked = browser.post(&path, &[]).await;
    assert!(asked.status == 401 && !asked.text.contains("name=\"password\""), "{}", asked.text);
    let waiting = held(&asked.text);
    for (field, proof) in [("password", PASSWORD), ("code", "123456"), ("signature", "AA")] {
        let answered = browser.post(&path, &[("held", &waiting), (field, proof)]).await;
        assert!(answered.status == 409 && answered.text.contains(refused), "{field}: {}", answered.text);
    }
    let link = link(&server, Some(&email)).await;
    assert_eq!(browser.post(&path, &[("held", &waiting), ("link", &link)]).await.status, 303);
    signed_in(&server, &trip(&server, &idp, json!({})).await);
}

async fn another_root_key_ends_no_trip(server: Server) {
    let (server, idp) = acme(&server).await;
    operator(&server, "ann@example.com").await;
    let away = leave(&server).await;
    let (both, to) = (RootKeys::new(root_key(7), vec![root_key(8)]), root_key(8).id().to_owned());
    rewrap::run(server.store(), &both, &to, &*server.env, &mut |_, _| {}).await.unwrap();
    let new_alone = RootKeys::new(root_key(8), Vec::new());
    let change = |settings: &mut Settings| set_up(settings, &idp, |_| {});
    let started = server.another_with_root_keys("sso-new-root", new_alone, change).await.unwrap();
    signed_in(&started, &back_with(&started, &idp, &away, json!({})).await);
}

async fn who_is_shut_out_is_bound_no_more(server: Server) {
    let (server, idp) = acme(&server).await;
    let id = operator(&server, "ann@example.com").await;
    let browser = signed_in(&server, &trip(&server, &idp, json!({})).await);
    let away = leave(&server).await;
    let path = format!("/api/v1/operators/{id}");
    server.api("PATCH", &path, json!({"disabled": true})).await.ok(200);
    assert!(is_sent_to_sign_in(&browser.get("/portal/apps").await));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM operator_identities").await, 0);
    is_refused(&back_with(&server, &idp, &away, json!({})).await, 403, "operator_disabled", "You are locked out");
    // They begin anew: whoever the issuer vouches for with their address by then.
    server.api("PATCH", &path, json!({"disabled": false})).await.ok(200);
    signed_in(&server, &trip(&server, &idp, json!({"sub": "user-2"})).await);
    is_refused(&trip(&server, &idp, json!({})).await, 403, "other_account", "Another account");
    // So does who is reset on the host.
    let (operator, now) = (OperatorId::parse(&id).unwrap(), server.now());
    server.store().write(move |tx| operators::reset(tx, operator, now)).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM operator_identities").await, 0);
    signed_in(&server, &trip(&server, &idp, json!({"sub": "user-2"})).await);
    // A password of theirs is another way, and stays beside it.
    let at = server.now().0.div_euclid(1000);
    let browser = signed_in(&server, &trip(&server, &idp, json!({"sub": "user-2", "auth_time": at})).await);
    assert_eq!(set(&browser, PASSWORD).await.status, 303);
    signed_in_by_form(&server, &sign_in_by_password(&server, "ann@example.com", PASSWORD).await);
}

async fn trips_are_bounded_and_forgotten(server: Server) {
    let now = server.now();
    let trip = move |n: u8| Trip {
        state_hash: [n; 32],
        browser_hash: [n; 32],
        purpose: Purpose::SignIn(None),
        sealed: vec![n],
        begun_at: now.plus_ms(n.into()),
    };
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        for n in 0..4 {
            sso::insert_trip(tx, &trip(n), 3)?;
        }
        let there =
            (0..4).map(|n| Ok(sso::find_trip(tx, [n; 32])?.is_some())).collect::<grantd_store::Result<Vec<_>>>()?;
        Ok((there, sso::take_trip(tx, [3; 32])?, sso::take_trip(tx, [3; 32])?))
    };
    assert_eq!(server.store().write(write).await.unwrap(), (vec![false, true, true, true], true, false));
    server.advance_ms(limits::SSO_TRIP_S * 1000 + 1);
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    let left = server.store().read(|tx| sso::find_trip(tx, [2; 32])).await.unwrap();
    assert_eq!(left.map(|trip| (trip.begun_at, trip.purpose)), Some((now.plus_ms(2), Purpose::SignIn(None))));
    server.advance_ms(1);
    jobs::prune_web_sessions(&server.vault).await.unwrap();
    assert_eq!(server.database.number("SELECT COUNT(*) FROM sso_trips").await, 0);
}

async fn whoever_signs_in_another_way_meanwhile_stays(server: Server) {
    let (server, idp) = acme(&server).await;
    operator(&server, "ann@example.com").await;
    operator(&server, "ben@example.com").await;
    let away = leave(&server).await;
    let link = link(&server, Some("ben@example.com")).await;
    let other = server.send(form("", "/portal/sign-in", &[("link", &link)]).set("cookie", &away.cookie)).await;
    let cleared = "grantd_sso=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";
    assert!(other.headers.get_all("set-cookie").iter().any(|set| set == cleared), "{:?}", other.headers);
    let ben = signed_in_by_form(&server, &other);
    // As the browser is from then on. Nobody is put in Ben's place, and nobody is signed in beside him.
    idp.issues(&idp.token(&server, ann(&away.asked["nonce"])));
    let params = [("code", "c"), ("state", away.asked["state"].as_str())];
    let back = come_back(&server, "other=1", &params).await;
    is_refused(&back, 403, "other_browser", "This browser did not begin that");
    assert!(ben.page("/portal/account").await.contains("ben@example.com"));
    assert_eq!(server.database.number("SELECT COUNT(*) FROM web_sessions").await, 1);
    assert!(idp.issuer.calls("/token").is_empty());
    // Who comes back from the issuer is on no other way there, either.
    let back = trip(&server, &idp, json!({})).await;
    assert!(back.headers.get_all("set-cookie").iter().any(|set| set == cleared), "{:?}", back.headers);
    signed_in(&server, &back);
}
