//! Keys that sign assertions of identity.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TimeMs;

/// A published key.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IdentityKey {
    /// The `kid` of what it signs.
    pub id: String,
    /// `next`: published ahead of its time. `signs`. `kept`: tokens of it may still be about.
    pub status: String,
    pub signs_from: TimeMs,
    /// The public half, as it stands in `/.well-known/jwks.json`.
    pub public_jwk: Value,
}

/// `POST /api/v1/identity-keys/rotate`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IdentityKeysRotate {
    /// A key is known to others: the new one signs at once, and the old ones and their tokens are good no more.
    #[serde(default)]
    pub leaked: bool,
}
