//! The real store, in memory, and an account in it. Worlds share a store, each with an account of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::account::{Account, AppProvider, Facts, Renewal};
use grantd_domain::env::{Clock as _, Env, new_uuid};
use grantd_domain::grant::{App, AppState, Credential, CredentialOf, CredentialState};
use grantd_domain::provider::{self, Expiry, RefreshKind};
use grantd_domain::seal::WrappedKey;
use grantd_store::{Location, Store, apps, installs, providers};
use grantd_wire::api::{ConnectSignIn, CustomProvider, Retrieve, TenantMode};
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, DataKeyId, GenerationId, OrganizationId};

use crate::chance::{NOW, World};
use crate::provider::{Pair, Rotation, Temper};

/// A store with an app and its provider.
#[derive(Clone)]
pub struct Fixture {
    pub store: Store,
    app: AppId,
    provider: AppProviderId,
    facts: Arc<provider::Provider>,
}

impl Fixture {
    pub async fn create() -> Self {
        let env = World::new(0);
        let store = Store::open(&Location::Memory, "sim", 1).await.unwrap();
        store.migrate(NOW).await.unwrap();
        let said = CustomProvider {
            authorize_url: Some("https://acme.example.com/authorize".to_owned()),
            token_url: Some("https://acme.example.com/token".to_owned()),
            revoke_url: Some("https://acme.example.com/revoke".to_owned()),
            userinfo_url: Some("https://acme.example.com/userinfo".to_owned()),
            scopes: vec!["read".to_owned()],
            ..CustomProvider::default()
        };
        let facts = Arc::new(provider::of_custom("acme", "Acme", &said, |_| false).unwrap());
        let organization = OrganizationId::from_uuid(new_uuid(&env));
        let app = app(organization, &env);
        let provider = AppProvider {
            id: AppProviderId::from_uuid(new_uuid(&env)),
            app_id: app.id,
            provider_id: "acme".to_owned(),
            name: "Acme".to_owned(),
            facts: Facts::Custom { facts: Arc::clone(&facts), said: Arc::new(said) },
            environment: None,
            fields: BTreeMap::new(),
            client_id: "client-1".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
            hosts: Vec::new(),
            problem: None,
            created_at: NOW,
            updated_at: NOW,
            is_deleted: false,
            version: 1,
        };
        let created = Self { store: store.clone(), app: app.id, provider: provider.id, facts };
        let data_key = DataKeyId::from_uuid(new_uuid(&env));
        let write = move |tx: &mut grantd_store::Tx<'_>| {
            let root_key_id = "00112233aabbccdd".to_owned();
            let key = WrappedKey { id: data_key, app: None, wrapped: vec![1; 61], root_key_id };
            let install = installs::Install {
                data_key_id: key.id,
                pepper: vec![2; 61],
                root_check: vec![3; 61],
                clock_floor: NOW,
            };
            installs::create(tx, &install, &key, organization, NOW)?;
            apps::insert(tx, &app)?;
            providers::insert(tx, &provider)
        };
        store.write(write).await.unwrap();
        created
    }

    /// What is known of the provider of a world.
    pub fn facts(&self, temper: Temper) -> provider::Provider {
        let mut facts = (*self.facts).clone();
        facts.refresh.kind = match temper.rotation {
            Rotation::Strict | Rotation::Grace => RefreshKind::Rotates,
            Rotation::Never => RefreshKind::Stable,
        };
        facts
    }

    /// An account, connected now.
    pub fn account(&self, env: &World, pair: Pair, expiry: Expiry) -> Credential {
        let id = CredentialId::from_uuid(new_uuid(env));
        let account = Account {
            provider: self.provider,
            identifier: id.to_string(),
            name: None,
            scopes: vec!["read".to_owned()],
            pinned_host: None,
            expiry,
            is_refreshable: true,
            rejected_at: None,
            scope_mismatch_at: None,
            renewal: Renewal::default(),
        };
        Credential {
            id,
            app_id: self.app,
            of: CredentialOf::Account(Box::new(account)),
            user_id: None,
            generation: GenerationId::from_uuid(new_uuid(env)),
            state: sealed(pair, env),
            updated_at: env.now(),
            version: 1,
        }
    }
}

/// A pair as a row holds it. The seal is no part of what is simulated.
pub fn sealed(pair: Pair, env: &dyn Env) -> CredentialState {
    CredentialState::Ok { data_key_id: DataKeyId::from_uuid(new_uuid(env)), sealed: pair.seal() }
}

/// The pair of a row that has one.
pub fn pair(credential: &Credential) -> Option<Pair> {
    match &credential.state {
        CredentialState::Ok { sealed, .. } => Some(Pair::open(sealed)),
        CredentialState::Broken(_) | CredentialState::Destroyed => None,
    }
}

fn app(organization_id: OrganizationId, env: &World) -> App {
    App {
        id: AppId::from_uuid(new_uuid(env)),
        organization_id,
        name: "First".to_owned(),
        description: None,
        website_url: None,
        state: AppState::Active,
        tenant_key: None,
        tenant_mode: TenantMode::Off,
        retrieve: Retrieve::On,
        indexed_context_keys: Vec::new(),
        connect_sign_in: ConnectSignIn::Off,
        return_origins: Vec::new(),
        created_at: NOW,
        version: 1,
    }
}
