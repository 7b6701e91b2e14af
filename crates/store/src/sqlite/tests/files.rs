//! The file: who may read it, which schema it has, and who else writes it.

use std::{process::Command, sync::Arc};

use rusqlite::Connection;

use super::{database, open_here};
use crate::{
    IdKind, Result, Store, StoreError,
    conformance::World,
    history::Change,
    sqlite::{
        SqliteStore,
        migrate::{MIGRATIONS, Migration, check_history, migrate},
    },
};

#[cfg(unix)]
#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (store, directory) = open_here();
    for name in ["test.db", "test.db-wal", "test.db-shm"] {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    drop(store);
}

#[tokio::test]
async fn what_was_promised_is_there_after_a_restart() {
    let (store, directory) = open_here();
    let tenant = World::new(std::sync::Arc::new(store)).tenant("default").await;
    let store = SqliteStore::open(&database(&directory)).unwrap();
    assert_eq!(store.tenants().await.unwrap()[0].id, tenant);
    assert_eq!(store.reserve_ids(IdKind::Tenant, 1).await.unwrap(), 2..3);
    store.check_health().await.unwrap();
}

#[test]
fn closing_the_store_leaves_one_file() {
    let (store, directory) = open_here();
    drop(store);
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["test.db"]);
}

#[tokio::test]
async fn a_second_writer_is_noticed_and_shares_the_identifiers() {
    let (server, directory) = open_here();
    let command_line = SqliteStore::open(&database(&directory)).unwrap();
    assert!(!server.changed_elsewhere().await.unwrap());
    assert_eq!(server.reserve_ids(IdKind::Event, 5).await.unwrap(), 1..6);
    assert_eq!(command_line.reserve_ids(IdKind::Event, 5).await.unwrap(), 6..11);
    assert!(server.changed_elsewhere().await.unwrap());
    assert!(!server.changed_elsewhere().await.unwrap());
    assert_eq!(server.reserve_ids(IdKind::Event, 5).await.unwrap(), 11..16);
    assert!(!server.changed_elsewhere().await.unwrap());
}

/// Where [`opens_the_named_file`] finds its file; without it, it does nothing.
const FILE: &str = "POSTRIDER_TEST_OPENS";

/// Not a test of its own: what the processes of the next one do.
#[test]
fn opens_the_named_file() {
    if let Some(path) = std::env::var_os(FILE) {
        SqliteStore::open(path.as_ref()).unwrap();
    }
}

#[tokio::test]
async fn processes_that_open_a_new_file_at_once_make_one_schema() {
    let directory = tempfile::tempdir().unwrap();
    let open = |_| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::files::opens_the_named_file"])
            .env(FILE, database(&directory))
            .output()
    };
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || open(i))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    for output in outputs {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    SqliteStore::open(&database(&directory)).unwrap().check_health().await.unwrap();
}

fn changed_by_hand(sql: &str) -> Result<SqliteStore> {
    let (store, directory) = open_here();
    drop(store);
    let path = database(&directory);
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    SqliteStore::open(&path)
}

fn check_refused(opened: Result<SqliteStore>, says: &str) {
    match opened.map(drop) {
        Err(StoreError::Inconsistent(text)) => assert!(text.contains(says), "{text}"),
        other => panic!("{other:?} does not say {says}"),
    }
}

#[test]
fn a_changed_migration_is_refused() {
    let opened = changed_by_hand("UPDATE schema_migration SET checksum = x'00' WHERE number = 1");
    check_refused(opened, "0001_what_is_promised in the database is not the one");
}

#[test]
fn a_newer_schema_is_refused() {
    let insert = "INSERT INTO schema_migration VALUES (9999, '9999_later', x'00', 0)";
    check_refused(changed_by_hand(insert), "Start the newer version, or restore the backup");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(database(&directory), "not a database, and long enough to be read as one")
        .unwrap();
    check_refused(SqliteStore::open(&database(&directory)), "not a database");
}

#[test]
fn a_place_that_cannot_be_written_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let opened = SqliteStore::open(&directory.path().join("nowhere/test.db"));
    assert!(matches!(opened, Err(StoreError::Unavailable(_))));
}

#[test]
fn a_step_that_fails_leaves_the_schema_as_it_was() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    let step = |name, sql| Migration { name, sql, change: Change::Expands };
    let half = step("half", "CREATE TABLE half (id); CREATE TABLE meta (id)");
    let history = [MIGRATIONS, &[half]].concat();
    assert!(migrate(&mut connection, &history).is_err());
    assert_eq!(check_history(&connection, &history).unwrap().missing, 1);
    let half_is_there = connection.prepare("SELECT * FROM half").is_ok();
    assert!(!half_is_there, "the step's first half is gone too");
    let history = [MIGRATIONS, &[step("whole", "CREATE TABLE whole (id)")]].concat();
    migrate(&mut connection, &history).unwrap();
    assert_eq!(check_history(&connection, &history).unwrap().missing, 0);
}

#[test]
fn an_older_version_opens_what_a_newer_one_has_only_added_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = database(&directory);
    drop(SqliteStore::open(&path).unwrap());
    let mut connection = Connection::open(&path).unwrap();
    let sql = "ALTER TABLE event ADD COLUMN note TEXT";
    let more = Migration { name: "more", sql, change: Change::Expands };
    migrate(&mut connection, &[MIGRATIONS, &[more]].concat()).unwrap();
    SqliteStore::open(&path).unwrap();
    let less = Migration { name: "less", change: Change::Contracts, ..more };
    let less = Migration { sql: "ALTER TABLE event DROP COLUMN note", ..less };
    migrate(&mut connection, &[MIGRATIONS, &[more, less]].concat()).unwrap();
    check_refused(SqliteStore::open(&path), "newer Postrider: it has migration less");
}

#[test]
fn a_history_that_was_begun_before_steps_could_expand_goes_on() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    connection.execute_batch("ALTER TABLE schema_migration DROP COLUMN expands").unwrap();
    let sql = "CREATE TABLE whole (id)";
    let whole = Migration { name: "whole", sql, change: Change::Expands };
    let history = [MIGRATIONS, &[whole]].concat();
    assert_eq!(check_history(&connection, &history).unwrap().missing, 1);
    migrate(&mut connection, &history).unwrap();
    assert_eq!(check_history(&connection, MIGRATIONS).unwrap().beyond, 1);
}

#[tokio::test]
async fn what_a_dead_process_left_in_the_log_is_in_the_file_once_it_is_opened() {
    let (store, directory) = open_here();
    let world = World::new(Arc::new(store));
    world.tenant("default").await;
    // As a kill leaves them: the store still has its files open.
    let (left, later) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(directory.path().join(name), left.path().join(name)).unwrap();
    }
    let opened = SqliteStore::open(&database(&left)).unwrap();
    // The file alone, without its log.
    std::fs::copy(database(&left), database(&later)).unwrap();
    drop(opened);
    let read = SqliteStore::open(&database(&later)).unwrap();
    assert_eq!(read.tenants().await.unwrap().len(), 1);
}
