//! OAuth providers: where their users consent, how codes become tokens, how tokens are renewed and ended, whose account it is, and
//! where a token may go.
//!
//! They are data, in `providers/oauth/`, and every group of facts says where it is from. Invariant: a provider's entry never opens a
//! host that the provider does not run, nor one of another account: a host that belongs to one account is pinned when it connects.

mod answer;
mod behaviour;
mod call;
mod catalog;
mod check;
mod custom;
mod facts;
mod fields;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::evidence::Evidence;
use crate::template::{Field, render};

pub use answer::{ANSWER_BYTES_MAX, Expiry, Fields, Refusal, Tokens, fields};
pub use behaviour::Behaviour;
pub use call::{Call, Client, Link, Pair, new_verifier};
pub use catalog::{all, find};
pub use custom::{CustomError, Discovery, discovery_url, of_custom};
pub use facts::{Account, AccountError, Learnt};
pub use written::{check_custom, check_id, check_scopes};

/// The id that stands for no entry: everything is said by whoever configures it, or by its issuer.
pub const CUSTOM: &str = "custom";

/// What is known of one OAuth provider.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub id: String,
    pub name: String,
    pub category: String,
    /// One sentence: what an app reaches with it.
    pub description: String,
    /// The provider's page about its OAuth.
    pub docs: String,
    /// What whoever registers an app there has to know.
    pub setup: Option<String>,
    /// What whoever registers the app here has to say: names in braces in the URLs stand for it.
    #[serde(default)]
    pub fields: Vec<Field>,
    pub authorize: Authorize,
    pub scopes: Scopes,
    pub token: Token,
    /// A second exchange, straight after the code's, for a token that lives longer.
    pub exchange: Option<Exchange>,
    pub refresh: Refresh,
    /// How a token is ended; none: the provider has no such call, or none is known.
    pub revoke: Option<Revoke>,
    pub identity: Identity,
    pub hosts: Hosts,
    #[serde(default)]
    pub injection: Injection,
    /// Other installations of the same provider, such as a sandbox, or other kinds of its tokens: what differs there.
    #[serde(default)]
    pub environments: BTreeMap<String, Environment>,
}

/// Where the user is sent.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Authorize {
    pub url: String,
    /// Parameters beside those of RFC 6749.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// What the provider calls `client_id`, here and in its token calls.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// What is sent as `redirect_uri` where it is not the URI itself but a name that the provider gave it: `{field}`.
    pub redirect_uri: Option<String>,
    pub pkce: Pkce,
    /// The issuer of its ID tokens and of `iss` in callbacks (RFC 9207), where it has one.
    pub issuer: Option<String>,
    pub evidence: Evidence,
}

fn client_id() -> String {
    "client_id".to_owned()
}

/// Whether the provider takes PKCE with S256 (RFC 7636) from a client that has a secret.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Pkce {
    Required,
    Supported,
    /// It is ignored by servers that follow RFC 6749, so it is sent.
    Unknown,
    /// A request that carries it fails, or is taken for another kind of client's.
    Refused,
}

impl Pkce {
    /// Stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Supported => "supported",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }

    /// Whether a request carries it.
    pub const fn is_sent(self) -> bool {
        !matches!(self, Self::Refused)
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Scopes {
    /// What the provider calls `scope` in the link.
    #[serde(default = "scope")]
    pub param: String,
    /// Between scopes in a request; answers are read with space and comma alike.
    #[serde(default = "space")]
    pub separator: String,
    /// Asked for when nothing else is configured.
    #[serde(default)]
    pub default: Vec<String>,
    /// Without these nothing works: for the account's identity, or for a refresh token.
    #[serde(default)]
    pub required: Vec<String>,
    /// Scope and what it opens. Not complete; any other may be configured.
    #[serde(default)]
    pub known: BTreeMap<String, String>,
    pub evidence: Evidence,
}

fn scope() -> String {
    "scope".to_owned()
}

fn space() -> String {
    " ".to_owned()
}

/// How a code becomes a token.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub url: String,
    pub auth: ClientAuth,
    #[serde(default)]
    pub body: Body,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Where in the answer the tokens are, when not at its top: an RFC 6901 pointer.
    pub root: Option<String>,
    #[serde(default)]
    pub quirks: Vec<Quirk>,
    /// Where, beside the tokens, the moment is at which the access token ends, when it is not said how long it lives: RFC 3339, or seconds
    /// since 1970.
    pub expires_at: Option<String>,
    /// How long an access token lives when its answer does not say, in seconds.
    pub lifetime_s: Option<u32>,
    /// An access token whose answer does not say how long it lives does not end by time.
    #[serde(default)]
    pub never_expires: bool,
    pub evidence: Evidence,
}

/// How the client says who it is at the token endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// HTTP Basic (RFC 6749 section 2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body.
    Post,
}

/// How parameters are sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    #[default]
    Form,
    Json,
    Query,
}

/// Behaviour of a token endpoint that is not in its other facts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Quirk {
    /// Failures are 200 with `"ok": false`.
    OkFalse,
    /// Failures are 200 with an error object or error fields.
    #[serde(rename = "error_in_200")]
    ErrorIn200,
    /// Answers are form-encoded unless JSON is asked for, or always.
    FormAnswer,
    /// `expires_in` is 0 for a token that does not expire.
    ZeroIsNever,
    /// Answers do not say how long a token lives, and nobody knows.
    MissingExpiresIn,
    /// The code comes with `#_` behind it.
    CodeSuffix,
}

/// An exchange of an access token for one that lives longer.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    pub method: Method,
    pub url: String,
    /// Placeholders: `{access_token}`, `{client_id}`, `{client_secret}`.
    pub params: BTreeMap<String, String>,
    pub evidence: Evidence,
}

/// How an access token is renewed.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    pub kind: RefreshKind,
    /// Where, when not at the token endpoint.
    pub url: Option<String>,
    /// Only for `exchange`.
    pub method: Option<Method>,
    /// For `exchange` all of them, with the placeholders of [`Exchange`]; else those beside RFC 6749.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// The redirect URI goes along, as it did with the code.
    #[serde(default)]
    pub redirect_uri: bool,
    /// How long a spent refresh token still works, in seconds.
    pub grace_s: Option<u32>,
    /// A token younger than this is not renewed, in seconds.
    pub min_age_s: Option<u32>,
    /// A refresh token dies when it is not used for so long, in seconds.
    pub idle_s: Option<u32>,
    /// A refresh token dies after this, in seconds, whatever happens.
    pub absolute_s: Option<u32>,
    pub evidence: Evidence,
}

/// What becomes of the refresh token.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RefreshKind {
    /// There is none.
    None,
    /// It stays.
    Stable,
    /// Each use returns a new one, and the old one ends.
    Rotates,
    /// It is taken for one that rotates: whatever comes back is kept.
    Unknown,
    /// There is none; the access token itself is exchanged before it ends.
    Exchange,
}

impl RefreshKind {
    /// Stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stable => "stable",
            Self::Rotates => "rotates",
            Self::Unknown => "unknown",
            Self::Exchange => "exchange",
        }
    }
}

/// How a token is ended at the provider.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    #[serde(default = "post")]
    pub method: Method,
    /// Placeholders: `{client_id}`, `{account_id}`.
    pub url: String,
    pub auth: RevokeAuth,
    #[serde(default)]
    pub body: Body,
    /// Placeholders: `{token}`, `{client_id}`, `{client_secret}`, `{account_id}`.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// With the same placeholders.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Which of the two is sent; where there is no refresh token, the access token.
    pub token: TokenKind,
    /// What it ends.
    pub ends: Ends,
    pub evidence: Evidence,
}

const fn post() -> Method {
    Method::Post
}

/// How a revocation is authorized.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum RevokeAuth {
    Basic,
    Post,
    /// The access token as a bearer token.
    Bearer,
    /// The client secret as a bearer token.
    SecretBearer,
    None,
}

/// One of the two tokens.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    Access,
    Refresh,
}

/// What a revocation ends.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// That token, and for a refresh token those that came of it.
    Token,
    /// All that this user gave this client.
    Grant,
}

/// Whose account it is.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub source: IdentitySource,
    /// Only of `call`.
    #[serde(default = "get")]
    pub method: Method,
    pub url: Option<String>,
    /// Beside `Authorization: Bearer`; one named `Authorization` replaces it and has `{access_token}` in it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// RFC 6901 pointers whose values, joined with `:`, stay the same for the account as long as it lives. All must be there.
    pub id: Vec<String>,
    /// Pointers to what a human recognises, the first that is there.
    #[serde(default)]
    pub name: Vec<String>,
    pub email: Option<String>,
    pub evidence: Evidence,
}

const fn get() -> Method {
    Method::Get
}

/// Where an account's identity is read.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum IdentitySource {
    /// A call with the access token.
    Call,
    /// The claims of the ID token.
    IdToken,
    /// The answer of the token endpoint, whole.
    Token,
    /// The parameters of the callback, as an object of strings.
    Callback,
}

/// Methods of calls to providers.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Post,
    Delete,
}

/// Where an access token may go.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Destination rules.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The one host beside them that belongs to the account.
    pub pin: Option<Pin>,
    pub evidence: Evidence,
}

/// A host that is known only when an account connects.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub source: IdentitySource,
    /// Where the host, a URL with it, or a part of it is.
    pub pointer: String,
    /// The host; `{value}` is what was found.
    #[serde(default = "value")]
    pub format: String,
    /// It must be one of these; `*` is one label or more.
    pub patterns: Vec<String>,
    /// Not every account has one.
    #[serde(default)]
    pub optional: bool,
}

fn value() -> String {
    "{value}".to_owned()
}

/// How a token is sent to the provider's API.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields, default)]
pub struct Injection {
    pub header: String,
    pub format: String,
    /// Further headers; `{client_id}` may stand in them.
    pub further: BTreeMap<String, String>,
}

impl Default for Injection {
    fn default() -> Self {
        Self { header: "Authorization".to_owned(), format: "Bearer {token}".to_owned(), further: BTreeMap::new() }
    }
}

impl Injection {
    /// Fields and injections of the headers that go with a token.
    pub fn further(&self, client_id: &str) -> (BTreeMap<String, String>, Vec<grantd_wire::sdk::Injection>) {
        let mut fields = BTreeMap::new();
        let mut injections = Vec::new();
        for (name, value) in &self.further {
            let Some(value) = render(value, |_| Some(client_id.to_owned())) else { continue };
            let field = name.to_ascii_lowercase().replace('-', "_");
            injections.push(grantd_wire::sdk::Injection {
                target: grantd_wire::sdk::InjectionTarget::Header,
                key: name.clone(),
                value_source: format!("additional_credentials.{field}"),
            });
            fields.insert(field, value);
        }
        (fields, injections)
    }
}

/// What is different in another installation of the same provider, or when it issues tokens of another kind.
#[derive(Clone, PartialEq, Eq, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    pub name: String,
    pub authorize: Option<String>,
    pub token: Option<String>,
    pub refresh: Option<String>,
    pub revoke: Option<String>,
    pub identity: Option<String>,
    pub issuer: Option<String>,
    pub hosts: Option<Vec<String>>,
    pub patterns: Option<Vec<String>>,
    /// What stands for a field there when it is not given.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// In place of those of the usual one, in `scopes`, `token` and `identity`.
    pub scope_param: Option<String>,
    pub token_root: Option<String>,
    pub account_id: Option<Vec<String>>,
}

/// Why a file is no entry of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("is not of the form of a provider")]
    Form(#[source] Box<toml::de::Error>),
    #[error("has a wrong {0}")]
    Wrong(&'static str),
}

impl Provider {
    /// Reads a file of the catalogue. Strict: what is not known, or could not work, is refused.
    pub fn parse(text: &str) -> Result<Self, ProviderError> {
        let provider: Self = toml::from_str(text).map_err(|e| ProviderError::Form(Box::new(e)))?;
        provider.check().map_err(ProviderError::Wrong)?;
        Ok(provider)
    }

    /// Whether every group of facts was read where it is made.
    pub fn is_verified(&self) -> bool {
        self.evidence().all(|(_, evidence)| evidence.level.is_verified())
    }

    /// Whether an access token can be renewed without the user.
    pub const fn is_refreshable(&self) -> bool {
        !matches!(self.refresh.kind, RefreshKind::None)
    }

    /// Where each group of facts is from.
    pub fn evidence(&self) -> impl Iterator<Item = (&'static str, &Evidence)> {
        let groups = [
            ("authorize", Some(&self.authorize.evidence)),
            ("scopes", Some(&self.scopes.evidence)),
            ("token", Some(&self.token.evidence)),
            ("exchange", self.exchange.as_ref().map(|exchange| &exchange.evidence)),
            ("refresh", Some(&self.refresh.evidence)),
            ("revoke", self.revoke.as_ref().map(|revoke| &revoke.evidence)),
            ("identity", Some(&self.identity.evidence)),
            ("hosts", Some(&self.hosts.evidence)),
        ];
        groups.into_iter().filter_map(|(group, evidence)| Some((group, evidence?)))
    }
}

impl Provider {
    /// The provider in another environment of its own; none: there is no such one.
    pub fn in_environment(&self, id: &str) -> Option<Self> {
        let changes = self.environments.get(id)?;
        let mut here = self.clone();
        let set = |field: &mut String, change: &Option<String>| {
            if let Some(change) = change {
                field.clone_from(change);
            }
        };
        set(&mut here.authorize.url, &changes.authorize);
        set(&mut here.token.url, &changes.token);
        here.refresh.url = changes.refresh.clone().or(here.refresh.url);
        here.authorize.issuer = changes.issuer.clone().or(here.authorize.issuer);
        if let (Some(revoke), Some(url)) = (&mut here.revoke, &changes.revoke) {
            revoke.url.clone_from(url);
        }
        here.identity.url = changes.identity.clone().or(here.identity.url);
        here.hosts.allow = changes.hosts.clone().unwrap_or(here.hosts.allow);
        if let (Some(pin), Some(patterns)) = (&mut here.hosts.pin, &changes.patterns) {
            pin.patterns.clone_from(patterns);
        }
        for field in &mut here.fields {
            if let Some(default) = changes.defaults.get(&field.name) {
                field.default = Some(default.clone());
            }
        }
        set(&mut here.scopes.param, &changes.scope_param);
        here.token.root = changes.token_root.clone().or(here.token.root);
        here.identity.id = changes.account_id.clone().unwrap_or(here.identity.id);
        Some(here)
    }
}
