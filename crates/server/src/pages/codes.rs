//! What a code of the management API means, in the languages that it does not speak itself. What it says beyond that stays as it is, and
//! is marked as English.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use grantd_wire::{Code, Error};
use minijinja::value::{Kwargs, Serde};
use minijinja::{HtmlEscape, Value};

use super::lang::Lang;
use super::texts::Texts;
use crate::sentence;

static GERMAN: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| toml::from_str(include_str!("../../lang/codes.de.toml")).expect("language files are TOML"));

fn meaning(lang: Lang, code: &str) -> Option<&'static str> {
    match lang {
        Lang::En => None,
        Lang::De => GERMAN.get(code).map(String::as_str),
    }
}

/// An error of the API as HTML: what its code means in this language, and what is said of this one.
pub(super) fn words(lang: Lang, code: &str, message: &str, hint: Option<&str>) -> Value {
    let said = [Some(message), hint].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let is_usual = hint.is_none() && Code::parse(code).is_some_and(|code| code.message() == message);
    let said = HtmlEscape(&said);
    Value::from_safe_string(match meaning(lang, code) {
        None => said.to_string(),
        Some(own) if is_usual => HtmlEscape(own).to_string(),
        Some(own) => format!("{} <span lang=\"en\">{said}</span>", HtmlEscape(own)),
    })
}

/// What a page says of a refusal that has a sentence of its own, in the language of the page.
pub fn refusal(error: &Error) -> Option<String> {
    let key = error.details.get(sentence::DETAIL)?.as_str()?;
    let values: Kwargs = error.details.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value)))).collect();
    Texts::of(Lang::current()).plain(&format!("portal.refusal.{key}"), &values).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_told_in_every_language() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let told: BTreeSet<&str> = GERMAN.keys().map(String::as_str).collect();
        assert_eq!(codes.difference(&told).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in lang/codes.de.toml");
        assert_eq!(told.difference(&codes).collect::<Vec<_>>(), Vec::<&&str>::new(), "no code");
        for (code, text) in &*GERMAN {
            assert!(text.ends_with('.') && !Code::parse(code).unwrap().message().contains(&**text), "{code}: {text}");
        }
    }

    #[tokio::test]
    async fn every_refusal_of_pages_has_a_sentence_in_every_language() {
        use crate::sentence::Sentence;
        let mut keys = BTreeSet::new();
        for sentence in Sentence::ALL {
            assert!(keys.insert(sentence.key()), "{sentence:?} has the key of another one");
            let mut error = sentence.of(Code::InvalidValue);
            for slot in ["seconds", "kib", "url", "portal", "example", "most"] {
                error = error.detail(slot, 7);
            }
            for lang in Lang::ALL {
                let told = super::super::spoken(lang, async { refusal(&error) }).await;
                assert!(told.is_some_and(|told| told.ends_with('.')), "{sentence:?} in {}", lang.code());
            }
        }
        let all = Texts::of(Lang::En).sentences.keys().filter_map(|key| key.strip_prefix("portal.refusal."));
        assert_eq!(all.collect::<BTreeSet<_>>(), keys, "sentences that nothing is refused with");
        assert_eq!(refusal(&Code::NameTaken.into()), None);
    }

    #[test]
    fn what_is_said_of_this_error_follows_and_is_inert() {
        let told = |lang, message: &str, hint| words(lang, "name_taken", message, hint).to_string();
        assert_eq!(told(Lang::En, "<b>", Some("Look.")), "&lt;b&gt; Look.");
        let german = told(Lang::De, "<b>", Some("Look."));
        assert!(
            german.starts_with("Das gibt es schon.") && german.ends_with("<span lang=\"en\">&lt;b&gt; Look.</span>")
        );
        assert!(!told(Lang::De, Code::NameTaken.message(), None).contains("lang="), "it would say the same twice");
        assert_eq!(words(Lang::De, "none", "Why.", None).to_string(), "Why.");
    }
}
