//! Everything a request needs, made once at start.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grantd_domain::audit::{CheckpointKey, Owner};
use grantd_domain::destination::OutboundAllow;
use grantd_domain::env::Env;
use grantd_domain::hourly::{Bucket, hour_of};
use grantd_domain::replay::Window;
use grantd_domain::seal::RootKeys;
use grantd_domain::secret::Secret;
use grantd_store::Store;
use grantd_store::hot::Known;
use grantd_wire::ids::{ActorId, AppId, GrantId, KeyId, OrganizationId};
use grantd_wire::{Code, Retention, TimeMs};
use ipnet::IpNet;
use rustls::RootCertStore;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::answer::of_store;
use crate::cache::Cache;
use crate::flow::identity::Identities;
use crate::flow::refresh::Renewals;
use crate::flow::sign_in::Waiting;
use crate::flow::sso::Issuer;
use crate::install::{self, InstallError, Pepper};
use crate::keyring::KeyRing;
use crate::limiter::Limiter;
use crate::meters::Meters;
use crate::outbound::Outbound;
use crate::passwords::Passwords;
use crate::trace;

/// What the operator decided, as plain values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path part of `public_url`, without a trailing slash; empty when there is none.
    pub base_path: String,
    /// Where browsers and providers reach this server, without a slash at its end.
    pub public_url: String,
    pub trusted_proxies: Vec<IpNet>,
    /// Processes that share rate limits.
    pub replicas: u32,
    /// What is not public and may be reached.
    pub outbound: OutboundAllow,
    /// The authorities that hosts called from here must be vouched for by; `None`: those of the system.
    pub outbound_roots: Option<RootCertStore>,
    /// Memory for remembered grants, in bytes.
    pub cache_bytes: u64,
    /// Failed authentications a minute from one source, before it is slowed.
    pub auth_failures_per_minute: u32,
    /// How long trails are kept, where an app says nothing else.
    pub retention: Retention,
    /// Where operators sign in by single sign-on; `None`: nowhere.
    pub sso: Option<SsoSettings>,
}

/// The OpenID Connect issuer at which operators sign in, and who this server is to it.
#[derive(Clone, Debug)]
pub struct SsoSettings {
    /// Exactly as `iss` has it.
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client.
    pub client_secret: Option<Arc<Secret>>,
    /// What people know it by.
    pub name: String,
    /// Domains of operators' addresses that may sign in so; none: all.
    pub domains: Vec<String>,
    /// They sign in in no other way, but by links made on the host.
    pub is_required: bool,
}

impl Settings {
    /// Scheme, host and port of the public URL: what browsers call its origin.
    pub fn origin(&self) -> &str {
        let url = &self.public_url;
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        &url[..url[after_scheme..].find('/').map_or(url.len(), |at| after_scheme + at)]
    }
}

/// Labels whose actor id is remembered in memory.
const ACTORS_CACHED_MAX: usize = 10_000;

/// The running server's parts.
pub struct Vault {
    pub store: Store,
    pub env: Arc<dyn Env>,
    pub settings: Settings,
    pub organization_id: OrganizationId,
    pub keys: KeyRing,
    pub(crate) outbound: Outbound,
    pub(crate) cache: Cache,
    pub(crate) pepper: Pepper,
    pub(crate) checkpoint_key: CheckpointKey,
    pub(crate) public_keys: Vec<Value>,
    pub(crate) nonces: Mutex<Window>,
    pub(crate) key_rates: Limiter<KeyId>,
    pub(crate) auth_failures: Limiter<IpAddr>,
    /// Attempts to sign in to the portal, by source.
    pub(crate) sign_in_attempts: Limiter<IpAddr>,
    pub(crate) passwords: Passwords,
    /// Sources that failed to authenticate, in whose trail that was told, and in which minute.
    /// In which minute which failures were told of whom.
    pub(crate) failures_told: Mutex<HashMap<(IpAddr, Owner, &'static str), i64>>,
    pub meters: Arc<Meters>,
    pub(crate) renewals: Renewals,
    pub sign_ins: Waiting,
    pub(crate) sso: Issuer,
    pub(crate) identities: Identities,
    /// What goes on when its caller has gone; closing waits for it.
    pub(crate) tasks: TaskTracker,
    actors: Mutex<HashMap<(AppId, String, &'static str), ActorId>>,
    used: Mutex<Used>,
    took: Mutex<Took>,
    /// Events this process had appended when it last indexed them.
    pub(crate) indexed: AtomicU64,
    /// The host's clock runs behind time that was already seen.
    pub(crate) clock_rolled_back: AtomicBool,
    pub(crate) draining: AtomicBool,
}

/// How many calls of an app in an hour took how long, until the next flush.
type Took = HashMap<(AppId, TimeMs, Bucket), i64>;

/// When grants and keys were last used, until the next flush.
#[derive(Default)]
pub(crate) struct Used {
    pub grants: HashMap<(AppId, GrantId), TimeMs>,
    pub keys: HashMap<KeyId, TimeMs>,
}

impl Vault {
    /// Opens the install of `store`.
    pub async fn open(
        store: Store,
        root: RootKeys,
        env: Arc<dyn Env>,
        settings: Settings,
    ) -> Result<Arc<Self>, InstallError> {
        let outbound = Outbound::new(settings.outbound_roots.clone());
        Self::open_with(store, root, env, settings, outbound).await
    }

    /// Opens it with other ways out.
    pub async fn open_with(
        store: Store,
        root: RootKeys,
        env: Arc<dyn Env>,
        settings: Settings,
        outbound: Outbound,
    ) -> Result<Arc<Self>, InstallError> {
        let opened = install::open(&store, &root).await?;
        Ok(Arc::new(Self {
            keys: KeyRing::new(root, store.clone()),
            cache: Cache::new(settings.cache_bytes),
            outbound,
            store,
            env,
            settings,
            organization_id: opened.organization_id,
            pepper: opened.pepper,
            checkpoint_key: opened.checkpoint_key,
            public_keys: opened.public_keys,
            nonces: Mutex::default(),
            key_rates: Limiter::default(),
            auth_failures: Limiter::default(),
            sign_in_attempts: Limiter::default(),
            passwords: Passwords::default(),
            failures_told: Mutex::default(),
            meters: Arc::default(),
            renewals: Renewals::default(),
            sign_ins: Waiting::default(),
            sso: Issuer::default(),
            identities: Identities::default(),
            tasks: TaskTracker::new(),
            actors: Mutex::default(),
            used: Mutex::default(),
            took: Mutex::default(),
            indexed: AtomicU64::new(0),
            clock_rolled_back: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }))
    }

    /// From now on `/readyz` says that this process is going away.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn touch(&self, key: KeyId, grant: Option<(AppId, GrantId)>, now: TimeMs) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.keys.insert(key, now);
        if let Some(grant) = grant {
            used.grants.insert(grant, now);
        }
    }

    /// Notes how long a call took that was allowed.
    pub(crate) fn took(&self, app: AppId, now: TimeMs, time: Duration) {
        let bucket = Bucket::of_us(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        *took.entry((app, hour_of(now), bucket)).or_default() += 1;
    }

    pub(crate) fn take_took(&self) -> Took {
        std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take_used(&self) -> Used {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn cached_actor(&self, app: AppId, label: &str, caller_type: &'static str) -> Option<ActorId> {
        let actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        actors.get(&(app, label.to_owned(), caller_type)).copied()
    }

    pub(crate) fn cache_actor(&self, app: AppId, label: &str, caller_type: &'static str, id: ActorId) {
        let mut actors = self.actors.lock().unwrap_or_else(PoisonError::into_inner);
        if actors.len() >= ACTORS_CACHED_MAX {
            actors.clear();
        }
        actors.insert((app, label.to_owned(), caller_type), id);
    }
}

impl Vault {
    /// The key with this hash, from the database; remembered for the next call.
    pub(crate) async fn find_key(&self, hash: [u8; 32]) -> Result<Option<Arc<Known>>, grantd_wire::Error> {
        let read_at = self.env.now();
        let known =
            self.store.find_key(hash).instrument(trace::part!("store.find_key")).await.map_err(of_store)?.map(Arc::new);
        match &known {
            Some(known) => self.cache.remember_key(hash, known, read_at),
            None => self.cache.forget_key(&hash),
        }
        Ok(known)
    }

    /// Refuses other ways for operators to sign in where single sign-on is the only one.
    pub(crate) fn check_other_ways(&self) -> Result<(), grantd_wire::Error> {
        match self.settings.sso.as_ref().filter(|sso| sso.is_required) {
            None => Ok(()),
            Some(sso) => Err(grantd_wire::Error::new(Code::Conflict)
                .message(format!("Operators sign in with {} alone here.", sso.name))
                .hint("While it is away, `grantd operator login-link` makes a link where grantd runs.")),
        }
    }

    /// Refuses while the host's clock runs behind.
    pub(crate) fn check_clock(&self) -> Result<(), grantd_wire::Error> {
        if self.clock_rolled_back.load(Ordering::Relaxed) {
            return Err(Code::ClockRollback.into());
        }
        Ok(())
    }
}

impl Vault {
    /// Waits until everything begun is done and everything written is durable, and lets go of the database; later calls find it unavailable.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.store.clone().close().await;
    }
}
