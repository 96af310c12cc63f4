//! Renewals of tokens, simulated: the decisions and the transactions of the server, in an order that a seed chooses, beside a model of a
//! provider, with crashes, pauses, lost answers and a database that fails.
//!
//! `GRANTD_SIM_SEEDS=0..1000000 cargo test -p grantd-server --test sim` plays more worlds than a check does. A seed that fails prints
//! what happened; it belongs into `seeds.txt`, which is played first.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bugs;
mod callers;
mod chance;
mod fixture;
mod flight;
mod provider;
mod run;
mod simulation;

use futures_util::StreamExt as _;
use grantd_domain::grant::{Broken, CredentialState};

use bugs::Bug;
use callers::Outcome;
use fixture::Fixture;
use provider::Rotation;
use run::{Report, alone, play, settle};

/// Worlds that a check plays.
const SEEDS: u64 = 200;
/// Worlds within which each bug is found.
const SEEDS_UNTIL_FOUND_MAX: u64 = 1_000;
/// Worlds on one store, and worlds at a time: their transactions are committed together.
const SEEDS_OF_STORE: u64 = 2_000;
const SEEDS_AT_A_TIME: usize = 256;

fn block_on<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
}

/// Plays the worlds of seeds; the first that fails, again and with everything it did.
async fn play_all(seeds: impl Iterator<Item = u64>, bug: Option<Bug>) -> Result<(u64, Report), (u64, String)> {
    let mut seeds = seeds.peekable();
    let (mut played, mut total) = (0, Report::default());
    while seeds.peek().is_some() {
        let fixture = Fixture::create().await;
        let batch: Vec<u64> = seeds.by_ref().take(usize::try_from(SEEDS_OF_STORE).unwrap()).collect();
        let worlds = batch.into_iter().map(|seed| {
            let fixture = &fixture;
            async move { (seed, play(fixture, seed, bug, false).await) }
        });
        let mut worlds = futures_util::stream::iter(worlds).buffered(SEEDS_AT_A_TIME);
        while let Some((seed, report)) = worlds.next().await {
            match report {
                Ok(report) => total += report,
                Err(_) => {
                    let again = play(&Fixture::create().await, seed, bug, true).await;
                    return Err((played + 1, again.expect_err("a seed is the same twice")));
                }
            }
            played += 1;
        }
        drop(worlds);
        fixture.store.close().await;
    }
    Ok((played, total))
}

#[test]
fn no_order_of_things_loses_a_token() {
    let kept = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let kept: Vec<u64> = kept.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    match block_on(play_all(kept.into_iter().chain(seeds()), None)) {
        Ok((played, report)) => {
            println!("{played} worlds: {report:?}");
            // What was never tried was not shown.
            assert!(report.exchanges as u64 > played && report.tokens as u64 > played, "{report:?}");
            assert!(report.crashes > 0 && report.broken > 0, "{report:?}");
        }
        Err((_, told)) => panic!("{told}"),
    }
}

/// Those of a check, or those that are asked for: `GRANTD_SIM_SEEDS=FROM..TO`.
fn seeds() -> std::ops::Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "how long it runs is asked for from outside")]
    let Ok(asked) = std::env::var("GRANTD_SIM_SEEDS") else { return 0..SEEDS };
    let range = asked.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.expect("GRANTD_SIM_SEEDS is FROM..TO")
}

#[test]
fn a_seed_is_the_same_twice() {
    let twice = || block_on(async { play(&Fixture::create().await, 7, None, false).await });
    assert_eq!(twice(), twice());
}

#[test]
fn each_planted_bug_is_found() {
    for bug in Bug::ALL {
        match block_on(play_all(0..SEEDS_UNTIL_FOUND_MAX, Some(bug))) {
            Ok(_) => panic!("{bug:?} is not found within {SEEDS_UNTIL_FOUND_MAX} worlds"),
            Err((after, told)) => println!("{bug:?}, after {after} worlds: {}", told.lines().last().unwrap()),
        }
    }
}

/// A renewal is run to its every step, dies there, and everything is run to rest.
#[test]
fn a_crash_at_every_step_leaves_a_pair_or_says_why_not() {
    let told = block_on(async {
        let fixture = Fixture::create().await;
        let (mut told, mut seed) = (Vec::new(), 0);
        for rotation in [Rotation::Strict, Rotation::Grace, Rotation::Never] {
            for dies_after in 0.. {
                seed += 1;
                let mut world = alone(&fixture, seed, rotation).await;
                let mut steps = 0;
                let mut last = "nothing".to_owned();
                while steps < dies_after && !world.is_quiet() {
                    if let Some(flight) = world.flights.first() {
                        let is_sending = flight.is_sending();
                        last = format!("{:?}", flight.action);
                        last.truncate(last.find([' ', '(']).unwrap_or(last.len()));
                        last += if is_sending { ", answered" } else { "" };
                        steps += 1;
                    }
                    world.step_one().await.unwrap();
                }
                let was_over = world.is_quiet();
                world.crash(0);
                settle(&mut world).await.unwrap();
                let left = match world.row.state {
                    CredentialState::Ok { .. } => "a pair that works",
                    CredentialState::Broken(Broken::RotationUnknown) => "rotation_unknown",
                    CredentialState::Broken(_) | CredentialState::Destroyed => "the user is blamed",
                };
                let line = format!("{rotation:?}, {last}: {left}");
                if told.last() != Some(&line) {
                    told.push(line);
                }
                if was_over {
                    break;
                }
            }
        }
        told
    });
    let lost = ["Strict, Exchange: rotation_unknown", "Strict, Exchange, answered: rotation_unknown"];
    println!("{}", told.join("\n"));
    for line in &told {
        assert!(lost.contains(&line.as_str()) || line.ends_with("a pair that works"), "{line}");
    }
    assert!(lost.iter().all(|lost| told.iter().any(|line| line == lost)), "{told:?}");
}

#[test]
fn every_write_made_twice_is_one() {
    block_on(async {
        let fixture = Fixture::create().await;
        for (seed, rotation) in (1..).zip([Rotation::Strict, Rotation::Grace, Rotation::Never]) {
            let mut world = alone(&fixture, seed, rotation).await;
            world.weather.is_twice = true;
            settle(&mut world).await.unwrap();
            assert_eq!(world.outcomes, [Outcome::Token, Outcome::Token], "{}", world.told());
            // The one that was asked for, and the one of the caller who came when all was quiet.
            assert_eq!((world.sent.len(), world.row.version), (2, 3), "{}", world.told());
        }
    });
}
