//! The install: one row.

use grantd_domain::seal::WrappedKey;
use grantd_wire::TimeMs;
use grantd_wire::ids::{DataKeyId, OrganizationId};

use crate::error::Result;
use crate::seam::{Tx, id};
use crate::{Store, data_keys};

/// What an install is known by.
#[derive(Clone, Debug)]
pub struct Install {
    /// The key that seals the install's own values.
    pub data_key_id: DataKeyId,
    /// Sealed.
    pub pepper: Vec<u8>,
    /// Opens only under the right root key.
    pub root_check: Vec<u8>,
    /// The highest time written.
    pub clock_floor: TimeMs,
}

/// Stores the install and its default organization; `false` when there is one already.
pub fn create(
    tx: &mut Tx<'_>,
    install: &Install,
    key: &WrappedKey,
    organization: OrganizationId,
    at: TimeMs,
) -> Result<bool> {
    let new = tx.execute(
        "INSERT INTO installs (id, data_key_id, pepper, root_check, clock_floor_ms, created_at_ms) VALUES (1, $1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
        &[
            id(install.data_key_id),
            install.pepper.as_slice().into(),
            install.root_check.as_slice().into(),
            install.clock_floor.into(),
            at.into(),
        ],
    )?;
    if new == 0 {
        return Ok(false);
    }
    data_keys::insert(tx, key, at)?;
    tx.execute(
        "INSERT INTO organizations (id, slug, name, epoch, policy_version, settings, created_at_ms) \
         VALUES ($1, 'default', 'Default', 1, 1, '{}', $2)",
        &[id(organization), at.into()],
    )?;
    Ok(true)
}

/// The install, if there is one.
pub fn find(tx: &mut Tx<'_>) -> Result<Option<Install>> {
    let sql = "SELECT data_key_id, pepper, root_check, clock_floor_ms FROM installs WHERE id = 1";
    let Some(mut row) = tx.query_opt("installs", sql, &[])? else { return Ok(None) };
    Ok(Some(Install {
        data_key_id: row.id("data_key_id")?,
        pepper: row.bytes("pepper")?,
        root_check: row.bytes("root_check")?,
        clock_floor: row.time("clock_floor_ms")?,
    }))
}

/// Puts another check value in the place of `old`; `false` when somebody was first.
pub fn replace_check(tx: &mut Tx<'_>, old: &[u8], new: &[u8]) -> Result<bool> {
    tx.change_one("UPDATE installs SET root_check = $2 WHERE id = 1 AND root_check = $1", &[old.into(), new.into()])
}

/// Writes what is there already: shows that the database can be written.
pub fn touch(tx: &mut Tx<'_>) -> Result<bool> {
    tx.change_one("UPDATE installs SET clock_floor_ms = clock_floor_ms WHERE id = 1", &[])
}

/// Lowers the clock floor to `now`; answers what it was. Nothing else ever lowers it.
pub fn accept_clock(tx: &mut Tx<'_>, now: TimeMs) -> Result<Option<TimeMs>> {
    let Some(install) = find(tx)? else { return Ok(None) };
    tx.execute("UPDATE installs SET clock_floor_ms = $1 WHERE id = 1", &[now.into()])?;
    Ok(Some(install.clock_floor))
}

/// The organization of the install.
pub fn organization(tx: &mut Tx<'_>) -> Result<Option<OrganizationId>> {
    let sql = "SELECT id FROM organizations WHERE slug = 'default'";
    tx.query_opt("organizations", sql, &[])?.map(|mut row| row.id("id")).transpose()
}

impl Store {
    /// Raises the clock floor to `now`, and answers the floor. It never falls.
    pub async fn raise_clock_floor(&self, now: TimeMs) -> Result<TimeMs> {
        self.write(move |tx| {
            tx.execute("UPDATE installs SET clock_floor_ms = $1 WHERE id = 1 AND clock_floor_ms < $1", &[now.into()])?;
            Ok(find(tx)?.map_or(now, |install| install.clock_floor))
        })
        .await
    }
}
