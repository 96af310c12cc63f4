//! OAuth providers that apps are registered with.
//!
//! Never: a client secret in an answer or an event; one that was stored, or a token of an account's, sent to a server that it was not
//! given for.

use std::sync::Arc;

use grantd_domain::account::{AppProvider, Facts, SealedSecret};
use grantd_domain::audit::{Event, Kind};
use grantd_domain::destination::{Rule, Rules, Target};
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{App, check_text};
use grantd_domain::provider::{check_custom, check_id, check_scopes, of_custom};
use grantd_domain::secret::Secret;
use grantd_domain::words::counted;
use grantd_store::{Tx, append_event, apps, credentials, providers};
use grantd_wire::api::{self, CustomProvider, ListQuery, ProviderCreate, ProviderUpdate};
use grantd_wire::ids::{AppId, AppProviderId};
use grantd_wire::{Code, Error, TimeMs, limits};

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, json as answer, of_store};
use crate::flow::connect::redirect_uri;
use crate::keyring::client_secret_place;
use crate::outbound::discovery::discover;
use crate::parse;
use crate::vault::Vault;

/// Fields of a provider that are not what somebody configured.
const NOT_CONFIGURED: [&str; 8] =
    ["id", "provider_id", "problem", "problem_at", "accounts", "created_at", "updated_at", "version"];

/// How many accounts its living credentials are of.
fn accounts(tx: &mut Tx<'_>, provider: &AppProvider) -> grantd_store::Result<i64> {
    credentials::count_accounts(tx, provider.app_id, provider.id)
}

pub(super) fn missing() -> Error {
    Error::new(Code::NotFound)
        .message("The app is not registered with such a provider.")
        .hint("`grantd providers list` lists those it has; they go by their id or the provider's.")
}

fn load(tx: &mut Tx<'_>, app: AppId, id_or_provider: &str) -> grantd_store::Result<(AppProvider, i64)> {
    let provider = providers::find(tx, app, id_or_provider)?.ok_or_else(missing)?;
    let accounts = accounts(tx, &provider)?;
    Ok((provider, accounts))
}

fn view(provider: &AppProvider, accounts: i64, redirect_uri: &str) -> api::Provider {
    let facts = &*provider.facts;
    let own = provider.hosts.iter().map(ToString::to_string);
    let known = facts.hosts.allow.iter().cloned();
    let (problem, problem_at) = provider.problem.clone().unzip();
    let custom = match &provider.facts {
        Facts::Custom { said, .. } => Some((**said).clone()),
        Facts::Catalogue(_) | Facts::Changed(_) => None,
    };
    api::Provider {
        id: provider.id.to_string(),
        provider_id: provider.provider_id.clone(),
        name: provider.name.clone(),
        custom,
        environment: provider.environment.clone(),
        fields: provider.fields.clone(),
        client_id: provider.client_id.clone(),
        has_client_secret: provider.client_secret.is_some(),
        redirect_uri: redirect_uri.to_owned(),
        scopes: provider.scopes.clone(),
        effective_scopes: facts.scopes.asked(&provider.scopes).into_iter().map(str::to_owned).collect(),
        allowed_hosts: own.clone().collect(),
        effective_hosts: known.chain(own).collect(),
        account_hosts: facts.hosts.pin.as_ref().map(|pin| pin.patterns.clone()).unwrap_or_default(),
        setup: facts.setup.clone(),
        verified: facts.is_verified(),
        docs_url: Some(facts.docs.clone()).filter(|docs| !docs.is_empty()),
        problem,
        problem_at,
        accounts,
        created_at: provider.created_at,
        updated_at: provider.updated_at,
        version: provider.version,
    }
}

/// Tells in an event what became of the configuration; of the client secret only that it did.
fn changed(mut event: Event, before: Option<&AppProvider>, after: &AppProvider, redirect_uri: &str) -> Event {
    let shown = |provider: &AppProvider| serde_json::to_value(view(provider, 0, redirect_uri)).unwrap_or_default();
    let (old, new) = (before.map(shown).unwrap_or_default(), shown(after));
    for (field, value) in new.as_object().into_iter().flatten() {
        let is_told = !NOT_CONFIGURED.contains(&field.as_str()) && old[field] != *value;
        // Of a new one only what was said, not all that is known of it.
        let is_said =
            before.is_some() || !matches!(field.as_str(), "setup" | "verified" | "docs_url" | "account_hosts");
        if is_told && is_said {
            event = event.changed(field, old[field].clone(), value.clone());
        }
    }
    let sealed_at = |provider: &AppProvider| provider.client_secret.as_ref().map(|secret| secret.version);
    match before.map(|before| (sealed_at(before), sealed_at(after))) {
        Some((Some(old), Some(new))) if old != new => event.changed("client_secret", "the old one", "a new one"),
        _ => event,
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let (app, redirect_uri) = (app.id, redirect_uri(vault));
    let (items, total) = vault
        .store
        .read(move |tx| {
            let (found, total) = providers::list(tx, app, query.search.as_deref(), limit, offset)?;
            let mut items = Vec::with_capacity(found.len());
            for provider in &found {
                items.push(view(provider, accounts(tx, provider)?, &redirect_uri));
            }
            Ok((items, total))
        })
        .await
        .map_err(of_store)?;
    Ok(page(items, total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app) = (request.object(), app.id);
    let (provider, accounts) = vault.store.read(move |tx| load(tx, app, &name)).await.map_err(of_store)?;
    Ok(shown(200, &view(&provider, accounts, &redirect_uri(vault))))
}

pub async fn create(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let mut ask: ProviderCreate = parse::json(&request.body)?;
    let secret = ask.client_secret.take().map(Secret::new);
    let mut provider = planned(vault, request, app, ask).await?;
    if let Some(secret) = secret {
        provider.client_secret = Some(sealed(vault, &provider, &secret).await?);
    }
    let redirect_uri = redirect_uri(vault);
    let event = request.drafts(vault, app, &[Kind::ProviderCreated]).of(Kind::ProviderCreated);
    let event = changed(event.provider(&provider.provider_id), None, &provider, &redirect_uri).prepare();
    let insert = move |tx: &mut Tx<'_>| {
        let (_, total) = providers::list(tx, provider.app_id, None, 1, 0)?;
        if total >= limits::PROVIDERS_MAX {
            let most = limits::PROVIDERS_MAX;
            return Err(Error::new(Code::TooMany)
                .message(format!("An app has at most {most} providers. Delete one that is no longer needed."))
                .into());
        }
        providers::insert(tx, &provider)?;
        append_event(tx, &event)?;
        Ok(view(&provider, 0, &redirect_uri))
    };
    request.once(vault, insert).await
}

/// The provider that is asked for, without its secret.
async fn planned(vault: &Vault, request: &Request, app: &App, ask: ProviderCreate) -> Result<AppProvider, Error> {
    let facts = match ask.custom {
        Some(said) => {
            check_id(&ask.provider)?;
            if ask.environment.is_some() {
                return Err(no_environment());
            }
            if !ask.fields.is_empty() {
                return Err(no_fields());
            }
            let name = ask
                .name
                .as_deref()
                .ok_or_else(|| Error::impossible("name", "is needed with `custom`: users see it"))?;
            described(vault, &ask.provider, name, said).await?
        }
        None => Facts::of_catalogue(&ask.provider, ask.environment.as_deref(), &ask.fields)?,
    };
    let provider = AppProvider {
        id: AppProviderId::from_uuid(new_uuid(&*vault.env)),
        app_id: app.id,
        provider_id: ask.provider,
        name: ask.name.unwrap_or_else(|| facts.name.clone()),
        facts,
        environment: ask.environment,
        fields: ask.fields,
        client_id: ask.client_id,
        client_secret: None,
        scopes: ask.scopes,
        hosts: hosts(&ask.allowed_hosts)?,
        problem: None,
        created_at: request.source.now,
        updated_at: request.source.now,
        is_deleted: false,
        version: 1,
    };
    check(&provider)?;
    Ok(provider)
}

pub async fn update(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let mut ask: ProviderUpdate = parse::json(&request.body)?;
    let (name, app_id, redirect_uri) = (request.object(), app.id, redirect_uri(vault));
    let (old, accounts) = vault.store.read(move |tx| load(tx, app_id, &name)).await.map_err(of_store)?;
    // Before anybody is called: the state it is asked of is long gone.
    request.if_match.check(&view(&old, accounts, &redirect_uri))?;
    let secret = ask.client_secret.take().map(Secret::new);
    let mut new = revised(vault, &old, ask, request.source.now).await?;
    let elsewhere = !new.facts.origins().is_subset(&old.facts.origins());
    match secret {
        Some(secret) if secret.reveal().is_empty() => new.client_secret = None,
        Some(secret) => new.client_secret = Some(sealed(vault, &new, &secret).await?),
        None if elsewhere && old.client_secret.is_some() => {
            let why = "give it again: the stored one was not given for the servers it would be sent to now";
            return Err(Error::impossible("client_secret", why));
        }
        None => {}
    }
    let event = request.drafts(vault, app, &[Kind::ProviderUpdated]).of(Kind::ProviderUpdated);
    let event = changed(event.provider(&old.provider_id), Some(&old), &new, &redirect_uri).prepare();
    let (if_match, shown_uri) = (request.if_match.clone(), redirect_uri.clone());
    let (stored, accounts) = vault
        .store
        .write(move |tx| {
            let id = old.id.to_string();
            let (now, accounts) = load(tx, app_id, &id)?;
            if_match.check(&view(&now, accounts, &shown_uri))?;
            if accounts > 0 && new.facts.token.root != old.facts.token.root {
                return Err(in_use(accounts, &old.provider_id, "their tokens are of another kind").into());
            }
            if elsewhere && accounts > 0 {
                return Err(in_use(
                    accounts,
                    &old.provider_id,
                    "their tokens would go to servers that did not issue them",
                )
                .into());
            }
            providers::update(tx, &new, old.version)?;
            // Hosts may be fewer now, and tokens be sent in another way.
            apps::raise_epoch(tx, app_id)?;
            append_event(tx, &event)?;
            load(tx, app_id, &id)
        })
        .await
        .map_err(of_store)?;
    Ok(shown(200, &view(&stored, accounts, &redirect_uri)))
}

/// The provider with what is asked for, without a new secret.
async fn revised(vault: &Vault, old: &AppProvider, ask: ProviderUpdate, now: TimeMs) -> Result<AppProvider, Error> {
    let mut new = AppProvider { version: old.version + 1, updated_at: now, problem: None, ..old.clone() };
    new.name = ask.name.unwrap_or(new.name);
    new.client_id = ask.client_id.unwrap_or(new.client_id);
    new.scopes = ask.scopes.unwrap_or(new.scopes);
    if let Some(texts) = &ask.allowed_hosts {
        new.hosts = hosts(texts)?;
    }
    let is_custom = matches!(new.facts, Facts::Custom { .. });
    let is_elsewhere = ask.environment.is_some() || ask.fields.is_some();
    if let Some(environment) = ask.environment {
        if is_custom {
            return Err(no_environment());
        }
        new.environment = Some(environment).filter(|environment| !environment.is_empty());
    }
    if let Some(fields) = ask.fields {
        if is_custom {
            return Err(no_fields());
        }
        new.fields = fields;
    }
    if is_elsewhere {
        new.facts = Facts::of_catalogue(&new.provider_id, new.environment.as_deref(), &new.fields)?;
    }
    if let Some(said) = ask.custom {
        if !is_custom {
            return Err(Error::impossible("custom", "is only for providers that are not in the catalogue"));
        }
        new.facts = described(vault, &new.provider_id, &new.name, said).await?;
    }
    check(&new)?;
    Ok(new)
}

fn in_use(accounts: i64, provider: &str, why: &str) -> Error {
    let what = counted(accounts, "account is", "accounts are");
    Error::new(Code::InUse)
        .message(format!("{what} connected, and {why}. Revoke their grants first."))
        .hint(format!("`grantd grants list --provider {provider}` lists them, `grantd grants revoke` ends one."))
        .detail("accounts", accounts)
}

pub async fn delete(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let event = request.drafts(vault, app, &[Kind::ProviderDeleted]).of(Kind::ProviderDeleted);
    let (name, app, now) = (request.object(), app.id, request.source.now);
    let (if_match, redirect_uri) = (request.if_match.clone(), redirect_uri(vault));
    let provider = vault
        .store
        .write(move |tx| {
            let (provider, accounts) = load(tx, app, &name)?;
            if_match.check(&view(&provider, accounts, &redirect_uri))?;
            if accounts > 0 {
                return Err(in_use(accounts, &provider.provider_id, "none of them would work without it").into());
            }
            if !providers::delete(tx, app, provider.id, now)? {
                return Err(missing().into());
            }
            append_event(tx, &event.clone().provider(&provider.provider_id).prepare())?;
            Ok(provider)
        })
        .await
        .map_err(of_store)?;
    let body = api::DeletedProvider { id: provider.id.to_string(), provider_id: provider.provider_id, deleted_at: now };
    Ok(answer(200, &body))
}

/// What holds for every provider, new or changed.
fn check(provider: &AppProvider) -> Result<(), Error> {
    check_text("name", &provider.name, limits::NAME_CHARS_MAX)?;
    check_text("client_id", &provider.client_id, limits::CLIENT_CHARS_MAX)?;
    check_scopes("scopes", &provider.scopes)?;
    match &provider.facts {
        Facts::Custom { .. } if provider.hosts.is_empty() => {
            Err(Error::impossible("allowed_hosts", "name the hosts its tokens may go to, such as api.example.com")
                .hint("grantd providers create … --allowed-host api.example.com"))
        }
        Facts::Custom { .. } | Facts::Catalogue(_) | Facts::Changed(_) => Ok(()),
    }
}

fn no_environment() -> Error {
    Error::impossible("environment", "is only for providers of the catalogue: say in `custom` where this one is")
}

fn no_fields() -> Error {
    Error::impossible("fields", "are only for providers of the catalogue: say in `custom` where this one is")
}

fn hosts(texts: &[String]) -> Result<Vec<Rule>, Error> {
    Ok(Rules::parse_all(texts)?.0)
}

/// A provider as somebody describes it, completed by its issuer.
async fn described(vault: &Vault, id: &str, name: &str, said: CustomProvider) -> Result<Facts, Error> {
    check_text("name", name, limits::NAME_CHARS_MAX)?;
    check_custom(&said)?;
    let said = match &said.issuer {
        Some(issuer) if said.authorize_url.is_none() || said.token_url.is_none() => {
            let found = discover(vault, "custom.issuer", issuer).await?;
            let said = found.complete(said);
            // What the document says is held against the same bounds.
            check_custom(&said)?;
            said
        }
        _ => said,
    };
    let is_allowed = |url: &str| Target::parse(url).is_ok_and(|target| vault.settings.outbound.holds(&target));
    let facts = of_custom(id, name, &said, is_allowed)
        .map_err(|wrong| Error::impossible(&format!("custom.{}", wrong.field), wrong.why))?;
    Ok(Facts::Custom { facts: Arc::new(facts), said: Arc::new(said) })
}

/// Seals the secret at the version the provider will be stored with.
async fn sealed(vault: &Vault, provider: &AppProvider, secret: &Secret) -> Result<SealedSecret, Error> {
    check_text("client_secret", secret.reveal(), limits::CLIENT_CHARS_MAX)?;
    let key = vault.keys.take_seal(&*vault.env, Some(provider.app_id)).await?;
    let place = client_secret_place(provider.app_id, provider.id, provider.version);
    let sealed = key.seal(&*vault.env, place, secret.reveal().as_bytes());
    Ok(SealedSecret { sealed, version: provider.version })
}
