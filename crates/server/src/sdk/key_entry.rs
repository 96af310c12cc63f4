//! Sessions for a user's own key, through `/sdk`.

use std::sync::Arc;

use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::connect::Asker;
use grantd_wire::sdk::{KeySession, KeySessionRequest};
use grantd_wire::{Code, Error, limits};
use serde_json::json;

use super::connect;
use crate::answer::{Answer, json as answer};
use crate::caller::Call;
use crate::flow::identity;
use crate::flow::key_entry::{BegunKey, begin};
use crate::parse;
use crate::vault::Vault;

/// `POST /sdk/managed-secrets/connect/session`.
pub async fn create(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("connect:initiate")?;
    call.check_scope("secrets:write")?;
    let ask: KeySessionRequest = parse::json(&call.body)?;
    refuse_what_is_later(&ask)?;
    let user = identity::of_call(vault, call, ask.user_token.as_deref()).await?;
    let user =
        user.ok_or_else(|| Error::invalid("user_token", "is missing: a key belongs to the user it speaks for"))?;
    let by = Asker::KeyId(call.known.key.id);
    let BegunKey { begun, path, secret, template } =
        begin(vault, call.known.app.id, ask, &user, by, call.source.now).await?;
    let event = call
        .event(vault, Kind::ConnectCreated, Outcome::Allowed)
        .core_id("session_id", begun.session.id)
        .core("providers", json!(begun.provider_ids()))
        .core("path", path.as_str())
        .user(user.id)
        .prepare();
    let body = KeySession {
        connect_url: begun.connect_url(vault),
        session_token: begun.token().to_owned(),
        expires_in: limits::CONNECT_SESSION_S,
        expires_at: begun.session.expires_at,
        path: Some(path.as_str().to_owned()),
        existing_grant_id: path.grant().map(|grant| grant.to_string()),
        direct: begun.session.request.is_direct,
        secret_slug: secret.slug,
        template_slug: template.map(|template| template.id.clone()),
        agent_id: None,
        delegable_requested: false,
    };
    connect::keep(vault, call, begun, event).await?;
    Ok(answer(201, &body))
}

/// What needs parts that are not built yet: ignoring it would make something else than was asked for.
fn refuse_what_is_later(ask: &KeySessionRequest) -> Result<(), Error> {
    let later = |what: &str| Err(Error::new(Code::FeatureUnavailable).message(what));
    if ask.agent.is_some() || ask.delegated_agent_id.is_some() || ask.delegable.is_some() {
        return later(
            "Sessions for an agent need agents, which are not built yet. Leave agent, delegated_agent_id and delegable out.",
        );
    }
    if ask.requested_grant.as_ref().is_some_and(|grant| grant.restrictions.is_some()) {
        return later("Restrictions need rules, which are not built yet. Leave requested_grant.restrictions out.");
    }
    Ok(())
}
