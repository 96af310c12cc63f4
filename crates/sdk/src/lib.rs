//! The Rust client of grantd: make a call with a credential your code never holds.
//!
//! ```no_run
//! # async fn example() -> Result<(), grantd_sdk::Error> {
//! let app = grantd_sdk::App::from_env()?; // ALTER_API_KEY, ALTER_BASE_URL
//! let answer = app
//!     .request("GET", "https://api.example.com/v1/invoices/{id}")
//!     .path_param("id", "in_17")
//!     .grant_id("0199c0de-0000-7000-8000-00000000beef")
//!     .reason("monthly report")
//!     .send()
//!     .await?;
//! println!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
//! app.close().await; // waits for the audit reports under way
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: a credential or a key is never in a `Debug`, a `Display`, an error, a log line or a report; the vault's key
//! never travels to a provider; nothing follows a redirect; nothing is sent twice.

mod app;
mod clock;
mod destination;
mod error;
mod inject;
mod outgoing;
mod report;
mod request;
mod scrub;
mod signing;
mod sigv4;

pub use app::{App, AppBuilder, DEFAULT_BASE_URL, DEFAULT_TIMEOUT, Grant, GrantFilter};
pub use error::{Error, Refusal};
pub use grantd_wire::sdk::{GrantsPage, RevokeAnswer};
pub use request::{RequestBuilder, Response};
