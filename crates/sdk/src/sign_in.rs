//! Signing a user in, for programs of one user: a link, a wait, and from then on every call is that user's.

use std::fmt;
use std::time::Duration;

use grantd_wire::TimeMs;
use grantd_wire::sdk::{AuthPollRequest, VerifiedToken, VerifyTokenRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::{App, Ask, read};
use crate::connect::{CONNECT_POLL_INTERVAL, CONNECT_TIMEOUT, ended, link_is_shown};
use crate::error::Error;
use crate::outgoing::Answer;
use crate::retry::Repeat;

const SESSION_PATH: &str = "/sdk/auth/session";
const POLL_PATH: &str = "/sdk/auth/poll";
const VERIFY_PATH: &str = "/sdk/auth/verify-token";
/// How long the vault is asked to hold one poll.
const HOLD_MAX: Duration = Duration::from_secs(25);
/// What a poll may take beyond that.
const POLL_GRACE: Duration = Duration::from_secs(15);
/// Statuses of a poll that no other poll would change.
const FINAL: [u16; 5] = [400, 401, 403, 404, 422];

impl App {
    /// Begins a sign-in at the app's identity provider. Give its link to the user; [`poll_auth_session`](Self::poll_auth_session)
    /// says who came.
    pub async fn create_auth_session(&self) -> Result<AuthSession, Error> {
        let ask = Ask::post(SESSION_PATH, &json!({}), Repeat::MakesAnother);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let status = answer.status.as_u16();
        if status != 201 {
            let message = "the vault's answer is not that of a sign-in that begins".to_owned();
            return Err(Error::SignIn(Box::new(ended(status, "unexpected_status", message))));
        }
        let session: AuthSession = read(&answer)?;
        if session.session_token.is_empty() || session.auth_url.is_empty() {
            return Err(Error::unusable(status, "it holds no session"));
        }
        Ok(session)
    }

    /// Waits until the user has signed in, and answers whose the token is. This client goes on as before: give the token to the
    /// calls that are the user's, as `user_token`.
    ///
    /// What passes is waited out, within [`AuthWait::timeout`]: no answer, a rate, a vault that is down. Letting the future go
    /// leaves nothing behind.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{AuthWait, GrantFilter};
    /// let session = app.create_auth_session().await?;
    /// println!("send the user to {}", session.auth_url);
    /// let signed_in = app.poll_auth_session(&session.session_token, AuthWait::new()).await?;
    /// let theirs = GrantFilter { user_token: Some(signed_in.user_token), ..GrantFilter::default() };
    /// println!("{} grants", app.list_grants(&theirs).await?.total);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn poll_auth_session(&self, session_token: &str, wait: AuthWait) -> Result<AuthResult, Error> {
        poll(self, session_token, wait).await
    }

    /// Signs in the one user of this program: begins a session, opens its link in a browser, or else prints it to standard error,
    /// and waits. [`AuthWait::on_begun`] is given the link, too.
    ///
    /// From then on the user's token goes with every call that names no other, **of this client and all its clones, narrowed ones
    /// too**, as if [`user_token_getter`](crate::AppBuilder::user_token_getter) had given it. So this is for programs of one user;
    /// a server of many uses [`poll_auth_session`](Self::poll_auth_session). Until the wait is over nothing changes, and nothing does if the
    /// future is let go.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// let signed_in = app.authenticate(grantd_sdk::AuthWait::new()).await?;
    /// println!("{:?} has {} grants", signed_in.user_info, app.list_grants(&Default::default()).await?.total);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn authenticate(&self, wait: AuthWait) -> Result<AuthResult, Error> {
        let session = self.create_auth_session().await?;
        let token = session.session_token.clone();
        let signed_in = poll(self, &token, wait.begun(session)).await?;
        self.set_user_token(signed_in.user_token.clone());
        Ok(signed_in)
    }

    /// Whose a user's token is: its `sub`, if the vault takes it. Everything else is nobody, a vault that cannot be reached too, so
    /// that no failure lets anyone in.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, token: String) {
    /// match app.verify_user_token(&token).await {
    ///     Some(sub) => println!("this is {sub}"),
    ///     None => println!("sign in, please"),
    /// }
    /// # }
    /// ```
    pub async fn verify_user_token(&self, token: &str) -> Option<String> {
        if token.trim().is_empty() {
            return None;
        }
        let ask = Ask::post(VERIFY_PATH, &VerifyTokenRequest { token: token.to_owned() }, Repeat::Harmless);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await;
        let verified = answer.and_then(|answer| match answer.status.as_u16() {
            200 => read::<VerifiedToken>(&answer),
            status => Err(Error::unusable(status, "it says nothing of the token")),
        });
        match verified {
            Ok(VerifiedToken { sub }) => Some(sub).filter(|sub| !sub.trim().is_empty()),
            Err(error) => {
                tracing::debug!("A user's token counts as nobody's: {error}");
                None
            }
        }
    }
}

/// A sign-in that a user is to go through. Its token and link are for that user alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct AuthSession {
    /// For polls.
    pub session_token: String,
    /// Where the user signs in.
    pub auth_url: String,
    /// Seconds it lives.
    pub expires_in: u64,
    pub expires_at: TimeMs,
}

impl fmt::Debug for AuthSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSession").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Who signed in.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthResult {
    /// The identity provider's token of the user.
    pub user_token: String,
    pub user_info: Option<UserInfo>,
}

impl fmt::Debug for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthResult").field("user_info", &self.user_info).finish_non_exhaustive()
    }
}

/// What the identity provider says of a user.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[non_exhaustive]
pub struct UserInfo {
    pub sub: String,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
}

type OnBegun = Box<dyn FnOnce(AuthSession) + Send>;

/// How a user who signs in is waited for.
#[must_use = "it says how to wait, and waits for nobody"]
pub struct AuthWait {
    timeout: Duration,
    poll_interval: Duration,
    open_browser: bool,
    on_begun: Option<OnBegun>,
}

impl AuthWait {
    /// For [`CONNECT_TIMEOUT`]. The vault holds each look until there is something to say; between two there is
    /// [`CONNECT_POLL_INTERVAL`].
    pub fn new() -> Self {
        Self { timeout: CONNECT_TIMEOUT, poll_interval: CONNECT_POLL_INTERVAL, open_browser: true, on_begun: None }
    }

    /// For how long. A look that is under way then may take 15 seconds longer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long to pause between two looks.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Whether [`App::authenticate`] opens the link itself: it does unless this says no, in a build with the feature `browser`.
    pub fn open_browser(mut self, opens: bool) -> Self {
        self.open_browser = opens;
        self
    }

    /// Tells [`App::authenticate`] whom to give the link to. Whoever listens shows it: it is not printed.
    pub fn on_begun(mut self, on_begun: impl FnOnce(AuthSession) + Send + 'static) -> Self {
        self.on_begun = Some(Box::new(on_begun));
        self
    }

    /// The link is there: whoever is to open it learns of it.
    fn begun(mut self, session: AuthSession) -> Self {
        let is_shown = link_is_shown(&session.auth_url, self.open_browser);
        match self.on_begun.take() {
            Some(on_begun) => on_begun(session),
            None if is_shown => {}
            None => eprintln!("Open this link to sign in: {}", session.auth_url),
        }
        self
    }
}

impl Default for AuthWait {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuthWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthWait")
            .field("timeout", &self.timeout)
            .field("poll_interval", &self.poll_interval)
            .field("open_browser", &self.open_browser)
            .finish_non_exhaustive()
    }
}

/// How a sign-in stands. What the identity provider says of the user is looked at for what it is worth.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Stands {
    Pending,
    Completed {
        #[serde(default)]
        user_token: String,
        #[serde(default)]
        user_info: Value,
    },
    Error {
        #[serde(default)]
        error_code: Option<String>,
        #[serde(default)]
        error_message: Option<String>,
        #[serde(default)]
        retry_after_seconds: Option<u64>,
    },
    Expired,
    #[serde(other)]
    Other,
}

async fn poll(app: &App, session_token: &str, wait: AuthWait) -> Result<AuthResult, Error> {
    if session_token.is_empty() {
        return Err(Error::Invalid("a session's token is needed to wait for it".to_owned()));
    }
    let until = Instant::now() + wait.timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let pause = match look(app, session_token, left.min(HOLD_MAX)).await {
            Ok(answer) if answer.status.as_u16() == 200 => match read(&answer)? {
                Stands::Pending => wait.poll_interval,
                stands => return end(stands),
            },
            // Whoever waits has time.
            Ok(_) => wait.poll_interval,
            Err(error) if passes(&error) => wait.poll_interval.max(error.retry_after().unwrap_or_default()),
            Err(error) => return Err(error),
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let message = format!("the user did not sign in within {} s", wait.timeout.as_secs_f64());
            return Err(Error::ConnectTimeout { reason: "poll_deadline_elapsed".to_owned(), message });
        }
        tokio::time::sleep(pause.min(left)).await;
    }
}

/// Asks how it stands, and lets the vault hold the answer for so long.
async fn look(app: &App, session_token: &str, hold: Duration) -> Result<Answer, Error> {
    let wait_ms = i64::try_from(hold.as_millis()).ok().filter(|ms| *ms > 0);
    let body = AuthPollRequest { session_token: session_token.to_owned(), wait_ms };
    let ask = Ask::post(POLL_PATH, &body, Repeat::Harmless);
    app.inner.attempt(&ask, &app.identity(None, None), hold + POLL_GRACE).await
}

/// Whether another look may fare better.
fn passes(error: &Error) -> bool {
    match error {
        Error::Network { .. } | Error::Timeout { .. } => true,
        _ => error.status().is_some_and(|status| !FINAL.contains(&status)),
    }
}

/// What a sign-in that is over came to.
fn end(stands: Stands) -> Result<AuthResult, Error> {
    let failed = |code: &str, message: &str| Err(Error::SignIn(Box::new(ended(200, code, message.to_owned()))));
    match stands {
        Stands::Completed { user_token, .. } if user_token.is_empty() => {
            failed("no_user_token", "the user signed in, and the identity provider gave no token")
        }
        Stands::Completed { user_token, user_info } => {
            Ok(AuthResult { user_token, user_info: UserInfo::deserialize(user_info).ok() })
        }
        Stands::Error { error_code, error_message, retry_after_seconds } => {
            let code = error_code.unwrap_or_else(|| "sign_in_failed".to_owned());
            let status = match &*code {
                "service_unavailable" => 503,
                "identity_provider_inactive" | "identity_group_name_ambiguous" => 409,
                _ => 200,
            };
            let message = error_message.unwrap_or_else(|| "the user could not sign in".to_owned());
            let mut refusal = Box::new(ended(status, &code, message));
            if let Some(seconds) = retry_after_seconds {
                refusal.details.insert(crate::error::RETRY_AFTER_SECONDS.to_owned(), seconds.into());
            }
            Err(if status == 200 { Error::SignIn(refusal) } else { Error::Backend(refusal) })
        }
        Stands::Expired => {
            failed("session_expired", "the sign-in's time is over, or there never was such a sign-in: begin another")
        }
        Stands::Pending | Stands::Other => {
            failed("unknown_status", "the vault says something of the sign-in that this client does not know")
        }
    }
}
