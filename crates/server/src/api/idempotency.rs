//! `Idempotency-Key`: whoever sends a creation or a rotation again under the same key gets the first answer again, and nothing is
//! made twice.
//!
//! Invariants: the answer is kept in the write that creates what it tells of, so neither is without the other. It is kept sealed,
//! because it may hold a text that is shown once. One that does not open is an error, and never a reason to create again. Of the
//! request only keyed hashes are kept: its body may hold a value short enough to be found by trying.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use grantd_domain::seal::Place;
use grantd_store::idempotency::{self, Kept};
use grantd_store::operators::Role;
use grantd_store::{Error as StoreError, Result as Stored, Tx};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Request, Who, version};
use crate::answer::{Answer, of_store, raw};
use crate::install::Pepper;
use crate::routes::Api;
use crate::vault::Vault;

/// The header that names a call.
pub const HEADER: &str = "idempotency-key";
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// One call, however often it is sent.
#[derive(Clone, Copy)]
pub struct Attempt {
    /// Of the token and the key.
    key_hash: [u8; 32],
    /// Of all else that decides what the call does.
    request_hash: [u8; 32],
}

/// What a write did.
enum Made {
    Now(Zeroizing<Vec<u8>>),
    Before(Kept),
}

impl Attempt {
    /// What the head says; `None` without a key. With another role the same words are another call.
    pub fn parse(pepper: &Pepper, parts: &Parts, who: &Who, role: Role, body: &[u8]) -> Result<Option<Self>, Error> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(key) = values.next() else { return Ok(None) };
        let key = key.as_bytes();
        let fits = (1..=limits::IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len());
        if !fits || !key.iter().all(u8::is_ascii_graphic) || values.next().is_some() {
            let most = limits::IDEMPOTENCY_KEY_CHARS_MAX;
            let why = format!("must be 1-{most} visible ASCII characters, and there once");
            return Err(Error::impossible("Idempotency-Key", &why).hint("A random UUID for each new request is good."));
        }
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        Ok(Some(Self::new(pepper, key, who, role, (parts.method.as_str(), target), body)))
    }

    /// The call of this key; also what a form of a page does that was drawn with it.
    pub fn new(
        pepper: &Pepper,
        key: &[u8],
        who: &Who,
        role: Role,
        (method, target): (&str, &str),
        body: &[u8],
    ) -> Self {
        Self {
            key_hash: hash(pepper, &[who.id(), key]),
            request_hash: hash(pepper, &[role.as_str().as_bytes(), method.as_bytes(), target.as_bytes(), body]),
        }
    }

    /// Where its answer is sealed: for this call alone.
    fn place<'a>(&self, expires_at: TimeMs) -> Place<'a> {
        let mut row = [0; 16];
        row.copy_from_slice(&sha256(&[self.key_hash, self.request_hash].concat())[..16]);
        Place { table: "idempotency", app: None, row, field: "answer_sealed", version: expires_at.0 }
    }

    async fn replay(&self, vault: &Vault, route: Api, kept: &Kept) -> Result<Answer, Error> {
        if kept.request_hash != self.request_hash {
            return Err(Error::new(Code::Conflict)
                .message("This Idempotency-Key was used for another request.")
                .hint("Use a new key for a new request."));
        }
        let body = vault.keys.open_of_install(self.place(kept.expires_at), &kept.answer_sealed).await?;
        let mut answer = done(route, body);
        answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(answer)
    }
}

/// An answer whose body is wiped when it has been written.
fn done(route: Api, body: Zeroizing<Vec<u8>>) -> Answer {
    let body = Bytes::from_owner(body);
    // A new value makes no new secret, and another published key is no object of anybody's; all else that is done once creates one.
    let status = if matches!(route, Api::SecretsRotate | Api::IdentityKeysRotate) { 200 } else { 201 };
    version::made(raw(status, "application/json", Body::from(body.clone())), route, &body)
}

fn body_of(made: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(made).expect("bodies of ours have a JSON form"))
}

/// Each part behind its length, so that no two lists of parts read the same.
fn hash(pepper: &Pepper, parts: &[&[u8]]) -> [u8; 32] {
    let mut text = Zeroizing::new(b"grantd.idempotency.1".to_vec());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    pepper.hash(&*text)
}

impl Request {
    /// The first answer again, if this very call was answered before. Another call under the same key goes on, to be refused by
    /// [`once`](Self::once) if it is one that takes a key.
    pub async fn replayed(&self, vault: &Vault) -> Result<Option<Answer>, Error> {
        let Some(attempt) = self.attempt else { return Ok(None) };
        let now = self.source.now;
        let kept = vault.store.read(move |tx| idempotency::find(tx, &attempt.key_hash, now)).await.map_err(of_store)?;
        match kept.filter(|kept| kept.request_hash == attempt.request_hash) {
            Some(kept) => attempt.replay(vault, self.route, &kept).await.map(Some),
            None => Ok(None),
        }
    }

    /// Runs a write that is done once for each key, and answers what it gives. Every creation and rotation of this API goes through
    /// here.
    pub async fn once<T: Serialize + Send + 'static>(
        &self,
        vault: &Vault,
        mut run: impl FnMut(&mut Tx<'_>) -> Stored<T> + Send + 'static,
    ) -> Result<Answer, Error> {
        let Some(attempt) = self.attempt else {
            return Ok(done(self.route, body_of(&vault.store.write(run).await.map_err(of_store)?)));
        };
        let now = self.source.now;
        let expires_at = now.plus_ms(limits::IDEMPOTENCY_KEPT_MS);
        let env = Arc::clone(&vault.env);
        let key = vault.keys.take_seal(&*env, None).await?;
        let made = vault
            .store
            .write(move |tx| {
                if let Some(kept) = idempotency::find(tx, &attempt.key_hash, now)? {
                    return Ok(Made::Before(kept));
                }
                let body = body_of(&run(tx)?);
                // A write that runs again seals again. The bound of a key's seals is half of what the cipher bears.
                let answer_sealed = key.seal(&*env, attempt.place(expires_at), &body);
                let kept = Kept { request_hash: attempt.request_hash, answer_sealed, expires_at };
                idempotency::insert(tx, &attempt.key_hash, &kept, now)?;
                Ok(Made::Now(body))
            })
            .await;
        match made {
            Ok(Made::Now(body)) => Ok(done(self.route, body)),
            Ok(Made::Before(kept)) => attempt.replay(vault, self.route, &kept).await,
            Err(lost @ (StoreError::Duplicate | StoreError::Refused(_))) => {
                // The same call on another replica may have been faster, and be why this one could not.
                let kept = vault.store.read(move |tx| idempotency::find(tx, &attempt.key_hash, now)).await;
                match kept.map_err(of_store)? {
                    Some(kept) => attempt.replay(vault, self.route, &kept).await,
                    None => Err(of_store(lost)),
                }
            }
            Err(e) => Err(of_store(e)),
        }
    }
}
