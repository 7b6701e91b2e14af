//! How a connection is opened, and the settings that the promises rest on.

use std::{fs::OpenOptions, io::ErrorKind, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::query::first;
use crate::{Result, StoreError};

/// How long to wait for another process, the command line, to finish its transaction.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// More than there are statements, so that none is prepared twice.
pub(super) const STATEMENTS_MAX: usize = 128;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The disk.
    Disk,
    /// Nothing: for tests, which don't pull the plug.
    #[cfg(test)]
    None,
}

/// Settings of the connection that writes.
///
/// `FULL`: a commit is on disk before it is answered. No memory map: an IO error in one is a signal that ends the
/// process, where a read that fails is an answer. A checkpoint every 16 MiB of log costs few waits for the disk, and the
/// log that a burst left behind is cut to 64 MiB. What is deleted is overwritten where that costs no extra write: wiped
/// secrets should not linger in free space. The caches are small, the system's own serves behind them.
const WRITER: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -4096;
    PRAGMA wal_autocheckpoint = 4096;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA secure_delete = FAST;
";

const READER: &str = "
    PRAGMA query_only = ON;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -1024;
";

/// Opens the connection that writes, in WAL mode, making the file where there is none.
pub(super) fn writing(path: &Path, durability: Durability) -> Result<Connection> {
    create_private(path)?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    enter_wal(&connection)?;
    connection.execute_batch(WRITER)?;
    if durability != Durability::Disk {
        connection.execute_batch("PRAGMA synchronous = OFF")?;
    }
    Ok(connection)
}

/// Puts what a dead process left in the log into the file, and syncs that. The log may hold what the system could not write:
/// it is read from memory still, and, where it was followed by more, would be a hole in the log after a power loss.
pub(super) fn settle_log(connection: &Connection) -> Result<()> {
    first(connection, "PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

/// Opens a new file that is of no use until it is complete: nothing of it has to outlast a crash.
pub(super) fn making(path: &Path) -> Result<Connection> {
    create_private(path)?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    Ok(connection)
}

/// Opens a connection that reads.
pub(super) fn reading(path: &Path) -> Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch(READER)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection> {
    // Each connection is used by one thread at a time, so SQLite needs no mutex of its own.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Makes the file so that its owner alone can read it; SQLite gives the log beside it the same mode.
///
/// A file that exists is not opened, not even for a moment: closing it would drop the locks that this process's other
/// connections hold on it.
pub(super) fn create_private(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            Err(StoreError::Unavailable(format!("{} cannot be made: {error}", path.display())))
        }
    }
}

/// Puts the file into WAL mode. SQLite does not wait for its lock here, so where another process is opening the same new
/// file, a transaction waits in its stead.
fn enter_wal(connection: &Connection) -> Result<()> {
    const TRIES: u32 = 100;
    for _ in 1..TRIES {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
            }
            done => return Ok(done?),
        }
    }
    Ok(connection.pragma_update(None, "journal_mode", "WAL")?)
}
