//! Another root key: everything the old one wraps is wrapped under the new one, while others serve.
//!
//! Invariants: a data key's material never changes, so nothing that was sealed need be touched; each row is either as it was or
//! wrapped under the new key; a run that was cut off is run again, and does the rest.

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::Env;
use grantd_domain::seal::{RootKeyMissing, RootKeys, UnwrapError, root_key_id};
use grantd_store::{Store, append_event, data_keys, facts, installs, processes};
use grantd_wire::ids::DataKeyId;
use grantd_wire::limits::PROCESS_SILENT_MS;
use serde_json::json;

use crate::install::InstallError;

/// Data keys of one write.
pub const BATCH_KEYS: i64 = 100;
/// Passes over what is left: servers make new data keys under their old key meanwhile.
const PASSES_MAX: u32 = 3;

/// What was done, and what is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    pub rewrapped: u64,
    /// Data keys under other root keys, which servers that still wrap under them have made meanwhile.
    pub remaining: i64,
}

/// Why it stopped. What was done is done.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Store(#[from] grantd_store::Error),
    #[error(
        "process {id}, seen {seconds} s ago, does not have the new root key: give it to every process as root_key_also and restart \
         them. One that was killed is forgotten after {} s", PROCESS_SILENT_MS / 1000
    )]
    ProcessWithout { id: String, seconds: i64 },
    #[error("a data key is wrapped under root key {0}, which was not given: name it in root_key_also")]
    Missing(String),
    #[error(
        "data key {id} does not open: the row was changed. `grantd doctor` says what stands on it; restore it from a backup"
    )]
    Damaged { id: String },
}

/// Wraps everything under the root key `to`, batch by batch.
pub async fn run(
    store: &Store,
    root: &RootKeys,
    to: &str,
    env: &dyn Env,
    progress: &mut (dyn FnMut(u64, i64) + Send),
) -> Result<Rewrapped, RewrapError> {
    let (install, organization) = store.read(|tx| Ok((installs::find(tx)?, installs::organization(tx)?))).await?;
    let (install, organization) = install.zip(organization).ok_or(InstallError::Missing)?;
    if !root.opens_check(&install.root_check) {
        return Err(InstallError::WrongRootKey.into());
    }
    require_everybody(store, to, env).await?;
    let before = store.read(facts::root_key_ids).await?;
    let (mut rewrapped, mut remaining) = (0, 0);
    for _ in 0..PASSES_MAX {
        let mut after = None;
        while let Some((last, changed)) = batch(store, root, to, env, after, BATCH_KEYS).await? {
            after = Some(last);
            rewrapped += changed;
            let key = to.to_owned();
            progress(rewrapped, store.read(move |tx| data_keys::count_wrapped_otherwise(tx, &key)).await?);
        }
        let key = to.to_owned();
        remaining = store.read(move |tx| data_keys::count_wrapped_otherwise(tx, &key)).await?;
        if remaining == 0 {
            break;
        }
    }
    let checked = replace_check(store, root, to, env, &install.root_check).await?;
    if rewrapped > 0 || checked {
        let owner = Owner::Organization(organization);
        let event = Event::new(env, env.now(), owner, Kind::RootKeyRotated, Outcome::Allowed, Actor::Job)
            .core("rewrapped", rewrapped)
            .changed("root_key_ids", json!(before), json!([to]))
            .prepare();
        store.write(move |tx| append_event(tx, &event)).await?;
    }
    Ok(Rewrapped { rewrapped, remaining })
}

/// Every process that serves must be able to open what is about to be wrapped.
async fn require_everybody(store: &Store, to: &str, env: &dyn Env) -> Result<(), RewrapError> {
    let now = env.now();
    let living = store.read(move |tx| processes::list(tx, now.plus_ms(-PROCESS_SILENT_MS))).await?;
    match living.into_iter().find(|process| !process.root_key_ids.iter().any(|id| id == to)) {
        None => Ok(()),
        Some(process) => {
            Err(RewrapError::ProcessWithout { seconds: now.since(process.seen_at) / 1000, id: process.id })
        }
    }
}

/// Wraps the next keys after `after`; the last of them, and how many it changed. `None`: there are no more.
pub async fn batch(
    store: &Store,
    root: &RootKeys,
    to: &str,
    env: &dyn Env,
    after: Option<DataKeyId>,
    keys_max: i64,
) -> Result<Option<(DataKeyId, u64)>, RewrapError> {
    let key = to.to_owned();
    let found = store.read(move |tx| data_keys::list_wrapped_otherwise(tx, &key, after, keys_max)).await?;
    let Some(last) = found.last().map(|key| key.id) else { return Ok(None) };
    let mut pairs = Vec::with_capacity(found.len());
    for old in found {
        let new = root.rewrap(env, &old, to).map_err(|e| match e {
            UnwrapError::Missing(RootKeyMissing(id)) => RewrapError::Missing(id),
            UnwrapError::Seal(_) => RewrapError::Damaged { id: old.id.to_string() },
        })?;
        // What was wrapped opens again, or it is not stored.
        root.unwrap(&new).map_err(|_| RewrapError::Damaged { id: old.id.to_string() })?;
        pairs.push((new, old.root_key_id));
    }
    let changed = store
        .write(move |tx| {
            let mut changed = 0;
            for (new, old) in &pairs {
                changed += u64::from(data_keys::rewrap(tx, new, old)?);
            }
            Ok(changed)
        })
        .await?;
    Ok(Some((last, changed)))
}

/// Makes the check value one of the new key; `false` when it is that already.
async fn replace_check(
    store: &Store,
    root: &RootKeys,
    to: &str,
    env: &dyn Env,
    old: &[u8],
) -> Result<bool, RewrapError> {
    if root_key_id(old).is_ok_and(|id| id == to) {
        return Ok(false);
    }
    let new = root.make_check_under(env, to).map_err(|RootKeyMissing(id)| RewrapError::Missing(id))?;
    let old = old.to_vec();
    Ok(store.write(move |tx| installs::replace_check(tx, &old, &new)).await?)
}
