//! Audit events: what is recorded, how it is chained, and how an export is verified offline.
//!
//! An event has a **core**, which is kept for ever, and a **private** part, which may be erased without breaking the chain.
//! Invariant: neither ever holds a header value, a query value, a body, a token or a key.

mod chain;
mod checkpoint;
mod export;
mod fields;
mod terms;
mod verify;

use std::fmt::Write as _;

use grantd_wire::ids::{
    AgentId, AppId, ChainId, CredentialId, EventId, GenerationId, GrantId, IdentityProviderId, KeyId, OperatorId,
    OrganizationId, UserId,
};
use grantd_wire::{Code, TimeMs, limits};
use serde_json::{Map, Value, json};

pub use chain::{Head, Linked, ZERO_HASH, event_hash, link_hash, private_hash};
pub use checkpoint::{Checkpoint, CheckpointKey, HeadAt, Signed, footer_text, jwk, verify_signature};
pub use export::{Exporter, StoredEvent};
pub use terms::{Terms, context_term, is_indexed, term};
pub use verify::{Problem, Report, Trust, verify};

use crate::context::Context;
use crate::env::{Entropy, random};
use fields::{Fields, push_pair};

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

            /// The kind whose text is `text`.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
            }
        }
    };
}

kinds! {
    TokenReleased = "token.released",
    TokenDenied = "token.denied",
    /// The caller's own account of what the provider answered.
    CallClaimed = "call.claimed",
    ScopeMismatchClaimed = "scope_mismatch.claimed",
    /// Who a call is of was told.
    IdentityResolved = "identity.resolved",
    /// And signed, for somebody else to check.
    IdentityAsserted = "identity.asserted",
    AppCreated = "app.created",
    AppUpdated = "app.updated",
    AppArchived = "app.archived",
    AppUnarchived = "app.unarchived",
    /// Its data keys are destroyed; only its trail is left.
    AppDeleted = "app.deleted",
    BrandingUpdated = "branding.updated",
    KeyMinted = "key.minted",
    KeyRenamed = "key.renamed",
    /// Another key takes its place; it ends with its grace.
    KeyRotated = "key.rotated",
    KeyRevoked = "key.revoked",
    ProviderCreated = "provider.created",
    ProviderUpdated = "provider.updated",
    ProviderDeleted = "provider.deleted",
    IdentityProviderCreated = "identity_provider.created",
    IdentityProviderUpdated = "identity_provider.updated",
    IdentityProviderDeleted = "identity_provider.deleted",
    /// A user was seen for the first time, or again after a deprovisioning.
    UserCreated = "user.created",
    /// A newer token says something else of a user.
    UserUpdated = "user.updated",
    UserSuspended = "user.suspended",
    UserResumed = "user.resumed",
    /// Gone for good, with every grant.
    UserDeprovisioned = "user.deprovisioned",
    /// A token that came where no credential was asked for proved nothing.
    UserTokenRefused = "user_token.refused",
    /// An app asks for a user to sign in.
    SignInCreated = "sign_in.created",
    /// A browser opened it.
    SignInOpened = "sign_in.opened",
    SignInDeclined = "sign_in.declined",
    SignInFailed = "sign_in.failed",
    /// The identity provider vouched for the user.
    SignInDone = "sign_in.done",
    /// The user's token was handed out to the app.
    SignInReleased = "sign_in.released",
    /// A directory may tell what became of users from now on.
    ScimEnabled = "scim.enabled",
    ScimRotated = "scim.rotated",
    ScimDisabled = "scim.disabled",
    /// An identity provider's webhook may tell what became of users from now on.
    WebhookEnabled = "idp_webhook.enabled",
    WebhookRotated = "idp_webhook.rotated",
    WebhookDisabled = "idp_webhook.disabled",
    /// A directory told of a group.
    GroupCreated = "group.created",
    GroupUpdated = "group.updated",
    GroupDeleted = "group.deleted",
    /// An app asks for a user's authorization.
    ConnectCreated = "connect.created",
    /// A browser opened it.
    ConnectOpened = "connect.opened",
    ConnectDeclined = "connect.declined",
    ConnectFailed = "connect.failed",
    /// An account was connected, or connected again.
    ConnectDone = "connect.done",
    SecretCreated = "secret.created",
    SecretUpdated = "secret.updated",
    SecretDeleted = "secret.deleted",
    /// A credential is about to be sent to its vendor in a harmless call.
    ProbeIntended = "probe.intended",
    /// What came of it.
    ProbeAnswered = "probe.answered",
    /// The call was refused before anything was sent.
    ProbeDenied = "probe.denied",
    CredentialRotated = "credential.rotated",
    /// The provider issued a new token for it.
    CredentialRefreshed = "credential.refreshed",
    /// It did not; the old one stays.
    CredentialRefreshFailed = "credential.refresh_failed",
    /// What became of ending its tokens at the provider.
    CredentialEnded = "credential.revoked_upstream",
    CredentialDestroyed = "credential.destroyed",
    /// Its value is not to be had any more; a new one mends it.
    CredentialBroken = "credential.broken",
    GrantCreated = "grant.created",
    GrantUpdated = "grant.updated",
    GrantRevoked = "grant.revoked",
    InstallCreated = "install.created",
    OrganizationUpdated = "organization.updated",
    OperatorCreated = "operator.created",
    OperatorUpdated = "operator.updated",
    PatCreated = "pat.created",
    PatRevoked = "pat.revoked",
    /// On the host, by who can write to the database: old tokens revoked, a new one made.
    OperatorReset = "operator.reset",
    /// A link that signs an operator in once: made on the host, by who can write to the database, or by an admin.
    LoginLinkCreated = "login_link.created",
    OperatorSignedIn = "operator.signed_in",
    /// The issuer of single sign-on vouched for nobody who may sign in, or not as it must.
    OperatorSignInRefused = "operator.sign_in_refused",
    OperatorSignedOut = "operator.signed_out",
    /// A session was ended from another one.
    WebSessionEnded = "web_session.ended",
    /// Somebody who is signed in has proved again who they are.
    OperatorConfirmed = "operator.confirmed",
    /// An operator may sign in in another way from now on.
    SignInMethodAdded = "sign_in_method.added",
    SignInMethodChanged = "sign_in_method.changed",
    SignInMethodRemoved = "sign_in_method.removed",
    /// A passkey signed rightly, and was copied: its counter did not go on.
    PasskeyRefused = "passkey.refused",
    /// A copy of the database, complete and on disk.
    BackupMade = "backup.made",
    /// What stands here is of a backup; what was revoked since was revoked again, or given up.
    DatabaseRestored = "database.restored",
    /// Everything the root key wraps is wrapped under another.
    RootKeyRotated = "root_key.rotated",
    /// Another key that signs assertions is published.
    IdentityKeyMade = "identity_key.made",
    /// One signs nothing again, and is published no more.
    IdentityKeyWithdrawn = "identity_key.withdrawn",
    AuditExported = "audit.exported",
    /// Retention cut the past off the trail, up to a checkpoint.
    AuditPruned = "audit.pruned",
    /// Events lost their private part.
    AuditErased = "audit.erased",
    RetentionUpdated = "retention.updated",
    /// From now on nothing of the app may be removed.
    HoldSet = "hold.set",
    HoldReleased = "hold.released",
    AuthFailed = "auth.failed",
    ClockRegressed = "clock.regressed",
    /// An operator took the host's clock for right, although it had been later.
    ClockAccepted = "clock.accepted",
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
    /// The directory of an identity provider.
    Scim(IdentityProviderId),
    /// The webhook of an identity provider.
    Webhook(IdentityProviderId),
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
    /// The id's bytes: how the store keys chains and events.
    pub fn bytes(&self) -> &[u8; 16] {
        match self {
            Self::App(id) => id.as_bytes(),
            Self::Organization(id) => id.as_bytes(),
        }
    }

    /// The id as text: how it travels.
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
    core: Fields,
    private: Fields,
    changed: Map<String, Value>,
    salt: [u8; 16],
    terms: Terms,
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
        let random: [u8; 26] = random(entropy);
        let (salt, id) = random.split_at(16);
        let id = grantd_wire::ids::uuid_v7(at.0, id.try_into().expect("ten bytes"));
        let mut event = Self {
            id: EventId::from_uuid(id),
            at,
            owner,
            core: Fields::with_capacity(768, 20),
            private: Fields::with_capacity(256, 8),
            changed: Map::new(),
            salt: salt.try_into().expect("16 bytes"),
            terms: Terms::with_capacity(8),
        };
        event.core.put_plain("id", id);
        if let Owner::App(app) = owner {
            event.core.put_plain("app_id", app);
        }
        event.put_term("kind", kind.as_str());
        event.put_term("outcome", outcome.as_str());
        match actor {
            Actor::Key(id) => {
                event.put_id("key_id", id);
                event.core.put_canonical("actor", format_args!(r#"{{"id":"{id}","type":"key"}}"#));
            }
            Actor::Operator(id) => event.core.put("actor", &json!({"type": "operator", "id": id})),
            Actor::Scim(id) => event.core.put("actor", &json!({"type": "scim", "id": id})),
            Actor::Webhook(id) => event.core.put("actor", &json!({"type": "webhook", "id": id})),
            Actor::Job => event.core.put("actor", &json!({"type": "job"})),
            Actor::Nobody => {}
        }
        event
    }

    /// A field the event is found by.
    fn put_term(&mut self, field: &'static str, value: &str) {
        self.core.put_text(field, value);
        self.terms.push(term(field, value), is_indexed(field, value));
    }

    fn put_id(&mut self, field: &'static str, id: impl std::fmt::Display) {
        self.put_term(field, &id.to_string());
    }

    /// The same happening told as another kind: an event of its own, with a new id and salt.
    pub fn as_kind(mut self, entropy: &(impl Entropy + ?Sized), kind: Kind) -> Self {
        self.id = EventId::from_uuid(grantd_wire::ids::uuid_v7(self.at.0, random(entropy)));
        self.salt = random(entropy);
        self.core.put_plain("id", self.id);
        let old = self.core.get("kind").map(|old| term("kind", old.trim_matches('"')));
        if let Some(old) = old {
            self.terms.remove(old);
        }
        self.put_term("kind", kind.as_str());
        self
    }

    /// With another outcome than it was begun with.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        let old = self.core.get("outcome").map(|old| term("outcome", old.trim_matches('"')));
        if let Some(old) = old {
            self.terms.remove(old);
        }
        self.put_term("outcome", outcome.as_str());
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
        self.put_term("code", code.as_str());
        self
    }

    /// With the grant it is about.
    pub fn grant(mut self, id: GrantId) -> Self {
        self.put_id("grant_id", id);
        self
    }

    /// With the user it is about, or who acted.
    pub fn user(mut self, id: UserId) -> Self {
        self.put_id("user_id", id);
        self
    }

    /// With the agent that acted.
    pub fn agent(mut self, id: AgentId) -> Self {
        self.put_id("agent_id", id);
        self
    }

    /// With the key it is about, when the actor is another.
    pub fn key(mut self, id: KeyId, prefix: &str) -> Self {
        if self.core.get("key_id").is_none() {
            self.put_id("key_id", id);
        }
        self.core.put_text("key_prefix", prefix);
        self
    }

    /// With the provider: the slug of a managed secret.
    pub fn provider(mut self, id: &str) -> Self {
        self.put_term("provider_id", id);
        self
    }

    /// With the credential and which version of it.
    pub fn credential(mut self, id: CredentialId, version: i64) -> Self {
        self.core.put_plain("credential_id", id);
        self.core.put("credential_version", &json!(version));
        self
    }

    /// Findable by the generation of the credential's value; the event itself names its version.
    pub fn generation(mut self, id: GenerationId) -> Self {
        let field = "token_generation";
        let id = id.to_string();
        self.terms.push(term(field, &id), is_indexed(field, &id));
        self
    }

    /// With method, host, path and the names of query parameters. The path is cut to its bound; values never come in.
    pub fn target(mut self, method: &str, host: &str, path: &str, query_names: &[String]) -> Self {
        self.core.put_text("method", method);
        self.core.put_text("host", host);
        let end = path.floor_char_boundary(limits::EVENT_PATH_BYTES_MAX);
        self.private.put_text("path", &path[..end]);
        if !query_names.is_empty() {
            self.private.put("query_names", &json!(query_names));
        }
        self
    }

    /// With the caller's context; the values of `index` keys can be searched for.
    pub fn context<'a>(mut self, context: &Context, index: impl Iterator<Item = &'a str>) -> Self {
        if context.is_empty() {
            return self;
        }
        let map: Map<String, Value> = context.pairs().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        self.private.put("context", &Value::Object(map));
        for key in index {
            if let Some(value) = context.get(key) {
                self.terms.push(context_term(key, value), true);
            }
        }
        self
    }

    /// With a core field.
    pub fn core(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.core.put(field, &value.into());
        self
    }

    /// With a core field whose text needs no escaping: an id.
    pub fn core_id(mut self, field: &'static str, id: impl std::fmt::Display) -> Self {
        self.core.put_plain(field, id);
        self
    }

    /// With a private field, unless it is absent.
    pub fn private(mut self, field: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.private.put(field, &value.into());
        }
        self
    }

    /// With a private text, unless it is absent.
    pub fn private_text(mut self, field: &'static str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.private.put_text(field, value);
        }
        self
    }

    /// With what changed: `{field: [old, new]}`.
    pub fn changed(mut self, field: &str, old: impl Into<Value>, new: impl Into<Value>) -> Self {
        self.changed.insert(field.to_owned(), json!([old.into(), new.into()]));
        self
    }

    /// Everything the writer needs, with the expensive parts done.
    pub fn prepare(self) -> Prepared {
        Prepared::new(self)
    }
}

/// An event whose canonical text is ready but for its place in the chain.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub id: EventId,
    pub at: TimeMs,
    pub owner: Owner,
    /// Canonical pairs without those of its place, a comma before each.
    core: String,
    /// Where `at`, `chain_id` and `seq` go in: after this many bytes.
    cuts: [usize; 3],
    /// Canonical private part, if there is any.
    pub private: Option<String>,
    pub salt: [u8; 16],
    pub private_hash: [u8; 32],
    pub terms: Terms,
}

/// Names of the pairs that say where an event stands, in canonical order.
const PLACE: [&str; 3] = ["at", "chain_id", "seq"];

impl Prepared {
    fn new(mut event: Event) -> Self {
        if !event.changed.is_empty() {
            event.core.put("changed", &Value::Object(std::mem::take(&mut event.changed)));
        }
        let mut core = String::with_capacity(1024);
        let mut cuts = [0; 3];
        for (name, value) in event.core.sorted() {
            push_pair(&mut core, name, value);
            for (cut, _) in cuts.iter_mut().zip(PLACE).filter(|(_, place)| name < *place) {
                *cut = core.len();
            }
        }
        let private = (!event.private.is_empty()).then(|| event.private.object());
        let private_hash = private_hash(&event.salt, private.as_deref().unwrap_or("{}"));
        Self {
            id: event.id,
            at: event.at,
            owner: event.owner,
            core,
            cuts,
            private,
            salt: event.salt,
            private_hash,
            terms: event.terms,
        }
    }

    /// The canonical core at a place in a chain.
    fn core_at(&self, at: TimeMs, chain_id: ChainId, seq: i64) -> String {
        let mut text = String::with_capacity(self.core.len() + 128);
        let mut from = 0;
        for (name, to) in PLACE.into_iter().zip(self.cuts) {
            text.push_str(&self.core[from..to]);
            from = to;
            let written = match name {
                "at" => write!(text, ",\"at\":\"{at}\""),
                "chain_id" => write!(text, ",\"chain_id\":\"{chain_id}\""),
                _ => write!(text, ",\"seq\":{seq}"),
            };
            written.expect("a string takes everything");
        }
        text.push_str(&self.core[from..]);
        text.push('}');
        text.replace_range(..1, "{");
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
        let chain = ChainId::from_uuid(grantd_wire::ids::uuid_v7(1, [3; 10]));
        let core = prepared.core_at(TimeMs(6), chain, 42);
        let value: Value = serde_json::from_str(&core).unwrap();
        assert_eq!(canonical(&value), core);
        assert_eq!(
            (&value["at"], &value["chain_id"], &value["seq"]),
            (&json!("1970-01-01T00:00:00.006Z"), &json!(chain), &json!(42))
        );
        assert!(prepared.terms.contains(context_term("user_id", "u1")));
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
        assert_eq!(event.private.get("path").unwrap().len(), 2047 + 2);
    }

    #[test]
    fn kinds_are_noun_dot_verb_and_unique() {
        let texts: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
        assert_eq!(texts.len(), Kind::ALL.len());
        assert!(texts.iter().all(|t| t.split('.').count() == 2));
    }
}
