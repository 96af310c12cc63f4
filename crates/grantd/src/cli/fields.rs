//! What `--fields` may name: the fields an object can have, whether or not the ones at hand have them.
//!
//! Invariant: whether a command line is right does not depend on the data.

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};

use super::failure::Failure;
use super::node::Node;
use crate::config::nearest;

/// Core, private and place of an event; absent ones are left out of an answer.
const EVENT: &[&str] = &[
    "id",
    "at",
    "app_id",
    "kind",
    "outcome",
    "code",
    "actor",
    "key_id",
    "key_prefix",
    "agent_id",
    "impersonated",
    "user_id",
    "principal_type",
    "grant_id",
    "root_grant_id",
    "credential_id",
    "credential_version",
    "provider_id",
    "operator_id",
    "pat_id",
    "mode",
    "method",
    "host",
    "any_host",
    "status",
    "bytes_in",
    "bytes_out",
    "duration_ms",
    "refreshed",
    "rules",
    "policy_version",
    "approval_id",
    "intent_id",
    "tenant",
    "identity",
    "format",
    "behind_ms",
    "request_id",
    "trace_id",
    "assertion_expires_at",
    "assertion_id",
    "attempts",
    "backup_at",
    "by",
    "bytes",
    "check",
    "erased",
    "events",
    "grants_revoked",
    "group_id",
    "idp_id",
    "leaked",
    "members_joined",
    "members_left",
    "missing_scopes",
    "name",
    "operation",
    "passkey_id",
    "provider_code",
    "providers",
    "pruned_to",
    "rebound",
    "replayed",
    "replayed_steps",
    "rests_on",
    "retention",
    "revoked_upstream",
    "rewrapped",
    "session_id",
    "sessions_ended",
    "sha256",
    "sign_in",
    "signing_key_id",
    "signs_from",
    "source_grant_id",
    "subject",
    "webhook_event_at",
    "why",
    "groups_joined",
    "groups_left",
    "claim",
    "changed",
    "path",
    "query_names",
    "reason",
    "context",
    "caller",
    "ip",
    "user_agent",
    "account",
    "audience",
    "claimed",
    "chain_id",
    "seq",
    "hash",
];
const ACTOR: &[&str] = &["actor.type", "actor.id"];
/// Objects of an event whose names are the caller's, or those of whatever was changed.
const EVENT_OPEN: &[&str] = &["context", "changed", "claimed"];

/// The fields of an object.
pub enum Known {
    Event,
    Names(&'static [&'static str]),
    /// Exactly those at hand.
    AsShown,
}

impl Known {
    /// The fields of `T`, whose absent ones are null.
    pub fn of<T: DeserializeOwned>() -> Self {
        let mut names = None;
        // It fails as soon as it has told its fields.
        let _ = T::deserialize(Asked(&mut names));
        names.map_or(Self::AsShown, Self::Names)
    }

    /// Refuses a field that no such object can have.
    pub fn check(&self, fields: &[String], items: &[Node]) -> Result<(), Failure> {
        fields.iter().try_for_each(|field| self.check_one(field, items))
    }

    fn check_one(&self, field: &str, items: &[Node]) -> Result<(), Failure> {
        let (first, rest) = field.split_once('.').map_or((field, None), |(first, rest)| (first, Some(rest)));
        let names = match self {
            Self::Event => EVENT.to_vec(),
            Self::Names(names) => names.to_vec(),
            Self::AsShown => {
                let mut names: Vec<&str> = Vec::new();
                for name in items.iter().flat_map(Node::names) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                names
            }
        };
        if !names.contains(&first) {
            return Err(unknown(field, first, &names));
        }
        let Some(rest) = rest else { return Ok(()) };
        match self {
            Self::Event if EVENT_OPEN.contains(&first) && !rest.is_empty() => Ok(()),
            Self::Event if first == "actor" && ACTOR.contains(&field) => Ok(()),
            Self::Event if first == "actor" => Err(unknown(field, field, ACTOR)),
            Self::AsShown if items.iter().any(|item| item.at(field).is_some()) => Ok(()),
            Self::AsShown | Self::Event | Self::Names(_) => {
                Err(Failure::usage(format!("--fields: there is no `{field}`; `{first}` has no field `{rest}`"))
                    .hint(format!("Name `{first}` alone.")))
            }
        }
    }
}

fn unknown(field: &str, part: &str, names: &[&str]) -> Failure {
    let message = format!("--fields: there is no `{field}`; there are: {}", names.join(" "));
    match nearest(part, names.iter().copied()) {
        Some(meant) => Failure::usage(message).hint(format!("Did you mean `{meant}`?")),
        None => Failure::usage(message),
    }
}

/// Reads nothing: takes the names that a type asks for.
struct Asked<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = Some(fields);
        Err(Self::Error::custom("only its fields are asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("it has no fixed fields"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(known: &Known, field: &str, items: &[&str]) -> Result<(), String> {
        let items: Vec<Node> = items.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
        known.check(&[field.to_owned()], &items).map_err(|failure| failure.line())
    }

    #[test]
    fn fields_of_events_do_not_depend_on_the_events_at_hand() {
        for good in ["code", "seq", "chain_id", "actor.type", "context.user_id", "changed.scopes", "path"] {
            assert_eq!(check(&Known::Event, good, &[]), Ok(()), "{good}");
            assert_eq!(check(&Known::Event, good, &[r#"{"id":"x"}"#]), Ok(()), "{good}");
        }
        for bad in ["actor.nope", "cod", "id.x", "", "context.", "hash.0"] {
            assert!(check(&Known::Event, bad, &[]).is_err(), "{bad}");
        }
        assert!(check(&Known::Event, "outcom", &[]).unwrap_err().contains("Did you mean `outcome`?"));
        assert!(check(&Known::Event, "actor.nope", &[]).unwrap_err().contains("actor.type actor.id"));
    }

    #[test]
    fn fields_of_events_are_those_of_the_page_on_them() {
        let page = include_str!("../../../../docs/audit.md");
        let of = |part: &str| page.lines().find(|line| line.starts_with(part)).expect("a row of the table");
        let mut count = 0;
        for text in ["| core |", "| private,"].map(of).iter().flat_map(|row| row.split('`').skip(1).step_by(2)) {
            for field in text.split_whitespace() {
                let name = field.split(['{', '[']).next().unwrap_or_default();
                assert_eq!(check(&Known::Event, name, &[]), Ok(()), "{name}");
                count += 1;
            }
        }
        assert!(count > 60, "{count} fields");
    }

    #[test]
    fn a_list_knows_its_fields_when_it_is_empty() {
        let known = Known::of::<grantd_wire::api::Grant>();
        assert_eq!(check(&known, "grant_id", &[]), Ok(()));
        assert!(check(&known, "grant", &[]).is_err() && check(&known, "label.x", &[]).is_err());
        assert!(matches!(Known::of::<grantd_wire::api::Event>(), Known::AsShown));
    }

    #[test]
    fn an_object_knows_the_fields_it_shows() {
        let object = [r#"{"listen":{"value":"x","source":"default"},"none":null}"#];
        for (field, good) in [("listen.value", true), ("listen.valeu", false), ("none", true), ("nome", false)] {
            assert_eq!(check(&Known::AsShown, field, &object).is_ok(), good, "{field}");
        }
    }
}
