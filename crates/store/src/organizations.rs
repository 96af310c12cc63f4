//! The organization, and the branding of its apps.

use grantd_wire::TimeMs;
use grantd_wire::api::Branding;
use grantd_wire::ids::{AppId, OrganizationId};
use grantd_wire::sign::{hex, sha256};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::seam::{Tx, Value, id};

/// What an organization says of what is made in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub struct Settings {
    /// Days that a new personal access token lives at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_days_max: Option<i64>,
}

/// What is known of an organization.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// Never changes.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// What it says.
    pub settings: Settings,
    /// Since when.
    pub created_at: TimeMs,
}

/// The organization.
pub fn find(tx: &mut Tx<'_>, organization: OrganizationId) -> Result<Option<Organization>> {
    let sql = "SELECT slug, name, settings, created_at_ms FROM organizations WHERE id = $1";
    let Some(mut row) = tx.query_opt("organizations", sql, &[id(organization)])? else { return Ok(None) };
    Ok(Some(Organization {
        id: organization,
        slug: row.text("organizations.slug")?,
        name: row.text("organizations.name")?,
        settings: row.parsed("organizations.settings", |text| serde_json::from_str(text).ok())?,
        created_at: row.time("organizations.created_at_ms")?,
    }))
}

/// Writes its name and settings.
pub fn update(tx: &mut Tx<'_>, organization: &Organization) -> Result<bool> {
    let settings = serde_json::to_string(&organization.settings).expect("numbers have a JSON form");
    let params = [id(organization.id), (&organization.name).into(), settings.into()];
    tx.change_one("UPDATE organizations SET name = $2, settings = $3 WHERE id = $1", &params)
}

/// How an app looks; nothing is set unless somebody did.
pub fn find_branding(tx: &mut Tx<'_>, app: AppId) -> Result<Branding> {
    let sql = "SELECT display_name, accent_color, background_color, logo_digest, updated_at_ms FROM branding WHERE app_id = $1";
    let Some(mut row) = tx.query_opt("branding", sql, &[id(app)])? else { return Ok(Branding::default()) };
    Ok(Branding {
        display_name: row.opt_text("branding.display_name")?,
        accent_color: row.opt_text("branding.accent_color")?,
        background_color: row.opt_text("branding.background_color")?,
        logo: row.opt_text("branding.logo_digest")?.map(|digest| logo_path(app, &digest)),
        updated_at: row.opt_time("branding.updated_at_ms")?,
    })
}

/// Where a logo is: an address that changes with it.
fn logo_path(app: AppId, digest: &str) -> String {
    format!("/brand/{app}.png?v={digest}")
}

/// A logo, as it is kept.
#[derive(Clone)]
pub struct Logo {
    png: Vec<u8>,
    digest: String,
}

impl Logo {
    /// Of a picture that was drawn by this program: it is served as it is.
    pub fn new(png: Vec<u8>) -> Self {
        let digest = hex(&sha256(&png)[..8]);
        Self { png, digest }
    }

    /// Where it will be.
    pub fn path(&self, app: AppId) -> String {
        logo_path(app, &self.digest)
    }
}

/// The picture of an app.
pub fn find_logo(tx: &mut Tx<'_>, app: AppId) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT logo FROM branding WHERE app_id = $1 AND logo IS NOT NULL";
    tx.query_opt("branding", sql, &[id(app)])?.map(|mut row| row.bytes("branding.logo")).transpose()
}

/// Gives an app whose look was written this logo, or none.
pub fn set_logo(tx: &mut Tx<'_>, app: AppId, logo: Option<&Logo>) -> Result<()> {
    let (png, digest) =
        logo.map_or((Value::Null, Value::Null), |logo| (logo.png.as_slice().into(), (&logo.digest).into()));
    tx.execute("UPDATE branding SET logo = $2, logo_digest = $3 WHERE app_id = $1", &[id(app), png, digest]).map(drop)
}

/// Writes how an app looks, but for its logo: [`set_logo`].
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
