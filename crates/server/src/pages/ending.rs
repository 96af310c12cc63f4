//! What the app is told when a session ends: by a message to the window that opened it, or in the address that it is sent back to.
//!
//! Both forms are those of `@alter-ai/connect`. It drops a message without `type`, and reads a success without a grant as an error.

use form_urlencoded::Serializer as Form;
use grantd_wire::TimeMs;
use serde::Serialize;
use serde_json::{Value, json};

use super::shown;

/// A grant that the session made, or renewed.
#[derive(Clone, Copy, Serialize)]
pub struct Granted<'a> {
    pub grant_id: &'a str,
    /// The provider's id.
    pub provider: &'a str,
    pub provider_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_identifier: Option<&'a str>,
    /// As its user knows it. For the page; the app is told the identifier.
    #[serde(skip)]
    pub account_name: Option<&'a str>,
    pub timestamp: TimeMs,
    pub operation: Operation,
    pub scopes: &'a [&'a str],
}

/// What a grant came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Creation,
    /// The account was connected before; its grant keeps its id.
    Reauth,
}

/// How a session ended.
#[derive(Clone, Copy)]
pub enum Ending<'a> {
    /// With these grants, at least one.
    Connected(&'a [Granted<'a>]),
    /// Without one: the user did not want to.
    Declined { code: &'a str, description: &'a str },
    /// Without one: it did not work.
    Failed { code: &'a str, description: &'a str },
}

impl Ending<'_> {
    /// What is posted to the window that opened this one.
    pub fn message(&self) -> Value {
        match *self {
            Self::Connected(grants) => json!({"type": "alter_connect_success", "grants": grants}),
            Self::Declined { code, description } | Self::Failed { code, description } => {
                json!({"type": "alter_connect_error", "error": code, "error_description": description})
            }
        }
    }

    /// The address to go back to, with what happened added to its query. It has room for one grant: the first.
    ///
    /// `None`: the address is not one to send a browser to.
    pub fn return_url(&self, return_url: &str) -> Option<String> {
        let address = shown::url(return_url)?;
        let (address, fragment) = match address.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (address, None),
        };
        let mut form = Form::new(String::new());
        match *self {
            Self::Connected(grants) => {
                let grant = grants.first()?;
                form.append_pair("alter_connect_success", "true")
                    .append_pair("grant_id", grant.grant_id)
                    .append_pair("provider", grant.provider)
                    // Read as an error when it is empty. A provider without accounts is an account of its own.
                    .append_pair("account_identifier", grant.account_identifier.unwrap_or(grant.provider))
                    .append_pair("provider_name", grant.provider_name)
                    .append_pair("timestamp", &grant.timestamp.to_string())
                    .append_pair("operation", grant.operation.as_str());
                if !grant.scopes.is_empty() {
                    form.append_pair("scopes", &grant.scopes.join(","));
                }
            }
            Self::Declined { code, description } | Self::Failed { code, description } => {
                form.append_pair("alter_connect_error", "true")
                    .append_pair("error_code", code)
                    .append_pair("error_description", description);
            }
        }
        let joint = match address.split_once('?') {
            None => "?",
            Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        let fragment = fragment.map_or_else(String::new, |f| format!("#{f}"));
        Some(format!("{address}{joint}{}{fragment}", form.finish()))
    }
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::Reauth => "reauth",
        }
    }
}
