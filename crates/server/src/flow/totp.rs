//! Authenticator apps of operators: setting one up, the code after the password, and codes for when the app is lost.
//!
//! Invariants: nothing is asked for before the app has shown that it knows the secret; a code counts once, whichever page it is typed
//! on; recovery codes are shown when they are made and never again, and each works once.

use grantd_domain::audit::Kind;
use grantd_domain::seal::Place;
use grantd_domain::secret::Secret;
use grantd_domain::totp;
use grantd_store::operators::{self, Operator};
use grantd_store::totps::{self, Totp};
use grantd_store::web_sessions::SignedInBy;
use grantd_store::{Tx, sign_in_methods};
use grantd_wire::ids::OperatorId;
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};
use zeroize::Zeroizing;

use super::account::{begin_attempt, check_signed_in, tell_changed};
use super::portal::{Beginning, Visitor, event, not_proved};
use crate::answer::of_store;
use crate::caller::Source;
use crate::sentence::Sentence;
use crate::vault::Vault;

/// What an audit event calls it.
const METHOD: &str = "totp";

/// Where the secret of an operator's app is sealed.
pub(crate) fn totp_place<'a>(operator: OperatorId, version: i64) -> Place<'a> {
    Place { table: "operator_totps", app: None, row: *operator.as_bytes(), field: "sealed", version }
}

/// A code that is right, and counts when it is used up.
#[derive(Clone, Copy)]
pub(super) enum Right {
    Step { version: i64, step: i64 },
    Recovery([u8; 32]),
}

impl Right {
    /// Uses it up; `false`: it was used meanwhile.
    pub(super) fn take(self, tx: &mut Tx<'_>, operator: OperatorId) -> grantd_store::Result<bool> {
        match self {
            Self::Step { version, step } => totps::take_step(tx, operator, version, step),
            Self::Recovery(hash) => totps::take_recovery_code(tx, operator, &hash),
        }
    }

    /// How it is told that somebody proved with it, beside a password, who they are.
    pub(super) const fn signs_in_by(self) -> SignedInBy {
        match self {
            Self::Step { .. } => SignedInBy::PasswordAndCode,
            Self::Recovery(_) => SignedInBy::PasswordAndRecoveryCode,
        }
    }

    /// How it is told that it was shown alone, by who is signed in.
    pub(super) const fn confirms_by(self) -> SignedInBy {
        match self {
            Self::Step { .. } => SignedInBy::Code,
            Self::Recovery(_) => SignedInBy::RecoveryCode,
        }
    }
}

/// Whether the code is one of the operator's app, or of recovery.
pub(super) async fn check(
    vault: &Vault,
    operator: OperatorId,
    typed: &str,
    now: TimeMs,
) -> Result<Option<Right>, Error> {
    let found = vault.store.read(move |tx| totps::find_confirmed(tx, operator)).await.map_err(of_store)?;
    let Some(totp) = found else { return Ok(None) };
    if let Some(code) = totp::recovery_code(typed) {
        return Ok(Some(Right::Recovery(recovery_hash(vault, operator, &code))));
    }
    let secret = open(vault, &totp).await?;
    let step = totp::step_of(&secret, typed, now, totp.last_step);
    Ok(step.map(|step| Right::Step { version: totp.version, step }))
}

async fn open(vault: &Vault, totp: &Totp) -> Result<Zeroizing<Vec<u8>>, Error> {
    vault.keys.open_of_install(totp_place(totp.operator_id, totp.version), &totp.sealed).await
}

fn recovery_hash(vault: &Vault, operator: OperatorId, code: &str) -> [u8; 32] {
    vault.pepper.hash(Zeroizing::new(format!("grantd.recovery.1|{operator}|{code}")))
}

/// What a code after the password came to.
pub enum Finished {
    /// Who gives the password does so again.
    Stale,
    Wrong,
    /// The new session's cookie.
    Done(Secret),
}

/// Signs in whoever has given the password, by the code.
pub async fn finish(
    vault: &Vault,
    half: &str,
    typed: &str,
    old: Option<&Visitor>,
    source: &Source,
) -> Result<Finished, Error> {
    vault.check_other_ways()?;
    let (half_hash, now) = (sha256(half.as_bytes()), source.now);
    let organization = vault.organization_id;
    let find = move |tx: &mut Tx<'_>| match totps::find_half(tx, &half_hash, now)? {
        Some(operator) => operators::find(tx, organization, operator),
        None => Ok(None),
    };
    let found = vault.store.read(find).await.map_err(of_store)?;
    let Some((operator, _)) = found.filter(|(operator, _)| operator.disabled_at.is_none()) else {
        return not_proved(vault, source).await.map(|()| Finished::Stale);
    };
    let bucket = begin_attempt(vault, &operator.email, source).await?;
    let Some(right) = check(vault, operator.id, typed, now).await? else {
        return not_proved(vault, source).await.map(|()| Finished::Wrong);
    };
    let (cookie, beginning) = Beginning::new(vault, &operator, right.signs_in_by(), old, source);
    let begin = move |tx: &mut Tx<'_>| {
        if !right.take(tx, operator.id)? {
            return Ok(None);
        }
        if !totps::take_half(tx, &half_hash, now)? {
            // The code is given back: nobody is signed in by it.
            return Err(Sentence::PasswordUsed.of(Code::Conflict).into());
        }
        sign_in_methods::forget_attempts(tx, bucket)?;
        beginning.write(tx)?;
        Ok(Some(()))
    };
    match vault.store.write(begin).await.map_err(of_store)? {
        Some(()) => Ok(Finished::Done(cookie)),
        None => not_proved(vault, source).await.map(|()| Finished::Wrong),
    }
}

/// Begins to set an app up: makes the secret.
pub async fn begin(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<(), Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let (id, session, version) = (visitor.operator.id, visitor.session.id, source.now.0);
    let secret = totp::new_secret(&*vault.env);
    let key = vault.keys.take_seal(&*vault.env, None).await?;
    let sealed = key.seal(&*vault.env, totp_place(id, version), &*secret);
    let begin = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        match totps::begin(tx, id, &sealed, version)? {
            true => Ok(()),
            false => Err(Sentence::AppIsSetUp.of(Code::Conflict).into()),
        }
    };
    vault.store.write(begin).await.map_err(of_store)
}

/// The secret that is being set up, while whoever sees it has just proved who they are.
pub async fn pending(vault: &Vault, visitor: &Visitor, now: TimeMs) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match find_pending(vault, &visitor.operator).await? {
        Some(totp) if visitor.check_confirmed(now).is_ok() => open(vault, &totp).await.map(Some),
        _ => Ok(None),
    }
}

async fn find_pending(vault: &Vault, operator: &Operator) -> Result<Option<Totp>, Error> {
    let id = operator.id;
    let found = vault.store.read(move |tx| totps::find(tx, id)).await.map_err(of_store)?;
    Ok(found.filter(|totp| totp.confirmed_at.is_none()))
}

/// The app shows that it knows the secret: a code is asked for from now on. Answers the recovery codes; `None`: nothing is being set up.
pub async fn confirm(
    vault: &Vault,
    visitor: &Visitor,
    typed: &str,
    source: &Source,
) -> Result<Option<Vec<Zeroizing<String>>>, Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let (id, session, now) = (visitor.operator.id, visitor.session.id, source.now);
    let Some(totp) = find_pending(vault, &visitor.operator).await? else { return Ok(None) };
    let secret = open(vault, &totp).await?;
    let wrong = || Sentence::CodeNotShown.at("code", Code::InvalidValue);
    let step = totp::step_of(&secret, typed, now, totp.last_step).ok_or_else(wrong)?;
    let (codes, hashes) = new_codes(vault, id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodAdded, session, source).core("method", METHOD);
    let confirm = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        if !totps::confirm(tx, id, totp.version, step, now)? {
            return Ok(false);
        }
        totps::set_recovery_codes(tx, id, &hashes)?;
        tell_changed(tx, id, session, &event)?;
        Ok(true)
    };
    Ok(vault.store.write(confirm).await.map_err(of_store)?.then_some(codes))
}

fn new_codes(vault: &Vault, operator: OperatorId) -> (Vec<Zeroizing<String>>, Vec<[u8; 32]>) {
    let codes: Vec<_> = (0..limits::RECOVERY_CODES).map(|_| totp::new_recovery_code(&*vault.env)).collect();
    let hash = |code: &Zeroizing<String>| {
        let code = totp::recovery_code(code).expect("codes of ours have the form of one");
        recovery_hash(vault, operator, &code)
    };
    let hashes = codes.iter().map(hash).collect();
    (codes, hashes)
}

/// Makes new recovery codes: the old ones work no more. `None`: there is no app.
pub async fn renew_codes(
    vault: &Vault,
    visitor: &Visitor,
    source: &Source,
) -> Result<Option<Vec<Zeroizing<String>>>, Error> {
    vault.check_other_ways()?;
    visitor.check_confirmed(source.now)?;
    let (id, session) = (visitor.operator.id, visitor.session.id);
    let (codes, hashes) = new_codes(vault, id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodChanged, session, source);
    let event = event.core("method", "recovery_codes");
    let renew = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        if totps::find_confirmed(tx, id)?.is_none() {
            return Ok(false);
        }
        totps::set_recovery_codes(tx, id, &hashes)?;
        tell_changed(tx, id, session, &event)?;
        Ok(true)
    };
    Ok(vault.store.write(renew).await.map_err(of_store)?.then_some(codes))
}

/// Takes the app away; `false`: none is asked for.
pub async fn remove(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<bool, Error> {
    visitor.check_confirmed(source.now)?;
    let (id, session) = (visitor.operator.id, visitor.session.id);
    let event = event(vault, &visitor.operator, Kind::SignInMethodRemoved, session, source).core("method", METHOD);
    let remove = move |tx: &mut Tx<'_>| {
        check_signed_in(tx, id, session)?;
        let was_there = totps::remove(tx, id)?;
        if was_there {
            tell_changed(tx, id, session, &event)?;
        }
        Ok(was_there)
    };
    vault.store.write(remove).await.map_err(of_store)
}
