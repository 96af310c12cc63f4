//! A clock that is set back and forward.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::{Result, Stage, Told, fault, is_released, stop};
use crate::client::Connection;
use crate::install::{Server, expect};
use crate::scene::Scene;
use crate::{CLOCK_OFFSET_S, epoch_seconds};

/// Shorter than what is noticed at once, longer than a nonce must be remembered for.
const A_LITTLE_S: i64 = 240;
const BACK_S: i64 = -600;
const FORWARD_S: i64 = 3_600;

/// No nonce is taken again and nothing is released while the clock is far behind what was seen.
pub async fn moved(mut stage: Stage<'_>) -> Result<Told> {
    let Some(library) = library() else {
        return Ok(Told::NotHere("libfaketime is missing: apt-get install faketime".to_owned()));
    };
    let told = story(&mut stage, &library).await;
    CLOCK_OFFSET_S.store(0, Ordering::SeqCst);
    told
}

/// What moves the clock of a server that is started with it.
pub(super) fn library() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    places.map(|place| place.join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

/// Restarts the server in another time, which the callers share.
async fn at(scene: &mut Scene, library: &Path, offset_s: i64) -> Result<Server> {
    set(scene, library, offset_s);
    scene.install.server().await
}

/// Servers of this scene that are started from now on are in another time, which the callers share.
pub(super) fn set(scene: &mut Scene, library: &Path, offset_s: i64) {
    CLOCK_OFFSET_S.store(offset_s, Ordering::SeqCst);
    scene.install.program.wrapper = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={offset_s:+}s"),
        // Only the time of day moves; what is measured goes on.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
}

async fn story(stage: &mut Stage<'_>, library: &Path) -> Result<Told> {
    let (mut scene, server) = stage.scene(&[]).await?;
    let (run, first) = scene.token_request(epoch_seconds());
    let answer = server.ask(&first).await?;
    expect(&answer, 200)?;
    scene.note_released(run, &answer);
    stop(server).await?;

    // A little forward, and back: nothing shows that, so the nonce of before must still be known.
    let server = at(&mut scene, library, A_LITTLE_S).await?;
    scene.until_token(&server, "a call a little later", is_released).await?;
    stop(server).await?;
    let server = at(&mut scene, library, 0).await?;
    let again = server.ask(&first).await?;
    if again.error() != "nonce_replayed" {
        return fault(format!("after the clock went forward and back, an old call: {}", again.shown()));
    }
    scene.until_token(&server, "a call in time", is_released).await?;
    stop(server).await?;

    // Back: nothing is released, and it is said why.
    let server = at(&mut scene, library, BACK_S).await?;
    refuses(&mut scene, &server).await?;
    stop(server).await?;
    let server = at(&mut scene, library, 0).await?;
    scene.until_token(&server, "a call in time again", is_released).await?;
    let path = "/api/v1/audit/events?kind=clock.regressed";
    let told = expect(&scene.install.ask(&server, "GET", path, None).await?, 200)?;
    if told["items"].as_array().is_none_or(Vec::is_empty) {
        return fault("no event tells that the clock was set back");
    }
    scene.look(&server).await?;
    stop(server).await?;

    // Far forward, where it works, and back from there.
    let server = at(&mut scene, library, FORWARD_S).await?;
    scene.until_token(&server, "a call an hour later", is_released).await?;
    stop(server).await?;
    let server = at(&mut scene, library, 0).await?;
    refuses(&mut scene, &server).await?;
    stop(server).await?;
    let server = at(&mut scene, library, FORWARD_S).await?;
    scene.until_token(&server, "a call once time has caught up", is_released).await?;
    scene.look(&server).await?;
    stop(server).await?;
    Ok(Told::Whole)
}

async fn refuses(scene: &mut Scene, server: &Server) -> Result {
    let answer = scene.token(server).await?;
    if answer.status != 503 || answer.error() != "clock_rollback" {
        return fault(format!("a call while the clock is behind: {}", answer.shown()));
    }
    let ready = b"GET /readyz HTTP/1.1\r\nhost: grantd\r\n\r\n";
    let answer = Connection::open(server.address).await?.send(ready).await?;
    if answer.status != 503 {
        return fault(format!("/readyz while the clock is behind: {}", answer.shown()));
    }
    Ok(())
}
