//! Retention: cutting the past off a trail. What was cut off is told and signed in one write, and deleted later by a job.

use std::sync::Arc;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_store::{Error as StoreError, append_event, audit, crash, retention};
use grantd_wire::{Code, TimeMs, limits};

use crate::flow::export::sign;
use crate::vault::Vault;

const DAY_MS: i64 = 86_400_000;

/// Events from before this moment are older than so many days. It is the beginning of a day, so that a trail is cut once a day and
/// not with every event that comes of age.
fn cut_before(now: TimeMs, days: u32) -> TimeMs {
    let before = now.plus_ms(-DAY_MS * i64::from(days));
    TimeMs(before.0.div_euclid(DAY_MS) * DAY_MS)
}

/// Cuts off what is older than the owner's retention, or some of it; `false` when there is nothing to cut off.
pub async fn cut(vault: &Arc<Vault>, owner: Owner) -> Result<bool, StoreError> {
    let (now, install) = (vault.env.now(), vault.settings.retention);
    let look = move |tx: &mut grantd_store::Tx<'_>| {
        let kept = retention::effective(tx, &owner, install)?;
        match kept.days() {
            Some(days) if !retention::is_held(tx, &owner)? => {
                let cut = retention::find_cut(tx, &owner, cut_before(now, days))?;
                Ok(cut.map(|cut| (kept, cut)))
            }
            _ => Ok(None),
        }
    };
    let Some((kept, found)) = vault.store.read(look).await? else { return Ok(false) };
    let event = Event::new(&*vault.env, now, owner, Kind::AuditPruned, Outcome::Allowed, Actor::Job)
        .core("pruned_to", found.pruned_to)
        .core("retention", kept.to_string());
    let signer = Arc::clone(vault);
    let cut = vault
        .store
        .write(move |tx| {
            // Both may have changed since the look.
            if retention::is_held(tx, &owner)? || retention::effective(tx, &owner, install)? != kept {
                return Ok(false);
            }
            let delete_after = now.plus_ms(limits::PRUNED_KEPT_MS);
            let Some(events) = retention::cut(tx, &owner, &found, delete_after)? else { return Ok(false) };
            append_event(tx, &event.clone().core("events", events).prepare())?;
            let mut checkpoint = audit::next_checkpoint(tx, &owner, now)?.ok_or(Code::Internal)?;
            checkpoint.pruned_to = Some(found.pruned_to);
            sign(tx, &signer, owner, &checkpoint)?;
            crash::step("retention.signed");
            Ok(true)
        })
        .await;
    crash::step("retention.durable");
    match cut {
        // Another replica signed at the same moment: look again next time.
        Err(StoreError::Duplicate) => Ok(false),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_goes_when_its_last_moment_is_old_enough() {
        let days = |n: i64| TimeMs(n * DAY_MS);
        assert_eq!(cut_before(days(10), 1), days(9));
        assert_eq!(cut_before(days(10).plus_ms(DAY_MS - 1), 1), days(9));
        assert_eq!(cut_before(days(10).plus_ms(-1), 1), days(8));
        assert_eq!(cut_before(days(40_000), 36_500), days(3_500));
        // Longer than there has been time: nothing is from before that.
        assert_eq!(cut_before(days(10), 36_500), days(-36_490));
    }
}
