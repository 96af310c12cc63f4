//! The table of settings: one entry makes the flag, the variable, the key of the file and the line of `config show`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

/// How a setting is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Number,
    /// `true` or `false`.
    Switch,
    /// Comma separated, or an array in the file.
    List,
}

/// One setting.
pub struct Setting {
    /// As in `grantd.toml`; a dot nests.
    pub name: &'static str,
    pub kind: Kind,
    pub placeholder: &'static str,
    pub help: &'static str,
    /// Its value is never repeated in an error.
    pub sensitive: bool,
}

const fn setting(name: &'static str, kind: Kind, placeholder: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, placeholder, help, sensitive: false }
}

const fn sensitive(name: &'static str, kind: Kind, placeholder: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, placeholder, help, sensitive: true }
}

/// Every setting that exists.
pub const SETTINGS: &[Setting] = &[
    setting("listen", Kind::Text, "ADDR", "Address and port to listen on [default: 127.0.0.1:8400]"),
    setting(
        "connections_max",
        Kind::Number,
        "N",
        "Open connections of this process [default: 10000, or what the limit of open files leaves]",
    ),
    setting(
        "drain_delay_s",
        Kind::Number,
        "SECONDS",
        "After SIGTERM, serve on for this long while /readyz is 503 [default: 0]",
    ),
    setting("drain_timeout_s", Kind::Number, "SECONDS", "Calls under way may then take this long [default: 25]"),
    setting("tls_cert_file", Kind::Text, "FILE", "Certificate chain (PEM); with tls_key_file, serves https"),
    setting("tls_key_file", Kind::Text, "FILE", "Private key of the certificate (PEM)"),
    setting("public_url", Kind::Text, "URL", "URL that clients use; https unless loopback [default: from listen]"),
    setting("data_dir", Kind::Text, "DIR", "Directory of database, root key and operator token [default: ./.grantd]"),
    sensitive("database_url", Kind::Text, "URL", "sqlite:PATH or postgres://… [default: sqlite:<data_dir>/grantd.db]"),
    sensitive(
        "root_key",
        Kind::Text,
        "KEY",
        "Where the root key is: env:NAME or file:PATH [default: file:<data_dir>/root.key]",
    ),
    sensitive("root_key_also", Kind::List, "KEY,…", "Further root keys that may open, but not wrap"),
    setting(
        "outbound.allow",
        Kind::List,
        "DEST,…",
        "Destinations that are not public and may be reached: host:port, host or CIDR",
    ),
    setting(
        "outbound.ca_file",
        Kind::Text,
        "FILE",
        "Authorities (PEM) that hosts called from here must be vouched for by [default: those of the system]",
    ),
    setting("trusted_proxies", Kind::List, "CIDR,…", "Reverse proxies whose X-Forwarded-For counts"),
    setting("replicas", Kind::Number, "N", "Processes that share the rate limits [default: 1]"),
    setting("pool_size", Kind::Number, "N", "PostgreSQL connections of this process [default: 10]"),
    setting(
        "cache_mb",
        Kind::Number,
        "MB",
        "Memory for remembered grants, sealed; a grant takes about 1 KB beside its value; 0 remembers none [default: 64]",
    ),
    setting(
        "auth_failures_per_minute",
        Kind::Number,
        "N",
        "Failed authentications a minute from one source, before it is slowed [default: 600]",
    ),
    setting(
        "retention",
        Kind::Text,
        "DAYS",
        "How long audit trails are kept, such as 90d, or forever; an app may say otherwise [default: 365d]",
    ),
    setting("sso.issuer", Kind::Text, "URL", "OpenID Connect issuer at which operators may sign in [default: none]"),
    setting("sso.client_id", Kind::Text, "ID", "Who this server is there"),
    setting("sso.client_secret_file", Kind::Text, "FILE", "File of the client secret [default: a public client]"),
    setting("sso.name", Kind::Text, "NAME", "What operators know it by [default: its host]"),
    setting(
        "sso.email_domains",
        Kind::List,
        "DOMAIN,…",
        "Domains of operators' addresses that may sign in so [default: all]",
    ),
    setting(
        "sso.required",
        Kind::Switch,
        "BOOL",
        "Operators sign in so, and by links made on the host, in no other way: true or false [default: false]",
    ),
    setting("metrics_listen", Kind::Text, "ADDR", "Address and port that tell metrics to whoever asks [default: none]"),
    setting("otlp_endpoint", Kind::Text, "URL", "Collector that takes traces by OTLP over HTTP [default: none]"),
    setting("log_format", Kind::Text, "FORMAT", "text or json [default: text on a terminal, else json]"),
    setting("log", Kind::Text, "LEVEL", "error, warn, info, debug, trace, or a filter [default: info]"),
];

impl Setting {
    /// The setting called `name` in the file.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|s| s.name == name)
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("GRANTD_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its flag, without the dashes.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    fn argument(&self) -> Arg {
        let argument = Arg::new(self.name)
            .long(self.flag())
            .value_name(self.placeholder)
            .help(format!("{} [env: {}]", self.help, self.variable()))
            .help_heading("Settings");
        match self.kind {
            Kind::List => argument.action(ArgAction::Append),
            Kind::Text | Kind::Number | Kind::Switch => argument.action(ArgAction::Set),
        }
    }
}

/// Settings given as flags. No `Debug`: a database URL holds a password.
#[derive(Clone, Default)]
pub struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// What was given for `name`, a list joined by commas.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// With `value` for `name`, if there is one.
    pub fn with(mut self, name: &'static str, value: Option<String>) -> Self {
        assert!(Setting::find(name).is_some(), "{name} is a setting");
        if let Some(value) = value {
            self.0.insert(name, value);
        }
        self
    }
}

// No doc comment: clap would take it for that of the command it is flattened into.
#[derive(clap::Args)]
pub struct InstallFlags {
    /// Configuration file [default: ./grantd.toml if it exists] [env: GRANTD_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// sqlite:PATH or postgres://… [default: sqlite:<data_dir>/grantd.db] [env: GRANTD_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the root key is: env:NAME or file:PATH [default: file:<data_dir>/root.key] [env: GRANTD_ROOT_KEY]
    #[arg(long, value_name = "KEY")]
    pub root_key: Option<String>,
}

impl InstallFlags {
    /// As settings.
    pub fn settings(&self) -> Flags {
        Flags::default().with("database_url", self.database_url.clone()).with("root_key", self.root_key.clone())
    }
}

/// `--data-dir` is a global flag of the whole command line, hence not among these.
fn with_flags() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|s| s.name != "data_dir")
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        with_flags().fold(command, |command, setting| command.arg(setting.argument()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = with_flags().filter_map(|setting| {
            let values: Vec<&str> = matches.get_many::<String>(setting.name)?.map(String::as_str).collect();
            Some((setting.name, values.join(",")))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
