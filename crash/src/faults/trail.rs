//! A trail that comes of age: the process dies between all steps of cutting it off and of deleting it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{Result, Stage, Told, clock, epoch_seconds, fault, is_released, stop};
use crate::CLOCK_OFFSET_S;
use crate::database::Database;
use crate::install::{Program, Server, expect};
use crate::scene::Scene;

/// What its steps begin with.
pub const STEPS: &str = "retention.";
/// In the write that cuts, in the same write once it is signed, and after it.
const CUTTING: [&str; 3] = ["retention.cut", "retention.signed", "retention.durable"];
/// What finds the events is gone; they are gone; all is done that was to be done.
const DELETING: [&str; 3] = ["retention.terms_deleted", "retention.events_deleted", "retention.ended"];
/// Enough of them that a part is cut off and another part stays.
const CALLS: usize = 30;
const OF_AGE_S: i64 = 3 * 86_400;
/// What was cut off is deleted an hour later.
const DELETED_S: i64 = OF_AGE_S + 2 * 3_600;
/// Between two starts: more than the time after which a process that died is not waited for.
const LATER_S: i64 = 300;

/// What is too old goes once and whole, whenever the process dies; what is left verifies and continues what was exported before.
pub async fn comes_of_age(mut stage: Stage<'_>) -> Result<Told> {
    let Some(library) = clock::library() else {
        return Ok(Told::NotHere("libfaketime is missing: apt-get install faketime".to_owned()));
    };
    let told = async {
        story(&mut stage, &library, None, "sqlite").await?;
        let Some(url) = stage.args.postgres.clone() else {
            return Ok(Told::NotHere("no PostgreSQL was given; it held on SQLite".to_owned()));
        };
        let database = Database::create(&url, &format!("trail_{}", std::process::id())).await?;
        CLOCK_OFFSET_S.store(0, Ordering::SeqCst);
        story(&mut stage, &library, Some(database.clone()), "postgres").await?;
        database.remove().await?;
        Ok(Told::Whole)
    };
    let told = told.await;
    CLOCK_OFFSET_S.store(0, Ordering::SeqCst);
    told
}

async fn story(stage: &mut Stage<'_>, library: &Path, database: Option<Database>, engine: &str) -> Result {
    let program = Program { path: stage.args.grantd.clone(), wrapper: Vec::new() };
    let directory = stage.directory.join(engine);
    let (mut scene, server) = Scene::make(program, directory, database, None, stage.random.fork()).await?;
    let (install, app) = (&scene.install, scene.install.path("/retention"));
    expect(&install.ask(&server, "PUT", &app, Some(&json!({"retention": "1d"}))).await?, 200)?;
    for _ in 0..CALLS {
        scene.until_token(&server, "a call", is_released).await?;
    }
    let before = exported(&scene, &server, "before", None).await?;
    // Its end signs what the trail is cut at.
    stop(server).await?;

    let mut offset = OF_AGE_S;
    for step in CUTTING {
        clock::set(&mut scene, library, offset);
        scene.install.die_at(step).await?;
        offset += LATER_S;
    }
    let cut = look(&mut scene, library, offset, "cut", &before).await?;

    offset = DELETED_S;
    for step in DELETING {
        clock::set(&mut scene, library, offset);
        scene.install.die_at(step).await?;
        offset += LATER_S;
    }
    look(&mut scene, library, offset, "deleted", &cut).await.map(drop)
}

/// The server as it comes up after the deaths: the trail was cut once, nothing of its past is shown, and it goes on.
async fn look(scene: &mut Scene, library: &Path, offset_s: i64, name: &str, before: &Path) -> Result<PathBuf> {
    clock::set(scene, library, offset_s);
    let server = scene.install.server().await?;
    scene.until_token(&server, "a call afterwards", is_released).await?;
    let path = exported(scene, &server, name, Some(before)).await?;
    let lines = std::fs::read_to_string(&path)?;
    let events: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let count = |kind: &str| events.iter().filter(|line| line["core"]["kind"] == kind).count();
    let (cuts, releases) = (count("audit.pruned"), count("token.released"));
    if cuts != 1 {
        return fault(format!("{name}: the trail was cut {cuts} times"));
    }
    if releases == 0 || releases >= CALLS {
        return fault(format!("{name}: of {CALLS} calls that came of age and a newer one {releases} are shown"));
    }
    stop(server).await?;
    Ok(path)
}

/// An export that verifies, and whose past is the export before.
async fn exported(scene: &Scene, server: &Server, name: &str, before: Option<&Path>) -> Result<PathBuf> {
    let path = scene.install.directory.join(format!("{name}.jsonl"));
    let lines = scene.install.export(server, &path, before).await?;
    if lines.is_empty() { fault(format!("{name}: the export is empty at {}", epoch_seconds())) } else { Ok(path) }
}
