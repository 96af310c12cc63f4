//! A user as the directory describes it, and what a change of that means.

use serde_json::{Map, Value};

use super::patch;
use super::path::USER;
use super::{Refused, Wrong, schema};

/// Which attribute holds what the user's tokens call `sub`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubjectFrom {
    ExternalId,
    UserName,
}

impl SubjectFrom {
    /// The attribute's name, which is the stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExternalId => "externalId",
            Self::UserName => "userName",
        }
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ExternalId, Self::UserName].into_iter().find(|from| from.as_str() == text)
    }
}

/// What `active: false` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deactivation {
    /// Everything the user has is refused until `active: true`.
    Suspend,
    /// Everything the user has ends for good.
    Deprovision,
}

impl Deactivation {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Deprovision => "deprovision",
        }
    }

    /// The one that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Suspend, Self::Deprovision].into_iter().find(|what| what.as_str() == text)
    }

    /// The same, as the meaning of a change.
    pub const fn meaning(self) -> Meaning {
        match self {
            Self::Suspend => Meaning::Suspend,
            Self::Deprovision => Meaning::Deprovision,
        }
    }
}

/// A user's document: what of it grantd keeps, and nothing else.
#[derive(Clone, PartialEq, Debug)]
pub struct User {
    document: Map<String, Value>,
}

/// What a change of a user's document means, in the order it is done in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// There is one more, who may do what others may.
    Create,
    /// The user's tokens say another `sub` from now on.
    Rebind,
    /// Name or address changed.
    Describe,
    Suspend,
    Resume,
    Deprovision,
}

impl User {
    /// Reads a new document. A user is active unless it says otherwise.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Refused> {
        Self::checked(schema::read_all(schema::USER_ATTRIBUTES, body)?, true)
    }

    /// Reads a document that was stored.
    pub fn stored(text: &str) -> Option<Self> {
        let document = serde_json::from_str(text).ok()?;
        Self::checked(document, false).ok()
    }

    /// The document that takes this one's place. One that does not say `active` lets nobody in again.
    pub fn replaced(&self, body: &Map<String, Value>) -> Result<Self, Refused> {
        Self::checked(schema::read_all(schema::USER_ATTRIBUTES, body)?, self.is_active())
    }

    /// The document after a change.
    pub fn changed(&self, body: &Map<String, Value>) -> Result<Self, Refused> {
        let mut document = self.document.clone();
        for step in patch::parse(USER, body)? {
            patch::apply(&mut document, &step)?;
        }
        // Nothing said is not `true`.
        Self::checked(document, false)
    }

    fn checked(mut document: Map<String, Value>, is_active: bool) -> Result<Self, Refused> {
        if !matches!(document.get("userName"), Some(Value::String(name)) if !name.trim().is_empty()) {
            return Err(Refused::new(Wrong::InvalidValue, "`userName` is missing."));
        }
        document.entry("active").or_insert(Value::Bool(is_active));
        let primary = |value: &&Value| value.get("primary") == Some(&Value::Bool(true));
        if let Some(Value::Array(emails)) = document.get("emails")
            && emails.iter().filter(primary).count() > 1
        {
            return Err(Refused::new(Wrong::InvalidValue, "`emails` has more than one `primary`."));
        }
        Ok(Self { document })
    }

    /// The attributes, as they are shown and searched.
    pub fn document(&self) -> &Map<String, Value> {
        &self.document
    }

    /// The text that is stored.
    pub fn text(&self) -> String {
        Value::Object(self.document.clone()).to_string()
    }

    fn string(&self, name: &str) -> Option<&str> {
        self.document.get(name).and_then(Value::as_str)
    }

    /// How the user signs in.
    pub fn user_name(&self) -> &str {
        self.string("userName").unwrap_or_default()
    }

    /// The directory's id.
    pub fn external_id(&self) -> Option<&str> {
        self.string("externalId")
    }

    /// Whether the user may use anything.
    pub fn is_active(&self) -> bool {
        self.document.get("active") == Some(&Value::Bool(true))
    }

    /// The name to show.
    pub fn name(&self) -> Option<String> {
        let part = |name| self.document.get("name").and_then(|whole| whole.get(name)).and_then(Value::as_str);
        let known = self.string("displayName").or_else(|| part("formatted"));
        known.map(ToOwned::to_owned).or_else(|| match (part("givenName"), part("familyName")) {
            (Some(given), Some(family)) => Some(format!("{given} {family}")),
            (one, other) => one.or(other).map(ToOwned::to_owned),
        })
    }

    /// The address to use: the primary one, or the first.
    pub fn email(&self) -> Option<&str> {
        let emails = self.document.get("emails")?.as_array()?;
        let primary = emails.iter().find(|email| email.get("primary") == Some(&Value::Bool(true)));
        primary.or_else(|| emails.first())?.get("value")?.as_str()
    }

    /// What the user's tokens call `sub`.
    pub fn subject(&self, from: SubjectFrom) -> Result<&str, Refused> {
        let found = match from {
            SubjectFrom::ExternalId => self.external_id(),
            SubjectFrom::UserName => Some(self.user_name()),
        };
        found.ok_or_else(|| {
            let name = from.as_str();
            let detail = format!(
                "`{name}` is missing. It is what the user's tokens call `sub`; map it in the directory, or choose another \
                 attribute: `grantd idp scim disable`, then `grantd idp scim enable --subject-from`."
            );
            Refused::new(Wrong::InvalidValue, detail)
        })
    }
}

/// What it means that `before` became `after`.
pub fn meanings(before: Option<&User>, after: &User, from: SubjectFrom, off: Deactivation) -> Vec<Meaning> {
    let end = off.meaning();
    let Some(before) = before else {
        return if after.is_active() { vec![Meaning::Create] } else { vec![Meaning::Create, end] };
    };
    let mut meanings = Vec::new();
    if before.subject(from) != after.subject(from) {
        meanings.push(Meaning::Rebind);
    }
    if (before.name(), before.email()) != (after.name(), after.email()) {
        meanings.push(Meaning::Describe);
    }
    match (before.is_active(), after.is_active()) {
        (true, false) => meanings.push(end),
        (false, true) => meanings.push(Meaning::Resume),
        _ => {}
    }
    meanings
}

/// What a list or an answer holds, of all that a resource has: `attributes` alone, or all but `excluded`. What is never left out stays.
pub fn project(
    document: &mut Map<String, Value>,
    resource: super::path::Resource,
    attributes: Option<&str>,
    excluded: Option<&str>,
) {
    let names = |list: &str| -> Vec<(&'static str, Option<&'static str>)> {
        let named = list.split(',').filter_map(|name| resource.name(name.trim()));
        named.map(|named| (named.attribute.name, named.part.map(|part| part.name))).collect()
    };
    if let Some(wanted) = attributes.map(names) {
        document.retain(|name, value| {
            let parts: Vec<_> =
                wanted.iter().filter(|(attribute, _)| attribute == name).map(|(_, part)| *part).collect();
            if !parts.is_empty() && !parts.contains(&None) {
                each_object(value, |object| object.retain(|name, _| parts.contains(&Some(name.as_str()))));
            }
            is_always_there(name) || !parts.is_empty()
        });
    } else if let Some(unwanted) = excluded.map(names) {
        for (attribute, part) in unwanted.into_iter().filter(|(attribute, _)| !is_always_there(attribute)) {
            match part {
                None => drop(document.remove(attribute)),
                Some(part) => {
                    if let Some(value) = document.get_mut(attribute) {
                        each_object(value, |object| drop(object.remove(part)));
                    }
                }
            }
        }
    }
}

fn is_always_there(name: &str) -> bool {
    matches!(name, "schemas" | "id")
}

fn each_object(value: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => change(object),
        Value::Array(values) => values.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        _ => {}
    }
}
