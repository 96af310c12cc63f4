//! The organization, and the branding of its apps.

use grantd_wire::TimeMs;
use grantd_wire::api::Branding;
use grantd_wire::ids::{AppId, OrganizationId};

use crate::error::Result;
use crate::seam::{Tx, id};

/// What is known of an organization.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Never changes.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// Since when.
    pub created_at: TimeMs,
}

/// The organization.
pub fn find(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Option<Organization>> {
    let sql = "SELECT slug, name, created_at_ms FROM organizations WHERE id = $1";
    let Some(mut row) = tx.query_opt("organizations", sql, &[id(organization)])? else { return Ok(None) };
    Ok(Some(Organization {
        id: organization,
        slug: row.text("organizations.slug")?,
        name: row.text("organizations.name")?,
        created_at: row.time("organizations.created_at_ms")?,
    }))
}

/// Calls it something else.
pub fn rename(tx: &mut Tx<'_>, organization: OrganizationId, name: &str) -> Result<bool> {
    tx.change_one("UPDATE organizations SET name = $2 WHERE id = $1", &[id(organization), name.into()])
}

/// How an app looks; nothing is set unless somebody did.
pub fn find_branding(tx: &mut Tx<'_>, app: AppId) -> Result<Branding> {
    let sql = "SELECT display_name, accent_color, background_color, updated_at_ms FROM branding WHERE app_id = $1";
    let Some(mut row) = tx.query_opt("branding", sql, &[id(app)])? else { return Ok(Branding::default()) };
    Ok(Branding {
        display_name: row.opt_text("branding.display_name")?,
        accent_color: row.opt_text("branding.accent_color")?,
        background_color: row.opt_text("branding.background_color")?,
        updated_at: row.opt_time("branding.updated_at_ms")?,
    })
}

/// Writes how an app looks.
pub fn set_branding(tx: &mut Tx<'_>, app: AppId, branding: &Branding, at: TimeMs) -> Result<()> {
    tx.execute(
        "INSERT INTO branding (app_id, display_name, accent_color, background_color, updated_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (app_id) DO UPDATE SET display_name = $2, accent_color = $3, background_color = $4, updated_at_ms = $5",
        &[
            id(app),
            branding.display_name.as_ref().into(),
            branding.accent_color.as_ref().into(),
            branding.background_color.as_ref().into(),
            at.into(),
        ],
    )
    .map(drop)
}

/// Forgets how an app looks; `false` when nothing was set.
pub fn reset_branding(tx: &mut Tx<'_>, app: AppId) -> Result<bool> {
    tx.change_one("DELETE FROM branding WHERE app_id = $1", &[id(app)])
}
