//! OAuth providers, as the catalogue has them.

use grantd_domain::provider::{self, Provider};
use grantd_wire::api::{self, ListQuery};
use grantd_wire::{Code, Error};

use super::templates::{evidence, field, found};
use super::{Request, page};
use crate::answer::{Answer, json as answer};
use crate::parse;

fn view(provider: &Provider) -> api::CatalogProvider {
    api::CatalogProvider {
        id: provider.id.clone(),
        name: provider.name.clone(),
        category: provider.category.clone(),
        description: provider.description.clone(),
        setup: provider.setup.clone(),
        fields: provider.fields.iter().map(field).collect(),
        authorize_url: provider.authorize.url.clone(),
        token_url: provider.token.url.clone(),
        revoke_url: provider.revoke.as_ref().map(|revoke| revoke.url.clone()),
        issuer: provider.authorize.issuer.clone(),
        pkce: provider.authorize.pkce.as_str().to_owned(),
        refresh: provider.refresh.kind.as_str().to_owned(),
        behaviours: provider.behaviours().into_iter().map(|behaviour| behaviour.as_str().to_owned()).collect(),
        default_scopes: provider.scopes.default.clone(),
        required_scopes: provider.scopes.required.clone(),
        scopes: provider.scopes.known.clone(),
        allowed_hosts: provider.hosts.allow.clone(),
        account_hosts: provider.hosts.pin.as_ref().map(|pin| pin.patterns.clone()).unwrap_or_default(),
        environments: provider.environments.iter().map(|(id, of)| (id.clone(), of.name.clone())).collect(),
        docs_url: provider.docs.clone(),
        verified: provider.is_verified(),
        evidence: provider.evidence().map(|(group, of)| (group.to_owned(), evidence(of))).collect(),
    }
}

pub fn list(request: &Request) -> Result<Answer, Error> {
    let query: ListQuery = request.query()?;
    let (limit, offset) = parse::page(query.limit, query.offset)?;
    let search = query.search.unwrap_or_default();
    let texts = |provider: &'static Provider| [&*provider.id, &*provider.name, &*provider.category];
    let (items, total) = found(provider::all(), texts, &search, limit, offset);
    Ok(page(items.into_iter().map(view).collect(), total, limit, offset))
}

pub fn show(request: &Request) -> Result<Answer, Error> {
    let id = parse::segment(&request.params[0]).unwrap_or_default();
    let provider = provider::find(&id).ok_or_else(|| {
        Error::new(Code::NotFound)
            .message("There is no such provider in the catalogue.")
            .hint("`grantd providers list-catalog` lists those there are.")
    })?;
    Ok(answer(200, &view(provider)))
}
