//! Making an install, and opening one: root key, pepper, checkpoint key.

use aws_lc_rs::hmac;
use grantd_domain::audit::{Actor, CheckpointKey, Event, Kind, Outcome, Owner};
use grantd_domain::env::{Env, new_token, new_uuid, random};
use grantd_domain::seal::{DataKey, Place, RootKeys};
use grantd_domain::secret::Secret;
use grantd_store::installs::Install;
use grantd_store::operators::{Operator, Pat, Role};
use grantd_store::signing_keys::SigningKey;
use grantd_store::{Store, append_event, crash, data_keys, installs, operators, signing_keys};
use grantd_wire::ids::{DataKeyId, OperatorId, OrganizationId, PatId, SigningKeyId};
use grantd_wire::limits::PAT_DAYS_DEFAULT;
use grantd_wire::sign::sha256;
use serde_json::Value;
use zeroize::Zeroizing;

/// Why an install cannot be opened. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("the database holds no install. Run `grantd init` first")]
    Missing,
    #[error(
        "the root key is not the one this database was made with; nothing was changed. Point root_key at the right key, or restore the key from where you keep it"
    )]
    WrongRootKey,
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Store(#[from] grantd_store::Error),
}

/// What an install is opened to.
pub struct Opened {
    pub organization_id: OrganizationId,
    pub pepper: Pepper,
    pub checkpoint_key: CheckpointKey,
    /// Public keys of every checkpoint key, newest first.
    pub public_keys: Vec<Value>,
}

/// Turns what could be guessed into what is stored of it: API keys, and requests that may hold the value of a secret.
pub struct Pepper(hmac::Key);

impl Pepper {
    /// The keyed hash of a text.
    pub fn hash(&self, text: impl AsRef<[u8]>) -> [u8; 32] {
        hmac::sign(&self.0, text.as_ref()).as_ref().try_into().expect("HMAC-SHA256 is 32 bytes")
    }
}

/// What `create` made, or found.
pub struct Created {
    pub organization_id: OrganizationId,
    pub operator_id: OperatorId,
    /// `None`: the install was there already.
    pub pat: Option<Secret>,
}

fn pepper_place<'a>() -> Place<'a> {
    Place { table: "installs", app: None, row: [0; 16], field: "pepper", version: 1 }
}

/// Where the private half of a key that signs is sealed.
pub(crate) fn signing_place<'a>(id: SigningKeyId) -> Place<'a> {
    Place { table: "signing_keys", app: None, row: *id.as_bytes(), field: "private_sealed", version: 1 }
}

/// A token for the first operator of an install that is still to be made.
pub fn new_first_token(env: &dyn Env) -> Secret {
    new_token(env, PAT_START)
}

/// Makes the install, its organization and its first operator with this token; changes nothing where there is one. The caller has
/// put the token where its reader will look: after a crash behind the commit nobody could.
pub async fn create(store: &Store, root: &RootKeys, env: &dyn Env, token: Secret) -> Result<Created, InstallError> {
    let now = env.now();
    let (key, wrapped) = root.new_data_key(env, DataKeyId::from_uuid(new_uuid(env)), None);
    let pepper = Zeroizing::new(random::<32>(env));
    let install = Install {
        data_key_id: key.id(),
        pepper: key.seal(env, pepper_place(), &*pepper),
        root_check: root.make_check(env),
        clock_floor: now,
    };
    let organization_id = OrganizationId::from_uuid(new_uuid(env));
    let owner = Owner::Organization(organization_id);
    let operator = Operator {
        id: OperatorId::from_uuid(new_uuid(env)),
        organization_id,
        email: "operator@localhost".to_owned(),
        role: Role::Admin,
        disabled_at: None,
    };
    let pat = new_pat(env, operator.id);
    let token_hash = sha256(token.reveal().as_bytes());
    let signing = new_signing_key(env, &key);
    let event = |kind| Event::new(env, now, owner, kind, Outcome::Allowed, Actor::Job);
    let events = [
        event(Kind::InstallCreated),
        event(Kind::OperatorCreated).changed("role", Value::Null, operator.role.as_str()),
        event(Kind::PatCreated).changed("role", Value::Null, pat.role.as_str()),
    ]
    .map(Event::prepare);
    let operator_id = operator.id;
    let made = store
        .write(move |tx| {
            if !installs::create(tx, &install, &wrapped, organization_id, now)? {
                return Ok(false);
            }
            operators::insert(tx, &operator, now)?;
            operators::insert_pat(tx, &pat, &token_hash, now)?;
            signing_keys::insert(tx, &signing, now)?;
            for event in &events {
                append_event(tx, event)?;
            }
            crash::step("init.rows_written");
            Ok(true)
        })
        .await?;
    if made {
        return Ok(Created { organization_id, operator_id, pat: Some(token) });
    }
    let found = store
        .read(|tx| {
            let Some(organization) = installs::organization(tx)? else { return Ok(None) };
            Ok(operators::find_first(tx, organization)?.map(|operator| (organization, operator)))
        })
        .await?;
    let (organization_id, operator_id) = found.ok_or(InstallError::Damaged("there is no operator"))?;
    Ok(Created { organization_id, operator_id, pat: None })
}

/// How the text of an operator's token begins.
pub(crate) const PAT_START: &str = "grantd_pat_";

/// The row of a new admin token of an operator.
fn new_pat(env: &dyn Env, operator_id: OperatorId) -> Pat {
    Pat {
        id: PatId::from_uuid(new_uuid(env)),
        operator_id,
        name: "first".to_owned(),
        role: Role::Admin,
        app_ids: None,
        expires_at: Some(env.now().plus_seconds(PAT_DAYS_DEFAULT * 86_400)),
        revoked_at: None,
    }
}

/// What a reset did.
pub struct Reset {
    pub operator_id: OperatorId,
    pub pat: Secret,
    /// Tokens that were good until now.
    pub revoked: u64,
}

/// Lets the first admin in again: revokes all of their tokens and makes a new one. For who has lost theirs and can write to
/// the database; the audit trail tells.
pub async fn reset_operator(store: &Store, env: &dyn Env) -> Result<Reset, InstallError> {
    let now = env.now();
    let (organization, operator_id) = store
        .read(|tx| {
            let Some(organization) = installs::organization(tx)? else { return Ok(None) };
            Ok(operators::find_first(tx, organization)?.map(|operator| (organization, operator)))
        })
        .await?
        .ok_or(InstallError::Missing)?;
    let token = new_token(env, PAT_START);
    let pat = Pat { name: "reset".to_owned(), ..new_pat(env, operator_id) };
    let token_hash = sha256(token.reveal().as_bytes());
    let event =
        Event::new(env, now, Owner::Organization(organization), Kind::OperatorReset, Outcome::Allowed, Actor::Job);
    let revoked = store
        .write(move |tx| {
            let revoked = operators::reset(tx, operator_id, now)?;
            operators::insert_pat(tx, &pat, &token_hash, now)?;
            append_event(tx, &event.clone().changed("living_pats", revoked, 1).prepare())?;
            Ok(revoked)
        })
        .await?;
    Ok(Reset { operator_id, pat: token, revoked })
}

fn new_signing_key(env: &dyn Env, key: &DataKey) -> SigningKey {
    let id = SigningKeyId::from_uuid(new_uuid(env));
    let (signing, seed) = CheckpointKey::generate(env, id);
    let private_sealed = key.seal(env, signing_place(id), &*seed);
    SigningKey { id, public_jwk: signing.jwk(), data_key_id: key.id(), private_sealed }
}

/// Whether the database has an install, or any data key: then a root key must not be made anew.
pub async fn exists(store: &Store) -> Result<bool, InstallError> {
    Ok(store.read(|tx| Ok(installs::find(tx)?.is_some() || data_keys::count(tx)? > 0)).await?)
}

/// Opens the install, or says why the keys do not fit.
pub async fn open(store: &Store, root: &RootKeys) -> Result<Opened, InstallError> {
    let (install, organization, signing) =
        store.read(|tx| Ok((installs::find(tx)?, installs::organization(tx)?, signing_keys::list(tx)?))).await?;
    let install = install.ok_or(InstallError::Missing)?;
    if !root.opens_check(&install.root_check) {
        return Err(InstallError::WrongRootKey);
    }
    let key_id = install.data_key_id;
    let wrapped = store.read(move |tx| data_keys::find(tx, None, key_id)).await?;
    let wrapped = wrapped.ok_or(InstallError::Damaged("the install's data key is missing"))?;
    let key = root.unwrap(&wrapped).map_err(|_| InstallError::WrongRootKey)?;
    let pepper =
        key.open(pepper_place(), &install.pepper).map_err(|_| InstallError::Damaged("the pepper does not open"))?;
    let newest = signing.first().ok_or(InstallError::Damaged("there is no checkpoint key"))?;
    let seed = key
        .open(signing_place(newest.id), &newest.private_sealed)
        .map_err(|_| InstallError::Damaged("the checkpoint key does not open"))?;
    let checkpoint_key = CheckpointKey::from_seed(newest.id, &seed)
        .ok_or(InstallError::Damaged("the checkpoint key is no Ed25519 seed"))?;
    Ok(Opened {
        organization_id: organization.ok_or(InstallError::Damaged("the organization is missing"))?,
        pepper: Pepper(hmac::Key::new(hmac::HMAC_SHA256, &pepper)),
        checkpoint_key,
        public_keys: signing.into_iter().map(|k| k.public_jwk).collect(),
    })
}
