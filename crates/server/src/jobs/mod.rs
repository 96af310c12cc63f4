//! Work beside requests: the index of events, checkpoints, retention, the clock floor, old nonces and answers, times of last use.

pub mod oauth;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::new_uuid;
use grantd_domain::hourly::What;
use grantd_store::processes::{self, Process};
use grantd_store::{
    Error as StoreError, Tx, append_event, audit, auth_sessions, crash, credentials, grants, hourly, idempotency,
    passkeys, retention, sign_in_methods, sso, totps, web_sessions,
};
use grantd_wire::ids::{AppId, OrganizationId};
use grantd_wire::limits;
use tokio_util::sync::CancellationToken;

use crate::flow::assertion;
use crate::flow::export::checkpoint;
use crate::flow::retention::cut;
use crate::vault::Vault;

const NONCE_PRUNE_EVERY: Duration = Duration::from_secs(10);
/// How far the index of events may be behind what was appended, when nobody asks.
const INDEX_EVERY: Duration = Duration::from_secs(1);
/// How often chains of processes that ended are looked at.
const INDEX_ALL_EVERY: Duration = Duration::from_mins(1);
const ANSWERS_PRUNE_EVERY: Duration = Duration::from_mins(1);
const USED_FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How far what is known of the time that calls take may be behind.
const TOOK_FLUSH_EVERY: Duration = Duration::from_secs(10);
const PROCESS_REPORT_EVERY: Duration = Duration::from_secs(limits::PROCESS_REPORT_S);
/// Processes that ended without a word are forgotten after a day.
const PROCESS_KEPT_MS: i64 = 86_400_000;
/// How often it is looked which tokens are to be renewed before they end.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// How often it is looked which tokens are to be ended at their provider.
const END_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether a key that signs assertions is to be made or withdrawn.
const IDENTITY_KEYS_EVERY: Duration = Duration::from_mins(1);
/// How often tokens of sign-ins are erased that nobody may fetch any more.
const SIGN_INS_PRUNE_EVERY: Duration = Duration::from_secs(10);
/// How long after its time a sign-in is told of.
const SIGN_IN_KEPT_MS: i64 = 3_600_000;
/// Sign-ins that are forgotten in one write.
const SIGN_INS_MAX: i64 = 500;
/// How often sessions of the portal are forgotten that are over.
const WEB_SESSIONS_PRUNE_EVERY: Duration = Duration::from_mins(5);
/// Sessions of the portal that are forgotten in one write.
const WEB_SESSIONS_MAX: i64 = 500;
const SESSIONS_PRUNE_EVERY: Duration = Duration::from_mins(5);
const CLOCK_TICK: Duration = Duration::from_mins(1);
/// How often it is looked whether a day of a trail has come of age, and whether what was cut off can be deleted.
const RETENTION_EVERY: Duration = Duration::from_mins(10);
/// How often the number of new events is looked at.
const CHECKPOINT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs every job until `stop`, then signs a last checkpoint and writes what is left.
pub async fn run(vault: Arc<Vault>, stop: CancellationToken) {
    let process = new_uuid(&*vault.env).to_string();
    tokio::join!(
        every(NONCE_PRUNE_EVERY, &stop, || prune_nonces(&vault)),
        every(ANSWERS_PRUNE_EVERY, &stop, || prune_answers(&vault)),
        every(INDEX_EVERY, &stop, || index(&vault)),
        every(INDEX_ALL_EVERY, &stop, || async { vault.store.index_all().await.map(drop) }),
        every(USED_FLUSH_EVERY, &stop, || flush_used(&vault)),
        every(TOOK_FLUSH_EVERY, &stop, || flush_took(&vault)),
        every(CLOCK_TICK, &stop, || tick_clock(&vault)),
        every(RENEW_EVERY, &stop, || oauth::renew_due(&vault)),
        every(END_EVERY, &stop, || oauth::end_revoked(&vault)),
        every(SESSIONS_PRUNE_EVERY, &stop, || oauth::prune_sessions(&vault)),
        every(IDENTITY_KEYS_EVERY, &stop, || async {
            // A refusal is one of the store's, or of the key ring, which told why.
            assertion::keep_up(&vault).await.map_err(StoreError::from)
        }),
        every(SIGN_INS_PRUNE_EVERY, &stop, || prune_sign_ins(&vault)),
        every(WEB_SESSIONS_PRUNE_EVERY, &stop, || prune_web_sessions(&vault)),
        every(PROCESS_REPORT_EVERY, &stop, || report_process(&vault, &process)),
        every(RETENTION_EVERY, &stop, || async {
            // One process is enough; two do no harm.
            if !is_first(&vault, &process).await? {
                return Ok(());
            }
            prune_trails(&vault, &stop).await?;
            prune_ended(&vault, &stop).await
        }),
        checkpoints(&vault, &stop),
    );
    can_fail("flush of last use", flush_used(&vault).await);
    can_fail("flush of how long calls took", flush_took(&vault).await);
    can_fail("last checkpoint", checkpoint_all(&vault).await);
    let long_ago = vault.env.now().plus_ms(-PROCESS_KEPT_MS);
    can_fail("sign-off", vault.store.write(move |tx| processes::leave(tx, &process, long_ago)).await);
}

/// Tells the other processes which root keys this one holds.
pub async fn report_process(vault: &Vault, id: &str) -> Result<(), StoreError> {
    let process = Process {
        id: id.to_owned(),
        root_key_ids: vault.keys.root().ids(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seen_at: vault.env.now(),
    };
    vault.store.write(move |tx| processes::report(tx, &process)).await
}

async fn every<F: Future<Output = Result<(), StoreError>>>(
    period: Duration,
    stop: &CancellationToken,
    job: impl Fn() -> F,
) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => can_fail("job", Box::pin(job()).await),
        }
    }
}

/// Jobs run again; a failure is told, not fatal.
fn can_fail(what: &str, result: Result<(), StoreError>) {
    if let Err(e) = result {
        tracing::warn!(error = %e, "A {what} failed and will be tried again");
    }
}

async fn prune_nonces(vault: &Vault) -> Result<(), StoreError> {
    let pruned = vault.store.prune_nonces(vault.env.now().plus_ms(-limits::NONCE_KEPT_MS)).await;
    crash::step("job.nonces_pruned");
    pruned.map(drop)
}

/// Deletes answers that nobody can ask for any more.
pub async fn prune_answers(vault: &Vault) -> Result<(), StoreError> {
    let now = vault.env.now();
    while vault.store.write(move |tx| idempotency::prune(tx, now, ANSWERS_MAX)).await? > 0 {}
    Ok(())
}

/// Erases tokens of sign-ins whose time is over, and forgets sign-ins that were over an hour ago.
pub async fn prune_sign_ins(vault: &Vault) -> Result<(), StoreError> {
    let now = vault.env.now();
    let before = now.plus_ms(-SIGN_IN_KEPT_MS);
    while vault.store.write(move |tx| auth_sessions::prune(tx, before, now, SIGN_INS_MAX)).await? > 0 {}
    Ok(())
}

/// Forgets who was signed in to the portal and is no more, links that are too old, trips to the issuer of single
/// sign-on that nobody came back from, and attempts that nobody counts any more.
pub async fn prune_web_sessions(vault: &Vault) -> Result<(), StoreError> {
    let now = vault.env.now();
    let idle_before = now.plus_seconds(-limits::WEB_SESSION_IDLE_S);
    while vault.store.write(move |tx| web_sessions::prune(tx, now, idle_before, WEB_SESSIONS_MAX)).await? > 0 {}
    let before = now.plus_seconds(-limits::SIGN_IN_MEMORY_S);
    vault.store.write(move |tx| sign_in_methods::prune_attempts(tx, before)).await?;
    vault.store.write(move |tx| totps::prune_halves(tx, now)).await?;
    vault.store.write(move |tx| passkeys::prune_answered(tx, now)).await?;
    let begun_before = now.plus_seconds(-limits::SSO_TRIP_S);
    vault.store.write(move |tx| sso::prune_trips(tx, begun_before)).await?;
    Ok(())
}

/// Goes on where it was when nothing new was written.
async fn index(vault: &Vault) -> Result<(), StoreError> {
    let appended = vault.store.appended();
    if vault.indexed.load(Ordering::Relaxed) != appended {
        vault.store.index_own().await?;
        vault.indexed.store(appended, Ordering::Relaxed);
    }
    Ok(())
}

async fn flush_used(vault: &Vault) -> Result<(), StoreError> {
    let used = vault.take_used();
    let grants: Vec<_> = used.grants.into_iter().map(|((app, grant), at)| (app, grant, at)).collect();
    for chunk in grants.chunks(ROWS_MAX) {
        vault.store.touch_grants(chunk.to_vec()).await?;
    }
    let keys: Vec<_> = used.keys.into_iter().collect();
    for chunk in keys.chunks(ROWS_MAX) {
        vault.store.touch_keys(chunk.to_vec()).await?;
        crash::step("stop.uses_written");
    }
    Ok(())
}

/// Stores how long calls took. What could not be stored is lost: stored again it might count twice.
pub async fn flush_took(vault: &Vault) -> Result<(), StoreError> {
    let took = vault.take_took().into_iter();
    let counts: Vec<_> = took.map(|((app, hour, bucket), calls)| (app, hour, What::Took(bucket), calls)).collect();
    vault.store.count(counts).await
}

/// Rows of one write.
const ROWS_MAX: usize = 500;
/// Days that counts are kept: a month, and what is begun of it.
const COUNTS_KEPT_DAYS: i64 = 32;
/// Answers that are deleted in one write.
const ANSWERS_MAX: i64 = 500;
/// Rows of what has ended that are deleted in one write.
const ENDED_MAX: i64 = 200;

/// Stores the highest time seen, and stops credential calls while the host's clock is far behind it.
pub async fn tick_clock(vault: &Vault) -> Result<(), StoreError> {
    let now = vault.env.now();
    let floor = vault.store.raise_clock_floor(now).await?;
    let behind = floor.since(now) > limits::CLOCK_ROLLBACK_MS;
    if vault.clock_rolled_back.swap(behind, Ordering::Relaxed) == behind {
        return Ok(());
    }
    if behind {
        tracing::error!(
            behind_ms = floor.since(now),
            "The clock was set back: credential calls stop until it has caught up"
        );
        let owner = Owner::Organization(vault.organization_id);
        let event = Event::new(&*vault.env, now, owner, Kind::ClockRegressed, Outcome::Error, Actor::Job)
            .core("behind_ms", floor.since(now))
            .prepare();
        vault.store.write(move |tx| append_event(tx, &event)).await?;
    } else {
        tracing::info!("The clock has caught up: credential calls go on");
    }
    Ok(())
}

async fn checkpoints(vault: &Arc<Vault>, stop: &CancellationToken) {
    let (mut signed_at, mut signed_time) = (vault.store.appended(), vault.env.now());
    let mut ticks = tokio::time::interval(CHECKPOINT_LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (appended, now) = (vault.store.appended(), vault.env.now());
        if is_due(appended - signed_at, now.since(signed_time)) {
            can_fail("checkpoint", checkpoint_all(vault).await);
            // As it was before signing: what came meanwhile is new.
            (signed_at, signed_time) = (appended, now);
        }
    }
}

fn is_due(new_events: u64, waited_ms: i64) -> bool {
    let interval_ms = i64::try_from(limits::CHECKPOINT_INTERVAL_S).unwrap_or(i64::MAX).saturating_mul(1000);
    new_events >= limits::CHECKPOINT_EVENTS || (new_events > 0 && waited_ms >= interval_ms)
}

async fn checkpoint_all(vault: &Arc<Vault>) -> Result<(), StoreError> {
    for owner in owners(vault).await? {
        checkpoint(vault, owner).await?;
    }
    Ok(())
}

/// Whoever has a trail.
async fn owners(vault: &Vault) -> Result<Vec<Owner>, StoreError> {
    let texts = vault.store.read(audit::owners).await?;
    let owner = |text: String| {
        let organization = OrganizationId::parse(&text).filter(|id| *id == vault.organization_id);
        match (organization, AppId::parse(&text)) {
            (Some(id), _) => Ok(Owner::Organization(id)),
            (None, Some(id)) => Ok(Owner::App(id)),
            (None, None) => Err(StoreError::Inconsistent { table: "chains", column: "app_id", row: text }),
        }
    };
    texts.into_iter().map(owner).collect()
}

/// Whether no other living process is older than this one.
async fn is_first(vault: &Vault, process: &str) -> Result<bool, StoreError> {
    let since = vault.env.now().plus_ms(-limits::PROCESS_SILENT_MS);
    let living = vault.store.read(move |tx| processes::list(tx, since)).await?;
    Ok(living.iter().all(|other| other.id.as_str() >= process))
}

/// Deletes what was cut off trails an hour ago, and cuts off what has come of age since.
pub async fn prune_trails(vault: &Arc<Vault>, stop: &CancellationToken) -> Result<(), StoreError> {
    if vault.clock_rolled_back.load(Ordering::Relaxed) {
        // What is old enough is not to be said while the time is in doubt.
        return Ok(());
    }
    while !stop.is_cancelled() && vault.store.delete_pruned(vault.env.now()).await? > 0 {}
    for owner in owners(vault).await? {
        while !stop.is_cancelled() && cut(vault, owner).await? {}
        prune_counts(vault, owner).await?;
    }
    Ok(())
}

/// Forgets what was counted of hours that no overview shows, or that the owner's trail does not go back to. What is counted names
/// nobody and is no event, so that a legal hold does not keep it.
async fn prune_counts(vault: &Vault, owner: Owner) -> Result<(), StoreError> {
    let (now, install) = (vault.env.now(), vault.settings.retention);
    let prune = move |tx: &mut Tx<'_>| {
        let kept = retention::effective(tx, &owner, install)?.days().map_or(COUNTS_KEPT_DAYS, i64::from);
        hourly::prune(tx, &owner, now.plus_seconds(-kept.min(COUNTS_KEPT_DAYS) * 86_400))
    };
    vault.store.write(prune).await.map(drop)
}

/// Forgets grants that were revoked long ago, and credentials that nothing names any more. Their events stay.
pub async fn prune_ended(vault: &Vault, stop: &CancellationToken) -> Result<(), StoreError> {
    if vault.clock_rolled_back.load(Ordering::Relaxed) {
        return Ok(());
    }
    let before = vault.env.now().plus_ms(-limits::ENDED_KEPT_MS);
    // Grants first: a credential goes with its last one.
    while !stop.is_cancelled() && vault.store.write(move |tx| grants::prune(tx, before, ENDED_MAX)).await? > 0 {}
    while !stop.is_cancelled() && vault.store.write(move |tx| credentials::prune(tx, before, ENDED_MAX)).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_by_time_or_by_number() {
        assert!(!is_due(0, i64::MAX));
        assert!(!is_due(1, 59_999));
        assert!(is_due(1, 60_000));
        assert!(!is_due(9_999, 0));
        assert!(is_due(10_000, 0));
    }
}
