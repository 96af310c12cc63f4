use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    Rule::parse(text).unwrap()
}

fn nothing() -> OutboundAllow {
    OutboundAllow::default()
}

fn outbound(entries: &[&str]) -> OutboundAllow {
    OutboundAllow::parse(entries).unwrap()
}

fn judge(rules: &[&str], url: &str, outbound: &OutboundAllow) -> Result<(), Blocked> {
    let rules: Vec<Rule> = rules.iter().map(|text| rule(text)).collect();
    allow(&Target::parse(url)?, &rules, false, outbound)
}

fn judge_any(url: &str, outbound: &OutboundAllow) -> Result<(), Blocked> {
    allow(&Target::parse(url)?, &[], true, outbound)
}

#[test]
fn exact_host_row() {
    let rules = &["api.example.com"];
    for url in [
        "https://API.example.com./v1",
        "https://api.example.com:443/",
        "HTTPS://api.example.com",
        "https://api.example.com?q",
    ] {
        assert_eq!(judge(rules, url, &nothing()), Ok(()), "{url}");
    }
    for (url, why) in [
        ("http://api.example.com/", Blocked::PlainHttp),
        ("https://api.example.com:8443/", Blocked::NoRule),
        ("https://api.example.com.evil.net/", Blocked::NoRule),
        ("https://x@api.example.com/", Blocked::UserInfo),
        ("https://evil.net/api.example.com", Blocked::NoRule),
        ("https://xapi.example.com/", Blocked::NoRule),
        ("https://a.api.example.com/", Blocked::NoRule),
    ] {
        assert_eq!(judge(rules, url, &nothing()), Err(why), "{url}");
    }
}

#[test]
fn wildcard_row() {
    let rules = &["*.example.com"];
    for url in ["https://a.example.com/", "https://a.b.example.com/", "https://A.Example.Com./"] {
        assert_eq!(judge(rules, url, &nothing()), Ok(()), "{url}");
    }
    for url in [
        "https://example.com/",
        "https://badexample.com/",
        "https://a.example.com.evil.net/",
        "https://a.example.com:8443/",
    ] {
        assert_eq!(judge(rules, url, &nothing()), Err(Blocked::NoRule), "{url}");
    }
    assert_eq!(judge(rules, "https://.example.com/", &nothing()), Err(Blocked::Host));
}

#[test]
fn prefix_row() {
    let rules = &["api.example.com/v1"];
    for path in ["/v1", "/v1/", "/v1/x?q", "/v1?q=/../", "/v1/a%20b", "/v1/a.b..c", "/v1//x", "/v1/é"] {
        assert_eq!(judge(rules, &format!("https://api.example.com{path}"), &nothing()), Ok(()), "{path}");
    }
    for path in [
        "",
        "/",
        "/v10",
        "/v2",
        "/V1",
        "/x/v1",
        "//v1",
        "/v1/../admin",
        "/v1%2f..%2fadmin",
        "/v1/..",
        "/v1/.",
        "/v1/./x",
        "/x/../v1",
        "/admin/../v1/x",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2e/admin",
        "/v1/.%2E/admin",
        "/v1/%2e/x",
        "/v1/a%2eb",
        "/v1/a%2Fb",
        "/v1/a%5cb",
        "/v1/a%5Cb",
        "/v1/..;/admin",
        "/v1/..;x=1/admin",
        "/v1/.;/x",
        "/v1;x/y",
    ] {
        assert_eq!(judge(rules, &format!("https://api.example.com{path}"), &nothing()), Err(Blocked::NoRule), "{path}");
        if !path.starts_with("//") {
            let host_only = judge(&["api.example.com"], &format!("https://api.example.com{path}"), &nothing());
            assert_eq!(host_only, Ok(()), "a rule without a path does not look at it: {path}");
        }
    }
    let slash = &["api.example.com/v1/"];
    assert_eq!(judge(slash, "https://api.example.com/v1/x", &nothing()), Ok(()));
    assert_eq!(judge(slash, "https://api.example.com/v1", &nothing()), Err(Blocked::NoRule));
}

#[test]
fn loopback_row() {
    let rules = &["127.0.0.1:9001"];
    let allowed = outbound(&["127.0.0.1:9001"]);
    assert_eq!(judge(rules, "http://127.0.0.1:9001/", &allowed), Ok(()));
    assert_eq!(judge(rules, "https://127.0.0.1:9001/", &allowed), Ok(()));
    assert_eq!(judge(rules, "http://127.0.0.1:9002/", &allowed), Err(Blocked::PlainHttp));
    assert_eq!(judge(rules, "https://127.0.0.1:9002/", &allowed), Err(Blocked::NoRule));
    assert_eq!(judge(rules, "http://localhost:9001/", &allowed), Err(Blocked::PlainHttp));
    assert_eq!(judge(rules, "https://localhost:9001/", &allowed), Err(Blocked::NoRule));
    assert_eq!(judge(rules, "http://127.0.0.1:9001/", &nothing()), Err(Blocked::PlainHttp));
    assert_eq!(judge(rules, "https://127.0.0.1:9001/", &nothing()), Err(Blocked::NotPublic));
    let wider = outbound(&["127.0.0.0/8", "127.0.0.1"]);
    assert_eq!(
        judge(rules, "http://127.0.0.1:9001/", &wider),
        Err(Blocked::PlainHttp),
        "http needs the very host and port"
    );
    assert_eq!(judge(rules, "https://127.0.0.1:9001/", &wider), Ok(()));
}

#[test]
fn refused_when_written() {
    for (text, why) in [
        ("*.com", RuleError::PublicSuffix),
        ("*.co.uk", RuleError::PublicSuffix),
        ("*.github.io", RuleError::PublicSuffix),
        ("*.公司.cn", RuleError::PublicSuffix),
        ("*.xn--55qx5d.cn", RuleError::PublicSuffix),
        ("*.kawasaki.jp", RuleError::PublicSuffix),
        ("*.foo.kawasaki.jp", RuleError::PublicSuffix),
        ("*.compute.amazonaws.com", RuleError::PublicSuffix),
        ("*.CO.UK.", RuleError::PublicSuffix),
        ("*.localhost", RuleError::PublicSuffix),
        ("*", RuleError::Everything),
        ("*.", RuleError::Everything),
        ("*:443", RuleError::Everything),
        ("https://x", RuleError::Scheme),
        ("10.0.0.0/8", RuleError::Range),
        ("[2001:db8::]/32", RuleError::Range),
        ("2001:db8::/32", RuleError::Brackets),
        ("", RuleError::Empty),
        ("/v1", RuleError::NoHost),
        (":443", RuleError::NoHost),
        (".", RuleError::NoHost),
        ("a..example.com", RuleError::Host),
        (".example.com", RuleError::Host),
        ("api%2eexample.com", RuleError::Host),
        ("a.*.example.com", RuleError::Wildcard),
        ("*.*.example.com", RuleError::Wildcard),
        ("*example.com", RuleError::Wildcard),
        ("*.10.0.0.1", RuleError::WildcardAddress),
        ("x@example.com", RuleError::UserInfo),
        ("example.com\\v1", RuleError::Backslash),
        ("example.com?q", RuleError::Query),
        ("example.com/#x", RuleError::Query),
        ("example.com,b.com /", RuleError::Space),
        ("example.com\n", RuleError::Space),
        ("example.com:", RuleError::Port),
        ("example.com:0", RuleError::Port),
        ("example.com:65536", RuleError::Port),
        ("example.com:0443", RuleError::Port),
        ("example.com:https", RuleError::Port),
        ("2130706433", RuleError::OddAddress),
        ("0x7f.1", RuleError::OddAddress),
        ("127.0.0.01", RuleError::OddAddress),
        ("[0:0:0:0:0:0:0:1]", RuleError::OddAddress),
        ("::1", RuleError::Brackets),
        ("[::1", RuleError::Brackets),
        ("example.com/v1/../x", RuleError::DotSegment),
        ("example.com/v1%2fx", RuleError::DotSegment),
        ("example.com/%2E", RuleError::DotSegment),
        ("example.com/é", RuleError::Path),
        ("example.com/a%2", RuleError::Path),
        ("example.com/a%zz", RuleError::Path),
        ("example.com/<a>", RuleError::Path),
    ] {
        assert_eq!(Rule::parse(text), Err(why), "{text:?}");
    }
}

#[test]
fn rules_read_back_as_written_in_normal_form() {
    for (text, shown) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.com.", "api.example.com"),
        ("*.Example.com:8443/v1", "*.example.com:8443/v1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("127.0.0.1:9001", "127.0.0.1:9001"),
        ("[2001:db8::1]:8443/a%20b/@x", "[2001:db8::1]:8443/a%20b/@x"),
        ("*.amazonaws.com", "*.amazonaws.com"),
        ("localhost:9001", "localhost:9001"),
        ("example.com/", "example.com/"),
    ] {
        assert_eq!(rule(text).to_string(), shown);
        assert_eq!(rule(shown), rule(text));
    }
}

#[test]
fn rules_are_bounded() {
    let path = "x".repeat(DESTINATION_RULE_CHARS_MAX - "example.com/".len());
    assert!(Rule::parse(&format!("example.com/{path}")).is_ok());
    assert_eq!(Rule::parse(&format!("example.com/{path}x")), Err(RuleError::TooLong));

    let texts: Vec<String> = (0..=DESTINATION_RULES_MAX).map(|n| format!("h{n}.example.com")).collect();
    assert_eq!(Rules::parse_all(&texts[1..]).unwrap().texts(), texts[1..]);
    assert_eq!(Rules::parse_all(&texts), Err(RulesError::TooMany(DESTINATION_RULES_MAX + 1)));

    let refused = Rules::parse_all(&["a.example".to_owned(), "*.com".to_owned()]).unwrap_err();
    assert_eq!(refused, RulesError::Rule { index: 1, error: RuleError::PublicSuffix });
    assert_eq!(Error::from(refused).details["field"], "allowed_hosts[1]");
}

#[test]
fn urls_are_bounded() {
    let path = "é".repeat(URL_CHARS_MAX - "https://example.com/".len());
    assert!(Target::parse(&format!("https://example.com/{path}")).is_ok());
    assert_eq!(Target::parse(&format!("https://example.com/{path}é")), Err(Blocked::TooLong));
}

#[test]
fn what_a_parser_would_repair_is_blocked() {
    for (url, why) in [
        ("", Blocked::NotAbsolute),
        ("/v1", Blocked::NotAbsolute),
        ("//api.example.com/", Blocked::NotAbsolute),
        ("https:api.example.com", Blocked::NotAbsolute),
        ("https:/api.example.com", Blocked::NotAbsolute),
        ("ftp://api.example.com/", Blocked::Scheme),
        ("file:///etc/passwd", Blocked::Scheme),
        ("wss://api.example.com/", Blocked::Scheme),
        ("https:///api.example.com/", Blocked::EmptyHost),
        ("https://", Blocked::EmptyHost),
        ("https://:443/", Blocked::EmptyHost),
        ("https://?x", Blocked::EmptyHost),
        (" https://api.example.com/", Blocked::ControlCharacter),
        ("https://api.example.com/v1 ", Blocked::ControlCharacter),
        ("https://api.exa\tmple.com/", Blocked::ControlCharacter),
        ("https://api.example.com/\r\nx", Blocked::ControlCharacter),
        ("https://api.example.com/\0", Blocked::ControlCharacter),
        ("https://api.example.com\\@evil.net/", Blocked::Backslash),
        ("https:\\\\api.example.com/", Blocked::Backslash),
        ("https://api.example.com/#x", Blocked::Fragment),
        ("https://api.example.com#@evil.net/", Blocked::Fragment),
        ("https://user:pass@api.example.com/", Blocked::UserInfo),
        ("https://@api.example.com/", Blocked::UserInfo),
        ("https://api.example.com@evil.net/", Blocked::UserInfo),
        ("https://api.example.com%40evil.net/", Blocked::Host),
        ("https://api%2eexample.com/", Blocked::Host),
        ("https://api example.com/", Blocked::Host),
        ("https://[fe80::1%25eth0]/", Blocked::Host),
        ("https://api..example.com/", Blocked::Host),
        ("https://api.example.com../", Blocked::Host),
        ("https://api.example.com:65536/", Blocked::Host),
        ("https://api.example.com:x/", Blocked::Host),
        ("https://256.1.1.1/", Blocked::Host),
        ("https://1.2.3.4.5/", Blocked::Host),
    ] {
        assert_eq!(Target::parse(url).map(|_| ()), Err(why), "{url:?}");
        assert_eq!(judge_any(url, &nothing()), Err(why), "also without rules: {url:?}");
    }
    assert!(Target::parse("https://api.example.com/a@b?c=d@e").is_ok(), "an @ after the host is no user info");
}

#[test]
fn a_target_shows_its_parsed_form_and_never_its_query_values() {
    let target = Target::parse("https://Bücher.example.:443/v1/../a?key=s3cret&page=2&key=x&%41").unwrap();
    assert_eq!((target.host().as_ref(), target.port(), target.path()), ("xn--bcher-kva.example", 443, "/a"));
    assert!(target.is_https() && target.address().is_none());
    assert_eq!(target.query_names().collect::<Vec<_>>(), ["key", "page", "key", "A"]);
    assert_eq!(format!("{target:?}"), "Target(https://xn--bcher-kva.example:443/a)");
    assert_eq!(target.as_str(), "https://xn--bcher-kva.example/a?key=s3cret&page=2&key=x&%41");

    let target = Target::parse("http://[::1]:8080").unwrap();
    assert_eq!((target.host().as_ref(), target.port(), target.path()), ("[::1]", 8080, "/"));
    assert!(!target.is_https() && target.address().is_some());
}

#[test]
fn disguised_addresses_are_judged_as_addresses() {
    for host in [
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::]",
        "[::]",
        "0",
        "10.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
    ] {
        assert_eq!(judge_any(&format!("https://{host}/"), &nothing()), Err(Blocked::NotPublic), "{host}");
    }
    for host in [
        "8.8.8.8",
        "134744072",
        "[2606:4700::1111]",
        "[64:ff9b::8.8.8.8]",
        "[::ffff:8.8.8.8]",
        "api.example.com",
        "localhost.example",
    ] {
        assert_eq!(judge_any(&format!("https://{host}/"), &nothing()), Ok(()), "{host}");
        assert_eq!(judge_any(&format!("http://{host}/"), &nothing()), Err(Blocked::PlainHttp), "{host}");
    }
    let allowed = outbound(&["127.0.0.1:9001"]);
    assert_eq!(judge_any("http://2130706433:9001/", &allowed), Ok(()), "the same address and port");
    assert_eq!(judge(&["127.0.0.1:9001"], "http://0x7f.1:9001/", &allowed), Ok(()));
    assert_eq!(judge_any("http://127.0.0.1:1/", &allowed), Err(Blocked::PlainHttp));
    assert_eq!(judge_any("https://127.0.0.1:1/", &allowed), Err(Blocked::NotPublic));
    assert_eq!(judge_any("https://localhost/", &outbound(&["localhost"])), Ok(()));
}

#[test]
fn metadata_needs_its_own_entry() {
    let url = "https://169.254.169.254/latest";
    assert_eq!(judge_any(url, &outbound(&["169.254.0.0/16", "0.0.0.0/0"])), Err(Blocked::NotPublic));
    assert_eq!(judge_any("https://169.254.1.1/", &outbound(&["169.254.0.0/16"])), Ok(()));
    for entry in ["169.254.169.254", "169.254.169.254:443", "169.254.169.254/32"] {
        assert_eq!(judge_any(url, &outbound(&[entry])), Ok(()), "{entry}");
    }
    assert_eq!(judge_any(url, &outbound(&["169.254.169.254:80"])), Err(Blocked::NotPublic));
    assert_eq!(judge_any("https://[fd00:ec2::254]/", &outbound(&["fd00::/8", "::/0"])), Err(Blocked::NotPublic));
    assert_eq!(judge_any("https://[::ffff:169.254.169.254]/", &outbound(&["::/0"])), Err(Blocked::NotPublic));
    assert_eq!(judge_any("https://168.63.129.16/", &nothing()), Err(Blocked::NotPublic));

    let named = Target::parse("https://vault.internal/").unwrap();
    let by_name = outbound(&["vault.internal"]);
    assert!(by_name.permits(&named, "10.0.0.5".parse().unwrap()), "a listed name may be private");
    assert!(!by_name.permits(&named, "169.254.169.254".parse().unwrap()), "but not the metadata service");
    assert!(!by_name.permits(&Target::parse("https://other.internal/").unwrap(), "10.0.0.5".parse().unwrap()));
}

#[test]
fn outbound_entries_are_read_or_named() {
    let good = [
        "localhost:9001",
        "Git.Internal.",
        "127.0.0.1:9001",
        "::1",
        "[::1]:9001",
        "[fd00::1]",
        "10.0.0.0/8",
        "fd00::/8",
        "10.1.2.3/32",
    ];
    let shown = r#"["localhost:9001", "git.internal", "127.0.0.1:9001", "[::1]", "[::1]:9001", "[fd00::1]", "10.0.0.0/8", "fd00::/8", "10.1.2.3"]"#;
    assert_eq!(format!("{:?}", outbound(&good)), shown);
    for (entry, why) in [
        ("", OutboundError::Entry(1)),
        ("https://x", OutboundError::Entry(1)),
        ("10.0.0.0/33", OutboundError::Entry(1)),
        ("a b", OutboundError::Entry(1)),
        ("x:0", OutboundError::Port(1)),
        ("x:70000", OutboundError::Port(1)),
        ("10.0.0.1/8", OutboundError::HostBits(1)),
        ("*.internal", OutboundError::Wildcard(1)),
    ] {
        assert_eq!(OutboundAllow::parse(&["ok", entry]), Err(why), "{entry:?}");
    }
    let many = vec!["x"; 1_001];
    assert!(OutboundAllow::parse(&many[1..]).is_ok());
    assert_eq!(OutboundAllow::parse(&many), Err(OutboundError::TooMany(1_001)));
}

#[test]
fn refusals_have_distinct_names_and_fixed_texts() {
    let refused = judge_any("https://2130706433/?key=s3cret", &nothing()).unwrap_err();
    let json = serde_json::to_string(&Error::from(refused)).unwrap();
    assert!(!json.contains("127.0.0.1") && !json.contains("s3cret") && !json.contains("2130706433"), "{json}");
    assert!(json.contains(r#""error":"blocked_destination""#) && json.contains(r#""reason":"not_public""#), "{json}");
}

fn label() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?"
}

fn host() -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 2..5).prop_map(|labels| format!("{}.example", labels.join(".")))
}

/// What the rule means, computed from text alone.
fn expected(rule_text: &str, host: &str) -> bool {
    match rule_text.strip_prefix("*.") {
        Some(name) => host.ends_with(&format!(".{name}")),
        None => host == rule_text,
    }
}

proptest! {
    #[test]
    fn a_longer_host_never_matches(host in host(), suffix in "[a-z0-9.-]{1,12}") {
        let rules = [rule(&host)];
        for url in [format!("https://{host}{suffix}/"), format!("https://{host}.{suffix}/"), format!("https://x{host}/")] {
            if let Ok(target) = Target::parse(&url) {
                let same = target.host() == host.as_str();
                prop_assert_eq!(allow(&target, &rules, false, &nothing()).is_ok(), same, "{}", url);
                prop_assert!(!same || url == format!("https://{host}./"), "{}", url);
            }
        }
    }

    #[test]
    fn user_info_never_passes(host in host(), evil in host(), trick in "[a-z0-9:%@.!$&'()*+,;=_~-]{0,12}") {
        for url in [
            format!("https://{host}@{evil}/"), format!("https://{host}{trick}@{evil}/"), format!("https://{trick}@{host}/"),
            format!("https://{host}:443@{evil}/"), format!("https://{host}%40{evil}/"), format!("https://{host}\\@{evil}/"),
            format!("https://{host}#@{evil}/"),
        ] {
            prop_assert!(Target::parse(&url).is_err(), "{}", url);
        }
        // Behind a `?` or `/` the first host is the host for every parser.
        for url in [format!("https://{evil}/@{host}/{trick}"), format!("https://{evil}?@{host}")] {
            if evil != host && !url.contains("://@") {
                prop_assert_ne!(judge(&[&host], &url, &nothing()), Ok(()), "{}", url);
            }
        }
    }

    #[test]
    fn a_wildcard_never_matches_its_apex_and_always_whole_labels(name in host(), labels in prop::collection::vec(label(), 1..4)) {
        let wildcard = format!("*.{name}");
        let below = labels.join(".");
        prop_assert_eq!(judge(&[&wildcard], &format!("https://{name}/"), &nothing()), Err(Blocked::NoRule));
        prop_assert_eq!(judge(&[&wildcard], &format!("https://{below}{name}/"), &nothing()), Err(Blocked::NoRule));
        prop_assert_eq!(judge(&[&wildcard], &format!("https://{below}.{name}/"), &nothing()), Ok(()));
    }

    #[test]
    fn whatever_matches_has_the_rules_host(name in host(), wild in any::<bool>(), authority in "[a-z0-9.:@%*-]{0,10}", cut in 0usize..30) {
        let text = if wild { format!("*.{name}") } else { name.clone() };
        let cut = cut.min(name.len());
        for host in [format!("{authority}{}", &name[cut..]), format!("{}{authority}", &name[..cut]), format!("{}{authority}{}", &name[..cut], &name[cut..])] {
            let Ok(target) = Target::parse(&format!("https://{host}/")) else { continue };
            let allowed = allow(&target, &[rule(&text)], false, &nothing()).is_ok();
            let written = match host.split_once(':') {
                Some((written, "")) => written,
                Some((written, port)) if port.parse() == Ok(443) => written,
                _ => &host,
            };
            let written = written.strip_suffix('.').unwrap_or(written);
            prop_assert_eq!(allowed, expected(&text, written), "{} {}", text, host);
        }
    }

    #[test]
    fn any_text_is_judged_without_panic(url in "\\PC{0,40}", rule_text in "\\PC{0,30}") {
        let target = Target::parse(&format!("https://{url}")).or_else(|_| Target::parse(&url));
        if let Ok(rule) = Rule::parse(&rule_text) {
            prop_assert_eq!(Rule::parse(&rule.to_string()), Ok(rule.clone()));
            if let Ok(target) = &target {
                let _ = allow(target, &[rule], false, &nothing());
            }
        }
    }

    #[test]
    fn a_prefix_holds_for_every_path_it_matches(tail in "[a-z0-9./%;2eEfF5cC-]{0,16}") {
        let url = format!("https://api.example.com/v1{tail}");
        if judge(&["api.example.com/v1"], &url, &nothing()).is_ok() {
            let mut decoded = tail.to_ascii_lowercase();
            for (code, plain) in [("%2e", "."), ("%2f", "/"), ("%5c", "/")] {
                decoded = decoded.replace(code, plain);
            }
            prop_assert!(decoded.is_empty() || decoded.starts_with('/'), "{}", url);
            prop_assert!(!decoded.split('/').any(|segment| segment == ".." || segment == "."), "{}", url);
        }
    }

    #[test]
    fn mapped_addresses_are_as_public_as_their_inner_ones(bits in any::<u32>()) {
        let inner = Ipv4Addr::from(bits);
        prop_assert_eq!(is_public(IpAddr::V6(inner.to_ipv6_mapped())), is_public(IpAddr::V4(inner)));
    }
}
