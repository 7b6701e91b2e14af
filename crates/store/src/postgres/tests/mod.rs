//! What the suite that all stores share can't ask: several nodes, leases that run out, statements and their plans, TLS.

use std::sync::Arc;

use super::{PostgresStore, testing::TestDatabase};
use crate::Store;

/// A store on a database that goes with the test.
async fn open_here() -> (PostgresStore, TestDatabase) {
    let database = TestDatabase::create().await;
    (PostgresStore::open(&database.url()).await.unwrap(), database)
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
        #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() })]

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
