//! Calls out: every connection this process opens to a vendor goes through [`guard`].

pub mod client;
pub mod discovery;
pub mod guard;
pub mod jwks;
pub mod oauth;
pub mod probe;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Why a call did not come to an answer. Fixed texts: nothing of the URL, nothing of an address, nothing of the credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failed {
    /// The address guard refused an address the name leads to.
    #[error("the host does not lead to a public address, and outbound.allow does not name it")]
    NotPublic,
    #[error("the host's name cannot be resolved")]
    Name,
    #[error("the host cannot be connected to")]
    Connect,
    #[error("the host's certificate is not trusted, or TLS with it failed")]
    Tls,
    #[error("this machine trusts no authority: install its CA certificates, or set outbound.ca_file")]
    NoRoots,
    #[error("the host did not answer in time")]
    TimedOut,
    #[error("the host broke off, or its answer is no HTTP")]
    Broken,
}

/// Who says which addresses a name leads to. What is said is held against the address guard, and TLS is for the name, whoever says it.
pub trait Names: Send + Sync {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver, which the program always takes. Tests put every provider of the catalogue on loopback.
struct System;

impl Names for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    }
}

/// What calls out share: which authorities are trusted, and who knows names.
pub struct Outbound {
    roots: Option<RootCertStore>,
    names: Box<dyn Names>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Outbound {
    /// `roots`: the only authorities that count; without them, those of the system.
    pub fn new(roots: Option<RootCertStore>) -> Self {
        Self { roots, names: Box::new(System), tls: OnceLock::new() }
    }

    /// With names from somebody else.
    #[must_use]
    pub fn named_by(self, names: impl Names + 'static) -> Self {
        Self { names: Box::new(names), ..self }
    }

    /// Made at the first call, so that a machine without authorities serves everything that needs none.
    fn tls(&self) -> Result<Arc<ClientConfig>, Failed> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| Failed::NoRoots)?;
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.with_platform_verifier().map_err(|_| Failed::NoRoots)?,
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

/// Why a text holds no authorities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("is no PEM")]
    Pem,
    #[error("holds a certificate that cannot be used")]
    Certificate,
    #[error("holds no certificate")]
    Empty,
}

/// Reads PEM certificates as the only authorities that are trusted.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| AuthoritiesError::Pem)?;
        roots.add(certificate).map_err(|_| AuthoritiesError::Certificate)?;
    }
    if roots.is_empty() { Err(AuthoritiesError::Empty) } else { Ok(roots) }
}
