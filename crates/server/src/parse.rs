//! Bodies, queries and path segments, parsed at the edge.
//!
//! Invariant: an error names the field and what was expected, and never shows a value, which may be a secret.

use grantd_wire::object::Object;
use grantd_wire::{Code, Error, limits};
use serde::de::DeserializeOwned;

/// Parses a JSON body.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut deserializer).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => bad_field(&path, &inner.to_string()),
            _ => Error::new(Code::InvalidRequest).message("The body is not JSON. Send one object."),
        }
    })?;
    deserializer.end().map_err(|_| {
        Error::new(Code::InvalidRequest).message("There is something after the JSON body. Send one object.")
    })?;
    Ok(value)
}

/// Parses a query string.
pub fn query<T: DeserializeOwned>(uri: &http::Uri) -> Result<T, Error> {
    axum::extract::Query::try_from_uri(uri).map(|q| q.0).map_err(|e| {
        let text = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        // The parameter's name comes first, where there is one.
        let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match text.split_once(": ").filter(|(name, _)| is_name(name)) {
            Some((name, why)) => bad_field(name, why),
            None => bad_field("query", &text),
        }
    })
}

/// What serde says, without the value it says it of.
fn bad_field(path: &str, text: &str) -> Error {
    let text = text.split(" at line ").next().unwrap_or_default();
    if let Some(name) = quoted_after(text, "unknown field ") {
        let path = match path {
            "." | "query" => name.to_owned(),
            path if path.ends_with(name) => path.to_owned(),
            path => format!("{path}.{name}"),
        };
        return Error::invalid(&path, "there is no such field here");
    }
    for what in ["missing field ", "duplicate field "] {
        if let Some(name) = quoted_after(text, what) {
            return Error::invalid(name, if what.starts_with('m') { "is missing" } else { "is given twice" });
        }
    }
    let path = if path == "." { "body" } else { path };
    match text.rsplit_once("expected ") {
        Some((_, expected)) => Error::invalid(path, &format!("must be {expected}")),
        // Texts of our own types: they show no value.
        None if text.starts_with("not a") => Error::invalid(path, text),
        None => Error::invalid(path, "has a value that is not possible here"),
    }
}

fn quoted_after<'t>(text: &'t str, what: &str) -> Option<&'t str> {
    text.strip_prefix(what)?.strip_prefix('`')?.split('`').next()
}

/// Decodes a path segment. What is not UTF-8 is nobody's name: `None`.
pub fn segment(raw: &str) -> Option<String> {
    percent_encoding::percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// A page's bounds.
pub fn page(limit: Option<i64>, offset: Option<i64>) -> Result<(i64, i64), Error> {
    let (limit, offset) = (limit.unwrap_or(limits::PAGE_DEFAULT), offset.unwrap_or(0));
    if !(1..=limits::PAGE_MAX).contains(&limit) {
        return Err(Error::invalid("limit", &format!("must be 1-{}", limits::PAGE_MAX)));
    }
    if !(0..=limits::OFFSET_MAX).contains(&offset) {
        return Err(Error::invalid(
            "offset",
            &format!("must be 0-{}; narrow the list with a filter", limits::OFFSET_MAX),
        ));
    }
    Ok((limit, offset))
}

/// An optional text within its bound.
pub fn check_chars(field: &str, text: Option<&str>, chars_max: usize) -> Result<(), Error> {
    match text {
        Some(text) if text.chars().count() > chars_max => {
            Err(Error::invalid(field, &format!("must be at most {chars_max} characters")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantd_wire::api::{KeyMint, SecretCreate};

    fn refused<T: DeserializeOwned>(body: &str) -> String {
        let error = json::<T>(body.as_bytes()).err().expect("it is refused");
        assert_eq!(error.code, Code::InvalidRequest);
        error.message
    }

    #[test]
    fn the_field_is_named_and_the_value_is_not_shown() {
        assert_eq!(refused::<KeyMint>(r#"{"name":"n","colour":"canary"}"#), "`colour`: there is no such field here");
        assert_eq!(refused::<KeyMint>("{}"), "`name`: is missing");
        assert_eq!(refused::<KeyMint>(r#"{"name":"a","name":"canary"}"#), "`name`: is given twice");
        assert_eq!(refused::<KeyMint>(r#"{"name":"n","scopes":["canary",7]}"#), "`scopes[1]`: must be a string");
        for bad in [
            r#"{"name":"n","value":["canary"]}"#,
            r#"{"name":"n","value":"v","credential_type":"canary"}"#,
            r#"{"name":"n","value":"v","injections":[{"target":"canary","key":"k","value_source":"token"}]}"#,
            "canary",
            "",
            r#"{"name":"n","value":"v"} canary"#,
        ] {
            let message = refused::<SecretCreate>(bad);
            assert!(!message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(page(None, None).unwrap(), (100, 0));
        assert!(page(Some(1000), Some(10_000)).is_ok());
        for (limit, offset) in [(0, 0), (1001, 0), (1, -1), (1, 10_001)] {
            assert!(page(Some(limit), Some(offset)).is_err());
        }
    }
}
