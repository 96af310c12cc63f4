//! Things to tell stories about.

use std::sync::atomic::{AtomicU64, Ordering};

use grantd_domain::account::{Account, Renewal};
use grantd_domain::audit::{
    Actor, CheckpointKey, Event, Exporter, Kind, Outcome, Owner, Prepared, Report, Trust, verify,
};
use grantd_domain::destination::Rule;
use grantd_domain::env::{Entropy, random};
use grantd_domain::grant::{
    ApiKey, App, AppState, Credential, CredentialOf, CredentialState, Grant, GrantStatus, ManagedSecret, Principal,
    Tenant,
};
use grantd_domain::provider::Expiry;
use grantd_store::hot::{Epochs, Nonce};
use grantd_store::{
    Append, Confirm, Error, Result, Store, Tx, apps, audit, credentials, grants, installs, keys, secrets,
};
use grantd_wire::TimeMs;
use grantd_wire::api::{ConnectSignIn, CredentialType, Retrieve, TenantMode};
use grantd_wire::ids::{
    AppId, AppProviderId, CredentialId, DataKeyId, GenerationId, GrantId, KeyId, OperatorId, OrganizationId, SecretId,
    SigningKeyId, uuid_v7,
};
use grantd_wire::key::KeyType;
use grantd_wire::scope::Scope;
use serde_json::json;

use crate::engine::NOW;

/// Numbers that never repeat in a process.
pub struct Counter;

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let n = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        bytes.fill(0);
        let len = bytes.len().min(n.len());
        let end = bytes.len();
        bytes[end - len..].copy_from_slice(&n[n.len() - len..]);
    }
}

macro_rules! new_ids {
    ($($name:ident: $id:ident,)*) => {$(
        pub fn $name() -> $id { $id::from_uuid(uuid_v7(NOW.0, random(&Counter))) }
    )*};
}

new_ids! {
    app_id: AppId,
    organization_id: OrganizationId,
    key_id: KeyId,
    secret_id: SecretId,
    credential_id: CredentialId,
    generation_id: GenerationId,
    grant_id: GrantId,
    operator_id: OperatorId,
    data_key_id: DataKeyId,
}

pub fn install() -> (installs::Install, grantd_domain::seal::WrappedKey) {
    let id = data_key_id();
    let key = grantd_domain::seal::WrappedKey {
        id,
        app: None,
        wrapped: vec![1; 61],
        root_key_id: "00112233aabbccdd".to_owned(),
    };
    let install = installs::Install { data_key_id: id, pepper: vec![2; 61], root_check: vec![3; 61], clock_floor: NOW };
    (install, key)
}

pub fn app(organization_id: OrganizationId, name: &str) -> App {
    App {
        id: app_id(),
        organization_id,
        name: name.to_owned(),
        description: None,
        website_url: Some("https://example.com".to_owned()),
        state: AppState::Active,
        tenant_key: None,
        tenant_mode: TenantMode::Off,
        retrieve: Retrieve::On,
        indexed_context_keys: vec!["user_id".to_owned()],
        connect_sign_in: ConnectSignIn::Off,
        return_origins: Vec::new(),
        created_at: NOW,
        version: 1,
    }
}

pub fn key(app_id: AppId, name: &str) -> ApiKey {
    ApiKey {
        id: key_id(),
        app_id,
        key_type: KeyType::Runtime,
        key_prefix: "alter_rk_abcd".to_owned(),
        name: name.to_owned(),
        scopes: vec![Scope::parse("*").unwrap()],
        scope_version: 1,
        cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        rate_limit_rpm: Some(60),
        allow_unsigned_identity: false,
        parent_key_id: None,
        created_at: NOW,
        expires_at: None,
        grace_until: None,
        deprecated_at: None,
        revoked_at: None,
    }
}

pub fn secret(app_id: AppId, slug: &str, name: &str) -> ManagedSecret {
    ManagedSecret {
        id: secret_id(),
        app_id,
        slug: slug.to_owned(),
        name: name.to_owned(),
        credential_type: CredentialType::BearerToken,
        header: "Authorization".to_owned(),
        format: "Bearer {token}".to_owned(),
        injections: Vec::new(),
        field_names: Vec::new(),
        hosts: vec![Rule::parse("*.example.com/v1").unwrap()],
        any_host: false,
        created_at: NOW,
        version: 1,
    }
}

pub fn credential(secret: &ManagedSecret) -> Credential {
    Credential {
        id: credential_id(),
        app_id: secret.app_id,
        of: CredentialOf::Secret(secret.id),
        user_id: None,
        generation: generation_id(),
        version: 1,
        state: CredentialState::Ok { data_key_id: data_key_id(), sealed: vec![7; 64] },
        updated_at: NOW,
    }
}

/// Of an account whose token has ended.
pub fn account(app_id: AppId) -> Credential {
    let account = Account {
        provider: AppProviderId::from_uuid(uuid_v7(NOW.0, random(&Counter))),
        identifier: "user-1".to_owned(),
        name: None,
        scopes: vec!["read".to_owned()],
        pinned_host: None,
        expiry: Expiry::At(NOW),
        is_refreshable: true,
        rejected_at: None,
        scope_mismatch_at: None,
        renewal: Renewal::default(),
    };
    Credential {
        id: credential_id(),
        app_id,
        of: CredentialOf::Account(Box::new(account)),
        generation: generation_id(),
        version: 1,
        state: CredentialState::Ok { data_key_id: data_key_id(), sealed: vec![7; 64] },
        user_id: None,
        updated_at: NOW,
    }
}

pub fn grant(credential: &Credential, label: Option<&str>) -> Grant {
    Grant {
        id: grant_id(),
        app_id: credential.app_id,
        credential_id: credential.id,
        principal: Principal::System,
        label: label.map(str::to_owned),
        status: GrantStatus::Active,
        tenant: Tenant::Exempt,
        expires_at: None,
        created_at: NOW,
        last_used_at: None,
        version: 1,
    }
}

/// An organization with one app, its key, a secret, its credential and a grant on it.
#[derive(Clone)]
pub struct World {
    pub organization: OrganizationId,
    pub app: App,
    pub key: ApiKey,
    pub key_hash: [u8; 32],
    pub secret: ManagedSecret,
    pub credential: Credential,
    pub grant: Grant,
}

impl World {
    pub async fn create(store: &Store) -> Self {
        let (install, wrapped) = install();
        let organization = organization_id();
        let created = store.write(move |tx| installs::create(tx, &install, &wrapped, organization, NOW)).await;
        assert!(created.unwrap(), "a story's database is empty");
        Self::app_of(store, organization, "First").await
    }

    /// One more app in the organization, with everything.
    pub async fn app_of(store: &Store, organization: OrganizationId, name: &str) -> Self {
        let app = app(organization, name);
        let key = key(app.id, "Backend");
        let secret = secret(app.id, "stripe", "Stripe");
        let credential = credential(&secret);
        let grant = grant(&credential, Some("live"));
        let key_hash = random(&Counter);
        let world = Self { organization, app, key, key_hash, secret, credential, grant };
        let stored = world.clone();
        store
            .write(move |tx| {
                apps::insert(tx, &stored.app)?;
                keys::insert(tx, &stored.key, &stored.key_hash)?;
                secrets::insert(tx, &mut stored.secret.clone())?;
                credentials::insert(tx, &stored.credential)?;
                grants::insert(tx, &stored.grant)
            })
            .await
            .unwrap();
        world
    }

    pub fn owner(&self) -> Owner {
        Owner::App(self.app.id)
    }

    pub fn event(&self, at: TimeMs, kind: Kind) -> Event {
        Event::new(&Counter, at, self.owner(), kind, Outcome::Allowed, Actor::Key(self.key.id))
    }

    /// A release, as a call would append it.
    pub fn release(&self, at: TimeMs) -> Prepared {
        self.event(at, Kind::TokenReleased).grant(self.grant.id).private("reason", Some("because")).prepare()
    }

    pub async fn epochs(&self, store: &Store) -> Epochs {
        store.find_held(self.app.id, self.grant.id).await.unwrap().unwrap().0
    }

    pub async fn confirm(&self, store: &Store) -> Confirm {
        let (epochs, held) = store.find_held(self.app.id, self.grant.id).await.unwrap().unwrap();
        Confirm {
            organization_id: self.organization,
            app_id: self.app.id,
            epochs,
            credential_id: self.credential.id,
            credential_version: held.unwrap().credential.version,
        }
    }

    pub fn nonce(&self, n: u8) -> Nonce {
        Nonce { key_id: self.key.id, nonce: [n; 16], signed_at: NOW }
    }
}

/// Only an event.
pub fn only(event: Prepared) -> Append {
    Append { event, confirm: None, nonce: None }
}

/// What the server signs with.
pub fn checkpoint_key() -> CheckpointKey {
    CheckpointKey::from_seed(SigningKeyId::from_uuid(uuid_v7(1, [1; 10])), &[1; 32]).unwrap()
}

/// Signs and stores the next checkpoint; whether there was one to sign.
pub fn sign_checkpoint(tx: &mut Tx<'_>, owner: &Owner, at: TimeMs) -> Result<bool> {
    let Some(checkpoint) = audit::next_checkpoint(tx, owner, at)? else { return Ok(false) };
    let text = checkpoint.text();
    audit::insert_checkpoint(tx, owner, &checkpoint, &text, &checkpoint_key().sign_checkpoint(&text))?;
    Ok(true)
}

/// Exports everything of an owner as the server would, and verifies it.
pub async fn verified(store: &Store, owner: Owner) -> Report {
    store.write(move |tx| sign_checkpoint(tx, &owner, NOW)).await.unwrap();
    let lines = store.read(move |tx| export(tx, &owner)).await.unwrap();
    let report = verify(lines.as_bytes(), &Trust { key: Some(checkpoint_key().jwk()), checkpoint: None }).unwrap();
    assert!(report.ok, "{:?}\n{lines}", report.problems);
    report
}

fn export(tx: &mut Tx<'_>, owner: &Owner) -> Result<String> {
    let (mut exporter, mut lines) = Exporter::start(&owner.key(), &json!({}), &[checkpoint_key().jwk()]);
    let mut last = 0;
    loop {
        let page = audit::checkpoints(tx, owner, last)?;
        let Some(end) = page.last() else { break };
        last = end.n;
        for stored in page {
            let body = serde_json::from_str(&stored.body).unwrap();
            lines += &exporter.checkpoint(&body, &stored.key_id, &stored.signature);
        }
    }
    for audit::Stretch { chain_id, mut after, to } in audit::stretches(tx, owner)? {
        while after < to {
            let page = audit::export_chain(tx, owner, &chain_id, after, to)?;
            after = page.last().map(|e| e.seq).ok_or(Error::Busy)?;
            for event in page {
                lines += &exporter.event(&event).unwrap();
            }
        }
    }
    Ok(lines + &exporter.finish(&checkpoint_key()))
}

/// The code a write was refused with.
pub fn refused<T: std::fmt::Debug>(result: Result<T>) -> grantd_wire::Code {
    match result {
        Err(Error::Refused(error)) => error.code,
        other => panic!("not refused: {other:?}"),
    }
}
