//! Changes racing releases. What is promised: a call received after a revoke answered releases nothing, and a call confirmed
//! before it has its event before the revoke's.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use grantd_wire::Code;
use serde_json::{Value, json};

use crate::harness::world::{VALUE, ask, text};
use crate::harness::{Answer, Server, World};

/// Calls that race one change.
const CALLERS: usize = 4;
/// Calls of each caller that begin after the change was answered.
const LATER: usize = 2;
const ROUNDS: usize = 25;

on_every_engine! {
    a_revoked_grant_releases_nothing,
    a_revoked_key_releases_nothing,
    a_narrowed_host_releases_nothing,
    rotation_never_hands_out_an_old_value,
    a_nonce_releases_once_however_often_it_is_sent_at_once,
    updates_of_an_app_at_once_lose_none,
    the_last_of_many_grants_destroys_the_credential_once,
    callers_at_once_get_one_actor_id,
}

/// Runs `change` beside callers of the grant. Answers every call: whether it began after the change was answered, and its answer.
async fn raced<F: Future<Output = ()> + Send + 'static>(
    servers: [&Server; 2],
    world: &World,
    change: F,
) -> Vec<(bool, Answer)> {
    let (changed, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let (server, world) = (servers[n % 2].clone(), world.clone());
            let (changed, running) = (Arc::clone(&changed), Arc::clone(&running));
            tokio::spawn(async move {
                let (mut answers, mut later) = (Vec::new(), 0);
                while later < LATER {
                    let is_later = changed.load(Ordering::SeqCst);
                    answers.push((is_later, server.token(&world).await));
                    running.fetch_add(1, Ordering::SeqCst);
                    later += usize::from(is_later);
                }
                answers
            })
        })
        .collect();
    // Every caller is under way before the change begins.
    while running.load(Ordering::SeqCst) < CALLERS && !callers.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    change.await;
    changed.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all
}

/// A starved machine may answer 503 instead. Whatever it did, it released nothing.
fn is_busy(answer: &Answer) -> bool {
    answer.status == 503
}

/// Every call was released before the change, or refused with this code. Answers how many were released, and how many may have
/// left an event.
fn assert_split(answers: &[(bool, Answer)], code: Code) -> RangeInclusive<usize> {
    let (mut released, mut busy) = (0, 0);
    for (is_later, answer) in answers {
        match answer.status {
            200 => {
                assert!(!is_later, "a call that began after the change was answered released");
                released += 1;
            }
            503 => busy += 1,
            _ => drop(answer.refused(code)),
        }
    }
    released..=released + busy
}

async fn both(server: &Server) -> (Server, Server) {
    (server.clone(), server.another("replica", |_| {}).await)
}

async fn a_revoked_grant_releases_nothing(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    let mut released = BTreeMap::new();
    for _ in 0..ROUNDS {
        let racing = world.with_grant(&server.grant(&world, json!({})).await);
        let (revoker, revoked) = (server.clone(), racing.clone());
        let change = async move { drop(revoker.revoke(&revoked, &revoked.grant).await.ok(200)) };
        let answers = raced([&one, &two], &racing, change).await;
        released.insert(racing.grant, assert_split(&answers, Code::GrantRevoked));
    }
    let events = server.trail(&world).await;
    for (grant, released) in released {
        let of_grant = events.iter().filter(|event| event["core"]["grant_id"] == grant.as_str());
        let places: Vec<(&str, &str, i64)> = of_grant
            .map(|e| (e["core"]["kind"].as_str().unwrap(), e["chain_id"].as_str().unwrap(), e["seq"].as_i64().unwrap()))
            .collect();
        let told = places.iter().filter(|(kind, ..)| *kind == "token.released").count();
        assert!(released.contains(&told), "{told} of {released:?}");
        let (_, chain, revoked_at) = *places.iter().find(|(kind, ..)| *kind == "grant.revoked").unwrap();
        for (kind, of, seq) in places {
            // Two chains of PostgreSQL have no order between them; one chain has.
            assert!(of != chain || kind != "token.released" || seq < revoked_at, "a release stands after the revoke");
        }
    }
}

async fn a_revoked_key_releases_nothing(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    for _ in 0..ROUNDS / 2 {
        let (id, key) = server.key(&world.app, json!({"scopes": ["tokens:retrieve"]})).await;
        let (revoker, path) = (server.clone(), world.path(&format!("keys/{id}/revoke")));
        let change = async move { drop(revoker.api("POST", &path, Value::Null).await.ok(200)) };
        assert_split(&raced([&one, &two], &world.with_key(&key), change).await, Code::KeyRevoked);
    }
}

async fn a_narrowed_host_releases_nothing(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    let path = world.path(&format!("managed-secrets/{}/allowed-hosts", world.secret));
    for _ in 0..ROUNDS / 2 {
        let (narrower, narrow) = (server.clone(), path.clone());
        let change = async move {
            drop(narrower.api("PUT", &narrow, json!({"allowed_hosts": ["api.example.org"]})).await.ok(200));
        };
        assert_split(&raced([&one, &two], &world, change).await, Code::BlockedDestination);
        server.api("PUT", &path, json!({"allowed_hosts": ["api.example.com"]})).await.ok(200);
    }
}

async fn rotation_never_hands_out_an_old_value(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    let mut old = VALUE.to_owned();
    for round in 0..ROUNDS {
        let new = format!("canary-of-round-{round}");
        let (rotator, rotated, value) = (server.clone(), world.clone(), new.clone());
        let change = async move { drop(rotator.rotate(&rotated, &value).await.ok(200)) };
        for (is_later, answer) in raced([&one, &two], &world, change).await {
            if is_busy(&answer) {
                continue;
            }
            let token = text(&answer.ok(200), "access_token");
            assert!(token == new || (token == old && !is_later), "later: {is_later}, {token} in round {round}");
        }
        old = new;
    }
    // Each event names the version whose value was handed out, and no grant changed.
    let shown = server.api("GET", &world.path(&format!("grants/{}", world.grant)), Value::Null).await.ok(200);
    assert_eq!(shown["version"], 1);
}

async fn a_nonce_releases_once_however_often_it_is_sent_at_once(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    for _ in 0..ROUNDS {
        let raw = server.token_request(&world);
        let sent: Vec<_> = (0..6)
            .map(|n| {
                let (server, raw) = (if n % 2 == 0 { one.clone() } else { two.clone() }, raw.clone());
                tokio::spawn(async move { server.send(raw).await })
            })
            .collect();
        let mut released = 0;
        for answer in sent {
            let answer = answer.await.unwrap();
            match answer.status {
                200 => released += 1,
                503 => {}
                _ => drop(answer.refused(Code::NonceReplayed)),
            }
        }
        assert!(released <= 1, "{released} times with one nonce");
    }
    let told = server.told(&world, "token.released").await.len();
    assert!((1..=ROUNDS).contains(&told), "{told}");
}

async fn updates_of_an_app_at_once_lose_none(server: Server) {
    let world = server.world().await;
    let path = world.path("");
    let before = server.api("GET", &path, Value::Null).await.ok(200)["version"].as_i64().unwrap();
    let sent: Vec<_> = (0..12)
        .map(|n| {
            let (server, path) = (server.clone(), path.clone());
            tokio::spawn(async move { server.api("PATCH", &path, json!({"description": format!("{n}")})).await })
        })
        .collect();
    let mut changed = 0;
    for answer in sent {
        let answer = answer.await.unwrap();
        match answer.status {
            200 => changed += 1,
            _ => drop(answer.refused(Code::Conflict)),
        }
    }
    let after = server.api("GET", &path, Value::Null).await.ok(200)["version"].as_i64().unwrap();
    assert_eq!((after - before, changed > 0), (changed, true), "each success is one version, a lost race none");
    assert_eq!(i64::try_from(server.told(&world, "app.updated").await.len()).unwrap(), changed);
}

async fn the_last_of_many_grants_destroys_the_credential_once(server: Server) {
    let world = server.world().await;
    let mut grants = vec![world.grant.clone()];
    for _ in 0..5 {
        grants.push(server.grant(&world, json!({})).await);
    }
    let sent: Vec<_> = grants
        .iter()
        .flat_map(|grant| [grant.clone(), grant.clone()])
        .map(|grant| {
            let (server, world) = (server.clone(), world.clone());
            tokio::spawn(async move { server.revoke(&world, &grant).await.ok(200) })
        })
        .collect();
    let mut destroyed = 0;
    for answer in sent {
        destroyed += usize::from(answer.await.unwrap()["credential_destroyed"] == true);
    }
    assert_eq!(destroyed, 1);
    assert_eq!(server.told(&world, "credential.destroyed").await.len(), 1);
    assert_eq!(server.told(&world, "grant.revoked").await.len(), 6);
}

async fn callers_at_once_get_one_actor_id(server: Server) {
    let world = server.world().await;
    let (one, two) = both(&server).await;
    for round in 0..4 {
        let label = format!("label {round}");
        let raw = |_| server.sign_as(&world).caller(&label, "service").post("/sdk/token", &ask(&world.grant));
        let raws: Vec<_> = (0..6).map(raw).collect();
        let sent: Vec<_> = raws
            .into_iter()
            .enumerate()
            .map(|(n, raw)| {
                let server = if n % 2 == 0 { one.clone() } else { two.clone() };
                tokio::spawn(async move { server.send(raw).await })
            })
            .collect();
        let mut ids = Vec::new();
        for answer in sent {
            let answer = answer.await.unwrap();
            answer.ok(200);
            ids.push(answer.header("x-alter-actor-id").to_owned());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
}
