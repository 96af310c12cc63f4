//! Making and revoking grants: the change, its event and the app's epoch in one write.

use std::sync::Arc;

use grantd_domain::audit::{Event, Kind};
use grantd_domain::grant::{
    Behind, Credential, CredentialState, Grant, GrantStatus, ManagedSecret, Principal, Wanted, no_such_group,
    no_such_user,
};
use grantd_domain::identity::{Group, IdentityProvider, UserStatus};
use grantd_store::grants::Listed;
use grantd_store::{
    Error as StoreError, Result, Tx, append_event, apps, crash, credentials, grants, groups, identity_providers,
    renewals, users,
};
use grantd_wire::ids::{AppId, GrantId, GroupId};
use grantd_wire::{Code, Error, TimeMs};

use crate::answer::of_store;
use crate::flow::Drafts;
use crate::vault::Vault;

/// What a revoke tells of.
pub const REVOKE_KINDS: &[Kind] = &[Kind::GrantRevoked, Kind::CredentialDestroyed];

/// What a revoke did.
#[derive(Clone, Copy, Debug)]
pub struct Revoked {
    pub at: TimeMs,
    /// What becomes of its tokens at the provider: `pending` until they are ended, `unsupported` where there are none to end, `no`
    /// while other grants need them.
    pub upstream: &'static str,
    pub credential_destroyed: bool,
}

/// Revokes a grant, and destroys its credential when no living grant is left on it. A second revoke changes nothing and
/// answers the first one's moment.
pub fn revoke(
    tx: &mut Tx<'_>,
    app: AppId,
    grant: GrantId,
    reason: Option<&str>,
    now: TimeMs,
    drafts: &Drafts,
) -> Result<Revoked> {
    let Listed { grant: held, credential, behind, .. } = grants::find(tx, app, grant)?.ok_or(Code::GrantNotFound)?;
    if let GrantStatus::Revoked { at, .. } = held.status {
        return Ok(Revoked { at, upstream: upstream(tx, &behind, &credential)?, credential_destroyed: false });
    }
    grants::revoke(tx, app, grant, reason, now)?;
    crash::step("grant.revoked");
    let credential_destroyed = credentials::destroy_if_unused(tx, app, credential.id, now)?;
    if credential_destroyed {
        crash::step("grant.credential_destroyed");
    }
    apps::raise_epoch(tx, app)?;
    let revoked = owned(drafts.of(Kind::GrantRevoked), held.principal)
        .grant(grant)
        .provider(behind.provider_id())
        .credential(credential.id, credential.version)
        .private("reason", reason.map(str::to_owned))
        .changed("status", "active", "revoked");
    append_event(tx, &revoked.prepare())?;
    if credential_destroyed {
        let destroyed = drafts
            .of(Kind::CredentialDestroyed)
            .provider(behind.provider_id())
            .credential(credential.id, credential.version + 1);
        append_event(tx, &destroyed.prepare())?;
    }
    Ok(Revoked { at: now, upstream: upstream(tx, &behind, &credential)?, credential_destroyed })
}

fn upstream(tx: &mut Tx<'_>, behind: &Behind, credential: &Credential) -> Result<&'static str> {
    let state = renewals::upstream(tx, (credential.app_id, credential.id))?;
    Ok(revoked_upstream(behind, state.as_deref()))
}

/// What became of the tokens behind a revoked grant at their provider, in the words of the API.
pub fn revoked_upstream(behind: &Behind, state: Option<&str>) -> &'static str {
    match (behind, state) {
        (Behind::Provider(_), None) => "no",
        (Behind::Provider(_), Some("pending")) => "pending",
        (Behind::Provider(_), Some("done")) => "yes",
        (Behind::Provider(_), Some("failed")) => "failed",
        (Behind::Secret(_), _) | (Behind::Provider(_), Some(_)) => "unsupported",
    }
}

/// What a bulk revoke did.
#[derive(Default)]
pub struct RevokedMany {
    pub done: i64,
    pub credentials_destroyed: i64,
    pub failed: Vec<(GrantId, Error)>,
}

impl RevokedMany {
    fn add(&mut self, revoked: Revoked) {
        self.done += 1;
        self.credentials_destroyed += i64::from(revoked.credential_destroyed);
    }
}

/// Revokes these grants in one write, so that the app's epoch moves once for callers that decide meanwhile. If one of them cannot be
/// revoked, each gets a write of its own: it holds up none of the others.
pub async fn revoke_many(
    vault: &Vault,
    app: AppId,
    meant: Vec<(GrantId, Drafts)>,
    reason: Option<String>,
    now: TimeMs,
) -> std::result::Result<RevokedMany, Error> {
    let mut many = RevokedMany::default();
    let (meant, reason): (Arc<[_]>, Option<Arc<str>>) = (meant.into(), reason.map(Into::into));
    let (all, why) = (Arc::clone(&meant), reason.clone());
    let together = move |tx: &mut Tx<'_>| {
        let each = all.iter().map(|(grant, drafts)| revoke(tx, app, *grant, why.as_deref(), now, drafts));
        each.collect::<Result<Vec<_>>>()
    };
    match vault.store.write(together).await {
        Ok(revoked) => {
            for revoked in revoked {
                many.add(revoked);
            }
            return Ok(many);
        }
        Err(error) if is_of_all(&error) => return Err(of_store(error)),
        Err(_) => {}
    }
    for (grant, drafts) in meant.iter() {
        let (grant, drafts, why) = (*grant, drafts.clone(), reason.clone());
        let alone = move |tx: &mut Tx<'_>| revoke(tx, app, grant, why.as_deref(), now, &drafts);
        match vault.store.write(alone).await {
            Ok(revoked) => many.add(revoked),
            Err(error) if is_of_all(&error) => return Err(of_store(error)),
            Err(error) => many.failed.push((grant, of_store(error))),
        }
    }
    Ok(many)
}

/// Whether the next write would end alike, whatever it is of.
fn is_of_all(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy | StoreError::Unavailable { .. })
}

/// Whose the wanted grant is, if they are there and may have one.
pub fn principal(
    tx: &mut Tx<'_>,
    app: AppId,
    wanted: &Wanted,
    (new_group, now): (GroupId, TimeMs),
) -> Result<Principal> {
    let idp_of = |idp: Option<IdentityProvider>| {
        let missing = || Error::impossible("idp", "is no identity provider of this app: `grantd idp list` shows them");
        idp.filter(|idp| !idp.is_deleted).ok_or_else(missing)
    };
    match wanted {
        Wanted::System => Ok(Principal::System),
        Wanted::User(user) => {
            let found = users::find(tx, app, *user)?.ok_or_else(no_such_user)?;
            let refused = |message: &str| Err(Error::new(Code::Conflict).message(message).into());
            match found.status {
                UserStatus::Active => Ok(Principal::User(found.id)),
                UserStatus::Suspended => {
                    refused("The user is suspended. `grantd end-users resume` lets them in again; ask then.")
                }
                UserStatus::Deprovisioned { .. } => {
                    refused("The user is deprovisioned, for good. Who signs in again is a new user: name that one.")
                }
            }
        }
        Wanted::Group(group) => {
            let found = groups::find(tx, app, *group)?.ok_or_else(no_such_group)?;
            idp_of(identity_providers::find_row(tx, app, found.idp_id)?)?;
            Ok(Principal::Group(found.id))
        }
        Wanted::GroupOf { idp, external_id } => {
            let idp = idp_of(identity_providers::find(tx, app, idp)?)?;
            Ok(Principal::Group(group_of(tx, &idp, external_id, (new_group, now))?))
        }
    }
}

/// The group that an identity provider calls so. One that is not known yet is made: who is in it, users' tokens say.
pub fn group_of(
    tx: &mut Tx<'_>,
    idp: &IdentityProvider,
    external_id: &str,
    (new, now): (GroupId, TimeMs),
) -> Result<GroupId> {
    if let Some(known) = groups::find_external(tx, idp.app_id, idp.id, external_id)? {
        return Ok(known.id);
    }
    if idp.claims.groups.is_none() {
        return Err(Code::GroupPrincipalUnsupported.into());
    }
    let group = Group {
        id: new,
        app_id: idp.app_id,
        idp_id: idp.id,
        external_id: external_id.to_owned(),
        name: external_id.to_owned(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    // One that another server made meanwhile is not seen from here: asked again, it is.
    if groups::insert(tx, &group)? { Ok(new) } else { Err(Code::Conflict.into()) }
}

/// Puts a new grant on a secret's living credential.
pub fn create(tx: &mut Tx<'_>, secret: &ManagedSecret, mut grant: Grant, drafts: &Drafts) -> Result<Grant> {
    let credential = credentials::find_living(tx, secret.app_id, secret.id)?.ok_or(Code::CredentialDestroyed)?;
    grant.credential_id = credential.id;
    grants::insert(tx, &grant)?;
    crash::step("grant.inserted");
    append_event(tx, &created_event(drafts, secret, &grant, credential.version).prepare())?;
    Ok(grant)
}

/// Puts a sibling beside a living grant: on the same credential, for the same tenant, and never longer than that.
pub fn mint(
    tx: &mut Tx<'_>,
    source: &Listed,
    (id, label): (GrantId, &str),
    expires_at: Option<TimeMs>,
    now: TimeMs,
    drafts: &Drafts,
) -> Result<()> {
    let Listed { grant: of, credential, behind, .. } = source;
    match of.status {
        GrantStatus::Revoked { .. } => return Err(Code::GrantRevoked.into()),
        GrantStatus::Active if of.lapsed(now) => return Err(Code::GrantExpired.into()),
        GrantStatus::Active => {}
    }
    if credential.state == CredentialState::Destroyed {
        return Err(Code::GrantDeleted.into());
    }
    let grant = Grant {
        id,
        label: Some(label.to_owned()),
        expires_at: match (expires_at, of.expires_at) {
            (Some(wanted), Some(bound)) => Some(wanted.min(bound)),
            (one, other) => one.or(other),
        },
        created_at: now,
        last_used_at: None,
        version: 1,
        ..of.clone()
    };
    grants::insert(tx, &grant)?;
    let mut created = drafts
        .of(Kind::GrantCreated)
        .grant(id)
        .provider(behind.provider_id())
        .credential(credential.id, credential.version)
        .core("principal_type", grant.principal.kind())
        .core_id("source_grant_id", of.id);
    created = owned(created, grant.principal);
    if let Some(at) = grant.expires_at {
        created = created.changed("expires_at", serde_json::Value::Null, at.to_string());
    }
    append_event(tx, &created.prepare())
}

/// Whose grant an event is about.
fn owned(event: Event, principal: Principal) -> Event {
    match principal {
        Principal::System => event,
        Principal::User(user) => event.user(user),
        Principal::Group(group) => event.core_id("group_id", group),
    }
}

/// The event of a new grant.
pub fn created_event(drafts: &Drafts, secret: &ManagedSecret, grant: &Grant, version: i64) -> Event {
    let mut created = drafts
        .of(Kind::GrantCreated)
        .grant(grant.id)
        .provider(&secret.slug)
        .credential(grant.credential_id, version)
        .core("principal_type", grant.principal.kind());
    created = owned(created, grant.principal);
    if let Some(at) = grant.expires_at {
        created = created.changed("expires_at", serde_json::Value::Null, at.to_string());
    }
    created
}
