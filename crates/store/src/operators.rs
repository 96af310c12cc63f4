//! Operators and their personal access tokens. Only the hash of a token is here.

use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, OperatorId, OrganizationId, PatId};

use crate::apps::json;
use crate::error::Result;
use crate::seam::{Tx, id};

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

    fn parse(text: &str) -> Option<Self> {
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

/// The first operator of the organization.
pub fn find_first(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Option<OperatorId>> {
    let sql = "SELECT id FROM operators WHERE organization_id = $1 ORDER BY id LIMIT 1";
    tx.query_opt("operators", sql, &[id(organization)])?.map(|mut row| row.parsed("id", OperatorId::parse)).transpose()
}

/// Revokes every token of an operator and lets them in again; answers how many tokens there were.
pub fn reset(tx: &mut Tx<'_>, operator: OperatorId, at: TimeMs) -> Result<u64> {
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
    let pat = Pat {
        id: row.parsed("pats.id", PatId::parse)?,
        operator_id: row.parsed("pats.operator_id", OperatorId::parse)?,
        name: row.text("pats.name")?,
        role: row.parsed("pats.role", Role::parse)?,
        app_ids: row.opt_parsed("pats.app_ids", |text| serde_json::from_str(text).ok())?,
        expires_at: row.opt_time("pats.expires_at_ms")?,
        revoked_at: row.opt_time("pats.revoked_at_ms")?,
    };
    let operator = Operator {
        id: pat.operator_id,
        organization_id: row.parsed("operators.organization_id", OrganizationId::parse)?,
        email: row.text("operators.email")?,
        role: row.parsed("operators.role", Role::parse)?,
        disabled_at: row.opt_time("operators.disabled_at_ms")?,
    };
    Ok(Some((pat, operator)))
}
