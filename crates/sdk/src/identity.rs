//! Who a call is of, and a token that says so to somebody else.

use std::fmt;

use grantd_wire::TimeMs;
use grantd_wire::limits::{ASSERTION_TTL_S_MAX, ASSERTION_TTL_S_MIN, AUDIENCE_CHARS_MAX, USER_TOKEN_BYTES_MAX};
use grantd_wire::sdk::{self, Identity};
use serde::Deserialize;
use url::Url;

use crate::app::{App, Ask, read};
use crate::error::Error;
use crate::outgoing::Answer;
use crate::retry::Repeat;

impl App {
    /// Who a call is of: the app, and the user of the token given, or else of the app's getter.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, user_token: String) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{Error, IdentityRequest};
    /// match app.resolve_identity(IdentityRequest::new().user_token(user_token).with_profile()).await {
    ///     Ok(identity) => println!("{:?} {:?}", identity.app_user_id, identity.email),
    ///     Err(Error::ReAuthRequired(_)) => println!("sign in again, please"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resolve_identity(&self, request: IdentityRequest) -> Result<Identity, Error> {
        let IdentityRequest { user_token, include_profile } = request;
        let user_token = self.checked_user_token(user_token).await?;
        let body = sdk::IdentityRequest { include_profile, user_token, app_user_id: None };
        let ask = Ask::post("/sdk/identity/resolve", &body, Repeat::Harmless);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        checked(&answer, read(&answer)?)
    }

    /// A signed token that says who a call is of, for one service that checks it by the keys at `/.well-known/jwks.json` of the vault.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App, user_token: String) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::AssertionRequest;
    /// let request = AssertionRequest::new("https://memory.example.com").ttl_seconds(60).user_token(user_token);
    /// let assertion = app.assert_identity(request).await?;
    /// println!("send it as a bearer token until {}", assertion.expires_at);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn assert_identity(&self, request: AssertionRequest) -> Result<IdentityAssertion, Error> {
        let AssertionRequest { of, audience, ttl_seconds } = request;
        if audience.chars().count() > AUDIENCE_CHARS_MAX || Url::parse(&audience).is_err() {
            return Err(Error::Invalid(format!(
                "an audience is a URI with a scheme, such as https://memory.example.com or urn:service:memory, of at most \
                 {AUDIENCE_CHARS_MAX} characters"
            )));
        }
        if ttl_seconds.is_some_and(|seconds| !(ASSERTION_TTL_S_MIN..=ASSERTION_TTL_S_MAX).contains(&seconds)) {
            return Err(Error::Invalid(format!(
                "an assertion lives {ASSERTION_TTL_S_MIN} to {ASSERTION_TTL_S_MAX} seconds"
            )));
        }
        let user_token = self.checked_user_token(of.user_token).await?;
        let include_profile = of.include_profile;
        let body = sdk::AssertionRequest { include_profile, user_token, app_user_id: None, audience, ttl_seconds };
        // A second one is one more event, and as short-lived as the first.
        let ask = Ask::post("/sdk/identity/assert", &body, Repeat::Harmless);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let made: IdentityAssertion = read(&answer)?;
        if made.token.is_empty() {
            return Err(Error::unusable(answer.status.as_u16(), "it holds no token"));
        }
        Ok(IdentityAssertion { identity: checked(&answer, made.identity)?, ..made })
    }

    /// The token given, or else that of the getter, if it can be one.
    async fn checked_user_token(&self, given: Option<String>) -> Result<Option<String>, Error> {
        if given.as_ref().is_some_and(String::is_empty) {
            return Err(Error::Invalid("a user token may not be empty: leave it out".to_owned()));
        }
        let token = self.user_token(given).await?;
        match token.as_ref().is_some_and(|token| token.len() > USER_TOKEN_BYTES_MAX) {
            true => Err(Error::Invalid(format!("a user token has at most {USER_TOKEN_BYTES_MAX} bytes"))),
            false => Ok(token),
        }
    }
}

fn checked(answer: &Answer, identity: Identity) -> Result<Identity, Error> {
    match identity.app_id.is_empty() {
        true => Err(Error::unusable(answer.status.as_u16(), "it does not say of which app")),
        false => Ok(identity),
    }
}

/// Whose identity is asked for: the app's, and that of the user of the app's getter, unless said otherwise.
#[derive(Clone, Default)]
#[must_use = "a request does nothing until it is sent"]
pub struct IdentityRequest {
    user_token: Option<String>,
    include_profile: bool,
}

impl IdentityRequest {
    /// Asks for no more than the protocol always tells.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whose, in place of the user of the app's getter.
    pub fn user_token(mut self, token: impl Into<String>) -> Self {
        self.user_token = Some(token.into());
        self
    }

    /// With the user's name and e-mail address.
    pub fn with_profile(mut self) -> Self {
        self.include_profile = true;
        self
    }
}

impl fmt::Debug for IdentityRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityRequest").field("include_profile", &self.include_profile).finish_non_exhaustive()
    }
}

/// What a token is to say, and to whom.
#[derive(Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct AssertionRequest {
    of: IdentityRequest,
    audience: String,
    ttl_seconds: Option<i64>,
}

impl AssertionRequest {
    /// For the service with this URI, which refuses tokens for others.
    pub fn new(audience: impl Into<String>) -> Self {
        Self { of: IdentityRequest::new(), audience: audience.into(), ttl_seconds: None }
    }

    /// How long the token lives, 10 to 300 seconds: two minutes unless set.
    pub fn ttl_seconds(mut self, seconds: i64) -> Self {
        self.ttl_seconds = Some(seconds);
        self
    }

    /// Whose identity, in place of the user of the app's getter.
    pub fn user_token(mut self, token: impl Into<String>) -> Self {
        self.of = self.of.user_token(token);
        self
    }

    /// With the user's name and e-mail address.
    pub fn with_profile(mut self) -> Self {
        self.of = self.of.with_profile();
        self
    }
}

impl fmt::Debug for AssertionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionRequest")
            .field("audience", &self.audience)
            .field("ttl_seconds", &self.ttl_seconds)
            .finish_non_exhaustive()
    }
}

/// A token that says who a call is of. Whoever holds it is taken for them, so no `Debug` shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct IdentityAssertion {
    /// A compact JWS, signed by ES256.
    pub token: String,
    pub expires_at: TimeMs,
    /// What it says.
    pub identity: Identity,
}

impl fmt::Debug for IdentityAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityAssertion")
            .field("expires_at", &self.expires_at)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
