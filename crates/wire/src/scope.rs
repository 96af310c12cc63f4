//! Key scopes: `resource:verb[:id]`.
//!
//! CRUD verbs imply the weaker ones (`admin` > `write` > `read`). `*` and `resource:*` cover CRUD verbs only; an action verb
//! is always named. An `id` narrows a scope to one object.

use std::fmt;

use uuid::Uuid;

/// Version of the catalogue below. A wildcard covers what the catalogue held when its key was minted.
pub const SCOPE_VERSION: i64 = 1;

/// Resources with CRUD verbs.
pub const RESOURCES: &[&str] = &["agents", "grants", "keys", "secrets", "idp_users", "approvals", "providers"];
/// CRUD verbs, weakest first.
pub const VERBS: &[&str] = &["read", "write", "admin"];
/// Scopes no wildcard covers.
pub const ACTION_VERBS: &[&str] = &[
    "tokens:retrieve",
    "proxy:execute",
    "proxy:stream",
    "connect:initiate",
    "keys:derive",
    "audit:emit",
    "spans:emit",
    "identity:resolve",
    "identity:assert",
];
/// Resources whose scopes may carry an id: a grant's, or an agent's.
const ID_RESOURCES: &[&str] = &["tokens", "proxy", "grants", "agents"];
/// What an app key gets when nothing is asked for.
pub const APP_KEY_DEFAULT: &[&str] = &[
    "tokens:retrieve",
    "proxy:execute",
    "grants:write",
    "connect:initiate",
    "idp_users:write",
    "approvals:read",
    "providers:read",
    "identity:resolve",
    "audit:emit",
    "spans:emit",
];

/// One scope, well formed and known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    resource: &'static str,
    /// `None` for `*` and `resource:*`.
    verb: Option<&'static str>,
    id: Option<Uuid>,
}

impl Scope {
    /// Parses a scope of the catalogue.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self { resource: "*", verb: None, id: None });
        }
        let mut parts = text.split(':');
        let (resource, verb, id) = (parts.next()?, parts.next()?, parts.next());
        if parts.next().is_some() {
            return None;
        }
        let (resource, verb) = named(resource, verb, id.is_some())?;
        let id = match id {
            None => None,
            Some(id) => Some(crate::ids::parse_canonical(id).filter(|_| ID_RESOURCES.contains(&resource))?),
        };
        Some(Self { resource, verb, id })
    }

    /// Whether a key that holds `self` may do what `wanted` names.
    pub fn covers(self, wanted: Scope) -> bool {
        let id_covers = self.id.is_none() || self.id == wanted.id;
        let resource_covers = self.resource == "*" || self.resource == wanted.resource;
        let rank = |verb: &str| VERBS.iter().position(|v| *v == verb);
        let verb_covers = match (self.verb, wanted.verb) {
            (None, None) => true,
            (None, Some(verb)) => rank(verb).is_some() && !is_action(wanted.resource, verb),
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => {
                mine == theirs || matches!((rank(mine), rank(theirs)), (Some(m), Some(t)) if m > t)
            }
        };
        resource_covers && id_covers && verb_covers
    }

    /// The object this scope is narrowed to.
    pub fn id(self) -> Option<Uuid> {
        self.id
    }

    /// This scope without its id.
    pub fn without_id(self) -> Self {
        Self { id: None, ..self }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.resource, self.verb) {
            ("*", _) => f.write_str("*")?,
            (resource, verb) => write!(f, "{resource}:{}", verb.unwrap_or("*"))?,
        }
        match self.id {
            Some(id) => write!(f, ":{}", id.as_hyphenated()),
            None => Ok(()),
        }
    }
}

/// Resource and verb as the catalogue spells them.
fn named(resource: &str, verb: &str, has_id: bool) -> Option<(&'static str, Option<&'static str>)> {
    let action = |text: &&&'static str| text.split_once(':') == Some((resource, verb));
    if let Some((resource, verb)) = ACTION_VERBS.iter().find(action).and_then(|text| text.split_once(':')) {
        return Some((resource, Some(verb)));
    }
    let resource = RESOURCES.iter().find(|r| **r == resource)?;
    match verb {
        "*" => (!has_id).then_some((*resource, None)),
        verb => Some((*resource, Some(*VERBS.iter().find(|v| **v == verb)?))),
    }
}

fn is_action(resource: &str, verb: &str) -> bool {
    ACTION_VERBS.iter().any(|a| a.split_once(':') == Some((resource, verb)))
}

/// Every scope by name, without wildcards.
pub fn all() -> Vec<String> {
    let crud = RESOURCES.iter().flat_map(|r| VERBS.iter().map(move |v| format!("{r}:{v}")));
    crud.chain(ACTION_VERBS.iter().map(|a| (*a).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(have: &str, want: &str) -> bool {
        Scope::parse(have).unwrap().covers(Scope::parse(want).unwrap())
    }

    const ID: &str = "0199c0de-0000-7000-8000-00000000beef";

    #[test]
    fn stronger_verbs_imply_weaker_ones_and_wildcards_never_an_action() {
        assert!(covers("grants:admin", "grants:read") && covers("grants:write", "grants:read"));
        assert!(!covers("grants:read", "grants:write") && !covers("grants:admin", "keys:read"));
        assert!(covers("*", "agents:admin") && covers("keys:*", "keys:admin"));
        for action in ACTION_VERBS {
            assert!(!covers("*", action), "{action}");
            assert!(covers(action, action), "{action}");
        }
        assert!(!covers("keys:*", "keys:derive") && !covers("keys:admin", "keys:derive"));
    }

    #[test]
    fn an_id_narrows_to_that_object_only() {
        let narrow = format!("tokens:retrieve:{ID}");
        assert!(covers("tokens:retrieve", &narrow) && covers(&narrow, &narrow));
        assert!(!covers(&narrow, "tokens:retrieve"));
        assert!(!covers(&narrow, &narrow.replace("beef", "0000")));
    }

    #[test]
    fn unknown_scopes_do_not_parse() {
        for bad in [
            "",
            "grants",
            "grants:",
            "grants:delete",
            "tokens:read",
            "tokens:*",
            "x:read",
            "grants:read:x",
            "keys:read:0199c0de-0000-7000-8000-00000000beef",
            "grants:*:0199c0de-0000-7000-8000-00000000beef",
            "a:b:c:d",
            "**",
        ] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
        for good in all().iter().map(String::as_str).chain(APP_KEY_DEFAULT.iter().copied()).chain(["*", "grants:*"]) {
            assert_eq!(Scope::parse(good).unwrap().to_string(), good);
        }
    }
}
