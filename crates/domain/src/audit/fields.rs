//! The pairs of an event's core or private part, in canonical text from the start: no tree is built to be walked again.

use std::fmt::{Display, Write as _};
use std::ops::Range;

use serde_json::Value;

use super::canonical;

/// Pairs of ASCII names and canonical values. A name stands once; the last value counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    text: String,
    places: Vec<(&'static str, Range<usize>)>,
}

impl Fields {
    /// Room for an event of the usual size, so that it is put together without growing.
    pub(super) fn with_capacity(bytes: usize, fields: usize) -> Self {
        Self { text: String::with_capacity(bytes), places: Vec::with_capacity(fields) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The canonical value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.places.iter().find(|(n, _)| *n == name).map(|(_, place)| &self.text[place.clone()])
    }

    /// A text of any characters.
    pub(super) fn put_text(&mut self, name: &'static str, value: &str) {
        let from = self.text.len();
        push_text(&mut self.text, value);
        self.place(name, from);
    }

    /// What prints without quotes, backslashes and control characters: ids, times, addresses.
    pub(super) fn put_plain(&mut self, name: &'static str, value: impl Display) {
        let from = self.text.len();
        write!(self.text, "\"{value}\"").expect("a string takes everything");
        debug_assert!(is_plain(&self.text[from + 1..self.text.len() - 1]));
        self.place(name, from);
    }

    /// What is canonical as it prints.
    pub(super) fn put_canonical(&mut self, name: &'static str, value: impl Display) {
        let from = self.text.len();
        write!(self.text, "{value}").expect("a string takes everything");
        debug_assert!(
            serde_json::from_str(&self.text[from..]).is_ok_and(|v: Value| canonical(&v) == self.text[from..])
        );
        self.place(name, from);
    }

    /// Anything else.
    pub(super) fn put(&mut self, name: &'static str, value: &Value) {
        match value {
            Value::String(text) => self.put_text(name, text),
            value => {
                let from = self.text.len();
                self.text.push_str(&canonical(value));
                self.place(name, from);
            }
        }
    }

    fn place(&mut self, name: &'static str, from: usize) {
        let place = from..self.text.len();
        match self.places.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = place,
            None => self.places.push((name, place)),
        }
    }

    /// The pairs in canonical order: names are ASCII, so it is the order of their bytes.
    pub(super) fn sorted(&mut self) -> impl Iterator<Item = (&'static str, &str)> {
        self.places.sort_unstable_by_key(|(name, _)| *name);
        self.places.iter().map(|(name, place)| (*name, &self.text[place.clone()]))
    }

    /// The object.
    pub(super) fn object(&mut self) -> String {
        let mut object = String::with_capacity(self.text.len() + self.places.len() * 16 + 2);
        for (name, value) in self.sorted() {
            push_pair(&mut object, name, value);
        }
        object.push('}');
        // The first comma, or the only brace.
        object.replace_range(..usize::from(object.len() > 1), "{");
        object
    }
}

/// Appends a pair, a comma before it.
pub(super) fn push_pair(text: &mut String, name: &str, value: &str) {
    text.push_str(",\"");
    text.push_str(name);
    text.push_str("\":");
    text.push_str(value);
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\')
}

/// A string as RFC 8785 writes it.
fn push_text(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&canonical(&text));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts() {
        let mut fields = Fields::default();
        fields.put_text("b", "old");
        fields.put("a", &json!({"y": 1, "x": null}));
        fields.put_plain("b", 7);
        assert_eq!(fields.get("b"), Some("\"7\""));
        assert_eq!(fields.object(), r#"{"a":{"x":null,"y":1},"b":"7"}"#);
        assert_eq!(Fields::default().object(), "{}");
    }

    proptest! {
        #[test]
        fn any_text_is_written_canonically(text in any::<String>()) {
            let mut fields = Fields::default();
            fields.put_text("t", &text);
            prop_assert_eq!(fields.object(), canonical(&json!({ "t": text })));
        }
    }
}
