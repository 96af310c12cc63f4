//! Data keys in use: unwrapped once, kept in memory, never written anywhere but wrapped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use grantd_domain::account::{AppProvider, SealedSecret};
use grantd_domain::env::{Env, new_uuid};
use grantd_domain::grant::{Credential, CredentialState};
use grantd_domain::seal::{DATA_KEY_LIFE_MS, DataKey, Place, RootKeys, SEALS_BLOCK, SEALS_MAX, SealError, key_id};
use grantd_domain::secret::Secret;
use grantd_store::{Store, apps, crash, data_keys};
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, DataKeyId, IdentityProviderId};
use grantd_wire::{Code, Error, TimeMs};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::answer::of_store;

/// Opens and seals.
pub struct KeyRing {
    root: RootKeys,
    store: Store,
    open: Mutex<HashMap<DataKeyId, Arc<DataKey>>>,
    sealing: Mutex<HashMap<Option<AppId>, Sealing>>,
}

/// The key an app, or the install, seals with, and how many seals of the reserved block are left.
struct Sealing {
    key: Arc<DataKey>,
    left: i64,
    until: TimeMs,
}

/// Where a credential's value is sealed.
pub(crate) fn place<'a>(app: AppId, id: CredentialId, version: i64) -> Place<'a> {
    Place { table: "credentials", app: Some(app), row: *id.as_bytes(), field: "sealed", version }
}

/// Where the secret that an app got from a provider is sealed.
pub(crate) fn client_secret_place<'a>(app: AppId, id: AppProviderId, version: i64) -> Place<'a> {
    Place { table: "providers", app: Some(app), row: *id.as_bytes(), field: "client_secret", version }
}

/// Where the secret that an app got from an identity provider is sealed.
pub(crate) fn idp_secret_place<'a>(app: AppId, id: IdentityProviderId, version: i64) -> Place<'a> {
    Place { table: "identity_providers", app: Some(app), row: *id.as_bytes(), field: "client_secret", version }
}

/// Where the secret of an identity provider's webhook is sealed for.
pub(crate) fn webhook_secret_place<'a>(app: AppId, id: IdentityProviderId, version: i64) -> Place<'a> {
    Place { table: "idp_webhooks", app: Some(app), row: *id.as_bytes(), field: "sealed_secret", version }
}

impl KeyRing {
    /// A ring over the store's data keys.
    pub fn new(root: RootKeys, store: Store) -> Self {
        Self { root, store, open: Mutex::default(), sealing: Mutex::default() }
    }

    /// The root keys.
    pub fn root(&self) -> &RootKeys {
        &self.root
    }

    async fn find(&self, app: Option<AppId>, id: DataKeyId) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(key));
        }
        let wrapped = self.store.read(move |tx| data_keys::find(tx, app, id)).await.map_err(of_store)?;
        let wrapped = wrapped.ok_or_else(|| {
            tracing::error!(data_key.id = %id, "A sealed value names a data key that is not there");
            Error::new(Code::KeyUnavailable)
        })?;
        let key = self.root.unwrap(&wrapped).map_err(|e| {
            tracing::error!(data_key.id = %id, error = %e, "A data key cannot be unwrapped");
            Error::new(Code::KeyUnavailable)
        })?;
        let key = Arc::new(key);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&key));
        Ok(key)
    }

    /// Drops the keys of a deleted app. Another process keeps what it had opened until it ends, and opens nothing with it.
    pub fn forget(&self, app: AppId, keys: &[DataKeyId]) {
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner).remove(&Some(app));
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !keys.contains(id));
    }

    /// Opens a credential's value.
    pub async fn open(&self, credential: &Credential) -> Result<Secret, Error> {
        let CredentialState::Ok { data_key_id, sealed } = &credential.state else {
            return Err(Error::new(Code::GrantDeleted));
        };
        let key = self.find(Some(credential.app_id), *data_key_id).await?;
        key.open_text(place(credential.app_id, credential.id, credential.version), sealed).map_err(|e| {
            tracing::error!(credential.id = %credential.id, error = %e, "A credential does not open");
            Error::new(Code::KeyUnavailable)
        })
    }

    /// Opens the secret that an app got from a provider.
    pub async fn open_client_secret(&self, provider: &AppProvider, secret: &SealedSecret) -> Result<Secret, Error> {
        let place = client_secret_place(provider.app_id, provider.id, secret.version);
        self.open_of_app(provider.app_id, place, &secret.sealed).await
    }

    /// Opens a text of an app, whichever of its keys sealed it.
    pub(crate) async fn open_of_app(&self, app: AppId, place: Place<'_>, sealed: &[u8]) -> Result<Secret, Error> {
        let closed = |e: SealError| {
            tracing::error!(table = place.table, app.id = %app, error = %e, "A value does not open");
            Error::new(Code::KeyUnavailable)
        };
        let id = DataKeyId::from_uuid(Uuid::from_bytes(key_id(sealed).map_err(closed)?));
        self.find(Some(app), id).await?.open_text(place, sealed).map_err(closed)
    }

    /// Seals a value of an app.
    pub async fn seal_of_app(
        &self,
        env: &dyn Env,
        app: AppId,
        place: Place<'_>,
        value: &[u8],
    ) -> Result<Vec<u8>, Error> {
        Ok(self.take_seal(env, Some(app)).await?.seal(env, place, value))
    }

    /// Seals a value for the credential at the version it will be stored with.
    pub async fn seal(
        &self,
        env: &dyn Env,
        app: AppId,
        id: CredentialId,
        version: i64,
        value: &Secret,
    ) -> Result<CredentialState, Error> {
        let key = self.take_seal(env, Some(app)).await?;
        let sealed = key.seal(env, place(app, id, version), value.reveal().as_bytes());
        Ok(CredentialState::Ok { data_key_id: key.id(), sealed })
    }

    /// Opens a value of the install, whichever of its keys sealed it.
    pub(crate) async fn open_of_install(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let closed = |e: SealError| {
            tracing::error!(table = place.table, error = %e, "A value of the install does not open");
            Error::new(Code::KeyUnavailable)
        };
        let id = DataKeyId::from_uuid(Uuid::from_bytes(key_id(sealed).map_err(closed)?));
        self.find(None, id).await?.open(place, sealed).map_err(closed)
    }

    /// Opens what somebody outside was given sealed and sends back; `None`: it is none of that, which says nothing about this install.
    pub(crate) async fn open_sent_back(
        &self,
        place: Place<'_>,
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let Ok(id) = key_id(sealed) else { return Ok(None) };
        let id = DataKeyId::from_uuid(Uuid::from_bytes(id));
        if self.store.read(move |tx| data_keys::find(tx, None, id)).await.map_err(of_store)?.is_none() {
            return Ok(None);
        }
        Ok(self.find(None, id).await?.open(place, sealed).ok())
    }

    /// The key to seal one value with, of the app or of the install.
    pub(crate) async fn take_seal(&self, env: &dyn Env, app: Option<AppId>) -> Result<Arc<DataKey>, Error> {
        let now = env.now();
        if let Some(sealing) = self.sealing.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&app)
            && sealing.left > 0
            && now < sealing.until
        {
            sealing.left -= 1;
            return Ok(Arc::clone(&sealing.key));
        }
        let (made, wrapped) = self.root.new_data_key(env, DataKeyId::from_uuid(new_uuid(env)), app);
        let made_after = now.plus_ms(-DATA_KEY_LIFE_MS);
        let current = self
            .store
            .write(move |tx| {
                let current = match app {
                    None => data_keys::find_current_of_install(tx, made_after, SEALS_MAX)?,
                    Some(app) if apps::is_deleted(tx, app)? => {
                        return Err(Error::new(Code::Conflict).message("The app is deleted.").into());
                    }
                    Some(app) => data_keys::find_current(tx, app, made_after, SEALS_MAX)?,
                };
                if let Some(current) = current
                    && data_keys::reserve(tx, current.id, SEALS_MAX)?
                {
                    return Ok(Some(current.id));
                }
                data_keys::insert(tx, &wrapped, now)?;
                Ok(None)
            })
            .await
            .map_err(of_store)?;
        crash::step("data_key.stored");
        let key = match current {
            Some(id) => self.find(app, id).await?,
            None => {
                let key = Arc::new(made);
                self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key.id(), Arc::clone(&key));
                key
            }
        };
        // An hour: long enough to be cheap, short enough that a key retires close to its day.
        let sealing = Sealing { key: Arc::clone(&key), left: SEALS_BLOCK - 1, until: now.plus_ms(3_600_000) };
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner).insert(app, sealing);
        Ok(key)
    }
}
