//! What the suite that all stores share can't ask: files, statements, plans, full disks, second processes.

mod faults;
mod files;
mod statements;
mod upgrades;

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::{SqliteStore, connect::Durability};
use crate::Store;

/// Where a test keeps its database.
fn database(directory: &TempDir) -> PathBuf {
    directory.path().join("test.db")
}

/// A store in a directory that goes with the test.
fn open_here() -> (SqliteStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open_with(&database(&directory), Durability::None).unwrap();
    (store, directory)
}

pub(crate) async fn open() -> (Arc<dyn Store>, TempDir) {
    let (store, directory) = open_here();
    (Arc::new(store), directory)
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
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_answer_is_the_models(commands in commands()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (store, _directory) = super::open().await;
                compare(World::new(Arc::new(MemoryStore::new())), World::new(store), &commands).await;
            });
        }
    }
}
