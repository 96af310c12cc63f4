//! What holds for every language, and for templates because there is more than one.

use super::super::lang::Lang;
use super::super::render::TEMPLATES;
use super::super::texts::{Part, Texts};
use minijinja::value::Kwargs;
use std::collections::BTreeSet;

fn slots(parts: &[Part]) -> BTreeSet<&str> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Slot(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
        .collect()
}

#[test]
fn every_language_says_everything_and_takes_the_same_values() {
    let english = &Texts::of(Lang::En).sentences;
    for lang in Lang::ALL {
        let own = &Texts::of(lang).sentences;
        let missing: Vec<&String> = english.keys().filter(|key| !own.contains_key(*key)).collect();
        let extra: Vec<&String> = own.keys().filter(|key| !english.contains_key(*key)).collect();
        let code = lang.code();
        assert!(missing.is_empty(), "lang/{code}.toml or lang/portal.{code}.toml lacks {missing:#?}");
        assert!(extra.is_empty(), "lang/{code}.toml or lang/portal.{code}.toml has {extra:#?}, which English does not");
        for (key, parts) in english {
            assert_eq!(slots(&own[key]), slots(parts), "the values of {key} in {code}");
        }
    }
}

#[test]
fn sentences_are_translated() {
    let (english, german) = (&Texts::of(Lang::En).sentences, &Texts::of(Lang::De).sentences);
    // A word or two may be the same; a sentence is not.
    let is_sentence = |parts: &Vec<Part>| {
        let words = parts.iter().map(|part| match part {
            Part::Text(text) => text.split_whitespace().count(),
            Part::Slot(_) => 0,
        });
        words.sum::<usize>() > 2
    };
    let same = english.iter().filter(|(key, parts)| is_sentence(parts) && german[*key] == **parts);
    assert_eq!(same.map(|(key, _)| key).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn dates_and_times_follow_the_language() {
    let at = |lang: Lang| Texts::of(lang).time("2026-03-05T14:00:00.000Z").unwrap().to_string();
    assert!(at(Lang::En).contains(">5 March 2026, 14:00 UTC<"), "{}", at(Lang::En));
    assert!(at(Lang::De).contains(">5. März 2026, 14:00 UTC<"), "{}", at(Lang::De));
    let ago = |lang: Lang, at: &str| Texts::of(lang).ago(at, "2026-03-05T14:00:00.000Z").unwrap().to_string();
    assert!(ago(Lang::De, "2026-03-05T13:59:00.000Z").contains("vor <bdi>1</bdi> Minute<"));
    assert!(ago(Lang::De, "2026-03-05T13:00:00.000Z").contains("vor <bdi>1</bdi> Stunde<"));
    assert!(ago(Lang::De, "2026-03-02T13:00:00.000Z").contains("vor <bdi>3</bdi> Tagen<"));
    let none = Kwargs::from_iter(Vec::<(&str, minijinja::Value)>::new());
    let counted = Texts::of(Lang::De).counted("portal.providers.accounts", 1_200, &none).unwrap().to_string();
    assert_eq!(counted, "<bdi>1.200</bdi> Konten verbunden");
}

/// What stands in templates as it is in every language: names, words of protocols, what is typed.
const SAME_EVERYWHERE: [&str; 6] =
    ["grantd", "grantd operator login-link", "--email", "PKCE", "page--narrow", "/connect/"];

/// The template without what it puts in, and without its comments.
fn without_code(template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{']) {
        let end = match rest.as_bytes().get(at + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                out.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            }
        };
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once(end).map_or("", |(_, rest)| rest);
    }
    out + rest
}

#[test]
fn no_template_has_a_sentence_of_its_own() {
    let mut found = Vec::new();
    for (name, template) in TEMPLATES {
        let html = without_code(template);
        for piece in html.split('<') {
            let (tag, text) = piece.split_once('>').unwrap_or(("", piece));
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '·');
            // A macro may be attributes alone.
            let is_text = text.contains(char::is_alphabetic) && !text.contains("=\"");
            if is_text && !SAME_EVERYWHERE.contains(&text) {
                found.push(format!("{name}: {text}"));
            }
            for attribute in ["title=\"", "aria-label=\"", "alt=\"", "data-label=\""] {
                let values = tag.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
                found
                    .extend(values.filter(|value| value.contains(char::is_alphabetic)).map(|v| format!("{name}: {v}")));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
