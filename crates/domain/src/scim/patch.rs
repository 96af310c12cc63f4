//! Changes (RFC 7644, 3.5.2), in the forms that directories send them: the RFC's, Okta's (objects without a path) and Entra ID's
//! (operations in any case, booleans as text, paths as the keys of an object).

use serde_json::{Map, Value};

use super::path::{Named, Path, Resource};
use super::schema::{Attribute, Kind, Mutability};
use super::{OPERATIONS_MAX, Refused, VALUES_MAX, Wrong};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Add,
    Replace,
    Remove,
}

/// One thing that is done to one attribute.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    pub op: Op,
    pub path: Path,
    /// Null where nothing is given.
    pub value: Value,
}

/// Reads a change. What concerns attributes that grantd does not keep is left out.
pub fn parse(resource: Resource, body: &Map<String, Value>) -> Result<Vec<Step>, Refused> {
    let Some(Value::Array(operations)) = member(body, "Operations") else {
        return Err(Refused::new(Wrong::InvalidSyntax, "`Operations` must be a list of operations."));
    };
    if operations.is_empty() || operations.len() > OPERATIONS_MAX {
        let detail = format!("A change has 1-{OPERATIONS_MAX} operations. Send several changes.");
        return Err(Refused::new(Wrong::TooMany, detail));
    }
    let mut steps = Vec::new();
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(Refused::new(Wrong::InvalidSyntax, "Each of `Operations` must be an object."));
        };
        read(resource, operation, &mut steps)?;
    }
    Ok(steps)
}

fn read(resource: Resource, operation: &Map<String, Value>, steps: &mut Vec<Step>) -> Result<(), Refused> {
    let op = match member(operation, "op").and_then(Value::as_str) {
        Some(text) if text.eq_ignore_ascii_case("add") => Op::Add,
        Some(text) if text.eq_ignore_ascii_case("replace") => Op::Replace,
        Some(text) if text.eq_ignore_ascii_case("remove") => Op::Remove,
        _ => return Err(Refused::new(Wrong::InvalidSyntax, "`op` must be add, replace or remove.")),
    };
    let value = member(operation, "value").unwrap_or(&Value::Null);
    match member(operation, "path") {
        None | Some(Value::Null) if op == Op::Remove => {
            Err(Refused::new(Wrong::NoTarget, "An operation that removes must name its `path`."))
        }
        None | Some(Value::Null) => {
            let Value::Object(values) = value else {
                let detail = "An operation without a `path` must have an object as its `value`.";
                return Err(Refused::new(Wrong::InvalidSyntax, detail));
            };
            for (key, value) in values {
                if steps.len() >= OPERATIONS_MAX {
                    let detail = format!("A change sets at most {OPERATIONS_MAX} attributes. Send several changes.");
                    return Err(Refused::new(Wrong::TooMany, detail));
                }
                // What may not be set is left out here, as it is in a whole document: Okta sends a group's id along.
                if let Some(path) = resource.path(key)?.filter(|path| !is_read_only(path.named)) {
                    steps.push(Step { op, path, value: value.clone() });
                }
            }
            Ok(())
        }
        Some(Value::String(path)) => {
            let Some(path) = resource.path(path)? else { return Ok(()) };
            if is_read_only(path.named) {
                let detail = format!("`{}` cannot be set.", path.named.attribute.name);
                return Err(Refused::new(Wrong::Mutability, detail));
            }
            steps.push(Step { op, path, value: value.clone() });
            Ok(())
        }
        Some(_) => Err(Refused::new(Wrong::InvalidPath, "`path` must be text.")),
    }
}

fn is_read_only(named: Named) -> bool {
    [Some(named.attribute), named.part].into_iter().flatten().any(|a| a.mutability == Mutability::ReadOnly)
}

/// A member of an object, whatever the case of its name.
pub(super) fn member<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// Does one step to a document.
pub fn apply(document: &mut Map<String, Value>, step: &Step) -> Result<(), Refused> {
    let Step { op, path: Path { named: Named { attribute, part }, filter }, value } = step;
    if *op != Op::Remove && value.is_null() && attribute.is_required {
        return Err(required(attribute));
    }
    if !attribute.is_multi {
        return match part {
            None => one(document, *op, attribute, value),
            Some(part) => {
                let mut whole = match document.remove(attribute.name) {
                    Some(Value::Object(whole)) => whole,
                    _ => Map::new(),
                };
                let done = one(&mut whole, *op, part, value);
                if !whole.is_empty() {
                    document.insert(attribute.name.to_owned(), Value::Object(whole));
                }
                done
            }
        };
    }
    let mut values: Vec<Map<String, Value>> = match document.remove(attribute.name) {
        Some(Value::Array(values)) => values.into_iter().filter_map(object).collect(),
        _ => Vec::new(),
    };
    match (op, filter, part) {
        (Op::Remove, None, None) => match value {
            Value::Null => values.clear(),
            // Not in the RFC, and sent: only these values.
            given => {
                let given = read_values(attribute, given)?;
                values.retain(|value| !given.iter().any(|given| is_same(value, given)));
            }
        },
        (Op::Replace, None, None) => values = read_values(attribute, value)?,
        (Op::Add, None, None) => {
            for given in read_values(attribute, value)? {
                add(&mut values, given);
            }
        }
        (Op::Remove, filter, part) => {
            let is_meant = |value: &Map<String, Value>| filter.as_ref().is_none_or(|filter| filter.holds(value));
            match part {
                None => values.retain(|value| !is_meant(value)),
                Some(part) => values.iter_mut().filter(|value| is_meant(value)).for_each(|value| {
                    value.remove(part.name);
                }),
            }
        }
        (op, filter, part) => set(attribute, &mut values, *op, filter.as_ref(), *part, value)?,
    }
    values.retain(|value| !value.is_empty());
    if values.len() > VALUES_MAX {
        let detail = format!("`{}` would have more than {VALUES_MAX} values.", attribute.name);
        return Err(Refused::new(Wrong::TooMany, detail));
    }
    if !values.is_empty() {
        document.insert(attribute.name.to_owned(), values.into_iter().map(Value::Object).collect());
    }
    Ok(())
}

/// Sets some of the values, or a part of them.
fn set(
    attribute: &'static Attribute,
    values: &mut Vec<Map<String, Value>>,
    op: Op,
    filter: Option<&super::filter::Filter>,
    part: Option<&'static Attribute>,
    value: &Value,
) -> Result<(), Refused> {
    let given = match part {
        Some(part) => part.read_one(value)?.map(|value| Map::from_iter([(part.name.to_owned(), value)])),
        None => attribute.read_one(value)?.and_then(object),
    };
    let given = given.unwrap_or_default();
    let is_meant = |value: &Map<String, Value>| filter.is_none_or(|filter| filter.holds(value));
    let meant: Vec<usize> = (0..values.len()).filter(|at| is_meant(&values[*at])).collect();
    if meant.is_empty() {
        let named = filter.and_then(super::filter::Filter::equalities);
        return match (op, filter, named) {
            // Entra ID adds to the address of a kind of which there is none: it is made.
            (Op::Add, Some(_), Some(named)) => {
                let mut made: Map<String, Value> =
                    named.into_iter().map(|(part, value)| (part.name.to_owned(), value.clone())).collect();
                made.extend(given);
                add(values, made);
                Ok(())
            }
            (Op::Add, None, _) => {
                add(values, given);
                Ok(())
            }
            _ => {
                let detail = format!("No value of `{}` is as the path says.", attribute.name);
                Err(Refused::new(Wrong::NoTarget, detail))
            }
        };
    }
    let is_primary = given.get("primary") == Some(&Value::Bool(true));
    for (at, value) in values.iter_mut().enumerate() {
        if meant.contains(&at) {
            if part.is_none() && op == Op::Replace {
                value.clear();
            }
            match (part, given.is_empty()) {
                (Some(part), true) => drop(value.remove(part.name)),
                _ => value.extend(given.clone()),
            }
        } else if is_primary {
            value.remove("primary");
        }
    }
    Ok(())
}

/// Sets or removes what has one value.
fn one(document: &mut Map<String, Value>, op: Op, attribute: &'static Attribute, value: &Value) -> Result<(), Refused> {
    let given = if op == Op::Remove { None } else { attribute.read_one(value)? };
    match (given, attribute.kind) {
        (None, _) if attribute.is_required => return Err(required(attribute)),
        (None, _) => drop(document.remove(attribute.name)),
        // The parts that are named change; the others stay.
        (Some(Value::Object(parts)), Kind::Complex(_)) => {
            let whole = document.entry(attribute.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(whole) = whole {
                whole.extend(parts);
            }
        }
        (Some(value), _) => drop(document.insert(attribute.name.to_owned(), value)),
    }
    Ok(())
}

fn required(attribute: &Attribute) -> Refused {
    Refused::new(Wrong::InvalidValue, format!("`{}` must stay: every resource has one.", attribute.name))
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn read_values(attribute: &Attribute, value: &Value) -> Result<Vec<Map<String, Value>>, Refused> {
    match attribute.read(value)? {
        Some(Value::Array(values)) => Ok(values.into_iter().filter_map(object).collect()),
        _ => Ok(Vec::new()),
    }
}

/// Adds a value, once. A new primary one takes that from the others.
fn add(values: &mut Vec<Map<String, Value>>, given: Map<String, Value>) {
    if values.contains(&given) {
        return;
    }
    if given.get("primary") == Some(&Value::Bool(true)) {
        for value in values.iter_mut() {
            value.remove("primary");
        }
    }
    values.push(given);
}

/// Whether two values are the same as far as the second says.
fn is_same(value: &Map<String, Value>, said: &Map<String, Value>) -> bool {
    said.iter().all(|(name, said)| value.get(name) == Some(said))
}
