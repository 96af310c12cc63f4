//! An OAuth provider on loopback that rotates strictly: a refresh token is good once, and only the newest one is good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Result, locked, now};

/// What every secret here begins with, so that it can be looked for where it must not be.
pub const CANARY: &str = "canary-";
/// What it knows the app by.
pub const CLIENT_SECRET: &str = "canary-client-secret";
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
}

/// The provider; it ends with the program.
#[derive(Clone)]
pub struct Provider {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Provider {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let provider = Self { port: listener.local_addr()?.port(), state: Arc::default() };
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
        Provider { port: 0, state: Arc::default() }
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
