//! Which stored values can be opened, without handing one out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use grantd_domain::grant::CredentialState;
use grantd_domain::seal::{DataKey, RootKeys, UnwrapError};
use grantd_store::{Store, credentials, data_keys};
use grantd_wire::ids::{AppId, CredentialId, DataKeyId};

use crate::keyring::place;

/// Credentials of one read.
const PAGE: i64 = 500;
/// Credentials that are named; more are only counted.
pub const NAMED_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Sealed {
    pub opened: u64,
    /// They were marked so, and wait for a new value.
    pub broken: Named,
    /// They do not open with the keys that were given.
    pub closed: Named,
    /// Root keys that are missing.
    pub missing_root_keys: Vec<String>,
}

/// Credentials, counted, and the first of them by app and id.
#[derive(Debug, Default)]
pub struct Named {
    pub count: u64,
    pub first: Vec<(AppId, CredentialId)>,
}

impl Named {
    fn add(&mut self, app: AppId, id: CredentialId) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push((app, id));
        }
    }
}

/// Opens every stored value once.
pub async fn check(store: &Store, root: &RootKeys) -> grantd_store::Result<Sealed> {
    let mut sealed = Sealed::default();
    let mut keys: HashMap<DataKeyId, Option<DataKey>> = HashMap::new();
    let mut after = None;
    loop {
        let page = store.read(move |tx| credentials::list_all(tx, after, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(sealed) };
        after = Some((last.app_id, last.id));
        for credential in page {
            let (app, id) = (credential.app_id, credential.id);
            let CredentialState::Ok { data_key_id, sealed: value } = credential.state else {
                sealed.broken.add(app, id);
                continue;
            };
            if let Entry::Vacant(entry) = keys.entry(data_key_id) {
                let wrapped = store.read(move |tx| data_keys::find(tx, Some(app), data_key_id)).await?;
                let key = wrapped.map(|wrapped| root.unwrap(&wrapped));
                if let Some(Err(UnwrapError::Missing(missing))) = &key
                    && !sealed.missing_root_keys.contains(&missing.0)
                {
                    sealed.missing_root_keys.push(missing.0.clone());
                }
                entry.insert(key.and_then(Result::ok));
            }
            let key = keys.get(&data_key_id).and_then(Option::as_ref);
            match key.map(|key| key.open(place(app, id, credential.version), &value)) {
                Some(Ok(_)) => sealed.opened += 1,
                _ => sealed.closed.add(app, id),
            }
        }
    }
}
