//! `/sdk`: what applications call, byte-compatible with the official client. Handlers parse, call a flow, render.

mod catalogue;
mod connect;
mod grants;
mod identity;
mod key_entry;
mod report;
mod sign_in;
mod token;

pub use sign_in::TOKEN_PREFIX as SIGN_IN_PREFIX;

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::audit::{Kind, Outcome};
use grantd_wire::scope::{ACTION_VERBS, RESOURCES, SCOPE_VERSION, VERBS};
use grantd_wire::sdk::{ResourceVerbs, ScopeCatalogue};
use grantd_wire::{Code, Error};

use crate::answer::{Answer, json};
use crate::caller::Call;
use crate::routes::{Sdk, SdkRoute};
use crate::vault::Vault;

/// Answers an authenticated call.
pub async fn answer(vault: &Arc<Vault>, route: &SdkRoute, mut call: Call) -> Result<Answer, Error> {
    match route.route {
        Sdk::Token => token::retrieve(vault, &mut call).await,
        Sdk::CallReport => Box::pin(report::call(vault, &call)).await,
        Sdk::ScopeMismatch => Box::pin(report::scope_mismatch(vault, &call)).await,
        Sdk::GrantsList => Box::pin(grants::list(vault, &call)).await,
        Sdk::GrantRevoke => Box::pin(grants::revoke(vault, &call)).await,
        Sdk::GrantMint => Box::pin(grants::mint(vault, &call)).await,
        Sdk::SecretGrant => Box::pin(grants::create(vault, &call)).await,
        Sdk::ProviderCatalogue => Ok(json(200, &*catalogue::PROVIDERS)),
        Sdk::ConnectSession => Box::pin(connect::create(vault, &call)).await,
        Sdk::ConnectPoll => Box::pin(connect::poll(vault, &call)).await,
        Sdk::KeySession => Box::pin(key_entry::create(vault, &call)).await,
        Sdk::IdentityResolve => Box::pin(identity::resolve(vault, &call)).await,
        Sdk::IdentityAssert => Box::pin(identity::assert(vault, &call)).await,
        Sdk::AuthSession => Box::pin(sign_in::session(vault, &call)).await,
        Sdk::AuthPoll => Box::pin(sign_in::poll(vault, &call)).await,
        Sdk::VerifyToken => Box::pin(sign_in::verify(vault, &call)).await,
        Sdk::Scopes => Ok(json(200, &scopes())),
        Sdk::Later => Err(Code::FeatureUnavailable.into()),
    }
}

fn scopes() -> ScopeCatalogue {
    let verbs = || ResourceVerbs { verbs: VERBS.iter().map(|v| (*v).to_owned()).collect() };
    ScopeCatalogue {
        scope_version: SCOPE_VERSION,
        resources: RESOURCES.iter().map(|r| ((*r).to_owned(), verbs())).collect::<BTreeMap<_, _>>(),
        action_verbs: ACTION_VERBS.iter().map(|a| (*a).to_owned()).collect(),
        deprecated: Vec::new(),
    }
}

/// The event of a call refused before it came to its flow, where the route's refusals are events.
pub async fn record_refusal(vault: &Vault, call: &Call, error: Error) -> Error {
    let event = call.event(vault, Kind::TokenDenied, Outcome::Denied).code(error.code).core("mode", "retrieve");
    crate::flow::release::record(vault, event, error).await
}
