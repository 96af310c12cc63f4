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
