//! Templates of managed secrets.

use serde::{Deserialize, Serialize};

use crate::api::secrets::CredentialType;
use crate::sdk::Injection;

/// `GET /api/v1/secret-templates/{id}`, and an item of the list: what one vendor's credential needs.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SecretTemplate {
    pub id: String,
    pub name: String,
    pub category: String,
    pub credential_type: CredentialType,
    /// What the value is, in the vendor's words.
    pub value: String,
    /// Fields beside the value.
    pub fields: Vec<TemplateField>,
    pub injection_header: String,
    pub injection_format: String,
    pub injections: Vec<Injection>,
    /// Destination rules; `{field}` stands for what the field, or the value, says.
    pub allowed_hosts: Vec<String>,
    /// The harmless call that tests the credential, such as `GET https://api.example.com/me`; null when there is none.
    pub probe: Option<String>,
    /// Why there is no probe.
    pub no_probe: Option<String>,
    pub notes: Option<String>,
    /// The vendor's page about authentication.
    pub docs_url: String,
    /// False when a fact of it was not read where it is made: see `evidence`.
    pub verified: bool,
    pub evidence: TemplateEvidence,
}

/// A field of a template.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TemplateField {
    pub name: String,
    pub label: String,
    /// Where to find it.
    pub find: String,
    pub required: bool,
    pub secret: bool,
    pub default: Option<String>,
    /// All that is possible; empty: any.
    pub choices: Vec<String>,
}

/// Where the facts of a template are from, by group.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TemplateEvidence {
    pub injection: Evidence,
    pub hosts: Evidence,
    pub probe: Option<Evidence>,
}

/// Where a group of facts is from.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// `vendor`, `client`, `third_party` or `unconfirmed`.
    pub level: String,
    pub source: String,
    /// `YYYY-MM-DD`.
    pub checked: String,
}
