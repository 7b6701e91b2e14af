//! The schema and its history.

use super::{TestDatabase, open_here};
use crate::{
    Result, Store, StoreError,
    postgres::{
        PostgresStore,
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

fn check_refused(opened: Result<PostgresStore>, says: &str) {
    match opened.map(drop) {
        Err(StoreError::Inconsistent(text)) => assert!(text.contains(says), "{text}"),
        other => panic!("{other:?} does not say {says}"),
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let change = "UPDATE schema_migration SET checksum = '\\x00' WHERE number = 1";
    let says = "0001_what_is_promised in the database is not the one";
    check_refused(changed_by_hand(change).await, says);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let insert = "INSERT INTO schema_migration VALUES (9999, '9999_later', '\\x00')";
    let says = "Start the newer version, or restore the backup";
    check_refused(changed_by_hand(insert).await, says);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_schema_as_it_was() {
    let (store, _database) = open_here().await;
    let mut client = store.client().await.unwrap();
    let first = || Migration { name: MIGRATIONS[0].name, sql: MIGRATIONS[0].sql };
    let sql = "CREATE TABLE half (id BIGINT); CREATE TABLE meta (id BIGINT)";
    let history = [first(), Migration { name: "0002_half", sql }];
    assert!(migrate(&mut client, &history).await.is_err());
    assert_eq!(check_history(&client, &history).await.unwrap(), 1);
    assert!(
        client.batch_execute("SELECT * FROM half").await.is_err(),
        "its first half is gone too"
    );
    let history =
        [first(), Migration { name: "0002_whole", sql: "CREATE TABLE whole (id BIGINT)" }];
    migrate(&mut client, &history).await.unwrap();
    assert_eq!(check_history(&client, &history).await.unwrap(), 2);
}
