//! A user's own key for a managed secret.

use std::fmt;

use grantd_wire::TimeMs;
use grantd_wire::limits::LABEL_CHARS_MAX;
use grantd_wire::sdk::{KeySessionRequest, Lifetime, RequestedGrant};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{flag, grant_id};
use crate::app::{App, Ask, read};
use crate::error::{Error, Refusal};
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
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await.map_err(unknown_field)?;
        let status = answer.status.as_u16();
        let told: Map<String, Value> = read(&answer)?;
        let tells_path = told.contains_key("path");
        let session: KeySession = read(&answer)?;
        if session.session_token.is_empty() || session.connect_url.is_empty() {
            return Err(Error::unusable(status, "it holds no session"));
        }
        if !tells_path {
            return Err(unsupported("provider", Refusal::of_client(status, IGNORED.to_owned())));
        }
        if body.provider.as_deref() != Some(&*session.secret_slug) {
            return Err(Error::unusable(status, "it is of another secret"));
        }
        match (body.delegable == Some(true), session.delegable_requested) {
            (true, false) => Err(unsupported("delegable", Refusal::of_client(status, IGNORED.to_owned()))),
            (false, true) => Err(Error::unusable(status, "its grant would be one to hand on, which nobody asked for")),
            (true, true) | (false, false) => Ok(session),
        }
    }
}

const IGNORED: &str = "the vault ignored a part of what was asked: it is older than this client, and is to be upgraded";

fn unsupported(field: &str, mut refusal: Refusal) -> Error {
    let feature = format!("managed_secret_connect_{field}");
    refusal.details.insert("feature".to_owned(), feature.clone().into());
    Error::ServerFeatureUnsupported { feature, refusal: Box::new(refusal) }
}

/// A vault that does not know a field refuses it by name, or misses one that it wants in its place.
fn unknown_field(error: Error) -> Error {
    let Error::Backend(refusal) = error else { return error };
    let listed = refusal.details.get("detail").and_then(Value::as_array).filter(|_| refusal.status == 422);
    let unknown = listed.into_iter().flatten().find_map(|one| {
        let is_unknown = matches!(one["type"].as_str(), Some("extra_forbidden" | "missing"));
        one["loc"][1].as_str().filter(|_| is_unknown && one["loc"][0] == "body")
    });
    let unknown = match refusal.code.as_deref() {
        Some("delegated_agent_id_required") if refusal.status == 422 => Some("agent"),
        _ => unknown,
    };
    match unknown.map(str::to_owned) {
        Some(field) => unsupported(&field, *refusal),
        None => Error::Backend(refusal),
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

    /// The agent that is to use the grant: its id or name.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.body.agent = Some(agent.into());
        self
    }

    /// That agent may hand it on.
    pub fn delegable(mut self) -> Self {
        self.body.delegable = Some(true);
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
    /// What the user is asked for; none: that is not told.
    #[serde(default)]
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
    /// The agent that is to use the grant.
    #[serde(default)]
    pub agent_id: Option<String>,
    /// Whether that agent may hand it on.
    #[serde(default, deserialize_with = "flag")]
    pub delegable_requested: bool,
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
