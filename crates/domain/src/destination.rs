//! Where a credential may go: rules of allowed hosts, and the URL they are matched against.
//!
//! Never: a URL is matched, shown, audited or dialled in another form than the one [`Target::parse`] made of it. A rule never
//! matches a host that merely begins or ends like its own. [`Blocked`] never carries anything of the URL or of an address.
//!
//! The WHATWG parser repairs what it is given: it drops tabs and line ends, turns backslashes into slashes, skips missing or
//! surplus slashes, decodes hosts, resolves dot segments (`%2e` too) and forgets default ports. Clients do not all do the same, so
//! what is judged here could differ from what they send. Everything it would repair is therefore looked for in the text as
//! it came, and refused: in the authority always, in the path where a rule has a prefix.

mod address;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use grantd_wire::limits::{DESTINATION_RULE_CHARS_MAX, DESTINATION_RULES_MAX, URL_CHARS_MAX};
use grantd_wire::{Code, Error};
use url::{Host, Url};

pub use address::{OutboundAllow, OutboundError, is_metadata, is_public};

/// Why a rule was refused when written, and what to write instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    #[error("is empty: write a host such as `api.example.com`")]
    Empty,
    #[error("has more than {DESTINATION_RULE_CHARS_MAX} characters: write a shorter path, or the host alone")]
    TooLong,
    #[error("has a scheme: leave out `https://`, it is always https")]
    Scheme,
    #[error("contains a space or control character: write one rule per entry, as `host`, `host:port` or `host/path`")]
    Space,
    #[error("contains a backslash: write the path with `/`")]
    Backslash,
    #[error("contains `?` or `#`: write the host and, if needed, a path; queries cannot be restricted")]
    Query,
    #[error("contains user info (`@`): write the host alone")]
    UserInfo,
    #[error("has no host before the port or path: write `host`, `host:port` or `host/path`")]
    NoHost,
    #[error("has a port that is no number from 1 to 65535 without leading zeros: write for example `host:8443`")]
    Port,
    #[error("is no host name: write lower-case labels with dots, such as `api.example.com`")]
    Host,
    #[error("is an IPv6 address without brackets: write for example `[2001:db8::1]:8443`")]
    Brackets,
    #[error(
        "is an address in an unusual form: write IPv4 as four decimal numbers, IPv6 in its shortest form in brackets"
    )]
    OddAddress,
    #[error("looks like an address range: write each address as a rule of its own")]
    Range,
    #[error("is a bare `*`: write the hosts, such as `*.example.com`")]
    Everything,
    #[error("has `*` elsewhere than as its first label: write `*.example.com`, which stands for all its subdomains")]
    Wildcard,
    #[error("has `*.` before an address: write each address as a rule of its own")]
    WildcardAddress,
    #[error(
        "has `*.` before a public suffix, under which anybody can have a host: write a longer name, such as `*.example.com`"
    )]
    PublicSuffix,
    #[error(
        "has a path with characters that URLs percent-encode: write the path as it appears in the URL, such as `/v1/a%20b`"
    )]
    Path,
    #[error("has a path with `.` or `..` segments, `%2e`, `%2f` or `%5c`: write the path without them")]
    DotSegment,
}

/// Which entry of a list was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{0} rules are too many: a secret has at most {DESTINATION_RULES_MAX}")]
    TooMany(usize),
    #[error("rule {index} {error}")]
    Rule { index: usize, error: RuleError },
}

impl From<RulesError> for Error {
    fn from(refused: RulesError) -> Self {
        match refused {
            RulesError::TooMany(_) => Self::impossible("allowed_hosts", &refused.to_string()),
            RulesError::Rule { index, error } => {
                Self::impossible(&format!("allowed_hosts[{index}]"), &error.to_string())
            }
        }
    }
}

/// Why a credential may not go to a URL. Fixed texts: nothing of the URL, nothing of an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Blocked {
    #[error("The URL has more than {URL_CHARS_MAX} characters.")]
    TooLong,
    #[error("The URL contains a control character, or a space at its end.")]
    ControlCharacter,
    #[error("The URL contains a backslash.")]
    Backslash,
    #[error("The URL has a fragment: remove `#` and what follows.")]
    Fragment,
    #[error("The URL is not absolute: write https://host/path.")]
    NotAbsolute,
    #[error("The URL's scheme is not https.")]
    Scheme,
    #[error("The URL has no host.")]
    EmptyHost,
    #[error("The URL has user info (`@`): remove it, the credential is injected.")]
    UserInfo,
    #[error("The URL's host or port is malformed.")]
    Host,
    #[error("Plain http is refused: use https, or list this very host and port in the server's outbound.allow.")]
    PlainHttp,
    #[error("The URL is on none of the credential's allowed hosts.")]
    NoRule,
    #[error(
        "The URL does not lead to a public address: list it in the server's outbound.allow if it shall be reached."
    )]
    NotPublic,
}

impl Blocked {
    /// Stable text for audit events and `details.reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::ControlCharacter => "control_character",
            Self::Backslash => "backslash",
            Self::Fragment => "fragment",
            Self::NotAbsolute => "not_absolute",
            Self::Scheme => "scheme",
            Self::EmptyHost => "empty_host",
            Self::UserInfo => "user_info",
            Self::Host => "host",
            Self::PlainHttp => "plain_http",
            Self::NoRule => "no_rule",
            Self::NotPublic => "not_public",
        }
    }
}

impl From<Blocked> for Error {
    fn from(blocked: Blocked) -> Self {
        let error = Self::new(Code::BlockedDestination).detail("reason", blocked.as_str());
        match blocked {
            // The code's own message names the command that sets the hosts.
            Blocked::NoRule => error,
            _ => error.message(blocked.to_string()),
        }
    }
}

/// One allowed destination: `[*.]host[:port][/prefix]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    host: RuleHost,
    /// Absent: only the scheme's default.
    port: Option<u16>,
    prefix: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum RuleHost {
    Exact(Host<String>),
    /// One or more labels before this name.
    Below(String),
}

impl Rule {
    /// Reads a rule as an operator writes it. What comes out is normalised: lower-case A-labels, no trailing dot.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text.chars().count() > DESTINATION_RULE_CHARS_MAX {
            return Err(RuleError::TooLong);
        }
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        if text.contains("://") {
            return Err(RuleError::Scheme);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(RuleError::Space);
        }
        if text.contains('\\') {
            return Err(RuleError::Backslash);
        }
        if text.contains(['?', '#']) {
            return Err(RuleError::Query);
        }
        let (authority, prefix) = text.split_at(text.find('/').unwrap_or(text.len()));
        if authority.contains('@') {
            return Err(RuleError::UserInfo);
        }
        let (host, port) = split_port(authority).map_err(|wrong| match wrong {
            SplitError::Brackets => RuleError::Brackets,
            SplitError::Port => RuleError::Port,
        })?;
        let host = RuleHost::parse(host)?;
        let is_address = matches!(host, RuleHost::Exact(Host::Ipv4(_) | Host::Ipv6(_)));
        if is_address && prefix.strip_prefix('/').is_some_and(|bits| bits.len() <= 3 && bits.parse::<u8>().is_ok()) {
            return Err(RuleError::Range);
        }
        Ok(Self { host, port, prefix: parse_prefix(prefix)? })
    }

    /// Whether the target is this rule's host, port and path.
    pub fn matches(&self, target: &Target) -> bool {
        self.host.matches(&target.host)
            && target.port == self.port.unwrap_or(if target.is_https() { 443 } else { 80 })
            && self.prefix.as_deref().is_none_or(|prefix| target.is_below(prefix))
    }
}

impl RuleHost {
    fn parse(text: &str) -> Result<Self, RuleError> {
        if text.is_empty() || text == "." {
            return Err(RuleError::NoHost);
        }
        if text == "*" || text == "*." {
            return Err(RuleError::Everything);
        }
        let (text, below) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        if text.contains('*') {
            return Err(RuleError::Wildcard);
        }
        let host = parse_host(text).ok_or(RuleError::Host)?;
        match host {
            Host::Domain(name) if below && is_public_suffix(&name) => Err(RuleError::PublicSuffix),
            Host::Domain(name) if below => Ok(Self::Below(name)),
            Host::Domain(_) => Ok(Self::Exact(host)),
            _ if below => Err(RuleError::WildcardAddress),
            _ if host.to_string() != text => Err(RuleError::OddAddress),
            _ => Ok(Self::Exact(host)),
        }
    }

    fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(name), Host::Domain(host)) => {
                // Hosts have no empty label, so what stands before the dot is one or more whole labels.
                host.strip_suffix(name.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
            }
            (Self::Below(_), _) => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            RuleHost::Exact(host) => write!(f, "{host}")?,
            RuleHost::Below(name) => write!(f, "*.{name}")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.prefix.as_deref().unwrap_or_default())
    }
}

/// The rules of one secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Reads a bounded list; a refused one is named by its index.
    pub fn parse_all(texts: &[String]) -> Result<Self, RulesError> {
        if texts.len() > DESTINATION_RULES_MAX {
            return Err(RulesError::TooMany(texts.len()));
        }
        let parse =
            |(index, text): (usize, &String)| Rule::parse(text).map_err(|error| RulesError::Rule { index, error });
        texts.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// As they are stored and shown.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// A URL, parsed once. No `Display`; `Debug` leaves the query out.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// Without a trailing dot.
    host: Host<String>,
    port: u16,
    /// True when nothing in the path as it came could be resolved or decoded to another path.
    is_plain: bool,
}

impl Target {
    /// Reads the URL a caller names. What a parser would have to repair is refused.
    pub fn parse(raw: &str) -> Result<Self, Blocked> {
        if raw.len() > URL_CHARS_MAX && raw.chars().count() > URL_CHARS_MAX {
            return Err(Blocked::TooLong);
        }
        if raw.chars().any(char::is_control) || raw.starts_with(' ') || raw.ends_with(' ') {
            return Err(Blocked::ControlCharacter);
        }
        if raw.contains('\\') {
            return Err(Blocked::Backslash);
        }
        if raw.contains('#') {
            return Err(Blocked::Fragment);
        }
        let (scheme, rest) = raw.split_once("://").ok_or(Blocked::NotAbsolute)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(Blocked::Scheme);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Blocked::UserInfo);
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(Blocked::EmptyHost);
        }
        if authority.contains(['%', ' ']) {
            return Err(Blocked::Host);
        }
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);

        let mut url = Url::parse(raw).map_err(|_| Blocked::Host)?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(Blocked::UserInfo);
        }
        let host = url.host().map(|host| host.to_owned()).ok_or(Blocked::EmptyHost)?;
        let host = normalise(host).ok_or(Blocked::Host)?;
        url.set_host(Some(&host.to_string())).map_err(|_| Blocked::Host)?;
        let port = url.port_or_known_default().ok_or(Blocked::Scheme)?;
        Ok(Self { url, host, port, is_plain: !has_tricks(path) })
    }

    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Lower-case A-labels without a trailing dot, or an address (IPv6 in brackets).
    pub fn host(&self) -> Cow<'_, str> {
        match &self.host {
            Host::Domain(name) => Cow::Borrowed(name),
            address => Cow::Owned(address.to_string()),
        }
    }

    /// The address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        }
    }

    /// The port written, or the scheme's default.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As parsed: dot segments resolved, percent-encoded.
    pub fn path(&self) -> &str {
        self.url.path()
    }

    /// Decoded names of the query's parameters, in their order. Their values are secret.
    pub fn query_names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.url.query_pairs().map(|(name, _)| name)
    }

    /// The whole URL, to dial. Holds the query: not for logs, events or answers.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    fn is_below(&self, prefix: &str) -> bool {
        self.is_plain
            && self
                .path()
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
    }

    /// Names that are the own machine everywhere (RFC 6761), whatever a resolver says.
    fn is_localhost(&self) -> bool {
        matches!(&self.host, Host::Domain(name) if name == "localhost" || name.ends_with(".localhost"))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}://{}:{}{})", self.url.scheme(), self.host, self.port, self.path())
    }
}

/// Whether a credential may go to the target.
///
/// `any_host` lifts the rules, never https or the address guard. Names are not resolved here: whoever dials asks
/// [`OutboundAllow::permits`] about each resolved address.
pub fn allow(target: &Target, rules: &[Rule], any_host: bool, outbound: &OutboundAllow) -> Result<(), Blocked> {
    if !target.is_https() && !outbound.holds(target) {
        return Err(Blocked::PlainHttp);
    }
    if !any_host && !rules.iter().any(|rule| rule.matches(target)) {
        return Err(Blocked::NoRule);
    }
    let address = match target.address() {
        None if target.is_localhost() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        address => address,
    };
    match address {
        Some(address) if !outbound.permits(target, address) => Err(Blocked::NotPublic),
        _ => Ok(()),
    }
}

enum SplitError {
    Brackets,
    Port,
}

/// `host[:port]`; IPv6 in brackets.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), SplitError> {
    let host_len = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']').ok_or(SplitError::Brackets)? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_len);
    if port.is_empty() {
        return Ok((host, None));
    }
    let port = port.strip_prefix(':').ok_or(SplitError::Port)?;
    if port.contains(':') {
        return Err(SplitError::Brackets);
    }
    match port.parse::<u16>() {
        Ok(number) if number > 0 && number.to_string() == port => Ok((host, Some(number))),
        _ => Err(SplitError::Port),
    }
}

fn parse_host(text: &str) -> Option<Host<String>> {
    if text.contains('%') {
        return None;
    }
    normalise(Host::parse(text).ok()?)
}

/// Without one trailing dot; none if a label is empty.
fn normalise(host: Host<String>) -> Option<Host<String>> {
    let Host::Domain(mut name) = host else { return Some(host) };
    if name.ends_with('.') {
        name.pop();
    }
    if name.split('.').any(str::is_empty) { None } else { Some(Host::Domain(name)) }
}

/// Whether anybody can have a host under this name: it is a public suffix (ICANN's or a private one, such as `github.io`), or all
/// names directly under it are.
fn is_public_suffix(name: &str) -> bool {
    let is_suffix = |name: &str| psl::suffix_str(name) == Some(name);
    is_suffix(name) || is_suffix(&format!("x.{name}"))
}

fn parse_prefix(prefix: &str) -> Result<Option<String>, RuleError> {
    if prefix.is_empty() {
        return Ok(None);
    }
    if has_tricks(prefix) {
        return Err(RuleError::DotSegment);
    }
    // What the URL parser leaves as it is: a prefix compares with the parsed path byte by byte.
    let is_kept = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&c);
    let mut encoded = prefix.split('%').skip(1);
    let is_encoded = encoded.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|c| c.is_ascii_hexdigit()));
    if prefix.bytes().all(is_kept) && is_encoded { Ok(Some(prefix.to_owned())) } else { Err(RuleError::Path) }
}

/// Whether something on the way could make another path of this one: dot segments (also with parameters, `..;x`), or an encoded
/// dot, slash or backslash.
fn has_tricks(path: &str) -> bool {
    let is_encoded = |code: &[u8]| matches!(code, [b'%', b'2', b'e' | b'E' | b'f' | b'F'] | [b'%', b'5', b'c' | b'C']);
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.contains('\\') || path.as_bytes().windows(3).any(is_encoded) || path.split('/').any(is_dots)
}
