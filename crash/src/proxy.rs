//! A wire between grantd and its database that can be cut and held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Result, fault};

/// What shall be cut: counted down, one connection at a time.
#[derive(Default)]
struct Cuts {
    /// Instead of passing on something that grantd says: the database never hears it.
    requests: AtomicU32,
    /// Once a COMMIT was passed on, instead of passing on what the database answers.
    commits: AtomicU32,
    /// Instead of passing on anything that the database answers: it was done, and grantd never hears of it.
    replies: AtomicU32,
}

/// What happens to everything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Passes,
    /// Nothing is read, nothing is closed: a peer that went silent.
    Held,
    /// Every connection is closed, and every new one.
    Down,
}

pub struct Proxy {
    pub port: u16,
    cuts: Arc<Cuts>,
    flow: watch::Sender<Flow>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on to the database at this address.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let cuts = Arc::new(Cuts::default());
        let (flow, flows) = watch::channel(Flow::Passes);
        let shared = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (cuts, flows) = (Arc::clone(&shared), flows.clone());
                tokio::spawn(async move {
                    if *flows.borrow() == Flow::Down {
                        return;
                    }
                    if let Ok(server) = TcpStream::connect(to).await {
                        pass(client, server, &cuts, flows).await;
                    }
                });
            }
        });
        Ok(Self { port, cuts, flow, task })
    }

    pub fn cut_requests(&self, connections: u32) {
        self.cuts.requests.store(connections, Ordering::SeqCst);
    }

    pub fn cut_commits(&self, connections: u32) {
        self.cuts.commits.store(connections, Ordering::SeqCst);
    }

    pub fn cut_replies(&self, connections: u32) {
        self.cuts.replies.store(connections, Ordering::SeqCst);
    }

    /// Whether everything was cut that was asked for.
    pub fn has_cut(&self) -> bool {
        [&self.cuts.requests, &self.cuts.commits, &self.cuts.replies]
            .iter()
            .all(|left| left.load(Ordering::SeqCst) == 0)
    }

    pub fn hold(&self) {
        self.flow.send_replace(Flow::Held);
    }

    pub fn take_down(&self) {
        self.flow.send_replace(Flow::Down);
    }

    pub fn pass(&self) {
        self.flow.send_replace(Flow::Passes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The port of a URL such as `postgres://user@127.0.0.1:5432/name`.
pub fn address_of(url: &str) -> Result<SocketAddr> {
    let host = url.rsplit_once('/').and_then(|(start, _)| start.rsplit_once('@')).map(|(_, host)| host);
    match host.map(str::parse) {
        Some(Ok(address)) => Ok(address),
        _ => fault("the URL of PostgreSQL must name an address and a port"),
    }
}

async fn pass(client: TcpStream, server: TcpStream, cuts: &Cuts, flows: watch::Receiver<Flow>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let committing = AtomicU32::new(0);
    // Whichever ends takes the other with it: both ends see the connection close.
    tokio::select! {
        () = requests(from_client, to_server, cuts, &committing, flows.clone()) => {}
        () = replies(from_server, to_client, cuts, &committing, flows) => {}
    }
}

/// Takes one, if any is left.
fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cuts: &Cuts,
    committing: &AtomicU32,
    mut flows: watch::Receiver<Flow>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Some(len) = read(&mut from, &mut bytes, &mut flows).await {
        if take(&cuts.requests) {
            return;
        }
        let is_commit = bytes[..len].windows(6).any(|window| window == b"COMMIT");
        if is_commit && take(&cuts.commits) {
            committing.store(1, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cuts: &Cuts,
    committing: &AtomicU32,
    mut flows: watch::Receiver<Flow>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Some(len) = read(&mut from, &mut bytes, &mut flows).await {
        if committing.load(Ordering::SeqCst) == 1 || take(&cuts.replies) {
            return;
        }
        if to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

/// The next bytes that may pass. `None`: the connection is over.
async fn read(from: &mut OwnedReadHalf, bytes: &mut [u8], flows: &mut watch::Receiver<Flow>) -> Option<usize> {
    let len = tokio::select! {
        read = from.read(bytes) => read.ok().filter(|len| *len > 0)?,
        _ = flows.wait_for(|flow| *flow == Flow::Down) => return None,
    };
    let may = flows.wait_for(|flow| *flow != Flow::Held).await.ok()?;
    (*may == Flow::Passes).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_database_is_read_from_its_url() {
        assert_eq!(address_of("postgres://postgres@127.0.0.1:5432/x").unwrap().port(), 5432);
        assert!(address_of("postgres://127.0.0.1/x").is_err());
    }

    #[tokio::test]
    async fn what_is_cut_never_arrives_and_what_is_held_arrives_later() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 16];
                    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                        stream.write_all(&bytes[..len]).await.unwrap();
                    }
                });
            }
        });
        let proxy = Proxy::start(to).await.unwrap();
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port));
        let echoed = |mut stream: TcpStream, text: &'static [u8]| async move {
            stream.write_all(text).await.unwrap();
            let mut bytes = [0; 16];
            let len = stream.read(&mut bytes).await.unwrap_or(0);
            (bytes[..len].to_vec(), stream)
        };
        let (said, stream) = echoed(connect().await.unwrap(), b"one").await;
        assert_eq!(said, b"one");
        proxy.cut_commits(1);
        let (said, stream) = echoed(stream, b"BEGIN").await;
        assert_eq!(said, b"BEGIN");
        let (said, _) = echoed(stream, b"COMMIT").await;
        assert!(said.is_empty() && proxy.has_cut());
        for cut in [Proxy::cut_requests, Proxy::cut_replies] {
            cut(&proxy, 1);
            let (said, _) = echoed(connect().await.unwrap(), b"two").await;
            assert!(said.is_empty() && proxy.has_cut());
        }
        let stream = connect().await.unwrap();
        proxy.hold();
        let held = tokio::spawn(echoed(stream, b"three"));
        tokio::task::yield_now().await;
        assert!(!held.is_finished());
        proxy.pass();
        assert_eq!(held.await.unwrap().0, b"three");
        proxy.take_down();
        let (said, _) = echoed(connect().await.unwrap(), b"four").await;
        assert!(said.is_empty());
    }
}
