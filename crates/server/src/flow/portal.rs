//! Signing in to the portal, and out of it.
//!
//! Invariants: a link signs in once; whoever signs in gets a new session, whatever cookie the browser came with; a session says who,
//! and what they may do is read anew with every request.

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner, Prepared};
use grantd_domain::env::{new_token, new_uuid};
use grantd_domain::secret::Secret;
use grantd_store::operators::Operator;
use grantd_store::web_sessions::{self, SignedInBy, WebSession};
use grantd_store::{Tx, append_event};
use grantd_wire::ids::{OperatorId, WebSessionId};
use grantd_wire::sign::sha256;
use grantd_wire::{Code, Error, TimeMs, limits};

use crate::answer::of_store;
use crate::caller::{Source, failed};
use crate::login::LINK_START;
use crate::vault::Vault;

/// How far the time at which a session was last seen may be behind.
const SEEN_STEP_MS: i64 = 60_000;

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub session: WebSession,
    pub operator: Operator,
}

/// What marks the refusal of who has to prove again who they are. The portal asks them, and goes on.
const CONFIRM: &str = "confirm";

impl Visitor {
    /// Refuses who proved too long ago who they are to do what is grave.
    pub fn check_confirmed(&self, now: TimeMs) -> Result<(), Error> {
        match now.since(self.session.auth_at) < limits::CONFIRMED_S * 1000 {
            true => Ok(()),
            false => Err(Error::new(Code::SessionRequired).detail(CONFIRM, true)),
        }
    }
}

/// Whether that is what was refused.
pub fn is_unconfirmed(error: &Error) -> bool {
    error.code == Code::SessionRequired && error.details.contains_key(CONFIRM)
}

/// When a session is over if nothing more is asked for in it.
pub fn ends_at(session: &WebSession) -> TimeMs {
    session.expires_at.min(session.seen_at.plus_seconds(limits::WEB_SESSION_IDLE_S))
}

/// Who is signed in with this cookie, if its session is good and its operator not disabled.
pub async fn find(vault: &Vault, cookie: &str, now: TimeMs) -> Result<Option<Visitor>, Error> {
    let hash = sha256(cookie.as_bytes());
    let found = vault.store.read(move |tx| web_sessions::find(tx, &hash)).await.map_err(of_store)?;
    let Some((session, operator)) = found else { return Ok(None) };
    let is_good = ends_at(&session) > now && operator.disabled_at.is_none();
    Ok(is_good.then_some(Visitor { session, operator }))
}

/// Notes that the visitor was there, at most once a minute.
pub async fn touch(vault: &Vault, visitor: &Visitor, now: TimeMs) -> Result<(), Error> {
    if now.since(visitor.session.seen_at) < SEEN_STEP_MS {
        return Ok(());
    }
    let id = visitor.session.id;
    vault.store.write(move |tx| web_sessions::touch(tx, id, now)).await.map_err(of_store)
}

/// Whom a link would sign in. Asking uses nothing up: whoever looks links over before their reader does must not spoil them.
pub async fn find_link(vault: &Vault, link: &str, now: TimeMs) -> Result<Option<Operator>, Error> {
    if !link.starts_with(LINK_START) {
        return Ok(None);
    }
    let hash = sha256(link.as_bytes());
    let found = vault.store.read(move |tx| web_sessions::find_link(tx, &hash, now)).await.map_err(of_store)?;
    Ok(found.filter(|operator| operator.disabled_at.is_none()))
}

/// Uses the link up, and answers the new session's cookie; `None`: the link is used, too old, or none.
pub async fn sign_in(
    vault: &Vault,
    link: &str,
    old: Option<&Visitor>,
    source: &Source,
) -> Result<Option<Secret>, Error> {
    let Some(operator) = find_link(vault, link, source.now).await? else {
        return not_proved(vault, source).await.map(|()| None);
    };
    let (link_hash, now) = (sha256(link.as_bytes()), source.now);
    let (cookie, beginning) = Beginning::new(vault, &operator, SignedInBy::Link, old, source);
    let insert = move |tx: &mut Tx<'_>| {
        if !web_sessions::take_link(tx, &link_hash, now)? {
            return Ok(false);
        }
        beginning.write(tx)?;
        Ok(true)
    };
    Ok(vault.store.write(insert).await.map_err(of_store)?.then_some(cookie))
}

/// Notes that somebody did not prove who they are; an error: it was too often, from there.
pub(super) async fn not_proved(vault: &Vault, source: &Source) -> Result<(), Error> {
    match failed(vault, source, None, Code::SessionRequired.into()).await {
        e if e.code == Code::SessionRequired => Ok(()),
        slowed => Err(slowed),
    }
}

/// A session that is about to begin. What the browser was signed in with before is over then.
pub(super) struct Beginning {
    cookie_hash: [u8; 32],
    session: WebSession,
    old: Option<(OperatorId, WebSessionId)>,
    event: Prepared,
}

impl Beginning {
    /// It, and the cookie that opens it.
    pub(super) fn new(
        vault: &Vault,
        operator: &Operator,
        by: SignedInBy,
        old: Option<&Visitor>,
        source: &Source,
    ) -> (Secret, Self) {
        let now = source.now;
        let cookie = new_token(&*vault.env, "");
        let session = WebSession {
            id: WebSessionId::from_uuid(new_uuid(&*vault.env)),
            operator_id: operator.id,
            auth_at: now,
            seen_at: now,
            expires_at: now.plus_seconds(limits::WEB_SESSION_S),
            ip: source.ip.to_string(),
            user_agent: source.user_agent.clone(),
            signed_in_by: by,
        };
        let event = event(vault, operator, Kind::OperatorSignedIn, session.id, source).core("sign_in", by.as_str());
        let beginning = Self {
            cookie_hash: sha256(cookie.reveal().as_bytes()),
            session,
            old: old.map(|visitor| (visitor.operator.id, visitor.session.id)),
            event: event.prepare(),
        };
        (cookie, beginning)
    }

    /// The same, of who proved it at that moment, in place of another session.
    pub(super) fn with(mut self, proved_at: TimeMs, old: Option<(OperatorId, WebSessionId)>) -> Self {
        self.session.auth_at = proved_at;
        self.old = old;
        self
    }

    /// Its id.
    pub(super) const fn session_id(&self) -> WebSessionId {
        self.session.id
    }

    /// Begins it.
    pub(super) fn write(&self, tx: &mut Tx<'_>) -> grantd_store::Result<()> {
        if let Some((operator, session)) = self.old {
            web_sessions::end(tx, operator, session)?;
        }
        web_sessions::insert(tx, &self.cookie_hash, &self.session, limits::WEB_SESSIONS_MAX)?;
        append_event(tx, &self.event)
    }
}

/// Ends the visitor's own session.
pub async fn sign_out(vault: &Vault, visitor: &Visitor, source: &Source) -> Result<(), Error> {
    end_one(vault, visitor, visitor.session.id, Kind::OperatorSignedOut, source).await.map(drop)
}

/// Ends another session of the visitor's; `false`: there is none with that id.
pub async fn end(vault: &Vault, visitor: &Visitor, session: WebSessionId, source: &Source) -> Result<bool, Error> {
    end_one(vault, visitor, session, Kind::WebSessionEnded, source).await
}

async fn end_one(
    vault: &Vault,
    visitor: &Visitor,
    session: WebSessionId,
    kind: Kind,
    source: &Source,
) -> Result<bool, Error> {
    let event = event(vault, &visitor.operator, kind, session, source).prepare();
    let operator = visitor.operator.id;
    let delete = move |tx: &mut Tx<'_>| {
        let was_there = web_sessions::end(tx, operator, session)?;
        if was_there {
            append_event(tx, &event)?;
        }
        Ok(was_there)
    };
    vault.store.write(delete).await.map_err(of_store)
}

/// Sessions of the visitor that are good, the one seen last first.
pub async fn list(vault: &Vault, visitor: &Visitor, now: TimeMs) -> Result<Vec<WebSession>, Error> {
    let operator = visitor.operator.id;
    let found = vault.store.read(move |tx| web_sessions::list(tx, operator, limits::WEB_SESSIONS_MAX)).await;
    Ok(found.map_err(of_store)?.into_iter().filter(|session| ends_at(session) > now).collect())
}

/// An event of whoever is signed in, or just signs in.
pub(super) fn event(vault: &Vault, operator: &Operator, kind: Kind, session: WebSessionId, source: &Source) -> Event {
    let owner = Owner::Organization(operator.organization_id);
    Event::new(&*vault.env, source.now, owner, kind, Outcome::Allowed, Actor::Operator(operator.id))
        .core_id("session_id", session)
        .core("request_id", source.request_id.to_string())
        .private("ip", Some(source.ip.to_string()))
        .private("user_agent", source.user_agent.clone())
}
