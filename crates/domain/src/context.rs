//! `X-Alter-Context`: strings the caller attaches to a call. They attribute and can refuse; they never grant.

use std::collections::BTreeMap;
use std::fmt;

use grantd_wire::limits;
use grantd_wire::{Code, Error};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A caller's context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, String>);

impl Context {
    /// Parses the header; anything outside the limits is refused, nothing is dropped.
    pub fn parse(header: &str) -> Result<Self, Error> {
        let refuse = || Error::new(Code::InvalidContext);
        if header.chars().count() > limits::CONTEXT_CHARS_MAX {
            return Err(refuse());
        }
        let Pairs(map) = serde_json::from_str(header).map_err(|_| refuse())?;
        let fits = map.len() <= limits::CONTEXT_KEYS_MAX
            && map.iter().all(|(k, v)| {
                (1..=limits::CONTEXT_KEY_CHARS_MAX).contains(&k.chars().count())
                    && v.chars().count() <= limits::CONTEXT_VALUE_CHARS_MAX
            });
        if fits { Ok(Self(map)) } else { Err(refuse()) }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every pair, ordered by key.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// An object of strings in which no key stands twice: of two values, neither is the caller's.
struct Pairs(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Pairs, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = pairs.next_entry()? {
                    if map.insert(key, value).is_some() {
                        return Err(serde::de::Error::custom("a key stands twice"));
                    }
                }
                Ok(Pairs(map))
            }
        }
        deserializer.deserialize_map(Strings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(keys: usize, key_len: usize, value_len: usize) -> Result<Context, Error> {
        let map: BTreeMap<String, String> =
            (0..keys).map(|i| (format!("{i:0>key_len$}"), "é".repeat(value_len))).collect();
        Context::parse(&serde_json::to_string(&map).unwrap())
    }

    #[test]
    fn every_limit_holds_at_the_bound_and_not_one_past_it() {
        assert!(with(20, 2, 2).is_ok() && with(21, 2, 2).is_err());
        assert!(with(1, 64, 2).is_ok() && with(1, 65, 2).is_err());
        assert!(with(1, 1, 512).is_ok() && with(1, 1, 513).is_err());
        let long = |n: usize| Context::parse(&format!("{{\"a\":\"b\"{}}}", " ".repeat(n - 9)));
        assert!(long(4096).is_ok() && long(4097).is_err());
    }

    #[test]
    fn only_an_object_of_strings_is_a_context() {
        for bad in
            ["", "[]", "{", "null", "{\"a\":1}", "{\"a\":null}", "{\"\":\"x\"}", "\"x\"", "{\"a\":\"1\",\"a\":\"2\"}"]
        {
            assert_eq!(Context::parse(bad).unwrap_err().code, Code::InvalidContext, "{bad}");
        }
        assert_eq!(Context::parse("{\"user_id\":\"u\\u00e9\"}").unwrap().get("user_id"), Some("ué"));
    }
}
