//! What the suite that all stores share can't ask: several nodes, leases that run out, statements and their plans, TLS.

mod archive;
mod connections;
mod directory;
mod faults;
mod nodes;
mod schema;
mod statements;
mod upgrades;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::Client;
use tokio::time::{sleep, timeout};

use super::{
    PostgresStore,
    connect::Address,
    testing::{TestDatabase, connect},
};
use crate::{News, Store};

/// A store on a database that goes with the test.
async fn open_here() -> (PostgresStore, TestDatabase) {
    let database = TestDatabase::create().await;
    (PostgresStore::open(&database.url()).await.unwrap(), database)
}

/// A connection as a store has them.
async fn client_of(database: &TestDatabase) -> Client {
    Address::parse(&database.url()).unwrap().pool(1).unwrap().get().await.unwrap()
}

/// Two nodes on one database.
async fn open_two() -> (Arc<dyn Store>, Arc<dyn Store>, TestDatabase) {
    let (one, database) = open_here().await;
    let other = PostgresStore::open(&database.url()).await.unwrap();
    (Arc::new(one), Arc::new(other), database)
}

/// The next news, which are on their way.
async fn news(store: &Arc<dyn Store>) -> News {
    timeout(Duration::from_secs(60), store.next_news()).await.expect("there are news")
}

/// Waits until somebody in this database waits for a lock that somebody else has.
async fn until_somebody_waits(database: &TestDatabase) {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let client = connect(&database.url()).await;
    for _ in 0..6000 {
        if client.query_one(WAITING, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits");
}

pub(crate) async fn open() -> (Arc<dyn Store>, TestDatabase) {
    let (store, database) = open_here().await;
    (Arc::new(store), database)
}

mod conformance {
    use super::open;

    crate::conformance!(open);
}

mod random {
    use std::sync::Arc;

    use proptest::prelude::*;

    use crate::{
        conformance::{
            World,
            random::{commands, compare},
        },
        memory::MemoryStore,
    };

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_answer_is_the_models(commands in commands()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (store, _database) = super::open().await;
                compare(World::new(Arc::new(MemoryStore::new())), World::new(store), &commands).await;
            });
        }
    }
}
