//! Rounds: load, death, restart, look. Several rounds go over one install, so that what one crash left is what the next one meets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::database::Database;
use super::install::{Program, STEP_VARIABLE, Server, Start, died_at_step};
use super::model::Counts;
use super::random::Random;
use super::scene::Scene;
use super::{Result, RoundsArgs, accounts, epoch_seconds, fault, faults, now};

/// Rounds over one install: its past is read whole in each of them.
const ROUNDS_OF_INSTALL: usize = 6;
/// Random kills for which every step comes once.
const ROUNDS_PER_STEPS: u64 = 50;
/// Load before a kill at a random moment, at least and at most.
const LOAD_MS: (u64, u64) = (30, 500);
/// Before a server is told to stop, so that there is something to write down at its end.
const STOP_AFTER_RELEASES: usize = 10;
/// A step that is not passed under load in this time is none.
const STEP_WAIT: Duration = Duration::from_mins(1);

/// One way to die.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Death {
    /// `kill -9` after so many milliseconds of load.
    Random(u64),
    /// At a step, the so manieth time.
    Step(String, u64),
}

pub async fn run(args: &RoundsArgs) -> Result {
    let seed = args.seed.unwrap_or_else(|| epoch_seconds() ^ u64::from(std::process::id()) << 32);
    let engine = if args.postgres.is_some() { "postgres" } else { "sqlite" };
    println!("{engine}: {} rounds, --seed {seed}", args.rounds);
    let mut random = Random::new(seed);
    let steps = steps(&args.grantd, engine).await?;
    let (init, serving): (Vec<String>, Vec<String>) = steps.into_iter().partition(|step| step.starts_with("init."));
    let mut deaths = plan(args, &serving, &mut random);
    // Every install is one that was made by an init that died, until each of its steps had its turn.
    let mut inits = if args.step.is_some() { Vec::new() } else { init };
    let started = now();
    let (mut total, mut installs, mut done) = (Counts::default(), 0, 0);
    while !deaths.is_empty() || !inits.is_empty() {
        let mine: Vec<Death> = deaths.drain(..deaths.len().min(ROUNDS_OF_INSTALL)).collect();
        let round = Generation { args, seed, number: installs, init: inits.pop(), deaths: mine };
        let directory = args.directory.join(format!("{engine}-{seed}-{installs}"));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        match round.run(directory.clone(), &mut random).await {
            Ok(counts) => {
                add(&mut total, counts);
                std::fs::remove_dir_all(&directory)?;
            }
            Err(error) => {
                let step = args.step.as_ref().map(|step| format!(" --step {step}")).unwrap_or_default();
                let again = format!("cargo xtask crash --engine {engine} --rounds {} --seed {seed}{step}", args.rounds);
                return fault(format!("{error}\n  kept: {}\n  again: {again}", directory.display()));
            }
        }
        done += round.deaths.len() + usize::from(round.init.is_some());
        installs += 1;
    }
    println!(
        "{engine}: {done} deaths over {installs} installs in {:.1} s; {} calls answered, {} cut off, {} signed changes, {} events, \
         {} replays refused; nothing lost, nothing doubled, nothing half made",
        started.elapsed().as_secs_f64(),
        total.answered,
        total.cut_off,
        total.changes,
        total.events,
        total.replays_refused
    );
    Ok(())
}

fn add(total: &mut Counts, more: Counts) {
    total.answered += more.answered;
    total.cut_off += more.cut_off;
    total.changes += more.changes;
    total.replays_refused += more.replays_refused;
    total.events += more.events;
}

/// The steps of this story that the program has, without those of the other engine.
async fn steps(grantd: &Path, engine: &str) -> Result<Vec<String>> {
    let listed = Command::new(grantd).env(STEP_VARIABLE, "list").output().await?;
    let text = String::from_utf8(listed.stdout)?;
    let other = if engine == "sqlite" { "postgres." } else { "sqlite." };
    let elsewhere = accounts::STORIES.iter().chain([&other, &faults::TRAIL_STEPS]);
    let is_here = |step: &&str| !elsewhere.clone().any(|of| step.starts_with(of));
    let steps: Vec<String> = text.lines().filter(is_here).map(str::to_owned).collect();
    if !listed.status.success() || steps.is_empty() {
        return fault(format!("{} was not built with the feature crash-steps", grantd.display()));
    }
    Ok(steps)
}

fn plan(args: &RoundsArgs, steps: &[String], random: &mut Random) -> Vec<Death> {
    let mut deaths = Vec::new();
    if let Some(step) = &args.step {
        for _ in 0..args.rounds {
            deaths.push(at_step(step, random));
        }
        return deaths;
    }
    for _ in 0..args.rounds {
        deaths.push(Death::Random(LOAD_MS.0 + random.below(LOAD_MS.1 - LOAD_MS.0)));
    }
    for _ in 0..args.rounds.div_ceil(ROUNDS_PER_STEPS) {
        deaths.extend(steps.iter().map(|step| at_step(step, random)));
    }
    random.shuffle(&mut deaths);
    deaths
}

/// Which time: often passed steps are worth a later one.
fn at_step(step: &str, random: &mut Random) -> Death {
    let up_to = match step {
        "store.before_statement" => 400,
        "sqlite.append_ran" | "sqlite.answering" | "token.decided" | "token.durable" => 60,
        "sqlite.begun"
        | "sqlite.job_ran"
        | "sqlite.before_commit"
        | "sqlite.committed"
        | "postgres.append_linked"
        | "postgres.append_written" => 30,
        "postgres.lane_begun" | "postgres.lane_before_commit" | "postgres.lane_committed" | "change.durable" => 20,
        "job.nonces_pruned" | "data_key.stored" | "sqlite.log_moved" => 1,
        step if step.starts_with("stop.") => 1,
        _ => 3,
    };
    Death::Step(step.to_owned(), 1 + random.below(up_to))
}

/// Some rounds over one install.
struct Generation<'a> {
    args: &'a RoundsArgs,
    seed: u64,
    number: u64,
    init: Option<String>,
    deaths: Vec<Death>,
}

impl Generation<'_> {
    async fn run(&self, directory: PathBuf, random: &mut Random) -> Result<Counts> {
        let database = match &self.args.postgres {
            Some(server) => Some(Database::create(server, &format!("crash_{}_{}", self.seed, self.number)).await?),
            None => None,
        };
        let program = Program { path: self.args.grantd.clone(), wrapper: Vec::new() };
        let what = |death: &dyn std::fmt::Debug| format!("install {}, {death:?}", self.number);
        let made = Scene::make(program, directory, database, self.init.as_deref(), random.fork()).await;
        let (mut scene, mut server) = made.map_err(|error| format!("{}: {error}", what(&self.init)))?;
        let mut counts = Counts::default();
        for death in &self.deaths {
            until(&mut scene, server, death).await.map_err(|error| format!("{}: {error}", what(death)))?;
            server = scene.install.server().await?;
            let found = scene.look(&server).await.map_err(|error| format!("{}: {error}", what(death)))?;
            // Events are those of the whole past.
            counts = Counts { events: found.events, ..sum(counts, found) };
        }
        server.kill().await?;
        if let Some(database) = &scene.install.database {
            database.remove().await?;
        }
        Ok(counts)
    }
}

fn sum(mut a: Counts, b: Counts) -> Counts {
    add(&mut a, b);
    a
}

/// Load until this death, and no other.
async fn until(scene: &mut Scene, server: Server, death: &Death) -> Result {
    match death {
        Death::Random(ms) => {
            let load = scene.load(&server);
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            server.kill().await?;
            load.end().await;
        }
        Death::Step(step, count) => {
            // Armed from the start, so it is another process.
            server.kill().await?;
            let armed = format!("{step}:{count}");
            let status = match scene.install.serve(Some(&armed)).await? {
                Start::Ended(status) => status,
                Start::Listening(server) => die_at(scene, *server, step).await?,
            };
            if !died_at_step(status) {
                return fault(format!("it did not die at {armed} but ended with {status}"));
            }
        }
    }
    scene.check_load()
}

async fn die_at(scene: &mut Scene, server: Server, step: &str) -> Result<std::process::ExitStatus> {
    let load = scene.load(&server);
    if step.starts_with("stop.") {
        let started = now();
        while scene.releases() < STOP_AFTER_RELEASES && started.elapsed() < STEP_WAIT {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.signal("TERM").await?;
    }
    let ended = timeout(STEP_WAIT, server.end()).await;
    let Ok(status) = ended else { return fault(format!("{step} was not passed under load")) };
    load.end().await;
    status
}
