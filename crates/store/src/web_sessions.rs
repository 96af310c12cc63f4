//! Browsers that are signed in to the portal, and links that sign somebody in once. Only hashes of their tokens are here.

use grantd_wire::TimeMs;
use grantd_wire::ids::{OperatorId, WebSessionId};

use crate::error::Result;
use crate::operators::{Operator, Role};
use crate::seam::{Row, Tx, id};

/// What `kind` says of a session of the portal.
const PORTAL: &str = "portal";

/// How somebody proved who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignedInBy {
    /// By a link that was made on the host.
    Link,
    Password,
    /// By password, and a code of their authenticator app.
    PasswordAndCode,
    /// By password, and one of the codes for when the app is lost.
    PasswordAndRecoveryCode,
    /// By a passkey.
    Passkey,
    /// At the issuer of single sign-on.
    Sso,
    /// By a code alone: that it is still them.
    Code,
    /// By a recovery code alone.
    RecoveryCode,
}

impl SignedInBy {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Password => "password",
            Self::PasswordAndCode => "password_totp",
            Self::PasswordAndRecoveryCode => "password_recovery_code",
            Self::Passkey => "passkey",
            Self::Sso => "sso",
            Self::Code => "totp",
            Self::RecoveryCode => "recovery_code",
        }
    }

    /// What is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Link,
            Self::Password,
            Self::PasswordAndCode,
            Self::PasswordAndRecoveryCode,
            Self::Passkey,
            Self::Sso,
            Self::Code,
            Self::RecoveryCode,
        ];
        all.into_iter().find(|way| way.as_str() == text)
    }
}

/// A browser in which an operator is signed in.
#[derive(Clone, Debug)]
pub struct WebSession {
    /// Its id; not what opens it.
    pub id: WebSessionId,
    /// Who is signed in.
    pub operator_id: OperatorId,
    /// When they last proved who they are.
    pub auth_at: TimeMs,
    /// When the browser last asked for something, give or take a minute.
    pub seen_at: TimeMs,
    /// When it is over whatever happens.
    pub expires_at: TimeMs,
    /// Where the browser was when it signed in.
    pub ip: String,
    /// What it called itself.
    pub user_agent: Option<String>,
    /// How they signed in.
    pub signed_in_by: SignedInBy,
}

fn read(row: &mut Row) -> Result<WebSession> {
    Ok(WebSession {
        id: row.id("web_sessions.id")?,
        operator_id: row.id("web_sessions.subject_id")?,
        auth_at: row.time("web_sessions.auth_at_ms")?,
        seen_at: row.time("web_sessions.seen_at_ms")?,
        expires_at: row.time("web_sessions.expires_at_ms")?,
        ip: row.text("web_sessions.ip")?,
        user_agent: row.opt_text("web_sessions.user_agent")?,
        signed_in_by: row.parsed("web_sessions.signed_in_by", SignedInBy::parse)?,
    })
}

/// Stores a new session under the hash of its cookie, and ends those of its operator that were seen longest ago, so that no more than
/// `sessions_max` are left.
pub fn insert(tx: &mut Tx<'_>, token_hash: &[u8; 32], session: &WebSession, sessions_max: i64) -> Result<()> {
    let oldest = "SELECT id FROM web_sessions WHERE subject_id = $1 AND kind = $2 ORDER BY seen_at_ms DESC, id DESC LIMIT 1000 OFFSET $3";
    let params = [id(session.operator_id), PORTAL.into(), (sessions_max - 1).into()];
    for mut row in tx.query("web_sessions", oldest, &params)? {
        let old: WebSessionId = row.id("web_sessions.id")?;
        tx.execute("DELETE FROM web_sessions WHERE id = $1", &[id(old)])?;
    }
    tx.execute(
        "INSERT INTO web_sessions (token_hash, id, kind, subject_id, auth_at_ms, seen_at_ms, expires_at_ms, ip, user_agent, signed_in_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &[
            token_hash.as_slice().into(),
            id(session.id),
            PORTAL.into(),
            id(session.operator_id),
            session.auth_at.into(),
            session.seen_at.into(),
            session.expires_at.into(),
            (&session.ip).into(),
            session.user_agent.clone().into(),
            session.signed_in_by.as_str().into(),
        ],
    )?;
    Ok(())
}

/// The session with this cookie, and who is signed in. Whether it is still good is the caller's to say.
pub fn find(tx: &mut Tx<'_>, token_hash: &[u8; 32]) -> Result<Option<(WebSession, Operator)>> {
    let sql = "SELECT s.id, s.subject_id, s.auth_at_ms, s.seen_at_ms, s.expires_at_ms, s.ip, s.user_agent, s.signed_in_by, \
        o.organization_id, o.email, o.role, o.disabled_at_ms \
        FROM web_sessions s JOIN operators o ON o.id = s.subject_id WHERE s.token_hash = $1 AND s.kind = $2";
    let params = [token_hash.as_slice().into(), PORTAL.into()];
    let Some(mut row) = tx.query_opt("web_sessions", sql, &params)? else { return Ok(None) };
    let session = read(&mut row)?;
    let operator = operator(&mut row, session.operator_id)?;
    Ok(Some((session, operator)))
}

fn operator(row: &mut Row, operator_id: OperatorId) -> Result<Operator> {
    Ok(Operator {
        id: operator_id,
        organization_id: row.id("operators.organization_id")?,
        email: row.text("operators.email")?,
        role: row.parsed("operators.role", Role::parse)?,
        disabled_at: row.opt_time("operators.disabled_at_ms")?,
    })
}

/// Sessions of an operator, the one seen last first.
pub fn list(tx: &mut Tx<'_>, operator: OperatorId, limit: i64) -> Result<Vec<WebSession>> {
    let sql = "SELECT id, subject_id, auth_at_ms, seen_at_ms, expires_at_ms, ip, user_agent, signed_in_by FROM web_sessions \
        WHERE subject_id = $1 AND kind = $2 ORDER BY seen_at_ms DESC, id DESC LIMIT $3";
    let rows = tx.query("web_sessions", sql, &[id(operator), PORTAL.into(), limit.into()])?;
    rows.into_iter().map(|mut row| read(&mut row)).collect()
}

/// Whether the operator's session is still there.
pub fn is_there(tx: &mut Tx<'_>, operator: OperatorId, session: WebSessionId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM web_sessions WHERE subject_id = $1 AND id = $2";
    Ok(tx.count(sql, &[id(operator), id(session)])? > 0)
}

/// Notes that the browser was there.
pub fn touch(tx: &mut Tx<'_>, session: WebSessionId, at: TimeMs) -> Result<()> {
    let sql = "UPDATE web_sessions SET seen_at_ms = $2 WHERE id = $1 AND seen_at_ms < $2";
    tx.execute(sql, &[id(session), at.into()]).map(drop)
}

/// Notes that whoever is signed in has proved again who they are; `false`: the session is over.
pub fn confirm(tx: &mut Tx<'_>, operator: OperatorId, session: WebSessionId, at: TimeMs) -> Result<bool> {
    let sql = "UPDATE web_sessions SET auth_at_ms = $3 WHERE subject_id = $1 AND id = $2";
    tx.change_one(sql, &[id(operator), id(session), at.into()])
}

/// Ends a session of the operator; `false`: there was none.
pub fn end(tx: &mut Tx<'_>, operator: OperatorId, session: WebSessionId) -> Result<bool> {
    tx.change_one("DELETE FROM web_sessions WHERE subject_id = $1 AND id = $2", &[id(operator), id(session)])
}

/// Ends every session of an operator but one, and takes back every link that would sign them in; answers how many sessions there were.
pub fn end_others(tx: &mut Tx<'_>, operator: OperatorId, except: WebSessionId) -> Result<u64> {
    tx.execute("DELETE FROM login_links WHERE operator_id = $1", &[id(operator)])?;
    tx.execute("DELETE FROM web_sessions WHERE subject_id = $1 AND id <> $2", &[id(operator), id(except)])
}

/// Ends every session of an operator, and takes back every link that would sign them in.
pub fn end_of_operator(tx: &mut Tx<'_>, operator: OperatorId) -> Result<()> {
    tx.execute("DELETE FROM login_links WHERE operator_id = $1", &[id(operator)])?;
    tx.execute("DELETE FROM web_sessions WHERE subject_id = $1", &[id(operator)]).map(drop)
}

/// Forgets sessions and links that are over; answers how many there were.
pub fn prune(tx: &mut Tx<'_>, now: TimeMs, idle_before: TimeMs, limit: i64) -> Result<u64> {
    tx.execute("DELETE FROM login_links WHERE expires_at_ms <= $1", &[now.into()])?;
    let over = "SELECT id FROM web_sessions WHERE seen_at_ms <= $1 OR expires_at_ms <= $2 ORDER BY id LIMIT $3";
    let rows = tx.query("web_sessions", over, &[idle_before.into(), now.into(), limit.into()])?;
    let mut count = 0;
    for mut row in rows {
        let session: WebSessionId = row.id("web_sessions.id")?;
        count += tx.execute("DELETE FROM web_sessions WHERE id = $1", &[id(session)])?;
    }
    Ok(count)
}

/// Stores a link under the hash of its token, and takes back older ones, so that no more than `links_max` are left.
pub fn insert_link(
    tx: &mut Tx<'_>,
    token_hash: &[u8; 32],
    operator: OperatorId,
    expires_at: TimeMs,
    links_max: i64,
) -> Result<()> {
    let older =
        "SELECT token_hash FROM login_links WHERE operator_id = $1 ORDER BY expires_at_ms DESC LIMIT 1000 OFFSET $2";
    for mut row in tx.query("login_links", older, &[id(operator), (links_max - 1).into()])? {
        let hash = row.bytes("login_links.token_hash")?;
        tx.execute("DELETE FROM login_links WHERE token_hash = $1", &[hash.into()])?;
    }
    tx.execute(
        "INSERT INTO login_links (token_hash, operator_id, expires_at_ms) VALUES ($1, $2, $3)",
        &[token_hash.as_slice().into(), id(operator), expires_at.into()],
    )?;
    Ok(())
}

/// Whom the link would sign in, while it is good.
pub fn find_link(tx: &mut Tx<'_>, token_hash: &[u8; 32], now: TimeMs) -> Result<Option<Operator>> {
    let sql = "SELECT o.id, o.organization_id, o.email, o.role, o.disabled_at_ms \
        FROM login_links l JOIN operators o ON o.id = l.operator_id WHERE l.token_hash = $1 AND l.expires_at_ms > $2";
    let row = tx.query_opt("login_links", sql, &[token_hash.as_slice().into(), now.into()])?;
    let Some(mut row) = row else { return Ok(None) };
    let operator_id = row.id("operators.id")?;
    operator(&mut row, operator_id).map(Some)
}

/// Uses the link up; `false`: somebody else did, or its time is over.
pub fn take_link(tx: &mut Tx<'_>, token_hash: &[u8; 32], now: TimeMs) -> Result<bool> {
    let sql = "DELETE FROM login_links WHERE token_hash = $1 AND expires_at_ms > $2";
    tx.change_one(sql, &[token_hash.as_slice().into(), now.into()])
}
