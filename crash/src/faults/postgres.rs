//! PostgreSQL restarted, silent, and cut off in the middle of a commit.

use std::path::Path;

use tokio::process::Command;

use super::{Result, Stage, Told, fault, finish, is_released, under_load};
use crate::database::Database;
use crate::install::{Program, Server};
use crate::proxy::{Proxy, address_of};
use crate::scene::{Scene, until};

const NO_SERVER: &str = "no PostgreSQL was given";
/// How often each kind of cut is made.
const TURNS: u32 = 4;

/// A scene whose server reaches its database through a wire of ours.
async fn wired(stage: &mut Stage<'_>, url: &str) -> Result<(Scene, Server, Proxy)> {
    let proxy = Proxy::start(address_of(url)?).await?;
    let database = Database::create(url, &format!("fault_{}", std::process::id())).await?.at(proxy.port);
    let program = Program { path: stage.args.grantd.clone(), wrapper: Vec::new() };
    let made = Scene::make(program, stage.directory.clone(), Some(database), None, stage.random.fork()).await;
    let (scene, server) = made?;
    Ok((scene, server, proxy))
}

/// Connections end before a request arrives, after a COMMIT that nobody hears of, after any statement; then the network is down.
pub async fn cut_off(mut stage: Stage<'_>) -> Result<Told> {
    let Some(url) = stage.args.postgres.clone() else { return Ok(Told::NotHere(NO_SERVER.to_owned())) };
    let (mut scene, server, proxy) = wired(&mut stage, &url).await?;
    let load = scene.load(&server);
    until("the load", || scene.releases() > 20).await?;
    for _ in 0..TURNS {
        for cut in [Proxy::cut_commits, Proxy::cut_replies, Proxy::cut_requests] {
            cut(&proxy, 1);
            until("the cut", || proxy.has_cut()).await?;
            scene.until_token(&server, "a call after the cut", is_released).await?;
        }
    }
    load.end().await;
    scene.check_load()?;
    scene.look(&server).await?;
    let database = scene.install.database.clone();
    let down = async |_: &Server| {
        proxy.take_down();
        Ok(())
    };
    let up = async |_: &Server| {
        proxy.pass();
        Ok(())
    };
    let told = under_load(scene, server, down, up).await?;
    remove(database).await?;
    Ok(told)
}

/// A peer that says nothing more and does not hang up.
pub async fn stalled(mut stage: Stage<'_>) -> Result<Told> {
    let Some(url) = stage.args.postgres.clone() else { return Ok(Told::NotHere(NO_SERVER.to_owned())) };
    let (scene, server, proxy) = wired(&mut stage, &url).await?;
    let database = scene.install.database.clone();
    let hold = async |_: &Server| {
        proxy.hold();
        Ok(())
    };
    let pass = async |_: &Server| {
        proxy.pass();
        Ok(())
    };
    let told = under_load(scene, server, hold, pass).await?;
    remove(database).await?;
    Ok(told)
}

/// The server itself is killed and comes back.
pub async fn restarted(mut stage: Stage<'_>) -> Result<Told> {
    let (Some(url), Some(home), Some(programs)) =
        (stage.args.postgres.clone(), stage.args.postgres_home.clone(), stage.args.postgres_programs.clone())
    else {
        return Ok(Told::NotHere("no PostgreSQL was given that may be restarted".to_owned()));
    };
    let database = Database::create(&url, &format!("fault_{}", std::process::id())).await?;
    let program = Program { path: stage.args.grantd.clone(), wrapper: Vec::new() };
    let scene = Scene::make(program, stage.directory.clone(), Some(database), None, stage.random.fork()).await;
    let (mut scene, server) = scene?;
    let load = scene.load(&server);
    for _ in 0..TURNS {
        let before = scene.releases();
        until("the load", || scene.releases() > before + 20).await?;
        restart(&programs, &home).await?;
        scene.until_token(&server, "a call after the restart", is_released).await?;
    }
    load.end().await;
    let database = scene.install.database.clone();
    let told = finish(scene, server).await?;
    remove(database).await?;
    Ok(told)
}

async fn restart(programs: &Path, home: &Path) -> Result {
    let data = home.join("data");
    let owner = Command::new("stat").args(["-c", "%U"]).arg(&data).output().await?;
    let owner = String::from_utf8(owner.stdout)?;
    let me = Command::new("id").arg("-un").output().await?;
    let pg_ctl = programs.join("pg_ctl");
    let mut restart = if String::from_utf8(me.stdout)? == owner {
        Command::new(pg_ctl)
    } else {
        let mut as_owner = Command::new("setpriv");
        as_owner.arg(format!("--reuid={}", owner.trim())).args(["--clear-groups", "--"]).arg(pg_ctl);
        as_owner
    };
    restart.arg("-D").arg(&data).arg("-l").arg(home.join("log")).args(["-m", "immediate", "-w", "-t", "60", "restart"]);
    // Its daemon would keep our pipes open.
    restart.current_dir("/").stdin(std::process::Stdio::null());
    restart.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = restart.status().await?;
    if status.success() { Ok(()) } else { fault(format!("pg_ctl restart: {status}")) }
}

async fn remove(database: Option<Database>) -> Result {
    match database {
        Some(database) => database.remove().await,
        None => Ok(()),
    }
}
