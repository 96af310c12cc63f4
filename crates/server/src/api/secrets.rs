//! Managed secrets: stored and rotated, never read again.

use grantd_domain::audit::Kind;
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::Rules;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{
    App, Credential, CredentialOf, CredentialState, Grant, GrantStatus, ManagedSecret, Principal, Tenant,
};
use grantd_domain::inject::{self, Plan};
use grantd_domain::new_secret::{self, NewSecret};
use grantd_domain::template;
use grantd_store::grants::GrantFilter;
use grantd_store::{Tx, append_event, apps, crash, credentials, grants, secrets};
use grantd_wire::api::{self, AllowedHosts, ListQuery, SecretCreate, SecretRotate};
use grantd_wire::ids::{AppId, CredentialId, GenerationId, GrantId, SecretId};
use grantd_wire::{Code, Error, limits};
use serde_json::json;

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, json as answer, of_store};
use crate::flow::{self, Drafts};
use crate::parse;
use crate::vault::Vault;

/// A secret as it is stored: its living credential, and the template it was made from.
type Stored = (ManagedSecret, Option<Credential>, Option<String>);

fn load(tx: &mut Tx<'_>, app: AppId, id_or_slug: &str) -> grantd_store::Result<Stored> {
    let secret = secrets::find(tx, app, id_or_slug)?.ok_or(Code::SecretNotFound)?;
    let credential = credentials::find_living(tx, app, secret.id)?;
    let template = secrets::find_template(tx, app, secret.id)?;
    Ok((secret, credential, template))
}

fn view_of((secret, credential, template): &Stored) -> api::Secret {
    view(secret, credential.as_ref(), template.clone())
}

fn view(secret: &ManagedSecret, credential: Option<&Credential>, template: Option<String>) -> api::Secret {
    api::Secret {
        id: secret.id.to_string(),
        slug: secret.slug.clone(),
        name: secret.name.clone(),
        template,
        credential_type: secret.credential_type,
        injection_header: secret.header.clone(),
        injection_format: secret.format.clone(),
        injections: secret.injections.clone(),
        fields: secret.field_names.clone(),
        allowed_hosts: secret.hosts.iter().map(ToString::to_string).collect(),
        allow_any_host: secret.any_host,
        credential_id: credential.map(|c| c.id.to_string()),
        token_generation: credential.map(|c| c.generation.to_string()),
        created_at: secret.created_at,
        rotated_at: credential.map(|c| c.updated_at).filter(|at| *at > secret.created_at),
        version: secret.version,
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let app = app.id;
    let (items, total) = vault
        .store
        .read(move |tx| {
            let (found, total) = secrets::list(tx, app, query.search.as_deref(), limit, offset)?;
            let mut items = Vec::with_capacity(found.len());
            for secret in &found {
                let template = secrets::find_template(tx, app, secret.id)?;
                items.push(view(secret, credentials::find_living(tx, app, secret.id)?.as_ref(), template));
            }
            Ok((items, total))
        })
        .await
        .map_err(of_store)?;
    Ok(page(items, total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app) = (request.object(), app.id);
    let stored = vault.store.read(move |tx| load(tx, app, &name)).await.map_err(of_store)?;
    Ok(shown(200, &view_of(&stored)))
}

pub async fn create(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let mut ask: SecretCreate = parse::json(&request.body)?;
    let new = new_secret::plan(&mut ask)?;
    if ask.allow_any_host {
        request.admin_only("store a secret that may go to any host")?;
    }
    let (env, now, template) = (&*vault.env, request.source.now, new.template);
    let secret = planned(request, app, &ask, new, SecretId::from_uuid(new_uuid(env)));
    let value = SecretValue::new(ask.value, ask.fields);
    let id = CredentialId::from_uuid(new_uuid(env));
    let credential = Credential {
        id,
        app_id: app.id,
        of: CredentialOf::Secret(secret.id),
        user_id: None,
        generation: GenerationId::from_uuid(new_uuid(env)),
        version: 1,
        state: vault.keys.seal(env, app.id, id, 1, &value.text()).await?,
        updated_at: now,
    };
    drop(value);
    crash::step("secret.sealed");
    let grant = Grant {
        id: GrantId::from_uuid(new_uuid(env)),
        app_id: app.id,
        credential_id: id,
        principal: Principal::System,
        label: None,
        status: GrantStatus::Active,
        tenant: Tenant::Exempt,
        expires_at: None,
        created_at: now,
        last_used_at: None,
        version: 1,
    };
    let drafts = request.drafts(vault, app, &[Kind::SecretCreated, Kind::GrantCreated]);
    let insert = move |tx: &mut Tx<'_>| {
        let mut secret = secret.clone();
        secrets::insert(tx, &mut secret)?;
        if let Some(template) = template {
            secrets::set_template(tx, secret.app_id, secret.id, template)?;
        }
        crash::step("secret.inserted");
        credentials::insert(tx, &credential)?;
        crash::step("secret.credential_inserted");
        grants::insert(tx, &grant)?;
        crash::step("secret.grant_inserted");
        let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
        let mut created = drafts
            .of(Kind::SecretCreated)
            .provider(&secret.slug)
            .credential(credential.id, credential.version)
            .changed("allowed_hosts", serde_json::Value::Null, json!(hosts))
            .changed("allow_any_host", serde_json::Value::Null, secret.any_host);
        if let Some(template) = template {
            created = created.changed("template", serde_json::Value::Null, template);
        }
        append_event(tx, &created.prepare())?;
        append_event(tx, &flow::grants::created_event(&drafts, &secret, &grant, credential.version).prepare())?;
        let secret = view(&secret, Some(&credential), template.map(str::to_owned));
        Ok(api::CreatedSecret { secret, grant_id: grant.id.to_string() })
    };
    request.once(vault, insert).await
}

/// The row of a secret that is to be stored.
fn planned(request: &Request, app: &App, ask: &SecretCreate, new: NewSecret, id: SecretId) -> ManagedSecret {
    let Plan { header, format, injections } = new.plan;
    ManagedSecret {
        id,
        app_id: app.id,
        slug: new.slug,
        name: ask.name.clone(),
        credential_type: new.credential_type,
        header,
        format,
        injections,
        field_names: ask.fields.keys().cloned().collect(),
        hosts: new.hosts.0,
        any_host: ask.allow_any_host,
        created_at: request.source.now,
        version: 1,
    }
}

fn rules(texts: &[String]) -> Result<Rules, Error> {
    Rules::parse_all(texts).map_err(Error::from)
}

/// What a rotation will store, decided outside the write because sealing is.
struct Rotation {
    secret: ManagedSecret,
    old: Option<Credential>,
    new: Credential,
    field_names: Vec<String>,
}

pub async fn rotate(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: SecretRotate = parse::json(&request.body)?;
    let rotation = prepare_rotation(vault, request, app, ask).await?;
    let drafts = request.drafts(vault, app, &[Kind::CredentialRotated]);
    let (now, if_match) = (request.source.now, request.if_match.clone());
    let store = move |tx: &mut Tx<'_>| {
        let Rotation { secret, old, new, field_names } = &rotation;
        // Not of a secret that was deleted meanwhile.
        let living = load(tx, secret.app_id, &secret.id.to_string())?;
        if_match.check(&view_of(&living))?;
        match old {
            Some(old) => credentials::update(tx, new, old.version)?,
            None => {
                // Only one new credential may follow a destroyed one.
                if living.1.is_some() {
                    return Err(Code::Conflict.into());
                }
                credentials::insert(tx, new)?;
            }
        }
        crash::step("secret.rotated");
        if *field_names != secret.field_names {
            secrets::set_field_names(tx, secret, field_names, now)?;
        }
        apps::raise_epoch(tx, secret.app_id)?;
        let rotated = drafts.of(Kind::CredentialRotated).provider(&secret.slug).credential(new.id, new.version);
        append_event(tx, &rotated.prepare())?;
        Ok(view_of(&load(tx, secret.app_id, &secret.id.to_string())?))
    };
    request.once(vault, store).await
}

async fn prepare_rotation(vault: &Vault, request: &Request, app: &App, ask: SecretRotate) -> Result<Rotation, Error> {
    let (env, name, app_id) = (&*vault.env, request.object(), app.id);
    let (secret, old, template) = vault.store.read(move |tx| load(tx, app_id, &name)).await.map_err(of_store)?;
    let value = renewed(vault, ask, &secret, old.as_ref(), template.as_deref()).await?;
    let plan =
        Plan { header: secret.header.clone(), format: secret.format.clone(), injections: secret.injections.clone() };
    inject::check_values(secret.credential_type, &plan, value.value(), value.fields())?;
    let names: Vec<&str> = value.fields().keys().map(String::as_str).collect();
    inject::check_signable(secret.credential_type, &names, &secret.hosts, secret.any_host)?;
    let field_names = value.fields().keys().cloned().collect();
    let (id, version) =
        old.as_ref().map_or_else(|| (CredentialId::from_uuid(new_uuid(env)), 1), |old| (old.id, old.version + 1));
    let state: CredentialState = vault.keys.seal(env, app.id, id, version, &value.text()).await?;
    let new = Credential {
        id,
        app_id: app.id,
        of: CredentialOf::Secret(secret.id),
        user_id: None,
        generation: GenerationId::from_uuid(new_uuid(env)),
        version,
        state,
        updated_at: request.source.now,
    };
    Ok(Rotation { secret, old, new, field_names })
}

/// The new value with its fields: those given, else those kept, completed from the template.
async fn renewed(
    vault: &Vault,
    ask: SecretRotate,
    secret: &ManagedSecret,
    old: Option<&Credential>,
    template: Option<&str>,
) -> Result<SecretValue, Error> {
    let template = template.and_then(template::find);
    let keeps_fields = ask.fields.is_none() && !secret.field_names.is_empty();
    let kept = match old.filter(|old| matches!(old.state, CredentialState::Ok { .. })) {
        Some(old) if keeps_fields || template.is_some() => {
            let kept = vault.keys.open(old).await?;
            Some(SecretValue::parse(&kept).ok_or_else(|| Error::new(Code::Internal))?)
        }
        _ => None,
    };
    let mut fields = ask.fields.unwrap_or_default();
    if keeps_fields {
        let kept =
            kept.as_ref().ok_or_else(|| Error::impossible("fields", "the stored fields are gone; give them again"))?;
        fields.clone_from(kept.fields());
    }
    let mut value = SecretValue::new(ask.value, fields);
    if let Some(template) = template {
        let old = kept.as_ref().map(|kept| (kept.value(), kept.fields()));
        let (new, fields) = value.parts_mut();
        template.refill(new, fields, old, &Rules(secret.hosts.clone()))?;
    }
    Ok(value)
}

pub async fn set_hosts(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: AllowedHosts = parse::json(&request.body)?;
    let hosts = rules(&ask.allowed_hosts)?;
    if hosts.0.is_empty() {
        return Err(Error::impossible("allowed_hosts", "name at least one host; to stop all use, revoke the grants"));
    }
    let (name, app_id) = (request.object(), app.id);
    let drafts = request.drafts(vault, app, &[Kind::SecretUpdated]);
    let if_match = request.if_match.clone();
    let stored = vault
        .store
        .write(move |tx| {
            let stored = load(tx, app_id, &name)?;
            if_match.check(&view_of(&stored))?;
            let (secret, ..) = stored;
            let names: Vec<&str> = secret.field_names.iter().map(String::as_str).collect();
            inject::check_signable(secret.credential_type, &names, &hosts.0, false)?;
            secrets::set_hosts(tx, &secret, &hosts.0)?;
            apps::raise_epoch(tx, app_id)?;
            let texts = |rules: &[_]| json!(rules.iter().map(ToString::to_string).collect::<Vec<String>>());
            let mut updated = drafts.of(Kind::SecretUpdated).provider(&secret.slug).changed(
                "allowed_hosts",
                texts(&secret.hosts),
                texts(&hosts.0),
            );
            if secret.any_host {
                updated = updated.changed("allow_any_host", true, false);
            }
            append_event(tx, &updated.prepare())?;
            load(tx, app_id, &name)
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view_of(&stored)))
}

/// Who can use a secret now.
pub async fn access(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let (name, app, now) = (request.object(), app.id, request.source.now);
    let (found, total) = vault
        .store
        .read(move |tx| {
            let secret = secrets::find(tx, app, &name)?.ok_or(Code::SecretNotFound)?;
            let status = Some("active".to_owned());
            let filter = GrantFilter { secret: Some(secret.id), status, limit, offset, ..GrantFilter::default() };
            grants::list(tx, app, &filter, now)
        })
        .await
        .map_err(of_store)?;
    let access = |grant: &Grant| api::SecretAccess {
        grant_id: grant.id.to_string(),
        principal_type: grant.principal.kind().to_owned(),
        label: grant.label.clone(),
        tenant: match &grant.tenant {
            Tenant::Bound(value) => Some(value.clone()),
            Tenant::Exempt | Tenant::Unbound => None,
        },
        expires_at: grant.expires_at,
        last_used_at: grant.last_used_at,
        created_at: grant.created_at,
    };
    Ok(page(found.iter().map(|listed| access(&listed.grant)).collect(), total, limit, offset))
}

pub async fn delete(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let drafts = request.drafts(vault, app, flow::secrets::KINDS);
    let revokes: Vec<Drafts> =
        (0..limits::SIBLINGS_MAX).map(|_| request.drafts(vault, app, flow::grants::REVOKE_KINDS)).collect();
    let before = revoke_beyond_one_write(vault, request, app).await?;
    let (name, app, now) = (request.object(), app.id, request.source.now);
    let if_match = request.if_match.clone();
    let (secret, deleted) = vault
        .store
        .write(move |tx| {
            let stored = load(tx, app, &name)?;
            if_match.check(&view_of(&stored))?;
            let (secret, ..) = stored;
            let deleted = flow::secrets::delete(tx, &secret, now, &drafts, &revokes)?;
            Ok((secret, deleted))
        })
        .await
        .map_err(of_store)?;
    let body = api::DeletedSecret {
        id: secret.id.to_string(),
        slug: secret.slug,
        deleted_at: now,
        grants_revoked: before + deleted.grants_revoked,
        credential_destroyed: deleted.credential_destroyed,
    };
    Ok(answer(200, &body))
}

/// Users may have given any number of keys for a secret: grants that one write cannot end are ended before it, in writes of their own.
/// A deletion that is cut off here is made again.
async fn revoke_beyond_one_write(vault: &Vault, request: &Request, app: &App) -> Result<i64, Error> {
    let (name, app_id) = (request.object(), app.id);
    let (if_match, now) = (request.if_match.clone(), request.source.now);
    let look = move |tx: &mut Tx<'_>| {
        let stored = load(tx, app_id, &name)?;
        if_match.check(&view_of(&stored))?;
        grants::page_unrevoked(tx, app_id, grants::On::Secret(stored.0.id), None, 2 * limits::SIBLINGS_MAX)
    };
    let mut revoked = 0;
    loop {
        let living = vault.store.read(look.clone()).await.map_err(of_store)?;
        let beyond = living.len().saturating_sub(usize::try_from(limits::SIBLINGS_MAX).unwrap_or(usize::MAX));
        if beyond == 0 {
            return Ok(revoked);
        }
        let drafts = || request.drafts(vault, app, flow::grants::REVOKE_KINDS);
        let meant = living[..beyond].iter().map(|grant| (*grant, drafts())).collect();
        let why = "its secret was deleted".to_owned();
        let many = flow::grants::revoke_many(vault, app_id, meant, Some(why), now).await?;
        if let Some((_, error)) = many.failed.into_iter().next() {
            return Err(error);
        }
        revoked += many.done;
    }
}
