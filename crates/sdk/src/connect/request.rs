//! What a session is asked with.

use std::collections::BTreeSet;
use std::fmt;

use grantd_wire::limits::LABEL_CHARS_MAX;
use grantd_wire::sdk::{ConnectSessionRequest, Lifetime, RequestedGrant};
use serde_json::{Value, json};

use super::grant_id;
use crate::error::Error;

/// What an end user is asked to connect, and how. Without [`providers`](Self::providers): anything the app is registered with.
#[derive(Clone, Default)]
#[must_use = "a request does nothing until it is sent"]
pub struct ConnectRequest {
    body: ConnectSessionRequest,
}

impl ConnectRequest {
    /// Asks for nothing in particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ids of the providers to choose from. With one of them there is nothing to choose.
    pub fn providers<S: Into<String>>(mut self, providers: impl IntoIterator<Item = S>) -> Self {
        self.body.allowed_providers = Some(providers.into_iter().map(Into::into).collect());
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

    /// What your backend knows of the browser: `ip_address`, `user_agent`.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.body.metadata.get_or_insert_default().insert(name.into(), Value::String(value.into()));
        self
    }

    /// Straight on to the one provider, without a page of the vault before.
    pub fn direct(mut self) -> Self {
        self.body.direct = true;
        self
    }

    /// The user chooses the account anew, where the provider lets them.
    pub fn switch_account(mut self) -> Self {
        self.body.switch_account = true;
        self
    }

    /// Users may not add rules of their own.
    pub fn without_user_policy_rules(mut self) -> Self {
        self.body.allow_user_policy_rules = Some(false);
        self
    }

    /// How long grants live.
    pub fn grant_policy(mut self, policy: Lifetime) -> Self {
        self.body.grant_policy = Some(policy);
        self
    }

    /// Scopes of a provider without which nothing of it is connected.
    pub fn required_scopes<S: Into<String>>(
        mut self,
        provider: impl Into<String>,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        self.body.required_scopes.get_or_insert_default().insert(provider.into(), scopes);
        self
    }

    /// A grant of this label beside the others on the account, once.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        let restrictions = self.body.requested_grant.take().and_then(|grant| grant.restrictions);
        self.body.requested_grant = Some(RequestedGrant { label: label.into(), restrictions });
        self
    }

    /// What the grant of that label may be used for. Each is left out for everything.
    pub fn restrictions(mut self, methods: Option<&[&str]>, endpoints: Option<&[&str]>) -> Self {
        let mut restrictions = json!({});
        for (name, texts) in [("allowed_methods", methods), ("allowed_endpoints", endpoints)] {
            if let Some(texts) = texts {
                restrictions[name] = json!(texts);
            }
        }
        let label = self.body.requested_grant.take().map(|grant| grant.label).unwrap_or_default();
        self.body.requested_grant = Some(RequestedGrant { label, restrictions: Some(restrictions) });
        self
    }

    /// Connects the account of this grant again, and no other.
    pub fn repair_grant_id(mut self, grant_id: impl Into<String>) -> Self {
        self.body.repair_grant_id = Some(grant_id.into());
        self
    }

    /// The agent that is to use the grants: its id or name.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.body.agent = Some(agent.into());
        self
    }

    /// Whether that agent may hand them on.
    pub fn delegable(mut self, is_delegable: bool) -> Self {
        self.body.delegable = Some(is_delegable);
        self
    }

    /// What that agent may use of them.
    pub fn scope_constraint<S: Into<String>>(mut self, atoms: impl IntoIterator<Item = S>) -> Self {
        self.body.scope_constraint = Some(atoms.into_iter().map(Into::into).collect());
        self
    }

    /// For whom, in place of the user of the app's getter.
    pub fn user_token(mut self, token: impl Into<String>) -> Self {
        self.body.user_token = Some(token.into());
        self
    }

    /// The body to send, if it can be one.
    pub(super) fn checked(self) -> Result<ConnectSessionRequest, Error> {
        let invalid = |why: &str| Err(Error::Invalid(why.to_owned()));
        let body = self.body;
        let named: BTreeSet<String> =
            body.allowed_providers.iter().flatten().map(|name| name.trim().to_lowercase()).collect();
        if (body.direct || body.repair_grant_id.is_some()) && named.len() != 1 {
            return invalid("direct and repair_grant_id are for exactly one provider: name it");
        }
        if let Some(grant) = &body.requested_grant
            && !(1..=LABEL_CHARS_MAX).contains(&grant.label.chars().count())
        {
            return Err(Error::Invalid(format!("a label has 1 to {LABEL_CHARS_MAX} characters")));
        }
        if let Some(id) = &body.repair_grant_id {
            grant_id(id)?;
            if body.agent.is_some() || body.requested_grant.is_some() || body.switch_account {
                return invalid("repair_grant_id goes with neither agent, label nor switch_account");
            }
        }
        Ok(body)
    }

    /// This request for what an error told of, and the grant to mend first.
    pub(crate) fn mending(mut self, error: &Error) -> Result<(Self, Option<String>), Error> {
        let (provider, agent) = match error {
            Error::GrantNotFound { provider_id, agent_id, .. }
            | Error::GrantExpired { provider_id, agent_id, .. }
            | Error::NoDelegatedGrant { provider_id, agent_id, .. } => (provider_id.as_deref(), agent_id.as_deref()),
            Error::AmbiguousGrant { provider_id, .. }
            | Error::CredentialRevoked { provider_id, .. }
            | Error::ScopeReauthRequired { provider_id, .. } => (provider_id.as_deref(), None),
            Error::ProviderUnauthorized { provider_id, .. } => (Some(&**provider_id), None),
            _ => (None, None),
        };
        let Some(provider) = provider.filter(|provider| !provider.is_empty()) else {
            let why = "the error names no provider: create a session with the provider that is meant";
            return Err(Error::Invalid(why.to_owned()));
        };
        if matches!(error, Error::NoDelegatedGrant { .. }) && agent.is_none() {
            return Err(Error::Invalid(
                "the error names no agent: create a session with the agent that is meant".to_owned(),
            ));
        }
        self.body.allowed_providers = Some(vec![provider.to_owned()]);
        if let Some(agent) = agent {
            self.body.agent = Some(agent.to_owned());
        }
        let repair = match error {
            Error::CredentialRevoked { grant_id, .. } => grant_id.clone(),
            _ => None,
        };
        Ok((self, repair))
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("allowed_providers", &self.body.allowed_providers)
            .field("return_url", &self.body.return_url)
            .field("allowed_origin", &self.body.allowed_origin)
            .field("direct", &self.body.direct)
            .field("repair_grant_id", &self.body.repair_grant_id)
            .field("agent", &self.body.agent)
            .finish_non_exhaustive()
    }
}
