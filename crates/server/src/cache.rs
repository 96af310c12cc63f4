//! What the hot path remembers of the database: keys with their apps, and grants with what stands behind them, sealed.
//!
//! A remembered row is only a guess. The write that makes a release durable confirms that nothing it was decided on has changed,
//! and a refusal is never decided on a remembered row. So a revoke counts at once, whoever remembers what.
//! Invariant: no value is here in the clear.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grantd_domain::account::{Account, AppProvider};
use grantd_domain::grant::{Behind, CredentialState, ManagedSecret};
use grantd_domain::resolve::Held;
use grantd_store::hot::{Epochs, Known};
use grantd_wire::TimeMs;
use grantd_wire::ids::{AppId, AppProviderId, GenerationId, GrantId, KeyId, SecretId};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Entries;

/// Keys remembered: a few hundred bytes each.
const KEYS_MAX: usize = 10_000;
/// A key is read again after this long: some of what it tells (that it is deprecated) changes no decision, so nothing else notices.
const KEY_AGE_MS: i64 = 5_000;
/// Secrets, and providers, that are remembered for all of their grants.
const SECRETS_MAX: usize = 10_000;
/// Releases remembered, some 100 bytes each: calls that are reported come soon after theirs.
const RELEASES_MAX: usize = 20_000;
/// What a grant is counted with, for the first estimate of how many there will be.
const GRANT_BYTES: u64 = 1_024;
/// What the tables and the allocator add to an entry.
const ENTRY_BYTES: usize = 128;

/// A grant and the epochs at which it was read.
pub struct Remembered {
    pub epochs: Epochs,
    pub held: Held,
}

/// What is remembered.
pub struct Cache {
    keys: Entries<[u8; 32], (TimeMs, Arc<Known>)>,
    grants: Entries<(AppId, GrantId), Arc<Remembered>, Weight>,
    /// Each once: the grants refer to them.
    secrets: Entries<SecretId, Arc<ManagedSecret>>,
    providers: Entries<AppProviderId, Arc<AppProvider>>,
    /// When this process last released which value of a grant to which key. Each is in the trail; not each of the trail is here.
    releases: Entries<(GrantId, KeyId, GenerationId), TimeMs>,
    pub(crate) key_lookups: Lookups,
    pub(crate) grant_lookups: Lookups,
}

/// How often something was asked for, and how often it was there.
#[derive(Default)]
pub(crate) struct Lookups {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
}

impl Lookups {
    fn count<T>(&self, found: Option<T>) -> Option<T> {
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<(AppId, GrantId), Arc<Remembered>> for Weight {
    fn weight(&self, _: &(AppId, GrantId), remembered: &Arc<Remembered>) -> u64 {
        let Held { grant, credential, behind: _, owner: _ } = &remembered.held;
        let sealed = match &credential.state {
            CredentialState::Ok { sealed, .. } => sealed.len(),
            CredentialState::Broken(_) | CredentialState::Destroyed => 0,
        };
        let label = grant.label.as_ref().map_or(0, String::len);
        let account = credential.account().map_or(0, |account| size_of::<Account>() + account.bytes());
        (size_of::<Remembered>() + size_of::<(AppId, GrantId)>() + sealed + label + account + ENTRY_BYTES) as u64
    }
}

impl Cache {
    /// A cache of grants that take at most `bytes` of memory. 0 remembers none.
    pub fn new(bytes: u64) -> Self {
        let grants = usize::try_from(bytes / GRANT_BYTES).unwrap_or(usize::MAX);
        Self {
            keys: Entries::new(KEYS_MAX),
            grants: Entries::with_weighter(grants, bytes, Weight),
            secrets: Entries::new(SECRETS_MAX),
            providers: Entries::new(SECRETS_MAX),
            releases: Entries::new(RELEASES_MAX),
            key_lookups: Lookups::default(),
            grant_lookups: Lookups::default(),
        }
    }

    pub(crate) fn key(&self, hash: &[u8; 32], now: TimeMs) -> Option<Arc<Known>> {
        let known = self.keys.get(hash).filter(|(read_at, _)| (0..KEY_AGE_MS).contains(&now.since(*read_at)));
        self.key_lookups.count(known.map(|(_, known)| known))
    }

    /// Keys and grants that are remembered, and what the grants take, in bytes.
    pub(crate) fn sizes(&self) -> (usize, usize, u64) {
        (self.keys.len(), self.grants.len(), self.grants.weight())
    }

    pub(crate) fn remember_key(&self, hash: [u8; 32], known: &Arc<Known>, read_at: TimeMs) {
        self.keys.insert(hash, (read_at, Arc::clone(known)));
    }

    pub(crate) fn forget_key(&self, hash: &[u8; 32]) {
        self.keys.remove(hash);
    }

    /// The grant as it was at these epochs.
    pub(crate) fn grant(&self, app: AppId, grant: GrantId, epochs: Epochs) -> Option<Arc<Remembered>> {
        self.grant_lookups.count(self.grants.get(&(app, grant)).filter(|remembered| remembered.epochs == epochs))
    }

    /// Remembers a release whose event is durable.
    pub(crate) fn remember_release(&self, grant: GrantId, key: KeyId, generation: GenerationId, at: TimeMs) {
        self.releases.insert((grant, key, generation), at);
    }

    /// Whether this process remembers such a release since then.
    pub(crate) fn has_release(&self, grant: GrantId, key: KeyId, generation: GenerationId, since: TimeMs) -> bool {
        self.releases.get(&(grant, key, generation)).is_some_and(|at| at >= since)
    }

    /// Remembers a grant that was just read.
    pub(crate) fn remember_grant(&self, epochs: Epochs, mut held: Held) -> Arc<Remembered> {
        held.behind = match held.behind {
            Behind::Secret(secret) => Behind::Secret(once(&self.secrets, secret.id, secret)),
            Behind::Provider(provider) => Behind::Provider(once(&self.providers, provider.id, provider)),
        };
        let place = (held.grant.app_id, held.grant.id);
        let remembered = Arc::new(Remembered { epochs, held });
        self.grants.insert(place, Arc::clone(&remembered));
        remembered
    }
}

/// The one that is remembered, if it is the same; else this one from now on.
fn once<K: Copy + Eq + std::hash::Hash, V: PartialEq>(known: &Entries<K, Arc<V>>, id: K, value: Arc<V>) -> Arc<V> {
    known.get(&id).filter(|known| *known == value).unwrap_or_else(|| {
        known.insert(id, Arc::clone(&value));
        value
    })
}
