//! Keys that sign assertions of identity: when one is made, published and withdrawn, and which signs.

use grantd_domain::assertion::{self, AssertionKey, Published, Upkeep};
use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::{Env, new_uuid};
use grantd_store::signing_keys::{self as rows, SigningKey};
use grantd_store::{Result as Stored, Store, Tx, append_event};
use grantd_wire::ids::{OrganizationId, SigningKeyId};
use grantd_wire::{Code, Error, TimeMs};

use crate::answer::of_store;
use crate::flow::Drafts;
use crate::install::signing_place;
use crate::vault::Vault;

/// A published key, and from when on it signs.
pub type Row = (SigningKey, TimeMs);

/// Keys of these rows, as the rules see them.
pub fn published(rows: &[Row]) -> Vec<Published> {
    rows.iter().map(|(key, signs_from)| Published { id: key.id, signs_from: *signs_from }).collect()
}

/// Published keys, the one that signs last at the end.
pub async fn list(vault: &Vault) -> Result<Vec<Row>, Error> {
    vault.store.read(rows::list_for_identity).await.map_err(of_store)
}

/// Does what age makes due: the next key is made well ahead of its time, and old ones are withdrawn.
pub async fn keep_up(vault: &Vault) -> Result<(), Error> {
    let now = vault.env.now();
    let decide = move |keys: &[Published]| Ok(assertion::upkeep(keys, now));
    if decide(&published(&list(vault).await?))? == Upkeep::default() {
        return Ok(());
    }
    let event = job_event(&*vault.env, vault.organization_id, now);
    let write = prepare(vault, &event, decide).await?;
    vault.store.write(write).await.map(drop).map_err(of_store)
}

/// The write that makes another key, as an operator asks for it. It gives the published ones.
pub async fn rotate(
    vault: &Vault,
    has_leaked: bool,
    now: TimeMs,
    event: &Event,
) -> Result<impl FnMut(&mut Tx<'_>) -> Stored<Vec<Row>> + Send + use<>, Error> {
    prepare(vault, event, move |keys: &[Published]| assertion::rotation(keys, has_leaked, now)).await
}

fn job_event(env: &dyn Env, organization: OrganizationId, now: TimeMs) -> Event {
    Event::new(env, now, Owner::Organization(organization), Kind::IdentityKeyMade, Outcome::Allowed, Actor::Job)
}

/// The write that does what `decide` finds due, with the event of whoever asked. Another process may do the same: what is due is
/// decided inside the write.
async fn prepare<D>(
    vault: &Vault,
    event: &Event,
    decide: D,
) -> Result<impl FnMut(&mut Tx<'_>) -> Stored<Vec<Row>> + Send + use<D>, Error>
where
    D: Fn(&[Published]) -> Result<Upkeep, Error> + Send + 'static,
{
    let env = &*vault.env;
    let id = SigningKeyId::from_uuid(new_uuid(env));
    let (key, private) = AssertionKey::generate(env, id);
    let sealing = vault.keys.take_seal(env, None).await?;
    let private_sealed = sealing.seal(env, signing_place(id), &*private);
    let new = SigningKey { id, public_jwk: key.jwk(), data_key_id: sealing.id(), private_sealed };
    let (now, drafts) = (event.at(), Drafts::new(env, event, &[Kind::IdentityKeyMade]));
    // A key is withdrawn with an event of its own: as many as there are, or may have become.
    let withdrawn: Vec<Event> =
        (0..list(vault).await?.len() + 2).map(|_| event.clone().as_kind(env, Kind::IdentityKeyWithdrawn)).collect();
    Ok(move |tx: &mut Tx<'_>| {
        let due = decide(&published(&rows::list_for_identity(tx)?))?;
        for (key, event) in due.withdraw.iter().zip(&withdrawn) {
            withdraw(tx, *key, now, event)?;
        }
        if let Some(signs_from) = due.make {
            rows::insert_for_identity(tx, &new, signs_from)?;
            let event = drafts.of(Kind::IdentityKeyMade).core_id("signing_key_id", new.id);
            append_event(tx, &event.core("signs_from", signs_from.to_string()).prepare())?;
        }
        rows::list_for_identity(tx)
    })
}

fn withdraw(tx: &mut Tx<'_>, key: SigningKeyId, now: TimeMs, event: &Event) -> Stored<()> {
    if rows::withdraw_for_identity(tx, key, now)? {
        append_event(tx, &event.clone().core_id("signing_key_id", key).prepare())?;
    }
    Ok(())
}

/// Withdraws every key of a database that was restored: one that was withdrawn since the backup, because it leaked, would be back.
pub async fn withdraw_all(store: &Store, env: &dyn Env, organization: OrganizationId, now: TimeMs) -> Stored<()> {
    let event = job_event(env, organization, now).core("replayed", true);
    let found = store.read(rows::list_for_identity).await?;
    let ends: Vec<_> =
        found.iter().map(|(key, _)| (key.id, event.clone().as_kind(env, Kind::IdentityKeyWithdrawn))).collect();
    store.write(move |tx| ends.iter().try_for_each(|(key, event)| withdraw(tx, *key, now, event))).await
}

/// The key that signs now.
pub async fn signer(vault: &Vault) -> Result<AssertionKey, Error> {
    let now = vault.env.now();
    let mut found = list(vault).await?;
    if assertion::signer(&published(&found), now).is_none() {
        // The job that sees to it has not run yet.
        keep_up(vault).await?;
        found = list(vault).await?;
    }
    let unavailable =
        || Error::new(Code::KeyUnavailable).message("The key that signs assertions is not available. Retry.");
    let id = assertion::signer(&published(&found), now).ok_or_else(unavailable)?;
    let (row, _) = found.into_iter().find(|(key, _)| key.id == id).ok_or_else(unavailable)?;
    let private = vault.keys.open_of_install(signing_place(id), &row.private_sealed).await?;
    AssertionKey::from_private(id, &private).ok_or_else(unavailable)
}
