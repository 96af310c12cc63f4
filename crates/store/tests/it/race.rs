//! Any sequence of operations leaves a chain that verifies, and exactly the events of those that were answered with success.

use std::collections::{BTreeMap, BTreeSet};

use grantd_store::{Append, Appended, Error, Store, append_event, apps};
use grantd_wire::Code;
use grantd_wire::ids::AppId;

use crate::engine::{Database, NOW};
use crate::world::{World, only, sign_checkpoint, verified};

/// A small generator with a seed: what failed can be run again.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    events: BTreeMap<AppId, u64>,
    epochs: BTreeMap<AppId, i64>,
    nonces: BTreeSet<(AppId, u8)>,
}

async fn step(store: &Store, world: &World, model: &mut Model, random: &mut Seeded) {
    let app = world.app.id;
    let at = NOW.plus_ms(i64::try_from(random.below(50)).unwrap());
    let event = world.release(at);
    let events = model.events.entry(app).or_default();
    let epoch = model.epochs.entry(app).or_insert(1);
    match random.below(8) {
        0 => {
            assert_eq!(store.append(only(event)).await.unwrap(), Appended::Done);
            *events += 1;
        }
        1 | 2 => {
            let n = u8::try_from(random.below(12)).unwrap();
            let mut confirm = world.confirm(store).await;
            assert_eq!(confirm.epochs.app, *epoch);
            let stale = random.below(3) == 0;
            confirm.epochs.app -= i64::from(stale);
            let append = Append { event, confirm: Some(confirm), nonce: Some(world.nonce(n)) };
            let fate = store.append(append).await.unwrap();
            if stale {
                assert_eq!(fate, Appended::Moved);
            } else if !model.nonces.insert((app, n)) {
                assert_eq!(fate, Appended::Replayed);
            } else {
                assert_eq!(fate, Appended::Done);
                *events += 1;
            }
        }
        3 | 4 => {
            let write = move |tx: &mut grantd_store::Tx<'_>| {
                apps::raise_epoch(tx, app)?;
                append_event(tx, &event)
            };
            store.write(write).await.unwrap();
            *events += 1;
            *epoch += 1;
        }
        5 => {
            let write = move |tx: &mut grantd_store::Tx<'_>| {
                append_event(tx, &event)?;
                apps::raise_epoch(tx, app)?;
                Err::<(), _>(Error::from(Code::Conflict))
            };
            assert!(store.write(write).await.is_err());
        }
        6 => {
            let write = move |tx: &mut grantd_store::Tx<'_>| {
                append_event(tx, &event)?;
                append_event(tx, &event)
            };
            let result = store.write(write).await;
            assert!(matches!(result, Err(Error::Duplicate)), "{result:?}");
        }
        _ => {
            let owner = world.owner();
            store.write(move |tx| sign_checkpoint(tx, &owner, at)).await.unwrap();
        }
    }
}

/// One at a time, so that the model knows every answer; on every third step through another store on the same data.
async fn any_sequence_leaves_a_whole_chain(store: &Database) {
    let first = World::create(store).await;
    let worlds = [World::app_of(store, first.organization, "Second").await, first];
    let other = if store.is_kept() { store.open_again("other").await } else { (*store).clone() };
    for seed in 0..3 {
        let mut random = Seeded(seed);
        let mut model = Model::default();
        for world in &worlds {
            model.epochs.insert(world.app.id, world.epochs(store).await.app);
        }
        let before = [verified(store, worlds[0].owner()).await.events, verified(store, worlds[1].owner()).await.events];
        // Nonces of earlier seeds are out of the way.
        store.prune_nonces(NOW.plus_ms(1)).await.unwrap();
        for _ in 0..60 {
            let through = if random.below(3) == 0 { &other } else { &**store };
            let world = &worlds[usize::try_from(random.below(2)).unwrap()];
            step(through, world, &mut model, &mut random).await;
        }
        for (world, before) in worlds.iter().zip(before) {
            let report = verified(store, world.owner()).await;
            let expected = model.events.get(&world.app.id).copied().unwrap_or(0);
            assert_eq!(report.events - before, expected, "seed {seed}");
            assert_eq!(world.epochs(store).await.app, model.epochs[&world.app.id], "seed {seed}");
        }
    }
    if store.is_kept() {
        other.close().await;
    }
}

on_every_engine! { any_sequence_leaves_a_whole_chain, }
