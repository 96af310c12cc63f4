//! Apps.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// An app's tenant guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TenantMode {
    Off,
    Observe,
    Enforce,
}

/// Whether `/sdk/token` hands out raw credentials of an app.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Retrieve {
    On,
    Off,
}

/// Whether a user for whom a connect session is must sign in on its page before anything is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConnectSignIn {
    Off,
    Required,
}

/// An app.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct App {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub website_url: Option<String>,
    /// `active`, `archived` or `deleted`.
    pub state: String,
    pub tenant_key: Option<String>,
    pub tenant_mode: TenantMode,
    pub retrieve: Retrieve,
    pub indexed_context_keys: Vec<String>,
    pub connect_sign_in: ConnectSignIn,
    /// Origins that a browser may be sent back to, and that a window which is told may be of. Empty: any.
    pub return_origins: Vec<String>,
    pub created_at: TimeMs,
    pub version: i64,
}

/// `POST /api/v1/apps`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppCreate {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
}

/// `PATCH /api/v1/apps/{app_id}`: absent fields stay.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_mode: Option<TenantMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrieve: Option<Retrieve>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexed_context_keys: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_sign_in: Option<ConnectSignIn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_origins: Option<Vec<String>>,
}
