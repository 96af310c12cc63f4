//! Who a call is of, told to the caller, or signed for somebody else to check.
//!
//! Invariant: a call tells of nobody but its own app, agent and user, and of a user only what is so when its event is written.

use std::sync::Arc;

use grantd_domain::assertion::{AssertedUser, Assertion, check_audience, check_ttl};
use grantd_domain::audit::{Event, Kind, Outcome};
use grantd_domain::env::new_uuid;
use grantd_domain::identity::{Invalid, User, UserStatus};
use grantd_store::hot::use_nonce;
use grantd_store::{Append, Appended, Tx, append_event, groups, users};
use grantd_wire::ids::GroupId;
use grantd_wire::sdk::{AssertionAnswer, AssertionRequest, Identity, IdentityRequest, Trace};
use grantd_wire::{Code, Error};

use crate::answer::{Answer, json, of_store};
use crate::caller::Call;
use crate::flow::{self, identity};
use crate::parse;
use crate::vault::Vault;

/// `POST /sdk/identity/resolve`.
pub async fn resolve(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("identity:resolve")?;
    let ask: IdentityRequest = parse::json(&call.body)?;
    let user = user(vault, call, &ask).await?;
    let event = call.event(vault, Kind::IdentityResolved, Outcome::Allowed);
    let groups = record(vault, call, event, user.as_ref()).await?;
    Ok(json(200, &view(call, user.as_ref(), &groups, ask.include_profile)))
}

/// `POST /sdk/identity/assert`.
pub async fn assert(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    call.check_scope("identity:assert")?;
    let AssertionRequest { include_profile, user_token, app_user_id, audience, ttl_seconds } = parse::json(&call.body)?;
    check_audience(&audience)?;
    let ttl_seconds = check_ttl(ttl_seconds)?;
    let user = user(vault, call, &IdentityRequest { include_profile, user_token, app_user_id }).await?;
    let key = flow::assertion::signer(vault).await?;
    let idp_id = user.as_ref().map(|user| user.idp_id.to_string()).unwrap_or_default();
    let assertion = Assertion {
        issuer: &vault.settings.public_url,
        audience: &audience,
        id: new_uuid(&*vault.env).to_string(),
        app: call.known.app.id,
        user: user.as_ref().map(|user| AssertedUser { id: user.id, subject: &user.subject, idp_id: &idp_id }),
        issued_at: call.source.now,
        ttl_seconds,
    };
    let expires_at = assertion.expires_at();
    let event = call
        .event(vault, Kind::IdentityAsserted, Outcome::Allowed)
        .core_id("assertion_id", &assertion.id)
        .core("assertion_expires_at", expires_at.to_string())
        .private_text("audience", Some(&audience));
    // Nothing is signed that the trail does not tell of.
    let groups = record(vault, call, event, user.as_ref()).await?;
    let token = key.sign(&assertion).reveal().to_owned();
    let identity = view(call, user.as_ref(), &groups, include_profile);
    Ok(json(200, &AssertionAnswer { token, expires_at, identity }))
}

/// The user a call is of, if it carries a token.
async fn user(vault: &Arc<Vault>, call: &Call, ask: &IdentityRequest) -> Result<Option<User>, Error> {
    if ask.app_user_id.is_some() {
        return Err(Error::invalid(
            "app_user_id",
            "is for agents, and names a user who delegated to the one that calls",
        )
        .hint("An app names its user with user_token."));
    }
    identity::of_call(vault, call, ask.user_token.as_deref()).await
}

/// Makes the event durable, if the user may still be told of; answers the user's groups.
async fn record(vault: &Vault, call: &Call, event: Event, user: Option<&User>) -> Result<Vec<GroupId>, Error> {
    let Some(user) = user else {
        let append = Append { event: event.prepare(), confirm: None, nonce: Some(call.nonce) };
        return match flow::append(vault, append).await? {
            Appended::Replayed => Err(Code::NonceReplayed.into()),
            _ => Ok(Vec::new()),
        };
    };
    let (app, id, nonce) = (user.app_id, user.id, call.nonce);
    let event = event.user(id).prepare();
    let write = move |tx: &mut Tx<'_>| {
        use_nonce(tx, &nonce)?;
        if !users::find(tx, app, id)?.is_some_and(|user| user.status == UserStatus::Active) {
            return Err(identity::refusal(Invalid::Suspended).into());
        }
        append_event(tx, &event)?;
        Ok(groups::list_of_user(tx, app, id)?.into_iter().map(|group| group.id).collect())
    };
    vault.store.write(write).await.map_err(of_store)
}

fn view(call: &Call, user: Option<&User>, groups: &[GroupId], includes_profile: bool) -> Identity {
    let profile = user.filter(|_| includes_profile);
    Identity {
        app_id: call.known.app.id.to_string(),
        app_user_id: user.map(|user| user.id.to_string()),
        external_subject_id: user.map(|user| user.subject.clone()),
        idp_id: user.map(|user| user.idp_id.to_string()),
        user_status: user.map(|user| user.status.as_str().to_owned()),
        group_ids: groups.iter().map(ToString::to_string).collect(),
        agent_id: None,
        actor_id: call.caller.as_ref().and_then(|caller| caller.actor_id).map(|id| id.to_string()),
        trace: trace(call),
        email: profile.and_then(|user| user.email.clone()),
        display_name: profile.and_then(|user| user.name.clone()),
    }
}

fn trace(call: &Call) -> Option<Trace> {
    let of = |key: &str| call.context.get(key).map(str::to_owned);
    let trace = Trace { run_id: of("run_id"), thread_id: of("thread_id") };
    (trace.run_id.is_some() || trace.thread_id.is_some()).then_some(trace)
}
