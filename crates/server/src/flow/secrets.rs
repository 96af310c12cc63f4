//! Deleting a managed secret: its grants, its value, the events and the app's epoch in one write.

use grantd_domain::audit::Kind;
use grantd_domain::grant::ManagedSecret;
use grantd_store::{Result, Tx, append_event, apps, credentials, grants, secrets};
use grantd_wire::{Code, TimeMs, limits};

use crate::flow::{self, Drafts};

/// What a deletion tells of, beside what each revoke does.
pub const KINDS: &[Kind] = &[Kind::SecretDeleted, Kind::CredentialDestroyed];

/// What was taken away.
#[derive(Clone, Copy, Debug)]
pub struct Deleted {
    pub grants_revoked: i64,
    pub credential_destroyed: bool,
}

/// Revokes every grant on a secret, destroys its value and deletes it. Each revoke takes one of `revokes`: an event has an id of
/// its own.
pub fn delete(
    tx: &mut Tx<'_>,
    secret: &ManagedSecret,
    now: TimeMs,
    drafts: &Drafts,
    revokes: &[Drafts],
) -> Result<Deleted> {
    let app = secret.app_id;
    let on = grants::On::Secret(secret.id);
    let living = grants::page_unrevoked(tx, app, on, None, limits::SIBLINGS_MAX + 1)?;
    if living.len() > revokes.len() {
        return Err(Code::Conflict.into());
    }
    let mut credential_destroyed = false;
    for (grant, drafts) in living.iter().zip(revokes) {
        let revoked = flow::grants::revoke(tx, app, *grant, Some("its secret was deleted"), now, drafts)?;
        credential_destroyed |= revoked.credential_destroyed;
    }
    // A value that was stored after its last grant was revoked has no grant to go with.
    if let Some(left) = credentials::find_living(tx, app, secret.id)?
        && credentials::destroy_if_unused(tx, app, left.id, now)?
    {
        let event = drafts.of(Kind::CredentialDestroyed).provider(&secret.slug).credential(left.id, left.version + 1);
        append_event(tx, &event.prepare())?;
        credential_destroyed = true;
    }
    if !secrets::delete(tx, app, secret.id, now)? {
        return Err(Code::SecretNotFound.into());
    }
    apps::raise_epoch(tx, app)?;
    append_event(tx, &drafts.of(Kind::SecretDeleted).provider(&secret.slug).prepare())?;
    let grants_revoked = i64::try_from(living.len()).unwrap_or(i64::MAX);
    Ok(Deleted { grants_revoked, credential_destroyed })
}
