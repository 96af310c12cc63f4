//! Providers as apps are registered with them, and accounts that their users connected.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use grantd_wire::ids::{AppId, AppProviderId, LeaseId};
use grantd_wire::{Error, TimeMs};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::destination::Rule;
use crate::provider::{self, Expiry, Provider};
use crate::secret::Secret;

/// A provider as an app is registered with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppProvider {
    pub id: AppProviderId,
    pub app_id: AppId,
    /// The catalogue's id, or the one a custom provider was given.
    pub provider_id: String,
    pub name: String,
    /// What is known of it, in the environment that was chosen.
    pub facts: Facts,
    pub environment: Option<String>,
    /// What was said for the fields of its catalogue entry.
    pub fields: BTreeMap<String, String>,
    pub client_id: String,
    /// None: a client without one.
    pub client_secret: Option<SealedSecret>,
    /// Asked for; none: the provider's default.
    pub scopes: Vec<String>,
    /// Where its tokens may go, beside what its facts say.
    pub hosts: Vec<Rule>,
    /// What the token endpoint last blamed this registration for, and since when.
    pub problem: Option<(String, TimeMs)>,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub is_deleted: bool,
    pub version: i64,
}

/// A client secret, sealed, and the version of the row it was sealed at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSecret {
    pub sealed: Vec<u8>,
    pub version: i64,
}

/// What is known of a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Facts {
    /// As in the catalogue.
    Catalogue(&'static Provider),
    /// In another environment, or with what was said for its fields.
    Changed(Arc<Provider>),
    /// As somebody described it, here in the form it is stored in.
    Custom { facts: Arc<Provider>, said: Arc<grantd_wire::api::CustomProvider> },
}

impl Facts {
    /// A provider of the catalogue as an app is registered with it: in its usual installation or another, with `fields` in its URLs.
    pub fn of_catalogue(id: &str, environment: Option<&str>, fields: &BTreeMap<String, String>) -> Result<Self, Error> {
        Self::in_catalogue(id, environment, fields, Provider::with_fields)
    }

    /// The same of what was registered earlier, when its entry may not have asked for all that it requires now.
    pub fn of_stored(id: &str, environment: Option<&str>, fields: &BTreeMap<String, String>) -> Result<Self, Error> {
        Self::in_catalogue(id, environment, fields, Provider::with_stored_fields)
    }

    fn in_catalogue(
        id: &str,
        environment: Option<&str>,
        fields: &BTreeMap<String, String>,
        fill: fn(&Provider, &BTreeMap<String, String>) -> Result<Provider, Error>,
    ) -> Result<Self, Error> {
        let facts = provider::find(id).ok_or_else(|| {
            Error::impossible("provider", "is not in the catalogue").hint(
                "`grantd providers list-catalog` lists what is. For another one say what it is, as a custom one: an issuer may be enough.",
            )
        })?;
        let elsewhere = match environment {
            Some(environment) => Some(facts.in_environment(environment).ok_or_else(|| {
                let known: Vec<&str> = facts.environments.keys().map(String::as_str).collect();
                let why = match known.as_slice() {
                    [] => "the catalogue knows no other installation of this provider: leave it out".to_owned(),
                    known => format!("must be one of {}, or left out", known.join(", ")),
                };
                Error::impossible("environment", &why)
            })?),
            None => None,
        };
        let here = elsewhere.as_ref().unwrap_or(facts);
        if elsewhere.is_none() && facts.fields.is_empty() && fields.is_empty() {
            return Ok(Self::Catalogue(facts));
        }
        Ok(Self::Changed(Arc::new(fill(here, fields)?)))
    }
}

impl std::ops::Deref for Facts {
    type Target = Provider;

    fn deref(&self) -> &Provider {
        match self {
            Self::Catalogue(facts) => facts,
            Self::Changed(facts) | Self::Custom { facts, .. } => facts,
        }
    }
}

impl AppProvider {
    /// Where a token of an account may go: its facts' hosts, those that were added, and the account's own.
    pub fn rules(&self, account: &Account) -> Vec<Rule> {
        let own = self.facts.hosts.allow.iter().chain(&account.pinned_host).filter_map(|rule| Rule::parse(rule).ok());
        own.chain(self.hosts.iter().cloned()).collect()
    }
}

/// An account that was connected, beside its tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub provider: AppProviderId,
    /// Stays the same for the account as long as it lives.
    pub identifier: String,
    /// What a human recognises.
    pub name: Option<String>,
    /// As granted.
    pub scopes: Vec<String>,
    /// The one host that belongs to the account.
    pub pinned_host: Option<String>,
    /// When the access token ends.
    pub expiry: Expiry,
    /// Whether it can be renewed without the user.
    pub is_refreshable: bool,
    /// A caller said that the provider refused this very access token.
    pub rejected_at: Option<TimeMs>,
    /// A caller said that the provider wanted more than was granted.
    pub scope_mismatch_at: Option<TimeMs>,
    pub renewal: Renewal,
}

impl Account {
    /// The origin that belongs to the account, where its provider has such.
    pub fn api_base_url(&self) -> Option<String> {
        self.pinned_host.as_deref().map(origin_of)
    }

    /// What it takes in memory beside its own size, about, in bytes.
    pub fn bytes(&self) -> usize {
        let texts = [&self.name, &self.pinned_host].into_iter().flatten().chain(&self.scopes).map(String::len);
        self.identifier.len() + texts.sum::<usize>() + self.scopes.len() * size_of::<String>()
    }
}

/// The origin of a host that belongs to an account.
pub fn origin_of(pinned_host: &str) -> String {
    format!("https://{pinned_host}")
}

/// How the renewal of a token stands.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Renewal {
    /// Whoever renews it now, or did so when it was last heard of.
    pub lease: Option<Lease>,
    /// An attempt whose end nobody saw: the refresh token may be spent.
    pub unconfirmed_at: Option<TimeMs>,
    /// Attempts that failed since the last one that did not.
    pub failures: i64,
    /// No attempt before this.
    pub not_before: Option<TimeMs>,
}

/// One attempt to renew a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    pub id: LeaseId,
    pub until: TimeMs,
}

/// The tokens of an account, in the clear. Wiped on drop; `Debug` prints nothing of them.
#[derive(Deserialize, Serialize)]
pub struct TokenPair {
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
}

impl TokenPair {
    /// Takes copies of the tokens.
    pub fn new(access: &Secret, refresh: Option<&Secret>) -> Self {
        Self { access: access.reveal().to_owned(), refresh: refresh.map(|refresh| refresh.reveal().to_owned()) }
    }

    /// Reads what was sealed. `None`: it is not one of ours.
    pub fn parse(sealed: &Secret) -> Option<Self> {
        serde_json::from_str(sealed.reveal()).ok()
    }

    /// The text to seal.
    pub fn text(&self) -> Secret {
        // One allocation of the right size, so that growing leaves no copies behind.
        let mut text = Vec::with_capacity(2 * (self.access.len() + self.refresh.as_ref().map_or(0, String::len)) + 64);
        serde_json::to_writer(&mut text, self).expect("strings have a JSON form");
        Secret::new(String::from_utf8(text).expect("JSON is UTF-8"))
    }

    /// The access token. Every caller is a place a secret can leave by.
    pub fn access(&self) -> &str {
        &self.access
    }

    /// Both, to be sent to the provider that issued them.
    pub fn secrets(&self) -> (Secret, Option<Secret>) {
        (Secret::new(self.access.clone()), self.refresh.clone().map(Secret::new))
    }
}

impl Drop for TokenPair {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
    }
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenPair(..)")
    }
}
