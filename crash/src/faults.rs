//! Stories of what breaks around grantd: each one under load, each one ends with the look that every crash ends with.

mod clock;
mod disk;
mod limits;
mod postgres;
mod trail;

use std::path::PathBuf;

pub use trail::STEPS as TRAIL_STEPS;

use super::client::Answer;
use super::install::{Program, Server};
use super::random::Random;
use super::scene::{Scene, until};
use super::{FaultsArgs, Result, epoch_seconds, fault, now};

/// How a story ended, when it did not fail.
enum Told {
    Whole,
    /// This machine cannot tell it, for this reason.
    NotHere(String),
}

const STORIES: &[&str] = &[
    "disk-full",
    "disk-errors",
    "database-damaged",
    "clock",
    "trail",
    "descriptors",
    "memory",
    "postgres-cut-off",
    "postgres-stalled",
    "postgres-restarted",
];

pub async fn run(args: &FaultsArgs) -> Result {
    let chosen: Vec<&str> = match &args.only {
        None => STORIES.to_vec(),
        Some(name) => STORIES.iter().copied().filter(|story| story == name).collect(),
    };
    if chosen.is_empty() {
        return fault(format!("no such story; there are: {}", STORIES.join(" ")));
    }
    for story in chosen {
        let directory = args.directory.join(format!("fault-{story}"));
        disk::clear(&directory)?;
        let started = now();
        let stage = Stage { args, directory: directory.clone(), random: Random::new(epoch_seconds()) };
        let told = match story {
            "disk-full" => disk::full(stage).await,
            "disk-errors" => disk::errors(stage).await,
            "database-damaged" => disk::damaged(stage).await,
            "clock" => clock::moved(stage).await,
            "trail" => trail::comes_of_age(stage).await,
            "descriptors" => limits::descriptors(stage).await,
            "memory" => limits::memory(stage).await,
            "postgres-cut-off" => postgres::cut_off(stage).await,
            "postgres-stalled" => postgres::stalled(stage).await,
            _ => postgres::restarted(stage).await,
        };
        let took = started.elapsed().as_secs_f64();
        match told {
            Ok(Told::Whole) => println!("{story:<20}held in {took:.1} s"),
            Ok(Told::NotHere(why)) => println!("{story:<20}NOT RUN: {why}"),
            Err(error) => {
                return fault(format!(
                    "{story}: {error}\n  kept: {}\n  again: cargo xtask faults --only {story}",
                    directory.display()
                ));
            }
        }
        disk::clear(&directory)?;
    }
    Ok(())
}

/// Where a story is told.
struct Stage<'a> {
    args: &'a FaultsArgs,
    directory: PathBuf,
    random: Random,
}

impl Stage<'_> {
    /// A scene on SQLite whose server runs under this wrapper.
    async fn scene(&mut self, wrapper: &[&str]) -> Result<(Scene, Server)> {
        let wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        let program = Program { path: self.args.grantd.clone(), wrapper };
        Scene::make(program, self.directory.clone(), None, None, self.random.fork()).await
    }
}

/// Typed, and says when to come again.
fn is_refused(answer: &Answer) -> bool {
    let codes = ["storage_unavailable", "audit_unavailable", "busy"];
    answer.status == 503 && codes.contains(&answer.error().as_str()) && answer.header("retry-after").is_some()
}

fn is_released(answer: &Answer) -> bool {
    answer.status == 200
}

/// Load, trouble until it is felt, its end, and on as before; then everything is looked at, twice, with a stop between.
async fn under_load(
    mut scene: Scene,
    server: Server,
    begin: impl AsyncFnOnce(&Server) -> Result,
    end: impl AsyncFnOnce(&Server) -> Result,
) -> Result<Told> {
    let load = scene.load(&server);
    until("the load", || scene.releases() > 20).await?;
    begin(&server).await?;
    scene.until_token(&server, "a typed 503", is_refused).await?;
    end(&server).await?;
    scene.until_token(&server, "recovery", is_released).await?;
    let before = scene.releases();
    until("the load going on", || scene.releases() > before + 20).await?;
    load.end().await;
    finish(scene, server).await
}

/// Everything is looked at, before and after a stop that ends well.
async fn finish(mut scene: Scene, server: Server) -> Result<Told> {
    scene.check_load()?;
    scene.look(&server).await?;
    stop(server).await?;
    let server = scene.install.server().await?;
    scene.look(&server).await?;
    stop(server).await?;
    Ok(Told::Whole)
}

async fn stop(server: Server) -> Result {
    server.signal("TERM").await?;
    let status = server.end().await?;
    if status.success() { Ok(()) } else { fault(format!("told to stop, it ended with {status}")) }
}
