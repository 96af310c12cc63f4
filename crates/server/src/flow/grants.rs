//! Making and revoking grants: the change, its event and the app's epoch in one write.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::grant::{Grant, ManagedSecret};
use grantd_store::{Result, Tx, append_event, apps, crash, credentials, grants};
use grantd_wire::ids::{AppId, GrantId};
use grantd_wire::{Code, TimeMs};

use crate::flow::Drafts;

/// What a revoke did.
#[derive(Clone, Copy, Debug)]
pub struct Revoked {
    pub at: TimeMs,
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
    let (held, credential, secret) = grants::find(tx, app, grant)?.ok_or(Code::GrantNotFound)?;
    if let grantd_domain::grant::GrantStatus::Revoked { at, .. } = held.status {
        return Ok(Revoked { at, credential_destroyed: false });
    }
    grants::revoke(tx, app, grant, reason, now)?;
    crash::step("grant.revoked");
    let credential_destroyed = credentials::destroy_if_unused(tx, app, credential.id, now)?;
    if credential_destroyed {
        crash::step("grant.credential_destroyed");
    }
    apps::raise_epoch(tx, app)?;
    let revoked = drafts
        .of(Kind::GrantRevoked)
        .grant(grant)
        .provider(&secret.slug)
        .credential(credential.id, credential.version)
        .private("reason", reason.map(str::to_owned))
        .changed("status", "active", "revoked");
    append_event(tx, &revoked.prepare())?;
    if credential_destroyed {
        let destroyed = drafts
            .of(Kind::CredentialDestroyed)
            .provider(&secret.slug)
            .credential(credential.id, credential.version + 1);
        append_event(tx, &destroyed.prepare())?;
    }
    Ok(Revoked { at: now, credential_destroyed })
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

/// The event of a new grant.
pub fn created_event(drafts: &Drafts, secret: &ManagedSecret, grant: &Grant, version: i64) -> Event {
    let mut created = drafts
        .of(Kind::GrantCreated)
        .grant(grant.id)
        .provider(&secret.slug)
        .credential(grant.credential_id, version)
        .core("principal_type", "system");
    if let Some(at) = grant.expires_at {
        created = created.changed("expires_at", serde_json::Value::Null, at.to_string());
    }
    created
}
