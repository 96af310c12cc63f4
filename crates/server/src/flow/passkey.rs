//! Passkeys of operators: adding one, signing in with it, and proving with it that it is still them.
//!
//! Invariants: a challenge is of one purpose and of one browser, or of one session in it; it is answered once, and for a quarter of an
//! hour; one that nobody answers rightly leaves nothing behind; a passkey signs in its owner alone; what does not prove anything counts
//! as an attempt, of its network, and of its operator where it is known whom it is about.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::{new_uuid, random};
use grantd_domain::grant::check_text;
use grantd_domain::passkey::{self, Expected, Wrong};
use grantd_domain::secret::Secret;
use grantd_store::operators::{self, Operator};
use grantd_store::passkeys::{self, Passkey};
use grantd_store::web_sessions::{self, SignedInBy};
use grantd_store::{Tx, append_event, sign_in_methods};
use grantd_wire::ids::{OperatorId, PasskeyId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use serde::Serialize;

use super::account::{begin_passkey_attempt, check_pace, check_signed_in, tell_changed};
use super::portal::{Beginning, Visitor, event, not_proved};
use crate::answer::of_store;
use crate::caller::Source;
use crate::sentence::Sentence;
use crate::vault::Vault;

/// What an audit event calls one.
const METHOD: &str = "passkey";

/// What a challenge is for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// Somebody signs in, in the browser that has this secret.
    SignIn(&'a str),
    /// Whoever is signed in adds one.
    Add(&'a Visitor),
    /// Whoever is signed in proves that it is still them.
    Confirm(&'a Visitor),
}

/// What a page asks a device.
#[derive(Debug, Serialize)]
pub struct Question {
    host: String,
    challenge: String,
    /// What devices know those by that the operator has: one of them is asked for, or none of them made again.
    known: String,
    /// By what a device that makes one knows its owner.
    user: Option<String>,
}

/// What a browser sends of a key that was made, as it was encoded for a form.
#[derive(Clone, Copy)]
pub struct SaidNew<'a> {
    pub challenge: &'a str,
    pub client_data: &'a str,
    pub attestation: &'a str,
}

/// What it sends of a challenge that was signed.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    pub challenge: &'a str,
    /// What the device knows the key by.
    pub id: &'a str,
    /// By what it knows the owner.
    pub user: &'a str,
    pub client_data: &'a str,
    pub device_data: &'a str,
    pub signature: &'a str,
}

/// The host that passkeys are of; `None`: browsers have none for pages there, which are of an address without a name, or not encrypted.
pub fn host(vault: &Vault) -> Option<&str> {
    let origin = vault.settings.origin();
    let (scheme, rest) = origin.split_once("://")?;
    // An address of IPv6 stands in brackets, and has colons of its own.
    let host = rest.split(':').next().filter(|host| !host.starts_with('['))?;
    let is_name = host.parse::<std::net::Ipv4Addr>().is_err();
    let is_here = host == "localhost" || host.ends_with(".localhost");
    (is_name && (scheme == "https" || is_here)).then_some(host)
}

/// What the page asks, if browsers have passkeys for it.
pub fn question(vault: &Vault, purpose: Purpose<'_>, known: &[Passkey], now: TimeMs) -> Option<Question> {
    let known = known.iter().map(|passkey| encoded(&passkey.made.id)).collect::<Vec<_>>();
    let user = if let Purpose::Add(visitor) = purpose { Some(visitor.operator.id) } else { None };
    Some(Question {
        host: host(vault)?.to_owned(),
        challenge: challenge(vault, purpose, now),
        known: known.join(" "),
        user: user.map(|id| encoded(id.as_bytes())),
    })
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(field: &str) -> Result<Vec<u8>, Wrong> {
    BASE64_URL_SAFE_NO_PAD.decode(field).map_err(|_| Wrong::Malformed)
}

/// Random bytes, then until when it may be answered.
const CHALLENGE_BODY_BYTES: usize = CHALLENGE_RANDOM_BYTES + 8;
const CHALLENGE_RANDOM_BYTES: usize = 16;

/// A new challenge. Nothing is stored of it: that it is ours shows what stands at its end.
fn challenge(vault: &Vault, purpose: Purpose<'_>, now: TimeMs) -> String {
    let mut bytes = random::<CHALLENGE_RANDOM_BYTES>(&*vault.env).to_vec();
    bytes.extend(now.plus_seconds(limits::PASSKEY_CHALLENGE_S).0.to_be_bytes());
    let proof = proof(vault, purpose, &bytes);
    bytes.extend(proof);
    encoded(&bytes)
}

/// That a challenge is of ours, for this purpose.
fn proof(vault: &Vault, purpose: Purpose<'_>, body: &[u8]) -> [u8; 32] {
    let (name, of) = match purpose {
        Purpose::SignIn(browser) => ("sign_in", browser.to_owned()),
        Purpose::Add(visitor) => ("add", visitor.session.id.to_string()),
        Purpose::Confirm(visitor) => ("confirm", visitor.session.id.to_string()),
    };
    vault.pepper.hash([format!("grantd.challenge.1|{name}|{of}|").as_bytes(), body].concat())
}

/// A challenge of ours that may still be answered.
struct Asked {
    bytes: Vec<u8>,
    until: TimeMs,
}

impl Asked {
    fn read(vault: &Vault, purpose: Purpose<'_>, sent: &str, now: TimeMs) -> Option<Self> {
        let bytes = decoded(sent).ok()?;
        let (body, sent) = bytes.split_at_checked(CHALLENGE_BODY_BYTES)?;
        let is_ours = aws_lc_rs::constant_time::verify_slices_are_equal(&proof(vault, purpose, body), sent).is_ok();
        let until = TimeMs(i64::from_be_bytes(*body.last_chunk()?));
        (is_ours && now < until).then_some(Self { bytes, until })
    }

    /// Notes that it was answered; `false`: it was already.
    fn take(&self, tx: &mut Tx<'_>) -> grantd_store::Result<bool> {
        passkeys::answer(tx, &sha256(&self.bytes), self.until)
    }

    fn expected<'a>(&'a self, vault: &'a Vault) -> Result<Expected<'a>, Wrong> {
        let host = host(vault).ok_or(Wrong::Origin)?;
        Ok(Expected { challenge: &self.bytes, origin: vault.settings.origin(), host })
    }
}

/// Those of the operator.
pub async fn list(vault: &Vault, operator: &Operator) -> Result<Vec<Passkey>, Error> {
    let id = operator.id;
    vault.store.read(move |tx| passkeys::list(tx, id, limits::PASSKEYS_MAX)).await.map_err(of_store)
}

/// Whether the visitor may add one: they have just proved who they are, and there is room.
pub async fn begin(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<(), Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let id = visitor.operator.id;
    let count = vault.store.read(move |tx| passkeys::count(tx, id)).await.map_err(of_store)?;
    check_room(count)
}

fn check_room(count: i64) -> Result<(), Error> {
    if count < limits::PASSKEYS_MAX {
        return Ok(());
    }
    Err(Sentence::TooManyPasskeys.of(Code::TooMany).detail("most", limits::PASSKEYS_MAX))
}

/// Adds one that the visitor's device has made.
pub async fn add(
    vault: &Vault,
    visitor: &Visitor,
    name: &str,
    said: SaidNew<'_>,
    source: &Source,
) -> Result<(), Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let (id, session, now) = (visitor.operator.id, visitor.session.id, source.now);
    check_text("name", name, limits::NAME_CHARS_MAX)?;
    let stale = || Sentence::PasskeyStale.of(Code::InvalidValue);
    let asked = Asked::read(vault, Purpose::Add(visitor), said.challenge, now).ok_or_else(stale)?;
    let made = || {
        let (client_data, attestation) = (decoded(said.client_data)?, decoded(said.attestation)?);
        passkey::made(asked.expected(vault)?, &client_data, &attestation)
    };
    let made = made().map_err(|wrong| Sentence::of_passkey(wrong).of(Code::InvalidValue))?;
    let passkey = Passkey {
        id: PasskeyId::from_uuid(new_uuid(&*vault.env)),
        operator_id: id,
        name: name.to_owned(),
        made,
        created_at: now,
        used_at: None,
    };
    let event = event(vault, &visitor.operator, Kind::SignInMethodAdded, session, source)
        .core("method", METHOD)
        .core_id("passkey_id", passkey.id);
    let add = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        if !asked.take(tx)? {
            return Err(stale().into());
        }
        check_room(passkeys::count(tx, id)?)?;
        if !passkeys::insert(tx, &passkey)? {
            return Err(Sentence::PasskeyIsThere.of(Code::Conflict).into());
        }
        tell_changed(tx, id, session, &event)
    };
    vault.store.write(add).await.map_err(of_store)
}

/// Takes one of the visitor's away; `false`: there is none with that id.
pub async fn remove(vault: &Vault, visitor: &Visitor, passkey: PasskeyId, source: &Source) -> Result<bool, Error> {
    visitor.check_confirmed(source.now)?;
    let (id, session) = (visitor.operator.id, visitor.session.id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodRemoved, session, source)
        .core("method", METHOD)
        .core_id("passkey_id", passkey);
    let remove = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        let was_there = passkeys::remove(tx, id, passkey)?;
        if was_there {
            tell_changed(tx, id, session, &event)?;
        }
        Ok(was_there)
    };
    vault.store.write(remove).await.map_err(of_store)
}

/// A passkey that has signed a challenge. It counts when both are used up.
struct Proved {
    passkey: Passkey,
    counter: u32,
    asked: Asked,
    /// Where its owner's attempts are counted.
    bucket: u16,
    at: TimeMs,
}

impl Proved {
    /// Uses challenge and counter up; `false`: one was meanwhile, or the passkey was removed.
    fn take(&self, tx: &mut Tx<'_>) -> grantd_store::Result<bool> {
        if !self.asked.take(tx)? || !passkeys::use_up(tx, &self.passkey, self.counter, self.at)? {
            return Ok(false);
        }
        sign_in_methods::forget_attempts(tx, self.bucket)?;
        Ok(true)
    }
}

/// What the browser sent, if it proves anything. `owner` is whoever is signed in already.
async fn check(
    vault: &Vault,
    purpose: Purpose<'_>,
    said: Said<'_>,
    owner: Option<OperatorId>,
    source: &Source,
) -> Result<Option<Proved>, Error> {
    check_pace(vault, source)?;
    let Some(asked) = Asked::read(vault, purpose, said.challenge, source.now) else { return Ok(None) };
    let Ok(id) = decoded(said.id) else { return Ok(None) };
    if id.len() > limits::PASSKEY_ID_BYTES_MAX {
        return Ok(None);
    }
    let found = vault.store.read(move |tx| passkeys::find(tx, &id)).await.map_err(of_store)?;
    // Who is not known yet is whom the device names; who is, may go without.
    let user = decoded(said.user).unwrap_or_default();
    let is_owners = |passkey: &Passkey| {
        let is_named = user == passkey.operator_id.as_bytes();
        owner.map_or(is_named, |owner| owner == passkey.operator_id && (is_named || said.user.is_empty()))
    };
    let found = found.filter(is_owners);
    let Some(operator) = owner.or(found.as_ref().map(|passkey| passkey.operator_id)) else { return Ok(None) };
    let bucket = begin_passkey_attempt(vault, operator, source.now).await?;
    let Some(passkey) = found else { return Ok(None) };
    let signed = || {
        let (client_data, device_data) = (decoded(said.client_data)?, decoded(said.device_data)?);
        let signature = decoded(said.signature)?;
        passkey::signed(asked.expected(vault)?, &client_data, &device_data, &signature, &passkey.made)
    };
    match signed() {
        Ok(counter) => Ok(Some(Proved { passkey, counter, asked, bucket, at: source.now })),
        Err(wrong) => {
            tracing::warn!(passkey.id = %passkey.id, error = %wrong, "A passkey proved nothing");
            if wrong == Wrong::Counter {
                tell_copied(vault, &passkey, asked, source).await?;
            }
            Ok(None)
        }
    }
}

/// Leaves an event of a passkey that was copied: one for each challenge, which nobody without the key can answer.
async fn tell_copied(vault: &Vault, passkey: &Passkey, asked: Asked, source: &Source) -> Result<(), Error> {
    let owner = Owner::Organization(vault.organization_id);
    let event = Event::new(&*vault.env, source.now, owner, Kind::PasskeyRefused, Outcome::Denied, Actor::Nobody)
        .core_id("operator_id", passkey.operator_id)
        .core_id("passkey_id", passkey.id)
        .core("why", "counter")
        .core("request_id", source.request_id.to_string())
        .private("ip", Some(source.ip.to_string()))
        .private("user_agent", source.user_agent.clone())
        .prepare();
    let tell = move |tx: &mut Tx<'_>| {
        if asked.take(tx)? {
            append_event(tx, &event)?;
        }
        Ok(())
    };
    vault.store.write(tell).await.map_err(of_store)
}

/// Signs in by passkey, in the browser that has this secret, and answers the new session's cookie; `None`: it proves nothing.
pub async fn sign_in(
    vault: &Vault,
    browser: &str,
    said: Said<'_>,
    old: Option<&Visitor>,
    source: &Source,
) -> Result<Option<Secret>, Error> {
    vault.check_other_ways()?;
    let wrong = || async { not_proved(vault, source).await.map(|()| None) };
    let Some(proved) = check(vault, Purpose::SignIn(browser), said, None, source).await? else {
        return wrong().await;
    };
    let (organization, id) = (vault.organization_id, proved.passkey.operator_id);
    let found = vault.store.read(move |tx| operators::find(tx, organization, id)).await.map_err(of_store)?;
    let Some((operator, _)) = found.filter(|(operator, _)| operator.disabled_at.is_none()) else {
        return wrong().await;
    };
    let (cookie, beginning) = Beginning::new(vault, &operator, SignedInBy::Passkey, old, source);
    let begin = move |tx: &mut Tx<'_>| {
        // Whoever was disabled meanwhile has no passkey left.
        if !proved.take(tx)? {
            return Ok(false);
        }
        beginning.write(tx)?;
        Ok(true)
    };
    match vault.store.write(begin).await.map_err(of_store)? {
        true => Ok(Some(cookie)),
        false => wrong().await,
    }
}

/// Whoever is signed in proves that it is still them; `false`: it does not.
pub(super) async fn confirm(vault: &Vault, visitor: &Visitor, said: Said<'_>, source: &Source) -> Result<bool, Error> {
    let (id, session, now) = (visitor.operator.id, visitor.session.id, source.now);
    let Some(proved) = check(vault, Purpose::Confirm(visitor), said, Some(id), source).await? else { return Ok(false) };
    let event = event(vault, &visitor.operator, Kind::OperatorConfirmed, session, source)
        .core("sign_in", SignedInBy::Passkey.as_str())
        .prepare();
    let confirm = move |tx: &mut Tx<'_>| {
        if !web_sessions::is_there(tx, id, session)? || !proved.take(tx)? {
            return Ok(false);
        }
        web_sessions::confirm(tx, id, session, now)?;
        append_event(tx, &event)?;
        Ok(true)
    };
    vault.store.write(confirm).await.map_err(of_store)
}
