//! Flows: what `grantd_domain` decides is performed here, step by step.

pub mod account;
pub mod apps;
pub mod assertion;
pub mod callback;
pub mod connect;
pub mod directory;
pub mod export;
pub mod grants;
pub mod identity;
pub mod key_entry;
pub mod passkey;
pub mod portal;
pub mod probe;
pub mod refresh;
pub mod release;
pub mod retention;
pub mod secrets;
pub mod session;
pub mod sign_in;
pub mod sso;
pub mod totp;
pub mod users;
pub mod webhook;

use std::time::Duration;

use grantd_domain::audit::{Event, Kind};
use grantd_domain::env::Env;
use grantd_store::{Append, Appended};
use grantd_wire::{Code, Error, limits};
use tracing::Instrument as _;

use crate::answer::of_store;
use crate::trace;
use crate::vault::Vault;

/// Events begun outside a write, so that a write that runs again tells of the same happenings under the same ids.
#[derive(Clone)]
pub struct Drafts(Vec<(Kind, Event)>);

impl Drafts {
    /// `event`, begun once for each of these kinds.
    pub fn new(env: &dyn Env, event: &Event, kinds: &[Kind]) -> Self {
        Self(kinds.iter().map(|kind| (*kind, event.clone().as_kind(env, *kind))).collect())
    }

    /// The event of this kind.
    pub fn of(&self, kind: Kind) -> Event {
        let found = self.0.iter().find(|(k, _)| *k == kind);
        found.map(|(_, event)| event.clone()).expect("every kind a flow writes was begun")
    }
}

/// The build that `cargo xtask bench` compares with. It releases credentials that nobody will ever read of, so nothing but that
/// command may make it.
#[cfg(feature = "bench-unaudited")]
mod unaudited {
    const _: () = assert!(
        option_env!("GRANTD_BENCH_BUILD").is_some(),
        "the feature bench-unaudited makes a build without an audit trail: only `cargo xtask bench` may build it"
    );

    /// Whether the event is left out, and says so once a process.
    pub fn leaves_out(_: &super::Append) -> bool {
        static SAID: std::sync::Once = std::sync::Once::new();
        SAID.call_once(|| tracing::warn!("This is a bench build: it writes no audit event. Never keep a secret in it"));
        true
    }
}

/// Appends within the bound a caller waits.
pub async fn append(vault: &Vault, append: Append) -> Result<Appended, Error> {
    #[cfg(feature = "bench-unaudited")]
    if unaudited::leaves_out(&append) {
        return Ok(Appended::Done);
    }
    let wait = Duration::from_millis(limits::APPEND_WAIT_MS);
    let writing = vault.store.append(append).instrument(trace::part!("audit.append"));
    match tokio::time::timeout(wait, writing).await {
        Ok(Ok(appended)) => Ok(appended),
        Ok(Err(e)) => Err(match of_store(e) {
            e if e.code == Code::StorageUnavailable || e.code == Code::Internal => e,
            e => unwritten(e.code.as_str()),
        }),
        Err(_) => Err(unwritten("it took too long")),
    }
}

fn unwritten(why: &str) -> Error {
    tracing::error!(why, "An audit event was not written, so its call is not answered");
    Code::AuditUnavailable.into()
}
