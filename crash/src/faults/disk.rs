//! A disk that is full, one that fails, and a database file that is damaged.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Result, Stage, Told, fault, finish, stop, under_load};
use crate::install::Start;

/// Room of the small disk; an empty install takes less than one.
const DISK_MEGABYTES: u32 = 24;

/// Removes what a story left, its mount as well.
pub fn clear(directory: &Path) -> Result {
    if directory.exists() {
        // It fails where nothing is mounted, which is the rule.
        drop(Command::new("umount").arg(directory.join("data")).output());
        std::fs::remove_dir_all(directory)?;
    }
    Ok(())
}

/// A small file system fills up: nothing is answered that is not stored, reads go on, and so does everything once there is room.
pub async fn full(mut stage: Stage<'_>) -> Result<Told> {
    let data = stage.directory.join("data");
    std::fs::create_dir_all(&data)?;
    let size = format!("size={DISK_MEGABYTES}m,mode=0700");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&data).output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        return Ok(Told::NotHere("a small disk can be mounted by root only, where the kernel lets it".to_owned()));
    }
    let (scene, server) = stage.scene(&[]).await?;
    let ballast = data.join("ballast");
    let lists = (scene.install.path("/grants"), scene.install.token.clone());
    under_load(
        scene,
        server,
        async |_| {
            let mut file = File::create(&ballast)?;
            // Ends with the error that we are here for.
            while file.write_all(&[7; 4096]).is_ok() {}
            Ok(())
        },
        async |server| {
            let list = crate::client::managed(&lists.1, "GET", &lists.0, None);
            let answer = crate::client::Connection::open(server.address).await?.send(&list).await?;
            if answer.status != 200 {
                return fault(format!("a read while the disk is full: {}", answer.shown()));
            }
            Ok(std::fs::remove_file(&ballast)?)
        },
    )
    .await
}

/// Every write fails: no file may grow beyond its first page.
pub async fn errors(mut stage: Stage<'_>) -> Result<Told> {
    // The signal of that limit would end the process; a failing disk sends none.
    let (scene, server) = stage.scene(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).await?;
    under_load(
        scene,
        server,
        async |server| server.limit("--fsize=4096:unlimited").await,
        async |server| server.limit("--fsize=unlimited:unlimited").await,
    )
    .await
}

/// A database whose first page is gone is refused with words; with its page back it is served.
pub async fn damaged(mut stage: Stage<'_>) -> Result<Told> {
    let (mut scene, server) = stage.scene(&[]).await?;
    let load = scene.load(&server);
    crate::scene::until("the load", || scene.releases() > 20).await?;
    load.end().await;
    stop(server).await?;
    let path = scene.install.data_dir().join("grantd.db");
    let whole = std::fs::read(&path)?;
    let mut broken = whole.clone();
    broken[..4096].fill(0x5a);
    std::fs::write(&path, &broken)?;
    match scene.install.serve(None).await? {
        Start::Listening(_) => return fault("a damaged database is served"),
        Start::Ended(status) if status.code() == Some(1) => {}
        Start::Ended(status) => return fault(format!("a damaged database: {status}")),
    }
    let log = std::fs::read_to_string(scene.install.directory.join("server.log"))?;
    if !log.lines().any(|line| line.starts_with("error: ")) {
        return fault("a damaged database is refused without a word");
    }
    std::fs::write(&path, &whole)?;
    let server = scene.install.server().await?;
    finish(scene, server).await
}
