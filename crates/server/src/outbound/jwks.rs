//! The keys of identity providers: fetched from where they are registered to be, remembered, and kept for the next process.
//!
//! Invariants: one fetch at a time and in [`JWKS_PAUSE_MS`] for one address, whoever asks and however often a token names a key that is not
//! there. Keys older than [`JWKS_STALE_MS`] prove nothing. No redirect is followed; nothing of an answer stands in an error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::Target;
use grantd_domain::identity::{IdentityProvider, KeySet, Token};
use grantd_store::identity_providers::{self, Fetched};
use grantd_wire::limits::{JWKS_BYTES_MAX, JWKS_DEADLINE_MS, JWKS_FRESH_MS, JWKS_PAUSE_MS, JWKS_STALE_MS};
use grantd_wire::{Code, Error, TimeMs};
use http::{HeaderMap, HeaderValue, Method, header};

use super::client::{Answered, Outgoing, exchange};
use crate::vault::Vault;

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// What was fetched, by address.
#[derive(Default)]
pub struct KeySets(Mutex<HashMap<String, Arc<Entry>>>);

#[derive(Default)]
struct Entry {
    known: Mutex<Known>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Option<(Arc<KeySet>, TimeMs)>,
    /// Whether what an earlier process kept was looked for.
    was_read: bool,
    tried_at: Option<TimeMs>,
    /// Why the last fetch brought none.
    problem: Option<String>,
}

impl KeySets {
    fn entry(&self, url: &str) -> Arc<Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ADDRESSES_MAX && !entries.contains_key(url) {
            entries.clear();
        }
        Arc::clone(entries.entry(url.to_owned()).or_default())
    }
}

impl Entry {
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Known {
    /// Keys that still prove something.
    fn usable(&self, now: TimeMs) -> Option<&(Arc<KeySet>, TimeMs)> {
        self.keys.as_ref().filter(|(_, at)| now.since(*at) < JWKS_STALE_MS)
    }

    fn may_try(&self, now: TimeMs) -> bool {
        self.tried_at.is_none_or(|at| !(0..JWKS_PAUSE_MS).contains(&now.since(at)))
    }
}

/// The keys to prove a token with. They need not have its key: then nobody could fetch them anew.
pub async fn keys(vault: &Arc<Vault>, idp: &Arc<IdentityProvider>, token: &Token<'_>) -> Result<Arc<KeySet>, Error> {
    let entry = vault.identities.key_sets.entry(&idp.endpoints.jwks_url);
    let now = vault.env.now();
    if let Some((keys, at)) = entry.known().usable(now)
        && token.has_key(keys)
    {
        if now.since(*at) >= JWKS_FRESH_MS && entry.known().may_try(now) {
            drop(start(vault, idp, &entry, None));
        }
        return Ok(Arc::clone(keys));
    }
    // A caller that hangs up ends no fetch that others wait for.
    let seen = entry.known().keys.map(|(_, at)| at);
    start(vault, idp, &entry, seen).await.map_err(|_| Error::new(Code::Internal))?;
    let known = entry.known();
    match known.usable(now) {
        Some((keys, _)) => Ok(Arc::clone(keys)),
        None => {
            let why = known.problem.unwrap_or_else(|| "they were not fetched in time".to_owned());
            Err(Error::new(Code::ServiceUnavailable)
                .message(format!(
                    "The identity provider's keys cannot be had: {why}. Retry; if it stays so, have an operator look at the jwks_url it is registered with."
                ))
                .retry_after(10))
        }
    }
}

/// Fetches in a task of its own, unless somebody else just did. `seen`: when the keys were fetched that were not enough.
fn start(
    vault: &Arc<Vault>,
    idp: &Arc<IdentityProvider>,
    entry: &Arc<Entry>,
    seen: Option<TimeMs>,
) -> tokio::task::JoinHandle<()> {
    let (vault_of_task, idp, entry) = (Arc::clone(vault), Arc::clone(idp), Arc::clone(entry));
    vault.tasks.spawn(async move { Box::pin(refresh(&vault_of_task, &idp, &entry, seen)).await })
}

async fn refresh(vault: &Vault, idp: &IdentityProvider, entry: &Entry, seen: Option<TimeMs>) {
    let _alone = entry.fetching.lock().await;
    if !entry.known().was_read {
        read_kept(vault, idp, entry).await;
    }
    let (now, known) = (vault.env.now(), entry.known());
    // While this waited, another brought what it wants; or it is too early to ask again.
    let is_new = known.usable(now).is_some_and(|(_, at)| Some(*at) != seen && now.since(*at) < JWKS_FRESH_MS);
    if (is_new && seen.is_some()) || !known.may_try(now) {
        return;
    }
    entry.change(|known| known.tried_at = Some(now));
    match fetch(vault, &idp.endpoints.jwks_url).await {
        Ok((keys, text)) => {
            entry.change(|known| {
                known.keys = Some((Arc::new(keys), now));
                known.problem = None;
            });
            keep(vault, idp, text, now).await;
        }
        Err(why) => {
            tracing::warn!(idp.id = %idp.id, why, "The keys of an identity provider were not fetched");
            entry.change(|known| known.problem = Some(why));
        }
    }
}

/// What an earlier process kept, or another one.
async fn read_kept(vault: &Vault, idp: &IdentityProvider, entry: &Entry) {
    let (app, id) = (idp.app_id, idp.id);
    match vault.store.read(move |tx| identity_providers::find_keys(tx, app, id)).await {
        Ok(kept) => {
            let kept = kept.filter(|kept| kept.url == idp.endpoints.jwks_url);
            let keys = kept.and_then(|kept| Some((Arc::new(KeySet::parse(kept.text.as_bytes()).ok()?), kept.at)));
            entry.change(|known| {
                known.was_read = true;
                known.keys = known.keys.take().or(keys);
            });
        }
        Err(error) => tracing::warn!(idp.id = %idp.id, %error, "The kept keys of an identity provider were not read"),
    }
}

async fn keep(vault: &Vault, idp: &IdentityProvider, text: String, at: TimeMs) {
    let fetched = Fetched { url: idp.endpoints.jwks_url.clone(), at, text };
    let (app, id) = (idp.app_id, idp.id);
    let write = move |tx: &mut grantd_store::Tx<'_>| identity_providers::keep_keys(tx, app, id, &fetched);
    if let Err(error) = vault.store.write(write).await {
        tracing::warn!(idp.id = %id, %error, "The keys of an identity provider were not kept for the next process");
    }
}

/// Fetches a set, as what it is and as its text. The error is words that follow a colon.
pub async fn fetch(vault: &Vault, url: &str) -> Result<(KeySet, String), String> {
    let target = Target::parse(url).map_err(|_| "their address is no URL that can be called".to_owned())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    let outgoing = Outgoing {
        method: Method::GET,
        target: &target,
        headers,
        body: Bytes::new(),
        answer_bytes_max: Some(JWKS_BYTES_MAX),
    };
    let deadline = Duration::from_millis(JWKS_DEADLINE_MS);
    let answered = exchange(&vault.outbound, &vault.settings.outbound, outgoing, deadline).await;
    let Answered { status, body } = answered.map_err(|why| why.to_string())?;
    match status {
        200 => {}
        300..=399 => return Err("the address answers with a redirect, which is not followed".to_owned()),
        status => return Err(format!("the address answers {status}")),
    }
    let body = body.ok_or_else(|| format!("the answer breaks off, or is larger than {} KiB", JWKS_BYTES_MAX / 1024))?;
    let keys = KeySet::parse(&body).map_err(|why| format!("the answer {why}"))?;
    let text = String::from_utf8(body.to_vec()).map_err(|_| "the answer is no UTF-8".to_owned())?;
    Ok((keys, text))
}
