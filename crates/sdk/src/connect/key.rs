//! A user's own key for a managed secret.

use std::fmt;

use grantd_wire::TimeMs;
use grantd_wire::limits::LABEL_CHARS_MAX;
use grantd_wire::sdk::{KeySessionRequest, Lifetime, RequestedGrant};
use serde::Deserialize;

use super::{flag, grant_id};
use crate::app::{App, Ask, read};
use crate::error::Error;
use crate::retry::Repeat;

const SESSION_PATH: &str = "/sdk/managed-secrets/connect/session";

impl App {
    /// Begins a session in which a user gives their own key for a managed secret, or lets the app use what they hold of it. Give its
    /// link to the user; [`poll_connect_session`](Self::poll_connect_session) says what came of it.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, user_token: String) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{ConnectWait, KeyRequest};
    /// let request = KeyRequest::new("deepgram").user_token(user_token).return_url("https://app.example.com/done");
    /// let session = app.create_managed_secret_connect_session(request).await?;
    /// println!("send the user to {}", session.connect_url);
    /// let connected = app.poll_connect_session(&session.session_token, ConnectWait::new()).await?;
    /// println!("{}", connected.grants[0].grant_id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_managed_secret_connect_session(&self, request: KeyRequest) -> Result<KeySession, Error> {
        let mut body = request.checked()?;
        body.user_token = self.user_token(body.user_token).await?;
        if body.user_token.is_none() {
            return Err(Error::Invalid("a key belongs to a user: give their token as user_token".to_owned()));
        }
        let ask = Ask::post(SESSION_PATH, &body, Repeat::MakesAnother);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let session: KeySession = read(&answer)?;
        let status = answer.status.as_u16();
        if session.session_token.is_empty() || session.connect_url.is_empty() {
            return Err(Error::unusable(status, "it holds no session"));
        }
        if body.provider.as_deref() != Some(&*session.secret_slug) {
            return Err(Error::unusable(status, "it is of another secret"));
        }
        Ok(session)
    }
}

/// What a user is asked for.
#[derive(Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct KeyRequest {
    body: KeySessionRequest,
}

impl KeyRequest {
    /// A key for the managed secret with this slug.
    pub fn new(slug: impl Into<String>) -> Self {
        Self { body: KeySessionRequest { provider: Some(slug.into()), ..KeySessionRequest::default() } }
    }

    /// Whose key, in place of the user of the app's getter.
    pub fn user_token(mut self, token: impl Into<String>) -> Self {
        self.body.user_token = Some(token.into());
        self
    }

    /// What the grant is called. Without it the user may name their key.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.body.requested_grant = Some(RequestedGrant { label: label.into(), restrictions: None });
        self
    }

    /// How long the grant lives.
    pub fn grant_policy(mut self, policy: Lifetime) -> Self {
        self.body.grant_policy = Some(policy);
        self
    }

    /// The user replaces the key behind this grant, which keeps its id.
    pub fn repair_grant_id(mut self, grant_id: impl Into<String>) -> Self {
        self.body.repair_grant_id = Some(grant_id.into());
        self
    }

    /// Where the browser goes afterwards, with the result in the query.
    pub fn return_url(mut self, url: impl Into<String>) -> Self {
        self.body.return_url = Some(url.into());
        self
    }

    /// Origin of the page that opens the session in a window, and is told the result by a message.
    pub fn allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.body.allowed_origin = Some(origin.into());
        self
    }

    fn checked(self) -> Result<KeySessionRequest, Error> {
        let body = self.body;
        if let Some(grant) = &body.requested_grant
            && !(1..=LABEL_CHARS_MAX).contains(&grant.label.chars().count())
        {
            return Err(Error::Invalid(format!("a label has 1 to {LABEL_CHARS_MAX} characters")));
        }
        if let Some(id) = &body.repair_grant_id {
            grant_id(id)?;
            if body.requested_grant.is_some() {
                return Err(Error::Invalid("repair_grant_id does not go with a label".to_owned()));
            }
        }
        Ok(body)
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest")
            .field("provider", &self.body.provider)
            .field("return_url", &self.body.return_url)
            .field("allowed_origin", &self.body.allowed_origin)
            .field("repair_grant_id", &self.body.repair_grant_id)
            .finish_non_exhaustive()
    }
}

/// A session that a user is to open. Its token and link are for that user alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct KeySession {
    /// For `@alter-ai/connect`, and for polls.
    pub session_token: String,
    /// For one browser.
    pub connect_url: String,
    /// Seconds it lives.
    pub expires_in: u64,
    pub expires_at: TimeMs,
    /// What the user is asked for; none: that is not told. An answer without it is of a vault that knows nothing of keys.
    #[serde(deserialize_with = "Option::deserialize")]
    pub path: Option<KeyPath>,
    /// The grant that the user lets the app use, or whose key they replace.
    #[serde(default)]
    pub existing_grant_id: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub direct: bool,
    pub secret_slug: String,
    /// The template that the secret was made from.
    #[serde(default)]
    pub template_slug: Option<String>,
}

/// What a user is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPath {
    /// Whether the app may use what they hold.
    FastPath,
    /// A key of their own.
    KeyEntry,
    /// Another key in place of the one they gave.
    Repair,
}

impl fmt::Debug for KeySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySession")
            .field("expires_at", &self.expires_at)
            .field("path", &self.path)
            .field("existing_grant_id", &self.existing_grant_id)
            .field("secret_slug", &self.secret_slug)
            .finish_non_exhaustive()
    }
}
