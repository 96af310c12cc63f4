//! Connect sessions through `/sdk`: asking for one, and how it stands.

use std::collections::BTreeSet;

use grantd_domain::account::AppProvider;
use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::connect::{self, Asked, Repair, Wanted};
use grantd_domain::env::{new_token, new_uuid};
use grantd_domain::grant::{GrantStatus, check_text};
use grantd_store::connect::{Session, SessionState};
use grantd_store::hot::use_nonce;
use grantd_store::{append_event, grants, providers};
use grantd_wire::ids::{AppId, ConnectSessionId, GrantId};
use grantd_wire::sdk::{ConnectPoll, ConnectPollRequest, ConnectSession, ConnectSessionRequest, Lifetime};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde_json::json;

use crate::answer::{Answer, json as answer, of_store};
use crate::caller::Call;
use crate::flow;
use crate::parse;
use crate::vault::Vault;

/// What begins a session's token.
pub const TOKEN_PREFIX: &str = "sess_";

/// `POST /sdk/oauth/connect/session`.
pub async fn create(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    call.check_scope("connect:initiate")?;
    let ask: ConnectSessionRequest = parse::json(&call.body)?;
    refuse_what_is_later(&ask)?;
    check(&ask, call.source.now)?;
    let app = call.known.app.id;
    let named = named(&ask)?;
    let repair = match ask.repair_grant_id.as_deref() {
        Some(id) => Some(GrantId::parse(id).ok_or(Code::GrantNotFound)?),
        None => None,
    };
    let read = move |tx: &mut grantd_store::Tx<'_>| {
        let (registered, _) = providers::list(tx, app, None, limits::PROVIDERS_MAX, 0)?;
        let mended = repair.map(|grant| grants::find(tx, app, grant)).transpose()?.flatten();
        Ok((registered, mended))
    };
    let (registered, mended) = vault.store.read(read).await.map_err(of_store)?;
    let wanted = wanted(&ask, named.as_ref(), &registered)?;
    let repair = match (repair, mended) {
        (None, _) => None,
        (Some(_), Some(listed)) => {
            let account = listed.credential.account().filter(|_| {
                let is_of = wanted.iter().any(|wanted| wanted.provider_id == listed.behind.provider_id());
                is_of && listed.grant.status == GrantStatus::Active
            });
            let account = account.ok_or(Code::GrantNotFound)?;
            Some(Repair {
                grant_id: listed.grant.id,
                credential_id: listed.credential.id,
                account: account.identifier.clone(),
                account_name: account.name.clone(),
            })
        }
        (Some(_), None) => return Err(Code::GrantNotFound.into()),
    };
    let is_single = wanted.len() == 1;
    let asked = Asked {
        key_id: call.known.key.id,
        providers: wanted,
        is_direct: ask.direct && is_single,
        switches_account: ask.switch_account,
        return_url: ask.return_url,
        allowed_origin: ask.allowed_origin,
        label: ask.requested_grant.map(|grant| grant.label),
        lifetime: ask.grant_policy.unwrap_or_default(),
        repair,
    };
    store(vault, call, app, asked, is_single).await
}

async fn store(vault: &Vault, call: &Call, app: AppId, asked: Asked, is_single: bool) -> Result<Answer, Error> {
    let (env, now) = (&*vault.env, call.source.now);
    let token = new_token(env, TOKEN_PREFIX);
    let token_hash = sha256(token.reveal().as_bytes());
    let session = Session {
        id: ConnectSessionId::from_uuid(new_uuid(env)),
        app_id: app,
        request: asked,
        browser_hash: None,
        state: SessionState::Open,
        created_at: now,
        expires_at: now.plus_seconds(limits::CONNECT_SESSION_S),
        version: 1,
    };
    let ids: Vec<&str> = session.request.providers.iter().map(|wanted| &*wanted.provider_id).collect();
    let event = call
        .event(vault, Kind::ConnectCreated, Outcome::Allowed)
        .core_id("session_id", session.id)
        .core("providers", json!(ids))
        .prepare();
    let (nonce, is_direct, expires_at) = (call.nonce, session.request.is_direct, session.expires_at);
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        use_nonce(tx, &nonce)?;
        grantd_store::connect::insert(tx, &token_hash, &session)?;
        append_event(tx, &event)
    };
    vault.store.write(write).await.map_err(of_store)?;
    let body = ConnectSession {
        connect_url: format!("{}/sdk/oauth/connect#session={}", vault.settings.public_url, token.reveal()),
        session_token: token.reveal().to_owned(),
        expires_in: limits::CONNECT_SESSION_S,
        expires_at,
        single_provider: is_single,
        direct: is_direct,
    };
    Ok(answer(201, &body))
}

/// What needs parts that are not built yet: ignoring it would make something else than was asked for.
fn refuse_what_is_later(ask: &ConnectSessionRequest) -> Result<(), Error> {
    let later = |what: &str| Err(Error::new(Code::FeatureUnavailable).message(what));
    if ask.user_token.is_some() {
        return later("Sessions for a user need identity, which is not built yet. Leave user_token out.");
    }
    if ask.agent.is_some() || ask.delegable.is_some() || ask.scope_constraint.is_some() {
        return later(
            "Sessions for an agent need agents, which are not built yet. Leave agent, delegable and scope_constraint out.",
        );
    }
    if ask.requested_grant.as_ref().is_some_and(|grant| grant.restrictions.is_some()) {
        return later("Restrictions need rules, which are not built yet. Leave requested_grant.restrictions out.");
    }
    Ok(())
}

fn check(ask: &ConnectSessionRequest, now: TimeMs) -> Result<(), Error> {
    if let Some(url) = ask.return_url.as_deref()
        && !connect::is_return_url(url)
    {
        return Err(Error::new(Code::InvalidRedirectUri).detail("field", "return_url"));
    }
    if let Some(origin) = ask.allowed_origin.as_deref()
        && !connect::is_origin(origin)
    {
        return Err(Error::invalid("allowed_origin", "must be an origin such as https://app.example.com"));
    }
    let metadata = ask.metadata.as_ref().map_or(0, |metadata| json!(metadata).to_string().len());
    if metadata > limits::CONNECT_METADATA_BYTES_MAX {
        return Err(Error::invalid(
            "metadata",
            &format!("must be at most {} bytes", limits::CONNECT_METADATA_BYTES_MAX),
        ));
    }
    if let Some(grant) = &ask.requested_grant {
        check_text("requested_grant.label", &grant.label, limits::LABEL_CHARS_MAX)?;
    }
    if let Some(Lifetime { expires_at: Some(_), .. }) = ask.grant_policy {
        return Err(Error::impossible(
            "grant_policy.expires_at",
            "is not for sessions: give max_ttl_seconds or default_ttl_seconds",
        ));
    }
    if ask.repair_grant_id.is_some() && (ask.requested_grant.is_some() || ask.switch_account) {
        return Err(Error::invalid("repair_grant_id", "goes with neither requested_grant nor switch_account"));
    }
    if let Some(lifetime) = ask.grant_policy {
        grantd_domain::grant::expires_at(lifetime, now)?;
    }
    Ok(())
}

/// The providers that are named, trimmed and in lower case, each once.
fn named(ask: &ConnectSessionRequest) -> Result<Option<Vec<String>>, Error> {
    let Some(given) = &ask.allowed_providers else { return Ok(None) };
    let mut seen = BTreeSet::new();
    let clean = given.iter().map(|name| name.trim().to_lowercase());
    let named: Vec<String> = clean.filter(|name| seen.insert(name.clone())).collect();
    match named.len() {
        0 => Err(Error::invalid("allowed_providers", "must name a provider, or be left out for all of them")),
        n if n > limits::CONNECT_PROVIDERS_MAX => {
            Err(Error::invalid("allowed_providers", &format!("must be at most {}", limits::CONNECT_PROVIDERS_MAX)))
        }
        _ => Ok(Some(named)),
    }
}

fn wanted(
    ask: &ConnectSessionRequest,
    named: Option<&Vec<String>>,
    registered: &[AppProvider],
) -> Result<Vec<Wanted>, Error> {
    let missing = |id: &str| {
        Error::invalid("allowed_providers", &format!("names {id}, which this app is not registered with"))
            .hint("An operator registers it with `grantd providers create`.")
            .with("provider_id", id.to_owned())
    };
    let chosen: Vec<&AppProvider> = match named {
        Some(named) => {
            let find =
                |id: &String| registered.iter().find(|provider| provider.provider_id == *id).ok_or_else(|| missing(id));
            named.iter().map(find).collect::<Result<_, _>>()?
        }
        None => registered.iter().collect(),
    };
    if chosen.is_empty() {
        return Err(Error::invalid(
            "allowed_providers",
            "cannot be left out: this app is not registered with any provider",
        )
        .hint("An operator registers one with `grantd providers create`."));
    }
    if (ask.direct || ask.repair_grant_id.is_some()) && chosen.len() != 1 {
        return Err(Error::invalid(
            "allowed_providers",
            "must name exactly one provider for direct or repair_grant_id",
        ));
    }
    let required = ask.required_scopes.clone().unwrap_or_default();
    for (id, scopes) in &required {
        if !chosen.iter().any(|provider| provider.provider_id == *id) {
            return Err(Error::invalid("required_scopes", &format!("names {id}, which the session is not for")));
        }
        let is_possible =
            scopes.len() <= limits::OAUTH_SCOPES_MAX && scopes.iter().all(|scope| connect::is_scope(scope));
        if !is_possible {
            return Err(Error::new(Code::ScopeNotAllowed).with("provider_id", id.clone()));
        }
    }
    let of = |provider: &&AppProvider| {
        let required = required.get(&provider.provider_id).cloned().unwrap_or_default();
        Wanted {
            provider_id: provider.provider_id.clone(),
            name: provider.name.clone(),
            scopes: connect::scopes(&provider.facts.scopes, &provider.scopes, &required),
            required,
        }
    };
    Ok(chosen.iter().map(of).collect())
}

/// `POST /sdk/oauth/connect/session/poll`. A session of another app is one that nobody knows.
pub async fn poll(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    call.check_scope("connect:initiate")?;
    let ask: ConnectPollRequest = parse::json(&call.body)?;
    let (app, now) = (call.known.app.id, call.source.now);
    let token_hash = sha256(ask.session_token.as_bytes());
    let found = flow::connect::find_by_token(vault, token_hash).await?;
    let poll = match found.filter(|(session, _)| session.app_id == app) {
        Some((session, steps)) => flow::connect::stands(&session, &steps, now),
        None => ConnectPoll::Expired,
    };
    Ok(answer(200, &poll))
}
