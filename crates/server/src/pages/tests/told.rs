//! What the app is told, and how text and addresses of others are shown.

use serde_json::json;

use super::super::shown::{NAME_CHARS_MAX, host, name, origin, url};
use super::super::*;

fn granted<'a>(account: Option<&'a str>, scopes: &'a [&'a str]) -> Granted<'a> {
    Granted {
        grant_id: "0198-1",
        provider: "google",
        provider_name: "Google",
        account_identifier: account,
        account_name: account.map(|_| "Someone"),
        timestamp: TimeMs(1_795_960_800_000),
        operation: Operation::Reauth,
        scopes,
    }
}

#[test]
fn the_window_that_opened_this_one_gets_the_message_it_waits_for() {
    let grants = [granted(Some("a@b.example"), &["mail.read", "mail.send"]), granted(None, &[])];
    let message = Ending::Connected(&grants).message();
    assert_eq!(
        message,
        json!({"type": "alter_connect_success", "grants": [
            {"grant_id": "0198-1", "provider": "google", "provider_name": "Google", "account_identifier": "a@b.example",
             "timestamp": "2026-11-29T14:00:00.000Z", "operation": "reauth", "scopes": ["mail.read", "mail.send"]},
            {"grant_id": "0198-1", "provider": "google", "provider_name": "Google",
             "timestamp": "2026-11-29T14:00:00.000Z", "operation": "reauth", "scopes": []},
        ]})
    );
    for ending in [
        Ending::Declined { code: "connect_denied", description: "The user said no." },
        Ending::Failed { code: "connect_denied", description: "The user said no." },
    ] {
        assert_eq!(
            ending.message(),
            json!({"type": "alter_connect_error", "error": "connect_denied", "error_description": "The user said no."})
        );
    }
}

#[test]
fn the_way_back_says_what_happened() {
    let grants = [granted(Some("a+b@c.example"), &["mail.read", "mail.send"])];
    let back = |to: &str| Ending::Connected(&grants).return_url(to);
    let said = "alter_connect_success=true&grant_id=0198-1&provider=google&account_identifier=a%2Bb%40c.example\
                &provider_name=Google&timestamp=2026-11-29T14%3A00%3A00.000Z&operation=reauth&scopes=mail.read%2Cmail.send";
    for (to, expected) in [
        ("https://x.example/back", format!("https://x.example/back?{said}")),
        ("https://x.example/back?a=1", format!("https://x.example/back?a=1&{said}")),
        ("https://x.example/back?a=1&", format!("https://x.example/back?a=1&{said}")),
        ("https://x.example/back?", format!("https://x.example/back?{said}")),
        ("https://x.example/back?a=1#top", format!("https://x.example/back?a=1&{said}#top")),
        ("https://x.example/#/route?a=1", format!("https://x.example/?{said}#/route?a=1")),
        ("http://localhost:3000", format!("http://localhost:3000?{said}")),
    ] {
        assert_eq!(back(to), Some(expected), "{to}");
    }
    for bad in ["javascript:alert(1)", "/back", "http://x.example/", "myapp://back", ""] {
        assert_eq!(back(bad), None, "{bad}");
    }
}

#[test]
fn what_the_way_back_needs_is_never_empty() {
    let grants = [granted(None, &[])];
    let url = Ending::Connected(&grants).return_url("https://x.example/").unwrap();
    assert!(url.contains("&account_identifier=google&") && !url.contains("scopes="), "{url}");
    let failed = Ending::Failed { code: "invalid_client", description: "Two words & more" };
    assert_eq!(
        failed.return_url("https://x.example/").unwrap(),
        "https://x.example/?alter_connect_error=true&error_code=invalid_client&error_description=Two+words+%26+more"
    );
    assert_eq!(Ending::Connected(&[]).return_url("https://x.example/"), None);
}

#[test]
fn names_are_one_line_of_what_can_be_seen() {
    for (text, shown) in [
        ("Fernway Travel", "Fernway Travel"),
        ("  a \t\r\n b\u{2028}c  ", "a b c"),
        ("\u{202e}live\u{202c}", "live"),
        ("a\u{200b}b\0c\u{7f}\u{9f}d", "abcd"),
        ("\u{3164}\u{115f}", "?"),
        ("", "?"),
        ("😀\u{200d}👩", "😀\u{200d}👩"),
        ("می\u{200c}خواهم", "می\u{200c}خواهم"),
        ("e\u{301}\u{302}\u{303}\u{304}x", "e\u{301}\u{302}x"),
    ] {
        assert_eq!(name(text), shown, "{text:?}");
    }
    let longest = "x".repeat(NAME_CHARS_MAX);
    assert_eq!(name(&longest), longest);
    assert_eq!(name(&format!("{longest}y")), format!("{longest}…"));
    assert_eq!(name(&format!("{} yz", "x".repeat(NAME_CHARS_MAX - 1))), format!("{}…", "x".repeat(NAME_CHARS_MAX - 1)));
}

#[test]
fn addresses_are_links_only_when_they_go_where_they_say() {
    for (address, found) in [
        ("https://x.example", Some("x.example")),
        ("https://x.example:8443/a?b=c#d", Some("x.example:8443")),
        ("https://xn--bnk-0na.example/", Some("xn--bnk-0na.example")),
        ("http://localhost:3000/", Some("localhost:3000")),
        ("http://127.0.0.1/", Some("127.0.0.1")),
        ("http://[::1]:80/", Some("[::1]:80")),
        ("https://[2001:db8::1]/", Some("[2001:db8::1]")),
        ("http://localhost.evil.example/", None),
        ("http://127.0.0.1@evil.example/", None),
        ("https://a@b.example/", None),
        ("https://.example/", None),
        ("https:///x", None),
        ("HTTPS://x.example/", None),
        ("ftp://x.example/", None),
    ] {
        assert_eq!(host(address), found, "{address}");
        assert_eq!(url(address).is_some(), found.is_some(), "{address}");
    }
    assert_eq!(origin("https://x.example:8443/a?b#c"), Some("https://x.example:8443"));
    assert_eq!(origin("https://x.example?y"), Some("https://x.example"));
    assert_eq!(url("https://x.example/a b"), None);
    assert_eq!(url("https://x.example/\u{202e}"), None);
}

#[test]
fn an_end_is_told_in_words_and_for_machines() {
    let (app, session) = (
        App { name: "Fernway", website: None, brand_css_href: None, logo: None },
        Session { id: "s", csrf: "c", user: None, several: false },
    );
    let provider = Provider { id: "google", name: "Google" };
    let (until, scopes) = (Some(TimeMs(1_795_960_800_000)), &[][..]);
    let consent = Consent { app, session, provider, scopes, repair: None, until, direct: false };
    let page = html(&Site { base: "", host: "x" }, &Page::Consent(consent));
    assert!(
        page.contains("<time datetime=\"2026-11-29T14:00:00.000Z\" data-local>29 November 2026, 14:00 UTC</time>"),
        "{page}"
    );
}
