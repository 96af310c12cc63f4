//! The guard of outgoing connections: a name is resolved once, every address must pass, and a checked address is dialled.
//!
//! Never: a connection to an address that was not checked, TLS without a check of chain and name, or anything without TLS that
//! `outbound.allow` does not hold.

use std::net::SocketAddr;

use grantd_domain::destination::{OutboundAllow, Target};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Failed, Outbound};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// A connection, with or without TLS.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to the target. How long that may take is the caller's to bound.
pub async fn connect(
    outbound: &Outbound,
    allow: &OutboundAllow,
    target: &Target,
) -> Result<Box<dyn Connection>, Failed> {
    if !target.is_https() && !allow.holds(target) {
        return Err(Failed::NotPublic);
    }
    let addresses = resolve(outbound, target).await?;
    if addresses.iter().any(|address| !allow.permits(target, address.ip())) {
        return Err(Failed::NotPublic);
    }
    let tls = if target.is_https() { Some((outbound.tls()?, server_name(target)?)) } else { None };
    let stream = dial(&addresses).await?;
    let Some((config, name)) = tls else { return Ok(Box::new(stream)) };
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|_| Failed::Tls)?;
    Ok(Box::new(stream))
}

async fn resolve(outbound: &Outbound, target: &Target) -> Result<Vec<SocketAddr>, Failed> {
    if let Some(address) = target.address() {
        return Ok(vec![SocketAddr::new(address, target.port())]);
    }
    let host = target.host();
    let addresses = outbound.names.resolve(&host, target.port()).await.map_err(|_| Failed::Name)?;
    if addresses.is_empty() { Err(Failed::Name) } else { Ok(addresses) }
}

fn server_name(target: &Target) -> Result<ServerName<'static>, Failed> {
    match target.address() {
        Some(address) => Ok(ServerName::IpAddress(address.into())),
        None => ServerName::try_from(target.host().into_owned()).map_err(|_| Failed::Tls),
    }
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Failed> {
    for address in addresses.iter().take(ADDRESSES_MAX) {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
    }
    Err(Failed::Connect)
}
