//! Audit events: what is recorded, how it is chained, and how an export is verified offline.
//!
//! An event has a **core**, which is kept for ever, and a **private** part, which may be erased without breaking the chain.
//! Invariant: neither ever holds a header value, a query value, a body, a token or a key.

mod chain;
mod checkpoint;
mod export;
mod verify;

use std::collections::BTreeMap;

use grantd_wire::ids::{
    AgentId, AppId, CredentialId, EventId, GenerationId, GrantId, KeyId, OperatorId, OrganizationId,
};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, TimeMs, limits};
use serde_json::{Value, json};

pub use chain::{Head, Linked, ZERO_HASH, event_hash, link_hash, private_hash};
pub use checkpoint::{Checkpoint, CheckpointKey, HeadAt, Signed, footer_text, jwk, verify_signature};
pub use export::{Exporter, StoredEvent};
pub use verify::{Problem, Report, Trust, verify};

use crate::context::Context;
use crate::env::{Entropy, random};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What happened: `noun.verb_past`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind, for documents and tests.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];
            /// The stable text.
            pub const fn as_str(self) -> &'static str { match self { $(Kind::$name => $text,)* } }
        }
    };
}

kinds! {
    TokenReleased = "token.released",
    TokenDenied = "token.denied",
    /// The caller's own account of what the provider answered.
    CallClaimed = "call.claimed",
    ScopeMismatchClaimed = "scope_mismatch.claimed",
    AppCreated = "app.created",
    AppUpdated = "app.updated",
    KeyMinted = "key.minted",
    KeyRevoked = "key.revoked",
    SecretCreated = "secret.created",
    SecretUpdated = "secret.updated",
    CredentialRotated = "credential.rotated",
    CredentialDestroyed = "credential.destroyed",
    GrantCreated = "grant.created",
    GrantUpdated = "grant.updated",
    GrantRevoked = "grant.revoked",
    InstallCreated = "install.created",
    OperatorCreated = "operator.created",
    PatCreated = "pat.created",
    /// On the host, by who can write to the database: old tokens revoked, a new one made.
    OperatorReset = "operator.reset",
    AuditExported = "audit.exported",
    AuthFailed = "auth.failed",
    ClockRegressed = "clock.regressed",
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Allowed,
    Denied,
    Error,
    Unknown,
}

impl Outcome {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// Who authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    Key(KeyId),
    Operator(OperatorId),
    /// grantd itself: a job, or a command run on the host.
    Job,
    /// Nobody: authentication failed. The event has no actor.
    Nobody,
}

/// Whose chain an event belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Owner {
    App(AppId),
    Organization(OrganizationId),
}

impl Owner {
    /// The id as text: how the store keys chains and events.
    pub fn key(&self) -> String {
        match self {
            Self::App(id) => id.to_string(),
            Self::Organization(id) => id.to_string(),
        }
    }
}

/// An event being put together.
#[derive(Clone, Debug)]
pub struct Event {
    id: EventId,
    at: TimeMs,
    owner: Owner,
    core: BTreeMap<&'static str, Value>,
    private: BTreeMap<&'static str, Value>,
    salt: [u8; 16],
    terms: Vec<i64>,
}

impl Event {
    /// An event of `kind` at `at`.
    pub fn new(
        entropy: &(impl Entropy + ?Sized),
        at: TimeMs,
        owner: Owner,
        kind: Kind,
        outcome: Outcome,
        actor: Actor,
    ) -> Self {
        let id = EventId::from_uuid(grantd_wire::ids::uuid_v7(at.0, random(entropy)));
        let mut event = Self {
            id,
            at,
            owner,
            core: BTreeMap::new(),
            private: BTreeMap::new(),
            salt: random(entropy),
            terms: Vec::new(),
        };
        event.core.insert("id", json!(id));
        if let Owner::App(app) = owner {
            event.core.insert("app_id", json!(app));
        }
        event.indexed("kind", kind.as_str());
        event.indexed("outcome", outcome.as_str());
        let actor_object = match actor {
            Actor::Key(id) => json!({"type": "key", "id": id}),
            Actor::Operator(id) => json!({"type": "operator", "id": id}),
            Actor::Job => json!({"type": "job"}),
            Actor::Nobody => return event,
        };
        event.core.insert("actor", actor_object);
        if let Actor::Key(id) = actor {
            event.indexed("key_id", &id.to_string());
        }
        event
    }

    fn indexed(&mut self, field: &'static str, value: &str) {
        self.core.insert(field, json!(value));
        self.terms.push(term(field, value));
    }

    /// The same happening told as another kind: an event of its own, with a new id and salt.
    pub fn as_kind(mut self, entropy: &(impl Entropy + ?Sized), kind: Kind) -> Self {
        self.id = EventId::from_uuid(grantd_wire::ids::uuid_v7(self.at.0, random(entropy)));
        self.salt = random(entropy);
        self.core.insert("id", json!(self.id));
        let old = self.core["kind"].as_str().map(|old| term("kind", old));
        self.terms.retain(|t| Some(*t) != old);
        self.indexed("kind", kind.as_str());
        self
    }

    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// When it happened, unless its chain is already later.
    pub fn at(&self) -> TimeMs {
        self.at
    }

    /// Whose chain it belongs to.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// With the code it was refused with.
    pub fn code(mut self, code: Code) -> Self {
        self.core.insert("code", json!(code.as_str()));
        self
    }

    /// With the grant it is about.
    pub fn grant(mut self, id: GrantId) -> Self {
        self.indexed("grant_id", &id.to_string());
        self
    }

    /// With the agent that acted.
    pub fn agent(mut self, id: AgentId) -> Self {
        self.indexed("agent_id", &id.to_string());
        self
    }

    /// With the key it is about, when the actor is another.
    pub fn key(mut self, id: KeyId, prefix: &str) -> Self {
        if !self.core.contains_key("key_id") {
            self.indexed("key_id", &id.to_string());
        }
        self.core.insert("key_prefix", json!(prefix));
        self
    }

    /// With the provider: the slug of a managed secret.
    pub fn provider(mut self, id: &str) -> Self {
        self.indexed("provider_id", id);
        self
    }

    /// With the credential and which version of it.
    pub fn credential(mut self, id: CredentialId, version: i64) -> Self {
        self.core.insert("credential_id", json!(id));
        self.core.insert("credential_version", json!(version));
        self
    }

    /// Findable by the generation of the credential's value; the event itself names its version.
    pub fn generation(mut self, id: GenerationId) -> Self {
        self.terms.push(term("token_generation", &id.to_string()));
        self
    }

    /// With method, host, path and the names of query parameters. The path is cut to its bound; values never come in.
    pub fn target(mut self, method: &str, host: &str, path: &str, query_names: &[String]) -> Self {
        self.core.insert("method", json!(method));
        self.core.insert("host", json!(host));
        let end = path.floor_char_boundary(limits::EVENT_PATH_BYTES_MAX);
        self.private.insert("path", json!(&path[..end]));
        if !query_names.is_empty() {
            self.private.insert("query_names", json!(query_names));
        }
        self
    }

    /// With the caller's context; the values of `index` keys can be searched for.
    pub fn context<'a>(mut self, context: &Context, index: impl Iterator<Item = &'a str>) -> Self {
        if context.is_empty() {
            return self;
        }
        let map: serde_json::Map<String, Value> = context.pairs().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        self.private.insert("context", Value::Object(map));
        for key in index {
            if let Some(value) = context.get(key) {
                self.terms.push(context_term(key, value));
            }
        }
        self
    }

    /// With a core field.
    pub fn core(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.core.insert(field, value.into());
        self
    }

    /// With a private field, unless it is absent.
    pub fn private(mut self, field: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.private.insert(field, value.into());
        }
        self
    }

    /// With what changed: `{field: [old, new]}`.
    pub fn changed(mut self, field: &str, old: impl Into<Value>, new: impl Into<Value>) -> Self {
        let changed = self.core.entry("changed").or_insert_with(|| json!({}));
        changed[field] = json!([old.into(), new.into()]);
        self
    }

    /// Everything the writer needs, with the expensive parts done.
    pub fn prepare(self) -> Prepared {
        Prepared::new(self)
    }
}

/// The index term of a core field: the first eight bytes of SHA-256(`field=value`).
pub fn term(field: &str, value: &str) -> i64 {
    let hash = sha256(format!("{field}={value}").as_bytes());
    i64::from_be_bytes(hash[..8].try_into().expect("a hash has eight bytes"))
}

/// The index term of a context value.
pub fn context_term(key: &str, value: &str) -> i64 {
    term(&format!("context.{key}"), value)
}

/// An event whose canonical text is ready but for its place in the chain.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub id: EventId,
    pub at: TimeMs,
    pub owner: Owner,
    /// Canonical pairs before `at`, between `at` and `chain_id`, between `chain_id` and `seq`, and after `seq`.
    parts: [String; 4],
    /// Canonical private part, if there is any.
    pub private: Option<String>,
    pub salt: [u8; 16],
    pub private_hash: [u8; 32],
    pub terms: Vec<i64>,
}

impl Prepared {
    fn new(event: Event) -> Self {
        let mut parts = [const { String::new() }; 4];
        // Keys are ASCII, so the map's order is the canonical one.
        for (key, value) in &event.core {
            let part = &mut parts[["at", "chain_id", "seq"].iter().filter(|k| *k < key).count()];
            if !part.is_empty() {
                part.push(',');
            }
            part.push_str(&json!(key).to_string());
            part.push(':');
            part.push_str(&canonical(value));
        }
        let private = (!event.private.is_empty()).then(|| canonical(&event.private));
        let private_hash = private_hash(&event.salt, private.as_deref().unwrap_or("{}"));
        Self {
            id: event.id,
            at: event.at,
            owner: event.owner,
            parts,
            private,
            salt: event.salt,
            private_hash,
            terms: event.terms,
        }
    }

    /// The canonical core at a place in a chain.
    fn core_at(&self, at: TimeMs, chain_id: &str, seq: i64) -> String {
        let [a, b, c, d] = &self.parts;
        let place = [format!("\"at\":\"{at}\""), format!("\"chain_id\":\"{chain_id}\""), format!("\"seq\":{seq}")];
        let all = [a, &place[0], b, &place[1], c, &place[2], d];
        let mut text = String::with_capacity(all.iter().map(|p| p.len() + 1).sum::<usize>() + 2);
        text.push('{');
        for part in all.into_iter().filter(|p| !p.is_empty()) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(part);
        }
        text.push('}');
        text
    }
}

/// RFC 8785 text of a value made of strings, integers below 2^53, booleans, lists and objects.
pub(crate) fn canonical(value: &impl serde::Serialize) -> String {
    serde_json_canonicalizer::to_string(value).expect("events hold no value without canonical form")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    fn app() -> Owner {
        Owner::App(AppId::from_uuid(grantd_wire::ids::uuid_v7(1, [1; 10])))
    }

    #[test]
    fn the_spliced_core_is_the_canonical_one() {
        let context = Context::parse(r#"{"user_id":"u1","ﬀ":"x","𐀀":"y"}"#).unwrap();
        let event = Event::new(&Fixed, TimeMs(5), app(), Kind::TokenReleased, Outcome::Allowed, Actor::Job)
            .target("GET", "api.example.com", "/v1", &[])
            .changed("zeta", Value::Null, 3)
            .core("status", 200)
            .core("tenant", "match")
            .context(&context, ["user_id"].into_iter());
        let prepared = event.prepare();
        let core = prepared.core_at(TimeMs(6), "c-1", 42);
        let value: Value = serde_json::from_str(&core).unwrap();
        assert_eq!(canonical(&value), core);
        assert_eq!(
            (&value["at"], &value["chain_id"], &value["seq"]),
            (&json!("1970-01-01T00:00:00.006Z"), &json!("c-1"), &json!(42))
        );
        assert!(prepared.terms.contains(&context_term("user_id", "u1")));
        let private: Value = serde_json::from_str(prepared.private.as_deref().unwrap()).unwrap();
        assert_eq!(canonical(&private), prepared.private.unwrap());
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        let path = format!("/{}", "é".repeat(2000));
        let event = Event::new(&Fixed, TimeMs(5), app(), Kind::TokenDenied, Outcome::Denied, Actor::Nobody).target(
            "GET",
            "h",
            &path,
            &[],
        );
        assert_eq!(event.private["path"].as_str().unwrap().len(), 2047);
    }

    #[test]
    fn kinds_are_noun_dot_verb_and_unique() {
        let texts: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(texts.len(), Kind::ALL.len());
        assert!(texts.iter().all(|t| t.split('.').count() == 2));
    }
}
