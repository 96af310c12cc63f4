//! Databases on the PostgreSQL server that the run was given: one for each install, removed with it.

use tokio_postgres::NoTls;

use super::{Result, fault};

/// A database of its own.
#[derive(Clone)]
pub struct Database {
    pub url: String,
    name: String,
    server: String,
}

impl Database {
    /// Creates it on the server of this URL.
    pub async fn create(server: &str, name: &str) -> Result<Self> {
        let Some((start, _)) = server.rsplit_once('/') else { return fault("the URL names no database") };
        // A run that failed kept its own, to look at; repeating it begins anew.
        run(server, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await?;
        run(server, &format!("CREATE DATABASE \"{name}\" ENCODING 'UTF8' TEMPLATE template0")).await?;
        Ok(Self { url: format!("{start}/{name}"), name: name.to_owned(), server: server.to_owned() })
    }

    /// The same database at another port.
    pub fn at(&self, port: u16) -> Self {
        Self { url: format!("postgres://postgres@127.0.0.1:{port}/{}", self.name), ..self.clone() }
    }

    pub async fn remove(&self) -> Result {
        run(&self.server, &format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name)).await
    }
}

async fn run(url: &str, sql: &str) -> Result {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let done = client.batch_execute(sql).await;
    drop(client);
    drop(driver.await);
    Ok(done?)
}
