//! What callers say happened: claims, kept apart from what grantd itself observed. They change no decision.

use std::sync::Arc;

use grantd_domain::audit::{Kind, Outcome, Owner};
use grantd_domain::context::Context;
use grantd_domain::destination::Target;
use grantd_store::grants::Listed;
use grantd_store::{Append, Tx, apps, audit, grants, renewals};
use grantd_wire::ids::{GenerationId, GrantId};
use grantd_wire::sdk::{CallReport, ScopeMismatchReport};
use grantd_wire::{Code, Error, limits};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, empty, json as json_answer, of_store};
use crate::caller::Call;
use crate::flow;
use crate::flow::refresh;
use crate::parse;
use crate::vault::Vault;

/// Characters of a claimed text that are kept.
const CLAIMED_CHARS_MAX: usize = 500;

/// `POST /sdk/oauth/audit/api-call`.
pub async fn call(vault: &Arc<Vault>, call: &Call) -> Result<Answer, Error> {
    let report: CallReport = parse::json(&call.body)?;
    let (grant_id, listed) = known_grant(vault, call, &report.grant_id).await?;
    let mut claimed = target(&report.method, &report.url);
    claimed.insert("status".to_owned(), json!(report.response_status));
    if let Some(latency_ms) = report.latency_ms {
        claimed.insert("latency_ms".to_owned(), json!(latency_ms));
    }
    let generation = report.token_generation.as_deref().and_then(GenerationId::parse);
    let claim = match generation {
        Some(generation) if released(vault, call, grant_id, generation).await? => Some(generation),
        _ => None,
    };
    let is_rejected = report.response_status == 401 && claim == Some(listed.credential.generation);
    let claim = if claim.is_some() { json!(true) } else { json!("unmatched") };
    let mut event = call
        .event(vault, Kind::CallClaimed, Outcome::Unknown)
        .grant(grant_id)
        .provider(listed.behind.provider_id())
        .core("claim", claim)
        .private("claimed", Some(bounded(claimed)))
        .private("reason", report.reason.map(|r| r.chars().take(limits::REASON_CHARS_MAX).collect::<String>()));
    if call.context.is_empty()
        && let Some(context) = report.context.and_then(|c| Context::parse(&c.to_string()).ok())
    {
        event = event.context(&context, call.known.app.context_index());
    }
    append(vault, call, event).await?;
    if is_rejected {
        reject(vault, call, &listed).await?;
    }
    Ok(json_answer(200, &json!({"accepted": true})))
}

/// `POST /sdk/grants/{id}/report-scope-mismatch`.
pub async fn scope_mismatch(vault: &Vault, call: &Call) -> Result<Answer, Error> {
    let (grant_id, listed) = known_grant(vault, call, &call.params[0]).await?;
    let report: ScopeMismatchReport = parse::json(&call.body)?;
    let missing = report.missing_scopes.unwrap_or_default();
    if missing.len() > MISSING_SCOPES_MAX {
        return Err(Error::invalid("missing_scopes", &format!("must be at most {MISSING_SCOPES_MAX}")));
    }
    let mut claimed = report.api_endpoint.as_deref().map_or_else(Map::new, |url| target("", url));
    claimed.insert("status".to_owned(), json!(report.provider_status_code));
    claimed.insert("error_code".to_owned(), json!(report.provider_error_code));
    claimed.insert("missing_scopes".to_owned(), json!(missing));
    if let Some(id) = report.sdk_correlation_id {
        claimed.insert("correlation_id".to_owned(), json!(id));
    }
    let event = call
        .event(vault, Kind::ScopeMismatchClaimed, Outcome::Unknown)
        .grant(grant_id)
        .provider(listed.behind.provider_id())
        .core("claim", true)
        .private("claimed", Some(bounded(claimed)));
    append(vault, call, event).await?;
    if listed.credential.account().is_some_and(|account| account.scope_mismatch_at.is_none()) {
        let (place, now) = ((call.known.app.id, listed.credential.id), call.source.now);
        let write = move |tx: &mut Tx<'_>| {
            if renewals::mismatch(tx, place, now)? {
                // Remembered grants say so from now on.
                apps::raise_epoch(tx, place.0)?;
            }
            Ok(())
        };
        vault.store.write(write).await.map_err(of_store)?;
    }
    Ok(empty(204))
}

/// A caller saw the provider refuse the very token it was given: it is renewed, which ends the generation that this can be said of.
async fn reject(vault: &Arc<Vault>, call: &Call, listed: &Listed) -> Result<(), Error> {
    let Some(account) = listed.credential.account() else { return Ok(()) };
    let (place, version, now) = ((call.known.app.id, listed.credential.id), listed.credential.version, call.source.now);
    vault.store.write(move |tx| renewals::reject(tx, place, version, now)).await.map_err(of_store)?;
    // Also when it is not the first to say so: an attempt may have failed since, and too early for the next is not an attempt.
    if account.is_refreshable {
        refresh::start(vault, place, version);
    }
    Ok(())
}

/// Scopes named in one report.
const MISSING_SCOPES_MAX: usize = 50;

/// Host, path and query names of a claimed URL; never the query's values.
fn target(method: &str, url: &str) -> Map<String, Value> {
    let mut claimed = Map::new();
    if !method.is_empty() {
        claimed.insert("method".to_owned(), json!(method));
    }
    if let Ok(target) = Target::parse(url) {
        let path = target.path();
        claimed.insert("host".to_owned(), json!(target.host()));
        claimed.insert("path".to_owned(), json!(&path[..path.floor_char_boundary(limits::EVENT_PATH_BYTES_MAX)]));
    }
    claimed
}

/// Cuts claimed texts: they are somebody's words. Paths have their own bound.
fn bounded(mut claimed: Map<String, Value>) -> Value {
    let cut = |text: &str| json!(text.chars().take(CLAIMED_CHARS_MAX).collect::<String>());
    for (name, value) in &mut claimed {
        match value {
            Value::String(text) if name != "path" => *value = cut(text),
            Value::Array(items) => {
                for item in items {
                    if let Value::String(text) = item {
                        *item = cut(text);
                    }
                }
            }
            // Numbers of an event are integers below 2^53.
            Value::Number(n) if n.as_i64().is_none_or(|n| n.unsigned_abs() >= 1 << 53) => *value = Value::Null,
            _ => {}
        }
    }
    Value::Object(claimed)
}

/// The grant a report is about, if the key may report on it: a key for one grant learns nothing of another.
/// A grant of the caller's app and its provider: what the caller says of the provider decides nothing.
async fn known_grant(vault: &Vault, call: &Call, text: &str) -> Result<(GrantId, Listed), Error> {
    let grant_id = GrantId::parse(text).ok_or(Code::GrantNotFound)?;
    call.check_either("audit:emit", "tokens:retrieve", &grant_id.to_string())?;
    let app = call.known.app.id;
    let found = vault.store.read(move |tx| grants::find(tx, app, grant_id)).await.map_err(of_store)?;
    found.map(|listed| (grant_id, listed)).ok_or_else(|| Code::GrantNotFound.into())
}

async fn released(vault: &Vault, call: &Call, grant: GrantId, generation: GenerationId) -> Result<bool, Error> {
    let (app, key, since) = (call.known.app.id, call.known.key.id, call.source.now.plus_ms(-limits::CLAIM_WINDOW_MS));
    if vault.cache.has_release(grant, key, generation, since) {
        return Ok(true);
    }
    // Of another process, or long ago: the trail knows.
    vault.store.catch_up(Owner::App(app)).await.map_err(of_store)?;
    let has = move |tx: &mut grantd_store::Tx<'_>| audit::has_release(tx, app, grant, key, generation, since);
    vault.store.read(has).await.map_err(of_store)
}

async fn append(vault: &Vault, call: &Call, event: grantd_domain::audit::Event) -> Result<(), Error> {
    let append = Append { event: event.prepare(), confirm: None, nonce: Some(call.nonce) };
    match flow::append(vault, append).await? {
        grantd_store::Appended::Replayed => Err(Code::NonceReplayed.into()),
        _ => Ok(()),
    }
}
