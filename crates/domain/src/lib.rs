//! grantd's rules. Pure: no clock, no async, no SQL, no HTTP; time and randomness are arguments.

pub mod account;
pub mod assertion;
pub mod audit;
pub mod breaker;
pub mod connect;
pub mod context;
pub mod credential;
pub mod destination;
pub mod env;
pub mod evidence;
pub mod grant;
pub mod identity;
pub mod inject;
pub mod key_entry;
pub mod operator;
pub mod provider;
pub mod rate;
pub mod recovery;
pub mod refresh;
pub mod replay;
pub mod resolve;
pub mod scim;
pub mod seal;
pub mod secret;
pub mod sign_in;
pub mod template;
