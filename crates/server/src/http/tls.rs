//! Certificates: from PEM to what a listener serves, and a new pair without a new start.
//!
//! Never: text of a certificate or key in an error.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
