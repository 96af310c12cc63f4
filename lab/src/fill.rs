//! Grants and events by the hundred thousand, written by grantd's own store into the install of a server that is stopped.
//!
//! Every credential is sealed for its place and every event is linked into its chain, so the server and `audit verify` find
//! nothing but what grantd itself could have written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use grantd_domain::audit::{Actor, Event, Kind, Outcome, Owner};
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::Rule;
use grantd_domain::env::{Clock as _, new_uuid};
use grantd_domain::grant::{
    Credential, CredentialOf, CredentialState, Grant, GrantStatus, ManagedSecret, Principal, Tenant,
};
use grantd_domain::identity::{Endpoints, IdentityProvider, Preset, ProviderState, User, UserStatus};
use grantd_domain::seal::{DataKey, Place, RootKey, RootKeys};
use grantd_store::{Append, Appended, Location, Store, credentials, data_keys, grants, identity_providers, secrets};
use grantd_wire::api::CredentialType;
use grantd_wire::ids::{AppId, CredentialId, DataKeyId, GenerationId, GrantId, IdentityProviderId, SecretId, UserId};
use grantd_wire::sign::unhex;

use crate::grantd::{Access, Install};
use crate::host::{Host, instant};
use crate::{Error, Result};

/// Characters of each credential: those of a token with a few claims.
pub const TOKEN_CHARS: usize = 1_600;
/// Grants of one managed secret, each with a credential of its own.
const GRANTS_PER_SECRET: usize = 1_000;
/// Rows of one write: what a write of grantd itself may have at most.
const ROWS_PER_WRITE: usize = 250;
/// Events under way at a time.
const EVENTS_IN_FLIGHT: usize = 512;
/// PostgreSQL connections.
const POOL_SIZE: usize = 4;

/// The grants of an install.
pub struct Filled {
    /// Their ids.
    pub grants: Vec<GrantId>,
    /// Bytes of one sealed credential.
    pub sealed_bytes: usize,
}

/// How fast events went in.
#[derive(Clone, Copy, Debug)]
pub struct EventsRate {
    /// Written.
    pub events: u64,
    /// In this time.
    pub took: Duration,
}

pub(crate) async fn open(install: &Install) -> Result<Store> {
    let url = install.database_url();
    let location = Location::parse(&url).map_err(|e| Error(format!("the install's database: {e}")))?;
    let process = new_uuid(&Host).to_string();
    Store::open(&location, &process, POOL_SIZE)
        .await
        .map_err(|e| Error::because("cannot open the install's database", e))
}

pub(crate) fn root_keys(install: &Install) -> Result<RootKeys> {
    let text = fs::read_to_string(install.directory().join("root.key"));
    let text = text.map_err(|e| Error::because("cannot read the install's root key", e))?;
    let material: [u8; 32] = unhex(text.trim()).ok_or_else(|| Error("the root key is not in hex".to_owned()))?;
    Ok(RootKeys::new(RootKey::new(&material), Vec::new()))
}

/// Writes `count` grants, each with a sealed credential of its own.
pub async fn grants(install: &Install, app: AppId, count: usize) -> Result<Filled> {
    let failed = |e| Error::because("cannot write grants", e);
    let store = open(install).await?;
    let id = DataKeyId::from_uuid(new_uuid(&Host));
    let (data_key, wrapped) = root_keys(install)?.new_data_key(&Host, id, Some(app));
    let now = Host.now();
    store.write(move |tx| data_keys::insert(tx, &wrapped, now)).await.map_err(failed)?;
    let mut filled = Filled { grants: Vec::with_capacity(count), sealed_bytes: 0 };
    let mut secret = secret_of(app, 0);
    while filled.grants.len() < count {
        // A secret is written with the first of its grants.
        let made_secret = filled.grants.len().is_multiple_of(GRANTS_PER_SECRET).then(|| {
            secret = secret_of(app, filled.grants.len() / GRANTS_PER_SECRET);
            secret.clone()
        });
        let rows = ROWS_PER_WRITE.min(count - filled.grants.len());
        let rows: Vec<(Credential, Grant)> = (0..rows).map(|_| grant_of(app, secret.id, &data_key)).collect();
        filled.grants.extend(rows.iter().map(|(_, grant)| grant.id));
        if let Some((Credential { state: CredentialState::Ok { sealed, .. }, .. }, _)) = rows.first() {
            filled.sealed_bytes = sealed.len();
        }
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            if let Some(secret) = &made_secret {
                secrets::insert(tx, &mut secret.clone())?;
            }
            for (credential, grant) in &rows {
                credentials::insert(tx, credential)?;
                grants::insert(tx, grant)?;
            }
            Ok(())
        };
        store.write(write).await.map_err(failed)?;
    }
    store.close().await;
    Ok(filled)
}

fn secret_of(app: AppId, number: usize) -> ManagedSecret {
    ManagedSecret {
        id: SecretId::from_uuid(new_uuid(&Host)),
        app_id: app,
        slug: format!("lab-{number}"),
        name: format!("Lab {number}"),
        credential_type: CredentialType::BearerToken,
        header: "Authorization".to_owned(),
        format: "Bearer {token}".to_owned(),
        injections: Vec::new(),
        field_names: Vec::new(),
        hosts: vec![Rule::parse("api.example.com").expect("a host is a rule")],
        any_host: false,
        created_at: Host.now(),
        version: 1,
    }
}

fn grant_of(app: AppId, secret: SecretId, data_key: &DataKey) -> (Credential, Grant) {
    let id = CredentialId::from_uuid(new_uuid(&Host));
    let value = SecretValue::new("t".repeat(TOKEN_CHARS), BTreeMap::new()).text();
    let sealed = sealed(data_key, app, id, value.reveal());
    pair(app, id, CredentialOf::Secret(secret), CredentialState::Ok { data_key_id: data_key.id(), sealed })
}

/// What a credential holds, sealed for its place.
pub(crate) fn sealed(data_key: &DataKey, app: AppId, id: CredentialId, text: &str) -> Vec<u8> {
    let place = Place { table: "credentials", app: Some(app), row: *id.as_bytes(), field: "sealed", version: 1 };
    data_key.seal(&Host, place, text.as_bytes())
}

/// A credential and the grant on it.
pub(crate) fn pair(app: AppId, id: CredentialId, of: CredentialOf, state: CredentialState) -> (Credential, Grant) {
    let credential = Credential {
        id,
        app_id: app,
        of,
        user_id: None,
        generation: GenerationId::from_uuid(new_uuid(&Host)),
        version: 1,
        state,
        updated_at: Host.now(),
    };
    let grant = Grant {
        id: GrantId::from_uuid(new_uuid(&Host)),
        app_id: app,
        credential_id: id,
        principal: Principal::System,
        label: None,
        status: GrantStatus::Active,
        tenant: Tenant::Exempt,
        expires_at: None,
        created_at: Host.now(),
        last_used_at: None,
        version: 1,
    };
    (credential, grant)
}

/// Writes `count` users of one identity provider, which is made for them. Answers both ids: the provider's, and of a user in the middle.
pub async fn users(install: &Install, app: AppId, count: usize) -> Result<(IdentityProviderId, UserId)> {
    let failed = |e| Error::because("cannot write users", e);
    let store = open(install).await?;
    let idp = idp_of(app)?;
    let idp_id = idp.id;
    store.write(move |tx| identity_providers::insert(tx, &idp)).await.map_err(failed)?;
    let people: Vec<User> = (0..count).map(|number| user_of(app, idp_id, number)).collect();
    let middle = people.get(count / 2).ok_or_else(|| Error("no users are asked for".to_owned()))?.id;
    for rows in people.chunks(ROWS_PER_WRITE) {
        let rows = rows.to_vec();
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            rows.iter().try_for_each(|user| grantd_store::users::insert(tx, user).map(drop))
        };
        store.write(write).await.map_err(failed)?;
    }
    store.close().await;
    Ok((idp_id, middle))
}

fn idp_of(app: AppId) -> Result<IdentityProvider> {
    let preset = Preset::find("oidc").ok_or_else(|| Error("there is no preset for any issuer".to_owned()))?;
    let issuer = "https://id.example.com";
    Ok(IdentityProvider {
        id: IdentityProviderId::from_uuid(new_uuid(&Host)),
        app_id: app,
        name: "Lab".to_owned(),
        preset,
        issuer: issuer.to_owned(),
        audiences: vec!["lab".to_owned()],
        algorithms: preset.algorithms.to_vec(),
        claims: preset.claims(),
        endpoints: Endpoints { jwks_url: format!("{issuer}/keys"), ..Endpoints::default() },
        client_id: None,
        client_secret: None,
        scopes: Vec::new(),
        state: ProviderState::Active,
        created_at: Host.now(),
        updated_at: Host.now(),
        is_deleted: false,
        version: 1,
    })
}

fn user_of(app: AppId, idp_id: IdentityProviderId, number: usize) -> User {
    User {
        id: UserId::from_uuid(new_uuid(&Host)),
        app_id: app,
        idp_id,
        subject: format!("lab|{number}"),
        status: UserStatus::Active,
        email: Some(format!("person{number}@example.com")),
        name: Some(format!("Person {number}")),
        roles: BTreeSet::new(),
        told_at: None,
        told_hash: None,
        last_seen_at: Some(Host.now()),
        created_at: Host.now(),
        updated_at: Host.now(),
        version: 1,
    }
}

/// Appends `count` events of releases as fast as the store takes them, indexed like any other.
pub async fn events(install: &Install, access: &Access, grants: &[GrantId], count: u64) -> Result<EventsRate> {
    let store = open(install).await?;
    let began = instant();
    let each = count.div_ceil(u64::try_from(EVENTS_IN_FLIGHT).unwrap_or(1));
    let mut tasks = tokio::task::JoinSet::new();
    let mut left = count;
    while left > 0 {
        let mine = each.min(left);
        left -= mine;
        let (store, access, grants) = (store.clone(), access.clone(), grants.to_vec());
        tasks.spawn(async move {
            for number in 0..mine {
                let at = usize::try_from(left + number).unwrap_or(0) % grants.len();
                let event = released(&access, grants[at]);
                match store.append(Append { event: event.prepare(), confirm: None, nonce: None }).await {
                    Ok(Appended::Done) => {}
                    other => return Err(Error(format!("an event was not written: {other:?}"))),
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|e| Error::because("a writer of events ended", e))??;
    }
    store.index_all().await.map_err(|e| Error::because("cannot index the events", e))?;
    let took = began.elapsed();
    store.close().await;
    Ok(EventsRate { events: count, took })
}

fn released(access: &Access, grant: GrantId) -> Event {
    Event::new(
        &Host,
        Host.now(),
        Owner::App(access.app),
        Kind::TokenReleased,
        Outcome::Allowed,
        Actor::Key(access.key_id),
    )
    .key(access.key_id, &access.key_prefix)
    .grant(grant)
    .core("mode", "retrieve")
    .private("reason", Some("load"))
    .target("GET", "api.example.com", "/v1/items", &[])
    .provider("lab-0")
    .core("principal_type", "system")
}
