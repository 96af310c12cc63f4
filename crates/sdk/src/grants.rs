//! Grants: listing, making and revoking them, and the scopes there are.

use std::fmt;

use grantd_wire::TimeMs;
use grantd_wire::limits::{PAGE_DEFAULT, PAGE_MAX};
use grantd_wire::sdk::{
    CatalogueProvider, GrantsListRequest, GrantsPage, Lifetime, ProviderCatalogue, RevokeAnswer, RevokeRequest,
    ScopeCatalogue, SecretGrantAnswer, SecretGrantRequest,
};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::{App, Ask, read};
use crate::connect::{ConnectedPolicy, grant_id as grant_id_of};
use crate::error::Error;
use crate::retry::Repeat;

/// Characters of a managed secret's id or slug.
const SECRET_CHARS_MAX: usize = 255;

impl App {
    /// A page of the grants this key can see, or of one user's if a user token goes along.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::GrantFilter;
    /// let mut filter = GrantFilter { status: Some("active".to_owned()), ..GrantFilter::default() };
    /// loop {
    ///     let page = app.list_grants(&filter).await?;
    ///     for grant in &page.grants {
    ///         println!("{} {}", grant.grant_id, grant.status);
    ///     }
    ///     if !page.has_more {
    ///         break;
    ///     }
    ///     filter.offset += filter.limit;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_grants(&self, filter: &GrantFilter) -> Result<GrantsPage<Grant>, Error> {
        if !(1..=PAGE_MAX).contains(&filter.limit) || filter.offset < 0 {
            return Err(Error::Invalid(format!("a page holds 1 to {PAGE_MAX} grants, from offset 0 on")));
        }
        let body = GrantsListRequest {
            limit: filter.limit,
            offset: filter.offset,
            provider_id: filter.provider_id.clone(),
            status: filter.status.clone(),
            account: filter.account.clone(),
            label: filter.label.clone(),
            user_token: self.user_token(filter.user_token.clone()).await?,
        };
        let ask = Ask::post("/sdk/grants/list", &body, Repeat::Harmless);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let page: GrantsPage<Grant> = read(&answer)?;
        match page.grants.iter().all(Grant::is_possible) {
            true => Ok(page),
            false => Err(Error::unusable(answer.status.as_u16(), "a grant of the page is of no kind there is")),
        }
    }

    /// Ends a grant for good. With a user token getter, only that user's.
    pub async fn revoke_grant(&self, grant_id: &str, reason: Option<&str>) -> Result<RevokeAnswer, Error> {
        let grant_id = grant_id_of(grant_id)?;
        let path = format!("/sdk/oauth/grants/{grant_id}/revoke");
        let body = RevokeRequest { reason: reason.map(str::to_owned), user_token: self.user_token(None).await? };
        // Ended twice is ended once.
        let ask = Ask::post(&path, &body, Repeat::Harmless);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await?;
        let revoked: RevokeAnswer = read(&answer)?;
        if revoked.message.is_empty() || revoked.grant_id.is_empty() {
            return Err(Error::unusable(answer.status.as_u16(), "it does not say which grant was revoked"));
        }
        Ok(revoked)
    }

    /// Makes a grant on a managed secret, named by its id or slug.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{GrantPolicy, Principal, SecretGrantRequest};
    /// let ask = SecretGrantRequest {
    ///     principal: Principal::System { label: Some("nightly export".to_owned()) },
    ///     grant_policy: GrantPolicy { max_ttl_seconds: Some(3600), ..GrantPolicy::default() },
    ///     credential_id: None,
    /// };
    /// let grant = app.create_managed_secret_grant("stripe", &ask).await?;
    /// println!("{}", grant.grant_id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_managed_secret_grant(
        &self,
        secret: &str,
        grant: &SecretGrantRequest,
    ) -> Result<SecretGrantAnswer, Error> {
        let one_segment = secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !one_segment || !(1..=SECRET_CHARS_MAX).contains(&secret.len()) {
            return Err(Error::Invalid("name the managed secret by its id or slug".to_owned()));
        }
        let path = format!("/sdk/managed-secrets/{secret}/grants");
        let ask = Ask::post(&path, grant, Repeat::MakesAnother);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await;
        read(&answer.map_err(|error| with_label(error, label_of(grant)))?)
    }

    /// Makes a grant beside another on the same account or secret, never with more power than that: another label, a nearer end.
    ///
    /// ```no_run
    /// # async fn example(app: grantd_sdk::App) -> Result<(), grantd_sdk::Error> {
    /// use grantd_sdk::{GrantPolicy, MintRequest};
    /// let ask = MintRequest {
    ///     grant_policy: Some(GrantPolicy { max_ttl_seconds: Some(3600), ..GrantPolicy::default() }),
    ///     ..MintRequest::labelled("nightly export")
    /// };
    /// let grant = app.mint_grant("0199c0de-0000-7000-8000-00000000beef", &ask).await?;
    /// println!("{}", grant.grant_id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn mint_grant(&self, source_grant_id: &str, grant: &MintRequest) -> Result<MintedGrant, Error> {
        let path = format!("/sdk/grants/{}/mint", grant_id_of(source_grant_id)?);
        let ask = Ask::post(&path, grant, Repeat::MakesAnother);
        let answer = self.inner.ask(&ask, &self.identity(None, None)).await;
        read(&answer.map_err(|error| with_label(error, Some(&grant.label)))?)
    }

    /// The OAuth providers that the vault knows, by id.
    pub async fn list_oauth_providers(&self) -> Result<Vec<CatalogueProvider>, Error> {
        let path = "/sdk/oauth/provider-catalog";
        let ask = Ask { method: Method::GET, path, body: bytes::Bytes::new(), repeat: Repeat::Harmless };
        let catalogue: ProviderCatalogue = read(&self.inner.ask(&ask, &self.identity(None, None)).await?)?;
        Ok(catalogue.providers.into_values().collect())
    }

    /// The scopes there are.
    pub async fn list_scopes(&self) -> Result<ScopeCatalogue, Error> {
        let ask = Ask { method: Method::GET, path: "/sdk/scopes", body: bytes::Bytes::new(), repeat: Repeat::Harmless };
        read(&self.inner.ask(&ask, &self.identity(None, None)).await?)
    }
}

/// A conflict of labels with the label that was asked for, where the vault does not say it.
fn with_label(mut error: Error, asked: Option<&str>) -> Error {
    if let Error::SiblingLabelConflict { label: label @ None, .. } = &mut error {
        *label = asked.map(str::to_owned);
    }
    error
}

fn label_of(grant: &SecretGrantRequest) -> Option<&str> {
    use grantd_wire::sdk::Principal::{Agent, Group, System, User};
    match &grant.principal {
        User { label, .. } | Group { label, .. } => Some(label),
        System { label } | Agent { label } => label.as_deref(),
    }
}

/// Which grants to list: all of them, the first page, unless set.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantFilter {
    /// A provider's id, or a managed secret's slug.
    pub provider_id: Option<String>,
    /// `active`, `expired` or `revoked`.
    pub status: Option<String>,
    /// The account's identifier at the provider.
    pub account: Option<String>,
    /// The grant's own label.
    pub label: Option<String>,
    /// Whose grants, in place of the user of the app's getter.
    pub user_token: Option<String>,
    /// Grants a page, 1 to 1000.
    pub limit: i64,
    /// Grants to pass over.
    pub offset: i64,
}

impl Default for GrantFilter {
    fn default() -> Self {
        Self {
            provider_id: None,
            status: None,
            account: None,
            label: None,
            user_token: None,
            limit: PAGE_DEFAULT,
            offset: 0,
        }
    }
}

impl fmt::Debug for GrantFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantFilter")
            .field("provider_id", &self.provider_id)
            .field("status", &self.status)
            .field("account", &self.account)
            .field("label", &self.label)
            .field("limit", &self.limit)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// A grant beside another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MintRequest {
    pub label: String,
    /// How long it lives: never longer than the one beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_policy: Option<Lifetime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_tags: Option<Vec<String>>,
}

impl MintRequest {
    /// One of this label, otherwise like the one beside it.
    pub fn labelled(label: impl Into<String>) -> Self {
        Self { label: label.into(), grant_policy: None, grant_tags: None }
    }
}

/// A grant that was made beside another.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct MintedGrant {
    pub grant_id: String,
    pub provider_id: String,
    pub status: String,
    pub created_at: TimeMs,
    pub principal_type: String,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub account_identifier: Option<String>,
    #[serde(default)]
    pub account_display_name: Option<String>,
    #[serde(default)]
    pub credential_id: Option<String>,
    #[serde(default)]
    pub grant_policy: Option<ConnectedPolicy>,
}

/// A grant in a list: what every kind has, what one kind has, and the rest as it came.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Grant {
    /// `managed_secret` or `oauth`.
    pub grant_kind: String,
    pub grant_id: String,
    pub status: String,
    /// `user`, `system` or `agent`; a managed secret's also `group`.
    pub principal_type: String,
    pub created_at: TimeMs,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub account_identifier: Option<String>,
    /// When the grant itself lapses.
    #[serde(default)]
    pub grant_expires_at: Option<TimeMs>,
    #[serde(default)]
    pub last_used_at: Option<TimeMs>,
    /// Of an OAuth grant.
    #[serde(default)]
    pub provider_id: Option<String>,
    /// Of a grant on a managed secret, as the two below.
    #[serde(default)]
    pub managed_secret_id: Option<String>,
    #[serde(default)]
    pub managed_secret_slug: Option<String>,
    #[serde(default)]
    pub managed_secret_name: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Grant {
    /// Whether it is of a known kind, with what that kind has.
    fn is_possible(&self) -> bool {
        let principal = &*self.principal_type;
        match &*self.grant_kind {
            "oauth" => self.provider_id.is_some() && matches!(principal, "user" | "system" | "agent"),
            "managed_secret" => {
                let secret = [&self.managed_secret_id, &self.managed_secret_slug, &self.managed_secret_name];
                secret.iter().all(|field| field.is_some()) && matches!(principal, "user" | "group" | "system" | "agent")
            }
            _ => false,
        }
    }
}
