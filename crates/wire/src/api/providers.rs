//! OAuth providers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Evidence, TemplateField};
use crate::TimeMs;
use crate::object::opt_object;

/// `GET /api/v1/provider-catalog/{id}`, and an item of the list: what is known of one OAuth provider.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogProvider {
    pub id: String,
    pub name: String,
    pub category: String,
    pub description: String,
    /// What whoever registers an app there has to know.
    pub setup: Option<String>,
    /// What has to be said when an app is registered with it; `{name}` in URLs stands for it.
    pub fields: Vec<TemplateField>,
    pub authorize_url: String,
    pub token_url: String,
    pub revoke_url: Option<String>,
    pub issuer: Option<String>,
    /// `required`, `supported`, `unknown` (it is sent) or `refused` (it is not).
    pub pkce: String,
    /// `stable`, `rotates`, `unknown`, `exchange` (of the access token itself), or `none`.
    pub refresh: String,
    /// How it departs from a plain server of RFC 6749, by name.
    pub behaviours: Vec<String>,
    pub default_scopes: Vec<String>,
    pub required_scopes: Vec<String>,
    /// Known scopes and what they open; others may be asked for, too.
    pub scopes: BTreeMap<String, String>,
    /// Where its tokens may go.
    pub allowed_hosts: Vec<String>,
    /// Patterns of the one host beside them that belongs to the connected account.
    pub account_hosts: Vec<String>,
    /// Other installations, such as a sandbox, and their names.
    pub environments: BTreeMap<String, String>,
    /// The provider's page about its OAuth.
    pub docs_url: String,
    /// False when a fact of it was not read where it is made: see `evidence`.
    pub verified: bool,
    /// Where the facts are from, by group.
    pub evidence: BTreeMap<String, Evidence>,
}

/// What is known of a provider that is not in the catalogue. With an issuer, and unless `authorize_url` and `token_url` are both given,
/// what is left out is taken from the issuer's discovery document: once, when this is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CustomProvider {
    /// As in its discovery document and in `iss` of its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_url: Option<String>,
    /// Without one, the account is read from the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userinfo_url: Option<String>,
    /// `basic` (the default) or `post`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<String>,
    /// True: no PKCE, for a server that fails when it is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_pkce: bool,
    /// A space (the default) or a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_separator: Option<String>,
    /// Asked for when nothing else is configured; `openid` when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// By the name of a scope, what it opens: users are told so when they are asked, and the scope's name where nothing is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scope_texts: BTreeMap<String, String>,
    /// Further parameters of the link to consent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorize_params: BTreeMap<String, String>,
    /// JSON pointers into what tells of the account, joined they name it for good. `/sub` when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account_id: Vec<String>,
    /// JSON pointers to what a human recognises, the first that is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account_name: Vec<String>,
    /// The header a token is sent in; `Authorization` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Its value, with `{token}` once; `Bearer {token}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A provider that an app is registered with. Its client secret is never shown.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Provider {
    pub id: String,
    /// The catalogue's id, or the one a custom provider was given.
    pub provider_id: String,
    pub name: String,
    /// Of a provider that is not in the catalogue: what is known of it, completed from its issuer's discovery document.
    pub custom: Option<CustomProvider>,
    /// The installation it is; null: the provider's usual one.
    pub environment: Option<String>,
    /// What was said for the fields of its catalogue entry; what was not is as usual.
    pub fields: BTreeMap<String, String>,
    pub client_id: String,
    pub has_client_secret: bool,
    /// What to register at the provider: where it sends users back to.
    pub redirect_uri: String,
    /// As configured; empty: the provider's default.
    pub scopes: Vec<String>,
    /// What users are asked for: those, or the default, and what is always needed.
    pub effective_scopes: Vec<String>,
    /// Hosts beside those that are known.
    pub allowed_hosts: Vec<String>,
    /// Where its tokens may go: those that are known, and `allowed_hosts`.
    pub effective_hosts: Vec<String>,
    /// Patterns of the one host beside them that belongs to the connected account.
    pub account_hosts: Vec<String>,
    /// What whoever registers an app there has to know.
    pub setup: Option<String>,
    /// False when a fact of its catalogue entry was not read where it is made, and for what was described here.
    pub verified: bool,
    /// Its page about its OAuth.
    pub docs_url: Option<String>,
    /// What its token endpoint last blamed this registration for, such as `invalid_client`.
    pub problem: Option<String>,
    pub problem_at: Option<TimeMs>,
    /// Living accounts that were connected.
    pub accounts: i64,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub version: i64,
}

/// `POST /api/v1/apps/{app_id}/providers`. No `Debug`: it carries the client secret.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProviderCreate {
    /// The catalogue's id. With `custom` an id of your own that the catalogue does not have.
    pub provider: String,
    /// What users see. Absent: the catalogue's name; needed with `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of a provider that is not in the catalogue. An issuer is enough where it has a discovery document.
    #[serde(default, deserialize_with = "opt_object", skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomProvider>,
    /// Another installation of the catalogue's provider, such as its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What the catalogue's entry asks for, by the names of its fields: a tenant, or the name that the provider gave the app.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    pub client_id: String,
    /// Absent: the app was registered there as a client without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What users are asked for. Empty: the provider's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Where tokens may go beside the hosts that are known. Needed with `custom`, of which none are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
}

/// `PATCH /api/v1/apps/{app_id}/providers/{provider_id}`: absent fields stay. No `Debug`: it carries the client secret.
#[derive(Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProviderUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All of it anew. What is left out is taken from the issuer's discovery document, and not from what was stored.
    #[serde(default, deserialize_with = "opt_object", skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomProvider>,
    /// An empty one: the provider's usual installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// All of them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// An empty one removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// An empty list: the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// All of them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_hosts: Option<Vec<String>>,
}

/// The answer to `DELETE /api/v1/apps/{app_id}/providers/{provider_id}`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeletedProvider {
    pub id: String,
    pub provider_id: String,
    pub deleted_at: TimeMs,
}
