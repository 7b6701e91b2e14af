//! How a statement is run and its rows are read: the few shapes that every verb here is made of.
//!
//! Each statement is prepared once per connection and kept. What SQLite answers becomes a [`StoreError`] here, and
//! nowhere else.

use postrider_kernel::Timestamp;
use rusqlite::{Connection, Error, ErrorCode, Params, Row, ffi};

use crate::{Result, StoreError};

/// The text of the statement in `sql/`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sqlite/sql/", $name, ".sql"))
    };
}
pub(super) use sql;

/// Runs a statement; answers how many rows it changed. The statements of the hot path take their parameters by number:
/// finding one by its name costs more than binding it.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<usize> {
    Ok(connection.prepare_cached(sql)?.execute(parameters)?)
}

/// Runs a statement, and reads the one row that it answers, if it does.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let answer = rows.next()?.map(read).transpose()?;
    // A statement that changes rows has done so when it is stepped to its end, and no sooner.
    while rows.next()?.is_some() {}
    Ok(answer)
}

/// Runs a statement, and reads every row that it answers.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    all_while(connection, sql, parameters, |row| read(row).map(Some))
}

/// The rows of a statement up to the first that `read` doesn't want.
pub(super) fn all_while<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut answers = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row)? {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    Ok(answers)
}

/// Whether a statement answers any row.
pub(super) fn any(connection: &Connection, sql: &str, parameters: impl Params) -> Result<bool> {
    Ok(connection.prepare_cached(sql)?.exists(parameters)?)
}

/// The number in the first column, for [`first`] and [`all`].
pub(super) fn number(row: &Row<'_>) -> Result<i64> {
    Ok(row.get(0)?)
}

/// The time in a column.
pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

/// The time in a column, if there is one.
pub(super) fn optional_time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

/// A number that SQLite keeps as `i64` and we as something narrower.
pub(super) fn narrow<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> Result<T> {
    let wide: i64 = row.get(column)?;
    T::try_from(wide).map_err(|_| corrupt(column, wide))
}

/// What stands in a column, no verb could have written.
pub(super) fn corrupt(column: &str, value: impl std::fmt::Display) -> StoreError {
    StoreError::Inconsistent(format!("column {column} holds {value}"))
}

/// Errors after which nobody knows what is on the disk: a sync failed. The system may have dropped what it could not write, and
/// let the next sync of the same file succeed. A write that failed, or a disk that is full, is not of this kind: what SQLite
/// then has of the transaction it takes back, and what was synced before is where it was.
const BROKEN: [i32; 2] = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];

/// Sorts what another try may mend (the disk, the lock, the memory) from what it won't, and from what only a restart may.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        if error.sqlite_error().is_some_and(|cause| BROKEN.contains(&cause.extended_code)) {
            return Self::Broken(format!("a sync failed: {error}"));
        }
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Inconsistent(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_failed_breaks_the_store_and_a_full_disk_does_not() {
        let error = |code| StoreError::from(Error::SqliteFailure(ffi::Error::new(code), None));
        for code in BROKEN {
            assert!(matches!(error(code), StoreError::Broken(_)), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_READ] {
            assert!(matches!(error(code), StoreError::Unavailable(_)), "{code}");
        }
    }
}
