//! Connect sessions through `/sdk`: asking for one, and how it stands.

use std::sync::Arc;

use grantd_domain::audit::{Event, Kind, Outcome, Prepared};
use grantd_domain::connect::Asker;
use grantd_store::append_event;
use grantd_store::hot::use_nonce;
use grantd_wire::sdk::{ConnectPoll, ConnectPollRequest, ConnectSession, ConnectSessionRequest};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, limits};
use serde_json::json;

use crate::answer::{Answer, json as answer, of_store};
use crate::caller::Call;
use crate::flow::{self, identity};
use crate::parse;
use crate::vault::Vault;

/// `POST /sdk/oauth/connect/session`.
pub async fn create(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("connect:initiate")?;
    let ask: ConnectSessionRequest = parse::json(&call.body)?;
    refuse_what_is_later(&ask)?;
    let user = identity::of_call(vault, call, ask.user_token.as_deref()).await?;
    let by = Asker::KeyId(call.known.key.id);
    let begun = flow::session::begin(vault, call.known.app.id, ask, user.as_ref(), by, call.source.now).await?;
    let event = call
        .event(vault, Kind::ConnectCreated, Outcome::Allowed)
        .core_id("session_id", begun.session.id)
        .core("providers", json!(begun.provider_ids()));
    let event = begun.session.user_id.into_iter().fold(event, Event::user).prepare();
    let body = ConnectSession {
        connect_url: begun.connect_url(vault),
        session_token: begun.token().to_owned(),
        expires_in: limits::CONNECT_SESSION_S,
        expires_at: begun.session.expires_at,
        single_provider: begun.session.request.is_single(),
        direct: begun.session.request.is_direct,
    };
    keep(vault, call, begun, event).await?;
    Ok(answer(201, &body))
}

/// Keeps a session that an app asked for, with its event.
pub(super) async fn keep(
    vault: &Vault,
    call: &Call,
    begun: flow::session::Begun,
    event: Prepared,
) -> Result<(), Error> {
    let nonce = call.nonce;
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        use_nonce(tx, &nonce)?;
        grantd_store::connect::insert(tx, &begun.token_hash, &begun.session)?;
        append_event(tx, &event)
    };
    vault.store.write(write).await.map_err(of_store)
}

/// What needs parts that are not built yet: ignoring it would make something else than was asked for.
fn refuse_what_is_later(ask: &ConnectSessionRequest) -> Result<(), Error> {
    let later = |what: &str| Err(Error::new(Code::FeatureUnavailable).message(what));
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
