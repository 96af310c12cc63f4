//! Signing in: which identity provider users of an app are sent to, and what came of it.

use grantd_wire::api::CustomProvider;
use grantd_wire::ids::{ConnectSessionId, IdentityProviderId, KeyId};
use grantd_wire::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::connect;
use crate::identity::{Endpoints, IdentityProvider, KEYS_UNAVAILABLE, ProviderState, User, UserStatus};
use crate::provider::{Provider, of_custom};

/// Of several identity providers that can sign users in, the one with this name does.
pub const DEFAULT_NAME: &str = "default";

/// Who asked for a sign-in. Stored as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// An app, by this key: it is handed the user's token.
    KeyId(KeyId),
    /// A page, before the user of this session connects anything: nobody is handed a token.
    Connect(ConnectSessionId),
}

/// Why no identity provider of an app can sign its users in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSignIn {
    /// There is none that is active.
    NoProvider,
    /// It is known by its keys alone: it was registered without the client that signs users in.
    NoClient,
    /// It does not say where users sign in, or where their codes are taken.
    NoEndpoints,
    /// There are several, and none is called [`DEFAULT_NAME`].
    Several,
}

impl NoSignIn {
    /// A word for programs.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoProvider => "no_identity_provider",
            Self::NoClient => "missing_client_id",
            Self::NoEndpoints => "issuer_cannot_sign_in",
            Self::Several => "several_identity_providers",
        }
    }

    /// What it means, and what an operator does about it.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoProvider => {
                "This app has no active identity provider. An operator registers one with `grantd idp create`."
            }
            Self::NoClient => {
                "The app's identity provider is registered without a client. An operator adds it with `grantd idp update --client-id`."
            }
            Self::NoEndpoints => {
                "The app's identity provider does not say where users sign in: it was registered by its keys, or its \
                 discovery document names no such place. An operator has it looked at again with `grantd idp update --rediscover`."
            }
            Self::Several => {
                "Several identity providers of this app can sign users in. An operator gives one of them the name `default`."
            }
        }
    }

    /// As a call is refused with it.
    pub fn refused(self, code: Code) -> Error {
        Error::new(code).message(self.message()).detail("reason", self.reason())
    }
}

/// Whether users can sign in there.
pub fn can_sign_in(provider: &IdentityProvider) -> Result<(), NoSignIn> {
    let Endpoints { authorize_url, token_url, .. } = &provider.endpoints;
    match () {
        () if provider.state != ProviderState::Active || provider.is_deleted => Err(NoSignIn::NoProvider),
        () if provider.client_id.is_none() => Err(NoSignIn::NoClient),
        () if authorize_url.is_none() || token_url.is_none() => Err(NoSignIn::NoEndpoints),
        () => Ok(()),
    }
}

/// Where users sign in: the only identity provider that can do it; of several the one that is called [`DEFAULT_NAME`].
pub fn choose(providers: &[IdentityProvider]) -> Result<&IdentityProvider, NoSignIn> {
    let able: Vec<&IdentityProvider> = providers.iter().filter(|provider| can_sign_in(provider).is_ok()).collect();
    match &able[..] {
        [only] => Ok(only),
        // The one that comes closest says what is missing.
        [] => Err(providers
            .iter()
            .filter_map(|p| can_sign_in(p).err())
            .max_by_key(|why| *why as u8)
            .unwrap_or(NoSignIn::NoProvider)),
        _ => able.into_iter().find(|provider| provider.name == DEFAULT_NAME).ok_or(NoSignIn::Several),
    }
}

/// How its authorize and token endpoints are called. `None`: it has none, or none that can be called.
pub fn client_facts(provider: &IdentityProvider) -> Option<Provider> {
    facts(provider, if provider.client_secret.is_some() { Client::WithSecret } else { Client::Public })
}

/// Whether the provider gave a secret to whoever registered there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    WithSecret,
    Public,
}

/// The same, as a client of this kind calls them.
pub fn facts(provider: &IdentityProvider, client: Client) -> Option<Provider> {
    let endpoints = &provider.endpoints;
    let posts = endpoints.posts_secret || client == Client::Public;
    let said = CustomProvider {
        authorize_url: Some(endpoints.authorize_url.clone()?),
        token_url: Some(endpoints.token_url.clone()?),
        client_auth: Some(if posts { "post" } else { "basic" }.to_owned()),
        scopes: provider.scopes.clone(),
        ..CustomProvider::default()
    };
    // Whether a URL may be called was decided when it was registered, and is again when it is.
    of_custom("identity-provider", &provider.name, &said, |_| true).ok()
}

/// Why a sign-in brought no token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The user does not want to.
    Declined,
    /// The identity provider did not answer.
    Unreachable,
    /// It did, but the keys that its token is to be proved with cannot be had.
    NoKeys,
    /// It refused, with a code of its own.
    Refused(String),
    /// It does not accept how the app is registered there.
    Configuration(String),
    /// This server stopped between its answer and keeping it.
    Interrupted,
    /// Its answer holds no token of a user.
    Unclear,
    /// The token it gave does not verify: which check failed.
    Token(String),
    /// The user may not sign in any more, or for now.
    Barred,
    /// It is somebody else than the user whom the session is for.
    OtherUser,
    /// The identity provider was switched off, or deleted, meanwhile.
    Inactive,
    /// This server could not keep it.
    Internal,
}

impl Why {
    /// The code that polls are told (wire-core 5.4, wire-extended 8.5).
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Declined => "access_denied",
            Self::Unreachable | Self::NoKeys | Self::Internal => "service_unavailable",
            Self::Refused(_) => "provider_refused",
            Self::Configuration(_) => "invalid_client",
            Self::Interrupted => "interrupted",
            Self::Unclear => "invalid_response",
            Self::Token(_) => "invalid_token",
            Self::Barred => "user_not_active",
            Self::OtherUser => "other_user",
            Self::Inactive => "identity_provider_inactive",
        }
    }

    /// What the identity provider said itself, which check its token failed, or that there was nothing to check it with.
    pub fn provider_code(&self) -> Option<&str> {
        match self {
            Self::NoKeys => Some(KEYS_UNAVAILABLE),
            Self::Refused(code) | Self::Configuration(code) | Self::Token(code) => Some(code),
            _ => None,
        }
    }

    /// What it means, for developers.
    pub fn message(&self) -> String {
        match self {
            Self::Declined => "The user did not want to sign in.".to_owned(),
            Self::Unreachable => "The identity provider did not answer. Let the user try again.".to_owned(),
            Self::NoKeys => {
                "The identity provider's keys cannot be had. Let the user try again; if it stays so, an operator looks at jwks_url with `grantd idp show`.".to_owned()
            }
            Self::Refused(code) => format!("The identity provider refused ({code}). Let the user try again."),
            Self::Configuration(code) => format!(
                "The identity provider does not accept how this app is registered there ({code}). An operator compares client id, secret and redirect URI with `grantd idp show`."
            ),
            Self::Interrupted => "This server was interrupted. Let the user try again.".to_owned(),
            Self::Unclear => {
                "The identity provider's answer holds no ID token. Ask it for the scope openid.".to_owned()
            }
            Self::Token(check) => format!(
                "The identity provider's ID token is not accepted here ({check}). An operator compares issuer, audiences and algorithms with `grantd idp show`."
            ),
            Self::Barred => "The user is suspended, or was deprovisioned.".to_owned(),
            Self::OtherUser => {
                "Somebody else signed in than the user whom the session is for. Let that user open the link.".to_owned()
            }
            Self::Inactive => {
                "The identity provider was switched off. An operator switches it on with `grantd idp update --state active`."
                    .to_owned()
            }
            Self::Internal => "The sign-in could not be kept here. Let the user try again.".to_owned(),
        }
    }
}

/// Why the user of a connect session, as they are now, is not who this token speaks for; `None`: they are.
pub fn other_than(expected: Option<&User>, idp: IdentityProviderId, subject: &str) -> Option<Why> {
    match expected {
        Some(user) if (user.idp_id, &*user.subject) != (idp, subject) => Some(Why::OtherUser),
        Some(user) if user.status == UserStatus::Active => None,
        _ => Some(Why::Barred),
    }
}

/// What an authorization server says while an account is connected means the same while a user signs in.
impl From<connect::Outcome> for Why {
    fn from(outcome: connect::Outcome) -> Self {
        use connect::{Outcome, Why as Of};
        match outcome {
            Outcome::Declined => Self::Declined,
            Outcome::Failed { why: Of::Unreachable } => Self::Unreachable,
            Outcome::Failed { why: Of::Refused(code) } => Self::Refused(code),
            Outcome::Failed { why: Of::Configuration(code) } => Self::Configuration(code),
            Outcome::Failed { why: Of::Internal | Of::Interrupted | Of::Full | Of::AppClosed }
            | Outcome::Done { .. } => Self::Internal,
            Outcome::Failed { why: Of::Unclear | Of::NoAccount | Of::OtherAccount | Of::Barred }
            | Outcome::Partial { .. } => Self::Unclear,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use grantd_wire::TimeMs;
    use grantd_wire::ids::{AppId, UserId, uuid_v7};

    use super::*;

    #[test]
    fn who_asked_is_kept_by_name() {
        let id = uuid_v7(0, [2; 10]);
        for (asked, name) in [
            (Asked::KeyId(KeyId::from_uuid(id)), "key_id"),
            (Asked::Connect(ConnectSessionId::from_uuid(id)), "connect"),
        ] {
            let stored = serde_json::to_value(asked).unwrap();
            assert_eq!(stored, serde_json::json!({name: id.to_string()}));
            assert_eq!(serde_json::from_value::<Asked>(stored).unwrap(), asked);
        }
    }

    #[test]
    fn only_the_active_user_of_the_same_provider_and_subject_is_the_one() {
        let idp = |n| IdentityProviderId::from_uuid(uuid_v7(n, [0; 10]));
        let user = |status| User {
            id: UserId::from_uuid(uuid_v7(0, [0; 10])),
            app_id: AppId::from_uuid(uuid_v7(0, [0; 10])),
            idp_id: idp(1),
            subject: "ann".to_owned(),
            status,
            email: None,
            name: None,
            roles: BTreeSet::new(),
            told_at: None,
            told_hash: None,
            last_seen_at: None,
            created_at: TimeMs(0),
            updated_at: TimeMs(0),
            version: 1,
        };
        let ann = user(UserStatus::Active);
        assert_eq!(other_than(Some(&ann), idp(1), "ann"), None);
        assert_eq!(other_than(Some(&ann), idp(1), "ben"), Some(Why::OtherUser));
        assert_eq!(other_than(Some(&ann), idp(2), "ann"), Some(Why::OtherUser));
        for status in [UserStatus::Suspended, UserStatus::Deprovisioned { at: TimeMs(1) }] {
            assert_eq!(other_than(Some(&user(status)), idp(1), "ann"), Some(Why::Barred));
        }
        assert_eq!(other_than(None, idp(1), "ann"), Some(Why::Barred));
    }
}
