//! How operators prove who they are, beside links, and what of it they set up themselves.
//!
//! Invariants: an attempt is counted before it is looked at, so that many at once are no more than many after another; whoever had too
//! many wrong ones waits, and a link from the host works at once; what was proved is still true in the write that rests on it; a way to
//! sign in is added, changed and removed by who has just proved who they are, and signs out their other browsers.

use grantd_domain::audit::{Event, Kind};
use grantd_domain::env::new_token;
use grantd_domain::operator::email;
use grantd_domain::password;
use grantd_domain::rate::{Limit, Verdict};
use grantd_domain::secret::Secret;
use grantd_store::operators::{self, Operator};
use grantd_store::sign_in_methods::{self, PasswordHash};
use grantd_store::web_sessions::{self, SignedInBy};
use grantd_store::{Tx, append_event, passkeys, totps};
use grantd_wire::ids::{OperatorId, WebSessionId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};

use super::passkey::{self, Said};
use super::portal::{Beginning, Visitor, event, find_link, not_proved};
use super::totp;
use crate::answer::of_store;
use crate::caller::{Source, network, too_fast};
use crate::sentence::Sentence;
use crate::vault::Vault;

/// How an operator may sign in, beside links.
#[derive(Clone, Copy, Debug)]
pub struct Methods {
    pub password_set_at: Option<TimeMs>,
    /// Since when a code of an authenticator app is asked for.
    pub totp_set_at: Option<TimeMs>,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    /// How many passkeys there are.
    pub passkeys: i64,
}

/// What somebody who is signed in proves with that it is still them.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    Password(&'a str),
    /// Of their authenticator app, or of recovery. Who has an app is asked for it, and not for the password.
    Code(&'a str),
    /// A new link of theirs.
    Link(&'a str),
    Passkey(Said<'a>),
}

/// What the operator has set up.
pub async fn methods(vault: &Vault, operator: &Operator) -> Result<Methods, Error> {
    let id = operator.id;
    let find = move |tx: &mut Tx<'_>| {
        Ok(Methods {
            password_set_at: sign_in_methods::find_password(tx, id)?.map(|(_, at)| at),
            totp_set_at: totps::find(tx, id)?.and_then(|totp| totp.confirmed_at),
            recovery_codes: totps::count_recovery_codes(tx, id)?,
            passkeys: passkeys::count(tx, id)?,
        })
    };
    vault.store.read(find).await.map_err(of_store)
}

/// What a password came to.
pub enum SignedIn {
    /// It is wrong, or there is no such operator.
    Wrong,
    /// The new session's cookie.
    Done(Secret),
    /// What a code of the operator's authenticator app is to be sent with.
    Half(Secret),
}

/// Signs in by password, or lets in as far as to the code.
pub async fn sign_in(
    vault: &Vault,
    typed_email: &str,
    typed: &Secret,
    old: Option<&Visitor>,
    source: &Source,
) -> Result<SignedIn, Error> {
    vault.check_other_ways()?;
    let email = email(typed_email).unwrap_or_default();
    let bucket = begin_attempt(vault, &email, source).await?;
    let organization = vault.organization_id;
    let find = move |tx: &mut Tx<'_>| {
        let Some(operator) = operators::find_by_email(tx, organization, &email)? else { return Ok(None) };
        Ok(sign_in_methods::find_password(tx, operator.id)?.map(|(hash, _)| (operator, hash)))
    };
    let found = vault.store.read(find).await.map_err(of_store)?;
    let Some((operator, hash)) = check(vault, typed, found).await? else {
        return not_proved(vault, source).await.map(|()| SignedIn::Wrong);
    };
    let (cookie, beginning) = Beginning::new(vault, &operator, SignedInBy::Password, old, source);
    let half = new_token(&*vault.env, "");
    let (half_hash, half_until) = (sha256(half.reveal().as_bytes()), source.now.plus_seconds(limits::HALF_SIGN_IN_S));
    let begin = move |tx: &mut Tx<'_>| {
        if !is_still(tx, &operator, &hash)? {
            return Ok(None);
        }
        let has_app = totps::find_confirmed(tx, operator.id)?.is_some();
        match has_app {
            true => totps::insert_half(tx, &half_hash, operator.id, half_until, limits::HALF_SIGN_INS_MAX)?,
            false => {
                sign_in_methods::forget_attempts(tx, bucket)?;
                beginning.write(tx)?;
            }
        }
        Ok(Some(has_app))
    };
    Ok(match vault.store.write(begin).await.map_err(of_store)? {
        None => SignedIn::Wrong,
        Some(true) => SignedIn::Half(half),
        Some(false) => SignedIn::Done(cookie),
    })
}

/// Whoever's password it is.
async fn check(
    vault: &Vault,
    typed: &Secret,
    stored: Option<(Operator, PasswordHash)>,
) -> Result<Option<(Operator, PasswordHash)>, Error> {
    let typed = password::normal(typed.reveal());
    let stored = stored.filter(|(operator, _)| operator.disabled_at.is_none());
    let is_right = vault.passwords.is(&vault.pepper, &typed, stored.as_ref().map(|(_, hash)| hash)).await?;
    Ok(stored.filter(|_| is_right))
}

/// Whether the password was neither changed nor taken away, as it is from who is disabled.
fn is_still(tx: &mut Tx<'_>, operator: &Operator, hash: &PasswordHash) -> grantd_store::Result<bool> {
    Ok(sign_in_methods::find_password(tx, operator.id)?.is_some_and(|(now, _)| now == *hash))
}

/// Refuses who tries too often from one network, whatever they prove who they are with.
pub(super) fn check_pace(vault: &Vault, source: &Source) -> Result<(), Error> {
    let per_minute = limits::SIGN_IN_ATTEMPTS_PER_MINUTE;
    let limit = Limit { per_minute, burst: per_minute };
    match vault.sign_in_attempts.take(network(source.ip), limit, source.now) {
        Verdict::Refuse { retry_after_ms, .. } => Err(too_fast("ip", per_minute, retry_after_ms)),
        Verdict::Pass { .. } => Ok(()),
    }
}

/// Counts an attempt at this account, or refuses it because it comes too early.
pub(super) async fn begin_attempt(vault: &Vault, email: &str, source: &Source) -> Result<u16, Error> {
    check_pace(vault, source)?;
    count_attempt(vault, bucket(vault, email), source.now).await
}

/// The same with a passkey, once it is known whose account it is. These are counted by themselves: whoever guesses passwords at an
/// address does not keep its owner's passkey waiting.
pub(super) async fn begin_passkey_attempt(vault: &Vault, operator: OperatorId, now: TimeMs) -> Result<u16, Error> {
    count_attempt(vault, bucket(vault, &format!("passkey|{operator}")), now).await
}

async fn count_attempt(vault: &Vault, bucket: u16, now: TimeMs) -> Result<u16, Error> {
    let count = move |tx: &mut Tx<'_>| {
        let is_remembered = |(_, last): &(i64, TimeMs)| now.since(*last) < limits::SIGN_IN_MEMORY_S * 1000;
        let before = sign_in_methods::find_attempts(tx, bucket)?.filter(is_remembered);
        if let Some((attempts, last)) = before {
            let wait_ms = password::next_attempt_at(attempts, last).since(now);
            if wait_ms > 0 {
                return Ok(Err(wait_ms));
            }
        }
        let attempts = before.map_or(0, |(attempts, _)| attempts).saturating_add(1);
        sign_in_methods::note_attempts(tx, bucket, attempts, now)?;
        Ok(Ok(bucket))
    };
    vault.store.write(count).await.map_err(of_store)?.map_err(|wait_ms| {
        let seconds = u32::try_from(wait_ms / 1000 + 1).unwrap_or(u32::MAX);
        Sentence::TooManyAttempts
            .of(Code::RateLimitExceeded)
            .detail("seconds", seconds)
            .with("scope", "account")
            .with("retry_after", seconds)
            .retry_after(seconds)
    })
}

/// The same for an address whether there is such an operator or not, so that attempts tell nobody.
fn bucket(vault: &Vault, account: &str) -> u16 {
    let hash = vault.pepper.hash(["grantd.sign_in.1|", account].concat());
    u16::from_be_bytes([hash[0], hash[1]])
}

/// Whoever is signed in proves that it is still them; `false`: it does not.
pub async fn confirm(vault: &Vault, visitor: &Visitor, proof: Proof<'_>, source: &Source) -> Result<bool, Error> {
    // Links are made where grantd runs, and let people in whatever the issuer does.
    if !matches!(proof, Proof::Link(_)) {
        vault.check_other_ways()?;
    }
    let (operator, session, now) = (visitor.operator.clone(), visitor.session.id, source.now);
    let told = |by: SignedInBy| {
        event(vault, &operator, Kind::OperatorConfirmed, session, source).core("sign_in", by.as_str()).prepare()
    };
    let confirmed = match proof {
        Proof::Password(typed) => {
            let bucket = begin_attempt(vault, &operator.email, source).await?;
            let id = operator.id;
            let find = move |tx: &mut Tx<'_>| {
                let has_app = totps::find_confirmed(tx, id)?.is_some();
                Ok(sign_in_methods::find_password(tx, id)?.filter(|_| !has_app))
            };
            let stored = vault.store.read(find).await.map_err(of_store)?.map(|(hash, _)| (operator.clone(), hash));
            match check(vault, &Secret::new(typed.to_owned()), stored).await? {
                None => false,
                Some((operator, hash)) => {
                    let event = told(SignedInBy::Password);
                    let confirm = move |tx: &mut Tx<'_>| {
                        if !is_still(tx, &operator, &hash)? || !web_sessions::confirm(tx, operator.id, session, now)? {
                            return Ok(false);
                        }
                        sign_in_methods::forget_attempts(tx, bucket)?;
                        append_event(tx, &event)?;
                        Ok(true)
                    };
                    vault.store.write(confirm).await.map_err(of_store)?
                }
            }
        }
        Proof::Code(typed) => {
            let bucket = begin_attempt(vault, &operator.email, source).await?;
            match totp::check(vault, operator.id, typed, now).await? {
                None => false,
                Some(right) => {
                    let (id, event) = (operator.id, told(right.confirms_by()));
                    let confirm = move |tx: &mut Tx<'_>| {
                        if !web_sessions::is_there(tx, id, session)? || !right.take(tx, id)? {
                            return Ok(false);
                        }
                        web_sessions::confirm(tx, id, session, now)?;
                        sign_in_methods::forget_attempts(tx, bucket)?;
                        append_event(tx, &event)?;
                        Ok(true)
                    };
                    vault.store.write(confirm).await.map_err(of_store)?
                }
            }
        }
        Proof::Passkey(said) => passkey::confirm(vault, visitor, said, source).await?,
        Proof::Link(link) => match find_link(vault, link, now).await? {
            Some(of) if of.id == operator.id => {
                let (hash, event) = (sha256(link.as_bytes()), told(SignedInBy::Link));
                let confirm = move |tx: &mut Tx<'_>| {
                    if !web_sessions::confirm(tx, of.id, session, now)? || !web_sessions::take_link(tx, &hash, now)? {
                        return Ok(false);
                    }
                    append_event(tx, &event)?;
                    Ok(true)
                };
                vault.store.write(confirm).await.map_err(of_store)?
            }
            _ => false,
        },
    };
    if !confirmed {
        not_proved(vault, source).await?;
    }
    Ok(confirmed)
}

/// Gives the visitor a password, or another one.
pub async fn set_password(vault: &Vault, visitor: &Visitor, typed: &Secret, source: &Source) -> Result<(), Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let (operator, session, now) = (&visitor.operator, visitor.session.id, source.now);
    let password = password::normal(typed.reveal());
    password::check(&password, &[&operator.email, &vault.settings.public_url])?;
    let hash = vault.passwords.hash(&*vault.env, &vault.pepper, &password).await?;
    let [added, changed] = [Kind::SignInMethodAdded, Kind::SignInMethodChanged]
        .map(|kind| event(vault, operator, kind, session, source).core("method", SignedInBy::Password.as_str()));
    let (id, bucket) = (operator.id, bucket(vault, &operator.email));
    let set = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        let was_there = sign_in_methods::set_password(tx, id, &hash, now)?;
        sign_in_methods::forget_attempts(tx, bucket)?;
        tell_changed(tx, id, session, if was_there { &changed } else { &added })
    };
    vault.store.write(set).await.map_err(of_store)
}

/// Takes the visitor's password away; `false`: there was none.
pub async fn remove_password(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<bool, Error> {
    visitor.check_confirmed(source.now)?;
    let (id, session) = (visitor.operator.id, visitor.session.id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodRemoved, session, source)
        .core("method", SignedInBy::Password.as_str());
    let remove = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        let was_there = sign_in_methods::remove_password(tx, id)?;
        if was_there {
            tell_changed(tx, id, session, &event)?;
        }
        Ok(was_there)
    };
    vault.store.write(remove).await.map_err(of_store)
}

/// What follows whenever a way to sign in is added, changed or removed: it is told, the operator's other browsers are signed out, because
/// somebody else may have got in there by how it was before, and links that were made before sign in no more.
pub(super) fn tell_changed(
    tx: &mut Tx<'_>,
    operator: OperatorId,
    session: WebSessionId,
    event: &Event,
) -> grantd_store::Result<()> {
    let ended = web_sessions::end_others(tx, operator, session)?;
    append_event(tx, &event.clone().core("sessions_ended", ended).prepare())
}

/// Refuses who was signed out meanwhile, as everybody is who is disabled.
pub(super) fn check_signed_in(
    tx: &mut Tx<'_>,
    operator: OperatorId,
    session: WebSessionId,
) -> grantd_store::Result<()> {
    match web_sessions::is_there(tx, operator, session)? {
        true => Ok(()),
        false => Err(Error::new(Code::SessionRequired).into()),
    }
}
