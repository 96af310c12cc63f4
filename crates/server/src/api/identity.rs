//! Identity providers of an app: whose tokens count, and how they are read.
//!
//! Never: a client secret in an answer or an event; one that was stored, sent to a server that it was not given for.

use grantd_domain::account::SealedSecret;
use grantd_domain::audit::{Event, Kind};
use grantd_domain::destination::Target;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{App, check_text};
use grantd_domain::identity::examine::{Finding, Issuer, Level, examine};
use grantd_domain::identity::{
    Algorithm, ClaimMapping, Endpoints, IdentityProvider, PRESETS, Preset, ProviderState, check_url,
};
use grantd_domain::provider::Discovery;
use grantd_domain::secret::Secret;
use grantd_store::{Tx, append_event, apps, identity_providers, idp_webhooks};
use grantd_wire::api::{self, IdentityProviderCreate, IdentityProviderDiscover, IdentityProviderUpdate, ListQuery};
use grantd_wire::ids::{AppId, IdentityProviderId};
use grantd_wire::{Code, Error, limits};
use serde_json::{Value, to_value};

use super::version::shown;
use super::{Request, page};
use crate::answer::{Answer, json as answer, of_store};
use crate::keyring::idp_secret_place;
use crate::outbound::discovery;
use crate::outbound::jwks;
use crate::parse;
use crate::vault::Vault;

pub(super) fn missing() -> Error {
    Error::new(Code::NotFound)
        .message("The app has no such identity provider.")
        .hint("`grantd idp list` lists those it has; they go by their id or their issuer.")
}

fn load(tx: &mut Tx<'_>, app: AppId, id_or_issuer: &str) -> grantd_store::Result<IdentityProvider> {
    Ok(identity_providers::find(tx, app, id_or_issuer)?.ok_or_else(missing)?)
}

fn view(idp: &IdentityProvider) -> api::IdentityProvider {
    let ClaimMapping { subject, audience, email, name, groups, roles } = idp.claims.clone();
    api::IdentityProvider {
        id: idp.id.to_string(),
        name: idp.name.clone(),
        preset: idp.preset.id.to_owned(),
        issuer: idp.issuer.clone(),
        audiences: idp.audiences.clone(),
        algorithms: idp.algorithms.iter().map(|algorithm| algorithm.as_str().to_owned()).collect(),
        claims: api::Claims { subject: Some(subject), audience: Some(audience), email, name, groups, roles },
        jwks_url: idp.endpoints.jwks_url.clone(),
        authorize_url: idp.endpoints.authorize_url.clone(),
        token_url: idp.endpoints.token_url.clone(),
        userinfo_url: idp.endpoints.userinfo_url.clone(),
        client_id: idp.client_id.clone(),
        has_client_secret: idp.client_secret.is_some(),
        scopes: idp.scopes.clone(),
        state: idp.state.as_str().to_owned(),
        created_at: idp.created_at,
        updated_at: idp.updated_at,
        version: idp.version,
    }
}

/// Tells what became of the registration; of the client secret only that it did.
fn changed(mut event: Event, before: Option<&IdentityProvider>, after: &IdentityProvider) -> Event {
    let shown = |idp: &IdentityProvider| to_value(view(idp)).unwrap_or_default();
    let (old, new) = (before.map(shown).unwrap_or_default(), shown(after));
    for (field, value) in new.as_object().into_iter().flatten() {
        let is_told = !matches!(field.as_str(), "id" | "created_at" | "updated_at" | "version");
        if is_told && old[field] != *value && !(value.is_null() && before.is_none()) {
            event = event.changed(field, old.get(field).cloned().unwrap_or(Value::Null), value.clone());
        }
    }
    let sealed_at = |idp: &IdentityProvider| idp.client_secret.as_ref().map(|secret| secret.version);
    match before.map(|before| (sealed_at(before), sealed_at(after))) {
        Some((Some(old), Some(new))) if old != new => event.changed("client_secret", "the old one", "a new one"),
        _ => event,
    }
}

pub async fn list(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let app = app.id;
    let read = move |tx: &mut Tx<'_>| identity_providers::list(tx, app, query.search.as_deref(), limit, offset);
    let (found, total) = vault.store.read(read).await.map_err(of_store)?;
    Ok(page(found.iter().map(view).collect(), total, limit, offset))
}

pub async fn show(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let (name, app) = (request.object(), app.id);
    let idp = vault.store.read(move |tx| load(tx, app, &name)).await.map_err(of_store)?;
    Ok(shown(200, &view(&idp)))
}

pub async fn create(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let mut ask: IdentityProviderCreate = parse::json(&request.body)?;
    let secret = ask.client_secret.take().map(Secret::new);
    let mut idp = planned(vault, request, app, ask).await?;
    if let Some(secret) = secret {
        idp.client_secret = Some(sealed(vault, &idp, &secret).await?);
    }
    let event = request.drafts(vault, app, &[Kind::IdentityProviderCreated]).of(Kind::IdentityProviderCreated);
    let event = changed(event.core_id("idp_id", idp.id), None, &idp).prepare();
    let insert = move |tx: &mut Tx<'_>| {
        let (_, total) = identity_providers::list(tx, idp.app_id, None, 1, 0)?;
        if total >= limits::IDENTITY_PROVIDERS_MAX {
            let most = limits::IDENTITY_PROVIDERS_MAX;
            let error = Error::new(Code::TooMany);
            return Err(error
                .message(format!("An app has at most {most} identity providers. Delete one first."))
                .into());
        }
        identity_providers::insert(tx, &idp)?;
        apps::raise_epoch(tx, idp.app_id)?;
        append_event(tx, &event)?;
        Ok(view(&idp))
    };
    request.once(vault, insert).await
}

async fn planned(
    vault: &Vault,
    request: &Request,
    app: &App,
    ask: IdentityProviderCreate,
) -> Result<IdentityProvider, Error> {
    let preset = preset(ask.preset.as_deref())?;
    allowed_issuer(vault, preset, &ask.issuer)?;
    let endpoints = match ask.jwks_url {
        Some(jwks_url) => Endpoints { jwks_url, ..Endpoints::default() },
        None => discovered(vault, &ask.issuer).await?,
    };
    let idp = IdentityProvider {
        id: IdentityProviderId::from_uuid(new_uuid(&*vault.env)),
        app_id: app.id,
        name: ask.name.unwrap_or_else(|| preset.name.to_owned()),
        preset,
        issuer: ask.issuer,
        audiences: ask.audiences,
        algorithms: ask.algorithms.map_or_else(|| Ok(preset.algorithms.to_vec()), |texts| algorithms(&texts))?,
        claims: mapped(preset.claims(), ask.claims),
        endpoints,
        client_id: ask.client_id,
        client_secret: None,
        scopes: ask.scopes.unwrap_or_else(|| preset.scopes.iter().map(|scope| (*scope).to_owned()).collect()),
        state: ProviderState::Active,
        created_at: request.source.now,
        updated_at: request.source.now,
        is_deleted: false,
        version: 1,
    };
    check(vault, &idp)?;
    check_client(&idp)?;
    Ok(idp)
}

/// Where the issuer says that it is called, each of them an address that may be.
async fn discovered(vault: &Vault, issuer: &str) -> Result<Endpoints, Error> {
    let found = discovery::endpoints(vault, issuer).await?;
    for (field, url) in [("authorize_url", &found.authorize_url), ("token_url", &found.token_url)] {
        let refused = url.as_ref().and_then(|url| allowed(vault, field, url).err());
        if let Some(error) = refused {
            return Err(error.hint(
                "The issuer says so in its discovery document. If the app brings its users' tokens itself, register its keys alone: \
                 give jwks_url.",
            ));
        }
    }
    Ok(found)
}

fn preset(named: Option<&str>) -> Result<&'static Preset, Error> {
    Preset::find(named.unwrap_or("oidc")).ok_or_else(|| {
        let known: Vec<&str> = PRESETS.iter().map(|preset| preset.id).collect();
        Error::impossible("preset", &format!("must be one of {}", known.join(", ")))
    })
}

fn allowed_issuer(vault: &Vault, preset: &Preset, issuer: &str) -> Result<(), Error> {
    let hint = |e: Error| e.hint(format!("Issuers of {} look like {}", preset.name, preset.issuer));
    allowed(vault, "issuer", issuer).map_err(hint)
}

/// Looks at an issuer as registering it would, and registers nothing.
pub async fn look(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: IdentityProviderDiscover = parse::json(&request.body)?;
    let preset = preset(ask.preset.as_deref())?;
    allowed_issuer(vault, preset, &ask.issuer)?;
    let (app, issuer) = (app.id, ask.issuer.clone());
    let known = vault.store.read(move |tx| identity_providers::find(tx, app, &issuer)).await.map_err(of_store)?;
    let document = match discovery::fetch(vault, &ask.issuer).await {
        Ok(body) => Discovery::read(&body).map_err(|wrong| wrong.why.to_owned()),
        Err(none) => Err(none.why),
    };
    let jwks_url = document.as_ref().ok().and_then(|document| document.jwks_uri.as_deref());
    let keys = match jwks_url {
        Some(url) => Some(match allowed(vault, "jwks_url", url) {
            Ok(()) => jwks::fetch(vault, url).await.map(|(keys, _)| keys),
            Err(_) => Err("their address is not https".to_owned()),
        }),
        None => None,
    };
    let findings = examine(&Issuer {
        url: &ask.issuer,
        preset,
        document: document.as_ref().map_err(String::as_str),
        keys: keys.as_ref().map(|keys| keys.as_ref().map_err(String::as_str)),
        registered_as: known.as_ref().map(|known| known.name.as_str()),
        may_call: &|url| allowed(vault, "issuer", url).is_ok(),
    });
    // An address that could not be called is told by a finding alone.
    let shown = |url: Option<&String>| url.filter(|url| check_url(url, |_| true).is_ok()).cloned();
    let said = document.as_ref().ok();
    let body = api::DiscoveredIdentityProvider {
        ok: findings.iter().all(|finding| finding.level != Level::Failure),
        preset: preset.id.to_owned(),
        jwks_url: shown(said.and_then(|said| said.jwks_uri.as_ref())),
        authorize_url: shown(said.and_then(|said| said.authorization_endpoint.as_ref())),
        token_url: shown(said.and_then(|said| said.token_endpoint.as_ref())),
        userinfo_url: shown(said.and_then(|said| said.userinfo_endpoint.as_ref())),
        keys: keys.and_then(Result::ok).map(|keys| i64::try_from(keys.len()).unwrap_or(i64::MAX)),
        findings: findings.into_iter().map(finding).collect(),
        issuer: ask.issuer,
    };
    Ok(answer(200, &body))
}

fn finding(found: Finding) -> api::IdentityProviderFinding {
    let Finding { id, level, what, fix } = found;
    api::IdentityProviderFinding { id: id.to_owned(), level: level.as_str().to_owned(), what, fix }
}

pub async fn update(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let ask: IdentityProviderUpdate = parse::json(&request.body)?;
    let (name, app_id) = (request.object(), app.id);
    let old = vault.store.read(move |tx| load(tx, app_id, &name)).await.map_err(of_store)?;
    request.if_match.check(&view(&old))?;
    let mut new = IdentityProvider { version: old.version + 1, updated_at: request.source.now, ..old.clone() };
    new.name = ask.name.unwrap_or(new.name);
    new.audiences = ask.audiences.unwrap_or(new.audiences);
    if let Some(texts) = ask.algorithms {
        new.algorithms = algorithms(&texts)?;
    }
    new.claims = mapped(new.claims, ask.claims);
    if ask.rediscover {
        if ask.jwks_url.is_some() {
            return Err(Error::impossible(
                "jwks_url",
                "does not go with rediscover: the issuer says where its keys are",
            ));
        }
        new.endpoints = discovered(vault, &new.issuer).await?;
        let is_kept = new.client_secret.is_some() && ask.client_secret.is_none();
        if is_kept && new.endpoints.takes_secret_elsewhere(&old.endpoints) {
            let why = "must be given again: the token endpoint is at another server now, and a secret goes to the one it was given for";
            return Err(Error::impossible("client_secret", why));
        }
    }
    new.endpoints.jwks_url = ask.jwks_url.unwrap_or(new.endpoints.jwks_url);
    new.client_id = ask.client_id.or(new.client_id);
    new.scopes = ask.scopes.unwrap_or(new.scopes);
    if let Some(state) = ask.state {
        let state = ProviderState::parse(&state);
        new.state = state.ok_or_else(|| Error::impossible("state", "must be active or inactive"))?;
    }
    match ask.client_secret.map(Secret::new) {
        Some(secret) if secret.reveal().is_empty() => new.client_secret = None,
        Some(secret) => new.client_secret = Some(sealed(vault, &new, &secret).await?),
        None => {}
    }
    check(vault, &new)?;
    // What was stored before must not keep one from being switched off.
    let of_client =
        |idp: &IdentityProvider| (idp.client_id.clone(), idp.audiences.clone(), idp.claims.audience.clone());
    if of_client(&old) != of_client(&new) {
        check_client(&new)?;
    }
    let event = request.drafts(vault, app, &[Kind::IdentityProviderUpdated]).of(Kind::IdentityProviderUpdated);
    let event = changed(event.core_id("idp_id", new.id), Some(&old), &new).prepare();
    let if_match = request.if_match.clone();
    let write = move |tx: &mut Tx<'_>| {
        let id = old.id.to_string();
        if_match.check(&view(&load(tx, app_id, &id)?))?;
        identity_providers::update(tx, &new, old.version)?;
        apps::raise_epoch(tx, app_id)?;
        append_event(tx, &event)?;
        load(tx, app_id, &id)
    };
    let stored = vault.store.write(write).await.map_err(of_store)?;
    Ok(shown(200, &view(&stored)))
}

/// Its users and their grants stay; no token of it counts any more.
pub async fn delete(vault: &Vault, request: &Request, app: &App) -> Result<Answer, Error> {
    let event = request.drafts(vault, app, &[Kind::IdentityProviderDeleted]).of(Kind::IdentityProviderDeleted);
    let (name, app, now, if_match) = (request.object(), app.id, request.source.now, request.if_match.clone());
    let write = move |tx: &mut Tx<'_>| {
        let idp = load(tx, app, &name)?;
        if_match.check(&view(&idp))?;
        if !identity_providers::delete(tx, app, idp.id, now)? {
            return Err(missing().into());
        }
        // With its secret; the event says enough.
        idp_webhooks::disable(tx, app, idp.id)?;
        apps::raise_epoch(tx, app)?;
        append_event(tx, &event.clone().core_id("idp_id", idp.id).prepare())?;
        Ok(idp)
    };
    let idp = vault.store.write(write).await.map_err(of_store)?;
    let body = api::DeletedIdentityProvider { id: idp.id.to_string(), issuer: idp.issuer, deleted_at: now };
    Ok(answer(200, &body))
}

fn algorithms(texts: &[String]) -> Result<Vec<Algorithm>, Error> {
    let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect();
    let bad = || Error::impossible("algorithms", &format!("must be one or more of {}", known.join(", ")));
    let found = texts.iter().map(|text| Algorithm::parse(text)).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
    if found.is_empty() { Err(bad()) } else { Ok(found) }
}

/// What is said over what was; an empty name takes one away.
fn mapped(was: ClaimMapping, said: Option<api::Claims>) -> ClaimMapping {
    let Some(said) = said else { return was };
    let over = |was: Option<String>, said: Option<String>| said.or(was).filter(|name| !name.is_empty());
    ClaimMapping {
        subject: said.subject.unwrap_or(was.subject),
        audience: said.audience.unwrap_or(was.audience),
        email: over(was.email, said.email),
        name: over(was.name, said.name),
        groups: over(was.groups, said.groups),
        roles: over(was.roles, said.roles),
    }
}

fn allowed(vault: &Vault, field: &str, url: &str) -> Result<(), Error> {
    let holds = |url: &str| Target::parse(url).is_ok_and(|target| vault.settings.outbound.holds(&target));
    check_url(url, holds).map_err(|why| Error::impossible(field, why))
}

/// What holds for every one, new or changed.
fn check(vault: &Vault, idp: &IdentityProvider) -> Result<(), Error> {
    check_text("name", &idp.name, limits::NAME_CHARS_MAX)?;
    allowed(vault, "jwks_url", &idp.endpoints.jwks_url)?;
    if idp.audiences.is_empty() && !idp.preset.owns(&idp.issuer) {
        let why = "name at least one: a token for another application must not count here";
        return Err(Error::impossible("audiences", why)
            .hint(format!("Of {} it is {}.", idp.preset.name, idp.preset.audience_help)));
    }
    if idp.audiences.len() > limits::AUDIENCES_MAX {
        return Err(Error::impossible("audiences", &format!("at most {} are possible", limits::AUDIENCES_MAX)));
    }
    let claims = &idp.claims;
    let names = [&claims.email, &claims.name, &claims.groups, &claims.roles].into_iter().flatten();
    for name in names.chain([&claims.subject, &claims.audience]) {
        check_text("claims", name, limits::ISSUER_CHARS_MAX)?;
    }
    for audience in &idp.audiences {
        check_text("audiences", audience, limits::ISSUER_CHARS_MAX)?;
    }
    if let Some(client_id) = &idp.client_id {
        check_text("client_id", client_id, limits::CLIENT_CHARS_MAX)?;
    }
    if idp.scopes.len() > limits::OAUTH_SCOPES_MAX {
        return Err(Error::impossible("scopes", &format!("at most {} are possible", limits::OAUTH_SCOPES_MAX)));
    }
    idp.scopes.iter().try_for_each(|scope| check_text("scopes", scope, limits::OAUTH_SCOPE_CHARS_MAX))
}

/// The ID token that signing in brings is issued for the client, so it must count here.
fn check_client(idp: &IdentityProvider) -> Result<(), Error> {
    let Some(client_id) = &idp.client_id else { return Ok(()) };
    if idp.claims.audience != "aud" || idp.audiences.is_empty() || idp.audiences.contains(client_id) {
        return Ok(());
    }
    let hint = "Name the client id as one of the audiences, beside those of access tokens, or leave the client out.";
    let why = "must be one of the audiences: the ID token that signing in brings is issued for it, and would not count";
    Err(Error::impossible("client_id", why).hint(hint))
}

/// Seals the secret at the version the row will be stored with.
async fn sealed(vault: &Vault, idp: &IdentityProvider, secret: &Secret) -> Result<SealedSecret, Error> {
    check_text("client_secret", secret.reveal(), limits::CLIENT_CHARS_MAX)?;
    let place = idp_secret_place(idp.app_id, idp.id, idp.version);
    let sealed = vault.keys.seal_of_app(&*vault.env, idp.app_id, place, secret.reveal().as_bytes()).await?;
    Ok(SealedSecret { sealed, version: idp.version })
}
