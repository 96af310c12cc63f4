//! Sign-in sessions: which app asked, which browser the user is at, and what the identity provider said.

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, AuthSessionId, IdentityProviderId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apps::json;
use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// How a session stands. That it lapsed is computed from time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthState {
    /// Nobody was at the identity provider yet, or somebody is.
    Open,
    /// The identity provider sent the user back, and its token endpoint is asked.
    Exchanging,
    /// The user signed in.
    Completed,
    /// Nothing came of it.
    Error,
}

impl AuthState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Exchanging => "exchanging",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Exchanging, Self::Completed, Self::Error].into_iter().find(|state| state.as_str() == text)
    }
}

/// A session. `R`: what it was asked with; `O`: what came of it.
#[derive(Clone, Debug)]
pub struct AuthSession<R, O> {
    pub id: AuthSessionId,
    pub app_id: AppId,
    pub idp_id: IdentityProviderId,
    pub request: R,
    pub state: AuthState,
    /// Of the `state` that was sent to the identity provider.
    pub state_hash: Option<[u8; 32]>,
    /// Of the cookie of the browser that opened it.
    pub browser_hash: Option<[u8; 32]>,
    /// PKCE verifier and nonce, sealed at `version`, until they are used.
    pub sealed: Option<Vec<u8>>,
    pub lease_until: Option<TimeMs>,
    pub outcome: Option<O>,
    pub user_id: Option<UserId>,
    /// The user's token, sealed at `version`, until it is handed out or too old for that.
    pub result: Option<Vec<u8>>,
    pub result_until: Option<TimeMs>,
    pub created_at: TimeMs,
    pub updated_at: TimeMs,
    pub expires_at: TimeMs,
    pub version: i64,
}

impl<R, O> AuthSession<R, O> {
    /// One that nobody has opened yet.
    pub fn new(
        id: AuthSessionId,
        (app_id, idp_id): (AppId, IdentityProviderId),
        request: R,
        now: TimeMs,
        expires_at: TimeMs,
    ) -> Self {
        Self {
            id,
            app_id,
            idp_id,
            request,
            state: AuthState::Open,
            state_hash: None,
            browser_hash: None,
            sealed: None,
            lease_until: None,
            outcome: None,
            user_id: None,
            result: None,
            result_until: None,
            created_at: now,
            updated_at: now,
            expires_at,
            version: 1,
        }
    }
}

macro_rules! session_sql {
    ($where:literal) => {
        concat!(
            "SELECT id, app_id, idp_id, request, state, state_hash, browser_hash, sealed, lease_until_ms, outcome, user_id, result, \
             result_until_ms, created_at_ms, updated_at_ms, expires_at_ms, version FROM auth_sessions WHERE ",
            $where
        )
    };
}

fn read<R: DeserializeOwned, O: DeserializeOwned>(mut row: Row) -> Result<AuthSession<R, O>> {
    Ok(AuthSession {
        id: row.id("auth_sessions.id")?,
        app_id: row.id("auth_sessions.app_id")?,
        idp_id: row.id("auth_sessions.idp_id")?,
        request: row.json("auth_sessions.request")?,
        state: row.parsed("auth_sessions.state", AuthState::parse)?,
        state_hash: row.opt_array("auth_sessions.state_hash")?,
        browser_hash: row.opt_array("auth_sessions.browser_hash")?,
        sealed: row.opt_bytes("auth_sessions.sealed")?,
        lease_until: row.opt_time("auth_sessions.lease_until_ms")?,
        outcome: row.opt_parsed("auth_sessions.outcome", |text| serde_json::from_str(text).ok())?,
        user_id: row.opt_id("auth_sessions.user_id")?,
        result: row.opt_bytes("auth_sessions.result")?,
        result_until: row.opt_time("auth_sessions.result_until_ms")?,
        created_at: row.time("auth_sessions.created_at_ms")?,
        updated_at: row.time("auth_sessions.updated_at_ms")?,
        expires_at: row.time("auth_sessions.expires_at_ms")?,
        version: row.int("auth_sessions.version")?,
    })
}

/// Stores a new session under the hash of its token.
pub fn insert<R: Serialize, O>(tx: &mut Tx<'_>, token_hash: &[u8; 32], session: &AuthSession<R, O>) -> Result<()> {
    tx.execute(
        "INSERT INTO auth_sessions (token_hash, id, app_id, idp_id, request, state, created_at_ms, updated_at_ms, expires_at_ms, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)",
        &[
            token_hash.as_slice().into(),
            id(session.id),
            id(session.app_id),
            id(session.idp_id),
            json(&session.request),
            session.state.as_str().into(),
            session.created_at.into(),
            session.expires_at.into(),
            session.version.into(),
        ],
    )?;
    Ok(())
}

/// The session with this token.
pub fn find_by_token<R: DeserializeOwned, O: DeserializeOwned>(
    tx: &mut Tx<'_>,
    token_hash: &[u8; 32],
) -> Result<Option<AuthSession<R, O>>> {
    let row = tx.query_opt("auth_sessions", session_sql!("token_hash = $1"), &[token_hash.as_slice().into()])?;
    row.map(read).transpose()
}

/// A session.
pub fn find<R: DeserializeOwned, O: DeserializeOwned>(
    tx: &mut Tx<'_>,
    session: AuthSessionId,
) -> Result<Option<AuthSession<R, O>>> {
    tx.query_opt("auth_sessions", session_sql!("id = $1"), &[id(session)])?.map(read).transpose()
}

/// The session an identity provider answers to, by the `state` it sends back.
pub fn find_by_state<R: DeserializeOwned, O: DeserializeOwned>(
    tx: &mut Tx<'_>,
    state_hash: &[u8; 32],
) -> Result<Option<AuthSession<R, O>>> {
    let row = tx.query_opt("auth_sessions", session_sql!("state_hash = $1"), &[state_hash.as_slice().into()])?;
    row.map(read).transpose()
}

/// Writes where a session has got to over the row at `version`; `false`: it is another by now. Who came first decides.
pub fn replace<R, O: Serialize>(tx: &mut Tx<'_>, session: &AuthSession<R, O>, version: i64) -> Result<bool> {
    debug_assert!(session.version == version + 1);
    tx.change_one(
        "UPDATE auth_sessions SET state = $3, state_hash = $4, browser_hash = $5, sealed = $6, lease_until_ms = $7, outcome = $8, \
         user_id = $9, result = $10, result_until_ms = $11, updated_at_ms = $12, version = $2 + 1 WHERE id = $1 AND version = $2",
        &[
            id(session.id),
            version.into(),
            session.state.as_str().into(),
            session.state_hash.map(|hash| hash.to_vec()).into(),
            session.browser_hash.map(|hash| hash.to_vec()).into(),
            session.sealed.clone().into(),
            session.lease_until.into(),
            session.outcome.as_ref().map(json).into(),
            session.user_id.map(id).into(),
            session.result.clone().into(),
            session.result_until.into(),
            session.updated_at.into(),
        ],
    )
}

/// Wipes tokens that nobody fetched in time, and forgets sessions that ended before; answers how many.
pub fn prune(tx: &mut Tx<'_>, before: TimeMs, now: TimeMs, limit: i64) -> Result<u64> {
    tx.execute(
        "UPDATE auth_sessions SET result = NULL WHERE result IS NOT NULL AND result_until_ms <= $1",
        &[now.into()],
    )?;
    let old = "SELECT id FROM auth_sessions WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2";
    let rows = tx.query("auth_sessions", old, &[before.into(), limit.into()])?;
    let mut count = 0;
    for mut row in rows {
        let session: AuthSessionId = row.id("auth_sessions.id")?;
        count += tx.execute("DELETE FROM auth_sessions WHERE id = $1", &[id(session)])?;
    }
    Ok(count)
}

/// Ends every session of a user that is under way or whose token waits; answers how many.
pub fn end_of_user(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<u64> {
    tx.execute("DELETE FROM auth_sessions WHERE app_id = $1 AND user_id = $2", &[id(app), id(user)])
}
