//! JSON that keeps its order: what a person sees first is what the type names first.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Number;

/// A JSON value; objects keep the order of their fields.
#[derive(Clone, PartialEq, Debug)]
pub enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// `value` as it serialises.
    pub fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("a wire type is JSON");
        serde_json::from_str(&text).expect("JSON reads back")
    }

    /// The field at `path`; a dot goes one level down.
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, name| match node {
            Self::Object(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, node)| node),
            _ => None,
        })
    }

    /// An object of only the fields at `paths`, in that order; one it lacks is null.
    pub fn select(&self, paths: &[String]) -> Self {
        let field = |path: &String| (path.clone(), self.at(path).cloned().unwrap_or(Self::Null));
        Self::Object(paths.iter().map(field).collect())
    }

    /// Names of an object's fields.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Object(fields) => fields.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// For people: each field of the object at one of `names` becomes a field `name field` beside the others; an object deeper inside
    /// becomes a list of `name=value`. Where there is none, the field goes.
    pub fn unfolded(self, names: &[&str]) -> Self {
        let Self::Object(fields) = self else { return self };
        let mut lines = Vec::new();
        for (field, node) in fields {
            match node {
                Self::Object(inner) if names.contains(&&*field) => {
                    lines.extend(inner.into_iter().map(|(inner, node)| (format!("{field} {inner}"), node.in_line())));
                }
                Self::Null if names.contains(&&*field) => {}
                node => lines.push((field, node)),
            }
        }
        Self::Object(lines)
    }

    fn in_line(self) -> Self {
        match self {
            Self::Object(fields) => Self::List(fields.into_iter().map(pair).collect()),
            node => node,
        }
    }

    pub fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// One line of JSON. Characters that would steer a terminal are written as escapes, which is the same JSON.
    pub fn json(&self) -> String {
        escape_json(&serde_json::to_string(self).expect("a node is JSON"))
    }

    /// JSON for reading.
    pub fn pretty_json(&self) -> String {
        escape_json(&serde_json::to_string_pretty(self).expect("a node is JSON"))
    }
}

fn pair((name, node): (String, Node)) -> Node {
    match node {
        Node::Text(value) => Node::Text(format!("{name}={value}")),
        node => node,
    }
}

/// Only inside strings can such characters stand, save for the line feeds of the layout.
fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && super::table::is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Number(n) => n.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(fields) => serializer.collect_map(fields.iter().map(|(name, node)| (name, node))),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Node, E> {
                Ok(Node::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Node, E> {
                Ok(Node::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Node, E> {
                Ok(Number::from_f64(n).map_or(Node::Null, Node::Number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    fields.push(entry);
                }
                Ok(Node::Object(fields))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_values_survive() {
        let text = r#"{"z":1,"a":[true,null,-2,1.5,{"y":"x","b":{}}]}"#;
        let node: Node = serde_json::from_str(text).unwrap();
        assert_eq!(node.json(), text);
        assert_eq!(node.select(&["a".to_owned(), "q.r".to_owned()]).names(), ["a", "q.r"]);
    }

    #[test]
    fn json_cannot_steer_a_terminal_and_stays_the_same_json() {
        let node = Node::Text("a\u{9b}2J\u{202e}\u{7f}\u{e0041}é\n".to_owned());
        let json = node.json();
        assert_eq!(json, r#""a\u009b2J\u202e\u007f\udb40\udc41é\n""#);
        assert_eq!(serde_json::from_str::<Node>(&json).unwrap(), node);
    }
}
