//! Operators and their personal access tokens. Only the hash of a token is here.

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, OperatorId, OrganizationId, PatId};

use crate::apps::{json, prefix_bounds};
use crate::error::Result;
use crate::seam::{Row, Tx, id};
use crate::{sign_in_methods, web_sessions};

/// What an operator may do. Ordered: a later one may do all an earlier one may.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Changes apps.
    Developer,
    /// Changes everything.
    Admin,
}

impl Role {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
    }

    /// The role that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Viewer, Self::Developer, Self::Admin].into_iter().find(|r| r.as_str() == text)
    }
}

/// A person who administers.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its id.
    pub id: OperatorId,
    /// Where.
    pub organization_id: OrganizationId,
    /// How it signs in.
    pub email: String,
    /// What it may do.
    pub role: Role,
    /// Since when it may do nothing.
    pub disabled_at: Option<TimeMs>,
}

/// A personal access token.
#[derive(Clone, Debug)]
pub struct Pat {
    /// Its id.
    pub id: PatId,
    /// Whose.
    pub operator_id: OperatorId,
    /// What its owner calls it.
    pub name: String,
    /// At most its owner's.
    pub role: Role,
    /// `None`: every app of the organization.
    pub app_ids: Option<Vec<AppId>>,
    /// When its time is over.
    pub expires_at: Option<TimeMs>,
    /// When it was revoked.
    pub revoked_at: Option<TimeMs>,
}

/// Stores a new operator.
pub fn insert(tx: &mut Tx<'_>, operator: &Operator, at: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO operators (id, organization_id, email, role, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
        &[
            id(operator.id),
            id(operator.organization_id),
            (&operator.email).into(),
            operator.role.as_str().into(),
            at.into(),
        ],
    )?;
    Ok(())
}

/// The first admin of the organization, of those who are not disabled if there is one.
pub fn find_first(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Option<OperatorId>> {
    let sql = "SELECT id FROM operators WHERE organization_id = $1 AND role = 'admin' \
        ORDER BY CASE WHEN disabled_at_ms IS NULL THEN 0 ELSE 1 END, id LIMIT 1";
    tx.query_opt("operators", sql, &[id(organization)])?.map(|mut row| row.id("id")).transpose()
}

/// Revokes every token of an operator, signs them out everywhere, forgets how they sign in, and lets them in again; answers how many
/// tokens there were.
pub fn reset(tx: &mut Tx<'_>, operator: OperatorId, at: TimeMs) -> Result<u64> {
    shut_out(tx, operator)?;
    tx.execute("UPDATE operators SET disabled_at_ms = NULL WHERE id = $1", &[id(operator)])?;
    tx.execute(
        "UPDATE pats SET revoked_at_ms = $2 WHERE operator_id = $1 AND revoked_at_ms IS NULL",
        &[id(operator), at.into()],
    )
}

/// Stores a new token.
pub fn insert_pat(tx: &mut Tx<'_>, pat: &Pat, token_hash: &[u8; 32], at: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO pats (id, operator_id, token_hash, name, role, app_ids, created_at_ms, expires_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            id(pat.id),
            id(pat.operator_id),
            token_hash.as_slice().into(),
            (&pat.name).into(),
            pat.role.as_str().into(),
            pat.app_ids.as_ref().map(json_value).into(),
            at.into(),
            pat.expires_at.into(),
        ],
    )?;
    Ok(())
}

fn json_value(ids: &Vec<AppId>) -> String {
    match json(ids) {
        crate::seam::Value::Text(text) => text,
        _ => String::new(),
    }
}

/// The token with this hash, and its operator.
pub fn find_pat(tx: &mut Tx<'_>, token_hash: &[u8; 32]) -> Result<Option<(Pat, Operator)>> {
    let sql = "SELECT p.id, p.operator_id, p.name, p.role, p.app_ids, p.expires_at_ms, p.revoked_at_ms, \
        o.organization_id, o.email, o.role, o.disabled_at_ms FROM pats p JOIN operators o ON o.id = p.operator_id WHERE p.token_hash = $1";
    let Some(mut row) = tx.query_opt("pats", sql, &[token_hash.as_slice().into()])? else { return Ok(None) };
    let pat = read_pat(&mut row)?;
    let operator = Operator {
        id: pat.operator_id,
        organization_id: row.id("operators.organization_id")?,
        email: row.text("operators.email")?,
        role: row.parsed("operators.role", Role::parse)?,
        disabled_at: row.opt_time("operators.disabled_at_ms")?,
    };
    Ok(Some((pat, operator)))
}

/// Reads the columns `id … revoked_at_ms`, as every statement lists them.
fn read_pat(row: &mut Row) -> Result<Pat> {
    Ok(Pat {
        id: row.id("pats.id")?,
        operator_id: row.id("pats.operator_id")?,
        name: row.text("pats.name")?,
        role: row.parsed("pats.role", Role::parse)?,
        app_ids: row.opt_parsed("pats.app_ids", |text| serde_json::from_str(text).ok())?,
        expires_at: row.opt_time("pats.expires_at_ms")?,
        revoked_at: row.opt_time("pats.revoked_at_ms")?,
    })
}

fn with_time_pat(mut row: Row) -> Result<(Pat, TimeMs)> {
    Ok((read_pat(&mut row)?, row.time("pats.created_at_ms")?))
}

fn with_time(mut row: Row) -> Result<(Operator, TimeMs)> {
    let operator = Operator {
        id: row.id("operators.id")?,
        organization_id: row.id("operators.organization_id")?,
        email: row.text("operators.email")?,
        role: row.parsed("operators.role", Role::parse)?,
        disabled_at: row.opt_time("operators.disabled_at_ms")?,
    };
    Ok((operator, row.time("operators.created_at_ms")?))
}

/// An operator of the organization, and since when.
pub fn find(tx: &mut Tx<'_>, organization: OrganizationId, operator: OperatorId) -> Result<Option<(Operator, TimeMs)>> {
    let sql = "SELECT id, organization_id, email, role, disabled_at_ms, created_at_ms FROM operators \
        WHERE organization_id = $1 AND id = $2";
    tx.query_opt("operators", sql, &[id(organization), id(operator)])?.map(with_time).transpose()
}

/// Operators of the organization whose address begins with `search`, oldest first, and how many there are.
pub fn list(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    search: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<(Operator, TimeMs)>, i64)> {
    let (low, high) = prefix_bounds(search);
    let total = tx.count(
        "SELECT COUNT(*) FROM operators WHERE organization_id = $1 AND email >= $2 AND email < $3",
        &[id(organization), low.clone(), high.clone()],
    )?;
    let sql = "SELECT id, organization_id, email, role, disabled_at_ms, created_at_ms FROM operators \
        WHERE organization_id = $1 AND email >= $2 AND email < $3 ORDER BY id LIMIT $4 OFFSET $5";
    let rows = tx.query("operators", sql, &[id(organization), low, high, limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(with_time).collect::<Result<_>>()?, total))
}

/// The operator of the organization with this address.
pub fn find_by_email(tx: &mut Tx<'_>, organization: OrganizationId, email: &str) -> Result<Option<Operator>> {
    let sql = "SELECT id, organization_id, email, role, disabled_at_ms, created_at_ms FROM operators \
        WHERE organization_id = $1 AND email = $2";
    let row = tx.query_opt("operators", sql, &[id(organization), email.into()])?;
    Ok(row.map(with_time).transpose()?.map(|(operator, _)| operator))
}

/// Whether an operator of the organization has this address already.
pub fn is_known(tx: &mut Tx<'_>, organization: OrganizationId, email: &str) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM operators WHERE organization_id = $1 AND email = $2";
    Ok(tx.count(sql, &[id(organization), email.into()])? > 0)
}

/// Operators of the organization, disabled ones included.
pub fn count(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<i64> {
    tx.count("SELECT COUNT(*) FROM operators WHERE organization_id = $1", &[id(organization)])
}

/// Admins who are not disabled.
pub fn count_active_admins(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM operators WHERE organization_id = $1 AND role = 'admin' AND disabled_at_ms IS NULL";
    tx.count(sql, &[id(organization)])
}

/// Writes role and state. Whoever is disabled is signed out everywhere, and how they sign in is forgotten: enabled again, they begin
/// anew.
pub fn update(tx: &mut Tx<'_>, operator: &Operator) -> Result<()> {
    if operator.disabled_at.is_some() {
        shut_out(tx, operator.id)?;
    }
    tx.execute(
        "UPDATE operators SET role = $3, disabled_at_ms = $4 WHERE organization_id = $1 AND id = $2",
        &[id(operator.organization_id), id(operator.id), operator.role.as_str().into(), operator.disabled_at.into()],
    )
    .map(drop)
}

/// Operators who are not disabled or have a token that is not revoked, but for one.
pub fn list_open(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    except: OperatorId,
    limit: i64,
) -> Result<Vec<OperatorId>> {
    let sql = "SELECT id FROM operators WHERE organization_id = $1 AND id <> $2 AND (disabled_at_ms IS NULL \
        OR EXISTS (SELECT 1 FROM pats WHERE pats.operator_id = operators.id AND pats.revoked_at_ms IS NULL)) ORDER BY id LIMIT $3";
    let rows = tx.query("operators", sql, &[id(organization), id(except), limit.into()])?;
    rows.into_iter().map(|mut row| row.id("operators.id")).collect()
}

/// Signs an operator out everywhere, and leaves them no way to sign in but a new link.
fn shut_out(tx: &mut Tx<'_>, operator: OperatorId) -> Result<()> {
    sign_in_methods::forget(tx, operator)?;
    web_sessions::end_of_operator(tx, operator)
}

/// Disables an operator, signs them out everywhere, forgets how they sign in, and revokes every token of theirs.
pub fn close(tx: &mut Tx<'_>, operator: OperatorId, at: TimeMs) -> Result<()> {
    shut_out(tx, operator)?;
    let params = [id(operator), at.into()];
    tx.execute("UPDATE operators SET disabled_at_ms = $2 WHERE id = $1 AND disabled_at_ms IS NULL", &params)?;
    tx.execute("UPDATE pats SET revoked_at_ms = $2 WHERE operator_id = $1 AND revoked_at_ms IS NULL", &params).map(drop)
}

/// A token of an operator of the organization, and when it was made.
pub fn find_pat_by_id(tx: &mut Tx<'_>, organization: OrganizationId, pat: PatId) -> Result<Option<(Pat, TimeMs)>> {
    let sql = "SELECT p.id, p.operator_id, p.name, p.role, p.app_ids, p.expires_at_ms, p.revoked_at_ms, p.created_at_ms \
        FROM pats p JOIN operators o ON o.id = p.operator_id WHERE o.organization_id = $1 AND p.id = $2";
    tx.query_opt("pats", sql, &[id(organization), id(pat)])?.map(with_time_pat).transpose()
}

/// Tokens of an operator, newest first, and how many there are.
pub fn list_pats(tx: &mut Tx<'_>, operator: OperatorId, limit: i64, offset: i64) -> Result<(Vec<(Pat, TimeMs)>, i64)> {
    let total = tx.count("SELECT COUNT(*) FROM pats WHERE operator_id = $1", &[id(operator)])?;
    let sql = "SELECT id, operator_id, name, role, app_ids, expires_at_ms, revoked_at_ms, created_at_ms FROM pats \
        WHERE operator_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3";
    let rows = tx.query("pats", sql, &[id(operator), limit.into(), offset.into()])?;
    Ok((rows.into_iter().map(with_time_pat).collect::<Result<_>>()?, total))
}

/// Tokens of an operator that are neither revoked nor expired.
pub fn count_living_pats(tx: &mut Tx<'_>, operator: OperatorId, now: TimeMs) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM pats WHERE operator_id = $1 AND revoked_at_ms IS NULL \
        AND (expires_at_ms IS NULL OR expires_at_ms > $2)";
    tx.count(sql, &[id(operator), now.into()])
}

/// Revokes a token; `false` when it already was.
pub fn revoke_pat(tx: &mut Tx<'_>, pat: PatId, at: TimeMs) -> Result<bool> {
    tx.change_one("UPDATE pats SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL", &[id(pat), at.into()])
}
