//! Names and addresses that the configuration names, and no others.

use std::time::Duration;

use grantd_server::outbound::Outbound;
use grantd_server::outbound::discovery::sso_endpoints;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Findings;
use super::host::others_may_read;
use crate::boot::read_authorities;
use crate::config::Config;
use crate::config::sso::read_secret;

/// Who does not answer within this does not answer.
const WAIT: Duration = Duration::from_secs(5);
/// Entries of `outbound.allow` that are tried.
const ENTRIES_MAX: usize = 20;

pub async fn examine(config: &Config, findings: &mut Findings) {
    match &config.public_url {
        None => findings.skipped("public_url", "it is not set: nothing was called"),
        Some(url) => public_url(url.as_str().trim_end_matches('/'), findings).await,
    }
    if config.outbound_allow.is_empty() {
        findings.skipped("outbound", "outbound.allow is empty: no name was resolved and nobody was called");
    }
    for entry in config.outbound_allow.iter().take(ENTRIES_MAX) {
        outbound(entry, findings).await;
    }
    if let Some(left) = config.outbound_allow.len().checked_sub(ENTRIES_MAX).filter(|left| *left > 0) {
        findings.skipped("outbound", format!("{left} further entries of outbound.allow were not tried"));
    }
    sso(config, findings).await;
}

/// Reads the client secret, and what the issuer says of itself, as the server does.
async fn sso(config: &Config, findings: &mut Findings) {
    let Some(sso) = &config.sso else {
        return findings.skipped("sso", "sso.issuer is not set: nothing was called");
    };
    if let Some(file) = &sso.client_secret_file {
        match read_secret(file) {
            Ok(_) if others_may_read(file) => findings.warning(
                "sso",
                format!("{} can be read by others", file.display()),
                format!("Run `chmod 600 {}`, and give it to the user that runs grantd.", file.display()),
            ),
            Ok(_) => {}
            Err(why) => findings.failure(
                "sso",
                format!("sso.client_secret_file: {} {why}", file.display()),
                "Put the client secret that the issuer gave into that file, readable by the user that runs grantd alone.",
            ),
        }
    }
    let fix = if sso.is_required {
        "Until this is mended nobody signs in but by a link of `grantd operator login-link`. Look at sso.issuer, and at the network of this machine."
    } else {
        "Nobody signs in by it until this is mended; other ways to sign in work. Look at sso.issuer, and at the network of this machine."
    };
    let (roots, allow) = (config.outbound_ca_file.as_deref().map(read_authorities).transpose(), config.outbound(&[]));
    let (Ok(roots), Ok(allow)) = (roots, allow) else {
        return findings.failure("sso", "outbound.ca_file cannot be used: nothing was called", fix);
    };
    match sso_endpoints(&Outbound::new(roots), &allow, &sso.issuer).await {
        Ok(_) => findings.ok("sso", format!("{} answers, and can sign operators in", sso.issuer)),
        Err(error) => findings.warning("sso", error.message, fix),
    }
}

/// Resolves, connects, and speaks TLS, as a client would from here.
async fn public_url(url: &str, findings: &mut Findings) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(WAIT).build();
    let called = match client {
        Ok(client) => client.get(format!("{url}/healthz")).send().await,
        Err(e) => Err(e),
    };
    let fix = "Clients use this URL. Start the server, or look at name, certificate and reverse proxy; from another network it may work all the same.";
    match called {
        Ok(answer) if answer.status().is_success() => findings.ok("public_url", format!("{url} answers")),
        Ok(answer) => findings.warning("public_url", format!("{url}/healthz answers {}", answer.status()), fix),
        Err(e) => findings.warning("public_url", format!("{url} does not answer: {}", crate::cli::chain(&e)), fix),
    }
}

/// `host:port` is connected to; a bare name is resolved; a range is left alone.
async fn outbound(entry: &str, findings: &mut Findings) {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (entry, None),
    };
    let is_range = entry.contains('/') || (port.is_none() && entry.parse::<std::net::IpAddr>().is_ok());
    if is_range || host.starts_with("*.") {
        findings.skipped("outbound", format!("{entry} names many: nothing was tried"));
        return;
    }
    let fix = "Look at the name and the network of this machine, or take the entry out of outbound.allow.";
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let resolved = match timeout(WAIT, lookup_host((name, port.unwrap_or(443)))).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(e)) => return findings.warning("outbound", format!("{name} does not resolve: {e}"), fix),
        Err(_) => return findings.warning("outbound", format!("{name} does not resolve within 5 s"), fix),
    };
    if port.is_none() {
        return findings.ok("outbound", format!("{name} resolves; it was not called"));
    }
    match timeout(WAIT, TcpStream::connect(&resolved[..])).await {
        Ok(Ok(_)) => findings.ok("outbound", format!("{entry} takes connections")),
        Ok(Err(e)) => findings.warning("outbound", format!("{entry} takes no connection: {e}"), fix),
        Err(_) => findings.warning("outbound", format!("{entry} does not answer within 5 s"), fix),
    }
}
