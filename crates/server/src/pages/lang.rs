//! The languages of the pages, and which of them a browser gets: the one that was chosen in it, or else the first of those it asks for.
//!
//! A further one is a variant here, and a file of sentences beside each of the others.

use http::{HeaderMap, header};

use crate::hosted::cookie::find;

/// The cookie that keeps what was chosen.
pub const LANG_COOKIE: &str = "grantd_lang";

/// A language.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lang {
    #[default]
    En,
    De,
}

tokio::task_local! {
    /// Of whoever asks for the page that is made.
    static CURRENT: Lang;
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// As in `lang` and `Accept-Language`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// What it calls itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::De => "Deutsch",
        }
    }

    /// The language with this code.
    pub fn find(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| lang.code() == code)
    }

    /// What the browser that sent these reads.
    pub fn of(headers: &HeaderMap) -> Self {
        let chosen = find(headers, LANG_COOKIE).and_then(|code| Self::find(&code));
        let asked = || headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).and_then(first_of);
        chosen.or_else(asked).unwrap_or_default()
    }

    /// The language of the page that is made.
    pub(super) fn current() -> Self {
        CURRENT.try_with(|lang| *lang).unwrap_or_default()
    }
}

/// Makes pages in this language.
pub async fn spoken<T>(lang: Lang, pages: impl Future<Output = T>) -> T {
    CURRENT.scope(lang, pages).await
}

/// Ranges of one header that are looked at.
const RANGES_MAX: usize = 20;

/// The one of ours that is liked best, the first of several; `de-AT` is `de`, and what refuses a language does not ask for it.
fn first_of(accepted: &str) -> Option<Lang> {
    let liked = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let tag = parts.next()?.to_ascii_lowercase();
        let code = tag.split('-').next()?;
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
        let lang = if code == "*" { Lang::default() } else { Lang::find(code)? };
        (weight > 0.0).then_some((lang, weight))
    };
    let all = accepted.split(',').take(RANGES_MAX).filter_map(liked);
    let best = all.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(lang, _)| lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_what_it_asks_for_first() {
        for (accepted, lang) in [
            ("de", Some(Lang::De)),
            ("de-AT,en;q=0.9", Some(Lang::De)),
            ("DE-de", Some(Lang::De)),
            ("fr, en;q=0.8, de;q=0.9", Some(Lang::De)),
            ("en, de", Some(Lang::En)),
            ("fr;q=1, *;q=0.1", Some(Lang::En)),
            ("de;q=0, en;q=0.1", Some(Lang::En)),
            ("fr", None),
            ("", None),
            (";;,q=,den,de;q=x", None),
        ] {
            assert_eq!(first_of(accepted), lang, "{accepted}");
        }
        let headers = |cookie: &'static str| {
            let value = http::HeaderValue::from_static;
            HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value("de")), (header::COOKIE, value(cookie))])
        };
        assert_eq!(Lang::of(&headers("grantd_lang=en")), Lang::En);
        assert_eq!(Lang::of(&headers("grantd_lang=xx")), Lang::De);
        assert_eq!(Lang::of(&HeaderMap::new()), Lang::En);
    }

    #[tokio::test]
    async fn pages_are_in_the_language_of_whoever_asks() {
        assert_eq!(Lang::current(), Lang::En);
        assert_eq!(spoken(Lang::De, async { Lang::current() }).await, Lang::De);
        assert_eq!(Lang::current(), Lang::En);
    }
}
