//! What an identity provider's webhook tells of a user: the change, its events and the app's epoch in one write for each event.
//!
//! Invariant: an event counts once, and whoever it suspends or ends may use nothing from the write on that says so.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::identity::UserStatus;
use grantd_domain::webhook::{Act, Change, Mark, Told, decide, gone_at};
use grantd_store::idp_webhooks::{self as rows, Webhook};
use grantd_store::{Result, Tx, append_event, apps, grants, users};
use grantd_wire::{Code, Error, TimeMs, limits};

use crate::answer::of_store;
use crate::flow::{self, Drafts};
use crate::vault::Vault;

const KINDS: &[Kind] = &[Kind::UserSuspended, Kind::UserResumed, Kind::UserDeprovisioned];
/// Grants that may be made between the look and the write.
const GRANTS_SPARE: usize = 3;

/// Does what follows from an event. `draft` begins an event of whoever called.
pub async fn tell(vault: &Vault, webhook: &Webhook, mut told: Told, now: TimeMs, draft: &Event) -> Result<(), Error> {
    // A clock that goes ahead must not make what comes after it look old.
    told.at = told.at.min(now);
    for _ in 0..limits::DECISIONS_MAX {
        let Some(count) = grants_of(vault, webhook, &told).await? else { return Ok(()) };
        let telling = Telling {
            webhook: webhook.clone(),
            told: told.clone(),
            now,
            drafts: Drafts::new(&*vault.env, draft, KINDS),
            revokes: (0..count + GRANTS_SPARE)
                .map(|_| Drafts::new(&*vault.env, draft, flow::grants::REVOKE_KINDS))
                .collect(),
        };
        match vault.store.write(move |tx| telling.apply(tx)).await.map_err(of_store) {
            // More grants by now.
            Err(error) if error.code == Code::Conflict => {}
            done => {
                grantd_store::crash::step("change.durable");
                return done;
            }
        }
    }
    Err(Code::Busy.into())
}

/// How many grants may end with the user; `None`: there is nothing to write. Vendors tell of every change of all their users, most of
/// whom may never come here.
async fn grants_of(vault: &Vault, webhook: &Webhook, told: &Told) -> Result<Option<usize>, Error> {
    let (app, idp, subject) = (webhook.app_id, webhook.idp_id, told.subject.clone());
    let lets_in = told.change == Change::Unblocked;
    let read = move |tx: &mut Tx<'_>| {
        let Some(user) = users::find_subject(tx, app, idp, &subject)? else {
            let is_told = lets_in && rows::blocked_at(tx, app, idp, &subject)?.is_none();
            return Ok((!is_told).then_some(0));
        };
        Ok(Some(grants::list_unrevoked_of_user(tx, app, user.id)?.len()))
    };
    vault.store.read(read).await.map_err(of_store)
}

/// One event, and what its write may need.
struct Telling {
    webhook: Webhook,
    told: Told,
    now: TimeMs,
    drafts: Drafts,
    revokes: Vec<Drafts>,
}

impl Telling {
    fn apply(&self, tx: &mut Tx<'_>) -> Result<()> {
        let Webhook { app_id: app, idp_id: idp, .. } = self.webhook;
        let since = self.now.plus_ms(-limits::WEBHOOK_MEMORY_MS);
        if !rows::remember(tx, &self.webhook, &self.told.id, self.now, since)? {
            return Ok(());
        }
        let Some(user) = users::find_subject(tx, app, idp, &self.told.subject)? else {
            return self.of_nobody(tx, decide(None, None, &self.told));
        };
        rows::set_last_event(tx, &self.webhook, self.now)?;
        let mark = rows::find_mark(tx, app, user.id)?;
        let mut next = Mark { told_at: self.told.at, suspended_at: mark.and_then(|mark| mark.suspended_at) };
        let event =
            |kind| self.drafts.of(kind).core_id("idp_id", idp).core("webhook_event_at", self.told.at.to_string());
        let act = decide(Some(&user), mark.as_ref(), &self.told);
        let (to, kind) = match act {
            Act::Nothing => return Ok(()),
            Act::RememberGone | Act::RememberBlocked | Act::ForgetBlocked => return self.of_nobody(tx, act),
            Act::Remember => return rows::set_mark(tx, app, user.id, &next),
            Act::Deprovision => {
                let event = event(Kind::UserDeprovisioned);
                flow::users::deprovision(tx, app, user.id, self.now, &self.revokes, event)?;
                return rows::set_mark(tx, app, user.id, &next);
            }
            Act::Suspend => (UserStatus::Suspended, Kind::UserSuspended),
            Act::Resume => (UserStatus::Active, Kind::UserResumed),
        };
        // An operator may have resumed the user meanwhile: then there is nothing to take back.
        let is_changed = users::set_suspended(tx, app, user.id, to, self.now)?;
        next.suspended_at = (act == Act::Suspend && is_changed).then_some(self.now);
        rows::set_mark(tx, app, user.id, &next)?;
        if is_changed {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event(kind).user(user.id).prepare())?;
        }
        Ok(())
    }

    /// Nothing of the app's ends with it, so there is neither an event nor an epoch: whoever is refused for it is.
    fn of_nobody(&self, tx: &mut Tx<'_>, act: Act) -> Result<()> {
        let Self { webhook, told: Told { subject, at, .. }, now, .. } = self;
        let since = now.plus_ms(-limits::WEBHOOK_GONE_MS);
        match act {
            Act::RememberGone => {
                let gone_at = gone_at(&self.told, *now);
                rows::remember_gone(tx, webhook.app_id, webhook.idp_id, subject, gone_at, since)
            }
            Act::RememberBlocked => rows::remember_blocked(tx, webhook, subject, *at, since),
            Act::ForgetBlocked if rows::blocked_at(tx, webhook.app_id, webhook.idp_id, subject)? <= Some(*at) => {
                rows::forget_blocked(tx, webhook.app_id, webhook.idp_id, subject)
            }
            _ => Ok(()),
        }
    }
}
