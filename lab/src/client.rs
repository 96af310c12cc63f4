//! One keep-alive HTTP/1.1 connection with as little between caller and socket as possible.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Error, Result};

/// Headers of an answer.
const HEADERS_MAX: usize = 64;
/// Bytes of an answer; more means that it is not one of those the lab asks for.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection that is used for one request after another.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    plain: Vec<u8>,
}

/// What came back.
pub struct Answer<'c> {
    /// The status.
    pub status: u16,
    /// The body, without its chunks.
    pub body: &'c [u8],
}

struct Head {
    len: usize,
    status: u16,
    body: Framing,
    closes: bool,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let failed = |e| Error::because(format_args!("cannot connect to {address}"), e);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024), plain: Vec::new() })
    }

    /// Sends a whole request and reads the whole answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.map_err(|e| Error::because("cannot send a request", e))?;
        self.buffer.clear();
        let head = loop {
            self.fill().await?;
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
        };
        if head.closes {
            return Err(Error(format!("the server closes the connection with its answer, status {}", head.status)));
        }
        match head.body {
            Framing::Length(len) => {
                let end = head.len + len;
                while self.buffer.len() < end {
                    self.fill().await?;
                }
                if self.buffer.len() > end {
                    return Err(Error("the server sent more than one answer".to_owned()));
                }
                Ok(Answer { status: head.status, body: &self.buffer[head.len..end] })
            }
            Framing::Chunked => {
                while !dechunk(&self.buffer[head.len..], &mut self.plain)? {
                    self.fill().await?;
                }
                Ok(Answer { status: head.status, body: &self.plain })
            }
        }
    }

    async fn fill(&mut self) -> Result {
        if self.buffer.len() > ANSWER_BYTES_MAX {
            return Err(Error(format!("an answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        self.buffer.reserve(8 * 1024);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Error("the server closed the connection before its answer was whole".to_owned())),
            Ok(_) => Ok(()),
            Err(e) => Err(Error::because("cannot read an answer", e)),
        }
    }
}

/// The head, once it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|e| Error::because("this is no HTTP answer", e))?;
    let httparse::Status::Complete(len) = parsed else { return Ok(None) };
    let status = answer.code.unwrap_or_default();
    let (mut body, mut closes) = (None, false);
    for header in answer.headers {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|e| Error::because("an answer's length is no number", e))?;
            body = Some(Framing::Length(length));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            body = Some(Framing::Chunked);
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    let body = match body {
        Some(body) => body,
        None if status == 204 => Framing::Length(0),
        None => return Err(Error(format!("an answer with status {status} does not say how long it is"))),
    };
    Ok(Some(Head { len, status, body, closes }))
}

/// Takes the chunks of a body together; `false` while some are missing.
fn dechunk(mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool> {
    plain.clear();
    loop {
        match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(_) => return Err(Error("a chunk of an answer has no size".to_owned())),
            Ok(httparse::Status::Complete((start, size))) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let Some(end) = start.checked_add(size).filter(|end| bytes.len() >= end + 2) else { return Ok(false) };
                plain.extend_from_slice(&bytes[start..end]);
                bytes = &bytes[end + 2..];
                if size == 0 {
                    return Ok(true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_or_not_there_yet() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for end in 0..text.len() - 5 {
            assert!(parse_head(&text[..end]).unwrap().is_none(), "{end}");
        }
        let head = parse_head(text).unwrap().unwrap();
        assert!(matches!(head.body, Framing::Length(5)));
        assert_eq!((head.status, head.len, head.closes), (200, text.len() - 5, false));
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
        assert!(parse_head(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_are_taken_together_wherever_they_are_cut() {
        let whole = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
        let mut plain = Vec::new();
        for end in 0..whole.len() {
            assert!(!dechunk(&whole[..end], &mut plain).unwrap(), "{end}");
        }
        assert!(dechunk(whole, &mut plain).unwrap());
        assert_eq!(plain, b"hello world");
        assert!(dechunk(b"x\r\n", &mut plain).is_err());
    }
}
