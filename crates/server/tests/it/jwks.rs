//! Keys of identity providers: fetched within their budget, kept, and never had from where they must not be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use grantd_domain::destination::OutboundAllow;
use grantd_domain::identity::KEYS_UNAVAILABLE;
use grantd_server::outbound::{Names, Outbound};
use grantd_wire::Code;
use grantd_wire::limits::{JWKS_BYTES_MAX, JWKS_FRESH_MS, JWKS_PAUSE_MS, JWKS_STALE_MS};
use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::idp::{Idp, Play};
use crate::harness::{Answer, Server, World};
use crate::sign_in;
use crate::users::ask;

in_memory! {
    keys_are_fetched_within_their_budget_and_kept,
    callers_that_come_at_once_fetch_once,
    a_set_of_keys_that_is_none_is_never_taken_for_one,
    a_set_of_keys_is_read_up_to_its_bound,
    a_name_that_leads_inside_is_not_called,
    an_issuer_that_hangs_or_drips_holds_up_nobody_else,
    signing_in_without_keys_is_told_of,
}

/// A call for a user who has nothing: proved, it finds no grant.
fn by(world: &World, token: &str) -> Value {
    json!({"provider_id": world.secret, "user_token": token})
}

/// Whether such a call was refused because there are no keys to prove its user with, and the trail says so.
async fn assert_no_keys(server: &Server, world: &World, refused: &Answer) -> String {
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    let json = refused.refused(Code::ServiceUnavailable);
    assert_eq!(json["details"]["check"], KEYS_UNAVAILABLE);
    let told = server.told(world, "token.denied").await;
    let last = told.last().unwrap();
    assert_eq!((&last["code"], &last["check"]), (&json!("service_unavailable"), &json!(KEYS_UNAVAILABLE)));
    assert_eq!((&last["outcome"], &last["provider_id"]), (&json!("denied"), &json!(world.secret)));
    json["message"].as_str().unwrap().to_owned()
}

async fn keys_are_fetched_within_their_budget_and_kept(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let missing =
        async |token: String| drop(ask(&server, &world, by(&world, &token)).await.refused(Code::GrantNotFound));
    let unknown = async |token: String| {
        let refused = ask(&server, &world, by(&world, &token)).await.refused(Code::JwtValidationError);
        assert_eq!(refused["details"]["check"], "key");
    };
    assert_eq!(idp.calls(), 0);
    for _ in 0..3 {
        missing(idp.token(&server, "ann")).await;
    }
    assert_eq!(idp.calls(), 1, "one fetch, however many calls");
    // A key that is new: not before the pause is over, then at once, and the old one is gone with it.
    let old = idp.token(&server, "ann");
    idp.rotate("k2");
    for _ in 0..3 {
        unknown(idp.token(&server, "ann")).await;
    }
    assert_eq!(idp.calls(), 1);
    server.env.advance_ms(JWKS_PAUSE_MS);
    missing(idp.token(&server, "ann")).await;
    assert_eq!(idp.calls(), 2);
    unknown(old).await;
    // Kept for the next process, which asks nobody while they are good.
    let next = server.another("next", |_| {}).await;
    idp.plays(Play::Answer("HTTP/1.1 500 x".to_owned(), String::new()));
    next.env.advance_ms(JWKS_FRESH_MS - 1);
    ask(&next, &world, by(&world, &idp.token(&server, "ann"))).await.refused(Code::GrantNotFound);
    // Old ones prove for a day, and not a moment longer.
    server.env.advance_ms(JWKS_STALE_MS - JWKS_FRESH_MS);
    missing(idp.token(&server, "ann")).await;
    server.env.advance_ms(1);
    let refused = ask(&server, &world, by(&world, &idp.token(&server, "ann"))).await;
    assert_no_keys(&server, &world, &refused).await;
}

async fn callers_that_come_at_once_fetch_once(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let at_once = async || {
        let tokens: Vec<String> = (0..20).map(|n| idp.token(&server, &format!("user-{n}"))).collect();
        for answer in join_all(tokens.iter().map(|token| ask(&server, &world, by(&world, token)))).await {
            answer.refused(Code::GrantNotFound);
        }
    };
    at_once().await;
    assert_eq!(idp.calls(), 1, "nobody had a key yet");
    idp.rotate("k2");
    server.env.advance_ms(JWKS_PAUSE_MS);
    at_once().await;
    assert_eq!(idp.calls(), 2, "all of them had a key that was not known");
}

async fn a_set_of_keys_that_is_none_is_never_taken_for_one(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let token = idp.token(&server, "ann");
    let elsewhere = format!("HTTP/1.1 302 x\r\nlocation: {}/other", idp.issuer());
    let keys = idp.keys();
    let plays = [
        ("HTTP/1.1 500 x", "", "answers 500"),
        (elsewhere.as_str(), keys.as_str(), "redirect"),
        ("HTTP/1.1 200 x", "no json", "no JSON object"),
        ("HTTP/1.1 200 x", r#"{"keys":[]}"#, "no key that can prove"),
        ("HTTP/1.1 200 x", r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}"#, "no key that can prove"),
    ];
    for (head, body, why) in plays {
        idp.plays(Play::Answer(head.to_owned(), body.to_owned()));
        server.env.advance_ms(JWKS_PAUSE_MS);
        let refused = ask(&server, &world, by(&world, &token)).await;
        let message = assert_no_keys(&server, &world, &refused).await;
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(idp.calls(), plays.len(), "no redirect was followed");
    // One event a call, whether somebody was asked for it or not; and one on other routes, too.
    ask(&server, &world, by(&world, &token)).await.refused(Code::ServiceUnavailable);
    assert_eq!((idp.calls(), server.told(&world, "token.denied").await.len()), (plays.len(), plays.len() + 1));
    let list = server.sign_as(&world).post("/sdk/grants/list", &json!({"user_token": token}));
    server.send(list).await.refused(Code::ServiceUnavailable);
    let told = server.told(&world, "user_token.refused").await;
    assert_eq!((told.len(), &told[0]["check"]), (1, &json!(KEYS_UNAVAILABLE)));
    assert_eq!(told[0]["code"], "service_unavailable");
    // Where the address guard does not let it, nobody is called.
    let shut = server.another("shut", |settings| settings.outbound = OutboundAllow::default()).await;
    let refused = ask(&shut, &world, by(&world, &token)).await;
    assert!(assert_no_keys(&shut, &world, &refused).await.contains("does not lead to a public address"));
    assert_eq!(idp.calls(), plays.len());
    idp.plays(None);
    server.env.advance_ms(JWKS_PAUSE_MS);
    ask(&server, &world, by(&world, &token)).await.refused(Code::GrantNotFound);
}

async fn a_set_of_keys_is_read_up_to_its_bound(server: Server) {
    let (server, world, idp) = Idp::start(&server).await;
    let of = |bytes: usize| {
        let keys = idp.keys();
        let padding = " ".repeat(bytes - keys.len());
        Play::Answer("HTTP/1.1 200 OK".to_owned(), keys + &padding)
    };
    let token = idp.token(&server, "ann");
    idp.plays(of(JWKS_BYTES_MAX + 1));
    let refused = ask(&server, &world, by(&world, &token)).await;
    assert!(assert_no_keys(&server, &world, &refused).await.contains("larger than 256 KiB"));
    idp.plays(of(JWKS_BYTES_MAX));
    server.env.advance_ms(JWKS_PAUSE_MS);
    ask(&server, &world, by(&world, &token)).await.refused(Code::GrantNotFound);
    assert_eq!(idp.calls(), 2);
}

/// Says that every name leads to these addresses.
#[derive(Clone, Default)]
struct Leads(Arc<Mutex<Vec<IpAddr>>>);

impl Names for Leads {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let found = self.0.lock().unwrap().iter().map(|address| SocketAddr::new(*address, port)).collect();
        async move { Ok(found) }.boxed()
    }
}

async fn a_name_that_leads_inside_is_not_called(server: Server) {
    let leads = Leads::default();
    let idp = Idp::listen(&server).await;
    let outbound = Outbound::new(None).named_by(leads.clone());
    // Even a range that is allowed does not open a cloud's metadata service.
    let allow = OutboundAllow::parse(&["169.254.0.0/16"]).unwrap();
    let server = server.another_through("inside", outbound, |settings| settings.outbound = allow).await;
    let world = server.world().await;
    idp.register(&server, &world, &format!("https://id.example.com:{}/jwks", idp.port)).await;
    let token = idp.token(&server, "ann");
    for addresses in [
        &["10.0.0.7"][..],
        &["127.0.0.1"],
        &["::1"],
        &["::ffff:10.0.0.7"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        // All of them must be public.
        &["93.184.216.34", "192.168.0.7"],
    ] {
        *leads.0.lock().unwrap() = addresses.iter().map(|address| address.parse().unwrap()).collect();
        server.env.advance_ms(JWKS_PAUSE_MS);
        let refused = ask(&server, &world, by(&world, &token)).await;
        let message = assert_no_keys(&server, &world, &refused).await;
        assert!(message.contains("does not lead to a public address"), "{addresses:?}: {message}");
        assert!(addresses.iter().all(|address| !refused.text.contains(address)), "{}", refused.text);
    }
    assert_eq!(idp.calls(), 0);
}

async fn an_issuer_that_hangs_or_drips_holds_up_nobody_else(server: Server) {
    // At the same time: each takes as long as keys are waited for.
    tokio::join!(hangs_before_there_are_keys(&server), drips_when_a_key_is_new(&server));
}

async fn hangs_before_there_are_keys(server: &Server) {
    let (server, world, idp) = Idp::start(server).await;
    idp.plays(Play::Hang);
    let token = idp.token(&server, "ann");
    let mut waits = Box::pin(ask(&server, &world, by(&world, &token)));
    let without = async {
        while idp.calls() == 0 {
            tokio::task::yield_now().await;
        }
        ask(&server, &world, json!({"grant_id": world.grant})).await
    };
    tokio::select! {
        early = &mut waits => panic!("there are no keys yet: {}", early.text),
        released = without => assert_eq!(released.status, 200, "{}", released.text),
    }
    let refused = waits.await;
    assert!(assert_no_keys(&server, &world, &refused).await.contains("did not answer in time"));
}

async fn drips_when_a_key_is_new(server: &Server) {
    let (server, world, idp) = Idp::start(server).await;
    let known = idp.token(&server, "ann");
    ask(&server, &world, by(&world, &known)).await.refused(Code::GrantNotFound);
    idp.plays(Play::Drip);
    idp.rotate("k2");
    server.env.advance_ms(JWKS_PAUSE_MS);
    let new = idp.token(&server, "ann");
    let mut waits = Box::pin(ask(&server, &world, by(&world, &new)));
    let others = async {
        while idp.calls() == 1 {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            ask(&server, &world, by(&world, &known)).await.refused(Code::GrantNotFound);
        }
    };
    tokio::select! {
        early = &mut waits => panic!("the new key is not known yet: {}", early.text),
        () = others => {}
    }
    // The set before counts, in which the key is not.
    assert_eq!(waits.await.refused(Code::JwtValidationError)["details"]["check"], "key");
    ask(&server, &world, by(&world, &known)).await.refused(Code::GrantNotFound);
    assert_eq!(idp.calls(), 2);
}

async fn signing_in_without_keys_is_told_of(server: Server) {
    let (server, world, idp) = sign_in::acme(&server).await;
    idp.issuer.publish("/jwks", "no keys".to_owned());
    let (session, mut browser) = (sign_in::session(&server, &world).await, Browser::default());
    let (_, asked) = sign_in::leave(&server, &mut browser, &session).await;
    idp.issues(&idp.token(&server, json!({"nonce": asked["nonce"]})));
    let back = browser.back(&server, &[("code", "c"), ("state", &asked["state"])]).await;
    assert!(!back.text.contains("You are signed in"), "{}", back.text);
    let told = sign_in::poll(&server, &world, &session).await;
    assert_eq!((&told["status"], &told["error_code"]), (&json!("error"), &json!("service_unavailable")), "{told}");
    assert!(told["error_message"].as_str().unwrap().contains("keys cannot be had"), "{told}");
    let failed = server.told(&world, "sign_in.failed").await;
    assert_eq!(failed.len(), 1);
    let (why, code) = (&failed[0]["why"], &failed[0]["provider_code"]);
    assert_eq!((why, code), (&json!("service_unavailable"), &json!(KEYS_UNAVAILABLE)));
}
