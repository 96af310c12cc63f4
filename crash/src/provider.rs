//! A provider on loopback. Of accounts it rotates strictly: a refresh token is good once, and only the newest one is good. It also knows who
//! users are, and whether a key of theirs is good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Result, epoch_seconds, locked, now};

/// What every secret here begins with, so that it can be looked for where it must not be.
pub const CANARY: &str = "canary-";
/// What it knows the app by.
pub const CLIENT_SECRET: &str = "canary-client-secret";
/// What the app is called there.
pub const CLIENT_ID: &str = "client-1";
/// Who signs in.
const USER: &str = "user-1";
/// Where a key is tried.
const KEY_PATH: &str = "/indexes?limit=1";
/// How long a token lives that nobody is to renew.
const LONG_S: u64 = 3_600;
/// How long one lives that is to be renewed.
pub const SHORT_S: u64 = 1;

/// What it does with the next refresh token that it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// What it should.
    Good,
    /// It fails, and nothing happened.
    Unavailable,
    /// The user has withdrawn the consent.
    Withdrawn,
    /// It takes the token, or has not got to that yet, and says nothing until the caller is gone.
    Silent { spends: bool },
}

/// A request it was sent.
#[derive(Clone)]
pub struct Seen {
    path: String,
    form: BTreeMap<String, String>,
    at: Instant,
}

impl Seen {
    fn is_renewal(&self) -> bool {
        self.path == "/token" && self.form.get("grant_type").is_some_and(|kind| kind == "refresh_token")
    }
}

#[derive(Default)]
struct State {
    issued: u64,
    /// The one refresh token that is good.
    good: Option<String>,
    play: Option<Play>,
    is_silent: bool,
    seen: Vec<Seen>,
    /// What whoever signs in was sent along.
    nonce: Option<String>,
    id_tokens: Vec<String>,
}

/// The provider; it ends with the program.
#[derive(Clone)]
pub struct Provider {
    pub port: u16,
    state: Arc<Mutex<State>>,
    /// Signs what it says of users.
    key: Arc<EcdsaKeyPair>,
}

impl Provider {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key for a provider")?;
        let provider = Self { port: listener.local_addr()?.port(), state: Arc::default(), key: Arc::new(key) };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A caller that dies in the middle is what this is about.
                let serving = serving.clone();
                tokio::spawn(async move { drop(serving.serve(stream).await) });
            }
        });
        Ok(provider)
    }

    /// The next renewal goes like this.
    pub fn plays(&self, play: Play) {
        let mut state = locked(&self.state);
        state.play = Some(play);
        if play == Play::Withdrawn {
            state.good = None;
        }
    }

    /// Whether it keeps a caller waiting for an answer that will not come.
    pub fn is_silent(&self) -> bool {
        locked(&self.state).is_silent
    }

    /// When refresh tokens were sent.
    pub fn renewals(&self) -> Vec<Instant> {
        locked(&self.state).seen.iter().filter(|seen| seen.is_renewal()).map(|seen| seen.at).collect()
    }

    /// Times a code was sent.
    pub fn codes(&self) -> usize {
        locked(&self.state).seen.iter().filter(|seen| seen.path == "/token" && !seen.is_renewal()).count()
    }

    /// Times a code of a sign-in was sent.
    pub fn sign_ins(&self) -> usize {
        self.calls("/id/token")
    }

    /// Times a key was tried.
    pub fn tries(&self) -> usize {
        self.calls(KEY_PATH)
    }

    fn calls(&self, path: &str) -> usize {
        locked(&self.state).seen.iter().filter(|seen| seen.path == path).count()
    }

    /// As `iss` of its tokens.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whoever signs in next was sent there with this.
    pub fn signs_in(&self, nonce: &str) {
        locked(&self.state).nonce = Some(nonce.to_owned());
    }

    /// Says who a user is.
    pub fn id_token(&self, nonce: Option<&str>) -> String {
        let now_s = epoch_seconds();
        let claims = json!({
            "iss": self.issuer(), "aud": CLIENT_ID, "sub": USER, "iat": now_s, "exp": now_s + LONG_S, "nonce": nonce,
        });
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a key signs");
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));
        locked(&self.state).id_tokens.push(token.clone());
        token
    }

    /// Every token that says who a user is.
    pub fn id_tokens(&self) -> Vec<String> {
        locked(&self.state).id_tokens.clone()
    }

    /// What is asked of it as an identity provider, and as the vendor of a key; none: it is something else.
    fn of_users(&self, path: &str) -> Option<String> {
        let issuer = self.issuer();
        Some(match path {
            "/.well-known/openid-configuration" => json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
                "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/id/token"),
            })
            .to_string(),
            "/jwks" => {
                let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
                let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
                let jwk = json!({
                    "kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": coordinate(x), "y": coordinate(y),
                });
                json!({"keys": [jwk]}).to_string()
            }
            "/id/token" => {
                let nonce = locked(&self.state).nonce.clone();
                let id_token = self.id_token(nonce.as_deref());
                json!({"access_token": "canary-of-a-sign-in", "token_type": "Bearer", "expires_in": 60, "id_token": id_token})
                    .to_string()
            }
            KEY_PATH => json!({"results": []}).to_string(),
            _ => return None,
        })
    }

    /// Tokens that it was told to end, and when.
    pub fn ended(&self) -> Vec<(String, Instant)> {
        let state = locked(&self.state);
        let ended = state.seen.iter().filter(|seen| seen.path == "/revoke");
        ended.map(|seen| (seen.form.get("token").cloned().unwrap_or_default(), seen.at)).collect()
    }

    /// The access token that it gave out last.
    pub fn newest_access(&self) -> String {
        format!("canary-access-{}", locked(&self.state).issued)
    }

    /// The refresh token that is good.
    pub fn good_refresh(&self) -> Option<String> {
        locked(&self.state).good.clone()
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        let (path, length) = loop {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
            let Some(end) = request.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&request[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
            });
            let length: usize = length.unwrap_or(0);
            if request.len() >= end + 4 + length {
                break (head.split(' ').nth(1).unwrap_or_default().to_owned(), length);
            }
        };
        let form = form_urlencoded::parse(&request[request.len() - length..]).into_owned().collect();
        let Some((status, body)) = self.answer(Seen { path, form, at: now() }) else {
            // Until the caller is gone.
            while stream.read_buf(&mut request).await? > 0 {}
            return Ok(());
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
        let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// None: it says nothing.
    fn answer(&self, seen: Seen) -> Option<(u16, String)> {
        if let Some(answer) = self.of_users(&seen.path) {
            locked(&self.state).seen.push(seen);
            return Some((200, answer));
        }
        let mut state = locked(&self.state);
        let is_renewal = seen.is_renewal();
        let (path, shown) = (seen.path.clone(), seen.form.get("refresh_token").cloned());
        state.seen.push(seen);
        Some(match path.as_str() {
            "/token" if is_renewal => {
                let play = state.play.take().unwrap_or(Play::Good);
                let is_good = shown.is_some() && shown == state.good;
                match play {
                    Play::Unavailable => (503, json!({"error": "temporarily_unavailable"}).to_string()),
                    Play::Silent { spends } => {
                        if spends && is_good {
                            state.issue(LONG_S);
                        }
                        state.is_silent = true;
                        return None;
                    }
                    Play::Good if is_good => (200, state.issue(LONG_S)),
                    Play::Good | Play::Withdrawn => (400, json!({"error": "invalid_grant"}).to_string()),
                }
            }
            "/token" => (200, state.issue(SHORT_S)),
            "/userinfo" => (200, json!({"sub": "user-1", "email": "someone@example.com"}).to_string()),
            "/revoke" => (200, String::new()),
            _ => (404, String::new()),
        })
    }
}

impl State {
    fn issue(&mut self, lifetime_s: u64) -> String {
        self.issued += 1;
        let (access, refresh) = (format!("canary-access-{}", self.issued), format!("canary-refresh-{}", self.issued));
        self.good = Some(refresh.clone());
        let pair =
            json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": lifetime_s});
        pair.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Provider { port: 0, state: Arc::default(), key: Arc::new(key) }
    }

    fn renew(provider: &Provider, token: &str) -> Option<u16> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        provider.answer(Seen { path: "/token".to_owned(), form, at: now() }).map(|(status, _)| status)
    }

    #[test]
    fn a_refresh_token_is_good_once() {
        let provider = provider();
        provider.answer(Seen { path: "/token".to_owned(), form: BTreeMap::new(), at: now() });
        assert_eq!(renew(&provider, "canary-refresh-1"), Some(200));
        assert_eq!(renew(&provider, "canary-refresh-1"), Some(400));
        assert_eq!(renew(&provider, "canary-refresh-2"), Some(200));
        assert_eq!((provider.newest_access(), provider.codes()), ("canary-access-3".to_owned(), 1));
    }

    #[test]
    fn silence_spends_it_or_not() {
        for (spends, then) in [(true, Some(400)), (false, Some(200))] {
            let provider = provider();
            provider.answer(Seen { path: "/token".to_owned(), form: BTreeMap::new(), at: now() });
            provider.plays(Play::Silent { spends });
            assert_eq!(renew(&provider, "canary-refresh-1"), None);
            assert!(provider.is_silent());
            assert_eq!(renew(&provider, "canary-refresh-1"), then);
        }
    }
}
