//! An identity provider on loopback that proves users by tokens, and plays what a test tells it to when it is asked for its keys.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::identity::{Algorithm, Endpoints, IdentityProvider, Preset, ProviderState};
use grantd_store::{apps, identity_providers};
use grantd_wire::ids::{AppId, IdentityProviderId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::merged;
use super::{Server, World};

/// What it does instead of telling its keys.
#[derive(Clone, Debug)]
pub enum Play {
    /// What stands before the length, and the body.
    Answer(String, String),
    /// It never answers.
    Hang,
    /// It answers byte by byte, and never ends.
    Drip,
}

/// How long a byte of [`Play::Drip`] takes.
const DRIP: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub struct Idp {
    pub port: u16,
    pub id: IdentityProviderId,
    key: Arc<Mutex<(String, Arc<EcdsaKeyPair>)>>,
    play: Arc<Mutex<Option<Play>>>,
    calls: Arc<Mutex<usize>>,
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn new_key() -> Arc<EcdsaKeyPair> {
    Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
}

impl Idp {
    /// One that the world's app is registered with, and a process that reaches it.
    pub async fn start(server: &Server) -> (Server, World, Self) {
        let idp = Self::listen(server).await;
        let allow = OutboundAllow::parse(&[format!("127.0.0.1:{}", idp.port)]).unwrap();
        let reaching = server.another("reaching", |settings| settings.outbound = allow).await;
        let world = reaching.world().await;
        idp.register(&reaching, &world, &format!("{}/jwks", idp.issuer())).await;
        (reaching, world, idp)
    }

    /// One that nobody is registered with.
    pub async fn listen(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Self {
            port: listener.local_addr().unwrap().port(),
            id: IdentityProviderId::from_uuid(new_uuid(&*server.env)),
            key: Arc::new(Mutex::new(("k1".to_owned(), new_key()))),
            play: Arc::default(),
            calls: Arc::default(),
        };
        let shared = idp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(stream));
            }
        });
        idp
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let play = self.play.lock().unwrap().clone();
        *self.calls.lock().unwrap() += 1;
        let (head, body) = match play {
            None => ("HTTP/1.1 200 OK".to_owned(), self.keys()),
            Some(Play::Answer(head, body)) => (head, body),
            Some(Play::Hang) => {
                // Until the caller has gone.
                let _ = stream.read(&mut [0]).await;
                return;
            }
            Some(Play::Drip) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(DRIP).await;
                }
                return;
            }
        };
        let answer = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// Registers the world's app with it; its keys are said to be there.
    pub async fn register(&self, server: &Server, world: &World, jwks_url: &str) {
        let preset = Preset::find("oidc").unwrap();
        let now = server.now();
        let app = AppId::parse(&world.app).unwrap();
        let idp = IdentityProvider {
            id: self.id,
            app_id: app,
            name: "Test".to_owned(),
            preset,
            issuer: self.issuer(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::Es256],
            claims: preset.claims(),
            endpoints: Endpoints { jwks_url: jwks_url.to_owned(), ..Endpoints::default() },
            client_id: None,
            client_secret: None,
            scopes: Vec::new(),
            state: ProviderState::Active,
            created_at: now,
            updated_at: now,
            is_deleted: false,
            version: 1,
        };
        let insert = move |tx: &mut grantd_store::Tx<'_>| {
            identity_providers::insert(tx, &idp)?;
            apps::raise_epoch(tx, app)
        };
        server.store().write(insert).await.unwrap();
    }

    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn keys(&self) -> String {
        let (kid, key) = self.key.lock().unwrap().clone();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(x), "y": b64(y)}]}).to_string()
    }

    /// From now on it signs with another key, and publishes that alone.
    pub fn rotate(&self, kid: &str) {
        *self.key.lock().unwrap() = (kid.to_owned(), new_key());
    }

    /// How often it was asked for its keys.
    pub fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    /// What it does from now on; `None`: as it should.
    pub fn plays(&self, play: impl Into<Option<Play>>) {
        *self.play.lock().unwrap() = play.into();
    }

    pub fn token(&self, server: &Server, subject: &str) -> String {
        self.token_with(server, subject, json!({}))
    }

    pub fn token_with(&self, server: &Server, subject: &str, more: Value) -> String {
        let (kid, key) = self.key.lock().unwrap().clone();
        let now = server.env.now().0 / 1000;
        let claims = json!({"iss": self.issuer(), "sub": subject, "aud": "app", "iat": now, "exp": now + 3600});
        let header = json!({"alg": "ES256", "kid": kid});
        let signed = format!("{}.{}", b64(header.to_string()), b64(merged(claims, more).to_string()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }
}
