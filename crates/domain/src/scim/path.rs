//! Names of attributes: `userName`, `name.givenName`, `emails[type eq "work"].value`, each with or without the schema before it.

use super::filter::{Filter, Scanner};
use super::schema::{self, Attribute};
use super::{Refused, Wrong};

/// An attribute that is named, with its sub-attribute.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Named {
    pub attribute: &'static Attribute,
    pub part: Option<&'static Attribute>,
}

/// The target of a change.
#[derive(Clone, PartialEq, Debug)]
pub struct Path {
    pub named: Named,
    /// Which of its values.
    pub filter: Option<Filter>,
}

/// The schema and the attributes of a resource.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    pub schema: &'static str,
    pub attributes: &'static [Attribute],
}

/// A user.
pub const USER: Resource = Resource { schema: schema::USER, attributes: schema::USER_ATTRIBUTES };
/// A group.
pub const GROUP: Resource = Resource { schema: schema::GROUP, attributes: schema::GROUP_ATTRIBUTES };

impl Resource {
    /// What a name means. `None`: an attribute that grantd does not keep.
    pub fn name(&self, text: &str) -> Option<Named> {
        let mut steps = self.own(text)?.split('.');
        let attribute = schema::find(self.attributes, steps.next()?)?;
        let part = match steps.next() {
            None => None,
            Some(name) => Some(schema::find(attribute.parts(), name)?),
        };
        steps.next().is_none().then_some(Named { attribute, part })
    }

    /// The name without this schema before it. `None`: it is of another schema.
    fn own<'t>(&self, text: &'t str) -> Option<&'t str> {
        if !text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:")) {
            return Some(text);
        }
        let (schema, rest) = text.split_at_checked(self.schema.len())?;
        rest.strip_prefix(':').filter(|_| schema.eq_ignore_ascii_case(self.schema))
    }

    /// The path of a change. `None`: it is of an attribute that grantd does not keep.
    pub fn path(&self, text: &str) -> Result<Option<Path>, Refused> {
        let invalid = || {
            let detail = "The path is not one. It is an attribute, as `name.givenName`, or has a filter, \
                          as `emails[type eq \"work\"].value`.";
            Refused::new(Wrong::InvalidPath, detail)
        };
        let mut scanner = Scanner::new(text).map_err(|_| invalid())?;
        let name = scanner.name().ok_or_else(invalid)?;
        if !scanner.take('[') {
            return if scanner.is_at_end() {
                Ok(self.name(name).map(|named| Path { named, filter: None }))
            } else {
                Err(invalid())
            };
        }
        let Some(Named { attribute, part: None }) = self.name(name) else {
            return if self.name(name).is_some() { Err(invalid()) } else { Ok(None) };
        };
        if !attribute.is_multi {
            return Err(Refused::new(
                Wrong::InvalidPath,
                format!("`{}` has one value: name it without a filter.", attribute.name),
            ));
        }
        let filter = scanner.values_filter(attribute)?;
        let part = match scanner.take('.') {
            false => None,
            true => match schema::find(attribute.parts(), scanner.name().ok_or_else(invalid)?) {
                None => return Ok(None),
                found => found,
            },
        };
        if !scanner.is_at_end() {
            return Err(invalid());
        }
        Ok(Some(Path { named: Named { attribute, part }, filter: Some(filter) }))
    }
}
