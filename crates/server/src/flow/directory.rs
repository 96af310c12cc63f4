//! What a directory tells of users and groups: the change, its events and the app's epoch in one write.
//!
//! Invariant: whoever is suspended, deprovisioned or taken out of a group may use nothing from the write on that says so. What ends at
//! providers ends afterwards, by the job that ends tokens.

use std::collections::BTreeSet;

use grantd_domain::audit::{Event, Kind};
use grantd_domain::env::{Env, new_uuid};
use grantd_domain::identity::{Group, User, UserStatus};
use grantd_domain::scim::group::Change;
use grantd_domain::scim::user::{Meaning, User as Told, meanings};
use grantd_domain::scim::{Refused, Wrong};
use grantd_store::scim::{self as rows, Endpoint, ScimUser};
use grantd_store::{Result, Tx, append_event, apps, groups, idp_webhooks, users};
use grantd_wire::ids::{AppId, GroupId, ScimUserId, UserId};
use grantd_wire::{Code, TimeMs, limits};
use serde_json::Value;

use crate::flow::{self, Drafts};

/// What a directory's call tells of, beside what each revoke does.
const KINDS: &[Kind] = &[
    Kind::UserCreated,
    Kind::UserUpdated,
    Kind::UserSuspended,
    Kind::UserResumed,
    Kind::UserDeprovisioned,
    Kind::GroupCreated,
    Kind::GroupUpdated,
    Kind::GroupDeleted,
];

/// One call of a directory: whose it is, and the ids and events that its write may need.
#[derive(Clone)]
pub struct Telling {
    pub endpoint: Endpoint,
    pub now: TimeMs,
    /// What a new row is called.
    scim_id: ScimUserId,
    user_id: UserId,
    group_id: GroupId,
    drafts: Drafts,
    /// An event has an id of its own, so each revoke has its drafts.
    revokes: Vec<Drafts>,
}

impl Telling {
    /// Begins one. `event` begins an event of whoever calls; `grants`: how many its users have.
    pub fn new(env: &dyn Env, endpoint: Endpoint, now: TimeMs, event: &Event, grants: usize) -> Self {
        Self {
            endpoint,
            now,
            scim_id: ScimUserId::from_uuid(new_uuid(env)),
            user_id: UserId::from_uuid(new_uuid(env)),
            group_id: GroupId::from_uuid(new_uuid(env)),
            drafts: Drafts::new(env, event, KINDS),
            revokes: (0..grants).map(|_| Drafts::new(env, event, flow::grants::REVOKE_KINDS)).collect(),
        }
    }

    fn app(&self) -> AppId {
        self.endpoint.app_id
    }

    fn event(&self, kind: Kind, user: UserId) -> Event {
        self.drafts.of(kind).user(user).core_id("idp_id", self.endpoint.idp_id)
    }

    /// A user that the directory tells of for the first time. One who was seen before is the same user.
    pub fn create(&self, tx: &mut Tx<'_>, told: Told) -> Result<ScimUser> {
        let (app, idp) = (self.app(), self.endpoint.idp_id);
        let user = self.living(tx, &told)?;
        if rows::is_told_of(tx, app, user.id)? {
            return Err(taken("A user with this `sub` was created before. Change that one."));
        }
        let mut row = ScimUser {
            id: self.scim_id,
            app_id: app,
            idp_id: idp,
            user_id: user.id,
            user: told,
            suspended_at: None,
            created_at: self.now,
            updated_at: self.now,
            version: 1,
        };
        check_name(tx, &row)?;
        for meaning in meanings(None, &row.user, self.endpoint.subject_from, self.endpoint.deactivation) {
            self.mean(tx, meaning, &mut row)?;
        }
        rows::insert(tx, &row)?;
        Ok(row)
    }

    /// A user that the directory tells more of.
    pub fn change(&self, tx: &mut Tx<'_>, row: ScimUser, told: Told) -> Result<ScimUser> {
        let was = row.user_id;
        let mut row = self.bound(tx, row)?;
        let user = users::find(tx, self.app(), row.user_id)?.ok_or(Code::Conflict)?;
        let Endpoint { subject_from, deactivation, .. } = self.endpoint;
        let mut meanings = meanings(Some(&row.user), &told, subject_from, deactivation);
        // Another attribute may hold the subject than did when the user was told of first.
        let says_other = told.subject(subject_from).map(|subject| subject != user.subject);
        let is_rebound = is_living(&user) && says_other.unwrap_or(meanings.contains(&Meaning::Rebind));
        let is_another = row.user_id != was;
        if row.user == told && !is_another && !is_rebound {
            return Ok(row);
        }
        // Of whoever it is now, the directory says it for the first time.
        if is_another && !row.user.is_active() && !told.is_active() {
            meanings.push(deactivation.meaning());
        }
        row.user = told;
        check_name(tx, &row)?;
        self.write_anew(tx, &row, is_rebound, meanings.contains(&Meaning::Describe))?;
        for meaning in meanings {
            self.mean(tx, meaning, &mut row)?;
        }
        if !rows::update(tx, &row, self.now)? {
            return Err(Code::Conflict.into());
        }
        row.updated_at = self.now;
        row.version += 1;
        Ok(row)
    }

    /// A user that the directory forgets: deprovisioned, whatever `active: false` does.
    pub fn delete(&self, tx: &mut Tx<'_>, row: &ScimUser) -> Result<()> {
        let user = meant(tx, &self.endpoint, row)?;
        self.deprovision(tx, user)?;
        rows::delete(tx, self.app(), row.id)?;
        Ok(())
    }

    /// The row, of whom the directory means by it now.
    fn bound(&self, tx: &mut Tx<'_>, mut row: ScimUser) -> Result<ScimUser> {
        let user = meant(tx, &self.endpoint, &row)?;
        if user != row.user_id {
            rows::bind(tx, row.app_id, row.id, user)?;
            row.user_id = user;
            row.suspended_at = None;
            row.version += 1;
        }
        Ok(row)
    }

    fn subject<'t>(&self, told: &'t Told) -> Result<&'t str> {
        let subject = told.subject(self.endpoint.subject_from).map_err(refused)?;
        if subject.chars().count() > limits::SUBJECT_CHARS_MAX {
            let name = self.endpoint.subject_from.as_str();
            let detail =
                format!("`{name}` is a user's `sub`, and must be at most {} characters.", limits::SUBJECT_CHARS_MAX);
            return Err(refused(Refused::new(Wrong::InvalidValue, detail)));
        }
        Ok(subject)
    }

    /// The user's row that is not deprovisioned, made if there is none.
    fn living(&self, tx: &mut Tx<'_>, told: &Told) -> Result<User> {
        let (app, idp) = (self.app(), self.endpoint.idp_id);
        let subject = self.subject(told)?;
        let found = users::find_subject(tx, app, idp, subject)?;
        if let Some(user) = found.filter(is_living) {
            return Ok(user);
        }
        let user = User {
            id: self.user_id,
            app_id: app,
            idp_id: idp,
            subject: subject.to_owned(),
            status: UserStatus::Active,
            email: kept(told.email()),
            name: kept(told.name().as_deref()),
            roles: BTreeSet::new(),
            told_at: None,
            told_hash: None,
            last_seen_at: None,
            created_at: self.now,
            updated_at: self.now,
            version: 1,
        };
        if !users::insert(tx, &user)? {
            return Err(Code::Conflict.into());
        }
        // The directory says itself whether the user may come in.
        idp_webhooks::forget_blocked(tx, app, idp, subject)?;
        let created = self.event(Kind::UserCreated, user.id).private_text("subject", Some(subject));
        append_event(tx, &created.prepare())?;
        Ok(user)
    }

    /// Brings the user's row up to what the directory says of it, with one event.
    fn write_anew(&self, tx: &mut Tx<'_>, row: &ScimUser, is_rebound: bool, is_described: bool) -> Result<()> {
        let app = self.app();
        let user = users::find(tx, app, row.user_id)?.ok_or(Code::Conflict)?;
        // Of a user who is gone the directory may say what it likes: it counts when the user comes back.
        if !is_living(&user) || !(is_rebound || is_described) {
            return Ok(());
        }
        let mut event = self.event(Kind::UserUpdated, user.id);
        let mut version = user.version;
        if is_rebound {
            let subject = self.subject(&row.user)?;
            if !users::rebind(tx, &user, subject, self.now)? {
                return Err(taken("Another user of this identity provider has this `sub`."));
            }
            // Of neither subject a token from before says whose it is now.
            let since = self.now.plus_ms(-limits::WEBHOOK_GONE_MS);
            for subject in [&*user.subject, subject] {
                idp_webhooks::remember_gone(tx, app, user.idp_id, subject, self.now, since)?;
            }
            version += 1;
            apps::raise_epoch(tx, app)?;
            event = event.core("rebound", true).private_text("subject", Some(subject));
        }
        if is_described {
            let (email, name) = (kept(row.user.email()), kept(row.user.name().as_deref()));
            if !users::update(tx, &User { email, name, updated_at: self.now, ..user }, version)? {
                return Err(Code::Conflict.into());
            }
        }
        append_event(tx, &event.prepare())
    }

    fn mean(&self, tx: &mut Tx<'_>, meaning: Meaning, row: &mut ScimUser) -> Result<()> {
        let app = self.app();
        let user = users::find(tx, app, row.user_id)?.ok_or(Code::Conflict)?;
        match meaning {
            // Done before: the row was made, or found, or written anew.
            Meaning::Create | Meaning::Rebind | Meaning::Describe => Ok(()),
            Meaning::Suspend => {
                if users::set_suspended(tx, app, user.id, UserStatus::Suspended, self.now)? {
                    row.suspended_at = Some(self.now);
                    apps::raise_epoch(tx, app)?;
                    append_event(tx, &self.event(Kind::UserSuspended, user.id).prepare())?;
                } else if idp_webhooks::unmark(tx, app, user.id)? {
                    // The webhook was first: a directory that says so, too, takes it back itself.
                    row.suspended_at = Some(self.now);
                }
                Ok(())
            }
            Meaning::Resume => self.resume(tx, &user, row),
            Meaning::Deprovision => self.deprovision(tx, user.id),
        }
    }

    /// Takes back what the directory did, and nothing that an operator did.
    fn resume(&self, tx: &mut Tx<'_>, user: &User, row: &mut ScimUser) -> Result<()> {
        let app = self.app();
        if !is_living(user) {
            let again = self.living(tx, &row.user)?;
            if rows::is_told_of(tx, app, again.id)? {
                return Err(taken("A user with this `sub` was created meanwhile. Change that one."));
            }
            row.user_id = again.id;
            return Ok(());
        }
        let is_ours = row.suspended_at.take().is_some();
        if is_ours && users::set_suspended(tx, app, user.id, UserStatus::Active, self.now)? {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &self.event(Kind::UserResumed, user.id).prepare())?;
        }
        Ok(())
    }

    fn deprovision(&self, tx: &mut Tx<'_>, user: UserId) -> Result<()> {
        let event = self.event(Kind::UserDeprovisioned, user);
        flow::users::deprovision(tx, self.app(), user, self.now, &self.revokes, event).map(drop)
    }

    /// A group that the directory tells of.
    pub fn create_group(&self, tx: &mut Tx<'_>, told: grantd_domain::scim::group::Group) -> Result<Group> {
        let group = Group {
            id: self.group_id,
            app_id: self.app(),
            idp_id: self.endpoint.idp_id,
            external_id: told.external_id.unwrap_or_else(|| told.name.clone()),
            name: told.name,
            created_at: self.now,
            updated_at: self.now,
            version: 1,
        };
        check_group(&group)?;
        if !groups::insert(tx, &group)? {
            return Err(taken(
                "The identity provider has a group with this id, or this name, already. Change that one.",
            ));
        }
        let (joined, _) = self.add(tx, &group, &told.members)?;
        let event = self.group_event(Kind::GroupCreated, group.id).core("members_joined", joined);
        append_event(tx, &event.private_text("name", Some(&group.name)).prepare())?;
        Ok(group)
    }

    /// Changes of a group, all of them or none.
    pub fn change_group(&self, tx: &mut Tx<'_>, mut group: Group, changes: &[Change]) -> Result<Group> {
        let before = group.clone();
        let (mut joined, mut left) = (0, 0);
        for change in changes {
            match change {
                Change::Name(name) => {
                    // Where the directory has no id of its own, the name is what tokens call the group.
                    if group.external_id == group.name {
                        group.external_id.clone_from(name);
                    }
                    group.name.clone_from(name);
                }
                Change::ExternalId(external_id) => {
                    group.external_id = external_id.clone().unwrap_or_else(|| group.name.clone());
                }
                Change::Add(ids) => joined += self.add(tx, &group, ids)?.0,
                Change::Remove(ids) => left += self.remove(tx, &group, ids)?,
                Change::Replace(ids) => {
                    let (added, wanted) = self.add(tx, &group, ids)?;
                    joined += added;
                    for user in groups::list_members(tx, self.app(), group.id, limits::GROUP_MEMBERS_MAX)? {
                        if !wanted.contains(&user) {
                            left += i64::from(groups::expel(tx, self.app(), group.id, user, self.now)?);
                        }
                    }
                }
            }
        }
        groups::forget_leavers(tx, self.app(), self.now.plus_ms(-limits::WEBHOOK_GONE_MS))?;
        let is_renamed = (&before.name, &before.external_id) != (&group.name, &group.external_id);
        if !is_renamed && joined == 0 && left == 0 {
            return Ok(group);
        }
        check_group(&group)?;
        if !groups::rename(tx, &group, self.now)? {
            return Err(taken(
                "The identity provider has a group with this id, or this name, already. Change that one.",
            ));
        }
        group.updated_at = self.now;
        // Another name is another group to whoever a rule names it for.
        if left > 0 || is_renamed {
            apps::raise_epoch(tx, self.app())?;
        }
        let event = self.group_event(Kind::GroupUpdated, group.id);
        let event = event.core("members_joined", joined).core("members_left", left);
        append_event(tx, &event.private_text("name", Some(&group.name)).prepare())?;
        Ok(group)
    }

    /// A group that the directory forgets.
    pub fn delete_group(&self, tx: &mut Tx<'_>, group: GroupId) -> Result<()> {
        if groups::delete(tx, self.app(), group, self.now)? {
            apps::raise_epoch(tx, self.app())?;
            append_event(tx, &self.group_event(Kind::GroupDeleted, group).prepare())?;
        }
        Ok(())
    }

    fn group_event(&self, kind: Kind, group: GroupId) -> Event {
        self.drafts.of(kind).core_id("group_id", group).core_id("idp_id", self.endpoint.idp_id)
    }

    /// Puts users into a group; answers how many were not in it, and who they all are.
    fn add(&self, tx: &mut Tx<'_>, group: &Group, ids: &[String]) -> Result<(i64, BTreeSet<UserId>)> {
        let (mut joined, mut wanted) = (0, BTreeSet::new());
        for member in ids {
            let found = match ScimUserId::parse(member) {
                Some(member) => rows::find(tx, self.app(), self.endpoint.idp_id, member)?,
                None => None,
            };
            let found = found.ok_or_else(|| {
                let detail = "A member is no user of this identity provider. Create its user first.";
                refused(Refused::new(Wrong::InvalidValue, detail))
            })?;
            let user = self.bound(tx, found)?.user_id;
            wanted.insert(user);
            // Whoever is gone joins when they come back and the directory says so again.
            if users::find(tx, self.app(), user)?.is_some_and(|user| is_living(&user)) {
                let source = groups::Source::Directory;
                joined += i64::from(groups::add(tx, self.app(), group.id, user, source, self.now)?);
            }
        }
        if groups::count_members(tx, self.app(), group.id)? > limits::GROUP_MEMBERS_MAX {
            let detail = format!("A group has at most {} members.", limits::GROUP_MEMBERS_MAX);
            return Err(refused(Refused::new(Wrong::TooMany, detail)));
        }
        Ok((joined, wanted))
    }

    /// Takes users out of a group. Whoever is not in it, is not in it.
    fn remove(&self, tx: &mut Tx<'_>, group: &Group, ids: &[String]) -> Result<i64> {
        let mut left = 0;
        for member in ids.iter().filter_map(|member| ScimUserId::parse(member)) {
            if let Some(found) = rows::find(tx, self.app(), self.endpoint.idp_id, member)? {
                let user = self.bound(tx, found)?.user_id;
                left += i64::from(groups::expel(tx, self.app(), group.id, user, self.now)?);
            }
        }
        Ok(left)
    }
}

fn is_living(user: &User) -> bool {
    !matches!(user.status, UserStatus::Deprovisioned { .. })
}

/// Whom a directory means by what it told: the user it told it of, unless that one is gone, or has another subject than the directory says
/// by now, and somebody lives under this one of whom it told nothing else.
pub fn meant(tx: &mut Tx<'_>, endpoint: &Endpoint, row: &ScimUser) -> Result<UserId> {
    let Ok(subject) = row.user.subject(endpoint.subject_from) else { return Ok(row.user_id) };
    let user = users::find(tx, row.app_id, row.user_id)?;
    if user.is_some_and(|user| is_living(&user) && user.subject == subject) {
        return Ok(row.user_id);
    }
    match users::find_subject(tx, row.app_id, row.idp_id, subject)?.filter(is_living) {
        Some(other) if !rows::is_told_of(tx, row.app_id, other.id)? => Ok(other.id),
        _ => Ok(row.user_id),
    }
}

fn check_group(group: &Group) -> Result<()> {
    let is_long = |text: &str| text.chars().count() > limits::SUBJECT_CHARS_MAX;
    if is_long(&group.external_id) || is_long(&group.name) {
        let detail = format!("A group's name and id are at most {} characters.", limits::SUBJECT_CHARS_MAX);
        return Err(refused(Refused::new(Wrong::InvalidValue, detail)));
    }
    Ok(())
}

fn check_name(tx: &mut Tx<'_>, row: &ScimUser) -> Result<()> {
    match rows::is_name_taken(tx, row)? {
        true => Err(taken("Another user of this identity provider has this `userName`.")),
        false => Ok(()),
    }
}

/// What is shown of a user is bounded as what tokens say is.
fn kept(text: Option<&str>) -> Option<String> {
    text.map(|text| text.chars().take(limits::SUBJECT_CHARS_MAX).collect())
}

fn taken(detail: &str) -> grantd_store::Error {
    refused(Refused::new(Wrong::Uniqueness, detail))
}

/// A refusal that travels through the store: `scim_type` says which it was.
pub fn refused(why: Refused) -> grantd_store::Error {
    let code = if why.wrong == Wrong::Uniqueness { Code::Conflict } else { Code::InvalidRequest };
    let error = grantd_wire::Error::new(code).message(why.detail);
    error.detail("scim_type", Value::from(why.wrong.as_str())).into()
}
