//! Three replicas: what is revoked, rotated or used up on one is so on all, from the moment the answer came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::{Replica, World, ask};
use crate::grantd::{self, Place};

/// Revokes of a grant, each while calls for it follow one another, and with a call that comes after it.
const GRANTS: usize = 10_000;
/// The same with the caller's key.
const KEYS: usize = 300;
/// New values, each with a call that races it and one that comes after it.
const ROTATIONS: usize = 300;
/// Calls sent to three replicas at once with one nonce.
const NONCES: usize = 1_000;
/// Apps at work at the same time; each does one thing after another.
const APPS: usize = 4;

#[derive(Default)]
struct Seen {
    /// Calls that raced the change and were released.
    before: AtomicUsize,
    /// Calls that raced the change and were refused.
    beaten: AtomicUsize,
    /// Answers that say nothing: a 503 on a machine short of everything.
    unavailable: AtomicUsize,
}

impl Seen {
    fn count(&self, answer: &crate::client::Answer) {
        let place = match answer.status {
            200 => &self.before,
            503 => &self.unavailable,
            _ => &self.beaten,
        };
        place.fetch_add(1, Ordering::Relaxed);
        assert!(answer.is_released() || answer.is_refused() || answer.status == 503, "{answer:?}");
    }

    fn told(&self) -> String {
        let n = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        format!(
            "{} racing calls were before the change, {} after it, {} undecided",
            n(&self.before),
            n(&self.beaten),
            n(&self.unavailable)
        )
    }
}

/// Runs `one(app, n)` for every n below `total`, app by app.
async fn spread<F>(apps: usize, total: usize, one: impl Fn(usize, usize) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let one = Arc::new(one);
    let at_work: Vec<_> = (0..apps)
        .map(|app| {
            let one = Arc::clone(&one);
            tokio::spawn(async move {
                for n in (app..total).step_by(apps) {
                    one(app, n).await;
                }
            })
        })
        .collect();
    for app in at_work {
        app.await.unwrap();
    }
}

/// The three, in another order for each n: who changes, who races, who is asked afterwards.
fn roles(replicas: &[Replica], n: usize) -> [Replica; 3] {
    let at = |i: usize| replicas[(n + i) % replicas.len()].clone();
    if n.is_multiple_of(2) { [at(0), at(1), at(2)] } else { [at(0), at(2), at(1)] }
}

#[test]
fn a_change_on_one_replica_holds_on_all_from_its_answer_on() {
    let Some(admin_url) = crate::told("GRANTD_TEST_REPLICAS_URL") else { return };
    crate::run(async move {
        let url = grantd::new_database(&admin_url, "grantd_replicas").await;
        let place = Place::new();
        let servers = grantd::serve(&place, &url, 3);
        let replicas: Arc<[Replica]> = servers.iter().map(|server| server.replica.clone()).collect();
        let mut worlds = Vec::new();
        for n in 0..APPS {
            worlds.push(replicas[n % 3].world(&format!("App {n}")).await);
        }
        let worlds: Arc<[World]> = worlds.into();
        revoked_grants(&replicas, &worlds, &url).await;
        revoked_keys(&replicas, &worlds).await;
        rotations(&replicas, &worlds).await;
        nonces(&replicas, &worlds).await;
        for world in worlds.iter() {
            let export = replicas[0].api("GET", &format!("apps/{}/audit/export", world.app), Value::Null).await;
            grantd::verify(&place, &lines(&export.ok()));
        }
        for server in servers {
            assert!(server.stop(), "a replica did not end well");
        }
    });
}

fn lines(export: &Value) -> String {
    export.as_str().map_or_else(|| export.to_string(), str::to_owned)
}

/// Copies of each world's grant, made behind the servers' back because making them is not what is looked at.
async fn copies(worlds: &[World], url: &str) -> Vec<Vec<String>> {
    let database = grantd::connect(url).await;
    let sql = "INSERT INTO grants (app_id, id, credential_id, principal_type, principal_id, label, label_search, status, reason, \
          tenant_value, tenant_exempt_at_ms, expires_at_ms, created_at_ms, revoked_at_ms, last_used_at_ms, version) \
        SELECT app_id, uuid_send(gen_random_uuid()), credential_id, principal_type, principal_id, label, label_search, status, reason, \
          tenant_value, tenant_exempt_at_ms, expires_at_ms, created_at_ms, revoked_at_ms, last_used_at_ms, version \
        FROM grants, generate_series(1, $3::bigint) WHERE app_id = uuid_send($1::text::uuid) AND id = uuid_send($2::text::uuid) RETURNING encode(id, 'hex')::uuid::text";
    let each = i64::try_from(GRANTS.div_ceil(APPS)).unwrap();
    let mut all = Vec::new();
    for world in worlds {
        let rows = database.query(sql, &[&world.app, &world.grant, &each]).await.unwrap();
        all.push(rows.iter().map(|row| row.get(0)).collect());
    }
    all
}

async fn revoked_grants(replicas: &Arc<[Replica]>, worlds: &Arc<[World]>, url: &str) {
    let started = crate::stopwatch();
    let grants = Arc::new(copies(worlds, url).await);
    let seen = Arc::new(Seen::default());
    let (all, of, counted) = (Arc::clone(replicas), Arc::clone(worlds), Arc::clone(&seen));
    spread(APPS, GRANTS, move |app, n| {
        let (world, grant) = (of[app].clone(), grants[app][n / APPS].clone());
        let ([changes, races, after], seen) = (roles(&all, n), Arc::clone(&counted));
        async move {
            let is_over = Arc::new(AtomicBool::new(false));
            let (caller, asked, over) = (world.clone(), grant.clone(), Arc::clone(&is_over));
            // Calls one after another, so that there is always one under way when the revoke takes hold.
            let racing = tokio::spawn(async move {
                loop {
                    let answer = races.token(&ask(&caller.key, &asked, "racing")).await;
                    seen.count(&answer);
                    if !answer.is_released() || over.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
            let revoked = changes.revoke(&world.app, &grant).await;
            is_over.store(true, Ordering::SeqCst);
            let later = after.token(&ask(&world.key, &grant, "later")).await;
            if revoked.status == 200 {
                assert!(!later.is_released(), "released after the revoke of {grant} was answered: {later:?}");
                assert!(later.status == 503 || later.body["error"] == "grant_revoked", "{later:?}");
            } else {
                assert_eq!(revoked.status, 503, "{revoked:?}");
            }
            racing.await.unwrap();
        }
    })
    .await;
    println!("{GRANTS} revokes of a grant in {:.1?}: {}", started.elapsed(), seen.told());
    assert!(seen.unavailable.load(Ordering::Relaxed) < GRANTS / 10, "too little was decided: {}", seen.told());
}

async fn revoked_keys(replicas: &Arc<[Replica]>, worlds: &Arc<[World]>) {
    let started = crate::stopwatch();
    let seen = Arc::new(Seen::default());
    let (all, of, counted) = (Arc::clone(replicas), Arc::clone(worlds), Arc::clone(&seen));
    spread(APPS, KEYS, move |app, n| {
        let ([changes, races, after], seen, world) = (roles(&all, n), Arc::clone(&counted), of[app].clone());
        async move {
            let (id, key) = changes.mint(&world.app).await;
            // Known to every replica, before it is revoked on one.
            for replica in [&races, &after] {
                let known = replica.token(&ask(&key, &world.grant, "known")).await;
                assert!(known.is_released() || known.status == 503, "{known:?}");
            }
            let racing = ask(&key, &world.grant, "racing");
            let racing = tokio::spawn(async move { races.token(&racing).await });
            let revoked = changes.api("POST", &format!("apps/{}/keys/{id}/revoke", world.app), Value::Null).await;
            let later = after.token(&ask(&key, &world.grant, "later")).await;
            if revoked.status == 200 {
                assert!(!later.is_released(), "released after the revoke of key {id} was answered: {later:?}");
                assert!(later.status == 503 || later.body["error"] == "key_revoked", "{later:?}");
            }
            seen.count(&racing.await.unwrap());
        }
    })
    .await;
    println!("{KEYS} revokes of a key in {:.1?}: {}", started.elapsed(), seen.told());
}

async fn rotations(replicas: &Arc<[Replica]>, worlds: &Arc<[World]>) {
    let started = crate::stopwatch();
    let (all, of) = (Arc::clone(replicas), Arc::clone(worlds));
    spread(APPS, ROTATIONS, move |app, n| {
        let ([changes, races, after], world) = (roles(&all, n), of[app].clone());
        async move {
            let racing = ask(&world.key, &world.grant, "racing");
            let racing = tokio::spawn(async move { races.token(&racing).await });
            let value = format!("value-{}", n + APPS);
            let path = format!("apps/{}/managed-secrets/{}/rotate", world.app, world.secret);
            changes.api("POST", &path, json!({ "value": value })).await.ok();
            let later = after.token(&ask(&world.key, &world.grant, "later")).await;
            assert!(later.status == 503 || later.token() == value, "{later:?} is not {value}");
            let raced = racing.await.unwrap();
            // Of one app, one rotation follows another.
            let old = if n < APPS { "value-0".to_owned() } else { format!("value-{n}") };
            assert!(raced.status == 503 || [value.as_str(), &old].contains(&raced.token()), "{raced:?}");
        }
    })
    .await;
    println!("{ROTATIONS} rotations in {:.1?}", started.elapsed());
}

async fn nonces(replicas: &Arc<[Replica]>, worlds: &Arc<[World]>) {
    let started = crate::stopwatch();
    let released = Arc::new(AtomicUsize::new(0));
    let (all, of, counted) = (Arc::clone(replicas), Arc::clone(worlds), Arc::clone(&released));
    spread(APPS, NONCES, move |app, n| {
        let ([one, two, three], world, released) = (roles(&all, n), of[app].clone(), Arc::clone(&counted));
        async move {
            let signed = ask(&world.key, &world.grant, "once");
            let answers = tokio::join!(one.token(&signed), two.token(&signed), three.token(&signed));
            let answers = [answers.0, answers.1, answers.2];
            let times = answers.iter().filter(|answer| answer.is_released()).count();
            assert!(times <= 1, "one nonce was taken {times} times");
            for answer in answers.iter().filter(|answer| !answer.is_released()) {
                assert!(answer.status == 503 || answer.body["error"] == "nonce_replayed", "{answer:?}");
            }
            released.fetch_add(times, Ordering::Relaxed);
        }
    })
    .await;
    let released = released.load(Ordering::Relaxed);
    println!("{NONCES} nonces sent to three replicas at once in {:.1?}: {released} taken once", started.elapsed());
    assert!(released > NONCES / 2, "too little was decided");
}
