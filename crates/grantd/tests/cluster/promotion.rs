//! The primary dies under load and its synchronous standby is promoted: everything that was answered is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Replica, World, ask, text};
use crate::grantd::{self, Place};

/// Callers at the same time.
const CALLERS: usize = 8;
/// Calls that must have been released before the primary dies, and again after the promotion.
const RELEASED_MIN: usize = 300;
/// Each of them revokes one grant after another.
const REVOKERS: usize = 2;
/// Longest wait for anything, on a machine that is short of everything.
const LONG: Duration = Duration::from_mins(2);

/// What the callers were told.
#[derive(Default)]
struct Told {
    /// The reasons of the calls that were released.
    released: std::sync::Mutex<BTreeSet<String>>,
    revoked: std::sync::Mutex<BTreeSet<String>>,
    count: AtomicUsize,
    unavailable: AtomicUsize,
    is_over: AtomicBool,
}

#[test]
fn what_was_answered_outlives_the_primary() {
    let Some(primary) = crate::told("GRANTD_TEST_PRIMARY_URL") else { return };
    let (standby, pid) =
        (crate::told("GRANTD_TEST_STANDBY_URL").unwrap(), crate::told("GRANTD_TEST_PRIMARY_PID").unwrap());
    crate::run(async move {
        wait_for_a_synchronous_standby(&primary).await;
        let url = grantd::new_database(&primary, "grantd_promotion").await;
        let place = Place::new();
        let servers = grantd::serve(&place, &both(&url, &standby), 2);
        let replicas: Arc<[Replica]> = servers.iter().map(|server| server.replica.clone()).collect();
        let world = replicas[0].world("First").await;
        let told = Arc::new(Told::default());
        let mut at_work: Vec<_> = (0..CALLERS)
            .map(|n| tokio::spawn(call(replicas[n % 2].clone(), world.clone(), n, Arc::clone(&told))))
            .collect();
        at_work.extend(
            (0..REVOKERS).map(|n| tokio::spawn(revoke(replicas[n % 2].clone(), world.clone(), Arc::clone(&told)))),
        );
        released(&told, RELEASED_MIN).await;

        grantd::signal("KILL", &pid);
        let died = crate::stopwatch();
        let until_death = told.count.load(Ordering::SeqCst);
        let admin = grantd::connect(&standby).await;
        assert!(admin.query_one("SELECT pg_promote(true, 60)", &[]).await.unwrap().get::<_, bool>(0));
        let promoted = died.elapsed();
        released(&told, until_death + CALLERS + 1).await;
        let back = died.elapsed();
        released(&told, until_death + RELEASED_MIN).await;
        told.is_over.store(true, Ordering::SeqCst);
        for one in at_work {
            one.await.unwrap();
        }

        println!(
            "{} releases and {} revokes answered, {} calls refused with 503; promoted after {promoted:.1?}, released again after {back:.1?}",
            told.count.load(Ordering::SeqCst),
            told.revoked.lock().unwrap().len(),
            told.unavailable.load(Ordering::SeqCst)
        );
        nothing_answered_is_lost(&replicas, &world, &told, &place).await;
        for server in servers {
            assert!(server.stop(), "a replica did not end well");
        }
    });
}

/// `postgres://u@a/x` and `postgres://u@b/y` as `postgres://u@a,b/x`.
fn both(url: &str, other: &str) -> String {
    let host = |url: &str| url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    url.replace(&host(url), &format!("{},{}", host(url), host(other)))
}

async fn wait_for_a_synchronous_standby(primary: &str) {
    let admin = grantd::connect(primary).await;
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    let wait = async {
        while admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the standby streams");
}

async fn released(told: &Told, count: usize) {
    let wait = async {
        while told.count.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| {
        panic!("{} of {count} calls were released", told.count.load(Ordering::SeqCst));
    });
}

async fn call(replica: Replica, world: World, caller: usize, told: Arc<Told>) {
    let mut n = 0;
    while !told.is_over.load(Ordering::SeqCst) {
        let reason = format!("call {caller}-{n}");
        n += 1;
        let answer = replica.token(&ask(&world.key, &world.grant, &reason)).await;
        match answer.status {
            200 => {
                told.released.lock().unwrap().insert(reason);
                told.count.fetch_add(1, Ordering::SeqCst);
            }
            503 => {
                told.unavailable.fetch_add(1, Ordering::SeqCst);
                // A caller that is told to come back does so a little later.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => panic!("{answer:?}"),
        }
    }
}

async fn revoke(replica: Replica, world: World, told: Arc<Told>) {
    let path = format!("apps/{}/managed-secrets/{}/grants", world.app, world.secret);
    while !told.is_over.load(Ordering::SeqCst) {
        let made = replica.api("POST", &path, json!({"principal_type": "system"})).await;
        if made.status == 201 {
            let grant = text(&made.body, "grant_id");
            if replica.revoke(&world.app, &grant).await.status == 200 {
                told.revoked.lock().unwrap().insert(grant);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn nothing_answered_is_lost(replicas: &[Replica], world: &World, told: &Told, place: &Place) {
    let revoked = told.revoked.lock().unwrap().clone();
    assert!(!revoked.is_empty());
    for (n, grant) in revoked.iter().enumerate() {
        let answer = replicas[n % replicas.len()].token(&ask(&world.key, grant, "revoked")).await;
        assert_eq!(answer.body["error"], "grant_revoked", "a revoke that was answered is lost: {answer:?}");
    }
    let export = replicas[0].api("GET", &format!("apps/{}/audit/export", world.app), Value::Null).await.ok();
    let export = export.as_str().unwrap().to_owned();
    let report = grantd::verify(place, &export);
    println!("{} events in {} chains verify", report["events"], report["chains"]);
    let mut trail: BTreeSet<&str> = BTreeSet::new();
    for reason in export.split("\"reason\":\"").skip(1).filter_map(|after| after.split('"').next()) {
        assert!(!reason.starts_with("call ") || trail.insert(reason), "{reason} is in the trail twice");
    }
    for reason in told.released.lock().unwrap().iter() {
        assert!(trail.contains(reason.as_str()), "{reason} was released, and its event is lost");
    }
}
