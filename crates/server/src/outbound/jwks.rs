//! The keys of identity providers: fetched from where they are registered to be, remembered, and kept for the next process.
//!
//! Invariants: one fetch at a time and in [`JWKS_PAUSE_MS`] for one address, whoever asks and however often a token names a key that is not
//! there, as long as the address is among the ten thousand used last. Keys older than [`JWKS_STALE_MS`] prove nothing. No redirect is followed; nothing of an answer stands in an error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::Target;
use grantd_domain::identity::{IdentityProvider, KEYS_UNAVAILABLE, KeySet, Token};
use grantd_store::identity_providers::{self, Fetched};
use grantd_wire::limits::{JWKS_BYTES_MAX, JWKS_DEADLINE_MS, JWKS_FRESH_MS, JWKS_PAUSE_MS, JWKS_STALE_MS};
use grantd_wire::{Code, Error, TimeMs};
use http::{HeaderMap, HeaderValue, Method, header};

use super::client::{Answered, Outgoing, exchange};
use crate::vault::Vault;

/// Addresses that are remembered. There are more only while more are asked for at the same moment.
const ADDRESSES_MAX: usize = 10_000;

/// What was fetched, by address.
#[derive(Default)]
pub struct KeySets(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_url: HashMap<String, Used>,
    uses: u64,
}

struct Used {
    /// Which use was its last.
    last: u64,
    entry: Arc<Entry>,
}

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
        let Entries { by_url, uses } = &mut *entries;
        *uses += 1;
        if let Some(used) = by_url.get_mut(url) {
            used.last = *uses;
            return Arc::clone(&used.entry);
        }
        while by_url.len() >= ADDRESSES_MAX && forget_oldest(by_url) {}
        let entry = Arc::<Entry>::default();
        by_url.insert(url.to_owned(), Used { last: *uses, entry: Arc::clone(&entry) });
        entry
    }
}

/// Forgets the address that was used longest ago; `false`: somebody asks for each of them now. Such a one would be fetched twice at once.
fn forget_oldest(by_url: &mut HashMap<String, Used>) -> bool {
    let idle = by_url.iter().filter(|(_, used)| Arc::strong_count(&used.entry) == 1);
    let oldest = idle.min_by_key(|(_, used)| used.last).map(|(url, _)| url.clone());
    oldest.is_some_and(|url| by_url.remove(&url).is_some())
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
                .detail("check", KEYS_UNAVAILABLE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_asked_longest_ago_and_is_not_asked_now_is_forgotten_first() {
        let sets = KeySets::default();
        let url = |n: usize| format!("https://id{n}.example.com/jwks");
        let count = || sets.0.lock().unwrap().by_url.len();
        // Marked, so that it is told from one made anew; what is kept here is in use.
        let mark = |n: usize| sets.entry(&url(n)).change(|known| known.tried_at = Some(TimeMs(1)));
        let is_marked = |n: usize| sets.entry(&url(n)).known().tried_at.is_some();
        let in_use = sets.entry(&url(0));
        for n in 0..ADDRESSES_MAX {
            mark(n);
        }
        assert_eq!(count(), ADDRESSES_MAX, "at the bound nobody is forgotten");
        assert!(is_marked(1));
        mark(ADDRESSES_MAX);
        assert_eq!(count(), ADDRESSES_MAX);
        assert!(Arc::ptr_eq(&in_use, &sets.entry(&url(0))), "there is one entry to fetch by");
        assert!(is_marked(1) && is_marked(3) && is_marked(ADDRESSES_MAX));
        assert!(!is_marked(2), "0 is in use, 1 was used since");
        // All of them in use: there is one more, until some are free.
        let held: Vec<_> = sets.0.lock().unwrap().by_url.values().map(|used| Arc::clone(&used.entry)).collect();
        mark(ADDRESSES_MAX + 1);
        assert_eq!(count(), ADDRESSES_MAX + 1);
        drop(held);
        mark(ADDRESSES_MAX + 2);
        assert_eq!(count(), ADDRESSES_MAX);
    }
}
