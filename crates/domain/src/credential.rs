//! What is sealed of a managed secret: its value and further fields.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::secret::Secret;

/// A managed secret's value and fields, in the clear. Wiped on drop; `Debug` prints nothing of it.
#[derive(Deserialize, Serialize)]
pub struct SecretValue {
    value: String,
    fields: BTreeMap<String, String>,
}

impl SecretValue {
    /// Takes value and fields over.
    pub fn new(value: String, fields: BTreeMap<String, String>) -> Self {
        Self { value, fields }
    }

    /// Reads what was sealed. `None`: it is not one of ours.
    pub fn parse(sealed: &Secret) -> Option<Self> {
        serde_json::from_str(sealed.reveal()).ok()
    }

    /// The text to seal.
    pub fn text(&self) -> Secret {
        // One allocation of the right size, so that growing leaves no copies behind.
        let bytes = self.value.len() + self.fields.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
        let mut text = Vec::with_capacity(2 * bytes + 64);
        serde_json::to_writer(&mut text, self).expect("strings have a JSON form");
        Secret::new(String::from_utf8(text).expect("JSON is UTF-8"))
    }

    /// The value. Every caller is a place a secret can leave by.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The fields. Every caller is a place a secret can leave by.
    pub fn fields(&self) -> &BTreeMap<String, String> {
        &self.fields
    }

    /// The value, and the fields to complete.
    pub fn parts_mut(&mut self) -> (&str, &mut BTreeMap<String, String>) {
        (&self.value, &mut self.fields)
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.value.zeroize();
        for value in self.fields.values_mut() {
            value.zeroize();
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}
