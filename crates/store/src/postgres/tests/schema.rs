//! The schema and its history.

use std::sync::Arc;

use super::{TestDatabase, client_of, open_here};
use crate::{
    Lease, Result, Store, StoreError,
    conformance::World,
    history::Change,
    postgres::{
        Migrated, PostgresStore,
        migrate::{MIGRATIONS, Migration, check_history, migrate},
    },
};

#[tokio::test]
async fn ten_nodes_started_at_once_make_one_schema() {
    let database = TestDatabase::create().await;
    let open = |_| {
        let url = database.url();
        async move { PostgresStore::open(&url).await }
    };
    let nodes: Vec<_> = (0..10).map(open).map(tokio::spawn).collect();
    for node in nodes {
        node.await.unwrap().unwrap().check_health().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_promised_is_there_after_a_restart() {
    let (store, database) = open_here().await;
    let world = crate::conformance::World::new(std::sync::Arc::new(store));
    let tenant = world.tenant("default").await;
    drop(world);
    let store = PostgresStore::open(&database.url()).await.unwrap();
    assert_eq!(store.tenants().await.unwrap()[0].id, tenant);
}

async fn changed_by_hand(statement: &str) -> Result<PostgresStore> {
    let (store, database) = open_here().await;
    drop(store);
    database.run(statement).await;
    PostgresStore::open(&database.url()).await
}

fn check_refused(opened: Result<()>, says: &str) {
    match opened {
        Err(StoreError::Inconsistent(text)) => assert!(text.contains(says), "{text}"),
        other => panic!("{other:?} does not say {says}"),
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let change = "UPDATE schema_migration SET checksum = '\\x00' WHERE number = 1";
    let says = "0001_what_is_promised in the database is not the one";
    check_refused(changed_by_hand(change).await.map(drop), says);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let insert = "INSERT INTO schema_migration VALUES (9999, '9999_later', '\\x00')";
    let says = "Start the newer version, or restore the backup";
    check_refused(changed_by_hand(insert).await.map(drop), says);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_schema_as_it_was() {
    let (store, _database) = open_here().await;
    let mut client = store.client().await.unwrap();
    let step = |name, sql| Migration { name, sql, change: Change::Expands };
    let half = step("half", "CREATE TABLE half (id BIGINT); CREATE TABLE meta (id BIGINT)");
    let history = [MIGRATIONS, &[half]].concat();
    assert!(migrate(&mut client, &history).await.is_err());
    assert_eq!(check_history(&client, &history).await.unwrap().missing, 1);
    assert!(
        client.batch_execute("SELECT * FROM half").await.is_err(),
        "its first half is gone too"
    );
    let history = [MIGRATIONS, &[step("whole", "CREATE TABLE whole (id BIGINT)")]].concat();
    migrate(&mut client, &history).await.unwrap();
    assert_eq!(check_history(&client, &history).await.unwrap().missing, 0);
}

/// Two steps of tomorrow: one adds a column, one takes a column away that today's version uses.
const TOMORROW: [Migration; 2] = [
    Migration {
        name: "9998_more",
        sql: "ALTER TABLE event ADD COLUMN note TEXT",
        change: Change::Expands,
    },
    Migration {
        name: "9999_less",
        sql: "ALTER TABLE event DROP COLUMN created",
        change: Change::Contracts,
    },
];

#[tokio::test]
async fn an_older_node_works_on_and_starts_again_until_something_is_taken_away() {
    let (store, database) = open_here().await;
    let older = Arc::new(store);
    let lease = older.begin_life().await.unwrap();
    let mut client = older.client().await.unwrap();
    let tomorrow = [MIGRATIONS, &TOMORROW].concat();
    let Migrated { taken, waiting } = migrate(&mut client, &tomorrow).await.unwrap();
    assert_eq!((taken, waiting), (vec!["9998_more"], 1), "what takes away waits");

    older.check_health().await.unwrap();
    let world = World::new(older.clone());
    let tenant = world.tenant("default").await;
    let endpoint = world.endpoint(tenant).await;
    world.publish(tenant, &[endpoint], 1).await;
    let again = PostgresStore::open(&database.url()).await.unwrap();
    let second = again.begin_life().await.unwrap();

    older.end_life(lease).await.unwrap();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().waiting, 1, "one of two lives");
    again.end_life(second).await.unwrap();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().taken, ["9999_less"]);
    let says = "newer Postrider: it has migration 9999_less";
    check_refused(again.begin_life().await.map(drop), says);
    check_refused(again.check_health().await, says);
    check_refused(PostgresStore::open(&database.url()).await.map(drop), says);
}

#[tokio::test]
async fn what_dead_nodes_would_miss_is_taken_away() {
    let (store, _database) = open_here().await;
    let Lease(dead) = store.begin_life().await.unwrap();
    let mut client = store.client().await.unwrap();
    let expire = "UPDATE node SET lease_until = now(), signs_until = now() WHERE id = $1";
    client.execute(expire, &[&dead]).await.unwrap();
    let tomorrow = [MIGRATIONS, &TOMORROW].concat();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().waiting, 0);
}

#[tokio::test]
async fn a_version_that_needs_more_than_older_nodes_bear_says_so() {
    let (store, _database) = open_here().await;
    store.begin_life().await.unwrap();
    let mut client = store.client().await.unwrap();
    let [more, less] = TOMORROW;
    let tomorrow = [MIGRATIONS, &[less, more]].concat();
    let refused = migrate(&mut client, &tomorrow).await.map(drop);
    check_refused(refused, "migration 9998_more is needed");
}

/// A database as the first version left it, with one of its nodes alive.
#[tokio::test]
async fn a_node_of_the_first_version_is_older_than_all_that_followed() {
    let database = TestDatabase::create().await;
    let mut client = client_of(&database).await;
    migrate(&mut client, &MIGRATIONS[..1]).await.unwrap();
    client.batch_execute("ALTER TABLE schema_migration DROP COLUMN expands").await.unwrap();
    let alive = "INSERT INTO node (id, lease_until, signs_until, applied_version)
        VALUES (nextval('life_ids'), clock_timestamp() + interval '1 hour', clock_timestamp(), 0)";
    client.batch_execute(alive).await.unwrap();
    let first =
        || [&MIGRATIONS[..1], &[Migration { change: Change::Contracts, ..TOMORROW[1] }]].concat();
    assert_eq!(migrate(&mut client, &first()).await.unwrap().waiting, 1, "before it could tell");
    let store = PostgresStore::open(&database.url()).await.unwrap();
    store.begin_life().await.unwrap();
    let tomorrow = [MIGRATIONS, &TOMORROW].concat();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().waiting, 1);
    client.batch_execute("DELETE FROM node WHERE knows_migrations > 1").await.unwrap();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().waiting, 1, "the first one lives");
    client.batch_execute("DELETE FROM node").await.unwrap();
    assert_eq!(migrate(&mut client, &tomorrow).await.unwrap().waiting, 0);
}
