//! Waiting for the end user.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use grantd_wire::sdk::ConnectPollRequest;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{ConnectSession, Connected, ConnectedGrant, DeclinedProvider, FailedGrant, SESSION_PATH, ended};
use crate::app::{App, Ask, read};
use crate::error::Error;
use crate::retry::Repeat;

/// How long a user is waited for, unless said otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_mins(5);
/// How often is looked, unless said otherwise.
pub const CONNECT_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What happens while a user is waited for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectEvent {
    /// The session is there, and its link waits to be opened. Of [`App::connect`] only.
    Begun(ConnectSession),
    /// The user does not want to connect this one. Told once of each.
    Declined(DeclinedProvider),
}

type OnEvent = Box<dyn FnMut(ConnectEvent) + Send>;

/// How a user is waited for.
#[must_use = "it says how to wait, and waits for nobody"]
pub struct ConnectWait {
    timeout: Duration,
    poll_interval: Duration,
    open_browser: bool,
    on_event: Option<OnEvent>,
}

impl ConnectWait {
    /// For [`CONNECT_TIMEOUT`], with a look every [`CONNECT_POLL_INTERVAL`].
    pub fn new() -> Self {
        Self { timeout: CONNECT_TIMEOUT, poll_interval: CONNECT_POLL_INTERVAL, open_browser: true, on_event: None }
    }

    /// For how long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often is looked.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Whether [`App::connect`] opens the link itself: it does unless this says no, in a build with the feature `browser`.
    pub fn open_browser(mut self, opens: bool) -> Self {
        self.open_browser = opens;
        self
    }

    /// Tells what happens meanwhile. Whoever listens shows the link: it is not printed.
    pub fn on_event(mut self, on_event: impl FnMut(ConnectEvent) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// The link is there: whoever is to open it learns of it.
    pub(super) fn begun(mut self, session: ConnectSession) -> Self {
        let is_shown = link_is_shown(&session.connect_url, self.open_browser);
        if self.on_event.is_none() && !is_shown {
            eprintln!("Open this link to connect: {}", session.connect_url);
        }
        self.tell(ConnectEvent::Begun(session));
        self
    }

    fn tell(&mut self, event: ConnectEvent) {
        if let Some(on_event) = &mut self.on_event {
            on_event(event);
        }
    }
}

impl Default for ConnectWait {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConnectWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectWait")
            .field("timeout", &self.timeout)
            .field("poll_interval", &self.poll_interval)
            .field("open_browser", &self.open_browser)
            .finish_non_exhaustive()
    }
}

/// Whether a browser shows the link, which one is to do if `opens` says so.
pub(crate) fn link_is_shown(link: &str, opens: bool) -> bool {
    #[cfg(feature = "browser")]
    return opens && crate::open_browser(link);
    #[cfg(not(feature = "browser"))]
    {
        let _ = (link, opens);
        false
    }
}

/// How a session stands.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Stands {
    Pending {
        #[serde(default)]
        declined_providers: Vec<DeclinedProvider>,
    },
    Completed {
        grants: Vec<ConnectedGrant>,
        #[serde(default)]
        failed_grants: Vec<FailedGrant>,
    },
    Error {
        error: Why,
    },
    Expired,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Why {
    error_code: String,
    error_message: String,
    #[serde(default)]
    retry_after_seconds: Option<u64>,
}

/// Waits until the user is done.
pub async fn wait(app: &App, session_token: &str, mut wait: ConnectWait) -> Result<Connected, Error> {
    if session_token.is_empty() {
        return Err(Error::Invalid("a session's token is needed to wait for it".to_owned()));
    }
    let until = Instant::now() + wait.timeout;
    let (mut told, mut was_pending) = (BTreeSet::new(), false);
    loop {
        let pause = match look(app, session_token).await {
            Ok((_, Stands::Pending { declined_providers })) => {
                was_pending = true;
                for declined in declined_providers {
                    if told.insert(declined.provider_id.clone()) {
                        wait.tell(ConnectEvent::Declined(declined));
                    }
                }
                wait.poll_interval
            }
            // Whoever waits has time.
            Err(Error::RateLimit { retry_after, .. }) => wait.poll_interval.max(retry_after.unwrap_or_default()),
            Err(error) => return Err(error),
            Ok((status, stands)) => return end(status, stands, was_pending),
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!("the user was not done within {} s", wait.timeout.as_secs_f64());
            return Err(timeout("poll_deadline_elapsed", message));
        }
        tokio::time::sleep(pause.min(left)).await;
    }
}

async fn look(app: &App, session_token: &str) -> Result<(u16, Stands), Error> {
    let path = format!("{SESSION_PATH}/poll");
    let body = ConnectPollRequest { session_token: session_token.to_owned() };
    let ask = Ask::post(&path, &body, Repeat::Harmless);
    let answer = app.inner.ask(&ask, &app.identity(None, None)).await?;
    Ok((answer.status.as_u16(), read(&answer)?))
}

/// What a session that is over came to.
fn end(status: u16, stands: Stands, was_pending: bool) -> Result<Connected, Error> {
    match stands {
        Stands::Completed { grants, failed_grants: failed } => {
            let is_possible =
                grants.iter().all(ConnectedGrant::is_possible) && failed.iter().all(FailedGrant::is_possible);
            match is_possible {
                false => Err(Error::unusable(status, "a grant of the session is not as the contract promises")),
                true if grants.is_empty() && !failed.is_empty() => Err(nothing_came(status, &failed)),
                true => Ok(Connected { grants, failed }),
            }
        }
        Stands::Error { error } => Err(failed(status, error)),
        Stands::Expired if was_pending => {
            Err(timeout("session_expired", "the session's time was over before the user was done".to_owned()))
        }
        Stands::Expired => {
            let message = "the session's time is over, or there never was such a session".to_owned();
            Err(Error::ConnectFlow(Box::new(ended(status, "session_expired", message))))
        }
        Stands::Pending { .. } | Stands::Other => {
            let message = "the vault says something of the session that this client does not know".to_owned();
            Err(Error::ConnectFlow(Box::new(ended(status, "unknown_status", message))))
        }
    }
}

fn timeout(reason: &str, message: String) -> Error {
    Error::ConnectTimeout { reason: reason.to_owned(), message }
}

fn nothing_came(status: u16, failed: &[FailedGrant]) -> Error {
    let is_activation = |failed: &FailedGrant| matches!(&*failed.reason, "not_selected" | "activation_failed");
    let code = match failed.iter().all(is_activation) {
        true => "grant_activation_failed",
        false => "grant_policy_application_failed",
    };
    let each: Vec<String> = failed.iter().map(|one| format!("{}: {}", one.provider_id, one.message)).collect();
    Error::ConnectFlow(Box::new(ended(status, code, format!("nothing was connected; {}", each.join("; ")))))
}

fn failed(status: u16, why: Why) -> Error {
    if why.error_code.trim().is_empty() || why.error_message.trim().is_empty() {
        return Error::unusable(status, "it does not say what went wrong");
    }
    let status = match &*why.error_code {
        "service_unavailable" => 503,
        "identity_provider_inactive" | "identity_group_name_ambiguous" => 409,
        _ => status,
    };
    let mut refusal = Box::new(ended(status, &why.error_code, why.error_message));
    if let Some(seconds) = why.retry_after_seconds {
        refusal.details.insert("retry_after_seconds".to_owned(), Value::from(seconds));
    }
    match &*why.error_code {
        "connect_denied" => Error::ConnectDenied(refusal),
        "connect_config_error"
        | "invalid_redirect_uri"
        | "invalid_client"
        | "unauthorized_client"
        | "provider_configuration_unavailable"
        | "shared_dev_credential_unavailable"
        | "managed_oauth_scope_approval_required" => Error::ConnectConfig(refusal),
        _ if matches!(status, 409 | 503) => Error::Backend(refusal),
        _ => Error::ConnectFlow(refusal),
    }
}
