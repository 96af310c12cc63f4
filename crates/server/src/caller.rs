//! Who calls `/sdk`: from headers and body to a [`Call`], or a 401.
//!
//! The order is fixed: key and liveness, source address, form of the headers, time, body, signature, identity headers, nonce,
//! rate limit, caller, scope. Invariant: the body of an unknown key is never read, and a `Call` exists only after all of it.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::context::Context;
use grantd_domain::env::new_uuid;
use grantd_domain::grant::{ApiKey, App};
use grantd_domain::rate::{Limit, Verdict};
use grantd_domain::replay::Seen;
use grantd_store::hot::{Known, Nonce};
use grantd_store::{Append, keys};
use grantd_wire::ids::{ActorId, AgentId, RequestId};
use grantd_wire::scope::Scope;
use grantd_wire::sign::{self, SigningKey, ToSign};
use grantd_wire::{Code, Error, TimeMs, key, limits};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::answer::of_store;
use crate::flow;
use crate::routes::{Needs, SdkRoute};
use crate::scopes;
use crate::vault::Vault;

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The client's address, as far as trusted proxies tell it.
    pub ip: IpAddr,
    pub user_agent: Option<String>,
    pub request_id: RequestId,
    /// From `traceparent`; attribution only.
    pub trace_id: Option<String>,
    pub now: TimeMs,
}

/// An authenticated call of `/sdk`.
pub struct Call {
    pub known: Arc<Known>,
    pub key_hash: [u8; 32],
    pub caller: Option<Caller>,
    pub context: Context,
    /// True for a key that may send caller and context unsigned, and did.
    pub identity_unsigned: bool,
    /// The scopes it narrowed itself to, if it did.
    pub narrowed: Option<Vec<Scope>>,
    /// `X-Alter-Scope-Constraints` as it came, to be looked at again when the key has changed.
    scope_constraints: String,
    pub has_request_rule: bool,
    pub nonce: Nonce,
    pub body: Bytes,
    /// Path segments that the route leaves open, still encoded.
    pub params: Vec<String>,
    pub source: Source,
}

/// What the caller says of itself. Never widens anything.
#[derive(Clone, Debug)]
pub struct Caller {
    pub label: String,
    /// Registered for the label, unless the app has too many.
    pub actor_id: Option<ActorId>,
}

/// The key's rate limit after this call.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub limit: u32,
    pub remaining: u32,
    pub reset: TimeMs,
}

/// Headers that tell the caller about itself, also on errors after authentication.
#[derive(Default)]
pub struct Told {
    pub actor_id: Option<ActorId>,
    pub rate: Option<Rate>,
    pub deprecated: bool,
}

impl Told {
    /// Writes them.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.actor_id {
            headers.insert(sign::HEADER_ACTOR_ID, HeaderValue::from_str(&id.to_string()).expect("an id is ASCII"));
        }
        if let Some(rate) = self.rate {
            headers.insert("x-ratelimit-limit", HeaderValue::from(rate.limit));
            headers.insert("x-ratelimit-remaining", HeaderValue::from(rate.remaining));
            headers.insert("x-ratelimit-reset", HeaderValue::from(rate.reset.0.div_euclid(1000) + 1));
        }
        if self.deprecated {
            headers.insert("x-alter-key-deprecated", HeaderValue::from_static("true"));
        }
    }
}

/// The key was found; nothing is proved yet.
struct Claimed {
    known: Arc<Known>,
    key_hash: [u8; 32],
    api_key: zeroize::Zeroizing<String>,
}

/// Authenticates a request to a route of the table. `told` is filled as soon as the caller may know.
pub async fn authenticate(
    vault: &Vault,
    route: &SdkRoute,
    params: Vec<String>,
    parts: &Parts,
    body: Body,
    source: Source,
    told: &mut Told,
) -> Result<Call, Error> {
    let mut claimed = match find_key(vault, route, parts).await {
        Ok(claimed) => claimed,
        Err(e) => return Err(Box::pin(failed(vault, &source, None, e)).await),
    };
    if let Err(e) = may_call_now(vault, route, &mut claimed, &source).await {
        return Err(Box::pin(failed(vault, &source, Some(&claimed.known), e)).await);
    }
    let (known, key_hash) = (Arc::clone(&claimed.known), claimed.key_hash);
    let (mut call, signed) = match prove(route, params, parts, body, &source, claimed).await {
        Ok(proved) => proved,
        Err(e) => {
            let dead = if route.releases { Box::pin(vault.check_key(key_hash, &source)).await.err() } else { None };
            return Err(Box::pin(failed(vault, &source, Some(&known), dead.unwrap_or(e))).await);
        }
    };
    match admit(vault, route, &mut call, &parts.headers, &signed, told).await {
        Ok(()) => Ok(call),
        Err(e) if e.code == Code::NonceReplayed => Err(Box::pin(failed(vault, &source, Some(&known), e)).await),
        // A limit must stay cheap: what it refuses is not written down.
        Err(e) if route.releases && e.code.status() < 500 && e.code != Code::RateLimitExceeded => {
            Err(Box::pin(call.refuse(vault, e)).await)
        }
        Err(e) => Err(e),
    }
}

/// The key a request names. A route that releases confirms what it decided on, so there the key may be the remembered one.
async fn find_key(vault: &Vault, route: &SdkRoute, parts: &Parts) -> Result<Claimed, Error> {
    let text = single(&parts.headers, sign::HEADER_KEY)?.ok_or(Code::InvalidKey)?;
    let unknown = || Error::new(Code::InvalidKey).hint("Keys look like alter_rk_…; `grantd keys mint` makes one.");
    key::check(text).map_err(|_| unknown())?;
    let key_hash = vault.pepper.hash(text);
    let remembered = if route.releases { vault.cache.key(&key_hash, vault.env.now()) } else { None };
    let known = match remembered {
        Some(known) => known,
        None => Box::pin(vault.find_key(key_hash)).await?.ok_or_else(unknown)?,
    };
    Ok(Claimed { known, key_hash, api_key: zeroize::Zeroizing::new(text.to_owned()) })
}

/// As [`may_call`]; what a remembered key does not allow is asked of the database.
async fn may_call_now(vault: &Vault, route: &SdkRoute, claimed: &mut Claimed, source: &Source) -> Result<(), Error> {
    match may_call(&claimed.known, source) {
        Err(_) if route.releases => {
            claimed.known = Box::pin(vault.check_key(claimed.key_hash, source)).await?;
            Ok(())
        }
        other => other,
    }
}

impl Vault {
    /// The key as it is now, if it may call.
    async fn check_key(&self, key_hash: [u8; 32], source: &Source) -> Result<Arc<Known>, Error> {
        let known = self.find_key(key_hash).await?.ok_or(Code::InvalidKey)?;
        may_call(&known, source)?;
        Ok(known)
    }
}

/// Whether the key may be used now, and from there.
fn may_call(known: &Known, source: &Source) -> Result<(), Error> {
    known.key.alive(known.app.state, source.now)?;
    if !known.key.cidrs.is_empty() && !known.key.cidrs.iter().any(|net| net.contains(&source.ip)) {
        return Err(Code::IpNotAllowed.into());
    }
    Ok(())
}

/// Up to the signature: after this the request is the key holder's, though nothing it says of itself is looked at yet.
async fn prove<'h>(
    route: &SdkRoute,
    params: Vec<String>,
    parts: &'h Parts,
    body: Body,
    source: &Source,
    claimed: Claimed,
) -> Result<(Call, Signed<'h>), Error> {
    let headers = &parts.headers;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::EncodingUnsupported.into());
    }
    let signed = Signed::read(headers)?;
    let off_s = source.now.0.div_euclid(1000) - signed.timestamp;
    if off_s.abs() > limits::SIGNATURE_WINDOW_S {
        return Err(Code::TimestampOutOfRange.into());
    }
    let body = read_body(parts, body, route.body_bytes_max).await?;
    if sign::sha256(&body) != signed.content_sha256 {
        return Err(Code::ContentHashMismatch.into());
    }
    let target = sign::canonical_target(parts.uri.path(), parts.uri.query());
    let identity_unsigned =
        verify(&signed, parts.method.as_str(), &target, &claimed.api_key, claimed.known.key.allow_unsigned_identity)?;
    let call = Call {
        nonce: Nonce {
            key_id: claimed.known.key.id,
            nonce: signed.nonce,
            signed_at: TimeMs(0).plus_seconds(signed.timestamp),
        },
        narrowed: None,
        scope_constraints: signed.to_sign.scope_constraints.to_owned(),
        known: claimed.known,
        key_hash: claimed.key_hash,
        caller: None,
        context: Context::default(),
        identity_unsigned,
        has_request_rule: false,
        body,
        params,
        source: source.clone(),
    };
    Ok((call, signed))
}

/// After the signature: what the caller says of itself, the nonce, the rate, the scopes.
async fn admit(
    vault: &Vault,
    route: &SdkRoute,
    call: &mut Call,
    headers: &HeaderMap,
    signed: &Signed<'_>,
    told: &mut Told,
) -> Result<(), Error> {
    let now = call.source.now;
    let identity = Identity::read(&signed.to_sign)?;
    if !signed.to_sign.context.is_empty() {
        call.context = Context::parse(signed.to_sign.context)?;
    }
    let seen = {
        let mut nonces = vault.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.insert(*call.known.key.id.as_bytes(), signed.nonce, now)
    };
    match seen {
        Seen::New => {}
        Seen::Replayed => return Err(Code::NonceReplayed.into()),
        Seen::Full => return Err(Code::Busy.into()),
    }
    told.deprecated = call.known.key.deprecated_at.is_some();
    take_rate(vault, &call.known.key, now, told)?;
    call.caller = caller(vault, &call.known.app, headers, identity, now).await?;
    told.actor_id = call.caller.as_ref().filter(|_| signs_identity(headers)).and_then(|c| c.actor_id);
    if let Err(e) = call.check_scopes(route.needs) {
        if !route.releases {
            return Err(e);
        }
        // It was a remembered key that lacked something.
        Box::pin(call.renew(vault)).await?;
        call.check_scopes(route.needs)?;
    }
    call.has_request_rule = check_request_rule(signed.to_sign.request_rule)?;
    Ok(())
}

/// The signing headers, well formed.
struct Signed<'a> {
    timestamp: i64,
    nonce: [u8; 16],
    content_sha256: [u8; 32],
    signature: [u8; 32],
    signature_v2: &'a str,
    signature_text: &'a str,
    to_sign: ToSign<'a>,
}

impl<'a> Signed<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Error> {
        let missing = |name: &str| {
            Error::new(Code::SignatureInvalid)
                .message(format!("{name} is missing or malformed. Sign the request anew."))
        };
        let text = |name: &'static str| Ok::<_, Error>(single(headers, name)?.unwrap_or_default());
        let timestamp = text(sign::HEADER_TIMESTAMP)?;
        let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|b| b.is_ascii_digit());
        let nonce = text(sign::HEADER_NONCE)?;
        let content_sha256 = text(sign::HEADER_CONTENT_SHA256)?;
        let signature_text = text(sign::HEADER_SIGNATURE)?;
        Ok(Self {
            timestamp: timestamp.parse().ok().filter(|_| digits).ok_or_else(|| missing("X-Alter-Timestamp"))?,
            nonce: sign::unhex(nonce).ok_or_else(|| missing("X-Alter-Nonce"))?,
            content_sha256: sign::unhex(content_sha256).ok_or_else(|| missing("X-Alter-Content-SHA256"))?,
            signature: sign::unhex(signature_text).ok_or_else(|| missing("X-Alter-Signature"))?,
            signature_v2: text(sign::HEADER_SIGNATURE_V2)?,
            signature_text,
            to_sign: ToSign {
                timestamp,
                nonce,
                content_sha256,
                scope_constraints: text(sign::HEADER_SCOPE_CONSTRAINTS)?,
                request_rule: text(sign::HEADER_REQUEST_RULE)?,
                caller: text(sign::HEADER_CALLER)?,
                caller_type: text(sign::HEADER_CALLER_TYPE)?,
                actor_id: text(sign::HEADER_ACTOR_ID)?,
                context: text(sign::HEADER_CONTEXT)?,
                ..ToSign::default()
            },
        })
    }
}

/// A header that may stand once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let bad = |why: &str| Error::new(Code::SignatureInvalid).message(format!("{name} {why}. Sign the request anew."));
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| bad("is not ASCII")),
        (Some(_), Some(_)) => Err(bad("is sent more than once")),
    }
}

/// Verifies the signature over every identity header that is present. `Ok(true)`: identity was sent unsigned, and the key may.
fn verify(
    signed: &Signed<'_>,
    method: &str,
    target: &str,
    api_key: &str,
    may_be_unsigned: bool,
) -> Result<bool, Error> {
    let to_sign = ToSign { method, target, ..signed.to_sign };
    let key = SigningKey::derive(api_key);
    let has_identity = to_sign.has_identity();
    let v2_fits = match signed.signature_v2 {
        "" => !has_identity,
        v2 => has_identity && v2 == signed.signature_text,
    };
    if v2_fits && key.verify(&to_sign.text(), &signed.signature) {
        return Ok(false);
    }
    let bare = ToSign { caller: "", caller_type: "", actor_id: "", context: "", ..to_sign };
    let old_client = may_be_unsigned && has_identity && signed.signature_v2.is_empty();
    if old_client && key.verify(&bare.text(), &signed.signature) {
        return Ok(true);
    }
    Err(Code::SignatureInvalid.into())
}

async fn read_body(parts: &Parts, body: Body, bytes_max: usize) -> Result<Bytes, Error> {
    let too_large = || Error::new(Code::BodyTooLarge).detail("bytes_max", bytes_max);
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|n| n > bytes_max as u64) {
        return Err(too_large());
    }
    let wait = Duration::from_millis(limits::BODY_TIMEOUT_MS);
    match tokio::time::timeout(wait, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(Code::InvalidRequest).message("The body could not be read. Send it again.")),
        Err(_) => Err(Code::RequestTimeout.into()),
    }
}

/// Reads a body within the bounds of every route.
pub async fn body(parts: &Parts, body: Body, bytes_max: usize) -> Result<Bytes, Error> {
    read_body(parts, body, bytes_max).await
}

/// Caller and caller type within their limits.
struct Identity<'a> {
    caller: Option<(&'a str, &'static str)>,
}

impl<'a> Identity<'a> {
    fn read(sent: &ToSign<'a>) -> Result<Self, Error> {
        let caller_type = match sent.caller_type {
            "" | "service" => "service",
            "agent" => "agent",
            _ => return Err(Code::InvalidCaller.into()),
        };
        let printable = |b: u8| (0x20..=0x7e).contains(&b);
        let fits = sent.caller.len() <= limits::CALLER_CHARS_MAX && sent.caller.bytes().all(printable);
        if !fits || (sent.caller.is_empty() && !sent.caller_type.is_empty()) {
            return Err(Code::InvalidCaller.into());
        }
        if !sent.actor_id.is_empty() && ActorId::parse(&sent.actor_id.to_ascii_lowercase()).is_none() {
            return Err(Error::invalid("X-Alter-Actor-ID", "must be the UUID this server answered"));
        }
        Ok(Self { caller: (!sent.caller.is_empty()).then_some((sent.caller, caller_type)) })
    }
}

/// Takes one call from the key's limit; what is left is told either way.
fn take_rate(vault: &Vault, key: &ApiKey, now: TimeMs, told: &mut Told) -> Result<(), Error> {
    let Some(rpm) = key.rate_limit_rpm else { return Ok(()) };
    let limit = Limit::shared(rpm, vault.settings.replicas);
    match vault.key_rates.take(key.id, limit, now) {
        Verdict::Pass { remaining, reset, .. } => {
            told.rate = Some(Rate { limit: rpm, remaining, reset });
            Ok(())
        }
        Verdict::Refuse { retry_after_ms, reset } => {
            told.rate = Some(Rate { limit: rpm, remaining: 0, reset });
            Err(too_fast("api_key", rpm, retry_after_ms))
        }
    }
}

/// The refusal of what comes too often.
pub fn too_fast(scope: &str, per_minute: u32, retry_after_ms: i64) -> Error {
    let seconds = u32::try_from(retry_after_ms.max(0) / 1000 + 1).unwrap_or(u32::MAX);
    Error::new(Code::RateLimitExceeded)
        .with("retry_after", seconds)
        .with("scope", scope)
        .with("limit", per_minute)
        .with("window_seconds", 60)
        .retry_after(seconds)
}

async fn caller(
    vault: &Vault,
    app: &App,
    headers: &HeaderMap,
    identity: Identity<'_>,
    now: TimeMs,
) -> Result<Option<Caller>, Error> {
    let Some((label, caller_type)) = identity.caller else { return Ok(None) };
    if AgentId::parse(&label.to_ascii_lowercase()).is_some() {
        // A UUID names an agent, and there are none yet.
        return Err(Code::CallerAgentUnresolved.into());
    }
    let mut caller = Caller { label: label.to_owned(), actor_id: None };
    caller.actor_id = vault.cached_actor(app.id, label, caller_type);
    if caller.actor_id.is_none() && signs_identity(headers) {
        let (app_id, label) = (app.id, label.to_owned());
        let new = ActorId::from_uuid(new_uuid(&*vault.env));
        let write = vault.store.write(move |tx| keys::register_actor(tx, app_id, &label, caller_type, new, now));
        let registered = Box::pin(write).await.map_err(of_store)?;
        if let Some(id) = registered {
            vault.cache_actor(app.id, &caller.label, caller_type, id);
        }
        caller.actor_id = registered;
    }
    Ok(Some(caller))
}

/// Clients before 0.21 would echo an actor id without signing it, and fail from then on: they are sent none.
fn signs_identity(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some(version) = agent.strip_prefix("alter-sdk-python/") else { return true };
    let mut numbers = version.split(['.', ' ', '-', '+']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (0, 21)
}

/// Whether the request carries a rule; a malformed one is refused.
fn check_request_rule(text: &str) -> Result<bool, Error> {
    use base64::Engine as _;
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        rule_type: String,
        rule_body: serde_json::Map<String, serde_json::Value>,
    }
    if text.is_empty() {
        return Ok(false);
    }
    let malformed = || Error::new(Code::InvalidRequestRule);
    if text.len() > limits::REQUEST_RULE_CHARS_MAX {
        return Err(malformed());
    }
    let json = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
    let rule: Rule = serde_json::from_slice(&json).map_err(|_| malformed())?;
    if rule.rule_type.is_empty() || rule.rule_body.len() > limits::REQUEST_RULE_CHARS_MAX {
        return Err(malformed());
    }
    Ok(true)
}

impl Call {
    /// Narrows the key's scopes as the call asks, and looks whether they open the route.
    fn check_scopes(&mut self, needs: Needs) -> Result<(), Error> {
        self.narrowed = scopes::narrowed(&self.known.key, &self.scope_constraints)?;
        scopes::check(&self.known.key, self.scopes(), needs)
    }

    /// Reads the key again, and whether it may still call: something of its app changed, or it was the remembered one.
    pub async fn renew(&mut self, vault: &Vault) -> Result<(), Error> {
        self.known = vault.check_key(self.key_hash, &self.source).await?;
        self.narrowed = scopes::narrowed(&self.known.key, &self.scope_constraints)?;
        Ok(())
    }

    /// The refusal of a call that would release, with its event. A key that died since it was remembered says that first: nobody
    /// learns anything with it.
    pub async fn refuse(&mut self, vault: &Vault, error: Error) -> Error {
        match vault.check_key(self.key_hash, &self.source).await {
            Ok(_) => crate::sdk::record_refusal(vault, self, error).await,
            Err(dead) => self.fail(vault, dead).await,
        }
    }

    /// The refusal of a call whose key turned out to be dead.
    pub async fn fail(&self, vault: &Vault, dead: Error) -> Error {
        failed(vault, &self.source, Some(&self.known), dead).await
    }

    /// An event of this call.
    pub fn event(&self, vault: &Vault, kind: Kind, outcome: Outcome) -> Event {
        let Known { key, app, .. } = &*self.known;
        let mut event = Event::new(&*vault.env, self.source.now, Owner::App(app.id), kind, outcome, Actor::Key(key.id))
            .key(key.id, &key.key_prefix)
            .core_id("request_id", self.source.request_id)
            .private_text("ip", Some(&self.source.ip.to_string()))
            .private_text("user_agent", self.source.user_agent.as_deref())
            .context(&self.context, app.context_index());
        if let Some(trace_id) = &self.source.trace_id {
            event = event.core("trace_id", trace_id.clone());
        }
        if let Some(caller) = &self.caller {
            event = event.private("caller", Some(caller.label.clone()));
        }
        if self.identity_unsigned {
            event = event.core("identity", "unsigned");
        }
        event
    }
}

/// Counts a failed authentication, leaves one event per source and minute, and slows a source that fails too often.
pub async fn failed(vault: &Vault, source: &Source, known: Option<&Known>, error: Error) -> Error {
    if error.code.status() != 401 && error.code != Code::IpNotAllowed {
        return error;
    }
    let owner = known.map_or(Owner::Organization(vault.organization_id), |k| Owner::App(k.app.id));
    let event = || {
        let event = Event::new(&*vault.env, source.now, owner, Kind::AuthFailed, Outcome::Denied, Actor::Nobody)
            .code(error.code)
            .core("request_id", source.request_id.to_string())
            .private("ip", Some(source.ip.to_string()))
            .private("user_agent", source.user_agent.clone());
        known.into_iter().fold(event, |event, known| event.key(known.key.id, &known.key.key_prefix))
    };
    match count_failure(vault, source, owner, "", event).await {
        Ok(()) => error,
        Err(slowed) => slowed,
    }
}

/// The same of a failure with an event of its own, of which there is one per source, minute and `why`; an error: it was too often.
pub async fn count_failure(
    vault: &Vault,
    source: &Source,
    owner: Owner,
    why: &'static str,
    event: impl FnOnce() -> Event,
) -> Result<(), Error> {
    let subject = network(source.ip);
    let per_minute = vault.settings.auth_failures_per_minute;
    let limit = Limit { per_minute, burst: per_minute };
    let verdict = vault.auth_failures.take(subject, limit, source.now);
    let minute = source.now.0.div_euclid(60_000);
    let tell = {
        let mut told = vault.failures_told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, m| *m >= minute - 1);
        told.len() < FAILURES_TOLD_MAX && told.insert((subject, owner, why), minute) != Some(minute)
    };
    if tell {
        let append = Append { event: event().prepare(), confirm: None, nonce: None };
        if let Err(e) = flow::append(vault, append).await {
            tracing::error!(code = e.code.as_str(), "The event of a failed authentication was not written");
        }
    }
    match verdict {
        Verdict::Pass { .. } => Ok(()),
        Verdict::Refuse { retry_after_ms, .. } => Err(too_fast("ip", per_minute, retry_after_ms)),
    }
}

/// Events of failures in one minute, by source and kind; more are only counted.
const FAILURES_TOLD_MAX: usize = 1_000;

/// An IPv4 address, or the /64 of an IPv6 address.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(text: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_str(text).unwrap());
        signs_identity(&headers)
    }

    #[test]
    fn old_clients_are_known_by_their_version() {
        for old in ["alter-sdk-python/0.20.1", "alter-sdk-python/0.14.0", "alter-sdk-python/", "alter-sdk-python/x"] {
            assert!(!agent(old), "{old}");
        }
        for new in ["alter-sdk-python/0.21.0", "alter-sdk-python/0.29.0", "alter-sdk-python/1.0", "curl/8"] {
            assert!(agent(new), "{new}");
        }
    }

    #[test]
    fn failures_of_one_ipv6_network_count_together() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::ffff".parse().unwrap()));
        assert_ne!(network("2001:db8:0:1::1".parse().unwrap()), network("2001:db8::1".parse().unwrap()));
    }
}
