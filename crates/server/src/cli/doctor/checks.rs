//! The checks, one function each.

use std::{io::ErrorKind, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use postrider::{
    clock::Clock,
    config::{Config, DatabaseUrl},
    disk,
    egress::Egress,
    instance::{ADMIN_TOKEN_FILE, DATABASE_FILE},
    transport::{Destination, Network, Transport},
    vault::{KEY_FILE, KeySource, Vault},
};
use postrider_kernel::{Target, Timestamp};
use postrider_store::{
    EndpointField, EndpointQuery, OrderBy, Store, StoreError, postgres::PostgresStore,
    sqlite::SqliteStore,
};
use rustix::process::{Resource, getrlimit};

use super::{
    Finding::{self, Bad, Doubtful, Well},
    Report,
};

/// With less free space the server could stop accepting any moment, and with less than ten times as much, soon.
const FREE_BYTES_MIN: u64 = 100 * 1024 * 1024;

/// No clock of a server that runs this version is behind the year 2025, or past the year 2100.
const SANE_YEARS: (i64, i64) = (1_735_689_600, 4_102_444_800);

/// File descriptors that are not for deliveries: database, listener, the API's clients.
const DESCRIPTORS_BESIDES: u64 = 256;

/// Runs every check.
pub async fn all(
    report: &mut Report,
    config: &Config,
    target: Option<&Target>,
    clock: Arc<dyn Clock>,
) {
    report.add("catalogue", catalogue(config));
    report.add("listen", listen(config).await);
    if let Some(files) = config.certificate() {
        report.add(
            "certificate",
            match files.read() {
                Ok(_) => Well(format!("{} and its key belong together", files.chain.display())),
                Err(error) => Bad(format!("{error:#}")),
            },
        );
    }
    report.add("file descriptors", descriptors(config));
    let directory_is_there = config.data_dir.is_dir();
    report.add("data directory", data_directory(&config.data_dir));
    let mut latest = None;
    if directory_is_there {
        report.add("free space", free_space(&config.data_dir));
        report.add("secret files", secret_files(&config.data_dir));
    }
    if directory_is_there || config.database_url.is_some() {
        latest = database(report, config, clock.clone()).await;
    }
    report.add("clock", time(clock.now(), latest));
    if let Some(target) = target {
        report.add("target", reach(config, target).await);
    }
}

fn catalogue(config: &Config) -> Finding {
    match config.catalogue.read() {
        Ok(entries) => Well(format!("a new instance gets {} event types", entries.len())),
        Err(error) => Bad(format!("{error:#}")),
    }
}

async fn listen(config: &Config) -> Finding {
    match tokio::net::TcpListener::bind(config.listen).await {
        Ok(_) => Well(format!("{} is free", config.listen)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Doubtful(format!(
            "something listens on {} already: this server, if it runs; otherwise choose another address with --listen",
            config.listen
        )),
        Err(error) => Bad(format!(
            "can't listen on {}: {error}; choose another address with --listen",
            config.listen
        )),
    }
}

fn descriptors(config: &Config) -> Finding {
    let wanted = u64::from(config.concurrency) + DESCRIPTORS_BESIDES;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < wanted => Doubtful(format!(
            "{limit} files may be open, but --concurrency {} needs about {wanted}; raise the limit (ulimit -n, \
             LimitNOFILE=) or lower the option",
            config.concurrency
        )),
        Some(limit) => Well(format!("{limit} may be open")),
        None => Well("any number may be open".to_owned()),
    }
}

fn data_directory(path: &Path) -> Finding {
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Well(format!("{shown} is not there yet; `postrider serve` makes it"));
        }
        Err(error) => {
            return Bad(format!(
                "{shown} can't be looked at: {error}; choose another with --data-dir"
            ));
        }
    };
    if !metadata.is_dir() {
        return Bad(format!("{shown} is a file; choose a directory with --data-dir"));
    }
    // The file has no name that anybody else could see, and is gone when it is closed.
    if let Err(error) = tempfile::tempfile_in(path) {
        return Bad(format!(
            "{shown} can't be written: {error}; give it to the user that runs postrider (chown), or choose another \
             with --data-dir"
        ));
    }
    match metadata.permissions().mode() & 0o077 {
        0 => Well(format!("{shown} is private and writable")),
        _ => Doubtful(format!("others on this machine can look into {shown}; `chmod 700 {shown}`")),
    }
}

fn free_space(path: &Path) -> Finding {
    let free = match disk::space(path) {
        Ok(space) => space.free_bytes,
        Err(error) => return Doubtful(format!("unknown: {error}")),
    };
    let megabytes = free / (1024 * 1024);
    if free < FREE_BYTES_MIN {
        Bad(format!("{megabytes} MiB; make room on that disk, or lower --retention"))
    } else if free < 10 * FREE_BYTES_MIN {
        Doubtful(format!("{megabytes} MiB; make room on that disk soon, or lower --retention"))
    } else {
        Well(format!("{megabytes} MiB"))
    }
}

fn secret_files(path: &Path) -> Finding {
    let is_open = |name: &&str| {
        let metadata = std::fs::metadata(path.join(name));
        metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    };
    let open: Vec<String> = [KEY_FILE, ADMIN_TOKEN_FILE, DATABASE_FILE]
        .iter()
        .filter(|name| is_open(name))
        .map(|name| path.join(name).display().to_string())
        .collect();
    if open.is_empty() {
        Well("readable by their owner alone".to_owned())
    } else {
        let files = open.join(" ");
        Bad(format!("others on this machine can read {files}; `chmod 600 {files}`"))
    }
}

/// Checks the database and, since only the database knows the right one, the master key. Answers with the latest time
/// that is written there.
async fn database(
    report: &mut Report,
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Option<Timestamp> {
    let opened = match &config.database_url {
        Some(url) => open_shared(url).await,
        None => open_file(&config.data_dir.join(DATABASE_FILE)).await,
    };
    let store = match opened {
        Ok(store) => store,
        Err(finding) => {
            report.add("database", finding);
            return None;
        }
    };
    let latest = match (store.check_health().await, latest_time(&*store).await) {
        (Ok(()), Ok(latest)) => latest,
        (Err(error), _) | (_, Err(error)) => {
            report.add("database", Bad(error.to_string()));
            return None;
        }
    };
    report.add("database", Well("it opens, and its schema is the newest".to_owned()));
    match latest {
        Some(_) => report.add("master key", master_key(&config.data_dir, &*store, clock).await),
        None => report.add("master key", Well("the first start makes it".to_owned())),
    }
    latest
}

/// Opens the database's file; without a store, what there is to say instead.
async fn open_file(path: &Path) -> Result<Box<dyn Store>, Finding> {
    if !path.exists() {
        return Err(Well(format!(
            "{} is not there yet; `postrider serve` makes it",
            path.display()
        )));
    }
    let path = path.to_owned();
    match tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await {
        Ok(Ok(store)) => Ok(Box::new(store)),
        Ok(Err(error)) => Err(Bad(error.to_string())),
        Err(error) => Err(Bad(error.to_string())),
    }
}

/// Opens the Postgres that is shared, unless that would change it.
async fn open_shared(url: &DatabaseUrl) -> Result<Box<dyn Store>, Finding> {
    let bad = |error: StoreError| Bad(error.to_string());
    match PostgresStore::missing_migrations(url.reveal()).await.map_err(bad)? {
        0 => Ok(Box::new(PostgresStore::open(url.reveal()).await.map_err(bad)?)),
        missing => Err(Well(format!(
            "it is reached; {missing} migrations are missing, which `postrider serve` takes, or `postrider migrate`"
        ))),
    }
}

async fn master_key(data_dir: &Path, store: &dyn Store, clock: Arc<dyn Clock>) -> Finding {
    match Vault::open(KeySource::find(data_dir), store, false, clock).await {
        Ok(vault) => Well(format!(
            "it is the one that the database was encrypted with; its fingerprint is {}",
            vault.current()
        )),
        Err(error) => Bad(error.to_string()),
    }
}

/// When something was last made or changed; `None` where there isn't even a tenant.
async fn latest_time(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let mut latest = None;
    for tenant in store.tenants().await? {
        latest = latest.max(Some(tenant.created_at));
        let query = EndpointQuery {
            target_contains: None,
            ordering: vec![OrderBy { field: EndpointField::UpdatedAt, descending: true }],
            limit: 1,
            offset: 0,
        };
        let endpoints = store.endpoints(tenant.id, query).await?.items;
        latest = latest.max(endpoints.first().map(|endpoint| endpoint.updated_at));
        let tokens = store.tokens(tenant.id).await?;
        latest = latest.max(tokens.iter().map(|token| token.created_at).max());
    }
    Ok(latest)
}

fn time(now: Timestamp, latest: Option<Timestamp>) -> Finding {
    let advice = "set this machine's clock, and keep it set (NTP): receivers refuse signatures that are minutes off";
    match latest {
        _ if !(SANE_YEARS.0..SANE_YEARS.1).contains(&now.as_seconds()) => {
            Bad(format!("it is not {now}; {advice}"))
        }
        Some(latest) if now < latest => {
            Bad(format!("it is {now}, but something happened at {latest} already; {advice}"))
        }
        _ => Well(format!("it is {now}")),
    }
}

/// Connects just as a delivery would.
async fn reach(config: &Config, target: &Target) -> Finding {
    let network = match Network::new(config, Arc::new(Egress::new(config))) {
        Ok(network) => network,
        Err(error) => return Bad(format!("{error:#}")),
    };
    let destination = Destination { target, ssl_cert_verification: true };
    match network.connect(destination, Duration::MAX).await {
        Ok(connection) => {
            let place =
                connection.peer().map_or("through the proxy".into(), |peer| format!("at {peer}"));
            let by = config
                .egress_proxy
                .as_ref()
                .map_or(String::new(), |url| format!(", with the egress proxy {url}"));
            Well(format!("{} is reached {place}{by}", target.as_str()))
        }
        Err(error) => Bad(format!("{} is not reached: {}", target.as_str(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_is_bad() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        assert!(matches!(time(at(1_800_000_000), None), Well(_)));
        assert!(matches!(time(at(1_800_000_000), Some(at(1_800_000_000))), Well(_)));
        assert!(matches!(time(at(1_800_000_000), Some(at(1_800_000_001))), Bad(_)));
        assert!(matches!(time(at(0), None), Bad(_)));
        assert!(matches!(time(at(5_000_000_000), None), Bad(_)));
    }
}
