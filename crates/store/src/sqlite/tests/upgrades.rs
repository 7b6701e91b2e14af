//! Upgrades. `fixtures/` holds a database of every schema that was ever released, with rows in it, as the version of its
//! time left it on disk; each has to open with what it held, also when the process is killed in the midst of a migration.
//!
//! A new migration needs a new fixture: `cargo test -p postrider-store keeps_a_fixture -- --ignored` writes it, once, before
//! the release.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use postrider_kernel::{EventId, Next, TenantId};
use rusqlite::Connection;

use super::database;
use crate::{
    AttemptField, ClaimLimit, EndpointField, IdKind, Lease, Store,
    conformance::{
        World,
        world::{at, attempts_by, endpoints_by},
    },
    history::{Change, Standing},
    sqlite::{
        SqliteStore,
        connect::{self, Durability},
        migrate::{MIGRATIONS, Migration, check_history, migrate},
    },
};

/// Events in each fixture: the first is delivered, the second waits for its retry, the third is in flight, and the last was
/// never tried.
const EVENTS: i64 = 4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/sqlite/tests/fixtures")
        .join(name)
        .with_extension("db")
}

/// A copy of a fixture that a test may change.
fn copy_of(migration: &Migration) -> (PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = database(&directory);
    let kept = fixture(migration.name);
    std::fs::copy(&kept, &path).unwrap_or_else(|error| {
        panic!("{}: {error}; the head of this file says how it is made", kept.display())
    });
    (path, directory)
}

/// Fills a new database, and keeps it.
#[tokio::test]
#[ignore = "writes the fixture of the newest schema, where there is none"]
async fn keeps_a_fixture() {
    let newest = fixture(MIGRATIONS.last().unwrap().name);
    assert!(!newest.exists(), "a fixture never changes");
    let directory = tempfile::tempdir().unwrap();
    let path = database(&directory);
    let world = World::new(Arc::new(SqliteStore::open(&path).unwrap()));
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    for next in [Some(Next::Delivered), Some(Next::Retry(at(600))), None] {
        world.publish(tenant, &[endpoint], 1).await;
        let leased = world.claim_one(endpoint, 1, Lease(1)).await;
        if let Some(next) = next {
            let attempt = world.attempt(leased, 2, next).await;
            world.store.record(attempt).await.unwrap();
        }
    }
    world.publish(tenant, &[endpoint], 700).await;
    drop(world);
    std::fs::copy(path, newest).unwrap();
}

/// Whether all that a fixture held is there, and can be worked on.
async fn holds_everything(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    store.check_health().await.unwrap();
    let tenant = store.tenants().await.unwrap()[0].clone();
    assert_eq!((tenant.id, tenant.name.as_str()), (TenantId::new(1), "default"));
    assert_eq!(store.event_types(tenant.id).await.unwrap().len(), 2);
    let endpoints = store.endpoints(tenant.id, endpoints_by(EndpointField::CreatedAt, false));
    let endpoints = endpoints.await.unwrap().items;
    assert_eq!(endpoints.len(), 1);
    let endpoint = endpoints[0].id;
    let attempts = store.attempts(tenant.id, endpoint, attempts_by(AttemptField::SentAt, false));
    assert_eq!(attempts.await.unwrap().count, 2);
    let events: Vec<_> = (1..=EVENTS).map(EventId::new).collect();
    assert_eq!(store.known_events(tenant.id, events.clone()).await.unwrap(), events);

    let lease = store.begin_life().await.unwrap();
    let all = ClaimLimit { count: 100, bytes: usize::MAX };
    let claim = store.claim_due(endpoint, at(1_000), all, lease).await.unwrap();
    let mut owed: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.event).collect();
    owed.sort_unstable();
    assert_eq!(owed, events[1..], "all but the one that was delivered");
    assert!(claim.deliveries.iter().all(|delivery| !delivery.payload.is_empty()));
    let next = store.reserve_ids(IdKind::Event, 1).await.unwrap().start;
    assert_eq!(next, EVENTS + 1, "no identifier is given twice");
}

#[tokio::test]
async fn a_database_of_every_past_version_opens_with_what_it_held() {
    for (place, migration) in MIGRATIONS.iter().enumerate() {
        let (path, _directory) = copy_of(migration);
        let connection = Connection::open(&path).unwrap();
        assert_eq!(
            check_history(&connection, MIGRATIONS).unwrap().taken,
            place + 1,
            "{}",
            migration.name
        );
        drop(connection);
        holds_everything(&path).await;
    }
}

/// Where [`migrates_for_ever`] finds its file; without it, it does nothing.
const FILE: &str = "POSTRIDER_TEST_MIGRATES";

/// A migration that writes more than the cache holds, so that a part of it is on disk before it is committed, and never
/// ends.
const ENDLESS: Migration = Migration {
    name: "endless",
    change: Change::Expands,
    sql: "CREATE TABLE growing (n INTEGER, filling BLOB);
          DELETE FROM delivery;
          INSERT INTO growing
              WITH RECURSIVE counting (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting)
              SELECT n, zeroblob(4000) FROM counting;",
};

/// Not a test of its own: what the process of the next one does.
#[test]
fn migrates_for_ever() {
    if let Some(path) = std::env::var_os(FILE) {
        let mut connection = connect::writing(path.as_ref(), Durability::Disk).unwrap();
        let Standing { taken, .. } = check_history(&connection, MIGRATIONS).unwrap();
        let steps = [&MIGRATIONS[..taken], &[ENDLESS]].concat();
        migrate(&mut connection, &steps).unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_is_killed_midway_has_never_been() {
    for migration in MIGRATIONS {
        let (path, _directory) = copy_of(migration);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::upgrades::migrates_for_ever"])
            .env(FILE, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = path.with_extension("db-wal");
        let spilled = || std::fs::metadata(&log).is_ok_and(|log| log.len() > 1024 * 1024);
        while !spilled() {
            assert!(child.try_wait().unwrap().is_none(), "it migrates for ever");
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(spilled(), "the half of it is on disk");
        holds_everything(&path).await;
    }
}
