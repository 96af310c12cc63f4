//! The URL of a PostgreSQL database, read strictly.
//!
//! Invariants: nothing in it is ignored; no error and no output shows its password; a server that is not on this machine is
//! reached with TLS whose certificate is verified, unless the URL says otherwise in so many words.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Servers of one URL.
pub const HOSTS_MAX: usize = 8;
const PORT_DEFAULT: u16 = 5432;

const PARAMETERS: &str =
    "host, port, user, password, dbname, sslmode, sslrootcert, target_session_attrs, application_name";
const EXAMPLE: &str = "write postgres://user:password@host:5432/database";

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// TLS, and the certificate must be valid for the host's name.
    VerifyFull,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// The directory of a Unix socket, and the port that is part of its name.
    Unix(PathBuf, u16),
}

impl Host {
    /// Whether what is sent there stays on this machine.
    pub fn is_here(&self) -> bool {
        match self {
            Self::Unix(..) => true,
            Self::Tcp(name, _) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        }
    }

    fn parse(name: &str, port: u16) -> Result<Self, String> {
        if name.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(name), port));
        }
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_address = name.parse::<IpAddr>().is_ok();
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if name.is_empty() || !(is_address || is_name) {
            return Err(format!("a host is no name, no address and no path of a socket directory: {EXAMPLE}"));
        }
        Ok(Self::Tcp(name.to_ascii_lowercase(), port))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(directory, port) => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}

/// The parsed URL of a PostgreSQL database. It holds a password: both `Display` and `Debug` leave that out.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
    pub(crate) application_name: String,
}

/// What the parts say, before they are looked at together.
#[derive(Default)]
struct Parts {
    hosts: Option<String>,
    ports: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<PathBuf>,
    application_name: Option<String>,
}

impl PostgresUrl {
    /// Parses `postgres://user:password@host:5432,host:5432/database?parameter=value`. The error is words that follow a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"));
        let Some((_, rest)) = rest else { return Err(EXAMPLE.to_owned()) };
        // Where a password holds such characters as they are, nobody can say where it ends: then nothing is read, or repeated.
        if rest.matches('@').count() > 1 || rest.contains(['#', ' ', '\n', '\r', '\t']) {
            return Err(
                "write @ : / ? # % and spaces of user and password percent-encoded, such as %40 for @".to_owned()
            );
        }
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, path) = place.split_once('/').map_or((place, None), |(a, p)| (a, Some(p)));
        if path.is_some_and(|path| path.contains(['@', '/'])) || query.is_some_and(|query| query.contains('@')) {
            return Err(
                "write @ : / ? # % and spaces of user and password percent-encoded, such as %40 for @".to_owned()
            );
        }
        let mut parts = Parts::default();
        let hosts = match authority.split_once('@') {
            Some((user, hosts)) => {
                parts.user_and_password(user)?;
                hosts
            }
            None => authority,
        };
        parts.hosts_and_ports(hosts)?;
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            parts.database = Some(decoded(path)?);
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parts.parameter(name, &decoded(value)?)?;
        }
        parts.together()
    }

    /// The database's name, where the URL says it.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// What the operator should know of it before the start.
    pub fn warning(&self) -> Option<String> {
        let far = self.hosts.iter().find(|host| !host.is_here())?;
        (self.ssl_mode == SslMode::Disable).then(|| {
            format!(
                "database_url has sslmode=disable and {far} is another machine: whoever is in between can read everything and undo revocations. Use sslmode=verify-full"
            )
        })
    }
}

impl Parts {
    fn user_and_password(&mut self, text: &str) -> Result<(), String> {
        let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
        if !user.is_empty() {
            self.user = Some(decoded(user)?);
        }
        self.password = password.map(decoded).transpose()?;
        Ok(())
    }

    /// `host:port,[::1]:port,%2Frun%2Fpostgresql`; a port may be left out.
    fn hosts_and_ports(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for one in text.split(',') {
            let after = one.rfind(']').map_or(0, |end| end + 1);
            let (host, port) = match one[after..].split_once(':') {
                Some((host, port)) => (&one[..after + host.len()], port),
                None => (one, ""),
            };
            hosts.push(decoded(host)?);
            ports.push(port);
        }
        self.hosts = Some(hosts.join(","));
        if ports.iter().any(|port| !port.is_empty()) {
            self.ports = Some(ports.join(","));
        }
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = || value.to_owned();
        match name {
            "host" => once(name, &mut self.hosts, value()),
            "port" => once(name, &mut self.ports, value()),
            "user" => once(name, &mut self.user, value()),
            "password" => once(name, &mut self.password, value()),
            "dbname" => once(name, &mut self.database, value()),
            "application_name" => once(name, &mut self.application_name, value()),
            "sslmode" => once(name, &mut self.ssl_mode, ssl_mode(&value())?),
            // The word of newer clients for the certificates the system trusts, which is what we take anyway.
            "sslrootcert" if value() == "system" => Ok(()),
            "sslrootcert" if value().is_empty() => {
                Err("sslrootcert is empty: name a file of PEM certificates".to_owned())
            }
            "sslrootcert" => once(name, &mut self.ssl_root_cert, PathBuf::from(value())),
            "target_session_attrs" if value() == "read-write" => Ok(()),
            "target_session_attrs" => {
                Err("target_session_attrs must be read-write, or left out: a standby cannot record what is released"
                    .to_owned())
            }
            // A name comes from whoever wrote the URL; only what looks like one is repeated.
            _ if !name.is_empty() && name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                Err(format!("it has a parameter `{name}` that grantd does not know; it knows {PARAMETERS}"))
            }
            _ => Err(format!("it has a parameter that grantd does not know; it knows {PARAMETERS}")),
        }
    }

    fn together(self) -> Result<PostgresUrl, String> {
        let hosts = hosts(self.hosts.as_deref(), self.ports.as_deref())?;
        if hosts.len() > HOSTS_MAX {
            return Err(format!("it names {} hosts, and {HOSTS_MAX} are allowed", hosts.len()));
        }
        let is_unix = |host: &Host| matches!(host, Host::Unix(..));
        if hosts.iter().any(is_unix) && hosts.len() > 1 {
            return Err("a Unix socket must be its only host".to_owned());
        }
        let ssl_mode = match self.ssl_mode {
            Some(SslMode::VerifyFull) if hosts.iter().any(is_unix) => {
                return Err("there is no TLS on a Unix socket: leave sslmode out".to_owned());
            }
            Some(mode) => mode,
            None if hosts.iter().all(Host::is_here) && self.ssl_root_cert.is_none() => SslMode::Disable,
            None => SslMode::VerifyFull,
        };
        if ssl_mode == SslMode::Disable && self.ssl_root_cert.is_some() {
            return Err("sslrootcert has no use with sslmode=disable: take out one of them".to_owned());
        }
        let application_name = self.application_name.unwrap_or_else(|| "grantd".to_owned());
        let texts = [&self.user, &self.password, &self.database, &Some(application_name.clone())];
        if texts.iter().any(|text| text.as_ref().is_some_and(|text| text.contains('\0'))) {
            return Err("a part of it holds a NUL character".to_owned());
        }
        Ok(PostgresUrl {
            hosts,
            user: self.user.filter(|user| !user.is_empty()),
            password: self.password,
            database: self.database.filter(|database| !database.is_empty()),
            ssl_mode,
            ssl_root_cert: self.ssl_root_cert,
            application_name,
        })
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("it says `{name}` twice")),
    }
}

fn ssl_mode(text: &str) -> Result<SslMode, String> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "verify-full" => Ok(SslMode::VerifyFull),
        "allow" | "prefer" | "require" | "verify-ca" => Err(format!(
            "sslmode={text} does not check whose server it is: use sslmode=verify-full, with sslrootcert=FILE where the certificate is signed by an authority of your own"
        )),
        _ => Err("sslmode must be verify-full or disable".to_owned()),
    }
}

fn hosts(hosts: Option<&str>, ports: Option<&str>) -> Result<Vec<Host>, String> {
    let names: Vec<&str> = hosts.unwrap_or("localhost").split(',').collect();
    let ports: Vec<&str> = ports.map_or_else(Vec::new, |ports| ports.split(',').collect());
    if ports.len() > 1 && ports.len() != names.len() {
        return Err(format!("it names {} hosts and {} ports", names.len(), ports.len()));
    }
    let port = |i: usize| match ports.get(i).or(ports.first().filter(|_| ports.len() == 1)) {
        None | Some(&"") => Ok(PORT_DEFAULT),
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| "a port is a number from 1 to 65535".to_owned())
        }
    };
    names.iter().enumerate().map(|(i, name)| Host::parse(name, port(i)?)).collect()
}

fn decoded(text: &str) -> Result<String, String> {
    let is_whole = text.split('%').skip(1).all(|after| {
        let digits = after.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    });
    let text = percent_decode_str(text).decode_utf8().ok().filter(|_| is_whole);
    text.map(std::borrow::Cow::into_owned)
        .ok_or_else(|| "a % in it is not followed by two hex digits of UTF-8: write %25".to_owned())
}

/// Without the password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        // A file's path is read by people.
        let path = |path: &Path| percent_encoded_path(&path.display().to_string());
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            f.write_str(&shown(user))?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.user.is_some() || self.password.is_some() {
            f.write_char('@')?;
        }
        for (i, host) in self.hosts.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match host {
                Host::Tcp(..) => write!(f, "{comma}{host}")?,
                Host::Unix(directory, port) => {
                    write!(f, "{comma}{}:{port}", encoded(&directory.display().to_string()))?;
                }
            }
        }
        write!(f, "/{}", self.database.as_deref().map(shown).unwrap_or_default())?;
        let mode = if self.ssl_mode == SslMode::Disable { "disable" } else { "verify-full" };
        write!(f, "?sslmode={mode}")?;
        if let Some(file) = &self.ssl_root_cert {
            write!(f, "&sslrootcert={}", path(file))?;
        }
        if self.application_name != "grantd" {
            write!(f, "&application_name={}", shown(&self.application_name))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn shown(text: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    utf8_percent_encode(text, PLAIN).to_string()
}

fn percent_encoded_path(text: &str) -> String {
    const PATH: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');
    utf8_percent_encode(text, PATH).to_string()
}

#[cfg(test)]
mod tests;
