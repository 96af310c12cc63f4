//! What every entry of the catalogue must be, so that a file that could not work, or opened more than it should, is refused when it is read.

use std::collections::BTreeMap;

use super::{Body, CUSTOM, Ends, Environment, IdentitySource, Method, Provider, RefreshKind, RevokeAuth};
use crate::destination::Rule;
use crate::evidence::is_https;
use crate::template::{Form, http_name, placeholders, render};

/// What stands in a revocation's URL beside fields.
const OF_REVOKE: [&str; 2] = ["client_id", "account_id"];

impl Provider {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure(self.id.chars().all(is_id) && !self.id.is_empty() && self.id != CUSTOM, "id")?;
        ensure(!self.name.is_empty() && !self.category.is_empty(), "name or category")?;
        ensure(self.description.ends_with('.'), "description")?;
        ensure(is_https(&self.docs), "docs link")?;
        ensure(self.evidence().all(|(_, evidence)| evidence.is_well_formed()), "evidence")?;
        ensure(is_url(&self.authorize.url) && is_url(&self.token.url), "URL of authorize or token")?;
        ensure(self.authorize.issuer.as_deref().is_none_or(is_url), "issuer")?;
        let own =
            ["response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"];
        ensure(own.iter().all(|name| !self.authorize.params.contains_key(*name)), "parameter of authorize")?;
        ensure([" ", ",", "+"].contains(&self.scopes.separator.as_str()), "separator of scopes")?;
        ensure(self.scopes.required.iter().all(|scope| self.scopes.default.contains(scope)), "required scope")?;
        let pointers = [&self.token.root, &self.token.expires_at];
        ensure(pointers.into_iter().flatten().all(|p| is_pointer(p)), "pointer into the token answer")?;
        ensure(!(self.token.never_expires && self.token.lifetime_s.is_some()), "lifetime")?;
        ensure(are_headers(&self.token.headers), "header of the token call")?;
        // What stands in a URL stands in logs on the way.
        ensure(self.token.body != Body::Query, "body of the token call")?;
        self.check_renewal()?;
        self.check_fields()?;
        self.check_identity()?;
        self.check_hosts()?;
        self.environments.values().try_for_each(Environment::check)?;
        // Each of them is held against the same.
        self.environments.keys().filter_map(|id| self.in_environment(id)).try_for_each(|mut here| {
            here.environments.clear();
            here.check()
        })
    }

    /// What is given can be of one form alone, and leads to no server but the provider's.
    fn check_fields(&self) -> Result<(), &'static str> {
        let is_known = |form| matches!(form, Form::Label | Form::Name | Form::Text);
        for (index, field) in self.fields.iter().enumerate() {
            ensure(field.is_well_formed() && is_known(field.form) && !field.secret, "field")?;
            ensure(field.required != field.default.is_some(), "field: it is required, or there is a default")?;
            ensure(self.fields[..index].iter().all(|earlier| earlier.name != field.name), "field: twice")?;
        }
        let is_field = |name: &str| self.field(name).is_some();
        ensure(self.urls().all(|url| self.is_pinned(url)), "URL with a field")?;
        let redirect_uri = self.authorize.redirect_uri.as_deref().map(placeholders);
        ensure(redirect_uri.is_none_or(|names| names.len() == 1 && is_field(names[0])), "redirect URI")
    }

    /// Whether the URL is one of the provider's whatever stands for its fields: a field is the first labels of a host whose others are
    /// fixed, or somewhere behind the host.
    fn is_pinned(&self, url: &str) -> bool {
        let Some(rest) = url.strip_prefix("https://") else { return false };
        let (host, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let fixed = match placeholders(host)[..] {
            [] => host,
            [name] => match host.strip_prefix(&format!("{{{name}}}.")) {
                Some(fixed) if self.field(name).is_some_and(|field| field.form != Form::Text) => fixed,
                _ => return false,
            },
            _ => return false,
        };
        let is_known = |name: &&str| self.field(name).is_some() || OF_REVOKE.contains(name);
        fixed.contains('.') && !fixed.contains(['{', '}']) && placeholders(behind).iter().all(is_known)
    }

    fn check_renewal(&self) -> Result<(), &'static str> {
        let known = ["access_token", "client_id", "client_secret"];
        let is_known = |params: &BTreeMap<String, String>| params.values().all(|v| names_only(v, &known));
        if let Some(exchange) = &self.exchange {
            ensure(is_url(&exchange.url) && is_known(&exchange.params), "exchange")?;
        }
        let refresh = &self.refresh;
        let is_exchange = refresh.kind == RefreshKind::Exchange;
        ensure(refresh.url.as_deref().is_none_or(is_url), "URL of refresh")?;
        ensure(
            refresh.method.is_some() == is_exchange && (!is_exchange || refresh.url.is_some()),
            "method of refresh",
        )?;
        let has_token = refresh.params.values().any(|v| placeholders(v).contains(&"access_token"));
        ensure(has_token == is_exchange && is_known(&refresh.params), "parameter of refresh")?;
        let is_spent = matches!(refresh.kind, RefreshKind::Rotates | RefreshKind::Unknown);
        ensure(refresh.grace_s.is_none() || is_spent, "grace of refresh")?;
        let Some(revoke) = &self.revoke else { return Ok(()) };
        let known = ["token", "client_id", "client_secret", "account_id"];
        ensure(is_url(&revoke.url), "URL of revoke")?;
        let mut sent = revoke.params.values().chain(revoke.headers.values());
        ensure(sent.all(|v| names_only(v, &known)) && are_headers(&revoke.headers), "parameter of revoke")?;
        let has_token = revoke.params.values().any(|v| placeholders(v).contains(&"token"));
        let is_named = has_token || revoke.auth == RevokeAuth::Bearer || revoke.ends == Ends::Grant;
        ensure(is_named, "revoke: it names no token")
    }

    fn check_identity(&self) -> Result<(), &'static str> {
        let identity = &self.identity;
        let is_call = identity.source == IdentitySource::Call;
        ensure(identity.url.as_deref().is_some_and(is_url) == is_call, "URL of identity")?;
        ensure(is_call || identity.headers.is_empty() && identity.body.is_none(), "call of identity")?;
        ensure(identity.method != Method::Get || identity.body.is_none(), "body of identity")?;
        ensure(are_headers(&identity.headers), "header of identity")?;
        let mut pointers = identity.id.iter().chain(&identity.name).chain(&identity.email);
        ensure(!identity.id.is_empty() && pointers.all(|p| is_pointer(p)), "pointer of identity")
    }

    fn check_hosts(&self) -> Result<(), &'static str> {
        ensure(!self.hosts.allow.is_empty() || self.hosts.pin.is_some(), "list of hosts")?;
        ensure(self.hosts.allow.iter().all(|rule| Rule::parse(rule).is_ok()), "host")?;
        if let Some(pin) = &self.hosts.pin {
            ensure(is_pointer(&pin.pointer) && placeholders(&pin.format) == ["value"], "pinned host")?;
            let sample = render(&pin.format, |_| Some("a.example.com".to_owned()));
            ensure(sample.is_some_and(|host| Rule::parse(&host).is_ok()), "pinned host")?;
            ensure(
                !pin.patterns.is_empty() && pin.patterns.iter().all(|p| Rule::parse(p).is_ok()),
                "pattern of the pinned host",
            )?;
        }
        let injection = &self.injection;
        ensure(http_name(&injection.header) && injection.format.matches("{token}").count() == 1, "injection")?;
        ensure(are_headers(&injection.further), "injection")?;
        ensure(injection.further.values().all(|value| names_only(value, &["client_id"])), "injection")
    }
}

impl Environment {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        ensure(!self.name.is_empty(), "name of an environment")?;
        let urls = [&self.authorize, &self.token, &self.refresh, &self.revoke, &self.identity, &self.issuer];
        ensure(urls.into_iter().flatten().all(|url| is_url(url)), "URL of an environment")?;
        let mut rules = self.hosts.iter().chain(&self.patterns).flatten();
        ensure(rules.all(|rule| Rule::parse(rule).is_ok()), "host of an environment")
    }
}

fn ensure(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

/// Whether it is a link once its fields are there.
fn is_url(text: &str) -> bool {
    is_https(&text.replace(['{', '}'], ""))
}

fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
}

fn are_headers(headers: &BTreeMap<String, String>) -> bool {
    headers.iter().all(|(name, value)| http_name(name) && !value.is_empty())
}

/// Whether what stands in braces is one of `known`.
fn names_only(text: &str, known: &[&str]) -> bool {
    placeholders(text).iter().all(|name| known.contains(name))
}
