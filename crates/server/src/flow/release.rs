//! Retrieve: decide on one snapshot, make the event durable while confirming that the snapshot still holds, answer.
//!
//! Invariant: no credential leaves before its event is durable, and none on a snapshot that has moved.

use std::time::Duration;

use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::destination::{Blocked, Target};
use grantd_domain::resolve::{Ask, Decision, Facts, Held, TenantVerdict, decide};
use grantd_domain::secret::Secret;
use grantd_store::{Append, Appended, Confirm, crash};
use grantd_wire::ids::{EventId, GrantId};
use grantd_wire::{Code, Error, limits};

use crate::answer::of_store;
use crate::caller::Call;
use crate::flow;
use crate::vault::Vault;

/// A release that is asked for.
pub struct Wanted {
    pub grant_id: GrantId,
    pub method: String,
    pub target: Result<Target, Blocked>,
    pub reason: Option<String>,
}

/// A credential that may leave: its event is durable.
pub struct Released {
    pub held: Held,
    /// The stored value and fields, as JSON.
    pub value: Secret,
    pub event_id: EventId,
}

/// Releases the credential of a grant, or says why not. A refusal is an event too.
pub async fn run(vault: &Vault, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    let deadline = Duration::from_millis(limits::TOKEN_DEADLINE_MS);
    match tokio::time::timeout(deadline, release(vault, call, wanted)).await {
        Ok(released) => released,
        Err(_) => Err(Code::Busy.into()),
    }
}

async fn release(vault: &Vault, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    vault.check_clock()?;
    for _ in 0..limits::DECISIONS_MAX {
        let snapshot = vault.store.find_held(call.app.id, wanted.grant_id).await.map_err(of_store)?;
        let (epochs, held) = snapshot.ok_or(Code::KeyNotActive)?;
        if epochs != call.epochs {
            reload(vault, call).await?;
            continue;
        }
        let ask = Ask { target: wanted.target.as_ref().map_err(|e| *e), context: &call.context };
        let facts = Facts { app: &call.app, held: held.as_ref() };
        let (tenant, value) = match decide(&ask, &facts, &vault.settings.outbound, vault.env.now()) {
            Decision::Deny(error) => return Err(deny(vault, call, wanted, held.as_ref(), error).await),
            Decision::Release { held, tenant } => (tenant, vault.keys.open(&held.credential).await?),
        };
        let held = held.ok_or(Code::Internal)?;
        crash::step("token.decided");
        match append(vault, call, wanted, &held, tenant).await? {
            (Appended::Done, event_id) => {
                crash::step("token.durable");
                vault.touch(call.key.id, Some((call.app.id, held.grant.id)), call.source.now);
                return Ok(Released { held, value, event_id });
            }
            (Appended::Moved, _) => {}
            (Appended::Replayed, _) => return Err(Code::NonceReplayed.into()),
        }
    }
    Err(Code::Busy.into())
}

/// Something of the app changed since the key was read: read it again, and whether it may still call.
async fn reload(vault: &Vault, call: &mut Call) -> Result<(), Error> {
    let known = vault.store.find_key(call.key_hash).await.map_err(of_store)?.ok_or(Code::InvalidKey)?;
    known.key.alive(known.app.state, vault.env.now())?;
    if known.key.scopes != call.key.scopes || known.key.cidrs != call.key.cidrs {
        return Err(Code::Busy.into());
    }
    call.key = known.key;
    call.app = known.app;
    call.epochs = known.epochs;
    Ok(())
}

async fn append(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    held: &Held,
    tenant: TenantVerdict,
) -> Result<(Appended, EventId), Error> {
    let mut event = describe(call.event(vault, Kind::TokenReleased, Outcome::Allowed), wanted, Some(held))
        .generation(held.credential.generation);
    match tenant {
        TenantVerdict::NotApplied => {}
        TenantVerdict::Match => event = event.core("tenant", "match"),
        TenantVerdict::WouldDeny => event = event.core("tenant", "would_deny"),
    }
    let event_id = event.id();
    let confirm = Confirm {
        organization_id: call.app.organization_id,
        app_id: call.app.id,
        epochs: call.epochs,
        credential_id: held.credential.id,
        credential_version: held.credential.version,
    };
    let append = Append { event: event.prepare(), confirm: Some(confirm), nonce: Some(call.nonce) };
    Ok((flow::append(vault, append).await?, event_id))
}

/// The event of a refusal; what cannot be recorded is not answered as refused but as unavailable.
async fn deny(vault: &Vault, call: &Call, wanted: &Wanted, held: Option<&Held>, error: Error) -> Error {
    let event = call.event(vault, Kind::TokenDenied, Outcome::Denied).code(error.code);
    let event = describe(event, wanted, held);
    record(vault, event, error).await
}

/// Writes the event of a refusal, and gives the refusal back.
pub async fn record(vault: &Vault, event: grantd_domain::audit::Event, error: Error) -> Error {
    match flow::append(vault, Append { event: event.prepare(), confirm: None, nonce: None }).await {
        Ok(_) => error,
        Err(unavailable) => unavailable,
    }
}

fn describe(event: grantd_domain::audit::Event, wanted: &Wanted, held: Option<&Held>) -> grantd_domain::audit::Event {
    let mut event = event.grant(wanted.grant_id).core("mode", "retrieve").private("reason", wanted.reason.clone());
    event = match &wanted.target {
        Ok(target) => {
            let names: Vec<String> = target.query_names().map(std::borrow::Cow::into_owned).collect();
            event.target(&wanted.method, &target.host(), target.path(), &names)
        }
        Err(_) => event.core("method", wanted.method.clone()),
    };
    if let Some(held) = held {
        event = event
            .provider(&held.secret.slug)
            .credential(held.credential.id, held.credential.version)
            .core("principal_type", "system");
        if held.secret.any_host {
            event = event.core("any_host", true);
        }
    }
    event
}
