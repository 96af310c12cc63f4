//! End users of an app and their groups: who was seen, and who may call.

use grantd_domain::audit::Kind;
use grantd_domain::grant::App;
use grantd_domain::identity::{Group, User, UserStatus};
use grantd_store::users::UserFilter;
use grantd_store::{Tx, append_event, apps, grants, groups, identity_providers, idp_webhooks, scim, users};
use grantd_wire::api::{self, ListQuery};
use grantd_wire::ids::{AppId, GroupId, UserId};
use grantd_wire::{Code, Error, limits};

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, json as answer, of_store};
use crate::flow::{self, Drafts};
use crate::parse;
use crate::vault::Vault;

fn missing() -> Error {
    Error::new(Code::NotFound)
        .message("The app has no such user.")
        .hint("`grantd end-users list` lists those it has seen.")
}

fn load(tx: &mut Tx<'_>, app: AppId, user: &str) -> grantd_store::Result<User> {
    let id = UserId::parse(user).ok_or_else(missing)?;
    Ok(users::find(tx, app, id)?.ok_or_else(missing)?)
}

fn view(user: &User) -> api::User {
    let deprovisioned_at = match user.status {
        UserStatus::Deprovisioned { at } => Some(at),
        UserStatus::Active | UserStatus::Suspended => None,
    };
    api::User {
        id: user.id.to_string(),
        idp_id: user.idp_id.to_string(),
        subject: user.subject.clone(),
        user_status: user.status.as_str().to_owned(),
        email: user.email.clone(),
        name: user.name.clone(),
        roles: user.roles.iter().cloned().collect(),
        created_at: user.created_at,
        last_seen_at: user.last_seen_at,
        deprovisioned_at,
        version: user.version,
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let mut filter = UserFilter { status: query.status, search: query.search, limit, offset, ..UserFilter::default() };
    let (app, idp) = (app.id, query.idp);
    let read = move |tx: &mut Tx<'_>| {
        if let Some(idp) = &idp {
            filter.idp = Some(identity_providers::find(tx, app, idp)?.ok_or_else(super::identity::missing)?.id);
        }
        users::list(tx, app, &filter)
    };
    let (found, total) = vault.store.read(read).await.map_err(of_store)?;
    Ok(page(found.iter().map(view).collect(), total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app) = (request.object(), app.id);
    let user = vault.store.read(move |tx| load(tx, app, &name)).await.map_err(of_store)?;
    Ok(shown(200, &view(&user)))
}

/// Suspends, or resumes. Done before, it changes nothing.
pub async fn set(vault: &Vault, request: &Request, app: &App, to: UserStatus) -> Result<Answer, Error> {
    let kind = if to == UserStatus::Active { Kind::UserResumed } else { Kind::UserSuspended };
    let event = request.drafts(vault, app, &[kind]).of(kind);
    let (name, app, now, if_match) = (request.object(), app.id, request.source.now, request.if_match.clone());
    let write = move |tx: &mut Tx<'_>| {
        let user = load(tx, app, &name)?;
        if_match.check(&view(&user))?;
        if matches!(user.status, UserStatus::Deprovisioned { .. }) {
            return Err(Error::new(Code::Conflict)
                .message("The user was deprovisioned, for good. Who signs in again later is a new user.")
                .into());
        }
        // Whatever suspended the user before: from now on it is an operator's doing, which only an operator takes back.
        scim::unmark(tx, app, user.id)?;
        idp_webhooks::unmark(tx, app, user.id)?;
        if users::set_suspended(tx, app, user.id, to, now)? {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event.clone().user(user.id).prepare())?;
        }
        load(tx, app, &name)
    };
    let user = vault.store.write(write).await.map_err(of_store)?;
    Ok(shown(200, &view(&user)))
}

/// Ends a user with every grant of theirs, in one write; what has tokens at a provider is ended there by a job. Done before, it
/// changes nothing.
pub async fn deprovision(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app_id) = (request.object(), app.id);
    let named = name.clone();
    let read = move |tx: &mut Tx<'_>| {
        let user = load(tx, app_id, &named)?;
        Ok(grants::list_unrevoked_of_user(tx, app_id, user.id)?.len())
    };
    let living = vault.store.read(read).await.map_err(of_store)?;
    let event = request.drafts(vault, app, &[Kind::UserDeprovisioned]).of(Kind::UserDeprovisioned);
    // An event has an id of its own. Some more, for grants that are made meanwhile.
    let draft = |_| request.drafts(vault, app, flow::grants::REVOKE_KINDS);
    let revokes: Vec<Drafts> = (0..living + REVOKES_SPARE).map(draft).collect();
    let (now, if_match) = (request.source.now, request.if_match.clone());
    let write = move |tx: &mut Tx<'_>| {
        let user = load(tx, app_id, &name)?;
        if_match.check(&view(&user))?;
        if let UserStatus::Deprovisioned { at } = user.status {
            return Ok((user.id, at, 0));
        }
        let revoked = flow::users::deprovision(tx, app_id, user.id, now, &revokes, event.clone())?;
        Ok((user.id, now, revoked.unwrap_or_default()))
    };
    let (id, deprovisioned_at, grants_revoked) = vault.store.write(write).await.map_err(of_store)?;
    Ok(answer(200, &api::DeprovisionedUser { id: id.to_string(), deprovisioned_at, grants_revoked }))
}

/// Grants that may be made while a user is deprovisioned.
const REVOKES_SPARE: usize = limits::DECISIONS_MAX;

fn group_view(group: &Group, members: i64) -> api::Group {
    api::Group {
        id: group.id.to_string(),
        idp_id: group.idp_id.to_string(),
        external_group_id: group.external_id.clone(),
        name: group.name.clone(),
        members,
        created_at: group.created_at,
        version: group.version,
    }
}

pub async fn list_groups(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let app = app.id;
    let read = move |tx: &mut Tx<'_>| {
        let (found, total) = match &query.user {
            None => groups::list(tx, app, query.search.as_deref(), limit, offset)?,
            Some(user) => {
                let user = load(tx, app, user)?.id;
                part(groups::list_of_user(tx, app, user)?, query.search.as_deref(), limit, offset)
            }
        };
        let mut items = Vec::with_capacity(found.len());
        for group in &found {
            items.push(group_view(group, groups::count_members(tx, app, group.id)?));
        }
        Ok((items, total))
    };
    let (items, total) = vault.store.read(read).await.map_err(of_store)?;
    Ok(page(items, total, limit, offset))
}

/// A page of the groups of one user, of whom there are so few that all of them are at hand.
fn part(mut groups: Vec<Group>, search: Option<&str>, limit: i64, offset: i64) -> (Vec<Group>, i64) {
    let start = search.unwrap_or_default().to_lowercase();
    groups.retain(|group| group.name.to_lowercase().starts_with(&start));
    let total = i64::try_from(groups.len()).unwrap_or(i64::MAX);
    let count = |number: i64| usize::try_from(number).unwrap_or_default();
    (groups.into_iter().skip(count(offset)).take(count(limit)).collect(), total)
}

pub async fn show_group(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let none =
        || Error::new(Code::NotFound).message("The app has no such group.").hint("`grantd groups list` lists them.");
    let (id, app) = (GroupId::parse(&request.object()).ok_or_else(none)?, app.id);
    let read = move |tx: &mut Tx<'_>| Ok((groups::find(tx, app, id)?, groups::count_members(tx, app, id)?));
    let (group, members) = vault.store.read(read).await.map_err(of_store)?;
    Ok(answer(200, &group_view(&group.ok_or_else(none)?, members)))
}
