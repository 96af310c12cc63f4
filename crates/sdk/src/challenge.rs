//! What a provider's `WWW-Authenticate` asks for.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The first challenge, if it is of the Bearer scheme.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Bearer {
    pub error: Option<String>,
    pub scope: Option<String>,
}

impl Bearer {
    /// Reads the first challenge of the first such header.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(WWW_AUTHENTICATE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim_start().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut bearer = Self::default();
        while let Some((name, value, after)) = parameter(rest) {
            match name {
                _ if name.eq_ignore_ascii_case("error") => bearer.error = Some(value),
                _ if name.eq_ignore_ascii_case("scope") => bearer.scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(bearer)
    }

    pub fn is_insufficient_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    /// The scopes it names, if it names any.
    pub fn missing_scopes(&self) -> Option<Vec<String>> {
        let scopes: Vec<_> = self.scope.as_deref()?.split_whitespace().map(str::to_owned).collect();
        (!scopes.is_empty()).then_some(scopes)
    }
}

/// `name=value` or `name="value"`, and what comes after it. `None` at the end, and where another challenge begins.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end();
    if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-') {
        return None;
    }
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
        return Some((name, rest[..end].to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(Option<String>, Option<String>)> {
        Bearer::parse(text).map(|bearer| (bearer.error, bearer.scope))
    }

    #[test]
    fn the_first_bearer_challenge_is_read() {
        let some = |text: &str| Some(text.to_owned());
        for (text, wanted) in [
            (r#"Bearer error="insufficient_scope", scope="a:b c""#, Some((some("insufficient_scope"), some("a:b c")))),
            (r"bearer Error=insufficient_scope,realm=x", Some((some("insufficient_scope"), None))),
            (r#"Bearer realm="a, error=\"no\"", error="invalid_token""#, Some((some("invalid_token"), None))),
            (r#"Bearer realm="x", Basic error="insufficient_scope""#, Some((None, None))),
            (r#"Basic realm="x", Bearer error="insufficient_scope""#, None),
            (r#"Bearer error="insufficient_scope"#, Some((None, None))),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(parsed(text), wanted, "{text}");
        }
    }

    #[test]
    fn missing_scopes_are_words() {
        let bearer = Bearer::parse(r#"Bearer error="insufficient_scope", scope=" a  b ""#).unwrap();
        assert_eq!(bearer.missing_scopes().unwrap(), ["a", "b"]);
        assert_eq!(Bearer::parse(r#"Bearer scope=" ""#).unwrap().missing_scopes(), None);
    }
}
