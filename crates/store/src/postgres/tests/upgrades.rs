//! Upgrades. `fixtures/` holds a database of every schema that was ever released, with rows in it, as the version of its
//! time left it; each has to open with what it held, also when the connection is lost in the midst of a migration.
//!
//! A new migration needs a new fixture: `cargo test -p postrider-store postgres::tests::upgrades::keeps_a_fixture --
//! --ignored` writes it with `pg_dump`, once, before the release. Those of the first two schemas were made later, from their
//! migrations and from rows that they could hold.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{TestDatabase, client_of, open_here};
use crate::{
    conformance::upgrades,
    history::Change,
    postgres::{
        PostgresStore,
        migrate::{MIGRATIONS, Migration, check_history, migrate},
        testing::connect,
    },
};

fn fixture(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/tests/fixtures");
    PathBuf::from(fixtures).join(name).with_extension("sql")
}

/// A database that holds what a fixture does.
async fn copy_of(migration: &Migration) -> TestDatabase {
    let kept = fixture(migration.name);
    let statements = std::fs::read_to_string(&kept).unwrap_or_else(|error| {
        panic!("{}: {error}; the head of this file says how it is made", kept.display())
    });
    let database = TestDatabase::create().await;
    database.run(&statements).await;
    database
}

/// Fills a new database, and keeps it.
#[tokio::test]
#[ignore = "writes the fixture of the newest schema, where there is none"]
async fn keeps_a_fixture() {
    let newest = fixture(MIGRATIONS.last().unwrap().name);
    assert!(!newest.exists(), "a fixture never changes");
    let (store, database) = open_here().await;
    upgrades::fill(Arc::new(store)).await;
    let dump = Command::new("pg_dump")
        .args(["--column-inserts", "--no-owner", "--no-privileges", "--no-comments"])
        .arg(database.url())
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let dump = String::from_utf8(dump.stdout).unwrap();
    // Lines with a backslash are for `psql`, those with two hyphens for readers of a longer file.
    let is_statement =
        |line: &&str| !line.is_empty() && !line.starts_with('\\') && !line.starts_with("--");
    let lines: Vec<_> = dump.lines().filter(is_statement).collect();
    std::fs::write(newest, lines.join("\n") + "\n").unwrap();
}

async fn holds_everything(database: &TestDatabase) {
    upgrades::holds_everything(&PostgresStore::open(&database.url()).await.unwrap()).await;
}

#[tokio::test]
async fn a_database_of_every_past_version_opens_with_what_it_held() {
    for (place, migration) in MIGRATIONS.iter().enumerate() {
        let database = copy_of(migration).await;
        let client = client_of(&database).await;
        let standing = check_history(&client, MIGRATIONS).await.unwrap();
        assert_eq!(standing.taken, place + 1, "{}", migration.name);
        holds_everything(&database).await;
    }
}

/// A migration that has written, and never ends.
const ENDLESS: Migration = Migration {
    name: "endless",
    change: Change::Expands,
    sql: "CREATE TABLE growing (n BIGINT, filling TEXT);
          DELETE FROM delivery;
          INSERT INTO growing SELECT n, repeat('x', 1000) FROM generate_series(1, 1000) AS n;
          SELECT pg_sleep(3600);",
};

/// Ends the session that sleeps in this database, once there is one.
async fn end_the_sleeper(database: &TestDatabase) {
    const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let client = connect(&database.url()).await;
    while client.query(END, &[]).await.unwrap().is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_migration_that_is_killed_midway_has_never_been() {
    for (place, migration) in MIGRATIONS.iter().enumerate() {
        let database = copy_of(migration).await;
        let steps = [&MIGRATIONS[..=place], &[ENDLESS]].concat();
        let mut client = client_of(&database).await;
        let (migrated, ()) = tokio::join!(migrate(&mut client, &steps), end_the_sleeper(&database));
        migrated.expect_err("it was killed");
        let left = "SELECT count(*) FROM pg_class WHERE relname = 'growing'";
        assert_eq!(database.number(left).await, 0, "{}", migration.name);
        holds_everything(&database).await;
    }
}
