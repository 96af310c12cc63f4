//! A wire to the server that breaks as it is told to: what a network, a proxy or a dying machine does to a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What the wire does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Passes,
    /// Nothing moves, and nobody hears why.
    Holds,
    /// Every connection ends, and new ones end at once.
    Down,
    /// The next thing sent to the server ends its connection and does not arrive.
    CutsQuestion,
    /// The next thing the server says ends its connection and does not arrive.
    CutsAnswer,
}

/// A wire that listens on loopback.
pub struct Wire {
    pub address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    accepted: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.mode.send_replace(Mode::Down);
    }
}

impl Wire {
    pub async fn to(server: SocketAddr) -> Self {
        Self::open(server, None).await
    }

    /// A wire whose near end speaks TLS, with a certificate for `localhost`.
    pub async fn with_tls(server: SocketAddr) -> Self {
        let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::open(server, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn open(server: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Passes));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (told, counter) = (Arc::clone(&mode), Arc::clone(&accepted));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(near, server, tls.clone(), Arc::clone(&told)));
            }
        });
        Self { address, mode, accepted, task }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Connections it was asked for.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, tls: Option<TlsAcceptor>, mode: Arc<watch::Sender<Mode>>) {
    if *mode.borrow() == Mode::Down {
        return;
    }
    let Ok(far) = TcpStream::connect(server).await else { return };
    match tls {
        None => between(near, far, mode).await,
        Some(tls) => {
            // Whoever wants TLS asks for it with eight bytes, and hears `S`.
            let mut wish = [0; 8];
            if near.read_exact(&mut wish).await.is_err() || near.write_all(b"S").await.is_err() {
                return;
            }
            if let Ok(near) = tls.accept(near).await {
                between(near, far, mode).await;
            }
        }
    }
}

async fn between(near: impl AsyncRead + AsyncWrite, far: TcpStream, mode: Arc<watch::Sender<Mode>>) {
    let (near_in, near_out) = tokio::io::split(near);
    let (far_in, far_out) = tokio::io::split(far);
    let mut ends = mode.subscribe();
    // Whatever ends first ends the connection.
    tokio::select! {
        () = pump(near_in, far_out, &mode, Mode::CutsQuestion) => {}
        () = pump(far_in, near_out, &mode, Mode::CutsAnswer) => {}
        _ = ends.wait_for(|mode| *mode == Mode::Down) => {}
    }
}

async fn pump(from: impl AsyncRead, to: impl AsyncWrite, mode: &watch::Sender<Mode>, cut: Mode) {
    let (mut from, mut to) = (std::pin::pin!(from), std::pin::pin!(to));
    let mut seen = mode.subscribe();
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if seen.wait_for(|mode| *mode != Mode::Holds).await.is_err() {
            return;
        }
        let is_cut = mode.send_if_modified(|mode| {
            let is_cut = *mode == cut;
            if is_cut {
                *mode = Mode::Passes;
            }
            is_cut
        });
        if is_cut || to.write_all(&bytes[..read]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
