//! Connect sessions: what an app asks a user to authorize, and what came of it.

use grantd_wire::TimeMs;
use grantd_wire::ids::{CredentialId, GrantId, KeyId, OperatorId};
use grantd_wire::sdk::Lifetime;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::grant::Grant;
use crate::identity::User;
use crate::key_entry::AskedKey;
use crate::provider::Scopes;

/// What a session was asked with. Stored as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Asked {
    #[serde(flatten)]
    pub by: Asker,
    pub providers: Vec<Wanted>,
    /// Straight on to the one provider, without a page of ours before.
    pub is_direct: bool,
    /// The user chooses the account anew.
    pub switches_account: bool,
    pub return_url: Option<String>,
    pub allowed_origin: Option<String>,
    /// Of the grant.
    pub label: Option<String>,
    /// How long the grant lives.
    pub lifetime: Lifetime,
    /// The grant whose account is connected again, and how its provider names that account.
    pub repair: Option<Repair>,
    /// The user it is for, as pages may call them.
    #[serde(default)]
    pub user: Option<String>,
    /// No account is asked for but a key of the user's own, for the one secret that stands as its provider.
    #[serde(default)]
    pub key: Option<AskedKey>,
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// An app, by this key.
    KeyId(KeyId),
    /// An operator, for an app.
    OperatorId(OperatorId),
}

impl Asked {
    /// What is wanted of this provider; none: the session is not for it.
    pub fn wanted(&self, provider_id: &str) -> Option<&Wanted> {
        self.providers.iter().find(|wanted| wanted.provider_id == provider_id)
    }

    /// Whether there is nothing to choose from.
    pub fn is_single(&self) -> bool {
        self.providers.len() == 1
    }

    /// Which of an account's living grants, oldest first, is the one that is asked for; none: a new one. The one to mend; else the
    /// one with that label; without a label the oldest that has none, and before a second one is made, the oldest of all.
    pub fn meant<'g>(&self, living: &'g [Grant]) -> Option<&'g Grant> {
        let mended = self.repair.as_ref().and_then(|repair| living.iter().find(|grant| grant.id == repair.grant_id));
        mended.or_else(|| match &self.label {
            Some(_) => living.iter().find(|grant| grant.label == self.label),
            None => living.iter().find(|grant| grant.label.is_none()).or(living.first()),
        })
    }
}

/// What a page calls a user by: enough for them to know themselves, and nothing for others to write to.
pub fn masked(user: &User) -> String {
    let first = |text: &str| text.chars().next().map_or_else(String::new, |c| format!("{c}…"));
    match user.email.as_deref().and_then(|email| email.rsplit_once('@')) {
        Some((local, domain)) => format!("{}@{domain}", first(local)),
        None => first(user.name.as_deref().unwrap_or(&user.subject)),
    }
}

/// A provider that may be connected.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Wanted {
    pub provider_id: String,
    pub name: String,
    /// Asked for.
    pub scopes: Vec<String>,
    /// Without these the app does not want it.
    pub required: Vec<String>,
}

/// A grant to mend.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Repair {
    pub grant_id: GrantId,
    pub credential_id: CredentialId,
    pub account: String,
    pub account_name: Option<String>,
}

/// What came of one provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// An account is connected.
    Done {
        grant_id: GrantId,
        is_new: bool,
        account: String,
        account_name: Option<String>,
        scopes: Vec<String>,
        pinned_host: Option<String>,
        expires_at: Option<TimeMs>,
        created_at: TimeMs,
    },
    /// The user does not want to.
    Declined,
    /// It did not work.
    Failed { why: Why },
    /// The user granted less than the app needs.
    Partial { missing: Vec<String> },
}

/// Why an account could not be connected.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The provider did not answer.
    Unreachable,
    /// The provider refused, with a code of its own.
    Refused(String),
    /// The provider does not accept how the app is registered there.
    Configuration(String),
    /// This server stopped between the provider's answer and keeping it.
    Interrupted,
    /// It is another account than the one to mend.
    OtherAccount,
    /// The user it is for is suspended or deprovisioned by now.
    Barred,
    /// The provider does not say whose account it is.
    NoAccount,
    /// The provider's answer is none.
    Unclear,
    /// The account's grants are as many as there can be.
    Full,
    /// The app was archived or deleted meanwhile.
    AppClosed,
    /// This server could not keep it.
    Internal,
}

impl Why {
    /// The code that polls and the browser's library are told (wire-core 5.2).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable | Self::Internal => "service_unavailable",
            Self::Refused(_) => "provider_refused",
            Self::Configuration(code) => match code.as_str() {
                "invalid_redirect_uri" | "redirect_uri_mismatch" | "bad_redirect_uri" => "invalid_redirect_uri",
                "unauthorized_client" => "unauthorized_client",
                "invalid_scope" | "invalid_request" | "unsupported_grant_type" => "connect_config_error",
                _ => "invalid_client",
            },
            Self::AppClosed => "connect_config_error",
            Self::Interrupted => "interrupted",
            Self::OtherAccount => "account_mismatch",
            Self::Barred => "user_not_active",
            Self::NoAccount => "account_unknown",
            Self::Unclear => "invalid_response",
            Self::Full => "grant_limit_exceeded",
        }
    }

    /// What it means, for developers.
    pub fn message(&self) -> String {
        match self {
            Self::Unreachable => "The provider did not answer. Let the user try again.".to_owned(),
            Self::Refused(code) => format!("The provider refused ({code}). Let the user try again."),
            Self::Configuration(code) => format!(
                "The provider does not accept how this app is registered there ({code}). An operator compares client id, secret and redirect URI with `grantd providers show`."
            ),
            Self::Interrupted => "This server was interrupted. Let the user try again.".to_owned(),
            Self::OtherAccount => {
                "The user chose another account than the one to connect again. Let them try again with that one."
                    .to_owned()
            }
            Self::Barred => "The user was suspended or deprovisioned meanwhile.".to_owned(),
            Self::NoAccount => {
                "The provider does not say whose account it is. Ask for the scopes that its identity needs.".to_owned()
            }
            Self::Unclear => "The provider's answer is no token. Let the user try again.".to_owned(),
            Self::Full => "The account or its user has as many grants as is possible. Revoke one first.".to_owned(),
            Self::AppClosed => {
                "The app was archived before the account was connected. Ask for a new session once it is active."
                    .to_owned()
            }
            Self::Internal => "The connection could not be kept here. Let the user try again.".to_owned(),
        }
    }
}

/// Scopes that are required and were not granted. Nothing is missing where the provider does not say what was granted.
pub fn missing(granted: Option<&[String]>, required: &[String]) -> Vec<String> {
    let Some(granted) = granted else { return Vec::new() };
    required.iter().filter(|scope| !granted.contains(scope)).cloned().collect()
}

/// What is asked for of a provider: its own, or what the app is registered with, and what this session needs beside.
pub fn scopes(facts: &Scopes, registered: &[String], required: &[String]) -> Vec<String> {
    let mut asked: Vec<String> = facts.asked(registered).into_iter().map(str::to_owned).collect();
    for scope in required {
        if !asked.contains(scope) {
            asked.push(scope.clone());
        }
    }
    asked
}

/// Whether a scope can be asked for: visible ASCII without quote and backslash (RFC 6749 section 3.3).
pub fn is_scope(text: &str) -> bool {
    let is_plain = |c: u8| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=grantd_wire::limits::OAUTH_SCOPE_CHARS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Whether a browser may be sent back there: `https`, or `http` on loopback, without user info and fragment.
pub fn is_return_url(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_plain && is_web(&url) && text.len() <= 2_048 && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Whether a text is an origin, as browsers write it: `https://host[:port]`, or `http` on loopback.
pub fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| is_web(&url) && url.origin().ascii_serialization() == text)
}

/// Whether an address is of one of these origins; of none, when there are any. Without origins every address is.
pub fn is_of(address: &str, origins: &[String]) -> bool {
    let of = |url: Url| origins.contains(&url.origin().ascii_serialization());
    origins.is_empty() || Url::parse(address).is_ok_and(of)
}

fn is_web(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_sent_back_to_https_or_loopback_only() {
        for good in
            ["https://app.example.com/done?x=1", "http://localhost:3000/", "http://127.0.0.1:8000", "http://[::1]/x"]
        {
            assert!(is_return_url(good), "{good}");
        }
        for bad in [
            "http://app.example.com/",
            "javascript:alert(1)",
            "https://u@app.example.com/",
            "https://app.example.com/#x",
            "//app.example.com",
            "data:text/html,x",
            "https://app.example.com/ x",
            "",
        ] {
            assert!(!is_return_url(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_is_of_an_origin_that_is_listed_or_none_is() {
        let listed = ["https://app.example.com".to_owned(), "http://localhost:3000".to_owned()];
        for good in ["https://app.example.com/done?x=1", "https://APP.example.com:443", "http://localhost:3000/x"] {
            assert!(is_of(good, &listed) && is_of(good, &[]), "{good}");
        }
        for bad in [
            "https://app.example.com.evil.example/",
            "https://evil.example/https://app.example.com",
            "https://app.example.com@evil.example/",
            "https://app.example.com:8443/",
            "http://app.example.com/",
            "http://localhost:3001/",
            "https://sub.app.example.com/",
            "",
        ] {
            assert!(!is_of(bad, &listed), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        assert!(is_origin("https://app.example.com") && is_origin("http://localhost:3000"));
        for bad in [
            "https://app.example.com/",
            "https://APP.example.com",
            "https://app.example.com:443",
            "http://app.example.com",
            "null",
            "*",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn the_grant_that_is_meant_is_the_mended_the_labelled_or_the_oldest() {
        let id = |n| GrantId::from_uuid(grantd_wire::ids::uuid_v7(n, [0; 10]));
        let grant = |n: i64, label: Option<&str>| Grant {
            id: id(n),
            app_id: grantd_wire::ids::AppId::from_uuid(grantd_wire::ids::uuid_v7(0, [0; 10])),
            credential_id: CredentialId::from_uuid(grantd_wire::ids::uuid_v7(0, [1; 10])),
            principal: crate::grant::Principal::System,
            label: label.map(str::to_owned),
            status: crate::grant::GrantStatus::Active,
            tenant: crate::grant::Tenant::Unbound,
            expires_at: None,
            created_at: TimeMs(n),
            last_used_at: None,
            version: 1,
        };
        let living = [grant(1, Some("a")), grant(2, None), grant(3, None)];
        let asked = |label: Option<&str>, repair: Option<i64>| Asked {
            by: Asker::KeyId(KeyId::from_uuid(grantd_wire::ids::uuid_v7(0, [2; 10]))),
            providers: Vec::new(),
            is_direct: false,
            switches_account: false,
            return_url: None,
            allowed_origin: None,
            label: label.map(str::to_owned),
            lifetime: Lifetime::default(),
            repair: repair.map(|n| Repair {
                grant_id: id(n),
                credential_id: living[0].credential_id,
                account: "x".to_owned(),
                account_name: None,
            }),
            user: None,
            key: None,
        };
        let meant = |asked: Asked, living: &[Grant]| asked.meant(living).map(|grant| grant.id);
        assert_eq!(meant(asked(None, None), &living), Some(id(2)));
        assert_eq!(meant(asked(None, Some(3)), &living), Some(id(3)));
        assert_eq!(meant(asked(Some("a"), None), &living), Some(id(1)));
        assert_eq!(meant(asked(Some("b"), None), &living), None);
        assert_eq!(meant(asked(None, None), &living[..1]), Some(id(1)), "no second one is made");
        assert_eq!(meant(asked(None, None), &[]), None);
        // One to mend that is gone is not made again beside what there is.
        assert_eq!(meant(asked(None, Some(9)), &living), Some(id(2)));
    }

    #[test]
    fn whoever_asked_is_kept_by_name() {
        let id = grantd_wire::ids::uuid_v7(0, [2; 10]);
        for (by, text) in [
            (Asker::KeyId(KeyId::from_uuid(id)), "key_id"),
            (Asker::OperatorId(OperatorId::from_uuid(id)), "operator_id"),
        ] {
            let asked = Asked {
                by,
                providers: Vec::new(),
                is_direct: false,
                switches_account: false,
                return_url: None,
                allowed_origin: None,
                label: None,
                lifetime: Lifetime::default(),
                repair: None,
                user: None,
                key: None,
            };
            let stored = serde_json::to_value(&asked).unwrap();
            assert_eq!(stored[text], id.to_string(), "{stored}");
            assert_eq!(serde_json::from_value::<Asked>(stored).unwrap().by, by);
        }
    }

    #[test]
    fn what_is_missing_is_what_was_required_and_not_granted() {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(missing(Some(&list(&["a", "b"])), &list(&["b", "c"])), list(&["c"]));
        assert!(missing(None, &list(&["b"])).is_empty());
        assert!(is_scope("https://www.googleapis.com/auth/drive.file") && is_scope("a:b"));
        assert!(!is_scope("a b") && !is_scope("") && !is_scope("a\"b") && !is_scope(&"a".repeat(257)));
        assert!(is_scope(&"a".repeat(256)));
    }
}
