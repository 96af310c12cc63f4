//! grantd's server: HTTP APIs, the flows that perform what `grantd_domain` decides, and jobs.
//!
//! Read `routes` first: every URL and what it needs. Then `caller` (who is it), `flow::release` (the main job).

pub mod answer;
pub mod api;
pub mod cache;
mod caller;
pub mod entry;
pub mod flow;
mod hosted;
pub mod http;
pub mod install;
pub mod jobs;
pub mod keyring;
pub mod limiter;
pub mod login;
pub mod meters;
pub mod metrics;
pub mod openapi;
pub mod outbound;
pub mod pages;
pub mod parse;
mod passwords;
pub mod portal;
pub mod recovery;
pub mod rewrap;
pub mod routes;
pub mod scim;
pub mod scopes;
pub mod sdk;
pub mod sealed;
mod sentence;
mod trace;
pub mod vault;
pub mod webhook;

pub use trace::SPANS;
pub use vault::{Settings, SsoSettings, Vault};
