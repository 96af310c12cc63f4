//! Retrieve: decide on one snapshot, make the event durable while confirming that the snapshot still holds, answer.
//!
//! Invariant: no credential leaves before its event is durable, and none on a snapshot that has moved.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::audit::{Kind, Outcome};
use grantd_domain::destination::{Blocked, Target};
use grantd_domain::grant::Principal;
use grantd_domain::identity::User;
use grantd_domain::refresh::Need;
use grantd_domain::resolve::{Ask, Decision, Facts, Held, Speaker, TenantVerdict, decide};
use grantd_domain::secret::Secret;
use grantd_store::grants::{GrantFilter, Listed};
use grantd_store::hot::Known;
use grantd_store::{Append, Appended, Confirm, append_event, apps, crash, grants, groups};
use grantd_wire::ids::{EventId, GrantId};
use grantd_wire::{Code, Error, limits};
use tracing::Instrument as _;

use crate::answer::of_store;
use crate::cache::Remembered;
use crate::caller::Call;
use crate::flow;
use crate::flow::identity;
use crate::flow::refresh::{self, Renewed};
use crate::trace;
use crate::vault::Vault;

/// A release that is asked for.
pub struct Wanted {
    pub which: Which,
    /// Whom the call speaks for.
    pub user_token: Option<Secret>,
    pub method: String,
    pub target: Result<Target, Blocked>,
    pub reason: Option<String>,
}

/// Whose credential is asked for.
pub enum Which {
    Grant(GrantId),
    /// The one grant that fits: the user's, or without a user token the app's own.
    Fitting {
        provider_id: String,
        account: Option<String>,
        label: Option<String>,
    },
}

/// A credential that may leave: its event is durable.
pub struct Released {
    pub of: Arc<Remembered>,
    /// The stored value and fields, or the pair of tokens, as JSON.
    pub value: Secret,
    pub event_id: EventId,
}

/// Releases the credential of a grant, or says why not. A refusal is an event too.
pub async fn run(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    let deadline = Duration::from_millis(limits::TOKEN_DEADLINE_MS);
    match tokio::time::timeout(deadline, release(vault, call, wanted)).await {
        Ok(released) => released,
        Err(_) => Err(Code::Busy.into()),
    }
}

async fn release(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    vault.check_clock()?;
    let remembered = match (&wanted.which, &wanted.user_token) {
        (Which::Grant(grant_id), None) => vault.cache.grant(call.known.app.id, *grant_id, call.known.epochs),
        _ => None,
    };
    // What is refused or does not open may be old: it is looked at again below.
    if let Some(of) = remembered
        && let Ok((tenant, need)) = allowed(vault, call, wanted, Some(&of.held), None)
        && need != Need::Now
        && tenant != TenantVerdict::Binds
        && let Ok(value) = vault.keys.open(&of.held.credential).await
        && let Some(released) = finish(vault, call, wanted, of, value, (tenant, None)).await?
    {
        refresh::keep_fresh(vault, need, &released.of.held.credential);
        return Ok(released);
    }
    Box::pin(release_read(vault, call, wanted)).await
}

/// As the database has it now.
async fn release_read(vault: &Arc<Vault>, call: &mut Call, wanted: &Wanted) -> Result<Released, Error> {
    for _ in 0..limits::DECISIONS_MAX {
        // Of one moment with what follows: each read says its epochs, and all must be those that are confirmed.
        let (grant_id, user) = match find(vault, call, wanted).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                if let Err(dead) = call.renew(vault).await {
                    return Err(call.fail(vault, dead).await);
                }
                continue;
            }
            Err((user, error)) => return Err(deny(vault, call, wanted, None, user.as_ref(), error).await),
        };
        let reading = vault.store.find_held(call.known.app.id, grant_id);
        let snapshot = reading.instrument(trace::part!("store.find_grant")).await.map_err(of_store)?;
        let (epochs, held) = snapshot.ok_or(Code::KeyNotActive)?;
        if epochs != call.known.epochs {
            if let Err(dead) = call.renew(vault).await {
                return Err(call.fail(vault, dead).await);
            }
            if let Err(error) = call.check_grant(grant_id) {
                return Err(deny(vault, call, wanted, None, user.as_ref(), error).await);
            }
            continue;
        }
        let speaker = speaker(vault, user.as_ref(), held.as_ref()).await?;
        let (tenant, need) = match allowed(vault, call, wanted, held.as_ref(), speaker.as_ref()) {
            Ok(allowed) => allowed,
            Err(error) => return Err(deny(vault, call, wanted, held.as_ref(), user.as_ref(), error).await),
        };
        let held = held.ok_or(Code::Internal)?;
        if tenant == TenantVerdict::Binds {
            bind(vault, call, &held).await?;
            continue;
        }
        let place = (held.credential.app_id, held.credential.id);
        match need {
            Need::Nothing | Need::Soon | Need::Reconnect => refresh::keep_fresh(vault, need, &held.credential),
            Need::Now => match Box::pin(refresh::renew(vault, place, held.credential.version)).await {
                Renewed::Moved => continue,
                Renewed::Not(error) => {
                    let error = error.with("grant_id", grant_id.to_string());
                    return Err(deny(vault, call, wanted, Some(&held), user.as_ref(), error).await);
                }
            },
        }
        let value = vault.keys.open(&held.credential).await?;
        let of = vault.cache.remember_grant(epochs, held);
        if let Some(released) = finish(vault, call, wanted, of, value, (tenant, user.as_ref())).await? {
            return Ok(released);
        }
    }
    Err(Code::Busy.into())
}

/// The user whom the call speaks for, and the grant it means. `None`: something moved since the key was read.
async fn find(
    vault: &Arc<Vault>,
    call: &Call,
    wanted: &Wanted,
) -> Result<Option<(GrantId, Option<User>)>, (Option<User>, Error)> {
    let (app, epochs) = (call.known.app.id, call.known.epochs);
    let user = match &wanted.user_token {
        None => None,
        Some(token) => {
            let draft = || call.event(vault, Kind::UserCreated, Outcome::Allowed);
            let finding = async {
                let proved = identity::prove(vault, app, epochs, token.reveal()).await?;
                identity::user(vault, &proved, &draft).await
            };
            let (at, user) = Box::pin(finding).await.map_err(|error| (None, error))?;
            if at != epochs {
                return Ok(None);
            }
            Some(user)
        }
    };
    let found = match &wanted.which {
        Which::Grant(grant_id) => Ok(*grant_id),
        Which::Fitting { provider_id, account, label } => {
            let filter = GrantFilter {
                status: Some("active".to_owned()),
                provider: Some(provider_id.clone()),
                account: account.clone(),
                label: label.clone(),
                user: user.as_ref().map(|user| user.id),
                is_system: user.is_none(),
                limit: i64::try_from(limits::CANDIDATES_MAX).unwrap_or(i64::MAX),
                ..GrantFilter::default()
            };
            let now = vault.env.now();
            let reading = vault.store.read(move |tx| grants::list(tx, app, &filter, now));
            match reading.await.map_err(of_store) {
                Ok((fitting, total)) => one_of(&fitting, total, user.as_ref(), provider_id, account.is_some()),
                Err(error) => Err(error),
            }
        }
    };
    match found.and_then(|grant_id| call.check_grant(grant_id).map(|()| grant_id)) {
        Ok(grant_id) => Ok(Some((grant_id, user))),
        Err(error) => Err((user, error)),
    }
}

/// The one that fits, or what there is to choose from. Never a guess.
fn one_of(
    fitting: &[Listed],
    total: i64,
    user: Option<&User>,
    provider_id: &str,
    account_was_provided: bool,
) -> Result<GrantId, Error> {
    let user_id = user.map(|user| user.id.to_string());
    let about = |code| {
        let error = Error::new(code).with("provider_id", provider_id.to_owned());
        match &user_id {
            Some(user_id) => error.with("app_user_id", user_id.clone()),
            None => error,
        }
    };
    match fitting {
        [] => Err(about(Code::GrantNotFound).message(match user {
            Some(_) => "The user has no grant that fits. Let the user connect the account.",
            None => "The app has no grant of its own that fits. Send a user token to use a user's, or name a grant_id.",
        })),
        [one] => Ok(one.grant.id),
        several => {
            let mut identifiers: Vec<&str> =
                several.iter().filter_map(|l| Some(l.credential.account()?.identifier.as_str())).collect();
            identifiers.sort_unstable();
            identifiers.dedup();
            let ids: Vec<String> = several.iter().map(|listed| listed.grant.id.to_string()).collect();
            let candidates: Vec<serde_json::Value> = several
                .iter()
                .map(|Listed { grant, credential, .. }| {
                    let account = credential.account();
                    serde_json::json!({
                        "grant_id": grant.id,
                        "label": grant.label,
                        "account_identifier": account.map(|account| account.identifier.clone()),
                        "account_display_name": account.and_then(|account| account.name.clone()),
                    })
                })
                .collect();
            let is_truncated = total > i64::try_from(several.len()).unwrap_or(i64::MAX);
            Err(about(Code::AmbiguousGrant)
                .with("account_identifiers", identifiers)
                .with("account_was_provided", account_was_provided)
                .with("app_user_ids", user_id.iter().cloned().collect::<Vec<_>>())
                .with("grant_ids", ids)
                .with("candidates", candidates)
                .with("candidates_truncated", is_truncated))
        }
    }
}

/// Whom the call speaks for. Groups are asked for only where the grant is a group's.
async fn speaker(vault: &Vault, user: Option<&User>, held: Option<&Held>) -> Result<Option<Speaker>, Error> {
    let Some(user) = user else { return Ok(None) };
    let (app, id) = (user.app_id, user.id);
    let groups = match held.map(|held| held.grant.principal) {
        Some(Principal::Group(_)) => {
            let found = vault.store.read(move |tx| groups::list_of_user(tx, app, id)).await.map_err(of_store)?;
            found.into_iter().map(|group| group.id).collect()
        }
        _ => Vec::new(),
    };
    Ok(Some(Speaker { id, groups }))
}

/// Binds a grant to the tenant of its first use, and tells of it. Whoever loses decides again, on what the winner wrote.
async fn bind(vault: &Vault, call: &Call, held: &Held) -> Result<(), Error> {
    let app = &call.known.app;
    let tenant = app.tenant_key.as_ref().and_then(|key| call.context.get(key)).ok_or(Code::Internal)?.to_owned();
    let event = call
        .event(vault, Kind::GrantUpdated, Outcome::Allowed)
        .grant(held.grant.id)
        .provider(held.behind.provider_id())
        .changed("tenant", "unbound", "bound")
        .prepare();
    let (app, grant) = (app.id, held.grant.id);
    let write = move |tx: &mut grantd_store::Tx<'_>| {
        if grants::bind_tenant(tx, app, grant, &tenant)? {
            apps::raise_epoch(tx, app)?;
            append_event(tx, &event)?;
        }
        Ok(())
    };
    vault.store.write(write).await.map_err(of_store)
}

fn allowed(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    held: Option<&Held>,
    user: Option<&Speaker>,
) -> Result<(TenantVerdict, Need), Error> {
    let ask = Ask { target: wanted.target.as_ref().map_err(|e| *e), context: &call.context };
    let facts = Facts { app: &call.known.app, held, user };
    match decide(&ask, &facts, &vault.settings.outbound, vault.env.now()) {
        Decision::Release { tenant, need, .. } => Ok((tenant, need)),
        Decision::Deny(error) => Err(error),
    }
}

/// Makes the event durable; `None` when something of it has changed meanwhile.
async fn finish(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    of: Arc<Remembered>,
    value: Secret,
    (tenant, user): (TenantVerdict, Option<&User>),
) -> Result<Option<Released>, Error> {
    crash::step("token.decided");
    match append(vault, call, wanted, &of.held, (tenant, user)).await? {
        (Appended::Done, event_id) => {
            crash::step("token.durable");
            let (app, key, grant) = (call.known.app.id, call.known.key.id, of.held.grant.id);
            vault.touch(key, Some((app, grant)), call.source.now);
            vault.cache.remember_release(grant, key, of.held.credential.generation, call.source.now);
            Ok(Some(Released { of, value, event_id }))
        }
        (Appended::Moved, _) => Ok(None),
        (Appended::Replayed, _) => Err(Code::NonceReplayed.into()),
    }
}

async fn append(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    held: &Held,
    (tenant, user): (TenantVerdict, Option<&User>),
) -> Result<(Appended, EventId), Error> {
    let mut event = describe(call.event(vault, Kind::TokenReleased, Outcome::Allowed), wanted, Some(held), user)
        .generation(held.credential.generation);
    match tenant {
        TenantVerdict::NotApplied | TenantVerdict::Binds => {}
        TenantVerdict::Match => event = event.core("tenant", "match"),
        TenantVerdict::WouldDeny => event = event.core("tenant", "would_deny"),
    }
    let event_id = event.id();
    let Known { app, epochs, .. } = &*call.known;
    let confirm = Confirm {
        organization_id: app.organization_id,
        app_id: app.id,
        epochs: *epochs,
        credential_id: held.credential.id,
        credential_version: held.credential.version,
    };
    let append = Append { event: event.prepare(), confirm: Some(confirm), nonce: Some(call.nonce) };
    Ok((flow::append(vault, append).await?, event_id))
}

/// The event of a refusal; what cannot be recorded is not answered as refused but as unavailable.
async fn deny(
    vault: &Vault,
    call: &Call,
    wanted: &Wanted,
    held: Option<&Held>,
    user: Option<&User>,
    error: Error,
) -> Error {
    // A provider that fails, of accounts or of identity, is a refusal to tell of; what fails here may be unable to write.
    let is_theirs = matches!(error.code, Code::TokenEndpointFailed | Code::ServiceUnavailable);
    if error.code.status() >= 500 && !is_theirs {
        return error;
    }
    let event = identity::refused(call.event(vault, Kind::TokenDenied, Outcome::Denied), &error);
    let event = describe(event, wanted, held, user);
    record(vault, event, error).await
}

/// Writes the event of a refusal, and gives the refusal back.
pub async fn record(vault: &Vault, event: grantd_domain::audit::Event, error: Error) -> Error {
    match flow::append(vault, Append { event: event.prepare(), confirm: None, nonce: None }).await {
        Ok(_) => error,
        Err(unavailable) => unavailable,
    }
}

fn describe(
    event: grantd_domain::audit::Event,
    wanted: &Wanted,
    held: Option<&Held>,
    user: Option<&User>,
) -> grantd_domain::audit::Event {
    let mut event = event.core("mode", "retrieve").private_text("reason", wanted.reason.as_deref());
    event = match (&wanted.which, held) {
        (Which::Grant(grant_id), _) => event.grant(*grant_id),
        (Which::Fitting { .. }, Some(held)) => event.grant(held.grant.id),
        (Which::Fitting { provider_id, .. }, None) => event.provider(provider_id),
    };
    // Who called, else whose it is.
    let owner = match held.map(|held| held.grant.principal) {
        Some(Principal::User(owner)) => Some(owner),
        _ => None,
    };
    if let Some(user) = user.map(|user| user.id).or(owner) {
        event = event.user(user);
    }
    event = match &wanted.target {
        Ok(target) => {
            let names: Vec<String> = target.query_names().map(std::borrow::Cow::into_owned).collect();
            event.target(&wanted.method, &target.host(), target.path(), &names)
        }
        Err(_) => event.core("method", wanted.method.clone()),
    };
    if let Some(held) = held {
        event = event
            .provider(held.behind.provider_id())
            .credential(held.credential.id, held.credential.version)
            .core("principal_type", held.grant.principal.kind());
        if held.behind.any_host() {
            event = event.core("any_host", true);
        }
    }
    event
}
