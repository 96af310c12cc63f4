//! Every page in every form, read as a browser reads it.

mod languages;
mod look;
mod read;
mod samples;
mod told;

use std::collections::BTreeSet;

use super::render::TEMPLATES;
use super::texts::{Part, Texts};
use super::*;
use read::Document;
use samples::Words;

/// Names that try to be something else.
fn hostile() -> Vec<String> {
    let mut names: Vec<String> = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></main><h1>Sign in again</h1>",
        "{{ base }}{% raw %}",
        "<!-- ",
        "]]>&lt;&#60;",
        "\u{202e}elgooG\u{202c}\u{2066}\u{2069}",
        "\u{200b}\u{2060}\u{3164}",
        "line\r\nSet-Cookie: a=b\u{2028}next\0",
        "javascript:alert(1)",
        "שלום עולם",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("W".repeat(2_000));
    names.push("Z\u{351}".repeat(700));
    names
}

fn documents(words: &Words) -> Vec<(String, Document)> {
    let mut all = Vec::new();
    words.each(|name, page| all.push((name.to_owned(), Document::read(&html(&words.site(), page)))));
    all
}

#[test]
fn every_page_is_sound() {
    let words = Words::plain();
    for (name, page) in documents(&words) {
        assert_eq!(page.errors, Vec::<String>::new(), "{name}");
        assert_eq!(page.one("html")["lang"], "en");
        for once in ["h1", "main", "footer", "title"] {
            assert_eq!(page.all(once).count(), 1, "{name} has one {once}");
        }
        assert!(!page.title.trim().is_empty() && !page.title.contains('<'), "{name}: {:?}", page.title);
        let ids: Vec<&String> = page.elements.iter().filter_map(|e| e.attributes.get("id")).collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{name}: {ids:?}");
        for element in &page.elements {
            let named =
                ["for", "aria-labelledby", "aria-describedby"].iter().filter_map(|a| element.attributes.get(*a));
            for id in named.flat_map(|list| list.split(' ')) {
                assert!(ids.iter().any(|known| *known == id), "{name}: nothing has the id {id}");
            }
        }
        for button in page.all("button") {
            assert!(button.contains_key("type"), "{name}");
        }
    }
}

#[test]
fn no_page_runs_what_stands_in_it() {
    let mut all = vec![Words::plain()];
    all.extend(hostile().into_iter().map(|name| Words { name: name.clone(), id: name, ..Words::plain() }));
    for words in all {
        for (name, page) in documents(&words) {
            assert_eq!(page.all("style").count(), 0, "{name}");
            for script in page.all("script") {
                assert!(script["src"].starts_with("/vault/assets/connect."), "{name}: {script:?}");
            }
            assert_eq!(page.in_script, "", "{name}");
            for element in &page.elements {
                for (attribute, value) in &element.attributes {
                    assert!(attribute != "style" && !attribute.starts_with("on"), "{name}: {attribute}={value}");
                }
            }
        }
    }
}

#[test]
fn every_form_is_ours_and_carries_what_proves_it() {
    let words = Words { id: "id&1".to_owned(), ..Words::plain() };
    let mut forms = 0;
    for (name, page) in documents(&words) {
        for form in &page.forms {
            forms += 1;
            assert_eq!(form.attributes["method"], "post", "{name}");
            let action = form.attributes["action"].as_str();
            if action == "/vault/connect/open" {
                // There is no session yet that a proof could belong to.
                assert!(form.fields.contains_key("session"), "{name}");
                continue;
            }
            assert_eq!(form.fields["csrf"], "id&1", "{name}");
            if let Some(action) = action.strip_prefix("/vault/sign-in/id%261/") {
                assert!(["start", "decline"].contains(&action), "{name} posts to {action}");
                continue;
            }
            match action.strip_prefix("/vault/connect/id%261/").expect("forms go to their session") {
                "start" | "decline" | "key" | "approve" => assert_eq!(form.fields["provider"], "id&1", "{name}"),
                "finish" | "sign-in" => assert!(!form.fields.contains_key("provider"), "{name}"),
                other => panic!("{name} posts to {other}"),
            }
        }
    }
    assert!(forms > 20, "{forms}");
}

#[test]
fn names_of_others_never_become_markup() {
    let shape = |words: &Words| -> Vec<(String, Vec<String>)> {
        documents(words).into_iter().map(|(name, page)| (name, page.shape())).collect()
    };
    let expected = shape(&Words::plain());
    for name in hostile() {
        // Ids are ours: none holds a NUL, which HTML cannot say.
        let words = Words { name: name.clone(), id: format!("i{name}").replace('\0', ""), ..Words::plain() };
        for ((page, expected), (_, found)) in expected.iter().zip(shape(&words)) {
            assert_eq!(expected, &found, "{page} with {name:?}");
        }
        for (page, document) in documents(&words) {
            assert_eq!(document.errors, Vec::<String>::new(), "{page} with {name:?}");
            let text = &document.text;
            assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}']), "{page}: {text}");
        }
    }
}

#[test]
fn only_plain_addresses_become_links() {
    let bad = [
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://x.example",
        " https://x.example",
        "https://x.example/\"onclick=",
        "https://x.example\\@evil.example/",
        "https://bank.example@evil.example/",
        "http://evil.example/",
        "http://127.0.0.1.evil.example/",
        "//evil.example",
        "data:text/html,hi",
        "https://",
        "https://bänk.example/",
        "https://x.example/\r\nSet-Cookie: a=b",
        "",
    ];
    for address in bad {
        let words = Words { website: address.to_owned(), url: address.to_owned(), ..Words::plain() };
        for (name, page) in documents(&words) {
            for element in &page.elements {
                for attribute in ["href", "src", "action", "content", "data-target", "data-return"] {
                    let Some(value) = element.attributes.get(attribute) else { continue };
                    let ours = value.starts_with("/vault/") || attribute == "content" && !value.contains("url=");
                    assert!(ours, "{name}: {attribute}={value:?} of {address:?}");
                }
            }
        }
    }
}

#[test]
fn every_address_of_ours_starts_with_the_base() {
    for base in ["", "/vault", "/a/b"] {
        let words = Words { base, ..Words::plain() };
        for (name, page) in documents(&words) {
            for element in &page.elements {
                for attribute in ["href", "src", "action"] {
                    let Some(value) = element.attributes.get(attribute) else { continue };
                    if value.starts_with("https://fernway.example/") {
                        continue;
                    }
                    let path = value.strip_prefix(base).unwrap_or_else(|| panic!("{name}: {value}"));
                    let known = ["/assets/", "/brand/app_1.css?v=", "/brand/app_1.png?v=", "/connect/", "/sign-in/"];
                    assert!(known.iter().any(|start| path.starts_with(start)), "{name}: {value}");
                    if path.starts_with("/assets/") {
                        assert!(asset(path).is_some(), "{name}: {path}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_page_speaks_as_a_protocol() {
    let jargon = ["oauth", "token", "scope", "redirect", "session", "csrf", "callback", "grant"];
    for (name, page) in documents(&Words::plain()) {
        let text = page.text.to_lowercase().replace("grantd", "");
        for word in jargon {
            assert!(!text.contains(word), "{name} says {word}: {text}");
        }
        assert!(!text.contains("sorry") && !text.contains('!'), "{name}: {text}");
    }
}

/// Keys that stand in the templates as they are, and those that are put together there.
fn keys_in_templates() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (_, template) in TEMPLATES {
        for call in ["t(\"", "plain(\""] {
            for (at, _) in template.match_indices(call) {
                let (before, rest) = (&template[..at], &template[at + call.len()..]);
                // `asset("` ends like `t("`.
                if before.ends_with(char::is_alphabetic) {
                    continue;
                }
                // `t("a" if x else "b")` is two; `t("failed." ~ reason)` none: below.
                let call = rest.split(')').next().unwrap().split(',').next().unwrap();
                let quoted = call.split('"').step_by(2);
                keys.extend(quoted.filter(|key| !key.ends_with('.') && !key.starts_with('.')).map(str::to_owned));
            }
        }
    }
    for (_, template) in TEMPLATES {
        for (at, call) in template.match_indices("tn(\"") {
            let key = template[at + call.len()..].split('"').next().unwrap();
            keys.extend(["one", "other"].map(|form| format!("{key}.{form}")));
        }
    }
    keys.extend(keys_of_the_portal());
    for reason in Reason::ALL {
        keys.extend(["title", "what", "next"].map(|part| format!("failed.{}.{part}", name_of(&reason))));
    }
    for end in SignInEnd::ALL {
        keys.extend(["title", "what", "next"].map(|part| format!("signed_in.{}.{part}", name_of(&end))));
    }
    for kind in TroubleKind::ALL {
        keys.extend(["title", "what", "next"].map(|part| format!("trouble.{}.{part}", name_of(&kind))));
    }
    for wrong in InputWrong::ALL {
        keys.insert(format!("key.wrong.{}", name_of(&wrong)));
    }
    for trouble in KeyTrouble::ALL {
        let why = serde_json::to_value(trouble).unwrap()["why"].as_str().unwrap().to_owned();
        keys.extend(["title", "what"].map(|part| format!("key.trouble.{why}.{part}")));
    }
    keys.extend((1..=12).map(|month| format!("month.{month:02}")));
    keys.extend(["time.utc", "number.group", "number.point", "number.percent"].map(str::to_owned));
    keys.extend(["finished.declined", "finished.failed"].map(str::to_owned));
    keys
}

/// Those of the portal that are put together.
fn keys_of_the_portal() -> Vec<String> {
    use crate::portal::SSO_REFUSALS;
    use crate::portal::routes::{APP_PLACES, DONE, PLACES};
    let mut keys: Vec<String> =
        PLACES.iter().chain(APP_PLACES).map(|place| format!("portal.nav.{}", place.key)).collect();
    keys.extend(DONE.iter().map(|done| format!("portal.done.{done}")));
    for part in ["title", "what"] {
        keys.extend(SSO_REFUSALS.iter().map(|kind| format!("portal.sso.refused.{kind}.{part}")));
    }
    let mut all = |prefix: &str, names: &[&str]| keys.extend(names.iter().map(|name| format!("portal.{prefix}{name}")));
    all("theme.", &["system", "light", "dark"]);
    all("role.", &["viewer", "developer", "admin"]);
    all("signed_in_by.", &["link", "password", "password_totp", "password_recovery_code", "passkey", "sso"]);
    all(
        "state.",
        &[
            "active",
            "archived",
            "deleted",
            "disabled",
            "expired",
            "revoked",
            "in_grace",
            "rotated",
            "suspended",
            "deprovisioned",
            "inactive",
        ],
    );
    all("outcome.", &["allowed", "denied", "error", "unknown"]);
    all("actor.", &["key", "operator", "scim", "webhook", "job", "nobody"]);
    all("principal.", &["system", "user", "group", "agent"]);
    all("refresh.", &["stable", "rotates", "unknown", "exchange", "none"]);
    all("pkce.", &["required", "supported", "unknown", "refused"]);
    all("tenant.", &["off", "observe", "enforce"]);
    all("scim.", &["suspend", "deprovision"]);
    let found = ["registered", "preset", "document", "issuer", "keys", "algorithms", "sign_in"];
    all("look.of.", &found);
    all("look.fix.", &found);
    all("look.level.", &["warning", "failure"]);
    all(
        "tested.",
        &[
            "works",
            "refused",
            "unclear",
            "rate_limited",
            "vendor_failed",
            "unexpected",
            "unreachable",
            "tls_failed",
            "timed_out",
        ],
    );
    all("upstream.", &["pending", "yes", "failed", "unsupported", "no"]);
    for (step, _) in grantd_domain::resolve::STEPS {
        all(&format!("step.{step}."), &["name", "ok"]);
    }
    all("", &["now", "day_short"]);
    let months: Vec<String> = (1..=12).map(|month| format!("{month:02}")).collect();
    all("month_short.", &months.iter().map(String::as_str).collect::<Vec<_>>());
    all("audit.", &["since", "until"]);
    all("audit.of.", &["grant", "user", "agent", "key", "provider", "request"]);
    for unit in ["minutes", "hours", "days"] {
        all(&format!("{unit}_ago."), &["one", "other"]);
    }
    for sentence in crate::sentence::Sentence::ALL {
        all("refusal.", &[sentence.key()]);
    }
    for kind in ["forbidden", "not_found", "too_many", "busy", "internal", "form"] {
        all(&format!("trouble.{kind}."), &["title"]);
    }
    keys
}

/// The name that serde gives a variant.
fn name_of(variant: &impl Serialize) -> String {
    serde_json::to_value(variant).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_sentence_is_used_and_every_used_one_exists() {
    let known: BTreeSet<String> = Texts::of(Lang::En).sentences.keys().cloned().collect();
    let used = keys_in_templates();
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the language file");
    assert_eq!(known.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "in no template");
}

#[test]
fn slots_of_sentences_are_those_that_the_pages_fill() {
    let fills = [
        "app", "provider", "account", "user", "host", "until", "count", "status", "day", "month", "year", "time",
        "number",
    ];
    // Pages of the portal are all drawn by the tests of its routes.
    for (key, parts) in Texts::of(Lang::En).sentences.iter().filter(|(key, _)| !key.starts_with("portal.")) {
        for part in parts {
            match part {
                Part::Slot(name) => assert!(fills.contains(&name.as_str()), "{key}: {name}"),
                Part::Text(text) => assert!(!text.contains(['{', '}', '<', '&']), "{key}: {text}"),
            }
        }
    }
}

#[test]
fn security_headers_are_on_every_page() {
    let words = Words::plain();
    words.each(|name, page| {
        let answer = answer(200, &words.site(), page);
        let header = |header: &str| answer.headers()[header].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8", "{name}");
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), "DENY");
        assert_eq!(header("cross-origin-opener-policy"), "unsafe-none");
    });
}

#[test]
fn what_is_kept_for_the_window_is_read_back_as_it_was() {
    let name = "\"><b>&quot; 'x' \u{2028}";
    let grants = [Granted {
        grant_id: "g",
        provider: "google",
        provider_name: name,
        account_identifier: Some("user-1"),
        account_name: Some(name),
        timestamp: TimeMs(0),
        operation: Operation::Creation,
        scopes: &["a"],
    }];
    let ending = Ending::Connected(&grants);
    let app = App { name, website: None, brand_css_href: None, logo: None };
    let url = Some("https://x.example/");
    let page =
        Page::Finished(Finished { app, ending, is_key: false, left_out: &[], target_origin: url, return_url: url });
    let document = Document::read(&html(&Words::plain().site(), &page));
    let kept = document.elements.iter().find(|e| e.attributes.contains_key("data-message")).unwrap();
    let message: serde_json::Value = serde_json::from_str(&kept.attributes["data-message"]).unwrap();
    assert_eq!(message, ending.message());
    assert_eq!(kept.attributes["data-target"], "https://x.example");
    assert_eq!(kept.attributes["data-return"], ending.return_url("https://x.example/").unwrap());
}

#[test]
fn the_way_to_the_provider_needs_no_script_and_no_form() {
    let words = Words { url: "https://a.example/auth?x=1&y='2';z".to_owned(), ..Words::plain() };
    let mut seen = 0;
    for (_, page) in documents(&words).into_iter().filter(|(name, _)| name == "leaving") {
        seen += 1;
        let refresh = page.all("meta").find(|meta| meta.contains_key("http-equiv")).unwrap();
        assert_eq!(refresh["http-equiv"], "refresh");
        assert_eq!(refresh["content"], format!("0;url={}", words.url));
        assert!(page.all("a").any(|link| link["href"] == words.url), "a link for who does not want to be moved");
        assert!(page.forms.is_empty());
    }
    assert_eq!(seen, 1);
}
