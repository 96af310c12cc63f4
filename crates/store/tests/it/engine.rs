//! Databases for stories: made, lent, and removed whatever the story did.

use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use grantd_domain::audit::Owner;
use grantd_store::{Location, Store};
use grantd_wire::TimeMs;
use tokio_postgres::{Client, NoTls};

/// When every story begins.
pub const NOW: TimeMs = TimeMs(1_790_000_000_000);
const POOL: usize = 6;
/// Held while the template is looked for and made.
const TEMPLATE_LOCK: i64 = 0x6772_616e_7464;

/// An open, migrated store.
pub struct Database {
    store: Store,
    pub location: Location,
}

impl Deref for Database {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Database {
    /// Another store on the same data, as another process would open it.
    pub async fn open_again(&self, process: &str) -> Store {
        Store::open(&self.location, process, POOL).await.unwrap()
    }

    /// Whether another store can be opened on the same data.
    pub fn is_kept(&self) -> bool {
        self.location != Location::Memory
    }

    /// Runs a statement behind the store's back.
    pub async fn behind_its_back(&self, sql: &str) {
        match &self.location {
            Location::Memory => panic!("nothing is behind a database in memory"),
            Location::File(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            Location::Postgres(_) => admin(&self.url()).await.batch_execute(sql).await.unwrap(),
        }
    }
}

/// Of a database on PostgreSQL.
impl Database {
    pub fn name(&self) -> String {
        let Location::Postgres(url) = &self.location else { panic!("it is not on PostgreSQL") };
        url.database().unwrap().to_owned()
    }

    /// With the password, which a parsed URL keeps to itself.
    fn url(&self) -> String {
        url_of(postgres_url().unwrap(), &self.name())
    }

    /// Where its server listens.
    pub fn server(&self) -> std::net::SocketAddr {
        let url = self.url();
        let (server, _) = url.rsplit_once('/').unwrap();
        server.rsplit_once(['@', '/']).unwrap().1.parse().unwrap()
    }

    /// The same database behind other hosts.
    pub fn url_at(&self, hosts: &str, parameters: &str) -> String {
        format!("{}{parameters}", self.url().replace(&self.server().to_string(), hosts))
    }

    /// Runs a statement on its server, beside it.
    pub async fn beside(&self, sql: &str) {
        admin(postgres_url().unwrap()).await.batch_execute(sql).await.unwrap();
    }

    /// Ends every connection to it.
    pub async fn end_connections(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.behind_its_back(end).await;
    }
}

/// Every owner that has chains.
pub async fn owners(store: &Store) -> Vec<Owner> {
    let keys = store.read(grantd_store::audit::owners).await.unwrap();
    let parse = |key: &String| grantd_wire::ids::AppId::parse(key).map(Owner::App).unwrap();
    keys.iter().map(parse).collect()
}

fn run<S, F>(database: impl Future<Output = (Database, Cleanup)>, story: S)
where
    S: FnOnce(Arc<Database>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (database, cleanup) = database.await;
        let database = Arc::new(database);
        // A task of its own, so that the database goes away when the story panics.
        let told = tokio::time::timeout(STORY_TIME_MAX, story(Arc::clone(&database)));
        let told = tokio::spawn(async { told.await.expect("a story that hangs has failed") }).await;
        database.store.clone().close().await;
        cleanup.run().await;
        if let Err(e) = told {
            std::panic::resume_unwind(e.into_panic());
        }
    });
}

/// Longer than any story takes on a machine that does much else.
const STORY_TIME_MAX: std::time::Duration = std::time::Duration::from_mins(3);

enum Cleanup {
    Nothing,
    Directory(PathBuf),
    Postgres { admin: Client, name: String },
}

impl Cleanup {
    async fn run(self) {
        match self {
            Self::Nothing => {}
            Self::Directory(path) => std::fs::remove_dir_all(path).unwrap(),
            Self::Postgres { admin, name } => {
                admin.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await.unwrap();
            }
        }
    }
}

async fn open(location: Location) -> Database {
    let store = Store::open(&location, "story", POOL).await.unwrap();
    store.migrate(NOW).await.unwrap();
    Database { store, location }
}

/// A directory of this process alone.
pub fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("grantd-store-{}-{n}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    path
}

pub fn on_memory<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(Arc<Database>) -> F) {
    run(async { (open(Location::Memory).await, Cleanup::Nothing) }, story);
}

pub fn on_file<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(Arc<Database>) -> F) {
    let directory = directory();
    let location = Location::File(directory.join("grantd.db"));
    run(async { (open(location).await, Cleanup::Directory(directory)) }, story);
}

pub fn on_postgres<F: Future<Output = ()> + Send + 'static>(story: impl FnOnce(Arc<Database>) -> F) {
    let Some(url) = postgres_url() else { return };
    run(
        async {
            let template = template(url).await;
            let (location, cleanup) = clone_of(url, Some(&template)).await;
            (open(location).await, cleanup)
        },
        story,
    );
}

/// An empty database, not migrated, for each engine that keeps data. The story opens it.
pub fn on_empty<F: Future<Output = ()> + Send + 'static>(story: impl Fn(Location) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = directory();
        let mut places = vec![(Location::File(directory.join("grantd.db")), Cleanup::Directory(directory))];
        if let Some(url) = postgres_url() {
            places.push(clone_of(url, None).await);
        }
        for (location, cleanup) in places {
            let told = tokio::spawn(story(location)).await;
            cleanup.run().await;
            if let Err(e) = told {
                std::panic::resume_unwind(e.into_panic());
            }
        }
    });
}

/// The administrator's way into the test server. In CI there is one.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their server is")]
fn postgres_url() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let url = URL.get_or_init(|| std::env::var("GRANTD_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()));
    assert!(
        url.is_some() || std::env::var("CI").is_err(),
        "GRANTD_TEST_POSTGRES_URL is not set, and in CI the stories run on PostgreSQL too"
    );
    url.as_deref()
}

async fn admin(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn url_of(admin_url: &str, name: &str) -> String {
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// A new database: a copy of the template, or an empty one.
async fn clone_of(url: &str, template: Option<&str>) -> (Location, Cleanup) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("grantd_story_{}_{n}", std::process::id());
    let admin = admin(url).await;
    // A process of this number may have been killed before it could clean up.
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await.unwrap();
    match template {
        Some(template) => {
            admin.batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\"")).await.unwrap();
        }
        None => create_empty(&admin, &name).await,
    }
    (Location::parse(&url_of(url, &name)).unwrap(), Cleanup::Postgres { admin, name })
}

/// The most unlike our own order a server can have, so that a comparison that forgets its collation is found.
async fn create_empty(admin: &Client, name: &str) {
    let create = format!("CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'");
    let icu = format!("{create} LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    // Servers before 15, and those built without ICU, have only what they have.
    if admin.batch_execute(&icu).await.is_err() {
        admin.batch_execute(&create).await.unwrap();
    }
}

/// The migrated template of this very schema: made by whoever comes first, of any process, and kept for the next. Those of other
/// schemas are dropped.
async fn template(url: &str) -> String {
    // What the migrations say, and how they are said to an engine.
    let schema = concat!(include_str!("../../src/migrations/checksums.txt"), include_str!("../../src/migrate.rs"));
    let sum = grantd_wire::sign::hex(&grantd_wire::sign::sha256(schema.as_bytes()));
    let name = format!("grantd_template_{}", &sum[..16]);
    let admin = admin(url).await;
    // The lock ends with this connection, however it ends.
    admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    let sql = "SELECT datname::text FROM pg_database WHERE datname LIKE 'grantd\\_template\\_%'";
    let found: Vec<String> = admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    if found.contains(&name) {
        return name;
    }
    for other in found {
        // Somebody may be copying it just now.
        drop(admin.batch_execute(&format!("DROP DATABASE \"{other}\"")).await);
    }
    // Under another name until it is complete: one that was given up half-way is never taken for the template.
    let building = "grantd_building";
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {building} WITH (FORCE)")).await.unwrap();
    create_empty(&admin, building).await;
    let store = Store::open(&Location::parse(&url_of(url, building)).unwrap(), "template", POOL).await.unwrap();
    store.migrate(NOW).await.unwrap();
    store.close().await;
    let close = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{building}'");
    admin.batch_execute(&close).await.unwrap();
    let mut tries = 0;
    while let Err(e) = admin.batch_execute(&format!("ALTER DATABASE {building} RENAME TO \"{name}\"")).await {
        // Backends need a moment to end; the server waits for them by itself, but not for ever.
        tries += 1;
        assert!(tries < 5, "the template cannot be named: {e}");
    }
    name
}
