//! Retrieve: decide on one snapshot, make the event durable while confirming that the snapshot still holds, answer.
//!
//! Invariant: no credential leaves before its event is durable, and none on a snapshot that has moved.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::destination::{Blocked, Target};
use grantd_domain::refresh::Need;
use grantd_domain::resolve::{Ask, Decision, Facts, Held, TenantVerdict, decide};
use grantd_domain::secret::Secret;
use grantd_store::hot::Known;
use grantd_store::{Append, Appended, Confirm, append_event, apps, crash, grants};
use grantd_wire::ids::{EventId, GrantId};
use grantd_wire::{Code, Error, limits};
use tracing::Instrument as _;

use crate::answer::of_store;
use crate::cache::Remembered;
use crate::caller::Call;
use crate::flow;
use crate::flow::refresh::{self, Renewed};
use crate::trace;
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
    pub of: Arc<Remembered>,
    /// The stored value and fields, or the pair of tokens, as JSON.
    pub value: Secret,
    pub event_id: EventId,
}

/// Releases the credential of a grant, or says why not. A refusal is an event too.
pub async fn run(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    let deadline = Duration::from_millis(limits::TOKEN_DEADLINE_MS);
    match tokio::time::timeout(deadline, release(vault, call, wanted)).await {
        Ok(released) => released,
        Err(_) => Err(Code::Busy.into()),
    }
}

async fn release(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    vault.check_clock()?;
    let remembered = vault.cache.grant(call.known.app.id, wanted.grant_id, call.known.epochs);
    // What is refused or does not open may be old: it is looked at again below.
    if let Some(of) = remembered
        && let Ok((tenant, need)) = allowed(vault, call, wanted, Some(&of.held))
        && need != Need::Now
        && tenant != TenantVerdict::Binds
        && let Ok(value) = vault.keys.open(&of.held.credential).await
        && let Some(released) = finish(vault, call, wanted, of, value, tenant).await?
    {
        if need == Need::Soon {
            let credential = &released.of.held.credential;
            refresh::start(vault, (credential.app_id, credential.id), credential.version);
        }
        return Ok(released);
    }
    Box::pin(release_read(vault, call, wanted)).await
}

/// As the database has it now.
async fn release_read(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    for _ in 0..limits::DECISIONS_MAX {
        let reading = vault.store.find_held(call.known.app.id, wanted.grant_id);
        let snapshot = reading.instrument(trace::part!("store.find_grant")).await.map_err(of_store)?;
        let (epochs, held) = snapshot.ok_or(Code::KeyNotActive)?;
        if epochs != call.known.epochs {
            if let Err(dead) = call.renew(vault).await {
                return Err(call.fail(vault, dead).await);
            }
            if let Err(error) = call.check_grant(wanted.grant_id) {
                return Err(deny(vault, call, wanted, None, error).await);
            }
            continue;
        }
        let (tenant, need) = match allowed(vault, call, wanted, held.as_ref()) {
            Ok(allowed) => allowed,
            Err(error) => return Err(deny(vault, call, wanted, held.as_ref(), error).await),
        };
        let held = held.ok_or(Code::Internal)?;
        if tenant == TenantVerdict::Binds {
            bind(vault, call, &held).await?;
            continue;
        }
        let place = (held.credential.app_id, held.credential.id);
        match need {
            Need::Nothing | Need::Reconnect => {}
            Need::Soon => refresh::start(vault, place, held.credential.version),
            Need::Now => match Box::pin(refresh::renew(vault, place, held.credential.version)).await {
                Renewed::Moved => continue,
                Renewed::Not(error) => {
                    let error = error.with("grant_id", wanted.grant_id.to_string());
                    return Err(deny(vault, call, wanted, Some(&held), error).await);
                }
            },
        }
        let value = vault.keys.open(&held.credential).await?;
        let of = vault.cache.remember_grant(epochs, held);
        if let Some(released) = finish(vault, call, wanted, of, value, tenant).await? {
            return Ok(released);
        }
    }
    Err(Code::Busy.into())
}

/// Binds a grant to the tenant of its first use, and tells of it. Whoever loses decides again, on what the winner wrote.
async fn bind(vault: &Vault, call: &Call, held: &Held) -> Result<(), Error> {
    let app = &call.known.app;
    let tenant = app.tenant_key.as_ref().and_then(|key| call.context.get(key)).ok_or(Code::Internal)?.to_owned();
    let event = call
        .event(vault, Kind::GrantUpdated, Outcome::Allowed)
        .grant(held.grant.id)
        .provider(held.behind.provider_id())
        .changed("tenant", "unbound", "bound")
        .prepare();
    let (app, grant) = (app.id, held.grant.id);
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        if grants::bind_tenant(tx, app, grant, &tenant)? {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event)?;
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)
}

fn allowed(vault: &Vault, call: &Call, wanted: &Wanted, held: Option<&Held>) -> Result<(TenantVerdict, Need), Error> {
    let ask = Ask { target: wanted.target.as_ref().map_err(|e| *e), context: &call.context };
    let facts = Facts { app: &call.known.app, held };
    match decide(&ask, &facts, &vault.settings.outbound, vault.env.now()) {
        Decision::Release { tenant, need, .. } => Ok((tenant, need)),
        Decision::Deny(error) => Err(error),
    }
}

/// Makes the event durable; `None` when something of it has changed meanwhile.
async fn finish(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    of: Arc<Remembered>,
    value: Secret,
    tenant: TenantVerdict,
) -> Result<Option<Released>, Error> {
    crash::step("token.decided");
    match append(vault, call, wanted, &of.held, tenant).await? {
        (Appended::Done, event_id) => {
            crash::step("token.durable");
            let app = call.known.app.id;
            vault.touch(call.known.key.id, Some((app, of.held.grant.id)), call.source.now);
            Ok(Some(Released { of, value, event_id }))
        }
        (Appended::Moved, _) => Ok(None),
        (Appended::Replayed, _) => Err(Code::NonceReplayed.into()),
    }
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
        TenantVerdict::NotApplied | TenantVerdict::Binds => {}
        TenantVerdict::Match => event = event.core("tenant", "match"),
        TenantVerdict::WouldDeny => event = event.core("tenant", "would_deny"),
    }
    let event_id = event.id();
    let Known { app, epochs, .. } = &*call.known;
    let confirm = Confirm {
        organization_id: app.organization_id,
        app_id: app.id,
        epochs: *epochs,
        credential_id: held.credential.id,
        credential_version: held.credential.version,
    };
    let append = Append { event: event.prepare(), confirm: Some(confirm), nonce: Some(call.nonce) };
    Ok((flow::append(vault, append).await?, event_id))
}

/// The event of a refusal; what cannot be recorded is not answered as refused but as unavailable.
async fn deny(vault: &Vault, call: &Call, wanted: &Wanted, held: Option<&Held>, error: Error) -> Error {
    // A provider that fails is a refusal to tell of; what fails here may be unable to write.
    if error.code.status() >= 500 && error.code != Code::TokenEndpointFailed {
        return error;
    }
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
    let mut event =
        event.grant(wanted.grant_id).core("mode", "retrieve").private_text("reason", wanted.reason.as_deref());
    event = match &wanted.target {
        Ok(target) => {
            let names: Vec<String> = target.query_names().map(std::borrow::Cow::into_owned).collect();
            event.target(&wanted.method, &target.host(), target.path(), &names)
        }
        Err(_) => event.core("method", wanted.method.clone()),
    };
    if let Some(held) = held {
        event = event
            .provider(held.behind.provider_id())
            .credential(held.credential.id, held.credential.version)
            .core("principal_type", "system");
        if held.behind.any_host() {
            event = event.core("any_host", true);
        }
    }
    event
}
