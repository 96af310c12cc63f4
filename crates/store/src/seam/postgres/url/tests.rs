use super::*;

fn parsed(text: &str) -> PostgresUrl {
    PostgresUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn error(text: &str) -> String {
    PostgresUrl::parse(text).err().unwrap_or_else(|| panic!("{text} was taken"))
}

#[test]
fn a_url_is_read_and_shown_without_its_password() {
    let expected = [
        ("postgres://u:CANARY@db.example.com/x", "postgres://u:***@db.example.com:5432/x?sslmode=verify-full"),
        ("postgresql://u@127.0.0.1:5433/x", "postgres://u@127.0.0.1:5433/x?sslmode=disable"),
        ("postgres://u@[::1]/x", "postgres://u@[::1]:5432/x?sslmode=disable"),
        ("postgres:///x", "postgres://localhost:5432/x?sslmode=disable"),
        ("postgres://", "postgres://localhost:5432/?sslmode=disable"),
        ("postgres://u@a,b:6432/x", "postgres://u@a:5432,b:6432/x?sslmode=verify-full"),
        ("postgres://u@/x?host=a,b&port=6432", "postgres://u@a:6432,b:6432/x?sslmode=verify-full"),
        ("postgres://u@/x?host=a,b&port=1,", "postgres://u@a:1,b:5432/x?sslmode=verify-full"),
        ("postgres:///x?user=u&password=CANARY", "postgres://u:***@localhost:5432/x?sslmode=disable"),
        ("postgres:///x?host=/run/postgresql", "postgres://%2Frun%2Fpostgresql:5432/x?sslmode=disable"),
        ("postgres://%2Frun%2Fpostgresql/x", "postgres://%2Frun%2Fpostgresql:5432/x?sslmode=disable"),
        ("postgres://u@A.Example/x?sslmode=disable", "postgres://u@a.example:5432/x?sslmode=disable"),
        (
            "postgres://u@h/x?sslrootcert=/etc/ca.pem&target_session_attrs=read-write&application_name=one",
            "postgres://u@h:5432/x?sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=one",
        ),
        (
            "postgres://u@localhost/x?sslrootcert=ca.pem",
            "postgres://u@localhost:5432/x?sslmode=verify-full&sslrootcert=ca.pem",
        ),
        ("postgres://u@h/x?sslrootcert=system", "postgres://u@h:5432/x?sslmode=verify-full"),
        ("postgres://u%40e:p%2F%3A%40@h/x", "postgres://u%40e:***@h:5432/x?sslmode=verify-full"),
    ];
    for (text, shown) in expected {
        let url = parsed(text);
        assert_eq!(url.to_string(), shown, "{text}");
        assert_eq!(format!("{url:?}"), shown);
        if url.password.is_none() {
            assert_eq!(parsed(shown), url, "what is shown means the same");
        }
    }
    assert_eq!(parsed("postgres://u%40e:p%2F%3A%40@h/x").password.as_deref(), Some("p/:@"));
    assert_eq!(parsed("postgres://u:p:q@h/x").password.as_deref(), Some("p:q"));
}

#[test]
fn modes_that_verify_nothing_are_refused_by_name() {
    for mode in ["allow", "prefer", "require", "verify-ca"] {
        let error = error(&format!("postgres://u@h/x?sslmode={mode}"));
        assert!(
            error.starts_with(&format!("sslmode={mode} does not check")) && error.contains("verify-full"),
            "{error}"
        );
    }
    assert!(error("postgres://u@h/x?sslmode=on").contains("verify-full or disable"));
    assert!(error("postgres://u@h/x?sslmode=disable&sslrootcert=f").contains("sslrootcert"));
    assert!(error("postgres://u@h/x?sslrootcert=").contains("sslrootcert is empty"));
    assert!(error("postgres:///x?host=/run&sslmode=verify-full").contains("Unix socket"));
}

#[test]
fn tls_is_left_out_only_where_nobody_is_between() {
    for (hosts, mode) in [
        ("localhost", SslMode::Disable),
        ("127.0.0.2", SslMode::Disable),
        ("[::1]", SslMode::Disable),
        ("localhost,127.0.0.1", SslMode::Disable),
        ("localhost,db", SslMode::VerifyFull),
        ("10.0.0.1", SslMode::VerifyFull),
        ("localhost.example.com", SslMode::VerifyFull),
        ("127.0.0.1.example.com", SslMode::VerifyFull),
    ] {
        let url = parsed(&format!("postgres://u@{hosts}/x"));
        assert_eq!(url.ssl_mode, mode, "{hosts}");
        assert_eq!(url.warning(), None);
    }
    assert_eq!(parsed("postgres://u@localhost/x?sslmode=disable").warning(), None);
    assert!(parsed("postgres://u@localhost,db/x?sslmode=disable").warning().is_some_and(|w| w.contains("db:5432")));
}

#[test]
fn nothing_is_ignored() {
    for (text, what) in [
        ("postgres://u@h/x?sslmod=disable", "`sslmod`"),
        ("postgres://u@h/x?connect_timeout=3", "`connect_timeout`"),
        ("postgres://u@h/x?options=-cfsync%3Doff", "`options`"),
        ("postgres://u@h/x?sslmode=verify-full&sslmode=verify-full", "twice"),
        ("postgres://u@h/x?user=v", "twice"),
        ("postgres://u@h/x?host=v", "twice"),
        ("postgres://u@h/x?target_session_attrs=any", "read-write"),
        ("postgres://u@h/x?target_session_attrs=prefer-standby", "read-write"),
        ("postgres://u@h:0/x", "65535"),
        ("postgres://u@h:65536/x", "65535"),
        ("postgres://u@h:x/x", "65535"),
        ("postgres://u@a,b/x?port=1,2,3", "2 hosts and 3 ports"),
        ("postgres://u@a,/x", "a host"),
        ("postgres://u@h$/x", "a host"),
        ("postgres://u@h/x?host=/a,b", "twice"),
        ("postgres:///x?host=/a,b", "only host"),
        ("postgres://u:%zz@h/x", "%25"),
        ("postgres://u:%ff@h/x", "%25"),
        ("postgres://u:%00@h/x", "NUL"),
        ("postgres://u@h/x/y", "percent-encoded"),
        ("mysql://u@h/x", "postgres://"),
        ("postgres:u@h/x", "postgres://"),
    ] {
        let error = error(text);
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn hosts_are_bounded() {
    let of = |n: usize| format!("postgres://u@{}/x", vec!["h"; n].join(","));
    assert_eq!(parsed(&of(HOSTS_MAX)).hosts.len(), HOSTS_MAX);
    assert!(error(&of(HOSTS_MAX + 1)).contains("9 hosts, and 8"));
}

#[test]
fn a_password_that_was_not_encoded_is_never_repeated() {
    for text in [
        "postgres://user:canary/canary@h/x",
        "postgres://user:canary?canary@h/x",
        "postgres://user:canary?canary=canary@h/x",
        "postgres://user:canary@canary@h/x",
        "postgres://user:canary#canary@h/x",
        "postgres://user:canary%canary@h/x",
        "postgres://user:canary canary@h/x",
        "canary://user:canary@h/x",
    ] {
        let error = error(text);
        assert!(!error.contains("canary"), "{error}");
    }
}
