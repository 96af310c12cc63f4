//! Takes a credential out of what a provider sends back: some echo the request they got.

use std::borrow::Cow;

use crate::inject::percent_encode;

/// What stands where a credential stood.
pub const MARK: &str = "[redacted]";
/// Shorter values would also hit ordinary text.
const SECRET_BYTES_MIN: usize = 6;

/// The texts to look for.
pub struct Scrubber(Vec<String>);

impl Scrubber {
    /// Looks for these secrets, as they are, inside JSON text and inside a URL.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets.into_iter().filter(|s| s.len() >= SECRET_BYTES_MIN) {
            let quoted = serde_json::Value::from(secret).to_string();
            for form in [secret, quoted.trim_matches('"'), &percent_encode(secret)] {
                if !needles.iter().any(|n| n == form) {
                    needles.push(form.to_owned());
                }
            }
        }
        // A secret that contains another one goes first.
        needles.sort_by_key(|n| std::cmp::Reverse(n.len()));
        Self(needles)
    }

    /// `text` without them.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for needle in &self.0 {
            if text.contains(needle.as_str()) {
                text = Cow::Owned(text.replace(needle.as_str(), MARK));
            }
        }
        text
    }

    /// `bytes` without them, whatever else they hold.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if let Some(needle) = self.0.iter().find(|n| rest.starts_with(n.as_bytes())) {
                kept.extend_from_slice(MARK.as_bytes());
                rest = &rest[needle.len()..];
            } else {
                kept.push(*first);
                rest = &rest[1..];
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_goes() {
        let scrubber = Scrubber::new(["pa\"ss/word", "short"]);
        let text = r#"{"a":"pa\"ss/word","b":"?k=pa%22ss%2Fword","c":"short"}"#;
        let wanted = r#"{"a":"[redacted]","b":"?k=[redacted]","c":"short"}"#;
        assert_eq!(scrubber.text(text), wanted);
        assert_eq!(scrubber.bytes(text.as_bytes()), wanted.as_bytes());
    }

    #[test]
    fn a_secret_inside_another_leaves_nothing_behind() {
        let scrubber = Scrubber::new(["secret", "secret-and-more"]);
        assert_eq!(scrubber.text("x secret-and-more y secret"), "x [redacted] y [redacted]");
        assert_eq!(scrubber.bytes(b"\xff\xfesecret\xff"), b"\xff\xfe[redacted]\xff");
    }
}
