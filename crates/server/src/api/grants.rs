//! Grants.

use grantd_domain::audit::Kind;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{App, Behind, Grant, GrantStatus, Principal, Tenant, Wanted, check_text};
use grantd_store::grants::{self, GrantFilter, Listed, On};
use grantd_store::{Tx, append_event, apps, providers, secrets};
use grantd_wire::api::{
    self, GrantCreate, GrantRevoke, GrantUpdate, GrantsRevoke, ListQuery, RevokeFailure, RevokedGrant, RevokedGrants,
    TenantBinding,
};
use grantd_wire::ids::{CredentialId, GrantId, GroupId, UserId};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Value, json};

use super::version::shown;
use super::{Request, active, page};
use crate::answer::{Answer, json as answer, of_store};
use crate::flow;
use crate::parse;
use crate::vault::Vault;

fn view(Listed { grant, credential, behind, upstream }: &Listed, now: TimeMs) -> api::Grant {
    let secret = match behind {
        Behind::Secret(secret) => Some(secret),
        Behind::Provider(_) => None,
    };
    let account = credential.account();
    let (reason, revoked_at) = match &grant.status {
        GrantStatus::Active => (None, None),
        GrantStatus::Revoked { at, reason } => (reason.clone(), Some(*at)),
    };
    let (tenant, tenant_exempt) = match &grant.tenant {
        Tenant::Bound(value) => (Some(value.clone()), false),
        Tenant::Exempt => (None, true),
        Tenant::Unbound => (None, false),
    };
    let (user_id, group_id) = match grant.principal {
        Principal::System => (None, None),
        Principal::User(user) => (Some(user.to_string()), None),
        Principal::Group(group) => (None, Some(group.to_string())),
    };
    api::Grant {
        grant_id: grant.id.to_string(),
        app_id: grant.app_id.to_string(),
        grant_kind: if secret.is_some() { "managed_secret" } else { "oauth" }.to_owned(),
        provider_id: behind.provider_id().to_owned(),
        managed_secret_id: secret.map(|secret| secret.id.to_string()),
        managed_secret_name: secret.map(|secret| secret.name.clone()),
        account_identifier: account.map(|account| account.identifier.clone()),
        account_name: account.and_then(|account| account.name.clone()),
        scopes: account.map(|account| account.scopes.clone()),
        token_expires_at: account.and_then(|account| account.expiry.at()),
        needs_reconnect: credential.needs_reconnect(now),
        credential_id: credential.id.to_string(),
        principal_type: grant.principal.kind().to_owned(),
        user_id,
        group_id,
        label: grant.label.clone(),
        status: grant.status_at(now).to_owned(),
        reason,
        revoked_upstream: revoked_at.map(|_| flow::grants::revoked_upstream(behind, upstream.as_deref()).to_owned()),
        tenant,
        tenant_exempt,
        allow_any_host: behind.any_host(),
        expires_at: grant.expires_at,
        last_used_at: grant.last_used_at,
        created_at: grant.created_at,
        revoked_at,
        version: grant.version,
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    filtered(vault, request, app, filter(query, limit, offset)?).await
}

fn filter(query: ListQuery, limit: i64, offset: i64) -> Result<GrantFilter, Error> {
    if query.status.as_deref().is_some_and(|s| !["active", "expired", "revoked"].contains(&s)) {
        return Err(Error::invalid("status", "must be active, expired or revoked"));
    }
    let upstream = match query.upstream.as_deref() {
        None => None,
        Some("pending") => Some("pending"),
        Some("yes") => Some("done"),
        Some("failed") => Some("failed"),
        Some(_) => return Err(Error::invalid("upstream", "must be pending, yes or failed")),
    };
    let user = match query.user.as_deref().map(UserId::parse) {
        None => None,
        Some(Some(user)) => Some(user),
        Some(None) => return Err(Error::invalid("user", "must be the id of a user")),
    };
    let ListQuery { status, provider, search, .. } = query;
    Ok(GrantFilter { status, provider, search, upstream, user, limit, offset, ..GrantFilter::default() })
}

pub async fn list_of_secret(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let (name, app_id) = (request.object(), app.id);
    let found = vault.store.read(move |tx| secrets::find(tx, app_id, &name)).await.map_err(of_store)?;
    let secret = found.ok_or(Code::SecretNotFound)?;
    let filter = GrantFilter { secret: Some(secret.id), ..filter(query, limit, offset)? };
    filtered(vault, request, app, filter).await
}

async fn filtered(vault: &Vault, request: &Request, app: &App, filter: GrantFilter) -> Result<Answer, Error> {
    let (app, now, limit, offset) = (app.id, request.source.now, filter.limit, filter.offset);
    let (found, total) = vault.store.read(move |tx| grants::list(tx, app, &filter, now)).await.map_err(of_store)?;
    Ok(page(found.iter().map(|listed| view(listed, now)).collect(), total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let id = GrantId::parse(&request.object()).ok_or(Code::GrantNotFound)?;
    let app = app.id;
    let found = vault.store.read(move |tx| grants::find(tx, app, id)).await.map_err(of_store)?;
    Ok(shown(200, &view(&found.ok_or(Code::GrantNotFound)?, request.source.now)))
}

/// Seconds from now as a moment.
pub(super) fn ends(seconds: Option<i64>, now: TimeMs) -> Result<Option<TimeMs>, Error> {
    match seconds {
        Some(s) if !(1..=limits::LIFETIME_SECONDS_MAX).contains(&s) => {
            Err(Error::impossible("expires_in_seconds", "must be between 1 second and ten years"))
        }
        seconds => Ok(seconds.map(|s| now.plus_seconds(s))),
    }
}

fn check_tenant(value: &str) -> Result<(), Error> {
    if value.is_empty() || value.chars().count() > limits::TENANT_CHARS_MAX {
        return Err(Error::impossible("tenant", &format!("must be 1-{} characters", limits::TENANT_CHARS_MAX)));
    }
    Ok(())
}

pub async fn create(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: GrantCreate = parse::json(&request.body)?;
    let wanted = Wanted::parse(&ask.principal_type, ask.user.as_deref(), ask.group.as_deref(), ask.idp.as_deref())?;
    active(app)?;
    if let Some(label) = &ask.label {
        check_text("label", label, limits::LABEL_CHARS_MAX)?;
    }
    if let Some(tenant) = &ask.tenant {
        check_tenant(tenant)?;
    }
    let now = request.source.now;
    let (id, group_id) = (new_uuid(&*vault.env), GroupId::from_uuid(new_uuid(&*vault.env)));
    let grant = Grant {
        id: GrantId::from_uuid(id),
        app_id: app.id,
        credential_id: CredentialId::from_uuid(id),
        principal: Principal::System,
        label: ask.label,
        status: GrantStatus::Active,
        tenant: ask.tenant.map_or(Tenant::Exempt, Tenant::Bound),
        expires_at: ends(ask.expires_in_seconds, now)?,
        created_at: now,
        last_used_at: None,
        version: 1,
    };
    let drafts = request.drafts(vault, app, &[Kind::GrantCreated]);
    let (name, app) = (request.object(), app.id);
    let insert = move |tx: &mut Tx<'_>| {
        let secret = secrets::find(tx, app, &name)?.ok_or(Code::SecretNotFound)?;
        let principal = flow::grants::principal(tx, app, &wanted, (group_id, now))?;
        let grant = flow::grants::create(tx, &secret, Grant { principal, ..grant.clone() }, &drafts)?;
        let listed = grants::find(tx, app, grant.id)?.ok_or(Code::Internal)?;
        Ok(view(&listed, now))
    };
    request.once(vault, insert).await
}

pub async fn update(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: GrantUpdate = parse::json(&request.body)?;
    let id = GrantId::parse(&request.object()).ok_or(Code::GrantNotFound)?;
    let now = request.source.now;
    if let Some(label) = ask.label.as_deref().filter(|l| !l.is_empty()) {
        check_text("label", label, limits::LABEL_CHARS_MAX)?;
    }
    if ask.tenant.is_some() {
        request.admin_only("re-bind a grant to another tenant")?;
    }
    if let Some(TenantBinding::Value(value)) = &ask.tenant {
        check_tenant(value)?;
    }
    let expires_at = ends(ask.expires_in_seconds, now)?;
    if ask.no_expiry && expires_at.is_some() {
        return Err(Error::impossible("no_expiry", "cannot be set together with expires_in_seconds"));
    }
    let drafts = request.drafts(vault, app, &[Kind::GrantUpdated]);
    let (app, if_match) = (app.id, request.if_match.clone());
    let listed = vault
        .store
        .write(move |tx| {
            let listed = grants::find(tx, app, id)?.ok_or(Code::GrantNotFound)?;
            if_match.check(&view(&listed, now))?;
            let Listed { grant: old, behind, .. } = listed;
            if old.status != GrantStatus::Active {
                return Err(Error::new(Code::Conflict)
                    .message("The grant is revoked, and stays so. Issue a new one.")
                    .into());
            }
            let mut grant = old.clone();
            if let Some(label) = &ask.label {
                grant.label = Some(label.clone()).filter(|l| !l.is_empty());
            }
            grant.expires_at = if ask.no_expiry { None } else { expires_at.or(grant.expires_at) };
            match &ask.tenant {
                None => {}
                Some(TenantBinding::Value(value)) => grant.tenant = Tenant::Bound(value.clone()),
                Some(TenantBinding::Clear) => {
                    // A managed secret's grant without a binding is exempt: one shared key serves all tenants.
                    let is_account = matches!(behind, Behind::Provider(_));
                    grant.tenant = if is_account { Tenant::Unbound } else { Tenant::Exempt };
                }
                Some(TenantBinding::Exempt) => grant.tenant = Tenant::Exempt,
            }
            grants::update(tx, &grant, old.version, now)?;
            apps::raise_epoch(tx, app)?;
            let mut updated = drafts.of(Kind::GrantUpdated).grant(id).provider(behind.provider_id());
            for (field, before, after) in changes(&old, &grant) {
                updated = updated.changed(field, before, after);
            }
            append_event(tx, &updated.prepare())?;
            grants::find(tx, app, id)?.ok_or_else(|| Code::Internal.into())
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&listed, now)))
}

/// What an update changed. Of tenants only whether there is a binding: the value may be personal, and the core is kept for ever.
fn changes(old: &Grant, new: &Grant) -> Vec<(&'static str, Value, Value)> {
    let time = |t: Option<TimeMs>| t.map_or(Value::Null, |t| json!(t.to_string()));
    let tenant = |t: &Tenant| match t {
        Tenant::Bound(_) => json!("bound"),
        Tenant::Exempt => json!("exempt"),
        Tenant::Unbound => json!("unbound"),
    };
    let mut changes = Vec::new();
    if old.label != new.label {
        changes.push(("label", json!(old.label), json!(new.label)));
    }
    if old.expires_at != new.expires_at {
        changes.push(("expires_at", time(old.expires_at), time(new.expires_at)));
    }
    if old.tenant != new.tenant {
        changes.push(("tenant", tenant(&old.tenant), tenant(&new.tenant)));
    }
    changes
}

pub async fn revoke(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: GrantRevoke = if request.body.is_empty() { GrantRevoke::default() } else { parse::json(&request.body)? };
    parse::check_chars("reason", ask.reason.as_deref(), limits::REASON_CHARS_MAX)?;
    let id = GrantId::parse(&request.object()).ok_or(Code::GrantNotFound)?;
    let drafts = request.drafts(vault, app, flow::grants::REVOKE_KINDS);
    let (app, now, if_match) = (app.id, request.source.now, request.if_match.clone());
    let revoked = vault
        .store
        .write(move |tx| {
            let listed = grants::find(tx, app, id)?.ok_or(Code::GrantNotFound)?;
            if_match.check(&view(&listed, now))?;
            flow::grants::revoke(tx, app, id, ask.reason.as_deref(), now, &drafts)
        })
        .await
        .map_err(of_store)?;
    let body = RevokedGrant {
        grant_id: id.to_string(),
        revoked_at: revoked.at,
        revoked_upstream: revoked.upstream.to_owned(),
        credential_destroyed: revoked.credential_destroyed,
    };
    Ok(answer(200, &body))
}

/// Revokes a page of what is named. To go on after an interruption needs nothing but to ask again.
pub async fn revoke_many(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: GrantsRevoke = parse::json(&request.body)?;
    parse::check_chars("reason", ask.reason.as_deref(), limits::REASON_CHARS_MAX)?;
    let named = [ask.provider.is_some(), ask.managed_secret.is_some(), ask.all];
    if named.iter().filter(|is_named| **is_named).count() != 1 {
        return Err(Error::invalid(
            "provider",
            "or managed_secret must say whose grants, or all must be true: one of them",
        ));
    }
    let last = ask.cursor.as_deref().map(|cursor| {
        GrantId::parse(cursor).ok_or_else(|| Error::invalid("cursor", "must be the next_cursor of an earlier answer"))
    });
    let (app_id, last) = (app.id, last.transpose()?);
    let (provider, secret) = (ask.provider, ask.managed_secret);
    let read = move |tx: &mut Tx<'_>| {
        let on = match (&provider, &secret) {
            (Some(name), _) => {
                On::Provider(providers::find(tx, app_id, name)?.ok_or_else(super::providers::missing)?.id)
            }
            (None, Some(name)) => On::Secret(secrets::find(tx, app_id, name)?.ok_or(Code::SecretNotFound)?.id),
            (None, None) => On::App,
        };
        let total = if last.is_none() { Some(grants::count_unrevoked(tx, app_id, on)?) } else { None };
        // One more than is revoked, to know whether there is another page.
        Ok((total, grants::page_unrevoked(tx, app_id, on, last, limits::REVOKE_PAGE + 1)?))
    };
    let (total, mut page) = vault.store.read(read).await.map_err(of_store)?;
    let bound = usize::try_from(limits::REVOKE_PAGE).unwrap_or(usize::MAX);
    let has_more = page.len() > bound;
    page.truncate(bound);
    let next_cursor = page.last().filter(|_| has_more).map(ToString::to_string);
    let drafts = || request.drafts(vault, app, flow::grants::REVOKE_KINDS);
    let meant = page.into_iter().map(|grant| (grant, drafts())).collect();
    let many = flow::grants::revoke_many(vault, app_id, meant, ask.reason, request.source.now).await?;
    let failed = many.failed.into_iter().map(|(grant, error)| RevokeFailure {
        grant_id: grant.to_string(),
        error: error.code.as_str().to_owned(),
        message: error.message,
    });
    let body = RevokedGrants {
        total,
        done: many.done,
        failed: failed.collect(),
        credentials_destroyed: many.credentials_destroyed,
        next_cursor,
        has_more,
    };
    Ok(answer(200, &body))
}
