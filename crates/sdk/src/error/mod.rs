//! What can go wrong, by the names the other clients use.
//!
//! Invariant: no error holds a credential of ours or a key. What a provider answered is its own matter: it is kept out of
//! `Display` and `Debug`.

mod classify;
mod names;
mod refusal;

use std::time::Duration;

use crate::response::Response;

pub(crate) use classify::from_answer;
pub(crate) use refusal::RETRY_AFTER_SECONDS;
pub use refusal::{CredentialChoice, GrantCandidate, Refusal};

/// Any error from outside: what a callback of yours gives, or what the network library says.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call did not go through.
///
/// Each variant is a class of the other clients without its ending: `GrantRevoked` is their `GrantRevokedError`.
/// [`classes`](Self::classes) tells a variant's name there and those of its parents. `refusal` is what the vault said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call was refused here: what it asks for cannot be. Nothing was sent to a provider, and to the vault at most what
    /// showed it.
    #[error("{0}")]
    Invalid(String),
    /// The text given as a key is none.
    #[error("the API key is malformed: its form or checksum is wrong. Copy it again, or mint a new one")]
    MalformedKey,
    /// The app's own callback gave no user token. Nothing was sent.
    #[error("the user token getter gave no token")]
    UserToken {
        #[source]
        source: Source,
    },

    /// The vault does not know the key.
    #[error("{0}")]
    InvalidKey(Box<Refusal>),
    /// The key was revoked.
    #[error("{0}")]
    KeyRevoked(Box<Refusal>),
    /// The key's time is over.
    #[error("{0}")]
    KeyExpired(Box<Refusal>),
    /// The key was rotated and its overlap is over.
    #[error("{0}")]
    KeyRotationExpired(Box<Refusal>),
    /// The key's app is archived or deleted.
    #[error("{0}")]
    KeyInactive(Box<Refusal>),
    /// The app of the key cannot be found.
    #[error("{0}")]
    KeyAppNotFound(Box<Refusal>),
    /// The agent is suspended.
    #[error("{0}")]
    AgentInactive(Box<Refusal>),
    /// The agent is deleted.
    #[error("{0}")]
    AgentRevoked(Box<Refusal>),
    /// The caller names no agent of the app.
    #[error("{0}")]
    AgentNotFound(Box<Refusal>),
    /// The caller is another agent than the key's.
    #[error("{0}")]
    CallerAgentMismatch(Box<Refusal>),
    /// The vault could not look the caller up just now.
    #[error("{0}")]
    CallerAgentResolution(Box<Refusal>),

    /// The key, or what narrows it, lacks a scope.
    #[error("{refusal}")]
    InsufficientScope {
        /// Scopes the route asks for.
        required: Vec<String>,
        /// Scopes the key has.
        granted: Vec<String>,
        /// Scopes to mint a key with.
        missing: Vec<String>,
        /// One of `required` is enough.
        required_any_of: bool,
        /// The catalogue the key was minted under is not today's.
        scope_version_mismatch: bool,
        scope_version: Option<i64>,
        current_scope_version: Option<i64>,
        refusal: Box<Refusal>,
    },
    /// A rule denies the call.
    #[error("{refusal}")]
    PolicyViolation {
        /// The code of the rule that denied it.
        policy_error: Option<String>,
        refusal: Box<Refusal>,
    },
    /// The user must sign in again for this.
    #[error("{refusal}")]
    StepUpRequired {
        /// How old a sign-in may be.
        max_session_age_seconds: Option<i64>,
        refusal: Box<Refusal>,
    },
    /// What a rule wants redacted could not be redacted.
    #[error("{0}")]
    RedactDischargeFailed(Box<Refusal>),
    /// The credential may not go to that URL.
    #[error("{0}")]
    BlockedDestination(Box<Refusal>),
    /// The grant hands out no credential: its calls go through the vault.
    #[error("{0}")]
    RestrictedGrantRequiresProxy(Box<Refusal>),

    /// There is no such grant in this app. An unknown route of another server looks alike.
    #[error("{refusal}")]
    GrantNotFound {
        provider_id: Option<String>,
        agent_id: Option<String>,
        app_user_id: Option<String>,
        refusal: Box<Refusal>,
    },
    /// Somebody revoked the grant.
    #[error("{refusal}")]
    GrantRevoked { grant_id: Option<String>, refusal: Box<Refusal> },
    /// The grant's time is over.
    #[error("{refusal}")]
    GrantExpired {
        provider_id: Option<String>,
        agent_id: Option<String>,
        app_user_id: Option<String>,
        refusal: Box<Refusal>,
    },
    /// The grant is gone for good.
    #[error("{0}")]
    GrantDeleted(Box<Refusal>),
    /// The grant cannot be handed on.
    #[error("{refusal}")]
    GrantNotDelegable {
        /// Which condition fails.
        detail_reason: Option<String>,
        refusal: Box<Refusal>,
    },
    /// The agent holds no grant for the provider.
    #[error("{refusal}")]
    NoDelegatedGrant {
        provider_id: Option<String>,
        agent_id: Option<String>,
        app_user_id: Option<String>,
        refusal: Box<Refusal>,
    },
    /// Several grants fit: narrow by account or label, or name one of `grant_ids`.
    #[error("{refusal}")]
    AmbiguousGrant {
        provider_id: Option<String>,
        account_identifiers: Vec<String>,
        account_was_provided: bool,
        app_user_ids: Vec<String>,
        grant_ids: Vec<String>,
        candidates: Vec<GrantCandidate>,
        /// There are more than `candidates` shows.
        candidates_truncated: bool,
        refusal: Box<Refusal>,
    },
    /// A living grant beside it has that label.
    #[error("{refusal}")]
    SiblingLabelConflict { label: Option<String>, refusal: Box<Refusal> },
    /// The secret has several credentials: name one of these.
    #[error("{refusal}")]
    CredentialIdRequired { credentials: Vec<CredentialChoice>, refusal: Box<Refusal> },
    /// The credential belongs to an end user and cannot be given to this principal.
    #[error("{0}")]
    EndUserCredentialNotAssignable(Box<Refusal>),
    /// The credential behind the grant no longer works.
    #[error("{refusal}")]
    CredentialRevoked {
        grant_id: Option<String>,
        provider_id: Option<String>,
        app_user_id: Option<String>,
        refusal: Box<Refusal>,
    },
    /// The user must sign in again.
    #[error("{0}")]
    ReAuthRequired(Box<Refusal>),
    /// The credential is being renewed; try again in a moment.
    #[error("{refusal}")]
    TokenRefreshInProgress { grant_id: Option<String>, refusal: Box<Refusal> },
    /// Something is set up in a way that cannot work, such as a secret that does not exist.
    #[error("{0}")]
    ConnectConfig(Box<Refusal>),
    /// The user did not want to connect.
    #[error("{0}")]
    ConnectDenied(Box<Refusal>),
    /// Nothing was connected; the code says why.
    #[error("{0}")]
    ConnectFlow(Box<Refusal>),
    /// The user could not sign in; the code says why, or the vault does not know sign-ins.
    #[error("{0}")]
    SignIn(Box<Refusal>),
    /// The user was not done in time.
    #[error("{message}")]
    ConnectTimeout {
        /// `poll_deadline_elapsed`: this client waited no longer. `session_expired`: the session's own time was over.
        reason: String,
        message: String,
    },

    /// Too many calls.
    #[error("{refusal}")]
    RateLimit {
        retry_after: Option<Duration>,
        /// `ip`, `api_key` or `organization`.
        scope: Option<String>,
        /// Calls a window.
        limit: Option<i64>,
        window_seconds: Option<i64>,
        refusal: Box<Refusal>,
    },
    /// A quota of a longer time is used up.
    #[error("{refusal}")]
    QuotaExceeded { retry_after: Option<Duration>, refusal: Box<Refusal> },

    /// Any other refusal of the vault, or an answer that cannot be used.
    #[error("{0}")]
    Backend(Box<Refusal>),

    /// The vault ignored a part of what was asked, as one does that does not know it: it is too old.
    #[error("{refusal}")]
    ServerFeatureUnsupported {
        /// What it does not know.
        feature: String,
        refusal: Box<Refusal>,
    },

    /// The provider answered 400 or more. [`any_status`](crate::RequestBuilder::any_status) makes that a `Response`.
    #[error("the provider answered {}", response.status)]
    ProviderApi { response: Box<Response> },
    /// The provider answered 401: it no longer takes the credential. Not tried again.
    #[error("the provider answered {}: it does not take the credential", response.status)]
    ProviderUnauthorized { grant_id: String, provider_id: String, response: Box<Response> },
    /// The connection lacks a scope of the provider's; the user must connect again. Said by the vault (`refusal`) or by the
    /// provider (`response`).
    #[error("the connection lacks a scope of the provider: connect it again")]
    ScopeReauthRequired {
        grant_id: Option<String>,
        provider_id: Option<String>,
        /// What the provider's challenge asks for.
        missing_scopes: Option<Vec<String>>,
        refusal: Option<Box<Refusal>>,
        response: Option<Box<Response>>,
    },

    /// Nobody could be reached, or the connection broke.
    #[error("cannot reach {peer}")]
    Network {
        peer: String,
        /// No connection came about, so the other side saw nothing of the call.
        nothing_sent: bool,
        #[source]
        source: Source,
    },
    /// No answer in time. The other side may have acted all the same.
    #[error("{peer} did not answer within {} s", after.as_secs_f64())]
    Timeout { peer: String, after: Duration },
    /// More than this client reads.
    #[error("{peer} answered more than {bytes_max} bytes")]
    AnswerTooLarge { peer: String, bytes_max: usize },
}

impl Error {
    /// What the vault said, if it was the vault that refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Invalid(_)
            | Self::MalformedKey
            | Self::UserToken { .. }
            | Self::ConnectTimeout { .. }
            | Self::ProviderApi { .. }
            | Self::ProviderUnauthorized { .. }
            | Self::Network { .. }
            | Self::Timeout { .. }
            | Self::AnswerTooLarge { .. } => None,
            Self::ScopeReauthRequired { refusal, .. } => refusal.as_deref(),
            Self::InvalidKey(refusal)
            | Self::KeyRevoked(refusal)
            | Self::KeyExpired(refusal)
            | Self::KeyRotationExpired(refusal)
            | Self::KeyInactive(refusal)
            | Self::KeyAppNotFound(refusal)
            | Self::AgentInactive(refusal)
            | Self::AgentRevoked(refusal)
            | Self::AgentNotFound(refusal)
            | Self::CallerAgentMismatch(refusal)
            | Self::CallerAgentResolution(refusal)
            | Self::InsufficientScope { refusal, .. }
            | Self::PolicyViolation { refusal, .. }
            | Self::StepUpRequired { refusal, .. }
            | Self::RedactDischargeFailed(refusal)
            | Self::BlockedDestination(refusal)
            | Self::RestrictedGrantRequiresProxy(refusal)
            | Self::GrantNotFound { refusal, .. }
            | Self::GrantRevoked { refusal, .. }
            | Self::GrantExpired { refusal, .. }
            | Self::GrantDeleted(refusal)
            | Self::GrantNotDelegable { refusal, .. }
            | Self::NoDelegatedGrant { refusal, .. }
            | Self::AmbiguousGrant { refusal, .. }
            | Self::SiblingLabelConflict { refusal, .. }
            | Self::CredentialIdRequired { refusal, .. }
            | Self::EndUserCredentialNotAssignable(refusal)
            | Self::CredentialRevoked { refusal, .. }
            | Self::ReAuthRequired(refusal)
            | Self::TokenRefreshInProgress { refusal, .. }
            | Self::ConnectConfig(refusal)
            | Self::ConnectDenied(refusal)
            | Self::ConnectFlow(refusal)
            | Self::SignIn(refusal)
            | Self::RateLimit { refusal, .. }
            | Self::QuotaExceeded { refusal, .. }
            | Self::ServerFeatureUnsupported { refusal, .. }
            | Self::Backend(refusal) => Some(refusal),
        }
    }

    /// What the provider answered, if it was the provider that refused.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::ProviderApi { response } | Self::ProviderUnauthorized { response, .. } => Some(response),
            Self::ScopeReauthRequired { response, .. } => response.as_deref(),
            _ => None,
        }
    }

    /// The HTTP status of the vault's or the provider's answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status).or_else(|| self.response().map(|response| response.status))
    }

    /// How long the vault asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimit { retry_after, .. } | Self::QuotaExceeded { retry_after, .. } => *retry_after,
            _ => {
                let seconds = self.refusal()?.details.get(RETRY_AFTER_SECONDS)?.as_u64()?;
                Some(Duration::from_secs(seconds))
            }
        }
    }

    /// Whether the same call, made again a little later, may succeed: no credential was released and no provider was called. The
    /// client itself makes such calls again within [`Retries`](crate::Retries), except those that make something: a vault that
    /// lost its database in the middle (503) may have made it. Before one of these is made again, look whether it is there.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimit { .. } | Self::TokenRefreshInProgress { .. } | Self::CallerAgentResolution(_) => true,
            Self::Backend(refusal) => refusal.status == 503,
            Self::Network { nothing_sent, .. } => *nothing_sent,
            _ => false,
        }
    }

    /// An answer that is no error but breaks the contract. `why` may quote nothing of it.
    pub(crate) fn unusable(status: u16, why: &str) -> Self {
        Self::Backend(Box::new(Refusal::of_client(status, format!("the vault's answer cannot be used: {why}"))))
    }
}
