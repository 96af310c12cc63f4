//! Signing users in through `/sdk`: asking for a link, how it stands, and whose a token is.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::env::{new_token, new_uuid};
use grantd_domain::sign_in::{Asked, Why, choose};
use grantd_store::auth_sessions::{self, AuthSession};
use grantd_store::hot::use_nonce;
use grantd_store::{Append, Appended, Tx, append_event, identity_providers};
use grantd_wire::ids::AuthSessionId;
use grantd_wire::sdk::{self, AuthPoll, AuthPollRequest, VerifiedToken, VerifyTokenRequest};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, limits};

use crate::answer::{Answer, json, of_store};
use crate::caller::Call;
use crate::flow::{self, identity, sign_in};
use crate::parse;
use crate::vault::Vault;

/// What begins the token of a sign-in.
pub const TOKEN_PREFIX: &str = "auth_";

/// A body without fields.
#[derive(serde::Deserialize)]
struct Nothing {}

/// `POST /sdk/auth/session`.
pub async fn session(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    call.check_scope("idp_users:write")?;
    let Nothing {} = parse::json(&call.body)?;
    let (env, app, now) = (&*vault.env, call.known.app.id, call.source.now);
    let list = move |tx: &mut Tx<'_>| identity_providers::list(tx, app, None, limits::IDENTITY_PROVIDERS_MAX, 0);
    let (providers, _) = vault.store.read(list).await.map_err(of_store)?;
    let provider = choose(&providers).map_err(|why| why.refused(Code::InvalidRequest))?;
    let token = new_token(env, TOKEN_PREFIX);
    let token_hash = sha256(token.reveal().as_bytes());
    let id = AuthSessionId::from_uuid(new_uuid(env));
    let (asked, expires_at) = (Asked::KeyId(call.known.key.id), now.plus_seconds(limits::AUTH_SESSION_S));
    let session: AuthSession<Asked, Why> = AuthSession::new(id, (app, provider.id), asked, now, expires_at);
    let event = call
        .event(vault, Kind::SignInCreated, Outcome::Allowed)
        .core_id("session_id", session.id)
        .core_id("idp_id", session.idp_id)
        .prepare();
    let (nonce, expires_at) = (call.nonce, session.expires_at);
    let write = move |tx: &mut Tx<'_>| {
        use_nonce(tx, &nonce)?;
        auth_sessions::insert(tx, &token_hash, &session)?;
        append_event(tx, &event)
    };
    vault.store.write(write).await.map_err(of_store)?;
    let body = sdk::AuthSession {
        auth_url: format!("{}/sign-in#session={}", vault.settings.public_url, token.reveal()),
        session_token: token.reveal().to_owned(),
        expires_in: limits::AUTH_SESSION_S,
        expires_at,
    };
    Ok(json(201, &body))
}

/// `POST /sdk/auth/poll`. A session of another app is one that nobody knows.
pub async fn poll(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    call.check_scope("idp_users:read")?;
    let ask: AuthPollRequest = parse::json(&call.body)?;
    let wait_ms = ask.wait_ms.unwrap_or(0);
    let wait_ms = u64::try_from(wait_ms).ok().filter(|ms| *ms <= limits::SIGN_IN_WAIT_MS_MAX);
    let wait_ms = wait_ms.ok_or_else(|| {
        Error::invalid("wait_ms", &format!("must be 0-{}, in milliseconds", limits::SIGN_IN_WAIT_MS_MAX))
    })?;
    let token_hash = sha256(ask.session_token.as_bytes());
    let wait = Duration::from_millis(wait_ms);
    let (poll, session) = Box::pin(sign_in::poll(vault, call.known.app.id, token_hash, wait)).await?;
    if let (AuthPoll::Completed { .. }, Some(session)) = (&poll, session) {
        // A user's token leaves only when the trail tells of it.
        let mut event = call.event(vault, Kind::SignInReleased, Outcome::Allowed).core_id("session_id", session.id);
        if let Some(user) = session.user_id {
            event = event.user(user);
        }
        let append = Append { event: event.prepare(), confirm: None, nonce: Some(call.nonce) };
        if let Appended::Replayed = flow::append(vault, append).await? {
            return Err(Code::NonceReplayed.into());
        }
    }
    Ok(json(200, &poll))
}

/// `POST /sdk/auth/verify-token`.
pub async fn verify(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("idp_users:read")?;
    let ask: VerifyTokenRequest = parse::json(&call.body)?;
    // As any other call with the token would find: who is barred is nobody, and a refusal is told.
    let user = identity::of_call(vault, call, Some(&ask.token)).await?.ok_or(Code::Internal)?;
    Ok(json(200, &VerifiedToken { sub: user.subject }))
}
