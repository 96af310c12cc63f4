//! Databases for tests: made, lent, and removed whatever the test did.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use grantd_store::{Location, Store};
use grantd_wire::ids::EventId;
use tokio_postgres::{Client, NoTls};

use super::env::START;

const POOL: usize = 4;
/// Held while the template is looked for and made.
const TEMPLATE_LOCK: i64 = 0x6772_616e_7473;

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Memory,
    File,
    Postgres,
}

/// A migrated database.
pub struct Database {
    pub store: Store,
    pub location: Location,
    /// What has to go when the test is over.
    directory: Option<PathBuf>,
    admin: Option<(Client, String)>,
}

impl Database {
    /// A fresh one. `None`: there is no PostgreSQL server to test with.
    pub async fn create(engine: Engine) -> Option<Self> {
        let (location, directory, admin) = match engine {
            Engine::Memory => (Location::Memory, None, None),
            Engine::File => {
                let directory = directory();
                (Location::File(directory.join("grantd.db")), Some(directory), None)
            }
            Engine::Postgres => {
                let (location, admin, name) = clone_of_template(postgres_url()?).await;
                (location, None, Some((admin, name)))
            }
        };
        Some(Self { store: open(&location, "first").await, location, directory, admin })
    }

    /// In a directory that the test brings, and removes.
    pub async fn in_directory(directory: &std::path::Path) -> Self {
        let location = Location::File(directory.join("grantd.db"));
        Self { store: open(&location, "first").await, location, directory: None, admin: None }
    }

    /// Another store on the same data, as another process would open it; the same one where there is only one.
    pub async fn open_again(&self, process: &str) -> Store {
        match self.location {
            Location::Memory => self.store.clone(),
            _ => Store::open(&self.location, process, POOL).await.unwrap(),
        }
    }

    /// A copy of it as it is now: what a backup, or the tools of PostgreSQL, would hold.
    pub async fn copy(&self) -> Self {
        match &self.location {
            Location::Memory => panic!("a database in memory cannot be copied"),
            Location::File(path) => {
                let directory = directory();
                let to = directory.join("grantd.db");
                std::fs::File::create(&to).unwrap();
                let (from, copied) = (path.clone(), to.clone());
                let copy = move || grantd_store::copy_database(&from, &copied, |_| Ok(()), &mut |_| {});
                tokio::task::spawn_blocking(copy).await.unwrap().unwrap();
                let location = Location::File(to);
                Self { store: open(&location, "copy").await, location, directory: Some(directory), admin: None }
            }
            Location::Postgres(url) => {
                let from = url.database().unwrap();
                let name = format!("{from}_copy");
                let admin = connect(postgres_url().unwrap()).await;
                admin.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await.unwrap();
                // A template may have no connections; the store makes new ones when it needs them.
                let end =
                    format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{from}'");
                admin.batch_execute(&end).await.unwrap();
                admin.batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{from}\"")).await.unwrap();
                let location = Location::parse(&url_of(postgres_url().unwrap(), &name)).unwrap();
                Self { store: open(&location, "copy").await, location, directory: None, admin: Some((admin, name)) }
            }
        }
    }

    /// Runs statements behind the store's back.
    pub async fn behind_its_back(&self, sql: &str) {
        match &self.location {
            Location::Memory => panic!("nothing is behind a database in memory"),
            Location::File(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
                connection.execute_batch(&with_ids(sql, "x'")).unwrap();
            }
            Location::Postgres(url) => {
                connect(&reachable(url)).await.batch_execute(&with_ids(sql, "'\\x")).await.unwrap();
            }
        }
    }

    /// The number a query answers, read behind the store's back.
    pub async fn number(&self, sql: &str) -> i64 {
        match &self.location {
            Location::Memory => panic!("nothing is behind a database in memory"),
            Location::File(path) => {
                rusqlite::Connection::open(path).unwrap().query_row(&with_ids(sql, "x'"), [], |row| row.get(0)).unwrap()
            }
            Location::Postgres(url) => {
                connect(&reachable(url)).await.query_one(&with_ids(sql, "'\\x"), &[]).await.unwrap().get(0)
            }
        }
    }

    /// Removes it, with whatever is still connected.
    pub async fn remove(&self) {
        self.store.clone().close().await;
        if let Some(directory) = &self.directory {
            std::fs::remove_dir_all(directory).unwrap();
        }
        if let Some((admin, name)) = &self.admin {
            admin.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await.unwrap();
        }
    }
}

async fn open(location: &Location, process: &str) -> Store {
    let store = Store::open(location, process, POOL).await.unwrap();
    store.migrate(START).await.unwrap();
    store
}

/// A directory of this process alone.
pub fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("grantd-server-{}-{n}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    path
}

/// The administrator's way into the test server. In CI there is one.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their server is")]
fn postgres_url() -> Option<&'static str> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let url = URL.get_or_init(|| std::env::var("GRANTD_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty()));
    assert!(
        url.is_some() || std::env::var("CI").is_err(),
        "GRANTD_TEST_POSTGRES_URL is not set, and in CI the tests run on PostgreSQL too"
    );
    url.as_deref()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// With the password, which a parsed URL keeps to itself.
fn reachable(url: &grantd_store::PostgresUrl) -> String {
    url_of(postgres_url().unwrap(), url.database().unwrap())
}

fn url_of(admin_url: &str, name: &str) -> String {
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

async fn clone_of_template(url: &str) -> (Location, Client, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let template = template(url).await;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("grantd_server_test_{}_{n}", std::process::id());
    let admin = connect(url).await;
    // A process of this number may have been killed before it could clean up.
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\"")).await.unwrap();
    (Location::parse(&url_of(url, &name)).unwrap(), admin, name)
}

/// The migrated template of this very schema: made by whoever comes first, and kept for the next run. Those of other schemas are
/// dropped.
async fn template(url: &str) -> String {
    let schema = include_str!("../../../../store/src/migrations/checksums.txt");
    let sum = grantd_wire::sign::hex(&grantd_wire::sign::sha256(schema.as_bytes()));
    let name = format!("grantd_server_template_{}", &sum[..16]);
    let admin = connect(url).await;
    // The lock ends with this connection, however it ends.
    admin.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await.unwrap();
    let sql = "SELECT datname::text FROM pg_database WHERE datname LIKE 'grantd\\_server\\_template\\_%'";
    let found: Vec<String> = admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    if found.contains(&name) {
        return name;
    }
    for other in found {
        // Somebody may be copying it just now.
        drop(admin.batch_execute(&format!("DROP DATABASE \"{other}\"")).await);
    }
    // Under another name until it is complete: one that was given up half-way is never taken for the template.
    let building = "grantd_server_building";
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {building} WITH (FORCE)")).await.unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {building} TEMPLATE template0 ENCODING 'UTF8'")).await.unwrap();
    open(&Location::parse(&url_of(url, building)).unwrap(), "template").await.close().await;
    let end = format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{building}'");
    admin.batch_execute(&end).await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {building} RENAME TO \"{name}\"")).await.unwrap();
    name
}

/// Ids stand in the text as they travel; the engine has their bytes, in a literal that begins with `open`.
fn with_ids(sql: &str, open: &str) -> String {
    let mut parts = sql.split('\'');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (quoted, part) in (1..).map(|n| n % 2 == 1).zip(parts) {
        if quoted && EventId::parse(part).is_some() {
            out += open;
            out += &part.replace('-', "");
        } else {
            out.push('\'');
            out += part;
        }
    }
    out
}
