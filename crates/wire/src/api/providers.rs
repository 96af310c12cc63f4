//! OAuth providers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Evidence;

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
    pub authorize_url: String,
    pub token_url: String,
    pub revoke_url: Option<String>,
    pub issuer: Option<String>,
    /// `required`, `supported`, `unknown` (it is sent) or `refused` (it is not).
    pub pkce: String,
    /// `stable`, `rotates`, `unknown`, `exchange` (of the access token itself), or `none`.
    pub refresh: String,
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

/// What is known of a provider that is not in the catalogue. What is left out is taken from the issuer's discovery document, if an
/// issuer is given.
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
