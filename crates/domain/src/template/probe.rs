//! The harmless call that says whether a credential works, and what its answer means.
//!
//! Never: a verdict carries anything of the answer but its status.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::{Expect, Method, Probe, Template, placeholders, render};

/// A probe, ready to be sent; the credential goes in beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    /// The verdict needs the answer's body.
    pub wants_body: bool,
}

/// Why there is no call to make.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoCall {
    #[error("{0}")]
    NoProbe(String),
    #[error("the probe needs the field `{0}`, which is not stored")]
    MissingField(String),
}

/// What was seen of the answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub status: u16,
    /// The body, when the call wanted it and it was not too large.
    pub body: Option<&'a [u8]>,
}

/// What a probe says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The vendor accepted the credential.
    Works,
    /// The vendor refused the credential.
    Refused,
    /// Refused, which also happens to a good credential with narrow rights.
    Unclear,
    /// The vendor has had too many calls.
    RateLimited,
    /// The vendor failed: nothing is known.
    VendorFailed,
    /// A redirect, which is never followed, or a status that says nothing.
    Unexpected,
}

impl Template {
    /// The call that tests this value with these fields.
    pub fn call(&self, value: &str, fields: &BTreeMap<String, String>) -> Result<Call, NoCall> {
        let Some(probe) = &self.probe else {
            return Err(NoCall::NoProbe(self.no_probe.clone().unwrap_or_default()));
        };
        let rest = probe.url.strip_prefix("https://").unwrap_or(&probe.url);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let missing = |text: &str, known: &dyn Fn(&str) -> Option<String>| {
            let name = placeholders(text).into_iter().find(|name| known(name).is_none()).unwrap_or_default();
            NoCall::MissingField(name.to_owned())
        };
        let in_host = |name: &str| self.in_host(name, value, fields);
        let in_path = |name: &str| fields.get(name).map(|value| encoded(value));
        let is_plain = placeholders(host)
            .iter()
            .any(|name| self.field(name).zip(fields.get(*name)).is_some_and(|(field, value)| field.is_plain(value)));
        let scheme = if is_plain { "http" } else { "https" };
        let rendered = render(host, in_host).ok_or_else(|| missing(host, &in_host))?.to_ascii_lowercase();
        let path = render(path, in_path).ok_or_else(|| missing(path, &in_path))?;
        Ok(Call {
            method: probe.method,
            url: format!("{scheme}://{rendered}{path}"),
            headers: probe.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: probe.body.clone(),
            wants_body: probe.expect.is_some(),
        })
    }

    /// What the answer to the call means.
    pub fn judge(&self, seen: Seen<'_>) -> Verdict {
        self.probe.as_ref().map_or(Verdict::Unexpected, |probe| probe.judge(seen))
    }
}

impl Probe {
    fn judge(&self, seen: Seen<'_>) -> Verdict {
        match seen.status {
            200..=299 => match &self.expect {
                None => Verdict::Works,
                Some(expect) => seen.body.map_or(Verdict::Unexpected, |body| expect.judge(body)),
            },
            status if self.unclear.contains(&status) => Verdict::Unclear,
            status if self.refused.contains(&status) => Verdict::Refused,
            429 => Verdict::RateLimited,
            500..=599 => Verdict::VendorFailed,
            _ => Verdict::Unexpected,
        }
    }
}

impl Expect {
    fn judge(&self, body: &[u8]) -> Verdict {
        let Ok(json) = serde_json::from_slice::<Value>(body) else { return Verdict::Unexpected };
        let found = json.pointer(&self.pointer).filter(|found| !found.is_null());
        let is_wanted = |wanted: &String| serde_json::from_str::<Value>(wanted).ok().as_ref() == found;
        let is_met = found.is_some() && self.value.as_ref().is_none_or(is_wanted);
        if is_met { Verdict::Works } else { Verdict::Refused }
    }
}

/// Percent-encoded for one segment of a path.
fn encoded(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut out, c| {
        if c.is_ascii_alphanumeric() || b"-._~".contains(&c) {
            out.push(char::from(c));
        } else {
            let _ = write!(out, "%{c:02X}");
        }
        out
    })
}
