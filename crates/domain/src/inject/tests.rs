use super::*;

fn create(credential_type: CredentialType, value: &str) -> SecretCreate {
    SecretCreate {
        name: "n".to_owned(),
        template: None,
        credential_type: Some(credential_type),
        value: value.to_owned(),
        fields: BTreeMap::new(),
        injection_header: None,
        injection_format: None,
        injections: Vec::new(),
        allowed_hosts: Vec::new(),
        allow_any_host: false,
    }
}

fn bearer() -> SecretCreate {
    create(CredentialType::BearerToken, "s3cret")
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn inject(target: InjectionTarget, key: &str, value_source: &str) -> Injection {
    Injection { target, key: key.to_owned(), value_source: value_source.to_owned() }
}

/// The field a refusal names; panics if the secret is accepted or the refusal shows a value.
fn refused(create: &SecretCreate) -> String {
    let error = plan(create).unwrap_err();
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(error.code, grantd_wire::Code::InvalidValue);
    assert!(!json.contains("s3cret"), "{json}");
    error.details["field"].as_str().unwrap().to_owned()
}

fn with(change: impl FnOnce(&mut SecretCreate)) -> SecretCreate {
    let mut create = bearer();
    change(&mut create);
    create
}

fn token(credential_type: CredentialType, value: &str, pairs: &[(&str, &str)]) -> Result<String, Unsendable> {
    access_token(credential_type, value, &fields(pairs)).map(|token| token.to_owned())
}

#[test]
fn each_type_has_its_header_and_format() {
    for (credential_type, value, stored, header, format) in [
        (CredentialType::BearerToken, "t", &[][..], "Authorization", "Bearer {token}"),
        (CredentialType::HeaderKey, "t", &[], "X-API-Key", "{token}"),
        (CredentialType::BasicAuth, "u:p", &[], "Authorization", "Basic {token}"),
        (CredentialType::AwsSigV4, "AKID", &[("secret_key", "k")], "Authorization", "AWS4-HMAC-SHA256"),
    ] {
        let mut create = create(credential_type, value);
        create.fields = fields(stored);
        let plan = plan(&create).unwrap();
        assert_eq!((plan.header.as_str(), plan.format.as_str()), (header, format));
        assert!(plan.injections.is_empty());
    }
    assert_eq!(plan(&with(|create| create.credential_type = None)).unwrap().format, "Bearer {token}");
}

#[test]
fn basic_auth_hands_out_base64_of_user_and_password() {
    let basic = CredentialType::BasicAuth;
    assert_eq!(token(basic, "user:pass", &[]).unwrap(), "dXNlcjpwYXNz");
    assert_eq!(token(basic, "pass", &[("username", "user")]).unwrap(), "dXNlcjpwYXNz");
    assert_eq!(token(basic, "user", &[("password", "pass")]).unwrap(), "dXNlcjpwYXNz");
    assert_eq!(token(basic, "dXNlcjpwYXNz", &[]).unwrap(), "dXNlcjpwYXNz");
    assert_eq!(token(basic, "p:a", &[("username", "user")]).unwrap(), STANDARD.encode("user:p:a"));
    assert_eq!(token(basic, ":é", &[]).unwrap(), STANDARD.encode(":é"));
    for (value, stored) in [
        ("s3cret", &[][..]),
        ("czNjcmV0", &[]),
        ("s3cret", &[("username", "a:b")]),
        ("s3cret:x", &[("password", "p")]),
        ("s3cret", &[("username", "u"), ("password", "p")]),
    ] {
        assert_eq!(token(basic, value, stored), Err(Unsendable));
        let mut create = create(basic, value);
        create.fields = fields(stored);
        refused(&create);
    }
    assert_eq!(token(CredentialType::BearerToken, "user:pass", &[]).unwrap(), "user:pass");
}

#[test]
fn header_names_are_the_clients() {
    for name in ["X", "Authorization", "x-api-key", "A1-", &"h".repeat(60)] {
        assert_eq!(plan(&with(|create| create.injection_header = Some(name.to_owned()))).unwrap().header, name);
    }
    for name in ["", "1x", "-x", "x_y", "x y", "x:", "é", "X\r\n", &"h".repeat(61)] {
        assert_eq!(
            refused(&with(|create| create.injection_header = Some(name.to_owned()))),
            "injection_header",
            "{name:?}"
        );
    }
    for name in INJECTION_HEADERS_FORBIDDEN {
        assert_eq!(
            refused(&with(|create| create.injection_header = Some(name.to_ascii_uppercase()))),
            "injection_header"
        );
        let injection = inject(InjectionTarget::Header, name, "token");
        assert_eq!(refused(&with(|create| create.injections = vec![injection])), "injections[0].key");
        let injection = inject(InjectionTarget::QueryParam, name, "token");
        assert!(plan(&with(|create| create.injections = vec![injection])).is_ok());
    }
}

#[test]
fn formats_are_the_clients() {
    let longest = format!("{}{{token}}", "f".repeat(193));
    for format in ["{token}", "Token {token}", "Token token=\"{token}\", v=1", &longest] {
        assert_eq!(plan(&with(|create| create.injection_format = Some(format.to_owned()))).unwrap().format, format);
    }
    for format in [
        "",
        "Bearer",
        "{Token}",
        "{token}{token}",
        "{token}\n",
        "a\r{token}",
        "\0{token}",
        "é{token}",
        " {token}",
        "{token} ",
        "\t{token}",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 {token}",
        &format!("{longest}f"),
    ] {
        assert_eq!(
            refused(&with(|create| create.injection_format = Some(format.to_owned()))),
            "injection_format",
            "{format:?}"
        );
    }
}

#[test]
fn injections_are_the_clients() {
    let stored = fields(&[("app_key", "v"), ("site2", "é")]);
    let ok = [
        inject(InjectionTarget::Header, &"k".repeat(100), "token"),
        inject(InjectionTarget::Header, "X_a-1", "additional_credentials.app_key"),
        inject(InjectionTarget::QueryParam, &"k".repeat(100), "additional_credentials.site2"),
        inject(InjectionTarget::QueryParam, "K", "token"),
        inject(InjectionTarget::QueryParam, "k", "token"),
    ];
    let create = with(|create| (create.fields, create.injections) = (stored.clone(), ok.to_vec()));
    assert_eq!(plan(&create).unwrap().injections, ok);

    for (injection, at) in [
        (inject(InjectionTarget::Header, &"k".repeat(101), "token"), "key"),
        (inject(InjectionTarget::QueryParam, &"k".repeat(101), "token"), "key"),
        (inject(InjectionTarget::QueryParam, "", "token"), "key"),
        (inject(InjectionTarget::QueryParam, "1k", "token"), "key"),
        (inject(InjectionTarget::QueryParam, "a.b", "token"), "key"),
        (inject(InjectionTarget::QueryParam, "a&b", "token"), "key"),
        (inject(InjectionTarget::Header, "authorization", "token"), "key"),
        (inject(InjectionTarget::QueryParam, "k", ""), "value_source"),
        (inject(InjectionTarget::QueryParam, "k", "Token"), "value_source"),
        (inject(InjectionTarget::QueryParam, "k", "app_key"), "value_source"),
        (inject(InjectionTarget::QueryParam, "k", "additional_credentials."), "value_source"),
        (inject(InjectionTarget::QueryParam, "k", "additional_credentials.App"), "value_source"),
        (inject(InjectionTarget::QueryParam, "k", "additional_credentials.missing"), "value_source"),
    ] {
        let shown = format!("{injection:?}");
        let create = with(|create| (create.fields, create.injections) = (stored.clone(), vec![injection]));
        assert_eq!(refused(&create), format!("injections[0].{at}"), "{shown}");
    }

    let twice = [inject(InjectionTarget::Header, "X-A", "token"), inject(InjectionTarget::Header, "x-a", "token")];
    assert_eq!(refused(&with(|create| create.injections = twice.to_vec())), "injections[1].key");
    let in_header = inject(InjectionTarget::Header, "X-A", "additional_credentials.site2");
    let create = with(|create| (create.fields, create.injections) = (stored.clone(), vec![in_header]));
    assert_eq!(refused(&create), "fields.site2", "no ASCII, so not in a header");

    let many: Vec<_> =
        (0..=INJECTIONS_MAX).map(|n| inject(InjectionTarget::QueryParam, &format!("k{n}"), "token")).collect();
    assert!(plan(&with(|create| create.injections = many[1..].to_vec())).is_ok());
    assert_eq!(refused(&with(|create| create.injections = many)), "injections");
}

#[test]
fn values_are_bounded_and_can_be_sent() {
    assert!(plan(&with(|create| create.value = "v".repeat(SECRET_VALUE_BYTES_MAX))).is_ok());
    assert_eq!(refused(&with(|create| create.value = "v".repeat(SECRET_VALUE_BYTES_MAX + 1))), "value");
    assert!(plan(&with(|create| create.value = "s3 cret".to_owned())).is_ok());
    for value in
        ["", " ", "s3cret\n", "s3cret\r", "s3\0cret", " s3cret", "s3cret ", "s3crét", "s3\tcret", "s3cret\u{7f}"]
    {
        assert_eq!(refused(&with(|create| create.value = value.to_owned())), "value", "{value:?}");
    }
}

#[test]
fn fields_are_bounded_and_can_be_sent() {
    let one = |name: &str, value: &str| with(|create| create.fields = fields(&[(name, value)]));
    let name = "n".repeat(SECRET_FIELD_NAME_CHARS_MAX);
    assert!(plan(&one(&name, &"v".repeat(SECRET_FIELD_BYTES_MAX))).is_ok());
    assert!(plan(&one("app_key2", "é any text \t")).is_ok());
    assert_eq!(refused(&one("f", &"v".repeat(SECRET_FIELD_BYTES_MAX + 1))), "fields.f");
    assert_eq!(refused(&one("f", &"é".repeat(SECRET_FIELD_BYTES_MAX / 2 + 1))), "fields.f");
    for value in ["", "  ", "\t", "\u{1c}\u{1f}", "\u{a0}", "s3cret\n", "s3cret\r", "\0s3cret"] {
        assert_eq!(refused(&one("f", value)), "fields.f", "{value:?}");
    }
    for name in ["", "App", "1a", "_a", "a-b", "a.b", "é", &format!("{name}n")] {
        assert_eq!(refused(&one(name, "v")), "fields", "{name:?}");
    }
    let many: Vec<(String, String)> = (0..=SECRET_FIELDS_MAX).map(|n| (format!("f{n}"), "v".to_owned())).collect();
    assert!(plan(&with(|create| create.fields = many[1..].iter().cloned().collect())).is_ok());
    assert_eq!(refused(&with(|create| create.fields = many.into_iter().collect())), "fields");
}

#[test]
fn aws_needs_what_the_client_signs_with_and_nothing_else() {
    let aws = |stored: &[(&str, &str)]| {
        let mut create = create(CredentialType::AwsSigV4, "AKIDEXAMPLE");
        create.fields = fields(stored);
        create
    };
    let all = [("secret_key", "é s3cret"), ("session_token", "t"), ("region", "eu-central-1"), ("service", "s3")];
    assert!(plan(&aws(&all)).is_ok());
    assert_eq!(token(CredentialType::AwsSigV4, "AKIDEXAMPLE", &all).unwrap(), "AKIDEXAMPLE");
    assert_eq!(refused(&aws(&[])), "fields.secret_key");
    assert_eq!(refused(&aws(&[("secret_key", "s3cret"), ("sesion_token", "t")])), "fields.sesion_token");
    assert_eq!(refused(&aws(&[("secret_key", "s3cret"), ("session_token", "é")])), "fields.session_token");

    let mut create = aws(&all);
    create.injection_header = Some("X-Signature".to_owned());
    assert_eq!(refused(&create), "injection_header");
    create.injection_header = Some("authorization".to_owned());
    create.injection_format = Some("AWS4-HMAC-SHA256 {token}".to_owned());
    assert_eq!(refused(&create), "injection_format");
    create.injection_format = Some(INJECTION_SIGV4.to_owned());
    assert!(plan(&create).is_ok());
    create.injections = vec![inject(InjectionTarget::QueryParam, "k", "token")];
    assert_eq!(refused(&create), "injections");
}

#[test]
fn rotation_keeps_what_the_injections_need() {
    let mut create = bearer();
    create.fields = fields(&[("app_key", "v")]);
    create.injections = vec![inject(InjectionTarget::Header, "X-App", "additional_credentials.app_key")];
    let plan = plan(&create).unwrap();
    let check =
        |value: &str, pairs: &[(&str, &str)]| check_values(CredentialType::BearerToken, &plan, value, &fields(pairs));
    assert!(check("new", &[("app_key", "w")]).is_ok());
    assert_eq!(check("new", &[]).unwrap_err().details["field"], "injections[0].value_source");
    assert_eq!(check("", &[("app_key", "w")]).unwrap_err().details["field"], "value");
}

#[test]
fn aws_secrets_without_region_and_service_go_to_aws_hosts_only() {
    let rules = |hosts: &[&str]| hosts.iter().map(|h| Rule::parse(h).unwrap()).collect::<Vec<_>>();
    let check = |fields: &[&str], hosts: &[&str], any| {
        check_signable(CredentialType::AwsSigV4, fields, &rules(hosts), any).map_err(|e| e.message)
    };
    let aws = ["*.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn"];
    assert!(check(&["secret_key"], &aws, false).is_ok());
    assert!(check(&["secret_key", "region", "service"], &["s3.example.com:9000"], false).is_ok());
    for (fields, hosts, any) in [
        (&["secret_key", "region"][..], &["s3.example.com"][..], false),
        (&["secret_key", "service"], &["s3.example.com"], false),
        (&["secret_key"], &["amazonaws.com.example.com"], false),
        (&["secret_key"], &["s3.eu-west-1.amazonaws.com", "example.com"], false),
        (&["secret_key"], &aws, true),
    ] {
        assert!(check(fields, hosts, any).is_err(), "{hosts:?}");
    }
    assert!(check_signable(CredentialType::BearerToken, &[], &rules(&["example.com"]), true).is_ok());
}
