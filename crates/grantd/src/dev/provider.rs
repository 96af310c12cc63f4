//! The app's registration with the demo provider.
//!
//! What a developer made under the same name is left alone, and so are accounts: they are never moved to another server.

use std::collections::BTreeMap;

use grantd_sdk::{App, ConnectRequest};
use grantd_wire::api::{CustomProvider, Provider, ProviderCreate, ProviderUpdate};
use reqwest::Method;

use super::made::{DEMO_HOST_PREFIX, find};
use crate::cli::{Api, Exit, Failure, chain};
use crate::demo::issuer::{CLIENT_ID, Issuer, SCOPES};

/// The provider's id in the app.
pub const PROVIDER: &str = "demo";
const NAME: &str = "Demo";

/// Registers the app, or brings its registration up to date. Answers whether accounts can be connected.
pub async fn register(
    api: &Api,
    app_id: &str,
    issuer: &Issuer,
    demo_host: &str,
    notes: &mut Vec<String>,
) -> Result<bool, Failure> {
    let path = ["apps", app_id, "providers", PROVIDER];
    let found: Option<Provider> = find(api, &path).await?;
    let registered = match found {
        None => {
            let secret = issuer.new_client_secret()?;
            let create = ProviderCreate {
                provider: PROVIDER.to_owned(),
                name: Some(NAME.to_owned()),
                custom: Some(custom(issuer)),
                environment: None,
                fields: BTreeMap::new(),
                client_id: CLIENT_ID.to_owned(),
                client_secret: Some(secret.reveal().to_owned()),
                scopes: Vec::new(),
                allowed_hosts: vec![demo_host.to_owned()],
            };
            let created: Provider = api.send_once(&path[..3], &create).await?;
            issuer.set_registered(&created.id)?;
            created
        }
        Some(other) if other.client_id != CLIENT_ID => {
            let why = "is another one: delete that, or go on without the demo provider";
            notes.push(format!("The app's provider `{PROVIDER}` {why}."));
            return Ok(false);
        }
        Some(known) => match update(&known, issuer, demo_host)? {
            None => known,
            Some(update) => match api.send::<Provider>(Method::PATCH, &path, &update).await {
                Ok(updated) => {
                    if update.client_secret.is_some() {
                        issuer.set_registered(&updated.id)?;
                    }
                    updated
                }
                Err(failure) if failure.exit == Exit::Conflict => {
                    notes.push(format!(
                        "Another program has the port of the demo provider, which is at {} this time. Accounts that were connected \
                         there work again when its port is free.",
                        issuer.url()
                    ));
                    return Ok(false);
                }
                Err(failure) => return Err(failure),
            },
        },
    };
    issuer.admit(&registered.redirect_uri);
    Ok(true)
}

/// The link to connect an account, asked for as any backend does. An app may be set so that it gets none: a note says why, and
/// everything else goes on.
pub async fn link(base_url: &str, api_key: &str, notes: &mut Vec<String>) -> Result<Option<String>, Failure> {
    let unusable = |e: grantd_sdk::Error| Failure::local(format!("no link could be asked for: {}", chain(&e)));
    let app = App::builder(api_key.to_owned()).base_url(base_url).build().map_err(unusable)?;
    let begun = app.create_connect_session(ConnectRequest::new().providers([PROVIDER])).await;
    app.close().await;
    match begun {
        Ok(session) => Ok(Some(session.connect_url)),
        Err(error) => {
            notes.push(format!("There is no link to connect an account: {}", chain(&error)));
            Ok(None)
        }
    }
}

fn custom(issuer: &Issuer) -> CustomProvider {
    CustomProvider {
        issuer: Some(issuer.url().to_owned()),
        scopes: SCOPES.iter().map(|(scope, _)| (*scope).to_owned()).collect(),
        scope_texts: SCOPES.iter().map(|(scope, text)| ((*scope).to_owned(), (*text).to_owned())).collect(),
        account_name: vec!["/email".to_owned()],
        ..CustomProvider::default()
    }
}

/// What has to change for accounts to be connected. Everything else about it is the developer's.
fn update(known: &Provider, issuer: &Issuer, demo_host: &str) -> Result<Option<ProviderUpdate>, Failure> {
    let mut update = ProviderUpdate::default();
    if known.custom.as_ref().and_then(|custom| custom.issuer.as_deref()) != Some(issuer.url()) {
        update.custom = Some(custom(issuer));
    }
    // Where it would be sent elsewhere, it must be given again.
    if update.custom.is_some() || !issuer.is_registered(&known.id) {
        update.client_secret = Some(issuer.new_client_secret()?.reveal().to_owned());
    }
    if !known.allowed_hosts.iter().any(|host| host == demo_host) {
        let others = known.allowed_hosts.iter().filter(|host| !host.starts_with(DEMO_HOST_PREFIX)).cloned();
        update.allowed_hosts = Some(std::iter::once(demo_host.to_owned()).chain(others).collect());
    }
    Ok(Some(update).filter(|update| *update != ProviderUpdate::default()))
}
