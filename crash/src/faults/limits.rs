//! Too few file descriptors, too little memory.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Result, Stage, Told, finish, is_released};
use crate::scene::{until, until_alive};

/// File descriptors of the server, once it runs: few more than it has open.
const DESCRIPTORS: u32 = 48;
/// Connections that say nothing and take them.
const IDLE: usize = 100;
const CONNECT_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
const MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// Callers without a key who send large bodies.
const STRANGERS: usize = 128;

/// Descriptors run out while strangers connect: who is connected is served on, and afterwards everybody is.
pub async fn descriptors(mut stage: Stage<'_>) -> Result<Told> {
    let (mut scene, server) = stage.scene(&[]).await?;
    let load = scene.load(&server);
    until("the load", || scene.releases() > 20).await?;
    // Behind its back: it makes sure at its start that its connections fit.
    server.limit(&format!("--nofile={DESCRIPTORS}:")).await?;
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        // The system takes some that the server cannot, and then lets us wait: as good.
        let connecting = tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(server.address)).await;
        let Ok(Ok(stream)) = connecting else { break };
        idle.push(stream);
    }
    let log = scene.install.directory.join("server.log");
    let is_told = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Cannot accept connections"));
    until("the server running out of descriptors", is_told).await?;
    let before = scene.releases();
    until("the load going on", || scene.releases() > before + 50).await?;
    drop(idle);
    server.limit("--nofile=1024:").await?;
    scene.until_token(&server, "recovery", is_released).await?;
    load.end().await;
    finish(scene, server).await
}

/// 256 MiB, load, and strangers with large bodies: it lives, or it refuses; it loses nothing.
pub async fn memory(mut stage: Stage<'_>) -> Result<Told> {
    let (wrapper, group) = match Group::make() {
        Some(group) => {
            let join = format!("echo $$ > {}; exec \"$0\" \"$@\"", group.0.join("cgroup.procs").display());
            (vec!["sh".to_owned(), "-c".to_owned(), join], Some(group))
        }
        None => {
            println!("memory: no control group can be made here; the address space is limited instead");
            // Threads and maps reserve addresses that they never fill.
            (vec!["prlimit".to_owned(), format!("--as={}", 8 * MEMORY_BYTES), format!("--data={MEMORY_BYTES}")], None)
        }
    };
    let words: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let (mut scene, mut server) = stage.scene(&words).await?;
    let load = scene.load(&server);
    let mut strangers = tokio::task::JoinSet::new();
    let address = server.address;
    for _ in 0..STRANGERS {
        strangers.spawn(async move {
            let head = "POST /sdk/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(head.as_bytes()).await?;
            // It may be answered, and closed, before the body is out.
            let _ = stream.write_all(&vec![b'x'; 60_000]).await;
            Ok::<_, std::io::Error>(stream)
        });
    }
    while let Some(ended) = strangers.join_next().await {
        ended??;
    }
    let before = scene.releases();
    until_alive("releases within the limit", &mut server, || scene.releases() > before + 300).await?;
    load.end().await;
    let told = finish(scene, server).await;
    drop(group);
    told
}

/// A control group with a bound on memory.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let roots = [
            ("/sys/fs/cgroup", "cgroup.controllers", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.limit_in_bytes"),
        ];
        roots.into_iter().filter(|(root, mark, _)| Path::new(root).join(mark).exists()).find_map(|(root, _, limit)| {
            let path = Path::new(root).join(format!("grantd-crash-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            let group = Self(path);
            // Read back: a file that is no control would take anything.
            std::fs::write(group.0.join(limit), MEMORY_BYTES.to_string()).ok()?;
            let read = std::fs::read_to_string(group.0.join(limit)).ok()?;
            let has_procs = group.0.join("cgroup.procs").exists();
            (read.trim() == MEMORY_BYTES.to_string() && has_procs).then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Only empty ones go.
        drop(std::fs::remove_dir(&self.0));
    }
}
