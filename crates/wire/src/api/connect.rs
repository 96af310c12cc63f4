//! Connect sessions that operators begin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::sdk::{ConnectError, ConnectedGrant, DeclinedProvider, FailedGrant};

/// `POST /api/v1/apps/{app_id}/connect-sessions`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConnectSessionCreate {
    /// Ids of providers the app is registered with. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_providers: Option<Vec<String>>,
    /// By provider: scopes without which nothing is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_scopes: Option<BTreeMap<String, Vec<String>>>,
    /// Of the grant: one of its own on the account, beside the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When grants end, from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Connects the account of this grant again, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair_grant_id: Option<String>,
    /// True: the user chooses the account anew, where the provider lets them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switch_account: bool,
    /// True: straight on to the one provider, without a page of ours before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// Where the browser goes afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// Origin of the page that opens the link in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origin: Option<String>,
}

/// A connect session, and what came of it so far.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectSession {
    pub id: String,
    pub app_id: String,
    /// `pending`, `completed`, `error` or `expired`.
    pub status: String,
    /// True once a browser opened the link. No other can.
    pub opened: bool,
    /// Ids of those that may be connected.
    pub providers: Vec<String>,
    pub direct: bool,
    /// While it is pending: those that the user did not want.
    pub declined_providers: Vec<DeclinedProvider>,
    /// When it is completed: what was connected.
    pub grants: Vec<ConnectedGrant>,
    /// When it is completed: providers of which nothing came.
    pub failed_grants: Vec<FailedGrant>,
    /// Why nothing was connected.
    pub error: Option<ConnectError>,
    pub created_at: TimeMs,
    pub expires_at: TimeMs,
}

/// A session that was just begun. No `Debug`: it carries the link.
#[derive(Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BegunConnectSession {
    #[serde(flatten)]
    pub session: ConnectSession,
    /// For one browser. Shown once.
    pub connect_url: String,
}
