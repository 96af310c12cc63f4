//! HTTP/1.1 by hand, on one connection: a request's bytes are kept, so that the very same can be sent again to see it refused.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use grantd_wire::sign::{self, SigningKey, ToSign, canonical_target, hex, sha256};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer may take, the server's own deadline of 20 s included.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An answer that came in whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The body, or null where it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A text of the body's object, empty where there is none.
    pub fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_default().to_owned()
    }

    /// The code of a refusal.
    pub fn error(&self) -> String {
        self.text("error")
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        found.map(str::trim)
    }

    /// A page.
    pub fn page(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How it is told in a report: never its body, which may hold a credential.
    pub fn shown(&self) -> String {
        format!("{} {}", self.status, self.error())
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends a request and reads its answer. An answer that does not come in whole is an error.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        let exchange = async {
            self.stream.write_all(request).await?;
            self.answer().await
        };
        timeout(ANSWER_WAIT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn answer(&mut self) -> io::Result<Answer> {
        let head_len = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.read.drain(..head_len).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut answer = Answer { status, head, body: Vec::new() };
        match answer.header("content-length").map(str::parse::<usize>) {
            Some(Ok(len)) => answer.body = self.take(len).await?,
            Some(Err(_)) => return Err(io::ErrorKind::InvalidData.into()),
            None if answer.header("transfer-encoding") == Some("chunked") => answer.body = self.chunks().await?,
            None => {}
        }
        Ok(answer)
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_len = loop {
                if let Some(at) = find(&self.read, b"\r\n") {
                    break at;
                }
                self.more().await?;
            };
            let line = self.take(line_len + 2).await?;
            let size = String::from_utf8_lossy(&line[..line_len]).into_owned();
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < len {
            self.more().await?;
        }
        Ok(self.read.drain(..len).collect())
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.read.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An application's key.
pub struct ApiKey {
    text: String,
    signing: SigningKey,
}

impl ApiKey {
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), signing: SigningKey::derive(text) }
    }

    /// A signed request, as bytes. `run` goes into the context, so that its event can be found.
    pub fn request(&self, path: &str, body: &Value, nonce: [u8; 16], now_s: u64, run: &str) -> Vec<u8> {
        let body = body.to_string();
        let (timestamp, nonce) = (now_s.to_string(), hex(&nonce));
        let (hash, context) = (hex(&sha256(body.as_bytes())), format!("{{\"run_id\":\"{run}\"}}"));
        let target = canonical_target(path, None);
        let to_sign = ToSign {
            method: "POST",
            target: &target,
            timestamp: &timestamp,
            nonce: &nonce,
            content_sha256: &hash,
            context: &context,
            ..ToSign::default()
        };
        let signature = self.signing.sign(&to_sign.text());
        let headers = [
            (sign::HEADER_KEY, self.text.as_str()),
            (sign::HEADER_TIMESTAMP, &timestamp),
            (sign::HEADER_NONCE, &nonce),
            (sign::HEADER_CONTENT_SHA256, &hash),
            (sign::HEADER_SIGNATURE, &signature),
            (sign::HEADER_SIGNATURE_V2, &signature),
            (sign::HEADER_CONTEXT, &context),
        ];
        raw("POST", path, &headers, &body)
    }
}

/// A request of an operator.
pub fn managed(token: &str, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    let authorization = format!("Bearer {token}");
    raw(method, path, &[("authorization", &authorization)], &body.map(ToString::to_string).unwrap_or_default())
}

/// A request of a browser: with its cookie, and a form where it sends one.
pub fn page(method: &str, path: &str, cookie: Option<&str>, form: &str) -> Vec<u8> {
    let mut headers = vec![("accept", "text/html")];
    headers.extend(cookie.map(|cookie| ("cookie", cookie)));
    head_and_body(method, path, "application/x-www-form-urlencoded", &headers, form)
}

fn raw(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    head_and_body(method, path, "application/json", headers, body)
}

fn head_and_body(method: &str, path: &str, kind: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: grantd\r\ncontent-type: {kind}\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("content-length: ");
    text.push_str(&body.len().to_string());
    text.push_str("\r\n\r\n");
    text.push_str(body);
    text.into_bytes()
}
