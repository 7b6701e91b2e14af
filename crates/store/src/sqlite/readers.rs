//! The connections that read: a few, since SQLite's readers neither wait for the writer nor make it wait.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::connect;
use crate::{Result, StoreError};

/// How many read at once; more would only wait for the same disk, and each keeps a cache.
const READERS: usize = 4;

/// A pool of reading connections.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    permits: Arc<Semaphore>,
    /// Never fewer than there are permits.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let idle = (0..READERS).map(|_| connect::reading(path)).collect::<Result<_>>()?;
        Ok(Self(Arc::new(Pool {
            permits: Arc::new(Semaphore::new(READERS)),
            idle: Mutex::new(idle),
        })))
    }

    /// Reads on a thread that may block, in one transaction: all statements of `work` see the same state.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let pool = self.0.clone();
        let closed = |error| StoreError::Unavailable(format!("the readers are closed: {error}"));
        let permit = pool.permits.clone().acquire_owned().await.map_err(closed)?;
        let read = move || {
            let answer = pool.lend(work);
            // A caller may have stopped waiting long ago: the permit goes back after the connection, not with the caller.
            drop(permit);
            answer
        };
        let panicked = |error| StoreError::Inconsistent(format!("a read was cut short: {error}"));
        spawn_blocking(read).await.map_err(panicked)?
    }
}

impl Pool {
    fn lend<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let none = || StoreError::Inconsistent("a permit without a connection".into());
        let connection = self.idle().pop().ok_or_else(none)?;
        let lent = Lent { pool: self, connection: Some(connection) };
        let connection = lent.connection.as_ref().ok_or_else(none)?;
        let transaction = connection.unchecked_transaction()?;
        let answer = work(&transaction)?;
        transaction.commit()?;
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole between any two of its operations.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that comes back to its pool, even from a panic.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.connection.take());
    }
}
