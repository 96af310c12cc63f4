//! Work that OAuth accounts need beside requests: tokens are renewed before they end, tokens that nobody holds any more are ended at their
//! provider, and sessions that are over are forgotten.

use std::sync::Arc;
use std::time::Duration;

use grantd_domain::account::{AppProvider, TokenPair};
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::random;
use grantd_domain::grant::Credential;
use grantd_domain::provider::Pair;
use grantd_domain::refresh::{may_be_renewed_early, may_end, spread};
use grantd_store::renewals::{self, Ending};
use grantd_store::{Error as StoreError, Tx, append_event, connect, crash, credentials, providers};
use grantd_wire::ids::{AppId, CredentialId};
use grantd_wire::limits;

use crate::flow::refresh;
use crate::keyring;
use crate::outbound::oauth;
use crate::vault::Vault;

/// Tokens that are renewed in one turn of one process.
const RENEWALS_MAX: i64 = 50;
/// Pairs that are ended in one turn.
const ENDINGS_MAX: i64 = 20;
/// Sessions that are forgotten in one write.
const SESSIONS_MAX: i64 = 200;
/// How long after its time a session is told of.
const SESSION_KEPT_MS: i64 = 3_600_000;
/// How long an attempt to end a pair may take, before another process may try.
const ENDING_LEASE_MS: i64 = 60_000;
/// The first pause after an attempt that failed; each is three times the one before, which comes to about a day.
const ENDING_PAUSE_MS: i64 = 30_000;

/// Renews tokens that end within the margin. Each process begins at its own moment within it, so that they do not all ask at once; a
/// lease keeps two from asking for the same.
pub async fn renew_due(vault: &Arc<Vault>) -> Result<(), StoreError> {
    let now = vault.env.now();
    let margin_ms = spread(limits::REFRESH_MARGIN_MS * 4 / 5, u16::from_le_bytes(random::<2>(&*vault.env)));
    let until = now.plus_ms(margin_ms);
    let due = vault.store.read(move |tx| renewals::due(tx, until, now, RENEWALS_MAX)).await?;
    for (app, id) in due {
        let Some((credential, provider)) = vault.store.read(move |tx| find(tx, app, id)).await? else { continue };
        let Some(account) = credential.account() else { continue };
        if !may_be_renewed_early(account, &provider.facts, credential.updated_at, now) {
            continue;
        }
        // One after the other: this is not urgent, and callers are.
        let _ = refresh::renew(vault, (app, id), credential.version).await;
    }
    Ok(())
}

/// A credential of the app and the registration that got it.
fn find(tx: &mut Tx<'_>, app: AppId, id: CredentialId) -> Result<Option<(Credential, AppProvider)>, StoreError> {
    let Some(credential) = credentials::find(tx, app, id)? else { return Ok(None) };
    let Some(row) = credential.account().map(|account| account.provider) else { return Ok(None) };
    Ok(providers::find_row(tx, app, row)?.map(|provider| (credential, provider)))
}

/// Ends tokens at their provider whose last grant was revoked.
pub async fn end_revoked(vault: &Arc<Vault>) -> Result<(), StoreError> {
    let now = vault.env.now();
    let until = now.plus_ms(ENDING_LEASE_MS);
    let taken = vault.store.write(move |tx| renewals::take_endings(tx, now, until, ENDINGS_MAX)).await?;
    for ending in taken {
        crash::step("ending.taken");
        let (provider, outcome) = end(vault, &ending).await?;
        crash::step("ending.sent");
        settle(vault, &ending, provider.as_deref(), outcome).await?;
        crash::step("ending.settled");
    }
    Ok(())
}

/// How an attempt to end a pair went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    /// The provider has no such thing, or it would end what is still in use.
    Unsupported,
    NotYet,
    /// It cannot be known any more what to send.
    Never,
}

/// Tries it; the provider's id, too, if it is known.
async fn end(vault: &Vault, ending: &Ending) -> Result<(Option<String>, Ended), StoreError> {
    let (app, own) = ending.place;
    let (row, account) = (ending.provider, ending.account.clone());
    let read = move |tx: &mut Tx<'_>| {
        let provider = providers::find_row(tx, app, row)?;
        let living = credentials::find_living_of_account(tx, app, row, &account, own)?;
        Ok((provider, living))
    };
    let (Some(provider), living) = vault.store.read(read).await? else { return Ok((None, Ended::Never)) };
    let ended = send(vault, ending, &provider, living).await;
    Ok((Some(provider.provider_id), ended))
}

async fn send(vault: &Vault, ending: &Ending, provider: &AppProvider, living: Option<CredentialId>) -> Ended {
    let (app, id) = ending.place;
    let Some(revoke) = &provider.facts.revoke else { return Ended::Unsupported };
    if !may_end(id, living, revoke.ends) {
        // It would take the tokens of the new connection along.
        return Ended::Unsupported;
    }
    let place = keyring::place(app, id, ending.sealed_at_version);
    let Ok(text) = vault.keys.open_of_app(app, place, &ending.sealed).await else { return Ended::Never };
    let Some(pair) = TokenPair::parse(&text) else { return Ended::Never };
    let Ok(client) = refresh::client(vault, provider).await else { return Ended::Never };
    let (access, refresh) = pair.secrets();
    let pair = Pair { access: &access, refresh: refresh.as_ref() };
    let Some(call) = provider.facts.revoke_call(&client, pair, &ending.account) else { return Ended::Unsupported };
    let answered = oauth::send(vault, &call, Duration::from_millis(limits::REFRESH_DEADLINE_MS)).await;
    match answered {
        Ok(answer) if provider.facts.has_ended(answer.status, answer.body.as_deref().map_or(&[], Vec::as_slice)) => {
            Ended::Done
        }
        Ok(_) | Err(_) => Ended::NotYet,
    }
}

async fn settle(vault: &Vault, ending: &Ending, provider: Option<&str>, ended: Ended) -> Result<(), StoreError> {
    let (env, now, place) = (&*vault.env, vault.env.now(), ending.place);
    let attempts = ending.attempts + 1;
    let outcome = match ended {
        Ended::Done => "done",
        Ended::Unsupported => "unsupported",
        Ended::Never => "failed",
        Ended::NotYet if attempts >= limits::REVOKE_ATTEMPTS_MAX => "failed",
        Ended::NotYet => {
            let tripled = 3_i64.saturating_pow(u32::try_from(attempts - 1).unwrap_or(u32::MAX));
            let pause_ms = spread(ENDING_PAUSE_MS.saturating_mul(tripled), u16::from_le_bytes(random::<2>(env)));
            let after = now.plus_ms(pause_ms);
            return vault.store.write(move |tx| renewals::ended_not(tx, place, after)).await.map(drop);
        }
    };
    if outcome == "failed" {
        tracing::error!(credential.id = %place.1, attempts, "Tokens could not be ended at their provider: end them there by hand");
    }
    let told = if outcome == "failed" { Outcome::Error } else { Outcome::Allowed };
    let event = Event::new(env, now, Owner::App(place.0), Kind::CredentialEnded, told, Actor::Job);
    let event = provider.into_iter().fold(event, Event::provider);
    let event = event
        .credential(place.1, ending.sealed_at_version + 1)
        .core("revoked_upstream", outcome)
        .core("attempts", attempts)
        .prepare();
    let write = move |tx: &mut Tx<'_>| {
        if renewals::ended(tx, place, outcome)? {
            append_event(tx, &event)?;
        }
        Ok(())
    };
    vault.store.write(write).await
}

/// Forgets sessions whose time was over an hour ago.
pub async fn prune_sessions(vault: &Vault) -> Result<(), StoreError> {
    let before = vault.env.now().plus_ms(-SESSION_KEPT_MS);
    while vault.store.write(move |tx| connect::prune(tx, before, SESSIONS_MAX)).await? > 0 {}
    Ok(())
}
