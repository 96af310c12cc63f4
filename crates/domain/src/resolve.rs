//! May this call have this credential? One function, no side effects.
//!
//! Default deny: each step refuses with its own code, in this order, so that a caller learns of a grant only what its app
//! may know. The order is part of the contract: a foreign grant is missing before anything else is looked at.

use std::sync::Arc;

use grantd_wire::api::{Retrieve, TenantMode};
use grantd_wire::{Code, Error};

use crate::context::Context;
use crate::destination::{self, OutboundAllow, Target};
use crate::grant::{App, Credential, CredentialState, Grant, GrantStatus, ManagedSecret, Tenant};
use grantd_wire::TimeMs;

/// What is asked for.
pub struct Ask<'a> {
    /// The URL, parsed once; or why it cannot be a destination.
    pub target: Result<&'a Target, destination::Blocked>,
    pub context: &'a Context,
}

/// What is known, read in one snapshot.
pub struct Facts<'a> {
    pub app: &'a App,
    /// `None`: there is no such grant in this app.
    pub held: Option<&'a Held>,
}

/// A grant with what stands behind it.
#[derive(Clone, Debug)]
pub struct Held {
    pub grant: Grant,
    pub credential: Credential,
    /// Many grants share one.
    pub secret: Arc<ManagedSecret>,
}

/// What the tenant guard said of an allowed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantVerdict {
    /// The guard is off, or the grant is exempt.
    NotApplied,
    Match,
    /// The mode is `observe`: released, but it would be refused under `enforce`.
    WouldDeny,
}

/// The decision of a retrieve.
#[derive(Debug)]
pub enum Decision<'a> {
    Release { held: &'a Held, tenant: TenantVerdict },
    Deny(Error),
}

/// Decides a retrieve.
pub fn decide<'a>(ask: &Ask<'_>, facts: &Facts<'a>, outbound: &OutboundAllow, now: TimeMs) -> Decision<'a> {
    match allowed(ask, facts, outbound, now) {
        Ok((held, tenant)) => Decision::Release { held, tenant },
        Err(error) => Decision::Deny(error),
    }
}

fn allowed<'a>(
    ask: &Ask<'_>,
    facts: &Facts<'a>,
    outbound: &OutboundAllow,
    now: TimeMs,
) -> Result<(&'a Held, TenantVerdict), Error> {
    let held = facts.held.ok_or(Code::GrantNotFound)?;
    let grant_id = held.grant.id.to_string();
    let refuse =
        |code: Code| Error::new(code).with("grant_id", grant_id.clone()).with("provider_id", held.secret.slug.clone());
    match held.grant.status {
        GrantStatus::Revoked { .. } => return Err(refuse(Code::GrantRevoked)),
        GrantStatus::Active if held.grant.lapsed(now) => return Err(refuse(Code::GrantExpired)),
        GrantStatus::Active => {}
    }
    match held.credential.state {
        CredentialState::Destroyed => return Err(refuse(Code::GrantDeleted)),
        CredentialState::Broken => {
            let what =
                "The stored value behind this grant was lost. Store it again with `grantd managed-secrets rotate`.";
            return Err(refuse(Code::CredentialRevoked).message(what));
        }
        CredentialState::Ok { .. } => {}
    }
    match facts.app.retrieve {
        Retrieve::Off => return Err(refuse(Code::RestrictedGrantRequiresProxy)),
        Retrieve::On => {}
    }
    let tenant = tenant(facts.app, &held.grant, ask.context)?;
    let target = ask.target.as_ref().map_err(|blocked| Error::from(*blocked))?;
    destination::allow(target, &held.secret.hosts, held.secret.any_host, outbound).map_err(Error::from)?;
    Ok((held, tenant))
}

/// The tenant guard: byte-exact, and only ever a refusal.
fn tenant(app: &App, grant: &Grant, context: &Context) -> Result<TenantVerdict, Error> {
    let (Some(key), Tenant::Bound(bound)) = (&app.tenant_key, &grant.tenant) else {
        return Ok(TenantVerdict::NotApplied);
    };
    match (app.tenant_mode, context.get(key) == Some(bound)) {
        (TenantMode::Off, _) => Ok(TenantVerdict::NotApplied),
        (_, true) => Ok(TenantVerdict::Match),
        (TenantMode::Observe, false) => Ok(TenantVerdict::WouldDeny),
        (TenantMode::Enforce, false) => Err(Error::new(Code::TenantMismatch).detail("tenant_key", key.clone())),
    }
}
