//! The catalogue of OAuth providers, as the official client reads it.

use std::sync::LazyLock;

use grantd_domain::provider::{self, Provider};
use grantd_wire::sdk::{CatalogueProvider, CatalogueScope, ProviderCatalogue};

/// It is the same for every app and every call.
pub static PROVIDERS: LazyLock<ProviderCatalogue> = LazyLock::new(|| ProviderCatalogue {
    providers: provider::all().iter().map(|provider| (provider.id.clone(), view(provider))).collect(),
});

fn view(provider: &Provider) -> CatalogueProvider {
    let scopes = &provider.scopes;
    let known = scopes.known.keys().chain(&scopes.default);
    let scope = |name: &String| CatalogueScope {
        description: scopes.known.get(name).unwrap_or(name).clone(),
        required: scopes.required.contains(name),
        is_default: scopes.default.contains(name),
        requires: Vec::new(),
    };
    CatalogueProvider {
        id: provider.id.clone(),
        name: provider.id.clone(),
        display_name: provider.name.clone(),
        status: "active".to_owned(),
        supports_refresh: provider.is_refreshable(),
        supports_pkce: provider.authorize.pkce.is_sent(),
        available_scopes: known.map(|name| (name.clone(), scope(name))).collect(),
        default_scopes: scopes.default.clone(),
        required_scopes: scopes.required.clone(),
        category: provider.category.clone(),
        description: provider.description.clone(),
    }
}
