//! A listener with a certificate that looks at what a client agrees to speak, and at its first bytes.

use std::io::Read as _;
use std::net::TcpListener;

use grantd_server::http::tls_config;
use rustls::{ServerConnection, StreamOwned};
use tokio::task::JoinHandle;

use crate::vault::{CERTIFICATE, CERTIFICATE_KEY};

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What one client spoke.
#[derive(PartialEq, Eq, Debug)]
pub struct Seen {
    pub agreed: String,
    pub is_preface: bool,
}

/// Offers these to the first client that comes, reads what it begins with, and hangs up.
pub fn listener(offered: &[&str]) -> (String, JoinHandle<Seen>) {
    let mut config = (*tls_config(CERTIFICATE.as_bytes(), CERTIFICATE_KEY.as_bytes()).unwrap()).clone();
    config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let seen = tokio::task::spawn_blocking(move || {
        let connection = ServerConnection::new(config.into()).unwrap();
        let mut stream = StreamOwned::new(connection, listener.accept().unwrap().0);
        let mut first = [0; PREFACE.len()];
        stream.read_exact(&mut first).unwrap();
        let agreed = stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        Seen { agreed: agreed.unwrap_or_default(), is_preface: first == PREFACE }
    });
    (base_url, seen)
}
