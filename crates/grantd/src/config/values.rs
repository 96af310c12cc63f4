//! What the settings' values may be. Each `parse` answers why not, in words that follow a colon.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use grantd_store::PostgresUrl;
use ipnet::IpNet;
use url::{Host, Url};

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

impl DatabaseUrl {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() && !path.starts_with("//") => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if rest.len() > 2 && rest.starts_with("//") => {
                PostgresUrl::parse(text).map(Self::Postgres)
            }
            _ => Err("write sqlite:PATH or postgres://user@host/database".to_owned()),
        }
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => fmt::Display::fmt(url, f),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a root key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    Env(String),
    File(PathBuf),
}

impl KeySource {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable_name(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("it names where the key is, and is not the key: write env:NAME or file:PATH".to_owned()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A network; a single address is one of its own size.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    let address = || IpAddr::from_str(text).map(IpNet::from).ok();
    IpNet::from_str(text).ok().or_else(address).ok_or_else(|| "write a CIDR such as 10.0.0.0/8".to_owned())
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json".to_owned()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A log filter, checked.
pub fn parse_log(text: &str) -> Result<String, String> {
    let why = || "write error, warn, info, debug or trace, or a filter such as warn,grantd=debug".to_owned();
    crate::telemetry::filter(text).map(|_| text.to_owned()).map_err(|_| why())
}

pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = named.as_deref().unwrap_or(text);
    address.parse().map_err(|_| "write an address and a port such as 127.0.0.1:8400 or [::1]:8400".to_owned())
}

/// Where a collector is; `/v1/traces` is added to its path.
pub fn parse_otlp_endpoint(text: &str) -> Result<Url, String> {
    if !cfg!(feature = "otlp") {
        return Err("this grantd was built without OTLP: build it with `--features otlp`, or leave this out".to_owned());
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let bare = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    url.filter(bare).ok_or_else(|| {
        "write a URL such as http://127.0.0.1:4318; what a collector wants beside it goes into OTEL_EXPORTER_OTLP_HEADERS"
            .to_owned()
    })
}

/// The URL clients use: https, or http on loopback; a path is kept without its last slash.
pub fn parse_public_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| "write a URL such as https://grantd.example.com".to_owned())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !bare || url.fragment().is_some() || !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("write https://HOST with nothing but a port and a path".to_owned());
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("it must be https, because keys and tokens travel there; http is for loopback only".to_owned());
    }
    Ok(url)
}

/// Whether the host of `url` is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A number within `min..=max`.
pub fn parse_number(text: &str, min: u32, max: u32) -> Result<u32, String> {
    text.parse().ok().filter(|n| (min..=max).contains(n)).ok_or_else(|| format!("write a number from {min} to {max}"))
}

pub fn parse_switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

/// Whole seconds within these bounds.
pub fn parse_seconds(text: &str, min: u32, max: u32) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|n| (min..=max).contains(n));
    seconds.map(|n| Duration::from_secs(n.into())).ok_or_else(|| format!("write seconds, from {min} to {max}"))
}
