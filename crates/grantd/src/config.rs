//! The effective configuration: flag, then `GRANTD_<NAME>` or `GRANTD_<NAME>_FILE`, then `grantd.toml`, then default.
//!
//! Invariants: nothing unknown is ignored, every error names where the value came from, and no error repeats a value that
//! may be a secret.

mod settings;
pub mod sso;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grantd_domain::destination::{OutboundAllow, OutboundError};
use grantd_wire::{Retention, limits};
use ipnet::IpNet;
use serde_json::Value;
use url::Url;

pub use settings::{Flags, InstallFlags, Kind, SETTINGS, Setting};
pub use sso::Sso;
pub use values::{DatabaseUrl, KeySource, LogFormat, is_loopback, parse_net};

use crate::env::Env;

/// Read if it is there and no other file is named.
const FILE_DEFAULT: &str = "grantd.toml";
/// Bytes of a configuration file, and of a file a `GRANTD_<NAME>_FILE` names.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Variables of the command line's client side; not settings, and not unknown.
const CLIENT_VARIABLES: &[&str] = &["GRANTD_SERVER", "GRANTD_PAT", "GRANTD_PAT_FILE", "GRANTD_APP_ID", "GRANTD_CONFIG"];
const REPLICAS_MAX: u32 = 10_000;
const POOL_SIZE_MAX: u32 = 1_000;
const CACHE_MB_MAX: u32 = 1_000_000;
const AUTH_FAILURES_PER_MINUTE_MAX: u32 = 1_000_000;
const CONNECTIONS_MAX: u32 = 1_000_000;
const DRAIN_DELAY_S_MAX: u32 = 300;
const DRAIN_TIMEOUT_S_MAX: u32 = 600;

/// Everything the server is told from outside.
#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// `None`: as many as the limit of open files leaves room for.
    pub connections_max: Option<u32>,
    /// From the signal to stop until nobody is accepted any more.
    pub drain_delay: Duration,
    /// From then on until calls under way are cut.
    pub drain_timeout: Duration,
    pub tls: Option<TlsFiles>,
    /// `None`: from the address that was bound.
    pub public_url: Option<Url>,
    pub data_dir: PathBuf,
    pub database_url: DatabaseUrl,
    pub root_key: KeySource,
    pub root_key_also: Vec<KeySource>,
    /// Checked; see [`Config::outbound`].
    pub outbound_allow: Vec<String>,
    /// `None`: what the system trusts.
    pub outbound_ca_file: Option<PathBuf>,
    pub trusted_proxies: Vec<IpNet>,
    pub replicas: u32,
    pub pool_size: u32,
    pub cache_mb: u32,
    pub auth_failures_per_minute: u32,
    pub retention: Retention,
    /// `None`: there is no single sign-on.
    pub sso: Option<Sso>,
    pub metrics_listen: Option<SocketAddr>,
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "a build without it refuses the setting"))]
    pub otlp_endpoint: Option<Url>,
    pub log_format: LogFormat,
    pub log: String,
    /// What the operator should know before the start.
    pub warnings: Vec<String>,
    /// In the order of [`SETTINGS`].
    pub shown: Vec<Shown>,
}

/// Certificate and key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// One line of `config show`: secrets are hidden already.
#[derive(Debug)]
pub struct Shown {
    pub name: &'static str,
    pub value: Value,
    pub source: Source,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Flag(String),
    Variable(String),
    /// A file that a variable names.
    VariableFile(String, PathBuf),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => f.write_str(name),
            Self::VariableFile(name, path) => write!(f, "{name} ({})", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{}:{line}: {what}", path.display())]
    Syntax { path: PathBuf, line: usize, what: String },
    #[error("{}: `{key}` is not a setting{}", path.display(), did_you_mean(*nearest))]
    UnknownKey { path: PathBuf, key: String, nearest: Option<&'static str> },
    #[error("{name} is not a setting: unset it{}", did_you_mean(nearest.as_deref()))]
    UnknownVariable { name: String, nearest: Option<String> },
    #[error("{name} and {name}_FILE are both set: unset one of them")]
    Both { name: String },
    #[error("`{name}` from {from}: {}{why}", quoted(value.as_deref()))]
    Invalid { name: &'static str, from: Source, value: Option<String>, why: String },
    #[error(
        "`grantd dev` is for this machine alone and does not listen on {listen} (from {from}); use a loopback address, \
         or `grantd serve`"
    )]
    BeyondLoopback { listen: SocketAddr, from: Source },
    #[error("{0}")]
    Together(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn quoted(value: Option<&str>) -> String {
    value.map(|value| format!("`{}` is not possible: ", crate::cli::escape(value))).unwrap_or_default()
}

/// What a configuration is made from.
pub struct Inputs<'a> {
    pub flags: &'a Flags,
    pub env: &'a Env,
    /// `--config`.
    pub file: Option<&'a Path>,
    pub stderr_is_terminal: bool,
    /// Of `dev`, which is for this machine alone.
    pub loopback_only: bool,
}

impl Config {
    /// Reads every layer and checks every value.
    pub fn load(inputs: &Inputs<'_>) -> Result<Self, ConfigError> {
        let path = |text: &str| Ok(PathBuf::from(text));
        let mut layers = Layers {
            flags: inputs.flags,
            env: inputs.env,
            file: read_settings_file(inputs.file, inputs.env)?,
            shown: Vec::new(),
        };
        let log_format = if inputs.stderr_is_terminal { LogFormat::Text } else { LogFormat::Json };

        let listen = layers.one("listen", "127.0.0.1:8400", values::parse_listen)?;
        if inputs.loopback_only && !listen.ip().is_loopback() {
            return Err(ConfigError::BeyondLoopback { listen, from: layers.last_source() });
        }
        let connections_max = layers.optional("connections_max", |t| values::parse_number(t, 1, CONNECTIONS_MAX))?;
        let drain_delay = layers.one("drain_delay_s", "0", |t| values::parse_seconds(t, 0, DRAIN_DELAY_S_MAX))?;
        let drain_timeout =
            layers.one("drain_timeout_s", "25", |t| values::parse_seconds(t, 1, DRAIN_TIMEOUT_S_MAX))?;
        let cert = layers.optional("tls_cert_file", path)?;
        let key = layers.optional("tls_key_file", path)?;
        let public_url = layers.optional("public_url", values::parse_public_url)?;
        let data_dir = layers.one("data_dir", "./.grantd", path)?;
        let beside = |name: &str| data_dir.join(name).display().to_string();
        let database_url =
            layers.one("database_url", &format!("sqlite:{}", beside("grantd.db")), DatabaseUrl::parse)?;
        let root_key = layers.one("root_key", &format!("file:{}", beside("root.key")), KeySource::parse)?;
        let root_key_also = layers.list("root_key_also", KeySource::parse)?;
        let outbound_allow = layers.list("outbound.allow", |t| Ok(t.to_owned()))?;
        OutboundAllow::parse(&outbound_allow).map_err(|error| layers.refuse_last(error.to_string()))?;
        let outbound_ca_file = layers.optional("outbound.ca_file", path)?;
        let trusted_proxies = layers.list("trusted_proxies", parse_net)?;
        let replicas = layers.one("replicas", "1", |t| values::parse_number(t, 1, REPLICAS_MAX))?;
        let pool_size = layers.one("pool_size", "10", |t| values::parse_number(t, 1, POOL_SIZE_MAX))?;
        let cache_mb = layers.one("cache_mb", "64", |t| values::parse_number(t, 0, CACHE_MB_MAX))?;
        let default = limits::AUTH_FAILURES_PER_MINUTE.to_string();
        let auth_failures_per_minute = layers
            .one("auth_failures_per_minute", &default, |t| values::parse_number(t, 1, AUTH_FAILURES_PER_MINUTE_MAX))?;
        let retention = layers.one("retention", &Retention::default().to_string(), Retention::parse)?;
        let sso_issuer = layers.optional("sso.issuer", sso::parse_issuer)?;
        let sso_client_id = layers.optional("sso.client_id", sso::parse_client_id)?;
        let sso_client_secret_file = layers.optional("sso.client_secret_file", path)?;
        let sso_name = layers.optional("sso.name", sso::parse_name)?;
        let sso_domains = layers.list("sso.email_domains", sso::parse_domain)?;
        let sso_required = layers.one("sso.required", "false", values::parse_switch)?;
        let metrics_listen = layers.optional("metrics_listen", values::parse_listen)?;
        let otlp_endpoint = layers.optional("otlp_endpoint", values::parse_otlp_endpoint)?;
        let log_format = layers.one("log_format", &log_format.to_string(), LogFormat::parse)?;
        let log = layers.one("log", "info", values::parse_log)?;
        let shown = layers.shown;
        assert_eq!(shown.len(), SETTINGS.len(), "every setting is read");

        let keys = || std::iter::once(&root_key).chain(&root_key_also);
        refuse_unknown_variables(inputs.env, keys())?;
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(together("tls_cert_file is set without tls_key_file: set both or none")),
            (None, Some(_)) => return Err(together("tls_key_file is set without tls_cert_file: set both or none")),
        };
        let sso = Sso::of(sso_issuer, sso_client_id, sso_client_secret_file, sso_name, sso_domains, sso_required)?;
        let mut warnings = check_listen(listen, tls.is_some(), public_url.is_some())?;
        if let Some(address) = metrics_listen.filter(|address| !address.ip().is_loopback()) {
            warnings.push(format!(
                "metrics_listen is {address}: whoever reaches it sees how much this grantd is used for."
            ));
        }
        if let DatabaseUrl::Postgres(url) = &database_url {
            warnings.extend(url.warning());
        }
        let config = Self {
            listen,
            connections_max,
            drain_delay,
            drain_timeout,
            tls,
            public_url,
            data_dir,
            database_url,
            root_key,
            root_key_also,
            outbound_allow,
            outbound_ca_file,
            trusted_proxies,
            replicas,
            pool_size,
            cache_mb,
            auth_failures_per_minute,
            retention,
            sso,
            metrics_listen,
            otlp_endpoint,
            log_format,
            log,
            warnings,
            shown,
        };
        Ok(config)
    }

    /// Whether nobody gave a value for the setting.
    pub fn is_default(&self, name: &str) -> bool {
        self.shown.iter().any(|shown| shown.name == name && shown.source == Source::Default)
    }

    /// What may be reached although it is not public: the setting, and `also`.
    pub fn outbound(&self, also: &[String]) -> Result<OutboundAllow, OutboundError> {
        OutboundAllow::parse(&[&self.outbound_allow[..], also].concat())
    }
}

fn together(why: &str) -> ConfigError {
    ConfigError::Together(why.to_owned())
}

/// Keys travel in the clear where there is no TLS, and an address of "any interface" is no URL for clients.
fn check_listen(listen: SocketAddr, tls: bool, has_public_url: bool) -> Result<Vec<String>, ConfigError> {
    let beyond = !listen.ip().is_loopback();
    if beyond && !has_public_url && (!tls || listen.ip().is_unspecified()) {
        return Err(ConfigError::Together(format!(
            "listen is {listen}, which clients cannot use as it is: set public_url to the https URL they use"
        )));
    }
    if beyond && !tls {
        return Ok(vec![format!(
            "listening on {listen} without TLS: keys and tokens can be read on the way. Set tls_cert_file and \
             tls_key_file, or let only a TLS reverse proxy reach this port."
        )]);
    }
    Ok(Vec::new())
}

enum Raw {
    Text(String),
    List(Vec<String>),
}

struct Layers<'a> {
    flags: &'a Flags,
    env: &'a Env,
    file: Option<(PathBuf, BTreeMap<&'static str, Raw>)>,
    shown: Vec<Shown>,
}

impl Layers<'_> {
    fn one<T: fmt::Debug>(
        &mut self,
        name: &'static str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        if let Some(value) = self.given(name, &parse)? {
            return Ok(value);
        }
        let value = parse(default).expect("a default is valid");
        self.show(name, shown_one(name, default), Source::Default);
        Ok(value)
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let value = self.given(name, parse)?;
        if value.is_none() {
            self.show(name, Value::Null, Source::Default);
        }
        Ok(value)
    }

    fn given<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((raw, source)) = self.find(name)? else { return Ok(None) };
        let Raw::Text(text) = raw else { unreachable!("the file's kinds were checked") };
        if text.is_empty() {
            let why = "it is empty: give it a value, or take it away".to_owned();
            return Err(ConfigError::Invalid { name, from: source, value: None, why });
        }
        let value = parse(&text).map_err(|why| invalid(name, source.clone(), &text, why))?;
        self.show(name, shown_one(name, &text), source);
        Ok(Some(value))
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let (items, source) = match self.find(name)? {
            Some((Raw::List(items), source)) => (items, source),
            Some((Raw::Text(_), _)) => unreachable!("lists are read as lists"),
            None => (Vec::new(), Source::Default),
        };
        let parsed = items
            .iter()
            .map(|item| parse(item).map_err(|why| invalid(name, source.clone(), item, why)))
            .collect::<Result<Vec<T>, ConfigError>>()?;
        self.show(name, items.into(), source);
        Ok(parsed)
    }

    fn find(&self, name: &'static str) -> Result<Option<(Raw, Source)>, ConfigError> {
        let setting = Setting::find(name).expect("only settings of the table are read");
        let raw = |text: &str| match setting.kind {
            Kind::List => Raw::List(split_list(text)),
            Kind::Text | Kind::Number | Kind::Switch => Raw::Text(text.to_owned()),
        };
        if let Some(text) = self.flags.find(name) {
            return Ok(Some((raw(text), Source::Flag(setting.flag()))));
        }
        let variable = setting.variable();
        let file_variable = format!("{variable}_FILE");
        match (self.env.find(&variable), self.env.find(&file_variable)) {
            (Some(_), Some(_)) => return Err(ConfigError::Both { name: variable }),
            (Some(text), None) => return Ok(Some((raw(text), Source::Variable(variable)))),
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                let text = read_bounded(&path)?;
                let source = Source::VariableFile(file_variable, path);
                return Ok(Some((raw(text.trim_end_matches(['\r', '\n'])), source)));
            }
            (None, None) => {}
        }
        Ok(self.file.as_ref().and_then(|(path, values)| {
            let raw = match values.get(name)? {
                Raw::Text(text) => Raw::Text(text.clone()),
                Raw::List(items) => Raw::List(items.clone()),
            };
            Some((raw, Source::File(path.clone())))
        }))
    }

    /// Where the setting read last came from.
    fn last_source(&self) -> Source {
        self.shown.last().expect("a setting was read").source.clone()
    }

    /// The setting read last is not possible as a whole.
    fn refuse_last(&self, why: String) -> ConfigError {
        let Shown { name, source, .. } = self.shown.last().expect("a setting was read");
        ConfigError::Invalid { name, from: source.clone(), value: None, why }
    }

    fn show(&mut self, name: &'static str, value: Value, source: Source) {
        self.shown.push(Shown { name, value, source });
    }
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn invalid(name: &'static str, from: Source, value: &str, why: String) -> ConfigError {
    let sensitive = Setting::find(name).is_none_or(|s| s.sensitive);
    ConfigError::Invalid { name, from, value: (!sensitive).then(|| value.to_owned()), why }
}

fn shown_one(name: &str, text: &str) -> Value {
    match Setting::find(name).map(|s| s.kind) {
        Some(Kind::Number) => text.parse::<u32>().map_or(Value::Null, Value::from),
        Some(Kind::Switch) => text.parse::<bool>().map_or(Value::Null, Value::from),
        _ if name == "database_url" => DatabaseUrl::parse(text).map_or(Value::Null, |url| Value::from(url.to_string())),
        _ => Value::from(text),
    }
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

type FileValues = (PathBuf, BTreeMap<&'static str, Raw>);

/// The file named by flag or variable must exist; `grantd.toml` here is read if it does.
fn read_settings_file(named: Option<&Path>, env: &Env) -> Result<Option<FileValues>, ConfigError> {
    let named = named.or_else(|| env.find_filled("GRANTD_CONFIG").map(Path::new));
    let path = match named {
        Some(path) => path,
        None if Path::new(FILE_DEFAULT).exists() => Path::new(FILE_DEFAULT),
        None => return Ok(None),
    };
    let text = read_bounded(path)?;
    Ok(Some((path.to_owned(), parse_settings_file(path, &text)?)))
}

fn parse_settings_file(path: &Path, text: &str) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    // The parser's own rendering quotes the line, which may hold a password.
    let table: toml::Table = toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
        what: error.message().lines().next().unwrap_or("not TOML").to_owned(),
    })?;
    let mut values = BTreeMap::new();
    flatten(path, "", table, &mut values)?;
    Ok(values)
}

fn flatten(
    path: &Path,
    prefix: &str,
    table: toml::Table,
    values: &mut BTreeMap<&'static str, Raw>,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match (Setting::find(&key), value) {
            (Some(setting), value) => {
                values.insert(setting.name, raw_of_file(path, setting, value)?);
            }
            (None, toml::Value::Table(inner)) if is_section(&key) => {
                flatten(path, &format!("{key}."), inner, values)?;
            }
            (None, _) => {
                let nearest = nearest(&key, SETTINGS.iter().map(|s| s.name));
                return Err(ConfigError::UnknownKey { path: path.to_owned(), key, nearest });
            }
        }
    }
    Ok(())
}

fn is_section(key: &str) -> bool {
    SETTINGS.iter().any(|s| s.name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

fn raw_of_file(path: &Path, setting: &'static Setting, value: toml::Value) -> Result<Raw, ConfigError> {
    let text = |value: toml::Value| match value {
        toml::Value::String(text) => Some(text),
        _ => None,
    };
    let (raw, expected) = match (setting.kind, value) {
        (Kind::Text, value) => (text(value).map(Raw::Text), "a string in quotes"),
        (Kind::Number, toml::Value::Integer(n)) => (Some(Raw::Text(n.to_string())), ""),
        (Kind::Number, _) => (None, "a whole number without quotes"),
        (Kind::Switch, toml::Value::Boolean(is_on)) => (Some(Raw::Text(is_on.to_string())), ""),
        (Kind::Switch, _) => (None, "true or false without quotes"),
        (Kind::List, toml::Value::Array(items)) => {
            (items.into_iter().map(text).collect::<Option<Vec<_>>>().map(Raw::List), "an array of strings")
        }
        (Kind::List, toml::Value::String(text)) => (Some(Raw::List(split_list(&text))), ""),
        (Kind::List, _) => (None, "an array of strings"),
    };
    let why = || format!("write {expected}");
    let from = Source::File(path.to_owned());
    raw.ok_or_else(|| ConfigError::Invalid { name: setting.name, from, value: None, why: why() })
}

/// A mistyped variable must not silently leave a default in place.
fn refuse_unknown_variables<'a>(env: &Env, root_keys: impl Iterator<Item = &'a KeySource>) -> Result<(), ConfigError> {
    let key_names: Vec<&str> = root_keys
        .filter_map(|source| match source {
            KeySource::Env(name) => Some(name.as_str()),
            KeySource::File(_) => None,
        })
        .collect();
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    for name in env.names().filter(|name| name.starts_with("GRANTD_")) {
        let bare = name.strip_suffix("_FILE").unwrap_or(name);
        let is_setting = known.iter().any(|k| k == name || k == bare);
        if is_setting || CLIENT_VARIABLES.contains(&name) || key_names.contains(&name) || is_service_link(name) {
            continue;
        }
        let candidates = known.iter().map(String::as_str).chain(CLIENT_VARIABLES.iter().copied());
        let nearest = nearest(name, candidates).map(str::to_owned);
        return Err(ConfigError::UnknownVariable { name: name.to_owned(), nearest });
    }
    Ok(())
}

/// Kubernetes puts these into every container beside a service called `grantd`; nobody wrote them.
fn is_service_link(name: &str) -> bool {
    name == "GRANTD_PORT" || name.starts_with("GRANTD_PORT_") || name.starts_with("GRANTD_SERVICE_")
}

/// The candidate that was probably meant.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 4))
        .map(|(_, candidate)| candidate)
}
