//! A group as the directory describes it. Its members are never all in one place: a change says who comes and who goes.

use serde_json::{Map, Value};

use super::patch::{self, Op, Step};
use super::path::{GROUP, Named, Path};
use super::{MEMBERS_PER_CHANGE_MAX, Refused, TEXT_CHARS_MAX, Wrong, schema};

/// What a group is called, and who is in it where that is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub external_id: Option<String>,
    pub name: String,
    /// Ids of SCIM users, each once.
    pub members: Vec<String>,
}

/// One thing that happens to a group, in the order it is done in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Name(String),
    ExternalId(Option<String>),
    Add(Vec<String>),
    Remove(Vec<String>),
    /// These are all of its members from now on.
    Replace(Vec<String>),
}

impl Group {
    /// Reads a whole document.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Refused> {
        let mut own = body.clone();
        // Read apart: there may be more of them than an attribute of a user has values.
        let members = own.keys().find(|name| name.eq_ignore_ascii_case("members")).cloned();
        let members = members.and_then(|name| own.remove(&name)).unwrap_or(Value::Null);
        let mut own = schema::read_all(schema::GROUP_ATTRIBUTES, &own)?;
        let mut text = |name: &str| match own.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let name = text("displayName").filter(|name| !name.trim().is_empty());
        let name = name.ok_or_else(|| Refused::new(Wrong::InvalidValue, "`displayName` is missing."))?;
        Ok(Self { external_id: text("externalId"), name, members: ids(&members)? })
    }
}

/// Reads a change.
pub fn changes(body: &Map<String, Value>) -> Result<Vec<Change>, Refused> {
    let mut changes = Vec::new();
    for step in patch::parse(GROUP, body)? {
        changes.push(change(&step)?);
    }
    let members: usize = changes.iter().map(Change::members).sum();
    if members > MEMBERS_PER_CHANGE_MAX { Err(too_many()) } else { Ok(changes) }
}

impl Change {
    /// How many members it names.
    fn members(&self) -> usize {
        match self {
            Self::Name(_) | Self::ExternalId(_) => 0,
            Self::Add(ids) | Self::Remove(ids) | Self::Replace(ids) => ids.len(),
        }
    }
}

fn change(step: &Step) -> Result<Change, Refused> {
    let Step { op, path: Path { named: Named { attribute, part }, filter }, value } = step;
    let text = || match (op, attribute.read_one(value)?) {
        (Op::Remove, _) => Ok(None),
        (_, Some(Value::String(text))) if !text.trim().is_empty() => Ok(Some(text)),
        _ => Ok(None),
    };
    match (attribute.name, part, filter) {
        ("displayName", ..) => {
            let name = text()?;
            name.map(Change::Name)
                .ok_or_else(|| Refused::new(Wrong::InvalidValue, "`displayName` must stay: every group has one."))
        }
        ("externalId", ..) => Ok(Change::ExternalId(text()?)),
        ("members", None, None) => match op {
            Op::Add => Ok(Change::Add(ids(value)?)),
            Op::Replace => Ok(Change::Replace(ids(value)?)),
            Op::Remove if value.is_null() => Ok(Change::Replace(Vec::new())),
            // Entra ID names whom it removes in the value.
            Op::Remove => Ok(Change::Remove(ids(value)?)),
        },
        ("members", None, Some(filter)) => {
            let named = filter.equalities().filter(|named| named.iter().all(|(part, _)| part.name == "value"));
            let Some(named) = named else {
                let detail = "Members are named by their ids: `members[value eq \"…\"]`.";
                return Err(Refused::new(Wrong::InvalidFilter, detail));
            };
            let named = named.into_iter().filter_map(|(_, value)| value.as_str().map(ToOwned::to_owned)).collect();
            match op {
                Op::Remove => Ok(Change::Remove(named)),
                Op::Add => Ok(Change::Add(named)),
                Op::Replace => Err(Refused::new(Wrong::Mutability, "A member is added or removed, and not changed.")),
            }
        }
        _ => Err(Refused::new(Wrong::Mutability, "A member is added or removed, and not changed.")),
    }
}

/// The ids that members are given by: objects with a `value`, or, not in the RFC and sent, the ids alone.
fn ids(members: &Value) -> Result<Vec<String>, Refused> {
    let given = match members {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    if given.len() > MEMBERS_PER_CHANGE_MAX {
        return Err(too_many());
    }
    let mut ids = Vec::with_capacity(given.len());
    for member in given {
        let (id, kind) = match member {
            Value::Object(member) => (
                patch::member(member, "value").and_then(Value::as_str),
                patch::member(member, "type").and_then(Value::as_str),
            ),
            other => (other.as_str(), None),
        };
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("User")) {
            let detail =
                "Only users can be members of a group: grantd keeps no groups within groups. Assign the users.";
            return Err(Refused::new(Wrong::InvalidValue, detail));
        }
        match id {
            Some(id) if id.len() <= TEXT_CHARS_MAX => ids.push(id.to_owned()),
            _ => {
                return Err(Refused::new(
                    Wrong::InvalidValue,
                    "Each of `members` must have the id of a user as its `value`.",
                ));
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn too_many() -> Refused {
    let detail = format!("A call names at most {MEMBERS_PER_CHANGE_MAX} members. Send several changes that add.");
    Refused::new(Wrong::TooMany, detail)
}
