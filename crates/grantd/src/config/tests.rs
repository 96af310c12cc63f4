use super::*;

struct Case {
    flags: Flags,
    env: Env,
    file: Option<PathBuf>,
}

/// A directory of its own for one test.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("grantd-config-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = scratch(name).join("grantd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().copied().collect()
}

fn case(pairs: &[(&str, &str)]) -> Case {
    Case { flags: Flags::default(), env: env(pairs), file: None }
}

impl Case {
    fn load(&self) -> Result<Config, ConfigError> {
        let file = self.file.as_deref();
        Config::load(&Inputs {
            flags: &self.flags,
            env: &self.env,
            file,
            stderr_is_terminal: false,
            loopback_only: false,
        })
    }

    fn error(&self) -> String {
        crate::cli::chain(&self.load().unwrap_err())
    }
}

fn with_file(name: &str, text: &str) -> Case {
    Case { file: Some(file(name, text)), ..case(&[]) }
}

fn source(config: &Config, name: &str) -> String {
    config.shown.iter().find(|s| s.name == name).unwrap().source.to_string()
}

fn value(config: &Config, name: &str) -> String {
    config.shown.iter().find(|s| s.name == name).unwrap().value.to_string()
}

#[test]
fn defaults_stand_beside_each_other() {
    let config = case(&[("GRANTD_DATA_DIR", "/var/lib/grantd")]).load().unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8400");
    assert_eq!(config.database_url, DatabaseUrl::Sqlite("/var/lib/grantd/grantd.db".into()));
    assert_eq!(config.root_key, KeySource::File("/var/lib/grantd/root.key".into()));
    assert_eq!(config.log_format, LogFormat::Json, "not a terminal");
    assert!(config.public_url.is_none(), "it follows from the address that is bound");
    assert!(config.tls.is_none() && config.root_key_also.is_empty() && config.warnings.is_empty());
    assert_eq!((config.replicas, config.log.as_str()), (1, "info"));
    let names: Vec<&str> = config.shown.iter().map(|s| s.name).collect();
    assert_eq!(names, SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>(), "shown in the order of the table");
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let mut layers =
        with_file("layers", "listen = \"127.0.0.1:1\"\nreplicas = 3\n[outbound]\nallow = [\"a.internal:80\"]\n");
    let config = layers.load().unwrap();
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.outbound_allow, ["a.internal:80"]);
    assert!(source(&config, "listen").ends_with("grantd.toml"));
    assert_eq!((value(&config, "replicas"), source(&config, "pool_size").as_str()), ("3".to_owned(), "default"));

    layers.env = env(&[("GRANTD_LISTEN", "127.0.0.1:2"), ("GRANTD_OUTBOUND_ALLOW", "10.0.0.0/8, b.internal:81,")]);
    let config = layers.load().unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.outbound_allow, ["10.0.0.0/8", "b.internal:81"]);
    assert_eq!(source(&config, "listen"), "GRANTD_LISTEN");

    layers.flags = Flags::default().with("listen", Some("127.0.0.1:3".to_owned()));
    let config = layers.load().unwrap();
    assert_eq!((config.listen.port(), source(&config, "listen").as_str()), (3, "--listen"));
}

#[test]
fn a_variable_may_name_a_file_that_holds_the_value() {
    let path = file("variable", "postgres://u:hunter2@db/grantd\n");
    let path = path.to_str().unwrap();
    let config = case(&[("GRANTD_DATABASE_URL_FILE", path)]).load().unwrap();
    assert_eq!(config.database_url, DatabaseUrl::parse("postgres://u:hunter2@db/grantd").unwrap());
    assert!(source(&config, "database_url").starts_with("GRANTD_DATABASE_URL_FILE"));

    let both = case(&[("GRANTD_DATABASE_URL_FILE", path), ("GRANTD_DATABASE_URL", "sqlite:x")]);
    assert!(both.error().contains("GRANTD_DATABASE_URL and GRANTD_DATABASE_URL_FILE are both set"));
    assert!(case(&[("GRANTD_LOG_FILE", "/nowhere/at/all")]).error().contains("cannot read /nowhere/at/all"));
}

#[test]
fn what_is_unknown_is_named_with_what_was_meant() {
    let error = with_file("unknown", "listn = \"127.0.0.1:1\"\n").error();
    assert!(error.contains("`listn` is not a setting; did you mean `listen`?"), "{error}");
    let error = with_file("section", "[outbound]\nalow = []\n").error();
    assert!(error.contains("`outbound.alow` is not a setting; did you mean `outbound.allow`?"), "{error}");
    let error = with_file("no_such", "[no_such_setting]\nx = 1\n").error();
    assert!(error.contains("`no_such_setting` is not a setting") && !error.contains("did you mean"), "{error}");

    let error = case(&[("GRANTD_PUBLIC_ULR", "x")]).error();
    assert!(
        error.contains("GRANTD_PUBLIC_ULR is not a setting: unset it; did you mean `GRANTD_PUBLIC_URL`?"),
        "{error}"
    );
    assert!(case(&[("GRANTD_PUBLIC_ULR_FILE", "x")]).error().contains("GRANTD_PUBLIC_ULR_FILE"));
}

#[test]
fn variables_of_others_are_no_mistakes() {
    let pairs = [
        ("GRANTD_SERVER", "http://x"),
        ("GRANTD_PAT", "grantd_pat_x"),
        ("GRANTD_APP_ID", "x"),
        ("GRANTD_PORT", "tcp://10.0.0.1:8400"),
        ("GRANTD_PORT_8400_TCP_ADDR", "10.0.0.1"),
        ("GRANTD_SERVICE_HOST", "10.0.0.1"),
        ("GRANTD_ROOT_KEY", "env:GRANTD_THE_KEY"),
        ("GRANTD_THE_KEY", "0"),
        ("PATH", "/bin"),
    ];
    let config = case(&pairs).load().unwrap();
    assert_eq!(config.root_key, KeySource::Env("GRANTD_THE_KEY".to_owned()));
}

#[test]
fn a_value_that_cannot_be_names_setting_source_and_what_to_write() {
    for (name, text, expected) in [
        ("GRANTD_LISTEN", "8400", "`listen` from GRANTD_LISTEN: `8400` is not possible: write an address and a port"),
        ("GRANTD_REPLICAS", "0", "write a number from 1 to 10000"),
        ("GRANTD_CONNECTIONS_MAX", "0", "write a number from 1 to 1000000"),
        ("GRANTD_CONNECTIONS_MAX", "1000001", "write a number from 1 to 1000000"),
        ("GRANTD_DRAIN_DELAY_S", "301", "write seconds, from 0 to 300"),
        ("GRANTD_DRAIN_DELAY_S", "5s", "write seconds, from 0 to 300"),
        ("GRANTD_DRAIN_TIMEOUT_S", "0", "write seconds, from 1 to 600"),
        ("GRANTD_DRAIN_TIMEOUT_S", "601", "write seconds, from 1 to 600"),
        ("GRANTD_METRICS_LISTEN", "9464", "write an address and a port"),
        ("GRANTD_POOL_SIZE", "many", "write a number from 1 to 1000"),
        ("GRANTD_LOG_FORMAT", "xml", "write text or json"),
        ("GRANTD_LOG", "grantd=loud", "write error, warn, info, debug or trace"),
        ("GRANTD_TRUSTED_PROXIES", "10.0.0.0/33", "write a CIDR"),
        ("GRANTD_OUTBOUND_ALLOW", "https://x/", "outbound.allow"),
        ("GRANTD_DATABASE_URL", "mysql://x", "write sqlite:PATH or postgres://"),
        ("GRANTD_DATABASE_URL", "sqlite:", "write sqlite:PATH"),
        ("GRANTD_PUBLIC_URL", "vault.example.com", "write a URL"),
        ("GRANTD_PUBLIC_URL", "http://vault.example.com", "public_url` from GRANTD_PUBLIC_URL: `http://vault"),
        ("GRANTD_PUBLIC_URL", "http://vault.example.com", "must be https"),
        ("GRANTD_PUBLIC_URL", "https://u:p@x.example", "nothing but a port and a path"),
        ("GRANTD_LISTEN", "", "it is empty"),
    ] {
        let error = case(&[(name, text)]).error();
        assert!(error.contains(expected), "{name}={text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for text in ["http://127.0.0.1:8400", "http://localhost:8400/base", "https://vault.example.com"] {
        assert!(case(&[("GRANTD_PUBLIC_URL", text)]).load().is_ok(), "{text}");
    }
}

#[test]
fn kinds_in_the_file_are_checked() {
    for (name, text, expected) in [
        ("kind-number", "replicas = \"3\"\n", "`replicas` from"),
        ("kind-negative", "replicas = -3\n", "write a number from 1 to 10000"),
        ("kind-text", "listen = 8400\n", "write a string in quotes"),
        ("kind-list", "trusted_proxies = 3\n", "write an array of strings"),
        ("kind-items", "trusted_proxies = [3]\n", "write an array of strings"),
        ("kind-syntax", "log = \"info\"\nlisten = [\n", "grantd.toml:"),
    ] {
        let error = with_file(name, text).error();
        assert!(error.contains(expected) && error.contains("grantd.toml"), "{name}: {error}");
    }
    let config = with_file("kind-ok", "trusted_proxies = \"10.0.0.1, 10.1.0.0/16\"\n").load().unwrap();
    assert_eq!(config.trusted_proxies.len(), 2);
    let missing = Case { file: Some("/nowhere/grantd.toml".into()), ..case(&[]) };
    assert!(missing.error().contains("cannot read /nowhere/grantd.toml"));
}

#[test]
fn tls_files_come_in_pairs_and_listening_openly_is_said() {
    assert!(case(&[("GRANTD_TLS_CERT_FILE", "c")]).error().contains("without tls_key_file"));
    assert!(case(&[("GRANTD_TLS_KEY_FILE", "k")]).error().contains("without tls_cert_file"));
    assert!(case(&[("GRANTD_LISTEN", "0.0.0.0:80")]).error().contains("set public_url"));
    let public = ("GRANTD_PUBLIC_URL", "https://vault.example.com/grantd");
    let config = case(&[("GRANTD_LISTEN", "0.0.0.0:80"), public]).load().unwrap();
    assert!(config.warnings[0].contains("without TLS"));
    let tls = [("GRANTD_TLS_CERT_FILE", "c"), ("GRANTD_TLS_KEY_FILE", "k"), ("GRANTD_LISTEN", "0.0.0.0:443"), public];
    let config = case(&tls).load().unwrap();
    let files = config.tls.as_ref().unwrap();
    assert_eq!((files.cert.as_path(), files.key.as_path()), (Path::new("c"), Path::new("k")));
    assert!(config.warnings.is_empty());
    assert_eq!(config.public_url.as_ref().unwrap().as_str(), public.1);
}

#[test]
fn metrics_for_the_whole_network_are_warned_of() {
    let of = |address: &str| case(&[("GRANTD_METRICS_LISTEN", address)]).load().unwrap();
    assert!(of("127.0.0.1:9464").warnings.is_empty());
    assert!(of("0.0.0.0:9464").warnings[0].contains("metrics_listen is 0.0.0.0:9464"));
}

#[test]
fn no_secret_is_shown_or_repeated() {
    for url in [
        "postgres://user:CANARY@127.0.0.1/x",
        "postgresql://user:CA:NARY@127.0.0.1:5432/x?sslmode=verify-full",
        "postgres://user@h/x?password=CANARY",
        "postgres://user:CAN%2FARY@h/x",
    ] {
        let config = case(&[("GRANTD_DATABASE_URL", url)]).load().unwrap();
        let shown = format!("{} {config:?}", value(&config, "database_url"));
        assert!(!shown.contains("CAN") && !shown.contains("ARY"), "{shown}");
        assert!(shown.contains("user") && shown.contains("***"), "{shown}");
    }
    for url in [
        "postgres://user:CAN/ARY@h/x",
        "postgres://user:CAN?ARY@h/x",
        "postgres://user:CAN@ARY@h/x",
        "postgres://user@h/x?sslpassword=CANARY",
    ] {
        let error = case(&[("GRANTD_DATABASE_URL", url)]).error();
        assert!(!error.contains("CAN") && !error.contains("ARY"), "{error}");
    }
    for (name, text) in
        [("GRANTD_ROOT_KEY", "CANARY"), ("GRANTD_ROOT_KEY_ALSO", "file:x,CANARY"), ("GRANTD_DATABASE_URL", "my:CANARY")]
    {
        let error = case(&[(name, text)]).error();
        assert!(!error.contains("CANARY") && error.contains("write"), "{error}");
    }
    let error = with_file("secret-line", "database_url = \"postgres://u:CANARY@h/x\" oops\n").error();
    assert!(!error.contains("CANARY") && error.contains("grantd.toml:1"), "{error}");
}

#[test]
fn an_unprotected_way_to_the_database_is_a_warning() {
    let warnings = |url: &str| case(&[("GRANTD_DATABASE_URL", url)]).load().unwrap().warnings;
    assert!(warnings("postgres://u@db/x?sslmode=disable").iter().any(|w| w.contains("sslmode=disable")));
    assert!(warnings("postgres://u@db/x").is_empty());
    assert!(warnings("postgres://u@localhost/x").is_empty());
    let error = case(&[("GRANTD_DATABASE_URL", "postgres://u@db/x?sslmode=require")]).error();
    assert!(error.contains("sslmode=require") && error.contains("verify-full"), "{error}");
}

#[test]
fn outbound_takes_what_dev_adds() {
    let config = case(&[("GRANTD_OUTBOUND_ALLOW", "10.0.0.0/8")]).load().unwrap();
    assert!(config.outbound(&["127.0.0.1:9001".to_owned()]).is_ok());
    assert!(config.outbound(&["http://127.0.0.1:9001".to_owned()]).is_err());
}

#[test]
fn dev_refuses_other_addresses_before_it_asks_for_a_public_url() {
    let env = env(&[("GRANTD_LISTEN", "0.0.0.0:8480")]);
    let flags = Flags::default();
    let inputs = Inputs { flags: &flags, env: &env, file: None, stderr_is_terminal: false, loopback_only: true };
    let error = crate::cli::chain(&Config::load(&inputs).unwrap_err());
    assert!(error.contains("for this machine alone") && error.contains("GRANTD_LISTEN"), "{error}");
}

#[test]
fn single_sign_on_is_set_whole_or_not_at_all() {
    assert!(case(&[]).load().unwrap().sso.is_none());
    let issuer = ("GRANTD_SSO_ISSUER", "https://id.example.com/realms/a");
    let client = ("GRANTD_SSO_CLIENT_ID", "grantd");
    let sso = case(&[issuer, client]).load().unwrap().sso.unwrap();
    assert_eq!((sso.issuer.as_str(), sso.client_id.as_str()), (issuer.1, "grantd"));
    assert_eq!((sso.name.as_str(), sso.client_secret_file, sso.domains.len()), ("id.example.com", None, 0));
    let text = "[sso]\nissuer = \"https://id.example.com\"\nclient_id = \"c\"\nclient_secret_file = \"/run/s\"\n\
                name = \"Acme ID\"\nemail_domains = [\"Example.com\", \"b.example\"]\n";
    let sso = with_file("sso", text).load().unwrap().sso.unwrap();
    assert_eq!((sso.name.as_str(), sso.domains), ("Acme ID", vec!["example.com".to_owned(), "b.example".to_owned()]));
    assert_eq!(sso.client_secret_file, Some("/run/s".into()));

    assert!(case(&[issuer]).error().contains("sso.issuer is set without sso.client_id"));
    for (alone, name) in [
        ("GRANTD_SSO_CLIENT_ID", "sso.client_id"),
        ("GRANTD_SSO_CLIENT_SECRET_FILE", "sso.client_secret_file"),
        ("GRANTD_SSO_NAME", "sso.name"),
        ("GRANTD_SSO_EMAIL_DOMAINS", "sso.email_domains"),
        ("GRANTD_SSO_REQUIRED", "sso.required"),
    ] {
        let value = if name == "sso.required" { "true" } else { "a" };
        let error = case(&[(alone, value)]).error();
        assert!(error.contains(&format!("{name} is set without sso.issuer")), "{error}");
    }
    for (text, is_required) in [("true", true), ("false", false)] {
        let config = case(&[issuer, client, ("GRANTD_SSO_REQUIRED", text)]).load().unwrap();
        assert_eq!(
            (config.sso.as_ref().unwrap().is_required, value(&config, "sso.required")),
            (is_required, text.to_owned())
        );
        let text = format!("sso = {{ issuer = \"https://x\", client_id = \"c\", required = {text} }}\n");
        assert_eq!(with_file("sso-required", &text).load().unwrap().sso.unwrap().is_required, is_required);
    }
    assert!(case(&[issuer, client, ("GRANTD_SSO_REQUIRED", "yes")]).error().contains("write true or false"));
    assert!(with_file("sso-switch", "[sso]\nrequired = \"true\"\n").error().contains("true or false without quotes"));
    let domains = |n: usize| (0..n).map(|i| format!("d{i}.example")).collect::<Vec<_>>().join(",");
    let with = |n: usize| {
        let domains = domains(n);
        case(&[issuer, client, ("GRANTD_SSO_EMAIL_DOMAINS", &domains)])
    };
    assert!(with(limits::SSO_DOMAINS_MAX).load().is_ok());
    assert!(with(limits::SSO_DOMAINS_MAX + 1).error().contains("at most 100 are possible"));
    let error = case(&[("GRANTD_SSO_ISSUER", "id.example.com"), client]).error();
    assert!(error.contains("`sso.issuer` from GRANTD_SSO_ISSUER"), "{error}");
}
