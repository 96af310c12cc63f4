//! Making and revoking grants: the change, its event and the app's epoch in one write.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::grant::{Behind, Credential, CredentialState, Grant, GrantStatus, ManagedSecret};
use grantd_store::grants::Listed;
use grantd_store::{Result, Tx, append_event, apps, crash, credentials, grants, renewals};
use grantd_wire::ids::{AppId, GrantId};
use grantd_wire::{Code, TimeMs};

use crate::flow::Drafts;

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
    let Listed { grant: held, credential, behind } = grants::find(tx, app, grant)?.ok_or(Code::GrantNotFound)?;
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
    let revoked = drafts
        .of(Kind::GrantRevoked)
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
    let Behind::Provider(_) = behind else { return Ok("unsupported") };
    let state = renewals::upstream(tx, (credential.app_id, credential.id))?;
    Ok(match state.as_deref() {
        None => "no",
        Some("pending") => "pending",
        Some("done") => "yes",
        Some("failed") => "failed",
        Some(_) => "unsupported",
    })
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
    let Listed { grant: of, credential, behind } = source;
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
        .core("principal_type", "system")
        .core_id("source_grant_id", of.id);
    if let Some(at) = grant.expires_at {
        created = created.changed("expires_at", serde_json::Value::Null, at.to_string());
    }
    append_event(tx, &created.prepare())
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
