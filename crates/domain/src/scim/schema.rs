//! The attributes that grantd keeps: the one table behind documents, changes, filters and what `/Schemas` tells.

use serde_json::{Map, Value, json};

use super::{Refused, TEXT_CHARS_MAX, VALUES_MAX, Wrong};

/// The schema of users.
pub const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// The schema of groups.
pub const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Boolean,
    DateTime,
    Reference,
    Complex(&'static [Attribute]),
}

/// Who may set it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutability {
    ReadWrite,
    /// Set when the resource is made, or by what it belongs to.
    Immutable,
    ReadOnly,
}

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute {
    pub name: &'static str,
    pub kind: Kind,
    pub is_multi: bool,
    pub is_case_exact: bool,
    pub is_required: bool,
    pub is_unique: bool,
    pub mutability: Mutability,
    /// The one value it can have, if it cannot have others.
    pub only: Option<&'static str>,
    pub description: &'static str,
}

const fn text(name: &'static str, description: &'static str) -> Attribute {
    Attribute {
        name,
        kind: Kind::Text,
        is_multi: false,
        is_case_exact: false,
        is_required: false,
        is_unique: false,
        mutability: Mutability::ReadWrite,
        only: None,
        description,
    }
}

const fn read_only(attribute: Attribute) -> Attribute {
    Attribute { mutability: Mutability::ReadOnly, ..attribute }
}

const fn exact(attribute: Attribute) -> Attribute {
    Attribute { is_case_exact: true, ..attribute }
}

const fn complex(name: &'static str, parts: &'static [Attribute], description: &'static str) -> Attribute {
    Attribute { kind: Kind::Complex(parts), ..text(name, description) }
}

const fn boolean(name: &'static str, description: &'static str) -> Attribute {
    Attribute { kind: Kind::Boolean, ..text(name, description) }
}

const fn time(name: &'static str, description: &'static str) -> Attribute {
    Attribute { kind: Kind::DateTime, ..read_only(text(name, description)) }
}

const fn reference(attribute: Attribute) -> Attribute {
    Attribute { kind: Kind::Reference, ..exact(attribute) }
}

const META: &[Attribute] = &[
    exact(read_only(text("resourceType", "User or Group."))),
    time("created", "When grantd first heard of it."),
    time("lastModified", "When it was last changed."),
    reference(read_only(text("location", "Where it is."))),
];

const ID: Attribute = Attribute {
    is_unique: true,
    ..exact(read_only(text("id", "The id that grantd gave it. It never changes and is never given again.")))
};
const EXTERNAL_ID: Attribute = exact(text("externalId", "The id that the directory gave it."));
const META_ATTRIBUTE: Attribute = read_only(complex("meta", META, "What is known of the resource itself."));

/// What a user has, with what every resource has.
pub const USER_ATTRIBUTES: &[Attribute] = &[
    ID,
    EXTERNAL_ID,
    META_ATTRIBUTE,
    Attribute {
        is_required: true,
        is_unique: true,
        ..text("userName", "How the user signs in. No two users of an identity provider have the same.")
    },
    complex(
        "name",
        &[
            text("formatted", "The whole name, as it is shown."),
            text("familyName", "The family name."),
            text("givenName", "The given name."),
        ],
        "The parts of the user's name.",
    ),
    text("displayName", "The name that is shown."),
    boolean("active", "Whether the user may use anything. `false` ends it at once."),
    Attribute {
        is_multi: true,
        ..complex(
            "emails",
            &[
                text("value", "The address."),
                text("display", "The address, as it is shown."),
                text("type", "What it is for: work, home or other."),
                boolean("primary", "Whether it is the one to use."),
            ],
            "The user's addresses.",
        )
    },
    Attribute {
        is_multi: true,
        ..read_only(complex(
            "groups",
            &[
                exact(read_only(text("value", "The group's id."))),
                reference(read_only(text("$ref", "Where the group is."))),
                read_only(text("display", "The group's name.")),
            ],
            "The groups the user belongs to. They are changed at the groups.",
        ))
    },
];

/// What a group has, with what every resource has.
pub const GROUP_ATTRIBUTES: &[Attribute] = &[
    ID,
    EXTERNAL_ID,
    META_ATTRIBUTE,
    Attribute { is_required: true, ..text("displayName", "The group's name.") },
    Attribute {
        is_multi: true,
        ..complex(
            "members",
            &[
                Attribute {
                    mutability: Mutability::Immutable,
                    ..exact(text("value", "The id of the user that belongs to the group."))
                },
                Attribute { mutability: Mutability::Immutable, ..reference(text("$ref", "Where the user is.")) },
                read_only(text("display", "The user's name.")),
                Attribute { mutability: Mutability::Immutable, only: Some("User"), ..text("type", "Always `User`.") },
            ],
            "The users that belong to the group.",
        )
    },
];

/// The attribute of this name. Names are the same in any case.
pub fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

impl Attribute {
    /// Its sub-attributes.
    pub const fn parts(&self) -> &'static [Attribute] {
        match self.kind {
            Kind::Complex(parts) => parts,
            _ => &[],
        }
    }

    /// What it is given, in the form it is kept in; none: nothing, which is what null and an empty list say.
    pub fn read(&self, value: &Value) -> Result<Option<Value>, Refused> {
        if !self.is_multi {
            return self.read_one(value);
        }
        let given = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        if given.len() > VALUES_MAX {
            return Err(Refused::new(
                Wrong::TooMany,
                format!("`{}` has more than {VALUES_MAX} values. Send fewer.", self.name),
            ));
        }
        let mut values = Vec::new();
        for value in given {
            values.extend(self.read_one(value)?);
        }
        Ok((!values.is_empty()).then_some(Value::Array(values)))
    }

    /// One value of it.
    pub fn read_one(&self, value: &Value) -> Result<Option<Value>, Refused> {
        match (self.kind, value) {
            (_, Value::Null) => Ok(None),
            (Kind::Boolean, Value::Bool(is)) => Ok(Some(Value::Bool(*is))),
            // Entra ID sends booleans as text unless its new form is chosen.
            (Kind::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(Value::Bool(true))),
            (Kind::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(Value::Bool(false))),
            (Kind::Boolean, _) => Err(self.must_be("true or false")),
            (Kind::Text | Kind::Reference | Kind::DateTime, Value::String(text)) => {
                if text.chars().count() > TEXT_CHARS_MAX {
                    return Err(self.must_be(&format!("at most {TEXT_CHARS_MAX} characters")));
                }
                if text.chars().any(char::is_control) {
                    return Err(self.must_be("text without control characters"));
                }
                Ok((!text.is_empty()).then(|| Value::String(text.clone())))
            }
            (Kind::Text | Kind::Reference | Kind::DateTime, _) => Err(self.must_be("text")),
            (Kind::Complex(parts), Value::Object(map)) => {
                let parts = read_all(parts, map)?;
                Ok((!parts.is_empty()).then_some(Value::Object(parts)))
            }
            (Kind::Complex(_), _) => Err(self.must_be("an object")),
        }
    }

    fn must_be(&self, what: &str) -> Refused {
        Refused::new(Wrong::InvalidValue, format!("`{}` must be {what}.", self.name))
    }
}

/// The attributes of the table that a document holds, under their own names. What may not be set is left out, as the RFC asks.
pub fn read_all(
    attributes: &'static [Attribute],
    document: &Map<String, Value>,
) -> Result<Map<String, Value>, Refused> {
    let mut kept = Map::new();
    let mut seen = Vec::new();
    for (name, value) in document {
        let Some(attribute) = find(attributes, name) else { continue };
        if seen.contains(&attribute.name) {
            let detail = format!("`{}` is given twice, in two spellings. Send it once.", attribute.name);
            return Err(Refused::new(Wrong::InvalidSyntax, detail));
        }
        seen.push(attribute.name);
        if attribute.mutability == Mutability::ReadOnly {
            continue;
        }
        if let Some(value) = attribute.read(value)? {
            kept.insert(attribute.name.to_owned(), value);
        }
    }
    Ok(kept)
}

/// What `/Schemas` says of the attributes. Those that every resource has stand in no schema.
pub fn describe(attributes: &[Attribute]) -> Value {
    let own = attributes.iter().filter(|attribute| !matches!(attribute.name, "id" | "externalId" | "meta"));
    own.map(described).collect()
}

fn described(attribute: &Attribute) -> Value {
    let kind = match attribute.kind {
        Kind::Text => "string",
        Kind::Boolean => "boolean",
        Kind::DateTime => "dateTime",
        Kind::Reference => "reference",
        Kind::Complex(_) => "complex",
    };
    let mutability = match attribute.mutability {
        Mutability::ReadWrite => "readWrite",
        Mutability::Immutable => "immutable",
        Mutability::ReadOnly => "readOnly",
    };
    let mut told = json!({
        "name": attribute.name,
        "type": kind,
        "multiValued": attribute.is_multi,
        "description": attribute.description,
        "required": attribute.is_required,
        "mutability": mutability,
        "returned": "default",
    });
    match attribute.kind {
        Kind::Complex(parts) => told["subAttributes"] = parts.iter().map(described).collect(),
        Kind::Text | Kind::Reference => {
            told["caseExact"] = attribute.is_case_exact.into();
            told["uniqueness"] = if attribute.is_unique { "server" } else { "none" }.into();
        }
        Kind::Boolean | Kind::DateTime => {}
    }
    if let Some(only) = attribute.only {
        told["canonicalValues"] = json!([only]);
    }
    if attribute.kind == Kind::Reference {
        told["referenceTypes"] = json!([if attribute.description.contains("group") { "Group" } else { "User" }]);
    }
    told
}
