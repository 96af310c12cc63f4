//! The names of errors in the other clients, and who is whose parent there.

use super::Error;

macro_rules! classes {
    ($($name:literal),*) => { &[$($name,)* "AlterSDKError"] };
}

impl Error {
    /// Its class in the other clients, then the class's parents, up to `AlterSDKError`.
    ///
    /// ```
    /// # use grantd_sdk::Error;
    /// let error = Error::Invalid("the URL must be absolute".to_owned());
    /// assert_eq!(error.classes(), ["AlterValueError", "AlterSDKError"]);
    /// ```
    pub fn classes(&self) -> &'static [&'static str] {
        match self {
            Self::Invalid(_) => classes!("AlterValueError"),
            Self::MalformedKey | Self::UserToken { .. } | Self::SignIn(_) => classes!(),
            Self::InvalidKey(_) => classes!("InvalidKeyError", "AgentError", "BackendError"),
            Self::KeyRevoked(_) => classes!("KeyRevokedError", "AgentError", "BackendError"),
            Self::KeyExpired(_) => classes!("KeyExpiredError", "AgentError", "BackendError"),
            Self::KeyRotationExpired(_) => classes!("KeyRotationExpiredError", "AgentError", "BackendError"),
            Self::KeyInactive(_) => classes!("KeyInactiveError", "AgentError", "BackendError"),
            Self::KeyAppNotFound(_) => classes!("KeyAppNotFoundError", "AgentError", "BackendError"),
            Self::AgentInactive(_) => classes!("AgentInactiveError", "AgentError", "BackendError"),
            Self::AgentRevoked(_) => classes!("AgentRevokedError", "AgentError", "BackendError"),
            Self::AgentNotFound(_) => classes!("AgentNotFoundError", "AgentError", "BackendError"),
            Self::CallerAgentMismatch(_) => classes!("CallerAgentMismatchError", "AgentError", "BackendError"),
            Self::CallerAgentResolution(_) => classes!("CallerAgentResolutionError", "AgentError", "BackendError"),
            Self::InsufficientScope { .. } => classes!("InsufficientScopeError", "BackendError"),
            Self::PolicyViolation { .. } => classes!("PolicyViolationError", "BackendError"),
            Self::StepUpRequired { .. } => classes!("StepUpRequiredError", "PolicyViolationError", "BackendError"),
            Self::RedactDischargeFailed(_) => {
                classes!("RedactDischargeFailedError", "PolicyViolationError", "BackendError")
            }
            Self::BlockedDestination(_) => classes!("BlockedDestinationError", "BackendError"),
            Self::RestrictedGrantRequiresProxy(_) => classes!("RestrictedGrantRequiresProxyError", "BackendError"),
            Self::GrantNotFound { .. } => classes!("GrantNotFoundError", "BackendError"),
            Self::GrantRevoked { .. } => classes!("GrantRevokedError", "ReAuthRequiredError", "BackendError"),
            Self::GrantExpired { .. } => classes!("GrantExpiredError", "ReAuthRequiredError", "BackendError"),
            Self::GrantDeleted(_) => classes!("GrantDeletedError", "ReAuthRequiredError", "BackendError"),
            Self::GrantNotDelegable { .. } => classes!("GrantNotDelegableError", "BackendError"),
            Self::NoDelegatedGrant { .. } => classes!("NoDelegatedGrantError", "BackendError"),
            Self::AmbiguousGrant { .. } => classes!("AmbiguousGrantError", "BackendError"),
            Self::SiblingLabelConflict { .. } => classes!("SiblingLabelConflictError", "BackendError"),
            Self::CredentialIdRequired { .. } => classes!("CredentialIdRequiredError", "BackendError"),
            Self::EndUserCredentialNotAssignable(_) => classes!("EndUserCredentialNotAssignableError", "BackendError"),
            Self::CredentialRevoked { .. } => classes!("CredentialRevokedError", "ReAuthRequiredError", "BackendError"),
            Self::ReAuthRequired(_) => classes!("ReAuthRequiredError", "BackendError"),
            Self::TokenRefreshInProgress { .. } => classes!("TokenRefreshInProgressError", "BackendError"),
            Self::ConnectConfig(_) => classes!("ConnectConfigError", "ConnectFlowError"),
            Self::ConnectDenied(_) => classes!("ConnectDeniedError", "ConnectFlowError"),
            Self::ConnectFlow(_) => classes!("ConnectFlowError"),
            Self::ConnectTimeout { .. } => classes!("ConnectTimeoutError", "ConnectFlowError"),
            Self::RateLimit { .. } => classes!("RateLimitError", "BackendError"),
            Self::QuotaExceeded { .. } => classes!("QuotaExceededError", "BackendError"),
            Self::ServerFeatureUnsupported { .. } => classes!("ServerFeatureUnsupportedError", "BackendError"),
            Self::Backend(_) => classes!("BackendError"),
            Self::ProviderApi { .. } => classes!("ProviderAPIError"),
            Self::ProviderUnauthorized { .. } => classes!("ProviderUnauthorizedError", "ProviderAPIError"),
            Self::ScopeReauthRequired { .. } => classes!("ScopeReauthRequiredError", "ProviderAPIError"),
            Self::Network { .. } | Self::AnswerTooLarge { .. } => classes!("NetworkError"),
            Self::Timeout { .. } => classes!("TimeoutError", "NetworkError"),
        }
    }

    /// Whether it is of that class of the other clients, or of a child of it: `error.is("ReAuthRequiredError")`.
    pub fn is(&self, class: &str) -> bool {
        self.classes().contains(&class)
    }
}
