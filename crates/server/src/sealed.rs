//! Which stored values can be opened, without handing one out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use grantd_domain::grant::CredentialState;
use grantd_domain::seal::{DataKey, Place, RootKeys, UnwrapError, key_id};
use grantd_store::{Store, credentials, data_keys, identity_providers, idp_webhooks, providers, signing_keys, totps};
use grantd_wire::ids::{AppId, AppProviderId, CredentialId, DataKeyId, IdentityProviderId, OperatorId, SigningKeyId};
use uuid::Uuid;

use crate::flow::totp::totp_place;
use crate::install::signing_place;
use crate::keyring::{client_secret_place, idp_secret_place, place, webhook_secret_place};

/// Values of one read.
const PAGE: i64 = 500;
/// Values that are named; more are only counted.
pub const NAMED_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Sealed {
    pub opened: u64,
    /// They were marked so, and wait for a new value.
    pub broken: Named,
    /// They do not open with the keys that were given.
    pub closed: Named,
    /// Keys that sign assertions, and open.
    pub identity_keys: u64,
    /// Those that do not.
    pub closed_identity_keys: Vec<SigningKeyId>,
    /// Root keys that are missing.
    pub missing_root_keys: Vec<String>,
}

/// What a sealed value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    Credential(CredentialId),
    /// The client secret of a provider.
    ClientSecret(AppProviderId),
    /// The client secret of an identity provider.
    IdpSecret(IdentityProviderId),
    /// The secret of an identity provider's webhook.
    WebhookSecret(IdentityProviderId),
    /// What an operator's authenticator app and grantd share; of no app.
    Authenticator(OperatorId),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(id) => write!(f, "credential {id}"),
            Self::ClientSecret(id) => write!(f, "client secret of provider {id}"),
            Self::IdpSecret(id) => write!(f, "client secret of identity provider {id}"),
            Self::WebhookSecret(id) => write!(f, "webhook secret of identity provider {id}"),
            Self::Authenticator(id) => write!(f, "authenticator app of operator {id}"),
        }
    }
}

/// Values, counted, and the first of them by app, if they are of one, and id.
#[derive(Debug, Default)]
pub struct Named {
    pub count: u64,
    pub first: Vec<(Option<AppId>, Value)>,
}

impl Named {
    fn add(&mut self, app: Option<AppId>, value: Value) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push((app, value));
        }
    }
}

/// Opens every stored value once.
pub async fn check(store: &Store, root: &RootKeys) -> grantd_store::Result<Sealed> {
    let mut check = Check { store, root, keys: HashMap::new(), sealed: Sealed::default() };
    check.credentials().await?;
    check.client_secrets().await?;
    check.idp_secrets().await?;
    check.webhook_secrets().await?;
    check.authenticators().await?;
    check.identity_keys().await?;
    Ok(check.sealed)
}

struct Check<'a> {
    store: &'a Store,
    root: &'a RootKeys,
    keys: HashMap<DataKeyId, Option<DataKey>>,
    sealed: Sealed,
}

impl Check<'_> {
    async fn credentials(&mut self) -> grantd_store::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.read(move |tx| credentials::list_all(tx, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.app_id, last.id));
            for credential in page {
                let (app, value) = (credential.app_id, Value::Credential(credential.id));
                match credential.state {
                    CredentialState::Ok { data_key_id, sealed } => {
                        let place = place(app, credential.id, credential.version);
                        self.open(app, value, Some(data_key_id), place, &sealed).await?;
                    }
                    _ => self.sealed.broken.add(Some(app), value),
                }
            }
        }
    }

    async fn client_secrets(&mut self) -> grantd_store::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.read(move |tx| providers::list_all(tx, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.app_id, last.id));
            for provider in page {
                let Some(secret) = provider.client_secret else { continue };
                let key = key_id(&secret.sealed).ok().map(|id| DataKeyId::from_uuid(Uuid::from_bytes(id)));
                let place = client_secret_place(provider.app_id, provider.id, secret.version);
                self.open(provider.app_id, Value::ClientSecret(provider.id), key, place, &secret.sealed).await?;
            }
        }
    }

    async fn idp_secrets(&mut self) -> grantd_store::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.read(move |tx| identity_providers::list_all(tx, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.app_id, last.id));
            for idp in page {
                let Some(secret) = idp.client_secret else { continue };
                let key = key_id(&secret.sealed).ok().map(|id| DataKeyId::from_uuid(Uuid::from_bytes(id)));
                let place = idp_secret_place(idp.app_id, idp.id, secret.version);
                self.open(idp.app_id, Value::IdpSecret(idp.id), key, place, &secret.sealed).await?;
            }
        }
    }

    async fn webhook_secrets(&mut self) -> grantd_store::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.read(move |tx| idp_webhooks::list_sealed(tx, after, PAGE)).await?;
            let Some((app, idp, _)) = page.last() else { return Ok(()) };
            after = Some((*app, *idp));
            for (app, idp, secret) in page {
                let key = key_id(&secret.sealed).ok().map(|id| DataKeyId::from_uuid(Uuid::from_bytes(id)));
                let place = webhook_secret_place(app, idp, secret.version);
                self.open(app, Value::WebhookSecret(idp), key, place, &secret.sealed).await?;
            }
        }
    }

    async fn authenticators(&mut self) -> grantd_store::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.read(move |tx| totps::list_all(tx, after, PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.operator_id);
            for totp in page {
                let key = key_id(&totp.sealed).ok().map(|id| DataKeyId::from_uuid(Uuid::from_bytes(id)));
                let place = totp_place(totp.operator_id, totp.version);
                self.open(None, Value::Authenticator(totp.operator_id), key, place, &totp.sealed).await?;
            }
        }
    }

    /// They are the install's, and of no app.
    async fn identity_keys(&mut self) -> grantd_store::Result<()> {
        for (row, _) in self.store.read(signing_keys::list_for_identity).await? {
            let key = self.key(None, row.data_key_id).await?;
            match key.map(|key| key.open(signing_place(row.id), &row.private_sealed)) {
                Some(Ok(_)) => self.sealed.identity_keys += 1,
                _ => self.sealed.closed_identity_keys.push(row.id),
            }
        }
        Ok(())
    }

    async fn open(
        &mut self,
        app: impl Into<Option<AppId>>,
        value: Value,
        key: Option<DataKeyId>,
        place: Place<'_>,
        sealed: &[u8],
    ) -> grantd_store::Result<()> {
        let app = app.into();
        let key = match key {
            Some(id) => self.key(app, id).await?,
            None => None,
        };
        match key.map(|key| key.open(place, sealed)) {
            Some(Ok(_)) => self.sealed.opened += 1,
            _ => self.sealed.closed.add(app, value),
        }
        Ok(())
    }

    async fn key(&mut self, app: Option<AppId>, id: DataKeyId) -> grantd_store::Result<Option<&DataKey>> {
        if let Entry::Vacant(entry) = self.keys.entry(id) {
            let wrapped = self.store.read(move |tx| data_keys::find(tx, app, id)).await?;
            let key = wrapped.map(|wrapped| self.root.unwrap(&wrapped));
            if let Some(Err(UnwrapError::Missing(missing))) = &key
                && !self.sealed.missing_root_keys.contains(&missing.0)
            {
                self.sealed.missing_root_keys.push(missing.0.clone());
            }
            entry.insert(key.and_then(Result::ok));
        }
        Ok(self.keys.get(&id).and_then(Option::as_ref))
    }
}
