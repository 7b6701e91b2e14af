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

use rusqlite::Connection;

use super::database;
use crate::{
    conformance::upgrades,
    history::{Change, Standing},
    sqlite::{
        SqliteStore,
        connect::{self, Durability},
        migrate::{MIGRATIONS, Migration, check_history, migrate},
    },
};

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
    upgrades::fill(Arc::new(SqliteStore::open(&path).unwrap())).await;
    std::fs::copy(path, newest).unwrap();
}

async fn holds_everything(path: &Path) {
    upgrades::holds_everything(&SqliteStore::open(path).unwrap()).await;
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
