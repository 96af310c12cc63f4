//! Pages of lists, and their query.

use serde::{Deserialize, Serialize};

/// A page counted by offset.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "{T}Page"))]
pub struct Page<T> {
    pub items: Vec<T>,
    pub total: i64,
    pub limit: i64,
    pub offset: i64,
    pub has_more: bool,
}

/// A page that continues at a cursor.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "EventPage"))]
pub struct CursorPage<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
    pub has_more: bool,
    /// True when a filter could not use an index and only the newest events were searched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial_scan: bool,
}

/// Query of lists counted by offset. A list takes those fields that the API document has for it, and refuses the others.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Grants: `active`, `expired` or `revoked`. Keys: also `in_grace` and `rotated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Grants: a secret's slug, or a provider's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Grants that were revoked, by what became of their tokens at the provider: `pending`, `yes` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Users: the identity provider, by id or issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idp: Option<String>,
    /// Grants: the user, by id: theirs, and those of groups they are in. Groups: those that the user is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Case-insensitive prefix of name, slug or label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}
