use std::sync::atomic::{AtomicI64, Ordering};

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, DataKeyId, GenerationId, LeaseId};
use grantd_wire::limits::{REFRESH_DEADLINE_MS, REFRESH_LEASE_MS};
use uuid::Uuid;

use super::{
    Action, Attempt, End, Failure, Need, Stored, Verdict, begins, may_be_renewed_early, may_end, on_failure, on_read,
};
use crate::account::{Account, Lease, Renewal};
use crate::env::{Clock, Entropy};
use crate::grant::{Broken, Credential, CredentialOf, CredentialState};
use crate::provider::{Ends, Expiry, RefreshKind, Refusal, find};

const NOW: TimeMs = TimeMs(1_000_000);

/// A clock that is set, and no chance.
struct Fixed(AtomicI64);

impl Fixed {
    fn new() -> Self {
        Self(AtomicI64::new(NOW.0))
    }

    fn advance_ms(&self, ms: i64) -> TimeMs {
        self.0.fetch_add(ms, Ordering::Relaxed);
        self.now()
    }
}

impl Clock for Fixed {
    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Ordering::Relaxed))
    }
}

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn row(version: i64, renewal: Renewal) -> Credential {
    let account = Account {
        provider: AppProviderId::from_uuid(Uuid::nil()),
        identifier: "user-1".to_owned(),
        name: None,
        scopes: Vec::new(),
        pinned_host: None,
        expiry: Expiry::At(NOW),
        is_refreshable: true,
        rejected_at: None,
        scope_mismatch_at: None,
        renewal,
    };
    Credential {
        id: CredentialId::from_uuid(Uuid::nil()),
        app_id: AppId::from_uuid(Uuid::nil()),
        of: CredentialOf::Account(Box::new(account)),
        user_id: None,
        generation: GenerationId::from_uuid(Uuid::nil()),
        state: CredentialState::Ok { data_key_id: DataKeyId::from_uuid(Uuid::nil()), sealed: vec![1] },
        updated_at: NOW,
        version,
    }
}

fn lease(until: TimeMs) -> Lease {
    Lease { id: LeaseId::from_uuid(Uuid::max()), until }
}

#[test]
fn a_token_that_is_too_young_is_renewed_by_nobody_before_its_end() {
    let min_age_ms = 86_400_000;
    let (instagram, google) = (find("instagram").unwrap(), find("google").unwrap());
    assert_eq!(instagram.refresh.min_age_s.map(|seconds| i64::from(seconds) * 1000), Some(min_age_ms));
    let row = row(7, Renewal::default());
    // It ends a second after it is of age.
    let account = Account { expiry: Expiry::At(NOW.plus_ms(min_age_ms + 1000)), ..row.account().unwrap().clone() };
    for (facts, at, is_renewed) in [
        (instagram, NOW.plus_ms(min_age_ms - 1), false),
        (instagram, NOW.plus_ms(min_age_ms), true),
        (google, NOW.plus_ms(min_age_ms - 1), true),
    ] {
        let need = if is_renewed { Need::Soon } else { Need::Nothing };
        assert_eq!(on_read(&account, facts, NOW, at), need, "{} {at:?}", facts.id);
        assert_eq!(may_be_renewed_early(&account, facts, NOW, at), is_renewed, "{} {at:?}", facts.id);
    }
    // One that ended is not kept from being renewed by its age.
    let short = Account { expiry: Expiry::At(NOW.plus_ms(1000)), ..account };
    assert!(!may_be_renewed_early(&short, instagram, NOW, NOW.plus_ms(999)));
    assert!(may_be_renewed_early(&short, instagram, NOW, NOW.plus_ms(1000)));
}

/// An attempt that has come as far as sending.
/// A row that is remembered may be older than the attempt that failed, and older than what made it.
#[test]
fn what_is_known_of_the_last_attempt_counts_more_than_the_row() {
    for (need, next_ms, expected) in [
        (Need::Nothing, None, false),
        (Need::Soon, None, true),
        (Need::Soon, Some(1), false),
        (Need::Soon, Some(0), true),
        (Need::Nothing, Some(1), false),
        (Need::Nothing, Some(0), true),
    ] {
        assert_eq!(begins(need, next_ms.map(|ms| NOW.plus_ms(ms)), NOW), expected, "{need:?} {next_ms:?}");
    }
}

fn sending(env: &Fixed, renewal: Renewal) -> Attempt {
    let (mut attempt, begun) = Attempt::begin(7, env);
    assert_eq!(begun, Action::Read { after_ms: 0 });
    let row = row(7, renewal);
    assert_eq!(attempt.on_found(Some((&row, RefreshKind::Rotates)), env.now()), Action::Enter);
    let claim = attempt.on_entered(Ok(()), env.now());
    assert!(matches!(claim, Action::Claim { .. }), "{claim:?}");
    assert_eq!(attempt.lease().until, env.now().plus_ms(REFRESH_LEASE_MS));
    assert_eq!(attempt.on_claimed(true), Action::Prepare);
    assert_eq!(attempt.on_prepared(true, env), Action::Confirm { now: env.now() });
    assert_eq!(attempt.on_confirmed(true, env), Action::Exchange);
    attempt
}

#[test]
fn tokens_are_stored_and_a_row_that_moved_is_left_alone() {
    let env = Fixed::new();
    let mut attempt = sending(&env, Renewal::default());
    assert_eq!(attempt.on_answer(Ok(()), &env), Action::Store { after_ms: 0 });
    assert_eq!(attempt.on_stored(Stored::Yes, NOW), Action::Done(End::Moved));
    assert_eq!(attempt.on_stored(Stored::Moved, NOW), Action::Discard);
}

#[test]
fn a_pair_is_written_until_the_lease_is_over() {
    let env = Fixed::new();
    let mut attempt = sending(&env, Renewal::default());
    let last = env.advance_ms(REFRESH_LEASE_MS - 1);
    assert_eq!(attempt.on_stored(Stored::Failed, last), Action::Store { after_ms: 500 });
    assert_eq!(attempt.on_stored(Stored::Failed, last.plus_ms(1)), Action::Done(End::Unwritten));
}

#[test]
fn nothing_is_sent_that_might_be_answered_after_the_lease() {
    let env = Fixed::new();
    let mut attempt = sending(&env, Renewal::default());
    // What came before the last look took long; the lease begins anew with that.
    let now = env.advance_ms(REFRESH_LEASE_MS - 1);
    assert_eq!(attempt.on_prepared(true, &env), Action::Confirm { now });
    assert_eq!(attempt.lease().until, now.plus_ms(REFRESH_LEASE_MS));
    env.advance_ms(REFRESH_LEASE_MS - REFRESH_DEADLINE_MS.cast_signed());
    assert_eq!(attempt.on_confirmed(true, &env), Action::Exchange);
    let late = env.advance_ms(1);
    let not_before = late.plus_ms(800);
    assert_eq!(attempt.on_confirmed(true, &env), Action::Keep { is_unconfirmed: false, not_before, now: late });
    assert_eq!(attempt.on_confirmed(false, &env), Action::Done(End::Moved));
}

#[test]
fn what_is_not_as_it_was_is_not_renewed() {
    let env = Fixed::new();
    let (mut attempt, _) = Attempt::begin(7, &env);
    let mut found = |row: Option<&Credential>| attempt.on_found(row.map(|row| (row, RefreshKind::Rotates)), NOW);
    assert_eq!(found(None), Action::Done(End::Moved));
    assert_eq!(found(Some(&row(8, Renewal::default()))), Action::Done(End::Moved));
    let broken = Credential { state: CredentialState::Broken(Broken::Reconnect), ..row(7, Renewal::default()) };
    assert_eq!(found(Some(&broken)), Action::Done(End::Moved));
    assert_eq!(attempt.on_confirmed(false, &env), Action::Done(End::Moved));
    assert_eq!(attempt.on_claimed(false), Action::Read { after_ms: 0 });
}

#[test]
fn others_are_waited_for_and_pauses_kept() {
    let env = Fixed::new();
    let (mut attempt, _) = Attempt::begin(7, &env);
    let taken = row(7, Renewal { lease: Some(lease(NOW.plus_ms(60_000))), ..Renewal::default() });
    let patience_ms = REFRESH_DEADLINE_MS.cast_signed();
    let mut found = |row: &Credential, now| attempt.on_found(Some((row, RefreshKind::Rotates)), now);
    assert_eq!(found(&taken, NOW.plus_ms(patience_ms - 1)), Action::Read { after_ms: 50 });
    assert_eq!(found(&taken, NOW.plus_ms(patience_ms)), Action::Done(End::Busy));
    let paused = row(7, Renewal { not_before: Some(NOW.plus_ms(1)), ..Renewal::default() });
    assert_eq!(found(&paused, NOW), Action::Done(End::Later { at: NOW.plus_ms(1) }));
    assert_eq!(found(&paused, NOW.plus_ms(1)), Action::Enter);
    assert_eq!(attempt.on_entered(Err(NOW), NOW), Action::Done(End::Closed { until: NOW }));
    // A lease that has run out is nobody's; what became of its attempt is not known.
    let lapsed = row(7, Renewal { lease: Some(lease(NOW)), ..Renewal::default() });
    assert_eq!(attempt.on_found(Some((&lapsed, RefreshKind::Rotates)), NOW), Action::Enter);
    assert_eq!(attempt.on_entered(Ok(()), NOW), Action::Claim { is_unconfirmed: true, now: NOW });
}

#[test]
fn a_failure_keeps_the_pair_unless_the_provider_says_that_it_is_over() {
    let env = Fixed::new();
    let over = Failure::Refused(Refusal::Over("invalid_grant".to_owned()));
    let mut attempt = sending(&env, Renewal::default());
    assert_eq!(attempt.on_answer(Err(&over), &env), Action::GiveUp(Broken::Reconnect));
    let kept = attempt.on_answer(Err(&Failure::Lost), &env);
    // No chance: a fifth less than a second.
    let not_before = NOW.plus_ms(800);
    assert_eq!(kept, Action::Keep { is_unconfirmed: true, not_before, now: NOW });
    assert_eq!(attempt.on_kept(true, not_before), Action::Done(End::Later { at: not_before }));
    assert_eq!(attempt.on_kept(false, not_before), Action::Done(End::Moved));
    assert_eq!(attempt.on_prepared(false, &env), Action::Keep { is_unconfirmed: false, not_before, now: NOW });
    let unconfirmed = Renewal { unconfirmed_at: Some(NOW), ..Renewal::default() };
    assert_eq!(sending(&env, unconfirmed).on_answer(Err(&over), &env), Action::GiveUp(Broken::RotationUnknown));
}

#[test]
fn what_may_have_counted_is_remembered() {
    let refused = |refusal| Failure::Refused(refusal);
    let transient = |code: &str| refused(Refusal::Transient(code.to_owned()));
    for (failure, counts) in [
        (transient("status_502"), true),
        (transient("status_429"), false),
        (transient("temporarily_unavailable"), false),
        (refused(Refusal::Unreadable), true),
        (refused(Refusal::Configuration("invalid_client".to_owned())), false),
        (Failure::Unsent, false),
        (Failure::Lost, true),
    ] {
        for was in [false, true] {
            let verdict = on_failure(&failure, 0, was, RefreshKind::Rotates);
            let Verdict::Keep { is_unconfirmed, .. } = verdict else { panic!("{failure:?} breaks the pair") };
            assert_eq!(is_unconfirmed, counts || was, "{failure:?}");
        }
    }
}

#[test]
fn nothing_that_is_in_use_ends_along() {
    let [own, other] = [Uuid::nil(), Uuid::max()].map(CredentialId::from_uuid);
    for (living, ends, may) in [
        (None, Ends::Token, true),
        (None, Ends::Grant, true),
        (Some(own), Ends::Token, false),
        (Some(own), Ends::Grant, false),
        (Some(other), Ends::Token, true),
        (Some(other), Ends::Grant, false),
    ] {
        assert_eq!(may_end(own, living, ends), may, "{living:?} {ends:?}");
    }
}
