//! Bodies of `/api/v1`: the management API behind the CLI, the portal and automation.
//!
//! Requests refuse unknown fields by name. Lists are `{"items","total","limit","offset","has_more"}`; audit lists page by
//! cursor.

mod apps;
mod audit;
mod connect;
mod grants;
mod identity;
mod identity_keys;
mod idp_webhooks;
mod keys;
mod lists;
mod operators;
mod organization;
mod overview;
mod providers;
mod retention;
mod scim;
mod secrets;
mod templates;

pub use apps::*;
pub use audit::*;
pub use connect::*;
pub use grants::*;
pub use identity::*;
pub use identity_keys::*;
pub use idp_webhooks::*;
pub use keys::*;
pub use lists::*;
pub use operators::*;
pub use organization::*;
pub use overview::*;
pub use providers::*;
pub use retention::*;
pub use scim::*;
pub use secrets::*;
pub use templates::*;
