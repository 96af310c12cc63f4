//! What a database is known by: what a backup's manifest says of it, and what a restore and `doctor` compare.

use grantd_domain::audit::{Checkpoint, Kind, Owner, term};
use grantd_wire::TimeMs;
use grantd_wire::ids::OrganizationId;
use grantd_wire::sign::hex;
use serde::{Deserialize, Serialize};

use crate::audit::{self, EventFilter};
use crate::error::Result;
use crate::installs;
use crate::seam::Tx;

/// What a database is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Names the install: the id of its organization. `None`: there is none.
    pub install_id: Option<OrganizationId>,
    /// Root keys that something in it is wrapped under.
    pub root_key_ids: Vec<String>,
    /// The number of its last migration.
    pub migration: i64,
    /// The checkpoint signed last, of whatever owner.
    pub newest_checkpoint: Option<NewestCheckpoint>,
    /// Rows of the tables that matter.
    pub counts: Counts,
}

/// The checkpoint that was signed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestCheckpoint {
    /// The app, or the organization.
    pub owner: String,
    /// Its number there.
    pub n: i64,
    /// When it was signed.
    pub at: TimeMs,
    /// SHA-256 of its canonical text, in hex.
    pub hash: String,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Audit events.
    pub events: i64,
    /// Apps.
    pub apps: i64,
    /// API keys, revoked ones too.
    pub keys: i64,
    /// Managed secrets.
    pub secrets: i64,
    /// Grants, revoked ones too.
    pub grants: i64,
}

/// Reads them.
pub fn read(tx: &mut Tx<'_>) -> Result<Facts> {
    let counts = Counts {
        events: tx.count("SELECT COUNT(*) FROM events", &[])?,
        apps: tx.count("SELECT COUNT(*) FROM apps", &[])?,
        keys: tx.count("SELECT COUNT(*) FROM api_keys", &[])?,
        secrets: tx.count("SELECT COUNT(*) FROM managed_secrets", &[])?,
        grants: tx.count("SELECT COUNT(*) FROM grants", &[])?,
    };
    Ok(Facts {
        install_id: installs::organization(tx)?,
        root_key_ids: root_key_ids(tx)?,
        migration: tx.count("SELECT MAX(number) FROM schema_migrations", &[])?,
        newest_checkpoint: newest_checkpoint(tx)?,
        counts,
    })
}

/// Root keys that a data key is wrapped under.
pub fn root_key_ids(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let rows = tx.query("data_keys", "SELECT DISTINCT root_key_id FROM data_keys ORDER BY root_key_id", &[])?;
    rows.into_iter().map(|mut row| row.text("root_key_id")).collect()
}

/// The checkpoint that was signed last, of whatever owner.
pub fn newest_checkpoint(tx: &mut Tx<'_>) -> Result<Option<NewestCheckpoint>> {
    let sql = "SELECT c.app_id, c.n, c.body FROM checkpoints c \
        JOIN (SELECT app_id, MAX(n) AS n FROM checkpoints GROUP BY app_id) l ON l.app_id = c.app_id AND l.n = c.n";
    let mut newest: Option<NewestCheckpoint> = None;
    for mut row in tx.query("checkpoints", sql, &[])? {
        let (owner, n, body) = (row.id_text("app_id")?, row.int("n")?, row.text("body")?);
        let checkpoint: Checkpoint = serde_json::from_str(&body).map_err(|_| row.inconsistent("body"))?;
        if newest.as_ref().is_none_or(|known| known.at < checkpoint.at) {
            let hash = hex(&Checkpoint::hash_of(&body));
            newest = Some(NewestCheckpoint { owner, n, at: checkpoint.at, hash });
        }
    }
    Ok(newest)
}

/// When the organization's trail last told of a backup.
pub fn last_backup(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Option<TimeMs>> {
    let terms = vec![term("kind", Kind::BackupMade.as_str())];
    let filter = EventFilter { terms, limit: 1, ..EventFilter::default() };
    let found = audit::list(tx, &Owner::Organization(organization), &filter)?;
    let at = |core: &str| {
        let core: serde_json::Value = serde_json::from_str(core).ok()?;
        TimeMs::parse(core["at"].as_str()?)
    };
    Ok(found.events.first().and_then(|event| at(&event.core)))
}
