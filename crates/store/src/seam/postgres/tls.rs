//! TLS to the server: rustls on aws-lc-rs, and the certificates of a file or those the system trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls_improved::MakeRustlsConnect;

use crate::error::{Error, Result};

/// A connector that checks chain and name. `roots`: the only authorities that count; without it, those of the system.
pub(crate) fn connector(roots: Option<&Path>) -> Result<MakeRustlsConnect> {
    let wrong = |e: &dyn std::fmt::Display| Error::Schema(format!("TLS to PostgreSQL cannot be set up: {e}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(&e))?;
    let builder = match roots {
        Some(file) => builder.with_root_certificates(read_roots(file)?),
        None => builder.with_platform_verifier().map_err(|e| wrong(&e))?,
    };
    Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
}

fn read_roots(file: &Path) -> Result<rustls::RootCertStore> {
    let wrong = |why: &str| Error::Schema(format!("sslrootcert of database_url: {} {why}", file.display()));
    let pem = std::fs::read(file).map_err(|e| wrong(&format!("cannot be read: {e}")))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| wrong("is no PEM"))?;
        roots.add(certificate).map_err(|_| wrong("holds a certificate that cannot be used"))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate"));
    }
    Ok(roots)
}
