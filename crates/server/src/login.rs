//! Links that sign an operator in to the portal once. Here they are made on the host, by who can write to the database; by an admin
//! they are made in `api/operators.rs`.

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::env::{Env, new_token};
use grantd_domain::secret::Secret;
use grantd_store::{Store, Tx, append_event, installs, operators, web_sessions};
use grantd_wire::ids::OperatorId;
use grantd_wire::sign::sha256;
use grantd_wire::{TimeMs, limits};

use crate::install::InstallError;

/// How the token of a link begins.
pub(crate) const LINK_START: &str = "login_";

/// Where the portal is, under the public URL.
pub const PORTAL_PATH: &str = "/portal";

/// A link just made.
pub struct Link {
    pub operator_id: OperatorId,
    pub email: String,
    pub token: Secret,
    pub expires_at: TimeMs,
}

impl Link {
    /// Its address. It signs in whoever opens it, so it is shown to its operator and nobody else.
    pub fn url(&self, public_url: &str) -> String {
        url(public_url, &self.token)
    }
}

/// The address of a link.
pub(crate) fn url(public_url: &str, token: &Secret) -> String {
    format!("{}{PORTAL_PATH}/sign-in?link={}", public_url.trim_end_matches('/'), token.reveal())
}

/// What is stored of a new link.
#[derive(Clone, Copy)]
pub(crate) struct StoredLink {
    hash: [u8; 32],
    pub(crate) expires_at: TimeMs,
}

impl StoredLink {
    /// It, and the token that opens it.
    pub(crate) fn new(env: &dyn Env, now: TimeMs) -> (Secret, Self) {
        let token = new_token(env, LINK_START);
        let hash = sha256(token.reveal().as_bytes());
        (token, Self { hash, expires_at: now.plus_seconds(limits::LOGIN_LINK_S) })
    }

    /// Stores it for the operator, in place of the oldest of too many.
    pub(crate) fn insert(self, tx: &mut Tx<'_>, operator: OperatorId) -> grantd_store::Result<()> {
        web_sessions::insert_link(tx, &self.hash, operator, self.expires_at, limits::LOGIN_LINKS_MAX)
    }
}

/// Why there is no link. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("there is no operator {0}. `grantd operators list` shows them")]
    Unknown(String),
    #[error("the operator {0} is disabled. `grantd operators enable` lets them in again")]
    Disabled(String),
}

impl From<grantd_store::Error> for LinkError {
    fn from(error: grantd_store::Error) -> Self {
        Self::Install(error.into())
    }
}

/// Makes a link for the operator with this address, or else for the first admin.
pub async fn make(store: &Store, env: &dyn Env, email: Option<&str>) -> Result<Link, LinkError> {
    let wanted = email.map(str::to_owned);
    let (organization, operator) = store
        .read(move |tx| {
            let Some(organization) = installs::organization(tx)? else { return Ok(None) };
            let operator = match &wanted {
                Some(email) => operators::find_by_email(tx, organization, email)?,
                None => match operators::find_first(tx, organization)? {
                    Some(id) => operators::find(tx, organization, id)?.map(|(operator, _)| operator),
                    None => None,
                },
            };
            Ok(Some((organization, operator)))
        })
        .await?
        .ok_or(InstallError::Missing)?;
    let operator = operator.ok_or_else(|| LinkError::Unknown(email.unwrap_or("who is an admin").to_owned()))?;
    if operator.disabled_at.is_some() {
        return Err(LinkError::Disabled(operator.email));
    }
    let now = env.now();
    let (token, stored) = StoredLink::new(env, now);
    let expires_at = stored.expires_at;
    let owner = Owner::Organization(organization);
    let event = Event::new(env, now, owner, Kind::LoginLinkCreated, Outcome::Allowed, Actor::Job)
        .core_id("operator_id", operator.id)
        .changed("expires_at", serde_json::Value::Null, expires_at.to_string())
        .prepare();
    let operator_id = operator.id;
    store
        .write(move |tx| {
            stored.insert(tx, operator_id)?;
            append_event(tx, &event)
        })
        .await?;
    Ok(Link { operator_id, email: operator.email, token, expires_at })
}
