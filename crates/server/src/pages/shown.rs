//! Text and addresses of others, as far as a page may show them.
//!
//! Invariants: a name cannot change the direction, the order or the place of what stands around it; an address that is not plain
//! `https` (or `http` on this machine) never becomes a link.

use serde::{Serialize, Serializer};

/// Characters of a name that are shown; the rest is cut off with an ellipsis.
pub(super) const NAME_CHARS_MAX: usize = 120;

/// Marks that may sit on one letter. Without an end they are drawn over the lines above and below.
const MARKS_MAX: usize = 2;

/// A name as shown: one line, without control characters, direction marks and invisible fillers, not too long.
pub(super) fn name(text: &str) -> String {
    let mut shown = String::new();
    let (mut chars, mut marks) = (0, 0);
    for c in text.chars() {
        let c = if c.is_whitespace() { ' ' } else { c };
        marks = if is_mark(c) { marks + 1 } else { 0 };
        let repeats_space = c == ' ' && (shown.is_empty() || shown.ends_with(' '));
        if c.is_control() || is_unseen(c) || marks > MARKS_MAX || repeats_space {
            continue;
        }
        if chars == NAME_CHARS_MAX {
            shown.truncate(shown.trim_end().len());
            shown.push('…');
            return shown;
        }
        shown.push(c);
        chars += 1;
    }
    shown.truncate(shown.trim_end().len());
    // A name of nothing but fillers must not leave a hole in the sentence.
    if shown.is_empty() { "?".to_owned() } else { shown }
}

/// Takes out of every text what is not seen and changes what is. Lines stay lines.
pub(super) fn make_inert(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            let mut marks = 0;
            text.retain(|c| {
                marks = if is_mark(c) { marks + 1 } else { 0 };
                matches!(c, '\n' | '\t') || !(c.is_control() || is_unseen(c) || marks > MARKS_MAX)
            });
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(make_inert),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(make_inert),
        _ => {}
    }
}

/// Marks of direction, fillers and tags: they are not seen, and change what is. The joiners stay: scripts and emoji need them.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// The address, if it may be a link.
pub(super) fn url(text: &str) -> Option<&str> {
    let clean = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'`'));
    (clean && host(text).is_some()).then_some(text)
}

/// The host of an address that may be a link, with its port; in the ASCII form that cannot look like another.
pub(super) fn host(text: &str) -> Option<&str> {
    let (rest, local_only) = match text.strip_prefix("https://") {
        Some(rest) => (rest, false),
        None => (text.strip_prefix("http://")?, true),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    // No `@`: what stands before it looks like the host.
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let starts = authority.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    (starts && authority.bytes().all(clean) && (!local_only || is_loopback(authority))).then_some(authority)
}

/// The origin of an address that may be a link.
pub(super) fn origin(text: &str) -> Option<&str> {
    let authority = host(url(text)?)?;
    let scheme = text.find("://")? + "://".len();
    Some(&text[..scheme + authority.len()])
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => authority.split(':').next(),
    };
    matches!(host, Some("127.0.0.1" | "localhost" | "::1"))
}

// How fields of the pages are handed to their templates.

pub(super) fn as_name<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name(text))
}

pub(super) fn as_name_opt<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.map(name).serialize(serializer)
}

pub(super) fn as_names<S: Serializer>(texts: &[&str], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|t| name(t)))
}

/// A link: its address and the host that is shown for it.
#[derive(Serialize)]
struct Link<'a> {
    href: &'a str,
    host: &'a str,
}

pub(super) fn as_link<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.and_then(|text| Some(Link { href: url(text)?, host: host(text)? })).serialize(serializer)
}
