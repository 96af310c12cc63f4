//! From a template and what an operator gives to a secret that can be stored.

use std::collections::BTreeMap;

use grantd_wire::Error;
use grantd_wire::api::SecretCreate;
use grantd_wire::sdk::Injection as Sent;
use url::Url;

use super::{Field, Form, Template, VALUE_HOST, VALUE_HOST_TAIL, placeholders, render};
use crate::destination::Rules;
use crate::inject::FIELD_SOURCE;

impl Template {
    /// Completes what was asked for. What was said explicitly stays: type, header, format, injections, hosts.
    pub fn fill(&self, ask: &mut SecretCreate) -> Result<(), Error> {
        let explicit: Vec<&str> =
            ask.injections.iter().filter_map(|i| i.value_source.strip_prefix(FIELD_SOURCE)).collect();
        for name in ask.fields.keys() {
            if self.field(name).is_none() && !explicit.contains(&name.as_str()) {
                return Err(self.unknown_field(name));
            }
        }
        let has_hosts = !ask.allowed_hosts.is_empty() || ask.allow_any_host;
        self.complete(&mut ask.fields, has_hosts)?;
        if ask.credential_type.is_none_or(|kind| kind == self.credential_type) {
            ask.credential_type = Some(self.credential_type);
            ask.injection_header.get_or_insert_with(|| self.injection.header.clone());
            ask.injection_format.get_or_insert_with(|| self.injection.format.clone());
        }
        if ask.injections.is_empty() {
            let header = ask.injection_header.as_deref().unwrap_or_default();
            ask.injections = self.injections().filter(|sent| !sent.key.eq_ignore_ascii_case(header)).collect();
        }
        if !has_hosts {
            ask.allowed_hosts = self.allowed_hosts(&ask.value, &ask.fields)?;
        }
        Ok(())
    }

    /// The further injections, in the words of the protocol.
    pub fn injections(&self) -> impl Iterator<Item = Sent> {
        self.injection.further.iter().map(|further| Sent {
            target: further.target,
            key: further.key.clone(),
            value_source: match further.source.as_str() {
                "token" => further.source.clone(),
                field => format!("{FIELD_SOURCE}{field}"),
            },
        })
    }

    /// Completes the fields of a rotation, and refuses what would change the hosts that the old value was pinned to.
    pub fn refill(
        &self,
        value: &str,
        fields: &mut BTreeMap<String, String>,
        old: Option<(&str, &BTreeMap<String, String>)>,
        hosts: &Rules,
    ) -> Result<(), Error> {
        // What only fixes hosts need not be said again.
        for field in self.fields.iter().filter(|field| self.is_for_hosts_only(field)) {
            if let Some(kept) = old.and_then(|(_, old)| old.get(&field.name)) {
                fields.entry(field.name.clone()).or_insert_with(|| kept.clone());
            }
        }
        self.complete(fields, true)?;
        let rules = |value, fields| self.allowed_hosts(value, fields).ok().and_then(|t| Rules::parse_all(&t).ok());
        let Some(pinned) = old.and_then(|(value, fields)| rules(value, fields)).filter(|rules| rules == hosts) else {
            // The operator chose the hosts, or nothing is left to compare with: the stored hosts rule.
            return Ok(());
        };
        if rules(value, fields).is_some_and(|rules| rules == pinned) {
            return Ok(());
        }
        let fixing = self.hosts.allow.iter().flat_map(|rule| placeholders(rule)).next().unwrap_or_default();
        let field = if self.field(fixing).is_some() { format!("fields.{fixing}") } else { "value".to_owned() };
        Err(Error::impossible(&field, "would change where the secret may go, which a rotation does not")
            .hint("Store it as a new secret, or name the new hosts first: grantd managed-secrets set-allowed-hosts"))
    }

    /// Puts defaults in, brings every value to its form, and names what is missing.
    fn complete(&self, fields: &mut BTreeMap<String, String>, has_hosts: bool) -> Result<(), Error> {
        for field in &self.fields {
            let Some(value) = fields.get_mut(&field.name) else { continue };
            *value = field.normalise(value).map_err(|why| {
                Error::impossible(
                    &format!("fields.{}", field.name),
                    &format!("{why} ({}: {})", field.label, field.find),
                )
            })?;
        }
        for field in &self.fields {
            if fields.contains_key(&field.name) {
                continue;
            }
            if field.required && !(has_hosts && self.is_for_hosts_only(field)) {
                return Err(self.missing(field));
            }
            let default = field.default.as_deref().and_then(|text| render(text, |name| fields.get(name).cloned()));
            if let Some(default) = default {
                fields.insert(field.name.clone(), default);
            }
        }
        Ok(())
    }

    /// Fields that belong to a credential and not to the hosts it goes to.
    pub fn fields_of_key(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !self.is_for_hosts_only(field))
    }

    /// Whether there are others.
    pub fn has_fields_of_hosts(&self) -> bool {
        self.fields.iter().any(|field| self.is_for_hosts_only(field))
    }

    /// Whether a value that names its own host names one of these.
    pub fn is_for(&self, value: &str, fields: &BTreeMap<String, String>, hosts: &Rules) -> bool {
        let names_host =
            |rule: &String| placeholders(rule).iter().any(|name| [VALUE_HOST, VALUE_HOST_TAIL].contains(name));
        if !self.hosts.allow.iter().any(names_host) {
            return true;
        }
        let rules = self.allowed_hosts(value, fields).ok().and_then(|texts| Rules::parse_all(&texts).ok());
        rules.is_some_and(|rules| rules.0.iter().all(|rule| hosts.0.contains(rule)))
    }

    fn is_for_hosts_only(&self, field: &Field) -> bool {
        field.form != Form::Text && self.injection.further.iter().all(|further| further.source != field.name)
    }

    /// The destination rules, pinned to the account that value and fields name.
    pub(super) fn allowed_hosts(&self, value: &str, fields: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
        let mut rules = Vec::with_capacity(self.hosts.allow.len());
        for rule in &self.hosts.allow {
            let is_of_value = placeholders(rule).iter().any(|name| [VALUE_HOST, VALUE_HOST_TAIL].contains(name));
            match render(rule, |name| self.in_host(name, value, fields)) {
                Some(rule) => rules.push(rule.to_ascii_lowercase()),
                None if is_of_value => {
                    return Err(Error::impossible(
                        "value",
                        "must be a connection string, such as postgresql://user:password@host.example.com/database",
                    ));
                }
                // Of a field that may be left out.
                None => {}
            }
        }
        Ok(rules)
    }

    /// What stands in a host for a placeholder.
    pub(super) fn in_host(&self, name: &str, value: &str, fields: &BTreeMap<String, String>) -> Option<String> {
        match name {
            VALUE_HOST => host_of(value),
            VALUE_HOST_TAIL => host_of(value)?.split_once('.').map(|(_, tail)| tail.to_owned()),
            name => Some(self.field(name)?.in_host(fields.get(name)?).to_owned()),
        }
    }

    fn missing(&self, field: &Field) -> Error {
        let what = format!("is missing: {}, {}", field.label, field.find);
        Error::impossible(&format!("fields.{}", field.name), &what)
            .hint(format!("grantd managed-secrets create … --template {} --field {}=…", self.id, field.name))
    }

    fn unknown_field(&self, name: &str) -> Error {
        let known: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        let what = match known[..] {
            [] => format!("the template {} takes no fields", self.id),
            _ => format!("is no field of the template {}; it takes {}", self.id, known.join(", ")),
        };
        Error::impossible(&format!("fields.{name}"), &what)
            .hint("A further field needs an injection that sends it: --injection header:NAME:FIELD")
    }
}

/// The host of a value that is a URL of PostgreSQL; nothing else of it.
fn host_of(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))?;
    let host = url.host_str()?.to_ascii_lowercase();
    let is_name = host.contains('.') && host.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'.');
    is_name.then_some(host)
}
