//! A Postgres database that goes when the value is dropped.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

/// A new, empty database on a server.
pub struct Database {
    runtime: Runtime,
    client: Client,
    name: String,
    /// Where it is.
    pub url: String,
}

impl Database {
    /// Makes one. `server` is a URL whose user may make databases, and names a database to connect to.
    ///
    /// # Errors
    /// The server's.
    pub fn create(server: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let name = format!("postrider_bench_{}", std::process::id());
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(server, NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
            client
                .batch_execute(&format!(
                    "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
                ))
                .await?;
            anyhow::Ok(client)
        });
        let client = client.context("no database can be made on that Postgres")?;
        let (base, query) = server.split_once('?').unwrap_or((server, ""));
        let (base, _) = base.rsplit_once('/').context("the server's URL names a database")?;
        let url = format!("{base}/{name}?{query}");
        Ok(Self { runtime, client, name, url })
    }

    /// How many bytes it takes on disk.
    ///
    /// # Errors
    /// The server's.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        let select = format!("SELECT pg_database_size('{}')", self.name);
        let row = self.runtime.block_on(self.client.query_one(&select, &[]))?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?)?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        if let Err(error) = self.runtime.block_on(self.client.batch_execute(&drop)) {
            eprintln!("{} is left behind: {error}", self.name);
        }
    }
}
