//! The lab: one server on loopback, with TLS, that speaks as an entry of the catalogue says its provider does. Every host of the catalogue
//! leads here; the calls are the program's own.
//!
//! It is as strict as a real one: a call that is not what the entry says is answered as a provider would, and told in `wrong`. What it saw
//! of the entry's behaviours is in `seen`, so that a behaviour which nobody played is one that the test fails for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use grantd_domain::env::Clock as _;
use grantd_domain::provider::{Behaviour, Provider};
use grantd_server::outbound::{Names, Outbound, authorities};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::TestEnv;
use player::{Playing, Request, Said};
use words::parsed;
pub use words::{account_of, pinned_host};

mod player;
mod words;

/// Of every host of the catalogue, made by `tests/tls/make.sh`. Its key is public: for tests only.
const CERT: &str = include_str!("../../../tls/providers.pem");
const KEY: &str = include_str!("../../../tls/providers.key");

/// What it issued the app.
pub const CLIENT_ID: &str = "client 1:a";
pub const CLIENT_SECRET: &str = "canary/of the+client";
/// Where a URL has a part of the operator's.
pub const GIVEN: &str = "acme-lab";

/// What the answer to a code says of the life of its token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// So many seconds, in the way of the entry.
    Said(i64),
    /// Nothing, and there is a refresh token.
    Unsaid,
    /// Nothing, because it does not end, and there is no refresh token.
    Endless,
}

/// What happens to the next refresh in place of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// It fails for now, in the way of the entry.
    Fail,
    /// It is carried out, and its answer is lost.
    Lose,
    /// Nothing is carried out, and this is said instead: status, content type, body.
    Say(u16, &'static str, &'static str),
    /// Nothing is carried out, and of what is said a half comes.
    CutOff,
    /// Nothing is carried out, and nothing is said until the caller goes.
    Hang,
}

/// The server.
#[derive(Clone)]
pub struct Lab {
    playing: Arc<Mutex<Option<Playing>>>,
    env: Arc<TestEnv>,
    port: u16,
}

/// Everybody is here.
struct Here(u16);

impl Names for Here {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], self.0))]) }.boxed()
    }
}

impl Lab {
    pub async fn start(env: Arc<TestEnv>) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(CERT.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lab = Self { playing: Arc::default(), env, port: listener.local_addr().unwrap().port() };
        let shared = lab.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(acceptor.clone(), stream));
            }
        });
        lab
    }

    /// Ways out on which every name leads here. The guard and TLS are as ever.
    pub fn outbound(&self) -> Outbound {
        Outbound::new(Some(authorities(CERT.as_bytes()).unwrap())).named_by(Here(self.port))
    }

    /// From now on it is this provider, of whose users one consents next.
    pub fn plays(&self, facts: &Provider, redirect_uri: &str, life: Life) {
        let mut playing = self.playing.lock().unwrap();
        let next = Playing::new(facts, redirect_uri, life, playing.take());
        *playing = Some(next);
    }

    /// Forgets what was seen.
    pub fn ends(&self) {
        *self.playing.lock().unwrap() = None;
    }

    fn with<T>(&self, run: impl FnOnce(&mut Playing) -> T) -> T {
        let mut playing: MutexGuard<'_, _> = self.playing.lock().unwrap();
        run(playing.as_mut().unwrap())
    }

    /// What happens to the next refresh.
    pub fn act(&self, act: Act) {
        self.with(|playing| playing.acts.push_back(act));
    }

    /// A test saw it on its side.
    pub fn saw(&self, behaviour: Behaviour) {
        self.with(|playing| playing.seen.insert(behaviour));
    }

    pub fn seen(&self) -> BTreeSet<Behaviour> {
        self.with(|playing| playing.seen.clone())
    }

    pub fn wrong(&self) -> Vec<String> {
        self.with(|playing| playing.wrong.clone())
    }

    pub fn renewals(&self) -> usize {
        self.with(|playing| playing.renewals)
    }

    pub fn revocations(&self) -> usize {
        self.with(|playing| playing.revocations)
    }

    /// The access token that is good.
    pub fn access(&self) -> String {
        self.with(|playing| playing.family.access.last().cloned().unwrap_or_default())
    }

    /// Follows the link to consent, as a user who agrees; what the browser brings back.
    pub fn consent(&self, link: &str) -> Vec<(String, String)> {
        self.with(|playing| playing.consent(link))
    }

    async fn serve(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut bytes = Vec::new();
        let (head, at, length) = loop {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                break (head, end + 4, length);
            }
        };
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: method.to_owned(),
            url: format!("https://{}{path}", headers.get("host").cloned().unwrap_or_default()),
            query: parsed(query.as_bytes()),
            body: bytes[at..at + length].to_vec(),
            headers,
        };
        let now = self.env.now();
        let (reply, length) = match self.with(|playing| playing.answer(&request, now)) {
            Said::Whole(reply) => {
                let length = reply.body.len();
                (reply, length)
            }
            Said::Half(reply) => {
                let length = reply.body.len() * 2;
                (reply, length)
            }
            Said::Nothing => return,
            Said::Silence => {
                while stream.read(&mut [0; 64]).await.unwrap_or(0) > 0 {}
                return;
            }
        };
        let answer = format!(
            "HTTP/1.1 {} x\r\ncontent-type: {}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{}",
            reply.status, reply.kind, reply.body
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
