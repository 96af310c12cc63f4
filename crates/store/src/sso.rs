//! Single sign-on of operators: which subject of the issuer somebody is, and who is on the way there and back. Of what a browser or
//! the issuer brings back only hashes are here.

use grantd_wire::TimeMs;
use grantd_wire::ids::{OperatorId, OrganizationId, WebSessionId};

use crate::error::Result;
use crate::operators::{self, Operator};
use crate::seam::{Row, Tx, id};

/// Who an operator is to an issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Whose subject it is.
    pub issuer: String,
    /// How the issuer knows them, whatever their address is.
    pub subject: String,
    /// Since when.
    pub bound_at: TimeMs,
}

/// The operator's binding, to whichever issuer.
pub fn find_binding(tx: &mut Tx<'_>, operator: OperatorId) -> Result<Option<Binding>> {
    let sql = "SELECT issuer, subject, bound_at_ms FROM operator_identities WHERE operator_id = $1";
    let Some(mut row) = tx.query_opt("operator_identities", sql, &[id(operator)])? else { return Ok(None) };
    Ok(Some(Binding {
        issuer: row.text("operator_identities.issuer")?,
        subject: row.text("operator_identities.subject")?,
        bound_at: row.time("operator_identities.bound_at_ms")?,
    }))
}

/// The operator of the organization who is bound to this subject.
pub fn find_bound(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    issuer: &str,
    subject: &str,
) -> Result<Option<Operator>> {
    let sql = "SELECT operator_id FROM operator_identities WHERE issuer = $1 AND subject = $2";
    let row = tx.query_opt("operator_identities", sql, &[issuer.into(), subject.into()])?;
    let Some(mut row) = row else { return Ok(None) };
    let operator: OperatorId = row.id("operator_identities.operator_id")?;
    Ok(operators::find(tx, organization, operator)?.map(|(operator, _)| operator))
}

/// Binds the operator to a subject that nobody is bound to, in place of one of another issuer.
pub fn bind(tx: &mut Tx<'_>, operator: OperatorId, binding: &Binding) -> Result<()> {
    unbind(tx, operator)?;
    tx.execute(
        "INSERT INTO operator_identities (operator_id, issuer, subject, bound_at_ms) VALUES ($1, $2, $3, $4)",
        &[id(operator), (&binding.issuer).into(), (&binding.subject).into(), binding.bound_at.into()],
    )
    .map(drop)
}

/// Takes the binding away; `false`: there was none.
pub fn unbind(tx: &mut Tx<'_>, operator: OperatorId) -> Result<bool> {
    tx.change_one("DELETE FROM operator_identities WHERE operator_id = $1", &[id(operator)])
}

/// What somebody is on the way to the issuer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To sign in; what the browser was signed in with before ends then.
    SignIn(Option<(OperatorId, WebSessionId)>),
    /// To prove that whoever is signed in here is still there.
    Confirm(OperatorId, WebSessionId),
}

impl Purpose {
    const fn kind(self) -> &'static str {
        match self {
            Self::SignIn(_) => "sign_in",
            Self::Confirm(..) => "confirm",
        }
    }

    const fn session(self) -> Option<(OperatorId, WebSessionId)> {
        match self {
            Self::SignIn(session) => session,
            Self::Confirm(operator, session) => Some((operator, session)),
        }
    }
}

/// Somebody who is on the way to the issuer and back.
#[derive(Clone, Debug)]
pub struct Trip {
    /// Of the secret that the issuer sends back.
    pub state_hash: [u8; 32],
    /// Of the secret of the browser that left.
    pub browser_hash: [u8; 32],
    /// What for.
    pub purpose: Purpose,
    /// What the way back needs.
    pub sealed: Vec<u8>,
    /// When it left.
    pub begun_at: TimeMs,
}

fn read(row: &mut Row, state_hash: [u8; 32]) -> Result<Trip> {
    let (operator, session) = (row.opt_id("sso_trips.operator_id")?, row.opt_id("sso_trips.session_id")?);
    let session = operator.zip(session);
    let purpose = |kind: &str| match (kind, session) {
        ("sign_in", session) => Some(Purpose::SignIn(session)),
        ("confirm", Some((operator, session))) => Some(Purpose::Confirm(operator, session)),
        _ => None,
    };
    Ok(Trip {
        state_hash,
        browser_hash: row.array("sso_trips.browser_hash")?,
        purpose: row.parsed("sso_trips.kind", purpose)?,
        sealed: row.bytes("sso_trips.sealed")?,
        begun_at: row.time("sso_trips.begun_at_ms")?,
    })
}

/// Stores a trip, and forgets the oldest ones, so that no more than `trips_max` are left.
pub fn insert_trip(tx: &mut Tx<'_>, trip: &Trip, trips_max: i64) -> Result<()> {
    let oldest = "SELECT state_hash FROM sso_trips ORDER BY begun_at_ms DESC, state_hash LIMIT 1000 OFFSET $1";
    for mut row in tx.query("sso_trips", oldest, &[(trips_max - 1).into()])? {
        let hash = row.bytes("sso_trips.state_hash")?;
        tx.execute("DELETE FROM sso_trips WHERE state_hash = $1", &[hash.into()])?;
    }
    let session = trip.purpose.session();
    tx.execute(
        "INSERT INTO sso_trips (state_hash, browser_hash, kind, operator_id, session_id, sealed, begun_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            trip.state_hash.as_slice().into(),
            trip.browser_hash.as_slice().into(),
            trip.purpose.kind().into(),
            session.map(|(operator, _)| id(operator)).into(),
            session.map(|(_, session)| id(session)).into(),
            trip.sealed.clone().into(),
            trip.begun_at.into(),
        ],
    )
    .map(drop)
}

/// The trip that the issuer's answer is of. Whether it is still good is the caller's to say.
pub fn find_trip(tx: &mut Tx<'_>, state_hash: [u8; 32]) -> Result<Option<Trip>> {
    let sql =
        "SELECT operator_id, session_id, browser_hash, kind, sealed, begun_at_ms FROM sso_trips WHERE state_hash = $1";
    let row = tx.query_opt("sso_trips", sql, &[state_hash.as_slice().into()])?;
    row.map(|mut row| read(&mut row, state_hash)).transpose()
}

/// Ends it, so that its answer counts once; `false`: somebody else did.
pub fn take_trip(tx: &mut Tx<'_>, state_hash: [u8; 32]) -> Result<bool> {
    tx.change_one("DELETE FROM sso_trips WHERE state_hash = $1", &[state_hash.as_slice().into()])
}

/// Forgets trips that began so long ago.
pub fn prune_trips(tx: &mut Tx<'_>, before: TimeMs) -> Result<u64> {
    tx.execute("DELETE FROM sso_trips WHERE begun_at_ms <= $1", &[before.into()])
}
