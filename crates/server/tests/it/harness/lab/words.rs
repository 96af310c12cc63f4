//! What a provider says and hears, word by word.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use grantd_domain::provider::{Method, Provider};
use serde_json::{Value, json};

use super::{CLIENT_ID, CLIENT_SECRET};

pub(super) type Params = BTreeMap<String, String>;

pub(super) fn parsed(text: &[u8]) -> Params {
    form_urlencoded::parse(text).into_owned().collect()
}

pub(super) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap()
}

/// Puts a value where a pointer leads, and makes what is missing on the way.
pub(super) fn put(at: &mut Value, pointer: &str, value: Value) {
    let mut at = at;
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    for (n, part) in parts.iter().enumerate() {
        let is_list = parts.get(n + 1).is_some_and(|next| *next == "0");
        let empty = if is_list { json!([{}]) } else { json!({}) };
        at = match at {
            Value::Array(items) => &mut items[0],
            other => {
                let fields = other.as_object_mut().unwrap();
                fields.entry((*part).to_owned()).or_insert(if n + 1 == parts.len() { Value::Null } else { empty })
            }
        };
    }
    *at = value;
}

pub(super) fn name_of(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Delete => "DELETE",
    }
}

pub(super) fn form_of(value: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value)));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub(super) fn in_path(text: &str) -> String {
    encoded(text).replace('+', "%20")
}

pub(super) fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encoded(CLIENT_ID), encoded(CLIENT_SECRET))))
}

pub(super) fn digest(verifier: &str) -> String {
    let hash = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, verifier.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(hash)
}

pub(super) fn filled(params: &Params, token: &str, account: &str) -> Params {
    let fill = |text: &String| {
        let text = text.replace("{access_token}", token).replace("{token}", token).replace("{account_id}", account);
        text.replace("{client_id}", CLIENT_ID).replace("{client_secret}", CLIENT_SECRET)
    };
    params.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
}

/// Whose account it is, as grantd should know it.
pub fn account_of(facts: &Provider) -> String {
    let parts: Vec<String> = (0..facts.identity.id.len()).map(|n| format!("part-{n}")).collect();
    parts.join(":")
}

/// The host of that account's own.
pub fn pinned_host(facts: &Provider) -> Option<String> {
    facts.hosts.pin.as_ref().map(|pin| pin.patterns[0].replace('*', "one"))
}
