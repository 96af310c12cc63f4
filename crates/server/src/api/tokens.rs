//! Personal access tokens. Everybody has to do with their own; an admin also with those of others.
//!
//! Invariant: no token can do more than its maker, nor more than its owner.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::env::{new_token, new_uuid};
use grantd_domain::grant::check_text;
use grantd_domain::words::counted;
use grantd_store::operators::{self, Operator, Pat, Role};
use grantd_store::{Tx, append_event, apps, organizations};
use grantd_wire::api::{self, TokenCreate, TokensQuery};
use grantd_wire::ids::{AppId, OperatorId, OrganizationId, PatId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Value, json};

use super::operators::role;
use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, of_store};
use crate::install::PAT_START;
use crate::parse;
use crate::vault::Vault;

fn view(pat: &Pat, created_at: TimeMs, now: TimeMs) -> api::Token {
    let status = match (pat.revoked_at, pat.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "active",
    };
    api::Token {
        id: pat.id.to_string(),
        operator_id: pat.operator_id.to_string(),
        name: pat.name.clone(),
        role: pat.role.as_str().to_owned(),
        app_ids: pat.app_ids.as_ref().map(|ids| ids.iter().map(ToString::to_string).collect()),
        status: status.to_owned(),
        created_at,
        expires_at: pat.expires_at,
        revoked_at: pat.revoked_at,
    }
}

fn missing() -> Error {
    Error::new(Code::NotFound).message("There is no such token here.").hint("`grantd tokens list` shows yours.")
}

fn no_operator() -> Error {
    Error::new(Code::NotFound).message("There is no such operator.").hint("`grantd operators list` shows them.")
}

fn no_such_apps() -> Error {
    Error::impossible("app_ids", "must be ids of apps of this organization")
}

/// Tokens of the caller, or, for an admin, of the operator that is named.
pub async fn list(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see tokens")?;
    let query: TokensQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let owner = owner(vault, request, query.operator.as_deref()).await?.id;
    let (found, total) =
        vault.store.read(move |tx| operators::list_pats(tx, owner, limit, offset)).await.map_err(of_store)?;
    let now = request.source.now;
    Ok(page(found.iter().map(|(pat, at)| view(pat, *at, now)).collect(), total, limit, offset))
}

/// The caller, or the operator an admin names.
async fn owner(vault: &Vault, request: &Request, named: Option<&str>) -> Result<Operator, Error> {
    let Some(named) = named.filter(|named| *named != request.operator.id.to_string()) else {
        return Ok(request.operator.clone());
    };
    request.admin_only("have to do with tokens of others")?;
    let id = OperatorId::parse(named).ok_or_else(no_operator)?;
    let organization = request.operator.organization_id;
    let found = vault.store.read(move |tx| operators::find(tx, organization, id)).await.map_err(of_store)?;
    found.map(|(operator, _)| operator).ok_or_else(no_operator)
}

/// Whether the caller may see the token.
fn is_visible(pat: &Pat, caller: OperatorId, role: Role) -> bool {
    pat.operator_id == caller || role == Role::Admin
}

pub async fn show(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see tokens")?;
    let id = PatId::parse(&request.params[0]).ok_or_else(missing)?;
    let organization = request.operator.organization_id;
    let found = vault.store.read(move |tx| operators::find_pat_by_id(tx, organization, id)).await.map_err(of_store)?;
    let (pat, at) = found.filter(|(pat, _)| is_visible(pat, request.operator.id, request.role)).ok_or_else(missing)?;
    Ok(shown(200, &view(&pat, at, request.source.now)))
}

pub async fn create(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let trail = request.organization_wide("make tokens")?;
    let ask: TokenCreate = parse::json(&request.body)?;
    let owner = owner(vault, request, ask.operator_id.as_deref()).await?;
    let now = request.source.now;
    let organization = owner.organization_id;
    let found = vault.store.read(move |tx| organizations::find(tx, organization)).await.map_err(of_store)?;
    let days_max = found.ok_or(Code::Internal)?.settings.token_days_max;
    let pat = asked(vault, &ask, &owner, (request.role, days_max), now)?;
    let event = about(request.event(vault, trail, Kind::PatCreated), &pat)
        .changed("role", Value::Null, pat.role.as_str())
        .changed("app_ids", Value::Null, json!(pat.app_ids))
        .changed("expires_at", Value::Null, json!(pat.expires_at))
        .prepare();
    let text = new_token(&*vault.env, PAT_START);
    let hash = sha256(text.reveal().as_bytes());
    let insert = move |tx: &mut Tx<'_>| {
        for app in pat.app_ids.iter().flatten() {
            apps::find(tx, organization, *app)?.ok_or_else(no_such_apps)?;
        }
        if operators::count_living_pats(tx, pat.operator_id, now)? >= limits::PATS_PER_OPERATOR_MAX {
            let message =
                format!("An operator has at most {} living tokens. Revoke one first.", limits::PATS_PER_OPERATOR_MAX);
            return Err(Error::new(Code::TooMany).message(message).into());
        }
        operators::insert_pat(tx, &pat, &hash, now)?;
        append_event(tx, &event)?;
        Ok(api::MintedToken { token: text.reveal().to_owned(), pat: view(&pat, now, now) })
    };
    request.once(vault, insert).await
}

/// Days that a token lives if nothing is said. `days_max`: the organization's bound.
pub fn days_default(days_max: Option<i64>) -> i64 {
    days_max.map_or(limits::PAT_DAYS_DEFAULT, |days| days.min(limits::PAT_DAYS_DEFAULT))
}

/// The token that was asked for, if its owner and its maker may have as much, and the organization lets it live as long.
fn asked(
    vault: &Vault,
    ask: &TokenCreate,
    owner: &Operator,
    (maker, days_max): (Role, Option<i64>),
    now: TimeMs,
) -> Result<Pat, Error> {
    check_text("name", &ask.name, limits::NAME_CHARS_MAX)?;
    let highest = owner.role.min(maker);
    let role = ask.role.as_deref().map(role).transpose()?.unwrap_or(highest);
    if role > highest {
        return Err(Error::impossible("role", &format!("must be at most {}", highest.as_str())));
    }
    let app_ids = match &ask.app_ids {
        None => None,
        Some(ids) if ids.is_empty() || ids.len() > limits::PAT_APPS_MAX => {
            return Err(Error::impossible("app_ids", &format!("must be 1-{} ids", limits::PAT_APPS_MAX)));
        }
        Some(ids) => {
            let parsed: Option<Vec<AppId>> = ids.iter().map(|id| AppId::parse(id)).collect();
            Some(parsed.ok_or_else(no_such_apps)?)
        }
    };
    let seconds = ask.expires_in_seconds.unwrap_or(days_default(days_max) * 86_400);
    if let Some(days) = days_max.filter(|days| seconds > days * 86_400) {
        return Err(Error::impossible(
            "expires_in_seconds",
            &format!("must be at most {}: the organization says so", counted(days, "day", "days")),
        ));
    }
    if !(1..=limits::LIFETIME_SECONDS_MAX).contains(&seconds) {
        return Err(Error::impossible("expires_in_seconds", "must be between 1 second and ten years"));
    }
    Ok(Pat {
        id: PatId::from_uuid(new_uuid(&*vault.env)),
        operator_id: owner.id,
        name: ask.name.clone(),
        role,
        app_ids,
        expires_at: Some(now.plus_seconds(seconds)),
        revoked_at: None,
    })
}

/// An event that names the token and its owner.
fn about(event: Event, pat: &Pat) -> Event {
    event.core_id("pat_id", pat.id).core_id("operator_id", pat.operator_id)
}

pub async fn revoke(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let trail = request.organization_wide("revoke tokens")?;
    let id = PatId::parse(&request.params[0]).ok_or_else(missing)?;
    let event = request.event(vault, trail, Kind::PatRevoked);
    let (caller, role, now) = (request.operator.id, request.role, request.source.now);
    let organization: OrganizationId = request.operator.organization_id;
    let if_match = request.if_match.clone();
    let (pat, at) = vault
        .store
        .write(move |tx| {
            let found = operators::find_pat_by_id(tx, organization, id)?;
            let (pat, at) = found.filter(|(pat, _)| is_visible(pat, caller, role)).ok_or_else(missing)?;
            if_match.check(&view(&pat, at, now))?;
            if !operators::revoke_pat(tx, id, now)? {
                return Ok((pat, at));
            }
            append_event(tx, &about(event.clone(), &pat).prepare())?;
            Ok((Pat { revoked_at: Some(now), ..pat }, at))
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&pat, at, now)))
}
