//! What ends with a user, whoever says that the user is gone: an operator or a directory.

use grantd_domain::audit::Event;
use grantd_store::{Result, Tx, append_event, apps, auth_sessions, connect, grants, groups, users};
use grantd_wire::ids::{AppId, UserId};
use grantd_wire::{Code, TimeMs};

use crate::flow::{self, Drafts};

/// Ends a user for good, in the write it is called in: every grant, of which there are at most
/// [`USER_GRANTS_MAX`](grantd_wire::limits::USER_GRANTS_MAX), every membership, every sign-in and every connect session under way. What
/// has tokens at a provider is ended there by a job. `revokes`: drafts for a grant each; where there are more grants by now, the call may be made
/// again. Answers how many grants were revoked; `None`: it was done before.
pub fn deprovision(
    tx: &mut Tx<'_>,
    app: AppId,
    user: UserId,
    now: TimeMs,
    revokes: &[Drafts],
    event: Event,
) -> Result<Option<i64>> {
    if !users::deprovision(tx, app, user, now)? {
        return Ok(None);
    }
    let living = grants::list_unrevoked_of_user(tx, app, user)?;
    if living.len() > revokes.len() {
        return Err(Code::Conflict.into());
    }
    for (grant, drafts) in living.iter().zip(revokes) {
        flow::grants::revoke(tx, app, *grant, Some("its user was deprovisioned"), now, drafts)?;
    }
    groups::remove_everywhere(tx, app, user)?;
    auth_sessions::end_of_user(tx, app, user)?;
    connect::end_of_user(tx, app, user)?;
    apps::raise_epoch(tx, app)?;
    let revoked = i64::try_from(living.len()).unwrap_or(i64::MAX);
    append_event(tx, &event.user(user).core("grants_revoked", revoked).prepare())?;
    Ok(Some(revoked))
}
