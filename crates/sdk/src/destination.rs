//! Where calls may go: the vault's base URL, and the URLs of providers.
//!
//! Invariant: plain http only to `localhost`, `127.0.0.1` and `::1`.

use grantd_wire::limits::URL_CHARS_MAX;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::error::Error;
use crate::inject::percent_encode;

/// A vault's address, without trailing slashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BaseUrl {
    text: String,
    loopback: bool,
}

impl BaseUrl {
    /// Parses `https://host[:port][/prefix]`, or http on loopback.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::Invalid(format!("the base URL {why}")));
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse("must be a URL such as https://vault.example.com, without spaces");
        }
        let Ok(url) = Url::parse(text) else { return refuse("must be a URL such as https://vault.example.com") };
        if !is_allowed(&url) {
            return refuse("must be https, or http on localhost, 127.0.0.1 or [::1]");
        }
        // Looked for in the text too: an empty query or user name leaves no trace in the parsed URL.
        if url.query().is_some() || url.fragment().is_some() || text.contains('@') {
            return refuse("may hold no user, password, query or fragment");
        }
        let loopback = url.scheme() == "http";
        Ok(Self { text: url.as_str().trim_end_matches('/').to_owned(), loopback })
    }

    /// The address of `path` (which starts with a slash).
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Plain http on this machine, which no proxy shall see.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// Fills `{name}` placeholders and parses the URL of a provider call.
pub fn parse_target(template: &str, path_params: &[(String, String)]) -> Result<Url, Error> {
    let text = fill(template, path_params)?;
    // A parameter may not climb out of its place in the path. `%2e` counts as a dot when URLs are parsed.
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let climbs = path.split(['/', '\\']).any(|s| matches!(&*percent_decode_str(s).decode_utf8_lossy(), "." | ".."));
    if !path_params.is_empty() && climbs {
        return Err(Error::Invalid("a path parameter would make a `.` or `..` segment of the URL".to_owned()));
    }
    let mut url =
        Url::parse(&text).map_err(|_| Error::Invalid("the URL must be absolute: https://host/path".to_owned()))?;
    url.set_fragment(None);
    if !is_allowed(&url) {
        return Err(Error::Invalid("the URL must be https, or http on localhost, 127.0.0.1 or [::1]".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Invalid("the URL may hold no user or password: the grant brings the credential".to_owned()));
    }
    check_length(&url)?;
    Ok(url)
}

/// Refuses a URL that is too long.
pub fn check_length(url: &Url) -> Result<(), Error> {
    if url.as_str().len() <= URL_CHARS_MAX {
        return Ok(());
    }
    Err(Error::Invalid(format!("the URL with its query is longer than {URL_CHARS_MAX} characters")))
}

/// Whether a proxy set in the environment is passed by: what runs on this machine is called directly.
pub fn is_plain_loopback(url: &Url) -> bool {
    url.scheme() == "http"
}

fn is_allowed(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Domain(name))) => name == "localhost",
        ("http", Some(Host::Ipv4(address))) => address.octets() == [127, 0, 0, 1],
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

/// Puts the percent-encoded values in. Each placeholder needs a value and each value a placeholder.
fn fill(template: &str, values: &[(String, String)]) -> Result<String, Error> {
    let mut text = String::with_capacity(template.len());
    let mut used = vec![false; values.len()];
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        rest = &rest[open..];
        let Some(name) = placeholder(rest) else {
            text.push('{');
            rest = &rest[1..];
            continue;
        };
        let Some(i) = values.iter().rposition(|(n, _)| n == name) else {
            let hint = format!("give path parameter `{name}` a value, or write %7B{name}%7D if braces are meant");
            return Err(Error::Invalid(format!("the URL holds {{{name}}}: {hint}")));
        };
        used[i] = true;
        text.push_str(&percent_encode(&values[i].1));
        rest = &rest[name.len() + 2..];
    }
    text.push_str(rest);
    match used.iter().position(|used| !used) {
        Some(i) => Err(Error::Invalid(format!("the URL has no place for path parameter `{}`", values[i].0))),
        None => Ok(text),
    }
}

/// The name in a leading `{name}`.
fn placeholder(text: &str) -> Option<&str> {
    let name = text.strip_prefix('{')?.split_once('}')?.0;
    let identifier = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    identifier.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn base_urls_as_the_contract_lists_them() {
        for (text, wanted) in [
            ("https://vault.internal:8443/alter/", "https://vault.internal:8443/alter"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            ("https://10.0.0.5//", "https://10.0.0.5"),
            ("HTTP://LocalHost:8400", "http://localhost:8400"),
            ("http://127.0.0.1:8400/", "http://127.0.0.1:8400"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().as_str(), wanted);
        }
        for text in [
            "http://127.0.0.2",
            "http://0.0.0.0",
            "http://localhost.",
            "http://x.localhost",
            "http://10.0.0.5",
            "http://host.docker.internal",
            "http://vault",
            "https://user:pw@vault.example.com",
            "https://@vault.example.com",
            "https://vault.example.com?x=1",
            "https://vault.example.com?",
            "https://vault.example.com#x",
            "https://vault.example.com:99999",
            "vault.example.com",
            "ftp://vault.example.com",
            "http+unix://run/vault",
            " https://vault.example.com",
            "https://vault .example.com",
            "",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
        assert_eq!(BaseUrl::parse("https://v/a/").unwrap().join("/sdk/token"), "https://v/a/sdk/token");
    }

    #[test]
    fn path_parameters_are_encoded_whole() {
        let url = parse_target("https://a.example/{id}/x?q={id}", &params(&[("id", "a/b c?é")])).unwrap();
        assert_eq!(url.as_str(), "https://a.example/a%2Fb%20c%3F%C3%A9/x?q=a%2Fb%20c%3F%C3%A9");
        let url = parse_target("https://a.example/?q={\"a\":1}", &[]).unwrap();
        assert_eq!(url.query(), Some("q={%22a%22:1}"));
    }

    #[test]
    fn path_parameters_that_do_not_fit_are_refused() {
        for (template, pairs) in [
            ("https://a.example/{id}", &[][..]),
            ("https://a.example/x", &[("id", "1")][..]),
            ("https://a.example/u/{id}/keys", &[("id", "..")][..]),
            ("https://a.example/u/{id}", &[("id", ".")][..]),
            ("https://a.example/u/.{id}", &[("id", ".")][..]),
            ("https://a.example/u/%2e{id}/x", &[("id", ".")][..]),
        ] {
            assert!(parse_target(template, &params(pairs)).is_err(), "{template}");
        }
    }

    #[test]
    fn targets_are_https_or_loopback() {
        for good in ["https://a.example", "http://localhost:1/x", "http://127.0.0.1", "http://[::1]/"] {
            assert!(parse_target(good, &[]).is_ok(), "{good}");
        }
        for bad in
            ["http://a.example", "a.example/x", "https://u:p@a.example", "https://u@a.example", "file:///etc/passwd"]
        {
            assert!(parse_target(bad, &[]).is_err(), "{bad}");
        }
        let long = format!("https://a.example/{}", "a".repeat(URL_CHARS_MAX));
        assert!(parse_target(&long, &[]).is_err());
        assert_eq!(parse_target("https://a.example/x#part", &[]).unwrap().as_str(), "https://a.example/x");
    }
}
