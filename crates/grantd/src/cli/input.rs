//! What people type: secrets, durations, moments, pairs. Every refusal says what to write instead.

use std::io::Read;
use std::path::Path;

use clap::builder::RangedI64ValueParser;
use clap::value_parser;
use grantd_domain::destination::Rule;
use grantd_wire::ids::GrantId;
use grantd_wire::limits::SECRET_VALUE_BYTES_MAX;
use grantd_wire::scope::{self, Scope};
use grantd_wire::sdk::{Injection, InjectionTarget};
use grantd_wire::time::parse_span_seconds;
use grantd_wire::{TimeMs, limits};
use url::Url;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, chain};
use super::term::Term;
use crate::config::{nearest, parse_net};

const EXAMPLE_ID: &str = "0199c0de-0000-7000-8000-00000000beef";
/// Bytes of a token file.
const TOKEN_FILE_BYTES_MAX: usize = 4096;

/// Reads a secret: `-` is stdin, `@file` a file, anything else the value itself, with a warning.
pub fn read_secret(flag: &str, text: &str, term: &mut Term) -> Result<Zeroizing<String>, Failure> {
    match (text, text.strip_prefix('@')) {
        ("-", _) => {
            if term.input_was_read {
                return Err(Failure::usage(format!("{flag}: stdin was read already; use @file for the others")));
            }
            term.input_was_read = true;
            if term.stdin_is_terminal {
                return term.read_hidden(flag);
            }
            read_text(&mut term.input, SECRET_VALUE_BYTES_MAX)
                .map_err(|why| unreadable(&format!("{flag}: stdin {why}")))
        }
        (_, Some(path)) => {
            read_file(Path::new(path), SECRET_VALUE_BYTES_MAX).map_err(|why| unreadable(&format!("{flag}: {why}")))
        }
        _ => {
            let sign = if flag.ends_with('=') { "" } else { " " };
            term.warn(&format!(
                "{flag} on the command line can be seen in the shell's history and the process list; \
                 use `{flag}{sign}-` for stdin or `{flag}{sign}@FILE`"
            ));
            Ok(Zeroizing::new(text.to_owned()))
        }
    }
}

/// What was to be read cannot be.
pub fn unreadable(why: &str) -> Failure {
    Failure::usage(why).hint("Check its name, and what it holds.")
}

/// A personal access token from a file.
pub fn read_token(path: &Path) -> Result<Zeroizing<String>, String> {
    read_file(path, TOKEN_FILE_BYTES_MAX)
}

/// All of a file without its last line end.
pub fn read_file(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, String> {
    let mut file = std::fs::File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    read_text(&mut file, bytes_max).map_err(|why| format!("{} {why}", path.display()))
}

/// All of `input` without its last line end.
fn read_text(input: &mut dyn Read, bytes_max: usize) -> Result<Zeroizing<String>, String> {
    // One allocation, so that no copy is left behind; two bytes more for the line end, one to notice the excess.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 3));
    input.take(bytes_max as u64 + 3).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    let end = bytes.strip_suffix(b"\n").map_or(&bytes[..], |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    if end.len() > bytes_max {
        return Err(format!("holds more than {bytes_max} bytes"));
    }
    if end.is_empty() {
        return Err("is empty".to_owned());
    }
    let text = std::str::from_utf8(end).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// `90d`, `12h`: seconds.
pub fn parse_span(text: &str) -> Result<i64, String> {
    let seconds =
        parse_span_seconds(text).ok_or_else(|| "write a number and s, m, h, d or w, such as 90d or 12h".to_owned())?;
    match seconds {
        ..1 => Err("at least one second".to_owned()),
        1..=limits::LIFETIME_SECONDS_MAX => Ok(seconds),
        _ => Err("at most ten years".to_owned()),
    }
}

/// A moment, or a span back from now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    At(TimeMs),
    SecondsAgo(i64),
}

impl When {
    pub fn parse(text: &str) -> Result<Self, String> {
        let date = || TimeMs::parse(&format!("{text}T00:00:00Z"));
        let at = TimeMs::parse(text).or_else(date).map(Self::At);
        at.or_else(|| parse_span_seconds(text).map(Self::SecondsAgo))
            .ok_or_else(|| "write a time such as 2026-11-24T10:00:00Z, a date, or a span back such as 7d".to_owned())
    }

    pub fn resolve(self, now: TimeMs) -> TimeMs {
        match self {
            Self::At(at) => at,
            Self::SecondsAgo(seconds) => now.plus_seconds(-seconds),
        }
    }
}

/// `name=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    pub name: String,
    pub value: String,
}

pub fn parse_pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Pair { name: name.to_owned(), value: value.to_owned() }),
        _ => Err("write name=value".to_owned()),
    }
}

/// `target:key:source`.
pub fn parse_injection(text: &str) -> Result<Injection, String> {
    let how = "write header:NAME:SOURCE or query_param:NAME:SOURCE, SOURCE being token or a field's name";
    let mut parts = text.splitn(3, ':');
    let (Some(target), Some(key), Some(source)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(how.to_owned());
    };
    let target = match target {
        "header" => InjectionTarget::Header,
        "query_param" => InjectionTarget::QueryParam,
        _ => return Err(how.to_owned()),
    };
    if key.is_empty() || source.is_empty() {
        return Err(how.to_owned());
    }
    let is_whole = source == "token" || source.starts_with("additional_credentials.");
    let value_source = if is_whole { source.to_owned() } else { format!("additional_credentials.{source}") };
    Ok(Injection { target, key: key.to_owned(), value_source })
}

/// Refuses what is no scope of the catalogue, as the server would, but with the one that was meant.
pub fn check_scopes(scopes: &[String]) -> Result<(), Failure> {
    let Some(wrong) = scopes.iter().find(|text| Scope::parse(text).is_none()) else { return Ok(()) };
    let all = scope::all();
    let refused = |why: String| Failure::new(Exit::Error, "invalid_value", why);
    if let Some((whole, id)) = wrong.rsplit_once(':')
        && Scope::parse(whole).is_some()
        && whole != "*"
    {
        // Never the scope without its id: that one allows more.
        let narrowed = Scope::parse(&format!("{whole}:{EXAMPLE_ID}")).is_some();
        return Err(match (narrowed, whole.starts_with("agents:")) {
            (true, false) => {
                refused(format!("--scopes: `{id}` in `{wrong}` is no id: the third part must be a grant's"))
                    .hint("`grantd grants list` shows the ids.")
            }
            (true, true) => {
                refused(format!("--scopes: `{id}` in `{wrong}` is no id: the third part must be an agent's"))
            }
            (false, _) => {
                refused(format!("--scopes: `{wrong}` is not possible: `{whole}` cannot be narrowed to one object"))
            }
        });
    }
    let hint = match nearest(wrong, all.iter().map(String::as_str)) {
        Some(meant) => format!("Did you mean `{meant}`?"),
        None => format!("There are: {}.", all.join(" ")),
    };
    Err(refused(format!("--scopes: there is no scope `{wrong}`")).hint(hint))
}

/// The id of a grant, key, user, agent or event: they look alike.
pub fn parse_id(text: &str) -> Result<String, String> {
    match GrantId::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("this is no id: write one as the lists show them, such as {EXAMPLE_ID}")),
    }
}

/// A rule of where a credential may go.
pub fn parse_host(text: &str) -> Result<String, String> {
    Rule::parse(text).map(|_| text.to_owned()).map_err(|error| chain(&error))
}

/// An http or https URL; an empty one removes what is there.
pub fn parse_website(text: &str) -> Result<String, String> {
    let is_web = |url: &Url| matches!(url.scheme(), "http" | "https");
    match text.is_empty() || Url::parse(text).is_ok_and(|url| is_web(&url)) {
        true => Ok(text.to_owned()),
        false => Err("write an http or https URL such as https://shop.example".to_owned()),
    }
}

/// Items of a page.
pub fn limit_range() -> RangedI64ValueParser<i64> {
    value_parser!(i64).range(1..=limits::PAGE_MAX)
}

/// Items to skip.
pub fn offset_range() -> RangedI64ValueParser<i64> {
    value_parser!(i64).range(0..=limits::OFFSET_MAX)
}

/// Requests a minute.
pub fn rate_range() -> RangedI64ValueParser<i64> {
    value_parser!(i64).range(1..=limits::RATE_LIMIT_RPM_MAX)
}

/// An address range; an address is one of its own.
pub fn parse_cidr(text: &str) -> Result<String, String> {
    parse_net(text).map(|net| net.to_string())
}

/// An id or slug, safe as one segment of a path.
pub fn parse_reference(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.is_empty() && text.bytes().all(allowed) && !text.bytes().all(|b| b == b'.') {
        return Ok(text.to_owned());
    }
    Err("write the id or slug that the list shows".to_owned())
}

/// Bytes of an answer that are read: more than any name has.
const ANSWER_BYTES_MAX: usize = 1024;

/// Asks before something that cannot be undone. Without a terminal there is nobody to ask, and the command was explicit.
pub fn confirm(question: &str, yes: bool, term: &mut Term) -> Result<(), Failure> {
    if yes || !(term.stdin_is_terminal && term.stderr_is_terminal) {
        return Ok(());
    }
    match answer(&format!("{question} [y/N] "), term).to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::cancelled()),
    }
}

/// Before something is deleted for good its name must be said: with `--confirm`, or typed on a terminal.
pub fn confirm_name(question: &str, name: &str, given: Option<&str>, term: &mut Term) -> Result<(), Failure> {
    match given {
        Some(given) if given == name => Ok(()),
        Some(_) => Err(Failure::usage(format!("--confirm does not name it: its name is {name}. Nothing was changed."))
            .hint(format!("If it is the one you mean, repeat it with --confirm '{name}'."))),
        None if !(term.stdin_is_terminal && term.stderr_is_terminal) => {
            Err(Failure::usage(format!("This cannot be undone: repeat it with --confirm '{name}'.")))
        }
        None if answer(&format!("{question} Type its name, {name}: "), term) == name => Ok(()),
        None => Err(Failure::cancelled()),
    }
}

/// One line from the terminal, without its blanks.
fn answer(question: &str, term: &mut Term) -> String {
    term.ask(question);
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < ANSWER_BYTES_MAX && matches!(term.input.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, String> {
        read_text(&mut &bytes[..], 8).map(|text| text.to_string())
    }

    #[test]
    fn a_secret_loses_one_line_end_and_nothing_else() {
        assert_eq!(text(b"abc\n").unwrap(), "abc");
        assert_eq!(text(b"abc\r\n").unwrap(), "abc");
        assert_eq!(text(b" a\n\n").unwrap(), " a\n");
        assert_eq!(text(b"12345678\r\n").unwrap(), "12345678");
        for bad in [&b""[..], b"\n", b"123456789", b"\xff"] {
            assert!(text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references_cannot_leave_their_segment() {
        for good in ["stripe", "0199c0de-0000-7000-8000-00000000beef", "a.b", "a_b"] {
            assert!(parse_reference(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a%2fb", "a b", "é", "a?b", "a#b", "a\\b"] {
            assert!(parse_reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_times_dates_or_spans_back() {
        let now = TimeMs(1_700_000_000_000);
        assert_eq!(When::parse("2023-11-14").unwrap().resolve(now), TimeMs(1_699_920_000_000));
        assert_eq!(When::parse("1h").unwrap().resolve(now), now.plus_seconds(-3600));
        assert!(When::parse("yesterday").unwrap_err().contains("2026-11-24"));
    }

    #[test]
    fn injections_take_short_field_names() {
        let injection = parse_injection("query_param:key:api_secret").unwrap();
        assert_eq!(injection.value_source, "additional_credentials.api_secret");
        assert_eq!(parse_injection("header:X-Key:token").unwrap().value_source, "token");
        for bad in ["header:X", "cookie:a:token", "header::token", "header:X:"] {
            assert!(parse_injection(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mistyped_scope_is_answered_with_the_one_that_was_meant() {
        let hint = |scope: &str| check_scopes(&[scope.to_owned()]).unwrap_err().hint.unwrap();
        assert!(hint("tokens:retreive").contains("`tokens:retrieve`"));
        assert!(hint("nonsense").contains("grants:read"));
        assert!(check_scopes(&["grants:*".to_owned()]).is_ok());
    }

    #[test]
    fn a_mistyped_id_in_a_scope_is_not_answered_with_a_wider_scope() {
        for (scope, needle) in [
            ("tokens:retrieve:abc", "must be a grant's"),
            ("grants:read:", "must be a grant's"),
            ("agents:read:x", "must be an agent's"),
            ("audit:emit:abc", "cannot be narrowed"),
        ] {
            let failure = check_scopes(&[scope.to_owned()]).unwrap_err();
            assert!(failure.message.contains(needle), "{}", failure.line());
            assert!(!failure.line().contains("Did you mean"), "{}", failure.line());
        }
    }

    #[test]
    fn what_can_be_known_to_be_mistyped_is() {
        assert!(parse_id("0199c0de-0000-7000-8000-00000000beef").is_ok() && parse_id("alter_rk_abcd").is_err());
        assert!(parse_host("*.example.com/v1").is_ok() && parse_host("exa mple").is_err());
        assert!(parse_website("").is_ok() && parse_website("shop.example").is_err());
        assert!(parse_span("0s").is_err());
    }
}
