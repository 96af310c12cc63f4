//! Certificates: from PEM to what a listener serves, and a new pair without a new start.
//!
//! Never: text of a certificate or key in an error.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use grantd_wire::TimeMs;

/// Why a certificate or key cannot be used. No text of either.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate file cannot be read as PEM")]
    CertificatePem(#[source] PemError),
    #[error("the certificate file holds no certificate: it needs the server's certificate, then its chain, as PEM")]
    NoCertificate,
    #[error("the key file cannot be read as PEM")]
    KeyPem(#[source] PemError),
    #[error("the key file holds no private key: it needs one as PEM (PKCS#8, PKCS#1 or SEC1), not encrypted")]
    NoKey,
    #[error("the private key does not belong to the first certificate of the certificate file")]
    KeyMismatch,
    #[error("the certificate and key cannot be used for TLS")]
    Unusable(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 with this certificate chain, offering HTTP/2 and HTTP/1.1.
pub fn tls_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(cert_pem).collect::<Result<_, _>>().map_err(TlsError::CertificatePem)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey,
        error => TlsError::KeyPem(error),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch,
            error => TlsError::Unusable(error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What new connections are served with. Connections that are there keep what they began with.
#[derive(Clone)]
pub struct TlsSlot(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsSlot {
    /// Serves with this.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Serves with this from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// When the first certificate of a chain (PEM) ends, in seconds since 1970. The TLS library does not tell, so the few fields before
/// it are stepped over here (RFC 5280, 4.1); nothing but a metric rests on it.
pub fn expires_at_s(pem: &[u8]) -> Option<i64> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let mut fields = der(der(&certificate)?.1)?.1;
    if fields.first() == Some(&VERSION) {
        fields = der(fields)?.2;
    }
    // Serial number, signature algorithm, issuer; then the validity: from, to.
    for _ in 0..3 {
        fields = der(fields)?.2;
    }
    let (tag, to, _) = der(der(der(fields)?.1)?.2)?;
    let to = std::str::from_utf8(to).ok()?;
    let digits = match tag {
        // Two digits of the year: 50 to 99 are of the last century.
        UTC_TIME if to.get(..2)? >= "50" => format!("19{to}"),
        UTC_TIME => format!("20{to}"),
        GENERALIZED_TIME => to.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| digits.get(from..to);
    let day = format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let time = format!("{day}T{}:{}:{}Z", part(8, 10)?, part(10, 12)?, part(12, 14)?);
    TimeMs::parse(&time).map(|time| time.0.div_euclid(1000))
}

/// The first element: its tag, its content, and what follows it.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
