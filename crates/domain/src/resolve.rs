//! May this call have this credential? One function, no side effects.
//!
//! Default deny: each step refuses with its own code, in this order, so that a caller learns of a grant only what its app
//! may know. The order is part of the contract: a foreign grant is missing before anything else is looked at.

use grantd_wire::api::{Retrieve, TenantMode};
use grantd_wire::{Code, Error};

use crate::context::Context;
use crate::destination::{self, OutboundAllow, Target};
use crate::grant::{App, Behind, Broken, Credential, CredentialState, Grant, GrantStatus, Principal, Tenant};
use crate::refresh::{self, Need};
use grantd_wire::TimeMs;
use grantd_wire::ids::{GroupId, UserId};

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
    /// Whom the call speaks for, if it says so with a token that was proved.
    pub user: Option<&'a Speaker>,
}

/// A user who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speaker {
    pub id: UserId,
    /// Whose member the user is.
    pub groups: Vec<GroupId>,
}

/// A grant with what stands behind it.
#[derive(Clone, Debug)]
pub struct Held {
    pub grant: Grant,
    pub credential: Credential,
    pub behind: Behind,
    /// How the user stands whose grant it is, if it is one's.
    pub owner: Option<Owner>,
}

/// How the owner of a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Active,
    Suspended,
    Deprovisioned,
}

/// What the tenant guard said of an allowed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantVerdict {
    /// The guard is off, or the grant is exempt.
    NotApplied,
    Match,
    /// The grant has no tenant yet: this call's becomes its own before anything is released.
    Binds,
    /// The mode is `observe`: released, but it would be refused under `enforce`.
    WouldDeny,
}

/// The decision of a retrieve.
#[derive(Debug)]
pub enum Decision<'a> {
    Release { held: &'a Held, tenant: TenantVerdict, need: Need },
    Deny(Error),
}

/// Decides a retrieve.
pub fn decide<'a>(ask: &Ask<'_>, facts: &Facts<'a>, outbound: &OutboundAllow, now: TimeMs) -> Decision<'a> {
    match allowed(ask, facts, outbound, now) {
        Ok((held, tenant, need)) => Decision::Release { held, tenant, need },
        Err(error) => Decision::Deny(error),
    }
}

fn allowed<'a>(
    ask: &Ask<'_>,
    facts: &Facts<'a>,
    outbound: &OutboundAllow,
    now: TimeMs,
) -> Result<(&'a Held, TenantVerdict, Need), Error> {
    let held = facts.held.ok_or(Code::GrantNotFound)?;
    let grant_id = held.grant.id.to_string();
    let refuse = |code: Code| {
        Error::new(code).with("grant_id", grant_id.clone()).with("provider_id", held.behind.provider_id().to_owned())
    };
    check_owner(held.grant.principal, facts.user)?;
    match held.owner {
        Some(Owner::Deprovisioned) => return Err(refuse(Code::GrantDeleted).message(
            "The user whose grant this is was deprovisioned. A user who is back connects anew.",
        )),
        Some(Owner::Suspended) => return Err(refuse(Code::PolicyDenied).message(
            "The user whose grant this is is suspended. An operator lets the user in again with POST /api/v1/apps/{app}/users/{id}/resume.",
        )),
        Some(Owner::Active) | None => {}
    }
    match held.grant.status {
        GrantStatus::Revoked { .. } => return Err(refuse(Code::GrantRevoked)),
        GrantStatus::Active if held.grant.lapsed(now) => return Err(refuse(Code::GrantExpired)),
        GrantStatus::Active => {}
    }
    match held.credential.state {
        CredentialState::Destroyed => return Err(refuse(Code::GrantDeleted)),
        CredentialState::Broken(why) => return Err(refuse(Code::CredentialRevoked).message(broken(why))),
        CredentialState::Ok { .. } => {}
    }
    match facts.app.retrieve {
        Retrieve::Off => return Err(refuse(Code::RestrictedGrantRequiresProxy)),
        Retrieve::On => {}
    }
    let tenant = tenant(facts.app, &held.grant, ask.context)?;
    let target = ask.target.as_ref().map_err(|blocked| Error::from(*blocked))?;
    let need = match (&held.behind, held.credential.account()) {
        (Behind::Provider(provider), Some(account)) => {
            destination::allow(target, &provider.rules(account), false, outbound).map_err(Error::from)?;
            refresh::on_read(account, &provider.facts, held.credential.updated_at, now)
        }
        (Behind::Secret(secret), _) => {
            destination::allow(target, &secret.hosts, secret.any_host, outbound).map_err(Error::from)?;
            Need::Nothing
        }
        (Behind::Provider(_), None) => return Err(Code::Internal.into()),
    };
    match need {
        Need::Reconnect => Err(refuse(Code::CredentialRevoked).message(
            "The access token has ended, and the provider issued nothing to renew it with. Let the user connect again.",
        )),
        need => Ok((held, tenant, need)),
    }
}

/// Steps of a decision about a credential call, in their order, and the codes that each refuses with. A code that more than one
/// refuses with stands at the first of them: those before it were passed, whichever it was.
pub const STEPS: &[(&str, &[Code])] = &[
    ("key", &[Code::InsufficientScope]),
    (
        "grant",
        &[
            Code::GrantNotFound,
            Code::AmbiguousGrant,
            Code::JwtValidationError,
            Code::IdentityProviderInactive,
            Code::ServiceUnavailable,
            Code::SystemGrantUserTokenMismatch,
            Code::PolicyDenied,
            Code::GrantDeleted,
        ],
    ),
    ("lifetime", &[Code::GrantRevoked, Code::GrantExpired]),
    ("credential", &[Code::CredentialRevoked, Code::CredentialDestroyed]),
    ("mode", &[Code::RestrictedGrantRequiresProxy]),
    ("tenant", &[Code::TenantMismatch]),
    ("destination", &[Code::BlockedDestination]),
    (
        "fresh",
        &[Code::TokenEndpointFailed, Code::ProviderBreakerOpen, Code::TokenRefreshInProgress, Code::KeyUnavailable],
    ),
];

/// The place in [`STEPS`] of the step that refuses with this code; `None`: it is of none.
pub fn step_of(code: Code) -> Option<usize> {
    STEPS.iter().position(|(_, codes)| codes.contains(&code))
}

/// A call that speaks for a user reaches what is the user's. One that speaks for nobody is the app's, which answers for its users.
fn check_owner(principal: Principal, user: Option<&Speaker>) -> Result<(), Error> {
    let Some(user) = user else { return Ok(()) };
    match principal {
        Principal::System => Err(Code::SystemGrantUserTokenMismatch.into()),
        Principal::User(owner) if owner == user.id => Ok(()),
        Principal::Group(group) if user.groups.contains(&group) => Ok(()),
        Principal::User(_) | Principal::Group(_) => Err(Code::GrantNotFound.into()),
    }
}

/// What is wrong, and what to do about it.
const fn broken(why: Broken) -> &'static str {
    match why {
        Broken::Lost => {
            "The stored value behind this grant was lost. Store it again with `grantd managed-secrets rotate`."
        }
        Broken::Reconnect => {
            "The provider no longer accepts this account's consent. Let the user connect again: the grant stays the same."
        }
        Broken::RotationUnknown => {
            "The refresh token was used, and the answer never seen. Let the user connect again: the grant stays the same."
        }
    }
}

/// The tenant guard: byte-exact, and only ever a refusal.
fn tenant(app: &App, grant: &Grant, context: &Context) -> Result<TenantVerdict, Error> {
    let (Some(key), false) = (&app.tenant_key, app.tenant_mode == TenantMode::Off) else {
        return Ok(TenantVerdict::NotApplied);
    };
    let given = context.get(key);
    let is_its_own = match &grant.tenant {
        Tenant::Exempt => return Ok(TenantVerdict::NotApplied),
        Tenant::Unbound if given.is_some() => return Ok(TenantVerdict::Binds),
        Tenant::Unbound => false,
        Tenant::Bound(bound) => given == Some(bound),
    };
    match (app.tenant_mode, is_its_own) {
        (TenantMode::Off, _) => Ok(TenantVerdict::NotApplied),
        (_, true) => Ok(TenantVerdict::Match),
        (TenantMode::Observe, false) => Ok(TenantVerdict::WouldDeny),
        (TenantMode::Enforce, false) => Err(Error::new(Code::TenantMismatch).detail("tenant_key", key.clone())),
    }
}
