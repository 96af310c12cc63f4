//! The organization, and how its apps look to end users.

use serde::{Deserialize, Serialize};

use crate::TimeMs;

/// `GET /api/v1/organization`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Organization {
    pub id: String,
    pub slug: String,
    pub name: String,
    /// Days that a new personal access token lives at most; null: as long as is asked for.
    pub token_days_max: Option<i64>,
    pub created_at: TimeMs,
}

/// `PATCH /api/v1/organization`: absent fields stay.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OrganizationUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From 1 to 3,660. 0: no bound. Tokens that there are live on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_days_max: Option<i64>,
}

/// `GET /api/v1/apps/{app_id}/branding`: how an app looks on pages for end users. Null: grantd's own look.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Branding {
    /// Shown in the place of the app's name.
    pub display_name: Option<String>,
    /// `#rrggbb`, in lower case.
    pub accent_color: Option<String>,
    /// `#rrggbb`, in lower case.
    pub background_color: Option<String>,
    /// Where the logo is, under the public URL; null: the app has none.
    pub logo: Option<String>,
    /// Null: it was never set, or was reset.
    pub updated_at: Option<TimeMs>,
}

/// `PATCH …/branding`: absent fields stay, an empty one is removed.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BrandingUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent_color: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_color: Option<String>,
    /// A PNG, JPEG or WebP picture of at most 256 KiB and 4,096 pixels a side, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
}
