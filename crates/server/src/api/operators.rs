//! Operators: who administers, and with which role. Only an admin gets here.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::env::new_uuid;
use grantd_domain::operator::email;
use grantd_store::operators::{self, Operator, Role};
use grantd_store::{Tx, append_event, passkeys, sign_in_methods, sso};
use grantd_wire::api::{self, ListQuery, LoginLink, OperatorCreate, OperatorUpdate};
use grantd_wire::ids::OperatorId;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::Value;

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, json, of_store};
use crate::login::{StoredLink, url};
use crate::parse;
use crate::vault::Vault;

fn view(operator: &Operator, created_at: TimeMs) -> api::Operator {
    api::Operator {
        id: operator.id.to_string(),
        email: operator.email.clone(),
        role: operator.role.as_str().to_owned(),
        created_at,
        disabled_at: operator.disabled_at,
    }
}

/// The role a text names.
pub fn role(text: &str) -> Result<Role, Error> {
    Role::parse(text).ok_or_else(|| Error::impossible("role", "must be viewer, developer or admin"))
}

fn missing() -> Error {
    Error::new(Code::NotFound).message("There is no such operator.").hint("`grantd operators list` shows them.")
}

pub async fn list(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see operators")?;
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let organization = request.operator.organization_id;
    let (found, total) = vault
        .store
        .read(move |tx| operators::list(tx, organization, query.search.as_deref(), limit, offset))
        .await
        .map_err(of_store)?;
    Ok(page(found.iter().map(|(operator, at)| view(operator, *at)).collect(), total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    request.organization_wide("see operators")?;
    let id = OperatorId::parse(&request.params[0]).ok_or_else(missing)?;
    let organization = request.operator.organization_id;
    let found = vault.store.read(move |tx| operators::find(tx, organization, id)).await.map_err(of_store)?;
    let (operator, at) = found.ok_or_else(missing)?;
    Ok(shown(200, &view(&operator, at)))
}

pub async fn create(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let owner = request.organization_wide("create operators")?;
    let ask: OperatorCreate = parse::json(&request.body)?;
    let now = request.source.now;
    let operator = Operator {
        id: OperatorId::from_uuid(new_uuid(&*vault.env)),
        organization_id: request.operator.organization_id,
        email: email(&ask.email)?,
        role: role(&ask.role)?,
        disabled_at: None,
    };
    let event = about(request.event(vault, owner, Kind::OperatorCreated), &operator);
    let event = event.changed("role", Value::Null, operator.role.as_str()).prepare();
    let insert = move |tx: &mut Tx<'_>| {
        if operators::is_known(tx, operator.organization_id, &operator.email)? {
            return Err(Error::new(Code::NameTaken)
                .message("There is an operator with this e-mail address. Change that one, or use another address.")
                .into());
        }
        if operators::count(tx, operator.organization_id)? >= limits::OPERATORS_MAX {
            let message = format!(
                "An organization has at most {} operators. Enable one that is disabled instead.",
                limits::OPERATORS_MAX
            );
            return Err(Error::new(Code::TooMany).message(message).into());
        }
        operators::insert(tx, &operator, now)?;
        append_event(tx, &event)?;
        Ok(view(&operator, now))
    };
    request.once(vault, insert).await
}

/// An event that names the operator. Who that is may be erased.
fn about(event: Event, operator: &Operator) -> Event {
    event.core_id("operator_id", operator.id).private("account", Some(operator.email.clone()))
}

/// Changes role, or locks out and lets in again. The organization keeps an admin who can sign in.
pub async fn update(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let owner = request.organization_wide("change operators")?;
    let ask: OperatorUpdate = parse::json(&request.body)?;
    let new_role = ask.role.as_deref().map(role).transpose()?;
    let id = OperatorId::parse(&request.params[0]).ok_or_else(missing)?;
    let (organization, now) = (request.operator.organization_id, request.source.now);
    let event = request.event(vault, owner, Kind::OperatorUpdated);
    let if_match = request.if_match.clone();
    let (operator, created_at) = vault
        .store
        .write(move |tx| {
            let (old, created_at) = operators::find(tx, organization, id)?.ok_or_else(missing)?;
            if_match.check(&view(&old, created_at))?;
            let mut new = old.clone();
            new.role = new_role.unwrap_or(old.role);
            new.disabled_at = match ask.disabled {
                None => old.disabled_at,
                Some(false) => None,
                Some(true) => old.disabled_at.or(Some(now)),
            };
            let mut event = about(event.clone(), &old);
            if old.role != new.role {
                event = event.changed("role", old.role.as_str(), new.role.as_str());
            }
            if old.disabled_at.is_some() != new.disabled_at.is_some() {
                event = event.changed("disabled", old.disabled_at.is_some(), new.disabled_at.is_some());
            }
            if old.role == new.role && old.disabled_at == new.disabled_at {
                return Ok((old, created_at));
            }
            operators::update(tx, &new)?;
            if operators::count_active_admins(tx, organization)? == 0 {
                let message = "This is the last admin who is not disabled. Make another one first.";
                return Err(Error::new(Code::InUse).message(message).into());
            }
            append_event(tx, &event.prepare())?;
            Ok((new, created_at))
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&operator, created_at)))
}

/// Makes a link that signs an operator in to the portal once: for one who was just created, or cannot come in.
pub async fn login_link(vault: &Vault, request: &Request) -> Result<Answer, Error> {
    let owner = request.organization_wide("let operators in")?;
    vault.check_other_ways()?;
    let id = OperatorId::parse(&request.params[0]).ok_or_else(missing)?;
    let organization = request.operator.organization_id;
    let issuer = vault.settings.sso.as_ref().map(|sso| sso.issuer.clone());
    let (token, stored) = StoredLink::new(&*vault.env, request.source.now);
    let expires_at = stored.expires_at;
    let event = request.event(vault, owner, Kind::LoginLinkCreated);
    let insert = move |tx: &mut Tx<'_>| {
        let (operator, _) = operators::find(tx, organization, id)?.ok_or_else(missing)?;
        if operator.disabled_at.is_some() {
            let message = "The operator is disabled. Enable them first.";
            return Err(Error::new(Code::Conflict).message(message).into());
        }
        // A link asks for neither password, code, passkey nor issuer: with one, an admin would be whoever has set them up.
        let is_set_up = sign_in_methods::find_password(tx, id)?.is_some()
            || passkeys::count(tx, id)? > 0
            || sso::find_binding(tx, id)?.is_some_and(|binding| Some(binding.issuer) == issuer);
        if is_set_up {
            let message =
                "The operator has set up how they sign in. Disable and enable them first: that takes it away.";
            return Err(Error::new(Code::Conflict).message(message).into());
        }
        stored.insert(tx, id)?;
        let event = about(event.clone(), &operator).changed("expires_at", Value::Null, expires_at.to_string());
        append_event(tx, &event.prepare())?;
        Ok(operator)
    };
    let operator = vault.store.write(insert).await.map_err(of_store)?;
    let url = url(&vault.settings.public_url, &token);
    Ok(json(200, &LoginLink { operator_id: id.to_string(), email: operator.email, url, expires_at }))
}
