//! The forms a field's value can have, and what stands in hosts for it.

use std::borrow::Cow;

use super::{Field, Form};
use crate::destination::Rule;

/// Characters of one label of a host name.
const LABEL_CHARS_MAX: usize = 63;
/// Marks a host that is reached without TLS; only `outbound.allow` makes that possible.
const PLAIN: &str = "http://";

impl Field {
    /// The value as it is stored. The error says what it should be.
    pub(crate) fn normalise(&self, value: &str) -> Result<String, Cow<'static, str>> {
        match self.form {
            Form::Text => Ok(value.to_owned()),
            Form::Label if is_label(value) => Ok(value.to_owned()),
            Form::Label => Err("must be letters, digits and `-`".into()),
            Form::Name if value.split('.').all(is_label) => Ok(value.to_owned()),
            Form::Name => Err("must be letters, digits and `-`, with dots between".into()),
            Form::Choice if self.choices.contains_key(value) => Ok(value.to_owned()),
            Form::Choice => {
                let choices: Vec<&str> = self.choices.keys().map(String::as_str).collect();
                Err(format!("must be one of {}", choices.join(", ")).into())
            }
            Form::Host | Form::HostPort => self.normalise_host(value),
        }
    }

    fn normalise_host(&self, value: &str) -> Result<String, Cow<'static, str>> {
        let (plain, host) = match value.strip_prefix(PLAIN) {
            Some(host) if self.form == Form::HostPort => (PLAIN, host),
            _ => ("", value.strip_prefix("https://").unwrap_or(value)),
        };
        let host = host.strip_suffix('/').unwrap_or(host);
        // A rule is also a URL's host, whose grammar knows characters that no name of a host has.
        let is_plain_text = |c: char| c.is_alphanumeric() || "-._:[]".contains(c);
        let rule = Rule::parse(host).ok().filter(|_| host.chars().all(is_plain_text));
        let rule = rule.map(|rule| rule.to_string()).filter(|rule| self.form == Form::HostPort || !rule.contains(':'));
        let Some(host) = rule else {
            let port = if self.form == Form::HostPort { ", with or without a port" } else { ", without a port" };
            return Err(format!("must be a host or its URL{port} and without a path").into());
        };
        if !self.patterns.is_empty() && !self.patterns.iter().any(|pattern| matches(pattern, &host)) {
            return Err(format!("must be of the form {}", self.patterns.join(" or ")).into());
        }
        Ok(format!("{plain}{host}"))
    }

    /// What stands in a host for the stored value.
    pub(super) fn in_host<'v>(&'v self, stored: &'v str) -> &'v str {
        match self.form {
            Form::Choice => self.choices.get(stored).map_or(stored, String::as_str),
            Form::HostPort => stored.strip_prefix(PLAIN).unwrap_or(stored),
            _ => stored,
        }
    }

    /// Whether the stored value names a host without TLS.
    pub(super) fn is_plain(&self, stored: &str) -> bool {
        self.form == Form::HostPort && stored.starts_with(PLAIN)
    }
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Label by label, `*` being any one.
fn matches(pattern: &str, host: &str) -> bool {
    let (mut wanted, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (wanted.next(), labels.next()) {
            (None, None) => return true,
            (Some("*"), Some(label)) if !label.is_empty() => {}
            (Some(wanted), Some(label)) if wanted == label => {}
            _ => return false,
        }
    }
}
