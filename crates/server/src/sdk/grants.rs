//! Grants through `/sdk`: list, revoke, and a new one on a managed secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use grantd_domain::account::{Account, AppProvider};
use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::grant::{
    Behind, Credential, Grant, GrantStatus, Principal as Owner, Tenant, check_text, expires_at,
};
use grantd_domain::identity::{IdentityProvider, UserStatus};
use grantd_store::grants::{GrantFilter, Listed};
use grantd_store::hot::use_nonce;
use grantd_store::{Tx, credentials, identity_providers, secrets, users};
use grantd_wire::ids::{AppId, CredentialId, GrantId, GroupId, IdentityProviderId, UserId};
use grantd_wire::sdk::{
    GrantsListRequest, GrantsPage, Lifetime, ListedGrant, ManagedSecretGrant, MintRequest, MintedGrant, OauthGrant,
    Principal, RevokeAnswer, RevokeRequest, SecretGrantAnswer, SecretGrantRequest, StoredPolicy,
};
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::{Map, Value};

use crate::answer::{Answer, json, of_store};
use crate::caller::Call;
use crate::flow::{self, Drafts, identity};
use crate::parse;
use crate::vault::Vault;

/// `POST /sdk/grants/list`.
pub async fn list(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    let ask: GrantsListRequest = parse::json(&call.body)?;
    let (limit, offset) = parse::page(Some(ask.limit), Some(ask.offset))?;
    let user = identity::of_call(vault, call, ask.user_token.as_deref()).await?;
    let filter = GrantFilter {
        user: user.map(|user| user.id),
        status: ask.status,
        provider: ask.provider_id,
        label: ask.label,
        account: ask.account,
        limit,
        offset,
        ..GrantFilter::default()
    };
    let (app, now) = (call.known.app.id, call.source.now);
    let (grants, total) = match call.narrowed_to("grants:read") {
        None => {
            vault.store.read(move |tx| grantd_store::grants::list(tx, app, &filter, now)).await.map_err(of_store)?
        }
        Some(ids) => {
            let ids: BTreeSet<GrantId> = ids.into_iter().map(GrantId::from_uuid).collect();
            vault.store.read(move |tx| named(tx, app, &ids, &filter, now)).await.map_err(of_store)?
        }
    };
    let has_more = offset + i64::try_from(grants.len()).unwrap_or(i64::MAX) < total;
    let grants = grants.iter().map(|listed| item(listed, now)).collect();
    Ok(json(200, &GrantsPage::<ListedGrant> { grants, total, limit, offset, has_more }))
}

/// A page of these grants only, newest first as every list. A key names at most `limits::SCOPES_MAX` of them.
fn named(
    tx: &mut Tx<'_>,
    app: AppId,
    ids: &BTreeSet<GrantId>,
    filter: &GrantFilter,
    now: TimeMs,
) -> grantd_store::Result<(Vec<Listed>, i64)> {
    let mut found = Vec::new();
    for id in ids.iter().rev() {
        let one = GrantFilter { grant: Some(*id), limit: 1, offset: 0, ..filter.clone() };
        found.extend(grantd_store::grants::list(tx, app, &one, now)?.0);
    }
    let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
    let (skip, take) = (usize::try_from(filter.offset).unwrap_or(0), usize::try_from(filter.limit).unwrap_or(0));
    Ok((found.into_iter().skip(skip).take(take).collect(), total))
}

fn item(Listed { grant, credential, behind, .. }: &Listed, now: TimeMs) -> ListedGrant {
    let secret = match behind {
        Behind::Secret(secret) => secret,
        Behind::Provider(provider) => return ListedGrant::Oauth(account_item(grant, credential, provider, now)),
    };
    ListedGrant::ManagedSecret(ManagedSecretGrant {
        grant_kind: "managed_secret".to_owned(),
        grant_id: grant.id.to_string(),
        managed_secret_id: secret.id.to_string(),
        managed_secret_slug: secret.slug.clone(),
        managed_secret_name: secret.name.clone(),
        status: grant.status_at(now).to_owned(),
        principal_type: grant.principal.kind().to_owned(),
        label: grant.label.clone(),
        account_identifier: None,
        grant_policy: None,
        expires_at: None,
        grant_expires_at: grant.expires_at,
        last_used_at: grant.last_used_at,
        created_at: grant.created_at,
        access_via: "ownership".to_owned(),
        depth: 0,
        delegable: false,
        credential_id: credential.id.to_string(),
        credential_kind: credential.kind().to_owned(),
    })
}

fn account_item(grant: &Grant, credential: &Credential, provider: &AppProvider, now: TimeMs) -> OauthGrant {
    let account = credential.account();
    OauthGrant {
        grant_kind: "oauth".to_owned(),
        grant_id: grant.id.to_string(),
        provider_id: provider.provider_id.clone(),
        status: grant.status_at(now).to_owned(),
        principal_type: grant.principal.kind().to_owned(),
        scopes: account.map(|account| account.scopes.clone()).unwrap_or_default(),
        account_identifier: account.map(|account| account.identifier.clone()),
        account_display_name: account.and_then(|account| account.name.clone()),
        label: grant.label.clone(),
        credential_id: credential.id.to_string(),
        api_base_url: account.and_then(Account::api_base_url),
        scope_mismatch: account.is_some_and(|account| account.scope_mismatch_at.is_some()),
        needs_reconnect: credential.needs_reconnect(now),
        expires_at: account.and_then(|account| account.expiry.at()),
        grant_expires_at: grant.expires_at,
        last_used_at: grant.last_used_at,
        created_at: grant.created_at,
        grant_policy: None,
        access_via: "ownership".to_owned(),
        depth: 0,
        delegable: false,
    }
}

/// `POST /sdk/oauth/grants/{id}/revoke`.
pub async fn revoke(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    let grant_id = GrantId::parse(&call.params[0]).ok_or(Code::GrantNotFound)?;
    call.check_scope_for("grants:write", &grant_id.to_string())?;
    let ask: RevokeRequest = if call.body.is_empty() { RevokeRequest::default() } else { parse::json(&call.body)? };
    parse::check_chars("reason", ask.reason.as_deref(), limits::REASON_CHARS_MAX)?;
    let user = identity::of_call(vault, call, ask.user_token.as_deref()).await?.map(|user| user.id);
    let (app, now, nonce) = (call.known.app.id, call.source.now, call.nonce);
    let event = call.event(vault, Kind::GrantRevoked, Outcome::Allowed);
    let event = user.map_or(event.clone(), |user| event.user(user));
    let drafts = Drafts::new(&*vault.env, &event, &[Kind::GrantRevoked, Kind::CredentialDestroyed]);
    let revoked = vault
        .store
        .write(move |tx| {
            use_nonce(tx, &nonce)?;
            if let Some(user) = user {
                check_owner(tx, app, grant_id, user)?;
            }
            flow::grants::revoke(tx, app, grant_id, ask.reason.as_deref(), now, &drafts)
        })
        .await
        .map_err(of_store)?;
    Ok(json(
        200,
        &RevokeAnswer {
            success: true,
            message: "The grant is revoked.".to_owned(),
            grant_id: grant_id.to_string(),
            revoked_at: revoked.at,
        },
    ))
}

/// A call for a user ends what is the user's own. What is another's, a group's or the app's is not there for it.
fn check_owner(tx: &mut Tx<'_>, app: AppId, grant: GrantId, user: UserId) -> grantd_store::Result<()> {
    let found = grantd_store::grants::find(tx, app, grant)?;
    let is_own = found.is_some_and(|listed| listed.grant.principal == Owner::User(user));
    if !is_own {
        return Err(Code::GrantNotFound.into());
    }
    // Suspended or gone since the token was looked at: the call was received before, and changes nothing any more.
    match grantd_store::users::find(tx, app, user)? {
        Some(user) if user.status == UserStatus::Active => Ok(()),
        _ => Err(Code::GrantNotFound.into()),
    }
}

/// `POST /sdk/managed-secrets/{id or slug}/grants`.
pub async fn create(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("grants:write")?;
    let ask: SecretGrantRequest = parse::json(&call.body)?;
    let now = call.source.now;
    let (owner, label, named_group) = match ask.principal {
        Principal::System { label } => (Owner::System, label, None),
        Principal::Agent { .. } => {
            return Err(Error::impossible("principal", "an agent's grant is made by delegation, not here"));
        }
        Principal::User { user_token, label } => {
            let user = identity::of_call(vault, call, Some(&user_token)).await?.ok_or(Code::Internal)?;
            (Owner::User(user.id), Some(label), None)
        }
        Principal::Group { external_group_id, idp_id, label } => {
            check_text("principal.external_group_id", &external_group_id, limits::SUBJECT_CHARS_MAX)?;
            let idp = idp(vault, call, &idp_id).await?;
            let id = GroupId::from_uuid(grantd_domain::env::new_uuid(&*vault.env));
            (Owner::Group(id), Some(label), Some((idp, external_group_id, id)))
        }
    };
    if let Some(label) = &label {
        check_text("principal.label", label, limits::LABEL_CHARS_MAX)?;
    }
    let expires_at = expires_at(ask.grant_policy, now)?;
    let wanted_credential = match ask.credential_id.as_deref() {
        Some(text) => Some(CredentialId::parse(text).ok_or(Code::GrantNotFound)?),
        None => None,
    };
    let secret_ref = parse::segment(&call.params[0]).ok_or(Code::SecretNotFound)?;
    let id = grantd_domain::env::new_uuid(&*vault.env);
    let (app, nonce) = (call.known.app.id, call.nonce);
    let event = call.event(vault, Kind::GrantCreated, Outcome::Allowed);
    let drafts = Drafts::new(&*vault.env, &event, &[Kind::GrantCreated]);
    let grant = vault
        .store
        .write(move |tx| {
            use_nonce(tx, &nonce)?;
            let secret = secrets::find(tx, app, &secret_ref)?.ok_or(Code::SecretNotFound)?;
            let mut principal = owner;
            if let Some((idp, external_id, id)) = &named_group {
                principal = Owner::Group(flow::grants::group_of(tx, idp, external_id, (*id, now))?);
            }
            if let Owner::User(user) = principal
                && users::find(tx, app, user)?.is_none_or(|user| user.status != UserStatus::Active)
            {
                return Err(Code::Conflict.into());
            }
            let grant = Grant {
                id: GrantId::from_uuid(id),
                app_id: app,
                credential_id: CredentialId::from_uuid(id),
                principal,
                label: label.clone(),
                status: GrantStatus::Active,
                tenant: Tenant::Exempt,
                expires_at,
                created_at: now,
                last_used_at: None,
                version: 1,
            };
            if let Some(wanted) = wanted_credential {
                let named = credentials::find(tx, app, wanted)?.filter(|named| named.is_of_secret(secret.id));
                if named.is_some_and(|named| named.user_id.is_some()) {
                    return Err(Code::EndUserCredentialNotAssignable.into());
                }
            }
            let grant = flow::grants::create(tx, &secret, grant, &drafts)?;
            match wanted_credential {
                Some(wanted) if wanted != grant.credential_id => Err(Code::GrantNotFound.into()),
                _ => Ok(grant),
            }
        })
        .await
        .map_err(of_store)?;
    let answer = SecretGrantAnswer {
        grant_id: grant.id.to_string(),
        principal_type: grant.principal.kind().to_owned(),
        label: grant.label,
        created_at: grant.created_at,
        credential_id: grant.credential_id.to_string(),
    };
    Ok(json(201, &answer))
}

/// The identity provider whose group is meant.
async fn idp(vault: &Vault, call: &Call, idp: &str) -> Result<IdentityProvider, Error> {
    let missing =
        || Error::impossible("principal.idp_id", "is no identity provider of this app: `grantd idp list` lists them");
    let app = call.known.app.id;
    let idp_id = IdentityProviderId::parse(idp).ok_or_else(missing)?;
    let found = vault.store.read(move |tx| identity_providers::find_row(tx, app, idp_id)).await.map_err(of_store)?;
    found.filter(|idp| !idp.is_deleted).ok_or_else(missing)
}

/// `POST /sdk/grants/{id}/mint`: a further grant on the same credential, only ever tighter than its source.
pub async fn mint(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let source = parse::segment(&call.params[0]).and_then(|id| GrantId::parse(&id)).ok_or(Code::GrantNotFound)?;
    call.check_scope_for("grants:write", &source.to_string())?;
    let ask: MintRequest = parse::json(&call.body)?;
    check_text("label", &ask.label, limits::LABEL_CHARS_MAX)?;
    if ask.grant_tags.is_some_and(|tags| !tags.is_empty()) {
        return Err(Error::new(Code::FeatureUnavailable).message("Tags are not kept yet. Leave grant_tags out."));
    }
    let now = call.source.now;
    let lifetime = mint_lifetime(ask.grant_policy)?;
    let wanted = expires_at(lifetime, now).map_err(|e| Error::new(Code::InvalidGrantPolicy).message(e.message))?;
    let id = GrantId::from_uuid(grantd_domain::env::new_uuid(&*vault.env));
    let (app, nonce) = (call.known.app.id, call.nonce);
    let event = call.event(vault, Kind::GrantCreated, Outcome::Allowed);
    let drafts = Drafts::new(&*vault.env, &event, &[Kind::GrantCreated]);
    let minted = vault
        .store
        .write(move |tx| {
            use_nonce(tx, &nonce)?;
            let source = grantd_store::grants::find(tx, app, source)?.ok_or(Code::GrantNotFound)?;
            flow::grants::mint(tx, &source, (id, &ask.label), wanted, now, &drafts)?;
            grantd_store::grants::find(tx, app, id)?.ok_or_else(|| Code::Internal.into())
        })
        .await
        .map_err(of_store)?;
    Ok(json(201, &minted_view(&minted, now)))
}

/// What of a policy can be kept today. Unknown keys, and those that need rules, would be promises that nobody keeps.
fn mint_lifetime(policy: Option<Map<String, Value>>) -> Result<Lifetime, Error> {
    let Some(policy) = policy else { return Ok(Lifetime::default()) };
    if let Some(later) = ["restrictions", "requires_approval"].iter().find(|key| policy.contains_key(**key)) {
        return Err(Error::new(Code::FeatureUnavailable)
            .message(format!("Rules are not built yet. Leave grant_policy.{later} out.")));
    }
    if policy.contains_key("default_ttl_seconds") {
        return Err(Error::new(Code::InvalidGrantPolicy).detail("field", "grant_policy.default_ttl_seconds"));
    }
    serde_json::from_value(Value::Object(policy))
        .map_err(|e| Error::new(Code::InvalidGrantPolicy).detail("why", e.to_string()))
}

fn minted_view(Listed { grant, credential, behind, .. }: &Listed, now: TimeMs) -> MintedGrant {
    let account = credential.account();
    MintedGrant {
        grant_id: grant.id.to_string(),
        provider_id: behind.provider_id().to_owned(),
        status: grant.status_at(now).to_owned(),
        created_at: grant.created_at,
        principal_type: grant.principal.kind().to_owned(),
        scopes: account.map(|account| account.scopes.clone()).unwrap_or_default(),
        account_identifier: account.map(|account| account.identifier.clone()),
        account_display_name: account.and_then(|account| account.name.clone()),
        api_base_url: account.and_then(Account::api_base_url),
        scope_mismatch: account.is_some_and(|account| account.scope_mismatch_at.is_some()),
        expires_at: account.and_then(|account| account.expiry.at()),
        last_used_at: None,
        label: grant.label.clone(),
        credential_id: credential.id.to_string(),
        grant_policy: StoredPolicy::of_developer(grant.expires_at, grant.created_at),
    }
}
