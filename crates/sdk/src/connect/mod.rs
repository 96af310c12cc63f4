//! Connect: an end user lets the app use an account at a provider, and the app gets a grant.

mod key;
mod poll;
mod request;

use std::fmt;

use grantd_wire::TimeMs;
use grantd_wire::ids::{AgentId, GrantId};
use serde::Deserialize;
use serde_json::Value;

use crate::app::{App, Ask, read};
use crate::error::{Error, Refusal};
use crate::retry::Repeat;

pub use key::{KeyPath, KeyRequest, KeySession};
pub(crate) use poll::link_is_shown;
pub use poll::{CONNECT_POLL_INTERVAL, CONNECT_TIMEOUT, ConnectEvent, ConnectWait};
pub use request::ConnectRequest;

const SESSION_PATH: &str = "/sdk/oauth/connect/session";

impl App {
    /// Begins a session for an end user. Give its token to `@alter-ai/connect` in your page, or its link to the user, and
    /// learn what came of it from [`poll_connect_session`](Self::poll_connect_session).
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::ConnectRequest;
    /// let request = ConnectRequest::new().providers(["google"]).return_url("https://app.example.com/connected");
    /// let session = app.create_connect_session(request).await?;
    /// println!("send the user to {}", session.connect_url);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_connect_session(&self, request: ConnectRequest) -> Result<ConnectSession, Error> {
        let mut body = request.checked()?;
        body.user_token = self.user_token(body.user_token).await?;
        let ask = Ask::post(SESSION_PATH, &body, Repeat::MakesAnother);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let session: ConnectSession = read(&answer)?;
        if session.session_token.is_empty() || session.connect_url.is_empty() {
            return Err(Error::unusable(answer.status.as_u16(), "it holds no session"));
        }
        Ok(session)
    }

    /// Begins a session that mends what an error told of: for the error's provider, for its agent, and of an account whose
    /// credential was revoked for that account alone. `request` has what else is wanted, such as where the user returns to.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, request: grantd_sdk::RequestBuilder) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{ConnectRequest, Error};
    /// match request.send().await {
    ///     Err(error @ Error::CredentialRevoked { .. }) => {
    ///         let session = app.create_connect_session_for_error(&error, ConnectRequest::new()).await?;
    ///         println!("ask the user to go to {}", session.connect_url);
    ///     }
    ///     other => drop(other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_connect_session_for_error(
        &self,
        error: &Error,
        request: ConnectRequest,
    ) -> Result<ConnectSession, Error> {
        let (request, repair) = request.mending(error)?;
        self.create_mending_session(request, repair).await
    }

    pub(crate) async fn create_mending_session(
        &self,
        request: ConnectRequest,
        repair: Option<String>,
    ) -> Result<ConnectSession, Error> {
        let Some(repair) = repair else { return self.create_connect_session(request).await };
        match self.create_connect_session(request.clone().repair_grant_id(repair)).await {
            // There is nothing left to mend: a new grant does as well.
            Err(Error::GrantNotFound { .. }) => self.create_connect_session(request).await,
            other => other,
        }
    }

    /// Waits until the user is done with a session, and answers what was connected.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, session: grantd_sdk::ConnectSession) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{ConnectWait, Error};
    /// match app.poll_connect_session(&session.session_token, ConnectWait::new()).await {
    ///     Ok(connected) => println!("{}", connected.grants[0].grant_id),
    ///     Err(Error::ConnectDenied(_)) => println!("the user did not want to"),
    ///     Err(Error::ConnectTimeout { .. }) => println!("the user took too long"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn poll_connect_session(&self, session_token: &str, wait: ConnectWait) -> Result<Connected, Error> {
        poll::wait(self, session_token, wait).await
    }

    /// Connects from a program that has no page of its own: begins a session, opens its link in a browser, or else prints it to
    /// standard error, and waits until the user is done. [`ConnectWait::on_event`] is given the link, too.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{ConnectEvent, ConnectRequest, ConnectWait};
    /// let wait = ConnectWait::new().open_browser(false).on_event(|event| match event {
    ///     ConnectEvent::Begun(session) => println!("open {}", session.connect_url),
    ///     ConnectEvent::Declined(declined) => println!("{} was declined", declined.provider_id),
    ///     _ => {}
    /// });
    /// for grant in app.connect(ConnectRequest::new().providers(["github"]), wait).await?.grants {
    ///     println!("{} {:?}", grant.grant_id, grant.account_identifier);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(&self, request: ConnectRequest, wait: ConnectWait) -> Result<Connected, Error> {
        let session = self.create_connect_session(request).await?;
        let token = session.session_token.clone();
        poll::wait(self, &token, wait.begun(session)).await
    }
}

/// A session that an end user is to open. Its token and link are for that user alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ConnectSession {
    /// For `@alter-ai/connect`, and for polls.
    pub session_token: String,
    /// For one browser.
    pub connect_url: String,
    /// Seconds it lives.
    pub expires_in: u64,
    pub expires_at: TimeMs,
    /// Whether there is nothing to choose from.
    #[serde(default, deserialize_with = "flag")]
    pub single_provider: bool,
    /// Whether the link goes straight on to the provider.
    #[serde(default, deserialize_with = "flag")]
    pub direct: bool,
    #[serde(default)]
    pub scope_constraint_warnings: Vec<String>,
}

impl fmt::Debug for ConnectSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectSession")
            .field("expires_at", &self.expires_at)
            .field("single_provider", &self.single_provider)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

/// Only a real `true` counts.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(deserializer)? == Value::Bool(true))
}

/// What came of a session.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Connected {
    pub grants: Vec<ConnectedGrant>,
    /// Providers of which nothing came, beside those of which something did.
    pub failed: Vec<FailedGrant>,
}

/// A grant that a session made, or whose account it connected again.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct ConnectedGrant {
    pub grant_id: String,
    pub provider_id: String,
    /// How the provider names the account.
    #[serde(default)]
    pub account_identifier: Option<String>,
    /// What a human recognises it by.
    #[serde(default)]
    pub account_display_name: Option<String>,
    /// What the user granted.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The origin that belongs to the account, where its provider has such.
    #[serde(default)]
    pub api_base_url: Option<String>,
    #[serde(default)]
    pub operation: ConnectOperation,
    #[serde(default)]
    pub grant_policy: Option<ConnectedPolicy>,
    #[serde(default)]
    pub delegation: Option<ConnectedDelegation>,
}

impl ConnectedGrant {
    fn is_possible(&self) -> bool {
        let is_agent = |delegation: &ConnectedDelegation| AgentId::parse(&delegation.agent_id).is_some();
        self.delegation.as_ref().is_none_or(is_agent)
    }
}

/// Whether the grant is a new one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectOperation {
    #[default]
    Creation,
    /// The account was connected again, and its grant is the one it was.
    Reauth,
}

/// How long a grant lives.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct ConnectedPolicy {
    #[serde(default)]
    pub expires_at: Option<TimeMs>,
    #[serde(default)]
    pub created_by: Option<String>,
    #[serde(default)]
    pub created_at: Option<TimeMs>,
}

/// The agent that may use it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct ConnectedDelegation {
    pub agent_id: String,
    pub delegable: bool,
    #[serde(default)]
    pub policy_refused: bool,
}

/// A provider of which nothing came.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct FailedGrant {
    pub provider_id: String,
    /// `not_selected`, `activation_failed`, or that a limit was met.
    pub reason: String,
    pub message: String,
}

impl FailedGrant {
    fn is_possible(&self) -> bool {
        ![&self.provider_id, &self.reason, &self.message].into_iter().any(String::is_empty)
    }
}

/// A provider that the user did not want to connect.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct DeclinedProvider {
    pub provider_id: String,
    pub error_code: String,
    #[serde(default)]
    pub declined_at: Option<TimeMs>,
}

/// A session that ended with `code`, as the vault told it.
pub(crate) fn ended(status: u16, code: &str, message: String) -> Refusal {
    let mut refusal = Refusal::of_client(status, message);
    refusal.details.insert("error_code".to_owned(), code.into());
    refusal.code = Some(code.to_owned());
    refusal
}

/// A grant's id, or an error that says what one looks like.
pub(crate) fn grant_id(text: &str) -> Result<GrantId, Error> {
    GrantId::parse(text).ok_or_else(|| Error::Invalid("a grant id is a lower-case dashed UUID".to_owned()))
}
