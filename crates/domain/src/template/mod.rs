//! Templates of managed secrets: what a vendor's credential needs beside its value, how it is sent, where it may go, and which
//! harmless call says whether it works.
//!
//! They are data, in `providers/secrets/`, and every fact says where it is from. Invariant: a template never opens a host that its
//! vendor does not run, nor one that belongs to another account: the part of a host that names the account is a field.

mod catalog;
mod fill;
mod form;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use grantd_wire::api::CredentialType;
use grantd_wire::limits::{SECRET_FIELD_NAME_CHARS_MAX, SECRET_FIELDS_MAX};
use grantd_wire::sdk::{INJECTION_SIGV4, INJECTION_TOKEN, InjectionTarget};
use serde::Deserialize;

use crate::destination::Rule;
use crate::evidence::{Evidence, is_https};

pub use catalog::{all, find};
pub use probe::{Call, NoCall, Seen, Verdict};

/// The id that stands for no template: everything is said by flags.
pub const CUSTOM: &str = "custom";

/// Placeholders beside the fields: the host in a value that is a URL, and that host without its first label.
const VALUE_HOST: &str = "value_host";
const VALUE_HOST_TAIL: &str = "value_host_tail";

/// What one vendor's credential needs.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub id: String,
    pub name: String,
    pub category: String,
    /// The vendor's page about authentication.
    pub docs: String,
    pub credential_type: CredentialType,
    /// What the value is, in the vendor's words.
    pub value: String,
    pub notes: Option<String>,
    #[serde(default)]
    pub fields: Vec<Field>,
    pub injection: Injection,
    pub hosts: Hosts,
    pub probe: Option<Probe>,
    /// Why there is no probe.
    pub no_probe: Option<String>,
}

/// A named value beside the secret's value.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    pub label: String,
    /// Where to find it.
    pub find: String,
    pub form: Form,
    #[serde(default)]
    pub required: bool,
    /// It is a secret itself.
    #[serde(default)]
    pub secret: bool,
    /// Stored when it is left out; may name other fields.
    pub default: Option<String>,
    /// What can be chosen, and what stands in hosts for it.
    #[serde(default)]
    pub choices: BTreeMap<String, String>,
    /// Which hosts it can be, `*` being one label; none: any.
    #[serde(default)]
    pub patterns: Vec<String>,
}

/// What a field's value looks like.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Text,
    /// One label of a host name.
    Label,
    /// Labels with dots between them.
    Name,
    /// A host, also as an https URL.
    Host,
    /// A host with or without a port, also as a URL.
    HostPort,
    Choice,
}

impl Form {
    /// Whether a value of this form can stand in a host.
    fn is_of_host(self) -> bool {
        self != Self::Text
    }
}

/// How the credential is sent.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    pub header: String,
    pub format: String,
    #[serde(default)]
    pub further: Vec<Further>,
    pub evidence: Evidence,
}

/// One further injection.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Further {
    pub target: InjectionTarget,
    pub key: String,
    /// `token`, or the name of a field.
    pub source: String,
}

/// Where the credential may go.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Destination rules with `{field}` in them; one whose field is not given is left out.
    pub allow: Vec<String>,
    pub evidence: Evidence,
}

/// A call that changes nothing, costs nothing, and needs the credential.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub method: Method,
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// Statuses that mean the credential is refused.
    #[serde(default = "refused_default")]
    pub refused: Vec<u16>,
    /// Statuses that a bad credential gets, and a good one with narrow rights as well.
    #[serde(default)]
    pub unclear: Vec<u16>,
    /// What a 200 must say besides.
    pub expect: Option<Expect>,
    pub evidence: Evidence,
}

fn refused_default() -> Vec<u16> {
    vec![401, 403]
}

/// Methods of probes.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    /// Where a vendor has no GET: a query that reads.
    Post,
}

impl Method {
    /// As it is sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A place in the answer's JSON that must be there and not null.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// An RFC 6901 pointer.
    pub pointer: String,
    /// Its JSON text, if not any will do.
    pub value: Option<String>,
}

/// Why a file is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("is not of the form of a template")]
    Form(#[source] Box<toml::de::Error>),
    #[error("has a wrong {0}")]
    Wrong(&'static str),
}

impl Template {
    /// Reads a file of the catalogue. Strict: what is not known, or could not work, is refused.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template: Self = toml::from_str(text).map_err(|e| TemplateError::Form(Box::new(e)))?;
        template.check().map_err(TemplateError::Wrong)?;
        Ok(template)
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether every group of facts was read where it is made.
    pub fn is_verified(&self) -> bool {
        let probe = self.probe.as_ref().map(|probe| &probe.evidence);
        [Some(&self.injection.evidence), Some(&self.hosts.evidence), probe]
            .into_iter()
            .flatten()
            .all(|evidence| evidence.level.is_verified())
    }

    fn check(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure(self.id.chars().all(is_id) && !self.id.is_empty() && self.id != CUSTOM, "id")?;
        ensure(!self.name.is_empty() && !self.value.is_empty(), "name or value")?;
        ensure(!self.category.is_empty(), "category")?;
        ensure(is_https(&self.docs), "docs link")?;
        ensure(self.probe.is_some() != self.no_probe.is_some(), "probe: there is one, or a reason why not")?;
        ensure(self.fields.len() <= SECRET_FIELDS_MAX, "number of fields")?;
        for (index, field) in self.fields.iter().enumerate() {
            ensure(field.is_well_formed(), "field")?;
            ensure(self.fields[..index].iter().all(|earlier| earlier.name != field.name), "field: twice")?;
            let defaults = field.default.as_deref().map(placeholders).unwrap_or_default();
            ensure(defaults.iter().all(|name| self.field(name).is_some_and(|f| f.required)), "default of a field")?;
        }
        self.check_injection()?;
        self.check_hosts()?;
        let evidence = [&self.injection.evidence, &self.hosts.evidence];
        let evidence = evidence.into_iter().chain(self.probe.as_ref().map(|probe| &probe.evidence));
        for evidence in evidence {
            ensure(evidence.is_well_formed(), "evidence")?;
        }
        self.probe.as_ref().map_or(Ok(()), |probe| self.check_probe(probe))
    }

    fn check_injection(&self) -> Result<(), &'static str> {
        let is_signed = self.credential_type == CredentialType::AwsSigV4;
        let format = self.injection.format.as_str();
        if is_signed != (format == INJECTION_SIGV4) || !is_signed && format.matches(INJECTION_TOKEN).count() != 1 {
            return Err("format");
        }
        let is_known = |further: &Further| {
            further.source == "token"
                || self.field(&further.source).is_some_and(|field| field.required || field.default.is_some())
        };
        if self.injection.further.iter().all(is_known) { Ok(()) } else { Err("source of an injection") }
    }

    /// Every rule is one when its fields are there, and none is as wide as a field says.
    fn check_hosts(&self) -> Result<(), &'static str> {
        if self.hosts.allow.is_empty() {
            return Err("list of hosts");
        }
        for rule in &self.hosts.allow {
            for name in placeholders(rule) {
                let is_host = self.field(name).is_some_and(|field| field.form.is_of_host());
                if !is_host && name != VALUE_HOST && name != VALUE_HOST_TAIL {
                    return Err("field in a host");
                }
            }
            let sample = render(rule, |name| {
                let choice = self.field(name).and_then(|field| field.choices.values().next());
                Some(choice.cloned().unwrap_or_else(|| "a.example.com".to_owned()))
            });
            if sample.is_none_or(|sample| Rule::parse(&sample).is_err()) {
                return Err("host");
            }
        }
        Ok(())
    }

    fn check_probe(&self, probe: &Probe) -> Result<(), &'static str> {
        let rest = probe.url.strip_prefix("https://").ok_or("URL of the probe")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.is_empty() {
            return Err("path of the probe");
        }
        for name in placeholders(host) {
            let is_host = self.field(name).is_some_and(|field| field.form.is_of_host());
            if !is_host && name != VALUE_HOST {
                return Err("host of the probe");
            }
        }
        for name in placeholders(path) {
            if self.field(name).is_none_or(|field| field.secret) {
                return Err("path of the probe");
            }
        }
        let mut statuses = probe.refused.iter().chain(&probe.unclear);
        if statuses.any(|status| !(400..500).contains(status)) {
            return Err("status of the probe");
        }
        let is_header = |(name, value): (&String, &String)| {
            let name = name.as_str();
            http_name(name) && !name.eq_ignore_ascii_case(&self.injection.header) && !value.is_empty()
        };
        if !probe.headers.iter().all(is_header) || probe.method == Method::Get && probe.body.is_some() {
            return Err("request of the probe");
        }
        match &probe.expect {
            Some(expect) if !expect.pointer.starts_with('/') => Err("pointer of the probe"),
            Some(Expect { value: Some(value), .. }) if serde_json::from_str::<serde_json::Value>(value).is_err() => {
                Err("expected value of the probe")
            }
            _ => Ok(()),
        }
    }
}

impl Field {
    pub(crate) fn is_well_formed(&self) -> bool {
        let is_name = self.name.starts_with(|c: char| c.is_ascii_lowercase())
            && self.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
            && self.name.len() <= SECRET_FIELD_NAME_CHARS_MAX
            && ![VALUE_HOST, VALUE_HOST_TAIL].contains(&self.name.as_str());
        let is_chosen = match (self.form, &self.default) {
            (Form::Choice, Some(default)) => self.choices.contains_key(default),
            (Form::Choice, None) => !self.choices.is_empty(),
            _ => self.choices.is_empty(),
        };
        is_name
            && is_chosen
            && !self.label.is_empty()
            && !self.find.is_empty()
            && !(self.required && self.default.is_some())
            && (self.patterns.is_empty() || matches!(self.form, Form::Host | Form::HostPort))
    }
}

/// The names in braces, in their order.
pub(crate) fn placeholders(text: &str) -> Vec<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

/// `text` with `{name}` replaced; none if one has no value.
pub(crate) fn render(text: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        out.push_str(before);
        out.push_str(&value(name)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

pub(crate) fn http_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}
