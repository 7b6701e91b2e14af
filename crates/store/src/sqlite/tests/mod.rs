//! What the suite that all stores share can't ask: files, statements, plans, full disks, second processes.

use std::sync::Arc;

use tempfile::TempDir;

use super::{SqliteStore, connect::Durability};
use crate::Store;

/// A store in a directory that goes with the test.
fn open_here() -> (SqliteStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open_with(&directory.path().join("test.db"), Durability::None);
    (store.unwrap(), directory)
}

async fn open() -> (Arc<dyn Store>, TempDir) {
    let (store, directory) = open_here();
    (Arc::new(store), directory)
}

mod conformance {
    use super::open;

    crate::conformance!(open);
}
