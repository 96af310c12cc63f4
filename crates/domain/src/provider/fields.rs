//! What an operator says of a provider when an app is registered with it, and where it stands in the provider's URLs.
//!
//! Never: a value that leads to a server which is not the provider's. The schema sees to where a field may stand, its form to what it may be.

use std::collections::BTreeMap;

use grantd_wire::Error;
use grantd_wire::limits::PROVIDER_FIELD_CHARS_MAX;

use super::Provider;
use super::call::in_path;
use crate::grant::check_text;
use crate::template::{Field, Form, render};

impl Provider {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Says what of it is not of its form, or of no use.
    fn check_given(&self, given: &BTreeMap<String, String>) -> Result<(), Error> {
        for (name, value) in given {
            let path = format!("fields.{name}");
            let Some(field) = self.field(name) else { return Err(self.unknown(&path)) };
            check_text(&path, value, PROVIDER_FIELD_CHARS_MAX)?;
            let formed = field.normalise(value).map(drop).and_then(|()| is_one_part(field, value));
            formed.map_err(|why| Error::impossible(&path, &format!("{why} ({}: {})", field.label, field.find)))?;
        }
        Ok(())
    }

    fn check_all_is_given(&self, given: &BTreeMap<String, String>) -> Result<(), Error> {
        match self.fields.iter().find(|field| field.required && !given.contains_key(&field.name)) {
            Some(field) => {
                let what = format!("is missing: {}, {}", field.label, field.find);
                Err(Error::impossible(&format!("fields.{}", field.name), &what)
                    .hint(format!("grantd providers create {} … --field {}=…", self.id, field.name)))
            }
            None => Ok(()),
        }
    }

    fn unknown(&self, path: &str) -> Error {
        let known: Vec<&str> = self.fields.iter().map(|field| field.name.as_str()).collect();
        match known[..] {
            [] => Error::impossible(path, &format!("is of no use: {} takes no fields", self.name)),
            _ => Error::impossible(path, &format!("is no field of {}: it takes {}", self.name, known.join(", "))),
        }
    }

    /// The provider with what was given in its URLs; what was not given is as usual.
    pub fn with_fields(&self, given: &BTreeMap<String, String>) -> Result<Self, Error> {
        let here = self.with_stored_fields(given)?;
        self.check_all_is_given(given)?;
        Ok(here)
    }

    /// As [`Provider::with_fields`], of what was registered earlier: then the entry may not have asked for what it requires now. Its name
    /// stays in the URL, where the provider knows no such thing.
    pub fn with_stored_fields(&self, given: &BTreeMap<String, String>) -> Result<Self, Error> {
        self.check_given(given)?;
        let value = |name: &str| {
            let field = self.field(name)?;
            given.get(name).or(field.default.as_ref()).map(|value| (field.form, value))
        };
        let in_url = |name: &str| match value(name) {
            Some((Form::Text, value)) => Some(in_path(value)),
            Some((_, value)) => Some(value.clone()),
            // Of a revocation, which is filled when it is sent, or missing.
            None => Some(format!("{{{name}}}")),
        };
        let mut here = self.clone();
        for url in here.urls_mut() {
            if let Some(filled) = render(url, in_url) {
                *url = filled;
            }
        }
        if let Some(text) = &mut here.authorize.redirect_uri
            && let Some(filled) = render(text, |name| value(name).map(|(_, value)| value.clone()))
        {
            *text = filled;
        }
        Ok(here)
    }

    /// What is sent as `redirect_uri`; `ours` is where this server takes answers.
    pub fn redirect_uri<'a>(&'a self, ours: &'a str) -> &'a str {
        self.authorize.redirect_uri.as_deref().unwrap_or(ours)
    }

    /// Every URL it is called at, and its issuer.
    pub(super) fn urls(&self) -> impl Iterator<Item = &String> {
        let optional = [
            self.authorize.issuer.as_ref(),
            self.exchange.as_ref().map(|exchange| &exchange.url),
            self.refresh.url.as_ref(),
            self.revoke.as_ref().map(|revoke| &revoke.url),
            self.identity.url.as_ref(),
        ];
        [&self.authorize.url, &self.token.url].into_iter().chain(optional.into_iter().flatten())
    }

    fn urls_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let optional = [
            self.authorize.issuer.as_mut(),
            self.exchange.as_mut().map(|exchange| &mut exchange.url),
            self.refresh.url.as_mut(),
            self.revoke.as_mut().map(|revoke| &mut revoke.url),
            self.identity.url.as_mut(),
        ];
        [&mut self.authorize.url, &mut self.token.url].into_iter().chain(optional.into_iter().flatten())
    }
}

/// Whether a text stays one part of a path: a parser takes dots alone for a way up.
fn is_one_part(field: &Field, value: &str) -> Result<(), std::borrow::Cow<'static, str>> {
    match field.form == Form::Text && (value.bytes().all(|c| c == b'.') || value.contains(char::is_whitespace)) {
        true => Err("must be one word".into()),
        false => Ok(()),
    }
}
