//! Connect sessions and their steps: what an end user was asked to authorize, by which browser, and what came of it.

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, ConnectSessionId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apps::json;
use crate::error::Result;
use crate::seam::{Row, Tx, id};

/// How a session stands. That it lapsed is computed from time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionState {
    /// Nobody opened it yet.
    Open,
    /// A browser opened it; no other can.
    Claimed,
    /// The user is done.
    Completed,
    /// The user refused all of it.
    Refused,
    /// The user it is for may have nothing any more.
    Barred,
}

impl SessionState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Barred => "barred",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        use SessionState::{Barred, Claimed, Completed, Open, Refused};
        [Open, Claimed, Completed, Refused, Barred].into_iter().find(|state| state.as_str() == text)
    }
}

/// A session. `R`: what it was asked with.
#[derive(Clone, Debug)]
pub struct Session<R> {
    pub id: ConnectSessionId,
    pub app_id: AppId,
    /// Whom it is for; none: whoever opens it, for the app itself.
    pub user_id: Option<UserId>,
    pub request: R,
    /// Of the cookie of the browser that opened it.
    pub browser_hash: Option<[u8; 32]>,
    pub state: SessionState,
    pub created_at: TimeMs,
    pub expires_at: TimeMs,
    pub version: i64,
}

/// How one provider of a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepState {
    /// The user was sent to the provider.
    Waiting,
    /// The provider sent the user back, and its token endpoint is asked.
    Exchanging,
    Done,
    Declined,
    Failed,
}

impl StepState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Exchanging => "exchanging",
            Self::Done => "done",
            Self::Declined => "declined",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        use StepState::{Declined, Done, Exchanging, Failed, Waiting};
        [Waiting, Exchanging, Done, Declined, Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// One provider of a session. `O`: what came of it.
#[derive(Clone, Debug)]
pub struct Step<O> {
    pub session_id: ConnectSessionId,
    pub provider_id: String,
    pub app_id: AppId,
    /// Counts the tries; part of where its secrets are sealed.
    pub attempt: i64,
    pub state: StepState,
    /// Of the `state` that was sent to the provider.
    pub state_hash: Option<[u8; 32]>,
    /// PKCE verifier and nonce, until they are used.
    pub sealed: Option<Vec<u8>>,
    /// Until when an exchange may take.
    pub lease_until: Option<TimeMs>,
    pub outcome: Option<O>,
    pub updated_at: TimeMs,
}

fn read_session<R: DeserializeOwned>(mut row: Row) -> Result<Session<R>> {
    Ok(Session {
        id: row.id("connect_sessions.id")?,
        app_id: row.id("connect_sessions.app_id")?,
        user_id: row.opt_id("connect_sessions.user_id")?,
        request: row.json("connect_sessions.request")?,
        browser_hash: row.opt_array("connect_sessions.browser_hash")?,
        state: row.parsed("connect_sessions.state", SessionState::parse)?,
        created_at: row.time("connect_sessions.created_at_ms")?,
        expires_at: row.time("connect_sessions.expires_at_ms")?,
        version: row.int("connect_sessions.version")?,
    })
}

/// Stores a new session under the hash of its token.
pub fn insert<R: Serialize>(tx: &mut Tx<'_>, token_hash: &[u8; 32], session: &Session<R>) -> Result<()> {
    tx.execute(
        "INSERT INTO connect_sessions (token_hash, id, app_id, request, state, created_at_ms, expires_at_ms, version, user_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)",
        &[
            token_hash.as_slice().into(),
            id(session.id),
            id(session.app_id),
            json(&session.request),
            session.state.as_str().into(),
            session.created_at.into(),
            session.expires_at.into(),
            session.user_id.map(id).into(),
        ],
    )?;
    Ok(())
}

/// The session with this token.
pub fn find_by_token<R: DeserializeOwned>(tx: &mut Tx<'_>, token_hash: &[u8; 32]) -> Result<Option<Session<R>>> {
    let sql = "SELECT id, app_id, user_id, request, browser_hash, state, created_at_ms, expires_at_ms, version FROM connect_sessions \
        WHERE token_hash = $1";
    tx.query_opt("connect_sessions", sql, &[token_hash.as_slice().into()])?.map(read_session).transpose()
}

/// A session of the app.
pub fn find<R: DeserializeOwned>(tx: &mut Tx<'_>, app: AppId, session: ConnectSessionId) -> Result<Option<Session<R>>> {
    let sql = "SELECT id, app_id, user_id, request, browser_hash, state, created_at_ms, expires_at_ms, version FROM connect_sessions \
        WHERE app_id = $1 AND id = $2";
    tx.query_opt("connect_sessions", sql, &[id(app), id(session)])?.map(read_session).transpose()
}

/// The session that one browser opened; nobody else's.
pub fn find_of_browser<R: DeserializeOwned>(
    tx: &mut Tx<'_>,
    session: ConnectSessionId,
    browser_hash: &[u8; 32],
) -> Result<Option<Session<R>>> {
    let sql = "SELECT id, app_id, user_id, request, browser_hash, state, created_at_ms, expires_at_ms, version FROM connect_sessions \
        WHERE id = $1 AND browser_hash = $2";
    let row = tx.query_opt("connect_sessions", sql, &[id(session), browser_hash.as_slice().into()])?;
    row.map(read_session).transpose()
}

/// Binds an open session to the browser that opens it; `false` when one did before.
pub fn claim(tx: &mut Tx<'_>, session: ConnectSessionId, browser_hash: &[u8; 32]) -> Result<bool> {
    tx.change_one(
        "UPDATE connect_sessions SET browser_hash = $2, state = 'claimed', version = version + 1 WHERE id = $1 AND state = 'open'",
        &[id(session), browser_hash.as_slice().into()],
    )
}

/// Ends a claimed session.
pub fn finish(tx: &mut Tx<'_>, session: ConnectSessionId, state: SessionState) -> Result<bool> {
    tx.change_one(
        "UPDATE connect_sessions SET state = $2, version = version + 1 WHERE id = $1 AND state = 'claimed'",
        &[id(session), state.as_str().into()],
    )
}

/// Ends every session of a user that is under way; answers how many.
pub fn end_of_user(tx: &mut Tx<'_>, app: AppId, user: UserId) -> Result<u64> {
    tx.execute(
        "UPDATE connect_sessions SET state = 'barred', version = version + 1 \
         WHERE app_id = $1 AND user_id = $2 AND user_id IS NOT NULL AND state IN ('open', 'claimed')",
        &[id(app), id(user)],
    )
}

/// Forgets sessions that ended before, with their steps, at most `limit` of them; answers how many.
pub fn prune(tx: &mut Tx<'_>, before: TimeMs, limit: i64) -> Result<u64> {
    let old = "SELECT id FROM connect_sessions WHERE expires_at_ms < $1 ORDER BY expires_at_ms LIMIT $2";
    let rows = tx.query("connect_sessions", old, &[before.into(), limit.into()])?;
    let mut count = 0;
    for mut row in rows {
        let session: ConnectSessionId = row.id("connect_sessions.id")?;
        tx.execute("DELETE FROM connect_steps WHERE session_id = $1", &[id(session)])?;
        count += tx.execute("DELETE FROM connect_sessions WHERE id = $1", &[id(session)])?;
    }
    Ok(count)
}

fn read_step<O: DeserializeOwned>(mut row: Row) -> Result<Step<O>> {
    Ok(Step {
        session_id: row.id("connect_steps.session_id")?,
        provider_id: row.text("connect_steps.provider_id")?,
        app_id: row.id("connect_steps.app_id")?,
        attempt: row.int("connect_steps.attempt")?,
        state: row.parsed("connect_steps.state", StepState::parse)?,
        state_hash: row.opt_array("connect_steps.state_hash")?,
        sealed: row.opt_bytes("connect_steps.sealed")?,
        lease_until: row.opt_time("connect_steps.lease_until_ms")?,
        outcome: row.opt_parsed("connect_steps.outcome", |text| serde_json::from_str(text).ok())?,
        updated_at: row.time("connect_steps.updated_at_ms")?,
    })
}

/// Steps of a session, by provider.
pub fn list_steps<O: DeserializeOwned>(tx: &mut Tx<'_>, session: ConnectSessionId) -> Result<Vec<Step<O>>> {
    let sql = "SELECT session_id, provider_id, app_id, attempt, state, state_hash, sealed, lease_until_ms, outcome, updated_at_ms \
        FROM connect_steps WHERE session_id = $1 ORDER BY provider_id";
    tx.query("connect_steps", sql, &[id(session)])?.into_iter().map(read_step).collect()
}

/// The step a provider answers to, by the `state` it sends back.
pub fn find_step<O: DeserializeOwned>(tx: &mut Tx<'_>, state_hash: &[u8; 32]) -> Result<Option<Step<O>>> {
    let sql = "SELECT session_id, provider_id, app_id, attempt, state, state_hash, sealed, lease_until_ms, outcome, updated_at_ms \
        FROM connect_steps WHERE state_hash = $1";
    tx.query_opt("connect_steps", sql, &[state_hash.as_slice().into()])?.map(read_step).transpose()
}

/// Begins a step, or begins it anew unless it is done or under way; `false`: it is.
pub fn begin_step<O: Serialize>(tx: &mut Tx<'_>, step: &Step<O>) -> Result<bool> {
    let inserted = tx.execute(
        "INSERT INTO connect_steps (session_id, provider_id, app_id, attempt, state, state_hash, sealed, updated_at_ms) \
         VALUES ($1, $2, $3, $4, 'waiting', $5, $6, $7) \
         ON CONFLICT (session_id, provider_id) DO UPDATE SET attempt = $4, state = 'waiting', state_hash = $5, sealed = $6, \
         lease_until_ms = NULL, outcome = NULL, updated_at_ms = $7 \
         WHERE connect_steps.attempt = $4 - 1 AND connect_steps.state <> 'done' \
         AND (connect_steps.state <> 'exchanging' OR connect_steps.lease_until_ms <= $7)",
        &[
            id(step.session_id),
            (&step.provider_id).into(),
            id(step.app_id),
            step.attempt.into(),
            step.state_hash.map(|hash| hash.to_vec()).into(),
            step.sealed.clone().into(),
            step.updated_at.into(),
        ],
    )?;
    Ok(inserted == 1)
}

/// Takes a step for an exchange that needs no trip to a provider, for the first time or again; `false`: it is done or under way.
pub fn take_at_once(
    tx: &mut Tx<'_>,
    (session, app, provider): (ConnectSessionId, AppId, &str),
    attempt: i64,
    lease_until: TimeMs,
    now: TimeMs,
) -> Result<bool> {
    let taken = tx.execute(
        "INSERT INTO connect_steps (session_id, provider_id, app_id, attempt, state, lease_until_ms, updated_at_ms) \
         VALUES ($1, $2, $3, $4, 'exchanging', $5, $6) \
         ON CONFLICT (session_id, provider_id) DO UPDATE SET attempt = $4, state = 'exchanging', lease_until_ms = $5, outcome = NULL, \
         updated_at_ms = $6 WHERE connect_steps.attempt = $4 - 1 AND connect_steps.state <> 'done' \
         AND (connect_steps.state <> 'exchanging' OR connect_steps.lease_until_ms <= $6)",
        &[id(session), provider.into(), id(app), attempt.into(), lease_until.into(), now.into()],
    )?;
    Ok(taken == 1)
}

/// Takes a waiting step for its exchange: its `state` cannot be used a second time.
pub fn take_step(tx: &mut Tx<'_>, state_hash: &[u8; 32], lease_until: TimeMs, now: TimeMs) -> Result<bool> {
    tx.change_one(
        "UPDATE connect_steps SET state = 'exchanging', state_hash = NULL, sealed = NULL, lease_until_ms = $2, updated_at_ms = $3 \
         WHERE state_hash = $1 AND state = 'waiting'",
        &[state_hash.as_slice().into(), lease_until.into(), now.into()],
    )
}

/// Ends a step that is at `from`, of this attempt; `false`: it is not.
pub fn end_step<O: Serialize>(
    tx: &mut Tx<'_>,
    (session, provider, attempt): (ConnectSessionId, &str, i64),
    from: StepState,
    to: StepState,
    outcome: &O,
    now: TimeMs,
) -> Result<bool> {
    tx.change_one(
        "UPDATE connect_steps SET state = $5, state_hash = NULL, sealed = NULL, lease_until_ms = NULL, outcome = $6, updated_at_ms = $7 \
         WHERE session_id = $1 AND provider_id = $2 AND attempt = $3 AND state = $4",
        &[
            id(session),
            provider.into(),
            attempt.into(),
            from.as_str().into(),
            to.as_str().into(),
            json(outcome),
            now.into(),
        ],
    )
}

/// Notes that the user does not want to connect a provider, unless it is connected or being so.
pub fn decline<O: Serialize>(
    tx: &mut Tx<'_>,
    (session, app, provider): (ConnectSessionId, AppId, &str),
    outcome: &O,
    now: TimeMs,
) -> Result<bool> {
    let changed = tx.execute(
        "INSERT INTO connect_steps (session_id, provider_id, app_id, attempt, state, outcome, updated_at_ms) \
         VALUES ($1, $2, $3, 0, 'declined', $4, $5) \
         ON CONFLICT (session_id, provider_id) DO UPDATE SET attempt = connect_steps.attempt + 1, state = 'declined', state_hash = NULL, \
         sealed = NULL, lease_until_ms = NULL, outcome = $4, updated_at_ms = $5 \
         WHERE connect_steps.state <> 'done' AND (connect_steps.state <> 'exchanging' OR connect_steps.lease_until_ms <= $5)",
        &[id(session), provider.into(), id(app), json(outcome), now.into()],
    )?;
    Ok(changed == 1)
}
